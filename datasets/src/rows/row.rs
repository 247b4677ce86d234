//! One native row: a JSON object as text. Only the fields that expressions use are parsed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use lynxdata_records::python_json::{DEEPEST, is_long_integer, normalise, parse};
use minijinja::value::{Enumerator, Object, ObjectExt, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};
use serde_json::Value as Json;

use super::scan::{self, Scan};
use crate::lanes::{equal, position};
use crate::value::value_of;

/// The field name of a row that is not an object.
pub(crate) const VALUE: &str = "_value";

/// The number of elements that a list or object has room for at first.
const ELEMENTS: usize = 16;

/// Objects with more keys than this get a hash map of their keys.
const SEARCHED: usize = 16;

/// A JSON object as text. Readers of JSON copy the text from the file unchanged.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<u8>);

impl Row {
    /// Creates a row from the text of one JSON value. A value that is not an object becomes an
    /// object with the field `_value`, so that every row has named fields.
    ///
    /// # Errors
    /// If it is not one value.
    pub(crate) fn of(text: Vec<u8>) -> Result<Self, String> {
        if text.first() == Some(&b'{') {
            return Ok(Self(text));
        }
        match skip(&text, 0) {
            Ok(end) if end == text.len() => {
                let mut row = Self(b"{}".to_vec());
                row.insert(VALUE, &text);
                Ok(row)
            }
            Ok(end) => Err(fault_at(&text, end, "unexpected text after the value")),
            Err(fault) => Err(fault),
        }
    }

    /// Appends a field, given as JSON text. Of several fields with one name the last one is used.
    pub(crate) fn insert(&mut self, name: &str, text: &[u8]) {
        let end = self.0.iter().rposition(|byte| *byte == b'}').unwrap_or(self.0.len());
        self.0.truncate(end);
        if self.0.trim_ascii_end() != b"{" {
            self.0.push(b',');
        }
        self.0.extend(Json::from(name).to_string().bytes());
        self.0.push(b':');
        self.0.extend_from_slice(text);
        self.0.push(b'}');
    }

    /// Returns its text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn parsed(&self) -> Result<Json, String> {
        parsed(&self.0)
    }
}

impl From<Json> for Row {
    fn from(value: Json) -> Self {
        match value {
            Json::Object(_) => Self(value.to_string().into_bytes()),
            other => Self(format!("{{\"{VALUE}\":{other}}}").into_bytes()),
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// The text of a row, or of the list of several rows, that is split into its elements.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'t> {
    text: Cow<'t, [u8]>,
    parts: Parts,
}

impl<'t> Fields<'t> {
    /// Splits a row.
    ///
    /// # Errors
    /// If its fields cannot be told apart. An error inside a field is returned only when that field
    /// is used.
    pub(crate) fn of(text: impl Into<Cow<'t, [u8]>>) -> Result<Self, String> {
        let text = text.into();
        let fault = match Parts::of(&text, &(0..text.len())) {
            Ok(parts) => return Ok(Self { text, parts }),
            Err(fault) => fault,
        };
        let repaired = match normalise(&text) {
            Cow::Owned(repaired) => Some(repaired),
            Cow::Borrowed(_) => None,
        };
        let parts = repaired.and_then(|text| Some((Parts::of(&text, &(0..text.len())).ok()?, text)));
        match parts {
            Some((parts, text)) => Ok(Self { text: Cow::Owned(text), parts }),
            None => Err(format!("is not JSON: {fault}")),
        }
    }

    /// Returns its JSON text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Returns the JSON text of a field.
    pub(crate) fn token(&self, name: &str) -> Option<&[u8]> {
        self.parts.token(&self.text, name)
    }

    /// Returns it as a value for minijinja, which parses elements when they are used. A null is
    /// undefined, as in [`value_of`].
    pub(crate) fn value(self) -> Value {
        let range = 0..self.text.len();
        let text = Arc::new(self.text.into_owned());
        Value::from_object(Node { text, range, parts: OnceLock::from(Ok(self.parts)), values: OnceLock::new() })
    }
}

/// A list or object within the text of a row, as a value for minijinja.
pub(crate) struct Node {
    text: Arc<Vec<u8>>,
    range: Range<usize>,
    parts: OnceLock<Result<Parts, String>>,
    /// The values of its elements that were asked for.
    values: OnceLock<Box<[OnceLock<Value>]>>,
}

/// The positions of the elements of a list or object.
#[derive(Debug, Clone)]
struct Parts {
    /// The keys of an object; empty for a list.
    keys: Vec<Key>,
    values: Vec<Range<usize>>,
    /// The indexes of the keys, if there are many.
    places: HashMap<String, usize>,
}

/// The key of one element.
#[derive(Debug, Clone)]
enum Key {
    /// The range of its text, without its quotes.
    Plain(Range<usize>),
    /// It has escapes or other characters than those of ASCII.
    Decoded(String),
}

impl Key {
    /// Returns the key that begins at a quote, and its end.
    fn of(text: &[u8], start: usize) -> Result<(Self, usize), String> {
        if let Some(end) = scan::plain_text_end(text, start + 1) {
            return Ok((Self::Plain(start + 1..end - 1), end));
        }
        let end = skip(text, start)?;
        string(&text[start..end]).map(|key| (Self::Decoded(key.into_owned()), end))
    }

    fn bytes<'a>(&'a self, text: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Plain(range) => &text[range.clone()],
            Self::Decoded(key) => key.as_bytes(),
        }
    }

