//! How many bytes the file spends on a pixel.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::ImageData;

/// Length of the file over the number of pixels.
#[derive(Debug)]
pub(super) struct BytesPerPixel;

impl Signal for BytesPerPixel {
    fn name(&self) -> &'static str {
        "bytes_per_pixel"
    }

    fn description(&self) -> &'static str {
        "Length of the image file divided by its number of pixels. For one format, low values mean flat or heavily \
         compressed pictures, high values noise or embedded metadata."
    }

    fn unit(&self) -> &'static str {
        "bytes per pixel"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(0.0), None)
    }

    fn needs(&self) -> Needs {
        Needs::Header
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Float
    }

    fn source(&self) -> &'static str {
        "length and header of the image file"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(bytes_per_pixel).into()
    }
}

fn bytes_per_pixel(picture: &ImageData) -> f64 {
    picture.encoded_bytes() as f64 / (f64::from(picture.width()) * f64::from(picture.height()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;

    #[test]
    fn divides_the_file_by_its_pixels() {
        let bytes = fixture("synthetic_bitmap.bmp");
        let picture = ImageData::decode(&bytes).unwrap(); // 60 x 50, 3 bytes a pixel and a header of 54
        assert_eq!(BytesPerPixel.measure(&Sample::new(None, Some(&picture))), Value::Float(9054.0 / 3000.0));
        assert_eq!(BytesPerPixel.measure(&Sample::new(None, None)), Value::Missing);
    }
}
