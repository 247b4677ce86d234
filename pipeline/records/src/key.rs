//! Keys of pairs, and fingerprints of work.

use lynxdata_hash::{hash, hex};

/// Returns the key of a pair: 32 hexadecimal digits, the shape of DataComp's `uid`.
///
/// It is the first half of the hash of "pair", the row number in the source (from 0), the URL and
/// the caption. So two identical rows have two keys, and rows that are appended to a source change
/// no earlier key. It holds hexadecimal digits only, so it is safe as a file name.
///
/// ```
/// let key = lynxdata_records::uid(0, "https://example.org/cat.jpg", "A cat");
/// assert_eq!(key.len(), 32);
/// assert_ne!(key, lynxdata_records::uid(1, "https://example.org/cat.jpg", "A cat"));
/// ```
pub fn uid(row: u64, url: &str, caption: &str) -> String {
    let digest = fingerprint(["pair", &row.to_string(), url, caption]);
    digest[..32].to_owned()
}

/// Returns the hash of a list of texts as 64 hexadecimal digits; see [`lynxdata_hash`].
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    hex(&hash(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stable_across_versions() {
        // Published selections refer to pairs by their keys, so keys must not change.
        let key = uid(7, "https://example.org/a.jpg", "a boat");
        assert_eq!(key, uid(7, "https://example.org/a.jpg", "a boat"));
        assert!(key.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
        assert_ne!(key, uid(7, "https://example.org/a.jpg", "a goat"));
    }
}
