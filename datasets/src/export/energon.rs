//! Tar shards for Megatron-Energon, with the index that `energon prepare` would create.
//!
//! The files are those of version 7.4.1: `.tar.idx` next to each shard, and in `.nv-meta` the sizes
//! of shards (`.info.json`), their splits (`split.yaml`), how to read samples (`dataset.yaml`), the
//! offsets of all samples and members (`index.sqlite`) and a digest of the index (`index.uuid`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lynxdata_prompts::keyed_hash;
use lynxdata_records::sqlite::{Database, Tree, Value};
use lynxdata_records::webdataset::{Member, members};
use serde_json::json;

use super::tar::{begin, features};
use super::{Files, Format, SetFile};
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "energon",
    description: "Tar shards with `.nv-meta` and index for Megatron-Energon, as crude samples.",
    names_pictures: false,
    is_default: false,
    leaves_out: |_| None,
    features,
    begin: |_| Ok(begin(true)),
    describe: Some(describe),
};

/// The version of Energon whose files are written.
const ENERGON_VERSION: &str = "7.4.1";

/// The split that holds all shards; `get_train_dataset` reads it by default.
const TRAIN: &str = "train";

/// Writes `.nv-meta`. Besides the split of all shards, each set has a split with its name, so that
/// sets can be blended.
fn describe(set: &[SetFile], files: &mut Files) -> Result<()> {
    let is_shard = |file: &&SetFile| file.path.extension().is_some_and(|suffix| suffix == "tar");
    let shards: Vec<&SetFile> = set.iter().filter(is_shard).collect();
    let mut index = Index::create(&files(".nv-meta/index.sqlite")?)?;
    let mut sizes = BTreeMap::new();
    let mut splits: BTreeMap<&str, Vec<&str>> = BTreeMap::from([(TRAIN, Vec::new())]);
    for (number, shard) in (0..).zip(&shards) {
        sizes.insert(shard.name.as_str(), index.add_shard(number, &shard.path)?);
        splits.entry(TRAIN).or_default().push(&shard.name);
        if let Some((set, _)) = shard.name.split_once('/') {
            // Parts of a set after the first one have a number after the name of the set.
            let first = set.rsplit_once('-').filter(|(first, number)| number.len() == 5 && splits.contains_key(first));
            splits.entry(first.map_or(set, |(first, _)| first)).or_default().push(&shard.name);
        }
    }
    let digest = index.finish()?;
    // JSON is also valid YAML.
    let texts = [
        (".info.json", json!({"energon_version": ENERGON_VERSION, "shard_counts": sizes})),
        ("split.yaml", json!({"split_parts": splits, "exclude": []})),
        ("dataset.yaml", json!({"__module__": "megatron.energon", "__class__": "CrudeWebdataset"})),
    ];
    let texts = texts.map(|(name, value)| (name, format!("{value:#}\n")));
    for (name, text) in texts.into_iter().chain([("index.uuid", digest)]) {
        let path = files(&format!(".nv-meta/{name}"))?;
        std::fs::write(&path, text).map_err(|source| Error::Io { action: "write", path, source })?;
    }
    Ok(())
}

/// Writes `index.sqlite`.
struct Index {
    database: Database,
    samples: Tree,
    samples_by_place: Tree,
    parts: Tree,
    parts_in_order: Tree,
    parts_by_name: Tree,
    /// The keys of all samples and their rows.
    keys: BTreeSet<(String, i64)>,
    digest: [u64; 2],
}

impl Index {
    fn create(path: &Path) -> Result<Index> {
        Ok(Index {
            database: Database::create(path)?,
            samples: Tree::table(),
            samples_by_place: Tree::index(),
            parts: Tree::table(),
            parts_in_order: Tree::index(),
            parts_by_name: Tree::index(),
            keys: BTreeSet::new(),
            digest: [0, 1],
        })
    }

    /// Adds the samples of a shard and returns their number.
    fn add_shard(&mut self, number: i64, path: &Path) -> Result<i64> {
        let (mut samples, mut sample): (i64, Vec<Member>) = (0, Vec::new());
        for member in members(path)? {
            if sample.first().is_some_and(|first| first.key() != member.key()) {
                self.add_sample(number, samples, &sample, member.offset)?;
                samples += 1;
                sample.clear();
            }
            sample.push(member);
        }
        if let Some(last) = sample.last() {
            let end = last.end();
            self.add_sample(number, samples, &sample, end)?;
            samples += 1;
        }
        Ok(samples)
    }

