//! The length of the caption in words.

use super::{Needs, Signal, SignalType};

/// The number of words of the caption.
pub(super) const SIGNAL: Signal = Signal {
    name: "caption_words",
    description: "Number of words in the caption: segments between Unicode word boundaries that hold a letter or digit. \
     Chinese, Japanese and Thai need no spaces; a hyphen separates, an underscore or apostrophe does not.",
    unit: "words",
    range: (Some(0.0), None),
    needs: Needs::Text,
    signal_type: SignalType::Integer,
    source: "Unicode Standard Annex 29, word boundaries",
    function: Some(|sample| sample.words().map(<[&str]>::len).into()),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Value};

    #[test]
    fn counts_words_of_any_script() {
        let measure = |caption| SIGNAL.value(&Sample::new(caption, None));
        assert_eq!(measure(Some("A dog's red-brown collar, 3.5 cm wide!")), Value::Integer(8));
        assert_eq!(measure(Some("double_note_two")), Value::Integer(1));
        assert_eq!(measure(Some("一只猫")), Value::Integer(3));
        assert_eq!(measure(Some(" -- ")), Value::Integer(0));
        assert_eq!(measure(None), Value::Missing);
    }
}
