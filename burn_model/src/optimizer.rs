//! AdamW with one gradient clip over all weights.
//!
//! burn's own AdamW is not used because its clipping looks at one tensor at a time, while the published recipes clip the
//! norm over all gradients, and because its state is keyed by process-random ids; here moments carry their weight's name.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::loss::sum;

/// Settings of AdamW (arXiv 1711.05101).
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub(crate) beta_1: f64,
    /// Decay of the mean of squared gradients.
    pub(crate) beta_2: f64,
    /// Added to the root of the mean of squared gradients.
    pub(crate) epsilon: f64,
    /// Share of every weight that is taken away per step, times the learning rate.
    pub(crate) weight_decay: f64,
    /// Whether only matrices decay: no biases, norms and gates.
    pub(crate) decay_matrices_alone: bool,
    /// Gradients are scaled down where their norm over all weights is larger.
    pub(crate) max_gradient_norm: f64,
}

/// Running means of one tensor's gradients and of their squares, flat.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    pub(crate) first: Tensor<1>,
    pub(crate) second: Tensor<1>,
}

/// The optimiser and its state.
#[derive(Clone, Debug)]
pub(crate) struct AdamW {
    config: AdamWConfig,
    /// Steps taken.
    pub(crate) steps: usize,
    /// By the weight's path in the model.
    pub(crate) moments: BTreeMap<String, Moments>,
}

impl AdamW {
    pub(crate) fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// Moves the weights of `model` against their gradients, those of [`gradients_of`].
    ///
    /// `rate_of` tells the learning rate of a weight by its path in the model.
    pub(crate) fn step<M: Module>(&mut self, model: M, gradients: FlatGradients, rate_of: &dyn Fn(&str) -> f64) -> M {
        // PyTorch's clip_grad_norm_ adds 1e-6, too. The norm stays on the device: reading it would wait
        // for all kernels of the step.
        let scale = global_norm(&gradients.flat)
            .map(|norm| norm.add_scalar(1e-6).recip().mul_scalar(self.config.max_gradient_norm).clamp_max(1.0));
        self.steps += 1;
        let mut update =
            Update { optimizer: self, gradients: gradients.flat.into_iter(), path: Vec::new(), rate_of, scale };
        model.map(&mut update)
    }

    /// The tensor one step on.
    fn updated(
        &mut self,
        path: String,
        is_matrix: bool,
        weight: Tensor<1>,
        gradient: Tensor<1>,
        rate: f64,
    ) -> Tensor<1> {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, .. } = self.config;
        let step = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let first = gradient.clone().mul_scalar(1.0 - beta_1);
        let second = gradient.square().mul_scalar(1.0 - beta_2);
        let (first, second) = match self.moments.remove(&path) {
            Some(old) => (old.first.mul_scalar(beta_1) + first, old.second.mul_scalar(beta_2) + second),
            None => (first, second),
        };
        let bias_1 = 1.0 - beta_1.powi(step);
        let bias_2 = 1.0 - beta_2.powi(step);
        let root = second.clone().sqrt().mul_scalar(bias_2.sqrt().recip()).add_scalar(epsilon);
        let change = (first.clone() / root).mul_scalar(rate / bias_1);
        self.moments.insert(path, Moments { first, second });
        let decay = if self.config.decay_matrices_alone && !is_matrix { 0.0 } else { weight_decay };
        weight.mul_scalar(1.0 - rate * decay) - change
    }
}

/// Norm over all tensors together, `[1]`; none without gradients.
fn global_norm(gradients: &[Option<Tensor<1>>]) -> Option<Tensor<1>> {
    let squares: Vec<Tensor<1>> = gradients.iter().flatten().map(|gradient| sum(gradient.clone().square())).collect();
    if squares.is_empty() { None } else { Some(sum(Tensor::cat(squares, 0)).sqrt()) }
}

/// Gradients of all weights, flat, in the order in which the model is visited; none where nothing in the
/// loss depends on a weight, or it is frozen.
pub(crate) struct FlatGradients {
    flat: Vec<Option<Tensor<1>>>,
}

impl FlatGradients {
    /// Adds those of another part of the batch.
    pub(crate) fn add(self, other: Self) -> Self {
        let sums = self.flat.into_iter().zip(other.flat).map(|pair| match pair {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        });
        Self { flat: sums.collect() }
    }
}

/// The gradients of a model's weights.
pub(crate) fn gradients_of<M: Module>(model: &M, gradients: Gradients) -> FlatGradients {
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

struct Update<'a> {
    optimizer: &'a mut AdamW,
    gradients: std::vec::IntoIter<Option<Tensor<1>>>,
    path: Vec<String>,
    rate_of: &'a dyn Fn(&str) -> f64,
    /// What all gradients are multiplied by, `[1]`.
    scale: Option<Tensor<1>>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (Some(gradient), Some(scale)) = (self.gradients.next().flatten(), &self.scale) else {
            return param; // nothing in the loss depends on this weight, or it is frozen
        };
        let gradient = gradient * scale.clone();
        let (id, weight, mapper) = param.consume();
        let shape = weight.dims();
        let flat = weight.inner().reshape([gradient.dims()[0]]);
        let path = self.path.join(".");
        let rate = (self.rate_of)(&path);
        let updated = self.optimizer.updated(path, D > 1, flat, gradient, rate);
        Param::from_mapped_value(id, updated.reshape(shape).autodiff().require_grad(), mapper)
    }
}
