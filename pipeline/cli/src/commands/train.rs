//! `lynxdata train`: trains a compact Lynx on pairs or conversations.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use lynxdata_burn_model::{DeviceName, saved};
use lynxdata_records::Manifest;

use super::run::run_loaded;
use super::{print, print_json, text_of};
use crate::exit::{DONE, Failure};
use crate::interrupt;
use crate::paths::{input_parser, path_parser};
use lynxdata_run::Wanted;
use lynxdata_run::recipe::{self, LoadedRecipe, TrainingConfig};
use lynxdata_run::stages::arms::data_has_changed;
use lynxdata_run::stages::model::{self, Model};

/// Train a compact Lynx on pairs or conversations
///
/// The stages are those of Lynx: pretrain starts from random weights and learns from pairs;
/// finetune continues from a pretrained model (--start) with conversations. Each stage has default
/// settings, which a file (--config) and --set override. The output folder holds the settings, the
/// model, the loss of each step, and measurements on held-out examples.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata train --stage pretrain --data my-run/selection/clean --out lynx-1
  lynxdata train --stage finetune --data my-run/instruct --start lynx-1/model --out lynx-2
  lynxdata train --stage pretrain --data pairs/ --set train.steps=3000 --device auto --out lynx-1
  lynxdata train --stage pretrain --data pairs/ --out lynx-1 --resume   continue if interrupted
  lynxdata train --stage pretrain --data pairs/ --start lynx-1/model --set model.image_size=128 \\
      --set train.steps=100 --set train.learning_rate=2e-4 --out lynx-1-128   higher resolution

A settings file has the keys of [training] of a recipe: [model], [train], [tokenizer],
held_out, most_examples.")]
pub(crate) struct Arguments {
    /// The stage, which sets the defaults
    #[arg(long, value_enum)]
    stage: TrainingStage,

    /// Training data: a run, its pool (RUN/pool), a selection (RUN/selection/NAME), images with
    /// texts beside them, or conversations (RUN/instruct, or JSON)
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    data: PathBuf,

    /// A TOML file of settings
    #[arg(long, value_name = "FILE", value_parser = input_parser())]
    config: Option<PathBuf>,

    /// Folder of the model to start from
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    start: Option<PathBuf>,

    /// The device to train on: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// Folder for the model and its measurements
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    out: PathBuf,

    /// Continue an interrupted training; without it, a folder with an interrupted training is an
    /// error
    #[arg(long)]
    resume: bool,

    /// Override a setting, as in --set train.steps=500; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print what would be done, and do nothing else
    #[arg(long)]
    dry_run: bool,

    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,
}

/// A stage of training.
#[derive(Clone, Copy, ValueEnum)]
enum TrainingStage {
    /// Train random weights on pairs
    Pretrain,
    /// Train a pretrained model on conversations
    Finetune,
}

