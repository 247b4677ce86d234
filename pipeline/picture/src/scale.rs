//! Scales with a separable filter that is widened for downscaling, as Pillow's `resize` does.
//!
//! Sixteen rows of the result are computed at a time: first vertically, at the width of the source,
//! then horizontally, with the values of the sixteen rows adjacent in memory. So both steps are the
//! same operation on many numbers. The numbers are `f32` without fused operations, so that all
//! machines agree.

use std::ops::Range;

/// Rows of the result that are computed together.
const LANES: usize = 16;
/// Samples of a source row that are processed together.
const COLUMNS: usize = 16;

/// A filter kernel. Distances are in samples of the smaller of source and result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// Pillow's `BILINEAR`.
    Triangle,
    /// Pillow's `BICUBIC`: the cubic convolution of R. Keys (IEEE Trans. ASSP 29, 1981) with a =
    /// -1/2.
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

/// An image whose pixels have `CHANNELS` interleaved samples, or a plane with one.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, const CHANNELS: usize> {
    /// Rows from top to bottom, each `stride` samples long.
    pub samples: &'a [u8],
    pub stride: usize,
    /// Columns and rows before the image begins.
    pub origin: (usize, usize),
    /// Columns and rows of the image.
    pub size: (usize, usize),
    /// The part of the image that is scaled. Near its edges, the filter reads beyond it.
    pub part: Part,
}

/// A rectangle of an image, in pixels: left, top, width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    pub start: (f64, f64),
    pub extent: (f64, f64),
}

/// Scales the part of the source to `width` x `height` pixels, at least 1 each. `extent` is the
/// size of the part in pixels of the result; its edge may lie within the last pixels.
pub(super) fn scale<const CHANNELS: usize>(
    source: Source<'_, CHANNELS>,
    (width, height): (usize, usize),
    extent: (f64, f64),
    filter: Filter,
) -> Vec<u8> {
    let Part { start, extent: part } = source.part;
    let columns = &Weights::new(source.size.0, (start.0, part.0), (width, extent.0), filter);
    let rows = &Weights::new(source.size.1, (start.1, part.1), (height, extent.1), filter);
    let mut samples = vec![0; width * height * CHANNELS];
    pulp::Arch::new().dispatch(Scale { source, columns, rows, samples: &mut samples });
    samples
}

/// The weights of source pixels for each pixel of the result, along one dimension.
struct Weights {
    /// The first source pixel for each pixel of the result.
    starts: Vec<usize>,
    /// Number of weights for each pixel of the result.
    count: usize,
    /// Weights, `count` for each pixel of the result.
    values: Vec<f32>,
    /// The range of source pixels that are used for any pixel of the result.
    taken: Range<usize>,
}

impl Weights {
    /// Computes the weights of `length` pixels of the result. The source has `available` pixels;
    /// its part from `start`, `extent` long, becomes `scaled_extent` pixels of the result.
    fn new(
        available: usize,
        (start, extent): (f64, f64),
        (length, scaled_extent): (usize, f64),
        filter: Filter,
    ) -> Self {
        let scale = extent / scaled_extent;
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        let centre = |index: usize| start + (index as f64 + 0.5) * scale;
        // Pixels whose centres are within the support, rounded as in `precompute_coeffs` of
        // Pillow's Resample.c.
        let window = |index: usize| -> Range<usize> {
            let end = ((centre(index) + support + 0.5) as usize).min(available);
            let start = ((centre(index) - support + 0.5).max(0.0) as usize).min(end - 1);
            start..end
        };
        let count = (0..length).map(|index| window(index).len()).max().unwrap_or(1);
        let (mut starts, mut values) = (Vec::with_capacity(length), vec![0.0; length * count]);
        for (index, values) in values.chunks_exact_mut(count).enumerate() {
            let window = window(index);
            // All windows have the same length. At the end they begin earlier, with weights of 0.
            let start = window.start.min(available - count);
            let mut sum = 0.0;
            for place in window {
                let weight = filter.weight((place as f64 + 0.5 - centre(index)) / widened);
                values[place - start] = weight as f32;
                sum += weight;
            }
            for value in values {
                *value = (f64::from(*value) / sum) as f32;
            }
            starts.push(start);
        }
        let first = starts.first().copied().unwrap_or_default();
        let end = starts.last().map_or(0, |last| last + count);
        Weights { starts, count, values, taken: first..end }
    }

