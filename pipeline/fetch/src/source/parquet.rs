//! Parquet, row group by row group.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::rows::{ROWS_PER_BATCH, leading_fields};
use super::{Column, Columns, ReadRows};
use crate::{Error, Result};

/// The columns of a file, with the types that they are carried with.
pub(super) fn fields(path: &Path) -> Result<Vec<Field>> {
    let builder = builder(path)?;
    Ok(builder
        .schema()
        .fields()
        .iter()
        .map(|field| Field::new(field.name(), carried(field.data_type()), true))
        .collect())
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| format_error(path, error))
}

fn format_error(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Format { path: path.to_owned(), format: "parquet", reason: error.to_string() }
}

/// The type that a column has in the pool: as in the file, but with one encoding of texts and bytes, also inside lists and structs.
fn carried(data_type: &DataType) -> DataType {
    let item = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(carried(field.data_type())));
    match data_type {
        // A column of nulls alone has no type; text is the one that other files of the source most likely have.
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => carried(value),
        DataType::List(field) | DataType::ListView(field) => DataType::List(item(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(item(field), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect::<Fields>()),
        other => other.clone(),
    }
}

pub(super) struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    columns: Columns,
    schema: SchemaRef,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, columns: Columns) -> Result<ParquetRows> {
        let builder = builder(path)?;
        let fields: Vec<Field> = leading_fields().into_iter().chain(columns.extra_fields()).collect();
        let reader = builder.with_batch_size(ROWS_PER_BATCH).build().map_err(|error| format_error(path, error))?;
        Ok(ParquetRows { path: path.to_owned(), reader, columns, schema: Arc::new(Schema::new(fields)) })
    }

    fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let cast_to = |column: &Column, data_type: &DataType| {
            cast(batch.column(column.position), data_type).map_err(|error| format_error(&self.path, error))
        };
        let url = cast_to(&self.columns.url, &DataType::Utf8)?;
        let caption = match &self.columns.caption {
            Some(column) => cast_to(column, &DataType::Utf8)?,
            None => new_null_array(&DataType::Utf8, batch.num_rows()),
        };
        let mut problems = StringBuilder::new();
        for row in 0..batch.num_rows() {
            // Casting bytes to text makes null of what is not UTF-8.
            let lost =
                |column: &Column, text: &ArrayRef| batch.column(column.position).is_valid(row) && text.is_null(row);
            if lost(&self.columns.url, &url) {
                problems.append_value(format!("column {:?} is not UTF-8", self.columns.url.name));
            } else if let Some(column) = self.columns.caption.as_ref().filter(|column| lost(column, &caption)) {
                problems.append_value(format!("column {:?} is not UTF-8", column.name));
            } else {
                problems.append_null();
            }
        }
        let problem: ArrayRef = Arc::new(problems.finish());
        let mut columns = vec![blank_to_null(&url, &problem), blank_to_null(&caption, &problem), problem];
        for extra in &self.columns.extras {
            columns.push(cast_to(&extra.column, extra.field.data_type())?);
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| format_error(&self.path, error))
    }
}

/// Blank texts are absent ones, as in the text formats; so are both texts of a row with a problem.
fn blank_to_null(texts: &ArrayRef, problem: &ArrayRef) -> ArrayRef {
    let texts = texts.as_string::<i32>();
    let kept =
        texts.iter().enumerate().map(|(row, text)| text.filter(|text| problem.is_null(row) && !text.trim().is_empty()));
    Arc::new(kept.collect::<arrow::array::StringArray>())
}

impl ReadRows for ParquetRows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        match self.reader.next() {
            None => Ok(None),
            Some(batch) => self.convert(&batch.map_err(|error| format_error(&self.path, error))?).map(Some),
        }
    }
}
