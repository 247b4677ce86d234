//! Rewrites non-standard JSON, as some programs write it, as standard JSON.
//!
//! Python's `json` module writes `NaN`, `Infinity` and unpaired surrogates. Other writers leave
//! control characters and bytes of other encodings in strings. One such value must not make a whole
//! file unreadable. Integers may have more digits than any number type holds.

use std::borrow::Cow;

use serde_json::Value;

use crate::rewritten::{Rewrite, Rewritten};

/// Maximum length of a number or word that is examined, and so the maximum number of bytes that
/// wait at the end of a chunk. A double has at most 767 significant decimal digits.
const LONGEST_LITERAL: usize = 1024;

/// Maximum nesting depth of lists and objects. `serde_json` fails at 128.
pub const DEEPEST: usize = 127;

/// U+FFFD, the replacement for invalid characters.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Rewrites one JSON value as standard JSON. Valid JSON is returned unchanged. Everything that this
/// function changes would fail to parse, so callers may parse first and call this only after an
/// error.
///
/// * `NaN`, `Infinity`, `-Infinity`, their spellings in C (`nan`, `inf`), and numbers beyond the
///   range of a double become `null`;
/// * unpaired surrogates, and bytes in strings that are not UTF-8, become U+FFFD;
/// * control characters in strings are escaped, and so is a backslash that begins no escape;
/// * a list or object that is nested in 127 others becomes `null`.
pub fn normalise(json: &[u8]) -> Cow<'_, [u8]> {
    normalise_and_tell(json).0
}

/// Does the same as [`normalise`], and returns the first thing that other readers refuse.
pub fn normalise_and_tell(json: &[u8]) -> (Cow<'_, [u8]>, Option<Refused>) {
    let mut out = Vec::with_capacity(json.len() + 16);
    let mut normaliser = Normaliser::default();
    normaliser.rewrite(json, true, &mut out);
    (if out == json { Cow::Borrowed(json) } else { Cow::Owned(out) }, normaliser.refused)
}

/// Something that [`normalise`] rewrites, but that Python's `json.load` or a tokenizer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// An unpaired surrogate. Python reads it, but cannot encode it as UTF-8.
    Surrogate,
    /// A control character in a string.
    Control,
    /// A backslash that begins no escape.
    Escape,
    /// A number that is not written as in Python, such as `nan`.
    Number,
}

/// Parses one JSON value, rewritten by [`normalise`] if it is not standard JSON. An integer beyond
/// 64 bits becomes a text with its digits: as a double, it would equal other integers, and such
/// integers are ids.
///
/// # Errors
/// If it is not JSON after rewriting either.
pub fn parse(json: &[u8]) -> Result<Value, serde_json::Error> {
    parse_and_tell(json).map(|(value, _)| value)
}

/// Does the same as [`parse`], and returns the first thing that other readers refuse.
///
/// # Errors
/// As [`parse`].
pub fn parse_and_tell(json: &[u8]) -> Result<(Value, Option<Refused>), serde_json::Error> {
    let (value, refused) = if let Ok(value) = serde_json::from_slice(json) {
        (value, None)
    } else {
        let (normal, refused) = normalise_and_tell(json);
        (serde_json::from_slice(&normal)?, refused)
    };
    if !has_long_number(&value) {
        return Ok((value, refused));
    }
    let quoted = serde_json::from_slice(&with_quoted_integers(&normalise(json)));
    Ok((quoted.unwrap_or(value), refused))
}

/// 2 to the 64th. `serde_json` reads integers from here on as floats, which may not be exact.
const BEYOND_INTEGERS: f64 = 18_446_744_073_709_551_616.0;

fn has_long_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|number| number.abs() >= BEYOND_INTEGERS / 2.0)
        }
        Value::Array(values) => values.iter().any(has_long_number),
        Value::Object(values) => values.values().any(has_long_number),
        _ => false,
    }
}

/// Puts quotes around every integer beyond 64 bits.
fn with_quoted_integers(json: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(json.len() + 16);
    let mut position = 0;
    while position < json.len() {
        let end = match json[position] {
            b'"' => end_of_string(json, position),
            byte if is_of_number(byte) => {
                position + json[position..].iter().take_while(|byte| is_of_number(**byte)).count()
            }
            _ => position + 1,
        };
        let piece = &json[position..end];
        if is_long_integer(piece) {
            quoted.extend([b"\"", piece, b"\""].concat());
        } else {
            quoted.extend_from_slice(piece);
        }
        position = end;
    }
    quoted
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Returns whether the text of a JSON number is an integer beyond 64 bits.
pub fn is_long_integer(piece: &[u8]) -> bool {
    let digits = piece.strip_prefix(b"-").unwrap_or(piece);
    let integer = std::str::from_utf8(piece).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    // Integers with fewer digits fit 64 bits.
    digits.len() >= 19 && integer.is_some_and(|text| text.parse::<i64>().is_err() && text.parse::<u64>().is_err())
}

/// Returns the position after the closing quote, or the end of the text if there is none.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut position = start + 1;
    while position < bytes.len() {
        match bytes[position] {
            b'\\' => position += 2,
            b'"' => return position + 1,
            _ => position += 1,
        }
    }
    bytes.len()
}

