//! One run: an arm and a seed to a trained model and its measurements.

use std::path::Path;

use burn::module::Module;
use lynxdata_hash::Hasher;
use serde::{Deserialize, Serialize};

use crate::batch::{Items, Seen};
use crate::data::{Example, Pictures, Shown};
use crate::device::DeviceName;
use crate::encode::Sequence;
use crate::error::{Error, Result};
use crate::evaluate::{held_out_nats, wrong_pictures};
use crate::model::ModelConfig;
use crate::part::Part;
use crate::precision::Precision;
use crate::saved::SavedModel;
use crate::tokenizer::Tokenizer;
use crate::train::{TrainConfig, Training};
use crate::weights::Pretrained;

/// Everything that determines a run.
#[derive(Clone, Debug)]
pub struct RunSpec<'a> {
    /// Sizes of the model.
    pub model: &'a ModelConfig,
    /// Settings of the training.
    pub train: &'a TrainConfig,
    /// The tokenizer, the same for all runs of a check.
    pub tokenizer: &'a Tokenizer,
    /// The images of all examples, those of the arm and the held-out ones.
    pub pictures: &'a Pictures,
    /// The examples that it is trained on.
    pub arm: &'a [Example],
    /// Number of times that each example of the arm occurs in one epoch, which is its weight in a
    /// bootstrap replicate: one entry per example, at least one of them above 0.
    pub copies: &'a [u32],
    /// The examples that it is measured on: the same for all runs of a check, and in none of its
    /// arms.
    pub held_out: &'a [Example],
    /// Determines the initial weights and the order of the examples.
    pub seed: u64,
    /// Pretrained models and the parts that begin with their weights; `model` has the sizes that
    /// they determine, see [`Pretrained::configure`].
    pub pretrained: &'a [(Pretrained, Part)],
    /// A file of weights to begin with, as [`SavedModel::write`] writes it; it must fit the model.
    pub start: Option<&'a Path>,
    /// File of the state; a run that finds its own state there continues from it. The caller may
    /// delete the file when the result is safe; until then it also holds the trained weights.
    pub checkpoint: Option<&'a Path>,
    /// The device that computes.
    pub device: &'a DeviceName,
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

/// Loss on one held-out example: sums over its answer and end tokens, or caption and end tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutLoss {
    /// Loss with its own image, in nats.
    pub nats: f64,
    /// Loss with images of other examples, in nats: the mean over 4 to 12 wrong images, or
    /// fewer if there are not enough; the same ones in all runs.
    pub nats_wrong_picture: f64,
    /// Loss, in nats, of a unigram model: it knows only how often the loss counts each token in one
    /// epoch of the arm.
    pub nats_unigram: f64,
    /// Bytes of text that the tokens represent, lower-cased and cut as in training. Losses per byte
    /// do not depend on the tokenizer.
    pub bytes: u32,
}

/// The measurements of a run. They depend on the specification only: there are no times and no
/// names of machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// The seed of the specification.
    pub seed: u64,
    /// Steps taken.
    pub steps: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The curve of the training loss.
    pub losses: Vec<LossPoint>,
    /// One entry per held-out example, in their order.
    pub held_out: Vec<HeldOutLoss>,
    /// Tokens of all held-out examples that the loss counts.
    pub held_out_tokens: usize,
    /// Loss, in nats per token, of a model that finds every token equally likely.
    pub uniform_nats_per_token: f64,
    /// Examples of the arm, those without copies included.
    pub arm_examples: usize,
    /// Examples of the arm with one copy or more.
    pub distinct_examples: usize,
    /// Examples with one copy or more whose text was too long, so that a part was left out.
    pub cut_examples: usize,
    /// Examples trained on, repeats counted.
    pub samples_seen: usize,
    /// Mean number of times that a copy of an example was trained on.
    pub epochs: f64,
    /// Answer or caption tokens and end tokens trained on, repeats counted.
    pub loss_tokens: usize,
    /// Weights of the model.
    pub weights: usize,
}

impl RunResult {
    /// Returns the held-out loss with the right images, in bits per byte. Lower is better.
    pub fn bits_per_byte(&self) -> f64 {
        self.per_byte(self.held_out.iter().map(|loss| loss.nats).sum())
    }

    /// Returns how much higher the held-out loss is with wrong images, in bits per byte. It is
    /// above 0 if the model uses the images. Higher is better.
    pub fn visual_gain(&self) -> f64 {
        self.per_byte(self.held_out.iter().map(|loss| loss.nats_wrong_picture - loss.nats).sum())
    }

    /// Returns the held-out loss of a model that knows only how often each token occurs, in bits
    /// per byte.
    pub fn unigram_bits_per_byte(&self) -> f64 {
        self.per_byte(self.held_out.iter().map(|loss| loss.nats_unigram).sum())
    }

