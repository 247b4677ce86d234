//! How much fine detail the picture has.

use super::{Needs, Sample, Signal, SignalType, Value};
use crate::image_data::{ImageData, Luma};

/// The variance of the Laplacian.
#[derive(Debug)]
pub(super) struct Sharpness;

/// Largest variance of values between -1020 and 1020, which are the bounds of the Laplacian of 8-bit values: their
/// square (Popoviciu's inequality).
const MAX_VARIANCE: f64 = 1020.0 * 1020.0;

impl Signal for Sharpness {
    fn name(&self) -> &'static str {
        "sharpness"
    }

    fn description(&self) -> &'static str {
        "Population variance of the Laplacian of the 8-bit luma plane: the sum of the four neighbours minus four times \
         the pixel, mirrored at the border without repeating it, as OpenCV's Laplacian(luma, CV_64F).var(). Blurred \
         and flat pictures are low. It falls when a picture is enlarged, so compare pictures of one size."
    }

    fn unit(&self) -> &'static str {
        "squared luma steps"
    }

    fn range(&self) -> (Option<f64>, Option<f64>) {
        (Some(0.0), Some(MAX_VARIANCE))
    }

    fn needs(&self) -> Needs {
        Needs::Pixels
    }

    fn signal_type(&self) -> SignalType {
        SignalType::Float
    }

    fn source(&self) -> &'static str {
        "variance of Laplacian: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000; \
         kernel and border of OpenCV 5.0"
    }

    fn measure(&self, sample: &Sample<'_>) -> Value {
        sample.image.map(ImageData::luma).map(laplacian_variance).into()
    }
}

/// Sums are integers, so the result does not depend on the order of additions.
fn laplacian_variance(luma: &Luma) -> f64 {
    let (width, height) = (luma.width(), luma.height());
    let (mut sum, mut sum_of_squares) = (0i64, 0i64);
    for y in 0..height {
        let row = luma.row(y);
        let above = luma.row(if y == 0 { mirrored_end(height) } else { y - 1 });
        let below = luma.row(if y + 1 == height { y.saturating_sub(1) } else { y + 1 });
        let at = |x: usize, left: usize, right: usize| {
            let neighbours = i32::from(above[x]) + i32::from(below[x]) + i32::from(row[left]) + i32::from(row[right]);
            neighbours - 4 * i32::from(row[x])
        };
        let mut add = |laplacian: i32| {
            sum += i64::from(laplacian);
            sum_of_squares += i64::from(laplacian * laplacian);
        };
        add(at(0, mirrored_end(width), mirrored_end(width)));
        for x in 1..width.saturating_sub(1) {
            add(at(x, x - 1, x + 1));
        }
        if width > 1 {
            add(at(width - 1, width - 2, width - 2));
        }
    }
    // At most 100 million values of at most 1020: the products need more than 64 bits.
    let n = i128::from((width * height) as u64);
    let scaled = n * i128::from(sum_of_squares) - i128::from(sum) * i128::from(sum);
    scaled as f64 / (n * n) as f64
}

/// The neighbour that stands in for the one before the first: the second, or itself in a line of one pixel.
fn mirrored_end(length: usize) -> usize {
    usize::from(length > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_data::tests::golden;

    #[test]
    fn equals_opencvs() {
        for row in golden() {
            let variance = laplacian_variance(row.decode().luma());
            // JPEG and lossy WebP decoders round differently.
            let tolerance = if row.is_lossless() { 1e-12 } else { 0.02 };
            let difference = (variance - row.sharpness).abs() / row.sharpness.max(1.0);
            assert!(difference <= tolerance, "{}: {variance}, golden {}", row.file, row.sharpness);
        }
    }

    #[test]
    fn lines_of_one_pixel_work() {
        for (width, height) in [(1, 1), (1, 5), (5, 1), (2, 2)] {
            let luma = Luma::new(width, height, vec![77; width * height]).unwrap();
            assert_eq!(laplacian_variance(&luma).to_bits(), 0.0f64.to_bits());
        }
    }
}
