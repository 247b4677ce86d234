//! The catalogue: every task file, shipped or the user's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};
use toml::{Table, Value};

use crate::task::Task;
use crate::{Error, Result};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/tasks");

/// Bases that extend each other deeper than this are taken for a circle.
const DEPTH: usize = 8;

/// All tasks by name.
#[derive(Debug)]
pub struct Catalogue {
    tasks: BTreeMap<String, Task>,
    /// File and contents of every task file by its stem, for `extends`.
    sources: BTreeMap<String, (String, Table)>,
}

impl Catalogue {
    /// The tasks that are part of this crate.
    ///
    /// # Errors
    /// None with the shipped files, which a test loads.
    pub fn shipped() -> Result<Self> {
        let mut files = Vec::new();
        collect(&SHIPPED, &mut files)?;
        Self { tasks: BTreeMap::new(), sources: BTreeMap::new() }.with_files(files)
    }

    /// Adds the `*.toml` files of a folder and its subfolders. They may extend shipped tasks, but not replace them. A file whose name starts with `_` is
    /// a base for others and no task.
    ///
    /// # Errors
    /// If the folder or a file cannot be read, a task is faulty, or its name is taken.
    pub fn with_folder(self, folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let fault = |source| Error::Io { path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(fault)? {
                let path = entry.map_err(fault)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "toml") {
                    let contents =
                        fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
                    files.push((path.display().to_string(), contents));
                }
            }
        }
        files.sort();
        self.with_files(files)
    }

    fn with_files(mut self, files: Vec<(String, String)>) -> Result<Self> {
        let mut new = Vec::new();
        for (file, contents) in files {
            let fault = |reason: String| Error::TaskFile { file: file.clone(), reason };
            let contents: Table = toml::from_str(&contents).map_err(|reason| fault(reason.to_string()))?;
            let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            if let Some((other, _)) = self.sources.get(&stem) {
                return Err(fault(format!(
                    "the name `{stem}` is taken by {other}; choose another (it may extend that one)"
                )));
            }
            self.sources.insert(stem.clone(), (file, contents));
            new.push(stem);
        }
        for stem in new {
            if stem.starts_with('_') {
                continue;
            }
            let file = self.sources[&stem].0.clone();
            let task = Task::compile(&file, self.resolved(&stem, DEPTH)?)?;
            if task.name != stem {
                let reason = format!("its name is `{}`; call the file {}.toml", task.name, task.name);
                return Err(Error::TaskFile { file, reason });
            }
            self.tasks.insert(stem, task);
        }
        Ok(self)
    }

    /// The contents of a task file over those of the file that it extends.
    fn resolved(&self, stem: &str, depth: usize) -> Result<Table> {
        let (file, contents) = &self.sources[stem];
        let mut own = contents.clone();
        let Some(base) = own.remove("extends") else { return Ok(own) };
        let fault = |reason: String| Error::TaskFile { file: file.clone(), reason };
        let Some(base) = base.as_str() else {
            return Err(fault("extends: must be the name of a task or base".to_owned()));
        };
        if !self.sources.contains_key(base) {
            let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
            return Err(fault(format!("extends: there is no `{base}`, only {}", known.join(", "))));
        }
        if depth == 0 {
            return Err(fault(format!("extends: `{base}` leads in a circle")));
        }
        let mut merged = self.resolved(base, depth - 1)?;
        merge(&mut merged, own);
        Ok(merged)
    }

    /// The task of this name.
    ///
    /// # Errors
    /// If there is none; the message lists the names.
    pub fn get(&self, name: &str) -> Result<&Task> {
        self.tasks
            .get(name)
            .ok_or_else(|| Error::UnknownTask { name: name.to_owned(), known: self.tasks.keys().cloned().collect() })
    }

    /// All tasks in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }
}