    fn text<'a>(&'a self, text: &'a [u8]) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes(text))
    }
}

impl Node {
    fn new(text: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Self { text, range, parts: OnceLock::new(), values: OnceLock::new() }
    }

    fn parts(&self) -> Result<&Parts, &str> {
        let parts = self.parts.get_or_init(|| Parts::of(&self.text, &self.range));
        parts.as_ref().map_err(String::as_str)
    }

    /// Returns an element, which is parsed when it is asked for.
    fn value(&self, parts: &Parts, place: usize) -> Option<Value> {
        let range = parts.values.get(place)?;
        let values = self.values.get_or_init(|| parts.values.iter().map(|_| OnceLock::new()).collect());
        let value = values[place].get_or_init(|| match self.text[range.start] {
            b'[' | b'{' => {
                let node = Self::new(self.text.clone(), range.clone());
                let fault = node.parts().err().map(not_json);
                fault.unwrap_or_else(|| Value::from_object(node))
            }
            _ => scalar(&self.text[range.clone()]).unwrap_or_else(|fault| not_json(&fault)),
        });
        Some(value.clone())
    }

    /// Returns its JSON text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text[self.range.clone()]
    }

    /// Returns the JSON text that this object has under a name.
    pub(crate) fn token(&self, name: &str) -> Option<&[u8]> {
        self.parts().ok()?.token(&self.text, name)
    }

    /// Returns the whole of it, parsed, or nothing if some of it is not JSON.
    pub(crate) fn json(&self) -> Option<Json> {
        json_of(&self.text, self.is_list(), self.parts().ok()?)
    }

    fn is_list(&self) -> bool {
        self.text[self.range.start] == b'['
    }

    fn at(&self, place: usize) -> Option<Value> {
        match self.parts() {
            Ok(parts) => self.value(parts, place),
            Err(fault) => Some(not_json(fault)),
        }
    }
}

/// Returns the texts, numbers and truth values that all elements of a list of objects have under
/// the name `attribute`, as they are written in the text. Returns nothing if it is no list of
/// objects, or if one of them has something else there.
pub(crate) fn column<'t>(list: &'t [u8], attribute: &str) -> Option<Vec<&'t [u8]>> {
    let mut tokens = Vec::with_capacity(ELEMENTS);
    each_element(list, |at| {
        let (token, end) = member(list, at, attribute)?;
        if matches!(token[0], b'[' | b'{' | b'n') {
            return None;
        }
        tokens.push(token);
        Some(end)
    })?;
    Some(tokens)
}

/// Returns the elements, with their quotes, of a list of nothing but texts.
pub(crate) fn texts(list: &[u8]) -> Option<Vec<&[u8]>> {
    let mut texts = Vec::with_capacity(ELEMENTS);
    each_element(list, |at| {
        let end = scan::text_end(list, at + 1).filter(|_| list[at] == b'"')?;
        texts.push(&list[at..end]);
        Some(end)
    })?;
    Some(texts)
}

/// Passes the place of every element of a list to `take`, which returns where it ends.
fn each_element(list: &[u8], mut take: impl FnMut(usize) -> Option<usize>) -> Option<()> {
    if list.first() != Some(&b'[') {
        return None;
    }
    let mut at = space(list, 1);
    if list.get(at) == Some(&b']') {
        return Some(());
    }
    loop {
        at = space(list, take(at)?);
        match list.get(at) {
            Some(b',') => at = space(list, at + 1),
            Some(b']') if at + 1 == list.len() => return Some(()),
            _ => return None,
        }
    }
}

