//! The gear `lynx` of a check: a compact Lynx, trained on a version of the arms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use lynxdata_burn_model::{
    DeviceName, Example, HeldOutLoss, LossPoint, ModelConfig, Part, Pictures, Precision, Pretrained, RunResult,
    RunSpec, Shown, Tokenizer, TrainConfig, train_tokenizer,
};
use lynxdata_check::features::coordinates;
use lynxdata_check::fit::{examples, training_seed};
use lynxdata_check::{Fit, FitResult, Gear, Losses, METRICS, Measured, Seen, Split, Training, Universe, Version};

use crate::host::Host;
use crate::recipe::{CheckConfig, LoadedRecipe};

/// Number of principal coordinates of the frozen features that the model sees.
const COORDINATES: usize = 256;

/// Returns the device that a name means on this machine, if it computes correct numbers in a
/// precision.
///
/// The CPU is checked by the tests of this project. Any other device is examined first, in a
/// separate process.
pub fn trusted(name: &DeviceName, precision: Precision, host: &dyn Host) -> Result<DeviceName> {
    let name = name.resolve()?;
    if name == DeviceName::Cpu {
        return Ok(name);
    }
    tracing::info!(device = %name, "examining the device before training");
    let found = host.examine(&name).with_context(|| {
        format!("device {name} is not used, because its examination failed; --device cpu trains on the CPU")
    })?;
    let Some(finding) = found.of(precision) else {
        let supported: Vec<&str> = found.findings.iter().map(|finding| finding.precision.name()).collect();
        bail!("train.precision = \"{precision}\" is not supported: device {name} computes in {}", supported.join(", "));
    };
    if !finding.pass {
        bail!(
            "device {name} computes wrong numbers in {precision} (outputs off by {:.1e}, gradients by {:.1e}, losses by {:.1e}; see `lynxdata doctor`) and is not used; \
             --device cpu trains on the CPU",
            finding.found.forward,
            finding.found.gradients,
            finding.found.losses
        );
    }
    Ok(name)
}

/// Pretrained parts of a model.
pub struct PretrainedParts {
    /// The pretrained models, each with the part of the model that it is for.
    pub parts: Vec<(Pretrained, Part)>,
    /// The tokenizer of the decoder.
    pub tokenizer: Option<Tokenizer>,
}

/// Opens pretrained parts, whose paths are relative to `folder`. They set the sizes of the model,
/// and are frozen unless the training has a rate for them.
///
/// # Errors
///
/// If a file cannot be used, or the model has a setting that contradicts the file.
pub fn pretrained(
    paths: &BTreeMap<Part, PathBuf>,
    folder: &Path,
    model: &mut ModelConfig,
    train: &mut TrainConfig,
) -> Result<PretrainedParts> {
    let mut found = PretrainedParts { parts: Vec::new(), tokenizer: None };
    for (part, path) in paths {
        let opened = Pretrained::open(&folder.join(path))?;
        let mut configured = model.clone();
        opened.configure(*part, &mut configured)?;
        // Position embeddings are interpolated to the requested size.
        configured.image_size = model.image_size;
        refuse_contradiction(model, &configured).with_context(|| path.display().to_string())?;
        *model = configured;
        if *part == Part::Decoder {
            found.tokenizer = opened.tokenizer()?;
            if found.tokenizer.is_none() {
                bail!("{} has no tokenizer, but its decoder needs one", path.display());
            }
        }
        train.rates.entry(*part).or_insert(0.0);
        found.parts.push((opened, *part));
    }
    model.validate()?;
    train.validate()?;
    Ok(found)
}

/// Checks before any work that the pretrained parts of a recipe can be used.
///
/// # Errors
///
/// As [`pretrained`].
pub fn check_pretrained(loaded: &LoadedRecipe) -> Result<()> {
    let recipe = &loaded.recipe;
    let check = recipe.check.iter().filter(|check| check.gear == Gear::Lynx);
    let check = check.map(|check| ("check.pretrained", &check.pretrained, &check.model, &check.train));
    let training = recipe.training.iter();
    let training =
        training.map(|training| ("training.pretrained", &training.pretrained, &training.model, &training.train));
    for (key, paths, model, train) in check.chain(training) {
        pretrained(paths, &loaded.folder, &mut model.clone(), &mut train.clone()).context(key)?;
    }
    Ok(())
}

