//! A folder of pictures and its sub-folders, with a text and a JSON file of the same stem beside each picture.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::lines::MAX_ROW_BYTES;
use super::pictures::{Beside, Scanned, TEXT_SUFFIXES, VALUES_SUFFIX, is_picture, push_picture};
use super::rows::{Batch, Place, Rows};
use super::{Columns, ReadRows, jsonl};
use crate::{Error, Result};

/// Reads the JSON files of a folder, for the types of their keys.
pub(super) fn scan(path: &Path, keys: &mut jsonl::Keys) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut walk = Walk::open(path)?;
    while let Some(found) = walk.next()? {
        match found {
            Found::Picture { path, .. } => scanned.add(&beside(&path)?, 1, keys),
            Found::Problem(_) => scanned.problems += 1,
        }
    }
    Ok(scanned)
}

/// Whether there is a picture, or a thing of a picture's name, in a folder or its sub-folders.
pub(super) fn has_pictures(path: &Path) -> Result<bool> {
    Ok(Walk::open(path)?.next()?.is_some())
}

pub(super) struct FolderRows {
    walk: Walk,
    columns: Columns,
    rows: Rows,
}

impl FolderRows {
    pub(super) fn open(path: &Path, columns: Columns) -> Result<FolderRows> {
        let rows = Rows::new(&columns.extra_fields());
        Ok(FolderRows { walk: Walk::open(path)?, columns, rows })
    }
}

impl ReadRows for FolderRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let (path, name) = match self.walk.next()? {
                None => break,
                Some(Found::Problem(problem)) => {
                    self.rows.push_problem(&problem);
                    continue;
                }
                Some(Found::Picture { path, name }) => (path, name),
            };
            let length = fs::symlink_metadata(&path).map_err(|source| Error::read(&path, source))?.len();
            let place = Place { file: path.to_string_lossy().into_owned(), offset: 0, length, name };
            push_picture(&mut self.rows, &self.columns, &beside(&path)?, &place, 0)
                .map_err(|key| jsonl::changed(&path, "folder", "the JSON file beside it", &key))?;
        }
        Ok(self.rows.take())
    }
}

/// The text and JSON files of a picture.
fn beside(picture: &Path) -> Result<Beside> {
    let mut beside = Beside::default();
    for suffix in TEXT_SUFFIXES.into_iter().chain([VALUES_SUFFIX]) {
        let path = picture.with_extension(suffix);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match read_small(&path).map_err(|source| Error::read(&path, source))? {
            Ok(None) => {}
            Ok(Some(bytes)) if suffix == VALUES_SUFFIX => beside.add_values(&name, &bytes),
            Ok(Some(bytes)) => beside.add_text(&name, suffix, bytes),
            Err(problem) => beside.fail(format!("{name:?} {problem}")),
        }
    }
    Ok(beside)
}

/// The content of a small regular file, `None` if there is no such file, or why it is not read.
fn read_small(path: &Path) -> io::Result<std::result::Result<Option<Vec<u8>>, String>> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(None)),
        metadata => metadata?,
    };
    if let Some(problem) = not_regular(metadata.file_type()) {
        return Ok(Err(problem.to_owned()));
    }
    if metadata.len() > MAX_ROW_BYTES as u64 {
        return Ok(Err(format!("is longer than {MAX_ROW_BYTES} bytes")));
    }
    fs::read(path).map(|bytes| Ok(Some(bytes)))
}

fn not_regular(file_type: FileType) -> Option<&'static str> {
    if file_type.is_symlink() {
        Some("is a symbolic link, which is not followed")
    } else if file_type.is_file() {
        None
    } else {
        Some("is no regular file")
    }
}

enum Found {
    Picture {
        path: PathBuf,
        /// Below the folder, with slashes.
        name: String,
    },
    /// Something that is named as a picture but is not read.
    Problem(String),
}

/// A folder with what is left of it, sorted by name.
struct Level {
    path: PathBuf,
    /// Below the folder where the walk began, with a slash at its end.
    name: String,
    left: std::vec::IntoIter<(OsString, FileType)>,
}

/// The pictures below a folder in the order of their relative paths, component by component.
struct Walk {
    levels: Vec<Level>,
}

impl Walk {
    fn open(path: &Path) -> Result<Walk> {
        Ok(Walk { levels: vec![Level::open(path.to_owned(), String::new())?] })
    }

    fn next(&mut self) -> Result<Option<Found>> {
        while let Some(level) = self.levels.last_mut() {
            let Some((file_name, file_type)) = level.left.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.join(&file_name);
            let shown = format!("{}{}", level.name, file_name.to_string_lossy());
            if shown.rsplit('/').next().is_some_and(|name| name.starts_with('.')) {
                continue; // hidden, such as the `._` files of macOS, which have the names of pictures
            }
            if file_type.is_dir() {
                self.levels.push(Level::open(path, shown + "/")?);
                continue;
            }
            if !is_picture(&shown) {
                if file_type.is_symlink() {
                    tracing::warn!(path = %path.display(), "a symbolic link is not followed");
                }
                continue;
            }
            if let Some(problem) = not_regular(file_type) {
                return Ok(Some(Found::Problem(format!("{shown:?} {problem}"))));
            }
            if path.to_str().is_none() {
                return Ok(Some(Found::Problem(format!("the path of {shown:?} is not UTF-8"))));
            }
            return Ok(Some(Found::Picture { path, name: shown }));
        }
        Ok(None)
    }
}

impl Level {
    fn open(path: PathBuf, name: String) -> Result<Level> {
        let entries = fs::read_dir(&path).map_err(|source| Error::read(&path, source))?;
        let entries = entries.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?))));
        let mut left: Vec<_> = entries.collect::<io::Result<_>>().map_err(|source| Error::read(&path, source))?;
        left.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(Level { path, name, left: left.into_iter() })
    }
}
