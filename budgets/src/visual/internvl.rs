//! InternVL 2.5, 3 and 3.5: tiles of 448 pixels in the grid whose aspect ratio is closest to that
//! of the image, and a thumbnail if there are several tiles.
//!
//! Source: `get_optimal_tiled_canvas` of `transformers` 5.24.0,
//! `models/got_ocr2/image_processing_got_ocr2.py`, which is `dynamic_preprocess` of InternVL. The
//! two marks are `<img>` and `</img>`.

use super::VisualTokens;

/// The side of a tile in pixels.
const TILE_SIDE: f64 = 448.0;
/// The number of tokens of a tile: 32 x 32 patches of 14 pixels, 4 of which become one token.
const TILE_TOKENS: u64 = 256;

/// Settings of a preprocessor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InternVl {
    /// The minimum number of tiles without the thumbnail.
    pub(super) min_tiles: u32,
    /// The maximum number of tiles without the thumbnail.
    pub(super) max_tiles: u32,
}

/// `InternVLProcessorKwargs` of `transformers` 5.24.0: `crop_to_patches` true, `min_patches` 1,
/// `max_patches` 12. The `preprocessor_config.json` of the models was not available.
pub(super) const INTERNVL: InternVl = InternVl { min_tiles: 1, max_tiles: 12 };

impl InternVl {
    pub(super) fn setting(&mut self, key: &str) -> Option<&mut u32> {
        match key {
            "min_tiles" => Some(&mut self.min_tiles),
            "max_tiles" => Some(&mut self.max_tiles),
            _ => None,
        }
    }

    pub(super) fn count(&self, width: u32, height: u32) -> VisualTokens {
        let tiles = u64::from(self.tiles(f64::from(width), f64::from(height)));
        let with_thumbnail = if tiles > 1 { tiles + 1 } else { tiles };
        VisualTokens { features: with_thumbnail * TILE_TOKENS, marks: 2 }
    }

    /// Returns the number of tiles of the best grid, the one with the nearest aspect ratio. Of
    /// equal ones, it is the last in the order of their sizes with less than twice the pixels of
    /// the image.
    fn tiles(&self, width: f64, height: f64) -> u32 {
        let (mut best, mut best_difference) = (1, f64::INFINITY);
        for tiles in self.min_tiles..=self.max_tiles {
            // The processor's order: by tiles, then by columns.
            for columns in (1..=tiles).filter(|columns| tiles % columns == 0) {
                let rows = tiles / columns;
                let difference = (width / height - f64::from(columns) / f64::from(rows)).abs();
                let is_filled = width * height > 0.5 * TILE_SIDE * TILE_SIDE * f64::from(tiles);
                let order = difference.total_cmp(&best_difference);
                if order.is_lt() || order.is_eq() && is_filled {
                    (best, best_difference) = (tiles, difference);
                }
            }
        }
        best
    }
}
