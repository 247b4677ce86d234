//! `lynxdata audit`, `pack` and `render`: token counts and faults of conversations, packs, loss
//! masks.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::support::{lynxdata, repository};

/// Writes real images and records about them; the last four are faulty.
fn conversations(folder: &Path) {
    let pictures = folder.join("images");
    std::fs::create_dir(&pictures).unwrap();
    let fixture = std::fs::read(repository().join("pipeline/picture/fixtures/plain.jpg")).unwrap();
    std::fs::write(pictures.join("whole.jpg"), &fixture).unwrap();
    std::fs::write(pictures.join("cut.jpg"), &fixture[..fixture.len() / 2]).unwrap();
    std::fs::write(pictures.join("named.png"), &fixture).unwrap();
    let talk = |question: &str| json!([{"from": "human", "value": question}, {"from": "gpt", "value": "A brown dog."}]);
    let records = json!([
        {"id": "a", "image": "whole.jpg", "conversations": talk("<image>\nWhat is in the picture?")},
        {"id": "b", "image": ["whole.jpg", "named.png"], "conversations": talk("<image><image>How many dogs?")},
        {"id": "c", "conversations": talk("Describe it briefly.")},
        {"id": "d", "image": "cut.jpg", "conversations": talk("<image>What is it?")},
        {"id": "e", "image": "none.jpg", "conversations": talk("<image>What is it?")},
        {"id": "f", "image": "whole.jpg", "conversations": talk("What is it?")},
        {"id": "a", "image": "whole.jpg", "conversations": talk("<image>")},
    ]);
    std::fs::write(folder.join("llava.json"), records.to_string()).unwrap();
}

/// The tokenizer of the golden values of `lynxdata-budgets`.
fn tokenizer() -> String {
    repository().join("budgets/golden/tokenizer.json").to_str().unwrap().to_owned()
}

#[test]
fn an_audit_counts_tokens_and_finds_what_would_break_training() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    conversations(folder);
    let tokenizer = tokenizer();
    let arguments = ["audit", "llava.json", "--model", "qwen2-vl", "--images", "images", "--tokenizer", &tokenizer];
    let told = lynxdata(folder, &[&arguments[..], &["--max-length", "50", "--json"]].concat()).ended_with(3).json();
    // 150 x 100 pixels are 5 x 4 tokens and two marks; five of the six images have a size.
    assert_eq!((&told["records"], &told["visual_tokens"], &told["pictures"]), (&json!(7), &json!(5 * 22), &json!(7)));
    assert!(told["text_tokens"].as_u64().unwrap() > 7 * 6);
    assert_eq!(told["over_length"], json!(1));
    let counts: Vec<(&str, u64)> = told["broken"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, broken)| (name.as_str(), broken["count"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("duplicate_id", 1),
        ("image_placeholders", 1),
        ("missing_picture", 1),
        ("corrupt_picture", 1),
        ("misnamed_picture", 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(told["broken"]["corrupt_picture"]["examples"][0]["id"], json!("d"));
    let bins = told["histogram"].as_array().unwrap();
    assert_eq!(bins.iter().map(|bin| bin["records"].as_u64().unwrap()).sum::<u64>(), 7);

    let table = lynxdata(folder, &arguments).ended_with(3).stdout;
    assert!(table.contains("missing_picture: 1 records, breaks training\n  llava.json, row 4, id e: "), "{table}");
    assert!(table.contains("- what a chat template adds"), "{table}");
}

#[test]
fn an_audit_without_faults_ends_well_and_says_what_it_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let line = json!({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]});
    std::fs::write(folder.join("own.jsonl"), format!("{line}\n")).unwrap();
    let told = lynxdata(folder, &["audit", "own.jsonl", "--model", "lynx", "--json"]).ended_with(0).json();
    assert_eq!((&told["text_tokens"], &told["words"], &told["broken"]), (&Value::Null, &json!(2), &json!({})));
    assert!(told["notes"][0].as_str().unwrap().contains("texts are not counted"));
    lynxdata(folder, &["audit", "own.jsonl", "--model", "gpt-4o"]).ended_with(2).says(&["no model gpt-4o", "qwen2-vl"]);
    lynxdata(folder, &["audit", "none.jsonl", "--model", "lynx"]).ended_with(2).says(&["none.jsonl"]);
    std::fs::write(folder.join("none.json"), "[]").unwrap();
    lynxdata(folder, &["audit", "none.json", "--model", "lynx"]).ended_with(1).says(&["none.json has no records"]);
    std::fs::write(folder.join("comma.json"), format!("[{line},]")).unwrap();
    let comma = lynxdata(folder, &["audit", "comma.json", "--model", "lynx"]).ended_with(3).stdout;
    assert!(comma.contains("unreadable: 1 records") && comma.contains("comma.json, row 1: it is not JSON"), "{comma}");
    std::fs::write(folder.join("cut.json"), "[{\"messages\": []}, {").unwrap();
    lynxdata(folder, &["audit", "cut.json", "--model", "lynx"]).ended_with(1).says(&["cut.json", "cut off"]);
}

