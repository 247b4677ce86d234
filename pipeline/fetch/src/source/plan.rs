//! Matching the columns of all files of a source: which of them hold URLs and captions, and under which names and types the others are carried.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lynxdata_records::schema::text_list_type;
use tracing::warn;

use super::delimited::{Layout, Quotes, SEPARATORS};
use super::files::{Found, no_files};
use super::folder::Links;
use super::left_out::{Kind, LeftOut};
use super::metadata::MetadataRows;
use super::pictures::{CAPTION_KEY, Scanned, TEXT_COLUMN};
use super::rows::ExtraBuilder;
use super::types::Seen;
use super::{
    ReadRows, SourceConfig, SourceFormat, decoded, default_url, delimited, folder, jsonl, lists, metadata, parquet,
    rows, txt, types, webdataset,
};
use crate::download::is_digest_column;
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
    /// Of CSV and TSV.
    layout: Option<Layout>,
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
    /// Whether captions are lists where URLs are not; the first text of a list counts then.
    pub(super) has_caption_lists: bool,
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
    fn new(found: Found, columns: Columns, layout: Option<Layout>, config: &SourceConfig) -> SourceFile {
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

/// A file with its columns.
struct Described {
    found: Found,
    fields: Vec<Field>,
    /// Of pictures.
    scanned: Option<Scanned>,
    /// Of CSV and TSV.
    layout: Option<Layout>,
    /// Whether the caption of a row may be a list where its URL is none.
    has_caption_lists: bool,
    pictures: Pictures,
    /// Positions of columns of pictures, which are not carried.
    not_carried: Vec<usize>,
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
            metadata::named(SourceFile::new(self.found.clone(), columns, self.layout, config).read()?, named)?;
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
        Columns { url, caption, extras: Vec::new(), has_lists: false, has_caption_lists: false, count, pictures }
    }
}

/// What is found while the files of a source are described one after another.
struct Describing<'a> {
    config: &'a SourceConfig,
    left_out: &'a mut LeftOut,
    keys: jsonl::Keys,
    /// Whether URLs are lists in any JSONL file.
    has_lists: bool,
    /// Pictures that metadata files name, and the folders of these files.
    named: HashSet<PathBuf>,
    named_in: HashSet<PathBuf>,
}

/// Reads the headers of all files, and of those whose format has no types all rows, since only then their types are known.
fn describe(files: Vec<Found>, config: &SourceConfig, left_out: &mut LeftOut) -> Result<(Vec<Described>, jsonl::Keys)> {
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
        // Those that are settled are texts: the URLs and captions of CSV, TSV and TXT.
        for field in file.fields.iter_mut().filter(|field| field.data_type() == &DataType::Null) {
            let data_type = key_types.get(field.name()).cloned().unwrap_or(DataType::Null);
            *field = Field::new(field.name(), data_type, true);
        }
    }
    Ok((described, keys))
}

