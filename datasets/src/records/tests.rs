//! Tests of record mapping on small native files: the supported layouts, and the counts of dropped
//! records.

use std::fs;

use serde_json::json;

use super::*;
use crate::record::Options;

/// Creates a task from the lower part of a task file.
fn task(rest: &str) -> Task {
    let head = "name = \"own\"\ngroup = \"own\"\nlicence = \"CC0-1.0\"\ncommercial_use = \"yes\"\nhomepage = \"here\"\n\
        cite = \"none\"\nverified = \"fixture\"\nsplits = { val = 1 }\nprompts = [\"vqa\"]\n\
        pictures = { licence = \"CC0-1.0\", commercial_use = \"yes\" }\n";
    Task::compile("own.toml", toml::from_str(&(head.to_owned() + rest)).unwrap()).unwrap()
}

/// Returns whether a record has only this question as slot and only this phrase as answer.
fn asks(record: &Record, question: &str, phrase: &str) -> bool {
    record.slots == BTreeMap::from([("question".to_owned(), SlotValue::Text(question.to_owned()))])
        && record.answers.texts == BTreeMap::from([(AnswerShape::Phrase, phrase.to_owned())])
}

/// Maps all records of a task over the given files.
fn run(task: &Task, files: &[(&str, &str)]) -> (Vec<Result<Record>>, TaskCounts) {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), contents).unwrap();
    }
    let mut records = Records::start(task, folder.path(), "val").unwrap();
    let found = records.by_ref().collect();
    assert!(records.counts().adds_up(), "{:?}", records.counts());
    (found, records.counts().clone())
}

fn kept(task: &Task, files: &[(&str, &str)]) -> Vec<Record> {
    run(task, files).0.into_iter().map(Result::unwrap).collect()
}

fn fault(task: &Task, files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).unwrap();
    }
    match Records::start(task, folder.path(), "val") {
        Err(fault) => fault.to_string(),
        Ok(mut records) => records.find_map(Result::err).unwrap().to_string(),
    }
}

const VQA: &str = r#"
id = "q.id"
[tables.q]
file = "{split}.jsonl"
[media]
image = "'%s.jpg' | format(q.image)"
[slots]
question = "q.question"
[answers]
phrase = "q.answer"
"#;

#[test]
fn gqa_is_a_map_in_shards() {
    let gqa = task(
        r#"
id = "q._key"
[tables.q]
file = "train_all_questions/questions_*.json"
shape = "map"
[media]
image = "'images/%s.jpg' | format(q.imageId)"
[slots]
question = "q.question"
[answers]
phrase = "q.answer"
"#,
    );
    let shard = |id: &str, answer: &str| {
        json!({ id: {"imageId": "n7", "question": "Is it sunny?", "answer": answer, "fullAnswer": "x"} }).to_string()
    };
    let (second, first) = (shard("2", "no"), shard("01", "yes"));
    let files = [
        ("train_all_questions/questions_1.json", second.as_str()),
        ("train_all_questions/questions_0.json", first.as_str()),
    ];
    let records = kept(&gqa, &files);
    assert_eq!((records[0].id.as_str(), records[1].id.as_str()), ("own/val/01", "own/val/2"));
    assert_eq!(records[1].source_file, "train_all_questions/questions_1.json");
    assert!(asks(&records[0], "Is it sunny?", "yes"));
}

#[test]
fn sbu_is_columns() {
    let sbu = task(
        r#"
id = "row"
[tables.pair]
file = "sbu-captions-all.json"
shape = "columns"
[media]
image = "(pair.image_urls | split('/') | list)[-1]"
[answers]
captions = "[pair.captions]"
"#,
    );
    let file = r#"{"image_urls": ["http://x/1.jpg", "http://x/2.jpg"], "user_ids": ["1@N0", "2@N0"], "captions": ["Our boat", "A chair"]}"#;
    let records = kept(&sbu, &[("sbu-captions-all.json", file)]);
    assert_eq!((records[1].id.as_str(), records[1].media.images[0].as_str()), ("own/val/1", "2.jpg"));
    assert_eq!(records[1].answers.captions, ["A chair"]);
}

