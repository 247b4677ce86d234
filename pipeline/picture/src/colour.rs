//! Converts images with a colour profile of another space than sRGB to sRGB.
//!
//! The profile says what the numbers of the pixels mean (ICC.1). It is used with the perceptual
//! intent, the default of Pillow and LittleCMS. For profiles of three primaries and a curve, which
//! nearly all profiles are, this is relative colorimetry. A profile is ignored if it is damaged, of
//! an unsupported kind, or for other channels than those of the image. The pixels are then taken as
//! sRGB, as in images without a profile.

use std::sync::Arc;

use image::{ColorType, DynamicImage, RgbImage, RgbaImage};
use moxcms::{ColorProfile, DataColorSpace, Layout, Matrix3d, Transform8BitExecutor, TransformOptions};

use crate::guarded::guarded;

/// The channels of an image before it is converted to RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    /// One channel, or three equal ones.
    Grey,
    GreyAlpha,
    Rgb,
    RgbAlpha,
    /// Printing inks; 0 is no ink.
    Cmyk,
}

impl Channels {
    pub(super) fn of(colour: ColorType) -> Self {
        match (colour.has_color(), colour.has_alpha()) {
            (false, false) => Channels::Grey,
            (false, true) => Channels::GreyAlpha,
            (true, false) => Channels::Rgb,
            (true, true) => Channels::RgbAlpha,
        }
    }
}

/// A conversion from the colour space of a profile to sRGB.
pub(super) struct ToSrgb {
    source: Layout,
    executor: Arc<Transform8BitExecutor>,
}

impl ToSrgb {
    /// Returns the conversion that the pixels of an image need; `None` if the profile is that of
    /// sRGB or cannot be used.
    pub(super) fn new(profile: &[u8], channels: Channels) -> Option<Self> {
        // Profiles are untrusted, as images are. A panic in the parser must not make the image
        // unusable.
        guarded(|| Self::from_profile(profile, channels)).flatten()
    }

    fn from_profile(profile: &[u8], channels: Channels) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(profile).ok()?;
        let srgb = ColorProfile::new_srgb();
        // As in browsers, RGB profiles are used for grey images too.
        let (source, target) = match (profile.color_space, channels) {
            (DataColorSpace::Rgb, Channels::Rgb | Channels::Grey) => (Layout::Rgb, Layout::Rgb),
            (DataColorSpace::Rgb, Channels::RgbAlpha | Channels::GreyAlpha) => (Layout::Rgba, Layout::Rgba),
            (DataColorSpace::Gray, Channels::Grey) => (Layout::Gray, Layout::Rgb),
            (DataColorSpace::Gray, Channels::GreyAlpha) => (Layout::GrayAlpha, Layout::Rgba),
            (DataColorSpace::Cmyk, Channels::Cmyk) => (Layout::Rgba, Layout::Rgb),
            _ => return None,
        };
        if is_srgb(&profile, &srgb) {
            return None;
        }
        let executor = profile.create_transform_8bit(source, &srgb, target, TransformOptions::default()).ok()?;
        Some(ToSrgb { source, executor })
    }

    /// Converts a decoded image to 8-bit RGB, with alpha if it has any.
    pub(super) fn convert(&self, image: DynamicImage) -> DynamicImage {
        let (width, height) = (image.width(), image.height());
        match self.source {
            Layout::Gray => {
                let mut pixels = RgbImage::new(width, height);
                self.run(image.into_luma8().as_raw(), 1, &mut pixels, 3);
                pixels.into()
            }
            Layout::GrayAlpha => {
                let mut pixels = RgbaImage::new(width, height);
                self.run(image.into_luma_alpha8().as_raw(), 2, &mut pixels, 4);
                pixels.into()
            }
            Layout::Rgba => {
                let mut pixels = image.into_rgba8();
                self.run_in_place(&mut pixels, 4);
                pixels.into()
            }
            _ => {
                let mut pixels = image.into_rgb8();
                self.run_in_place(&mut pixels, 3);
                pixels.into()
            }
        }
    }

    /// Converts CMYK (0 is no ink) to RGB.
    pub(super) fn convert_cmyk(&self, inks: &RgbaImage) -> RgbImage {
        let mut pixels = RgbImage::new(inks.width(), inks.height());
        self.run(inks, 4, &mut pixels, 3);
        pixels
    }

    fn run(&self, source: &[u8], source_channels: usize, target: &mut [u8], channels: usize) {
        let sources = source.chunks(PIXELS_AT_ONCE * source_channels);
        for (source, target) in sources.zip(target.chunks_mut(PIXELS_AT_ONCE * channels)) {
            self.executor.transform(source, target).expect("both sides have the same number of whole pixels");
        }
    }

    fn run_in_place(&self, samples: &mut [u8], channels: usize) {
        let mut source = [0; PIXELS_AT_ONCE * 4];
        for chunk in samples.chunks_mut(PIXELS_AT_ONCE * channels) {
            let source = &mut source[..chunk.len()];
            source.copy_from_slice(chunk);
            self.executor.transform(source, chunk).expect("both sides have the same number of whole pixels");
        }
    }
}

