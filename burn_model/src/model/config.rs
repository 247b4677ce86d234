//! Sizes of the model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The form in which the model receives an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// Numbers that the caller computed once, through one linear layer.
    #[default]
    Features,
    /// Pixels, through a vision encoder and a resampler that are trained from scratch, as in Lynx.
    Pixels,
}

/// Activation function of the vision encoder's feed-forward layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VitActivation {
    /// GELU (arXiv 1606.08415), exact, as in EVA.
    #[default]
    Gelu,
    /// GELU approximated by tanh, as in SigLIP.
    TanhGelu,
    /// GELU approximated by x · sigmoid(1.702 · x), as in CLIP.
    QuickGelu,
}

/// The way in which the decoder receives images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Vision tokens precede the text, as in Lynx.
    #[default]
    Prefix,
    /// Text attends to vision tokens in separate layers with gates that begin at 0, as in Flamingo
    /// (arXiv 2204.14198). There are no adapters then.
    CrossAttention,
}

/// Sizes of the compact Lynx.
///
/// The defaults were chosen on 1,298 real pairs with the default [`crate::TrainConfig`]: one
/// decoder layer reaches the held-out loss and the visual gain of two in two thirds of the time, a
/// width of 64 is too narrow, and 4 or 16 latents have a slightly smaller visual gain than 8. With
/// 256 features and a vocabulary of 1,024 tokens it has 0.51 million weights; Lynx has 8.4 billion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(clippy::struct_excessive_bools, reason = "settings of published models, independent of each other")]
pub struct ModelConfig {
    /// The form in which the model receives an image: `"features"` or `"pixels"`. Default
    /// `"features"`.
    ///
    /// The settings of the vision encoder and of the resampler, from `image_size` to
    /// `resampler_mlp_ratio` without `latents`, are used with `"pixels"` only.
    pub sight: Sight,
    /// Side of the square image, in pixels. Default 32.
    pub image_size: usize,
    /// Side of a square patch, in pixels; divides `image_size`. Default 8.
    pub patch: usize,
    /// Width of the vision encoder. Default 64.
    pub vit_dim: usize,
    /// Layers of the vision encoder. Default 2.
    pub vit_depth: usize,
    /// Attention heads of the vision encoder; divides `vit_dim`. Default 2.
    pub vit_heads: usize,
    /// Width of the vision encoder's feed-forward layers, as a multiple of `vit_dim`. Default 4.
    pub vit_mlp_ratio: usize,
    /// Width of the vision encoder's feed-forward layers; 0 for `vit_mlp_ratio · vit_dim`. Default
    /// 0.
    pub vit_mlp_dim: usize,
    /// Activation function of the vision encoder: `"gelu"`, `"tanh_gelu"` or `"quick_gelu"`.
    /// Default `"gelu"`.
    ///
    /// The defaults of this and the settings up to `vit_norm_epsilon` are those of EVA-ViT-g in
    /// Lynx. Pretrained weights have their own values, see [`crate::weights`].
    pub vit_activation: VitActivation,
    /// Whether a class token comes before the patches. Default true.
    pub vit_class_token: bool,
    /// Whether the embedding of patches has a bias. Default true.
    pub vit_patch_bias: bool,
    /// Whether the keys of the vision encoder have a bias. Default false.
    pub vit_key_bias: bool,
    /// Whether the vision encoder has a norm before its first layer. Default false.
    pub vit_first_norm: bool,
    /// Whether the vision encoder has a norm after its last layer. Default false.
    pub vit_last_norm: bool,
    /// Added to the variance in the vision encoder's norms. Default 1e-6.
    pub vit_norm_epsilon: f64,
    /// Mean of each colour, subtracted from pixels, in units of full brightness. Default: that of
    /// CLIP's training images (openai/CLIP).
    pub image_mean: [f32; 3],
    /// Standard deviation of each colour, by which pixels are divided, in the same units. Default:
    /// that of CLIP's training images.
    pub image_deviation: [f32; 3],
    /// Vision tokens that the decoder sees per image. Default 8; Lynx has 32.
    pub latents: usize,
    /// Layers of the resampler. Default 2; Lynx has 3.
    pub resampler_depth: usize,
    /// Attention heads of the resampler. Default 2; Lynx has 8.
    pub resampler_heads: usize,
    /// Width of one attention head of the resampler. Default 32; Lynx has 64.
    pub resampler_head_dim: usize,
    /// Width of the resampler's feed-forward layers, as a multiple of `decoder_dim`. Default 4.
    pub resampler_mlp_ratio: usize,
    /// Width of the decoder. Default 96.
    pub decoder_dim: usize,
    /// Layers of the decoder. Default 1; Lynx has 32.
    pub decoder_depth: usize,
    /// Attention heads of the decoder; divides `decoder_dim` into heads of even width. Default 3.
    pub decoder_heads: usize,
    /// Width of the decoder's feed-forward layers. Default 256.
    pub decoder_mlp_dim: usize,
    /// Number of key and value heads, each shared by a group of the decoder's heads (arXiv
    /// 2305.13245); divides `decoder_heads`. Default 0: as many as `decoder_heads`, as LLaMA and
    /// Vicuna have.
    pub decoder_key_value_heads: usize,
    /// Whether queries, keys and values of the decoder have biases, as in Qwen2. Default false.
    pub decoder_bias: bool,
    /// Whether the token embeddings also score the vocabulary, as in SmolLM2. Default false.
    pub tied_embeddings: bool,
    /// Added to the mean square in the decoder's norms. Default 1e-6, as in LLaMA.
    pub rms_epsilon: f64,
    /// The way in which the decoder receives images: `"prefix"` or `"cross_attention"`. Default
    /// `"prefix"`.
    pub fusion: Fusion,
    /// Number of decoder layers per adapter. The adapter follows the first of them; 0 means no
    /// adapters. Default 2, as in the released configuration of Lynx (the paper's text says 1).
    pub adapter_every: usize,
    /// Number of decoder layers per cross-attention, with `fusion = "cross_attention"`. The
    /// cross-attention comes before the first of them. Default 2; OpenFlamingo-9B has 4, beginning
    /// with the fourth.
    pub cross_attention_every: usize,
    /// Rank of low-rank changes (LoRA, arXiv 2106.09685) to the decoder's linear layers; 0 means
    /// none. Default 0.
    pub lora_rank: usize,
    /// The low-rank changes are multiplied by `lora_alpha / lora_rank`. Default 16.
    pub lora_alpha: f64,
    /// Number of frames of a video; 0 for images only. Default 0; Lynx has 5.
    pub frames: usize,
    /// Standard deviation of the initial token embeddings. Default 0.1: with the 0.02 of LLaMA, a
    /// short training has a higher loss, because the output of attention dominates the embedding.
    pub embedding_deviation: f64,
    /// Standard deviation of the initial weights that score the vocabulary. Default 0.05: with the
    /// 0.02 of LLaMA, a short training has a smaller visual gain.
    pub head_deviation: f64,
    /// Base of the rotary position embedding's wavelengths. Default 10000, as in LLaMA.
    pub rope_base: f64,
}

