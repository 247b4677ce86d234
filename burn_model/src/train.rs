//! The training loop: a given number of steps, independent of the size of the arm.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::average::Average;
use crate::batch::{Items, Seen};
use crate::checkpoint;
use crate::crop::Crop;
use crate::data::Shown;
use crate::error::{Error, Result};
use crate::loss::weighted_nats;
use crate::model::{Layout, Lynx, ModelConfig};
use crate::optimizer::{AdamW, AdamWConfig, FlatGradients};
use crate::part::{Part, freeze};
use crate::precision::Precision;
use crate::random::{Purpose, stream};
use crate::saved;
use crate::schedule::batches;
use crate::weights::{self, Pretrained};

/// The shape of the fall of the learning rate after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// A straight line to 0.
    #[default]
    Linear,
    /// Half a cosine to 0 (arXiv 1608.03983).
    Cosine,
}

/// Settings for training a model. All arms of a check share it, so that they learn from the same
/// number of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Steps of the optimiser. Default 200, two epochs of 1,300 captions: 250 do not separate noisy
    /// captions from clean ones better, and in seven epochs a model memorises so small an arm.
    pub steps: usize,
    /// Tokens per step that the loss counts: those of captions or answers and their end tokens; at
    /// least `max_tokens`. This is a mean over all steps, exact to within one example. Default 175,
    /// about 16 captions: more steps of fewer tokens learn more in the same time.
    pub tokens_per_step: usize,
    /// Highest learning rate, reached after the warm-up. Default 0.004, for the default model.
    pub learning_rate: f64,
    /// Fraction of the steps in which the learning rate rises linearly; afterwards it falls to 0.
    /// Default 0.05, as in Lynx.
    pub warmup_fraction: f64,
    /// Shape of its fall after the warm-up: `"linear"` or `"cosine"`. Default `"linear"`, as in
    /// Lynx.
    pub decay: Decay,
    /// Factors of the learning rate of parts of the model: `vision`, `bridge`, `adapters` or
    /// `decoder`; 0 freezes the part. Default: empty, so 1 for all.
    pub rates: BTreeMap<Part, f64>,
    /// The maximum number of tokens that go through the model at once, with padding and prefix. A
    /// larger step is the sum of several passes and gives the same model, except for rounding.
    /// Default 0: all at once.
    pub tokens_per_pass: usize,
    /// The minimum fraction of an image's area that the model sees in a step: a random part with at
    /// least this area, scaled up to the whole square; 1 shows the whole image. For `sight =
    /// "pixels"`. Default 1; Lynx has 0.9.
    pub least_area: f64,
    /// Floating-point format in which products with weights are computed: `"f32"`, `"bf16"` or
    /// `"f16"`; the weights themselves, norms, attention, the loss and the optimiser have 32 bits.
    /// 16 bits save time and memory on a GPU whose matrix units support them, and cost time
    /// elsewhere. Default `"f32"`.
    pub precision: Precision,
    /// Maximum number of tokens of an example that the model reads, the begin token included. A
    /// longer caption loses its end; of a conversation, turns that do not fit are left out, and a
    /// long first question loses its beginning. Default 32.
    pub max_tokens: usize,
    /// Decay of AdamW's mean of gradients. Default 0.9.
    pub beta_1: f64,
    /// Decay of AdamW's mean of squared gradients. Default 0.95, as in LLaMA; Lynx has 0.999.
    pub beta_2: f64,
    /// Weight decay of AdamW. Default 0.05.
    pub weight_decay: f64,
    /// Whether only matrices decay, not biases, norms and gates. Default false.
    pub decay_matrices_alone: bool,
    /// Gradients whose norm over all weights is larger are scaled down to it. Default 1.
    pub max_gradient_norm: f64,
    /// Number of steps whose mean weights are evaluated, spread evenly over the last 20 % of the
    /// steps (LAWA, Kaddour 2022, arXiv 2209.14981); 1 evaluates the last weights only. Default 5.
    pub averaged: usize,
    /// Number of steps between checkpoints; one is also written after the last step. Default 50.
    pub checkpoint_every: usize,
    /// Number of steps per point of the loss curve, which is their mean. Default 10.
    pub log_every: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 200,
            tokens_per_step: 175,
            learning_rate: 4e-3,
            warmup_fraction: 0.05,
            decay: Decay::Linear,
            rates: BTreeMap::new(),
            tokens_per_pass: 0,
            least_area: 1.0,
            precision: Precision::F32,
            max_tokens: 32,
            beta_1: 0.9,
            beta_2: 0.95,
            weight_decay: 0.05,
            decay_matrices_alone: false,
            max_gradient_norm: 1.0,
            averaged: 5,
            checkpoint_every: 50,
            log_every: 10,
        }
    }
}

