//! Cubic convolution (Keys 1981, doi 10.1109/TASSP.1981.1163711), for interpolating grids.

/// Returns the four places of an axis of `length` that make up the point `at`, with their weights.
///
/// Place 0 is at 0. Places beyond the border repeat it. `a` is the slope of the kernel at 1: -0.75
/// in PyTorch, -0.5 in Pillow.
pub(crate) fn taps(at: f64, length: usize, a: f64) -> [(usize, f64); 4] {
    let (floor, t) = (at.floor(), at - at.floor());
    let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    std::array::from_fn(|tap| {
        let at = floor + tap as f64 - 1.0;
        (at.clamp(0.0, length as f64 - 1.0) as usize, weights[tap])
    })
}
