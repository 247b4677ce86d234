//! Images of records: finds their files, checks whether they are complete, and reads their sizes.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lynxdata_picture::{Format, PictureError, format_of, size_of};
use rayon::prelude::*;

use crate::fault::{Fault, Reason};
use crate::read::{Conversation, Picture};

/// The maximum number of pixels of an image. Pillow, with which trainers read images, raises
/// `DecompressionBombError` above twice its `MAX_IMAGE_PIXELS` of 89,478,485.
const MAX_PIXELS: u64 = 2 * 89_478_485;

/// File suffixes and their formats.
const SUFFIXES: &[(&str, Format)] = &[
    ("jpg", Format::Jpeg),
    ("jpeg", Format::Jpeg),
    ("jpe", Format::Jpeg),
    ("jfif", Format::Jpeg),
    ("png", Format::Png),
    ("apng", Format::Png),
    ("webp", Format::WebP),
    ("gif", Format::Gif),
    ("bmp", Format::Bmp),
    ("dib", Format::Bmp),
    ("tif", Format::Tiff),
    ("tiff", Format::Tiff),
];

/// The size and the fault of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Width and height in pixels from the header, without EXIF rotation.
    pub(crate) size: Option<(u32, u32)>,
    /// The fault, if any. An image with a wrong suffix also has a size.
    pub(crate) fault: Option<Fault>,
}

impl Measured {
    fn failed(reason: Reason, detail: String) -> Measured {
        Measured { size: None, fault: Some(Fault::new(reason, detail)) }
    }
}

/// The source of image sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// The file of every image is read and checked.
    FromFiles,
    /// Sizes in records are used. Such images are not opened, so missing or damaged ones are not
    /// detected.
    FromRecords,
}

/// Returns the bytes of the image that a file of conversations names by a path, if it can be read.
pub type ReadPicture<'a> = dyn Fn(&Path, &str) -> Option<Vec<u8>> + Sync + 'a;

/// The place of the images of a file.
pub(crate) struct Place<'a> {
    /// The file of conversations.
    pub(crate) file: &'a Path,
    /// The folder that paths are relative to.
    pub(crate) folder: PathBuf,
    /// Another place, which is searched first.
    pub(crate) first: Option<&'a ReadPicture<'a>>,
}

/// The results for images. Each file is read once, even if many records use it.
pub(crate) struct Pictures<'a> {
    place: Place<'a>,
    sizes: Sizes,
    known: HashMap<[u8; 16], Measured>,
}

impl<'a> Pictures<'a> {
    pub(crate) fn new(place: Place<'a>, sizes: Sizes) -> Pictures<'a> {
        Pictures { place, sizes, known: HashMap::new() }
    }

    /// Reads the files of images that were not read before, on all cores.
    pub(crate) fn look_at<'c>(&mut self, conversations: impl Iterator<Item = &'c Conversation>) {
        let mut new: Vec<(&str, [u8; 16])> = Vec::new();
        for picture in conversations.flat_map(|conversation| &conversation.pictures) {
            if let Some(path) = self.to_open(picture) {
                let key = key(path);
                if !self.known.contains_key(&key) {
                    new.push((path, key));
                }
            }
        }
        new.sort_unstable_by_key(|(_, key)| *key);
        new.dedup_by_key(|(_, key)| *key);
        let place = &self.place;
        let measured: Vec<_> = new.par_iter().map(|(path, key)| (*key, place.measure(path))).collect();
        self.known.extend(measured);
    }

    /// Returns the path of an image whose file must be read.
    fn to_open<'c>(&self, picture: &'c Picture) -> Option<&'c str> {
        let is_told = self.sizes == Sizes::FromRecords && picture.declared.is_some();
        picture.path.as_deref().filter(|path| !is_told && picture.bytes.is_none() && !is_remote(path))
    }

    /// Returns the result for an image of a conversation that was passed to [`Self::look_at`].
    pub(crate) fn measured(&self, picture: &Picture) -> Measured {
        if let Some(size) = picture.declared.filter(|_| self.sizes == Sizes::FromRecords) {
            return Measured { size: Some(size), fault: None };
        }
        match (&picture.bytes, picture.path.as_deref()) {
            (Some(bytes), path) => measure(bytes, path.unwrap_or_default()),
            (None, None | Some("")) => {
                Measured::failed(Reason::MissingPicture, "an image without path and bytes".into())
            }
            (None, Some(path)) if is_remote(path) => {
                let shown: String = path.chars().take(80).collect();
                Measured::failed(Reason::RemotePicture, format!("{shown} is not a local file and was not checked"))
            }
            (None, Some(path)) => self.known.get(&key(path)).cloned().unwrap_or_else(|| self.place.measure(path)),
        }
    }
}

