//! One file of a source: the roles of its columns, and the reader of its rows.

use std::path::Path;

use arrow::datatypes::Field;

use super::delimited::Layout;
use super::files::Found;
use super::folder::Links;
use super::metadata::MetadataRows;
use super::{ReadRows, SourceConfig, SourceFormat, delimited, folder, jsonl, parquet, txt, webdataset};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) found: Found,
    /// The entry of the recipe's `path` that it is from.
    pub(super) entry: String,
    columns: Columns,
    /// The layout of a CSV or TSV file.
    layout: Option<Layout>,
    image: Option<String>,
    follow_links: bool,
}

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
    /// Where the images are.
    pub(super) pictures: Pictures,
}

/// Where the images of a list are.
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

impl SourceFile {
    pub(super) fn new(found: Found, columns: Columns, layout: Option<Layout>, config: &SourceConfig) -> SourceFile {
        let entry = config.path.as_slice().get(found.entry);
        SourceFile {
            entry: entry.map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            found,
            columns,
            layout,
            image: config.image.clone(),
            follow_links: config.follow_links,
        }
    }

    pub(super) fn read(&self) -> Result<Box<dyn ReadRows>> {
        let (path, columns) = (self.found.path.as_path(), self.columns.clone());
        if let (Some(root), Pictures::Named(column)) = (&self.found.metadata_in, &self.columns.pictures) {
            let position = columns.extras.iter().position(|extra| extra.column.name == *column);
            let position = position.expect("the names of pictures are carried");
            let links = Links::of(root, self.follow_links).map_err(|source| Error::read(root, source))?;
            let rows = self.read_list(columns)?;
            return Ok(Box::new(MetadataRows::new(rows, path, &self.found.name, links, position)));
        }
        self.read_list(columns)
    }

    fn read_list(&self, columns: Columns) -> Result<Box<dyn ReadRows>> {
        let path = self.found.path.as_path();
        Ok(match self.found.format {
            SourceFormat::Parquet => Box::new(parquet::ParquetRows::open(path, columns)?),
            SourceFormat::Csv | SourceFormat::Tsv => {
                let layout = self.layout.expect("files with such rows were described with their layout");
                Box::new(delimited::DelimitedRows::open(path, columns, layout)?)
            }
            SourceFormat::Jsonl => Box::new(jsonl::JsonlRows::open(path, columns)?),
            SourceFormat::Txt => Box::new(txt::TxtRows::open(path)?),
            SourceFormat::Folder => Box::new(folder::FolderRows::open(path, self.follow_links, columns)?),
            SourceFormat::WebDataset => {
                Box::new(webdataset::WebDatasetRows::open(path, &self.found.name, self.image.as_deref(), columns)?)
            }
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: path.to_owned() }),
        })
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