    fn of(&self, index: usize) -> (usize, &[f32]) {
        (self.starts[index], &self.values[index * self.count..(index + 1) * self.count])
    }
}

/// Numbers aligned to cache lines. They are stored and loaded again at once, which is slow if they
/// span two cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned<const COUNT: usize>([f32; COUNT]);

/// Compiled once for each set of instructions.
struct Scale<'a, const CHANNELS: usize> {
    source: Source<'a, CHANNELS>,
    columns: &'a Weights,
    rows: &'a Weights,
    samples: &'a mut [u8],
}

impl<const CHANNELS: usize> pulp::WithSimd for Scale<'_, CHANNELS> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Scale { source, columns, rows, samples } = self;
        let row_length = columns.starts.len() * CHANNELS;
        let first = (source.origin.0 + columns.taken.start) * CHANNELS;
        // For each sample of a row, the values of all rows that are computed together.
        let mut strip = vec![Aligned([0.0; LANES]); columns.taken.len() * CHANNELS];
        let mut scaled = vec![[0_u8; LANES]; row_length];
        for (strip_index, samples) in samples.chunks_mut(row_length * LANES).enumerate() {
            let made = samples.len() / row_length;
            for (chunk, strip) in strip.chunks_mut(COLUMNS).enumerate() {
                for lane in 0..made {
                    let (start, weights) = rows.of(strip_index * LANES + lane);
                    let begin = (source.origin.1 + start) * source.stride + first + chunk * COLUMNS;
                    let sums = sum_rows(&source.samples[begin..], source.stride, strip.len(), weights);
                    for (column, sum) in strip.iter_mut().zip(sums.0) {
                        column.0[lane % LANES] = sum;
                    }
                }
            }
            for (index, scaled) in scaled.as_chunks_mut::<CHANNELS>().0.iter_mut().enumerate() {
                let (start, weights) = columns.of(index);
                let strip = &strip.as_chunks::<CHANNELS>().0[start - columns.taken.start..][..weights.len()];
                for (channel, scaled) in scaled.iter_mut().enumerate() {
                    let mut sums = Aligned([0.0; LANES]);
                    for (column, weight) in strip.iter().zip(weights) {
                        for lane in 0..LANES {
                            sums.0[lane] += column[channel].0[lane] * weight;
                        }
                    }
                    *scaled = sums.0.map(to_byte);
                }
            }
            for (lane, row) in samples.chunks_exact_mut(row_length).enumerate() {
                for (sample, column) in row.iter_mut().zip(&scaled) {
                    *sample = column[lane % LANES];
                }
            }
        }
    }
}

/// Returns the weighted sums over rows of their first `count` samples.
#[inline(always)]
fn sum_rows(samples: &[u8], stride: usize, count: usize, weights: &[f32]) -> Aligned<COLUMNS> {
    let mut aligned = Aligned([0.0; COLUMNS]);
    let sums = &mut aligned.0;
    for (row, weight) in samples.chunks(stride).zip(weights) {
        if let (Some(row), COLUMNS) = (row.first_chunk::<COLUMNS>(), count) {
            for index in 0..COLUMNS {
                sums[index] += f32::from(row[index]) * weight;
            }
        } else {
            for (sum, sample) in sums.iter_mut().zip(&row[..count]) {
                *sum += f32::from(*sample) * weight;
            }
        }
    }
    aligned
}