/// A 128-bit hash represents a path: a collision among a billion is less likely than a disk error.
fn key(path: &str) -> [u8; 16] {
    *blake3::hash(path.as_bytes()).as_bytes().first_chunk().expect("a digest has 32 bytes")
}

fn is_remote(path: &str) -> bool {
    path.starts_with("data:") || path.contains("://") && !path.starts_with("file://")
}

impl Place<'_> {
    fn measure(&self, path: &str) -> Measured {
        if let Some(bytes) = self.first.and_then(|read| read(self.file, path)) {
            return measure(&bytes, path);
        }
        let also = if self.first.is_some() {
            format!("{path} is not among the images of the run, and ")
        } else {
            String::new()
        };
        let file = self.folder.join(path.strip_prefix("file://").unwrap_or(path));
        match fs::read(&file) {
            Ok(bytes) => measure(&bytes, path),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Measured::failed(Reason::MissingPicture, format!("{also}{} does not exist", file.display()))
            }
            Err(error) => {
                Measured::failed(Reason::MissingPicture, format!("{also}{} cannot be read: {error}", file.display()))
            }
        }
    }
}

fn measure(bytes: &[u8], path: &str) -> Measured {
    let called = if path.is_empty() { "an image" } else { path };
    if bytes.is_empty() {
        return Measured::failed(Reason::EmptyPicture, format!("{called} has no bytes"));
    }
    let looked_at = format_of(bytes).and_then(|format| Ok((format, size_of(bytes, MAX_PIXELS)?)));
    match looked_at {
        Ok((format, size)) => Measured { size: Some(size), fault: misnamed(path, format) },
        Err(error) => {
            let kind = if let PictureError::Unsupported(_) = error { "cannot be checked" } else { "is damaged" };
            Measured::failed(Reason::CorruptPicture, format!("{called} {kind}: {error}"))
        }
    }
}

fn misnamed(path: &str, format: Format) -> Option<Fault> {
    let suffix = Path::new(path).extension()?.to_str()?.to_lowercase();
    let (_, promised) = SUFFIXES.iter().find(|(known, _)| *known == suffix)?;
    let detail = || format!("{path} holds {}", format.name());
    (*promised != format).then(|| Fault::new(Reason::MisnamedPicture, detail()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bitmap of 2 x 1 pixels.
    const BITMAP: &[u8] = b"BM\x3e\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x18\0\0\0\0\0\x08\0\0\0\
        \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\0\0";

    fn at(folder: &Path) -> Place<'_> {
        Place { file: folder, folder: folder.to_owned(), first: None }
    }

    fn named(path: &str) -> Picture {
        Picture { path: Some(path.to_owned()), ..Picture::default() }
    }

    #[test]
    fn each_fault_has_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("good.bmp", BITMAP);
        write("wrong.JPG", BITMAP);
        write("empty.bmp", b"");
        write("cut.bmp", &BITMAP[..58]);
        write("page.jpg", b"<html>");
        let names = [
            "good.bmp",
            "wrong.JPG",
            "empty.bmp",
            "cut.bmp",
            "page.jpg",
            "none.jpg",
            "good.bmp/x.jpg",
            "http://a/b.jpg",
            "",
        ];
        let talk = Conversation { pictures: names.map(named).to_vec(), ..Conversation::default() };
        let mut pictures = Pictures::new(at(folder.path()), Sizes::FromFiles);
        pictures.look_at(std::iter::once(&talk));
        let found: Vec<_> = talk.pictures.iter().map(|picture| pictures.measured(picture)).collect();
        let reasons: Vec<_> = found.iter().map(|measured| measured.fault.as_ref().map(|fault| fault.reason)).collect();
        let expected = [
            None,
            Some(Reason::MisnamedPicture),
            Some(Reason::EmptyPicture),
            Some(Reason::CorruptPicture),
            Some(Reason::CorruptPicture),
            Some(Reason::MissingPicture),
            Some(Reason::MissingPicture),
            Some(Reason::RemotePicture),
            Some(Reason::MissingPicture),
        ];
        assert_eq!(reasons, expected);
        assert_eq!((found[0].size, found[1].size), (Some((2, 1)), Some((2, 1))));
        assert!(found[1].fault.as_ref().unwrap().detail.contains("holds bmp"));
    }

    #[test]
    fn sizes_of_records_spare_the_files_where_the_user_says_so() {
        let mut picture = named("nowhere.jpg");
        picture.declared = Some((3, 4));
        let nowhere = || at(Path::new("nowhere"));
        assert_eq!(Pictures::new(nowhere(), Sizes::FromRecords).measured(&picture).size, Some((3, 4)));
        assert_eq!(Pictures::new(nowhere(), Sizes::FromFiles).measured(&picture).size, None);
        picture.bytes = Some(BITMAP.to_vec());
        assert_eq!(Pictures::new(nowhere(), Sizes::FromFiles).measured(&picture).size, Some((2, 1)));
    }
}
