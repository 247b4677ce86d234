//! Metadata files as in Hugging Face `imagefolder`: lists that name the images in their folder.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::delimited::layout;
use super::lines::Lines;
use super::links::Links;
use super::pictures::values_of;
use super::rows::{Batch, column};
use super::{ReadRows, SourceConfig, SourceFormat, default_url, parquet};
use crate::{Error, Result};

/// `METADATA_FILENAMES` of `datasets` 5.2.
const NAMES: [&str; 3] = ["metadata.csv", "metadata.jsonl", "metadata.parquet"];

/// The column with the names of images; other names of it end like this.
const FILE_NAME: &str = "file_name";

/// Returns whether this is the name of a metadata file.
pub(super) fn is_name(file_name: &OsStr) -> bool {
    NAMES.iter().any(|name| file_name == *name)
}

/// Returns whether a file has a column that names images; `false` if it cannot be read.
pub(super) fn has_file_names(path: &Path) -> bool {
    let names = column_names(path, &SourceConfig::new(path, default_url()));
    picture_column(&texts(&names), None).is_some()
}

/// Returns whether a list that the recipe names directly (not found in a folder) names images
/// beside it: it has no URLs, but has a column of file names or the one that the recipe sets as
/// `image`.
pub(super) fn is_list_of_files(path: &Path, format: SourceFormat, config: &SourceConfig) -> bool {
    let names = match format {
        SourceFormat::Csv | SourceFormat::Tsv if config.header => column_names(path, config),
        // In Parquet, cells may hold the images themselves, and `image` may name their column.
        SourceFormat::Parquet => {
            let wanted = config.image.as_deref();
            let holds_pictures = parquet::picture_columns(path, wanted).is_ok_and(|found| found.chosen.is_some());
            if holds_pictures || wanted.is_some_and(|wanted| !wanted.ends_with(FILE_NAME)) {
                return false;
            }
            column_names(path, config)
        }
        SourceFormat::Jsonl => column_names(path, config),
        _ => return false,
    };
    let names = texts(&names);
    !names.contains(&config.url.as_str()) && picture_column(&names, config.image.as_deref()).is_some()
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn column_names(path: &Path, config: &SourceConfig) -> Vec<String> {
    match SourceFormat::of(path) {
        Some(format @ (SourceFormat::Csv | SourceFormat::Tsv)) => {
            let layout = layout(path, format, config).ok().flatten();
            layout.map_or_else(Vec::new, |(_, names)| names)
        }
        Some(SourceFormat::Parquet) => {
            let fields = parquet::fields(path).unwrap_or_default();
            fields.iter().map(|field| field.name().clone()).collect()
        }
        Some(SourceFormat::Jsonl) => first_keys(path).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Returns the keys of the first object of a JSONL file.
fn first_keys(path: &Path) -> Option<Vec<String>> {
    let mut lines = Lines::open(path).ok()?;
    let line = lines.next().ok()??;
    let value = values_of(line.text.ok()?.as_bytes()).ok()?;
    Some(value.as_object()?.keys().cloned().collect())
}

/// Returns the column that names images: the one that the recipe asks for, with or without the
/// ending `_file_name`; if it asks for none, `file_name`, otherwise the first with this ending.
pub(super) fn picture_column<'a>(names: &[&'a str], wanted: Option<&str>) -> Option<&'a str> {
    let find = |is_wanted: &dyn Fn(&str) -> bool| names.iter().copied().find(|name| is_wanted(name));
    let is_file_name = |name: &str| name.ends_with("_file_name");
    match wanted {
        Some(wanted) => find(&|name| name == format!("{wanted}_{FILE_NAME}")).or_else(|| find(&|name| name == wanted)),
        None => find(&|name| name == FILE_NAME).or_else(|| find(&is_file_name)),
    }
}

/// Returns the columns that name further images of a row.
pub(super) fn other_columns<'a>(names: &[&'a str], chosen: &str) -> Vec<&'a str> {
    let is_other = |name: &&str| {
        *name != chosen && (name.ends_with("_file_name") || name.ends_with("_file_names") || *name == "file_names")
    };
    names.iter().copied().filter(is_other).collect()
}

/// The rows of a metadata file, with the places of the images that they name.
pub(super) struct MetadataRows {
    inner: Box<dyn ReadRows>,
    path: PathBuf,
    /// The folder of the file, relative to the source, with a slash at its end unless it is empty.
    name: String,
    links: Links,
    /// Position of the column of names among the extra columns.
    position: usize,
}

