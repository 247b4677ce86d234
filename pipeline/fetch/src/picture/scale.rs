//! Scaling of one plane of samples by a separable filter that is widened when it shrinks, as Pillow's `resize` does.
//!
//! Sixteen rows of the result are made at a time: first their columns at the width of the source, then, with the sixteen side by side, their rows, so
//! that both steps are the same operation on many numbers. The numbers are `f32` without fused operations, so that all machines agree.

#![allow(
    clippy::inline_always,
    reason = "only what becomes part of its caller is compiled for the caller's instructions"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "places of several arrays at once, in loops that become vector instructions"
)]

use std::ops::Range;

/// Rows of the result that are made together.
const LANES: usize = 16;
/// Columns of the source that are taken together.
const COLUMNS: usize = 16;

/// A kernel: its weight at a distance, and the distance from which on that is 0. Both count samples of the smaller of source and result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Pillow's `BILINEAR`.
    Triangle,
    /// Pillow's `BICUBIC`: the cubic convolution of R. Keys (IEEE Trans. ASSP 29, 1981) with a = -1/2.
    CatmullRom,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Triangle => 1.0,
            Filter::CatmullRom => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        let distance = distance.abs();
        match self {
            Filter::Triangle => (1.0 - distance).max(0.0),
            Filter::CatmullRom if distance < 1.0 => (1.5 * distance - 2.5) * distance * distance + 1.0,
            Filter::CatmullRom if distance < 2.0 => ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0,
            Filter::CatmullRom => 0.0,
        }
    }
}

/// A plane of samples.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Rows from top to bottom, each `stride` long.
    pub samples: &'a [u8],
    pub stride: usize,
    /// Columns and rows before the picture begins.
    pub origin: (usize, usize),
    /// Width and height of the picture in samples; its edge may lie within the last ones. More than 0, and within the rows and columns that there are.
    pub extent: (f64, f64),
}

/// The picture at `width` x `height` samples, at least 1 each. Its edge may lie within the last ones: `extent`, counted in samples of the result, is as
/// far as it reaches.
pub(super) fn scale(
    source: Source<'_>,
    (width, height): (usize, usize),
    extent: (f64, f64),
    filter: Filter,
) -> Vec<u8> {
    let columns = &Weights::new(source.extent.0, width, extent.0, filter);
    let rows = &Weights::new(source.extent.1, height, extent.1, filter);
    let mut samples = vec![0; width * height];
    pulp::Arch::new().dispatch(Scale { source, columns, rows, samples: &mut samples });
    samples
}

/// What each sample of the result takes of the samples of the source, along one dimension.
struct Weights {
    /// The first sample that is taken.
    starts: Vec<usize>,
    /// How many are taken.
    count: usize,
    /// As many for each sample of the result.
    values: Vec<f32>,
    /// How many samples the source has.
    available: usize,
}

impl Weights {
    fn new(extent: f64, length: usize, scaled_extent: f64, filter: Filter) -> Self {
        let available = extent.ceil() as usize;
        let scale = extent / scaled_extent;
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        // Samples whose centres are within the support, as `precompute_coeffs` of Pillow's Resample.c counts them.
        let window = |index: usize| -> Range<usize> {
            let centre = (index as f64 + 0.5) * scale;
            let end = ((centre + support + 0.5) as usize).min(available);
            let start = ((centre - support + 0.5).max(0.0) as usize).min(end - 1);
            start..end
        };
        let count = (0..length).map(|index| window(index).len()).max().unwrap_or(1);
        let (mut starts, mut values) = (Vec::with_capacity(length), vec![0.0; length * count]);
        for (index, values) in values.chunks_exact_mut(count).enumerate() {
            let window = window(index);
            let centre = (index as f64 + 0.5) * scale;
            let weight = |place: usize| filter.weight((place as f64 + 0.5 - centre) / widened);
            let sum: f64 = window.clone().map(weight).sum();
            // All windows are equally long; at the end they begin earlier, with weights of 0.
            let start = window.start.min(available - count);
            for place in window {
                values[place - start] = (weight(place) / sum) as f32;
            }
            starts.push(start);
        }
        Weights { starts, count, values, available }
    }

    fn of(&self, index: usize) -> (usize, &[f32]) {
        (self.starts[index], &self.values[index * self.count..(index + 1) * self.count])
    }
}

/// Compiled once for each set of instructions.
struct Scale<'a> {
    source: Source<'a>,
    columns: &'a Weights,
    rows: &'a Weights,
    samples: &'a mut [u8],
}

