//! Streams conversations from files and folders.

mod conversation;
mod parquet;
mod values;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lynxdata_records::RunFolder;
use lynxdata_records::text::{self, Encoding};
use rayon::prelude::*;

pub use conversation::{Asked, Conversation, Picture, Role, Turn};
pub(crate) use conversation::{IMAGE, TURNS, parse_json};
use values::Values;

use crate::error::{Error, Result};
use crate::fault::{Fault, Reason};

/// Folders of formats that `lynxdata instruct` writes. Each contains all conversations; the one
/// with the images comes first, and the one that always exists next.
const FORMATS: &[&str] = &["parquet", "conversations", "llava", "messages", "swift", "sharegpt", "cauldron"];

/// The folder next to [`FORMATS`] by which output of `lynxdata instruct` is recognised.
const COUNTS: &str = "counts";

/// Files that describe conversations and are not conversations: for LLaMA-Factory and Croissant.
const DESCRIPTIONS: &[&str] = &["dataset_info.json", "croissant.json"];

/// File suffixes of conversations.
pub(crate) const SUFFIXES: &[&str] = &["json", "jsonl", "ndjson", "parquet"];

/// The number of records in a batch, which is parsed on all cores.
const BATCH: usize = 2048;

/// A parsed record, or the bytes of one that is not parsed yet.
#[derive(Debug)]
pub(crate) enum Content {
    Json(Vec<u8>),
    Read(std::result::Result<Box<Conversation>, Fault>),
}

/// A record and its position.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) file: Arc<str>,
    /// The line, element or row, from 0.
    pub(crate) row: u64,
    pub(crate) content: Content,
    /// A fault of its file, which concerns the record.
    pub(crate) of_file: Option<Fault>,
}

impl Content {
    /// Returns its approximate size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Content::Json(bytes) => bytes.len(),
            Content::Read(Ok(conversation)) => {
                let pictures = conversation.pictures.iter().filter_map(|picture| picture.bytes.as_ref());
                pictures.map(Vec::len).sum()
            }
            Content::Read(Err(_)) => 0,
        }
    }

    pub(crate) fn conversation(self) -> std::result::Result<Box<Conversation>, Fault> {
        let bytes = match self {
            Content::Read(conversation) => return conversation,
            Content::Json(bytes) => bytes,
        };
        Conversation::parse(&bytes).map(Box::new)
    }
}

/// Returns the files of conversations below a folder in the order of their names, or the file
/// itself. Hidden folders are skipped. Of a run folder, the mixture is read, or else the output of
/// `instruct`; of either, only the files of one format, because each format contains all
/// conversations.
///
/// # Errors
/// If there is no such file, or the folder cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(listed(path, SUFFIXES)?.files)
}

/// Files to read.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) files: Vec<PathBuf>,
    /// The file or folder that was chosen among several formats, relative to the given folder.
    pub(crate) chosen: Option<String>,
}

