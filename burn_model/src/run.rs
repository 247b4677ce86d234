//! One run: an arm and a seed to a trained model and its measurements.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::batch::{Items, Pair};
use crate::error::{Error, Result};
use crate::evaluate::held_out_nats;
use crate::model::ModelConfig;
use crate::tokenizer::Tokenizer;
use crate::train::{TrainConfig, Training};

/// Everything that determines a run.
#[derive(Clone, Debug)]
pub struct RunSpec<'a> {
    /// Sizes of the model.
    pub model: &'a ModelConfig,
    /// How it is trained.
    pub train: &'a TrainConfig,
    /// One for all runs of a check.
    pub tokenizer: &'a Tokenizer,
    /// What it is trained on.
    pub arm: &'a [Pair],
    /// What it is measured on; one for all runs of a check, and in none of its arms.
    pub held_out: &'a [Pair],
    /// Determines the initial weights and the order of the pairs.
    pub seed: u64,
    /// Where to keep the state; a run that finds its own state there continues from it. The caller may delete the file
    /// when the result is safe; until then it also holds the trained weights.
    pub checkpoint: Option<&'a Path>,
}

/// A point of the loss curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossPoint {
    /// Steps taken.
    pub step: usize,
    /// Mean training loss since the point before, in nats per token.
    pub loss: f64,
}

/// What a run measured. Depends on the specification alone: no times, no names of machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// The seed of the specification.
    pub seed: u64,
    /// Steps taken.
    pub steps: usize,
    /// The loss curve.
    pub losses: Vec<LossPoint>,
    /// Held-out loss in nats per byte of caption: the nats of all caption and end tokens over the bytes of the captions,
    /// lower-cased and cut as in training. Per byte, so that it does not depend on the tokenizer. Lower is better.
    pub held_out_nats_per_byte: f64,
    /// The same in bits.
    pub held_out_bits_per_byte: f64,
    /// Held-out loss with the images exchanged among the pairs minus held-out loss, in bits per byte. Above 0 if the model
    /// uses the images. Higher is better.
    pub visual_gain: f64,
    /// What a model that finds every token equally likely would lose, in bits per byte.
    pub uniform_bits_per_byte: f64,
    /// What a model that knows only how often each token occurs in the arm would lose, in bits per byte.
    pub unigram_bits_per_byte: f64,
    /// Pairs of the arm.
    pub arm_pairs: usize,
    /// Captions of the arm that were cut.
    pub cut_captions: usize,
    /// Pairs trained on, repeats counted.
    pub samples_seen: usize,
    /// How often each pair of the arm was trained on, on average.
    pub epochs: f64,
    /// Caption and end tokens trained on, repeats counted.
    pub tokens_seen: usize,
    /// Held-out pairs.
    pub held_out_pairs: usize,
    /// Bytes of the held-out captions.
    pub held_out_bytes: usize,
    /// Weights of the model.
    pub weights: usize,
}

/// Trains and evaluates a model, on one thread, so that the result is the same on every machine of one instruction set.
///
/// `progress` is told after every step how many have been taken and that step's loss in nats per token. To stop a run, end
/// the process: with a checkpoint, the same specification continues and gives the same result as an undisturbed run.
pub fn run(spec: &RunSpec, progress: &mut (dyn FnMut(usize, f64) + Send)) -> Result<RunResult> {
    // On more threads a matrix product sums its parts in another order, which changes the last bits.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Thread { reason: error.to_string() })?;
    pool.install(|| run_here(spec, progress))
}

