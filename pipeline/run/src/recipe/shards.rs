//! `[shards]`: the final shards of one selection.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl ShardsConfig {
    pub(super) fn validate(&self) -> Result<()> {
        if self.formats.is_empty() {
            bail!("shards.formats is empty; name parquet, webdataset or both");
        }
        if self.rows_per_shard == 0 {
            bail!("shards.rows_per_shard must be at least 1");
        }
        Ok(())
    }
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
