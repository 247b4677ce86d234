//! The resize modes: computes the size of the stored image, and scales to it with an antialiased
//! bicubic filter.

use image::metadata::Orientation;
use image::{Rgb, RgbImage};

use super::planes::Wanted;
use super::scale::{self, Filter, Part, Source};
use super::{Encode, PictureSettings, Resize};

/// The size that an image is scaled to, and the size that is stored. Both have the same centre.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Width and height of the whole image after scaling, pixels.
    pub scaled: (u32, u32),
    /// Width and height of the stored image, pixels: `scaled`, or the square that it is cropped or
    /// padded to.
    pub stored: (u32, u32),
}

impl Layout {
    /// Returns the layout for an image of `original` width and height and a `size` of at least 1.
    pub(super) fn new(resize: Resize, original: (u32, u32), size: u32, only_if_larger: bool) -> Self {
        let unchanged = Layout { scaled: original, stored: original };
        let (width, height) = original;
        let side = match resize {
            Resize::Keep => return unchanged,
            Resize::Shorter | Resize::CentreCrop => width.min(height),
            Resize::Longer | Resize::Border => width.max(height),
        };
        if only_if_larger && side <= size {
            return unchanged;
        }
        let scaled = (in_proportion(width, size, side), in_proportion(height, size, side));
        let stored = match resize {
            Resize::CentreCrop | Resize::Border => (size, size),
            Resize::Keep | Resize::Shorter | Resize::Longer => scaled,
        };
        Layout { scaled, stored }
    }

    /// Returns whether an image of `original` width and height stays unchanged.
    pub(super) fn is_identity(self, original: (u32, u32)) -> bool {
        self.scaled == original && self.stored == original
    }
}

/// Returns the size to make of the planes of an image, before it is turned upright; `stored` is its
/// size in the file. Returns `None` if planes are not useful: if the image is not scaled, or if
/// converting to full-size RGB first is better.
pub(super) fn wanted_of_planes(
    settings: &PictureSettings,
    stored: (u32, u32),
    orientation: Orientation,
) -> Option<Wanted> {
    if settings.resize == Resize::Keep {
        // The image is only decoded to check it, so the smallest size is enough.
        return Some(Wanted { size: (1, 1), halves_chroma: true });
    }
    let layout = Layout::new(settings.resize, turned(stored, orientation), settings.size, settings.only_if_larger);
    let size = turned(layout.scaled, orientation);
    // Halved chroma of an odd size cannot be turned or cropped.
    let halves_chroma =
        settings.encode == Encode::Jpeg && layout.stored == layout.scaled && orientation == Orientation::NoTransforms;
    let is_smaller = size.0 <= stored.0 && size.1 <= stored.1;
    (size != stored && (halves_chroma || is_smaller)).then_some(Wanted { size, halves_chroma })
}

/// Returns the width and height after an orientation is applied (or before, since this is
/// symmetric).
pub(super) fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (height, width)
        }
        _ => (width, height),
    }
}

/// Returns `length * size / side`, rounded with halves up, at least 1.
fn in_proportion(length: u32, size: u32, side: u32) -> u32 {
    let scaled = (u64::from(length) * u64::from(size) + u64::from(side) / 2) / u64::from(side);
    u32::try_from(scaled).unwrap_or(u32::MAX).max(1)
}

/// Scales an image, then crops its centre or pads it with white, according to the layout.
pub(super) fn lay_out(image: RgbImage, layout: Layout) -> RgbImage {
    let Layout { scaled, stored } = layout;
    if stored.0 < scaled.0 || stored.1 < scaled.1 {
        return scaled_centre(&image, layout);
    }
    let image = if scaled == image.dimensions() { image } else { scaled_to(&image, scaled) };
    if stored == scaled {
        return image;
    }
    let mut padded = RgbImage::from_pixel(stored.0, stored.1, Rgb([255; 3]));
    let (left, top) = ((stored.0 - scaled.0) / 2, (stored.1 - scaled.1) / 2);
    image::imageops::replace(&mut padded, &image, i64::from(left), i64::from(top));
    padded
}

/// Returns the centre of the scaled image without computing the rest of it, which could be huge for
/// a thin strip.
fn scaled_centre(image: &RgbImage, layout: Layout) -> RgbImage {
    let Layout { scaled, stored } = layout;
    // A whole number of pixels of the scaled image is cut off; here it is converted to pixels of
    // the original. The filter still reads beyond the edges of this part, so the pixels equal those
    // of scaling first and cropping afterwards.
    let start_and_length = |original: u32, scaled: u32, stored: u32| {
        let scale = |length: u32| f64::from(length) * f64::from(original) / f64::from(scaled);
        (scale((scaled - stored) / 2), scale(stored))
    };
    let (left, width) = start_and_length(image.width(), scaled.0, stored.0);
    let (top, height) = start_and_length(image.height(), scaled.1, stored.1);
    part_scaled_to(image, Part { start: (left, top), extent: (width, height) }, stored)
}

