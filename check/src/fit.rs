//! Fits: a version of an arm, in a replicate, at a setting, and its measurements on the held-out
//! pairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gear::Seen;
use crate::metrics::{METRICS, Measure, Metric, measures};
use crate::random::hash;
use crate::resample::{Drawn, weight};
use crate::split::Split;
use crate::universe::{Turn, Universe};
use crate::values::Values;

/// A version of the data: an unchanged arm, or a control made from an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "data", deny_unknown_fields)]
pub enum Version {
    /// An arm.
    Arm {
        /// Its place among the arms.
        arm: usize,
    },
    /// An arm in which some of the texts are on wrong images: the positive control.
    WrongTexts {
        /// Its place among the arms.
        arm: usize,
        /// Wrong texts in percent.
        percent: u32,
    },
    /// A random half of an arm: the two halves are the null control.
    Half {
        /// Its place among the arms.
        arm: usize,
        /// Whether it is the second half.
        second: bool,
    },
}

impl Version {
    /// Returns the arm that it is made from.
    pub fn arm(self) -> usize {
        match self {
            Version::Arm { arm } | Version::WrongTexts { arm, .. } | Version::Half { arm, .. } => arm,
        }
    }
}

/// One fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    /// The version that it learns from.
    pub version: Version,
    /// The replicate, from 0. It determines the weights of pairs and the seed.
    pub replicate: usize,
    /// Number of the setting, a learning rate or a penalty. Setting 0 decides, setting 1 must not
    /// contradict it.
    pub setting: usize,
}

/// A pair of a version: an image, a text, and the number of times that it occurs in the replicate.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// Row of the image in [`Universe::features`].
    pub picture: u32,
    /// Index in [`Universe::pairs`] of the pair whose text it has. In a control, this may be
    /// another pair than that of the image.
    pub text: u32,
    /// Its weight in the replicate; may be 0.
    pub copies: u32,
}

/// The measurement on one held-out pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What is measured for the metrics, each times `size`.
    #[serde(flatten, serialize_with = "write_of_pair", deserialize_with = "read_of_pair")]
    pub values: Values<Measure, f64>,
    /// Weight in averages: bytes of the text for a language model, 1 for the probe.
    pub size: f64,
}

impl Measured {
    /// Measures the metrics of a list that the gear has.
    pub fn new(metrics: &[&'static Metric], seen: &Seen, size: f64) -> Measured {
        let of_pair = |measure: &'static Measure| Some((measure, (measure.of_pair)(seen)?));
        Measured { values: measures(metrics).filter_map(of_pair).collect(), size }
    }
}

fn write_of_pair<S: Serializer>(values: &Values<Measure, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    values.write(|measure| measure.pair_key, serializer)
}

fn read_of_pair<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values<Measure, f64>, D::Error> {
    Values::read(measures(METRICS), |measure| measure.pair_key, number, deserializer)
}

/// Returns NaN for `null`. JSON has no NaN and is written with `null` instead; a gate then reports
/// the training that diverged.
pub(crate) fn number(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}

/// The result of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitResult {
    /// The fit.
    pub fit: Fit,
    /// One entry per held-out pair, in their order.
    pub measured: Vec<Measured>,
    /// The metrics over the held-out pairs that count, each pair with its weight in the replicate.
    #[serde(flatten, serialize_with = "write_of_fit", deserialize_with = "read_of_fit")]
    pub values: Values<Metric, f64>,
    /// Pairs of the version.
    pub pairs: usize,
    /// Pairs with a weight above 0 in the replicate.
    pub pairs_drawn: usize,
    /// Its training, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub training: Option<Training>,
}

impl FitResult {
    /// Makes a result with the metrics of a list that its measurements have.
    pub fn new(
        fit: Fit,
        split: &Split,
        seed: u64,
        metrics: &[&'static Metric],
        measured: Vec<Measured>,
        examples: &[Example],
        training: Option<Training>,
    ) -> FitResult {
        let weights = held_out_weights(split, seed, fit.replicate);
        let counted = || split.held_out.iter().zip(&weights).zip(&measured).filter(|((held, _), _)| held.counts);
        let size: f64 = counted().map(|((_, weight), measured)| weight * measured.size).sum();
        let of_fit = |metric: &&'static Metric| {
            let of_pairs =
                counted().map(|((_, weight), measured)| Some(weight * measured.values.get(&metric.measure)?));
            let sum = of_pairs.sum::<Option<f64>>()?;
            Some((*metric, if size > 0.0 { sum / size } else { 0.0 }))
        };
        let values = metrics.iter().filter_map(of_fit).collect();
        let pairs_drawn = examples.iter().filter(|example| example.copies > 0).count();
        FitResult { fit, measured, values, pairs: examples.len(), pairs_drawn, training }
    }
}

