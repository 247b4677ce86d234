//! The ratio of the longer to the shorter side of the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The ratio of the image's sides.
pub(super) const SIGNAL: Signal = Signal {
    name: "aspect_ratio",
    description: "Longer side of the image divided by the shorter side; 1 is square.",
    unit: "none",
    range: (Some(1.0), None),
    needs: Needs::Header,
    signal_type: SignalType::Float,
    source: "DataComp, arXiv 2304.14108, basic filtering",
    function: Some(|sample| sample.image.map(aspect_ratio).into()),
};

fn aspect_ratio(picture: &ImageData) -> f64 {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    width.max(height) / width.min(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;
    use crate::{Sample, Value};

    #[test]
    fn is_the_same_for_both_orientations() {
        for name in ["synthetic_noise_sliver_tall.png", "synthetic_noise_sliver_wide.png"] {
            let picture = ImageData::decode(&fixture(name)).unwrap();
            assert_eq!(SIGNAL.value(&Sample::new(None, Some(&picture))), Value::Float(50.0));
        }
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
