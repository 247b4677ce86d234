//! Rows of SGML and HTML, which need not be well formed, such as TREC documents and tables in web
//! pages.

use std::io::BufRead;

use serde_json::{Map, Value, json};

use super::{Emit, Shape, Source};

/// The maximum size of a row, in bytes of its values, so that a file without the tag is not read
/// into memory.
const LONGEST_ROW: usize = 1 << 24;

/// The maximum size of a tag, in bytes. A `<` without a `>` within this length is text.
const LONGEST_TAG: usize = 1 << 16;

/// Reads one row for every start tag with the name `at`. A row covers everything up to the next
/// such tag. Its fields are the attributes of the tag and the texts, named after the tags around
/// them; several texts with one name are a list. Names are in lower case, because both languages
/// ignore case. Tags need not be closed, and formatting tags, such as `<b>`, do not split a text.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    if source.shape != Shape::List || source.table.at.is_empty() {
        return Err("set `at` to the name of the tag that begins a row".to_owned());
    }
    let at = source.table.at.to_ascii_lowercase();
    let mut parts = Parts { input: source.text()?, is_raw: None };
    let mut open: Vec<String> = Vec::new();
    let mut row: Option<Row> = None;
    let mut number = 0;
    while let Some(part) = parts.next()? {
        match part {
            Part::Text(text) => {
                if let Some(row) = &mut row {
                    row.push(open.last().map_or(&at, |name| name), &text)?;
                }
            }
            Part::Start(name, attributes) if name == at => {
                if let Some(row) = row.take() {
                    if emit(number, Ok(row.end().into())).is_break() {
                        return Ok(());
                    }
                    number += 1;
                }
                open = vec![name];
                row = Some(Row { fields: attributes, ..Row::default() });
            }
            Part::Start(name, _) if FORMATTING.contains(&name.as_str()) => {}
            Part::Start(name, _) => {
                if let Some(row) = &mut row {
                    row.close();
                }
                if !EMPTY.contains(&name.as_str()) {
                    open.push(name);
                }
            }
            Part::End(name) => {
                // An end tag without a start tag is ignored.
                if let Some(place) = open.iter().rposition(|own| *own == name) {
                    open.truncate(place);
                    if let Some(row) = &mut row {
                        row.close();
                    }
                }
            }
        }
        if open.len() > DEEPEST {
            return Err("tags are nested too deep".to_owned());
        }
    }
    match row {
        Some(row) => drop(emit(number, Ok(row.end().into()))),
        None => return Err(format!("there is no tag <{at}>")),
    }
    Ok(())
}

/// The maximum nesting depth of tags, so that no input exhausts the memory.
const DEEPEST: usize = 1 << 12;

/// HTML tags that do not split a text.
const FORMATTING: &[&str] = &["a", "b", "em", "font", "i", "small", "span", "strong", "sub", "sup", "u"];

/// HTML tags without an end tag.
const EMPTY: &[&str] = &["area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"];

/// A row that is not complete yet.
#[derive(Default)]
struct Row {
    fields: Map<String, Value>,
    /// The text that is not complete yet, and the name of its tag.
    text: Option<(String, String)>,
    length: usize,
}

impl Row {
    fn push(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.length += text.len();
        if self.length > LONGEST_ROW {
            return Err(format!("a row is longer than {LONGEST_ROW} bytes; is `at` right?"));
        }
        match &mut self.text {
            Some((_, own)) => own.push_str(text),
            None => self.text = Some((name.to_owned(), text.to_owned())),
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some((name, text)) = self.text.take() else { return };
        // Both languages treat runs of white space as one space.
        let text = unescaped(&text.split_whitespace().collect::<Vec<_>>().join(" "));
        if text.is_empty() {
            return;
        }
        match self.fields.get_mut(&name) {
            None => drop(self.fields.insert(name, json!(text))),
            Some(Value::Array(list)) => list.push(json!(text)),
            Some(first) => *first = json!([first.take(), text]),
        }
    }

    fn end(mut self) -> Value {
        self.close();
        Value::Object(self.fields)
    }
}

/// Replaces numeric and the most common named character references; others stay unchanged.
fn unescaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        result.push_str(&rest[..start]);
        rest = &rest[start..];
        // The longest name here has four characters, the largest number seven.
        let end = rest.char_indices().take(10).find(|(_, character)| *character == ';').map(|(place, _)| place);
        let (character, length) = end.and_then(|end| Some((named(&rest[1..end])?, end + 1))).unwrap_or(('&', 1));
        result.push(character);
        rest = &rest[length..];
    }
    result + rest
}

