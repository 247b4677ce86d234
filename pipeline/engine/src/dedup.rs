//! Duplicates: pairs with the same URL, the same bytes, or perceptual hashes close to each other.
//!
//! [`cluster`] joins them into connected components. A check holds out whole components. [`Stars`]
//! decides which pairs are kept: every removed pair is a direct duplicate of a kept one.
//!
//! Both keep to a limit of memory, however many duplicates there are.

mod clusters;
mod stars;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::clusters::{Clusters, Membership, Scan, TakeKey, cluster, cluster_all};
pub use self::stars::{Duplicate, Stars};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// Returns the name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Match::Url => "url",
            Match::Exact => "exact",
            Match::Phash => "phash",
        }
    }
}

/// A set of comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Matches(u8);

impl Matches {
    /// Adds the comparisons of another set.
    pub fn extend(&mut self, other: Matches) {
        self.0 |= other.0;
    }

    /// Returns the comparisons in the order of [`Match::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Match> {
        Match::ALL.into_iter().filter(move |by| self.0 & Matches::from(*by).0 != 0)
    }
}

impl From<Match> for Matches {
    fn from(by: Match) -> Matches {
        Matches(1 << by as u8)
    }
}

/// The compared value of a pair: a 96-bit digest of its URL or of its bytes, or its pHash. Among a
/// billion different values, the probability that any two digests are equal is below 1e-11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// Returns the masks of `distance + 1` slices of a hash. Two hashes within the distance agree in at
/// least one slice.
fn slice_masks(distance: u32) -> impl Iterator<Item = u64> {
    let slices = (distance + 1).min(u64::BITS);
    (0..slices).map(move |slice| {
        let (from, to) = (u64::BITS * slice / slices, u64::BITS * (slice + 1) / slices);
        if to - from == u64::BITS { u64::MAX } else { ((1 << (to - from)) - 1) << from }
    })
}

/// Mixes the bits of a number, so that its remainders are evenly distributed (the finaliser of
/// splitmix64, Steele et al. 2014).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
