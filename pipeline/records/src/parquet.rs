//! Reads and writes the parts that are Parquet files.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection};
use ::parquet::basic::{Compression, Encoding};
use ::parquet::file::metadata::PageIndexPolicy;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use ::parquet::schema::types::ColumnPath;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};

use crate::{Error, Measured, MeasuredFile, Result};

/// Maximum number of rows in a row group of a table with images.
const ROWS_PER_GROUP_WITH_IMAGES: usize = 1_000;
/// Bytes after which a row group of a table with images ends; one batch may exceed them. A writer
/// and a reader hold about this much in memory. Hugging Face's viewer and `datasets` accept at most
/// 100 MB (`MAX_ROW_GROUP_SIZE`).
const BYTES_PER_GROUP_WITH_IMAGES: usize = 4 << 20;

/// Rows of a batch that is read from a table with images. The images of a batch must stay below 2
/// GiB, the limit of 32-bit offsets. At the largest body size that a download accepts by default,
/// 50 MB, 32 rows do.
const ROWS_PER_BATCH_WITH_IMAGES: usize = 32;

/// Writes a table. Texts and numbers are compressed with Snappy. Image bytes are stored plain and
/// uncompressed because they are compressed already.
///
/// The same batches give the same bytes. The file is not written atomically; that is up to the
/// caller, see [`RunFolder`](crate::RunFolder).
pub fn write<'a>(path: &Path, schema: &SchemaRef, batches: impl IntoIterator<Item = &'a RecordBatch>) -> Result<()> {
    let mut writer = Writer::create(path, schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish().map(|_measured| ())
}

/// A writer of batches, for tables that do not fit in memory.
pub struct Writer {
    path: PathBuf,
    inner: ArrowWriter<MeasuredFile>,
    has_pictures: bool,
}

impl Writer {
    /// Begins a file.
    pub fn create(path: &Path, schema: &SchemaRef) -> Result<Writer> {
        Self::with_properties(path, schema, properties(schema).build())
    }

    /// Begins a file of a table in which nearby rows may share an image. A row group stores such an
    /// image once, as an entry of a dictionary.
    pub fn create_with_repeated_pictures(path: &Path, schema: &SchemaRef) -> Result<Writer> {
        let mut builder = properties(schema);
        for parts in picture_columns(schema) {
            let column = ColumnPath::new(parts);
            builder = builder
                .set_column_dictionary_enabled(column.clone(), true)
                // Beyond this limit images are stored in every row again, so it is set to what a
                // row group may hold.
                .set_column_dictionary_page_size_limit(column, 2 * BYTES_PER_GROUP_WITH_IMAGES);
        }
        Self::with_properties(path, schema, builder.build())
    }

    fn with_properties(path: &Path, schema: &SchemaRef, properties: WriterProperties) -> Result<Writer> {
        let file = MeasuredFile::create(path)?;
        let inner = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|source| Error::Parquet {
            action: "write",
            path: path.to_owned(),
            source,
        })?;
        Ok(Writer { path: path.to_owned(), inner, has_pictures: !picture_columns(schema).is_empty() })
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let failed = |source| Error::Parquet { action: "write", path: self.path.clone(), source };
        self.inner.write(batch).map_err(failed)?;
        if self.has_pictures && self.inner.in_progress_size() >= BYTES_PER_GROUP_WITH_IMAGES {
            self.inner.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Writes the footer, without which the file is not Parquet, and flushes the file to disk.
    pub fn finish(self) -> Result<Measured> {
        let path = self.path;
        self.inner.into_inner().map_err(|source| Error::Parquet { action: "write", path, source })?.finish()
    }
}

/// Returns the Parquet paths of all binary columns, which hold the images.
fn picture_columns(schema: &SchemaRef) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for field in schema.fields() {
        collect_binary_columns(field, &mut Vec::new(), &mut found);
    }
    found
}

fn properties(schema: &SchemaRef) -> WriterPropertiesBuilder {
    let picture_columns = picture_columns(schema);
    let mut builder = WriterProperties::builder().set_compression(Compression::SNAPPY);
    if !picture_columns.is_empty() {
        builder = builder.set_max_row_group_row_count(Some(ROWS_PER_GROUP_WITH_IMAGES));
    }
    for parts in picture_columns {
        let path = ColumnPath::new(parts);
        builder = builder
            .set_column_compression(path.clone(), Compression::UNCOMPRESSED)
            .set_column_encoding(path.clone(), Encoding::PLAIN)
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    builder
}

/// Collects the Parquet paths of all binary leaf columns, by the naming rules of parquet-rs (a list
/// adds `list` and the name of its item).
fn collect_binary_columns(field: &Field, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    path.push(field.name().clone());
    match field.data_type() {
        DataType::Binary => found.push(path.clone()),
        DataType::Struct(fields) => fields.iter().for_each(|child| collect_binary_columns(child, path, found)),
        DataType::List(item) => {
            path.push("list".to_owned());
            collect_binary_columns(item, path, found);
            path.pop();
        }
        _ => {}
    }
    path.pop();
}

/// Returns the schema of a Parquet file.
pub fn schema(path: &Path) -> Result<SchemaRef> {
    Ok(open(path, PageIndexPolicy::Skip)?.schema().clone())
}

/// Reads a table batch by batch, all columns or those named.
pub fn read(path: &Path, columns: Option<&[&str]>) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    batches(path, columns, open(path, PageIndexPolicy::Skip)?)
}

/// Reads the given rows of a table batch by batch, all columns or those named. `rows` must be
/// ascending. Pages that hold none of them are not read.
pub fn read_rows(
    path: &Path,
    columns: Option<&[&str]>,
    rows: &[u32],
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let builder = open(path, PageIndexPolicy::Optional)?;
    let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let runs = rows.chunk_by(|row, next| row + 1 == *next);
    let ranges = runs.map(|run| run[0] as usize..run[run.len() - 1] as usize + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, total);
    batches(path, columns, builder.with_row_selection(selection))
}

fn batches(
    path: &Path,
    columns: Option<&[&str]>,
    mut builder: ParquetRecordBatchReaderBuilder<File>,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    if let Some(columns) = columns {
        let place = |column: &&str| {
            let found = builder.schema().column_with_name(column).map(|(index, _)| index);
            let missing =
                || Error::Column { path: path.to_owned(), column: (*column).to_owned(), expected: "any type" };
            found.ok_or_else(missing)
        };
        // By index, because a dot in a name would be read as a path into a struct.
        let places = columns.iter().map(place).collect::<Result<Vec<usize>>>()?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), places);
        builder = builder.with_projection(mask);
    }
    let has_pictures = picture_columns(builder.schema())
        .iter()
        .any(|parts| columns.is_none_or(|columns| columns.contains(&parts[0].as_str())));
    if has_pictures {
        builder = builder.with_batch_size(ROWS_PER_BATCH_WITH_IMAGES);
    }
    let path = path.to_owned();
    let reader = builder.build().map_err(|source| Error::Parquet { action: "read", path: path.clone(), source })?;
    Ok(reader.map(move |batch| {
        batch.map_err(|source| Error::Parquet { action: "read", path: path.clone(), source: source.into() })
    }))
}

