//! Finds what is missing or malformed in the native files of a task.

use std::collections::BTreeSet;
use std::path::Path;

use lynxdata_prompts::Banks;
use rayon::prelude::*;
use serde::Serialize;

use crate::build::{Build, BuildSettings};
use crate::counts::TaskCounts;
use crate::picture::Pictures;
use crate::task::{Fact, Task};
use crate::video::Video;
use crate::{Error, Result};

/// The result of reading all native files of one split.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The split.
    pub split: String,
    /// The published number of records of the split, if the task file has it.
    pub published: Option<u64>,
    /// Errors that would stop a build: every missing file, a file that cannot be parsed, too many
    /// dropped records, or no conversation. It is empty if conversations can be made.
    pub faults: Vec<String>,
    /// The counts of rows and records, as a build has them before it looks for images.
    pub counts: TaskCounts,
    /// The images and videos of the conversations.
    pub media: MediaCount,
}

/// How many images and videos have a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MediaCount {
    /// All of them, each counted once, without those in the rows.
    pub wanted: u64,
    /// Those without a file.
    pub missing: u64,
    /// The path of the first one without a file.
    pub example: Option<String>,
}

/// Returns the published number of records of a split, if the task file has it.
fn published(task: &Task, split: &str) -> Option<u64> {
    task.splits.get(split).copied().filter(|records| *records > 0)
}

/// Returns a message if the number of records that were read differs from the published one, with
/// the source of that number. Some authors count records before the filtering that the predicates
/// of the task do, and some after it; both numbers are accepted.
pub fn count_difference(task: &Task, split: &str, counts: &TaskCounts) -> Option<String> {
    let published = published(task, split)?;
    let sifted = counts.dropped.iter().filter(|(reason, _)| reason.starts_with("where:"));
    let (seen, sifted) = (counts.records_seen, sifted.map(|(_, count)| count).sum::<u64>());
    let of_split = seen - sifted;
    if [seen, of_split].contains(&published) {
        return None;
    }
    let source = task.facts_from.get(&Fact::Splits).map_or("a number without a source", String::as_str);
    let sifted = if sifted == 0 { String::new() } else { format!(", of which {of_split} pass the predicates") };
    Some(format!("{seen} records were read{sifted}, and {published} are published ({source})"))
}

/// Makes all conversations of a split and looks for their images and videos. `images` is their
/// folder or an archive of them.
pub fn check(task: &Task, banks: &Banks, root: &Path, split: &str, images: &Path) -> Checked {
    let mut checked = Checked {
        split: split.to_owned(),
        published: published(task, split),
        faults: Vec::new(),
        counts: TaskCounts::default(),
        media: MediaCount::default(),
    };
    checked.faults.extend(task.missing_files(root, split).iter().map(Error::to_string));
    if !checked.faults.is_empty() {
        return checked;
    }
    let mut build = match Build::start(task, banks, root, split, &BuildSettings::default()) {
        Ok(build) => build,
        Err(error) => {
            checked.faults.push(error.to_string());
            return checked;
        }
    };
    let mut paths = BTreeSet::new();
    for conversation in build.by_ref() {
        match conversation {
            Ok(own) => {
                let images = own.images.into_iter().map(|image| image.path);
                paths.extend(images.filter(|path| !own.embedded.contains_key(path)));
                paths.extend(own.video.map(|video| video.path));
            }
            Err(error) => checked.faults.push(error.to_string()),
        }
    }
    checked.counts = build.counts().clone();
    if checked.faults.is_empty() && checked.counts.kept == 0 {
        checked.faults.push(checked.counts.nothing_made(&task.name, root).to_string());
    }
    match looked_for(&paths, &Pictures::of([images.to_owned()])) {
        Ok(media) => checked.media = media,
        Err(error) => checked.faults.push(error.to_string()),
    }
    checked
}

