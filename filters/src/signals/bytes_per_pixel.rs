//! The size of the image file per pixel.

use super::{Needs, Signal, SignalType};
use crate::image_data::ImageData;

/// The length of the file divided by the number of pixels.
pub(super) const SIGNAL: Signal = Signal {
    name: "bytes_per_pixel",
    description: "Length of the image file divided by its number of pixels. For one format, low values mean flat or heavily \
     compressed images, high values noise or embedded metadata.",
    unit: "bytes per pixel",
    range: (Some(0.0), None),
    needs: Needs::Header,
    signal_type: SignalType::Float,
    source: "length and header of the image file",
    function: Some(|sample| sample.image.map(bytes_per_pixel).into()),
};

fn bytes_per_pixel(picture: &ImageData) -> f64 {
    picture.encoded_bytes() as f64 / (f64::from(picture.width()) * f64::from(picture.height()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::fixture;
    use crate::{Sample, Value};

    #[test]
    fn divides_the_file_by_its_pixels() {
        let bytes = fixture("synthetic_bitmap.bmp");
        let picture = ImageData::decode(&bytes).unwrap(); // 60 x 50, 3 bytes per pixel and a header of 54
        assert_eq!(SIGNAL.value(&Sample::new(None, Some(&picture))), Value::Float(9054.0 / 3000.0));
        assert_eq!(SIGNAL.value(&Sample::new(None, None)), Value::Missing);
    }
}
