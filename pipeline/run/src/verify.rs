//! Checks that the files of a run are unchanged.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use lynxdata_records::{FileEntry, Manifest, PartEntry, RunFolder};
use rayon::prelude::*;
use serde::Serialize;

use crate::Failure;
use crate::mirror::Mirror;
use crate::recipe::{RECIPE, RESOLVED_RECIPE};
use crate::stages::model;
use crate::stages::train::CHECKPOINTS;

/// The files of a run, compared with the digests in its manifest.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Number of files in the manifest.
    pub files: u64,
    /// Their total size in bytes.
    pub bytes: u64,
    /// Files that are not as committed.
    pub faults: Vec<FileFault>,
    /// Files that no stage made, in places where readers of the run do not look.
    pub others: Vec<String>,
    /// Whether the damaged files were removed.
    pub removed: bool,
}

/// A file that is not as committed.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct FileFault {
    /// Its path in the run folder.
    pub path: String,
    /// What is wrong with it.
    pub fault: Fault,
    /// The stage that the file belongs to.
    pub stage: Option<String>,
    /// The part that the file belongs to.
    pub part: Option<String>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is not there.
    Missing,
    /// Its content has changed.
    Damaged,
    /// No stage made it.
    Foreign,
}

impl Fault {
    /// Returns the name that tables and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::Damaged => "damaged",
            Fault::Foreign => "foreign",
        }
    }
}

/// Compares every file of a run with the digest in its manifest, on all cores.
///
/// # Errors
/// [`Failure::Usage`] if the run is in an object store, [`Failure::Failed`] if a file cannot be
/// read.
pub fn verify(root: &Path) -> Result<Verified, Failure> {
    if Mirror::of(root).is_some() {
        let error = anyhow!(
            "{} is in an object store, but verify reads only local files; verify the local folder of the run instead, which is beside its recipe",
            root.display()
        );
        return Err(Failure::Usage(error));
    }
    Ok(compared(root)?)
}

/// Compares the files of a run in a folder.
fn compared(root: &Path) -> Result<Verified> {
    let manifest = Manifest::read(root)?;
    let files: Vec<(&FileEntry, &str, &str)> = manifest
        .all_parts()
        .flat_map(|part| part.files.iter().map(|file| (file, part.stage.as_str(), part.part.as_str())))
        .collect();
    let fault_of = |file: &FileEntry| -> Result<Option<Fault>> {
        let path = root.join(&file.path);
        Ok(match path.exists() {
            false => Some(Fault::Missing),
            true if file.describes(&path)? => None,
            true => Some(Fault::Damaged),
        })
    };
    let found: Vec<Option<Fault>> = files.par_iter().map(|(file, ..)| fault_of(file)).collect::<Result<_>>()?;
    // Another process may be working in the folder and replacing files, which it records in the
    // manifest.
    let after = Manifest::read(root)?;
    let mut faults: Vec<FileFault> = Vec::new();
    for ((file, stage, part), fault) in files.iter().zip(found) {
        let is_still_there = after.part(stage, part).is_some_and(|part| part.files.contains(file));
        if let Some(fault) = fault.filter(|_| is_still_there) {
            let (stage, part) = (Some((*stage).to_owned()), Some((*part).to_owned()));
            faults.push(FileFault { path: file.path.clone(), fault, stage, part });
        }
    }
    let mut others = Vec::new();
    for path in unknown_files(root, &after)? {
        if is_taken_for_ours(&path, &after) {
            faults.push(FileFault { path, fault: Fault::Foreign, stage: None, part: None });
        } else {
            others.push(path);
        }
    }
    let bytes = files.iter().map(|(file, ..)| file.bytes).sum();
    Ok(Verified { files: files.len() as u64, bytes, faults, others, removed: false })
}