impl TrainingStage {
    /// Returns its settings.
    fn preset(self) -> &'static str {
        match self {
            Self::Pretrain => recipe::PRETRAIN,
            Self::Finetune => recipe::FINETUNE,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let loaded = load(arguments).map_err(Failure::Usage)?;
    let root = loaded.run_folder();
    let checkpoint = root.join(model::CHECKPOINT);
    if checkpoint.exists() && !arguments.resume {
        let error = anyhow::anyhow!(
            "{} holds an interrupted training; continue it with --resume, or name another --out",
            root.display()
        );
        return Err(Failure::Usage(error));
    }
    if let Some(key) = other_settings(&loaded)? {
        let error = anyhow::anyhow!(
            "{} holds a model that was trained with another {key}; name another --out to keep that model",
            root.display()
        );
        return Err(Failure::Usage(error));
    }
    interrupt::continue_with("run the same command with --resume to continue");
    let code = run_loaded(loaded, &Wanted::command_of(&Model), arguments.dry_run)?;
    if arguments.dry_run || code != DONE {
        return Ok(code);
    }
    // The model is committed, so the checkpoint is not needed any more.
    if checkpoint.exists() {
        std::fs::remove_file(&checkpoint).with_context(|| format!("cannot remove {}", checkpoint.display()))?;
    }
    let folder = root.join(model::FOLDER);
    let path = folder.join(model::RESULT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut result: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    if result["weights"].as_u64().is_none() {
        let error = anyhow::anyhow!("{} is damaged; run `lynxdata verify {}`", path.display(), root.display());
        return Err(Failure::Failed(error));
    }
    if arguments.json {
        result["model"] = folder.display().to_string().into();
        print_json(&result)?;
    } else {
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        print(&format!(
            "{}: {} weights after {} steps; on {} held-out examples {:.3} bits per byte (unigram model: {:.3}), visual gain {:.3}\n",
            folder.display(),
            result["weights"],
            result["steps"],
            result["held_out_examples"],
            number("held_out_bits_per_byte"),
            number("unigram_bits_per_byte"),
            number("visual_gain_bits_per_byte"),
        ))?;
    }
    Ok(code)
}

fn load(arguments: &Arguments) -> anyhow::Result<LoadedRecipe> {
    let mut training: toml::Table = toml::from_str(arguments.stage.preset()).context("the settings of the stage")?;
    if arguments.start.is_some() {
        training.remove("model"); // that of the start
    }
    let mut table = toml::Table::new();
    if let Some(path) = &arguments.config {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut given: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        if let Some(seed) = given.remove("seed") {
            table.insert("seed".to_owned(), seed);
        }
        if let Some(key) = ["data", "start"].into_iter().find(|key| given.contains_key(*key)) {
            bail!("{}: {key} cannot be set in a settings file; use --{key}", path.display());
        }
        let mut alone = given.clone();
        alone.insert("data".to_owned(), "".into());
        alone.try_into::<TrainingConfig>().with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for (_, path) in given.get_mut("pretrained").and_then(toml::Value::as_table_mut).into_iter().flatten() {
            if let Some(text) = path.as_str() {
                *path = text_of(&folder.join(text))?.into();
            }
        }
        leave_to_pretrained(&mut training, given.get("pretrained"), &arguments.sets);
        merge(&mut training, given);
    } else {
        leave_to_pretrained(&mut training, None, &arguments.sets);
    }
    if arguments.start.is_none() && matches!(arguments.stage, TrainingStage::Finetune) {
        bail!("finetuning needs a model to start from; name its folder by --start");
    }
    if let Some(start) = &arguments.start {
        let of_start = ["model", "tokenizer", "pretrained"];
        // A model with another resolution is allowed: its position embeddings are interpolated.
        let sets = || arguments.sets.iter().map(|set| set.trim_start());
        let is_set = |key: &str| sets().any(|set| set.starts_with(key) && !set.starts_with("model.image_size"));
        if let Some(key) = of_start.into_iter().find(|key| training.contains_key(*key) || is_set(key)) {
            bail!("{key} comes from the model of --start; leave it out, or leave out --start");
        }
        let start = &std::path::absolute(start)?;
        let inside = std::path::absolute(&arguments.out)?;
        if start.starts_with(&inside) {
            bail!(
                "--start {} would be replaced by the model of --out {}; name another --out",
                start.display(),
                inside.display()
            );
        }
        let config = saved::config(start).with_context(|| {
            let below = start.join(model::FOLDER).join(saved::CONFIG);
            let hint = if below.is_file() {
                format!("\nhint: did you mean {}?", start.join(model::FOLDER).display())
            } else {
                String::new()
            };
            format!("{} is not the folder of a trained model{hint}", start.display())
        })?;
        // The recipe that is written should show what is trained.
        training.insert("model".to_owned(), toml::Value::try_from(config)?);
        training.insert("start".to_owned(), text_of(&std::path::absolute(start)?)?.into());
    }
    training.insert("data".to_owned(), text_of(&std::path::absolute(&arguments.data)?)?.into());
    if let Some(device) = &arguments.device {
        training.insert("device".to_owned(), device.to_string().into());
    }
    let out = std::path::absolute(&arguments.out)?;
    table.insert("output".to_owned(), text_of(&out)?.into());
    table.insert("training".to_owned(), training.into());
    let sets: Vec<String> =
        arguments
            .sets
            .iter()
            .map(|set| {
                if set.trim_start().starts_with("seed") {
                    set.clone()
                } else {
                    format!("training.{}", set.trim_start())
                }
            })
            .collect();
    recipe::of_flags(table, out, &sets)
}

/// Returns the first setting in which the finished model of the output folder differs from the
/// requested one.
fn other_settings(loaded: &LoadedRecipe) -> anyhow::Result<Option<String>> {
    let root = loaded.run_folder();
    if !root.join(model::FOLDER).exists() {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(root.join(recipe::RESOLVED_RECIPE)) else { return Ok(None) };
    let old: toml::Table = toml::from_str(&text).with_context(|| format!("in {}", root.display()))?;
    // As text, because that rounds numbers like the old ones.
    let new: toml::Table = toml::from_str(&toml::to_string(&loaded.recipe)?)?;
    for key in ["seed", "training"] {
        if let Some(name) = first_difference(key, old.get(key), new.get(key)) {
            return Ok(Some(name));
        }
    }
    let has_other_data = data_has_changed(&loaded.recipe, &Manifest::read(&root)?);
    Ok(has_other_data.then(|| "content of training.data".to_owned()))
}

fn first_difference(name: &str, old: Option<&toml::Value>, new: Option<&toml::Value>) -> Option<String> {
    match (old, new) {
        (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) => {
            let mut keys = old.keys().chain(new.keys());
            keys.find_map(|key| first_difference(&format!("{name}.{key}"), old.get(key), new.get(key)))
        }
        (old, new) => (old != new).then(|| name.to_owned()),
    }
}

/// Removes the sizes of parts that pretrained weights will replace from the settings of a stage.
fn leave_to_pretrained(stage: &mut toml::Table, given: Option<&toml::Value>, sets: &[String]) {
    let Some(model) = stage.get_mut("model").and_then(toml::Value::as_table_mut) else { return };
    for (part, keys) in [("decoder", &["decoder_"][..]), ("vision", &["vit_", "patch"])] {
        let in_file = given.is_some_and(|pretrained| pretrained.get(part).is_some());
        let is_set = sets.iter().any(|set| set.trim_start().starts_with("pretrained") && set.contains(part));
        if in_file || is_set {
            model.retain(|key, _| !keys.iter().any(|start| key.starts_with(start)));
        }
    }
}

/// Overrides values of `under` by those of `over`, table by table.
fn merge(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
