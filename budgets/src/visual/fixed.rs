//! Models for which every image has the same number of tokens.

use super::VisualTokens;

/// The tokens of any image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fixed {
    tokens: u32,
    marks: u32,
}

/// LLaVA 1.5: 24 x 24 patches of 14 pixels, from a square of 336 pixels (arXiv 2310.03744).
pub(super) const LLAVA: Fixed = Fixed { tokens: 576, marks: 0 };
/// Gemma 3 without pan-and-scan: 256 (arXiv 2503.19786; `image_seq_length` 256 and
/// `do_pan_and_scan` null in copies of google/gemma-3-4b-it's `preprocessor_config.json`).
/// `Gemma3Processor` of `transformers` 5.24.0 adds two line feeds (one token) and a mark on both
/// sides.
pub(super) const GEMMA3: Fixed = Fixed { tokens: 256, marks: 4 };
/// Lynx: the resampler has 32 queries (arXiv 2307.02469).
pub(super) const LYNX: Fixed = Fixed { tokens: 32, marks: 0 };
/// A number that the user must set.
pub(super) const NONE: Fixed = Fixed { tokens: 0, marks: 0 };

impl Fixed {
    pub(super) fn setting(&mut self, key: &str) -> Option<&mut u32> {
        (key == "tokens").then_some(&mut self.tokens)
    }

    pub(super) fn count(&self) -> VisualTokens {
        VisualTokens { features: u64::from(self.tokens), marks: u64::from(self.marks) }
    }
}
