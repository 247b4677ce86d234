//! Stage `signals`: measures every pair of the pool once, group by group, into tables beside it.
//!
//! If the same run downloads, signals are measured during the download from the pixels that are
//! stored, so no image is decoded twice. Each part of the tables is committed after its part of the
//! pool. The stage measures what is left, such as parts that grew or came from an interrupted run,
//! with the same result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use lynxdata_engine::signals;
use lynxdata_fetch::Measure;
use lynxdata_filters::{GROUPS, Group, ImageData, Sample, Value};
use lynxdata_picture::DynamicImage;
use lynxdata_records::schema::UID;
use lynxdata_records::{NewPart, PartEntry, fingerprint, parquet, schema};

use crate::pool::{SIGNALS, signal_part};
use crate::recipe::Recipe;
use crate::stage::{Along, AlongDownload, Context, Parts, Planned, Stage};
use crate::stages::download::Download;
use crate::table;

/// Version of the tables. Raise it when their format changes.
const FORMAT_VERSION: &str = "5";

/// Measures every pair of the pool.
pub struct Signals;

impl Stage for Signals {
    fn name(&self) -> &'static str {
        "signals"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some() && recipe.has_pool_table()
    }

    fn settings(&self, _recipe: &Recipe) -> Result<String> {
        Ok(String::new())
    }

    fn format_version(&self) -> String {
        format_version(GROUPS)
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Download]
    }

    fn along_download(&self) -> Option<Box<dyn AlongDownload>> {
        Some(Box::<Tables>::default())
    }

    fn counts_rows(&self, part: &str, first: &str, _main_selection: Option<&str>) -> bool {
        let group = |part: &str| part.rsplit_once('-').map(|(group, _)| group.to_owned());
        group(part) == group(first) // every group measures the whole pool
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        parts(context, GROUPS)
    }
}

/// Returns the version of the tables of some groups.
pub(crate) fn format_version(groups: &[Group]) -> String {
    let groups = groups.iter().map(|group| format!(", {} {} of {}", group.name, group.version, names(group)));
    FORMAT_VERSION.to_owned() + &groups.collect::<String>()
}

/// Returns one part for each of some groups and each part of the pool.
pub(crate) fn parts<'a>(context: &'a Context, groups: &'static [Group]) -> Result<Parts<'a>> {
    let downloads = context.upstream(&Download)?;
    let parts = downloads.into_iter().flat_map(move |input| {
        groups.iter().map(move |group| {
            let input = input.clone();
            Ok(plan(context, group, input, move |pool| {
                let path = table::file(&context.run, pool, schema::pool().name)?;
                let measured = context.runtime.block_on(signals::measure(&context.session, group, &path))?;
                Ok(concat_batches(&signals::schema(group), &measured)?)
            }))
        })
    });
    Ok(Box::new(parts))
}

fn names(group: &Group) -> String {
    group.signals.iter().map(|signal| signal.name).collect::<Vec<_>>().join(" ")
}

/// Plans the table of a group for a part of the pool. The table is written as one batch, so the
/// file has the same bytes whether the download or this stage measured it.
fn plan<'a>(
    context: &'a Context,
    group: &'static Group,
    input: PartEntry,
    measure: impl FnOnce(&PartEntry) -> Result<RecordBatch> + Send + 'a,
) -> Planned<'a> {
    let version = group.version.to_string();
    let print = fingerprint(["signals", FORMAT_VERSION, group.name, &version, &names(group), &input.digest()]);
    Planned::new(signal_part(group.name, &input.part), print, move |new: &mut NewPart| {
        let measured = measure(&input)?;
        let rows = measured.num_rows() as u64;
        let path = context.run.stage_file(new, &format!("{SIGNALS}/{}/part-{}.parquet", group.name, input.part))?;
        parquet::write(&path, &measured.schema(), [&measured])?;
        (new.rows_in, new.rows_out) = (input.rows_out, rows);
        new.counts.insert("measured".to_owned(), rows);
        Ok(())
    })
}

/// All signals of the pairs of a part that is being downloaded, measured while their pixels are in
/// memory: the values of each group, by the row of the part.
#[derive(Debug, Default)]
struct MeasureAll {
    rows: Mutex<HashMap<u32, Vec<Vec<Value>>>>,
}

impl Measure for MeasureAll {
    fn measure(&self, row: usize, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) {
        let image = pixels.and_then(|pixels| ImageData::from_decoded(stored_bytes, pixels));
        let sample = Sample::new(caption, image.as_ref());
        let values = GROUPS.iter().map(|group| group.measure(&sample)).collect();
        self.rows.lock().expect("nobody panics with the values").insert(row as u32, values);
    }
}

/// The tables of signals of a part that is being downloaded, filled as its pairs arrive.
#[derive(Default)]
struct Tables {
    measured: Arc<MeasureAll>,
    /// Batches, by group.
    batches: [Vec<RecordBatch>; GROUPS.len()],
    /// Whether a measurement failed. The stage then repeats it and reports the error.
    is_incomplete: bool,
}

impl AlongDownload for Tables {
    fn measure(&self) -> Arc<dyn Measure> {
        self.measured.clone()
    }

    fn add(&mut self, pairs: &RecordBatch, rows: &[u32]) -> Result<()> {
        let mut found = self.measured.rows.lock().expect("nobody panics with the values");
        let values: Option<Vec<Vec<Vec<Value>>>> = rows.iter().map(|row| found.remove(row)).collect();
        drop(found);
        let Some(mut values) = values else {
            self.is_incomplete = true;
            return Ok(());
        };
        let uids = pairs.column_by_name(UID.name).context("the pool has no column uid")?;
        for (place, group) in GROUPS.iter().enumerate() {
            let of_group: Vec<Vec<Value>> = values.iter_mut().map(|row| std::mem::take(&mut row[place])).collect();
            self.batches[place].push(signals::table(group, uids.clone(), &of_group));
        }
        Ok(())
    }

    /// Returns no part if the tables are incomplete.
    fn finish(self: Box<Self>, context: &Context) -> Vec<Along<'_>> {
        if self.is_incomplete {
            return Vec::new();
        }
        let along = GROUPS.iter().zip(self.batches).map(|(group, batches)| Along {
            stage: &Signals,
            plan: Box::new(move |pool| {
                plan(context, group, pool, move |_| Ok(concat_batches(&signals::schema(group), &batches)?))
            }),
        });
        along.collect()
    }
}
