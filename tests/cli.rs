//! Exit codes, machine-readable output and messages: what scripts rely on.

use std::fs::File;
use std::path::Path;

use serde_json::Value;

use crate::machine::shared;
use crate::runs::{bundled_pictures, write_small};
use crate::support::{command, files, lynxdata, repository, sha256};

/// Returns a folder with a small list and a recipe for all stages. Tests without a download need no
/// server.
fn folder_with_recipe() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_small(folder.path(), &bundled_pictures());
    folder
}

fn edit_recipe(folder: &Path, from: &str, to: &str) {
    let path = folder.join("recipe.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn wrong_usage_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    lynxdata(folder.path(), &[]).ended_with(2);
    lynxdata(folder.path(), &["frobnicate"]).ended_with(2).says(&["frobnicate"]);
    lynxdata(folder.path(), &["run", "recipe.toml", "--frobnicate"]).ended_with(2).says(&["--frobnicate"]);
    lynxdata(folder.path(), &["status"]).ended_with(2);
    lynxdata(folder.path(), &["hash"]).ended_with(2);
    lynxdata(folder.path(), &["completions", "tcsh-of-old"]).ended_with(2);
}

#[test]
fn a_recipe_that_is_not_there_is_named_with_a_way_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = lynxdata(folder.path(), &["run", "nowhere/recipe.toml"]).ended_with(2);
    output.says(&["nowhere/recipe.toml", "lynxdata recipe new"]);
}

#[test]
fn a_mistyped_key_is_an_error_with_its_place_and_the_nearest_key() {
    let folder = folder_with_recipe();
    edit_recipe(folder.path(), "retries = 1", "retires = 1");
    for arguments in [["run", "recipe.toml"], ["download", "recipe.toml"]] {
        let output = lynxdata(folder.path(), &arguments).ended_with(2);
        output.says(&["recipe.toml", "line 9", "retires", "did you mean `retries`?"]);
    }
    lynxdata(folder.path(), &["recipe", "check", "recipe.toml"]).ended_with(2).says(&["did you mean `retries`?"]);
    assert!(!folder.path().join("run").exists(), "nothing was begun");
}

#[test]
fn a_recipe_that_cannot_work_is_refused_before_anything_is_done() {
    for (from, to, said) in [
        ("output = ", "output : ", "recipe.toml"),
        ("path = \"pairs.tsv\"", "path = \"pears.tsv\"", "pears.tsv"),
        ("caption = \"caption\"", "caption = \"captoin\"", "captoin"),
        ("preset = \"lynx-clean\"", "preset = \"lynx-claen\"", "did you mean \"lynx-clean\"?"),
        ("width >= 40 AND", "widht >= 40 AND", "widht"),
        ("width >= 40 AND", "width >= >= 40 AND", "not_tiny"),
        // A rule may use one pair only, and must be deterministic.
        ("width >= 40 AND", "count(*) > 1 AND", "not_tiny"),
        ("width >= 40 AND", "row_number() OVER () > 1 AND", "not_tiny"),
        ("width >= 40 AND", "width > (SELECT 1) AND", "not_tiny"),
        ("width >= 40 AND", "random() > 0.5 AND", "not_tiny"),
        ("width >= 40 AND", "now() > to_timestamp(0) AND", "not_tiny"),
        ("selection = \"clean\"", "selection = \"claen\"", "did you mean \"clean\"?"),
        ("replicates = 2", "replicates = 1", "check.replicates"),
        ("name = \"vqav2\"", "name = \"vqav3\"", "did you mean \"vqav2\"?"),
        ("split = \"trainval\"", "split = \"trainvla\"", "trainvla"),
        ("retries = 1", "retries = -1", "retries"),
        ("rows_per_shard = 7", "rows_per_shard = 0", "rows_per_shard"),
    ] {
        let folder = folder_with_recipe();
        edit_recipe(folder.path(), from, to);
        lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(2).says(&[said]);
        lynxdata(folder.path(), &["run", "recipe.toml", "--dry-run"]).ended_with(2).says(&[said]);
        assert!(!folder.path().join("run").exists(), "{to}: nothing was begun");
    }
}

