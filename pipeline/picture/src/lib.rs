//! Recognises, checks, decodes, resizes and encodes images.
//!
//! ```
//! use lynxdata_picture::{Check, Encode, Format, PictureSettings, Resize, decode_file, prepare_with_pixels};
//!
//! let served = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/plain.jpg"))?; // 150 x 100 pixels
//! let settings = PictureSettings {
//!     resize: Resize::Shorter,
//!     size: 64,
//!     only_if_larger: true,
//!     encode: Encode::Jpeg,
//!     quality: 95,
//!     max_pixels: 100_000_000,
//!     check: Check::Pixels,
//! };
//! let (picture, pixels) = prepare_with_pixels(served, &settings, &[])?;
//! assert_eq!((picture.format, picture.width, picture.height), (Format::Jpeg, 96, 64));
//! // The pixels that a reader of the stored image gets, without a second decode.
//! assert_eq!(pixels, Some(decode_file(&picture.bytes, settings.max_pixels)?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The format is recognised by the bytes, never by a name. The size is read from the header before
//! any pixel is decoded. All decoders are memory-safe Rust. A panic in a decoder makes one broken
//! image, not a broken run.
//!
//! There are two views of an image. [`decode_file`] returns the pixels of the file as Pillow opens
//! it; signals and hashes use these. [`decode_rgb`] returns what people see: upright, in sRGB and
//! on white; this is what is scaled and stored.
//!
//! In the order in which data flows:
//!
//! * `sniff`, `structure`: the format, and whether the file is complete, without decoding;
//! * `jpeg`, `vp8`: our own decoders of JPEG and lossy WebP, to `planes`;
//! * `png`, `elsewhere`: files that other readers would refuse;
//! * `tiff`, `gif`: decoders of these formats; the image crate decodes the others;
//! * `colour`: conversion of colour profiles and CMYK to sRGB;
//! * `resize`, over `scale`: the modes of resizing;
//! * [`blur_boxes`]: blurs boxes such as faces;
//! * `encode`: encodes the stored file.

#![allow(clippy::inline_always, reason = "only inlined code is compiled for the caller's instruction set")]
#![allow(
    clippy::needless_range_loop,
    reason = "several arrays are indexed at once, in loops that become vector instructions"
)]

mod blocks;
mod blur;
mod colour;
mod elsewhere;
mod encode;
mod gif;
mod guarded;
mod jpeg;
mod planes;
mod png;
mod resize;
mod scale;
mod sniff;
mod structure;
mod tiff;
mod vp8;

use std::borrow::Cow;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageReader, Limits, RgbImage, RgbaImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use blur::{blur_boxes, is_usable};
use colour::{Channels, ToSrgb};
use guarded::guarded;
pub use guarded::is_decoding;
pub use image::DynamicImage;
use planes::{Planes, Subsampled, Wanted};
use resize::Layout;
pub use sniff::{Format, begins_as_picture};
use tiff::directory::Directory;

/// The way in which an image is resized before it is stored. The names in brackets are those of
/// img2dataset, with the same meaning.
///
/// Before an image is resized, cropped or padded, it is turned upright by its EXIF orientation,
/// converted to sRGB if it has the colour profile of another colour space, and blended with white
/// where it is transparent. Scaled sides are rounded to the nearest pixel, halves up, and are at
/// least 1. A crop or a padding that cannot be split evenly is one pixel larger at the right or at
/// the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// No change (`no` with `disable_all_reencoding`): the bytes are stored as served, after
    /// [`Check`] has found them complete. There are two exceptions. Ancillary chunks of a PNG or
    /// WebP for which Pillow refuses the file, such as a text with a wrong checksum, are left out.
    /// Bitmaps and TIFFs of kinds that Pillow does not open are encoded again, in their size.
    #[serde(alias = "no")]
    Keep,
    /// The shorter side is scaled to the set size, and the aspect ratio is kept (`keep_ratio`).
    #[serde(alias = "keep_ratio")]
    Shorter,
    /// The longer side is scaled to the set size, and the aspect ratio is kept
    /// (`keep_ratio_largest`).
    #[serde(alias = "keep_ratio_largest")]
    Longer,
    /// The shorter side is scaled to the set size, then the square at the centre is cut out
    /// (`center_crop`).
    #[serde(alias = "center_crop")]
    CentreCrop,
    /// The longer side is scaled to the set size, then white is added on both sides of the shorter
    /// one until the image is square (`border`).
    Border,
}

