//! Visual gain: the margin by which texts fit their own images better than others.

use super::Metric;
use crate::fit::Gear;

/// The visual gain. It also finds the wrong texts of the controls and blind models, whichever
/// metric decides.
pub const VISUAL_GAIN: Metric = Metric {
    name: "visual_gain",
    words: "visual gain",
    question: "fit",
    description: "The arm whose texts fit their images better. The visual gain decides.",
    help: "The arm whose texts fit their images better",
    higher_is_better: true,
    needs_language_model: false,
    unit: |gear| match gear {
        Gear::Quick => "score units",
        Gear::Lynx => "bits per byte",
    },
    of_pair: |measured| Some(measured.gain),
    of_fit: |result| Some(result.visual_gain),
    finding: "its texts fit their images better than those of",
    grows_with_quantity: true,
    limits: "It holds for these pairs and for pairs drawn like them, for a small model; it says nothing about knowledge, text in images or large models.",
};
