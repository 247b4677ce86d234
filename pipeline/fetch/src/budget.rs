//! A limit on the bytes that are held at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit of the semaphore. It counts in 32 bits, and exact bytes do not matter.
const UNIT: u64 = 1024;

/// Bytes that may be held together.
#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    /// Total number of units.
    total: u32,
}

/// The share of one holder. It is released when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let total = units_of(bytes);
        Budget { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until there is room for `bytes` bytes, and takes it. A share is never more than half
    /// of the budget, even if `bytes` is. Otherwise a large request would wait for all others to
    /// end, and all later requests would wait too. The caller must hold no other share, because
    /// holders that wait could deadlock.
    pub(crate) async fn take(&self, bytes: u64) -> Share {
        let units = units_of(bytes).min(self.total.div_ceil(2));
        Share(Some(self.units.clone().acquire_many_owned(units).await.expect("the semaphore is never closed")))
    }

    /// Grows a share to `bytes` bytes if there is room for which no request waits. Returns whether
    /// it did.
    pub(crate) fn try_grow(&self, share: &mut Share, bytes: u64) -> bool {
        let held = share.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = units_of(bytes).saturating_sub(held as u32);
        let Ok(more) = self.units.clone().try_acquire_many_owned(more) else { return false };
        match &mut share.0 {
            Some(units) => units.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

fn units_of(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn shares_are_waited_for_and_grow_only_where_there_is_room() {
        let budget = Budget::new(1_000 * UNIT);
        let first = budget.take(450 * UNIT).await;
        let other = budget.take(150 * UNIT).await;
        assert!(budget.take(450 * UNIT).now_or_never().is_none(), "there is room for 400 more");
        let mut second = budget.take(300 * UNIT).await;
        assert!(budget.try_grow(&mut second, 300 * UNIT) && budget.try_grow(&mut second, 400 * UNIT));
        assert!(!budget.try_grow(&mut second, 401 * UNIT));
        drop((first, other));
        assert!(budget.try_grow(&mut second, 1_000 * UNIT));
        assert!(!budget.try_grow(&mut second, 1_001 * UNIT));
        drop(second);
        let large = budget.take(5_000 * UNIT).now_or_never().expect("half of the budget");
        budget.take(500 * UNIT).now_or_never().expect("the other half");
        drop(large);
        assert!(budget.try_grow(&mut Share::default(), 1_000 * UNIT), "all has been given back");
    }
}
