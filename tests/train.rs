//! `lynxdata train`: the two stages of Lynx, broken off and gone on with.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Running, command, lynxdata, repository};

/// A small training of twelve steps.
const SMALL: [&str; 12] = [
    "--set",
    "train.steps=12",
    "--set",
    "train.checkpoint_every=4",
    "--set",
    "model.image_size=16",
    "--set",
    "model.decoder_depth=1",
    "--set",
    "tokenizer.vocabulary=300",
    "--set",
    "held_out=10",
];

/// Some bundled pictures with captions beside them, and conversations about them.
fn data(folder: &Path) {
    let examples = repository().join("examples/quickstart");
    let list = std::fs::read_to_string(examples.join("pairs.tsv")).unwrap();
    std::fs::create_dir(folder.join("pairs")).unwrap();
    let mut conversations = Vec::new();
    for (number, line) in list.lines().skip(1).take(60).enumerate() {
        let fields: Vec<&str> = line.split('\t').collect();
        let picture = examples.join("images").join(fields[0].trim_start_matches('/'));
        if !picture.is_file() {
            continue;
        }
        let name = format!("{number:03}.{}", picture.extension().unwrap().to_str().unwrap());
        std::fs::copy(&picture, folder.join("pairs").join(&name)).unwrap();
        std::fs::write(folder.join(format!("pairs/{number:03}.txt")), fields[1]).unwrap();
        conversations.push(json!({"id": name, "image": format!("pairs/{name}"), "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": fields[1]},
        ]}));
    }
    assert!(conversations.len() > 30);
    std::fs::write(folder.join("talks.json"), Value::Array(conversations).to_string()).unwrap();
}

fn train<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["train"], arguments, &SMALL, &["--device", "cpu"]].concat()
}

#[test]
fn a_training_that_was_killed_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let pretrain = ["--stage", "pretrain", "--data", "pairs", "--out"];
    let told = lynxdata(folder, &train(&[&pretrain[..], &["whole", "--json"]].concat())).ended_with(0).json();
    assert_eq!((&told["steps"], &told["held_out_examples"]), (&json!(12), &json!(10)), "{told:#}");
    assert!(told["held_out_bits_per_byte"].as_f64().unwrap() > 0.0);

    // Killed after the checkpoint of step 4, before the end.
    let mut broken = Running::start(command(folder, &train(&[&pretrain[..], &["broken"]].concat())));
    let begun = Instant::now();
    while !folder.join("broken/checkpoint.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_mins(2) && broken.is_alive(), "no checkpoint appeared");
        std::thread::sleep(Duration::from_millis(2));
    }
    broken.kill();
    broken.finish();
    assert!(!folder.join("broken/model").exists());
    let again = train(&[&pretrain[..], &["broken"]].concat());
    lynxdata(folder, &again).ended_with(2).says(&["--resume"]);
    lynxdata(folder, &[&again[..], &["--resume"]].concat()).ended_with(0);
    for file in ["model.safetensors", "config.json", "tokenizer.json", "result.json"] {
        let read = |run: &str| std::fs::read(folder.join(run).join("model").join(file)).unwrap();
        assert_eq!(read("whole"), read("broken"), "{file}");
    }
    let steps = |run: &str| -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["step"].as_u64().unwrap(), format!("{} {}", line["loss"], line["learning_rate"]))
        };
        text.lines().map(line).collect()
    };
    assert_eq!(steps("whole"), steps("broken"));
    assert_eq!(steps("whole").iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    lynxdata(folder, &again).ended_with(0).says(&["stage model done made=0"]);
    lynxdata(folder, &["verify", "broken"]).ended_with(0);

    // The second stage begins with the model of the first.
    let finetune = ["train", "--stage", "finetune", "--data", "talks.json", "--out", "two", "--set", "train.steps=3"];
    lynxdata(folder, &finetune).ended_with(2).says(&["--start"]);
    let start = [&finetune[..], &["--start", "whole/model", "--set", "held_out=10"]].concat();
    let told = lynxdata(folder, &[&start[..], &["--json"]].concat()).ended_with(0).json();
    assert_eq!(told["steps"], 3);
    let missing = [&finetune[..], &["--start", "pairs"]].concat();
    lynxdata(folder, &missing).ended_with(1).says(&["pairs is no folder of a trained model"]);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    std::fs::write(folder.join("wide.toml"), "[model]\nimage_size = 20\n").unwrap();
    for (arguments, said) in [
        (vec!["--set", "train.steps=0"], "steps = 0"),
        (vec!["--set", "train.stepz=1"], "did you mean `steps`?"),
        (vec!["--config", "wide.toml"], "patch = 8"),
        (vec!["--config", "absent.toml"], "absent.toml"),
        (vec!["--device", "cuda:9"], "cuda:9 is not there"),
        (vec!["--device", "gpu"], "auto, cpu, cuda:N"),
    ] {
        let all = [&["train", "--stage", "pretrain", "--data", "pairs", "--out", "out"], &arguments[..]].concat();
        lynxdata(folder, &all).ended_with(2).says(&[said]);
        assert!(!folder.join("out").exists(), "{said}");
    }
    let absent = ["train", "--stage", "pretrain", "--data", "pears", "--out", "out"];
    lynxdata(folder, &absent).ended_with(2).says(&["pears", "did you mean \"pairs\"?"]);
}

