//! A bound on the bytes of all bodies that are held at once.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// What is counted: a semaphore counts in 32 bits, and a byte more or less does not matter.
const UNIT: u64 = 1024;

/// The least that a growing body takes at a time, bytes.
pub(crate) const STEP: u64 = 64 * UNIT;

/// Bytes that bodies may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    /// Of the whole budget.
    total: u32,
    /// Held by the one body that may go beyond the budget.
    beyond: Arc<Mutex<()>>,
}

/// The share of one body, given back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share {
    units: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedMutexGuard<()>>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let total = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Budget { units: Arc::new(Semaphore::new(total as usize)), total, beyond: Arc::default() }
    }

    /// Waits for room for a body of `bytes`; for the whole budget if it is larger than that.
    pub(crate) async fn take(&self, bytes: u64) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.total);
        let units = self.units.clone().acquire_many_owned(units).await.expect("the semaphore is never closed");
        Share { units: Some(units), beyond: None }
    }

    /// Waits for room for a body that has grown beyond what was taken for it.
    ///
    /// Bodies that wait for more hold what they have, so they could all wait for each other. Therefore one of them at a time may go beyond the
    /// budget, by at most the cap of a single body. If that one is slow, the others still get what is given back meanwhile.
    pub(crate) async fn grow(&self, share: &mut Share, bytes: u64) {
        let held = share.units.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u64 * UNIT;
        if bytes <= held || share.beyond.is_some() {
            return;
        }
        // As much as is there already, so that a growing body asks rarely.
        let more = (bytes - held).max(held).max(STEP).div_ceil(UNIT).min(u64::from(self.total)) as u32;
        tokio::select! {
            biased;
            more = self.units.clone().acquire_many_owned(more) => {
                let more = more.expect("the semaphore is never closed");
                match &mut share.units {
                    Some(units) => units.merge(more),
                    none => *none = Some(more),
                }
            }
            beyond = self.beyond.clone().lock_owned() => share.beyond = Some(beyond),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bodies_wait_for_room_and_one_at_a_time_may_go_beyond() {
        let budget = Budget::new(1_000 * UNIT);
        let first = budget.take(600 * UNIT).await;
        assert!(budget.take(600 * UNIT).now_or_never().is_none(), "there is room for 400 more");
        let mut second = budget.take(300 * UNIT).await;
        let mut third = Share::default();
        budget.grow(&mut second, 300 * UNIT).now_or_never().expect("has that much already");
        budget.grow(&mut second, 301 * UNIT).now_or_never().expect("the first to go beyond");
        budget.grow(&mut second, 900 * UNIT).now_or_never().expect("it is beyond already");
        assert!(budget.grow(&mut third, UNIT * 200).now_or_never().is_none(), "one at a time");
        drop(first);
        budget.grow(&mut third, UNIT * 200).now_or_never().expect("there is room again");
        drop(second);
        drop(third);
        budget.take(5_000 * UNIT).now_or_never().expect("larger than the budget: all of it");
        budget.take(1_000 * UNIT).now_or_never().expect("all has been given back");
    }
}
