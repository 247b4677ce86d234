//! What the runs of a check mean, in numbers and in words.

use serde::{Deserialize, Serialize};

use super::statistics::{ALPHA, FEWEST_REPLICATES, PairedDifference, paired_difference};
use crate::run::RunResult;

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Smaller is better.
    Lower,
    /// Larger is better.
    Higher,
}

/// One metric of both arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricComparison {
    /// The field of [`RunResult`].
    pub metric: String,
    /// Unit of the values.
    pub unit: String,
    /// Which way it is better.
    pub better: Better,
    /// Values of the first arm, one per replicate.
    pub first: Vec<f64>,
    /// Values of the second arm, one per replicate.
    pub second: Vec<f64>,
    /// Statistics of first − second.
    pub difference: PairedDifference,
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verdict {
    /// The held-out loss of one arm is lower: the confidence interval leaves out 0 and the sign-flip p is below 0.05.
    Better {
        /// Name of the arm.
        arm: String,
    },
    /// The runs cannot tell the arms apart.
    Inconclusive,
    /// The runs do not answer the question.
    Invalid {
        /// Why not.
        reason: String,
    },
}

/// Everything a report says about a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckOutcome {
    /// Names of the first and the second arm.
    pub arms: [String; 2],
    /// The metrics; the first one decides.
    pub metrics: Vec<MetricComparison>,
    /// The outcome.
    pub verdict: Verdict,
    /// The outcome in a sentence with its numbers.
    pub sentence: String,
    /// What limits the outcome, in sentences.
    pub notes: Vec<String>,
}

impl CheckOutcome {
    /// The outcome of a check that does not answer the question.
    pub fn invalid(arms: [String; 2], reason: String) -> CheckOutcome {
        let sentence = format!("invalid: {reason}");
        let verdict = Verdict::Invalid { reason };
        CheckOutcome { arms, metrics: Vec::new(), verdict, sentence, notes: Vec::new() }
    }
}

/// Compares the runs of two arms; the i-th runs of both belong to one replicate.
///
/// * Invalid: no runs; runs that are not pairs of equal seed, steps, samples and held-out set; a loss that is not finite; a
///   model that is no better than guessing every token with equal probability, which means that training did not work.
/// * Better: the 95 % confidence interval of the held-out loss leaves out 0 *and* the sign-flip p is below 0.05, which takes
///   six replicates.
/// * Otherwise inconclusive.
///
/// A model that does not use its images is a note, not a reason for invalidity: in few steps on real photographs a small
/// model learns language before it learns to see, and its loss still compares the arms' captions as language. The note says
/// that the verdict is about no more than that.
pub fn compare(first: &[RunResult], second: &[RunResult], arms: [&str; 2]) -> CheckOutcome {
    let arms = arms.map(str::to_owned);
    if let Some(reason) = invalid(first, second, &arms) {
        return CheckOutcome::invalid(arms, reason);
    }
    let metric = |metric: &str, better, value: fn(&RunResult) -> f64| {
        let (first, second): (Vec<f64>, Vec<f64>) =
            (first.iter().map(value).collect(), second.iter().map(value).collect());
        let difference = paired_difference(&first, &second);
        MetricComparison {
            metric: metric.to_owned(),
            unit: "bits per byte".to_owned(),
            better,
            first,
            second,
            difference,
        }
    };
    let loss = metric("held_out_bits_per_byte", Better::Lower, |run| run.held_out_bits_per_byte);
    let gain = metric("visual_gain", Better::Higher, |run| run.visual_gain);
    let verdict = judge(&loss.difference, &arms);
    let sentence = sentence(&verdict, &loss, &arms);
    let notes = notes([first, second], &loss, &gain, &arms);
    CheckOutcome { arms, metrics: vec![loss, gain], verdict, sentence, notes }
}

