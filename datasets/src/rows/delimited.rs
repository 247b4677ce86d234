//! Rows of CSV and TSV files.

use std::io::Read;
use std::ops::ControlFlow;

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value, json};

use super::Emit;
use super::row::Row;
use crate::rows::table::Table;

/// Reads records. The first record is the header, unless the table names the columns. If it does,
/// and the first record consists of exactly these names, that record is skipped as a header. A
/// record with another number of columns becomes an unreadable row, and bytes that are not UTF-8
/// become U+FFFD.
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
        .from_reader(input);
    let columns = if table.columns.is_empty() {
        let header = reader.byte_headers().map_err(|fault| format!("header: {fault}"))?;
        header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
    } else {
        table.columns.clone()
    };
    let wanted = table.fields.columns(&columns);
    let mut record = ByteRecord::new();
    let mut number = 0;
    let mut is_first = !table.columns.is_empty();
    while reader.read_byte_record(&mut record).map_err(|fault| fault.to_string())? {
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
    fn faulty_records_cost_only_themselves() {
        let found = rows(b"a,b\n1,2\n3\n\xFF,4\n5,6\n", "", b',', true);
        assert_eq!(found[1], Err("has 1 columns, not 2".to_owned()));
        assert_eq!(found[2], Ok(json!({"a": "\u{FFFD}", "b": "4"})));
        assert_eq!((found.len(), &found[3]), (4, &Ok(json!({"a": "5", "b": "6"}))));
    }
}
