//! Clusters: the connected components of "is a duplicate of".
//!
//! One comparison runs at a time. Its keys are sorted, 16 bytes per pair, and pairs with equal or
//! close keys are joined while the sorted keys are read. All lists have a share of the memory and
//! go to temporary files if they exceed it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use lynxdata_filters::hamming;
use lynxdata_records::Error;
use lynxdata_records::temporary::{Memory, Sortable, SortedRecords, Sorter, TemporaryWriter};
use serde::{Deserialize, Serialize};

use super::{Candidate, DedupConfig, Key, Match, Matches, slice_masks, spread};

/// A function that takes the index and key of a pair.
pub type TakeKey<'a> = dyn FnMut(u32, Key) -> Result<(), Error> + 'a;

/// A function that passes the index and key of every pair for one comparison to the other one. It
/// can be called many times. It leaves out pairs without a key and pairs whose pHash is not
/// compared.
pub type Scan<'a, E> = dyn FnMut(Match, &mut TakeKey<'_>) -> Result<(), E> + 'a;

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
    /// The cluster of each pair once more, to count the pairs of each cluster.
    sizes: SortedRecords<ClusterOfPair>,
    /// The last cluster and its size.
    last: Option<(u32, u32)>,
}

/// Joins pairs into the connected components of "is a duplicate of". Two pairs of a component need
/// not be duplicates of each other: a chain of duplicates connects them.
///
/// The search for close hashes is exact. Values within distance d agree in at least one of d + 1
/// slices of their bits (pigeonhole principle), so only pairs that share a slice are compared.
///
/// # Errors
/// The errors of `scan`, or if a temporary file cannot be written or read.
pub fn cluster<E: From<Error>>(config: &DedupConfig, memory: &Memory, scan: &mut Scan<'_, E>) -> Result<Clusters, E> {
    let mut links = Links::new(memory);
    for (is_compared, by) in [(config.url, Match::Url), (config.exact, Match::Exact)] {
        if is_compared {
            join_equal(sorted_keys(by, u64::MAX, memory, scan)?, by, &mut links)?;
        }
    }
    if let Ok(distance) = u32::try_from(config.phash_distance) {
        for (slice, mask) in slice_masks(distance).enumerate() {
            let hashes = sorted_keys(Match::Phash, mask, memory, scan)?;
            join_close(hashes, mask, (distance, slice == 0), memory, &mut links)?;
        }
    }
    Ok(links.finish(memory)?)
}

