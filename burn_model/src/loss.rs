//! Cross-entropy of the next token, in nats.

use burn::backend::flex::FlexTensor;
use burn::tensor::{IndexingUpdateOp, Int, Shape, Tensor, activation::log_softmax, activation::softmax};

use crate::operation::{self, Input, Operation, apply, change, exp, in_rows, largest, numbers, on_flex, tensor, width};

/// Returns the nats of each target: `[N, vocabulary]` scores and `[N]` token ids to `[N]`.
pub fn nats(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [count, _] = logits.dims();
    log_softmax(logits, 1).gather(1, targets.reshape([count, 1])).reshape([count]).neg()
}

/// Returns the loss `Σ weightsᵢ · natsᵢ` `[1]` and an objective whose gradient is the loss's
/// gradient.
///
/// The gradient of the loss with respect to the scores is known in closed form, (softmax − one-hot)
/// · weight. It is computed outside the tape, and burn differentiates `Σ scores · gradient`. This
/// saves the tape a log-softmax over the whole vocabulary. The value of the objective itself may
/// have no meaning.
pub fn weighted_nats(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    if on_flex(&logits) {
        let targets = targets.try_into_vec_as::<i64>().expect("token ids are integers");
        let loss: Tensor<1> = apply(WeightedNats { targets, weights: Input::from(weights).plain() }, [logits.into()]);
        return (loss.clone().inner(), loss);
    }
    composed(logits, targets, weights)
}

fn composed(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let [count, _] = logits.dims();
    let targets = targets.reshape([count, 1]);
    let weights = weights.reshape([count, 1]);
    let probabilities = softmax(logits.clone().inner(), 1);
    // Only the targets need a logarithm, so exponentials of the whole vocabulary are computed once,
    // not twice.
    let of_targets = probabilities.clone().gather(1, targets.clone()).clamp_min(f32::MIN_POSITIVE);
    let loss = sum(of_targets.log() * weights.clone()).neg();
    let expected = probabilities * weights.clone();
    let gradient = expected.scatter(1, targets, weights.neg(), IndexingUpdateOp::Add);
    (loss, sum(logits * gradient))
}

/// Returns the sum of all numbers, `[1]`, in one order on every device: on a GPU, burn's own sum
/// may add floats in the order in which threads end.
pub(crate) fn sum<const D: usize>(all: Tensor<D>) -> Tensor<1> {
    let count = all.shape().num_elements();
    all.reshape([1, count]).sum_dim(1).reshape([1])
}

/// `Σ weightsᵢ · natsᵢ`, as one operation that computes its gradient in the forward pass.
#[derive(Clone, Debug)]
struct WeightedNats {
    targets: Vec<i64>,
    weights: FlexTensor,
}

impl Operation<1> for WeightedNats {
    /// The gradient of the scores.
    type Saved = FlexTensor;

    fn forward(self, [logits]: [FlexTensor; 1]) -> (FlexTensor, FlexTensor) {
        let (vocabulary, weights) = (width(&logits), in_rows(self.weights));
        let mut loss = 0.0;
        let gradient = change(logits, |scores| {
            let (targets, weights) = (&self.targets, numbers(&weights));
            loss = pulp::Arch::new().dispatch(CrossEntropy { vocabulary, targets, weights, scores });
        });
        (tensor(vec![loss as f32], Shape::from([1])), gradient)
    }

    fn backward(self, saved: FlexTensor, gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let factor = numbers(&gradient)[0];
        [Some(change(saved, |numbers| numbers.iter_mut().for_each(|number| *number *= factor)))]
    }
}

struct CrossEntropy<'a> {
    vocabulary: usize,
    targets: &'a [i64],
    weights: &'a [f32],
    /// Scores before, their gradient afterwards.
    scores: &'a mut [f32],
}

impl pulp::WithSimd for CrossEntropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        let mut loss = 0.0;
        let rows = self.scores.chunks_exact_mut(self.vocabulary).zip(self.targets);
        for ((scores, target), weight) in rows.zip(self.weights) {
            let (target, largest) = (*target as usize, largest(scores));
            let of_target = scores[target] - largest;
            for score in scores.iter_mut() {
                *score = exp(*score - largest);
            }
            let total = operation::sum(scores, scores, |score, _| score);
            loss += f64::from(*weight) * (f64::from(total).ln() - f64::from(of_target));
            let share = weight / total;
            for score in scores.iter_mut() {
                *score *= share;
            }
            scores[target] -= weight;
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn the_loss_and_its_gradient_equal_the_composed_ones() {
        let device = Device::flex().autodiff();
        let scores: Vec<f32> = (0..4 * 13).map(|place| 4.0 * (place as f32 * 1.7).sin()).collect();
        let result = |function: fn(Tensor<2>, Tensor<1, Int>, Tensor<1>) -> (Tensor<1>, Tensor<1>)| {
            let logits: Tensor<2> = Tensor::from_data(TensorData::new(scores.clone(), [4, 13]), &device).require_grad();
            let targets: Tensor<1, Int> = Tensor::from_data([0, 12, 5, 5], &device);
            let weights: Tensor<1> = Tensor::from_data([0.5, 0.0, 2.0, 1.0], &device);
            let (loss, objective) = function(logits.clone(), targets, weights);
            // Not 1 alone: an objective may be part of another.
            let gradients = objective.mul_scalar(3.0).backward();
            (loss.into_scalar::<f32>(), logits.grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap())
        };
        let ((loss, gradient), (composed_loss, composed_gradient)) = (result(weighted_nats), result(composed));
        assert!((loss - composed_loss).abs() < 1e-5, "{loss} {composed_loss}");
        let pairs = gradient.iter().zip(&composed_gradient);
        assert!(pairs.clone().all(|(one, other)| (one - other).abs() < 1e-5), "{gradient:?} {composed_gradient:?}");
    }
}
