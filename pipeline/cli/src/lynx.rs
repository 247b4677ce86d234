//! The gear `lynx` of a check: a compact Lynx, trained on a version of the arms.

use std::path::Path;

use anyhow::Result;
use lynxdata_burn_model::{Example, Pictures, RunSpec, Tokenizer, TrainConfig, train_tokenizer};
use lynxdata_check::features::coordinates;
use lynxdata_check::fit::{examples, training_seed};
use lynxdata_check::{Fit, FitResult, Measured, Split, Training, Universe};

use crate::recipe::CheckConfig;

/// Principal coordinates of the frozen features that the model sees.
const COORDINATES: usize = 256;

/// Everything that the fits of one check share.
pub(crate) struct Lynx<'a> {
    config: &'a CheckConfig,
    universe: Universe,
    split: Split,
    seed: u64,
    pictures: Pictures,
    tokenizer: Tokenizer,
    held_out: Vec<Example>,
}

impl<'a> Lynx<'a> {
    /// Trains the tokenizer on the texts of all arms and prepares what the model sees.
    pub(crate) fn new(config: &'a CheckConfig, universe: Universe, split: Split, seed: u64) -> Result<Lynx<'a>> {
        let coordinates = coordinates(&universe.features, COORDINATES);
        let pictures = Pictures::Features { width: coordinates.columns(), values: coordinates.values().to_vec() };
        let mut used: Vec<u32> = split.arms.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let texts: Vec<String> = used.iter().map(|pair| example(&universe, 0, *pair).text()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = train_tokenizer(&texts, &config.tokenizer)?;
        let held_out =
            split.held_out.iter().map(|held| example(&universe, universe.pairs[held.pair as usize].picture, held.pair));
        let held_out = held_out.collect();
        Ok(Lynx { config, universe, split, seed, pictures, tokenizer, held_out })
    }

    /// Trains and measures. With a checkpoint, a fit that was broken off goes on.
    pub(crate) fn fit(
        &self,
        fit: Fit,
        checkpoint: Option<&Path>,
        progress: &mut (dyn FnMut(usize, f64) + Send),
    ) -> Result<FitResult> {
        let chosen = examples(&self.universe, &self.split, self.seed, &fit);
        let arm: Vec<Example> =
            chosen.iter().map(|chosen| example(&self.universe, chosen.picture, chosen.text)).collect();
        let copies: Vec<u32> = chosen.iter().map(|chosen| chosen.copies).collect();
        let train = TrainConfig { learning_rate: learning_rate(self.config, fit.setting), ..self.config.train.clone() };
        let spec = RunSpec {
            model: &self.config.model,
            train: &train,
            tokenizer: &self.tokenizer,
            pictures: &self.pictures,
            arm: &arm,
            copies: &copies,
            held_out: &self.held_out,
            seed: training_seed(self.seed, fit.replicate),
            checkpoint,
        };
        let result = lynxdata_burn_model::run(&spec, progress)?;
        let bits = |nats: f64| nats / std::f64::consts::LN_2;
        let measured = result.held_out.iter().map(|loss| Measured {
            gain: bits(loss.nats_wrong_picture - loss.nats),
            bits: Some(bits(loss.nats)),
            unigram_bits: Some(bits(loss.nats_unigram)),
            size: f64::from(loss.bytes),
        });
        let training = Training {
            seed: result.seed,
            learning_rate: result.learning_rate,
            steps: result.steps,
            loss_tokens: result.loss_tokens,
            epochs: result.epochs,
            weights: result.weights,
            losses: result.losses.iter().map(|point| (point.step, point.loss)).collect(),
            uniform_bits_per_byte: result.uniform_bits_per_byte(),
        };
        Ok(FitResult::new(fit, &self.split, self.seed, measured.collect(), &chosen, Some(training)))
    }
}

fn learning_rate(config: &CheckConfig, setting: usize) -> f64 {
    let factor = if setting == 0 { 1.0 } else { config.second_learning_rate };
    config.train.learning_rate * factor
}

fn example(universe: &Universe, picture: u32, text: u32) -> Example {
    let turns = universe.pairs[text as usize]
        .turns
        .iter()
        .map(|turn| lynxdata_burn_model::Turn { question: turn.question.clone(), answer: turn.answer.clone() });
    Example { picture, turns: turns.collect() }
}