impl TrainConfig {
    /// Returns the settings that decide the trained model: checkpoints do not, so their interval is
    /// the default. With them, a run whose interval was changed goes on from its checkpoint.
    #[must_use]
    pub fn deciding(&self) -> TrainConfig {
        TrainConfig { checkpoint_every: TrainConfig::default().checkpoint_every, ..self.clone() }
    }

    /// Checks the settings; the error names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("steps", self.steps),
            ("tokens_per_step", self.tokens_per_step),
            ("max_tokens", self.max_tokens),
            ("averaged", self.averaged),
            ("checkpoint_every", self.checkpoint_every),
            ("log_every", self.log_every),
        ];
        if let Some((setting, _)) = counts.iter().find(|(_, value)| *value == 0) {
            let reason = "it must be at least 1".to_owned();
            return Err(Error::Setting { setting, value: "0".to_owned(), reason });
        }
        if self.tokens_per_step < self.max_tokens {
            let reason = format!("it must be at least max_tokens = {}", self.max_tokens);
            let value = self.tokens_per_step.to_string();
            return Err(Error::Setting { setting: "tokens_per_step", value, reason });
        }
        let parts = [Part::Vision, Part::Bridge, Part::Adapters, Part::Decoder];
        if parts.iter().all(|part| self.rates.get(part) == Some(&0.0)) {
            let reason = "no part would be trained".to_owned();
            return Err(Error::Setting { setting: "rates", value: "0 for all parts".to_owned(), reason });
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
                "least_area",
                self.least_area,
                self.least_area > 0.0 && self.least_area <= 1.0,
                "it must be above 0 and at most 1",
            ),
            (
                "warmup_fraction",
                self.warmup_fraction,
                (0.0..=1.0).contains(&self.warmup_fraction),
                "it must be from 0 to 1",
            ),
            ("beta_1", self.beta_1, (0.0..1.0).contains(&self.beta_1), "it must be 0 or more, below 1"),
            ("beta_2", self.beta_2, (0.0..1.0).contains(&self.beta_2), "it must be 0 or more, below 1"),
        ];
        if let Some((part, rate)) = self.rates.iter().find(|(_, rate)| !(rate.is_finite() && **rate >= 0.0)) {
            let reason = format!("the rate of {part:?} must be 0 or more");
            return Err(Error::Setting { setting: "rates", value: rate.to_string(), reason });
        }
        match numbers.iter().find(|(_, _, works, _)| !works) {
            Some((setting, value, _, reason)) => {
                Err(Error::Setting { setting, value: value.to_string(), reason: (*reason).to_owned() })
            }
            None => Ok(()),
        }
    }

    /// Returns the learning rate of a step, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        let steps = self.steps as f64;
        let warmup = (self.warmup_fraction * steps).ceil();
        let done = step as f64;
        if done < warmup {
            return self.learning_rate * (done + 1.0) / warmup;
        }
        let left = (steps - done) / (steps - warmup);
        self.learning_rate
            * match self.decay {
                Decay::Linear => left,
                Decay::Cosine => 0.5 - 0.5 * (std::f64::consts::PI * left).cos(),
            }
    }

    /// Returns the factor of the learning rate of the weight with this path.
    fn rate_of(&self, path: &str) -> f64 {
        self.rates.get(&Part::of(path)).copied().unwrap_or(1.0)
    }
}

/// A model in training.
pub(crate) struct Training<'a> {
    model_config: &'a ModelConfig,
    config: &'a TrainConfig,
    seen: &'a Seen<'a>,
    arm: &'a Items<'a>,
    seed: u64,
    device: Device,
    /// Layouts by number of text tokens.
    layouts: BTreeMap<usize, Layout>,
    /// The examples of every step.
    batches: Vec<Vec<u32>>,
    model: Lynx,
    optimizer: AdamW,
    average: Average,
    /// Nats per token of every step whose loss was read.
    losses: Vec<f32>,
    /// Nats per token of the steps after those, `[1]` each, still on the device.
    unread: Vec<Tensor<1>>,
}

