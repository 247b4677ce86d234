//! Errors that end an audit, a plan or a rendering.

use std::path::PathBuf;

/// An error that ends the work. A problem of a single record is not an error but a
/// [`Fault`](crate::Fault).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A Parquet file cannot be read or written.
    #[error(transparent)]
    Records(#[from] lynxdata_records::Error),
    /// The table of a plan cannot be built.
    #[error("cannot build the table of packs")]
    Arrow(#[from] arrow::error::ArrowError),
    /// There is no file of conversations.
    #[error("{path} contains no file of conversations; their names end in .json, .jsonl, .ndjson or .parquet")]
    NoConversations {
        /// The folder.
        path: PathBuf,
    },
    /// A Parquet file has no column of turns.
    #[error(
        "{path} has none of the columns messages, conversations, texts and instruction; its columns are {columns}{}",
        if columns.contains("reward_model") {
            "; it is for reinforcement learning and has no answers to learn, so use the same conversations in \
             instruct/conversations or mixture/conversations.jsonl of the run"
        } else { "" }
    )]
    NoTurns {
        /// The file.
        path: PathBuf,
        /// Its columns.
        columns: String,
    },
    /// A benchmark has no reference that can be compared.
    #[error("{path} has no reference that data can be compared with: {why}")]
    NoReferences {
        /// The file or folder.
        path: PathBuf,
        /// The parts that its rows lack.
        why: String,
    },
    /// A model is unknown.
    #[error("there is no model {name}; the models are {known}; for any other model, write fixed,tokens=N")]
    UnknownModel {
        /// The requested one.
        name: String,
        /// The known names.
        known: String,
    },
    /// The model does not have a setting, or the value is not allowed.
    #[error("model {model}, setting `{setting}`: {reason}")]
    ModelSetting {
        /// The model.
        model: &'static str,
        /// The requested one.
        setting: String,
        /// The reason, with the allowed values.
        reason: String,
    },
    /// A chat template is unknown.
    #[error("there is no template {name}; the templates are {known}")]
    UnknownTemplate {
        /// The requested one.
        name: String,
        /// The known names.
        known: String,
    },
    /// A file is not a tokenizer.
    #[error("{path} is not a Hugging Face tokenizer.json: {reason}")]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The reason from the reader.
        reason: String,
    },
    /// The tokenizer and the template belong to different models.
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
