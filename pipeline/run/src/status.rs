//! The status of a run: its stages, the outcomes of its rows, the numbers of rejected pairs, and
//! the verdict.

mod failed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use arrow::array::Array;
use lynxdata_fetch::{Histogram, Metrics};
use lynxdata_records::schema::{BODY_BYTES, ELAPSED_MS, HOST, STATUS};
use lynxdata_records::{Manifest, PartEntry, schema};
use serde::Serialize;
use serde_json::Value;

pub use self::failed::FailedRow;
use crate::mirror::Mirror;
use crate::recipe::{RECIPE, RESOLVED_RECIPE, Recipe, is_as_written};
use crate::stage::{Stage, is_current};
use crate::stages::arms::{Arms, Examples, data_has_changed, folders_have_changed};
use crate::stages::check::{Check, VERDICT};
use crate::stages::download::Download;
use crate::stages::instruct::Instruct;
use crate::stages::select::Select;
use crate::stages::{STAGES, instruct, select};
use crate::table;

/// The status of a run.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The stages that have parts or that the recipe asks for, in the order in which they run.
    pub stages: Vec<StageStatus>,
    /// Rows that each rule rejected in the selection that is sharded, or in the first selection.
    pub rejected_by: BTreeMap<String, u64>,
    /// For each selection: rows kept, and rows that each rule rejected.
    pub selections: BTreeMap<String, SelectionStatus>,
    /// Records, rows and list elements that were left out of each task, by reason.
    pub instruct: BTreeMap<String, BTreeMap<String, u64>>,
    /// The rows of the source, by outcome.
    pub download: DownloadStatus,
    /// The verdict of the check, if there is one.
    pub verdict: Option<Value>,
    /// Whether the verdict is about the selections as they are now.
    pub verdict_is_current: bool,
}

/// The status of a stage.
#[derive(Debug, Serialize)]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Whether every part is there, made from whatever inputs and settings.
    pub complete: bool,
    /// Its state.
    pub state: State,
    /// Rows that it read.
    pub rows_in: u64,
    /// Rows that it wrote.
    pub rows_out: u64,
    /// Number of its parts.
    pub parts: u64,
    /// Total size of the files of its parts.
    pub bytes: u64,
    /// Time that making its parts took.
    pub seconds: f64,
}

/// The state of a stage.
#[derive(Debug, Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Every part is there, made from the present inputs and settings.
    Complete,
    /// Parts are missing.
    Unfinished,
    /// No part is there.
    NotStarted,
    /// An input or a setting has changed.
    OutOfDate,
    /// The recipe no longer asks for it.
    NotInRecipe,
}

/// The rows of a selection.
#[derive(Debug, Serialize, Clone)]
pub struct SelectionStatus {
    /// Rows that it keeps.
    pub kept: u64,
    /// Rows that each rule rejected.
    pub rejected_by: BTreeMap<String, u64>,
}

/// The rows of the source, by outcome.
#[derive(Debug, Serialize)]
pub struct DownloadStatus {
    /// Rows with each status that occurs.
    pub by_status: BTreeMap<String, u64>,
    /// The statuses that occur, in the order of the log.
    pub statuses: Vec<RowsOfStatus>,
    /// The hosts with the most rows.
    pub hosts: Vec<HostStatus>,
    /// Time from the first request of a row to its end; `null` if nothing was requested.
    pub latency_ms: Option<Quantiles>,
    /// Rows by that time.
    pub latency_ms_histogram: Vec<Bucket>,
    /// Sizes of complete bodies; `null` if there were none.
    pub body_bytes: Option<Quantiles>,
    /// Rows by that size.
    pub body_bytes_histogram: Vec<Bucket>,
}

/// The rows with one status.
#[derive(Debug, Serialize)]
pub struct RowsOfStatus {
    /// The name of the status.
    pub status: &'static str,
    /// The class that `download --retry-failed` takes.
    pub retry_class: &'static str,
    /// Number of rows.
    pub rows: u64,
    /// Total size of complete bodies.
    pub bytes: u64,
    /// Time from the first request of a row to its end; `null` if nothing was requested.
    pub latency_ms: Option<Quantiles>,
}

/// The number of values above the bound of the bucket before and not above its own bound; the last
/// bucket has no bound.
#[derive(Debug, Serialize)]
pub struct Bucket {
    /// The bound.
    pub up_to: Option<i64>,
    /// Number of values.
    pub rows: u64,
}

