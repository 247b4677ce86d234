//! `lynxdata status`: shows the content of a run folder.

mod failed;

use lynxdata_run::stages::arms::{Arms, Examples, data_has_changed, folders_have_changed};
use lynxdata_run::stages::check::Check;
use lynxdata_run::stages::download::Download;
use lynxdata_run::stages::instruct::Instruct;
use lynxdata_run::stages::select::Select;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use arrow::array::Array;
use clap::Args;
use lynxdata_fetch::{Histogram, Metrics};
use lynxdata_records::{Manifest, PartEntry, schema};
use serde::Serialize;
use serde_json::Value;

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};
use crate::paths::path_parser;
use lynxdata_run::mirror::Mirror;
use lynxdata_run::recipe::{RECIPE, RESOLVED_RECIPE, Recipe, is_as_written};
use lynxdata_run::stage::{Stage, is_current};
use lynxdata_run::stages::{STAGES, instruct, select};
use lynxdata_run::table;

/// Show the stages of a run, the outcomes of its rows, the numbers of rejected pairs, and the
/// verdict
///
/// A stage is out of date if its inputs, or its settings in the recipe of the run, have changed
/// since it was made.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata status run
  lynxdata status run --json | jq .download.by_status
  lynxdata status run --failed > failed.tsv         list every row that is not in the pool, and why
  lynxdata status s3://bucket/run")]
pub(crate) struct Arguments {
    /// The run folder, or its URL in an object store
    #[arg(value_parser = path_parser())]
    run: PathBuf,

    /// Print one JSON object; with --failed, one per row
    #[arg(long)]
    json: bool,

    /// List the rows of the source that failed instead, separated by tabs: row number, key, URL,
    /// status, retry class, HTTP status, attempts, milliseconds, detail
    #[arg(long)]
    failed: bool,
}

#[derive(Serialize)]
struct Status {
    stages: Vec<StageStatus>,
    /// Rows that each rule rejected in the selection that is sharded, or in the first selection.
    rejected_by: BTreeMap<String, u64>,
    /// For each selection: rows kept, and rows that each rule rejected.
    selections: BTreeMap<String, SelectionStatus>,
    /// Records, rows and list elements that were left out of each task, by reason.
    instruct: BTreeMap<String, BTreeMap<String, u64>>,
    download: DownloadStatus,
    verdict: Option<Value>,
    /// Whether the verdict is about the selections as they are now.
    verdict_is_current: bool,
}

#[derive(Serialize)]
struct StageStatus {
    name: String,
    complete: bool,
    state: State,
    rows_in: u64,
    rows_out: u64,
    parts: u64,
    bytes: u64,
    seconds: f64,
}

/// The state of a stage.
#[derive(Debug, Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum State {
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

impl State {
    fn in_words(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::NotStarted => "not started",
            State::Unfinished => "unfinished",
            State::OutOfDate => "out of date",
            State::NotInRecipe => "not in the recipe",
        }
    }
}

