//! Lanczos resizing of a luma plane, equal to Pillow's to the last bit.

use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use crate::image_data::Luma;

/// Half the width of the Lanczos window, in pixels of the smaller image.
const SUPPORT: f64 = 3.0;

/// Fraction bits of the fixed-point weights: 32 bits less 8 bits of value and 2 of overflow
/// (`PRECISION_BITS` of Pillow's `libImaging/Resample.c`).
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// Bits of a weight's low part; the rest and the sign fit 16 bits, since no weight exceeds 2.
const LOW_BITS: u32 = 11;

/// Number of weights that are multiplied at a time.
const WEIGHTS: usize = 16;

/// Resizes as Pillow's `Image.resize((width, height), Resampling.LANCZOS)` resizes an image of mode
/// "L".
///
/// There is one pass along each axis that changes, each rounded to 8 bits. Pillow 13 changes the
/// height first if that removes more than twice as many rows as columns are removed
/// (`changes_height_first`). Other versions may choose another order, which changes some values by
/// one and may flip a bit in the hash of a tall image. `width` and `height` must be at least 1.
pub(super) fn resize_lanczos(luma: &Luma, width: usize, height: usize) -> Luma {
    let resized = if changes_height_first(luma, width, height) {
        resize_width(&resize_height(luma, height), width)
    } else {
        resize_height(&resize_width(luma, width), height)
    };
    debug_assert_eq!((resized.width(), resized.height()), (width, height));
    resized
}

/// Returns whether Pillow 13.0.0 changes the height first; found by comparing both orders with its
/// output on 1,455 random sizes.
fn changes_height_first(luma: &Luma, width: usize, height: usize) -> bool {
    let rows_less = luma.height() as i64 - height as i64;
    let columns_less = luma.width() as i64 - width as i64;
    rows_less > 0 && rows_less > 2 * columns_less
}

fn resize_width(luma: &Luma, width: usize) -> Luma {
    if luma.width() == width {
        return luma.clone();
    }
    let taps = &Taps::cached(luma.width(), width);
    let values = pulp::Arch::new().dispatch(ResizeWidth { luma, width, taps });
    Luma::new(width, luma.height(), values).expect("every row was resized to the new width")
}

fn resize_height(luma: &Luma, height: usize) -> Luma {
    if luma.height() == height {
        return luma.clone();
    }
    let taps = &Taps::cached(luma.height(), height);
    let values = pulp::Arch::new().dispatch(ResizeHeight { luma, height, taps });
    Luma::new(luma.width(), height, values).expect("the new height times the old width")
}

/// The loop of [`resize_width`], compiled once for each set of instructions.
struct ResizeWidth<'a> {
    luma: &'a Luma,
    width: usize,
    taps: &'a Taps,
}

impl pulp::WithSimd for ResizeWidth<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        let Self { luma, width, taps } = self;
        let mut values = Vec::with_capacity(width * luma.height());
        // Zeros after the row, for weights of 0.
        let mut padded = vec![0; luma.width() + taps.count];
        for y in 0..luma.height() {
            padded[..luma.width()].copy_from_slice(luma.row(y));
            for x in 0..width {
                let (first, high, low) = taps.of(x);
                let inputs = padded[first..first + taps.count].as_chunks::<WEIGHTS>().0;
                let (mut sums_high, mut sums_low) = ([0_i32; WEIGHTS / 2], [0_i32; WEIGHTS / 2]);
                for ((inputs, high), low) in inputs.iter().zip(high.as_chunks().0).zip(low.as_chunks().0) {
                    add_pairs(&mut sums_high, inputs, high);
                    add_pairs(&mut sums_low, inputs, low);
                }
                let total = |sums: [i32; WEIGHTS / 2]| sums.into_iter().fold(0, i32::wrapping_add);
                values.push(round(total(sums_high), total(sums_low)));
            }
        }
        values
    }
}

/// The loop of [`resize_height`], compiled once for each set of instructions.
struct ResizeHeight<'a> {
    luma: &'a Luma,
    height: usize,
    taps: &'a Taps,
}

