//! Stage `model`: trains a compact Lynx on the examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lynxdata_burn_model::{
    DeviceName, Example, ModelConfig, Pictures, Precision, RunSpec, SavedModel, Shown, StoredPictures, Turn, saved,
    train, train_tokenizer,
};
use lynxdata_picture::scaled_square;
use lynxdata_records::{NewPart, PartEntry, fingerprint};
use serde_json::json;

pub use super::arms::CHECKPOINT;
use super::arms::{for_each_example, training_of};
use crate::lynx::{pretrained, stamps, tell_unused, trusted};
use crate::recipe::{Recipe, TrainingConfig};
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::stages::arms::Examples;

/// Version of the model. Raise it when the same examples and settings give another model.
const FORMAT_VERSION: &str = "1";

/// The trained model, in the run folder.
pub const FOLDER: &str = "model";

/// File of the measurements in the folder of the model.
pub const RESULT: &str = "result.json";

/// File in the run folder with loss, learning rate and time of every step; it grows during the
/// training.
pub const METRICS: &str = "metrics.jsonl";

/// The stage.
pub struct Model;

impl Stage for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.training.is_some()
    }

    fn command(&self) -> &'static str {
        "train"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        let training = recipe.training.clone();
        let training = training.map(|training| TrainingConfig { train: training.train.deciding(), ..training });
        Ok(settings_text(&(recipe.seed, training)))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Examples]
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = training_of(context)?;
        let inputs: Vec<String> = context.upstream(&Examples)?.iter().map(PartEntry::digest).collect();
        // A new setting must be named here. The examples are inputs.
        let TrainingConfig { held_out, device, tokenizer, model, train, pretrained, start, data: _, most_examples: _ } =
            config;
        let settings = settings_text(&(
            (context.recipe().seed, held_out, device.resolve()?),
            (tokenizer, model, train.deciding()),
            stamps(pretrained, &context.loaded.folder)?,
        ));
        let start = match start {
            Some(path) => digest_of(&context.loaded.folder.join(path))?,
            None => String::new(),
        };
        let inputs = inputs.iter().chain([&start]).map(String::as_str);
        let print = fingerprint(["model", FORMAT_VERSION, &settings].into_iter().chain(inputs));
        let make = Box::new(move |new: &mut NewPart| make(context, config, new));
        Ok(Box::new(std::iter::once(Ok(Planned::new(FOLDER.to_owned(), print, make)))))
    }
}