    /// Returns the held-out loss of a model that finds every token equally likely, in bits per
    /// byte.
    pub fn uniform_bits_per_byte(&self) -> f64 {
        self.per_byte(self.held_out_tokens as f64 * self.uniform_nats_per_token)
    }

    fn per_byte(&self, nats: f64) -> f64 {
        let bytes: f64 = self.held_out.iter().map(|loss| f64::from(loss.bytes)).sum();
        nats / std::f64::consts::LN_2 / bytes
    }
}

/// Returns the number of tokens of an example that the loss counts: those of captions or answers,
/// and end tokens, cut to `max_tokens`.
pub fn loss_tokens(tokenizer: &Tokenizer, example: &Example, max_tokens: usize) -> Result<usize> {
    Ok(Sequence::new(tokenizer, example, max_tokens)?.loss_tokens())
}

/// Trains and evaluates a model. On the processor it uses one thread, so that the result is the
/// same on every machine of one instruction set. Other devices do not repeat results bit for bit.
///
/// `progress` is called after every step with the number of steps taken and the last loss that was
/// read, in nats per token: on the processor that of this step, elsewhere one of the last
/// `log_every` steps. To stop a run, end the process: with a checkpoint, the same specification
/// continues and gives the same result as an uninterrupted run.
pub fn run(spec: &RunSpec, progress: &mut (dyn FnMut(usize, f64) + Send)) -> Result<RunResult> {
    Ok(train(spec, progress)?.0)
}

/// Runs as [`run`] does, and also returns the model that was evaluated.
pub fn train(spec: &RunSpec, progress: &mut (dyn FnMut(usize, f64) + Send)) -> Result<(RunResult, SavedModel)> {
    // On more threads a matrix product sums its parts in another order, which changes the last
    // bits.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.map_err(|error| Error::Thread { reason: error.to_string() })?;
    pool.install(|| run_here(spec, progress))
}

fn run_here(spec: &RunSpec, progress: &mut (dyn FnMut(usize, f64) + Send)) -> Result<(RunResult, SavedModel)> {
    let RunSpec { model, train, tokenizer, copies, seed, .. } = *spec;
    model.validate()?;
    train.validate()?;
    let name = spec.device.resolve()?;
    let device = name.open()?;
    let supported = Precision::supported_by(&device);
    if !supported.contains(&train.precision) {
        let supported: Vec<&str> = supported.iter().map(|precision| precision.name()).collect();
        let reason = format!("device {name} computes in {}", supported.join(", "));
        return Err(Error::Setting { setting: "precision", value: train.precision.to_string(), reason });
    }
    // Reading a loss waits for a GPU, and costs nothing on the processor.
    let read_every = if name == DeviceName::Cpu { 1 } else { train.log_every };
    let seen = Seen::new(spec.pictures, model)?;
    let arm = Items::new("arm", spec.arm, &seen, tokenizer, train.max_tokens)?;
    let held_out = Items::new("held-out set", spec.held_out, &seen, tokenizer, train.max_tokens)?;
    if copies.len() != arm.len() {
        let reason = format!("it has {} examples, but numbers of copies for {}", arm.len(), copies.len());
        return Err(Error::Data { set: "arm", reason });
    }
    let in_an_epoch: usize = copies.iter().map(|copies| *copies as usize).sum();
    if in_an_epoch == 0 {
        return Err(Error::Data { set: "arm", reason: "it is empty".to_owned() });
    }
    if held_out.sequences.iter().all(|sequence| sequence.bytes == 0) {
        return Err(Error::Data { set: "held-out set", reason: "it has no text".to_owned() });
    }
    let own: Vec<Shown> = spec.held_out.iter().map(|example| example.shown).collect();
    let wrong = wrong_pictures(&own)?;

    let vocabulary = tokenizer.vocabulary();
    let mut training =
        Training::new((model, train), vocabulary, &seen, (&arm, copies), seed, (spec.pretrained, spec.start), &device)?;
    let checkpoint = match spec.checkpoint {
        Some(path) => Some((path, fingerprint(spec, &seen, &name)?)),
        None => None,
    };
    if let Some((path, fingerprint)) = &checkpoint {
        training = training.resume(path, fingerprint)?;
    }
    let mut loss = f32::NAN;
    while training.steps() < train.steps {
        training = training.step()?;
        let step = training.steps();
        if step.is_multiple_of(read_every) || step == train.steps {
            loss = training.read_losses().last().copied().unwrap_or(f32::NAN);
        }
        // Before the checkpoint, so that the caller's record has every step up to the one after
        // which a resumed run continues.
        progress(step, f64::from(loss));
        if let Some((path, fingerprint)) = &checkpoint
            && (step.is_multiple_of(train.checkpoint_every) || step == train.steps)
        {
            training.save(path, fingerprint)?;
        }
    }
    let (samples_seen, loss_tokens) = (training.samples(), training.loss_tokens());
    let (trained, losses) = training.finish();

    let nats = |pictures: &[Shown]| held_out_nats(&trained, model, &seen, &held_out, pictures, &device);
    let right = nats(&own)?;
    let mut with_wrong = vec![0.0; right.len()];
    for pictures in &wrong {
        for (mean, nats) in with_wrong.iter_mut().zip(nats(pictures)?) {
            *mean += nats / wrong.len() as f64;
        }
    }
    let unigram = unigram_nats(&arm, copies, &held_out, vocabulary);
    let losses_of = held_out.sequences.iter().zip(right).zip(with_wrong).zip(unigram);
    let losses_of = losses_of.map(|(((sequence, nats), nats_wrong_picture), nats_unigram)| HeldOutLoss {
        nats,
        nats_wrong_picture,
        nats_unigram,
        bytes: sequence.bytes as u32,
    });
    let with_copies = arm.sequences.iter().zip(copies).filter(|(_, copies)| **copies > 0);
    let result = RunResult {
        seed,
        steps: train.steps,
        learning_rate: train.learning_rate,
        losses: loss_curve(&losses, train.log_every),
        held_out: losses_of.collect(),
        held_out_tokens: held_out.sequences.iter().map(Sequence::loss_tokens).sum(),
        uniform_nats_per_token: (vocabulary as f64).ln(),
        arm_examples: arm.len(),
        distinct_examples: with_copies.clone().count(),
        cut_examples: with_copies.filter(|(sequence, _)| sequence.cut).count(),
        samples_seen,
        epochs: samples_seen as f64 / in_an_epoch as f64,
        loss_tokens,
        weights: trained.num_params(),
    };
    let saved =
        SavedModel { config: model.clone(), tokenizer: tokenizer.clone(), features: seen.features(), lynx: trained };
    Ok((result, saved))
}

