//! The sentences that describe an outcome.

use super::{ArmOutcome, BOTH_ARMS, CaptionNoise, Comparison, Controls, Origin, Protocol, Verdict};
use crate::gear::{Gear, MANY_EPOCHS};
use crate::metrics::Metric;
use crate::split::{FEWEST_OF_AN_ORIGIN, Split};
use crate::statistics::Difference;

/// Arms whose sizes differ by more than this factor are not of comparable size.
const COMPARABLE: f64 = 1.25;

/// Returns a factor in words, such as "2.5 times".
pub(super) fn times(factor: f64) -> String {
    if factor < 10.0 { format!("{factor:.1} times") } else { format!("{factor:.0} times") }
}

/// Returns a sentence about what was compared, the outcome, the held-out pairs, and the limits of
/// the outcome.
pub(super) fn sentence(comparison: &Comparison, protocol: &Protocol, arms: [&ArmOutcome; 2], split: &Split) -> String {
    if let Verdict::Invalid { gate, reason } = &comparison.verdict {
        return format!("invalid ({gate}): {reason}; {} and {} are not compared", comparison.first, comparison.second);
    }
    let Comparison { first, second, .. } = comparison;
    let sizes = arms.map(|arm| arm.different_pairs as f64);
    let metric = protocol.metric;
    let head = match &comparison.verdict {
        Verdict::A { arm } | Verdict::B { arm } => {
            let (other, factor) =
                if arm == first { (second, sizes[0] / sizes[1]) } else { (first, sizes[1] / sizes[0]) };
            if metric.grows_with_quantity && factor > COMPARABLE {
                format!(
                    "{arm} is better to learn from, and it has {} as many different pairs as {other}: this may be quantity rather than fit",
                    times(factor)
                )
            } else {
                format!("{arm} is better: {} {other}", metric.finding)
            }
        }
        Verdict::Equivalent => format!(
            "equivalent: {first} and {second} differ by less than the effect of {:.0} % wrong texts",
            protocol.margin_percent
        ),
        Verdict::Inconclusive { reason } => format!("inconclusive: {reason}"),
        Verdict::LearningRateDependent => {
            format!(
                "learning-rate dependent: between {first} and {second}, the other {} says the opposite",
                setting(protocol)
            )
        }
        Verdict::Invalid { .. } => unreachable!("returned above"),
    };
    let numbers = comparison.difference.as_ref().map(|difference| {
        let unit = (metric.unit)(protocol.gear);
        let comparisons = comparison.adjusted_for;
        let interval = difference.interval.map(|bounds| interval(bounds, difference.alpha, comparisons));
        let interval = interval.map(|interval| format!(", {interval}"));
        let p = comparison.adjusted_p.map(|p| if p < 0.001 { ", p < 0.001".to_owned() } else { format!(", p = {p:.3}") });
        format!(
            "{} of {first} minus {second} is {:+.4} {unit}{}{}{}, {} replicates that redraw the pairs of both arms and the held-out ones{}",
            metric.words,
            difference.mean,
            interval.unwrap_or_default(),
            p.unwrap_or_default(),
            adjustment(comparisons),
            difference.replicates,
            noise(comparison.caption_noise_equivalent)
        )
    });
    let measured = measured_on(comparison, split);
    let dependence = dependence(comparison).map(|dependence| format!(" {dependence}")).unwrap_or_default();
    let limits = limits(protocol);
    format!(
        "{head}. {} pairs of {first} against {} of {second}: {}. {measured}{dependence} {limits}",
        arms[0].pairs,
        arms[1].pairs,
        numbers.unwrap_or_else(|| "nothing was measured".to_owned())
    )
}

fn setting(protocol: &Protocol) -> &'static str {
    match protocol.gear {
        Gear::Quick => "ridge penalty",
        Gear::Lynx => "learning rate",
    }
}

/// Returns an interval in words. The levels of several comparisons are close to each other, such as
/// 98.8 and 99.2 %, so they have a decimal.
fn interval([low, high]: [f64; 2], alpha: f64, comparisons: usize) -> String {
    let confidence = 100.0 * (1.0 - alpha);
    let decimals = usize::from(comparisons > 1);
    format!("{confidence:.decimals$} % interval {low:+.4} to {high:+.4}")
}

/// Returns what interval and p are adjusted for.
fn adjustment(comparisons: usize) -> String {
    if comparisons > 1 {
        format!(" (both adjusted for {comparisons} comparisons by Holm's method)")
    } else {
        String::new()
    }
}