impl pulp::WithSimd for ResizeHeight<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Vec<u8> {
        let Self { luma, height, taps } = self;
        let mut values = Vec::with_capacity(luma.width() * height);
        let (mut sums_high, mut sums_low) = (vec![0; luma.width()], vec![0; luma.width()]);
        for y in 0..height {
            let (first, high, low) = taps.of(y);
            sums_high.fill(0);
            sums_low.fill(0);
            // After the last row, weights are 0.
            for (y, (&high, &low)) in (first..luma.height()).zip(high.iter().zip(low)) {
                add_weighted(&mut sums_high, luma.row(y), high);
                add_weighted(&mut sums_low, luma.row(y), low);
            }
            for (&high, &low) in sums_high.iter().zip(&sums_low) {
                values.push(round(high, low));
            }
        }
        values
    }
}

/// Adds the products of two neighbours to each sum; processors have one instruction for that.
#[inline(always)]
fn add_pairs(sums: &mut [i32; WEIGHTS / 2], values: &[u8; WEIGHTS], weights: &[i16; WEIGHTS]) {
    for index in 0..WEIGHTS / 2 {
        let product = |at: usize| i32::from(values[at]) * i32::from(weights[at]);
        sums[index] = sums[index].wrapping_add(product(2 * index) + product(2 * index + 1));
    }
}

#[inline(always)]
fn add_weighted(sums: &mut [i32], values: &[u8], weight: i16) {
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = sum.wrapping_add(i32::from(value).wrapping_mul(i32::from(weight)));
    }
}

/// Converts fixed point to 8 bits: rounded half up, and clipped if the window overshoots.
///
/// The two sums may wrap around for thousands of weights, but their total fits: it is at most 255
/// in fixed point plus the overshoot, for which `FRACTION_BITS` leaves room.
#[inline(always)]
fn round(sum_high: i32, sum_low: i32) -> u8 {
    let sum = (sum_high << LOW_BITS).wrapping_add(sum_low);
    ((sum + (1 << (FRACTION_BITS - 1))) >> FRACTION_BITS).clamp(0, 255) as u8
}

/// The inputs of every output pixel of one axis: the first input pixel, and the weights from there
/// on.
///
/// A weight is `high << LOW_BITS | low`. That is exact, and every processor can compute many
/// products of 16-bit factors at once.
struct Taps {
    firsts: Vec<usize>,
    /// Number of weights of each output pixel, a multiple of [`WEIGHTS`]; superfluous weights are
    /// 0.
    count: usize,
    high: Vec<i16>,
    low: Vec<i16>,
}

