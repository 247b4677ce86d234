//! Known answers: pairs of arms for which the better one is known, to test verdicts.
//!
//! A draw of a case first splits clean pairs into held-out pairs and training pairs. The other arm
//! is made from the training pairs only, so held-out pairs are always clean and no arm has seen
//! them. The seed of a draw determines all its choices: the held-out pairs, the halves, which
//! captions are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::features::{FEATURES, SIDE, features};
use crate::matrix::Matrix;
use crate::outcome::{self, CheckOutcome, Verdict};
use crate::random::hash;
use crate::split::{Split, SplitConfig, split};
use crate::universe::{Pair, Turn, Universe};
use crate::world::drawings;

/// Fraction of the clusters that is held out: the default of `check.held_out_fraction`.
pub const HELD_OUT_FRACTION: f64 = 0.2;

/// The margin of equivalence: the default of `check.margin_percent`.
pub const MARGIN_PERCENT: f64 = 10.0;

/// The probability of a false winner: the default of `check.alpha`.
pub const ALPHA: f64 = 0.05;

/// Radius of the box of the blur in pixels: an eighth of the side.
pub const BLUR_RADIUS: usize = 8;

/// Texts that replace captions in the cases of boilerplate.
pub const STOCK_SENTENCES: [&str; 3] =
    ["Image may be subject to copyright.", "Click to enlarge the picture.", "Free shipping on all orders over $50!"];

/// Text after every caption in the case of filler: 13 words that occur in no caption of the
/// rendered world.
pub const FILLER: &str = "Visit our website today: daily updated prices, free shipping, easy returns, speedy delivery.";

/// A clean pair that cases are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePair {
    /// A unique key.
    pub uid: String,
    /// RGB, row by row, [`SIDE`] × [`SIDE`] pixels.
    pub pixels: Vec<u8>,
    /// Caption of the image.
    pub caption: String,
    /// The cluster of near-duplicates of the image.
    pub cluster: String,
    /// The caption in another language.
    pub translation: Option<String>,
    /// The content of the caption in the same sentence pattern for all pairs.
    pub one_wording: Option<String>,
}

/// Clean pairs with the features of their images.
#[derive(Debug)]
pub struct Base {
    pairs: Vec<BasePair>,
    features: Matrix,
    /// Features of the blurred images, computed when a case needs them.
    blurred: OnceLock<Matrix>,
}

impl Base {
    /// Computes the features of all images, on all threads of rayon's pool.
    ///
    /// # Panics
    ///
    /// If the size of an image is not [`SIDE`] × [`SIDE`].
    pub fn new(pairs: Vec<BasePair>) -> Base {
        let features = features_of(&pairs, features);
        Base { pairs, features, blurred: OnceLock::new() }
    }

    /// Draws pairs of the rendered world.
    pub fn rendered(count: usize, seed: u64) -> Base {
        let pair = |(number, drawing): (usize, crate::world::Drawing)| BasePair {
            uid: format!("drawing {number}"),
            pixels: drawing.pixels,
            caption: drawing.caption,
            cluster: format!("drawing {number}"),
            translation: Some(drawing.translation),
            one_wording: Some(drawing.one_wording),
        };
        Base::new(drawings(count, seed).into_iter().enumerate().map(pair).collect())
    }

    /// Returns the pairs.
    pub fn pairs(&self) -> &[BasePair] {
        &self.pairs
    }

    fn blurred(&self) -> &Matrix {
        self.blurred.get_or_init(|| features_of(&self.pairs, |pixels| features(&blur(pixels))))
    }
}

fn features_of(pairs: &[BasePair], of: impl Fn(&[u8]) -> Vec<f32> + Sync) -> Matrix {
    let rows: Vec<Vec<f32>> = pairs.par_iter().map(|pair| of(&pair.pixels)).collect();
    Matrix::from_rows(FEATURES, rows.concat())
}

/// The truth about the two arms of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Neither arm is better; a check may find them equivalent or be inconclusive.
    NoWinner,
    /// The arms are the same data.
    Equivalent,
    /// The first arm is better.
    FirstBetter,
    /// The second arm is better.
    SecondBetter,
    /// The first arm is as good as the second or better.
    FirstNotWorse,
}

