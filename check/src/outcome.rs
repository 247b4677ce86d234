//! Turns measurements into a verdict: gates, controls, comparisons, and their sentences.

mod gates;
mod words;

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fit::{Fit, FitResult, Measured, Version, held_out_weights, number};
use crate::gear::Gear;
use crate::metrics::{METRICS, Measure, Metric, OfArm, VISUAL_GAIN, measures};
use crate::split::{FEWEST_OF_AN_ORIGIN, HeldOut, LeftOut, Split};
use crate::statistics::{Adjusted, Difference, alpha_at, difference, holm};
use crate::universe::Universe;
use crate::values::Values;

/// The settings that are fixed before anything is fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The gear.
    pub gear: Gear,
    /// The metric that decides, by its question.
    #[serde(rename = "question")]
    pub metric: &'static Metric,
    /// The seed, which determines held-out pairs, weights, wrong texts and training seeds.
    pub seed: u64,
    /// Number of replicates.
    pub replicates: usize,
    /// Numbers of replicates after which the verdict is read. The probability of error is divided
    /// among them.
    pub looks: Vec<usize>,
    /// Probability of naming a winner although there is none.
    pub alpha: f64,
    /// Arms that differ by less than this many percent of wrong texts do are equivalent.
    pub margin_percent: f64,
    /// Minimum number of different pairs of an arm.
    pub fewest_pairs: usize,
    /// Minimum number of held-out pairs that count.
    pub fewest_held_out: usize,
}

/// The default of [`Protocol::fewest_pairs`]. With 5 and with 13 pairs against 1,500, an earlier
/// version of the check called the small arm better; 100 is a round number well above them.
pub const FEWEST_PAIRS: usize = 100;

/// The default of [`Protocol::fewest_held_out`].
pub const FEWEST_HELD_OUT: usize = 50;

impl Protocol {
    /// Returns the part of α that this look may spend.
    fn alpha_of_look(&self) -> f64 {
        alpha_at(&self.looks, self.replicates, self.alpha).unwrap_or(self.alpha)
    }
}

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", deny_unknown_fields)]
pub enum Verdict {
    /// The first of the two arms is better.
    A {
        /// Its name.
        arm: String,
    },
    /// The second of the two arms is better.
    B {
        /// Its name.
        arm: String,
    },
    /// The arms differ by less than the margin.
    Equivalent,
    /// The check cannot tell.
    Inconclusive {
        /// The reason why there is no winner.
        reason: String,
    },
    /// Another setting of the learner says the opposite.
    LearningRateDependent,
    /// The check does not answer the question.
    Invalid {
        /// The gate that failed.
        gate: String,
        /// The reason.
        reason: String,
    },
}

impl Verdict {
    /// Returns the verdict in one or two words, as in the JSON of the command.
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::A { .. } => "A",
            Verdict::B { .. } => "B",
            Verdict::Equivalent => "equivalent",
            Verdict::Inconclusive { .. } => "inconclusive",
            Verdict::LearningRateDependent => "learning-rate dependent",
            Verdict::Invalid { .. } => "invalid",
        }
    }

    /// Returns the arm that is better.
    pub fn winner(&self) -> Option<&str> {
        match self {
            Verdict::A { arm } | Verdict::B { arm } => Some(arm),
            _ => None,
        }
    }
}

/// A condition without which no verdict is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Name of the condition.
    pub name: String,
    /// Whether the condition holds.
    pub passed: bool,
    /// The finding, as a sentence.
    pub finding: String,
}

/// What was measured of an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmOutcome {
    /// Name of the arm.
    pub name: String,
    /// Pairs that are trained on.
    pub pairs: usize,
    /// Number of pairs that differ in image cluster or text.
    pub different_pairs: usize,
    /// Mean number of tokens that the loss counted in each run, repeats included; absent without
    /// training.
    pub loss_tokens: Option<f64>,
    /// Mean number of times that a drawn pair was trained on; absent without training.
    pub epochs: Option<f64>,
    /// What was measured for the metrics, one value per replicate; empty if the gear does not have
    /// it.
    #[serde(flatten, serialize_with = "write_of_arm", deserialize_with = "read_of_arm")]
    pub values: Values<Measure, Vec<f64>>,
}

