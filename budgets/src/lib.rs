//! Counts the tokens of conversations and finds records that would break a training run, before a
//! GPU is rented.
//!
//! ```
//! use lynxdata_budgets::Model;
//!
//! let model = Model::parse("Qwen/Qwen2.5-VL-7B-Instruct")?;
//! let tokens = model.visual_tokens(640, 480, 1)?;
//! assert_eq!((tokens.features, tokens.all()), (391, 393));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The parts, in the order in which data flows:
//!
//! * [`conversations()`]: streams records of LLaVA, ShareGPT, messages, ms-swift, The Cauldron,
//!   M3IT and our own exports;
//! * `picture`: checks whether images exist and are complete, and reads their sizes from their
//!   headers;
//! * [`Model`]: computes the number of tokens of an image from its size;
//! * [`Tokenizer`]: counts the tokens of a text;
//! * [`audit`] and [`Report`]: count the tokens of records and find their faults;
//! * [`first_fit_decreasing`] and [`Plan`]: pack records into sequences of one length;
//! * [`Renderer`]: renders conversations as text and tokens, with the mask of tokens that have a
//!   loss;
//! * [`contamination()`] and [`write_clean`]: find records that overlap with a benchmark, and write
//!   a copy without them.
//!
//! The crate decodes images only to compare their perceptual hashes, trains nothing and needs no
//! network.

mod audit;
mod clean;
mod contamination;
mod error;
mod fault;
mod pack;
mod picture;
mod plan;
mod read;
mod render;
mod tokenizer;
mod visual;

#[cfg(test)]
#[path = "../../tests/machine.rs"]
mod machine;

pub use audit::{Broken, Checked, Example, Report, Settings, audit, checked};
pub use clean::{Cleaned, write_clean};
pub use contamination::{
    Comparison, Contamination, Hit, Likeness, Reference, References, WORDS, contamination, picture_hash,
    reference_files,
};
pub use error::{Error, Result};
pub use fault::{Fault, Reason};
pub use pack::{Packing, Placed, first_fit_decreasing};
pub use picture::{ReadPicture, Sizes};
pub use plan::Plan;
pub use read::{Asked, Conversation, Picture, Role, Turn, conversations, files};
pub use render::{Refused, Rendered, Renderer, Template, Tokens};
pub use tokenizer::Tokenizer;
pub use visual::{Model, Unfit, VisualTokens, models};
