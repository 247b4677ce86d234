//! Files of JSON as rows with fields.

use std::collections::BTreeSet;
use std::fmt::Formatter;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::Source;
use crate::error::{Error, Result};
use crate::place::{Place, Position};

/// Maximum number of characters of a value in a message.
const SHOWN: usize = 60;

/// Names of the field of the id of a question, in this order.
pub(super) const ID: &[&str] = &["question_id", "questionId", "id", "index", "doc_id", "image_id"];

/// The name of the id of an image. All other names of [`ID`] are ids of questions.
const IMAGE_ID: &str = "image_id";

/// The field with the ids of the references, by which rows of other files are joined with them.
///
/// Rows may have several ids: pycocotools adds a running `id` to results that have an `image_id`,
/// and results of VQA have a `question_id` and an `image_id`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Key {
    /// Its name in the last reference.
    name: Option<&'static str>,
    /// Whether it has another name in other references.
    is_mixed: bool,
    /// Whether some references have an `image_id` beside their id.
    has_other_image_id: bool,
}

impl Key {
    /// Adds a reference, whose id has one of these names.
    pub(super) fn add(&mut self, row: &Row, names: &[&'static str]) {
        let Some((name, _)) = row.first(names) else { return };
        self.is_mixed |= self.name.is_some_and(|other| other != name);
        self.name = Some(name);
        self.has_other_image_id |= name != IMAGE_ID && row.fields.contains_key(IMAGE_ID);
    }

    /// Returns the names that the id may have in the rows of another file: only that of the
    /// references if any row has it, so that no row is joined by another of its ids.
    ///
    /// # Errors
    /// If a row has only the id of an image, but the references are questions about images. Equal
    /// numbers would join it with any question.
    pub(super) fn names(self, rows: &[Row]) -> Result<&'static [&'static str]> {
        let name = self.name.filter(|_| !self.is_mixed);
        if let Some(place) = ID.iter().position(|id| Some(*id) == name)
            && column(rows, &ID[place..=place]).is_some()
        {
            return Ok(&ID[place..=place]);
        }
        let of_image = rows.iter().find(|row| row.first(ID).is_some_and(|(name, _)| name == IMAGE_ID));
        match of_image.filter(|_| self.has_other_image_id) {
            Some(row) => Err(Error::OtherKey { place: row.place.clone(), key: name.unwrap_or("id") }),
            None => Ok(ID),
        }
    }
}

/// Returns the first of these names that any row has, whether its value is null or not.
pub(super) fn column(rows: &[Row], names: &'static [&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| rows.iter().any(|row| row.fields.contains_key(*name)))
}

/// A JSON object of a file.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    pub(super) fields: Map<String, Value>,
}

/// The content of a file.
pub(super) enum Document {
    /// Objects, one per line or in a list.
    Rows(Vec<Row>),
    /// One object with several keys: an official format.
    Object(Map<String, Value>),
}

/// Reads JSON or JSON Lines.
pub(super) fn read(source: Source, rows: &'static str) -> Result<Document> {
    let file: Arc<str> = source.name.into();
    let text = source.text.trim_start_matches('\u{feff}');
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(entries)) => {
            let at = |index| Place { file: Arc::clone(&file), position: Position::Entry(index + 1) };
            let entries = entries.into_iter().enumerate().map(|(index, entry)| row(at(index), entry));
            return Ok(Document::Rows(entries.collect::<Result<_>>()?));
        }
        Ok(Value::Object(fields)) if ID.iter().any(|name| fields.contains_key(*name)) => {
            let place = Place { file, position: Position::Line(1) };
            return Ok(Document::Rows(vec![Row { place, fields }]));
        }
        Ok(Value::Object(fields)) => {
            if let Some(id) = repeated_key(text) {
                let place = Place { file, position: Position::Key(id.clone()) };
                return Err(Error::DuplicateId { first: place.clone(), place, id });
            }
            return Ok(Document::Object(fields));
        }
        Ok(other) => {
            return Err(Error::NoRows { file: source.name.to_owned(), what: format!("is {}", shown(&other)), rows });
        }
        Err(_) => {}
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(index, line)| {
        let place = Place { file: Arc::clone(&file), position: Position::Line(index + 1) };
        match serde_json::from_str(line) {
            Ok(value) => row(place, value),
            Err(error) => Err(Error::NotJson { place, reason: error.to_string() }),
        }
    });
    Ok(Document::Rows(read.collect::<Result<_>>()?))
}

/// Returns the first key that occurs twice in a JSON object; a map would keep only the last value.
fn repeated_key(object: &str) -> Option<String> {
    #[derive(Default)]
    struct Keys(Option<String>);

    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Keys, D::Error> {
            deserializer.deserialize_map(Keys::default())
        }
    }

    impl<'de> Visitor<'de> for Keys {
        type Value = Keys;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Keys, A::Error> {
            let mut seen = BTreeSet::new();
            while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if self.0.is_none() && seen.contains(&key) {
                    self.0 = Some(key);
                } else {
                    seen.insert(key);
                }
            }
            Ok(self)
        }
    }

    serde_json::from_str::<Keys>(object).ok()?.0
}

/// Returns the objects of a list inside an official format.
pub(super) fn entries(source: Source, list: Value) -> Result<Vec<Row>> {
    let file: Arc<str> = source.name.into();
    let Value::Array(entries) = list else {
        let place = Place { file, position: Position::Entry(1) };
        return Err(bad(&place, "the list", &list, "a list of objects"));
    };
    let at = |index| Place { file: Arc::clone(&file), position: Position::Entry(index + 1) };
    entries.into_iter().enumerate().map(|(index, entry)| row(at(index), entry)).collect()
}

fn row(place: Place, value: Value) -> Result<Row> {
    match value {
        Value::Object(fields) => Ok(Row { place, fields }),
        other => Err(bad(&place, "the row", &other, "a JSON object, such as {\"id\": 1, \"answer\": \"two\"}")),
    }
}

pub(super) fn bad(place: &Place, field: &str, value: &Value, wanted: &'static str) -> Error {
    Error::BadField { place: place.clone(), field: field.to_owned(), value: shown(value), wanted }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain("…".chars()).collect() }
}

impl Row {
    /// Returns the first field of these names that exists and is not null.
    pub(super) fn first(&self, names: &[&'static str]) -> Option<(&'static str, &Value)> {
        names.iter().find_map(|name| Some((*name, self.fields.get(*name).filter(|value| !value.is_null())?)))
    }

    /// Returns the id of the question.
    pub(super) fn id(&self, names: &'static [&'static str]) -> Result<String> {
        let Some((name, value)) = self.first(names) else {
            let hint = "; rows are never joined by their order, so give every row an id";
            return Err(Error::NoField { place: self.place.clone(), what: "id", names, hint });
        };
        plain(value).ok_or_else(|| bad(&self.place, name, value, "a text or a number"))
    }

    /// Returns an optional text; a list of texts becomes one text with commas.
    pub(super) fn text(&self, names: &[&'static str]) -> Result<Option<String>> {
        let Some((name, value)) = self.first(names) else { return Ok(None) };
        let text = match value {
            Value::Array(values) => values.iter().map(plain).collect::<Option<Vec<_>>>().map(|texts| texts.join(", ")),
            other => plain(other),
        };
        text.map(Some).ok_or_else(|| bad(&self.place, name, value, "a text"))
    }
}

/// Returns a text, number or truth value as text.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
