//! Random parts of images, so that a model does not see an image the same way twice.

use rand_chacha::ChaCha8Rng;

use crate::cubic;
use crate::random::unit;

/// Least and greatest width over height of a part, as in torchvision's `RandomResizedCrop` and
/// Lynx.
const RATIOS: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];

/// The slope of Pillow's kernel.
const SLOPE: f64 = -0.5;

/// Attempts after which the whole image is used, as in torchvision's `RandomResizedCrop`.
const TRIES: usize = 10;

/// A part of a square image, in fractions of its side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crop {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Crop {
    /// Draws a part of `least` to 1 of the area, as torchvision's `RandomResizedCrop` does, except
    /// that its edges need not lie on whole pixels.
    pub(crate) fn draw(draws: &mut ChaCha8Rng, least: f64) -> Self {
        let [narrowest, widest] = RATIOS.map(f64::ln);
        for _ in 0..TRIES {
            let area = least + (1.0 - least) * unit(draws);
            let ratio = (narrowest + (widest - narrowest) * unit(draws)).exp();
            let (width, height) = ((area * ratio).sqrt(), (area / ratio).sqrt());
            if width <= 1.0 && height <= 1.0 {
                return Self { left: (1.0 - width) * unit(draws), top: (1.0 - height) * unit(draws), width, height };
            }
        }
        Self { left: 0.0, top: 0.0, width: 1.0, height: 1.0 }
    }

    /// Scales the part up to the whole square with bicubic interpolation; `pixels` are `side² · 3`
    /// bytes, rows of RGB.
    pub(crate) fn of(self, pixels: &[u8], side: usize) -> Vec<u8> {
        let columns = taps(side, self.left, self.width);
        let rows = taps(side, self.top, self.height);
        // First along rows, then along columns.
        let mut narrow = vec![0.0_f32; pixels.len()];
        for (line, out) in pixels.chunks_exact(3 * side).zip(narrow.chunks_exact_mut(3 * side)) {
            for (taps, pixel) in columns.iter().zip(out.chunks_exact_mut(3)) {
                for (colour, value) in pixel.iter_mut().enumerate() {
                    *value = sum(taps, |place| f32::from(line[3 * place + colour]));
                }
            }
        }
        let mut whole = Vec::with_capacity(pixels.len());
        for taps in &rows {
            whole
                .extend((0..3 * side).map(|column| {
                    sum(taps, |place| narrow[place * 3 * side + column]).round().clamp(0.0, 255.0) as u8
                }));
        }
        whole
    }
}

/// Returns the source pixels, with their weights, of each new pixel along an axis of `side` pixels.
fn taps(side: usize, from: f64, share: f64) -> Vec<[(usize, f64); 4]> {
    let at = |place: usize| from * side as f64 + (place as f64 + 0.5) * share - 0.5;
    (0..side).map(|place| cubic::taps(at(place), side, SLOPE)).collect()
}

fn sum(taps: &[(usize, f64); 4], value: impl Fn(usize) -> f32) -> f32 {
    taps.iter().map(|(place, weight)| *weight as f32 * value(*place)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    /// An image whose red rises to the right and whose green rises downwards.
    fn ramp(side: usize) -> Vec<u8> {
        (0..side * side)
            .flat_map(|place| [(10 + 4 * (place % side)) as u8, (10 + 4 * (place / side)) as u8, 7])
            .collect()
    }

    #[test]
    fn the_whole_picture_stays_as_it_is() {
        let whole = Crop { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };
        assert_eq!(whole.of(&ramp(16), 16), ramp(16));
    }

    #[test]
    fn a_part_of_a_ramp_is_a_ramp_between_its_ends() {
        let part = Crop { left: 0.25, top: 0.5, width: 0.5, height: 0.25 }.of(&ramp(32), 32);
        let pixel = |column: usize, row: usize| &part[3 * (32 * row + column)..][..3];
        // Pixel 0 lies a quarter of a pixel right of the edge at 8 pixels: 10 + 4 · (8 + 0.25 -
        // 0.5) = 41.
        assert_eq!(pixel(0, 0), [41, 73, 7]);
        // Pixel 31 at 8 + 31.5 / 2 - 0.5 = 23.25, and 16 + 31.5 / 4 - 0.5 = 23.375.
        assert_eq!(pixel(31, 31), [103, 104, 7]);
    }

    #[test]
    fn draws_lie_in_the_picture_and_have_the_wanted_area() {
        let mut draws = stream(1, Purpose::Crops);
        let all: Vec<Crop> = (0..500).map(|_| Crop::draw(&mut draws, 0.9)).collect();
        for Crop { left, top, width, height } in &all {
            assert!(*left >= 0.0 && left + width <= 1.0 + 1e-12 && *top >= 0.0 && top + height <= 1.0 + 1e-12);
            let (area, ratio) = (width * height, width / height);
            assert!((0.9 - 1e-9..=1.0 + 1e-9).contains(&area) && (0.75..=1.34).contains(&ratio), "{area} {ratio}");
        }
        let mean = all.iter().map(|crop| crop.width * crop.height).sum::<f64>() / 500.0;
        assert!((0.93..0.97).contains(&mean), "{mean}");
        assert!(all.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
