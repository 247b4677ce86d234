//! Initial weights, drawn on the host in the order in which the model is built.
//!
//! burn initialises lazily from a process-wide generator, so two models of one seed could differ,
//! depending on what ran before. Here every weight comes from one ChaCha stream: a seed gives the
//! same model on every device and in every process.

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::config::ModelConfig;
use super::linear::{Linear, Lora};
use crate::random::{Purpose, stream, unit};

/// Standard deviation of the weights of transformer layers, as in LLaMA, EVA and Lynx's adapters.
pub(super) const DEVIATION: f64 = 0.02;

/// Words of 32 bits that a draw of [`unit`] takes from the stream.
const WORDS: u128 = 2;

/// Draws the weights of one model.
pub(super) struct Initial<'a> {
    draws: ChaCha8Rng,
    device: &'a Device,
}

impl<'a> Initial<'a> {
    /// Starts the stream of a seed.
    pub(super) fn new(seed: u64, device: &'a Device) -> Self {
        Self { draws: stream(seed, Purpose::Weights), device }
    }

    /// Returns normally distributed weights with mean 0.
    pub(super) fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f64) -> Param<Tensor<D>> {
        let count = shape.iter().product::<usize>();
        self.drawn(shape, count.next_multiple_of(2), move |draws| {
            let mut values = Vec::with_capacity(count + 1);
            while values.len() < count {
                // Box and Muller: two independent normal draws from two uniform ones.
                let radius = deviation * (-2.0 * unit(draws).ln()).sqrt();
                let (sine, cosine) = (std::f64::consts::TAU * unit(draws)).sin_cos();
                values.push((radius * cosine) as f32);
                values.push((radius * sine) as f32);
            }
            values.truncate(count);
            values
        })
    }

    /// Returns uniformly distributed weights between `-limit` and `limit`.
    pub(super) fn uniform<const D: usize>(&mut self, shape: [usize; D], limit: f64) -> Param<Tensor<D>> {
        let count = shape.iter().product::<usize>();
        self.drawn(shape, count, move |draws| (0..count).map(|_| ((2.0 * unit(draws) - 1.0) * limit) as f32).collect())
    }

    /// Returns weights that take `units` draws. They are drawn at the first access, see [`Draw`],
    /// and never if pretrained weights replace them. Weights of later layers do not depend on that.
    fn drawn<const D: usize>(
        &mut self,
        shape: [usize; D],
        units: usize,
        draw: impl FnOnce(&mut ChaCha8Rng) -> Vec<f32> + Send + Sync + 'static,
    ) -> Param<Tensor<D>> {
        let mut draws = self.draws.clone();
        self.draws.set_word_pos(draws.get_word_pos() + WORDS * units as u128);
        let weights = move |device: &Device, require_grad: bool| {
            let data = TensorData::new(draw(&mut draws), shape);
            let weights = device.memory_persistent_allocations(data, |data| Tensor::from_data(data, device));
            weights.set_require_grad(require_grad)
        };
        Param::uninitialized(ParamId::new(), weights, self.device.clone(), true, shape.into())
    }

    /// Returns weights that all have the same value.
    pub(super) fn constant<const D: usize>(&self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.weights(vec![value; shape.iter().product()], shape)
    }

    /// Returns a linear layer with normal weights and, if there is a bias, zeros in it.
    pub(super) fn linear(&mut self, inputs: usize, outputs: usize, bias: bool, deviation: f64) -> Linear {
        let weight = self.normal([inputs, outputs], deviation);
        Linear { weight, bias: bias.then(|| self.constant([outputs], 0.0)), lora: None }
    }

    /// Returns a linear layer with weights (and bias) uniform within 1/√inputs, PyTorch's default,
    /// which Lynx keeps for its resampler and its patch embedding.
    pub(super) fn uniform_linear(&mut self, inputs: usize, outputs: usize, bias: bool) -> Linear {
        let limit = (inputs as f64).sqrt().recip();
        let weight = self.uniform([inputs, outputs], limit);
        Linear { weight, bias: bias.then(|| self.uniform([outputs], limit)), lora: None }
    }

    /// Returns a linear layer of the decoder, with a low-rank change if the configuration asks for
    /// it.
    ///
    /// The change begins with uniform weights within 1/√inputs and zeros, as in Hugging Face's
    /// peft.
    pub(super) fn decoder_linear(&mut self, config: &ModelConfig, inputs: usize, outputs: usize, bias: bool) -> Linear {
        let rank = config.lora_rank;
        let mut linear = self.linear(inputs, outputs, bias, DEVIATION);
        linear.lora = (rank > 0).then(|| Lora {
            down: self.uniform([inputs, rank], (inputs as f64).sqrt().recip()),
            up: self.constant([rank, outputs], 0.0),
            scale: config.lora_alpha / rank as f64,
        });
        linear
    }

    fn weights<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), self.device)
    }
}

/// Accesses all weights of a model, so that they are drawn.
pub(super) struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}