/// A reader that rewrites JSON of any length as [`normalise`] does.
pub type Lenient<R> = Rewritten<R, Normaliser>;

/// The treatment of the bytes at the current position.
enum Piece {
    /// This number of bytes stays unchanged.
    Same(usize),
    /// This number of bytes is replaced.
    Instead(usize, Cow<'static, [u8]>, Option<Refused>),
    /// More bytes are needed to decide.
    Unfinished,
}

/// The state of the rewriting at a position in a document.
#[derive(Debug, Default)]
pub struct Normaliser {
    in_string: bool,
    /// Number of open lists and objects.
    depth: usize,
    /// The first thing so far that other readers refuse.
    refused: Option<Refused>,
}

impl Rewrite for Normaliser {
    fn rewrite(&mut self, bytes: &[u8], is_last: bool, out: &mut Vec<u8>) -> usize {
        // `bytes[from..at]` stays unchanged and is not written yet.
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let marks = if self.in_string { &IN_STRING } else { &OUTSIDE };
            at += rest.iter().position(|&byte| marks[usize::from(byte)]).unwrap_or(rest.len());
            let rest = &bytes[at..];
            let Some(&byte) = rest.first() else { break };
            let was_shown = self.is_shown();
            let piece = match byte {
                b'"' => {
                    self.in_string = !self.in_string;
                    Piece::Same(1)
                }
                b'\\' if self.in_string => escape(rest, is_last),
                ..0x20 if self.in_string => {
                    Piece::Instead(1, format!("\\u{byte:04x}").into_bytes().into(), Some(Refused::Control))
                }
                0x80.. if self.in_string => character(rest, is_last),
                b'[' | b'{' => {
                    self.depth += 1;
                    if was_shown && !self.is_shown() { Piece::Instead(1, b"null".into(), None) } else { Piece::Same(1) }
                }
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    Piece::Same(1)
                }
                _ => literal(rest, is_last),
            };
            match piece {
                Piece::Same(length) => {
                    at += length;
                    if !was_shown {
                        from = at;
                    }
                }
                Piece::Instead(length, text, refused) => {
                    self.refused = self.refused.or(refused);
                    if was_shown {
                        out.extend_from_slice(&bytes[from..at]);
                        out.extend_from_slice(&text);
                    }
                    at += length;
                    from = at;
                }
                Piece::Unfinished => break,
            }
        }
        if self.is_shown() {
            out.extend_from_slice(&bytes[from..at]);
        }
        at
    }
}

impl Normaliser {
    fn is_shown(&self) -> bool {
        self.depth <= DEEPEST
    }
}

/// Bytes in strings that need a closer look.
const IN_STRING: [bool; 256] = {
    let mut marks = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        marks[byte] = byte < 0x20 || byte >= 0x80 || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    marks
};

/// Bytes of numbers and of words such as `true`.
const LITERAL: [bool; 256] = {
    let mut marks = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        marks[byte] = character.is_ascii_alphanumeric() || matches!(character, b'+' | b'-' | b'.');
        byte += 1;
    }
    marks
};

/// Bytes outside strings that need a closer look.
const OUTSIDE: [bool; 256] = {
    let mut marks = LITERAL;
    let mut place = 0;
    let others = b"\"[]{}";
    while place < others.len() {
        marks[others[place] as usize] = true;
        place += 1;
    }
    marks
};

/// Decides what becomes of a number or a word.
fn literal(rest: &[u8], is_last: bool) -> Piece {
    let length = rest.iter().position(|&byte| !LITERAL[usize::from(byte)]);
    let length = match length {
        None if !is_last && rest.len() < LONGEST_LITERAL => return Piece::Unfinished,
        found => found.unwrap_or(rest.len()),
    };
    let word = &rest[..length];
    if length > LONGEST_LITERAL || matches!(word, b"true" | b"false" | b"null") {
        return Piece::Same(length);
    }
    // The largest double has 309 digits, so shorter numbers without an exponent are in range.
    if length < 300 && !word.iter().any(u8::is_ascii_alphabetic) {
        return Piece::Same(length);
    }
    let without_sign = word.strip_prefix(b"-").or(word.strip_prefix(b"+")).unwrap_or(word);
    let is_named = [&b"nan"[..], b"inf", b"infinity"].iter().any(|name| without_sign.eq_ignore_ascii_case(name));
    let is_beyond = || {
        let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<f64>().ok());
        number.is_some_and(f64::is_infinite)
    };
    if !is_named && !is_beyond() {
        return Piece::Same(length);
    }
    let is_of_python = !is_named || matches!(word, b"NaN" | b"Infinity" | b"-Infinity");
    Piece::Instead(length, b"null".into(), (!is_of_python).then_some(Refused::Number))
}

