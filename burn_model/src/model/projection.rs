//! Vision tokens from frozen features: one linear layer applied to what the caller computed.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::config::ModelConfig;
use super::initial::Initial;
use super::linear::Linear;
use super::norm::LayerNorm;

/// Epsilon of the layer norm, PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Standard deviation of the vectors that tell one vision token from another. Projected features
/// have a standard deviation of about 1, so they dominate.
const LATENT_DEVIATION: f64 = 0.3;

/// Turns the features of an image into vision tokens.
#[derive(Module, Debug)]
pub struct Projection {
    project: Linear,
    latents: Param<Tensor<2>>,
    norm: LayerNorm,
}

impl Projection {
    pub(super) fn new(config: &ModelConfig, features: usize, initial: &mut Initial) -> Self {
        let (latents, width) = (config.latents, config.decoder_dim);
        // Features of mean square 1 become numbers of mean square 1.
        let deviation = (features as f64).sqrt().recip();
        Self {
            project: initial.linear(features, latents * width, false, deviation),
            latents: initial.normal([latents, width], LATENT_DEVIATION),
            norm: LayerNorm::new(width, EPSILON, initial),
        }
    }

    /// Turns `[B, 1, features]` into `[B, latents, decoder_dim]` vision tokens.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [batch, _, _] = features.dims();
        let latents = self.latents.val();
        let [count, width] = latents.dims();
        let projected = self.project.forward(features).reshape([batch, count, width]);
        self.norm.forward(projected + latents.unsqueeze())
    }
}
