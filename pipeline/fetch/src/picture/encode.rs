//! Writing pictures that had to be changed.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, RgbImage};
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

use super::PictureError;

/// Baseline JPEG with 4:2:0 chroma, averaged as libjpeg does.
///
/// # Errors
/// [`PictureError::Unsupported`] if a side is longer than 65,535 pixels, the most that a JPEG header can say.
pub(super) fn jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, PictureError> {
    let (width, height) = image.dimensions();
    let (Ok(short_width), Ok(short_height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(PictureError::Unsupported(format!("{width} x {height} pixels do not fit in a JPEG")));
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(image, short_width, short_height, ColorType::Rgb)
        .map_err(|error| PictureError::Broken(format!("cannot encode as JPEG: {error}")))?;
    Ok(bytes)
}

/// PNG, 8-bit RGB.
pub(super) fn png(image: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(|error| PictureError::Broken(format!("cannot encode as PNG: {error}")))?;
    Ok(bytes)
}
