//! `lynxdata prompts` and `lynxdata generate`: wordings and texts from a model on a server, their
//! cost, and refusals.

use std::path::Path;

use serde_json::{Value, json};

use crate::evaluation::{Server, write_lines};
use crate::support::{Running, command, lynxdata};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn wordings_are_generated_once_and_written_as_a_bank() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let server = Server::start(|number, _| {
        match number {
        0 => (200, "1) Going by the photo, give a concise response: {{ question }}\n2) Reply in a full sentence: {{ question }}\n3) Be brief.".to_owned()),
        _ => (200, "[\"Can a word or two say this? {{question}}\"]".to_owned()),
    }
    });
    std::fs::write(folder.join("prices.toml"), "[m]\ninput = 1.0\noutput = 2.0\n").unwrap();
    let arguments = [
        "prompts",
        "generate",
        "--task",
        "vqav2",
        "--n",
        "2",
        "--endpoint",
        &server.address,
        "--model",
        "m",
        "--out",
        "new.toml",
        "--date",
        "2026-11-29",
        "--prices",
        "prices.toml",
        "--max-cost",
        "0.5",
        "--api-key-env",
        "TEST_KEY",
    ];
    let run = |more: &[&str], key: &str| {
        let mut command = command(folder, &[&arguments[..], more].concat());
        Running::start({
            command.env("TEST_KEY", key);
            command
        })
        .finish()
    };
    let told = run(&["--dry-run"], "s3cret").ended_with(0).stdout;
    assert!(told.starts_with("requests  5\nlikely    ") && told.contains(", $0.02"), "{told}");
    assert_eq!(server.requests().len(), 0, "a dry run sends nothing");
    run(&[], "").ended_with(1).says(&["the environment variable TEST_KEY is empty"]);

    let output =
        run(&[], "s3cret").ended_with(0).says(&["2 wordings accepted, 2 refused", "1 answer_shape:", "1 slots:"]);
    let requests = server.requests();
    assert_eq!((requests.len(), &requests[0]["authorization"]), (2, &json!("Bearer s3cret")));
    let bank = std::fs::read_to_string(folder.join("new.toml")).unwrap();
    let read: toml::Table = toml::from_str(&bank).unwrap();
    let texts: Vec<&str> =
        read["templates"].as_array().unwrap().iter().map(|wording| wording["text"].as_str().unwrap()).collect();
    let expected =
        ["Going by the photo, give a concise response: {{ question }}", "Can a word or two say this? {{ question }}"];
    assert_eq!(texts, expected);
    let refused = lines(&folder.join("new.toml.refused.jsonl"));
    assert_eq!(refused[1]["reason"], "has {{ question }} 0 times");
    let kept = std::fs::read_to_string(folder.join("replies/replies.jsonl")).unwrap();
    assert!([&output.stderr, &output.stdout, &bank, &kept].iter().all(|text| !text.contains("s3cret")));

    // What somebody reviewed stays, and so does a bank if there is nothing new.
    let reviewed = bank.replacen("review = \"pending\"", "review = \"accepted\"", 1);
    assert_ne!(reviewed, bank);
    std::fs::write(folder.join("new.toml"), &reviewed).unwrap();
    run(&[], "").ended_with(2).says(&["new.toml has 1 wordings that a person reviewed"]);
    assert_eq!(std::fs::read_to_string(folder.join("new.toml")).unwrap(), reviewed);
    // Banks of pending wordings say so.
    std::fs::create_dir(folder.join("banks")).unwrap();
    std::fs::write(folder.join("banks/new.toml"), &bank).unwrap();
    let listed = lynxdata(folder, &["prompts", "list", "--banks", "banks"]);
    listed.ended_with(2).says(&["all 2 templates", "pending or rejected", "review = \"accepted\""]);

    // A rerun needs neither the server nor its key.
    std::fs::remove_file(folder.join("new.toml")).unwrap();
    run(&[], "").ended_with(0).says(&["0 requests were sent"]);
    assert_eq!((server.requests().len(), std::fs::read_to_string(folder.join("new.toml")).unwrap()), (0, bank));
    let more = run(&["--n", "20"], "");
    assert_eq!(more.code, Some(2), "a flag twice is wrong usage");
    let other = arguments.map(|argument| if argument == "m" { "unknown" } else { argument });
    lynxdata(folder, &other).ended_with(1).says(&["no price of unknown is known", "[\"unknown\"]\ninput = 0.0"]);
    let nothing = arguments.map(|argument| if argument == "vqav2" { "nothing" } else { argument });
    lynxdata(folder, &nothing)
        .ended_with(2)
        .says(&["nothing is neither a bank (", "nor a task of `lynxdata tasks list`"]);
}

