//! WebDataset: tar archives in which the members of a sample are adjacent.
//!
//! Samples are defined as in the `webdataset` Python package (1.0): consecutive members with the
//! same key, which is the folder and the base name up to its first dot. Members without a dot,
//! members named like `__name__`, and hidden ones belong to no sample.
//!
//! Some archives are packed from files with further dots in their names, such as `2024.05.01.jpg`.
//! So a text or JSON member whose name equals that of an image up to the last suffix belongs to
//! this image only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_names::is_hidden;
use super::left_out::{Kind, LeftOut};
use super::lines::MAX_ROW_BYTES;
use super::pictures::{Beside, Scanned, TEXT_SUFFIXES, VALUES_SUFFIX, is_picture, push_picture};
use super::rows::{Batch, Place, Rows};
use super::tar::{Archive, Entry, Member};
use super::{Columns, ReadRows, jsonl};
use crate::{Error, Result};

/// Reads the headers and the JSON members of an archive to find the types of their keys. `image` is
/// the extension of the images, if the recipe sets it.
pub(super) fn scan(path: &Path, image: Option<&str>, keys: &mut jsonl::Keys) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut samples = Samples::open(path, image)?;
    while let Some(item) = samples.next()? {
        match item {
            Item::Picture(picture) => {
                scanned.has_several |= picture.index > 0;
                scanned.add(&picture.beside, keys);
            }
            Item::Problem(_) => scanned.problems += 1,
        }
    }
    scanned.left_out.append(samples.left_out);
    Ok(scanned)
}

pub(super) struct WebDatasetRows {
    path: PathBuf,
    /// The name of the archive relative to the source, with a slash at its end.
    name: String,
    samples: Samples,
    columns: Columns,
    rows: Rows,
}

impl WebDatasetRows {
    /// Opens an archive; `name` is its name relative to the source.
    pub(super) fn open(path: &Path, name: &str, image: Option<&str>, columns: Columns) -> Result<WebDatasetRows> {
        let rows = Rows::new(&columns.extra_fields());
        let samples = Samples::open(path, image)?;
        Ok(WebDatasetRows { path: path.to_owned(), name: format!("{name}/"), samples, columns, rows })
    }
}

impl ReadRows for WebDatasetRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let Picture { member, beside, index } = match self.samples.next()? {
                None => break,
                Some(Item::Picture(picture)) => picture,
                Some(Item::Problem(problem)) => {
                    self.rows.push_problem(&problem);
                    continue;
                }
            };
            let place = Place {
                file: self.path.to_string_lossy().into_owned(),
                offset: member.offset,
                length: member.length,
                name: format!("{}{}", self.name, member.name),
            };
            push_picture(&mut self.rows, &self.columns, &beside, &place, index).map_err(|key| {
                jsonl::changed(&self.path, "webdataset", &format!("the sample of {:?}", member.name), &key)
            })?;
        }
        Ok(self.rows.take())
    }
}

enum Item {
    Picture(Picture),
    Problem(String),
}

struct Picture {
    member: Member,
    beside: Arc<Beside>,
    /// Number of the image in its sample, from 0.
    index: usize,
}

/// A sample whose members are being collected.
struct Sample {
    key: String,
    /// Extensions of its members, in lower case, to find repeated ones.
    extensions: BTreeSet<String>,
    /// Text and JSON members, by their extension without the last suffix.
    texts: BTreeMap<String, Vec<Text>>,
    /// Images with their extensions, in lower case.
    pictures: Vec<(Member, String)>,
    /// Members of other kinds.
    others: Vec<String>,
}

struct Text {
    name: String,
    /// One of [`TEXT_SUFFIXES`], or [`VALUES_SUFFIX`].
    suffix: &'static str,
    /// The content, or the reason why it is not read.
    content: std::result::Result<Vec<u8>, String>,
}

/// Returns an extension without its last suffix: nothing for `jpg`, `seg` for `seg.png`.
fn inner(extension: &str) -> &str {
    extension.rsplit_once('.').map_or("", |(inner, _)| inner)
}

