//! `[check]`: a comparison of two or more data choices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lynxdata_burn_model::{DeviceName, ModelConfig, Part, TokenizerConfig, TrainConfig};
use lynxdata_check::metrics::VISUAL_GAIN;
use lynxdata_check::outcome::{FEWEST_HELD_OUT, FEWEST_PAIRS};
use lynxdata_check::universe::MOST_ARMS;
use lynxdata_check::{Gear, Metric, Protocol};
use lynxdata_engine::select::Rule;
use lynxdata_records::schema::CAPTION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::{NamedPath, list};

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
    /// The selection that has its pairs.
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
    /// The way in which models learn from the arms: `lynx` trains a compact Lynx, which takes
    /// minutes; `quick` fits a probe of the words of texts in closed form, which takes seconds.
    #[serde(default = "lynx")]
    pub gear: Gear,
    /// The question that decides: `fit` asks whose texts fit their images, by the visual gain;
    /// `loss` asks whose texts predict held-out texts, by images and language together, and needs
    /// the gear `lynx`.
    #[serde(default = "fit")]
    pub question: &'static Metric,
    /// Number of replicates. Each draws the pairs of the arms and of the held-out set again, with
    /// replacement. More replicates make the interval more reliable, not smaller; only more pairs
    /// make it smaller.
    #[serde(default = "eight")]
    pub replicates: usize,
    /// Numbers of replicates at which the verdict is read, if it is read more than once. The
    /// probability of error is then divided among them (Lan and DeMets). One of them must be
    /// `replicates`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<usize>,
    /// The probability of naming a winner where there is none; with more than two arms, over all
    /// comparisons (Holm).
    #[serde(default = "five_percent")]
    pub alpha: f64,
    /// Margin of equivalence: arms are equivalent if they differ by less than this percentage of
    /// wrong texts would cause.
    #[serde(default = "ten_percent")]
    pub margin_percent: f64,
    /// Minimum number of different pairs of an arm; with fewer, the verdict is invalid. Below 100,
    /// intervals are not reliable.
    #[serde(default = "fewest_pairs")]
    pub fewest_pairs: usize,
    /// Minimum number of pairs to measure on; with fewer, the verdict is invalid.
    #[serde(default = "fewest_held_out")]
    pub fewest_held_out: usize,
    /// Share of the image clusters that is held out: no pair of them is trained on, and the pairs
    /// for measurement come from them.
    #[serde(default = "one_fifth")]
    pub held_out_fraction: f64,
    /// Maximum number of clusters that are held out.
    #[serde(default = "one_thousand")]
    pub held_out_most: usize,
    /// Condition for the pairs of the pool that may be held out, as SQL over the same columns as
    /// rules. For example, only pairs with captions that people wrote. By default, every pair with
    /// a caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_where: Option<String>,
    /// Maximum number of pairs of an arm. If it has more, a hash of seed and key chooses among
    /// them.
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
    /// Maximum number of epochs over the smallest arm, on average. If it has too few pairs, all
    /// arms are trained for fewer steps than `train.steps`. Up to about four epochs train language
    /// models nearly as well as new text (Muennighoff et al., arXiv 2305.16264).
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

/// The settings of a check by what they decide.
pub struct CheckSettings<'a> {
    /// The pairs: the arms, the folder to measure on, and which pairs of the pool may be held out.
    pub pairs: (&'a [ArmConfig], Option<&'a Path>, Option<&'a str>),
    /// Their division: the share and the most of the held-out clusters, and the most pairs of an
    /// arm.
    pub division: (f64, usize, usize),
    /// The fewest pairs: of an arm, and to measure on.
    pub fewest: (usize, usize),
    /// The fits: the second learning rate, the members and the most epochs.
    pub fits: (f64, usize, f64),
    /// What is fitted, and how.
    pub model: (&'a TokenizerConfig, &'a ModelConfig, TrainConfig),
    /// The names of what is outside the recipe: the device and pretrained parts.
    pub outside: (&'a DeviceName, &'a BTreeMap<Part, PathBuf>),
}