/// The change of clean training pairs that makes the other arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pairs are split into two halves, one for each arm.
    Halves,
    /// All pairs are repeated.
    Repeated {
        /// Number of repeats.
        times: usize,
    },
    /// Captions are exchanged with those of other clusters.
    WrongCaptions {
        /// Share in percent.
        percent: usize,
    },
    /// Captions are translated. Both arms have only images whose caption has a translation.
    OtherLanguage {
        /// Share in percent.
        percent: usize,
    },
    /// One of [`STOCK_SENTENCES`] replaces the caption.
    Boilerplate {
        /// Share in percent.
        percent: usize,
    },
    /// Pairs are replaced by repeats of the others; the arm keeps its size.
    Duplicates {
        /// Repeated pairs in percent.
        percent: usize,
    },
    /// Some of the pairs are missing.
    Fewer {
        /// Share that remains, in percent.
        percent: usize,
    },
    /// Images are blurred by a box of [`BLUR_RADIUS`].
    Blurred,
    /// All captions have the same sentence pattern.
    OneWording,
    /// Captions end after half of their words.
    Shortened,
    /// [`FILLER`] is appended to every caption.
    Filler,
}

/// Two arms with a known answer: clean pairs and changed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name in reports.
    pub name: &'static str,
    /// The truth.
    pub expected: Expected,
    /// The change that makes the other arm.
    pub change: Change,
    /// Whether the changed arm is the first one, so that a bias towards one position would show.
    pub changed_first: bool,
}

const fn case(name: &'static str, expected: Expected, change: Change) -> Case {
    Case { name, expected, change, changed_first: matches!(expected, Expected::SecondBetter) }
}

const CASES: [Case; 22] = {
    use Change::{
        Blurred, Boilerplate, Duplicates, Fewer, Filler, Halves, OneWording, OtherLanguage, Repeated, Shortened,
        WrongCaptions,
    };
    use Expected::{Equivalent, FirstBetter, FirstNotWorse, NoWinner, SecondBetter};
    [
        case("halves", NoWinner, Halves),
        case("repeated_2", Equivalent, Repeated { times: 2 }),
        case("repeated_4", Equivalent, Repeated { times: 4 }),
        case("wrong_captions_5", FirstBetter, WrongCaptions { percent: 5 }),
        case("wrong_captions_10", FirstBetter, WrongCaptions { percent: 10 }),
        case("wrong_captions_20", FirstBetter, WrongCaptions { percent: 20 }),
        case("wrong_captions_30", FirstBetter, WrongCaptions { percent: 30 }),
        case("wrong_captions_100", FirstBetter, WrongCaptions { percent: 100 }),
        case("wrong_captions_20_first", SecondBetter, WrongCaptions { percent: 20 }),
        case("other_language_30", FirstBetter, OtherLanguage { percent: 30 }),
        case("other_language_100", FirstBetter, OtherLanguage { percent: 100 }),
        case("boilerplate_30", FirstBetter, Boilerplate { percent: 30 }),
        case("boilerplate_100", FirstBetter, Boilerplate { percent: 100 }),
        case("duplicates_50", FirstBetter, Duplicates { percent: 50 }),
        case("duplicates_90", FirstBetter, Duplicates { percent: 90 }),
        case("half", FirstBetter, Fewer { percent: 50 }),
        case("quarter", FirstBetter, Fewer { percent: 25 }),
        case("half_first", SecondBetter, Fewer { percent: 50 }),
        case("blurred", FirstNotWorse, Blurred),
        case("one_wording", FirstNotWorse, OneWording),
        case("shortened", FirstNotWorse, Shortened),
        case("filler", FirstNotWorse, Filler),
    ]
};

/// Returns all cases.
pub fn cases() -> &'static [Case] {
    &CASES
}

/// A pair of an arm: an image of the base with a text.
struct Member {
    base: usize,
    text: String,
    is_blurred: bool,
}

