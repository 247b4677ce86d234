//! Parses JSON with the deviations from the standard that programs write: see [`python_json`]. In
//! addition, the digits of integers that fit no number type are kept.

use std::borrow::Cow;

use lynxdata_records::python_json;
use serde_json::Value;

/// The problem of a text that is not JSON.
#[derive(Debug)]
pub(super) struct Problem {
    /// The position in bytes, from 1; `None` if the text was rewritten before it was parsed.
    pub(super) column: Option<usize>,
    pub(super) reason: String,
}

/// Parses one value. Deviations from the standard are read as [`python_json::normalise`] rewrites
/// them. An integer beyond 64 bits becomes a text, because no number type holds it.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    let value = if let Ok(value) = serde_json::from_str(text) {
        value
    } else {
        let normal = python_json::normalise(text.as_bytes());
        serde_json::from_slice(&normal).map_err(|error| problem(&error, matches!(normal, Cow::Borrowed(_))))?
    };
    if !has_long_number(&value) {
        return Ok(value);
    }
    let quoted = with_quoted_integers(&python_json::normalise(text.as_bytes()));
    Ok(serde_json::from_slice(&quoted).unwrap_or(value))
}

fn problem(error: &serde_json::Error, is_as_written: bool) -> Problem {
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
    Problem { column: is_as_written.then_some(error.column()), reason }
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

fn is_long_integer(piece: &[u8]) -> bool {
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
            (r#"["\ud83d\ud83d\ude00\uZ"]"#, json!(["\u{fffd}😀\\uZ"])),
            (
                "[123456789012345678901234567890, -9223372036854775809]",
                json!(["123456789012345678901234567890", "-9223372036854775809"]),
            ),
            (
                "[18446744073709551615, 9223372036854775807, 1e30]",
                json!([18_446_744_073_709_551_615_u64, i64::MAX, 1e30]),
            ),
            ("[1e999, -1.5E+999, 1e-999]", json!([null, null, 0.0])),
            ("[infinite]", json!(null)),
            ("[NaN, 123456789012345678901234567890]", json!([null, "123456789012345678901234567890"])),
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
        assert_eq!((problem.column, problem.reason.as_str()), (None, "expected ident"));
        assert_eq!(parse(r#"{"a": 1, "b": tru}"#).unwrap_err().column, Some(18));
    }

    proptest! {
        #[test]
        fn json_of_the_standard_is_left_as_it_is(text in "(?:[\\[\\]{},:\"\\\\]|\\\\u[d][89c][0-9]{2}|NaN|-?[0-9]{1,22}|[a-zä ]{1,3}){0,12}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && !has_long_number(&value)
            {
                let quoted = with_quoted_integers(text.as_bytes());
                prop_assert_eq!(serde_json::from_slice::<Value>(&quoted).unwrap(), value.clone());
                prop_assert_eq!(parse(&text).unwrap(), value);
            }
        }
    }
}
