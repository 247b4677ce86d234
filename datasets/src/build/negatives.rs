//! Questions with options, none of which is right.
//!
//! A model must also learn to recognise questions that it cannot answer. There are two kinds, from
//! MM-UPD (arXiv 2403.20331): the right option is missing, or the options belong to another
//! question. An option "None of these" would be a give-away if it were always right, so equally
//! many questions show it where it is wrong.

use lynxdata_prompts::{keyed_hash, normalise};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Options;

/// Shares of the questions with options that are changed so that none of their own options is
/// right.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Negatives {
    /// The share of the questions, 0 to 0.5, whose right option is replaced by "None of these",
    /// which is then the right answer.
    pub none_of_the_above: f64,
    /// The share of the questions, 0 to 0.5, that get the options of another question of the task.
    /// One of these is replaced by "None of these", which is then the right answer. Both shares
    /// together are at most 0.5, because an equal number of questions keeps the right option and
    /// shows "None of these" instead of a wrong one.
    pub unanswerable: f64,
}

/// The change of a question with options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    /// The name under which it is counted.
    pub(super) kind: &'static str,
    /// Whether none of its own options is right any more.
    pub(super) is_negative: bool,
    /// The new options.
    pub(super) options: Options,
}

/// The option "None of these", by language.
const NONE_OF_THESE: &[(&str, &str)] = &[
    ("en", "None of these"),
    ("de", "Keine davon"),
    ("es", "Ninguna de estas"),
    ("fr", "Aucune de celles-ci"),
    ("ja", "どれでもない"),
    ("zh", "以上都不是"),
];

/// Words by which options refer to other options. Options of such questions are not changed.
const REFERRING: &[&str] = &["none of", "all of", "both", "neither", "above", "below", "none"];

impl Negatives {
    /// Returns the fault of the shares, or `None` if they are valid.
    pub fn fault(&self) -> Option<String> {
        let is_share = |share: f64| (0.0..=0.5).contains(&share);
        let fits = is_share(self.none_of_the_above) && is_share(self.unanswerable);
        let sum = self.none_of_the_above + self.unanswerable;
        let told = || {
            format!(
                "the shares {} and {} must be at least 0, and at most 0.5 together, because as many questions show \
                 \"None of these\" where it is wrong",
                self.none_of_the_above, self.unanswerable
            )
        };
        (!fits || sum > 0.5).then(told)
    }

    /// Returns how the options of a question change, if they do. It depends only on seed, task and
    /// record, and on `others`, the options of the previous question.
    pub(super) fn change(
        &self,
        own: &Options,
        others: Option<&Options>,
        language: &str,
        key: (u64, &str, &str),
    ) -> Option<Changed> {
        let sum = self.none_of_the_above + self.unanswerable;
        let (seed, task, id) = key;
        if sum <= 0.0 || refers(own) {
            return None;
        }
        // 53 bits, the precision of a double.
        let drawn = (keyed_hash(seed, &["negative", task, id]) >> 11) as f64 / (1_u64 << 53) as f64;
        let none = NONE_OF_THESE.iter().find(|(known, _)| *known == language).unwrap_or(&NONE_OF_THESE[0]).1;
        let place = |purpose: &str, among: usize| keyed_hash(seed, &[purpose, task, id]) as usize % among;
        let mut options = own.clone();
        let (kind, is_negative) = if drawn < self.none_of_the_above {
            none.clone_into(&mut options.texts[own.right]);
            ("none_of_the_above", true)
        } else if drawn < sum {
            options = others.filter(|others| !refers(others) && !holds(others, &own.texts[own.right]))?.clone();
            let shown: Vec<usize> = (0..options.texts.len()).filter(|at| !options.texts[*at].is_empty()).collect();
            options.right = shown[place("replaced", shown.len())];
            none.clone_into(&mut options.texts[options.right]);
            ("unanswerable", true)
        } else if drawn < 2.0 * sum {
            let is_wrong = |at: &usize| *at != own.right && !own.texts[*at].is_empty();
            let wrong: Vec<usize> = (0..own.texts.len()).filter(is_wrong).collect();
            none.clone_into(&mut options.texts[wrong[place("replaced", wrong.len())]]);
            ("none_of_the_above_is_wrong", false)
        } else {
            return None;
        };
        Some(Changed { kind, is_negative, options })
    }
}

