//! Files of URLs and captions, read as one long table in parts of a fixed number of rows, never whole in memory.
//!
//! One reader for each format stands behind [`ReadRows`]. To add a format: a file with its reader, a variant of [`SourceFormat`] and its lines in
//! [`Source::open`] and `SourceFile::read`.

mod csv;
mod fingerprint;
mod jsonl;
mod lines;
mod lists;
mod parquet;
mod rows;
mod tsv;
mod txt;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use lynxdata_records::schema::text_list_type;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rows::Batch;
use crate::{Error, Result};

/// Where the URLs are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a folder (its files, sorted by name, without sub-folders), or a list of these; relative to the recipe. Their rows follow one another.
    pub path: OneOrMany<PathBuf>,
    /// Format of the files; `auto` tells it from each name.
    #[serde(default)]
    pub format: SourceFormat,
    /// Column with the URL: a name, or a number from 0 in text form for CSV and TSV. TXT files have only this one. In Parquet and JSONL it may hold lists
    /// of URLs: each makes a pair of its own, and the columns `source_row` and `image_index` say which pairs were one row.
    #[serde(default = "default_url")]
    pub url: String,
    /// Column with the caption; without it, pairs have none. Where the URL is a list, it may be a list of the same length; a single caption is that of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Whether CSV and TSV files begin with a row of names. Without one the columns are called `column_0`, `column_1`, ….
    #[serde(default = "default_header")]
    pub header: bool,
}

fn default_url() -> String {
    "url".to_owned()
}

fn default_header() -> bool {
    true
}

impl SourceConfig {
    /// One file or folder with the given URL column, and nothing else set.
    pub fn new(path: impl Into<PathBuf>, url: impl Into<String>) -> Self {
        SourceConfig {
            path: OneOrMany::One(path.into()),
            format: SourceFormat::Auto,
            url: url.into(),
            caption: None,
            header: true,
        }
    }
}

/// A value or a list of values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// Just one.
    One(T),
    /// Several, in order.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values in order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            OneOrMany::One(value) => std::slice::from_ref(value),
            OneOrMany::Many(values) => values,
        }
    }
}

/// The format of a source file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// By the name: `.parquet`, `.csv`, `.tsv`, `.jsonl` or `.ndjson`, `.txt`, and all but the first also with `.gz` or `.zst` behind.
    #[default]
    Auto,
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// One URL a line.
    Txt,
}

/// Suffixes by format, without the dot.
const SUFFIXES: &[(&str, SourceFormat)] = &[
    ("parquet", SourceFormat::Parquet),
    ("csv", SourceFormat::Csv),
    ("tsv", SourceFormat::Tsv),
    ("jsonl", SourceFormat::Jsonl),
    ("ndjson", SourceFormat::Jsonl),
    ("txt", SourceFormat::Txt),
];

impl SourceFormat {
    fn of(path: &Path) -> Option<SourceFormat> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        let (_, suffix) = plain.rsplit_once('.')?;
        let format = SUFFIXES.iter().find(|(known, _)| *known == suffix).map(|(_, format)| *format)?;
        (format != SourceFormat::Parquet || plain == name).then_some(format)
    }
}

/// All files of a source, with their columns matched.
#[derive(Debug, Clone)]
pub struct Source {
    plan: Arc<Plan>,
}

#[derive(Debug)]
struct Plan {
    files: Vec<SourceFile>,
    /// The leading columns, the extra columns of the files, and those of `added`.
    schema: SchemaRef,
    added: Vec<Added>,
}

/// An extra column that no file has, since it says where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    /// Number of the row before lists were expanded, from 0, over the whole source.
    SourceRow,
    /// Number of the picture in that row, from 0.
    ImageIndex,
}

impl Added {
    fn field(self) -> Field {
        match self {
            Added::SourceRow => Field::new("source_row", DataType::Int64, true),
            Added::ImageIndex => Field::new("image_index", DataType::Int64, true),
        }
    }
}

#[derive(Debug)]
struct SourceFile {
    path: PathBuf,
    format: SourceFormat,
    columns: Columns,
    header: bool,
}

/// Which column of a file becomes what.
#[derive(Debug, Clone)]
struct Columns {
    url: Column,
    caption: Option<Column>,
    extras: Vec<Extra>,
    /// Whether URLs are lists; a single one then counts as a list of one.
    has_lists: bool,
    /// Of all columns of the file.
    count: usize,
}

/// A column of a file.
#[derive(Debug, Clone)]
struct Column {
    position: usize,
    name: String,
}

/// A column that is carried through, and its name and type in the pool.
#[derive(Debug, Clone)]
struct Extra {
    column: Column,
    field: Field,
}