/// Reads a plan, which is one row group.
fn plan(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
    reader.build().unwrap().next().unwrap().unwrap()
}

#[test]
fn a_plan_has_every_whole_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    conversations(folder);
    let tokenizer = tokenizer();
    let mut arguments = vec!["pack", "llava.json", "--model", "qwen2-vl", "--images", "images", "--length", "80"];
    lynxdata(folder, &[&arguments[..], &["--out", "plan.parquet"]].concat()).ended_with(2).says(&["--tokenizer"]);
    arguments.extend(["--tokenizer", &tokenizer, "--out", "plan.parquet", "--json"]);
    let told = lynxdata(folder, &arguments).ended_with(3).json();
    assert_eq!(
        (&told["records"], &told["left_out"]["count"], &told["too_long"]["count"]),
        (&json!(4), &json!(3), &json!(0))
    );
    let plan = plan(&folder.join("plan.parquet"));
    let mut used = std::collections::BTreeMap::new();
    for row in 0..plan.num_rows() {
        let pack = plan.column(0).as_primitive::<UInt32Type>().value(row);
        *used.entry(pack).or_insert(0) += plan.column(5).as_primitive::<UInt64Type>().value(row);
    }
    assert!(used.values().all(|used| *used <= 80), "{used:?}");
    assert_eq!(used.len() as u64, told["packs"].as_u64().unwrap());
    assert_eq!(json!(used.values().sum::<u64>()), told["tokens"]);
    let same = arguments.iter().map(|own| if *own == "plan.parquet" { "llava.json" } else { own });
    lynxdata(folder, &same.collect::<Vec<_>>()).ended_with(2).says(&["--out llava.json would replace llava.json"]);
    arguments[7] = "40";
    let short = lynxdata(folder, &arguments).ended_with(3).json();
    assert_eq!(short["too_long"]["records"][0]["id"], json!("b"));

    // Records that are only too long are left out too.
    let talk = |answer: &str| json!([{"from": "human", "value": "Why?"}, {"from": "gpt", "value": answer}]);
    let of_lengths = json!([{"conversations": talk("So.")}, {"conversations": talk(&"so ".repeat(99))},
        {"image": "a.jpg", "conversations": talk("<image>")}]);
    std::fs::write(folder.join("two.json"), json!([of_lengths[0], of_lengths[1]]).to_string()).unwrap();
    std::fs::write(folder.join("answer.json"), json!([of_lengths[0], of_lengths[2]]).to_string()).unwrap();
    let pack = |file: &str, length: &str| {
        let end = ["--length", length, "--tokenizer", &tokenizer, "--out", "two.parquet", "--json"];
        lynxdata(folder, &[&["pack", file, "--model", "llava-1.5"][..], &end[..]].concat())
    };
    assert_eq!(pack("two.json", "500").ended_with(0).json()["records"], json!(2));
    assert_eq!(pack("two.json", "50").ended_with(3).json()["too_long"]["count"], json!(1));
    let left_out = pack("answer.json", "5000").ended_with(3).json();
    assert!(left_out["left_out"]["records"][0]["reason"].as_str().unwrap().contains("1 in answers"));
    std::fs::remove_file(folder.join("two.parquet")).unwrap();
    pack("two.json", "1").ended_with(1).says(&["no record is in a pack of 1 tokens"]);
    assert!(!folder.join("two.parquet").exists());
}

