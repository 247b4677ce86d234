//! Finds the files of a source.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use lynxdata_records::RunFolder;

use super::file_names::{is_hidden, kind_of};
use super::left_out::{Kind, LeftOut};
use super::lines::Lines;
use super::{SourceConfig, SourceFormat, decoded, folder, metadata, pictures};
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

/// A file of the source, or a folder of images.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its name relative to the path of the recipe that it comes from; not used for folders.
    pub(super) name: String,
    pub(super) format: SourceFormat,
    /// The object or pipe that `path` is a copy of.
    pub(super) url: Option<String>,
    /// Index of the entry of the recipe's `path` that it comes from.
    pub(super) entry: usize,
    /// For a metadata file, whose rows name images: the folder of the recipe that contains it.
    pub(super) metadata_in: Option<PathBuf>,
}

impl Found {
    fn local(path: PathBuf, format: SourceFormat) -> Found {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Found { path, name, format, url: None, entry: 0, metadata_in: None }
    }

    /// Replaces the path of a copy in an error by the URL, because the path of the copy means
    /// nothing to users.
    pub(super) fn shown_in(&self, error: Error) -> Error {
        match &self.url {
            Some(url) => error.with_path(&self.path, Path::new(url)),
            None => error,
        }
    }
}

impl SourceFormat {
    /// Returns the format by the file name; `None` if it is unknown.
    pub(super) fn of(path: &Path) -> Option<SourceFormat> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (plain, suffix) = (without_compression(&name), suffix_of(path)?);
        let format = SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, format)| *format)?;
        // Both formats need random access, so they cannot be compressed as a whole.
        let is_plain_only = matches!(format, SourceFormat::Parquet | SourceFormat::WebDataset);
        (!is_plain_only || plain == name).then_some(format)
    }

    /// Returns whether its rows are images that exist already.
    pub(super) fn has_pictures(self) -> bool {
        matches!(self, SourceFormat::Folder | SourceFormat::WebDataset)
    }

    /// Returns the endings of its file names, for messages.
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

/// Returns the suffix of a file name in lower case, without a compression suffix.
fn suffix_of(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    without_compression(&name).rsplit_once('.').map(|(_, suffix)| suffix.to_owned())
}

/// Returns the files of the recipe's `path` with their formats, and what is left out of its
/// folders. Objects are copied to the cache.
pub(super) fn find(config: &SourceConfig, base_folder: &Path, cache: Option<&Cache>) -> Result<(Vec<Found>, LeftOut)> {
    let (mut files, mut left_out) = (Vec::new(), LeftOut::default());
    for (entry, path) in config.path.as_slice().iter().enumerate() {
        let mut found = if objects::is_url(path) {
            objects_at(&path.to_string_lossy(), config, cache, &mut left_out)?
        } else {
            let path = base_folder.join(path);
            let metadata = std::fs::metadata(&path).map_err(|source| Error::read(&path, source))?;
            if metadata.is_dir() {
                in_folder(&path, config, &mut left_out)?
            } else if !metadata.is_file() {
                vec![from_pipe(path.clone(), format_of(&path, config.format)?)?]
            } else {
                // Checked before the format, because the name of an unsupported compression has no
                // known format.
                decoded::refuse_foreign(&path).map_err(|source| Error::read(&path, source))?;
                let format = format_of(&path, config.format)?;
                let is_list_of_files = metadata::is_list_of_files(&path, format, config);
                let metadata_in = is_list_of_files.then(|| path.with_file_name(""));
                vec![Found { metadata_in, ..Found::local(path, format) }]
            }
        };
        for found in &mut found {
            found.entry = entry;
        }
        files.append(&mut found);
    }
    if files.is_empty() {
        return Err(no_files(Path::new("source.path"), config.format, &LeftOut::default()));
    }
    Ok((files.into_iter().map(with_usable_path).collect::<Result<_>>()?, left_out))
}

