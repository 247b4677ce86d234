//! Comma-separated values as RFC 4180 has them: fields may be quoted, and quoted fields may hold line ends.

use std::error::Error as StdError;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::ByteRecord;

use super::lines::{self, MAX_ROW_BYTES};
use super::rows::{Batch, Rows};
use super::{Columns, ReadRows};
use crate::{Error, Result};

/// The fields of the first row: the header, or where there is none, only their number matters.
pub(super) fn first_row(path: &Path) -> Result<Option<Vec<String>>> {
    let mut reader = Reader::open(path)?;
    if !reader.advance()? {
        return Ok(None);
    }
    Ok(Some(reader.record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect()))
}

pub(super) struct CsvRows {
    reader: Reader,
    columns: Columns,
    skip_header: bool,
    rows: Rows,
}

impl CsvRows {
    pub(super) fn open(path: &Path, columns: Columns, header: bool) -> Result<CsvRows> {
        let rows = Rows::new(&columns.extra_fields());
        Ok(CsvRows { reader: Reader::open(path)?, columns, skip_header: header, rows })
    }
}

impl ReadRows for CsvRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let line = self.reader.csv.position().line();
            if !self.reader.advance()? {
                break;
            }
            if std::mem::take(&mut self.skip_header) {
                continue;
            }
            match self.reader.fields(line, self.columns.count) {
                Ok(fields) => push_fields(&mut self.rows, &self.columns, &fields),
                Err(problem) => self.rows.push_problem(&problem),
            }
        }
        Ok(self.rows.take())
    }
}

/// Adds a row of text fields. Empty URL and caption fields are absent ones; empty extra fields stay empty texts.
pub(super) fn push_fields<T: AsRef<str>>(rows: &mut Rows, columns: &Columns, fields: &[T]) {
    let field = |position: usize| fields.get(position).map_or("", AsRef::as_ref);
    let present = |position: usize| Some(field(position)).filter(|text| !text.trim().is_empty());
    rows.begin_row(present(columns.url.position), columns.caption.as_ref().and_then(|column| present(column.position)));
    for (builder, extra) in rows.extras.iter_mut().zip(&columns.extras) {
        builder.append_text(field(extra.column.position));
    }
}

struct Reader {
    path: PathBuf,
    csv: csv::Reader<Limited>,
    /// The row that is added to the file.
    end: String,
    record: ByteRecord,
    row_start: Arc<AtomicU64>,
}

impl Reader {
    fn open(path: &Path) -> Result<Reader> {
        let row_start = Arc::new(AtomicU64::new(0));
        let inner = lines::open(path).map_err(|source| Error::read(path, source))?;
        let end = end_row();
        let added = io::Cursor::new(format!("\n{end}"));
        let limited = Limited { inner, added, position: 0, row_start: row_start.clone() };
        let csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(limited);
        Ok(Reader { path: path.to_owned(), csv, end, record: ByteRecord::new(), row_start })
    }

    fn advance(&mut self) -> Result<bool> {
        let line = self.csv.position().line();
        let more = self.csv.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) if error.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<RowTooLong>) => Error::Format {
                path: self.path.clone(),
                format: "csv",
                reason: format!(
                    "the row that begins in line {line} is longer than {MAX_ROW_BYTES} bytes; most likely a quote is not closed"
                ),
            },
            csv::ErrorKind::Io(error) => Error::read(&self.path, error),
            other => Error::Format { path: self.path.clone(), format: "csv", reason: format!("{other:?}") },
        })?;
        self.row_start.store(self.csv.position().byte(), Ordering::Relaxed);
        let last = self.record.iter().next_back().filter(|_| more).unwrap_or_default();
        if !last.ends_with(self.end.as_bytes()) {
            return Ok(more);
        }
        if self.record.len() == 1 && last == self.end.as_bytes() {
            return Ok(false);
        }
        let line = self.record.position().map_or(line, csv::Position::line);
        let reason = format!("a quote in the row that begins in line {line} is not closed before the end of the file");
        Err(Error::Format { path: self.path.clone(), format: "csv", reason })
    }

    /// The fields of the record, or what is wrong with it.
    fn fields(&self, line: u64, count: usize) -> std::result::Result<Vec<&str>, String> {
        // A record's position is that of the reader before it, which stands on the blank lines that come first.
        let line = self.record.position().map_or(line, csv::Position::line);
        let last_line = self.csv.position().line().saturating_sub(1).max(line);
        if self.record.len() != count {
            let quote = if last_line > line {
                format!(" and ends in line {last_line}; a quote may not be closed")
            } else {
                String::new()
            };
            return Err(format!("the row in line {line} has {} fields instead of {count}{quote}", self.record.len()));
        }
        self.record
            .iter()
            .enumerate()
            .map(|(index, field)| {
                std::str::from_utf8(field).map_err(|_| format!("field {index} of the row in line {line} is not UTF-8"))
            })
            .collect()
    }
}

/// A row that is added to a file. The parser does not say that a file ends within quotes; but then this is no row of its own. It is another one each time,
/// so that no file can have it.
fn end_row() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("end of file {:016x}{:016x}", random(), random())
}

/// A reader that adds a row, and fails when a single row grows beyond [`MAX_ROW_BYTES`], as happens behind a quote that is never closed.
struct Limited {
    inner: Box<dyn io::BufRead + Send>,
    /// What is read behind the end.
    added: io::Cursor<String>,
    position: u64,
    row_start: Arc<AtomicU64>,
}

#[derive(Debug, thiserror::Error)]
#[error("row too long")]
struct RowTooLong;

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position - self.row_start.load(Ordering::Relaxed) > MAX_ROW_BYTES as u64 {
            return Err(io::Error::other(RowTooLong));
        }
        let length = match self.inner.read(buffer)? {
            0 => self.added.read(buffer)?,
            length => length,
        };
        self.position += length as u64;
        Ok(length)
    }
}
