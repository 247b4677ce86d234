//! Reads a folder of images and its sub-folders. A text and a JSON file of the same stem may be
//! beside each image.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use lynxdata_records::RunFolder;

use super::file_names::{is_hidden, kind_of};
use super::left_out::{Kind, LeftOut};
use super::lines::MAX_ROW_BYTES;
use super::links::Links;
use super::metadata;
use super::pictures::{
    Beside, Scanned, TEXT_SUFFIXES, VALUES_SUFFIX, is_beside, is_picture, names_beside, push_picture,
};
use super::rows::{Batch, Place, Rows};
use super::{Columns, ReadRows, jsonl};
use crate::{Error, Result};

/// Reads the JSON files of a folder for the types of their keys. `named` holds the images that
/// metadata files name.
pub(super) fn scan(
    path: &Path,
    follow_links: bool,
    named: &HashSet<PathBuf>,
    keys: &mut jsonl::Keys,
) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut walk = Walk::open(path, follow_links)?;
    while let Some(found) = walk.next()? {
        match found {
            Found::Picture(picture) => scanned.add(&picture.beside()?, keys),
            Found::Described { path, .. } if named.contains(&path) => {}
            Found::Described { name, .. } => scanned.left_out.add(Kind::NotInMetadata, &name),
            Found::Metadata(_) => {}
            Found::Problem(_) => scanned.problems += 1,
        }
    }
    scanned.left_out.append(walk.left_out);
    Ok(scanned)
}

/// Returns whether a folder or its sub-folders hold an image, or anything with the name of an
/// image.
pub(super) fn has_pictures(path: &Path, follow_links: bool) -> Result<bool> {
    let mut walk = Walk::open(path, follow_links)?;
    while let Some(found) = walk.next()? {
        if !matches!(found, Found::Metadata(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the metadata files of a folder and its sub-folders, as in Hugging Face `imagefolder`.
pub(super) fn metadata_files(path: &Path, follow_links: bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut walk = Walk::open(path, follow_links)?;
    while let Some(found) = walk.next()? {
        if let Found::Metadata(path) = found {
            files.push(path);
        }
    }
    Ok(files)
}

/// Returns the files in the direct sub-folders of a folder, by their names relative to it, sorted.
/// Adds deeper folders and everything that is not a file to `left_out`.
pub(super) fn files_in_sub_folders(path: &Path, left_out: &mut LeftOut) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (folder, file_type) in list(path)? {
        let inner = path.join(&folder);
        let is_source = file_type.is_dir() && !is_hidden(&folder.to_string_lossy()) && !RunFolder::is_at(&inner);
        for (file_name, file_type) in if is_source { list(&inner)? } else { Vec::new() } {
            let shown = format!("{}/{}", folder.to_string_lossy(), file_name.to_string_lossy());
            let path = inner.join(&file_name);
            if is_hidden(&shown) {
                left_out.add(Kind::Hidden, &shown);
            } else if path.is_file() {
                names.push(shown);
            } else {
                left_out.add(if file_type.is_dir() { Kind::SubFolder } else { Kind::Link }, &shown);
            }
        }
    }
    names.sort();
    Ok(names)
}

pub(super) struct FolderRows {
    walk: Walk,
    columns: Columns,
    rows: Rows,
}

impl FolderRows {
    pub(super) fn open(path: &Path, follow_links: bool, columns: Columns) -> Result<FolderRows> {
        let rows = Rows::new(&columns.extra_fields());
        Ok(FolderRows { walk: Walk::open(path, follow_links)?, columns, rows })
    }
}

impl ReadRows for FolderRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let picture = match self.walk.next()? {
                None => break,
                Some(Found::Problem(problem)) => {
                    self.rows.push_problem(&problem);
                    continue;
                }
                Some(Found::Described { .. } | Found::Metadata(_)) => continue,
                Some(Found::Picture(picture)) => picture,
            };
            let path = &picture.path;
            let length = fs::metadata(path).map_err(|source| Error::read(path, source))?.len();
            let file = path.to_string_lossy().into_owned();
            let place = Place { file, offset: 0, length, name: picture.name.clone() };
            push_picture(&mut self.rows, &self.columns, &picture.beside()?, &place, 0)
                .map_err(|key| jsonl::changed(path, "folder", "the JSON file beside it", &key))?;
        }
        Ok(self.rows.take())
    }
}

