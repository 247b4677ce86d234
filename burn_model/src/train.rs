//! The training loop: a given number of steps, whatever the size of the arm.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::Items;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::loss::weighted_nats;
use crate::model::{Layout, Lynx, ModelConfig};
use crate::optimizer::{AdamW, AdamWConfig};
use crate::random::{Purpose, shuffled, stream};
use crate::tokenizer::Tokenizer;

/// How a model is trained. All arms of a check share it, so that they see the same number of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Steps of the optimiser. Default 200.
    pub steps: usize,
    /// Pairs per step. Default 32.
    pub batch: usize,
    /// Highest learning rate, reached after the warm-up. Default 0.002, for the default model.
    pub learning_rate: f64,
    /// Share of the steps in which the learning rate rises linearly; afterwards it falls linearly to 0. Default 0.05, as
    /// Lynx.
    pub warmup_fraction: f64,
    /// Tokens of a caption that are learned, the end token included; longer captions are cut. Default 24.
    pub max_caption_tokens: usize,
    /// Weight decay of AdamW. Default 0.05.
    pub weight_decay: f64,
    /// Gradients whose norm over all weights is larger are scaled down to it. Default 1.
    pub max_gradient_norm: f64,
    /// A checkpoint is written after every so many steps, and after the last. Default 50.
    pub checkpoint_every: usize,
    /// The result has one point of the loss curve, a mean, per so many steps. Default 10.
    pub log_every: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 200,
            batch: 32,
            learning_rate: 2e-3,
            warmup_fraction: 0.05,
            max_caption_tokens: 24,
            weight_decay: 0.05,
            max_gradient_norm: 1.0,
            checkpoint_every: 50,
            log_every: 10,
        }
    }
}

