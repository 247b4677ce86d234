//! `lynxdata hydrate`: the pictures without which annotations travel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use arrow::array::{Array, AsArray, RecordBatch};
use clap::Args;
use lynxdata_datasets::{Absent, Collections, Inventory, Task, inventory};
use lynxdata_fetch::{DownloadConfig, Downloader, Metrics, Source, SourceConfig};
use lynxdata_picture::{Check, Resize};
use serde::Serialize;
use serde_json::json;

use super::tasks::{Own, find, load};
use super::{grouped, print, print_json};
use crate::exit::{DONE, FAILED, Failure};

/// Addresses that are listed for a collection.
const SHOWN: usize = 4;

/// Say which pictures of a task are missing and where they come from, and fetch them
///
/// A picture may lie under the name of another collection: COCO 2014 and 2017 hold the same ones,
/// and Visual Genome says in its image_data.json which of its own are of COCO or Flickr. Ends with
/// 1 while pictures are not where the task names them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata hydrate vqav2 ~/vqa
  lynxdata hydrate vqav2 ~/vqa --json | jq '.collections[] | [.collection, .missing]'
  lynxdata hydrate gqa ~/gqa --also ~/coco --also ~/vg.zip     half of Visual Genome is COCO
  lynxdata hydrate okvqa ~/okvqa --split val --fetch")]
