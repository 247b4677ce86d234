//! What can be wrong with predictions and references.

use crate::place::Place;

/// The reason why there is no score.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a line of it is no JSON.
    #[error("{place}: not JSON: {reason}; a file holds one JSON value, or one JSON object a line")]
    NotJson {
        /// File and line.
        place: Place,
        /// The message of the JSON reader.
        reason: String,
    },
    /// JSON, but no rows.
    #[error(
        "{file}: {what}; a file of {rows} is a list of objects, one object a line, or one of the official formats in \
         docs/evaluation.md"
    )]
    NoRows {
        /// The file.
        file: String,
        /// What it is instead of that.
        what: String,
        /// Predictions or references.
        rows: &'static str,
    },
    /// A row lacks a field, whatever it may be called.
    #[error("{place}: no {what}; it may be called {}{hint}", names.join(", "))]
    NoField {
        /// File and line.
        place: Place,
        /// The missing part.
        what: &'static str,
        /// The names under which it would be found.
        names: &'static [&'static str],
        /// A hint at what to do, or nothing.
        hint: &'static str,
    },
    /// A field has a value that it cannot have.
    #[error("{place}: {field} is {value}, but has to be {wanted}")]
    BadField {
        /// File and line.
        place: Place,
        /// The field.
        field: String,
        /// Its value, shortened.
        value: String,
        /// The required form.
        wanted: &'static str,
    },
    /// Two rows of one file have one id.
    #[error("{place}: id {id} was there before ({first}); each question has one row, remove one of the two")]
    DuplicateId {
        /// The second row.
        place: Place,
        /// The first row.
        first: Place,
        /// The id.
        id: String,
    },
    /// A prediction for a question that is not asked.
    #[error(
        "{place}: id {id} is not among the references{more}; are the files of the same split? a reference is there for \
         id {example}, for example"
    )]
    UnknownId {
        /// The row of the prediction.
        place: Place,
        /// The id.
        id: String,
        /// The number of others, or nothing.
        more: String,
        /// An id that is known.
        example: String,
    },
    /// There is nothing to score.
    #[error("{file} holds no {rows}")]
    Empty {
        /// The files.
        file: String,
        /// Predictions or references.
        rows: &'static str,
    },
    /// A reference cannot be used with the metric.
    #[error("{place}: id {id}: {metric} needs {needs}")]
    Unfit {
        /// The row of the reference.
        place: Place,
        /// The id.
        id: String,
        /// The metric.
        metric: &'static str,
        /// What the metric needs, and what is there.
        needs: String,
    },
    /// The metric has no variant without quirks.
    #[error("{metric} has no strict variant; leave out --strict ({with} have one)")]
    NoStrictVariant {
        /// The metric.
        metric: &'static str,
        /// Metrics that have one.
        with: String,
    },
}

/// A result with the error of this crate.
pub type Result<T> = std::result::Result<T, Error>;