impl<'a> Training<'a> {
    /// Builds the model of `seed`, with `vocabulary` tokens, before its first step; `pretrained`
    /// parts and a file of weights, `start`, replace some or all of its weights. Each example of
    /// the arm occurs `copies` times in an epoch.
    pub(crate) fn new(
        (model_config, config): (&'a ModelConfig, &'a TrainConfig),
        vocabulary: usize,
        seen: &'a Seen<'a>,
        (arm, copies): (&'a Items<'a>, &[u32]),
        seed: u64,
        (pretrained, start): (&[(Pretrained, Part)], Option<&Path>),
        device: &Device,
    ) -> Result<Self> {
        let device = device.clone().autodiff();
        let parts: Vec<(&Pretrained, Part)> = pretrained.iter().map(|(pretrained, part)| (pretrained, *part)).collect();
        let (mut model, _) = weights::build(&parts, model_config, vocabulary, seen.features(), seed, &device)?;
        if let Some(path) = start {
            model = saved::load(model, model_config, path)?;
        }
        let model = freeze(model, &|part| config.rates.get(&part) == Some(&0.0));
        let optimizer = AdamW::new(AdamWConfig {
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: 1e-8,
            weight_decay: config.weight_decay,
            decay_matrices_alone: config.decay_matrices_alone,
            max_gradient_norm: config.max_gradient_norm,
        });
        Ok(Self {
            model_config,
            config,
            seen,
            arm,
            seed,
            layouts: BTreeMap::new(),
            batches: batches(seed, &arm.lengths(), copies, config.steps, config.tokens_per_step),
            model,
            device,
            optimizer,
            average: Average::new(config.steps, config.averaged),
            losses: Vec::new(),
            unread: Vec::new(),
        })
    }

    /// Continues from a checkpoint, if there is one.
    pub(crate) fn resume(mut self, path: &Path, fingerprint: &str) -> Result<Self> {
        let plain = self.device.clone().inner();
        let (optimizer, average) = (&mut self.optimizer, &mut self.average);
        (self.model, self.losses) = checkpoint::read(path, fingerprint, self.model, optimizer, average, &plain)?;
        Ok(self)
    }

    /// Returns the number of steps taken.
    pub(crate) fn steps(&self) -> usize {
        self.losses.len() + self.unread.len()
    }

    /// Returns the number of examples that all steps together are trained on, repeats counted.
    pub(crate) fn samples(&self) -> usize {
        self.batches.iter().map(Vec::len).sum()
    }

    /// Returns the number of tokens that all steps together learn from, repeats counted.
    pub(crate) fn loss_tokens(&self) -> usize {
        let items = self.batches.iter().flatten();
        items.map(|item| self.arm.sequences[*item as usize].loss_tokens()).sum()
    }

    /// Writes a checkpoint.
    pub(crate) fn save(&mut self, path: &Path, fingerprint: &str) -> Result<()> {
        self.read_losses();
        checkpoint::write(path, fingerprint, &self.model, &self.optimizer, &self.average, &self.losses)
    }

    /// Takes one step.
    pub(crate) fn step(mut self) -> Result<Self> {
        let step = self.steps();
        let mut sums: Option<(Tensor<1>, FlatGradients)> = None;
        for items in self.passes(step) {
            let (loss, objective) = self.loss(step, &items, self.arm.padded(&items))?;
            let gradients = self.config.precision.gradients(&self.model, objective);
            sums = Some(match sums {
                Some((losses, sum)) => (losses + loss, sum.add(gradients)),
                None => (loss, gradients),
            });
        }
        let (loss, gradients) = sums.expect("a step has an example");
        let (config, rate) = (self.config, self.config.learning_rate_at(step));
        self.model = self.optimizer.step(self.model, gradients, &|path| rate * config.rate_of(path));
        self.unread.push(loss);
        self.average.add(step + 1, &self.model);
        Ok(self)
    }

    /// Returns the examples of a step in parts that each fit into one pass.
    fn passes(&self, step: usize) -> Vec<Vec<u32>> {
        let items = &self.batches[step];
        if self.config.tokens_per_pass == 0 {
            return vec![items.clone()];
        }
        let of_one = self.arm.padded(items) + self.model_config.prefix_tokens();
        items.chunks((self.config.tokens_per_pass / of_one).max(1)).map(<[u32]>::to_vec).collect()
    }

