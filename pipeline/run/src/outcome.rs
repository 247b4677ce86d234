//! The outcome of a run: one log line at its end, and whether it went well.

use anyhow::Result;
use lynxdata_report::count as grouped;
use tracing::{info, warn};

use crate::stage::{Context, Stage};
use crate::stages::download::Download;

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The run made what was asked for.
    Done,
    /// The run made nothing useful: an empty pool, selection or set, or an invalid verdict.
    Nothing,
    /// More rows failed to download than the recipe allows.
    TooManyFailedRows,
    /// A task kept no record, or lost a larger share of its records than it may.
    TooManyLostRecords,
}

/// Logs the outcomes of stages as the last line of a run, and returns how the run ended.
///
/// # Errors
/// If the results cannot be read.
pub fn outcome(context: &Context, stages: &[&dyn Stage]) -> Result<Ending> {
    let outcomes = stages.iter().map(|stage| stage.outcome(context)).collect::<Result<Vec<_>>>()?;
    let is_bad = outcomes.iter().any(|outcome| outcome.is_bad);
    let is_lossy = outcomes.iter().any(|outcome| outcome.is_lossy);
    let too_many = stages.iter().any(|stage| stage.name() == Download.name()) && too_many_rows_failed(context);
    let line = outcomes.into_iter().flat_map(|outcome| outcome.sentences).collect::<Vec<_>>().join("; ");
    match (line.as_str(), is_bad || is_lossy || too_many) {
        ("", _) => {}
        (line, true) => warn!("{line}"),
        (line, false) => info!("{line}"),
    }
    // What was lost is why there is nothing.
    Ok(match (too_many, is_lossy, is_bad) {
        (true, ..) => Ending::TooManyFailedRows,
        (false, true, _) => Ending::TooManyLostRecords,
        (false, false, true) => Ending::Nothing,
        (false, false, false) => Ending::Done,
    })
}

/// Returns whether more rows failed to download than the recipe allows, and logs it.
fn too_many_rows_failed(context: &Context) -> bool {
    let manifest = context.run.manifest();
    let (rows, ok) =
        manifest.parts(Download.name()).fold((0, 0), |(rows, ok), part| (rows + part.rows_in, ok + part.rows_out));
    let allowed = context.recipe().download.max_failed_fraction;
    let is_so = rows > 0 && (rows - ok) as f64 / rows as f64 > allowed;
    if is_so {
        warn!(
            "{} of {} rows failed to download, more than download.max_failed_fraction = {allowed} allows",
            grouped(rows - ok),
            grouped(rows)
        );
    }
    is_so
}
