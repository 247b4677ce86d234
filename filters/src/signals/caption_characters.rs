//! How long the caption is.

use super::{Needs, Sample, Signal, SignalType, Value};

/// The number of characters of the caption.
#[derive(Debug)]
pub(super) struct CaptionCharacters;

impl Signal for CaptionCharacters {
    fn name(&self) -> &'static str {
        "caption_characters"
    }

    fn description(&self) -> &'static str {
        "Number of Unicode code points in the caption, spaces included, as Python's len() counts them."
    }

    fn unit(&self) -> &'static str {
        "characters"
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
        "DataComp, arXiv 2304.14108, basic filtering"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.caption.map(|caption| caption.chars().count()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_code_points_not_bytes() {
        let measure = |caption| CaptionCharacters.measure(&Sample::new(caption, None));
        assert_eq!(measure(Some("Käse 🧀")), Value::Integer(6));
        assert_eq!(measure(Some("")), Value::Integer(0));
        assert_eq!(measure(None), Value::Missing);
    }
}
