//! Golden conversations of every task, determinism, and the full native files of six tasks.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::*;
use crate::catalogue::Catalogue;

/// Set it to write `fixtures/*/expected.json` anew instead of comparing.
const REWRITE: &str = "LYNXDATA_REWRITE";

const SEED: u64 = 7;

/// Held while golden files are read or written, so that no test sees a half-written one.
static GOLDEN: Mutex<()> = Mutex::new(());

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The split that the fixture of a task is cut from, as its golden file says.
fn fixture_split(task: &Task) -> String {
    let path = fixtures().join(&task.name).join("expected.json");
    let _held = GOLDEN.lock().unwrap_or_else(PoisonError::into_inner);
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    golden["split"].as_str().unwrap().to_owned()
}

fn build_all(task: &Task, root: &Path, split: &str, mode: PromptMode, seed: u64) -> (Vec<Conversation>, TaskCounts) {
    let banks = Banks::shipped().unwrap();
    let mut build = Build::start(task, &banks, root, split, mode, seed).unwrap();
    let conversations: Vec<Conversation> = build.by_ref().map(Result::unwrap).collect();
    let counts = build.counts().clone();
    assert!(counts.adds_up() && counts.kept == conversations.len() as u64, "{counts:?}");
    (conversations, counts)
}

fn build_fixture(task: &Task, mode: PromptMode, seed: u64) -> Vec<Conversation> {
    build_all(task, &fixtures().join(&task.name), &fixture_split(task), mode, seed).0
}

#[test]
fn conversations_equal_the_golden_files() {
    for task in Catalogue::shipped().unwrap().tasks() {
        let split = fixture_split(task);
        let (conversations, counts) = build_all(task, &fixtures().join(&task.name), &split, PromptMode::All, SEED);
        let built = json!({ "split": split, "seed": SEED, "counts": counts, "conversations": conversations });
        let path = fixtures().join(&task.name).join("expected.json");
        let _held = GOLDEN.lock().unwrap_or_else(PoisonError::into_inner);
        if std::env::var_os(REWRITE).is_some() {
            fs::write(&path, serde_json::to_string_pretty(&built).unwrap() + "\n").unwrap();
        }
        let golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(
            golden == built,
            "{} differs; look at what changed with {REWRITE}=1 cargo test -p lynxdata-datasets and git diff",
            path.display()
        );
    }
}

#[test]
fn fixtures_use_every_row_and_carry_their_licence() {
    let sources = fs::read_to_string(fixtures().join("SOURCES.tsv")).unwrap();
    let listed: BTreeSet<&str> = sources.lines().skip(1).map(|line| line.split('\t').next().unwrap()).collect();
    let mut folders = vec![fixtures()];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(fixtures()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with("expected.json") && name != "SOURCES.tsv" {
                found.insert(name);
            }
        }
    }
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    for task in Catalogue::shipped().unwrap().tasks() {
        let count = build_fixture(task, PromptMode::All, SEED).len();
        assert!(count == 5 || (task.name == "vqav2" && count == 3), "{} has {count}", task.name);
    }
}

#[test]
fn the_seed_changes_wordings_and_nothing_else_does() {
    let catalogue = Catalogue::shipped().unwrap();
    let vsr = catalogue.get("vsr").unwrap();
    let own = build_fixture(vsr, PromptMode::All, SEED);
    assert_eq!(own, build_fixture(vsr, PromptMode::All, SEED));
    assert_ne!(own, build_fixture(vsr, PromptMode::All, SEED + 1));
    let single = build_fixture(vsr, PromptMode::Single, SEED);
    assert!(single.iter().all(|conversation| conversation.template == "entailment/claim_true_or_false"));
}

#[test]
fn the_order_of_native_rows_does_not_matter() {
    let catalogue = Catalogue::shipped().unwrap();
    let aokvqa = catalogue.get("aokvqa").unwrap();
    let own = build_fixture(aokvqa, PromptMode::All, SEED);
    let native = fs::read(fixtures().join("aokvqa/aokvqa_v1p0_val.json")).unwrap();
    let mut rows: Vec<Value> = serde_json::from_slice(&native).unwrap();
    rows.reverse();
    rows.truncate(4);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("aokvqa_v1p0_val.json"), serde_json::to_vec(&rows).unwrap()).unwrap();
    let (mut other, _) = build_all(aokvqa, folder.path(), "val", PromptMode::All, SEED);
    other.reverse();
    for (own, other) in own[1..].iter().zip(&mut other) {
        other.source_row = own.source_row;
        assert_eq!(own, other);
    }
}