impl Describing<'_> {
    /// Describes one file; `None` if it has no rows.
    fn file(&mut self, found: Found) -> Result<Option<Described>> {
        let (path, config) = (found.path.as_path(), self.config);
        let untyped = |name: String| Field::new(name, DataType::Null, true);
        Ok(match found.format {
            SourceFormat::Parquet => {
                let fields = parquet::fields(path)?;
                Some(Described::new(found, fields))
            }
            // A text file without a first row has no rows at all.
            SourceFormat::Csv | SourceFormat::Tsv => match layout(path, found.format, config)? {
                None => None,
                Some((layout, names)) => {
                    let fields = scan_texts(path, layout, &names, config, &mut self.keys)?;
                    Some(Described { layout: Some(layout), ..Described::new(found, fields) })
                }
            },
            SourceFormat::Txt => Some(Described::new(found, vec![Field::new("url", DataType::Utf8, true)])),
            SourceFormat::Jsonl => {
                let scan = self.keys.scan(path, config)?;
                self.has_lists |= scan.has_lists;
                let mut names = scan.names;
                // Without a single good line there is no row that could lack a column, but the bad lines count.
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

/// How a CSV or TSV file is laid out, and the names of its columns; `None` if it is empty. The separator of CSV is that of a line `sep=…`, else the first
/// with which the columns of the recipe are found, else the one that makes the most columns.
pub(super) fn layout(
    path: &Path,
    format: SourceFormat,
    config: &SourceConfig,
) -> Result<Option<(Layout, Vec<String>)>> {
    let (quotes, told) = match format {
        SourceFormat::Tsv => (Quotes::Tsv, None),
        _ => (Quotes::Csv, delimited::separator_line(path)?),
    };
    let candidates = match (quotes, told) {
        (_, Some(told)) => vec![told],
        (Quotes::Tsv, None) => vec![b'\t'],
        (Quotes::Csv, None) => SEPARATORS.to_vec(),
    };
    let layout = |separator| Layout { separator, quotes, has_separator_line: told.is_some(), header: config.header };
    let names = |separator| -> Result<Option<Vec<String>>> {
        Ok(delimited::first_row(path, layout(separator))?.map(|row| column_names(row, config.header)))
    };
    let mut best: Option<(u8, Vec<String>, usize)> = None;
    for separator in candidates {
        let found = match names(separator) {
            Err(error) if best.is_none() => return Err(error),
            Ok(Some(found)) => found,
            Err(_) | Ok(None) => continue,
        };
        let position = |wanted: &str| position(wanted, &found, format);
        let is_found = |column: Option<&String>| usize::from(column.is_none_or(|name| position(name).is_some()));
        // Both columns; or the URL, which may be missed in the caption's place; or none.
        let score = is_found(Some(&config.url)) * 2 + is_found(config.caption.as_ref());
        let is_better = best.as_ref().is_none_or(|(_, names, before)| {
            score > *before || (score == *before && score < 3 && names.len() == 1 && found.len() > 1)
        });
        if is_better {
            best = Some((separator, found, score));
        }
    }
    Ok(best.map(|(separator, names, _)| (layout(separator), names)))
}

/// Reads a CSV or TSV file for its columns of numbers, if it has any beside URLs and captions.
/// Digests are no numbers.
fn scan_texts(
    path: &Path,
    layout: Layout,
    names: &[String],
    config: &SourceConfig,
    keys: &mut jsonl::Keys,
) -> Result<Vec<Field>> {
    let find = |wanted: &String| position(wanted, names, SourceFormat::Csv);
    let (url, caption) = (find(&config.url), config.caption.as_ref().and_then(find));
    let is_text = |position: usize| Some(position) == url || Some(position) == caption;
    // Where a column is missing, that is said at once.
    if let Some(url) = url
        && caption.is_some() == config.caption.is_some()
        && (0..names.len()).any(|position| !is_text(position))
    {
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

/// The names of the columns of a CSV or TSV file.
fn column_names(first_row: Vec<String>, header: bool) -> Vec<String> {
    let names = first_row.into_iter().enumerate().map(|(index, name)| {
        if header && !name.trim().is_empty() { name.trim().to_owned() } else { format!("column_{index}") }
    });
    unique_names(names).collect()
}

/// Names of columns; those that come twice get one of their own.
pub(super) fn unique_names(names: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    let mut taken = BTreeSet::new();
    names.map(move |mut name| {
        while !taken.insert(name.clone()) {
            name += "_";
        }
        name
    })
}

/// Matches the columns of all files.
pub(super) fn make(found: Vec<Found>, config: &SourceConfig, left_out: &mut LeftOut) -> Result<Plan> {
    let (described, mut keys) = describe(found, config, left_out)?;
    check_keys_of_pictures(&described, config)?;
    let mut columns = described.iter().map(|file| Columns::find(file, config)).collect::<Result<Vec<_>>>()?;
    let added = added(&described, &columns, config);
    let mut extras: Vec<Merged> = Vec::new();
    let mut taken: BTreeSet<String> =
        lynxdata_records::schema::pool().columns.iter().map(|column| column.field.name().clone()).collect();
    taken.insert("problem".to_owned()); // a column of the parts, see `SourcePart::rows`
    taken.extend(added.iter().map(|column| column.field().name().clone()));
    let has_second_caption =
        described.iter().filter_map(|file| file.scanned.as_ref()).any(|file| file.has_second_caption);
    for (columns, file) in columns.iter_mut().zip(&described) {
        let Described { fields, scanned, not_carried, .. } = file;
        // Where no column is named, this key is the caption; it is carried too if the caption elsewhere is another text.
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
                    "the captions in {path} are lists, but their URLs are not: the first text of a list that is not blank is the caption, and the list is carried as well"
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
        // Columns of the other types are those of Parquet; a text file whose column has no value
        // may have one of this name.
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

/// The path of a file as people know it.
fn found_at(found: &Found) -> String {
    found.url.clone().unwrap_or_else(|| found.path.display().to_string())
}

/// An extra column of all files that have it.
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

    /// Its name in the files, and its name and type in the pool. Integers that are not exact as
    /// floats make a text of a column of both.
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
                "it is {own} in {path} but of another type in another file, so it is carried as text"
            );
        }
        Ok((self.name, Field::new(self.pool_name, data_type, true)))
    }
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
        let find = |key: &'static str, wanted: &str| {
            let column = find_column(path, key, wanted, &names, *format)?;
            let data_type = fields[column.position].data_type();
            let item = lists::item_type(data_type).unwrap_or(data_type);
            // JSON values of any kind are turned into text, and so are captions that have one.
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
            // Beside pictures that are there a URL may be missing, and captions have usual names.
            let url = match find("url", &config.url) {
                Err(_) if config.url == default_url() => Column { position: fields.len(), name: default_url() },
                url => url?,
            };
            let caption = match &config.caption {
                Some(column) => Some(find("caption", column)?),
                None => [CAPTION_KEY, TEXT_COLUMN].into_iter().find_map(|name| find("caption", name).ok()),
            };
            return Ok(file.columns(url, caption));
        }
        let url = find("url", &config.url)?;
        let caption = config.caption.as_ref().map(|column| find("caption", column)).transpose()?;
        let is_list = |column: &Column| lists::item_type(fields[column.position].data_type()).is_some();
        let has_lists = is_list(&url);
        let has_caption_lists = !has_lists && (file.has_caption_lists || caption.as_ref().is_some_and(is_list));
        Ok(Columns { has_lists, has_caption_lists, ..file.columns(url, caption) })
    }
}

/// Where a column is, by its name, or in formats that may have no names by its number.
fn position(wanted: &str, names: &[impl AsRef<str>], format: SourceFormat) -> Option<usize> {
    let by_name = names.iter().position(|name| name.as_ref() == wanted);
    let by_number = || wanted.parse().ok().filter(|index| *index < names.len());
    let takes_numbers = matches!(format, SourceFormat::Csv | SourceFormat::Tsv | SourceFormat::Txt);
    by_name.or_else(|| by_number().filter(|_| takes_numbers))
}

fn find_column(path: &Path, key: &'static str, wanted: &str, names: &[&str], format: SourceFormat) -> Result<Column> {
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
