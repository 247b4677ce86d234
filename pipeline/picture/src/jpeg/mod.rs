//! JPEG, the format of four pictures in five.

mod cosine;
mod decoder;
mod exact;
mod huffman;

use image::metadata::Orientation;
use image::{GrayImage, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::colour::{Channels, ToSrgb};
use super::planes::{JFIF, to_rgb};
use super::{Alpha, Decoded, Format, PictureError, PictureSettings, Pixels, check_size, resize};
pub(super) use exact::{ExactTransform, Samples, interleaved, multipliers as exact_multipliers};

/// The one complaint of the strict mode that says nothing about the picture: stray bytes between header segments, which all readers skip.
const STRAY_BYTES: &str = "Extra bytes between headers";

/// Decodes strictly: a truncated or damaged file is an error, not a picture with grey in it.
///
/// The pixels are libjpeg's, see [`exact`]. Files that break the standard in a way that other readers tolerate, such as by bytes between their segments, are
/// decoded by zune-jpeg, whose pixels differ by a rounding here and there.
pub(super) fn decode(bytes: &[u8], max_pixels: u64, wanted: Option<&PictureSettings>) -> Result<Decoded, PictureError> {
    let headers = Headers::of(bytes);
    if let Some(headers) = &headers {
        check_size(u64::from(headers.size.0), u64::from(headers.size.1), max_pixels)?;
        if let Some(decoded) = headers.decode(bytes, wanted) {
            return Ok(decoded);
        }
        if headers.is_misread_by_zune {
            return Err(PictureError::Broken("its scans are not what its header announces".into()));
        }
    }
    match decode_with_zune(bytes, max_pixels, headers.as_ref(), true) {
        Err(PictureError::Broken(reason)) if reason.contains(STRAY_BYTES) => {
            decode_with_zune(bytes, max_pixels, headers.as_ref(), false)
        }
        result => result,
    }
}

fn decode_with_zune(
    bytes: &[u8],
    max_pixels: u64,
    headers: Option<&Headers<'_>>,
    strict: bool,
) -> Result<Decoded, PictureError> {
    let options =
        DecoderOptions::default().set_strict_mode(strict).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(from_error)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| PictureError::Broken("no frame header".into()))?;
    check_size(width as u64, height as u64, max_pixels)?;
    let size = (width as u32, height as u32);
    let colours = headers.map_or_else(|| Colours::by_zune(&decoder), |headers| Ok(headers.colours))?;
    let (exif, profile) = (decoder.exif().cloned(), decoder.icc_profile());
    decoder.set_options(options.jpeg_set_out_colorspace(colours.space_for_zune()));
    let mut samples = decoder.decode().map_err(from_error)?;
    if !has_end_marker(bytes) {
        return Err(PictureError::Broken("the file is cut off: it has no end-of-image marker".into()));
    }
    if samples.len() != width * height * colours.channels() {
        return Err(PictureError::Broken("its segments can be read in two ways".into()));
    }
    if colours == Colours::Ycck {
        for [luma, blue, red, _] in samples.as_chunks_mut().0 {
            let mut rgb = [[0; 3]];
            to_rgb(JFIF, &[*luma], &[*blue], &[*red], &mut rgb);
            [*luma, *blue, *red] = rgb[0].map(|value| 255 - value);
        }
    }
    let pixels = colours.pixels(samples, size);
    Ok(decoded(pixels, colours.to_srgb(profile.as_deref()), orientation_of(exif.as_deref()), size))
}

fn decoded(pixels: Pixels, to_srgb: Option<ToSrgb>, orientation: Orientation, size: (u32, u32)) -> Decoded {
    let is_plain = orientation == Orientation::NoTransforms && to_srgb.is_none() && !matches!(pixels, Pixels::Inks(_));
    Decoded {
        format: Format::Jpeg,
        pixels,
        to_srgb,
        orientation,
        upright_size: resize::turned(size, orientation),
        stored_size: size,
        is_plain,
    }
}

