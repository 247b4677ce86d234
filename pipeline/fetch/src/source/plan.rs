//! Matching the columns of all files of a source: which of them hold URLs and captions, and under which names and types the others are carried.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lynxdata_records::schema::text_list_type;

use super::files::{Found, no_files};
use super::folder::Links;
use super::left_out::{Kind, LeftOut};
use super::metadata::MetadataRows;
use super::pictures::{CAPTION_KEY, Scanned, TEXT_COLUMN};
use super::{
    ReadRows, SourceConfig, SourceFormat, csv, default_url, folder, jsonl, lists, metadata, parquet, rows, tsv, txt,
    webdataset,
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
    /// Which entry of the recipe's `path` the row is from.
    SourcePath,
    /// Number of the row before lists were expanded, from 0, over the whole source.
    SourceRow,
    /// Number of the picture in that row, from 0.
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

#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) found: Found,
    /// The entry of the recipe's `path` that it is from.
    pub(super) entry: String,
    columns: Columns,
    header: bool,
    image: Option<String>,
    follow_links: bool,
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
    /// Where the pictures are, if they are not fetched.
    pub(super) pictures: Pictures,
}

/// Where the pictures of a list are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pictures {
    /// At their URLs, or where the format says.
    Elsewhere,
    /// In cells of the file itself; the name of the file below the source.
    InCells(String),
    /// In files that this column names.
    Named(String),
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
    fn new(found: Found, columns: Columns, config: &SourceConfig) -> SourceFile {
        let entry = config.path.as_slice().get(found.entry);
        SourceFile {
            entry: entry.map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            found,
            columns,
            header: config.header,
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
            SourceFormat::Csv => Box::new(csv::CsvRows::open(path, columns, self.header)?),
            SourceFormat::Tsv => Box::new(tsv::TsvRows::open(path, columns, self.header)?),
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

/// A file with its columns.
struct Described {
    found: Found,
    fields: Vec<Field>,
    /// Of pictures.
    scanned: Option<Scanned>,
    pictures: Pictures,
    /// Positions of columns of pictures, which are not carried.
    not_carried: Vec<usize>,
}

impl Described {
    fn new(found: Found, fields: Vec<Field>, scanned: Option<Scanned>) -> Described {
        Described { found, fields, scanned, pictures: Pictures::Elsewhere, not_carried: Vec::new() }
    }

    /// Finds out where the pictures of a list are, if they are there already. `named` gets those that
    /// a metadata file names.
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
            metadata::named(SourceFile::new(self.found.clone(), columns, config).read()?, named)?;
        } else if self.found.format == SourceFormat::Parquet {
            let columns = parquet::picture_columns(path, wanted)?;
            if let (Some(wanted), None) = (wanted.filter(|wanted| !wanted.is_empty()), columns.chosen) {
                let Column { name: column, .. } = find_column(path, "image", wanted, &names, self.found.format)?;
                return Err(Error::NoPictures { path: path.clone(), column });
            }
            // URLs in lists make several rows of one, which has but one picture.
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

    fn columns(&self, url: Column, caption: Option<Column>) -> Columns {
        let (count, pictures) = (self.fields.len(), self.pictures.clone());
        Columns { url, caption, extras: Vec::new(), has_lists: false, count, pictures }
    }
}

/// Reads the headers of all files, and of those with keys all objects, since only then their types are known.
fn describe(files: Vec<Found>, config: &SourceConfig, left_out: &mut LeftOut) -> Result<Vec<Described>> {
    let mut keys = jsonl::Keys::default();
    let mut has_lists = false; // in the URLs of any JSONL file
    let mut named = HashSet::new(); // pictures, by metadata files
    let mut described: Vec<Described> = Vec::new();
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
                let mut scan = folder::scan(path, config.follow_links, &named, &mut keys)?;
                let is_described = described.iter().any(|file| file.found.metadata_in.as_deref() == Some(path));
                if scan.pictures + scan.problems == 0 && !is_described {
                    return Err(no_files(path, found.format, &scan.left_out));
                }
                left_out.append(std::mem::take(&mut scan.left_out));
                Some(scanned.insert(scan).fields(untyped))
            }
            SourceFormat::WebDataset => {
                let mut scan = webdataset::scan(path, config.image.as_deref(), &mut keys)?;
                left_out.append(std::mem::take(&mut scan.left_out));
                Some(scanned.insert(scan).fields(untyped))
            }
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: path.to_owned() }),
        };
        match fields {
            // A text file without a first row has no rows at all.
            None => {}
            // A JSONL file without a single good line has no row that could lack a column, but its bad lines count.
            Some(fields) if fields.is_empty() && found.format == SourceFormat::Jsonl => {
                let names = [Some(&config.url), config.caption.as_ref()].into_iter().flatten();
                let fields = names.cloned().map(untyped).collect();
                described.push(Described::new(found, fields, scanned));
            }
            Some(fields) => {
                let mut file = Described::new(found, fields, scanned);
                file.find_pictures(config, &mut named, left_out)?;
                described.push(file);
            }
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
pub(super) fn make(found: Vec<Found>, config: &SourceConfig, left_out: &mut LeftOut) -> Result<Plan> {
    let described = describe(found, config, left_out)?;
    check_keys_of_pictures(&described, config)?;
    let mut columns = described.iter().map(|file| Columns::find(file, config)).collect::<Result<Vec<_>>>()?;
    let added = added(&described, &columns, config);
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
    for (columns, Described { found, fields, scanned, not_carried, .. }) in columns.iter_mut().zip(&described) {
        let path = &found.path;
        // Where no column is named, this key is the caption; it is carried too if the caption elsewhere is another text.
        let caption_key =
            (scanned.is_some() && columns.caption.is_none() && !has_second_caption).then_some(CAPTION_KEY);
        for (position, field) in fields.iter().enumerate() {
            let is_caption = columns.caption.as_ref().is_some_and(|column| column.position == position);
            let is_own = columns.url.position == position || is_caption || not_carried.contains(&position);
            if is_own || caption_key == Some(field.name()) {
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
    let files = files.map(|(file, columns)| SourceFile::new(file.found, columns, config));
    Ok(Plan { files: files.collect(), schema: Arc::new(Schema::new(fields)), added, renamed })
}

/// The columns that say where rows come from, as far as this source needs them.
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
        let find = |key: &'static str, wanted: &str, takes_lists: bool| {
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
        if file.pictures != Pictures::Elsewhere {
            // Beside pictures that are there a URL may be missing, and captions have usual names.
            let url = match find("url", &config.url, false) {
                Err(_) if config.url == default_url() => Column { position: fields.len(), name: default_url() },
                url => url?,
            };
            let caption = match &config.caption {
                Some(column) => Some(find("caption", column, false)?),
                None => [CAPTION_KEY, TEXT_COLUMN].into_iter().find_map(|name| find("caption", name, false).ok()),
            };
            return Ok(file.columns(url, caption));
        }
        let url = find("url", &config.url, true)?;
        let has_lists = lists::item_type(fields[url.position].data_type()).is_some();
        let caption = config.caption.as_ref().map(|column| find("caption", column, has_lists)).transpose()?;
        Ok(Columns { has_lists, ..file.columns(url, caption) })
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
