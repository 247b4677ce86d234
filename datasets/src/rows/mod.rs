//! Native rows: the files of a table, read one row at a time.
//!
//! A format is one file here with a function that reads a stream and hands on rows, and one line in [`Format`]; a code adapter (a restricted reader for
//! Python pickles, say) has that same shape.

mod delimited;
mod json;
mod lines;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use flate2::bufread::MultiGzDecoder;
use lynxdata_records::python_json::normalise;
use lynxdata_records::text::utf8;
use serde::Deserialize;
use serde_json::Value;

use crate::task::Table;
use crate::{Error, Result};

/// How the bytes of a native file hold rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// By the file's extension, `.gz` aside.
    #[default]
    Auto,
    /// One JSON document.
    Json,
    /// One JSON value a line.
    Jsonl,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values without quoting.
    Tsv,
    /// Lines, split at white space if the table names its columns.
    Txt,
}

/// How a JSON document holds rows at the table's `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// A list, one element a row.
    List,
    /// An object, one member a row, whose key becomes the field `_key`.
    Map,
    /// An object of parallel lists, one place a row. Read whole.
    Columns,
    /// The whole value is one row. Read whole.
    Whole,
}

/// A native file of a table.
#[derive(Debug, Clone)]
pub(crate) struct NativeFile {
    /// From the root folder on, with `/`: the provenance that records carry.
    pub(crate) name: Arc<str>,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// One native row, or why it cannot be read.
#[derive(Debug)]
pub(crate) struct NativeRow {
    pub(crate) file: Arc<str>,
    /// Place in the file, from 0: of the line in line formats, else of the row.
    pub(crate) number: u64,
    pub(crate) content: std::result::Result<Value, String>,
}

/// Takes the number and content of one row, and may say that no more are wanted.
type Emit<'a> = dyn FnMut(u64, std::result::Result<Value, String>) -> ControlFlow<()> + 'a;

/// The files of a table for a split, in the order of their names. `{split}` in the pattern is replaced and one `*` may stand in the last component.
pub(crate) fn files(root: &Path, table: &Table, split: &str) -> io::Result<Vec<NativeFile>> {
    let name = table.file.replace("{split}", split);
    let (folder, last) = name.rsplit_once('/').map_or(("", name.as_str()), |(folder, last)| (folder, last));
    let Some((before, after)) = last.split_once('*') else {
        let mut found = Vec::new();
        for name in [name.clone(), format!("{name}.gz")] {
            let path = root.join(&name);
            if path.try_exists()? {
                found.push(NativeFile { name: name.into(), path });
                break;
            }
        }
        return Ok(found);
    };
    let mut found = Vec::new();
    let entries = match fs::read_dir(root.join(folder)) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(last) = entry.file_name().into_string() else { continue };
        let plain = last.strip_suffix(".gz").unwrap_or(&last);
        let matches = plain.len() >= before.len() + after.len() && plain.starts_with(before) && plain.ends_with(after);
        if matches {
            let name = if folder.is_empty() { last } else { format!("{folder}/{last}") };
            found.push(NativeFile { name: name.into(), path: entry.path() });
        }
    }
    found.sort_by(|first, second| first.name.cmp(&second.name));
    Ok(found)
}

/// Opens a text file as UTF-8, unpacks `.gz` and skips a byte order mark.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::new(File::open(path)?);
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let input: Box<dyn Read> = if packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::with_capacity(1 << 16, utf8(input)?)))
}

/// The format of a file whose table says `auto`.
fn format_of(file: &NativeFile) -> std::result::Result<Format, String> {
    let name = file.name.strip_suffix(".gz").unwrap_or(&file.name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("json") => Ok(Format::Json),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        Some("csv") => Ok(Format::Csv),
        Some("tsv") => Ok(Format::Tsv),
        Some("txt") => Ok(Format::Txt),
        _ => Err("the extension does not tell the format; set `format` to json, jsonl, csv, tsv or txt".to_owned()),
    }
}

/// Reads the rows of one file until it ends or `emit` has enough.
fn read_file(file: &NativeFile, table: &Table, shape: Shape, emit: &mut Emit) -> std::result::Result<(), String> {
    let input = open(&file.path).map_err(|fault| fault.to_string())?;
    let format = if table.format == Format::Auto { format_of(file)? } else { table.format };
    match format {
        Format::Auto => unreachable!("replaced above by the format of the file"),
        Format::Json | Format::Jsonl => read_json(input, format == Format::Jsonl, &table.at, shape, emit),
        Format::Txt => lines::read_text(input, table, emit),
        Format::Csv => delimited::read(input, table, b',', true, emit),
        // CC3M and Flickr30k hold bare quotation marks, and no known native .tsv file quotes.
        Format::Tsv => delimited::read(input, table, b'\t', false, emit),
    }
}

/// Bytes that show whether a file holds JSON lines.
const HEAD: u64 = 1 << 16;