/// Does the same as [`files`] for files with these suffixes.
pub(crate) fn listed(path: &Path, suffixes: &[&str]) -> Result<Listed> {
    if !fs::metadata(path).map_err(failed(path))?.is_dir() {
        return Ok(Listed { files: vec![path.to_owned()], chosen: None });
    }
    let mut set = path.to_owned();
    if RunFolder::is_at(path) {
        let sets = ["mixture", "instruct"].map(|name| path.join(name));
        set = sets.into_iter().find(|set| set.is_dir()).unwrap_or(set);
    }
    let chosen = |files: Vec<PathBuf>, format: &Path| {
        let chosen = format.strip_prefix(path).unwrap_or(format).to_string_lossy().into_owned();
        Ok(Listed { files, chosen: Some(chosen) })
    };
    let of_mixture = ["parquet.parquet", "conversations.jsonl"].map(|name| set.join(name));
    if of_mixture[1].is_file() && set.join("croissant.json").is_file() {
        let file = of_mixture.into_iter().find(|file| file.is_file());
        return file.map_or_else(
            || Err(Error::NoConversations { path: path.to_owned() }),
            |file| chosen(vec![file.clone()], &file),
        );
    }
    if set.join(COUNTS).is_dir() {
        // The folder of a format that an earlier recipe asked for may be empty.
        for format in FORMATS.iter().map(|format| set.join(format)).filter(|format| format.is_dir()) {
            let files = below(&format, suffixes)?;
            if !files.is_empty() {
                return chosen(files, &format);
            }
        }
    }
    let files = below(&set, suffixes)?;
    if files.is_empty() {
        Err(Error::NoConversations { path: path.to_owned() })
    } else {
        Ok(Listed { files, chosen: None })
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    |source| Error::Io { action: "read", path, source }
}

/// Returns the files with these suffixes below a folder, in the order of their names.
fn below(folder: &Path, suffixes: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let entry = entry.map_err(failed(&folder))?;
            let (own, kind) = (entry.path(), entry.file_type().map_err(failed(&folder))?);
            let suffix = own.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
            let name = entry.file_name();
            if kind.is_dir() {
                folders.extend((!name.as_encoded_bytes().starts_with(b".")).then_some(own));
            } else if suffixes.contains(&suffix.as_str())
                && !DESCRIPTIONS.iter().any(|description| name == *description)
            {
                found.push(own);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the name of a file in reports: its path below the given folder, or the given name of a
/// single file.
pub(crate) fn name_below(path: &Path, file: &Path) -> Arc<str> {
    let below = file.strip_prefix(path).ok().filter(|below| !below.as_os_str().is_empty());
    Arc::from(below.unwrap_or(file).to_string_lossy())
}

/// Passes all records of a file to `take`. `name` is the name of the file in reports.
///
/// # Errors
/// If the file cannot be read to its end, or `take` returns an error.
pub(crate) fn records(path: &Path, name: &Arc<str>, take: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
    let Some(mut values) = values(path)? else {
        return parquet::read(path, &mut |row, conversation| {
            let content = Content::Read(conversation.map(Box::new));
            take(Record { file: name.clone(), row, content, of_file: None })
        });
    };
    let failed = |source: io::Error| Error::Io { action: "read", path: path.to_owned(), source };
    let mut of_file = values.fault().cloned();
    let mut is_empty = true;
    while let Some((row, bytes)) = values.next().map_err(failed)? {
        take(Record { file: name.clone(), row, content: Content::Json(bytes), of_file: of_file.clone() })?;
        is_empty = false;
        // The mark is before the first record; another encoding concerns all.
        of_file = of_file.filter(|fault| fault.reason != Reason::ByteOrderMark);
    }
    let is_of_lines = path.extension().is_some_and(|suffix| suffix == "jsonl" || suffix == "ndjson");
    if is_empty && !values.is_list() && !is_of_lines {
        let fault = Fault::new(Reason::Unreadable, "the file is empty, which is not JSON; write [] for no records");
        take(Record { file: name.clone(), row: 0, content: Content::Read(Err(fault)), of_file })?;
    }
    Ok(())
}

/// Returns the fault of a file that starts with these bytes and is not plain UTF-8.
fn fault_of(start: &[u8]) -> Option<Fault> {
    match Encoding::of(start) {
        Encoding { is_big_endian: Some(_), .. } => {
            Some(Fault::new(Reason::Encoding, "the file is UTF-16; json.load and trainers read UTF-8"))
        }
        Encoding { mark: 1.., .. } => {
            let detail = "the file begins with a byte order mark, on which json.load fails";
            Some(Fault::new(Reason::ByteOrderMark, detail))
        }
        _ => None,
    }
}

/// Starts to read a JSON file; returns `None` for Parquet.
///
/// # Errors
/// If the file cannot be read or is compressed.
pub(crate) fn values(path: &Path) -> Result<Option<Values<impl io::BufRead>>> {
    let failed = |source: io::Error| Error::Io { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::with_capacity(4);
    file.by_ref().take(4).read_to_end(&mut start).map_err(failed)?;
    if start == b"PAR1" {
        return Ok(None);
    }
    if start.starts_with(&[0x1f, 0x8b]) || start == [0x28, 0xb5, 0x2f, 0xfd] {
        let reason = "it is compressed; unpack it first";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    let fault = fault_of(&start);
    let input = text::utf8(io::Cursor::new(start).chain(file)).map_err(failed)?;
    Ok(Some(Values::new(BufReader::with_capacity(1 << 16, input), fault)))
}

/// Passes all conversations of a file or folder to `take` in order, each with the name of its file.
/// Returns the number of records that are not conversations. Records are parsed on all cores.
///
/// # Errors
/// If a file cannot be read to its end.
pub fn conversations(path: &Path, take: &mut dyn FnMut(&str, &Conversation)) -> Result<u64> {
    let mut unreadable = 0;
    for file in files(path)? {
        let name = name_below(path, &file);
        let mut batch = Vec::new();
        let mut hand_on = |batch: Vec<Content>| {
            let read: Vec<_> = batch.into_par_iter().map(Content::conversation).collect();
            for conversation in read {
                match conversation {
                    Ok(conversation) => take(&name, &conversation),
                    Err(_) => unreadable += 1,
                }
            }
        };
        records(&file, &name, &mut |record| {
            batch.push(record.content);
            if batch.len() == BATCH {
                hand_on(std::mem::take(&mut batch));
            }
            Ok(())
        })?;
        hand_on(batch);
    }
    Ok(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{}").unwrap();
        path
    }

    #[test]
    fn of_a_mixture_one_format_is_read_and_descriptions_are_no_conversations() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| write(folder.path(), name);
        let (llava, lines) = (write("llava.json"), write("conversations.jsonl"));
        write("dataset_info.json");
        write("energon/.nv-meta/.info.json");
        assert_eq!(files(folder.path()).unwrap(), [lines.clone(), llava], "a folder of anybody");
        write("croissant.json");
        assert_eq!(files(folder.path()).unwrap(), [lines]);
        let parquet = write("parquet.parquet");
        assert_eq!(files(folder.path()).unwrap(), [parquet]);
    }

    #[test]
    fn of_a_folder_of_instruct_one_format_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| write(folder.path(), name);
        let (llava, conversations) = (write("llava/vqa.json"), write("conversations/vqa.jsonl"));
        assert_eq!(files(folder.path()).unwrap(), [conversations.clone(), llava], "a folder of anybody");
        write("counts/vqa.json");
        assert_eq!(files(folder.path()).unwrap(), [conversations]);
        fs::create_dir(folder.path().join("parquet")).unwrap();
        assert_eq!(files(folder.path()).unwrap(), [write("conversations/vqa.jsonl")], "the other folder is empty");
        let parquet = write("parquet/vqa.parquet");
        assert_eq!(files(folder.path()).unwrap(), [parquet]);
    }

    #[test]
    fn of_a_run_the_mixture_is_read_or_else_the_tasks() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| write(folder.path(), name);
        fs::write(folder.path().join("manifest.jsonl"), "").unwrap();
        write(".lock");
        write("instruct/counts/vqa.json");
        let tasks = write("instruct/conversations/vqa.jsonl");
        let found = listed(folder.path(), SUFFIXES).unwrap();
        assert_eq!((found.files, found.chosen.as_deref()), (vec![tasks], Some("instruct/conversations")));
        write("mixture/croissant.json");
        let mixture = write("mixture/conversations.jsonl");
        let found = listed(folder.path(), SUFFIXES).unwrap();
        assert_eq!((found.files, found.chosen.as_deref()), (vec![mixture], Some("mixture/conversations.jsonl")));
    }
}
