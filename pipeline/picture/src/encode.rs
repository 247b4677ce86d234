//! Encodes images that had to be changed.

mod cosine;
mod jpeg;

use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};

use super::PictureError;

pub(super) use jpeg::encode as jpeg;

/// Encodes an image as PNG, 8-bit RGB.
pub(super) fn png(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|error| PictureError::Broken(format!("cannot encode as PNG: {error}")))?;
    Ok(bytes)
}

/// Encodes an image as lossless WebP, 8-bit RGB.
///
/// # Errors
/// [`PictureError::Unsupported`] if a side is longer than 16,383 pixels. The format allows one
/// more, but libwebp has this limit (`WEBP_MAX_DIMENSION`), and the decoder used here reads 16,384
/// as 0 (image-rs/image-webp, pull request 179).
pub(super) fn webp(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    const LONGEST: u32 = 16_383;
    let (width, height) = image.dimensions();
    if width > LONGEST || height > LONGEST {
        return Err(PictureError::Unsupported(format!("{width} x {height} pixels do not fit in a WebP")));
    }
    let mut bytes = Vec::new();
    WebPEncoder::new_lossless(&mut bytes)
        .write_image(image, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| PictureError::Broken(format!("cannot encode as WebP: {error}")))?;
    Ok(bytes)
}
