//! A compact Lynx in burn and its training on one arm of data.
//!
//! ```
//! use lynxdata_burn_model::{
//!     DeviceName, Example, ModelConfig, Pictures, RunSpec, TokenizerConfig, TrainConfig, run, train_tokenizer,
//! };
//!
//! let model = ModelConfig::default();
//! let train = TrainConfig { steps: 2, ..Default::default() };
//! // Two numbers per picture: how dark and how bright it is.
//! let pictures = Pictures::Features { width: 2, values: vec![0.9, 0.1, 0.0, 1.0, 1.0, 0.1, 0.2, 0.9] };
//! let arm = [Example::caption(0, "night"), Example::caption(1, "day")];
//! let held_out = [Example::caption(2, "night"), Example::caption(3, "day")];
//! let tokenizer = train_tokenizer(&["night", "day"], &TokenizerConfig::default())?;
//! let spec = RunSpec {
//!     model: &model,
//!     train: &train,
//!     tokenizer: &tokenizer,
//!     pictures: &pictures,
//!     arm: &arm,
//!     copies: &[1, 1],
//!     held_out: &held_out,
//!     seed: 1,
//!     pretrained: &[],
//!     start: None,
//!     checkpoint: None,
//!     device: &DeviceName::Cpu,
//! };
//! let result = run(&spec, &mut |_step, _loss| {})?;
//! assert!(result.bits_per_byte() > 0.0);
//! # Ok::<(), lynxdata_burn_model::Error>(())
//! ```
//!
//! In the order in which data flows:
//!
//! * [`device`]: where to compute;
//! * [`data`]: images, captions and conversations;
//! * [`tokenizer`]: texts to tokens;
//! * `encode`: which tokens of an example are read, and which the loss counts;
//! * `schedule`: which examples each step is trained on;
//! * `crop`, `batch`: examples to tensors;
//! * [`model`]: sight and decoder;
//! * [`weights`]: pretrained decoders and vision encoders;
//! * [`loss`], [`precision`], [`optimizer`], `average`, [`train`], `checkpoint`: the training loop;
//! * [`saved`]: a trained model in a folder;
//! * [`mod@generate`]: answers to an image and a question;
//! * [`answer`]: a saved model that answers questions;
//! * `evaluate`: loss on held-out examples, with right and with wrong images;
//! * [`mod@run`]: all of that for one arm and one seed;
//! * [`doctor`]: whether a device computes what the reference computes.
//!
//! Not in this crate: features of images, the comparison of arms and its statistics, reading pools,
//! writing reports. A model of this size, trained from scratch, can show that one arm's texts fit
//! their images better or read better; it says nothing about knowledge, text in images or other
//! things that only large models learn.

#![allow(
    clippy::inline_always,
    reason = "a loop uses the processor's widest instructions only if all of it is inlined where these are chosen"
)]

pub mod answer;
pub mod data;
pub mod device;
pub mod doctor;
pub mod generate;
pub mod loss;
pub mod model;
pub mod optimizer;
pub mod precision;
pub mod run;
pub mod saved;
pub mod tokenizer;
pub mod train;
pub mod weights;

mod average;
mod batch;
mod checkpoint;
mod crop;
mod cubic;
mod encode;
mod error;
mod evaluate;
mod operation;
mod part;
mod random;
mod schedule;

#[cfg(test)]
#[path = "../../tests/machine.rs"]
mod machine;

pub use answer::Answerer;
pub use data::{Example, Pictures, Shown, StoredPictures, Turn};
pub use device::{DeviceName, backends, devices};
pub use error::{Error, Result};
pub use generate::{GenerateConfig, Generated, generate};
pub use model::{Fusion, ModelConfig, Sight, VitActivation};
pub use part::{Part, freeze};
pub use precision::Precision;
pub use run::{HeldOutLoss, LossPoint, RunResult, RunSpec, loss_tokens, run, train};
pub use saved::SavedModel;
pub use tokenizer::{Tokenizer, TokenizerConfig, train_tokenizer};
pub use train::{Decay, TrainConfig};
pub use weights::Pretrained;
