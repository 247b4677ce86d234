//! Wordings that say the same thing in nearly the same words.

use std::collections::BTreeSet;

use crate::{Bank, Template};

/// Two wordings whose token sets overlap by more than this are near duplicates. Self-Instruct (arXiv 2212.10560, section 2.2) drops a new instruction
/// whose ROUGE-L with a kept one exceeds 0.7; token Jaccard is stricter on order and simpler, and the same figure separates the shipped wordings.
const JACCARD: f64 = 0.6;

/// A pair of wordings of one bank that are too alike to count as two.
#[derive(Debug, Clone, PartialEq)]
pub struct NearDuplicate {
    /// Id of the earlier wording.
    pub first: String,
    /// Id of the later wording.
    pub second: String,
    /// Tokens in both over tokens in either, 0 to 1; 1 for equal wordings.
    pub jaccard: f64,
}

/// Lower case, punctuation removed, one space between words: what is left when only typography is ignored.
pub fn normalise(text: &str) -> String {
    tokens(text).join(" ")
}

fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the text of the system and that of the user together.
fn whole(template: &Template) -> String {
    template.system.as_deref().map_or_else(|| template.text.clone(), |system| format!("{system}\n{}", template.text))
}

/// Returns the Jaccard index of the token sets of two wordings, slot names included, if they are
/// near duplicates: equal after [`normalise`], or with an index above 0.7.
pub fn near_duplicate(first: &str, second: &str) -> Option<f64> {
    let sets = [first, second].map(|text| tokens(text).into_iter().collect::<BTreeSet<String>>());
    let shared = sets[0].intersection(&sets[1]).count();
    let either = sets[0].union(&sets[1]).count();
    let jaccard = shared as f64 / either.max(1) as f64;
    (jaccard > JACCARD || normalise(first) == normalise(second)).then_some(jaccard)
}

/// Returns all pairs of a bank that [`near_duplicate`] finds.
pub fn near_duplicates(bank: &Bank) -> Vec<NearDuplicate> {
    let mut found = Vec::new();
    for (later, second) in bank.templates.iter().enumerate() {
        for first in &bank.templates[..later] {
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
"#;
        let found = near_duplicates(&Bank::parse("test", toml).unwrap());
        let pairs: Vec<(&str, &str)> = found.iter().map(|pair| (pair.first.as_str(), pair.second.as_str())).collect();
        assert_eq!(pairs, [("a", "b"), ("a", "c"), ("b", "c")]);
    }
}
