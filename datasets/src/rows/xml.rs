//! Rows of XML documents, such as the annotations of Pascal VOC.

use std::io::BufRead;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value, json};

use super::{Emit, Shape, Source};

/// The maximum nesting depth of elements, so that no input exhausts the memory.
const DEEPEST: usize = 128;

/// Reads the elements at the table's `at`, a path of names from the root element, or with `shape =
/// "whole"` the root element as one row. One row is in memory at a time.
///
/// Attributes and children become fields, and several children with one name become a list. An
/// element with only text becomes that text; otherwise its text becomes the field `_text`. All
/// values are texts. Entities that the document type defines are not known: a row with one is
/// unreadable.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let mut path: Vec<&str> = source.table.at.split('.').filter(|step| !step.is_empty()).collect();
    match (source.shape, path.is_empty()) {
        (Shape::Whole, _) => path.clear(),
        (Shape::List, false) => {}
        (Shape::List, true) => return Err("set `at` to the path of the rows, or `shape` to \"whole\"".to_owned()),
        (Shape::Map | Shape::Columns, _) => return Err("the `shape` of XML must be list or whole".to_owned()),
    }
    let mut reader = Reader::from_reader(source.text()?);
    let outcome = walk(&mut reader, &path, source.shape, emit);
    outcome.map_err(|reason| format!("byte {}: {reason}", reader.buffer_position()))
}

/// An open element.
struct Open {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

fn walk<R: BufRead>(reader: &mut Reader<R>, path: &[&str], shape: Shape, emit: &mut Emit) -> Result<(), String> {
    let mut buffer = Vec::new();
    // The names of the elements above a row, and the open elements of the row.
    let (mut above, mut open): (Vec<String>, Vec<Open>) = (Vec::new(), Vec::new());
    let mut number = 0;
    // Why the open row cannot be read.
    let mut fault: Option<String> = None;
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|fault| fault.to_string())?;
        let (start, is_empty) = match &event {
            Event::Start(start) => (Some(start), false),
            Event::Empty(start) => (Some(start), true),
            _ => (None, false),
        };
        if let Some(start) = start {
            let (element, unknown) = opened(start)?;
            let is_row = if shape == Shape::Whole {
                above.is_empty()
            } else {
                above.len() + 1 == path.len()
                    && above.iter().zip(path).all(|(own, step)| own == step)
                    && path.last() == Some(&element.name.as_str())
            };
            if open.is_empty() && !is_row {
                if !is_empty {
                    above.push(element.name);
                }
                continue;
            }
            open.push(element);
            fault = fault.or(unknown);
            if open.len() > DEEPEST {
                return Err("elements are nested too deep".to_owned());
            }
        }
        match event {
            Event::End(_) if open.is_empty() => {
                above.pop();
            }
            Event::End(_) | Event::Empty(_) => {
                let element = open.pop().expect("an element was opened");
                let name = element.name.clone();
                let value = closed(element);
                if let Some(parent) = open.last_mut() {
                    add(&mut parent.fields, name, value);
                    continue;
                }
                let row = if value.is_object() { value } else { json!({ "_value": value }) };
                if emit(number, fault.take().map_or_else(|| Ok(row.into()), Err)).is_break() {
                    return Ok(());
                }
                number += 1;
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|fault| fault.to_string())?;
                push(&mut open, &text);
            }
            Event::CData(text) => {
                let text = text.decode().map_err(|fault| fault.to_string())?;
                push(&mut open, &text);
            }
            Event::GeneralRef(name) => {
                let character = name.resolve_char_ref().map_err(|fault| fault.to_string())?;
                let name = name.decode().map_err(|fault| fault.to_string())?;
                match (character, quick_xml::escape::resolve_predefined_entity(&name)) {
                    (Some(character), _) => push(&mut open, character.encode_utf8(&mut [0; 4])),
                    (None, Some(text)) => push(&mut open, text),
                    (None, None) if open.is_empty() => {}
                    (None, None) => fault = fault.or_else(|| Some(unknown_entity(&format!("&{name};")))),
                }
            }
            Event::Eof if above.is_empty() && open.is_empty() => return Ok(()),
            Event::Eof => return Err("the document is cut short".to_owned()),
            _ => {}
        }
    }
}

