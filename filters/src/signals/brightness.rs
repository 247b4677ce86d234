//! The brightness of the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The mean luma.
pub(super) const SIGNAL: Signal = Signal {
    name: "brightness",
    description: "Mean of the 8-bit luma plane (Pillow's convert(\"L\"), alpha dropped): 0 is black, 255 white.",
    unit: "luma steps",
    range: (Some(0.0), Some(255.0)),
    needs: Needs::Pixels,
    signal_type: SignalType::Float,
    source: "Pillow 13.0, ImageStat.Stat(luma).mean",
    function: Some(|sample| sample.image.map(ImageData::histogram).map(mean).into()),
};

/// Returns the mean of the values that a histogram counts, which are at least one.
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
