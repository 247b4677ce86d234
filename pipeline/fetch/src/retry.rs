//! When to try a URL again.

use std::time::Duration;

/// Wait before the second attempt, before jitter.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Longest wait before an attempt: more would eat the deadline of an ordinary URL.
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// How long to wait after `attempt` (from 1) at `url` has failed: doubled with every attempt, of which a part between one half and all is taken.
///
/// The part is drawn from a hash of the URL and the attempt, so that the rows of one host spread out without a random generator. It is the "equal
/// jitter" of <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
pub(crate) fn delay(url: &str, attempt: u32) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY);
    let digest = blake3::Hasher::new().update(&attempt.to_le_bytes()).update(url.as_bytes()).finalize();
    let draw = u32::from_le_bytes(digest.as_bytes()[..4].try_into().expect("a digest has 32 bytes"));
    doubled.mul_f64(0.5 + 0.5 * f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit() {
        for (attempt, full) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000), (6, 8000), (21, 8000)] {
            let delay = delay("http://example.org/a.jpg", attempt);
            let full = Duration::from_millis(full);
            assert!(full / 2 <= delay && delay <= full, "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn urls_of_one_host_spread_out() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|i| delay(&format!("http://example.org/{i}.jpg"), 1).as_millis()).collect();
        assert!(delays.len() > 50, "{} different delays", delays.len());
    }
}
