//! What stops a build. What is wrong with a single row never does: it is counted in
//! [`crate::TaskCounts`].

use std::io;
use std::path::PathBuf;

/// What stops a build, an export or the loading of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that exists cannot be read, or an export cannot be written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An archive of pictures cannot be read.
    #[error("archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A program that is needed is not installed.
    #[error(
        "there is no program `{program}`, which reads videos: install ffmpeg (`apt-get install ffmpeg`, `brew install \
         ffmpeg`), or put a folder of frames in the place of each video"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// A native file is not where the task says.
    #[error(
        "task {task}, table {table}: there is no {} (nor the same with .gz, .bz2 or .zst, nor a zip or \
         tar archive there that holds it); the published splits are {}",
        path.display(),
        splits.join(", ")
    )]
    MissingFile {
        /// Name of the task.
        task: String,
        /// Name of the table.
        table: String,
        /// Where the file was expected.
        path: PathBuf,
        /// The splits that the task's authors publish.
        splits: Vec<String>,
    },
    /// A native file is not on the disk, and several archives hold it.
    #[error(
        "there is no {}, and both {first} and {second} hold it; unpack the right one, or take the other one away",
        path.display()
    )]
    InSeveralArchives {
        /// Where the file was expected.
        path: PathBuf,
        /// The first member of an archive, from the root folder on.
        first: String,
        /// The second one.
        second: String,
    },
    /// A native file as a whole cannot be understood: broken JSON, no such place in it.
    #[error("task {task}, table {table}, file {file}: {reason}")]
    NativeFile {
        /// Name of the task.
        task: String,
        /// Name of the table.
        table: String,
        /// The file, from the root folder on.
        file: String,
        /// What is wrong and where.
        reason: String,
    },
    /// A task file of the catalogue is faulty.
    #[error("task file {file}: {reason}")]
    TaskFile {
        /// The file.
        file: String,
        /// What is wrong, with the key or expression.
        reason: String,
    },
    /// A task has no wordings for its records in the language that was asked for.
    #[error("task {task} cannot be worded in `{language}`: {reason}")]
    Language {
        /// Name of the task.
        task: String,
        /// The language asked for, as an ISO 639 code.
        language: String,
        /// What is missing, and which languages there are.
        reason: String,
    },
    /// A file of collections of pictures is faulty.
    #[error("collections {file}: {reason}")]
    Collections {
        /// The file.
        file: String,
        /// What is wrong, with the collection and the key.
        reason: String,
    },
    /// A task that does not exist.
    #[error("there is no task `{name}`; `lynxdata tasks list` names them all")]
    UnknownTask {
        /// The name asked for.
        name: String,
    },
    /// A prompt bank is missing or faulty.
    #[error(transparent)]
    Prompts(#[from] lynxdata_prompts::Error),
    /// Not one record became a conversation, as when the task file does not fit the native files.
    #[error(
        "task {task}: none of {records} records became a conversation ({}); the first of most of them is: {example}",
        reasons.join(", ")
    )]
    NothingKept {
        /// Name of the task.
        task: String,
        /// How many records there were.
        records: u64,
        /// Every reason and its count.
        reasons: Vec<String>,
        /// The full message of the first one of the most frequent reason.
        example: String,
    },
    /// Too many answers do not have the shape that the task says they have.
    #[error(
        "task {task}: {percent:.0} % of its answers that are said to be a {shape} are none, more than {most:.0} %; \
         give them under another shape in [answers]; the first is: {example}"
    )]
    AnswerShape {
        /// Name of the task.
        task: String,
        /// The shape.
        shape: String,
        /// How many of a hundred do not have it.
        percent: f64,
        /// How many of a hundred may not have it.
        most: f64,
        /// The full message of the first.
        example: String,
    },
    /// Too many records were dropped, as when the task file does not fit some of the native files.
    #[error(
        "task {task}: {percent:.0} % of its records were dropped, more than {most:.0} % ({}); `may_drop` in the task \
         file allows more; the first of most of them is: {example}",
        reasons.join(", ")
    )]
    TooMuchDropped {
        /// Name of the task.
        task: String,
        /// How many of a hundred were dropped.
        percent: f64,
        /// How many of a hundred may be dropped.
        most: f64,
        /// Every reason and its count.
        reasons: Vec<String>,
        /// The full message of the first one of the most frequent reason.
        example: String,
    },
    /// A mixture that cannot be met.
    #[error("mixture: {0}")]
    Mixture(String),
    /// A file of an export cannot be written.
    #[error(transparent)]
    Records(#[from] lynxdata_records::Error),
    /// Arrow refused the columns.
    #[error("cannot build the columns of the Parquet export")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The pictures of one batch exceed what an Arrow binary column can hold.
    #[error("{bytes} bytes of pictures do not fit one batch (at most 2147483647); export fewer conversations at once")]
    BatchTooLarge {
        /// Sum of the pictures' sizes.
        bytes: u64,
    },
}
