//! Parses JSON with the deviations from the standard that programs write: see [`python_json`].

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

/// Parses one value as [`python_json::parse`] does.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    python_json::parse(text.as_bytes()).map_err(|error| {
        let is_as_written = matches!(python_json::normalise(text.as_bytes()), Cow::Borrowed(_));
        problem(&error, is_as_written)
    })
}

fn problem(error: &serde_json::Error, is_as_written: bool) -> Problem {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let reason = message.strip_suffix(&place).unwrap_or(&message).to_owned();
    Problem { column: is_as_written.then_some(error.column()), reason }
}

#[cfg(test)]
mod tests {
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
}