impl ArmOutcome {
    /// Returns a metric of the arm.
    pub fn of(&self, metric: &Metric) -> OfArm<'_> {
        let values = |measure: &Measure| self.values.get(measure).map_or(&[][..], Vec::as_slice);
        OfArm {
            arm: &self.name,
            values: values(&metric.measure),
            baseline: metric.baseline.as_ref().map_or(&[], values),
            epochs: self.epochs,
        }
    }

    /// Returns the number of replicates that were measured.
    pub fn replicates(&self) -> usize {
        self.values.iter().map(Vec::len).max().unwrap_or(0)
    }
}

fn write_of_arm<S: Serializer>(values: &Values<Measure, Vec<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
    values.write(|measure| measure.name, serializer)
}

fn read_of_arm<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Values<Measure, Vec<f64>>, D::Error> {
    let numbers = |values: Vec<Option<f64>>| values.into_iter().map(number).collect();
    Values::read(measures(METRICS), |measure| measure.name, numbers, deserializer)
}

/// A positive control: an arm against itself with wrong texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongTexts {
    /// Texts on wrong images, percent.
    pub percent: u32,
    /// How much better the arm is than the same arm with wrong texts: above 0 if it is better, also
    /// for a metric of which less is better.
    pub fall: Difference,
    /// Whether the wrong texts were found, by the visual gain.
    pub found: bool,
}

/// The outcome of the controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controls {
    /// The arm that they are made from: the one with the largest visual gain.
    pub arm: String,
    /// One half of the arm against the other; they differ by chance only.
    pub halves: Option<Difference>,
    /// The arm against itself with wrong texts.
    pub wrong_texts: Vec<WrongTexts>,
}

/// The difference on held-out pairs of one origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The arms that have these pairs: `only clean`, `both`, …
    pub name: String,
    /// Held-out pairs of it.
    pub pairs: usize,
    /// Whether they count for the verdict.
    pub counts: bool,
    /// First arm minus second on them; absent if they are too few.
    pub difference: Option<Difference>,
}

/// Two arms compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Name of the first arm.
    pub first: String,
    /// Name of the second arm.
    pub second: String,
    /// The outcome.
    pub verdict: Verdict,
    /// The comparison, its outcome, the pairs that it was measured on, and what it does not say.
    pub sentence: String,
    /// First minus second in the metric that decides, at the level of its step in Holm's method:
    /// its interval excludes 0 exactly if `adjusted_p` is below the α of the look.
    pub difference: Option<Difference>,
    /// p after Holm's correction for several comparisons; absent if `difference` has no p or the
    /// arms cannot be compared.
    pub adjusted_p: Option<f64>,
    /// Number of comparisons that were tested, for which `adjusted_p` and the level of `difference`
    /// are adjusted; at least 1.
    pub adjusted_for: usize,
    /// The same at the other setting.
    pub other_setting: Option<Difference>,
    /// First minus second in the first of the other metrics, which do not affect the verdict.
    pub other_metric: Option<Difference>,
    /// The same in each of the others, in the order of the list.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub further_metrics: Vec<Option<Difference>>,
    /// The difference that counts as equivalent.
    pub margin: Option<f64>,
    /// The share of wrong texts, in percent, that would cause the same difference.
    pub caption_noise_equivalent: Option<CaptionNoise>,
    /// The difference by where the held-out pairs come from.
    pub origins: Vec<Origin>,
    /// All gates, failed ones first.
    pub gates: Vec<Gate>,
}

/// A share of wrong texts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptionNoise {
    /// The share in percent.
    pub percent: f64,
    /// Whether the difference is larger than that of the largest share that was measured.
    pub or_more: bool,
}

