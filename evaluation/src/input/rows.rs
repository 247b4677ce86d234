//! Files of JSON as rows with fields.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Formatter;
use std::iter;
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

/// The id in files of references whose rows have none of the names of [`ID`], as those of VizWiz:
/// the name of the image.
pub(super) const IMAGE: &[&str] = &["image"];

/// The ids of one reference, each with the name of its field, in the order of [`ID`].
pub(super) type Ids = Vec<(&'static str, String)>;

/// The fields with ids of the references, by which rows of other files are joined with them.
///
/// Rows may have several ids: pycocotools adds a running `id` to results that have an `image_id`,
/// and POPE of lmms-lab has a `question_id` that repeats beside a unique `id`.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// The field of the ids by which references are known; `None` if rows differ in its name.
    name: Option<&'static str>,
    /// The fields that every reference has with another value, in the order of [`ID`].
    unique: Vec<Unique>,
    /// The names of ids that any reference has, in the order of [`ID`] and [`IMAGE`].
    names: Vec<&'static str>,
}

/// A field with another value in every reference.
#[derive(Clone, Debug)]
struct Unique {
    name: &'static str,
    /// The ids of the references by the values of this field; `None` if both are the same.
    to_id: Option<BTreeMap<String, String>>,
}

/// The field by which the rows of a file are joined with references.
pub(super) struct Join<'a> {
    names: &'static [&'static str],
    to_id: Option<&'a BTreeMap<String, String>>,
}

impl Join<'_> {
    /// Returns the id of the reference that a row belongs to.
    ///
    /// # Errors
    /// If the row has no id, or one that no reference has.
    pub(super) fn id(&self, row: &Row) -> Result<String> {
        let id = row.id(self.names)?;
        let Some(to_id) = self.to_id else { return Ok(id) };
        to_id.get(&id).cloned().ok_or_else(|| {
            let example = to_id.keys().next().cloned().unwrap_or_default();
            Error::UnknownId { place: row.place.clone(), id, more: String::new(), example }
        })
    }
}

impl Key {
    /// Chooses the ids of references from all their ids: the first field of [`ID`] with another
    /// value in every reference. Returns them in the order of the references.
    ///
    /// # Errors
    /// If no field has. `place` gives the place of a reference.
    pub(super) fn choose(ids: &[Ids], place: impl Fn(usize) -> Place) -> Result<(Key, Vec<String>)> {
        let is_used = |name: &&&'static str| ids.iter().any(|ids| value_of(ids, name).is_some());
        let names: Vec<&'static str> = ID.iter().chain(IMAGE).filter(is_used).copied().collect();
        let unique: Vec<&'static str> = names.iter().copied().filter(|name| is_unique(ids, name)).collect();
        // An image may have several questions in other files, so its id is the last choice.
        let is_of_images = names == [IMAGE_ID];
        let mut name = unique.first().copied().filter(|name| *name != IMAGE_ID || is_of_images);
        if name.is_none() && repeated(ids).is_some() {
            name = unique.first().copied();
        }
        if let (None, Some((first, second))) = (name, repeated(ids)) {
            let (field, id) = ids[second][0].clone();
            return Err(Error::RepeatedId { place: place(second), first: place(first), field, id });
        }
        // Every reference has at least one id.
        let id_of = |ids: &Ids| name.and_then(|name| value_of(ids, name)).unwrap_or(&ids[0].1).to_owned();
        let chosen: Vec<String> = ids.iter().map(id_of).collect();
        let to_id = |other: &'static str| {
            let values = ids.iter().filter_map(|ids| Some(value_of(ids, other)?.to_owned()));
            let to_id = (Some(other) != name).then(|| values.zip(chosen.iter().cloned()).collect());
            Unique { name: other, to_id }
        };
        let unique = unique.into_iter().map(to_id).collect();
        Ok((Key { name, unique, names }, chosen))
    }

    /// Returns the field in which rows that we write hold the ids of these references. It is `id`,
    /// unless the references have several ids and join by another one.
    pub fn name(&self) -> &'static str {
        self.only_name().unwrap_or("id")
    }

    /// Returns the only field by which rows are joined with references that have several ids;
    /// `None` if the ids may be in any field.
    pub fn only_name(&self) -> Option<&'static str> {
        self.name.filter(|_| self.has_several_names())
    }

    fn has_several_names(&self) -> bool {
        self.names.iter().filter(|name| **name != IMAGE_ID).count() > 1
    }

    /// Returns the field by which the rows of another file are joined: the first one that is unique
    /// in the references and that any row has, so that no row is joined by another of its ids.
    ///
    /// # Errors
    /// If there is none, and the ids of a row may be other ids than those of the references. Equal
    /// numbers would join it with any question.
    pub(super) fn join(&self, rows: &[Row]) -> Result<Join<'_>> {
        for unique in &self.unique {
            let mut lists = ID.chunks(1).chain(iter::once(IMAGE));
            if let Some(names) = lists.find(|names| names[0] == unique.name)
                && rows.iter().any(|row| row.first(names).is_some())
            {
                return Ok(Join { names, to_id: unique.to_id.as_ref() });
            }
        }
        let is_doubtful = |name: &str| match self.name {
            _ if name == IMAGE_ID => self.names.contains(&IMAGE_ID) && self.names.len() > 1,
            Some(_) => self.has_several_names() || self.names.contains(&name),
            None => false,
        };
        let found = rows.iter().find_map(|row| {
            let name = row.first(ID)?.0;
            is_doubtful(name).then(|| self.other(row.place.clone(), name))
        });
        found.map_or(Ok(Join { names: ID, to_id: None }), Err)
    }

    /// Refuses ids without a name if they may be other ids than those of the references.
    pub(super) fn check_nameless(&self, place: &Place, ids: &[&str]) -> Result<()> {
        let is_other = |to_id: &BTreeMap<String, String>| {
            ids.iter().all(|id| to_id.contains_key(*id)) && ids.iter().any(|id| to_id[*id] != *id)
        };
        if self.unique.iter().filter_map(|unique| unique.to_id.as_ref()).any(is_other) {
            return Err(self.other(place.clone(), "the key of an object"));
        }
        Ok(())
    }

    fn other(&self, place: Place, own: &str) -> Error {
        let key = self.name.unwrap_or("id");
        let others: Vec<&str> = self.names.iter().copied().filter(|name| *name != key).collect();
        Error::OtherKey { place, own: own.to_owned(), key, others: others.join(" and ") }
    }
}

