//! How sure the language of the caption is.

use super::{Needs, Sample, Signal, SignalType, Value};

/// The detector's confidence in the language.
#[derive(Debug)]
pub(super) struct LanguageConfidence;

impl Signal for LanguageConfidence {
    fn name(&self) -> &'static str {
        "language_confidence"
    }

    fn description(&self) -> &'static str {
        "How far the language is ahead of the second most likely one, from 0 (a tie) to 1 (no doubt, as for a script \
         that one language alone uses); the detector calls values above 0.9 reliable. Missing where language is."
    }

    fn unit(&self) -> &'static str {
        "none"
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
        "whatlang 0.18, confidence"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.language().map(|language| language.confidence).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_captions_are_surer_than_words() {
        let confidence = |caption| match LanguageConfidence.measure(&Sample::new(Some(caption), None)) {
            Value::Float(confidence) => confidence,
            other => panic!("{other:?}"),
        };
        assert!(confidence("A brown dog is running through the tall grass of a meadow near the river.") > 0.9);
        assert!(confidence("people") < 0.9);
        assert_eq!(LanguageConfidence.measure(&Sample::new(Some("12 + 34"), None)), Value::Missing);
    }
}