/// Makes a draw of a case; `None` if the base has too few pairs for it, or no translations.
pub fn build(case: &Case, base: &Base, seed: u64) -> Option<(Universe, Split)> {
    let pairs = &base.pairs;
    let (held_out, mut training) = clean(base, seed);
    training.retain(|number| match case.change {
        Change::OtherLanguage { .. } => pairs[*number].translation.is_some(),
        Change::OneWording => pairs[*number].one_wording.is_some(),
        _ => true,
    });
    while training.len() >= outcome::FEWEST_PAIRS {
        let (clean, changed) = arms(case.change, pairs, &training, seed);
        let universe = universe(case, base, &held_out, clean, changed);
        let config = SplitConfig { seed, fraction: HELD_OUT_FRACTION, most: usize::MAX, most_pairs: usize::MAX };
        let parted = split(&universe, &config);
        // New texts may equal held-out ones. Their images are removed from both arms, so that the
        // arms differ only by the change.
        let trained: BTreeSet<u32> = parted.arms.iter().flatten().copied().collect();
        let overlapping: BTreeSet<usize> = (0..universe.pairs.len() as u32)
            .filter(|pair| universe.pairs[*pair as usize].arms != 0 && !trained.contains(pair))
            .map(|pair| universe.pairs[pair as usize].picture as usize % pairs.len())
            .collect();
        if overlapping.is_empty() {
            return Some((universe, parted));
        }
        training.retain(|number| !overlapping.contains(number));
    }
    None
}

/// Splits the base into held-out and training pairs that share no cluster and no text.
fn clean(base: &Base, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let pair = |(number, pair): (usize, &BasePair)| Pair {
        uid: pair.uid.clone(),
        picture: number as u32,
        turns: vec![Turn::caption(&pair.caption)],
        arms: 1,
        may_be_held_out: true,
    };
    let universe = Universe {
        arms: vec!["clean".to_owned()],
        features: Matrix::zeros(base.pairs.len(), 1),
        clusters: base.pairs.iter().map(|pair| pair.cluster.clone()).collect(),
        pairs: base.pairs.iter().enumerate().map(pair).collect(),
        has_evaluation_set: false,
    };
    let config = SplitConfig { seed, fraction: HELD_OUT_FRACTION, most: usize::MAX, most_pairs: usize::MAX };
    let parted = split(&universe, &config);
    let held_out = parted.held_out.iter().map(|held| held.pair as usize).collect();
    (held_out, parted.arms[0].iter().map(|pair| *pair as usize).collect())
}

/// Makes the clean arm and the changed one.
fn arms(change: Change, pairs: &[BasePair], training: &[usize], seed: u64) -> (Vec<Member>, Vec<Member>) {
    let member = |base: usize| Member { base, text: pairs[base].caption.clone(), is_blurred: false };
    let plain = |numbers: &[usize]| numbers.iter().copied().map(member).collect::<Vec<Member>>();
    let order = shuffled(pairs, training, seed, "known");
    let share = |percent: usize| (training.len() * percent).div_ceil(100);
    let mut texts: BTreeMap<usize, String> = BTreeMap::new();
    match change {
        Change::Halves => {
            let (first, second) = halves(pairs, training, seed);
            return (plain(&first), plain(&second));
        }
        Change::Repeated { times } => {
            let repeated = (0..times).flat_map(|_| plain(training)).collect();
            return (plain(training), repeated);
        }
        Change::Duplicates { percent } => {
            let kept = &order[..training.len() - training.len() * percent / 100];
            let repeated = kept.iter().copied().cycle().take(training.len()).map(member).collect();
            return (plain(training), repeated);
        }
        Change::Fewer { percent } => return (plain(training), plain(&order[..share(percent)])),
        Change::Blurred => {
            let blurred = training.iter().map(|base| Member { is_blurred: true, ..member(*base) }).collect();
            return (plain(training), blurred);
        }
        Change::WrongCaptions { percent } => {
            let wrong = &order[..share(percent)];
            let sources = rotated(pairs, wrong);
            texts.extend(wrong.iter().zip(sources).map(|(base, source)| (*base, pairs[source].caption.clone())));
        }
        Change::OtherLanguage { percent } => {
            let translated = |base: &usize| Some((*base, pairs[*base].translation.clone()?));
            texts.extend(order[..share(percent)].iter().filter_map(translated));
        }
        Change::Boilerplate { percent } => {
            let sentences = STOCK_SENTENCES.iter().map(|sentence| (*sentence).to_owned()).cycle();
            texts.extend(order[..share(percent)].iter().copied().zip(sentences));
        }
        Change::Shortened => {
            texts.extend(training.iter().map(|base| (*base, first_half(&pairs[*base].caption))));
        }
        Change::Filler => {
            texts.extend(training.iter().map(|base| (*base, format!("{} {FILLER}", pairs[*base].caption))));
        }
        Change::OneWording => {
            texts.extend(training.iter().filter_map(|base| Some((*base, pairs[*base].one_wording.clone()?))));
        }
    }
    let changed = training.iter().map(|base| {
        let text = texts.remove(base).unwrap_or_else(|| pairs[*base].caption.clone());
        Member { base: *base, text, is_blurred: false }
    });
    let changed = changed.collect();
    (plain(training), changed)
}

