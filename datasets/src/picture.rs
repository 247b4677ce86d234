//! Images of a task: in folders, in archives, or in the rows themselves.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::archive::{Archive, Member, has_members, is_archive, is_packed_whole};
use crate::json_text;
use crate::{Error, Result};

/// The location of one image or video.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A member of an archive.
    Member(ArchiveMember),
    /// Bytes from the row that it belongs to.
    Row(Arc<[u8]>),
}

/// An image or video that is missing or broken.
#[derive(Debug)]
pub struct FaultyMedia<'a> {
    /// The id of the conversation.
    pub id: &'a str,
    /// The path of the image or video.
    pub path: &'a str,
    /// The fault in it.
    pub reason: &'a str,
    /// Whether the conversation is kept all the same.
    pub kept: bool,
}

impl FaultyMedia<'_> {
    /// Appends it as a line of JSON.
    pub fn append_line(&self, out: &mut Vec<u8>) {
        for (name, value) in [("{\"id\":", self.id), (",\"path\":", self.path), (",\"reason\":", self.reason)] {
            out.extend_from_slice(name.as_bytes());
            json_text::text(out, value);
        }
        out.extend_from_slice(if self.kept { b",\"kept\":true}\n" } else { b",\"kept\":false}\n" });
    }
}

/// A member of an archive that is there.
#[derive(Debug, Clone)]
pub struct ArchiveMember {
    archive: Arc<Archive>,
    member: Member,
}

impl Place {
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub fn size(&self) -> io::Result<u64> {
        match self {
            Place::File(path) => Ok(path.metadata()?.len()),
            Place::Member(own) => Ok(own.member.size),
            Place::Row(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Returns the byte range of a member that is not compressed within its archive.
    pub(crate) fn span(&self) -> Option<(u64, u64)> {
        match self {
            Place::Member(own) => own.archive.span(&own.member),
            Place::File(_) | Place::Row(_) => None,
        }
    }

    /// Returns the input argument for the ffmpeg programs: a file, or a byte range of one. A
    /// compressed member has none.
    pub(crate) fn input(&self) -> Option<OsString> {
        match self {
            Place::File(path) => {
                let mut input = OsString::from("file:");
                input.push(path);
                Some(input)
            }
            Place::Member(own) => {
                let (start, end) = self.span()?;
                let mut input = OsString::from(format!("subfile,,start,{start},end,{end},,:"));
                input.push(&own.archive.path);
                Some(input)
            }
            Place::Row(_) => None,
        }
    }

    /// Returns its bytes.
    ///
    /// # Errors
    /// If it cannot be read, or the archive is damaged there.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Place::File(path) => fs::read(path),
            Place::Member(own) => own.archive.read(&own.member),
            Place::Row(bytes) => Ok(bytes.to_vec()),
        }
    }
}

impl ArchiveMember {
    /// Returns the path of the archive.
    pub(crate) fn archive(&self) -> &Path {
        &self.archive.path
    }
}

/// Finds the images of a task by their paths: in a folder, in the zip and tar archives along the
/// path, or in one archive. An archive is indexed once, when the first image is looked up in it.
#[derive(Debug)]
pub struct Pictures {
    roots: Vec<PathBuf>,
    /// The archives in each folder, in the order of their names; `None` if there is no such folder.
    folders: Mutex<HashMap<PathBuf, Option<Arc<[PathBuf]>>>>,
    archives: Mutex<HashMap<PathBuf, Arc<Archive>>>,
}

/// The maximum number of folders whose archives are remembered: a dataset may have a folder for
/// every video.
const REMEMBERED: usize = 1 << 14;

impl Pictures {
    /// Takes folders or archives. The first one that contains a path is used. They need not exist.
    pub fn of(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { roots: roots.into_iter().collect(), folders: Mutex::default(), archives: Mutex::default() }
    }

