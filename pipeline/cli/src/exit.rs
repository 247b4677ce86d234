//! Exit codes. Scripts depend on them.

use lynxdata_run::Ending;
pub(crate) use lynxdata_run::Failure;

/// Success.
pub(crate) const DONE: u8 = 0;
/// Failure.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or an invalid recipe; clap uses the same code.
pub(crate) const USAGE: u8 = 2;
/// Finished, but more rows failed than the recipe allows.
pub(crate) const TOO_MANY_FAILED_ROWS: u8 = 3;
/// Finished, but a task kept no record, or lost a larger share of its records than it may.
pub(crate) const TOO_MANY_LOST_RECORDS: u8 = 3;
/// Finished, but some records would break a training run or have no correct loss mask.
pub(crate) const BROKEN_RECORDS: u8 = 3;
/// Interrupted: 128 + SIGINT, as in shells.
pub(crate) const INTERRUPTED: u8 = 130;

/// Returns the exit code of a finished run.
pub(crate) fn code(ending: Ending) -> u8 {
    match ending {
        Ending::Done => DONE,
        Ending::Nothing => FAILED,
        Ending::TooManyFailedRows => TOO_MANY_FAILED_ROWS,
        Ending::TooManyLostRecords => TOO_MANY_LOST_RECORDS,
    }
}
