//! Measures a group of signals in one scan of a pool part, which decodes each image once.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{DataFusionError, exec_datafusion_err};
use datafusion::prelude::{ParquetReadOptions, SessionContext};

use lynxdata_filters::{Group, Value};
use lynxdata_records::schema::{CAPTION, Column, IMAGE, IMAGE_BYTES, UID, with_hugging_face_features};

use crate::functions::{columns, fields, is_text, measure_function};
use crate::{Error, Result};

/// The column of a scan that holds the signals of a group.
const MEASURED: Column<StructArray> = Column::named("signals");

/// Returns the schema of the table of a group: `uid`, then one column per signal.
pub fn schema(group: &Group) -> SchemaRef {
    let mut columns = vec![Arc::new(UID.field())];
    columns.extend(fields(group.signals).iter().cloned());
    Arc::new(with_hugging_face_features(Schema::new(columns)))
}

/// Returns the table of a group from values that were measured pair by pair: `rows` holds, for each
/// uid, the values of [`Group::measure`].
///
/// # Panics
/// If the numbers of uids and rows differ, or if a value does not have the type of its signal,
/// which is a bug in the signal.
pub fn table(group: &Group, uids: ArrayRef, rows: &[Vec<Value>]) -> RecordBatch {
    let signals = columns(group.signals, rows).unwrap_or_else(|error| panic!("{error}"));
    let columns = std::iter::once(uids).chain(signals).collect();
    RecordBatch::try_new(schema(group), columns).expect("a uid for each row, and the columns of the schema")
}

/// Measures the signals of a group on every pair of a pool part, in the order of its rows.
///
/// # Errors
/// [`Error::Measure`] if the part cannot be read.
pub async fn measure(session: &SessionContext, group: &Group, pool_part: &Path) -> Result<Vec<RecordBatch>> {
    let wrap = |source| Error::Measure { path: pool_part.to_owned(), source };
    scan(session, group, pool_part).await.map_err(wrap)
}

async fn scan(
    session: &SessionContext,
    group: &Group,
    pool_part: &Path,
) -> std::result::Result<Vec<RecordBatch>, DataFusionError> {
    let path = pool_part
        .to_str()
        .ok_or_else(|| exec_datafusion_err!("the path of the run folder is not valid UTF-8; choose another folder"))?;
    // Text signals need no image, so the column of images is not read for them.
    let picture = if is_text(group) {
        "CAST(NULL AS BYTEA)".to_owned()
    } else {
        format!("{}['{}']", IMAGE.name, IMAGE_BYTES.name)
    };
    let measure = format!("{}({}, {picture}) AS {}", measure_function(group), CAPTION.name, MEASURED.name);
    let measured = session
        .read_parquet(path, ParquetReadOptions::default())
        .await?
        .select_exprs(&[UID.name, &measure])?
        .collect()
        .await?;
    let schema = schema(group);
    measured
        .into_iter()
        .map(|batch| {
            let signals = MEASURED.find(&batch).ok_or_else(|| {
                exec_datafusion_err!(
                    "the measuring scan returned no struct of signals; this is a bug, please report it"
                )
            })?;
            let mut columns = vec![batch.column(0).clone()];
            columns.extend(signals.columns().iter().cloned());
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        })
        .collect()
}