/// Everything that a report says about a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckOutcome {
    /// The settings that were fixed before.
    pub protocol: Protocol,
    /// The name of the metric that decides.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// All metrics; not written, because the values of the arms have their names.
    #[serde(skip, default = "all_metrics")]
    pub metrics: Vec<&'static Metric>,
    /// The outcome of each arm.
    pub arms: Vec<ArmOutcome>,
    /// Held-out pairs that count.
    pub held_out_pairs: usize,
    /// Pairs that were left out so that held-out pairs and arms share nothing.
    pub left_out: LeftOut,
    /// The controls.
    pub controls: Option<Controls>,
    /// Comparisons of every two arms; the first entry compares the first two.
    pub comparisons: Vec<Comparison>,
    /// Sentences that limit the outcome.
    pub notes: Vec<String>,
}

impl CheckOutcome {
    /// Returns the outcome of the first two arms.
    ///
    /// # Panics
    ///
    /// Never: a check has two arms or more.
    pub fn first(&self) -> &Comparison {
        self.comparisons.first().expect("a check has two arms or more")
    }

    /// Returns every metric that does not decide, with the difference of two arms in it.
    pub fn beside<'a>(
        &'a self,
        comparison: &'a Comparison,
    ) -> impl Iterator<Item = (&'static Metric, Option<&'a Difference>)> {
        let differences = std::iter::once(&comparison.other_metric).chain(&comparison.further_metrics);
        others(&self.metrics, self.protocol.metric).zip(differences.map(Option::as_ref))
    }
}

fn all_metrics() -> Vec<&'static Metric> {
    METRICS.to_vec()
}

