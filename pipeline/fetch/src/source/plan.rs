//! Matches the columns of all files of a source: which of them hold URLs and captions, and the
//! names and types that the others have in the pool.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tracing::warn;

use super::columns::{Column, Columns, Extra, Pictures, find_column};
use super::describe::{Described, describe};
use super::files::Found;
use super::left_out::LeftOut;
use super::pictures::{CAPTION_KEY, TEXT_COLUMN};
use super::rows::ExtraBuilder;
use super::source_file::SourceFile;
use super::{SourceConfig, SourceFormat, default_url, jsonl, lists, parquet, rows, types};
use crate::{Error, Result};

/// All files of a source, and the columns of its parts.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) files: Vec<SourceFile>,
    /// The leading columns, the extra columns of the files, and those of `added`.
    pub(super) schema: SchemaRef,
    pub(super) added: Vec<Added>,
    /// Extra columns whose names the pool uses itself: their names in the files, and their new
    /// names.
    pub(super) renamed: Vec<(String, String)>,
}

/// An extra column that is not in a file but says where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// Name of the image relative to the source.
    File,
    /// The entry of the recipe's `path` that the row is from.
    SourcePath,
    /// Number of the row in the whole source before lists were expanded, from 0.
    SourceRow,
    /// Number of the image in that row, from 0.
    ImageIndex,
}

impl Added {
    fn field(self) -> Field {
        match self {
            Added::File => Field::new("file", DataType::Utf8, true),
            Added::SourcePath => Field::new("source_path", DataType::Utf8, true),
            Added::SourceRow => Field::new("source_row", DataType::Int64, true),
            Added::ImageIndex => Field::new("image_index", DataType::Int64, true),
        }
    }
}

/// Fails if the recipe names a key that no image has. Single images may lack it.
fn check_keys_of_pictures(described: &[Described], config: &SourceConfig) -> Result<()> {
    let scanned = || described.iter().filter_map(|file| Some((&file.found.path, file.scanned.as_ref()?)));
    let Some((path, _)) = scanned().find(|(_, scanned)| scanned.pictures > 0) else { return Ok(()) };
    let mut names: Vec<&str> = scanned().flat_map(|(_, scanned)| scanned.names.keys().map(String::as_str)).collect();
    names.extend(scanned().flat_map(|(_, scanned)| scanned.texts.iter().copied()));
    let lists = described.iter().filter(|file| file.pictures != Pictures::Elsewhere);
    names.extend(lists.flat_map(|file| &file.fields).map(|field| field.name().as_str()));
    names.sort_unstable();
    names.dedup();
    let url = Some(config.url.as_str()).filter(|url| *url != default_url());
    for (key, wanted) in [("url", url), ("caption", config.caption.as_deref())] {
        if let Some(wanted) = wanted {
            find_column(path, key, wanted, &names, SourceFormat::Folder)?;
        }
    }
    Ok(())
}

