//! Blurs boxes of an image, such as faces, until nobody can be recognised.
//!
//! The method is that of `bbox_col` in img2dataset, which follows the obfuscation of faces in
//! ImageNet (Yang et al., A Study of Face Obfuscation in ImageNet, arXiv 2103.06191). Each box is
//! grown by a tenth of its longer side. The image is blurred with a Gaussian whose standard
//! deviation is a tenth of the longest side of all boxes. Original and blurred image are mixed by a
//! mask of the boxes that is blurred as well.

use image::RgbImage;

/// Fraction of a box's longer side by which the box is grown on all sides, and which is the
/// standard deviation of the blur.
const GROWTH: f64 = 0.1;

/// Maximum standard deviation, pixels. Only boxes of 100,000 pixels would have a larger one.
const MAX_SIGMA: f64 = 10_000.0;

/// Returns whether a box `[x0, y0, x1, y1]` covers any part of the image, whose coordinates are
/// from 0 to 1.
pub fn is_usable(area: &[f32; 4]) -> bool {
    let [left, top, right, bottom] = area.map(|side| side.clamp(0.0, 1.0));
    area.iter().all(|side| side.is_finite()) && left < right && top < bottom
}

/// Blurs boxes `[x0, y0, x1, y1]` of an image, in fractions of its width and height. Parts beyond
/// the image are cut off. Boxes that are empty, reversed or not finite are ignored. Only pixels in
/// and near the boxes change.
///
/// The Gaussian is approximated by three box blurs with the same total variance, so that the time
/// does not depend on its size. For standard deviations of 1 pixel and more, the error at a sharp
/// edge is below 2 % of its contrast.
pub fn blur_boxes(pixels: &mut RgbImage, boxes: &[[f32; 4]]) {
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    let boxes: Vec<Rectangle> =
        boxes.iter().filter(|area| is_usable(area)).map(|area| Rectangle::of(area, width, height)).collect();
    let Some(longest) = boxes.iter().map(Rectangle::longer_side).max() else { return };
    let sigma = (GROWTH * longest as f64).min(MAX_SIGMA);
    let reach = Blur::new(sigma).reach();
    let grown: Vec<Rectangle> = boxes.iter().map(|area| area.grown_in_proportion().within(width, height)).collect();
    for part in separate_parts(&grown, reach) {
        // Blurring the outermost pixels that change needs pixels that are `reach` further out.
        let window = part.grown(reach).within(width, height);
        blur_part(pixels, &grown, window, sigma);
    }
}

/// Returns rectangles that cover all pixels that change. They are so far apart that no rectangle is
/// needed to blur another.
fn separate_parts(boxes: &[Rectangle], reach: usize) -> Vec<Rectangle> {
    let mut parts: Vec<Rectangle> = Vec::new();
    for area in boxes {
        let mut part = area.grown(reach);
        while let Some(index) = parts.iter().position(|other| other.grown(reach).meets(&part)) {
            part = part.with(&parts.swap_remove(index));
        }
        parts.push(part);
    }
    parts
}