fn json_of(text: &[u8], is_list: bool, parts: &Parts) -> Option<Json> {
    let of = |range: &Range<usize>| match text[range.start] {
        first @ (b'[' | b'{') => json_of(text, first == b'[', &Parts::of(text, range).ok()?),
        b'"' => string(&text[range.clone()]).ok().map(|text| Json::String(text.into_owned())),
        _ => serde_json::to_value(scalar(&text[range.clone()]).ok()?).ok(),
    };
    if is_list {
        return parts.values.iter().map(of).collect::<Option<_>>().map(Json::Array);
    }
    let pair = |(key, range): (&Key, &Range<usize>)| Some((key.text(text).into_owned(), of(range)?));
    parts.keys.iter().zip(&parts.values).map(pair).collect::<Option<_>>().map(Json::Object)
}

/// Returns a value that is an error to whoever uses it.
fn not_json(fault: &str) -> Value {
    Value::from(Error::new(ErrorKind::BadSerialization, format!("is not JSON: {fault}")))
}

impl fmt::Debug for Node {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&String::from_utf8_lossy(self.text()))
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.is_list() { ObjectRepr::Seq } else { ObjectRepr::Map }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match self.repr() {
            ObjectRepr::Seq => self.at(key.as_usize()?),
            _ => self.get_value_by_str(key.as_str()?),
        }
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.parts() {
            Ok(parts) => self.value(parts, parts.place_of(&self.text, key.as_bytes())?),
            Err(fault) => Some(not_json(fault)),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.parts() {
            Ok(parts) if self.is_list() => Enumerator::Seq(parts.values.len()),
            Ok(parts) => {
                let length = parts.keys.len();
                self.mapped_key_value_enumerator(move |own| {
                    let pair = move |place: usize| match own.parts() {
                        Ok(parts) => (
                            Value::from(parts.keys[place].text(&own.text)),
                            own.value(parts, place).unwrap_or_default(),
                        ),
                        Err(_) => (Value::UNDEFINED, Value::UNDEFINED),
                    };
                    Box::new((0..length).map(pair))
                })
            }
            Err(fault) => Enumerator::Iter(Box::new(std::iter::once(not_json(fault)))),
        }
    }
}

impl Parts {
    /// Splits a list or object into its elements.
    fn of(text: &[u8], range: &Range<usize>) -> Result<Self, String> {
        let text = &text[..range.end];
        let is_list = text.get(range.start) == Some(&b'[');
        let end = if is_list { b']' } else { b'}' };
        let mut all = Self {
            keys: Vec::with_capacity(if is_list { 0 } else { ELEMENTS }),
            values: Vec::with_capacity(ELEMENTS),
            places: HashMap::new(),
        };
        let mut at = space(text, range.start + 1);
        if text.get(at) == Some(&end) {
            at += 1;
        } else {
            loop {
                let mut known = None;
                if !is_list {
                    if text.get(at) != Some(&b'"') {
                        return Err(fault_at(text, at, "a key in quotes is missing"));
                    }
                    let (key, end) = Key::of(text, at)?;
                    known = all.add_key(text, key);
                    at = space(text, end);
                    if text.get(at) != Some(&b':') {
                        return Err(fault_at(text, at, "`:` is missing after a key"));
                    }
                    at = space(text, at + 1);
                }
                let behind = skip(text, at)?;
                // Of fields of one name the last counts, at the place of the first.
                match known {
                    Some(known) => all.values[known] = at..behind,
                    None => all.values.push(at..behind),
                }
                at = space(text, behind);
                match text.get(at) {
                    Some(b',') => at = space(text, at + 1),
                    Some(mark) if *mark == end => break at += 1,
                    _ => return Err(fault_at(text, at, "`,` or the end is missing")),
                }
            }
        }
        if space(text, at) != text.len() {
            return Err(fault_at(text, at, "unexpected text after the value"));
        }
        Ok(all)
    }

    /// Adds a key, or returns its index if it is there already.
    fn add_key(&mut self, text: &[u8], key: Key) -> Option<usize> {
        let known = self.place_of(text, key.bytes(text));
        if known.is_some() {
            return known;
        }
        if self.keys.len() == SEARCHED {
            let named = self.keys.iter().enumerate().map(|(place, key)| (key.text(text).into_owned(), place));
            self.places = named.collect();
        }
        if self.keys.len() >= SEARCHED {
            self.places.insert(key.text(text).into_owned(), self.keys.len());
        }
        self.keys.push(key);
        None
    }