/// Returns the metrics of a list that do not decide.
fn others(metrics: &[&'static Metric], decisive: &Metric) -> impl Iterator<Item = &'static Metric> {
    metrics.iter().copied().filter(move |metric| *metric != decisive)
}

/// Returns the fits of the arms, replicate by replicate, so that a check that is stopped early has
/// complete pairs of arms.
pub fn arm_fits(arms: &[usize], replicates: usize) -> Vec<Fit> {
    let fits = (0..replicates).flat_map(|replicate| {
        arms.iter().map(move |arm| Fit { version: Version::Arm { arm: *arm }, replicate, setting: 0 })
    });
    fits.collect()
}

/// Returns the fits that follow those of the arms: the controls, made from the arm with the largest
/// visual gain, and the arms at the other setting if some of them seem to differ. The other setting
/// can only withdraw a verdict. The list is empty if no arm was fitted.
pub fn follow_up_fits(protocol: &Protocol, results: &[FitResult]) -> Vec<Fit> {
    let mut of_arms: BTreeMap<usize, Vec<&FitResult>> = BTreeMap::new();
    for result in results {
        if let Version::Arm { arm } = result.fit.version {
            of_arms.entry(arm).or_default().push(result);
        }
    }
    let Some(leading) = leading_arm(&of_arms) else { return Vec::new() };
    let percents = protocol.gear.wrong_text_percents().iter();
    let wrong = percents.map(|percent| Version::WrongTexts { arm: leading, percent: *percent });
    let halves = [false, true].map(|second| Version::Half { arm: leading, second });
    let mut fits: Vec<(Version, usize)> = wrong.chain(halves).map(|version| (version, 0)).collect();
    if seem_to_differ(protocol, &of_arms) {
        fits.extend(of_arms.keys().map(|arm| (Version::Arm { arm: *arm }, 1)));
    }
    let replicate = |replicate: usize| {
        fits.iter().map(move |(version, setting)| Fit { version: *version, replicate, setting: *setting })
    };
    (0..protocol.replicates).flat_map(replicate).collect()
}

/// Returns whether two arms differ significantly at the first setting, before any correction.
fn seem_to_differ(protocol: &Protocol, of_arms: &BTreeMap<usize, Vec<&FitResult>>) -> bool {
    let values = |results: &Vec<&FitResult>| -> Vec<f64> {
        let mut results = results.clone();
        results.sort_by_key(|result| result.fit.replicate);
        results.into_iter().filter_map(|result| result.values.get(protocol.metric).copied()).collect()
    };
    let values: Vec<Vec<f64>> = of_arms.values().map(values).collect();
    let differ = |first: &Vec<f64>, second: &Vec<f64>| {
        compared(first, second, protocol.alpha_of_look()).is_some_and(|difference| difference.is_significant())
    };
    values.iter().enumerate().any(|(place, first)| values[place + 1..].iter().any(|second| differ(first, second)))
}

/// Returns the arm from which the controls are made: the one with the largest mean visual gain over
/// the replicates.
fn leading_arm(of_arms: &BTreeMap<usize, Vec<&FitResult>>) -> Option<usize> {
    let gain = |result: &&FitResult| result.values.get(&VISUAL_GAIN).copied().unwrap_or(f64::NAN);
    let mean = |results: &Vec<&FitResult>| results.iter().map(gain).sum::<f64>() / results.len() as f64;
    let means = of_arms.iter().map(|(arm, results)| (*arm, mean(results)));
    means.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|(arm, _)| arm)
}

/// Compares the values of two versions; `None` if their numbers differ or some are not finite,
/// which gates report.
fn compared(first: &[f64], second: &[f64], alpha: f64) -> Option<Difference> {
    let are_numbers = first.iter().chain(second).all(|value| value.is_finite());
    (first.len() == second.len() && !first.is_empty() && are_numbers).then(|| difference(first, second, alpha))
}

/// Makes all fits of a check, those of the arms and then the follow-up fits, on all threads of
/// rayon's pool, and judges them. Without the follow-up fits there are no controls; winners are
/// still named, but no arms are called equivalent.
///
/// # Errors
///
/// The first error of `fit`.
pub fn check<E: Send>(
    protocol: &Protocol,
    universe: &Universe,
    split: &Split,
    follows_up: bool,
    fit: &(dyn Fn(Fit) -> Result<FitResult, E> + Sync),
) -> Result<CheckOutcome, E> {
    let all = |fits: Vec<Fit>| fits.into_par_iter().map(fit).collect::<Result<Vec<_>, E>>();
    let different_pairs = different_pairs(universe, split);
    let arms = arms_to_fit(protocol, split, &different_pairs);
    let mut results = all(arm_fits(&arms, protocol.replicates))?;
    if follows_up {
        results.extend(all(follow_up_fits(protocol, &results))?);
    }
    Ok(judge(protocol, METRICS, &universe.arms, split, &different_pairs, &results))
}

/// Returns the arms to fit: those with enough pairs that can be compared with another such arm.
/// Returns none if there are too few held-out pairs; [`judge`] then reports what is missing.
pub fn arms_to_fit(protocol: &Protocol, split: &Split, different_pairs: &[usize]) -> Vec<usize> {
    let held_out = split.held_out.iter().filter(|held| held.counts).count();
    let enough = |arm: &usize| different_pairs[*arm] >= protocol.fewest_pairs;
    let large: Vec<usize> = (0..different_pairs.len()).filter(enough).collect();
    let is_compared =
        |arm: &usize| large.iter().any(|other| other != arm && gates::are_comparable(split, [*arm, *other]));
    let arms: Vec<usize> = large.iter().copied().filter(is_compared).collect();
    if arms.len() < 2 || held_out < protocol.fewest_held_out.max(2) { Vec::new() } else { arms }
}

/// Returns, for every arm, how many of its pairs differ in image cluster or text.
pub fn different_pairs(universe: &Universe, split: &Split) -> Vec<usize> {
    let of_arm = |arm: &Vec<u32>| {
        let keys = arm.iter().map(|pair| (universe.cluster(*pair), &universe.pairs[*pair as usize].turns));
        keys.collect::<HashSet<_>>().len()
    };
    split.arms.iter().map(of_arm).collect()
}

/// Results by version and setting, in the order of replicates.
struct Measurements<'a> {
    split: &'a Split,
    /// Weights of the held-out pairs, per replicate.
    weights: Vec<Vec<f64>>,
    results: BTreeMap<(Version, usize), Vec<&'a FitResult>>,
}