#[test]
fn set_replaces_a_value_and_names_itself_when_it_is_wrong() {
    let folder = folder_with_recipe();
    let checked =
        lynxdata(folder.path(), &["recipe", "check", "recipe.toml", "--set", "download.size=99"]).ended_with(0);
    assert!(checked.stdout.contains("size = 99"), "{checked}");
    let output = lynxdata(folder.path(), &["run", "recipe.toml", "--set", "download.sizes=99"]).ended_with(2);
    output.says(&["--set download.sizes=99", "did you mean `size`?"]);
    lynxdata(folder.path(), &["run", "recipe.toml", "--set", "download.size=big"])
        .ended_with(2)
        .says(&["--set download.size=big"]);
    lynxdata(folder.path(), &["run", "recipe.toml", "--set", "download.size"])
        .ended_with(2)
        .says(&["--set download.size"]);
}

#[test]
fn a_new_recipe_is_valid_and_never_replaces_a_file() {
    let folder = folder_with_recipe();
    lynxdata(folder.path(), &["recipe", "new", "mine.toml"]).ended_with(0);
    let text = std::fs::read_to_string(folder.path().join("mine.toml")).unwrap();
    lynxdata(folder.path(), &["recipe", "new", "mine.toml"])
        .ended_with(2)
        .says(&["mine.toml exists already", "give another name, or remove it first"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("mine.toml")).unwrap(), text);
    let checked =
        lynxdata(folder.path(), &["recipe", "check", "mine.toml", "--set", "source.path=pairs.tsv"]).ended_with(0);
    for default in ["user_agent", "phash_distance", "learning_rate", "vit_dim"] {
        assert!(checked.stdout.contains(default), "{default} is missing: {checked}");
    }
    // Its output is a recipe again, and the same one.
    std::fs::write(folder.path().join("resolved.toml"), &checked.stdout).unwrap();
    let again = lynxdata(folder.path(), &["recipe", "check", "resolved.toml"]).ended_with(0);
    assert_eq!(again.stdout, checked.stdout);
}

