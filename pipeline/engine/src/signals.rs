//! Measuring: one scan per pool part, one decode per picture, all signals.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use lynxdata_filters::{ImageData, Sample};

use crate::functions::{MEASURE, columns, signal_fields};
use crate::{Error, Result};

/// The schema of a signal table: `uid`, then one column per signal.
pub fn schema() -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("uid", DataType::Utf8, true))];
    fields.extend(signal_fields().iter().cloned());
    Arc::new(lynxdata_records::schema::with_hugging_face_features(Schema::new(fields)))
}

/// Measures a pair that is at hand: one row with a column per signal, see [`with_uids`]. `image` is its stored picture, if that decodes.
///
/// # Panics
/// If a signal gives a value that is not of its type, which is a bug of the signal.
pub fn measure_pair(caption: Option<&str>, image: Option<&ImageData>) -> RecordBatch {
    let row = lynxdata_filters::measure_all(&Sample::new(caption, image));
    let columns = columns(&[row]).unwrap_or_else(|error| panic!("{error}"));
    RecordBatch::try_new(Arc::new(Schema::new(signal_fields())), columns).expect("the columns are those of the signals")
}

/// Rows of [`measure_pair`] as rows of a signal table.
///
/// # Panics
/// If there are more or fewer uids than rows.
pub fn with_uids(uids: ArrayRef, measured: &RecordBatch) -> RecordBatch {
    let columns = std::iter::once(uids).chain(measured.columns().iter().cloned()).collect();
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
