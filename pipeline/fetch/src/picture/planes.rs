//! Pictures whose luma and chroma are still apart: scaling each by itself is less work than making full-size RGB first, and a plane of half the size
//! need not be enlarged before it is scaled down.

use std::cell::RefCell;
use std::f64::consts::SQRT_2;

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, Resizer};
use image::RgbImage;

use super::PictureError;
use super::resize;

/// Samples of one component.
pub(super) struct Plane {
    /// Rows from top to bottom, each `stride` long. There may be more rows and columns than the picture has.
    pub samples: Vec<u8>,
    /// Samples in a row.
    pub stride: u32,
    /// Columns and rows before the picture begins.
    pub origin: (u32, u32),
    /// Width and height of the picture in samples of this plane; its edge may lie within the last ones.
    pub extent: (f64, f64),
    /// Whether the file has half as many samples as pixels in both directions, and this plane has all of them.
    pub is_halved: bool,
}

/// A picture in YCbCr, or grey.
pub(super) struct Planes {
    /// Width and height of the picture, pixels.
    size: (u32, u32),
    luma: Plane,
    /// Blue and red difference, and how they become RGB.
    chroma: Option<([Plane; 2], Conversion)>,
}

/// How YCbCr becomes RGB, in numbers times 2^16.
#[derive(Clone, Copy)]
struct Conversion {
    /// Luma that is black.
    black: i32,
    luma: i32,
    red_of_red: i32,
    green_of_red: i32,
    green_of_blue: i32,
    blue_of_blue: i32,
}

/// 1; 1.402, -0.714136, -0.344136 and 1.772: full range, as JFIF has it (ITU-T T.871, clause 7).
const JFIF: Conversion = Conversion {
    black: 0,
    luma: 65_536,
    red_of_red: 91_881,
    green_of_red: -46_802,
    green_of_blue: -22_554,
    blue_of_blue: 116_130,
};

/// 1.164; 1.596, -0.813, -0.391 and 2.018: black at 16 and white at 235, which is what libwebp makes of VP8 (`src/dsp/yuv.h`).
const WEBP: Conversion = Conversion {
    black: 16,
    luma: 76_309,
    red_of_red: 104_597,
    green_of_red: -53_279,
    green_of_blue: -25_674,
    blue_of_blue: 132_201,
};

impl Planes {
    /// A picture in grey.
    pub(super) fn grey(size: (u32, u32), luma: Plane) -> Self {
        Planes { size, luma, chroma: None }
    }

    /// A picture in the colours of a JPEG.
    pub(super) fn jpeg(size: (u32, u32), luma: Plane, chroma: [Plane; 2]) -> Self {
        Planes { size, luma, chroma: Some((chroma, JFIF)) }
    }

    /// A picture in the colours of a WebP.
    pub(super) fn webp(size: (u32, u32), luma: Plane, chroma: [Plane; 2]) -> Self {
        Planes { size, luma, chroma: Some((chroma, WEBP)) }
    }

    /// Width and height of the picture at full size, pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// The picture in RGB at `width` x `height` pixels, by the filter that [`resize::scale`] uses.
    pub(super) fn scale(&self, width: u32, height: u32) -> Result<RgbImage, PictureError> {
        let luma = &self.luma.scale(width, height)?;
        let mut pixels = RgbImage::new(width, height);
        match &self.chroma {
            Some(([blue, red], conversion)) => {
                let (blue, red) = (&blue.scale(width, height)?, &red.scale(width, height)?);
                let conversion = *conversion;
                pulp::Arch::new().dispatch(ToRgb { conversion, luma, blue, red, pixels: &mut pixels });
            }
            None => {
                for (pixel, luma) in pixels.as_chunks_mut().0.iter_mut().zip(luma) {
                    *pixel = [*luma; 3];
                }
            }
        }
        Ok(pixels)
    }
}

impl Plane {
    /// The filter that scales it to `width`.
    ///
    /// Complete decoders first enlarge halved planes with a triangle filter, a blur with a variance of 1/6 of a squared sample. Catmull-Rom has none, a
    /// triangle filter that shrinks r times has r^2 / 6 (1/6 below 1). Up to the square root of 2, the latter is closer to both steps together.
    fn filter(&self, width: u32) -> FilterType {
        if self.is_halved && self.extent.0 < SQRT_2 * f64::from(width) {
            FilterType::Bilinear
        } else {
            FilterType::CatmullRom
        }
    }

    fn scale(&self, width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
        thread_local! {
            /// Keeps its buffers.
            static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
        }
        let failed = |reason: String| PictureError::Broken(format!("cannot scale to {width} x {height}: {reason}"));
        let rows = self.samples.len() as u32 / self.stride;
        let source = ImageRef::new(self.stride, rows, &self.samples, PixelType::U8)
            .map_err(|error| failed(error.to_string()))?;
        let inside = (self.extent.0.ceil() as u32, self.extent.1.ceil() as u32);
        let source = CroppedImage::new(&source, self.origin.0, self.origin.1, inside.0, inside.1)
            .map_err(|error| failed(error.to_string()))?;
        let options = resize::options().resize_alg(ResizeAlg::Convolution(self.filter(width))).crop(
            0.0,
            0.0,
            self.extent.0,
            self.extent.1,
        );
        let mut target = Image::new(width, height, PixelType::U8);
        RESIZER
            .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
            .map_err(|error| failed(error.to_string()))?;
        Ok(target.into_vec())
    }
}

/// The conversion of planes of the same size, rounded to the nearest. Compiled once for each set of instructions.
struct ToRgb<'a> {
    conversion: Conversion,
    luma: &'a [u8],
    blue: &'a [u8],
    red: &'a [u8],
    pixels: &'a mut [u8],
}

impl pulp::WithSimd for ToRgb<'_> {
    type Output = ();

    #[allow(
        clippy::inline_always,
        reason = "only what becomes part of its caller is compiled for the caller's instructions"
    )]
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let ToRgb { conversion, luma, blue, red, pixels } = self;
        let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
        let samples = luma.iter().zip(blue).zip(red);
        for (pixel, ((luma, blue), red)) in pixels.as_chunks_mut().0.iter_mut().zip(samples) {
            let luma = (i32::from(*luma) - conversion.black) * conversion.luma + (1 << 15);
            let (blue, red) = (i32::from(*blue) - 128, i32::from(*red) - 128);
            *pixel = [
                byte(luma + conversion.red_of_red * red),
                byte(luma + conversion.green_of_red * red + conversion.green_of_blue * blue),
                byte(luma + conversion.blue_of_blue * blue),
            ];
        }
    }
}
