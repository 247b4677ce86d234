//! The check: is one arm better training data than the other?
//!
//! [`planned_runs`] says which runs to make, [`compare`] what their results mean. In between, the caller makes the runs, in
//! any order and at any pace.

mod plan;
mod statistics;
mod verdict;

pub use plan::{CheckConfig, PlannedRun, planned_runs};
pub use statistics::{PairedDifference, paired_difference, student_t_cdf, student_t_quantile};
pub use verdict::{Better, CheckOutcome, MetricComparison, Verdict, compare};
