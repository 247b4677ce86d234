//! Rows inside one JSON document. Each row is cut out of the file as text, so that a list of a
//! hundred million rows needs the memory of one row. Only the fields that are used are parsed
//! later.

use std::io::Read;
use std::ops::ControlFlow;

use lynxdata_records::python_json::normalise;
use serde_json::json;

use super::row::Row;
use super::scan::Scan;
use super::{Emit, Shape};

/// The maximum number of keys that an error message lists.
const LISTED_KEYS: usize = 12;

/// Size of the read buffer in bytes.
const PIECE: usize = 1 << 17;

/// Reads the rows at a dotted path (`""` is the document itself).
pub(super) fn read(input: impl Read, at: &str, shape: Shape, emit: &mut Emit) -> Result<(), String> {
    let path: Vec<&str> = if at.is_empty() { Vec::new() } else { at.split('.').collect() };
    let mut rows = Rows { document: Document::new(input), shape, emit, number: 0 };
    let outcome = rows.walk(&path).and_then(|flow| match (flow, rows.document.next()?) {
        (ControlFlow::Continue(()), Some(_)) => Err("unexpected text after the document".to_owned()),
        _ => Ok(()),
    });
    outcome.map_err(|reason| {
        let (line, column) = rows.document.place();
        format!("{reason} at line {line} column {column}")
    })
}

/// Walks down to the rows and emits them.
struct Rows<'a, 'b, R> {
    document: Document<R>,
    shape: Shape,
    emit: &'a mut Emit<'b>,
    number: u64,
}

impl<R: Read> Rows<'_, '_, R> {
    /// Emits one row, with its key if it is a member of an object.
    fn row(&mut self, key: Option<&[u8]>, text: Vec<u8>) -> Result<ControlFlow<()>, String> {
        let mut row = Row::of(text)?;
        if let Some(key) = key {
            row.insert("_key", key);
        }
        let flow = (self.emit)(self.number, Ok(row));
        self.number += 1;
        Ok(flow)
    }

