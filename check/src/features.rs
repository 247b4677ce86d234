//! Frozen features of an image: 832 numbers by fixed formulas, which need no training.
//!
//! Colour means of an 8 × 8 grid (192), a histogram of 64 colours (64), and histograms of oriented
//! gradients of the same grid with nine directions (576; Dalal and Triggs, 2005, without
//! overlapping blocks). On real pairs, a decoder with these features uses its images after 100
//! steps; one with a vision transformer trained from scratch hardly does after 480.

use crate::matrix::Matrix;
use crate::principal;

/// Side of the square image that features are computed from, in pixels.
pub const SIDE: usize = 64;

/// Number of features of an image.
pub const FEATURES: usize = COLOURS + HISTOGRAM + GRADIENTS;

/// Cells of the grid in each direction.
const GRID: usize = 8;
const CELL: usize = SIDE / GRID;
const DIRECTIONS: usize = 9;
const COLOURS: usize = GRID * GRID * 3;
const HISTOGRAM: usize = 64;
const GRADIENTS: usize = GRID * GRID * DIRECTIONS;

/// Added to the length of a cell's gradient histogram before dividing by it, so that flat cells
/// stay near 0. The value is the one with which these features were chosen.
const FLAT: f32 = 20.0;

/// Returns the features of an RGB image of [`SIDE`] × [`SIDE`] pixels, row by row.
///
/// # Panics
///
/// If `pixels` has another length.
pub fn features(pixels: &[u8]) -> Vec<f32> {
    assert_eq!(pixels.len(), 3 * SIDE * SIDE, "a square RGB image of {SIDE} pixels");
    let mut colours = [0.0_f32; COLOURS];
    let mut histogram = [0.0_f32; HISTOGRAM];
    let mut grey = vec![0.0_f32; SIDE * SIDE];
    let (points, _) = pixels.as_chunks::<3>();
    for (place, point) in points.iter().enumerate() {
        let cell = place / SIDE / CELL * GRID + place % SIDE / CELL;
        for (colour, value) in point.iter().enumerate() {
            colours[cell * 3 + colour] += f32::from(*value);
        }
        let [red, green, blue] = point.map(|value| usize::from(value / 64));
        histogram[red * 16 + green * 4 + blue] += 1.0;
        grey[place] = point.iter().map(|value| f32::from(*value)).sum::<f32>() / 3.0;
    }
    let pixels_of_cell = (CELL * CELL) as f32;
    let mut out = Vec::with_capacity(FEATURES);
    out.extend(colours.map(|sum| sum / pixels_of_cell / 255.0));
    out.extend(histogram.map(|count| 2.0 * (count / (SIDE * SIDE) as f32).sqrt()));
    out.extend(gradients(&grey));
    out
}

/// Returns histograms of gradient directions per cell, weighted by the gradients' lengths.
fn gradients(grey: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0_f32; GRADIENTS];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let down = slope(|y| grey[y * SIDE + x], y);
            let right = slope(|x| grey[y * SIDE + x], x);
            let turn = down.atan2(right).rem_euclid(std::f32::consts::PI) / std::f32::consts::PI;
            let direction = ((turn * DIRECTIONS as f32) as usize).min(DIRECTIONS - 1);
            sums[(y / CELL * GRID + x / CELL) * DIRECTIONS + direction] += down.hypot(right);
        }
    }
    for cell in sums.chunks_exact_mut(DIRECTIONS) {
        for sum in cell.iter_mut() {
            *sum = sum.sqrt();
        }
        let length = cell.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in cell.iter_mut() {
            *value /= length + FLAT;
        }
    }
    sums
}

/// Returns the central difference, one-sided at the edges.
fn slope(value: impl Fn(usize) -> f32, at: usize) -> f32 {
    match at {
        0 => value(1) - value(0),
        at if at == SIDE - 1 => value(at) - value(at - 1),
        at => (value(at + 1) - value(at - 1)) / 2.0,
    }
}

/// Returns principal coordinates of the features of many images, one row per image: at most `most`
/// columns, in order of their variance, scaled so that the squares of a row sum to 1 on average.
pub fn coordinates(features: &Matrix, most: usize) -> Matrix {
    principal::coordinates(features, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grey_picture_has_one_colour_and_no_gradient() {
        let features = features(&[128; 3 * SIDE * SIDE]);
        assert_eq!(features.len(), FEATURES);
        assert!(features[..COLOURS].iter().all(|mean| (mean - 128.0 / 255.0).abs() < 1e-6));
        assert_eq!(features[COLOURS..][..HISTOGRAM].iter().filter(|share| **share > 0.0).count(), 1);
        assert!(features[COLOURS + HISTOGRAM..].iter().all(|gradient| *gradient == 0.0));
    }
}
