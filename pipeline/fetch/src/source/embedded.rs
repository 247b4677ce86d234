//! Images in the cells of Parquet files: the `Image` columns of Hugging Face `datasets`, which our
//! own shards have too.
//!
//! The list is read without them. When a part is downloaded, its images are copied once, in order,
//! to a nameless file, from which the rows read them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::error::ArrowError;
use lynxdata_records::schema::HUGGING_FACE_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::errors::ParquetError;
use serde_json::Value;

use super::pictures;
use super::rows::column;
use crate::Error;
use crate::spill::nameless_file;

/// Approximate number of bytes of images that are read at once.
const BYTES_PER_BATCH: u64 = 8 << 20;

/// Maximum number of images that are read at once. Dictionary pages are smaller than their decoded
/// values, so [`BYTES_PER_BATCH`] alone does not limit the memory.
const MOST_PER_BATCH: u64 = 32;

/// Names of columns of plain bytes that are taken for images, besides the suffixes of images.
const NAMES: [&str; 5] = ["image", "img", "picture", "image_bytes", "img_bytes"];

/// The columns of a file that hold images.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PictureColumns {
    /// The column that is read.
    pub(super) chosen: Option<usize>,
    /// The other columns of images.
    pub(super) others: Vec<usize>,
}

/// Finds the columns of images; `wanted` is the name of the one to read.
pub(super) fn find(schema: &Schema, wanted: Option<&str>) -> PictureColumns {
    let features: Option<Value> =
        schema.metadata().get(HUGGING_FACE_KEY).and_then(|text| serde_json::from_str(text).ok());
    let fields = schema.fields().iter().map(AsRef::as_ref).enumerate();
    let mut found: Vec<(usize, &Field)> =
        fields.filter(|(_, field)| has_pictures(field, features.as_ref(), wanted)).collect();
    let is_readable = |field: &Field| !is_list(field.data_type());
    let by_name = |name: &str| found.iter().position(|(_, field)| field.name() == name && is_readable(field));
    let chosen = match wanted {
        Some(wanted) => by_name(wanted),
        None => by_name("image").or_else(|| found.iter().position(|(_, field)| is_readable(field))),
    };
    let chosen = chosen.map(|index| found.remove(index).0);
    PictureColumns { chosen, others: found.into_iter().map(|(position, _)| position).collect() }
}

fn has_pictures(field: &Field, features: Option<&Value>, wanted: Option<&str>) -> bool {
    let feature = features.and_then(|all| all.pointer("/info/features")?.get(field.name()));
    let kind = feature.and_then(|feature| feature.pointer("/feature/_type").or_else(|| feature.get("_type")));
    let is_plain = is_binary(field.data_type());
    match kind.and_then(Value::as_str) {
        Some("Image") => is_plain || is_image(field.data_type()),
        Some("Audio" | "Video" | "Pdf" | "Nifti" | "Mesh") => false,
        _ => {
            let name = field.name().to_lowercase();
            let is_named = NAMES.contains(&name.as_str()) || pictures::SUFFIXES.contains(&name.as_str());
            is_image(field.data_type()) || (is_plain && (is_named || wanted == Some(field.name())))
        }
    }
}

fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _))
}

fn is_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_binary(value),
        other => matches!(other, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
    }
}

/// Returns whether this is a struct of `bytes` and `path`, or of one of them, or a list of such
/// structs.
fn is_image(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_image(item.data_type())
        }
        DataType::Struct(fields) => {
            let is_known = |field: &Field| match field.name().as_str() {
                "bytes" => is_binary(field.data_type()) || field.data_type() == &DataType::Null,
                "path" => !field.data_type().is_nested(),
                _ => false,
            };
            !fields.is_empty() && fields.iter().all(|field| is_known(field))
        }
        _ => false,
    }
}

