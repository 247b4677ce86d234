//! The interface between a run and the program that runs it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lynxdata_burn_model::DeviceName;
use lynxdata_burn_model::doctor::{Examination, examine};
use lynxdata_engine::{Session, session};
use lynxdata_records::RunFolder;

/// The program that runs recipes. The default methods suit a program without a terminal.
pub trait Host: Send + Sync {
    /// Receives a run folder that was opened. An interrupt should remove its unfinished files with
    /// [`RunFolder::halt`].
    fn opened(&self, _run: &Arc<RunFolder>) {}

    /// Returns the database session of rules and signals. A program may return one with another
    /// configuration, if it has the functions of [`session::local`].
    fn session(&self) -> Session {
        session::local()
    }

    /// Begins to show the progress of a stage; `parts` is the number of its parts, if that is
    /// known.
    fn stage(&self, _name: &'static str, _parts: Option<u64>) -> Arc<dyn StageProgress> {
        Arc::new(Silent)
    }

    /// Examines whether a device computes correct numbers. A broken driver may crash the process,
    /// so a program should do this in a separate process if it can.
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

    /// Shows another fact about the work, such as a loss.
    fn note(&self, _text: &str) {}

    /// Ends the stage, with the number of parts that were made and that existed already.
    fn finish(&self, _made: u64, _skipped: u64, _elapsed: Duration) {}
}

/// A host that shows nothing.
pub struct Silent;

impl Host for Silent {}

impl StageProgress for Silent {}
