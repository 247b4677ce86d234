//! What is known of each host: how many of its rows are in flight, and whether it is dead.
//!
//! Both go by the host and port of the row's URL, also where that redirects elsewhere. A host that has been given up stays so for the life of the
//! downloader, unless one of its rows that were in flight at that moment is answered after all.
//!
//! Whether a row of a dead host is still tried depends on the order in which the answers to earlier rows arrive, and with it the row's attempts and which
//! connection-level failure it names. Of a host that answers some of its rows only, rows may fail in one run that succeed in another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lynxdata_records::Status;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use crate::client::Failure;

/// Hosts that are remembered before those without rows or failures are forgotten for the first time.
const FIRST_SWEEP: usize = 1024;

/// All hosts that a downloader has rows for.
#[derive(Debug)]
pub(crate) struct Hosts {
    /// Rows of one host in flight at once; 0 for no limit.
    requests_per_host: usize,
    /// Failures in a row after which a host is given up; 0 for never.
    failure_limit: u32,
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
    failure_limit: u32,
    failures: Mutex<Failures>,
}

/// Connection-level failures since the host answered last.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    last: Option<Status>,
}

impl Hosts {
    pub(crate) fn new(requests_per_host: usize, failure_limit: u32) -> Hosts {
        let known = Mutex::new(Known { hosts: HashMap::new(), sweep_at: FIRST_SWEEP });
        Hosts { requests_per_host, failure_limit, known }
    }

    /// The host of a URL.
    pub(crate) fn of(&self, url: &Url) -> Arc<Host> {
        let port = url.port_or_known_default().unwrap_or_default();
        let key = format!("{}:{port}", url.host_str().unwrap_or_default());
        let mut known = lock(&self.known);
        let Known { hosts, sweep_at } = &mut *known;
        if hosts.len() >= *sweep_at {
            // The lists of a whole web name millions of hosts; only those with something to remember stay.
            hosts.retain(|_, host| Arc::strong_count(host) > 1 || lock(&host.failures).count > 0);
            *sweep_at = FIRST_SWEEP.max(2 * hosts.len());
        }
        let new_host = || {
            let requests = (self.requests_per_host > 0).then(|| Semaphore::new(self.requests_per_host));
            Arc::new(Host { requests, failure_limit: self.failure_limit, failures: Mutex::default() })
        };
        hosts.entry(key).or_insert_with(new_host).clone()
    }
}

impl Host {
    /// Waits until the host may have one more row in flight.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        match &self.requests {
            Some(requests) => Some(requests.acquire().await.expect("the semaphore is never closed")),
            None => None,
        }
    }

    /// The failure of a row that is not worth trying, since the host seems dead.
    pub(crate) fn given_up(&self) -> Option<Failure> {
        let failures = lock(&self.failures);
        let status = failures.last.filter(|_| self.failure_limit > 0 && failures.count >= self.failure_limit)?;
        Some(Failure::new(status, format!("host given up after {} failures in a row", self.failure_limit)))
    }

    /// Remembers how a row ended: whether the host answered anything in HTTP, and otherwise with what status.
    pub(crate) fn remember(&self, answered: bool, status: Status) {
        let mut failures = lock(&self.failures);
        if answered {
            *failures = Failures::default();
        } else if matches!(status, Status::DnsError | Status::ConnectError | Status::TlsError | Status::Timeout) {
            failures.count = failures.count.saturating_add(1);
            failures.last = Some(status);
        }
    }
}

/// Nothing under these locks can break off half done, so that what a panic left behind is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_host_is_a_name_and_a_port() {
        let hosts = Hosts::new(1, 1);
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
        let hosts = Hosts::new(0, 3);
        let host = hosts.of(&url("http://example.org/"));
        for (answered, status) in [
            (false, Status::Timeout),
            (false, Status::ConnectError),
            (true, Status::NotFound),
            (false, Status::Timeout),
            (false, Status::ForbiddenAddress),
            (false, Status::DnsError),
        ] {
            host.remember(answered, status);
            assert_eq!(host.given_up(), None, "after {status}");
        }
        host.remember(false, Status::TlsError);
        let failure = host.given_up().unwrap();
        assert_eq!(failure.status, Status::TlsError);
        assert_eq!(failure.detail.as_deref(), Some("host given up after 3 failures in a row"));
        host.remember(true, Status::Ok);
        assert_eq!(host.given_up(), None, "a row in flight had an answer");
    }

    #[test]
    fn only_hosts_with_rows_or_failures_are_remembered() {
        let hosts = Hosts::new(1, 2);
        let used = hosts.of(&url("http://used.example/"));
        hosts.of(&url("http://dead.example/")).remember(false, Status::DnsError);
        for number in 0..10 * FIRST_SWEEP {
            hosts.of(&url(&format!("http://{number}.example/")));
        }
        assert!(lock(&hosts.known).hosts.len() <= FIRST_SWEEP);
        assert!(Arc::ptr_eq(&used, &hosts.of(&url("http://used.example/"))));
        assert_eq!(lock(&hosts.of(&url("http://dead.example/")).failures).count, 1);
    }
}
