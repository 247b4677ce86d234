//! Decodes JPEG, the format of four in five images.

mod cosine;
mod decoder;
mod exact;
mod huffman;

use image::metadata::Orientation;
use image::{GrayImage, RgbImage, RgbaImage};

use super::colour::{Channels, ToSrgb};
use super::{Decoded, Format, PictureError, PictureSettings, Pixels, check_size, orientation_of_exif, resize};
pub(super) use exact::{ExactTransform, Samples, interleaved, multipliers as exact_multipliers};

/// The marker after the last scan (T.81, B.1.1.3).
const END_OF_IMAGE: u8 = 0xd9;
/// The marker of the segment before entropy-coded data.
const START_OF_SCAN: u8 = 0xda;

/// Decodes a JPEG to the pixels of libjpeg, see [`exact`], or to planes if these are enough for
/// what is `wanted`.
///
/// A truncated or damaged file is an error, not an image with grey areas.
pub(super) fn decode(bytes: &[u8], max_pixels: u64, wanted: Option<&PictureSettings>) -> Result<Decoded, PictureError> {
    let Headers { size, colours, exif, profile } = Headers::of(bytes)?;
    check_size(u64::from(size.0), u64::from(size.1), max_pixels)?;
    let orientation = exif.map_or(Orientation::NoTransforms, orientation_of_exif);
    let to_srgb = colours.to_srgb(profile.as_deref());
    let has_inks = matches!(colours, Colours::Cmyk | Colours::Ycck);
    let is_plain = orientation == Orientation::NoTransforms && to_srgb.is_none() && !has_inks;
    let decoded = |pixels, to_srgb| Decoded {
        format: Format::Jpeg,
        pixels,
        to_srgb,
        orientation,
        upright_size: resize::turned(size, orientation),
        stored_size: size,
        is_plain,
    };
    if matches!(colours, Colours::Grey | Colours::YCbCr)
        && to_srgb.is_none()
        && let Some(settings) = wanted
        && let Some(wanted) = resize::wanted_of_planes(settings, size, orientation)
    {
        match decoder::planes(bytes, size, wanted) {
            Ok(planes) => return Ok(decoded(Pixels::Planes(Box::new(planes), wanted), None)),
            // Planes do not support this chroma subsampling.
            Err(PictureError::Unsupported(_)) => {}
            Err(broken) => return Err(broken),
        }
    }
    let samples = decoder::samples(bytes, size)?;
    let is_ycc = matches!(colours, Colours::YCbCr | Colours::Ycck);
    let pixels = interleaved(&samples, (size.0 as usize, size.1 as usize), is_ycc);
    Ok(decoded(colours.pixels(pixels, size), to_srgb))
}

/// Decodes a JPEG of this width and at most this height that is part of another file, such as a
/// strip of a TIFF. Returns the number of components and their interleaved samples. `is_ycc`
/// converts YCbCr to RGB; otherwise the other file says what the components mean.
pub(super) fn decode_samples(
    bytes: &[u8],
    (width, most_rows): (u32, u32),
    is_ycc: bool,
) -> Result<(usize, Vec<u8>), PictureError> {
    let size = Headers::of(bytes)?.size;
    if size.0 != width || size.1 > most_rows {
        return Err(PictureError::Broken(format!(
            "a JPEG of {} x {} in a part of {width} x {most_rows}",
            size.0, size.1
        )));
    }
    let samples = decoder::samples(bytes, size)?;
    let is_ycc = is_ycc && samples.len() == 3;
    Ok((samples.len(), interleaved(&samples, (size.0 as usize, size.1 as usize), is_ycc)))
}

fn cut_off() -> PictureError {
    PictureError::Broken("the file is cut off: it has no end-of-image marker".into())
}

/// The components of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    Grey,
    YCbCr,
    Rgb,
    Cmyk,
    /// CMYK with its first three components as YCbCr (Adobe technical note 5116).
    Ycck,
}

impl Colours {
    /// Guesses the colours as libjpeg does (`default_decompress_parms` of jdapimin.c): a JFIF
    /// marker takes precedence over an Adobe marker, and that over the names of components. Returns
    /// `None` for other numbers of components.
    fn of(names: &[u8], is_jfif: bool, adobe_transform: Option<u8>) -> Option<Self> {
        match (names, adobe_transform) {
            ([_], _) => Some(Colours::Grey),
            ([_, _, _], _) if is_jfif => Some(Colours::YCbCr),
            ([_, _, _], Some(0)) | ([b'R', b'G', b'B'], None) => Some(Colours::Rgb),
            ([_, _, _], _) => Some(Colours::YCbCr),
            ([_, _, _, _], Some(0) | None) => Some(Colours::Cmyk),
            ([_, _, _, _], Some(_)) => Some(Colours::Ycck),
            _ => None,
        }
    }

    /// Returns the conversion that pixels in these colours need with this profile.
    fn to_srgb(self, profile: Option<&[u8]>) -> Option<ToSrgb> {
        let channels = match self {
            Colours::Grey => Channels::Grey,
            Colours::YCbCr | Colours::Rgb => Channels::Rgb,
            Colours::Cmyk | Colours::Ycck => Channels::Cmyk,
        };
        ToSrgb::new(profile?, channels)
    }

