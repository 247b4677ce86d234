//! Shared by all lynxdata crates: the key of a pair, the status of a download, the schemas of the
//! tables, and the folder in which a run keeps its parts.
//!
//! ```
//! use lynxdata_records::{RunFolder, NewPart, fingerprint};
//!
//! let folder = std::env::temp_dir().join(format!("lynxdata-records-doc-{}", std::process::id()));
//! let run = RunFolder::open(&folder)?;
//! let print = fingerprint(["example", "settings", "input"]);
//! if run.committed("example", "00000", &print).is_none() {
//!     let mut part = NewPart::new("example", "00000", print.clone());
//!     std::fs::write(run.stage_file(&mut part, "example/part-00000.txt")?, "one row\n")?;
//!     part.rows_in = 1;
//!     part.rows_out = 1;
//!     run.commit(part)?;
//! }
//! assert!(run.committed("example", "00000", &print).is_some());
//! # drop(run);
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In the order in which data meets them:
//!
//! * [`uid`]: the key of a pair;
//! * [`Status`]: the outcome of a row of a source; every row has exactly one;
//! * [`schema`]: the columns of every table, and the metadata that Hugging Face `datasets` reads;
//! * [`parquet`] and [`webdataset`]: the two file formats that parts are written in;
//! * [`sqlite`]: writes the databases that index archives;
//! * [`text`] and [`python_json`]: foreign text as UTF-8, and foreign JSON as standard JSON;
//! * [`MeasuredFile`]: a file whose digest is computed while it is written;
//! * [`temporary`]: lists that may not fit into memory, and their sorting;
//! * [`RunFolder`]: atomic commits and the manifest that makes runs resumable;
//! * [`nearest`]: the valid name that a mistyped one probably means;
//! * [`card`]: the dataset card beside published shards.
//!
//! This crate uses no network, no clock, no SQL engine and no model. The crates that import it do
//! the work.

pub mod card;
pub mod cell;
mod error;
mod key;
mod manifest;
mod measured;
mod missing;
mod nearest;
pub mod parquet;
pub mod python_json;
mod rewritten;
mod run_folder;
pub mod schema;
pub mod sqlite;
mod status;
pub mod temporary;
pub mod text;
pub mod webdataset;

#[cfg(test)]
#[path = "../../../tests/machine.rs"]
mod machine;

pub use error::Error;
pub use key::{fingerprint, uid};
pub use manifest::{FileEntry, Manifest, PartEntry, StageEntry};
pub use measured::{Measured, MeasuredFile};
pub use missing::nan_as_null;
pub use nearest::nearest;
pub use rewritten::{Rewrite, Rewritten};
pub use run_folder::{NewPart, RunFolder, file_digest};
pub use status::{RetryClass, Status};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
