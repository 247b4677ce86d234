//! Stars: kept pairs, each with the duplicates that it replaces.
//!
//! Pairs are sorted by cluster, then by rank, on disk if needed. Then one cluster is decided at a
//! time. Only its kept pairs are held in memory; if they become too many, the rest of the cluster
//! waits in a temporary file.

use std::cmp::Reverse;
use std::collections::HashMap;

use lynxdata_filters::hamming;
use lynxdata_records::Error;
use lynxdata_records::temporary::{Memory, Sortable, SortedRecords, Sorter, TemporaryWriter, text_bytes};
use serde::{Deserialize, Serialize};

use super::{Candidate, DedupConfig, Keep, Key, Match, slice_masks};

/// A pair that is removed in favour of another one. Duplicates are ordered by their index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Duplicate {
    /// Index of the pair that is removed.
    pub index: u64,
    /// Index and key of the pair that is kept.
    pub of: (u64, Box<str>),
    /// The comparison that makes this pair a duplicate of it: the same bytes, otherwise the same
    /// URL, otherwise the pHash.
    pub by: Match,
    /// Bits in which the pHash values differ; `None` unless `by` is [`Match::Phash`].
    pub phash_distance: Option<u32>,
}

impl Sortable for Duplicate {
    fn heap_bytes(&self) -> usize {
        text_bytes(&self.of.1)
    }
}

/// Decides which pairs are kept.
///
/// The pairs of a cluster are visited in the order of [`Keep`]. A pair is kept unless it is a
/// direct duplicate of a pair that is kept already. So a kept pair replaces only its direct
/// duplicates, not everything that a chain of duplicates connects to it. Keeping one pair per
/// cluster would leave a single image of a chain whose neighbours differ in 4 bits.
pub struct Stars<'a> {
    config: &'a DedupConfig,
    members: Sorter<Member>,
    duplicates: Sorter<Duplicate>,
    kept: KeptPairs,
    /// The rest of a cluster whose kept pairs do not fit into memory.
    waiting: Option<TemporaryWriter<Waiting>>,
    memory: Memory,
}

impl<'a> Stars<'a> {
    /// Returns an empty set of pairs.
    pub fn new(config: &'a DedupConfig, memory: &Memory) -> Stars<'a> {
        Stars {
            config,
            members: Sorter::new(memory.share(2)),
            duplicates: Sorter::new(memory.share(4)),
            kept: KeptPairs::new(config),
            waiting: None,
            memory: memory.share(4),
        }
    }

    /// Adds a pair: the key of its cluster, its index in the order of the source, which is unique,
    /// its own key and its data. Pairs in different clusters are not compared.
    ///
    /// # Errors
    /// If a temporary file cannot be written.
    pub fn push(&mut self, cluster: Key, index: u64, uid: &str, pair: &Candidate) -> Result<(), Error> {
        self.members.push(Member {
            cluster,
            rank: Reverse(rank(self.config.keep, pair)),
            index,
            uid: uid.into(),
            url: pair.url.filter(|_| self.config.url),
            bytes: pair.bytes.filter(|_| self.config.exact),
            phash: pair.compared_phash(self.config).filter(|_| self.config.phash_distance >= 0),
        })
    }

    /// Returns the pairs that are not kept, in the order of their indices.
    ///
    /// # Errors
    /// If a temporary file cannot be written or read.
    pub fn duplicates(mut self) -> Result<SortedRecords<Duplicate>, Error> {
        let mut last = None;
        for member in std::mem::replace(&mut self.members, Sorter::new(self.memory.share(1))).sorted()? {
            let member = member?;
            if last.replace(member.cluster) != Some(member.cluster) {
                self.end_of_cluster()?;
            }
            self.decide(Waiting { member, found: None })?;
        }
        self.end_of_cluster()?;
        self.duplicates.sorted()
    }

    fn end_of_cluster(&mut self) -> Result<(), Error> {
        self.kept = KeptPairs::new(self.config);
        while let Some(waiting) = self.waiting.take() {
            for waiting in waiting.finish()?.into_records()? {
                self.decide(waiting?)?;
            }
            self.kept = KeptPairs::new(self.config);
        }
        Ok(())
    }

    /// Decides on a pair after all pairs of its cluster with a higher rank, or lets it wait.
    fn decide(&mut self, Waiting { member, found }: Waiting) -> Result<(), Error> {
        let found = found.into_iter().chain(self.kept.duplicate_of(&member)).min_by_key(Found::order);
        if let Some(waiting) = &mut self.waiting {
            // A pair that waits may be kept, and nearer to this one than what was found.
            return waiting.push(&Waiting { member, found });
        }
        match found {
            Some(Found { of, by, phash_distance }) => {
                self.duplicates.push(Duplicate { index: member.index, of, by, phash_distance })
            }
            None if self.kept.have_room(&self.memory) => {
                self.kept.insert(member);
                Ok(())
            }
            None => self.waiting.insert(TemporaryWriter::create(&self.memory)?).push(&Waiting { member, found }),
        }
    }
}

/// A pair in a cluster. Pairs are ordered by cluster, then by rank, then by the order of the
/// source.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Member {
    cluster: Key,
    rank: Reverse<[i64; 2]>,
    index: u64,
    uid: Box<str>,
    /// What is compared of it.
    url: Option<Key>,
    bytes: Option<Key>,
    phash: Option<u64>,
}

impl Sortable for Member {
    fn heap_bytes(&self) -> usize {
        text_bytes(&self.uid)
    }
}

/// A pair that could not be decided, with the best of the kept pairs that it was compared with.
#[derive(Serialize, Deserialize)]
struct Waiting {
    member: Member,
    found: Option<Found>,
}

