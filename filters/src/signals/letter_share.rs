//! How much of the caption is letters.

use super::{Needs, Sample, Signal, SignalType, Value};

/// The share of letters among the visible characters of the caption.
#[derive(Debug)]
pub(super) struct LetterShare;

impl Signal for LetterShare {
    fn name(&self) -> &'static str {
        "letter_share"
    }

    fn description(&self) -> &'static str {
        "Letters of any script (Unicode property Alphabetic) divided by all characters that are not white space; \
         0 for a caption of white space. Sentences are above 0.9; file names, prices and markup lie below."
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
        "after the alphabetic-character share of Gopher's quality rules, arXiv 2112.11446, appendix A"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.caption.map(letter_share).into()
    }
}

fn letter_share(caption: &str) -> f64 {
    let (mut n_letters, mut n_visible) = (0u32, 0u32);
    for character in caption.chars().filter(|character| !character.is_whitespace()) {
        n_visible += 1;
        n_letters += u32::from(character.is_alphabetic());
    }
    if n_visible == 0 { 0.0 } else { f64::from(n_letters) / f64::from(n_visible) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_letters_among_visible_characters() {
        let measure = |caption| LetterShare.measure(&Sample::new(Some(caption), None));
        assert_eq!(measure("red car"), Value::Float(1.0));
        assert_eq!(measure("IMG_0042"), Value::Float(0.375));
        assert_eq!(measure("犬 1"), Value::Float(0.5));
        assert_eq!(measure(" \n"), Value::Float(0.0));
        assert_eq!(measure(""), Value::Float(0.0));
    }
}
