//! Which files a source consists of.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{SourceConfig, SourceFormat, decoded, folder, pictures};
use crate::objects::{self, Cache, Location, Object};
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
    /// Of which object or pipe `path` is a copy, if it is one.
    pub(super) url: Option<String>,
}

impl Found {
    fn local(path: PathBuf, format: SourceFormat) -> Found {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Found { path, name, format, url: None }
    }

    /// An error with the URL in the place of the copy's path, which tells nobody anything.
    pub(super) fn shown_in(&self, error: Error) -> Error {
        match &self.url {
            Some(url) => error.with_path(&self.path, Path::new(url)),
            None => error,
        }
    }
}

impl SourceFormat {
    /// Tells the format from a file name; `None` if that is not possible.
    pub(super) fn of(path: &Path) -> Option<SourceFormat> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (plain, suffix) = (without_compression(&name), suffix_of(path)?);
        let format = SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, format)| *format)?;
        // Neither is read from its beginning to its end.
        let is_plain_only = matches!(format, SourceFormat::Parquet | SourceFormat::WebDataset);
        (!is_plain_only || plain == name).then_some(format)
    }

    /// Whether its rows are pictures that are already there.
    pub(super) fn has_pictures(self) -> bool {
        matches!(self, SourceFormat::Folder | SourceFormat::WebDataset)
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

fn without_compression(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

/// The suffix of a file name in lower case, before that of a compression.
fn suffix_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    without_compression(&name).rsplit_once('.').map(|(_, suffix)| suffix.to_owned())
}

/// The files that `path` stands for, with their formats. Objects are copied to the cache.
pub(super) fn find(config: &SourceConfig, base_folder: &Path, cache: Option<&Cache>) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    for path in config.path.as_slice() {
        if objects::is_url(path) {
            files.append(&mut objects_at(&path.to_string_lossy(), config.format, cache)?);
            continue;
        }
        let path = base_folder.join(path);
        let metadata = std::fs::metadata(&path).map_err(|source| Error::read(&path, source))?;
        if metadata.is_dir() {
            files.append(&mut in_folder(&path, config.format)?);
        } else if metadata.is_file() {
            // Before its name is asked for the format: that of a compression that is not read tells
            // none.
            decoded::refuse_foreign(&path).map_err(|source| Error::read(&path, source))?;
            let format = format_of(&path, config.format)?;
            files.push(Found::local(path, format));
        } else {
            let format = format_of(&path, config.format)?;
            files.push(from_pipe(path, format)?);
        }
    }
    if files.is_empty() {
        return Err(Error::NoFiles { path: PathBuf::from("source.path"), expected: config.format.endings() });
    }
    files.into_iter().map(with_usable_path).collect()
}

/// A pipe, whose content is read once and kept in a nameless file as long as the process lives,
/// since lists are read several times.
#[cfg(target_os = "linux")]
fn from_pipe(path: PathBuf, format: SourceFormat) -> Result<Found> {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    static COPIES: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());
    if format.has_pictures() {
        return Err(no_pipe(path, "archives are opened again for each of their pictures; write it to a file first"));
    }
    let mut copies = COPIES.lock().expect("nobody panics while it is locked");
    if !copies.contains_key(&path) {
        let copied = tempfile::tempfile().and_then(|mut copy| {
            std::io::copy(&mut File::open(&path)?, &mut copy)?;
            Ok(copy)
        });
        copies.insert(path.clone(), copied.map_err(|source| Error::read(&path, source))?);
    }
    // By this name it is opened anew each time, and read from its beginning.
    let copy = PathBuf::from(format!("/proc/self/fd/{}", copies[&path].as_raw_fd()));
    let shown = path.to_string_lossy().into_owned();
    Ok(Found { path: copy, url: Some(shown), ..Found::local(path, format) })
}

#[cfg(not(target_os = "linux"))]
fn from_pipe(path: PathBuf, _: SourceFormat) -> Result<Found> {
    Err(no_pipe(path, "lists are read several times; write it to a file first"))
}

fn no_pipe(path: PathBuf, reason: &str) -> Error {
    Error::Format { path, format: "a pipe", reason: reason.to_owned() }
}

/// The format of a single file.
fn format_of(path: &Path, format: SourceFormat) -> Result<SourceFormat> {
    match format {
        // In a folder, files of this suffix belong to pictures.
        SourceFormat::Auto if suffix_of(path).as_deref() == Some("json") => Ok(SourceFormat::Jsonl),
        SourceFormat::Auto => SourceFormat::of(path).ok_or_else(|| Error::UnknownFormat { path: path.to_owned() }),
        SourceFormat::Folder => Err(Error::Format {
            path: path.to_owned(),
            format: "a folder of pictures",
            reason: "it is a file".to_owned(),
        }),
        format => Ok(format),
    }
}

