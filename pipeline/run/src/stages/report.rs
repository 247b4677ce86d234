//! Stage `report`: writes the results of the run as one HTML page, and the same numbers as
//! `report.json`.

mod pairs;
mod signals;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use lynxdata_check::Gear;
use lynxdata_engine::select::{DUPLICATE, Rule};
use lynxdata_records::schema::STATUS;
use lynxdata_records::{NewPart, PartEntry, Status, fingerprint, schema};
use lynxdata_report::data::{FunnelStep, Loss, Rejection, ReportData, SelectionSummary};
use lynxdata_report::{check, render, unaccounted_rows};

use super::check::verdict;
use super::dedup::pool_of;
use super::select::{self, Rejections};
use super::{instruct, shards, stages_of, train};
use crate::pool::{Pool, PoolPart};
use crate::recipe::Recipe;
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::stages::select::Select;
use crate::stages::shards::Shards;
use crate::table;

/// Version of the page. Raise it when the same tables give another page.
const FORMAT_VERSION: &str = "5";

/// Path of the page in the run folder.
pub const PAGE: &str = "report.html";

/// The data of the page as JSON.
pub const DATA: &str = "report.json";

/// Writes the report.
pub struct Report;

impl Stage for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_none() || recipe.has_pool_table()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(recipe))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        stages_of(recipe).filter(|stage| stage.name() != self.name()).collect()
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let sentence = format!("report: {}", context.run.root().join(PAGE).display());
        Ok(StageOutcome { sentences: vec![sentence], is_bad: false, ..StageOutcome::default() })
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let mut inputs = vec!["report".to_owned(), FORMAT_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()];
        inputs.push(settings_text(context.recipe()));
        inputs.push(context.loaded.text.clone());
        for stage in self.reads(context.recipe()) {
            inputs.extend(context.upstream(stage)?.iter().map(PartEntry::digest));
        }
        let make = Box::new(move |new: &mut NewPart| {
            let data = gather(context)?;
            for (name, text) in [(PAGE, render(&data)?), (DATA, serde_json::to_string_pretty(&data)?)] {
                let path = context.run.stage_file(new, name)?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Ok(())
        });
        let print = fingerprint(inputs.iter().map(String::as_str));
        Ok(Box::new(std::iter::once(Ok(Planned::new("page".to_owned(), print, make)))))
    }
}

/// Gathers the data of the page. Tables are read part by part, so that memory does not grow with
/// the pool.
fn gather(context: &Context) -> Result<ReportData> {
    let recipe = context.recipe();
    // Only the file name: the location of the folder must not change the page.
    let recipe_path = context.loaded.path.file_name().map_or_else(String::new, |name| name.display().to_string());
    let mut data = ReportData {
        title: if recipe.name.is_empty() { recipe_path.clone() } else { recipe.name.clone() },
        recipe_path,
        recipe_toml: context.loaded.text.clone(),
        lynxdata_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..ReportData::default()
    };
    if recipe.source.is_some() {
        let pool = pool_of(context)?;
        data.funnel = download_steps(context, &pool)?;
        if let Some(main) = recipe.main_selection() {
            let counted: BTreeMap<&str, Rejections> = recipe
                .select
                .keys()
                .map(|name| Ok((name.as_str(), count_rejections(context, &pool, name)?)))
                .collect::<Result<_>>()?;
            data.funnel.extend(selection_steps(context, main, &counted[main])?);
            let unaccounted = unaccounted_rows(&data.funnel);
            ensure!(
                unaccounted == 0,
                "{unaccounted} rows are missing from the funnel; this is a bug, please report it"
            );
            data.signals = signals::histograms(context, &pool, main, &rules_of(context, main)?)?;
            for name in recipe.select.keys() {
                data.selections.push(selection_summary(context, name, &counted[name.as_str()])?);
            }
            let shown = pairs::shown(context, &pool, main, counted[main].passed())?;
            (data.kept_samples, data.rejected_samples) = (shown.kept, shown.rejected);
            (data.duplicate_clusters, data.duplicates) = (shown.stars, shown.duplicates);
        }
    }
    if recipe.instruct.is_some() {
        data.instruct = Some(instruct::summary(context)?);
    }
    if recipe.check.is_some() {
        let outcome = verdict(context)?;
        let is_trained = outcome.protocol.gear == Gear::Lynx;
        let fits = if is_trained { train::results(context, &train::Train)? } else { Vec::new() };
        data.check = Some(check::summary(&outcome, &fits));
    }
    Ok(data)
}