/// A kept pair of which another one is a duplicate.
#[derive(Serialize, Deserialize)]
struct Found {
    of: (u64, Box<str>),
    by: Match,
    phash_distance: Option<u32>,
}

impl Found {
    /// The least one is named as the reason: the same bytes, the same URL, the nearest pHash; of
    /// several, the earliest in the source.
    fn order(&self) -> (bool, bool, Option<u32>, u64) {
        (self.by != Match::Exact, self.by != Match::Url, self.phash_distance, self.of.0)
    }
}

/// Returns the rank of a pair: of two duplicates, the one with the greater rank is kept.
pub(super) fn rank(keep: Keep, pair: &Candidate) -> [i64; 2] {
    let pixels = pair.original_pixels;
    let characters = i64::try_from(pair.caption_characters).unwrap_or(i64::MAX);
    match keep {
        Keep::Largest => [pixels, characters],
        Keep::LongestCaption => [characters, pixels],
        Keep::First => [0, 0],
    }
}

/// Kept pairs of one cluster, indexed by URL, by bytes and by the slices of the pHash.
struct KeptPairs {
    /// Maximum number of bits in which the pHash values of duplicates differ.
    distance: u32,
    pairs: Vec<Kept>,
    by_url: HashMap<Key, u32>,
    by_bytes: HashMap<Key, u32>,
    slices: Vec<Slice>,
}

/// A kept pair.
struct Kept {
    index: u64,
    uid: Box<str>,
}

/// The kept pairs by some of the bits of their pHash.
struct Slice {
    mask: u64,
    /// The pHash and the place of each pair, by the bits under the mask.
    kept: HashMap<u64, Vec<(u64, u32)>>,
}

/// Bytes of a kept pair: its entry, its key of up to 50 bytes and its places in the tables of URLs
/// and bytes, of 25 bytes each, which may be only 7/16 full and half as large while they grow.
const BYTES_OF_KEPT: u64 = 300;

/// Bytes of a kept pair for each slice: 16 in a list that may be half full, and its share of the
/// list, which it has alone if there are few.
const BYTES_OF_SLICE: u64 = 100;

/// Minimum number of kept pairs in memory. A smaller limit of memory is raised to this.
const LEAST_KEPT: u64 = 16;

impl KeptPairs {
    fn new(config: &DedupConfig) -> KeptPairs {
        let distance = u32::try_from(config.phash_distance).ok();
        KeptPairs {
            distance: distance.unwrap_or_default(),
            pairs: Vec::new(),
            by_url: HashMap::new(),
            by_bytes: HashMap::new(),
            slices: distance
                .into_iter()
                .flat_map(slice_masks)
                .map(|mask| Slice { mask, kept: HashMap::new() })
                .collect(),
        }
    }

    fn have_room(&self, memory: &Memory) -> bool {
        let bytes = BYTES_OF_KEPT + BYTES_OF_SLICE * self.slices.len() as u64;
        (self.pairs.len() as u64) < memory.room(bytes).max(LEAST_KEPT)
    }

    /// Returns the kept pair of which a pair is a duplicate.
    fn duplicate_of(&self, member: &Member) -> Option<Found> {
        let equal =
            |by: Match, key: Option<Key>, kept: &HashMap<Key, u32>| Some(self.found(*kept.get(&key?)?, by, None));
        equal(Match::Exact, member.bytes, &self.by_bytes)
            .or_else(|| equal(Match::Url, member.url, &self.by_url))
            .or_else(|| self.nearest(member.phash?))
    }

    fn found(&self, place: u32, by: Match, phash_distance: Option<u32>) -> Found {
        let Kept { index, uid, .. } = &self.pairs[place as usize];
        Found { of: (*index, uid.clone()), by, phash_distance }
    }

    /// Returns the kept pair with the nearest pHash; of several, the earliest in the source.
    fn nearest(&self, hash: u64) -> Option<Found> {
        let alike = self.slices.iter().filter_map(|slice| slice.kept.get(&(hash & slice.mask))).flatten();
        let near = alike.map(|(other, place)| (hamming(hash, *other), *place));
        let near = near.filter(|(apart, _)| *apart <= self.distance);
        let near = near.map(|(apart, place)| (apart, self.pairs[place as usize].index, place));
        near.min().map(|(apart, _, place)| self.found(place, Match::Phash, Some(apart)))
    }

    fn insert(&mut self, Member { index, uid, url, bytes, phash, .. }: Member) {
        let place = self.pairs.len() as u32;
        self.pairs.push(Kept { index, uid });
        self.by_url.extend(url.map(|url| (url, place)));
        self.by_bytes.extend(bytes.map(|bytes| (bytes, place)));
        if let Some(hash) = phash {
            for Slice { mask, kept } in &mut self.slices {
                kept.entry(hash & *mask).or_default().push((hash, place));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_pairs_are_as_many_as_fit() {
        let config = DedupConfig::default();
        let count = |bytes| {
            let mut kept = KeptPairs::new(&config);
            let memory = Memory::limited(bytes, std::env::temp_dir());
            while kept.have_room(&memory) {
                let index = kept.pairs.len() as u64;
                let (cluster, rank) = (Key::of_phash(0), Reverse([0, 0]));
                kept.insert(Member {
                    cluster,
                    rank,
                    index,
                    uid: "".into(),
                    url: None,
                    bytes: None,
                    phash: Some(index),
                });
            }
            kept.pairs.len() as u64
        };
        assert_eq!(count(0), LEAST_KEPT);
        assert_eq!(count(80_000), 100);
    }
}
