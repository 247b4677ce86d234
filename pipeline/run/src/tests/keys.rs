//! Every key of a recipe, and the stage that a change of it makes anew.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::*;
use crate::recipe::Recipe;
use crate::stages::stages_of;

/// For each key, the first stage that makes a part anew if the key changes. `none` stands for keys
/// that change no part except the report, which shows the recipe.
const KEYS: &str = include_str!("../../golden/keys.toml");

/// A small recipe with every section, and with every form that an element of a list may have.
const WHOLE: &str = r#"
name = "small"
seed = 7
output = "run"

[source]
path = "list.csv"
caption = "text"
image = "file_name"

[download]
size = 64
rows_per_part = 5

[select.clean]
preset = "lynx-clean"
without = ["no_links"]
rules.tall = "height >= 50"

[select.every]
deduplicate = false

[shards]
selection = "clean"
rows_per_shard = 4

[instruct]
formats = ["llava", "parquet"]
tasks = [{ name = "own", root = "vqav2", images = "vqav2", split = "train" }]
require_images = false
catalogue = "catalogue"
decontaminate = { against = ["benchmark.jsonl"] }
mixture = { total = 4, groups = [{ name = "all", weight = 1.0, tasks = ["own"] }] }

[check]
arms = ["clean", { name = "other", selection = "clean", captions = "other" }, { name = "folder", path = "pairs" }]
gear = "lynx"
device = "cpu"

[training]
data = "pairs"
held_out = 5
device = "cpu"
tokenizer.vocabulary = 320
model = { image_size = 16, decoder_depth = 1, sight = "pixels" }
train = { steps = 2 }
"#;

/// What the table says about a key.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Row {
    /// The stage, for a key of which the schema tells another value.
    Stage(String),
    /// The stage, with another value of the key and what else has to change with it.
    Tried {
        value: Value,
        stage: String,
        #[serde(default)]
        with: Table,
        #[serde(default)]
        without: Vec<String>,
    },
    /// The reason why no other value is tried.
    Untried { untried: String },
}

/// Writes the files that the recipe and the values of the table name.
fn folder_with_whole_recipe() -> tempfile::TempDir {
    let folder = folder_with_recipe();
    let at = |name: &str| folder.path().join(name);
    let read = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::write(at(name), text).unwrap();
    };
    write("recipe.toml", WHOLE);
    let rows: Vec<String> = (0..12)
        .map(|row| format!("pairs/{row:02}.jpg,pairs/{:02}.jpg,a picture of a pet,the pet {row}\n", 11 - row))
        .collect();
    let list = format!("file_name,other_file_name,text,other\n{}", rows.concat());
    write("list.csv", &list);
    write("shorter.csv", &list.replace(&rows[3], ""));
    for name in ["00.jpg", "00.txt", "01.jpg", "01.txt"] {
        std::fs::create_dir_all(at("few")).unwrap();
        std::fs::copy(at("pairs").join(name), at("few").join(name)).unwrap();
    }
    let question = r#"{"question": "What is this?", "answers": ["net"], "image": "COCO_val2014_000000000009.jpg"}"#;
    write("benchmark.jsonl", question);
    write("other.jsonl", question);
    let own = read("datasets/tasks/vqa/vqav2.toml").replace("name = \"vqav2\"", "name = \"own\"");
    write("catalogue/own.toml", &own);
    write("catalogue/second.toml", &own.replace("name = \"own\"", "name = \"second\""));
    write("other_catalogue/own.toml", &own.replace("Flickr terms of use", "other terms"));
    write("banks/vqa.toml", &read("prompts/banks/vqa.toml").replace("Keep the answer short.", "Be short."));
    write("ca.pem", &read("pipeline/fetch/fixtures/tls/ca.pem"));
    for kind in ["OpenEnded_mscoco_train2014_questions", "mscoco_train2014_annotations"] {
        let text = std::fs::read_to_string(at(&format!("vqav2/v2_{kind}.json"))).unwrap();
        write(&format!("vqav2/v2_{}.json", kind.replace("train", "val")), &text);
        write(&format!("other_vqav2/v2_{kind}.json"), &format!("{text}\n"));
    }
    folder
}

