//! The length of the caption in characters.

use super::{Needs, Signal, SignalType};

/// The number of characters of the caption.
pub(super) const SIGNAL: Signal = Signal {
    name: "caption_characters",
    description: "Number of Unicode code points in the caption, spaces included, as Python's len() counts them.",
    unit: "characters",
    range: (Some(0.0), None),
    needs: Needs::Text,
    signal_type: SignalType::Integer,
    source: "DataComp, arXiv 2304.14108, basic filtering",
    function: Some(|sample| sample.caption.map(|caption| caption.chars().count()).into()),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Value};

    #[test]
    fn counts_code_points_not_bytes() {
        let measure = |caption| SIGNAL.value(&Sample::new(caption, None));
        assert_eq!(measure(Some("Käse 🧀")), Value::Integer(6));
        assert_eq!(measure(Some("")), Value::Integer(0));
        assert_eq!(measure(None), Value::Missing);
    }
}
