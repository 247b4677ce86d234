//! Reads files of URLs and captions, or of images, as one long table. It is read in parts of a
//! fixed number of rows and is never in memory as a whole.
//!
//! Every format has a reader that implements [`ReadRows`]. To add a format, add a module with its
//! reader, a variant of [`SourceFormat`], its suffixes in `files`, and its cases in `describe` and
//! `source_file`.

mod columns;
mod csv;
mod decoded;
mod delimited;
mod describe;
mod embedded;
mod file_names;
mod files;
mod fingerprint;
mod folder;
mod json;
mod jsonl;
mod left_out;
mod lines;
mod links;
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

use self::columns::{Column, Columns, Extra};
pub(crate) use self::embedded::{Embedded, EmbeddedPicture};
use self::left_out::LeftOut;
pub(crate) use self::pictures::{check_length, read_picture};
use self::plan::{Added, Plan};
use self::rows::Batch;
pub(crate) use self::rows::column;
use crate::objects::Cache;
use crate::{Error, Result};

/// The list of URLs, or the images themselves.
///
/// All other columns are carried to the pool. Columns of Parquet keep their types, except that keys
/// of maps become text. A column of JSONL, CSV or TSV gets the narrowest type that holds all its
/// values: 64-bit integers, floats, Booleans (only in JSONL), otherwise text. In CSV and TSV, a
/// field is a number if it is written as programs write numbers. A field with leading zeros, a plus
/// sign, or more digits than 64 bits hold is a text, and then its whole column is text. Columns of
/// URLs, captions and digests (`md5`, `sha256`, `sha512`) are always text. In a column of numbers,
/// an empty field is a missing value, and so are infinity and the words that pandas reads as
/// missing, such as `NaN`, `N/A` and `null`. In JSONL, `NaN` and `Infinity`, which Python writes,
/// are missing values too. If files differ in the type of a column, it gets the narrowest type that
/// holds both. If rows that are added to a list change the type of a column, all parts are made
/// again, because a column has the same type in all parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a folder (its files, sorted by name; sub-folders only if it holds nothing else to
    /// read), or a list of these; relative to the recipe. The rows of all files are concatenated.
    /// With a list, the column `source_path` holds the entry that a row is from. A pipe such as
    /// `/dev/stdin` is read once, into a temporary file. URLs of object stores work as well:
    /// `s3://`, `gs://`, `az://` and `https://`, with credentials from environment variables
    /// (`AWS_*`, `GOOGLE_*`, `AZURE_*`).
    pub path: OneOrMany<PathBuf>,
    /// Format of the files; `auto` recognises it by each file name. `folder` and `webdataset`
    /// import existing images, with the same checks.
    #[serde(default)]
    pub format: SourceFormat,
    /// Column with the URL: a name, or for CSV and TSV a number from 0 as text. TXT files have only
    /// this column. For existing images it is a key of the JSON beside them, which may be missing.
    /// In Parquet and JSONL it may hold lists of URLs: each URL becomes a pair, and the columns
    /// `source_row` and `image_index` say which pairs come from one row.
    #[serde(default = "default_url")]
    pub url: String,
    /// Column with the caption; if it is not set, pairs have no captions. If a single URL has a
    /// list of captions, the first one that is not blank is used, and the list is carried to the
    /// pool as another column. If the URL is a list, the caption may be a list of the same length;
    /// a single caption applies to all URLs. For existing images, this is a key of the JSON beside
    /// them; if an image lacks the key, its caption is the text file beside it (`.txt`, otherwise
    /// `.caption`). If no key is set, the caption is the text file, otherwise the key `caption`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Whether CSV and TSV files begin with a row of column names. Without it the columns are
    /// called `column_0`, `column_1`, ….
    #[serde(default = "default_header")]
    pub header: bool,
    /// The image to read if a row or a sample may have several. In Parquet, the column with the
    /// images; the default is `image`, otherwise the first column that holds images; with an empty
    /// name, all images are downloaded by their URLs. In an archive, the extension of the member,
    /// which is everything after its key, such as `jpg` or `seg.png`; the default is all members
    /// whose extension is just an image suffix, and those with their own text. In a metadata file,
    /// or in a list without URLs that `path` names directly, the column with the names of image
    /// files relative to its folder; the default is `file_name`, otherwise the first column whose
    /// name ends with `_file_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether symbolic links in a folder of images are followed wherever they lead. By default,
    /// they are only followed to files in this folder and in a folder `blobs` beside it, as in the
    /// cache of `huggingface_hub`.
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
    /// Returns the settings for one file or folder with the given URL column, with defaults for
    /// everything else.
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
    /// A single value.
    One(T),
    /// Several values, in order.
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
    /// The format by the file name: `.parquet`, `.tar`, `.csv`, `.tsv`, `.jsonl` or `.ndjson`,
    /// `.txt`, and all but the first two also followed by `.gz` or `.zst`. A single file may also
    /// be `.json`, which is read as `jsonl`. gzip and Zstandard are recognised by the content,
    /// whatever the name is. Text may be UTF-8 or UTF-16. A folder without such files is a folder
    /// of images. In a folder with lists and archives, the lists are read. Text files beside images
    /// are captions; beside other lists they are not read as lists. A message reports what is not
    /// read.
    #[default]
    Auto,
    /// Apache Parquet, with URLs or with a column of images, such as the `Image` columns of Hugging
    /// Face `datasets`.
    Parquet,
    /// Comma-separated values (RFC 4180). Semicolons, tabs or vertical bars are used instead if the
    /// columns are found with them and not with commas, and so is any separator that a first line
    /// such as `sep=;` names. Quotes may be escaped with a backslash, as Spark writes them.
    Csv,
    /// Tab-separated values. Quotation marks count as quotes only if the row then has the right
    /// number of fields; a quoted field may then continue in the next lines.
    Tsv,
    /// One JSON object per line, or one array of objects.
    #[serde(alias = "json")]
    Jsonl,
    /// One URL per line.
    Txt,
    /// The images of a folder and its sub-folders, with captions from text files and extra columns
    /// from JSON files of the same stem, or both from a file `metadata.csv`, `metadata.jsonl` or
    /// `metadata.parquet` with a column `file_name`, as in Hugging Face `imagefolder`.
    Folder,
    /// Uncompressed tar archives of images, with captions and extra columns from the text and JSON
    /// members of the same key.
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
    /// Returns some further rows; `None` at the end of the file.
    fn next_batch(&mut self) -> Result<Option<Batch>>;
}

