//! `[instruct.mixture]`: the shares of tasks in one set of conversations.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lynxdata_datasets::mixture::{Group, TokenTotal, preset};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::NamedPath;

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

    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        self.tokenizer.iter_mut().map(|path| ("instruct.mixture.tokenizer", path)).collect()
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.preset.is_some() && !self.groups.is_empty() {
            bail!("instruct.mixture has a preset and groups; leave out one of them");
        }
        match (self.total, self.tokens, &self.tokenizer) {
            (Some(_), Some(_), _) => bail!("instruct.mixture has total and tokens; leave out one of them"),
            (_, Some(_), None) => bail!("instruct.mixture.tokens needs instruct.mixture.tokenizer, which counts them"),
            _ => self.groups().map(drop),
        }
    }
}
