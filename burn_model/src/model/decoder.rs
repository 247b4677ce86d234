//! The decoder: a small LLaMA with an adapter after every n-th layer.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, module::embedding};

use super::activation::{silu, silu_gate};
use super::attention::attend;
use super::config::{Fusion, ModelConfig};
use super::cross_attention::CrossAttention;
use super::initial::{DEVIATION, Initial};
use super::linear::Linear;
use super::norm::{LayerNorm, RmsNorm};
use super::rotary;
use crate::operation::on_flex;

/// The positions of the tokens of a batch, and the tokens that each may attend to.
///
/// It depends on shapes and padding only, so one layout serves every batch of one shape.
#[derive(Clone, Debug)]
pub struct Layout {
    /// `[rows, tokens, heads · head width]`, in every head in rotate-half order: the angles of its
    /// first half repeat in its second.
    cosine: Tensor<3>,
    sine: Tensor<3>,
    /// `[head width, head width]`: `x · half_turn` is `x` with its halves swapped and the new first
    /// half negated.
    half_turn: Tensor<2>,
    /// `[rows, 1, tokens, all tokens]`: 0 where a token may attend, the most negative number
    /// elsewhere.
    bias: Tensor<4>,
}

impl Layout {
    /// Returns the layout of sequences whose padding, if any, comes after all real tokens: token i
    /// is at position i and attends to itself and the tokens before it, so no real token attends to
    /// padding.
    pub fn causal(config: &ModelConfig, tokens: usize, device: &Device) -> Self {
        Self::new(config, &[(0..tokens).collect()], &[vec![true; tokens]], device)
    }

    /// Returns the layout of sequences with padding anywhere: `positions` and `real` have one row
    /// per sequence (or one for all), with one entry per token, tokens of the prefix included. Only
    /// a padding token itself attends to it.
    ///
    /// If `positions` has fewer entries than `real`, it is the layout of the last tokens only. They
    /// follow tokens that are already in a [`Cache`].
    pub fn new(config: &ModelConfig, positions: &[Vec<usize>], real: &[Vec<bool>], device: &Device) -> Self {
        let (rows, tokens, all) = (positions.len(), positions[0].len(), real[0].len());
        let head = config.decoder_dim / config.decoder_heads;
        let half = head / 2;
        let mut angles = Vec::with_capacity(rows * tokens * config.decoder_dim);
        for position in positions.iter().flatten() {
            for pair in (0..config.decoder_dim).map(|place| place % half) {
                // RoFormer, arXiv 2104.09864: pair i turns by position · base^(-2i / width).
                let frequency = config.rope_base.powf(-2.0 * pair as f64 / head as f64);
                angles.push(*position as f64 * frequency);
            }
        }
        let mut bias = Vec::with_capacity(real.len() * tokens * all);
        for row in real {
            for from in all - tokens..all {
                bias.extend((0..all).map(|to| {
                    let open = to == from || (to < from && row[to]);
                    if open { 0.0 } else { f32::MIN }
                }));
            }
        }
        let mut half_turn = vec![0.0_f32; head * head];
        for i in 0..half {
            half_turn[(i + half) * head + i] = -1.0;
            half_turn[i * head + i + half] = 1.0;
        }
        let shape = [rows, tokens, config.decoder_dim];
        let table = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), device);
        Self {
            cosine: table(angles.iter().map(|angle| angle.cos() as f32).collect()),
            sine: table(angles.iter().map(|angle| angle.sin() as f32).collect()),
            half_turn: Tensor::from_data(TensorData::new(half_turn, [head, head]), device),
            bias: Tensor::from_data(TensorData::new(bias, [real.len(), 1, tokens, all]), device),
        }
    }

    /// Rotates every pair of `[B, T, H · W]` by its token's position; `x` has the last T tokens of
    /// the layout, and at most as many heads as the decoder.
    pub(super) fn rotate(&self, x: Tensor<3>) -> Tensor<3> {
        if on_flex(&x) {
            let [_, tokens, width] = x.dims();
            // All heads have the same angles.
            let table = |table: &Tensor<3>| first(last(table.clone(), 1, tokens), 2, width);
            return rotary::rotate(self.half_turn.dims()[0], x, table(&self.cosine), table(&self.sine));
        }
        self.composed_rotate(x)
    }

    pub(super) fn composed_rotate(&self, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        // All heads have the same angles.
        let of_last = |table: &Tensor<3>| first(last(table.clone(), 1, shape[1]), 2, shape[2]);
        let head = self.half_turn.dims()[0];
        // One matrix product for all heads, and tables as wide as all heads: contiguous memory is
        // fast.
        let rows = shape.iter().product::<usize>() / head;
        let turned = x.clone().reshape([rows, head]).matmul(self.half_turn.clone()).reshape(shape);
        x * of_last(&self.cosine) + turned * of_last(&self.sine)
    }
}