/// Returns whether readers of the run would find a file: it is in a folder that the manifest names,
/// and not hidden.
fn is_taken_for_ours(path: &str, manifest: &Manifest) -> bool {
    let is_hidden = path.split('/').any(|name| name.starts_with('.'));
    let folder = path.split_once('/').map(|(folder, _)| folder);
    let has_folder = |file: &str| file.split_once('/').map(|(folder, _)| folder) == folder;
    folder.is_some() && !is_hidden && manifest.all_parts().flat_map(PartEntry::paths).any(has_folder)
}

/// Returns the files of a run folder that no stage made and that are not the run's own.
fn unknown_files(root: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let own = ["manifest.jsonl", ".lock", RECIPE, RESOLVED_RECIPE, model::CHECKPOINT, model::METRICS];
    let known: BTreeSet<&str> = manifest.all_parts().flat_map(PartEntry::paths).chain(own).collect();
    let mut unknown = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let cannot_list = || format!("cannot list {}", path.display());
        for entry in std::fs::read_dir(&path).with_context(cannot_list)? {
            let entry = entry.with_context(cannot_list)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if known.contains(name.as_str()) || name == ".partial" || name == CHECKPOINTS {
                continue; // a folder of files is known as a whole
            }
            if entry.file_type().with_context(cannot_list)?.is_dir() {
                folders.push(name);
            } else {
                unknown.push(name);
            }
        }
    }
    unknown.sort();
    Ok(unknown)
}

/// Removes the damaged files, so that the next run makes their parts again.
///
/// # Errors
/// If a file cannot be removed.
pub fn remove_damaged(root: &Path, verified: &mut Verified) -> Result<()> {
    let run = RunFolder::open(root)?;
    for fault in verified.faults.iter().filter(|fault| fault.fault == Fault::Damaged) {
        run.forget_file(&fault.path)?;
    }
    verified.removed = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lynxdata_records::NewPart;

    #[test]
    fn every_file_that_is_not_as_committed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        let names = ["pool/part-00000.parquet", "pool/part-00001.parquet", "shards/files/00000", "report.html"];
        for (index, name) in names.iter().enumerate() {
            let mut part = NewPart::new("download", &format!("{index:05}"), String::new());
            let path = run.stage_file(&mut part, name).unwrap();
            if name.ends_with("00000") {
                std::fs::create_dir(&path).unwrap();
                std::fs::write(path.join("a.jpg"), "picture").unwrap();
            } else {
                std::fs::write(path, *name).unwrap();
            }
            run.commit(part).unwrap();
        }
        drop(run);
        let faults = || {
            let faults = verify(&root).unwrap().faults;
            faults.into_iter().map(|fault| (fault.path, fault.fault)).collect::<Vec<_>>()
        };
        assert_eq!(faults(), []);
        let damage = |path: &str| {
            let mut bytes = std::fs::read(root.join(path)).unwrap();
            bytes[0] ^= 1;
            std::fs::write(root.join(path), bytes).unwrap();
        };
        let expected = |path: &str, fault| (path.to_owned(), fault);
        for path in ["pool/part-00000.parquet", "shards/files/00000/a.jpg", "report.html"] {
            damage(path);
            let named = path.trim_end_matches("/a.jpg");
            assert_eq!(faults(), [expected(named, Fault::Damaged)]);
            damage(path);
        }
        // A foreign file in a folder of the run is a fault; elsewhere it is not, and neither is a
        // hidden file.
        for path in ["pool/part-00009.parquet", "notes.txt", "mine/a.txt", "pool/.DS_Store"] {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), "x").unwrap();
        }
        assert_eq!(faults(), [expected("pool/part-00009.parquet", Fault::Foreign)]);
        assert_eq!(verify(&root).unwrap().others, ["mine/a.txt", "notes.txt", "pool/.DS_Store"]);
        std::fs::remove_file(root.join("pool/part-00009.parquet")).unwrap();
        // A removed damaged file counts as missing, so it is made again.
        damage("pool/part-00001.parquet");
        remove_damaged(&root, &mut verify(&root).unwrap()).unwrap();
        assert_eq!(faults(), [expected("pool/part-00001.parquet", Fault::Missing)]);
        assert!(RunFolder::open(&root).unwrap().committed("download", "00001", "").is_none());
    }
}
