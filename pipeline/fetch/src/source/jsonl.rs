//! JSON lines: one object per line, or one array of objects, or objects of several lines. The first
//! pass finds a type for each key that holds all its values, the second converts the rows.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use arrow::datatypes::Field;
use serde_json::{Map, Value};

use super::lines::{Lines, MAX_ROW_BYTES};
use super::rows::{Batch, ExtraBuilder, Rows};
use super::types::Seen;
use super::{Columns, ReadRows, SourceConfig, decoded, json};
use crate::{Error, Result};

/// The keys of all objects and the columns of all text files so far, in order of first appearance,
/// with the kinds of their values.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Map<String, Value>, // an ordered map from keys to indices into `seen`
    seen: Vec<Seen>,
}

/// The result of the first pass over one file.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Its keys, in order of first appearance.
    pub(super) names: Vec<String>,
    /// Whether the URL of some row is a list.
    pub(super) has_lists: bool,
    /// Whether the caption of some row is a list.
    pub(super) has_caption_lists: bool,
}

impl Keys {
    /// Reads a whole file and adds its keys.
    pub(super) fn scan(&mut self, path: &Path, config: &SourceConfig) -> Result<Scanned> {
        let mut objects = Objects::open(path).map_err(|source| Error::read(path, source))?;
        let mut own = Map::new();
        let (mut has_lists, mut has_caption_lists) = (false, false);
        while let Some((_, object)) = objects.next().map_err(|source| Error::read(path, source))? {
            // Lines that cannot be parsed become malformed rows in the second pass.
            let Ok(object) = object else { continue };
            let is_list = |key: &String| object.get(key).is_some_and(Value::is_array);
            has_lists |= is_list(&config.url);
            has_caption_lists |= config.caption.as_ref().is_some_and(is_list);
            self.add(&object, &mut own);
        }
        Ok(Scanned { names: own.into_iter().map(|(key, _)| key).collect(), has_lists, has_caption_lists })
    }

    /// Adds the keys and values of one object. Adds its keys to `own` too.
    pub(super) fn add(&mut self, object: &Map<String, Value>, own: &mut Map<String, Value>) {
        for (key, value) in object {
            self.seen(key).add(value);
            if !own.contains_key(key) {
                own.insert(key.clone(), Value::Null);
            }
        }
    }

    /// Returns the kinds of values of a key.
    pub(super) fn seen(&mut self, key: &str) -> &mut Seen {
        let next = self.seen.len();
        let index = if let Some(index) = self.keys.get(key).and_then(Value::as_u64) {
            index as usize
        } else {
            self.keys.insert(key.to_owned(), next.into());
            self.seen.push(Seen::default());
            next
        };
        &mut self.seen[index]
    }

    /// Returns the keys with their types; the type is `Null` if there was no value.
    pub(super) fn fields(&self) -> Vec<Field> {
        self.keys.keys().zip(&self.seen).map(|(key, seen)| Field::new(key, seen.data_type(), true)).collect()
    }
}

/// The objects of a file.
enum Objects {
    Lines(Lines),
    Array(Array),
}

/// An object or its problem.
type Object = std::result::Result<Map<String, Value>, String>;

impl Objects {
    /// Opens a file. If it begins with a bracket, it is one array. If its first line is a single
    /// brace, its objects have several lines. Otherwise each line is an object.
    fn open(path: &Path) -> io::Result<Objects> {
        let mut reader = decoded::open(path)?;
        let start = reader.fill_buf()?.trim_ascii_start();
        let is_array = start.starts_with(b"[");
        let has_long_objects = start
            .strip_prefix(b"{")
            .is_some_and(|rest| matches!(rest.iter().find(|byte| !b" \t".contains(byte)), Some(b'\n' | b'\r')));
        Ok(if is_array || has_long_objects {
            Objects::Array(Array {
                reader,
                line: 1,
                is_open: has_long_objects,
                has_brackets: is_array,
                bytes: Vec::new(),
            })
        } else {
            Objects::Lines(Lines::new(reader))
        })
    }

    /// Returns the next object with the number of the line in which it begins.
    fn next(&mut self) -> io::Result<Option<(u64, Object)>> {
        match self {
            Objects::Lines(lines) => {
                let Some(line) = lines.next()? else { return Ok(None) };
                let number = line.number;
                let object = line.text.and_then(|text| match json::parse(text) {
                    Ok(value) => object(value).ok_or_else(|| format!("line {number} is JSON but not an object")),
                    Err(json::Problem { column: Some(column), reason }) => {
                        Err(format!("line {number}, column {column}: {reason}"))
                    }
                    Err(json::Problem { column: None, reason }) => Err(format!("line {number}: {reason}")),
                });
                Ok(Some((number, object)))
            }
            Objects::Array(array) => array.next(),
        }
    }
}

