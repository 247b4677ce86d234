//! Describes each file of a source: its columns, the layout of its text, and the place of its
//! images.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use lynxdata_records::schema::text_list_type;

use super::columns::{Column, Columns, Extra, Pictures, find_column, position};
use super::delimited::{Layout, layout};
use super::files::{Found, no_files};
use super::left_out::{Kind, LeftOut};
use super::pictures::Scanned;
use super::source_file::SourceFile;
use super::types::Seen;
use super::{SourceConfig, SourceFormat, decoded, delimited, folder, jsonl, lists, metadata, parquet, webdataset};
use crate::digest::is_digest_column;
use crate::{Error, Result};

/// A file with its columns.
pub(super) struct Described {
    pub(super) found: Found,
    pub(super) fields: Vec<Field>,
    /// The result of the first pass over a folder or an archive.
    pub(super) scanned: Option<Scanned>,
    /// The layout of a CSV or TSV file.
    pub(super) layout: Option<Layout>,
    /// Whether some caption is a list. It matters only if URLs are not lists.
    pub(super) has_caption_lists: bool,
    pub(super) pictures: Pictures,
    /// Positions of columns of images, which are not carried to the pool.
    pub(super) not_carried: Vec<usize>,
}

impl Described {
    fn new(found: Found, fields: Vec<Field>) -> Described {
        Described {
            found,
            fields,
            scanned: None,
            layout: None,
            has_caption_lists: false,
            pictures: Pictures::Elsewhere,
            not_carried: Vec::new(),
        }
    }

    /// Finds out where the images of a list are, if they exist already. Adds the images that a
    /// metadata file names to `named`.
    fn find_pictures(
        &mut self,
        config: &SourceConfig,
        named: &mut HashSet<PathBuf>,
        left_out: &mut LeftOut,
    ) -> Result<()> {
        let (path, name, wanted) = (&self.found.path, &self.found.name, config.image.as_deref());
        let names: Vec<&str> = self.fields.iter().map(|field| field.name().as_str()).collect();
        if self.found.metadata_in.is_some() {
            let found = metadata::picture_column(&names, wanted);
            let column = match found {
                Some(name) => find_column(path, "image", name, &names, self.found.format)?,
                None => find_column(path, "image", wanted.unwrap_or_default(), &names, self.found.format)?,
            };
            for other in metadata::other_columns(&names, &column.name) {
                left_out.add(Kind::OtherColumn, &format!("{other} of {name}"));
            }
            self.pictures = Pictures::Named(column.name.clone());
            let nothing = Column { position: self.fields.len(), name: String::new() };
            let field = Field::new(&column.name, DataType::Utf8, true);
            let columns = Columns { extras: vec![Extra { column, field }], ..self.columns(nothing, None) };
            metadata::named(SourceFile::new(self.found.clone(), columns, self.layout, config).read()?, named)?;
        } else if self.found.format == SourceFormat::Parquet {
            let columns = parquet::picture_columns(path, wanted)?;
            if let (Some(wanted), None) = (wanted.filter(|wanted| !wanted.is_empty()), columns.chosen) {
                let Column { name: column, .. } = find_column(path, "image", wanted, &names, self.found.format)?;
                return Err(Error::NoPictures { path: path.clone(), column });
            }
            // If URLs are lists, a row becomes several rows, but it has only one image in its cell.
            let url = names.iter().position(|name| *name == config.url);
            let has_lists = url.is_some_and(|url| lists::item_type(self.fields[url].data_type()).is_some());
            let (chosen, unread) = if has_lists { (None, columns.chosen) } else { (columns.chosen, None) };
            for position in columns.others.iter().chain(&unread) {
                let is_list = lists::item_type(self.fields[*position].data_type()).is_some();
                let kind = if is_list { Kind::ListColumn } else { Kind::OtherColumn };
                left_out.add(kind, &format!("{} of {name}", names[*position]));
            }
            self.not_carried = columns.others.into_iter().chain(columns.chosen).collect();
            if chosen.is_some() {
                self.pictures = Pictures::InCells(name.clone());
            }
        }
        Ok(())
    }

    pub(super) fn columns(&self, url: Column, caption: Option<Column>) -> Columns {
        let (count, pictures) = (self.fields.len(), self.pictures.clone());
        Columns { url, caption, extras: Vec::new(), has_lists: false, has_caption_lists: false, count, pictures }
    }
}

/// State while the files of a source are described one after another.
struct Describing<'a> {
    config: &'a SourceConfig,
    left_out: &'a mut LeftOut,
    keys: jsonl::Keys,
    /// Whether URLs are lists in any JSONL file.
    has_lists: bool,
    /// Images that metadata files name. `named_in` holds the folders of these files.
    named: HashSet<PathBuf>,
    named_in: HashSet<PathBuf>,
}

