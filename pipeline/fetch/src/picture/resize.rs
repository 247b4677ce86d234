//! Scaling with an antialiased bicubic filter.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::PictureError;

/// The size of a picture after its shorter side has been scaled to `size`: the other side in proportion, rounded, at least 1.
pub(super) fn scaled_size(width: u32, height: u32, size: u32) -> (u32, u32) {
    let scale = |longer: u32, shorter: u32| {
        let scaled = (u64::from(longer) * u64::from(size) + u64::from(shorter) / 2) / u64::from(shorter);
        u32::try_from(scaled).unwrap_or(u32::MAX)
    };
    if width <= height { (size, scale(height, width)) } else { (scale(width, height), size) }
}

/// The whole picture at a new size.
pub(super) fn scale(image: &RgbImage, width: u32, height: u32) -> Result<RgbImage, PictureError> {
    resample(image, width, height, &options())
}

/// The square at the centre, as large as the shorter side, at `side` x `side` pixels.
pub(super) fn centre_square(image: &RgbImage, side: u32) -> Result<RgbImage, PictureError> {
    resample(image, side, side, &options().fit_into_destination(Some((0.5, 0.5))))
}

fn options() -> ResizeOptions {
    // Catmull-Rom is Pillow's BICUBIC (a = -0.5); "convolution" widens the kernel when shrinking, which is what antialiases.
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
}

fn resample(image: &RgbImage, width: u32, height: u32, options: &ResizeOptions) -> Result<RgbImage, PictureError> {
    let failed = |reason: String| PictureError::Broken(format!("cannot scale to {width} x {height}: {reason}"));
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .map_err(|error| failed(error.to_string()))?;
    let mut target = Image::new(width, height, PixelType::U8x3);
    Resizer::new().resize(&source, &mut target, options).map_err(|error| failed(error.to_string()))?;
    Ok(RgbImage::from_raw(width, height, target.into_vec()).expect("the buffer was made for this size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_keeps_the_proportion() {
        assert_eq!(scaled_size(640, 480, 256), (341, 256));
        assert_eq!(scaled_size(480, 640, 256), (256, 341));
        assert_eq!(scaled_size(256, 256, 64), (64, 64));
        assert_eq!(scaled_size(3, 4, 1), (1, 1));
        assert_eq!(scaled_size(1, 60_000, 16_384), (16_384, 983_040_000));
        assert_eq!(scaled_size(1, u32::MAX, 16_384), (16_384, u32::MAX));
    }
}
