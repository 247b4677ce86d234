//! Tests of the commands in AGENTS.md and on the first page of the README, and of the statements
//! about them.
//!
//! Each line of a block of the kind `console` is run, in the order of the page, in a folder with
//! the inputs that the pages mention: a list, a task's files, two folders of images with texts. A
//! block of TOML whose first line is a comment with a file's name is that file.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::runs::bundled_pairs;
use crate::shell;
use crate::support::{files, lynxdata, repository};

/// A page, and the folder in which its lines are run.
struct Page {
    text: String,
    folder: tempfile::TempDir,
    proxy: String,
}

impl Page {
    fn open(text: String) -> Page {
        let folder = tempfile::tempdir().unwrap();
        write_inputs(folder.path());
        let proxy = shell::serve(folder.path());
        Page { text, folder, proxy }
    }

    /// Writes its files and runs its lines. Returns the number of lines.
    fn run(&self) -> usize {
        let mut lines = 0;
        for (kind, block) in blocks(&self.text) {
            let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
            if kind == "toml" && !name.is_empty() {
                let path = self.folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, block).unwrap();
            }
            for line in block.lines().filter(|_| kind == "console") {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("not a command: {line}"));
                let expected = command.split_once("# exit ").map_or(0, |(_, code)| code.trim().parse().unwrap());
                let output = shell::run(self.folder.path(), &self.proxy, command);
                assert_eq!(output.code, Some(expected), "{line}\n{output}");
                lines += 1;
            }
        }
        lines
    }
}

/// Returns the kinds and texts of the blocks of a page between lines of three backticks.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("\n```").skip(1).step_by(2);
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// Writes a list of 44 pairs, one of which is gone, a task's files, and two folders of the same
/// images: one with their captions and one with captions of other images.
fn write_inputs(folder: &Path) {
    let images = repository().join("examples/quickstart/images");
    std::os::unix::fs::symlink(&images, folder.join("pictures")).unwrap();
    let pairs = bundled_pairs();
    let some = pairs.iter().step_by(pairs.len() / 43).take(43);
    let rows = some.map(|pair| format!("http://pictures.example/{}\t{}\n", pair.path, pair.caption));
    let gone = "http://pictures.example/gone.png\ta picture that is gone\n".to_owned();
    let list: String = std::iter::once("url\tcaption\n".to_owned()).chain(rows).chain([gone]).collect();
    std::fs::write(folder.join("pairs.tsv"), list).unwrap();

    let task = repository().join("datasets/fixtures/vqav2");
    std::fs::create_dir(folder.join("vqav2")).unwrap();
    for name in files(&task) {
        std::fs::copy(task.join(&name), folder.join("vqav2").join(&name)).unwrap();
    }
    for arm in ["clean", "raw"] {
        std::fs::create_dir(folder.join(arm)).unwrap();
        for (number, pair) in pairs.iter().enumerate() {
            let suffix = pair.path.rsplit('.').next().unwrap();
            let caption = if arm == "clean" { &pair.caption } else { &pair.exchanged };
            let name = folder.join(arm).join(format!("{number:04}"));
            std::fs::copy(images.join(&pair.path), name.with_extension(suffix)).unwrap();
            std::fs::write(name.with_extension("txt"), caption).unwrap();
        }
    }
}

/// Returns the values at a path such as `stages[].name` or `selections.*.kept`; `None` if there are
/// none.
fn values<'a>(value: &'a Value, path: &str) -> Option<Vec<&'a Value>> {
    let mut found = vec![value];
    for step in path.replace("[]", ".[]").split('.').filter(|step| !step.is_empty()) {
        let next: Vec<&Value> = match step {
            "[]" => found.iter().filter_map(|value| value.as_array()).flatten().collect(),
            "*" => found.iter().filter_map(|value| value.as_object()).flat_map(serde_json::Map::values).collect(),
            key => found.iter().map(|value| value.get(key)).collect::<Option<_>>()?,
        };
        found = next;
        if found.is_empty() {
            return None;
        }
    }
    Some(found)
}

