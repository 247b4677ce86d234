//! Reads lists in Parquet, batch by batch.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use lynxdata_records::nan_as_null;

use super::columns::{Pictures, unique_names};
use super::embedded::{self, PictureColumns};
use super::lists::{self, Expansion};
use super::rows::{Batch, ROWS_PER_BATCH, leading_fields, no_places};
use super::types::{EXACT_IN_FLOAT, is_printable};
use super::{Column, Columns, Extra, ReadRows};
use crate::{Error, Result};

/// Returns the columns of a file with the types that they have in the pool.
pub(super) fn fields(path: &Path) -> Result<Vec<Field>> {
    let builder = builder(path)?;
    let fields = builder.schema().fields();
    let names = unique_names(fields.iter().map(|field| field.name().clone()));
    Ok(names
        .zip(fields)
        .map(|(name, field)| match field.data_type() {
            // A column of nulls takes the type that it has in another file, if there is one.
            DataType::Null => Field::new(name, DataType::Null, true),
            known => Field::new(name, carried(known), true),
        })
        .collect())
}

/// Returns whether a column may have integers that a 64-bit float cannot hold exactly, according to
/// the statistics of the file.
pub(super) fn has_wide_integers(path: &Path, position: usize) -> Result<bool> {
    let builder = builder(path)?;
    let limit = EXACT_IN_FLOAT as i64;
    let (metadata, schema) = (builder.metadata(), builder.schema());
    let name = schema.field(position).name();
    let failed = |error| format_error(path, error);
    let statistics = StatisticsConverter::try_new(name, schema, builder.parquet_schema()).map_err(failed)?;
    let least = statistics.row_group_mins(metadata.row_groups()).map_err(failed)?;
    let most = statistics.row_group_maxes(metadata.row_groups()).map_err(failed)?;
    let nulls = statistics.row_group_null_counts(metadata.row_groups()).map_err(failed)?;
    let integers = |values: &ArrayRef| {
        let values = cast(values, &DataType::Int64).map_err(|error| format_error(path, error))?;
        Ok::<_, Error>(values.as_primitive::<Int64Type>().clone())
    };
    let (least, most) = (integers(&least)?, integers(&most)?);
    let is_exact =
        |values: &Int64Array, group: usize| values.is_valid(group) && (-limit..=limit).contains(&values.value(group));
    // Without statistics, integers may be wide.
    Ok(metadata.row_groups().iter().enumerate().any(|(group, rows)| {
        let has_values = nulls.is_null(group) || nulls.value(group) < rows.num_rows() as u64;
        has_values && !(is_exact(&least, group) && is_exact(&most, group))
    }))
}

/// Returns the columns that hold images; `wanted` is the name of the one to read.
pub(super) fn picture_columns(path: &Path, wanted: Option<&str>) -> Result<PictureColumns> {
    Ok(embedded::find(builder(path)?.schema(), wanted))
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| format_error(path, error))
}

fn format_error(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Format { path: path.to_owned(), format: "parquet", reason: error.to_string() }
}

/// Returns the type that a column has in the pool: as in the file, but with only one Arrow type
/// each for texts and bytes, also inside lists and structs.
fn carried(data_type: &DataType) -> DataType {
    let item = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(carried(field.data_type())));
    match data_type {
        // A column with only nulls has no type of its own.
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        // parquet-rs would write the milliseconds of Date64 as plain integers.
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, value) => carried(value),
        DataType::List(field) | DataType::ListView(field) => DataType::List(item(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(item(field), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(item).collect::<Fields>()),
        // Keys of JSON objects are texts, and shards hold a JSON file per pair.
        DataType::Map(entries, is_sorted) => {
            let DataType::Struct(fields) = entries.data_type() else { return data_type.clone() };
            let fields = fields.iter().enumerate().map(|(position, field)| match field.data_type() {
                key if position == 0 && is_printable(key) => {
                    Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
                }
                _ => item(field),
            });
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields.collect()));
            DataType::Map(Arc::new(entries), *is_sorted)
        }
        other => other.clone(),
    }
}

