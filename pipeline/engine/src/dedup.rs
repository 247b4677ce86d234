//! Duplicates: pairs with the same URL, the same bytes, or perceptual hashes close to each other, joined into clusters.

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
    /// Which pair of a cluster is kept.
    pub keep: Keep,
}

impl Default for DedupConfig {
    fn default() -> Self {
        DedupConfig { exact: true, url: true, phash_distance: 4, phash_min_entropy: 3.0, keep: Keep::Largest }
    }
}

/// The order by which one pair of a cluster is kept. Ties go to the next criterion, at last to the earlier row of the source.
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

/// What deduplication knows of a pair.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Key of the pair.
    pub uid: String,
    /// Its URL.
    pub url: String,
    /// SHA-256 of its picture as served; hexadecimal.
    pub sha256: String,
    /// Its pHash, if its picture could be measured.
    pub phash: Option<u64>,
    /// The entropy of its picture, bits, if it could be measured.
    pub entropy: Option<f64>,
    /// Pixels of its picture as served.
    pub original_pixels: i64,
    /// Characters of its caption.
    pub caption_characters: usize,
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

/// Joins pairs into the connected components of "is a duplicate of"; the answer is in the order of the pairs.
///
/// The search for close hashes is exact: values within distance d agree in at least one of d + 1 slices of their bits (pigeonhole), so only pairs
/// that share a slice are compared.
pub fn cluster(pairs: &[Candidate], config: &DedupConfig) -> Vec<Membership> {
    let mut components = Components::new(pairs.len());
    if config.url {
        join_equal(pairs, |pair| Some(pair.url.as_str()), Match::Url, &mut components);
    }
    if config.exact {
        join_equal(pairs, |pair| Some(pair.sha256.as_str()), Match::Exact, &mut components);
    }
    if let Ok(distance) = u32::try_from(config.phash_distance) {
        join_close(pairs, distance, config.phash_min_entropy, &mut components);
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

fn join_equal<'a>(
    pairs: &'a [Candidate],
    key: impl Fn(&'a Candidate) -> Option<&'a str>,
    by: Match,
    components: &mut Components,
) {
    let mut first_with: HashMap<&str, usize> = HashMap::with_capacity(pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let Some(key) = key(pair) else { continue };
        match first_with.get(key) {
            Some(first) => components.join(*first, index, by),
            None => {
                first_with.insert(key, index);
            }
        }
    }
}

fn join_close(pairs: &[Candidate], distance: u32, min_entropy: f64, components: &mut Components) {
    // Equal hashes first, so that the search below sees each value once however many blank pictures there are.
    let mut by_hash: Vec<(u64, usize)> = pairs
        .iter()
        .enumerate()
        .filter(|(_, pair)| pair.entropy.is_some_and(|entropy| entropy >= min_entropy))
        .filter_map(|(index, pair)| pair.phash.map(|hash| (hash, index)))
        .collect();
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
    let slices = (distance + 1).min(u64::BITS);
    for slice in 0..slices {
        let (from, to) = (u64::BITS * slice / slices, u64::BITS * (slice + 1) / slices);
        let mask = if to - from == u64::BITS { u64::MAX } else { ((1 << (to - from)) - 1) << from };
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

/// Whether pair `a` is to be kept rather than pair `b` of the same cluster; `a` and `b` are positions in the source as well.
pub fn is_preferred(keep: Keep, pairs: &[Candidate], a: usize, b: usize) -> bool {
    let rank = |index: usize| {
        let pair = &pairs[index];
        let pixels = pair.original_pixels;
        let characters = i64::try_from(pair.caption_characters).unwrap_or(i64::MAX);
        let criteria = match keep {
            Keep::Largest => [pixels, characters],
            Keep::LongestCaption => [characters, pixels],
            Keep::First => [0, 0],
        };
        (criteria, std::cmp::Reverse(index))
    };
    rank(a) > rank(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(uid: usize, url: &str, sha256: &str, phash: u64) -> Candidate {
        Candidate {
            uid: format!("{uid:032x}"),
            url: url.to_owned(),
            sha256: sha256.to_owned(),
            phash: Some(phash),
            entropy: Some(5.0),
            original_pixels: 100,
            caption_characters: 10,
        }
    }

    #[test]
    fn a_chain_of_comparisons_is_one_cluster() {
        let pairs = [
            pair(0, "a", "x", 0),
            pair(1, "b", "x", u64::MAX),         // the same bytes as 0
            pair(2, "b", "y", 0xffff_0000),      // the same URL as 1
            pair(3, "c", "z", 0xffff_0001),      // a pHash one bit from 2
            pair(4, "d", "w", 0x0f0f_0f0f_0f0f), // alone
        ];
        let clusters = cluster(&pairs, &DedupConfig::default());
        assert_eq!(clusters.iter().map(|member| member.cluster).collect::<Vec<_>>(), [0, 0, 0, 0, 4]);
        assert_eq!(clusters[0].size, 4);
        assert_eq!(clusters[1].matched_by, [Match::Url, Match::Exact]);
        assert_eq!(clusters[3].matched_by, [Match::Phash]);
        assert!(clusters[4].matched_by.is_empty());
    }

    #[test]
    fn the_search_for_close_hashes_misses_none() {
        // A small linear congruential generator makes 300 values, each followed by two relatives at known distances.
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ (state >> 29)
        };
        let mut pairs = Vec::new();
        for number in 0..300 {
            let hash = next();
            let flip =
                |bits: u32, seed: u64| (0..bits).fold(hash, |value, bit| value ^ (1 << ((seed >> (bit * 6)) % 64)));
            for value in [hash, flip(4, next()), flip(9, next())] {
                pairs.push(pair(pairs.len(), &format!("{number}-{}", pairs.len()), &format!("{}", pairs.len()), value));
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
        let mut pairs = [pair(0, "a", "x", 0), pair(1, "b", "y", 0), pair(2, "c", "y", 0)];
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
        let pairs = [pair(0, "a", "x", 0), pair(1, "a", "x", 0)];
        let config =
            DedupConfig { exact: false, url: false, phash_distance: -1, phash_min_entropy: 0.0, keep: Keep::First };
        assert!(cluster(&pairs, &config).iter().all(|member| member.size == 1));
    }

    #[test]
    fn the_stated_order_decides_who_is_kept() {
        let mut pairs = [pair(0, "a", "x", 0), pair(1, "b", "x", 0), pair(2, "c", "x", 0)];
        pairs[1].original_pixels = 400;
        pairs[2].caption_characters = 50;
        assert!(is_preferred(Keep::Largest, &pairs, 1, 0));
        assert!(is_preferred(Keep::Largest, &pairs, 2, 0), "equal pixels: the longer caption");
        assert!(is_preferred(Keep::LongestCaption, &pairs, 2, 1));
        assert!(is_preferred(Keep::First, &pairs, 0, 1) && !is_preferred(Keep::First, &pairs, 1, 0));
    }
}
