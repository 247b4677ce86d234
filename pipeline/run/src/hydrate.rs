//! Copies and downloads the images that are not shipped with annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arrow::array::{Array, RecordBatch, StringArray};
use lynxdata_datasets::{Absent, Inventory};
use lynxdata_fetch::{DownloadConfig, Downloader, Metrics, Source, SourceConfig};
use lynxdata_picture::{Check, Resize};
use lynxdata_records::schema::{Column, IMAGE, IMAGE_BYTES, STATUS, URL};
use serde::Serialize;
use serde_json::json;

/// The column of the list of missing images that holds their paths.
const PATH: Column<StringArray> = Column::named("path");

/// Counts of the images that were copied and of the addresses that were requested.
#[derive(Debug, Default, Serialize)]
pub struct Brought {
    /// Images that were found elsewhere and copied.
    pub copied: u64,
    /// Number of addresses that were requested, by download status.
    pub fetched: BTreeMap<String, u64>,
}

/// Copies images that were found elsewhere to where a task expects them below the folder `images`,
/// and downloads those that have addresses; with private and loopback addresses if they are
/// allowed. If an image has several addresses, tries the next one after a failure.
///
/// # Errors
/// If an image cannot be read or written. One that cannot be downloaded is no error.
pub fn bring(found: &Inventory, images: &Path, allow_private_addresses: bool) -> anyhow::Result<Brought> {
    let config = DownloadConfig {
        resize: Resize::Keep,
        check: Check::Structure,
        allow_private_addresses,
        ..DownloadConfig::default()
    };
    let mut brought = Brought::default();
    let absent = || found.collections.iter().flat_map(|held| &held.absent);
    for own in absent() {
        if let Some(place) = &own.elsewhere {
            let bytes = place.read().with_context(|| format!("cannot read {}", own.path))?;
            put(images, &own.path, &bytes)?;
            brought.copied += 1;
        }
    }
    let runtime = crate::stage::runtime()?;
    let mut left: Vec<&Absent> = absent().filter(|own| own.elsewhere.is_none()).collect();
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let downloader = {
        let _inside = runtime.enter();
        Downloader::new(&config, scratch.path(), Arc::new(Metrics::default()))?
    };
    let mut put = BTreeSet::new();
    for round in 0.. {
        left.retain(|own| own.urls.len() > round && !put.contains(&own.path));
        if left.is_empty() {
            break;
        }
        tracing::info!(pictures = left.len(), "downloading images");
        let rows = left.iter().map(|own| json!({URL.name: own.urls[round], PATH.name: own.path}).to_string());
        let list = scratch.path().join("list.jsonl");
        std::fs::write(&list, rows.map(|row| row + "\n").collect::<String>())
            .with_context(|| format!("cannot write {}", list.display()))?;
        let source = Source::open(&SourceConfig::new("list.jsonl", URL.name), scratch.path())?;
        for part in source.parts(config.rows_per_part) {
            let mut take = |batch: RecordBatch, _: Vec<Option<()>>| put_all(images, &batch, &mut put);
            let log = runtime.block_on(downloader.download_part(&part?, None, &|_| (), &mut take))?;
            let statuses = STATUS.of(&log, Path::new("the download log"))?;
            for status in statuses.iter().flatten() {
                *brought.fetched.entry(status.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(brought)
}

/// Writes the images of a batch of the pool to their paths, which are added to `written`.
fn put_all(images: &Path, batch: &RecordBatch, written: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let list = Path::new("the list of missing images");
    let (paths, pictures) = (PATH.of(batch, list)?, IMAGE.of(batch, list)?);
    let bytes = IMAGE_BYTES.within(pictures).context("an image has bytes")?;
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
