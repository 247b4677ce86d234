//! Layer norm and root-mean-square norm over the last axis.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module::layer_norm};

use super::initial::Initial;

/// Layer norm with scale and shift.
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
        let mean_square = x.clone().square().mean_dim(D - 1);
        let scale = mean_square.add_scalar(self.epsilon).sqrt().recip();
        x * scale * self.weight.val().unsqueeze()
    }
}
