//! What a running downloader counts, for a look from outside; no count of a table comes from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lynxdata_records::Status;

use crate::names::NameCounts;

/// Upper bounds of the buckets of [`Metrics::seconds`]: time from the first request of a row to its
/// end; seconds.
const SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of the buckets of [`Metrics::bytes`]: size of a body; bytes.
const BYTES: [f64; 8] = [1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7, 1e8];

/// Numbers of values in each of `N` buckets, and their sum.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// One more than there are bounds: the last holds what exceeds them all.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    /// The sum in thousandths, since integers add up whatever the order.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [f64; N]) -> Self {
        Histogram {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    fn add(&self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).map(|index| &self.counts[index]);
        bucket.unwrap_or(&self.beyond).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1000.0) as u64, Ordering::Relaxed);
    }

    /// Returns every bound and how many values do not exceed it.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let counts = self.counts.iter().scan(0, |total, count| {
            *total += count.load(Ordering::Relaxed);
            Some(*total)
        });
        self.bounds.iter().copied().zip(counts).collect()
    }

    /// Returns how many values there were.
    pub fn count(&self) -> u64 {
        let within = self.cumulative().last().map_or(0, |(_, count)| *count);
        within + self.beyond.load(Ordering::Relaxed)
    }

    /// Returns their sum.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

/// Counters of one downloader since it was made.
#[derive(Debug)]
pub struct Metrics {
    rows: Vec<AtomicU64>,
    attempts: AtomicU64,
    in_flight: AtomicU64,
    /// Time from the first request of a row to the end of its last body, rows without request left
    /// out.
    pub seconds: Histogram<{ SECONDS.len() }>,
    /// Sizes of bodies that arrived whole.
    pub bytes: Histogram<{ BYTES.len() }>,
    pub(crate) names: Arc<NameCounts>,
}

/// Counts of look-ups of names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NameMetrics {
    /// Addresses asked for.
    pub look_ups: u64,
    /// Look-ups that no server was asked for: the answer was known, or being asked for already.
    pub shared: u64,
    /// Look-ups by the servers that ended without an address.
    pub failures: u64,
    /// Total time of the look-ups by the servers; seconds.
    pub seconds: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            rows: Status::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            attempts: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            seconds: Histogram::new(SECONDS),
            bytes: Histogram::new(BYTES),
            names: Arc::default(),
        }
    }
}

impl Metrics {
    /// Returns the rows that ended, by status.
    pub fn rows(&self) -> impl Iterator<Item = (Status, u64)> + '_ {
        Status::ALL.iter().map(|status| (*status, self.rows[*status as usize].load(Ordering::Relaxed)))
    }

    /// Requests begun, redirects not counted.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns what was asked of name servers.
    pub fn names(&self) -> NameMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let NameCounts { look_ups, shared, failures, milliseconds } = &*self.names;
        NameMetrics {
            look_ups: get(look_ups),
            shared: get(shared),
            failures: get(failures),
            seconds: get(milliseconds) as f64 / 1000.0,
        }
    }

    pub(crate) fn row(&self, status: Status, elapsed: Option<Duration>, bytes: Option<u64>) {
        self.rows[status as usize].fetch_add(1, Ordering::Relaxed);
        self.measure(elapsed, bytes);
    }

    /// Puts what a row took into the histograms.
    pub fn measure(&self, elapsed: Option<Duration>, bytes: Option<u64>) {
        if let Some(elapsed) = elapsed {
            self.seconds.add(elapsed.as_secs_f64());
        }
        if let Some(bytes) = bytes {
            self.bytes.add(bytes as f64);
        }
    }

    /// Counts an attempt, and that it is under way until what is returned is dropped.
    pub(crate) fn attempt(&self) -> UnderWay<'_> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.in_flight)
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a AtomicU64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_that_bounds_them() {
        let metrics = Metrics::default();
        metrics.row(Status::Ok, Some(Duration::from_millis(50)), Some(1000));
        metrics.row(Status::Ok, Some(Duration::from_millis(300)), Some(1001));
        metrics.row(Status::Timeout, Some(Duration::from_secs(99)), None);
        metrics.row(Status::InvalidUrl, None, None);
        let seconds: Vec<u64> = metrics.seconds.cumulative().into_iter().map(|(_, count)| count).collect();
        assert_eq!(seconds, [1, 1, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!((metrics.seconds.count(), metrics.bytes.count()), (3, 2));
        assert!((metrics.seconds.sum() - 99.35).abs() < 1e-9 && (metrics.bytes.sum() - 2001.0).abs() < 1e-9);
        let rows: Vec<(Status, u64)> = metrics.rows().filter(|(_, rows)| *rows > 0).collect();
        assert_eq!(rows, [(Status::Ok, 2), (Status::InvalidUrl, 1), (Status::Timeout, 1)]);
    }

    #[test]
    fn an_attempt_is_under_way_until_it_is_dropped() {
        let metrics = Metrics::default();
        let first = metrics.attempt();
        drop(metrics.attempt());
        assert_eq!((metrics.attempts(), metrics.in_flight()), (2, 1));
        drop(first);
        assert_eq!(metrics.in_flight(), 0);
    }
}
