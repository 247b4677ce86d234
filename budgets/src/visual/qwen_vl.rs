//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL: the image is scaled to whole patches, and four patches become
//! one token.
//!
//! Source: `smart_resize` of `transformers` 5.24.0, `models/qwen2_vl/image_processing_qwen2_vl.py`.
//! The two marks are `<|vision_start|>` and `<|vision_end|>` of the chat template.

use super::{Unfit, VisualTokens};

/// The maximum aspect ratio that the processor accepts.
const MAX_ASPECT_RATIO: f64 = 200.0;

/// Settings of a preprocessor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QwenVl {
    /// The side of a token in pixels: the side of a patch times the number of patches merged along
    /// it.
    pub(super) factor: u32,
    /// The minimum number of pixels of the scaled image.
    pub(super) min_pixels: u32,
    /// The maximum number of pixels of the scaled image.
    pub(super) max_pixels: u32,
}

/// `preprocessor_config.json` of Qwen/Qwen2-VL-2B (revision 258ddfb) and of copies of
/// Qwen2-VL-7B-Instruct and Qwen2.5-VL-72B-Instruct: `min_pixels` 3136, `max_pixels` 12845056,
/// `patch_size` 14, `merge_size` 2.
pub(super) const QWEN2: QwenVl = QwenVl { factor: 28, min_pixels: 56 * 56, max_pixels: 28 * 28 * 16384 };

/// `preprocessor_config.json` of copies of Qwen3-VL (coder3101/Qwen3-VL-2B-Instruct-heretic) and of
/// Qwen/Qwen3.5-2B-Base: `size` 65536 to 16777216, `patch_size` 16, `merge_size` 2.
pub(super) const QWEN3: QwenVl = QwenVl { factor: 32, min_pixels: 256 * 256, max_pixels: 4096 * 4096 };

impl QwenVl {
    pub(super) fn setting(&mut self, key: &str) -> Option<&mut u32> {
        match key {
            "min_pixels" => Some(&mut self.min_pixels),
            "max_pixels" => Some(&mut self.max_pixels),
            _ => None,
        }
    }

    pub(super) fn count(&self, width: u32, height: u32) -> Result<VisualTokens, Unfit> {
        let (width, height) = (f64::from(width), f64::from(height));
        if width.max(height) / width.min(height) > MAX_ASPECT_RATIO {
            return Err(Unfit("one side is more than 200 times the other, which its processor rejects"));
        }
        let factor = f64::from(self.factor);
        // The number of tokens along a side. Python rounds halves to even.
        let (mut rows, mut columns) = ((height / factor).round_ties_even(), (width / factor).round_ties_even());
        let (min_pixels, max_pixels) = (f64::from(self.min_pixels), f64::from(self.max_pixels));
        let pixels = rows * factor * (columns * factor);
        if pixels > max_pixels {
            let shrink = (height * width / max_pixels).sqrt();
            rows = (height / shrink / factor).floor().max(1.0);
            columns = (width / shrink / factor).floor().max(1.0);
        } else if pixels < min_pixels {
            let grow = (min_pixels / (height * width)).sqrt();
            rows = (height * grow / factor).ceil();
            columns = (width * grow / factor).ceil();
        }
        Ok(VisualTokens { features: (rows * columns) as u64, marks: 2 })
    }
}