/// Returns the last `count` places of an axis.
fn last<const D: usize>(x: Tensor<D>, axis: usize, count: usize) -> Tensor<D> {
    let all = x.dims()[axis];
    if count == all { x } else { x.narrow(axis, all - count, count) }
}

/// Returns the first `count` places of an axis.
fn first<const D: usize>(x: Tensor<D>, axis: usize, count: usize) -> Tensor<D> {
    if count == x.dims()[axis] { x } else { x.narrow(axis, 0, count) }
}

/// Keys and values of the tokens that a decoder has read, so that each is computed only once during
/// generation.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// Keys, rotated by their positions, and values of each layer, `[B, tokens, H · W]` each.
    layers: Vec<(Tensor<3>, Tensor<3>)>,
}

impl Cache {
    /// Returns whether no token was read.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Keeps the sequences with the numbers `rows` `[B]`, in that order; they may be repeated.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        for (key, value) in &mut self.layers {
            *key = key.clone().select(0, rows.clone());
            *value = value.clone().select(0, rows.clone());
        }
    }

    /// Appends keys and values of new tokens to those of a layer; returns those of all tokens.
    fn extend(&mut self, layer: usize, key: Tensor<3>, value: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        if let Some((keys, values)) = self.layers.get_mut(layer) {
            *keys = Tensor::cat(vec![keys.clone(), key], 1);
            *values = Tensor::cat(vec![values.clone(), value], 1);
        } else {
            self.layers.push((key, value));
        }
        self.layers[layer].clone()
    }
}

/// Embeds tokens, runs the layers and scores the next token.
#[derive(Module, Debug)]
pub struct Decoder {
    embed_tokens: Param<Tensor<2>>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// The output layer; `None` if the embeddings also score the vocabulary.
    lm_head: Option<Linear>,
}

impl Decoder {
    pub(super) fn new(config: &ModelConfig, vocabulary: usize, initial: &mut Initial) -> Self {
        let width = config.decoder_dim;
        Self {
            embed_tokens: initial.normal([vocabulary, width], config.embedding_deviation),
            layers: (0..config.decoder_depth).map(|layer| Layer::new(config, layer, initial)).collect(),
            norm: RmsNorm::new(width, config.rms_epsilon, initial),
            lm_head: (!config.tied_embeddings).then(|| initial.linear(width, vocabulary, false, config.head_deviation)),
        }
    }

    /// Turns `[B, T]` token ids into `[B, T, decoder_dim]`.
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.embed_tokens.val(), ids)
    }

    /// Runs embedded tokens `[B, T, decoder_dim]` through all layers, without the last norm.
    /// Returns the last `wanted` tokens: `[B, wanted, decoder_dim]`.
    ///
    /// `vision` `[B, latents, decoder_dim]` is the input of the cross-attention. With a cache, the
    /// tokens follow those in it and are added to it; `layout` must then be that of these tokens.
    pub fn forward(
        &self,
        mut x: Tensor<3>,
        vision: &Tensor<3>,
        layout: &Layout,
        wanted: usize,
        mut cache: Option<&mut Cache>,
    ) -> Tensor<3> {
        let [_, tokens, _] = x.dims();
        for (place, layer) in self.layers.iter().enumerate() {
            // In the last layer, the other tokens serve as keys and values only.
            let wanted = if place + 1 == self.layers.len() { wanted } else { tokens };
            let cache = cache.as_deref_mut().map(|cache| (cache, place));
            x = layer.forward(x, vision, layout, wanted, cache);
        }
        x
    }

    /// Returns the scores of the next token, before the softmax: `[…, decoder_dim]` to `[…,
    /// vocabulary]`.
    pub fn logits<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let x = self.norm.forward(x);
        if let Some(head) = &self.lm_head {
            return head.forward(x);
        }
        let mut shape = x.dims();
        let rows = shape[..D - 1].iter().product::<usize>();
        let embeddings = self.embed_tokens.val();
        let [vocabulary, width] = embeddings.dims();
        shape[D - 1] = vocabulary;
        x.reshape([rows, width]).matmul(embeddings.transpose()).reshape(shape)
    }
}

/// Attention and gated feed-forward layer, each after a norm and beside a residual, then an
/// optional adapter; before all of it optional cross-attention.
#[derive(Module, Debug)]
struct Layer {
    cross_attention: Option<CrossAttention>,
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
    output_adapter: Option<Adapter>,
}

