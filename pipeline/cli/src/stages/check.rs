//! Stage `check`: the runs of both arms become a verdict.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use lynxdata_burn_model::{CheckOutcome, RunResult, compare};
use lynxdata_records::{NewPart, PartEntry, fingerprint, parquet};

use super::train::{CHECKPOINTS, CheckPairs, check_of};
use super::{Context, Parts, Planned, Stage};
use crate::recipe::Recipe;

/// Raise it when the same runs give another verdict.
const FORMAT_VERSION: &str = "2";

/// Where the verdict lies in the run folder.
pub(crate) const VERDICT: &str = "check/verdict.json";

pub(crate) struct Check;

impl Stage for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.check.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["train"]
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let runs = context.upstream("train")?;
        // Parts without a run are all alike; what they were made from says why there is none.
        let digest = |part: &PartEntry| if part.files.is_empty() { part.fingerprint.clone() } else { part.digest() };
        let digests: Vec<String> = runs.iter().map(digest).collect();
        let print = fingerprint(["check", FORMAT_VERSION].into_iter().chain(digests.iter().map(String::as_str)));
        let make = Box::new(move |new: &mut NewPart| {
            let [first, second] = &config.arms;
            let chosen = CheckPairs::choose(context, config)?;
            let mut outcome = if let Some(reason) = &chosen.unusable {
                CheckOutcome::invalid(config.arms.clone(), reason.clone())
            } else {
                let results = [read_runs(context, &runs, first)?, read_runs(context, &runs, second)?];
                compare(&results[0], &results[1], [first, second])
            };
            for ((arm, loaded), size) in config.arms.iter().zip(&chosen.arms).zip(chosen.arm_sizes) {
                if loaded.len() < size {
                    outcome.notes.push(format!(
                        "arm {arm} has {size} pairs, of which {} were trained on (check.most_pairs)",
                        loaded.len()
                    ));
                }
            }
            if config.held_out_where.is_none() {
                outcome.notes.push(
                    "the held-out pairs come from the whole pool, so an arm that is more like the pool as it was downloaded has an advantage; \
                     check.held_out_where chooses pairs that can be trusted"
                        .to_owned(),
                );
            }
            (new.rows_in, new.rows_out) = (runs.len() as u64, runs.len() as u64);
            let path = context.run.stage_file(new, VERDICT)?;
            let text = serde_json::to_string_pretty(&outcome).context("a verdict is not JSON")?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            let uids: ArrayRef = Arc::new(StringArray::from(chosen.held_out_uids));
            let batch = RecordBatch::try_from_iter([("uid", uids)])?;
            parquet::write(&context.run.stage_file(new, "check/held-out.parquet")?, &batch.schema(), [&batch])?;
            let checkpoints = context.run.root().join(CHECKPOINTS);
            match std::fs::remove_dir_all(&checkpoints) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", checkpoints.display()))
                }
                _ => Ok(()),
            }
        });
        Ok(Box::new(std::iter::once(Ok(Planned { name: "verdict".to_owned(), fingerprint: print, make }))))
    }
}

/// The verdict that the stage wrote.
pub(crate) fn verdict(context: &Context) -> Result<CheckOutcome> {
    let parts = context.upstream(Check.name())?;
    let part = parts.first().context("stage check has no part")?;
    let file = part.files.iter().find(|file| file.path == VERDICT).context("stage check has no verdict")?;
    let path = context.run.intact(file)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a verdict", path.display()))
}

/// The results of an arm in the order of its replicates.
pub(crate) fn read_runs(context: &Context, parts: &[PartEntry], arm: &str) -> Result<Vec<RunResult>> {
    let prefix = format!("{arm}/");
    parts
        .iter()
        .filter(|part| part.part.starts_with(&prefix))
        .flat_map(|part| &part.files)
        .map(|file| {
            let path = context.run.intact(file)?;
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not the result of a run", path.display()))
        })
        .collect()
}
