//! The inverse cosine transform (T.81, A.3.3) to blocks of 8, 4, 2 or 1 samples a side, eight
//! blocks at a time.
//!
//! A smaller block uses only the lower frequencies, evaluated at the centres of the larger samples.
//! Coefficients of eight neighbouring blocks are adjacent in memory, so every step is the same
//! operation on eight numbers. The numbers are `f32` without fused operations, so that all machines
//! agree.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::super::blocks::transposed;
use super::super::scale::to_byte;

/// Blocks that are transformed together.
pub(super) const GROUP: usize = 8;

/// Coefficients of a group, by frequency in natural order; those of the eight blocks are adjacent.
pub(super) type Group = [i16; 64 * GROUP];

/// Side of the blocks of samples that 8 x 8 coefficients are transformed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    One,
    Two,
    Four,
    Eight,
}

impl Side {
    pub(super) const ALL: [Side; 4] = [Side::One, Side::Two, Side::Four, Side::Eight];

    /// Returns the number of samples along a side.
    pub(super) fn samples(self) -> usize {
        match self {
            Side::One => 1,
            Side::Two => 2,
            Side::Four => 4,
            Side::Eight => 8,
        }
    }
}

/// Returns the factors of the coefficients, in natural order: the quantisation table times the
/// factors that the transform leaves out.
pub(super) fn multipliers(quantisation: &[u16; 64], side: Side) -> [f32; 64] {
    let factors: [f32; 8] = std::array::from_fn(|frequency| {
        let angle = frequency as f64 * std::f64::consts::PI / 16.0;
        // T.81 has 1/2 for each dimension, and 1 / sqrt 2 for frequency 0.
        let plain = if frequency == 0 { 0.5 * std::f64::consts::FRAC_1_SQRT_2 } else { 0.5 };
        let left_out = match side {
            Side::Eight if frequency > 0 => angle.cos(),
            Side::Two if frequency == 1 => std::f64::consts::FRAC_1_SQRT_2,
            _ => 1.0,
        };
        (plain * left_out) as f32
    });
    std::array::from_fn(|index| f32::from(quantisation[index]) * factors[index / 8] * factors[index % 8])
}

/// Blocks to be transformed.
pub(super) struct Transform<'a> {
    /// Coefficients of a row of blocks.
    pub groups: &'a [i16],
    /// Factors of [`multipliers`].
    pub multipliers: &'a [f32; 64],
    pub side: Side,
    /// Target of the samples: as many rows as a block has.
    pub samples: &'a mut [u8],
    /// Samples in a row.
    pub stride: usize,
}

impl Transform<'_> {
    pub(super) fn run(self) {
        pulp::Arch::new().dispatch(self);
    }
}

/// Compiled once for each set of instructions.
impl pulp::WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Transform { groups, multipliers, side, samples, stride } = self;
        match side {
            Side::One => transform_to::<1>(groups, multipliers, samples, stride),
            Side::Two => transform_to::<2>(groups, multipliers, samples, stride),
            Side::Four => transform_to::<4>(groups, multipliers, samples, stride),
            Side::Eight => transform_to::<8>(groups, multipliers, samples, stride),
        }
    }
}

#[inline(always)]
fn transform_to<const SIDE: usize>(groups: &[i16], multipliers: &[f32; 64], samples: &mut [u8], stride: usize) {
    for (index, group) in groups.as_chunks::<{ 64 * GROUP }>().0.iter().enumerate() {
        let mut between = [[[0.0_f32; GROUP]; SIDE]; SIDE];
        for column in 0..SIDE {
            for lane in 0..GROUP {
                let mut line: [f32; SIDE] = std::array::from_fn(|row| {
                    let place = row * 8 + column;
                    f32::from(group[place * GROUP + lane]) * multipliers[place]
                });
                one_dimension(&mut line);
                for row in 0..SIDE {
                    between[row][column][lane] = line[row];
                }
            }
        }
        for values in &mut between {
            for lane in 0..GROUP {
                let mut line: [f32; SIDE] = std::array::from_fn(|column| values[column][lane]);
                one_dimension(&mut line);
                for column in 0..SIDE {
                    values[column][lane] = line[column];
                }
            }
        }
        let mut bytes = [[[0; GROUP]; SIDE]; SIDE];
        for (byte, value) in
            bytes.as_flattened_mut().as_flattened_mut().iter_mut().zip(between.as_flattened().as_flattened())
        {
            // The level shift of T.81, A.3.1.
            *byte = to_byte(*value + 128.0);
        }
        for (row, bytes) in bytes.iter().enumerate() {
            let start = row * stride + index * GROUP * SIDE;
            interleave(bytes, &mut samples[start..start + GROUP * SIDE]);
        }
    }
}

/// Makes the samples of each block adjacent.
#[inline(never)]
fn interleave<const SIDE: usize>(bytes: &[[u8; GROUP]; SIDE], target: &mut [u8]) {
    if let Some(bytes) = bytes.first_chunk::<8>() {
        for (target, block) in target.as_chunks_mut().0.iter_mut().zip(transposed(bytes.map(u64::from_le_bytes))) {
            *target = block.to_le_bytes();
        }
        return;
    }
    for (lane, target) in target.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        *target = std::array::from_fn(|column| bytes[column][lane % GROUP]);
    }
}