/// The rows of a host.
#[derive(Debug, Serialize, Clone)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// Number of rows.
    pub rows: u64,
    /// Rows with each status that occurs.
    pub by_status: BTreeMap<String, u64>,
    /// Total size of complete bodies.
    pub bytes: u64,
    /// Time from the first request of a row to its end; `null` if nothing was requested.
    pub latency_ms: Option<Quantiles>,
}

/// Percentiles by nearest rank.
#[derive(Debug, Serialize, Clone, Copy)]
pub struct Quantiles {
    /// The median.
    pub p50: i64,
    /// The 90th percentile.
    pub p90: i64,
    /// The 99th percentile.
    pub p99: i64,
    /// The largest value.
    pub max: i64,
}

impl Quantiles {
    fn of(mut values: Vec<i64>) -> Option<Quantiles> {
        values.sort_unstable();
        let rank = |per_cent: usize| (values.len() * per_cent).div_ceil(100).max(1) - 1;
        let max = *values.last()?;
        Some(Quantiles { p50: values[rank(50)], p90: values[rank(90)], p99: values[rank(99)], max })
    }
}

fn buckets<const N: usize>(histogram: &Histogram<N>, unit: f64) -> Vec<Bucket> {
    let mut below = 0;
    let mut bucket = |up_to, count: u64| Bucket { up_to, rows: count - std::mem::replace(&mut below, count) };
    let bounded = histogram.cumulative().into_iter().map(|(bound, count)| (Some((bound * unit).round() as i64), count));
    bounded.chain([(None, histogram.count())]).map(|(up_to, count)| bucket(up_to, count)).collect()
}

/// Maximum number of hosts in a status.
const MOST_HOSTS: usize = 20;

/// Returns the status of a run in a folder, or at a URL in an object store.
///
/// # Errors
/// If a file of the run cannot be read or is damaged.
pub fn status(run: &Path) -> Result<Status> {
    with_files(run, collect)
}

/// Calls `on_row` for every row of the source that is not in the pool, in the order of the parts.
///
/// # Errors
/// If a file of the run cannot be read, or `on_row` returns an error.
pub fn failed_rows(run: &Path, on_row: &mut dyn FnMut(&FailedRow<'_>) -> Result<()>) -> Result<()> {
    with_files(run, |root| {
        Manifest::read(root)?.parts(Download.name()).try_for_each(|part| failed::list_part(root, part, on_row))
    })
}

/// Reads the folder of a run, or a copy of the files that a status needs if the run is in an object
/// store.
fn with_files<T>(run: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    match Mirror::of(run) {
        None => read(run),
        Some(mirror) => read(copied(&mirror)?.path()),
    }
}

/// Copies the files that a status needs from an object store: everything but images and their
/// measurements.
fn copied(mirror: &Mirror) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let folders = [schema::download_log().name, schema::selection().name];
    let is_wanted = |path: &str| {
        let is_in_folder = folders.iter().any(|folder| path.split('/').next() == Some(folder));
        is_in_folder || path == VERDICT || path.starts_with(instruct::COUNTS)
    };
    crate::stage::runtime()?.block_on(mirror.copy(folder.path(), &[RESOLVED_RECIPE], is_wanted))?;
    Ok(folder)
}

fn collect(root: &Path) -> Result<Status> {
    let manifest = Manifest::read(root)?;
    let recipe = resolved_recipe(root)?;
    let main = recipe.as_ref().and_then(|recipe| recipe.main_selection().map(str::to_owned));
    let states = states(&manifest, recipe.as_ref())?;
    // A command with flags makes its own stages, not all that a recipe may have.
    let of_recipe = std::fs::read_to_string(root.join(RECIPE)).is_ok_and(|text| !is_as_written(&text));
    let is_started = |stage: &&&dyn Stage| states[stage.name()] != State::NotStarted;
    let commands: BTreeSet<&str> = STAGES.iter().filter(is_started).map(|stage| stage.command()).collect();
    let is_wanted = |stage: &&dyn Stage| {
        let is_in = recipe.as_ref().is_some_and(|recipe| stage.is_in(recipe));
        is_in && (of_recipe || commands.contains(stage.command()))
    };
    let stages: Vec<StageStatus> = STAGES
        .iter()
        .filter(|stage| is_started(stage) || is_wanted(stage))
        .map(|stage| stage_status(&manifest, *stage, states[stage.name()], main.as_deref()))
        .collect();
    let mut selections = BTreeMap::new();
    for part in manifest.parts(Select.name()) {
        let files = part.files.iter().map(|file| root.join(&file.path));
        let rejected_by = select::count_rejections(files)?.by_rule;
        selections.insert(part.part.clone(), SelectionStatus { kept: part.rows_out, rejected_by });
    }
    let rejected_by = main
        .and_then(|name| selections.get(&name))
        .or_else(|| selections.values().next())
        .map_or_else(BTreeMap::new, |selection: &SelectionStatus| selection.rejected_by.clone());
    Ok(Status {
        stages,
        rejected_by,
        selections,
        instruct: manifest.parts(Instruct.name()).map(|part| left_out_of(root, part)).collect::<Result<_>>()?,
        download: download_status(root, &manifest)?,
        verdict: verdict(root, &manifest)?,
        verdict_is_current: states[Check.name()] == State::Complete,
    })
}

