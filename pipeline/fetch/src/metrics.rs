//! Counters of a running downloader, for monitoring. They are not used for any table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lynxdata_records::Status;

use crate::names::NameCounts;

/// Upper bounds of the buckets of [`Metrics::seconds`]; seconds.
const SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of the buckets of [`Metrics::bytes`]; bytes.
const BYTES: [f64; 8] = [1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 1e7, 1e8];

/// Number of values in each of `N` buckets and beyond the last one, and their sum.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// Number of values in each bucket; `beyond` counts values above all bounds.
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    /// The sum in thousandths: a sum of integers does not depend on the order.
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

    /// Returns every bound with the number of values that do not exceed it.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let counts = self.counts.iter().scan(0, |total, count| {
            *total += count.load(Ordering::Relaxed);
            Some(*total)
        });
        self.bounds.iter().copied().zip(counts).collect()
    }

    /// Returns the number of values.
    pub fn count(&self) -> u64 {
        let within = self.cumulative().last().map_or(0, |(_, count)| *count);
        within + self.beyond.load(Ordering::Relaxed)
    }

    /// Returns the sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / 1000.0
    }
}

/// Counters of one downloader since it was created.
#[derive(Debug)]
pub struct Metrics {
    rows: Vec<AtomicU64>,
    attempts: AtomicU64,
    in_flight: AtomicU64,
    /// Time from the first request of a row to the end of its last body, without waits for a
    /// permit; seconds. Rows without a request are left out.
    pub seconds: Histogram<{ SECONDS.len() }>,
    /// Sizes of complete bodies, bytes.
    pub bytes: Histogram<{ BYTES.len() }>,
    pub(crate) names: Arc<NameCounts>,
}

/// Counters of host name look-ups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NameMetrics {
    /// Look-ups requested.
    pub look_ups: u64,
    /// Look-ups that needed no query: the answer was cached, or another look-up of the name was in
    /// flight.
    pub shared: u64,
    /// Look-ups that asked name servers and returned no address.
    pub failures: u64,
    /// Total time of the look-ups that asked name servers; seconds.
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
    /// Returns the number of finished rows, by status.
    pub fn rows(&self) -> impl Iterator<Item = (Status, u64)> + '_ {
        Status::ALL.iter().map(|status| (*status, self.rows[*status as usize].load(Ordering::Relaxed)))
    }

    /// Returns the number of requests that were started, without redirects.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns the counters of name look-ups.
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

    /// Adds the time and the body size of a row to the histograms.
    pub fn measure(&self, elapsed: Option<Duration>, bytes: Option<u64>) {
        if let Some(elapsed) = elapsed {
            self.seconds.add(elapsed.as_secs_f64());
        }
        if let Some(bytes) = bytes {
            self.bytes.add(bytes as f64);
        }
    }

    /// Counts an attempt. It counts as in flight until the returned value is dropped.
    pub(crate) fn attempt(&self) -> UnderWay<'_> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.in_flight)
    }
}

/// An attempt in flight.
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