/// Returns the first half of the words of a caption, the middle one included.
fn first_half(caption: &str) -> String {
    let words: Vec<&str> = caption.split_whitespace().collect();
    words[..words.len().div_ceil(2)].join(" ")
}

fn shuffled(pairs: &[BasePair], numbers: &[usize], seed: u64, purpose: &str) -> Vec<usize> {
    let seed = seed.to_string();
    let key = |number: &usize| hash([purpose, &seed, &pairs[*number].uid]);
    let mut order = numbers.to_vec();
    order.sort_by_cached_key(|number| (key(number), *number));
    order
}

/// Splits pairs into halves that share no cluster: the first half takes clusters in the order of
/// their hashes until it has half of the pairs.
fn halves(pairs: &[BasePair], training: &[usize], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let seed = seed.to_string();
    let mut order = training.to_vec();
    order.sort_by_cached_key(|number| {
        let BasePair { cluster, uid, .. } = &pairs[*number];
        (hash(["known halves", &seed, cluster]), cluster.clone(), uid.clone())
    });
    let cluster = |place: usize| &pairs[order[place]].cluster;
    let middle = (order.len() / 2..order.len()).find(|place| cluster(*place) != cluster(*place - 1));
    let second = order.split_off(middle.unwrap_or(order.len()));
    (order, second)
}

/// Chooses for every pair another pair whose caption it gets: of another cluster and with another
/// text, each used once.
///
/// If the pairs are too similar for that, some get a caption similar to their own.
fn rotated(pairs: &[BasePair], wrong: &[usize]) -> Vec<usize> {
    let mut sources: Vec<usize> = wrong.iter().copied().cycle().skip(1).take(wrong.len()).collect();
    let fits = |place: usize, source: usize| {
        let (own, other) = (&pairs[wrong[place]], &pairs[source]);
        own.cluster != other.cluster && own.caption != other.caption
    };
    for place in 0..wrong.len() {
        if fits(place, sources[place]) {
            continue;
        }
        let exchange = |other: &usize| fits(place, sources[*other]) && fits(*other, sources[place]);
        if let Some(other) = (0..wrong.len()).find(exchange) {
            sources.swap(place, other);
        }
    }
    sources
}

/// Makes the universe of two arms, which are measured on clean pairs of neither arm.
fn universe(case: &Case, base: &Base, held_out: &[usize], clean: Vec<Member>, changed: Vec<Member>) -> Universe {
    let is_blurred = case.change == Change::Blurred;
    let mut clusters: Vec<String> = base.pairs.iter().map(|pair| pair.cluster.clone()).collect();
    let mut rows = base.features.values().to_vec();
    if is_blurred {
        clusters.extend_from_within(..);
        rows.extend_from_slice(base.blurred().values());
    }
    let mut pairs: Vec<Pair> = held_out
        .iter()
        .map(|number| Pair {
            uid: base.pairs[*number].uid.clone(),
            picture: *number as u32,
            turns: vec![Turn::caption(&base.pairs[*number].caption)],
            arms: 0,
            may_be_held_out: true,
        })
        .collect();
    let changed_arm = usize::from(!case.changed_first);
    let arms = [(clean, 1 - changed_arm), (changed, changed_arm)];
    // A pair that both arms have is one pair; further copies are separate pairs.
    let mut places: BTreeMap<(u32, String, usize), usize> = BTreeMap::new();
    for (members, arm) in arms {
        let mut copies: BTreeMap<(u32, String), usize> = BTreeMap::new();
        for member in members {
            let picture = (member.base + if member.is_blurred { base.pairs.len() } else { 0 }) as u32;
            let copy = copies.entry((picture, member.text.clone())).or_default();
            let place = *places.entry((picture, member.text.clone(), *copy)).or_insert_with(|| {
                let original = &base.pairs[member.base];
                let is_changed = member.is_blurred || member.text != original.caption;
                let kind = if is_changed { " changed" } else { "" };
                pairs.push(Pair {
                    uid: format!("{}{kind} {copy}", original.uid),
                    picture,
                    turns: vec![Turn::caption(&member.text)],
                    arms: 0,
                    may_be_held_out: false,
                });
                pairs.len() - 1
            });
            *copy += 1;
            pairs[place].arms |= 1 << arm;
        }
    }
    let names = match case.change {
        Change::Halves => ["one half", "other half"],
        _ if case.changed_first => ["changed", "clean"],
        _ => ["clean", "changed"],
    };
    Universe {
        arms: names.map(str::to_owned).to_vec(),
        features: Matrix::from_rows(FEATURES, rows),
        clusters,
        pairs,
        has_evaluation_set: true,
    }
}

