//! Scaled dot-product attention with heads (arXiv 1706.03762).

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Shape, Tensor, activation::softmax};

use crate::operation::{Input, Operation, apply, change, exp, in_rows, largest, numbers, on_flex, sum, width};

/// Attends from queries `[B, Q, H · W]` to keys and values `[B, K, H · W]`, each head separately:
/// `[B, Q, H · W]`.
///
/// `bias`, `[1 or B, 1, Q, K]`, is added to the scores, products divided by √W, before the softmax
/// over the keys. Each row must leave at least one key unmasked.
pub(super) fn attend(
    heads: usize,
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    bias: Option<Tensor<4>>,
) -> Tensor<3> {
    if on_flex(&query) {
        let bias = bias.map(|bias| in_rows(Input::from(bias).plain()));
        let scale = scale(&query, heads) as f32;
        return apply(Attention { heads, scale, bias }, [query.into(), key.into(), value.into()]);
    }
    composed(heads, query, key, value, bias)
}

/// Returns 1 / √W.
fn scale(query: &Tensor<3>, heads: usize) -> f64 {
    ((query.dims()[2] / heads) as f64).sqrt().recip()
}

fn composed(heads: usize, query: Tensor<3>, key: Tensor<3>, value: Tensor<3>, bias: Option<Tensor<4>>) -> Tensor<3> {
    let ([batch, queries, width], scale) = (query.dims(), scale(&query, heads));
    // The query is scaled before it is split, because burn scales a contiguous tensor faster than
    // one with swapped axes.
    let scores = split_heads(query * scale, heads).matmul(split_heads(key, heads).swap_dims(2, 3));
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    let mixed = softmax(scores, 3).matmul(split_heads(value, heads));
    mixed.swap_dims(1, 2).reshape([batch, queries, width])
}

/// Turns `[batch, tokens, heads · width]` into `[batch, heads, tokens, width]`.
fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads]).swap_dims(1, 2)
}

/// Attention of all heads as one operation.
#[derive(Clone, Debug)]
struct Attention {
    heads: usize,
    scale: f32,
    bias: Option<FlexTensor>,
}

impl Operation<3> for Attention {
    /// Queries, keys and values, split into heads, and the probabilities.
    type Saved = [FlexTensor; 4];

    fn forward(self, inputs: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let [query, key, value] = inputs.map(|input| view_of_heads(&input, self.heads));
        let scores = Flex::float_matmul(query.clone(), transposed(&key));
        let shape = scores.shape();
        let (queries, keys) = (shape[2], shape[3]);
        let probabilities = change(scores, |scores| {
            let bias = self.bias.as_ref().map(numbers);
            let (heads, scale) = (self.heads, self.scale);
            pulp::Arch::new().dispatch(Softmax { heads, scale, bias, queries, keys, scores });
        });
        let mixed = Flex::float_matmul(probabilities.clone(), value.clone());
        (joined(mixed), [query, key, value, probabilities])
    }

    /// Computes gradients: with P = softmax(S), the gradient of S is P · (G − Σ P · G), where G is
    /// the gradient of P and the sum is over keys.
    fn backward(
        self,
        [query, key, value, probabilities]: Self::Saved,
        gradient: FlexTensor,
        _wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = view_of_heads(&gradient, self.heads);
        let of_probabilities = Flex::float_matmul(gradient.clone(), transposed(&value));
        let of_scores = change(of_probabilities, |gradient| {
            let (scale, keys, probabilities) = (self.scale, width(&probabilities), numbers(&probabilities));
            pulp::Arch::new().dispatch(SoftmaxSlopes { scale, keys, probabilities, gradient });
        });
        let of_key = joined(Flex::float_matmul(transposed(&of_scores), query));
        let of_value = joined(Flex::float_matmul(transposed(&probabilities), gradient));
        let of_query = joined(Flex::float_matmul(of_scores, key));
        [Some(of_query), Some(of_key), Some(of_value)]
    }
}

