//! Every key of a recipe is either known to decide nothing that is made, or makes parts anew.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use toml::Value;

use super::*;
use crate::stages::arms::Examples;
use crate::stages::report::Report;

/// A key, another value than that of the recipe, and the first stage whose parts it makes anew, or
/// `""` if there is none. `[]` is the first item of a list, and `*` the first key of a table.
const KEYS: &[(&str, &str, &str)] = &[
    ("name", "'other'", "shards"),
    ("seed", "8", "instruct"),
    ("source.path", "'others'", "download"),
    ("download.allow_private_addresses", "true", "download"),
    ("download.blur_boxes", "'boxes'", "download"),
    ("download.check", "'structure'", "download"),
    ("download.concurrency", "3", ""),
    ("download.dns_servers.[]", "'127.0.0.1'", ""),
    ("download.dns_timeout_seconds", "9.5", ""),
    ("download.encode", "'png'", "download"),
    ("download.host_failure_limit", "3", ""),
    ("download.max_area", "9000000", "download"),
    ("download.max_aspect_ratio", "2.5", "download"),
    ("download.max_bytes", "999999", "download"),
    ("download.max_bytes_in_flight", "99999999", ""),
    ("download.max_failed_fraction", "0.125", ""),
    ("download.max_pixels", "9000000", "download"),
    ("download.min_bytes_per_second", "7", ""),
    ("download.min_side", "9", "download"),
    ("download.only_if_larger", "false", "download"),
    ("download.opt_out_directives.[]", "'noindex'", "download"),
    ("download.proxy", "'http://127.0.0.1:1'", ""),
    ("download.quality", "71", "download"),
    ("download.requests_per_host", "3", ""),
    ("download.requests_per_second_per_host", "3.5", ""),
    ("download.resize", "'border'", "download"),
    ("download.retries", "7", ""),
    ("download.robots_txt", "false", "download"),
    ("download.rows_per_part", "6", "download"),
    ("download.size", "32", "download"),
    ("download.timeout_seconds", "7.5", ""),
    ("download.user_agent", "'somebody'", ""),
    ("download.verify_hash", "false", "download"),
    ("dedup.exact", "false", "dedup"),
    ("dedup.keep", "'first'", "select"),
    ("dedup.phash_distance", "5", "dedup"),
    ("dedup.phash_min_entropy", "3.5", "dedup"),
    ("dedup.url", "false", "dedup"),
    ("select.*.deduplicate", "false", "select"),
    ("select.*.preset", "'lynx-clean'", "select"),
    ("select.*.rules.*", "'height >= 51'", "select"),
    ("shards.formats.[]", "'webdataset'", "shards"),
    ("shards.rows_per_shard", "5", "shards"),
    ("shards.selection", "'all'", "shards"),
    ("instruct.banks", "'folder'", ""),
    ("instruct.catalogue", "'folder'", ""),
    ("instruct.decontaminate.against.[]", "'file'", "instruct"),
    ("instruct.decontaminate.drop.[]", "'image_hash'", "instruct"),
    ("instruct.decontaminate.hash_distance", "3", "instruct"),
    ("instruct.decontaminate.held_out_splits", "false", "instruct"),
    ("instruct.decontaminate.images", "'folder'", "instruct"),
    ("instruct.decontaminate.words", "9", "instruct"),
    ("instruct.formats.[]", "'sharegpt'", "instruct"),
    ("instruct.frames", "5", "instruct"),
    ("instruct.language", "'de'", "instruct"),
    ("instruct.licence", "'commercial'", ""),
    ("instruct.lower_case", "true", "instruct"),
    ("instruct.negatives.none_of_the_above", "0.5", "instruct"),
    ("instruct.negatives.unanswerable", "0.5", "instruct"),
    ("instruct.pack_dialogs", "3", "instruct"),
    ("instruct.prompts", "'one'", "instruct"),
    ("instruct.require_images", "true", "instruct"),
    ("instruct.rows_per_part", "49999", "instruct"),
    ("instruct.tasks.[].images", "'folder'", "instruct"),
    ("instruct.tasks.[].may_drop", "0.75", ""),
    ("instruct.tasks.[].most", "3", "instruct"),
    ("instruct.tasks.[].name", "'okvqa'", "instruct"),
    ("instruct.tasks.[].root", "'folder'", "instruct"),
    ("instruct.tasks.[].split", "'val'", "instruct"),
    ("instruct.mixture", "{ total = 5 }", "mixture"),
    ("check.alpha", "0.125", "check"),
    ("check.arms.[]", "'all'", "arms"),
    ("check.device", "'auto'", ""),
    ("check.evaluate_on", "'others'", "arms"),
    ("check.fewest_held_out", "7", "check"),
    ("check.fewest_pairs", "7", "check"),
    ("check.gear", "'lynx'", "train"),
    ("check.held_out_fraction", "0.25", "check"),
    ("check.held_out_most", "7", "arms"),
    ("check.held_out_where", "'height > 3'", "arms"),
    ("check.looks.[]", "8", ""),
    ("check.margin_percent", "7.5", "check"),
    ("check.members", "3", "train"),
    ("check.model", "{ latents = 3 }", "train"),
    ("check.most_epochs", "3.5", "train"),
    ("check.most_pairs", "7", "arms"),
    ("check.pretrained.*", "'file'", "train"),
    ("check.replicates", "9", "check"),
    ("check.second_learning_rate", "0.125", "train"),
    ("check.threads", "1", ""),
    ("check.tokenizer", "{ vocabulary = 333 }", "train"),
    ("check.train", "{ steps = 9 }", "train"),
    ("training.data", "'others'", "examples"),
    ("training.device", "'auto'", ""),
    ("training.held_out", "3", "model"),
    ("training.model", "{ latents = 3, sight = 'pixels' }", "model"),
    ("training.most_examples", "7", "examples"),
    ("training.pretrained.*", "'file'", "model"),
    ("training.start", "'folder'", "model"),
    ("training.tokenizer", "{ vocabulary = 333 }", "model"),
    ("training.train", "{ steps = 9 }", "model"),
    ("report.clusters", "3", ""),
    ("report.samples", "3", ""),
    ("resources.memory_mb", "333", ""),
];

