//! Images with separate planes of luma and chroma, as in the lossy formats. Scaling each plane is
//! less work than converting to full-size RGB first, and a plane of half the size need not be
//! enlarged before it is scaled down.

use std::f64::consts::SQRT_2;

use image::RgbImage;

use super::scale::{self, Filter, Part, Source};

/// Samples of one component.
#[derive(Clone)]
pub(super) struct Plane {
    /// Rows from top to bottom, each `stride` long. There may be more rows and columns than the
    /// image has.
    pub samples: Vec<u8>,
    /// Samples in a row.
    pub stride: usize,
    /// Columns and rows before the image begins.
    pub origin: (usize, usize),
    /// Width and height of the image in samples of this plane; its edge may lie within the last
    /// ones.
    pub extent: (f64, f64),
    /// Whether the file has half as many samples as pixels in both directions, and this plane is
    /// not reduced further.
    pub is_halved: bool,
}

/// An image in YCbCr or grey.
#[derive(Clone)]
pub(super) struct Planes {
    luma: Plane,
    /// Blue and red difference, and the conversion to RGB.
    chroma: Option<([Plane; 2], Conversion)>,
}

/// The image to make of planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Width and height, pixels.
    pub size: (u32, u32),
    /// Whether chroma is wanted at half this size, see [`Planes::subsampled`].
    pub halves_chroma: bool,
}

/// The conversion of YCbCr to RGB; factors are times 2^16.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Conversion {
    /// The luma of black.
    black: i32,
    luma: i32,
    red_of_red: i32,
    green_of_red: i32,
    green_of_blue: i32,
    blue_of_blue: i32,
}

/// 1; 1.402, -0.714136, -0.344136 and 1.772: full range, as JFIF has it (ITU-T T.871, clause 7).
/// libjpeg (`jdcolor.c`) has the same numbers.
pub(super) const JFIF: Conversion = Conversion {
    black: 0,
    luma: 65_536,
    red_of_red: 91_881,
    green_of_red: -46_802,
    green_of_blue: -22_554,
    blue_of_blue: 116_130,
};

/// 1.164; 1.596, -0.813, -0.391 and 2.018: black at 16 and white at 235, which is what libwebp
/// makes of VP8 (`src/dsp/yuv.h`).
const WEBP: Conversion = Conversion {
    black: 16,
    luma: 76_309,
    red_of_red: 104_597,
    green_of_red: -53_279,
    green_of_blue: -25_674,
    blue_of_blue: 132_201,
};

impl Planes {
    /// Returns an image in grey.
    pub(super) fn grey(luma: Plane) -> Self {
        Planes { luma, chroma: None }
    }

    /// Returns an image in the colours of JPEG.
    pub(super) fn jpeg(luma: Plane, chroma: [Plane; 2]) -> Self {
        Planes { luma, chroma: Some((chroma, JFIF)) }
    }

    /// Returns an image in the colours of WebP.
    pub(super) fn webp(luma: Plane, chroma: [Plane; 2]) -> Self {
        Planes { luma, chroma: Some((chroma, WEBP)) }
    }

    /// Returns the image in RGB, scaled to `width` x `height` pixels.
    pub(super) fn rgb(&self, (width, height): (u32, u32)) -> RgbImage {
        let scaled = |plane: &Plane| plane.scaled((width as usize, height as usize), plane.filter(width));
        let luma = &scaled(&self.luma);
        let mut pixels = RgbImage::new(width, height);
        match &self.chroma {
            Some((chroma, conversion)) => {
                let (conversion, [blue, red]) = (*conversion, &chroma.each_ref().map(scaled));
                pulp::Arch::new().dispatch(ToRgb { conversion, luma, blue, red, pixels: &mut pixels });
            }
            None => {
                for (pixel, luma) in pixels.as_chunks_mut().0.iter_mut().zip(luma) {
                    *pixel = [*luma; 3];
                }
            }
        }
        pixels
    }

