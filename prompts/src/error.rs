//! Errors of prompt banks.

use std::io;
use std::path::PathBuf;

/// An error in a bank or in the rendering of a template. Every message names the bank and, if there
/// is one, the template.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bank on disk cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    /// A bank is not valid TOML, or its keys are wrong.
    #[error("bank `{bank}` is not a bank in TOML")]
    Syntax {
        /// Name of the bank, which is its file name without `.toml`.
        bank: String,
        /// The position and the reason.
        source: Box<toml::de::Error>,
    },
    /// The language of a file differs from that of its folder.
    #[error(
        "bank `{bank}` in the folder `{folder}` has the language `{language}`; set language = \"{folder}\" or move it"
    )]
    WrongLanguage {
        /// Name of the bank.
        bank: String,
        /// Name of the folder.
        folder: String,
        /// The language of the file.
        language: String,
    },
    /// A file has no template.
    #[error("bank `{bank}` has a file without a template; add a [[templates]] entry")]
    Empty {
        /// Name of the bank.
        bank: String,
    },
    /// A file has only templates that are not in use.
    #[error(
        "all {templates} templates of a file of bank `{bank}` are pending or rejected; read them and set review = \"accepted\" for the good ones"
    )]
    NoneAccepted {
        /// Name of the bank.
        bank: String,
        /// The number of templates.
        templates: usize,
    },
    /// The content or the name of a file is not UTF-8.
    #[error("{} is not a bank: its name and content must be UTF-8", path.display())]
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
    /// An id has characters that are not allowed.
    #[error("bank `{bank}`: the template id `{template}` must be made of a-z, 0-9 and _")]
    BadId {
        /// Name of the bank.
        bank: String,
        /// The id.
        template: String,
    },
    /// minijinja rejects a template, when it is loaded or rendered.
    #[error("bank `{bank}`, template `{template}` cannot be rendered")]
    Template {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
        /// The reason from minijinja.
        source: minijinja::Error,
    },
    /// A template rendered to an empty text.
    #[error("bank `{bank}`, template `{template}` rendered to an empty text")]
    EmptyText {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
    },
    /// A slot that the template uses has no value.
    #[error("bank `{bank}`, template `{template}` uses the slot `{slot}`, but only {} are given", given.join(", "))]
    MissingSlot {
        /// Name of the bank.
        bank: String,
        /// Id of the template.
        template: String,
        /// The slot.
        slot: String,
        /// The slots with values.
        given: Vec<String>,
    },
    /// A bank does not exist.
    #[error("there is no bank `{bank}`; the banks are {}", known.join(", "))]
    UnknownBank {
        /// The requested name.
        bank: String,
        /// All names.
        known: Vec<String>,
    },
}
