//! Rows of WebDataset shards: tar files in which the members of a sample are adjacent.
//!
//! The rules are those of the `webdataset` Python package, as in `lynxdata_records::webdataset`:
//! the key of a sample ends at the first dot of the file name, and extensions are lower-case.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};

use lynxdata_records::python_json::normalise;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::row::Row;
use super::{Emit, Source};
use crate::picture::{PICTURES, VIDEOS};

/// Extensions of members that are texts.
const TEXTS: [&str; 4] = ["txt", "text", "caption", "cls"];

/// The extension of members that are JSON.
const JSON: &str = "json";

/// The mark that some editors write before UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The members of a sample so far.
#[derive(Default)]
struct Sample {
    key: String,
    /// The extensions of its members.
    extensions: BTreeSet<String>,
    texts: Map<String, Value>,
    json: Vec<(String, Vec<u8>)>,
    /// The images, in the order of the members.
    images: Vec<Member>,
    videos: Vec<String>,
    others: Vec<String>,
    fault: Option<String>,
}

/// A member that is an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// The name in the archive.
    name: String,
    /// The length of the key in the name.
    key: usize,
    /// The path that begins with the archive.
    path: String,
}

/// The fields of a `json` that decide the order of images.
#[derive(Deserialize)]
struct Listed {
    images: Vec<String>,
    /// The file of the source, which our exports name. Their images are numbered, and `images` has
    /// the paths of the source instead of the names of members.
    source_file: Option<IgnoredAny>,
}

/// Reads one row per sample. Members that are texts or JSON are fields with the names of their
/// extensions. `_key` is the key. `_images`, `_videos` and `_others` are lists of the paths of the
/// other members, beginning with the archive (`shard.tar/a.jpg`). Their contents are not read.
/// Images are in the order of the list `images` of the `json` if it names all of them. Otherwise
/// they are in the order of the number in which their names differ: `webdataset.TarWriter` writes
/// `10.jpg` before `2.jpg`.
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
                    Ok(text) => {
                        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
                        sample.texts.insert(extension, Value::from(text));
                    }
                    Err(_) => sample.fault = Some(format!("member {name} is not UTF-8")),
                }
            }
            last if PICTURES.contains(&last) => {
                sample.images.push(Member { name: name.to_owned(), key: dot, path });
            }
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
        let Self { key, extensions: _, texts, mut json, images, videos, others, fault } = self;
        if let Some(fault) = fault {
            return Err(fault);
        }
        for (_, text) in &mut json {
            if text.starts_with(BYTE_ORDER_MARK.to_string().as_bytes()) {
                text.drain(..BYTE_ORDER_MARK.len_utf8());
            }
        }
        let dialog = json.iter().find(|(extension, _)| extension == JSON).map(|(_, text)| text.as_slice());
        let images: Vec<String> = in_order(images, dialog).into_iter().map(|member| member.path).collect();
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

/// Sorts the images of a sample.
fn in_order(mut members: Vec<Member>, json: Option<&[u8]>) -> Vec<Member> {
    if members.len() < 2 {
        return members;
    }
    let listed = json.and_then(|json| serde_json::from_slice::<Listed>(&normalise(json)).ok());
    if let Some(named) = listed.and_then(|listed| as_listed(&members, &listed)) {
        return named;
    }
    let names: Vec<Vec<&str>> = members.iter().map(|member| parts(member.stem())).collect();
    if let Some(place) = only_difference(&names) {
        let mut numbered: Vec<(&str, &Member)> = names.iter().map(|parts| parts[place]).zip(&members).collect();
        numbered.sort_by(|(first, _), (second, _)| by_number(first, second));
        members = numbered.into_iter().map(|(_, member)| member.clone()).collect();
    }
    members
}

/// Returns the members in the order of a list of names, if it names all of them and nothing else. A
/// name is with or without the key and its folders.
fn as_listed(members: &[Member], listed: &Listed) -> Option<Vec<Member>> {
    let is_named = |member: &Member, name: &str| {
        let base = member.name.rfind('/').map_or(0, |place| place + 1);
        let is_short = name == &member.name[member.key + 1..] && listed.source_file.is_none();
        is_short || name == member.name || name == &member.name[base..]
    };
    let find = |name: &String| members.iter().find(|member| is_named(member, name)).cloned();
    let named: Vec<Member> = listed.images.iter().map(find).collect::<Option<_>>()?;
    members.iter().all(|member| named.contains(member)).then_some(named)
}