/// Why runs do not answer the question, if they do not.
fn invalid(first: &[RunResult], second: &[RunResult], arms: &[String; 2]) -> Option<String> {
    if first.is_empty() && second.is_empty() {
        return Some("there are no runs".to_owned());
    }
    if first.len() != second.len() {
        let [a, b] = arms;
        return Some(format!("{a} has {} runs and {b} has {}; each replicate needs both", first.len(), second.len()));
    }
    let shared = |run: &RunResult| (run.steps, run.samples_seen, run.held_out_pairs, run.held_out_bytes, run.weights);
    for (replicate, (one, other)) in first.iter().zip(second).enumerate() {
        if one.seed != other.seed {
            return Some(format!("the runs of replicate {replicate} have different seeds"));
        }
        if shared(one) != shared(&first[0]) || shared(other) != shared(&first[0]) {
            return Some(format!(
                "the runs of replicate {replicate} differ from the first in steps, samples, held-out set or model"
            ));
        }
    }
    for (arm, runs) in arms.iter().zip([first, second]) {
        for (replicate, run) in runs.iter().enumerate() {
            let curve = run.losses.iter().map(|point| point.loss);
            let all_finite = curve.chain([run.held_out_bits_per_byte, run.visual_gain]).all(f64::is_finite);
            if !all_finite {
                return Some(format!(
                    "the loss of {arm} in replicate {replicate} is not finite; lower the learning rate"
                ));
            }
            if run.held_out_bits_per_byte >= run.uniform_bits_per_byte {
                return Some(format!(
                    "the model of {arm} in replicate {replicate} is no better than guessing ({:.3} bits per byte, guessing \
                     {:.3}); train it for more steps or at another learning rate",
                    run.held_out_bits_per_byte, run.uniform_bits_per_byte
                ));
            }
        }
    }
    None
}

fn judge(difference: &PairedDifference, [first, second]: &[String; 2]) -> Verdict {
    let Some([low, high]) = difference.confidence else {
        return Verdict::Inconclusive;
    };
    if difference.sign_flip_p >= ALPHA {
        return Verdict::Inconclusive;
    }
    match (low, high) {
        (_, high) if high < 0.0 => Verdict::Better { arm: first.clone() },
        (low, _) if low > 0.0 => Verdict::Better { arm: second.clone() },
        _ => Verdict::Inconclusive,
    }
}

fn sentence(verdict: &Verdict, loss: &MetricComparison, [first, second]: &[String; 2]) -> String {
    let PairedDifference { n, mean, confidence, sign_flip_p, first_smaller, second_smaller, .. } = loss.difference;
    let Some([low, high]) = confidence else {
        return format!(
            "inconclusive: held-out loss of {first} minus {second} is {mean:+.4} bits per byte in one replicate, which says \
             nothing about chance; {FEWEST_REPLICATES} replicates or more can give a verdict"
        );
    };
    let numbers = format!(
        "held-out loss of {first} minus {second} is {mean:+.4} bits per byte, 95 % confidence interval {low:+.4} to \
         {high:+.4}, sign-flip p = {sign_flip_p:.3}, n = {n} paired replicates"
    );
    if let Verdict::Better { arm } = verdict {
        let wins = if arm == first { first_smaller } else { second_smaller };
        return format!("{arm} is better: {numbers}, {arm} lower in {wins} of {n}");
    }
    let more = match loss.difference.replicates_needed {
        _ if mean == 0.0 => "the arms gave the same loss".to_owned(),
        Some(needed) if needed > n => {
            format!("about {needed} replicates would find a true difference of this size in four of five checks")
        }
        Some(_) => "more replicates may tell".to_owned(),
        None => "more than 1000 replicates would be needed for a difference of this size".to_owned(),
    };
    let few = if n < FEWEST_REPLICATES {
        format!("; with fewer than {FEWEST_REPLICATES} replicates the sign-flip test cannot reach p < {ALPHA}")
    } else {
        String::new()
    };
    format!("inconclusive: {numbers}; {more}{few}")
}

