use std::fs;

use serde_json::{Value, json};

use super::*;

/// An image of 640 x 480 pixels, by its header alone: 391 tokens and 2 marks of Qwen2-VL.
fn sized(fields: &Value) -> Value {
    let mut record = json!({"width": 640, "height": 480});
    for (name, value) in fields.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

fn talk(question: &str, answer: &str) -> Value {
    json!([{"from": "human", "value": question}, {"from": "gpt", "value": answer}])
}

fn settings<'a>(model: &'a Model, tokenizer: Option<&'a Tokenizer>) -> Settings<'a> {
    Settings {
        model,
        tokenizer,
        template: None,
        images: None,
        of_run: None,
        sizes: Sizes::FromRecords,
        max_length: None,
    }
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(include_str!("../../golden/tokenizer.json")).unwrap()
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn lengths_add_up_texts_and_pictures() {
    let records = [
        sized(&json!({"id": "a", "image": "a.jpg", "conversations": talk("<image>\nWhat is it?", "A dog.")})),
        json!({"id": "b", "conversations": talk("Why?", "So.")}),
    ];
    let (_folder, path) = written("own.json", &json!(records).to_string());
    let (model, tokenizer) = (Model::parse("qwen2-vl").unwrap(), tokenizer());
    let plain = audit(&path, &settings(&model, Some(&tokenizer))).unwrap();
    let texts = ["\nWhat is it?", "A dog.", "Why?", "So."];
    let expected: u64 = texts.iter().map(|text| tokenizer.count(text).unwrap()).sum();
    assert_eq!((plain.records, plain.text_tokens, plain.visual_tokens), (2, Some(expected), 393));
    assert_eq!((plain.words, plain.pictures), (7, 1));
    assert!(plain.broken.is_empty() && !plain.breaks_training());
    assert_eq!(plain.histogram.iter().map(|bin| bin.records).sum::<u64>(), 2);

    let with_template =
        Settings { template: Some(Template::ChatMl), max_length: Some(400), ..settings(&model, Some(&tokenizer)) };
    let with_template = audit(&path, &with_template).unwrap();
    // Two turns of <|im_start|>, the role in three tokens or more, a line feed, <|im_end|>, a line
    // feed.
    assert!(with_template.text_tokens.unwrap() > expected + 20);
    assert_eq!((with_template.over_length, with_template.breaks_training()), (1, true));
    assert_eq!(with_template.over_length_examples[0].id.as_deref(), Some("a"));

    let without = audit(&path, &settings(&model, None)).unwrap();
    assert_eq!((without.text_tokens, without.lengths.max), (None, 393));
    assert!(without.notes[0].contains("texts are not counted"));
}

#[test]
fn every_fault_is_counted_with_its_place() {
    let good = talk("Why?", "So.");
    let lines = [
        json!({"id": 1, "conversations": good}).to_string(),
        "{broken".to_owned(),
        json!({"id": 1, "conversations": good}).to_string(),
        json!({"id": 3, "conversations": talk("<image>", "x")}).to_string(),
        sized(&json!({"id": 4, "image": "a.jpg", "conversations": good})).to_string(),
        json!({"id": 5, "conversations": talk("Why?", " ")}).to_string(),
        json!({"id": 6, "conversations": [{"from": "gpt", "value": "x"}]}).to_string(),
        json!({"id": 7, "conversations": [{"from": "robot", "value": "x"}]}).to_string(),
        json!({"id": 8, "conversations": []}).to_string(),
        json!({"id": 9, "conversations": [{"from": "human", "value": "x"}]}).to_string(),
        json!({"id": 10, "image": "a.jpg", "conversations": talk("<image>", "x")}).to_string(),
        json!({"id": 11, "image": "a.jpg", "width": 500, "height": 1, "conversations": talk("<image>", "x")})
            .to_string(),
        json!({"id": 12, "conversations": talk("<video>", "x")}).to_string(),
        sized(&json!({"id": 13, "image": "a.jpg", "conversations": talk("Why?", "<image> so")})).to_string(),
        json!({"id": 14, "conversations": talk("A \u{e9}", "x")}).to_string().replace('\u{e9}', "\\ud800"),
        json!({"id": 15, "conversations": talk("A\tb", "x")}).to_string().replace("\\t", "\t"),
    ];
    let (_folder, path) = written("own.jsonl", &(lines.join("\n") + "\n"));
    let model = Model::parse("qwen2-vl").unwrap();
    let report = audit(&path, &settings(&model, None)).unwrap();
    let counts: Vec<(Reason, u64)> = report.broken.iter().map(|(reason, broken)| (*reason, broken.count)).collect();
    let expected = [
        (Reason::Unreadable, 2),
        (Reason::UnpairedSurrogate, 1),
        (Reason::NoConversation, 1),
        (Reason::EmptyTurn, 1),
        (Reason::UnknownRole, 1),
        (Reason::RoleOrder, 2),
        (Reason::DuplicateId, 1),
        (Reason::ImagePlaceholders, 3),
        (Reason::VideoPlaceholders, 1),
        (Reason::MissingPicture, 1),
        (Reason::UnfitPicture, 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!((report.records, report.uncounted_pictures), (16, 2));
    let example = &report.broken[&Reason::ImagePlaceholders].examples[0];
    assert_eq!((example.file.as_str(), example.row, example.id.as_deref()), (path.to_str().unwrap(), 3, Some("3")));
    assert_eq!(example.detail, "1 <image> in prompts for 0 pictures");
    let example = &report.broken[&Reason::ImagePlaceholders].examples[2];
    assert_eq!(example.detail, "0 <image> in prompts and 1 in answers for 1 pictures");
    let told = serde_json::to_value(&report).unwrap();
    assert_eq!(told["broken"]["duplicate_id"]["breaks_training"], json!(false));
    assert!(report.breaks_training());
}

#[test]
fn files_that_python_refuses_are_faults() {
    /// A file with the number of its records, and the reason, number and first row of its fault.
    type Case = (&'static str, Vec<u8>, u64, Option<(Reason, u64, u64)>);
    let line = json!({"conversations": talk("Say h\u{e9}", "Yes.")}).to_string();
    let latin =
        |text: &str| -> Vec<u8> { text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap()).collect() };
    let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let with_mark = ["\u{feff}", line.as_str()].concat();
    let list = format!("[{line},\n{line}]");
    let cases: [Case; 9] = [
        ("good.json", list.clone().into_bytes(), 2, None),
        ("none.json", b"[]".to_vec(), 0, None),
        ("none.jsonl", b"\n".to_vec(), 0, None),
        ("empty.json", Vec::new(), 1, Some((Reason::Unreadable, 1, 0))),
        ("comma.json", format!("[{line},\n{line},]").into_bytes(), 3, Some((Reason::Unreadable, 1, 2))),
        ("latin.jsonl", latin(&format!("{{}}\n{line}")), 2, Some((Reason::Encoding, 1, 1))),
        ("utf16.json", utf16(&list), 2, Some((Reason::Encoding, 2, 0))),
        ("utf16.jsonl", utf16(&with_mark), 1, Some((Reason::Encoding, 1, 0))),
        ("mark.jsonl", format!("{with_mark}\n{line}").into_bytes(), 2, Some((Reason::ByteOrderMark, 1, 0))),
    ];
    let model = Model::parse("lynx").unwrap();
    for (name, bytes, records, fault) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let report = audit(&path, &settings(&model, None)).unwrap();
        assert_eq!(report.records, records, "{name}");
        let Some((reason, count, row)) = fault else {
            assert!(report.broken.is_empty(), "{name}: {:?}", report.broken);
            continue;
        };
        let broken = &report.broken[&reason];
        assert_eq!((broken.count, broken.examples[0].row), (count, row), "{name}");
        assert_eq!(report.breaks_training(), reason != Reason::ByteOrderMark, "{name}");
    }
}

#[test]
fn what_the_template_refuses_is_told() {
    let record = json!({"id": "a", "conversations": talk("Say <|im_end|>", "No.")});
    let (_folder, path) = written("own.jsonl", &record.to_string());
    let (model, tokenizer) = (Model::parse("lynx").unwrap(), tokenizer());
    let with_template = Settings { template: Some(Template::ChatMl), ..settings(&model, Some(&tokenizer)) };
    let report = audit(&path, &with_template).unwrap();
    assert!(report.broken[&Reason::TemplateRefuses].examples[0].detail.contains("<|im_end|>"));
    assert!(audit(&path, &settings(&model, Some(&tokenizer))).unwrap().broken.is_empty());
}

#[test]
fn a_folder_is_read_file_by_file_and_paths_start_from_each() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["b", "a"] {
        let below = folder.path().join(name);
        fs::create_dir(&below).unwrap();
        let record = json!({"id": name, "images": ["x.png"], "messages": [
            {"role": "user", "content": "<image>"}, {"role": "assistant", "content": "x"}]});
        fs::write(below.join("own.jsonl"), record.to_string()).unwrap();
        fs::write(below.join("notes.txt"), "nothing").unwrap();
    }
    fs::write(folder.path().join("a/x.png"), b"").unwrap();
    let model = Model::parse("gemma3").unwrap();
    let report = audit(folder.path(), &settings(&model, None)).unwrap();
    let place = |reason: Reason| report.broken[&reason].examples[0].file.clone();
    assert_eq!(
        (place(Reason::EmptyPicture), place(Reason::MissingPicture)),
        ("a/own.jsonl".into(), "b/own.jsonl".into())
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(audit(empty.path(), &settings(&model, None)).unwrap_err().to_string().contains(".parquet"));
}

#[test]
fn records_in_many_batches_keep_their_order() {
    let line = |number: usize| {
        let text = "x ".repeat(number % 7 + 1);
        json!({"id": number, "conversations": talk("Why?", &text)}).to_string() + "\n"
    };
    let (_folder, path) = written("own.jsonl", &(0..5000).map(line).collect::<String>());
    let (model, tokenizer) = (Model::parse("lynx").unwrap(), tokenizer());
    let mut rows = Vec::new();
    checked(&path, &settings(&model, Some(&tokenizer)), &mut |record| {
        rows.push((record.row, record.id.unwrap()));
        Ok(())
    })
    .unwrap();
    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().enumerate().all(|(number, (row, id))| *row == number as u64 && *id == number.to_string()));
}

#[test]
fn the_histogram_has_every_record_and_four_ranges_a_doubling() {
    let by_length: BTreeMap<u64, u64> = [(0, 1), (63, 2), (64, 3), (700, 4), (5000, 5)].into();
    let bins = histogram(&by_length);
    assert_eq!(bins.iter().map(|bin| bin.records).sum::<u64>(), 15);
    assert_eq!((bins[0].records, bins[1].records), (3, 3));
    assert!(bins.windows(2).all(|pair| pair[0].to + 1 == pair[1].from));
    let last = bins.last().unwrap();
    assert!(last.from <= 5000 && 5000 <= last.to && last.to - last.from + 1 == 1024);
    assert!(bins.len() < 40);
}
