//! Tests of the golden conversations of every task, of determinism, and of the full native files of
//! six tasks.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde_json::{Value, json};

use super::*;
use crate::catalogue::Catalogue;
use crate::machine::shared;

/// If this variable is set, `fixtures/*/expected.json` is written again instead of compared.
const REWRITE: &str = "LYNXDATA_REWRITE";

const SEED: u64 = 7;

/// Held while golden files are read or written, so that no test sees a half-written one.
static GOLDEN: Mutex<()> = Mutex::new(());

/// The shipped banks and tasks, which take seconds to load in a test build.
static BANKS: LazyLock<Banks> = LazyLock::new(|| Banks::shipped().unwrap());
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::shipped(&BANKS).unwrap());

pub(super) fn shipped() -> &'static Catalogue {
    &CATALOGUE
}

pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Returns the split of the fixture of a task, from its golden file.
fn fixture_split(task: &Task) -> String {
    let path = fixtures().join(&task.name).join("expected.json");
    let _held = GOLDEN.lock().unwrap_or_else(PoisonError::into_inner);
    let golden: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    golden["split"].as_str().unwrap().to_owned()
}

pub(super) fn build_all(
    task: &Task,
    root: &Path,
    split: &str,
    mode: PromptMode,
    seed: u64,
) -> (Vec<Conversation>, TaskCounts) {
    let settings = BuildSettings { seed, prompts: mode, ..BuildSettings::default() };
    let mut build = Build::start(task, &BANKS, root, split, &settings).unwrap();
    let conversations: Vec<Conversation> = build.by_ref().map(Result::unwrap).collect();
    let counts = build.counts().clone();
    assert!(counts.adds_up() && counts.kept == conversations.len() as u64, "{counts:?}");
    (conversations, counts)
}

fn seeded() -> BuildSettings {
    BuildSettings { seed: SEED, ..BuildSettings::default() }
}

fn build_fixture(task: &Task, mode: PromptMode, seed: u64) -> Vec<Conversation> {
    build_all(task, &fixtures().join(&task.name), &fixture_split(task), mode, seed).0
}

/// Returns the last answer, which is the only one except in dialogs. A system message may come
/// first.
fn answer(conversation: &Conversation) -> &str {
    &conversation.messages.last().unwrap().content
}

#[test]
fn conversations_equal_the_golden_files() {
    let mut examples = Vec::new();
    for task in shipped().tasks() {
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
        for own in &conversations {
            let mut text = Vec::new();
            super::texts::append(own, &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(own).unwrap());
        }
        examples.extend(conversations.into_iter().next());
    }
    // `tasks show` prints them.
    let path = fixtures().with_file_name("examples.jsonl");
    let mut lines = Vec::new();
    Lines::default().write(&examples, &mut lines).unwrap();
    if std::env::var_os(REWRITE).is_some() {
        fs::write(&path, &lines).unwrap();
    }
    assert!(fs::read(&path).unwrap() == lines, "{} differs; {REWRITE}=1 writes it again", path.display());
    assert_eq!(crate::example("vqav2"), examples.into_iter().find(|example| example.task == "vqav2"));
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
            } else if !["expected.json", "genuine.json", "SOURCES.tsv"].iter().any(|own| name.ends_with(own)) {
                found.insert(name);
            }
        }
    }
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    for task in shipped().tasks() {
        let count = build_fixture(task, PromptMode::All, SEED).len();
        assert!(count >= 3, "{} has {count}", task.name);
    }
}

#[test]
fn the_seed_changes_wordings_and_nothing_else_does() {
    let catalogue = shipped();
    let vsr = catalogue.get("vsr").unwrap();
    let own = build_fixture(vsr, PromptMode::All, SEED);
    assert_eq!(own, build_fixture(vsr, PromptMode::All, SEED));
    assert_ne!(own, build_fixture(vsr, PromptMode::All, SEED + 1));
    let single = build_fixture(vsr, PromptMode::One, SEED);
    assert!(single.iter().all(|conversation| conversation.template == "entailment/claim_true_or_false"));
}

