//! Measuring: one scan per pool part, one decode per picture, all signals.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use lynxdata_filters::Value;

use crate::functions::{MEASURE, columns, signal_fields};
use crate::{Error, Result};

/// The schema of a signal table: `uid`, then one column per signal.
pub fn schema() -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("uid", DataType::Utf8, true))];
    fields.extend(signal_fields().iter().cloned());
    Arc::new(lynxdata_records::schema::with_hugging_face_features(Schema::new(fields)))
}

/// Pairs that were measured one by one, as rows of a signal table: for each uid the values of [`lynxdata_filters::measure_all`].
///
/// # Panics
/// If there are more or fewer uids than rows, or a value is not of its signal's type, which is a bug of the signal.
pub fn table(uids: ArrayRef, rows: &[Vec<Value>]) -> RecordBatch {
    let signals = columns(rows).unwrap_or_else(|error| panic!("{error}"));
    let columns = std::iter::once(uids).chain(signals).collect();
    RecordBatch::try_new(schema(), columns).expect("a uid for each row, and the columns of the schema")
}

/// Measures every pair of a pool part, in the order of its rows.
pub async fn measure(session: &SessionContext, pool_part: &Path) -> Result<Vec<RecordBatch>> {
    let wrap = |source| Error::Measure { path: pool_part.to_owned(), source };
    scan(session, pool_part).await.map_err(wrap)
}

async fn scan(session: &SessionContext, pool_part: &Path) -> std::result::Result<Vec<RecordBatch>, DataFusionError> {
    let path = pool_part
        .to_str()
        .ok_or_else(|| exec_datafusion_err!("the path of the run folder is not valid UTF-8; choose another folder"))?;
    let measured = session
        .read_parquet(path, ParquetReadOptions::default())
        .await?
        .select_exprs(&["uid", &format!("{MEASURE}(caption, image['bytes']) AS signals")])?
        .collect()
        .await?;
    let schema = schema();
    measured
        .into_iter()
        .map(|batch| {
            let signals = batch
                .column_by_name("signals")
                .and_then(|column| column.as_any().downcast_ref::<StructArray>())
                .ok_or_else(|| exec_datafusion_err!("the measuring scan lost its struct of signals"))?;
            let mut columns = vec![batch.column(0).clone()];
            columns.extend(signals.columns().iter().cloned());
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        })
        .collect()
}
