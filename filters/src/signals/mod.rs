//! Signals: values that are measured once per pair, with one file for each signal.
//!
//! A new signal is one file in this folder, named as the signal, a `mod` line and a line in
//! [`GROUPS`]. The SQL function, the column of the signal table, its documentation and its
//! histogram in the report are made from its definition in that file.

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

/// Signals that are measured together and whose columns are in one table. If a signal is added to a
/// group or its version is increased, only this group is measured again.
#[derive(Debug)]
pub struct Group {
    /// Its name in the run folder; snake_case.
    pub name: &'static str,
    /// Version; increased when one of its signals gives another value for the same pair.
    pub version: u32,
    /// Whether its signals identify a pair, as perceptual hashes do. Their distribution says
    /// nothing, so the report has no histogram of them.
    pub identifies: bool,
    /// Its signals, in the order of columns.
    pub signals: &'static [Signal],
}

/// All groups in the order of columns, text first.
pub const GROUPS: &[Group] = &[
    Group {
        name: "caption",
        version: 1,
        identifies: false,
        signals: &[
            caption_characters::SIGNAL,
            caption_words::SIGNAL,
            language::SIGNAL,
            language_confidence::SIGNAL,
            letter_share::SIGNAL,
            repeated_words::SIGNAL,
        ],
    },
    Group {
        name: "picture",
        version: 1,
        identifies: false,
        signals: &[
            width::SIGNAL,
            height::SIGNAL,
            aspect_ratio::SIGNAL,
            bytes_per_pixel::SIGNAL,
            sharpness::SIGNAL,
            brightness::SIGNAL,
            contrast::SIGNAL,
            entropy::SIGNAL,
        ],
    },
    Group { name: "hashes", version: 1, identifies: true, signals: &[phash::SIGNAL, dhash::SIGNAL] },
];

/// The entropy of the image, by which duplicates are compared.
pub const ENTROPY: &Signal = &entropy::SIGNAL;
/// The perceptual hash, by which duplicates are compared.
pub const PHASH: &Signal = &phash::SIGNAL;

impl Group {
    /// Measures every signal of the group on a pair.
    pub fn measure(&self, sample: &Sample<'_>) -> Vec<Value> {
        self.signals.iter().map(|signal| signal.measure(sample)).collect()
    }
}

/// One value that can be measured on a pair.
#[derive(Debug)]
pub struct Signal {
    /// Name of the signal, of its file, of its column and of its SQL function; snake_case.
    pub name: &'static str,
    /// The exact definition, in a sentence or two.
    pub description: &'static str,
    /// Unit of the value in words, such as "pixels"; "none" for a ratio or a text.
    pub unit: &'static str,
    /// Minimum and maximum of the value, both inclusive; `None` if there is no bound, and for
    /// texts.
    pub range: (Option<f64>, Option<f64>),
    /// The input that it needs, which determines its cost.
    pub needs: Needs,
    /// Type of the value and of its column.
    pub signal_type: SignalType,
    /// The source of the definition: a publication, a standard or the program that it agrees with.
    pub source: &'static str,
    /// The function that measures a pair.
    measure: fn(&Sample<'_>) -> Value,
}

impl Signal {
    /// Measures the pair; [`Value::Missing`] if the pair lacks what the signal needs.
    pub fn measure(&self, sample: &Sample<'_>) -> Value {
        (self.measure)(sample)
    }
}

/// The parts of a pair that must be read, from cheap to expensive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Needs {
    /// The caption only.
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
    /// The pair lacks what the signal needs: no caption, no decodable image, no detectable
    /// language. SQL sees NULL.
    Missing,
    /// Value of a signal of type [`SignalType::Integer`].
    Integer(i64),
    /// Value of a signal of type [`SignalType::Float`]; finite.
    Float(f64),
    /// Value of a signal of type [`SignalType::Text`].
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

/// Returns all signals, group by group.
pub fn signals() -> impl Iterator<Item = &'static Signal> {
    GROUPS.iter().flat_map(|group| group.signals)
}

/// Returns the signal of this name.
pub fn signal(name: &str) -> Option<&'static Signal> {
    signals().find(|signal| signal.name == name)
}

/// Measures all signals of a pair, in the order of [`signals`].
pub fn measure_all(sample: &Sample<'_>) -> Vec<Value> {
    signals().map(|signal| signal.measure(sample)).collect()
}

#[cfg(test)]
mod tests;