impl<'a> Measurements<'a> {
    fn new(protocol: &Protocol, split: &'a Split, results: &'a [FitResult]) -> Measurements<'a> {
        let mut by_version: BTreeMap<(Version, usize), Vec<&FitResult>> = BTreeMap::new();
        for result in results {
            by_version.entry((result.fit.version, result.fit.setting)).or_default().push(result);
        }
        for results in by_version.values_mut() {
            results.sort_by_key(|result| result.fit.replicate);
        }
        let weights = (0..protocol.replicates).map(|replicate| held_out_weights(split, protocol.seed, replicate));
        Measurements { split, weights: weights.collect(), results: by_version }
    }

    fn of(&self, version: Version, setting: usize) -> &[&'a FitResult] {
        self.results.get(&(version, setting)).map_or(&[], Vec::as_slice)
    }

    /// Returns the first fit that was not measured on the held-out pairs of the split, as far as
    /// their number tells.
    fn of_another_split(&self) -> Option<&'a FitResult> {
        self.results.values().flatten().copied().find(|result| result.measured.len() != self.split.held_out.len())
    }

    /// Returns a metric of every replicate on some of the held-out pairs; empty if the gear does
    /// not have the metric. Fits that were measured on another number of pairs have no values,
    /// because their measurements belong to other pairs.
    fn values(&self, version: Version, setting: usize, metric: &Metric, chosen: &dyn Fn(&HeldOut) -> bool) -> Vec<f64> {
        self.of_measure(version, setting, &metric.measure, chosen)
    }

    fn of_measure(
        &self,
        version: Version,
        setting: usize,
        measure: &Measure,
        chosen: &dyn Fn(&HeldOut) -> bool,
    ) -> Vec<f64> {
        let value = |measured: &Measured| measured.values.get(measure).copied();
        let of_result = |result: &&FitResult| {
            let weights = self.weights.get(result.fit.replicate)?;
            if result.measured.len() != weights.len() {
                return None;
            }
            let items = self.split.held_out.iter().zip(weights).zip(&result.measured);
            let (mut sum, mut size) = (0.0, 0.0);
            for ((_, weight), measured) in items.filter(|((held, _), _)| chosen(held)) {
                sum += weight * value(measured)?;
                size += weight * measured.size;
            }
            Some(if size > 0.0 { sum / size } else { 0.0 })
        };
        self.of(version, setting).iter().filter_map(of_result).collect()
    }
}

