//! `lynxdata check` on folders, where the truth is known.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{lynxdata, repository};

/// Returns the bundled images with their captions: the right one and one of another image.
fn pairs() -> Vec<(std::path::PathBuf, String, String)> {
    let examples = repository().join("examples/quickstart");
    let list = std::fs::read_to_string(examples.join("pairs.tsv")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    list.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let picture = examples.join("images").join(fields[0].strip_prefix('/')?);
            (picture.is_file() && seen.insert(fields[0].to_owned()))
                .then(|| (picture, fields[1].to_owned(), fields[3].to_owned()))
        })
        .collect()
}

/// Writes images with a text beside each.
fn write<'a>(folder: &Path, pairs: impl Iterator<Item = (&'a Path, &'a str)>) {
    std::fs::create_dir_all(folder).unwrap();
    for (number, (picture, text)) in pairs.enumerate() {
        let suffix = picture.extension().unwrap().to_str().unwrap();
        std::fs::copy(picture, folder.join(format!("{number:04}.{suffix}"))).unwrap();
        std::fs::write(folder.join(format!("{number:04}.txt")), text).unwrap();
    }
}

fn check(folder: &Path, arguments: &[&str], code: i32) -> Value {
    let all = [&["check"], arguments, &["--quick", "--json", "--quiet"]].concat();
    lynxdata(folder, &all).ended_with(code).json()
}

#[test]
fn wrong_captions_are_found_on_either_side_and_an_arm_of_five_pairs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pairs = pairs();
    let every_fifth = |keep: bool| {
        let of = pairs.iter().enumerate().filter(move |(number, _)| (number % 5 == 0) == keep).map(|(_, pair)| pair);
        of.collect::<Vec<_>>()
    };
    let train = every_fifth(false);
    write(&folder.join("right"), train.iter().map(|(picture, text, _)| (picture.as_path(), text.as_str())));
    write(&folder.join("wrong"), train.iter().map(|(picture, _, wrong)| (picture.as_path(), wrong.as_str())));
    write(&folder.join("five"), train[..5].iter().map(|(picture, text, _)| (picture.as_path(), text.as_str())));
    let eval = every_fifth(true);
    write(&folder.join("eval"), eval.iter().map(|(picture, text, _)| (picture.as_path(), text.as_str())));

    let told = check(folder, &["--a", "right", "--b", "wrong", "--eval", "eval", "--out", "one"], 0);
    assert_eq!((&told["verdict"], &told["winner"]), (&json!("A"), &json!("right")), "{told:#}");
    for key in [
        "metric",
        "mean_difference",
        "ci95",
        "p",
        "replicates",
        "minimum_detectable_effect",
        "caption_noise_equivalent",
        "visual_gain",
        "controls",
        "gates",
    ] {
        assert!(!told[key].is_null(), "{key} is missing: {told:#}");
    }
    let exchanged = check(folder, &["--a", "wrong", "--b", "right", "--eval", "eval", "--out", "two"], 0);
    assert_eq!((&exchanged["verdict"], &exchanged["winner"]), (&json!("B"), &json!("right")), "{exchanged:#}");
    let [one, other] = [&told, &exchanged].map(|told| told["mean_difference"].as_f64().unwrap());
    assert!((one + other).abs() < 1e-3 * one.abs(), "{one} {other}");

    let few = check(folder, &["--a", "right", "--b", "five", "--eval", "eval", "--out", "three"], 1);
    assert_eq!(few["verdict"], "invalid");
    assert!(few["sentence"].as_str().unwrap().contains("arm five has"), "{few:#}");
    let same = check(folder, &["--a", "right", "--b", "right", "--out", "four"], 1);
    assert!(same["sentence"].as_str().unwrap().contains("the same pairs"), "{same:#}");
    for out in ["one", "three"] {
        assert!(folder.join(out).join("report.html").is_file());
        lynxdata(folder, &["verify", out]).ended_with(0);
    }

    // The same command again makes nothing; a folder that has changed is read again.
    let again = ["check", "--a", "right", "--b", "wrong", "--eval", "eval", "--out", "one", "--quick"];
    lynxdata(folder, &again).ended_with(0).says(&["stage arms done made=0", "stage check done made=0"]);
    std::fs::remove_file(folder.join("wrong/0000.txt")).unwrap();
    let output = lynxdata(folder, &again).ended_with(0).says(&["stage arms done made=1", "stage check done made=1"]);
    assert!(!output.stderr.contains("stage download"), "the recipe has no download: {output}");

    let is_current =
        || lynxdata(folder, &["status", "one", "--json"]).ended_with(0).json()["verdict_is_current"].clone();
    assert_eq!(is_current(), true);
    std::fs::write(folder.join("wrong/0000.txt"), "another text").unwrap();
    assert_eq!(is_current(), false);
    let quick = ["check", "--a", "right", "--b", "wrong", "--quick"];
    for training in [["--device", "cpu"], ["--set", "check.train.steps=3"]] {
        lynxdata(folder, &[&quick[..], &training].concat()).ended_with(2).says(&["--quick trains nothing"]);
    }
    std::fs::create_dir(folder.join("broken")).unwrap();
    std::fs::write(folder.join("broken/talks.json"), "[{\"id\": 1,\n\"image\": \"a.jp").unwrap();
    let broken = ["check", "--a", "right", "--b", "broken", "--quick", "--out", "two"];
    lynxdata(folder, &broken).ended_with(1).says(&["talks.json, line 2: not JSON"]);
}

