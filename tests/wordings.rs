//! Wordings, packing and decontamination of questions, and the diversity of the result.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::lynxdata;

/// A custom task: questions with four options, eight about each image.
const QUIZ: &str = r#"
name = "quiz"
group = "vqa"
licence = "CC0-1.0"
commercial_use = "yes"
homepage = "here"
cite = "none"
verified = "fixture"
splits = { train = 0, val = 0 }
prompts = ["multiple_choice"]
id = "q.id"
pictures = { licence = "CC0-1.0", commercial_use = "yes" }
media = { image = "q.image" }
slots = { question = "q.question" }
answers = { options = { texts = "q.options", right = "q.right" } }
[tables.q]
file = "{split}.jsonl"
"#;

fn write_quiz(folder: &Path, instruct: &str) {
    std::fs::create_dir_all(folder.join("own")).unwrap();
    std::fs::write(folder.join("own/quiz.toml"), QUIZ).unwrap();
    let row = |number: u64| {
        let image = format!("train2014/COCO_train2014_{:012}.jpg", number / 8 + 1);
        let options: Vec<String> =
            (0..4).map(|place| format!("thing {} of {number}", "abcd".split_at(place).1)).collect();
        json!({"id": number, "image": image, "question": format!("Which thing is number {number} in this picture of things?"),
            "options": options, "right": 0})
    };
    let rows: Vec<String> = (0..400).map(|number| row(number).to_string()).collect();
    std::fs::write(folder.join("train.jsonl"), rows.join("\n")).unwrap();
    let recipe = format!(
        "output = \"run\"\nseed = 5\n[instruct]\ncatalogue = \"own\"\nrequire_images = false\nformats = [\"llava\", \"parquet\"]\n\
         tasks = [{{ name = \"quiz\", root = \".\", split = \"train\" }}]\n{instruct}\n"
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn questions_about_a_picture_become_dialogs_and_some_have_no_right_option() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_quiz(folder, "pack_dialogs = 4\nnegatives = { none_of_the_above = 0.1, unanswerable = 0.1 }");
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
    let dialogs = lines(&folder.join("run/instruct/conversations/quiz-train.jsonl"));
    // Questions whose wordings have other system texts are in separate dialogs.
    assert!((100..140).contains(&dialogs.len()), "{}", dialogs.len());
    let mut negatives: BTreeMap<&str, u64> = BTreeMap::new();
    let mut questions = 0;
    for dialog in &dialogs {
        let alone = vec![dialog.clone()];
        let packed = dialog["packed"].as_array().unwrap_or(&alone);
        let messages = dialog["messages"].as_array().unwrap();
        let talk: Vec<&Value> = messages.iter().filter(|message| message["role"] != "system").collect();
        assert_eq!(talk.len(), 2 * packed.len());
        assert!(packed.len() <= 4);
        questions += packed.len();
        for (record, turns) in packed.iter().zip(talk.chunks(2)) {
            let id = record["id"].as_str().unwrap();
            let number = id.split(['/', '#']).nth(2).unwrap();
            let said = [&turns[0]["content"], &turns[1]["content"]].map(|text| text.as_str().unwrap());
            assert!(said[0].contains(&format!("number {number} in")), "{dialog}");
            assert_eq!(record["source_row"].to_string(), number, "{dialog}");
            let Some((_, kind)) = id.split_once('#') else { continue };
            *negatives.entry(if kind == "unanswerable" { "unanswerable" } else { "none_of_the_above" }).or_default() +=
                1;
            assert!(said[0].contains("None of these"), "{dialog}");
            assert!(!said[0].contains(&format!("thing abcd of {number}")), "the right option is still there: {dialog}");
        }
    }
    assert_eq!(questions, 400);
    let counts = read(&folder.join("run/instruct/counts/quiz-train.json"));
    assert_eq!(counts["kept"], 400);
    for (kind, count) in &negatives {
        assert_eq!(counts["negatives"][kind], *count);
        assert!((20..=60).contains(count), "a tenth of 400 are {kind}: {count}");
    }
    assert_eq!(negatives.len(), 2);
    // The table has the same content as the lines, and the statistics of both are the same.
    let stats = |path: &str| lynxdata(folder, &["prompts", "stats", path, "--json"]).ended_with(0).json();
    let (own, table) = (stats("run/instruct/conversations"), stats("run/instruct/parquet"));
    assert_eq!(own, table);
    let overall = &own["overall"];
    assert_eq!((&overall["instructions"], &own["tasks"]["quiz"]), (&json!(400), overall));
    assert!(overall["wordings"]["used"].as_u64().unwrap() > 10 && overall["self_bleu"].as_f64().unwrap() > 0.1);
    let right = &overall["right_options"];
    let positions: u64 = right["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((positions, right["freedom"].as_u64()), (400, Some(3)));
    assert!(right["p"].as_f64().unwrap() > 0.001, "{right}");
    let told = lynxdata(folder, &["prompts", "stats", "run/instruct"]).ended_with(0).stdout;
    assert!(told.contains("self-BLEU") && told.contains("right options by position: "), "{told}");
    // A trainer's format has it too.
    let llava = read(&folder.join("run/instruct/llava/quiz-train.json"));
    assert!(llava[0]["packed"].is_array() && llava[0]["packed"] == dialogs[0]["packed"]);
    lynxdata(folder, &["instruct", "recipe.toml", "--set", "instruct.negatives.unanswerable=0.6"])
        .ended_with(2)
        .says(&["instruct.negatives", "0.5"]);
    lynxdata(folder, &["instruct", "recipe.toml", "--set", "instruct.pack_dialogs=1"])
        .ended_with(2)
        .says(&["at least 2"]);
}

#[test]
fn wordings_are_of_the_language_and_number_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_quiz(folder, "");
    let set = |sets: &[&str]| -> Vec<Value> {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = ["instruct", "recipe.toml"].into_iter().chain(sets).collect();
        lynxdata(folder, &arguments).ended_with(0);
        lines(&folder.join("run/instruct/conversations/quiz-train.jsonl"))
    };
    let wordings = |set: &[Value]| -> BTreeMap<String, usize> {
        let mut uses = BTreeMap::new();
        for own in set {
            *uses.entry(own["template"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        uses
    };
    let german = set(&["instruct.language=de"]);
    assert!(wordings(&german).keys().all(|name| name.starts_with("multiple_choice/de_")), "{:?}", wordings(&german));
    assert_eq!(wordings(&set(&["instruct.prompts=seed"])).len(), 3);
    assert_eq!(wordings(&set(&["instruct.prompts=one"])).len(), 1);
    let old = ["instruct", "recipe.toml", "--set", "instruct.prompts=single"];
    lynxdata(folder, &old).ended_with(0).says(&["skipped=1"]);
    for own in set(&["instruct.lower_case=true"]) {
        for message in own["messages"].as_array().unwrap() {
            let text = message["content"].as_str().unwrap();
            assert_eq!(text, text.to_lowercase());
        }
    }
    let swedish = ["instruct", "recipe.toml", "--set", "instruct.language=sv"];
    lynxdata(folder, &swedish).ended_with(2).says(&[
        "in instruct.language",
        "task quiz",
        "`sv`",
        "de, en, es, fr, ja, zh",
    ]);
}

#[test]
fn absolute_paths_lead_into_the_image_folder_of_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for name in ["own", "questions", "pictures"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("own/quiz.toml"), QUIZ).unwrap();
    let row = |id: u64, picture: u64| {
        let image = folder.join(format!("pictures/train2014/COCO_train2014_{picture:012}.jpg"));
        json!({"id": id, "image": image, "question": format!("What is thing {id}?"), "options": ["a", "b"], "right": 0})
            .to_string()
    };
    std::fs::write(folder.join("questions/train.jsonl"), [row(1, 1), row(2, 2), row(3, 3)].join("\n")).unwrap();
    std::fs::write(folder.join("questions/val.jsonl"), row(4, 3)).unwrap();
    let instruct = |most: &str, decontaminate: &str| {
        let recipe = format!(
            "output = \"run\"\n[instruct]\ncatalogue = \"own\"\nrequire_images = false\n\
             tasks = [{{ name = \"quiz\", root = \"questions\", split = \"train\", images = \"pictures\"{most} }}]\n\
             {decontaminate}\n"
        );
        std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
        lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0);
        lines(&folder.join("run/instruct/conversations/quiz-train.jsonl"))
    };
    let drawn = instruct(", most = 2", "");
    assert_eq!(drawn.len(), 2);
    for conversation in &drawn {
        assert!(conversation["images"][0]["path"].as_str().unwrap().starts_with("train2014/"), "{conversation}");
    }
    // The rows of the held-out split are read too, and one is about the third image.
    assert_eq!(instruct("", "[instruct.decontaminate]").len(), 2);
    let counts = read(&folder.join("run/instruct/counts/quiz-train.json"));
    assert_eq!(counts["dropped"], json!({"contaminated:image_id": 1}));
}

#[test]
fn what_a_benchmark_has_is_left_out_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write_quiz(folder, "[instruct.decontaminate]\nagainst = [\"bench.jsonl\"]");
    let question = "Which thing is number 100 in this picture of things?";
    let rows = [
        json!({"id": 1, "question": "Why?", "answer": "none", "image": "val2017/000000000003.jpg"}),
        json!({"id": 2, "question": question, "answer": "thing abcd of 100", "image": "x.jpg"}),
    ];
    std::fs::write(folder.join("bench.jsonl"), rows.map(|row| row.to_string()).join("\n")).unwrap();
    // A held-out split shares an image.
    let held_out = json!({"id": 1, "image": "train2014/COCO_train2014_000000000007.jpg", "question": "What?",
        "options": ["a", "b"], "right": 0});
    std::fs::write(folder.join("val.jsonl"), held_out.to_string()).unwrap();
    lynxdata(folder, &["instruct", "recipe.toml"]).ended_with(0).says(&["384 conversations", "contaminated:image_id"]);
    let counts = read(&folder.join("run/instruct/counts/quiz-train.json"));
    assert_eq!(counts["dropped"]["contaminated:image_id"], 16, "eight questions of each of two pictures");
    assert_eq!(counts["reported"], json!({"contaminated:question": 1}));
    let alone = ["instruct", "recipe.toml", "--set", "instruct.decontaminate.held_out_splits=false"];
    lynxdata(folder, &alone).ended_with(0).says(&["392 conversations"]);
    let nothing = ["--set", "instruct.decontaminate.against=[]"];
    lynxdata(folder, &[&alone[..], &nothing[..]].concat()).ended_with(2).says(&["nothing to compare with"]);

    // Rows as POPE has them, and a row that is no reference.
    let bench = std::fs::read_to_string(folder.join("bench.jsonl")).unwrap();
    let pope = json!({"question_id": 1, "image": "COCO_val2014_000000000003.jpg", "text": "Is it?", "label": "yes"});
    std::fs::write(folder.join("bench.jsonl"), format!("{pope}\n{{\"foo\": 1}}\n")).unwrap();
    lynxdata(folder, &alone).ended_with(0).says(&["392 conversations", "unreadable=1"]);
    std::fs::write(folder.join("bench.jsonl"), "{\"foo\": 1}\n").unwrap();
    lynxdata(folder, &alone).ended_with(1).says(&["instruct.decontaminate", "bench.jsonl has no reference"]);
    std::fs::write(folder.join("bench.jsonl"), bench).unwrap();

    // The same for any conversations, by a command.
    lynxdata(folder, &["instruct", "recipe.toml", "--set", "instruct.decontaminate.drop=[]"]).ended_with(0);
    let data = "run/instruct/llava/quiz-train.json";
    let arguments = ["decontaminate", data, "--against", "bench.jsonl", "--json"];
    let told = lynxdata(folder, &arguments).ended_with(3).json();
    assert_eq!((&told["records"], &told["by"]["image_id"], &told["dropped"]), (&json!(400), &json!(8), &Value::Null));
    let cleaned = lynxdata(folder, &[&arguments[..], &["--out", "clean.json"]].concat()).json();
    assert_eq!((&cleaned["dropped"], &cleaned["kept"]), (&json!(8), &json!(392)));
    assert_eq!(read(&folder.join("clean.json")).as_array().unwrap().len(), 392);
    let again = ["decontaminate", "clean.json", "--against", "bench.jsonl", "--json"];
    assert_eq!(lynxdata(folder, &again).json()["by"]["image_id"], Value::Null);
    lynxdata(folder, &[&arguments[..], &["--out", data]].concat()).ended_with(2).says(&["would replace"]);
}

#[test]
fn sets_of_others_are_measured_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let llava = json!([
        {"id": 1, "image": "a.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?\nA. a dog\nB. a cat\nAnswer with the option's letter from the given choices directly."},
            {"from": "gpt", "value": "B"}, {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "It has whiskers."}]},
        {"id": 2, "image": "b.jpg", "conversations": [
            {"from": "human", "value": "Why?\n<image>"}, {"from": "gpt", "value": "It has whiskers."}]},
    ]);
    std::fs::write(folder.join("mix.json"), llava.to_string()).unwrap();
    let m3it =
        [("Answer the question.", "Who?", "me"), ("Answer the question.", "What?", "it"), ("Name it.", "This.", "x")];
    let m3it = m3it.map(|(instruction, inputs, outputs)| {
        json!({"instruction": instruction, "inputs": inputs, "outputs": outputs, "image_base64_str": []}).to_string()
    });
    std::fs::write(folder.join("m3it.jsonl"), m3it.join("\n") + "\n{broken\n").unwrap();
    let found = lynxdata(folder, &["prompts", "stats", ".", "--json"]).ended_with(0);
    let found = found.says(&["1 records cannot be read"]).json();
    let mix = &found["tasks"]["mix"];
    assert_eq!((&mix["instructions"], &mix["wordings"]), (&json!(3), &Value::Null));
    assert_eq!((&mix["right_options"]["counts"], &mix["right_options"]["p"]), (&json!([0, 1]), &Value::Null));
    assert!((mix["repeated_exchanges"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-9);
    assert_eq!(mix["answer_words"]["max"], 3);
    let m3it = &found["tasks"]["m3it"];
    assert_eq!((&m3it["wordings"]["used"], &m3it["wordings"]["uses"]["Name it."]), (&json!(2), &json!(1)));
    assert_eq!(found["overall"]["instructions"], 6);
    let banks = lynxdata(folder, &["prompts", "stats", "--json"]).ended_with(0).json();
    assert!(banks["overall"]["instructions"].as_u64().unwrap() > 1500 && banks["tasks"]["vqa"].is_object());
    lynxdata(folder, &["prompts", "stats", "nowhere"]).ended_with(2).says(&["nowhere"]);
}
