//! Duplicates: pairs with the same URL, the same bytes, or perceptual hashes close to each other.
//!
//! [`cluster`] joins them into connected components. A check holds out whole components. [`stars`]
//! decides which pairs are kept: every removed pair is a direct duplicate of a kept one.
//!
//! Clustering runs one comparison at a time and holds 16 bytes per pair, within a memory budget. If
//! the keys exceed the budget, the table is scanned in several passes, each with another share of
//! the keys.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasherDefault, Hasher};

use lynxdata_filters::hamming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The comparisons that make two pairs duplicates of each other.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupConfig {
    /// Whether pairs whose images were served as the same bytes (SHA-256) are duplicates.
    pub exact: bool,
    /// Whether pairs with the same URL are duplicates.
    pub url: bool,
    /// Maximum number of the 64 bits in which the pHash values of duplicates differ; -1 switches
    /// the comparison off. At 6, recall is 1.00 for JPEG quality 30, half size and grey copies,
    /// 0.98 for a crop of 1 % and 0.01 for a crop of 10 %, measured on 300 photos. Clip art and
    /// drawings on a plain ground need less than photos.
    pub phash_distance: i32,
    /// Minimum entropy, in bits, of an image whose pHash is compared. The hash of a flat drawing
    /// says little: of 121 pairs of clip art within 4 bits, 102 had an image below 3 bits, and
    /// nearly all of these were different flags and outlines. All of 142 photographs were above
    /// 5.5.
    pub phash_min_entropy: f64,
    /// The order that decides which of two duplicates is kept.
    pub keep: Keep,
}

impl Default for DedupConfig {
    fn default() -> Self {
        DedupConfig { exact: true, url: true, phash_distance: 4, phash_min_entropy: 3.0, keep: Keep::Largest }
    }
}

impl DedupConfig {
    /// Returns whether the pHash of an image with this entropy (bits) is compared. It is not
    /// compared for flat drawings or if the entropy is missing.
    pub fn compares(&self, entropy: Option<f64>) -> bool {
        entropy.is_some_and(|entropy| entropy >= self.phash_min_entropy)
    }
}

/// The order that decides which of two duplicates is kept. Ties are broken by the next criterion,
/// and finally by the earlier row of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The pair with the most original pixels, then the one with the longest caption.
    Largest,
    /// The pair with the longest caption, then the one with the most original pixels.
    LongestCaption,
    /// The pair of the earliest row of the source.
    First,
}

/// The data of a pair that deduplication needs. A missing value is `None` and equals no other
/// value.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Key of its URL.
    pub url: Option<Key>,
    /// Key of the bytes of its image as served.
    pub bytes: Option<Key>,
    /// The pHash of its image, if it could be measured.
    pub phash: Option<u64>,
    /// The entropy of its image in bits, if it could be measured.
    pub entropy: Option<f64>,
    /// Pixels of its image as served, width times height.
    pub original_pixels: i64,
    /// Characters of its caption.
    pub caption_characters: usize,
}

impl Candidate {
    /// Returns the key that a comparison uses; `None` if the pair has none.
    fn key(&self, by: Match, config: &DedupConfig) -> Option<Key> {
        match by {
            Match::Url => self.url,
            Match::Exact => self.bytes,
            Match::Phash => self.compared_phash(config).map(Key::of_phash),
        }
    }

    /// Returns the pHash if it is compared; `None` for flat drawings and unmeasured images.
    fn compared_phash(&self, config: &DedupConfig) -> Option<u64> {
        config.compares(self.entropy).then_some(self.phash).flatten()
    }
}

/// A comparison by which two pairs can be duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// The same URL.
    Url,
    /// The same bytes.
    Exact,
    /// pHash values within the distance.
    Phash,
}

impl Match {
    /// Every comparison.
    pub const ALL: [Match; 3] = [Match::Url, Match::Exact, Match::Phash];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Returns the name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Match::Url => "url",
            Match::Exact => "exact",
            Match::Phash => "phash",
        }
    }
}

/// The compared value of a pair: a 96-bit digest of its URL or of its bytes, or its pHash. Among a
/// billion different values, the probability that any two digests are equal is below 1e-11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    high: u64,
    low: u32,
}

