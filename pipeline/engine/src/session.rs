//! The DataFusion session in which plans run.

use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::functions;

/// Rows of a batch. The number is small because each row of the measuring scan holds an image.
const BATCH_ROWS: usize = 256;

/// Returns a session on this machine. Every signal that needs no model is registered as an SQL
/// function of the same name. Text signals take a caption, and image signals take the encoded bytes
/// of an image.
///
/// Plans run in one partition, so that rows keep their order. Signals are measured in parallel on
/// the rows of a batch instead.
pub fn local() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    // The tables are written with Utf8 and Binary, so they are read as these and not as view types.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // Names keep their case: `WIDTH` in LAION's lists is not the signal `width`; see `select`.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let context = SessionContext::new_with_config(config);
    for function in functions::all() {
        context.register_udf(ScalarUDF::new_from_shared_impl(function));
    }
    context
}