    /// Returns the nats of some examples of a step, padded to `tokens` and divided by the number of
    /// tokens that the step learns from, `[1]`, and the objective to differentiate.
    fn loss(&mut self, step: usize, items: &[u32], tokens: usize) -> Result<(Tensor<1>, Tensor<1>)> {
        let plain = self.device.clone().inner();
        let crops = items.iter().map(|item| self.crop(step, *item));
        let shown: Vec<(Shown, Option<Crop>)> = self.arm.shown(items).into_iter().zip(crops).collect();
        let layout = self
            .layouts
            .entry(tokens)
            .or_insert_with(|| Layout::causal(self.model_config, self.model_config.prefix_tokens() + tokens, &plain));
        let texts = self.arm.texts(items, tokens, &plain);
        let of_step: usize =
            self.batches[step].iter().map(|item| self.arm.sequences[*item as usize].loss_tokens()).sum();
        let weights = texts.targets.clone().zeros_like().float().add_scalar((of_step as f64).recip());
        let model = self.config.precision.rounded(&self.model);
        let vision = self.seen.vision_tokens(&model, &shown, &plain)?;
        let logits = model.logits_at(&vision, texts.inputs, layout, texts.places);
        Ok(weighted_nats(logits, texts.targets, weights))
    }

    /// Returns the part of its image that an example is shown with in a step; `None` for the
    /// whole.
    fn crop(&self, step: usize, item: u32) -> Option<Crop> {
        /// Words of the stream reserved for one crop, which takes at most 44.
        const WORDS: u128 = 64;
        let least = self.config.least_area;
        (least < 1.0).then(|| {
            let mut draws = stream(self.seed, Purpose::Crops);
            draws.set_word_pos((((step as u128) << u32::BITS) + u128::from(item)) * WORDS);
            Crop::draw(&mut draws, least)
        })
    }

    /// Returns the trained model, without gradients: the mean of its last checkpoints; and the mean
    /// nats per token of every step.
    pub(crate) fn finish(mut self) -> (Lynx, Vec<f32>) {
        self.read_losses();
        (self.average.mean(self.model.valid()), self.losses)
    }

