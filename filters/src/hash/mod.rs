//! Perceptual hashes, equal bit for bit to those of Python's ImageHash 4.3.2 with Pillow 13.0.0 and
//! SciPy 1.17.1.
//!
//! Images that look alike have hashes with few differing bits ([`hamming`]). The hashes are
//! functions of the luma plane, so they are equal if the decoder gives the same pixels as Pillow.
//! It does so for JPEG, PNG, lossless WebP, GIF and BMP of the common kinds, and nearly always for
//! lossy WebP. It does not for some kinds of TIFF, 16-bit BMP and GIFs whose first frame does not
//! fill their screen.

mod dct;
mod dhash;
mod phash;
mod resize;

pub use dhash::dhash;
pub use phash::phash;

/// Returns the number of bits in which two hashes differ, from 0 (equal) to 64.
pub fn hamming(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

/// Returns the hash as ImageHash prints it: 16 lower-case hexadecimal digits.
pub fn hash_hex(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Reads a hash as [`hash_hex`] writes it (upper-case digits are accepted); `None` unless it has 16
/// hexadecimal digits.
pub fn parse_hash_hex(text: &str) -> Option<u64> {
    // from_str_radix alone would accept a plus sign and fewer digits.
    let is_hash = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { u64::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::image_data::ImageData;
    use crate::image_data::tests::golden;
    use crate::machine::shared;

    /// Maximum number of bits that another decoder of lossy WebP may flip.
    const MAX_DECODER_BITS: u32 = 2;

    #[test]
    fn equal_those_of_imagehash() {
        for row in golden() {
            let picture = row.decode();
            for (hash, expected) in [(phash(picture.luma()), &row.phash), (dhash(picture.luma()), &row.dhash)] {
                let distance = hamming(hash, parse_hash_hex(expected).unwrap());
                let allowed = if row.is_exact() { 0 } else { MAX_DECODER_BITS };
                assert!(distance <= allowed, "{}: {} is {distance} bits from {expected}", row.file, hash_hex(hash));
            }
        }
    }

    #[test]
    fn hamming_counts_differing_bits() {
        assert_eq!(hamming(0, 0), 0);
        assert_eq!(hamming(0b1010, 0b0110), 2);
        assert_eq!(hamming(0, u64::MAX), 64);
    }

    #[test]
    fn rejects_what_is_no_hash() {
        for text in ["", "0", "+123456789abcdef", "123456789abcdefg", "0123456789abcdef0", "０123456789abcde"] {
            assert_eq!(parse_hash_hex(text), None, "{text}");
        }
        assert_eq!(parse_hash_hex("ACA29C1C33DC23D7"), Some(0xaca2_9c1c_33dc_23d7));
    }

    proptest! {
        #[test]
        fn hex_reads_back(hash: u64) {
            let hex = hash_hex(hash);
            prop_assert_eq!(hex.len(), 16);
            prop_assert_eq!(parse_hash_hex(&hex), Some(hash));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _: Option<u64> = parse_hash_hex(&text);
        }
    }

    /// Photos and their edits, almost all JPEG: hashes by ImageHash.
    #[test]
    fn equal_reference_hashes_of_real_photos() {
        let Some(root) = shared("data/neardup") else { return };
        let mut reader =
            csv::ReaderBuilder::new().delimiter(b'\t').from_path(root.join("reference_hashes.tsv")).unwrap();
        let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
        let (mut compared, mut jpegs, mut wrong) = (0, 0, Vec::new());
        for row in &rows {
            let (Some(expected_phash), Some(expected_dhash)) =
                (parse_hash_hex(&row["phash"]), parse_hash_hex(&row["dhash"]))
            else {
                continue;
            };
            let bytes =
                std::fs::read(root.join(&row["file"])).unwrap_or_else(|error| panic!("{}: {error}", row["file"]));
            // The reference decoder supports formats that this one does not.
            let Ok(picture) = ImageData::decode(&bytes) else { continue };
            compared += 1;
            jpegs += u32::from(bytes.starts_with(&[0xff, 0xd8]));
            if (phash(picture.luma()), dhash(picture.luma())) != (expected_phash, expected_dhash) {
                wrong.push(row["file"].clone());
            }
        }
        eprintln!("{compared} pictures, {jpegs} of them JPEG");
        assert!(compared >= 300 && jpegs >= 250, "only {compared} pictures, {jpegs} of them JPEG");
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