fn noise(equivalent: Option<CaptionNoise>) -> String {
    match equivalent {
        Some(CaptionNoise { percent, or_more: true }) => {
            format!("; a larger difference than {percent:.0} % wrong texts cause")
        }
        Some(CaptionNoise { percent, .. }) if percent < 1.0 => {
            "; a smaller difference than 1 % wrong texts cause".to_owned()
        }
        Some(CaptionNoise { percent, .. }) => format!("; as large a difference as {percent:.0} % wrong texts cause"),
        None => String::new(),
    }
}

fn measured_on(comparison: &Comparison, split: &Split) -> String {
    let count = split.held_out.iter().filter(|held| held.counts).count();
    let counted: Vec<String> = comparison
        .origins
        .iter()
        .filter(|origin| origin.counts)
        .map(|origin| format!("{} of {}", origin.pairs, origin.name))
        .collect();
    let from = if split.is_given && counted.len() == 1 { String::new() } else { format!(" ({})", counted.join(", ")) };
    let kind = if split.is_given { "given" } else { "held-out" };
    let text = if split.are_conversations { "answer of five words or more" } else { "text" };
    format!(
        "Measured on {count} {kind} pairs{from}, which share no image (by pHash and bytes) and no {text} with either arm."
    )
}

/// By how much the held-out pairs of one arm alone must outnumber those of the other arm, as a
/// share of all that count, for a remark in the sentence.
///
/// If each arm is better by d on its own pairs, and both are equal on all others, this share of d
/// remains as the difference, although neither arm is better. Chance rarely makes it a quarter: of
/// 50 pairs, the fewest of a check, 32 or more are of the same arm in one case of 15 (binomial
/// distribution with probability 1/2).
const UNEQUAL: f64 = 0.25;

/// Returns a remark on a verdict that comes mostly from pairs of one arm if the pairs of the other
/// arm do not confirm it: they are fewer than [`FEWEST_OF_AN_ORIGIN`] and not measured, or show the
/// opposite, but not significantly.
fn dependence(comparison: &Comparison) -> Option<String> {
    let Comparison { first, second, .. } = comparison;
    let alone = |arm: &str| format!("{arm} alone");
    let counted = || comparison.origins.iter().filter(|origin| origin.counts);
    let own = |arm: &str| counted().find(|origin| origin.name == alone(arm)).map_or(0, |origin| origin.pairs);
    let (most, other) = match &comparison.verdict {
        Verdict::A { .. } => (first, second),
        Verdict::Equivalent if own(first) >= own(second) => (first, second),
        Verdict::B { .. } | Verdict::Equivalent => (second, first),
        _ => return None,
    };
    let total: usize = counted().map(|origin| origin.pairs).sum();
    if (own(most) as f64 - own(other) as f64) < UNEQUAL * total as f64 {
        return None;
    }
    // The pairs that could contradict: those of the other arm alone. If it has none, those of both
    // arms.
    let theirs = [alone(other), BOTH_ARMS.to_owned()];
    let theirs = theirs.iter().find_map(|name| comparison.origins.iter().find(|origin| origin.name == *name));
    let reason = match theirs {
        None => format!("none is of {other}"),
        Some(Origin { name, pairs, counts, difference }) => {
            let counting = if *counts { "" } else { ", which do not count," };
            let is_opposite =
                difference.as_ref().zip(comparison.difference.as_ref()).is_some_and(|(on_theirs, on_all)| {
                    comparison.verdict != Verdict::Equivalent && on_theirs.mean * on_all.mean < 0.0
                });
            if *pairs < FEWEST_OF_AN_ORIGIN {
                format!("the {pairs} of {name}{counting} are too few to be measured separately")
            } else if is_opposite {
                format!(
                    "on the {pairs} of {name}{counting} the difference has the opposite sign, but is not significant"
                )
            } else {
                return None;
            }
        }
    };
    Some(format!(
        "The verdict may depend on the choice of these pairs: {} of {total} are of {most} alone, and {reason}.",
        own(most)
    ))
}

fn limits(protocol: &Protocol) -> &'static str {
    match protocol.gear {
        Gear::Quick => {
            "It holds for these pairs and for pairs drawn like them; it says nothing about word order, fluency, knowledge or text in images."
        }
        Gear::Lynx => protocol.metric.limits,
    }
}