/// The format of images that had to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// Baseline JPEG, 4:2:0. Also called `jpg`.
    #[serde(alias = "jpg")]
    Jpeg,
    /// PNG, without loss; ignores the quality.
    Png,
    /// WebP, always without loss (VP8L); ignores the quality. Sides are at most 16,383 pixels.
    #[serde(rename = "webp")]
    WebP,
}

impl Encode {
    /// Returns the usual suffix of file names, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Encode::Jpeg => "jpg",
            Encode::Png => "png",
            Encode::WebP => "webp",
        }
    }
}

/// The check of an image that is stored as served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The image is decoded, so readers can decode it later.
    #[default]
    Pixels,
    /// Only the structure is read: a header with a valid size, and all parts that the format
    /// announces, up to its end. This takes microseconds instead of milliseconds. It finds files
    /// that were cut off and files that are not images, but not damage within the compressed
    /// pixels, nor rare kinds of a format that cannot be decoded here.
    Structure,
}

/// The settings of [`prepare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSettings {
    /// The way in which the image is resized.
    pub resize: Resize,
    /// Length of the scaled side or of the square, pixels, at least 1. Ignored by [`Resize::Keep`].
    pub size: u32,
    /// Whether an image is left unchanged (not scaled, cropped or padded) unless its shorter side
    /// ([`Resize::Shorter`], [`Resize::CentreCrop`]) or its longer side ([`Resize::Longer`],
    /// [`Resize::Border`]) is longer than `size`.
    pub only_if_larger: bool,
    /// Format of changed images.
    pub encode: Encode,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Maximum number of pixels that are decoded or stored.
    pub max_pixels: u64,
    /// The check of an image with [`Resize::Keep`]. In the other modes all images are decoded.
    pub check: Check,
}

/// A stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: Format,
    /// Its width by its header, pixels; for a TIFF, upright.
    pub width: u32,
    /// Its height by its header, pixels; for a TIFF, upright.
    pub height: u32,
    /// Width as served, before orientation (except for a TIFF), pixels.
    pub original_width: u32,
    /// Height as served, before orientation (except for a TIFF), pixels.
    pub original_height: u32,
}

/// The reason why bytes could not be read or stored as an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// The bytes do not begin like any image format.
    #[error("{0}")]
    NotAnImage(&'static str),
    /// An image format, or a variant of one, that cannot be decoded or encoded here.
    #[error("{0}")]
    Unsupported(String),
    /// The file is damaged or cut off.
    #[error("{0}")]
    Broken(String),
    /// The header announces too many pixels.
    #[error("{width} x {height} pixels are more than the {max_pixels} allowed")]
    TooManyPixels {
        /// Announced width, pixels.
        width: u64,
        /// Announced height, pixels.
        height: u64,
        /// The limit.
        max_pixels: u64,
    },
}

fn broken(reason: impl Into<String>) -> PictureError {
    PictureError::Broken(reason.into())
}

fn cut_off(place: &str) -> PictureError {
    PictureError::Broken(format!("the file is cut off {place}"))
}

/// Returns the stored form of an image.
///
/// [`Resize::Keep`] keeps the bytes. The other modes keep them if the image needs no change: if it
/// has the wanted format and size, is 8-bit grey or RGB, upright and opaque, and has no colour
/// profile of another space than sRGB.
///
/// `blur` holds boxes to blur, see [`blur_boxes`], in fractions of the upright image before any
/// crop or padding. An image with at least one usable box is decoded and encoded again in every
/// mode; with [`Resize::Keep`] it keeps its size.
///
/// # Errors
/// [`PictureError`] if the image cannot be decoded, checked or encoded.
pub fn prepare(bytes: Vec<u8>, settings: &PictureSettings, blur: &[[f32; 4]]) -> Result<Picture, PictureError> {
    Ok(prepare_as(bytes, settings, blur, false)?.0)
}

