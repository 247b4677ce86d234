//! dHash: where the image gets brighter from left to right.

use super::resize::resize_lanczos;
use crate::image_data::Luma;

/// Rows of the reduced image, and bits in a row (`hash_size` of ImageHash).
const SIZE: usize = 8;

/// Returns the difference hash of `imagehash.dhash(image)` with its default size.
///
/// The luma plane is resized to 9 x 8; a bit is 1 where a value exceeds its left neighbour. Bits
/// run row by row, the first is the most significant.
pub fn dhash(luma: &Luma) -> u64 {
    let small = resize_lanczos(luma, SIZE + 1, SIZE);
    let rows = (0..SIZE).flat_map(|y| small.row(y).array_windows());
    rows.fold(0, |bits, [left, right]| bits << 1 | u64::from(right > left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_gradient() {
        let brighter: Vec<u8> = (0..72).map(|i| (i % 9) * 20).collect();
        let darker: Vec<u8> = brighter.iter().map(|v| 255 - v).collect();
        assert_eq!(dhash(&Luma::new(9, 8, brighter).unwrap()), u64::MAX);
        assert_eq!(dhash(&Luma::new(9, 8, darker).unwrap()), 0);
    }
}