/// Mean of each colour over CLIP's training images, in units of full brightness (openai/CLIP).
pub(crate) const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of each colour over CLIP's training images, in the same units (openai/CLIP).
pub(crate) const CLIP_DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            sight: Sight::Features,
            image_size: 32,
            patch: 8,
            vit_dim: 64,
            vit_depth: 2,
            vit_heads: 2,
            vit_mlp_ratio: 4,
            vit_mlp_dim: 0,
            vit_activation: VitActivation::Gelu,
            vit_class_token: true,
            vit_patch_bias: true,
            vit_key_bias: false,
            vit_first_norm: false,
            vit_last_norm: false,
            vit_norm_epsilon: 1e-6,
            image_mean: CLIP_MEAN,
            image_deviation: CLIP_DEVIATION,
            latents: 8,
            resampler_depth: 2,
            resampler_heads: 2,
            resampler_head_dim: 32,
            resampler_mlp_ratio: 4,
            decoder_dim: 96,
            decoder_depth: 1,
            decoder_heads: 3,
            decoder_mlp_dim: 256,
            decoder_key_value_heads: 0,
            decoder_bias: false,
            tied_embeddings: false,
            rms_epsilon: 1e-6,
            fusion: Fusion::Prefix,
            adapter_every: 2,
            cross_attention_every: 2,
            lora_rank: 0,
            lora_alpha: 16.0,
            frames: 0,
            embedding_deviation: 0.1,
            head_deviation: 0.05,
            rope_base: 10_000.0,
        }
    }
}