#[test]
fn banks_are_listed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let listed = lynxdata(folder, &["prompts", "list", "--json"]).ended_with(0).json();
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|bank| bank["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"vqa") && names.contains(&"caption"), "{listed}");
    lynxdata(folder, &["prompts", "check"]).ended_with(0);
    std::fs::create_dir(folder.join("banks")).unwrap();
    let wording =
        |id: &str, text: &str| format!("[[templates]]\nid = \"{id}\"\ntext = \"{text}\"\nanswer = \"phrase\"\n");
    let bank = "description = \"d\"\n".to_owned() + &wording("a", "Name it.") + &wording("b", "name it");
    std::fs::write(folder.join("banks/mine.toml"), bank).unwrap();
    let found = lynxdata(folder, &["prompts", "check", "--banks", "banks", "--json"]).ended_with(1).json();
    assert_eq!(found, json!([{"bank": "mine", "first": "a", "second": "b", "jaccard": 1.0}]));
    // A file that is no bank is a wrong input for every command that reads it.
    std::fs::write(folder.join("banks/broken.toml"), "templates = 1").unwrap();
    for command in ["prompts list", "prompts check", "tasks list", "instruct --task vqav2=. --out set"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--banks", "banks"]).collect();
        lynxdata(folder, &arguments).ended_with(2).says(&["in --banks banks", "bank `broken`"]);
    }
}

#[test]
fn every_row_is_written_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = [
        json!({"id": 1, "image": "a.jpg", "captions": ["A dog runs."], "boxes": [{"name": "dog", "box": [0.1, 0.2, 0.5, 0.9]}]}),
        json!({"id": 2, "captions": ["A cat sleeps."]}),
        json!({"id": 3, "captions": []}),
        json!({"id": 4, "captions": ["A bird sings."]}),
    ];
    write_lines(&folder.join("rows.jsonl"), &rows);
    let server = Server::start(|_, asked| match asked {
        asked if asked.starts_with("A dog") => {
            (200, "Question: What runs?\nAnswer: A dog.\nQuestion: What does the dog do?\nAnswer: It runs.".to_owned())
        }
        asked if asked.starts_with("A cat") => (200, "The caption says that a cat sleeps.".to_owned()),
        _ => (400, "no birds".to_owned()),
    });
    let arguments = [
        "generate",
        "conversations",
        "rows.jsonl",
        "--out",
        "talk.jsonl",
        "--endpoint",
        &server.address,
        "--model",
        "m",
    ];
    lynxdata(folder, &arguments).ended_with(0).says(&["4 rows: 1 written, 2 refused or failed, 1 unreadable"]);
    let written = lines(&folder.join("talk.jsonl"));
    assert_eq!((written.len(), &written[0]["id"], &written[0]["image"]), (1, &json!(1), &json!("a.jpg")));
    assert_eq!(written[0]["conversations"][0], json!({"from": "human", "value": "<image>\nWhat runs?"}));
    assert_eq!(written[0]["generated_by"]["model"], "m");
    let told: Vec<Value> =
        lines(&folder.join("talk.jsonl.refused.jsonl")).iter().map(|row| row["rule"].clone()).collect();
    assert_eq!(told, [json!("empty"), json!("failed"), json!("unreadable")]);
    let bytes = std::fs::read(folder.join("talk.jsonl")).unwrap();
    server.requests();
    // Only failed rows are asked again; without a server they fail with another message.
    lynxdata(folder, &arguments).ended_with(0);
    assert_eq!(server.requests().len(), 1);
    let replay = ["generate", "conversations", "rows.jsonl", "--out", "talk.jsonl", "--model", "m", "--replay"];
    lynxdata(folder, &replay).ended_with(0);
    assert_eq!(std::fs::read(folder.join("talk.jsonl")).unwrap(), bytes);
    // A server that fails takes nothing away, and the input is never the output.
    let mut down = arguments;
    down[6] = "http://127.0.0.1:1/v1";
    let down = [&down[..], &["--replies", "others"]].concat();
    lynxdata(folder, &down).ended_with(1).says(&["talk.jsonl keeps the 1 texts of an earlier run", "failed)"]);
    assert_eq!(std::fs::read(folder.join("talk.jsonl")).unwrap(), bytes);
    let mut same = arguments;
    same[4] = "rows.jsonl";
    lynxdata(folder, &same).ended_with(2).says(&["--out rows.jsonl would replace rows.jsonl"]);
    std::fs::write(folder.join("list.jsonl"), "[{}]").unwrap();
    let mut list = arguments;
    list[2] = "list.jsonl";
    lynxdata(folder, &list).ended_with(1).says(&["list.jsonl is a JSON list; it must have one JSON object per line"]);
    lynxdata(folder, &replay).ended_with(0);
    let failed = &lines(&folder.join("talk.jsonl.refused.jsonl"))[1];
    assert!(failed["reason"].as_str().unwrap().starts_with("no reply is stored for the request "), "{failed}");
}
