//! The forward cosine transform (ITU-T T.81, A.3.3) and quantisation (A.3.4), eight blocks at a
//! time.
//!
//! The samples at the same position in eight neighbouring blocks are adjacent in memory, so every
//! step is the same operation on eight numbers. The numbers are `f32` without fused operations, so
//! that all machines agree.

use std::f32::consts::FRAC_1_SQRT_2;

use super::super::blocks::{NATURAL_ORDER, transposed};

/// Blocks that are transformed together.
pub(super) const GROUP: usize = 8;

/// Eight neighbouring blocks, transformed and quantised.
#[derive(Clone)]
pub(super) struct Group {
    /// The coefficients of the eight blocks, by frequency in zigzag order.
    pub coefficients: [[i16; GROUP]; 64],
    /// For each block, which coefficients are not 0: bit k for index k in zigzag order.
    pub present: [u64; GROUP],
}

impl Group {
    pub(super) const EMPTY: Group = Group { coefficients: [[0; GROUP]; 64], present: [0; GROUP] };
}

/// Returns the factors that quantise transformed samples, in natural order: the reciprocals of the
/// quantisation table (natural order), times the factors that [`forward`] leaves out.
pub(super) fn multipliers(quantisation: &[u8; 64]) -> [f32; 64] {
    let factor = |frequency: usize| match frequency {
        // T.81 has 1/2 for each dimension, and 1 / sqrt 2 for frequency 0.
        0 => 0.5 * std::f64::consts::FRAC_1_SQRT_2,
        _ => 0.25 / (frequency as f64 * std::f64::consts::PI / 16.0).cos(),
    };
    std::array::from_fn(|index| (factor(index / 8) * factor(index % 8) / f64::from(quantisation[index])) as f32)
}

/// A row of blocks to be transformed.
pub(super) struct Transform<'a> {
    /// Eight rows, each `stride` long; a stride is a whole number of groups.
    pub samples: &'a [u8],
    pub stride: usize,
    /// Factors of [`multipliers`].
    pub multipliers: &'a [f32; 64],
    /// Groups of a stride.
    pub groups: &'a mut [Group],
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
        let Transform { samples, stride, multipliers, groups } = self;
        for (index, group) in groups.iter_mut().enumerate() {
            let mut values = [[[0.0_f32; GROUP]; 8]; 8];
            for (row, values) in values.iter_mut().enumerate() {
                let start = row * stride + index * 8 * GROUP;
                let blocks = samples[start..start + 8 * GROUP].as_chunks::<8>().0;
                let columns = transposed(std::array::from_fn(|block| u64::from_le_bytes(blocks[block])));
                for (values, column) in values.iter_mut().zip(columns) {
                    // The level shift of T.81, A.3.1.
                    *values = column.to_le_bytes().map(|sample| f32::from(sample) - 128.0);
                }
            }
            for values in &mut values {
                for lane in 0..GROUP {
                    let line = forward(std::array::from_fn(|column| values[column][lane]));
                    for column in 0..8 {
                        values[column][lane] = line[column];
                    }
                }
            }
            for column in 0..8 {
                for lane in 0..GROUP {
                    let line = forward(std::array::from_fn(|row| values[row][column][lane]));
                    for row in 0..8 {
                        values[row][column][lane] = line[row];
                    }
                }
            }
            quantise(values.as_flattened(), multipliers, group);
        }
    }
}

#[inline(always)]
fn quantise(values: &[[f32; GROUP]], multipliers: &[f32; 64], group: &mut Group) {
    // Adding 1.5 * 2^23 rounds a number to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let mut present = [[0_u32; GROUP]; 2];
    for (place, coefficients) in group.coefficients.iter_mut().enumerate() {
        let natural = usize::from(NATURAL_ORDER[place]);
        let present = &mut present[place / 32];
        for lane in 0..GROUP {
            let value = (values[natural][lane] * multipliers[natural] + ROUND).to_bits().wrapping_sub(ROUND.to_bits());
            coefficients[lane] = value as i16;
            present[lane] |= u32::from(value != 0) << (place % 32);
        }
    }
    group.present = std::array::from_fn(|lane| u64::from(present[0][lane]) | u64::from(present[1][lane]) << 32);
}