/// The place of the image of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EmbeddedPicture {
    /// In [`Embedded::file`].
    Here { offset: u64, length: u64 },
    /// In its own file.
    File { path: PathBuf, length: u64 },
    /// Not in the cell, with the reason. The row may have a URL instead.
    Nowhere(String),
    /// The cell cannot be read.
    Problem(String),
}

/// The images of a part that are in cells of Parquet files.
#[derive(Debug, Default)]
pub(crate) struct Embedded {
    /// The places of the images of all rows; empty if the part has no images in cells.
    pictures: Vec<EmbeddedPicture>,
    file: Option<Arc<File>>,
}

impl Embedded {
    /// Copies the images of a part to a nameless file in `folder`. `wanted` is the column of
    /// images, if the recipe names it.
    ///
    /// # Errors
    /// [`Error::Keep`] if the nameless file cannot be written. Parquet that cannot be read becomes
    /// a problem of its rows.
    pub(crate) fn read(
        rows: &RecordBatch,
        wanted: Option<&str>,
        folder: &Path,
    ) -> std::result::Result<Embedded, Error> {
        Embedded::copy(rows, wanted, folder).map_err(|source| Error::keep(folder, source))
    }

    fn copy(rows: &RecordBatch, wanted: Option<&str>, folder: &Path) -> io::Result<Embedded> {
        let files = rows.column(column::FILE).as_string::<i32>();
        let integers = |position: usize| rows.column(position).as_primitive::<Int64Type>();
        let (numbers, lengths) = (integers(column::OFFSET), integers(column::LENGTH));
        let is_embedded = |row: &usize| files.is_valid(*row) && lengths.is_null(*row);
        let embedded: Vec<usize> = (0..rows.num_rows()).filter(is_embedded).collect();
        if embedded.is_empty() {
            return Ok(Embedded::default());
        }
        let mut pictures = vec![EmbeddedPicture::Nowhere(String::new()); rows.num_rows()];
        let file = nameless_file(folder)?;
        let mut output = Output { writer: BufWriter::new(&file), length: 0 };
        for run in embedded.chunk_by(|a, b| {
            // A part reads the rows of a file in ascending order.
            files.value(*a) == files.value(*b) && numbers.value(*a) < numbers.value(*b)
        }) {
            let path = Path::new(files.value(run[0]));
            let wanted_rows: Vec<usize> = run.iter().map(|row| numbers.value(*row) as usize).collect();
            let mut places = pictures_of(path, &wanted_rows, wanted)
                .unwrap_or_else(|error| Box::new(std::iter::once(Err(error.to_string()))));
            let mut problem = "the file has fewer rows than when it was listed".to_owned();
            for row in run {
                pictures[*row] = match places.next() {
                    Some(Ok(picture)) => output.put(picture, path)?,
                    Some(Err(reason)) => {
                        problem = reason;
                        EmbeddedPicture::Problem(problem.clone())
                    }
                    None => EmbeddedPicture::Problem(problem.clone()),
                };
            }
        }
        output.writer.flush()?;
        drop(output);
        Ok(Embedded { pictures, file: Some(Arc::new(file)) })
    }

    /// Returns where the image of a row is. The row must have a file and no length.
    ///
    /// # Panics
    /// If the part has no images in cells.
    pub(crate) fn of(&self, row: usize) -> EmbeddedPicture {
        self.pictures[row].clone()
    }

    /// Returns the file with the images that are [`EmbeddedPicture::Here`].
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }
}

struct Output<'a> {
    writer: BufWriter<&'a File>,
    length: u64,
}

/// The content of a cell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cell {
    bytes: Option<Vec<u8>>,
    path: Option<String>,
}

