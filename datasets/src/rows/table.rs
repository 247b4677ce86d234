//! The settings of one table in a task file.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::Shape;

/// The number of rows of a joined table that match one row of the tables before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Matches {
    /// Exactly one; a record without a match is dropped.
    #[default]
    One,
    /// One or none; without a match the table is null.
    Optional,
    /// One or more, as a list; a record without any is dropped.
    Many,
    /// Any number, as a list that may be empty.
    Any,
}

/// The character encoding of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// UTF-8, or UTF-16 if the first bytes show it.
    #[default]
    Unicode,
    /// ISO 8859-1: every byte is one character.
    Latin1,
}

/// A table of a task: rows in native files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// The path from the root folder. `{split}` is replaced by the name of the split. `*` matches
    /// any part of a name, `**` any folders, and another name in braces matches a part of a name
    /// that becomes a field of the rows.
    pub(crate) file: String,
    /// The name of a reader in [`crate::rows`], or `auto` to choose one by the extension of the
    /// file.
    #[serde(default = "auto")]
    pub(crate) format: String,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    /// The dotted path of the rows inside a document; empty for the document itself.
    #[serde(default)]
    pub(crate) at: String,
    /// The form in which rows are stored at that path. The default is a list; for lookups, it is
    /// the whole value.
    pub(crate) shape: Option<Shape>,
    /// The column names of a file without a header, or names for the parts of a line of text.
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    /// The delimiter of columns, if it is not the usual one of the format.
    pub(crate) delimiter: Option<String>,
    /// The start of comment lines, which are not rows.
    pub(crate) comment: Option<String>,
    /// The field of this table that is the join key. A table after the first one without `join` is
    /// a lookup, which expressions index.
    pub(crate) join: Option<String>,
    /// An expression over the tables before this one that gives the key. The default is the field
    /// with the same name in the first table.
    pub(crate) on: Option<String>,
    #[serde(default)]
    pub(crate) matches: Matches,
    /// The fields to keep in memory for every row of a joined table, as expressions over the row;
    /// all fields if empty.
    #[serde(default)]
    pub(crate) keep: BTreeMap<String, String>,
    /// The fields of its rows that expressions use. Set when the task is compiled.
    #[serde(skip)]
    pub(crate) fields: UsedFields,
    /// The names that lead to the images of the task, among them the columns with their bytes.
    #[serde(skip)]
    pub(crate) pictures: BTreeSet<String>,
}

/// The fields of the rows of a table that a task uses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum UsedFields {
    /// All: some expression uses whole rows.
    #[default]
    All,
    /// Only these, sorted.
    Named(Vec<String>),
}

impl UsedFields {
    /// Returns the fields of a table that are in paths of expressions, such as `t.answers`.
    pub(crate) fn of<'p>(table: &str, paths: impl Iterator<Item = &'p String>) -> Self {
        let mut names = BTreeSet::new();
        for path in paths {
            let mut steps = path.split('.');
            if steps.next() != Some(table) {
                continue;
            }
            match steps.next() {
                Some(field) => names.insert(field.to_owned()),
                None => return UsedFields::All,
            };
        }
        UsedFields::Named(names.into_iter().collect())
    }

    /// Returns the indexes of the columns to read. If a used column is missing, all columns are
    /// read, so that a message can list their names.
    pub(crate) fn columns(&self, columns: &[String]) -> Vec<usize> {
        let all = || (0..columns.len()).collect();
        let UsedFields::Named(names) = self else { return all() };
        // UsedFields that are not columns, such as parts of the path, begin with `_`.
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