#[test]
fn visual_genome_rows_hold_several_records() {
    let vgqa = task(
        r#"
id = "qa.qa_id"
[tables.image]
file = "question_answers.json"
[explode]
name = "qa"
over = "image.qas"
[media]
image = "'VG_100K/%s.jpg' | format(image.id)"
[slots]
question = "qa.question"
[answers]
phrase = "qa.answer"
"#,
    );
    let file = r#"[{"id": 7, "qas": [{"qa_id": 1, "question": "What is red?", "answer": "The bus."}, {"qa_id": 2, "question": "Where?", "answer": "Here."}]},
                   {"id": 8, "qas": []}, {"id": 9, "qas": 5}]"#;
    let (found, counts) = run(&vgqa, &[("question_answers.json", file)]);
    assert_eq!(found.len(), 2);
    assert_eq!((counts.rows_seen, counts.records_seen, counts.kept), (3, 4, 2));
    assert_eq!(counts.dropped, BTreeMap::from([("explode".to_owned(), 1), ("error:explode".to_owned(), 1)]));
}

#[test]
fn parallel_lists_of_one_row_are_exploded_by_place() {
    let ocrvqa = task(
        r#"
id = "'%s_%d' | format(book._key, index)"
[tables.book]
file = "dataset.json"
shape = "map"
[explode]
name = "pair"
over = "book.questions | zip(book.answers)"
[where]
this_split = "book.split == {'train': 1, 'val': 2, 'test': 3}[split]"
[media]
image = "'%s.jpg' | format(book._key)"
[slots]
question = "pair[0]"
[answers]
phrase = "pair[1]"
"#,
    );
    let file = r#"{"012": {"questions": ["Who wrote this?", "What genre?"], "answers": ["A. Author", "Art"], "split": 2},
                   "013": {"questions": ["Who?"], "answers": ["B."], "split": 1}}"#;
    let (found, counts) = run(&ocrvqa, &[("dataset.json", file)]);
    assert_eq!(found[1].as_ref().unwrap().id, "own/val/012_1");
    assert_eq!(counts.dropped, BTreeMap::from([("where:this_split".to_owned(), 1)]));
}

#[test]
fn questions_keyed_by_their_text_are_items_of_a_map() {
    let ai2d = task(
        r#"
id = "item[1].questionId"
[tables.page]
file = "questions/*.json"
shape = "whole"
[explode]
name = "item"
over = "page.questions | items"
[media]
image = "page.imageName"
[slots]
question = "item[0]"
[answers]
options = { texts = "item[1].answerTexts", right = "item[1].correctAnswer" }
"#,
    );
    let file = r#"{"imageName": "1.png", "questions": {"What eats grass": {"questionId": "1.png-0", "answerTexts": ["cow", "hawk"], "correctAnswer": 0}}}"#;
    let records = kept(&ai2d, &[("questions/1.png.json", file)]);
    let options = Options { texts: vec!["cow".into(), "hawk".into()], right: 0 };
    assert_eq!(records[0].answers.options, Some(options));
    assert_eq!(records[0].slots["question"], SlotValue::Text("What eats grass?".into()));
}

#[test]
fn text_keys_meet_number_keys_and_orphans_are_counted() {
    let joined = task(
        r#"
id = "q.id"
[tables.q]
file = "{split}.jsonl"
[tables.a]
file = "answers.csv"
join = "id"
[tables.names]
file = "names.txt"
columns = ["name"]
[media]
image = "'%s.jpg' | format(q.image)"
[slots]
question = "q.question"
[answers]
phrase = "names[a.class | int].name"
"#,
    );
    let questions =
        "{\"id\": 1, \"image\": 1, \"question\": \"What?\"}\n{\"id\": 2, \"image\": 2, \"question\": \"What?\"}\n";
    let files =
        [("val.jsonl", questions), ("answers.csv", "id,class\n1,1\n3,0\n4,0\n"), ("names.txt", "dog\nred panda\n")];
    let (found, counts) = run(&joined, &files);
    assert!(asks(found[0].as_ref().unwrap(), "What?", "red panda"));
    assert_eq!(counts.dropped, BTreeMap::from([("unmatched:a".to_owned(), 1)]));
    assert_eq!(counts.unmatched_keys, BTreeMap::from([("a".to_owned(), 2)]));
    assert!(
        counts.examples["unmatched:a"].contains("task own, file val.jsonl, row 1: table a has no row with the key 2")
    );
}

