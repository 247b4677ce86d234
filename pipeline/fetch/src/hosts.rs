//! What is known of each host: how many of its rows are in flight, how often it may be asked, what its `robots.txt` says, and whether it is dead.
//!
//! All of it goes by the host and port of the row's URL, also where that redirects elsewhere; `robots.txt` by each hop's own. A host that has been given
//! up is tried again with one row a minute, and is back as soon as one of its rows is answered.
//!
//! Whether a row of a dead host is still tried depends on the order in which the answers to earlier rows arrive, and with it the row's attempts and which
//! failure it names. Of a host that answers some of its rows only, rows may fail in one run that succeed in another.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lynxdata_records::Status;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::client::Failure;
use crate::robots::Robots;

/// Hosts that are remembered before those without rows or failures are forgotten for the first time.
const FIRST_SWEEP: usize = 16_384;
/// Longest time for which the `Retry-After` of one row holds back the other rows of its host, some of which may be welcome: servers also turn away single
/// paths.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a host that was given up is left alone before one row tries it again.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// How long a `robots.txt` is believed: RFC 9309, section 2.4, says at most 24 hours.
const ROBOTS_LIFE: Duration = Duration::from_hours(24);
/// How long it is believed that a `robots.txt` cannot be had.
const NO_ROBOTS_LIFE: Duration = Duration::from_mins(1);

/// The limits that hold for every host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLimits {
    /// Rows of one host in flight at once; 0 for no limit.
    pub(crate) requests: usize,
    /// Requests per second; 0 for no limit.
    pub(crate) per_second: f64,
    /// Failures in a row after which a host is given up; 0 for never.
    pub(crate) failures: u32,
}

/// All hosts that a downloader has rows for.
#[derive(Debug)]
pub(crate) struct Hosts {
    limits: HostLimits,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    hosts: HashMap<String, Arc<Host>>,
    /// Hosts at which the table is swept the next time.
    sweep_at: usize,
}

/// A host and port.
#[derive(Debug)]
pub(crate) struct Host {
    /// One permit for every row in flight; `None` without limit.
    requests: Option<Semaphore>,
    /// Least time between two requests.
    interval: Duration,
    failure_limit: u32,
    state: Mutex<State>,
    robots: Mutex<Option<CachedRobots>>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures since the host answered last.
    failures: u32,
    last_failure: Option<Status>,
    /// When a host that is given up is tried again.
    probe_at: Option<Instant>,
    /// When the next request may begin.
    next_request: Option<Instant>,
}

/// What a host's `robots.txt` says, or why it cannot be had.
pub(crate) type RobotsAnswer = Result<Arc<Robots>, Failure>;

#[derive(Debug, Clone)]
struct CachedRobots {
    asked: Instant,
    answer: Arc<OnceCell<RobotsAnswer>>,
}

impl CachedRobots {
    fn is_stale(&self, now: Instant) -> bool {
        let life = match self.answer.get() {
            Some(Err(_)) => NO_ROBOTS_LIFE,
            Some(Ok(_)) | None => ROBOTS_LIFE,
        };
        now.saturating_duration_since(self.asked) >= life
    }
}

impl Hosts {
    pub(crate) fn new(limits: HostLimits) -> Hosts {
        Hosts { limits, known: Mutex::new(Known { hosts: HashMap::new(), sweep_at: FIRST_SWEEP }) }
    }

    /// The host of a URL.
    pub(crate) fn of(&self, url: &Url) -> Arc<Host> {
        let port = url.port_or_known_default().unwrap_or_default();
        let key = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut known = lock(&self.known);
        let Known { hosts, sweep_at } = &mut *known;
        if hosts.len() >= *sweep_at {
            // The lists of a whole web name millions of hosts; only those with something to remember stay.
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || lock(&host.state).failures > 0);
            *sweep_at = FIRST_SWEEP.max(2 * hosts.len());
        }
        hosts.entry(key).or_insert_with(|| Arc::new(Host::new(self.limits))).clone()
    }
}

impl Host {
    fn new(limits: HostLimits) -> Host {
        let interval = if limits.per_second > 0.0 { 1.0 / limits.per_second } else { 0.0 };
        Host {
            requests: (limits.requests > 0).then(|| Semaphore::new(limits.requests)),
            interval: Duration::from_secs_f64(interval),
            failure_limit: limits.failures,
            state: Mutex::default(),
            robots: Mutex::default(),
        }
    }

