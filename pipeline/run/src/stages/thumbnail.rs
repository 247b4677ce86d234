//! Small images for the page of the report.

use lynxdata_picture::{Check, Encode, Picture, PictureSettings, Resize, prepare};

/// Returns an image as JPEG with a shorter side of at most `side` pixels; `None` if it cannot be
/// decoded.
pub(super) fn thumbnail(bytes: Vec<u8>, side: u32) -> Option<Picture> {
    let settings = PictureSettings {
        resize: Resize::Shorter,
        size: side,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: 78,
        max_pixels: 100_000_000,
        check: Check::Pixels,
    };
    prepare(bytes, &settings, &[]).ok()
}