/// Returns why a row with an entity that is none of XML's own five cannot be read. Its text is in
/// the document type, or in another file that this one names.
fn unknown_entity(text: &str) -> String {
    format!("has the entity {text}, which is not one of XML's own; write its text in its place")
}

fn push(open: &mut [Open], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

/// Returns an element as its start tag has it, and why the tag cannot be read, if it cannot.
fn opened(start: &BytesStart) -> Result<(Open, Option<String>), String> {
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut fields, mut unknown) = (Map::new(), None);
    // Repeated attribute names become a list. The check for duplicates is off because it is
    // quadratic in their number (RUSTSEC-2026-0194).
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|fault| fault.to_string())?;
        let raw = String::from_utf8_lossy(&attribute.value).into_owned();
        match quick_xml::escape::unescape(&raw) {
            Ok(value) => add(&mut fields, name(attribute.key.as_ref()), json!(value)),
            Err(quick_xml::escape::EscapeError::UnrecognizedEntity(_, entity)) => {
                unknown = unknown.or_else(|| Some(unknown_entity(&format!("&{entity};"))));
            }
            // A `&` alone is common, and means itself.
            Err(_) => add(&mut fields, name(attribute.key.as_ref()), json!(raw)),
        }
    }
    Ok((Open { name: name(start.name().as_ref()), fields, text: String::new() }, unknown))
}

fn closed(element: Open) -> Value {
    let text = element.text.trim();
    if element.fields.is_empty() {
        return json!(text);
    }
    let mut fields = element.fields;
    if !text.is_empty() {
        fields.insert("_text".to_owned(), json!(text));
    }
    Value::Object(fields)
}

/// Adds a field. Several values with one name become a list.
fn add(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        None => drop(fields.insert(name, value)),
        Some(Value::Array(list)) => list.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    fn read_all(document: &str, more: &str, shape: Shape) -> Result<Vec<Value>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.xml"), document).unwrap();
        let found = rows(folder.path(), &format!("file = \"a.xml\"\n{more}"), shape);
        found.map(|rows| rows.into_iter().map(|(.., row)| row).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_annotation_of_voc_is_one_row() {
        let document = "<?xml version=\"1.0\"?>\n<annotation><!-- note --><filename>a.jpg</filename>\
            <size><width>500</width></size><object><name>dog &amp; cat &#233;</name></object>\
            <object id='1'>x<name>b</name></object><empty/></annotation>";
        let expected = json!({
            "filename": "a.jpg", "size": {"width": "500"}, "empty": "",
            "object": [{"name": "dog & cat é"}, {"id": "1", "_text": "x", "name": "b"}],
        });
        assert_eq!(read_all(document, "", Shape::Whole).unwrap(), [expected]);
    }

    #[test]
    fn elements_at_a_path_are_rows() {
        let document = "<set><head><item>no</item></head><list><item k=\"&lt;1\" l='a' l='b'/><other/><item>two</item></list></set>";
        let found = read_all(document, "at = \"set.list.item\"", Shape::List).unwrap();
        assert_eq!(found, [json!({"k": "<1", "l": ["a", "b"]}), json!({"_value": "two"})]);
    }

    #[test]
    fn a_row_with_an_entity_of_the_document_type_is_unreadable() {
        let document = "<!DOCTYPE s [<!ENTITY b \"text\">]><s>&b;<i>&b; x</i><i k='&b;'/><i k='a & b'>&lt;</i></s>";
        let found = read_all(document, "at = \"s.i\"", Shape::List).unwrap();
        let is_told = |row: &Value| row["unreadable"].as_str().is_some_and(|why| why.contains("the entity &b;"));
        assert!(is_told(&found[0]) && is_told(&found[1]), "{found:?}");
        assert_eq!(found[2], json!({"k": "a & b", "_text": "<"}));
    }

    #[test]
    fn faults_name_the_place() {
        let fault = |document: &str, more: &str| read_all(document, more, Shape::List).unwrap_err();
        assert!(fault("<a></a>", "").contains("set `at`"));
        assert!(fault("<a><b>", "at = \"a.b\"").contains("cut short"));
        assert!(fault("<a><b></c></a>", "at = \"a.b\"").contains("byte "));
        assert!(fault(&"<a>".repeat(1000), "at = \"a\"").contains("too deep"));
    }
}
