//! The pool of a run: its parts, the signals measured on them, and access to pairs by place.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use lynxdata_filters::{GROUPS, SignalType};
use lynxdata_records::schema::{Column, UID};
use lynxdata_records::{PartEntry, RunFolder, fingerprint, parquet, schema};
use serde::{Deserialize, Serialize};

use crate::table;

/// The column of the signal [`ENTROPY`](lynxdata_filters::ENTROPY).
pub const ENTROPY: Column<Float64Array> = Column::named(lynxdata_filters::ENTROPY.name);
/// The column of the signal [`PHASH`](lynxdata_filters::PHASH).
pub const PHASH: Column<StringArray> = Column::named(lynxdata_filters::PHASH.name);
const _: () = assert!(
    matches!(lynxdata_filters::ENTROPY.signal_type, SignalType::Float)
        && matches!(lynxdata_filters::PHASH.signal_type, SignalType::Text)
);

/// The place of a pair in a pool. Places have the order of the pairs in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Number of the part.
    pub part: u32,
    /// Row in the part.
    pub row: u32,
}

/// The parts of a pool with the tables of signals beside them.
pub struct Pool {
    /// Its parts, in order.
    pub parts: Vec<PoolPart>,
}

/// One part of the pool.
pub struct PoolPart {
    /// The pairs.
    pub pairs: PartEntry,
    /// Its signals, in the order of [`GROUPS`]; empty if they were not requested.
    signals: Vec<PartEntry>,
}

impl Pool {
    /// Returns a pool of pairs without signals.
    pub fn of_pairs(pairs: Vec<PartEntry>) -> Pool {
        Pool { parts: pairs.into_iter().map(|pairs| PoolPart { pairs, signals: Vec::new() }).collect() }
    }

    /// Returns a pool with its signals, which are parts of the stage `signals`, named by
    /// [`signal_part`].
    ///
    /// # Errors
    /// If a part lacks the signals of a group.
    pub fn with_signals(pairs: Vec<PartEntry>, signals: &[PartEntry]) -> Result<Pool> {
        let of_part = |pairs: PartEntry| {
            let of_group = |group: &str| {
                let name = signal_part(group, &pairs.part);
                let found = signals.iter().find(|part| part.part == name).cloned();
                found.with_context(|| format!("part {} of the pool has no signals of group {group}", pairs.part))
            };
            let signals = GROUPS.iter().map(|group| of_group(group.name)).collect::<Result<Vec<_>>>()?;
            Ok(PoolPart { pairs, signals })
        };
        Ok(Pool { parts: pairs.into_iter().map(of_part).collect::<Result<_>>()? })
    }

    /// Returns a digest of the whole content.
    pub fn digest(&self) -> String {
        let entries = self.parts.iter().flat_map(|part| std::iter::once(&part.pairs).chain(&part.signals));
        let digests: Vec<String> = entries.map(PartEntry::digest).collect();
        fingerprint(digests.iter().map(String::as_str))
    }

    /// Passes the pairs at these places, which must be in order, to `each` in small batches, with
    /// all columns of the pool or the named ones. Images at other places are not read.
    ///
    /// # Errors
    /// If a file is damaged or cannot be read, or as `each` says.
    pub fn for_each_at(
        &self,
        run: &RunFolder,
        places: &[Place],
        columns: Option<&[&str]>,
        each: &mut dyn FnMut(&[Place], &RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let file = |part: u32| table::file(run, &self.parts[part as usize].pairs, schema::pool().name);
        for_each_at(&file, places, columns, each)
    }
}

/// Passes pairs to `each` like [`Pool::for_each_at`], from any files of pairs; `file` returns the
/// file of a part.
pub(crate) fn for_each_at(
    file: &dyn Fn(u32) -> Result<PathBuf>,
    places: &[Place],
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(&[Place], &RecordBatch) -> Result<()>,
) -> Result<()> {
    for of_part in places.chunk_by(|a, b| a.part == b.part) {
        let path = file(of_part[0].part)?;
        let rows: Vec<u32> = of_part.iter().map(|place| place.row).collect();
        let mut left = of_part;
        for batch in table::batches_at(&path, columns, &rows)? {
            let batch = batch?;
            let (here, others) = left.split_at(batch.num_rows().min(left.len()));
            each(here, &batch)?;
            left = others;
        }
        if !left.is_empty() {
            bail!("{} has fewer rows than its part has pairs", path.display());
        }
    }
    Ok(())
}

impl PoolPart {
    /// Returns narrow columns of its pairs, without images.
    ///
    /// # Errors
    /// If the file cannot be read or lacks one of the columns.
    pub fn columns(&self, run: &RunFolder, columns: &[&str]) -> Result<RecordBatch> {
        table::read(&table::file_for_columns(run, &self.pairs, schema::pool().name)?, Some(columns))
    }

    /// Returns the schema of its pairs.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn schema(&self, run: &RunFolder) -> Result<SchemaRef> {
        Ok(parquet::schema(&table::file_for_columns(run, &self.pairs, schema::pool().name)?)?)
    }

    /// Returns the path of its pairs, for messages.
    ///
    /// # Errors
    /// If it has no file.
    pub fn path(&self, run: &RunFolder) -> Result<PathBuf> {
        table::file_for_columns(run, &self.pairs, schema::pool().name)
    }

    /// Returns `uid` and the signals of its pairs in the order of the pool, all or the named ones.
    ///
    /// # Errors
    /// If a table is damaged, or its rows do not match those of the pool.
    pub fn signals(&self, run: &RunFolder, names: Option<&[&str]>) -> Result<RecordBatch> {
        let mut uids: Option<StringArray> = None;
        let (mut fields, mut values) = (Vec::new(), Vec::new());
        for (group, part) in GROUPS.iter().zip(&self.signals) {
            let is_wanted = |name: &str| names.is_none_or(|names| names.contains(&name));
            let wanted: Vec<&str> =
                group.signals.iter().map(|signal| signal.name).filter(|name| is_wanted(name)).collect();
            if wanted.is_empty() {
                continue;
            }
            let path = table::file(run, part, SIGNALS)?;
            let rows = table::read(&path, Some(&[&[UID.name], wanted.as_slice()].concat()))?;
            let own = UID.of(&rows, &path)?;
            if let Some(uids) = &uids {
                table::same_pairs(uids, own, &path)?;
            } else {
                let pairs = self.columns(run, &[UID.name])?;
                table::same_pairs(UID.of(&pairs, &path)?, own, &path)?;
                (fields, values) = (vec![rows.schema().fields()[0].clone()], vec![rows.column(0).clone()]);
                uids = Some(own.clone());
            }
            fields.extend(rows.schema().fields().iter().skip(1).cloned());
            values.extend(rows.columns().iter().skip(1).cloned());
        }
        RecordBatch::try_new(Schema::new(fields).into(), values).context("the tables of signals do not fit together")
    }
}

/// The folder of the tables of signals, one for each group.
pub const SIGNALS: &str = "signals";

/// Returns the name of the part of stage `signals` that holds the signals of a group for a part of
/// the pool.
pub fn signal_part(group: &str, part: &str) -> String {
    format!("{group}-{part}")
}