    /// Returns the image scaled to `width` x `height` pixels, with halved chroma.
    pub(super) fn subsampled(&self, size: (u32, u32)) -> Subsampled {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let halves = (width.div_ceil(2), height.div_ceil(2));
        let mut luma = self.luma.scaled((width, height), Filter::CatmullRom);
        let chroma = match &self.chroma {
            Some((chroma, conversion)) => {
                let extent = (width as f64 / 2.0, height as f64 / 2.0);
                let mut chroma =
                    chroma.each_ref().map(|plane| scale::scale(plane.source(), halves, extent, Filter::CatmullRom));
                if *conversion != JFIF {
                    let [blue, red] = &mut chroma;
                    for (samples, table) in [&mut luma, blue, red].into_iter().zip(conversion.to_jfif()) {
                        for sample in samples.iter_mut() {
                            *sample = table[usize::from(*sample)];
                        }
                    }
                }
                chroma
            }
            None => [(); 2].map(|()| vec![128; halves.0 * halves.1]),
        };
        Subsampled { size, luma, chroma }
    }
}

impl Plane {
    /// Returns the filter that scales the plane to `width` for RGB.
    ///
    /// Complete decoders first enlarge halved planes with a triangle filter, which blurs with a
    /// variance of 1/6 of a squared sample. Catmull-Rom has no such blur; a triangle filter that
    /// shrinks by a factor r has the variance r^2 / 6 (1/6 for r below 1). For r up to the square
    /// root of 2, the triangle filter is closer to the two steps of a complete decoder.
    fn filter(&self, width: u32) -> Filter {
        if self.is_halved && self.extent.0 < SQRT_2 * f64::from(width) { Filter::Triangle } else { Filter::CatmullRom }
    }

    fn source(&self) -> Source<'_, 1> {
        let Plane { samples, stride, origin, extent, is_halved: _ } = self;
        let size = (extent.0.ceil() as usize, extent.1.ceil() as usize);
        Source { samples, stride: *stride, origin: *origin, size, part: Part { start: (0.0, 0.0), extent: *extent } }
    }

    fn scaled(&self, (width, height): (usize, usize), filter: Filter) -> Vec<u8> {
        scale::scale(self.source(), (width, height), (width as f64, height as f64), filter)
    }
}

impl Conversion {
    /// Returns tables that convert luma, blue and red difference to those of JFIF. Colours outside
    /// of RGB may become other colours outside of RGB.
    fn to_jfif(self) -> [[u8; 256]; 3] {
        let table = |zero: i32, factor: i32, of: i32, new_zero: i32| {
            std::array::from_fn(|sample| {
                let value = (sample as i32 - zero) * factor;
                (f64::from(value) / f64::from(of) + f64::from(new_zero)).round() as u8
            })
        };
        [
            table(self.black, self.luma, JFIF.luma, 0),
            table(128, self.blue_of_blue, JFIF.blue_of_blue, 128),
            table(128, self.red_of_red, JFIF.red_of_red, 128),
        ]
    }
}

/// An image in the colours of JFIF with one sample of chroma for 2 x 2 pixels (4:2:0). At an odd
/// edge, the last samples are for the remaining pixels.
pub(super) struct Subsampled {
    /// Width and height, pixels.
    size: (u32, u32),
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
}

impl Subsampled {
    /// Returns the width and height of the image, pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Returns luma, blue and red difference: the samples in rows from top to bottom, and the
    /// length of a row.
    pub(super) fn planes(&self) -> [(&[u8], usize); 3] {
        let (width, half) = (self.size.0 as usize, self.size.0.div_ceil(2) as usize);
        let [blue, red] = &self.chroma;
        [(&self.luma, width), (blue, half), (red, half)]
    }

    /// Converts an RGB image of at least one pixel.
    pub(super) fn from_rgb(image: &RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let mut luma = vec![0; width * height];
        let mut chroma = [(); 2].map(|()| vec![0; half_width * half_height]);
        pulp::Arch::new().dispatch(FromRgb {
            pixels: image.as_chunks().0,
            width,
            luma: &mut luma,
            chroma: &mut chroma,
        });
        Subsampled { size: image.dimensions(), luma, chroma }
    }
}

