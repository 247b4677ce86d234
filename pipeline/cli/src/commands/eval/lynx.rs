//! `--lynx`: gets answers from a model that `lynxdata train` made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lynxdata_burn_model::{Answerer, DeviceName, GenerateConfig, Precision, SavedModel};
use lynxdata_evaluation::input::{Key, Prediction, Reference, References, Source, read_predictions};
use lynxdata_picture::{decode_rgb, square_of};
use serde_json::json;

use super::ask::{self, PREDICTIONS};
use lynxdata_run::lynx::trusted;
use lynxdata_run::video;

use crate::commands::language_model::write_whole;
use crate::host::Terminal;
use crate::paths::input_parser;

/// Maximum number of pixels of an image.
const MAX_PIXELS: u64 = 100_000_000;

#[derive(Args)]
#[command(next_help_heading = "Ask a model of lynxdata train")]
pub(super) struct LynxArguments {
    /// The folder of a model that `lynxdata train` made; answers come from it instead of
    /// --predictions
    #[arg(long, value_name = "DIR", value_parser = input_parser(), requires = "images")]
    pub(super) lynx: Option<PathBuf>,

    /// Choose the likeliest answer instead of writing one. The candidates are the options of the
    /// question; without options, all answers of the questions of its category. Small models are
    /// better at choosing than at writing
    #[arg(long, requires = "lynx")]
    by_likelihood: bool,

    /// The device to run on: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N
    #[arg(long, value_name = "DEVICE", requires = "lynx")]
    device: Option<DeviceName>,

    /// Setting of generation, as in --generate beams=5; repeatable. The keys are max_new_tokens,
    /// min_new_tokens, beams, sample, temperature, top_k, top_p, no_repeat_ngram, length_penalty
    /// and seed
    #[arg(long = "generate", value_name = "KEY=VALUE", requires = "lynx")]
    generate: Vec<String>,
}

impl LynxArguments {
    /// Returns the settings of generation.
    pub(super) fn settings(&self) -> Result<GenerateConfig> {
        let mut table = toml::Table::new();
        for set in &self.generate {
            let parsed: toml::Table = toml::from_str(set).with_context(|| format!("--generate {set}"))?;
            table.extend(parsed);
        }
        let settings: GenerateConfig = table.try_into().context("--generate")?;
        settings.validate()?;
        Ok(settings)
    }
}

