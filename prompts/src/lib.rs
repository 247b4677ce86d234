//! Prompt banks: reviewed wordings of instructions, the choice of a wording for every record, and
//! its rendering.
//!
//! ```
//! use lynxdata_prompts::{Banks, PromptMode, Slot, Wording, choose};
//!
//! let banks = Banks::shipped()?;
//! let bank = banks.get("vqa")?;
//! let all = bank.templates.iter().map(|template| Wording { bank, template });
//! let wording = choose(all, PromptMode::All, 7, "vqav2", "vqav2/train/9000").expect("the bank has wordings");
//! let text = bank.render(wording.template, &[("question", Slot::Text("How many cups are there?"))])?;
//! assert!(text.contains("How many cups are there?"));
//! # Ok::<(), lynxdata_prompts::Error>(())
//! ```
//!
//! The parts, in the order in which data passes them:
//!
//! * [`Banks`] and [`Bank`]: the TOML files in `banks/`, which are embedded. English ones are in
//!   that folder, those of other languages in subfolders named after the language. A folder on disk
//!   may replace or add banks;
//! * [`near_duplicates`]: the check for wordings that say the same thing in nearly the same words;
//! * [`disagreements`]: the check for wordings that ask for a different answer than the one that
//!   follows;
//! * [`Counts`]: numbers of wordings by bank, language, shape and tag;
//! * [`choose`] and [`keyed_hash`]: a choice that depends only on the seed, the task and the
//!   record;
//! * [`Bank::render`]: fills the slots. Data is never parsed as a template, so a question that
//!   contains `{{ }}` stays unchanged;
//! * [`tokens`]: the special tokens of trainers, which no text may contain.
//!
//! The crate does not write new wordings, apply chat templates or compute loss masks. It knows
//! nothing about tasks: the fields of a record arrive as slots.

mod agreement;
mod bank;
mod choose;
mod count;
mod duplicates;
mod error;
mod hash;
pub mod tokens;

pub use agreement::{Disagreement, disagreements};
pub use bank::{AnswerShape, Bank, Banks, Length, Media, Origin, Review, Slot, Template, Tone, Wording};
pub use choose::{PromptMode, choose};
pub use count::Counts;
pub use duplicates::{NearDuplicate, near_duplicate, near_duplicates, normalise};
pub use error::Error;
pub use hash::keyed_hash;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
