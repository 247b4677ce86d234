//! CSV and TSV: rows of text fields between separators. The first pass finds the types of the
//! columns, the second converts the rows.
//!
//! The formats differ in quotes. In CSV a quote at the beginning of a field opens a quoted field.
//! If the result has the wrong number of fields, other readings are tried: with backslashes before
//! quotes, as Spark writes them, or without lines that are rows themselves. In TSV, captions hold
//! quotation marks that quote nothing. So quotation marks count as quotes only if the row then has
//! the right number of fields.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::columns::{position, unique_names};
use super::csv::{Escape, Field, Record, State};
use super::jsonl::changed;
use super::lines::{Lines, MAX_ROW_BYTES, without_end};
use super::numbers::{self, Number};
use super::rows::{Batch, ExtraBuilder, Rows};
use super::types::Seen;
use super::{Columns, ReadRows, SourceConfig, SourceFormat, tsv};
use crate::{Error, Result};

/// Separators of the fields of a CSV file, the most likely first.
pub(super) const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The layout of the text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) separator: u8,
    pub(super) quotes: Quotes,
    /// Whether the first line names the separator, as in `sep=;` of files for Excel.
    pub(super) has_separator_line: bool,
    /// Whether the first row holds the names of the columns.
    pub(super) header: bool,
}

/// The meaning of a quotation mark at the beginning of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// The field is quoted.
    Csv,
    /// The field may be quoted.
    Tsv,
}

impl Quotes {
    fn format(self) -> &'static str {
        match self {
            Quotes::Csv => "csv",
            Quotes::Tsv => "tsv",
        }
    }
}

/// Returns the separator that the first line of a file names, as in `sep=;`.
pub(super) fn separator_line(path: &Path) -> Result<Option<u8>> {
    let mut line = Vec::new();
    let mut lines = Lines::open(path).map_err(|source| Error::read(path, source))?;
    lines.read(&mut line).map_err(|source| Error::read(path, source))?;
    let line = without_end(&line);
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    Ok(match line {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', separator] if separator.is_ascii() && *separator != b'"' => {
            Some(*separator)
        }
        _ => None,
    })
}

/// Returns the fields of the first row; `None` if the file is empty. Without a header, only their
/// number matters.
pub(super) fn first_row(path: &Path, layout: Layout) -> Result<Option<Vec<String>>> {
    let mut records = Records::open(path, layout)?;
    let Some(row) = records.next(None)? else { return Ok(None) };
    let fields = row.fields.iter().map(|field| String::from_utf8_lossy(field.bytes(row.text)).into_owned());
    Ok(Some(fields.collect()))
}

/// Reads a whole file and returns the kinds of values in its `count` columns. `url` is the column
/// of URLs, if there is one. Malformed rows are ignored.
pub(super) fn scan(path: &Path, layout: Layout, count: usize, url: Option<usize>) -> Result<Vec<Seen>> {
    let mut seen = vec![Seen::default(); count];
    let mut records = Records::open(path, layout)?;
    records.skip_header(layout.header)?;
    records.url = url;
    while let Some(row) = records.next(Some(count))? {
        let Ok(texts) = row.texts(count) else { continue };
        for (seen, text) in seen.iter_mut().zip(texts) {
            seen.add_text(text);
        }
    }
    Ok(seen)
}

pub(super) struct DelimitedRows {
    records: Records,
    columns: Columns,
    rows: Rows,
}

impl DelimitedRows {
    pub(super) fn open(path: &Path, columns: Columns, layout: Layout) -> Result<DelimitedRows> {
        let mut records = Records::open(path, layout)?;
        records.skip_header(layout.header)?;
        records.url = Some(columns.url.position);
        let rows = Rows::new(&columns.extra_fields());
        Ok(DelimitedRows { records, columns, rows })
    }
}

impl ReadRows for DelimitedRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let Some(row) = self.records.next(Some(self.columns.count))? else { break };
            match row.texts(self.columns.count) {
                Ok(fields) => push_fields(&mut self.rows, &self.columns, &fields)
                    .map_err(|name| changed(row.path, row.quotes.format(), &format!("line {}", row.line), &name))?,
                Err(problem) => self.rows.push_problem(&problem),
            }
        }
        Ok(self.rows.take())
    }
}

