//! Reads native rows: the files of a table, one row at a time.
//!
//! A format is one file here, with a function that reads a file and emits its rows, and one line in
//! [`READERS`].

mod delimited;
mod files;
mod folders;
mod json;
mod lines;
mod markup;
mod matlab;
mod parquet;
mod pickle;
pub(crate) mod python;
pub(crate) mod row;
mod scan;
pub(crate) mod table;
mod tfrecord;
mod webdataset;
mod xml;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use lynxdata_records::python_json::normalise;
use lynxdata_records::text::utf8;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

pub(crate) use self::files::{NativeFile, files, part_names};
use crate::coding::Coding;
use crate::rows::row::{Fields, Row};
use crate::rows::table::{Encoding, Table, UsedFields};
use crate::{Error, Result};

/// A function that reads the rows of one file until its end or until `emit` wants no more.
type Read1 = fn(&Source, &mut Emit) -> std::result::Result<(), String>;

/// One format of native files.
pub(crate) struct Reader {
    /// Its name in `tables.T.format`.
    name: &'static str,
    /// The extensions by which it is recognised, without those of compressed files.
    extensions: &'static [&'static str],
    read: Read1,
}

/// Every format, in the order of the names.
const READERS: &[Reader] = &[
    Reader {
        name: "csv",
        extensions: &["csv"],
        read: |own, emit| delimited::read(own.text()?, own.table, b',', true, emit),
    },
    Reader { name: "folders", extensions: &[], read: folders::read },
    Reader { name: "json", extensions: &["json"], read: |own, emit| read_json(own, false, emit) },
    Reader { name: "jsonl", extensions: &["jsonl", "ndjson"], read: |own, emit| read_json(own, true, emit) },
    Reader { name: "markup", extensions: &["html", "htm", "sgml"], read: markup::read },
    Reader { name: "matlab", extensions: &["mat"], read: matlab::read },
    Reader { name: "parquet", extensions: &["parquet"], read: parquet::read },
    Reader { name: "pickle", extensions: &["p", "pkl", "pickle"], read: pickle::read },
    Reader { name: "python", extensions: &[], read: |own, emit| python::read(own.text()?, emit) },
    Reader { name: "tfrecord", extensions: &["tfrecord", "tfrecords"], read: tfrecord::read },
    // CC3M and Flickr30k contain bare quotation marks, and no known native .tsv file uses quoting.
    Reader {
        name: "tsv",
        extensions: &["tsv"],
        read: |own, emit| delimited::read(own.text()?, own.table, b'\t', false, emit),
    },
    Reader { name: "txt", extensions: &["txt"], read: |own, emit| lines::read_text(own.text()?, own.table, emit) },
    Reader { name: "webdataset", extensions: &["tar"], read: webdataset::read },
    Reader { name: "xml", extensions: &["xml"], read: xml::read },
];

/// Returns the reader of a format.
///
/// # Errors
/// If there is no such format; the message lists the names.
pub(crate) fn reader(name: &str) -> std::result::Result<&'static Reader, String> {
    READERS.iter().find(|reader| reader.name == name).ok_or_else(|| {
        format!("there is no format `{name}`; the formats are {}", names().collect::<Vec<_>>().join(", "))
    })
}

fn names() -> impl Iterator<Item = &'static str> {
    READERS.iter().map(|reader| reader.name)
}

/// A file to read, and how to read it.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a NativeFile,
    pub(crate) table: &'a Table,
    pub(crate) shape: Shape,
}

impl Source<'_> {
    /// Opens it as a byte stream. Archive members and compressed files are decompressed while
    /// reading.
    fn bytes(&self) -> std::result::Result<Box<dyn BufRead>, String> {
        let open = || -> io::Result<Box<dyn BufRead>> {
            let packed: Box<dyn BufRead> = match &self.file.member {
                Some((archive, member)) => Box::new(BufReader::with_capacity(BUFFER, archive.stream(member)?)),
                None => Box::new(BufReader::with_capacity(BUFFER, File::open(&self.file.path)?)),
            };
            Ok(match Coding::split(&self.file.name) {
                (_, Some(coding)) => Box::new(BufReader::with_capacity(BUFFER, coding.decode(packed)?)),
                (_, None) => packed,
            })
        };
        open().map_err(|fault| fault.to_string())
    }

    /// Returns its path, for readers that need a plain file on disk.
    fn on_disk(&self) -> std::result::Result<&Path, String> {
        match (&self.file.member, Coding::split(&self.file.name)) {
            (None, (_, None)) => Ok(&self.file.path),
            _ => Err(format!("must be an uncompressed file on disk: unpack {}", self.file.path.display())),
        }
    }

    /// Opens it as UTF-8 text, without a byte order mark.
    fn text(&self) -> std::result::Result<Box<dyn BufRead>, String> {
        let input = self.bytes()?;
        if self.table.encoding == Encoding::Latin1 {
            return Ok(Box::new(BufReader::with_capacity(BUFFER, Latin1 { input, waiting: None })));
        }
        let input = utf8(input).map_err(|fault| fault.to_string())?;
        Ok(Box::new(BufReader::with_capacity(BUFFER, input)))
    }
}

