//! What the caller measures on a pair while its picture is decoded anyway.

use std::any::Any;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lynxdata_picture::DynamicImage;

/// What was found of a pair. Only the caller knows its type; it waits in memory for the pairs before it, so it should be small.
pub type Measured = Box<dyn Any + Send>;

/// A measurement of pairs; it runs on the threads that decode.
pub trait Measure: Debug + Send + Sync {
    /// Measures a pair with this caption and a stored picture of this many bytes and these pixels: those that
    /// [`decode_file`](lynxdata_picture::decode_file) would find in it, none if it does not decode.
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> Measured;
}

/// None if the measurement panics: what becomes of a row depends on its picture alone.
pub(super) fn guarded(
    measure: &dyn Measure,
    caption: Option<&str>,
    stored_bytes: usize,
    pixels: Option<DynamicImage>,
) -> Option<Measured> {
    // What it leaves half done is dropped with it.
    catch_unwind(AssertUnwindSafe(|| measure.measure(caption, stored_bytes, pixels))).ok()
}