#[test]
fn the_order_of_native_rows_does_not_matter() {
    let catalogue = shipped();
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
    let catalogue = shipped();
    for seed in 0..20 {
        for task in catalogue.tasks() {
            for conversation in build_fixture(task, PromptMode::All, seed) {
                let (bank, id) = conversation.template.split_once('/').unwrap();
                let templates = &BANKS.get(bank).unwrap().templates;
                let template = templates.iter().find(|template| template.id == id).unwrap();
                let shape = conversation.answer_shape;
                assert!(template.answer.contains(&shape), "{conversation:?}");
                let asked = conversation.messages.iter().find(|own| own.role == Role::User).unwrap();
                let answer = conversation.messages.iter().find(|own| own.role == Role::Assistant).unwrap();
                let answer = answer.content.as_str();
                let fits = match shape {
                    AnswerShape::YesNo => ["Yes", "No"].contains(&answer),
                    AnswerShape::TrueFalse => ["True", "False"].contains(&answer),
                    AnswerShape::Option => asked.content.contains(answer),
                    shape => crate::shape::misfit(shape, answer).is_none() && !answer.is_empty(),
                };
                assert!(fits, "{} asks for {shape:?}, the answer is {answer:?}", conversation.template);
                if shape == AnswerShape::Letter && !conversation.choice_order.is_empty() {
                    let (letter, last) =
                        (answer.as_bytes()[0], b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"[conversation.choice_order.len() - 1]);
                    assert!(letter <= last && asked.content.contains(&format!("({}) ", char::from(last))), "{asked:?}");
                }
            }
        }
    }
}

/// The values that a cell may have, as JSON; `None` for a missing cell.
const CELLS: &[Option<&str>] = &[
    None,
    Some("null"),
    Some("NaN"),
    Some("-Infinity"),
    Some("1e999"),
    Some("\"\""),
    Some("\"  \""),
    Some("[]"),
    Some("[\"a\", null]"),
    Some("{}"),
    Some("{\"a\": 1}"),
    Some("123456789"),
    Some("-1"),
    Some("0.5"),
    Some("true"),
    Some("\"\\ud83d x\""),
    Some("\"a\tb\""),
    Some("\"<video>\""),
    Some("\"<|im_end|>\""),
    Some("\"../x\""),
];

/// Returns the paths in a value, including the value itself, as JSON pointers. Of lists, only the
/// first element.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            places(value, &format!("{at}/{name}"), found);
        }
    } else if let Some(first) = value.get(0) {
        places(first, &format!("{at}/0"), found);
    }
}

/// Returns the lists of rows in a document: the lists that are not inside another list.
fn row_lists(value: &Value, at: &str, found: &mut Vec<String>) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            row_lists(value, &format!("{at}/{name}"), found);
        }
    } else if value.get(0).is_some() {
        found.push(at.to_owned());
    }
}

/// Returns copies of a native file in which each cell of the second row is replaced by each value.
fn with_bad_cells(path: &Path) -> Vec<(String, Vec<u8>)> {
    const MARK: &str = "the cell";
    let native = fs::read_to_string(path).unwrap();
    let is_lines = path.extension().is_some_and(|extension| extension == "jsonl");
    let document: Value = if is_lines {
        native.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
    } else {
        serde_json::from_str(&native).unwrap()
    };
    let (mut lists, mut cells, mut files) = (Vec::new(), Vec::new(), Vec::new());
    row_lists(&document, "", &mut lists);
    for list in lists {
        let row = format!("{list}/1");
        places(document.pointer(&row).unwrap(), &row, &mut cells);
    }
    for cell in cells {
        for bad in CELLS {
            let mut changed = document.clone();
            *changed.pointer_mut(&cell).unwrap() = json!(MARK);
            let (holder, name) = cell.rsplit_once('/').unwrap();
            if bad.is_none() {
                let Some(Value::Object(fields)) = changed.pointer_mut(holder) else { continue };
                fields.remove(name);
            }
            let mut text = match &changed {
                Value::Array(rows) if is_lines => rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"),
                document => document.to_string(),
            };
            text = text.replace(&json!(MARK).to_string(), bad.unwrap_or_default());
            files.push((format!("{cell} = {bad:?}"), text.into_bytes()));
        }
    }
    files
}