impl Columns {
    fn extra_fields(&self) -> Vec<Field> {
        self.extras.iter().map(|extra| extra.field.clone()).collect()
    }
}

/// A reader of one file.
trait ReadRows: Send {
    /// Some rows more; `None` at the end of the file.
    fn next_batch(&mut self) -> Result<Option<Batch>>;
}

impl SourceFile {
    fn read(&self) -> Result<Box<dyn ReadRows>> {
        let columns = self.columns.clone();
        Ok(match self.format {
            SourceFormat::Parquet => Box::new(parquet::ParquetRows::open(&self.path, columns)?),
            SourceFormat::Csv => Box::new(csv::CsvRows::open(&self.path, columns, self.header)?),
            SourceFormat::Tsv => Box::new(tsv::TsvRows::open(&self.path, columns, self.header)?),
            SourceFormat::Jsonl => Box::new(jsonl::JsonlRows::open(&self.path, columns)?),
            SourceFormat::Txt => Box::new(txt::TxtRows::open(&self.path)?),
            SourceFormat::Auto => return Err(Error::UnknownFormat { path: self.path.clone() }),
        })
    }
}

impl Source {
    /// Finds the files, reads their headers (JSONL files whole, for the types of their keys) and matches their columns.
    ///
    /// # Errors
    /// Files or folders that are missing or unreadable, formats that cannot be told, columns that are missing, columns that have two types.
    pub fn open(config: &SourceConfig, base_folder: &Path) -> Result<Source> {
        let paths = find_files(config, base_folder)?;
        let mut keys = jsonl::Keys::default();
        let mut has_lists = false; // in the URLs of any JSONL file
        let mut described = Vec::new();
        for (path, format) in paths {
            let fields = match format {
                SourceFormat::Parquet => Some(parquet::fields(&path)?),
                SourceFormat::Csv => text_fields(csv::first_row(&path)?, config.header),
                SourceFormat::Tsv => text_fields(tsv::first_row(&path)?, config.header),
                SourceFormat::Txt => Some(vec![Field::new("url", DataType::Utf8, true)]),
                SourceFormat::Jsonl => {
                    let scanned = keys.scan(&path, &config.url)?;
                    has_lists |= scanned.has_lists;
                    // The types are known only after the last file.
                    Some(scanned.names.into_iter().map(|name| Field::new(name, DataType::Null, true)).collect())
                }
                SourceFormat::Auto => return Err(Error::UnknownFormat { path }),
            };
            match fields {
                // A text file without a first row has no rows at all.
                None => {}
                // A JSONL file without a single good line has no row that could lack a column, but its bad lines count.
                Some(fields) if fields.is_empty() && format == SourceFormat::Jsonl => {
                    let names = [Some(&config.url), config.caption.as_ref()].into_iter().flatten();
                    let fields = names.map(|name| Field::new(name, DataType::Null, true)).collect();
                    described.push((path, format, fields));
                }
                Some(fields) => described.push((path, format, fields)),
            }
        }
        let mut key_types: BTreeMap<String, DataType> =
            keys.fields().into_iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
        if has_lists {
            key_types.insert(config.url.clone(), text_list_type());
        }
        for (_, format, fields) in &mut described {
            if *format == SourceFormat::Jsonl {
                for field in fields.iter_mut() {
                    let data_type = key_types.get(field.name()).cloned().unwrap_or(DataType::Utf8);
                    *field = Field::new(field.name(), data_type, true);
                }
            }
        }
        plan(&described, config)
    }

    /// The columns that are carried through to the pool, with their names there.
    pub fn schema_of_extra_columns(&self) -> SchemaRef {
        Arc::new(Schema::new(self.plan.schema.fields()[rows::leading_fields().len()..].to_vec()))
    }

    /// The rows of all files one after another, `rows_per_part` at a time (the last part may be shorter). Ends after the first error.
    pub fn parts(&self, rows_per_part: usize) -> Parts {
        Parts {
            plan: self.plan.clone(),
            rows_per_part: rows_per_part.max(1),
            next_file: 0,
            reader: None,
            pending: None,
            next_source_row: 0,
            next_row: 0,
            next_index: 0,
            is_done: false,
        }
    }
}

