//! The state of each host: how many of its rows are in flight, how often it may be requested, what
//! its `robots.txt` says, and whether it was given up.
//!
//! Rows in flight are counted for the host and port of the row's URL. Everything else is counted
//! for the hosts that are requested, including targets of redirects. A host that was given up is
//! tried again with one row per minute, and is used again as soon as it answers.
//!
//! A host that has answered in this run and can no longer be connected to will most likely be back
//! soon. It is expected back for some seconds and tried with one row per second meanwhile. The rows
//! that have not reached it are tried again at the end of their part. A host that has never
//! answered is expected only if it failed before any host had answered, because the network or the
//! servers may just be starting. Otherwise it is not, because lists are full of hosts that no
//! longer exist.
//!
//! Whether a row of such a host is still tried depends on the order in which the answers to earlier
//! rows arrive. So do its number of attempts and its failure. If a host answers only some rows, a
//! row may fail in one run and succeed in another.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lynxdata_records::Status;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use url::Url;

use crate::client::Failure;
use crate::robots::Robots;

/// Number of hosts at which hosts without rows or failures are removed from the table for the first
/// time.
const FIRST_SWEEP: usize = 16_384;
/// Bytes of `robots.txt` rules at which those of hosts without rows are removed for the first time.
const FIRST_ROBOTS_SWEEP: usize = 64 << 20;
/// Maximum time for which the `Retry-After` of one row delays the other rows of its host. It is
/// short because servers may limit single paths only.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Interval between probes of a host that was given up. A probe is one row that tries the host.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// Time after which the failures of a host without rows are forgotten, counted from the time its
/// next probe was due.
const FAILURES_LIFE: Duration = Duration::from_mins(10);
/// Cache lifetime of a `robots.txt`: at most 24 hours by RFC 9309, section 2.4.
const ROBOTS_LIFE: Duration = Duration::from_hours(24);
/// Cache lifetime of a failure to fetch a `robots.txt`.
const NO_ROBOTS_LIFE: Duration = Duration::from_mins(1);

/// The times for which unreachable hosts are expected back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Maximum expected outage of a host that has answered before, counted from its first failure.
    pub(crate) outage: Duration,
    /// Maximum wait while no host has answered, counted from the first failure of any host. Also
    /// the maximum wait for hosts that failed before the first answer of any host, counted from
    /// that answer.
    pub(crate) start: Duration,
    /// Interval between probes of a host that is expected back.
    pub(crate) probe_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            // The default timeout of one URL. A restarted server is back within seconds, and the
            // last parts of a run wait no longer than this for a host.
            outage: Duration::from_secs(30),
            // A list whose only host has a typing error wastes no more time than this.
            start: Duration::from_secs(5),
            // Less load than the eight concurrent requests that a host gets by default.
            probe_every: Duration::from_secs(1),
        }
    }
}

/// The limits that hold for every host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostLimits {
    /// Rows of one host in flight at once; 0 for no limit.
    pub(crate) requests: usize,
    /// Requests per second; 0 for no limit.
    pub(crate) per_second: f64,
    /// Consecutive failures after which a host is given up; 0 for never.
    pub(crate) failures: u32,
    pub(crate) patience: Patience,
}

/// State that all hosts share.
#[derive(Debug, Default)]
struct Together {
    /// Time of the first answer of any host.
    first_answer: OnceLock<Instant>,
    /// Time of the first failure of any host.
    first_failure: OnceLock<Instant>,
}

/// The next step for a row that has not reached its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// The host is back.
    Now,
    /// The row is the probe that finds out whether the host is back.
    Probe,
    /// The row is tried again at this time or later.
    At(Instant),
    /// The host is no longer expected back.
    Never,
}

/// All hosts that a downloader has rows for.
#[derive(Debug)]
pub(crate) struct Hosts {
    limits: HostLimits,
    together: Arc<Together>,
    /// Approximate memory of the rules of all `robots.txt`, bytes.
    robots_bytes: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    hosts: HashMap<String, Arc<Host>>,
    /// Number of hosts, and bytes of `robots.txt` rules, at which the table is swept the next time.
    sweep_at: usize,
    sweep_robots_at: usize,
}

/// A scheme, host and port.
#[derive(Debug)]
pub(crate) struct Host {
    /// One permit for every row in flight; `None` for no limit.
    requests: Option<Semaphore>,
    /// Minimum time between two requests.
    interval: Duration,
    failure_limit: u32,
    patience: Patience,
    together: Arc<Together>,
    state: Mutex<State>,
    robots: Mutex<Option<CachedRobots>>,
}