impl Sample {
    fn new(key: &str) -> Sample {
        Sample {
            key: key.to_owned(),
            extensions: BTreeSet::new(),
            texts: BTreeMap::new(),
            pictures: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Adds the images of the sample that become rows, with their texts and values, to `finished`.
    fn finish(self, image: Option<&str>, left_out: &mut LeftOut, finished: &mut VecDeque<Picture>) {
        let Sample { key, texts, pictures, others, extensions: _ } = self;
        if pictures.is_empty() {
            left_out.add(Kind::SampleWithoutPicture, &key);
            return;
        }
        for name in &others {
            left_out.add(Kind::OtherMember, name);
        }
        // `0.txt` and `0.jpg.txt` belong to `0.jpg` only; `txt` belongs to the whole sample.
        let own = |extension: &str| {
            [inner(extension), extension].map(str::to_owned).into_iter().filter(|inner| !inner.is_empty())
        };
        let has_own = |extension: &str| own(extension).any(|inner| texts.contains_key(&inner));
        let is_plain = |extension: &str| inner(extension).is_empty();
        let has_plain = pictures.iter().any(|(_, extension)| is_plain(extension));
        // `0.1.jpg` beside `0.jpg` is another image, but `0.seg.png` is a companion of an image,
        // such as a mask.
        let is_number = |extension: &str| inner(extension).bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_row = |extension: &str| match image {
            Some(image) => extension.eq_ignore_ascii_case(image),
            None => !has_plain || is_number(extension) || has_own(extension),
        };
        let (rows, companions): (Vec<_>, Vec<_>) = pictures.into_iter().partition(|(_, extension)| is_row(extension));
        for (member, _) in &companions {
            left_out.add(Kind::Companion, &member.name);
        }
        let shared = texts.get("");
        // If there is no shared text and every image has its own, every image is a sample of its
        // own.
        let is_one = shared.is_some() || !rows.iter().all(|(_, extension)| has_own(extension));
        let mut used: BTreeSet<String> = shared.iter().map(|_| String::new()).collect();
        let mut of_sample: Option<Arc<Beside>> = None;
        for (number, (member, extension)) in rows.into_iter().enumerate() {
            let inners: Vec<String> = own(&extension).filter(|inner| texts.contains_key(inner)).collect();
            let beside = match &of_sample {
                Some(beside) if inners.is_empty() => beside.clone(),
                _ => {
                    let own = inners.iter().filter_map(|inner| texts.get(inner));
                    Arc::new(beside(&own.chain(shared).flatten().collect::<Vec<_>>()))
                }
            };
            if inners.is_empty() {
                of_sample = Some(beside.clone());
            }
            used.extend(inners);
            finished.push_back(Picture { member, beside, index: if is_one { number } else { 0 } });
        }
        let unused = texts.iter().filter(|(inner, _)| !used.contains(*inner)).flat_map(|(_, texts)| texts);
        for text in unused {
            left_out.add(Kind::TextWithoutPicture, &text.name);
        }
    }
}

/// Merges texts. The first one of each kind is used, and of text files the first suffix of
/// [`TEXT_SUFFIXES`].
fn beside(texts: &[&Text]) -> Beside {
    let mut beside = Beside::default();
    for suffix in TEXT_SUFFIXES.into_iter().chain([VALUES_SUFFIX]) {
        for text in texts.iter().filter(|text| text.suffix == suffix) {
            match &text.content {
                Err(problem) => beside.fail(problem.clone()),
                Ok(bytes) if suffix == VALUES_SUFFIX => beside.add_values(&text.name, bytes),
                Ok(bytes) => beside.add_text(&text.name, suffix, bytes),
            }
        }
    }
    beside
}

/// Iterates over the images of an archive, with their texts and values.
struct Samples {
    path: PathBuf,
    archive: Archive,
    image: Option<String>,
    current: Option<Sample>,
    /// Images of the sample that was finished last.
    finished: VecDeque<Picture>,
    /// Problems found while a sample was collected. They are returned before the images of that
    /// sample, but a problem at the end of the archive after them.
    problems: VecDeque<String>,
    is_done: bool,
    left_out: LeftOut,
}

impl Samples {
    fn open(path: &Path, image: Option<&str>) -> Result<Samples> {
        let read = |source| Error::read(path, source);
        let mut archive = Archive::open(path).map_err(read)?;
        if archive.is_compressed().map_err(read)? {
            let reason = "it is compressed, but images are read by their offsets in the file; decompress it first";
            return Err(Error::Format { path: path.to_owned(), format: "webdataset", reason: reason.to_owned() });
        }
        Ok(Samples {
            path: path.to_owned(),
            archive,
            image: image.map(str::to_owned),
            current: None,
            finished: VecDeque::new(),
            problems: VecDeque::new(),
            is_done: false,
            left_out: LeftOut::default(),
        })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(picture) = self.finished.pop_front() {
                return Ok(Some(Item::Picture(picture)));
            }
            if let Some(problem) = self.problems.pop_front() {
                return Ok(Some(Item::Problem(problem)));
            }
            if self.is_done {
                return Ok(None);
            }
            let entry = self.archive.next_entry().map_err(|source| Error::read(&self.path, source))?;
            let finished = match entry {
                Some(Entry::File(member)) => self.add(member)?,
                Some(Entry::Refused(problem)) => return Ok(Some(Item::Problem(problem))),
                Some(Entry::Broken(problem)) => {
                    self.problems.push_back(problem);
                    self.current.take()
                }
                None => {
                    self.is_done = true;
                    self.current.take()
                }
            };
            if let Some(sample) = finished {
                sample.finish(self.image.as_deref(), &mut self.left_out, &mut self.finished);
            }
        }
    }

    /// Adds a member to its sample. Returns the previous sample if this member begins another one.
    fn add(&mut self, member: Member) -> Result<Option<Sample>> {
        let Some((key, extension)) = split(&member.name) else {
            self.left_out.add(if is_hidden(&member.name) { Kind::Hidden } else { Kind::OtherMember }, &member.name);
            return Ok(None);
        };
        let finished = if self.current.as_ref().is_some_and(|sample| sample.key == key) {
            None
        } else {
            self.current.replace(Sample::new(key))
        };
        let Some(sample) = &mut self.current else { return Ok(finished) };
        let extension = extension.to_lowercase();
        if !sample.extensions.insert(extension.clone()) {
            self.problems
                .push_back(format!("the member {:?} of the archive is there twice in one sample", member.name));
            return Ok(finished);
        }
        let last = extension.rsplit('.').next().unwrap_or_default();
        let text = TEXT_SUFFIXES.into_iter().chain([VALUES_SUFFIX]).find(|suffix| *suffix == last);
        if is_picture(&member.name) {
            sample.pictures.push((member, extension));
        } else if let Some(suffix) = text {
            let content = if member.length > MAX_ROW_BYTES as u64 {
                Err(format!("{:?} is longer than {MAX_ROW_BYTES} bytes", member.name))
            } else {
                let bytes = self.archive.read(member.offset, member.length);
                Ok(bytes.map_err(|source| Error::read(&self.path, source))?)
            };
            let text = Text { name: member.name, suffix, content };
            sample.texts.entry(inner(&extension).to_owned()).or_default().push(text);
        } else {
            sample.others.push(member.name);
        }
        Ok(finished)
    }
}

/// Returns the key and the extension of a member; `None` if it belongs to no sample.
fn split(name: &str) -> Option<(&str, &str)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let first = name.split('/').next().unwrap_or(name);
    let is_meta = first.len() >= 4 && first.starts_with("__") && first.ends_with("__");
    let dot = base + name[base..].find('.').filter(|dot| *dot > 0)?;
    (!is_meta).then_some((&name[..dot], &name[dot + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_split_as_webdataset_does() {
        // Golden values: `base_plus_ext` of webdataset 1.0.2.
        for (name, expected) in [
            ("a.jpg", Some(("a", "jpg"))),
            ("dir/a.seg.PNG", Some(("dir/a", "seg.PNG"))),
            ("./a.jpg", Some(("./a", "jpg"))),
            ("a", None),
            ("dir.x/a", None),
            ("dir.x/a.b.c", Some(("dir.x/a", "b.c"))),
            (".hidden.jpg", None),
            ("a.", Some(("a", ""))),
            ("ä.jpg", Some(("ä", "jpg"))),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
        // There, this one is a member of a sample called `x/`; here, hidden files belong to none.
        assert_eq!(split("x/.hidden.jpg"), None);
        // `tar_file_iterator` passes over these before they are split.
        assert_eq!((split("__meta__"), split("__meta__/a.jpg"), split("____")), (None, None, None));
        assert_eq!(split("__a.jpg"), Some(("__a", "jpg")));
    }
}
