//! Stage `download`: downloads the rows of the source into the pool, and gives every row a status.

mod fresh;
mod pool;
mod replaced;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use lynxdata_fetch::{Downloader, Measure, OnPairs, PoolFormat, Source, SourcePart};
use lynxdata_records::schema::STATUS;
use lynxdata_records::{NewPart, PartEntry, Status, fingerprint, nearest, parquet, schema};
use lynxdata_report::count as grouped;
use tracing::warn;

use crate::recipe::{LoadedRecipe, Recipe};
use crate::stage::{Along, Context, Parts, Planned, Stage, StageOutcome, part_name, settings_text};
use crate::table;
use fresh::Fresh;
use pool::PoolWriter;
pub use replaced::check_list;

/// Version of the parts. Raise it when a part has other bytes for the same rows and settings.
const FORMAT_VERSION: &str = "7";

/// Version of the archives. Raise it when a part has other archives for the same pairs.
const TAR_VERSION: &str = "2";

/// Number of parts that are downloaded at the same time. Most of them wait for their last slow rows
/// while rows of later parts arrive.
const OPEN_PARTS: usize = 4;

/// Downloads the rows of the source.
pub struct Download;

impl Stage for Download {
    fn name(&self) -> &'static str {
        "download"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(&(&recipe.source, settings(recipe)?)))
    }

    fn format_version(&self) -> String {
        format!("{FORMAT_VERSION}, tar {TAR_VERSION}")
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        Vec::new()
    }

    fn workers(&self, _context: &Context) -> usize {
        OPEN_PARTS
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let mut outcome = StageOutcome::default();
        let (mut rows, mut ok, mut by_status) = (0, 0, BTreeMap::new());
        for part in context.run.manifest().parts(Download.name()) {
            rows += part.rows_in;
            ok += part.rows_out;
            for (status, rows) in part.counts.iter().filter(|(status, _)| *status != Status::Ok.name()) {
                *by_status.entry(status.clone()).or_default() += *rows;
            }
        }
        outcome.is_bad |= ok == 0;
        outcome.sentences.push(if rows == 0 {
            "the source has no rows".to_owned()
        } else {
            pool_sentence(ok, rows, by_status, &context.run.root().display().to_string())
        });
        Ok(outcome)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (source, downloader) = open(context)?;
        if let Some(left_out) = source.left_out() {
            warn!("parts of the source are not read: {left_out}");
        }
        let settings = settings(context.recipe())?;
        let mut parts = source.parts(context.recipe().download.rows_per_part);
        let mut count = 0;
        let parts = std::iter::from_fn(move || {
            let next = parts.next();
            // Before the first part is replaced, the whole pool is compared with the whole list.
            let takes_from_the_pool = match &next {
                Some(Ok(part)) => is_kept(context, part, &settings) == Some(false),
                Some(Err(_)) => false,
                // A list without rows is refused by the loop.
                None => count > 0 && context.run.manifest().parts(Download.name()).count() > count,
            };
            count += usize::from(next.is_some());
            if takes_from_the_pool && let Err(error) = replaced::compare(context, &source, None) {
                return Some(Err(error));
            }
            Some(next?.map(|part| (part, settings.clone())).map_err(Into::into))
        });
        Ok(Box::new(parts.map(move |part| {
            let (part, settings) = part?;
            let (name, fingerprint) = (part_name(part.index), fingerprint_of(&part, &settings));
            let downloader = downloader.clone();
            let make = Box::new(move |new: &mut NewPart, later: &[&'a dyn Stage]| {
                make(context, &downloader, &part, &settings, later, new)
            });
            Ok(Planned { name, fingerprint, make })
        })))
    }
}

/// Returns whether the source can be read before the download as well: a pipe cannot, and objects
/// of a store would be copied.
pub fn can_be_read_twice(loaded: &LoadedRecipe) -> bool {
    let mut paths = loaded.recipe.source.iter().flat_map(|source| source.path.as_slice());
    paths.all(|path| {
        let path = loaded.folder.join(path);
        path.is_file() || path.is_dir()
    })
}

/// Checks before any work that the source can be read and has the columns that the recipe names.
pub fn check_source(loaded: &LoadedRecipe) -> Result<()> {
    let Some(source) = &loaded.recipe.source else { return Ok(()) };
    let opened = Source::open_cached(source, &loaded.folder, &loaded.cache());
    // The user of flags has seen no section.
    let source = if loaded.is_of_flags { opened? } else { opened.context("in [source]")? };
    check_boxes(&source, &loaded.recipe)
}

