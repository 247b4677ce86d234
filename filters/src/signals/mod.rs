//! Signals: values that are measured once per pair, with one file for each signal.
//!
//! A new signal is one file in this folder, named as the signal, a `mod` line and a line in
//! [`GROUPS`]. The SQL function, the column of the signal table, its documentation and its
//! histogram in the report are made from its definition in that file.
//!
//! A group is measured by its [`Measurer`], which receives batches of pairs. Most groups share the
//! one that calls the functions of their signals. A group of a model has its own, in one file
//! named as the group.

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

use std::error::Error;
use std::fmt::Debug;

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
    /// Maximum number of pairs that its measurer receives at once. Their decoded images are in
    /// memory together. With 1, pairs are measured on all cores, and already during their download;
    /// the measurer is then made for every part, so it must not be expensive to make.
    pub batch: usize,
    /// Makes the measurer of these signals. The weights of a model are read here.
    pub measurer: MakeMeasurer,
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
        batch: 1,
        measurer: functions,
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
        batch: 1,
        measurer: functions,
    },
    Group {
        name: "hashes",
        version: 1,
        identifies: true,
        signals: &[phash::SIGNAL, dhash::SIGNAL],
        batch: 1,
        measurer: functions,
    },
];

/// The entropy of the image, by which duplicates are compared.
pub const ENTROPY: &Signal = &entropy::SIGNAL;
/// The perceptual hash, by which duplicates are compared.
pub const PHASH: &Signal = &phash::SIGNAL;

impl Group {
    /// Makes the measurer of the group.
    ///
    /// # Errors
    /// If a model cannot be loaded.
    pub fn load(&'static self) -> Result<LoadedGroup, MeasureError> {
        Ok(LoadedGroup { group: self, measurer: (self.measurer)(self.signals)? })
    }

    /// Returns whether each pair is measured without others, as soon as its pixels are in memory.
    pub fn is_by_pair(&self) -> bool {
        self.batch == 1
    }
}

/// Measures the signals of a group on batches of pairs. It is made once and used for many batches,
/// so it may hold the weights of a model.
pub trait Measurer: Debug + Send + Sync {
    /// Appends the values of the pairs, pair after pair, and for each pair one value for every
    /// signal of the group. The values of a pair must not depend on the other pairs of the batch.
    ///
    /// # Errors
    /// If nothing can be measured, for example because the device of a model has failed. A pair
    /// that lacks what a signal needs is no error; its value is [`Value::Missing`].
    fn measure(&self, pairs: &[Sample<'_>], values: &mut Vec<Value>) -> Result<(), MeasureError>;
}

/// A function that makes the measurer of some signals.
pub type MakeMeasurer = fn(&'static [Signal]) -> Result<Box<dyn Measurer>, MeasureError>;

/// An error of a measurer, which ends a run: it says nothing about the pairs.
pub type MeasureError = Box<dyn Error + Send + Sync>;

/// A group with its measurer.
#[derive(Debug)]
pub struct LoadedGroup {
    group: &'static Group,
    measurer: Box<dyn Measurer>,
}

impl LoadedGroup {
    /// Returns the group.
    pub fn group(&self) -> &'static Group {
        self.group
    }

    /// Measures any number of pairs, batch by batch. Appends the values as [`Measurer::measure`].
    ///
    /// # Errors
    /// If the measurer fails or returns a wrong number of values, which is a bug in it.
    pub fn measure(&self, pairs: &[Sample<'_>], values: &mut Vec<Value>) -> Result<(), MeasureError> {
        for batch in pairs.chunks(self.group.batch) {
            let expected = values.len() + batch.len() * self.group.signals.len();
            self.measurer.measure(batch, values)?;
            if values.len() != expected {
                let (name, pairs, found) = (self.group.name, batch.len(), values.len());
                return Err(format!(
                    "the signals {name} of {pairs} pairs end at value {found} instead of {expected}; this is a bug"
                )
                .into());
            }
        }
        Ok(())
    }
}

/// The measurer of groups without a model.
#[derive(Debug)]
struct Functions(Vec<fn(&Sample<'_>) -> Value>);

impl Measurer for Functions {
    fn measure(&self, pairs: &[Sample<'_>], values: &mut Vec<Value>) -> Result<(), MeasureError> {
        for pair in pairs {
            values.extend(self.0.iter().map(|function| function(pair)));
        }
        Ok(())
    }
}

/// Returns a measurer that calls the function of each signal.
fn functions(signals: &'static [Signal]) -> Result<Box<dyn Measurer>, MeasureError> {
    let function = |signal: &Signal| {
        signal.function.ok_or_else(|| format!("signal {} has no function; this is a bug", signal.name))
    };
    Ok(Box::new(Functions(signals.iter().map(function).collect::<Result<_, _>>()?)))
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
    /// The function that measures a pair; [`Value::Missing`] if the pair lacks what the signal
    /// needs. A signal of a model has none: only the measurer of its group measures it.
    pub function: Option<fn(&Sample<'_>) -> Value>,
}

impl Signal {
    /// Measures a pair with the function of the signal; `None` if it has none.
    pub fn measure(&self, pair: &Sample<'_>) -> Option<Value> {
        self.function.map(|function| function(pair))
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

#[cfg(test)]
pub(crate) mod tests;
