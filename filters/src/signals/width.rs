//! How wide the picture is.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::ImageData;

/// The number of pixel columns of the picture.
#[derive(Debug)]
pub(super) struct Width;

impl Signal for Width {
    fn name(&self) -> &'static str {
        "width"
    }

    fn description(&self) -> &'static str {
        "Number of pixel columns of the picture as stored in the file, before any EXIF rotation."
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
        sample.image.map(ImageData::width).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;

    #[test]
    fn counts_columns() {
        let picture = ImageData::decode(&fixture("synthetic_noise_landscape.png")).unwrap();
        assert_eq!(Width.measure(&Sample::new(None, Some(&picture))), Value::Integer(110));
        assert_eq!(Width.measure(&Sample::new(None, None)), Value::Missing);
    }
}