/// Returns the state of every stage. A stage is not complete if a stage that it reads is not.
fn states(manifest: &Manifest, recipe: Option<&Recipe>) -> Result<BTreeMap<&'static str, State>> {
    let mut states = BTreeMap::new();
    for stage in STAGES {
        let name = stage.name();
        let state = match recipe {
            _ if !manifest.is_complete(name) && manifest.parts(name).next().is_none() => State::NotStarted,
            _ if !manifest.is_complete(name) => State::Unfinished,
            // A run of an earlier version, which wrote no recipe.
            None => State::Complete,
            Some(recipe) if !stage.is_in(recipe) => State::NotInRecipe,
            Some(recipe) => {
                let reads = stage.reads(recipe);
                let is_current = reads.iter().all(|input| states.get(input.name()) == Some(&State::Complete))
                    && is_current(manifest, *stage, recipe)?
                    && !(name == Arms.name() && folders_have_changed(recipe, manifest))
                    && !(name == Examples.name() && data_has_changed(recipe, manifest));
                if is_current { State::Complete } else { State::OutOfDate }
            }
        };
        states.insert(name, state);
    }
    Ok(states)
}

/// Returns what was left out of a task, by reason.
fn left_out_of(root: &Path, part: &PartEntry) -> Result<(String, BTreeMap<String, u64>)> {
    let file = part.files.iter().find(|file| file.path.starts_with(instruct::COUNTS));
    let reasons = match file {
        Some(file) => instruct::left_out(instruct::read_counts(&root.join(&file.path))?),
        // A run of an earlier version, which wrote no such file.
        None => part.counts.clone().into_iter().filter(|(reason, _)| reason != "kept").collect(),
    };
    Ok((part.part.clone(), reasons))
}

/// Returns the totals of the download logs.
fn download_status(root: &Path, manifest: &Manifest) -> Result<DownloadStatus> {
    #[derive(Default)]
    struct Host {
        by_status: BTreeMap<String, u64>,
        elapsed: Vec<i64>,
        bytes: u64,
    }
    #[derive(Default)]
    struct Measured {
        elapsed: Vec<i64>,
        bytes: u64,
    }
    let mut by_status: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_host: BTreeMap<String, Host> = BTreeMap::new();
    let mut measured: BTreeMap<String, Measured> = BTreeMap::new();
    let (metrics, mut sizes) = (Metrics::default(), Vec::new());
    for part in manifest.parts(Download.name()) {
        for (status, rows) in &part.counts {
            *by_status.entry(status.clone()).or_default() += rows;
        }
        let path = table::file_below(root, part, schema::download_log().name)?;
        let rows = table::read(&path, Some(&[HOST.name, STATUS.name, ELAPSED_MS.name, BODY_BYTES.name]))?;
        let (names, statuses) = (HOST.of(&rows, &path)?, STATUS.of(&rows, &path)?);
        let (elapsed, bytes) = (ELAPSED_MS.of(&rows, &path)?, BODY_BYTES.of(&rows, &path)?);
        for (row, (elapsed, bytes)) in elapsed.iter().zip(bytes).enumerate() {
            let of_status = measured.entry(statuses.value(row).to_owned()).or_default();
            of_status.elapsed.extend(elapsed);
            of_status.bytes += bytes.unwrap_or_default() as u64;
            if names.is_valid(row) {
                let host = by_host.entry(names.value(row).to_owned()).or_default();
                *host.by_status.entry(statuses.value(row).to_owned()).or_default() += 1;
                host.elapsed.extend(elapsed);
                host.bytes += bytes.unwrap_or_default() as u64;
            }
            let elapsed = elapsed.map(|elapsed| Duration::from_millis(elapsed as u64));
            metrics.measure(elapsed, bytes.map(|bytes| bytes as u64));
        }
        sizes.extend(bytes.iter().flatten());
    }
    let latency_ms = Quantiles::of(measured.values().flat_map(|measured| measured.elapsed.iter().copied()).collect());
    let rows_of_status = |status: &lynxdata_records::Status| {
        let rows = *by_status.get(status.name())?;
        let Measured { elapsed, bytes } = measured.remove(status.name()).unwrap_or_default();
        let retry_class = status.retry_class().name();
        Some(RowsOfStatus { status: status.name(), retry_class, rows, bytes, latency_ms: Quantiles::of(elapsed) })
    };
    let statuses = lynxdata_records::Status::ALL.iter().filter_map(rows_of_status).collect();
    let status = |(name, host): (String, Host)| HostStatus {
        host: name,
        rows: host.by_status.values().sum(),
        by_status: host.by_status,
        bytes: host.bytes,
        latency_ms: Quantiles::of(host.elapsed),
    };
    let mut hosts: Vec<HostStatus> = by_host.into_iter().map(status).collect();
    hosts.sort_by_key(|host| std::cmp::Reverse(host.rows)); // equals stay in the order of their names
    hosts.truncate(MOST_HOSTS);
    Ok(DownloadStatus {
        statuses,
        by_status,
        hosts,
        latency_ms,
        latency_ms_histogram: buckets(&metrics.seconds, 1000.0),
        body_bytes: Quantiles::of(sizes),
        body_bytes_histogram: buckets(&metrics.bytes, 1.0),
    })
}

