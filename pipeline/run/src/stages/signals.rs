//! Stage `signals`: every pair of the pool is measured once, into a table beside it.
//!
//! If the same run downloads, that happens on the way, from the pixels that are in the stored file, so that no picture is decoded twice; each part of the table is
//! committed behind its part of the pool. What is left, such as parts that grew or came from an interrupted run, is measured by the stage, with the same outcome.

use std::time::Instant;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use lynxdata_engine::signals;
use lynxdata_fetch::{Measure, Measured};
use lynxdata_filters::{ImageData, SIGNALS, Sample, Value, measure_all};
use lynxdata_picture::DynamicImage;
use lynxdata_records::{NewPart, PartEntry, fingerprint, parquet, schema};

use super::{Context, Parts, Planned, Stage, table};
use crate::recipe::Recipe;

/// Raise it when a signal gives another value for the same pair.
const FORMAT_VERSION: &str = "4";

/// The folder of the signal table.
pub const FOLDER: &str = "signals";

pub(crate) struct Signals;

impl Stage for Signals {
    fn name(&self) -> &'static str {
        "signals"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some() && recipe.has_pool_table()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["download"]
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let parts = context.upstream("download")?.into_iter().map(move |input| {
            let (name, fingerprint) = (input.part.clone(), fingerprint_of(&input));
            let make = Box::new(move |new: &mut NewPart| {
                let pool = table::file(&context.run, &input, schema::pool().name)?;
                let measured = context.runtime.block_on(signals::measure(&context.session, &pool))?;
                write(context, &input, &concat_batches(&signals::schema(), &measured)?, new)
            });
            Ok(Planned { name, fingerprint, make })
        });
        Ok(Box::new(parts))
    }
}

fn fingerprint_of(input: &PartEntry) -> String {
    let names = SIGNALS.iter().map(|signal| signal.name()).collect::<Vec<_>>().join(" ");
    fingerprint(["signals", FORMAT_VERSION, &names, &input.digest()])
}

/// Writes the signals of a part of the pool. In one batch, so that the file is the same wherever they were measured.
fn write(context: &Context, input: &PartEntry, measured: &RecordBatch, new: &mut NewPart) -> Result<()> {
    let rows = measured.num_rows() as u64;
    let path = context.run.stage_file(new, &format!("{FOLDER}/part-{}.parquet", input.part))?;
    parquet::write(&path, &measured.schema(), [measured])?;
    (new.rows_in, new.rows_out) = (input.rows_out, rows);
    new.counts.insert("measured".to_owned(), rows);
    Ok(())
}

/// Commits the signals of a part of the pool that were measured while it was downloaded.
pub(super) fn commit(context: &Context, input: &PartEntry, measured: &RecordBatch) -> Result<()> {
    let started = Instant::now();
    let mut new = NewPart::new(Signals.name(), &input.part, fingerprint_of(input));
    write(context, input, measured, &mut new)?;
    new.seconds = started.elapsed().as_secs_f64();
    context.commit_along(new)
}

/// All signals, for a downloader that has the pixels of a pair at hand.
#[derive(Debug)]
pub(super) struct MeasureAll;

impl Measure for MeasureAll {
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> Measured {
        let image = pixels.and_then(|pixels| ImageData::from_decoded(stored_bytes, pixels));
        Box::new(measure_all(&Sample::new(caption, image.as_ref())))
    }
}

/// The signals of a part that is being downloaded, as they come.
#[derive(Default)]
pub(super) struct Measuring {
    batches: Vec<RecordBatch>,
    /// Whether a measurement broke off. The stage then does it again, and shows why.
    is_incomplete: bool,
}

impl Measuring {
    /// Takes what [`MeasureAll`] found of these pairs.
    pub(super) fn add(&mut self, pairs: &RecordBatch, measured: Vec<Measured>) -> Result<()> {
        let values = |measured: Measured| measured.downcast::<Vec<Value>>().ok().map(|values| *values);
        let rows: Vec<Vec<Value>> = measured.into_iter().filter_map(values).collect();
        if rows.len() == pairs.num_rows() {
            let uids = pairs.column_by_name("uid").context("the pool has no column uid")?;
            self.batches.push(signals::table(uids.clone(), &rows));
        } else {
            self.is_incomplete = true;
        }
        Ok(())
    }

    /// The table, if it is whole.
    pub(super) fn finish(self) -> Option<RecordBatch> {
        let whole = concat_batches(&signals::schema(), &self.batches).expect("all batches have the schema");
        (!self.is_incomplete).then_some(whole)
    }
}
