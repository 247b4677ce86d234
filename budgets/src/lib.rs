//! What conversations cost a trainer, and what of them would break a run, before a GPU is rented.
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
//! In the order in which data flows:
//!
//! * [`conversations()`]: records of LLaVA, ShareGPT, messages, ms-swift, The Cauldron, M3IT and
//!   our own exports, streamed;
//! * `picture`: whether the pictures are there and whole, and how large, from their headers;
//! * [`Model`]: how many tokens a picture takes, from its size;
//! * [`Tokenizer`]: how many tokens a text takes;
//! * [`audit`] and [`Report`]: what records cost and what is wrong with them;
//! * [`first_fit_decreasing`] and [`Plan`]: records packed into sequences of one length;
//! * [`Renderer`]: conversations as text and tokens, with the tokens that have a loss;
//! * [`contamination()`] and [`write_clean`]: what of a benchmark is in the records, and these
//!   without it.
//!
//! It decodes pictures only to compare their looks, trains nothing and needs no network.

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
};
pub use error::{Error, Result};
pub use fault::{Fault, Reason};
pub use pack::{Packing, Placed, first_fit_decreasing};
pub use picture::Sizes;
pub use plan::Plan;
pub use read::{Asked, Conversation, Picture, Role, Turn, conversations, files};
pub use render::{Refused, Rendered, Renderer, Template, Tokens};
pub use tokenizer::Tokenizer;
pub use visual::{Model, Unfit, VisualTokens, models};
