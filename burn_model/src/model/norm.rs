//! Layer norm and root-mean-square norm over the last axis.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, module::layer_norm};

use super::initial::Initial;
use crate::operation::{Operation, apply, change, in_rows, numbers, on_flex, sum, tensor, width};

/// Layer norm with scale and shift (arXiv 1607.06450).
#[derive(Module, Debug)]
pub(super) struct LayerNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    pub(super) fn new(width: usize, epsilon: f64, initial: &Initial) -> Self {
        Self { weight: initial.constant([width], 1.0), bias: initial.constant([width], 0.0), epsilon }
    }

    /// Normalises the last axis; any leading axes.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if on_flex(&x) {
            let norm = Norm { centred: true, epsilon: self.epsilon as f32 };
            return apply(norm, [x.into(), self.weight.val().into(), self.bias.val().into()]);
        }
        self.composed(x)
    }

    fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        layer_norm(x, self.weight.val(), Some(self.bias.val()), self.epsilon)
    }
}

/// Root-mean-square norm with scale (arXiv 1910.07467), as in LLaMA.
#[derive(Module, Debug)]
pub(super) struct RmsNorm {
    weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn new(width: usize, epsilon: f64, initial: &Initial) -> Self {
        Self { weight: initial.constant([width], 1.0), epsilon }
    }

    /// Normalises the last axis; any leading axes.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if on_flex(&x) {
            let norm = Norm { centred: false, epsilon: self.epsilon as f32 };
            return apply(norm, [x.into(), self.weight.val().into()]);
        }
        self.composed(x)
    }

    fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mean_square = x.clone().square().mean_dim(D - 1);
        let scale = mean_square.add_scalar(self.epsilon).sqrt().recip();
        x * scale * self.weight.val().unsqueeze()
    }
}

/// `(x − mean) / √(mean of squares + ε) · weight + bias`; mean and bias are left out if not
/// `centred`.
#[derive(Clone, Copy, Debug)]
struct Norm {
    centred: bool,
    epsilon: f32,
}

/// Mean and 1 / deviation of a row.
type Moments = (f32, f32);

impl Norm {
    /// Returns the output and the moments of every row.
    fn values(self, x: &FlexTensor, weight: &FlexTensor, bias: Option<&FlexTensor>) -> (FlexTensor, Vec<Moments>) {
        let mut values = vec![0.0; x.shape().num_elements()];
        let mut moments = vec![(0.0, 0.0); x.shape().num_elements() / width(x)];
        pulp::Arch::new().dispatch(Values {
            norm: self,
            x: numbers(x),
            weight: numbers(weight),
            bias: bias.map(numbers),
            output: &mut values,
            moments: &mut moments,
        });
        (tensor(values, x.shape()), moments)
    }

    /// Returns the gradients of the input, of the weight and of the bias.
    fn slopes(self, (x, weight, moments): &Saved, gradient: FlexTensor) -> [FlexTensor; 3] {
        let mut of_weight = vec![0.0; width(x)];
        let mut of_bias = vec![0.0; width(x)];
        let of_x = change(gradient, |gradient| {
            pulp::Arch::new().dispatch(Slopes {
                norm: self,
                x: numbers(x),
                weight: numbers(weight),
                moments,
                gradient,
                of_weight: &mut of_weight,
                of_bias: &mut of_bias,
            });
        });
        [of_x, tensor(of_weight, weight.shape()), tensor(of_bias, weight.shape())]
    }
}

/// Input, weight, and the moments of every row.
type Saved = (FlexTensor, FlexTensor, Vec<Moments>);

impl Operation<3> for Norm {
    type Saved = Saved;

    fn forward(self, inputs: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        let [x, weight, bias] = inputs.map(in_rows);
        let (values, moments) = self.values(&x, &weight, Some(&bias));
        (values, (x, weight, moments))
    }

    fn backward(self, saved: Saved, gradient: FlexTensor, _wanted: [bool; 3]) -> [Option<FlexTensor>; 3] {
        self.slopes(&saved, gradient).map(Some)
    }
}

impl Operation<2> for Norm {
    type Saved = Saved;

    fn forward(self, inputs: [FlexTensor; 2]) -> (FlexTensor, Saved) {
        let [x, weight] = inputs.map(in_rows);
        let (values, moments) = self.values(&x, &weight, None);
        (values, (x, weight, moments))
    }

    fn backward(self, saved: Saved, gradient: FlexTensor, _wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let [of_x, of_weight, _] = self.slopes(&saved, gradient);
        [Some(of_x), Some(of_weight)]
    }
}

struct Values<'a> {
    norm: Norm,
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    output: &'a mut [f32],
    moments: &'a mut [Moments],
}

impl pulp::WithSimd for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.weight.len();
        let per_width = (width as f32).recip();
        let rows = self.x.chunks_exact(width).zip(self.output.chunks_exact_mut(width));
        for ((x, values), moments) in rows.zip(self.moments) {
            let mean = if self.norm.centred { sum(x, x, |x, _| x) * per_width } else { 0.0 };
            let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) * per_width;
            let scale = (variance + self.norm.epsilon).sqrt().recip();
            *moments = (mean, scale);
            for ((value, x), weight) in values.iter_mut().zip(x).zip(self.weight) {
                *value = (x - mean) * scale * weight;
            }
            if let Some(bias) = self.bias {
                for (value, bias) in values.iter_mut().zip(bias) {
                    *value += bias;
                }
            }
        }
    }
}

struct Slopes<'a> {
    norm: Norm,
    x: &'a [f32],
    weight: &'a [f32],
    moments: &'a [Moments],
    /// Gradient of the output before, of the input afterwards.
    gradient: &'a mut [f32],
    of_weight: &'a mut [f32],
    of_bias: &'a mut [f32],
}

impl pulp::WithSimd for Slopes<'_> {
    type Output = ();

    /// Computes gradients: with z = (x − mean) · scale and g the gradient of z, the gradient of x
    /// is scale · (g − mean(g) − z · mean(g · z)); if the mean of x is not subtracted, mean(g) is
    /// left out.
    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let width = self.weight.len();
        let per_width = (width as f32).recip();
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact_mut(width));
        for ((x, gradient), (mean, scale)) in rows.zip(self.moments) {
            let z = |x: f32| (x - mean) * scale;
            for ((of_bias, of_weight), (gradient, x)) in
                self.of_bias.iter_mut().zip(self.of_weight.iter_mut()).zip(gradient.iter().zip(x))
            {
                *of_bias += gradient;
                *of_weight += gradient * z(*x);
            }
            for (gradient, weight) in gradient.iter_mut().zip(self.weight) {
                *gradient *= weight;
            }
            let along = sum(gradient, x, |gradient, x| gradient * z(x)) * per_width;
            let level = if self.norm.centred { sum(gradient, x, |gradient, _| gradient) * per_width } else { 0.0 };
            for (gradient, x) in gradient.iter_mut().zip(x) {
                *gradient = scale * (*gradient - level - z(*x) * along);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::operation::tests::assert_same;

    #[test]
    fn norms_and_their_gradients_equal_the_composed_ones() {
        let device = Device::flex().autodiff();
        let initial = Initial::new(0, &device);
        let norm = LayerNorm::new(21, 1e-5, &initial);
        assert_same([[2, 5, 21]], |[x]| norm.forward(x), |[x]| norm.composed(x));
        let norm = RmsNorm::new(21, 1e-6, &initial);
        assert_same([[2, 5, 21]], |[x]| norm.forward(x), |[x]| norm.composed(x));
    }
}