/// Returns copies of a text file in which each column of the second line is replaced by each value.
fn with_bad_columns(path: &Path) -> Vec<(String, Vec<u8>)> {
    let native = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = native.lines().collect();
    let mut files = Vec::new();
    for column in 0..lines[1].split(' ').count() {
        for bad in [&b""[..], b"<video>", b"\xFF", b"\0", b"nan", b"../x", b"x_1", b"x"] {
            let parts = lines[1].split(' ').enumerate();
            let line: Vec<&[u8]> =
                parts.map(|(place, part)| if place == column { bad } else { part.as_bytes() }).collect();
            let rest = lines[2..].join("\n");
            let file = [lines[0].as_bytes(), b"\n", &line.join(&b' '), b"\n", rest.as_bytes()].concat();
            files.push((format!("column {column} = {bad:?}"), file));
        }
    }
    files
}

#[test]
fn one_bad_cell_of_any_kind_changes_no_other_record() {
    let names = ["aokvqa", "coco_caption", "oxford_pets", "visdial", "vqav2", "vsr", "hateful_memes", "sthv2", "stvqa"];
    for name in names {
        let catalogue = shipped();
        let task = catalogue.get(name).unwrap();
        let (root, split) = (fixtures().join(&task.name), fixture_split(task));
        let sound = build_fixture(task, PromptMode::All, SEED);
        let native: BTreeSet<PathBuf> = task.native_files(&root, &split).unwrap().into_iter().collect();
        for path in &native {
            let folder = tempfile::tempdir().unwrap();
            for file in &native {
                let copy = folder.path().join(file.strip_prefix(&root).unwrap());
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                fs::copy(file, copy).unwrap();
            }
            let is_text = path.extension().is_some_and(|extension| extension == "txt");
            let changed = if is_text { with_bad_columns(path) } else { with_bad_cells(path) };
            assert!(changed.len() > 20, "{}", path.display());
            for (what, file) in changed {
                let what = format!("{}, {}: {what}", task.name, path.display());
                fs::write(folder.path().join(path.strip_prefix(&root).unwrap()), file).unwrap();
                let mut build = Build::start(task, &BANKS, folder.path(), &split, &seeded())
                    .unwrap_or_else(|fault| panic!("{what}: {fault}"));
                let found: Vec<Conversation> =
                    build.by_ref().map(|found| found.unwrap_or_else(|fault| panic!("{what}: {fault}"))).collect();
                assert!(build.counts().adds_up(), "{what}");
                let lost = sound.iter().filter(|own| !found.contains(own)).count();
                let new: Vec<&Conversation> = found.iter().filter(|own| !sound.contains(own)).collect();
                assert!(lost <= 1 && new.len() <= 1, "{what}: {lost} are lost, new are {new:?}");
                let is_told = !build.counts().dropped.is_empty() || !build.counts().left_out.is_empty();
                assert!(is_told || lost == new.len(), "{what}: lost in silence");
                let spoken = || new.iter().flat_map(|own| &own.messages).map(|own| own.content.as_str());
                assert!(!spoken().any(|text| tokens::find(text).is_some()), "{what}: a token is spoken");
                let of_nothing = |text: &str| ["None", "none", "null", "nan", "NaN", "undefined"].contains(&text);
                let words = spoken().flat_map(|text| text.split(' '));
                assert!(!words.clone().any(of_nothing), "{what}: {:?}", words.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_caption_with_a_token_is_not_chosen_while_there_are_others() {
    let catalogue = shipped();
    let coco = catalogue.get("coco_caption").unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("annotations")).unwrap();
    let build = |first: &[&str]| {
        let captions = |image: u32, captions: &[&str]| -> Vec<Value> {
            captions.iter().map(|caption| json!({"image_id": image, "caption": caption})).collect()
        };
        let annotations = [captions(1, first), captions(2, &["Two."])].concat();
        let file = json!({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}], "annotations": annotations});
        fs::write(folder.path().join("annotations/captions_val2017.json"), file.to_string()).unwrap();
        build_all(coco, folder.path(), "val2017", PromptMode::All, SEED)
    };
    let (conversations, counts) = build(&["See <video>.", "One.", "<|im_end|>"]);
    assert_eq!((conversations.len(), answer(&conversations[0])), (2, "One."));
    let left_out = [("turn_token:captions".to_owned(), 1), ("video_token:captions".to_owned(), 1)];
    assert_eq!((counts.dropped.len(), counts.left_out), (0, left_out.into()));
    let (conversations, counts) = build(&["See <video>.", "<|im_end|>"]);
    assert_eq!((conversations.len(), counts.dropped.values().sum::<u64>()), (1, 1));
}

#[test]
fn text_with_replaced_characters_is_kept_and_counted() {
    let catalogue = shipped();
    let vsr = catalogue.get("vsr").unwrap();
    let lines = fs::read_to_string(fixtures().join("vsr/dev.jsonl")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("dev.jsonl"), lines.replace("The bird is", "The \\ud83d is")).unwrap();
    let (conversations, counts) = build_all(vsr, folder.path(), "dev", PromptMode::All, SEED);
    assert!(conversations[2].messages[0].content.contains("The \u{FFFD} is above the book."));
    assert_eq!(counts.with_replaced_characters, 1);
}

#[test]
fn text_that_holds_an_image_token_is_dropped_and_counted() {
    let catalogue = shipped();
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

/// Builds the conversations of a task from the lower part of its file, over rows in `val.jsonl`,
/// with banks in addition to the shipped ones.
fn own_build(toml: &str, banks: &[(&str, &str)], rows: &str) -> Result<(Vec<Conversation>, TaskCounts)> {
    let folder = tempfile::tempdir().unwrap();
    for (name, bank) in banks {
        fs::write(folder.path().join(format!("{name}.toml")), format!("description = \"d\"\n{bank}")).unwrap();
    }
    let banks = Banks::shipped().unwrap().with_folder(folder.path()).unwrap();
    let head = "name = \"own\"\ngroup = \"own\"\nlicence = \"CC0-1.0\"\ncommercial_use = \"yes\"\nhomepage = \"here\"\n\
        cite = \"none\"\nverified = \"fixture\"\nsplits = { val = 1 }\nid = \"q.id\"\n\
        pictures = { licence = \"CC0-1.0\", commercial_use = \"yes\" }\ntables = { q = { file = \"{split}.jsonl\" } }\n";
    let task = Task::compile("own.toml", toml::from_str(&(head.to_owned() + toml)).unwrap())?;
    let native = tempfile::tempdir().unwrap();
    fs::write(native.path().join("val.jsonl"), rows).unwrap();
    let mut build = Build::start(&task, &banks, native.path(), "val", &seeded())?;
    let conversations = build.by_ref().collect::<Result<Vec<_>>>()?;
    assert!(build.counts().adds_up(), "{:?}", build.counts());
    let counts = build.counts().clone();
    Ok((conversations, counts))
}

fn wording(id: &str, answer: &str, text: &str) -> String {
    format!("[[templates]]\nid = \"{id}\"\nanswer = {answer}\ntext = '{text}'\n")
}

#[test]
fn conversations_are_worded_in_the_language_of_their_task() {
    let toml = |head: &str| {
        format!(
            "{head}prompts = [\"caption\"]\nmedia = {{ image = \"q.image\" }}\nanswers = {{ sentence = \"q.text\" }}\n"
        )
    };
    let rows: Vec<String> = (0..300)
        .map(|id| json!({"id": id, "image": "a.jpg", "text": "Ein Hund schläft auf dem Sofa."}).to_string())
        .collect();
    let rows = rows.join("\n");
    let names = |head: &str| -> BTreeSet<String> {
        own_build(&toml(head), &[], &rows).unwrap().0.into_iter().map(|own| own.template).collect()
    };
    let banks = Banks::shipped().unwrap();
    let of_language = |language: &str| -> BTreeSet<String> {
        let wordings = banks.get("caption").unwrap().wordings();
        wordings.filter(|own| own.template.language == language).map(|own| own.name()).collect()
    };
    let (english, german) = (names(""), names("language = \"de\"\n"));
    assert!(english.is_subset(&of_language("en")), "{english:?}");
    assert_eq!(german, of_language("de"));
    let error = own_build(&toml("language = \"xx\"\n"), &[], &rows).unwrap_err().to_string();
    assert!(error.contains("language: no wording of caption is in the language `xx`"), "{error}");
}

#[test]
fn a_record_takes_the_wordings_that_suit_what_it_has() {
    let toml = r#"
prompts = ["own"]
media = { image = { value = "q.image", optional = true } }
answers = { phrase = "q.short", sentence = { value = "q.long", optional = true } }
[slots]
question = "q.question"
context = { value = "q.hint", optional = true }
"#;
    let bank = wording("short", "\"phrase\"", "{{ question }} Short.")
        + &wording("word", "\"word\"", "{{ question }} One word.")
        + &wording("long", "\"sentence\"", "{{ question }} A sentence.")
        + &wording("hinted", "[\"phrase\", \"sentence\"]", "{{ context }} {{ question }}")
        + "media = \"any\"\n"
        + &wording("text_only", "\"phrase\"", "{{ question }} Text.")
        + "media = \"none\"\n";
    let rows: Vec<String> = (0..200)
        .map(|id| {
            let mut row =
                json!({"id": id, "question": "What is it?", "short": "a large red bus", "long": "It is a bus."});
            match id % 4 {
                0 => row["image"] = json!("a.jpg"),
                1 => row["hint"] = json!("Look left."),
                2 => row["long"] = json!(null),
                _ => {
                    row["image"] = json!("a.jpg");
                    row["short"] = json!("bus");
                    row["long"] = json!(" ");
                }
            }
            row.to_string()
        })
        .collect();
    let (conversations, counts) = own_build(toml, &[("own", &bank)], &rows.join("\n")).unwrap();
    let mut used: [BTreeSet<(String, &str)>; 4] = Default::default();
    for (row, conversation) in conversations.iter().enumerate() {
        used[row % 4].insert((conversation.template.clone(), conversation.answer_shape.name()));
        let is_long = conversation.messages[1].content == "It is a bus.";
        assert_eq!(is_long, conversation.answer_shape == AnswerShape::Sentence);
    }
    let set = |names: &[(&str, &'static str)]| names.iter().map(|(id, shape)| (format!("own/{id}"), *shape)).collect();
    assert_eq!(used[0], set(&[("short", "phrase"), ("long", "sentence")]), "a picture and no context");
    assert_eq!(used[1], set(&[("hinted", "phrase"), ("hinted", "sentence")]), "a context must be said");
    assert_eq!(used[2], set(&[("text_only", "phrase")]), "text alone");
    assert_eq!(used[3], set(&[("short", "phrase"), ("word", "word")]), "a short phrase is a word");
    assert_eq!((counts.lacking["context"], counts.lacking["sentence"], counts.kept), (150, 100, 200));
}

#[test]
fn records_without_a_wording_are_counted() {
    let toml = "prompts = [\"own\"]\nanswers = { phrase = \"q.a\" }\nslots = { question = \"q.q\", context = { value = \"q.c\", optional = true }, hint = { value = \"q.h\", optional = true } }\n";
    let bank = "media = \"none\"\n".to_owned()
        + &wording("a", "\"phrase\"", "{{ question }}")
        + &wording("b", "\"phrase\"", "{{ question }} {{ context }} {{ hint }}");
    let rows = "{\"id\": 1, \"q\": \"x\", \"a\": \"y\"}\n{\"id\": 2, \"q\": \"x\", \"a\": \"y\", \"c\": \"z\"}\n";
    let (conversations, counts) = own_build(toml, &[("own", &bank)], rows).unwrap();
    assert_eq!((conversations.len(), counts.dropped["no_wording"]), (1, 1));
    assert!(counts.examples["no_wording"].contains("suits none with the slots [context, question]"));
}

#[test]
fn answers_of_another_shape_stop_a_task() {
    let toml = "prompts = [\"vqa\"]\nmedia = { image = \"'a.jpg'\" }\nslots = { question = \"q.q\" }\nanswers = { phrase = \"q.a\" }\n";
    let long = vec!["word"; 40].join(" ");
    let rows = |longs: usize| -> String {
        (0..20)
            .map(|id| json!({"id": id, "q": "x", "a": if id < longs { &long } else { "y" }}).to_string() + "\n")
            .collect()
    };
    let (conversations, counts) = own_build(toml, &[], &rows(4)).unwrap();
    assert_eq!((conversations.len(), counts.dropped["answer_shape"], counts.answers["phrase"].misfits), (16, 4, 4));
    let fault = own_build(toml, &[], &rows(5)).unwrap_err().to_string();
    assert!(
        fault.contains("25 % of the answers that it declares as phrase do not have this shape, more than 20 %"),
        "{fault}"
    );
    assert!(fault.contains("row 0: the phrase, asked \"x?\", \"word word"), "{fault}");
    assert!(fault.contains("has 40 words, more than 12"), "{fault}");
}

#[test]
fn a_task_that_drops_too_much_stops() {
    let toml = "prompts = [\"vqa\"]\nmedia = { image = \"'a.jpg'\" }\nslots = { question = \"q.q\" }\nanswers = { phrase = \"q.a\" }\n[where]\nwanted = \"q.id >= 0\"\n";
    let rows = |faulty: i32, unwanted: i32| -> String {
        let row =
            |id: i32| if id < faulty { json!({"id": id, "q": "x"}) } else { json!({"id": id, "q": "x", "a": "y"}) };
        (-unwanted..10).map(|id| if id < 0 { json!({"id": id}) } else { row(id) }.to_string() + "\n").collect()
    };
    assert_eq!(own_build(toml, &[], &rows(5, 100)).unwrap().0.len(), 5, "what a predicate leaves out is no loss");
    let fault = own_build(toml, &[], &rows(6, 3)).unwrap_err().to_string();
    assert!(fault.contains("60 % of its records were dropped, more than 50 % (error:phrase 6)"), "{fault}");
    assert!(fault.contains("`may_drop`") && fault.contains("`q` has no `a`"), "{fault}");
    assert_eq!(own_build(&format!("may_drop = 0.7\n{toml}"), &[], &rows(6, 0)).unwrap().0.len(), 4);
    let fault = own_build(toml, &[], &rows(10, 3)).unwrap_err().to_string();
    assert!(fault.contains("none of 13 records became a conversation"), "{fault}");
}

#[test]
fn votes_need_their_least_agreement() {
    let toml = "prompts = [\"vqa\"]\nmedia = { image = \"'a.jpg'\" }\nslots = { question = \"q.q\" }\nanswers = { votes = { texts = \"q.a\", least = 2 } }\n";
    let rows = "{\"id\": 1, \"q\": \"x\", \"a\": [\"net\", \"bat\", \"net\"]}\n{\"id\": 2, \"q\": \"x\", \"a\": [\"a\", \"b\"]}\n";
    let (conversations, counts) = own_build(toml, &[], rows).unwrap();
    assert_eq!((answer(&conversations[0]), conversations.len()), ("net", 1));
    assert_eq!(counts.dropped, [("few_votes".to_owned(), 1)].into());
}

#[test]
fn all_captions_may_be_taken() {
    let toml = "prompts = [\"caption\"]\nmedia = { image = \"'a.jpg'\" }\nanswers = { captions = { texts = \"q.c\", take = \"all\" } }\n";
    let rows = "{\"id\": 1, \"c\": [\"One.\", \"Two.\", \"Three.\"]}\n{\"id\": 2, \"c\": [\"Four.\"]}\n";
    let (conversations, counts) = own_build(toml, &[], rows).unwrap();
    let found: Vec<(&str, &str)> = conversations.iter().map(|own| (own.id.as_str(), answer(own))).collect();
    let expected =
        [("own/val/1#0", "One."), ("own/val/1#1", "Two."), ("own/val/1#2", "Three."), ("own/val/2", "Four.")];
    assert_eq!((found.as_slice(), counts.records_seen, counts.kept), (expected.as_slice(), 4, 4));
}

#[test]
fn videos_boxes_systems_and_text_alone_can_be_said() {
    let toml = "prompts = [\"own\"]\nslots = { instruction = \"q.i\" }\nanswers = { boxes = \"[q.b | box('xywh', 10, 10)]\" }\n[media.video]\npath = \"q.v\"\nstart = \"q.s\"\nend = \"q.e\"\n";
    let bank =
        "media = \"video\"\n".to_owned() + &wording("a", "\"boxes\"", "{{ instruction }}") + "system = \"Be brief.\"\n";
    let rows = "{\"id\": 1, \"i\": \"Where?\", \"b\": [1, 2, 3, 4], \"v\": \"a.mp4\", \"s\": 1, \"e\": \"2.5\"}\n{\"id\": 2, \"i\": \"Where?\", \"b\": [1, 2, 3, 4], \"v\": \"a.mp4\", \"s\": 3, \"e\": 2}\n";
    let (conversations, counts) = own_build(toml, &[("own", &bank)], rows).unwrap();
    let own = &conversations[0];
    assert_eq!(own.video, Some(VideoReference { path: "a.mp4".to_owned(), start: Some(1.0), end: Some(2.5) }));
    let said: Vec<(Role, &str)> = own.messages.iter().map(|message| (message.role, message.content.as_str())).collect();
    let expected =
        [(Role::System, "Be brief."), (Role::User, "Where?"), (Role::Assistant, "[0.100, 0.200, 0.400, 0.600]")];
    assert_eq!((said.as_slice(), counts.dropped["field:video"]), (expected.as_slice(), 1));
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

pub(super) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))).unwrap()
}

fn lines(path: &Path) -> u64 {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display())).lines().count() as u64
}

