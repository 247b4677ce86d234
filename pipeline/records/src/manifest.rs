//! The manifest: one JSON line for every committed part and every completed stage. If several lines
//! are about one part or stage, the last one is valid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The name of the manifest in a run folder.
pub(crate) const MANIFEST: &str = "manifest.jsonl";

/// A file of a committed part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the run folder, with `/` on every system. It may be a folder of files.
    pub path: String,
    /// Size in bytes; for a folder, the sum over its files.
    pub bytes: u64,
    /// BLAKE3 of the content, hexadecimal; for a folder, over the names and digests of its files.
    pub blake3: String,
    /// Whether it holds measured times, which differ from run to run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock: bool,
}

/// A committed part: the unit in which work is done, resumed and written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartEntry {
    /// The stage that made it.
    pub stage: String,
    /// Its name within the stage. Parts are ordered by name, as text.
    pub part: String,
    /// BLAKE3 over the stage's format version, its settings and its inputs.
    pub fingerprint: String,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// The rows read, by class; empty if the stage has only one class. The counts add up to
    /// `rows_in`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Wall-clock seconds that the part took.
    pub seconds: f64,
}

impl PartEntry {
    /// Returns the paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// Returns the paths of its files that `other`, which may be another version of the part, does
    /// not have.
    pub fn paths_not_in<'a>(&'a self, other: &'a PartEntry) -> impl Iterator<Item = &'a str> {
        self.paths().filter(|path| other.paths().all(|kept| kept != *path))
    }

    /// Returns a digest of the part's files and counts, for the fingerprints of what is made from
    /// it. Files that hold measured times are left out.
    pub fn digest(&self) -> String {
        let files = self.files.iter().filter(|file| !file.clock);
        let files = files.flat_map(|file| [file.path.clone(), file.blake3.clone()]);
        let counts = self.counts.iter().flat_map(|(class, rows)| [class.clone(), rows.to_string()]);
        let texts: Vec<String> = files.chain(counts).collect();
        crate::fingerprint(texts.iter().map(String::as_str))
    }
}

/// A complete stage: every part of it is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEntry {
    /// The stage.
    pub stage: String,
    /// The names of its parts, in order.
    pub parts: Vec<String>,
    /// [`Manifest::digest`] of the stages that it read, at the time of reading.
    pub inputs: String,
    /// A digest of the recipe settings that it was made with. `None` in manifests of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    Part(PartEntry),
    /// The part is about to be replaced, so earlier lines about it no longer hold.
    Remove {
        stage: String,
        part: String,
    },
    Stage(StageEntry),
}

/// The current content of the manifest.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    pub(crate) parts: BTreeMap<(String, String), PartEntry>,
    pub(crate) stages: BTreeMap<String, StageEntry>,
}

impl Manifest {
    /// Reads the manifest of a run folder without locking it, as `lynxdata status` does beside a
    /// running process.
    pub fn read(root: &Path) -> Result<Manifest> {
        let path = root.join(MANIFEST);
        if !path.is_file() {
            return Err(Error::NoRun { path: root.to_owned() });
        }
        let bytes = std::fs::read(&path).map_err(|source| Error::io("read", &path, source))?;
        Ok(Manifest::parse(&bytes, &path)?.0)
    }

    /// Parses the lines of a manifest. `path` is only used in messages; it may be the URL of a
    /// store.
    ///
    /// # Errors
    /// [`Error::Manifest`] if a whole line is damaged.
    pub fn of_lines(lines: &[u8], path: &Path) -> Result<Manifest> {
        Ok(Manifest::parse(lines, path)?.0)
    }

