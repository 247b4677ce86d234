//! `lynxdata verify`: checks that the files of a run are unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use lynxdata_records::{FileEntry, Manifest, PartEntry, RunFolder};
use rayon::prelude::*;
use serde::Serialize;

use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::paths::input_parser;
use lynxdata_run::mirror::Mirror;
use lynxdata_run::recipe::{RECIPE, RESOLVED_RECIPE};
use lynxdata_run::stages::model;
use lynxdata_run::stages::train::CHECKPOINTS;

/// Compare every file of a run with the digest in its manifest
///
/// Reads all files on all cores. Lists each missing or damaged file with the stage that made it.
/// Also lists files that no stage made but that are in a folder of the run, because readers of the
/// folder would take them for data of the run.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata verify run
  lynxdata verify run --json | jq -r '.faults[].path'
  lynxdata verify run --remove; lynxdata run recipe.toml   make damaged parts again

Exit codes: 0 every file is unchanged, 1 some are missing, damaged or foreign.")]
pub(crate) struct Arguments {
    /// The run folder
    #[arg(value_parser = input_parser())]
    run: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Remove the damaged files, so that the next run makes their parts again; parts of a download
    /// are fetched again
    #[arg(long)]
    remove: bool,
}

#[derive(Serialize)]
struct Verified {
    /// Number of files in the manifest.
    files: u64,
    /// Their total size in bytes.
    bytes: u64,
    faults: Vec<FileFault>,
    /// Files that no stage made, in places where readers of the run do not look.
    others: Vec<String>,
    /// Whether the damaged files were removed.
    removed: bool,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct FileFault {
    path: String,
    fault: Fault,
    /// The stage and the part that the file belongs to.
    stage: Option<String>,
    part: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Fault {
    Missing,
    Damaged,
    /// No stage made it.
    Foreign,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::Damaged => "damaged",
            Fault::Foreign => "foreign",
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let root = &arguments.run;
    if Mirror::of(root).is_some() {
        let error = anyhow!(
            "{} is in an object store, but verify reads only local files; verify the local folder of the run instead, which is beside its recipe",
            root.display()
        );
        return Err(Failure::Usage(error));
    }
    let mut verified = verify(root)?;
    if arguments.remove {
        remove(root, &verified.faults)?;
        verified.removed = true;
    }
    if arguments.json {
        print_json(&verified)?;
    } else {
        print(&text(root, &verified))?;
    }
    Ok(if verified.faults.is_empty() { DONE } else { FAILED })
}

fn verify(root: &Path) -> Result<Verified> {
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

fn remove(root: &Path, faults: &[FileFault]) -> Result<()> {
    let run = RunFolder::open(root)?;
    for fault in faults.iter().filter(|fault| fault.fault == Fault::Damaged) {
        run.forget_file(&fault.path)?;
    }
    Ok(())
}

fn text(root: &Path, verified: &Verified) -> String {
    let Verified { files, bytes, faults, others, removed } = verified;
    let mut text = String::new();
    if !faults.is_empty() {
        let cell = |text: &Option<String>| text.clone().unwrap_or_default();
        let rows: Vec<Vec<String>> = faults
            .iter()
            .map(|fault| vec![fault.path.clone(), fault.fault.name().to_owned(), cell(&fault.stage), cell(&fault.part)])
            .collect();
        text.push_str(&columns(&["file", "fault", "stage", "part"], &rows, &[]));
        text.push('\n');
    }
    if !others.is_empty() {
        text.push_str(&format!(
            "files that no stage made, hidden or outside the folders of the run: {}\n",
            others.join(", ")
        ));
    }
    let (files, bytes) = (grouped(*files), grouped(*bytes));
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in faults {
        *counts.entry(fault.fault.name()).or_default() += 1;
    }
    if counts.is_empty() {
        text.push_str(&format!("{files} files with {bytes} bytes: all are unchanged\n"));
        return text;
    }
    let counted: Vec<String> = counts.iter().map(|(fault, files)| format!("{} {fault}", grouped(*files))).collect();
    text.push_str(&format!("{files} files with {bytes} bytes were committed: {}\n", counted.join(", ")));
    let again = "the command that made the run then makes their parts again, and fetches parts of a download again";
    let run = root.display();
    match (counts.contains_key("damaged"), removed) {
        (true, false) => {
            text.push_str(&format!("hint: `lynxdata verify {run} --remove` removes the damaged files; {again}\n"));
        }
        (true, true) => text.push_str(&format!("removed the damaged files; {again}\n")),
        (false, _) if counts.contains_key("missing") => {
            text.push_str("hint: the command that made the run makes parts with missing files again\n");
        }
        (false, _) => {}
    }
    if counts.contains_key("foreign") {
        text.push_str("hint: no stage made the foreign files; remove them, or readers take them for data of the run\n");
    }
    text
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
        let found = verify(&root).unwrap();
        assert!(text(&root, &found).contains("--remove"), "{}", text(&root, &found));
        remove(&root, &found.faults).unwrap();
        assert_eq!(faults(), [expected("pool/part-00001.parquet", Fault::Missing)]);
        assert!(RunFolder::open(&root).unwrap().committed("download", "00001", "").is_none());
    }
}