impl Source {
    /// Finds the files, reads their headers (all rows of CSV, TSV and JSON, for the types of their
    /// columns) and matches their columns.
    ///
    /// # Errors
    /// If files or folders are missing or unreadable, a format cannot be recognised, or columns are
    /// missing or have incompatible types.
    pub fn open(config: &SourceConfig, base_folder: &Path) -> Result<Source> {
        Source::find(config, base_folder, None)
    }

    /// Opens a source as [`Source::open`] does, for paths that may also be URLs of object stores:
    /// `s3://bucket/list.parquet`, `gs://bucket/folder/`, `az://container/shards`,
    /// `https://host/list.csv.gz`. Each object is copied to the cache before it is read, and copied
    /// again only if it has changed. A URL may be that of an object or, as a folder, of all source
    /// files directly below it. Blocks until all copies exist.
    ///
    /// # Errors
    /// Those of [`Source::open`], and [`Error::Object`] if the store refuses or an object is
    /// missing.
    pub fn open_cached(config: &SourceConfig, base_folder: &Path, cache: &Cache) -> Result<Source> {
        Source::find(config, base_folder, Some(cache))
    }

    fn find(config: &SourceConfig, base_folder: &Path, cache: Option<&Cache>) -> Result<Source> {
        let (found, mut left_out) = files::find(config, base_folder, cache)?;
        let copies: Vec<(PathBuf, PathBuf)> =
            found.iter().filter_map(|file| Some((file.path.clone(), file.url.as_ref()?.into()))).collect();
        let with_urls = |error| copies.iter().fold(error, |error: Error, (copy, url)| error.with_path(copy, url));
        let plan = plan::make(found, config, &mut left_out).map_err(with_urls);
        // A file without the column may not be the file that the user meant, so the message adds
        // what is not read.
        let plan = plan.map_err(|error| match error {
            Error::MissingColumn { path, key, column, hint, available } if !left_out.is_empty() => {
                let available = format!("{available}; not all of the source is read: {left_out}");
                Error::MissingColumn { path, key, column, hint, available }
            }
            other => other,
        });
        Ok(Source { plan: Arc::new(plan?), left_out, image: config.image.clone() })
    }