impl Taps {
    /// Returns the taps of a pair of lengths, from a cache if they are in it: most images of a pool
    /// share a side, and half of the time of a hash of 256 x 341 pixels was spent on the sines of
    /// its weights.
    fn cached(n_inputs: usize, n_outputs: usize) -> Arc<Self> {
        /// Maximum number of taps that are kept: both sides for both hashes, of 64 sizes. A full
        /// cache is emptied.
        const MOST_KEPT: usize = 256;
        /// Maximum length of a side whose taps are kept, so that the cache takes at most a few
        /// megabytes.
        const LONGEST_KEPT: usize = 1024;
        static KEPT: Mutex<BTreeMap<(usize, usize), Arc<Taps>>> = Mutex::new(BTreeMap::new());

        let lengths = (n_inputs, n_outputs);
        if n_inputs > LONGEST_KEPT {
            return Arc::new(Self::new(n_inputs, n_outputs));
        }
        let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taps) = kept().get(&lengths) {
            return Arc::clone(taps);
        }
        let taps = Arc::new(Self::new(n_inputs, n_outputs));
        let mut kept = kept();
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(lengths, Arc::clone(&taps));
        taps
    }

    /// Returns the first input pixel, and the high and low parts of the weights.
    #[inline(always)]
    fn of(&self, output: usize) -> (usize, &[i16], &[i16]) {
        let weights = output * self.count..(output + 1) * self.count;
        (self.firsts[output], &self.high[weights.clone()], &self.low[weights])
    }

    /// Computes the weights. The order of floating-point operations is Pillow's
    /// (`precompute_coeffs`), because rounding must agree.
    fn new(n_inputs: usize, n_outputs: usize) -> Self {
        let scale = n_inputs as f64 / n_outputs as f64;
        let window_scale = scale.max(1.0);
        let support = SUPPORT * window_scale;
        let inverse = 1.0 / window_scale;

        let window = |output: usize| {
            let center = (output as f64 + 0.5) * scale;
            // Truncation after adding a half; a negative start saturates to 0.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(n_inputs);
            (center, first..end)
        };
        let most = (0..n_outputs).map(|output| window(output).1.len()).max().unwrap_or_default();
        let count = most.next_multiple_of(WEIGHTS);

        let mut firsts = Vec::with_capacity(n_outputs);
        let (mut high, mut low) = (vec![0; n_outputs * count], vec![0; n_outputs * count]);
        let mut exact: Vec<f64> = Vec::with_capacity(most);
        for (output, (high, low)) in high.chunks_mut(count).zip(low.chunks_mut(count)).enumerate() {
            let (center, inputs) = window(output);
            firsts.push(inputs.start);
            exact.clear();
            exact.extend(inputs.map(|input| lanczos((input as f64 - center + 0.5) * inverse)));
            let total: f64 = exact.iter().sum();
            for ((high, low), weight) in high.iter_mut().zip(low).zip(&exact) {
                let weight = fixed_point(weight / total);
                *high = (weight >> LOW_BITS) as i16;
                *low = (weight & ((1 << LOW_BITS) - 1)) as i16;
            }
        }
        Self { firsts, count, high, low }
    }
}

/// Rounds half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << FRACTION_BITS);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Returns the windowed sinc, 0 outside of -3 to 3.
fn lanczos(x: f64) -> f64 {
    if (-SUPPORT..SUPPORT).contains(&x) { sinc(x) * sinc(x / SUPPORT) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Luma {
        Luma::new(width, height, (0..width * height).map(|i| (i * 7 % 251) as u8).collect()).unwrap()
    }

    #[test]
    fn keeps_a_picture_of_the_right_size() {
        assert_eq!(resize_lanczos(&ramp(9, 8), 9, 8), ramp(9, 8));
    }

    #[test]
    fn keeps_an_even_picture_even() {
        // The partial sums of 20,000 pixels wrap around.
        for (width, height) in [(1, 1), (3, 200), (200, 3), (64, 64), (20_000, 2), (2, 20_000)] {
            let grey = Luma::new(width, height, vec![200; width * height]).unwrap();
            assert_eq!(resize_lanczos(&grey, 9, 8).values(), [200; 72]);
        }
    }

    #[test]
    fn starts_with_the_height_where_pillow_13_does() {
        // The boundary for 480-pixel-wide images reduced to 32 x 32, bisected with Pillow 13.0.0.
        assert!(!changes_height_first(&ramp(480, 928), 32, 32));
        assert!(changes_height_first(&ramp(480, 929), 32, 32));
        // Enlarging never starts with the height.
        assert!(!changes_height_first(&ramp(5, 30), 32, 32));
    }

    /// Values of `numpy.asarray(Image.fromarray(ramp).resize((3, 2), Image.Resampling.LANCZOS))`,
    /// Pillow 13.0.0.
    #[test]
    fn equals_pillow_on_a_ramp() {
        assert_eq!(resize_lanczos(&ramp(20, 10), 3, 2).values(), PILLOW_20_BY_10_TO_3_BY_2);
        assert_eq!(resize_lanczos(&ramp(4, 40), 3, 2).values(), PILLOW_4_BY_40_TO_3_BY_2);
    }

    const PILLOW_20_BY_10_TO_3_BY_2: [u8; 6] = [118, 135, 104, 127, 107, 142];

    const PILLOW_4_BY_40_TO_3_BY_2: [u8; 6] = [108, 118, 127, 114, 124, 133];
}
