//! The vision encoder: a ViT, by default a small one in the layout of EVA-ViT-g, which Lynx uses.
//!
//! A few settings turn it into CLIP's or SigLIP's encoder, so that [`crate::weights`] can load
//! them.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu_approximate, sigmoid};

use super::activation::gelu;
use super::attention::attend;
use super::config::{ModelConfig, VitActivation};
use super::initial::{DEVIATION, Initial};
use super::linear::Linear;
use super::norm::LayerNorm;

/// Appends the normalised patches of one image to `patches`, patch by patch in rows. A patch has
/// its colours one after another, each with its pixels row by row, in the order of a convolution's
/// weights.
///
/// `pixels` are `image_size² · 3` bytes: rows of pixels, each red, green, blue.
pub fn patches_from_pixels(config: &ModelConfig, pixels: &[u8], patches: &mut Vec<f32>) {
    let (side, patch) = (config.image_size, config.patch);
    for top in (0..side).step_by(patch) {
        for left in (0..side).step_by(patch) {
            for colour in 0..3 {
                let (mean, deviation) = (config.image_mean[colour], config.image_deviation[colour]);
                let scale = (255.0 * deviation).recip();
                let shift = mean / deviation;
                for row in top..top + patch {
                    let start = (row * side + left) * 3;
                    let line = &pixels[start..start + 3 * patch];
                    patches.extend(line.chunks_exact(3).map(|pixel| f32::from(pixel[colour]) * scale - shift));
                }
            }
        }
    }
}

/// Turns images into one token per patch, after a class token if there is one.
#[derive(Module, Debug)]
pub struct Vision {
    patch_embed: Linear,
    cls_token: Option<Param<Tensor<3>>>,
    pos_embed: Param<Tensor<3>>,
    first_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    last_norm: Option<LayerNorm>,
}

impl Vision {
    pub(super) fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let width = config.vit_dim;
        let norm =
            |wanted: bool, initial: &Initial| wanted.then(|| LayerNorm::new(width, config.vit_norm_epsilon, initial));
        Self {
            patch_embed: initial.uniform_linear(config.patch_values(), width, config.vit_patch_bias),
            cls_token: config.vit_class_token.then(|| initial.normal([1, 1, width], DEVIATION)),
            pos_embed: initial.normal([1, config.image_tokens(), width], DEVIATION),
            first_norm: norm(config.vit_first_norm, initial),
            blocks: (0..config.vit_depth).map(|layer| Block::new(config, layer, initial)).collect(),
            last_norm: norm(config.vit_last_norm, initial),
        }
    }

    /// Turns `[B, N, 3·patch²]` patches into `[B, N, vit_dim]` tokens; with a class token,
    /// `[B, 1 + N, vit_dim]`.
    pub fn forward(&self, patches: Tensor<3>) -> Tensor<3> {
        let mut x = self.patch_embed.forward(patches);
        let [batch, _, width] = x.dims();
        if let Some(class) = &self.cls_token {
            x = Tensor::cat(vec![class.val().expand([batch, 1, width]), x], 1);
        }
        x = x + self.pos_embed.val();
        if let Some(norm) = &self.first_norm {
            x = norm.forward(x);
        }
        for block in &self.blocks {
            x = block.forward(x);
        }
        match &self.last_norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}

/// Attention and feed-forward layer, each after a norm and beside a residual.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: VitActivation,
}

impl Block {
    fn new(config: &ModelConfig, layer: usize, initial: &mut Initial) -> Self {
        let (width, hidden) = (config.vit_dim, config.vit_hidden());
        // EVA divides the weights that write into the residual stream by √(2 · layer), counted from
        // 1.
        let writing = DEVIATION / (2.0 * (layer + 1) as f64).sqrt();
        Self {
            norm1: LayerNorm::new(width, config.vit_norm_epsilon, initial),
            attn: Attention::new(config, writing, initial),
            norm2: LayerNorm::new(width, config.vit_norm_epsilon, initial),
            fc1: initial.linear(width, hidden, true, DEVIATION),
            fc2: initial.linear(hidden, width, true, writing),
            activation: config.vit_activation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        let hidden = self.fc1.forward(self.norm2.forward(x.clone()));
        let hidden = match self.activation {
            VitActivation::Gelu => gelu(hidden),
            VitActivation::TanhGelu => gelu_approximate(hidden),
            VitActivation::QuickGelu => hidden.clone() * sigmoid(hidden.mul_scalar(QUICK_GELU)),
        };
        x + self.fc2.forward(hidden)
    }
}

/// The factor in CLIP's approximation of GELU.
const QUICK_GELU: f64 = 1.702;

/// Self-attention; in EVA, keys have no bias.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(config: &ModelConfig, writing: f64, initial: &mut Initial) -> Self {
        let width = config.vit_dim;
        Self {
            q_proj: initial.linear(width, width, true, DEVIATION),
            k_proj: initial.linear(width, width, config.vit_key_bias, DEVIATION),
            v_proj: initial.linear(width, width, true, DEVIATION),
            proj: initial.linear(width, width, true, writing),
            heads: config.vit_heads,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (query, key) = (self.q_proj.forward(x.clone()), self.k_proj.forward(x.clone()));
        self.proj.forward(attend(self.heads, query, key, self.v_proj.forward(x), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_hold_colours_apart_and_rows_in_order() {
        let config = ModelConfig { image_size: 4, patch: 2, ..Default::default() };
        // The red of each pixel counts up; green is full, blue empty.
        let pixels: Vec<u8> = (0..16).flat_map(|pixel| [pixel, 255, 0]).collect();
        let mut patches = Vec::new();
        patches_from_pixels(&config, &pixels, &mut patches);
        assert_eq!(patches.len(), config.patches() * config.patch_values());
        let red = |value: f32| (value / 255.0 - config.image_mean[0]) / config.image_deviation[0];
        // The second patch lies right of the first: its pixels are 2, 3 and, one row below, 6, 7.
        for (got, want) in patches[12..16].iter().zip([2.0, 3.0, 6.0, 7.0]) {
            assert!((got - red(want)).abs() < 1e-5);
        }
        assert!((patches[4] - (1.0 - config.image_mean[1]) / config.image_deviation[1]).abs() < 1e-5);
        assert!((patches[8] + config.image_mean[2] / config.image_deviation[2]).abs() < 1e-5);
    }
}