#[test]
fn full_native_files_yield_as_many_conversations_as_they_hold() {
    let Some(shared) = shared("data/tasks") else { return };
    let catalogue = shipped();
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
    // The right option occurs twice: rows without a single right letter. An empty option is not
    // shown.
    let right = |row: &Value| row["choices"][row["correct_choice_idx"].as_u64().unwrap() as usize].clone();
    let (sound, faulty): (Vec<&Value>, Vec<&Value>) = rows.as_array().unwrap().iter().partition(|row| {
        let choices = row["choices"].as_array().unwrap();
        let lower = |choice: &Value| choice.as_str().map(|choice| choice.trim().to_lowercase());
        choices.iter().filter(|choice| lower(choice) == lower(&right(row))).count() == 1
    });
    let faulty = faulty.len() as u64;
    let conversations = expect("aokvqa", &aokvqa, "val", length(&rows), &[("field:options", faulty)]);
    let native_answers = sound.iter().map(|row| row["correct_choice_idx"].as_u64().unwrap());
    assert_eq!(conversations.len(), native_answers.len());
    let mut places = [0_u32; 4];
    for (conversation, native) in conversations.iter().zip(native_answers) {
        assert!(!conversation.choice_order.is_empty(), "every wording of the bank shows the options");
        places[conversation.choice_order.iter().position(|&place| u64::from(place) == native).unwrap()] += 1;
    }
    // With 1145 records, the expectation for each position is 286; 4 standard deviations of 14.7
    // allow 227 to 345.
    assert!(places.iter().all(|count| (227..=345).contains(count)), "{places:?}");

    for split in ["train", "val"] {
        let images = length(&read_json(&shared.join(format!("coco/annotations/captions_{split}.json")))["images"]);
        expect("coco_caption", &shared.join("coco"), split, images, &[]);
    }
    let pets = shared.join("oxford_pets");
    let conversations = expect("oxford_pets", &pets, "trainval", lines(&pets.join("annotations/trainval.txt")), &[]);
    let labels: BTreeSet<&str> = conversations.iter().map(answer).collect();
    assert_eq!(labels, BTreeSet::from(["Abyssinian", "American Bulldog", "Bengal"]));

    for folder in ["vsr", "vsr/zeroshot"] {
        let rows = lines(&shared.join(folder).join("dev.jsonl"));
        let conversations = expect("vsr", &shared.join(folder), "dev", rows, &[]);
        let yes = conversations.iter().filter(|own| ["Yes", "True"].contains(&answer(own)));
        let text = fs::read_to_string(shared.join(folder).join("dev.jsonl")).unwrap();
        assert_eq!(yes.count(), text.matches("\"label\": 1,").count());
    }
    let visdial = shared.join("visdial");
    let dialogs = read_json(&visdial.join("visdial_1.0_val.json"));
    let conversations = expect("visdial", &visdial, "val", length(&dialogs["data"]["dialogs"]), &[]);
    let asked = |own: &Conversation| own.messages.iter().filter(|message| message.role == Role::User).count();
    assert!(conversations.iter().all(|own| asked(own) == 10));
    let later = |message: &&Message| message.role == Role::User;
    let asked = conversations.iter().flat_map(|own| own.messages.iter().filter(later).skip(1));
    assert!(asked.clone().count() == 72 && asked.clone().all(|message| message.content.ends_with('?')));
}

