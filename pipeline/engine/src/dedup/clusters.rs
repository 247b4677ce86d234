//! Clusters: the connected components of "is a duplicate of".
//!
//! One comparison runs at a time and holds 16 bytes per pair. If the keys exceed their share of the
//! memory, the table is scanned in several passes, each with another share of the keys. The links
//! that were found are written to a temporary file whenever they exceed theirs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::iter::Peekable;

use lynxdata_filters::hamming;
use lynxdata_records::Error;
use lynxdata_records::temporary::{Memory, Sortable, SortedRecords, Sorter, TemporaryList, TemporaryWriter};
use serde::{Deserialize, Serialize};

use super::{Candidate, DedupConfig, Key, Match, Matches, slice_masks, spread};

/// A key (high, low) and the index of its pair: 16 bytes.
type Entry = (u64, u32, u32);

/// Minimum number of entries of a pass. A smaller limit of memory is raised to this.
pub(super) const LEAST_ENTRIES: u64 = 1 << 16;

/// A function that calls the closure with the index and key of every pair for one comparison. It
/// can be called many times. It leaves out pairs without a key and pairs whose pHash is not
/// compared.
pub type Scan<'a, E> = dyn FnMut(Match, &mut dyn FnMut(u32, Key)) -> Result<(), E> + 'a;

/// The cluster of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Index of the first pair of the connected component.
    pub cluster: u32,
    /// Number of pairs in the component.
    pub size: u32,
    /// Comparisons that matched this pair with another one.
    pub matched_by: Matches,
}

/// The pairs that have duplicates with their clusters, ordered by the cluster and then the pair.
pub struct Clusters {
    links: SortedRecords<Link>,
    /// The cluster of each of the pairs, for their number.
    sizes: Peekable<SortedRecords<ClusterOfPair>>,
    /// The last cluster and its size.
    last: Option<(u32, u32)>,
}

/// Joins pairs into the connected components of "is a duplicate of". Two pairs of a component need
/// not be duplicates of each other: a chain of duplicates connects them.
///
/// The search for close hashes is exact. Values within distance d agree in at least one of d + 1
/// slices of their bits (pigeonhole principle), so only pairs that share a slice are compared.
///
/// `pairs` is the number of pairs. Half of the memory is for the keys of a comparison. If they do
/// not fit, they are read in several passes, each of which scans the table. The other half is for
/// the clusters.
///
/// # Errors
/// The errors of `scan`, or if a temporary file cannot be written or read.
pub fn cluster<E: From<Error>>(
    pairs: u64,
    config: &DedupConfig,
    memory: &Memory,
    scan: &mut Scan<'_, E>,
) -> Result<Clusters, E> {
    let room = memory.share(2).room(size_of::<Entry>() as u64).max(LEAST_ENTRIES);
    let passes = pairs.div_ceil(room).max(1);
    let mut links = Links::new(memory.share(2));
    for (is_compared, by) in [(config.url, Match::Url), (config.exact, Match::Exact)] {
        for pass in (0..passes).filter(|_| is_compared) {
            let mut entries = keys_of_pass(pairs / passes, by, u64::MAX, (pass, passes), scan)?;
            entries.sort_unstable();
            join_equal(&entries, |entry| (entry.0, entry.1), by, &mut links)?;
        }
    }
    if let Ok(distance) = u32::try_from(config.phash_distance) {
        for (mask, pass) in slice_masks(distance).flat_map(|mask| (0..passes).map(move |pass| (mask, pass))) {
            let mut entries = keys_of_pass(pairs / passes, Match::Phash, mask, (pass, passes), scan)?;
            join_close(&mut entries, mask, distance, &mut links)?;
        }
    }
    Ok(links.finish(memory)?)
}

/// Clusters pairs in memory as [`cluster`] does. Returns the cluster of each pair, in their order.
///
/// # Errors
/// None: only lists in temporary files have any.
pub fn cluster_all(pairs: &[Candidate], config: &DedupConfig) -> Result<Vec<Membership>, Error> {
    let clusters = cluster(pairs.len() as u64, config, &Memory::unlimited(), &mut |by, each| {
        for (index, pair) in (0..).zip(pairs) {
            if let Some(key) = pair.key(by, config) {
                each(index, key);
            }
        }
        Ok::<_, Error>(())
    })?;
    let alone = |index: u32| Membership { cluster: index, size: 1, matched_by: Matches::default() };
    let mut memberships: Vec<Membership> = (0..pairs.len() as u32).map(alone).collect();
    for member in clusters {
        let (index, membership) = member?;
        memberships[index as usize] = membership;
    }
    Ok(memberships)
}