    /// Returns the mean nats per token of every step so far. Waits until the device has taken them.
    pub(crate) fn read_losses(&mut self) -> &[f32] {
        self.losses.extend(self.unread.drain(..).map(Tensor::into_scalar::<f32>));
        &self.losses
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;

    use super::*;
    use crate::data::{Example, Pictures, Shown, Turn};
    use crate::optimizer::gradients_of;
    use crate::tokenizer::{TokenizerConfig, train_tokenizer};

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
    fn padding_does_not_change_the_loss_or_the_gradients() {
        let pictures = Pictures::Features { width: 2, values: vec![1.0, 0.0, 0.5, -1.0, 0.0, 1.0] };
        let model_config = ModelConfig { decoder_dim: 24, decoder_depth: 2, decoder_heads: 2, ..Default::default() };
        let config = TrainConfig { steps: 1, max_tokens: 12, tokens_per_step: 24, ..Default::default() };
        let tokenizer = train_tokenizer(&["red"], &TokenizerConfig { vocabulary: 259, lowercase: true }).unwrap();
        let seen = Seen::new(&pictures, &model_config).unwrap();
        let turns = vec![Turn { question: "?".to_owned(), answer: "no".to_owned() }];
        let examples =
            [Example::caption(0, "red"), Example::caption(1, "a"), Example { shown: Shown::picture(2), turns }];
        let arm = Items::new("arm", &examples, &seen, &tokenizer, config.max_tokens).unwrap();
        let configs = (&model_config, &config);
        let device = Device::flex();
        let losses = |tokens| {
            let mut training = Training::new(configs, 259, &seen, (&arm, &[1, 1, 1]), 1, (&[], None), &device).unwrap();
            let items = training.batches[0].clone();
            let (before, objective) = training.loss(0, &items, tokens).unwrap();
            let gradients = gradients_of(&training.model, objective.backward());
            training.model = training.optimizer.step(training.model, gradients, &|_| 1e-2);
            [before, training.loss(0, &items, tokens).unwrap().0].map(Tensor::into_scalar::<f32>)
        };
        let (short, long) = (losses(12), losses(40));
        assert!(short[1] < short[0] - 0.1, "{short:?}");
        assert!((short[0] - long[0]).abs() < 1e-6 && (short[1] - long[1]).abs() < 1e-4, "{short:?} {long:?}");
    }

    #[test]
    fn a_cosine_falls_slowly_at_both_ends() {
        let config = TrainConfig {
            steps: 100,
            learning_rate: 1.0,
            decay: Decay::Cosine,
            warmup_fraction: 0.0,
            ..Default::default()
        };
        let rates: Vec<f64> = (0..100).map(|step| config.learning_rate_at(step)).collect();
        assert!((rates[0] - 1.0).abs() < 1e-12 && (rates[50] - 0.5).abs() < 1e-12);
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]) && rates[1] > 0.999 && rates[99] < 0.001);
    }

    /// Trains on three captions with other settings than the default ones; returns the last losses.
    fn trained(config: &TrainConfig) -> (Lynx, Vec<f32>) {
        let pictures = Pictures::Features { width: 2, values: vec![1.0, 0.0, 0.5, -1.0, 0.0, 1.0] };
        let model_config = ModelConfig { decoder_dim: 24, decoder_depth: 2, decoder_heads: 2, ..Default::default() };
        let tokenizer = train_tokenizer(&["red"], &TokenizerConfig { vocabulary: 259, lowercase: true }).unwrap();
        let seen = Seen::new(&pictures, &model_config).unwrap();
        let examples = [Example::caption(0, "red"), Example::caption(1, "a cat"), Example::caption(2, "no")];
        let arm = Items::new("arm", &examples, &seen, &tokenizer, config.max_tokens).unwrap();
        let configs = (&model_config, config);
        let mut training =
            Training::new(configs, 259, &seen, (&arm, &[1, 1, 1]), 1, (&[], None), &Device::flex()).unwrap();
        for _ in 0..config.steps {
            training = training.step().unwrap();
        }
        training.finish()
    }

    #[test]
    fn several_passes_give_the_step_of_one() {
        let config = TrainConfig { steps: 6, max_tokens: 12, tokens_per_step: 24, averaged: 1, ..Default::default() };
        let whole = trained(&config).1;
        let parted = trained(&TrainConfig { tokens_per_pass: 16, ..config }).1;
        assert!(whole[5] < whole[0] - 0.1, "{whole:?}");
        for (one, other) in whole.iter().zip(&parted) {
            assert!((one - other).abs() < 1e-4, "{whole:?} {parted:?}");
        }
    }

    /// Weights with their paths.
    #[derive(Default)]
    struct Weights(Vec<String>, Vec<(String, Vec<f32>)>);

    impl burn::module::ModuleVisitor for Weights {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.join("."), param.val().try_into_vec_as::<f32>().unwrap()));
        }
    }

    #[test]
    fn a_frozen_part_keeps_its_weights() {
        let config = TrainConfig {
            steps: 15,
            max_tokens: 12,
            tokens_per_step: 24,
            averaged: 3, // no mean of the last weights moves it, either
            rates: BTreeMap::from([(Part::Decoder, 0.0)]),
            ..Default::default()
        };
        let model_config = ModelConfig { decoder_dim: 24, decoder_depth: 2, decoder_heads: 2, ..Default::default() };
        let weights = |model: &Lynx| {
            let mut all = Weights::default();
            model.visit(&mut all);
            all.1
        };
        let before = weights(&Lynx::new(&model_config, 259, 2, 1, &Device::flex()).unwrap());
        let after = weights(&trained(&config).0);
        let moved: Vec<&str> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0.as_str()).collect();
        assert!(moved.iter().any(|path| Part::of(path) == Part::Adapters), "{moved:?}");
        assert!(moved.iter().all(|path| Part::of(path) != Part::Decoder), "{moved:?}");
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        let refusal = |config: TrainConfig| config.validate().unwrap_err().to_string();
        assert!(refusal(TrainConfig { steps: 0, ..Default::default() }).starts_with("steps = 0"));
        assert!(refusal(TrainConfig { learning_rate: 0.0, ..Default::default() }).starts_with("learning_rate = 0"));
        assert!(refusal(TrainConfig { warmup_fraction: 2.0, ..Default::default() }).starts_with("warmup_fraction = 2"));
        assert!(refusal(TrainConfig { averaged: 0, ..Default::default() }).starts_with("averaged = 0"));
        let few = refusal(TrainConfig { tokens_per_step: 31, ..Default::default() });
        assert!(few.ends_with("it must be at least max_tokens = 32"), "{few}");
        TrainConfig::default().validate().unwrap();
    }
}
