//! The whole model: vision tokens before text.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::config::ModelConfig;
use super::decoder::{Decoder, Layout};
use super::initial::Initial;
use super::resampler::Resampler;
use super::vision::Vision;
use crate::error::Result;

/// A compact Lynx by prefix-tuning.
#[derive(Module, Debug)]
pub struct Lynx {
    vision_encoder: Vision,
    bridge: Resampler,
    llm: Decoder,
}

impl Lynx {
    /// Builds a model for `vocabulary` tokens, with the weights of `seed`: the same on every device.
    pub fn new(config: &ModelConfig, vocabulary: usize, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        let mut initial = Initial::new(seed, device);
        Ok(Self {
            vision_encoder: Vision::new(config, &mut initial),
            bridge: Resampler::new(config, &mut initial),
            llm: Decoder::new(config, vocabulary, &mut initial),
        })
    }

    /// The vision encoder.
    pub fn vision_encoder(&self) -> &Vision {
        &self.vision_encoder
    }

    /// The resampler between vision encoder and decoder.
    pub fn resampler(&self) -> &Resampler {
        &self.bridge
    }

    /// What the decoder sees of images: `[B, N, 3·patch²]` patches to `[B, latents, decoder_dim]`.
    pub fn vision_tokens(&self, patches: Tensor<3>) -> Tensor<3> {
        self.bridge.forward(&self.vision_encoder.forward(patches))
    }

    /// Scores of the token after each text token, before the softmax: `[B, T, vocabulary]`.
    ///
    /// `vision_tokens` `[B, latents, decoder_dim]` come before the text `ids` `[B, T]`; `layout` covers latents + T tokens.
    pub fn logits(&self, vision_tokens: Tensor<3>, ids: Tensor<2, Int>, layout: &Layout) -> Tensor<3> {
        let text = self.text(vision_tokens, ids, layout);
        self.llm.logits(text)
    }

    /// The same at some places of the flattened `B · T` grid only, `[places, vocabulary]`: scoring the vocabulary is
    /// costly, and padding needs no scores.
    pub fn logits_at(
        &self,
        vision_tokens: Tensor<3>,
        ids: Tensor<2, Int>,
        layout: &Layout,
        places: Tensor<1, Int>,
    ) -> Tensor<2> {
        let text = self.text(vision_tokens, ids, layout);
        let [batch, tokens, width] = text.dims();
        self.llm.logits(text.reshape([batch * tokens, width]).select(0, places))
    }

    /// The decoder's last layer at the text tokens: `[B, T, decoder_dim]`.
    fn text(&self, vision_tokens: Tensor<3>, ids: Tensor<2, Int>, layout: &Layout) -> Tensor<3> {
        let [_, latents, _] = vision_tokens.dims();
        let [_, tokens] = ids.dims();
        let x = Tensor::cat(vec![vision_tokens, self.llm.embed(ids)], 1);
        self.llm.forward(x, layout).narrow(1, latents, tokens)
    }
}