    /// Returns the location of the image at a path, if it exists. A path through an archive, as in
    /// `images.zip/a.jpg`, names a member of it. Otherwise a member is found at the path that it
    /// would have if its archive were unpacked in place or into a folder with its name. A top
    /// folder that contains everything in the archive may be omitted.
    ///
    /// # Errors
    /// If an archive or a folder cannot be read.
    pub fn find(&self, path: &str) -> Result<Option<Place>> {
        if !stays_inside(path) {
            return Ok(None);
        }
        for root in &self.roots {
            if is_archive(root) && root.is_file() {
                if let Some(place) = self.member(root, path)? {
                    return Ok(Some(place));
                }
                continue;
            }
            let file = root.join(path);
            if file.is_file() {
                return Ok(Some(Place::File(file)));
            }
            let mut folder = root.clone();
            let mut rest = path;
            loop {
                let Some(archives) = self.archives_in(&folder)? else {
                    if has_members(&folder) && folder.is_file() {
                        return self.member(&folder, rest);
                    }
                    break;
                };
                for archive in archives.iter() {
                    if let Some(place) = self.member(archive, rest)? {
                        return Ok(Some(place));
                    }
                }
                let Some((first, behind)) = rest.split_once('/') else { break };
                folder.push(first);
                rest = behind;
            }
        }
        Ok(None)
    }

    /// Returns the bytes of the image at a path, if it exists.
    ///
    /// # Errors
    /// If it exists but cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.find(path)? else { return Ok(None) };
        let failed = |source| Error::Io { action: "read", path: PathBuf::from(path), source };
        place.read().map(Some).map_err(failed)
    }

    /// Returns the archives in its folders from which single members cannot be read, such as a
    /// compressed tar file. Missing images may be in them.
    pub fn packed_whole(&self) -> Vec<PathBuf> {
        let entries = self.roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_packed_whole(path)).collect();
        found.sort();
        found
    }

    /// Returns the paths of the images in a folder, which are recognised by their extensions.
    ///
    /// # Errors
    /// If the folder exists but cannot be read.
    pub(crate) fn pictures_in(&self, folder: &str) -> Result<Vec<String>> {
        if !stays_inside(folder) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let Some(path) = self.roots.iter().map(|root| root.join(folder)).find(|path| path.is_dir()) else {
            return Ok(found);
        };
        let failed = |source| Error::Io { action: "read", path: path.clone(), source };
        for entry in fs::read_dir(&path).map_err(failed)? {
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
            let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
            if ending.is_some_and(|ending| PICTURES.contains(&ending.as_str())) && !name.starts_with('.') {
                found.push(format!("{folder}/{name}"));
            }
        }
        Ok(found)
    }

    fn member(&self, archive: &Path, path: &str) -> Result<Option<Place>> {
        let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
        let archive = if let Some(archive) = archives.get(archive) {
            Arc::clone(archive)
        } else {
            let opened = Arc::new(Archive::open(archive)?);
            archives.insert(archive.to_owned(), Arc::clone(&opened));
            opened
        };
        drop(archives);
        Ok(archive.find(path).map(|member| Place::Member(ArchiveMember { archive, member })))
    }

    /// Returns the archives in a folder, if it exists. Archives that are added later may not be
    /// found.
    fn archives_in(&self, folder: &Path) -> Result<Option<Arc<[PathBuf]>>> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = folders.get(folder) {
            return Ok(found.clone());
        }
        let failed = |source| Error::Io { action: "read", path: folder.to_owned(), source };
        let found = match fs::read_dir(folder) {
            Err(fault) if matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            entries => {
                let mut found = Vec::new();
                for entry in entries.map_err(failed)? {
                    let path = entry.map_err(failed)?.path();
                    if is_archive(&path) && path.is_file() {
                        found.push(path);
                    }
                }
                found.sort();
                Some(found.into())
            }
        };
        if folders.len() < REMEMBERED {
            folders.insert(folder.to_owned(), found.clone());
        }
        Ok(found)
    }
}

/// File extensions of images.
pub(crate) const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// File extensions of videos.
pub(crate) const VIDEOS: [&str; 6] = ["avi", "m4v", "mkv", "mov", "mp4", "webm"];