/// Matches the columns of all files.
pub(super) fn make(found: Vec<Found>, config: &SourceConfig, left_out: &mut LeftOut) -> Result<Plan> {
    let (described, mut keys) = describe(found, config, left_out)?;
    check_keys_of_pictures(&described, config)?;
    let mut columns = described.iter().map(|file| Columns::find(file, config)).collect::<Result<Vec<_>>>()?;
    let added = added(&described, &columns, config);
    let mut extras: Vec<Merged> = Vec::new();
    let mut taken: BTreeSet<String> =
        lynxdata_records::schema::pool().columns.iter().map(|column| column.name().clone()).collect();
    taken.insert("problem".to_owned()); // a column of the parts, see `SourcePart::rows`
    taken.extend(added.iter().map(|column| column.field().name().clone()));
    let has_second_caption =
        described.iter().filter_map(|file| file.scanned.as_ref()).any(|file| file.has_second_caption);
    for (columns, file) in columns.iter_mut().zip(&described) {
        let Described { fields, scanned, not_carried, .. } = file;
        // If the recipe names no caption column, this key is the caption. It is carried to the pool
        // too if it differs from a text file somewhere.
        let caption_key =
            (scanned.is_some() && columns.caption.is_none() && !has_second_caption).then_some(CAPTION_KEY);
        for (position, field) in fields.iter().enumerate() {
            let is_caption = columns.caption.as_ref().is_some_and(|column| column.position == position);
            let is_used_up = is_caption && !columns.has_caption_lists;
            let is_own = columns.url.position == position || is_used_up || not_carried.contains(&position);
            if is_own || caption_key == Some(field.name()) {
                continue;
            }
            if let Some(known) = extras.iter_mut().find(|known| known.name == *field.name()) {
                known.add(file, position, field)?;
            } else {
                let mut pool_name = field.name().clone();
                while !taken.insert(pool_name.clone()) {
                    pool_name.insert_str(0, "source_");
                }
                extras.push(Merged::new(file, position, field, pool_name));
            }
            if is_caption {
                let path = found_at(&file.found);
                warn!(
                    column = field.name(),
                    "the captions in {path} are lists, but the URLs are not: the first text of a list that is not blank is used as the caption, and the list is kept as a column of the pool"
                );
            }
            columns
                .extras
                .push(Extra { column: Column { position, name: field.name().clone() }, field: field.clone() });
        }
    }
    let extras = extras.into_iter().map(|merged| merged.settle(&mut keys)).collect::<Result<Vec<(String, Field)>>>()?;
    for (columns, file) in columns.iter_mut().zip(&described) {
        for extra in &mut columns.extras {
            if let Some((_, field)) = extras.iter().find(|(name, _)| *name == extra.column.name) {
                extra.field = field.clone();
            }
        }
        // Only Parquet has columns of other types. A text file may have a column of this name
        // without values, which is dropped.
        if file.found.format != SourceFormat::Parquet {
            columns.extras.retain(|extra| ExtraBuilder::makes(extra.field.data_type()));
        }
    }
    let names = extras.iter().map(|(name, field)| (name.clone(), field.name().clone()));
    let renamed = names.filter(|(name, pool_name)| name != pool_name).collect();
    let fields: Vec<Field> = rows::leading_fields()
        .into_iter()
        .chain(extras.into_iter().map(|(_, field)| field))
        .chain(added.iter().map(|column| column.field()))
        .collect();
    let files = described.into_iter().zip(columns);
    let files = files.map(|(file, columns)| SourceFile::new(file.found, columns, file.layout, config));
    Ok(Plan { files: files.collect(), schema: Arc::new(Schema::new(fields)), added, renamed })
}

/// Returns the path or URL of a file for messages.
fn found_at(found: &Found) -> String {
    found.url.clone().unwrap_or_else(|| found.path.display().to_string())
}

/// An extra column, merged over all files that have it.
struct Merged<'a> {
    name: String,
    pool_name: String,
    data_type: DataType,
    /// The files, the position of the column in each, and its type there.
    files: Vec<(&'a Described, usize, DataType)>,
}