/// Reads a file of JSON lines or of one document, as its name says unless its first line shows that
/// it holds the other one.
fn read_json(
    mut input: Box<dyn BufRead>,
    is_named_lines: bool,
    at: &str,
    shape: Shape,
    emit: &mut Emit,
) -> std::result::Result<(), String> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD).read_to_end(&mut head).map_err(|fault| fault.to_string())?;
    let may_be_lines = is_named_lines || at.is_empty() && shape == Shape::List;
    let is_lines = may_be_lines && holds_lines(&head, is_named_lines);
    let input = io::Cursor::new(head).chain(input);
    match (is_lines, is_named_lines) {
        (true, _) => lines::read_json(input, emit),
        (false, true) => json::read(input, "", Shape::List, emit),
        (false, false) => json::read(input, at, shape, emit),
    }
}

/// Returns whether a file that begins with these bytes holds a JSON value in every line: a list
/// that is one is whole in its line and not the only one.
fn holds_lines(head: &[u8], is_named_lines: bool) -> bool {
    let text = head.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    let next = rest.trim_ascii_start().first();
    let is_whole = || serde_json::from_slice::<serde::de::IgnoredAny>(&normalise(line)).is_ok();
    match text.first() {
        Some(b'[') => next.is_some() && is_whole(),
        Some(b'{') => is_named_lines || next == Some(&b'{') && is_whole(),
        _ => is_named_lines,
    }
}

/// Reads all rows of a table in this thread, for tables that are kept in memory.
pub(crate) fn read_all(
    task: &str,
    table_name: &str,
    files: &[NativeFile],
    table: &Table,
    shape: Shape,
    take: &mut dyn FnMut(NativeRow),
) -> Result<()> {
    for file in files {
        let outcome = read_file(file, table, shape, &mut |number, content| {
            take(NativeRow { file: file.name.clone(), number, content });
            ControlFlow::Continue(())
        });
        outcome.map_err(|reason| native_fault(task, table_name, file, reason))?;
    }
    Ok(())
}

fn native_fault(task: &str, table: &str, file: &NativeFile, reason: String) -> Error {
    Error::NativeFile { task: task.to_owned(), table: table.to_owned(), file: file.name.to_string(), reason }
}

/// Rows that may wait between the thread that parses and the one that maps: enough to keep both busy, little in memory.
const QUEUE: usize = 256;

/// The rows of the primary table, parsed in a thread of their own and handed on in the order of the files.
#[derive(Debug)]
pub(crate) struct Rows {
    receiver: Option<Receiver<Result<NativeRow>>>,
    reader: Option<JoinHandle<()>>,
}

