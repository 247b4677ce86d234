//! The parts of a model, which can have different learning rates or be frozen.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The vision encoder.
    Vision,
    /// The resampler or projection, and the frame embedding.
    Bridge,
    /// Additions to the decoder: adapters, cross-attention, low-rank changes.
    Adapters,
    /// The decoder.
    Decoder,
}

impl Part {
    /// Returns the part of the weight with this path in the model.
    pub(crate) fn of(path: &str) -> Self {
        let added = [".output_adapter.", ".cross_attention.", ".lora."];
        if path.starts_with("vision_encoder") {
            Self::Vision
        } else if !path.starts_with("llm.") {
            Self::Bridge
        } else if added.iter().any(|name| path.contains(name)) {
            Self::Adapters
        } else {
            Self::Decoder
        }
    }
}

/// Takes the weights of some parts out of training: they get no gradients, and the time for these
/// is saved. Additions to the layers of a frozen decoder are still trained.
pub fn freeze<M: Module>(model: M, is_frozen: &dyn Fn(Part) -> bool) -> M {
    model.map(&mut Freeze { is_frozen, path: Vec::new() })
}

struct Freeze<'a> {
    is_frozen: &'a dyn Fn(Part) -> bool,
    path: Vec<String>,
}

impl ModuleMapper for Freeze<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_frozen = (self.is_frozen)(Part::of(&self.path.join(".")));
        if is_frozen { param.set_require_grad(false) } else { param }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_belong_to_parts() {
        for (path, part) in [
            ("vision_encoder.blocks.0.fc1.weight", Part::Vision),
            ("frame_embedding", Part::Bridge),
            ("bridge.latents", Part::Bridge),
            ("projection.project.weight", Part::Bridge),
            ("llm.layers.0.output_adapter.scaling", Part::Adapters),
            ("llm.layers.0.cross_attention.attn_gate", Part::Adapters),
            ("llm.layers.3.self_attn.q_proj.lora.up", Part::Adapters),
            ("llm.layers.3.self_attn.q_proj.weight", Part::Decoder),
            ("llm.embed_tokens", Part::Decoder),
        ] {
            assert_eq!(Part::of(path), part, "{path}");
        }
    }
}