/// Refuses a setting of the model that differs from the default and from the pretrained part.
fn refuse_contradiction(own: &ModelConfig, pretrained: &ModelConfig) -> Result<()> {
    let [own, pretrained, default] = [own, pretrained, &ModelConfig::default()].map(serde_json::to_value);
    let (own, pretrained, default) = (own?, pretrained?, default?);
    let mut keys = own.as_object().into_iter().flat_map(serde_json::Map::keys);
    if let Some(key) = keys.find(|key| own[*key] != default[*key] && own[*key] != pretrained[*key]) {
        bail!("it has {key} = {}, but model.{key} is {}; leave out model.{key}", pretrained[key], own[key]);
    }
    Ok(())
}

/// Logs which tensors of pretrained files are not used: other parts, layers beyond the depth of the
/// model, heads of other tasks, buffers.
pub fn tell_unused(parts: &[(Pretrained, Part)], model: &ModelConfig) -> Result<()> {
    /// Maximum number of names in a message.
    const NAMED: usize = 4;
    let mut unused: BTreeMap<&Path, BTreeSet<String>> = BTreeMap::new();
    for (pretrained, part) in parts {
        let of_part: BTreeSet<String> = pretrained.unused(*part, model)?.into_iter().collect();
        // If two parts come from one file, only tensors that neither uses are unused.
        let of_file = unused.entry(pretrained.path()).or_insert_with(|| of_part.clone());
        of_file.retain(|name| of_part.contains(name));
    }
    for (path, names) in unused.iter().filter(|(_, names)| !names.is_empty()) {
        let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
        let more = if names.len() > NAMED { ", …" } else { "" };
        tracing::info!("{}: {} tensors are not used: {}{more}", path.display(), names.len(), named.join(", "));
    }
    Ok(())
}

/// Returns the identity of pretrained parts for fingerprints: their paths with the sizes and times
/// of their files.
pub fn stamps(paths: &BTreeMap<Part, PathBuf>, folder: &Path) -> Result<Vec<String>> {
    let stamp = |path: &Path| -> Result<String> {
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(format!("{} {} {:?}", path.display(), metadata.len(), modified.map(|time| time.as_secs())))
    };
    let mut all = Vec::new();
    for (part, path) in paths {
        let path = folder.join(path);
        all.push(format!("{part:?}"));
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
            files.sort();
            for file in files {
                all.push(stamp(&file)?);
            }
        } else {
            all.push(stamp(&path)?);
        }
    }
    Ok(all)
}

/// Everything that the fits of one check share.
pub struct Lynx<'a> {
    config: &'a CheckConfig,
    universe: Universe,
    split: Split,
    /// The arms with enough pairs.
    arms: Vec<usize>,
    seed: u64,
    pictures: Pictures,
    tokenizer: Tokenizer,
    held_out: Vec<Example>,
    device: DeviceName,
    model: ModelConfig,
    train: TrainConfig,
    pretrained: Vec<(Pretrained, Part)>,
    /// Steps of every training: the same for all arms, and few if one of the arms is small.
    steps: usize,
}