/// Judges the fits of the arms and of the controls. `metrics` are those that were measured.
///
/// `different_pairs` has for every arm how many of its pairs differ in image cluster or text.
pub fn judge(
    protocol: &Protocol,
    metrics: &[&'static Metric],
    names: &[String],
    split: &Split,
    different_pairs: &[usize],
    results: &[FitResult],
) -> CheckOutcome {
    let measurements = Measurements::new(protocol, split, results);
    let metric = protocol.metric;
    let alpha = protocol.alpha_of_look();
    let arms: Vec<ArmOutcome> = (0..names.len())
        .map(|arm| {
            let pairs = [split.arms[arm].len(), different_pairs[arm]];
            arm_outcome(&measurements, metrics, arm, &names[arm], pairs)
        })
        .collect();
    let controls = controls(&measurements, names, metric, protocol.alpha);
    let curve = controls.as_ref().map(|controls| curve(&controls.wrong_texts)).unwrap_or_default();
    let margin = fall_at(&curve, protocol.margin_percent).filter(|margin| *margin > 0.0);

    let pairs: Vec<(usize, usize)> =
        (0..names.len()).flat_map(|first| (first + 1..names.len()).map(move |second| (first, second))).collect();
    let arms_compared =
        |first: usize, second: usize, setting: usize, metric: &Metric, chosen: &dyn Fn(&HeldOut) -> bool| {
            let [a, b] = [first, second].map(|arm| measurements.values(Version::Arm { arm }, setting, metric, chosen));
            compared(&a, &b, alpha)
        };
    let counts = |held: &HeldOut| held.counts;
    let decisive: Vec<Option<Difference>> =
        pairs.iter().map(|(first, second)| arms_compared(*first, *second, 0, metric, &counts)).collect();
    // Arms that were not fitted or cannot be compared are not tested, so the other tests need no
    // adjustment for them.
    let p_of = |(first, second): (usize, usize), decisive: &Option<Difference>| {
        decisive.as_ref()?.p.filter(|_| gates::are_comparable(split, [first, second]))
    };
    let p: Vec<f64> = pairs.iter().zip(&decisive).filter_map(|(pair, decisive)| p_of(*pair, decisive)).collect();
    let adjusted_for = p.len().max(1);
    let mut tested = holm(&p, alpha).into_iter();

    let comparisons = pairs.iter().zip(decisive).map(|(&(first, second), decisive)| {
        let adjusted = p_of((first, second), &decisive).and_then(|_| tested.next());
        let adjusted_p = adjusted.map(|Adjusted { p, .. }| p);
        let decisive = match adjusted {
            Some(Adjusted { alpha, .. }) => decisive.map(|difference| difference.at(alpha)),
            None => decisive,
        };
        let origins = origins(split, names, first, second, &|chosen| arms_compared(first, second, 0, metric, chosen));
        let other_setting = arms_compared(first, second, 1, metric, &counts);
        let gates = gates::gates(&gates::Facts {
            protocol,
            metrics,
            split,
            arms: [&arms[first], &arms[second]],
            places: [first, second],
            names,
            measurements: &measurements,
            controls: controls.as_ref(),
            significant: adjusted_p.is_some_and(|p| p < alpha),
        });
        let verdict = decide(&Decision {
            names: [&names[first], &names[second]],
            metric,
            alpha,
            comparisons: adjusted_for,
            gates: &gates,
            difference: decisive.as_ref(),
            adjusted_p,
            other_setting: other_setting.as_ref(),
            origins: &origins,
            margin,
            level: [first, second]
                .into_iter()
                .flat_map(|arm| measurements.values(Version::Arm { arm }, 0, metric, &counts))
                .fold(0.0, |level, value| value.abs().max(level)),
        });
        let mut beside = others(metrics, metric).map(|other| arms_compared(first, second, 0, other, &counts));
        let mut comparison = Comparison {
            first: names[first].clone(),
            second: names[second].clone(),
            verdict,
            sentence: String::new(),
            caption_noise_equivalent: decisive.as_ref().and_then(|d| percent_of(&curve, d.mean.abs())),
            difference: decisive,
            adjusted_p,
            adjusted_for,
            other_setting,
            other_metric: beside.next().flatten(),
            further_metrics: beside.collect(),
            margin,
            origins,
            gates,
        };
        comparison.sentence = words::sentence(&comparison, protocol, [&arms[first], &arms[second]], split);
        comparison
    });
    let comparisons: Vec<Comparison> = comparisons.collect();
    let notes = words::notes(protocol, metrics, &arms, split, &comparisons, controls.as_ref());
    CheckOutcome {
        protocol: protocol.clone(),
        metric: metric.measure.name.to_owned(),
        unit: (metric.unit)(protocol.gear).to_owned(),
        metrics: metrics.to_vec(),
        arms,
        held_out_pairs: split.held_out.iter().filter(|held| held.counts).count(),
        left_out: split.left_out.clone(),
        controls,
        comparisons,
        notes,
    }
}

fn arm_outcome(
    measurements: &Measurements,
    metrics: &[&'static Metric],
    arm: usize,
    name: &str,
    [pairs, different_pairs]: [usize; 2],
) -> ArmOutcome {
    let version = Version::Arm { arm };
    let trainings: Vec<_> = measurements.of(version, 0).iter().filter_map(|result| result.training.as_ref()).collect();
    let mean = |value: &dyn Fn(&crate::fit::Training) -> f64| {
        (!trainings.is_empty())
            .then(|| trainings.iter().map(|training| value(training)).sum::<f64>() / trainings.len() as f64)
    };
    let values = |measure| (measure, measurements.of_measure(version, 0, measure, &|held| held.counts));
    ArmOutcome {
        name: name.to_owned(),
        pairs,
        different_pairs,
        loss_tokens: mean(&|training| training.loss_tokens as f64),
        epochs: mean(&|training| training.epochs),
        values: measures(metrics).map(values).collect(),
    }
}

fn controls(measurements: &Measurements, names: &[String], metric: &Metric, alpha: f64) -> Option<Controls> {
    let is_control = |version: &Version| !matches!(version, Version::Arm { .. });
    let arm = measurements.results.keys().find(|(version, _)| is_control(version))?.0.arm();
    let values = |version, metric: &Metric| measurements.values(version, 0, metric, &|held: &HeldOut| held.counts);
    let better_by = |first: Version, second: Version, metric: &Metric| {
        let [first, second] = [first, second].map(|version| values(version, metric));
        let [better, worse] = if metric.higher_is_better { [first, second] } else { [second, first] };
        compared(&better, &worse, alpha)
    };
    let percents = measurements.results.keys().filter_map(|(version, _)| match version {
        Version::WrongTexts { percent, .. } => Some(*percent),
        _ => None,
    });
    let wrong_texts = percents.filter_map(|percent| {
        let [arm, wrong] = [Version::Arm { arm }, Version::WrongTexts { arm, percent }];
        let fall = better_by(arm, wrong, metric)?;
        // By the visual gain, whichever metric decides: wrong texts hardly change the loss.
        let seen = better_by(arm, wrong, &VISUAL_GAIN)?;
        let found = seen.is_significant() && seen.mean > 0.0;
        Some(WrongTexts { percent, fall, found })
    });
    Some(Controls {
        arm: names[arm].clone(),
        halves: better_by(Version::Half { arm, second: false }, Version::Half { arm, second: true }, metric),
        wrong_texts: wrong_texts.collect(),
    })
}

/// Returns the fall of the metric by the share of wrong texts, as points (percent, fall) that begin
/// with (0, 0). The fall is made monotonic, since chance may lower it.
fn curve(wrong_texts: &[WrongTexts]) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 0.0)];
    let mut highest: f64 = 0.0;
    for control in wrong_texts {
        highest = highest.max(control.fall.mean);
        points.push((f64::from(control.percent), highest));
    }
    points
}

