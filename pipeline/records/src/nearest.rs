//! "Did you mean …?": the valid name nearest to a mistyped one.

use strsim::levenshtein;

/// Returns the candidate with the smallest Levenshtein distance to `word`. The distance must be at
/// most two, or at most a third of the letters of `word`, and below the length of the candidate.
/// Case is ignored.
///
/// ```
/// assert_eq!(lynxdata_records::nearest("captoin", ["caption", "url"]), Some("caption"));
/// assert_eq!(lynxdata_records::nearest("zebra", ["caption", "url"]), None);
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let farthest = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (levenshtein(&word, &candidate.to_lowercase()), candidate))
        // Replacing every letter is not a typing error, however short the word is.
        .filter(|(distance, candidate)| *distance <= farthest && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_short_word_is_not_meant() {
        assert_eq!(nearest("u", ["c", "id"]), None);
        assert_eq!(nearest("URL", ["url", "c"]), Some("url"));
        assert_eq!(nearest("link", ["url", "lnik"]), Some("lnik"));
    }
}