#[derive(Serialize, Clone)]
struct SelectionStatus {
    kept: u64,
    rejected_by: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct DownloadStatus {
    by_status: BTreeMap<String, u64>,
    /// The statuses that occur, in the order of the log.
    statuses: Vec<RowsOfStatus>,
    /// The hosts with the most rows.
    hosts: Vec<HostStatus>,
    /// Time from the first request of a row to its end; `null` if nothing was requested.
    latency_ms: Option<Quantiles>,
    latency_ms_histogram: Vec<Bucket>,
    /// Sizes of complete bodies; `null` if there were none.
    body_bytes: Option<Quantiles>,
    body_bytes_histogram: Vec<Bucket>,
}

#[derive(Serialize)]
struct RowsOfStatus {
    status: &'static str,
    /// The class that `download --retry-failed` takes.
    retry_class: &'static str,
    rows: u64,
    /// Total size of complete bodies.
    bytes: u64,
    latency_ms: Option<Quantiles>,
}

/// The number of values above the bound of the bucket before and not above its own bound; the last
/// bucket has no bound.
#[derive(Serialize)]
struct Bucket {
    up_to: Option<i64>,
    rows: u64,
}

#[derive(Serialize, Clone)]
struct HostStatus {
    host: String,
    rows: u64,
    by_status: BTreeMap<String, u64>,
    bytes: u64,
    latency_ms: Option<Quantiles>,
}

/// Percentiles by nearest rank.
#[derive(Serialize, Clone, Copy)]
struct Quantiles {
    p50: i64,
    p90: i64,
    p99: i64,
    max: i64,
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

/// Maximum number of hosts that are shown.
const MOST_HOSTS: usize = 20;

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let copy;
    let root = match Mirror::of(&arguments.run) {
        None => &arguments.run,
        Some(mirror) => {
            copy = copied(&mirror)?;
            copy.path()
        }
    };
    if arguments.failed {
        failed::list(root, arguments.json)?;
        return Ok(DONE);
    }
    let status = collect(root)?;
    if arguments.json {
        print_json(&status)?;
    } else {
        print(&text(&status))?;
    }
    Ok(DONE)
}

/// Copies the files that a status needs from an object store: everything but images and their
/// measurements.
fn copied(mirror: &Mirror) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let folders = [schema::download_log().name, "selection", "check"];
    let is_wanted = |path: &str| {
        folders.iter().any(|folder| path.split('/').next() == Some(folder)) || path.starts_with(instruct::COUNTS)
    };
    lynxdata_run::runtime()?.block_on(mirror.copy(folder.path(), &[RESOLVED_RECIPE], is_wanted))?;
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
        let rows = table::read(&path, Some(&["host", "status", "elapsed_ms", "body_bytes"]))?;
        let (names, statuses) = (table::texts(&rows, "host", &path)?, table::texts(&rows, "status", &path)?);
        let (elapsed, bytes) =
            (table::integers(&rows, "elapsed_ms", &path)?, table::integers(&rows, "body_bytes", &path)?);
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
    Ok(Some(lynxdata_run::recipe::load(&path, &[])?.recipe))
}

fn verdict(root: &Path, manifest: &Manifest) -> Result<Option<Value>> {
    let Some(part) = manifest.parts(Check.name()).next() else { return Ok(None) };
    let Some(file) = part.files.iter().find(|file| file.path.ends_with("verdict.json")) else { return Ok(None) };
    let path = root.join(&file.path);
    if !file.describes(&path)? {
        return Err(lynxdata_records::Error::Damaged { path, run: root.to_owned() }.into());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?))
}

fn text(status: &Status) -> String {
    let rows: Vec<Vec<String>> = status
        .stages
        .iter()
        .map(|stage| {
            vec![
                stage.name.clone(),
                stage.state.in_words().to_owned(),
                grouped(stage.rows_in),
                grouped(stage.rows_out),
                grouped(stage.parts),
                grouped(stage.bytes),
                format!("{:.1}", stage.seconds),
            ]
        })
        .collect();
    let header = ["stage", "state", "rows in", "rows out", "parts", "bytes", "seconds"];
    let mut text = columns(&header, &rows, &[2, 3, 4, 5, 6]);
    if status.stages.iter().any(|stage| stage.state == State::OutOfDate) {
        text.push_str(
            "\nout of date: its inputs or settings have changed since it was made; `lynxdata run` makes it again\n",
        );
    }
    let state_of = |name: &str| status.stages.iter().find(|stage| stage.name == name).map(|stage| stage.state);
    let remark = |state: Option<State>| match state {
        None | Some(State::Complete) => String::new(),
        Some(state) => format!(" ({})", state.in_words()),
    };
    let counts = |title: &str, counts: &BTreeMap<String, u64>| {
        let rows: Vec<Vec<String>> = counts.iter().map(|(name, rows)| vec![name.clone(), grouped(*rows)]).collect();
        format!("\n{}", columns(&[title, "rows"], &rows, &[1]))
    };
    text.push_str(&download_text(&status.download));
    for (name, selection) in &status.selections {
        let remark = remark(state_of(Select.name()));
        text.push_str(&format!("\nselection {name}{remark}: {} kept\n", grouped(selection.kept)));
        if !selection.rejected_by.is_empty() {
            text.push_str(counts("rejected by", &selection.rejected_by).trim_start());
        }
    }
    for (task, reasons) in status.instruct.iter().filter(|(_, reasons)| !reasons.is_empty()) {
        text.push_str(&counts(&format!("left out of {task}"), reasons));
    }
    if let Some(sentence) = status.verdict.as_ref().and_then(|verdict| verdict["sentence"].as_str()) {
        let of = if status.verdict_is_current { "" } else { " of earlier arms (out of date)" };
        text.push_str(&format!("\nverdict{of}: {sentence}\n"));
    }
    text
}