/// Returns the stored form of an image as [`prepare`] does, with the pixels that [`decode_file`]
/// with the same `max_pixels` would return for it. A stored JPEG is not decoded for that: its
/// pixels are computed from the coefficients that were written. The pixels are `None` if
/// [`decode_file`] would fail: [`Check::Structure`] accepts bytes that do not decode, and `prepare`
/// may use more memory.
///
/// # Errors
/// Those of [`prepare`].
pub fn prepare_with_pixels(
    bytes: Vec<u8>,
    settings: &PictureSettings,
    blur: &[[f32; 4]],
) -> Result<(Picture, Option<DynamicImage>), PictureError> {
    prepare_as(bytes, settings, blur, true)
}

fn prepare_as(
    bytes: Vec<u8>,
    settings: &PictureSettings,
    blur: &[[f32; 4]],
    with_pixels: bool,
) -> Result<(Picture, Option<DynamicImage>), PictureError> {
    let format = sniff::format(&bytes)?;
    let bytes = match format {
        Format::Png => match png::readable(&bytes) {
            Cow::Owned(readable) => readable,
            Cow::Borrowed(_) => bytes,
        },
        Format::WebP => elsewhere::webp_without_unreadable_exif(&bytes).unwrap_or(bytes),
        _ => bytes,
    };
    let is_blurred = blur.iter().any(blur::is_usable);
    let is_kept = settings.resize == Resize::Keep && !is_blurred && elsewhere::opens(&bytes, format);
    if is_kept && settings.check == Check::Structure {
        let (width, height) = structure::check(&bytes, format, settings.max_pixels)?;
        let pixels = if with_pixels { decode_file(&bytes, settings.max_pixels).ok() } else { None };
        return Ok((Picture { bytes, format, width, height, original_width: width, original_height: height }, pixels));
    }
    // An image with boxes to blur is decoded in full size, because the boxes are blurred before it
    // is scaled.
    let may_reduce = !(is_blurred || is_kept && with_pixels);
    let decoded = decode(&bytes, settings.max_pixels, may_reduce.then_some(settings))?;
    let layout = Layout::new(settings.resize, decoded.upright_size, settings.size, settings.only_if_larger);
    let wanted_format = match settings.encode {
        Encode::Jpeg => Format::Jpeg,
        Encode::Png => Format::Png,
        Encode::WebP => Format::WebP,
    };
    let is_unchanged = layout.is_identity(decoded.upright_size) && !is_blurred;
    let (original_width, original_height) = decoded.stored_size;
    if is_kept || is_unchanged && decoded.is_plain && decoded.format == wanted_format {
        let picture = Picture {
            bytes,
            format: decoded.format,
            width: original_width,
            height: original_height,
            original_width,
            original_height,
        };
        return Ok((picture, if with_pixels { decoded.pixels.of_file() } else { None }));
    }
    drop(bytes);
    let (width, height) = layout.stored;
    check_size(u64::from(width), u64::from(height), settings.max_pixels)?;
    let (bytes, pixels) = match decoded.pixels {
        Pixels::Planes(planes, wanted) if wanted.halves_chroma => {
            encode::jpeg(&planes.subsampled(wanted.size), settings.quality, with_pixels)?
        }
        pixels => {
            let mut pixels = Decoded { pixels, ..decoded }.into_rgb();
            blur_boxes(&mut pixels, blur);
            let pixels = resize::lay_out(pixels, layout);
            match settings.encode {
                Encode::Jpeg => encode::jpeg(&Subsampled::from_rgb(&pixels), settings.quality, with_pixels)?,
                Encode::Png => (encode::png(&pixels)?, with_pixels.then_some(pixels)),
                Encode::WebP => (encode::webp(&pixels)?, with_pixels.then_some(pixels)),
            }
        }
    };
    let picture = Picture { bytes, format: wanted_format, width, height, original_width, original_height };
    Ok((picture, pixels.map(DynamicImage::from)))
}

