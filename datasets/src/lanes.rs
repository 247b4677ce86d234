//! Searches texts 16 bytes at a time.

use wide::u8x16;

/// Returns a number with a bit for every byte, the lowest for the first one: whether it is this
/// byte.
#[inline]
pub(crate) fn equal(bytes: u8x16, byte: u8) -> u32 {
    bytes.simd_eq(u8x16::splat(byte)).to_bitmask()
}

/// Returns a number with a bit for every byte, the lowest for the first one: whether it is at most
/// this byte.
#[inline]
pub(crate) fn at_most(bytes: u8x16, most: u8) -> u32 {
    bytes.simd_eq(bytes.min(u8x16::splat(most))).to_bitmask()
}

/// Returns the place of the first byte for which `find` sets a bit.
#[inline]
pub(crate) fn position(text: &[u8], find: impl Fn(u8x16) -> u32) -> Option<usize> {
    let (sixteens, rest) = text.as_chunks::<16>();
    for (place, bytes) in sixteens.iter().enumerate() {
        let found = find(u8x16::new(*bytes));
        if found != 0 {
            return Some(16 * place + found.trailing_zeros() as usize);
        }
    }
    if rest.is_empty() {
        return None;
    }
    let place = find(u8x16::new(padded(rest))).trailing_zeros() as usize;
    (place < rest.len()).then(|| text.len() - rest.len() + place)
}

/// Returns fewer than 16 bytes followed by zeros.
#[inline]
fn padded(bytes: &[u8]) -> [u8; 16] {
    let mut all = [0; 16];
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        // The last eight overlap the first.
        let overlap = 8 * (16 - bytes.len() as u32);
        let last = u64::from_le_bytes(*last).checked_shr(overlap).unwrap_or(0);
        all[..8].copy_from_slice(first);
        all[8..].copy_from_slice(&last.to_le_bytes());
        return all;
    }
    for (place, byte) in all.iter_mut().zip(bytes) {
        *place = *byte;
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn zeros_are_behind_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            let all = padded(&bytes);
            prop_assert_eq!(&all[..bytes.len()], &bytes[..]);
            prop_assert!(all[bytes.len()..].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn all_bytes_are_compared(text in prop::collection::vec(0..40_u8, 0..70), byte in 0..40_u8) {
            prop_assert_eq!(position(&text, |own| equal(own, byte)), text.iter().position(|own| *own == byte));
            prop_assert_eq!(position(&text, |own| at_most(own, byte)), text.iter().position(|own| *own <= byte));
        }
    }
}
