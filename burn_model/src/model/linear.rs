//! The linear layer.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module::linear};

/// `x · weight + bias` over the last axis.
#[derive(Module, Debug)]
pub(super) struct Linear {
    /// `[inputs, outputs]`.
    pub(super) weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub(super) bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `[…, inputs]` to `[…, outputs]`.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large matrix product: burn would make one small product per sequence, which took over half of a step.
        let mut shape = x.dims();
        let inputs = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let weight = self.weight.val();
        shape[D - 1] = weight.dims()[1];
        linear(x.reshape([rows, inputs]), weight, self.bias.as_ref().map(Param::val)).reshape(shape)
    }
}
