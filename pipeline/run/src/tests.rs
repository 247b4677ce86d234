//! A small run in process: no binary, no web.

mod groups;
mod judged;
mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lynxdata_datasets::export::FORMATS;
use lynxdata_fetch::PoolFormat;
use lynxdata_records::schema::DUPLICATE_OF;
use lynxdata_records::{Manifest, PartEntry, fingerprint};
use serde::{Deserialize, Serialize};

use super::*;
use crate::stages::arms::Examples;
use crate::stages::card::Card;
use crate::stages::check::Check;
use crate::stages::dedup::Dedup;
use crate::stages::instruct::Instruct;
use crate::stages::mixture::Mixture;
use crate::stages::model::Model;
use crate::stages::report::Report;
use crate::stages::select::Select;
use crate::stages::shards::Shards;
use crate::stages::signals::Signals;
use crate::stages::train::{Controls, Train};

/// Stages whose parts differ between machines, and why. Every other stage has golden parts.
const NOT_GOLDEN: &[(&dyn Stage, &str)] = &[
    (&Train, "a trained model and its losses are sums of floats, whose order depends on the processor"),
    (&Controls, "as train; its results also decide which fits there are"),
    (&Model, "as train"),
];

const RECIPE: &str = r#"
name = "small"
seed = 7
output = "run"

[source]
path = "pairs"

[download]
size = 64
rows_per_part = 5

[select.clean]
rules.tall = "height >= 50"

[shards]
selection = "clean"
formats = ["parquet", "webdataset"]
rows_per_shard = 4

[instruct]
formats = ["llava", "parquet"]
tasks = [{ name = "vqav2", root = "vqav2", images = "vqav2", split = "train" }]
require_images = false

[instruct.mixture]
total = 4

[check]
arms = ["clean", { name = "folder", path = "pairs" }]
gear = "quick"
"#;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Twelve images with captions, two of which show the same, in a folder with the recipe.
fn folder_with_recipe() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let pairs = folder.path().join("pairs");
    std::fs::create_dir(&pairs).unwrap();
    let mut pictures: Vec<PathBuf> = std::fs::read_dir(repository().join("examples/quickstart/images/oxford_pets"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "jpg"))
        .collect();
    pictures.sort();
    for (number, picture) in pictures.iter().take(11).chain(&pictures[..1]).enumerate() {
        std::fs::copy(picture, pairs.join(format!("{number:02}.jpg"))).unwrap();
        std::fs::write(pairs.join(format!("{number:02}.txt")), format!("picture number {number} of a small run"))
            .unwrap();
    }
    let (native, copied) = (repository().join("datasets/fixtures/vqav2"), folder.path().join("vqav2"));
    std::fs::create_dir(&copied).unwrap();
    for entry in std::fs::read_dir(native).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, copied.join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
    folder
}

fn load(folder: &Path, sets: &[&str]) -> LoadedRecipe {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    recipe::load(&folder.join("recipe.toml"), &sets).unwrap()
}

/// The parts of a stage in a run, or what a format has of them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Golden {
    format_version: String,
    /// Digests of the parts, by the name of the part.
    parts: BTreeMap<String, String>,
}

impl Golden {
    /// Reads the parts of a stage below the folder of a recipe. `digest` returns the digest of a
    /// part, or nothing for a part to leave out.
    fn read(folder: &Path, stage: &dyn Stage, digest: impl Fn(&PartEntry) -> Option<String>) -> Golden {
        let manifest = Manifest::read(&folder.join("run")).unwrap();
        let parts = manifest.parts(stage.name()).filter_map(|part| Some((part.part.clone(), digest(part)?)));
        Golden { format_version: stage.format_version(), parts: parts.collect() }
    }
}

