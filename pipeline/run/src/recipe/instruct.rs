//! `[instruct]`: conversations from annotated datasets.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::PathBuf;

use anyhow::{Result, bail};
use lynxdata_datasets::export::{FORMATS, Format};
use lynxdata_datasets::{BuildSettings, CommercialUse, Negatives, Task};
use lynxdata_prompts::PromptMode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decontaminate::DecontaminateConfig;
use super::mixture::MixtureConfig;
use super::names::NamedPath;

/// Conversations from annotated datasets.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstructConfig {
    /// The datasets to read.
    pub tasks: Vec<TaskSource>,
    /// The wordings from which one is drawn for each record: all that suit it (`all`), the first
    /// three written by people (`seed`), or only the first (`one`; the ablation of arXiv
    /// 2307.02469).
    #[serde(default)]
    pub prompts: PromptMode,
    /// The language of the wordings as an ISO 639 code, such as `de`; by default, the language of
    /// the task. Questions and answers stay in the language of the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether all texts are lowercased, as in the paper.
    #[serde(default)]
    pub lower_case: bool,
    /// Maximum number of questions about one image that are packed into one dialog; by default, no
    /// dialogs are packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack_dialogs: Option<u32>,
    /// The shares of the questions with options that are asked without a right option.
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
    /// The choice of tasks by the licences of their annotations.
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

/// The settings of `[instruct]` by what they decide.
pub struct InstructSettings<'a> {
    /// The tasks, and which of them are used.
    pub tasks: (Vec<TaskSource>, LicenceChoice),
    /// Dialogs, missing images, frames of videos, and the size of parts.
    pub parts: (Option<u32>, bool, Option<u32>, NonZeroU64),
    /// The file formats.
    pub formats: &'a BTreeSet<&'static Format>,
    /// What is drawn from the conversations.
    pub mixture: Option<&'a MixtureConfig>,
}

impl InstructConfig {
    /// Returns the settings that parts depend on. Every new setting must be assigned here;
    /// otherwise the crate does not compile.
    pub fn settings(&self) -> InstructSettings<'_> {
        let InstructConfig {
            tasks,
            licence,
            pack_dialogs,
            require_images,
            frames,
            rows_per_part,
            formats,
            mixture,
            // `build_settings` has them.
            prompts: _,
            language: _,
            lower_case: _,
            negatives: _,
            // What they name is an input.
            catalogue: _,
            banks: _,
            decontaminate: _,
        } = self;
        InstructSettings {
            tasks: (tasks.iter().map(TaskSource::deciding).collect(), *licence),
            parts: (*pack_dialogs, *require_images, *frames, *rows_per_part),
            formats,
            mixture: mixture.as_ref(),
        }
    }

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

    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut paths: Vec<NamedPath> = Vec::new();
        for task in &mut self.tasks {
            paths.push(("instruct.tasks[].root", &mut task.root));
            paths.extend(task.images.as_mut().map(|path| ("instruct.tasks[].images", path)));
        }
        paths.extend(self.catalogue.as_mut().map(|path| ("instruct.catalogue", path)));
        paths.extend(self.banks.as_mut().map(|path| ("instruct.banks", path)));
        paths.extend(self.decontaminate.iter_mut().flat_map(DecontaminateConfig::paths));
        paths.extend(self.mixture.iter_mut().flat_map(MixtureConfig::paths));
        paths
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.mixture.iter().try_for_each(MixtureConfig::validate)?;
        if let Some(fault) = self.negatives.fault() {
            bail!("instruct.negatives: {fault}");
        }
        self.decontaminate.iter().try_for_each(DecontaminateConfig::validate)?;
        if self.pack_dialogs.is_some_and(|most| most < 2) {
            bail!("instruct.pack_dialogs is the maximum number of questions of a dialog; it must be at least 2");
        }
        let mut seen = BTreeSet::new();
        for task in &self.tasks {
            if !seen.insert((&task.name, &task.split)) {
                bail!("instruct.tasks names split {:?} of {:?} twice", task.split, task.name);
            }
            if let Some(share) = task.may_drop.filter(|share| !(0.0..=1.0).contains(share)) {
                bail!("instruct.tasks: may_drop of {:?} is {share} but must be a share from 0 to 1", task.name);
            }
        }
        // Parts of different sets must not be written to the same files.
        let mut sets: BTreeMap<String, &TaskSource> = BTreeMap::new();
        for task in &self.tasks {
            if let Some(other) = sets.insert(task.set_name(), task) {
                bail!(
                    "instruct.tasks: split {:?} of {:?} and split {:?} of {:?} would both be written as {}; rename one of the tasks",
                    other.split,
                    other.name,
                    task.split,
                    task.name,
                    task.set_name()
                );
            }
        }
        Ok(())
    }
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
    /// Maximum number of records to use. If there are more, a hash of seed and id chooses among
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Share of its records, 0 to 1, that may be lost: records that cannot be read or converted, or
    /// whose images are missing. If more are lost, a run ends with exit code 3. By default that of
    /// the task, which is usually 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_drop: Option<f64>,
}

