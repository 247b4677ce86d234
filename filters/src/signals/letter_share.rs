//! The share of letters in the caption.

use super::{Needs, Signal, SignalType};

/// The share of letters among the visible characters of the caption.
pub(super) const SIGNAL: Signal = Signal {
    name: "letter_share",
    description: "Letters of any script (Unicode property Alphabetic) divided by all characters that are not white space; \
     0 for a caption of white space. Sentences are above 0.9; file names, prices and markup are below.",
    unit: "share",
    range: (Some(0.0), Some(1.0)),
    needs: Needs::Text,
    signal_type: SignalType::Float,
    source: "after the alphabetic-character share of Gopher's quality rules, arXiv 2112.11446, appendix A",
    function: Some(|sample| sample.caption.map(letter_share).into()),
};

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
    use crate::{Sample, Value};

    #[test]
    fn counts_letters_among_visible_characters() {
        let measure = |caption| SIGNAL.value(&Sample::new(Some(caption), None));
        assert_eq!(measure("red car"), Value::Float(1.0));
        assert_eq!(measure("IMG_0042"), Value::Float(0.375));
        assert_eq!(measure("犬 1"), Value::Float(0.5));
        assert_eq!(measure(" \n"), Value::Float(0.0));
        assert_eq!(measure(""), Value::Float(0.0));
    }
}