pub(super) struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    columns: Columns,
    /// Types of the URL and caption columns, as returned by [`carried`].
    url_type: DataType,
    caption_type: Option<DataType>,
    schema: SchemaRef,
    /// Positions in the file of the columns that are read.
    used: Vec<usize>,
    /// Number of the next row of the file.
    next_row: i64,
    /// The current batch, if its URLs are lists that are not fully expanded yet.
    expansion: Option<Expansion>,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, columns: Columns) -> Result<ParquetRows> {
        let builder = builder(path)?;
        let fields: Vec<Field> = leading_fields().into_iter().chain(columns.extra_fields()).collect();
        let schema = builder.schema().clone();
        let type_of = |column: &Column| {
            let field = schema.fields().get(column.position);
            field.map_or(DataType::Utf8, |field| carried(field.data_type()))
        };
        // Images in cells are read later, when their part is downloaded.
        let own = [Some(&columns.url), columns.caption.as_ref()].into_iter().flatten();
        let all = own.chain(columns.extras.iter().map(|extra| &extra.column)).map(|column| column.position);
        let used: BTreeSet<usize> = all.filter(|position| *position < schema.fields().len()).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), used.iter().copied());
        let (url_type, caption_type) = (type_of(&columns.url), columns.caption.as_ref().map(type_of));
        let reader = builder
            .with_projection(mask)
            .with_batch_size(ROWS_PER_BATCH)
            .build()
            .map_err(|error| format_error(path, error))?;
        Ok(ParquetRows {
            path: path.to_owned(),
            reader,
            columns,
            url_type,
            caption_type,
            schema: Arc::new(Schema::new(fields)),
            used: used.into_iter().collect(),
            next_row: 0,
            expansion: None,
        })
    }

    /// Returns a column of a batch; nulls if the file does not have it.
    fn column(&self, batch: &RecordBatch, column: &Column) -> ArrayRef {
        match self.used.binary_search(&column.position) {
            Ok(index) => batch.column(index).clone(),
            Err(_) => new_null_array(&DataType::Utf8, batch.num_rows()),
        }
    }

    fn expand(&self, batch: &RecordBatch) -> Result<Expansion> {
        let column = |column: &Column| self.column(batch, column);
        let caption = self.columns.caption.as_ref().map(column);
        let caption = caption.as_ref().zip(self.caption_type.as_ref());
        let extras = self.extras(batch)?;
        Expansion::new((&column(&self.columns.url), &self.url_type), caption, extras)
            .map_err(|error| format_error(&self.path, error))
    }

    /// Returns further rows of the current lists.
    fn next_expanded(&mut self) -> Result<Option<Batch>> {
        let Some(expansion) = &mut self.expansion else { return Ok(None) };
        let Some(expanded) = expansion.next_rows().map_err(|error| format_error(&self.path, error))? else {
            self.expansion = None;
            return Ok(None);
        };
        let texts = |texts: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let mut columns = vec![texts(expanded.urls), texts(expanded.captions), texts(expanded.problems)];
        columns.extend(no_places(expanded.image_index.len()));
        columns.extend(expanded.extras);
        let rows =
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| format_error(&self.path, error))?;
        Ok(Some(Batch { rows, image_index: expanded.image_index, names: None }))
    }

    fn extras(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let extra = |extra: &Extra| {
            let (values, data_type) = (self.column(batch, &extra.column), extra.field.data_type());
            let values = if data_type == &DataType::Utf8 { nan_as_null(&values) } else { Ok(values) };
            values.and_then(|values| cast(&values, data_type)).map_err(|error| format_error(&self.path, error))
        };
        self.columns.extras.iter().map(extra).collect()
    }

    fn convert(&mut self, batch: &RecordBatch) -> Result<Batch> {
        // NaN, which pandas writes for a missing value, is not a text.
        let column =
            |column: &Column| nan_as_null(&self.column(batch, column)).map_err(|error| format_error(&self.path, error));
        let as_text =
            |text: &Column| cast(&column(text)?, &DataType::Utf8).map_err(|error| format_error(&self.path, error));
        let url = as_text(&self.columns.url)?;
        // Of several captions of one image, the first that is not blank.
        let list_type = self.caption_type.as_ref().filter(|data_type| lists::item_type(data_type).is_some());
        let caption = match (&self.columns.caption, list_type) {
            (None, _) => new_null_array(&DataType::Utf8, batch.num_rows()),
            (Some(column), None) => as_text(column)?,
            (Some(column), Some(list_type)) => lists::first_texts(&self.column(batch, column), list_type)
                .map(|texts| Arc::new(texts) as ArrayRef)
                .map_err(|error| format_error(&self.path, error))?,
        };
        let raw_url = column(&self.columns.url)?;
        let raw_caption = self.columns.caption.as_ref().map(|caption| Ok((caption, column(caption)?))).transpose()?;
        let mut problems = StringBuilder::new();
        for row in 0..batch.num_rows() {
            // Casting bytes to text turns bytes that are not UTF-8 into null. A column of type Null
            // has no validity bitmap, so it is excluded.
            let lost = |raw: &ArrayRef, text: &ArrayRef| {
                raw.is_valid(row) && text.is_null(row) && raw.data_type() != &DataType::Null
            };
            if lost(&raw_url, &url) {
                problems.append_value(format!("column {:?} is not UTF-8", self.columns.url.name));
            } else if let Some((column, _)) =
                raw_caption.as_ref().filter(|(_, raw)| list_type.is_none() && lost(raw, &caption))
            {
                problems.append_value(format!("column {:?} is not UTF-8", column.name));
            } else {
                problems.append_null();
            }
        }
        let problem: ArrayRef = Arc::new(problems.finish());
        let first = self.next_row;
        let numbers = first..first + batch.num_rows() as i64;
        self.next_row = numbers.end;
        let (places, names) = match &self.columns.pictures {
            Pictures::InCells(name) => {
                let is_good = |row: i64| problem.is_null((row - first) as usize);
                let of_good = |row: i64| is_good(row).then_some(row);
                let file = self.path.to_string_lossy();
                let files: StringArray = numbers.clone().map(|row| is_good(row).then_some(&*file)).collect();
                let names: StringArray = numbers.clone().map(|row| Some(format!("{name}/{}", of_good(row)?))).collect();
                let rows: Int64Array = numbers.map(of_good).collect();
                let [_, _, lengths] = no_places(batch.num_rows());
                ([Arc::new(files) as ArrayRef, Arc::new(rows), lengths], Some(names))
            }
            Pictures::Elsewhere | Pictures::Named(_) => (no_places(batch.num_rows()), None),
        };
        let mut columns = vec![blank_to_null(&url, &problem), blank_to_null(&caption, &problem), problem];
        columns.extend(places);
        columns.extend(self.extras(batch)?);
        let rows =
            RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| format_error(&self.path, error))?;
        Ok(Batch { image_index: vec![0; rows.num_rows()], rows, names })
    }
}

/// Turns blank texts into null, as in the text formats, and all texts of rows with a problem.
fn blank_to_null(texts: &ArrayRef, problem: &ArrayRef) -> ArrayRef {
    let texts = texts.as_string::<i32>();
    let kept =
        texts.iter().enumerate().map(|(row, text)| text.filter(|text| problem.is_null(row) && !text.trim().is_empty()));
    Arc::new(kept.collect::<StringArray>())
}

impl ReadRows for ParquetRows {
    fn next_batch(&mut self) -> Result<Option<Batch>> {
        loop {
            if let Some(rows) = self.next_expanded()? {
                return Ok(Some(rows));
            }
            let Some(batch) = self.reader.next() else { return Ok(None) };
            let batch = batch.map_err(|error| format_error(&self.path, error))?;
            if lists::item_type(&self.url_type).is_none() {
                return self.convert(&batch).map(Some);
            }
            self.expansion = Some(self.expand(&batch)?);
        }
    }
}
