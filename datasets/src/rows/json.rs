//! Rows inside one JSON document, streamed: a list of a hundred million rows takes the memory of one.

use std::fmt;
use std::io::{BufReader, Read};
use std::ops::ControlFlow;

use lynxdata_records::python_json::Lenient;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::{Emit, Shape};

/// Keys that an error message lists before it is cut.
const LISTED_KEYS: usize = 12;

/// Reads the rows at a dotted path (`""` is the document itself).
pub(super) fn read(input: impl Read, at: &str, shape: Shape, emit: &mut Emit) -> Result<(), String> {
    let path: Vec<&str> = if at.is_empty() { Vec::new() } else { at.split('.').collect() };
    let mut sink = Sink { emit, number: 0, enough: false };
    let mut document = serde_json::Deserializer::from_reader(BufReader::new(Lenient::new(input)));
    let outcome = Walk { path: &path, shape, sink: &mut sink }.deserialize(&mut document).and_then(|()| document.end());
    if sink.enough { Ok(()) } else { outcome.map_err(|fault| fault.to_string()) }
}

struct Sink<'a, 'b> {
    emit: &'a mut Emit<'b>,
    number: u64,
    enough: bool,
}

impl Sink<'_, '_> {
    /// Hands on one row. A row that is no object becomes one with the field `_value`, so that every row has named fields.
    fn row<E: Error>(&mut self, key: Option<String>, value: Value) -> Result<(), E> {
        let mut row = match value {
            Value::Object(fields) => fields,
            other => Map::from_iter([("_value".to_owned(), other)]),
        };
        if let Some(key) = key {
            row.insert("_key".to_owned(), json!(key));
        }
        let flow = (self.emit)(self.number, Ok(Value::Object(row)));
        self.number += 1;
        self.enough = flow == ControlFlow::Break(());
        if self.enough { Err(E::custom("no more rows are wanted")) } else { Ok(()) }
    }
}

