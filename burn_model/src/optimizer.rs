//! AdamW with one gradient clip over all weights.
//!
//! burn's own AdamW is not used because it clips one tensor at a time, while the published recipes
//! clip the norm over all gradients, and because its state is keyed by process-random ids; here
//! moments carry their weight's name.

use std::collections::BTreeMap;

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::loss;
use crate::operation::{Input, change_all, in_rows, numbers, on_flex, sum};

/// Settings of AdamW (arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients.
    pub beta_2: f64,
    /// Added to the root of the mean of squared gradients.
    pub epsilon: f64,
    /// Fraction of every weight that is subtracted per step, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Whether only matrices decay, not biases, norms and gates.
    pub decay_matrices_alone: bool,
    /// Gradients are scaled down where their norm over all weights is larger.
    pub max_gradient_norm: f64,
}

/// Running means of one tensor's gradients and of their squares, flat.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor<1>,
    pub(crate) second: Tensor<1>,
}

/// The optimiser and its state.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Steps taken.
    pub(crate) steps: usize,
    /// Moments by the path of the weight in the model.
    pub(crate) moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Begins without moments.
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// Moves the weights of `model` against their gradients, those of [`gradients_of`].
    ///
    /// `rate_of` returns the learning rate of a weight from its path in the model.
    pub fn step<M: Module>(&mut self, model: M, gradients: FlatGradients, rate_of: &dyn Fn(&str) -> f64) -> M {
        let scale = Scale::to(self.config.max_gradient_norm, &gradients.flat);
        self.steps += 1;
        let mut update =
            Updated { optimizer: self, gradients: gradients.flat.into_iter(), path: Vec::new(), rate_of, scale };
        model.map(&mut update)
    }

    /// Returns the weights after one step.
    fn updated(
        &mut self,
        path: String,
        is_matrix: bool,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        scale: f64,
        rate: f64,
    ) -> Tensor<1> {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, .. } = self.config;
        let step = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let bias_1 = 1.0 - beta_1.powi(step);
        let bias_2 = 1.0 - beta_2.powi(step);
        let decay = if self.config.decay_matrices_alone && !is_matrix { 0.0 } else { weight_decay };
        if on_flex(&weight) {
            let old = self.moments.remove(&path);
            let old = old.unwrap_or_else(|| Moments { first: gradient.zeros_like(), second: gradient.zeros_like() });
            let state = [weight, old.first, old.second].map(|tensor| Input::from(tensor).plain());
            let gradient = in_rows(Input::from(gradient).plain());
            let changed = change_all(state, |[weights, first, second]| {
                pulp::Arch::new().dispatch(Update {
                    first_decay: beta_1 as f32,
                    second_decay: beta_2 as f32,
                    first_gain: ((1.0 - beta_1) * scale) as f32,
                    second_gain: ((1.0 - beta_2) * scale * scale) as f32,
                    root_gain: bias_2.sqrt().recip() as f32,
                    epsilon: epsilon as f32,
                    rate: (rate / bias_1) as f32,
                    keep: (1.0 - rate * decay) as f32,
                    gradient: numbers(&gradient),
                    state: [weights, first, second],
                });
            });
            let [weight, first, second] = changed.map(Tensor::from_primitive::<Flex>);
            self.moments.insert(path, Moments { first, second });
            return weight;
        }
        let first = gradient.clone().mul_scalar((1.0 - beta_1) * scale);
        let second = gradient.square().mul_scalar((1.0 - beta_2) * scale * scale);
        let (first, second) = match self.moments.remove(&path) {
            Some(old) => (old.first.mul_scalar(beta_1) + first, old.second.mul_scalar(beta_2) + second),
            None => (first, second),
        };
        let root = second.clone().sqrt().mul_scalar(bias_2.sqrt().recip()).add_scalar(epsilon);
        let change = (first.clone() / root).mul_scalar(rate / bias_1);
        self.moments.insert(path, Moments { first, second });
        weight.mul_scalar(1.0 - rate * decay) - change
    }
}

/// The factor of gradients, so that their norm over all weights is not too large.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Scale {
    /// A number, on the processor.
    Known(f64),
    /// Elsewhere `[1]`, still on the device: reading it would wait for all kernels of the step.
    OnDevice(Tensor<1>),
}

