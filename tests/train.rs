//! `lynxdata train`: the two stages of Lynx, interrupted and resumed.

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

/// Writes some bundled images with captions beside them, and conversations about them.
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

    // The second stage starts with the model of the first.
    let finetune = ["train", "--stage", "finetune", "--data", "talks.json", "--out", "two", "--set", "train.steps=3"];
    lynxdata(folder, &finetune).ended_with(2).says(&["--start"]);
    let start = [&finetune[..], &["--start", "whole/model", "--set", "held_out=10"]].concat();
    let told = lynxdata(folder, &[&start[..], &["--json"]].concat()).ended_with(0).json();
    assert_eq!(told["steps"], 3);
    let missing = [&finetune[..7], &["--start", "pairs"]].concat();
    lynxdata(folder, &missing).ended_with(2).says(&["pairs is not the folder of a trained model"]);
}

#[test]
fn videos_are_folders_of_frames_in_training_and_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let talks: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("talks.json")).unwrap()).unwrap();
    let pictures: Vec<&str> = talks.as_array().unwrap().iter().map(|talk| talk["image"].as_str().unwrap()).collect();
    // Every second conversation is about a video of three frames; one is about a missing video.
    let mut about: Vec<Value> = talks.as_array().unwrap().clone();
    for (number, talk) in about.iter_mut().enumerate().step_by(2) {
        let frames = folder.join(format!("videos/{number}"));
        std::fs::create_dir_all(&frames).unwrap();
        for frame in 0..3 {
            let picture = folder.join(pictures[(number + frame) % pictures.len()]);
            let name = format!("{frame}.{}", picture.extension().unwrap().to_str().unwrap());
            std::fs::copy(&picture, frames.join(name)).unwrap();
        }
        talk.as_object_mut().unwrap().remove("image");
        talk["video"] = json!(format!("videos/{number}.mp4"));
    }
    about[0]["video"] = json!("videos/absent.mp4");
    about[2]["video_start"] = json!(1.5);
    std::fs::write(folder.join("videos.json"), Value::Array(about.clone()).to_string()).unwrap();

    let bare = ["--stage", "pretrain", "--data", "videos.json", "--json", "--out"];
    let half = (about.len() / 2) as u64;
    let told = lynxdata(folder, &train(&[&bare[..], &["pictures"]].concat()))
        .ended_with(0)
        .says(&["left out: conversations about a video"])
        .json();
    let count =
        |told: &Value| told["training_examples"].as_u64().unwrap() + told["held_out_examples"].as_u64().unwrap();
    assert_eq!(count(&told), half, "{told:#}");
    let with_frames = [&bare[..], &["filmed", "--set", "model.frames=2"]].concat();
    let told = lynxdata(folder, &train(&with_frames))
        .ended_with(0)
        .says(&["without a folder of frames", "part of a video"])
        .json();
    assert_eq!(count(&told), about.len() as u64 - 2, "{told:#}");

    let references = [("a", "videos/4.mp4"), ("b", pictures[1])].map(|(id, image)| {
        json!({"id": id, "question": "What is it?", "answers": ["a", "b"], "image": image}).to_string()
    });
    std::fs::write(folder.join("references.jsonl"), references.join("\n")).unwrap();
    let eval = ["eval", "--images", ".", "--references", "references.jsonl", "--metric", "exact_match", "--json"];
    let eval = |model| [&eval[..], &["--by-likelihood", "--device", "cpu", "--lynx", model]].concat();
    assert_eq!(lynxdata(folder, &eval("filmed/model")).ended_with(0).json()["questions"], 2);
    lynxdata(folder, &eval("pictures/model")).ended_with(1).says(&["videos/4.mp4 is a video", "takes only images"]);
}

#[test]
fn a_training_is_not_gone_on_with_over_other_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let arguments = train(&["--stage", "pretrain", "--data", "talks.json", "--out", "out"]);
    let mut broken = Running::start(command(folder, &arguments));
    let begun = Instant::now();
    while !folder.join("out/checkpoint.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_mins(2) && broken.is_alive(), "no checkpoint appeared");
        std::thread::sleep(Duration::from_millis(2));
    }
    broken.kill();
    broken.finish();
    let examples = || std::fs::read(folder.join("out/examples/examples.parquet")).unwrap();
    let before = examples();
    let talks: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("talks.json")).unwrap()).unwrap();
    let fewer = Value::Array(talks.as_array().unwrap()[1..].to_vec());
    std::fs::write(folder.join("talks.json"), fewer.to_string()).unwrap();
    let resumed = [&arguments[..], &["--resume"]].concat();
    lynxdata(folder, &resumed).ended_with(1).says(&["has changed since", "talks.json", "another --out"]);
    assert_eq!(before, examples());
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
        (vec!["--set", "model.sight=\"features\""], "must be \"pixels\""),
        (vec!["--set", "model.image_size=2048"], "at most 1024"),
        (vec!["--set", "model.frames=1"], "at least 2 frames"),
        (vec!["--set", "train.precision=\"f8\""], "unknown variant `f8`"),
        (vec!["--set", "train.least_area=0"], "least_area = 0"),
        (vec!["--set", "model.lora_rank=1000"], "at most decoder_dim = 96"),
        (vec!["--set", "held_out=0"], "held_out must be at least 2"),
        (vec!["--config", "wide.toml"], "patch = 8"),
        (vec!["--config", "absent.toml"], "absent.toml"),
        (vec!["--device", "cuda:9"], "cuda:9 is not available"),
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
fn conversations_about_one_picture_are_all_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let talks: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("talks.json")).unwrap()).unwrap();
    let talks = talks.as_array().unwrap();
    // As in LLaVA's files: the id is that of the image, and several conversations are about one
    // image.
    let said = talks.iter().flat_map(|talk| {
        ["What is it?", "What do you see?"].map(|question| {
            json!({"id": 7, "image": talk["image"], "conversations": [
                {"from": "human", "value": question}, {"from": "gpt", "value": talk["conversations"][1]["value"]},
            ]})
        })
    });
    std::fs::write(folder.join("llava.json"), Value::Array(said.collect()).to_string()).unwrap();
    let out = ["--stage", "pretrain", "--data", "llava.json", "--out", "out", "--json", "--set", "train.steps=2"];
    let told = lynxdata(folder, &train(&out)).ended_with(0).json();
    let count = |key: &str| told[key].as_u64().unwrap() as usize;
    assert_eq!(count("training_examples") + count("held_out_examples"), 2 * talks.len(), "{told:#}");
    let most = [&out[..5], &["few", "--json", "--set", "most_examples=24"]].concat();
    let told = lynxdata(folder, &train(&most)).ended_with(0).json();
    let count = |key: &str| told[key].as_u64().unwrap();
    assert_eq!(count("training_examples") + count("held_out_examples"), 24, "{told:#}");
}

