//! Finds what is missing or malformed in the native files of a task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lynxdata_prompts::Banks;
use rayon::prelude::*;
use serde::Serialize;

use crate::build::{Build, BuildSettings, Conversation};
use crate::counts::TaskCounts;
use crate::picture::Pictures;
use crate::record::MISSING_IMAGE;
use crate::task::{Fact, Task};
use crate::video::{Video, VideoFault};
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
    /// The message if too many records are lost, so that a run would end with exit code 3. Records
    /// whose images are missing are lost too.
    pub loss: Option<String>,
    /// The counts of rows and records, as a build has them if no image is broken.
    pub counts: TaskCounts,
    /// The images and videos of the conversations.
    pub media: MediaCount,
}

/// The numbers of images and videos that have a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MediaCount {
    /// All images and videos that need a file, each counted once. Those inside rows need none.
    pub wanted: u64,
    /// The number of them without a file.
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

/// The reason for conversations of which the video has no file.
const MISSING_VIDEO: &str = VideoFault::Missing.name();

/// Number of conversations whose images are looked for together, on all cores.
const LOOKED_AT: usize = 4096;

/// Makes all conversations of a split and looks for their images and videos. `images` is their
/// folder or an archive of them. If conversations do not need their images, a missing one is
/// counted in `media` only.
pub fn check(task: &Task, banks: &Banks, root: &Path, split: &str, images: &Path, needs_images: bool) -> Checked {
    let mut checked = Checked {
        split: split.to_owned(),
        published: published(task, split),
        faults: Vec::new(),
        loss: None,
        counts: TaskCounts::default(),
        media: MediaCount::default(),
    };
    checked.faults.extend(task.missing_files(root, split).iter().map(Error::to_string));
    if !checked.faults.is_empty() {
        return checked;
    }
    let mut build = match Build::start(task, banks, root, split, &BuildSettings::default()) {
        Ok(build) => build.with_images(images),
        Err(error) => {
            checked.faults.push(error.to_string());
            return checked;
        }
    };
    let pictures = Pictures::of([images.to_owned()]);
    let mut looked = Looked::default();
    let mut lost: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    loop {
        let mut conversations = Vec::new();
        for conversation in build.by_ref().take(LOOKED_AT) {
            match conversation {
                Ok(own) => conversations.push(Named::of(own)),
                Err(error) => checked.faults.push(error.to_string()),
            }
        }
        if conversations.is_empty() {
            break;
        }
        if let Err(error) = looked.look_for(&conversations, &pictures) {
            checked.faults.push(error.to_string());
            break;
        }
        for own in &conversations {
            let Some((reason, path)) = own.paths().find(|(_, path)| looked.missing(path)) else { continue };
            let example = || format!("{}, as {path} is not in {}", own.id, images.display());
            lost.entry(reason).or_insert_with(|| (0, example())).0 += 1;
        }
    }
    checked.counts = build.counts().clone();
    checked.media = looked.count();
    for (reason, (count, example)) in lost.into_iter().filter(|_| needs_images) {
        for _ in 0..count {
            checked.counts.drop_kept(reason, || example.clone());
        }
    }
    if checked.faults.is_empty() && checked.counts.kept == 0 {
        checked.faults.push(checked.counts.nothing_made(&task.name, root).to_string());
    }
    if checked.faults.is_empty() {
        checked.loss = checked.counts.loss(&task.name, task.may_drop).map(|loss| loss.to_string());
    }
    checked
}

/// A conversation as far as its images and its video are concerned.
struct Named {
    id: String,
    images: Vec<String>,
    video: Option<String>,
}

impl Named {
    /// Images in the row need no file.
    fn of(own: Conversation) -> Self {
        let images = own.images.into_iter().map(|image| image.path);
        let images = images.filter(|path| !own.embedded.contains_key(path)).collect();
        Self { id: own.id, images, video: own.video.map(|video| video.path) }
    }

    /// Returns the paths of the video and the images, each with the reason if it is missing.
    fn paths(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let video = self.video.iter().map(|path| (MISSING_VIDEO, path));
        video.chain(self.images.iter().map(|path| (MISSING_IMAGE, path)))
    }
}

/// The images and videos that were looked for, and whether each is missing.
#[derive(Default)]
struct Looked(BTreeMap<String, bool>);

impl Looked {
    /// Looks for the images and videos that are not known yet.
    fn look_for(&mut self, conversations: &[Named], pictures: &Pictures) -> Result<()> {
        let all = conversations.iter().flat_map(Named::paths).map(|(_, path)| path);
        let unknown: BTreeSet<&String> = all.filter(|path| !self.0.contains_key(*path)).collect();
        let look = |path: &String| -> Result<(String, bool)> {
            let is_missing = pictures.find(path)?.is_none() && Video::folder(pictures, path)?.is_empty();
            Ok((path.clone(), is_missing))
        };
        self.0.extend(unknown.into_par_iter().map(look).collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    fn missing(&self, path: &str) -> bool {
        self.0.get(path).copied().unwrap_or_default()
    }

    fn count(&self) -> MediaCount {
        let mut missing = self.0.iter().filter(|(_, is_missing)| **is_missing).map(|(path, _)| path);
        let example = missing.next().cloned();
        let count = missing.count() as u64 + u64::from(example.is_some());
        MediaCount { wanted: self.0.len() as u64, missing: count, example }
    }
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
        let check = || check(task, &banks, folder.path(), "val", folder.path(), false);
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
            check(task, &banks, root, "alpaca_data", root, true)
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
        let task = catalogue.get("coco_caption").unwrap();
        let of = |images: &Path, needs_images| check(task, &banks, &root, "val2017", images, needs_images);
        let example = Some("val2017/000000117425.jpg".to_owned());
        let some = of(&root, true);
        assert_eq!(some.media, MediaCount { wanted: 5, missing: 3, example: example.clone() });
        assert_eq!((some.counts.kept, some.counts.dropped["missing_image"], some.counts.lost_later), (2, 3, 3));
        assert!(some.counts.adds_up() && some.faults.is_empty());
        assert_eq!(some.loss, None, "there are too few records for a share");
        let none = of(&root.join("annotations"), true);
        assert_eq!(none.media, MediaCount { wanted: 5, missing: 5, example });
        assert!(none.faults[0].contains("none of 5 records became a conversation (missing_image 5)"), "{none:?}");
        let without = of(&root.join("annotations"), false);
        assert_eq!((without.counts.kept, without.media.missing, without.faults.len()), (5, 5, 0));
    }
}