impl Scale {
    /// Returns the factor that scales gradients down to a norm. It adds 1e-6, as PyTorch's
    /// clip_grad_norm_ does.
    fn to(largest: f64, gradients: &[Option<Tensor<1>>]) -> Self {
        if gradients.iter().flatten().all(on_flex) {
            let squares = |gradient: &Tensor<1>| {
                let gradient = in_rows(Input::from(gradient.clone()).plain());
                pulp::Arch::new().dispatch(Squares(numbers(&gradient)))
            };
            let norm = gradients.iter().flatten().map(squares).sum::<f64>().sqrt();
            return Self::Known((largest / (norm + 1e-6)).min(1.0));
        }
        let squares = gradients.iter().flatten().map(|gradient| loss::sum(gradient.clone().square()));
        let norm = loss::sum(Tensor::cat(squares.collect(), 0)).sqrt();
        Self::OnDevice(norm.add_scalar(1e-6).recip().mul_scalar(largest).clamp_max(1.0))
    }
}

/// One step of AdamW for the weights of one tensor, in one pass over memory.
struct Update<'a> {
    first_decay: f32,
    second_decay: f32,
    first_gain: f32,
    second_gain: f32,
    root_gain: f32,
    epsilon: f32,
    rate: f32,
    keep: f32,
    gradient: &'a [f32],
    /// Weights, means of gradients and means of their squares.
    state: [&'a mut [f32]; 3],
}

impl pulp::WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let [weights, first, second] = self.state;
        let moments = first.iter_mut().zip(second);
        for ((weight, (first, second)), gradient) in weights.iter_mut().zip(moments).zip(self.gradient) {
            *first = *first * self.first_decay + gradient * self.first_gain;
            *second = *second * self.second_decay + gradient * gradient * self.second_gain;
            let root = second.sqrt() * self.root_gain + self.epsilon;
            *weight = *weight * self.keep - *first / root * self.rate;
        }
    }
}

/// Sum of squares, in parts that are short enough for f32.
struct Squares<'a>(&'a [f32]);

impl pulp::WithSimd for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        self.0.chunks(4096).map(|part| f64::from(sum(part, part, |x, y| x * y))).sum()
    }
}

/// Gradients of all weights, flat, in the order in which the model is visited; `None` where the
/// loss does not depend on a weight, or it is frozen.
pub struct FlatGradients {
    flat: Vec<Option<Tensor<1>>>,
}

impl IntoIterator for FlatGradients {
    type Item = Option<Tensor<1>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.flat.into_iter()
    }
}

impl FlatGradients {
    /// Multiplies all gradients by a factor.
    pub(crate) fn times(self, factor: f32) -> Self {
        let flat = self.flat.into_iter().map(|gradient| gradient.map(|gradient| gradient.mul_scalar(factor)));
        Self { flat: flat.collect() }
    }

    /// Adds the gradients of another part of the batch.
    pub(crate) fn add(self, other: Self) -> Self {
        let sums = self.flat.into_iter().zip(other.flat).map(|pair| match pair {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        });
        Self { flat: sums.collect() }
    }
}

/// Returns the gradients of a model's weights.
pub fn gradients_of<M: Module>(model: &M, gradients: Gradients) -> FlatGradients {
    let mut collected = Collected { gradients, flat: Vec::new() };
    model.visit(&mut collected);
    FlatGradients { flat: collected.flat }
}

struct Collected {
    gradients: Gradients,
    flat: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Collected {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(&mut self.gradients);
        self.flat.push(gradient.map(|gradient| {
            let count = gradient.shape().num_elements();
            gradient.reshape([count])
        }));
    }
}

struct Updated<'a> {
    optimizer: &'a mut AdamW,
    gradients: std::vec::IntoIter<Option<Tensor<1>>>,
    path: Vec<String>,
    rate_of: &'a dyn Fn(&str) -> f64,
    scale: Scale,
}

impl ModuleMapper for Updated<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.next().flatten() else {
            return param; // nothing in the loss depends on this weight, or it is frozen
        };
        let (gradient, scale) = match &self.scale {
            Scale::Known(scale) => (gradient, *scale),
            Scale::OnDevice(scale) => (gradient * scale.clone(), 1.0),
        };
        let (id, weight, mapper) = param.consume();
        let shape = weight.dims();
        let flat = weight.inner().reshape([gradient.dims()[0]]);
        let path = self.path.join(".");
        let rate = (self.rate_of)(&path);
        let updated = self.optimizer.updated(path, D > 1, flat, gradient, scale, rate);
        Param::from_mapped_value(id, updated.reshape(shape).autodiff().require_grad(), mapper)
    }
}
