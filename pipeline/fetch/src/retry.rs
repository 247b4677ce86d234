//! The wait before a URL is tried again.

use std::time::{Duration, SystemTime};

/// Wait before the second attempt, before jitter.
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Maximum wait before an attempt, so that the waits do not use up the default deadline.
const LONGEST_DELAY: Duration = Duration::from_secs(8);

/// Returns the wait after `attempt` (from 1) at `url` has failed: the back-off, or the wait that
/// the server `asked` for if that is longer.
pub(crate) fn delay(url: &str, attempt: u32, asked: Option<Duration>) -> Duration {
    back_off(url, attempt).max(asked.unwrap_or_default())
}

/// Returns the exponential back-off with equal jitter: 50 to 100 % of a wait that doubles with
/// every attempt (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
///
/// The jitter comes from a hash of the URL and the attempt, so that the rows of one host spread out
/// without a random generator.
fn back_off(url: &str, attempt: u32) -> Duration {
    let doubled = FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY);
    let digest = blake3::Hasher::new().update(&attempt.to_le_bytes()).update(url.as_bytes()).finalize();
    let draw = u32::from_le_bytes(digest.as_bytes()[..4].try_into().expect("a digest has 32 bytes"));
    doubled.mul_f64(0.5 + 0.5 * f64::from(draw) / f64::from(u32::MAX))
}

/// Returns the wait that a `Retry-After` header asks for, given in seconds or as a date; `None` if
/// it is neither. All three date formats of RFC 9110, section 5.6.7, are accepted.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit in 64 bits means forever.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    // A date in the past asks for no wait.
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_ask_for_seconds_or_a_date() {
        // 784111777 is the date of the example in RFC 9110, by `date -d` of GNU coreutils, as are
        // the others.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (header, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600 - 784_111_777)),
            ("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800 - 784_111_777)),
            ("Thu, 31 Dec 2026 23:59:59 GMT", Some(1_798_761_599 - 784_111_777)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun Nov  6 08:50:07 1994", Some(30)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
            ("Sun, 06 Foo 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
        ] {
            assert_eq!(retry_after(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn what_the_server_asks_for_is_the_least_wait() {
        let own = delay("http://example.org/a.jpg", 1, None);
        assert_eq!(delay("http://example.org/a.jpg", 1, Some(Duration::ZERO)), own);
        let asked = Duration::from_secs(77);
        assert_eq!(delay("http://example.org/a.jpg", 1, Some(asked)), asked);
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        for (attempt, full) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 8000), (6, 8000), (21, 8000)] {
            let delay = delay("http://example.org/a.jpg", attempt, None);
            let full = Duration::from_millis(full);
            assert!(full / 2 <= delay && delay <= full, "{attempt}: {delay:?}");
        }
    }

    #[test]
    fn urls_of_one_host_spread_out() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|i| delay(&format!("http://example.org/{i}.jpg"), 1, None).as_millis()).collect();
        assert!(delays.len() > 50, "{} different delays", delays.len());
    }
}