/// Answers all questions. Returns the answers, and also writes them if `--out` is given.
pub(super) fn run(arguments: &super::Arguments, references: &References) -> Result<Vec<Prediction>> {
    let (references, key) = (references.rows.as_slice(), references.key.name());
    let (Some(folder), Some(images)) = (&arguments.lynx.lynx, &arguments.ask.images) else {
        bail!("--lynx needs --images");
    };
    let settings = arguments.lynx.settings()?;
    let asked = match &arguments.out {
        Some(out) => {
            std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", out.display()))?;
            let how = if arguments.lynx.by_likelihood {
                "by likelihood".to_owned()
            } else {
                serde_json::to_string(&settings)?
            };
            Some(ask::same_as_before(out, arguments, &format!("{} {how}", folder.display()), references)?)
        }
        None => None,
    };
    let device = trusted(arguments.lynx.device.as_ref().unwrap_or(&DeviceName::Auto), Precision::F32, &Terminal)?;
    let saved = SavedModel::read(folder, &device)
        .with_context(|| format!("{} is not the folder of a trained model", folder.display()))?;
    let answerer = Answerer::new(saved, &device, arguments.ask.max_tokens() as usize)?;
    let candidates = candidates(references);
    let mut lines = String::new();
    let mut alone = 0;
    for (number, reference) in references.iter().enumerate() {
        let at = || format!("{}: id {}", reference.place, reference.id);
        let Some(image) = &reference.image else { bail!("{}: the question has no image", at()) };
        let files = files(images, image, answerer.frames()).with_context(at)?;
        let seen = files.iter().map(|path| square(path, answerer.side() as u32)).collect::<Result<Vec<_>>>()?;
        let question = reference.question.as_deref().unwrap_or_default();
        let question = match &arguments.ask.instruction {
            Some(instruction) if !question.is_empty() => format!("{question}\n{instruction}"),
            _ => question.to_owned(),
        };
        let answer = if arguments.lynx.by_likelihood {
            let among: Vec<&str> = match reference.options.as_slice() {
                [] => candidates[&reference.category].iter().copied().collect(),
                options => options.iter().map(String::as_str).collect(),
            };
            if among.is_empty() {
                bail!("{}: there is no answer to choose from; leave out --by-likelihood", at());
            }
            let nats = answerer.nats_per_byte(&seen, &question, &among)?;
            if nats.iter().any(|nats| !nats.is_finite()) {
                bail!("the model of {} gives scores that are not numbers; train it again", folder.display());
            }
            alone += usize::from(among.len() == 1);
            let best = (0..among.len()).min_by(|a, b| nats[*a].total_cmp(&nats[*b])).unwrap_or(0);
            spelled(reference, best, among[best])
        } else {
            answerer.answer(&seen, &question, &settings)?
        };
        lines.push_str(&format!("{}\n", json!({key: reference.id, "answer": answer})));
        if (number + 1) % 100 == 0 {
            tracing::info!("{} of {} questions have an answer", number + 1, references.len());
        }
    }
    if alone > 0 {
        tracing::warn!(
            "{alone} of {} questions have only one answer to choose from, so every model is right",
            references.len()
        );
    }
    if let (Some(out), Some(asked)) = (&arguments.out, asked) {
        write_whole(&out.join(ask::ASKED), &asked)?;
        write_whole(&out.join(PREDICTIONS), &lines)?;
    }
    // The lines above have the ids by which the references are known, and no others.
    Ok(read_predictions(Source { name: "the model's answers", text: &lines }, &Key::default())?)
}

/// Returns the file of an image, or the files of the frames that represent a video.
fn files(images: &Path, image: &str, frames: usize) -> Result<Vec<PathBuf>> {
    // An image first: its name without the suffix may be that of a folder.
    let not_found = match ask::find(images, image) {
        Ok(path) => return Ok(vec![path]),
        Err(error) => error,
    };
    match video::frames(images, Path::new(image))? {
        None => Err(not_found.context("it is neither an image nor a video as a folder of frames")),
        Some(_) if frames == 0 => bail!("{image} is a video, but the model takes only images: model.frames is 0"),
        Some(files) => Ok(video::spread(files.len(), frames).map(|place| files[place].clone()).collect()),
    }
}

/// Returns an image as the model takes it.
fn square(path: &Path, side: u32) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rgb = decode_rgb(&bytes, MAX_PIXELS).with_context(|| format!("cannot decode {}", path.display()))?;
    Ok(square_of(&rgb, side))
}

/// Returns an option in the spelling of the right answer: its letter or its text.
fn spelled(reference: &Reference, place: usize, text: &str) -> String {
    let letters = 'A'..='Z';
    let by_letter = |answer: &String| answer.len() == 1 && letters.contains(&answer.chars().next().unwrap_or_default());
    if !reference.options.is_empty() && !reference.answers.is_empty() && reference.answers.iter().all(by_letter) {
        letters.clone().nth(place).map_or_else(|| text.to_owned(), |letter| letter.to_string())
    } else {
        text.to_owned()
    }
}

/// Returns the answers of the questions of each category.
fn candidates(references: &[Reference]) -> BTreeMap<Option<String>, BTreeSet<&str>> {
    let mut all: BTreeMap<Option<String>, BTreeSet<&str>> = BTreeMap::new();
    for reference in references {
        let of_category = all.entry(reference.category.clone()).or_default();
        of_category.extend(reference.answers.iter().map(String::as_str));
    }
    all
}