/// Returns the parts of every stage, by the name of the stage.
fn golden_stages() -> BTreeMap<String, Golden> {
    let is_golden = |stage: &&dyn Stage| NOT_GOLDEN.iter().all(|(other, _)| other.name() != stage.name());
    let stages: Vec<&dyn Stage> = STAGES.iter().copied().filter(is_golden).collect();
    let folder = folder_with_recipe();
    let folder = folder.path();
    let ending = run(load(folder, &[]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    // Twelve pairs are too few for a check: its verdict is invalid, and has no floats of fits.
    assert_eq!(ending, Ending::Nothing);
    // Not in the first run, where the report would ask for the model.
    let training = ["training.data=pairs", "training.device=cpu", "training.model.sight=pixels"];
    run(load(folder, &training), &Wanted::only(&[&Examples]), Arc::new(Silent)).unwrap();
    let golden = |stage: &&dyn Stage| {
        let digest = |part: &PartEntry| {
            let is_report = stage.name() == Report.name();
            if is_report { digest_without_version(&folder.join("run"), part) } else { part.digest() }
        };
        (stage.name().to_owned(), Golden::read(folder, *stage, |part| Some(digest(part))))
    };
    stages.iter().map(golden).collect()
}

/// Returns the digest of a part of the report without the version of this program.
fn digest_without_version(run: &Path, part: &PartEntry) -> String {
    let mut part = part.clone();
    for file in &mut part.files {
        let mut text = std::fs::read_to_string(run.join(&file.path)).unwrap();
        for before in ["lynxdata ", "\"lynxdata_version\": \""] {
            text = text.replace(&format!("{before}{}", env!("CARGO_PKG_VERSION")), before);
        }
        file.blake3 = fingerprint([text.as_str()]);
    }
    part.digest()
}

/// Returns the files of every format of conversations, by the names of the stage and the format.
/// Another format changes none of them.
fn golden_formats() -> BTreeMap<String, Golden> {
    let folder = folder_with_recipe();
    let folder = folder.path();
    let pictures = folder.join("vqav2/train2014");
    std::fs::create_dir(&pictures).unwrap();
    std::fs::copy(folder.join("pairs/00.jpg"), pictures.join("COCO_train2014_000000458752.jpg")).unwrap();
    let names: Vec<&str> = FORMATS.iter().map(|format| format.name).collect();
    let formats = format!("instruct.formats={names:?}");
    let stages: [&dyn Stage; 3] = [&Instruct, &Mixture, &Card];
    let ending = run(load(folder, &[&formats]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    assert_eq!(ending, Ending::Done);
    let mut found = BTreeMap::new();
    for format in FORMATS {
        for stage in stages.into_iter().filter(|stage| format.is_described() || stage.name() != Card.name()) {
            let golden = Golden::read(folder, stage, |part| digest_of_format(part, format.name));
            found.insert(format!("{}, {}", stage.name(), format.name), golden);
        }
    }
    found
}

/// Returns the digest of those files of a part that are of a format, such as
/// `instruct/llava/vqav2-train.json` or `mixture/llava.json`; `None` if it has none.
fn digest_of_format(part: &PartEntry, format: &str) -> Option<String> {
    let files = part.files.iter().filter(|file| file.path.split(['/', '.']).nth(1) == Some(format));
    let files: Vec<_> = files.cloned().collect();
    (!files.is_empty()).then(|| PartEntry { files, counts: BTreeMap::new(), ..part.clone() }.digest())
}

/// Returns the parts of a pool in every format, by the names of the stage and the format.
fn golden_pools() -> BTreeMap<String, Golden> {
    let schema = schemars::schema_for!(PoolFormat).to_value();
    let formats = schema["oneOf"].as_array().unwrap().iter().map(|format| format["const"].as_str().unwrap());
    let golden = |format: &str| {
        let folder = folder_with_recipe();
        let folder = folder.path();
        // Later stages read only Parquet.
        std::fs::write(folder.join("recipe.toml"), RECIPE.split("[select").next().unwrap()).unwrap();
        let format_of_pool = format!("download.format={format}");
        run(load(folder, &[&format_of_pool]), &Wanted::only(&[&Download]), Arc::new(Silent)).unwrap();
        let golden = Golden::read(folder, &Download, |part| Some(part.digest()));
        (format!("{}, {format}", Download.name()), golden)
    };
    formats.map(golden).collect()
}

#[test]
fn parts_keep_their_bytes_unless_the_format_version_is_raised() {
    let now: BTreeMap<String, Golden> =
        golden_stages().into_iter().chain(golden_formats()).chain(golden_pools()).collect();
    for (name, now) in &now {
        assert!(!now.parts.is_empty(), "no run of this test makes a part of {name}: extend RECIPE, or see NOT_GOLDEN");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/parts.json");
    let golden: BTreeMap<String, Golden> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (name, now) in &now {
        // Nobody can accept other bytes without raising the version.
        if let Some(golden) = golden.get(name).filter(|golden| golden.format_version == now.format_version) {
            assert_eq!(
                golden.parts, now.parts,
                "{name} has other bytes: raise the FORMAT_VERSION of the stage if that is meant, so that users' parts are made anew"
            );
        }
    }
    if std::env::var_os("LYNXDATA_REWRITE").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    } else {
        assert_eq!(golden, now, "run this test with LYNXDATA_REWRITE=1 and commit golden/parts.json");
    }
}

#[test]
fn a_run_that_is_run_again_makes_nothing_and_a_rule_makes_what_depends_on_it() {
    let folder = folder_with_recipe();
    let stages: [&dyn Stage; 5] = [&Download, &Signals, &Dedup, &Select, &Shards];
    run(load(folder.path(), &[]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    let planned = |sets: &[&str]| {
        let plans = plan(load(folder.path(), sets), &Wanted::only(&stages)).unwrap();
        plans.into_iter().map(|plan| (plan.stage, plan.make)).collect::<Vec<_>>()
    };
    assert!(planned(&[]).iter().all(|(_, make)| *make == Some(0)), "{:?}", planned(&[]));
    // How servers are asked decides nothing about what is stored.
    for network in ["download.concurrency=3", "download.retries=0", "download.user_agent='somebody'"] {
        assert_eq!(planned(&[network]), planned(&[]), "{network}");
    }
    let with_rule = planned(&["select.clean.rules.wide=width > 60"]);
    assert_eq!(with_rule[..3], planned(&[])[..3]);
    assert_eq!(with_rule[3..], [("select", Some(1)), ("shards", None)]);
    let smaller = planned(&["download.size=32"]);
    assert_eq!(smaller[0], ("download", Some(3)));
    assert!(smaller[1..].iter().all(|(_, make)| make.is_none()));
}

#[test]
fn a_refused_list_leaves_the_pool_as_it_is() {
    let folder = folder_with_recipe();
    let pairs = folder.path().join("pairs");
    let download = || run(load(folder.path(), &[]), &Wanted::only(&[&Download]), Arc::new(Silent));
    download().unwrap();
    let parts = || {
        let manifest = Manifest::read(&folder.path().join("run")).unwrap();
        manifest.parts(Download.name()).map(PartEntry::digest).collect::<Vec<_>>()
    };
    let before = parts();
    // The same images under other names are other pairs.
    for entry in std::fs::read_dir(&pairs).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("other-{}", path.file_name().unwrap().to_str().unwrap());
        std::fs::rename(&path, pairs.join(name)).unwrap();
    }
    let error = download().unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(parts(), before);
}

const DIALOGS: &str = r#"
output = "run"

[instruct]
formats = ["parquet", "webdataset"]

[[instruct.tasks]]
name = "llava_json"
root = "."
split = "x"

[[instruct.tasks]]
name = "llava_json"
root = "."
split = "x.y"

[instruct.mixture]
"#;

/// Two sets of dialogs, one of which begins like the other one.
fn folder_with_dialogs() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let picture = repository().join("examples/quickstart/images/oxford_pets");
    let picture = picture.read_dir().unwrap().next().unwrap().unwrap().path();
    std::fs::copy(picture, folder.path().join("a.jpg")).unwrap();
    for (split, count) in [("x", 2), ("x.y", 3)] {
        let turns = r#"[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]"#;
        let dialog = |number| format!(r#"{{"id": "{number}", "image": "a.jpg", "conversations": {turns}}}"#);
        let dialogs: Vec<String> = (0..count).map(dialog).collect();
        std::fs::write(folder.path().join(format!("{split}.json")), format!("[{}]", dialogs.join(","))).unwrap();
    }
    std::fs::write(folder.path().join("recipe.toml"), DIALOGS).unwrap();
    folder
}

#[test]
fn every_set_has_a_configuration_in_the_card_also_if_its_name_has_dots() {
    let folder = folder_with_dialogs();
    assert_eq!(run(load(folder.path(), &[]), &Wanted::all(), Arc::new(Silent)).unwrap(), Ending::Done);
    let card = std::fs::read_to_string(folder.path().join("run/instruct/README.md")).unwrap();
    let files_of = |name: &str| {
        let (_, behind) =
            card.split_once(&format!("config_name: {name}\n")).unwrap_or_else(|| panic!("{name}: {card}"));
        behind.split("config_name").next().unwrap().matches(".parquet").count()
    };
    assert_eq!((files_of("llava_json-x"), files_of("llava_json-x.y")), (1, 1));
}

/// 200 images with captions, of which there are only five, in parts of 50.
fn folder_with_duplicates() -> tempfile::TempDir {
    let folder = folder_with_recipe();
    let pairs = folder.path().join("pairs");
    for copy in 5..200 {
        std::fs::copy(pairs.join(format!("{:02}.jpg", copy % 5)), pairs.join(format!("{copy:02}.jpg"))).unwrap();
        std::fs::write(pairs.join(format!("{copy:02}.txt")), "a copy ".repeat(copy * 7 % 20)).unwrap();
    }
    folder
}

#[test]
fn duplicates_are_the_same_if_they_do_not_fit_into_memory() {
    let folder = folder_with_duplicates();
    let stages: [&dyn Stage; 4] = [&Download, &Signals, &Dedup, &Select];
    let found = |sets: &[&str]| {
        let sets: Vec<&str> = sets.iter().copied().chain(["download.rows_per_part=50"]).collect();
        run(load(folder.path(), &sets), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
        let golden = stages.map(|stage| Golden::read(folder.path(), stage, |part| Some(part.digest())));
        let duplicates = |part: u32| {
            let path = folder.path().join(format!("run/selection/clean/part-{part:05}.parquet"));
            let rows = table::read(&path, Some(&[DUPLICATE_OF.name])).unwrap();
            DUPLICATE_OF.of(&rows, &path).unwrap().iter().flatten().count()
        };
        let duplicates: usize = (0..4).map(duplicates).sum();
        std::fs::remove_dir_all(folder.path().join("run")).unwrap();
        (golden, duplicates)
    };
    // Without memory, the links of clusters, their pairs and the duplicates are on disk.
    let in_memory = found(&[]);
    assert_eq!(found(&["resources.memory_mb=0"]), in_memory);
    assert_eq!(in_memory.1, 195);
}

#[test]
fn conversations_are_out_of_date_if_the_limits_of_their_images_change() {
    let folder = folder_with_dialogs();
    run(load(folder.path(), &[]), &Wanted::only(&[&Instruct]), Arc::new(Silent)).unwrap();
    let mix = |sets: &[&str]| run(load(folder.path(), sets), &Wanted::only(&[&Mixture]), Arc::new(Silent));
    assert!(mix(&["download.max_pixels=1"]).unwrap_err().to_string().contains("out of date"));
    mix(&["download.size=32"]).unwrap();
}

#[test]
fn tasks_without_their_images_end_a_run_with_their_names_and_a_card() {
    let folder = folder_with_dialogs();
    std::fs::remove_file(folder.path().join("a.jpg")).unwrap();
    let ending = run(load(folder.path(), &[]), &Wanted::all(), Arc::new(Silent)).unwrap();
    assert_eq!(ending, Ending::TooManyLostRecords);
    assert!(folder.path().join("run/instruct/README.md").is_file());
}

#[test]
fn the_status_of_a_run_has_its_stages_rows_and_failed_rows() {
    let folder = folder_with_recipe();
    std::fs::write(folder.path().join("pairs/12.jpg"), "").unwrap();
    std::fs::write(folder.path().join("pairs/12.txt"), "an image that is empty").unwrap();
    let stages: [&dyn Stage; 5] = [&Download, &Signals, &Dedup, &Select, &Shards];
    run(load(folder.path(), &[]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    let root = folder.path().join("run");
    let found = status::status(&root).unwrap();
    let done = |name: &str| stages.iter().any(|stage| stage.name() == name);
    for stage in &found.stages {
        let expected = if done(&stage.name) { status::State::Complete } else { status::State::NotStarted };
        assert_eq!(stage.state, expected, "{}", stage.name);
    }
    assert_eq!(found.stages.iter().filter(|stage| done(&stage.name)).count(), stages.len());
    let (ok, empty) = (lynxdata_records::Status::Ok.name(), lynxdata_records::Status::EmptyBody.name());
    assert_eq!(found.download.by_status, BTreeMap::from([(ok.to_owned(), 12), (empty.to_owned(), 1)]));
    assert_eq!(found.selections["clean"].rejected_by[lynxdata_engine::select::DUPLICATE], 1);
    let mut failed = Vec::new();
    let mut take = |row: &status::FailedRow<'_>| {
        failed.push((row.row, row.status));
        Ok(())
    };
    status::failed_rows(&root, &mut take).unwrap();
    assert_eq!(failed, [(Some(12), empty)]);
}

#[test]
fn a_recipe_that_cannot_work_is_wrong_usage() {
    let folder = folder_with_recipe();
    let error = run(load(folder.path(), &["select.clean.rules.wide=widht > 60"]), &Wanted::all(), Arc::new(Silent))
        .unwrap_err();
    assert!(matches!(error, Failure::Usage(_)), "{error}");
    std::fs::write(folder.path().join("recipe.toml"), RECIPE.split("[check]").next().unwrap()).unwrap();
    for (stage, is_asked_for) in [(&Shards as &dyn Stage, true), (&Check, false)] {
        let answer = check_wanted(&load(folder.path(), &[]), &Wanted::only(&[stage]));
        assert_eq!(answer.is_ok(), is_asked_for, "{}", stage.name());
    }
}