#[test]
fn the_answer_fits_the_wording() {
    let catalogue = Catalogue::shipped().unwrap();
    let banks = Banks::shipped().unwrap();
    for seed in 0..20 {
        for task in catalogue.tasks() {
            for conversation in build_fixture(task, PromptMode::All, seed) {
                let (bank, id) = conversation.template.split_once('/').unwrap();
                let templates = &banks.get(bank).unwrap().templates;
                let shape = templates.iter().find(|template| template.id == id).unwrap().answer;
                let answer = conversation.messages[1].content.as_str();
                let fits = match shape {
                    AnswerShape::Letter => ["A", "B", "C", "D"].contains(&answer),
                    AnswerShape::YesNo => ["Yes", "No"].contains(&answer),
                    AnswerShape::TrueFalse => ["True", "False"].contains(&answer),
                    AnswerShape::Short | AnswerShape::Sentence | AnswerShape::Long => answer.len() > 1,
                };
                assert!(fits, "{} asks for {shape:?}, the answer is {answer:?}", conversation.template);
                if shape == AnswerShape::Letter {
                    let native = conversation.choice_order.len();
                    assert!(conversation.messages[0].content.contains(&format!("({}) ", b"ABCD"[native - 1] as char)));
                }
            }
        }
    }
}

#[test]
fn text_that_holds_an_image_token_is_dropped_and_counted() {
    let catalogue = Catalogue::shipped().unwrap();
    let vsr = catalogue.get("vsr").unwrap();
    let lines = fs::read_to_string(fixtures().join("vsr/dev.jsonl")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dev.jsonl"), lines.replace("The bird is", "The <image> {{ bird }} is")).unwrap();
    let (conversations, counts) = build_all(vsr, folder.path(), "dev", PromptMode::All, SEED);
    assert_eq!((conversations.len(), counts.dropped["image_token"]), (4, 1));
    assert!(counts.examples["image_token"].contains("file dev.jsonl, row 2"));
    fs::write(folder.path().join("dev.jsonl"), lines.replace("The bird is", "The {{ bird }} is")).unwrap();
    let (conversations, _) = build_all(vsr, folder.path(), "dev", PromptMode::All, SEED);
    assert!(conversations[2].messages[0].content.contains("The {{ bird }} is above the book."));
}

#[test]
fn a_bank_of_another_family_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let add = |name: &str, bank: &str| {
        let task = format!("extends = \"vsr\"\nname = \"{name}\"\nprompts = \"{bank}\"\n");
        fs::write(folder.path().join(format!("{name}.toml")), task).unwrap();
    };
    add("own_slots", "vqa");
    add("own_shapes", "essay");
    add("own_missing", "none");
    let banks = tempfile::tempdir().unwrap();
    let essay = "description = \"d\"\nslots = [\"statement\"]\n[[templates]]\nid = \"a\"\nanswer = \"long\"\ntext = \"Discuss {{ statement }}\"\n";
    fs::write(banks.path().join("essay.toml"), essay).unwrap();
    let banks = Banks::shipped().unwrap().with_folder(banks.path()).unwrap();
    let catalogue = Catalogue::shipped().unwrap().with_folder(folder.path()).unwrap();
    let fault = |name: &str| {
        let task = catalogue.get(name).unwrap();
        Build::start(task, &banks, folder.path(), "dev", PromptMode::All, SEED).unwrap_err().to_string()
    };
    assert!(fault("own_slots").contains("fills the slots [\"statement\"], the bank declares [\"question\"]"));
    assert!(fault("own_shapes").contains("template `a` asks for Long"));
    assert!(fault("own_missing").contains("there is no bank `none`"));
}

#[test]
fn the_right_option_stands_at_every_place_equally_often() {
    let mut counts = [0_u32; 4];
    for record in 0..4000 {
        let order = shuffled(SEED, "choices", "aokvqa", &format!("aokvqa/val/{record}"), 4);
        counts[order.iter().position(|&place| place == 3).unwrap()] += 1;
    }
    let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - 1000.0).powi(2) / 1000.0).sum();
    // The 0.999 quantile of chi-square with 3 degrees of freedom is 16.27.
    assert!(chi_square < 16.27, "{counts:?}");
}

