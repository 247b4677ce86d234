//! Stage `check`: turns the fits into a verdict.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use lynxdata_check::metrics::VISUAL_GAIN;
use lynxdata_check::outcome::{ArmOutcome, CheckOutcome, Comparison, check, judge};
use lynxdata_check::{Gear, METRICS, Metric, Probe, Protocol, Verdict};
use lynxdata_records::{NewPart, PartEntry, fingerprint, parquet};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::arms::{READ, check_of, check_settings};
use super::train::{CHECKPOINTS, CheckData, results};
use crate::recipe::{ArmConfig, CheckSettings, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::stages::arms::Arms;
use crate::stages::train::Controls;
use crate::stages::train::Train;

/// Version of the verdict. Raise it when the same fits give another verdict.
const FORMAT_VERSION: &str = "7";

/// Path of the verdict in the run folder.
pub const VERDICT: &str = "check/verdict.json";

/// Compares the arms and gives a verdict.
pub struct Check;

impl Stage for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.check.is_some()
    }

    fn command(&self) -> &'static str {
        "check"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(check_settings(recipe))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        match recipe.check.as_ref().map(|check| check.gear) {
            Some(Gear::Lynx) => vec![&Arms, &Train, &Controls],
            Some(Gear::Quick) | None => vec![&Arms],
        }
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let outcome = verdict(context)?;
        let is_invalid = |comparison: &Comparison| matches!(comparison.verdict, Verdict::Invalid { .. });
        let sentences = outcome.comparisons.iter().map(|comparison| format!("verdict: {}", comparison.sentence));
        Ok(StageOutcome {
            sentences: sentences.collect(),
            is_bad: outcome.comparisons.iter().any(is_invalid),
            ..StageOutcome::default()
        })
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let protocol = config.protocol(context.recipe().seed);
        // Tables and fits are inputs, but do not hold the names of all arms.
        let CheckSettings { pairs: (arms, _, _), division, fewest: _, fits: _, model: _, outside: _ } =
            config.settings();
        let names: Vec<&str> = arms.iter().map(ArmConfig::name).collect();
        let settings = settings_text(&(&protocol, &context.recipe().dedup, division, names));
        let mut digests = Vec::new();
        for stage in self.reads(context.recipe()) {
            // Parts without a fit all have the same digest; their fingerprints tell why they are
            // empty.
            let digest =
                |part: &PartEntry| if part.files.is_empty() { part.fingerprint.clone() } else { part.digest() };
            digests.extend(context.upstream(stage)?.iter().map(digest));
        }
        let print =
            fingerprint(["check", FORMAT_VERSION, &settings].into_iter().chain(digests.iter().map(String::as_str)));
        let make = Box::new(move |new: &mut NewPart| {
            let data = CheckData::load(context)?;
            let mut outcome = match protocol.gear {
                Gear::Quick => quick(&protocol, &data),
                Gear::Lynx => {
                    let mut fits = results(context, &Train)?;
                    fits.extend(results(context, &Controls)?);
                    let mut outcome =
                        judge(&protocol, METRICS, &data.universe.arms, &data.split, &data.different_pairs, &fits);
                    outcome.notes.push(second_opinion(&protocol, &data));
                    outcome
                }
            };
            outcome.notes.extend(not_read(context)?);
            let fits = outcome.arms.iter().map(|arm| arm.replicates() as u64).sum();
            (new.rows_in, new.rows_out) = (fits, fits);
            let path = context.run.stage_file(new, VERDICT)?;
            let text = serde_json::to_string_pretty(&Written::of(outcome)).context("a verdict is not JSON")?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            let held_out = &data.split.held_out;
            let uids: ArrayRef = Arc::new(StringArray::from_iter_values(held_out.iter().map(|held| &held.uid)));
            let clusters: ArrayRef = Arc::new(StringArray::from_iter_values(held_out.iter().map(|held| &held.cluster)));
            let counts: ArrayRef =
                Arc::new(BooleanArray::from(held_out.iter().map(|held| held.counts).collect::<Vec<_>>()));
            let batch = RecordBatch::try_from_iter([("uid", uids), ("cluster", clusters), ("counts", counts)])?;
            parquet::write(&context.run.stage_file(new, "check/held-out/pairs.parquet")?, &batch.schema(), [&batch])?;
            let checkpoints = context.run.root().join(CHECKPOINTS);
            match std::fs::remove_dir_all(&checkpoints) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", checkpoints.display()))
                }
                _ => Ok(()),
            }
        });
        Ok(Box::new(std::iter::once(Ok(Planned::new("verdict".to_owned(), print, make)))))
    }
}

fn quick(protocol: &Protocol, data: &CheckData) -> CheckOutcome {
    let probe = Probe::new(&data.universe, &data.split, protocol.seed);
    let fit = |fit| Ok::<_, std::convert::Infallible>(probe.fit(fit));
    let Ok(outcome) = check(protocol, &data.universe, &data.split, true, &fit);
    outcome
}

/// Returns what was left out of the arms, by part and reason.
fn not_read(context: &Context) -> Result<Vec<String>> {
    let parts = context.upstream(&Arms)?;
    let of_part = |part: &PartEntry| {
        let reasons = part.counts.iter().filter(|(reason, count)| *reason != READ && **count > 0);
        let reasons: Vec<String> =
            reasons.map(|(reason, count)| format!("{count} {}", reason.replace('_', " "))).collect();
        (!reasons.is_empty()).then(|| format!("left out of {}: {}", part.part, reasons.join(", ")))
    };
    Ok(parts.iter().filter_map(of_part).collect())
}

