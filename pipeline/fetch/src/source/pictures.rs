//! Pictures that are already there, with the texts beside them: what folders and archives have in
//! common.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::datatypes::Field;
use lynxdata_records::{python_json, text};
use serde_json::{Map, Value};

use super::Columns;
use super::jsonl::{self, Keys};
use super::left_out::LeftOut;
use super::rows::{Place, Rows};

/// Suffixes of pictures, in lower case: those under which Pillow and browsers save the formats that
/// are decoded, and AVIF, of which every picture gets its status.
pub(super) const SUFFIXES: [&str; 17] = [
    "jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "pjpeg", "pjp", "png", "apng", "webp", "gif", "bmp", "dib", "tif",
    "tiff", "avif",
];

/// Suffixes of pictures of other formats, in lower case; they are told, not read.
const OTHER_SUFFIXES: [&str; 35] = [
    "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpc", "jpf", "jpx", "j2c", "ico", "cur", "svg", "svgz", "psd", "xcf",
    "dds", "tga", "pcx", "ppm", "pgm", "pbm", "pnm", "exr", "hdr", "raw", "dng", "cr2", "cr3", "nef", "arw", "orf",
    "rw2", "eps", "icns",
];

/// Suffixes of files with a caption; the first that is there counts.
pub(super) const TEXT_SUFFIXES: [&str; 2] = ["txt", "caption"];

/// Suffix of files with the values of extra columns.
pub(super) const VALUES_SUFFIX: &str = "json";

/// The key or column of the caption where the recipe names none.
pub(super) const CAPTION_KEY: &str = "caption";

/// The other usual name of a column of captions, as in the examples of Hugging Face.
pub(super) const TEXT_COLUMN: &str = "text";

/// Returns whether the suffix of a file name, in any case, is that of a picture.
pub(super) fn is_picture(name: &str) -> bool {
    has_suffix(name, &SUFFIXES)
}

/// Returns whether the suffix of a file name is that of a picture which is not decoded.
pub(super) fn is_other_picture(name: &str) -> bool {
    has_suffix(name, &OTHER_SUFFIXES)
}

/// Returns whether the suffix of a file name is that of what may stand beside a picture.
pub(super) fn is_beside(name: &str) -> bool {
    has_suffix(name, &TEXT_SUFFIXES) || has_suffix(name, &[VALUES_SUFFIX])
}

pub(super) fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| suffixes.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

/// Returns the names, in lower case, under which a file of this suffix belongs to a picture:
/// `1.txt` or `1.jpg.txt` to `1.jpg`.
pub(super) fn names_beside(picture: &str, suffix: &str) -> [String; 2] {
    let stem = picture.rsplit_once('.').map_or(picture, |(stem, _)| stem);
    [stem, picture].map(|base| format!("{base}.{suffix}").to_lowercase())
}

/// The files beside a picture.
#[derive(Debug, Default, Clone)]
pub(super) struct Beside {
    /// The text and which of [`TEXT_SUFFIXES`] it is from.
    text: Option<(String, &'static str)>,
    object: Option<Map<String, Value>>,
    /// Its fault.
    problem: Option<String>,
}

impl Beside {
    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Takes the content of a text file, unless there was one before that is not blank.
    pub(super) fn add_text(&mut self, name: &str, suffix: &'static str, bytes: &[u8]) {
        match text_of(bytes) {
            Some(text) if self.text.is_none() && !text.trim().is_empty() => {
                self.text = Some((text.trim().to_owned(), suffix));
            }
            Some(_) => {}
            None => self.fail(format!("{name:?} is not UTF-8")),
        }
    }

    /// Takes the content of a JSON file, unless there was one before; what is no object has no
    /// columns.
    pub(super) fn add_values(&mut self, name: &str, bytes: &[u8]) {
        if self.object.is_some() {
            return;
        }
        match values_of(bytes) {
            Ok(Value::Object(object)) => self.object = Some(object),
            Ok(_) => {}
            Err(error) => self.fail(format!("{name:?} is not JSON: {error}")),
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        self.object.as_ref()?.get(key).and_then(jsonl::as_text)
    }

    /// Returns the caption: of the key that the recipe names, else of the text file, else of the
    /// key `caption`.
    fn caption(&self, columns: &Columns) -> Option<String> {
        // Of several captions of one picture, the first that is one.
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

/// Returns the text of a small file: UTF-8, or UTF-16, as Notepad saves both.
fn text_of(mut bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    text::utf8(&mut bytes).and_then(|mut input| input.read_to_string(&mut text)).ok()?;
    Some(text)
}

/// Returns the value of a small JSON file, also as Python writes it.
pub(super) fn values_of(bytes: &[u8]) -> serde_json::Result<Value> {
    let text = text_of(bytes);
    let bytes = text.as_ref().map_or(bytes, |text| text.as_bytes());
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_slice(&python_json::normalise(bytes)))
}

/// The findings of the first pass over a folder or an archive.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The keys of its JSON files, in order of first appearance.
    pub(super) names: Map<String, Value>,
    /// Suffixes of its text files.
    pub(super) texts: BTreeSet<&'static str>,
    /// Whether the key `caption` somewhere says something else than the text file, which goes
    /// first.
    pub(super) has_second_caption: bool,
    /// Whether some sample has several pictures.
    pub(super) has_several: bool,
    /// Pictures, without those that cannot be read.
    pub(super) pictures: usize,
    /// Number of rows that are there only because they cannot be read.
    pub(super) problems: usize,
    /// The files that are no rows.
    pub(super) left_out: LeftOut,
}

impl Scanned {
    /// Returns its columns.
    pub(super) fn fields(&self, field: impl Fn(String) -> Field) -> Vec<Field> {
        self.names.keys().cloned().map(field).collect()
    }

    /// Takes a picture into account.
    pub(super) fn add(&mut self, beside: &Beside, keys: &mut Keys) {
        self.pictures += 1;
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

/// Adds the row of a picture, or names the key whose value does not have the type that the first
/// pass found.
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

/// Reads a picture from its place in a local file.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it has more than `max_bytes`,
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before it does,
/// [`io::ErrorKind::InvalidInput`] if there is something else than a regular file, and what opening
/// and reading give.
pub(crate) fn read_picture(file: &Path, offset: u64, length: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_length(length, max_bytes)?;
    let metadata = std::fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")); // opening a pipe would block
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

/// Says that a picture has more bytes than are accepted.
pub(crate) fn check_length(length: u64, max_bytes: u64) -> io::Result<()> {
    if length <= max_bytes {
        return Ok(());
    }
    let reason = format!("the picture has {length} bytes, more than the {max_bytes} that are accepted");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, reason))
}
