//! Scaled dot-product attention with heads.

use burn::tensor::{Tensor, activation::softmax};

/// Splits the last axis of `[batch, tokens, heads · width]` into heads: `[batch, heads, tokens, width]`.
pub(super) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads]).swap_dims(1, 2)
}

/// Queries `[batch, tokens, heads · width]` divided by √width, before they are split: burn scales a whole tensor fast, one
/// with exchanged axes slowly.
pub(super) fn scaled(queries: Tensor<3>, heads: usize) -> Tensor<3> {
    let head = queries.dims()[2] / heads;
    queries.mul_scalar((head as f64).sqrt().recip())
}

/// Attends from [`scaled`] queries `[B, H, Q, W]` to keys and values `[B, H, K, W]` and joins the heads: `[B, Q, H · W]`.
///
/// `bias`, broadcast to `[B, H, Q, K]`, is added to the scores before the softmax over the keys. A row must leave at least
/// one key open.
pub(super) fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, bias: Option<Tensor<4>>) -> Tensor<3> {
    let [batch, heads, queries, width] = query.dims();
    let scores = query.matmul(key.swap_dims(2, 3));
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    let mixed = softmax(scores, 3).matmul(value);
    mixed.swap_dims(1, 2).reshape([batch, queries, heads * width])
}
