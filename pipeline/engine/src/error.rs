//! Errors of plans.

use std::path::PathBuf;

use datafusion::error::DataFusionError;

/// An error of measuring or selecting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pool part could not be measured.
    #[error("cannot measure the signals of {path}")]
    Measure {
        /// The pool part.
        path: PathBuf,
        /// DataFusion's error.
        source: DataFusionError,
    },
    /// The predicate of a rule cannot be planned over the columns.
    #[error("rule {rule:?} cannot be used: {reason}\n  predicate: {predicate}\n  columns: {columns}")]
    Rule {
        /// The rule.
        rule: String,
        /// Its predicate.
        predicate: String,
        /// DataFusion's message on one line.
        reason: String,
        /// The columns that a predicate may name.
        columns: String,
    },
    /// A predicate could not be evaluated on the rows.
    #[error("rules cannot be evaluated on {path}")]
    Evaluate {
        /// The part whose rows were tested.
        path: PathBuf,
        /// DataFusion's error.
        source: DataFusionError,
    },
}