    fn add_sample(&mut self, shard: i64, place: i64, members: &[Member], end: u64) -> Result<()> {
        let database = &mut self.database;
        let (key, begin) = (members[0].key(), members[0].offset);
        let (of_shard, of_sample) = (Value::Integer(shard), Value::Integer(place));
        let [offset, size] = [begin, end - begin].map(integer);
        let row = self.samples.push(database, &[of_shard, Value::Text(key), of_sample, offset, size])?;
        self.samples_by_place.push(database, &[of_shard, of_sample, Value::Integer(row)])?;
        self.keys.insert((key.to_owned(), row));
        self.digest = self.digest.map(|digest| keyed_hash(digest, &[key, &begin.to_string(), &end.to_string()]));
        let mut by_name = Vec::with_capacity(members.len());
        for member in members {
            let (name, [offset, size]) = (member.extension(), [member.content, member.bytes].map(integer));
            let row = self.parts.push(database, &[of_shard, of_sample, Value::Text(name), offset, size])?;
            self.parts_in_order.push(database, &[of_shard, of_sample, offset, Value::Integer(row)])?;
            by_name.push((name, offset, size, row));
        }
        by_name.sort_by_key(|(name, ..)| *name);
        for (name, offset, size, row) in by_name {
            let entry = [of_shard, of_sample, Value::Text(name), offset, size, Value::Integer(row)];
            self.parts_by_name.push(database, &entry)?;
        }
        Ok(())
    }

    /// Finishes the file and returns a digest of it in the form of a UUID.
    fn finish(mut self) -> Result<String> {
        let mut by_key = Tree::index();
        for (key, row) in &self.keys {
            by_key.push(&mut self.database, &[Value::Text(key), Value::Integer(*row)])?;
        }
        let database = &mut self.database;
        database.add_table(
            "samples",
            "CREATE TABLE samples (tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, \
             sample_index INTEGER NOT NULL, byte_offset INTEGER, byte_size INTEGER)",
            self.samples,
        )?;
        database.add_index("sqlite_autoindex_samples_1", "samples", None, by_key)?;
        database.add_table(
            "sample_parts",
            "CREATE TABLE sample_parts (tar_file_id INTEGER, sample_index INTEGER, part_name TEXT, \
             content_byte_offset INTEGER, content_byte_size INTEGER)",
            self.parts,
        )?;
        let indexes = [
            ("idx_samples_by_tar_and_idx", "samples", "tar_file_id, sample_index", self.samples_by_place),
            (
                "idx_sample_parts_seq",
                "sample_parts",
                "tar_file_id, sample_index, content_byte_offset",
                self.parts_in_order,
            ),
            (
                "idx_sample_parts_full",
                "sample_parts",
                "tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size",
                self.parts_by_name,
            ),
        ];
        for (name, table, columns, tree) in indexes {
            database.add_index(name, table, Some(&format!("CREATE INDEX {name} ON {table}({columns})")), tree)?;
        }
        self.database.finish()?;
        let [high, low] = self.digest.map(|half| format!("{half:016x}"));
        Ok(format!("{}-{}-{}-{}-{}", &high[..8], &high[8..12], &high[12..], &low[..4], &low[4..]))
    }
}

fn integer<'a>(bytes: u64) -> Value<'a> {
    Value::Integer(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::export::tests::{conversation, written};

    #[test]
    fn every_set_is_a_split_with_all_its_parts() {
        let names = ["a-train", "a-train-00001", "b-val"];
        let sets = names.map(|name| (name, written(&FORMAT, &[conversation("vqa/a", &[name, "this"])])));
        let of_set = |(name, folder): &(&str, tempfile::TempDir)| SetFile {
            name: format!("{name}/000000.tar"),
            path: folder.path().join("set/000000.tar"),
        };
        let files: Vec<SetFile> = sets.iter().map(of_set).collect();
        let described = |files: &[SetFile]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join(".nv-meta")).unwrap();
            FORMAT.describe(files, &mut |name| Ok(folder.path().join(name))).unwrap();
            let read = |name: &str| std::fs::read_to_string(folder.path().join(".nv-meta").join(name)).unwrap();
            let json = |name: &str| serde_json::from_str::<Json>(&read(name)).unwrap();
            (json("split.yaml"), json(".info.json"), read("index.uuid"))
        };
        let (splits, info, uuid) = described(&files);
        let of_a = ["a-train/000000.tar", "a-train-00001/000000.tar"];
        let all = [of_a[0], of_a[1], "b-val/000000.tar"];
        let expected = json!({"train": all, "a-train": of_a, "b-val": ["b-val/000000.tar"]});
        assert_eq!(splits["split_parts"], expected);
        assert_eq!(info["shard_counts"], json!({(all[0]): 1, (all[1]): 1, (all[2]): 1}));
        assert_eq!((uuid.len(), uuid.matches('-').count()), (36, 4));
        assert_ne!(uuid, described(&files[..1]).2);
    }
}