/// Computes the one-dimensional inverse DCT to `SIDE` samples, for input that was multiplied with
/// [`multipliers`].
#[inline(always)]
fn one_dimension<const SIDE: usize>(line: &mut [f32; SIDE]) {
    if let [first, second] = line.as_mut_slice() {
        (*first, *second) = (*first + *second, *first - *second);
    } else if let Ok(line) = <&mut [f32; 4]>::try_from(line.as_mut_slice()) {
        *line = four(*line);
    } else if let Ok(line) = <&mut [f32; 8]>::try_from(line.as_mut_slice()) {
        *line = eight(*line);
    }
}

#[inline(always)]
fn four(input: [f32; 4]) -> [f32; 4] {
    // cos(pi / 8) and cos(3 pi / 8)
    const COSINE_1: f32 = 0.923_879_5;
    const COSINE_3: f32 = 0.382_683_43;
    let even = input[2] * FRAC_1_SQRT_2;
    let (outer, inner) = (input[0] + even, input[0] - even);
    let outer_odd = input[1] * COSINE_1 + input[3] * COSINE_3;
    let inner_odd = input[1] * COSINE_3 - input[3] * COSINE_1;
    [outer + outer_odd, inner + inner_odd, inner - inner_odd, outer - outer_odd]
}

/// Computes the fast transform of Arai, Agui and Nakajima ("A fast DCT-SQ scheme for images",
/// Trans. IEICE E71, 1988): five multiplications.
///
/// Its input of frequency k > 0 is multiplied with cos(k pi / 16) beforehand, besides the factors
/// of the formula.
#[inline(always)]
fn eight(input: [f32; 8]) -> [f32; 8] {
    // 2 cos(pi / 8), 2 (cos(pi / 8) - cos(3 pi / 8)), 2 (cos(pi / 8) + cos(3 pi / 8))
    const ROTATION: f32 = 1.847_759_1;
    const DIFFERENCE: f32 = 1.082_392_2;
    const SUM: f32 = 2.613_126;
    let (sum_04, difference_04) = (input[0] + input[4], input[0] - input[4]);
    let sum_26 = input[2] + input[6];
    let difference_26 = (input[2] - input[6]) * SQRT_2 - sum_26;
    let even_0 = sum_04 + sum_26;
    let even_1 = difference_04 + difference_26;
    let even_2 = difference_04 - difference_26;
    let even_3 = sum_04 - sum_26;
    let (sum_53, difference_53) = (input[5] + input[3], input[5] - input[3]);
    let (sum_17, difference_17) = (input[1] + input[7], input[1] - input[7]);
    let odd_0 = sum_17 + sum_53;
    let middle = (sum_17 - sum_53) * SQRT_2;
    let rotated = (difference_53 + difference_17) * ROTATION;
    let low = rotated - difference_17 * DIFFERENCE;
    let high = rotated - difference_53 * SUM;
    let odd_1 = high - odd_0;
    let odd_2 = middle - odd_1;
    let odd_3 = low - odd_2;
    [
        even_0 + odd_0,
        even_1 + odd_1,
        even_2 + odd_2,
        even_3 + odd_3,
        even_3 - odd_3,
        even_2 - odd_2,
        even_1 - odd_1,
        even_0 - odd_0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of T.81, A.3.3, with the cosines at the centres of `side` samples, of the lowest
    /// `side` frequencies.
    fn by_the_formula(coefficients: &[f64; 64], side: usize) -> Vec<f64> {
        let factor = |frequency: usize, place: usize| {
            let angle = (2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / (2 * side) as f64;
            angle.cos() * if frequency == 0 { 0.5_f64.sqrt() } else { 1.0 } / 2.0
        };
        let mut samples = Vec::new();
        for y in 0..side {
            for x in 0..side {
                let frequencies = (0..side).flat_map(|v| (0..side).map(move |u| (u, v)));
                let sum: f64 = frequencies.map(|(u, v)| coefficients[v * 8 + u] * factor(u, x) * factor(v, y)).sum();
                samples.push((sum + 128.0).clamp(0.0, 255.0));
            }
        }
        samples
    }

    #[test]
    fn every_size_is_that_of_the_formula() {
        let mut state = 1_u32;
        let mut random = |most: i16| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as i16) % (most + 1)
        };
        for most in [0, 3, 40, 600] {
            let mut group: Group = [0; 64 * GROUP];
            let quantisation: [u16; 64] = std::array::from_fn(|index| 1 + index as u16 % 5);
            for value in &mut group {
                *value = if random(3) == 0 { random(most) } else { 0 };
            }
            for side in Side::ALL {
                let n = side.samples();
                let stride = GROUP * n;
                let mut samples = vec![0; stride * n];
                let multipliers = &multipliers(&quantisation, side);
                Transform { groups: &group, multipliers, side, samples: &mut samples, stride }.run();
                for lane in 0..GROUP {
                    let coefficients = std::array::from_fn(|index| {
                        f64::from(group[index * GROUP + lane]) * f64::from(quantisation[index])
                    });
                    let wanted = by_the_formula(&coefficients, n);
                    for (index, wanted) in wanted.into_iter().enumerate() {
                        let found = f64::from(samples[index / n * stride + lane * n + index % n]);
                        assert!((found - wanted).abs() < 0.502, "{side:?} {most}: {found} for {wanted}");
                    }
                }
            }
        }
    }
}
