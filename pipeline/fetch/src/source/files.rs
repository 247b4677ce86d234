//! Which files a source consists of.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{SourceConfig, SourceFormat, folder, pictures};
use crate::{Error, Result};

/// Suffixes by format, without the dot.
const SUFFIXES: &[(&str, SourceFormat)] = &[
    ("parquet", SourceFormat::Parquet),
    ("csv", SourceFormat::Csv),
    ("tsv", SourceFormat::Tsv),
    ("jsonl", SourceFormat::Jsonl),
    ("ndjson", SourceFormat::Jsonl),
    ("txt", SourceFormat::Txt),
    ("tar", SourceFormat::WebDataset),
];

/// A file of the source, or a folder of pictures.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its name below the path of the recipe that it comes from; not used for folders.
    pub(super) name: String,
    pub(super) format: SourceFormat,
}

impl SourceFormat {
    /// Tells the format from a file name; `None` if that is not possible.
    pub(super) fn of(path: &Path) -> Option<SourceFormat> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        let (_, suffix) = plain.rsplit_once('.')?;
        let format = SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, format)| *format)?;
        // Neither is read from its beginning to its end.
        let is_plain_only = matches!(format, SourceFormat::Parquet | SourceFormat::WebDataset);
        (!is_plain_only || plain == name).then_some(format)
    }

    /// Whether its rows are pictures that are already there.
    pub(super) fn has_pictures(self) -> bool {
        matches!(self, SourceFormat::Folder | SourceFormat::WebDataset)
    }

    /// Whether it has no columns but the keys of JSON objects, whose types are settled over all files.
    pub(super) fn has_keys(self) -> bool {
        self == SourceFormat::Jsonl || self.has_pictures()
    }

    /// The endings of the names of its files, as they are listed for people.
    pub(super) fn endings(self) -> String {
        let pictures = || pictures::SUFFIXES.map(|suffix| format!(".{suffix}")).join(", ");
        let wanted = |format| self == SourceFormat::Auto || self == format;
        let files = SUFFIXES.iter().filter(|(_, format)| wanted(*format)).map(|(suffix, _)| format!(".{suffix}"));
        match self {
            SourceFormat::Folder => pictures(),
            SourceFormat::Auto => files.chain([pictures()]).collect::<Vec<_>>().join(", "),
            _ => files.collect::<Vec<_>>().join(", "),
        }
    }
}

/// The files that `path` stands for, with their formats.
pub(super) fn find(config: &SourceConfig, base_folder: &Path) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    for path in config.path.as_slice() {
        let path = base_folder.join(path);
        let metadata = std::fs::metadata(&path).map_err(|source| Error::read(&path, source))?;
        if metadata.is_dir() {
            files.append(&mut in_folder(&path, config.format)?);
        } else {
            files.push(single(path, config.format)?);
        }
    }
    if files.is_empty() {
        return Err(Error::NoFiles { path: PathBuf::from("source.path"), expected: config.format.endings() });
    }
    files.into_iter().map(with_usable_path).collect()
}

fn single(path: PathBuf, format: SourceFormat) -> Result<Found> {
    let format = match format {
        SourceFormat::Auto => SourceFormat::of(&path).ok_or_else(|| Error::UnknownFormat { path: path.clone() })?,
        SourceFormat::Folder => {
            let reason = "it is a file".to_owned();
            return Err(Error::Format { path, format: "a folder of pictures", reason });
        }
        format => format,
    };
    Ok(Found { name: name_of(&path), path, format })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The source files of a folder by their names, or the folder itself if it is one of pictures. `auto` prefers lists, then archives, then pictures: tools that
/// write pictures, img2dataset among them, put a list of them beside.
fn in_folder(folder: &Path, format: SourceFormat) -> Result<Vec<Found>> {
    let as_pictures = || vec![Found { path: folder.to_owned(), name: String::new(), format: SourceFormat::Folder }];
    if format == SourceFormat::Folder {
        return Ok(as_pictures());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::read(folder, source))? {
        paths.push(entry.map_err(|source| Error::read(folder, source))?.path());
    }
    paths.sort();
    let stems: BTreeSet<OsString> = paths.iter().filter_map(|path| picture_stem(path)).collect();
    let (mut lists, mut archives) = (Vec::new(), Vec::new());
    for path in paths {
        // Beside a picture of the same stem, a text file is its caption.
        let is_caption = || {
            path.extension().is_some_and(|suffix| suffix == "txt")
                && path.file_stem().is_some_and(|stem| stems.contains(stem))
        };
        let found = match SourceFormat::of(&path) {
            Some(found) if format == SourceFormat::Auto && !is_caption() => Some(found),
            Some(found) if format == found => Some(found),
            _ => None,
        };
        match found {
            Some(SourceFormat::WebDataset) if path.is_file() => archives.push(path),
            Some(found) if path.is_file() => lists.push((path, found)),
            _ => tracing::debug!(path = %path.display(), "not a source file, left out"),
        }
    }
    if !lists.is_empty() {
        if !(archives.is_empty() && stems.is_empty()) {
            tracing::warn!(path = %folder.display(), "the lists are read, but neither archives nor pictures; `format` can ask for them");
        }
        return Ok(lists.into_iter().map(|(path, format)| Found { name: name_of(&path), path, format }).collect());
    }
    if !archives.is_empty() {
        let found = |path: PathBuf| Found { name: name_of(&path), path, format: SourceFormat::WebDataset };
        return Ok(archives.into_iter().map(found).collect());
    }
    if format == SourceFormat::Auto && folder::has_pictures(folder)? {
        return Ok(as_pictures());
    }
    Err(Error::NoFiles { path: folder.to_owned(), expected: format.endings() })
}

fn picture_stem(path: &Path) -> Option<OsString> {
    pictures::is_picture(path.file_name()?.to_str()?).then(|| path.file_stem().map(OsString::from))?
}

/// Pictures are opened by their paths again later, perhaps from another folder, so these are absolute; and they stand in a column of texts.
fn with_usable_path(found: Found) -> Result<Found> {
    if !found.format.has_pictures() {
        return Ok(found);
    }
    let path = std::path::absolute(&found.path).map_err(|source| Error::read(&found.path, source))?;
    if path.to_str().is_none() {
        return Err(Error::Format { path, format: "pictures", reason: "its path is not UTF-8".to_owned() });
    }
    Ok(Found { path, ..found })
}
