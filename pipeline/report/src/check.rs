//! The section about the check, from its outcome.

use lynxdata_check::outcome::{self, CheckOutcome, Gate};
use lynxdata_check::statistics::Difference;
use lynxdata_check::{Fit, FitResult, Gear, Metric, Version};

use crate::data::{Arm, CheckSummary, Comparison, Run, columns};
use crate::number::count;

/// Summarises a check. `fits` are those of the arms, with their training; there are none without
/// training.
pub fn summary(outcome: &CheckOutcome, fits: &[FitResult]) -> CheckSummary {
    let gear = outcome.protocol.gear;
    let finite = |value: &f64| value.is_finite().then_some(*value);
    let arms = outcome.arms.iter().enumerate().map(|(place, arm)| {
        let curve = |replicate: usize| {
            let of_run =
                |fit: &&FitResult| fit.fit == Fit { version: Version::Arm { arm: place }, replicate, setting: 0 };
            let training = fits.iter().find(of_run).and_then(|fit| fit.training.as_ref());
            let points = training.map(|training| training.losses.as_slice()).unwrap_or_default().iter();
            points.map(|(step, loss)| (*step as u64, *loss)).collect()
        };
        let value = |metric: &Metric, replicate: usize| arm.of(metric).values.get(replicate).and_then(finite);
        let run = |replicate: usize| Run {
            replicate: replicate as u64,
            curve: curve(replicate),
            values: columns(&outcome.metrics).map(|metric| (metric, value(metric, replicate))).collect(),
        };
        let runs = (0..arm.replicates()).map(run).collect();
        Arm { name: arm.name.clone(), pairs: arm.pairs as u64, runs }
    });
    let arms: Vec<Arm> = arms.collect();
    let metric = outcome.protocol.metric;
    let row = |metric: &Metric, name: &str, [first, second]: [&str; 2], difference: Option<&Difference>| {
        let difference = difference?;
        let [ci_low, ci_high] = difference.interval?;
        Some(Comparison {
            metric: name.to_owned(),
            unit: (metric.unit)(gear).to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
            lower_is_better: !metric.higher_is_better,
            mean_difference: difference.mean,
            ci_low,
            ci_high,
            confidence: 1.0 - difference.alpha,
            p: difference.p?,
            is_adjusted: None,
            n: difference.replicates as u64,
        })
    };
    let comparisons = outcome.comparisons.iter().flat_map(|compared| {
        let arms = [compared.first.as_str(), compared.second.as_str()];
        let decisive = row(metric, metric.words, arms, compared.difference.as_ref());
        let beside = outcome.beside(compared);
        let beside = beside.filter_map(|(metric, difference)| row(metric, metric.words, arms, difference));
        let adjusts = compared.adjusted_for > 1;
        // The interval has the level of the adjusted p.
        let decisive = decisive.map(|row| Comparison {
            p: compared.adjusted_p.unwrap_or(row.p),
            is_adjusted: adjusts.then_some(true),
            ..row
        });
        let beside = beside.map(|row| Comparison { is_adjusted: adjusts.then_some(false), ..row });
        decisive.into_iter().chain(beside).collect::<Vec<_>>()
    });
    let comparisons = comparisons.collect();
    let controls = outcome.controls.iter().flat_map(|controls| {
        let halves = row(metric, "halves", [&controls.arm, "its other half"], controls.halves.as_ref());
        let wrong = controls.wrong_texts.iter().filter_map(|control| {
            let name = format!("{} % wrong texts", control.percent);
            row(metric, &name, [&controls.arm, "itself with them"], Some(&control.fall))
        });
        halves.into_iter().chain(wrong).collect::<Vec<_>>()
    });
    let controls = controls.collect();
    let weights = fits.iter().find_map(|fit| Some(fit.training.as_ref()?.weights as u64));
    let method = match gear {
        Gear::Quick => {
            "A probe predicts the words of a text from frozen features of its image, by ridge regression.".to_owned()
        }
        Gear::Lynx => format!(
            "A compact Lynx of {} weights is trained on every arm in every replicate.",
            count(weights.unwrap_or(0))
        ),
    };
    let sentences = outcome.comparisons.iter().map(|compared| match compared.sentence.as_str() {
        sentence if sentence.ends_with('.') => sentence.to_owned(),
        sentence => format!("{sentence}."),
    });
    let sentences: Vec<String> = sentences.collect();
    // Gates of all arms are in every comparison.
    let mut gates: Vec<Gate> = Vec::new();
    for gate in outcome.comparisons.iter().flat_map(|compared| &compared.gates) {
        if !gates.contains(gate) {
            gates.push(gate.clone());
        }
    }
    CheckSummary {
        metric: metric.words.to_owned(),
        arms,
        comparisons,
        verdict_word: verdict_in_words(&outcome.comparisons),
        verdict_sentence: sentences.join(" "),
        method,
        gear,
        controls,
        gates,
        notes: outcome.notes.clone(),
        metrics: outcome.metrics.clone(),
    }
}

/// Returns the headline: the verdict of the only comparison, otherwise an arm that is better than
/// all others, otherwise the number of comparisons with a better arm.
fn verdict_in_words(comparisons: &[outcome::Comparison]) -> String {
    if let [only] = comparisons {
        return match only.verdict.winner() {
            Some(arm) => format!("{arm} is better"),
            None => only.verdict.name().to_owned(),
        };
    }
    let winners: Vec<&str> = comparisons.iter().filter_map(|compared| compared.verdict.winner()).collect();
    let of = |arm: &str| comparisons.iter().filter(|compared| compared.first == arm || compared.second == arm).count();
    let wins = |arm: &str| winners.iter().filter(|winner| **winner == arm).count();
    match winners.iter().find(|arm| wins(arm) == of(arm)) {
        Some(arm) => format!("{arm} is better than all other arms"),
        None => format!("{} of {} comparisons name a better arm", winners.len(), comparisons.len()),
    }
}