/// Size of read buffers in bytes.
const BUFFER: usize = 1 << 16;

/// Converts text from ISO 8859-1 to UTF-8.
struct Latin1<R> {
    input: R,
    /// The second byte of a character that did not fit into the buffer.
    waiting: Option<u8>,
}

impl<R: BufRead> Read for Latin1<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        if let (Some(byte), Some(place)) = (self.waiting, out.first_mut()) {
            *place = byte;
            self.waiting = None;
            length = 1;
        }
        let bytes = self.input.fill_buf()?;
        let mut used = 0;
        for &byte in bytes {
            if length == out.len() {
                break;
            }
            used += 1;
            if byte.is_ascii() {
                out[length] = byte;
                length += 1;
                continue;
            }
            // The code of a character of ISO 8859-1 is its code in Unicode.
            out[length] = 0xC0 | byte >> 6;
            length += 1;
            let second = 0x80 | byte & 0x3F;
            match out.get_mut(length) {
                Some(place) => {
                    *place = second;
                    length += 1;
                }
                None => self.waiting = Some(second),
            }
        }
        self.input.consume(used);
        Ok(length)
    }
}

/// The form in which rows are stored at the table's `at` in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// A list, one row per element.
    List,
    /// An object, one row per member. The key becomes the field `_key`.
    Map,
    /// An object of parallel lists, one row per index. The document is read into memory.
    Columns,
    /// The whole value is one row. The document is read into memory.
    Whole,
}

/// Consecutive native rows. Their texts are in one buffer, so that a row has no allocation of its
/// own.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    text: Vec<u8>,
    rows: Vec<NativeRow>,
}

/// The place of one native row, and its text or why it cannot be read.
#[derive(Debug)]
pub(crate) struct NativeRow {
    pub(crate) file: Arc<str>,
    /// The index in the file, from 0: of the line in line formats, otherwise of the row.
    pub(crate) number: u64,
    /// The place of its text in the batch.
    content: std::result::Result<Range<usize>, String>,
}

impl Batch {
    fn push(&mut self, file: &Arc<str>, number: u64, content: std::result::Result<&Row, String>) {
        let content = content.map(|row| {
            let start = self.text.len();
            self.text.extend_from_slice(row.text());
            start..self.text.len()
        });
        self.rows.push(NativeRow { file: file.clone(), number, content });
    }

    /// Returns the length of the texts in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the rows in their order.
    pub(crate) fn rows(&self) -> &[NativeRow] {
        &self.rows
    }

    /// Returns the JSON text of one of its rows, or why it cannot be read.
    pub(crate) fn content(&self, row: &NativeRow) -> std::result::Result<&[u8], String> {
        row.content.clone().map(|range| &self.text[range])
    }
}

/// Takes the number and content of one row, and may return that no more rows are wanted.
type Emit<'a> = dyn FnMut(u64, std::result::Result<Row, String>) -> ControlFlow<()> + 'a;

/// Returns the reader of a file for the format `auto`.
fn reader_of(file: &NativeFile) -> std::result::Result<&'static Reader, String> {
    let (name, _) = Coding::split(&file.name);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    READERS.iter().find(|reader| reader.extensions.contains(&extension)).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        format!("the format is not clear from the extension; set `format` to one of {known}")
    })
}

