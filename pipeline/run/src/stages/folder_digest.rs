//! Digests of folders of images, by which a stage notices that they have changed.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use lynxdata_records::{RunFolder, fingerprint};

/// Adds a digest of the names, sizes and modification times of all files of a folder to the inputs
/// of a part, so that the part is made again if an image is added, removed or changed. Run folders
/// are left out, because each run writes to its own. A missing folder adds nothing; an archive
/// instead of a folder is treated like any file.
pub(crate) fn add(folder: &Path, inputs: &mut Vec<String>) -> Result<()> {
    if folder.is_file() {
        let metadata = std::fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        inputs.push(stamp(&name, &metadata));
        return Ok(());
    }
    add_below(folder, &mut BTreeSet::new(), inputs)
}

fn stamp(name: &str, metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{name} {} {:?}", metadata.len(), modified.map(|time| time.as_nanos()))
}

/// Adds the files below a folder. `seen` holds the folders that were read, because links may form
/// circles.
fn add_below(folder: &Path, seen: &mut BTreeSet<PathBuf>, inputs: &mut Vec<String>) -> Result<()> {
    let failed = || format!("cannot read {}", folder.display());
    let place = match folder.canonicalize() {
        // Missing images are reported for each record.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        place => place.with_context(failed)?,
    };
    if RunFolder::is_at(&place) || !seen.insert(place) {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(failed)?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().with_context(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.path();
        // The target of a link; a broken link is not an image.
        let Ok(metadata) = std::fs::metadata(&path) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if metadata.is_dir() {
            files.push(name);
            add_below(&path, seen, inputs)?;
        } else if metadata.is_file() {
            files.push(stamp(&name, &metadata));
        }
    }
    inputs.push(fingerprint(files.iter().map(String::as_str)));
    Ok(())
}
