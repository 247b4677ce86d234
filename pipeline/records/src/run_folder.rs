//! The folder of a run: atomic commits of parts, the manifest that records them, and the lock that
//! keeps other processes out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::manifest::{Line, MANIFEST};
use crate::{Error, FileEntry, Manifest, Measured, PartEntry, Result, StageEntry};

const LOCK: &str = ".lock";
const TEMPORARY: &str = ".partial";

/// Number of bytes of a file that are read to find out whether it is a manifest. A line names the
/// files of one part, with a few hundred bytes each.
const LONGEST_FIRST_LINE: u64 = 1 << 20;

/// A run folder that this process has locked or inspects.
///
/// The files of a part are written to a temporary folder, flushed to disk and renamed; the manifest
/// line comes last. Files that the manifest does not list do not count. A killed process leaves at
/// most such files, and the next process writes them again.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    state: Mutex<State>,
    /// The locked file, open as long as this value lives; `None` for a folder that is only
    /// inspected.
    _lock: Option<File>,
}

#[derive(Debug)]
struct State {
    manifest: Manifest,
    log: Option<File>,
    /// Whether nothing may be changed any more, because the process is about to end.
    is_halted: bool,
    /// Digests and paths of files that this process has verified or written.
    intact: BTreeSet<(String, String)>,
}

impl State {
    /// Appends lines to the manifest on disk. If that fails, as on a full disk, the manifest is
    /// truncated to its previous length. If that fails as well, nothing more is written: a line
    /// after an incomplete one would make the manifest unreadable.
    fn extend(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let log = self.log.as_mut().ok_or(std::io::ErrorKind::ReadOnlyFilesystem)?;
        let before = log.metadata()?.len();
        let written = log.write_all(lines).and_then(|()| log.sync_data());
        if written.is_err() && log.set_len(before).is_err() {
            self.log = None;
        }
        written
    }
}

/// A part that is not committed yet.
#[derive(Debug)]
pub struct NewPart {
    stage: String,
    part: String,
    fingerprint: String,
    files: Vec<StagedFile>,
    /// Rows read.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// The rows read, by class; empty if there is only one class. The counts must add up to
    /// `rows_in`.
    pub counts: BTreeMap<String, u64>,
    /// Wall-clock seconds that the part took.
    pub seconds: f64,
}

/// A file of a part that is not committed yet.
#[derive(Debug)]
struct StagedFile {
    temporary: PathBuf,
    /// Final path, relative to the run folder, with `/`.
    path: String,
    /// Whether it holds measured times.
    clock: bool,
    /// Its size and digest, if they were computed while it was written.
    measured: Option<Measured>,
}

impl NewPart {
    /// Begins a part, without files and rows.
    pub fn new(stage: &str, part: &str, fingerprint: String) -> Self {
        NewPart {
            stage: stage.to_owned(),
            part: part.to_owned(),
            fingerprint,
            files: Vec::new(),
            rows_in: 0,
            rows_out: 0,
            counts: BTreeMap::new(),
            seconds: 0.0,
        }
    }

    /// Returns the stage that makes it.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// Returns its name within the stage.
    pub fn name(&self) -> &str {
        &self.part
    }

    /// Sets the size and digest of a file, so that it need not be read again. `temporary` is the
    /// path that [`RunFolder::stage_file`] returned.
    pub fn set_measured(&mut self, temporary: &Path, measured: Measured) {
        if let Some(file) = self.files.iter_mut().find(|file| file.temporary == temporary) {
            file.measured = Some(measured);
        }
    }
}