/// Returns the keys of one pass. The bits of a key under `mask` decide which pass it belongs to.
fn keys_of_pass<E>(
    expected: u64,
    by: Match,
    mask: u64,
    (pass, passes): (u64, u64),
    scan: &mut Scan<'_, E>,
) -> Result<Vec<Entry>, E> {
    // A little more than the expected share, so that the list is not doubled just before its end.
    let mut entries: Vec<Entry> = Vec::with_capacity((expected + expected / 16) as usize);
    scan(by, &mut |index, Key { high, low }| {
        if passes == 1 || spread(high & mask) % passes == pass {
            entries.push((high, low, index));
        }
    })?;
    Ok(entries)
}

/// Joins the pairs with equal keys, which follow each other.
fn join_equal<K: PartialEq>(
    entries: &[Entry],
    key: impl Fn(&Entry) -> K,
    by: Match,
    links: &mut Links,
) -> Result<(), Error> {
    for equal in entries.chunk_by(|a, b| key(a) == key(b)) {
        for other in &equal[1..] {
            links.join(equal[0].2, other.2, by)?;
        }
    }
    Ok(())
}

/// Joins the pairs whose hashes have equal bits under `mask` and differ in at most `distance` bits.
fn join_close(entries: &mut Vec<Entry>, mask: u64, distance: u32, links: &mut Links) -> Result<(), Error> {
    // Equal hashes are joined first, so that the search below sees each value only once, however
    // many blank images there are.
    entries.sort_unstable();
    join_equal(entries, |entry| entry.0, Match::Phash, links)?;
    entries.dedup_by_key(|entry| entry.0);
    if distance == 0 {
        return Ok(());
    }
    entries.sort_unstable_by_key(|(hash, ..)| (hash & mask, *hash));
    for bucket in entries.chunk_by(|(a, ..), (b, ..)| a & mask == b & mask) {
        for (position, (hash, _, index)) in bucket.iter().enumerate() {
            for (other_hash, _, other) in &bucket[position + 1..] {
                if hamming(*hash, *other_hash) <= distance {
                    links.join(*index, *other, Match::Phash)?;
                }
            }
        }
    }
    Ok(())
}

/// The cluster of a pair, as far as it is known. They are ordered by the cluster and then the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Link {
    cluster: u32,
    pair: u32,
    matched_by: Matches,
}

impl Sortable for Link {}

/// The cluster of some pair.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct ClusterOfPair(u32);

impl Sortable for ClusterOfPair {}

/// Bytes of a pair in [`Links`]: its entry, which is 13 bytes of a table that is at least 7/16
/// full, and half as many while the table is made larger; the same for its earlier cluster, and
/// 4 for its place in the order of the pairs.
const BYTES_OF_LINK: u64 = 100;

/// Minimum number of pairs in memory. A smaller limit of memory is raised to this.
const LEAST_LINKS: u64 = 64;

/// Joins pairs into clusters (union-find). If the pairs in memory become too many, their clusters
/// are merged into a list on disk.
struct Links {
    memory: Memory,
    joined: HashMap<u32, Joined, Spread>,
    /// The pairs that were joined before, in their order. The cluster is the first of its pairs,
    /// which is in the list too.
    spilled: Option<TemporaryList<Link>>,
}

/// A pair in the union-find structure.
#[derive(Clone, Copy)]
struct Joined {
    /// An earlier pair of its cluster; itself if it is the first.
    parent: u32,
    matched_by: Matches,
}

impl Links {
    fn new(memory: Memory) -> Links {
        Links { memory, joined: HashMap::default(), spilled: None }
    }

