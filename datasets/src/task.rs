//! One annotated dataset, described as data: where its rows lie and how they map to the fields of its family.

use std::collections::BTreeMap;
use std::path::Path;

use lynxdata_prompts::AnswerShape;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::rows::{Format, NativeFile, Shape, files};
use crate::{Error, Result};

/// The shape of a task: which fields its records have, and which slots and answers its wordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A question about a picture and its answer in a word or a phrase.
    Vqa,
    /// A question with options, one of which is right.
    KnowledgeVqa,
    /// A picture and one or more captions.
    Caption,
    /// A picture and the name of its class.
    Classification,
    /// A statement about a picture that is true or false.
    Entailment,
    /// Questions and replies about a picture, in turns.
    Dialog,
}

impl Family {
    /// Every family.
    pub const ALL: &[Family] = &[
        Family::Vqa,
        Family::KnowledgeVqa,
        Family::Caption,
        Family::Classification,
        Family::Entailment,
        Family::Dialog,
    ];

    /// The name in task files, folders and tables; also that of the family's prompt bank.
    pub fn name(self) -> &'static str {
        match self {
            Family::Vqa => "vqa",
            Family::KnowledgeVqa => "knowledge_vqa",
            Family::Caption => "caption",
            Family::Classification => "classification",
            Family::Entailment => "entailment",
            Family::Dialog => "dialog",
        }
    }

    /// The fields that a task of this family must map, no more and no fewer. All have `id` (a text or number that is unique in the split) and `images` (one or
    /// more paths).
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Family::Vqa => &["id", "images", "question", "answer"],
            Family::KnowledgeVqa => &["id", "images", "question", "choices", "answer"],
            Family::Caption => &["id", "images", "captions"],
            Family::Classification => &["id", "images", "category", "label"],
            Family::Entailment => &["id", "images", "statement", "label"],
            Family::Dialog => &["id", "images", "turns"],
        }
    }

    /// The slots that a prompt bank for this family must declare, sorted.
    pub fn slots(self) -> &'static [&'static str] {
        match self {
            Family::Vqa | Family::Dialog => &["question"],
            Family::KnowledgeVqa => &["options", "question"],
            Family::Caption => &[],
            Family::Classification => &["category"],
            Family::Entailment => &["statement"],
        }
    }

    /// The answer shapes that a wording for this family may ask for.
    pub fn answer_shapes(self) -> &'static [AnswerShape] {
        match self {
            Family::Vqa | Family::Classification => &[AnswerShape::Short],
            Family::KnowledgeVqa => &[AnswerShape::Letter, AnswerShape::Short],
            Family::Caption => &[AnswerShape::Sentence, AnswerShape::Long],
            Family::Entailment => &[AnswerShape::YesNo, AnswerShape::TrueFalse],
            Family::Dialog => &[AnswerShape::Short, AnswerShape::Sentence, AnswerShape::Long],
        }
    }
}

/// How many rows of a joined table belong to one row of the tables before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matches {
    /// Exactly one; a record without it is dropped.
    #[default]
    One,
    /// One or none; without it the table's name is `none`.
    Optional,
    /// One or more, as a list; a record without any is dropped.
    Many,
    /// Any number, as a list that may be empty.
    Any,
}

/// A table of a task: rows in native files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// Path from the root folder on, with `{split}` where the split's name goes and at most one `*` in the last component, for shards.
    pub(crate) file: String,
    #[serde(default)]
    pub(crate) format: Format,
    /// Dotted path of the rows inside a JSON document; empty for the document itself.
    #[serde(default)]
    pub(crate) at: String,
    /// How the JSON value at that place holds rows: a list unless this says otherwise (for lookups: the whole value).
    pub(crate) shape: Option<Shape>,
    /// Names of the columns of a file without a header, or of the parts of a line of text.
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    /// Between columns, if it is not the format's usual one.
    pub(crate) delimiter: Option<String>,
    /// Start of lines that are no rows.
    pub(crate) comment: Option<String>,
    /// The field of this table by which it is joined; a table after the first without it is a lookup that expressions index.
    pub(crate) join: Option<String>,
    /// An expression over the tables before this one that gives the key; by default the field of the same name of the first table.
    pub(crate) on: Option<String>,
    #[serde(default)]
    pub(crate) matches: Matches,
    /// What to keep in memory of every row of a joined table: new fields as expressions over the row; all fields if empty.
    #[serde(default)]
    pub(crate) keep: BTreeMap<String, String>,
}

/// One native row that holds several records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplodeFile {
    name: String,
    over: String,
}

