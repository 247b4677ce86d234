//! Decodes the first image of TIFF 6.0 and BigTIFF files, of the kinds that Pillow opens.
//!
//! Supported are grey, palettes, RGB and CMYK, with or without alpha; samples of 1 to 32 bits or
//! floating-point numbers; strips or tiles, interleaved or in planes; no compression, or any of
//! [`Compression`].

mod compression;
pub(super) mod directory;
mod fax;
mod samples;

use std::io::{ErrorKind, Read};

use image::metadata::Orientation;
use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, RgbImage, RgbaImage};

use super::colour::{Channels, ToSrgb};
use super::{Decoded, Format, PictureError, Pixels, check_size, too_many_bytes};
use super::{broken, cut_off};
use compression::{Compressed, Compression};
use directory::{
    BITS_PER_SAMPLE, COLOR_MAP, Chunks, Directory, EXTRA_SAMPLES, FILL_ORDER, ICC_PROFILE, PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION, PREDICTOR, ROWS_PER_STRIP, SAMPLE_FORMAT, SAMPLES_PER_PIXEL, TILE_LENGTH, TILE_WIDTH,
};
use samples::{Kind, Predictor};

/// Decodes the first image of a file unless its pixels take more than `max_bytes`.
///
/// The result is upright: Pillow also turns the pixels of a TIFF when it reads them, and only those
/// of a TIFF.
pub(super) fn decode(bytes: &[u8], max_pixels: u64, max_bytes: u64) -> Result<Decoded, PictureError> {
    let directory = Directory::first(bytes)?;
    let picture = Picture::of(&directory, max_pixels)?;
    let bytes_per_pixel = if picture.colours == Colours::Palette { 3 } else { picture.channels() * picture.bytes() };
    if u64::from(picture.size.0) * u64::from(picture.size.1) * bytes_per_pixel as u64 > max_bytes {
        return Err(too_many_bytes());
    }
    let chunks = directory.chunks()?;
    let mut pixels = picture.pixels(&chunks)?;
    let has_inks = picture.colours == Colours::Cmyk;
    let channels = if has_inks { Channels::Cmyk } else { Channels::of(pixels.color()) };
    let to_srgb = directory.bytes(ICC_PROFILE).and_then(|profile| ToSrgb::new(profile, channels));
    pixels.apply_orientation(directory.orientation());
    let upright_size = (pixels.width(), pixels.height());
    Ok(Decoded {
        format: Format::Tiff,
        pixels: if has_inks { Pixels::Inks(pixels.into_rgba8()) } else { Pixels::Image(pixels) },
        to_srgb,
        orientation: Orientation::NoTransforms,
        upright_size,
        stored_size: upright_size,
        // No image is encoded as TIFF, so this does not matter.
        is_plain: false,
    })
}

/// An image as its directory describes it.
struct Picture<'a> {
    directory: &'a Directory<'a>,
    size: (u32, u32),
    colours: Colours,
    alpha: Option<Alpha>,
    /// Samples per pixel; further ones may follow those of the colours and alpha.
    samples: usize,
    kind: Kind,
    /// Whether each sample has its own strips or tiles.
    is_planar: bool,
    compression: Compression,
    predictor: Predictor,
    is_reversed: bool,
    /// Whether its JPEGs are in YCbCr.
    is_ycc: bool,
    /// Width and height of strips or tiles.
    chunk: (u32, u32),
}

/// The meaning of the first samples of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    WhiteIsZero,
    BlackIsZero,
    Palette,
    Rgb,
    Cmyk,
}

/// The relation of the alpha sample to the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alpha {
    Straight,
    Premultiplied,
}

