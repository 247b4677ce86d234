//! The one error type of this crate.

use std::path::PathBuf;

/// An error while a model is built, trained, saved or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range or contradicts another one.
    #[error("{setting} = {value} does not work: {reason}")]
    Setting {
        /// The key as it is written in the recipe.
        setting: &'static str,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        reason: String,
    },
    /// An arm, the held-out set or the images cannot be used for training or evaluation.
    #[error("the {set} cannot be used: {reason}")]
    Data {
        /// `arm`, `held-out set` or `set of images`.
        set: &'static str,
        /// The fault of the data.
        reason: String,
    },
    /// The tokenizer could not be trained, read or applied.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// The message of the tokenizer library, or what is wrong with the tokenizer.
        reason: String,
    },
    /// A checkpoint of another model, arm, seed or setting exists.
    #[error("checkpoint {path} belongs to another run; delete it to start this one from its first step")]
    OtherRun {
        /// The checkpoint file.
        path: PathBuf,
    },
    /// A checkpoint cannot be read.
    #[error("checkpoint {path} is damaged ({reason}); delete it to start from the first step")]
    Damaged {
        /// The checkpoint file.
        path: PathBuf,
        /// The fault in it.
        reason: String,
    },
    /// A pretrained or saved model cannot be read, or has a property that the model here does not
    /// support.
    #[error("{path}: {reason}")]
    Pretrained {
        /// The file.
        path: PathBuf,
        /// The missing, wrong or unsupported part.
        reason: String,
    },
    /// A tensor of a pretrained model is missing, damaged or of another shape.
    #[error("{path}: {tensor}: {reason}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name in the file.
        tensor: String,
        /// The missing or wrong part.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The machine does not have the device, or this build has no backend for it.
    #[error("device {name} is not available; this machine has: {there} (backends of this build: {backends})")]
    NoDevice {
        /// The device that was asked for.
        name: String,
        /// The available devices.
        there: String,
        /// The backends of this build.
        backends: String,
    },
    /// The thread on which a run computes could not be started.
    #[error("no thread could be started for training: {reason}")]
    Thread {
        /// The message of the thread pool.
        reason: String,
    },
}

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
