//! `lynxdata hydrate`: finds and downloads the images that are not shipped with annotations.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::paths::path_parser;

/// Maximum number of addresses that are listed for a collection.
const SHOWN: usize = 4;

/// List the missing images of a task and their sources, and download them
///
/// An image may also be present under the name of another collection: COCO 2014 and 2017 contain
/// the same images, and image_data.json of Visual Genome lists which of its images come from COCO
/// or Flickr. The structure of every image is read from its header to its end: files that are
/// empty, cut off or not images count as missing, and --fetch replaces them. The exit code is 1
/// while images are missing where the task expects them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata hydrate vqav2 ~/vqa
  lynxdata hydrate vqav2 ~/vqa --json | jq '.collections[] | [.collection, .missing]'
  lynxdata hydrate gqa ~/gqa --also ~/coco --also ~/vg.zip     half of Visual Genome is from COCO
  lynxdata hydrate okvqa ~/okvqa --split val --fetch")]
pub(crate) struct Arguments {
    /// Name of the task
    name: String,
    /// The folder of its files, as its authors publish them
    #[arg(value_parser = path_parser())]
    folder: PathBuf,
    /// The split [default: all splits whose files are present]
    #[arg(long)]
    split: Option<String>,
    /// The folder or archive of its images, if they are not in FOLDER
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    images: Option<PathBuf>,
    /// A further folder or archive that may contain the same images, also under names of other
    /// collections; repeatable
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    also: Vec<PathBuf>,
    /// Copy images that were found elsewhere to where the task expects them, and download the rest
    /// from the addresses of their collection
    #[arg(long)]
    fetch: bool,
    /// Also connect to private and loopback addresses
    #[arg(long, requires = "fetch")]
    allow_private_addresses: bool,
    /// A file of additional collections, for example for a mirror
    #[arg(long, value_name = "TOML", value_parser = path_parser())]
    collections: Option<PathBuf>,
    #[command(flatten)]
    own: Own,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Counts of the images that were copied and of the addresses that were requested.
#[derive(Default, Serialize)]
struct Brought {
    /// Images that were found elsewhere and copied.
    copied: u64,
    /// Number of addresses that were requested, by download status.
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
    // The folder of --images is made if images are fetched into it.
    let of_flag = |flag: &'static str, path| (flag, path);
    let named = arguments.images.iter().filter(|_| !arguments.fetch).map(|path| of_flag("--images", path));
    for (flag, path) in named.chain(arguments.also.iter().map(|path| of_flag("--also", path))) {
        if !path.exists() {
            return Err(Failure::Usage(anyhow!("{flag} {}: there is no such folder or archive", path.display())));
        }
    }
    if arguments.fetch && images.is_file() {
        return Err(Failure::Usage(anyhow!(
            "--fetch writes images into a folder, but {} is a file; name a folder by --images",
            images.display()
        )));
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
        tracing::info!("--fetch copies images that were found elsewhere and downloads those that have an address");
    }
    Ok(if found.absent() == 0 { DONE } else { FAILED })
}

/// Returns the split that is named, or all splits whose files are present.
fn splits_of(task: &Task, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    if let Some(split) = &arguments.split {
        return Ok(vec![split.clone()]);
    }
    let is_there = |split: &&String| task.native_files(&arguments.folder, split).is_ok();
    let splits: Vec<String> = task.splits.keys().filter(is_there).cloned().collect();
    match task.splits.keys().next() {
        Some(first) if splits.is_empty() => {
            // The error of the first split names the missing file.
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
        text.push_str(&format!("copied: {}; requested addresses: {fetched}\n", grouped(brought.copied)));
    }
    let (splits, records) = (found.splits.join(", "), grouped(found.records));
    text.push_str(&format!("{} ({splits}): {records} records\n", found.task));
    if found.collections.is_empty() {
        text.push_str("  the records name no image in a folder\n");
    }
    for held in &found.collections {
        let name = held.collection.as_deref().unwrap_or("images of no collection");
        let published = held.published.map(|all| format!(" of {}", grouped(all))).unwrap_or_default();
        text.push_str(&format!(
            "  {name}: {}{published} needed, {} present, {} elsewhere, {} missing ({} of them can be downloaded)\n",
            grouped(held.wanted),
            grouped(held.there),
            grouped(held.elsewhere),
            grouped(held.missing),
            grouped(held.fetchable)
        ));
        if let Some(example) = &held.broken_example {
            text.push_str(&format!(
                "    {} of them have a file that is empty, cut off or not an image, for example {example}\n",
                grouped(held.broken)
            ));
        }
        if let Some(example) = &held.example {
            text.push_str(&format!("    for example {example}\n"));
            for source in held.from.iter().take(SHOWN) {
                text.push_str(&format!("    from {source}\n"));
            }
        }
    }
    text
}

/// Copies images that were found elsewhere, and downloads those that have addresses. If an image
/// has several addresses, tries the next one after a failure.
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
    let mut put = BTreeSet::new();
    for round in 0.. {
        left.retain(|own| own.urls.len() > round && !put.contains(&own.path));
        if left.is_empty() {
            break;
        }
        tracing::info!(pictures = left.len(), "downloading images");
        let rows = left.iter().map(|own| json!({"url": own.urls[round], "path": own.path}).to_string());
        let list = scratch.path().join("list.jsonl");
        std::fs::write(&list, rows.map(|row| row + "\n").collect::<String>())
            .with_context(|| format!("cannot write {}", list.display()))?;
        let source = Source::open(&SourceConfig::new("list.jsonl", "url"), scratch.path())?;
        for part in source.parts(config.rows_per_part) {
            let mut take = |batch: RecordBatch, _: Vec<Option<()>>| put_all(images, &batch, &mut put);
            let log = runtime.block_on(downloader.download_part(&part?, None, &|_| (), &mut take))?;
            let statuses = log.column_by_name("status").context("a log has statuses")?.as_string::<i32>();
            for status in statuses.iter().flatten() {
                *brought.fetched.entry(status.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(brought)
}

/// Writes the images of a batch of the pool to their paths, which are added to `written`.
fn put_all(images: &Path, batch: &RecordBatch, written: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("a batch has no column {name}"));
    let (paths, pictures) = (column("path")?.as_string::<i32>(), column("image")?.as_struct());
    let bytes = pictures.column_by_name("bytes").context("an image has bytes")?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        if !bytes.is_null(row) {
            put(images, paths.value(row), bytes.value(row))?;
            written.insert(paths.value(row).to_owned());
        }
    }
    Ok(())
}

/// Writes an image under a temporary name and renames it, so that it is never there in part.
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
