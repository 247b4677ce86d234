//! LLaVA-NeXT and LLaVA-OneVision: the image in a small size, and in the grid of tiles that
//! preserves most of its pixels, without padding and with a token at the end of every row.
//!
//! Source: `transformers` 5.24.0, `image_processing_utils.select_best_resolution`,
//! `models/llava_next/processing_llava_next.py` and
//! `models/llava_onevision/processing_llava_onevision.py`.

use super::{Unfit, VisualTokens};

/// Settings of a processor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AnyResolution {
    /// The side of a tile in pixels.
    tile_side: u32,
    /// The number of tokens along the side of a tile.
    tile_tokens: u32,
    /// Rows and columns of the possible grids, in the order of the processor.
    grids: &'static [(u32, u32)],
    /// The maximum number of tokens, in tiles; above it the grid is pooled. `None` without a limit.
    max_tiles: Option<u32>,
    /// Whether one of several images is only shown in the small size, with one token at its end.
    is_plain_among_others: bool,
}

/// `preprocessor_config.json` of llava-hf/llava-v1.6-mistral-7b-hf, as `transformers` prints it:
/// `image_grid_pinpoints` 336 x 672, 672 x 336, 672 x 672, 1008 x 336 and 336 x 1008 (height and
/// width), `crop_size` 336; patches of 14 pixels.
pub(super) const LLAVA_NEXT: AnyResolution = AnyResolution {
    tile_side: 336,
    tile_tokens: 24,
    grids: &[(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)],
    max_tiles: None,
    is_plain_among_others: false,
};

/// `config.json` of llava-hf/llava-onevision-qwen2-7b-ov-hf: 36 `image_grid_pinpoints` of 384 to
/// 2304, rows before columns; `size` 384, 729 tokens per tile, `vision_aspect_ratio`
/// "anyres_max_9".
pub(super) const LLAVA_ONEVISION: AnyResolution = AnyResolution {
    tile_side: 384,
    tile_tokens: 27,
    grids: &SIX_BY_SIX,
    max_tiles: Some(9),
    is_plain_among_others: true,
};

const SIX_BY_SIX: [(u32, u32); 36] = {
    let mut grids = [(0, 0); 36];
    let mut place = 0;
    while place < 36 {
        grids[place] = (place as u32 / 6 + 1, place as u32 % 6 + 1);
        place += 1;
    }
    grids
};

/// The grid is pooled if its side exceeds the limit by more than this factor.
const POOLED_FROM: f64 = 1.1;

impl AnyResolution {
    pub(super) fn count(&self, width: u32, height: u32, pictures: usize) -> Result<VisualTokens, Unfit> {
        let small = u64::from(self.tile_tokens * self.tile_tokens);
        if self.is_plain_among_others && pictures > 1 {
            return Ok(VisualTokens { features: small + 1, marks: 0 });
        }
        let (width, height) = (f64::from(width), f64::from(height));
        let nothing_left = Unfit("its short side vanishes in every grid, so its processor fails");
        let (grid_rows, grid_columns) = self.best_grid(width, height).ok_or(nothing_left)?;
        let (mut rows, mut columns) = (self.tile_tokens * grid_rows, self.tile_tokens * grid_columns);
        // Rows or columns with only padding are left out, equally many on both sides.
        if width / height > f64::from(columns) / f64::from(rows) {
            let shown = whole(height * (f64::from(columns) / width));
            rows -= (rows - shown) / 2 * 2;
        } else {
            let shown = whole(width * (f64::from(rows) / height));
            columns -= (columns - shown) / 2 * 2;
        }
        if let Some(max_tiles) = self.max_tiles {
            let limit = f64::from(max_tiles) * small as f64;
            let ratio = (f64::from(rows * columns) / limit).sqrt();
            if ratio > POOLED_FROM {
                (rows, columns) = ((f64::from(rows) / ratio) as u32, (f64::from(columns) / ratio) as u32);
            }
        }
        let row_ends = rows;
        Ok(VisualTokens { features: small + u64::from(rows * columns + row_ends), marks: 0 })
    }

    /// Returns the grid that preserves most pixels of the image, and of equal ones the smallest;
    /// `None` if a side of the image would vanish in all of them.
    fn best_grid(&self, width: f64, height: f64) -> Option<(u32, u32)> {
        let side = f64::from(self.tile_side);
        let (mut best, mut most_shown, mut least_wasted) = (None, 0.0_f64, f64::INFINITY);
        for &(rows, columns) in self.grids {
            let (grid_height, grid_width) = (f64::from(rows) * side, f64::from(columns) * side);
            let scale = (grid_width / width).min(grid_height / height);
            let shown = ((width * scale).trunc() * (height * scale).trunc()).min(width * height);
            let wasted = grid_width * grid_height - shown;
            let order = shown.total_cmp(&most_shown);
            if order.is_gt() || order.is_eq() && wasted < least_wasted {
                (best, most_shown, least_wasted) = (Some((rows, columns)), shown, wasted);
            }
        }
        best
    }
}

/// Rounds to 7 decimals, as the processor does so that 23.99999999 becomes 24, and truncates the
/// fraction.
fn whole(length: f64) -> u32 {
    let next = length.ceil();
    if next - length > 1e-6 {
        return length as u32;
    }
    // Both Rust and Python round the exact value of the double.
    format!("{length:.7}").parse::<f64>().expect("a formatted number is a number") as u32
}
