//! The pairs that a selection rejects as duplicates, found within a limit of memory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type};
use lynxdata_engine::dedup::{Candidate, Duplicate, stars};
use lynxdata_records::PartEntry;
use lynxdata_records::schema::{CLUSTER, CLUSTER_SIZE, UID};
use lynxdata_report::count as grouped;

use crate::pool::Pool;
use crate::stage::Context;
use crate::stages::dedup::candidates;
use crate::table;
use crate::temporary::{BatchesRead, TemporaryBatches};

/// Bytes of memory for a pair in a cluster: its data, its key and the tables of [`stars`]. Measured
/// in `benches/select`.
const BYTES_PER_MEMBER: u64 = 500;

/// The kept pair of which a rejected pair is a duplicate.
#[derive(Clone)]
pub(super) struct DuplicateOfKept {
    /// Key of the kept pair.
    pub(super) uid: String,
    /// The name of the comparison.
    pub(super) by: String,
    /// Number of differing bits of the pHashes, if they were compared.
    pub(super) distance: Option<i64>,
}

/// The pairs that pass all rules but are duplicates of a kept pair. They are on disk, in one file
/// for each pass over the clusters.
#[derive(Default)]
pub(super) struct Duplicates {
    passes: Vec<BatchesRead>,
}

impl Duplicates {
    /// Finds the duplicates of a selection. `passing` has the pairs of each part that pass all
    /// rules.
    ///
    /// Two duplicates are always in one cluster. So if the pairs in clusters do not fit into
    /// memory, some of the clusters are read at a time. A cluster is never divided, so one that
    /// does not fit takes more memory, which is told.
    pub(super) fn find(
        context: &Context,
        selection: &str,
        pool: &Pool,
        clusters: &PartEntry,
        passing: &[BooleanArray],
    ) -> Result<Duplicates> {
        let (mut members, mut largest_cluster) = (0, 0);
        for (entry, passing) in clusters.files.iter().zip(passing) {
            let path = context.run.intact(entry)?;
            let rows = table::read(&path, Some(&[CLUSTER_SIZE.name]))?;
            let sizes = CLUSTER_SIZE.of(&rows, &path)?;
            for (size, _) in sizes.values().iter().zip(passing).filter(|(size, passes)| is_member(**size, *passes)) {
                members += 1;
                largest_cluster = largest_cluster.max(size.unsigned_abs());
            }
        }
        let memory = context.recipe().resources.memory_bytes().max(BYTES_PER_MEMBER);
        if largest_cluster * BYTES_PER_MEMBER > memory {
            tracing::warn!(
                "selection {selection}: one cluster of duplicates has {} pairs and takes up to {} MB, more than \
                 resources.memory_mb; if it is an image that stands for missing ones, leave it out with a rule",
                grouped(largest_cluster),
                grouped(largest_cluster * BYTES_PER_MEMBER / 1_000_000)
            );
        }
        let count = (members * BYTES_PER_MEMBER).div_ceil(memory).max(1);
        let mut largest = None;
        let mut passes = Vec::new();
        for pass in 0..count {
            let mut file = TemporaryBatches::create(&context.run, &schema())?;
            let star =
                find_in(context, pool, clusters, passing, &|cluster| part_of(cluster, count) == pass, &mut file)?;
            largest = largest
                .into_iter()
                .chain(star)
                .max_by(|one: &Star, other| (one.size, &one.kept).cmp(&(other.size, &other.kept)));
            passes.push(file.read()?);
        }
        if let Some(star) = largest {
            star.warn_if_improbable(selection, passing.iter().map(BooleanArray::true_count).sum());
        }
        Ok(Duplicates { passes })
    }

    /// Returns the duplicates in the next part of the pool, by their rows in it.
    pub(super) fn of_next_part(&mut self) -> Result<BTreeMap<usize, DuplicateOfKept>> {
        let mut of_part = BTreeMap::new();
        for batch in self.passes.iter_mut().filter_map(Iterator::next) {
            let batch = batch?;
            let rows = batch.column(0).as_primitive::<UInt32Type>();
            let (uids, by) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string::<i32>());
            let distances = batch.column(3).as_primitive::<Int64Type>();
            for (index, row) in rows.values().iter().enumerate() {
                let distance = distances.is_valid(index).then(|| distances.value(index));
                let duplicate =
                    DuplicateOfKept { uid: uids.value(index).to_owned(), by: by.value(index).to_owned(), distance };
                of_part.insert(*row as usize, duplicate);
            }
        }
        Ok(of_part)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt32, false),
        Field::new("uid", DataType::Utf8, false),
        Field::new("by", DataType::Utf8, false),
        Field::new("distance", DataType::Int64, true),
    ]))
}

