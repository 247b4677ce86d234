//! How far the picture is from square.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::ImageData;

/// The ratio of the picture's sides.
#[derive(Debug)]
pub(super) struct AspectRatio;

impl Signal for AspectRatio {
    fn name(&self) -> &'static str {
        "aspect_ratio"
    }

    fn description(&self) -> &'static str {
        "Longer side of the picture divided by the shorter side; 1 is square."
    }

    fn unit(&self) -> &'static str {
        "none"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(1.0), None)
    }

    fn needs(&self) -> Needs {
        Needs::Header
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Float
    }

    fn source(&self) -> &'static str {
        "DataComp, arXiv 2304.14108, basic filtering"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(aspect_ratio).into()
    }
}

fn aspect_ratio(picture: &ImageData) -> f64 {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    width.max(height) / width.min(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;

    #[test]
    fn is_the_same_for_both_orientations() {
        for name in ["synthetic_noise_sliver_tall.png", "synthetic_noise_sliver_wide.png"] {
            let picture = ImageData::decode(&fixture(name)).unwrap();
            assert_eq!(AspectRatio.measure(&Sample::new(None, Some(&picture))), Value::Float(50.0));
        }
        assert_eq!(AspectRatio.measure(&Sample::new(None, None)), Value::Missing);
    }
}