/// The keys of a schema, found in a recipe that has every section.
struct Keys<'a> {
    definitions: &'a Json,
    /// The path of each key with the schemas that its value may have.
    found: BTreeMap<String, Vec<&'a Json>>,
    /// The definitions whose keys were found.
    visited: BTreeSet<&'a str>,
}

impl<'a> Keys<'a> {
    /// Returns the schemas that a value may have, each with the name of its definition.
    fn alternatives(&self, schema: &'a Json) -> Vec<(Option<&'a str>, &'a Json)> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/")) {
            let inner = self.alternatives(&self.definitions[name]).into_iter();
            return inner.map(|(own, schema)| (own.or(Some(name)), schema)).collect();
        }
        let several = ["allOf", "anyOf", "oneOf"].into_iter().find_map(|key| schema[key].as_array());
        match several {
            Some(several) => several.iter().flat_map(|schema| self.alternatives(schema)).collect(),
            None => vec![(None, schema)],
        }
    }

    /// Adds the keys below a value: of a table, of the elements of a list, or itself.
    fn add(&mut self, path: String, value: Option<&Value>, schema: &'a Json) {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        let alternatives = self.alternatives(schema);
        for (name, schema) in &alternatives {
            let properties = schema["properties"].as_object();
            match value {
                Some(Value::Table(table)) => {
                    if let Some(properties) = properties.filter(|own| table.keys().all(|key| own.contains_key(key))) {
                        self.visited.extend(name);
                        properties.iter().for_each(|(key, schema)| self.add(below(key), table.get(key), schema));
                        return;
                    }
                    // All entries of a table without fixed keys have the same keys.
                    if let Some((key, value)) = table.iter().find(|(_, value)| value.is_table()) {
                        return self.add(below(key), Some(value), &schema["additionalProperties"]);
                    }
                }
                Some(Value::Array(list)) if list.iter().any(Value::is_table) => {
                    let schema = &schema["items"];
                    let elements = list.iter().enumerate();
                    elements.for_each(|(place, value)| self.add(below(&place.to_string()), Some(value), schema));
                    return;
                }
                _ => {}
            }
        }
        self.found.insert(path, alternatives.into_iter().map(|(_, schema)| schema).collect());
    }
}

/// Returns another value, if the value and its schemas tell one.
fn other(value: Option<&Value>, schemas: &[&Json]) -> Option<Value> {
    match value? {
        Value::Boolean(is) => Some((!is).into()),
        Value::Integer(number) => Some((number + 1).into()),
        Value::Float(number) => Some((number / 2.0 + 0.25).into()),
        Value::String(text) => {
            let named = |schema: &&Json| match &schema["enum"] {
                Json::Array(names) => names.clone(),
                _ => vec![schema["const"].clone()],
            };
            let mut names = schemas.iter().flat_map(named);
            names.find_map(|name| name.as_str().filter(|name| name != text).map(Value::from))
        }
        _ => None,
    }
}

/// Returns the table or list that holds a key, and the last part of its path.
fn holder<'a, 'b>(recipe: &'a mut Value, path: &'b str) -> Option<(&'a mut Value, &'b str)> {
    let Some((above, last)) = path.rsplit_once('.') else { return Some((recipe, path)) };
    let holder = above.split('.').try_fold(recipe, |place, part| match place {
        Value::Array(list) => list.get_mut(part.parse::<usize>().ok()?),
        place => place.get_mut(part),
    });
    Some((holder?, last))
}

fn set(recipe: &mut Value, path: &str, value: Value) {
    match holder(recipe, path) {
        Some((Value::Table(table), key)) => drop(table.insert(key.to_owned(), value)),
        Some((Value::Array(list), place)) => list[place.parse::<usize>().unwrap()] = value,
        _ => panic!("the recipe has no place for {path}"),
    }
}

fn value_at<'a>(recipe: &'a mut Value, path: &str) -> Option<&'a Value> {
    let (holder, key) = holder(recipe, path)?;
    match holder {
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        holder => holder.get(key),
    }
}

