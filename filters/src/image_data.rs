//! Encoded bytes become pixels, within limits, and a luma plane.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// Most pixels that [`ImageData::decode`] accepts: 100 million, a little above Pillow's own warning threshold of
/// 89,478,485 (`Image.MAX_IMAGE_PIXELS`), so that whatever Pillow opens silently is measured here too.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Most bytes that one decoder may allocate, its output included: 512 MiB, the default of the `image` crate.
pub const MAX_DECODER_BYTES: u64 = 512 * 1024 * 1024;

/// Why a picture could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The first bytes belong to none of the supported formats.
    #[error("not a JPEG, PNG, WebP, GIF, BMP or TIFF picture")]
    UnknownFormat,
    /// The header is damaged or asks for something unsupported.
    #[error("unreadable picture header: {0}")]
    Header(#[source] image::ImageError),
    /// The header declares more pixels than allowed, or none.
    #[error("picture of {width} x {height} pixels, allowed are 1 to {max_pixels} pixels in all")]
    Size {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit that applied, in pixels.
        max_pixels: u64,
    },
    /// A valid JPEG of which the decoder is known to make other pixels than everybody else.
    #[error("a JPEG whose components come in scans of their own, which is not decoded")]
    SeparateScans,
    /// The pixels are damaged, cut short, or need more than [`MAX_DECODER_BYTES`].
    #[error("unreadable pixels: {0}")]
    Pixels(#[source] image::ImageError),
    /// The decoder panicked: a defect of the decoder, which must not end a run over a million pictures. The process's
    /// panic hook has run, so unless the caller set another one, the place is on standard error.
    #[error("the decoder failed on this picture")]
    DecoderPanicked,
}

/// A decoded picture, as stored in the file: EXIF orientation and colour profiles are not applied, and of an
/// animation only the first frame counts. ImageHash sees pictures in the same way.
#[derive(Debug)]
pub struct ImageData {
    encoded_bytes: u64,
    pixels: DynamicImage,
    luma: OnceLock<Luma>,
    histogram: OnceLock<[u64; 256]>,
}

impl ImageData {
    /// Decodes `encoded`, a whole JPEG, PNG, WebP, GIF, BMP or TIFF file of at most [`MAX_PIXELS`].
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_within(encoded, MAX_PIXELS)
    }

    /// Decodes `encoded` unless its header declares more than `max_pixels` pixels.
    ///
    /// Size and memory are checked before any pixel is decoded, so that a small file cannot ask for gigabytes.
    pub fn decode_within(encoded: &[u8], max_pixels: u64) -> Result<Self, DecodeError> {
        let pixels = guarded(|| decode_pixels(encoded, max_pixels))?;
        Ok(Self { encoded_bytes: encoded.len() as u64, pixels, luma: OnceLock::new(), histogram: OnceLock::new() })
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.pixels.width()
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.pixels.height()
    }

    /// Length of the file, in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    /// The decoded pixels in the colour type of the file.
    pub fn pixels(&self) -> &DynamicImage {
        &self.pixels
    }

    /// The luma plane, computed on first use and then shared by all signals.
    pub fn luma(&self) -> &Luma {
        self.luma.get_or_init(|| Luma::from_pixels(&self.pixels))
    }

    /// How many pixels have each of the 256 luma values; computed on first use and then shared by all signals.
    pub fn histogram(&self) -> &[u64; 256] {
        self.histogram.get_or_init(|| {
            // Neighbours are often equal, and a count cannot be raised again before it is written: so four take turns.
            let mut counts = [[0_u64; 256]; 4];
            for values in self.luma().values().chunks(4) {
                for (counts, &value) in counts.iter_mut().zip(values) {
                    counts[usize::from(value)] += 1;
                }
            }
            std::array::from_fn(|value| counts.iter().map(|counts| counts[value]).sum())
        })
    }
}

/// Turns a panic inside a decoder into an error of this one picture.
fn guarded(decode: impl FnOnce() -> Result<DynamicImage, DecodeError>) -> Result<DynamicImage, DecodeError> {
    // Nothing that the closure touches outlives a panic: it borrows the bytes and owns the decoder.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or(Err(DecodeError::DecoderPanicked))
}