/// The result of reading the escape of one UTF-16 unit, such as `\u00e9`.
enum Unit {
    Is(u16),
    Unfinished,
    No,
}

fn unit(bytes: &[u8]) -> Unit {
    let mut value = 0;
    for place in 0..6 {
        let Some(&byte) = bytes.get(place) else { return Unit::Unfinished };
        match (place, byte, char::from(byte).to_digit(16)) {
            (0, b'\\', _) | (1, b'u', _) => {}
            (2.., _, Some(digit)) => value = value << 4 | digit as u16,
            _ => return Unit::No,
        }
    }
    Unit::Is(value)
}

/// Decides what becomes of a backslash and the bytes after it.
fn escape(rest: &[u8], is_last: bool) -> Piece {
    let no_character = Piece::Instead(6, REPLACEMENT.into(), Some(Refused::Surrogate));
    match unit(rest) {
        Unit::Is(0xD800..0xDC00) => match unit(&rest[6..]) {
            Unit::Is(0xDC00..0xE000) => Piece::Same(12),
            Unit::Unfinished if !is_last => Piece::Unfinished,
            _ => no_character,
        },
        Unit::Is(0xDC00..0xE000) => no_character,
        Unit::Is(_) => Piece::Same(6),
        Unit::Unfinished if !is_last => Piece::Unfinished,
        Unit::Unfinished | Unit::No => match rest.get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Piece::Same(2),
            _ => Piece::Instead(1, b"\\\\".into(), Some(Refused::Escape)),
        },
    }
}

