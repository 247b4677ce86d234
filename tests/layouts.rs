//! Layouts of folders, archives and Parquet files: those of other libraries are read as they read
//! them, and written ones are read by them and by lynxdata again.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Value, json};

use crate::machine::python;
use crate::support::{lynxdata, repository, run_python, status, table, texts};

/// Images of four formats, small enough to be kept unchanged.
const PICTURES: [&str; 4] = ["plain.jpg", "alpha.png", "palette.gif", "alpha.webp"];

/// A fixture of lynxdata-picture.
fn picture(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("pipeline/picture/fixtures").join(name)).unwrap()
}

/// Writes a folder in the layout of Hugging Face `imagefolder`, in two splits.
fn write_imagefolder(folder: &Path) {
    for (split, names) in [("train", &PICTURES[..3]), ("test", &PICTURES[3..])] {
        let split = folder.join(split);
        std::fs::create_dir_all(split.join("more")).unwrap();
        let mut lines = String::new();
        for (index, name) in names.iter().enumerate() {
            let file_name = if index == 1 { format!("more/{name}") } else { (*name).to_owned() };
            std::fs::write(split.join(&file_name), picture(name)).unwrap();
            lines += &format!("{}\n", json!({"file_name": file_name, "text": format!("a picture of {name}")}));
        }
        std::fs::write(split.join("metadata.jsonl"), lines).unwrap();
    }
}

/// Returns the digests of the images of a run's pool by caption.
fn pool(run: &Path) -> BTreeMap<String, Vec<String>> {
    let pool = table(&run.join("pool"), &["caption", "sha256"]);
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (caption, digest) in texts(&pool, "caption").into_iter().zip(texts(&pool, "sha256")) {
        pairs.entry(caption).or_default().push(digest);
    }
    pairs
}

fn download(folder: &Path, source: &str, run: &str, format: &str) {
    let flags = ["download", "--url-list", source, "--output-folder", run, "--output-format", format];
    lynxdata(folder, &[&flags[..], &["--resize-mode", "no"]].concat()).ended_with(0);
}

#[test]
fn what_datasets_opens_as_input_it_opens_as_output() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    write_imagefolder(&source);
    for format in ["parquet", "webdataset", "files"] {
        download(folder.path(), "source", format, format);
    }
    let first = pool(&folder.path().join("parquet"));
    assert_eq!(first.len(), PICTURES.len(), "{first:?}");
    // Written files can be a source.
    for written in ["parquet/pool", "webdataset/shards/webdataset", "files/shards/files"] {
        let again = format!("again-{}", written.replace('/', "-"));
        download(folder.path(), written, &again, "parquet");
        assert_eq!(pool(&folder.path().join(again)), first, "{written}");
    }
    let Some(python) = python() else { return };
    let cache = tempfile::tempdir().unwrap();
    let read = |layout: &str, path: &Path| -> Value {
        run_python(&python, "read_layout.py", &[OsStr::new(layout), path.as_os_str()], cache.path())
    };
    let expected = read("imagefolder", &source);
    assert_eq!(expected.as_array().unwrap().len(), PICTURES.len());
    assert_eq!(read("parquet", &folder.path().join("parquet/pool")), expected);
    // Archives with images of four formats.
    let tars = folder.path().join("webdataset/shards/webdataset");
    for reader in ["webdataset by datasets", "webdataset by open_clip"] {
        assert_eq!(read(reader, &tars), expected, "{reader}");
    }
}

#[test]
fn the_same_command_gives_the_same_pool_also_where_its_output_lies_in_its_source() {
    for format in ["parquet", "webdataset", "files"] {
        let folder = tempfile::tempdir().unwrap();
        write_imagefolder(&folder.path().join("a"));
        for name in PICTURES {
            std::fs::write(folder.path().join(name), picture(name)).unwrap();
            std::fs::write(folder.path().join(format!("{name}.txt")), format!("beside {name}")).unwrap();
        }
        download(folder.path(), ".", "out", format);
        let first = pool(&folder.path().join("out"));
        // Two images have the same stem, but each has its own text.
        assert_eq!(first.len(), 2 * PICTURES.len(), "{first:?}");
        for _again in 0..2 {
            download(folder.path(), ".", "out", format);
            assert_eq!(pool(&folder.path().join("out")), first, "{format}");
        }
    }
}

#[test]
fn a_rule_may_ask_which_path_a_row_is_from() {
    let folder = tempfile::tempdir().unwrap();
    for (path, name) in [("photos", "plain.jpg"), ("scans", "palette.gif")] {
        std::fs::create_dir(folder.path().join(path)).unwrap();
        std::fs::write(folder.path().join(path).join(name), picture(name)).unwrap();
    }
    let recipe = "output = \"run\"\n[source]\npath = [\"photos\", \"scans\"]\n[download]\nresize = \"keep\"\n\
                  [select.photos]\nrules = { photos = \"source_path = 'photos'\" }\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    lynxdata(folder.path(), &["run", "recipe.toml"]).ended_with(0);
    assert_eq!(status(&folder.path().join("run"))["selections"]["photos"]["kept"], 1);
}

#[test]
fn what_is_not_read_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (name, bytes) in [("1.jpg", picture("plain.jpg")), ("README.md", b"x".to_vec()), ("x.zip", b"x".to_vec())] {
        std::fs::write(folder.path().join("in").join(name), bytes).unwrap();
    }
    let told = lynxdata(folder.path(), &["download", "--url-list", "in", "--output-folder", "run"]).ended_with(0);
    let told = told.says(&["compressed archives: 1, such as \"x.zip\"", "documents: 1, such as \"README.md\""]);
    assert_eq!(told.stderr.matches("parts of the source are not read").count(), 1, "{told}");
}
