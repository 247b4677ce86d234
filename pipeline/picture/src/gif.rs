//! Decodes GIF: the first frame, placed on its logical screen.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage, RgbaImage};

use super::broken;
use super::colour::{Channels, ToSrgb};
use super::{Decoded, Format, PictureError, Pixels, check_size};

/// Maximum number of bytes of a colour profile and of other data that the decoder keeps.
const MAX_METADATA_BYTES: NonZeroU64 = NonZeroU64::new(64 << 20).unwrap();

/// Decodes the first frame of a file.
///
/// As in Pillow, the screen grows to hold the frame. The rest of the screen has the transparent
/// colour, or the first colour of the palette if there is none. It is transparent, as in browsers.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, PictureError> {
    let damaged = |error: DecodingError| broken(format!("damaged: {error}"));
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(MemoryLimit::Bytes(MAX_METADATA_BYTES.saturating_add(max_pixels)));
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(bytes).map_err(damaged)?;
    let screen = (u32::from(decoder.width()), u32::from(decoder.height()));
    check_size(u64::from(screen.0), u64::from(screen.1), max_pixels)?;
    let frame = decoder.next_frame_info().map_err(damaged)?.ok_or_else(|| broken("it has no image"))?;
    let [left, top, width, height] = [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    let transparent = frame.transparent;
    let size = (screen.0.max(left + width), screen.1.max(top + height));
    check_size(u64::from(size.0), u64::from(size.1), max_pixels)?;
    let mut indices = vec![0; width as usize * height as usize];
    decoder.read_into_buffer(&mut indices).map_err(damaged)?;
    // Indices without a palette, or beyond its end, are grey values.
    let mut palette: [[u8; 3]; 256] = std::array::from_fn(|index| [index as u8; 3]);
    for (colour, given) in palette.iter_mut().zip(decoder.palette().unwrap_or_default().as_chunks().0) {
        *colour = *given;
    }
    let colour = |index: u8| palette[usize::from(index)];
    let is_opaque = transparent.is_none_or(|transparent| !indices.contains(&transparent)) && size == (width, height);
    let pixels: DynamicImage = if is_opaque {
        let samples = indices.iter().flat_map(|index| colour(*index)).collect();
        RgbImage::from_raw(width, height, samples).expect("a colour for each index").into()
    } else {
        let pixel = |index: u8, alpha: u8| {
            let [red, green, blue] = colour(index);
            image::Rgba([red, green, blue, alpha])
        };
        let mut pixels = RgbaImage::from_pixel(size.0, size.1, pixel(transparent.unwrap_or(0), 0));
        for (index, place) in indices.iter().zip(0..) {
            let alpha = if transparent == Some(*index) { 0 } else { 255 };
            pixels.put_pixel(left + place % width, top + place / width, pixel(*index, alpha));
        }
        pixels.into()
    };
    let to_srgb = decoder.icc_profile().and_then(|profile| ToSrgb::new(profile, Channels::of(pixels.color())));
    Ok(Decoded {
        format: Format::Gif,
        pixels: Pixels::Image(pixels),
        to_srgb,
        orientation: Orientation::NoTransforms,
        upright_size: size,
        stored_size: size,
        // No image is encoded as GIF, so this does not matter.
        is_plain: false,
    })
}