fn run_here(spec: &RunSpec, progress: &mut (dyn FnMut(usize, f64) + Send)) -> Result<RunResult> {
    let RunSpec { model, train, tokenizer, seed, .. } = *spec;
    model.validate()?;
    train.validate()?;
    let device = Device::flex();
    let arm = Items::new("arm", spec.arm, model, tokenizer, train.max_caption_tokens)?;
    let held_out = Items::new("held-out set", spec.held_out, model, tokenizer, train.max_caption_tokens)?;
    let held_out_bytes: usize = held_out.captions.iter().map(|caption| caption.bytes).sum();
    if arm.len() == 0 {
        return Err(Error::Data { set: "arm", reason: "it is empty".to_owned() });
    }
    if held_out.len() < 2 || held_out_bytes == 0 {
        let reason = "it needs two pairs or more, with captions, to exchange their images".to_owned();
        return Err(Error::Data { set: "held-out set", reason });
    }

    let mut training = Training::new(model, train, tokenizer, &arm, seed, &device)?;
    let checkpoint = spec.checkpoint.map(|path| (path, fingerprint(spec)));
    if let Some((path, fingerprint)) = &checkpoint {
        training = training.resume(path, fingerprint)?;
    }
    while training.steps() < train.steps {
        training = training.step();
        let (step, loss) = (training.steps(), training.losses().last().copied().unwrap_or(f32::NAN));
        if let Some((path, fingerprint)) = &checkpoint
            && (step.is_multiple_of(train.checkpoint_every) || step == train.steps)
        {
            training.save(path, fingerprint)?;
        }
        progress(step, f64::from(loss));
    }
    let tokens_seen = training.tokens_seen();
    let (trained, losses) = training.finish();

    let nats = held_out_nats(&trained, model, &held_out, train.max_caption_tokens, &device);
    let bits_per_byte = |nats: f64| nats / std::f64::consts::LN_2 / held_out_bytes as f64;
    let held_out_tokens: usize = held_out.captions.iter().map(|caption| caption.targets.len()).sum();
    let samples_seen = train.steps * train.batch;
    Ok(RunResult {
        seed,
        steps: train.steps,
        losses: loss_curve(&losses, train.log_every),
        held_out_nats_per_byte: nats.true_images / held_out_bytes as f64,
        held_out_bits_per_byte: bits_per_byte(nats.true_images),
        visual_gain: bits_per_byte(nats.wrong_images - nats.true_images),
        uniform_bits_per_byte: bits_per_byte(held_out_tokens as f64 * (tokenizer.vocabulary() as f64).ln()),
        unigram_bits_per_byte: bits_per_byte(unigram_nats(&arm, &held_out, tokenizer.vocabulary())),
        arm_pairs: arm.len(),
        cut_captions: arm.captions.iter().filter(|caption| caption.cut).count(),
        samples_seen,
        epochs: samples_seen as f64 / arm.len() as f64,
        tokens_seen,
        held_out_pairs: held_out.len(),
        held_out_bytes,
        weights: trained.num_params(),
    })
}

/// Means of every `every` steps; the last point may cover fewer.
fn loss_curve(losses: &[f32], every: usize) -> Vec<LossPoint> {
    let mut step = 0;
    let points = losses.chunks(every).map(|chunk| {
        step += chunk.len();
        LossPoint { step, loss: chunk.iter().map(|loss| f64::from(*loss)).sum::<f64>() / chunk.len() as f64 }
    });
    points.collect()
}

/// Nats of the held-out tokens under the token frequencies of the arm, each token counted once more than seen (Laplace).
fn unigram_nats(arm: &Items, held_out: &Items, vocabulary: usize) -> f64 {
    let mut counts = vec![1.0_f64; vocabulary];
    for id in arm.captions.iter().flat_map(|caption| &caption.targets) {
        counts[*id as usize] += 1.0;
    }
    let total: f64 = counts.iter().sum();
    let targets = held_out.captions.iter().flat_map(|caption| &caption.targets);
    targets.map(|id| (total / counts[*id as usize]).ln()).sum()
}

/// Part of every fingerprint; its number grows when the same settings begin to train another way.
const FORMAT: &str = "lynxdata run 1";

/// A digest of everything that determines the training, so that a checkpoint is continued by its own run only.
fn fingerprint(spec: &RunSpec) -> String {
    let mut digest = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(FORMAT.as_bytes());
    add(&serde_json::to_vec(spec.model).expect("numbers are valid JSON"));
    add(&serde_json::to_vec(spec.train).expect("numbers are valid JSON"));
    add(spec.tokenizer.to_json().expect("a tokenizer that was read can be written").as_bytes());
    add(&spec.seed.to_le_bytes());
    for pair in spec.arm {
        add(&pair.pixels);
        add(pair.caption.as_bytes());
    }
    digest.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests;