fn write_of_fit<S: Serializer>(values: &Values<Metric, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    values.write(|metric| metric.measure.name, serializer)
}

fn read_of_fit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values<Metric, f64>, D::Error> {
    Values::read(METRICS.iter().copied(), |metric| metric.measure.name, number, deserializer)
}

/// Returns the seed of the weights and the order of a model of a replicate: the same for all
/// versions. It has 53 bits, which every JSON reader preserves.
pub fn training_seed(seed: u64, replicate: usize, member: usize) -> u64 {
    hash(["training", &seed.to_string(), &replicate.to_string(), &member.to_string()]) >> 11
}

/// The training of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Seeds of weights and order, one per model whose measurements were averaged.
    pub seeds: Vec<u64>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Tokens that the loss counted, repeats included.
    pub loss_tokens: usize,
    /// Mean number of times that a drawn pair was trained on.
    pub epochs: f64,
    /// Weights of the model.
    pub weights: usize,
    /// Steps and mean training loss since the previous point, in nats per token, up to the last
    /// that is a number.
    pub losses: Vec<(usize, f64)>,
    /// Bits per byte if all tokens were equally likely.
    pub uniform_bits_per_byte: f64,
}

/// Returns the pairs of a version in a replicate.
pub fn examples(universe: &Universe, split: &Split, seed: u64, fit: &Fit) -> Vec<Example> {
    let members: Vec<u32> = match fit.version {
        Version::Arm { arm } | Version::WrongTexts { arm, .. } => split.arms[arm].clone(),
        Version::Half { arm, second } => {
            let mut order = hashed(universe, &split.arms[arm], seed, "half");
            let rest = order.split_off(order.len() / 2);
            if second { rest } else { order }
        }
    };
    let mut text_of: Vec<u32> = members.clone();
    if let Version::WrongTexts { percent, .. } = fit.version {
        exchange_texts(universe, seed, fit.replicate, percent, &members, &mut text_of);
    }
    let example = |(pair, text): (&u32, &u32)| Example {
        picture: universe.pairs[*pair as usize].picture,
        text: *text,
        copies: weight(seed, fit.replicate, Drawn::Training, universe.cluster(*pair)),
    };
    members.iter().zip(&text_of).map(example).collect()
}

/// Exchanges some of the texts, so that they are on wrong images. Every replicate draws other
/// texts, so that the curve does not depend on one choice. Repeats of a pair get the same text,
/// because correct copies would hide the wrong ones.
fn exchange_texts(
    universe: &Universe,
    seed: u64,
    replicate: usize,
    percent: u32,
    members: &[u32],
    text_of: &mut [u32],
) {
    let mut repeats: BTreeMap<(&str, &[Turn]), Vec<usize>> = BTreeMap::new();
    for (place, pair) in members.iter().enumerate() {
        repeats.entry((universe.cluster(*pair), &universe.pairs[*pair as usize].turns)).or_default().push(place);
    }
    let repeats: Vec<Vec<usize>> = repeats.into_values().collect();
    let numbers: Vec<u32> = (0..repeats.len() as u32).collect();
    let uid = |number: &u32| universe.pairs[members[repeats[*number as usize][0]] as usize].uid.as_str();
    let order = hashed_by(&numbers, uid, seed, &format!("wrong texts {replicate}"));
    let wrong = &order[..(order.len() * percent as usize).div_ceil(100)];
    for (number, next) in wrong.iter().zip(wrong.iter().cycle().skip(1)) {
        let text = members[repeats[*next as usize][0]];
        for place in &repeats[*number as usize] {
            text_of[*place] = text;
        }
    }
}

/// Returns the weights of the held-out pairs in a replicate.
pub fn held_out_weights(split: &Split, seed: u64, replicate: usize) -> Vec<f64> {
    let held_out = split.held_out.iter();
    held_out.map(|held| f64::from(weight(seed, replicate, Drawn::HeldOut, &held.cluster))).collect()
}

fn hashed(universe: &Universe, pairs: &[u32], seed: u64, purpose: &str) -> Vec<u32> {
    hashed_by(pairs, |pair| &universe.pairs[*pair as usize].uid, seed, purpose)
}

fn hashed_by<'a>(places: &[u32], uid: impl Fn(&u32) -> &'a str, seed: u64, purpose: &str) -> Vec<u32> {
    let seed = seed.to_string();
    let mut order: Vec<(u64, u32)> = places.iter().map(|place| (hash([purpose, &seed, uid(place)]), *place)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, place)| place).collect()
}