/// Goes down the path, skipping everything else, and then reads rows.
struct Walk<'a, 'b, 'c> {
    path: &'a [&'a str],
    shape: Shape,
    sink: &'a mut Sink<'b, 'c>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<(), D::Error> {
        if self.path.is_empty() && self.shape == Shape::Whole {
            let value = <Value as serde::Deserialize>::deserialize(document)?;
            return self.sink.row(None, value);
        }
        document.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match (self.path.first(), self.shape) {
            (Some(key), _) => write!(out, "an object with the key `{key}` of the table's `at`"),
            (None, Shape::List) => write!(out, "a list of rows (for an object set `shape` to \"map\" or \"columns\")"),
            (None, _) => write!(out, "an object (for a list leave `shape` out)"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.path.is_empty() || self.shape != Shape::List {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        while let Some(value) = list.next_element::<Value>()? {
            self.sink.row(None, value)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((step, rest)) = self.path.split_first() {
            let mut others = Vec::new();
            let mut found = false;
            while let Some(key) = map.next_key::<String>()? {
                if key == *step && !found {
                    found = true;
                    map.next_value_seed(Walk { path: rest, shape: self.shape, sink: self.sink })?;
                } else {
                    map.next_value::<IgnoredAny>()?;
                    others.push(key);
                }
            }
            if found {
                return Ok(());
            }
            let more = if others.len() > LISTED_KEYS { ", …" } else { "" };
            others.truncate(LISTED_KEYS);
            let keys = others.join(", ");
            return Err(A::Error::custom(format!("there is no key `{step}` here, only {keys}{more}")));
        }
        match self.shape {
            Shape::Map => {
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    self.sink.row(Some(key), value)?;
                }
                Ok(())
            }
            Shape::Columns => {
                let mut columns: Vec<(String, std::vec::IntoIter<Value>)> = Vec::new();
                let mut length = None;
                while let Some((key, values)) = map.next_entry::<String, Vec<Value>>()? {
                    let expected = *length.get_or_insert(values.len());
                    if values.len() != expected {
                        let reason = format!("column `{key}` has {} values, those before it {expected}", values.len());
                        return Err(A::Error::custom(reason));
                    }
                    columns.push((key, values.into_iter()));
                }
                for _ in 0..length.unwrap_or(0) {
                    let fields = columns.iter_mut().filter_map(|(key, values)| Some((key.clone(), values.next()?)));
                    self.sink.row(None, Value::Object(fields.collect()))?;
                }
                Ok(())
            }
            Shape::List | Shape::Whole => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(document: &str, at: &str, shape: Shape) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        read(document.as_bytes(), at, shape, &mut |number, content| {
            assert_eq!(number, found.len() as u64);
            found.push(content.unwrap());
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    #[test]
    fn lists_are_found_at_their_place() {
        let document = r#"{"info": {"rows": 1}, "data": {"list": [{"a": 1}, 2], "other": []}, "end": null}"#;
        assert_eq!(rows(document, "data.list", Shape::List).unwrap(), [json!({"a": 1}), json!({"_value": 2})]);
        assert_eq!(rows("[[1, 2]]", "", Shape::List).unwrap(), [json!({"_value": [1, 2]})]);
    }

    #[test]
    fn keys_of_maps_become_fields() {
        let document = r#"{"02": {"question": "a"}, "01": ["b"]}"#;
        let expected = [json!({"question": "a", "_key": "02"}), json!({"_value": ["b"], "_key": "01"})];
        assert_eq!(rows(document, "", Shape::Map).unwrap(), expected);
    }

    #[test]
    fn parallel_lists_become_rows() {
        let document = r#"{"urls": ["u", "v"], "captions": ["one", "two"]}"#;
        let expected = [json!({"urls": "u", "captions": "one"}), json!({"urls": "v", "captions": "two"})];
        assert_eq!(rows(document, "", Shape::Columns).unwrap(), expected);
        let fault = rows(r#"{"urls": ["u", "v"], "captions": ["one"]}"#, "", Shape::Columns).unwrap_err();
        assert!(fault.contains("`captions` has 1 values, those before it 2"), "{fault}");
    }

    #[test]
    fn a_whole_value_is_one_row() {
        assert_eq!(rows(r#"{"a": {"b": 1}}"#, "a", Shape::Whole).unwrap(), [json!({"b": 1})]);
        assert_eq!(rows(r#"{"a": ["x"]}"#, "a", Shape::Whole).unwrap(), [json!({"_value": ["x"]})]);
    }

    #[test]
    fn faults_name_the_place() {
        let fault = rows(r#"{"info": {}, "annotation": []}"#, "annotations", Shape::List).unwrap_err();
        assert!(fault.contains("no key `annotations` here, only info, annotation"), "{fault}");
        let fault = rows(r#"{"a": 1}"#, "", Shape::List).unwrap_err();
        assert!(fault.contains("set `shape`"), "{fault}");
        let fault = rows("[1, 2]", "", Shape::Map).unwrap_err();
        assert!(fault.contains("leave `shape` out"), "{fault}");
        assert!(rows("[1, 2", "", Shape::List).unwrap_err().contains("line 1 column"), "cut short");
        assert!(rows("[1] 2", "", Shape::List).is_err(), "something behind the document");
    }

    #[test]
    fn a_cell_that_is_no_json_costs_no_other() {
        let document = "[{\"a\": NaN}, {\"a\": \"x \\ud83d\"}, {\"a\": 1e999}, {\"a\": \"a\tb\"}, {\"a\": 1}]";
        let expected =
            [json!({"a": null}), json!({"a": "x \u{FFFD}"}), json!({"a": null}), json!({"a": "a\tb"}), json!({"a": 1})];
        assert_eq!(rows(document, "", Shape::List).unwrap(), expected);
    }

    #[test]
    fn reading_ends_early_without_a_fault() {
        let mut taken = 0;
        read("[1, 2, 3, broken".as_bytes(), "", Shape::List, &mut |_, _| {
            taken += 1;
            if taken == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        assert_eq!(taken, 2);
    }
}
