//! The conditions without which no verdict is given.

use super::{ArmOutcome, Controls, Gate, Measurements, Protocol};
use crate::fit::Version;
use crate::metrics::{Metric, MetricGate};
use crate::split::Split;

/// The maximum share of an arm that may be left out because it overlaps held-out pairs.
const MOST_OVERLAP: f64 = 0.5;

/// The significance level of the null control. One check in a hundred is refused although nothing
/// is wrong with it; at 0.05 it would be one in twenty.
const HALVES_ALPHA: f64 = 0.01;

/// The share of wrong texts, in percent, that a check must find before it may say that arms do not
/// differ.
pub(super) const MUST_BE_FOUND: u32 = 30;

pub(super) struct Facts<'a> {
    pub(super) protocol: &'a Protocol,
    pub(super) metrics: &'a [&'static Metric],
    pub(super) split: &'a Split,
    pub(super) arms: [&'a ArmOutcome; 2],
    pub(super) places: [usize; 2],
    /// Names of all arms.
    pub(super) names: &'a [String],
    pub(super) measurements: &'a Measurements<'a>,
    pub(super) controls: Option<&'a Controls>,
    /// Whether the arms differ significantly, after Holm's correction.
    pub(super) significant: bool,
}

/// Returns all gates, failed ones first, in the order in which a user would fix them.
pub(super) fn gates(facts: &Facts) -> Vec<Gate> {
    let mut gates = vec![arms(facts), held_out(facts), different(facts), overlap(facts)];
    if gates.iter().all(|gate| gate.passed) {
        gates.extend([same_split(facts), finite(facts), replicates(facts)]);
    }
    if gates.iter().all(|gate| gate.passed) {
        gates.extend(facts.metrics.iter().rev().filter_map(|metric| of_metric(facts, metric)));
        gates.push(matched(facts));
        gates.extend(facts.controls.map(halves));
        gates.extend(facts.controls.map(|controls| wrong_texts(controls, facts.significant)));
    }
    gates.sort_by_key(|gate| gate.passed);
    gates
}

fn gate(name: &str, passed: bool, finding: String) -> Gate {
    Gate { name: name.to_owned(), passed, finding }
}

fn arms(facts: &Facts) -> Gate {
    let fewest = facts.protocol.fewest_pairs;
    let few = facts.arms.iter().find(|arm| arm.different_pairs < fewest);
    let finding = match few {
        Some(arm) if arm.pairs == 0 => {
            let before = facts.split.left_out.pairs_of_arms[facts.places[usize::from(arm.name == facts.arms[1].name)]];
            if before == 0 {
                format!("arm {} is empty: its rules or its folder leave no pair with a text", arm.name)
            } else {
                format!("arm {} has no pairs left: all {before} share an image or a text with held-out pairs", arm.name)
            }
        }
        Some(arm) => format!(
            "arm {} has {} pairs to train on that differ from each other; a check needs {fewest}",
            arm.name, arm.different_pairs
        ),
        None => format!(
            "{} and {} different pairs; {fewest} are needed",
            facts.arms[0].different_pairs, facts.arms[1].different_pairs
        ),
    };
    gate("enough pairs", few.is_none(), finding)
}

fn held_out(facts: &Facts) -> Gate {
    let count = facts.split.held_out.iter().filter(|held| held.counts).count();
    let fewest = facts.protocol.fewest_held_out.max(2);
    let told = &facts.split.left_out;
    let mut finding = format!("{count} pairs to measure on; {fewest} are needed");
    if count < fewest {
        if told.shared_candidates > 0 {
            finding +=
                &format!("; {} candidates were skipped because many images share their text", told.shared_candidates);
        }
        finding += if facts.split.is_given {
            "; more pairs to measure on would help"
        } else {
            "; more data, a larger held-out fraction or a wider condition on what may be held out would help"
        };
    }
    gate("enough held-out pairs", count >= fewest, finding)
}

/// Returns whether two arms can be compared: they have different pairs, and enough of both is left.
pub(super) fn are_comparable(split: &Split, places: [usize; 2]) -> bool {
    !have_same_pairs(split, places) && places.iter().all(|place| overlap_of(split, *place).1 <= MOST_OVERLAP)
}

fn have_same_pairs(split: &Split, places: [usize; 2]) -> bool {
    let [first, second] = places.map(|place| {
        let mut pairs = split.arms[place].clone();
        pairs.sort_unstable();
        pairs
    });
    first == second
}

/// Returns how many pairs of an arm are left out because they share a text with held-out pairs, and
/// their share of the arm.
fn overlap_of(split: &Split, place: usize) -> (usize, f64) {
    let told = &split.left_out;
    let lost = told.same_text[place] + told.similar_text[place];
    (lost, lost as f64 / told.pairs_of_arms[place].max(1) as f64)
}

