//! The catalogue: all task files, both shipped ones and those of the user.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};
use lynxdata_prompts::Banks;
use toml::{Table, Value};

use crate::build::Conversation;
use crate::task::Task;
use crate::{Error, Result};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/tasks");

/// A longer chain of `extends` is treated as a cycle.
const DEPTH: usize = 8;

/// All tasks by name.
#[derive(Debug)]
pub struct Catalogue {
    tasks: BTreeMap<String, Task>,
    /// The tasks that cannot be used, and why.
    faulty: Vec<FaultyTask>,
    /// File and contents of every task file by its stem, for `extends`.
    sources: BTreeMap<String, (String, Table)>,
}

/// A task file that cannot be used. Other tasks are not affected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultyTask {
    /// The name that the task would have.
    pub name: String,
    /// The file.
    pub file: String,
    /// The fault in it.
    pub reason: String,
}

impl FaultyTask {
    fn new(name: &str, file: &str, error: Error) -> Self {
        let reason = match error {
            Error::TaskFile { reason, .. } => reason,
            other => other.to_string(),
        };
        Self { name: name.to_owned(), file: file.to_owned(), reason }
    }

    /// Returns it as an error.
    pub fn error(&self) -> Error {
        Error::TaskFile { file: self.file.clone(), reason: self.reason.clone() }
    }
}

/// A conversation of each shipped task, one per line.
const EXAMPLES: &str = include_str!("../examples.jsonl");

/// Returns a conversation of a shipped task, made from its fixture.
pub fn example(task: &str) -> Option<Conversation> {
    let mut all = EXAMPLES.lines().filter_map(|line| serde_json::from_str::<Conversation>(line).ok());
    all.find(|conversation| conversation.task == task)
}

impl Catalogue {
    /// Loads the tasks of this crate, and checks that the banks have wordings for them.
    ///
    /// # Errors
    /// Never with the shipped files, which a test loads.
    pub fn shipped(banks: &Banks) -> Result<Self> {
        let mut files = Vec::new();
        collect(&SHIPPED, &mut files)?;
        Ok(Self { tasks: BTreeMap::new(), faulty: Vec::new(), sources: BTreeMap::new() }.with_files(files, banks))
    }

    /// Adds the `*.toml` files of a folder and its subfolders. They may extend shipped tasks, but
    /// not replace them. A file whose name starts with `_` is a base for others and not a task.
    /// [`Catalogue::faulty`] returns invalid files.
    ///
    /// # Errors
    /// If the folder or a file cannot be read.
    pub fn with_folder(self, folder: &Path, banks: &Banks) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            let fault = |source| Error::Io { action: "read", path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(fault)? {
                let path = entry.map_err(fault)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "toml") {
                    let contents =
                        fs::read(&path).map_err(|source| Error::Io { action: "read", path: path.clone(), source })?;
                    files.push((path.display().to_string(), contents));
                }
            }
        }
        files.sort();
        Ok(self.with_files(files, banks))
    }

    fn with_files(mut self, files: Vec<(String, Vec<u8>)>, banks: &Banks) -> Self {
        let mut new = Vec::new();
        for (file, contents) in files {
            let stem = Path::new(&file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
            match self.source(&stem, &file, contents) {
                Ok(contents) => {
                    self.sources.insert(stem.clone(), (file, contents));
                    new.push(stem);
                }
                Err(error) => self.faulty.push(FaultyTask::new(&stem, &file, error)),
            }
        }
        for stem in new {
            if stem.starts_with('_') {
                continue;
            }
            match self.compiled(&stem, banks) {
                Ok(task) => drop(self.tasks.insert(stem, task)),
                Err(error) => self.faulty.push(FaultyTask::new(&stem, &self.sources[&stem].0, error)),
            }
        }
        self
    }

    /// Parses a file. Its name must not be in use yet.
    fn source(&self, stem: &str, file: &str, contents: Vec<u8>) -> Result<Table> {
        let fault = |reason: String| Error::TaskFile { file: file.to_owned(), reason };
        if let Some((other, _)) = self.sources.get(stem) {
            let reason = format!("the name `{stem}` is taken by {other}; choose another (it may extend that one)");
            return Err(fault(reason));
        }
        let contents = String::from_utf8(contents).map_err(|_| fault("it is not UTF-8".to_owned()))?;
        toml::from_str(&contents).map_err(|reason| fault(reason.to_string()))
    }

    fn compiled(&self, stem: &str, banks: &Banks) -> Result<Task> {
        let file = &self.sources[stem].0;
        let task = Task::compile(file, self.resolved(stem, DEPTH)?)?;
        if task.name != stem {
            let reason = format!("its name is `{}`; call the file {}.toml", task.name, task.name);
            return Err(Error::TaskFile { file: file.clone(), reason });
        }
        task.check_wordings(banks, None)?;
        Ok(task)
    }

    /// Returns the contents of a task file, merged over those of the file that it extends.
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
            return Err(fault(format!("extends: `{base}` leads to a cycle")));
        }
        let mut merged = self.resolved(base, depth - 1)?;
        merge(&mut merged, own);
        Ok(merged)
    }

    /// Returns the task with this name.
    ///
    /// # Errors
    /// If there is no such task, or its file is invalid.
    pub fn get(&self, name: &str) -> Result<&Task> {
        if let Some(faulty) = self.faulty.iter().find(|faulty| faulty.name == name) {
            return Err(faulty.error());
        }
        self.tasks.get(name).ok_or_else(|| Error::UnknownTask { name: name.to_owned() })
    }

    /// Returns the tasks that cannot be used, and why.
    pub fn faulty(&self) -> &[FaultyTask] {
        &self.faulty
    }

    /// Returns all tasks in the order of their names.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }
}

