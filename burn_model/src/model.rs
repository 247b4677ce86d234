//! A compact Lynx: vision encoder, resampler and decoder, joined by a prefix or by cross-attention.
//!
//! Data flow, with B images of N patches or F features, L latents, T text tokens:
//!
//! ```text
//! features [B, 1, F] ─ projection ──────────────────────────────────────────────► [B, L, decoder_dim] ─┐
//!   or
//! patches [B, N, 3·patch²] ─ vision ─► [B, 1+N, vit_dim] ─ resampler ─► [B, L, decoder_dim] ─┐
//! token ids [B, T] ─ embedding ─► [B, T, decoder_dim] ──────── vision tokens before text ─────┴► decoder ─► [B, T, vocabulary]
//! ```
//!
//! With [`Fusion::CrossAttention`] the decoder reads text alone, and some of its layers look at the
//! vision tokens.
//!
//! The shapes, norms, scalings and the adapters' place follow the released code of Lynx (arXiv
//! 2307.02469, github.com/bytedance/lynx-llm); the sizes are settings, so that a check runs in
//! minutes on a CPU.

mod activation;
mod attention;
mod config;
mod cross_attention;
mod decoder;
mod initial;
mod linear;
mod lynx;
mod norm;
mod projection;
mod resampler;
mod rotary;
mod vision;

pub(crate) use config::{CLIP_DEVIATION, CLIP_MEAN};
pub use config::{Fusion, ModelConfig, Sight, VitActivation};
pub use decoder::{Cache, Decoder, Layout};
pub use lynx::Lynx;
pub use projection::Projection;
pub use resampler::Resampler;
pub use vision::{Vision, patches_from_pixels};

#[cfg(test)]
mod tests;