#[test]
fn a_conversation_has_the_boxes_that_its_texts_show() {
    let toml = "prompts = [\"own\"]\nslots = { question = \"q.q\", hint = { value = \"q.b | map('box', 'xyxy') | list | last\", may_be_unused = true } }\nanswers = { boxes = \"q.b | map('box', 'xyxy') | first\" }\nmedia = { image = \"'a.jpg'\" }\n";
    let bank = "media = \"image\"\n".to_owned() + &wording("a", "\"boxes\"", "{{ question }}");
    let row = json!({"id": 1, "q": "Where?", "b": [[0.1234, 0, 0.5, 1], [0.25, 0, 0.75, 1]]});
    let (conversations, _) = own_build(toml, &[("own", &bank)], &(row.to_string() + "\n")).unwrap();
    assert_eq!(conversations[0].messages[1].content, "[0.123, 0.000, 0.500, 1.000]");
    let numbers: Vec<Value> = conversations[0].boxes.iter().map(|own| json!(own.numbers)).collect();
    assert_eq!(numbers, [json!([0.1234, 0.0, 0.5, 1.0])]);
}

#[test]
fn exports_are_read_back_with_the_indentation_of_the_first_question() {
    let texts = ["    indented\n\tcode", "\tcode", " one", "\n\n  two lines", "\r\n a", "plain "];
    let all = texts.map(|text| crate::export::tests::conversation("vqa/a", &[text, "  so\n"]));
    for (format, suffix, task, name) in [
        ("llava", ".json", "llava_json", "t.json"),
        ("sharegpt", ".json", "sharegpt_json", "t.json"),
        ("messages", ".jsonl", "messages_json", "t.jsonl"),
        ("swift", ".jsonl", "swift_jsonl", "t.jsonl"),
        ("swift", ".jsonl", "messages_json", "t.jsonl"),
        ("webdataset", "/000000.tar", "webdataset_tar", "t/0.tar"),
        ("parquet", ".parquet", "messages_parquet", "t.parquet"),
    ] {
        let folder = crate::export::tests::written(crate::export::Format::named(format).unwrap(), &all);
        let file = fs::read(folder.path().join(format!("set{suffix}"))).unwrap();
        let (found, _) = super::traps::read(task, "t", &[(name, &file)]).unwrap();
        let read: Vec<_> = found.iter().map(|own| own.answers.turns[0].0.as_str()).collect();
        assert_eq!(read, texts, "{format}");
        assert!(found.iter().all(|own| own.media.images.len() == 1 && own.answers.turns[0].1 == "  so\n"));
    }
}
