//! Duplicates: pairs with the same URL, the same bytes, or perceptual hashes close to each other.
//!
//! [`cluster`] joins them into connected components, which are what a check holds out whole. [`stars`]
//! decides which pairs stay: every pair that goes is a direct duplicate of one that stays.

use std::cmp::Reverse;
use std::collections::HashMap;

use lynxdata_filters::hamming;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which comparisons make two pairs duplicates of each other.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupConfig {
    /// Pairs whose pictures were served as the same bytes (SHA-256).
    pub exact: bool,
    /// Pairs with the same URL.
    pub url: bool,
    /// Pairs whose pHash values differ in at most this many of 64 bits; -1 switches the comparison off. At 6, recall is 1.00 for JPEG quality
    /// 30, half size and grey copies, 0.98 for a crop of 1 % and 0.01 for a crop of 10 %, measured on 300 photos. Clip art and drawings on a
    /// plain ground need less than photos.
    pub phash_distance: i32,
    /// The least entropy, bits, of a picture whose pHash is compared. The hash of a flat drawing says little: of 121 pairs of clip art within 4
    /// bits, 102 held a picture below 3 bits, nearly all of them different flags and outlines. All of 142 photographs lay above 5.5.
    pub phash_min_entropy: f64,
    /// Which of two duplicates is kept.
    pub keep: Keep,
}

impl Default for DedupConfig {
    fn default() -> Self {
        DedupConfig { exact: true, url: true, phash_distance: 4, phash_min_entropy: 3.0, keep: Keep::Largest }
    }
}

/// The order by which one of two duplicates is kept. Ties go to the next criterion, at last to the earlier row of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Most original pixels, then the longest caption.
    Largest,
    /// The longest caption, then most original pixels.
    LongestCaption,
    /// The earliest row of the source.
    First,
}

/// A digest of a URL or of picture bytes, by which equal ones are found. With 128 bits, two of a
/// billion different values are the same with a probability below 1e-20.
pub type Digest = u128;

/// What deduplication knows of a pair. What is missing is `None` and equals nothing.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Digest of its URL.
    pub url: Option<Digest>,
    /// Digest of its picture as served.
    pub bytes: Option<Digest>,
    /// Its pHash, if its picture could be measured.
    pub phash: Option<u64>,
    /// The entropy of its picture, bits, if it could be measured.
    pub entropy: Option<f64>,
    /// Pixels of its picture as served.
    pub original_pixels: i64,
    /// Characters of its caption.
    pub caption_characters: usize,
}

impl Candidate {
    /// The hash that is compared with those of other pairs; `None` for flat drawings.
    fn compared_phash(&self, config: &DedupConfig) -> Option<u64> {
        self.phash.filter(|_| self.entropy.is_some_and(|entropy| entropy >= config.phash_min_entropy))
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
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Match::Url => "url",
            Match::Exact => "exact",
            Match::Phash => "phash",
        }
    }
}

/// The cluster of one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Index of the first pair of the connected component.
    pub cluster: usize,
    /// Pairs in the component.
    pub size: usize,
    /// Comparisons that tie this pair to another.
    pub matched_by: Vec<Match>,
}

/// Joins pairs into the connected components of "is a duplicate of"; the answer is in the order of the
/// pairs. The first and the last pair of a component may be far from each other.
///
/// The search for close hashes is exact: values within distance d agree in at least one of d + 1 slices
/// of their bits (pigeonhole), so only pairs that share a slice are compared.
pub fn cluster(pairs: &[Candidate], config: &DedupConfig) -> Vec<Membership> {
    let mut components = Components::new(pairs.len());
    if config.url {
        join_equal(pairs, |pair| pair.url, Match::Url, &mut components);
    }
    if config.exact {
        join_equal(pairs, |pair| pair.bytes, Match::Exact, &mut components);
    }
    if let Ok(distance) = u32::try_from(config.phash_distance) {
        join_close(pairs, distance, config, &mut components);
    }
    let roots: Vec<usize> = (0..pairs.len()).map(|index| components.root(index)).collect();
    let mut sizes = vec![0; pairs.len()];
    for root in &roots {
        sizes[*root] += 1;
    }
    roots
        .into_iter()
        .zip(components.matched_by)
        .map(|(cluster, mut matched_by)| {
            matched_by.sort_unstable();
            Membership { cluster, size: sizes[cluster], matched_by }
        })
        .collect()
}

/// Why a pair gives way to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// Index of the pair that is kept.
    pub of: usize,
    /// The comparison that makes this pair a duplicate of it: the same bytes, else the same URL, else
    /// the hash.
    pub by: Match,
    /// Bits in which the pHash values differ, where they were compared.
    pub phash_distance: Option<u32>,
}

/// Decides which of some pairs stay: for each of `chosen`, in its order, `None` if it stays, else the
/// pair that is kept in its place.
///
/// Pairs are visited in the order of [`Keep`]. One stays unless it is a direct duplicate of a pair that
/// stays already. So a kept pair stands only for pairs that were compared with it, however long the
/// chain of resemblances is that leads away from it. In a chain of pictures each 4 bits from the next
/// one, a connected component keeps a single picture.
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

/// The pairs that stay, found by their URL, their bytes or a slice of their hash.
struct KeptPairs<'a> {
    config: &'a DedupConfig,
    /// The most bits in which two hashes of duplicates differ; `None` if hashes are not compared.
    distance: Option<u32>,
    by_url: HashMap<Digest, usize>,
    by_bytes: HashMap<Digest, usize>,
    /// For each slice of a hash: the hashes that have these bits there, with their pairs.
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
        let equal = |by: Match, is_compared: bool, digest: Option<Digest>, kept: &HashMap<Digest, usize>| {
            let of = *kept.get(&digest.filter(|_| is_compared)?)?;
            Some(Duplicate { of, by, phash_distance: None })
        };
        equal(Match::Exact, self.config.exact, pair.bytes, &self.by_bytes)
            .or_else(|| equal(Match::Url, self.config.url, pair.url, &self.by_url))
            .or_else(|| self.nearest(pair))
    }

    /// The kept pair whose hash is nearest; of several, the earliest in the source.
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