/// Blurs an image by a box; beyond the edge, the edge pixels are repeated.
fn blur(pixels: &[u8]) -> Vec<u8> {
    let along = |pixels: &[u8], step: usize, line: usize| {
        let mut out = vec![0; pixels.len()];
        for start in 0..SIDE {
            let value = |at: usize, colour: usize| u32::from(pixels[3 * (start * line + at * step) + colour]);
            for (at, colour) in (0..SIDE).flat_map(|at| (0..3).map(move |colour| (at, colour))) {
                let sum: u32 = (at..=at + 2 * BLUR_RADIUS)
                    .map(|place| value(place.saturating_sub(BLUR_RADIUS).min(SIDE - 1), colour))
                    .sum();
                out[3 * (start * line + at * step) + colour] = (sum / (2 * BLUR_RADIUS as u32 + 1)) as u8;
            }
        }
        out
    };
    along(&along(pixels, 1, SIDE), SIDE, 1)
}

/// The draws to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws {
    /// Seed of the first draw of every case; the next draw has the next seed.
    pub seed: u64,
    /// Draws of the case of halves, which shows how often a winner is named although there is none.
    pub of_halves: usize,
    /// Draws of every other case.
    pub of_others: usize,
}

/// The outcomes of the draws of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Name of the case.
    pub case: String,
    /// The truth.
    pub expected: Expected,
    /// Checks that were made; 0 if the base lacks what the case needs.
    pub draws: usize,
    /// Checks that named the first arm.
    pub a: usize,
    /// Checks that named the second arm.
    pub b: usize,
    /// Checks that found the arms equivalent.
    pub equivalent: usize,
    /// Inconclusive checks.
    pub inconclusive: usize,
    /// Checks in which the two settings contradicted each other.
    pub learning_rate_dependent: usize,
    /// Checks that gave no answer because a gate failed.
    pub invalid: usize,
    /// The gates that failed first, and how often.
    pub failed_gates: BTreeMap<String, usize>,
    /// Checks whose outcome agrees with the truth. For [`Expected::NoWinner`] and
    /// [`Expected::FirstNotWorse`], these are all answers that do not contradict it. If fewer
    /// captions are wrong than the margin of equivalence, both the clean arm and "equivalent" are
    /// right: the arms differ, but by less than the margin.
    pub as_expected: usize,
    /// Checks that named a winner against the truth.
    pub wrong_direction: usize,
    /// Mean of the differences in units of their standard errors, above 0 if the first arm was
    /// better; absent if nothing was measured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mean_difference_in_errors: Option<f64>,
    /// Standard deviation of these differences in the same units; absent below two draws. If the
    /// arms are halves and the standard errors are right, it is near that of Student's t: 1.1 for
    /// 12 replicates.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deviation_in_errors: Option<f64>,
}