#[test]
fn no_model_is_replaced_and_no_broken_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let one = train(&["--stage", "pretrain", "--data", "pairs", "--out", "one"]);
    lynxdata(folder, &one).ended_with(0);
    let model = || std::fs::read(folder.join("one/model/model.safetensors")).unwrap();
    let before = model();
    lynxdata(folder, &[&one[..], &["--set", "train.learning_rate=1e-3"]].concat())
        .ended_with(2)
        .says(&["training.train.learning_rate", "name another --out"]);
    let finetune = ["train", "--stage", "finetune", "--data", "talks.json", "--start", "one/model", "--out"];
    lynxdata(folder, &[&finetune[..], &["one"]].concat()).ended_with(2).says(&["would be replaced"]);
    for set in ["model.decoder_depth=5", "tokenizer.vocabulary=300", "pretrained.decoder=\"x\""] {
        let all = [&finetune[..], &["two", "--set", set]].concat();
        lynxdata(folder, &all).ended_with(2).says(&["comes from the model of --start"]);
    }
    let start = ["train", "--stage", "finetune", "--data", "talks.json", "--start", "one", "--out", "two"];
    lynxdata(folder, &start).ended_with(2).says(&["did you mean", "one/model"]);
    assert_eq!(before, model());

    let broken =
        train(&["--stage", "pretrain", "--data", "pairs", "--out", "nan", "--set", "train.learning_rate=1e30"]);
    lynxdata(folder, &broken).ended_with(1).says(&["the training failed", "learning_rate"]);
    assert!(!folder.join("nan/model").exists() && !folder.join("nan/checkpoint.safetensors").exists());
    let frozen = "train.rates={vision=0,bridge=0,adapters=0,decoder=0}";
    let frozen = train(&["--stage", "pretrain", "--data", "pairs", "--out", "frozen", "--set", frozen]);
    lynxdata(folder, &frozen).ended_with(2).says(&["no part would be trained"]);
    std::fs::write(folder.join("c.toml"), "seed = 1\n[train]\nstesp = 1\n").unwrap();
    let config = train(&["--stage", "pretrain", "--data", "pairs", "--out", "c", "--config", "c.toml"]);
    lynxdata(folder, &config).ended_with(2).says(&["c.toml", "stesp"]);
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
    let precisions: Vec<&Value> = device["precisions"].as_array().unwrap().iter().collect();
    assert_eq!(precisions.iter().map(|found| &found["precision"]).collect::<Vec<_>>(), ["f32", "bf16", "f16"]);
    assert!(precisions.iter().all(|found| found["pass"] == true), "{told:#}");
    lynxdata(folder.path(), &["doctor", "--device", "vulkan:discrete:7"])
        .ended_with(2)
        .says(&["is not available", "cpu"]);
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
    lynxdata(folder, &[&train[..], &small, &other].concat()).ended_with(2).says(&["config.json"]);
    let other = ["--set", &decoder, "--set", "model.decoder_depth=7", "--out", "other"];
    let said = ["smollm.gguf", "model.decoder_depth is 7", "leave out model.decoder_depth"];
    lynxdata(folder, &[&train[..], &small, &other].concat()).ended_with(2).says(&said);
    assert!(!folder.join("other").exists());

    // Generated answers, and answers chosen by likelihood.
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
    lynxdata(folder, &without).ended_with(1).says(&["pairs is not the folder of a trained model"]);
    lynxdata(folder, &[&eval[..], &["--generate", "beamz=2"]].concat()).ended_with(2).says(&["beamz"]);
    // Answers generated in one way are not used for another.
    lynxdata(folder, &[&eval[..], &["--by-likelihood", "--out", "written"]].concat())
        .ended_with(1)
        .says(&["name another --out"]);
}