fn orientation_of(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// What the components of a file are.
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
    /// As libjpeg guesses (`default_decompress_parms` of jdapimin.c), which believes JFIF before an Adobe marker, and that before the names of components. None if
    /// there are more or fewer than it knows.
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

    /// Where stray bytes hide the frame header.
    fn by_zune(decoder: &JpegDecoder<ZCursor<&[u8]>>) -> Result<Self, PictureError> {
        match decoder.input_colorspace() {
            Some(ColorSpace::Luma) => Ok(Colours::Grey),
            Some(ColorSpace::YCbCr) => Ok(Colours::YCbCr),
            Some(ColorSpace::RGB) => Ok(Colours::Rgb),
            Some(ColorSpace::CMYK) => Ok(Colours::Cmyk),
            Some(ColorSpace::YCCK) => Ok(Colours::Ycck),
            other => Err(PictureError::Unsupported(format!("a JPEG in the colours {other:?}"))),
        }
    }

    /// Samples of a pixel, once luma and differences of colour have become RGB.
    fn channels(self) -> usize {
        match self {
            Colours::Grey => 1,
            Colours::YCbCr | Colours::Rgb => 3,
            Colours::Cmyk | Colours::Ycck => 4,
        }
    }

    /// What zune-jpeg is to make of them: what libjpeg does, but for YCCK, which it leaves as it is.
    fn space_for_zune(self) -> ColorSpace {
        match self {
            Colours::Grey => ColorSpace::Luma,
            Colours::YCbCr | Colours::Rgb => ColorSpace::RGB,
            Colours::Cmyk => ColorSpace::CMYK,
            Colours::Ycck => ColorSpace::YCCK,
        }
    }

    /// The conversion that pixels in these colours need with this profile.
    fn to_srgb(self, profile: Option<&[u8]>) -> Option<ToSrgb> {
        let channels = match self {
            Colours::Grey => Channels::Grey,
            Colours::YCbCr | Colours::Rgb => Channels::Rgb,
            Colours::Cmyk | Colours::Ycck => Channels::Cmyk,
        };
        ToSrgb::new(profile?, channels)
    }

    /// Interleaved samples of grey, RGB, or CMYK as libjpeg has it.
    fn pixels(self, mut samples: Vec<u8>, (width, height): (u32, u32)) -> Pixels {
        const ENOUGH: &str = "as many samples as that size has";
        match self {
            Colours::Grey => {
                Pixels::Image(GrayImage::from_raw(width, height, samples).expect(ENOUGH).into(), Alpha::Straight)
            }
            Colours::YCbCr | Colours::Rgb => {
                Pixels::Image(RgbImage::from_raw(width, height, samples).expect(ENOUGH).into(), Alpha::Straight)
            }
            Colours::Cmyk | Colours::Ycck => {
                // Files hold ink inverted, as Photoshop has always written it.
                for sample in &mut samples {
                    *sample = 255 - *sample;
                }
                Pixels::Inks(samples)
            }
        }
    }
}

/// What the segments before the first scan say (T.81, B.2.2 and B.2.3).
struct Headers<'a> {
    size: (u32, u32),
    colours: Colours,
    exif: Option<&'a [u8]>,
    profile: Option<Vec<u8>>,
    /// Whether zune-jpeg 0.5 makes other pixels of it than libjpeg, without an error: of sequential files whose components come in several scans, and of those
    /// whose first component has fewer samples than another.
    is_misread_by_zune: bool,
}

impl<'a> Headers<'a> {
    /// None if there is no frame of a kind that is decoded here before the first scan.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (mut frame, mut is_sequential, mut is_jfif, mut adobe_transform) = (None, false, false, None);
        let (mut exif, mut profile_parts) = (None, Vec::new());
        for (marker, segment) in Segments::of(bytes) {
            match (marker, segment) {
                (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => is_jfif = true,
                (0xe1, [b'E', b'x', b'i', b'f', 0, 0, contents @ ..]) => exif = exif.or(Some(contents)),
                // ICC.1:2022, B.4: the number of this part, from 1, and how many there are.
                (
                    0xe2,
                    [b'I', b'C', b'C', b'_', b'P', b'R', b'O', b'F', b'I', b'L', b'E', 0, number, count, contents @ ..],
                ) => {
                    profile_parts.push((*number, *count, contents));
                }
                // Adobe technical note 5116, section 18: the version and two words of flags come first.
                (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    adobe_transform = Some(*transform);
                }
                (0xc0..=0xc2, [_, height_0, height_1, width_0, width_1, _, components @ ..]) if frame.is_none() => {
                    let number = |bytes: [&u8; 2]| u32::from(u16::from_be_bytes(bytes.map(|byte| *byte)));
                    let size = (number([width_0, width_1]), number([height_0, height_1]));
                    is_sequential = marker < 0xc2;
                    frame = Some((size, components.as_chunks::<3>().0));
                }
                (0xda, [count, ..]) => {
                    let (size, components) = frame?;
                    let names: Vec<u8> = components.iter().map(|[name, ..]| *name).collect();
                    let factors = |component: &[u8; 3]| (component[1] >> 4, component[1] & 15);
                    let first = factors(components.first()?);
                    let is_coarser = |(across, down): (u8, u8)| across > first.0 || down > first.1;
                    return Some(Headers {
                        size,
                        colours: Colours::of(&names, is_jfif, adobe_transform)?,
                        exif,
                        profile: joined(profile_parts),
                        is_misread_by_zune: is_sequential && usize::from(*count) < components.len()
                            || components.iter().map(factors).any(is_coarser),
                    });
                }
                _ => {}
            }
        }
        None
    }