fn render(template: &str, input: &str) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lynxdata"));
    command.args(["render", "--template", template, "--tokenizer", &tokenizer(), "--json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn rendered_tokens_are_those_of_transformers() {
    let golden = repository().join("budgets/golden/render.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let mut compared = 0;
    for (template, rows) in golden["tokens"]["tokenizer.json"].as_object().unwrap() {
        let pairs = golden["conversations"].as_array().unwrap().iter().zip(rows.as_array().unwrap());
        let pairs: Vec<_> = pairs.filter(|(_, expected)| expected["ids"].is_array()).collect();
        let input: String =
            pairs.iter().map(|(messages, _)| json!({"messages": messages}).to_string() + "\n").collect();
        let (code, lines) = render(template, &input);
        assert_eq!((code, lines.len()), (Some(0), pairs.len()), "{template}");
        for (line, (_, expected)) in lines.iter().zip(pairs) {
            assert_eq!((&line["ids"], &line["loss_mask"]), (&expected["ids"], &expected["mask"]), "{template}");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
    let open = json!({"id": 5, "messages": [{"role": "user", "content": "Why?"}]});
    let (code, lines) = render("chatml", &format!("{open}\nno JSON\n"));
    assert_eq!((code, &lines[0]["id"], &lines[1]["line"]), (Some(3), &json!("5"), &json!(2)));
    assert!(lines[0]["error"].as_str().unwrap().contains("last turn"));
    let talk = json!({"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "SO"}]});
    let (code, lines) = render("chatml", &format!("\u{feff}{talk}\n"));
    assert!(code == Some(0) && lines[0]["ids"].is_array(), "a byte order mark is no part of the record");
    let (code, lines) = render("chatml", &talk.to_string().replace("SO", "\\ud800"));
    assert_eq!(code, Some(3));
    assert!(lines[0]["error"].as_str().unwrap().contains("surrogate"));
}

#[test]
fn what_of_a_benchmark_is_in_the_data_is_told_with_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let record = json!({"id": "a", "image": "coco/train2017/000000033471.jpg", "conversations": [
        {"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]});
    std::fs::write(folder.join("own.jsonl"), format!("{record}\n")).unwrap();
    let reference =
        json!({"id": 7, "question": "How many?", "answers": ["2"], "image": "COCO_val2014_000000033471.jpg"});
    std::fs::write(folder.join("bench.jsonl"), format!("{reference}\n")).unwrap();
    let arguments = ["decontaminate", "own.jsonl", "--against", "bench.jsonl"];
    let told = lynxdata(folder, &[&arguments[..], &["--json"]].concat()).ended_with(3).json();
    assert_eq!((&told["contaminated"], &told["by"]), (&json!(1), &json!({"image_id": 1})));
    let text = lynxdata(folder, &arguments).ended_with(3).stdout;
    assert!(text.contains("own.jsonl, row 0, id a ~ bench.jsonl, row 0, id 7: coco 33471\n"), "{text}");
    lynxdata(folder, &["decontaminate", "own.jsonl", "--against", "own.jsonl", "bench.jsonl"]).ended_with(3);
}

#[test]
fn a_benchmark_is_read_in_the_layout_of_its_authors_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let record = json!([{"id": "x", "image": "COCO_val2014_000000310196.jpg", "conversations": [
        {"from": "human", "value": "<image>\nIs there a snowboard in the image?"}, {"from": "gpt", "value": "yes"}]}]);
    std::fs::write(folder.join("leak.json"), record.to_string()).unwrap();
    let pope = json!({"question_id": 1, "image": "COCO_val2014_000000310196.jpg",
        "text": "Is there a snowboard in the image?", "label": "yes"});
    std::fs::write(folder.join("pope.json"), format!("{pope}\n{{\"foo\": 1}}\n")).unwrap();
    let arguments = ["decontaminate", "leak.json", "--against", "pope.json", "--out", "clean.json"];
    let text = lynxdata(folder, &arguments).ended_with(1).stdout;
    assert!(text.contains("1 of 1 records match one of 1 references\n"), "{text}");
    assert!(text.contains("- 1 references cannot be read"), "{text}");
    assert_eq!(std::fs::read_to_string(folder.join("clean.json")).unwrap(), "[]\n");
    for (out, said) in [("pope.json", "would replace pope.json"), ("leak.json", "would replace leak.json")] {
        let arguments = ["decontaminate", "leak.json", "--against", "pope.json", "--out", out];
        lynxdata(folder, &arguments).ended_with(2).says(&[said, "give another path"]);
    }
    std::fs::write(folder.join("empty.json"), "").unwrap();
    for against in ["empty.json", "other.jsonl"] {
        std::fs::write(folder.join("other.jsonl"), "{\"foo\": 1}\n").unwrap();
        let arguments = ["decontaminate", "leak.json", "--against", "pope.json", against, "--out", "none.json"];
        lynxdata(folder, &arguments).ended_with(1).says(&[against, "no reference", "question, text, image"]);
        assert!(!folder.join("none.json").exists());
    }
}

/// A task about images, by a definition of its own.
const TASK: &str = r#"
name = "NAME"
group = "vqa"
licence = "CC-BY-4.0"
commercial_use = "yes"
homepage = "https://example.org"
cite = "none"
verified = "documentation"
prompts = ["vqa"]
id = "q.id"

[splits]
train = 2

[pictures]
licence = "CC-BY-4.0"
commercial_use = "yes"

[tables.q]
file = "questions.jsonl"

[media]
image = "q.image"

[slots]
question = "q.question"

[answers]
phrase = "q.answer"
"#;

#[test]
fn conversations_of_a_run_are_found_with_their_images() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let picture = std::fs::read(repository().join("pipeline/picture/fixtures/plain.jpg")).unwrap();
    std::fs::create_dir_all(folder.join("own")).unwrap();
    for name in ["one", "two"] {
        std::fs::write(folder.join(format!("own/{name}.toml")), TASK.replace("NAME", name)).unwrap();
        let root = folder.join(name);
        std::fs::create_dir_all(root.join("images")).unwrap();
        let row = |id: u32| json!({"id": id, "image": format!("images/{name}{id}.jpg"), "question": "What is it?", "answer": "box"});
        std::fs::write(root.join("questions.jsonl"), format!("{}\n{}\n", row(1), row(2))).unwrap();
        for id in [1, 2] {
            std::fs::write(root.join(format!("images/{name}{id}.jpg")), &picture).unwrap();
        }
    }
    let recipe = "output = \"run\"\n[instruct]\ncatalogue = \"own\"\nformats = [\"llava\", \"verl\"]\n\
        tasks = [{ name = \"one\", root = \"one\", split = \"train\" }, { name = \"two\", root = \"two\", split = \"train\" }]\n\
        [instruct.mixture]\n";
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    for (path, read) in [
        ("run", "only mixture/conversations.jsonl was read"),
        ("run/mixture", "only conversations.jsonl was read"),
        ("run/mixture/llava.json", ""),
        ("run/instruct", "only conversations was read"),
        ("run/instruct/llava", ""),
        ("run/instruct/conversations/two-train.jsonl", ""),
    ] {
        let told = lynxdata(folder, &["audit", path, "--model", "qwen2-vl", "--json"]).ended_with(0).json();
        let records = if path.ends_with("two-train.jsonl") { 2 } else { 4 };
        // 150 x 100 pixels are 22 tokens.
        assert_eq!((&told["records"], &told["visual_tokens"]), (&json!(records), &json!(records * 22)), "{path}");
        assert!(told["notes"].to_string().contains(read), "{path}: {}", told["notes"]);
    }
    // An empty folder of a format is passed over.
    std::fs::create_dir(folder.join("run/instruct/parquet")).unwrap();
    lynxdata(folder, &["audit", "run/instruct", "--model", "qwen2-vl"]).ended_with(0);
    let verl = ["audit", "run/instruct/verl", "--model", "qwen2-vl"];
    lynxdata(folder, &verl).ended_with(1).says(&["reinforcement learning", "instruct/conversations"]);
    std::fs::remove_file(folder.join("one/images/one2.jpg")).unwrap();
    let told = lynxdata(folder, &["audit", "run/mixture", "--model", "qwen2-vl", "--json"]).ended_with(3).json();
    assert_eq!(told["broken"]["missing_picture"]["count"], json!(1));
}