/// Returns whether an option refers to the others.
fn refers(options: &Options) -> bool {
    let says = |text: &String, words: &&&str| {
        let text = format!(" {} ", normalise(text));
        text.contains(&format!(" {words} "))
    };
    options.texts.iter().any(|text| REFERRING.iter().any(|words| says(text, &words)))
}

/// Returns whether an option equals the answer, contains it, or is contained in it.
fn holds(options: &Options, answer: &str) -> bool {
    let answer = normalise(answer);
    let is_like = |option: &String| {
        let option = normalise(option);
        !option.is_empty() && (option.contains(&answer) || answer.contains(&option))
    };
    options.texts.iter().any(is_like)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn options(texts: &[&str], right: usize) -> Options {
        Options { texts: texts.iter().map(|&text| text.to_owned()).collect(), right }
    }

    #[test]
    fn shares_are_kept_and_the_way_out_is_as_often_wrong_as_right() {
        let negatives = Negatives { none_of_the_above: 0.1, unanswerable: 0.05 };
        let (own, others) = (options(&["a cat", "a dog", "", "a bird"], 1), options(&["red", "blue"], 0));
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for number in 0..10_000 {
            let id = number.to_string();
            let key = (7, "t", id.as_str());
            let Some(Changed { kind, is_negative, options }) = negatives.change(&own, Some(&others), "en", key) else {
                continue;
            };
            *counts.entry(kind).or_default() += 1;
            let none = options.texts.iter().position(|text| text == "None of these").unwrap();
            assert_eq!(none == options.right, is_negative, "{kind}");
            assert_eq!(options.texts.contains(&"a dog".to_owned()), !is_negative, "{kind}");
            assert_eq!(
                options.texts.contains(&"red".to_owned()) || options.texts.contains(&"blue".to_owned()),
                kind == "unanswerable"
            );
        }
        let near = |kind: &str, expected: u32| counts[kind].abs_diff(expected) < 150;
        assert!(near("none_of_the_above", 1000) && near("unanswerable", 500), "{counts:?}");
        assert!(near("none_of_the_above_is_wrong", 1500), "{counts:?}");
    }

    #[test]
    fn options_that_would_still_be_right_are_not_exchanged() {
        let negatives = Negatives { none_of_the_above: 0.0, unanswerable: 0.5 };
        let own = options(&["a cat", "a dog"], 1);
        let changes = |own: &Options, others: Option<&Options>| {
            let change = |id: u32| negatives.change(own, others, "de", (7, "t", &id.to_string()));
            (0..100).filter_map(change).filter(|changed| changed.is_negative).count()
        };
        assert!(changes(&own, Some(&options(&["red", "blue"], 0))) > 30);
        for others in [["red", "A dog!"], ["red", "dog"], ["a dog and a cat", "red"], ["red", "both"]] {
            assert_eq!(changes(&own, Some(&options(&others, 0))), 0, "{others:?}");
        }
        assert_eq!(changes(&own, None), 0, "there is no question before");
        assert_eq!(changes(&options(&["a cat", "none of the above"], 0), Some(&own)), 0);
        assert!(Negatives { none_of_the_above: 0.3, unanswerable: 0.3 }.fault().is_some());
        assert!(Negatives { none_of_the_above: f64::NAN, unanswerable: 0.0 }.fault().is_some());
        assert!(Negatives { none_of_the_above: 0.5, unanswerable: 0.0 }.fault().is_none());
    }
}
