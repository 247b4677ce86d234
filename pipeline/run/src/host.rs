//! What a run tells and asks the program that runs it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lynxdata_burn_model::DeviceName;
use lynxdata_burn_model::doctor::{Examination, examine};
use lynxdata_records::RunFolder;

/// The program that runs recipes. Every method does by default what suits a program without a
/// terminal.
pub trait Host: Send + Sync {
    /// Hears of a run folder that was opened, whose unfinished files an interrupt should remove
    /// with [`RunFolder::halt`].
    fn opened(&self, _run: &Arc<RunFolder>) {}

    /// Begins to show the progress of a stage; `parts` is how many it has, if that is known.
    fn stage(&self, _name: &'static str, _parts: Option<u64>) -> Arc<dyn StageProgress> {
        Arc::new(Silent)
    }

    /// Examines whether a device computes right numbers. A broken driver may end the process, so a
    /// program that can should do this in a process of its own.
    fn examine(&self, device: &DeviceName) -> Result<Examination> {
        Ok(examine(device)?)
    }
}

/// The progress of one stage.
pub trait StageProgress: Send + Sync {
    /// Counts a row that is done.
    fn row_done(&self, _succeeded: bool) {}

    /// Counts a part that is done.
    fn part_done(&self) {}

    /// Shows something else about the work, such as a loss.
    fn note(&self, _text: &str) {}

    /// Ends the stage, with the numbers of parts that were made and that were there already.
    fn finish(&self, _made: u64, _skipped: u64, _elapsed: Duration) {}
}

/// A host that shows nothing.
pub struct Silent;

impl Host for Silent {}

impl StageProgress for Silent {}
