//! What the caller measures on a pair while its picture is decoded anyway.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use lynxdata_picture::DynamicImage;

/// A measurement of pairs; it runs on the threads that decode.
pub trait Measure: Debug + Send + Sync {
    /// One row of the caller's columns, always the same, for a pair with this caption and a stored picture of this many bytes and these pixels: those that
    /// [`decode_file`](lynxdata_picture::decode_file) would find in it, none if it does not decode.
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> RecordBatch;
}

/// None if the measurement panics: what becomes of a row depends on its picture alone.
pub(super) fn guarded(
    measure: &dyn Measure,
    caption: Option<&str>,
    stored_bytes: usize,
    pixels: Option<DynamicImage>,
) -> Option<RecordBatch> {
    // What it leaves half done is dropped with it.
    let measured = catch_unwind(AssertUnwindSafe(|| measure.measure(caption, stored_bytes, pixels)));
    measured.ok().filter(|row| row.num_rows() == 1)
}
