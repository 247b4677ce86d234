//! Computes exactly the pixels that libjpeg-turbo decodes from a JPEG with its default settings:
//! the integer cosine transform of its "slow" method, its triangle filter for chroma, and its
//! colour conversion. Pillow, OpenCV and PyTorch read JPEG with it, so their users get these
//! pixels.
//!
//! The sources are jidctint.c, jdsample.c, jdmainct.c and jdcolor.c of libjpeg-turbo 3.2. Results
//! differ only for coefficients that no encoder writes, where its vector code overflows.

use std::num::Wrapping;

use super::super::blocks::transposed;
use super::super::planes::{JFIF, to_rgb};
use super::cosine::GROUP;

/// Returns the factors of the coefficients, in natural order: the quantisation table as signed
/// 16-bit numbers, as in libjpeg-turbo's vector code.
pub(in super::super) fn multipliers(quantisation: &[u16; 64]) -> [i16; 64] {
    quantisation.map(u16::cast_signed)
}

/// Blocks to be transformed, see [`Transform`](super::cosine::Transform).
pub(in super::super) struct ExactTransform<'a> {
    /// Coefficients of a row of blocks; those of eight neighbouring blocks are adjacent.
    pub groups: &'a [i16],
    /// Factors of [`multipliers`].
    pub multipliers: &'a [i16; 64],
    /// Target of the samples: eight rows.
    pub samples: &'a mut [u8],
    /// Samples in a row.
    pub stride: usize,
}

impl ExactTransform<'_> {
    pub(in super::super) fn run(self) {
        pulp::Arch::new().dispatch(self);
    }
}

/// Compiled once for each set of instructions.
impl pulp::WithSimd for ExactTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let ExactTransform { groups, multipliers, samples, stride } = self;
        for (index, group) in groups.as_chunks::<{ 64 * GROUP }>().0.iter().enumerate() {
            let bytes = transform_group(group.as_chunks().0, multipliers);
            for (row, bytes) in bytes.iter().enumerate() {
                let start = row * stride + index * GROUP * 8;
                let target = &mut samples[start..start + GROUP * 8];
                let blocks = transposed(bytes.map(u64::from_le_bytes));
                for (target, block) in target.as_chunks_mut().0.iter_mut().zip(blocks) {
                    *target = block.to_le_bytes();
                }
            }
        }
    }
}

/// Fractional bits of the constants, and of the results of the first pass (CONST_BITS and
/// PASS1_BITS of jidctint.c).
const CONSTANT_BITS: usize = 13;
const BETWEEN_BITS: usize = 2;

/// Returns the samples of eight blocks (by row, column and block) from their coefficients (by
/// natural order and block).
#[inline(always)]
fn transform_group(group: &[[i16; GROUP]], multipliers: &[i16; 64]) -> [[[u8; GROUP]; 8]; 8] {
    let mut between = [[[0_i32; GROUP]; 8]; 8];
    for column in 0..8 {
        for lane in 0..GROUP {
            let line = one_dimension(std::array::from_fn(|row| {
                let place = row * 8 + column;
                i32::from(group[place][lane].wrapping_mul(multipliers[place]))
            }));
            for row in 0..8 {
                let value = rounded::<{ CONSTANT_BITS - BETWEEN_BITS }>(line[row]);
                between[row][column][lane] = value.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
            }
        }
    }
    let mut bytes = [[[0; GROUP]; 8]; 8];
    for (values, bytes) in between.iter().zip(&mut bytes) {
        for lane in 0..GROUP {
            let line = one_dimension(std::array::from_fn(|column| values[column][lane]));
            for column in 0..8 {
                // Each pass leaves out a factor of the square root of 8; the level shift is that of
                // T.81, A.3.1.
                let value = rounded::<{ CONSTANT_BITS + BETWEEN_BITS + 3 }>(line[column]) + 128;
                bytes[column][lane] = value.clamp(0, 255) as u8;
            }
        }
    }
    bytes
}