    /// Returns interleaved samples of grey, RGB or CMYK, as libjpeg returns them, as pixels.
    fn pixels(self, mut samples: Vec<u8>, (width, height): (u32, u32)) -> Pixels {
        const ENOUGH: &str = "as many samples as that size has";
        match self {
            Colours::Grey => Pixels::Image(GrayImage::from_raw(width, height, samples).expect(ENOUGH).into()),
            Colours::YCbCr | Colours::Rgb => {
                Pixels::Image(RgbImage::from_raw(width, height, samples).expect(ENOUGH).into())
            }
            Colours::Cmyk | Colours::Ycck => {
                // Files hold inverted inks, as Photoshop has always written them.
                for sample in &mut samples {
                    *sample = 255 - *sample;
                }
                Pixels::Inks(RgbaImage::from_raw(width, height, samples).expect(ENOUGH))
            }
        }
    }
}

/// The content of the segments before the first scan (T.81, B.2.2 and B.2.3).
struct Headers<'a> {
    size: (u32, u32),
    colours: Colours,
    exif: Option<&'a [u8]>,
    profile: Option<Vec<u8>>,
}

impl<'a> Headers<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, PictureError> {
        let (mut frame, mut is_jfif, mut adobe_transform) = (None, false, None);
        let (mut exif, mut profile_parts) = (None, Vec::new());
        for (marker, segment) in Segments::of(bytes) {
            match (marker, segment) {
                (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => is_jfif = true,
                (0xe1, [b'E', b'x', b'i', b'f', 0, 0, contents @ ..]) => exif = exif.or(Some(contents)),
                // ICC.1:2022, B.4: the number of this part, from 1, and the number of parts.
                (
                    0xe2,
                    [b'I', b'C', b'C', b'_', b'P', b'R', b'O', b'F', b'I', b'L', b'E', 0, number, count, contents @ ..],
                ) => {
                    profile_parts.push((*number, *count, contents));
                }
                // Adobe technical note 5116, section 18: the version and two words of flags come
                // before the transform.
                (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    adobe_transform = Some(*transform);
                }
                (0xc0..=0xc2, [_, height_0, height_1, width_0, width_1, _, components @ ..]) if frame.is_none() => {
                    let number = |bytes: [&u8; 2]| u32::from(u16::from_be_bytes(bytes.map(|byte| *byte)));
                    let size = (number([width_0, width_1]), number([height_0, height_1]));
                    frame = Some((size, components.as_chunks::<3>().0));
                }
                // T.81, table B.1; c4, c8 and cc are not frames.
                (0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, _) => {
                    let reason = "a JPEG that is compressed without loss, in layers or with arithmetic codes";
                    return Err(PictureError::Unsupported(reason.into()));
                }
                (START_OF_SCAN, _) => {
                    let (size, components) = frame.ok_or_else(|| PictureError::Broken("no frame header".into()))?;
                    let names: Vec<u8> = components.iter().map(|[name, ..]| *name).collect();
                    let unknown = || PictureError::Unsupported(format!("a JPEG of {} components", names.len()));
                    let colours = Colours::of(&names, is_jfif, adobe_transform).ok_or_else(unknown)?;
                    return Ok(Headers { size, colours, exif, profile: joined(profile_parts) });
                }
                (END_OF_IMAGE, _) => return Err(PictureError::Broken("it ends before its first scan".into())),
                _ => {}
            }
        }
        Err(cut_off())
    }
}

/// Joins the parts of a colour profile. Returns `None` if a part is missing.
fn joined(mut parts: Vec<(u8, u8, &[u8])>) -> Option<Vec<u8>> {
    parts.sort_by_key(|(number, ..)| *number);
    let count = parts.first()?.1;
    let numbers = parts.iter().map(|(number, ..)| *number);
    numbers.eq(1..=count).then(|| parts.iter().flat_map(|(.., contents)| *contents).copied().collect())
}

/// Iterates over the segments of a file, with their markers. After the start of a scan, the caller
/// must move `rest` to the next marker.
struct Segments<'a> {
    /// The bytes that were not read yet.
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    /// Returns the segments of a file that begins with a start-of-image marker.
    fn of(bytes: &'a [u8]) -> Self {
        Segments { rest: bytes.get(2..).unwrap_or_default() }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Stray bytes are skipped, as in `next_marker` of libjpeg (jdmarker.c), and so is any
            // number of fill bytes (T.81, B.1.1.2).
            let start = self.rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
            let (marker, rest) = self.rest[start + 1..].split_first()?;
            match *marker {
                // TEM, and restart and start-of-image markers have no segment.
                0x01 | 0xd0..=0xd8 => self.rest = rest,
                END_OF_IMAGE => {
                    self.rest = rest;
                    return Some((END_OF_IMAGE, &[]));
                }
                marker => {
                    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                    let segment = rest.get(2..length)?;
                    self.rest = &rest[length..];
                    return Some((marker, segment));
                }
            }
        }
    }
}
