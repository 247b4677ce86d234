//! Signals measured on an image-text pair, perceptual hashes, and presets of rules over the
//! signals.
//!
//! ```
//! use lynxdata_filters::{Sample, Value, measure_all, signal};
//!
//! let sample = Sample::new(Some("A red bicycle leans on a wall."), None);
//! let words = signal("caption_words").expect("caption_words is in the list");
//! assert_eq!(words.measure(&sample), Value::Integer(7));
//!
//! // Without an image, the image signals are missing; nothing fails.
//! assert_eq!(measure_all(&sample).len(), lynxdata_filters::signals().count());
//! ```
//!
//! Modules, in the order in which data flows:
//!
//! * [`image_data`]: decoding of image files to pixels, within limits, and to a luma plane;
//! * [`sample`]: a pair, with cached values that several signals share;
//! * [`hash`]: pHash and dHash, equal to Python's ImageHash;
//! * [`signals`]: one value each, in one file each, and the list [`GROUPS`];
//! * [`mod@presets`]: published sets of rules, as SQL predicates over the signals.
//!
//! The crate does no I/O, runs no SQL and drops nothing: the engine turns signals into columns and
//! applies the rules.

#![allow(clippy::inline_always, reason = "only inlined code is compiled for the instructions of its caller")]
#![allow(
    clippy::needless_range_loop,
    reason = "one index for several arrays, in loops that become vector instructions"
)]

pub mod hash;
pub mod image_data;
pub mod presets;
pub mod sample;
pub mod signals;

#[cfg(test)]
#[path = "../../tests/machine.rs"]
mod machine;

pub use hash::{hamming, hash_hex, parse_hash_hex};
pub use image_data::{ImageData, Luma};
pub use presets::{Preset, Rule, preset, presets};
pub use sample::Sample;
pub use signals::{ENTROPY, GROUPS, Group, Needs, PHASH, Signal, SignalType, Value, measure_all, signal, signals};
