//! What ends an audit, a plan or a rendering.

use std::path::PathBuf;

/// Why there is no outcome. What is wrong with a record is no error: see [`Fault`](crate::Fault).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read or put into its place.
    #[error("cannot read or write {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A Parquet file cannot be read or written.
    #[error(transparent)]
    Records(#[from] lynxdata_records::Error),
    /// A table of a plan cannot be built.
    #[error("cannot build the table of packs")]
    Arrow(#[from] arrow::error::ArrowError),
    /// There is no file of conversations.
    #[error("{path} holds no file of conversations; their names end in .json, .jsonl, .ndjson or .parquet")]
    NoConversations {
        /// The folder.
        path: PathBuf,
    },
    /// A Parquet file without a column of turns.
    #[error("{path} has none of the columns messages, conversations and texts; its columns are {columns}")]
    NoTurns {
        /// The file.
        path: PathBuf,
        /// Its columns.
        columns: String,
    },
    /// A model whose arithmetic is not known.
    #[error("there is no model {name}; known are {known}, and for any other fixed,tokens=N")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// A setting that the model does not have, or not with this value.
    #[error("model {model}, setting `{setting}`: {reason}")]
    ModelSetting {
        /// The model.
        model: &'static str,
        /// What was asked for.
        setting: String,
        /// What it has instead.
        reason: String,
    },
    /// A chat template of another name.
    #[error("there is no template {name}; known are {known}")]
    UnknownTemplate {
        /// What was asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// A file that is no tokenizer.
    #[error("{path} is no tokenizer.json of Hugging Face: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A tokenizer of another model than the template's.
    #[error(
        "the tokenizer has no token {token}, by which the template {template} ends or begins a turn; it belongs to another model"
    )]
    NoToken {
        /// The missing token.
        token: &'static str,
        /// The template.
        template: &'static str,
    },
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