/// Looks for images and videos by their paths.
fn looked_for(paths: &BTreeSet<String>, pictures: &Pictures) -> Result<MediaCount> {
    let is_missing = |path: &String| -> Result<bool> {
        Ok(pictures.find(path)?.is_none() && Video::folder(pictures, path)?.is_empty())
    };
    let is_missing = paths.par_iter().map(is_missing).collect::<Result<Vec<bool>>>()?;
    let mut missing = paths.iter().zip(is_missing).filter(|(_, is_missing)| *is_missing).map(|(path, _)| path);
    let example = missing.next().cloned();
    let count = missing.count() as u64 + u64::from(example.is_some());
    Ok(MediaCount { wanted: paths.len() as u64, missing: count, example })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn every_missing_file_and_faulty_field_is_named() {
        let banks = Banks::shipped().unwrap();
        let catalogue = Catalogue::shipped(&banks).unwrap();
        let task = catalogue.get("vqav2").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = || check(task, &banks, folder.path(), "val", folder.path());
        let faults = check().faults;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("v2_OpenEnded_mscoco_val2014_questions.json"), "{faults:?}");
        assert!(faults[1].contains("v2_mscoco_val2014_annotations.json"), "{faults:?}");
        let questions = r#"{"questions": [{"question_id": 1, "image_id": 2, "queston": "What?"}]}"#;
        let answers = r#"{"annotations": [{"question_id": 1, "multiple_choice_answer": "net"}]}"#;
        fs::write(folder.path().join("v2_OpenEnded_mscoco_val2014_questions.json"), questions).unwrap();
        fs::write(folder.path().join("v2_mscoco_val2014_annotations.json"), answers).unwrap();
        let checked = check();
        assert_eq!((checked.published, checked.counts.records_seen), (Some(214_354), 1));
        let difference = count_difference(task, "val", &checked.counts).unwrap();
        assert!(difference.starts_with("1 records were read, and 214354 are published (https://"), "{difference}");
        assert_eq!(count_difference(task, "val", &TaskCounts { records_seen: 214_354, ..TaskCounts::default() }), None);
        assert_eq!(count_difference(task, "no such split", &checked.counts), None);
        let place = "file v2_OpenEnded_mscoco_val2014_questions.json, row 0: slots.question";
        assert!(checked.faults[0].contains(place) && checked.faults[0].contains("did you mean `queston`?"));
    }

    #[test]
    fn what_a_build_leaves_out_is_left_out_here_too() {
        let banks = Banks::shipped().unwrap();
        let catalogue = Catalogue::shipped(&banks).unwrap();
        let task = catalogue.get("alpaca").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let file = root.join("alpaca_data.json");
        let row = |text: &str| serde_json::json!({"instruction": text, "input": "", "output": "Yes."});
        let check = |rows: &[serde_json::Value]| {
            fs::write(&file, serde_json::Value::from(rows).to_string()).unwrap();
            check(task, &banks, root, "alpaca_data", root)
        };
        let checked = check(&[row("Say yes."), row("Look at <image>."), row("Read \u{FFFD}.")]);
        assert_eq!((checked.counts.kept, checked.counts.dropped["image_token"]), (2, 1));
        assert_eq!((checked.counts.with_replaced_characters, checked.faults.len()), (1, 0));
        let none = check(&[row("Look at <image>.")]);
        assert!(none.faults[0].contains("none of 1 records became a conversation (image_token 1)"), "{none:?}");
        let empty = check(&[]);
        assert!(empty.faults[0].contains("have no records"), "{empty:?}");
    }

    #[test]
    fn images_without_a_file_are_counted() {
        let banks = Banks::shipped().unwrap();
        let catalogue = Catalogue::shipped(&banks).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/coco_caption");
        let of = |images: &Path| check(catalogue.get("coco_caption").unwrap(), &banks, &root, "val2017", images).media;
        let example = Some("val2017/000000117425.jpg".to_owned());
        assert_eq!(of(&root), MediaCount { wanted: 5, missing: 3, example: example.clone() });
        assert_eq!(of(&root.join("annotations")), MediaCount { wanted: 5, missing: 5, example });
    }
}
