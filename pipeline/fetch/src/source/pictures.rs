//! Existing images with the texts beside them: code that folders and archives share.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::datatypes::Field;
use lynxdata_records::{python_json, text};
use serde_json::{Map, Value};

use super::Columns;
use super::jsonl::{self, Keys};
use super::left_out::{Kind, LeftOut};
use super::rows::{Place, Rows};

/// Suffixes of images, in lower case: those under which Pillow and browsers save the formats that
/// can be decoded, and AVIF, which is not decoded but whose images get a status.
pub(super) const SUFFIXES: [&str; 17] = [
    "jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif",
    "tiff", "avif",
];

/// Suffixes of images of other formats, in lower case. Such files are reported, not read.
const OTHER_SUFFIXES: [&str; 35] = [
    "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpc", "jpf", "jpx", "j2c", "ico", "cur", "svg", "svgz", "psd", "xcf",
    "dds", "tga", "pcx", "ppm", "pgm", "pbm", "pnm", "exr", "hdr", "raw", "dng", "cr2", "cr3", "nef", "arw", "orf",
    "rw2", "eps", "icns",
];

/// Suffixes of files with a caption; the first one that exists is used.
pub(super) const TEXT_SUFFIXES: [&str; 2] = ["txt", "caption"];

/// Suffix of files with the values of extra columns.
pub(super) const VALUES_SUFFIX: &str = "json";

/// The key or column of the caption if the recipe names none.
pub(super) const CAPTION_KEY: &str = "caption";

/// Another common name of a column of captions, as in the examples of Hugging Face.
pub(super) const TEXT_COLUMN: &str = "text";

/// Returns whether the suffix of a file name is that of an image, ignoring case.
pub(super) fn is_picture(name: &str) -> bool {
    has_suffix(name, &SUFFIXES)
}

/// Returns whether the suffix of a file name is that of an image format that is not decoded.
pub(super) fn is_other_picture(name: &str) -> bool {
    has_suffix(name, &OTHER_SUFFIXES)
}

/// Returns whether the suffix of a file name is that of a text or JSON file, which may belong to an
/// image.
pub(super) fn is_beside(name: &str) -> bool {
    has_suffix(name, &TEXT_SUFFIXES) || has_suffix(name, &[VALUES_SUFFIX])
}

pub(super) fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| suffixes.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

/// Returns the names, in lower case, of files with this suffix that belong to an image: `1.txt` and
/// `1.jpg.txt` belong to `1.jpg`.
pub(super) fn names_beside(picture: &str, suffix: &str) -> [String; 2] {
    let stem = picture.rsplit_once('.').map_or(picture, |(stem, _)| stem);
    [stem, picture].map(|base| format!("{base}.{suffix}").to_lowercase())
}

/// The contents of the files beside an image.
#[derive(Debug, Default, Clone)]
pub(super) struct Beside {
    /// The text, and the suffix of [`TEXT_SUFFIXES`] that it is from.
    text: Option<(String, &'static str)>,
    object: Option<Map<String, Value>>,
    /// The name of a JSON file that is not an object.
    not_object: Option<String>,
    /// The reason why the row cannot be read.
    problem: Option<String>,
}

impl Beside {
    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Adds the content of a text file. It is ignored if it is blank or if there is a text already.
    pub(super) fn add_text(&mut self, name: &str, suffix: &'static str, bytes: &[u8]) {
        match text_of(bytes) {
            Some(text) if self.text.is_none() && !text.trim().is_empty() => {
                self.text = Some((text.trim().to_owned(), suffix));
            }
            Some(_) => {}
            None => self.fail(format!("{name:?} is not UTF-8")),
        }
    }