/// Puts `own` over `base`: tables merge key by key, everything else is replaced.
fn merge(base: &mut Table, own: Table) {
    for (key, value) in own {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(own)) => merge(base, own),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn collect(folder: &Dir<'_>, files: &mut Vec<(String, String)>) -> Result<()> {
    for file in folder.files() {
        let name = file.path().display().to_string();
        let Some(contents) = file.contents_utf8() else {
            return Err(Error::TaskFile { file: name, reason: "it is not UTF-8".to_owned() });
        };
        files.push((name, contents.to_owned()));
    }
    for folder in folder.dirs() {
        collect(folder, files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lynxdata_prompts::Banks;

    use super::*;

    fn here() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_folders_are_the_catalogue_and_every_task_has_a_fixture() {
        let mut found = Vec::new();
        for family in fs::read_dir(here().join("tasks")).unwrap() {
            let family = family.unwrap();
            for file in fs::read_dir(family.path()).unwrap() {
                let stem = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
                found.push((stem, family.file_name().into_string().unwrap()));
            }
        }
        found.sort();
        let catalogue = Catalogue::shipped().unwrap();
        let shipped: Vec<(String, String)> =
            catalogue.tasks().map(|task| (task.name.clone(), task.family.name().to_owned())).collect();
        assert_eq!(found, shipped);
        let mut fixtures: Vec<String> = fs::read_dir(here().join("fixtures"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        fixtures.sort();
        let names: Vec<&str> = catalogue.tasks().map(|task| task.name.as_str()).collect();
        assert_eq!(fixtures, names);
    }

    #[test]
    fn every_task_is_documented_and_its_bank_fits() {
        // Annotations under other licences need a decision first: non-commercial ones must not slip in.
        let licences = ["Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0"];
        let banks = Banks::shipped().unwrap();
        for task in Catalogue::shipped().unwrap().tasks() {
            assert!(licences.contains(&task.licence.as_str()), "{}: {}", task.name, task.licence);
            assert!(task.source.starts_with("https://"), "{}", task.name);
            assert!(task.cite.starts_with("arXiv:") || task.cite.starts_with("doi:"), "{}", task.name);
            assert!(task.splits.values().all(|&records| records > 0), "{}", task.name);
            crate::build::check_bank(task, banks.get(&task.prompts).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_folder_adds_tasks_that_extend_shipped_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("vqa")).unwrap();
        let task =
            "extends = \"_base\"\nname = \"okvqa\"\n[tables.a]\nfile = \"mscoco_{split}2014_annotations.json\"\n";
        fs::write(folder.path().join("vqa/okvqa.toml"), task).unwrap();
        let base = "extends = \"vqav2\"\n[tables.q]\nfile = \"OpenEnded_mscoco_{split}2014_questions.json\"\n";
        fs::write(folder.path().join("_base.toml"), base).unwrap();
        let catalogue = Catalogue::shipped().unwrap().with_folder(folder.path()).unwrap();
        let (own, shipped) = (catalogue.get("okvqa").unwrap(), catalogue.get("vqav2").unwrap());
        assert_eq!(own.primary.1.file, "OpenEnded_mscoco_{split}2014_questions.json");
        assert_eq!(own.joins[0].table.file, "mscoco_{split}2014_annotations.json");
        assert_eq!(own.primary.1.at, shipped.primary.1.at);
        assert!(catalogue.get("_base").is_err());
    }

    fn fault(name: &str, contents: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), contents).unwrap();
        Catalogue::shipped().unwrap().with_folder(folder.path()).unwrap_err().to_string()
    }

    #[test]
    fn faulty_files_are_named() {
        assert!(fault("vqav2.toml", "").contains("`vqav2` is taken by vqa/vqav2.toml"));
        assert!(fault("own.toml", "extends = \"vqav2\"\nname = \"other\"").contains("call the file other.toml"));
        assert!(fault("own.toml", "extends = \"vqav3\"").contains("there is no `vqav3`, only aokvqa"));
        assert!(fault("own.toml", "extends = \"own\"").contains("leads in a circle"));
        assert!(fault("own.toml", "name = ").contains("own.toml"));
        let unknown = Catalogue::shipped().unwrap().get("vqa2").unwrap_err().to_string();
        assert!(unknown.contains("the tasks are aokvqa, coco_caption"), "{unknown}");
    }
}