    /// Parses manifest lines. Returns also how many bytes the whole lines have. The rest is a line
    /// that was cut off when a process was killed; it is not part of the run.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<(Manifest, usize)> {
        let mut manifest = Manifest::default();
        let mut position = 0;
        let mut number = 0;
        while let Some(length) = bytes[position..].iter().position(|byte| *byte == b'\n') {
            number += 1;
            let damaged = |reason| Error::Manifest { path: path.to_owned(), line: number, reason };
            let line: Line = serde_json::from_slice(&bytes[position..position + length])
                .map_err(|error| damaged(error.to_string()))?;
            if let Line::Part(part) = &line
                && let Some(outside) = part.paths().find(|path| !stays_below(path))
            {
                return Err(damaged(format!("{outside:?} is not a path in the run folder")));
            }
            manifest.apply(line);
            position += length + 1;
        }
        Ok((manifest, position))
    }

    pub(crate) fn apply(&mut self, line: Line) {
        match line {
            Line::Part(part) => {
                // A replaced part makes its stage incomplete until a later stage line completes it
                // again.
                self.stages.remove(&part.stage);
                self.parts.insert((part.stage.clone(), part.part.clone()), part);
            }
            Line::Remove { stage, part } => {
                self.stages.remove(&stage);
                self.parts.remove(&(stage, part));
            }
            Line::Stage(stage) => {
                let names: BTreeSet<&String> = stage.parts.iter().collect();
                self.parts.retain(|(name, part), _| *name != stage.stage || names.contains(part));
                self.stages.insert(stage.stage.clone(), stage);
            }
        }
    }

    /// Returns a committed part.
    pub fn part(&self, stage: &str, part: &str) -> Option<&PartEntry> {
        self.parts.get(&(stage.to_owned(), part.to_owned()))
    }

    /// Returns the committed parts of a stage in the order of their names, whether or not the stage
    /// is complete.
    pub fn parts<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a PartEntry> {
        self.parts.values().filter(move |part| part.stage == stage)
    }

    /// Returns the committed parts of all stages.
    pub fn all_parts(&self) -> impl Iterator<Item = &PartEntry> {
        self.parts.values()
    }

    /// Returns a digest of all committed parts of these stages.
    pub fn digest(&self, stages: &[&str]) -> String {
        let digests: Vec<String> = stages.iter().flat_map(|stage| self.parts(stage)).map(PartEntry::digest).collect();
        crate::fingerprint(digests.iter().map(String::as_str))
    }

    /// Returns whether the stage is complete and up to date: the stages that it `reads` have not
    /// changed since, and it was made with these `settings` (a digest as in
    /// [`StageEntry::settings`]; a stage that records none counts as made with them).
    pub fn is_current(&self, stage: &str, reads: &[&str], settings: &str) -> bool {
        self.stages.get(stage).is_some_and(|entry| {
            entry.settings.as_deref().is_none_or(|made_by| made_by == settings) && entry.inputs == self.digest(reads)
        })
    }

    /// Returns whether every part of the stage is committed.
    pub fn is_complete(&self, stage: &str) -> bool {
        self.stages.contains_key(stage)
    }
}

/// Returns whether a relative path stays below the folder that it is joined to. This is checked
/// because a manifest may come from a store that others can write to. The folder itself (`.`) is
/// refused too, because files of parts are removed.
fn stays_below(path: &str) -> bool {
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some() && components.all(|component| matches!(component, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_part_lie_in_the_run_folder() {
        let line = |path: &str| {
            let file = FileEntry { path: path.to_owned(), bytes: 1, blake3: String::new(), clock: false };
            let part = PartEntry {
                stage: "download".to_owned(),
                part: "00000".to_owned(),
                fingerprint: String::new(),
                files: vec![file],
                rows_in: 1,
                rows_out: 1,
                counts: BTreeMap::new(),
                seconds: 0.0,
            };
            serde_json::to_string(&Line::Part(part)).unwrap() + "\n"
        };
        let read = |path: &str| Manifest::of_lines(line(path).as_bytes(), Path::new("s3://bucket/run/manifest.jsonl"));
        assert!(read("pool/part-00000.parquet").is_ok());
        for outside in ["../part.parquet", "pool/../../part.parquet", "/etc/passwd", "", ".."] {
            let error = read(outside).unwrap_err().to_string();
            assert!(error.contains("manifest.jsonl:1") && error.contains("run folder"), "{outside}: {error}");
        }
    }
}