/// An array of objects, or a sequence of objects of several lines. Only one object is in memory at
/// a time.
struct Array {
    reader: decoded::Reader,
    /// From 1.
    line: u64,
    /// Whether an element may follow.
    is_open: bool,
    /// Whether the elements are enclosed in brackets.
    has_brackets: bool,
    /// The text of the current element.
    bytes: Vec<u8>,
}

impl Array {
    fn next(&mut self) -> io::Result<Option<(u64, Object)>> {
        let Some(_) = self.next_byte()? else {
            // A cut-off array is a problem of its last row and not an error, because many good rows
            // may precede it.
            let cut_off = std::mem::take(&mut self.is_open) && self.has_brackets;
            let problem =
                || Err(format!("the array ends in line {} without a closing bracket; it may be cut off", self.line));
            return Ok(cut_off.then(|| (self.line, problem())));
        };
        let line = self.line;
        if !self.is_open {
            // Objects after an array: the array was a malformed row, or two files were
            // concatenated.
            (self.is_open, self.has_brackets) = (true, false);
        }
        let is_whole = self.read_element()?;
        if !is_whole {
            return Ok(Some((line, Err(format!("the element in line {line} is longer than {MAX_ROW_BYTES} bytes")))));
        }
        let object = match std::str::from_utf8(&self.bytes) {
            Ok(text) => match json::parse(text) {
                Ok(value) => object(value).ok_or_else(|| format!("the element in line {line} is not an object")),
                Err(problem) => Err(format!("the element in line {line} is not JSON: {}", problem.reason)),
            },
            Err(_) => Err(format!("the element in line {line} is not UTF-8")),
        };
        Ok(Some((line, object)))
    }

    /// Skips white space, commas and the brackets of the array. Returns the first byte of the next
    /// element without consuming it.
    fn next_byte(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Some(byte) = self.reader.fill_buf()?.first().copied() else { return Ok(None) };
            match byte {
                b'[' if !self.is_open => self.is_open = true,
                b']' if self.is_open && self.has_brackets => self.is_open = false,
                b',' if self.is_open => {}
                b'\n' => self.line += 1,
                byte if byte.is_ascii_whitespace() => {}
                byte => return Ok(Some(byte)),
            }
            self.reader.consume(1);
        }
    }

    /// Reads an element to its closing brace, or up to the comma or bracket after it. Returns
    /// whether all of it is in memory. JSON strings contain no line ends. So if a line end in a
    /// string is followed by a brace, a closing bracket or a comma, a quote was not closed. The
    /// element then ends there, so that the following ones are not affected.
    fn read_element(&mut self) -> io::Result<bool> {
        self.bytes.clear();
        let (mut depth, mut in_string, mut is_escaped, mut is_whole) = (0_usize, false, false, true);
        let mut begins_line = false; // within a string
        let mut is_first = true;
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(is_whole);
            }
            let mut length = 0;
            let mut is_done = false;
            for &byte in buffer {
                if begins_line && !byte.is_ascii_whitespace() {
                    if matches!(byte, b'{' | b'}' | b']' | b',') {
                        is_done = true;
                        break;
                    }
                    begins_line = false;
                }
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if in_string => is_escaped = true,
                    b'"' => in_string = !in_string,
                    b'\n' => begins_line = in_string,
                    b'{' | b'[' if !in_string => depth += 1,
                    b']' | b',' if !in_string && depth == 0 && !is_first => {
                        is_done = true;
                        break;
                    }
                    b'}' | b']' if !in_string => {
                        depth = depth.saturating_sub(1);
                        is_done = depth == 0;
                    }
                    _ => {}
                }
                self.line += u64::from(byte == b'\n');
                length += 1;
                is_first = false;
                if is_done {
                    break;
                }
            }
            is_whole &= self.bytes.len() + length <= MAX_ROW_BYTES;
            if is_whole {
                self.bytes.extend_from_slice(&buffer[..length]);
            }
            self.reader.consume(length);
            if is_done {
                return Ok(is_whole);
            }
        }
    }
}

pub(super) struct JsonlRows {
    path: PathBuf,
    objects: Objects,
    columns: Columns,
    rows: Rows,
    /// The current line, if some of its images are not in `rows` yet.
    pending: Option<Pending>,
}