/// Returns the result of the probe on the same arms and held-out pairs, in addition to that of the
/// model.
fn second_opinion(protocol: &Protocol, data: &CheckData) -> String {
    let quick_protocol = Protocol {
        gear: Gear::Quick,
        metric: &VISUAL_GAIN,
        replicates: QUICK_REPLICATES,
        looks: vec![QUICK_REPLICATES],
        ..protocol.clone()
    };
    let outcome = quick(&quick_protocol, data);
    let first = outcome.first();
    let difference = first.difference.as_ref();
    let numbers = difference.and_then(|difference| {
        let p = first.adjusted_p.map(|p| if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") })?;
        Some(format!(" (visual gain {:+.4} {}, {p})", difference.mean, outcome.unit))
    });
    let verdict = match &first.verdict.winner() {
        Some(arm) => format!("{arm} is better"),
        None => first.verdict.name().to_owned(),
    };
    format!(
        "asked whether texts fit their images, the quick gear says of {} and {}: {verdict}{}",
        first.first,
        first.second,
        numbers.unwrap_or_default()
    )
}

/// Number of replicates of the probe, which are cheap.
pub const QUICK_REPLICATES: usize = 12;

/// A verdict as it is written: what `lynxdata check --json` prints, and all details.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    told: serde_json::Map<String, Value>,
    outcome: CheckOutcome,
}

impl Written {
    fn of(outcome: CheckOutcome) -> Written {
        Written { told: told(&outcome), outcome }
    }
}

/// Returns what `lynxdata check --json` prints: the comparison of the first two arms, and all
/// comparisons under `comparisons`. It has the levels of the metrics that every gear has.
pub(crate) fn told(outcome: &CheckOutcome) -> serde_json::Map<String, Value> {
    let first = outcome.first();
    let difference = first.difference.as_ref();
    let levels = |metric: &Metric| {
        let of_arm = |arm: &ArmOutcome| {
            let values = arm.of(metric).values;
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let lowest = values.iter().copied().reduce(f64::min);
            (arm.name.clone(), json!({"mean": lowest.map(|_| mean), "lowest": lowest}))
        };
        outcome.arms.iter().map(of_arm).collect::<serde_json::Map<_, _>>()
    };
    let of_first = json!({
        "verdict": first.verdict.name(),
        "winner": first.verdict.winner(),
        "sentence": first.sentence,
        "metric": outcome.metric,
        "unit": outcome.unit,
        "mean_difference": difference.map(|difference| difference.mean),
        "ci95": difference.and_then(|difference| difference.interval_at(0.05)),
        "p": first.adjusted_p.filter(|_| difference.is_some()),
        "p_adjusted_for": first.adjusted_for,
        "interval": difference.and_then(|difference| difference.interval),
        "interval_confidence": difference.map(|difference| 1.0 - difference.alpha),
        "replicates": outcome.protocol.replicates,
        "minimum_detectable_effect": difference.and_then(|difference| difference.minimum_detectable_effect),
        "caption_noise_equivalent": first.caption_noise_equivalent.map(|noise| noise.percent),
        "caption_noise_equivalent_or_more": first.caption_noise_equivalent.map(|noise| noise.or_more),
    });
    let everywhere = outcome.metrics.iter().filter(|metric| !metric.needs_language_model);
    let levels = everywhere.map(|metric| (metric.measure.name.to_owned(), Value::Object(levels(metric))));
    let of_all = json!({
        "controls": outcome.controls,
        "gates": first.gates,
        "comparisons": outcome.comparisons.iter().map(|comparison| json!({
            "first": comparison.first,
            "second": comparison.second,
            "verdict": comparison.verdict.name(),
            "winner": comparison.verdict.winner(),
            "mean_difference": comparison.difference.as_ref().map(|difference| difference.mean),
            "ci95": comparison.difference.as_ref().and_then(|difference| difference.interval_at(0.05)),
            "p": comparison.adjusted_p.filter(|_| comparison.difference.is_some()),
            "p_adjusted_for": comparison.adjusted_for,
            "interval": comparison.difference.as_ref().and_then(|difference| difference.interval),
            "interval_confidence": comparison.difference.as_ref().map(|difference| 1.0 - difference.alpha),
            "caption_noise_equivalent": comparison.caption_noise_equivalent.map(|noise| noise.percent),
            "sentence": comparison.sentence,
        })).collect::<Vec<_>>(),
        "notes": outcome.notes,
    });
    match (of_first, of_all) {
        (Value::Object(first), Value::Object(all)) => first.into_iter().chain(levels).chain(all).collect(),
        _ => unreachable!("the macros above make objects"),
    }
}

/// Returns the verdict that the stage wrote.
pub(crate) fn verdict(context: &Context) -> Result<CheckOutcome> {
    let parts = context.upstream(&Check)?;
    let part = parts.first().context("stage check has no part")?;
    let file = part.files.iter().find(|file| file.path == VERDICT).context("stage check has no verdict")?;
    let path = context.run.intact(file)?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let written: Written =
        serde_json::from_str(&text).with_context(|| format!("{} is not a verdict", path.display()))?;
    Ok(written.outcome)
}
