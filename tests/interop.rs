//! Tests that pyarrow, datasets, webdataset and DuckDB read the same pairs that were written.
//!
//! Each script of `tests/python` reads a run folder with one library and prints numbers of rows,
//! and a digest over key, caption, width and height of every pair, with the sizes of the images as
//! Pillow decodes them. The same digest is computed here from the tables.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::python;
use crate::runs::{Run, bundled_pictures, large, small};
use crate::support::{files, flags, integers, lynxdata, repository, run_python, sha256, table, texts};

/// Runs a script on both runs, or on the one that this machine can make.
fn with_python(script: &str, compare: impl Fn(&Run, &Value)) {
    let Some(python) = python() else { return };
    for run in [Some(small()), large()].into_iter().flatten() {
        let cache = tempfile::tempdir().unwrap();
        let seen = run_python(&python, script, &[run.path().as_os_str(), OsStr::new("clean")], cache.path());
        compare(run, &seen);
    }
}

/// Returns the result that every reader must have for a table of pairs.
fn pairs(folder: &Path) -> Value {
    let table = table(folder, &["uid", "caption", "width", "height"]);
    let (captions, widths, heights) = (texts(&table, "caption"), integers(&table, "width"), integers(&table, "height"));
    let mut lines: Vec<String> = texts(&table, "uid")
        .iter()
        .enumerate()
        .map(|(row, uid)| format!("{uid}\t{}\t{}\t{}\n", captions[row], widths[row], heights[row]))
        .collect();
    lines.sort();
    json!({"rows": lines.len(), "digest": sha256(lines.concat().as_bytes())})
}

fn rows_out<'a>(run: &'a Run, stage: &str) -> &'a Value {
    &run.stage(stage)["rows_out"]
}

#[test]
fn pyarrow_reads_every_table() {
    with_python("read_with_pyarrow.py", |run, seen| {
        assert_eq!(seen["pool"], pairs(&run.path().join("pool")));
        assert_eq!(seen["shards"], pairs(&run.path().join("shards/parquet/data")));
        assert_eq!(seen["download_log"], run.stage("download")["rows_in"]);
        assert_eq!(seen["signals"], *rows_out(run, "signals"));
        assert_eq!(seen["clusters"], *rows_out(run, "dedup"));
        for (name, rows) in seen["selections"].as_object().unwrap() {
            assert_eq!(rows["rows"], *rows_out(run, "download"), "{name}");
            assert_eq!(rows["kept"], run.status["selections"][name]["kept"], "{name}");
            let rejected_by = run.status["selections"][name]["rejected_by"].as_object().unwrap();
            assert_eq!(rows["rejected_by"].as_object().unwrap(), rejected_by, "{name}");
        }
        assert_eq!(seen["selections"].as_object().unwrap().len(), 2);
        assert_eq!(seen["conversations"], *rows_out(run, "instruct"));
        assert_eq!(seen["hugging_face_pictures"], json!(["image"]), "the schema says which column is a picture");
    });
}

#[test]
fn datasets_decodes_every_picture() {
    with_python("read_with_datasets.py", |run, seen| {
        assert_eq!(seen["pool"], pairs(&run.path().join("pool")));
        assert_eq!(seen["shards"], pairs(&run.path().join("shards/parquet/data")));
        assert_eq!(seen["shards"]["rows"], run.status["selections"]["clean"]["kept"]);
        let conversations = &seen["conversations"];
        assert_eq!(conversations["rows"], *rows_out(run, "instruct"));
        assert!(conversations["pictures_decoded"].as_u64() > Some(0), "{conversations}");
        let (mut pictures, mut messages) = (0, 0);
        for name in files(&run.path().join("instruct/conversations")) {
            let text = std::fs::read_to_string(run.path().join("instruct/conversations").join(name)).unwrap();
            for line in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
                pictures += line["images"].as_array().unwrap().len();
                messages += line["messages"].as_array().unwrap().len();
            }
        }
        assert_eq!(conversations["pictures"], pictures);
        assert_eq!(conversations["messages"], messages);
    });
}

#[test]
fn webdataset_reads_every_sample() {
    with_python("read_with_webdataset.py", |run, seen| {
        assert_eq!(seen["shards"], pairs(&run.path().join("shards/parquet/data")));
        assert_eq!(seen["shards"]["rows"], run.status["selections"]["clean"]["kept"]);
        assert_eq!(seen["tars"], files(&run.path().join("shards/webdataset")).len());
    });
}

