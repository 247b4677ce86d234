//! Errors of run folders and parts. Their messages say what to do.

use std::path::PathBuf;

/// An error of the run folder, a part or one of the two file formats.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process works in the same folder.
    #[error("{path} is in use by another lynxdata process; wait for it, or choose another output folder")]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// The process was interrupted and changes the folder no more.
    #[error("{path} was left as it is, because this process was interrupted; run the same command again to continue")]
    Halted {
        /// The run folder.
        path: PathBuf,
    },
    /// A folder that holds files but no run.
    #[error("{path} holds files but no lynxdata manifest; choose an empty or new folder for the run")]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without a run, where one was expected.
    #[error("{path} is not a run folder: it has no manifest.jsonl")]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A manifest line other than the last cannot be read.
    #[error("{path}:{line} is not a manifest line ({reason}); restore the file, or start a new run folder")]
    Manifest {
        /// The manifest file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// The message of the JSON parser.
        reason: String,
    },
    /// A file of a part is missing, or its content is not what was committed.
    #[error(
        "{path} is gone or damaged: its content is not what was committed\nhint: `lynxdata verify {run}` names every such file; with --remove it removes them, \
         and the command that made them makes them again"
    )]
    Damaged {
        /// The file, or the folder of files.
        path: PathBuf,
        /// The run folder.
        run: PathBuf,
    },
    /// The counts of a part do not add up to its input rows.
    #[error(
        "part {part} of stage {stage} read {rows_in} rows but accounts for {counted}; this is a bug, please report it"
    )]
    Counts {
        /// The stage.
        stage: String,
        /// The part.
        part: String,
        /// Rows read.
        rows_in: u64,
        /// Sum of the counts.
        counted: u64,
    },
    /// Parquet could not be read or written.
    #[error("cannot {action} Parquet file {path}: {source}")]
    Parquet {
        /// The action, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The message of the Parquet library.
        source: ::parquet::errors::ParquetError,
    },
    /// A table has no column of this name and type.
    #[error("{path} has no column {column} of type {expected}")]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type that was needed.
        expected: &'static str,
    },
    /// A WebDataset key or extension that readers would split or skip, or that occurs twice.
    #[error("{name:?} cannot be a WebDataset {kind}: {reason}")]
    MemberName {
        /// `key` or `extension`.
        kind: &'static str,
        /// The offending name.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { action, path: path.into(), source }
    }
}