/// Returns a digest of the files of a model.
fn digest_of(folder: &Path) -> Result<String> {
    let mut digest = blake3::Hasher::new();
    for name in [saved::CONFIG, saved::TOKENIZER, saved::WEIGHTS] {
        let path = folder.join(name);
        let file = File::open(&path).with_context(|| {
            format!("{} is not the folder of a trained model: cannot read {name}", folder.display())
        })?;
        digest.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(digest.finalize().to_hex().to_string())
}

fn make(context: &Context, config: &TrainingConfig, new: &mut NewPart) -> Result<()> {
    let device = trusted(&config.device, config.train.precision, context.host.as_ref())?;
    let start = config.start.as_ref().map(|path| context.loaded.folder.join(path));
    let mut train_config = config.train.clone();
    let (model, tokenizer, pretrained) = if let Some(folder) = &start {
        let start = SavedModel::read(folder, &DeviceName::Cpu)?;
        // Position embeddings are interpolated to the requested size.
        let model = ModelConfig { image_size: config.model.image_size, ..start.config };
        (model, Some(start.tokenizer), Vec::new())
    } else {
        let mut model = config.model.clone();
        let found = pretrained(&config.pretrained, &context.loaded.folder, &mut model, &mut train_config)?;
        tell_unused(&found.parts, &model)?;
        (model, found.tokenizer, found.parts)
    };
    let folder = tempfile::tempdir_in(temporary(context)?).context("cannot create a folder for images")?;
    let set = ExampleSet::load(context, config, model.image_size, &folder.path().join("pictures"))?;
    if set.training.is_empty() || set.held_out.len() < 2 {
        bail!(
            "{} examples for training and {} held-out examples are too few; they have {} images, of which training.held_out = {} are held out",
            set.training.len(),
            set.held_out.len(),
            set.pictures.len(),
            config.held_out
        );
    }
    let tokenizer = if let Some(tokenizer) = tokenizer {
        tokenizer
    } else {
        let texts: Vec<String> = set.training.iter().map(Example::text).collect();
        train_tokenizer(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &config.tokenizer)?
    };
    let checkpoint = context.run.root().join(CHECKPOINT);
    let weights = start.map(|folder| folder.join(saved::WEIGHTS));
    let spec = RunSpec {
        model: &model,
        train: &train_config,
        tokenizer: &tokenizer,
        pictures: &set.pictures,
        arm: &set.training,
        copies: &vec![1; set.training.len()],
        held_out: &set.held_out,
        seed: context.recipe().seed,
        pretrained: &pretrained,
        start: weights.as_deref(),
        checkpoint: Some(&checkpoint),
        device: &device,
    };
    let mut metrics = Metrics::new(context, config);
    let (result, saved) = train(&spec, &mut |step, loss| metrics.add(step, loss))?;
    metrics.finish()?;
    let broken = result.losses.iter().find(|point| !point.loss.is_finite());
    if broken.is_some() || !result.bits_per_byte().is_finite() {
        // Continuing from this checkpoint would be useless.
        std::fs::remove_file(&checkpoint).with_context(|| format!("cannot remove {}", checkpoint.display()))?;
        let step = broken.map_or(result.steps, |point| point.step);
        bail!(
            "the training failed: its loss is not a number at step {step} or shortly before; lower train.learning_rate = {}{}",
            result.learning_rate,
            if config.train.precision == Precision::F16 {
                ", or train in bf16, which has the range of f32"
            } else {
                ""
            }
        );
    }
    // Only the examples that it was trained on.
    let trained_on = result.arm_examples as u64;
    (new.rows_in, new.rows_out) = (trained_on + result.held_out.len() as u64, trained_on);
    let path = context.run.stage_file(new, FOLDER)?;
    saved.write(&path)?;
    let summary = json!({
        "device": device,
        "steps": result.steps,
        "weights": result.weights,
        "training_examples": result.arm_examples,
        "cut_examples": result.cut_examples,
        "samples_seen": result.samples_seen,
        "epochs": result.epochs,
        "loss_tokens": result.loss_tokens,
        "held_out_examples": result.held_out.len(),
        "held_out_bits_per_byte": result.bits_per_byte(),
        "unigram_bits_per_byte": result.unigram_bits_per_byte(),
        "visual_gain_bits_per_byte": result.visual_gain(),
        "losses": result.losses,
    });
    let text = serde_json::to_string_pretty(&summary).context("the result is not JSON")?;
    std::fs::write(path.join(RESULT), text).with_context(|| format!("cannot write to {}", path.display()))?;
    Ok(())
}

fn temporary(context: &Context) -> Result<PathBuf> {
    let folder = context.run.temporary_folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// The data for training and measuring a model.
struct ExampleSet {
    pictures: Pictures,
    training: Vec<Example>,
    held_out: Vec<Example>,
}

impl ExampleSet {
    /// Writes the images to a file, scaled for the model, and chooses the held-out ones: those with
    /// the smallest hashes of seed and image.
    fn load(context: &Context, config: &TrainingConfig, side: usize, file: &Path) -> Result<ExampleSet> {
        let failed = || format!("cannot write {}", file.display());
        let mut out = BufWriter::new(File::create(file).with_context(failed)?);
        let mut rows: BTreeMap<String, u32> = BTreeMap::new();
        let mut examples = Vec::new();
        let mut next = 0;
        for_each_example(context, |digest, pixels, from, turns| {
            let frames = pixels.len() / (3 * from * from);
            let row = if let Some(row) = rows.get(digest) {
                *row
            } else {
                for square in pixels.chunks(3 * from * from) {
                    let square = scaled_square(square.to_vec(), from as u32, side as u32);
                    out.write_all(&square.context("an image of the examples is not a square")?).with_context(failed)?;
                }
                rows.insert(digest.to_owned(), next);
                next += frames as u32;
                next - frames as u32
            };
            let shown = Shown { row, frames: if frames > 1 { frames as u32 } else { 0 } };
            let turn = |turn: lynxdata_check::Turn| Turn { question: turn.question, answer: turn.answer };
            examples.push(Example { shown, turns: turns.into_iter().map(turn).collect() });
            Ok(())
        })?;
        out.flush().with_context(failed)?;
        let seed = context.recipe().seed.to_string();
        let mut order: Vec<(String, u32)> =
            rows.iter().map(|(digest, row)| (fingerprint(["held out of training", &seed, digest]), *row)).collect();
        order.sort_unstable();
        let kept_back: BTreeSet<u32> = order.into_iter().take(config.held_out).map(|(_, row)| row).collect();
        let (held_out, training) = examples.into_iter().partition(|example| kept_back.contains(&example.shown.row));
        let pictures = Pictures::Stored(StoredPictures::open(file, 3 * side * side)?);
        Ok(ExampleSet { pictures, training, held_out })
    }
}

/// Writes the file of metrics, and shows the loss curve on the terminal.
struct Metrics<'a> {
    context: &'a Context,
    config: &'a TrainingConfig,
    path: PathBuf,
    file: Option<BufWriter<File>>,
    begun: Instant,
    /// Seconds of earlier steps, if an interrupted training was continued.
    seconds_before: f64,
    losses: Vec<f64>,
    failed: Option<anyhow::Error>,
}

impl<'a> Metrics<'a> {
    fn new(context: &'a Context, config: &'a TrainingConfig) -> Self {
        let path = context.run.root().join(METRICS);
        let (begun, losses) = (Instant::now(), Vec::new());
        Self { context, config, path, file: None, begun, seconds_before: 0.0, losses, failed: None }
    }

    fn add(&mut self, step: usize, loss: f64) {
        if self.failed.is_none()
            && let Err(error) = self.write(step, loss)
        {
            self.failed = Some(error);
        }
        self.losses.push(loss);
        let bar = self.context.progress();
        bar.note(&format!("step {step} of {}, loss {loss:.3} {}", self.config.train.steps, curve(&self.losses)));
    }

    fn write(&mut self, step: usize, loss: f64) -> Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        if self.file.is_none() {
            // Lines of steps after the checkpoint come from a process that was interrupted.
            let old = std::fs::read_to_string(&self.path).unwrap_or_default();
            let number = |line: &str, key: &str| serde_json::from_str::<serde_json::Value>(line).ok()?[key].as_f64();
            let kept: Vec<&str> =
                old.lines().take_while(|line| number(line, "step").is_some_and(|old| old < step as f64)).collect();
            self.seconds_before = kept.last().and_then(|line| number(line, "seconds")).unwrap_or(0.0);
            let mut file = BufWriter::new(File::create(&self.path).with_context(failed)?);
            for line in kept {
                writeln!(file, "{line}").with_context(failed)?;
            }
            self.file = Some(file);
        }
        let line = json!({
            "step": step,
            "loss": loss,
            "learning_rate": self.config.train.learning_rate_at(step - 1),
            "seconds": self.seconds_before + self.begun.elapsed().as_secs_f64(),
        });
        let file = self.file.as_mut().context("the file is open")?;
        writeln!(file, "{line}").and_then(|()| file.flush()).with_context(failed)
    }

    fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// Returns the losses so far as a line of bars, scaled from the lowest to the highest.
fn curve(losses: &[f64]) -> String {
    const WIDTH: usize = 24;
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let size = losses.len().div_ceil(WIDTH).max(1);
    let means: Vec<f64> = losses.chunks(size).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(low, high), mean| (low.min(*mean), high.max(*mean)));
    let bar = |mean: &f64| {
        let place = if high > low { (mean - low) / (high - low) * 7.0 } else { 0.0 };
        BARS[(place.round() as usize).min(7)]
    };
    means.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_from_the_highest_bar_to_the_lowest() {
        assert_eq!(curve(&[3.0, 2.0, 1.0]), "█▅▁");
        assert_eq!(curve(&[1.0]), "▁");
        assert_eq!(curve(&[f64::NAN, 1.0]).chars().count(), 2);
        assert_eq!(curve(&vec![1.0; 1000]).chars().count(), 24);
    }
}
