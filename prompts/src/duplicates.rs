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

/// All pairs of a bank that are equal after [`normalise`], or whose token sets (slot names included) have a Jaccard index above 0.7.
pub fn near_duplicates(bank: &Bank) -> Vec<NearDuplicate> {
    let sets: Vec<BTreeSet<String>> =
        bank.templates.iter().map(|template| tokens(&whole(template)).into_iter().collect()).collect();
    let mut found = Vec::new();
    for (later, second) in bank.templates.iter().enumerate() {
        for (earlier, first) in bank.templates[..later].iter().enumerate() {
            let shared = sets[earlier].intersection(&sets[later]).count();
            let either = sets[earlier].union(&sets[later]).count();
            let jaccard = shared as f64 / either.max(1) as f64;
            if jaccard > JACCARD || normalise(&whole(first)) == normalise(&whole(second)) {
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