/// Mixes the pixels of a window with their blur. The boxes in it and their soft borders must not
/// reach the edges of the window, except the edges of the image.
fn blur_part(pixels: &mut RgbImage, boxes: &[Rectangle], window: Rectangle, sigma: f64) {
    let (width, height) = (window.right - window.left, window.bottom - window.top);
    let [across, down] = [width, height].map(|length| Blur::along(length, sigma));
    let blur = |plane: &mut Plane| {
        across.apply_to_rows(plane);
        down.apply_to_columns(plane);
    };
    let mut mask = Plane { width, values: vec![0; width * height] };
    for area in boxes.iter().filter(|area| area.meets(&window)) {
        let columns = area.left.max(window.left) - window.left..area.right.min(window.right) - window.left;
        for row in area.top.max(window.top)..area.bottom.min(window.bottom) {
            mask.row_mut(row - window.top)[columns.clone()].fill(u16::MAX);
        }
    }
    blur(&mut mask);
    let bytes_of_row = 3 * pixels.width() as usize;
    let first = 3 * window.left..3 * window.right;
    let mut plane = Plane { width, values: vec![0; width * height] };
    for channel in 0..3 {
        let rows = pixels.chunks_exact(bytes_of_row).skip(window.top);
        for (values, row) in plane.values.chunks_exact_mut(width).zip(rows) {
            for (value, pixel) in values.iter_mut().zip(row[first.clone()].chunks_exact(3)) {
                *value = u16::from(pixel[channel]) * STEP;
            }
        }
        blur(&mut plane);
        let rows = pixels.chunks_exact_mut(bytes_of_row).skip(window.top);
        let blurred = plane.values.chunks_exact(width).zip(mask.values.chunks_exact(width));
        for ((blurred, mask), row) in blurred.zip(rows) {
            for ((blurred, mask), pixel) in blurred.iter().zip(mask).zip(row[first.clone()].chunks_exact_mut(3)) {
                let (blurred, mask) = (u32::from(*blurred), u32::from(*mask));
                let sharp = u32::from(pixel[channel]) * u32::from(STEP);
                // At most 65,535 squared, which is below 2^32.
                let mixed = (sharp * (u32::from(u16::MAX) - mask) + blurred * mask) / u32::from(u16::MAX);
                pixel[channel] = ((mixed + u32::from(STEP) / 2) / u32::from(STEP)) as u8;
            }
        }
    }
}

/// One 8-bit step on the scale of 16 bits: 255 becomes 65,535.
const STEP: u16 = 257;

