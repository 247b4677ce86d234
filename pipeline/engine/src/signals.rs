//! Measures a group of signals in one scan of a pool part, which decodes each image once.

use std::path::Path;
use std::slice;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use lynxdata_filters::{Group, LoadedGroup, MeasureError, Sample, Value};
use rayon::prelude::*;

use lynxdata_records::schema::{CAPTION, IMAGE, IMAGE_BYTES, UID, with_hugging_face_features};

use crate::functions::{columns, fields, is_text, picture};
use crate::{Error, Result};

/// Returns the schema of the table of a group: `uid`, then one column per signal.
pub fn schema(group: &Group) -> SchemaRef {
    let mut columns = vec![Arc::new(UID.field())];
    columns.extend(fields(group.signals).iter().cloned());
    Arc::new(with_hugging_face_features(Schema::new(columns)))
}

/// Returns the table of a group: `values` holds, uid after uid, the values of
/// [`LoadedGroup::measure`].
///
/// # Panics
/// If the numbers of uids and values do not match, or if a value does not have the type of its
/// signal, which is a bug in the signal.
pub fn table(group: &Group, uids: ArrayRef, values: &[Value]) -> RecordBatch {
    try_table(group, uids, values).unwrap_or_else(|error| panic!("{error}"))
}

fn try_table(group: &Group, uids: ArrayRef, values: &[Value]) -> std::result::Result<RecordBatch, DataFusionError> {
    let columns = std::iter::once(uids).chain(columns(group.signals, values)?).collect();
    Ok(RecordBatch::try_new(schema(group), columns)?)
}

/// Measures the signals of a group on every pair of a pool part, in the order of its rows.
///
/// # Errors
/// [`Error::Measure`] if the part cannot be read or the measurer fails.
pub async fn measure(session: &SessionContext, group: &LoadedGroup, pool_part: &Path) -> Result<Vec<RecordBatch>> {
    let wrap = |source| Error::Measure { path: pool_part.to_owned(), source };
    scan(session, group, pool_part).await.map_err(wrap)
}

async fn scan(
    session: &SessionContext,
    loaded: &LoadedGroup,
    pool_part: &Path,
) -> std::result::Result<Vec<RecordBatch>, DataFusionError> {
    let group = loaded.group();
    let path = pool_part
        .to_str()
        .ok_or_else(|| exec_datafusion_err!("the path of the run folder is not valid UTF-8; choose another folder"))?;
    // Text signals need no image, so the column of images is not read for them.
    let picture = if is_text(group) {
        "CAST(NULL AS BYTEA)".to_owned()
    } else {
        format!("{}['{}']", IMAGE.name, IMAGE_BYTES.name)
    };
    let picture = format!("{picture} AS picture");
    let pairs = session.read_parquet(path, ParquetReadOptions::default()).await?;
    let pairs = pairs.select_exprs(&[UID.name, CAPTION.name, &picture])?;
    let mut pairs = pairs.execute_stream().await?;
    let mut tables = Vec::new();
    while let Some(batch) = pairs.try_next().await? {
        let wrong = |column: usize| {
            let (field, wrong) = (batch.schema_ref().field(column), batch.column(column).data_type());
            exec_datafusion_err!("column {} of the pool is of type {wrong}", field.name())
        };
        let captions = batch.column(1).as_string_opt().ok_or_else(|| wrong(1))?;
        let pictures = batch.column(2).as_binary_opt().ok_or_else(|| wrong(2))?;
        let values = measure_pairs(loaded, captions, pictures).map_err(DataFusionError::External)?;
        tables.push(try_table(group, batch.column(0).clone(), &values)?);
    }
    Ok(tables)
}

/// Returns the values of some pairs, pair after pair.
fn measure_pairs(
    loaded: &LoadedGroup,
    captions: &StringArray,
    pictures: &BinaryArray,
) -> std::result::Result<Vec<Value>, MeasureError> {
    let (group, rows) = (loaded.group(), captions.len());
    let caption = |row: usize| captions.is_valid(row).then(|| captions.value(row));
    let mut values = Vec::with_capacity(rows * group.signals.len());
    if group.is_by_pair() {
        // On all cores; each has one decoded image.
        let of_pair = |row: usize| -> std::result::Result<Vec<Value>, MeasureError> {
            let image = picture(pictures, row);
            let mut values = Vec::with_capacity(group.signals.len());
            loaded.measure(slice::from_ref(&Sample::new(caption(row), image.as_ref())), &mut values)?;
            Ok(values)
        };
        let of_pairs: std::result::Result<Vec<_>, _> = (0..rows).into_par_iter().map(of_pair).collect();
        values.extend(of_pairs?.into_iter().flatten());
        return Ok(values);
    }
    // A model computes on all cores itself, so its batches follow each other, and the decoded
    // images of one batch are in memory.
    for first in (0..rows).step_by(group.batch) {
        let batch = first..(first + group.batch).min(rows);
        let images: Vec<_> = batch.clone().into_par_iter().map(|row| picture(pictures, row)).collect();
        let pairs: Vec<_> = batch.zip(&images).map(|(row, image)| Sample::new(caption(row), image.as_ref())).collect();
        loaded.measure(&pairs, &mut values)?;
    }
    Ok(values)
}
