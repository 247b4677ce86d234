//! Position embeddings of a ViT at another resolution.

/// Sharpness of the cubic convolution (Keys 1981), as in PyTorch.
const A: f64 = -0.75;

/// Interpolates a square grid of `from`² rows of `width` numbers to `to`² rows, bicubically.
///
/// It is `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`: corners of pixels
/// stand on each other, places beyond the border repeat it, and a smaller grid is not smoothed
/// first.
pub(super) fn interpolated(grid: &[f32], from: usize, to: usize, width: usize) -> Vec<f32> {
    let taps: Vec<[(usize, f64); 4]> = (0..to).map(|place| taps(place, from, to)).collect();
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

/// Four places of an axis of length `from`, with the weight of each in one place of length `to`.
fn taps(place: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    let source = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let (floor, t) = (source.floor(), source - source.floor());
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|tap| {
        let at = floor + tap as f64 - 1.0;
        (at.clamp(0.0, from as f64 - 1.0) as usize, weights[tap])
    })
}