    /// Returns a message about everything in the folders and archives of the source that is not
    /// read: the number of each kind, an example, and a hint at what to do. `None` if everything is
    /// read.
    pub fn left_out(&self) -> Option<String> {
        (!self.left_out.is_empty()).then(|| self.left_out.to_string())
    }

    /// Returns the columns that are carried to the pool, with their names there. After the columns
    /// of the files follow, if the source needs them:
    ///
    /// * `file` (Utf8), in a source with existing images: the name of the image relative to the
    ///   path of the recipe that it comes from. For a member of an archive, it is the name of the
    ///   archive, a slash and the name of the member. For an image in a Parquet file, it is the
    ///   name of the file, a slash and the number of its row, from 0;
    /// * `source_path` (Utf8), in a source of several paths: the path that the row comes from, as
    ///   written in the recipe;
    /// * `source_row` and `image_index` (Int64), in a source whose rows may hold several images,
    ///   because URLs are lists or because a sample of an archive has several: the number of the
    ///   row in the whole source before such rows are expanded, and the number of the image in it,
    ///   both from 0.
    pub fn schema_of_extra_columns(&self) -> SchemaRef {
        Arc::new(Schema::new(self.plan.schema.fields()[column::FIRST_EXTRA..].to_vec()))
    }

    /// Returns the columns that are renamed because the pool has columns of these names itself: the
    /// names in the source, and the new names.
    pub fn renamed_columns(&self) -> &[(String, String)] {
        &self.plan.renamed
    }

    /// Returns the rows of all files in order, `rows_per_part` at a time (the last part may be
    /// shorter). Ends after the first error.
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

/// A slice of a source: the unit that is downloaded, committed and resumed.
#[derive(Debug, Clone)]
pub struct SourcePart {
    /// Number of the part, from 0.
    pub index: u32,
    /// Number of its first row in the source, from 0. A list of URLs counts as one row per URL.
    pub first_row: u64,
    /// The columns `url`, `caption`, `problem` and `file` (Utf8, nullable), `offset` and `length`
    /// (Int64, nullable), then those of [`Source::schema_of_extra_columns`]. An extra column may
    /// have one of these names, so use the positions, not the names.
    ///
    /// A row with a problem could not be read; it has no URL, caption or file. If `file` is not
    /// null, it is the absolute path of a local file with the image, which is `length` bytes long
    /// and begins at byte `offset`. If `length` is null then, the file is Parquet and the image is
    /// in its row number `offset`.
    pub rows: RecordBatch,
    /// The column of images in Parquet files, if the recipe names it.
    pub image: Option<String>,
    /// Numbers of the rows, counted from `first_row`, if the part holds only some rows of a slice.
    pub chosen: Option<Vec<usize>>,
}

impl SourcePart {
    /// Returns a part with some of the rows of this slice. `rows` are their positions. The rows
    /// keep their numbers in the source.
    ///
    /// # Errors
    /// If a column has more bytes of text than fit into an Arrow array.
    pub fn choose(&self, rows: Vec<usize>) -> std::result::Result<SourcePart, ArrowError> {
        let indices: UInt64Array = rows.iter().map(|row| *row as u64).collect();
        let chosen = take_record_batch(&self.rows, &indices)?;
        Ok(SourcePart { rows: chosen, chosen: Some(rows), ..self.clone() })
    }

    /// Returns the number of a row in the source.
    pub fn row_number(&self, row: usize) -> u64 {
        self.first_row + self.chosen.as_ref().map_or(row, |chosen| chosen[row]) as u64
    }

    /// Returns the BLAKE3 digest of the position and content of the part, as 64 hexadecimal digits.
    /// It does not depend on how the source is split into files, nor on the memory layout. For
    /// images in local files, it also covers their positions in the files and the files' sizes and
    /// modification times, but not the location of the source.
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
    /// Rows that were read but not returned yet.
    pending: Option<RecordBatch>,
    /// Number of the next row, counted before lists are expanded.
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

    /// Returns the next rows, with the columns of the whole source: pending ones, or from the
    /// current or the next file.
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

    /// Arranges a file's columns in the order of the source; columns that the file lacks are null.
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