/// Reads the rows of one file until its end or until `emit` wants no more. The parts of its path
/// that match names in braces become fields of the rows.
fn read_file(file: &NativeFile, table: &Table, shape: Shape, emit: &mut Emit) -> std::result::Result<(), String> {
    let reader = if table.format == "auto" { reader_of(file)? } else { reader(&table.format)? };
    let source = Source { file, table, shape };
    if file.parts.is_empty() {
        return (reader.read)(&source, emit);
    }
    (reader.read)(&source, &mut |number, content| {
        let with_parts = content.map(|mut row| {
            for (name, value) in &file.parts {
                row.insert(&format!("_{name}"), Value::from(value.as_str()).to_string().as_bytes());
            }
            row
        });
        emit(number, with_parts)
    })
}

/// The number of bytes that are examined to see whether a file contains JSON lines.
const HEAD: u64 = 1 << 16;

/// The maximum length of a first line that is examined, in bytes. Rows with images as base64 are
/// long, but a document of one line may not fit into memory.
const LONGEST_HEAD: u64 = 1 << 26;

/// Reads a file of JSON lines or of one document. The name decides which, unless the first line
/// shows that it is the other one.
fn read_json(source: &Source, is_named_lines: bool, emit: &mut Emit) -> std::result::Result<(), String> {
    let (at, shape) = (source.table.at.as_str(), source.shape);
    let mut input = source.text()?;
    let mut head = Vec::new();
    let more = |input: &mut dyn BufRead, head: &mut Vec<u8>, most: u64| {
        input.take(most).read_to_end(head).map_err(|fault| fault.to_string())
    };
    more(&mut input, &mut head, HEAD)?;
    let may_be_lines = is_named_lines || at.is_empty() && shape == Shape::List;
    if may_be_lines && !is_named_lines && head.trim_ascii_start().first() == Some(&b'{') {
        while !has_line_end(&head) && (head.len() as u64) < LONGEST_HEAD && more(&mut input, &mut head, HEAD)? > 0 {}
    }
    let is_lines = may_be_lines && holds_lines(&head, is_named_lines, &source.table.fields);
    let input = io::Cursor::new(head).chain(input);
    match (is_lines, is_named_lines) {
        (true, _) => lines::read_json(input, emit),
        (false, true) => json::read(input, "", Shape::List, emit),
        (false, false) => json::read(input, at, shape, emit),
    }
}