#[test]
fn the_schema_describes_every_section() {
    let folder = tempfile::tempdir().unwrap();
    let schema = lynxdata(folder.path(), &["recipe", "schema"]).ended_with(0).json();
    for section in ["output", "source", "download", "dedup", "select", "shards", "instruct", "check", "report"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn a_dry_run_writes_nothing() {
    let folder = folder_with_recipe();
    let before = files(folder.path());
    let output = lynxdata(folder.path(), &["run", "recipe.toml", "--dry-run"]).ended_with(0);
    for stage in ["download", "signals", "dedup", "select", "shards", "instruct", "train", "check", "report"] {
        assert!(output.stdout.lines().any(|line| line.starts_with(stage)), "{stage} is missing: {output}");
    }
    assert_eq!(files(folder.path()), before);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_stage_without_its_inputs_says_which_command_makes_them() {
    let folder = folder_with_recipe();
    let output = lynxdata(folder.path(), &["signals", "recipe.toml"]).ended_with(1);
    output.says(&["download", "lynxdata download recipe.toml"]);
    edit_recipe(folder.path(), "[shards]\nselection = \"clean\"\nrows_per_shard = 7\n", "");
    lynxdata(folder.path(), &["shards", "recipe.toml"]).ended_with(2).says(&["recipe.toml", "shards"]);
}

#[test]
fn an_input_or_name_that_is_not_there_is_wrong_usage_for_every_command() {
    let folder = folder_with_recipe();
    let fixture = repository().join("datasets/fixtures/vqav2");
    std::fs::write(folder.path().join("there.jsonl"), "{}\n").unwrap();
    let commands = [
        "run nowhere",
        "status nowhere",
        "status nowhere --json",
        "verify nowhere",
        "download --url-list nowhere --output-folder out",
        "instruct --task vqav2=nowhere --out out",
        "instruct --task vqav2=FIXTURE:nowhere --out out",
        "check --a nowhere --b there.jsonl --quick",
        "check calibrate --quick --pairs nowhere",
        "train --stage pretrain --data nowhere --out out",
        "train --stage pretrain --data there.jsonl --config nowhere --out out",
        "eval --metric exact_match --references nowhere --predictions there.jsonl",
        "eval --metric exact_match --references there.jsonl --predictions nowhere",
        "eval --lynx nowhere --images . --references there.jsonl",
        "audit nowhere --model lynx",
        "audit there.jsonl --model lynx --tokenizer nowhere",
        "audit there.jsonl --model lynx --images nowhere",
        "pack nowhere --model lynx --tokenizer there.jsonl --length 9 --out out",
        "render --template vicuna --tokenizer nowhere",
        "decontaminate nowhere --against there.jsonl",
        "decontaminate there.jsonl --against nowhere",
        "recipe check nowhere",
        "recipe new nowhere/recipe.toml",
        "tasks list --catalogue nowhere",
        "tasks show nowhere",
        "tasks read vqav2 nowhere",
        "tasks read vqav2 FIXTURE --split nowhere",
        "tasks preview vqav2 FIXTURE --split nowhere",
        "tasks check vqav2 FIXTURE --split nowhere",
        "tasks check vqav2 FIXTURE --images nowhere",
        "hydrate vqav2 nowhere",
        "hydrate vqav2 FIXTURE --split nowhere",
        "hydrate vqav2 FIXTURE --also nowhere",
        "hydrate vqav2 FIXTURE --images nowhere",
        "mixture plan nowhere",
        "mixture plan --preset nowhere",
        "prompts check --banks nowhere",
        "prompts stats nowhere",
        "prompts generate --task nowhere --endpoint http://localhost:1/v1 --model m",
        "generate captions nowhere --out out --endpoint http://localhost:1/v1 --model m",
        "finding nowhere",
    ];
    for command in commands {
        let command = command.replace("FIXTURE", fixture.to_str().unwrap());
        let arguments: Vec<&str> = command.split(' ').collect();
        lynxdata(folder.path(), &arguments).ended_with(2).says(&["nowhere"]);
    }
    assert!(!folder.path().join("out").exists(), "nothing was started");
}

#[test]
fn status_of_a_folder_that_is_no_run_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("photo.txt"), "not a run").unwrap();
    lynxdata(folder.path(), &["status", "."]).ended_with(1).says(&["not a run folder"]);
}

#[test]
fn a_folder_of_other_files_is_never_taken_for_a_run() {
    let folder = folder_with_recipe();
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    std::fs::write(folder.path().join("photos/cat.jpg"), "meow").unwrap();
    let output = lynxdata(folder.path(), &["download", "recipe.toml", "--set", "output=photos"]).ended_with(1);
    output.says(&["photos"]);
    assert_eq!(files(&folder.path().join("photos")), ["cat.jpg"]);
}

#[test]
fn a_second_process_is_kept_out_of_a_run_folder() {
    let folder = folder_with_recipe();
    std::fs::create_dir(folder.path().join("run")).unwrap();
    let lock = File::create(folder.path().join("run/.lock")).unwrap();
    lock.lock().unwrap();
    lynxdata(folder.path(), &["download", "recipe.toml"]).ended_with(1).says(&["in use by another lynxdata process"]);
}

#[test]
fn more_failed_rows_than_allowed_end_with_3_and_everything_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    let rows = write_small(folder.path(), &web);
    let failed = rows.iter().filter(|row| row.expected != "ok").count() as f64 / rows.len() as f64;
    let set = |fraction: f64| format!("download.max_failed_fraction={fraction}");
    let strict = lynxdata(folder.path(), &["download", "recipe.toml", "--set", &set(failed - 0.01)]).ended_with(3);
    strict.says(&["6 of 40 rows failed to download", "max_failed_fraction"]);
    let status = lynxdata(folder.path(), &["status", "run", "--json"]).ended_with(0).json();
    assert_eq!(status["stages"][0]["complete"], true, "{status}");
    // The limit does not affect the stored data, so nothing is downloaded again.
    let output = lynxdata(folder.path(), &["download", "recipe.toml", "--set", &set(failed)]).ended_with(0);
    output.says(&["made=0 skipped=4"]);
}

