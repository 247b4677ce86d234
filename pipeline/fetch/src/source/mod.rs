//! Files of URLs and captions, or of pictures, read as one long table in parts of a fixed number of
//! rows, never whole in memory.
//!
//! One reader for each format stands behind [`ReadRows`]. To add a format: a file with its reader,
//! a variant of [`SourceFormat`], its suffixes in `files` and its lines in `describe` and
//! `source_file`.

mod csv;
mod decoded;
mod delimited;
mod describe;
mod embedded;
mod files;
mod fingerprint;
mod folder;
mod json;
mod jsonl;
mod left_out;
mod lines;
mod lists;
mod metadata;
mod numbers;
mod parquet;
mod pictures;
mod plan;
mod rows;
mod source_file;
mod tar;
mod tsv;
mod txt;
mod types;
mod webdataset;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt64Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::embedded::{Embedded, EmbeddedPicture};
use self::left_out::LeftOut;
pub(crate) use self::pictures::{check_length, read_picture};
use self::plan::{Added, Plan};
use self::rows::Batch;
pub(crate) use self::rows::column;
use self::source_file::{Column, Columns, Extra};
use crate::objects::Cache;
use crate::{Error, Result};

/// The list of URLs, or the pictures themselves.
///
/// The other columns are carried to the pool. Those of Parquet keep their types, but for keys of
/// maps, which become text. A column of JSONL, CSV or TSV has the narrowest type that holds all its
/// values: whole numbers of 64 bits, floats, truth values (JSONL alone), else text. In CSV and TSV,
/// a field is a number if it is written as programs write one; leading zeros, a plus sign, or more
/// digits than 64 bits hold make a text of it and so of its column, and the columns of URLs,
/// captions and digests (`md5`, `sha256`, `sha512`) are always texts. In a column of numbers, an
/// empty field is a missing value, and so are infinity and the words that pandas takes for a
/// missing value, such as `NaN`, `N/A` and `null`; JSONL has `NaN` and `Infinity` as Python writes
/// them, which are missing too. Where files differ in the type of a column, it has the narrowest
/// type that holds both. If rows that are added to a list change the type of a column, all parts
/// are made again, since a column has one type in all parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a folder (its files, sorted by name; sub-folders only if nothing else is there), or
    /// a list of these; relative to the recipe. Their rows follow one another; of a list, the
    /// column `source_path` says which entry a row is from. A pipe such as `/dev/stdin` is read
    /// once, into a temporary file. URLs of object stores work as well: `s3://`, `gs://`, `az://`
    /// and `https://`, with the credentials of the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    pub path: OneOrMany<PathBuf>,
    /// Format of the files; `auto` tells it from each name. `folder` and `webdataset` import
    /// pictures that are already there, through the same checks.
    #[serde(default)]
    pub format: SourceFormat,
    /// Column with the URL: a name, or a number from 0 in text form for CSV and TSV. TXT files have
    /// only this one; of pictures that are already there, it is a key of the JSON beside them,
    /// which may be missing. In Parquet and JSONL it may hold lists of URLs: each makes a pair of
    /// its own, and the columns `source_row` and `image_index` say which pairs were one row.
    #[serde(default = "default_url")]
    pub url: String,
    /// Column with the caption; without it, pairs have none. Of a list of captions for a single
    /// URL, the first that is not blank is the caption, and the list is carried as a column of its
    /// own. For pictures that are already there it is a key of the JSON beside them; where that is
    /// missing, and for all if no key is named, the caption is the text file (`.txt`, else
    /// `.caption`) beside the picture, else the key `caption`. Where the URL is a list, it may be a
    /// list of the same length; a single caption is that of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Whether CSV and TSV files begin with a row of names. Without one the columns are called
    /// `column_0`, `column_1`, ….
    #[serde(default = "default_header")]
    pub header: bool,
    /// The picture to read where a row or a sample may have several. In Parquet, the column with
    /// the pictures; without it, `image`, else the first column that holds pictures; with an empty
    /// name all pictures are fetched by their URLs. In an archive, what follows the key of the
    /// member, such as `jpg` or `seg.png`; without it, the members of which a suffix of pictures is
    /// all that follows the key, and those with a text of their own. In a metadata file, or in a
    /// list that is named itself and has no URLs, the column with the names of picture files below
    /// its folder; without it, `file_name`, else the first that ends with `_file_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether symbolic links in a folder of pictures are followed wherever they lead. Without it,
    /// they are followed to files in that folder and in a folder `blobs` beside it, as in the cache
    /// of `huggingface_hub`.
    #[serde(default)]
    pub follow_links: bool,
}