/// Keys that are not tried, and why.
const NOT_TRIED: &[(&str, &str)] = &[
    ("output", "it names the run folder"),
    ("source.caption", "fingerprints cover the rows that are read"),
    ("source.follow_links", "the same"),
    ("source.format", "the same"),
    ("source.header", "the same"),
    ("source.image", "the same"),
    ("source.path.[]", "the same"),
    ("source.url", "the same"),
    ("download.ca_file", "the file must hold certificates"),
    ("download.format", "the stages of this recipe read only Parquet"),
    ("select.*.without.[]", "fingerprints cover the rules that are left"),
    ("check.question", "the gear of this recipe has one question"),
    ("check.arms.[].captions", "fingerprints cover the arms as they are"),
    ("check.arms.[].name", "the same"),
    ("check.arms.[].path", "the same"),
    ("check.arms.[].selection", "the same"),
];

/// Sections that are part of fingerprints as they are: one key of each is enough.
const WHOLE: &[&str] = &[
    "check.model",
    "check.tokenizer",
    "check.train",
    "instruct.mixture",
    "training.model",
    "training.tokenizer",
    "training.train",
];

/// Keys that the recipe of this test has in addition to those of the small run.
const MORE: &str = r#"
[select.all]

[instruct.decontaminate]
against = ["benchmark.jsonl"]

[training]
data = "pairs"
held_out = 2
device = "cpu"
model = { sight = "pixels" }
"#;

/// Adds the keys of a part of the schema; `path` are the keys that lead to it.
fn add_keys(schema: &Json, part: &Json, path: &str, keys: &mut BTreeSet<String>) {
    if WHOLE.contains(&path) {
        keys.insert(path.to_owned());
        return;
    }
    if let Some(name) = part["$ref"].as_str().and_then(|place| place.rsplit('/').next()) {
        return add_keys(schema, &schema["definitions"][name], path, keys);
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let alternatives = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| part[key].as_array()).flatten();
    let mut parts: Vec<(String, &Json)> = alternatives.map(|part| (path.to_owned(), part)).collect();
    parts.extend(part["properties"].as_object().into_iter().flatten().map(|(name, part)| (join(name), part)));
    let items = [("items", "[]"), ("additionalProperties", "*")];
    parts.extend(items.iter().filter(|(key, _)| part[key].is_object()).map(|(key, name)| (join(name), &part[key])));
    if parts.is_empty() && part["type"] != "null" {
        keys.insert(path.to_owned());
    }
    for (path, part) in parts {
        add_keys(schema, part, &path, keys);
    }
}

/// Sets a key, whose path is written as in [`KEYS`].
fn set(value: &mut Value, path: &str, new: &Value) {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    if key == "[]" && !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    let place = match value {
        Value::Array(items) => {
            if items.is_empty() {
                items.push(Value::Boolean(false));
            }
            &mut items[0]
        }
        Value::Table(table) => {
            let first = table.keys().next().map_or("decoder", String::as_str);
            let name = if key == "*" { first.to_owned() } else { key.to_owned() };
            table.entry(name).or_insert_with(|| Value::Table(toml::Table::new()))
        }
        _ => panic!("{path} does not exist"),
    };
    if rest.is_empty() { *place = new.clone() } else { set(place, rest, new) }
}

