//! Measurements of the caller on a pair while its image is decoded.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lynxdata_picture::DynamicImage;

/// A measurement of pairs, whose results arrive with the pairs. It runs on the decoding threads.
pub trait Measure<Measured>: Debug + Send + Sync {
    /// Measures a pair: its caption, the length of its stored image in bytes, and the pixels that
    /// [`decode_file`](lynxdata_picture::decode_file) would return for it, `None` if it does not
    /// decode. The row may still fail; its result is then dropped.
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> Measured;
}

/// The measurement of a row.
#[derive(Debug)]
pub(super) struct Wanted<Measured> {
    pub(super) measure: std::sync::Arc<dyn Measure<Measured>>,
    pub(super) caption: Option<String>,
}

impl<Measured> Wanted<Measured> {
    /// Measures an image; `None` after a panic, which the panic hook has reported. It is caught, so
    /// that the status of a row depends only on its image.
    pub(super) fn measure(&self, stored_bytes: usize, pixels: Option<DynamicImage>) -> Option<Measured> {
        let measure = || self.measure.measure(self.caption.as_deref(), stored_bytes, pixels);
        catch_unwind(AssertUnwindSafe(measure)).ok()
    }
}