/// Returns the error for a path without files that can be read.
pub(super) fn no_files(path: &Path, format: SourceFormat, left_out: &LeftOut) -> Error {
    let there = if left_out.is_empty() { String::new() } else { format!("; it holds: {left_out}") };
    Error::NoFiles { path: path.to_owned(), expected: format.endings(), there }
}

/// Returns the error for a compressed archive, which has no random access.
fn compressed(path: &Path) -> Error {
    let reason = "compressed archives are not read; decompress it first".to_owned();
    Error::Format { path: path.to_owned(), format: "a source", reason }
}

/// Returns a pipe as a file. Lists are read several times, so the content of a pipe is read once
/// and kept in a nameless file as long as the process lives.
#[cfg(target_os = "linux")]
fn from_pipe(path: PathBuf, format: SourceFormat) -> Result<Found> {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::Mutex;

    static COPIES: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());
    if format.has_pictures() {
        return Err(no_pipe(path, "an archive is opened again for each of its images; write it to a file first"));
    }
    let mut copies = COPIES.lock().expect("nobody panics while it is locked");
    if !copies.contains_key(&path) {
        let copied = tempfile::tempfile().and_then(|mut copy| {
            std::io::copy(&mut File::open(&path)?, &mut copy)?;
            Ok(copy)
        });
        copies.insert(path.clone(), copied.map_err(|source| Error::read(&path, source))?);
    }
    // Opening this path starts at the beginning of the file each time.
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

/// Returns the format of a single file.
fn format_of(path: &Path, format: SourceFormat) -> Result<SourceFormat> {
    match format {
        // Only for single files: in a folder, `.json` files belong to images.
        SourceFormat::Auto if suffix_of(path).as_deref() == Some("json") => Ok(SourceFormat::Jsonl),
        SourceFormat::Auto if kind_of(&path.to_string_lossy()) == Kind::CompressedArchive => Err(compressed(path)),
        SourceFormat::Auto => SourceFormat::of(path).ok_or_else(|| Error::UnknownFormat { path: path.to_owned() }),
        SourceFormat::Folder => Err(Error::Format {
            path: path.to_owned(),
            format: "a folder of images",
            reason: "it is a file".to_owned(),
        }),
        format => Ok(format),
    }
}

/// Returns the source files of a folder, sorted by name, or the folder itself if it is a folder of
/// images.
fn in_folder(folder: &Path, config: &SourceConfig, left_out: &mut LeftOut) -> Result<Vec<Found>> {
    let format = config.format;
    if format == SourceFormat::Folder {
        return pictures_in(folder, config.follow_links);
    }
    if format == SourceFormat::Auto && RunFolder::is_at(folder) {
        let reason = "it is a run folder of lynxdata; name what is to be read in it, such as its pool or \
                      shards/webdataset";
        return Err(Error::Format { path: folder.to_owned(), format: "a source", reason: reason.to_owned() });
    }
    let (mut names, mut own) = (Vec::new(), LeftOut::default());
    for entry in std::fs::read_dir(folder).map_err(|source| Error::read(folder, source))? {
        let entry = entry.map_err(|source| Error::read(folder, source))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_name().to_str().is_none() {
            own.add(Kind::Other, &name);
        } else if is_hidden(&name) {
            own.add(Kind::Hidden, &name);
        } else if path.is_file() {
            names.push(name);
        } else if !path.is_dir() {
            own.add(if path.is_symlink() { Kind::Link } else { Kind::Other }, &name);
        } else if RunFolder::is_at(&path) {
            own.add(Kind::RunFolder, &name);
        } else {
            own.add(Kind::SubFolder, &name);
        }
    }
    names.sort();
    let is_metadata = |name: &str| metadata::is_name(OsStr::new(name)) && metadata::has_file_names(&folder.join(name));
    let has_pictures = || folder::has_pictures(folder, config.follow_links);
    // Text files hold no captions.
    let begins_with_url = |name: &str| config.caption.is_none() && begins_with_url(&folder.join(name));
    if format == SourceFormat::Auto && names.iter().any(|name| is_metadata(name)) && has_pictures()? {
        return pictures_in(folder, config.follow_links);
    }
    let is_text = |name: &String| SourceFormat::of(Path::new(name)) == Some(SourceFormat::Txt);
    let may_have_pictures_below = own.example(Kind::SubFolder).is_some() && names.iter().any(is_text);
    let pictures_below = may_have_pictures_below && has_pictures()?;
    let mut chosen = choose(&names, format, pictures_below, begins_with_url, &mut own);
    if chosen.is_empty() && format == SourceFormat::Auto && has_pictures()? {
        return pictures_in(folder, config.follow_links);
    }
    // Lists and archives may be in sub-folders, such as `data` of a Hugging Face dataset.
    if chosen.is_empty() && own.example(Kind::SubFolder).is_some() {
        own.forget(Kind::SubFolder);
        names = folder::files_in_sub_folders(folder, &mut own)?;
        chosen = choose(&names, format, false, begins_with_url, &mut own);
    }
    if chosen.is_empty() {
        return Err(match own.example(Kind::CompressedArchive) {
            Some(archive) => compressed(&folder.join(archive)),
            None => no_files(folder, format, &own),
        });
    }
    left_out.append(own);
    let found = chosen.into_iter().map(|(index, format)| {
        let name = names[index].clone();
        Found { name: name.clone(), ..Found::local(folder.join(name), format) }
    });
    Ok(found.collect())
}