pub(crate) struct Arguments {
    /// The task
    name: String,
    /// The folder of its native files, as its authors ship them
    folder: PathBuf,
    /// The split; all that are there if left out
    #[arg(long)]
    split: Option<String>,
    /// The folder of its pictures or an archive of them, if it is another
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A folder or an archive in which the same pictures may lie, also under the names of other
    /// collections
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
    /// Copy what lies elsewhere to where the task names it, and fetch the rest from the addresses
    /// of its collection
    #[arg(long)]
    fetch: bool,
    /// Connect to private and loopback addresses too
    #[arg(long, requires = "fetch")]
    allow_private_addresses: bool,
    /// A file of collections besides those that are shipped, such as of a mirror
    #[arg(long, value_name = "TOML")]
    collections: Option<PathBuf>,
    #[command(flatten)]
    own: Own,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// What was brought.
#[derive(Default, Serialize)]
struct Brought {
    /// Pictures that lay elsewhere and were copied.
    copied: u64,
    /// Addresses that were asked, by what became of them.
    fetched: BTreeMap<String, u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let (catalogue, _) = load(&arguments.own)?;
    let task = find(&catalogue, &arguments.name)?;
    let mut collections = Collections::shipped().map_err(anyhow::Error::from)?;
    if let Some(path) = &arguments.collections {
        collections = collections.with_file(path).context("in --collections").map_err(Failure::Usage)?;
    }
    let splits = splits_of(task, arguments)?;
    let images = arguments.images.as_ref().unwrap_or(&arguments.folder);
    if arguments.fetch && images.is_file() {
        return Err(Failure::Usage(anyhow!("--fetch puts pictures into a folder, and {} is none", images.display())));
    }
    let take = || inventory(task, &collections, &arguments.folder, &splits, images, &arguments.also);
    let mut found = take().map_err(anyhow::Error::from)?;
    let mut brought = None;
    if arguments.fetch {
        let config = DownloadConfig {
            resize: Resize::Keep,
            check: Check::Structure,
            allow_private_addresses: arguments.allow_private_addresses,
            ..DownloadConfig::default()
        };
        brought = Some(bring(&found, images, &config)?);
        found = take().map_err(anyhow::Error::from)?;
    }
    if arguments.json {
        let mut value = serde_json::to_value(&found).context("cannot write JSON")?;
        if let Some(brought) = &brought {
            value["brought"] = json!(brought);
        }
        print_json(&value)?;
    } else {
        print(&said(&found, brought.as_ref()))?;
    }
    if brought.is_none() && found.collections.iter().any(|held| held.fetchable + held.elsewhere > 0) {
        tracing::info!("--fetch copies what lies elsewhere and fetches what has an address");
    }
    Ok(if found.absent() == 0 { DONE } else { FAILED })
}

/// Returns the splits that are meant: the one that is named, or all of which the native files are
/// there.
fn splits_of(task: &Task, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    if let Some(split) = &arguments.split {
        return Ok(vec![split.clone()]);
    }
    let is_there = |split: &&String| task.native_files(&arguments.folder, split).is_ok();
    let splits: Vec<String> = task.splits.keys().filter(is_there).cloned().collect();
    match task.splits.keys().next() {
        Some(first) if splits.is_empty() => {
            // The error of the first split says which file is missed.
            task.native_files(&arguments.folder, first).map_err(anyhow::Error::from)?;
            Ok(vec![first.clone()])
        }
        _ => Ok(splits),
    }
}

fn said(found: &Inventory, brought: Option<&Brought>) -> String {
    let mut text = String::new();
    if let Some(brought) = brought {
        let fetched: Vec<String> =
            brought.fetched.iter().map(|(status, count)| format!("{status} {}", grouped(*count))).collect();
        let fetched = if fetched.is_empty() { "none".to_owned() } else { fetched.join(", ") };
        text.push_str(&format!("copied: {}; addresses asked: {fetched}\n", grouped(brought.copied)));
    }
    let (splits, records) = (found.splits.join(", "), grouped(found.records));
    text.push_str(&format!("{} ({splits}): {records} records\n", found.task));
    if found.collections.is_empty() {
        text.push_str("  they name no picture of a folder\n");
    }
    for held in &found.collections {
        let name = held.collection.as_deref().unwrap_or("pictures of no collection");
        let published = held.published.map(|all| format!(" of {}", grouped(all))).unwrap_or_default();
        text.push_str(&format!(
            "  {name}: {}{published} wanted, {} there, {} elsewhere, {} missing ({} of them can be fetched)\n",
            grouped(held.wanted),
            grouped(held.there),
            grouped(held.elsewhere),
            grouped(held.missing),
            grouped(held.fetchable)
        ));
        if let Some(example) = &held.example {
            text.push_str(&format!("    such as {example}\n"));
            for source in held.from.iter().take(SHOWN) {
                text.push_str(&format!("    from {source}\n"));
            }
        }
    }
    text
}

/// Copies what lies elsewhere, and fetches what has an address: of several addresses of a picture
/// the next one when one fails.
fn bring(found: &Inventory, images: &Path, config: &DownloadConfig) -> anyhow::Result<Brought> {
    let mut brought = Brought::default();
    let absent = || found.collections.iter().flat_map(|held| &held.absent);
    for own in absent() {
        if let Some(place) = &own.elsewhere {
            let bytes = place.read().with_context(|| format!("cannot read {}", own.path))?;
            put(images, &own.path, &bytes)?;
            brought.copied += 1;
        }
    }
    let runtime = lynxdata_run::stage::runtime()?;
    let mut left: Vec<&Absent> = absent().filter(|own| own.elsewhere.is_none()).collect();
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let downloader = {
        let _inside = runtime.enter();
        Downloader::new(config, scratch.path(), Arc::new(Metrics::default()))?
    };
    for round in 0.. {
        left.retain(|own| own.urls.len() > round);
        if left.is_empty() {
            break;
        }
        tracing::info!(pictures = left.len(), "pictures are fetched");
        let rows = left.iter().map(|own| json!({"url": own.urls[round], "path": own.path}).to_string());
        let list = scratch.path().join("list.jsonl");
        std::fs::write(&list, rows.map(|row| row + "\n").collect::<String>())
            .with_context(|| format!("cannot write {}", list.display()))?;
        let source = Source::open(&SourceConfig::new("list.jsonl", "url"), scratch.path())?;
        for part in source.parts(config.rows_per_part) {
            let mut take = |batch: RecordBatch, _: &[u32]| put_all(images, &batch);
            let log = runtime.block_on(downloader.download_part(&part?, None, &|_| (), &mut take))?;
            let statuses = log.column_by_name("status").context("a log has statuses")?.as_string::<i32>();
            for status in statuses.iter().flatten() {
                *brought.fetched.entry(status.to_owned()).or_default() += 1;
            }
        }
        left.retain(|own| !images.join(&own.path).is_file());
    }
    Ok(brought)
}

/// Writes the pictures of a batch of the pool to their paths.
fn put_all(images: &Path, batch: &RecordBatch) -> anyhow::Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("a batch has no column {name}"));
    let (paths, pictures) = (column("path")?.as_string::<i32>(), column("image")?.as_struct());
    let bytes = pictures.column_by_name("bytes").context("a picture has bytes")?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        if !bytes.is_null(row) {
            put(images, paths.value(row), bytes.value(row))?;
        }
    }
    Ok(())
}

/// Writes a picture; it appears when it is whole.
fn put(images: &Path, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let target = images.join(path);
    let failed = || format!("cannot write {}", target.display());
    let folder = target.parent().with_context(failed)?;
    std::fs::create_dir_all(folder).with_context(failed)?;
    let name = target.file_name().with_context(failed)?.to_string_lossy();
    let partial = folder.join(format!(".{name}.partial"));
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &target)).with_context(failed)?;
    Ok(())
}
