//! Finds wordings that say the same thing in nearly the same words.

use std::collections::BTreeSet;

use crate::{Bank, Template};

/// The share of common tokens above which two wordings are near duplicates.
///
/// Self-Instruct (arXiv 2212.10560, section 2.2) drops a new instruction whose ROUGE-L with a kept
/// one exceeds 0.7. Sets of tokens ignore their order, so wordings that differ only in word order
/// are duplicates. The limit for shipped wordings is 0.6, which is stricter.
const JACCARD: f64 = 0.6;

/// The first character of the Unicode blocks for Chinese and Japanese, which are written without
/// spaces between words: the radicals, U+2E80.
const FIRST_WITHOUT_SPACES: char = '\u{2E80}';

/// A pair of wordings of one bank that are too similar.
#[derive(Debug, Clone, PartialEq)]
pub struct NearDuplicate {
    /// Id of the earlier wording.
    pub first: String,
    /// Id of the later wording.
    pub second: String,
    /// Jaccard index of their tokens, 0 to 1; 1 for equal token sets.
    pub jaccard: f64,
}

/// Returns a text in lower case, without punctuation and with one space between words.
pub fn normalise(text: &str) -> String {
    words(text).join(" ")
}

/// Returns the words in lower case, without punctuation.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the words or, for text that is written without spaces, the pairs of neighbouring
/// characters.
fn tokens(text: &str) -> BTreeSet<String> {
    let of_word = |word: String| -> Vec<String> {
        let characters: Vec<char> = word.chars().collect();
        if characters.len() < 3 || characters.iter().all(|&c| c < FIRST_WITHOUT_SPACES) {
            return vec![word];
        }
        characters.windows(2).map(|pair| pair.iter().collect()).collect()
    };
    words(text).into_iter().flat_map(of_word).collect()
}

/// Returns the system message and the user message of a template, joined.
pub(crate) fn whole(template: &Template) -> String {
    template.system.as_deref().map_or_else(|| template.text.clone(), |system| format!("{system}\n{}", template.text))
}

/// Returns the Jaccard index of the token sets of two wordings, including the names of slots, if
/// they are near duplicates: equal after [`normalise`], or with an index above 0.6. In Chinese and
/// Japanese, which have no spaces between words, every pair of neighbouring characters is a token.
pub fn near_duplicate(first: &str, second: &str) -> Option<f64> {
    let [first_tokens, second_tokens] = [first, second].map(tokens);
    let shared = first_tokens.intersection(&second_tokens).count();
    let either = first_tokens.union(&second_tokens).count();
    let jaccard = shared as f64 / either.max(1) as f64;
    (jaccard > JACCARD || normalise(first) == normalise(second)).then_some(jaccard)
}

/// Returns all near duplicates of a bank within a language. System messages are included in the
/// comparison.
pub fn near_duplicates(bank: &Bank) -> Vec<NearDuplicate> {
    let mut found = Vec::new();
    for (later, second) in bank.templates.iter().enumerate() {
        for first in bank.templates[..later].iter().filter(|first| first.language == second.language) {
            if let Some(jaccard) = near_duplicate(&whole(first), &whole(second)) {
                found.push(NearDuplicate { first: first.id.clone(), second: second.id.clone(), jaccard });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Banks;

    #[test]
    fn shipped_banks_have_none() {
        for bank in Banks::shipped().unwrap().iter() {
            assert_eq!(near_duplicates(bank), [], "{}", bank.name);
        }
    }

    #[test]
    fn typography_and_one_changed_word_are_found() {
        let toml = r#"
description = "d"
[[templates]]
id = "a"
text = "Describe the image in one short sentence."
answer = "sentence"
[[templates]]
id = "b"
text = "describe THE image, in one short sentence!"
answer = "sentence"
[[templates]]
id = "c"
text = "Describe the picture in one short sentence."
answer = "sentence"
[[templates]]
id = "d"
text = "What does this show?"
answer = "sentence"
[[templates]]
id = "e"
text = "What does this show?"
answer = "sentence"
language = "de"
[[templates]]
id = "f"
text = "用一句话描述这张图片。"
answer = "sentence"
language = "zh"
[[templates]]
id = "g"
text = "用一句话描述这张图。"
answer = "sentence"
language = "zh"
[[templates]]
id = "h"
text = "请写一个短句来说明图中的内容。"
answer = "sentence"
language = "zh"
"#;
        let found = near_duplicates(&Bank::parse("test", toml).unwrap());
        let pairs: Vec<(&str, &str)> = found.iter().map(|pair| (pair.first.as_str(), pair.second.as_str())).collect();
        assert_eq!(pairs, [("a", "b"), ("a", "c"), ("b", "c"), ("f", "g")]);
    }
}