/// Returns a folder of images: its metadata files, then the folder itself for images that no
/// metadata file names.
fn pictures_in(folder: &Path, follow_links: bool) -> Result<Vec<Found>> {
    let described = folder::metadata_files(folder, follow_links)?.into_iter().map(|path| {
        let format = SourceFormat::of(&path).unwrap_or_default();
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        Found { name, metadata_in: Some(folder.to_owned()), ..Found::local(path, format) }
    });
    Ok(described.chain([Found::local(folder.to_owned(), SourceFormat::Folder)]).collect())
}

/// Chooses the files of a folder to read, with their formats. `names` are the names of the files,
/// sorted. `auto` prefers lists, then archives, then images, because tools that write images, such
/// as img2dataset, write a list beside them. `pictures_below` is whether sub-folders hold images.
fn choose(
    names: &[String],
    format: SourceFormat,
    pictures_below: bool,
    begins_with_url: impl Fn(&str) -> bool,
    left_out: &mut LeftOut,
) -> Vec<(usize, SourceFormat)> {
    // If the recipe sets the format to JSONL, `.json` files are lists too, as for single files.
    let is_json = |name: &str| format == SourceFormat::Jsonl && suffix_of(Path::new(name)).as_deref() == Some("json");
    let of = |name: &str| {
        let told = is_json(name).then_some(SourceFormat::Jsonl);
        told.or_else(|| SourceFormat::of(Path::new(name)).filter(|_| kind_of(name) == Kind::Other))
    };
    let is_auto = format == SourceFormat::Auto;
    // Names of the text and JSON files that belong to images, without suffixes.
    let pictures = || names.iter().filter(|name| pictures::is_picture(name));
    let bases: BTreeSet<String> = pictures().flat_map(|picture| pictures::names_beside(picture, "")).collect();
    let is_beside = |name: &str| {
        let base = name.rfind('.').map_or("", |dot| &name[..=dot]);
        pictures::is_beside(name) && bases.contains(&base.to_lowercase())
    };
    let has_pictures = pictures().next().is_some() || pictures_below;
    let has_columns = |found| !matches!(found, SourceFormat::Txt | SourceFormat::WebDataset);
    let has_archives = names.iter().any(|name| of(name) == Some(SourceFormat::WebDataset));
    let is_alone = !has_pictures && !has_archives && !names.iter().any(|name| of(name).is_some_and(has_columns));
    let is_list = |name: &str, found| match found {
        SourceFormat::WebDataset => false,
        // Beside other files, a text file may be something else than a list.
        SourceFormat::Txt => !is_beside(name) && (is_alone || begins_with_url(name)),
        _ => true,
    };
    let lists: Vec<bool> = names.iter().map(|name| of(name).is_some_and(|found| is_list(name, found))).collect();
    let has_lists = lists.contains(&true);
    let mut chosen = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let kind = match of(name) {
            Some(found) if !is_auto && found == format => {
                chosen.push((index, found));
                continue;
            }
            Some(found) if is_auto && (lists[index] || (!has_lists && found == SourceFormat::WebDataset)) => {
                chosen.push((index, found));
                continue;
            }
            Some(_) if !is_auto && !is_beside(name) => Kind::OtherFormat,
            Some(SourceFormat::WebDataset) => Kind::ArchiveBesideList,
            Some(SourceFormat::Txt) if !is_beside(name) => Kind::TextBesideLists,
            _ if pictures::is_picture(name) || is_beside(name) => {
                if is_auto && !has_lists && !has_archives {
                    continue; // the folder is a folder of images
                }
                Kind::PictureBesideList
            }
            _ => kind_of(name),
        };
        left_out.add(kind, name);
    }
    chosen
}

