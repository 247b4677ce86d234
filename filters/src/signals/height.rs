//! How high the picture is.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::ImageData;

/// The number of pixel rows of the picture.
#[derive(Debug)]
pub(super) struct Height;

impl Signal for Height {
    fn name(&self) -> &'static str {
        "height"
    }

    fn description(&self) -> &'static str {
        "Number of pixel rows of the picture as stored in the file, before any EXIF rotation."
    }

    fn unit(&self) -> &'static str {
        "pixels"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(1.0), None)
    }

    fn needs(&self) -> Needs {
        Needs::Header
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Integer
    }

    fn source(&self) -> &'static str {
        "header of the image file"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(ImageData::height).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;

    #[test]
    fn counts_rows() {
        let picture = ImageData::decode(&fixture("synthetic_noise_landscape.png")).unwrap();
        assert_eq!(Height.measure(&Sample::new(None, Some(&picture))), Value::Integer(70));
        assert_eq!(Height.measure(&Sample::new(None, None)), Value::Missing);
    }
}