fn named(name: &str) -> Option<char> {
    let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => {
            let digits = name.strip_prefix('#')?;
            match digits.strip_prefix(['x', 'X']) {
                Some(digits) => number(digits, 16),
                None => number(digits, 10),
            }
        }
    }
}

/// A part of a markup document.
enum Part {
    Text(String),
    Start(String, Map<String, Value>),
    End(String),
}

struct Parts<R> {
    input: R,
    /// The name of the open script or style tag, up to whose end everything is skipped.
    is_raw: Option<String>,
}

impl<R: BufRead> Parts<R> {
    /// Returns the next part. Comments, declarations, scripts and styles are skipped.
    fn next(&mut self) -> Result<Option<Part>, String> {
        loop {
            let bytes = self.input.fill_buf().map_err(|fault| fault.to_string())?;
            match bytes.first() {
                None => {
                    return match &self.is_raw {
                        None => Ok(None),
                        Some(name) => Err(format!("a tag <{name}> has no end tag, so it hides the rest of the file")),
                    };
                }
                Some(b'<') => {
                    self.input.consume(1);
                    if let Some(part) = self.tag()? {
                        return Ok(Some(part));
                    }
                }
                Some(_) => {
                    let length = bytes.iter().position(|byte| *byte == b'<').unwrap_or(bytes.len());
                    let mut text = bytes[..length].to_vec();
                    self.input.consume(length);
                    // A buffer may end inside a character.
                    while std::str::from_utf8(&text).is_err_and(|fault| fault.error_len().is_none()) {
                        let more = self.input.fill_buf().map_err(|fault| fault.to_string())?;
                        let Some(&byte) = more.first() else { break };
                        text.push(byte);
                        self.input.consume(1);
                    }
                    if self.is_raw.is_none() {
                        return Ok(Some(Part::Text(String::from_utf8_lossy(&text).into_owned())));
                    }
                }
            }
        }
    }

    /// Reads the part that begins with a `<`.
    fn tag(&mut self) -> Result<Option<Part>, String> {
        let mut tag = Vec::new();
        let mut quote = None;
        loop {
            let bytes = self.input.fill_buf().map_err(|fault| fault.to_string())?;
            let Some(&byte) = bytes.first() else { return Ok(self.text_of(&tag)) };
            let begins_a_name = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?');
            if tag.is_empty() && !begins_a_name(byte) || tag.len() > LONGEST_TAG {
                return Ok(self.text_of(&tag));
            }
            self.input.consume(1);
            let is_comment = tag.starts_with(b"!--");
            let is_end =
                if is_comment { byte == b'>' && tag.ends_with(b"--") } else { byte == b'>' && quote.is_none() };
            if is_end {
                break;
            }
            let may_quote = !is_comment && (quote == Some(byte) || quote.is_none() && tag.ends_with(b"="));
            if may_quote && matches!(byte, b'"' | b'\'') {
                quote = if quote.is_some() { None } else { Some(byte) };
            }
            tag.push(byte);
        }
        let tag = String::from_utf8_lossy(&tag);
        if tag.starts_with(['!', '?']) {
            return Ok(None);
        }
        if let Some(name) = tag.strip_prefix('/') {
            let name = name.trim().to_ascii_lowercase();
            if self.is_raw.as_ref().is_some_and(|raw| *raw != name) {
                return Ok(None);
            }
            self.is_raw = None;
            return Ok(Some(Part::End(name)));
        }
        if self.is_raw.is_some() {
            return Ok(None);
        }
        let (name, attributes) = attributes(&tag);
        self.is_raw = matches!(name.as_str(), "script" | "style").then(|| name.clone());
        Ok(Some(Part::Start(name, attributes)))
    }