impl<'a> Picture<'a> {
    fn of(directory: &'a Directory, max_pixels: u64) -> Result<Self, PictureError> {
        let size = directory.size()?;
        check_size(u64::from(size.0), u64::from(size.1), max_pixels)?;
        let compression = Compression::of(directory)?;
        let is_jpeg = compression == Compression::Jpeg;
        // If a required tag is missing, use the same guess as Pillow.
        let photometric = directory.number(PHOTOMETRIC_INTERPRETATION).unwrap_or(0);
        let guess = if is_jpeg && matches!(photometric, 2 | 6) { 3 } else { 1 };
        let samples = directory.number(SAMPLES_PER_PIXEL).unwrap_or(guess);
        let samples = usize::try_from(samples).ok().filter(|samples| (1..=MOST_SAMPLES).contains(samples));
        let samples =
            samples.ok_or_else(|| unsupported(&format!("more than {MOST_SAMPLES} samples per pixel, or none")))?;
        let (colours, is_ycc) = match photometric {
            0 => (Colours::WhiteIsZero, false),
            1 => (Colours::BlackIsZero, false),
            2 => (Colours::Rgb, false),
            3 => (Colours::Palette, false),
            5 => (Colours::Cmyk, false),
            6 if is_jpeg && samples == 1 => (Colours::BlackIsZero, false),
            6 if is_jpeg => (Colours::Rgb, true),
            6 => return Err(unsupported("YCbCr that is no JPEG")),
            8 => return Err(unsupported("CIE L*a*b* colours")),
            other => return Err(unsupported(&format!("photometric interpretation {other}"))),
        };
        if samples < colours.count() {
            return Err(broken(format!("its pixels have {samples} samples")));
        }
        let extra = directory.number(EXTRA_SAMPLES);
        let alpha = match (colours, extra) {
            (Colours::Palette | Colours::Cmyk, _) => None,
            (_, Some(1)) => Some(Alpha::Premultiplied),
            // Corel Draw 10 wrote 999.
            (_, Some(2 | 999)) => Some(Alpha::Straight),
            (Colours::Rgb, None) if samples == 4 => Some(Alpha::Straight),
            _ => None,
        };
        let picture = Picture {
            directory,
            size,
            colours,
            alpha: alpha.filter(|_| samples > colours.count()),
            samples,
            kind: kind(directory, samples)?,
            is_planar: directory.number(PLANAR_CONFIGURATION) == Some(2) && samples > 1,
            compression,
            predictor: match directory.number(PREDICTOR).unwrap_or(1) {
                _ if !matches!(compression, Compression::Lzw | Compression::Deflate) => Predictor::None,
                1 => Predictor::None,
                2 => Predictor::Difference,
                3 => Predictor::FloatingPoint,
                other => return Err(unsupported(&format!("predictor {other}"))),
            },
            is_reversed: directory.number(FILL_ORDER) == Some(2),
            is_ycc,
            chunk: chunk_size(directory, size, max_pixels)?,
        };
        picture.checked()
    }

    /// Refuses combinations that are not supported.
    fn checked(self) -> Result<Self, PictureError> {
        let (bits, is_float) = (self.kind.bits(), matches!(self.kind, Kind::Float(_)));
        match self.compression {
            Compression::Jpeg if self.kind != Kind::Unsigned(8) => {
                return Err(unsupported(&format!("JPEG of {bits} bits")));
            }
            Compression::Jpeg if self.is_planar && self.is_ycc => {
                return Err(unsupported("planes of JPEG in YCbCr"));
            }
            Compression::Fax(_) if self.kind != Kind::Unsigned(1) || self.samples != 1 => {
                return Err(unsupported(&format!("fax codes of {} samples of {bits} bits", self.samples)));
            }
            _ => {}
        }
        match self.predictor {
            Predictor::Difference if is_float || ![8, 16, 32].contains(&bits) => {
                return Err(unsupported(&format!("differences of samples of {bits} bits")));
            }
            Predictor::FloatingPoint if !is_float => return Err(unsupported(&format!("predictor 3 of {bits} bits"))),
            _ => {}
        }
        let is_sound = match self.colours {
            Colours::Palette => bits <= 8,
            // Pillow supports none of less than 8 bits, and today's encoders do not write them.
            Colours::Rgb | Colours::Cmyk => bits >= 8,
            _ => self.samples == 1 || bits >= 8,
        };
        if !is_sound {
            return Err(unsupported(&format!("{:?} of {bits} bits", self.colours)));
        }
        Ok(self)
    }

    /// Returns the number of samples per pixel of the result.
    fn channels(&self) -> usize {
        self.colours.count() + usize::from(self.alpha.is_some())
    }

    /// Returns the number of bytes of a sample of the result.
    fn bytes(&self) -> usize {
        if self.kind.is_wide() && self.colours != Colours::Cmyk && self.alpha != Some(Alpha::Premultiplied) {
            2
        } else {
            1
        }
    }