struct Pending {
    line: u64,
    object: Map<String, Value>,
    next_picture: usize,
}

impl JsonlRows {
    pub(super) fn open(path: &Path, columns: Columns) -> Result<JsonlRows> {
        let objects = Objects::open(path).map_err(|source| Error::read(path, source))?;
        let rows = Rows::new(&columns.extra_fields());
        Ok(JsonlRows { path: path.to_owned(), objects, columns, rows, pending: None })
    }
}

impl ReadRows for JsonlRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            if let Some(mut pending) = self.pending.take() {
                let picture = pending.next_picture;
                let pictures = push_picture(&mut self.rows, &self.columns, &pending, picture)
                    .map_err(|key| changed(&self.path, "jsonl", &format!("line {}", pending.line), &key))?;
                pending.next_picture += 1;
                self.pending = Some(pending).filter(|pending| pending.next_picture < pictures);
                continue;
            }
            let Some((line, object)) = self.objects.next().map_err(|source| Error::read(&self.path, source))? else {
                break;
            };
            match object {
                Ok(object) => self.pending = Some(Pending { line, object, next_picture: 0 }),
                Err(problem) => self.rows.push_problem(&problem),
            }
        }
        Ok(self.rows.take())
    }
}

/// Appends the row of one image of a line. Returns the number of images of the line. If a value
/// does not have the type that the first pass found, returns its key as the error.
fn push_picture(
    rows: &mut Rows,
    columns: &Columns,
    line: &Pending,
    picture: usize,
) -> std::result::Result<usize, String> {
    let url = line.object.get(&columns.url.name);
    let caption = columns.caption.as_ref().and_then(|column| line.object.get(&column.name));
    let text = |value: Option<&Value>| value.and_then(as_text).filter(|text| !text.trim().is_empty());
    if !columns.has_lists {
        // Of several captions of one image, the first that is not blank.
        let caption = match caption {
            Some(Value::Array(captions)) => captions.iter().find_map(|caption| text(Some(caption))),
            caption => text(caption),
        };
        rows.begin_picture(text(url).as_deref(), caption.as_deref(), picture, None);
        push_extras(rows, columns, &line.object)?;
        return Ok(1);
    }
    let urls = elements(url);
    let pictures = urls.len().max(1);
    let caption = match caption {
        Some(Value::Array(captions)) if captions.len() != urls.len() => {
            let problem = format!("line {} has {} captions for {} URLs", line.line, captions.len(), urls.len());
            rows.push_picture_problem(&problem, picture);
            return Ok(pictures);
        }
        Some(Value::Array(captions)) => captions.get(picture),
        caption => caption,
    };
    rows.begin_picture(text(urls.get(picture)).as_deref(), text(caption).as_deref(), picture, None);
    push_extras(rows, columns, &line.object)?;
    Ok(pictures)
}

/// Returns the elements of a list. Any other value counts as a list of one element, and null as an
/// empty list.
fn elements(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
    }
}

/// Appends one value to every extra column. If a value does not have the type that the first pass
/// found, returns its key as the error.
pub(super) fn push_extras(
    rows: &mut Rows,
    columns: &Columns,
    object: &Map<String, Value>,
) -> std::result::Result<(), String> {
    for (builder, extra) in rows.extras.iter_mut().zip(&columns.extras) {
        let name = &extra.column.name;
        let value = object.get(name).unwrap_or(&Value::Null);
        match (builder, value) {
            (builder, Value::Null) => builder.append_null(),
            (ExtraBuilder::Boolean(builder), Value::Bool(value)) => builder.append_value(*value),
            (ExtraBuilder::Integer(builder), Value::Number(number)) => {
                builder.append_value(number.as_i64().ok_or_else(|| name.clone())?);
            }
            (ExtraBuilder::Float(builder), Value::Number(number)) => {
                builder.append_value(number.as_f64().ok_or_else(|| name.clone())?);
            }
            (ExtraBuilder::Text(builder), value) => builder.append_option(as_text(value)),
            _ => return Err(name.clone()),
        }
    }
    Ok(())
}

/// Returns a text unchanged, `None` for null, and any other value as JSON.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Returns the error for a file that has changed between the two passes.
pub(super) fn changed(path: &Path, format: &'static str, place: &str, key: &str) -> Error {
    let reason = format!(
        "the value of {key:?} in {place} has another type than a moment ago; the file was changed while it was read"
    );
    Error::Format { path: path.to_owned(), format, reason }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