impl RunFolder {
    /// Opens or creates a run folder and locks it for this process.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has locked it, [`Error::NotARun`] if it holds files but
    /// no manifest, [`Error::Manifest`] if its manifest is damaged.
    pub fn open(root: &Path) -> Result<RunFolder> {
        let manifest_path = root.join(MANIFEST);
        if !manifest_path.exists() && holds_foreign_files(root)? {
            return Err(Error::NotARun { path: root.to_owned() });
        }
        fs::create_dir_all(root).map_err(|source| Error::io("create", root, source))?;
        let lock_path = root.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| Error::io("open", &lock_path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: root.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", lock_path, source)),
        }
        remove_folder(&root.join(TEMPORARY))?;

        let mut log = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(&manifest_path)
            .map_err(|source| Error::io("open", &manifest_path, source))?;
        sync_folder(root)?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes).map_err(|source| Error::io("read", &manifest_path, source))?;
        let (manifest, whole) = Manifest::parse(&bytes, &manifest_path)?;
        if whole < bytes.len() {
            log.set_len(whole as u64).map_err(|source| Error::io("truncate", &manifest_path, source))?;
        }
        let state = Mutex::new(State { manifest, log: Some(log), is_halted: false, intact: BTreeSet::new() });
        Ok(RunFolder { root: root.to_owned(), state, _lock: Some(lock) })
    }

    /// Opens a run folder for reading, without locking, creating or changing anything. A missing
    /// folder counts as empty. Commits fail.
    pub fn inspect(root: &Path) -> Result<RunFolder> {
        let manifest = match Manifest::read(root) {
            Err(Error::NoRun { .. }) => Manifest::default(),
            manifest => manifest?,
        };
        let state = Mutex::new(State { manifest, log: None, is_halted: false, intact: BTreeSet::new() });
        Ok(RunFolder { root: root.to_owned(), state, _lock: None })
    }

    /// Returns whether this is a run folder, finished or not.
    pub fn is_at(root: &Path) -> bool {
        let manifest = root.join(MANIFEST);
        // Before the first commit the manifest is empty, and only the lock file shows that it is
        // ours.
        manifest.is_file() && (root.join(LOCK).is_file() || begins_as_manifest(&manifest))
    }

    /// Returns the path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns a copy of the manifest as it is now.
    pub fn manifest(&self) -> Manifest {
        self.state().manifest.clone()
    }

    /// Returns the lines of the manifest. Commits only append lines, so of two copies of a run, one
    /// is ahead if its lines begin with all lines of the other.
    pub fn manifest_lines(&self) -> Result<Vec<u8>> {
        let _no_commit = self.state();
        let path = self.root.join(MANIFEST);
        fs::read(&path).map_err(|source| Error::io("read", path, source))
    }

    /// Takes over the state of another copy of this run whose manifest continues this one. Moves
    /// `files`, pairs of a file and its path in the run folder, into place, appends the lines, and
    /// removes files that the manifest no longer lists. If the process is killed in between, this
    /// can be called again. Some files may then be newer than the manifest says, but nothing reads
    /// them until it has finished.
    ///
    /// # Errors
    /// [`Error::Manifest`] if a line is damaged; [`Error::Halted`] after [`halt`](Self::halt);
    /// [`Error::Io`] if a file operation fails.
    ///
    /// # Panics
    /// If `lines` do not begin with the lines of this manifest.
    pub fn take_over(&self, lines: &[u8], files: &[(PathBuf, String)]) -> Result<()> {
        let path = self.root.join(MANIFEST);
        let here = self.manifest_lines()?;
        let more = lines.strip_prefix(&here[..]).expect("one manifest continues the other");
        let manifest = Manifest::of_lines(lines, &path)?;
        let mut state = self.state_to_change()?;
        for (file, path) in files {
            self.move_into_place(file, path)?;
        }
        let kept: BTreeSet<&str> = manifest.all_parts().flat_map(PartEntry::paths).collect();
        for old in state.manifest.all_parts().flat_map(PartEntry::paths).filter(|path| !kept.contains(path)) {
            self.remove_with_folders(old)?;
        }
        state.extend(more).map_err(|source| Error::io("append to", path, source))?;
        state.manifest = manifest;
        Ok(())
    }

    /// Removes a file or folder of a part. The part then no longer counts as
    /// [`committed`](Self::committed) and is made again.
    ///
    /// # Errors
    /// [`Error::Halted`] after [`halt`](Self::halt); [`Error::Io`] if the disk refuses.
    pub fn forget_file(&self, path: &str) -> Result<()> {
        let _state = self.state_to_change()?;
        remove(&self.root.join(path))
    }

    /// Returns the part of this name, whatever its fingerprint.
    pub fn part(&self, stage: &str, part: &str) -> Option<PartEntry> {
        self.state().manifest.part(stage, part).cloned()
    }

    /// Returns the part if it has this fingerprint and its files still exist with their recorded
    /// sizes.
    pub fn committed(&self, stage: &str, part: &str, fingerprint: &str) -> Option<PartEntry> {
        let entry = self.state().manifest.part(stage, part)?.clone();
        let same = entry.fingerprint == fingerprint
            && entry.files.iter().all(|file| {
                let metadata = fs::metadata(self.root.join(&file.path));
                metadata.is_ok_and(|metadata| metadata.is_dir() || metadata.len() == file.bytes)
            });
        same.then_some(entry)
    }

    /// Returns the path of a file of a part, after comparing its content with its digest. The
    /// comparison is skipped if this process has done it before or wrote the file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or has other content.
    pub fn intact(&self, file: &FileEntry) -> Result<PathBuf> {
        let path = self.root.join(&file.path);
        // The key includes the digest, because the file may be replaced while this process runs.
        let known = (file.blake3.clone(), file.path.clone());
        if self.state().intact.contains(&known) {
            return Ok(path);
        }
        if !file.describes(&path)? {
            return Err(Error::Damaged { path, run: self.root.clone() });
        }
        self.state().intact.insert(known);
        Ok(path)
    }

    /// Returns a folder for temporary files, which no commit lists. It may not exist yet. The next
    /// process that opens the run folder removes it.
    pub fn temporary_folder(&self) -> PathBuf {
        self.root.join(TEMPORARY)
    }

    /// Returns the temporary path at which to write a file, or to create a folder of files. It
    /// appears at `path` (relative to the run folder, with `/`) when the part is committed.
    pub fn stage_file(&self, part: &mut NewPart, path: &str) -> Result<PathBuf> {
        self.stage(part, path, false)
    }

    /// Does the same as [`stage_file`](Self::stage_file) for a file that holds measured times. Such
    /// a file differs from run to run, so it does not enter the digest of the part.
    pub fn stage_clock_file(&self, part: &mut NewPart, path: &str) -> Result<PathBuf> {
        self.stage(part, path, true)
    }

    fn stage(&self, part: &mut NewPart, path: &str, clock: bool) -> Result<PathBuf> {
        let _state = self.state_to_change()?;
        let folder = self.temporary_folder();
        fs::create_dir_all(&folder).map_err(|source| Error::io("create", &folder, source))?;
        let name = format!("{}-{}-{}", part.stage, part.part, path).replace('/', "-");
        let temporary = folder.join(name);
        part.files.push(StagedFile { temporary: temporary.clone(), path: path.to_owned(), clock, measured: None });
        Ok(temporary)
    }

    /// Moves the files of a part into place and records the part. Removes files that the part had
    /// before and no longer has.
    ///
    /// # Errors
    /// [`Error::Counts`] if the part's counts do not add up to the rows it read; [`Error::Halted`]
    /// after [`halt`](Self::halt); [`Error::Io`] if a file operation fails.
    pub fn commit(&self, part: NewPart) -> Result<PartEntry> {
        let counted: u64 = part.counts.values().sum();
        if !part.counts.is_empty() && counted != part.rows_in {
            return Err(Error::Counts { stage: part.stage, part: part.part, rows_in: part.rows_in, counted });
        }
        let files = part.files.iter().map(digest).collect::<Result<Vec<_>>>();
        // The lock is held from here on, so that an interrupt (`halt`) comes before all of it or
        // after all of it. If it came before, it has also removed the files.
        let mut state = self.state_to_change()?;
        let files = files?;
        let old = state.manifest.part(&part.stage, &part.part).cloned();
        if old.is_some() {
            self.append(&mut state, Line::Remove { stage: part.stage.clone(), part: part.part.clone() })?;
        }
        for StagedFile { temporary, path, .. } in &part.files {
            self.move_into_place(temporary, path)?;
        }
        let entry = PartEntry {
            stage: part.stage,
            part: part.part,
            fingerprint: part.fingerprint,
            files,
            rows_in: part.rows_in,
            rows_out: part.rows_out,
            counts: part.counts,
            seconds: part.seconds,
        };
        self.append(&mut state, Line::Part(entry.clone()))?;
        state.intact.extend(entry.files.iter().map(|file| (file.blake3.clone(), file.path.clone())));
        for path in old.iter().flat_map(|old| old.paths_not_in(&entry)) {
            self.remove_with_folders(path)?;
        }
        Ok(entry)
    }

    /// Removes a file or folder of a part, and the folders around it that are empty then: readers
    /// take the folder of a format as a sign that there are files of it.
    fn remove_with_folders(&self, path: &str) -> Result<()> {
        let path = self.root.join(path);
        remove(&path)?;
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) if source.kind() == std::io::ErrorKind::DirectoryNotEmpty => break,
                Err(source) => return Err(Error::io("remove", folder, source)),
            }
        }
        Ok(())
    }

    fn move_into_place(&self, file: &Path, path: &str) -> Result<()> {
        let target = self.root.join(path);
        let folder = target.parent().expect("a file below the run folder has a parent");
        if !folder.is_dir() {
            fs::create_dir_all(folder).map_err(|source| Error::io("create", folder, source))?;
            let mut above = folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
            above.try_for_each(sync_folder)?;
        }
        if target.is_dir() {
            remove_folder(&target)?; // a folder takes the place of an empty one only
        }
        fs::rename(file, &target).map_err(|source| Error::io("move into place", &target, source))?;
        sync_folder(folder)
    }

    /// Writes a text file beside the parts, such as the recipe. The write is atomic and is skipped
    /// if the file has this content already.
    pub fn keep(&self, name: &str, text: &str) -> Result<()> {
        let target = self.root.join(name);
        if fs::read_to_string(&target).ok().as_deref() == Some(text) {
            return Ok(());
        }
        let _state = self.state_to_change()?;
        let folder = self.root.join(TEMPORARY);
        fs::create_dir_all(&folder).map_err(|source| Error::io("create", &folder, source))?;
        let temporary = folder.join(name);
        fs::write(&temporary, text).map_err(|source| Error::io("write", &temporary, source))?;
        fs::rename(&temporary, &target).map_err(|source| Error::io("move into place", &target, source))
    }

    /// Records that a stage is complete and consists of exactly these parts, made with these
    /// `settings` (a digest) from the current parts of the stages that it `reads`. Removes the
    /// files of parts that the stage no longer has and returns their paths.
    pub fn complete(&self, stage: &str, parts: Vec<String>, reads: &[&str], settings: &str) -> Result<Vec<String>> {
        let mut state = self.state_to_change()?;
        let manifest = state.manifest.clone();
        let settings = Some(settings.to_owned());
        let entry = StageEntry { stage: stage.to_owned(), parts, inputs: manifest.digest(reads), settings };
        if manifest.stages.get(stage) == Some(&entry) {
            return Ok(Vec::new());
        }
        let mut removed_paths = Vec::new();
        let names: BTreeSet<&String> = entry.parts.iter().collect();
        let (kept, old): (Vec<&PartEntry>, Vec<&PartEntry>) =
            manifest.parts(stage).partition(|entry| names.contains(&entry.part));
        assert_eq!(kept.len(), entry.parts.len(), "a stage is completed with parts that were committed");
        let kept: BTreeSet<&str> = kept.into_iter().flat_map(PartEntry::paths).collect();
        for path in old.into_iter().flat_map(PartEntry::paths).filter(|path| !kept.contains(path)) {
            self.remove_with_folders(path)?;
            removed_paths.push(path.to_owned());
        }
        self.append(&mut state, Line::Stage(entry))?;
        Ok(removed_paths)
    }

    fn append(&self, state: &mut State, line: Line) -> Result<()> {
        let path = self.root.join(MANIFEST);
        let mut text = serde_json::to_string(&line).expect("manifest lines hold only texts and finite numbers");
        text.push('\n');
        state.extend(text.as_bytes()).map_err(|source| Error::io("append to", path, source))?;
        state.manifest.apply(line);
        Ok(())
    }

    /// Locks the state. A poisoned lock is fine: a panic cannot leave the state half changed,
    /// because it changes in one step after the line is on disk.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state for a change of the folder.
    ///
    /// # Errors
    /// [`Error::Halted`] after [`halt`](Self::halt).
    fn state_to_change(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_halted { Err(Error::Halted { path: self.root.clone() }) } else { Ok(state) }
    }

    /// Removes the temporary files and refuses all later changes: they fail with [`Error::Halted`].
    /// This is for a process that is about to end because it was interrupted, while other threads
    /// still work.
    pub fn halt(&self) -> Result<()> {
        let mut state = self.state();
        state.is_halted = true;
        remove_folder(&self.root.join(TEMPORARY))
    }
}

