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
    /// The names that the task uses for its pictures, among them the columns that hold their bytes.
    #[serde(skip)]
    pub(crate) pictures: BTreeSet<String>,
}

fn auto() -> String {
    "auto".to_owned()
}