/// Returns the original width and height, as in [`Picture`], of an image whose file is complete.
/// Only the structure of the file is checked; nothing is decoded.
///
/// # Errors
/// Those of [`prepare`] with [`Check::Structure`].
pub fn size_of(bytes: &[u8], max_pixels: u64) -> Result<(u32, u32), PictureError> {
    structure::check(bytes, sniff::format(bytes)?, max_pixels)
}

/// Returns the format by the first bytes.
///
/// # Errors
/// [`PictureError::Unsupported`] for an image of another format, [`PictureError::NotAnImage`] for
/// everything else.
pub fn format_of(bytes: &[u8]) -> Result<Format, PictureError> {
    sniff::format(bytes)
}

/// Decodes an image (the first frame of an animation) to the pixels of its file, as Pillow opens
/// it: not turned, with the colours and the alpha of the file, and CMYK as RGB with Pillow's
/// formula (see [`decode_rgb`] for the other view). Pixels of a JPEG equal libjpeg's to the last
/// bit. As in Pillow, a TIFF is turned upright.
///
/// # Errors
/// Those of [`prepare`], and [`PictureError::Unsupported`] if the pixels take more than 512 MiB.
pub fn decode_file(bytes: &[u8], max_pixels: u64) -> Result<DynamicImage, PictureError> {
    decode_within(bytes, max_pixels, MAX_FILE_BYTES, None)?.pixels.of_file().ok_or_else(too_many_bytes)
}

/// Maximum number of bytes of decoded pixels: the default of the image crate. Within 100
/// megapixels, only samples of 16 bits and more can exceed it.
const MAX_FILE_BYTES: u64 = 512 << 20;

fn too_many_bytes() -> PictureError {
    PictureError::Unsupported(format!("its pixels take more than {} MiB", MAX_FILE_BYTES >> 20))
}

