//! WebDataset: tar archives in which the members of a sample stand beside each other.
//!
//! Samples are those of the `webdataset` Python package (1.0): members that follow one another and share the key, which is the folder and the base name up
//! to its first dot. Members without a dot, those of the form `__name__`, and hidden ones belong to no sample.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::lines::MAX_ROW_BYTES;
use super::pictures::{Beside, Scanned, TEXT_SUFFIXES, VALUES_SUFFIX, is_picture, push_picture};
use super::rows::{Batch, Place, Rows};
use super::tar::{Archive, Entry, Member};
use super::{Columns, ReadRows, jsonl};
use crate::{Error, Result};

/// Reads the headers and the JSON members of an archive, for the types of their keys.
pub(super) fn scan(path: &Path, keys: &mut jsonl::Keys) -> Result<Scanned> {
    let mut scanned = Scanned::default();
    let mut samples = Samples::open(path)?;
    while let Some(item) = samples.next()? {
        match item {
            Item::Sample(sample) => scanned.add(&sample.beside, sample.pictures.len(), keys),
            Item::Problem(_) => scanned.problems += 1,
        }
    }
    if samples.without_picture > 0 {
        tracing::warn!(path = %path.display(), samples = samples.without_picture, "samples without a picture are no rows");
    }
    Ok(scanned)
}

pub(super) struct WebDatasetRows {
    path: PathBuf,
    /// The archive below the source, with a slash at its end.
    name: String,
    samples: Samples,
    /// The sample at hand and its next picture, if it has any left.
    pending: Option<(Sample, usize)>,
    columns: Columns,
    rows: Rows,
}

impl WebDatasetRows {
    /// `name` is that of the archive below the source.
    pub(super) fn open(path: &Path, name: &str, columns: Columns) -> Result<WebDatasetRows> {
        let rows = Rows::new(&columns.extra_fields());
        let samples = Samples::open(path)?;
        Ok(WebDatasetRows { path: path.to_owned(), name: format!("{name}/"), samples, pending: None, columns, rows })
    }
}

impl ReadRows for WebDatasetRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        while !self.rows.is_full() {
            let (sample, next) = match self.pending.take() {
                Some(pending) => pending,
                None => match self.samples.next()? {
                    None => break,
                    Some(Item::Sample(sample)) => (sample, 0),
                    Some(Item::Problem(problem)) => {
                        self.rows.push_problem(&problem);
                        continue;
                    }
                },
            };
            let Some(picture) = sample.pictures.get(next) else { continue };
            let place = Place {
                file: self.path.to_string_lossy().into_owned(),
                offset: picture.offset,
                length: picture.length,
                name: format!("{}{}", self.name, picture.name),
            };
            push_picture(&mut self.rows, &self.columns, &sample.beside, &place, next)
                .map_err(|key| jsonl::changed(&self.path, "webdataset", &format!("sample {:?}", sample.key), &key))?;
            self.pending = Some((sample, next + 1));
        }
        Ok(self.rows.take())
    }
}

enum Item {
    /// It has a picture.
    Sample(Sample),
    Problem(String),
}

struct Sample {
    key: String,
    /// What follows the keys of its members, to find repeated ones.
    extensions: BTreeSet<String>,
    beside: Beside,
    pictures: Vec<Member>,
}

/// The samples of an archive, one after another.
struct Samples {
    path: PathBuf,
    archive: Archive,
    current: Option<Sample>,
    /// Found while a sample was looked at; they come before it, or at the end of the archive, after it.
    problems: VecDeque<String>,
    without_picture: u64,
}

impl Samples {
    fn open(path: &Path) -> Result<Samples> {
        let read = |source| Error::read(path, source);
        let mut archive = Archive::open(path).map_err(read)?;
        if archive.is_compressed().map_err(read)? {
            let reason = "it is compressed, but pictures are read by their places in the file; decompress it first";
            return Err(Error::Format { path: path.to_owned(), format: "webdataset", reason: reason.to_owned() });
        }
        Ok(Samples { path: path.to_owned(), archive, current: None, problems: VecDeque::new(), without_picture: 0 })
    }

    fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(problem) = self.problems.pop_front() {
                return Ok(Some(Item::Problem(problem)));
            }
            let entry = self.archive.next_entry().map_err(|source| Error::read(&self.path, source))?;
            let finished = match entry {
                Some(Entry::File(member)) => self.add(member)?,
                Some(Entry::Refused(problem)) => return Ok(Some(Item::Problem(problem))),
                Some(Entry::Broken(problem)) => {
                    self.problems.push_back(problem);
                    self.current.take()
                }
                None => match self.current.take() {
                    None => return Ok(None),
                    last => last,
                },
            };
            let Some(sample) = finished else { continue };
            if !sample.pictures.is_empty() {
                return Ok(Some(Item::Sample(sample)));
            }
            self.without_picture += 1;
        }
    }

    /// Adds a member to its sample; returns the sample before, if that is finished by it.
    fn add(&mut self, member: Member) -> Result<Option<Sample>> {
        let Some((key, extension)) = split(&member.name) else { return Ok(None) };
        let finished = if self.current.as_ref().is_some_and(|sample| sample.key == key) {
            None
        } else {
            let sample = Sample {
                key: key.to_owned(),
                extensions: BTreeSet::new(),
                beside: Beside::default(),
                pictures: Vec::new(),
            };
            self.current.replace(sample)
        };
        let Some(sample) = &mut self.current else { return Ok(finished) };
        let extension = extension.to_lowercase();
        if sample.extensions.contains(&extension) {
            self.problems
                .push_back(format!("the member {:?} of the archive is there twice in one sample", member.name));
            return Ok(finished);
        }
        let text = TEXT_SUFFIXES.into_iter().find(|suffix| *suffix == extension);
        if is_picture(&member.name) {
            sample.pictures.push(member);
        } else if text.is_some() || extension == VALUES_SUFFIX {
            if member.length > MAX_ROW_BYTES as u64 {
                sample.beside.fail(format!("{:?} is longer than {MAX_ROW_BYTES} bytes", member.name));
            } else {
                let bytes = self.archive.read(member.offset, member.length);
                let bytes = bytes.map_err(|source| Error::read(&self.path, source))?;
                match text {
                    Some(suffix) => sample.beside.add_text(&member.name, suffix, bytes),
                    None => sample.beside.add_values(&member.name, &bytes),
                }
            }
        }
        sample.extensions.insert(extension);
        Ok(finished)
    }
}

/// The key of a member and what follows it; `None` if it belongs to no sample.
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
