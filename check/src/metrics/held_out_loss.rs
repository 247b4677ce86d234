//! Held-out loss: the bits per byte of held-out text.

use super::{Column, Finding, Measure, Metric, MetricGate, OfArm};
use crate::gear::{Gear, MANY_EPOCHS};

/// The held-out loss. Its baseline is the loss of a model that knows token frequencies only.
pub const HELD_OUT_LOSS: Metric = Metric {
    measure: Measure { name: "held_out_loss", pair_key: "bits", of_pair: |seen| seen.mean_bits(|losses| losses.nats) },
    baseline: Some(Measure {
        name: "unigram_loss",
        pair_key: "unigram_bits",
        of_pair: |seen| seen.mean_bits(|losses| losses.nats_unigram),
    }),
    words: "held-out loss",
    question: "loss",
    description: "The arm whose texts predict held-out texts better, by images and language together. The\nheld-out loss decides. Needs a language model.",
    help: "The arm that is better for predicting held-out texts, by images and language together",
    higher_is_better: false,
    needs_language_model: true,
    unit: |_| "bits per byte",
    gate: Some(MetricGate { name: "better than token frequencies", judge: is_better_than_frequencies }),
    note: replicates_behind,
    finding: "trained on it, the model predicts held-out texts better than trained on",
    grows_with_quantity: false,
    limits: "It holds for these pairs and for pairs drawn like them, for a small model, images and language together; it says nothing about knowledge, text in images or large models.",
    column: Column {
        key: "held_out",
        title: "Held-out loss",
        unit: |_| "bits per byte",
        meaning: "The lower the held-out loss, the better the model predicts texts of unseen pairs.",
    },
};

/// Requires that in every replicate the better of the two models is better than token frequencies.
/// One of the two may fail this: texts in another language than the held-out ones teach nothing
/// about these, and that is a finding.
fn is_better_than_frequencies(arms: [OfArm; 2], _: Gear, _: f64) -> Option<Finding> {
    let [first, second] = arms;
    if first.values.is_empty() {
        return None;
    }
    let excess = |arm: OfArm, replicate: usize| {
        let unigram = arm.baseline.get(replicate).copied().unwrap_or(f64::INFINITY);
        arm.values[replicate] - unigram
    };
    let behind = (0..first.values.len().min(second.values.len()))
        .filter(|replicate| excess(first, *replicate) >= 0.0 && excess(second, *replicate) >= 0.0)
        .count();
    let epochs = first.epochs.unwrap_or(0.0).max(second.epochs.unwrap_or(0.0));
    let finding = if behind > 0 {
        let remedy = if epochs > MANY_EPOCHS {
            format!("each pair was trained on up to {epochs:.0} times; take more data or fewer steps")
        } else {
            "train for more steps".to_owned()
        };
        format!("in {behind} replicates neither model is better than the frequencies of tokens; {remedy}")
    } else {
        "in every replicate a model is better than the frequencies of tokens".to_owned()
    };
    Some((behind == 0, finding))
}

fn replicates_behind(of: OfArm) -> Option<String> {
    let behind = of.values.iter().zip(of.baseline).filter(|(loss, unigram)| loss >= unigram).count();
    (behind > 0).then(|| {
        format!(
            "in {behind} of {} replicates the model of {} is not better than the frequencies of its tokens",
            of.values.len(),
            of.arm
        )
    })
}