#[test]
fn rows_that_cannot_be_joined_are_counted_and_cost_no_other() {
    let joined = task(
        r#"
id = "q.id"
[tables.q]
file = "{split}.jsonl"
[tables.a]
file = "answers.jsonl"
join = "id"
[tables.names]
file = "names.jsonl"
[media]
image = "'a.jpg'"
[slots]
question = "q.question"
[answers]
phrase = "'%s %s' | format(a.answer, names[2])"
"#,
    );
    let questions = "{\"id\": 1, \"question\": \"What?\"}\n{\"id\": \"\", \"question\": \"Where?\"}\n";
    let good = r#"{"id": 1, "answer": "net"}"#;
    let bad = [
        (r#"{"id": 1, "answer": "net"}"#, "duplicate_key:a"),
        (r#"{"id": "1", "answer": "ball"}"#, "duplicate_key:a"),
        (r#"{"id": 1.0, "answer": "ball"}"#, "duplicate_key:a"),
        (r#"{"id": null, "answer": "ball"}"#, "no_key:a"),
        (r#"{"id": NaN, "answer": "ball"}"#, "no_key:a"),
        (r#"{"id": "", "answer": "ball"}"#, "no_key:a"),
        (r#"{"id": [1], "answer": "ball"}"#, "no_key:a"),
        (r#"{"answer": "ball"}"#, "no_key:a"),
        ("7", "no_key:a"),
        ("{broken", "unreadable:a"),
    ];
    for (row, reason) in bad {
        let answers = format!("{good}\n{row}\n");
        let files = [("val.jsonl", questions), ("answers.jsonl", &answers), ("names.jsonl", "\"x\"\n{broken\n\"y\"\n")];
        let (found, counts) = run(&joined, &files);
        assert!(asks(found[0].as_ref().unwrap(), "What?", "net y"), "{row}");
        assert_eq!(counts.dropped, BTreeMap::from([("unmatched:a".to_owned(), 1)]), "a blank key meets no blank key");
        let left_out = BTreeMap::from([(reason.to_owned(), 1), ("unreadable:names".to_owned(), 1)]);
        assert_eq!(counts.left_out, left_out, "{row}");
        assert!(counts.examples[reason].contains("file answers.jsonl, row 1: "), "{}", counts.examples[reason]);
    }
}

#[test]
fn records_that_cannot_be_converted_are_lost_and_others_are_not_wanted() {
    let with =
        |section: &str| task(&VQA.replace("[media]", &format!("[{section}]\nknown = \"q.answer == 'net'\"\n[media]")));
    let row = |id: u32| {
        let answer = if id == 1 { "net" } else { "ball" };
        format!("{{\"id\": {id}, \"image\": 1, \"question\": \"What?\", \"answer\": \"{answer}\"}}\n")
    };
    let rows: String = (1..=20).map(row).collect();
    let (found, counts) = run(&with("where"), &[("val.jsonl", &rows)]);
    assert_eq!((found.len(), counts.dropped["where:known"]), (1, 19));
    let message = fault(&with("must"), &[("val.jsonl", &rows)]);
    assert!(message.contains("95 % of its records were dropped, more than 50 % (must:known 19)"), "{message}");
    assert!(message.contains("row 1: must.known does not hold"), "{message}");
}

#[test]
fn boxes_that_are_cut_off_are_counted_with_their_records() {
    let own = task(
        "id = \"q.id\"\n[tables.q]\nfile = \"{split}.jsonl\"\n[media]\nimage = \"'a.jpg'\"\n[answers]\n\
         boxes = \"q.boxes | map('box', 'xyxy', 100, 100) | list\"\n",
    );
    let rows = "{\"id\": 1, \"boxes\": [[-1, 0, 50, 50], [0, 0, 101, 50], [0, 0, 9, 9]]}\n\
                {\"id\": 2, \"boxes\": [[-1, 0, 50, 50], [0, 0, 500, 50]]}\n{\"id\": 3, \"boxes\": [[1, 2, 3, 4]]}\n";
    let (found, counts) = run(&own, &[("val.jsonl", rows)]);
    assert_eq!(found.len(), 2);
    assert_eq!(counts.left_out, BTreeMap::from([("outside_image:box".to_owned(), 2)]));
    assert_eq!(counts.dropped, BTreeMap::from([("error:boxes".to_owned(), 1)]));
}

#[test]
fn a_predicate_does_not_hide_a_task_that_fits_no_row() {
    let own =
        task(&VQA.replace("q.answer", "q.anwser").replace("[media]", "[where]\neven = \"q.id % 2 == 0\"\n[media]"));
    let row = |id: u32| format!("{{\"id\": {id}, \"image\": 1, \"question\": \"What?\", \"answer\": \"net\"}}\n");
    let message = fault(&own, &[("val.jsonl", &(1..=5).map(row).collect::<String>())]);
    assert!(message.contains("none of 5 records became a conversation (error:phrase 2, where:even 3)"), "{message}");
}

#[test]
fn optional_matches_are_none_and_any_matches_a_list() {
    let rest = |matches: &str| {
        format!(
            r#"
id = "image.id"
[tables.image]
file = "images.json"
[tables.caption]
file = "captions.json"
join = "image_id"
on = "image.id"
matches = "{matches}"
[media]
image = "'a.jpg'"
[answers]
captions = "{}"
"#,
            if matches == "optional" {
                "[caption.text if caption else 'none']"
            } else {
                "caption | map(attribute='text') | list + ['own']"
            }
        )
    };
    let files = [("images.json", r#"[{"id": 1}, {"id": 2}]"#), ("captions.json", r#"[{"image_id": 2, "text": "x"}]"#)];
    let captions = |matches: &str| -> Vec<Vec<String>> {
        kept(&task(&rest(matches)), &files).into_iter().map(|record| record.answers.captions).collect()
    };
    assert_eq!(captions("optional"), [["none"], ["x"]]);
    assert_eq!(captions("any"), [vec!["own"], vec!["x", "own"]]);
}

#[test]
fn every_row_is_kept_or_counted_with_its_reason() {
    let own = task(
        &format!("may_drop = 1.0\n{VQA}")
            .replace("[media]", "[where]\nanswered = \"q.answer != 'unanswerable'\"\n[media]"),
    );
    let lines = [
        r#"{"id": 1, "image": 1, "question": "What?", "answer": "net"}"#,
        r#"{"id": 2, "image": 2, "question": "What?", "answer": "unanswerable"}"#,
        r#"{"id": 3, "image": 3, "answer": "net"}"#,
        r#"{"id": 4, "image": 4, "question": ["What?"], "answer": "net"}"#,
        r#"{"id": 1, "image": 5, "question": "Again?", "answer": "net"}"#,
        r#"{"id": 6, "image": "../../etc/x", "question": "What?", "answer": "net"}"#,
        "{broken",
        r#"{"id": 8, "image": 8, "question": "What?"}"#,
    ];
    let (found, counts) = run(&own, &[("val.jsonl", &lines.join("\n"))]);
    assert_eq!((found.len(), counts.rows_seen, counts.records_seen, counts.kept), (1, 8, 8, 1));
    let dropped: Vec<(&str, u64)> = counts.dropped.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let expected = [
        ("duplicate_id", 1),
        ("error:answered", 1),
        ("error:question", 1),
        ("field:image", 1),
        ("field:question", 1),
        ("unreadable", 1),
        ("where:answered", 1),
    ];
    assert_eq!(dropped, expected);
    assert_eq!(
        counts.examples["error:question"],
        "task own, file val.jsonl, row 2: slots.question: expression `q.question` is missing or null here; \
         `q` has no `question`; its keys are id, image, answer"
    );
    assert!(counts.examples["unreadable"].contains("row 6: is not JSON"), "{}", counts.examples["unreadable"]);
}

#[test]
fn a_task_that_fits_no_row_is_an_error_with_the_first_fault() {
    let own = task(&VQA.replace("q.question", "q.sentence"));
    let lines = "{\"id\": 1, \"image\": 1, \"question\": \"What?\", \"answer\": \"net\"}\n";
    let message = fault(&own, &[("val.jsonl", lines)]);
    assert!(
        message.contains("none of 1 records") && message.contains("expression `q.sentence` is missing or null"),
        "{message}"
    );
    assert_eq!(run(&task(VQA), &[("val.jsonl", "")]).0.len(), 0, "an empty file is no fault");
}

#[test]
fn faults_of_whole_files_name_the_file() {
    let own = task(VQA);
    let missing = fault(&own, &[]);
    assert!(
        missing.contains("table q: there is no") && missing.contains("val.jsonl") && missing.ends_with("are val"),
        "{missing}"
    );
    let json = task(&VQA.replace("{split}.jsonl\"", "{split}.json\"\nat = \"questions\""));
    let place = fault(&json, &[("val.json", "{\"question\": []}")]);
    assert!(place.contains("table q, file val.json: there is no key `questions` here, only question"), "{place}");
    let row = r#"{"id": 1, "image": 1, "question": "a", "answer": "b"}"#;
    let cut = format!("{{\"questions\": [{row}, {{\"id\": 2");
    let (found, counts) = run(&json, &[("val.json", &cut)]);
    assert!(found[0].is_ok() && counts.kept == 1, "rows before the break are there");
    assert!(found[1].as_ref().unwrap_err().to_string().contains("file val.json: the file ends within a value"));
}

#[test]
fn only_what_is_kept_of_a_joined_row_stays() {
    let task_that_keeps = |keep: &str| {
        let tables = format!("[tables.a]\nfile = \"answers.jsonl\"\njoin = \"id\"\nkeep = {{ {keep} }}\n[media]");
        task(&VQA.replace("[media]", &tables).replace("q.answer", "a.target"))
    };
    let questions = r#"{"id": 1, "image": 1, "question": "A?"}
{"id": 2, "image": 1, "question": "B?"}
{"id": 3, "image": 1, "question": "C?"}"#;
    let answers = r#"{"id": 1, "given": "net", "answers": ["x"]}
{"id": 2, "answers": ["x", "y", "y"]}
{"id": 3}"#;
    let files = [("val.jsonl", questions), ("answers.jsonl", answers)];
    let (found, counts) = run(&task_that_keeps("target = \"a.given | default(a.answers | majority)\""), &files);
    let answer = |place: usize| found[place].as_ref().unwrap().answers.texts[&AnswerShape::Phrase].clone();
    assert_eq!((answer(0), answer(1), found.len()), ("net".to_owned(), "y".to_owned(), 2));
    assert_eq!(counts.dropped, BTreeMap::from([("error:phrase".to_owned(), 1)]));
    assert!(fault(&task_that_keeps("other = \"a.id\""), &files).contains("`a.target` is missing or null"));
}

#[test]
fn an_absolute_path_is_one_from_the_image_folder() {
    let task = task(&VQA.replace("'%s.jpg' | format(q.image)", "q.image"));
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let row = |id: u32, path: &Path| json!({"id": id, "image": path, "question": "Who?", "answer": "he"});
    let rows = [row(1, &images.join("a/b.png")), row(2, &folder.path().join("c.png")), row(3, Path::new("d.png"))];
    fs::write(folder.path().join("val.jsonl"), rows.map(|row| row.to_string()).join("\n")).unwrap();
    let paths = |records: Records| -> Vec<String> { records.flat_map(|record| record.unwrap().media.images).collect() };
    let records = || Records::start(&task, folder.path(), "val").unwrap();
    assert_eq!(paths(records()), ["images/a/b.png", "c.png", "d.png"], "the root is the image folder");
    assert_eq!(paths(records().with_images(&images)), ["a/b.png", "d.png"]);
}
