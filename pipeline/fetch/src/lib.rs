//! Sources of URLs in, downloaded pictures out.
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
//! * [`Source`]: files of URLs and captions, or pictures that are already there, read as parts of a fixed number of rows;
//! * [`objects`]: the same from object stores, by local copies;
//! * [`guard`]: which addresses may be connected to;
//! * `hosts`: how many rows of a host are in flight, and whether it is dead;
//! * `client`: one attempt at one URL: resolving, connecting, redirects, size cap;
//! * `opt_out`: whether an answer's headers say that the picture is not to be used;
//! * `retry`: whether and when to try again;
//! * [`picture`]: what the bytes are, whether they decode, and the stored form;
//! * [`Downloader`]: all of it for a part, with one status for every row.
//!
//! It writes no file and knows no run folder: the caller commits what it returns. It does not obey robots.txt, use proxies or colour
//! profiles.

mod address;
mod client;
mod config;
mod download;
mod error;
pub mod guard;
mod hosts;
pub mod objects;
mod opt_out;
pub mod picture;
mod retry;
mod source;

pub use config::DownloadConfig;
pub use download::{DownloadedPart, Downloader, sha256};
pub use error::Error;
pub use source::{OneOrMany, Parts, Source, SourceConfig, SourceFormat, SourcePart};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
