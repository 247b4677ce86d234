//! Idefics3, SmolVLM and SmolVLM2: the image is scaled to a longest side and split into tiles, and
//! a thumbnail is added.
//!
//! Source: `transformers` 5.24.0, `models/idefics3/image_processing_idefics3.py` and the text that
//! `Idefics3Processor.replace_image_token` creates for the tiles. Marks are the names of tiles, the
//! tokens around them and a line feed after every row of tiles. The last of these line feeds and
//! the one before the thumbnail are one token, as in the vocabularies of these models.

use super::VisualTokens;

/// Settings of a processor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Idefics3 {
    /// The length of the longer side after scaling, in pixels.
    longest_side: u32,
    /// The side of a tile in pixels.
    tile_side: u32,
    /// The number of tokens of a tile.
    tile_tokens: u32,
}

/// HuggingFaceM4/Idefics3-8B-Llama3: `size` 1456 of `preprocessor_config.json` (revision 30d4b60),
/// `max_image_size` 364 of the revision before; `image_seq_len` 169 of `Idefics3Processor`.
pub(super) const IDEFICS3: Idefics3 = Idefics3 { longest_side: 4 * 364, tile_side: 364, tile_tokens: 169 };
/// HuggingFaceTB/SmolVLM-Instruct: `size` 1536, `max_image_size` 384, `image_seq_len` 81 (revision
/// f6f46b9). For SmolVLM2-2.2B-Instruct, only `image_seq_len` 81 was checked, in a copy, not the
/// sizes.
pub(super) const SMOLVLM: Idefics3 = Idefics3 { longest_side: 4 * 384, tile_side: 384, tile_tokens: 81 };
/// HuggingFaceTB/SmolVLM-256M-Instruct, 500M, and SmolVLM2 of these sizes: `size` 2048,
/// `max_image_size` 512 (SmolVLM2-256M-Video-Instruct, revision 017ae74), `image_seq_len` 64
/// (SmolVLM2-500M-Video-Instruct, revision d52b9cd).
pub(super) const SMOLVLM_256M: Idefics3 = Idefics3 { longest_side: 4 * 512, tile_side: 512, tile_tokens: 64 };

impl Idefics3 {
    pub(super) fn count(&self, width: u32, height: u32) -> VisualTokens {
        let (width, height) = self.scaled(f64::from(width), f64::from(height));
        let (rows, columns) = (height.div_ceil(self.tile_side), width.div_ceil(self.tile_side));
        let tile_tokens = u64::from(self.tile_tokens);
        let (rows, columns) = (u64::from(rows), u64::from(columns));
        if rows * columns == 1 {
            return VisualTokens { features: tile_tokens, marks: 3 };
        }
        let tiles = rows * columns;
        VisualTokens { features: (tiles + 1) * tile_tokens, marks: 3 + 2 * tiles + rows }
    }

    /// Returns the scaled width and height in pixels: the longer side is `longest_side`, the other
    /// one is even.
    fn scaled(&self, width: f64, height: f64) -> (u32, u32) {
        let ratio = width / height;
        let longest = f64::from(self.longest_side);
        let even = |side: f64| {
            let side = side as u32;
            (side + side % 2).max(1)
        };
        if width >= height {
            (self.longest_side, even(longest / ratio))
        } else {
            (even(longest * ratio), self.longest_side)
        }
    }
}