/// Returns the first stage of which a run would make or remove a part. Completes the stages before
/// it, as the run would.
fn first_made(context: &Context, is_of_report: bool) -> Result<String> {
    for stage in stages_of(context.recipe()).filter(|stage| is_of_report || stage.name() != "report") {
        let planned = stage.parts(context)?.collect::<Result<Vec<_>>>()?;
        let mut names: Vec<String> = planned.iter().map(|part| part.name.clone()).collect();
        let is_there =
            |part: &stage::Planned| context.run.committed(stage.name(), &part.name, &part.fingerprint).is_some();
        if !planned.iter().all(is_there) || names.len() != context.run.manifest().parts(stage.name()).count() {
            return Ok(stage.name().to_owned());
        }
        if !context.is_current(stage)? {
            context.complete(stage, std::mem::take(&mut names))?;
        }
    }
    Ok("none".to_owned())
}

#[test]
fn every_key_makes_the_stage_anew_that_the_table_says() {
    let folder = folder_with_whole_recipe();
    let base = load(folder.path(), &[]);
    run(base.clone(), &Wanted::all(), Arc::new(Silent)).unwrap();
    base.tasks().unwrap();

    let schema = recipe::schema();
    let mut resolved = Value::try_from(&base.recipe).unwrap();
    let mut keys = Keys { definitions: &schema["definitions"], found: BTreeMap::new(), visited: BTreeSet::new() };
    keys.add(String::new(), Some(&resolved), &schema);
    let definitions = schema["definitions"].as_object().unwrap();
    let with_keys = definitions.iter().filter(|(_, schema)| schema["properties"].is_object());
    let unvisited: Vec<&String> =
        with_keys.map(|(name, _)| name).filter(|name| !keys.visited.contains(name.as_str())).collect();
    assert!(unvisited.is_empty(), "the recipe of this test has no {unvisited:?}");

    let mut rows: BTreeMap<String, Row> = toml::from_str(KEYS).unwrap();
    let session = lynxdata_engine::session::local();
    let mut wrong = Vec::new();
    for (key, schemas) in &keys.found {
        let (value, with, without, stage) = match rows.remove(key) {
            Some(Row::Stage(stage)) => (None, Table::new(), Vec::new(), stage),
            Some(Row::Tried { value, stage, with, without }) => (Some(value), with, without, stage),
            Some(Row::Untried { untried }) if !untried.is_empty() => continue,
            Some(Row::Untried { .. }) | None => (None, Table::new(), Vec::new(), "a row".to_owned()),
        };
        let Some(value) = value.or_else(|| other(value_at(&mut resolved, key), schemas)) else {
            wrong.push(format!("{key}: the row needs another value than {:?}", value_at(&mut resolved, key)));
            continue;
        };
        let mut changed = resolved.clone();
        for path in without {
            let (holder, name) = holder(&mut changed, &path).unwrap();
            holder.as_table_mut().unwrap().remove(&name.to_owned());
        }
        set(&mut changed, key, value);
        with.into_iter().for_each(|(path, value)| set(&mut changed, &path, value));
        let made = || -> Result<String> {
            let path = folder.path().join("changed.toml");
            std::fs::write(&path, toml::to_string(&changed)?)?;
            let mut loaded = recipe::load(&path, &[])?;
            let of_tasks = |recipe: &Recipe| {
                let instruct = recipe.instruct.as_ref();
                instruct.map(|instruct| (instruct.catalogue.clone(), instruct.banks.clone()))
            };
            if of_tasks(&loaded.recipe) == of_tasks(&base.recipe) {
                // The tasks are read once, because that takes long.
                let recipe = std::mem::replace(&mut loaded, base.clone()).recipe;
                loaded.recipe = recipe;
            }
            let mut context = Context::new(loaded, session.clone(), Arc::new(Silent))?;
            context.replaces = true;
            first_made(&context, key.starts_with("report."))
        };
        match made() {
            Ok(made) if made == stage => {}
            Ok(made) => wrong.push(format!("\"{key}\" = \"{made}\" # the table says {stage}")),
            Err(error) => wrong.push(format!("{key}: {error:#}")),
        }
    }
    wrong.extend(rows.into_keys().map(|key| format!("{key}: there is no such key")));
    assert!(wrong.is_empty(), "golden/keys.toml says something else:\n{}", wrong.join("\n"));
}
