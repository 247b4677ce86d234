//! The contrast of the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The standard deviation of the luma.
pub(super) const SIGNAL: Signal = Signal {
    name: "contrast",
    description: "Population standard deviation of the 8-bit luma plane (root-mean-square contrast): 0 for an image of one \
     grey, 127.5 for half black, half white.",
    unit: "luma steps",
    range: (Some(0.0), Some(127.5)),
    needs: Needs::Pixels,
    signal_type: SignalType::Float,
    source: "root-mean-square contrast: Peli, Contrast in complex images, JOSA A 1990; Pillow 13.0, ImageStat.Stat(luma).stddev",
    function: Some(|sample| sample.image.map(ImageData::histogram).map(standard_deviation).into()),
};

/// Returns the standard deviation of the values that a histogram counts, which are at least one.
fn standard_deviation(histogram: &[u64; 256]) -> f64 {
    let (mut n, mut sum, mut sum_of_squares) = (0u128, 0u128, 0u128);
    for (&count, value) in histogram.iter().zip(0u128..) {
        let count = u128::from(count);
        n += count;
        sum += count * value;
        sum_of_squares += count * value * value;
    }
    ((n * sum_of_squares - sum * sum) as f64).sqrt() / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::golden;

    #[test]
    fn equals_pillows() {
        for row in golden() {
            let contrast = standard_deviation(row.decode().histogram());
            let tolerance = if row.is_exact() { 1e-6 } else { 0.5 };
            assert!((contrast - row.contrast).abs() <= tolerance, "{}: {contrast}", row.file);
        }
    }

    #[test]
    fn half_black_half_white_has_the_most() {
        let mut histogram = [0; 256];
        (histogram[0], histogram[255]) = (50_000_000, 50_000_000);
        assert!((standard_deviation(&histogram) - 127.5).abs() < 1e-9);
    }
}