/// Returns the means of every `every` steps; the last point may cover fewer.
fn loss_curve(losses: &[f32], every: usize) -> Vec<LossPoint> {
    let mut step = 0;
    let points = losses.chunks(every).map(|chunk| {
        step += chunk.len();
        LossPoint { step, loss: chunk.iter().map(|loss| f64::from(*loss)).sum::<f64>() / chunk.len() as f64 }
    });
    points.collect()
}

/// Returns the nats of each held-out example under a unigram model: the frequencies of the tokens
/// that the loss counts in one epoch of the arm, with one added to each count (Laplace).
fn unigram_nats(arm: &Items, copies: &[u32], held_out: &Items, vocabulary: usize) -> Vec<f64> {
    let mut counts = vec![1.0_f64; vocabulary];
    for (sequence, copies) in arm.sequences.iter().zip(copies) {
        for (_, id) in sequence.targets() {
            counts[id as usize] += f64::from(*copies);
        }
    }
    let total: f64 = counts.iter().sum();
    let of_example = |sequence: &Sequence| sequence.targets().map(|(_, id)| (total / counts[id as usize]).ln()).sum();
    held_out.sequences.iter().map(of_example).collect()
}

/// Part of every fingerprint; its number increases when the same settings begin to train
/// differently.
const FORMAT: &str = "lynxdata run 3";

/// Returns a digest of everything that determines the training, so that only the same run continues
/// a checkpoint. Of pretrained models it has only the paths: the caller keeps checkpoints of other
/// files apart.
fn fingerprint(spec: &RunSpec, seen: &Seen, device: &DeviceName) -> Result<String> {
    let mut digest = Hasher::new();
    let mut add = |bytes: &[u8]| lynxdata_hash::add(&mut digest, bytes);
    add(FORMAT.as_bytes());
    add(&serde_json::to_vec(spec.model).expect("numbers are valid JSON"));
    add(&serde_json::to_vec(&spec.train.deciding()).expect("numbers are valid JSON"));
    add(spec.tokenizer.to_json().expect("a tokenizer that was read can be written").as_bytes());
    add(&[spec.tokenizer.begin().to_le_bytes(), spec.tokenizer.end().to_le_bytes()].concat());
    add(&spec.seed.to_le_bytes());
    add(device.to_string().as_bytes());
    for (pretrained, part) in spec.pretrained {
        add(format!("{part:?} {}", pretrained.path().display()).as_bytes());
    }
    if let Some(path) = spec.start {
        add(&std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?);
    }
    for (example, copies) in spec.arm.iter().zip(spec.copies) {
        add(&copies.to_le_bytes());
        if *copies == 0 {
            continue;
        }
        add(&seen.bytes(example.shown)?);
        add(&(example.turns.len() as u64).to_le_bytes());
        for turn in &example.turns {
            add(turn.question.as_bytes());
            add(turn.answer.as_bytes());
        }
    }
    Ok(lynxdata_hash::hex(&digest))
}

#[cfg(test)]
mod tests;