/// A task file, after its base is merged in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    family: Family,
    licence: String,
    source: String,
    cite: String,
    prompts: Option<String>,
    splits: BTreeMap<String, u64>,
    tables: toml::Table,
    explode: Option<ExplodeFile>,
    #[serde(default, rename = "where")]
    predicates: toml::Table,
    fields: BTreeMap<String, String>,
}

/// A table that is joined to those before it.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) name: String,
    pub(crate) table: Table,
    pub(crate) key: String,
    pub(crate) on: Expression,
    pub(crate) keep: Vec<(String, Expression)>,
}

/// A compiled entry of the catalogue.
#[derive(Debug)]
pub struct Task {
    /// Its name, which is that of its file.
    pub name: String,
    /// Its shape.
    pub family: Family,
    /// Licence of the annotations, an SPDX id where there is one; pictures keep their own.
    pub licence: String,
    /// Where its authors publish it.
    pub source: String,
    /// The paper, as an arXiv or DOI number.
    pub cite: String,
    /// The prompt bank that its conversations are worded with.
    pub prompts: String,
    /// The splits that its authors publish, with the number of records that each yields.
    pub splits: BTreeMap<String, u64>,
    /// The whole task file as TOML, with the file that it extends merged in: what a fingerprint of a build covers.
    pub definition: String,
    pub(crate) primary: (String, Table),
    pub(crate) joins: Vec<Join>,
    pub(crate) lookups: Vec<(String, Table)>,
    pub(crate) explode: Option<(String, Expression)>,
    pub(crate) predicates: Vec<(String, Expression)>,
    pub(crate) fields: Vec<(String, Expression)>,
}

/// Names that expressions see besides tables: the split, the native file and the row in it (from 0), and the place in an exploded list (from 0).
pub(crate) const VARIABLES: [&str; 4] = ["split", "file", "row", "index"];

impl Task {
    /// Compiles a task file whose base, if it has one, is merged in.
    pub(crate) fn compile(file: &str, contents: toml::Table) -> Result<Self> {
        let fault = |reason: String| Error::TaskFile { file: file.to_owned(), reason };
        let definition = contents.to_string();
        let contents: TaskFile = contents.try_into().map_err(|reason| fault(reason.to_string()))?;
        let mut known = VARIABLES.to_vec();
        let mut tables = Vec::new();
        for (name, value) in contents.tables {
            let table: Table =
                value.try_into().map_err(|reason: toml::de::Error| fault(format!("tables.{name}: {reason}")))?;
            if !is_identifier(&name) || VARIABLES.contains(&name.as_str()) {
                return Err(fault(format!("tables.{name}: choose a name of a-z, 0-9 and _ other than {VARIABLES:?}")));
            }
            tables.push((name, table));
        }
        let mut tables = tables.into_iter();
        let Some(primary) = tables.next() else { return Err(fault("it has no table".to_owned())) };
        if primary.1.join.is_some() {
            return Err(fault(format!("tables.{}: the first table is joined to nothing; leave `join` out", primary.0)));
        }
        known.push(&primary.0);
        let (joined, lookups): (Vec<_>, Vec<_>) = tables.partition(|(_, table)| table.join.is_some());
        known.extend(lookups.iter().map(|(name, _)| name.as_str()));
        let mut joins: Vec<Join> = Vec::new();
        for (name, table) in &joined {
            let key = table.join.clone().expect("partitioned by it");
            let on = table.on.clone().unwrap_or_else(|| format!("{}.{key}", primary.0));
            let on = Expression::compile(&on, &known).map_err(|reason| fault(format!("tables.{name}.on: {reason}")))?;
            let mut keep = Vec::new();
            for (field, source) in &table.keep {
                let kept = Expression::compile(source, &[name, "split"])
                    .map_err(|reason| fault(format!("tables.{name}.keep.{field}: {reason}")))?;
                keep.push((field.clone(), kept));
            }
            joins.push(Join { name: name.clone(), table: table.clone(), key, on, keep });
            known.push(name);
        }
        let explode = match &contents.explode {
            None => None,
            Some(explode) if !is_identifier(&explode.name) || known.contains(&explode.name.as_str()) => {
                return Err(fault(format!("explode.name: `{}` is taken or no identifier", explode.name)));
            }
            Some(explode) => {
                let over = Expression::compile(&explode.over, &known)
                    .map_err(|reason| fault(format!("explode.over: {reason}")))?;
                known.push(&explode.name);
                Some((explode.name.clone(), over))
            }
        };
        let mut predicates = Vec::new();
        for (name, source) in &contents.predicates {
            let Some(source) = source.as_str() else {
                return Err(fault(format!("where.{name}: must be an expression in quotes")));
            };
            let predicate =
                Expression::compile(source, &known).map_err(|reason| fault(format!("where.{name}: {reason}")))?;
            predicates.push((name.clone(), predicate));
        }
        let mut fields = Vec::new();
        for name in contents.family.fields() {
            let Some(source) = contents.fields.get(*name) else {
                return Err(fault(format!("fields.{name} is missing; family {}", describe(contents.family))));
            };
            let field =
                Expression::compile(source, &known).map_err(|reason| fault(format!("fields.{name}: {reason}")))?;
            fields.push(((*name).to_owned(), field));
        }
        if let Some(name) = contents.fields.keys().find(|name| !contents.family.fields().contains(&name.as_str())) {
            return Err(fault(format!("fields.{name} is not known; family {}", describe(contents.family))));
        }
        if contents.splits.is_empty() {
            return Err(fault("splits: name at least one split and its number of records".to_owned()));
        }
        Ok(Self {
            name: contents.name,
            family: contents.family,
            licence: contents.licence,
            source: contents.source,
            cite: contents.cite,
            prompts: contents.prompts.unwrap_or_else(|| contents.family.name().to_owned()),
            splits: contents.splits,
            definition,
            primary,
            joins,
            lookups,
            explode,
            predicates,
            fields,
        })
    }