fn parsed(text: &str) -> Value {
    toml::from_str::<toml::Table>(&format!("value = {text}")).unwrap().remove("value").unwrap()
}

/// The names and fingerprints of the parts of a stage.
type Prints = (&'static str, Vec<(String, String)>);

/// Returns the fingerprints of the parts of every stage whose inputs are there.
fn prints(folder: &Path, recipe: &Value) -> Result<Vec<Prints>, String> {
    std::fs::write(folder.join("recipe.toml"), toml::to_string(recipe).unwrap()).unwrap();
    let session = lynxdata_engine::session::local();
    let loaded = recipe::load(&folder.join("recipe.toml"), &[]).map_err(|error| format!("{error:#}"))?;
    let context = Context::inspecting(loaded, session, Arc::new(Silent)).unwrap();
    let is_ready = |stage: &&dyn Stage| {
        stage.name() != Report.name()
            && stage.reads(context.recipe()).iter().all(|input| context.is_current(*input).unwrap())
    };
    let print_of = |stage: &dyn Stage| {
        let parts = stage.parts(&context).and_then(|parts| {
            parts.map(|part| part.map(|part| (part.name, part.fingerprint))).collect::<Result<Vec<_>>>()
        });
        // Settings that cannot work are another input too.
        (stage.name(), parts.unwrap_or_else(|error| vec![("error".to_owned(), format!("{error:#}"))]))
    };
    Ok(stages::stages_of(context.recipe()).filter(is_ready).map(print_of).collect())
}

#[test]
fn every_key_makes_parts_anew_or_is_known_to_decide_nothing() {
    let schema = recipe::schema();
    let mut keys = BTreeSet::new();
    add_keys(&schema, &schema, "", &mut keys);
    let known = KEYS.iter().map(|(key, ..)| *key).chain(NOT_TRIED.iter().map(|(key, _)| *key));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    let unknown: Vec<_> = keys.symmetric_difference(&known).collect();
    assert!(unknown.is_empty(), "in the schema or in this test, not in both: {unknown:?}");

    let folder = folder_with_recipe();
    let folder = folder.path();
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::fs::create_dir(folder.join("others")).unwrap();
    for name in ["00.jpg", "00.txt", "01.jpg", "01.txt"] {
        std::fs::copy(folder.join("pairs").join(name), folder.join("others").join(name)).unwrap();
    }
    std::fs::write(folder.join("file"), "{}\n").unwrap();
    std::fs::write(
        folder.join("benchmark.jsonl"),
        r#"{"question": "Is the sky in this picture as blue as the sea?", "answers": ["yes"]}"#,
    )
    .unwrap();
    let quick: Value = toml::from_str(&(RECIPE.to_owned() + MORE)).unwrap();
    std::fs::write(folder.join("recipe.toml"), toml::to_string(&quick).unwrap()).unwrap();
    let stages: [&dyn Stage; 9] =
        [&Download, &Signals, &Dedup, &Select, &Shards, &Instruct, &Mixture, &Arms, &Examples];
    run(load(folder, &[]), &Wanted::only(&stages), Arc::new(Silent)).unwrap();
    // The keys of the gear `lynx` decide nothing of a quick check.
    let mut lynx = quick.clone();
    set(&mut lynx, "check.gear", &parsed("'lynx'"));
    set(&mut lynx, "check.device", &parsed("'cpu'"));
    let bases = [quick, lynx].map(|base| (prints(folder, &base).unwrap(), base));
    let mut faults = Vec::new();
    for (key, new, expected) in KEYS {
        let mut first = "";
        // Only the keys of a check may decide something of the second recipe alone.
        let tried = if key.starts_with("check.") { &bases[..] } else { &bases[..1] };
        for (before, base) in tried {
            let mut changed = base.clone();
            set(&mut changed, key, &parsed(new));
            match prints(folder, &changed) {
                Ok(after) if first.is_empty() => {
                    let differing = after.iter().find(|after| before.iter().all(|before| before != *after));
                    first = differing.map_or("", |(stage, _)| *stage);
                }
                Ok(_) => {}
                Err(fault) => faults.push(format!("{key}: {fault}")),
            }
        }
        if first != *expected {
            faults.push(format!("{key} makes {first:?} anew, not {expected:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
