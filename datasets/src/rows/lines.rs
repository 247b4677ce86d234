//! Rows that are lines: JSON values or plain text.

use std::io::BufRead;
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::Emit;
use super::row::Row;
use crate::rows::table::Table;

/// Reads one JSON value per line. Blank lines are skipped, and a broken line becomes one unreadable
/// row.
pub(super) fn read_json(input: impl BufRead, emit: &mut Emit) -> Result<(), String> {
    each_line(input, &mut |number, line| {
        let row = Row::of(line.trim_ascii_start().to_vec());
        emit(number, row.map_err(|fault| format!("is not JSON: {fault}")))
    })
}

/// Reads one text per line, as the field `line`. If the table names columns, the line is also split
/// at white space (or the table's `delimiter`), and the last column gets the rest. Blank lines and
/// lines that start with the table's `comment` are skipped.
pub(super) fn read_text(input: impl BufRead, table: &Table, emit: &mut Emit) -> Result<(), String> {
    each_line(input, &mut |number, line| {
        let line = String::from_utf8_lossy(line);
        if table.comment.as_deref().is_some_and(|mark| line.starts_with(mark)) {
            return ControlFlow::Continue(());
        }
        emit(number, split(&line, table).map(Row::from))
    })
}

fn split(line: &str, table: &Table) -> Result<Value, String> {
    let mut row = Map::from_iter([("line".to_owned(), json!(line))]);
    let mut rest = Some(line.trim());
    for (place, column) in table.columns.iter().enumerate() {
        let Some(text) = rest.filter(|text| !text.is_empty()) else {
            return Err(format!("has {place} columns, not {}: {line:?}", table.columns.len()));
        };
        let is_last = place + 1 == table.columns.len();
        let parts = match &table.delimiter {
            _ if is_last => None,
            Some(delimiter) => text.split_once(delimiter.as_str()),
            None => text.split_once(char::is_whitespace),
        };
        let (value, remaining) = parts.map_or((text, None), |(value, remaining)| (value, Some(remaining.trim_start())));
        row.insert(column.clone(), json!(value.trim_end()));
        rest = remaining;
    }
    Ok(Value::Object(row))
}

/// Takes the number and text of one line, and may return that no more lines are wanted.
pub(super) type TakeLine<'a> = dyn FnMut(u64, &[u8]) -> ControlFlow<()> + 'a;

/// Calls `take` for every line that is not blank, with its number from 0 and without its line
/// ending. A line ends with LF, CR LF or, as on the classic Mac OS, CR. Several CRs before an LF
/// belong to that ending.
pub(super) fn each_line(mut input: impl BufRead, take: &mut TakeLine) -> Result<(), String> {
    let mut line = Vec::new();
    let mut number = 0;
    // CRs after the line: each ends a line, unless an LF follows.
    let mut returns = 0;
    loop {
        let bytes = input.fill_buf().map_err(|fault| format!("line {number}: {fault}"))?;
        let first = bytes.first().copied();
        if first == Some(b'\r') {
            returns += 1;
            input.consume(1);
            continue;
        }
        let ends = if first == Some(b'\n') { 1 } else { returns };
        if ends > 0 || first.is_none() {
            let text = line.trim_ascii_end();
            if !text.is_empty() && take(number, text).is_break() || first.is_none() {
                return Ok(());
            }
            line.clear();
            number += ends;
            returns = 0;
        }
        let used = if first == Some(b'\n') {
            1
        } else {
            let length = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
            line.extend_from_slice(&bytes[..length]);
            length
        };
        input.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(toml: &str) -> Table {
        toml::from_str(&format!("file = \"x\"\n{toml}")).unwrap()
    }

    fn text(input: &[u8], toml: &str) -> Vec<(u64, Result<Value, String>)> {
        let mut found = Vec::new();
        let table = table(toml);
        read_text(input, &table, &mut |number, content| {
            found.push((number, content.and_then(|row| row.parsed())));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn a_broken_line_costs_only_itself() {
        let mut found = Vec::new();
        let input = b"{\"a\": 1}\r\n\n{broken\n\xFF\n[2]\n";
        read_json(input.as_slice(), &mut |number, content| {
            found.push((number, content.and_then(|row| row.parsed())));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found[0], (0, Ok(json!({"a": 1}))));
        assert!(found[1].0 == 2 && found[1].1.as_ref().unwrap_err().contains("is not JSON"));
        assert!(found[2].0 == 3 && found[2].1.as_ref().unwrap_err().contains("is not JSON"));
        assert_eq!(found[3], (4, Ok(json!({"_value": [2]}))));
    }

    #[test]
    fn lines_end_in_every_way_and_are_numbered_the_same() {
        let numbered = |input: &[u8]| -> Vec<(u64, String)> {
            // With a buffer of one byte, the buffer ends at every position.
            let input = std::io::BufReader::with_capacity(1, input);
            let mut found = Vec::new();
            each_line(input, &mut |number, line| {
                found.push((number, String::from_utf8(line.to_vec()).unwrap()));
                ControlFlow::Continue(())
            })
            .unwrap();
            found
        };
        let expected = [(0, "a".to_owned()), (2, "b c".to_owned()), (3, "d".to_owned())];
        for end in ["\n", "\r\n", "\r", "\r\r\n"] {
            for last in ["", end] {
                let text = format!("a{end}{end}b c{end}d{last}");
                assert_eq!(numbered(text.as_bytes()), expected, "{text:?}");
            }
        }
        assert_eq!(numbered(b""), []);
    }

    #[test]
    fn cells_that_are_no_json_and_bytes_of_other_encodings_cost_no_row() {
        let mut found = Vec::new();
        let input = b"{\"a\": NaN}\n{\"a\": \"\\ud83d\"}\n{\"a\": \"caf\xE9\"}\n";
        read_json(input.as_slice(), &mut |_, content| {
            found.push(content.unwrap().parsed().unwrap());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, [json!({"a": null}), json!({"a": "\u{FFFD}"}), json!({"a": "caf\u{FFFD}"})]);
        assert_eq!(text(b"caf\xE9\n", "")[0].1, Ok(json!({"line": "caf\u{FFFD}"})));
    }

    #[test]
    fn named_columns_split_at_white_space_and_the_last_takes_the_rest() {
        let found =
            text(b"# heading\nn01440764 tench, Tinca tinca\n\n", "columns = [\"synset\", \"names\"]\ncomment = \"#\"");
        let expected =
            json!({"line": "n01440764 tench, Tinca tinca", "synset": "n01440764", "names": "tench, Tinca tinca"});
        assert_eq!(found, [(1, Ok(expected))]);
        let found = text(b"a ##  b\n", "columns = [\"x\", \"y\"]\ndelimiter = \"##\"");
        assert_eq!(found[0].1, Ok(json!({"line": "a ##  b", "x": "a", "y": "b"})));
    }

    #[test]
    fn a_line_with_too_few_columns_is_a_fault_of_that_line() {
        let found = text(b"Abyssinian_1 1\nBengal_2 6 1\n", "columns = [\"name\", \"class\", \"species\"]");
        assert_eq!(found[0].1, Err("has 2 columns, not 3: \"Abyssinian_1 1\"".to_owned()));
        assert!(found[1].1.is_ok());
    }
}
