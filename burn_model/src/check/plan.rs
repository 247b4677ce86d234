//! Which runs a check makes.

use rand_chacha::rand_core::RngCore;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::random::{Purpose, stream};
use crate::tokenizer::TokenizerConfig;
use crate::train::TrainConfig;

/// How two arms are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// Runs per arm. Default 6, the fewest with which the sign-flip test can reach p < 0.05 (2 / 2⁶ = 0.031).
    pub replicates: usize,
    /// Determines the seeds of all replicates. Default 0.
    pub seed: u64,
    /// The tokenizer, trained once for all runs.
    pub tokenizer: TokenizerConfig,
    /// Sizes of the model.
    pub model: ModelConfig,
    /// How it is trained.
    pub train: TrainConfig,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            replicates: 6,
            seed: 0,
            tokenizer: TokenizerConfig::default(),
            model: ModelConfig::default(),
            train: TrainConfig::default(),
        }
    }
}

impl CheckConfig {
    /// Tells the first setting that cannot work.
    pub fn validate(&self) -> Result<()> {
        if self.replicates == 0 {
            let reason = "a check needs one run per arm at least, and six for a verdict".to_owned();
            return Err(Error::Setting { setting: "replicates", value: "0".to_owned(), reason });
        }
        self.model.validate()?;
        self.train.validate()
    }
}

/// One run of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// 0 for the first arm, 1 for the second.
    pub arm: usize,
    /// Counted from 0.
    pub replicate: usize,
    /// The seed of the run; both arms of a replicate share it, and with it the initial weights and the stream of draws
    /// that orders the pairs.
    pub seed: u64,
}

/// The runs of a check: replicate by replicate, in each both arms, so that a check that is stopped early has pairs.
pub fn planned_runs(config: &CheckConfig) -> Vec<PlannedRun> {
    let mut draws = stream(config.seed, Purpose::Replicates);
    let replicates = (0..config.replicates).flat_map(|replicate| {
        // 53 bits, which every reader of JSON keeps.
        let seed = draws.next_u64() >> 11;
        [0, 1].map(|arm| PlannedRun { arm, replicate, seed })
    });
    replicates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_of_a_replicate_share_a_seed_and_replicates_do_not() {
        let runs = planned_runs(&CheckConfig::default());
        assert_eq!(runs.len(), 12);
        for pair in runs.chunks_exact(2) {
            assert_eq!((pair[0].arm, pair[1].arm), (0, 1));
            assert_eq!((pair[0].replicate, pair[0].seed), (pair[1].replicate, pair[1].seed));
        }
        let mut seeds: Vec<u64> = runs.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 6);
    }

    #[test]
    fn more_replicates_extend_a_plan() {
        let plan = |replicates| planned_runs(&CheckConfig { replicates, ..Default::default() });
        assert_eq!(plan(8)[..12], plan(6));
        assert_ne!(plan(6), planned_runs(&CheckConfig { seed: 1, ..Default::default() }));
    }

    #[test]
    fn refuses_no_replicates_and_unknown_keys() {
        assert!(CheckConfig { replicates: 0, ..Default::default() }.validate().is_err());
        CheckConfig::default().validate().unwrap();
        let misspelt = serde_json::from_str::<CheckConfig>(r#"{"replicate": 3}"#).unwrap_err().to_string();
        assert!(misspelt.contains("unknown field `replicate`"), "{misspelt}");
    }
}