fn different(facts: &Facts) -> Gate {
    let same = have_same_pairs(facts.split, facts.places);
    let finding = if same { "the two arms have the same pairs" } else { "the arms do not have the same pairs" };
    gate("different arms", !same, finding.to_owned())
}

fn overlap(facts: &Facts) -> Gate {
    let shares = facts.places.map(|place| overlap_of(facts.split, place));
    let worst = usize::from(shares[1].1 > shares[0].1);
    let (lost, share) = shares[worst];
    let finding = format!(
        "{lost} pairs of {} ({:.0} %) share a text with a held-out pair and are left out; no pair that is trained on does",
        facts.arms[worst].name,
        100.0 * share
    );
    gate("no overlap", share <= MOST_OVERLAP, finding)
}

/// Requires that all fits were measured on the held-out pairs of the split. Measurements are joined
/// with pairs by their places, so fits of another split would be joined with other pairs.
fn same_split(facts: &Facts) -> Gate {
    let held_out = facts.split.held_out.len();
    let other = facts.measurements.of_another_split();
    let finding = match other {
        Some(result) => format!(
            "{} was measured on {} pairs, but {held_out} are held out; run the check again in another output folder",
            match result.fit.version {
                Version::Arm { arm } => format!("a fit of {}", facts.names[arm]),
                version => format!("a control of {}", facts.names[version.arm()]),
            },
            result.measured.len()
        ),
        None => format!("all fits were measured on {held_out} pairs"),
    };
    gate("same held-out pairs", other.is_none(), finding)
}

fn finite(facts: &Facts) -> Gate {
    let broken = facts.arms.iter().find(|arm| arm.values.iter().flatten().any(|value| !value.is_finite()));
    let finding = match broken {
        Some(arm) => format!("the loss of {} is not a number in some replicate; lower the learning rate", arm.name),
        None => "all losses are numbers".to_owned(),
    };
    gate("training worked", broken.is_none(), finding)
}

fn replicates(facts: &Facts) -> Gate {
    let (wanted, found) = (facts.protocol.replicates, facts.arms.map(ArmOutcome::replicates));
    let finding = format!("{} and {} of {wanted} replicates are there", found[0], found[1]);
    gate("all replicates", found == [wanted, wanted] && wanted > 0, finding)
}

fn of_metric(facts: &Facts, metric: &Metric) -> Option<Gate> {
    let MetricGate { name, judge } = metric.gate.as_ref()?;
    let Protocol { gear, alpha, .. } = facts.protocol;
    let (passed, finding) = judge(facts.arms.map(|arm| arm.of(metric)), *gear, *alpha)?;
    Some(gate(name, passed, finding))
}

/// Requires that both arms were trained with equal settings.
fn matched(facts: &Facts) -> Gate {
    let trainings = |place: usize| {
        let results = facts.measurements.of(Version::Arm { arm: place }, 0).iter();
        results.filter_map(|result| result.training.as_ref())
    };
    let differing = trainings(facts.places[0]).zip(trainings(facts.places[1])).find(|(a, b)| {
        let far = a.loss_tokens.abs_diff(b.loss_tokens) * 50 > a.loss_tokens.max(b.loss_tokens);
        (&a.seeds, a.steps, a.weights) != (&b.seeds, b.steps, b.weights)
            || a.learning_rate.to_bits() != b.learning_rate.to_bits()
            || far
    });
    let finding = match differing {
        Some((a, b)) => format!(
            "the arms were trained differently: {} steps on {} loss tokens and {} steps on {}",
            a.steps, a.loss_tokens, b.steps, b.loss_tokens
        ),
        None => "both arms have the same steps, seeds and, within 2 %, loss tokens".to_owned(),
    };
    gate("matched training", differing.is_none(), finding)
}

fn halves(controls: &Controls) -> Gate {
    let p = controls.halves.as_ref().and_then(|halves| halves.p);
    let passed = p.is_none_or(|p| p >= HALVES_ALPHA);
    let mut finding = match p {
        Some(p) => format!("two random halves of {}: p = {p:.3}", controls.arm),
        None => format!("two random halves of {} were not compared", controls.arm),
    };
    if !passed {
        finding += "; random halves should not differ, so the differences that this check finds cannot be trusted";
    }
    gate("halves do not differ", passed, finding)
}

/// A significant difference itself shows that the check can find one; to say that arms do not
/// differ, a control is needed.
fn wrong_texts(controls: &Controls, significant: bool) -> Gate {
    let control = controls.wrong_texts.iter().find(|control| control.percent == MUST_BE_FOUND);
    let found = control.is_some_and(|control| control.found);
    let mut finding =
        format!("{MUST_BE_FOUND} % wrong texts in {} are {}", controls.arm, if found { "found" } else { "not found" });
    if !found && !significant {
        finding += "; a check that does not find them says nothing about smaller faults";
    }
    gate("wrong texts are found", found || significant, finding)
}