    /// Returns the interleaved samples of the result. `of` converts an unpacked sample to `T`.
    fn samples<T: Copy + Default>(&self, chunks: &Chunks, of: impl Fn(u16) -> T) -> Result<Vec<T>, PictureError> {
        let (width, height) = (self.size.0 as usize, self.size.1 as usize);
        let (chunk_width, chunk_height) = (self.chunk.0 as usize, self.chunk.1 as usize);
        let (across, down) = (width.div_ceil(chunk_width), height.div_ceil(chunk_height));
        let planes = if self.is_planar { self.samples } else { 1 };
        if (across * down).checked_mul(planes).is_none_or(|needed| needed > chunks.count()) {
            return Err(broken(format!("it has {} {}s, which are too few", chunks.count(), chunks.name)));
        }
        // Each of them may be read completely, so many that share their bytes would take long.
        if self.compression != Compression::None && chunks.total_bytes() > MOST_SHARING * chunks.file_bytes() {
            return Err(broken(format!("its {}s overlap", chunks.name)));
        }
        let channels = self.channels();
        let samples = if self.is_planar { 1 } else { self.samples };
        let (bits, is_little_endian) = (self.kind.bits(), self.directory.is_little_endian());
        let mut row = vec![0; (chunk_width * samples * bits).div_ceil(8)];
        let mut values = vec![0; chunk_width * samples];
        let mut target = vec![T::default(); width * height * channels];
        for plane in 0..planes.min(if self.is_planar { channels } else { 1 }) {
            for index in 0..across * down {
                let (left, top) = (index % across * chunk_width, index / across * chunk_height);
                // The last strip has only the remaining rows; tiles are complete.
                let rows = chunk_height.min(height - top);
                let place = plane * across * down + index;
                let mut source = self.rows(chunks, place, samples, rows)?;
                let visible = chunk_width.min(width - left);
                for y in top..top + rows {
                    source.read_exact(&mut row).map_err(|error| match error.kind() {
                        ErrorKind::UnexpectedEof => cut_off(&format!("in {} {place}", chunks.name)),
                        _ => broken(format!("damaged: {} {place}: {error}", chunks.name)),
                    })?;
                    self.predictor.undo(&mut row, samples, bits, is_little_endian);
                    self.kind.unpack(&row, is_little_endian, &mut values);
                    let start = (y * width + left) * channels;
                    let pixels = target[start..start + visible * channels].chunks_exact_mut(channels);
                    for (pixel, values) in pixels.zip(values.chunks_exact(samples)) {
                        if self.is_planar {
                            pixel[plane] = of(values[0]);
                        } else {
                            for (channel, value) in pixel.iter_mut().zip(values) {
                                *channel = of(*value);
                            }
                        }
                    }
                }
            }
        }
        Ok(target)
    }

    /// Returns a reader of the rows of a strip or tile. `rows` of them belong to the image.
    fn rows<'b>(
        &'b self,
        chunks: &Chunks<'b>,
        place: usize,
        samples: usize,
        rows: usize,
    ) -> Result<Box<dyn Read + 'b>, PictureError> {
        let bytes = match self.compression {
            Compression::None => chunks.bytes_from(place),
            _ => chunks.bytes(place)?,
        };
        let compressed = Compressed {
            directory: self.directory,
            compression: self.compression,
            bytes,
            size: (self.chunk.0, rows as u32),
            samples,
            is_reversed: self.is_reversed,
            most_rows: self.chunk.1,
            is_ycc: self.is_ycc,
        };
        compressed.rows()
    }

    /// Returns the pixels. CMYK is returned in the channels of RGBA.
    fn pixels(&self, chunks: &Chunks) -> Result<DynamicImage, PictureError> {
        if self.bytes() == 2 {
            return self.wide_pixels(chunks);
        }
        let mut samples = if self.kind.is_wide() {
            self.samples(chunks, |value| (value >> 8) as u8)?
        } else {
            self.samples(chunks, |value| value as u8)?
        };
        match (self.colours, self.kind) {
            (Colours::Palette, _) => {
                let palette = self.palette()?;
                samples = samples.iter().flat_map(|index| palette[usize::from(*index)]).collect();
            }
            (Colours::WhiteIsZero | Colours::BlackIsZero, Kind::Unsigned(bits @ 1..8)) => {
                let step = 255 / ((1 << bits) - 1);
                for sample in &mut samples {
                    *sample *= step;
                }
            }
            _ => {}
        }
        if self.colours == Colours::WhiteIsZero {
            samples.iter_mut().step_by(self.channels()).for_each(|grey| *grey = u8::MAX - *grey);
        }
        if self.alpha == Some(Alpha::Premultiplied) {
            samples.chunks_exact_mut(self.channels()).for_each(straighten);
        }
        let (width, height) = self.size;
        Ok(match if self.colours == Colours::Palette { 3 } else { self.channels() } {
            1 => GrayImage::from_raw(width, height, samples).expect(ENOUGH).into(),
            2 => GrayAlphaImage::from_raw(width, height, samples).expect(ENOUGH).into(),
            3 => RgbImage::from_raw(width, height, samples).expect(ENOUGH).into(),
            _ => RgbaImage::from_raw(width, height, samples).expect(ENOUGH).into(),
        })
    }

    /// Returns the pixels of an image whose result has 16-bit samples.
    fn wide_pixels(&self, chunks: &Chunks) -> Result<DynamicImage, PictureError> {
        let mut samples = self.samples(chunks, |value| value)?;
        if self.colours == Colours::WhiteIsZero {
            samples.iter_mut().step_by(self.channels()).for_each(|grey| *grey = u16::MAX - *grey);
        }
        let (width, height) = self.size;
        Ok(match self.channels() {
            1 => DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, samples).expect(ENOUGH)),
            2 => DynamicImage::ImageLumaA16(ImageBuffer::from_raw(width, height, samples).expect(ENOUGH)),
            3 => DynamicImage::ImageRgb16(ImageBuffer::from_raw(width, height, samples).expect(ENOUGH)),
            _ => DynamicImage::ImageRgba16(ImageBuffer::from_raw(width, height, samples).expect(ENOUGH)),
        })
    }

    /// Returns a colour for every index of the palette; black if the file has none for it.
    fn palette(&self) -> Result<Vec<[u8; 3]>, PictureError> {
        let colours: Vec<u64> = self.directory.numbers(COLOR_MAP).ok_or_else(|| broken("it has no palette"))?.collect();
        let count = colours.len() / 3;
        let colour = |index: usize| std::array::from_fn(|channel| (colours[channel * count + index] >> 8) as u8);
        let all = 1 << self.kind.bits();
        Ok((0..all).map(|index| if index < count { colour(index) } else { [0; 3] }).collect())
    }
}

