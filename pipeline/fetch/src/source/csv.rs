//! Splits records of delimited text into fields (RFC 4180). Fields may be quoted, and quoted fields
//! may hold separators and line ends.

use std::ops::Range;

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// A part of the record's text.
    Part(Range<usize>),
    /// A separate text, from which escapes were removed.
    Own(Vec<u8>),
}

impl Field {
    pub(super) fn bytes<'a>(&'a self, record: &'a [u8]) -> &'a [u8] {
        match self {
            Field::Part(range) => &record[range.clone()],
            Field::Own(bytes) => bytes,
        }
    }
}

/// The way in which a quote inside a quoted field is escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// By doubling it, as in RFC 4180.
    Doubled,
    /// By doubling it, or with a backslash before it, as Spark and MySQL write it. A backslash is
    /// then escaped with a backslash too.
    Backslash,
}

/// Whether a record is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The text ends within quotes, so the next line belongs to the record.
    Open,
    /// The record is complete.
    Complete,
}

/// A record that is being split, line by line.
#[derive(Debug)]
pub(super) struct Record {
    separator: u8,
    escape: Escape,
    pub(super) fields: Vec<Field>,
    /// Whether every quote that opens a field is closed at the end of the field.
    pub(super) is_strict: bool,
    /// Whether a quote is escaped with a backslash, in [`Escape::Backslash`] mode.
    pub(super) has_backslashes: bool,
    position: usize,
    /// Start of the content of the current quoted field; `None` outside of quotes.
    quoted: Option<usize>,
    has_escapes: bool,
}

impl Record {
    pub(super) fn new(separator: u8, escape: Escape) -> Record {
        Record {
            separator,
            escape,
            fields: Vec::new(),
            is_strict: true,
            has_backslashes: false,
            position: 0,
            quoted: None,
            has_escapes: false,
        }
    }

    /// Resets the state for another record.
    pub(super) fn begin(&mut self, escape: Escape) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Record { fields, ..Record::new(self.separator, escape) };
    }

    /// Continues the record. `text` is all of the record that has been read, without the end of its
    /// last line.
    pub(super) fn extend(&mut self, text: &[u8]) -> State {
        loop {
            if self.quoted.is_none() && text.get(self.position) != Some(&b'"') {
                let end = self.end_of_field(text, self.position);
                self.fields.push(Field::Part(self.position..end));
                if end == text.len() {
                    return State::Complete;
                }
                self.position = end + 1;
                continue;
            }
            let start = *self.quoted.get_or_insert_with(|| {
                self.has_escapes = false;
                self.position += 1;
                self.position
            });
            let Some(end) = self.closing_quote(text) else { return State::Open };
            self.quoted = None;
            let content = start..end;
            let after = self.end_of_field(text, end + 1);
            if after > end + 1 {
                // As in other readers, the text after the closing quote is part of the field,
                // unchanged.
                self.is_strict = false;
                let mut field = self.unescaped(&text[content]);
                field.extend_from_slice(&text[end + 1..after]);
                self.fields.push(Field::Own(field));
            } else if self.has_escapes {
                self.fields.push(Field::Own(self.unescaped(&text[content])));
            } else {
                self.fields.push(Field::Part(content));
            }
            if after == text.len() {
                return State::Complete;
            }
            self.position = after + 1;
        }
    }

    fn end_of_field(&self, text: &[u8], start: usize) -> usize {
        text[start..].iter().position(|byte| *byte == self.separator).map_or(text.len(), |length| start + length)
    }

    /// Returns the position of the closing quote of the current field; `None` if there is none, and
    /// `position` is then at the end of the text.
    fn closing_quote(&mut self, text: &[u8]) -> Option<usize> {
        let is_special = |byte: &u8| *byte == b'"' || (*byte == b'\\' && self.escape == Escape::Backslash);
        while let Some(length) = text[self.position..].iter().position(is_special) {
            let found = self.position + length;
            let next = text.get(found + 1);
            if next == Some(&b'"') || (text[found] == b'\\' && next == Some(&b'\\')) {
                self.has_escapes = true;
                self.has_backslashes |= text[found] == b'\\' && next == Some(&b'"');
                self.position = found + 2;
            } else if text[found] == b'"' {
                return Some(found);
            } else {
                self.position = found + 1;
            }
        }
        self.position = text.len();
        None
    }

    fn unescaped(&self, content: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(content.len());
        let mut bytes = content.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let escaped = match byte {
                b'"' => bytes.next_if_eq(&b'"'),
                b'\\' if self.escape == Escape::Backslash => bytes.next_if(|next| matches!(next, b'"' | b'\\')),
                _ => None,
            };
            plain.push(escaped.unwrap_or(byte));
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of a record, and whether it is strict; `None` if it is not complete.
    fn fields(escape: Escape, text: &str) -> Option<(Vec<String>, bool)> {
        let mut record = Record::new(b',', escape);
        if record.extend(text.as_bytes()) == State::Open {
            return None;
        }
        let text = |field: &Field| String::from_utf8(field.bytes(text.as_bytes()).to_vec()).unwrap();
        Some((record.fields.iter().map(text).collect(), record.is_strict))
    }

    #[test]
    fn records_are_taken_apart_as_other_readers_do_it() {
        for (text, expected, is_strict) in [
            ("", &[""][..], true),
            ("a,,b", &["a", "", "b"], true),
            ("a,", &["a", ""], true),
            (r#""a","b,c",d"#, &["a", "b,c", "d"], true),
            (r#""a ""b""","#, &[r#"a "b""#, ""], true),
            (r#"5" pizza, "x""#, &[r#"5" pizza"#, r#" "x""#], true),
            (r#""a" and "b",c"#, &[r#"a and "b""#, "c"], false),
            (r#""C:\","x""#, &[r"C:\", "x"], true),
        ] {
            let expected = expected.iter().map(|field| (*field).to_owned()).collect();
            assert_eq!(fields(Escape::Doubled, text), Some((expected, is_strict)), "{text}");
        }
        for open in ["\"a", "a,\"b,\"\"", "\""] {
            assert_eq!(fields(Escape::Doubled, open), None, "{open}");
        }
        let backslashes = fields(Escape::Backslash, r#""a \"b\", c","d\\","e\n""f""""#);
        let expected = [r#"a "b", c"#, r"d\", r#"e\n"f""#].map(str::to_owned).to_vec();
        assert_eq!(backslashes, Some((expected, true)));
    }

    #[test]
    fn a_record_goes_on_with_the_next_line() {
        let text = b"\"a \"\"\nb\\\n\",\"c\n\"";
        for escape in [Escape::Doubled, Escape::Backslash] {
            let mut record = Record::new(b',', escape);
            for end in [5, 8, 12] {
                assert_eq!(record.extend(&text[..end]), State::Open, "{end}");
            }
            assert_eq!(record.extend(text), State::Complete);
            let fields: Vec<&[u8]> = record.fields.iter().map(|field| field.bytes(text)).collect();
            assert_eq!(fields, [&b"a \"\nb\\\n"[..], b"c\n"]);
        }
    }
}