/// Appends a row of text fields. Empty fields, blank URLs and captions, and missing numbers become
/// null. If a field does not have the type that the first pass found, returns the name of its
/// column as the error.
fn push_fields(rows: &mut Rows, columns: &Columns, fields: &[&str]) -> std::result::Result<(), String> {
    // The position of a column that the file lacks is after all fields, such as that of URLs beside
    // local images.
    let field = |position: usize| fields.get(position).copied().unwrap_or_default();
    let present = |position: usize| Some(field(position)).filter(|text| !text.trim().is_empty());
    rows.begin_row(present(columns.url.position), columns.caption.as_ref().and_then(|column| present(column.position)));
    for (builder, extra) in rows.extras.iter_mut().zip(&columns.extras) {
        let text = field(extra.column.position);
        if let ExtraBuilder::Text(builder) = builder {
            // An empty field is a missing value, as in pandas and `datasets`.
            builder.append_option(Some(text).filter(|text| !text.is_empty()));
            continue;
        }
        match (builder, numbers::parse(text)) {
            (builder, Some(Number::Missing)) => builder.append_null(),
            (ExtraBuilder::Integer(builder), Some(Number::Integer(number))) => builder.append_value(number),
            (ExtraBuilder::Float(builder), Some(Number::Integer(number))) => builder.append_value(number as f64),
            (ExtraBuilder::Float(builder), Some(Number::Float(number))) => builder.append_value(number),
            _ => return Err(extra.column.name.clone()),
        }
    }
    Ok(())
}

/// The records of a file.
struct Records {
    path: PathBuf,
    layout: Layout,
    lines: Lines,
    /// Lines that were read for a record but do not belong to it.
    ahead: VecDeque<Vec<u8>>,
    /// Number of the next line, from 1.
    next_line: u64,
    /// The lines of the current record, with their line ends.
    text: Vec<u8>,
    /// Ends of the lines in `text`.
    ends: Vec<usize>,
    record: Record,
    /// Index of the URL field, if it is known.
    url: Option<usize>,
}

/// A record with its position in the file.
struct Row<'a> {
    path: &'a Path,
    text: &'a [u8],
    fields: &'a [Field],
    /// Number of its first line, from 1.
    line: u64,
    last_line: u64,
    /// A problem of the row other than a wrong number or encoding of its fields.
    problem: Option<String>,
    quotes: Quotes,
}

impl Row<'_> {
    /// Returns the fields as texts, or the problem of the row.
    fn texts(&self, count: usize) -> std::result::Result<Vec<&str>, String> {
        let (line, found) = (self.line, self.fields.len());
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        if self.quotes == Quotes::Tsv
            && let Err(error) = std::str::from_utf8(self.text)
        {
            return Err(format!("line {line} is not UTF-8 from byte {}", error.valid_up_to() + 1));
        }
        if found != count {
            let row = match self.quotes {
                Quotes::Csv => format!("the row in line {line} has {found} fields instead of {count}"),
                Quotes::Tsv => format!("line {line} has {found} fields instead of {count}"),
            };
            let hint = if has_backslashes(self.text) { "; there is a backslash before a quote" } else { "" };
            return Err(if self.last_line > line {
                format!("{row} and ends in line {}; a quote may not be closed{hint}", self.last_line)
            } else {
                format!("{row}{hint}")
            });
        }
        let mut texts = Vec::with_capacity(found);
        for (index, field) in self.fields.iter().enumerate() {
            let text = std::str::from_utf8(field.bytes(self.text));
            texts.push(text.map_err(|_| format!("field {index} of the row in line {line} is not UTF-8"))?);
        }
        Ok(texts)
    }
}

/// The result of reading another line.
enum More {
    Line,
    End,
    TooLong,
}

impl Records {
    fn open(path: &Path, layout: Layout) -> Result<Records> {
        let lines = Lines::open(path).map_err(|source| Error::read(path, source))?;
        let mut records = Records {
            path: path.to_owned(),
            layout,
            lines,
            ahead: VecDeque::new(),
            next_line: 1,
            text: Vec::new(),
            ends: Vec::new(),
            record: Record::new(layout.separator, Escape::Doubled),
            url: None,
        };
        if layout.has_separator_line {
            records.more()?;
            records.begin();
        }
        Ok(records)
    }

