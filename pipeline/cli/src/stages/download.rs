//! Stage `download`: rows of the source become pairs of the pool, and every row gets its status.

mod pool;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use lynxdata_fetch::{Downloader, Source, SourcePart};
use lynxdata_records::{NewPart, PartEntry, Status, fingerprint, nearest, parquet, schema};

use super::{Context, Parts, Planned, Stage, part_name, table};
use crate::recipe::Recipe;
use pool::PoolWriter;

/// Raise it when the bytes of a part change for the same rows and settings.
const FORMAT_VERSION: &str = "5";

/// Settings that say how to fetch, not what is stored; changing them makes no part anew.
const NOT_IN_FINGERPRINT: [&str; 14] = [
    "concurrency",
    "requests_per_host",
    "requests_per_second_per_host",
    "host_failure_limit",
    "timeout_seconds",
    "retries",
    "min_bytes_per_second",
    "max_bytes_in_flight",
    "user_agent",
    "ca_file",
    "proxy",
    "dns_servers",
    "dns_timeout_seconds",
    "max_failed_fraction",
];

/// Parts under way at the same time. Most of them wait for their last slow rows while the rows of later ones come in.
const OPEN_PARTS: usize = 4;

pub(crate) struct Download;

impl Stage for Download {
    fn name(&self) -> &'static str {
        "download"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        Vec::new()
    }

    fn workers(&self, _context: &Context) -> usize {
        OPEN_PARTS
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (source, downloader) = open(context)?;
        let settings = settings(context)?;
        let parts = source.parts(context.recipe().download.rows_per_part);
        Ok(Box::new(parts.map(move |part| {
            let part = part?;
            let (name, fingerprint) = (part_name(part.index), fingerprint_of(&part, &settings));
            let (downloader, settings) = (downloader.clone(), settings.clone());
            let make = Box::new(move |new: &mut NewPart| make(context, &downloader, &part, &settings, new));
            Ok(Planned { name, fingerprint, make })
        })))
    }
}

fn open(context: &Context) -> Result<(Source, Downloader)> {
    let recipe = context.recipe();
    let source = recipe.source.as_ref().context("the recipe has no [source]")?;
    let mut config = recipe.download.clone();
    config.ca_file = config.ca_file.map(|path| context.loaded.folder.join(path));
    let source = Source::open_cached(source, &context.loaded.folder, &context.loaded.cache())?;
    if let Some(wanted) = &config.blur_boxes {
        let columns = source.schema_of_extra_columns();
        let names = || columns.fields().iter().map(|field| field.name().as_str());
        if !names().any(|name| name == wanted) {
            let hint =
                nearest(wanted, names()).map_or_else(String::new, |name| format!("\nhint: did you mean {name:?}?"));
            bail!("download.blur_boxes names {wanted:?}, which is no column of the source{hint}");
        }
    }
    let _in_the_runtime = context.runtime.enter();
    let downloader = Downloader::new(&config, &context.run.temporary_folder(), context.metrics.clone())?;
    Ok((source, downloader))
}

/// The settings that parts depend on.
fn settings(context: &Context) -> Result<String> {
    let mut settings = serde_json::to_value(&context.recipe().download)?;
    let keys = settings.as_object_mut().expect("a settings struct is a JSON object");
    keys.retain(|key, _| !NOT_IN_FINGERPRINT.contains(&key.as_str()));
    Ok(settings.to_string())
}

fn fingerprint_of(part: &SourcePart, settings: &str) -> String {
    fingerprint(["download", FORMAT_VERSION, settings, &part.first_row.to_string(), &part.fingerprint()])
}

