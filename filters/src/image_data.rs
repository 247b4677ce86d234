//! Decoding of image files to pixels, within limits, and to a luma plane.

use std::sync::OnceLock;

use image::DynamicImage;
use lynxdata_picture::{PictureError, decode_file};

/// Maximum number of pixels that [`ImageData::decode`] accepts: 100 million, a little above
/// Pillow's warning threshold of 89,478,485 (`Image.MAX_IMAGE_PIXELS`), so that every image that
/// Pillow opens without a warning is measured here too.
pub const MAX_PIXELS: u64 = 100_000_000;

/// A decoded image, as stored in the file: EXIF orientation and colour profiles are not applied,
/// and only the first frame of an animation counts. ImageHash treats images in the same way.
#[derive(Debug)]
pub struct ImageData {
    encoded_bytes: u64,
    pixels: DynamicImage,
    luma: OnceLock<Luma>,
    histogram: OnceLock<[u64; 256]>,
}

impl ImageData {
    /// Decodes `encoded`, a whole JPEG, PNG, WebP, GIF, BMP or TIFF file of at most [`MAX_PIXELS`].
    ///
    /// # Errors
    /// If the file is damaged or truncated; the error says what is wrong.
    pub fn decode(encoded: &[u8]) -> Result<Self, PictureError> {
        Ok(Self::new(encoded.len(), decode_file(encoded, MAX_PIXELS)?))
    }

    /// Makes an image whose file has `encoded_bytes` bytes and which [`decode_file`] decoded to
    /// these pixels. `None` if there are more than [`MAX_PIXELS`], so that an already decoded image
    /// has signals if and only if [`ImageData::decode`] would accept its file.
    pub fn from_decoded(encoded_bytes: usize, pixels: DynamicImage) -> Option<Self> {
        let count = u64::from(pixels.width()) * u64::from(pixels.height());
        (count <= MAX_PIXELS).then(|| Self::new(encoded_bytes, pixels))
    }

    fn new(encoded_bytes: usize, pixels: DynamicImage) -> Self {
        Self { encoded_bytes: encoded_bytes as u64, pixels, luma: OnceLock::new(), histogram: OnceLock::new() }
    }

    /// Returns the width in pixels.
    pub fn width(&self) -> u32 {
        self.pixels.width()
    }

    /// Returns the height in pixels.
    pub fn height(&self) -> u32 {
        self.pixels.height()
    }

    /// Returns the length of the file in bytes.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }

    /// Returns the luma plane, computed on first use and then shared by all signals.
    pub fn luma(&self) -> &Luma {
        self.luma.get_or_init(|| Luma::from_pixels(&self.pixels))
    }

    /// Returns the Shannon entropy of the luma histogram, in bits.
    pub fn entropy(&self) -> f64 {
        shannon_entropy(self.histogram())
    }