/// Returns the tables of statuses, latencies, sizes and hosts.
fn download_text(download: &DownloadStatus) -> String {
    let quantiles = |quantiles: Option<Quantiles>| {
        let values = quantiles.map(|Quantiles { p50, p90, p99, max }| [p50, p90, p99, max]);
        values.map_or_else(|| vec![String::new(); 4], |values| values.map(|value| grouped(value as u64)).to_vec())
    };
    let mut text = String::new();
    let rows: Vec<Vec<String>> = download
        .statuses
        .iter()
        .map(|status| {
            let named = [status.status, status.retry_class].map(str::to_owned).to_vec();
            [named, [status.rows, status.bytes].map(grouped).to_vec(), quantiles(status.latency_ms)].concat()
        })
        .collect();
    if !rows.is_empty() {
        let header = ["download status", "retry", "rows", "bytes", "p50 ms", "p90", "p99", "max"];
        text.push_str(&format!("\n{}", columns(&header, &rows, &[2, 3, 4, 5, 6, 7])));
    }
    let measured = [("milliseconds", download.latency_ms), ("bytes of a body", download.body_bytes)];
    let rows: Vec<Vec<String>> = measured
        .into_iter()
        .filter(|(_, values)| values.is_some())
        .map(|(name, values)| [vec![name.to_owned()], quantiles(values)].concat())
        .collect();
    if !rows.is_empty() {
        text.push_str(&format!(
            "\n{}",
            columns(&["a download took", "p50", "p90", "p99", "max"], &rows, &[1, 2, 3, 4])
        ));
    }
    let histograms =
        [("milliseconds", &download.latency_ms_histogram), ("bytes of a body", &download.body_bytes_histogram)];
    for (unit, buckets) in histograms {
        text.push_str(&histogram_text(unit, buckets));
    }
    let rows: Vec<Vec<String>> = download
        .hosts
        .iter()
        .map(|host| {
            let ok = host.by_status.get(lynxdata_records::Status::Ok.name()).copied().unwrap_or_default();
            let numbers = [host.rows, ok, host.bytes].map(grouped).to_vec();
            [vec![host.host.clone()], numbers, quantiles(host.latency_ms)].concat()
        })
        .collect();
    if !rows.is_empty() {
        let header = ["host", "rows", "ok", "bytes", "p50 ms", "p90", "p99", "max"];
        text.push_str(&format!("\n{}", columns(&header, &rows, &[1, 2, 3, 4, 5, 6, 7])));
    }
    text
}

/// Returns the buckets with bars, or nothing if there are no values. Leaves out empty buckets at
/// both ends.
fn histogram_text(unit: &str, buckets: &[Bucket]) -> String {
    const LONGEST_BAR: u64 = 40;
    let is_filled = |bucket: &Bucket| bucket.rows > 0;
    let (Some(first), Some(last)) = (buckets.iter().position(is_filled), buckets.iter().rposition(is_filled)) else {
        return String::new();
    };
    let most = buckets.iter().map(|bucket| bucket.rows).max().unwrap_or(1);
    let rows: Vec<Vec<String>> = buckets[first..=last]
        .iter()
        .map(|bucket| {
            let bar = "#".repeat((bucket.rows * LONGEST_BAR).div_ceil(most) as usize);
            vec![bucket.up_to.map_or("more".to_owned(), |up_to| grouped(up_to as u64)), grouped(bucket.rows), bar]
        })
        .collect();
    format!("\n{}", columns(&[&format!("{unit} up to"), "rows", ""], &rows, &[0, 1]))
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
        let latency = buckets(&metrics.seconds, 1000.0);
        let filled: Vec<(Option<i64>, u64)> =
            latency.iter().filter(|bucket| bucket.rows > 0).map(|bucket| (bucket.up_to, bucket.rows)).collect();
        assert_eq!(filled, [(Some(50), 1), (Some(100), 1), (None, 1)]);
        let text = histogram_text("bytes", &buckets(&metrics.bytes, 1.0));
        assert_eq!(text.lines().filter(|line| line.contains('#')).count(), 2, "{text}");
        assert!(text.contains("10,000"), "{text}");
        assert_eq!(histogram_text("bytes", &buckets(&Metrics::default().bytes, 1.0)), "");
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
