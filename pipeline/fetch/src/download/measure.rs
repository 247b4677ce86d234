//! Measurements of the caller on a pair while its image is decoded.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lynxdata_picture::DynamicImage;

/// A measurement of pairs. It runs on the decoding threads and stores its own results.
pub trait Measure: Debug + Send + Sync {
    /// Measures the pair of a row of the part: its caption, the length of its stored image in
    /// bytes, and the pixels that [`decode_file`](lynxdata_picture::decode_file) would return for
    /// it, `None` if it does not decode. The row may still fail, and may be tried again.
    fn measure(&self, row: usize, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>);
}

/// The measurement of a row.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) measure: std::sync::Arc<dyn Measure>,
    pub(super) row: usize,
    pub(super) caption: Option<String>,
}

impl Wanted {
    /// Measures an image. A panic is caught, so that the status of a row depends only on its image.
    pub(super) fn measure(&self, stored_bytes: usize, pixels: Option<DynamicImage>) {
        let measured = catch_unwind(AssertUnwindSafe(|| {
            self.measure.measure(self.row, self.caption.as_deref(), stored_bytes, pixels);
        }));
        // The panic hook has reported the panic. The caller has no results for this row.
        drop(measured);
    }
}
