//! The whole model: vision tokens before text.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::config::{ModelConfig, Sight};
use super::decoder::{Decoder, Layout};
use super::initial::Initial;
use super::projection::Projection;
use super::resampler::Resampler;
use super::vision::Vision;
use crate::error::Result;

/// A compact Lynx by prefix-tuning.
///
/// It has a vision encoder and a resampler, or a projection of features, never both.
#[derive(Module, Debug)]
pub struct Lynx {
    vision_encoder: Option<Vision>,
    bridge: Option<Resampler>,
    projection: Option<Projection>,
    llm: Decoder,
}

impl Lynx {
    /// Builds a model with the weights of `seed`: the same on every device.
    ///
    /// `vocabulary` is the number of tokens, `features` the numbers per picture with
    /// [`Sight::Features`]; [`Sight::Pixels`] does not use it.
    pub fn new(config: &ModelConfig, vocabulary: usize, features: usize, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        let mut initial = Initial::new(seed, device);
        let (vision_encoder, bridge, projection) = match config.sight {
            Sight::Pixels => {
                (Some(Vision::new(config, &mut initial)), Some(Resampler::new(config, &mut initial)), None)
            }
            Sight::Features => (None, None, Some(Projection::new(config, features, &mut initial))),
        };
        Ok(Self { vision_encoder, bridge, projection, llm: Decoder::new(config, vocabulary, &mut initial) })
    }

    /// Returns the vision encoder of a model that sees pixels.
    pub fn vision_encoder(&self) -> Option<&Vision> {
        self.vision_encoder.as_ref()
    }

    /// Returns the resampler, between vision encoder and decoder, of a model that sees pixels.
    pub fn resampler(&self) -> Option<&Resampler> {
        self.bridge.as_ref()
    }

    /// Returns what the decoder sees of pictures: `[B, latents, decoder_dim]`.
    ///
    /// `pictures` are patches `[B, N, 3·patch²]`, or features `[B, 1, features]`.
    pub fn vision_tokens(&self, mut pictures: Tensor<3>) -> Tensor<3> {
        if let Some(projection) = &self.projection {
            return projection.forward(pictures);
        }
        if let Some(encoder) = &self.vision_encoder {
            pictures = encoder.forward(pictures);
        }
        match &self.bridge {
            Some(bridge) => bridge.forward(&pictures),
            None => pictures,
        }
    }

    /// Returns the scores of the token after each text token, before the softmax:
    /// `[B, T, vocabulary]`.
    ///
    /// `vision_tokens` `[B, latents, decoder_dim]` come before the text `ids` `[B, T]`; `layout`
    /// covers latents + T tokens.
    pub fn logits(&self, vision_tokens: Tensor<3>, ids: Tensor<2, Int>, layout: &Layout) -> Tensor<3> {
        let text = self.text(vision_tokens, ids, layout);
        self.llm.logits(text)
    }

    /// Returns the same at some places of the flattened `B · T` grid only, `[places, vocabulary]`:
    /// scoring the vocabulary is costly, and padding needs no scores.
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
        let [_, tokens] = ids.dims();
        let x = Tensor::cat(vec![vision_tokens, self.llm.embed(ids)], 1);
        self.llm.forward(x, layout, tokens)
    }
}
