//! The variety of greys in the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The Shannon entropy of the luma histogram.
pub(super) const SIGNAL: Signal = Signal {
    name: "entropy",
    description: "Shannon entropy of the histogram of the 8-bit luma plane: 0 bits for an image of one grey, 1 for two equally \
     frequent greys, 8 where all 256 are. It ignores where the greys are.",
    unit: "bits",
    range: (Some(0.0), Some(8.0)),
    needs: Needs::Pixels,
    signal_type: SignalType::Float,
    source: "Shannon, A mathematical theory of communication, 1948; Pillow 13.0, Image.entropy()",
    function: Some(|sample| sample.image.map(ImageData::entropy).into()),
};

#[cfg(test)]
mod tests {
    use crate::image_data::shannon_entropy;
    use crate::image_data::tests::golden;

    #[test]
    fn equals_pillows() {
        for row in golden() {
            let entropy = row.decode().entropy();
            let tolerance = if row.is_exact() { 1e-9 } else { 0.05 };
            assert!((entropy - row.entropy).abs() <= tolerance, "{}: {entropy}", row.file);
        }
    }

    #[test]
    fn equally_frequent_values_have_the_most() {
        assert!((shannon_entropy(&[3; 256]) - 8.0).abs() < 1e-12);
    }
}
