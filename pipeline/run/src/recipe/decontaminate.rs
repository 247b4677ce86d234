//! `[instruct.decontaminate]`: benchmarks that conversations must not contain.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Result, bail};
use lynxdata_budgets::{Likeness, WORDS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::names::NamedPath;

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
    /// Maximum number of the 64 bits in which the pHashes of two similar images may differ. By
    /// default, images are not compared by pHash, because every image has to be decoded for it.
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

impl DecontaminateConfig {
    pub(super) fn paths(&mut self) -> Vec<NamedPath<'_>> {
        let mut paths: Vec<NamedPath> = Vec::new();
        paths.extend(self.against.iter_mut().map(|path| ("instruct.decontaminate.against", path)));
        paths.extend(self.images.as_mut().map(|path| ("instruct.decontaminate.images", path)));
        paths
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.words < 3 || self.hash_distance.is_some_and(|bits| bits > 16) {
            bail!("instruct.decontaminate compares at least 3 words and at most 16 bits of a hash");
        }
        if self.against.is_empty() && !self.held_out_splits {
            bail!("instruct.decontaminate names nothing to compare with; add against = [\"benchmark.jsonl\"]");
        }
        Ok(())
    }
}

fn yes() -> bool {
    true
}

/// A kind of match between a conversation and a benchmark.
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