/// Returns whether a text has a complete first line.
fn has_line_end(text: &[u8]) -> bool {
    text.trim_ascii_start().iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

/// Returns whether a file that begins with these bytes has one JSON value per line. A first line
/// that is a list counts only if it is complete and more lines follow. One object alone is a line
/// if it has a field that is used; otherwise it is a document, and the rows are somewhere in it.
fn holds_lines(head: &[u8], is_named_lines: bool, fields: &UsedFields) -> bool {
    let text = head.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    let next = rest.trim_ascii_start().first();
    let is_whole = || serde_json::from_slice::<IgnoredAny>(&normalise(line)).is_ok();
    match text.first() {
        Some(b'[') => next.is_some() && is_whole(),
        Some(b'{') if is_named_lines => true,
        Some(b'{') => match next {
            Some(b'{') => is_whole(),
            // The next line may be behind the bytes that were read.
            None => has_field(line, fields),
            Some(_) => false,
        },
        _ => is_named_lines,
    }
}

/// Returns whether a text is a JSON object with one of the fields. If an expression uses whole
/// rows, the fields are not known.
fn has_field(text: &[u8], fields: &UsedFields) -> bool {
    let UsedFields::Named(names) = fields else { return false };
    let row = Fields::of(text.trim_ascii_end());
    row.is_ok_and(|row| names.iter().any(|name| row.token(name).is_some()))
}

/// Rows in a batch: enough to keep all cores busy with little memory.
const BATCH: usize = 512;

/// Bytes of JSON after which a batch ends early.
const BATCH_BYTES: usize = 1 << 20;

/// Batches that may wait between the reading thread and the mapping threads.
const QUEUE: usize = 4;

/// The rows of a table. A separate thread reads them, in the order of the files.
#[derive(Debug)]
pub(crate) struct Rows {
    receiver: Option<Receiver<Result<Batch>>>,
    /// Takes batches whose memory the reader uses again.
    used: SyncSender<Batch>,
    reader: Option<JoinHandle<()>>,
}

impl Rows {
    /// Starts the thread that reads.
    pub(crate) fn start(
        task: &str,
        table_name: &str,
        files: Vec<NativeFile>,
        table: &Table,
        shape: Shape,
    ) -> Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let (used, to_fill) = sync_channel::<Batch>(2 * QUEUE);
        let (task, table_name, table) = (task.to_owned(), table_name.to_owned(), table.clone());
        let read = move || {
            let (mut batch, mut is_wanted) = (Batch::default(), true);
            for file in files {
                let outcome = read_file(&file, &table, shape, &mut |number, content| {
                    batch.push(&file.name, number, content.as_ref().map_err(Clone::clone));
                    if batch.rows.len() == BATCH || batch.bytes() >= BATCH_BYTES {
                        let mut next = to_fill.try_recv().unwrap_or_default();
                        next.text.clear();
                        next.rows.clear();
                        is_wanted = sender.send(Ok(std::mem::replace(&mut batch, next))).is_ok();
                    }
                    if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                if !is_wanted {
                    return;
                }
                if let Err(reason) = outcome {
                    let (task, table, file) = (task.clone(), table_name.clone(), file.name.to_string());
                    // A send fails only if the receiver was dropped, so nobody needs the message.
                    let _ = sender.send(Ok(batch));
                    let _ = sender.send(Err(Error::NativeFile { task, table, file, reason }));
                    return;
                }
            }
            let _ = sender.send(Ok(batch));
        };
        let reader = std::thread::Builder::new()
            .name("native-rows".to_owned())
            .spawn(read)
            .map_err(|source| Error::Io { action: "start", path: PathBuf::from("a thread that reads rows"), source })?;
        Ok(Self { receiver: Some(receiver), used, reader: Some(reader) })
    }

    /// Takes batches that were used, so that the reader need not allocate others.
    pub(crate) fn reuse(&self, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            // The memory of an unusually long row is not kept. If the reader has enough or has
            // ended, the batch is freed.
            if batch.text.capacity() <= 4 * BATCH_BYTES {
                let _ = self.used.try_send(batch);
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(batch);
        }
        self.receiver = None;
        // The channel also closes if the reader panics, which must not be mistaken for the end of
        // the file.
        if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::io::Write;

    use serde_json::json;

    use super::*;
    use crate::archive::tests::{write_tar, write_zip};
    use crate::coding::tests::{bzip2, gzip, zstandard};

    /// Returns all rows of the files of a table, as (file, number, content).
    pub(crate) fn rows(root: &Path, toml: &str, shape: Shape) -> Result<Vec<(String, u64, Value)>> {
        let table: Table = toml::from_str(toml).unwrap();
        let files = files(root, &table, "val").unwrap().files;
        assert!(!files.is_empty(), "no file for {toml}");
        let batches = Rows::start("test", "t", files, &table, shape)?.collect::<Result<Vec<_>>>()?;
        let row = |(batch, row): (&Batch, &NativeRow)| {
            let content = batch.content(row).and_then(row::parsed);
            let content = content.unwrap_or_else(|reason| json!({ "unreadable": reason }));
            (row.file.to_string(), row.number, content)
        };
        Ok(batches.iter().flat_map(|batch| batch.rows().iter().map(move |row| (batch, row))).map(row).collect())
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
    fn members_of_archives_are_read_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let line = |value: u32| format!("{{\"a\":{value}}}\n").into_bytes();
        let packed = bzip2(&line(2));
        // A zip member is stored or deflated in turn.
        let members: [(&str, &[u8]); 3] =
            [("x/1.jsonl", &line(1)), ("x/2.jsonl.bz2", &packed), ("x/3.jsonl", &line(3))];
        write_zip(&root.join("set.zip"), &members);
        let values = |pattern: &str| -> Vec<Value> {
            let found = rows(root, &format!("file = \"{pattern}\""), Shape::List).unwrap();
            found.into_iter().map(|(_, _, row)| row["a"].clone()).collect()
        };
        assert_eq!(values("x/*.jsonl"), [1, 2, 3]);
        std::fs::remove_file(root.join("set.zip")).unwrap();
        write_tar(&root.join("plain.tar"), &members);
        let tar = std::fs::read(root.join("plain.tar")).unwrap();
        std::fs::rename(root.join("plain.tar"), root.join("set.tar")).unwrap();
        assert_eq!(values("x/*.jsonl"), [1, 2, 3]);
        std::fs::remove_file(root.join("set.tar")).unwrap();
        for (name, bytes) in [("set.tgz", gzip(&tar)), ("set.tar.bz2", bzip2(&tar)), ("set.tar.zst", zstandard(&tar))] {
            std::fs::write(root.join(name), bytes).unwrap();
            assert_eq!(values("set/x/*.jsonl"), [1, 2, 3], "{name}");
            std::fs::remove_file(root.join(name)).unwrap();
        }
    }

    #[test]
    fn a_damaged_member_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let zip = folder.path().join("set.zip");
        write_zip(&zip, &[("a.jsonl", b"{\"a\": 1}\n")]);
        let mut bytes = std::fs::read(&zip).unwrap();
        let place = bytes.windows(6).position(|text| text == b"{\"a\": ").unwrap() + 6;
        bytes[place] = b'2';
        std::fs::write(&zip, bytes).unwrap();
        let fault = rows(folder.path(), "file = \"a.jsonl\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("file set.zip/a.jsonl") && fault.contains("checksum is wrong"), "{fault}");
        write_zip(&zip, &[("a.parquet", b"PAR1")]);
        let fault = rows(folder.path(), "file = \"a.parquet\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("unpack") && fault.contains("set.zip"), "{fault}");
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
        // One object is a row if it has a field of rows, however long it is.
        let of_field = |text: &str, field: &str| {
            fs::write(folder.path().join("val.json"), text).unwrap();
            let mut table: Table = toml::from_str("file = \"val.json\"").unwrap();
            table.fields = UsedFields::Named(vec![field.to_owned()]);
            let files = files(folder.path(), &table, "val").unwrap().files;
            let batches = Rows::start("test", "t", files, &table, Shape::List)?.collect::<Result<Vec<_>>>()?;
            Ok::<_, Error>(batches.iter().map(|batch| batch.rows().len()).sum::<usize>())
        };
        assert_eq!(of_field("{\"a\": 1}", "a").unwrap(), 1);
        assert_eq!(of_field("\n{\"a\": NaN}\n\n", "a").unwrap(), 1);
        assert!(of_field("{\"a\": 1}", "b").unwrap_err().to_string().contains("set `shape`"));
        assert!(of_field("{\n \"a\": 1}", "a").unwrap_err().to_string().contains("set `shape`"));
        let long = format!("{{\"a\": \"{}\"}}\n", "x".repeat(3 * HEAD as usize));
        assert_eq!(of_field(&long, "a").unwrap(), 1);
        assert_eq!(of_field(&(long + "{\"a\": 1}\n"), "a").unwrap(), 2);
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
        fs::write(folder.path().join("a.jsonl"), "{}\n".repeat(10 * QUEUE * BATCH)).unwrap();
        let table: Table = toml::from_str("file = \"a.jsonl\"").unwrap();
        let files = files(folder.path(), &table, "val").unwrap().files;
        let mut rows = Rows::start("test", "t", files, &table, Shape::List).unwrap();
        assert!(rows.next().is_some());
        let reader = rows.reader.take().unwrap();
        drop(rows);
        reader.join().unwrap();
    }

    #[test]
    fn parts_of_the_path_are_fields_and_latin_1_is_decoded() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("auto/01")).unwrap();
        fs::write(folder.path().join("auto/01/a.csv"), b"q\ncaf\xE9\n").unwrap();
        let toml = "file = \"{site}/{page}/a.csv\"\nencoding = \"latin1\"";
        let found = rows(folder.path(), toml, Shape::List).unwrap();
        assert_eq!(found[0].2, json!({"q": "café", "_site": "auto", "_page": "01"}));
        let bytes: Vec<u8> = (0..=255).collect();
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let mut decoded = Vec::new();
        let mut input = Latin1 { input: bytes.as_slice(), waiting: None };
        let mut one = [0];
        while input.read(&mut one).unwrap() == 1 {
            decoded.push(one[0]);
        }
        assert_eq!(String::from_utf8(decoded).unwrap(), text, "a buffer of one byte splits every character");
    }

    #[test]
    fn the_list_is_sorted_and_the_folder_holds_it() {
        assert!(READERS.is_sorted_by_key(|reader| reader.name));
        let extensions: Vec<&str> = READERS.iter().flat_map(|reader| reader.extensions).copied().collect();
        let different: std::collections::BTreeSet<&str> = extensions.iter().copied().collect();
        assert_eq!(extensions.len(), different.len(), "an extension tells one format");
    }
}