/// A rectangle in pixels; `right` and `bottom` are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rectangle {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Rectangle {
    /// Converts a usable box to whole pixels, rounded down as in img2dataset, but at least one
    /// pixel.
    fn of(area: &[f32; 4], width: usize, height: usize) -> Self {
        // Computed in 32-bit floats before it is rounded down; otherwise 0.7 of 120 pixels would be
        // 83.
        let pixels = |part: f32, length: usize| (part.clamp(0.0, 1.0) * length as f32) as usize;
        let [x0, y0, x1, y1] = *area;
        let (left, top) = (pixels(x0, width).min(width - 1), pixels(y0, height).min(height - 1));
        let (right, bottom) = (pixels(x1, width).min(width), pixels(y1, height).min(height));
        Rectangle { left, top, right: right.max(left + 1), bottom: bottom.max(top + 1) }
    }

    fn longer_side(&self) -> usize {
        (self.right - self.left).max(self.bottom - self.top)
    }

    /// Grows a box by a tenth of its longer side, and rounds down to whole pixels again.
    fn grown_in_proportion(&self) -> Self {
        let by = GROWTH * self.longer_side() as f64;
        let before = |side: usize| (side as f64 - by).max(0.0) as usize;
        let behind = |side: usize| (side as f64 + by) as usize;
        let Rectangle { left, top, right, bottom } = *self;
        Rectangle { left: before(left), top: before(top), right: behind(right), bottom: behind(bottom) }
    }

    fn grown(&self, by: usize) -> Self {
        Rectangle {
            left: self.left.saturating_sub(by),
            top: self.top.saturating_sub(by),
            right: self.right + by,
            bottom: self.bottom + by,
        }
    }

    fn within(&self, width: usize, height: usize) -> Self {
        Rectangle { right: self.right.min(width), bottom: self.bottom.min(height), ..*self }
    }

    fn meets(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// Returns the smallest rectangle that holds both.
    fn with(&self, other: &Self) -> Self {
        Rectangle {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// A plane of 16-bit values, row by row.
struct Plane {
    width: usize,
    values: Vec<u16>,
}

impl Plane {
    fn row_mut(&mut self, row: usize) -> &mut [u16] {
        &mut self.values[row * self.width..][..self.width]
    }
}

/// Three box blurs along one axis, which together have the variance of a Gaussian.
///
/// A box of whole pixels can have only some variances. So each box has a fraction of a pixel more
/// at both ends (Gwosdek et al., Theoretical Foundations of Gaussian Convolution by Extended Box
/// Filtering, SSVM 2011): `2 * radius + 1` pixels of weight 1, and one pixel of weight `ends` on
/// either side. Beyond its edges the image is mirrored without repeating the edge pixel, as in
/// OpenCV by default.
struct Blur {
    radius: usize,
    weights: Weights,
}

/// Weights of a pixel in the mean of a box, times 2^32; all weights of a box add up to at most
/// 2^32.
#[derive(Clone, Copy)]
struct Weights {
    whole: u64,
    end: u64,
}

impl Blur {
    const PASSES: usize = 3;

    /// Returns the blur with a standard deviation of `sigma` pixels, at least 0.
    fn new(sigma: f64) -> Self {
        const ONE: u64 = 1 << 32;
        let variance = sigma * sigma / Self::PASSES as f64;
        // A box of radius r has the variance r (r + 1) / 3. Take the largest r whose variance does
        // not exceed the wanted one, and choose the ends so that (r (r + 1) (2 r + 1) / 3 + 2 ends
        // (r + 1)^2) / (2 r + 1 + 2 ends) = variance.
        let radius = ((12.0 * variance + 1.0).sqrt() / 2.0 - 0.5).floor();
        let pixels = 2.0 * radius + 1.0;
        let next = (radius + 1.0) * (radius + 1.0);
        let ends = pixels * (3.0 * variance - radius * (radius + 1.0)) / (6.0 * (next - variance));
        let whole = (ONE as f64 / (pixels + 2.0 * ends.max(0.0))) as u64;
        let end = (ONE - whole * pixels as u64) / 2;
        Blur { radius: radius as usize, weights: Weights { whole, end } }
    }

    /// Returns the blur for a line of `length` pixels, with a limited standard deviation: beyond a
    /// few times its length, a mirrored line is blurred to its mean anyway.
    fn along(length: usize, sigma: f64) -> Self {
        const ENOUGH: f64 = 4.0;
        Self::new(sigma.min(ENOUGH * length as f64))
    }

    /// Returns the largest distance over which a pixel affects another one.
    fn reach(&self) -> usize {
        Self::PASSES * (self.radius + 1)
    }

    fn apply_to_rows(&self, plane: &mut Plane) {
        let (width, margin) = (plane.width, self.radius + 1);
        // A row with mirrored margins on both sides.
        let mut wide = vec![0; width + 2 * margin];
        for row in plane.values.chunks_exact_mut(width) {
            for _ in 0..Self::PASSES {
                wide[margin..margin + width].copy_from_slice(row);
                for distance in 1..=margin {
                    wide[margin - distance] = row[mirrored(-(distance as isize), width)];
                    wide[margin + width - 1 + distance] = row[mirrored((width - 1 + distance) as isize, width)];
                }
                let mut sum: u32 = wide[1..2 * margin].iter().copied().map(u32::from).sum();
                for (column, value) in row.iter_mut().enumerate() {
                    let (before, behind) = (u32::from(wide[column]), u32::from(wide[column + 2 * margin]));
                    *value = self.weights.mean(sum, before + behind);
                    sum = sum + behind - u32::from(wide[column + 1]);
                }
            }
        }
    }

    fn apply_to_columns(&self, plane: &mut Plane) {
        let (width, height) = (plane.width, plane.values.len() / plane.width);
        let margin = self.radius + 1;
        let mut target = vec![0; plane.values.len()];
        for _ in 0..Self::PASSES {
            let source = &plane.values;
            let row = |row: isize| &source[mirrored(row, height) * width..][..width];
            let mut sums = vec![0_u32; width];
            for distance in 1 - margin as isize..margin as isize {
                sums.iter_mut().zip(row(distance)).for_each(|(sum, value)| *sum += u32::from(*value));
            }
            for (index, target) in target.chunks_exact_mut(width).enumerate() {
                let index = index as isize;
                let (before, behind) = (row(index - margin as isize), row(index + margin as isize));
                let leaving = row(index + 1 - margin as isize);
                let columns = target.iter_mut().zip(&mut sums).zip(before.iter().zip(behind).zip(leaving));
                for ((value, sum), ((before, behind), leaving)) in columns {
                    *value = self.weights.mean(*sum, u32::from(*before) + u32::from(*behind));
                    *sum = *sum + u32::from(*behind) - u32::from(*leaving);
                }
            }
            std::mem::swap(&mut plane.values, &mut target);
        }
    }
}

impl Weights {
    /// Returns the rounded mean of a box, from the sum of its whole pixels and the sum of the two
    /// at its ends.
    fn mean(self, whole: u32, ends: u32) -> u16 {
        // At most 65,535 times 2^32, plus one half, because the weights add up to at most 2^32.
        ((u64::from(whole) * self.whole + u64::from(ends) * self.end + (1 << 31)) >> 32) as u16
    }
}

/// Returns the index of a pixel in a line of `length` that is mirrored repeatedly at its first and
/// last pixel.
fn mirrored(place: isize, length: usize) -> usize {
    let Some(period) = (2 * length).checked_sub(2).filter(|period| *period > 0) else { return 0 };
    let place = place.rem_euclid(period as isize) as usize;
    place.min(period - place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{difference, expected, fixture};
    use super::*;

    fn tiles() -> RgbImage {
        image::load_from_memory(&fixture("blur.png")).unwrap().into_rgb8()
    }

    #[test]
    fn boxes_are_blurred_as_img2dataset_does() {
        // Two boxes that overlap, a small one with the blur of the largest, and one at the edge of
        // the image.
        let boxes = [[0.15, 0.2, 0.4, 0.6], [0.3, 0.5, 0.5, 0.7], [0.72, 0.1, 0.8, 0.25], [-0.1, 0.75, 0.1, 0.9]];
        let mut blurred = tiles();
        blur_boxes(&mut blurred, &boxes);
        let found = difference(&blurred, &expected("blur"));
        assert!(found.0 <= 5 && found.1 <= 0.3, "{found:?}");
        let (most, _) = difference(&blurred, &tiles());
        assert!(most > 100, "{most}");
    }

    #[test]
    fn a_blurred_edge_is_that_of_a_gaussian() {
        // The integral of the normal distribution, from its series.
        let integral = |x: f64| {
            let (mut sum, mut term) = (x, x);
            for power in (3..200).step_by(2) {
                term *= x * x / f64::from(power);
                sum += term;
            }
            0.5 + sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
        };
        for sigma in [0.5, 1.0, 1.7, 3.0, 10.0, 41.3] {
            let blur = Blur::new(sigma);
            let width = 4 * blur.reach();
            let mut values = vec![0; width];
            values[width / 2..].fill(u16::MAX);
            let mut row = Plane { width, values: values.clone() };
            blur.apply_to_rows(&mut row);
            let mut column = Plane { width: 1, values };
            blur.apply_to_columns(&mut column);
            assert!(row.values == column.values);
            for (place, value) in row.values.iter().enumerate() {
                let distance = (place as f64 + 0.5 - width as f64 / 2.0) / sigma;
                let error = (f64::from(*value) / 65_535.0 - integral(distance.clamp(-8.0, 8.0))).abs();
                let most = if sigma < 1.0 { 0.07 } else { 0.02 };
                assert!(error < most, "{sigma} at {distance}: {error}");
            }
        }
    }

    #[test]
    fn only_the_surroundings_of_the_boxes_change() {
        let original = tiles();
        let mut blurred = original.clone();
        blur_boxes(&mut blurred, &[[0.25, 0.25, 0.375, 0.5]]);
        // A box of 20 x 30 pixels, grown by 3; the mask of three boxes of a blur of 3 pixels
        // reaches 9 further.
        for (x, y, pixel) in blurred.enumerate_pixels() {
            if !(28..72).contains(&x) || !(18..72).contains(&y) {
                assert_eq!(pixel, original.get_pixel(x, y), "{x}, {y}");
            }
        }
        // Boxes far apart of the same size do not disturb each other.
        let (left, right) = ([0.05, 0.1, 0.15, 0.3], [0.8, 0.6, 0.9, 0.8]);
        let mut both = original.clone();
        blur_boxes(&mut both, &[left, right]);
        let mut one_by_one = original.clone();
        blur_boxes(&mut one_by_one, &[left]);
        blur_boxes(&mut one_by_one, &[right]);
        assert!(both == one_by_one);
    }

    #[test]
    fn boxes_are_cut_off_at_the_edges_and_impossible_ones_ignored() {
        let original = tiles();
        let blurred = |boxes: &[[f32; 4]]| {
            let mut picture = original.clone();
            blur_boxes(&mut picture, boxes);
            picture
        };
        assert!(blurred(&[[-3.0, 0.5, 0.5, 7.0]]) == blurred(&[[0.0, 0.5, 0.5, 1.0]]));
        // The last pixels are blurred too.
        let corner = blurred(&[[0.5, 0.5, 1.0, 1.0]]);
        assert!(corner.get_pixel(159, 119) != original.get_pixel(159, 119));
        for unusable in [
            [0.5, 0.5, 0.5, 0.6],
            [0.6, 0.2, 0.5, 0.6],
            [0.2, 0.6, 0.5, 0.2],
            [1.0, 0.0, 1.5, 1.0],
            [-1.0, 0.0, 0.0, 1.0],
            [0.1, f32::NAN, 0.5, 0.6],
            [0.1, 0.1, f32::INFINITY, 0.6],
        ] {
            assert!(!is_usable(&unusable), "{unusable:?}");
            assert!(blurred(&[unusable]) == original, "{unusable:?}");
        }
        let flat = RgbImage::from_pixel(50, 40, image::Rgb([0, 131, 255]));
        let mut blurred_flat = flat.clone();
        blur_boxes(&mut blurred_flat, &[[0.0, 0.0, 1.0, 1.0], [0.2, 0.2, 0.4, 0.4]]);
        assert!(flat == blurred_flat, "one colour stays that colour");
    }

    #[test]
    fn a_line_is_blurred_no_further_than_a_few_times_its_length() {
        for (length, sigma) in [(1, 10_000.0), (30, 10_000.0), (1000, 10_000.0)] {
            assert!(Blur::along(length, sigma).radius <= 5 * length, "{length}");
        }
        assert_eq!(Blur::along(100, 41.3).radius, Blur::new(41.3).radius);
        // A strip of one pixel is blurred along its length as ever.
        let mut strip = RgbImage::from_fn(1, 20_000, |_, y| image::Rgb([(y % 2 * 250) as u8; 3]));
        blur_boxes(&mut strip, &[[0.0, 0.0, 1.0, 1.0]]);
        assert!(strip.pixels().all(|pixel| pixel.0[0].abs_diff(125) <= 1));
    }

    proptest! {
        #[test]
        fn any_boxes_on_any_picture_are_survived(
            width in 1_u32..60,
            height in 1_u32..60,
            boxes in proptest::collection::vec(any::<[f32; 4]>(), 0..4),
            parts in proptest::collection::vec(proptest::array::uniform4(-0.5_f32..1.5), 0..6),
        ) {
            let mut picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
            blur_boxes(&mut picture, &boxes);
            blur_boxes(&mut picture, &parts);
        }
    }
}
