//! How much the caption repeats itself.

use std::collections::HashSet;

use super::{Needs, Sample, Signal, SignalType, Value};

/// The share of words of the caption that came before.
#[derive(Debug)]
pub(super) struct RepeatedWords;

impl Signal for RepeatedWords {
    fn name(&self) -> &'static str {
        "repeated_words"
    }

    fn description(&self) -> &'static str {
        "Share of the words (as caption_words counts them, in lower case) that occurred earlier in the caption; 0 \
         without words. Sentences repeat their articles and lie around 0.1; keyword spam lies above 0.5."
    }

    fn unit(&self) -> &'static str {
        "share"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(0.0), Some(1.0))
    }

    fn needs(&self) -> Needs {
        Needs::Text
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Float
    }

    fn source(&self) -> &'static str {
        "one minus the type-token ratio; after the repetition rules of Gopher, arXiv 2112.11446, appendix A"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.words().map(repeated_share).into()
    }
}

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

    #[test]
    fn counts_words_that_came_before() {
        let measure = |caption| RepeatedWords.measure(&Sample::new(Some(caption), None));
        assert_eq!(measure("Sale sale SALE shoes"), Value::Float(0.5));
        assert_eq!(measure("a red car"), Value::Float(0.0));
        assert_eq!(measure("?!"), Value::Float(0.0));
        assert_eq!(RepeatedWords.measure(&Sample::new(None, None)), Value::Missing);
    }
}