/// The conversion of planes of the same size, rounded to the nearest. Compiled once for each set of
/// instructions.
struct ToRgb<'a> {
    conversion: Conversion,
    luma: &'a [u8],
    blue: &'a [u8],
    red: &'a [u8],
    pixels: &'a mut [u8],
}

impl pulp::WithSimd for ToRgb<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let ToRgb { conversion, luma, blue, red, pixels } = self;
        to_rgb(conversion, luma, blue, red, pixels.as_chunks_mut().0);
    }
}

/// Converts planes to RGB as in [`ToRgb`]. It is inlined into code that is compiled for a set of
/// instructions.
#[inline(always)]
pub(super) fn to_rgb(conversion: Conversion, luma: &[u8], blue: &[u8], red: &[u8], pixels: &mut [[u8; 3]]) {
    let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
    for (pixel, ((luma, blue), red)) in pixels.iter_mut().zip(luma.iter().zip(blue).zip(red)) {
        let luma = (i32::from(*luma) - conversion.black) * conversion.luma + (1 << 15);
        let (blue, red) = (i32::from(*blue) - 128, i32::from(*red) - 128);
        *pixel = [
            byte(luma + conversion.red_of_red * red),
            byte(luma + conversion.green_of_red * red + conversion.green_of_blue * blue),
            byte(luma + conversion.blue_of_blue * blue),
        ];
    }
}

/// The conversion to the colours of JFIF (T.871, clause 7), chroma as the mean of 2 x 2 pixels,
/// rounded to the nearest. Compiled once for each set of instructions.
struct FromRgb<'a> {
    pixels: &'a [[u8; 3]],
    width: usize,
    luma: &'a mut [u8],
    chroma: &'a mut [Vec<u8>; 2],
}

impl pulp::WithSimd for FromRgb<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        // Times 2^16: 0.299, 0.587 and 0.114; -0.168736, -0.331264 and 0.5; 0.5, -0.418688 and
        // -0.081312.
        const LUMA: [i32; 3] = [19_595, 38_470, 7_471];
        const BLUE: [i32; 3] = [-11_059, -21_709, 32_768];
        const RED: [i32; 3] = [32_768, -27_439, -5_329];
        let FromRgb { pixels, width, luma, chroma: [blue, red] } = self;
        let sum =
            |[red, green, blue]: [i32; 3], factors: [i32; 3]| red * factors[0] + green * factors[1] + blue * factors[2];
        for (luma, pixel) in luma.iter_mut().zip(pixels) {
            *luma = ((sum(pixel.map(i32::from), LUMA) + (1 << 15)) >> 16) as u8;
        }
        let half_width = width.div_ceil(2);
        let rows = blue.chunks_exact_mut(half_width).zip(red.chunks_exact_mut(half_width));
        for (two_rows, (blue, red)) in pixels.chunks(2 * width).zip(rows) {
            let (upper, lower) = two_rows.split_at(width);
            // The last row of an odd height and the last column of an odd width count twice.
            let lower = if lower.is_empty() { upper } else { lower };
            for (index, (blue, red)) in blue.iter_mut().zip(red).enumerate() {
                let (left, right) = (index * 2, (index * 2 + 1).min(width - 1));
                let corners = [upper[left], upper[right], lower[left], lower[right]];
                let total = std::array::from_fn(|channel| corners.iter().map(|pixel| i32::from(pixel[channel])).sum());
                // 128 is the level shift; 2^17 rounds the sum of four pixels. The -1 keeps the
                // largest value at 255.
                let byte = |factors: [i32; 3]| ((sum(total, factors) + (128 << 18) + (1 << 17) - 1) >> 18) as u8;
                (*blue, *red) = (byte(BLUE), byte(RED));
            }
        }
    }
}