    fn skip_header(&mut self, header: bool) -> Result<()> {
        if header {
            self.next(None)?;
        }
        Ok(())
    }

    /// Returns the next record. `count` is the expected number of fields. Without it, a record is
    /// split strictly by RFC 4180, or in TSV is one line.
    fn next(&mut self, count: Option<usize>) -> Result<Option<Row<'_>>> {
        loop {
            self.begin();
            match self.more()? {
                More::End => return Ok(None),
                More::TooLong if self.layout.quotes == Quotes::Tsv => {
                    let problem = format!("line {} is longer than {MAX_ROW_BYTES} bytes", self.next_line - 1);
                    return Ok(Some(self.row(Some(problem))));
                }
                More::TooLong => return Err(self.too_long()),
                More::Line => {}
            }
            let blanks: &[u8] = match self.layout.quotes {
                Quotes::Csv => b"\r\n",
                Quotes::Tsv => b" \r\n",
            };
            if !self.text.iter().all(|byte| blanks.contains(byte)) {
                break;
            }
        }
        let problem = match self.layout.quotes {
            Quotes::Csv => self.take_csv(count)?,
            Quotes::Tsv => self.take_tsv(count)?,
        };
        Ok(Some(self.row(problem)))
    }

    /// Returns the current record, of all lines in `text`.
    fn row(&self, problem: Option<String>) -> Row<'_> {
        let lines = self.ends.len() as u64;
        Row {
            path: &self.path,
            text: &self.text,
            fields: &self.record.fields,
            line: self.next_line - lines,
            last_line: self.next_line - 1,
            problem,
            quotes: self.layout.quotes,
        }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.record.begin(Escape::Doubled);
    }

    /// Reads another line into the current record.
    fn more(&mut self) -> Result<More> {
        let length = if let Some(line) = self.ahead.pop_front() {
            self.text.extend_from_slice(&line);
            Some(line.len())
        } else {
            self.lines.read(&mut self.text).map_err(|source| Error::read(&self.path, source))?
        };
        if length == Some(0) {
            return Ok(More::End);
        }
        self.next_line += 1;
        self.ends.push(self.text.len());
        Ok(if length.is_none() || self.text.len() > MAX_ROW_BYTES { More::TooLong } else { More::Line })
    }

    /// Keeps the first `lines` lines of the record and puts the others back.
    fn keep(&mut self, lines: usize) {
        while self.ends.len() > lines {
            self.ends.pop();
            let start = self.ends.last().copied().unwrap_or(0);
            self.ahead.push_front(self.text.split_off(start));
            self.next_line -= 1;
        }
    }

    /// Splits the record that begins with the first line in `text`, and reads more lines as needed.
    fn take_apart(&mut self, escape: Escape) -> Result<Taken> {
        self.record.begin(escape);
        // Lines that were read already are added one by one too, because the record may end before
        // the last of them.
        let mut line = 0;
        loop {
            let end = self.ends[line];
            let start = if line == 0 { 0 } else { self.ends[line - 1] };
            let end = start + without_end(&self.text[start..end]).len();
            if self.record.extend(&self.text[..end]) == State::Complete {
                return Ok(Taken::Complete { lines: line + 1 });
            }
            line += 1;
            if line == self.ends.len() {
                match self.more()? {
                    More::Line => {}
                    More::End => return Ok(Taken::Unclosed),
                    More::TooLong => return Ok(Taken::TooLong),
                }
            }
        }
    }

    /// Reads a CSV record. Returns a problem other than a wrong number of fields.
    fn take_csv(&mut self, count: Option<usize>) -> Result<Option<String>> {
        // Most records have one line.
        let line = without_end(&self.text).len();
        let is_complete = self.record.extend(&self.text[..line]) == State::Complete;
        let taken = if is_complete { Taken::Complete { lines: 1 } } else { self.take_apart(Escape::Doubled)? };
        let lines = taken.lines();
        let is_right = lines > 0 && self.is_right(count);
        if is_right {
            self.keep(lines);
        }
        let Some(count) = count.filter(|_| has_backslashes(&self.text) || !is_right) else { return Ok(None) };
        if has_backslashes(&self.text) {
            // A quote after a backslash at the end of a line may also close its field. The next
            // lines would then be malformed.
            let with_backslashes = self.take_apart(Escape::Backslash)?.lines();
            let is_better =
                !is_right || (with_backslashes > lines && !self.has_row_of_its_own(with_backslashes, count));
            if with_backslashes > 0 && self.is_right(Some(count)) && is_better {
                self.keep(with_backslashes);
                return Ok(None);
            }
            self.take_apart(Escape::Doubled)?;
            if lines > 0 {
                self.keep(lines);
            }
        }
        if is_right {
            return Ok(None);
        }
        match taken {
            Taken::TooLong => return Err(self.too_long()),
            Taken::Unclosed => {
                let line = self.next_line - self.ends.len() as u64;
                let reason =
                    format!("a quote in the row that begins in line {line} is not closed before the end of the file");
                return Err(Error::Format { path: self.path.clone(), format: "csv", reason });
            }
            Taken::Complete { lines } => self.keep(lines),
        }
        // An unclosed quote may have swallowed the next rows.
        let Some(own) = self.row_of_its_own(self.ends.len(), count) else { return Ok(None) };
        self.keep(own);
        let line = self.next_line - self.ends.len() as u64;
        let next = self.next_line;
        Ok(Some(format!("a quote in the row in line {line} is not closed before line {next}, which is another row")))
    }

    /// Returns whether the current record is well-formed: strictly quoted, with the expected number
    /// of fields.
    fn is_right(&self, count: Option<usize>) -> bool {
        self.record.is_strict && count.is_none_or(|count| self.record.fields.len() == count)
    }

    fn has_row_of_its_own(&self, lines: usize, count: usize) -> bool {
        self.row_of_its_own(lines, count).is_some()
    }

    /// Returns the index of the first line, after the very first one, that is a row with a URL or
    /// the beginning of one. Only the first `lines` lines are considered.
    fn row_of_its_own(&self, lines: usize, count: usize) -> Option<usize> {
        let url = self.url?;
        // In TSV, the end of a quoted first field of several lines can look like a row. But then
        // the first line is not a row.
        let first = without_end(&self.text[..self.ends[0]]);
        let mut fields = first.split(|byte| *byte == self.layout.separator);
        let is_row = fields.clone().count() == count
            && fields.nth(url).is_some_and(|field| field.windows(3).any(|part| part == b"://"));
        let may_end_a_field = self.layout.quotes == Quotes::Tsv && first.starts_with(b"\"") && !is_row;
        (1..lines).find(|line| {
            let line = without_end(&self.text[self.ends[line - 1]..self.ends[*line]]);
            let mut record = Record::new(self.layout.separator, Escape::Doubled);
            let has_room = match record.extend(line) {
                State::Complete => record.fields.len() == count,
                State::Open => record.fields.len() < count,
            };
            let is_url = |field: &Field| field.bytes(line).windows(3).any(|part| part == b"://");
            !(may_end_a_field && line.contains(&b'"')) && has_room && record.fields.get(url).is_some_and(is_url)
        })
    }

    /// Reads a TSV record. It is one line, unless a quoted field continues in the next lines.
    fn take_tsv(&mut self, count: Option<usize>) -> Result<Option<String>> {
        if let Some(count) = count.filter(|_| self.text.contains(&b'"')) {
            let line = without_end(&self.text).len();
            let is_open = self.record.extend(&self.text[..line]) == State::Open;
            let lines = if is_open { self.quoted_lines(Escape::Doubled, count)? } else { 0 };
            if has_backslashes(&self.text) {
                // As in CSV, the reading that covers more lines is the better one.
                let with_backslashes = self.quoted_lines(Escape::Backslash, count)?;
                if with_backslashes > lines {
                    self.keep(with_backslashes);
                    return Ok(None);
                }
                self.take_apart(Escape::Doubled)?;
            }
            self.keep(lines.max(1));
            if lines > 0 {
                return Ok(None);
            }
        }
        self.record.fields = tsv::split(&self.text, self.layout.separator, count);
        Ok(None)
    }

    /// Splits a TSV record like CSV. Returns the number of its lines; 0 if it is not quoted in this
    /// way.
    fn quoted_lines(&mut self, escape: Escape, count: usize) -> Result<usize> {
        let lines = self.take_apart(escape)?.lines();
        let has_escapes = escape == Escape::Doubled || self.record.has_backslashes;
        let is_quoted = has_escapes && self.is_right(Some(count)) && !self.has_row_of_its_own(lines, count);
        Ok(if is_quoted { lines } else { 0 })
    }

    fn too_long(&self) -> Error {
        let line = self.next_line - self.ends.len() as u64;
        let reason = format!(
            "the row that begins in line {line} is longer than {MAX_ROW_BYTES} bytes; most likely a quote is not closed"
        );
        Error::Format { path: self.path.clone(), format: self.layout.quotes.format(), reason }
    }
}