fn check_boxes(source: &Source, recipe: &Recipe) -> Result<()> {
    if let Some(wanted) = &recipe.download.blur_boxes {
        let columns = source.schema_of_extra_columns();
        let names = || columns.fields().iter().map(|field| field.name().as_str());
        if !names().any(|name| name == wanted) {
            let hint =
                nearest(wanted, names()).map_or_else(String::new, |name| format!("\nhint: did you mean {name:?}?"));
            bail!("download.blur_boxes names {wanted:?}, which is not a column of the source{hint}");
        }
    }
    Ok(())
}

fn open(context: &Context) -> Result<(Source, Downloader)> {
    let recipe = context.recipe();
    let source = recipe.source.as_ref().context("the recipe has no [source]")?;
    let mut config = recipe.download.clone();
    config.ca_file = config.ca_file.map(|path| context.loaded.folder.join(path));
    let source = Source::open_cached(source, &context.loaded.folder, &context.loaded.cache())?;
    for (column, carried_as) in source.renamed_columns() {
        warn!(column, carried_as, "the pool has a column of this name, so the column of the source is renamed");
    }
    check_boxes(&source, recipe)?;
    let _in_the_runtime = context.runtime.enter();
    let downloader = Downloader::new(&config, &context.run.temporary_folder(), context.metrics.clone())?;
    Ok((source, downloader))
}

/// Returns the settings that parts depend on.
pub(super) fn settings(recipe: &Recipe) -> Result<String> {
    let mut settings = serde_json::to_value(recipe.download.stored())?;
    let keys = settings.as_object_mut().expect("a settings struct is a JSON object");
    if recipe.download.format == PoolFormat::Webdataset {
        keys.insert("tar_version".to_owned(), TAR_VERSION.into());
    }
    Ok(settings.to_string())
}

fn fingerprint_of(part: &SourcePart, settings: &str) -> String {
    fingerprint(["download", FORMAT_VERSION, settings, &part.first_row.to_string(), &part.fingerprint()])
}

fn make<'a>(
    context: &'a Context,
    downloader: &Downloader,
    part: &SourcePart,
    settings: &str,
    later: &[&'a dyn Stage],
    new: &mut NewPart,
) -> Result<Vec<Along<'a>>> {
    let name = part_name(part.index);
    if let Some((rows, old)) = grown_from(context, part, settings) {
        let added = part.choose((rows..part.rows.num_rows()).collect())?;
        Fresh::download(context, downloader, &added)?.write_into(&old, new)?;
        return Ok(Vec::new());
    }
    let config = &context.recipe().download;
    let mut writer = PoolWriter::create(&context.run, new, config, &name, part.index)?;
    let mut along = None;
    for stage in later {
        along = along.or(stage.along_download()?.map(|along| (*stage, along)));
    }
    let measure = along.as_ref().map(|(_, along)| along.measure());
    let log = download(context, downloader, part, measure, &mut |pairs, measured| {
        writer.write(&pairs)?;
        along.as_mut().map_or(Ok(()), |(_, along)| along.add(&pairs, measured))
    })?;
    check_loss(context, &name, &statuses_of(&log)?)?;
    writer.finish(new)?;
    write_log(context, &name, &log, new)?;
    let Some((stage, along)) = along else { return Ok(Vec::new()) };
    Ok(along.finish(&name, context).into_iter().map(|plan| Along { stage, plan }).collect())
}

/// Refuses to replace a committed part if most of its rows fail now, and did not before, because a
/// server cannot be reached or refuses. The cause is then the network, and the pairs would be lost.
/// Warns if fewer rows fail.
fn check_loss(context: &Context, name: &str, statuses: &[Status]) -> Result<()> {
    let Some(old) = context.run.part(Download.name(), name).filter(|old| old.rows_out > 0) else { return Ok(()) };
    let is_of_network = |status: &Status| status.is_retryable() || *status == Status::ForbiddenAddress;
    let now = statuses.iter().filter(|status| is_of_network(status)).count() as u64;
    let of_name =
        |(status, rows): (&String, &u64)| status.parse().is_ok_and(|own| is_of_network(&own)).then_some(*rows);
    let before: u64 = old.counts.iter().filter_map(of_name).sum();
    let lost = now.saturating_sub(before);
    if lost == 0 || context.replaces {
        return Ok(());
    }
    let mut failed = BTreeMap::new();
    statuses
        .iter()
        .filter(|status| is_of_network(status))
        .for_each(|status| *failed.entry(status.name()).or_insert(0) += 1);
    let (most, rows) = failed.into_iter().max_by_key(|(_, rows)| *rows).unwrap_or_default();
    let pairs = statuses.iter().filter(|status| **status == Status::Ok).count() as u64;
    let (before, pairs) = (grouped(old.rows_out), grouped(pairs));
    let again = "the list or settings of [download] changed, so it was downloaded again";
    if lost * 2 > old.rows_out.min(statuses.len() as u64) {
        bail!(
            "part {name} has {before} pairs; {again}, but now it would have {pairs}: {rows} rows failed with {most}; \
             the pool keeps the old part\n\
             hint: check the network and the recipe and run again, or add --replace to accept the loss"
        )
    }
    warn!(
        "part {name} had {before} pairs; {again} and now has {pairs}: {rows} rows failed with {most}; \
         retry them with --retry-failed"
    );
    Ok(())
}