/// Returns whether a pair may have duplicates. A pair that is alone in its cluster has none, so
/// nothing else of it is read.
fn is_member(cluster_size: i64, passes: Option<bool>) -> bool {
    cluster_size > 1 && passes == Some(true)
}

/// Returns the pass in which a cluster is read.
fn part_of(cluster: &str, passes: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.hash(&mut hasher);
    hasher.finish() % passes
}

/// Finds the duplicates in some of the clusters, writes them to `file`, one batch for each part of
/// the pool, and returns the kept pair with the most duplicates.
fn find_in(
    context: &Context,
    pool: &Pool,
    clusters: &PartEntry,
    passing: &[BooleanArray],
    is_read: &dyn Fn(&str) -> bool,
    file: &mut TemporaryBatches,
) -> Result<Option<Star>> {
    let (mut known, mut uids, mut rows_of_parts) = (Vec::<Candidate>::new(), Vec::<Box<str>>::new(), Vec::new());
    for ((entry, part), passing) in clusters.files.iter().zip(&pool.parts).zip(passing) {
        let path = context.run.intact(entry)?;
        let table = table::read(&path, Some(&[UID.name, CLUSTER.name, CLUSTER_SIZE.name]))?;
        let keys = UID.of(&table, &path)?;
        let names = CLUSTER.of(&table, &path)?;
        let sizes = CLUSTER_SIZE.of(&table, &path)?;
        let rows: Vec<u32> = (0..table.num_rows())
            .filter(|row| is_member(sizes.value(*row), Some(passing.value(*row))) && is_read(names.value(*row)))
            .map(|row| row as u32)
            .collect();
        known.extend(candidates(context, part, &rows)?);
        uids.extend(rows.iter().map(|row| keys.value(*row as usize).into()));
        rows_of_parts.push(rows);
    }
    let all: Vec<usize> = (0..known.len()).collect();
    let decisions = stars(&known, &all, &context.recipe().dedup);
    drop(known);

    let mut left = decisions.as_slice();
    for rows in rows_of_parts {
        let (of_part, others) = left.split_at(rows.len());
        left = others;
        let duplicates: Vec<(u32, &Duplicate)> =
            rows.iter().zip(of_part).filter_map(|(row, why)| Some((*row, why.as_ref()?))).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(duplicates.iter().map(|(row, _)| *row))),
            Arc::new(StringArray::from_iter_values(duplicates.iter().map(|(_, why)| &uids[why.of]))),
            Arc::new(StringArray::from_iter_values(duplicates.iter().map(|(_, why)| why.by.name()))),
            Arc::new(duplicates.iter().map(|(_, why)| why.phash_distance.map(i64::from)).collect::<Int64Array>()),
        ];
        file.write(&RecordBatch::try_new(schema(), columns)?)?;
    }
    Ok(Star::largest(&decisions, &uids))
}

/// A kept pair and its duplicates.
struct Star {
    /// Key of the kept pair.
    kept: String,
    /// Number of its duplicates.
    size: usize,
    /// The comparison that found the first of them.
    by: &'static str,
}

impl Star {
    /// Returns the kept pair with the most duplicates; of several, the last by its key.
    fn largest(decisions: &[Option<Duplicate>], uids: &[Box<str>]) -> Option<Star> {
        let mut sizes: BTreeMap<&str, (usize, &Duplicate)> = BTreeMap::new();
        for why in decisions.iter().flatten() {
            sizes.entry(&uids[why.of]).or_insert((0, why)).0 += 1;
        }
        let (kept, (size, why)) = sizes.into_iter().max_by_key(|(_, (size, _))| *size)?;
        Some(Star { kept: kept.to_owned(), size, by: why.by.name() })
    }

    /// Warns if the pair has more duplicates than are likely to be real.
    fn warn_if_improbable(&self, selection: &str, passed: usize) {
        let Star { kept, size, by } = self;
        if super::is_improbable(*size as u64, passed as u64) {
            tracing::warn!(
                "selection {selection}: {size} of {passed} pairs that pass the rules are duplicates of one pair, {kept}, the first by {by}; \
                 check them in the report before you use this selection"
            );
        }
    }
}