/// Decodes an image (the first frame of an animation) to 8-bit sRGB, upright by its EXIF
/// orientation, blended with white where it is transparent.
///
/// # Errors
/// Those of [`prepare`].
pub fn decode_rgb(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, PictureError> {
    Ok(decode(bytes, max_pixels, None)?.into_rgb())
}

/// Returns both views of an image with one decode: the pixels of [`decode_file`] and those of
/// [`decode_rgb`].
///
/// # Errors
/// Those of [`decode_file`].
pub fn decode_file_and_rgb(bytes: &[u8], max_pixels: u64) -> Result<(DynamicImage, RgbImage), PictureError> {
    let decoded = decode_within(bytes, max_pixels, MAX_FILE_BYTES, None)?;
    let file = decoded.pixels.clone().of_file().ok_or_else(too_many_bytes)?;
    Ok((file, decoded.into_rgb()))
}

/// Crops the square at the centre of an image and scales it to `side` x `side` pixels with an
/// antialiased bicubic filter (Catmull-Rom, as Pillow's `BICUBIC`). Returns `side * side * 3`
/// bytes, rows from top to bottom, RGB interleaved.
///
/// The result equals scaling the shorter side to `side` and then cropping, except that the centre
/// is not rounded to a whole pixel.
pub fn square_of(pixels: &RgbImage, side: u32) -> Vec<u8> {
    resize::centre_square(pixels, side).into_raw()
}

/// Scales a square of `from * from` pixels, RGB interleaved, to `to * to` pixels as [`square_of`]
/// does; `None` if `pixels` has another length.
pub fn scaled_square(pixels: Vec<u8>, from: u32, to: u32) -> Option<Vec<u8>> {
    let square =
        RgbImage::from_raw(from, from, pixels).filter(|square| square.as_raw().len() == (3 * from * from) as usize)?;
    Some(if from == to { square.into_raw() } else { square_of(&square, to) })
}

/// A decoded image, with what is needed to decide whether its file may be kept.
struct Decoded {
    format: Format,
    pixels: Pixels,
    /// The conversion to sRGB, if the pixels are in another colour space.
    to_srgb: Option<ToSrgb>,
    /// The orientation that must be applied to make the pixels upright.
    orientation: Orientation,
    /// Size of the image as served, upright.
    upright_size: (u32, u32),
    /// Size in the file's header, before orientation; for a TIFF, upright.
    stored_size: (u32, u32),
    /// Whether the file is 8-bit grey or RGB, upright, opaque and in sRGB, so that every reader
    /// gets the same pixels as we do.
    is_plain: bool,
}

/// Decoded pixels, not turned upright yet.
#[derive(Clone)]
enum Pixels {
    /// The pixels of the file.
    Image(DynamicImage),
    /// The pixels of a CMYK file, in the four channels of RGBA; 0 is no ink.
    Inks(RgbaImage),
    /// Opaque sRGB pixels as planes, with the size to make of them. The planes may be reduced to
    /// what this size needs.
    Planes(Box<Planes>, Wanted),
}

impl Pixels {
    /// Returns the pixels of the file, unless they exceed [`MAX_FILE_BYTES`].
    fn of_file(self) -> Option<DynamicImage> {
        let pixels: DynamicImage = match self {
            Pixels::Image(image) => image,
            Pixels::Inks(inks) => colour::rgb_of_inks(&inks).into(),
            Pixels::Planes(..) => unreachable!("whoever wants them does not let them be reduced"),
        };
        (pixels.as_bytes().len() as u64 <= MAX_FILE_BYTES).then_some(pixels)
    }
}

impl Decoded {
    /// Returns the pixels in sRGB, opaque and upright, and scaled if they are planes, but not
    /// cropped or padded.
    fn into_rgb(self) -> RgbImage {
        let pixels = match (self.pixels, self.to_srgb) {
            (Pixels::Image(image), None) => on_white(image),
            (Pixels::Image(image), Some(to_srgb)) => on_white(to_srgb.convert(image)),
            (Pixels::Inks(inks), None) => colour::rgb_of_inks(&inks),
            (Pixels::Inks(inks), Some(to_srgb)) => to_srgb.convert_cmyk(&inks),
            (Pixels::Planes(planes, wanted), _) => planes.rgb(wanted.size),
        };
        if self.orientation == Orientation::NoTransforms {
            return pixels;
        }
        let mut image = DynamicImage::ImageRgb8(pixels);
        image.apply_orientation(self.orientation);
        image.into_rgb8()
    }
}

/// Decodes an image. If `wanted` asks for scaling, the decoder may leave out what the scaled image
/// does not need.
fn decode(bytes: &[u8], max_pixels: u64, wanted: Option<&PictureSettings>) -> Result<Decoded, PictureError> {
    decode_within(bytes, max_pixels, u64::MAX, wanted)
}

/// Decodes an image unless its pixels take more than `max_bytes`. (JPEG has 8-bit samples, so
/// `max_pixels` limits its bytes.)
fn decode_within(
    bytes: &[u8],
    max_pixels: u64,
    max_bytes: u64,
    wanted: Option<&PictureSettings>,
) -> Result<Decoded, PictureError> {
    let format = sniff::format(bytes)?;
    let decoding = || match format {
        Format::Jpeg => jpeg::decode(bytes, max_pixels, wanted),
        Format::Gif => gif::decode(bytes, max_pixels),
        Format::Tiff => tiff::decode(bytes, max_pixels, max_bytes),
        other => decode_with_image_crate(bytes, other, (max_pixels, max_bytes), wanted),
    };
    guarded(decoding).unwrap_or_else(|| Err(PictureError::Broken(format!("the {} decoder gave up", format.name()))))
}

fn decode_with_image_crate(
    bytes: &[u8],
    format: Format,
    (max_pixels, max_bytes): (u64, u64),
    wanted: Option<&PictureSettings>,
) -> Result<Decoded, PictureError> {
    let image_format = match format {
        Format::Jpeg | Format::Gif | Format::Tiff => unreachable!("it has a decoder of its own"),
        Format::Png => image::ImageFormat::Png,
        Format::WebP => image::ImageFormat::WebP,
        Format::Bmp => image::ImageFormat::Bmp,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format);
    let mut limits = Limits::no_limits();
    // The number of pixels is limited below. This limit is for everything else that decoders need:
    // a second buffer of the widest pixels (16 bytes, RGBA of 32-bit floats), and 64 MiB for tables
    // and metadata.
    limits.max_alloc = Some(max_pixels.saturating_mul(32).saturating_add(64 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(from_image_error)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height), max_pixels)?;
    if decoder.total_bytes() > max_bytes {
        return Err(too_many_bytes());
    }
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = exif.as_deref().map_or(Orientation::NoTransforms, orientation_of_exif);
    let profile = decoder.icc_profile().ok().flatten();
    let to_srgb = profile.and_then(|profile| ToSrgb::new(&profile, Channels::of(decoder.color_type())));
    let is_plain = orientation == Orientation::NoTransforms
        && to_srgb.is_none()
        && matches!(decoder.color_type(), ColorType::L8 | ColorType::Rgb8);
    let stored_size = (width, height);
    let upright_size = resize::turned(stored_size, orientation);
    let decoded =
        |pixels, to_srgb| Decoded { format, pixels, to_srgb, orientation, upright_size, stored_size, is_plain };
    if format == Format::WebP
        && decoder.color_type() == ColorType::Rgb8
        && to_srgb.is_none()
        && let Some(settings) = wanted
        && let Some(wanted) = resize::wanted_of_planes(settings, stored_size, orientation)
        && let Some(planes) = vp8::decode(bytes, stored_size)
    {
        return Ok(decoded(Pixels::Planes(Box::new(planes), wanted), None));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(from_image_error)?;
    Ok(decoded(Pixels::Image(image), to_srgb))
}

/// Maximum length of a side that is decoded or stored, pixels: four times the limit of JPEG.
/// Scaling holds a strip of the image along its whole width. A line of 100 million pixels, which a
/// PNG of a few kilobytes can hold, would take gigabytes.
const MAX_SIDE: u64 = 1 << 18;

fn check_size(width: u64, height: u64, max_pixels: u64) -> Result<(), PictureError> {
    if width == 0 || height == 0 {
        return Err(PictureError::Broken(format!("the header says {width} x {height} pixels")));
    }
    if width.saturating_mul(height) > max_pixels {
        return Err(PictureError::TooManyPixels { width, height, max_pixels });
    }
    if width.max(height) > MAX_SIDE {
        let reason = format!("{width} x {height} pixels: a side has more than the {MAX_SIDE} that are decoded");
        return Err(PictureError::Unsupported(reason));
    }
    Ok(())
}

fn from_image_error(error: ImageError) -> PictureError {
    match error {
        ImageError::Unsupported(error) => PictureError::Unsupported(error.to_string()),
        other => PictureError::Broken(other.to_string()),
    }
}

/// Returns the orientation in EXIF data, which are a TIFF without pixels (EXIF 2.32, 4.5.2). Some
/// encoders write the data into a WebP or PNG with the prefix of a JPEG segment, which Pillow
/// skips.
fn orientation_of_exif(exif: &[u8]) -> Orientation {
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Directory::first(exif).map_or(Orientation::NoTransforms, |directory| directory.orientation())
}

/// Returns 8-bit RGB. Wider samples are rounded, transparent pixels are blended with white.
fn on_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let with_alpha = image.into_rgba8();
    let mut opaque = RgbImage::new(with_alpha.width(), with_alpha.height());
    for (target, source) in opaque.pixels_mut().zip(with_alpha.pixels()) {
        let [red, green, blue, opacity] = source.0.map(u32::from);
        target.0 = [red, green, blue].map(|value| ((value * opacity + 255 * (255 - opacity) + 127) / 255) as u8);
    }
    opaque
}

#[cfg(test)]
#[path = "../../../tests/machine.rs"]
mod machine;
#[cfg(test)]
mod tests;
