//! Activations whose derivative is exact on every device.

use burn::tensor::{Device, Tensor, activation};

/// The Gaussian error linear unit `x · Φ(x)` (arXiv 1606.08415), not its tanh approximation.
///
/// burn 0.22 computes the exact value on every backend. Its derivative is exact on `flex` alone; wgpu
/// and CUDA take the derivative of the tanh form, which is off by up to 9e-4. There the value is
/// formed by erf, whose derivative is exact.
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.device().without_autodiff() == Device::flex() {
        return activation::gelu(x);
    }
    let below = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * below
}
