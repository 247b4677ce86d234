//! A check: which of two or more arms of data is better to train on, and how sure that is.
//!
//! In the order in which data flows:
//!
//! * [`universe`]: all pairs, and which arms have them;
//! * [`features`]: what a picture looks like in numbers, without anything learnt;
//! * [`mod@split`]: which pairs are measured on, so that no arm has seen them;
//! * [`resample`], [`mod@fit`]: what a replicate redraws, the versions of the arms, and what is
//!   measured of each;
//! * [`probe`]: the quick gear, in closed form; the other gear is the compact Lynx of
//!   `lynxdata-burn-model`;
//! * [`statistics`]: intervals, equivalence, several comparisons, several looks;
//! * [`outcome`]: gates, controls, verdict and the sentence that tells it;
//! * [`world`]: pictures whose captions are exact;
//! * [`known`]: arms of which it is known which is better, and how often a check says so.
//!
//! Both gears have the same arms, held-out pairs, replicates, gates and words. Nothing here reads
//! files or trains a network.

pub mod features;
pub mod fit;
pub mod known;
pub mod outcome;
pub mod probe;
pub mod resample;
pub mod split;
pub mod statistics;
pub mod universe;
pub mod world;

mod matrix;
mod principal;
mod random;
mod text;

pub use fit::{Fit, FitResult, Measured, Training, Version};
pub use matrix::Matrix;
pub use outcome::{CheckOutcome, Gear, Protocol, Question, Verdict, check};
pub use probe::Probe;
pub use split::{Split, SplitConfig, split};
pub use universe::{Pair, Turn, Universe};