    /// Adds the content of a JSON file. It is left out if it is not an object, and ignored if there
    /// is one already.
    pub(super) fn add_values(&mut self, name: &str, bytes: &[u8]) {
        if self.object.is_some() {
            return;
        }
        match values_of(bytes) {
            Ok(Value::Object(object)) => self.object = Some(object),
            Ok(_) => drop(self.not_object.get_or_insert(name.to_owned())),
            Err(error) => self.fail(format!("{name:?} is not JSON: {error}")),
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        self.object.as_ref()?.get(key).and_then(jsonl::as_text)
    }

    /// Returns the caption: that of the key that the recipe names, otherwise the text file. If the
    /// recipe names no key: the text file, otherwise the key `caption`.
    fn caption(&self, columns: &Columns) -> Option<String> {
        // Of several captions of one image, the first that is one.
        let first = |key: &str| match self.object.as_ref()?.get(key)? {
            Value::Array(values) => values.iter().filter_map(Value::as_str).find(|text| !text.trim().is_empty()),
            _ => None,
        };
        let value = |key: &str| {
            let text = first(key).map(str::to_owned).or_else(|| self.value(key));
            text.filter(|text| !text.trim().is_empty())
        };
        let text = || self.text.as_ref().map(|(text, _)| text.clone());
        match &columns.caption {
            Some(column) => value(&column.name).or_else(text),
            None => text().or_else(|| value(CAPTION_KEY)),
        }
    }
}

/// Decodes the text of a small file, UTF-8 or UTF-16 (Notepad writes both).
fn text_of(mut bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    text::utf8(&mut bytes).and_then(|mut input| input.read_to_string(&mut text)).ok()?;
    Some(text)
}

/// Parses a small JSON file, also with the deviations that Python writes.
pub(super) fn values_of(bytes: &[u8]) -> serde_json::Result<Value> {
    let text = text_of(bytes);
    let bytes = text.as_ref().map_or(bytes, |text| text.as_bytes());
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_slice(&python_json::normalise(bytes)))
}

/// The result of the first pass over a folder or an archive.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The keys of its JSON files, in order of first appearance.
    pub(super) names: Map<String, Value>,
    /// Suffixes of its text files.
    pub(super) texts: BTreeSet<&'static str>,
    /// Whether some key `caption` differs from the text file, which takes precedence.
    pub(super) has_second_caption: bool,
    /// Whether some sample has several images.
    pub(super) has_several: bool,
    /// Number of images, without those that cannot be read.
    pub(super) pictures: usize,
    /// Number of rows that only report a problem.
    pub(super) problems: usize,
    /// Files that are not read.
    pub(super) left_out: LeftOut,
}

impl Scanned {
    /// Returns its columns.
    pub(super) fn fields(&self, field: impl Fn(String) -> Field) -> Vec<Field> {
        self.names.keys().cloned().map(field).collect()
    }

    /// Adds an image to the counts and its values to `keys`.
    pub(super) fn add(&mut self, beside: &Beside, keys: &mut Keys) {
        self.pictures += 1;
        if let Some(name) = &beside.not_object {
            self.left_out.add(Kind::ValuesNotObject, name);
        }
        if let Some((text, suffix)) = &beside.text {
            self.texts.insert(suffix);
            let second = beside.value(CAPTION_KEY);
            self.has_second_caption |= second.is_some_and(|second| second.trim() != text);
        }
        if let Some(object) = beside.object.as_ref().filter(|_| beside.problem.is_none()) {
            keys.add(object, &mut self.names);
        }
    }
}

/// Appends the row of an image. If a value does not have the type that the first pass found,
/// returns its key as the error.
pub(super) fn push_picture(
    rows: &mut Rows,
    columns: &Columns,
    beside: &Beside,
    place: &Place,
    image_index: usize,
) -> Result<(), String> {
    if let Some(problem) = &beside.problem {
        rows.push_picture_problem(problem, image_index);
        return Ok(());
    }
    let url = beside.value(&columns.url.name).filter(|url| !url.trim().is_empty());
    rows.begin_picture(url.as_deref(), beside.caption(columns).as_deref(), image_index, Some(place));
    match &beside.object {
        Some(object) => jsonl::push_extras(rows, columns, object),
        None => jsonl::push_extras(rows, columns, &Map::new()),
    }
}

/// Reads an image from its place in a local file.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it has more than `max_bytes`,
/// [`io::ErrorKind::UnexpectedEof`] if the file is too short, [`io::ErrorKind::InvalidInput`] if
/// the path is not a regular file, and other errors of opening and reading.
pub(crate) fn read_picture(file: &Path, offset: u64, length: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_length(length, max_bytes)?;
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")); // opening a pipe would block
    }
    if offset.checked_add(length).is_none_or(|end| end > metadata.len()) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter since it was listed"));
    }
    let mut opened = File::open(file)?;
    opened.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; length as usize];
    opened.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Fails with [`io::ErrorKind::FileTooLarge`] if an image has more than `max_bytes`.
pub(crate) fn check_length(length: u64, max_bytes: u64) -> io::Result<()> {
    if length <= max_bytes {
        return Ok(());
    }
    let reason = format!("the image has {length} bytes, more than the {max_bytes} that are accepted");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, reason))
}