fn fall_at(curve: &[(f64, f64)], percent: f64) -> Option<f64> {
    let upper = curve.iter().position(|(at, _)| *at >= percent)?;
    let (x1, y1) = curve[upper];
    let (x0, y0) = *curve.get(upper.checked_sub(1)?)?;
    Some(y0 + (y1 - y0) * (percent - x0) / (x1 - x0))
}

fn percent_of(curve: &[(f64, f64)], fall: f64) -> Option<CaptionNoise> {
    let last = curve.last().filter(|(_, highest)| *highest > 0.0)?;
    let Some(upper) = curve.iter().position(|(_, at)| *at >= fall) else {
        return Some(CaptionNoise { percent: last.0, or_more: true });
    };
    let Some(lower) = upper.checked_sub(1) else { return Some(CaptionNoise { percent: 0.0, or_more: false }) };
    let ((x0, y0), (x1, y1)) = (curve[lower], curve[upper]);
    Some(CaptionNoise { percent: x0 + (x1 - x0) * (fall - y0) / (y1 - y0), or_more: false })
}

/// The name of the held-out pairs that both arms have.
const BOTH_ARMS: &str = "both arms";

type OnHeldOut<'a> = &'a dyn Fn(&dyn Fn(&HeldOut) -> bool) -> Option<Difference>;

/// Groups the held-out pairs by which of the two arms have them.
fn origins(split: &Split, names: &[String], first: usize, second: usize, compared: OnHeldOut) -> Vec<Origin> {
    let kind = |held: &HeldOut| (held.origin >> first & 1 == 1, held.origin >> second & 1 == 1, held.counts);
    let mut counts: BTreeMap<(bool, bool, bool), usize> = BTreeMap::new();
    for held in &split.held_out {
        *counts.entry(kind(held)).or_default() += 1;
    }
    let origin = |((in_first, in_second, counts), pairs): ((bool, bool, bool), usize)| Origin {
        name: match (in_first, in_second) {
            (true, true) => BOTH_ARMS.to_owned(),
            (true, false) => format!("{} alone", names[first]),
            (false, true) => format!("{} alone", names[second]),
            (false, false) if split.is_given => "the pairs given to measure on".to_owned(),
            (false, false) => "neither arm".to_owned(),
        },
        pairs,
        counts,
        difference: (pairs >= FEWEST_OF_AN_ORIGIN)
            .then(|| compared(&|held| kind(held) == (in_first, in_second, counts)))
            .flatten(),
    };
    counts.into_iter().rev().map(origin).collect()
}