/// Returns sentences that limit the outcome.
pub(super) fn notes(
    protocol: &Protocol,
    metrics: &[&'static Metric],
    arms: &[ArmOutcome],
    split: &Split,
    comparisons: &[Comparison],
    controls: Option<&Controls>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let tested = comparisons.iter().filter(|comparison| comparison.adjusted_p.is_some()).count();
    if tested > 1 {
        notes.push(format!(
            "p and interval of the {tested} comparisons are adjusted for their number by Holm's method; \
             the intervals on held-out pairs of one origin and ci95 in the JSON are not"
        ));
    }
    for comparison in comparisons {
        origin_notes(comparison, &mut notes);
        if let Some(effect) = comparison.difference.as_ref().and_then(|difference| difference.minimum_detectable_effect)
            && effect >= 1e-4
        {
            notes.push(format!(
                "a true difference of {effect:.4} {} between {} and {} is found in four checks of five, a smaller one less often",
                (protocol.metric.unit)(protocol.gear),
                comparison.first,
                comparison.second
            ));
        }
    }
    for (arm, outcome) in arms.iter().enumerate() {
        let told = &split.left_out;
        let measured_on = told.in_held_out_clusters[arm];
        if measured_on > 0 {
            notes.push(format!(
                "{}: {measured_on} of {} pairs are not trained on because their image is held out",
                outcome.name, told.pairs_of_arms[arm]
            ));
        }
        let (same, similar, beyond) = (told.same_text[arm], told.similar_text[arm], told.beyond_most[arm]);
        if same + similar > 0 {
            notes.push(format!(
                "{}: {same} pairs are left out because a held-out pair has their text, and {similar} because one has a similar text",
                outcome.name
            ));
        }
        if beyond > 0 {
            notes.push(format!(
                "{} has {} pairs, of which {} were trained on; most_pairs does not allow more",
                outcome.name,
                outcome.pairs + beyond,
                outcome.pairs
            ));
        }
        if let (Some(epochs), Some(tokens)) = (outcome.epochs, outcome.loss_tokens) {
            let many = if epochs > MANY_EPOCHS { "; a larger arm may benefit from fewer repeats" } else { "" };
            notes.push(format!(
                "{} was trained on {tokens:.0} loss tokens in every run, each pair {epochs:.1} times{many}",
                outcome.name
            ));
        }
        notes.extend(metrics.iter().filter_map(|metric| (metric.note)(outcome.of(metric))));
    }
    if split.left_out.shared_candidates > 0 {
        notes.push(format!(
            "{} candidates were skipped and not held out, because images of more than {} other clusters share their text",
            split.left_out.shared_candidates,
            crate::split::SHARED_BY_MOST
        ));
    }
    if let Some(controls) = controls {
        let found: Vec<String> = controls
            .wrong_texts
            .iter()
            .map(|control| format!("{} % {}", control.percent, if control.found { "found" } else { "not found" }))
            .collect();
        notes.push(format!("wrong texts put into {}: {}", controls.arm, found.join(", ")));
    }
    if protocol.looks.len() > 1 {
        notes.push(format!(
            "looks are planned at {:?} replicates; of their total error probability of {}, this look spends {:.4}",
            protocol.looks,
            protocol.alpha,
            protocol.alpha_of_look()
        ));
    }
    notes
}

fn origin_notes(comparison: &Comparison, notes: &mut Vec<String>) {
    let alone = |name: &str| format!("{name} alone");
    let counted: Vec<_> = comparison.origins.iter().filter(|origin| origin.counts).collect();
    for (mine, other) in [(&comparison.first, &comparison.second), (&comparison.second, &comparison.first)] {
        let total: usize = counted.iter().map(|origin| origin.pairs).sum();
        let own = counted.iter().find(|origin| origin.name == alone(mine)).map_or(0, |origin| origin.pairs);
        if total > 0 && own * 5 >= total * 4 {
            notes.push(format!(
                "{own} of the {total} held-out pairs come from {mine} alone, which favours it over {other}"
            ));
        }
    }
    // If the arms were not fitted, a gate tells why.
    if comparison.origins.len() > 1 && comparison.difference.is_some() {
        for origin in &comparison.origins {
            if origin.pairs < FEWEST_OF_AN_ORIGIN {
                notes.push(format!(
                    "the {} held-out pairs of {} are too few to be measured separately{}",
                    origin.pairs,
                    origin.name,
                    if origin.counts { "" } else { " and do not count" }
                ));
            }
            let Some(Difference { mean, interval: Some(bounds), alpha, .. }) = &origin.difference else { continue };
            notes.push(format!(
                "on the {} held-out pairs of {}{}, {} minus {} is {mean:+.4} ({})",
                origin.pairs,
                origin.name,
                if origin.counts { "" } else { ", which do not count" },
                comparison.first,
                comparison.second,
                interval(*bounds, *alpha, 1)
            ));
        }
    }
}