fn value_of<'a>(ids: &'a Ids, name: &str) -> Option<&'a str> {
    ids.iter().find(|(other, _)| *other == name).map(|(_, id)| id.as_str())
}

/// Returns whether all references have this field, each with another value.
fn is_unique(ids: &[Ids], name: &str) -> bool {
    let mut seen = BTreeSet::new();
    ids.iter().all(|ids| value_of(ids, name).is_some_and(|id| seen.insert(id)))
}

/// Returns the places of two references with the same first id.
fn repeated(ids: &[Ids]) -> Option<(usize, usize)> {
    let mut seen = BTreeMap::new();
    ids.iter().enumerate().find_map(|(place, ids)| Some((seen.insert(&ids[0].1, place)?, place)))
}

/// Returns the first of these names that any row has, whether its value is null or not.
pub(super) fn column(rows: &[Row], names: &[&'static str]) -> Option<&'static str> {
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
        Ok(Value::Object(fields)) if ID.iter().chain(IMAGE).any(|name| fields.contains_key(*name)) => {
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

/// Returns whether an object may have questions by their ids: any value has one of these fields.
pub(super) fn is_keyed(object: &Map<String, Value>, question: &[&str]) -> bool {
    object.values().any(|value| question.iter().any(|name| value.get(name).is_some()))
}

/// Returns the questions of an object that has them by their ids, which become their `id`.
pub(super) fn keyed(source: Source, object: Map<String, Value>, question: &'static [&'static str]) -> Result<Vec<Row>> {
    let file: Arc<str> = source.name.into();
    let of = |(key, value): (String, Value)| {
        let place = Place { file: Arc::clone(&file), position: Position::Key(key.clone()) };
        let mut row = row(place, value)?;
        if row.first(question).is_none() {
            let hint = "; other values of the object are questions, so each one must be";
            return Err(Error::NoField { place: row.place, what: "question", names: question, hint });
        }
        let own = row.fields.insert("id".to_owned(), Value::String(key.clone()));
        if let Some(id) = own.filter(|id| plain(id).as_ref() != Some(&key)) {
            return Err(bad(&row.place, "id", &id, "the key of its object"));
        }
        Ok(row)
    };
    object.into_iter().map(of).collect()
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
        id_text(value).map_err(|wanted| bad(&self.place, name, value, wanted))
    }

    /// Returns all ids with these names, at least one.
    pub(super) fn ids(&self, names: &'static [&'static str]) -> Result<Ids> {
        let of = |name: &&'static str| Some((*name, id_text(self.fields.get(*name)?).ok()?));
        let ids: Ids = names.iter().filter_map(of).collect();
        if ids.is_empty() {
            // This gives the reason.
            self.id(names)?;
        }
        Ok(ids)
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

/// The smallest number that may be a rounded one.
const INEXACT: f64 = 9_007_199_254_740_992.0;

/// Returns an id as text, or its required form. Numbers of 2^64 and more are read with 16 digits,
/// so that different ids would be equal.
fn id_text(value: &Value) -> std::result::Result<String, &'static str> {
    if let Value::Number(number) = value
        && number.is_f64()
        && number.as_f64().is_none_or(|number| number.abs() >= INEXACT)
    {
        return Err("a text in quotes, because a number of this size is rounded");
    }
    plain(value).ok_or("a text or a number")
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