impl Output<'_> {
    fn put(&mut self, cell: Cell, parquet: &Path) -> io::Result<EmbeddedPicture> {
        if let Some(bytes) = cell.bytes {
            let (offset, length) = (self.length, bytes.len() as u64);
            self.writer.write_all(&bytes)?;
            self.length += length;
            return Ok(EmbeddedPicture::Here { offset, length });
        }
        let Some(path) = cell.path.filter(|path| !path.trim().is_empty()) else {
            return Ok(EmbeddedPicture::Nowhere("its cell has neither bytes nor a path".to_owned()));
        };
        Ok(file_beside(parquet, &path).unwrap_or_else(|| {
            let reason = format!(
                "its cell has no bytes but the path {path:?}, and the folder of the Parquet file has no such file"
            );
            EmbeddedPicture::Nowhere(reason)
        }))
    }
}

/// Returns the regular file with this relative path in the folder of a Parquet file; `None` if it
/// does not exist or is outside of the folder.
fn file_beside(parquet: &Path, path: &str) -> Option<EmbeddedPicture> {
    let folder = parquet.parent()?.canonicalize().ok()?;
    let path = folder.join(path).canonicalize().ok().filter(|path| path.starts_with(&folder))?;
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(EmbeddedPicture::File { length: metadata.len(), path })
}

type Cells = Box<dyn Iterator<Item = Result<Cell, String>>>;

/// Returns the cells of these rows, which must be ascending.
fn pictures_of(path: &Path, rows: &[usize], wanted: Option<&str>) -> Result<Cells, ParquetError> {
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let Some(position) = find(builder.schema(), wanted).chosen else {
        return Err(ParquetError::General("the column of images no longer exists; was the file changed?".to_owned()));
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [position]);
    let metadata = builder.metadata().clone();
    // Row groups without any of these rows are not read.
    let (mut groups, mut ranges, mut first, mut kept, mut bytes) = (Vec::new(), Vec::new(), 0, 0, 0);
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let count = group.num_rows() as usize;
        let here = &rows[rows.partition_point(|row| *row < first)..rows.partition_point(|row| *row < first + count)];
        if !here.is_empty() {
            groups.push(index);
            ranges.extend(here.iter().map(|row| row - first + kept..row - first + kept + 1));
            let columns = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
            bytes += columns.map(|(_, column)| column.uncompressed_size().max(0) as u64).sum::<u64>();
            kept += count;
        }
        first += count;
    }
    let batch_size =
        BYTES_PER_BATCH.checked_div(bytes / kept.max(1) as u64).unwrap_or(u64::MAX).clamp(1, MOST_PER_BATCH);
    builder = builder
        .with_projection(mask)
        .with_row_groups(groups)
        .with_row_selection(RowSelection::from_consecutive_ranges(ranges.into_iter(), kept))
        .with_batch_size(batch_size as usize);
    Ok(Box::new(builder.build()?.flat_map(|batch| match batch.and_then(|batch| cells(batch.column(0))) {
        Ok(cells) => cells.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error.to_string())],
    })))
}

fn cells(column: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let is_valid = |row: usize| column.is_valid(row);
    let (bytes, paths): (Option<ArrayRef>, Option<ArrayRef>) = match column.as_struct_opt() {
        Some(image) => (image.column_by_name("bytes").cloned(), image.column_by_name("path").cloned()),
        None => (Some(column.clone()), None),
    };
    let bytes = bytes.map(|bytes| cast(&bytes, &DataType::Binary)).transpose()?;
    let bytes: Option<&BinaryArray> = bytes.as_ref().map(AsArray::as_binary);
    let paths = paths.map(|paths| cast(&paths, &DataType::Utf8)).transpose()?;
    let paths: Option<&StringArray> = paths.as_ref().map(AsArray::as_string);
    Ok((0..column.len())
        .map(|row| Cell {
            bytes: bytes.filter(|bytes| is_valid(row) && bytes.is_valid(row)).map(|bytes| bytes.value(row).to_vec()),
            path: paths.filter(|paths| is_valid(row) && paths.is_valid(row)).map(|paths| paths.value(row).to_owned()),
        })
        .collect())
}