    /// Waits until the host may have one more row in flight.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        match &self.requests {
            Some(requests) => Some(requests.acquire().await.expect("the semaphore is never closed")),
            None => None,
        }
    }

    /// Waits until the next request may begin: its turn by the rate, and not before the host wants to be asked again.
    pub(crate) async fn turn(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Takes the next turn; returns how long it is until then.
    fn reserve(&self, now: Instant) -> Duration {
        let mut state = lock(&self.state);
        let turn = state.next_request.map_or(now, |next| next.max(now));
        if !self.interval.is_zero() {
            state.next_request = Some(turn + self.interval);
        }
        turn.saturating_duration_since(now)
    }

    /// Holds back the next requests, since the host has asked for it.
    pub(crate) fn pause(&self, now: Instant, asked: Duration) {
        let until = now + asked.min(LONGEST_PAUSE);
        let mut state = lock(&self.state);
        state.next_request = Some(state.next_request.map_or(until, |next| next.max(until)));
    }

    /// The failure of a row that is not worth trying, since the host seems dead. Once a minute the host gets another chance.
    pub(crate) fn given_up(&self, now: Instant) -> Option<Failure> {
        let mut state = lock(&self.state);
        let status = state.last_failure.filter(|_| self.failure_limit > 0 && state.failures >= self.failure_limit)?;
        if state.probe_at.is_some_and(|probe_at| probe_at <= now) {
            state.probe_at = Some(now + PROBE_EVERY);
            return None;
        }
        Some(Failure::new(status, format!("host given up after {} failures in a row", self.failure_limit)))
    }

    /// Remembers how a row ended: whether the host answered anything in HTTP, and with what status.
    pub(crate) fn remember(&self, now: Instant, answered: bool, status: Status) {
        let mut state = lock(&self.state);
        let is_dead = matches!(status, Status::DnsError | Status::ConnectError | Status::TlsError | Status::Timeout);
        if (!answered && is_dead) || status == Status::RateLimited {
            state.failures = state.failures.saturating_add(1);
            state.last_failure = Some(status);
            state.probe_at = state.probe_at.or(Some(now + PROBE_EVERY));
        } else if answered {
            (state.failures, state.last_failure, state.probe_at) = (0, None, None);
        }
    }

    /// What the host's `robots.txt` says. The first row to ask has it fetched; the others wait for that.
    pub(crate) async fn robots(&self, now: Instant, fetch: impl Future<Output = RobotsAnswer>) -> RobotsAnswer {
        let answer = {
            let mut robots = lock(&self.robots);
            match &*robots {
                Some(cached) if !cached.is_stale(now) => cached.answer.clone(),
                _ => robots.insert(CachedRobots { asked: now, answer: Arc::default() }).answer.clone(),
            }
        };
        answer.get_or_init(|| fetch).await.clone()
    }
}