fn decode_pixels(encoded: &[u8], max_pixels: u64) -> Result<DynamicImage, DecodeError> {
    let reader =
        ImageReader::new(Cursor::new(encoded)).with_guessed_format().expect("reading from memory gives no I/O error");
    if reader.format().is_none() {
        return Err(DecodeError::UnknownFormat);
    }
    if reader.format() == Some(ImageFormat::Jpeg) && has_separate_scans(encoded) {
        return Err(DecodeError::SeparateScans);
    }
    let mut decoder = reader.into_decoder().map_err(DecodeError::Header)?;

    let (width, height) = decoder.dimensions();
    let n_pixels = u64::from(width) * u64::from(height);
    if n_pixels == 0 || n_pixels > max_pixels {
        return Err(DecodeError::Size { width, height, max_pixels });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    limits.reserve(decoder.total_bytes()).map_err(DecodeError::Pixels)?;
    decoder.set_limits(limits).map_err(DecodeError::Pixels)?;
    DynamicImage::from_decoder(decoder).map_err(DecodeError::Pixels)
}

/// Whether a sequential JPEG sends its components in several scans (ITU-T T.81, B.2.2 and B.2.3), which zune-jpeg 0.5
/// decodes to something else without an error.
fn has_separate_scans(encoded: &[u8]) -> bool {
    let mut rest = encoded.get(2..).unwrap_or_default();
    let mut frame_components = 0;
    while let [0xff, marker, high, low, segment @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(2);
        match (marker, segment) {
            (0xff, _) => {
                rest = &rest[1..]; // a fill byte
                continue;
            }
            (0xc0 | 0xc1, [_, _, _, _, _, components, ..]) => frame_components = *components,
            (0xda, [components, ..]) => return *components < frame_components,
            _ => {}
        }
        rest = segment.get(length..).unwrap_or_default();
    }
    false
}

/// An 8-bit luma plane, rows from top to bottom, pixels from left to right, no padding.
///
/// From colours it is what Pillow's `convert("L")` gives: ITU-R 601 weights in 16-bit fixed point
/// (`libImaging/Convert.c`). Alpha is dropped and the stored colours count, even where they are invisible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

impl Luma {
    /// A plane of `width` x `height` pixels; `None` unless there is one value for each pixel and at least one pixel.
    pub fn new(width: usize, height: usize, values: Vec<u8>) -> Option<Self> {
        let fits = !values.is_empty() && width.checked_mul(height) == Some(values.len());
        fits.then_some(Self { width, height, values })
    }

    /// Pixels in a row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values, row by row: 0 is black, 255 white.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// The values of one row, counted from the top.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.values[y * self.width..(y + 1) * self.width]
    }

    fn from_pixels(pixels: &DynamicImage) -> Self {
        let values = match pixels {
            DynamicImage::ImageLuma8(grey) => grey.as_raw().clone(),
            DynamicImage::ImageLumaA8(grey) => grey.as_raw().iter().step_by(2).copied().collect(),
            DynamicImage::ImageRgb8(rgb) => pulp::Arch::new().dispatch(Weigh(rgb.as_raw())),
            DynamicImage::ImageRgba8(rgba) => {
                rgba.as_raw().as_chunks().0.iter().map(|[r, g, b, _]| weigh(*r, *g, *b)).collect()
            }
            // Pillow opens 16-bit grey as "I;16" and clips it; of 16-bit colours and of grey with alpha it keeps the
            // high byte.
            DynamicImage::ImageLuma16(grey) => grey.as_raw().iter().map(|&v| v.min(255) as u8).collect(),
            DynamicImage::ImageLumaA16(grey) => grey.as_raw().iter().step_by(2).map(|&v| high_byte(v)).collect(),
            DynamicImage::ImageRgb16(rgb) => {
                let pixels = rgb.as_raw().as_chunks().0.iter();
                pixels.map(|[r, g, b]| weigh(high_byte(*r), high_byte(*g), high_byte(*b))).collect()
            }
            DynamicImage::ImageRgba16(rgba) => {
                let pixels = rgba.as_raw().as_chunks().0.iter();
                pixels.map(|[r, g, b, _]| weigh(high_byte(*r), high_byte(*g), high_byte(*b))).collect()
            }
            // Floating-point colours, which Pillow does not open: scaled to 8 bits first.
            other => other.to_rgb8().as_raw().as_chunks().0.iter().map(|[r, g, b]| weigh(*r, *g, *b)).collect(),
        };
        Self::new(pixels.width() as usize, pixels.height() as usize, values)
            .expect("a decoded picture has pixels and one luma value for each")
    }
}

