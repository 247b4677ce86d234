//! Rows of CSV and TSV files.

use std::io::Read;
use std::ops::ControlFlow;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value, json};

use super::Emit;
use super::row::Row;
use crate::rows::table::Table;

/// A last record that is appended to the file. The parser takes the end of the file for the end of
/// a field in quotes. If a quote is open there, this record becomes a part of that field.
const END: &[u8] = b"\n\0end\n";

/// Reads records. The first record is the header, unless the table names the columns. If it does,
/// and the first record consists of exactly these names, that record is skipped as a header. A
/// record with another number of columns becomes an unreadable row, and bytes that are not UTF-8
/// become U+FFFD.
///
/// # Errors
/// If a field in quotes does not end: it would contain the rest of the file.
pub(super) fn read(
    input: impl Read,
    table: &Table,
    delimiter: u8,
    quoting: bool,
    emit: &mut Emit,
) -> Result<(), String> {
    let delimiter = match table.delimiter.as_deref().map(str::as_bytes) {
        None => delimiter,
        Some([byte]) => *byte,
        Some(_) => return Err("`delimiter` of a CSV or TSV file must be one ASCII character".to_owned()),
    };
    let mut reader = ReaderBuilder::new()
        .has_headers(table.columns.is_empty())
        .delimiter(delimiter)
        .quoting(quoting)
        .comment(table.comment.as_ref().and_then(|mark| mark.bytes().next()))
        .flexible(true)
        .from_reader(input.chain(END));
    let columns = if table.columns.is_empty() {
        let header = reader.byte_headers().map_err(|fault| format!("header: {fault}"))?.clone();
        if is_end(&header, reader.position().line())? {
            return Ok(());
        }
        header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
    } else {
        table.columns.clone()
    };
    let wanted = table.fields.columns(&columns);
    let mut record = ByteRecord::new();
    let mut number = 0;
    let mut is_first = !table.columns.is_empty();
    while reader.read_byte_record(&mut record).map_err(|fault| fault.to_string())? {
        if is_end(&record, reader.position().line())? {
            break;
        }
        // Users often add a header to a list without one, because img2dataset needs it.
        let is_header = is_first && record.iter().map(<[u8]>::trim_ascii).eq(columns.iter().map(String::as_bytes));
        is_first = false;
        if is_header {
            continue;
        }
        if emit(number, row(&columns, &wanted, &record)) == ControlFlow::Break(()) {
            break;
        }
        number += 1;
    }
    Ok(())
}

/// Returns whether a record is [`END`]. `line` is the line after it, from 1.
///
/// # Errors
/// If [`END`] is in its last field, so that the quote of that field is not closed.
fn is_end(record: &ByteRecord, line: u64) -> Result<bool, String> {
    let mark = END.trim_ascii();
    let Some(last) = record.iter().next_back().filter(|last| last.trim_ascii_end().ends_with(mark)) else {
        return Ok(false);
    };
    if record.len() == 1 && last == mark {
        return Ok(true);
    }
    #[allow(clippy::naive_bytecount, reason = "it is called once for a file")]
    let lines = last.iter().filter(|byte| **byte == b'\n').count() as u64;
    Err(format!("line {}: a quote is opened and not closed before the end of the file", line.saturating_sub(lines)))
}

/// Creates a row from the wanted columns of a record.
fn row(columns: &[String], wanted: &[usize], record: &ByteRecord) -> Result<Row, String> {
    if record.len() != columns.len() {
        return Err(format!("has {} columns, not {}", record.len(), columns.len()));
    }
    let mut row = Map::new();
    for &place in wanted {
        row.insert(columns[place].clone(), json!(String::from_utf8_lossy(&record[place])));
    }
    Ok(Value::Object(row).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(input: &[u8], toml: &str, delimiter: u8, quoting: bool) -> Vec<Result<Value, String>> {
        let table: Table = toml::from_str(&format!("file = \"x\"\n{toml}")).unwrap();
        let mut found = Vec::new();
        read(input, &table, delimiter, quoting, &mut |_, content| {
            found.push(content.and_then(|row| row.parsed()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn the_header_names_the_fields_and_quotes_are_undone() {
        let found = rows(b"question,id,answer\nWhat?,1,\"190.7 \"\"\"\n", "", b',', true);
        assert_eq!(found, [Ok(json!({"question": "What?", "id": "1", "answer": "190.7 \""}))]);
    }

    #[test]
    fn files_without_a_header_take_their_columns_from_the_table() {
        let found = rows(b"a \"dog\" .\thttp://x\n", "columns = [\"caption\", \"url\"]", b'\t', false);
        assert_eq!(found, [Ok(json!({"caption": "a \"dog\" .", "url": "http://x"}))]);
    }

    #[test]
    fn a_header_that_was_put_before_a_list_is_no_row() {
        let columns = "columns = [\"caption\", \"url\"]";
        let row = Ok(json!({"caption": "a dog", "url": "u"}));
        assert_eq!(rows(b"caption\turl\na dog\tu\ncaption\turl\n", columns, b'\t', false)[0], row);
        assert_eq!(rows(b"caption\turl\na dog\tu\ncaption\turl\n", columns, b'\t', false).len(), 2);
        assert_eq!(rows(b"url\tcaption\na dog\tu\n", columns, b'\t', false)[1], row);
    }

    #[test]
    fn a_quote_that_is_not_closed_is_an_error_with_its_line() {
        let fault = |input: &[u8]| {
            let table: Table = toml::from_str("file = \"x\"").unwrap();
            read(input, &table, b',', true, &mut |_, _| ControlFlow::Continue(())).unwrap_err()
        };
        for (input, line) in [
            (&b"a,b\n1,2\n3,\"4\n5,6\n7,8\n"[..], 3),
            (b"a,b\n1,\"2\"\"\n", 2),
            (b"a,b\n\"1\n1\",\"2\n3,4", 3),
            (b"a,\"b\n1,2\n", 1),
            (b"a,b\r\n\"1,2", 2),
            (b"a,b\n\n\n1,\"2\n", 4),
        ] {
            let found = fault(input);
            let expected = format!("line {line}: a quote is opened");
            assert!(found.starts_with(&expected), "{:?}: {found}", String::from_utf8_lossy(input));
        }
        // A closed quote at the end, quotes within a field, and files without rows are no faults.
        let row = Ok(json!({"a": "1", "b": "2"}));
        assert_eq!(rows(b"a,b\n1,\"2\"", "", b',', true), [row]);
        assert_eq!(rows(b"a,b\n1,2\"\n", "", b',', true), [Ok(json!({"a": "1", "b": "2\""}))]);
        for input in [&b""[..], b"a,b", b"a,b\n\n"] {
            assert_eq!(rows(input, "", b',', true), []);
        }
    }

    #[test]
    fn faulty_records_cost_only_themselves() {
        let found = rows(b"a,b\n1,2\n3\n\xFF,4\n5,6\n", "", b',', true);
        assert_eq!(found[1], Err("has 1 columns, not 2".to_owned()));
        assert_eq!(found[2], Ok(json!({"a": "\u{FFFD}", "b": "4"})));
        assert_eq!((found.len(), &found[3]), (4, &Ok(json!({"a": "5", "b": "6"}))));
    }
}
