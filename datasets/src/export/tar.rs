//! Writes tar shards for the `webdataset` package. A sample has its conversation as `json` and its
//! images as `0.jpg`, `1.png`, ….

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use lynxdata_picture::{Format as PictureFormat, format_of};
use lynxdata_prompts::keyed_hash;
use lynxdata_records::{MeasuredFile, webdataset};
use serde_json::Value;

use super::json::{column, structs};
use super::{Files, Pictures, SetFile, Writer, sharegpt};
use crate::build::Conversation;
use crate::{Error, Result};

/// The maximum number of samples in a shard, the default of img2dataset
/// (`number_sample_per_shard`).
const MOST_SAMPLES: usize = 10_000;

/// The size of a shard in bytes after which the next sample starts a new shard.
const MOST_BYTES: u64 = 1 << 30;

/// Writes samples to shards, one after another.
struct TarWriter {
    has_index: bool,
    shard: Option<Shard>,
    shards: u32,
}

/// A shard that is being written.
struct Shard {
    tar: webdataset::Writer<MeasuredFile>,
    /// The offset of each sample in bytes.
    offsets: Vec<u64>,
    number: u32,
}

/// Starts the shards of a set. With an index, a shard `000000.tar` also gets a `000000.tar.idx` as
/// Megatron-Energon writes it: the offset of every sample and of the end in bytes, as little-endian
/// 64-bit integers.
pub(super) fn begin(has_index: bool) -> Box<dyn Writer> {
    Box::new(TarWriter { has_index, shard: None, shards: 0 })
}

impl Writer for TarWriter {
    fn write(&mut self, conversations: &[Conversation], files: &mut Files, pictures: &mut Pictures) -> Result<()> {
        for conversation in conversations {
            let is_full = |shard: &Shard| shard.offsets.len() >= MOST_SAMPLES || shard.tar.bytes() >= MOST_BYTES;
            if self.shard.as_ref().is_some_and(is_full) {
                self.end_shard(files)?;
            }
            self.append(conversation, files, pictures)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, files: &mut Files) -> Result<()> {
        self.end_shard(files)?;
        Ok(())
    }
}

impl TarWriter {
    fn begin_shard(&mut self, files: &mut Files) -> Result<Shard> {
        let number = self.shards;
        self.shards += 1;
        let file = MeasuredFile::create(&files(&format!("/{number:06}.tar"))?)?;
        Ok(Shard { tar: webdataset::Writer::new(file), offsets: Vec::new(), number })
    }

    fn append(&mut self, conversation: &Conversation, files: &mut Files, pictures: &mut Pictures) -> Result<()> {
        let mut shard = match self.shard.take() {
            Some(shard) => shard,
            None => self.begin_shard(files)?,
        };
        let json =
            serde_json::to_vec(&sharegpt::Sample::of(conversation)).expect("a sample has only texts and numbers");
        let mut members = vec![("json".to_owned(), json)];
        for (place, image) in conversation.images.iter().enumerate() {
            let Some(bytes) = pictures(&image.path)? else { continue };
            // The suffix comes from the bytes, because decoders rely on it and file names may be
            // wrong.
            let suffix = format_of(&bytes).map_or("bin", PictureFormat::extension);
            members.push((format!("{place}.{suffix}"), bytes));
        }
        if let Some(video) = &conversation.video
            && let Some(bytes) = pictures(&video.path)?
        {
            let is_usual = |suffix: &&str| suffix.len() <= 4 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let suffix = Path::new(&video.path).extension().and_then(OsStr::to_str).filter(is_usual);
            members.push((suffix.unwrap_or("bin").to_ascii_lowercase(), bytes));
        }
        shard.offsets.push(shard.tar.bytes());
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        shard.tar.append(&key(conversation), &members)?;
        self.shard = Some(shard);
        Ok(())
    }

    fn end_shard(&mut self, files: &mut Files) -> Result<()> {
        let Some(Shard { tar, mut offsets, number }) = self.shard.take() else { return Ok(()) };
        offsets.push(tar.bytes());
        tar.finish()?.finish()?;
        if self.has_index {
            let path = files(&format!("/{number:06}.tar.idx"))?;
            let index: Vec<u8> = offsets.into_iter().flat_map(u64::to_le_bytes).collect();
            std::fs::write(&path, index).map_err(|source| Error::Io { action: "write", path, source })?;
        }
        Ok(())
    }
}

/// Returns the columns of shards: the member `json`, and all members that samples have in addition.
pub(super) fn features(set: &[SetFile]) -> Result<Vec<Value>> {
    let mut names = BTreeSet::new();
    for file in set {
        names.extend(webdataset::members(&file.path)?.iter().map(|member| member.extension().to_owned()));
    }
    names.remove("json");
    let mut columns = vec![structs("json", sharegpt::features())];
    columns.extend(names.iter().map(|name| {
        let is_image = name.starts_with(|first: char| first.is_ascii_digit());
        match name.rsplit('.').next() {
            Some("bin") => column(name, "binary"),
            _ => column(name, if is_image { "image" } else { "video" }),
        }
    }));
    columns.extend(["__key__", "__url__"].map(|name| column(name, "string")));
    Ok(columns)
}

/// Returns the key of a sample: a 128-bit hash of the id of its conversation as 32 hexadecimal
/// digits, so that sets can be combined.
fn key(conversation: &Conversation) -> String {
    let [high, low] = [0, 1].map(|seed| keyed_hash(seed, &[&conversation.id]));
    format!("{high:016x}{low:016x}")
}

#[cfg(test)]
mod tests {
    use lynxdata_records::webdataset::members;
    use serde_json::json;

    use super::*;
    use crate::build::ImageReference;
    use crate::export::Format;
    use crate::export::tests::{conversation, written};

    #[test]
    fn pictures_are_numbered_and_named_by_their_bytes() {
        let mut first = conversation("vqa/a", &["What?", "this"]);
        first.images.insert(0, ImageReference { path: "train/missing.jpg".to_owned() });
        let second = conversation("vqa/a", &["Where?", "here"]);
        let folder = written(Format::named("energon").unwrap(), &[first.clone(), second]);
        let path = folder.path().join("set/000000.tar");
        let members = members(&path).unwrap();
        let names: Vec<&str> = members.iter().map(lynxdata_records::webdataset::Member::extension).collect();
        assert_eq!(names, ["json", "1.png", "json", "0.png"]);
        assert_eq!((members[0].key(), members[0].key().len()), (members[1].key(), 32));
        let index = std::fs::read(folder.path().join("set/000000.tar.idx")).unwrap();
        let index: Vec<u64> = index.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(index, [0, members[2].offset, members[3].end()]);
        let bytes = std::fs::read(&path).unwrap();
        let json = &bytes[members[0].content as usize..][..members[0].bytes as usize];
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!((&json["id"], &json["images"]), (&json!(first.id), &json!(["train/missing.jpg", "train/a.jpg"])));
    }

    #[test]
    fn a_full_shard_is_followed_by_another_one() {
        let mut all = vec![conversation("vqa/a", &["What?", "this"]); MOST_SAMPLES + 1];
        all.iter_mut().enumerate().for_each(|(place, own)| own.id = place.to_string());
        let folder = written(Format::named("webdataset").unwrap(), &all);
        let members = |shard: &str| members(&folder.path().join("set").join(shard)).unwrap().len();
        assert_eq!((members("000000.tar"), members("000001.tar")), (2 * MOST_SAMPLES, 2));
        let folder = written(Format::named("webdataset").unwrap(), &[]);
        assert!(!folder.path().join("set").exists(), "Megatron-Energon refuses shards without samples");
    }
}
