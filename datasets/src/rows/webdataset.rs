//! Rows of WebDataset shards: tar files in which the members of a sample are adjacent.
//!
//! The rules are those of the `webdataset` Python package, as in `lynxdata_records::webdataset`:
//! the key of a sample ends at the first dot of the file name, and extensions are lower-case.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};

use lynxdata_records::python_json::normalise;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::row::Row;
use super::{Emit, Source};
use crate::picture::{PICTURES, VIDEOS};

/// Extensions of members that are texts.
const TEXTS: [&str; 4] = ["txt", "text", "caption", "cls"];

/// The extension of members that are JSON.
const JSON: &str = "json";

/// The members of a sample so far.
#[derive(Default)]
struct Sample {
    key: String,
    /// The extensions of its members.
    extensions: BTreeSet<String>,
    texts: Map<String, Value>,
    json: Vec<(String, Vec<u8>)>,
    images: Vec<String>,
    videos: Vec<String>,
    others: Vec<String>,
    fault: Option<String>,
}

/// Reads one row per sample. Members that are texts or JSON are fields with the names of their
/// extensions. `_key` is the key. `_images`, `_videos` and `_others` are lists of the paths of the
/// other members, beginning with the archive (`shard.tar/a.jpg`). Their contents are not read.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let failed = |fault: std::io::Error| fault.to_string();
    let file = File::open(source.on_disk()?).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let (mut sample, mut number) = (None::<Sample>, 0);
    for entry in archive.entries_with_seek().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        if !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name);
        if entry.raw_file_position().saturating_add(entry.size()) > length {
            return Err(format!("member {name} is cut off by the end of the file"));
        }
        let base = name.rfind('/').map_or(0, |place| place + 1);
        let Some(dot) = name[base..].find('.').map(|place| base + place) else { continue };
        if name[base..].starts_with(['.', '_']) {
            continue;
        }
        let (key, extension) = (&name[..dot], name[dot + 1..].to_ascii_lowercase());
        if let Some(done) = sample.take_if(|sample| sample.key != key) {
            if emit(number, done.row()).is_break() {
                return Ok(());
            }
            number += 1;
        }
        let sample = sample.get_or_insert_with(|| Sample { key: key.to_owned(), ..Sample::default() });
        if !sample.extensions.insert(extension.clone()) {
            sample.fault = Some(format!("it has two members with the extension {extension}; the second is {name}"));
            continue;
        }
        let path = format!("{}/{name}", source.file.name);
        match extension.rsplit('.').next().unwrap_or_default() {
            JSON => {
                let mut text = Vec::new();
                entry.read_to_end(&mut text).map_err(failed)?;
                sample.json.push((extension, text));
            }
            last if TEXTS.contains(&last) => {
                let mut text = Vec::new();
                entry.read_to_end(&mut text).map_err(failed)?;
                match String::from_utf8(text) {
                    Ok(text) => drop(sample.texts.insert(extension, Value::from(text))),
                    Err(_) => sample.fault = Some(format!("member {name} is not UTF-8")),
                }
            }
            last if PICTURES.contains(&last) => sample.images.push(path),
            last if VIDEOS.contains(&last) => sample.videos.push(path),
            _ => sample.others.push(path),
        }
    }
    if let Some(last) = sample {
        let _ = emit(number, last.row());
    }
    Ok(())
}

impl Sample {
    fn row(self) -> Result<Row, String> {
        let Self { key, extensions: _, texts, json, images, videos, others, fault } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        let lists = json!({"_key": key, "_images": images, "_videos": videos, "_others": others});
        let mut row = Row::from(Value::Object(texts));
        for (name, value) in lists.as_object().into_iter().flatten() {
            row.insert(name, value.to_string().as_bytes());
        }
        for (extension, text) in json {
            let text = normalise(&text);
            serde_json::from_slice::<IgnoredAny>(&text)
                .map_err(|fault| format!("member {key}.{extension} is not JSON: {fault}"))?;
            row.insert(&extension, text.trim_ascii());
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;
    use crate::archive::tests::write_tar;

    #[test]
    fn adjacent_members_with_one_key_are_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000.tar");
        write_tar(
            &path,
            &[
                ("./a/1.json", b"{\"x\": [1, NaN]}"),
                ("./a/1.0.JPG", b"p"),
                ("./a/1.1.png", b"q"),
                ("a/2.txt", "caf\u{e9}".as_bytes()),
                ("a/2.mp4", b"v"),
                ("a/2.wav", b"s"),
                ("a/__meta__", b"x"),
                ("a/3.json", b"{"),
                ("a/4.txt", b"\xff"),
                ("a/5.txt", b"one"),
                ("a/5.TXT", b"two"),
            ],
        );
        let found = rows(folder.path(), "file = \"*.tar\"", Shape::List).unwrap();
        let first = json!({"_key": "a/1", "_images": ["000.tar/a/1.0.JPG", "000.tar/a/1.1.png"], "_videos": [],
            "_others": [], "json": {"x": [1, null]}});
        let second = json!({"_key": "a/2", "_images": [], "_videos": ["000.tar/a/2.mp4"],
            "_others": ["000.tar/a/2.wav"], "txt": "caf\u{e9}"});
        assert_eq!((&found[0].2, found[1].1, &found[1].2), (&first, 1, &second));
        let faults: Vec<String> = found[2..].iter().map(|(.., row)| row["unreadable"].to_string()).collect();
        assert!(faults[0].contains("a/3.json is not JSON") && faults[1].contains("a/4.txt is not UTF-8"), "{faults:?}");
        assert!(faults[2].contains("two members with the extension txt; the second is a/5.TXT"), "{faults:?}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..513]).unwrap();
        let fault = rows(folder.path(), "file = \"*.tar\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("a/1.json is cut off"), "{fault}");
    }
}
