//! The hash of a list of texts: the base of all keys, fingerprints and random choices.
//!
//! The hash is BLAKE3 over the texts, each preceded by its length as 8 bytes, little endian. The
//! lengths keep apart lists that differ only in where one text ends. Published data holds values of
//! this hash, so it must never change.
//!
//! ```
//! use lynxdata_hash::{hash, hex, number};
//!
//! assert_ne!(hex(&hash(["ab", "c"])), hex(&hash(["a", "bc"])));
//! assert_eq!(number(&hash(["ab"])), number(&hash(["ab"])));
//! ```

pub use blake3::Hasher;

/// Returns the hash of a list of texts.
pub fn hash<'a>(texts: impl IntoIterator<Item = &'a str>) -> Hasher {
    let mut hasher = Hasher::new();
    texts.into_iter().for_each(|text| add(&mut hasher, text.as_bytes()));
    hasher
}

/// Returns the hash of a list of texts, keyed with a seed (BLAKE3's keyed mode).
pub fn seeded<'a>(seed: u64, texts: impl IntoIterator<Item = &'a str>) -> Hasher {
    let mut key = [0; blake3::KEY_LEN];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // One call for all bytes: each has a cost of its own.
    let mut bytes = Vec::with_capacity(SHORT);
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    let mut hasher = Hasher::new_keyed(&key);
    hasher.update(&bytes);
    hasher
}

/// The number of bytes of a list of texts for which there is room at first.
const SHORT: usize = 128;

/// Adds a text, or other bytes, preceded by its length.
pub fn add(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// Returns the hash as 64 hexadecimal digits.
pub fn hex(hasher: &Hasher) -> String {
    hasher.finalize().to_hex().to_string()
}

/// Returns the first 8 bytes of the hash as a number, little endian.
pub fn number(hasher: &Hasher) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_pinned() {
        // Computed with Python's blake3 1.0.11 over the same bytes.
        assert_eq!(number(&seeded(7, ["template", "vqav2", "1"])), 3_142_679_780_938_631_473);
        assert_eq!(hex(&hash(["ab", "c"])), "a0968c014f3fc7bd1a7d9a8d1ad1177eb379bd2f05e56309eb4e20347c5e7eba");
        assert_ne!(number(&seeded(7, ["a"])), number(&seeded(8, ["a"])));
        assert_ne!(hex(&hash(["ab"])), hex(&hash(["ab", ""])));
    }
}
