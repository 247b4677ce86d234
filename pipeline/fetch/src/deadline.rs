//! The time budget of a row.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// A clock that runs only while the row uses the network. It stops while the row waits for our own
/// limits, such as permits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    total: Duration,
    left: Duration,
}

/// The deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed;

impl Deadline {
    pub(crate) fn new(total: Duration) -> Deadline {
        Deadline { total, left: total }
    }

    /// Returns the time that the row had at the beginning.
    pub(crate) fn total(self) -> Duration {
        self.total
    }

    pub(crate) fn left(self) -> Duration {
        self.left
    }

    /// Returns the time that has been used.
    pub(crate) fn spent(self) -> Duration {
        self.total.saturating_sub(self.left)
    }

    /// Reduces the time that is left.
    pub(crate) fn spend(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Runs `work` until it is done or no time is left. The clock runs meanwhile.
    pub(crate) async fn run<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Passed> {
        let begin = Instant::now();
        let result = timeout(self.left, work).await;
        self.spend(begin.elapsed());
        result.map_err(|_elapsed| Passed)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn the_clock_stands_still_between_pieces_of_work() {
        let hour = Duration::from_hours(1);
        let mut deadline = Deadline::new(hour);
        assert_eq!(deadline.run(async { 7 }).await, Ok(7));
        assert!(deadline.spent() < hour && deadline.left() <= hour);
        let spent = deadline.spent();
        tokio::task::yield_now().await;
        assert_eq!(deadline.spent(), spent);
        assert_eq!(deadline.run(sleep(Duration::from_millis(5))).await, Ok(()));
        assert!(deadline.spent() >= spent + Duration::from_millis(5));

        deadline.spend(deadline.left().saturating_sub(Duration::from_millis(5)));
        let begin = Instant::now();
        assert_eq!(deadline.run(pending::<()>()).await, Err(Passed));
        assert!(begin.elapsed() >= Duration::from_millis(5));
        assert_eq!((deadline.left(), deadline.spent()), (Duration::ZERO, deadline.total()));
        deadline.spend(hour);
        assert_eq!(deadline.left(), Duration::ZERO);
    }
}
