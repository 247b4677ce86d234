//! A compact Lynx in burn, its training, and the check that compares two data choices by training on each.
//!
//! ```
//! use lynxdata_burn_model::{ModelConfig, Pair, RunSpec, TokenizerConfig, TrainConfig, run, train_tokenizer};
//!
//! let model = ModelConfig { image_size: 8, vit_depth: 1, decoder_depth: 1, ..Default::default() };
//! let train = TrainConfig { steps: 2, batch: 2, ..Default::default() };
//! let pair = |shade, caption: &str| Pair { pixels: vec![shade; model.pixel_bytes()], caption: caption.to_owned() };
//! let (arm, held_out) = ([pair(0, "night"), pair(255, "day")], [pair(10, "night"), pair(240, "day")]);
//! let tokenizer = train_tokenizer(&["night", "day"], &TokenizerConfig::default())?;
//! let spec = RunSpec {
//!     model: &model,
//!     train: &train,
//!     tokenizer: &tokenizer,
//!     arm: &arm,
//!     held_out: &held_out,
//!     seed: 1,
//!     checkpoint: None,
//! };
//! let result = run(&spec, &mut |_step, _loss| {})?;
//! assert!(result.held_out_bits_per_byte > 0.0);
//! # Ok::<(), lynxdata_burn_model::Error>(())
//! ```
//!
//! In the order in which data flows:
//!
//! * [`tokenizer`]: captions to tokens;
//! * `batch`: pairs to tensors;
//! * [`model`]: vision encoder, resampler and decoder;
//! * `loss`, `optimizer`, [`train`], `checkpoint`: the training loop;
//! * `evaluate`: loss on held-out pairs, with right and with wrong images;
//! * [`mod@run`]: all of that for one arm and one seed;
//! * [`check`]: which runs a comparison needs, its statistics, and its verdict.
//!
//! Not here: reading pools and writing reports (the CLI glues), instruction tuning, generation, pretrained weights. A model
//! of this size, trained from nothing, can show that one arm's captions fit their images better or read better; it says
//! nothing about knowledge, text in images or other things that only large models learn.

pub mod check;
pub mod model;
pub mod run;
pub mod tokenizer;
pub mod train;

mod batch;
mod checkpoint;
mod error;
mod evaluate;
mod loss;
mod optimizer;
mod random;

pub use batch::Pair;
pub use check::{CheckConfig, CheckOutcome, Verdict, compare, planned_runs};
pub use error::{Error, Result};
pub use model::ModelConfig;
pub use run::{RunResult, RunSpec, run};
pub use tokenizer::{Tokenizer, TokenizerConfig, train_tokenizer};
pub use train::TrainConfig;