fn open(path: &Path, page_index: PageIndexPolicy) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
    let options = ArrowReaderOptions::new().with_page_index_policy(page_index);
    ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|source| Error::Parquet {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use arrow::array::{BinaryArray, Int64Array, StringArray, StructArray};
    use arrow::datatypes::Fields;

    use super::*;
    use crate::schema::{self, Column};

    #[test]
    fn picture_bytes_are_stored_as_they_are_and_the_same_rows_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let DataType::Struct(fields) = schema::image_type() else { unreachable!() };
        let fields: Fields = fields;
        let images = StructArray::new(
            fields,
            vec![
                Arc::new(BinaryArray::from(vec![&b"\xff\xd8same"[..], b"\xff\xd8same"])),
                Arc::new(StringArray::from(vec!["a.jpg", "b.jpg"])),
            ],
            None,
        );
        let batch = RecordBatch::try_from_iter([
            ("image", Arc::new(images) as arrow::array::ArrayRef),
            ("width", Arc::new(Int64Array::from(vec![1, 2]))),
        ])
        .unwrap();
        let paths = [folder.path().join("a.parquet"), folder.path().join("b.parquet")];
        for path in &paths {
            write(path, &batch.schema(), [&batch]).unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());

        let reader = SerializedFileReader::new(File::open(&paths[0]).unwrap()).unwrap();
        let bytes = reader.metadata().row_group(0).column(0).clone();
        assert_eq!(bytes.column_path().string(), "image.bytes");
        assert_eq!(bytes.compression(), Compression::UNCOMPRESSED);
        assert!(bytes.dictionary_page_offset().is_none());

        let read_back: Vec<_> = read(&paths[0], Some(&["width"])).unwrap().collect::<Result<_>>().unwrap();
        assert_eq!(read_back[0].num_columns(), 1);
        assert_eq!(read_back[0].num_rows(), 2);
        let Err(error) = read(&paths[0], Some(&["height"])) else { panic!("a missing column must be named") };
        assert!(error.to_string().contains("height"), "{error}");
    }

    #[test]
    fn rows_are_read_by_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let numbers = Arc::new(Int64Array::from_iter_values(0..5_000)) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        write(&path, &batch.schema(), [&batch]).unwrap();
        for rows in [vec![], vec![0], vec![4_999], vec![3, 4, 5, 1_023, 1_024, 4_000], (0..5_000).collect()] {
            let read = read_rows(&path, None, &rows).unwrap().map(Result::unwrap);
            let numbers: Column<Int64Array> = Column::named("n");
            let read: Vec<i64> = read.flat_map(|batch| numbers.of(&batch, &path).unwrap().values().to_vec()).collect();
            assert_eq!(read, rows.iter().map(|row| i64::from(*row)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_picture_that_many_rows_share_is_stored_once_in_a_group() {
        let folder = tempfile::tempdir().unwrap();
        let pictures: Vec<Vec<u8>> =
            (0..2).map(|seed| (0..100_000_u32).map(|n| (n * 31 + seed) as u8).collect()).collect();
        let rows: Vec<&[u8]> = (0..20).map(|row| pictures[row / 10].as_slice()).collect();
        let bytes = Arc::new(BinaryArray::from(rows.clone())) as arrow::array::ArrayRef;
        let batch = RecordBatch::try_from_iter([("bytes", bytes)]).unwrap();
        let path = folder.path().join("a.parquet");
        let mut writer = Writer::create_with_repeated_pictures(&path, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        assert!(path.metadata().unwrap().len() < 300_000, "{}", path.metadata().unwrap().len());
        let back: Vec<RecordBatch> = read(&path, None).unwrap().collect::<Result<_>>().unwrap();
        let column = schema::IMAGE_BYTES.of(&back[0], &path).unwrap();
        assert_eq!(column.iter().flatten().collect::<Vec<_>>(), rows);
    }
}
