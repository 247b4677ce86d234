//! The roles of the columns of a file.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::datatypes::Field;

use super::SourceFormat;
use crate::{Error, Result};

/// The roles of the columns of a file.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) url: Column,
    pub(super) caption: Option<Column>,
    pub(super) extras: Vec<Extra>,
    /// Whether URLs are lists. A single URL then counts as a list of one.
    pub(super) has_lists: bool,
    /// Whether captions are lists although URLs are not. The first text of a list is then the
    /// caption.
    pub(super) has_caption_lists: bool,
    /// Number of all columns of the file.
    pub(super) count: usize,
    /// The place of the images.
    pub(super) pictures: Pictures,
}

/// The place of the images of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pictures {
    /// At their URLs, or for folders and archives in the source itself.
    Elsewhere,
    /// In cells of the file itself; holds the name of the file relative to the source.
    InCells(String),
    /// In files that this column names.
    Named(String),
}

/// A column of a file.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Index of the column; the number of columns if the file does not have it.
    pub(super) position: usize,
    pub(super) name: String,
}

/// A column that is carried to the pool, with its name and type there.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub(super) column: Column,
    pub(super) field: Field,
}

impl Columns {
    pub(super) fn extra_fields(&self) -> Vec<Field> {
        self.extras.iter().map(|extra| extra.field.clone()).collect()
    }
}

/// Returns the index of a column by its name, or by its number in formats that may have no names.
pub(super) fn position(wanted: &str, names: &[impl AsRef<str>], format: SourceFormat) -> Option<usize> {
    let by_name = names.iter().position(|name| name.as_ref() == wanted);
    let by_number = || wanted.parse().ok().filter(|index| *index < names.len());
    let takes_numbers = matches!(format, SourceFormat::Csv | SourceFormat::Tsv | SourceFormat::Txt);
    by_name.or_else(|| by_number().filter(|_| takes_numbers))
}

pub(super) fn find_column(
    path: &Path,
    key: &'static str,
    wanted: &str,
    names: &[&str],
    format: SourceFormat,
) -> Result<Column> {
    if let Some(position) = position(wanted, names, format) {
        return Ok(Column { position, name: names[position].to_owned() });
    }
    Err(Error::MissingColumn {
        path: path.to_owned(),
        key,
        column: wanted.to_owned(),
        hint: lynxdata_records::nearest(wanted, names.iter().copied())
            .map_or_else(String::new, |name| format!(", did you mean {name:?}?")),
        available: match names {
            [] => "none".to_owned(),
            names => names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
        },
    })
}

/// Makes the names of columns unique by appending `_` to repeated ones.
pub(super) fn unique_names(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut taken = BTreeSet::new();
    names.map(move |mut name| {
        while !taken.insert(name.clone()) {
            name += "_";
        }
        name
    })
}
