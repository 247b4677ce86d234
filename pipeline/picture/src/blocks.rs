//! Code that JPEG decoding and encoding share: the order of coefficients, and blocks of 8 x 8
//! bytes.

/// For each coefficient in zigzag order, its index in natural order (ITU-T T.81, figure A.6).
pub(super) const NATURAL_ORDER: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Transposes 8 x 8 bytes: swaps the off-diagonal parts of every 2 x 2 square, for parts of four,
/// then two, then one byte.
#[inline(always)]
pub(super) fn transposed(mut rows: [u64; 8]) -> [u64; 8] {
    for (distance, mask) in [(4, 0xffff_ffff), (2, 0xffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
        for row in (0..8).filter(|row| row & distance == 0) {
            let shift = 8 * distance as u32;
            let mixed = (rows[row] >> shift ^ rows[row + distance]) & mask;
            rows[row] ^= mixed << shift;
            rows[row + distance] ^= mixed;
        }
    }
    rows
}