/// Sums parts, bytes and seconds of all parts. Rows are summed over parts that hold different rows.
fn stage_status(manifest: &Manifest, stage: &dyn Stage, state: State, main: Option<&str>) -> StageStatus {
    let first = manifest.parts(stage.name()).next().map(|part| part.part.clone()).unwrap_or_default();
    let name = stage.name();
    let mut status = StageStatus {
        name: name.to_owned(),
        complete: manifest.is_complete(name),
        state,
        rows_in: 0,
        rows_out: 0,
        parts: 0,
        bytes: 0,
        seconds: 0.0,
    };
    for part in manifest.parts(name) {
        if stage.counts_rows(&part.part, &first, main) {
            status.rows_in += part.rows_in;
            status.rows_out += part.rows_out;
        }
        status.parts += 1;
        status.bytes += part.files.iter().map(|file| file.bytes).sum::<u64>();
        status.seconds += part.seconds;
    }
    status
}

/// Returns the recipe by which the run was last made.
fn resolved_recipe(root: &Path) -> Result<Option<Recipe>> {
    let path = root.join(RESOLVED_RECIPE);
    if !path.is_file() {
        return Ok(None);
    }
    Ok(Some(crate::recipe::load(&path, &[])?.recipe))
}

fn verdict(root: &Path, manifest: &Manifest) -> Result<Option<Value>> {
    let Some(part) = manifest.parts(Check.name()).next() else { return Ok(None) };
    let Some(file) = part.files.iter().find(|file| file.path == VERDICT) else { return Ok(None) };
    let path = root.join(&file.path);
    if !file.describes(&path)? {
        return Err(lynxdata_records::Error::Damaged { path, run: root.to_owned() }.into());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_is_between_their_bounds() {
        let metrics = Metrics::default();
        for (milliseconds, bytes) in [(50, 1000), (51, 2000), (70_000, 2001)] {
            metrics.measure(Some(Duration::from_millis(milliseconds)), Some(bytes));
        }
        let filled = |buckets: Vec<Bucket>| -> Vec<(Option<i64>, u64)> {
            buckets.iter().filter(|bucket| bucket.rows > 0).map(|bucket| (bucket.up_to, bucket.rows)).collect()
        };
        assert_eq!(filled(buckets(&metrics.seconds, 1000.0)), [(Some(50), 1), (Some(100), 1), (None, 1)]);
        assert_eq!(filled(buckets(&metrics.bytes, 1.0)), [(Some(1000), 1), (Some(10_000), 2)]);
    }

    #[test]
    fn quantiles_are_values_that_occur() {
        let of =
            |values: &[i64]| Quantiles::of(values.to_vec()).map(|found| [found.p50, found.p90, found.p99, found.max]);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7]), Some([7, 7, 7, 7]));
        assert_eq!(of(&(1..=100).rev().collect::<Vec<_>>()), Some([50, 90, 99, 100]));
        assert_eq!(of(&[1, 2, 3]), Some([2, 3, 3, 3]));
    }
}