impl CheckConfig {
    /// Returns the settings that parts depend on. Every new setting must be assigned here;
    /// otherwise the crate does not compile.
    pub fn settings(&self) -> CheckSettings<'_> {
        let CheckConfig {
            arms,
            evaluate_on,
            held_out_where,
            held_out_fraction,
            held_out_most,
            most_pairs,
            fewest_pairs,
            fewest_held_out,
            second_learning_rate,
            members,
            most_epochs,
            tokenizer,
            model,
            train,
            device,
            pretrained,
            // The protocol has them.
            gear: _,
            question: _,
            replicates: _,
            looks: _,
            alpha: _,
            margin_percent: _,
            // A fit does not depend on those beside it.
            threads: _,
        } = self;
        CheckSettings {
            pairs: (arms, evaluate_on.as_deref(), held_out_where.as_deref()),
            division: (*held_out_fraction, *held_out_most, *most_pairs),
            fewest: (*fewest_pairs, *fewest_held_out),
            fits: (*second_learning_rate, *members, *most_epochs),
            model: (tokenizer, model, train.deciding()),
            outside: (device, pretrained),
        }
    }

    /// Returns `held_out_where` as a rule.
    pub fn held_out_rule(&self) -> Option<Rule> {
        let predicate = self.held_out_where.clone()?;
        Some(Rule { name: "held_out_where".to_owned(), predicate })
    }

    /// Returns the arms that are selections: the place among all arms, the selection, and the
    /// column of captions if it is not that of the list.
    pub fn selections(&self) -> impl Iterator<Item = (usize, &str, Option<&str>)> {
        self.arms.iter().enumerate().filter_map(|(place, arm)| match arm {
            ArmConfig::Selection(name) => Some((place, name.as_str(), None)),
            ArmConfig::Captions(arm) => {
                let column = Some(arm.captions.as_str()).filter(|column| *column != CAPTION.name);
                Some((place, arm.selection.as_str(), column))
            }
            ArmConfig::Folder(_) => None,
        })
    }

    /// Returns the settings that are fixed before the first fit.
    pub fn protocol(&self, seed: u64) -> Protocol {
        Protocol {
            gear: self.gear,
            metric: self.question,
            seed,
            replicates: self.replicates,
            looks: if self.looks.is_empty() { vec![self.replicates] } else { self.looks.clone() },
            alpha: self.alpha,
            margin_percent: self.margin_percent,
            fewest_pairs: self.fewest_pairs,
            fewest_held_out: self.fewest_held_out,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
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
        if self.question.needs_language_model && self.gear == Gear::Quick {
            bail!(
                "check.question = {:?} needs check.gear = \"lynx\": the probe has no language model",
                self.question.question
            );
        }
        if self.held_out_most == 0 || self.most_pairs == 0 || self.members == 0 {
            bail!("check.held_out_most, check.most_pairs and check.members must be at least 1");
        }
        if self.most_epochs.is_nan() || self.most_epochs <= 0.0 {
            bail!("check.most_epochs is {}; it must be above 0", self.most_epochs);
        }
        self.tokenizer.validate().context("in [check.tokenizer]")?;
        self.model.validate().context("in [check.model]")?;
        self.train.validate().context("in [check.train]")
    }

    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut paths: Vec<NamedPath> = Vec::new();
        paths.extend(self.arms.iter_mut().filter_map(|arm| match arm {
            ArmConfig::Folder(folder) => Some(("check.arms[].path", &mut folder.path)),
            ArmConfig::Selection(_) | ArmConfig::Captions(_) => None,
        }));
        paths.extend(self.evaluate_on.as_mut().map(|path| ("check.evaluate_on", path)));
        paths.extend(self.pretrained.values_mut().map(|path| ("check.pretrained", path)));
        paths
    }
}

fn lynx() -> Gear {
    Gear::Lynx
}

fn fit() -> &'static Metric {
    &VISUAL_GAIN
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

/// Presets of the model of a check: their names, and their settings for `[check]`.
const MODEL_PRESETS: [(&str, &str); 1] = [("smollm2-135m", include_str!("../../assets/check/smollm2-135m.toml"))];

/// Replaces the name of a preset in `check.model` by its settings; settings of the recipe stay.
pub(super) fn expand_preset(table: &mut toml::Table) -> Result<()> {
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
