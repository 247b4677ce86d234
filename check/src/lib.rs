//! A check: decides which of two or more arms of data is better to train on, and with which
//! confidence.
//!
//! In the order in which data flows:
//!
//! * [`universe`]: all pairs, and the arms that have them;
//! * [`features`]: images as numbers, without training;
//! * [`mod@split`]: the choice of held-out pairs, which no arm has seen;
//! * [`mod@gear`]: how a check learns from the arms, and what it sees of a held-out pair;
//! * [`metrics`]: the numbers that decide, one file each; [`values`]: their values;
//! * [`resample`], [`mod@fit`]: the weights of a replicate, the versions of the arms, and the
//!   measurements of each;
//! * [`probe`]: the quick gear, in closed form; the other gear is the compact Lynx of
//!   `lynxdata-burn-model`;
//! * [`statistics`]: intervals, equivalence, several comparisons, several looks;
//! * [`outcome`]: gates, controls, the verdict and its sentence;
//! * [`world`]: images whose captions are exact;
//! * [`known`]: arms for which the better one is known, to count how often a check finds it.
//!
//! Both gears use the same arms, held-out pairs, replicates, gates and sentences. Nothing here
//! reads files or trains a network.

pub mod features;
pub mod fit;
pub mod gear;
pub mod known;
pub mod metrics;
pub mod outcome;
pub mod probe;
pub mod resample;
pub mod split;
pub mod statistics;
pub mod universe;
pub mod values;
pub mod world;

mod matrix;
mod principal;
mod random;
mod text;

pub use fit::{Fit, FitResult, Measured, Training, Version};
pub use gear::{Gear, Losses, Seen};
pub use matrix::Matrix;
pub use metrics::{METRICS, Metric};
pub use outcome::{CheckOutcome, Protocol, Verdict, check};
pub use probe::Probe;
pub use split::{Split, SplitConfig, split};
pub use universe::{Pair, Turn, Universe};
pub use values::Values;