    /// Returns how many pixels have each of the 256 luma values; computed on first use and then
    /// shared by all signals.
    pub fn histogram(&self) -> &[u64; 256] {
        self.histogram.get_or_init(|| {
            // Neighbours are often equal, and a count cannot be incremented again before it is
            // written, so four histograms are used in turn.
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

/// An 8-bit luma plane, rows from top to bottom, pixels from left to right, no padding.
///
/// From colours it is computed as by Pillow's `convert("L")`: ITU-R 601 weights in 16-bit fixed
/// point (`libImaging/Convert.c`). Alpha is dropped, and the stored colours count even if they are
/// invisible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    width: usize,
    height: usize,
    values: Vec<u8>,
}

impl Luma {
    /// Makes a plane of `width` x `height` pixels; `None` unless there is one value for each pixel
    /// and at least one pixel.
    pub fn new(width: usize, height: usize, values: Vec<u8>) -> Option<Self> {
        let fits = !values.is_empty() && width.checked_mul(height) == Some(values.len());
        fits.then_some(Self { width, height, values })
    }

    /// Returns the pixels in a row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the number of rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Returns all values, row by row: 0 is black, 255 white.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Returns the values of one row, counted from the top.
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
            // Pillow opens 16-bit grey as "I;16" and clips it; of 16-bit colours and of grey with
            // alpha it keeps the high byte.
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
            .expect("a decoded image has pixels and one luma value for each")
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

/// Returns ITU-R 601 luma as Pillow rounds it.
#[inline(always)]
fn weigh(red: u8, green: u8, blue: u8) -> u8 {
    ((u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000) >> 16) as u8
}

fn high_byte(value: u16) -> u8 {
    (value >> 8) as u8
}

/// Returns the entropy of a histogram that counts at least one value.
pub(crate) fn shannon_entropy(histogram: &[u64; 256]) -> f64 {
    let n = histogram.iter().sum::<u64>() as f64;
    let shares = histogram.iter().filter(|&&count| count > 0).map(|&count| count as f64 / n);
    let bits: f64 = shares.map(|share| share * -share.log2()).sum();
    // Rounding may leave the range by an ulp where all values are equally frequent.
    bits.clamp(0.0, 8.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::shared;

    /// Returns bytes of `fixtures/images/NAME`.
    pub(crate) fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/fixtures/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// A row of `fixtures/golden.tsv`.
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
        /// Returns whether Pillow has the same pixels: decoders of lossy WebP differ in how they
        /// interpolate chroma.
        pub(crate) fn is_exact(&self) -> bool {
            self.file != "synthetic_lossy.webp"
        }

        /// Returns the image and its golden values.
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
            let tolerance = if row.is_exact() { 1e-9 } else { 0.5 };
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
            assert!(matches!(ImageData::decode(bytes), Err(PictureError::NotAnImage(_))));
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
    fn a_picture_that_comes_decoded_is_the_same() {
        for row in golden() {
            let (bytes, decoded) = (fixture(&row.file), row.decode());
            let given = ImageData::from_decoded(bytes.len(), decode_file(&bytes, MAX_PIXELS).unwrap()).unwrap();
            let measured = |picture| crate::measure_all(&crate::Sample::new(None, Some(picture)));
            assert_eq!(measured(&given), measured(&decoded), "{}", row.file);
        }
        let too_large = DynamicImage::new_luma8(MAX_PIXELS as u32 + 1, 1);
        assert!(ImageData::from_decoded(1, too_large).is_none());
    }

    #[test]
    fn a_plane_needs_one_value_for_each_pixel() {
        assert!(Luma::new(2, 2, vec![0; 4]).is_some());
        assert!(Luma::new(2, 2, vec![0; 3]).is_none());
        assert!(Luma::new(0, 0, Vec::new()).is_none());
        assert!(Luma::new(usize::MAX, 2, vec![0; 4]).is_none());
    }

    /// Compares luma planes of damaged and unusual files of every format with Pillow's, see
    /// fixtures/make_hostile_luma.py.
    #[test]
    fn luma_of_hostile_files_is_pillows() {
        /// Files that Pillow opens. Nearly all are damaged, and Pillow shows the readable part; the
        /// others are TIFFs with Zstandard or with old-style JPEG (before 1995).
        const REFUSED: [&str; 23] = [
            "image-png/bugfixes/x_interlaced_chck.png",
            "image-rs/images/bmp/images/lenient/badplanes.bmp",
            "image-rs/images/bmp/images/lenient/badrle.bmp",
            "image-rs/images/bmp/images/lenient/rletopdown.bmp",
            "image-rs/regression/tiff/clusterfuzz-testcase-minimized-fuzzer_script_tiff-5026894169374720.tif",
            "image-tiff/images/int16_zstd.tif",
            "image-tiff/libtiffpic/smallliz.tif",
            "image-tiff/libtiffpic/zackthecat.tif",
            "jpeg-decoder/fuzz-afl/in/id_000170,src_000000,op_flip1,pos_307,+cov.jpg",
            "jpeg-decoder/fuzz-afl/in/id_000182,src_000000,op_flip1,pos_503,+cov.jpg",
            "jpeg-decoder/fuzz-afl/in/id_000223,src_000000,op_flip2,pos_503,+cov.jpg",
            "jpeg-decoder/fuzz-afl/in/id_000324,src_000000,op_arith16,pos_227,val_be_-16.jpg",
            "jpeg-decoder/fuzz-afl/in/id_000393,src_000000,op_int32,pos_500,val_-32768,+cov.jpg",
            "jpeg-decoder/fuzz-afl/in/id_001427,src_000319,op_havoc,rep_1.jpg",
            "jpeg-decoder/fuzz-afl/in/id_001655,src_001333,op_flip2,pos_455.jpg",
            "jpeg-decoder/fuzz-afl/in/id_001792,src_000728,op_int32,pos_227,val_be_+1000.jpg",
            "jpeg-decoder/tests/crashtest/images/imagetestsuite/28c74d9284d9836017fd519f6932efd8.jpg",
            "jpeg-decoder/tests/crashtest/images/subtract-with-overflow.jpg",
            "jpeg-decoder/tests/reftest/images/progressive-missing-dc.jpg",
            "pillow/bmp/b/badrle.bmp",
            "pillow/crash-0da013a13571cc8eb457a39fee8db18f8a3c7127.tif",
            "pillow/crash-74d2a78403a5a59db1fb0a2b8735ac068a75f6e3.tif",
            "pillow/no_palette.gif",
        ];
        const DIFFERENT: [&str; 13] = [
            // Bitmaps of 15 and 16 bits per pixel, whose alpha and rounding Pillow treats
            // differently, and gaps in run lengths.
            "image-rs/images/bmp/images/V5_A1_R5_G5_B5.bmp",
            "image-rs/images/bmp/images/pal4rletrns.bmp",
            "image-rs/images/bmp/images/rgb16-565.bmp",
            // Pillow rounds the blending of transparent pixels differently.
            "image-rs/images/webp/extended_images/anim.webp",
            // Pillow takes the 12 bits as the lower ones of 16.
            "image-tiff/images/12bit.cropped.tiff",
            // Pillow shows noise; the same images with interleaved samples are equal.
            "image-tiff/libtiffpic/depth/flower-rgb-planar-16.tif",
            "image-tiff/libtiffpic/depth/flower-separated-planar-16.tif",
            // Bitmaps again.
            "pillow/bmp/g/rgb16-565pal.bmp",
            "pillow/bmp/g/rgb16.bmp",
            "pillow/bmp/q/pal4rletrns.bmp",
            // Pillow takes the lower bits of this 16-bit grey image; here it is decoded as 16-bit
            // grey with alpha, of which the upper bits are taken.
            "pillow/i_trns.png",
            // A gap in run lengths.
            "pillow/mmap_error.bmp",
            // As for the other file with 16 bits.
            "pngsuite/tbwn0g16.png",
        ];
        let Some(root) = shared("data/hostile") else { return };
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hostile_luma.tsv");
        let (mut equal, mut refused, mut different) = (0, Vec::new(), Vec::new());
        for row in csv::ReaderBuilder::new().delimiter(b'\t').from_path(path).unwrap().records() {
            let row = row.unwrap();
            let bytes = std::fs::read(root.join(&row[0])).unwrap_or_else(|error| panic!("{}: {error}", &row[0]));
            let Ok(picture) = ImageData::decode(&bytes) else {
                refused.push(row[0].to_string());
                continue;
            };
            let luma = picture.luma();
            let ours = [
                luma.width().to_string(),
                luma.height().to_string(),
                format!("{:08x}", crc32fast::hash(luma.values())),
            ];
            if ours.iter().eq(row.iter().skip(1)) {
                equal += 1;
            } else {
                different.push(row[0].to_string());
            }
        }
        assert_eq!(refused, REFUSED);
        assert_eq!(different, DIFFERENT);
        assert!(equal > 560, "{equal} are equal");
    }

    /// Real and generated decompression bombs, truncated files and unusual modes: no panic, no
    /// hang, no unbounded memory.
    #[test]
    fn survives_hostile_files() {
        let Some(root) = shared("data/hostile") else { return };
        let (mut n_files, mut n_measured) = (0, 0);
        let mut reader =
            csv::ReaderBuilder::new().delimiter(b'\t').flexible(true).from_path(root.join("EXPECT.tsv")).unwrap();
        for row in reader.records() {
            let row = row.unwrap();
            let bytes = std::fs::read(root.join(&row[0])).unwrap_or_else(|error| panic!("{}: {error}", &row[0]));
            n_files += 1;
            let pixels = match decode_file(&bytes, 20_000_000) {
                Ok(pixels) => pixels,
                Err(error) => {
                    assert!(!error.to_string().contains("gave up"), "a decoder panics on {}", &row[0]);
                    continue;
                }
            };
            let picture = ImageData::from_decoded(bytes.len(), pixels).unwrap();
            let values = crate::measure_all(&crate::Sample::new(None, Some(&picture)));
            assert_eq!(values.len(), crate::signals().count());
            n_measured += 1;
        }
        assert!(n_files > 800 && n_measured > 500, "{n_measured} of {n_files} hostile files");
    }
}