impl<'a> Lynx<'a> {
    /// Trains the tokenizer on the texts of all arms, or takes the tokenizer of the pretrained
    /// decoder, and prepares the inputs of the model. Paths of the check are relative to `folder`.
    pub fn new(
        config: &'a CheckConfig,
        folder: &Path,
        universe: Universe,
        split: Split,
        arms: Vec<usize>,
        seed: u64,
        host: &dyn Host,
    ) -> Result<Lynx<'a>> {
        let device = trusted(&config.device, config.train.precision, host)?;
        let (mut model, mut train) = (config.model.clone(), config.train.clone());
        let PretrainedParts { parts: pretrained, tokenizer } =
            pretrained(&config.pretrained, folder, &mut model, &mut train)?;
        tell_unused(&pretrained, &model)?;
        let coordinates = coordinates(&universe.features, COORDINATES);
        let pictures = Pictures::Features { width: coordinates.columns(), values: coordinates.values().to_vec() };
        let mut used: Vec<u32> = split.arms.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        let texts: Vec<String> = used.iter().map(|pair| example(&universe, 0, *pair).text()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokenizer = match tokenizer {
            Some(tokenizer) => tokenizer,
            None => train_tokenizer(&texts, &config.tokenizer)?,
        };
        let held_out =
            split.held_out.iter().map(|held| example(&universe, universe.pairs[held.pair as usize].picture, held.pair));
        let held_out = held_out.collect();
        let mut steps = config.train.steps;
        for arm in arms.iter().map(|arm| &split.arms[*arm]) {
            let tokens = arm.iter().map(|pair| {
                let example = example(&universe, 0, *pair);
                lynxdata_burn_model::loss_tokens(&tokenizer, &example, config.train.max_tokens)
            });
            let tokens = tokens.sum::<lynxdata_burn_model::Result<usize>>()?;
            let most = config.most_epochs * tokens as f64 / config.train.tokens_per_step as f64;
            steps = steps.min((most.ceil() as usize).max(1));
        }
        Ok(Lynx {
            config,
            universe,
            split,
            arms,
            seed,
            pictures,
            tokenizer,
            held_out,
            device,
            model,
            train,
            pretrained,
            steps,
        })
    }

    /// Returns whether a version is made from an arm with enough pairs.
    pub fn fits(&self, version: Version) -> bool {
        self.arms.contains(&version.arm())
    }

    /// Trains and measures. With a checkpoint, continues an interrupted fit.
    pub fn fit(
        &self,
        fit: Fit,
        checkpoint: Option<&Path>,
        progress: &mut (dyn FnMut(usize, f64) + Send),
    ) -> Result<FitResult> {
        let chosen = examples(&self.universe, &self.split, self.seed, &fit);
        let arm: Vec<Example> =
            chosen.iter().map(|chosen| example(&self.universe, chosen.picture, chosen.text)).collect();
        let copies: Vec<u32> = chosen.iter().map(|chosen| chosen.copies).collect();
        let train = TrainConfig {
            steps: self.steps,
            learning_rate: learning_rate(self.config, fit.setting),
            ..self.train.clone()
        };
        let mut results: Vec<RunResult> = Vec::with_capacity(self.config.members);
        for member in 0..self.config.members {
            let checkpoint = checkpoint.map(|path| path.with_extension(format!("{member}.bin")));
            let spec = RunSpec {
                model: &self.model,
                train: &train,
                tokenizer: &self.tokenizer,
                pictures: &self.pictures,
                arm: &arm,
                copies: &copies,
                held_out: &self.held_out,
                seed: training_seed(self.seed, fit.replicate, member),
                pretrained: &self.pretrained,
                start: None,
                checkpoint: checkpoint.as_deref(),
                device: &self.device,
            };
            let steps_before = member * train.steps;
            results.push(lynxdata_burn_model::run(&spec, &mut |step, loss| progress(steps_before + step, loss))?);
        }
        let (first, members) = (&results[0], results.len() as f64);
        let losses = |loss: &HeldOutLoss| Losses {
            nats: loss.nats,
            nats_wrong_picture: loss.nats_wrong_picture,
            nats_unigram: loss.nats_unigram,
        };
        let measured = first.held_out.iter().enumerate().map(|(place, loss)| {
            let models: Vec<Losses> = results.iter().map(|result| losses(&result.held_out[place])).collect();
            Measured::new(METRICS, &Seen::Losses(&models), f64::from(loss.bytes))
        });
        let curve = |(point, at): (usize, &LossPoint)| {
            (at.step, results.iter().map(|result| result.losses[point].loss).sum::<f64>() / members)
        };
        let training = Training {
            seeds: results.iter().map(|result| result.seed).collect(),
            learning_rate: first.learning_rate,
            steps: first.steps,
            loss_tokens: first.loss_tokens,
            epochs: first.epochs,
            weights: first.weights,
            losses: first.losses.iter().enumerate().map(curve).take_while(|(_, loss)| loss.is_finite()).collect(),
            uniform_bits_per_byte: first.uniform_bits_per_byte(),
        };
        Ok(FitResult::new(fit, &self.split, self.seed, METRICS, measured.collect(), &chosen, Some(training)))
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
    Example { shown: Shown::picture(picture), turns: turns.collect() }
}
