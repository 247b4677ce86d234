//! New rows for an existing part: rows that were added to its source, or that are retried.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use lynxdata_fetch::{Downloader, SourcePart};
use lynxdata_records::{NewPart, PartEntry, Status, parquet, schema};

use super::pool::{self, PoolWriter};
use super::{download, statuses_of, write_log};
use crate::stage::Context;
use crate::stage::part_name;
use crate::table;

/// The result of newly downloaded rows.
pub(super) struct Fresh<'a> {
    context: &'a Context,
    part: &'a SourcePart,
    /// The pairs, in a temporary file outside the parts: they may not fit into memory.
    pairs: PathBuf,
    log: RecordBatch,
    /// Status of every row of the log.
    statuses: Vec<Status>,
}

/// Message for an impossible case: this process wrote the file.
const LOST: &str = "a pair that was downloaded is not in its file; this is a bug";

/// One step of merging the old part with newly downloaded rows.
enum Step {
    Old,
    SkipOld,
    Fresh,
}

impl<'a> Fresh<'a> {
    pub(super) fn download(context: &'a Context, downloader: &Downloader, part: &'a SourcePart) -> Result<Fresh<'a>> {
        let folder = context.run.temporary_folder();
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let pairs = folder.join(format!("fresh-{}.parquet", part_name(part.index)));
        let mut writer = None;
        let log = download(context, downloader, part, None, &mut |batch, _: Vec<Option<()>>| {
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(parquet::Writer::create(&pairs, &batch.schema())?),
            };
            Ok(writer.write(&batch)?)
        })?;
        writer.context("a part passes on its pairs even if there are none")?.finish()?;
        let statuses = statuses_of(&log)?;
        Ok(Fresh { context, part, pairs, log, statuses })
    }

    /// Returns how many rows got an image.
    pub(super) fn pairs(&self) -> u64 {
        self.statuses.iter().filter(|status| **status == Status::Ok).count() as u64
    }

    /// Writes the committed part `old` again with these rows in place: instead of the old ones, or
    /// after them.
    pub(super) fn write_into(self, old: &PartEntry, new: &mut NewPart) -> Result<()> {
        let run = &self.context.run;
        let log = table::read(&table::file(run, old, schema::download_log().name)?, None)?;
        let (steps, log_rows) = self.steps(&statuses_of(&log)?);
        let mut steps = steps.into_iter();
        let mut fresh = table::batches(&self.pairs, None)?.flat_map(|batch| match batch {
            Ok(batch) => (0..batch.num_rows()).map(|row| Ok(batch.slice(row, 1))).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });

        let config = &self.context.recipe().download;
        let mut writer = PoolWriter::create(run, new, config, &old.part, self.part.index)?;
        // The columns, in case there is no pair.
        writer.write(&RecordBatch::new_empty(table::schema(&self.pairs, None)?))?;
        pool::for_each_pair(run, config.encode, old, |pair| {
            for step in steps.by_ref() {
                match step {
                    Step::Old => return writer.push(pair),
                    Step::SkipOld => return Ok(()),
                    Step::Fresh => writer.push(fresh.next().context(LOST)??)?,
                }
            }
            bail!("the pool has a pair of part {} that its log does not have", old.part)
        })?;
        for step in steps {
            match step {
                Step::Fresh => writer.push(fresh.next().context(LOST)??)?,
                Step::Old | Step::SkipOld => bail!("the pool lacks a pair of part {} that its log has", old.part),
            }
        }
        drop(fresh);
        writer.finish(new)?;
        std::fs::remove_file(&self.pairs).with_context(|| format!("cannot remove {}", self.pairs.display()))?;
        write_log(self.context, &old.part, &interleave_record_batch(&[&log, &self.log], &log_rows)?, new)
    }

    /// Returns the order of the pairs of the new part, and the rows of its log: from the old log
    /// (0) or from this one (1). Uses the statuses of the old part.
    fn steps(&self, old: &[Status]) -> (Vec<Step>, Vec<(usize, usize)>) {
        let rows = self.part.chosen.as_deref().unwrap_or_default();
        let (mut steps, mut log_rows, mut next) = (Vec::new(), Vec::new(), 0);
        for row in 0..old.len().max(rows.last().map_or(0, |row| row + 1)) {
            let was_kept = old.get(row) == Some(&Status::Ok);
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
        (steps, log_rows)
    }
}