    fn place_of(&self, text: &[u8], name: &[u8]) -> Option<usize> {
        if self.places.is_empty() {
            return self.keys.iter().position(|own| own.bytes(text) == name);
        }
        self.places.get(std::str::from_utf8(name).ok()?).copied()
    }

    fn token<'t>(&self, text: &'t [u8], name: &str) -> Option<&'t [u8]> {
        Some(&text[self.values[self.place_of(text, name.as_bytes())?].clone()])
    }
}

/// Parses a text, number, truth value or null.
pub(crate) fn scalar(token: &[u8]) -> Result<Value, String> {
    match token {
        [b'"', ..] => string(token).map(Value::from),
        b"true" => Ok(Value::from(true)),
        b"false" => Ok(Value::from(false)),
        b"null" => Ok(Value::UNDEFINED),
        // An integer, but serde_json makes a double of it.
        b"-0" => Ok(Value::from(0)),
        _ if let Some(number) = natural(token) => Ok(Value::from(number)),
        _ => {
            let number = match serde_json::from_slice::<serde_json::Number>(token) {
                Ok(number) => number,
                Err(_) if *normalise(token) == *b"null" => return Ok(Value::UNDEFINED),
                Err(fault) => return Err(fault.to_string()),
            };
            Ok(match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Value::from(number),
                (_, Some(number)) => Value::from(number),
                // An id: as a double, it would equal others.
                _ if is_long_integer(token) => Value::from(std::str::from_utf8(token).unwrap_or_default()),
                _ => number.as_f64().map_or(Value::UNDEFINED, Value::from),
            })
        }
    }
}

/// Parses a text, number or truth value.
pub(crate) fn scalar_json(token: &[u8]) -> Option<Json> {
    match token[0] {
        b'"' => string(token).ok().map(|text| Json::String(text.into_owned())),
        b'[' | b'{' => None,
        _ if let Some(number) = natural(token) => Some(Json::from(number)),
        _ => {
            let value = scalar(token).ok().filter(|value| !value.is_undefined())?;
            serde_json::to_value(value).ok()
        }
    }
}

/// Parses an integer that is not negative and has at most 18 digits, as most have.
pub(crate) fn natural(token: &[u8]) -> Option<u64> {
    let is_usual = (1..=18).contains(&token.len()) && (token[0] != b'0' || token.len() == 1);
    if !is_usual {
        return None;
    }
    let digits = token.iter().map(|byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0')));
    digits.into_iter().try_fold(0, |number, digit| Some(number * 10 + digit?))
}

/// Parses a text with its quotes. What is no character becomes U+FFFD.
pub(crate) fn string(token: &[u8]) -> Result<Cow<'_, str>, String> {
    let inner = &token[1..token.len() - 1];
    if !has_escapes(inner)
        && let Ok(text) = std::str::from_utf8(inner)
    {
        return Ok(Cow::Borrowed(text));
    }
    let text: Result<String, _> = serde_json::from_slice(token).or_else(|_| serde_json::from_slice(&normalise(token)));
    text.map(Cow::Owned).map_err(|fault| fault.to_string())
}

fn has_escapes(text: &[u8]) -> bool {
    position(text, |own| equal(own, b'\\')).is_some()
}

/// Returns the end of the value that begins at an offset.
#[inline]
fn skip(text: &[u8], start: usize) -> Result<usize, String> {
    if text.get(start) == Some(&b'"')
        && let Some(end) = scan::text_end(text, start + 1)
    {
        return Ok(end);
    }
    skip_other(text, start)
}

/// Returns the end of a value that is no text.
fn skip_other(text: &[u8], start: usize) -> Result<usize, String> {
    let rest = text.get(start..).unwrap_or_default();
    match rest.first() {
        Some(b'"') => Err(fault_at(text, text.len(), "it ends within a value")),
        Some(b'[' | b'{') => {
            let mut scan = Scan::default();
            match scan.value(rest) {
                _ if scan.deepest() >= DEEPEST => Err(fault_at(text, start, "lists and objects are nested too deeply")),
                Ok(Some(length)) => Ok(start + length),
                Ok(None) | Err(()) => Err(fault_at(text, text.len(), "it ends within a value")),
            }
        }
        None => Err(fault_at(text, start, "it ends within a value")),
        Some(b',' | b':' | b']' | b'}') => Err(fault_at(text, start, "a value is missing")),
        Some(_) => Ok(rest.iter().position(|byte| scan::ends_word(*byte)).map_or(text.len(), |length| start + length)),
    }
}

