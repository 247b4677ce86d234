//! Reads lists of URLs and returns downloaded images.
//!
//! ```
//! use lynxdata_fetch::{Source, SourceConfig};
//!
//! let folder = std::env::temp_dir().join(format!("lynxdata-fetch-doc-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! std::fs::write(folder.join("cats.csv"), "link,alt\nhttps://example.org/a.jpg,A cat\nhttps://example.org/b.jpg,Two cats\n")?;
//! let config = SourceConfig { caption: Some("alt".into()), ..SourceConfig::new("cats.csv", "link") };
//! let source = Source::open(&config, &folder)?;
//! for part in source.parts(1000) {
//!     assert_eq!(part?.rows.num_rows(), 2);
//! }
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In the order in which data flows:
//!
//! * [`Source`]: files of URLs and captions, or images that exist already, read as parts of a fixed
//!   number of rows;
//! * [`objects`]: copies objects of object stores to local files;
//! * `names`: resolves host names with several name servers;
//! * [`guard`]: decides which IP addresses may be connected to;
//! * `hosts`: how many rows of a host are in flight, how often it is requested, and whether it was
//!   given up;
//! * `robots`: decides which paths a `robots.txt` allows;
//! * `client`: makes one request: resolves, connects, reads; `deadline` limits its time, `body` and
//!   `budget` its memory;
//! * `coding`: undoes content codings such as gzip, also where a server names one wrongly;
//! * `opt_out`: checks whether the headers of an answer forbid the use of its image;
//! * `retry`: computes the wait before another attempt;
//! * [`lynxdata_picture`]: detects the format of the bytes, decodes them, and makes the stored
//!   form;
//! * `spill`: keeps images that wait for the rows before them;
//! * [`Downloader`]: does all of this for a part, and gives every row one status;
//! * [`Metrics`]: counters of a running downloader.
//!
//! This crate does not use the run folder. The caller writes and commits what it returns.

mod address;
mod body;
mod budget;
mod client;
mod coding;
mod config;
mod connect;
mod deadline;
mod digest;
mod download;
mod error;
mod exchange;
pub mod guard;
mod hosts;
mod metrics;
mod names;
pub mod objects;
mod opt_out;
mod retry;
mod robots;
mod source;
mod spill;

#[cfg(test)]
#[path = "../../../tests/machine.rs"]
mod machine;

pub use address::without_userinfo;
pub use config::{DownloadConfig, PoolFormat, StoredSettings};
pub use digest::sha256;
pub use download::{Downloader, Measure, OnPairs, PAIRS_CHUNK_BYTES, status_of};
pub use error::Error;
pub use metrics::{Histogram, Metrics, NameMetrics};
pub use source::{OneOrMany, Parts, Source, SourceConfig, SourceFormat, SourcePart};

/// Checks the functions that handle the URL of a row, without the network, for the fuzz target
/// `url`.
#[doc(hidden)]
pub fn fuzz_url(text: &str) {
    address::check_invariants(text);
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