/// Computes the one-dimensional DCT of eight samples with the fast transform of Arai, Agui and
/// Nakajima ("A fast DCT-SQ scheme for images", Trans. IEICE E71, 1988), which has five
/// multiplications. Its output at frequency k is 2 sqrt 2 (k = 0) or 4 cos(k pi / 16) times that of
/// the formula.
#[inline(always)]
fn forward(input: [f32; 8]) -> [f32; 8] {
    // cos(3 pi / 8), sqrt 2 cos(3 pi / 8), sqrt 2 cos(pi / 8)
    const ROTATION: f32 = 0.382_683_43;
    const LOW: f32 = 0.541_196_1;
    const HIGH: f32 = 1.306_563;
    let sum = |index: usize| input[index] + input[7 - index];
    let difference = |index: usize| input[index] - input[7 - index];
    let (outer_sum, outer_difference) = (sum(0) + sum(3), sum(0) - sum(3));
    let (inner_sum, inner_difference) = (sum(1) + sum(2), sum(1) - sum(2));
    let even = (inner_difference + outer_difference) * FRAC_1_SQRT_2;
    let (first, middle, last) =
        (difference(3) + difference(2), difference(2) + difference(1), difference(1) + difference(0));
    let rotated = (first - last) * ROTATION;
    let (low, high) = (first * LOW + rotated, last * HIGH + rotated);
    let middle = middle * FRAC_1_SQRT_2;
    let (odd_sum, odd_difference) = (difference(0) + middle, difference(0) - middle);
    [
        outer_sum + inner_sum,
        odd_sum + high,
        outer_difference + even,
        odd_difference - low,
        outer_sum - inner_sum,
        odd_difference + low,
        outer_difference - even,
        odd_sum - high,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of T.81, A.3.3.
    fn by_the_formula(samples: &[[f64; 8]; 8]) -> [f64; 64] {
        let factor = |frequency: usize, place: usize| {
            let angle = (2 * place + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0;
            angle.cos() * if frequency == 0 { 0.5_f64.sqrt() } else { 1.0 } / 2.0
        };
        std::array::from_fn(|index| {
            let (v, u) = (index / 8, index % 8);
            let places = (0..64).map(|place| (place / 8, place % 8));
            places.map(|(y, x)| (samples[y][x] - 128.0) * factor(v, y) * factor(u, x)).sum()
        })
    }

    #[test]
    fn coefficients_are_those_of_the_formula() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let quantisation: [u8; 64] = std::array::from_fn(|index| 1 + index as u8 % 7);
        let extremes: Vec<u8> = (0..128 * 8).map(|index| if index / 3 % 2 == 0 { 0 } else { 255 }).collect();
        let noise: Vec<u8> = (0..128 * 8).map(|_| random()).collect();
        for samples in [extremes, noise, vec![128; 128 * 8], vec![0; 128 * 8]] {
            let mut groups = [Group::EMPTY; 2];
            let multipliers = &multipliers(&quantisation);
            Transform { samples: &samples, stride: 128, multipliers, groups: &mut groups }.run();
            for block in 0..16 {
                let block_samples = std::array::from_fn(|row| {
                    std::array::from_fn(|column| f64::from(samples[row * 128 + block * 8 + column]))
                });
                let wanted = by_the_formula(&block_samples);
                let (group, lane) = (&groups[block / GROUP], block % GROUP);
                for (place, natural) in NATURAL_ORDER.into_iter().enumerate() {
                    let wanted = wanted[usize::from(natural)] / f64::from(quantisation[usize::from(natural)]);
                    let found = group.coefficients[place][lane];
                    assert!((f64::from(found) - wanted).abs() < 0.501, "{place}: {found} for {wanted}");
                    assert_eq!(group.present[lane] >> place & 1 == 1, found != 0);
                }
            }
        }
    }
}
