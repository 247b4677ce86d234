//! Gated cross-attention from text to vision tokens, the other way to show images to a decoder.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::activation::gelu;
use super::attention::attend;
use super::config::ModelConfig;
use super::initial::{DEVIATION, Initial};
use super::linear::Linear;
use super::norm::LayerNorm;

/// Epsilon of the layer norms, PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Width of the feed-forward layer, as a multiple of the decoder's width, as in Flamingo.
const HIDDEN: usize = 4;

/// Flamingo's layer (arXiv 2204.14198, as in mlfoundations/open_flamingo): cross-attention and a
/// feed-forward layer, each multiplied by the tanh of a gate that begins at 0, so that the decoder
/// is unchanged at first. No biases outside the norms, and no norm of the vision tokens.
#[derive(Module, Debug)]
pub(super) struct CrossAttention {
    norm: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    attn_gate: Param<Tensor<1>>,
    ff_norm: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
    ff_gate: Param<Tensor<1>>,
    heads: usize,
}

impl CrossAttention {
    pub(super) fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let width = config.decoder_dim;
        Self {
            norm: LayerNorm::new(width, EPSILON, initial),
            to_q: initial.linear(width, width, false, DEVIATION),
            to_kv: initial.linear(width, 2 * width, false, DEVIATION),
            to_out: initial.linear(width, width, false, DEVIATION),
            attn_gate: initial.constant([1], 0.0),
            ff_norm: LayerNorm::new(width, EPSILON, initial),
            ff_in: initial.linear(width, HIDDEN * width, false, DEVIATION),
            ff_out: initial.linear(HIDDEN * width, width, false, DEVIATION),
            ff_gate: initial.constant([1], 0.0),
            heads: config.decoder_heads,
        }
    }

    /// Lets `[B, T, decoder_dim]` text attend to `[B, latents, decoder_dim]` vision tokens; returns
    /// the changed text.
    pub(super) fn forward(&self, x: Tensor<3>, vision: &Tensor<3>) -> Tensor<3> {
        let query = self.to_q.forward(self.norm.forward(x.clone()));
        let both = self.to_kv.forward(vision.clone());
        let width = query.dims()[2];
        let (key, value) = (both.clone().narrow(2, 0, width), both.narrow(2, width, width));
        let seen = self.to_out.forward(attend(self.heads, query, key, value, None));
        let x = x + seen * self.attn_gate.val().tanh().unsqueeze();
        let hidden = gelu(self.ff_in.forward(self.ff_norm.forward(x.clone())));
        x + self.ff_out.forward(hidden) * self.ff_gate.val().tanh().unsqueeze()
    }
}
