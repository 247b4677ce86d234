//! Signals, deduplication and selection as plans over the parts of a pool. This is the only crate
//! that uses DataFusion.
//!
//! In the order in which data flows:
//!
//! * [`session`]: a DataFusion session in which every signal is an SQL function of the same name;
//! * [`signals`]: one scan of a pool part, which decodes each image once and measures all signals;
//! * [`dedup`]: clusters of duplicate pairs;
//! * [`select`]: rules as SQL predicates over signals, and one kept pair per cluster.
//!
//! Image bytes never leave the scan that measures them: everything after it works on numbers, texts
//! and hashes. This crate writes no files and no manifest. The stages in the command line crate do
//! that.

pub mod dedup;
mod error;
mod functions;
pub mod select;
pub mod session;
pub mod signals;

pub use datafusion::prelude::SessionContext as Session;
pub use error::Error;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