#[test]
fn duckdb_joins_the_tables() {
    with_python("read_with_duckdb.py", |run, seen| {
        let ok = rows_out(run, "download");
        assert_eq!(seen["pool"], *ok);
        assert_eq!(seen["signals"], *ok);
        assert_eq!(seen["joined"], *ok, "every pair has its signals, its cluster and its decision");
        assert_eq!(seen["kept"], run.status["selections"]["clean"]["kept"]);
        assert_eq!(&seen["rejected_by"], &run.status["rejected_by"]);
        assert_eq!(seen["by_status"], run.status["download"]["by_status"]);
        let selection = table(&run.path().join("selection/clean"), &["uid", "kept"]);
        let mut kept: Vec<String> = texts(&selection, "uid")
            .into_iter()
            .zip(flags(&selection, "kept"))
            .filter(|(_, kept)| *kept)
            .map(|(uid, _)| format!("{uid}\n"))
            .collect();
        kept.sort();
        assert_eq!(seen["kept_digest"], sha256(kept.concat().as_bytes()));
    });
}

#[test]
fn what_datasets_opens_as_input_it_opens_as_output() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).into_os_string();
    let web = bundled_pictures();
    let pictures = files(&repository().join("examples/quickstart/images"));
    let urls: Vec<String> = pictures.iter().step_by(pictures.len() / 3).take(3).map(|name| web.url(name)).collect();
    let list = path("list.parquet");
    let arguments: Vec<&OsStr> = [OsStr::new("write"), &list].into_iter().chain(urls.iter().map(OsStr::new)).collect();
    run_python(&python, "arrow_types.py", &arguments, folder.path());
    let recipe = "output = \"run\"\n[source]\npath = \"list.parquet\"\ncaption = \"caption\"\n[download]\nallow_private_addresses = true\n\
                  [select.all]\n[shards]\nselection = \"all\"\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(0);
    let seen = run_python(&python, "arrow_types.py", &[OsStr::new("compare"), &list, &path("run")], folder.path());
    assert_eq!(seen, json!({"pool": {}, "shards": {}}), "columns that are not what they were in the list");
}

#[test]
fn datasets_takes_no_run_and_no_selection_for_another_one() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    // One cache for all runs, as on a user's machine.
    let cache = folder.path().join("cache");
    let captions = |run: &str| {
        let shards = folder.path().join(run).join("run/shards/parquet");
        run_python(&python, "captions_with_datasets.py", &[shards.as_os_str()], &cache)
    };
    let prepare = |run: &str, words: [&str; 3]| {
        let source = folder.path().join(run).join("in");
        std::fs::create_dir_all(&source).unwrap();
        let pictures = files(&repository().join("examples/quickstart/images"));
        for (index, word) in words.iter().enumerate() {
            let picture = repository().join("examples/quickstart/images").join(&pictures[index * pictures.len() / 3]);
            let name = format!("{index}.{}", picture.extension().unwrap().to_str().unwrap());
            std::fs::copy(&picture, source.join(name)).unwrap();
            std::fs::write(source.join(format!("{index}.txt")), word).unwrap();
        }
        let recipe = "output = \"run\"\n[source]\npath = \"in\"\n[select.all]\n[shards]\nselection = \"all\"\n";
        std::fs::write(folder.path().join(run).join("recipe.toml"), recipe).unwrap();
    };
    let run = |run: &str, sets: &[&str]| {
        lynxdata(&folder.path().join(run), &[&["run", "recipe.toml"], sets].concat()).ended_with(0);
    };
    prepare("one", ["a dog", "a cat", "a bird"]);
    run("one", &[]);
    assert_eq!(captions("one"), json!(["a dog", "a cat", "a bird"]));
    run("one", &["--set", "select.all.rules.no_cat=caption <> 'a cat'"]);
    assert_eq!(captions("one"), json!(["a dog", "a bird"]), "another rule");
    // The same numbers of rows and bytes as before.
    run("one", &["--set", "select.all.rules.no_dog=caption <> 'a dog'"]);
    assert_eq!(captions("one"), json!(["a cat", "a bird"]), "a rule that keeps as many");
    prepare("two", ["a fox", "a hen", "a crow"]);
    run("two", &[]);
    assert_eq!(captions("two"), json!(["a fox", "a hen", "a crow"]), "another run");
    assert_eq!(captions("one"), json!(["a cat", "a bird"]));
}