#[derive(Debug, Default)]
struct State {
    has_answered: bool,
    /// Number of failures since the last answer, and the time of the first of them.
    failures: u32,
    failing_since: Option<Instant>,
    last_failure: Option<Status>,
    /// Whether the last failure was a temporary failure to connect.
    is_unreached: bool,
    /// Time of the next probe of a failing host.
    probe_at: Option<Instant>,
    /// Earliest time of the next request.
    next_request: Option<Instant>,
}

impl State {
    /// Returns whether forgetting this state would change how the next rows are treated.
    fn matters(&self, now: Instant) -> bool {
        let is_recent = self.probe_at.is_some_and(|probe_at| now.saturating_duration_since(probe_at) < FAILURES_LIFE);
        is_recent || self.next_request.is_some_and(|next| next > now)
    }
}

/// The rules of a host's `robots.txt`, or the reason why it could not be fetched.
pub(crate) type RobotsAnswer = Result<Arc<Robots>, Failure>;

#[derive(Debug, Clone)]
struct CachedRobots {
    asked: Instant,
    answer: Arc<OnceCell<RobotsAnswer>>,
}

impl CachedRobots {
    /// Returns whether the answer is out of date. If a host is expected back, a failure to connect
    /// does not apply to the next row.
    fn is_stale(&self, now: Instant, is_expected: bool) -> bool {
        let life = match self.answer.get() {
            Some(Err(failure)) if failure.is_unreached && is_expected => Duration::ZERO,
            Some(Err(_)) => NO_ROBOTS_LIFE,
            Some(Ok(_)) | None => ROBOTS_LIFE,
        };
        now.saturating_duration_since(self.asked) >= life
    }
}

impl Hosts {
    pub(crate) fn new(limits: HostLimits) -> Hosts {
        let known = Known { hosts: HashMap::new(), sweep_at: FIRST_SWEEP, sweep_robots_at: FIRST_ROBOTS_SWEEP };
        let together = Arc::default();
        Hosts { limits, together, robots_bytes: AtomicUsize::new(0), known: Mutex::new(known) }
    }

    /// Returns the longest time for which a host is expected back.
    pub(crate) fn longest_outage(&self) -> Duration {
        self.limits.patience.outage.max(self.limits.patience.start)
    }

    /// Returns the host of a URL.
    pub(crate) fn of(&self, url: &Url) -> Arc<Host> {
        let port = url.port_or_known_default().unwrap_or_default();
        let key = format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default());
        let mut known = lock(&self.known);
        let Known { hosts, sweep_at, sweep_robots_at } = &mut *known;
        let robots_bytes = self.robots_bytes.load(Ordering::Relaxed);
        if hosts.len() >= *sweep_at || robots_bytes > *sweep_robots_at {
            // Web-scale lists name millions of hosts, so only hosts with relevant state are kept.
            let now = Instant::now();
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || lock(&host.state).matters(now));
            let robots_bytes = hosts.values().map(|host| host.robots_bytes()).sum();
            self.robots_bytes.store(robots_bytes, Ordering::Relaxed);
            *sweep_at = FIRST_SWEEP.max(2 * hosts.len());
            *sweep_robots_at = FIRST_ROBOTS_SWEEP.max(2 * robots_bytes);
        }
        hosts.entry(key).or_insert_with(|| Arc::new(Host::new(self.limits, self.together.clone()))).clone()
    }

    /// Adds the memory of a `robots.txt` that was received.
    pub(crate) fn count_robots(&self, robots: &Robots) {
        self.robots_bytes.fetch_add(robots.bytes(), Ordering::Relaxed);
    }
}

impl Host {
    fn new(limits: HostLimits, together: Arc<Together>) -> Host {
        let interval = if limits.per_second > 0.0 { 1.0 / limits.per_second } else { 0.0 };
        Host {
            requests: (limits.requests > 0).then(|| Semaphore::new(limits.requests)),
            interval: Duration::from_secs_f64(interval),
            failure_limit: limits.failures,
            patience: limits.patience,
            together,
            state: Mutex::default(),
            robots: Mutex::default(),
        }
    }

    fn robots_bytes(&self) -> usize {
        let robots = lock(&self.robots);
        let answer = robots.as_ref().and_then(|cached| cached.answer.get());
        answer.and_then(|answer| answer.as_ref().ok()).map_or(0, |robots| robots.bytes())
    }