/// Nothing under these locks can break off half done, so that what a panic left behind is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn hosts(requests: usize, failures: u32) -> Hosts {
        Hosts::new(HostLimits { requests, per_second: 0.0, failures })
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_host_is_a_name_and_a_port() {
        let hosts = hosts(1, 1);
        let host = hosts.of(&url("http://example.org/a"));
        for same in ["http://EXAMPLE.org:80/b", "http://me:secret@example.org/"] {
            assert!(Arc::ptr_eq(&host, &hosts.of(&url(same))), "{same}");
        }
        for other in ["https://example.org/a", "http://example.org:8080/a", "http://www.example.org/a"] {
            assert!(!Arc::ptr_eq(&host, &hosts.of(&url(other))), "{other}");
        }
    }

    #[test]
    fn only_failures_without_an_answer_in_between_give_a_host_up() {
        let hosts = hosts(0, 3);
        let (host, now) = (hosts.of(&url("http://example.org/")), Instant::now());
        for (answered, status) in [
            (false, Status::Timeout),
            (false, Status::ConnectError),
            (true, Status::NotFound),
            (false, Status::Timeout),
            (false, Status::ForbiddenAddress),
            (false, Status::DnsError),
        ] {
            host.remember(now, answered, status);
            assert_eq!(host.given_up(now), None, "after {status}");
        }
        host.remember(now, false, Status::TlsError);
        let failure = host.given_up(now).unwrap();
        assert_eq!(failure.status, Status::TlsError);
        assert_eq!(failure.detail.as_deref(), Some("host given up after 3 failures in a row"));
        host.remember(now, true, Status::Ok);
        assert_eq!(host.given_up(now), None, "a row in flight had an answer");
    }

    #[test]
    fn only_hosts_with_rows_or_failures_are_remembered() {
        let hosts = hosts(1, 2);
        let used = hosts.of(&url("http://used.example/"));
        hosts.of(&url("http://dead.example/")).remember(Instant::now(), false, Status::DnsError);
        for number in 0..10 * FIRST_SWEEP {
            hosts.of(&url(&format!("http://{number}.example/")));
        }
        assert!(lock(&hosts.known).hosts.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&used, &hosts.of(&url("http://used.example/"))));
        assert_eq!(lock(&hosts.of(&url("http://dead.example/")).state).failures, 1);
    }

    #[test]
    fn a_host_that_was_given_up_gets_another_chance_every_minute() {
        let hosts = hosts(0, 2);
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        host.remember(begin, false, Status::Timeout);
        host.remember(begin, true, Status::RateLimited);
        let failure = host.given_up(begin).unwrap();
        assert_eq!(failure.status, Status::RateLimited, "hosts that turn rows away are left alone too");
        let later = begin + PROBE_EVERY;
        assert_eq!(host.given_up(later), None, "one row tries");
        assert!(host.given_up(later).is_some(), "and only one");
        host.remember(later, false, Status::Timeout);
        assert!(host.given_up(later + PROBE_EVERY / 2).is_some());
        assert_eq!(host.given_up(later + PROBE_EVERY), None);
        host.remember(later, true, Status::NotFound);
        assert_eq!(host.given_up(later), None, "it is back");
        host.remember(later, false, Status::Timeout);
        assert_eq!(host.given_up(later), None, "its failures are counted anew");
    }

    #[test]
    fn requests_keep_their_distance() {
        let hosts = Hosts::new(HostLimits { requests: 0, per_second: 4.0, failures: 0 });
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        let quarters = |count: u32| Duration::from_millis(250) * count;
        for turn in 0..9 {
            assert_eq!(host.reserve(begin), quarters(turn), "the first begins at once");
        }
        let later = begin + Duration::from_mins(1);
        assert_eq!([0; 3].map(|_| host.reserve(later)), [0, 1, 2].map(quarters), "idle time makes no burst");
        let other = hosts.of(&url("http://other.example/"));
        assert_eq!(other.reserve(later), Duration::ZERO, "another host is asked at once");
    }

    #[test]
    fn a_pause_is_for_all_rows_of_a_host_but_not_for_ever() {
        let hosts = hosts(0, 0);
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        assert_eq!(host.reserve(begin), Duration::ZERO);
        host.pause(begin, Duration::from_secs(2));
        host.pause(begin, Duration::from_secs(1));
        assert_eq!([0; 3].map(|_| host.reserve(begin)), [Duration::from_secs(2); 3]);
        assert_eq!(host.reserve(begin + Duration::from_secs(3)), Duration::ZERO);
        host.pause(begin, Duration::MAX);
        assert_eq!(host.reserve(begin), LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn robots_are_asked_for_once_a_day_and_soon_again_if_they_cannot_be_had() {
        let hosts = hosts(0, 0);
        let host = hosts.of(&url("http://example.org/"));
        let asked = AtomicUsize::new(0);
        let failed = || Err(Failure::plain(Status::HttpServerError));
        let none = || Ok(Arc::new(Robots::parse(b"", "lynxdata")));
        let mut now = Instant::now();
        for (wait, answer, asked_before) in [
            (Duration::ZERO, failed(), 0),
            (NO_ROBOTS_LIFE / 2, none(), 1),
            (NO_ROBOTS_LIFE, none(), 1),
            (ROBOTS_LIFE / 2, failed(), 2),
            (ROBOTS_LIFE, failed(), 2),
        ] {
            now += wait;
            assert_eq!(asked.load(Ordering::SeqCst), asked_before);
            let ask = async || {
                let fetch = async {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    answer.clone()
                };
                host.robots(now, fetch).await
            };
            let answers = futures::future::join_all((0..5).map(|_| ask())).await;
            assert!(answers.iter().all(|got| got.is_ok() == answers[0].is_ok()));
        }
        assert_eq!(asked.into_inner(), 3);
    }
}
