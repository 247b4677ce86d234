//! Errors of predictions and references.

use crate::place::Place;

/// The reason why no score can be computed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a line of it is not JSON.
    #[error("{place}: not JSON: {reason}; a file holds one JSON value, or one JSON object per line")]
    NotJson {
        /// File and line.
        place: Place,
        /// The message of the JSON reader.
        reason: String,
    },
    /// A file is JSON, but has no rows.
    #[error(
        "{file}: {what}; a file of {rows} is a list of objects, one object per line, or one of the official formats in \
         docs/evaluation.md"
    )]
    NoRows {
        /// The file.
        file: String,
        /// A description of its actual content.
        what: String,
        /// Predictions or references.
        rows: &'static str,
    },
    /// A row has no field with any of the allowed names.
    #[error("{place}: no {what}; its field can be called {}{hint}", names.join(", "))]
    NoField {
        /// File and line.
        place: Place,
        /// The missing part.
        what: &'static str,
        /// The names that the field may have.
        names: &'static [&'static str],
        /// A hint at what to do, or an empty text.
        hint: &'static str,
    },
    /// A field has a value that is not allowed.
    #[error("{place}: {field} is {value}, but must be {wanted}")]
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
    /// Two rows have the same id.
    #[error("{place}: id {id} occurs twice, first in {first}; each question has one row, so remove one of the two")]
    DuplicateId {
        /// The second row.
        place: Place,
        /// The first row.
        first: Place,
        /// The id.
        id: String,
    },
    /// A prediction for a question that is not among the references.
    #[error(
        "{place}: id {id} is not among the references{more}; do the files belong to the same split? There is a reference for \
         id {example}, for example"
    )]
    UnknownId {
        /// The row of the prediction.
        place: Place,
        /// The id.
        id: String,
        /// The number of other such ids, or an empty text.
        more: String,
        /// An id that is known.
        example: String,
    },
    /// No field has another id in every reference.
    #[error(
        "{place}: {field} {id} occurs twice, first in {first}; give every reference an id that no other has, as id, and \
         every prediction that of its reference"
    )]
    RepeatedId {
        /// The second row.
        place: Place,
        /// The first row.
        first: Place,
        /// The field of the id.
        field: &'static str,
        /// The id.
        id: String,
    },
    /// The id of a row may be another id than that of the references.
    #[error(
        "{place}: its id is {own}, but rows are joined by {key}, because the references also have {others}; give every row \
         the {key} of its reference"
    )]
    OtherKey {
        /// The row.
        place: Place,
        /// The field of its id.
        own: String,
        /// The field of the id of the references.
        key: &'static str,
        /// Their other fields with ids.
        others: String,
    },
    /// A row has two fields that may both be its answer.
    #[error("{place}: both {first} and {second} may hold the answer of the model; rename the right one to prediction")]
    TwoAnswers {
        /// The row.
        place: Place,
        /// A field.
        first: &'static str,
        /// The other field.
        second: &'static str,
    },
    /// A file has nothing to score.
    #[error("{file} has no {rows}")]
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
        /// The needs of the metric, and what the reference has.
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
