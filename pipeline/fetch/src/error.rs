//! Errors that stop a run: sources that cannot be read, settings that cannot be used. Bad rows and
//! bad servers are not errors; they get a status.

use std::path::{Path, PathBuf};

/// An error of a source or of the settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be opened, read or decompressed.
    #[error("cannot read {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file or folder cannot be written or created.
    #[error("cannot write {path}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Images that wait to be stored cannot be kept in temporary files, for example on a full disk.
    /// That is not the fault of any row.
    #[error(
        "cannot keep downloaded images in {folder}; make sure that there is space and that it can be written to, and run the same command again: it continues"
    )]
    Keep {
        /// The folder of the temporary files.
        folder: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// `source.path` is an empty list, or a folder in it holds no file that can be read.
    #[error("{path} holds no source file; expected names that end in {expected}{there}")]
    NoFiles {
        /// The folder, or `source.path` for an empty list.
        path: PathBuf,
        /// The suffixes that were looked for.
        expected: String,
        /// A description of the content of the folder, after a semicolon, or nothing.
        there: String,
    },
    /// The format cannot be recognised by the file name.
    #[error(
        "cannot tell the format of {path} from its name; set `format` (--input-format) to parquet, csv, tsv, jsonl, txt or webdataset (jsonl means one object per line or one array of objects, webdataset an uncompressed tar archive)"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The content of a file does not fit its format.
    #[error("cannot read {path} as {format}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The name of the format.
        format: &'static str,
        /// The message of the reader.
        reason: String,
    },
    /// `url`, `caption` or `image` names a column that is not there.
    #[error("{path} has no column {column:?} for `{key}`{hint}; it has {available}")]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The setting, `url`, `caption` or `image`.
        key: &'static str,
        /// The column that was asked for.
        column: String,
        /// The nearest name, as `, did you mean …?`, or nothing.
        hint: String,
        /// All names of the file.
        available: String,
    },
    /// `image` names a column that does not hold images.
    #[error(
        "column {column:?} of {path} does not hold images, but `image` names it; a column of images holds bytes, or structs of bytes and path, not lists"
    )]
    NoPictures {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// `url` or `caption` names a column that holds no text.
    #[error("column {column:?} of {path} is {data_type}, but `{key}` needs text")]
    NotText {
        /// The file.
        path: PathBuf,
        /// The setting, `url` or `caption`.
        key: &'static str,
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: String,
    },
    /// One extra column has two types.
    #[error(
        "column {column:?} is {first_type} in {first} but {second_type} in {second}; give it one type in all files"
    )]
    ColumnTypes {
        /// The column.
        column: String,
        /// The file that has it first.
        first: PathBuf,
        /// Its Arrow type there.
        first_type: String,
        /// The file that disagrees.
        second: PathBuf,
        /// Its Arrow type there.
        second_type: String,
    },
    /// An object store refuses or fails, or has no object of this name.
    #[error("cannot {action} {url}: {reason}{hint}")]
    Object {
        /// The action, as a verb.
        action: &'static str,
        /// The URL of the object or the common prefix of several objects, without credentials.
        url: String,
        /// The message of the store, without credentials.
        reason: String,
        /// A hint at what to do, after a semicolon, or nothing.
        hint: String,
    },
    /// A setting is out of its range.
    #[error("`{key}` {reason}")]
    Setting {
        /// The key in the recipe's section.
        key: &'static str,
        /// The fault, and the values that are allowed.
        reason: String,
    },
    /// The HTTP client cannot be built, usually because there are no root certificates.
    #[error(
        "cannot set up the HTTP client: {reason}; install the system's CA certificates, or name a PEM file as `ca_file`"
    )]
    Client {
        /// The message of the TLS library, or what is missing.
        reason: String,
    },
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Write { path: path.into(), source }
    }

    pub(crate) fn keep(folder: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Keep { folder: folder.into(), source }
    }

    /// Returns the error with the path `from` replaced by `to`.
    pub(crate) fn with_path(mut self, from: &Path, to: &Path) -> Error {
        let replace = |path: &mut PathBuf| {
            if path == from {
                to.clone_into(path);
            }
        };
        match &mut self {
            Error::Read { path, .. }
            | Error::Write { path, .. }
            | Error::NoFiles { path, .. }
            | Error::UnknownFormat { path }
            | Error::Format { path, .. }
            | Error::MissingColumn { path, .. }
            | Error::NoPictures { path, .. }
            | Error::NotText { path, .. } => replace(path),
            Error::ColumnTypes { first, second, .. } => {
                replace(first);
                replace(second);
            }
            Error::Keep { .. } | Error::Object { .. } | Error::Setting { .. } | Error::Client { .. } => {}
        }
        self
    }

    pub(crate) fn setting(key: &'static str, reason: impl Into<String>) -> Self {
        Error::Setting { key, reason: reason.into() }
    }
}