fn notes(runs: [&[RunResult]; 2], loss: &MetricComparison, gain: &MetricComparison, arms: &[String; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(detectable) = loss.difference.detectable {
        let n = loss.difference.n;
        notes.push(format!(
            "{n} replicates find a true difference of {detectable:.4} bits per byte in four of five checks, smaller ones less \
             often"
        ));
    }
    for (arm, gains) in arms.iter().zip([&gain.first, &gain.second]) {
        // The gain against 0: the same statistics as for two arms.
        let against_0 = paired_difference(gains, &vec![0.0; gains.len()]);
        if !against_0.confidence.is_some_and(|[low, _]| low > 0.0) {
            notes.push(format!(
                "the model trained on {arm} does not measurably use its images (visual gain {:+.4} bits per byte); for it the \
                 verdict compares captions as language, not how well they fit their images",
                against_0.mean
            ));
        }
    }
    for (arm, runs) in arms.iter().zip(runs) {
        let behind = runs.iter().filter(|run| run.held_out_bits_per_byte >= run.unigram_bits_per_byte).count();
        if behind > 0 {
            notes.push(format!(
                "in {behind} of {} replicates the model trained on {arm} is no better than the frequencies of its tokens; \
                 train for more steps",
                runs.len()
            ));
        }
    }
    if let [[one, ..], [other, ..]] = runs
        && one.epochs.max(other.epochs) > MANY_EPOCHS
    {
        notes.push(format!(
            "each pair of {} was seen {:.0} times, each of {} {:.0} times; with so many repeats the smaller arm may suffer \
             from repetition",
            arms[0], one.epochs, arms[1], other.epochs
        ));
    }
    notes
}

/// Above this many repeats of the data a note is made: up to about four, repeated text trains language models nearly as
/// well as new text (Muennighoff et al., arXiv 2305.16264).
const MANY_EPOCHS: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::LossPoint;

    fn result(seed: u64, bits: f64) -> RunResult {
        RunResult {
            seed,
            steps: 10,
            losses: vec![LossPoint { step: 10, loss: 3.0 }],
            held_out_nats_per_byte: bits * std::f64::consts::LN_2,
            held_out_bits_per_byte: bits,
            visual_gain: 0.2 + 0.01 * seed as f64,
            uniform_bits_per_byte: 4.0,
            unigram_bits_per_byte: 3.5,
            arm_pairs: 100,
            cut_captions: 0,
            samples_seen: 320,
            epochs: 3.2,
            tokens_seen: 3000,
            held_out_pairs: 50,
            held_out_bytes: 1500,
            weights: 1000,
        }
    }

    fn results(bits: &[f64]) -> Vec<RunResult> {
        (0..).zip(bits).map(|(seed, bits)| result(seed, *bits)).collect()
    }

    const CLEAN: [f64; 6] = [2.01, 2.03, 1.99, 2.00, 2.02, 2.01];
    const NOISY: [f64; 6] = [2.10, 2.15, 2.06, 2.11, 2.09, 2.14];

    #[test]
    fn a_clear_difference_names_the_arm_of_lower_loss() {
        let outcome = compare(&results(&CLEAN), &results(&NOISY), ["clean", "noisy"]);
        assert_eq!(outcome.verdict, Verdict::Better { arm: "clean".to_owned() });
        assert_eq!(
            outcome.sentence,
            "clean is better: held-out loss of clean minus noisy is -0.0983 bits per byte, 95 % confidence interval -0.1252 \
             to -0.0714, sign-flip p = 0.031, n = 6 paired replicates, clean lower in 6 of 6"
        );
        assert_eq!(outcome.notes.len(), 1, "{:?}", outcome.notes);
        let exchanged = compare(&results(&NOISY), &results(&CLEAN), ["noisy", "clean"]);
        assert_eq!(exchanged.verdict, outcome.verdict);
        assert!(exchanged.sentence.contains("clean lower in 6 of 6"), "{}", exchanged.sentence);
    }

    #[test]
    fn five_replicates_cannot_give_a_verdict_and_say_so() {
        let outcome = compare(&results(&CLEAN[..5]), &results(&NOISY[..5]), ["a", "b"]);
        assert_eq!(outcome.verdict, Verdict::Inconclusive);
        assert!(outcome.sentence.contains("cannot reach p < 0.05"), "{}", outcome.sentence);
        assert!(outcome.sentence.contains("about 6 replicates"), "{}", outcome.sentence);
    }

    #[test]
    fn a_small_difference_says_how_many_replicates_it_needs() {
        let second = CLEAN.map(|bits| bits + 0.02 * (bits * 1000.0).sin() + 0.005);
        let outcome = compare(&results(&CLEAN), &results(&second), ["a", "b"]);
        assert_eq!(outcome.verdict, Verdict::Inconclusive);
        let needed = outcome.metrics[0].difference.replicates_needed.unwrap();
        assert!(needed > 6 && outcome.sentence.contains(&format!("about {needed} replicates")), "{}", outcome.sentence);
        assert!(!outcome.sentence.contains("cannot reach"));
    }

    #[test]
    fn one_replicate_and_equal_arms_are_inconclusive() {
        let one = compare(&results(&[2.0]), &results(&[3.0]), ["a", "b"]);
        assert_eq!(one.verdict, Verdict::Inconclusive);
        assert!(one.sentence.contains("in one replicate"), "{}", one.sentence);
        let equal = compare(&results(&CLEAN), &results(&CLEAN), ["a", "b"]);
        assert_eq!(equal.verdict, Verdict::Inconclusive);
        assert!(equal.sentence.contains("the arms gave the same loss"), "{}", equal.sentence);
    }

    #[test]
    fn runs_that_do_not_belong_together_are_invalid() {
        let reason = |first: &[RunResult], second: &[RunResult]| match compare(first, second, ["a", "b"]).verdict {
            Verdict::Invalid { reason } => reason,
            verdict => panic!("{verdict:?}"),
        };
        let good = results(&CLEAN);
        assert!(reason(&[], &[]).contains("no runs"));
        assert!(reason(&good, &good[1..]).contains("a has 6 runs and b has 5"));
        let mut other = good.clone();
        other[2].seed = 99;
        assert!(reason(&good, &other).contains("replicate 2 have different seeds"));
        let mut other = good.clone();
        other[1].samples_seen += 1;
        assert!(reason(&good, &other).contains("differ"));
        let mut other = good.clone();
        other[3].losses[0].loss = f64::NAN;
        assert!(reason(&good, &other).contains("loss of b in replicate 3 is not finite"));
        let mut other = good.clone();
        other[0].held_out_bits_per_byte = 4.5;
        assert!(reason(&good, &other).contains("no better than guessing"));
    }

    #[test]
    fn blind_models_weak_models_and_repeats_are_noted() {
        let (first, mut second) = (results(&CLEAN), results(&NOISY));
        for run in &mut second {
            run.visual_gain = if run.seed % 2 == 0 { 0.1 } else { -0.1 };
            run.unigram_bits_per_byte = 1.0;
            run.epochs = 40.0;
        }
        let notes = compare(&first, &second, ["clean", "noisy"]).notes.join("\n");
        assert!(notes.contains("trained on noisy does not measurably use its images"), "{notes}");
        assert!(!notes.contains("trained on clean does not"));
        assert!(notes.contains("in 6 of 6 replicates the model trained on noisy is no better than the frequencies"));
        assert!(notes.contains("each of noisy 40 times"));
    }

    #[test]
    fn outcomes_survive_json() {
        let outcome = compare(&results(&CLEAN), &results(&NOISY), ["clean", "noisy"]);
        let json = serde_json::to_string(&outcome).unwrap();
        assert!(json.contains(r#""verdict":{"outcome":"better","arm":"clean"}"#), "{json}");
        assert_eq!(serde_json::from_str::<CheckOutcome>(&json).unwrap(), outcome);
    }
}
