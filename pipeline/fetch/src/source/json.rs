//! JSON as programs write it, which is more than the standard has: Python writes `NaN` and halves
//! of characters, and integers of any length.

use std::ops::Range;

use serde_json::Value;

/// What is wrong with a text that is no JSON.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where, in bytes from 1.
    pub(super) column: usize,
    pub(super) reason: String,
}

/// Reads one value on one line. `NaN` and `Infinity` are null, an escape that is half of a
/// character is U+FFFD, and an integer beyond 64 bits is its text, since no number holds it.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    match serde_json::from_str(text) {
        Ok(value) if has_long_number(&value) => Ok(serde_json::from_str(&mended(text).0).unwrap_or(value)),
        Ok(value) => Ok(value),
        Err(_) => {
            let (mended, changes) = mended(text);
            serde_json::from_str(&mended).map_err(|error| problem(&error, &changes))
        }
    }
}

fn problem(error: &serde_json::Error, changes: &[Change]) -> Problem {
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
    let shift: isize =
        changes.iter().filter(|change| change.position < error.column()).map(|change| change.longer).sum();
    Problem { column: error.column().saturating_add_signed(-shift), reason }
}

/// From here on integers are read as floats, which may not be exact: 2 to the 64th.
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

/// A piece of the text that has another length now.
struct Change {
    /// Where it is now.
    position: usize,
    longer: isize,
}

/// The text as JSON of the standard, and what was changed in it.
fn mended(text: &str) -> (String, Vec<Change>) {
    let (mut mended, mut changes) = (String::with_capacity(text.len()), Vec::new());
    let bytes = text.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        let (length, piece) = match bytes[position] {
            b'"' => {
                let end = end_of_string(bytes, position);
                mend_string(&text[position..end], &mut mended);
                position = end;
                continue;
            }
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                let end = end_of_word(bytes, position);
                let word = &text[position..end];
                let is_integer = word.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
                let piece = match word {
                    "NaN" | "-NaN" | "Infinity" | "-Infinity" | "nan" | "inf" | "-inf" => "null".to_owned(),
                    // What has so many digits may be beyond 64 bits with sign.
                    _ if is_integer
                        && word.len() >= 19
                        && word.parse::<i64>().is_err()
                        && word.parse::<u64>().is_err() =>
                    {
                        format!("\"{word}\"")
                    }
                    // Beyond the range of floats, which the parser would refuse with the whole row.
                    _ if !is_integer && word.parse().is_ok_and(f64::is_infinite) => "null".to_owned(),
                    word => word.to_owned(),
                };
                (word.len(), piece)
            }
            _ => {
                let length = text[position..].chars().next().map_or(1, char::len_utf8);
                (length, text[position..position + length].to_owned())
            }
        };
        if piece.len() != length {
            changes.push(Change { position: mended.len(), longer: piece.len() as isize - length as isize });
        }
        mended += &piece;
        position += length;
    }
    (mended, changes)
}

fn end_of_word(bytes: &[u8], start: usize) -> usize {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
    start + bytes[start..].iter().take_while(|byte| is_word(byte)).count()
}

/// Behind the closing quote, or the end of the text if there is none.
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

/// Appends a string, with U+FFFD for each escape of half a character that has no other half.
fn mend_string(string: &str, mended: &mut String) {
    let unit = |range: Range<usize>| {
        let escape = string.get(range)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok().filter(|_| escape.len() == 4)
    };
    let mut position = 0;
    while let Some(length) = string[position..].find('\\') {
        let found = position + length;
        mended.push_str(&string[position..found]);
        let next = match unit(found..found + 6) {
            Some(0xd800..=0xdbff) if matches!(unit(found + 6..found + 12), Some(0xdc00..=0xdfff)) => found + 12,
            Some(0xd800..=0xdfff) => {
                mended.push_str("\\ufffd");
                position = found + 6;
                continue;
            }
            _ => found + 1 + string[found + 1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&string[found..next]);
        position = next;
    }
    mended.push_str(&string[position..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        for (text, expected) in [
            (r#"{"a": NaN, "b": [Infinity, -Infinity, 1]}"#, json!({"a": null, "b": [null, null, 1]})),
            (r#"{"a": "NaN", "NaN": "\"Infinity"}"#, json!({"a": "NaN", "NaN": "\"Infinity"})),
            (r#"["\ud83d", "\ud83d\ude00", "\ude00x", "\\ud83d"]"#, json!(["\u{fffd}", "😀", "\u{fffd}x", "\\ud83d"])),
            (r#"["\ud83d\ud83d\ude00\uZ"]"#, json!(null)),
            (
                "[123456789012345678901234567890, -9223372036854775809]",
                json!(["123456789012345678901234567890", "-9223372036854775809"]),
            ),
            (
                "[18446744073709551615, 9223372036854775807, 1e30]",
                json!([18_446_744_073_709_551_615_u64, i64::MAX, 1e30]),
            ),
            ("[1e999, -1.5E+999, 1e-999]", json!([null, null, 0.0])),
            ("[infinite, Inf]", json!(null)),
            (r#"{"a": ä}"#, json!(null)),
            (r#"{"a": "x"#, json!(null)),
            (r#"{"a": "x\"#, json!(null)),
        ] {
            let found = parse(text);
            if expected.is_null() {
                assert!(found.is_err(), "{text}");
            } else {
                assert_eq!(found.unwrap(), expected, "{text}");
            }
        }
        let problem = parse(r#"{"a": NaN, "b": tru}"#).unwrap_err();
        assert_eq!((problem.column, problem.reason.as_str()), (20, "expected ident"));
    }

    proptest! {
        #[test]
        fn json_of_the_standard_is_left_as_it_is(text in "(?:[\\[\\]{},:\"\\\\]|\\\\u[d][89c][0-9]{2}|NaN|-?[0-9]{1,22}|[a-zä ]{1,3}){0,12}") {
            let (mended, _) = mended(&text);
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && !has_long_number(&value)
            {
                prop_assert_eq!(serde_json::from_str::<Value>(&mended).unwrap(), value.clone());
                prop_assert_eq!(parse(&text).unwrap(), value);
            }
        }
    }
}
