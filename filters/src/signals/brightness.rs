//! How bright the picture is.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::ImageData;

/// The mean luma.
#[derive(Debug)]
pub(super) struct Brightness;

impl Signal for Brightness {
    fn name(&self) -> &'static str {
        "brightness"
    }

    fn description(&self) -> &'static str {
        "Mean of the 8-bit luma plane (Pillow's convert(\"L\"), alpha dropped): 0 is black, 255 white."
    }

    fn unit(&self) -> &'static str {
        "luma steps"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(0.0), Some(255.0))
    }

    fn needs(&self) -> Needs {
        Needs::Pixels
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Float
    }

    fn source(&self) -> &'static str {
        "Pillow 13.0, ImageStat.Stat(luma).mean"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(ImageData::histogram).map(mean).into()
    }
}

/// Mean of the values that a histogram counts, which are at least one.
fn mean(histogram: &[u64; 256]) -> f64 {
    let n: u64 = histogram.iter().sum();
    let sum: u64 = histogram.iter().zip(0u64..).map(|(count, value)| count * value).sum();
    sum as f64 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::golden;

    #[test]
    fn equals_pillows() {
        for row in golden() {
            let brightness = mean(row.decode().histogram());
            let tolerance = if row.is_exact() { 1e-9 } else { 0.5 };
            assert!((brightness - row.brightness).abs() <= tolerance, "{}: {brightness}", row.file);
        }
    }
}