/// Divides by a power of two, rounding halves up.
#[inline(always)]
fn rounded<const BITS: usize>(value: Wrapping<i32>) -> i32 {
    (value + Wrapping(1 << (BITS - 1))).0 >> BITS
}

/// Returns the inverse transform of eight numbers, times 2^13 and the square root of 8, by
/// Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT algorithms with 11 multiplications",
/// ICASSP 1989) in the order of jidctint.c, which has one more multiplication.
#[inline(always)]
fn one_dimension(input: [i32; 8]) -> [Wrapping<i32>; 8] {
    let input = input.map(Wrapping);
    let times = |value: Wrapping<i32>, factor: i32| value * Wrapping(factor);
    // The even part. The constants are those of the names in jidctint.c, times 2^13.
    let shared = times(input[2] + input[6], 4433); // 0.541196100
    let even_2 = shared + times(input[6], -15_137); // 1.847759065
    let even_3 = shared + times(input[2], 6270); // 0.765366865
    let even_0 = (input[0] + input[4]) << CONSTANT_BITS;
    let even_1 = (input[0] - input[4]) << CONSTANT_BITS;
    let evens = [even_0 + even_3, even_1 + even_2, even_1 - even_2, even_0 - even_3];
    // The odd part.
    let (sum_73, sum_51) = (input[7] + input[3], input[5] + input[1]);
    let shared = times(sum_73 + sum_51, 9633); // 1.175875602
    let sum_71 = times(input[7] + input[1], -7373); // 0.899976223
    let sum_53 = times(input[5] + input[3], -20_995); // 2.562915447
    let sum_73 = times(sum_73, -16_069) + shared; // 1.961570560
    let sum_51 = times(sum_51, -3196) + shared; // 0.390180644
    let odds = [
        times(input[1], 12_299) + sum_71 + sum_51, // 1.501321110
        times(input[3], 25_172) + sum_53 + sum_73, // 3.072711026
        times(input[5], 16_819) + sum_53 + sum_51, // 2.053119869
        times(input[7], 2446) + sum_71 + sum_73,   // 0.298631336
    ];
    std::array::from_fn(|place| if place < 4 { evens[place] + odds[place] } else { evens[7 - place] - odds[7 - place] })
}

/// All samples of one component.
pub(in super::super) struct Samples {
    /// Rows from top to bottom, each `stride` long. There may be more rows and columns than the
    /// component has.
    pub values: Vec<u8>,
    /// Samples in a row.
    pub stride: usize,
    /// Columns and rows of the component.
    pub size: (usize, usize),
    /// Columns and rows of pixels for each sample.
    pub enlargement: (usize, usize),
}

impl Samples {
    fn row(&self, row: usize) -> &[u8] {
        &self.values[row * self.stride..][..self.size.0]
    }

    /// Returns whether the triangle filter enlarges its columns and its rows. It needs more than
    /// two columns.
    fn is_smoothed(&self) -> (bool, bool) {
        match self.enlargement {
            (2, down @ 1..=2) => (self.size.0 > 2, down == 2 && self.size.0 > 2),
            (1, 2) => (false, true),
            _ => (false, false),
        }
    }
}

/// Returns the interleaved samples of an image of `width` x `height` pixels, with every component
/// enlarged to this size. If `is_ycc` is set, YCbCr is converted to RGB (and inverted if there is a
/// fourth component, which stays unchanged).
pub(in super::super) fn interleaved(components: &[Samples], (width, height): (usize, usize), is_ycc: bool) -> Vec<u8> {
    let mut pixels = vec![0; width * height * components.len()];
    pulp::Arch::new().dispatch(Interleave { components, width, is_ycc, pixels: &mut pixels });
    pixels
}

/// Compiled once for each set of instructions.
struct Interleave<'a> {
    components: &'a [Samples],
    width: usize,
    is_ycc: bool,
    pixels: &'a mut [u8],
}

