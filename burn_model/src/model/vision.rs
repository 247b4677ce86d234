//! The vision encoder: a small ViT in the layout of EVA-ViT-g, which Lynx uses.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::activation::gelu;
use super::attention::attend;
use super::config::ModelConfig;
use super::initial::{DEVIATION, Initial};
use super::linear::Linear;
use super::norm::LayerNorm;

/// Epsilon of the encoder's layer norms, as in EVA.
const EPSILON: f64 = 1e-6;

/// Mean of each colour over CLIP's training images, in units of full brightness (openai/CLIP).
const COLOUR_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of each colour over CLIP's training images, in units of full brightness (openai/CLIP).
const COLOUR_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Appends one image's patches, normalised, to `patches`: patches row by row, in each the colours, in each colour its
/// pixels row by row, which is the order of a convolution's weights.
///
/// `pixels` are `image_size² · 3` bytes: rows of pixels, each red, green, blue.
pub fn patches_from_pixels(config: &ModelConfig, pixels: &[u8], patches: &mut Vec<f32>) {
    let (side, patch) = (config.image_size, config.patch);
    for top in (0..side).step_by(patch) {
        for left in (0..side).step_by(patch) {
            for colour in 0..3 {
                let scale = (255.0 * COLOUR_DEVIATION[colour]).recip();
                let shift = COLOUR_MEAN[colour] / COLOUR_DEVIATION[colour];
                for row in top..top + patch {
                    let start = (row * side + left) * 3;
                    let line = &pixels[start..start + 3 * patch];
                    patches.extend(line.chunks_exact(3).map(|pixel| f32::from(pixel[colour]) * scale - shift));
                }
            }
        }
    }
}

/// Turns images into one token per patch, after a class token; no norm at the end, as in Lynx.
#[derive(Module, Debug)]
pub struct Vision {
    patch_embed: Linear,
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
}

impl Vision {
    pub(super) fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let width = config.vit_dim;
        Self {
            patch_embed: initial.uniform_linear(config.patch_values(), width, true),
            cls_token: initial.normal([1, 1, width], DEVIATION),
            pos_embed: initial.normal([1, config.patches() + 1, width], DEVIATION),
            blocks: (0..config.vit_depth).map(|layer| Block::new(config, layer, initial)).collect(),
        }
    }

    /// `[B, N, 3·patch²]` patches to `[B, 1 + N, vit_dim]` tokens.
    pub fn forward(&self, patches: Tensor<3>) -> Tensor<3> {
        let x = self.patch_embed.forward(patches);
        let [batch, _, width] = x.dims();
        let class = self.cls_token.val().expand([batch, 1, width]);
        let mut x = Tensor::cat(vec![class, x], 1) + self.pos_embed.val();
        for block in &self.blocks {
            x = block.forward(x);
        }
        x
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
}

impl Block {
    fn new(config: &ModelConfig, layer: usize, initial: &mut Initial) -> Self {
        let (width, hidden) = (config.vit_dim, config.vit_dim * config.vit_mlp_ratio);
        // EVA divides the weights that write into the residual stream by √(2 · layer), counted from 1.
        let writing = DEVIATION / (2.0 * (layer + 1) as f64).sqrt();
        Self {
            norm1: LayerNorm::new(width, EPSILON, initial),
            attn: Attention::new(width, config.vit_heads, writing, initial),
            norm2: LayerNorm::new(width, EPSILON, initial),
            fc1: initial.linear(width, hidden, true, DEVIATION),
            fc2: initial.linear(hidden, width, true, writing),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + self.fc2.forward(gelu(self.fc1.forward(self.norm2.forward(x))))
    }
}

/// Self-attention; keys have no bias, as in EVA.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    fn new(width: usize, heads: usize, writing: f64, initial: &mut Initial) -> Self {
        Self {
            q_proj: initial.linear(width, width, true, DEVIATION),
            k_proj: initial.linear(width, width, false, DEVIATION),
            v_proj: initial.linear(width, width, true, DEVIATION),
            proj: initial.linear(width, width, true, writing),
            heads,
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
        let red = |value: f32| (value / 255.0 - COLOUR_MEAN[0]) / COLOUR_DEVIATION[0];
        // The second patch lies right of the first: its pixels are 2, 3 and, one row below, 6, 7.
        for (got, want) in patches[12..16].iter().zip([2.0, 3.0, 6.0, 7.0]) {
            assert!((got - red(want)).abs() < 1e-5);
        }
        assert!((patches[4] - (1.0 - COLOUR_MEAN[1]) / COLOUR_DEVIATION[1]).abs() < 1e-5);
        assert!((patches[8] + COLOUR_MEAN[2] / COLOUR_DEVIATION[2]).abs() < 1e-5);
    }
}
