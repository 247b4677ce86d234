//! The resampler: a fixed number of learned latents gathers what the decoder sees of an image.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::activation::gelu;
use super::attention::attend;
use super::config::ModelConfig;
use super::initial::Initial;
use super::linear::Linear;
use super::norm::LayerNorm;

/// Epsilon of the resampler's layer norms, PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Perceiver resampler (arXiv 2204.14198) as in Lynx: keys and values come from the image only.
#[derive(Module, Debug)]
pub struct Resampler {
    latents: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Resampler {
    pub(super) fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        Self {
            latents: initial.normal([config.latents, config.decoder_dim], 1.0),
            layers: (0..config.resampler_depth).map(|_| Layer::new(config, initial)).collect(),
            norm: LayerNorm::new(config.decoder_dim, EPSILON, initial),
        }
    }

    /// Turns `[B, 1 + N, vit_dim]` image tokens into `[B, latents, decoder_dim]` vision tokens.
    pub fn forward(&self, image: &Tensor<3>) -> Tensor<3> {
        let batch = image.dims()[0];
        let latents = self.latents.val();
        let [count, width] = latents.dims();
        let mut latents = latents.unsqueeze::<3>().expand([batch, count, width]);
        for layer in &self.layers {
            latents = layer.forward(image.clone(), latents);
        }
        self.norm.forward(latents)
    }
}

/// Cross-attention from the latents to the image, then a feed-forward layer; no biases outside the
/// norms.
#[derive(Module, Debug)]
struct Layer {
    norm_media: LayerNorm,
    norm_latents: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    ff_norm: LayerNorm,
    ff_in: Linear,
    ff_out: Linear,
    heads: usize,
}

impl Layer {
    fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let (image, width) = (config.vit_dim, config.decoder_dim);
        let inner = config.resampler_heads * config.resampler_head_dim;
        let hidden = width * config.resampler_mlp_ratio;
        Self {
            norm_media: LayerNorm::new(image, EPSILON, initial),
            norm_latents: LayerNorm::new(width, EPSILON, initial),
            to_q: initial.uniform_linear(width, inner, false),
            to_kv: initial.uniform_linear(image, 2 * inner, false),
            to_out: initial.uniform_linear(inner, width, false),
            ff_norm: LayerNorm::new(width, EPSILON, initial),
            ff_in: initial.uniform_linear(width, hidden, false),
            ff_out: initial.uniform_linear(hidden, width, false),
            heads: config.resampler_heads,
        }
    }

    fn forward(&self, image: Tensor<3>, latents: Tensor<3>) -> Tensor<3> {
        let keys_and_values = self.to_kv.forward(self.norm_media.forward(image));
        let query = self.to_q.forward(self.norm_latents.forward(latents.clone()));
        // The first half of to_kv's outputs are keys, the second half values.
        let inner = query.dims()[2];
        let key = keys_and_values.clone().narrow(2, 0, inner);
        let value = keys_and_values.narrow(2, inner, inner);
        let latents = self.to_out.forward(attend(self.heads, query, key, value, None)) + latents;
        let hidden = gelu(self.ff_in.forward(self.ff_norm.forward(latents.clone())));
        self.ff_out.forward(hidden) + latents
    }
}