impl pulp::WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Interleave { components, width, is_ycc, pixels } = self;
        // A row of each component at the width of the image. An enlarged row may be longer.
        let mut rows: Vec<Vec<u8>> = components.iter().map(|_| vec![0; width + 4]).collect();
        let mut sums = vec![0_u16; width + 2];
        for (y, pixels) in pixels.chunks_exact_mut(width * components.len()).enumerate() {
            for (component, row) in components.iter().zip(&mut rows) {
                enlarge(component, y, &mut sums, row);
            }
            match (&mut rows[..], is_ycc) {
                ([luma, blue, red], true) => {
                    to_rgb(JFIF, &luma[..width], &blue[..width], &red[..width], pixels.as_chunks_mut().0);
                }
                ([luma, blue, red, black], true) => {
                    let mut rgb = vec![[0; 3]; width];
                    to_rgb(JFIF, &luma[..width], &blue[..width], &red[..width], &mut rgb);
                    for ((pixel, [red, green, blue]), black) in pixels.as_chunks_mut().0.iter_mut().zip(rgb).zip(black)
                    {
                        *pixel = [255 - red, 255 - green, 255 - blue, *black];
                    }
                }
                (rows, _) => {
                    for (index, row) in rows.iter().enumerate() {
                        for (pixel, sample) in pixels.chunks_exact_mut(components.len()).zip(row) {
                            pixel[index] = *sample;
                        }
                    }
                }
            }
        }
    }
}

/// Computes row `y` of the image for one component. `sums` is a buffer for a row.
#[inline(always)]
fn enlarge(component: &Samples, y: usize, sums: &mut [u16], row: &mut [u8]) {
    let (across, down) = component.enlargement;
    let source = component.row(y / down);
    let (is_smoothed_across, is_smoothed_down) = component.is_smoothed();
    if !is_smoothed_down {
        if is_smoothed_across {
            // The source row, with its first and last sample repeated at the ends.
            let padded = &mut sums[..source.len() + 2];
            for index in 0..source.len() {
                padded[index + 1] = u16::from(source[index]);
            }
            double::<2, 1, 2>(padded, row);
        } else if across == 1 {
            row[..source.len()].copy_from_slice(source);
        } else {
            for (target, sample) in row.chunks_mut(across).zip(source) {
                target.fill(*sample);
            }
        }
        return;
    }
    // Three quarters of the nearer row and one quarter of the other. Edge rows are repeated.
    let is_upper = y.is_multiple_of(2);
    let other = if is_upper { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(component.size.1 - 1) };
    let other = component.row(other);
    if !is_smoothed_across {
        let bias = if is_upper { 1 } else { 2 };
        for index in 0..source.len() {
            row[index] = ((3 * u16::from(source[index]) + u16::from(other[index]) + bias) >> 2) as u8;
        }
        return;
    }
    let padded = &mut sums[..source.len() + 2];
    for index in 0..source.len() {
        padded[index + 1] = 3 * u16::from(source[index]) + u16::from(other[index]);
    }
    double::<4, 8, 7>(padded, row);
}

/// Computes two samples for each of `padded` except the first and the last, which are set here:
/// three parts of the sample itself and one part of its left or right neighbour, shifted right by
/// `SHIFT` bits.
#[inline(always)]
fn double<const SHIFT: usize, const LEFT_BIAS: u16, const RIGHT_BIAS: u16>(padded: &mut [u16], row: &mut [u8]) {
    let count = padded.len() - 2;
    padded[0] = padded[1];
    padded[count + 1] = padded[count];
    let (left, middle, right) = (&padded[..count], &padded[1..=count], &padded[2..count + 2]);
    let pairs = &mut row.as_chunks_mut::<2>().0[..count];
    for index in 0..count {
        let own = 3 * middle[index];
        pairs[index] =
            [((own + left[index] + LEFT_BIAS) >> SHIFT) as u8, ((own + right[index] + RIGHT_BIAS) >> SHIFT) as u8];
    }
}
