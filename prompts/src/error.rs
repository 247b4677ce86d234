//! What can be wrong with a bank.

use std::io;
use std::path::PathBuf;

/// What can be wrong with a bank or with filling a template; every message names the bank and,
/// where there is one, the template.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bank on disk cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A bank is not the TOML that is expected.
    #[error("bank `{bank}` is not a bank in TOML")]
    Syntax {
        /// Name of the bank, which is its file name without `.toml`.
        bank: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A file in the folder of a language that says to be of another.
    #[error(
        "bank `{bank}` in the folder `{folder}` is of language `{language}`; say language = \"{folder}\" or move it"
    )]
    WrongLanguage {
        /// Name of the bank.
        bank: String,
        /// Name of the folder.
        folder: String,
        /// The language of the file.
        language: String,
    },
    /// A file without a template that is used.
    #[error("bank `{bank}` has a file without a template that is used; add a [[templates]] entry")]
    Empty {
        /// Name of the bank.
        bank: String,
    },
    /// A bank on disk that is not UTF-8 or whose name is not.
    #[error("{} is not a bank: names and contents are UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Two templates of a bank share an id.
    #[error("bank `{bank}` has two templates with the id `{template}`; records name templates by id, so rename one")]
    DuplicateId {
        /// Name of the bank.
        bank: String,
        /// The shared id.
        template: String,
    },
    /// An id that could not stand in a table or file name.
    #[error("bank `{bank}`: the template id `{template}` must be made of a-z, 0-9 and _")]
    BadId {
        /// Name of the bank.
        bank: String,
        /// The id.
        template: String,
    },
    /// A template that minijinja refuses, when loaded or when filled.
    #[error("bank `{bank}`, template `{template}` cannot be rendered")]
    Template {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
        /// minijinja's reason.
        source: minijinja::Error,
    },
    /// A template came out empty.
    #[error("bank `{bank}`, template `{template}` rendered to nothing")]
    EmptyText {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
    },
    /// The caller leaves out a slot that the template uses.
    #[error("bank `{bank}`, template `{template}` uses the slot `{slot}`, but only {} are given", given.join(", "))]
    MissingSlot {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
        /// The slot.
        slot: String,
        /// What the caller gave.
        given: Vec<String>,
    },
    /// A bank that does not exist.
    #[error("there is no bank `{bank}`; the banks are {}", known.join(", "))]
    UnknownBank {
        /// The name asked for.
        bank: String,
        /// All names.
        known: Vec<String>,
    },
}
