//! Visual gain: the margin by which texts fit their own images better than others.

use super::{Column, Finding, Measure, Metric, MetricGate, OfArm};
use crate::gear::{Gear, Seen};
use crate::statistics::difference;

/// The visual gain. It also finds the wrong texts of the controls and blind models, whichever
/// metric decides.
pub const VISUAL_GAIN: Metric = Metric {
    measure: Measure {
        name: "visual_gain",
        pair_key: "gain",
        of_pair: |seen| match seen {
            Seen::Scores { own, others } => Some(own - others),
            Seen::Losses(_) => seen.mean_bits(|losses| losses.nats_wrong_picture - losses.nats),
        },
    },
    baseline: None,
    words: "visual gain",
    question: "fit",
    description: "The arm whose texts fit their images better. The visual gain decides.",
    help: "The arm whose texts fit their images better",
    higher_is_better: true,
    needs_language_model: false,
    unit,
    gate: Some(MetricGate {
        name: "looks at pictures",
        judge: |arms, gear, alpha| Some(looks_at_pictures(arms, gear, alpha)),
    }),
    note: |_| None,
    finding: "its texts fit their images better than those of",
    grows_with_quantity: true,
    limits: "It holds for these pairs and for pairs drawn like them, for a small model; it says nothing about knowledge, text in images or large models.",
    column: Column {
        key: "visual_gain",
        title: "Visual gain",
        unit,
        meaning: "Visual gain is how much better held-out texts fit their own images than others; at zero, the model does not use the images.",
    },
};

fn unit(gear: Gear) -> &'static str {
    match gear {
        Gear::Quick => "score units",
        Gear::Lynx => "bits per byte",
    }
}

/// Requires that at least one arm uses its images in every replicate. The other may be blind
/// because its texts do not fit, and that is a finding.
fn looks_at_pictures(arms: [OfArm; 2], gear: Gear, alpha: f64) -> Finding {
    let sees = |gains: &[f64]| {
        gains.iter().all(|gain| *gain > 0.0) && difference(gains, &vec![0.0; gains.len()], alpha).is_significant()
    };
    let lowest = |gains: &[f64]| gains.iter().copied().fold(f64::INFINITY, f64::min);
    let passed = arms.iter().any(|arm| sees(arm.values));
    let [first, second] = arms;
    let mut finding = format!(
        "the least visual gain of a replicate is {:+.4} {} for {} and {:+.4} for {}",
        lowest(first.values),
        unit(gear),
        first.arm,
        lowest(second.values),
        second.arm
    );
    if !passed {
        finding += "; for at least one arm it must be above 0 in every replicate, and significantly so on average; otherwise the check cannot say whose texts fit their images";
    }
    (passed, finding)
}