/// Decides what becomes of a run of bytes of 0x80 and above.
fn character(rest: &[u8], is_last: bool) -> Piece {
    let end = rest.iter().position(u8::is_ascii).unwrap_or(rest.len());
    match std::str::from_utf8(&rest[..end]) {
        Ok(_) => Piece::Same(end),
        Err(fault) => match (fault.valid_up_to(), fault.error_len()) {
            (0, Some(length)) => Piece::Instead(length, REPLACEMENT.into(), Some(Refused::NotUtf8)),
            (0, None) if !is_last && end == rest.len() => Piece::Unfinished,
            (0, None) => Piece::Instead(end, REPLACEMENT.into(), Some(Refused::NotUtf8)),
            (valid, _) => Piece::Same(valid),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::rewritten::CHUNK;
    use crate::rewritten::tests::Drip;

    fn dripped(json: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Lenient::new(Drip(json)).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn what_the_standard_does_not_know_becomes_what_it_knows() {
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        let digits = ["9".repeat(400), format!("-{}.5", "9".repeat(400)), "1e999".to_owned()].join(",");
        let cases: [(&[u8], &[u8]); 20] = [
            (b"{\"a\": NaN, \"b\":[Infinity,-Infinity]}", b"{\"a\": null, \"b\":[null,null]}"),
            (b"[nan,-nan,inf,-inf,INF,+Infinity]", b"[null,null,null,null,null,null]"),
            (format!("[{digits},1e9]").as_bytes().to_vec().leak(), b"[null,null,null,1e9]"),
            (b"NaN", b"null"),
            (b"\"NaN, Infinity\"", b"\"NaN, Infinity\""),
            (b"\"\\ud83d ?\"", "\"\u{FFFD} ?\"".as_bytes()),
            (b"\"\\ud83d\"", "\"\u{FFFD}\"".as_bytes()),
            (b"\"\\uDE00\\uD83D\"", "\"\u{FFFD}\u{FFFD}\"".as_bytes()),
            (b"\"\\ud83d\\ud83d\\ude00\"", "\"\u{FFFD}\\ud83d\\ude00\"".as_bytes()),
            (b"\"\\ud83d\\n\\\\ud83d\"", "\"\u{FFFD}\\n\\\\ud83d\"".as_bytes()),
            (b"\"\\ud83d\\u00e9\"", "\"\u{FFFD}\\u00e9\"".as_bytes()),
            (b"\"caf\xE9\"", "\"caf\u{FFFD}\"".as_bytes()),
            (b"\"\xE2\x82\"", "\"\u{FFFD}\"".as_bytes()),
            (b"\"\xC3\xA9\xFF\xC3\xA9\"", "\"\u{e9}\u{FFFD}\u{e9}\"".as_bytes()),
            (b"\"a\tb\x00c\"", b"\"a\\u0009b\\u0000c\""),
            (b"\"C:\\data \\x41 \\u12 \\'\"", b"\"C:\\\\data \\\\x41 \\\\u12 \\\\'\""),
            (deep(127).leak(), deep(127).leak()),
            (deep(129).leak(), [vec![b'['; 127], b"null".to_vec(), vec![b']'; 127]].concat().leak()),
            (
                [deep(128), b"{\"a\": [\"]\", NaN]}".to_vec()].concat().leak(),
                [vec![b'['; 127], b"null".to_vec(), vec![b']'; 127], b"{\"a\": [\"]\", null]}".to_vec()]
                    .concat()
                    .leak(),
            ),
            (b"", b""),
        ];
        for (json, expected) in cases {
            let shown = String::from_utf8_lossy(json).into_owned();
            assert_eq!(String::from_utf8_lossy(&normalise(json)), String::from_utf8_lossy(expected), "{shown}");
            assert_eq!(String::from_utf8_lossy(&dripped(json)), String::from_utf8_lossy(expected), "{shown}, dripped");
        }
    }

    #[test]
    fn what_other_readers_refuse_is_told() {
        let cases: [(&[u8], Option<Refused>); 9] = [
            (b"[NaN, Infinity, -Infinity, 1e999]", None),
            (b"\"\\ud83d\\ude00 \xC3\xA9\"", None),
            (b"[NaN, \"\\ud83d\", \"caf\xE9\"]", Some(Refused::Surrogate)),
            (b"[\"caf\xE9\"]", Some(Refused::NotUtf8)),
            (b"\"\xE2\x82\"", Some(Refused::NotUtf8)),
            (b"\"a\tb\"", Some(Refused::Control)),
            (b"\"C:\\data\"", Some(Refused::Escape)),
            (b"[nan]", Some(Refused::Number)),
            (b"[+Infinity]", Some(Refused::Number)),
        ];
        for (json, expected) in cases {
            assert_eq!(normalise_and_tell(json).1, expected, "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn good_json_stays_as_it_is() {
        let value = json!({
            "text": "a \"quoted\" \\ / \u{1F600} \u{7f} \u{0} é 中文\n", "numbers": [0, -1, 1.5e-300, u64::MAX, i64::MIN, 0.1],
            "words": [true, false, null], "empty": {"": [[], {}]}
        });
        for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), r#"["😀é"]"#.into()] {
            assert!(matches!(normalise(json.as_bytes()), Cow::Borrowed(_)), "{json}");
            assert_eq!(dripped(json.as_bytes()), json.as_bytes());
        }
    }

    #[test]
    fn documents_longer_than_a_chunk_are_read_whole() {
        // Elements of 13 bytes stand at every place of a chunk's end.
        let count = 4 * CHUNK / 13;
        let document = format!("[{}\"\"]", "NaN,\"\\ud83d\",".repeat(count));
        let lenient = BufReader::new(Lenient::new(document.as_bytes()));
        let values: Vec<Value> = serde_json::from_reader(lenient).unwrap();
        assert_eq!(values.len(), 2 * count + 1);
        assert!(values.chunks_exact(2).all(|pair| pair == [Value::Null, json!("\u{FFFD}")]));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_become_the_same_however_they_are_cut(
            pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..40)
        ) {
            let json = pieces.concat();
            let whole = normalise(&json).into_owned();
            proptest::prop_assert_eq!(&dripped(&json), &whole);
            let again = normalise(&whole).into_owned();
            proptest::prop_assert_eq!(again, whole, "once is enough");
        }
    }

    /// The parts of documents, in no order.
    const PIECES: &[&[u8]] = &[
        b"\"",
        b"\\",
        b"u",
        b"\\ud83d",
        b"\\ude00",
        b"\\u00",
        b"e9",
        b"NaN",
        b"-",
        b"Infinity",
        b"1e999",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b" ",
        b"\n",
        b"\x00",
        b"\x80",
        b"\xC3",
        b"\xA9",
        b"\xF0\x9F\x98\x80",
        b"\xED\xA0\xBD",
        b"\xFF",
    ];

    proptest! {
        #[test]
        fn json_of_the_standard_is_left_as_it_is(text in "(?:[\\[\\]{},:\"\\\\]|\\\\u[d][89c][0-9]{2}|NaN|-?[0-9]{1,22}|[a-zä ]{1,3}){0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && !has_long_number(&value)
            {
                let quoted = with_quoted_integers(text.as_bytes());
                prop_assert_eq!(serde_json::from_slice::<Value>(&quoted).unwrap(), value.clone());
                prop_assert_eq!(parse(text.as_bytes()).unwrap(), value);
            }
        }
    }
}