/// Counts the outcomes of the draws of a case.
pub fn tally(case: &Case, outcomes: &[CheckOutcome]) -> Tally {
    let mut tally = Tally {
        case: case.name.to_owned(),
        expected: case.expected,
        draws: outcomes.len(),
        a: 0,
        b: 0,
        equivalent: 0,
        inconclusive: 0,
        learning_rate_dependent: 0,
        invalid: 0,
        failed_gates: BTreeMap::new(),
        as_expected: 0,
        wrong_direction: 0,
        mean_difference_in_errors: None,
        deviation_in_errors: None,
    };
    for outcome in outcomes {
        match &outcome.first().verdict {
            Verdict::A { .. } => tally.a += 1,
            Verdict::B { .. } => tally.b += 1,
            Verdict::Equivalent => tally.equivalent += 1,
            Verdict::Inconclusive { .. } => tally.inconclusive += 1,
            Verdict::LearningRateDependent => tally.learning_rate_dependent += 1,
            Verdict::Invalid { gate, .. } => {
                tally.invalid += 1;
                *tally.failed_gates.entry(gate.clone()).or_default() += 1;
            }
        }
    }
    (tally.as_expected, tally.wrong_direction) = match case.expected {
        Expected::NoWinner => (tally.equivalent + tally.inconclusive, tally.a + tally.b),
        Expected::Equivalent => (tally.equivalent, tally.a + tally.b),
        Expected::FirstBetter => (tally.a + within_margin(case, outcomes), tally.b),
        Expected::SecondBetter => (tally.b + within_margin(case, outcomes), tally.a),
        Expected::FirstNotWorse => (tally.a + tally.equivalent + tally.inconclusive, tally.b),
    };
    let errors: Vec<f64> = outcomes.iter().filter_map(difference_in_errors).collect();
    if !errors.is_empty() {
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        let squares: f64 = errors.iter().map(|error| (error - mean).powi(2)).sum();
        tally.mean_difference_in_errors = Some(mean);
        tally.deviation_in_errors = (errors.len() >= 2).then(|| (squares / (errors.len() - 1) as f64).sqrt());
    }
    tally
}

/// Counts the checks that rightly called arms equivalent although one is better: those whose margin
/// is above the share of wrong captions.
fn within_margin(case: &Case, outcomes: &[CheckOutcome]) -> usize {
    let Change::WrongCaptions { percent } = case.change else { return 0 };
    let is_right = |outcome: &&CheckOutcome| {
        outcome.first().verdict == Verdict::Equivalent && (percent as f64) < outcome.protocol.margin_percent
    };
    outcomes.iter().filter(is_right).count()
}

/// Returns by how many standard errors the first arm is better than the second; 0 if they are the
/// same in every replicate.
fn difference_in_errors(outcome: &CheckOutcome) -> Option<f64> {
    let difference = outcome.first().difference.as_ref()?;
    let error = difference.standard_error?;
    let better = if outcome.protocol.metric.higher_is_better { difference.mean } else { -difference.mean };
    (error > 0.0 || better == 0.0).then(|| if error > 0.0 { better / error } else { 0.0 })
}

/// Makes all draws of the cases and counts the outcomes.
///
/// `check` receives the arms, the split pairs and the seed of a draw. It is called on all threads
/// of rayon's pool at once. The tallies are in the order of the cases.
///
/// # Errors
///
/// The first error of `check`.
pub fn run<E: Send>(
    base: &Base,
    cases: &[Case],
    draws: &Draws,
    check: &(dyn Fn(&Universe, &Split, u64) -> Result<CheckOutcome, E> + Sync),
) -> Result<Vec<Tally>, E> {
    let of_case = |case: &Case| if case.change == Change::Halves { draws.of_halves } else { draws.of_others };
    let all: Vec<(usize, u64)> = cases
        .iter()
        .enumerate()
        .flat_map(|(place, case)| (0..of_case(case) as u64).map(move |draw| (place, draws.seed + draw)))
        .collect();
    let mut outcomes: Vec<Vec<CheckOutcome>> = vec![Vec::new(); cases.len()];
    // Chunk by chunk: otherwise a thread that waits inside a check would start further ones, and
    // all of them would be in memory.
    for chunk in all.chunks(rayon::current_num_threads()) {
        let made = chunk.par_iter().map(|(place, seed)| {
            let Some((universe, parted)) = build(&cases[*place], base, *seed) else { return Ok(None) };
            Ok(Some((*place, check(&universe, &parted, *seed)?)))
        });
        for (place, outcome) in made.collect::<Result<Vec<_>, E>>()?.into_iter().flatten() {
            outcomes[place].push(outcome);
        }
    }
    Ok(cases.iter().zip(outcomes).map(|(case, outcomes)| tally(case, &outcomes)).collect())
}

#[cfg(test)]
mod tests;
