//! The amount of fine detail in the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::{ImageData, Luma};

/// The variance of the Laplacian.
pub(super) const SIGNAL: Signal = Signal {
    name: "sharpness",
    description: "Population variance of the Laplacian of the 8-bit luma plane: the sum of the four neighbours minus four times \
     the pixel, mirrored at the border without repeating it, as OpenCV's Laplacian(luma, CV_64F).var(). Blurred \
     and flat images are low. It falls when an image is enlarged, so compare images of one size.",
    unit: "squared luma steps",
    range: (Some(0.0), Some(MAX_VARIANCE)),
    needs: Needs::Pixels,
    signal_type: SignalType::Float,
    source: "variance of Laplacian: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000; \
     kernel and border of OpenCV 5.0",
    function: Some(|sample| sample.image.map(ImageData::luma).map(laplacian_variance).into()),
};

/// Maximum variance of values between -1020 and 1020, which are the bounds of the Laplacian of
/// 8-bit values: their square (Popoviciu's inequality).
const MAX_VARIANCE: f64 = 1020.0 * 1020.0;

fn laplacian_variance(luma: &Luma) -> f64 {
    let (sum, sum_of_squares) = pulp::Arch::new().dispatch(LaplacianSums(luma));
    // With 100 million values of at most 1020, the products need more than 64 bits.
    let n = i128::from((luma.width() * luma.height()) as u64);
    let scaled = n * i128::from(sum_of_squares) - i128::from(sum) * i128::from(sum);
    scaled as f64 / (n * n) as f64
}

/// Computes the sums of the Laplacian and of its squares, compiled once for each set of
/// instructions. The sums are integers, so the order of additions does not matter.
struct LaplacianSums<'a>(&'a Luma);

impl pulp::WithSimd for LaplacianSums<'_> {
    type Output = (i64, i64);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> (i64, i64) {
        let Self(luma) = self;
        let (width, height) = (luma.width(), luma.height());
        let (mut sum, mut sum_of_squares) = (0, 0);
        // The row with its ends mirrored.
        let mut mirrored = vec![0; width + 2];
        for y in 0..height {
            let row = luma.row(y);
            let above = luma.row(if y == 0 { mirrored_end(height) } else { y - 1 });
            let below = luma.row(if y + 1 == height { y.saturating_sub(1) } else { y + 1 });
            mirrored[1..=width].copy_from_slice(row);
            (mirrored[0], mirrored[width + 1]) = (row[mirrored_end(width)], row[width.saturating_sub(2)]);
            for start in (0..width).step_by(MOST_IN_32_BITS) {
                let end = width.min(start + MOST_IN_32_BITS);
                let (of_row, of_squares) =
                    sums(&above[start..end], &below[start..end], &row[start..end], &mirrored[start..end + 2]);
                sum += i64::from(of_row);
                sum_of_squares += i64::from(of_squares);
            }
        }
        (sum, sum_of_squares)
    }
}

/// Number of squares of at most 1020² whose sum fits into a signed 32-bit integer.
const MOST_IN_32_BITS: usize = 2048;

/// Returns the sums of a piece of a row. `mirrored` is the same piece of the row, extended by one
/// pixel on each side.
#[inline(always)]
fn sums(above: &[u8], below: &[u8], row: &[u8], mirrored: &[u8]) -> (i32, i32) {
    let length = row.len();
    let (above, below, left, right) =
        (&above[..length], &below[..length], &mirrored[..length], &mirrored[2..][..length]);
    let (mut sum, mut sum_of_squares) = (0, 0);
    for x in 0..length {
        let neighbours = i16::from(above[x]) + i16::from(below[x]) + i16::from(left[x]) + i16::from(right[x]);
        let laplacian = i32::from(neighbours - 4 * i16::from(row[x]));
        sum += laplacian;
        sum_of_squares += laplacian * laplacian;
    }
    (sum, sum_of_squares)
}

/// Returns the pixel that mirrors the one before the first: the second, or the first itself in a
/// line of one pixel.
fn mirrored_end(length: usize) -> usize {
    usize::from(length > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::golden;

    #[test]
    fn equals_opencvs() {
        for row in golden() {
            let variance = laplacian_variance(row.decode().luma());
            let tolerance = if row.is_exact() { 1e-12 } else { 0.02 };
            let difference = (variance - row.sharpness).abs() / row.sharpness.max(1.0);
            assert!(difference <= tolerance, "{}: {variance}, golden {}", row.file, row.sharpness);
        }
    }

    #[test]
    fn lines_of_one_pixel_work() {
        for (width, height) in [(1, 1), (1, 5), (5, 1), (2, 2)] {
            let luma = Luma::new(width, height, vec![77; width * height]).unwrap();
            assert_eq!(laplacian_variance(&luma).to_bits(), 0.0f64.to_bits());
        }
    }

    #[test]
    fn sums_are_those_of_the_formula() {
        for (width, height) in [(1, 1), (1, 3), (2, 3), (3, 2), (17, 9), (MOST_IN_32_BITS + 1, 3)] {
            let values: Vec<u8> = (0..width * height).map(|index| (index * index * 37 % 256) as u8).collect();
            let luma = Luma::new(width, height, values).unwrap();
            let mirror = |at: usize, step: isize, length: usize| match at.checked_add_signed(step) {
                Some(neighbour) if neighbour < length => neighbour,
                _ => at.checked_add_signed(-step).filter(|neighbour| *neighbour < length).unwrap_or(at),
            };
            let at = |x: usize, y: usize| i64::from(luma.row(y)[x]);
            let laplacians = (0..width * height).map(|index| {
                let (x, y) = (index % width, index / width);
                let across = at(mirror(x, -1, width), y) + at(mirror(x, 1, width), y);
                across + at(x, mirror(y, -1, height)) + at(x, mirror(y, 1, height)) - 4 * at(x, y)
            });
            let expected = laplacians.fold((0, 0), |(sum, squares), value| (sum + value, squares + value * value));
            assert_eq!(pulp::Arch::new().dispatch(LaplacianSums(&luma)), expected, "{width} x {height}");
        }
        // The largest possible values, in one piece.
        let chessboard: Vec<u8> = (0..MOST_IN_32_BITS * 2)
            .map(|index| if (index + index / MOST_IN_32_BITS).is_multiple_of(2) { 0 } else { 255 })
            .collect();
        let luma = Luma::new(MOST_IN_32_BITS, 2, chessboard).unwrap();
        assert!((laplacian_variance(&luma) - MAX_VARIANCE).abs() < 1e-9);
    }
}