impl TrainConfig {
    /// Tells the first setting that cannot work.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("batch", self.batch),
            ("max_caption_tokens", self.max_caption_tokens),
            ("checkpoint_every", self.checkpoint_every),
            ("log_every", self.log_every),
        ];
        if let Some((setting, _)) = counts.iter().find(|(_, value)| *value == 0) {
            let reason = "it must be at least 1".to_owned();
            return Err(Error::Setting { setting, value: "0".to_owned(), reason });
        }
        let above_0 = |value: f64| value.is_finite() && value > 0.0;
        let numbers = [
            ("learning_rate", self.learning_rate, above_0(self.learning_rate), "it must be above 0"),
            ("max_gradient_norm", self.max_gradient_norm, above_0(self.max_gradient_norm), "it must be above 0"),
            (
                "weight_decay",
                self.weight_decay,
                (0.0..1.0).contains(&self.weight_decay),
                "it must be 0 or more, below 1",
            ),
            (
                "warmup_fraction",
                self.warmup_fraction,
                (0.0..=1.0).contains(&self.warmup_fraction),
                "it must be from 0 to 1",
            ),
        ];
        match numbers.iter().find(|(_, _, works, _)| !works) {
            Some((setting, value, _, reason)) => {
                Err(Error::Setting { setting, value: value.to_string(), reason: (*reason).to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Learning rate of a step, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        let steps = self.steps as f64;
        let warmup = (self.warmup_fraction * steps).ceil();
        let done = step as f64;
        if done < warmup {
            return self.learning_rate * (done + 1.0) / warmup;
        }
        self.learning_rate * (steps - done) / (steps - warmup)
    }
}

/// Which items are trained on, for all steps, one after another: every item once, shuffled, then again in another order.
fn training_order(seed: u64, items: usize, samples: usize) -> Vec<u32> {
    let mut draws = stream(seed, Purpose::Order);
    let mut order = Vec::with_capacity(samples + items);
    while order.len() < samples {
        order.extend(shuffled(&mut draws, items));
    }
    order.truncate(samples);
    order
}

/// A model in training.
pub(crate) struct Training<'a> {
    config: &'a TrainConfig,
    arm: &'a Items<'a>,
    device: Device,
    layout: Layout,
    order: Vec<u32>,
    model: Lynx,
    optimizer: AdamW,
    /// Nats per token of every step so far.
    losses: Vec<f32>,
}

impl<'a> Training<'a> {
    /// Builds the model of `seed` before its first step.
    pub(crate) fn new(
        model: &ModelConfig,
        config: &'a TrainConfig,
        tokenizer: &Tokenizer,
        arm: &'a Items<'a>,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().autodiff();
        let optimizer = AdamW::new(AdamWConfig {
            // Betas of LLaMA and of the pilot that chose the default model and learning rate.
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: config.weight_decay,
            max_gradient_norm: config.max_gradient_norm,
        });
        Ok(Self {
            config,
            arm,
            layout: Layout::causal(model, model.latents + config.max_caption_tokens, &device.clone().inner()),
            order: training_order(seed, arm.len(), config.steps * config.batch),
            model: Lynx::new(model, tokenizer.vocabulary(), seed, &device)?,
            device,
            optimizer,
            losses: Vec::new(),
        })
    }

    /// Continues from a checkpoint, if there is one.
    pub(crate) fn resume(mut self, path: &Path, fingerprint: &str) -> Result<Self> {
        let plain = self.device.clone().inner();
        (self.model, self.losses) = checkpoint::read(path, fingerprint, self.model, &mut self.optimizer, &plain)?;
        Ok(self)
    }

    /// Steps taken.
    pub(crate) fn steps(&self) -> usize {
        self.losses.len()
    }

    /// Tokens that all steps together learn from, repeats counted.
    pub(crate) fn tokens_seen(&self) -> usize {
        self.order.iter().map(|item| self.arm.captions[*item as usize].targets.len()).sum()
    }

    /// Writes a checkpoint.
    pub(crate) fn save(&self, path: &Path, fingerprint: &str) -> Result<()> {
        checkpoint::write(path, fingerprint, &self.model, &self.optimizer, &self.losses)
    }

    /// Takes one step; returns the mean nats per token of its batch.
    pub(crate) fn step(mut self) -> Self {
        let step = self.steps();
        let items = &self.order[step * self.config.batch..][..self.config.batch];
        let plain = self.device.clone().inner();
        let (targets, places) = self.arm.targets(items, &plain);
        let [count] = targets.dims();
        let weights = targets.clone().zeros_like().float().add_scalar((count as f64).recip());
        let vision = self.model.vision_tokens(self.arm.patches(items, &plain));
        let logits = self.model.logits_at(vision, self.arm.inputs(items, &plain), &self.layout, places);
        let (loss, objective) = weighted_nats(logits, targets, weights);
        let gradients = objective.backward();
        self.model = self.optimizer.step(self.model, gradients, self.config.learning_rate_at(step));
        self.losses.push(loss);
        self
    }

    /// The trained model, without gradients, and the mean nats per token of every step.
    pub(crate) fn finish(self) -> (Lynx, Vec<f32>) {
        (self.model.valid(), self.losses)
    }

    /// Mean nats per token of every step so far.
    pub(crate) fn losses(&self) -> &[f32] {
        &self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_then_falls_to_nothing() {
        let config = TrainConfig { steps: 100, learning_rate: 1.0, warmup_fraction: 0.05, ..Default::default() };
        let rates: Vec<f64> = (0..100).map(|step| config.learning_rate_at(step)).collect();
        assert!((rates[0] - 0.2).abs() < 1e-12 && (rates[4] - 1.0).abs() < 1e-12);
        assert!((rates[5] - 1.0).abs() < 1e-12 && (rates[99] - 1.0 / 95.0).abs() < 1e-12);
        assert!(rates[5..].windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn without_warm_up_and_with_warm_up_alone_every_rate_is_finite() {
        for warmup_fraction in [0.0, 1.0] {
            let config = TrainConfig { steps: 3, warmup_fraction, ..Default::default() };
            assert!((0..3).all(|step| config.learning_rate_at(step) > 0.0));
        }
    }

    #[test]
    fn every_epoch_has_every_item_once_in_another_order() {
        let order = training_order(1, 10, 25);
        assert_eq!(order.len(), 25);
        for epoch in order.chunks_exact(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
        }
        assert_ne!(order[..10], order[10..20]);
        assert_eq!(order, training_order(1, 10, 25));
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        let refusal = |config: TrainConfig| config.validate().unwrap_err().to_string();
        assert!(refusal(TrainConfig { steps: 0, ..Default::default() }).starts_with("steps = 0"));
        assert!(refusal(TrainConfig { learning_rate: 0.0, ..Default::default() }).starts_with("learning_rate = 0"));
        assert!(refusal(TrainConfig { warmup_fraction: 2.0, ..Default::default() }).starts_with("warmup_fraction = 2"));
        TrainConfig::default().validate().unwrap();
    }
}