#[test]
fn the_doctor_examines_devices_in_processes_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let told = lynxdata(folder.path(), &["doctor", "--device", "cpu", "--json"]).ended_with(0).json();
    let device = &told["devices"][0];
    assert_eq!((&device["name"], &device["kind"], &device["pass"]), (&json!("cpu"), &json!("cpu"), &json!(true)));
    for (key, most) in [("max_abs_diff", 1e-5), ("max_gradient_diff", 1e-4), ("max_loss_diff", 1e-4)] {
        let off = device[key].as_f64().unwrap();
        assert!(off > 0.0 && off < most, "{key}: {off}");
    }
    assert!(device["step_ms"].as_f64().unwrap() > 0.0);
    lynxdata(folder.path(), &["doctor", "--device", "vulkan:discrete:7"]).ended_with(2).says(&["is not there", "cpu"]);
}

#[test]
fn pretrained_parts_are_frozen_and_a_trained_model_is_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let pretrained = repository().join("burn_model/fixtures/pretrained");
    let path = |name: &str| pretrained.join(name).to_str().unwrap().to_owned();
    let decoder = format!("pretrained.decoder={:?}", path("smollm.gguf"));
    let vision = format!("pretrained.vision={:?}", path("clip"));
    let small = ["--set", "train.steps=3", "--set", "model.image_size=16", "--set", "held_out=10", "--device", "cpu"];
    let sets = ["--set", &decoder, "--set", &vision];
    let train = ["train", "--stage", "pretrain", "--data", "talks.json", "--out", "out", "--json"];
    let told = lynxdata(folder, &[&train[..], &small, &sets].concat()).ended_with(0).json();
    assert_eq!(told["steps"], 3, "{told:#}");
    let tokenizer =
        |path: std::path::PathBuf| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let ours = tokenizer(folder.join("out/model/tokenizer.json"));
    assert_eq!(ours["model"]["vocab"], tokenizer(pretrained.join("smollm/tokenizer.json"))["model"]["vocab"]);
    let other = ["--set", "pretrained.decoder=\"pairs\"", "--out", "other"];
    let train = ["train", "--stage", "pretrain", "--data", "talks.json"];
    lynxdata(folder, &[&train[..], &small, &other].concat()).ended_with(1).says(&["config.json"]);

    // Answers that are written, and answers that are chosen.
    let talks: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("talks.json")).unwrap()).unwrap();
    let references = talks.as_array().unwrap().iter().take(6).map(|talk| {
        let answer = &talk["conversations"][1]["value"];
        json!({"id": talk["id"], "question": "What is it?", "answers": [answer], "image": talk["id"]}).to_string()
    });
    std::fs::write(folder.join("references.jsonl"), references.collect::<Vec<_>>().join("\n")).unwrap();
    let eval = ["eval", "--lynx", "out/model", "--references", "references.jsonl", "--metric", "exact_match", "--json"];
    let eval = [&eval[..], &["--images", "pairs"]].concat();
    let written = [&eval[..], &["--generate", "max_new_tokens=3", "--out", "written"]].concat();
    assert_eq!(lynxdata(folder, &written).ended_with(0).json()["questions"], 6);
    assert_eq!(std::fs::read_to_string(folder.join("written/predictions.jsonl")).unwrap().lines().count(), 6);
    let chosen = [&eval[..], &["--by-likelihood", "--out", "chosen"]].concat();
    lynxdata(folder, &chosen).ended_with(0);
    let answers = std::fs::read_to_string(folder.join("chosen/predictions.jsonl")).unwrap();
    let all = talks.to_string();
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert!(all.contains(answer["answer"].as_str().unwrap()), "{line}");
    }
    let without = ["eval", "--lynx", "pairs", "--images", "pairs", "--references", "references.jsonl"];
    let without = [&without[..], &["--metric", "exact_match"]].concat();
    lynxdata(folder, &without).ended_with(1).says(&["pairs is no folder of a trained model"]);
    lynxdata(folder, &[&eval[..], &["--generate", "beamz=2"]].concat()).ended_with(2).says(&["beamz"]);
}
