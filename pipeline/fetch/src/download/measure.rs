//! What the caller measures on a pair while its picture is decoded anyway.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lynxdata_picture::DynamicImage;

/// A measurement of pairs; it runs on the threads that decode, and keeps what it finds.
pub trait Measure: Debug + Send + Sync {
    /// Measures the pair of a row of the part: its caption, the length of its stored picture, and
    /// the pixels that [`decode_file`](lynxdata_picture::decode_file) would find in it, `None` if
    /// it does not decode. The row may still fail, and may be tried again.
    fn measure(&self, row: usize, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>);
}

/// The signals to measure on a row.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) measure: std::sync::Arc<dyn Measure>,
    pub(super) row: usize,
    pub(super) caption: Option<String>,
}

impl Wanted {
    /// Measures a picture. A panic is swallowed, so that the status of a row depends on its picture
    /// alone.
    pub(super) fn measure(&self, stored_bytes: usize, pixels: Option<DynamicImage>) {
        let measured = catch_unwind(AssertUnwindSafe(|| {
            self.measure.measure(self.row, self.caption.as_deref(), stored_bytes, pixels);
        }));
        // The panic hook has told of it; the caller finds nothing for this row.
        drop(measured);
    }
}
