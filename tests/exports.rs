//! Tests that the library of every format of conversations reads the same conversations, licences,
//! native files and rows.

use std::collections::BTreeMap;
use std::path::Path;

use lynxdata_datasets::export::FORMATS;
use serde_json::{Value, json};

use crate::machine::{energon, python};
use crate::support::{files, lynxdata, repository, run_python};

/// Tasks with one image, two, none and a video; with answers of every checkable shape and of
/// others.
const TASKS: [(&str, &str); 9] = [
    ("okvqa", "val"),
    ("aokvqa", "val"),
    ("nlvr2", "train"),
    ("coco_caption", "val2017"),
    ("refcoco", "val"),
    ("tallyqa", "test"),
    ("visdial", "val"),
    ("alpaca", "alpaca_data"),
    ("msvd_qa", "test"),
];

/// Writes a recipe of the fixtures of tasks, and an image at every path that they use.
fn prepare(folder: &Path, tasks: &[(&str, &str)], more: &str) {
    let fixtures = repository().join("datasets/fixtures");
    // There are no video files: conversations about one are kept with its path.
    let formats: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
    let mut recipe =
        format!("output = \"run\"\nseed = 3\n[instruct]\nrequire_images = false\nformats = {formats:?}\n{more}\n");
    let pictures = files(&repository().join("examples/quickstart/images"));
    for (task, split) in tasks {
        let root = fixtures.join(task);
        recipe += &format!(
            "[[instruct.tasks]]\nname = \"{task}\"\nroot = \"{}\"\nsplit = \"{split}\"\nimages = \"images/{task}\"\n",
            root.display()
        );
        let expected: Value = serde_json::from_slice(&std::fs::read(root.join("expected.json")).unwrap()).unwrap();
        std::fs::create_dir_all(folder.join("images").join(task)).unwrap();
        let conversations = expected["conversations"].as_array().unwrap();
        let images = conversations.iter().flat_map(|own| own["images"].as_array().unwrap());
        for (place, image) in images.enumerate() {
            let path = folder.join("images").join(task).join(image["path"].as_str().unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let picture = &pictures[place % pictures.len()];
            std::fs::copy(repository().join("examples/quickstart/images").join(picture), path).unwrap();
        }
    }
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
}

/// Returns id, licence, native file, row and number of images of every conversation, and the shape
/// of its answer.
fn written(lines: &Path) -> Vec<(Value, String)> {
    let names = if lines.is_dir() {
        files(lines).into_iter().map(|name| lines.join(name)).collect()
    } else {
        vec![lines.to_owned()]
    };
    let mut all = Vec::new();
    for name in names {
        for line in std::fs::read_to_string(name).unwrap().lines() {
            let own: Value = serde_json::from_str(line).unwrap();
            let pictures = own["images"].as_array().unwrap().len();
            all.push((
                json!([own["id"], own["licence"], own["source_file"], own["source_row"], pictures]),
                own["answer_shape"].as_str().unwrap().to_owned(),
            ));
        }
    }
    all
}

fn sorted(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let mut rows: Vec<String> = rows.into_iter().map(|row| row.to_string()).collect();
    rows.sort();
    rows
}

fn is_checkable(shape: &str) -> bool {
    !["sentence", "paragraph", "turns"].contains(&shape)
}

/// Compares what libraries read from a set with its conversations.
fn compare(seen: &Value, expected: &[(Value, String)]) {
    let all = sorted(expected.iter().map(|(row, _)| row.clone()));
    let checkable = sorted(expected.iter().filter(|(_, shape)| is_checkable(shape)).map(|(row, _)| row.clone()));
    let without_pictures = sorted(expected.iter().map(|(row, _)| {
        let mut row = row.clone();
        row[4] = json!(0);
        row
    }));
    let seen: BTreeMap<String, Vec<Value>> = serde_json::from_value(seen.clone()).unwrap();
    for (reader, rows) in seen {
        let expected = match reader.as_str() {
            "verl" => &checkable,
            "croissant" => &without_pictures,
            _ => &all,
        };
        assert_eq!(sorted(rows), *expected, "{reader}");
    }
}

#[test]
fn every_format_is_read_with_licence_file_and_row_of_every_conversation() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &TASKS, "mixture = {}");
    let output = lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    output.says(&["left out of the format: no rule checks a sentence", "format=\"verl\""]);
    for (set, lines) in [("instruct", "instruct/conversations"), ("mixture", "mixture/conversations.jsonl")] {
        let expected = written(&folder.join("run").join(lines));
        let shapes: Vec<&str> = expected.iter().map(|(_, shape)| shape.as_str()).collect();
        for shape in ["phrase", "letter", "boxes", "number", "true_false", "turns"] {
            assert!(shapes.contains(&shape), "no {shape}: {shapes:?}");
        }
        let path = folder.join("run").join(set);
        let seen = run_python(&python, "read_exports.py", &[path.as_os_str()], &folder.join("cache"));
        assert_eq!(seen.as_object().unwrap().len(), 10, "a reader is lacking");
        compare(&seen, &expected);
    }
}