/// The folder of real data, if the environment names one.
fn shared() -> Option<PathBuf> {
    std::env::var_os("LYNXDATA_SHARED").map(|folder| PathBuf::from(folder).join("data/tasks"))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))).unwrap()
}

fn lines(path: &Path) -> u64 {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display())).lines().count() as u64
}

#[test]
fn full_native_files_yield_as_many_conversations_as_they_hold() {
    let Some(shared) = shared() else { return };
    let catalogue = Catalogue::shipped().unwrap();
    let expect = |name: &str, folder: &Path, split: &str, rows: u64, faulty: &[(&str, u64)]| -> Vec<Conversation> {
        let task = catalogue.get(name).unwrap();
        let (conversations, counts) = build_all(task, folder, split, PromptMode::All, SEED);
        let dropped: Vec<(&str, u64)> =
            counts.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        assert_eq!((counts.rows_seen, dropped.as_slice()), (rows, faulty), "{name} {split}: {counts:?}");
        assert!(counts.unmatched_keys.is_empty(), "{counts:?}");
        conversations
    };
    let length = |value: &Value| value.as_array().unwrap().len() as u64;

    let vqav2 = shared.join("vqav2");
    let questions = read_json(&vqav2.join("v2_OpenEnded_mscoco_train2014_questions.json"));
    expect("vqav2", &vqav2, "train", length(&questions["questions"]), &[]);

    let aokvqa = shared.join("aokvqa");
    let rows = read_json(&aokvqa.join("aokvqa_v1p0_val.json"));
    // An empty option, or the right one twice: rows that have no single right letter.
    let right = |row: &Value| row["choices"][row["correct_choice_idx"].as_u64().unwrap() as usize].clone();
    let (sound, faulty): (Vec<&Value>, Vec<&Value>) = rows.as_array().unwrap().iter().partition(|row| {
        let choices = row["choices"].as_array().unwrap();
        !choices.contains(&json!("")) && choices.iter().filter(|&choice| *choice == right(row)).count() == 1
    });
    let faulty = faulty.len() as u64;
    let conversations = expect("aokvqa", &aokvqa, "val", length(&rows), &[("field:choices", faulty)]);
    let native_answers = sound.iter().map(|row| row["correct_choice_idx"].as_u64().unwrap());
    assert_eq!(conversations.len(), native_answers.len());
    let mut places = [0_u32; 4];
    for (conversation, native) in conversations.iter().zip(native_answers) {
        places[conversation.choice_order.iter().position(|&place| u64::from(place) == native).unwrap()] += 1;
    }
    // 1145 records: a place expects 286 and, at 4 standard deviations of 14.7, has 227 to 345.
    assert!(places.iter().all(|count| (227..=345).contains(count)), "{places:?}");

    for split in ["train", "val"] {
        let images = length(&read_json(&shared.join(format!("coco/annotations/captions_{split}.json")))["images"]);
        expect("coco_caption", &shared.join("coco"), split, images, &[]);
    }
    let pets = shared.join("oxford_pets");
    let conversations = expect("oxford_pets", &pets, "trainval", lines(&pets.join("annotations/trainval.txt")), &[]);
    let labels: BTreeSet<&str> =
        conversations.iter().map(|conversation| conversation.messages[1].content.as_str()).collect();
    assert_eq!(labels, BTreeSet::from(["Abyssinian", "American Bulldog", "Bengal"]));

    for folder in ["vsr", "vsr/zeroshot"] {
        let rows = lines(&shared.join(folder).join("dev.jsonl"));
        let conversations = expect("vsr", &shared.join(folder), "dev", rows, &[]);
        let yes = conversations.iter().filter(|own| ["Yes", "True"].contains(&own.messages[1].content.as_str()));
        let text = fs::read_to_string(shared.join(folder).join("dev.jsonl")).unwrap();
        assert_eq!(yes.count(), text.matches("\"label\": 1,").count());
    }
    let visdial = shared.join("visdial");
    let dialogs = read_json(&visdial.join("visdial_1.0_val.json"));
    let conversations = expect("visdial", &visdial, "val", length(&dialogs["data"]["dialogs"]), &[]);
    assert!(conversations.iter().all(|conversation| conversation.messages.len() == 20));
    let asked = conversations.iter().flat_map(|conversation| conversation.messages.iter().skip(2).step_by(2));
    assert!(asked.clone().count() == 72 && asked.clone().all(|message| message.content.ends_with('?')));
}