/// Returns whether the first line of a file is a line of our manifest. Other tools use the same
/// file name.
fn begins_as_manifest(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut line = String::new();
    let read = BufReader::new(file).take(LONGEST_FIRST_LINE).read_line(&mut line);
    read.is_ok() && serde_json::from_str::<Line>(&line).is_ok()
}

fn holds_foreign_files(root: &Path) -> Result<bool> {
    match fs::read_dir(root) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(|source| Error::io("list", root, source))?;
                if entry.file_name() != LOCK && entry.file_name() != TEMPORARY {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("list", root, source)),
    }
}

/// Flushes the directory entries of a folder to disk, so that after a power cut it holds all files
/// that a manifest flushed later lists.
fn sync_folder(path: &Path) -> Result<()> {
    // Windows cannot open folders as files and does not need this.
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::io("flush", path, source))?;
    }
    Ok(())
}

/// Removes a file or folder. It is not an error if it does not exist.
fn remove(path: &Path) -> Result<()> {
    if path.is_dir() {
        return remove_folder(path);
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
        _ => Ok(()),
    }
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, source)),
        _ => Ok(()),
    }
}

/// Returns the BLAKE3 digest of a file or folder, hexadecimal. Files are read piece by piece.
pub fn file_digest(path: &Path) -> Result<String> {
    Ok(digest_of(path)?.1.to_hex().to_string())
}

