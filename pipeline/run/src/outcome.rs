//! What a run came to: one line at its end, and whether it went well.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::Result;
use lynxdata_check::Verdict;
use lynxdata_records::Status;
use lynxdata_report::count as grouped;
use tracing::{info, warn};

use crate::stage::Context;
use crate::stages::{check, report, shards};

/// Reasons that are named; the status of the run has all of them.
const MOST_REASONS: usize = 3;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With what was asked for.
    Done,
    /// With nothing that anybody can want: an empty pool, selection or set, or an invalid verdict.
    Nothing,
    /// With more rows that failed to download than the recipe allows.
    TooManyFailedRows,
}

/// What stages came to.
#[derive(Default)]
struct Outcome {
    sentences: Vec<String>,
    /// Whether something came out empty that nobody can want so.
    is_bad: bool,
}

/// Logs what these stages came to, as the last line of a run, and returns how it ended.
pub fn outcome(context: &Context, stages: &[&str]) -> Result<Ending> {
    let mut outcome = Outcome::default();
    for stage in stages {
        match *stage {
            "download" => outcome.add_pool(context),
            "select" => outcome.add_selections(context),
            "shards" => outcome.add_shards(context),
            "instruct" => outcome.add_conversations(context),
            "check" => outcome.add_verdict(context)?,
            "report" => {
                outcome.sentences.push(format!("report: {}", context.run.root().join(report::PAGE).display()));
            }
            _ => {}
        }
    }
    let too_many = stages.contains(&"download") && too_many_rows_failed(context);
    let line = outcome.sentences.join("; ");
    match (line.as_str(), outcome.is_bad || too_many) {
        ("", _) => {}
        (line, true) => warn!("{line}"),
        (line, false) => info!("{line}"),
    }
    Ok(match (too_many, outcome.is_bad) {
        (true, _) => Ending::TooManyFailedRows,
        (false, true) => Ending::Nothing,
        (false, false) => Ending::Done,
    })
}

impl Outcome {
    /// How many rows became pairs, and why the others did not.
    fn add_pool(&mut self, context: &Context) {
        let (mut rows, mut ok, mut by_status) = (0, 0, BTreeMap::new());
        for part in context.run.manifest().parts("download") {
            rows += part.rows_in;
            ok += part.rows_out;
            for (status, rows) in part.counts.iter().filter(|(status, _)| *status != Status::Ok.name()) {
                *by_status.entry(status.clone()).or_default() += *rows;
            }
        }
        self.is_bad |= ok == 0;
        self.sentences.push(if rows == 0 {
            "the source has no rows".to_owned()
        } else {
            pool_sentence(ok, rows, by_status, &context.run.root().display().to_string())
        });
    }

    fn add_selections(&mut self, context: &Context) {
        for part in context.run.manifest().parts("select") {
            let (name, pairs) = (&part.part, grouped(part.rows_in));
            let sentence = match part.rows_out {
                0 => format!("selection {name} keeps none of {pairs} pairs"),
                kept => format!("selection {name} keeps {} of {pairs} pairs", grouped(kept)),
            };
            self.is_bad |= part.rows_out == 0;
            self.sentences.push(sentence);
        }
    }

    fn add_shards(&mut self, context: &Context) {
        let Some(config) = &context.recipe().shards else { return };
        let manifest = context.run.manifest();
        // Every format holds the whole selection.
        let format = config.formats.first().map(|format| shards::folder(*format));
        let written =
            manifest.parts("shards").filter(|part| format.is_some_and(|format| part.part.starts_with(format)));
        let pairs: u64 = written.map(|part| part.rows_out).sum();
        self.is_bad |= pairs == 0;
        self.sentences.push(match pairs {
            0 => format!("no pair is in the shards, since selection {} is empty", config.selection),
            pairs => format!("{} pairs are in the shards", grouped(pairs)),
        });
    }

    fn add_conversations(&mut self, context: &Context) {
        let manifest = context.run.manifest();
        let conversations: u64 = manifest.parts("instruct").map(|part| part.rows_out).sum();
        self.is_bad |= conversations == 0;
        self.sentences.push(match conversations {
            0 => "no conversation came of the annotated datasets".to_owned(),
            conversations => format!("{} conversations", grouped(conversations)),
        });
        if conversations > 0 {
            let empty = manifest.parts("instruct").filter(|part| part.rows_out == 0).map(|part| part.part.as_str());
            let empty: Vec<&str> = empty.collect();
            if !empty.is_empty() {
                self.sentences.push(format!("none of {}", empty.join(", ")));
            }
        }
    }

    fn add_verdict(&mut self, context: &Context) -> Result<()> {
        let outcome = check::verdict(context)?;
        self.is_bad |=
            outcome.comparisons.iter().any(|comparison| matches!(comparison.verdict, Verdict::Invalid { .. }));
        self.sentences.extend(outcome.comparisons.iter().map(|comparison| format!("verdict: {}", comparison.sentence)));
        Ok(())
    }
}

/// Tells whether more rows failed to download than the recipe allows, and says so.
fn too_many_rows_failed(context: &Context) -> bool {
    let manifest = context.run.manifest();
    let (rows, ok) =
        manifest.parts("download").fold((0, 0), |(rows, ok), part| (rows + part.rows_in, ok + part.rows_out));
    let allowed = context.recipe().download.max_failed_fraction;
    let is_so = rows > 0 && (rows - ok) as f64 / rows as f64 > allowed;
    if is_so {
        warn!(
            "{} of {} rows failed to download, more than download.max_failed_fraction = {allowed} allows",
            grouped(rows - ok),
            grouped(rows)
        );
    }
    is_so
}

fn pool_sentence(ok: u64, rows: u64, by_status: BTreeMap<String, u64>, run: &str) -> String {
    let mut sentence = format!("{} of {} rows are in the pool", grouped(ok), grouped(rows));
    let mut reasons: Vec<(String, u64)> = by_status.into_iter().collect();
    reasons.sort_by_key(|(_, rows)| Reverse(*rows)); // equals stay in the order of their names
    let (named, others) = reasons.split_at(reasons.len().min(MOST_REASONS));
    let mut named: Vec<String> = named.iter().map(|(status, rows)| format!("{} {status}", grouped(*rows))).collect();
    let others: u64 = others.iter().map(|(_, rows)| rows).sum();
    if others > 0 {
        named.push(format!("{} of other kinds", grouped(others)));
    }
    if !named.is_empty() {
        sentence.push_str(&format!(": {}; `lynxdata status {run} --failed` lists them", named.join(", ")));
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_reasons_are_named_and_the_others_counted() {
        let sentence = |ok, counts: &[(&str, u64)]| {
            let by_status: BTreeMap<String, u64> =
                counts.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
            pool_sentence(ok, ok + by_status.values().sum::<u64>(), by_status, "run")
        };
        assert_eq!(sentence(3, &[]), "3 of 3 rows are in the pool");
        let listed = "`lynxdata status run --failed` lists them";
        assert_eq!(sentence(0, &[("not_found", 5)]), format!("0 of 5 rows are in the pool: 5 not_found; {listed}"));
        let counts = [("timeout", 2000), ("dns_error", 1), ("not_found", 7), ("forbidden", 2), ("too_large", 1)];
        assert_eq!(
            sentence(10, &counts),
            format!(
                "10 of 2,021 rows are in the pool: 2,000 timeout, 7 not_found, 2 forbidden, 2 of other kinds; {listed}"
            )
        );
    }
}
