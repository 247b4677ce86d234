//! A whole recipe.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use indexmap::IndexMap;
use lynxdata_engine::dedup::DedupConfig;
use lynxdata_fetch::{DownloadConfig, OneOrMany, PoolFormat, SourceConfig};
use lynxdata_records::nearest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::CheckConfig;
use super::instruct::InstructConfig;
use super::names::{NamedPath, list};
use super::select::SelectionConfig;
use super::shards::ShardsConfig;
use super::training::TrainingConfig;

/// Maximum length of the name of a selection. File names have at most 255 bytes, and temporary ones
/// also contain the stage and the part.
const LONGEST_NAME: usize = 100;

/// A whole run. Paths are relative to the folder of the recipe file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// A title for the report.
    #[serde(default)]
    pub name: String,
    /// The run folder, created if it does not exist. Or a URL in an object store, such as
    /// `s3://bucket/run`: the run then works in a folder beside the recipe, which is mirrored
    /// there.
    pub output: PathBuf,
    /// Seed of all random choices, which depend only on it and on the keys of rows.
    #[serde(default)]
    pub seed: u64,
    /// The list of URLs and captions. Without it, nothing is downloaded: only `instruct`, a `check`
    /// of folders, `train` and the report can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceConfig>,
    /// Settings for downloading and storing images.
    #[serde(default)]
    pub download: DownloadConfig,
    /// Settings that decide which pairs are duplicates.
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

impl Recipe {
    /// Returns all paths.
    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut paths: Vec<NamedPath> = vec![("output", &mut self.output)];
        if let Some(source) = &mut self.source {
            let all = match &mut source.path {
                OneOrMany::One(path) => std::slice::from_mut(path),
                OneOrMany::Many(paths) => paths,
            };
            paths.extend(all.iter_mut().map(|path| ("source.path", path)));
            paths.extend(self.download.ca_file.as_mut().map(|path| ("download.ca_file", path)));
        }
        paths.extend(self.instruct.iter_mut().flat_map(InstructConfig::paths));
        paths.extend(self.check.iter_mut().flat_map(CheckConfig::paths));
        paths.extend(self.training.iter_mut().flat_map(TrainingConfig::paths));
        paths
    }

    /// Checks what types cannot express: that names exist and numbers make sense.
    pub(super) fn validate(&self) -> Result<()> {
        self.download.validate().context("in [download]")?;
        self.validate_dedup()?;
        for (name, selection) in &self.select {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(is_safe) {
                bail!(
                    "selection {name:?} is not a valid name, because folders are named after selections; use only letters, digits, hyphen and underscore, at most {LONGEST_NAME}"
                );
            }
            selection.rules().with_context(|| format!("in [select.{name}]"))?;
        }
        if let Some(shards) = &self.shards {
            self.known_selection(&shards.selection, "shards.selection")?;
            shards.validate()?;
        }
        if let Some(check) = &self.check {
            check.validate()?;
            for (_, selection, _) in check.selections() {
                self.known_selection(selection, "check.arms")?;
            }
        }
        self.instruct.iter().try_for_each(InstructConfig::validate)?;
        self.training.iter().try_for_each(TrainingConfig::validate)?;
        if self.source.is_none() && self.instruct.is_none() && self.check.is_none() && self.training.is_none() {
            bail!("there is nothing to do: a recipe needs [source], [instruct], [check] or [training]");
        }
        self.validate_pool()
    }

    fn validate_dedup(&self) -> Result<()> {
        let DedupConfig { phash_distance, phash_min_entropy, .. } = &self.dedup;
        if !(-1..=64).contains(phash_distance) {
            bail!("dedup.phash_distance is {phash_distance}; it must be between 0 and 64, or -1 to switch it off");
        }
        if phash_min_entropy.is_nan() {
            bail!("dedup.phash_min_entropy is not a number; 0 compares all hashes, and phash_distance = -1 none");
        }
        Ok(())
    }

    /// Checks that there is a pool for the sections that read it.
    fn validate_pool(&self) -> Result<()> {
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

/// Resources of the machine that a run may use; they do not change the output.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesConfig {
    /// Memory in MB for what `dedup`, `select` and `report` hold about pairs that may be
    /// duplicates, beside one part of the pool. What does not fit goes to temporary files in the
    /// run folder.
    pub memory_mb: u64,
}

impl Default for ResourcesConfig {
    fn default() -> Self {
        ResourcesConfig { memory_mb: 1000 }
    }
}