fn download_steps(context: &Context, pool: &Pool) -> Result<Vec<FunnelStep>> {
    let mut by_status: BTreeMap<Status, u64> = BTreeMap::new();
    for PoolPart { pairs: part, .. } in &pool.parts {
        let path = table::file(&context.run, part, schema::download_log().name)?;
        let log = table::read(&path, Some(&[STATUS.name]))?;
        for status in STATUS.of(&log, &path)?.iter().flatten() {
            *by_status.entry(status.parse()?).or_default() += 1;
        }
    }
    let rows = by_status.values().sum();
    let downloaded = by_status.remove(&Status::Ok).unwrap_or(0);
    let mut losses: Vec<Loss> = by_status
        .iter()
        .map(|(status, rows)| Loss {
            reason: status.name().to_owned(),
            rows: *rows,
            explanation: status.description().to_owned(),
        })
        .collect();
    losses.sort_by_key(|loss| std::cmp::Reverse(loss.rows));
    let step = |name: &str, description: &str, rows, losses| FunnelStep {
        name: name.to_owned(),
        description: description.to_owned(),
        rows,
        note: String::new(),
        losses,
    };
    Ok(vec![
        step("source", "rows of the source", rows, Vec::new()),
        step("downloaded", "images that were downloaded, decoded and stored", downloaded, losses),
    ])
}

fn rules_of(context: &Context, selection: &str) -> Result<Vec<Rule>> {
    context.recipe().select[selection].rules()
}

fn selection_steps(context: &Context, selection: &str, counted: &Rejections) -> Result<Vec<FunnelStep>> {
    let rules = rules_of(context, selection)?;
    let passed = counted.passed();
    let duplicates = passed - counted.kept;
    let losses = rules
        .iter()
        .filter_map(|rule| {
            let rows = *counted.by_first_rule.get(&rule.name)?;
            Some(Loss { reason: rule.name.clone(), rows, explanation: format!("does not pass {}", rule.predicate) })
        })
        .collect();
    let mut steps = vec![FunnelStep {
        name: "passed the rules".to_owned(),
        description: format!("pairs that pass every rule of selection {selection}"),
        rows: passed,
        note: "(a pair that several rules reject counts under the first of them)".to_owned(),
        losses,
    }];
    if context.recipe().select[selection].deduplicate {
        steps.push(FunnelStep {
            name: "unique".to_owned(),
            description: "pairs that are not duplicates of a kept pair".to_owned(),
            rows: counted.kept,
            note: String::new(),
            losses: (duplicates > 0)
                .then(|| Loss {
                    reason: DUPLICATE.to_owned(),
                    rows: duplicates,
                    explanation: "duplicates of a kept pair".to_owned(),
                })
                .into_iter()
                .collect(),
        });
    }
    if let Some(config) = &context.recipe().shards {
        let format = config.formats.first().copied();
        let written = context.upstream(&Shards)?;
        let written =
            written.iter().filter(|part| format.is_some_and(|format| part.part.starts_with(shards::folder(format))));
        steps.push(FunnelStep {
            name: "in shards".to_owned(),
            description: format!("pairs of selection {} in the final shards", config.selection),
            rows: written.map(|part| part.rows_out).sum(),
            note: String::new(),
            losses: Vec::new(),
        });
    }
    Ok(steps)
}

/// Counts how many pairs of a selection each rule rejected.
fn count_rejections(context: &Context, pool: &Pool, selection: &str) -> Result<Rejections> {
    let selections = context.upstream(&Select)?;
    let files = select::files(&selections, selection, pool)?.iter();
    let files = files.map(|file| context.run.intact(file)).collect::<lynxdata_records::Result<Vec<_>>>()?;
    select::count_rejections(files.into_iter())
}

fn selection_summary(context: &Context, name: &str, counted: &Rejections) -> Result<SelectionSummary> {
    let rows_of = |counts: &BTreeMap<String, u64>, rule: &str| counts.get(rule).copied().unwrap_or(0);
    let mut rules: Vec<(String, String)> =
        rules_of(context, name)?.into_iter().map(|rule| (rule.name, rule.predicate)).collect();
    if context.recipe().select[name].deduplicate {
        rules.push((DUPLICATE.to_owned(), "duplicate of a kept pair, which `duplicate_of` names".to_owned()));
    }
    let rejected_by = rules
        .into_iter()
        .map(|(rule, predicate)| Rejection {
            rows: rows_of(&counted.by_rule, &rule),
            rows_only_this_rule: rows_of(&counted.by_rule_alone, &rule),
            rule,
            predicate,
        })
        .collect();
    Ok(SelectionSummary { name: name.to_owned(), rows_in: counted.rows, kept: counted.kept, rejected_by })
}