/// Views `[batch, tokens, heads · width]` as `[batch, heads, tokens, width]`.
fn view_of_heads(x: &FlexTensor, heads: usize) -> FlexTensor {
    let shape = x.shape();
    let (batch, tokens, width) = (shape[0], shape[1], shape[2] / heads);
    let layout = x.layout();
    let [of_batch, of_token, of_number] = [layout.strides()[0], layout.strides()[1], layout.strides()[2]];
    let strides = vec![of_batch, width as isize * of_number, of_token, of_number];
    let layout = Layout::new(Shape::from([batch, heads, tokens, width]), strides, layout.start_offset());
    x.clone().with_layout(layout)
}

/// Turns `[batch, heads, tokens, width]` into `[batch, tokens, heads · width]`.
fn joined(x: FlexTensor) -> FlexTensor {
    let shape = x.shape();
    let side_by_side = x.layout().transpose(1, 2);
    let x = x.with_layout(side_by_side).to_contiguous();
    x.with_layout(Layout::contiguous(Shape::from([shape[0], shape[2], shape[1] * shape[3]])))
}

/// Swaps the last two axes.
fn transposed(x: &FlexTensor) -> FlexTensor {
    x.clone().with_layout(x.layout().transpose(2, 3))
}

struct Softmax<'a> {
    heads: usize,
    scale: f32,
    /// Bias of every sequence, or one for all, `queries · keys`.
    bias: Option<&'a [f32]>,
    queries: usize,
    keys: usize,
    /// Products before, probabilities afterwards.
    scores: &'a mut [f32],
}

impl pulp::WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let size = self.queries * self.keys;
        for (place, scores) in self.scores.chunks_exact_mut(size).enumerate() {
            if let Some(bias) = self.bias {
                let bias = &bias[place / self.heads * size % bias.len()..][..size];
                for (score, bias) in scores.iter_mut().zip(bias) {
                    *score = *score * self.scale + bias;
                }
            } else {
                for score in scores.iter_mut() {
                    *score *= self.scale;
                }
            }
            for row in scores.chunks_exact_mut(self.keys) {
                let largest = largest(row);
                for score in row.iter_mut() {
                    *score = exp(*score - largest);
                }
                let share = sum(row, row, |score, _| score).recip();
                for score in row.iter_mut() {
                    *score *= share;
                }
            }
        }
    }
}

struct SoftmaxSlopes<'a> {
    scale: f32,
    keys: usize,
    probabilities: &'a [f32],
    /// Gradient of the probabilities before, of the products afterwards.
    gradient: &'a mut [f32],
}

impl pulp::WithSimd for SoftmaxSlopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let rows = self.probabilities.chunks_exact(self.keys).zip(self.gradient.chunks_exact_mut(self.keys));
        for (probabilities, gradient) in rows {
            let mean = sum(probabilities, gradient, |probability, gradient| probability * gradient);
            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                *gradient = probability * (*gradient - mean) * self.scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::operation::tests::assert_same;

    #[test]
    fn attention_and_its_gradients_equal_the_composed_ones() {
        let shapes = [[3, 5, 8], [3, 11, 8], [3, 11, 8]];
        assert_same(
            shapes,
            |[query, key, value]| attend(2, query, key, value, None),
            |[query, key, value]| composed(2, query, key, value, None),
        );
        for sequences in [1, 3] {
            let place_is_open = |place| place % 11 == 0 || place % 3 > 0;
            let bias = (0..sequences * 55).map(|place| if place_is_open(place) { 0.0 } else { f32::MIN });
            let bias = TensorData::new(bias.collect(), [sequences, 1, 5, 11]);
            let bias: Tensor<4> = Tensor::from_data(bias, &Device::flex());
            assert_same(
                shapes,
                |[query, key, value]| attend(2, query, key, value, Some(bias.clone())),
                |[query, key, value]| composed(2, query, key, value, Some(bias.clone())),
            );
        }
    }
}