/// Merges `own` into `base`: tables are merged key by key, all other values are replaced.
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

fn collect(folder: &Dir<'_>, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for file in folder.files() {
        let name = file.path().display().to_string();
        files.push((name, file.contents().to_vec()));
    }
    for folder in folder.dirs() {
        collect(folder, files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{CommercialUse, Verified};

    fn banks() -> Banks {
        Banks::shipped().unwrap()
    }

    fn shipped() -> Catalogue {
        Catalogue::shipped(&banks()).unwrap()
    }

    fn here() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn the_folders_are_the_catalogue_and_every_task_has_a_fixture() {
        let mut found = Vec::new();
        for group in fs::read_dir(here().join("tasks")).unwrap() {
            let group = group.unwrap();
            for file in fs::read_dir(group.path()).unwrap() {
                let stem = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
                found.push((stem, group.file_name().into_string().unwrap()));
            }
        }
        found.sort();
        let catalogue = shipped();
        let shipped: Vec<(String, String)> =
            catalogue.tasks().map(|task| (task.name.clone(), task.group.clone())).collect();
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
    fn every_task_is_documented() {
        assert_eq!(shipped().faulty(), []);
        for task in shipped().tasks() {
            assert!(task.homepage.starts_with("https://") || task.homepage.starts_with("http://"), "{}", task.name);
            let is_cited = ["arXiv:", "doi:", "https://"].iter().any(|start| task.cite.starts_with(start));
            assert!(is_cited, "{}", task.name);
            let terms = task.pictures.iter().map(|own| (&own.licence, own.commercial_use));
            for (licence, commercial_use) in terms.chain([(&task.licence, task.commercial_use)]) {
                assert!(licence != "none" || commercial_use == CommercialUse::Unclear, "{}", task.name);
            }
            let genuine = here().join(format!("fixtures/{}/genuine.json", task.name));
            match task.verified {
                Verified::Genuine => assert!(genuine.exists(), "{} needs a genuine.json", task.name),
                Verified::Excerpt | Verified::Fixture => {}
                Verified::Documentation => assert!(!genuine.exists(), "{} has a genuine.json", task.name),
            }
            assert!(!task.obtain.is_empty(), "{}", task.name);
        }
    }

    /// The number of records in a task's `genuine.json`, and of those in the files that it names.
    fn checked_records(task: &Task) -> Option<(usize, u64)> {
        let text = fs::read_to_string(here().join(format!("fixtures/{}/genuine.json", task.name))).ok()?;
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let checked = cases.iter().map(|case| case["records"].as_array().unwrap().len()).sum();
        Some((checked, cases.iter().map(|case| case["kept"].as_u64().unwrap()).sum()))
    }

    #[test]
    fn three_records_of_every_genuine_file_are_checked_by_hand() {
        for task in shipped().tasks() {
            let Some((checked, records)) = checked_records(task) else { continue };
            assert!(checked as u64 >= records.min(3), "{}: {checked} of {records}", task.name);
        }
    }

    /// The page of all tasks, as the catalogue has them.
    fn page(catalogue: &Catalogue) -> String {
        let mut page = "\
# The tasks

`row` is the row in table 9 of the Lynx paper (arXiv 2307.02469). The first licence is that of the
annotations, the second that of the images or videos; each is followed by whether it allows
commercial use. `verified` says what a task was tested on: files as their authors ship them
(genuine), genuine rows that somebody else published (excerpt), rows made up in the layout that
loaders read (fixture), or only a description (documentation). `checked` is the number of records
that a person compared with genuine files. Splits have the published numbers of records, if there
are any. `looked up` lists the facts that have a source; all others are from memory. `lynxdata tasks
show NAME` prints the sources, where to get the files and where to put them.

This page is written by a test: `LYNXDATA_REWRITE=1 cargo test -p lynxdata-datasets`.

| task | row | group | media | licence | media's licence | verified | checked | splits | looked up |
|---|---|---|---|---|---|---|---|---|---|
"
        .to_owned();
        for task in catalogue.tasks() {
            let terms = |licence: &str, use_: CommercialUse| format!("{licence} ({})", use_.name());
            let splits: Vec<String> = task
                .splits
                .iter()
                .map(|(split, records)| if *records == 0 { split.clone() } else { format!("{split} {records}") })
                .collect();
            page.push_str(&format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                task.name,
                task.paper_row.map_or_else(String::new, |row| row.to_string()),
                task.group,
                task.modalities().iter().map(|own| own.name()).collect::<Vec<_>>().join(" or "),
                terms(&task.licence, task.commercial_use),
                task.pictures.as_ref().map_or_else(String::new, |own| terms(&own.licence, own.commercial_use)),
                task.verified.name(),
                checked_records(task).map_or_else(String::new, |(checked, _)| checked.to_string()),
                splits.join(", "),
                task.facts_from.keys().map(|fact| fact.name()).collect::<Vec<_>>().join(", "),
            ));
        }
        page
    }

    #[test]
    fn the_page_of_tasks_is_the_catalogue() {
        let (path, page) = (here().join("../docs/tasks.md"), page(&shipped()));
        if std::env::var_os("LYNXDATA_REWRITE").is_some() {
            fs::write(&path, &page).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap_or_default() == page,
            "docs/tasks.md differs; LYNXDATA_REWRITE=1 cargo test -p lynxdata-datasets writes it"
        );
    }

    #[test]
    fn a_folder_adds_tasks_that_extend_shipped_ones() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("vqa")).unwrap();
        let task =
            "extends = \"_base\"\nname = \"own_vqa\"\n[tables.a]\nfile = \"mscoco_{split}2014_annotations.json\"\n";
        fs::write(folder.path().join("vqa/own_vqa.toml"), task).unwrap();
        let base = "extends = \"vqav2\"\n[tables.q]\nfile = \"OpenEnded_mscoco_{split}2014_questions.json\"\n";
        fs::write(folder.path().join("_base.toml"), base).unwrap();
        let catalogue = shipped().with_folder(folder.path(), &banks()).unwrap();
        let (own, shipped) = (catalogue.get("own_vqa").unwrap(), catalogue.get("vqav2").unwrap());
        assert_eq!(own.primary.1.file, "OpenEnded_mscoco_{split}2014_questions.json");
        assert_eq!(own.joins[0].table.file, "mscoco_{split}2014_annotations.json");
        assert_eq!(own.primary.1.at, shipped.primary.1.at);
        assert!(catalogue.get("_base").is_err());
    }

    fn fault(name: &str, contents: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), contents).unwrap();
        shipped().with_folder(folder.path(), &banks()).unwrap().faulty()[0].error().to_string()
    }

    #[test]
    fn faulty_files_are_named_and_cost_no_other_task() {
        assert!(fault("vqav2.toml", "").contains("`vqav2` is taken by vqa/vqav2.toml"));
        assert!(fault("own.toml", "extends = \"vqav2\"\nname = \"other\"").contains("call the file other.toml"));
        assert!(fault("own.toml", "extends = \"vqav3\"").contains("there is no `vqav3`, only activitynet_captions, "));
        assert!(fault("own.toml", "extends = \"own\"").contains("leads to a cycle"));
        assert!(fault("own.toml", "name = ").contains("own.toml"));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("own.toml"), "name = ").unwrap();
        fs::write(folder.path().join("bytes.toml"), b"\xFF").unwrap();
        fs::write(folder.path().join("good.toml"), "extends = \"vqav2\"\nname = \"good\"").unwrap();
        let catalogue = shipped().with_folder(folder.path(), &banks()).unwrap();
        assert!(catalogue.get("good").is_ok() && catalogue.get("vqav2").is_ok());
        assert!(catalogue.get("own").unwrap_err().to_string().contains("own.toml: TOML parse error"));
        assert!(catalogue.get("bytes").unwrap_err().to_string().ends_with("it is not UTF-8"));
        let unknown = shipped().get("vqa2").unwrap_err().to_string();
        assert!(unknown.contains("lynxdata tasks list"), "{unknown}");
    }
}
