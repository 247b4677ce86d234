//! Captions as lists of tokens and n-grams, shared by three metrics.

use std::collections::BTreeMap;

use super::answers;
use crate::error::Result;
use crate::input::Item;
use crate::ptb::tokens;

/// Length of the longest n-grams that are counted.
pub(super) const LONGEST: usize = 4;

/// Tokens of a caption and of its references.
pub(super) struct Tokenised {
    pub(super) prediction: Vec<String>,
    pub(super) references: Vec<Vec<String>>,
}

/// Returns the tokens of all captions; a missing prediction has none.
pub(super) fn tokenised(items: &[Item], metric: &'static str) -> Result<Vec<Tokenised>> {
    let of = |item: &Item| {
        let references = answers(item, metric)?.iter().map(|caption| tokens(&one_line(caption))).collect();
        let prediction = item.prediction.map(|caption| tokens(&one_line(caption))).unwrap_or_default();
        Ok(Tokenised { prediction, references })
    };
    items.iter().map(of).collect()
}

/// Returns a caption in one line, since the tokenizer takes one caption per line.
fn one_line(caption: &str) -> String {
    caption.replace('\n', " ")
}

/// Returns how often each n-gram of one to four tokens occurs.
pub(super) fn n_grams(tokens: &[String]) -> BTreeMap<&[String], usize> {
    let mut counts = BTreeMap::new();
    for length in 1..=LONGEST {
        for n_gram in tokens.windows(length) {
            *counts.entry(n_gram).or_default() += 1;
        }
    }
    counts
}
