//! Stage `signals`: measures every pair of the pool once, group by group, into tables beside it.
//!
//! If the same run downloads, signals are measured during the download from the pixels that are
//! stored, so no image is decoded twice. Each part of the tables is committed after its part of the
//! pool. The stage measures what is left, such as parts that grew or came from an interrupted run,
//! with the same result. Groups of models, which need batches of pairs, are always left to it: an
//! image would wait in memory until its batch is full.

use std::slice;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use lynxdata_engine::signals;
use lynxdata_fetch::Measure;
use lynxdata_filters::{GROUPS, Group, ImageData, LoadedGroup, Sample, Value};
use lynxdata_picture::DynamicImage;
use lynxdata_records::schema::UID;
use lynxdata_records::{NewPart, PartEntry, fingerprint, parquet, schema};
use tracing::warn;

use crate::pool::{SIGNALS, signal_part};
use crate::recipe::Recipe;
use crate::stage::{AlongDownload, Context, Measured, Parts, PlanAlong, Planned, Stage};
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

    fn along_download(&self) -> Result<Option<Box<dyn AlongDownload>>> {
        along_download(GROUPS).map(Some)
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
    // Made for the first part that needs it, so that plans and complete stages load no model.
    let measurers: Arc<[OnceLock<LoadedGroup>]> = groups.iter().map(|_| OnceLock::new()).collect();
    let parts = downloads.into_iter().flat_map(move |input| {
        let measurers = Arc::clone(&measurers);
        groups.iter().enumerate().map(move |(place, group)| {
            let (input, measurers) = (input.clone(), Arc::clone(&measurers));
            Ok(plan(context, group, input, move |pool| {
                let path = table::file(&context.run, pool, schema::pool().name)?;
                let loaded = load_once(group, &measurers[place])?;
                let measured = context.runtime.block_on(signals::measure(&context.session, loaded, &path))?;
                Ok(concat_batches(&signals::schema(group), &measured)?)
            }))
        })
    });
    Ok(Box::new(parts))
}

fn load_once<'a>(group: &'static Group, measurer: &'a OnceLock<LoadedGroup>) -> Result<&'a LoadedGroup> {
    if let Some(loaded) = measurer.get() {
        return Ok(loaded);
    }
    let loaded = load(group)?;
    Ok(measurer.get_or_init(|| loaded))
}

fn load(group: &'static Group) -> Result<LoadedGroup> {
    let loaded = group.load().map_err(anyhow::Error::from_boxed);
    loaded.with_context(|| format!("the signals {} cannot be measured", group.name))
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

/// Returns the tables of one part that is being downloaded, of those groups that need no batches.
pub(crate) fn along_download(groups: &'static [Group]) -> Result<Box<dyn AlongDownload>> {
    let loaded = groups.iter().filter(|group| group.is_by_pair()).map(load).collect::<Result<Vec<_>>>()?;
    let batches = loaded.iter().map(|_| Vec::new()).collect();
    Ok(Box::new(Tables { measured: Arc::new(MeasureAll(loaded)), batches, panicked: 0 }))
}

/// The groups that are measured on a pair while its pixels are in memory. The values of a pair
/// follow each other in the order of the groups.
#[derive(Debug)]
struct MeasureAll(Vec<LoadedGroup>);

impl MeasureAll {
    fn groups(&self) -> impl Iterator<Item = &'static Group> {
        self.0.iter().map(LoadedGroup::group)
    }
}

impl Measure<Measured> for MeasureAll {
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> Measured {
        let image = pixels.and_then(|pixels| ImageData::from_decoded(stored_bytes, pixels));
        let pair = Sample::new(caption, image.as_ref());
        let mut values = Vec::with_capacity(self.groups().map(|group| group.signals.len()).sum());
        for group in &self.0 {
            group.measure(slice::from_ref(&pair), &mut values)?;
        }
        Ok(values)
    }
}

/// The tables of signals of a part that is being downloaded, filled as its pairs arrive.
struct Tables {
    measured: Arc<MeasureAll>,
    /// Batches, by group.
    batches: Vec<Vec<RecordBatch>>,
    /// Pairs whose measurement panicked. The stage then measures the part again and fails likewise.
    panicked: u64,
}

impl AlongDownload for Tables {
    fn measure(&self) -> Arc<dyn Measure<Measured>> {
        self.measured.clone()
    }

    fn add(&mut self, pairs: &RecordBatch, measured: Vec<Option<Measured>>) -> Result<()> {
        let rows = measured.len();
        let of_group = |group: &Group| Vec::with_capacity(rows * group.signals.len());
        let mut of_groups: Vec<Vec<Value>> = self.measured.groups().map(of_group).collect();
        for values in measured {
            let Some(values) = values else {
                self.panicked += 1;
                continue;
            };
            let mut values = values.map_err(anyhow::Error::from_boxed)?.into_iter();
            for (group, own) in self.measured.groups().zip(&mut of_groups) {
                own.extend(values.by_ref().take(group.signals.len()));
            }
        }
        if self.panicked > 0 {
            return Ok(()); // the tables would lack rows
        }
        let uids = pairs.column_by_name(UID.name).context("the pool has no column uid")?;
        for ((group, values), batches) in self.measured.groups().zip(of_groups).zip(&mut self.batches) {
            batches.push(signals::table(group, uids.clone(), &values));
        }
        Ok(())
    }

    fn finish<'a>(self: Box<Self>, part: &str, context: &'a Context) -> Vec<PlanAlong<'a>> {
        if self.panicked > 0 {
            let pairs = self.panicked;
            warn!(
                part,
                pairs, "signals of some pairs could not be measured with the download; they are measured again"
            );
            return Vec::new();
        }
        let plans = self.measured.groups().zip(self.batches).map(|(group, batches)| -> PlanAlong<'a> {
            Box::new(move |pool| {
                plan(context, group, pool, move |_| Ok(concat_batches(&signals::schema(group), &batches)?))
            })
        });
        plans.collect()
    }
}