    /// Reads the next value, which contains the rows at `path`.
    fn walk(&mut self, path: &[&str]) -> Result<ControlFlow<()>, String> {
        if let Some((step, rest)) = path.split_first() {
            return self.member(step, rest);
        }
        match self.shape {
            Shape::Whole => {
                let text = self.document.value()?;
                self.row(None, text)
            }
            Shape::List => {
                const WHAT: &str = "a list of rows (for an object set `shape` to \"map\" or \"columns\")";
                self.document.begin(b'[', WHAT)?;
                while self.document.has_more(b']')? {
                    let text = self.document.value()?;
                    if self.row(None, text)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Shape::Map => {
                self.document.begin(b'{', "an object (for a list remove `shape`)")?;
                while self.document.has_more(b'}')? {
                    let key = self.document.key()?;
                    let text = self.document.value()?;
                    if self.row(Some(&key), text)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Shape::Columns => self.columns(),
        }
    }

    /// Finds the member of an object with the next key of the path, and skips the others.
    fn member(&mut self, step: &str, rest: &[&str]) -> Result<ControlFlow<()>, String> {
        self.document.begin(b'{', &format!("an object with the key `{step}` of the table's `at`"))?;
        let (mut others, mut found) = (Vec::new(), false);
        while self.document.has_more(b'}')? {
            let key = text_of(&self.document.key()?);
            if key == step {
                if std::mem::replace(&mut found, true) {
                    // Other parsers take the last one, whose rows cannot replace those that were
                    // already read.
                    return Err(format!("the key `{step}` of the table's `at` is there twice"));
                }
                if self.walk(rest)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            } else {
                self.document.pass(&mut |_| {})?;
                if others.len() <= LISTED_KEYS {
                    others.push(key);
                }
            }
        }
        if found {
            return Ok(ControlFlow::Continue(()));
        }
        let more = if others.len() > LISTED_KEYS { ", …" } else { "" };
        others.truncate(LISTED_KEYS);
        let keys = others.join(", ");
        Err(format!("there is no key `{step}` here, only {keys}{more}"))
    }

    /// Reads an object of parallel lists.
    fn columns(&mut self) -> Result<ControlFlow<()>, String> {
        self.document.begin(b'{', "an object (for a list remove `shape`)")?;
        let mut columns: Vec<(String, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
        while self.document.has_more(b'}')? {
            let key = text_of(&self.document.key()?);
            if columns.iter().any(|(known, _)| *known == key) {
                return Err(format!("the column `{key}` is there twice"));
            }
            self.document.begin(b'[', "a list of the values of a column")?;
            let mut values = Vec::new();
            while self.document.has_more(b']')? {
                values.push(self.document.value()?);
            }
            let expected = columns.first().map_or(values.len(), |(_, first)| first.len());
            if values.len() != expected {
                let length = values.len();
                return Err(format!("column `{key}` has {length} values, those before it {expected}"));
            }
            columns.push((key, values.into_iter()));
        }
        let length = columns.first().map_or(0, |(_, first)| first.len());
        for _ in 0..length {
            let mut row = Row::from(json!({}));
            for (key, values) in &mut columns {
                row.insert(key, &values.next().unwrap_or_default());
            }
            let flow = (self.emit)(self.number, Ok(row));
            self.number += 1;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Returns a key without its quotes. A key that is not a valid text is returned unchanged.
fn text_of(key: &[u8]) -> String {
    let text = serde_json::from_slice(key).or_else(|_| serde_json::from_slice(&normalise(key)));
    text.unwrap_or_else(|_| String::from_utf8_lossy(key).into_owned())
}

/// A streaming reader of a JSON document.
struct Document<R> {
    input: R,
    piece: Vec<u8>,
    /// The number of bytes of the buffer that were read, and its length.
    at: usize,
    filled: usize,
    /// Whether no element of the current list or object has been read yet.
    is_at_start: bool,
    /// The line and column of the start of the buffer, both from 0.
    line: u64,
    column: u64,
}

impl<R: Read> Document<R> {
    fn new(input: R) -> Self {
        Self { input, piece: vec![0; PIECE], at: 0, filled: 0, is_at_start: false, line: 0, column: 0 }
    }

    /// Returns the line and column of the next byte, from 1.
    fn place(&self) -> (u64, u64) {
        let taken = &self.piece[..self.at];
        let ends = memchr::memchr_iter(b'\n', taken).count() as u64;
        // Most files are one line, in which the search for its end would pass over all bytes.
        let last = if ends == 0 { None } else { memchr::memrchr(b'\n', taken) };
        let column = match last {
            Some(end) => (taken.len() - end - 1) as u64,
            None => self.column + taken.len() as u64,
        };
        (self.line + ends + 1, column + 1)
    }

    /// Refills the buffer if it is used up; returns whether there is more input.
    fn fill(&mut self) -> Result<bool, String> {
        if self.at < self.filled {
            return Ok(true);
        }
        let (line, column) = self.place();
        (self.line, self.column) = (line - 1, column - 1);
        (self.at, self.filled) = (0, 0);
        loop {
            match self.input.read(&mut self.piece) {
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
                Err(fault) => return Err(fault.to_string()),
                Ok(length) => {
                    self.filled = length;
                    return Ok(length > 0);
                }
            }
        }
    }

    /// Returns the next byte that is not white space, without consuming it.
    fn next(&mut self) -> Result<Option<u8>, String> {
        while self.fill()? {
            let rest = &self.piece[self.at..self.filled];
            match rest.iter().position(|byte| !byte.is_ascii_whitespace()) {
                Some(length) => {
                    self.at += length;
                    return Ok(Some(self.piece[self.at]));
                }
                None => self.at = self.filled,
            }
        }
        Ok(None)
    }

    fn begin(&mut self, mark: u8, what: &str) -> Result<(), String> {
        match self.next()? {
            Some(found) if found == mark => {
                self.at += 1;
                self.is_at_start = true;
                Ok(())
            }
            Some(found) => Err(format!("expected {what}, found {}", kind(found))),
            None => Err(format!("expected {what}, found the end of the file")),
        }
    }

    /// Returns whether the list or object has another element, and moves to its start.
    fn has_more(&mut self, end: u8) -> Result<bool, String> {
        let is_first = std::mem::take(&mut self.is_at_start);
        match self.next()? {
            Some(mark) if mark == end => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            Some(_) => Err(format!("expected `,` or `{}`", char::from(end))),
            None => Err(format!("the file ends before `{}`", char::from(end))),
        }
    }

    /// Reads a key in its quotes, unchanged, and the colon after it.
    fn key(&mut self) -> Result<Vec<u8>, String> {
        if self.next()? != Some(b'"') {
            return Err("expected a key in quotes".to_owned());
        }
        let key = self.value()?;
        if self.next()? != Some(b':') {
            return Err("expected `:` after a key".to_owned());
        }
        self.at += 1;
        Ok(key)
    }

    /// Reads one value as text.
    fn value(&mut self) -> Result<Vec<u8>, String> {
        let mut text = Vec::new();
        self.pass(&mut |piece| text.extend_from_slice(piece))?;
        Ok(text)
    }

    /// Reads one value piece by piece.
    fn pass(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let mut scan = Scan::default();
        self.next()?;
        while self.fill()? {
            let rest = &self.piece[self.at..self.filled];
            let length = scan.value(rest).map_err(|()| "expected a value".to_owned())?;
            let taken = length.unwrap_or(rest.len());
            take(&rest[..taken]);
            self.at += taken;
            if length.is_some() {
                return Ok(());
            }
        }
        if scan.may_end() { Ok(()) } else { Err("the file ends within a value".to_owned()) }
    }
}

/// Returns the name of the type of a value by its first byte.
fn kind(first: u8) -> &'static str {
    match first {
        b'{' => "an object",
        b'[' => "a list",
        b'"' => "a text",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn rows(document: &str, at: &str, shape: Shape) -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        read(document.as_bytes(), at, shape, &mut |number, content| {
            assert_eq!(number, found.len() as u64);
            found.push(content.unwrap().parsed().unwrap());
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
        for document in [r#"{"a": [1], "b": 0, "a": [2]}"#, r#"{"a": [], "\u0061": []}"#] {
            let fault = rows(document, "a", Shape::List).unwrap_err();
            assert!(fault.contains("the key `a` of the table's `at` is there twice at line 1"), "{fault}");
        }
        let fault = rows(r#"{"a": [1], "a": [2]}"#, "", Shape::Columns).unwrap_err();
        assert!(fault.contains("the column `a` is there twice"), "{fault}");
        let fault = rows(r#"{"a": 1}"#, "", Shape::List).unwrap_err();
        assert!(fault.contains("set `shape`"), "{fault}");
        let fault = rows("[1, 2]", "", Shape::Map).unwrap_err();
        assert!(fault.contains("remove `shape`"), "{fault}");
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