#[test]
fn the_card_of_texts_and_images_loads_in_every_format() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let more = "prompts = \"one\"\nmixture = {}";
    prepare(folder, &[("alpaca", "alpaca_data"), ("nlvr2", "train"), ("msvd_qa", "test"), ("okvqa", "val")], more);
    // Without a format, the card describes `conversations`; the others have a schema in their files
    // or the same files.
    let formats = ["llava", "sharegpt", "messages", "swift", "webdataset", ""];
    for format in formats {
        let formats = if format.is_empty() { "[]".to_owned() } else { format!("[{format:?}]") };
        let (formats, output) =
            (format!("instruct.formats={formats}"), format!("output={:?}", format!("run-{format}")));
        let sets = ["--set", &formats, "--set", &output, "--set", "instruct.pack_dialogs=2"];
        lynxdata(folder, &[&["instruct", "recipe.toml"][..], &sets].concat()).ended_with(0);
    }
    let seen = run_python(&python, "read_cards.py", &[folder.as_os_str()], &folder.join("cache"));
    let expected = written(&folder.join("run-/mixture/conversations.jsonl"));
    let expected = sorted(expected.into_iter().map(|(row, _)| row[0].clone()));
    for format in formats {
        for set in ["instruct", "mixture"] {
            let ids = seen[format!("run-{format}/{set}")].as_array().unwrap_or_else(|| panic!("{format}: {seen}"));
            assert_eq!(sorted(ids.iter().cloned()), expected, "{format}, {set}");
        }
    }
}

#[test]
fn megatron_energon_reads_every_sample_and_would_make_the_same_index() {
    let Some(python) = energon() else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &TASKS, "mixture = {}");
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    let read = |set: &str| {
        let path = folder.join("run").join(set);
        run_python(&python, "read_with_energon.py", &[path.as_os_str()], &folder.join("cache"))
    };
    let (tasks, mixture) = (read("instruct/energon"), read("mixture/energon"));
    let rows = |seen: &Value| sorted(seen.as_array().unwrap().iter().cloned());
    let of_lines = |lines: &str| sorted(written(&folder.join("run").join(lines)).into_iter().map(|(row, _)| row));
    assert_eq!(rows(&tasks["splits"]["train"]), of_lines("instruct/conversations"));
    assert_eq!(rows(&mixture["splits"]["train"]), of_lines("mixture/conversations.jsonl"));
    for (task, split) in TASKS {
        let set = format!("{task}-{split}");
        assert_eq!(rows(&tasks["splits"][&set]), of_lines(&format!("instruct/conversations/{set}.jsonl")));
    }
    assert_eq!((&tasks["index_as_prepared"], &mixture["index_as_prepared"]), (&json!(true), &json!(true)));
}

