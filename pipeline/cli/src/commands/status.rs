//! `lynxdata status`: what a run folder holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use lynxdata_records::Manifest;
use serde::Serialize;
use serde_json::Value;

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};
use crate::stages::{STAGES, select};

/// Show the stages of a run, what rejected rows, and the verdict
#[derive(Args)]
pub(crate) struct Arguments {
    /// The run folder
    run: PathBuf,

    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    stages: Vec<StageStatus>,
    /// Rows that each rule rejected in the selection that is sharded, or in the first one.
    rejected_by: BTreeMap<String, u64>,
    /// Per selection: rows kept and rows that each rule rejected.
    selections: BTreeMap<String, SelectionStatus>,
    download: DownloadStatus,
    verdict: Option<Value>,
}

#[derive(Serialize)]
struct StageStatus {
    name: String,
    complete: bool,
    rows_in: u64,
    rows_out: u64,
    parts: u64,
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize, Clone)]
struct SelectionStatus {
    kept: u64,
    rejected_by: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct DownloadStatus {
    by_status: BTreeMap<String, u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let status = collect(&arguments.run)?;
    if arguments.json {
        print_json(&status)?;
    } else {
        print(&text(&status))?;
    }
    Ok(DONE)
}

fn collect(root: &Path) -> Result<Status> {
    let manifest = Manifest::read(root)?;
    let main = main_selection(root)?;
    let stages: Vec<StageStatus> = STAGES
        .iter()
        .map(|stage| stage_status(&manifest, stage.name(), main.as_deref()))
        .filter(|status| status.parts > 0 || status.complete)
        .collect();
    let mut by_status = BTreeMap::new();
    for part in manifest.parts("download") {
        for (status, rows) in &part.counts {
            *by_status.entry(status.clone()).or_default() += rows;
        }
    }
    let mut selections = BTreeMap::new();
    for part in manifest.parts("select") {
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
        download: DownloadStatus { by_status },
        verdict: verdict(root, &manifest)?,
    })
}

/// Parts, bytes and seconds of all parts; rows of those that hold different rows. Every selection judges the whole pool, every shard format holds the
/// whole selection, every replicate trains on the whole arm: their rows count once, as of the main selection, one format, the first replicate.
fn stage_status(manifest: &Manifest, name: &str, main: Option<&str>) -> StageStatus {
    let first = manifest.parts(name).next().map(|part| part.part.clone()).unwrap_or_default();
    let counts_rows = |part: &str| match name {
        "select" => part == main.unwrap_or(&first),
        "shards" => part.split('/').next() == first.split('/').next(),
        "train" => part.ends_with("/00"),
        _ => true,
    };
    let mut status = StageStatus {
        name: name.to_owned(),
        complete: manifest.is_complete(name),
        rows_in: 0,
        rows_out: 0,
        parts: 0,
        bytes: 0,
        seconds: 0.0,
    };
    for part in manifest.parts(name) {
        if counts_rows(&part.part) {
            status.rows_in += part.rows_in;
            status.rows_out += part.rows_out;
        }
        status.parts += 1;
        status.bytes += part.files.iter().map(|file| file.bytes).sum::<u64>();
        status.seconds += part.seconds;
    }
    status
}

/// The selection that the run's own recipe shards.
fn main_selection(root: &Path) -> Result<Option<String>> {
    let path = root.join("recipe.resolved.toml");
    if !path.is_file() {
        return Ok(None);
    }
    Ok(crate::recipe::load(&path, &[])?.recipe.main_selection().map(str::to_owned))
}

fn verdict(root: &Path, manifest: &Manifest) -> Result<Option<Value>> {
    let Some(part) = manifest.parts("check").next() else { return Ok(None) };
    let Some(file) = part.files.iter().find(|file| file.path.ends_with("verdict.json")) else { return Ok(None) };
    let path = root.join(&file.path);
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
                if stage.complete { "complete" } else { "unfinished" }.to_owned(),
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
    let counts = |title: &str, counts: &BTreeMap<String, u64>| {
        let rows: Vec<Vec<String>> = counts.iter().map(|(name, rows)| vec![name.clone(), grouped(*rows)]).collect();
        format!("\n{}", columns(&[title, "rows"], &rows, &[1]))
    };
    if !status.download.by_status.is_empty() {
        text.push_str(&counts("download status", &status.download.by_status));
    }
    for (name, selection) in &status.selections {
        text.push_str(&format!("\nselection {name}: {} kept\n", grouped(selection.kept)));
        if !selection.rejected_by.is_empty() {
            text.push_str(counts("rejected by", &selection.rejected_by).trim_start());
        }
    }
    if let Some(sentence) = status.verdict.as_ref().and_then(|verdict| verdict["sentence"].as_str()) {
        text.push_str(&format!("\nverdict: {sentence}\n"));
    }
    text
}