/// The message for vectors that must be as long as their image.
const ENOUGH: &str = "as many samples as that size has";

/// Maximum average number of strips or tiles that share the same bytes. Usually none do, but some
/// writers let empty ones share their bytes.
const MOST_SHARING: u64 = 4;

/// Maximum number of samples per pixel: far more than the six of any kind that Pillow opens.
const MOST_SAMPLES: usize = 32;

impl Colours {
    fn count(self) -> usize {
        match self {
            Colours::WhiteIsZero | Colours::BlackIsZero | Colours::Palette => 1,
            Colours::Rgb => 3,
            Colours::Cmyk => 4,
        }
    }
}

fn unsupported(what: &str) -> PictureError {
    PictureError::Unsupported(format!("a TIFF with {what}"))
}

/// Returns the type of the samples, if all are the same.
fn kind(directory: &Directory, samples: usize) -> Result<Kind, PictureError> {
    let all_of = |tag, missing| {
        let mut values: Vec<u64> = directory.numbers(tag).map_or_else(|| vec![missing], Iterator::collect);
        values.truncate(samples);
        let is_same = values.windows(2).all(|pair| pair[0] == pair[1]);
        values.first().copied().filter(|_| is_same && (values.len() == 1 || values.len() == samples))
    };
    let different = || unsupported("samples of different kinds");
    let bits = all_of(BITS_PER_SAMPLE, 1).ok_or_else(different)?;
    Ok(match (all_of(SAMPLE_FORMAT, 1).ok_or_else(different)?, bits) {
        // Pillow reads signed 8-bit numbers as unsigned. Format 4 is undefined data.
        (1 | 4, 1 | 2 | 4 | 8 | 12 | 16 | 32) | (2, 8) => Kind::Unsigned(bits as usize),
        (2, 16) => Kind::Signed16,
        (3, 32 | 64) => Kind::Float(bits as usize),
        (format, bits) => return Err(unsupported(&format!("samples of format {format} with {bits} bits"))),
    })
}

/// Returns the width and height of tiles, or of strips.
fn chunk_size(directory: &Directory, (width, height): (u32, u32), max_pixels: u64) -> Result<(u32, u32), PictureError> {
    let side = |tag| {
        let value = directory.number(tag)?;
        Some(
            u32::try_from(value)
                .ok()
                .filter(|side| *side > 0)
                .ok_or_else(|| broken(format!("a tile or strip of {value} pixels"))),
        )
    };
    if let (Some(tile_width), Some(tile_height)) = (side(TILE_WIDTH), side(TILE_LENGTH)) {
        let tile = (tile_width?, tile_height?);
        // Tiles at the edges are decoded completely, and all tiles may share the same few bytes.
        let padded = |side: u32, tile: u32| u64::from(side.div_ceil(tile)) * u64::from(tile);
        check_size(padded(width, tile.0), padded(height, tile.1), max_pixels)?;
        return Ok(tile);
    }
    // All rows are in one strip if nothing else is said.
    let rows = side(ROWS_PER_STRIP).transpose()?.unwrap_or(height);
    Ok((width, rows.min(height)))
}

/// Divides the colours of a pixel by its alpha as Pillow does (`unpackRGBa` of
/// libImaging/Unpack.c).
fn straighten(pixel: &mut [u8]) {
    let Some((alpha, colours)) = pixel.split_last_mut() else { return };
    let alpha = u32::from(*alpha);
    for colour in colours {
        *colour = (u32::from(*colour) * 255).checked_div(alpha).unwrap_or(0).min(255) as u8;
    }
}