impl Key {
    /// Returns the key of a text: the first 96 bits of its BLAKE3 digest.
    pub fn of_text(text: &str) -> Key {
        let digest = blake3::hash(text.as_bytes());
        let (mut high, mut low) = ([0; 8], [0; 4]);
        high.copy_from_slice(&digest.as_bytes()[..8]);
        low.copy_from_slice(&digest.as_bytes()[8..12]);
        Key { high: u64::from_le_bytes(high), low: u32::from_le_bytes(low) }
    }

    /// Returns the key of a pHash.
    pub fn of_phash(hash: u64) -> Key {
        Key { high: hash, low: 0 }
    }
}

/// A key (high, low) and the index of its pair: 16 bytes.
type Entry = (u64, u32, u32);

/// Minimum number of entries of a pass. A smaller memory budget is raised to this.
const LEAST_ENTRIES: u64 = 1 << 16;

/// A function that calls the closure with the index and key of every pair for one comparison. It
/// can be called many times. It leaves out pairs without a key and pairs whose pHash is not
/// compared.
pub type Scan<'a, E> = dyn FnMut(Match, &mut dyn FnMut(u32, Key)) -> Result<(), E> + 'a;

/// The connected components of "is a duplicate of". Only pairs that have duplicates are kept.
#[derive(Debug, Default)]
pub struct Clusters {
    /// Union-find parents: maps every pair with duplicates to an earlier pair of its component, and
    /// the first pair of a component to itself.
    parent: HashMap<u32, u32, Spread>,
    /// The comparisons that matched a pair with another one, one bit each.
    matched_by: HashMap<u32, u8, Spread>,
    /// Number of pairs in a component, by its first pair.
    sizes: HashMap<u32, u32, Spread>,
}

/// The cluster of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Index of the first pair of the connected component.
    pub cluster: u32,
    /// Number of pairs in the component.
    pub size: u32,
    /// Comparisons that matched this pair with another one.
    pub matched_by: Vec<Match>,
}

/// Joins pairs into the connected components of "is a duplicate of". Two pairs of a component need
/// not be duplicates of each other: a chain of duplicates connects them.
///
/// The search for close hashes is exact. Values within distance d agree in at least one of d + 1
/// slices of their bits (pigeonhole principle), so only pairs that share a slice are compared.
///
/// `pairs` is the number of pairs and `memory` the bytes that keys may take at a time. If all keys
/// of a comparison need more, they are read in several passes, each of which scans the table.
///
/// # Errors
/// The errors of `scan`.
pub fn cluster<E>(pairs: u64, config: &DedupConfig, memory: u64, scan: &mut Scan<'_, E>) -> Result<Clusters, E> {
    let room = (memory / size_of::<Entry>() as u64).max(LEAST_ENTRIES);
    let passes = pairs.div_ceil(room).max(1);
    let mut clusters = Clusters::default();
    for (is_compared, by) in [(config.url, Match::Url), (config.exact, Match::Exact)] {
        for pass in (0..passes).filter(|_| is_compared) {
            let mut entries = keys_of_pass(pairs / passes, by, u64::MAX, (pass, passes), scan)?;
            entries.sort_unstable();
            for equal in entries.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                equal[1..].iter().for_each(|other| clusters.join(equal[0].2, other.2, by));
            }
        }
    }
    if let Ok(distance) = u32::try_from(config.phash_distance) {
        for (mask, pass) in slice_masks(distance).flat_map(|mask| (0..passes).map(move |pass| (mask, pass))) {
            let mut entries = keys_of_pass(pairs / passes, Match::Phash, mask, (pass, passes), scan)?;
            join_close(&mut entries, mask, distance, &mut clusters);
        }
    }
    clusters.finish();
    Ok(clusters)
}