fn make(
    context: &Context,
    downloader: &Downloader,
    part: &SourcePart,
    settings: &str,
    new: &mut NewPart,
) -> Result<()> {
    let name = part_name(part.index);
    let Some((rows, old)) = grown_from(context, part, settings) else {
        let format = context.recipe().download.format;
        let mut writer = PoolWriter::create(&context.run, new, format, &name, part.index)?;
        let log = download(context, downloader, part, &mut |pairs| writer.write(&pairs))?;
        writer.finish(new)?;
        return write_log(context, &name, &log, new);
    };
    let more = SourcePart {
        index: part.index,
        first_row: part.first_row + rows as u64,
        rows: part.rows.slice(rows, part.rows.num_rows() - rows),
    };
    let added: Vec<usize> = (rows..part.rows.num_rows()).collect();
    Tables::download(context, downloader, &more)?.write_into(&old, &added, context, part.index, new)
}

/// The committed part that this one continues, and how many rows it has: those rows are as they were and more follow, since rows were added to the source.
fn grown_from(context: &Context, part: &SourcePart, settings: &str) -> Option<(usize, PartEntry)> {
    let name = part_name(part.index);
    let rows = usize::try_from(context.run.part("download", &name)?.rows_in).ok()?;
    if rows >= part.rows.num_rows() {
        return None;
    }
    let old = SourcePart { index: part.index, first_row: part.first_row, rows: part.rows.slice(0, rows) };
    let entry = context.run.committed("download", &name, &fingerprint_of(&old, settings))?;
    Some((rows, entry))
}

fn download(
    context: &Context,
    downloader: &Downloader,
    part: &SourcePart,
    on_pairs: &mut (dyn FnMut(RecordBatch) -> Result<()> + Send),
) -> Result<RecordBatch> {
    let bar = context.progress.current();
    let on_row = |status: Status| bar.row_done(status == Status::Ok);
    context.runtime.block_on(downloader.download_part(part, &on_row, on_pairs))
}

/// Writes what became of every row of a part, and counts it.
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
    let statuses = table::texts(log, "status", Path::new("the download log"))?.iter().flatten();
    Ok(statuses.map(str::parse).collect::<std::result::Result<_, _>>()?)
}

/// What trying again came to.
#[derive(Debug, Default)]
pub(crate) struct Retried {
    /// Rows that were tried again.
    pub rows: u64,
    /// Those of them that are in the pool now.
    pub recovered: u64,
}

/// Downloads the rows again that ended with one of these statuses. Every other row, picture and status stays as it is, so a part then depends on what the
/// web answered when, and no longer on the source and the recipe alone.
pub(crate) fn retry_failed(context: &Context, statuses: &BTreeSet<Status>) -> Result<Retried> {
    let (source, downloader) = open(context)?;
    let settings = settings(context)?;
    let started = Instant::now();
    let bar = context.progress.stage("download", None);
    let (mut total, mut names) = (Retried::default(), Vec::new());
    for part in source.parts(context.recipe().download.rows_per_part) {
        let part = part?;
        let (name, print) = (part_name(part.index), fingerprint_of(&part, &settings));
        names.push(name.clone());
        let entry =
            context.run.committed("download", &name, &print).with_context(|| format!("part {name} is not complete"))?;
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
        let fresh = Tables::download_rows(context, &downloader, &part, &again)?;
        total.rows += again.len() as u64;
        total.recovered += fresh.pairs() as u64;
        let mut new = NewPart::new("download", &name, print);
        fresh.write_into(&entry, &again, context, part.index, &mut new)?;
        new.seconds = begun.elapsed().as_secs_f64();
        context.commit(new)?;
        bar.part_done();
    }
    context.complete("download", names, &[])?;
    bar.finish(total.recovered, total.rows - total.recovered, started.elapsed());
    Ok(total)
}

/// What came of rows that are to go into a part.
struct Tables {
    /// In batches, since the pictures may be more than one can hold.
    pool: Vec<RecordBatch>,
    log: RecordBatch,
    /// Status of every row of the log.
    statuses: Vec<Status>,
}

impl Tables {
    fn of(pool: Vec<RecordBatch>, log: RecordBatch) -> Result<Tables> {
        let statuses = statuses_of(&log)?;
        Ok(Tables { pool, log, statuses })
    }