/// Converts CMYK (0 is no ink) to RGB without a profile, by (255 - black) (255 - ink) / 255 with
/// Pillow's rounding (`cmyk2rgb` of libImaging/Convert.c).
pub(super) fn rgb_of_inks(inks: &RgbaImage) -> RgbImage {
    let mut pixels = RgbImage::new(inks.width(), inks.height());
    for (pixel, [ink @ .., black]) in pixels.as_chunks_mut().0.iter_mut().zip(inks.as_chunks::<4>().0) {
        let left = 255 - u32::from(*black);
        *pixel = ink.map(|ink| {
            let product = u32::from(ink) * left + 128;
            (left - (((product >> 8) + product) >> 8)) as u8
        });
    }
    pixels
}

/// Pixels that are converted at once, so that the extra buffer stays small.
const PIXELS_AT_ONCE: usize = 1024;

/// Returns whether the conversion of a set of colours to sRGB changes no 8-bit value by more than
/// one step. skcms, the colour management of Chromium, compares profiles in this way
/// (`skcms_ApproximatelyEqualProfiles`). sRGB profiles differ in rounding and in how they store the
/// curve.
fn is_srgb(profile: &ColorProfile, srgb: &ColorProfile) -> bool {
    let has_tables = [&profile.lut_a_to_b_perceptual, &profile.lut_a_to_b_colorimetric, &profile.lut_a_to_b_saturation]
        .into_iter()
        .any(Option::is_some);
    let Ok(wanted) = srgb.build_8bit_lin_table(&srgb.red_trc) else { return false };
    let curve = |curve| profile.build_8bit_lin_table(curve).ok().filter(|curve| is_same_curve(curve, &wanted));
    match profile.color_space {
        _ if has_tables => false,
        DataColorSpace::Gray => curve(&profile.gray_trc).is_some(),
        DataColorSpace::Rgb if profile.is_matrix_shaper() => {
            match (curve(&profile.red_trc), curve(&profile.green_trc), curve(&profile.blue_trc)) {
                (Some(red), Some(green), Some(blue)) => {
                    has_same_primaries(&profile.transform_matrix(srgb), [&red, &green, &blue], &wanted)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

fn has_same_primaries(matrix: &Matrix3d, curves: [&[f32; 256]; 3], wanted: &[f32; 256]) -> bool {
    const STEPS: [usize; 6] = [0, 51, 102, 153, 204, 255];
    let mut colours = STEPS.into_iter().flat_map(|r| STEPS.into_iter().flat_map(move |g| STEPS.map(|b| [r, g, b])));
    colours.all(|colour| {
        let linear: [f64; 3] = std::array::from_fn(|channel| f64::from(curves[channel][colour[channel]]));
        matrix.v.iter().zip(colour).all(|(row, step)| {
            let value: f64 = row.iter().zip(linear).map(|(factor, value)| factor * value).sum();
            is_within_a_step(value as f32, step, wanted)
        })
    })
}

fn is_same_curve(curve: &[f32; 256], wanted: &[f32; 256]) -> bool {
    curve.iter().enumerate().all(|(step, value)| is_within_a_step(*value, step, wanted))
}

/// Returns whether a linear value is within one and a half 8-bit steps of sRGB's value for `step`,
/// so that it is rounded to `step` or a neighbour of it.
fn is_within_a_step(value: f32, step: usize, wanted: &[f32; 256]) -> bool {
    let middle = |left: usize, right: usize| f32::midpoint(wanted[left], wanted[right]);
    let lowest = step.checked_sub(2).map_or(f32::MIN, |below| middle(below, below + 1));
    let highest = if step + 2 > 255 { f32::MAX } else { middle(step + 1, step + 2) };
    (lowest..=highest).contains(&value)
}
