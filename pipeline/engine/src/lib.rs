//! Measures signals, finds duplicates and evaluates rules on the parts of a pool. This is the only
//! crate that depends on DataFusion.
//!
//! In the order in which data flows:
//!
//! * [`session`]: makes a DataFusion session in which every signal that needs no model is an SQL
//!   function of the same name;
//! * [`signals`]: measures a group of signals in one scan of a pool part, and makes its table;
//! * [`dedup`]: finds clusters of duplicate pairs, and decides which pairs of them are kept;
//! * [`select`]: evaluates rules, which are SQL predicates over the columns of a pair.
//!
//! Only the scan that measures signals reads image bytes. Deduplication and rules use numbers,
//! texts and hashes. This crate writes no files and no manifest; the stages in `lynxdata-run` do
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
