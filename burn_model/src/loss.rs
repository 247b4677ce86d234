//! Cross-entropy of the next token, in nats.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, activation::log_softmax, activation::softmax};

/// Nats of each target: `[N, vocabulary]` scores and `[N]` token ids to `[N]`.
pub(crate) fn nats(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [count, _] = logits.dims();
    log_softmax(logits, 1).gather(1, targets.reshape([count, 1])).reshape([count]).neg()
}

/// The loss `Σ weightsᵢ · natsᵢ` `[1]` and an objective whose gradient is the loss's gradient.
///
/// The gradient of the loss with respect to the scores is known in closed form, (softmax − one-hot) · weight. Forming it
/// outside the tape and handing burn `Σ scores · gradient` to differentiate spares the tape a logarithm of a softmax over
/// the whole vocabulary; only the value of the objective means nothing.
pub(crate) fn weighted_nats(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let [count, _] = logits.dims();
    let targets = targets.reshape([count, 1]);
    let weights = weights.reshape([count, 1]);
    let probabilities = softmax(logits.clone().inner(), 1);
    // A logarithm of the targets alone: exponentials of the whole vocabulary once, not twice.
    let of_targets = probabilities.clone().gather(1, targets.clone()).clamp_min(f32::MIN_POSITIVE);
    let loss = sum(of_targets.log() * weights.clone()).neg();
    let expected = probabilities * weights.clone();
    let gradient = expected.scatter(1, targets, weights.neg(), IndexingUpdateOp::Add);
    (loss, sum(logits * gradient))
}

/// The sum of all numbers, `[1]`, in one order on every device: burn's own sum may add floats of a GPU
/// in the order in which its threads end.
pub(crate) fn sum<const D: usize>(numbers: Tensor<D>) -> Tensor<1> {
    let count = numbers.shape().num_elements();
    numbers.reshape([1, count]).sum_dim(1).reshape([1])
}
