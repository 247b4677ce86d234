//! The linear layer, with an optional low-rank change.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, module::linear};

/// `x · weight + bias` over the last axis.
#[derive(Module, Debug)]
pub(super) struct Linear {
    /// `[inputs, outputs]`.
    pub(super) weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub(super) bias: Option<Param<Tensor<1>>>,
    /// A change that is added to the weights while they are frozen.
    pub(super) lora: Option<Lora>,
}

/// A change of low rank (LoRA, arXiv 2106.09685): `x · down · up · scale`. It is zero at first.
#[derive(Module, Debug)]
pub(super) struct Lora {
    /// `[inputs, rank]`.
    pub(super) down: Param<Tensor<2>>,
    /// `[rank, outputs]`.
    pub(super) up: Param<Tensor<2>>,
    /// Alpha over rank.
    pub(super) scale: f64,
}

impl Linear {
    /// Turns `[…, inputs]` into `[…, outputs]`.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large matrix product: burn would make one small product per sequence, which took more
        // than half of the time of a step.
        let mut shape = x.dims();
        let inputs = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let weight = self.weight.val();
        shape[D - 1] = weight.dims()[1];
        let x = x.reshape([rows, inputs]);
        let change = self
            .lora
            .as_ref()
            .map(|lora| x.clone().matmul(lora.down.val()).matmul(lora.up.val()).mul_scalar(lora.scale));
        let bias = self.bias.as_ref().map(Param::val);
        let y = match weight.dtype() {
            DType::F32 => linear(x, weight, bias),
            // The weight of a rounded copy, see Precision; the sum with the bias has 32 bits.
            narrow => {
                let y = linear(x.cast(narrow), weight, None).cast(DType::F32);
                bias.map(|bias| y.clone() + bias.unsqueeze()).unwrap_or(y)
            }
        };
        match change {
            Some(change) => y + change,
            None => y,
        }
        .reshape(shape)
    }
}