impl MetadataRows {
    /// Wraps the rows of a file. `name` is the name of the file relative to the source.
    pub(super) fn new(
        inner: Box<dyn ReadRows>,
        path: &Path,
        name: &str,
        links: Links,
        position: usize,
    ) -> MetadataRows {
        let name = name.rfind('/').map_or("", |slash| &name[..=slash]).to_owned();
        MetadataRows { inner, path: path.to_owned(), name, links, position }
    }

    /// Returns the path of an image, its length in bytes and its name relative to the source, or
    /// the reason why it is not read.
    fn place(&self, file_name: &str) -> std::result::Result<(String, u64, String), String> {
        let with_slashes = file_name.replace('\\', "/"); // as in `datasets`, for names that were written on Windows
        let relative = Path::new(&with_slashes);
        let is_inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_inside || file_name.contains("://") {
            return Err(format!("names {file_name:?}, which is not a path below its folder"));
        }
        let path = self.path.with_file_name("").join(relative);
        if !path.exists() && !path.is_symlink() {
            return Err(format!("names {file_name:?}, which does not exist"));
        }
        let (_, metadata) = self.links.follow(&path).map_err(|why| format!("names {file_name:?}, which {why}"))?;
        if !metadata.is_file() {
            return Err(format!("names {file_name:?}, which is not a regular file"));
        }
        // Normalised, so that `./a.jpg` equals the path that a walk of the folder finds.
        let path: PathBuf = path.components().collect();
        let path = path.to_str().ok_or_else(|| "has a path that is not UTF-8".to_owned())?;
        let relative: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).filter(|part| part != ".").collect();
        Ok((path.to_owned(), metadata.len(), format!("{}{}", self.name, relative.join("/"))))
    }
}

impl ReadRows for MetadataRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        let Some(batch) = self.inner.next_batch()? else { return Ok(None) };
        let format_error = |error: arrow::error::ArrowError| Error::Format {
            path: self.path.clone(),
            format: "a metadata file",
            reason: error.to_string(),
        };
        let mut columns = batch.rows.columns().to_vec();
        let file_names = cast(&columns[column::FIRST_EXTRA + self.position], &DataType::Utf8).map_err(format_error)?;
        let file_names = file_names.as_string::<i32>();
        let problems = columns[column::PROBLEM].as_string::<i32>().clone();
        let shown = self.path.file_name().unwrap_or_default().to_string_lossy();
        let places: Vec<_> = (0..batch.rows.num_rows())
            .map(|row| match file_names.is_valid(row).then(|| file_names.value(row).trim()) {
                _ if problems.is_valid(row) => Err(problems.value(row).to_owned()),
                None | Some("") => Ok(None),
                Some(name) => self.place(name).map(Some).map_err(|why| format!("{shown:?} {why}")),
            })
            .collect();
        let places_of = |row: usize| places[row].as_ref().ok().and_then(Option::as_ref);
        let all = || 0..places.len();
        let texts = |texts: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
            Arc::new(all().map(texts).collect::<StringArray>())
        };
        let numbers = |numbers: &dyn Fn(usize) -> Option<i64>| -> ArrayRef {
            Arc::new(all().map(numbers).collect::<Int64Array>())
        };
        // A row with a problem has neither URL nor caption.
        for position in [column::URL, column::CAPTION] {
            let old = columns[position].as_string::<i32>().clone();
            columns[position] =
                texts(&|row| (places[row].is_ok() && old.is_valid(row)).then(|| old.value(row).to_owned()));
        }
        columns[column::PROBLEM] = texts(&|row| places[row].as_ref().err().cloned());
        columns[column::FILE] = texts(&|row| places_of(row).map(|(file, ..)| file.clone()));
        columns[column::OFFSET] = numbers(&|row| places_of(row).map(|_| 0));
        columns[column::LENGTH] = numbers(&|row| places_of(row).map(|(_, length, _)| *length as i64));
        let names = all().map(|row| places_of(row).map(|(.., name)| name.clone())).collect();
        let rows = RecordBatch::try_new(batch.rows.schema(), columns).map_err(format_error)?;
        Ok(Some(Batch { rows, names: Some(names), ..batch }))
    }
}

/// Adds the images that the rows of a metadata file name to `named`.
pub(super) fn named(mut rows: Box<dyn ReadRows>, named: &mut HashSet<PathBuf>) -> Result<()> {
    while let Some(batch) = rows.next_batch()? {
        named.extend(batch.rows.column(column::FILE).as_string::<i32>().iter().flatten().map(PathBuf::from));
    }
    Ok(())
}
