//! The whole model: vision tokens before text.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};

use super::config::{Fusion, ModelConfig, Sight};
use super::decoder::{Cache, Decoder, Layout};
use super::initial::{DEVIATION, Draw, Initial};
use super::projection::Projection;
use super::resampler::Resampler;
use super::vision::Vision;
use crate::error::Result;

/// A compact Lynx, by prefix-tuning or with cross-attention.
///
/// It has a vision encoder and a resampler, or a projection of features, never both.
#[derive(Module, Debug)]
pub struct Lynx {
    vision_encoder: Option<Vision>,
    /// `[1, frames, 1, vit_dim]`: embeddings of the frames of a video.
    frame_embedding: Option<Param<Tensor<4>>>,
    bridge: Option<Resampler>,
    projection: Option<Projection>,
    llm: Decoder,
    /// Whether vision tokens precede the text.
    prefix: bool,
}

impl Lynx {
    /// Builds a model with the weights of `seed`: the same on every device.
    ///
    /// `vocabulary` is the number of tokens, `features` the numbers per image with
    /// [`Sight::Features`]; [`Sight::Pixels`] does not use it.
    pub fn new(config: &ModelConfig, vocabulary: usize, features: usize, seed: u64, device: &Device) -> Result<Self> {
        Self::undrawn(config, vocabulary, features, seed, device).map(Self::draw)
    }

    /// Builds the same model without drawing its weights, so that others may replace them. Call
    /// [`Self::draw`] before cloning the model: clones share undrawn weights and whether these need
    /// gradients.
    pub(crate) fn undrawn(
        config: &ModelConfig,
        vocabulary: usize,
        features: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        config.validate()?;
        let mut initial = Initial::new(seed, device);
        let (vision_encoder, bridge, projection) = match config.sight {
            Sight::Pixels => {
                (Some(Vision::new(config, &mut initial)), Some(Resampler::new(config, &mut initial)), None)
            }
            Sight::Features => (None, None, Some(Projection::new(config, features, &mut initial))),
        };
        let frame_embedding =
            (config.frames > 0).then(|| initial.normal([1, config.frames, 1, config.vit_dim], DEVIATION));
        let llm = Decoder::new(config, vocabulary, &mut initial);
        let prefix = config.fusion == Fusion::Prefix;
        Ok(Self { vision_encoder, frame_embedding, bridge, projection, llm, prefix })
    }

    /// Draws the weights that were not replaced.
    pub(crate) fn draw(self) -> Self {
        self.visit(&mut Draw);
        self
    }

    /// Returns the vision encoder of a model that sees pixels.
    pub fn vision_encoder(&self) -> Option<&Vision> {
        self.vision_encoder.as_ref()
    }

    /// Returns the resampler, between vision encoder and decoder, of a model that sees pixels.
    pub fn resampler(&self) -> Option<&Resampler> {
        self.bridge.as_ref()
    }

    /// Returns the vision tokens of images: `[B, latents, decoder_dim]`.
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

    /// Returns the vision tokens of videos: `[B, latents, decoder_dim]`, as many per video as per
    /// image.
    ///
    /// `frames` are patches of the frames of each video, `[B, F, N, 3·patch²]`, where F is the
    /// model's `frames`. Every frame goes through the vision encoder; the resampler reads all of
    /// them at once. `None` if the model takes no videos.
    pub fn video_tokens(&self, frames: Tensor<4>) -> Option<Tensor<3>> {
        let (encoder, embedding, bridge) =
            (self.vision_encoder.as_ref()?, self.frame_embedding.as_ref()?, self.bridge.as_ref()?);
        let [batch, count, patches, values] = frames.dims();
        let tokens = encoder.forward(frames.reshape([batch * count, patches, values]));
        let [_, per_frame, width] = tokens.dims();
        let tokens = tokens.reshape([batch, count, per_frame, width]) + embedding.val();
        Some(bridge.forward(&tokens.reshape([batch, count * per_frame, width])))
    }

    /// Returns the scores of the token after each text token, before the softmax:
    /// `[B, T, vocabulary]`.
    ///
    /// `vision` are `[B, latents, decoder_dim]` vision tokens, `ids` the text `[B, T]`; `layout`
    /// covers [`ModelConfig::prefix_tokens`] + T tokens.
    pub fn logits(&self, vision: &Tensor<3>, ids: Tensor<2, Int>, layout: &Layout) -> Tensor<3> {
        let [_, tokens] = ids.dims();
        self.llm.logits(self.read(vision, ids, layout, tokens, None))
    }

    /// Returns the same scores at some places of the flattened `B · T` grid only, `[places,
    /// vocabulary]`: scoring the vocabulary is expensive, and padding needs no scores.
    pub fn logits_at(
        &self,
        vision: &Tensor<3>,
        ids: Tensor<2, Int>,
        layout: &Layout,
        places: Tensor<1, Int>,
    ) -> Tensor<2> {
        let [_, tokens] = ids.dims();
        let text = self.read(vision, ids, layout, tokens, None);
        let [batch, tokens, width] = text.dims();
        self.llm.logits(text.reshape([batch * tokens, width]).select(0, places))
    }

    /// Returns the scores of the token after the last one, `[B, vocabulary]`, and adds the tokens
    /// that were read to `cache`.
    ///
    /// With an empty cache, the vision tokens of a prefix are read before the text; afterwards
    /// `ids` are the tokens that follow, and `layout` is that of these tokens only.
    pub fn next_logits(
        &self,
        vision: &Tensor<3>,
        ids: Tensor<2, Int>,
        layout: &Layout,
        cache: &mut Cache,
    ) -> Tensor<2> {
        let last = self.read(vision, ids, layout, 1, Some(cache));
        let [batch, _, width] = last.dims();
        self.llm.logits(last.reshape([batch, width]))
    }

    /// Returns the output of the decoder's last layer at the last `wanted` tokens: `[B, wanted,
    /// decoder_dim]`.
    fn read(
        &self,
        vision: &Tensor<3>,
        ids: Tensor<2, Int>,
        layout: &Layout,
        wanted: usize,
        cache: Option<&mut Cache>,
    ) -> Tensor<3> {
        let text = self.llm.embed(ids);
        let begins = cache.as_ref().is_none_or(|cache| cache.is_empty());
        let x = if self.prefix && begins { Tensor::cat(vec![vision.clone(), text], 1) } else { text };
        self.llm.forward(x, vision, layout, wanted, cache)
    }
}
