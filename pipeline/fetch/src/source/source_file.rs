//! One file of a source: the roles of its columns, and the reader of its rows.

use super::columns::{Columns, Pictures};
use super::delimited::Layout;
use super::files::Found;
use super::links::Links;
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
            let position = position.expect("the names of images are carried");
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
