//! Signals measured on an image-text pair, perceptual hashes, and presets of rules over the
//! signals.
//!
//! ```
//! use lynxdata_filters::{GROUPS, Sample, Value, signal};
//!
//! let sample = Sample::new(Some("A red bicycle leans on a wall."), None);
//! let words = signal("caption_words").expect("caption_words is in the list");
//! assert_eq!(words.measure(&sample), Some(Value::Integer(7)));
//!
//! // Without an image, the image signals are missing; nothing fails.
//! let group = GROUPS.iter().find(|group| group.name == "picture").expect("it is in the list");
//! let mut values = Vec::new();
//! group.load()?.measure(&[sample], &mut values)?;
//! assert_eq!(values, vec![Value::Missing; group.signals.len()]);
//! # Ok::<(), lynxdata_filters::MeasureError>(())
//! ```
//!
//! Modules, in the order in which data flows:
//!
//! * [`image_data`]: decoding of image files to pixels, within limits, and to a luma plane;
//! * [`sample`]: a pair, with cached values that several signals share;
//! * [`hash`]: pHash and dHash, equal to Python's ImageHash;
//! * [`signals`]: one value each, in one file each, their measurers, and the list [`GROUPS`];
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
#[cfg(test)]
use signals::tests::measure_all;
pub use signals::{
    ENTROPY, GROUPS, Group, LoadedGroup, MeasureError, Measurer, Needs, PHASH, Signal, SignalType, Value, signal,
    signals,
};
