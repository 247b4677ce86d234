//! What a task file says of one of its tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Shape;

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

/// How the bytes of a text file stand for characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// UTF-8, or UTF-16 if the first bytes show it.
    #[default]
    Unicode,
    /// ISO 8859-1: every byte is a character.
    Latin1,
}

/// A table of a task: rows in native files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// Path from the root folder on, with `{split}` where the split's name goes; `*` stands for any
    /// part of a name, `**` for any folders, and another name in braces for a part of a name that
    /// rows carry.
    pub(crate) file: String,
    /// The name of a reader of [`crate::rows`], or `auto` for the one of the file's extension.
    #[serde(default = "auto")]
    pub(crate) format: String,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    /// Dotted path of the rows inside a document; empty for the document itself.
    #[serde(default)]
    pub(crate) at: String,
    /// How the value at that place holds rows: a list unless this says otherwise (for lookups: the
    /// whole value).
    pub(crate) shape: Option<Shape>,
    /// Names of the columns of a file without a header, or of the parts of a line of text.
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    /// What stands between columns, if it is not the format's usual one.
    pub(crate) delimiter: Option<String>,
    /// The start of lines that are no rows.
    pub(crate) comment: Option<String>,
    /// The field of this table by which it is joined; a table after the first without it is a
    /// lookup that expressions index.
    pub(crate) join: Option<String>,
    /// An expression over the tables before this one that gives the key; by default the field of
    /// the same name of the first table.
    pub(crate) on: Option<String>,
    #[serde(default)]
    pub(crate) matches: Matches,
    /// What to keep in memory of every row of a joined table: new fields as expressions over the
    /// row; all fields if empty.
    #[serde(default)]
    pub(crate) keep: BTreeMap<String, String>,
    /// What expressions ask for of its rows, known when the task is compiled.
    #[serde(skip)]
    pub(crate) fields: Fields,
    /// The names that the task uses for its pictures, among them the columns that hold their bytes.
    #[serde(skip)]
    pub(crate) pictures: BTreeSet<String>,
}

/// Which fields of the rows of a table a task asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Fields {
    /// Any: some expression takes rows whole.
    #[default]
    All,
    /// These, sorted.
    Named(Vec<String>),
}

impl Fields {
    /// Returns those of a table that the paths of expressions, such as `t.answers`, begin with.
    pub(crate) fn of<'p>(table: &str, paths: impl Iterator<Item = &'p String>) -> Self {
        let mut names = BTreeSet::new();
        for path in paths {
            let mut steps = path.split('.');
            if steps.next() != Some(table) {
                continue;
            }
            match steps.next() {
                Some(field) => names.insert(field.to_owned()),
                None => return Fields::All,
            };
        }
        Fields::Named(names.into_iter().collect())
    }

    /// Returns the places of the columns to read. If one that is asked for is not there, these are
    /// all, so that a message can name them.
    pub(crate) fn columns(&self, columns: &[String]) -> Vec<usize> {
        let all = || (0..columns.len()).collect();
        let Fields::Named(names) = self else { return all() };
        // Fields that are no columns, such as parts of the path, begin with `_`.
        let is_there = |name: &String| name.starts_with('_') || columns.contains(name);
        if !names.iter().all(is_there) {
            return all();
        }
        (0..columns.len()).filter(|place| names.contains(&columns[*place])).collect()
    }
}

fn auto() -> String {
    "auto".to_owned()
}
