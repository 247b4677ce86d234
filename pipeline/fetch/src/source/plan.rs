//! Matching the columns of all files of a source: which of them hold URLs and captions, and under which names and types the others are carried.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lynxdata_records::schema::text_list_type;

use super::files::Found;
use super::pictures::{CAPTION_KEY, Scanned};
use super::{
    ReadRows, SourceConfig, SourceFormat, csv, default_url, folder, jsonl, lists, parquet, rows, tsv, txt, webdataset,
};
use crate::{Error, Result};

/// All files of a source, and the columns of its parts.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) files: Vec<SourceFile>,
    /// The leading columns, the extra columns of the files, and those of `added`.
    pub(super) schema: SchemaRef,
    pub(super) added: Vec<Added>,
    /// Names of extra columns in the files that the pool has a column of, and what they are called instead.
    pub(super) renamed: Vec<(String, String)>,
}

/// An extra column that no file has, since it says where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// Name of the picture below the source.
    File,
    /// Number of the row before lists were expanded, from 0, over the whole source.
    SourceRow,
    /// Number of the picture in that row, from 0.
    ImageIndex,
}

impl Added {
    fn field(self) -> Field {
        match self {
            Added::File => Field::new("file", DataType::Utf8, true),
            Added::SourceRow => Field::new("source_row", DataType::Int64, true),
            Added::ImageIndex => Field::new("image_index", DataType::Int64, true),
        }
    }
}

#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) found: Found,
    columns: Columns,
    header: bool,
}

/// Which column of a file becomes what.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) url: Column,
    pub(super) caption: Option<Column>,
    pub(super) extras: Vec<Extra>,
    /// Whether URLs are lists; a single one then counts as a list of one.
    pub(super) has_lists: bool,
    /// Of all columns of the file.
    pub(super) count: usize,
}

/// A column of a file.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Behind all columns if the file has none of this name.
    pub(super) position: usize,
    pub(super) name: String,
}

/// A column that is carried through, and its name and type in the pool.
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
    pub(super) fn read(&self) -> Result<Box<dyn ReadRows>> {
        let (path, columns) = (self.found.path.as_path(), self.columns.clone());
        Ok(match self.found.format {
            SourceFormat::Parquet => Box::new(parquet::ParquetRows::open(path, columns)?),
            SourceFormat::Csv => Box::new(csv::CsvRows::open(path, columns, self.header)?),
            SourceFormat::Tsv => Box::new(tsv::TsvRows::open(path, columns, self.header)?),
            SourceFormat::Jsonl => Box::new(jsonl::JsonlRows::open(path, columns)?),
            SourceFormat::Txt => Box::new(txt::TxtRows::open(path)?),
            SourceFormat::Folder => Box::new(folder::FolderRows::open(path, columns)?),
            SourceFormat::WebDataset => Box::new(webdataset::WebDatasetRows::open(path, &self.found.name, columns)?),
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: path.to_owned() }),
        })
    }
}

/// A file with its columns.
struct Described {
    found: Found,
    fields: Vec<Field>,
    /// Of pictures.
    scanned: Option<Scanned>,
}

