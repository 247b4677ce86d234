//! Texts as words, and the thresholds at which two captions are nearly or partly the same.

use unicode_segmentation::UnicodeSegmentation;

/// Returns the words of a text in lower case, without punctuation, by Unicode's rules (UAX #29),
/// which split Chinese and Japanese into characters.
pub(crate) fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.unicode_words().map(str::to_owned).collect()
}

/// Number of words of a span that two texts of different images share only if one was copied:
/// eight, as in the decontamination of PaLM (Chowdhery et al., 2022).
pub(crate) const SPAN: usize = 8;

/// Two texts are near-duplicates if this fraction of their distinct words is in both: the Jaccard
/// threshold of the deduplication of GPT-3's and The Pile's successors (0.8 in SlimPajama and
/// RefinedWeb).
pub(crate) const NEAR_DUPLICATE: f64 = 0.8;

/// Texts with fewer distinct words are near-duplicates only if they are equal: with so few words,
/// one other word makes another caption.
pub(crate) const NEAR_DUPLICATE_WORDS: usize = 5;

/// Returns all spans of [`SPAN`] words.
pub(crate) fn spans(words: &[u32]) -> impl Iterator<Item = &[u32]> {
    words.windows(SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_without_punctuation() {
        assert_eq!(words("A red-Ball, on the GRASS!"), ["a", "red", "ball", "on", "the", "grass"]);
        assert_eq!(words("红色的球").len(), 4);
        assert!(words(" … ").is_empty());
    }
}
