//! The DataFusion session in which plans run.

use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::functions;

/// Rows that a plan holds at a time. Small, because a row of the measuring scan holds a picture.
const BATCH_ROWS: usize = 256;

/// Returns a session on this machine. Every signal is registered as an SQL function of its own
/// name: text signals take a caption, picture signals take encoded picture bytes.
///
/// Plans run in one partition, so that rows keep their order; parts run beside each other instead.
pub fn local() -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    // Utf8 and Binary instead of the view types: they are what the tables are written with.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // `WIDTH` of LAION's lists is another column than the signal `width`; see `select`.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let context = SessionContext::new_with_config(config);
    for function in functions::all() {
        context.register_udf(ScalarUDF::new_from_shared_impl(function));
    }
    context
}
