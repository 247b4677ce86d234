//! JPEG, the format of four pictures in five.

use image::RgbImage;
use image::metadata::Orientation;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::colour::{Channels, ToSrgb};
use super::{Decoded, Format, PictureError, PictureSettings, Pixels, Wanted, check_size, reduced, resize};

/// The one complaint of the strict mode that says nothing about the picture: stray bytes between header segments, which all readers skip.
const STRAY_BYTES: &str = "Extra bytes between headers";

/// Decodes strictly: without that, the decoder fills what is missing from a truncated or damaged file with grey and calls it a success.
pub(super) fn decode(bytes: &[u8], max_pixels: u64, wanted: Option<&PictureSettings>) -> Result<Decoded, PictureError> {
    match decode_with(bytes, max_pixels, wanted, true) {
        Err(PictureError::Broken(reason)) if reason.contains(STRAY_BYTES) => {
            decode_with(bytes, max_pixels, wanted, false)
        }
        result => result,
    }
}

fn decode_with(
    bytes: &[u8],
    max_pixels: u64,
    wanted: Option<&PictureSettings>,
    strict: bool,
) -> Result<Decoded, PictureError> {
    let options = DecoderOptions::default()
        .set_strict_mode(strict)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(from_error)?;
    let (width, height) = decoder.dimensions().ok_or_else(|| PictureError::Broken("no frame header".into()))?;
    check_size(width as u64, height as u64, max_pixels)?;
    let orientation =
        decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif)).unwrap_or(Orientation::NoTransforms);
    let frame = FrameHeader::of(bytes);
    // Three components whose colours an Adobe marker leaves open are called CMYK, too.
    let has_inks = frame.is_none_or(|frame| frame.components == 4);
    let inks =
        decoder.input_colorspace().filter(|space| matches!(space, ColorSpace::CMYK | ColorSpace::YCCK) && has_inks);
    let channels = match decoder.input_colorspace() {
        Some(ColorSpace::CMYK | ColorSpace::YCCK) if has_inks => Channels::Cmyk,
        Some(ColorSpace::Luma) => Channels::Grey,
        _ => Channels::Rgb,
    };
    let to_srgb = decoder.icc_profile().and_then(|profile| ToSrgb::new(&profile, channels));
    let is_plain = orientation == Orientation::NoTransforms && inks.is_none() && to_srgb.is_none();
    let stored_size = (width as u32, height as u32);
    let decoded = |pixels| Decoded {
        format: Format::Jpeg,
        pixels,
        orientation,
        upright_size: resize::turned(stored_size, orientation),
        stored_size,
        is_plain,
    };
    let is_ycbcr = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma | ColorSpace::YCbCr));
    // As libjpeg, which believes JFIF before an Adobe marker or the names of components.
    let is_ycbcr_after_all = !is_ycbcr && frame.is_some_and(|frame| frame.is_jfif && frame.components == 3);
    let is_ycbcr = is_ycbcr || is_ycbcr_after_all;
    if is_ycbcr
        && to_srgb.is_none()
        && let Some(settings) = wanted
        && let Some(wanted) = resize::wanted_of_planes(settings, stored_size, orientation)
        && let Some(planes) = reduced::decode(bytes, stored_size, wanted)
    {
        return Ok(decoded(Pixels::Planes(Box::new(planes), wanted)));
    }
    if is_ycbcr_after_all || frame.is_some_and(|frame| frame.is_misread) {
        let wanted = Wanted { size: stored_size, halves_chroma: false };
        let planes = is_ycbcr.then(|| reduced::decode(bytes, stored_size, wanted)).flatten();
        let planes =
            planes.ok_or_else(|| PictureError::Unsupported("a JPEG with an unusual order of samples".into()))?;
        let mut pixels = planes.rgb(stored_size);
        if let Some(to_srgb) = to_srgb {
            to_srgb.convert_rgb(&mut pixels);
        }
        return Ok(decoded(Pixels::Rgb(pixels)));
    }
    let mut pixels = RgbImage::new(stored_size.0, stored_size.1);
    match (to_srgb, inks) {
        (Some(to_srgb), Some(space)) => {
            decoder.set_options(options.jpeg_set_out_colorspace(space));
            to_srgb.convert_cmyk(&decode_inks(&mut decoder, space)?, &mut pixels);
        }
        (to_srgb, _) => {
            decoder.decode_into(&mut pixels).map_err(from_error)?;
            if let Some(to_srgb) = to_srgb {
                to_srgb.convert_rgb(&mut pixels);
            }
        }
    }
    if !has_end_marker(bytes) {
        return Err(PictureError::Broken("the file is cut off: it has no end-of-image marker".into()));
    }
    Ok(decoded(Pixels::Rgb(pixels)))
}

/// What the frame and the first scan say (T.81, B.2.2 and B.2.3).
#[derive(Clone, Copy)]
struct FrameHeader {
    components: u8,
    /// Whether a JFIF marker stands before it.
    is_jfif: bool,
    /// Whether zune-jpeg 0.5 makes other pixels of it than libjpeg, without an error: of sequential files whose components come in several scans, and of those
    /// whose first component has fewer samples than another.
    is_misread: bool,
}

impl FrameHeader {
    /// None if there is none before the first scan.
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut header: Option<Self> = None;
        let (mut is_sequential, mut is_jfif) = (false, false);
        for (marker, segment) in Segments::of(bytes) {
            match (marker, segment, &mut header) {
                (0xe0, [b'J', b'F', b'I', b'F', 0, ..], None) => is_jfif = true,
                (0xc0..=0xc2, [_, _, _, _, _, components, parameters @ ..], None) => {
                    let factors = |parameter: &[u8; 3]| (parameter[1] >> 4, parameter[1] & 15);
                    let mut factors = parameters.as_chunks().0.iter().map(factors);
                    let first = factors.next()?;
                    let is_first_finest = factors.all(|(across, down)| across <= first.0 && down <= first.1);
                    is_sequential = marker < 0xc2;
                    header = Some(FrameHeader { components: *components, is_jfif, is_misread: !is_first_finest });
                }
                (0xda, [components, ..], Some(header)) => {
                    header.is_misread |= is_sequential && *components < header.components;
                    break;
                }
                (0xda, ..) => break,
                _ => {}
            }
        }
        header
    }
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

/// CMYK samples, 0 for no ink. Files hold them inverted, as Photoshop has always written them; YCCK is that with its first three channels as YCbCr
/// (Adobe technical note 5116).
fn decode_inks(decoder: &mut JpegDecoder<ZCursor<&[u8]>>, space: ColorSpace) -> Result<Vec<u8>, PictureError> {
    let mut samples = decoder.decode().map_err(from_error)?;
    for pixel in samples.chunks_exact_mut(4) {
        if space == ColorSpace::YCCK {
            // JFIF 1.02; what results is R, G, B, that is the inks before Photoshop's inversion.
            let [y, cb, cr] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
            let (cb, cr) = (cb - 128.0, cr - 128.0);
            let inks = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
            pixel[..3].copy_from_slice(&inks.map(|ink| ink.round() as u8));
        } else {
            pixel[..3].iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        pixel[3] = 255 - pixel[3];
    }
    Ok(samples)
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