/// Clusters pairs in memory as [`cluster`] does. Returns the cluster of each pair, in their order.
///
/// # Errors
/// None: only lists in temporary files have any.
pub fn cluster_all(pairs: &[Candidate], config: &DedupConfig) -> Result<Vec<Membership>, Error> {
    let clusters = cluster(config, &Memory::unlimited(), &mut |by, each| {
        for (index, pair) in (0..).zip(pairs) {
            if let Some(key) = pair.key(by, config) {
                each(index, key)?;
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

/// The key of a pair: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct KeyOfPair {
    high: u64,
    low: u32,
    pair: u32,
}

impl Sortable for KeyOfPair {}

/// Returns the keys of all pairs in order. They are rotated so that the bits under `mask`, which
/// are a slice, come first.
fn sorted_keys<E: From<Error>>(
    by: Match,
    mask: u64,
    memory: &Memory,
    scan: &mut Scan<'_, E>,
) -> Result<SortedRecords<KeyOfPair>, E> {
    let mut keys = Sorter::new(memory.share(4));
    scan(by, &mut |pair, Key { high, low }| {
        keys.push(KeyOfPair { high: high.rotate_left(mask.leading_zeros()), low, pair })
    })?;
    Ok(keys.sorted()?)
}

/// Joins the pairs with equal keys.
fn join_equal(keys: SortedRecords<KeyOfPair>, by: Match, links: &mut Links) -> Result<(), Error> {
    let mut first: Option<KeyOfPair> = None;
    for key in keys {
        let key = key?;
        match first.filter(|first| (first.high, first.low) == (key.high, key.low)) {
            Some(first) => links.join(first.pair, key.pair, by)?,
            None => first = Some(key),
        }
    }
    Ok(())
}

/// Joins the pairs whose hashes have equal bits under `mask` and differ in at most `distance` bits,
/// and those whose hashes are equal if `with_equal`.
fn join_close(
    hashes: SortedRecords<KeyOfPair>,
    mask: u64,
    (distance, with_equal): (u32, bool),
    memory: &Memory,
    links: &mut Links,
) -> Result<(), Error> {
    let slice = |hash: u64| hash >> mask.count_zeros();
    let mut bucket = Bucket::new(distance, memory.share(8));
    let mut last: Option<KeyOfPair> = None;
    for hash in hashes {
        let hash = hash?;
        // The search sees each value only once, however many blank images there are.
        if let Some(equal) = last.filter(|last| last.high == hash.high) {
            if with_equal {
                links.join(equal.pair, hash.pair, Match::Phash)?;
            }
            continue;
        }
        if last.is_some_and(|last| slice(last.high) != slice(hash.high)) {
            bucket.end(links)?;
        }
        bucket.add(hash, links)?;
        last = Some(hash);
    }
    bucket.end(links)
}

/// Minimum number of hashes or pairs in memory. A smaller limit of memory is raised to this.
const LEAST_IN_MEMORY: u64 = 64;

/// The different hashes that share a slice. Those that do not fit into memory wait in a temporary
/// file until all others are compared.
struct Bucket {
    distance: u32,
    hashes: Vec<KeyOfPair>,
    waiting: Option<TemporaryWriter<KeyOfPair>>,
    memory: Memory,
}

impl Bucket {
    fn new(distance: u32, memory: Memory) -> Bucket {
        Bucket { distance, hashes: Vec::new(), waiting: None, memory }
    }

    /// Joins the pair of a hash with those of the hashes in memory that are close.
    fn add(&mut self, hash: KeyOfPair, links: &mut Links) -> Result<(), Error> {
        for other in &self.hashes {
            // Both are rotated alike.
            if hamming(other.high, hash.high) <= self.distance {
                links.join(other.pair, hash.pair, Match::Phash)?;
            }
        }
        // While the array becomes larger, it is there twice.
        if (self.hashes.len() as u64) < self.memory.room(3 * size_of::<KeyOfPair>() as u64).max(LEAST_IN_MEMORY) {
            self.hashes.push(hash);
            return Ok(());
        }
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            waiting => waiting.insert(TemporaryWriter::create(&self.memory)?),
        };
        waiting.push(&hash)
    }

    /// Compares the hashes that wait with each other, and empties the bucket.
    fn end(&mut self, links: &mut Links) -> Result<(), Error> {
        self.hashes.clear();
        while let Some(waiting) = self.waiting.take() {
            for hash in waiting.finish()?.into_records()? {
                self.add(hash?, links)?;
            }
            self.hashes.clear();
        }
        Ok(())
    }
}

/// The cluster of a pair. They are ordered by the cluster and then the pair.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Two pairs of one cluster.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Edge {
    pair: u32,
    other: u32,
}

impl Sortable for Edge {}

/// The comparisons that matched a pair.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Matched {
    pair: u32,
    by: Matches,
}

impl Sortable for Matched {}

/// Bytes of a pair in [`Links`]: an entry of 13 bytes of a table that is at least 7/16 full, half
/// as many while the table becomes larger, and 4 for its place in the order of the pairs.
const BYTES_OF_LINK: u64 = 50;

/// Joins pairs into clusters: in memory by union-find. If the pairs in memory become too many,
/// their clusters are written as edges, and [`components`] joins all edges in the end.
pub(super) struct Links {
    memory: Memory,
    joined: HashMap<u32, Joined, Spread>,
    /// The edges that were written, from each pair to the first pair of its cluster.
    edges: Sorter<Edge>,
    matched: Sorter<Matched>,
    /// How often pairs were written.
    pub(super) written: u64,
}

/// A pair in the union-find structure.
#[derive(Clone, Copy)]
struct Joined {
    /// An earlier pair of its cluster; itself if it is the first.
    parent: u32,
    matched_by: Matches,
}

impl Links {
    pub(super) fn new(memory: &Memory) -> Links {
        Links {
            memory: memory.share(4),
            joined: HashMap::default(),
            edges: Sorter::new(memory.share(8)),
            matched: Sorter::new(memory.share(8)),
            written: 0,
        }
    }

    pub(super) fn join(&mut self, a: u32, b: u32, by: Match) -> Result<(), Error> {
        let (first, second) = (self.root(a), self.root(b));
        if let Some(joined) = self.joined.get_mut(&first.max(second)) {
            joined.parent = first.min(second);
        }
        for pair in [a, b] {
            self.joined.entry(pair).and_modify(|joined| joined.matched_by.extend(by.into()));
        }
        if self.joined.len() as u64 >= self.memory.room(BYTES_OF_LINK).max(LEAST_IN_MEMORY) {
            self.write()?;
        }
        Ok(())
    }

    /// Returns the first pair of a cluster. Adds the pair if it is not known.
    fn root(&mut self, pair: u32) -> u32 {
        let alone = Joined { parent: pair, matched_by: Matches::default() };
        let mut root = self.joined.entry(pair).or_insert(alone).parent;
        while self.joined[&root].parent != root {
            root = self.joined[&root].parent;
        }
        // Path compression: every pair on the way now points directly to the root.
        let mut at = pair;
        while at != root
            && let Some(joined) = self.joined.get_mut(&at)
        {
            at = std::mem::replace(&mut joined.parent, root);
        }
        root
    }

    /// Writes the pairs in memory and forgets them.
    fn write(&mut self) -> Result<(), Error> {
        let mut pairs: Vec<u32> = self.joined.keys().copied().collect();
        pairs.sort_unstable();
        for pair in pairs {
            let first = self.root(pair);
            if first != pair {
                self.edges.push(Edge { pair, other: first })?;
            }
            self.matched.push(Matched { pair, by: self.joined[&pair].matched_by })?;
        }
        self.joined.clear();
        self.written += 1;
        Ok(())
    }

    /// Returns the clusters, after all pairs are joined.
    pub(super) fn finish(mut self, memory: &Memory) -> Result<Clusters, Error> {
        self.write()?;
        let Links { joined, edges, matched, written, .. } = self;
        drop(joined);
        let mut edges = edges.sorted()?;
        if written > 1 {
            edges = components(edges, memory)?;
        }
        let mut matched = matched.sorted()?;
        let (mut links, mut sizes) = (Sorter::new(memory.share(4)), Sorter::new(memory.share(4)));
        while let Some(first) = matched.next() {
            let Matched { pair, by: mut matched_by } = first?;
            while let Some(same) = matched.next_if(|next| next.pair == pair) {
                matched_by.extend(same?.by);
            }
            // The first pair of a cluster has no edge.
            let edge = edges.next_if(|next| next.pair == pair).transpose()?;
            let cluster = edge.map_or(pair, |edge| edge.other);
            sizes.push(ClusterOfPair(cluster))?;
            links.push(Link { cluster, pair, matched_by })?;
        }
        Ok(Clusters { links: links.sorted()?, sizes: sizes.sorted()?, last: None })
    }
}

/// Returns one edge from every pair of a connected component to the first pair of it, in the order
/// of the pairs. Each edge leads from a pair to an earlier one.
///
/// Each round links pairs to the least of their neighbours, until nothing changes: first the
/// greater neighbours of a pair, then the smaller ones ("large-star" and "small-star", Kiveris et
/// al. 2014, Connected Components in MapReduce and Beyond). They prove a number of rounds of at
/// most the square of the logarithm of the number of pairs, and conjecture the logarithm.
fn components(mut edges: SortedRecords<Edge>, memory: &Memory) -> Result<SortedRecords<Edge>, Error> {
    loop {
        let mut is_changed = false;
        let mut both_ways = Sorter::new(memory.share(4));
        for edge in edges {
            let Edge { pair, other } = edge?;
            both_ways.push(Edge { pair, other })?;
            both_ways.push(Edge { pair: other, other: pair })?;
        }
        // The neighbours of a pair are in order, so the first one is the least.
        let mut of_pair: Option<(u32, u32)> = None;
        let mut greater = Sorter::new(memory.share(4));
        for edge in both_ways.sorted()? {
            let Edge { pair, other } = edge?;
            let (_, least) = *of_pair.insert(match of_pair {
                Some(known) if known.0 == pair => known,
                _ => (pair, pair.min(other)),
            });
            if other > pair {
                is_changed |= least != pair;
                greater.push(Edge { pair: other, other: least })?;
            }
        }
        let mut of_pair: Option<(u32, u32)> = None;
        let mut smaller = Sorter::new(memory.share(4));
        for edge in greater.sorted()? {
            let Edge { pair, other } = edge?;
            match of_pair.filter(|known| known.0 == pair) {
                Some((_, least)) if least == other => {}
                Some((_, least)) => {
                    is_changed = true;
                    smaller.push(Edge { pair: other, other: least })?;
                }
                None => {
                    of_pair = Some((pair, other));
                    smaller.push(Edge { pair, other })?;
                }
            }
        }
        edges = smaller.sorted()?;
        if !is_changed {
            return Ok(edges);
        }
    }
}

impl Clusters {
    /// Returns the size of a cluster; clusters must be asked for in their order.
    fn size(&mut self, cluster: u32) -> Result<u32, Error> {
        if let Some((_, size)) = self.last.filter(|(last, _)| *last == cluster) {
            return Ok(size);
        }
        let mut size = 0;
        while let Some(pair) = self.sizes.next_if(|pair| pair.0 == cluster) {
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