/// Reads the headers of all files, and of those with keys all objects, since only then their types are known.
fn describe(files: Vec<Found>, config: &SourceConfig) -> Result<Vec<Described>> {
    let mut keys = jsonl::Keys::default();
    let mut has_lists = false; // in the URLs of any JSONL file
    let mut described = Vec::new();
    let untyped = |name: String| Field::new(name, DataType::Null, true);
    for found in files {
        let path = found.path.as_path();
        let mut scanned = None;
        let fields = match found.format {
            SourceFormat::Parquet => Some(parquet::fields(path)?),
            SourceFormat::Csv => text_fields(csv::first_row(path)?, config.header),
            SourceFormat::Tsv => text_fields(tsv::first_row(path)?, config.header),
            SourceFormat::Txt => Some(vec![Field::new("url", DataType::Utf8, true)]),
            SourceFormat::Jsonl => {
                let scan = keys.scan(path, &config.url)?;
                has_lists |= scan.has_lists;
                Some(scan.names.into_iter().map(untyped).collect())
            }
            SourceFormat::Folder => {
                let scan = scanned.insert(folder::scan(path, &mut keys)?);
                if scan.pictures + scan.problems == 0 {
                    return Err(Error::NoFiles { path: path.to_owned(), expected: found.format.endings() });
                }
                Some(scan.fields(untyped))
            }
            SourceFormat::WebDataset => Some(scanned.insert(webdataset::scan(path, &mut keys)?).fields(untyped)),
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: path.to_owned() }),
        };
        match fields {
            // A text file without a first row has no rows at all.
            None => {}
            // A JSONL file without a single good line has no row that could lack a column, but its bad lines count.
            Some(fields) if fields.is_empty() && found.format == SourceFormat::Jsonl => {
                let names = [Some(&config.url), config.caption.as_ref()].into_iter().flatten();
                let fields = names.cloned().map(untyped).collect();
                described.push(Described { found, fields, scanned });
            }
            Some(fields) => described.push(Described { found, fields, scanned }),
        }
    }
    let mut key_types: BTreeMap<String, DataType> =
        keys.fields().into_iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    if has_lists {
        key_types.insert(config.url.clone(), text_list_type());
    }
    for file in described.iter_mut().filter(|file| file.found.format.has_keys()) {
        for field in &mut file.fields {
            let data_type = key_types.get(field.name()).cloned().unwrap_or(DataType::Utf8);
            *field = Field::new(field.name(), data_type, true);
        }
    }
    Ok(described)
}