/// The luma of 8-bit RGB, compiled once for each set of instructions.
struct Weigh<'a>(&'a [u8]);

impl pulp::WithSimd for Weigh<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        let pixels = self.0.as_chunks().0;
        let mut luma = vec![0; pixels.len()];
        for (luma, [red, green, blue]) in luma.iter_mut().zip(pixels) {
            *luma = weigh(*red, *green, *blue);
        }
        luma
    }
}

/// ITU-R 601 luma as Pillow rounds it.
#[inline(always)]
fn weigh(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

fn high_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Bytes of `fixtures/images/NAME`.
    pub(crate) fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/fixtures/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// One row of `fixtures/golden.tsv`.
    #[derive(Debug, serde::Deserialize)]
    pub(crate) struct Golden {
        pub(crate) file: String,
        pub(crate) width: u32,
        pub(crate) height: u32,
        pub(crate) mode: String,
        pub(crate) phash: String,
        pub(crate) dhash: String,
        pub(crate) brightness: f64,
        pub(crate) contrast: f64,
        pub(crate) entropy: f64,
        pub(crate) sharpness: f64,
    }

    impl Golden {
        /// Whether every decoder gives the same pixels: JPEG and lossy WebP leave rounding to the decoder.
        pub(crate) fn is_lossless(&self) -> bool {
            !self.file.contains(".jpg") && self.file != "synthetic_lossy.webp"
        }

        /// The picture and its golden values.
        pub(crate) fn decode(&self) -> ImageData {
            ImageData::decode(&fixture(&self.file)).unwrap_or_else(|error| panic!("{}: {error}", self.file))
        }
    }

    pub(crate) fn golden() -> Vec<Golden> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/golden.tsv");
        let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(path).unwrap();
        let rows: Vec<Golden> = reader.deserialize().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 41, "{path} has lost rows");
        rows
    }

    #[test]
    fn sizes_equal_pillows() {
        for row in golden() {
            let picture = row.decode();
            assert_eq!((picture.width(), picture.height()), (row.width, row.height), "{}", row.file);
            assert_eq!(picture.encoded_bytes(), fixture(&row.file).len() as u64);
        }
    }

    #[test]
    fn mean_luma_equals_pillows_in_every_mode() {
        let mut modes: Vec<String> = Vec::new();
        for row in golden() {
            let luma = row.decode().luma().clone();
            let mean = luma.values().iter().map(|&v| f64::from(v)).sum::<f64>() / luma.values().len() as f64;
            let tolerance = if row.is_lossless() { 1e-9 } else { 0.5 };
            assert!((mean - row.brightness).abs() <= tolerance, "{} {}: {mean}", row.file, row.brightness);
            modes.push(row.mode);
        }
        for mode in ["1", "L", "LA", "I;16", "P", "RGB", "RGBA"] {
            assert!(modes.iter().any(|seen| seen == mode), "no fixture of mode {mode}");
        }
    }

    #[test]
    fn colours_under_full_transparency_count() {
        let hidden = image::RgbaImage::from_pixel(2, 2, image::Rgba([255, 255, 255, 0]));
        assert_eq!(Luma::from_pixels(&DynamicImage::ImageRgba8(hidden)).values(), [255; 4]);
    }

    #[test]
    fn sixteen_bit_grey_is_clipped_and_sixteen_bit_colour_is_shifted() {
        let grey = image::ImageBuffer::from_raw(3, 1, vec![7u16, 255, 256]).unwrap();
        assert_eq!(Luma::from_pixels(&DynamicImage::ImageLuma16(grey)).values(), [7, 255, 255]);
        let rgb = image::ImageBuffer::from_raw(1, 1, vec![0x10ffu16; 3]).unwrap();
        assert_eq!(Luma::from_pixels(&DynamicImage::ImageRgb16(rgb)).values(), [0x10]);
    }

    #[test]
    fn rejects_what_is_no_picture() {
        for bytes in [&b""[..], b"<html><body>404</body></html>", b"\x00\x01\x02\x03"] {
            assert!(matches!(ImageData::decode(bytes), Err(DecodeError::UnknownFormat)));
        }
    }

    #[test]
    fn rejects_jpegs_that_would_be_decoded_to_something_else() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../pipeline/fetch/fixtures/pictures/separate_scans.jpg");
        let bytes = std::fs::read(path).unwrap();
        assert!(matches!(ImageData::decode(&bytes), Err(DecodeError::SeparateScans)));
        for row in golden().iter().filter(|row| row.file.contains(".jpg")) {
            assert!(!has_separate_scans(&fixture(&row.file)), "{}", row.file);
        }
    }

    #[test]
    fn rejects_truncated_pictures() {
        for name in ["synthetic_noise_portrait.png", "synthetic_lossless.webp", "synthetic_bitmap.bmp"] {
            let bytes = fixture(name);
            for end in [12, 40, bytes.len() / 2] {
                assert!(ImageData::decode(&bytes[..end]).is_err(), "{name} cut at {end}");
            }
        }
    }

    #[test]
    fn rejects_more_pixels_than_allowed_before_decoding() {
        let bytes = fixture("synthetic_noise_portrait.png"); // 70 x 110
        assert!(ImageData::decode_within(&bytes, 7_700).is_ok());
        let error = ImageData::decode_within(&bytes, 7_699).unwrap_err();
        assert_eq!(error.to_string(), "picture of 70 x 110 pixels, allowed are 1 to 7699 pixels in all");
    }

    #[test]
    fn a_panicking_decoder_is_an_error_of_one_picture() {
        let outcome = guarded(|| panic!("a decoder's defect; this message in the test log is expected"));
        assert!(matches!(outcome, Err(DecodeError::DecoderPanicked)));
    }

    #[test]
    fn a_plane_needs_one_value_for_each_pixel() {
        assert!(Luma::new(2, 2, vec![0; 4]).is_some());
        assert!(Luma::new(2, 2, vec![0; 3]).is_none());
        assert!(Luma::new(0, 0, Vec::new()).is_none());
        assert!(Luma::new(usize::MAX, 2, vec![0; 4]).is_none());
    }

    /// Real and generated bombs, cut files and odd modes: no panic, no hang, no unbounded memory.
    #[test]
    fn survives_hostile_files() {
        let Ok(shared) = std::env::var("LYNXDATA_SHARED") else { return };
        let root = std::path::Path::new(&shared).join("data/hostile");
        let mut n_files = 0;
        let mut panicked: Vec<String> = Vec::new();
        let mut reader =
            csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_path(root.join("EXPECT.tsv")).unwrap();
        for row in reader.records() {
            let row = row.unwrap();
            let bytes = std::fs::read(root.join(&row[0])).unwrap_or_else(|error| panic!("{}: {error}", &row[0]));
            let outcome = ImageData::decode_within(&bytes, 20_000_000);
            match outcome {
                Ok(picture) => {
                    let values = crate::measure_all(&crate::Sample::new(None, Some(&picture)));
                    assert_eq!(values.len(), crate::SIGNALS.len());
                }
                Err(DecodeError::DecoderPanicked) => panicked.push(row[0].to_owned()),
                Err(_) => {}
            }
            n_files += 1;
        }
        assert!(n_files > 100, "only {n_files} hostile files");
        // tiff 0.11.3 panics on planar 16-bit tiles; other formats have no known defect of this kind.
        assert!(panicked.iter().all(|file| file.contains(".tif")), "{panicked:?}");
    }
}