/// Returns the text that the object at a place has under a name, and the end of the object. Returns
/// nothing if there is no such text, it is not an object, or it has keys with escapes or other
/// characters than those of ASCII.
pub(crate) fn member<'a>(text: &'a [u8], start: usize, name: &str) -> Option<(&'a [u8], usize)> {
    if text.get(start) != Some(&b'{') {
        return None;
    }
    let (mut found, mut at) = (None, space(text, start + 1));
    while text.get(at) == Some(&b'"') {
        let end = scan::plain_text_end(text, at + 1)?;
        let is_named = text[at + 1..end - 1] == *name.as_bytes();
        at = space(text, end);
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = space(text, at + 1);
        let end = skip(text, at).ok()?;
        if is_named {
            found = Some(&text[at..end]);
        }
        at = space(text, end);
        match text.get(at) {
            Some(b',') => at = space(text, at + 1),
            Some(b'}') => return found.map(|found| (found, at + 1)),
            _ => return None,
        }
    }
    None
}

/// Returns the place of the first byte from `at` on that is not white space.
#[inline]
fn space(text: &[u8], at: usize) -> usize {
    let mut at = at;
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

fn fault_at(text: &[u8], at: usize, reason: &str) -> String {
    let near = &text[at.min(text.len())..text.len().min(at + 20)];
    match near {
        [] => format!("{reason} at its end"),
        near => format!("{reason} at byte {at}, before {:?}", String::from_utf8_lossy(near)),
    }
}

/// Appends a row, as JSON text for a table in memory, with only the fields in `names`. If one of
/// them is missing or null, it has all keys of the row with null for the other values, so that a
/// message can list the keys.
pub(crate) fn write_fields(row: &Fields, names: &[String], out: &mut Vec<u8>) {
    let is_null = |token: &[u8]| match token[0] {
        b'"' | b'[' | b'{' => false,
        _ => scalar(token).is_ok_and(|value| value.is_undefined()),
    };
    out.push(b'{');
    let start = out.len();
    let mut write = |name: &str, token: &[u8]| {
        if out.len() > start {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, name).expect("a text is JSON");
        out.push(b':');
        out.extend_from_slice(token);
    };
    let tokens: Option<Vec<&[u8]>> = names.iter().map(|name| row.token(name).filter(|token| !is_null(token))).collect();
    if let Some(tokens) = tokens {
        names.iter().zip(tokens).for_each(|(name, token)| write(name, token));
    } else {
        for (key, range) in row.parts.keys.iter().zip(&row.parts.values) {
            let key = key.text(&row.text);
            let is_wanted = names.iter().any(|name| *name == key);
            write(&key, if is_wanted { &row.text[range.clone()] } else { b"null" });
        }
    }
    out.push(b'}');
}

/// Parses a row as a whole.
///
/// # Errors
/// If it is not JSON.
pub(crate) fn parsed(row: &[u8]) -> Result<Json, String> {
    parse(row).map_err(|fault| format!("is not JSON: {fault}"))
}

/// Parses the whole row at once, for tables with random access. A list element that was wrapped to
/// have named fields is unwrapped again.
pub(crate) fn whole(row: &[u8]) -> Result<Value, String> {
    let value = match parsed(row)? {
        Json::Object(mut fields) if fields.len() == 1 && fields.contains_key(VALUE) => fields[VALUE].take(),
        other => other,
    };
    Ok(value_of(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::Expression;
    use crate::expression::tests::RowNamedR;

    fn row(text: &str) -> Row {
        Row::of(text.as_bytes().to_vec()).unwrap()
    }

    /// Evaluates an expression over the row `r`.
    fn run(text: &str, source: &str) -> Result<Json, String> {
        let context = RowNamedR(Fields::of(text.as_bytes().to_vec())?);
        Expression::compile(source, &["r"])?.evaluate_json(&context)
    }

    #[test]
    fn what_is_taken_apart_is_what_is_parsed_whole() {
        let many = (0..40).map(|key| format!("\"k{key}\": [{key}], ")).collect::<Vec<_>>().concat();
        let rows = [
            r"{}",
            r#" { "a" : [ 1 , -2 , 0.1 , 1e3, 18446744073709551615, 123456789012345678901 ] , "b": {"c": [ ]} } "#,
            "{\"text\": \"a \\\"q\\\" \\\\ \\u00e9 \\ud83d\\ude00 \\n/\", \"é\\t\": true, \"none\": null, \"no\": false}",
            r#"{"a": 1, "b": 2, "a": 3}"#,
            &format!("{{{many}\"k7\": \"last\"}}"),
            r#"{"nan": [NaN, -Infinity, 1e999], "half": "\ud83d", "bad": "\x"}"#,
        ];
        for text in rows {
            let text = text.trim();
            let taken = serde_json::to_value(Fields::of(text.as_bytes()).unwrap().value()).unwrap();
            assert_eq!(taken, row(text).parsed().unwrap(), "{text}");
            let keys = |value: &Json| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(&taken), keys(&row(text).parsed().unwrap()), "{text}");
        }
        let deep = |levels: usize| format!("{{\"a\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
        for levels in [100, 200, 100_000] {
            let taken = serde_json::to_value(Fields::of(deep(levels).into_bytes()).unwrap().value()).unwrap();
            assert_eq!(taken, row(&deep(levels)).parsed().unwrap(), "{levels}");
        }
    }

    #[test]
    fn values_are_as_expressions_expect_them() {
        let text = r#"{"id": 7, "list": ["b", null, "a"], "of": {"x": {"y": 2.50}}, "none": null,
            "large": 20000000000000000000000000011, "larger": 20000000000000000000000000012,
            "small": -9223372036854775809, "most": 18446744073709551615}"#;
        let cases = [
            ("r.id + 1", json!(8)),
            ("r.list | length", json!(3)),
            ("r.list[2] ~ r.list[-3]", json!("ab")),
            ("r.list | last", json!("a")),
            ("r.of.x.y", json!(2.5)),
            ("r.of == {'x': {'y': 2.5}}", json!(true)),
            ("'list' in r and 'b' in r.list", json!(true)),
            ("r.of | items | first | first", json!("x")),
            ("r | list", json!(["id", "list", "of", "none", "large", "larger", "small", "most"])),
            ("r.none | default('d')", json!("d")),
            ("r.large", json!("20000000000000000000000000011")),
            ("[r.large == r.larger, r.small, r.most]", json!([false, "-9223372036854775809", u64::MAX])),
            ("r.list | map('default', 'd') | join", json!("bda")),
        ];
        for (source, expected) in cases {
            assert_eq!(run(text, source), Ok(expected), "{source}");
        }
        let zeros = run(r#"{"a": -0, "b": [-0, -0.0]}"#, "[r.a ~ '', r.a, r.b]");
        assert_eq!(zeros, Ok(json!(["0", 0, [0, -0.0]])), "an integer, as in Python");
        assert!(run(text, "r.lst").unwrap_err().contains("its keys are id, list, of, none, large"));
    }

    #[test]
    fn what_is_broken_costs_whoever_asks_for_it() {
        let text = r#"{"id": 1, "list": [1 2], "word": tru}"#;
        assert_eq!(run(text, "r.id"), Ok(json!(1)));
        for source in ["r.list", "r.list[0]", "r.list | length", "r.word", "r.word ~ 'x'", "'a' in r.list"] {
            let found = run(text, source);
            assert!(found.as_ref().is_err_and(|fault| fault.contains("is not JSON")), "{source}: {found:?}");
        }
        for text in
            [r#"{"a": 1"#, r#"{"a": 1} 2"#, r#"{"a" 1}"#, "{a: 1}", r#"{"a": }"#, r#"{"a": [1}"#, r#"{"a": "x}"#]
        {
            assert!(Fields::of(text.as_bytes()).unwrap_err().starts_with("is not JSON"), "{text}");
        }
        for text in ["", "1, 2", "[1", "]", "\"a"] {
            assert!(Row::of(text.as_bytes().to_vec()).is_err(), "{text}");
        }
        assert_eq!(Row::of(b"[1]".to_vec()).unwrap().parsed().unwrap(), json!({"_value": [1]}));
    }

    #[test]
    fn a_table_in_memory_keeps_the_fields_that_are_asked_for() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let kept = |text: &str, asked: &[&str]| {
            let mut kept = Vec::new();
            write_fields(&Fields::of(text.as_bytes()).unwrap(), &names(asked), &mut kept);
            String::from_utf8(kept).unwrap()
        };
        let text = r#"{"id": 1, "big": [1, 2], "name": "n"}"#;
        assert_eq!(kept(text, &["id", "name"]), r#"{"id":1,"name":"n"}"#);
        assert_eq!(kept(text, &["id", "nam"]), r#"{"id":1,"big":null,"name":null}"#);
    }
}
