//! Exit codes, part of the contract with scripts.

/// Done.
pub(crate) const DONE: u8 = 0;
/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or recipe; clap uses the same code.
pub(crate) const USAGE: u8 = 2;
/// Finished, but more rows failed than the recipe allows.
pub(crate) const TOO_MANY_FAILED_ROWS: u8 = 3;
/// Finished, but records were found that would break a training run or have no right loss mask.
pub(crate) const BROKEN_RECORDS: u8 = 3;
/// Interrupted: 128 + SIGINT, as shells count.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the recipe is wrong; nothing was done.
    Usage(anyhow::Error),
    /// The work failed.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

impl From<lynxdata_records::Error> for Failure {
    fn from(error: lynxdata_records::Error) -> Self {
        Failure::Failed(error.into())
    }
}
