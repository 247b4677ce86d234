//! Signals: one value each, measured on a pair once, in one file each.
//!
//! A new signal is one file in this folder, named as the signal, and one line in [`SIGNALS`]. The SQL function, the
//! column of the signal table, its documentation and its histogram in the report come from what the file says of it.

mod aspect_ratio;
mod brightness;
mod bytes_per_pixel;
mod caption_characters;
mod caption_words;
mod contrast;
mod dhash;
mod entropy;
mod height;
mod language;
mod language_confidence;
mod letter_share;
mod phash;
mod repeated_words;
mod sharpness;
mod width;

use crate::sample::Sample;

/// All signals, text first, then by what they need; measurements and columns come in this order.
pub const SIGNALS: &[&dyn Signal] = &[
    &caption_characters::CaptionCharacters,
    &caption_words::CaptionWords,
    &language::Language,
    &language_confidence::LanguageConfidence,
    &letter_share::LetterShare,
    &repeated_words::RepeatedWords,
    &width::Width,
    &height::Height,
    &aspect_ratio::AspectRatio,
    &bytes_per_pixel::BytesPerPixel,
    &sharpness::Sharpness,
    &brightness::Brightness,
    &contrast::Contrast,
    &entropy::Entropy,
    &phash::Phash,
    &dhash::Dhash,
];

/// One value that can be measured on a pair.
pub trait Signal: Sync {
    /// Name of the signal, of its file, of its column and of its SQL function; snake_case.
    fn name(&self) -> &'static str;

    /// What is measured, in a sentence or two that define it exactly.
    fn description(&self) -> &'static str;

    /// Unit of the value in words, such as "pixels"; "none" for a ratio or a text.
    fn unit(&self) -> &'static str;

    /// Smallest and largest possible value, both inclusive; `None` where there is no bound, and for texts.
    fn range(&self) -> (Option<f64>, Option<f64>) {
        (None, None)
    }

    /// What must be read to measure it, which decides what it costs.
    fn needs(&self) -> Needs;

    /// Type of the value and of its column.
    fn signal_type(&self) -> SignalType;

    /// Where the definition comes from: a publication, a standard or the program that it agrees with.
    fn source(&self) -> &'static str;

    /// Measures the pair; [`Value::Missing`] where it lacks what the signal needs.
    fn measure(&self, sample: &Sample<'_>) -> Value;
}

/// What must be read of a pair, from cheap to expensive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// The caption alone.
    Text,
    /// The header and the length of the image file.
    Header,
    /// The decoded pixels.
    Pixels,
}

/// Type of a signal's value: Arrow `Int64`, `Float64` or `Utf8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalType {
    /// A count.
    Integer,
    /// A finite number.
    Float,
    /// A short text.
    Text,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// The pair lacks what the signal needs: no caption, no decodable picture, no detectable language. SQL sees NULL.
    Missing,
    /// Of a signal of type [`SignalType::Integer`].
    Integer(i64),
    /// Of a signal of type [`SignalType::Float`]; finite.
    Float(f64),
    /// Of a signal of type [`SignalType::Text`].
    Text(String),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Missing, Into::into)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Value::Integer(count as i64)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Value::Integer(i64::from(count))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

/// The signal of this name.
pub fn signal(name: &str) -> Option<&'static dyn Signal> {
    SIGNALS.iter().copied().find(|signal| signal.name() == name)
}

/// All signals of a pair, in the order of [`SIGNALS`].
pub fn measure_all(sample: &Sample<'_>) -> Vec<Value> {
    SIGNALS.iter().map(|signal| signal.measure(sample)).collect()
}

#[cfg(test)]
mod tests;
