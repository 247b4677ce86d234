//! Tests records that a person has checked against the native files in the shared folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::tests::{fixtures, read_json, shipped};
use crate::machine::shared;
use crate::records::Records;

/// The fields of a record that a person has checked against the native file.
fn assert_says(expected: &Value, found: &Value, place: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let found = found.get(key).unwrap_or_else(|| panic!("{place}: {key} is missing"));
                assert_says(value, found, &format!("{place}.{key}"));
            }
        }
        _ => assert_eq!(expected, found, "{place}"),
    }
}

/// Arranges the files of a case like their authors, if the shared folder arranges them differently.
/// `files` maps native paths to them, and `written` has the text of short lists that are missing
/// there.
fn laid_out(case: &Value, shared: &Path) -> Option<tempfile::TempDir> {
    let (files, written) = (case["files"].as_object(), case["written"].as_object());
    if files.is_none() && written.is_none() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |native: &str| {
        let path = folder.path().join(native);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for (native, own) in files.into_iter().flatten() {
        fs::copy(shared.join(own.as_str().unwrap()), place(native)).unwrap_or_else(|e| panic!("{own}: {e}"));
    }
    for (native, text) in written.into_iter().flatten() {
        fs::write(place(native), text.as_str().unwrap()).unwrap();
    }
    Some(folder)
}

/// Folders of genuine files whose records cannot be checked, and why.
const UNCHECKED: [(&str, &str); 22] = [
    ("cifar10", "pixels in pickles, which have no paths"),
    ("cifar100", "pixels in pickles, which have no paths"),
    ("egoschema", "answers without their questions"),
    ("guesswhat", "a game without its objects"),
    ("img2dataset_pairs", "pairs of a pool, not a task"),
    ("invig", "dialogs that were copied out of their Parquet files"),
    ("llava_prompts", "prompts for GPT-4"),
    ("llava_reasoning", "made into another layout by somebody else"),
    ("lrv_instruction", "questions without answers"),
    ("mimicit_syphus", "prompts for GPT-4"),
    ("minigpt4_ift", "rows stand several times in it, and a trap has it"),
    ("mmmu", "answers without their questions"),
    ("owleval", "no answers, as people judge what models say"),
    ("pathvqa", "made into another layout for a book"),
    ("pubtabnet", "no task reads tables as HTML"),
    ("screen2words", "names of screens alone"),
    ("shikra_templates", "wordings of another model"),
    ("star", "names of actions alone"),
    ("tabfact", "statements without labels"),
    ("video_class_maps", "names of classes alone"),
    ("widget_caption", "names of screens alone"),
    ("wizardlm", "instructions without answers"),
];

/// Returns the folders of the files that a case reads.
fn folders_of(case: &Value, task: &str) -> Vec<String> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    match case["files"].as_object() {
        Some(files) => files.values().map(|own| first(own.as_str().unwrap())).collect(),
        None => vec![first(case["folder"].as_str().unwrap_or(task))],
    }
}

#[test]
fn all_folders_of_genuine_files_have_checked_records_or_a_reason() {
    let Some(shared) = shared("data/tasks") else { return };
    let mut known: BTreeSet<String> = UNCHECKED.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    for task in shipped().tasks() {
        let path = fixtures().join(&task.name).join("genuine.json");
        if path.exists() {
            for folder in read_json(&path).as_array().unwrap().iter().flat_map(|case| folders_of(case, &task.name)) {
                let is_reason = UNCHECKED.iter().any(|(own, _)| *own == folder);
                assert!(!is_reason, "{folder} is read by {}; take it out of UNCHECKED", task.name);
                known.insert(folder);
            }
        }
    }
    let entries = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap());
    let folders: BTreeSet<String> =
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(folders, known);
}

/// Reads `genuine.json`: a list of files below the shared folder of tasks, each with its `split`,
/// the number of records that are `kept`, and hand-checked `records`.
#[test]
fn genuine_files_give_the_records_that_were_checked_by_hand() {
    let Some(shared) = shared("data/tasks") else { return };
    for task in shipped().tasks() {
        let path = fixtures().join(&task.name).join("genuine.json");
        if !path.exists() {
            continue;
        }
        let cases = read_json(&path);
        for case in cases.as_array().unwrap() {
            let folder = case["folder"].as_str().unwrap_or(&task.name);
            let split = case["split"].as_str().unwrap();
            let what = format!("{} {folder} {split}", task.name);
            let laid_out = laid_out(case, &shared);
            let root = laid_out.as_ref().map_or_else(|| shared.join(folder), |laid_out| laid_out.path().to_owned());
            let mut records = Records::start(task, &root, split).unwrap_or_else(|e| panic!("{what}: {e}"));
            let found: Vec<Value> = records
                .by_ref()
                .map(|record| serde_json::to_value(record.unwrap_or_else(|error| panic!("{what}: {error}"))).unwrap())
                .collect();
            assert!(records.counts().adds_up(), "{what}");
            assert_eq!(case["kept"], json!(found.len()), "{what}: {:?}", records.counts());
            let expected = case["records"].as_array().unwrap();
            assert!(!expected.is_empty(), "{what}");
            for record in expected {
                let own = found.iter().find(|own| own["id"] == record["id"]);
                let own = own.unwrap_or_else(|| panic!("{what}: there is no {}", record["id"]));
                let place = format!("{what} {}", record["id"]);
                assert_says(record, own, &place);
                for field in ["images", "video", "slots", "answers"] {
                    let is_empty = |value: &Value| value.is_null() || *value == json!([]);
                    let (expected, own) = (&record[field], &own[field]);
                    assert!(is_empty(expected) && is_empty(own) || expected == own, "{place}: {field} is {own}");
                }
            }
        }
    }
}