    /// The native files of a split below the root folder, in the order of the tables: the inputs that a fingerprint of a build covers.
    ///
    /// # Errors
    /// If a table has no file there.
    pub fn native_files(&self, root: &Path, split: &str) -> Result<Vec<std::path::PathBuf>> {
        let joined = self.joins.iter().map(|join| (&join.name, &join.table));
        let tables = std::iter::once((&self.primary.0, &self.primary.1))
            .chain(joined)
            .chain(self.lookups.iter().map(|(name, table)| (name, table)));
        let mut paths = Vec::new();
        for (name, table) in tables {
            paths.extend(self.table_files(root, name, table, split)?.into_iter().map(|file| file.path));
        }
        paths.dedup();
        Ok(paths)
    }

    /// The files of one table, at least one.
    pub(crate) fn table_files(&self, root: &Path, name: &str, table: &Table, split: &str) -> Result<Vec<NativeFile>> {
        let found = files(root, table, split).map_err(|source| Error::Io { path: root.to_owned(), source })?;
        if found.is_empty() {
            return Err(Error::MissingFile {
                task: self.name.clone(),
                table: name.to_owned(),
                path: root.join(table.file.replace("{split}", split)),
                splits: self.splits.keys().cloned().collect(),
            });
        }
        Ok(found)
    }
}

fn describe(family: Family) -> String {
    format!("{} has the fields {}", family.name(), family.fields().join(", "))
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"
name = "own"
family = "vqa"
licence = "CC0-1.0"
source = "here"
cite = "none"
splits = { val = 1 }
[tables.q]
file = "{split}.json"
[fields]
id = "q.id"
images = "q.image"
question = "q.question"
answer = "q.answer"
"#;

    fn fault(change: impl Fn(String) -> String) -> String {
        let contents = toml::from_str(&change(TASK.to_owned())).unwrap();
        Task::compile("own.toml", contents).unwrap_err().to_string()
    }

    #[test]
    fn faults_name_the_file_and_the_key() {
        assert!(Task::compile("own.toml", toml::from_str(TASK).unwrap()).is_ok());
        let faults = [
            (fault(|toml| toml.replace("answer = \"q.answer\"", "")), "fields.answer is missing"),
            (fault(|toml| toml + "hint = \"q.hint\""), "fields.hint is not known"),
            (fault(|toml| toml.replace("q.answer", "a.answer")), "fields.answer: expression `a.answer` uses a,"),
            (fault(|toml| toml.replace("q.answer", "q.answer |")), "fields.answer: expression"),
            (fault(|toml| toml.replace("tables.q", "tables.split")), "tables.split"),
            (fault(|toml| toml.replace("[fields]", "at_ = \"x\"\n[fields]")), "tables.q: unknown field `at_`"),
            (fault(|toml| toml.replace("\"vqa\"", "\"vqaa\"")), "unknown variant `vqaa`"),
            (fault(|toml| toml + "[explode]\nname = \"q\"\nover = \"q.list\""), "explode.name: `q` is taken"),
            (fault(|toml| toml + "[where]\nanswered = true"), "where.answered: must be an expression"),
            (fault(|toml| toml.replace("{ val = 1 }", "{}")), "splits: name at least one"),
        ];
        for (message, expected) in faults {
            assert!(message.starts_with("task file own.toml: ") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn families_have_distinct_names_and_the_common_fields() {
        for family in Family::ALL {
            assert_eq!(family.fields()[..2], ["id", "images"]);
            assert_eq!(serde_json::to_value(family).unwrap(), family.name());
            assert!(family.slots().is_sorted());
        }
    }
}