impl<'a> Merged<'a> {
    fn new(file: &'a Described, position: usize, field: &Field, pool_name: String) -> Merged<'a> {
        let data_type = field.data_type().clone();
        let files = vec![(file, position, data_type.clone())];
        Merged { name: field.name().clone(), pool_name, data_type, files }
    }

    fn add(&mut self, file: &'a Described, position: usize, field: &Field) -> Result<()> {
        let Some(data_type) = types::common(&self.data_type, field.data_type()) else {
            let (first, _, _) = self.files[0];
            return Err(Error::ColumnTypes {
                column: self.name.clone(),
                first: first.found.path.clone(),
                first_type: self.data_type.to_string(),
                second: file.found.path.clone(),
                second_type: field.data_type().to_string(),
            });
        };
        self.data_type = data_type;
        self.files.push((file, position, field.data_type().clone()));
        Ok(())
    }

    /// Returns its name in the files, and its name and type in the pool. A column of integers and
    /// floats becomes text if some integer is not exact as a float.
    fn settle(self, keys: &mut jsonl::Keys) -> Result<(String, Field)> {
        let mut data_type = self.data_type;
        if data_type.is_floating() {
            let integers = self.files.iter().filter(|(.., own)| matches!(own, DataType::Int64 | DataType::UInt64));
            for (file, position, _) in integers {
                let is_wide = match file.found.format {
                    SourceFormat::Parquet => parquet::has_wide_integers(&file.found.path, *position)?,
                    _ => keys.seen(&self.name).has_wide_integers(),
                };
                if is_wide {
                    data_type = DataType::Utf8;
                }
            }
        }
        if data_type == DataType::Null {
            data_type = DataType::Utf8;
        }
        let is_other = |own: &DataType| !matches!(own, DataType::Utf8 | DataType::Null);
        if data_type == DataType::Utf8
            && let Some((file, _, own)) = self.files.iter().find(|(.., own)| is_other(own))
        {
            let path = found_at(&file.found);
            warn!(
                column = self.name,
                "the column is {own} in {path} but has another type in another file, so it becomes text in the pool"
            );
        }
        Ok((self.name, Field::new(self.pool_name, data_type, true)))
    }
}

/// Returns the columns about the origin of rows that this source needs.
fn added(described: &[Described], columns: &[Columns], config: &SourceConfig) -> Vec<Added> {
    let mut added = Vec::new();
    let is_local = |file: &Described| file.found.format.has_pictures() || file.pictures != Pictures::Elsewhere;
    if described.iter().any(is_local) {
        added.push(Added::File);
    }
    if config.path.as_slice().len() > 1 {
        added.push(Added::SourcePath);
    }
    let has_several = described.iter().any(|file| file.scanned.as_ref().is_some_and(|scanned| scanned.has_several));
    if has_several || columns.iter().any(|columns| columns.has_lists) {
        added.extend([Added::SourceRow, Added::ImageIndex]);
    }
    added
}

impl Columns {
    /// Finds the URL and the caption of a file.
    fn find(file: &Described, config: &SourceConfig) -> Result<Columns> {
        let Described { found: Found { path, format, .. }, fields, .. } = file;
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        if format.has_pictures() {
            let column = |name: &String| {
                let position = names.iter().position(|known| known == name).unwrap_or(fields.len());
                Column { position, name: name.clone() }
            };
            let (url, caption) = (column(&config.url), config.caption.as_ref().map(column));
            return Ok(file.columns(url, caption));
        }
        let find = |key: &'static str, wanted: &str| {
            let column = find_column(path, key, wanted, &names, *format)?;
            let data_type = fields[column.position].data_type();
            let item = lists::item_type(data_type).unwrap_or(data_type);
            // JSON values of any kind become text, and so do captions of types that can be printed.
            let is_text = matches!(item, DataType::Utf8 | DataType::Binary | DataType::Null)
                || *format == SourceFormat::Jsonl
                || (key == "caption" && types::is_printable(item));
            if !is_text {
                return Err(Error::NotText {
                    path: path.clone(),
                    key,
                    column: column.name,
                    data_type: data_type.to_string(),
                });
            }
            Ok(column)
        };
        if file.pictures != Pictures::Elsewhere {
            // Beside existing images, a URL may be missing, and captions have common names.
            let url = match find("url", &config.url) {
                Err(_) if config.url == default_url() => Column { position: fields.len(), name: default_url() },
                url => url?,
            };
            let caption = match &config.caption {
                Some(column) => Some(find("caption", column)?),
                None => [CAPTION_KEY, TEXT_COLUMN].into_iter().find_map(|name| find("caption", name).ok()),
            };
            let is_list = |column: &Column| lists::item_type(fields[column.position].data_type()).is_some();
            let has_caption_lists = file.has_caption_lists || caption.as_ref().is_some_and(is_list);
            return Ok(Columns { has_caption_lists, ..file.columns(url, caption) });
        }
        let url = find("url", &config.url)?;
        let has_names = matches!(format, SourceFormat::Csv | SourceFormat::Tsv) && config.header;
        if has_names && url.name.contains("://") {
            let reason = format!(
                "its first row is read as column names, but holds the URL {}; set `header = false` in \
                 [source], or --set source.header=false",
                url.name
            );
            return Err(Error::Format {
                path: path.clone(),
                format: if *format == SourceFormat::Csv { "CSV" } else { "TSV" },
                reason,
            });
        }
        let caption = config.caption.as_ref().map(|column| find("caption", column)).transpose()?;
        let is_list = |column: &Column| lists::item_type(fields[column.position].data_type()).is_some();
        let has_lists = is_list(&url);
        let has_caption_lists = !has_lists && (file.has_caption_lists || caption.as_ref().is_some_and(is_list));
        Ok(Columns { has_lists, has_caption_lists, ..file.columns(url, caption) })
    }
}
