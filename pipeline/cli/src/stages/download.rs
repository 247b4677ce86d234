//! Stage `download`: rows of the source become pairs of the pool, and every row gets its status.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use lynxdata_fetch::{DownloadedPart, Downloader, Source, SourcePart};
use lynxdata_records::{NewPart, PartEntry, Status, fingerprint, parquet, schema};

use super::{Context, Parts, Planned, Stage, part_name, table};
use crate::recipe::Recipe;

/// Raise it when the bytes of a part change for the same rows and settings.
const FORMAT_VERSION: &str = "1";

/// Settings that say how to fetch, not what is stored; changing them makes no part anew.
const NOT_IN_FINGERPRINT: [&str; 5] =
    ["concurrency", "requests_per_host", "user_agent", "ca_file", "max_failed_fraction"];

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
        2 // while the last slow rows of one part are awaited, the next one is under way
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (source, downloader) = open(context)?;
        let settings = settings(context)?;
        let parts = source.parts(context.recipe().download.rows_per_part);
        Ok(Box::new(parts.map(move |part| {
            let part = part?;
            let (name, fingerprint) = (part_name(part.index), fingerprint_of(&part, &settings));
            let downloader = downloader.clone();
            let make = Box::new(move |new: &mut NewPart| make(context, &downloader, &part, new));
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
    Ok((source, Downloader::new(&config)?))
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

fn make(context: &Context, downloader: &Downloader, part: &SourcePart, new: &mut NewPart) -> Result<()> {
    let bar = context.progress.current();
    let on_row = |status: Status| bar.row_done(status == Status::Ok);
    let downloaded = context.runtime.block_on(downloader.download_part(part, &on_row));
    write(context, &part_name(part.index), &downloaded.pool, &downloaded.log, new)
}

/// Writes the two tables of a part and counts its rows.
fn write(context: &Context, name: &str, pool: &RecordBatch, log: &RecordBatch, new: &mut NewPart) -> Result<()> {
    for (table, rows) in [(schema::pool(), pool), (schema::download_log(), log)] {
        let path = context.run.stage_file(new, &format!("{}/part-{name}.parquet", table.name))?;
        parquet::write(&path, &rows.schema(), [rows])?;
    }
    new.rows_in = log.num_rows() as u64;
    new.rows_out = pool.num_rows() as u64;
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
    let on_row = |status: Status| bar.row_done(status == Status::Ok);
    let (mut total, mut names) = (Retried::default(), Vec::new());
    for part in source.parts(context.recipe().download.rows_per_part) {
        let part = part?;
        let (name, print) = (part_name(part.index), fingerprint_of(&part, &settings));
        names.push(name.clone());
        let entry =
            context.run.committed("download", &name, &print).with_context(|| format!("part {name} is not complete"))?;
        let old = Tables::read(context, &entry)?;
        let again = old.rows_with(statuses);
        if again.is_empty() {
            continue;
        }
        let single = |row: &usize| SourcePart {
            index: part.index,
            first_row: part.first_row + *row as u64,
            rows: part.rows.slice(*row, 1),
        };
        let singles: Vec<SourcePart> = again.iter().map(single).collect();
        let fresh = singles.iter().map(|row| downloader.download_part(row, &on_row));
        let fresh = context.runtime.block_on(futures::future::join_all(fresh));
        let merged = old.with(&again, &fresh)?;
        let mut new = NewPart::new("download", &name, print);
        write(context, &name, &merged.pool, &merged.log, &mut new)?;
        new.seconds = started.elapsed().as_secs_f64();
        total.rows += again.len() as u64;
        total.recovered += fresh.iter().map(|row| row.pool.num_rows() as u64).sum::<u64>();
        context.run.commit(new)?;
        bar.part_done();
    }
    context.run.complete("download", names, &[])?;
    bar.finish(total.recovered, total.rows - total.recovered, started.elapsed());
    Ok(total)
}

/// The two tables of a part.
struct Tables {
    pool: RecordBatch,
    log: RecordBatch,
    /// Status of every row of the log.
    statuses: Vec<Status>,
}

impl Tables {
    fn read(context: &Context, entry: &PartEntry) -> Result<Tables> {
        let path = table::file(&context.run, entry, schema::download_log().name)?;
        let log = table::read(&path, None)?;
        let statuses = statuses_of(&log)?;
        let pool = table::read(&table::file(&context.run, entry, schema::pool().name)?, None)?;
        Ok(Tables { pool, log, statuses })
    }

    fn rows_with(&self, statuses: &BTreeSet<Status>) -> Vec<usize> {
        let rows = self.statuses.iter().enumerate().filter(|(_, status)| statuses.contains(status));
        rows.map(|(row, _)| row).collect()
    }

    /// The tables with `fresh` in the place of the rows `again`, in the order of the source.
    fn with(&self, again: &[usize], fresh: &[DownloadedPart]) -> Result<Tables> {
        let pools: Vec<&RecordBatch> = std::iter::once(&self.pool).chain(fresh.iter().map(|part| &part.pool)).collect();
        let logs: Vec<&RecordBatch> = std::iter::once(&self.log).chain(fresh.iter().map(|part| &part.log)).collect();
        let (mut pool_rows, mut log_rows) = (Vec::new(), Vec::new());
        let (mut next_old, mut next_fresh) = (0, 0);
        for (row, status) in self.statuses.iter().enumerate() {
            let was_kept = *status == Status::Ok;
            if again.get(next_fresh) == Some(&row) {
                next_fresh += 1;
                log_rows.push((next_fresh, 0));
                pool_rows.extend((0..pools[next_fresh].num_rows()).map(|row| (next_fresh, row)));
            } else {
                log_rows.push((0, row));
                pool_rows.extend(was_kept.then_some((0, next_old)));
            }
            next_old += usize::from(was_kept);
        }
        let log = interleave_record_batch(&logs, &log_rows)?;
        let statuses = statuses_of(&log)?;
        Ok(Tables { pool: interleave_record_batch(&pools, &pool_rows)?, log, statuses })
    }
}
