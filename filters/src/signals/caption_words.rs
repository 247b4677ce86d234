//! How many words the caption has.

use super::{Needs, Sample, Signal, SignalType, Value};

/// The number of words of the caption.
#[derive(Debug)]
pub(super) struct CaptionWords;

impl Signal for CaptionWords {
    fn name(&self) -> &'static str {
        "caption_words"
    }

    fn description(&self) -> &'static str {
        "Number of words in the caption: segments between Unicode word boundaries that hold a letter or digit. \
         Chinese, Japanese and Thai need no spaces; a hyphen separates, an underscore or apostrophe does not."
    }

    fn unit(&self) -> &'static str {
        "words"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(0.0), None)
    }

    fn needs(&self) -> Needs {
        Needs::Text
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Integer
    }

    fn source(&self) -> &'static str {
        "Unicode Standard Annex 29, word boundaries"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.words().map(<[&str]>::len).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_words_of_any_script() {
        let measure = |caption| CaptionWords.measure(&Sample::new(caption, None));
        assert_eq!(measure(Some("A dog's red-brown collar, 3.5 cm wide!")), Value::Integer(8));
        assert_eq!(measure(Some("double_note_two")), Value::Integer(1));
        assert_eq!(measure(Some("一只猫")), Value::Integer(3));
        assert_eq!(measure(Some(" -- ")), Value::Integer(0));
        assert_eq!(measure(None), Value::Missing);
    }
}
