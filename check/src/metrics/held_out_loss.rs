//! Held-out loss: the bits per byte of held-out text.

use super::Metric;

/// The held-out loss.
pub const HELD_OUT_LOSS: Metric = Metric {
    name: "held_out_loss",
    words: "held-out loss",
    question: "loss",
    description: "The arm whose texts predict held-out texts better, by images and language together. The\nheld-out loss decides. Needs a language model.",
    help: "The arm that is better for predicting held-out texts, by images and language together",
    higher_is_better: false,
    needs_language_model: true,
    unit: |_| "bits per byte",
    of_pair: |measured| measured.bits,
    of_fit: |result| result.held_out_loss,
    finding: "trained on it, the model predicts held-out texts better than trained on",
    grows_with_quantity: false,
    limits: "It holds for these pairs and for pairs drawn like them, for a small model, images and language together; it says nothing about knowledge, text in images or large models.",
};