    fn join(&mut self, a: u32, b: u32, by: Match) -> Result<(), Error> {
        self.unite(a, b);
        for index in [a, b] {
            self.joined.entry(index).and_modify(|joined| joined.matched_by.extend(by.into()));
        }
        if self.joined.len() as u64 >= self.memory.room(BYTES_OF_LINK).max(LEAST_LINKS) {
            self.spill()?;
        }
        Ok(())
    }

    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(joined) = self.joined.get_mut(&a.max(b)) {
            joined.parent = a.min(b);
        }
    }

    /// Returns the first pair of a cluster. Adds the pair if it is not known.
    fn root(&mut self, index: u32) -> u32 {
        let alone = Joined { parent: index, matched_by: Matches::default() };
        let mut root = self.joined.entry(index).or_insert(alone).parent;
        while self.joined[&root].parent != root {
            root = self.joined[&root].parent;
        }
        // Path compression: every pair on the way now points directly to the root.
        let mut at = index;
        while at != root
            && let Some(joined) = self.joined.get_mut(&at)
        {
            at = std::mem::replace(&mut joined.parent, root);
        }
        root
    }

    /// Returns the pairs in memory, in their order.
    fn in_order(&self) -> Vec<u32> {
        let mut pairs: Vec<u32> = self.joined.keys().copied().collect();
        pairs.sort_unstable();
        pairs
    }

    fn link(&mut self, pair: u32) -> Link {
        Link { cluster: self.root(pair), pair, matched_by: self.joined[&pair].matched_by }
    }

    /// Merges the pairs in memory into the list on disk.
    fn spill(&mut self) -> Result<(), Error> {
        // Two clusters in memory are one if the list on disk says so. After this, each cluster of
        // the list is in memory if it has a pair in memory.
        let mut earlier = self.spilled.take();
        if let Some(earlier) = &mut earlier {
            for link in earlier.records()? {
                let link = link?;
                if self.joined.contains_key(&link.pair) {
                    self.unite(link.pair, link.cluster);
                }
            }
        }
        let mut in_memory = self.in_order().into_iter().peekable();
        let mut list = TemporaryWriter::create(&self.memory)?;
        if let Some(earlier) = earlier {
            for link in earlier.into_records()? {
                let mut link = link?;
                while let Some(pair) = in_memory.next_if(|pair| *pair < link.pair) {
                    list.push(&self.link(pair))?;
                }
                if in_memory.next_if_eq(&link.pair).is_some() {
                    link.matched_by.extend(self.joined[&link.pair].matched_by);
                }
                if self.joined.contains_key(&link.cluster) {
                    link.cluster = self.root(link.cluster);
                }
                list.push(&link)?;
            }
        }
        for pair in in_memory {
            list.push(&self.link(pair))?;
        }
        self.spilled = Some(list.finish()?);
        self.joined.clear();
        Ok(())
    }

    /// Returns the clusters, after all pairs are joined.
    fn finish(mut self, memory: &Memory) -> Result<Clusters, Error> {
        let (mut links, mut sizes) = (Sorter::new(memory.share(4)), Sorter::new(memory.share(4)));
        let mut add = |link: Link| {
            sizes.push(ClusterOfPair(link.cluster))?;
            links.push(link)
        };
        if self.spilled.is_some() {
            self.spill()?;
        }
        for pair in self.in_order() {
            add(self.link(pair))?;
        }
        drop(self.joined);
        if let Some(list) = self.spilled {
            for link in list.into_records()? {
                add(link?)?;
            }
        }
        Ok(Clusters { links: links.sorted()?, sizes: sizes.sorted()?.peekable(), last: None })
    }
}

impl Clusters {
    /// Returns the size of a cluster; clusters must be asked for in their order.
    fn size(&mut self, cluster: u32) -> Result<u32, Error> {
        if let Some((_, size)) = self.last.filter(|(last, _)| *last == cluster) {
            return Ok(size);
        }
        let mut size = 0;
        while let Some(pair) = self.sizes.next_if(|pair| !matches!(pair, Ok(of) if of.0 != cluster)) {
            pair?;
            size += 1;
        }
        self.last = Some((cluster, size));
        Ok(size)
    }
}

impl Iterator for Clusters {
    /// The index of a pair, and its cluster.
    type Item = Result<(u32, Membership), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let membership = self.links.next()?.and_then(|Link { cluster, pair, matched_by }| {
            Ok((pair, Membership { cluster, size: self.size(cluster)?, matched_by }))
        });
        Some(membership)
    }
}

/// A fast hasher for indices. The default hasher is many times slower because it resists collision
/// attacks, which indices cannot make.
type Spread = BuildHasherDefault<SpreadHasher>;

#[derive(Default)]
struct SpreadHasher(u64);

impl Hasher for SpreadHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = spread(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = spread(u64::from(number) + 1);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