#[test]
fn logs_can_be_json_lines_and_silent() {
    let folder = tempfile::tempdir().unwrap();
    let web = bundled_pictures();
    write_small(folder.path(), &web);
    let output = lynxdata(folder.path(), &["download", "recipe.toml", "--log-format", "json"]).ended_with(0);
    assert!(!output.stderr.is_empty());
    for line in output.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    assert_eq!(output.stdout, "", "standard output carries data alone");
    let output = lynxdata(folder.path(), &["signals", "recipe.toml", "--quiet"]).ended_with(0);
    assert_eq!(output.stderr, "");
}

#[test]
fn version_and_tasks_are_json() {
    let folder = tempfile::tempdir().unwrap();
    let version = lynxdata(folder.path(), &["version", "--json"]).ended_with(0).json();
    assert_eq!(version["name"], "lynxdata");
    assert!(version["devices"].as_array().unwrap().contains(&Value::from("cpu")), "{version}");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    // Cargo puts binaries of the profile `dev` into the folder `debug`.
    let is_dev = Path::new(env!("CARGO_BIN_EXE_lynxdata")).parent().is_some_and(|folder| folder.ends_with("debug"));
    assert_eq!(version["profile"], if is_dev { "dev" } else { "release" });
    let plain = lynxdata(folder.path(), &["--version"]).ended_with(0);
    assert_eq!(plain.stdout, format!("lynxdata {}\n", env!("CARGO_PKG_VERSION")));

    let tasks = lynxdata(folder.path(), &["tasks", "list", "--json"]).ended_with(0).json();
    let tasks = tasks.as_array().unwrap();
    assert!(tasks.len() >= 6, "{tasks:?}");
    for task in tasks {
        for key in ["name", "group", "modality", "licence", "commercial_use", "verified", "homepage"] {
            assert!(task[key].as_str().is_some_and(|value| !value.is_empty()), "{key} of {task}");
        }
        assert!(task["splits"].as_object().is_some_and(|splits| !splits.is_empty()), "{task}");
    }
    let vqav2 = tasks.iter().find(|task| task["name"] == "vqav2").unwrap();
    assert_eq!((&vqav2["paper_row"], &vqav2["modality"]), (&Value::from(18), &Value::from("image")));
}

#[test]
fn tasks_are_shown_read_previewed_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = repository().join("datasets/fixtures/vqav2");
    let fixture = fixture.to_str().unwrap();
    let run = |arguments: &[&str]| lynxdata(folder.path(), &[&["tasks"], arguments].concat());
    let shown = run(&["show", "vqav2", "--json"]).ended_with(0).json();
    assert_eq!((&shown["slots"][0], &shown["answers"][0]), (&Value::from("question"), &Value::from("phrase")));
    run(&["show", "vqav3"]).ended_with(2).says(&["did you mean \"vqav2\"?"]);
    let read = run(&["read", "vqav2", fixture, "--split", "train", "--limit", "1", "--json"]).ended_with(0).json();
    assert_eq!((&read["id"], &read["answers"]["phrase"]), (&Value::from("vqav2/train/458752000"), &Value::from("net")));
    let preview = run(&["preview", "vqav2", fixture]).ended_with(0).stdout;
    assert_eq!(preview.matches("  assistant  ").count(), 3, "{preview}");
    let checked = run(&["check", "vqav2", fixture, "--without-images"]).ended_with(0).stdout;
    assert!(checked.contains("split train: 3 of 3 records can be used; 443,757 are published"), "{checked}");
    let missing = run(&["check", "vqav2", "."]).ended_with(1).stdout;
    assert!(missing.contains("v2_mscoco_val2014_annotations.json"), "{missing}");
    std::fs::create_dir(folder.path().join("own")).unwrap();
    let own = "extends = \"vqav2\"\nname = \"own\"\n[answers]\nphrase = \"a.target | uper\"\n";
    std::fs::write(folder.path().join("own/own.toml"), own).unwrap();
    std::fs::write(folder.path().join("own/good.toml"), "extends = \"vqav2\"\nname = \"good\"\n").unwrap();
    let faulty = run(&["check", "own", fixture, "--catalogue", "own"]).ended_with(2);
    faulty.says(&["own.toml", "there is no filter `uper`, did you mean `upper`?"]);
    run(&["check", "good", fixture, "--catalogue", "own", "--without-images"]).ended_with(0);
    let mut of_home = command(folder.path(), &["tasks", "show", "good", "--catalogue=~/own"]);
    of_home.env("HOME", folder.path());
    assert!(of_home.output().unwrap().status.success());
}

