//! "Did you mean …?": the valid name nearest to a mistyped one.

/// The candidate with the fewest edits from `word`, if it is near enough to be meant: at most two, or a third of its letters. Case does not count.
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
        .map(|candidate| (edits(&word, &candidate.to_lowercase()), candidate))
        // Replacing every letter is no typing error, however short the word is.
        .filter(|(distance, candidate)| *distance <= farthest && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: the fewest insertions, deletions and substitutions of characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (a, b, distance) in [("", "", 0), ("kitten", "sitting", 3), ("", "ab", 2), ("größe", "grosse", 3)] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
            assert_eq!(edits(b, a), distance, "{b} {a}");
        }
    }

    #[test]
    fn another_short_word_is_not_meant() {
        assert_eq!(nearest("u", ["c", "id"]), None);
        assert_eq!(nearest("URL", ["url", "c"]), Some("url"));
        assert_eq!(nearest("link", ["url", "lnik"]), Some("lnik"));
    }
}