/// Differences below this fraction of the metric come from the order of additions of 32-bit
/// numbers.
const ROUNDING: f64 = 1e-5;

struct Decision<'a> {
    /// The maximum of the metric over all replicates of the two arms.
    level: f64,
    names: [&'a String; 2],
    metric: &'a Metric,
    alpha: f64,
    /// The number of comparisons with a p.
    comparisons: usize,
    gates: &'a [Gate],
    difference: Option<&'a Difference>,
    adjusted_p: Option<f64>,
    other_setting: Option<&'a Difference>,
    origins: &'a [Origin],
    margin: Option<f64>,
}

fn decide(decision: &Decision) -> Verdict {
    if let Some(gate) = decision.gates.iter().find(|gate| !gate.passed) {
        return Verdict::Invalid { gate: gate.name.clone(), reason: gate.finding.clone() };
    }
    let Some((difference, adjusted_p)) = decision.difference.zip(decision.adjusted_p) else {
        let reason = "one replicate says nothing about chance; use at least two, better twelve".to_owned();
        return Verdict::Inconclusive { reason };
    };
    let is_rounding = difference.mean.abs() <= ROUNDING * decision.level
        && difference.interval.is_some_and(|[low, high]| (high - low).abs() <= 100.0 * ROUNDING * decision.level);
    let first_is_better = (difference.mean > 0.0) == decision.metric.higher_is_better;
    if adjusted_p < decision.alpha && !is_rounding {
        if decision.other_setting.is_some_and(|other| other.mean * difference.mean < 0.0) {
            return Verdict::LearningRateDependent;
        }
        let contrary = decision.origins.iter().find(|origin| {
            origin.difference.as_ref().is_some_and(|on| on.is_significant() && on.mean * difference.mean < 0.0)
        });
        if let Some(origin) = contrary {
            let (better, other) = if first_is_better { (0, 1) } else { (1, 0) };
            return Verdict::Inconclusive {
                reason: format!(
                    "it depends on the pairs that it is measured on: {} is better on all that count, {} on the {} of {}",
                    decision.names[better], decision.names[other], origin.pairs, origin.name
                ),
            };
        }
        let [first, second] = decision.names.map(Clone::clone);
        return if first_is_better { Verdict::A { arm: first } } else { Verdict::B { arm: second } };
    }
    // Groups of held-out pairs that contradict each other cancel out, and more pairs would not
    // change that.
    let significant = |sign: f64| {
        decision
            .origins
            .iter()
            .find(|origin| origin.difference.as_ref().is_some_and(|on| on.is_significant() && on.mean * sign > 0.0))
    };
    if let (Some(above), Some(below)) = (significant(1.0), significant(-1.0)) {
        let (for_first, for_second) = if decision.metric.higher_is_better { (above, below) } else { (below, above) };
        return Verdict::Inconclusive {
            reason: format!(
                "it depends on the pairs that it is measured on: {} is better on the {} of {}, {} on the {} of {}",
                decision.names[0],
                for_first.pairs,
                for_first.name,
                decision.names[1],
                for_second.pairs,
                for_second.name
            ),
        };
    }
    // Over several comparisons by Bonferroni's correction (Dunn, 1961). The levels of Holm's steps
    // are for tests of a difference: they rise with every difference that is found, and that says
    // nothing about which arms are equivalent.
    let for_equivalence = difference.at(decision.alpha / decision.comparisons as f64);
    if is_rounding || decision.margin.is_some_and(|margin| for_equivalence.is_equivalent(margin)) {
        return Verdict::Equivalent;
    }
    let reason = match difference.pairs_needed() {
        Some(factor) if factor > 1.0 && factor < 1000.0 => format!(
            "a true difference of this size would be found four times in five with about {} as many pairs",
            words::times(factor)
        ),
        Some(factor) if factor >= 1000.0 => "the difference is far too small to be found with such arms".to_owned(),
        _ => "the difference is at the limit of what can be found with such arms; more replicates or more pairs may decide"
            .to_owned(),
    };
    Verdict::Inconclusive { reason }
}

#[cfg(test)]
mod tests;