#[test]
fn a_log_filter_that_is_none_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut version = command(folder.path(), &["version"]);
    version.env("LYNXDATA_LOG", "lynxdata=loud");
    let output = version.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("LYNXDATA_LOG=\"lynxdata=loud\" is not a tracing filter"), "{said}");
}

#[test]
fn completions_are_there_for_three_shells() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = lynxdata(folder.path(), &["completions", shell]).ended_with(0).stdout;
        assert!(script.contains("quickstart") && script.contains("dry-run"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &["recipe", "schema"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the header and the rows of a tab-separated file.
fn tsv(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    (lines.next().unwrap(), lines.collect())
}

/// Compares `hash --json` with each `every`-th row of a table of Python's ImageHash.
fn compare_hashes(images: &Path, table: &Path, every: usize) {
    let (header, rows) = tsv(table);
    let column = |row: &[String], name: &str| row[header.iter().position(|column| column == name).unwrap()].clone();
    let rows: Vec<Vec<String>> = rows.into_iter().step_by(every).collect();
    let names: Vec<String> = rows.iter().map(|row| column(row, "file")).collect();
    let mut arguments = vec!["hash", "--json"];
    arguments.extend(names.iter().map(String::as_str));
    let output = lynxdata(images, &arguments).ended_with(0);
    assert_eq!(output.stdout.lines().count(), rows.len(), "one object per picture");
    for (line, row) in output.stdout.lines().zip(&rows) {
        let hashes: Value = serde_json::from_str(line).unwrap();
        let file = column(row, "file");
        assert_eq!(hashes["file"], file);
        assert_eq!(hashes["sha256"], sha256(&std::fs::read(images.join(&file)).unwrap()), "{file}");
        for size in ["width", "height"] {
            assert_eq!(hashes[size].to_string(), column(row, size), "{file}");
        }
        for hash in ["phash", "dhash"] {
            assert_eq!(hashes[hash], column(row, hash), "{hash} of {file}");
        }
    }
}

#[test]
fn hashes_are_those_of_imagehash() {
    let fixtures = repository().join("filters/fixtures");
    compare_hashes(&fixtures.join("images"), &fixtures.join("golden.tsv"), 1);
}

#[test]
fn hashes_of_photographs_are_those_of_imagehash() {
    let Some(folder) = shared("data/neardup") else { return };
    compare_hashes(&folder, &folder.join("reference_hashes.tsv"), 20);
}

#[test]
fn hash_names_what_is_no_picture_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page.jpg"), "<html>").unwrap();
    let picture = repository().join("filters/fixtures/images/synthetic_stripes.png");
    let output = lynxdata(folder.path(), &["hash", "--json", "page.jpg", "nowhere.png", picture.to_str().unwrap()])
        .ended_with(1);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["error"].is_string() && lines[0]["phash"].is_null(), "{}", lines[0]);
    assert!(lines[1]["error"].is_string() && lines[1]["sha256"].is_null(), "{}", lines[1]);
    assert!(lines[2]["error"].is_null() && lines[2]["phash"].is_string(), "{}", lines[2]);
}
