//! Floating-point precision of the products with weights during training.
//!
//! Mixed precision as in Micikevicius et al., arXiv 1710.03740: the model keeps weights of 32 bits,
//! and every pass rounds a copy of them; norms, attention, residual sums, the loss, gradients of
//! weights and the optimiser have 32 bits. burn 0.22 has no such mode (burn#5696), but it
//! differentiates rounding, so gradients flow from the copy to the weights.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optimizer::{FlatGradients, gradients_of};

/// The floating-point format in which products with weights are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of 32 and a mantissa of 8 bits.
    Bf16,
    /// 16 bits with a mantissa of 11 bits; numbers beyond 65,504 are infinite.
    F16,
}

impl Precision {
    /// All precisions, 32 bits first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Returns the name, as recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Returns the precisions in which a device stores numbers and computes.
    pub fn supported_by(device: &Device) -> Vec<Self> {
        Self::ALL.into_iter().filter(|precision| device.supports_dtype(precision.float())).collect()
    }

    fn float(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::F16 => FloatDType::F16,
        }
    }

    /// Returns a copy of a model for one pass, with the weights of its linear layers rounded.
    ///
    /// Weights of two axes outside linear layers, such as token embeddings, keep their 32 bits.
    pub fn rounded<M: Module>(self, model: &M) -> M {
        let model = model.clone();
        if self == Self::F32 { model } else { model.map(&mut Round { to: self.float(), path: Vec::new() }) }
    }

    /// Returns the gradients of the weights of `model`. `objective` must depend on the copy of them
    /// that [`Self::rounded`] made.
    ///
    /// Small gradients would vanish in f16, whose smallest number is 6e-8: the objective is
    /// multiplied by 4,096 before, and gradients are divided by it after.
    pub fn gradients<M: Module>(self, model: &M, objective: Tensor<1>) -> FlatGradients {
        const SCALE: f32 = 4096.0;
        match self {
            Self::F32 | Self::Bf16 => gradients_of(model, objective.backward()),
            Self::F16 => gradients_of(model, objective.mul_scalar(SCALE).backward()).times(SCALE.recip()),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

struct Round {
    to: FloatDType,
    path: Vec<String>,
}

impl ModuleMapper for Round {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_linear = D == 2 && self.path.last().is_some_and(|name| name == "weight");
        if is_linear { param.map(|weight| weight.cast(self.to)) } else { param }
    }
}
