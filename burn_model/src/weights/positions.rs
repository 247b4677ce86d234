//! Position embeddings of a ViT at another resolution.

use crate::cubic;

/// The slope of PyTorch's kernel.
const SLOPE: f64 = -0.75;

/// Interpolates position embeddings to `tokens` tokens; the first `class` rows are kept. Also
/// returns the sides of the old and the new grid of patches. `None` if one of the grids is not a
/// square.
pub(crate) fn resized(values: &[f32], width: usize, class: usize, tokens: usize) -> Option<(Vec<f32>, [usize; 2])> {
    let side = |tokens: usize| {
        let patches = tokens.checked_sub(class)?;
        Some(patches.isqrt()).filter(|side| *side > 0 && side * side == patches)
    };
    let sides = [side(values.len() / width)?, side(tokens)?];
    let (class, grid) = values.split_at(class * width);
    Some(([class, &interpolated(grid, sides[0], sides[1], width)].concat(), sides))
}

/// Interpolates a square grid of `from`² rows of `width` numbers to `to`² rows, bicubically.
///
/// It is `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`: the outer edges of
/// both grids coincide, places beyond the border repeat it, and values are not smoothed before a
/// reduction.
pub(super) fn interpolated(grid: &[f32], from: usize, to: usize, width: usize) -> Vec<f32> {
    let source = |place: usize| (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let taps: Vec<_> = (0..to).map(|place| cubic::taps(source(place), from, SLOPE)).collect();
    let mut all = Vec::with_capacity(to * to * width);
    for rows in &taps {
        for columns in &taps {
            let start = all.len();
            all.resize(start + width, 0.0_f32);
            for (place, number) in all[start..].iter_mut().enumerate() {
                let row = |row: usize| -> f64 {
                    let at = |column: usize| f64::from(grid[(row * from + column) * width + place]);
                    columns.iter().map(|(column, weight)| weight * at(*column)).sum()
                };
                *number = rows.iter().map(|(from, weight)| weight * row(*from)).sum::<f64>() as f32;
            }
        }
    }
    all
}
