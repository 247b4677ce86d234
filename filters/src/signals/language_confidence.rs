//! The confidence of the language detector.

use super::{Needs, Signal, SignalType};

/// The detector's confidence in the language.
pub(super) const SIGNAL: Signal = Signal {
    name: "language_confidence",
    description: "How far the language is ahead of the second most likely one, from 0 (a tie) to 1 (no doubt, as for a script \
     that only one language uses); the detector calls values above 0.9 reliable. Missing if language is missing.",
    unit: "none",
    range: (Some(0.0), Some(1.0)),
    needs: Needs::Text,
    signal_type: SignalType::Float,
    source: "whatlang 0.18, confidence",
    function: Some(|sample| sample.language().map(|language| language.confidence).into()),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Value};

    #[test]
    fn long_captions_are_surer_than_words() {
        let confidence = |caption| match SIGNAL.value(&Sample::new(Some(caption), None)) {
            Value::Float(confidence) => confidence,
            other => panic!("{other:?}"),
        };
        assert!(confidence("A brown dog is running through the tall grass of a meadow near the river.") > 0.9);
        assert!(confidence("people") < 0.9);
        assert_eq!(SIGNAL.value(&Sample::new(Some("12 + 34"), None)), Value::Missing);
    }
}