impl FileEntry {
    /// Returns whether a file or folder has the recorded content; `false` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn describes(&self, path: &Path) -> Result<bool> {
        let Ok(metadata) = fs::metadata(path) else { return Ok(false) };
        if metadata.is_file() && metadata.len() != self.bytes {
            return Ok(false);
        }
        let (bytes, blake3) = digest_of(path)?;
        Ok(bytes == self.bytes && blake3.to_hex().as_str() == self.blake3)
    }
}

/// Returns the manifest entry of a staged file or folder, flushed to disk.
fn digest(staged: &StagedFile) -> Result<FileEntry> {
    let StagedFile { temporary, path, clock, measured } = staged;
    let (bytes, blake3) = if let Some(Measured { bytes, blake3 }) = measured {
        (*bytes, *blake3)
    } else {
        flush(temporary)?;
        digest_of(temporary)?
    };
    Ok(FileEntry { path: path.clone(), bytes, blake3: blake3.to_hex().to_string(), clock: *clock })
}

/// Flushes a file, or the files of a folder and the folder, to disk.
fn flush(path: &Path) -> Result<()> {
    if path.is_dir() {
        names_in(path)?.iter().try_for_each(|name| flush(&path.join(name)))?;
        return sync_folder(path);
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(|source| Error::io("flush", path, source))
}

fn names_in(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |source| Error::io("list", folder, source);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name())).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// Returns the size and digest of a file or folder. The digest of a folder is over the names and
/// digests of its entries, in the order of the names.
fn digest_of(path: &Path) -> Result<(u64, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    if path.is_dir() {
        let mut total = 0;
        for name in names_in(path)? {
            let (bytes, digest) = digest_of(&path.join(&name))?;
            total += bytes;
            hasher.update(name.as_encoded_bytes()).update(digest.as_bytes());
        }
        return Ok((total, hasher.finalize()));
    }
    let handle = File::open(path).map_err(|source| Error::io("open", path, source))?;
    hasher.update_reader(&handle).map_err(|source| Error::io("read", path, source))?;
    Ok((hasher.count(), hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit_text(run: &RunFolder, part: &str, print: &str, text: &str) -> PartEntry {
        let mut new = NewPart::new("stage", part, print.to_owned());
        fs::write(run.stage_file(&mut new, &format!("out/part-{part}.txt")).unwrap(), text).unwrap();
        new.rows_in = 1;
        new.rows_out = 1;
        run.commit(new).unwrap()
    }

    #[test]
    fn a_run_folder_is_told_from_a_folder_with_a_manifest_of_another_tool() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, begun, copied, other) =
            ["ours", "begun", "copied", "other"].map(|name| folder.path().join(name)).into();
        let run = RunFolder::open(&ours).unwrap();
        commit_text(&run, "00000", "a", "hello");
        drop((run, RunFolder::open(&begun).unwrap()));
        for path in [&copied, &other] {
            fs::create_dir(path).unwrap();
        }
        fs::copy(ours.join(MANIFEST), copied.join(MANIFEST)).unwrap();
        fs::write(other.join(MANIFEST), "{\"audio_filepath\": \"a.wav\"}\n").unwrap();
        assert!([&ours, &begun, &copied].into_iter().all(|path| RunFolder::is_at(path)));
        assert!(![&other, &folder.path().to_owned()].into_iter().any(|path| RunFolder::is_at(path)));
    }

    #[test]
    fn a_committed_part_survives_and_a_changed_fingerprint_does_not_match() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        commit_text(&run, "00000", "a", "hello");
        drop(run);
        let run = RunFolder::open(&root).unwrap();
        assert!(run.committed("stage", "00000", "a").is_some());
        assert!(run.committed("stage", "00000", "b").is_none());
        fs::remove_file(root.join("out/part-00000.txt")).unwrap();
        assert!(run.committed("stage", "00000", "a").is_none(), "a part whose file is gone is made again");
    }

    #[test]
    fn a_line_cut_off_by_a_kill_is_forgotten_and_a_damaged_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        commit_text(&run, "00000", "a", "hello");
        commit_text(&run, "00001", "a", "hello");
        drop(run);
        let path = root.join(MANIFEST);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        let run = RunFolder::open(&root).unwrap();
        assert!(run.committed("stage", "00000", "a").is_some());
        assert!(run.committed("stage", "00001", "a").is_none());
        commit_text(&run, "00001", "a", "hello");
        drop(run);
        assert_eq!(fs::read(&path).unwrap(), whole);
        let mut damaged = b"{]\n".to_vec();
        damaged.extend(whole);
        fs::write(&path, damaged).unwrap();
        let error = RunFolder::open(&root).unwrap_err().to_string();
        assert!(error.contains("manifest.jsonl:1"), "{error}");
    }

    #[test]
    fn a_second_process_is_kept_out_and_foreign_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        assert!(matches!(RunFolder::open(&root), Err(Error::Locked { .. })));
        drop(run);
        let other = folder.path().join("photos");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("cat.jpg"), "x").unwrap();
        assert!(matches!(RunFolder::open(&other), Err(Error::NotARun { .. })));
        assert!(matches!(Manifest::read(&other), Err(Error::NoRun { .. })));
    }

    #[test]
    fn a_halted_folder_keeps_its_parts_and_takes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        commit_text(&run, "00000", "a", "hello");
        let mut begun = NewPart::new("stage", "00001", "a".to_owned());
        fs::write(run.stage_file(&mut begun, "out/part-00001.txt").unwrap(), "unfinished").unwrap();
        let lines = run.manifest_lines().unwrap();
        run.halt().unwrap();
        let is_halted = |result: Result<()>| matches!(result, Err(Error::Halted { .. }));
        assert!(is_halted(run.stage_file(&mut begun, "out/more.txt").map(drop)));
        assert!(is_halted(run.commit(begun).map(drop)));
        assert!(is_halted(run.complete("stage", Vec::new(), &[], "").map(drop)));
        assert!(is_halted(run.keep("recipe.toml", "")));
        assert!(is_halted(run.forget_file("out/part-00000.txt")));
        assert!(is_halted(run.take_over(&lines, &[])));
        assert_eq!((run.manifest_lines().unwrap(), run.temporary_folder().exists()), (lines, false));
        drop(run);
        let run = RunFolder::open(&root).unwrap();
        assert!(run.committed("stage", "00000", "a").is_some() && run.part("stage", "00001").is_none());
        commit_text(&run, "00001", "a", "whole");
    }

    #[test]
    fn counts_that_do_not_add_up_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(&folder.path().join("run")).unwrap();
        let mut part = NewPart::new("stage", "00000", String::new());
        part.rows_in = 3;
        part.counts = BTreeMap::from([("ok".to_owned(), 2)]);
        assert!(matches!(run.commit(part), Err(Error::Counts { counted: 2, rows_in: 3, .. })));
    }

    #[test]
    fn a_part_that_is_made_anew_is_forgotten_before_its_files_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        commit_text(&run, "00000", "a", "hello");
        commit_text(&run, "00000", "b", "jello");
        drop(run);
        let lines = fs::read_to_string(root.join(MANIFEST)).unwrap();
        let events: Vec<&str> = lines.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
        assert_eq!(events, ["part", "remove", "part"]);
        // Killed between the new file and its line: the file has the old length, but the old
        // fingerprint must not find it.
        let cut = lines.lines().take(2).map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
        fs::write(root.join(MANIFEST), cut).unwrap();
        let run = RunFolder::open(&root).unwrap();
        assert!(run.committed("stage", "00000", "a").is_none());
    }

    #[test]
    fn a_copy_that_is_behind_takes_over_what_the_other_has() {
        let folder = tempfile::tempdir().unwrap();
        let [behind, ahead] = ["behind", "ahead"].map(|name| RunFolder::open(&folder.path().join(name)).unwrap());
        for run in [&behind, &ahead] {
            for (part, text) in [("00000", "same"), ("00001", "old"), ("00002", "goes")] {
                commit_text(run, part, "a", text);
            }
        }
        commit_text(&ahead, "00001", "b", "newer");
        commit_text(&ahead, "00003", "a", "more");
        ahead.complete("stage", ["00000", "00001", "00003"].map(str::to_owned).to_vec(), &[], "").unwrap();
        let files = ["out/part-00001.txt", "out/part-00003.txt"].map(|path| {
            let file = folder.path().join(path.replace('/', "-"));
            fs::copy(ahead.root().join(path), &file).unwrap();
            (file, path.to_owned())
        });
        behind.take_over(&ahead.manifest_lines().unwrap(), &files).unwrap();
        assert_eq!(behind.manifest_lines().unwrap(), ahead.manifest_lines().unwrap());
        assert!(behind.manifest().is_current("stage", &[], ""));
        let text = |name: &str| fs::read_to_string(behind.root().join(format!("out/part-{name}.txt"))).ok();
        assert_eq!(
            ["00000", "00001", "00002", "00003"].map(text),
            [Some("same".to_owned()), Some("newer".to_owned()), None, Some("more".to_owned())]
        );
        // Later commits go on from there.
        commit_text(&behind, "00004", "a", "own");
        assert!(behind.manifest_lines().unwrap().starts_with(&ahead.manifest_lines().unwrap()));
    }

    #[test]
    fn a_stage_is_out_of_date_when_what_it_read_changes() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(&folder.path().join("run")).unwrap();
        commit_text(&run, "00000", "a", "hello");
        run.complete("stage", vec!["00000".to_owned()], &[], "").unwrap();
        run.complete("later", Vec::new(), &["stage"], "a rule").unwrap();
        assert!(run.manifest().is_current("later", &["stage"], "a rule"));
        commit_text(&run, "00000", "b", "goodbye");
        assert!(run.manifest().is_complete("later") && !run.manifest().is_current("later", &["stage"], "a rule"));
        run.complete("later", Vec::new(), &["stage"], "a rule").unwrap();
        assert!(run.manifest().is_current("later", &["stage"], "a rule"));
        assert!(!run.manifest().is_current("later", &["stage"], "another rule"));
        run.complete("later", Vec::new(), &["stage"], "another rule").unwrap();
        assert!(run.manifest().is_current("later", &["stage"], "another rule"));
        // A manifest of an earlier version does not say by which settings a stage was made.
        let earlier =
            String::from_utf8(run.manifest_lines().unwrap()).unwrap().replace(",\"settings\":\"another rule\"", "");
        let earlier = Manifest::of_lines(earlier.as_bytes(), Path::new("manifest.jsonl")).unwrap();
        assert!(earlier.is_current("later", &["stage"], "whatever"));
    }

    #[test]
    fn damage_is_found_when_a_file_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        let entry = commit_text(&run, "00000", "a", "hello");
        let mut new = NewPart::new("stage", "00001", "a".to_owned());
        let pictures = run.stage_file(&mut new, "out/pictures").unwrap();
        fs::create_dir(&pictures).unwrap();
        fs::write(pictures.join("a.jpg"), "picture").unwrap();
        let folder_entry = run.commit(new).unwrap();
        drop(run);
        let (file, pictures) = (&entry.files[0], &folder_entry.files[0]);
        let asked = |file: &FileEntry| RunFolder::open(&root).unwrap().intact(file);
        assert_eq!(asked(file).unwrap(), root.join("out/part-00000.txt"));
        assert_eq!(asked(pictures).unwrap(), root.join("out/pictures"));
        // Of the same length, of another one, and gone.
        for (file, path) in [(file, "out/part-00000.txt"), (pictures, "out/pictures/a.jpg")] {
            let whole = fs::read(root.join(path)).unwrap();
            for damage in [whole.iter().map(|byte| byte ^ 1).collect(), [&whole[..], b"!"].concat(), Vec::new()] {
                fs::write(root.join(path), damage).unwrap();
                let error = asked(file).unwrap_err();
                assert!(
                    matches!(error, Error::Damaged { .. }) && error.to_string().contains("lynxdata verify"),
                    "{error}"
                );
            }
            fs::remove_file(root.join(path)).unwrap();
            assert!(matches!(asked(file), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn completing_a_stage_removes_the_parts_that_it_no_longer_has() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        commit_text(&run, "00000", "a", "hello");
        commit_text(&run, "00001", "a", "hello");
        run.complete("stage", vec!["00000".to_owned(), "00001".to_owned()], &[], "").unwrap();
        assert!(run.manifest().is_complete("stage"));
        commit_text(&run, "00000", "b", "hello again");
        assert!(!run.manifest().is_complete("stage"));
        run.complete("stage", vec!["00000".to_owned()], &[], "").unwrap();
        assert!(!root.join("out/part-00001.txt").exists());
        drop(run);
        let manifest = Manifest::read(&root).unwrap();
        assert_eq!(manifest.parts("stage").count(), 1);
    }

    #[test]
    fn folders_without_files_are_removed_unless_they_are_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("run");
        let run = RunFolder::open(&root).unwrap();
        let commit = |part: &str, print: &str, files: &[&str]| {
            let mut new = NewPart::new("stage", part, print.to_owned());
            for path in files {
                fs::write(run.stage_file(&mut new, path).unwrap(), part).unwrap();
            }
            run.commit(new).unwrap();
        };
        commit("a", "1", &["out/json/a.json", "out/tar/a/0.tar", "out/mixed/a"]);
        commit("b", "1", &["out/tar/b/0.tar"]);
        fs::write(root.join("out/mixed/notes"), "of a user").unwrap();
        commit("a", "2", &["out/json/a.json"]);
        assert!(!root.join("out/tar/a").exists() && root.join("out/tar/b").is_dir());
        assert_eq!(names_in(&root.join("out/mixed")).unwrap(), ["notes"]);
        run.complete("stage", vec!["a".to_owned()], &[], "").unwrap();
        assert!(!root.join("out/tar").exists() && root.join("out/json/a.json").is_file());
    }
}