/// Returns whether the first line of a text file that is not blank is a URL.
fn begins_with_url(path: &Path) -> bool {
    let Ok(mut lines) = Lines::open(path) else { return false };
    matches!(lines.next(), Ok(Some(line)) if line.text.as_ref().is_ok_and(|text| text.contains("://")))
}

/// Returns the object with this URL, or the objects below it, as local copies.
fn objects_at(url: &str, config: &SourceConfig, cache: Option<&Cache>, left_out: &mut LeftOut) -> Result<Vec<Found>> {
    let format = config.format;
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
            None => objects_below(&location, config, left_out).await?,
        };
        let objects: Vec<Object> = chosen.iter().map(|(object, _)| object.clone()).collect();
        let copies = cache.copies(&location, &objects).await?;
        let found = chosen.into_iter().zip(copies).map(|((object, format), path)| Found {
            name: object.name,
            url: Some(object.url),
            ..Found::local(path, format)
        });
        Ok(found.collect())
    })
}

async fn objects_below(
    location: &Location,
    config: &SourceConfig,
    left_out: &mut LeftOut,
) -> Result<Vec<(Object, SourceFormat)>> {
    let format = config.format;
    if location.is_web_server() && !location.url().ends_with('/') {
        return Err(location.missing().await);
    }
    let objects = location.list().await?;
    if objects.is_empty() {
        return Err(location.missing().await);
    }
    let shown = PathBuf::from(location.url());
    if format == SourceFormat::Folder {
        let reason = "single images of an object store are not read; pack them into tar archives".to_owned();
        return Err(Error::Format { path: shown, format: "a folder of images", reason });
    }
    let mut own = LeftOut::default();
    let (hidden, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| is_hidden(&object.name));
    for object in hidden {
        own.add(Kind::Hidden, &object.name);
    }
    let names: Vec<String> = objects.iter().map(|object| object.name.clone()).collect();
    let chosen = choose(&names, format, false, |_not_copied_yet| config.caption.is_none(), &mut own);
    if chosen.is_empty() {
        return Err(no_files(&shown, format, &own));
    }
    left_out.append(own);
    Ok(chosen.into_iter().map(|(index, format)| (objects[index].clone(), format)).collect())
}

/// Makes paths absolute and checks that they are UTF-8. Images are opened by path later, perhaps
/// from another working folder, and the paths are stored in a text column.
fn with_usable_path(found: Found) -> Result<Found> {
    let is_described = found.metadata_in.is_some();
    if !found.format.has_pictures() && found.format != SourceFormat::Parquet && !is_described {
        return Ok(found);
    }
    let absolute = |path: &Path| std::path::absolute(path).map_err(|source| Error::read(path, source));
    let path = absolute(&found.path)?;
    if path.to_str().is_none() && (found.format.has_pictures() || is_described) {
        return Err(Error::Format { path, format: "pictures", reason: "its path is not UTF-8".to_owned() });
    }
    let metadata_in = found.metadata_in.as_deref().map(absolute).transpose()?;
    Ok(Found { path, metadata_in, ..found })
}
