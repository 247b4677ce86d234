//! The share of repeated words in the caption.

use std::collections::HashSet;

use super::{Needs, Signal, SignalType};

/// The share of words of the caption that occur earlier in it.
pub(super) const SIGNAL: Signal = Signal {
    name: "repeated_words",
    description: "Share of the words (as caption_words counts them, in lower case) that occurred earlier in the caption; 0 \
     without words. Sentences repeat their articles and are around 0.1; keyword spam is above 0.5.",
    unit: "share",
    range: (Some(0.0), Some(1.0)),
    needs: Needs::Text,
    signal_type: SignalType::Float,
    source: "one minus the type-token ratio; after the repetition rules of Gopher, arXiv 2112.11446, appendix A",
    function: Some(|sample| sample.words().map(repeated_share).into()),
};

fn repeated_share(words: &[&str]) -> f64 {
    if words.is_empty() {
        return 0.0;
    }
    let distinct: HashSet<String> = words.iter().map(|word| word.to_lowercase()).collect();
    (words.len() - distinct.len()) as f64 / words.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Value};

    #[test]
    fn counts_words_that_came_before() {
        let measure = |caption| SIGNAL.value(&Sample::new(Some(caption), None));
        assert_eq!(measure("Sale sale SALE shoes"), Value::Float(0.5));
        assert_eq!(measure("a red car"), Value::Float(0.0));
        assert_eq!(measure("?!"), Value::Float(0.0));
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
