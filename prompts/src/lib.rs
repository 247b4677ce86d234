//! Prompt banks: reviewed instruction wordings, the choice of one for every record, and its
//! rendering.
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
//! In the order in which data meets them:
//!
//! * [`Banks`] and [`Bank`]: the TOML files in `banks/`, embedded, English ones there and those
//!   of another language in a folder of its name; a folder
//!   on disk may replace or add some;
//! * [`near_duplicates`]: the check for wordings that say the same thing in nearly the same words;
//! * [`disagreements`]: the check for wordings that ask for another answer than follows;
//! * [`Counts`]: numbers of wordings by bank, language, shape and tag;
//! * [`choose`] and [`keyed_hash`]: a choice that depends on the seed, the task and the record
//!   alone;
//! * [`Bank::render`]: fills the slots. Data is never read as a template, so a question that
//!   holds `{{ }}` stays as it is.
//!
//! It does not write new wordings, apply chat templates or compute loss masks, and it knows nothing
//! of tasks: a record's fields arrive as slots.

mod agreement;
mod bank;
mod choose;
mod count;
mod duplicates;
mod error;
mod hash;

pub use agreement::{Disagreement, disagreements};
pub use bank::{AnswerShape, Bank, Banks, Length, Media, Origin, Review, Slot, Template, Tone, Wording};
pub use choose::{PromptMode, choose};
pub use count::Counts;
pub use duplicates::{NearDuplicate, near_duplicate, near_duplicates, normalise};
pub use error::Error;
pub use hash::keyed_hash;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;