/// Returns the keys of the first level.
fn first_keys(value: &Value) -> BTreeSet<String> {
    let objects: Vec<&Value> = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
    objects.iter().filter_map(|value| value.as_object()).flat_map(|object| object.keys().cloned()).collect()
}

/// Returns the rows of the table of JSON: commands, and the keys that the page names.
fn table_of_json(page: &str) -> Vec<(&str, Vec<&str>)> {
    let rows = page.lines().filter(|line| line.starts_with("| `lynxdata "));
    let cells = rows.map(|row| {
        let (command, keys) = row.strip_prefix("| `").unwrap().split_once("` ").unwrap();
        let keys = keys.split_once("| ").unwrap().1;
        (command, keys.split('`').skip(1).step_by(2).collect())
    });
    cells.collect()
}

#[test]
fn what_agents_are_told_is_so() {
    let page = Page::open(std::fs::read_to_string(repository().join("AGENTS.md")).unwrap());
    assert!(page.run() > 20, "the blocks were not found");
    let table = table_of_json(&page.text);
    assert!(table.len() > 10, "the table was not found");
    for (command, keys) in table {
        let output = shell::run(page.folder.path(), &page.proxy, command);
        let first = output.stdout.lines().next().unwrap_or_else(|| panic!("{command} prints nothing: {output}"));
        let value: Value = serde_json::from_str(first).unwrap_or_else(|error| panic!("{command}: {error}: {output}"));
        for key in &keys {
            assert!(values(&value, key).is_some(), "{command}: there is no {key} in {value}");
        }
        let named = keys.iter().map(|key| key.trim_start_matches("[].").split(['.', '[']).next().unwrap().to_owned());
        assert_eq!(named.collect::<BTreeSet<_>>(), first_keys(&value), "{command}: keys of the first level");
    }
}

#[test]
fn agents_are_told_of_every_command_with_json() {
    let page = std::fs::read_to_string(repository().join("AGENTS.md")).unwrap();
    let (_, told) = page.split_once("## What `--json` prints").unwrap();
    for command in crate::snapshots::commands() {
        let help = lynxdata(&repository(), &[&["help"], &command[..]].concat()).ended_with(0).stdout;
        let name = command.join(" ");
        if help.contains("--json") {
            assert!(told.contains(&format!("`lynxdata {name} ")) || told.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[test]
fn the_first_minutes_of_the_readme_work() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## A minute for each use\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let page = Page::open(section.to_owned());
    assert!(page.run() >= 6, "the blocks were not found");
    let folder = page.folder.path();
    assert!(
        files(&folder.join("shards"))
            .iter()
            .any(|name| Path::new(name).extension().is_some_and(|suffix| suffix == "tar")),
        "{:?}",
        files(folder)
    );
    let conversations = std::fs::read_to_string(folder.join("vqa/instruct/llava/vqav2-train.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&conversations).unwrap().as_array().unwrap().len(), 3);
    let verdict = std::fs::read_to_string(folder.join("lynxdata-check/check/verdict.json")).unwrap();
    let verdict: Value = serde_json::from_str(&verdict).unwrap();
    assert_eq!(verdict["winner"], "clean", "the captions of raw are those of other pictures: {verdict}");
}

#[test]
fn a_path_leads_to_every_element() {
    let value = serde_json::json!({"a": [{"b": 1}, {"b": 2}], "c": {"x": {"d": 3}}, "e": []});
    let numbers = |path: &str| values(&value, path).map(|found| found.into_iter().cloned().collect::<Vec<_>>());
    assert_eq!(numbers("a[].b"), Some(vec![1.into(), 2.into()]));
    assert_eq!(numbers("c.*.d"), Some(vec![3.into()]));
    for nowhere in ["f", "a[].c", "e[]", "c.*.f"] {
        assert_eq!(numbers(nowhere), None, "{nowhere}");
    }
}