    /// Waits until the host may have one more row in flight.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        match &self.requests {
            Some(requests) => Some(requests.acquire().await.expect("the semaphore is never closed")),
            None => None,
        }
    }

    /// Returns the time until a request may begin, by the rate limit and by a pause that the host
    /// asked for.
    pub(crate) fn until_turn(&self, now: Instant) -> Duration {
        lock(&self.state).next_request.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// Reserves the rate limit for a request that begins now. Returns `false` if none may begin
    /// yet.
    pub(crate) fn take_turn(&self, now: Instant) -> bool {
        let mut state = lock(&self.state);
        if state.next_request.is_some_and(|next| next > now) {
            return false;
        }
        state.next_request = (!self.interval.is_zero()).then(|| now + self.interval);
        true
    }

    /// Delays the next requests because the host has asked for it.
    pub(crate) fn pause(&self, now: Instant, asked: Duration) {
        let until = now + asked.min(LONGEST_PAUSE);
        let mut state = lock(&self.state);
        state.next_request = Some(state.next_request.map_or(until, |next| next.max(until)));
    }

    /// Returns the failure of a row that is not tried because its host was given up. Returns `None`
    /// if the host was not given up or if the row is the next probe.
    pub(crate) fn given_up(&self, now: Instant) -> Option<Failure> {
        let mut state = lock(&self.state);
        let status = state.last_failure.filter(|_| self.failure_limit > 0 && state.failures >= self.failure_limit)?;
        if self.take_probe(&mut state, now) {
            return None;
        }
        let detail = format!("host given up after {} failures in a row", self.failure_limit);
        Some(Failure { may_pass: false, is_unreached: state.is_unreached, ..Failure::new(status, detail) })
    }

    /// Returns whether and when a row that has not reached the host may be tried again.
    pub(crate) fn again(&self, now: Instant) -> Again {
        let mut state = lock(&self.state);
        if state.failures == 0 {
            return Again::Now;
        }
        match self.expected_until(&state).filter(|until| *until > now) {
            None => Again::Never,
            Some(_) if self.take_probe(&mut state, now) => Again::Probe,
            Some(until) => Again::At(state.probe_at.map_or(until, |probe_at| probe_at.min(until))),
        }
    }

    /// Returns whether the host was not given up or is expected back, so that its rows are worth
    /// trying again.
    pub(crate) fn is_expected(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        state.failures == 0 || self.expected_until(&state).is_some_and(|until| until > now)
    }

    fn expected_until(&self, state: &State) -> Option<Instant> {
        let since = state.failing_since.filter(|_| state.is_unreached)?;
        if state.has_answered {
            return Some(since + self.patience.outage);
        }
        match self.together.first_answer.get() {
            None => Some(self.together.first_failure.get().copied().unwrap_or(since) + self.patience.start),
            Some(answer) => (since < *answer).then(|| *answer + self.patience.start),
        }
    }

    /// Reserves the next probe if it is due. Returns whether it was.
    fn take_probe(&self, state: &mut State, now: Instant) -> bool {
        let is_due = state.probe_at.is_some_and(|probe_at| probe_at <= now);
        if is_due {
            state.probe_at = Some(now + self.until_probe(state, now));
        }
        is_due
    }

    fn until_probe(&self, state: &State, now: Instant) -> Duration {
        let is_expected = self.expected_until(state).is_some_and(|until| until > now);
        if is_expected { self.patience.probe_every } else { PROBE_EVERY }
    }

    /// Records how a row ended: whether the host gave any HTTP answer, and the failure.
    pub(crate) fn remember(&self, now: Instant, answered: bool, failure: Option<&Failure>) {
        let mut state = lock(&self.state);
        if answered {
            state.has_answered = true;
            self.together.first_answer.get_or_init(|| now);
        }
        let status = failure.map_or(Status::Ok, |failure| failure.status);
        let is_dead = matches!(status, Status::DnsError | Status::ConnectError | Status::TlsError | Status::Timeout);
        if (!answered && is_dead) || status == Status::RateLimited {
            self.together.first_failure.get_or_init(|| now);
            state.failures = state.failures.saturating_add(1);
            state.failing_since.get_or_insert(now);
            state.last_failure = Some(status);
            state.is_unreached = failure.is_some_and(|failure| failure.is_unreached);
            state.probe_at = state.probe_at.or(Some(now + self.until_probe(&state, now)));
        } else if answered {
            *state = State { has_answered: true, next_request: state.next_request, ..State::default() };
        }
    }

    /// Returns the rules of the host's `robots.txt`. The first row that asks fetches the file, and
    /// the others wait for it.
    pub(crate) async fn robots(&self, now: Instant, fetch: impl Future<Output = RobotsAnswer>) -> RobotsAnswer {
        let is_expected = self.is_expected(now);
        let answer = {
            let mut robots = lock(&self.robots);
            match &*robots {
                Some(cached) if !cached.is_stale(now, is_expected) => cached.answer.clone(),
                _ => robots.insert(CachedRobots { asked: now, answer: Arc::default() }).answer.clone(),
            }
        };
        answer.get_or_init(|| fetch).await.clone()
    }
}