/// Returns whether the committed part of this name stays, unchanged or with added rows; `None` if
/// there is none.
fn is_kept(context: &Context, part: &SourcePart, settings: &str) -> Option<bool> {
    let committed = context.run.part(Download.name(), &part_name(part.index))?;
    Some(committed.fingerprint == fingerprint_of(part, settings) || grown_from(context, part, settings).is_some())
}

/// Returns the committed part that this one continues, and its number of rows: those rows are
/// unchanged and more rows were added to the source after them.
fn grown_from(context: &Context, part: &SourcePart, settings: &str) -> Option<(usize, PartEntry)> {
    let name = part_name(part.index);
    let rows = usize::try_from(context.run.part(Download.name(), &name)?.rows_in).ok()?;
    if rows >= part.rows.num_rows() {
        return None;
    }
    let old = SourcePart { rows: part.rows.slice(0, rows), ..part.clone() };
    let entry = context.run.committed(Download.name(), &name, &fingerprint_of(&old, settings))?;
    Some((rows, entry))
}

fn download<Measured: Send + 'static>(
    context: &Context,
    downloader: &Downloader,
    part: &SourcePart,
    measure: Option<Arc<dyn Measure<Measured>>>,
    on_pairs: &mut OnPairs<'_, Measured, anyhow::Error>,
) -> Result<RecordBatch> {
    let bar = context.progress();
    let on_row = |status: Status| bar.row_done(status == Status::Ok);
    context.runtime.block_on(downloader.download_part(part, measure, &on_row, on_pairs))
}

/// Writes the log of a part with the status of every row, and counts the statuses.
fn write_log(context: &Context, name: &str, log: &RecordBatch, new: &mut NewPart) -> Result<()> {
    let path = context.run.stage_clock_file(new, &format!("{}/part-{name}.parquet", schema::download_log().name))?;
    parquet::write(&path, &log.schema(), [log])?;
    new.rows_in = log.num_rows() as u64;
    for status in statuses_of(log)? {
        *new.counts.entry(status.name().to_owned()).or_default() += 1;
    }
    Ok(())
}

fn statuses_of(log: &RecordBatch) -> Result<Vec<Status>> {
    let statuses = STATUS.of(log, Path::new("the download log"))?.iter().flatten();
    Ok(statuses.map(str::parse).collect::<std::result::Result<_, _>>()?)
}

/// The result of retrying rows.
#[derive(Debug, Default)]
pub struct Retried {
    /// Rows that were retried.
    pub rows: u64,
    /// Rows that are in the pool now.
    pub recovered: u64,
}

/// Downloads the rows again that ended with one of these statuses. Every other row, image and
/// status stays. Afterwards, a part depends on the answers of the web at different times, not only
/// on the source and the recipe.
pub fn retry_failed(context: &Context, statuses: &BTreeSet<Status>) -> Result<Retried> {
    let (source, downloader) = open(context)?;
    let settings = settings(context.recipe())?;
    let started = Instant::now();
    let bar = context.begin(Download.name(), None);
    let (mut total, mut names, mut parts_made) = (Retried::default(), Vec::new(), 0);
    for part in source.parts(context.recipe().download.rows_per_part) {
        let part = part?;
        let (name, print) = (part_name(part.index), fingerprint_of(&part, &settings));
        names.push(name.clone());
        let entry = context
            .run
            .committed(Download.name(), &name, &print)
            .with_context(|| format!("part {name} is not complete"))?;
        let log = table::read(&table::file(&context.run, &entry, schema::download_log().name)?, None)?;
        let again: Vec<usize> = statuses_of(&log)?
            .iter()
            .enumerate()
            .filter(|(_, status)| statuses.contains(status))
            .map(|(row, _)| row)
            .collect();
        if again.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let again = part.choose(again)?;
        let fresh = Fresh::download(context, &downloader, &again)?;
        total.rows += again.rows.num_rows() as u64;
        total.recovered += fresh.pairs();
        let mut new = NewPart::new(Download.name(), &name, print);
        fresh.write_into(&entry, &mut new)?;
        new.seconds = begun.elapsed().as_secs_f64();
        context.commit(new)?;
        parts_made += 1;
        bar.part_done();
    }
    let parts_left = names.len() as u64 - parts_made;
    context.complete(&Download, names)?;
    bar.finish(parts_made, parts_left, started.elapsed());
    Ok(total)
}

/// Maximum number of reasons for failures that the last line of a run names; `lynxdata status`
/// lists all of them.
const MOST_REASONS: usize = 3;

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
