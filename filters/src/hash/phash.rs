//! pHash: which low frequencies of the image are stronger than the median.

use super::dct::{LENGTH, dct};
use super::resize::resize_lanczos;
use crate::image_data::Luma;

/// Rows and columns of low frequencies that give the 64 bits (`hash_size` of ImageHash).
const LOW: usize = 8;

/// Returns the perceptual hash of `imagehash.phash(image)` with its default sizes.
///
/// The luma plane is resized to 32 x 32 and transformed by DCT-II along columns, then rows; each of
/// the lowest 8 x 8 coefficients (the constant one included) gives one bit: 1 if it exceeds the
/// median of the 64. Bits run row by row, the first is the most significant.
pub fn phash(luma: &Luma) -> u64 {
    let small = resize_lanczos(luma, LENGTH, LENGTH);

    // low_rows[v][x]: strength of the vertical frequency v in column x.
    let mut low_rows = [[0.0; LENGTH]; LOW];
    for x in 0..LENGTH {
        let column = dct(std::array::from_fn(|y| f64::from(small.row(y)[x])));
        for (row, strength) in low_rows.iter_mut().zip(column) {
            row[x] = strength;
        }
    }

    let mut coefficients = [0.0; LOW * LOW];
    for (row, low) in low_rows.into_iter().zip(coefficients.chunks_exact_mut(LOW)) {
        low.copy_from_slice(&dct(row)[..LOW]);
    }

    let median = median(coefficients);
    coefficients.iter().fold(0, |bits, &coefficient| bits << 1 | u64::from(coefficient > median))
}

/// Returns the median as NumPy computes it for an even count: the mean of the two in the middle.
fn median(mut values: [f64; LOW * LOW]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    f64::midpoint(values[LOW * LOW / 2 - 1], values[LOW * LOW / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_picture_has_only_the_constant_frequency() {
        let grey = Luma::new(50, 20, vec![93; 1000]).unwrap();
        assert_eq!(phash(&grey), 1 << 63);
        let black = Luma::new(50, 20, vec![0; 1000]).unwrap();
        assert_eq!(phash(&black), 0);
    }

    #[test]
    fn median_of_an_even_count_is_the_mean_of_the_middle_two() {
        let mut values: [f64; 64] = std::array::from_fn(|i| i as f64);
        values.reverse();
        assert!((median(values) - 31.5).abs() < f64::EPSILON);
    }
}
