//! The pairs that a selection rejects as duplicates, found within a limit of memory.

use std::collections::BTreeMap;

use anyhow::Result;
use arrow::array::BooleanArray;
use lynxdata_engine::dedup::{Duplicate, Key, Match, Matches, Stars};
use lynxdata_records::PartEntry;
use lynxdata_records::schema::{CLUSTER, CLUSTER_SIZE, UID};
use lynxdata_records::temporary::{Memory, Sortable, SortedRecords, Sorter, text_bytes};
use serde::{Deserialize, Serialize};

use crate::pool::{Place, Pool};
use crate::stage::Context;
use crate::stages::dedup::candidates;
use crate::table;

/// The pairs that pass all rules but are duplicates of a kept pair.
pub(super) struct Duplicates {
    /// None if the selection keeps duplicates.
    left: Option<SortedRecords<Duplicate>>,
    /// Pairs in the parts that were read.
    first: u64,
}

impl Duplicates {
    /// Returns no duplicates.
    pub(super) fn none() -> Duplicates {
        Duplicates { left: None, first: 0 }
    }

    /// Finds the duplicates of a selection. `passing` has the pairs of each part that pass all
    /// rules.
    pub(super) fn find(
        context: &Context,
        pool: &Pool,
        clusters: &PartEntry,
        passing: &[BooleanArray],
    ) -> Result<Duplicates> {
        let mut stars = Stars::new(&context.recipe().dedup, &context.memory());
        let mut first = 0;
        for ((entry, part), passing) in clusters.files.iter().zip(&pool.parts).zip(passing) {
            let path = context.run.intact(entry)?;
            let table = table::read(&path, Some(&[UID.name, CLUSTER.name, CLUSTER_SIZE.name]))?;
            let uids = UID.of(&table, &path)?;
            let names = CLUSTER.of(&table, &path)?;
            let sizes = CLUSTER_SIZE.of(&table, &path)?;
            // A pair that is alone in its cluster has no duplicates, so nothing else of it is read.
            let rows: Vec<u32> = (0..table.num_rows())
                .filter(|row| sizes.value(*row) > 1 && passing.value(*row))
                .map(|row| row as u32)
                .collect();
            for (row, candidate) in rows.iter().zip(candidates(context, part, &rows)?) {
                let (index, row) = (first + u64::from(*row), *row as usize);
                stars.push(Key::of_text(names.value(row)), index, uids.value(row), &candidate)?;
            }
            first += table.num_rows() as u64;
        }
        Ok(Duplicates { left: Some(stars.duplicates()?), first: 0 })
    }

    /// Returns the duplicates in the next part of the pool, which has so many pairs, by their rows
    /// in it.
    pub(super) fn of_next_part(&mut self, pairs: usize) -> Result<BTreeMap<usize, Duplicate>> {
        let (first, end) = (self.first, self.first + pairs as u64);
        let mut of_part = BTreeMap::new();
        while let Some(duplicate) = self.left.as_mut().and_then(|left| left.next_if(|next| next.index < end)) {
            let duplicate = duplicate?;
            of_part.insert((duplicate.index - first) as usize, duplicate);
        }
        self.first = end;
        Ok(of_part)
    }
}

/// Counts the duplicates of each kept pair.
pub(crate) struct DuplicateCounts(Sorter<CountedDuplicate>);

/// A duplicate of a kept pair, to be counted. They are ordered by the kept pair and their places.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct CountedDuplicate {
    of: Box<str>,
    place: Place,
    by: Match,
}

impl Sortable for CountedDuplicate {
    fn heap_bytes(&self) -> usize {
        text_bytes(&self.of)
    }
}

/// A kept pair and its duplicates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Star {
    /// Key of the kept pair.
    pub(crate) uid: Box<str>,
    /// Number of its duplicates.
    pub(crate) count: u64,
    /// The comparisons that found them.
    pub(crate) kinds: Matches,
    /// The place of the first of them.
    pub(crate) first: Place,
    /// The comparison that found it.
    pub(crate) first_by: Match,
}

impl DuplicateCounts {
    /// Returns counts of nothing.
    pub(crate) fn new(memory: Memory) -> DuplicateCounts {
        DuplicateCounts(Sorter::new(memory))
    }

    /// Adds a duplicate: the key of its kept pair, its place, and the comparison that found it.
    pub(crate) fn add(&mut self, of: &str, place: Place, by: Match) -> Result<()> {
        Ok(self.0.push(CountedDuplicate { of: of.into(), place, by })?)
    }

    /// Passes each kept pair with duplicates to `each`, in the order of their keys.
    pub(crate) fn for_each(self, each: &mut dyn FnMut(Star)) -> Result<()> {
        let mut last: Option<Star> = None;
        for duplicate in self.0.sorted()? {
            let CountedDuplicate { of, place, by } = duplicate?;
            if let Some(star) = last.as_mut().filter(|star| star.uid == of) {
                star.count += 1;
                star.kinds.extend(by.into());
            } else {
                let star = Star { uid: of, count: 1, kinds: by.into(), first: place, first_by: by };
                last.replace(star).into_iter().for_each(&mut *each);
            }
        }
        last.into_iter().for_each(each);
        Ok(())
    }

    /// Warns if a kept pair has more duplicates than are likely to be real. `passed` is the number
    /// of pairs that pass the rules.
    pub(super) fn warn_if_improbable(self, selection: &str, passed: u64) -> Result<()> {
        let mut largest: Option<Star> = None;
        self.for_each(&mut |star| {
            // Of several, the last by its key.
            if largest.as_ref().is_none_or(|largest| largest.count <= star.count) {
                largest = Some(star);
            }
        })?;
        if let Some(Star { uid, count, first_by, .. }) = largest.filter(|star| super::is_improbable(star.count, passed))
        {
            tracing::warn!(
                "selection {selection}: {count} of {passed} pairs that pass the rules are duplicates of one pair, {uid}, the first by {}; \
                 check them in the report before you use this selection",
                first_by.name()
            );
        }
        Ok(())
    }
}