/// Clamps to 0 to 255 and rounds.
#[inline(always)]
pub(super) fn to_byte(value: f32) -> u8 {
    // Adding 1.5 * 2^23 rounds a number to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    (value.clamp(0.0, 255.0) + ROUND).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums as the formula has them, in `f64`, rows first.
    fn by_the_formula(
        source: Source<'_, 3>,
        size: (usize, usize),
        extent: (f64, f64),
        filter: Filter,
    ) -> Vec<[f64; 3]> {
        let weights = |available: usize, start: f64, extent: f64, index: usize, scaled: f64| {
            let scale = extent / scaled;
            let centre = start + (index as f64 + 0.5) * scale;
            let weight = move |place: usize| filter.weight((place as f64 + 0.5 - centre) / scale.max(1.0));
            let sum: f64 = (0..available).map(weight).sum();
            (0..available).map(move |place| weight(place) / sum).collect::<Vec<_>>()
        };
        let Part { start, extent: part } = source.part;
        let mut values = Vec::new();
        for y in 0..size.1 {
            let rows = weights(source.size.1, start.1, part.1, y, extent.1);
            for x in 0..size.0 {
                let columns = weights(source.size.0, start.0, part.0, x, extent.0);
                values.push(std::array::from_fn(|channel| {
                    let sample = |row: usize, column: usize| {
                        let begin = (source.origin.1 + row) * source.stride + (source.origin.0 + column) * 3;
                        f64::from(source.samples[begin + channel])
                    };
                    let row_sum = |row: usize| -> f64 {
                        columns.iter().enumerate().map(|(column, weight)| weight * sample(row, column)).sum()
                    };
                    rows.iter().enumerate().map(|(row, weight)| weight * row_sum(row)).sum()
                }));
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
        .take(80 * 3 * 60)
        .collect();
        for filter in [Filter::Triangle, Filter::CatmullRom] {
            for (size, start, extent, scaled) in [
                ((40, 30), (0.0, 0.0), (40.0, 30.0), (20, 15)),
                ((33, 17), (0.0, 0.0), (33.0, 17.0), (33, 17)),
                ((51, 22), (0.0, 0.0), (50.5, 21.25), (23, 18)),
                ((7, 5), (0.0, 0.0), (7.0, 5.0), (64, 50)),
                ((1, 1), (0.0, 0.0), (1.0, 1.0), (3, 2)),
                ((1, 40), (0.0, 0.0), (0.5, 40.0), (1, 1)),
                ((61, 1), (0.0, 0.0), (61.0, 1.0), (2, 1)),
                ((60, 40), (20.25, 10.5), (9.5, 20.0), (5, 7)),
                ((60, 40), (0.0, 35.0), (60.0, 5.0), (31, 20)),
            ] {
                for cut in [0.0, 0.5] {
                    let source = Source::<3> {
                        samples: &samples,
                        stride: 240,
                        origin: (3, 2),
                        size,
                        part: Part { start, extent },
                    };
                    let scaled_extent = (scaled.0 as f64 - cut, scaled.1 as f64 - cut);
                    let found = scale(source, scaled, scaled_extent, filter);
                    let wanted = by_the_formula(source, scaled, scaled_extent, filter);
                    for (found, wanted) in found.iter().zip(wanted.as_flattened()) {
                        let difference = (f64::from(*found) - wanted.clamp(0.0, 255.0)).abs();
                        assert!(difference < 0.501, "{size:?} to {scaled:?} by {filter:?}: {found} for {wanted}");
                    }
                    // A plane of one channel alone.
                    let plane: Vec<u8> = samples.iter().copied().skip(1).step_by(3).collect();
                    let source = Source::<1> { samples: &plane, stride: 80, origin: (3, 2), size, part: source.part };
                    let alone = scale(source, scaled, scaled_extent, filter);
                    assert!(found.iter().skip(1).step_by(3).eq(&alone));
                }
            }
        }
    }
}
