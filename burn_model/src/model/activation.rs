//! SiLU, SwiGLU and the exact GELU.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Tensor, activation};

use crate::operation::{Operation, apply, change, exp, in_rows, numbers, on_flex, tensor};

/// Computes `x · sigmoid(x)` (arXiv 1702.03118).
pub(super) fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_flex(&x) { apply(Elementwise(Silu), [x.into()]) } else { activation::silu(x) }
}

/// Computes `silu(gate) · up`, the gate of SwiGLU (arXiv 2002.05202).
pub(super) fn silu_gate<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if on_flex(&gate) { apply(SiluGate, [gate.into(), up.into()]) } else { activation::silu(gate) * up }
}

/// Computes `x · Φ(x)`, with the exact Φ of the normal distribution, as PyTorch does by default
/// (arXiv 1606.08415).
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if on_flex(&x) {
        return apply(Elementwise(Gelu), [x.into()]);
    }
    composed_gelu(x)
}

fn composed_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    // burn's own GELU is not used: on other backends than flex, its derivative is that of the tanh
    // approximation.
    let phi = (x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * phi
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns Φ(x), the share of the standard normal distribution below x, and its density there.
///
/// Φ is off by at most 4 · 10^-7: formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical
/// Functions, 1964.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    const P: f32 = 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2;
    const POLYNOMIAL: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    /// 1 / √(2π)
    const DENSITY: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + P * x.abs());
    let mut sum = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        sum = sum * t + coefficient;
    }
    let tail = 0.5 * sum * t * bell;
    (if x < 0.0 { tail } else { 1.0 - tail }, DENSITY * bell)
}

/// A function of one number.
trait Function: Copy + std::fmt::Debug + Send + 'static {
    fn value(x: f32) -> f32;
    fn slope(x: f32) -> f32;
}

#[derive(Clone, Copy, Debug)]
struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * sigmoid(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let sigmoid = sigmoid(x);
        sigmoid + x * sigmoid * (1.0 - sigmoid)
    }
}

#[derive(Clone, Copy, Debug)]
struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * normal(x).0
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let (phi, density) = normal(x);
        phi + x * density
    }
}

/// A function that is applied to every number separately.
#[derive(Clone, Copy, Debug)]
struct Elementwise<F>(F);

impl<F: Function> Operation<1> for Elementwise<F> {
    type Saved = FlexTensor;

    fn forward(self, [x]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        let x = in_rows(x);
        let mut values = vec![0.0; x.shape().num_elements()];
        pulp::Arch::new().dispatch(Values(self.0, numbers(&x), &mut values));
        (tensor(values, x.shape()), x)
    }

    fn backward(self, x: FlexTensor, gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let times_slope = |gradient: &mut [f32]| pulp::Arch::new().dispatch(Slopes(self.0, numbers(&x), gradient));
        [Some(change(gradient, times_slope))]
    }
}

/// Writes the values at `.1` to `.2`.
struct Values<'a, F>(F, &'a [f32], &'a mut [f32]);

impl<F: Function> pulp::WithSimd for Values<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (x, value) in self.1.iter().zip(self.2) {
            *value = F::value(*x);
        }
    }
}

/// Multiplies `.2` by the slopes at `.1`.
struct Slopes<'a, F>(F, &'a [f32], &'a mut [f32]);

impl<F: Function> pulp::WithSimd for Slopes<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for (x, gradient) in self.1.iter().zip(self.2) {
            *gradient *= F::slope(*x);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct SiluGate;

impl Operation<2> for SiluGate {
    type Saved = [FlexTensor; 2];

    fn forward(self, inputs: [FlexTensor; 2]) -> (FlexTensor, [FlexTensor; 2]) {
        let [gate, up] = inputs.map(in_rows);
        let mut values = vec![0.0; gate.shape().num_elements()];
        pulp::Arch::new().dispatch(GateValues { gate: numbers(&gate), up: numbers(&up), values: &mut values });
        (tensor(values, gate.shape()), [gate, up])
    }

    fn backward(
        self,
        [gate, up]: [FlexTensor; 2],
        gradient: FlexTensor,
        _wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let mut of_gate = vec![0.0; gate.shape().num_elements()];
        let of_up = change(gradient, |gradient| {
            let (gate, up) = (numbers(&gate), numbers(&up));
            pulp::Arch::new().dispatch(GateSlopes { gate, up, gradient, of_gate: &mut of_gate });
        });
        [Some(tensor(of_gate, gate.shape())), Some(of_up)]
    }
}

struct GateValues<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    values: &'a mut [f32],
}

impl pulp::WithSimd for GateValues<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for ((gate, up), value) in self.gate.iter().zip(self.up).zip(self.values) {
            *value = Silu::value(*gate) * up;
        }
    }
}

struct GateSlopes<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    /// Gradient of the output before, of `up` afterwards.
    gradient: &'a mut [f32],
    of_gate: &'a mut [f32],
}

impl pulp::WithSimd for GateSlopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let outputs = self.gradient.iter_mut().zip(self.of_gate);
        for ((gate, up), (gradient, of_gate)) in self.gate.iter().zip(self.up).zip(outputs) {
            let sigmoid = sigmoid(*gate);
            let silu = gate * sigmoid;
            *of_gate = *gradient * up * (sigmoid + silu * (1.0 - sigmoid));
            *gradient *= silu;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::tests::assert_same;

    fn sweep(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |place| from + (to - from) * place as f32 / 200_000.0)
    }

    /// erf, by formula 7.1.6 of Abramowitz and Stegun, whose terms are all positive.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum, mut place) = (x, x, 1.0);
        while term.abs() > 1e-18 * sum.abs() {
            term *= 2.0 * x * x / (2.0 * place + 1.0);
            sum += term;
            place += 1.0;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
    }

    #[test]
    fn the_normal_distribution_is_as_exact_as_documented() {
        let furthest = sweep(-8.0, 8.0).map(|x| {
            let exact = 0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2));
            (f64::from(normal(x).0) - exact).abs()
        });
        let furthest = furthest.fold(0.0, f64::max);
        assert!(furthest < 4e-7, "{furthest}");
    }

    #[test]
    fn activations_and_their_gradients_equal_the_composed_ones() {
        assert_same([[2, 5, 7]], |[x]| silu(x), |[x]| activation::silu(x));
        assert_same([[2, 5, 7]], |[x]| gelu(x), |[x]| composed_gelu(x));
        assert_same([[2, 5, 7]; 2], |[gate, up]| silu_gate(gate, up), |[gate, up]| activation::silu(gate) * up);
    }
}
