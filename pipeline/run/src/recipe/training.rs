//! `[training]`: a model that is trained on pairs or conversations.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lynxdata_burn_model::{DeviceName, ModelConfig, Part, Sight, TokenizerConfig, TrainConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::NamedPath;

/// Maximum side of the images of a model, in pixels; Lynx uses 420.
const MOST_PIXELS: usize = 1024;

/// A compact Lynx that is trained on pairs or conversations.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Training data: a run, its pool, a selection, images with texts beside them, or
    /// conversations.
    pub data: PathBuf,
    /// The folder of a trained model to start from: its weights, sizes and tokenizer are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<PathBuf>,
    /// Maximum number of examples. If there are more, a hash of seed and key chooses among them.
    #[serde(default = "one_million")]
    pub most_examples: usize,
    /// Number of images whose examples are held out for measurement at the end, at least two.
    #[serde(default = "two_hundred")]
    pub held_out: usize,
    /// Pretrained models for parts of the model, such as `decoder =
    /// "SmolLM2-135M-Instruct.Q4_1.gguf"` or `vision = "clip/"`: a Hugging Face folder or a GGUF
    /// file. They set the sizes of their part; the decoder also sets the tokenizer. A pretrained
    /// part is frozen unless `train.rates` names it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pretrained: BTreeMap<Part, PathBuf>,
    /// The device, as in `check.device`.
    #[serde(default = "auto")]
    pub device: DeviceName,
    /// The tokenizer, trained on the examples; not used with `start`.
    #[serde(default)]
    pub tokenizer: TokenizerConfig,
    /// The model, whose `sight` must be `"pixels"`; not used with `start`.
    #[serde(default)]
    pub model: ModelConfig,
    /// Settings of the training.
    #[serde(default)]
    pub train: TrainConfig,
}

impl TrainingConfig {
    pub(super) fn validate(&self) -> Result<()> {
        let model = &self.model;
        model.validate()?;
        self.tokenizer.validate().context("in [training.tokenizer]")?;
        self.train.validate()?;
        if model.sight != Sight::Pixels {
            bail!("training.model.sight must be \"pixels\"; features are only for a check");
        }
        if model.image_size > MOST_PIXELS {
            let found = model.image_size;
            bail!("training.model.image_size = {found} is too large: it must be at most {MOST_PIXELS}");
        }
        if model.frames == 1 {
            bail!("training.model.frames = 1 is not valid: a video needs at least 2 frames, and 0 means images only");
        }
        if self.held_out < 2 || self.most_examples == 0 {
            bail!("training.held_out must be at least 2, and training.most_examples at least 1");
        }
        Ok(())
    }

    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut paths: Vec<NamedPath> = vec![("training.data", &mut self.data)];
        paths.extend(self.start.as_mut().map(|path| ("training.start", path)));
        paths.extend(self.pretrained.values_mut().map(|path| ("training.pretrained", path)));
        paths
    }
}

fn one_million() -> usize {
    1_000_000
}

fn two_hundred() -> usize {
    200
}

fn auto() -> DeviceName {
    DeviceName::Auto
}