/// Reads the headers of all files. Formats without types (CSV, TSV, JSONL, folders, archives) are
/// read completely to find the types of their columns.
pub(super) fn describe(
    files: Vec<Found>,
    config: &SourceConfig,
    left_out: &mut LeftOut,
) -> Result<(Vec<Described>, jsonl::Keys)> {
    let mut describing = Describing {
        config,
        left_out,
        keys: jsonl::Keys::default(),
        has_lists: false,
        named: HashSet::new(),
        named_in: HashSet::new(),
    };
    let mut described = Vec::new();
    for found in files {
        if found.format != SourceFormat::Folder {
            decoded::refuse_foreign(&found.path).map_err(|source| Error::read(&found.path, source))?;
        }
        if let Some(mut file) = describing.file(found)? {
            describing.named_in.extend(file.found.metadata_in.clone());
            file.find_pictures(config, &mut describing.named, describing.left_out)?;
            described.push(file);
        }
    }
    let Describing { keys, has_lists, .. } = describing;
    let mut key_types: BTreeMap<String, DataType> =
        keys.fields().into_iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    if has_lists {
        key_types.insert(config.url.clone(), text_list_type());
    }
    for file in described.iter_mut().filter(|file| file.found.format != SourceFormat::Parquet) {
        // Fields that have a type already are texts: the URLs and captions of CSV, TSV and TXT.
        for field in file.fields.iter_mut().filter(|field| field.data_type() == &DataType::Null) {
            let data_type = key_types.get(field.name()).cloned().unwrap_or(DataType::Null);
            *field = Field::new(field.name(), data_type, true);
        }
    }
    Ok((described, keys))
}

impl Describing<'_> {
    /// Describes one file. Returns `None` if it has no rows.
    fn file(&mut self, found: Found) -> Result<Option<Described>> {
        let (path, config) = (found.path.as_path(), self.config);
        let untyped = |name: String| Field::new(name, DataType::Null, true);
        Ok(match found.format {
            SourceFormat::Parquet => {
                let fields = parquet::fields(path)?;
                Some(Described::new(found, fields))
            }
            // A file without a first row has no rows.
            SourceFormat::Csv | SourceFormat::Tsv => match layout(path, found.format, config)? {
                None => None,
                Some((layout, names)) => {
                    let fields = scan_texts(path, layout, &names, found.metadata_in.is_some(), config, &mut self.keys)?;
                    Some(Described { layout: Some(layout), ..Described::new(found, fields) })
                }
            },
            SourceFormat::Txt => Some(Described::new(found, vec![Field::new("url", DataType::Utf8, true)])),
            SourceFormat::Jsonl => {
                let scan = self.keys.scan(path, config)?;
                self.has_lists |= scan.has_lists;
                let mut names = scan.names;
                // If every line is malformed, no columns are known. Assume the wanted ones, so that
                // the malformed rows are reported.
                if names.is_empty() {
                    names.extend([Some(&config.url), config.caption.as_ref()].into_iter().flatten().cloned());
                }
                let fields = names.into_iter().map(untyped).collect();
                Some(Described { has_caption_lists: scan.has_caption_lists, ..Described::new(found, fields) })
            }
            SourceFormat::Folder => {
                let mut scanned = folder::scan(path, config.follow_links, &self.named, &mut self.keys)?;
                if scanned.pictures + scanned.problems == 0 && !self.named_in.contains(path) {
                    return Err(no_files(path, found.format, &scanned.left_out));
                }
                self.left_out.append(std::mem::take(&mut scanned.left_out));
                let fields = scanned.fields(untyped);
                Some(Described { scanned: Some(scanned), ..Described::new(found, fields) })
            }
            SourceFormat::WebDataset => {
                let mut scanned = webdataset::scan(path, config.image.as_deref(), &mut self.keys)?;
                self.left_out.append(std::mem::take(&mut scanned.left_out));
                let fields = scanned.fields(untyped);
                Some(Described { scanned: Some(scanned), ..Described::new(found, fields) })
            }
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: path.to_owned() }),
        })
    }
}

/// Reads a CSV or TSV file to find the types of its columns besides URLs and captions. Columns of
/// digests are texts.
fn scan_texts(
    path: &Path,
    layout: Layout,
    names: &[String],
    is_metadata: bool,
    config: &SourceConfig,
    keys: &mut jsonl::Keys,
) -> Result<Vec<Field>> {
    let find = |wanted: &String| position(wanted, names, SourceFormat::Csv);
    let (url, caption) = (find(&config.url), config.caption.as_ref().and_then(find));
    let is_text = |position: usize| Some(position) == url || Some(position) == caption;
    // A missing column is an error that is raised later, so the scan is skipped. A metadata file
    // needs no URLs.
    let has_columns = (url.is_some() || is_metadata) && caption.is_some() == config.caption.is_some();
    if has_columns && (0..names.len()).any(|position| !is_text(position)) {
        let seen = delimited::scan(path, layout, names.len(), url)?;
        let columns = names.iter().zip(seen).enumerate().filter(|(position, _)| !is_text(*position));
        for (_, (name, seen)) in columns {
            keys.seen(name).add_all(if is_digest_column(name) { Seen::text() } else { seen });
        }
    }
    let field = |(position, name): (usize, &String)| {
        Field::new(name, if is_text(position) { DataType::Utf8 } else { DataType::Null }, true)
    };
    Ok(names.iter().enumerate().map(field).collect())
}