impl pulp::WithSimd for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Scale { source, columns, rows, samples } = self;
        let width = columns.starts.len();
        // Of each column, the samples of all rows that are made together.
        let mut strip = vec![[0.0_f32; LANES]; columns.available];
        let mut scaled = vec![[0_u8; LANES]; width];
        for (strip_index, samples) in samples.chunks_mut(width * LANES).enumerate() {
            let made = samples.len() / width;
            for (chunk, strip) in strip.chunks_mut(COLUMNS).enumerate() {
                for lane in 0..made {
                    let (start, weights) = rows.of(strip_index * LANES + lane);
                    let sums = sum_rows(source, chunk * COLUMNS, strip.len(), start, weights);
                    for (column, sum) in strip.iter_mut().zip(sums) {
                        column[lane % LANES] = sum;
                    }
                }
            }
            for (index, scaled) in scaled.iter_mut().enumerate() {
                let (start, weights) = columns.of(index);
                let mut sums = [0.0; LANES];
                for (column, weight) in strip[start..start + weights.len()].iter().zip(weights) {
                    for lane in 0..LANES {
                        sums[lane] += column[lane] * weight;
                    }
                }
                *scaled = sums.map(to_byte);
            }
            for (lane, row) in samples.chunks_exact_mut(width).enumerate() {
                for (sample, column) in row.iter_mut().zip(&scaled) {
                    *sample = column[lane % LANES];
                }
            }
        }
    }
}

/// The weighted sums of rows of the source, for a few columns.
#[inline(always)]
fn sum_rows(source: Source<'_>, column: usize, columns: usize, start: usize, weights: &[f32]) -> [f32; COLUMNS] {
    let begin = (source.origin.1 + start) * source.stride + source.origin.0 + column;
    let mut sums = [0.0; COLUMNS];
    for (row, weight) in source.samples[begin..].chunks(source.stride).zip(weights) {
        if let (Some(row), COLUMNS) = (row.first_chunk::<COLUMNS>(), columns) {
            for index in 0..COLUMNS {
                sums[index] += f32::from(row[index]) * weight;
            }
        } else {
            for (sum, sample) in sums.iter_mut().zip(&row[..columns]) {
                *sum += f32::from(*sample) * weight;
            }
        }
    }
    sums
}

/// Rounds and clamps.
#[inline(always)]
fn to_byte(value: f32) -> u8 {
    // Added to 1.5 * 2^23, a number is rounded to a whole one, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    (value.clamp(0.0, 255.0) + ROUND).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums as the formula has them, in `f64`, rows first.
    fn by_the_formula(source: Source<'_>, size: (usize, usize), extent: (f64, f64), filter: Filter) -> Vec<f64> {
        let weights = |extent: f64, index: usize, scaled: f64| {
            let (scale, available) = (extent / scaled, extent.ceil() as usize);
            let centre = (index as f64 + 0.5) * scale;
            let weight = move |place: usize| filter.weight((place as f64 + 0.5 - centre) / scale.max(1.0));
            let sum: f64 = (0..available).map(weight).sum();
            (0..available).map(move |place| weight(place) / sum).collect::<Vec<_>>()
        };
        let mut values = Vec::new();
        for y in 0..size.1 {
            let rows = weights(source.extent.1, y, extent.1);
            for x in 0..size.0 {
                let columns = weights(source.extent.0, x, extent.0);
                let sample = |row: usize, column: usize| {
                    source.samples[(source.origin.1 + row) * source.stride + source.origin.0 + column]
                };
                let row_sum = |row: usize| -> f64 {
                    columns.iter().enumerate().map(|(column, weight)| weight * f64::from(sample(row, column))).sum()
                };
                values.push(rows.iter().enumerate().map(|(row, weight)| weight * row_sum(row)).sum());
            }
        }
        values
    }

    #[test]
    fn every_sample_is_the_sum_of_the_formula() {
        let mut state = 1_u32;
        let samples: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(80 * 60)
        .collect();
        for filter in [Filter::Triangle, Filter::CatmullRom] {
            for (extent, size) in [
                ((40.0, 30.0), (20, 15)),
                ((33.0, 17.0), (33, 17)),
                ((50.5, 21.25), (23, 18)),
                ((7.0, 5.0), (64, 50)),
                ((1.0, 1.0), (3, 2)),
                ((0.5, 40.0), (1, 1)),
                ((61.0, 1.0), (2, 1)),
            ] {
                for cut in [0.0, 0.5] {
                    let source = Source { samples: &samples, stride: 80, origin: (3, 2), extent };
                    let scaled_extent = (size.0 as f64 - cut, size.1 as f64 - cut);
                    let found = scale(source, size, scaled_extent, filter);
                    let wanted = by_the_formula(source, size, scaled_extent, filter);
                    for (found, wanted) in found.into_iter().zip(wanted) {
                        let difference = (f64::from(found) - wanted.clamp(0.0, 255.0)).abs();
                        assert!(difference < 0.501, "{extent:?} to {size:?} by {filter:?}: {found} for {wanted}");
                    }
                }
            }
        }
    }
}