/// Clusters pairs in memory as [`cluster`] does. Returns the cluster of each pair, in their order.
pub fn cluster_all(pairs: &[Candidate], config: &DedupConfig) -> Vec<Membership> {
    let clusters = cluster(pairs.len() as u64, config, u64::MAX, &mut |by, each| {
        for (index, pair) in (0..).zip(pairs) {
            if let Some(key) = pair.key(by, config) {
                each(index, key);
            }
        }
        Ok::<_, Infallible>(())
    });
    let Ok(clusters) = clusters;
    let alone = |index: u32| Membership { cluster: index, size: 1, matched_by: Vec::new() };
    (0..pairs.len() as u32).map(|index| clusters.of(index).unwrap_or_else(|| alone(index))).collect()
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

/// Joins the pairs whose hashes have equal bits under `mask` and differ in at most `distance` bits.
fn join_close(entries: &mut Vec<Entry>, mask: u64, distance: u32, clusters: &mut Clusters) {
    // Equal hashes are joined first, so that the search below sees each value only once, however
    // many blank images there are.
    entries.sort_unstable();
    for equal in entries.chunk_by(|a, b| a.0 == b.0) {
        equal[1..].iter().for_each(|other| clusters.join(equal[0].2, other.2, Match::Phash));
    }
    entries.dedup_by_key(|entry| entry.0);
    if distance == 0 {
        return;
    }
    entries.sort_unstable_by_key(|(hash, ..)| (hash & mask, *hash));
    for bucket in entries.chunk_by(|(a, ..), (b, ..)| a & mask == b & mask) {
        for (position, (hash, _, index)) in bucket.iter().enumerate() {
            for (other_hash, _, other) in &bucket[position + 1..] {
                if hamming(*hash, *other_hash) <= distance {
                    clusters.join(*index, *other, Match::Phash);
                }
            }
        }
    }
}

impl Clusters {
    /// Returns the cluster of a pair; `None` if it has no duplicate.
    pub fn of(&self, index: u32) -> Option<Membership> {
        let cluster = *self.parent.get(&index)?;
        let bits = self.matched_by.get(&index).copied().unwrap_or_default();
        let matched_by = Match::ALL.into_iter().filter(|by| bits & by.bit() != 0).collect();
        Some(Membership { cluster, size: self.sizes[&cluster], matched_by })
    }

    /// Returns whether a pair is the first of a component of at least two.
    pub fn is_first(&self, index: u32) -> bool {
        self.parent.get(&index) == Some(&index)
    }

    fn root(&mut self, index: u32) -> u32 {
        let mut root = *self.parent.entry(index).or_insert(index);
        while self.parent[&root] != root {
            root = self.parent[&root];
        }
        // Path compression: every pair on the way now points directly to the root.
        let mut at = index;
        while at != root {
            at = self.parent.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn join(&mut self, a: u32, b: u32, by: Match) {
        for index in [a, b] {
            *self.matched_by.entry(index).or_default() |= by.bit();
        }
        let (a, b) = (self.root(a), self.root(b));
        self.parent.insert(a.max(b), a.min(b));
    }

    /// Counts the pairs of each component, after all pairs are joined.
    fn finish(&mut self) {
        let members: Vec<u32> = self.parent.keys().copied().collect();
        for member in members {
            let root = self.root(member);
            *self.sizes.entry(root).or_default() += 1;
        }
    }
}

/// Mixes the bits of a number, so that its remainders are evenly distributed (the finaliser of
/// splitmix64, Steele et al. 2014).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
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

/// The reason why a pair is removed in favour of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// Index of the pair that is kept.
    pub of: usize,
    /// The comparison that makes this pair a duplicate of it: the same bytes, otherwise the same
    /// URL, otherwise the pHash.
    pub by: Match,
    /// Bits in which the pHash values differ; `None` unless `by` is [`Match::Phash`].
    pub phash_distance: Option<u32>,
}

/// Decides which pairs are kept. Returns for each of `chosen`, in its order, `None` if the pair is
/// kept, otherwise the pair that is kept in its place.
///
/// Pairs are visited in the order of [`Keep`]. A pair is kept unless it is a direct duplicate of a
/// pair that is kept already. So a kept pair replaces only its direct duplicates, not everything
/// that a chain of duplicates connects to it. Keeping one pair per connected component would leave
/// a single image of a chain whose neighbours differ in 4 bits.
pub fn stars(pairs: &[Candidate], chosen: &[usize], config: &DedupConfig) -> Vec<Option<Duplicate>> {
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    order.sort_unstable_by_key(|position| Reverse(rank(config.keep, pairs, chosen[*position])));
    let mut kept = KeptPairs::new(config);
    let mut decisions = vec![None; chosen.len()];
    for position in order {
        let index = chosen[position];
        decisions[position] = kept.duplicate_of(&pairs[index]);
        if decisions[position].is_none() {
            kept.insert(index, &pairs[index]);
        }
    }
    decisions
}

/// The kept pairs, indexed by URL, by bytes and by the slices of the pHash.
struct KeptPairs<'a> {
    config: &'a DedupConfig,
    /// Maximum number of bits in which the pHash values of duplicates differ; `None` if pHash
    /// values are not compared.
    distance: Option<u32>,
    by_url: HashMap<Key, usize>,
    by_bytes: HashMap<Key, usize>,
    /// For each slice, the (pHash, pair) entries by the bits of the slice.
    by_slice: Vec<HashMap<u64, Vec<(u64, usize)>>>,
}

impl<'a> KeptPairs<'a> {
    fn new(config: &'a DedupConfig) -> Self {
        let distance = u32::try_from(config.phash_distance).ok();
        let slices = distance.map_or(0, |distance| slice_masks(distance).count());
        KeptPairs {
            config,
            distance,
            by_url: HashMap::new(),
            by_bytes: HashMap::new(),
            by_slice: vec![HashMap::new(); slices],
        }
    }

    fn masks(&self) -> impl Iterator<Item = u64> + use<> {
        self.distance.map(slice_masks).into_iter().flatten()
    }

    fn duplicate_of(&self, pair: &Candidate) -> Option<Duplicate> {
        let equal = |by: Match, is_compared: bool, digest: Option<Key>, kept: &HashMap<Key, usize>| {
            let of = *kept.get(&digest.filter(|_| is_compared)?)?;
            Some(Duplicate { of, by, phash_distance: None })
        };
        equal(Match::Exact, self.config.exact, pair.bytes, &self.by_bytes)
            .or_else(|| equal(Match::Url, self.config.url, pair.url, &self.by_url))
            .or_else(|| self.nearest(pair))
    }

    /// Returns the kept pair with the nearest pHash; of several, the earliest in the source.
    fn nearest(&self, pair: &Candidate) -> Option<Duplicate> {
        let (hash, distance) = (pair.compared_phash(self.config)?, self.distance?);
        let alike = self.masks().zip(&self.by_slice).filter_map(|(mask, slice)| slice.get(&(hash & mask))).flatten();
        let near = alike.map(|(other, of)| (hamming(hash, *other), *of)).filter(|(apart, _)| *apart <= distance);
        near.min().map(|(apart, of)| Duplicate { of, by: Match::Phash, phash_distance: Some(apart) })
    }

    fn insert(&mut self, index: usize, pair: &Candidate) {
        if let Some(url) = pair.url {
            self.by_url.insert(url, index);
        }
        if let Some(bytes) = pair.bytes {
            self.by_bytes.insert(bytes, index);
        }
        if let Some(hash) = pair.compared_phash(self.config) {
            for (mask, slice) in self.masks().zip(&mut self.by_slice) {
                slice.entry(hash & mask).or_default().push((hash, index));
            }
        }
    }
}

/// Returns the masks of `distance + 1` slices of a hash. Two hashes within the distance agree in at
/// least one slice.
fn slice_masks(distance: u32) -> impl Iterator<Item = u64> {
    let slices = (distance + 1).min(u64::BITS);
    (0..slices).map(move |slice| {
        let (from, to) = (u64::BITS * slice / slices, u64::BITS * (slice + 1) / slices);
        if to - from == u64::BITS { u64::MAX } else { ((1 << (to - from)) - 1) << from }
    })
}

/// Returns the rank of a pair: of two duplicates, the one with the greater rank is kept. Indices
/// are in the order of the source.
fn rank(keep: Keep, pairs: &[Candidate], index: usize) -> ([i64; 2], Reverse<usize>) {
    let pixels = pairs[index].original_pixels;
    let characters = i64::try_from(pairs[index].caption_characters).unwrap_or(i64::MAX);
    let criteria = match keep {
        Keep::Largest => [pixels, characters],
        Keep::LongestCaption => [characters, pixels],
        Keep::First => [0, 0],
    };
    (criteria, Reverse(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(url: u32, bytes: u32, phash: u64) -> Candidate {
        let key = |number: u32| Key { high: spread(number.into()), low: number };
        Candidate {
            url: Some(key(url)),
            bytes: Some(key(bytes)),
            phash: Some(phash),
            entropy: Some(5.0),
            original_pixels: 100,
            caption_characters: 10,
        }
    }

    /// Returns the clusters of all pairs, after checking that several passes give the same ones.
    fn cluster(pairs: &[Candidate], config: &DedupConfig) -> Vec<Membership> {
        let at_once = cluster_all(pairs, config);
        let mut scans = 0;
        // Pretends that there are many pairs, because even the smallest pass has room for
        // thousands.
        let clusters = super::cluster(3 * LEAST_ENTRIES, config, 0, &mut |by, each| {
            scans += 1;
            for (index, pair) in (0..).zip(pairs) {
                pair.key(by, config).into_iter().for_each(|key| each(index, key));
            }
            Ok::<_, Infallible>(())
        });
        let Ok(clusters) = clusters;
        assert_eq!(scans % 3, 0, "every comparison takes three passes");
        for (index, member) in (0..).zip(&at_once) {
            assert_eq!(clusters.of(index), (member.size > 1).then(|| member.clone()));
        }
        at_once
    }

    fn all(pairs: &[Candidate]) -> Vec<usize> {
        (0..pairs.len()).collect()
    }

    #[test]
    fn a_chain_of_comparisons_is_one_cluster() {
        let pairs = [
            pair(1, 1, 0),
            pair(2, 1, u64::MAX),         // the same bytes as the first
            pair(2, 2, 0xffff_0000),      // the same URL as the second
            pair(3, 3, 0xffff_0001),      // a pHash one bit from the third
            pair(4, 4, 0x0f0f_0f0f_0f0f), // alone
        ];
        let clusters = cluster(&pairs, &DedupConfig::default());
        assert_eq!(clusters.iter().map(|member| member.cluster).collect::<Vec<_>>(), [0, 0, 0, 0, 4]);
        assert_eq!(clusters[0].size, 4);
        assert_eq!(clusters[1].matched_by, [Match::Url, Match::Exact]);
        assert_eq!(clusters[3].matched_by, [Match::Phash]);
        assert!(clusters[4].matched_by.is_empty());

        // Of the same pairs, the third resembles none that stays.
        let by = |of, by, phash_distance| Some(Duplicate { of, by, phash_distance });
        assert_eq!(
            stars(&pairs, &all(&pairs), &DedupConfig::default()),
            [None, by(0, Match::Exact, None), None, by(2, Match::Phash, Some(1)), None]
        );
    }

    #[test]
    fn what_is_missing_equals_nothing() {
        let missing = Candidate { url: None, bytes: None, phash: None, entropy: None, ..pair(0, 0, 0) };
        let pairs = vec![missing; 3];
        let clusters = cluster(&pairs, &DedupConfig::default());
        assert!(clusters.iter().all(|member| member.size == 1));
        assert_eq!(stars(&pairs, &all(&pairs), &DedupConfig::default()), [None; 3]);
    }

    #[test]
    fn a_row_of_pictures_each_four_bits_from_the_next_does_not_shrink_to_one() {
        // Image n has the lowest 4 n bits set: 0, 0xf, 0xff, ….
        let pairs: Vec<Candidate> = (0..16_u32).map(|n| pair(n, n, u64::MAX.unbounded_shr(64 - 4 * n))).collect();
        let config = DedupConfig::default();
        assert_eq!(cluster(&pairs, &config)[15].size, 16, "the chain is one component");
        let decisions = stars(&pairs, &all(&pairs), &config);
        assert_eq!(decisions.iter().filter(|decision| decision.is_none()).count(), 8, "{decisions:?}");
    }

    #[test]
    fn every_pair_that_goes_is_a_direct_duplicate_of_one_that_stays_and_no_two_that_stay_are_duplicates() {
        let mut next = numbers();
        let base = next();
        // Hashes around one centre, so that there are many chains; some URLs, bytes and sizes are
        // the same.
        let pairs: Vec<Candidate> = (0..400)
            .map(|_| {
                let flips = (0..next() % 9).fold(base, |hash, _| hash ^ (1 << (next() % 64)));
                let size = i64::try_from(next() % 5).unwrap();
                Candidate { original_pixels: size, ..pair((next() % 390) as u32, (next() % 390) as u32, flips) }
            })
            .collect();
        for phash_distance in [-1, 0, 1, 4, 9] {
            for keep in [Keep::Largest, Keep::LongestCaption, Keep::First] {
                let config = DedupConfig { phash_distance, keep, ..DedupConfig::default() };
                let apart = |a: usize, b: usize| hamming(pairs[a].phash.unwrap(), pairs[b].phash.unwrap());
                let is_near = |a, b| i64::from(apart(a, b)) <= i64::from(phash_distance);
                let alike = |a: usize, b: usize| {
                    pairs[a].url == pairs[b].url || pairs[a].bytes == pairs[b].bytes || is_near(a, b)
                };
                // Every third pair was rejected by a rule.
                let chosen: Vec<usize> = (0..pairs.len()).filter(|index| index % 3 != 0).collect();
                let decisions = stars(&pairs, &chosen, &config);
                let stays: Vec<usize> =
                    chosen.iter().zip(&decisions).filter(|(_, why)| why.is_none()).map(|(index, _)| *index).collect();
                for (position, a) in stays.iter().enumerate() {
                    assert!(stays[position + 1..].iter().all(|b| !alike(*a, *b)), "two duplicates of {a} stay");
                }
                for (index, why) in chosen.iter().zip(&decisions) {
                    let Some(why) = why else { continue };
                    assert!(stays.contains(&why.of), "{index} gives way to a pair that stays");
                    assert!(rank(keep, &pairs, why.of) > rank(keep, &pairs, *index));
                    match why.by {
                        Match::Exact => assert_eq!(pairs[*index].bytes, pairs[why.of].bytes),
                        Match::Url => assert_eq!(pairs[*index].url, pairs[why.of].url),
                        Match::Phash => assert_eq!(why.phash_distance, Some(apart(*index, why.of))),
                    }
                }
            }
        }
    }

    /// A small linear congruential generator.
    fn numbers() -> impl FnMut() -> u64 {
        let mut state = 1_u64;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        }
    }

    #[test]
    fn the_search_for_close_hashes_misses_none() {
        // 300 values, each followed by two relatives at known distances.
        let mut next = numbers();
        let mut pairs: Vec<Candidate> = Vec::new();
        for _ in 0..300 {
            let hash = next();
            let flip =
                |bits: u32, seed: u64| (0..bits).fold(hash, |value, bit| value ^ (1 << ((seed >> (bit * 6)) % 64)));
            for value in [hash, flip(4, next()), flip(9, next())] {
                pairs.push(pair(pairs.len() as u32, pairs.len() as u32, value));
            }
        }
        for distance in [0, 1, 4, 8] {
            let config = DedupConfig { phash_distance: distance, ..DedupConfig::default() };
            let found = cluster(&pairs, &config);
            let mut expected = Clusters::default();
            for a in 0..pairs.len() {
                for b in a + 1..pairs.len() {
                    let apart = hamming(pairs[a].phash.unwrap(), pairs[b].phash.unwrap());
                    if i64::from(apart) <= i64::from(distance) {
                        expected.join(a as u32, b as u32, Match::Phash);
                    }
                }
            }
            for (index, member) in found.iter().enumerate() {
                assert_eq!(member.cluster, expected.root(index as u32), "pair {index} at distance {distance}");
            }
            assert!(distance < 4 || found.iter().any(|member| member.size > 1), "the relatives are found");
        }
    }

    #[test]
    fn the_hash_of_a_flat_drawing_is_not_compared() {
        let mut pairs = [pair(1, 1, 0), pair(2, 2, 0), pair(3, 2, 0)];
        pairs[1].entropy = Some(1.5);
        pairs[2].entropy = None;
        let clusters = cluster(&pairs, &DedupConfig::default());
        assert_eq!(
            clusters.iter().map(|member| member.size).collect::<Vec<_>>(),
            [1, 2, 2],
            "the same bytes still match"
        );
    }

    #[test]
    fn comparisons_can_be_switched_off() {
        let pairs = [pair(1, 1, 0), pair(1, 1, 0)];
        let config =
            DedupConfig { exact: false, url: false, phash_distance: -1, phash_min_entropy: 0.0, keep: Keep::First };
        assert!(cluster(&pairs, &config).iter().all(|member| member.size == 1));
        assert_eq!(stars(&pairs, &all(&pairs), &config), [None; 2]);
    }

    #[test]
    fn the_stated_order_decides_who_is_kept() {
        let mut pairs = [pair(1, 1, 0), pair(2, 1, 0), pair(3, 1, 0)];
        pairs[1].original_pixels = 400;
        pairs[2].caption_characters = 50;
        let kept = |keep| {
            let decisions = stars(&pairs, &all(&pairs), &DedupConfig { keep, ..DedupConfig::default() });
            decisions.iter().position(Option::is_none).unwrap()
        };
        assert_eq!(kept(Keep::Largest), 1);
        assert_eq!(kept(Keep::LongestCaption), 2);
        assert_eq!(kept(Keep::First), 0);
        pairs[1].original_pixels = 100;
        let decisions = stars(&pairs, &all(&pairs), &DedupConfig::default());
        assert!(decisions[2].is_none(), "equal pixels: the longer caption");
    }
}