/// The bits of each of the `distance + 1` slices of a hash, of which two hashes that near share one.
fn slice_masks(distance: u32) -> impl Iterator<Item = u64> {
    let slices = (distance + 1).min(u64::BITS);
    (0..slices).map(move |slice| {
        let (from, to) = (u64::BITS * slice / slices, u64::BITS * (slice + 1) / slices);
        if to - from == u64::BITS { u64::MAX } else { ((1 << (to - from)) - 1) << from }
    })
}

/// Union-find in which the root of a component is always its smallest index.
struct Components {
    parent: Vec<usize>,
    matched_by: Vec<Vec<Match>>,
}

impl Components {
    fn new(length: usize) -> Self {
        Components { parent: (0..length).collect(), matched_by: vec![Vec::new(); length] }
    }

    fn root(&mut self, mut index: usize) -> usize {
        while self.parent[index] != index {
            self.parent[index] = self.parent[self.parent[index]];
            index = self.parent[index];
        }
        index
    }

    fn join(&mut self, a: usize, b: usize, by: Match) {
        for index in [a, b] {
            if !self.matched_by[index].contains(&by) {
                self.matched_by[index].push(by);
            }
        }
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

fn join_equal(
    pairs: &[Candidate],
    digest: impl Fn(&Candidate) -> Option<Digest>,
    by: Match,
    components: &mut Components,
) {
    let mut first_with: HashMap<Digest, usize> = HashMap::with_capacity(pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let Some(digest) = digest(pair) else { continue };
        match first_with.get(&digest) {
            Some(first) => components.join(*first, index, by),
            None => {
                first_with.insert(digest, index);
            }
        }
    }
}

fn join_close(pairs: &[Candidate], distance: u32, config: &DedupConfig, components: &mut Components) {
    // Equal hashes first, so that the search below sees each value once however many blank pictures there are.
    let hashes = pairs.iter().enumerate();
    let mut by_hash: Vec<(u64, usize)> =
        hashes.filter_map(|(index, pair)| Some((pair.compared_phash(config)?, index))).collect();
    by_hash.sort_unstable();
    let mut unique: Vec<(u64, usize)> = Vec::with_capacity(by_hash.len());
    for (hash, index) in by_hash {
        match unique.last() {
            Some((last, first)) if *last == hash => components.join(*first, index, Match::Phash),
            _ => unique.push((hash, index)),
        }
    }
    if distance == 0 {
        return;
    }
    for mask in slice_masks(distance) {
        unique.sort_unstable_by_key(|(hash, _)| (hash & mask, *hash));
        for bucket in unique.chunk_by(|(a, _), (b, _)| a & mask == b & mask) {
            for (position, (hash, index)) in bucket.iter().enumerate() {
                for (other_hash, other) in &bucket[position + 1..] {
                    if hamming(*hash, *other_hash) <= distance {
                        components.join(*index, *other, Match::Phash);
                    }
                }
            }
        }
    }
}

/// Orders pairs by which is to be kept: the greater one. Positions are those in the source as well.
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

    fn pair(url: Digest, bytes: Digest, phash: u64) -> Candidate {
        Candidate {
            url: Some(url),
            bytes: Some(bytes),
            phash: Some(phash),
            entropy: Some(5.0),
            original_pixels: 100,
            caption_characters: 10,
        }
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
        // Picture n has the lowest 4 n bits set: 0, 0xf, 0xff, ….
        let pairs: Vec<Candidate> =
            (0..16_u32).map(|n| pair(n.into(), n.into(), u64::MAX.unbounded_shr(64 - 4 * n))).collect();
        let config = DedupConfig::default();
        assert_eq!(cluster(&pairs, &config)[15].size, 16, "the chain is one component");
        let decisions = stars(&pairs, &all(&pairs), &config);
        assert_eq!(decisions.iter().filter(|decision| decision.is_none()).count(), 8, "{decisions:?}");
    }

    #[test]
    fn every_pair_that_goes_is_a_direct_duplicate_of_one_that_stays_and_no_two_that_stay_are_duplicates() {
        let mut next = numbers();
        let base = next();
        // Hashes around one centre, so that there are many chains; some URLs, bytes and sizes are the same.
        let pairs: Vec<Candidate> = (0..400)
            .map(|_| {
                let flips = (0..next() % 9).fold(base, |hash, _| hash ^ (1 << (next() % 64)));
                let size = i64::try_from(next() % 5).unwrap();
                Candidate { original_pixels: size, ..pair((next() % 390).into(), (next() % 390).into(), flips) }
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
                pairs.push(pair(pairs.len() as Digest, pairs.len() as Digest, value));
            }
        }
        for distance in [0, 1, 4, 8] {
            let config = DedupConfig { phash_distance: distance, ..DedupConfig::default() };
            let found = cluster(&pairs, &config);
            let mut expected = Components::new(pairs.len());
            for a in 0..pairs.len() {
                for b in a + 1..pairs.len() {
                    let apart = hamming(pairs[a].phash.unwrap(), pairs[b].phash.unwrap());
                    if i64::from(apart) <= i64::from(distance) {
                        expected.join(a, b, Match::Phash);
                    }
                }
            }
            for (index, member) in found.iter().enumerate() {
                assert_eq!(member.cluster, expected.root(index), "pair {index} at distance {distance}");
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
