//! How fast requests may follow each other: a token bucket without a task or a clock of its own.

use std::time::{Duration, Instant};

/// A bucket that fills with `per_second` tokens up to `burst`; each request takes one.
///
/// Kept as one instant, at which the request after the last one would have been sent had all kept an even pace. This is the generic cell rate algorithm
/// (ITU-T I.371, its virtual scheduling form), which lets through just what a bucket of `burst` tokens does.
#[derive(Debug, Clone)]
pub(crate) struct RateLimit {
    /// Time between two requests at an even pace.
    interval: Duration,
    /// How far requests may be ahead of the even pace: a burst, without its last request.
    ahead: Duration,
    /// When the next request is due at an even pace; `None` before the first one.
    due: Option<Instant>,
}

impl RateLimit {
    /// `burst` requests may go at once after a pause, at least one. A rate that is not above zero, or not a number, is no limit, and neither is one of more
    /// than a request per nanosecond. The slowest rate is a request in a year.
    pub(crate) fn new(per_second: f64, burst: u32) -> RateLimit {
        const YEAR: Duration = Duration::from_hours(365 * 24);
        let seconds = if per_second > 0.0 { 1.0 / per_second } else { 0.0 };
        let interval = Duration::try_from_secs_f64(seconds).unwrap_or(YEAR).min(YEAR);
        RateLimit { interval, ahead: interval.saturating_mul(burst.saturating_sub(1)), due: None }
    }

    /// Takes a token that is there or will be, and says how long the caller has to wait before it may send. Those who reserve later wait longer; a
    /// reservation cannot be given back.
    ///
    /// `now` may be earlier than in the call before, as happens between threads.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        let due = self.due.map_or(now, |due| due.max(now));
        // Beyond the clock's range nobody waits to the end anyway.
        self.due = Some(due.checked_add(self.interval).unwrap_or(due));
        due.saturating_duration_since(now).saturating_sub(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// How long each of the requests at these times waits, milliseconds.
    fn waits(per_second: f64, burst: u32, times: &[u64]) -> Vec<u64> {
        let begin = Instant::now();
        let mut limit = RateLimit::new(per_second, burst);
        times.iter().map(|time| limit.reserve(begin + milliseconds(*time)).as_millis() as u64).collect()
    }

    #[test]
    fn reservations_queue_at_an_even_pace() {
        assert_eq!(waits(2.0, 1, &[0, 0, 0, 0]), [0, 500, 1000, 1500]);
        assert_eq!(waits(2.0, 1, &[0, 100, 200, 2000, 2100]), [0, 400, 800, 0, 400]);
        assert_eq!(waits(0.1, 1, &[0, 1000]), [0, 9000]);
    }

    #[test]
    fn a_burst_goes_at_once_and_comes_back_with_time() {
        assert_eq!(waits(10.0, 3, &[0, 0, 0, 0, 0]), [0, 0, 0, 100, 200]);
        assert_eq!(
            waits(10.0, 3, &[0, 0, 0, 100, 100, 250, 10_000, 10_000, 10_000, 10_000]),
            [0, 0, 0, 0, 100, 50, 0, 0, 0, 100]
        );
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_other_oddities_do_no_harm() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(waits(rate, 1, &[0, 0, 0]), [0, 0, 0], "{rate}");
        }
        assert_eq!(waits(1.0, 0, &[0, 0]), [0, 1000], "a burst of none would never send");
        let mut slow = RateLimit::new(f64::MIN_POSITIVE, u32::MAX);
        for _ in 0..1000 {
            slow.reserve(Instant::now());
        }
        let begin = Instant::now();
        let mut limit = RateLimit::new(1.0, 1);
        limit.reserve(begin + milliseconds(500));
        assert_eq!(limit.reserve(begin), milliseconds(1500), "an earlier instant waits until the same moment");
    }

    proptest! {
        /// A bucket as it is drawn in textbooks, in whole milliseconds.
        #[test]
        fn equals_a_bucket_of_tokens(interval in 1_u32..50, burst in 1_u32..6, steps in prop::collection::vec(0_u64..120, 1..40)) {
            let begin = Instant::now();
            let interval_ms = f64::from(interval);
            let mut limit = RateLimit { interval: milliseconds(interval.into()), ahead: milliseconds((interval * (burst - 1)).into()), due: None };
            let (mut time, mut tokens) = (0, f64::from(burst));
            for step in steps {
                time += step;
                tokens = (tokens + step as f64 / interval_ms).min(f64::from(burst)) - 1.0; // below zero: that many wait
                let expected = (-tokens).max(0.0) * interval_ms;
                let wait = limit.reserve(begin + milliseconds(time)).as_secs_f64() * 1000.0;
                prop_assert!((wait - expected).abs() < 1e-6, "{wait} {expected}");
            }
        }
    }
}