/// The files that `path` stands for, with their formats.
fn find_files(config: &SourceConfig, base_folder: &Path) -> Result<Vec<(PathBuf, SourceFormat)>> {
    let is_wanted = |found: SourceFormat| config.format == SourceFormat::Auto || config.format == found;
    let expected = || {
        let known = SUFFIXES.iter().filter(|(_, format)| is_wanted(*format)).map(|(suffix, _)| format!(".{suffix}"));
        known.collect::<Vec<_>>().join(", ")
    };
    let mut files = Vec::new();
    for path in config.path.as_slice() {
        let path = base_folder.join(path);
        let metadata = std::fs::metadata(&path).map_err(|source| Error::read(&path, source))?;
        if !metadata.is_dir() {
            let format =
                if config.format == SourceFormat::Auto { SourceFormat::of(&path) } else { Some(config.format) };
            let format = format.ok_or_else(|| Error::UnknownFormat { path: path.clone() })?;
            files.push((path, format));
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(|source| Error::read(&path, source))? {
            let file = entry.map_err(|source| Error::read(&path, source))?.path();
            let format = SourceFormat::of(&file).filter(|format| is_wanted(*format));
            match format {
                Some(format) if file.is_file() => found.push((file, format)),
                _ => tracing::info!(path = %file.display(), "not a source file, left out"),
            }
        }
        if found.is_empty() {
            return Err(Error::NoFiles { path, expected: expected() });
        }
        found.sort();
        files.append(&mut found);
    }
    if files.is_empty() {
        return Err(Error::NoFiles { path: PathBuf::from("source.path"), expected: expected() });
    }
    Ok(files)
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
fn plan(described: &[(PathBuf, SourceFormat, Vec<Field>)], config: &SourceConfig) -> Result<Source> {
    let mut files = Vec::new();
    for (path, format, fields) in described {
        let (url, caption) = find_texts(path, *format, fields, config)?;
        let has_lists = lists::item_type(fields[url.position].data_type()).is_some();
        files.push((Columns { url, caption, extras: Vec::new(), has_lists, count: fields.len() }, path, *format));
    }
    let mut added = Vec::new();
    if files.iter().any(|(columns, _, _)| columns.has_lists) {
        added.extend([Added::SourceRow, Added::ImageIndex]);
    }
    // Name in the files -> first file with it, and name and type in the pool.
    let mut extras: Vec<(String, PathBuf, Field)> = Vec::new();
    let mut taken: BTreeSet<String> =
        lynxdata_records::schema::pool().columns.iter().map(|column| column.field.name().clone()).collect();
    taken.insert("problem".to_owned()); // a column of the parts, see `SourcePart::rows`
    taken.extend(added.iter().map(|column| column.field().name().clone()));
    for ((columns, path, _), (_, _, fields)) in files.iter_mut().zip(described) {
        for (position, field) in fields.iter().enumerate() {
            if columns.url.position == position
                || columns.caption.as_ref().is_some_and(|column| column.position == position)
            {
                continue;
            }
            let name = field.name();
            let pool_field = match extras.iter().find(|(known, _, _)| known == name) {
                Some((_, first, known)) if known.data_type() != field.data_type() => {
                    return Err(Error::ColumnTypes {
                        column: name.clone(),
                        first: first.clone(),
                        first_type: known.data_type().to_string(),
                        second: path.clone(),
                        second_type: field.data_type().to_string(),
                    });
                }
                Some((_, _, known)) => known.clone(),
                None => {
                    let mut pool_name = name.clone();
                    while !taken.insert(pool_name.clone()) {
                        pool_name.insert_str(0, "source_");
                    }
                    if pool_name != *name {
                        tracing::warn!(column = %name, carried_as = %pool_name, "the pool has a column of this name, so the source's is renamed");
                    }
                    let pool_field = Field::new(pool_name, field.data_type().clone(), true);
                    extras.push((name.clone(), path.clone(), pool_field.clone()));
                    pool_field
                }
            };
            columns.extras.push(Extra { column: Column { position, name: name.clone() }, field: pool_field });
        }
    }
    let files = files.into_iter().map(|(columns, path, format)| SourceFile {
        path: path.clone(),
        format,
        columns,
        header: config.header,
    });
    let files = files.collect();
    let fields: Vec<Field> = rows::leading_fields()
        .into_iter()
        .chain(extras.into_iter().map(|(_, _, field)| field))
        .chain(added.iter().map(|column| column.field()))
        .collect();
    Ok(Source { plan: Arc::new(Plan { files, schema: Arc::new(Schema::new(fields)), added }) })
}

/// The columns of a file that hold the URL and the caption.
fn find_texts(
    path: &Path,
    format: SourceFormat,
    fields: &[Field],
    config: &SourceConfig,
) -> Result<(Column, Option<Column>)> {
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let find = |key, wanted: &str, takes_lists| {
        let column = find_column(path, key, wanted, &names, format)?;
        let data_type = fields[column.position].data_type();
        let item = lists::item_type(data_type).filter(|_| takes_lists).unwrap_or(data_type);
        // JSON values of any kind are turned into text.
        if format != SourceFormat::Jsonl && !matches!(item, DataType::Utf8 | DataType::Binary) {
            return Err(Error::NotText {
                path: path.to_owned(),
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
    Ok((url, caption))
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
        available: names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "),
    })
}

/// A slice of a source: the unit of download, commit and resume.
#[derive(Debug, Clone)]
pub struct SourcePart {
    /// Number of the part, from 0.
    pub index: u32,
    /// Number of its first row in the source, from 0. A list of URLs counts as so many rows.
    pub first_row: u64,
    /// The columns `url`, `caption`, `problem` (Utf8, nullable), then the extra columns. A row with a problem could not be read; it has neither URL nor
    /// caption.
    ///
    /// Where URLs are lists, the last extra columns are `source_row` (number of the row that held the list, from 0, over the whole source) and
    /// `image_index` (number of the picture in it, from 0), both Int64.
    pub rows: RecordBatch,
}

impl SourcePart {
    /// BLAKE3, as 64 hexadecimal digits, of the position and content of the part. It does not depend on how the source is cut into files, nor on memory layout.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.first_row.to_le_bytes());
        fingerprint::of(&self.rows, &mut hasher);
        hasher.finalize().to_hex().to_string()
    }
}

/// The parts of a [`Source`]; see [`Source::parts`].
pub struct Parts {
    plan: Arc<Plan>,
    rows_per_part: usize,
    next_file: usize,
    reader: Option<Box<dyn ReadRows>>,
    /// Rows that were read but not yet handed out.
    pending: Option<RecordBatch>,
    /// Number of the next row before lists are expanded.
    next_source_row: i64,
    next_row: u64,
    next_index: u32,
    is_done: bool,
}

impl Parts {
    fn read_part(&mut self) -> Result<Option<SourcePart>> {
        let mut batches = Vec::new();
        let mut count = 0;
        while count < self.rows_per_part {
            let Some(batch) = self.next_rows()? else { break };
            let wanted = batch.num_rows().min(self.rows_per_part - count);
            if wanted < batch.num_rows() {
                self.pending = Some(batch.slice(wanted, batch.num_rows() - wanted));
            }
            batches.push(batch.slice(0, wanted));
            count += wanted;
        }
        if count == 0 {
            return Ok(None);
        }
        let rows = concat_batches(&self.plan.schema, &batches).map_err(|error| self.arrow_error(&error))?;
        let part = SourcePart { index: self.next_index, first_row: self.next_row, rows };
        self.next_index += 1;
        self.next_row += count as u64;
        Ok(Some(part))
    }

    /// The next rows, from what is pending or from the file at hand or from the next one, in the columns of the whole source.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.pending.take() {
            return Ok(Some(batch));
        }
        loop {
            if let Some(reader) = &mut self.reader {
                match reader.next_batch()? {
                    Some(batch) if batch.rows.num_rows() > 0 => return self.align(&batch).map(Some),
                    Some(_) => continue,
                    None => self.reader = None,
                }
            }
            let Some(file) = self.plan.files.get(self.next_file) else { return Ok(None) };
            self.reader = Some(file.read()?);
            self.next_file += 1;
        }
    }

    /// Puts a file's columns in the order of the source; columns that the file lacks are null.
    fn align(&mut self, batch: &Batch) -> Result<RecordBatch> {
        let count = batch.rows.num_rows();
        let source_rows: Int64Array = batch
            .image_index
            .iter()
            .map(|index| {
                self.next_source_row += i64::from(*index == 0);
                self.next_source_row - 1
            })
            .collect();
        let leading = rows::leading_fields().len();
        let own = batch.rows.schema();
        let own_extras = &own.fields()[leading..];
        let mut columns = batch.rows.columns()[..leading].to_vec();
        let extras = &self.plan.schema.fields()[leading..self.plan.schema.fields().len() - self.plan.added.len()];
        columns.extend(extras.iter().map(|field| {
            let position = own_extras.iter().position(|own| own.name() == field.name());
            position.map_or_else(
                || new_null_array(field.data_type(), count),
                |position| batch.rows.column(leading + position).clone(),
            )
        }));
        columns.extend(self.plan.added.iter().map(|column| -> ArrayRef {
            match column {
                Added::SourceRow => Arc::new(source_rows.clone()),
                Added::ImageIndex => Arc::new(Int64Array::from(batch.image_index.clone())),
            }
        }));
        RecordBatch::try_new(self.plan.schema.clone(), columns).map_err(|error| self.arrow_error(&error))
    }

    fn arrow_error(&self, error: &arrow::error::ArrowError) -> Error {
        let file = &self.plan.files[self.next_file.saturating_sub(1)];
        Error::Format { path: file.path.clone(), format: "a part of the source", reason: error.to_string() }
    }
}

impl Iterator for Parts {
    type Item = Result<SourcePart>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let part = self.read_part().transpose();
        self.is_done = !matches!(part, Some(Ok(_)));
        part
    }
}

#[cfg(test)]
mod tests;
