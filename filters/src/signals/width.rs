//! The width of the image.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The number of pixel columns of the image.
pub(super) const SIGNAL: Signal = Signal {
    name: "width",
    description: "Number of pixel columns of the image as stored in the file, before any EXIF rotation.",
    unit: "pixels",
    range: (Some(1.0), None),
    needs: Needs::Header,
    signal_type: SignalType::Integer,
    source: "header of the image file",
    function: Some(|sample| sample.image.map(ImageData::width).into()),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;
    use crate::{Sample, Value};

    #[test]
    fn counts_columns() {
        let picture = ImageData::decode(&fixture("synthetic_noise_landscape.png")).unwrap();
        assert_eq!(SIGNAL.value(&Sample::new(None, Some(&picture))), Value::Integer(110));
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