/// Takes a lock, even if it is poisoned: no code under these locks can leave a state half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(requests: usize, failures: u32) -> Hosts {
        Hosts::new(HostLimits { requests, per_second: 0.0, failures, patience: Patience::default() })
    }

    /// Records a row that ended with a status.
    fn end(host: &Host, now: Instant, answered: bool, status: Status) {
        host.remember(now, answered, Some(&Failure::plain(status)));
    }

    /// Records a row for which no connection could be made.
    fn unreached(host: &Host, now: Instant) {
        host.remember(now, false, Some(&Failure { is_unreached: true, ..Failure::plain(Status::ConnectError) }));
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_host_is_a_scheme_a_name_and_a_port() {
        let hosts = hosts(1, 1);
        let host = hosts.of(&url("http://example.org/a"));
        for same in ["http://EXAMPLE.org:80/b", "http://me:secret@example.org/"] {
            assert!(Arc::ptr_eq(&host, &hosts.of(&url(same))), "{same}");
        }
        for other in [
            "https://example.org/a",
            "https://example.org:80/a",
            "http://example.org:8080/a",
            "http://www.example.org/a",
        ] {
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
            end(&host, now, answered, status);
            assert_eq!(host.given_up(now), None, "after {status}");
        }
        end(&host, now, false, Status::TlsError);
        let failure = host.given_up(now).unwrap();
        assert_eq!(failure.status, Status::TlsError);
        assert_eq!(failure.detail.as_deref(), Some("host given up after 3 failures in a row"));
        end(&host, now, true, Status::Ok);
        assert_eq!(host.given_up(now), None, "a row in flight had an answer");
    }

    #[test]
    fn only_hosts_that_matter_are_remembered() {
        let hosts = Hosts::new(HostLimits { per_second: 0.01, ..hosts(1, 2).limits });
        let used = hosts.of(&url("http://used.example/"));
        let now = Instant::now();
        end(&hosts.of(&url("http://dead.example/")), now, false, Status::DnsError);
        assert!(hosts.of(&url("http://slow.example/")).take_turn(now));
        for number in 0..10 * FIRST_SWEEP {
            hosts.of(&url(&format!("http://{number}.example/")));
        }
        assert!(lock(&hosts.known).hosts.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&used, &hosts.of(&url("http://used.example/"))));
        assert_eq!(lock(&hosts.of(&url("http://dead.example/")).state).failures, 1);
        assert!(!hosts.of(&url("http://slow.example/")).take_turn(now));
        for name in ["http://dead.example/", "http://slow.example/"] {
            let host = hosts.of(&url(name));
            let state = lock(&host.state);
            assert!(state.matters(now) && !state.matters(now + PROBE_EVERY + FAILURES_LIFE), "{name}");
        }
    }

    #[tokio::test]
    async fn the_rules_of_strangers_do_not_pile_up() {
        let hosts = hosts(0, 0);
        let rules: Vec<String> = (0..10_000).map(|number| format!("disallow: /{number}")).collect();
        let text = format!("user-agent: *\n{}", rules.join("\n"));
        let robots = Arc::new(Robots::parse(text.as_bytes(), "lynxdata"));
        for number in 0..400 {
            let host = hosts.of(&url(&format!("http://{number}.example/")));
            host.robots(Instant::now(), async { Ok(robots.clone()) }).await.unwrap();
            hosts.count_robots(&robots);
        }
        let kept = lock(&hosts.known).hosts.len() * robots.bytes();
        assert!(kept <= FIRST_ROBOTS_SWEEP + robots.bytes(), "{kept}");
    }

    #[test]
    fn a_host_that_was_given_up_gets_another_chance_every_minute() {
        let hosts = hosts(0, 2);
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        end(&host, begin, false, Status::Timeout);
        end(&host, begin, true, Status::RateLimited);
        let failure = host.given_up(begin).unwrap();
        assert_eq!(failure.status, Status::RateLimited, "hosts that turn rows away are left alone too");
        let later = begin + PROBE_EVERY;
        assert_eq!(host.given_up(later), None, "one row tries");
        assert!(host.given_up(later).is_some(), "and only one");
        end(&host, later, false, Status::Timeout);
        assert!(host.given_up(later + PROBE_EVERY / 2).is_some());
        assert_eq!(host.given_up(later + PROBE_EVERY), None);
        end(&host, later, true, Status::NotFound);
        assert_eq!(host.given_up(later), None, "it is back");
        end(&host, later, false, Status::Timeout);
        assert_eq!(host.given_up(later), None, "its failures are counted anew");
    }

    #[test]
    fn a_host_that_has_answered_is_expected_back_for_a_while() {
        let hosts = hosts(0, 2);
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        let Patience { outage, probe_every, .. } = Patience::default();
        end(&host, begin, true, Status::NotFound);
        assert_eq!(host.again(begin), Again::Now);
        unreached(&host, begin);
        unreached(&host, begin);
        assert!(host.is_expected(begin));
        assert!(host.given_up(begin).is_some_and(|failure| failure.is_unreached));
        assert_eq!(host.again(begin), Again::At(begin + probe_every));
        assert_eq!(host.again(begin + probe_every), Again::Probe);
        assert_eq!(host.again(begin + probe_every), Again::At(begin + 2 * probe_every), "one row at a time");
        assert_eq!(host.given_up(begin + 2 * probe_every), None, "also of those that come for the first time");
        unreached(&host, begin + 2 * probe_every);
        assert_eq!(host.again(begin + 2 * probe_every), Again::At(begin + 3 * probe_every));
        let over = begin + outage;
        assert!(host.again(over) == Again::Never && !host.is_expected(over), "its failures began so long ago");
        assert_eq!(host.given_up(over), None);
        assert!(host.given_up(over + PROBE_EVERY / 2).is_some(), "one row per minute from now on");
        end(&host, over, true, Status::Ok);
        assert_eq!(host.again(over), Again::Now);
        unreached(&host, over);
        assert!(host.is_expected(over), "another outage");
        end(&host, over, false, Status::DnsError);
        assert!(!host.is_expected(over), "a name that does not exist will not come back");
    }

    #[test]
    fn hosts_that_never_answered_are_expected_only_if_no_host_had() {
        let hosts = hosts(0, 2);
        let [dead, other, alive] =
            ["dead", "other", "alive"].map(|name| hosts.of(&url(&format!("http://{name}.example/"))));
        let (begin, start) = (Instant::now(), Patience::default().start);
        unreached(&dead, begin);
        assert!(dead.is_expected(begin));
        unreached(&other, begin + start / 2);
        assert!(other.is_expected(begin + start / 2));
        assert!(!other.is_expected(begin + start), "all together have this time");
        let answer = begin + start / 2;
        end(&alive, answer, true, Status::NotFound);
        assert_eq!(dead.again(answer), Again::Probe, "once more");
        let over = answer + start;
        assert!(!dead.is_expected(over) && dead.again(over) == Again::Never);
        let late = hosts.of(&url("http://late.example/"));
        unreached(&late, answer);
        assert!(!late.is_expected(answer), "others answer, so it is not the network");
        unreached(&alive, over);
        assert!(alive.is_expected(over));
    }

    #[test]
    fn requests_keep_their_distance() {
        let hosts = Hosts::new(HostLimits { per_second: 4.0, ..hosts(0, 0).limits });
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        let quarter = Duration::from_millis(250);
        for turn in 0..9 {
            let now = begin + quarter * turn;
            assert_eq!(host.until_turn(now), Duration::ZERO, "the first begins at once");
            assert!(host.take_turn(now) && !host.take_turn(now), "turn {turn}");
            assert_eq!(host.until_turn(now + quarter / 5), quarter * 4 / 5);
        }
        let later = begin + Duration::from_mins(1);
        assert!(host.take_turn(later));
        assert_eq!(host.until_turn(later), quarter, "idle time makes no burst");
        let other = hosts.of(&url("http://other.example/"));
        assert!(other.take_turn(later), "another host is asked at once");
    }

    #[test]
    fn a_pause_is_for_all_rows_of_a_host_but_not_for_ever() {
        let hosts = hosts(0, 0);
        let (host, begin) = (hosts.of(&url("http://example.org/")), Instant::now());
        assert!(host.take_turn(begin));
        host.pause(begin, Duration::from_secs(2));
        host.pause(begin, Duration::from_secs(1));
        assert_eq!(host.until_turn(begin), Duration::from_secs(2));
        assert!(!host.take_turn(begin) && host.take_turn(begin + Duration::from_secs(3)));
        host.pause(begin, Duration::MAX);
        assert_eq!(host.until_turn(begin), LONGEST_PAUSE);
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