/// Compares names in natural order: consecutive digits are one number.
pub(crate) fn natural_order(first: &str, second: &str) -> Ordering {
    let (mut left, mut right) = (first, second);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (in_left, in_right) = (digits(left), digits(right));
        let order = if in_left > 0 && in_right > 0 {
            let (one, other) = (left[..in_left].trim_start_matches('0'), right[..in_right].trim_start_matches('0'));
            (left, right) = (&left[in_left..], &right[in_right..]);
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        } else {
            let (Some(one), Some(other)) = (left.chars().next(), right.chars().next()) else {
                return left.len().cmp(&right.len()).then_with(|| first.cmp(second));
            };
            (left, right) = (&left[one.len_utf8()..], &right[other.len_utf8()..]);
            one.cmp(&other)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Images that are embedded in the row that they belong to, by the paths that they get.
pub type Embedded = BTreeMap<String, Arc<[u8]>>;

/// Hexadecimal digits of the digest that names an embedded image: 128 bits.
const DIGITS: usize = 32;

/// Adds an image without a path and returns the path that it gets. The path is made from a digest
/// of its content, `12/3456….jpg`, so that an image that is in many rows is stored once.
pub(crate) fn embed(bytes: Vec<u8>, embedded: &mut Embedded) -> String {
    let digest = blake3::hash(&bytes).to_hex();
    let suffix = lynxdata_picture::format_of(&bytes).map_or("bin", lynxdata_picture::Format::extension);
    let path = format!("{}/{}.{suffix}", &digest[..2], &digest[2..DIGITS]);
    embedded.insert(path.clone(), bytes.into());
    path
}

/// The first characters of JPEG, PNG, GIF, WebP and TIFF files in base64.
const BASE64_PICTURES: [&str; 6] = ["/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkq", "TU0AK"];

/// The minimum number of characters of an image in base64. A GIF of one pixel has 35 bytes; a
/// shorter text may be a path in a folder `/9j`.
const LEAST_BASE64: usize = 46;

/// Returns the base64 of a text that contains an image: a data URL (RFC 2397), or base64 that
/// begins like an image.
pub(crate) fn base64_of(text: &str) -> Option<&str> {
    if let Some(data) = text.strip_prefix("data:") {
        return data.split_once(";base64,").map(|(_, base64)| base64);
    }
    let is_picture = text.len() >= LEAST_BASE64 && BASE64_PICTURES.iter().any(|begin| text.starts_with(begin));
    is_picture.then_some(text)
}

/// Returns whether a path from native data stays inside the folder that it is joined to.
pub(crate) fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The image folder of a task, to which the absolute paths of its rows are made relative.
#[derive(Debug, Clone, Default)]
pub(crate) struct PictureFolder {
    /// Its absolute path as given, and the one without links if that differs.
    paths: Vec<PathBuf>,
}

impl PictureFolder {
    /// Takes a folder or an archive, which need not exist.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut paths: Vec<PathBuf> = std::path::absolute(folder).into_iter().collect();
        paths.extend(fs::canonicalize(folder).ok().filter(|path| !paths.contains(path)));
        Self { paths }
    }

    /// Returns the path of an image or video from this folder. An absolute path is compared with
    /// the folder as text, because the file may be in an archive.
    ///
    /// # Errors
    /// Returns what is wrong with a path that is not inside the folder.
    pub(crate) fn relative(&self, path: String) -> std::result::Result<String, String> {
        if stays_inside(&path) {
            return Ok(path);
        }
        if !Path::new(&path).is_absolute() {
            return Err(format!("{path:?} leads out of the image folder"));
        }
        let inner = self.paths.iter().find_map(|folder| Path::new(&path).strip_prefix(folder).ok()?.to_str());
        inner.filter(|inner| stays_inside(inner)).map(str::to_owned).ok_or_else(|| {
            let folder = self.paths.first().map(|folder| format!(" {}", folder.display())).unwrap_or_default();
            format!("{path:?} is not inside the image folder{folder}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{write_tar, write_zip};

    fn read(pictures: &Pictures, path: &str) -> Option<Vec<u8>> {
        pictures.read(path).unwrap()
    }

    #[test]
    fn a_missing_picture_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), "x").unwrap();
        let pictures = Pictures::of([folder.path().to_owned()]);
        assert_eq!(read(&pictures, "a.jpg").as_deref(), Some(b"x".as_slice()));
        for path in ["b.jpg", "a.jpg/b.jpg", "c/b.jpg", ".", "../a.jpg", "/a.jpg"] {
            assert_eq!(read(&pictures, path), None, "{path}");
        }
        assert_eq!(read(&Pictures::of([folder.path().join("nowhere")]), "a.jpg"), None);
    }

    #[test]
    fn members_stand_for_the_files_that_they_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_owned();
        fs::create_dir_all(root.join("vg/extra")).unwrap();
        write_zip(&root.join("train2014.zip"), &[("train2014/a.jpg", b"a"), ("train2014/b.jpg", b"b")]);
        write_tar(&root.join("00007.tar"), &[("000070001.jpg", b"c")]);
        write_tar(&root.join("vg/images.tar"), &[("./images/1.jpg", b"d"), ("./images/2.jpg", b"e")]);
        fs::write(root.join("LA.json"), "{\"LA_1\": \"Zg==\"}").unwrap();
        fs::write(root.join("pictures.tar.gz"), "").unwrap();
        let pictures = Pictures::of([root.clone()]);
        let found = [
            ("train2014/a.jpg", b"a"),
            ("00007/000070001.jpg", b"c"),
            ("vg/images/1.jpg", b"d"),
            ("vg/2.jpg", b"e"),
            ("LA.json/LA_1", b"f"),
            ("train2014.zip/train2014/b.jpg", b"b"),
        ];
        for (path, bytes) in found {
            assert_eq!(read(&pictures, path).as_deref(), Some(bytes.as_slice()), "{path}");
            assert_eq!(
                pictures.find(path).unwrap().unwrap().size().unwrap(),
                if path.ends_with("LA_1") { 3 } else { 1 }
            );
        }
        assert_eq!(read(&pictures, "images/1.jpg"), None, "that archive lies in another folder");
        assert_eq!(pictures.packed_whole(), [root.join("pictures.tar.gz")]);
        // A file goes before a member, the first root before the second.
        fs::create_dir(root.join("train2014")).unwrap();
        fs::write(root.join("train2014/a.jpg"), "file").unwrap();
        assert_eq!(read(&pictures, "train2014/a.jpg").as_deref(), Some(b"file".as_slice()));
        assert_eq!(read(&pictures, "train2014/b.jpg").as_deref(), Some(b"b".as_slice()));
        let several = Pictures::of([root.join("vg/extra"), root.join("train2014.zip"), root]);
        assert_eq!(read(&several, "train2014/a.jpg").as_deref(), Some(b"a".as_slice()));
        assert_eq!(read(&several, "00007/000070001.jpg").as_deref(), Some(b"c".as_slice()));
    }

    #[test]
    fn pictures_of_rows_are_named_by_their_content() {
        let mut embedded = Embedded::new();
        let gif = b"GIF89a\x01\0\x01\0".to_vec();
        let first = embed(gif.clone(), &mut embedded);
        assert_eq!(embed(gif, &mut embedded), first);
        let second = embed(b"no picture".to_vec(), &mut embedded);
        assert_eq!([&first, &second].map(|name| name.rsplit('.').next()), [Some("gif"), Some("bin")]);
        assert_eq!(first.len(), 2 + 1 + 30 + 4, "{first}");
        assert!(stays_inside(&first) && embedded.len() == 2);
    }

    #[test]
    fn base64_is_told_from_paths() {
        let jpeg = format!("/9j/{}", "4AAQ".repeat(20));
        assert_eq!(base64_of(&jpeg), Some(jpeg.as_str()));
        assert_eq!(base64_of("data:image/png;base64,AAAA"), Some("AAAA"));
        for path in ["/9j/4.jpg", "a.jpg", "images/R0lGOD.gif", "data:x", ""] {
            assert_eq!(base64_of(path), None, "{path}");
        }
    }

    #[test]
    fn absolute_paths_inside_the_folder_become_relative() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        fs::create_dir_all(real.join("a")).unwrap();
        let mut folders = vec![real.clone()];
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(&real, &link).unwrap();
            folders.push(link);
        }
        for given in folders {
            let own = PictureFolder::of(&given);
            let relative = |path: PathBuf| own.relative(path.to_str().unwrap().to_owned());
            assert_eq!(relative(given.join("a/b.png")).unwrap(), "a/b.png");
            assert_eq!(relative(real.join("a/b.png")).unwrap(), "a/b.png", "its path without links");
            assert_eq!(relative("a/b.png".into()).unwrap(), "a/b.png");
            for outside in [given.join("../b.png"), given.clone(), "/etc/passwd".into(), real.join("a/../../b.png")] {
                let fault = relative(outside.clone()).unwrap_err();
                assert!(fault.contains("is not inside the image folder "), "{}: {fault}", outside.display());
            }
            assert!(relative("../real/b.png".into()).unwrap_err().contains("leads out of the image folder"));
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_recognised() {
        assert!(stays_inside("train2014/a.jpg") && stays_inside("./x.png"));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x"] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
