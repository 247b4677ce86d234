//! Errors that stop a build. An error in a single row never stops one: it is counted in
//! [`crate::TaskCounts`].

use std::io;
use std::path::PathBuf;

/// An error that stops a build, an export or the loading of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that exists cannot be read, an export cannot be written, or a program or thread
    /// cannot be started.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    /// An archive of images or native files cannot be read.
    #[error("archive {}: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// A required program is not installed.
    #[error(
        "the program `{program}`, which reads videos, is not installed: install ffmpeg (`apt-get install ffmpeg`, `brew install \
         ffmpeg`), or put a folder of frames in the place of each video"
    )]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// A native file is missing.
    #[error(
        "task {task}, table {table}: there is no {} (nor the same with .gz, .bz2 or .zst, nor a zip or \
         tar archive there that holds it); the published splits are {}{unread}",
        path.display(),
        splits.join(", ")
    )]
    MissingFile {
        /// Name of the task.
        task: String,
        /// Name of the table.
        table: String,
        /// The path at which the file was expected.
        path: PathBuf,
        /// The splits that the task's authors publish.
        splits: Vec<String>,
        /// The archives there that cannot be read, as the end of the message.
        unread: String,
    },
    /// A split of a task that has no such split.
    #[error("task {task} has no split {split:?}; it has {}", splits.join(", "))]
    UnknownSplit {
        /// Name of the task.
        task: String,
        /// The name that was given.
        split: String,
        /// The splits that it has.
        splits: Vec<String>,
    },
    /// The name of a split leads to other folders, or is a pattern.
    #[error("{split:?} cannot be a split of task {task}: it must not be empty or contain / \\ * {{ }} or ..")]
    SplitName {
        /// Name of the task.
        task: String,
        /// The name that was given.
        split: String,
    },
    /// A native file is not on disk, and several archives contain it.
    #[error(
        "{} is not unpacked, and both {first} and {second} contain it; unpack the right one, or move the other one away",
        path.display()
    )]
    InSeveralArchives {
        /// The path at which the file was expected.
        path: PathBuf,
        /// The first archive member, as a path from the root folder.
        first: String,
        /// The second archive member.
        second: String,
    },
    /// A native file as a whole cannot be parsed: broken JSON, or the path in it does not exist.
    #[error("task {task}, table {table}, file {file}: {reason}")]
    NativeFile {
        /// Name of the task.
        task: String,
        /// Name of the table.
        table: String,
        /// The file, as a path from the root folder.
        file: String,
        /// The fault and its place.
        reason: String,
    },
    /// A task file of the catalogue is invalid.
    #[error("task file {file}: {reason}")]
    TaskFile {
        /// The file.
        file: String,
        /// The fault, with the key or expression.
        reason: String,
    },
    /// A task has no wordings for its records in the requested language.
    #[error("task {task} cannot be worded in `{language}`: {reason}")]
    Language {
        /// Name of the task.
        task: String,
        /// The requested language, as an ISO 639 code.
        language: String,
        /// The missing part, and the languages that exist.
        reason: String,
    },
    /// A file of image collections is invalid.
    #[error("collections {file}: {reason}")]
    Collections {
        /// The file.
        file: String,
        /// The fault, with the collection and the key.
        reason: String,
    },
    /// A task that does not exist.
    #[error("there is no task `{name}`; `lynxdata tasks list` lists all tasks")]
    UnknownTask {
        /// The requested name.
        name: String,
    },
    /// A prompt bank is missing or invalid.
    #[error(transparent)]
    Prompts(#[from] lynxdata_prompts::Error),
    /// No record became a conversation, for example because the task file does not fit the native
    /// files.
    #[error(
        "task {task}: none of {records} records became a conversation ({}); the first case of the most frequent reason: {example}",
        reasons.join(", ")
    )]
    NothingKept {
        /// Name of the task.
        task: String,
        /// The number of records.
        records: u64,
        /// Every reason and its count.
        reasons: Vec<String>,
        /// The full message of the first record that was dropped for the most frequent reason.
        example: String,
    },
    /// The files of a task have no record.
    #[error("task {task}: its files below {} have no records", root.display())]
    NoRecords {
        /// Name of the task.
        task: String,
        /// The folder of its files.
        root: PathBuf,
    },
    /// Too many answers do not have the shape that the task declares.
    #[error(
        "task {task}: {percent:.0} % of the answers that it declares as {shape} do not have this shape, more than {most:.0} %; \
         declare them under another shape in [answers]; the first case: {example}"
    )]
    AnswerShape {
        /// Name of the task.
        task: String,
        /// The shape.
        shape: String,
        /// The percentage of answers without the shape.
        percent: f64,
        /// The percentage that is allowed.
        most: f64,
        /// The full message of the first such answer.
        example: String,
    },
    /// Too many records were dropped, for example because the task file does not fit some of the
    /// native files.
    #[error(
        "task {task}: {percent:.0} % of its records were dropped, more than {most:.0} % ({}); set `may_drop` of the task in \
         the recipe or in the task file to allow more; the first case of the most frequent reason: {example}",
        reasons.join(", ")
    )]
    TooMuchDropped {
        /// Name of the task.
        task: String,
        /// The percentage of records that were dropped.
        percent: f64,
        /// The percentage that may be dropped.
        most: f64,
        /// Every reason and its count.
        reasons: Vec<String>,
        /// The full message of the first record that was dropped for the most frequent reason.
        example: String,
    },
    /// There is no mixture of this name.
    #[error("there is no mixture {name:?}; the mixtures are: {}{hint}", all.join(", "))]
    UnknownMixture {
        /// The unknown name.
        name: String,
        /// The names of all mixtures.
        all: Vec<&'static str>,
        /// The nearest name, as the end of the message.
        hint: String,
    },
    /// A mixture that is invalid or impossible.
    #[error("mixture: {0}")]
    Mixture(String),
    /// A file of an export cannot be written.
    #[error(transparent)]
    Records(#[from] lynxdata_records::Error),
    /// Arrow rejected the columns.
    #[error("cannot build the columns of the Parquet export")]
    Arrow(#[from] arrow::error::ArrowError),
    /// The images of one batch exceed the capacity of an Arrow binary column.
    #[error("{bytes} bytes of images do not fit one batch (at most 2147483647); export fewer conversations at once")]
    BatchTooLarge {
        /// Total size of the images.
        bytes: u64,
    },
}
