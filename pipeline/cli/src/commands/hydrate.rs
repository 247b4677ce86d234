//! `lynxdata hydrate`: finds and downloads the images that are not shipped with annotations.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use lynxdata_datasets::{Collections, Inventory, Task, inventory};
use lynxdata_run::hydrate::{Brought, bring};
use serde_json::json;

use super::tasks::{Own, check_split, find, load};
use super::{grouped, print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::paths::{input_parser, path_parser};

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
    #[arg(value_parser = input_parser())]
    folder: PathBuf,
    /// The split [default: all splits whose files are present]
    #[arg(long)]
    split: Option<String>,
    /// The folder or archive of its images, if they are not in FOLDER
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    images: Option<PathBuf>,
    /// A further folder or archive that may contain the same images, also under names of other
    /// collections; repeatable
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    also: Vec<PathBuf>,
    /// Copy images that were found elsewhere to where the task expects them, and download the rest
    /// from the addresses of their collection
    #[arg(long)]
    fetch: bool,
    /// Also connect to private and loopback addresses
    #[arg(long, requires = "fetch")]
    allow_private_addresses: bool,
    /// A file of additional collections, for example for a mirror
    #[arg(long, value_name = "TOML", value_parser = input_parser())]
    collections: Option<PathBuf>,
    #[command(flatten)]
    own: Own,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
    if !arguments.fetch && !images.exists() {
        return Err(Failure::Usage(anyhow!("--images {}: there is no such folder or archive", images.display())));
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
        brought = Some(bring(&found, images, arguments.allow_private_addresses)?);
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
        check_split(task, &arguments.folder, split).map_err(Failure::Usage)?;
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