impl ModelConfig {
    /// Returns the number of patches of one image.
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch).pow(2)
    }

    /// Returns the numbers in one patch: three colours of every pixel.
    pub fn patch_values(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Returns the number of tokens that the vision encoder makes of one image: one per patch, and
    /// a class token if there is one.
    pub fn image_tokens(&self) -> usize {
        usize::from(self.vit_class_token) + self.patches()
    }

    /// Returns the width of the vision encoder's feed-forward layers.
    pub fn vit_hidden(&self) -> usize {
        if self.vit_mlp_dim > 0 { self.vit_mlp_dim } else { self.vit_dim * self.vit_mlp_ratio }
    }

    /// Returns the bytes of one image as [`crate::Pictures::Pixels`] holds it: three colours of
    /// every pixel.
    pub fn pixel_bytes(&self) -> usize {
        3 * self.image_size * self.image_size
    }

    /// Returns the number of key and value heads of the decoder.
    pub fn key_value_heads(&self) -> usize {
        if self.decoder_key_value_heads == 0 { self.decoder_heads } else { self.decoder_key_value_heads }
    }

    /// Returns the number of vision tokens that precede the text: all of them, or none with
    /// cross-attention.
    pub fn prefix_tokens(&self) -> usize {
        match self.fusion {
            Fusion::Prefix => self.latents,
            Fusion::CrossAttention => 0,
        }
    }

    /// Checks the settings; the error names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("vit_dim", self.vit_dim),
            ("vit_depth", self.vit_depth),
            ("vit_heads", self.vit_heads),
            ("vit_mlp_ratio", self.vit_mlp_ratio),
            ("latents", self.latents),
            ("resampler_depth", self.resampler_depth),
            ("resampler_heads", self.resampler_heads),
            ("resampler_head_dim", self.resampler_head_dim),
            ("resampler_mlp_ratio", self.resampler_mlp_ratio),
            ("decoder_dim", self.decoder_dim),
            ("decoder_depth", self.decoder_depth),
            ("decoder_heads", self.decoder_heads),
            ("decoder_mlp_dim", self.decoder_mlp_dim),
            ("cross_attention_every", self.cross_attention_every),
        ];
        if let Some((setting, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(refused(setting, &0, "it must be at least 1"));
        }
        if !self.image_size.is_multiple_of(self.patch) {
            let reason = format!("it must divide image_size = {}", self.image_size);
            return Err(refused("patch", &self.patch, &reason));
        }
        if !self.vit_dim.is_multiple_of(self.vit_heads) {
            return Err(refused("vit_heads", &self.vit_heads, &format!("it must divide vit_dim = {}", self.vit_dim)));
        }
        if !self.decoder_dim.is_multiple_of(2 * self.decoder_heads) {
            let reason = format!("it must divide decoder_dim = {} into heads of even width", self.decoder_dim);
            return Err(refused("decoder_heads", &self.decoder_heads, &reason));
        }
        if !self.decoder_heads.is_multiple_of(self.key_value_heads()) {
            let reason = format!("it must divide decoder_heads = {}", self.decoder_heads);
            return Err(refused("decoder_key_value_heads", &self.decoder_key_value_heads, &reason));
        }
        if self.lora_rank > self.decoder_dim {
            let reason = format!("it must be at most decoder_dim = {}", self.decoder_dim);
            return Err(refused("lora_rank", &self.lora_rank, &reason));
        }
        if self.frames > 0 && self.sight == Sight::Features {
            return Err(refused("frames", &self.frames, "videos need sight = \"pixels\""));
        }
        let above_0 = [
            ("embedding_deviation", self.embedding_deviation),
            ("head_deviation", self.head_deviation),
            ("rms_epsilon", self.rms_epsilon),
            ("lora_alpha", self.lora_alpha),
        ];
        if let Some((setting, value)) = above_0.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(refused(setting, value, "it must be above 0"));
        }
        if !(self.vit_norm_epsilon.is_finite() && self.vit_norm_epsilon > 0.0) {
            return Err(refused("vit_norm_epsilon", &self.vit_norm_epsilon, "it must be above 0"));
        }
        if !self.image_mean.iter().all(|mean| mean.is_finite()) {
            return Err(refused("image_mean", &format!("{:?}", self.image_mean), "it must be three numbers"));
        }
        if !self.image_deviation.iter().all(|deviation| deviation.is_normal() && *deviation > 0.0) {
            let found = format!("{:?}", self.image_deviation);
            return Err(refused("image_deviation", &found, "it must be three numbers above 0"));
        }
        if !(self.rope_base.is_finite() && self.rope_base > 1.0) {
            return Err(refused("rope_base", &self.rope_base, "it must be a number above 1"));
        }
        Ok(())
    }
}

fn refused(setting: &'static str, value: &dyn std::fmt::Display, reason: &str) -> Error {
    Error::Setting { setting, value: value.to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works() {
        ModelConfig::default().validate().unwrap();
    }

    #[test]
    fn names_the_setting_that_does_not_fit() {
        let refusal = |config: ModelConfig| config.validate().unwrap_err().to_string();
        assert!(refusal(ModelConfig { patch: 5, ..Default::default() }).starts_with("patch = 5"));
        assert!(refusal(ModelConfig { decoder_heads: 5, ..Default::default() }).starts_with("decoder_heads = 5"));
        let uneven = ModelConfig { decoder_key_value_heads: 2, ..Default::default() };
        assert!(refusal(uneven).starts_with("decoder_key_value_heads = 2"));
        assert!(refusal(ModelConfig { frames: 2, ..Default::default() }).starts_with("frames = 2"));
        assert!(refusal(ModelConfig { latents: 0, ..Default::default() }).starts_with("latents = 0"));
        let negative = ModelConfig { head_deviation: -1.0, ..Default::default() };
        assert!(refusal(negative).starts_with("head_deviation = -1"));
        let flat = ModelConfig { image_deviation: [1.0, 0.0, 1.0], ..Default::default() };
        assert!(refusal(flat).starts_with("image_deviation = [1.0, 0.0, 1.0]"));
        assert!(refusal(ModelConfig { rope_base: f64::NAN, ..Default::default() }).starts_with("rope_base = NaN"));
    }
}
