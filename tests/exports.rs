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

/// A conversation: id, licence, native file, row and number of images; the shape of its answer, and
/// whether it has a video.
type Written = (Value, String, bool);

fn written(lines: &Path) -> Vec<Written> {
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
                own.get("video").is_some(),
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
fn compare(seen: &Value, expected: &[Written]) {
    let held = |is_held: &dyn Fn(&Written) -> bool| {
        sorted(expected.iter().filter(|own| is_held(own)).map(|(row, ..)| row.clone()))
    };
    let all = held(&|_| true);
    let checkable = held(&|(_, shape, _)| is_checkable(shape));
    let without_videos = held(&|(.., has_video)| !has_video);
    let without_pictures = sorted(expected.iter().map(|(row, ..)| {
        let mut row = row.clone();
        row[4] = json!(0);
        row
    }));
    let seen: BTreeMap<String, Vec<Value>> = serde_json::from_value(seen.clone()).unwrap();
    for (reader, rows) in seen {
        let expected = match reader.as_str() {
            "verl" => &checkable,
            "cauldron" => &without_videos,
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
    output.says(&[
        "left out of the format: no rule checks a sentence",
        "format=\"verl\"",
        "left out of the format: it has no place for a video",
    ]);
    for (set, lines) in [("instruct", "instruct/conversations"), ("mixture", "mixture/conversations.jsonl")] {
        let expected = written(&folder.join("run").join(lines));
        let shapes: Vec<&str> = expected.iter().map(|(_, shape, _)| shape.as_str()).collect();
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
    let expected = sorted(expected.into_iter().map(|(row, ..)| row[0].clone()));
    for format in formats {
        for set in ["instruct", "mixture"] {
            let ids = seen[format!("run-{format}/{set}")].as_array().unwrap_or_else(|| panic!("{format}: {seen}"));
            assert_eq!(sorted(ids.iter().cloned()), expected, "{format}, {set}");
        }
    }
}

/// Returns what `tasks read` makes of a split: the system message, the turns and the paths of the
/// images and the video of every record.
fn read_back(folder: &Path, task: &str, root: &str, split: &str) -> Vec<Value> {
    let arguments = ["tasks", "read", task, root, "--split", split, "--limit", "100", "--json"];
    let told = lynxdata(folder, &arguments).ended_with(0).stdout;
    let of_record = |line: &str| {
        let own: Value = serde_json::from_str(line).unwrap();
        json!([own["system"], own["answers"]["turns"], own["images"], own["video"]])
    };
    told.lines().map(of_record).collect()
}

#[test]
fn what_is_exported_can_be_a_source_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let own = folder.join("own");
    std::fs::create_dir(&own).unwrap();
    let pictures = repository().join("examples/quickstart/images");
    let names = files(&pictures);
    for (name, picture) in ["1.jpg", "2.jpg"].iter().zip(&names) {
        std::fs::copy(pictures.join(picture), own.join(name)).unwrap();
    }
    // An index alone is a whole container.
    std::fs::write(own.join("v.mp4"), b"\0\0\0\x0cmoovdata").unwrap();
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let rows = json!([
        {"messages": [said("user", "Hello."), said("assistant", "Hi.")]},
        {"messages": [said("system", "Reply with nothing but a letter."), said("user", "<image>A or B?"), said("assistant", "B")], "images": ["1.jpg"]},
        {"messages": [said("user", "<image><image>Which is older?"), said("assistant", "The first."), said("user", "Why?"), said("assistant", "It is worn.")], "images": ["1.jpg", "2.jpg"]},
        {"messages": [said("user", "<video>What happens?"), said("assistant", "Nothing.")], "videos": ["v.mp4"], "video_start": 1.5, "video_end": 4.0},
        {"messages": [said("user", "What is said?"), said("assistant", "Nothing.")], "audios": ["a.wav"]},
    ]);
    std::fs::write(own.join("mixed.json"), rows.to_string()).unwrap();
    let formats = "parquet,llava,sharegpt,messages,swift,cauldron,webdataset,energon";
    let told = lynxdata(folder, &["instruct", "--task", "messages_json=own:mixed", "--to", formats, "--out", "set"]);
    told.ended_with(0).says(&["left out of the format: it has no place for a video", "must:has_no_sound"]);
    let name = "messages_json-mixed";
    let lines = std::fs::read_to_string(folder.join(format!("set/instruct/conversations/{name}.jsonl"))).unwrap();
    let conversations: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(conversations.len(), 4);
    // The wordings of the set are part of the first questions.
    let record = |own: &Value, has_system: bool| {
        let (mut system, mut turns) = (Value::Null, Vec::new());
        for message in own["messages"].as_array().unwrap() {
            let content = message["content"].as_str().unwrap();
            match message["role"].as_str().unwrap() {
                "system" => system = json!(content),
                "user" if turns.is_empty() && !has_system && !system.is_null() => {
                    turns.push(vec![format!("{}\n\n{content}", system.take().as_str().unwrap())]);
                }
                "user" => turns.push(vec![content.to_owned()]),
                _ => turns.last_mut().unwrap().push(content.to_owned()),
            }
        }
        let images: Vec<&Value> = own["images"].as_array().unwrap().iter().map(|image| &image["path"]).collect();
        json!([system, turns, images, own["video"]])
    };
    let expected_of = |has_system| conversations.iter().map(|own| record(own, has_system)).collect::<Vec<_>>();
    for (format, task) in [
        ("llava", "llava_json"),
        ("sharegpt", "sharegpt_json"),
        ("messages", "messages_json"),
        ("swift", "swift_jsonl"),
    ] {
        let found = read_back(folder, task, &format!("set/instruct/{format}"), name);
        assert_eq!(found, expected_of(format != "llava"), "{format}");
    }
    assert_eq!(read_back(folder, "messages_json", "set/instruct/swift", name).len(), 4);
    // The images of the others are in the set, and get other names.
    let without_paths = |records: Vec<Value>| -> Vec<Value> {
        let of_record = |own: Value| json!([own[0], own[1], own[2].as_array().unwrap().len(), own[3]["start"]]);
        records.into_iter().map(of_record).collect()
    };
    for format in ["webdataset", "energon"] {
        let found = read_back(folder, "webdataset_tar", &format!("set/instruct/{format}"), name);
        assert_eq!(without_paths(found), without_paths(expected_of(true)), "{format}");
        let (task, out) = (format!("webdataset_tar=set/instruct/{format}:{name}"), format!("back-{format}"));
        lynxdata(folder, &["instruct", "--task", &task, "--to", "llava", "--out", &out]).ended_with(0);
        let kept = folder.join(out).join(format!("instruct/pictures/webdataset_tar-{name}"));
        let read = |path: &Path| std::fs::read(path).unwrap();
        let mut found: Vec<Vec<u8>> = files(&kept).iter().map(|path| read(&kept.join(path))).collect();
        found.sort();
        found.dedup();
        let mut expected = vec![read(&own.join("1.jpg")), read(&own.join("2.jpg"))];
        expected.sort();
        assert_eq!(found, expected, "{format}");
    }
    let found = read_back(folder, "messages_parquet", "set/instruct/parquet", name);
    assert_eq!(without_paths(found), without_paths(expected_of(true)));
    let mut expected = without_paths(expected_of(false));
    expected.pop();
    assert_eq!(without_paths(read_back(folder, "cauldron", "set/instruct/cauldron", name)), expected);
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
    let of_lines = |lines: &str| sorted(written(&folder.join("run").join(lines)).into_iter().map(|(row, ..)| row));
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
        "2 of 9 tasks are left out because their licences do not allow commercial use",
        "task=\"alpaca\"",
        "stage instruct done made=0 skipped=7",
    ]);
    let files = files(&folder.join("run/instruct/parquet"));
    assert!(files.len() == 7 && !files.iter().any(|name| name.starts_with("alpaca")), "{files:?}");
    let card = std::fs::read_to_string(folder.join("run/instruct/README.md")).unwrap();
    assert!(card.contains("Left out because their licences do not allow commercial use: alpaca, msvd_qa."), "{card}");
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