    /// None at anything that is not as it should be.
    fn decode(&self, bytes: &[u8], wanted: Option<&PictureSettings>) -> Option<Decoded> {
        let Headers { size, colours, .. } = *self;
        let orientation = orientation_of(self.exif);
        let to_srgb = colours.to_srgb(self.profile.as_deref());
        if matches!(colours, Colours::Grey | Colours::YCbCr)
            && to_srgb.is_none()
            && let Some(settings) = wanted
            && let Some(wanted) = resize::wanted_of_planes(settings, size, orientation)
            && let Some(planes) = decoder::planes(bytes, size, wanted)
        {
            return Some(decoded(Pixels::Planes(Box::new(planes), wanted), None, orientation, size));
        }
        let samples = decoder::samples(bytes, size)?;
        let is_ycc = matches!(colours, Colours::YCbCr | Colours::Ycck);
        let pixels = interleaved(&samples, (size.0 as usize, size.1 as usize), is_ycc);
        Some(decoded(colours.pixels(pixels, size), to_srgb, orientation, size))
    }
}

/// A colour profile of its parts. None if one is missing.
fn joined(mut parts: Vec<(u8, u8, &[u8])>) -> Option<Vec<u8>> {
    parts.sort_by_key(|(number, ..)| *number);
    let count = parts.first()?.1;
    let numbers = parts.iter().map(|(number, ..)| *number);
    numbers.eq(1..=count).then(|| parts.iter().flat_map(|(.., contents)| *contents).copied().collect())
}

/// The segments of a file, with their markers, up to the entropy-coded data of the first scan. Ends early where stray bytes stand between them.
struct Segments<'a> {
    /// What follows those that were read.
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Segments { rest: bytes.get(2..).unwrap_or_default() }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let filling = self.rest.iter().take_while(|byte| **byte == 0xff).count();
            let (marker, rest) = self.rest.get(filling..)?.split_first().filter(|_| filling > 0)?;
            // TEM and restart markers have no segment.
            if matches!(marker, 0x01 | 0xd0..=0xd7) {
                self.rest = rest;
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
            let segment = rest.get(2..length)?;
            self.rest = &rest[length..];
            return Some((*marker, segment));
        }
    }
}

fn from_error(error: DecodeErrors) -> PictureError {
    match error {
        DecodeErrors::Unsupported(kind) => PictureError::Unsupported(format!("{kind:?}")),
        DecodeErrors::Format(reason) => PictureError::Broken(reason),
        DecodeErrors::FormatStatic(reason) => PictureError::Broken(reason.to_owned()),
        other => PictureError::Broken(format!("{other:?}")),
    }
}

/// Whether an end-of-image marker follows the first scan. The decoder does not ask for it when only the last rows are missing.
fn has_end_marker(bytes: &[u8]) -> bool {
    // A thumbnail in a segment before the scan has an end marker of its own. In entropy-coded data an 0xff is followed by 0 or a restart marker, so there
    // 0xff 0xd9 is always the end. Where stray bytes hide the first scan, the whole file is searched, which may find a thumbnail's marker.
    let mut segments = Segments::of(bytes);
    let has_scan = segments.any(|(marker, _)| marker == 0xda);
    let searched = if has_scan { segments.rest } else { bytes };
    searched.windows(2).any(|pair| pair == [0xff, 0xd9])
}

/// Whether both ways of decoding take a file, apart from each other.
#[cfg(test)]
pub(super) fn is_accepted_without_zune(bytes: &[u8]) -> bool {
    Headers::of(bytes).is_some_and(|headers| {
        check_size(u64::from(headers.size.0), u64::from(headers.size.1), 1_000_000).is_ok()
            && headers.decode(bytes, None).is_some()
    })
}

#[cfg(test)]
pub(super) fn is_accepted_by_zune(bytes: &[u8]) -> bool {
    decode_with_zune(bytes, 1_000_000, None, false).is_ok()
}