/// Returns the whole image scaled to a new width and height.
pub(super) fn scaled_to(image: &RgbImage, size: (u32, u32)) -> RgbImage {
    let extent = (f64::from(image.width()), f64::from(image.height()));
    part_scaled_to(image, Part { start: (0.0, 0.0), extent }, size)
}

/// Returns the largest square at the centre, scaled to `side` x `side` pixels.
pub(super) fn centre_square(image: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let shorter = width.min(height);
    let start = ((width - shorter) / 2.0, (height - shorter) / 2.0);
    part_scaled_to(image, Part { start, extent: (shorter, shorter) }, (side, side))
}

fn part_scaled_to(image: &RgbImage, part: Part, (width, height): (u32, u32)) -> RgbImage {
    let source = Source::<3> {
        samples: image,
        stride: image.width() as usize * 3,
        origin: (0, 0),
        size: (image.width() as usize, image.height() as usize),
        part,
    };
    let extent = (f64::from(width), f64::from(height));
    let samples = scale::scale(source, (width as usize, height as usize), extent, Filter::CatmullRom);
    RgbImage::from_raw(width, height, samples).expect("as many as that size has")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Resize; 5] = [Resize::Keep, Resize::Shorter, Resize::Longer, Resize::CentreCrop, Resize::Border];

    #[test]
    fn every_mode_gives_the_size_that_its_name_says() {
        type Size = (u32, u32);
        const SQUARE: Size = (100, 100);
        // Landscape images and squares, only_if_larger, and what is stored at size 100 by:
        // shorter, longer, centre_crop, border.
        let cases: &[(Size, bool, [Size; 4])] = &[
            // larger
            ((300, 200), true, [(150, 100), (100, 67), SQUARE, SQUARE]),
            ((300, 200), false, [(150, 100), (100, 67), SQUARE, SQUARE]),
            ((300, 300), true, [SQUARE; 4]),
            ((300, 300), false, [SQUARE; 4]),
            // only the longer side is larger
            ((150, 80), true, [(150, 80), (100, 53), (150, 80), SQUARE]),
            ((150, 80), false, [(188, 100), (100, 53), SQUARE, SQUARE]),
            // one side is right
            ((150, 100), true, [(150, 100), (100, 67), (150, 100), SQUARE]),
            ((150, 100), false, [(150, 100), (100, 67), SQUARE, SQUARE]),
            ((100, 60), true, [(100, 60); 4]),
            ((100, 60), false, [(167, 100), (100, 60), SQUARE, SQUARE]),
            ((100, 100), true, [SQUARE; 4]),
            ((100, 100), false, [SQUARE; 4]),
            // smaller
            ((60, 40), true, [(60, 40); 4]),
            ((60, 40), false, [(150, 100), (100, 67), SQUARE, SQUARE]),
            ((50, 50), true, [(50, 50); 4]),
            ((50, 50), false, [SQUARE; 4]),
            // thin
            ((900, 1), true, [(900, 1), (100, 1), (900, 1), SQUARE]),
            ((900, 1), false, [(90_000, 100), (100, 1), SQUARE, SQUARE]),
        ];
        let turned = |(width, height)| (height, width);
        for &(original, only_if_larger, stored) in cases {
            for (resize, stored) in MODES.into_iter().zip([original].into_iter().chain(stored)) {
                let layout = Layout::new(resize, original, 100, only_if_larger);
                assert_eq!(layout.stored, stored, "{resize:?} {original:?} {only_if_larger}");
                let portrait = Layout::new(resize, turned(original), 100, only_if_larger);
                assert_eq!(portrait.stored, turned(stored), "{resize:?} {original:?} {only_if_larger}, turned");
                assert_eq!(portrait.scaled, turned(layout.scaled));
            }
        }
        let crop = Layout::new(Resize::CentreCrop, (300, 200), 100, true);
        assert_eq!(crop.scaled, (150, 100));
        let border = Layout::new(Resize::Border, (300, 200), 100, true);
        assert_eq!(border.scaled, (100, 67));
    }

    #[test]
    fn proportions_are_rounded_and_never_overflow() {
        let shorter = |original, size| Layout::new(Resize::Shorter, original, size, false).stored;
        assert_eq!(shorter((640, 480), 256), (341, 256));
        assert_eq!(shorter((480, 640), 256), (256, 341));
        assert_eq!(shorter((3, 4), 1), (1, 1));
        assert_eq!(shorter((1, 60_000), 16_384), (16_384, 983_040_000));
        assert_eq!(shorter((1, u32::MAX), 16_384), (16_384, u32::MAX));
    }

    #[test]
    fn any_picture_gets_a_possible_size_in_its_proportion() {
        // Every width to 2000 with every eleventh height, the first one shifted with the width.
        let pictures =
            (1..=2000_u32).flat_map(|width| (1 + width % 11..=2000).step_by(11).map(move |height| (width, height)));
        for original in pictures {
            let (width, height) = original;
            let (shorter, longer) = (width.min(height), width.max(height));
            for size in [1, 256, 1 + width * height % 3000] {
                for resize in MODES {
                    for only_if_larger in [false, true] {
                        let layout = Layout::new(resize, original, size, only_if_larger);
                        let context = (resize, original, size, only_if_larger, layout);
                        let (side, other, square) = match resize {
                            Resize::Keep => {
                                assert!(layout.is_identity(original), "{context:?}");
                                continue;
                            }
                            Resize::Shorter => (shorter, longer, false),
                            Resize::CentreCrop => (shorter, longer, true),
                            Resize::Longer => (longer, shorter, false),
                            Resize::Border => (longer, shorter, true),
                        };
                        if only_if_larger && side <= size {
                            assert!(layout.is_identity(original), "{context:?}");
                            continue;
                        }
                        let stored = if square { (size, size) } else { layout.scaled };
                        assert_eq!(layout.stored, stored, "{context:?}");
                        let found = if (width <= height) == (side == shorter) {
                            layout.scaled
                        } else {
                            (layout.scaled.1, layout.scaled.0)
                        };
                        assert_eq!(found.0, size, "{context:?}");
                        // In whole numbers: the other side is off by at most half a pixel, or is
                        // the 1 that it cannot go below.
                        let error = (u64::from(found.1) * u64::from(side)).abs_diff(u64::from(other) * u64::from(size));
                        assert!(2 * error <= u64::from(side) || found.1 == 1, "{context:?}");
                        if resize == Resize::Longer || resize == Resize::Border {
                            assert!((1..=size).contains(&found.1), "{context:?}");
                        } else {
                            assert!(found.1 >= size, "{context:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn cutting_out_the_centre_equals_scaling_then_cutting() {
        let picture = |width, height| {
            RgbImage::from_fn(width, height, |x, y| {
                Rgb([x * 37 % 256, y * 91 % 256, (x * y) % 251].map(|value| value as u8))
            })
        };
        for (original, size) in
            [((45, 20), 13), ((20, 45), 13), ((17, 5), 9), ((31, 30), 30), ((8, 40), 40), ((2, 90), 3)]
        {
            let image = picture(original.0, original.1);
            let layout = Layout::new(Resize::CentreCrop, original, size, false);
            let whole = scaled_to(&image, layout.scaled);
            let (left, top) = ((layout.scaled.0 - size) / 2, (layout.scaled.1 - size) / 2);
            let wanted = image::imageops::crop_imm(&whole, left, top, size, size).to_image();
            let found = lay_out(image, layout);
            // The place of a filter's window is a floating-point number, which may come out on
            // either side of a half.
            let most = found.as_raw().iter().zip(wanted.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(most <= Some(1), "{original:?} to {size}: {most:?}");
        }
        // The whole image, scaled, would have 1.6 gigapixels.
        let layout = Layout::new(Resize::CentreCrop, (100_000, 1), 128, false);
        assert_eq!(lay_out(picture(100_000, 1), layout).dimensions(), (128, 128));
    }

    #[test]
    fn padding_is_white_and_centred() {
        for (original, size, left, top) in
            [((30, 20), 33, 0, 5), ((20, 30), 33, 5, 0), ((60, 1), 30, 0, 14), ((7, 4), 7, 0, 1), ((9, 9), 7, 0, 0)]
        {
            let image = RgbImage::from_pixel(original.0, original.1, Rgb([10, 20, 30]));
            let layout = Layout::new(Resize::Border, original, size, false);
            let padded = lay_out(image, layout);
            assert_eq!(padded.dimensions(), (size, size));
            let (right, bottom) = (left + layout.scaled.0, top + layout.scaled.1);
            assert!([0, 1].contains(&(size - right - left)) && [0, 1].contains(&(size - bottom - top)));
            for (x, y, pixel) in padded.enumerate_pixels() {
                let inside = (left..right).contains(&x) && (top..bottom).contains(&y);
                let wanted = if inside { [10, 20, 30] } else { [255; 3] };
                assert_eq!(pixel.0, wanted, "{original:?} at {x}, {y}");
            }
        }
    }
}