#[test]
fn a_set_says_what_a_format_cannot_represent() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &[("okvqa", "val"), ("alpaca", "alpaca_data")], "mixture = {}");
    let verl = ["instruct", "recipe.toml", "--set", "instruct.formats=[\"verl\"]"];
    let output = lynxdata(folder, &verl).ended_with(0);
    let all = written(&folder.join("run/instruct/conversations")).len();
    let held = written(&folder.join("run/instruct/conversations/okvqa-val.jsonl")).len();
    output.says(&[
        &format!("{all} conversations; the format verl holds {held} of them"),
        &format!("{all} conversations are in the mixture; the format verl holds {held} of them"),
    ]);
    for set in ["instruct", "mixture"] {
        let read = |name: &str| std::fs::read_to_string(folder.join("run").join(set).join(name)).unwrap();
        let told = format!("`verl` holds {held} of them, and none of alpaca.");
        assert!(read("README.md").contains(&told), "{}", read("README.md"));
        assert!(read("croissant.json").contains(&told));
    }
    let alpaca = repository().join("datasets/fixtures/alpaca").display().to_string();
    let only = ["instruct", "--task", &format!("alpaca={alpaca}"), "--to", "verl", "--out", "none"];
    lynxdata(folder, &only).ended_with(1).says(&["the format verl can represent none of them, so it has no files"]);
    let card = std::fs::read_to_string(folder.join("none/instruct/README.md")).unwrap();
    assert!(card.contains("path: conversations/alpaca-alpaca_data.jsonl"), "{card}");
    assert!(card.contains("`verl` holds 0 of them, and none of alpaca."), "{card}");
}

#[test]
fn licences_that_forbid_a_use_are_told_and_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, &TASKS, "");
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    let card = std::fs::read_to_string(folder.join("run/instruct/README.md")).unwrap();
    for part in [
        "license:\n- \"apache-2.0\"\n- \"cc-by-4.0\"\n- \"cc-by-nc-4.0\"\n- \"unknown\"\n",
        "- config_name: okvqa-val\n  data_files:\n  - split: train\n    path: parquet/okvqa-val.parquet\n",
        "> **Licences.** Commercial use is forbidden for the annotations of alpaca.",
        "is unclear for the annotations of msvd_qa.",
        "| alpaca | alpaca_data | 3 | CC-BY-NC-4.0 | no | – | – |",
    ] {
        assert!(card.contains(part), "{part} is not in {card}");
    }
    let commercial = ["instruct", "recipe.toml", "--set", "instruct.licence=commercial"];
    lynxdata(folder, &commercial).ended_with(0).says(&[
        "2 of 9 tasks are left out, as their licences do not allow commercial use",
        "task=\"alpaca\"",
        "stage instruct done made=0 skipped=7",
    ]);
    let files = files(&folder.join("run/instruct/parquet"));
    assert!(files.len() == 7 && !files.iter().any(|name| name.starts_with("alpaca")), "{files:?}");
    let card = std::fs::read_to_string(folder.join("run/instruct/README.md")).unwrap();
    assert!(card.contains("Left out, as their licences do not allow commercial use: alpaca, msvd_qa."), "{card}");
    assert!(!card.contains("forbidden") && !card.contains("cc-by-nc"), "{card}");
}

#[test]
fn rewards_for_verl_are_the_golden_values_of_the_official_metrics() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let fixtures = repository().join("evaluation/fixtures");
    let seen = run_python(&python, "rewards.py", &[fixtures.as_os_str()], folder.path());
    let of = |checker: &str| (seen[checker]["rows"].clone(), seen[checker]["differ"].as_array().unwrap());
    assert_eq!(of("exact_match"), (json!(129), &Vec::new()));
    assert_eq!(of("iou"), (json!(56), &Vec::new()));
    // Replies that name an option by its text, which a row does not have, a line break after a
    // letter, and a small letter.
    let (rows, differ) = of("option_accuracy");
    // The official script reads no small letter, but with `lower_case` the right answer is one.
    assert!(rows == 33 && differ.len() == 4 && differ.iter().any(|row| row[0] == "b"), "{differ:?}");
    assert_eq!(seen["letters"], json!([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]));
    // The official script normalises only if answers differ, and expands contractions.
    let (rows, differ) = of("vqa_accuracy");
    let is_quirk = |row: &&Value| {
        let answers: Vec<&str> = row[1].as_array().unwrap().iter().map(|text| text.as_str().unwrap().trim()).collect();
        answers.iter().all(|answer| *answer == answers[0]) || row[0].as_str().unwrap().contains('\'')
    };
    let others: Vec<&Value> = differ.iter().filter(|row| !is_quirk(row)).collect();
    assert!(rows == 122 && others.is_empty(), "{others:?}");
}