impl Layer {
    fn new(config: &ModelConfig, layer: usize, initial: &mut Initial) -> Self {
        let width = config.decoder_dim;
        let prefix = config.fusion == Fusion::Prefix;
        let adapted = prefix && config.adapter_every > 0 && layer.is_multiple_of(config.adapter_every);
        let crossed = !prefix && layer.is_multiple_of(config.cross_attention_every);
        Self {
            cross_attention: crossed.then(|| CrossAttention::new(config, initial)),
            input_layernorm: RmsNorm::new(width, config.rms_epsilon, initial),
            self_attn: Attention::new(config, initial),
            post_attention_layernorm: RmsNorm::new(width, config.rms_epsilon, initial),
            mlp: FeedForward::new(config, initial),
            output_adapter: adapted.then(|| Adapter::new(width, initial)),
        }
    }

    /// Returns the last `wanted` tokens after each has seen all tokens that it may attend to.
    fn forward(
        &self,
        x: Tensor<3>,
        vision: &Tensor<3>,
        layout: &Layout,
        wanted: usize,
        cache: Option<(&mut Cache, usize)>,
    ) -> Tensor<3> {
        let x = match &self.cross_attention {
            Some(cross) => cross.forward(x, vision),
            None => x,
        };
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), layout, wanted, cache);
        let x = last(x, 1, wanted) + attended;
        let x = x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x));
        match &self.output_adapter {
            Some(adapter) => adapter.forward(x),
            None => x,
        }
    }
}

/// Causal self-attention with rotary positions; groups of heads may share keys and values.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: usize,
    key_value_heads: usize,
}

impl Attention {
    fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let (width, heads, shared) = (config.decoder_dim, config.decoder_heads, config.key_value_heads());
        let narrow = width / heads * shared;
        let bias = config.decoder_bias;
        Self {
            q_proj: initial.decoder_linear(config, width, width, bias),
            k_proj: initial.decoder_linear(config, width, narrow, bias),
            v_proj: initial.decoder_linear(config, width, narrow, bias),
            o_proj: initial.decoder_linear(config, width, width, false),
            heads,
            key_value_heads: shared,
        }
    }

    /// Returns the last `wanted` tokens after each has seen all tokens that it may attend to.
    fn forward(&self, x: Tensor<3>, layout: &Layout, wanted: usize, cache: Option<(&mut Cache, usize)>) -> Tensor<3> {
        let asking = last(x.clone(), 1, wanted);
        let query = layout.rotate(self.q_proj.forward(asking));
        let mut key = layout.rotate(self.k_proj.forward(x.clone()));
        let mut value = self.v_proj.forward(x);
        if let Some((cache, layer)) = cache {
            (key, value) = cache.extend(layer, key, value);
        }
        let shared = self.key_value_heads;
        let [key, value] = [key, value].map(|x| for_each_head(x, shared, self.heads / shared));
        let bias = last(layout.bias.clone(), 2, wanted);
        self.o_proj.forward(attend(self.heads, query, key, value, Some(bias)))
    }
}

/// Repeats each of `heads` heads of `[B, T, heads · W]` for the `each` heads that share it:
/// `[B, T, heads · each · W]`.
fn for_each_head(shared: Tensor<3>, heads: usize, each: usize) -> Tensor<3> {
    if each == 1 {
        return shared;
    }
    let [batch, tokens, width] = shared.dims();
    let head = width / heads;
    let apart = shared.reshape([batch, tokens, heads, 1, head]).expand([batch, tokens, heads, each, head]);
    apart.reshape([batch, tokens, heads * each * head])
}

/// SwiGLU (arXiv 2002.05202), as in LLaMA.
#[derive(Module, Debug)]
struct FeedForward {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    fn new(config: &ModelConfig, initial: &mut Initial) -> Self {
        let (width, hidden) = (config.decoder_dim, config.decoder_mlp_dim);
        Self {
            gate: initial.decoder_linear(config, width, hidden, false),
            up: initial.decoder_linear(config, width, hidden, false),
            down: initial.decoder_linear(config, hidden, width, false),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.down.forward(silu_gate(self.gate.forward(x.clone()), self.up.forward(x)))
    }
}

/// Lynx's adapter: a bottleneck of half the width beside a residual, after the whole layer. Its
/// initial output is not zero.
#[derive(Module, Debug)]
struct Adapter {
    norm: LayerNorm,
    down: Linear,
    up: Linear,
    scaling: Param<Tensor<1>>,
}

impl Adapter {
    /// Epsilon of the adapter's layer norm, PyTorch's default.
    const EPSILON: f64 = 1e-5;

    fn new(width: usize, initial: &mut Initial) -> Self {
        Self {
            norm: LayerNorm::new(width, Self::EPSILON, initial),
            down: initial.linear(width, width / 2, true, DEVIATION),
            up: initial.linear(width / 2, width, true, DEVIATION),
            scaling: initial.constant([1], 1.0),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = silu(self.down.forward(self.norm.forward(x.clone())));
        x + self.up.forward(hidden) * self.scaling.val().unsqueeze()
    }
}