/// Returns the content of a small file, or the reason why it is not read.
fn read_small(path: &Path) -> io::Result<std::result::Result<Vec<u8>, String>> {
    if fs::metadata(path)?.len() > MAX_ROW_BYTES as u64 {
        return Ok(Err(format!("is longer than {MAX_ROW_BYTES} bytes")));
    }
    // A file without read permission fails only its own row, as an image does.
    Ok(fs::read(path).map_err(|error| format!("cannot be read: {error}")))
}

enum Found {
    Picture(Picture),
    /// An image in a folder with a metadata file, which may name it.
    Described {
        path: PathBuf,
        /// Relative to the folder, with slashes.
        name: String,
    },
    /// A metadata file, which names images in its folder and below.
    Metadata(PathBuf),
    /// Something with the name of an image that is not read.
    Problem(String),
}

struct Picture {
    path: PathBuf,
    /// Relative to the folder, with slashes.
    name: String,
    beside: Vec<(&'static str, BesideFile)>,
}

/// The name of a text or JSON file, and the reason why it must not be read, if there is one.
type BesideFile = (OsString, Option<String>);

impl Picture {
    /// Reads the text and JSON files beside the image.
    fn beside(&self) -> Result<Beside> {
        let mut beside = Beside::default();
        for (suffix, (file_name, problem)) in &self.beside {
            let (path, name) = (self.path.with_file_name(file_name), file_name.to_string_lossy());
            if let Some(problem) = problem {
                beside.fail(format!("{name:?} {problem}"));
                continue;
            }
            match read_small(&path).map_err(|source| Error::read(&path, source))? {
                Ok(bytes) if *suffix == VALUES_SUFFIX => beside.add_values(&name, &bytes),
                Ok(bytes) => beside.add_text(&name, suffix, &bytes),
                Err(problem) => beside.fail(format!("{name:?} {problem}")),
            }
        }
        Ok(beside)
    }
}

/// A folder of the walk with its remaining entries, sorted by name.
struct Level {
    path: PathBuf,
    /// Its path with all links resolved.
    target: PathBuf,
    /// Relative to the folder where the walk began, with a slash at its end.
    name: String,
    left: std::vec::IntoIter<(OsString, Entry)>,
    /// Whether there is a metadata file here or in a parent folder.
    is_described: bool,
}

enum Entry {
    Folder(PathBuf),
    Metadata,
    Picture(Vec<(&'static str, BesideFile)>),
    Problem(String),
}

/// Walks the images of a folder in the order of their relative paths, compared component by
/// component.
struct Walk {
    levels: Vec<Level>,
    links: Links,
    left_out: LeftOut,
}

impl Walk {
    fn open(path: &Path, follow_links: bool) -> Result<Walk> {
        let links = Links::of(path, follow_links).map_err(|source| Error::read(path, source))?;
        let target = links.root.clone();
        let mut walk = Walk { levels: Vec::new(), links, left_out: LeftOut::default() };
        walk.enter(path.to_owned(), target, String::new(), false)?;
        Ok(walk)
    }

    fn next(&mut self) -> Result<Option<Found>> {
        while let Some(level) = self.levels.last_mut() {
            let Some((file_name, entry)) = level.left.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.join(&file_name);
            let name = format!("{}{}", level.name, file_name.to_string_lossy());
            return Ok(Some(match entry {
                Entry::Folder(target) => {
                    let is_described = level.is_described;
                    self.enter(path, target, name + "/", is_described)?;
                    continue;
                }
                Entry::Metadata => Found::Metadata(path),
                Entry::Problem(problem) => Found::Problem(format!("{name:?} {problem}")),
                Entry::Picture(_) if path.to_str().is_none() => {
                    Found::Problem(format!("the path of {name:?} is not UTF-8"))
                }
                Entry::Picture(_) if level.is_described => Found::Described { path, name },
                Entry::Picture(beside) => Found::Picture(Picture { path, name, beside }),
            }));
        }
        Ok(None)
    }

    /// Lists a folder. Everything is left out that is not an image, a sub-folder, a metadata file,
    /// or a text or JSON file of an image.
    fn enter(&mut self, path: PathBuf, target: PathBuf, name: String, is_described: bool) -> Result<()> {
        let mut left: Vec<(OsString, Entry)> = Vec::new();
        // Text and JSON files by their names in lower case.
        let mut beside: BTreeMap<String, Vec<BesideFile>> = BTreeMap::new();
        let mut metadata_file: Option<OsString> = None;
        for (file_name, file_type) in list(&path)? {
            let shown = format!("{name}{}", file_name.to_string_lossy());
            if is_hidden(&shown) {
                self.left_out.add(Kind::Hidden, &shown); // such as the `._` files of macOS, which have the names of images
                continue;
            }
            let this = path.join(&file_name);
            match self.look_at(&this, file_type, &target) {
                Ok(Some(folder)) if RunFolder::is_at(&folder) => self.left_out.add(Kind::RunFolder, &shown),
                Ok(Some(folder)) => left.push((file_name, Entry::Folder(folder))),
                Ok(None) if is_picture(&shown) => left.push((file_name, Entry::Picture(Vec::new()))),
                Ok(None) if metadata::is_name(&file_name) => match metadata::has_file_names(&this) {
                    true if metadata_file.is_none() => metadata_file = Some(file_name),
                    true => self.left_out.add(Kind::MoreMetadata, &shown),
                    false => self.left_out.add(Kind::OtherMetadata, &shown),
                },
                Err(problem) if is_picture(&shown) => left.push((file_name, Entry::Problem(problem.to_owned()))),
                outcome if is_beside(&shown) => {
                    let key = file_name.to_string_lossy().to_lowercase();
                    beside.entry(key).or_default().push((file_name, outcome.err().map(str::to_owned)));
                }
                Ok(None) => self.left_out.add(kind_of(&shown), &shown),
                Err(_) => self.left_out.add(Kind::Link, &shown),
            }
        }
        let is_described = is_described || metadata_file.is_some();
        let mut used = BTreeSet::new();
        for (picture, entry) in &mut left {
            let Entry::Picture(own) = entry else { continue };
            for suffix in TEXT_SUFFIXES.into_iter().chain([VALUES_SUFFIX]) {
                let names = names_beside(&picture.to_string_lossy(), suffix);
                let Some(found) = names.iter().find_map(|name| beside.get(name)) else { continue };
                // Of several names that differ only in case, prefer the one with exactly the stem
                // of the image.
                let stem = Path::new(picture).file_stem();
                let same = found.iter().find(|(name, _)| Path::new(name).file_stem() == stem);
                let Some(file) = same.or(found.first()) else { continue };
                used.insert(file.0.clone());
                own.push((suffix, file.clone()));
            }
        }
        for (file_name, _) in beside.into_values().flatten() {
            let shown = format!("{name}{}", file_name.to_string_lossy());
            if !used.contains(&file_name) {
                let kind = Some(kind_of(&shown)).filter(|kind| *kind == Kind::Document);
                self.left_out.add(kind.unwrap_or(Kind::TextWithoutPicture), &shown);
            } else if is_described {
                self.left_out.add(Kind::BesideMetadata, &shown);
            }
        }
        left.extend(metadata_file.map(|name| (name, Entry::Metadata)));
        left.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.levels.push(Level { path, target, name, left: left.into_iter(), is_described });
        Ok(())
    }

    /// Returns the resolved path of a folder, `None` for a regular file, or the reason why the
    /// entry is neither. `here` is the resolved path of the containing folder.
    fn look_at(
        &self,
        path: &Path,
        file_type: FileType,
        here: &Path,
    ) -> std::result::Result<Option<PathBuf>, &'static str> {
        if file_type.is_dir() {
            return Ok(Some(here.join(path.file_name().unwrap_or_default())));
        }
        if file_type.is_file() {
            return Ok(None);
        }
        if !file_type.is_symlink() {
            return Err("is not a regular file");
        }
        let (target, metadata) = self.links.follow(path)?;
        if metadata.is_file() {
            return Ok(None);
        }
        // Targets in the source folder are read at their own place, and links to a folder around
        // would make the walk endless.
        let mut around = self.levels.iter().map(|level| level.target.as_path()).chain([here]);
        let is_around = around.any(|folder| folder.starts_with(&target));
        if !metadata.is_dir() || !self.links.all || target.starts_with(&self.links.root) || is_around {
            return Err("is a symbolic link to something that is read elsewhere or is not a regular file");
        }
        Ok(Some(target))
    }
}

/// Returns the entries of a folder, sorted by name.
fn list(path: &Path) -> Result<Vec<(OsString, FileType)>> {
    let entries = fs::read_dir(path).map_err(|source| Error::read(path, source))?;
    let entries = entries.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))));
    let mut listed: Vec<_> = entries.collect::<io::Result<_>>().map_err(|source| Error::read(path, source))?;
    listed.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(listed)
}