#[test]
fn conversations_are_arms_too() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = pairs();
    let write = |name: &str, questions: &[&str], text: &dyn Fn(usize) -> String| {
        let samples = pairs.iter().enumerate().map(|(number, (picture, ..))| {
            json!({"id": number.to_string(), "image": picture, "conversations": [
                {"from": "human", "value": format!("<image>\n{}", questions[number % questions.len()])},
                {"from": "gpt", "value": text(number)},
            ]})
        });
        std::fs::write(folder.path().join(name), Value::Array(samples.collect()).to_string()).unwrap();
    };
    let one = ["What is in the picture?"];
    write("right.json", &one, &|number| pairs[number].1.clone());
    write("wrong.json", &one, &|number| pairs[number].2.clone());
    let told = check(folder.path(), &["--a", "right.json", "--b", "wrong.json", "--out", "out"], 0);
    assert_eq!(told["winner"], "right.json", "{told:#}");
    // The probe sees answers only: other questions make no difference.
    write("asked.json", &["What is shown?", "What do you see?", "Describe it."], &|number| pairs[number].1.clone());
    let told = check(folder.path(), &["--a", "right.json", "--b", "asked.json", "--out", "same"], 0);
    assert_eq!(told["verdict"], "equivalent", "{told:#}");
}

#[test]
fn calibration_counts_verdicts_on_known_answers() {
    let folder = tempfile::tempdir().unwrap();
    let output = lynxdata(
        folder.path(),
        &[
            "check",
            "calibrate",
            "--quick",
            "--drawings",
            "700",
            "--cases",
            "halves,wrong_captions_30",
            "--halves",
            "2",
            "--draws",
            "2",
            "--json",
            "--quiet",
        ],
    );
    let told = output.ended_with(0).json();
    let tallies = told["tallies"].as_array().unwrap();
    assert_eq!((&tallies[0]["a"], &tallies[0]["b"], &tallies[0]["draws"]), (&json!(0), &json!(0), &json!(2)));
    assert_eq!((&tallies[1]["a"], &tallies[1]["wrong_direction"]), (&json!(2), &json!(0)), "{told:#}");
    lynxdata(folder.path(), &["check", "calibrate", "--cases", "halvs"])
        .ended_with(2)
        .says(&["did you mean \"halves\"?"]);
}