fn default_url() -> String {
    "url".to_owned()
}

fn default_header() -> bool {
    true
}

impl SourceConfig {
    /// Returns one file or folder with the given URL column, and nothing else set.
    pub fn new(path: impl Into<PathBuf>, url: impl Into<String>) -> Self {
        SourceConfig {
            path: OneOrMany::One(path.into()),
            format: SourceFormat::Auto,
            url: url.into(),
            caption: None,
            header: true,
            image: None,
            follow_links: false,
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
    /// Returns the values in order.
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
    /// The format by the name: `.parquet`, `.tar`, `.csv`, `.tsv`, `.jsonl` or `.ndjson`, `.txt`,
    /// and all but the first two also with `.gz` or `.zst` behind. A single file may also be
    /// `.json`, which is read as `jsonl`. gzip and Zstandard are told by the content, whatever the
    /// name is; text may be UTF-8 or UTF-16. A folder without such files is one of pictures; of one
    /// with lists and archives, the lists are read. Text files beside pictures are captions, beside
    /// other lists they are none. What is not read is told.
    #[default]
    Auto,
    /// Apache Parquet, with URLs or with a column of pictures, such as the `Image` columns of
    /// Hugging Face `datasets`.
    Parquet,
    /// Comma-separated values as RFC 4180 has them. Semicolons, tabs or vertical bars are taken
    /// instead where the columns are found with them and not with commas, and any separator that a
    /// first line such as `sep=;` says. A quote may have a backslash before it, as Spark writes it.
    Csv,
    /// Tab-separated values. Quotation marks count as quotes only where a row comes out right by
    /// that; a quoted field may then go on with the next lines.
    Tsv,
    /// One JSON object a line, or one array of objects.
    #[serde(alias = "json")]
    Jsonl,
    /// One URL a line.
    Txt,
    /// The pictures of a folder and its sub-folders, with captions from text files and extra
    /// columns from JSON files of the same stem, or both from a file `metadata.csv`,
    /// `metadata.jsonl` or `metadata.parquet` with a column `file_name`, as Hugging Face
    /// `imagefolder` has them.
    Folder,
    /// Uncompressed tar archives of pictures, with captions and extra columns from the text and
    /// JSON members of the same key.
    #[serde(rename = "webdataset")]
    WebDataset,
}

/// All files of a source, with their columns matched.
#[derive(Debug, Clone)]
pub struct Source {
    plan: Arc<Plan>,
    left_out: LeftOut,
    image: Option<String>,
}

/// A reader of one file.
trait ReadRows: Send {
    /// Returns some rows more; `None` at the end of the file.
    fn next_batch(&mut self) -> Result<Option<Batch>>;
}

impl Source {
    /// Finds the files, reads their headers (all rows of CSV, TSV and JSON, for the types of their
    /// columns) and matches their columns.
    ///
    /// # Errors
    /// Files or folders that are missing or unreadable, formats that cannot be told, columns that
    /// are missing, columns that have two types.
    pub fn open(config: &SourceConfig, base_folder: &Path) -> Result<Source> {
        Source::find(config, base_folder, None)
    }

    /// Opens a source as [`Source::open`] does, for paths that may also be URLs of object stores:
    /// `s3://bucket/list.parquet`, `gs://bucket/folder/`, `az://container/shards`,
    /// `https://host/list.csv.gz`. Each object is copied to the cache before it is read, and copied
    /// anew only if it is changed. One name may stand for an object or, as a folder, for all source
    /// files right below it. Blocks until all copies are there.
    ///
    /// # Errors
    /// Those of [`Source::open`], and [`Error::Object`] for what the store refuses or lacks.
    pub fn open_cached(config: &SourceConfig, base_folder: &Path, cache: &Cache) -> Result<Source> {
        Source::find(config, base_folder, Some(cache))
    }

    fn find(config: &SourceConfig, base_folder: &Path, cache: Option<&Cache>) -> Result<Source> {
        let (found, mut left_out) = files::find(config, base_folder, cache)?;
        let copies: Vec<(PathBuf, PathBuf)> =
            found.iter().filter_map(|file| Some((file.path.clone(), file.url.as_ref()?.into()))).collect();
        let with_urls = |error| copies.iter().fold(error, |error: Error, (copy, url)| error.with_path(copy, url));
        let plan = plan::make(found, config, &mut left_out).map_err(with_urls);
        // A file that lacks a column may not be the one that was meant.
        let plan = plan.map_err(|error| match error {
            Error::MissingColumn { path, key, column, hint, available } if !left_out.is_empty() => {
                let available = format!("{available}; not all of the source is read: {left_out}");
                Error::MissingColumn { path, key, column, hint, available }
            }
            other => other,
        });
        Ok(Source { plan: Arc::new(plan?), left_out, image: config.image.clone() })
    }

    /// Returns what lies in the folders and archives of the source and is not read: how much of
    /// each kind, with an example, and what to do about it. `None` if everything is read.
    pub fn left_out(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| self.left_out.to_string())
    }

    /// Returns the columns that are carried through to the pool, with their names there. Behind
    /// those of the files come, as far as the source needs them:
    ///
    /// * `file` (Utf8), in a source with pictures that are already there: the name of the picture
    ///   below the path of the recipe that it comes from; for a member of an archive, its name
    ///   behind that of the archive; for a picture in a Parquet file, the number of its row there,
    ///   from 0;
    /// * `source_path` (Utf8), in a source of several paths: the one that the row comes from, as
    ///   the recipe has it;
    /// * `source_row` and `image_index` (Int64), in a source of which a row may hold several
    ///   pictures, because its URLs are lists or because a sample of an archive has several: the
    ///   number of the row before such rows were taken apart, over the whole source, and of the
    ///   picture in it, both from 0.
    pub fn schema_of_extra_columns(&self) -> SchemaRef {
        Arc::new(Schema::new(self.plan.schema.fields()[column::FIRST_EXTRA..].to_vec()))
    }

    /// Returns names of columns that the pool has of its own, and what those of the source are
    /// called instead.
    pub fn renamed_columns(&self) -> &[(String, String)] {
        &self.plan.renamed
    }

    /// Returns the rows of all files one after another, `rows_per_part` at a time (the last part
    /// may be shorter). Ends after the first error.
    pub fn parts(&self, rows_per_part: usize) -> Parts {
        Parts {
            plan: self.plan.clone(),
            image: self.image.clone(),
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

/// A slice of a source: the unit of download, commit and resume.
#[derive(Debug, Clone)]
pub struct SourcePart {
    /// Number of the part, from 0.
    pub index: u32,
    /// Number of its first row in the source, from 0. A list of URLs counts as so many rows.
    pub first_row: u64,
    /// The columns `url`, `caption`, `problem` and `file` (Utf8, nullable), `offset` and `length`
    /// (Int64, nullable), then those of [`Source::schema_of_extra_columns`]. Since an extra column
    /// may be called as one of these, they are told by their positions.
    ///
    /// A row with a problem could not be read; it has no URL, caption or file. Where `file` is not
    /// null, it is the absolute path of a local file with the picture, `length` bytes from byte
    /// `offset` on. Where `length` is null then, the file is Parquet and the picture in its row
    /// number `offset`.
    pub rows: RecordBatch,
    /// The column of pictures in Parquet files, if the recipe names it.
    pub image: Option<String>,
    /// Numbers of the rows, counted from `first_row`, where these are only some of a slice.
    pub chosen: Option<Vec<usize>>,
}

impl SourcePart {
    /// Returns some of the rows of a slice, in their order, each with the number that it has in the
    /// source.
    ///
    /// # Errors
    /// If there are more bytes of text in a column than fit into an array.
    pub fn choose(&self, rows: Vec<usize>) -> std::result::Result<SourcePart, ArrowError> {
        let indices: UInt64Array = rows.iter().map(|row| *row as u64).collect();
        let chosen = take_record_batch(&self.rows, &indices)?;
        Ok(SourcePart { rows: chosen, chosen: Some(rows), ..self.clone() })
    }

    /// Returns the number in the source of one of the rows.
    pub fn row_number(&self, row: usize) -> u64 {
        self.first_row + self.chosen.as_ref().map_or(row, |chosen| chosen[row]) as u64
    }

    /// Returns BLAKE3, as 64 hexadecimal digits, of the position and content of the part. It does
    /// not depend on how the source is cut into files, nor on memory layout. For pictures in local
    /// files, it also covers where they are in these, and the files' sizes and times of
    /// modification, but not where the source is.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.first_row.to_le_bytes());
        let own = [column::URL, column::CAPTION, column::PROBLEM].into_iter();
        let own: Vec<usize> = own.chain(column::FIRST_EXTRA..self.rows.num_columns()).collect();
        fingerprint::of(&self.rows.project(&own).expect("the rows have these columns"), &mut hasher);
        fingerprint::of_files(&self.rows, self.image.as_deref(), &mut hasher);
        hasher.finalize().to_hex().to_string()
    }
}

/// The parts of a [`Source`]; see [`Source::parts`].
pub struct Parts {
    plan: Arc<Plan>,
    image: Option<String>,
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
        let image = self.image.clone();
        let part = SourcePart { index: self.next_index, first_row: self.next_row, rows, image, chosen: None };
        self.next_index += 1;
        self.next_row += count as u64;
        Ok(Some(part))
    }

    /// Returns the next rows, from what is pending or from the file at hand or from the next one,
    /// in the columns of the whole source.
    fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.pending.take() {
            return Ok(Some(batch));
        }
        loop {
            if let Some(reader) = &mut self.reader {
                let file = &self.plan.files[self.next_file - 1].found;
                match reader.next_batch().map_err(|error| file.shown_in(error))? {
                    Some(batch) if batch.rows.num_rows() > 0 => return self.align(&batch).map(Some),
                    Some(_) => continue,
                    None => self.reader = None,
                }
            }
            let Some(file) = self.plan.files.get(self.next_file) else { return Ok(None) };
            self.reader = Some(file.read().map_err(|error| file.found.shown_in(error))?);
            self.next_file += 1;
        }
    }

    /// Puts a file's columns in the order of the source; columns that the file lacks are null.
    fn align(&mut self, batch: &Batch) -> Result<RecordBatch> {
        let count = batch.rows.num_rows();
        let file = &self.plan.files[self.next_file - 1];
        let source_rows: Int64Array = batch
            .image_index
            .iter()
            .map(|index| {
                self.next_source_row += i64::from(*index == 0);
                self.next_source_row - 1
            })
            .collect();
        let leading = column::FIRST_EXTRA;
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
                Added::File => match &batch.names {
                    Some(names) => Arc::new(names.clone()),
                    None => new_null_array(&DataType::Utf8, count),
                },
                Added::SourcePath => Arc::new(StringArray::from(vec![file.entry.as_str(); count])),
                Added::SourceRow => Arc::new(source_rows.clone()),
                Added::ImageIndex => Arc::new(Int64Array::from(batch.image_index.clone())),
            }
        }));
        RecordBatch::try_new(self.plan.schema.clone(), columns).map_err(|error| self.arrow_error(&error))
    }

    fn arrow_error(&self, error: &arrow::error::ArrowError) -> Error {
        let file = &self.plan.files[self.next_file.saturating_sub(1)];
        let path = file.found.path.clone();
        file.found.shown_in(Error::Format { path, format: "a part of the source", reason: error.to_string() })
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