impl Rows {
    /// Starts to read. serde's visitors push rows while an iterator is pulled from, which is why there is a thread.
    pub(crate) fn start(
        task: &str,
        table_name: &str,
        files: Vec<NativeFile>,
        table: &Table,
        shape: Shape,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (task, table_name, table) = (task.to_owned(), table_name.to_owned(), table.clone());
        let read = move || {
            for file in files {
                let mut wanted = true;
                let outcome = read_file(&file, &table, shape, &mut |number, content| {
                    wanted = sender.send(Ok(NativeRow { file: file.name.clone(), number, content })).is_ok();
                    if wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                if !wanted {
                    return;
                }
                if let Err(reason) = outcome {
                    // If nobody listens any more, nobody misses the message.
                    let _ = sender.send(Err(native_fault(&task, &table_name, &file, reason)));
                    return;
                }
            }
        };
        let reader = std::thread::Builder::new()
            .name("native-rows".to_owned())
            .spawn(read)
            .map_err(|source| Error::Io { path: PathBuf::from("a thread that reads rows"), source })?;
        Ok(Self { receiver: Some(receiver), reader: Some(reader) })
    }
}

impl Iterator for Rows {
    type Item = Result<NativeRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(row) = self.receiver.as_ref()?.recv() {
            return Some(row);
        }
        self.receiver = None;
        // The channel also closes if the reader panics, which must not pass for the end of the file.
        if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    /// All rows of the files of a table, as (file, number, content).
    pub(crate) fn rows(root: &Path, toml: &str, shape: Shape) -> Result<Vec<(String, u64, Value)>> {
        let table: Table = toml::from_str(toml).unwrap();
        let files = files(root, &table, "val").unwrap();
        assert!(!files.is_empty(), "no file for {toml}");
        Rows::start("test", "t", files, &table, shape)?
            .map(|row| {
                let row = row?;
                let content = row.content.unwrap_or_else(|reason| json!({ "unreadable": reason }));
                Ok((row.file.to_string(), row.number, content))
            })
            .collect()
    }

    #[test]
    fn shards_are_read_in_the_order_of_their_names_and_gz_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("parts")).unwrap();
        fs::write(folder.path().join("parts/val_1.jsonl"), "{\"a\":3}\n").unwrap();
        fs::write(folder.path().join("parts/val_2.txt"), "not a shard").unwrap();
        let packed = File::create(folder.path().join("parts/val_0.jsonl.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(b"\xEF\xBB\xBF{\"a\":1}\n\n{\"a\":2}\n").unwrap();
        packed.finish().unwrap();
        let found = rows(folder.path(), "file = \"parts/{split}_*.jsonl\"", Shape::List).unwrap();
        let expected = [
            ("parts/val_0.jsonl.gz".to_owned(), 0, json!({"a": 1})),
            ("parts/val_0.jsonl.gz".to_owned(), 2, json!({"a": 2})),
            ("parts/val_1.jsonl".to_owned(), 0, json!({"a": 3})),
        ];
        assert_eq!(found, expected);
        let plain = rows(folder.path(), "file = \"parts/{split}_0.jsonl\"", Shape::List).unwrap();
        assert_eq!(plain.len(), 2, "the packed file stands in for the plain one");
    }

    #[test]
    fn lists_named_as_lines_and_lines_named_as_a_document_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (json!({"a": [1, {"b": 2}]}), json!({"a": "x"}));
        let lines = format!("{first}\n{second}\n");
        let lists = [
            json!([first, second]).to_string(),
            format!("{}\n", json!([first, second])),
            serde_json::to_string_pretty(&json!([first, second])).unwrap(),
            format!("\n[{first},\r\n{second}]"),
        ];
        for name in ["val.json", "val.jsonl"] {
            for text in lists.iter().chain([&lines]) {
                fs::write(folder.path().join(name), text).unwrap();
                let found = rows(folder.path(), &format!("file = \"{name}\""), Shape::List).unwrap();
                let found: Vec<&Value> = found.iter().map(|(.., row)| row).collect();
                assert_eq!(found, [&first, &second], "{name}: {text}");
            }
            fs::write(folder.path().join(name), "[1]\n[2, 3]\n").unwrap();
            let found = rows(folder.path(), &format!("file = \"{name}\""), Shape::List).unwrap();
            assert_eq!(found[1].2, json!({"_value": [2, 3]}), "lines of lists stay lines");
        }
        fs::write(folder.path().join("val.json"), "{\"questions\": [1]}\n").unwrap();
        let fault = rows(folder.path(), "file = \"val.json\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("set `shape`"), "{fault}");
    }

    #[test]
    fn text_files_of_every_encoding_and_line_end_hold_the_same_rows() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("t.json", "[{\"a\": \"é 中\", \"b\": \"2\"}]"),
            ("t.jsonl", "{\"a\": \"é 中\", \"b\": \"2\"}\n"),
            ("t.csv", "a,b\n\"é 中\",2\n"),
            ("t.tsv", "a\tb\né 中\t2\n"),
            ("t.txt", "\né_中 2\n"),
        ];
        for (name, text) in files {
            let toml =
                format!("file = \"{name}\"\ncolumns = {}", if name == "t.txt" { "[\"a\", \"b\"]" } else { "[]" });
            for ends in ["\n", "\r\n", "\r"] {
                let text = text.replace('\n', ends);
                let little = text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
                let big = text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
                let mark = |mark: &[u8], text: &[u8]| [mark, text].concat();
                for bytes in [
                    text.clone().into_bytes(),
                    mark(b"\xEF\xBB\xBF", text.as_bytes()),
                    mark(b"\xFF\xFE", &little),
                    mark(b"\xFE\xFF", &big),
                    little.clone(),
                ] {
                    fs::write(folder.path().join(name), &bytes).unwrap();
                    let found = rows(folder.path(), &toml, Shape::List).unwrap();
                    assert_eq!(found.len(), 1, "{name} {ends:?} {bytes:?}");
                    let row = &found[0].2;
                    let first = row["a"].as_str().map(|text| text.replace('_', " "));
                    assert_eq!((first.as_deref(), row["b"].as_str()), (Some("é 中"), Some("2")), "{name} {ends:?}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_extension_asks_for_a_format() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.token"), "x\n").unwrap();
        let fault = rows(folder.path(), "file = \"a.token\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("file a.token") && fault.contains("set `format`"), "{fault}");
        assert_eq!(rows(folder.path(), "file = \"a.token\"\nformat = \"txt\"", Shape::List).unwrap().len(), 1);
    }

    #[test]
    fn rows_that_nobody_takes_do_not_block() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jsonl"), "{}\n".repeat(10 * QUEUE)).unwrap();
        let table: Table = toml::from_str("file = \"a.jsonl\"").unwrap();
        let files = files(folder.path(), &table, "val").unwrap();
        let mut rows = Rows::start("test", "t", files, &table, Shape::List).unwrap();
        assert!(rows.next().is_some());
        let reader = rows.reader.take().unwrap();
        drop(rows);
        reader.join().unwrap();
    }
}