impl TaskSource {
    /// Returns the settings that parts depend on. How many records may be lost only decides how a
    /// run ends.
    fn deciding(&self) -> TaskSource {
        let TaskSource { name, root, split, images, most, may_drop: _ } = self.clone();
        TaskSource { name, root, split, images, most, may_drop: None }
    }

    /// Returns the name of its set of conversations. It is also the name of the first part, and the
    /// names of the other parts begin with it.
    ///
    /// A split whose name ends like the number of a part, as the names of some files do, gets `-0`
    /// after its name: otherwise `big-00001` would be the name of that split and of the second part
    /// of the split `big`. So no name of a set ends like a number, and different splits of a task
    /// have different names: the rule also adds `-0` to what it has made.
    pub fn set_name(&self) -> String {
        let name = format!("{}-{}", self.name, self.split);
        let mut end = name.as_str();
        while let Some(rest) = end.strip_suffix("-0") {
            end = rest;
        }
        let is_number = |last: &str| last.len() >= PART_DIGITS && last.bytes().all(|byte| byte.is_ascii_digit());
        let ends_like_part = end.rsplit_once('-').is_some_and(|(_, last)| is_number(last));
        if ends_like_part { name + "-0" } else { name }
    }

    /// Returns the name of a part of its set.
    pub(crate) fn part_name(&self, number: usize) -> String {
        let set = self.set_name();
        if number == 0 { set } else { format!("{set}-{number:0PART_DIGITS$}") }
    }
}

/// Minimum number of digits of the number of a part in its name.
const PART_DIGITS: usize = 5;

/// The choice of tasks by the licences of their annotations.
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

fn yes() -> bool {
    true
}

fn fifty_thousand() -> NonZeroU64 {
    NonZeroU64::new(50_000).expect("it is not 0")
}

fn default_instruct_formats() -> BTreeSet<&'static Format> {
    FORMATS.iter().copied().filter(|format| format.is_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_different_splits_never_have_the_same_name() {
        let splits = ["big", "big-00001", "big-00001-0", "big-00001-0-0", "big-00001-00001", "big-1", "v2-0", "100000"];
        let source = |split: &str| TaskSource {
            name: "own".to_owned(),
            root: PathBuf::new(),
            split: split.to_owned(),
            images: None,
            most: None,
            may_drop: None,
        };
        let names: Vec<String> =
            splits.iter().flat_map(|split| [0, 1, 2, 100_000].map(|number| source(split).part_name(number))).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let first = splits.map(|split| source(split).set_name());
        let expected = [
            "own-big",
            "own-big-00001-0",
            "own-big-00001-0-0",
            "own-big-00001-0-0-0",
            "own-big-00001-00001-0",
            "own-big-1",
            "own-v2-0",
            "own-100000-0",
        ];
        assert_eq!(first, expected);
    }

    #[test]
    fn sets_of_different_tasks_have_different_names() {
        let tasks = |second: &str| {
            let text = format!(
                "tasks = [{{ name = \"x\", root = \".\", split = \"y-z\" }}, {{ name = \"{second}\", root = \".\", split = \"z\" }}]"
            );
            toml::from_str::<InstructConfig>(&text).unwrap().validate()
        };
        assert!(tasks("x-y").unwrap_err().to_string().contains("would both be written as x-y-z"));
        tasks("x").unwrap();
    }
}