/// The source files of a folder by their names, or the folder itself if it is one of pictures.
fn in_folder(folder: &Path, format: SourceFormat) -> Result<Vec<Found>> {
    let as_pictures = || vec![Found::local(folder.to_owned(), SourceFormat::Folder)];
    if format == SourceFormat::Folder {
        return Ok(as_pictures());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| Error::read(folder, source))? {
        paths.push(entry.map_err(|source| Error::read(folder, source))?.path());
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    let chosen = choose(&paths, format, folder);
    if chosen.is_empty() && format == SourceFormat::Auto && folder::has_pictures(folder)? {
        return Ok(as_pictures());
    }
    if chosen.is_empty() {
        return Err(Error::NoFiles { path: folder.to_owned(), expected: format.endings() });
    }
    Ok(chosen.into_iter().map(|(index, format)| Found::local(paths[index].clone(), format)).collect())
}

/// Which of the files of a folder are read, and as what. `auto` prefers lists, then archives, then pictures: tools that write pictures, img2dataset among
/// them, put a list of them beside.
fn choose(paths: &[PathBuf], format: SourceFormat, folder: &Path) -> Vec<(usize, SourceFormat)> {
    let stems: BTreeSet<OsString> = paths.iter().filter_map(|path| picture_stem(path)).collect();
    // Beside a picture of the same stem, a text file is its caption.
    let is_caption = |path: &Path| {
        path.extension().is_some_and(|suffix| suffix == "txt")
            && path.file_stem().is_some_and(|stem| stems.contains(stem))
    };
    let is_wanted = |path: &Path, found| match format {
        SourceFormat::Auto => !is_caption(path),
        format => format == found,
    };
    let found = paths.iter().enumerate().filter_map(|(index, path)| Some((index, SourceFormat::of(path)?)));
    let found = found.filter(|(index, found)| is_wanted(&paths[*index], *found));
    let (archives, lists): (Vec<_>, Vec<_>) = found.partition(|(_, format)| *format == SourceFormat::WebDataset);
    if lists.is_empty() {
        return archives;
    }
    if !(archives.is_empty() && stems.is_empty()) {
        tracing::warn!(path = %folder.display(), "the lists are read, but neither archives nor pictures; `format` can ask for them");
    }
    lists
}

fn picture_stem(path: &Path) -> Option<OsString> {
    pictures::is_picture(path.file_name()?.to_str()?).then(|| path.file_stem().map(OsString::from))?
}

/// The object of this URL, or those below it, as local copies.
fn objects_at(url: &str, format: SourceFormat, cache: Option<&Cache>) -> Result<Vec<Found>> {
    let Some(cache) = cache else {
        let reason = "has the URL of an object store, but no folder is given for copies of its objects";
        return Err(Error::setting("source.path", reason));
    };
    let location = cache.open(url)?;
    objects::wait_for(async {
        let chosen: Vec<(Object, SourceFormat)> = match location.head().await? {
            Some(object) => {
                let format = format_of(Path::new(&object.url), format)?;
                vec![(object, format)]
            }
            None => objects_below(&location, format).await?,
        };
        let objects: Vec<Object> = chosen.iter().map(|(object, _)| object.clone()).collect();
        let copies = cache.copies(&location, &objects).await?;
        let found = chosen.into_iter().zip(copies).map(|((object, format), path)| Found {
            path,
            name: object.name,
            format,
            url: Some(object.url),
        });
        Ok(found.collect())
    })
}

async fn objects_below(location: &Location, format: SourceFormat) -> Result<Vec<(Object, SourceFormat)>> {
    if location.is_web_server() && !location.url().ends_with('/') {
        return Err(location.missing().await);
    }
    let objects = location.list().await?;
    if objects.is_empty() {
        return Err(location.missing().await);
    }
    let shown = PathBuf::from(location.url());
    if format == SourceFormat::Folder {
        let reason = "single pictures of an object store are not read; pack them into tar archives".to_owned();
        return Err(Error::Format { path: shown, format: "a folder of pictures", reason });
    }
    let names: Vec<PathBuf> = objects.iter().map(|object| PathBuf::from(&object.name)).collect();
    let chosen = choose(&names, format, &shown);
    if chosen.is_empty() {
        return Err(Error::NoFiles { path: shown, expected: format.endings() });
    }
    Ok(chosen.into_iter().map(|(index, format)| (objects[index].clone(), format)).collect())
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
