//! Exit codes, part of the contract with scripts.

use lynxdata_run::Ending;
pub(crate) use lynxdata_run::Failure;

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

/// Returns the exit code of a run that was done.
pub(crate) fn code(ending: Ending) -> u8 {
    match ending {
        Ending::Done => DONE,
        Ending::Nothing => FAILED,
        Ending::TooManyFailedRows => TOO_MANY_FAILED_ROWS,
    }
}