/// The result of splitting a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The record is complete and has this number of lines.
    Complete { lines: usize },
    /// The file ends within quotes.
    Unclosed,
    /// The record is longer than [`MAX_ROW_BYTES`], most likely because a quote is not closed.
    TooLong,
}

impl Taken {
    /// Returns the number of lines of the record; 0 if it is not complete.
    fn lines(self) -> usize {
        match self {
            Taken::Complete { lines } => lines,
            Taken::Unclosed | Taken::TooLong => 0,
        }
    }
}

/// Returns whether a quote has a backslash before it.
fn has_backslashes(text: &[u8]) -> bool {
    // The first test is many times faster, and most texts have no backslash.
    text.contains(&b'\\') && text.windows(2).any(|pair| pair == b"\\\"")
}

/// Returns the layout of a CSV or TSV file and the names of its columns; `None` if it is empty. The
/// separator of CSV is the one that a line `sep=…` names, otherwise the first with which the
/// columns of the recipe are found, otherwise the first that gives more than one column.
pub(super) fn layout(
    path: &Path,
    format: SourceFormat,
    config: &SourceConfig,
) -> Result<Option<(Layout, Vec<String>)>> {
    let (quotes, told) = match format {
        SourceFormat::Tsv => (Quotes::Tsv, None),
        _ => (Quotes::Csv, separator_line(path)?),
    };
    let candidates = match (quotes, told) {
        (_, Some(told)) => vec![told],
        (Quotes::Tsv, None) => vec![b'\t'],
        (Quotes::Csv, None) => SEPARATORS.to_vec(),
    };
    let layout = |separator| Layout { separator, quotes, has_separator_line: told.is_some(), header: config.header };
    let names = |separator| -> Result<Option<Vec<String>>> {
        Ok(first_row(path, layout(separator))?.map(|row| column_names(row, config.header)))
    };
    let mut best: Option<(u8, Vec<String>, usize)> = None;
    for separator in candidates {
        let found = match names(separator) {
            Err(error) if best.is_none() => return Err(error),
            Ok(Some(found)) => found,
            Err(_) | Ok(None) => continue,
        };
        let position = |wanted: &str| position(wanted, &found, format);
        let is_found = |column: Option<&String>| usize::from(column.is_none_or(|name| position(name).is_some()));
        // 3: both columns are found; 2: only the URL; 1: only the caption; 0: none.
        let score = is_found(Some(&config.url)) * 2 + is_found(config.caption.as_ref());
        let is_better = best.as_ref().is_none_or(|(_, names, before)| {
            score > *before || (score == *before && score < 3 && names.len() == 1 && found.len() > 1)
        });
        if is_better {
            best = Some((separator, found, score));
        }
    }
    Ok(best.map(|(separator, names, _)| (layout(separator), names)))
}

/// Returns the names of the columns of a CSV or TSV file.
fn column_names(first_row: Vec<String>, header: bool) -> Vec<String> {
    let names = first_row.into_iter().enumerate().map(|(index, name)| {
        if header && !name.trim().is_empty() { name.trim().to_owned() } else { format!("column_{index}") }
    });
    unique_names(names).collect()
}
