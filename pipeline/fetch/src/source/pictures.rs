//! Pictures that are already there, with the texts beside them: what folders and archives have in common.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::datatypes::Field;
use serde_json::{Map, Value};

use super::Columns;
use super::jsonl::{self, Keys};
use super::rows::{Place, Rows};

/// Suffixes of pictures, in lower case.
pub(super) const SUFFIXES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"];

/// Suffixes of files with a caption; the first that is there counts.
pub(super) const TEXT_SUFFIXES: [&str; 2] = ["txt", "caption"];

/// Suffix of files with the values of extra columns.
pub(super) const VALUES_SUFFIX: &str = "json";

/// The key of the caption in JSON where the recipe names none.
pub(super) const CAPTION_KEY: &str = "caption";

/// Whether the suffix of a file name, in any case, is that of a picture.
pub(super) fn is_picture(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

/// What stands beside a picture.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The text and which of [`TEXT_SUFFIXES`] it is from.
    text: Option<(String, &'static str)>,
    object: Map<String, Value>,
    /// What is wrong with it.
    problem: Option<String>,
}

impl Beside {
    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// Takes the content of a text file, unless one of a suffix that comes first was there already.
    pub(super) fn add_text(&mut self, name: &str, suffix: &'static str, bytes: Vec<u8>) {
        match String::from_utf8(bytes) {
            Ok(_) if self.text.as_ref().is_some_and(|(_, known)| *known == TEXT_SUFFIXES[0]) => {}
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => self.text = Some((text.trim().to_owned(), suffix)),
            Err(_) => self.fail(format!("{name:?} is not UTF-8")),
        }
    }

    /// Takes the content of a JSON file; what is no object has no columns.
    pub(super) fn add_values(&mut self, name: &str, bytes: &[u8]) {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => self.object = object,
            Ok(_) => {}
            Err(error) => self.fail(format!("{name:?} is not JSON: {error}")),
        }
    }

    /// The caption: of the key that the recipe names, else of the text file, else of the key `caption`.
    fn caption(&self, columns: &Columns) -> Option<String> {
        let value = |key: &str| self.object.get(key).and_then(jsonl::as_text).filter(|text| !text.trim().is_empty());
        let text = || self.text.as_ref().map(|(text, _)| text.clone());
        match &columns.caption {
            Some(column) => value(&column.name).or_else(text),
            None => text().or_else(|| value(CAPTION_KEY)),
        }
    }
}

/// What the first pass finds out about a folder or an archive.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The keys of its JSON files, in order of first appearance.
    pub(super) names: Map<String, Value>,
    /// Suffixes of its text files.
    pub(super) texts: BTreeSet<&'static str>,
    /// Whether the key `caption` somewhere says something else than the text file, which goes first.
    pub(super) has_second_caption: bool,
    /// Whether some sample has several pictures.
    pub(super) has_several: bool,
    /// Pictures, without those that cannot be read.
    pub(super) pictures: usize,
    /// What is a row only because it cannot be read.
    pub(super) problems: usize,
}

impl Scanned {
    /// Its columns.
    pub(super) fn fields(&self, field: impl Fn(String) -> Field) -> Vec<Field> {
        self.names.keys().cloned().map(field).collect()
    }

    pub(super) fn add(&mut self, beside: &Beside, pictures: usize, keys: &mut Keys) {
        self.pictures += pictures;
        self.has_several |= pictures > 1;
        if let Some((text, suffix)) = &beside.text {
            self.texts.insert(suffix);
            let second = beside.object.get(CAPTION_KEY).and_then(jsonl::as_text);
            self.has_second_caption |= second.is_some_and(|second| second.trim() != text);
        }
        if beside.problem.is_none() {
            keys.add(&beside.object, &mut self.names);
        }
    }
}

/// Adds the row of a picture, or names the key whose value does not have the type that the first pass found.
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
    let url = beside.object.get(&columns.url.name).and_then(jsonl::as_text).filter(|url| !url.trim().is_empty());
    rows.begin_picture(url.as_deref(), beside.caption(columns).as_deref(), image_index, Some(place));
    jsonl::push_extras(rows, columns, &beside.object)
}

/// Reads a picture from its place in a local file.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] if it has more than `max_bytes`, [`io::ErrorKind::UnexpectedEof`] if the file ends before it does,
/// [`io::ErrorKind::InvalidInput`] if there is something else than a regular file, and what opening and reading give.
pub(crate) fn read_picture(file: &Path, offset: u64, length: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    if length > max_bytes {
        let reason = format!("the picture has {length} bytes, more than the {max_bytes} that are accepted");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
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