impl Member {
    /// Returns its name without the key and without the last extension: `0` of `a/1.0.jpg`.
    fn stem(&self) -> &str {
        let name = &self.name[self.key..];
        name.rfind('.').map_or(name, |end| &name[..end])
    }
}

/// Splits a text into runs of digits and runs of other characters. Every second one, from the first
/// on, has no digits.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut rest, mut is_number) = (Vec::new(), text, false);
    while !rest.is_empty() {
        let end = rest.find(|character: char| character.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        parts.push(part);
        (rest, is_number) = (behind, !is_number);
    }
    parts
}

/// Returns the index of the number in which names differ, if nothing else differs.
fn only_difference(names: &[Vec<&str>]) -> Option<usize> {
    let (first, others) = names.split_first()?;
    let place = (0..first.len()).find(|place| others.iter().any(|name| name.get(*place) != first.get(*place)))?;
    let is_same = |name: &Vec<&str>| {
        name.len() == first.len() && name[..place] == first[..place] && name[place + 1..] == first[place + 1..]
    };
    (place % 2 == 1 && others.iter().all(is_same)).then_some(place)
}

/// Compares numbers of any length.
fn by_number(first: &str, second: &str) -> Ordering {
    let [first, second] = [first, second].map(|digits| digits.trim_start_matches('0'));
    first.len().cmp(&second.len()).then_with(|| first.cmp(second))
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;
    use crate::archive::tests::write_tar;

    #[test]
    fn images_are_in_the_order_of_a_list_or_of_their_numbers() {
        let order = |names: &[&str], json: Value| {
            let member = |name: &&str| Member { name: format!("f/k.{name}"), key: 3, path: (*name).to_owned() };
            let json = json.to_string();
            let sorted = in_order(names.iter().map(member).collect(), Some(json.as_bytes()));
            sorted.into_iter().map(|member| member.path).collect::<Vec<_>>()
        };
        for (names, sorted) in [
            (
                &["0.jpg", "1.png", "10.jpg", "11.jpg", "2.jpg"][..],
                &["0.jpg", "1.png", "2.jpg", "10.jpg", "11.jpg"][..],
            ),
            (&["img10.jpg", "img9.jpg"], &["img9.jpg", "img10.jpg"]),
            (&["v2.010.x.jpg", "v2.9.x.png"], &["v2.9.x.png", "v2.010.x.jpg"]),
            (&["1.png", "1.jpg", "0.jpg"], &["0.jpg", "1.png", "1.jpg"]),
            (&["b.jpg", "a.jpg"], &["b.jpg", "a.jpg"]),
            (&["b2.jpg", "a1.jpg"], &["b2.jpg", "a1.jpg"]),
            (&["2.2.jpg", "1.1.jpg"], &["2.2.jpg", "1.1.jpg"]),
            (&["1.jpg", "jpg"], &["1.jpg", "jpg"]),
            (&["1.seg.png", "0.jpg"], &["1.seg.png", "0.jpg"]),
        ] {
            assert_eq!(order(names, json!([1])), sorted);
        }
        let (letters, numbers) = (["a.jpg", "b.jpg"], ["0.jpg", "1.jpg"]);
        for list in [json!(["b.jpg", "a.jpg"]), json!(["k.b.jpg", "f/k.a.jpg"])] {
            assert_eq!(order(&letters, json!({"images": list})), ["b.jpg", "a.jpg"]);
        }
        for list in [json!(["b.jpg"]), json!(["b.jpg", "x.jpg"]), json!([2, 1]), json!("b.jpg")] {
            assert_eq!(order(&letters, json!({"images": list})), letters);
        }
        let list = json!(["1.jpg", "0.jpg"]);
        assert_eq!(order(&numbers, json!({"images": list})), ["1.jpg", "0.jpg"]);
        assert_eq!(order(&numbers, json!({"images": list, "source_file": "x"})), numbers, "paths of the source");
    }

    #[test]
    fn adjacent_members_with_one_key_are_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000.tar");
        write_tar(
            &path,
            &[
                ("./a/1.json", b"\xef\xbb\xbf{\"x\": [1, NaN]}"),
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