/// Fails if the recipe names a key that stands beside no picture at all; single pictures may lack it.
fn check_keys_of_pictures(described: &[Described], config: &SourceConfig) -> Result<()> {
    let scanned = || described.iter().filter_map(|file| Some((&file.found.path, file.scanned.as_ref()?)));
    let Some((path, _)) = scanned().find(|(_, scanned)| scanned.pictures > 0) else { return Ok(()) };
    let mut names: Vec<&str> = scanned().flat_map(|(_, scanned)| scanned.names.keys().map(String::as_str)).collect();
    names.extend(scanned().flat_map(|(_, scanned)| scanned.texts.iter().copied()));
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

/// The columns of a CSV or TSV file. Names that are empty or come twice get one of their own.
fn text_fields(first_row: Option<Vec<String>>, header: bool) -> Option<Vec<Field>> {
    let mut taken = BTreeSet::new();
    let names = first_row?.into_iter().enumerate().map(|(index, name)| {
        let mut name =
            if header && !name.trim().is_empty() { name.trim().to_owned() } else { format!("column_{index}") };
        while !taken.insert(name.clone()) {
            name += "_";
        }
        Field::new(name, DataType::Utf8, true)
    });
    Some(names.collect())
}

/// Matches the columns of all files.
pub(super) fn make(found: Vec<Found>, config: &SourceConfig) -> Result<Plan> {
    let described = describe(found, config)?;
    check_keys_of_pictures(&described, config)?;
    let mut columns = described.iter().map(|file| Columns::find(file, config)).collect::<Result<Vec<_>>>()?;
    let added = added(&described, &columns);
    // Name in the files -> first file with it, and name and type in the pool.
    let mut extras: Vec<(String, PathBuf, Field)> = Vec::new();
    let mut taken: BTreeSet<String> =
        lynxdata_records::schema::pool().columns.iter().map(|column| column.field.name().clone()).collect();
    taken.insert("problem".to_owned()); // a column of the parts, see `SourcePart::rows`
    taken.extend(added.iter().map(|column| column.field().name().clone()));
    let mut types: BTreeMap<&str, &DataType> = BTreeMap::new();
    for field in described.iter().flat_map(|file| &file.fields).filter(|field| field.data_type() != &DataType::Null) {
        types.entry(field.name()).or_insert(field.data_type());
    }
    let has_second_caption =
        described.iter().filter_map(|file| file.scanned.as_ref()).any(|file| file.has_second_caption);
    for (columns, Described { found, fields, scanned }) in columns.iter_mut().zip(&described) {
        let path = &found.path;
        // Where no column is named, this key is the caption; it is carried too if the caption elsewhere is another text.
        let caption_key =
            (scanned.is_some() && columns.caption.is_none() && !has_second_caption).then_some(CAPTION_KEY);
        for (position, field) in fields.iter().enumerate() {
            let is_caption = columns.caption.as_ref().is_some_and(|column| column.position == position);
            if columns.url.position == position || is_caption || caption_key == Some(field.name()) {
                continue;
            }
            let name = field.name();
            let data_type = match field.data_type() {
                DataType::Null => types.get(name.as_str()).copied().unwrap_or(&DataType::Utf8),
                known => known,
            };
            let pool_field = match extras.iter().find(|(known, _, _)| known == name) {
                Some((_, first, known)) if known.data_type() != data_type => {
                    return Err(Error::ColumnTypes {
                        column: name.clone(),
                        first: first.clone(),
                        first_type: known.data_type().to_string(),
                        second: path.clone(),
                        second_type: data_type.to_string(),
                    });
                }
                Some((_, _, known)) => known.clone(),
                None => {
                    let mut pool_name = name.clone();
                    while !taken.insert(pool_name.clone()) {
                        pool_name.insert_str(0, "source_");
                    }
                    let pool_field = Field::new(pool_name, data_type.clone(), true);
                    extras.push((name.clone(), path.clone(), pool_field.clone()));
                    pool_field
                }
            };
            columns.extras.push(Extra { column: Column { position, name: name.clone() }, field: pool_field });
        }
    }
    let names = extras.iter().map(|(name, _, field)| (name.clone(), field.name().clone()));
    let renamed = names.filter(|(name, pool_name)| name != pool_name).collect();
    let fields: Vec<Field> = rows::leading_fields()
        .into_iter()
        .chain(extras.into_iter().map(|(_, _, field)| field))
        .chain(added.iter().map(|column| column.field()))
        .collect();
    let files = described.into_iter().zip(columns);
    let files = files.map(|(file, columns)| SourceFile { found: file.found, columns, header: config.header });
    Ok(Plan { files: files.collect(), schema: Arc::new(Schema::new(fields)), added, renamed })
}

/// The columns that say where rows come from, as far as this source needs them.
fn added(described: &[Described], columns: &[Columns]) -> Vec<Added> {
    let mut added = Vec::new();
    if described.iter().any(|file| file.found.format.has_pictures()) {
        added.push(Added::File);
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
            return Ok(Columns { url, caption, extras: Vec::new(), has_lists: false, count: fields.len() });
        }
        let find = |key, wanted: &str, takes_lists| {
            let column = find_column(path, key, wanted, &names, *format)?;
            let data_type = fields[column.position].data_type();
            let item = lists::item_type(data_type).filter(|_| takes_lists).unwrap_or(data_type);
            // JSON values of any kind are turned into text.
            if *format != SourceFormat::Jsonl && !matches!(item, DataType::Utf8 | DataType::Binary | DataType::Null) {
                return Err(Error::NotText {
                    path: path.clone(),
                    key,
                    column: column.name,
                    data_type: data_type.to_string(),
                });
            }
            Ok(column)
        };
        let url = find("url", &config.url, true)?;
        let has_lists = lists::item_type(fields[url.position].data_type()).is_some();
        let caption = config.caption.as_ref().map(|column| find("caption", column, has_lists)).transpose()?;
        Ok(Columns { url, caption, extras: Vec::new(), has_lists, count: fields.len() })
    }
}

fn find_column(path: &Path, key: &'static str, wanted: &str, names: &[&str], format: SourceFormat) -> Result<Column> {
    let by_name = names.iter().position(|name| *name == wanted);
    let by_number = || wanted.parse().ok().filter(|index| *index < names.len());
    let takes_numbers = matches!(format, SourceFormat::Csv | SourceFormat::Tsv | SourceFormat::Txt);
    if let Some(position) = by_name.or_else(|| by_number().filter(|_| takes_numbers)) {
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