    /// Returns a `<` that does not begin a tag as text.
    fn text_of(&self, tag: &[u8]) -> Option<Part> {
        self.is_raw.is_none().then(|| Part::Text(format!("<{}", String::from_utf8_lossy(tag))))
    }
}

/// Splits a start tag into its name and attributes.
fn attributes(tag: &str) -> (String, Map<String, Value>) {
    let tag = tag.trim_end_matches('/');
    let (name, mut rest) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
    let mut found = Map::new();
    loop {
        rest = rest.trim_start();
        let end = rest.find(|character: char| character == '=' || character.is_whitespace()).unwrap_or(rest.len());
        let key = rest[..end].to_ascii_lowercase();
        if key.is_empty() && rest.len() == end {
            return (name.to_ascii_lowercase(), found);
        }
        rest = rest[end..].trim_start();
        let mut value = "";
        if let Some(after) = rest.strip_prefix('=') {
            let after = after.trim_start();
            let quote = after.chars().next().filter(|character| matches!(character, '"' | '\''));
            (value, rest) = match quote {
                Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
                None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
            };
        }
        if !key.is_empty() {
            found.insert(key, json!(unescaped(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    fn read_all(document: &[u8], more: &str) -> Result<Vec<Value>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.html"), document).unwrap();
        let found = rows(folder.path(), &format!("file = \"a.html\"\nformat = \"markup\"\n{more}"), Shape::List);
        found.map(|rows| rows.into_iter().map(|(.., row)| row).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_begins_at_every_tag_and_texts_go_by_the_name_of_theirs() {
        let page = b"<!DOCTYPE html><title>Pictures</title><!-- <img src='no'> -->\n<script>if (a<b) '<img>'</script>\
            <table><tr><td><IMG SRC=\"bird/1.jpg\" alt=x></td><td><table><tbody><tr><td> A <b>red</b>\n bird &amp; a cat.</td></tr>\n\
            <tr><td>Two &lt;3 &unknown; 5 < 6.<tr><td></table></td></tr><tr><td><img src=cat/2.jpg/></td><td>One.</td>";
        let first = json!({"src": "bird/1.jpg", "alt": "x", "td": ["A red bird & a cat.", "Two <3 &unknown; 5 < 6."]});
        let second = json!({"src": "cat/2.jpg", "td": "One."});
        assert_eq!(read_all(page, "at = \"img\"").unwrap(), [first, second]);
    }

    #[test]
    fn documents_of_sgml_are_read_in_their_encoding() {
        let document =
            b"<DOC>\n<DOCNO>00/25.eng</DOCNO>\n<TITLE></TITLE>\n<LOCATION>Cuzco & Per\xFA</LOCATION>\n</DOC>\n";
        let found = read_all(document, "at = \"DOC\"\nencoding = \"latin1\"").unwrap();
        assert_eq!(found, [json!({"docno": "00/25.eng", "location": "Cuzco & Perú"})]);
    }

    #[test]
    fn faults_are_told_and_no_bytes_make_it_panic() {
        assert!(read_all(b"<p>x</p>", "at = \"img\"").unwrap_err().contains("there is no tag <img>"));
        assert!(read_all(b"<img>", "").unwrap_err().contains("set `at`"));
        let fault = read_all(b"<img><p>x</p><script>if (a<b) {}<img><p>y</p>", "at = \"img\"").unwrap_err();
        assert!(fault.contains("<script> has no end tag"), "{fault}");
        assert!(read_all("<p><q>".repeat(5000).as_bytes(), "at = \"img\"").unwrap_err().contains("too deep"));
        let page = "<img src='ü' a = \"b\" c d=><p>é &#233; &#xE9; &#x110000; &; </p><![x]></ q><".as_bytes();
        for length in 0..=page.len() {
            let _ = read_all(&page[..length], "at = \"img\"");
        }
        let whole = read_all(page, "at = \"img\"").unwrap();
        assert_eq!(whole, [json!({"src": "ü", "a": "b", "c": "", "d": "", "p": "é é é &#x110000; &;", "img": "<"})]);
    }
}
