//! Banks: TOML files of wordings, checked when they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use include_dir::{Dir, include_dir};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/banks");

/// Steps that one rendering may take. A shipped template takes under a hundred, so this stops only a loop that a template should not hold.
const FUEL: u64 = 100_000;

/// What kind of answer a wording asks for; the answer that follows it must have that shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerShape {
    /// A word or a phrase.
    Short,
    /// The letter of an option, such as `B`.
    Letter,
    /// `Yes` or `No`.
    YesNo,
    /// `True` or `False`.
    TrueFalse,
    /// One sentence.
    Sentence,
    /// Several sentences.
    Long,
}

/// One reviewed wording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Readable and stable, unique within its bank: records keep it as provenance.
    pub id: String,
    /// The wording as a minijinja template over the bank's slots.
    pub text: String,
    /// The shape of the answer that it asks for.
    pub answer: AnswerShape,
}

/// What fills one slot of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot<'a> {
    /// One text.
    Text(&'a str),
    /// Several texts; the template says how they are joined.
    List(&'a [String]),
}

impl Slot<'_> {
    fn value(self) -> Value {
        match self {
            Slot::Text(text) => Value::from(text),
            Slot::List(texts) => Value::from(texts.to_vec()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BankFile {
    description: String,
    slots: Vec<String>,
    #[serde(default)]
    templates: Vec<Template>,
}

/// A reviewed set of wordings that ask for the same thing with the same slots.
#[derive(Debug)]
pub struct Bank {
    /// Its name, which is the name of its file without `.toml`.
    pub name: String,
    /// What its wordings ask for.
    pub description: String,
    /// The slots that every template uses, sorted.
    pub slots: Vec<String>,
    /// The wordings; the first is the one that [`crate::PromptMode::Single`] keeps to.
    pub templates: Vec<Template>,
    environment: Environment<'static>,
}

impl Bank {
    /// Reads a bank from TOML and checks it: ids unique and well formed, every template uses exactly the declared slots and renders.
    ///
    /// # Errors
    /// Anything of the above, naming the template.
    pub fn parse(name: &str, toml: &str) -> Result<Self> {
        let file: BankFile =
            toml::from_str(toml).map_err(|source| Error::Syntax { bank: name.to_owned(), source: Box::new(source) })?;
        let declared: BTreeSet<String> = file.slots.into_iter().collect();
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let mut bank = Self {
            name: name.to_owned(),
            description: file.description,
            slots: declared.iter().cloned().collect(),
            templates: file.templates,
            environment,
        };
        if bank.templates.is_empty() {
            return Err(Error::Empty { bank: bank.name });
        }
        let mut ids = BTreeSet::new();
        for template in &bank.templates {
            let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if template.id.is_empty() || !template.id.chars().all(well_formed) {
                return Err(Error::BadId { bank: bank.name, template: template.id.clone() });
            }
            if !ids.insert(template.id.as_str()) {
                return Err(Error::DuplicateId { bank: bank.name, template: template.id.clone() });
            }
            let fault = |source| Error::Template { bank: bank.name.clone(), template: template.id.clone(), source };
            bank.environment.add_template_owned(template.id.clone(), template.text.clone()).map_err(fault)?;
            let compiled = bank.environment.get_template(&template.id).map_err(fault)?;
            // minijinja counts its own functions, such as `range`, as undeclared.
            let functions: BTreeSet<&str> = bank.environment.globals().map(|(name, _)| name).collect();
            let used: BTreeSet<String> = compiled
                .undeclared_variables(false)
                .into_iter()
                .filter(|name| declared.contains(name) || !functions.contains(name.as_str()))
                .collect();
            if used != declared {
                return Err(Error::Slots {
                    bank: bank.name,
                    template: template.id.clone(),
                    used: used.into_iter().collect(),
                    declared: bank.slots,
                });
            }
        }
        bank.try_all_templates()?;
        Ok(bank)
    }

    /// Renders every template once, each slot first as a text and, if the template joins lists, as a list.
    fn try_all_templates(&self) -> Result<()> {
        let options = ["first".to_owned(), "second".to_owned()];
        for template in &self.templates {
            let text: Vec<(&str, Slot)> = self.slots.iter().map(|slot| (slot.as_str(), Slot::Text("word"))).collect();
            let list: Vec<(&str, Slot)> = self.slots.iter().map(|slot| (slot.as_str(), Slot::List(&options))).collect();
            self.render(template, &text).or_else(|_| self.render(template, &list))?;
        }
        Ok(())
    }

    /// Fills a template of this bank. The values are data: template syntax in them stays as it is.
    ///
    /// # Errors
    /// If other slots are given than the bank declares, or the template fails or renders to nothing.
    pub fn render(&self, template: &Template, slots: &[(&str, Slot<'_>)]) -> Result<String> {
        let mut given: Vec<&str> = slots.iter().map(|(name, _)| *name).collect();
        given.sort_unstable();
        if given != self.slots {
            return Err(Error::Given {
                bank: self.name.clone(),
                declared: self.slots.clone(),
                given: given.into_iter().map(str::to_owned).collect(),
            });
        }
        let context = Value::from_pairs(slots.iter().map(|(name, slot)| (*name, slot.value())));
        let text = self
            .environment
            .get_template(&template.id)
            .and_then(|compiled| compiled.render(context))
            .map_err(|source| Error::Template { bank: self.name.clone(), template: template.id.clone(), source })?;
        if text.trim().is_empty() {
            return Err(Error::EmptyText { bank: self.name.clone(), template: template.id.clone() });
        }
        Ok(text)
    }
}

/// All banks by name.
#[derive(Debug)]
pub struct Banks {
    banks: BTreeMap<String, Bank>,
}

impl Banks {
    /// The banks that are part of this crate.
    ///
    /// # Errors
    /// None with the shipped files, which a test loads.
    pub fn shipped() -> Result<Self> {
        let mut banks = BTreeMap::new();
        for file in SHIPPED.files() {
            let (Some(name), Some(toml)) =
                (file.path().file_stem().and_then(|stem| stem.to_str()), file.contents_utf8())
            else {
                return Err(Error::NotText { path: file.path().to_owned() });
            };
            banks.insert(name.to_owned(), Bank::parse(name, toml)?);
        }
        Ok(Self { banks })
    }

    /// Adds the `*.toml` files of a folder; a bank of the same name as an earlier one replaces it.
    ///
    /// # Errors
    /// If the folder or a bank cannot be read, or a bank fails its checks.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let path = entry.map_err(unreadable(folder))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        for path in paths {
            let bytes = fs::read(&path).map_err(unreadable(&path))?;
            let (Some(name), Ok(toml)) = (path.file_stem().and_then(|stem| stem.to_str()), String::from_utf8(bytes))
            else {
                return Err(Error::NotText { path });
            };
            self.banks.insert(name.to_owned(), Bank::parse(name, &toml)?);
        }
        Ok(self)
    }

    /// The bank of this name.
    ///
    /// # Errors
    /// If there is none; the message lists the names.
    pub fn get(&self, name: &str) -> Result<&Bank> {
        self.banks
            .get(name)
            .ok_or_else(|| Error::UnknownBank { bank: name.to_owned(), known: self.banks.keys().cloned().collect() })
    }

    /// All banks in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Bank> {
        self.banks.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(templates: &str) -> Result<Bank> {
        Bank::parse("test", &format!("description = \"questions\"\nslots = [\"question\"]\n{templates}"))
    }

    fn entry(id: &str, text: &str) -> String {
        format!("[[templates]]\nid = \"{id}\"\ntext = '{text}'\nanswer = \"short\"\n")
    }

    #[test]
    fn the_folder_is_what_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("banks");
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        let banks = Banks::shipped().unwrap();
        let shipped: Vec<&str> = banks.iter().map(|bank| bank.name.as_str()).collect();
        assert_eq!(names, shipped);
        assert_eq!(shipped, ["caption", "classification", "dialog", "entailment", "knowledge_vqa", "vqa"]);
    }

    #[test]
    fn every_shipped_bank_has_at_least_eight_wordings() {
        for bank in Banks::shipped().unwrap().iter() {
            assert!(bank.templates.len() >= 8, "{} has {}", bank.name, bank.templates.len());
        }
    }

    #[test]
    fn shipped_wordings_are_clean_text() {
        for bank in Banks::shipped().unwrap().iter() {
            for template in &bank.templates {
                let place = format!("{}/{}", bank.name, template.id);
                assert_eq!(template.text.trim(), template.text, "{place}");
                assert!(template.text.is_ascii(), "{place}");
                assert!(!template.text.contains("  "), "{place}");
                let first = template.text.chars().next().unwrap();
                assert!(first.is_ascii_uppercase() || ['{', '"'].contains(&first), "{place}");
            }
        }
    }

    #[test]
    fn data_is_not_read_as_a_template() {
        let bank = bank(&entry("plain", "{{ question }} Be brief.")).unwrap();
        let hostile = "What does {{ question }} {% raw %} <b>mean</b> & why?";
        let text = bank.render(&bank.templates[0], &[("question", Slot::Text(hostile))]).unwrap();
        assert_eq!(text, format!("{hostile} Be brief."));
    }

    #[test]
    fn lists_are_joined_as_the_template_says() {
        let toml = "description = \"d\"\nslots = [\"options\"]\n[[templates]]\nid = \"a\"\nanswer = \"letter\"\ntext = '{{ options | join(\"\\n\") }}'\n";
        let bank = Bank::parse("test", toml).unwrap();
        let options = ["(A) one".to_owned(), "(B) two".to_owned()];
        let text = bank.render(&bank.templates[0], &[("options", Slot::List(&options))]).unwrap();
        assert_eq!(text, "(A) one\n(B) two");
    }

    #[test]
    fn a_template_must_use_the_declared_slots_and_no_other() {
        let missing = bank(&entry("a", "Be brief.")).unwrap_err();
        assert!(matches!(missing, Error::Slots { .. }), "{missing}");
        let other = bank(&entry("a", "{{ question }} {{ hint }}")).unwrap_err().to_string();
        assert!(other.contains("`a`") && other.contains("hint"), "{other}");
    }

    #[test]
    fn faulty_banks_are_refused_with_the_place() {
        assert!(matches!(bank(""), Err(Error::Empty { .. })));
        let twice = format!("{}{}", entry("a", "{{ question }} x"), entry("a", "{{ question }} y"));
        assert!(matches!(bank(&twice), Err(Error::DuplicateId { .. })));
        assert!(matches!(bank(&entry("A b", "{{ question }}")), Err(Error::BadId { .. })));
        assert!(matches!(bank(&entry("a", "{{ question ")), Err(Error::Template { .. })));
        assert!(matches!(bank(&entry("a", "{{ question.part }} x")), Err(Error::Template { .. })));
        assert!(matches!(bank(&entry("a", "{% if question is none %}x{% endif %}")), Err(Error::EmptyText { .. })));
        assert!(matches!(bank("[[templates]]\nid = \"a\"\ntext = \"{{ question }}\"\n"), Err(Error::Syntax { .. })));
    }

    #[test]
    fn an_endless_template_runs_out_of_fuel() {
        let text = "{% for i in range(1000) %}{% for j in range(1000) %}{{ question }}{% endfor %}{% endfor %}";
        let error = bank(&entry("a", text)).map(|bank| bank.templates.len()).unwrap_err();
        let Error::Template { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), minijinja::ErrorKind::OutOfFuel);
    }

    #[test]
    fn other_slots_than_declared_are_refused() {
        let bank = bank(&entry("a", "{{ question }}")).unwrap();
        let error = bank.render(&bank.templates[0], &[("statement", Slot::Text("x"))]).unwrap_err();
        assert!(matches!(error, Error::Given { .. }), "{error}");
    }

    #[test]
    fn a_folder_replaces_and_adds_banks() {
        let folder = tempfile::tempdir().unwrap();
        let toml = format!("description = \"own\"\nslots = [\"question\"]\n{}", entry("own", "{{ question }} Now."));
        fs::write(folder.path().join("vqa.toml"), &toml).unwrap();
        fs::write(folder.path().join("ocr.toml"), &toml).unwrap();
        fs::write(folder.path().join("notes.md"), "not a bank").unwrap();
        let banks = Banks::shipped().unwrap().with_folder(folder.path()).unwrap();
        assert_eq!(banks.get("vqa").unwrap().templates.len(), 1);
        assert_eq!(banks.get("ocr").unwrap().description, "own");
        assert!(banks.get("caption").unwrap().templates.len() >= 8);
        let error = banks.get("video").unwrap_err().to_string();
        assert!(error.contains("caption, classification"), "{error}");
    }
}
