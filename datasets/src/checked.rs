//! Finds what is missing or malformed in the native files of a task.

use std::path::Path;

use serde::Serialize;

use crate::counts::TaskCounts;
use crate::records::Records;
use crate::task::{Fact, Task};
use crate::{Error, Result};

/// The result of reading all native files of one split.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// The split.
    pub split: String,
    /// The published number of records of the split, if the task file has it.
    pub published: Option<u64>,
    /// Errors that would stop a build: every missing file, a file that cannot be parsed, or too
    /// many dropped records. It is empty if conversations can be made.
    pub faults: Vec<String>,
    /// The counts of rows and records.
    pub counts: TaskCounts,
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
    let source = task.facts_from.get(&Fact::Splits).map_or("from memory", String::as_str);
    let sifted = if sifted == 0 { String::new() } else { format!(", of which {of_split} pass the predicates") };
    Some(format!("{seen} records were read{sifted}, and {published} are published ({source})"))
}

/// Reads a split to its end.
pub fn check(task: &Task, root: &Path, split: &str) -> Checked {
    let published = published(task, split);
    let mut checked = Checked { split: split.to_owned(), published, faults: Vec::new(), counts: TaskCounts::default() };
    checked.faults.extend(task.missing_files(root, split).iter().map(Error::to_string));
    if !checked.faults.is_empty() {
        return checked;
    }
    match Records::start(task, root, split) {
        Err(error) => checked.faults.push(error.to_string()),
        Ok(mut records) => {
            let faults = records.by_ref().filter_map(Result::err).map(|error| error.to_string());
            checked.faults.extend(faults);
            checked.counts = records.counts().clone();
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use std::fs;

    use lynxdata_prompts::Banks;

    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn every_missing_file_and_faulty_field_is_named() {
        let catalogue = Catalogue::shipped(&Banks::shipped().unwrap()).unwrap();
        let task = catalogue.get("vqav2").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let faults = check(task, folder.path(), "val").faults;
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("v2_OpenEnded_mscoco_val2014_questions.json"), "{faults:?}");
        assert!(faults[1].contains("v2_mscoco_val2014_annotations.json"), "{faults:?}");
        let questions = r#"{"questions": [{"question_id": 1, "image_id": 2, "queston": "What?"}]}"#;
        let answers = r#"{"annotations": [{"question_id": 1, "multiple_choice_answer": "net"}]}"#;
        fs::write(folder.path().join("v2_OpenEnded_mscoco_val2014_questions.json"), questions).unwrap();
        fs::write(folder.path().join("v2_mscoco_val2014_annotations.json"), answers).unwrap();
        let checked = check(task, folder.path(), "val");
        assert_eq!((checked.published, checked.counts.records_seen), (Some(214_354), 1));
        let difference = count_difference(task, "val", &checked.counts).unwrap();
        assert!(difference.starts_with("1 records were read, and 214354 are published (https://"), "{difference}");
        assert_eq!(count_difference(task, "val", &TaskCounts { records_seen: 214_354, ..TaskCounts::default() }), None);
        assert_eq!(count_difference(task, "no such split", &checked.counts), None);
        let place = "file v2_OpenEnded_mscoco_val2014_questions.json, row 0: slots.question";
        assert!(checked.faults[0].contains(place) && checked.faults[0].contains("did you mean `queston`?"));
    }
}