    fn download(context: &Context, downloader: &Downloader, part: &SourcePart) -> Result<Tables> {
        let mut pairs = Vec::new();
        let log = download(context, downloader, part, &mut |batch| {
            pairs.push(batch);
            Ok(())
        })?;
        Tables::of(pairs, log)
    }

    /// Downloads some rows of a part, each of which keeps its number in the source.
    fn download_rows(context: &Context, downloader: &Downloader, part: &SourcePart, rows: &[usize]) -> Result<Tables> {
        let bar = context.progress.current();
        let on_row = |status: Status| bar.row_done(status == Status::Ok);
        let single = |row: &usize| SourcePart {
            index: part.index,
            first_row: part.first_row + *row as u64,
            rows: part.rows.slice(*row, 1),
        };
        let downloads = rows.iter().map(single).map(async |part| {
            let mut pairs = Vec::new();
            let mut on_pairs = |batch| {
                pairs.push(batch);
                anyhow::Ok(())
            };
            let log = downloader.download_part(&part, &on_row, &mut on_pairs).await?;
            anyhow::Ok((pairs, log))
        });
        let (mut pool, mut logs) = (Vec::new(), Vec::new());
        for download in context.runtime.block_on(futures::future::join_all(downloads)) {
            let (pairs, log) = download?;
            pool.extend(pairs);
            logs.push(log);
        }
        let first = logs.first().context("no row is tried again")?;
        Tables::of(pool, concat_batches(&first.schema(), &logs)?)
    }

    /// Pairs in the pool.
    fn pairs(&self) -> usize {
        self.pool.iter().map(RecordBatch::num_rows).sum()
    }

    /// Writes the committed part `old` anew with these rows in the places `rows`: instead of what was there, or behind it.
    fn write_into(
        &self,
        old: &PartEntry,
        rows: &[usize],
        context: &Context,
        index: u32,
        new: &mut NewPart,
    ) -> Result<()> {
        /// Where a pair of the new part comes from, or that one of the old part has none.
        enum Step {
            Old,
            SkipOld,
            Fresh,
        }
        let log = table::read(&table::file(&context.run, old, schema::download_log().name)?, None)?;
        let statuses = statuses_of(&log)?;
        let (mut steps, mut log_rows, mut next) = (Vec::new(), Vec::new(), 0);
        for row in 0..statuses.len().max(rows.last().map_or(0, |row| row + 1)) {
            let was_kept = statuses.get(row) == Some(&Status::Ok);
            if rows.get(next) == Some(&row) {
                steps.extend(was_kept.then_some(Step::SkipOld));
                steps.extend((self.statuses[next] == Status::Ok).then_some(Step::Fresh));
                log_rows.push((1, next));
                next += 1;
            } else {
                steps.extend(was_kept.then_some(Step::Old));
                log_rows.push((0, row));
            }
        }
        let mut steps = steps.into_iter();
        let batches = self.pool.iter();
        let mut fresh = batches.flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));

        let name = old.part.as_str();
        let mut writer = PoolWriter::create(&context.run, new, context.recipe().download.format, name, index)?;
        // The columns, should there be no pair.
        writer.write(&self.pool.first().context("a part hands over its pairs even if there are none")?.slice(0, 0))?;
        pool::for_each_pair(&context.run, old, |pair| {
            for step in steps.by_ref() {
                match step {
                    Step::Old => return writer.push(pair),
                    Step::SkipOld => return Ok(()),
                    Step::Fresh => fresh.next().map_or(Ok(()), |pair| writer.push(pair))?,
                }
            }
            Ok(())
        })?;
        fresh.try_for_each(|pair| writer.push(pair))?;
        writer.finish(new)?;
        write_log(context, name, &interleave_record_batch(&[&log, &self.log], &log_rows)?, new)
    }
}
