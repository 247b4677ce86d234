//! JSON lines: one object a line. A first pass finds the type that holds every value of a key; the second converts.

use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use serde_json::{Map, Value};

use super::lines::{Line, Lines};
use super::rows::{Batch, ExtraBuilder, Rows};
use super::{Columns, ReadRows};
use crate::{Error, Result};

/// The keys of all objects seen, in order of first appearance, with what their values were.
#[derive(Debug, Default)]
pub(super) struct Keys {
    keys: Map<String, Value>, // an ordered set; the values are indices into `seen`
    seen: Vec<Seen>,
}

/// What the first pass finds in one file.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Its keys, in order of first appearance.
    pub(super) names: Vec<String>,
    /// Whether the URL of some row is a list.
    pub(super) has_lists: bool,
}

/// The kinds of values of one key.
#[derive(Debug, Default, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "a set of kinds")]
struct Seen {
    boolean: bool,
    integer: bool,
    /// An integer that a 64-bit float cannot hold exactly.
    wide_integer: bool,
    float: bool,
    /// A text, a list, an object, or an integer beyond 64 bits with sign.
    text: bool,
}

/// The largest magnitude below which every integer is a 64-bit float: 2 to the 53rd.
const EXACT_IN_FLOAT: u64 = 1 << 53;

impl Seen {
    fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.boolean = true,
            Value::Number(number) => match number.as_i64() {
                Some(integer) => {
                    self.integer = true;
                    self.wide_integer |= integer.unsigned_abs() > EXACT_IN_FLOAT;
                }
                None if number.is_u64() => self.text = true,
                None => self.float = true,
            },
            Value::String(_) | Value::Array(_) | Value::Object(_) => self.text = true,
        }
    }

    /// The narrowest type that loses no value; text if there is none.
    fn data_type(self) -> DataType {
        let number = self.integer || self.float;
        if self.text || (self.boolean && number) || (self.float && self.wide_integer) {
            DataType::Utf8
        } else if self.float {
            DataType::Float64
        } else if self.integer {
            DataType::Int64
        } else if self.boolean {
            DataType::Boolean
        } else {
            DataType::Utf8
        }
    }
}

impl Keys {
    /// Reads a file to its end; `url` is the key of the URL.
    ///
    /// Integers beyond 64 bits are read as floats, as most JSON readers do.
    pub(super) fn scan(&mut self, path: &Path, url: &str) -> Result<Scanned> {
        let mut lines = Lines::open(path).map_err(|source| Error::read(path, source))?;
        let mut own = Map::new();
        let mut has_lists = false;
        while let Some(line) = lines.next().map_err(|source| Error::read(path, source))? {
            // What cannot be parsed becomes a malformed row in the second pass.
            let Ok(object) = parse(&line) else { continue };
            has_lists |= object.get(url).is_some_and(Value::is_array);
            self.add(&object, &mut own);
        }
        Ok(Scanned { names: own.into_iter().map(|(key, _)| key).collect(), has_lists })
    }

    /// Takes the values of one object into account; `own` gets its keys.
    pub(super) fn add(&mut self, object: &Map<String, Value>, own: &mut Map<String, Value>) {
        for (key, value) in object {
            let next = self.seen.len();
            let index = if let Some(index) = self.keys.get(key).and_then(Value::as_u64) {
                index as usize
            } else {
                self.keys.insert(key.clone(), next.into());
                self.seen.push(Seen::default());
                next
            };
            self.seen[index].add(value);
            if !own.contains_key(key) {
                own.insert(key.clone(), Value::Null);
            }
        }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        self.keys.keys().zip(&self.seen).map(|(key, seen)| Field::new(key, seen.data_type(), true)).collect()
    }
}

pub(super) struct JsonlRows {
    path: PathBuf,
    lines: Lines,
    columns: Columns,
    rows: Rows,
    /// The line at hand, if it has pictures that are not among the rows yet.
    pending: Option<Pending>,
}

struct Pending {
    line: u64,
    object: Map<String, Value>,
    next_picture: usize,
}

impl JsonlRows {
    pub(super) fn open(path: &Path, columns: Columns) -> Result<JsonlRows> {
        let lines = Lines::open(path).map_err(|source| Error::read(path, source))?;
        let rows = Rows::new(&columns.extra_fields());
        Ok(JsonlRows { path: path.to_owned(), lines, columns, rows, pending: None })
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
            let Some(line) = self.lines.next().map_err(|source| Error::read(&self.path, source))? else { break };
            match parse(&line) {
                Ok(object) => self.pending = Some(Pending { line: line.number, object, next_picture: 0 }),
                Err(problem) => self.rows.push_problem(&problem),
            }
        }
        Ok(self.rows.take())
    }
}

/// Adds the row of one picture of a line, and returns how many the line has; or names the key whose value does not have the type that the first pass found.
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
        rows.begin_picture(text(url).as_deref(), text(caption).as_deref(), picture, None);
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

/// The elements of a list; a value that is none counts as a list of one, and null as an empty one.
fn elements(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(values)) => values,
        Some(value) => std::slice::from_ref(value),
    }
}

/// Appends one value to every extra column, or names the key whose value does not have the type that the first pass found.
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

/// Texts as they are, anything else as JSON.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The error of a file whose second pass does not find what the first one did.
pub(super) fn changed(path: &Path, format: &'static str, place: &str, key: &str) -> Error {
    let reason = format!(
        "the value of {key:?} in {place} has another type than a moment ago; the file was changed while it was read"
    );
    Error::Format { path: path.to_owned(), format, reason }
}

fn parse(line: &Line<'_>) -> std::result::Result<Map<String, Value>, String> {
    let text = line.text.clone()?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("line {} is JSON but not an object", line.number)),
        Err(error) => {
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or(&message);
            Err(format!("line {}, column {}: {reason}", line.number, error.column()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_narrowest_type_without_loss_is_chosen() {
        for (values, expected) in [
            (json!([null]), DataType::Utf8),
            (json!([true, null]), DataType::Boolean),
            (json!([1, -2]), DataType::Int64),
            (json!([1, 2.5]), DataType::Float64),
            (json!([9_007_199_254_740_993_i64]), DataType::Int64),
            (json!([9_007_199_254_740_993_i64, 0.5]), DataType::Utf8),
            (json!([18_446_744_073_709_551_615_u64]), DataType::Utf8),
            (json!([true, 1]), DataType::Utf8),
            (json!([1, "one"]), DataType::Utf8),
            (json!([[1, 2]]), DataType::Utf8),
            (json!([{"a": 1}, null]), DataType::Utf8),
        ] {
            let mut seen = Seen::default();
            values.as_array().unwrap().iter().for_each(|value| seen.add(value));
            assert_eq!(seen.data_type(), expected, "{values}");
        }
    }
}
