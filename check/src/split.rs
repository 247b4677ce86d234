//! The split into training and held-out pairs, so that no held-out pair was seen in training.
//!
//! Whole clusters of images are held out. A training pair whose text equals a held-out one, nearly
//! equals it, or shares a span of words with it is left out of every arm and counted. A text that
//! many images share, such as "image" or the boilerplate of a shop, is not held out at all, since
//! leaving it out of the arms would hide it from the check.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::random::hash;
use crate::text::{NEAR_DUPLICATE, NEAR_DUPLICATE_WORDS, spans};
use crate::universe::{Pair, Turn, Universe};

/// Settings for the choice of held-out pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitConfig {
    /// Seed of all choices.
    pub seed: u64,
    /// Fraction of the clusters that is held out.
    pub fraction: f64,
    /// Maximum number of clusters that are held out.
    pub most: usize,
    /// Maximum number of pairs of an arm.
    pub most_pairs: usize,
}

/// Maximum number of other clusters that may share a held-out text. A text of more clusters is not
/// held out.
pub const SHARED_BY_MOST: usize = 3;

/// Minimum number of held-out pairs of one origin that are measured separately.
pub const FEWEST_OF_AN_ORIGIN: usize = 30;

/// A held-out pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The pair in [`Universe::pairs`].
    pub pair: u32,
    /// Its key.
    pub uid: String,
    /// Its cluster.
    pub cluster: String,
    /// The arms that have its image with its text: bit i for arm i. 0 if the pairs to measure on
    /// were given by the user.
    pub origin: u32,
    /// Whether it counts for the verdict. If no counted pair comes from some arm, pairs of that arm
    /// are measured in addition; they do not count and are reported separately.
    pub counts: bool,
}

/// The pairs of a check, split into arms and held-out pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Pairs of every arm that are trained on, in the order of their keys' hashes.
    pub arms: Vec<Vec<u32>>,
    /// Pairs that are measured on.
    pub held_out: Vec<HeldOut>,
    /// Whether the held-out pairs were given by the user, rather than taken from the arms.
    pub is_given: bool,
    /// Whether all pairs are conversations. Only their long answers are compared with each other.
    pub are_conversations: bool,
    /// Pairs that were left out.
    pub left_out: LeftOut,
}

/// Pairs that were left out so that held-out pairs and arms share nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Pairs of every arm before anything was left out.
    pub pairs_of_arms: Vec<usize>,
    /// Pairs in held-out clusters.
    pub in_held_out_clusters: Vec<usize>,
    /// Pairs whose text equals a held-out text, except for case and punctuation.
    pub same_text: Vec<usize>,
    /// Pairs whose text nearly equals a held-out text, or shares a span of words with one.
    pub similar_text: Vec<usize>,
    /// Pairs beyond the maximum of an arm.
    pub beyond_most: Vec<usize>,
    /// Candidates that are not held out because images of many other clusters share their text.
    pub shared_candidates: usize,
    /// Candidates without words.
    pub wordless_candidates: usize,
}

/// The texts of all pairs as numbers of words, with indexes that find pairs that share a text.
struct Texts {
    words: Vec<Vec<u32>>,
    /// Distinct words, rarest first.
    distinct: Vec<Vec<u32>>,
    same: HashMap<Vec<u32>, Vec<u32>>,
    /// Pairs by the hash of each span; two spans with the same hash, with a chance of 1 in 2⁶⁴,
    /// would leave out one pair too many.
    spans: HashMap<u64, Vec<u32>>,
    /// Pairs by each of the rarest words of their texts: near-duplicates share one of them (prefix
    /// filtering; Chaudhuri, Ganti and Kaushik, 2006).
    rare: HashMap<u32, Vec<u32>>,
}

/// Returns the words at the beginning of a rarest-first list, of which near-duplicates share at
/// least one.
fn prefix(distinct: &[u32]) -> &[u32] {
    let shared = (NEAR_DUPLICATE * distinct.len() as f64).ceil() as usize;
    &distinct[..distinct.len() + 1 - shared.max(1)]
}

impl Texts {
    fn new(universe: &Universe) -> Texts {
        let texts: Vec<Vec<String>> = universe.telling_words();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for word in texts.iter().flatten() {
            *counts.entry(word).or_default() += 1;
        }
        let mut order: Vec<(usize, &str)> = counts.iter().map(|(word, count)| (*count, *word)).collect();
        order.sort_unstable();
        let number: HashMap<&str, u32> = (0..).zip(&order).map(|(number, (_, word))| (*word, number)).collect();
        let words: Vec<Vec<u32>> =
            texts.iter().map(|text| text.iter().map(|word| number[word.as_str()]).collect()).collect();
        let distinct: Vec<Vec<u32>> =
            words.iter().map(|words| words.iter().copied().collect::<BTreeSet<u32>>().into_iter().collect()).collect();
        let mut same: HashMap<Vec<u32>, Vec<u32>> = HashMap::new();
        let mut rare: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut of_spans: HashMap<u64, Vec<u32>> = HashMap::new();
        for (pair, (words, distinct)) in (0_u32..).zip(words.iter().zip(&distinct)) {
            if words.is_empty() {
                continue;
            }
            same.entry(words.clone()).or_default().push(pair);
            if distinct.len() >= NEAR_DUPLICATE_WORDS {
                for word in prefix(distinct) {
                    rare.entry(*word).or_default().push(pair);
                }
            }
            for span in spans(words) {
                let pairs = of_spans.entry(hash_of(span)).or_default();
                if pairs.last() != Some(&pair) {
                    pairs.push(pair);
                }
            }
        }
        Texts { words, distinct, same, spans: of_spans, rare }
    }

    /// Returns other pairs that share the text of a pair, and whether they have all of it.
    fn sharing(&self, pair: u32) -> Vec<(u32, bool)> {
        let (words, distinct) = (&self.words[pair as usize], &self.distinct[pair as usize]);
        let mut found: BTreeMap<u32, bool> = BTreeMap::new();
        let near = (distinct.len() >= NEAR_DUPLICATE_WORDS).then(|| prefix(distinct)).into_iter().flatten();
        let near = near.flat_map(|word| self.rare.get(word).into_iter().flatten());
        found.extend(
            near.filter(|other| is_near(distinct, &self.distinct[**other as usize])).map(|other| (*other, false)),
        );
        found.extend(spans(words).flat_map(|span| &self.spans[&hash_of(span)]).map(|other| (*other, false)));
        found.extend(self.same.get(words).into_iter().flatten().map(|other| (*other, true)));
        found.remove(&pair);
        found.into_iter().collect()
    }
}

fn hash_of(span: &[u32]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for word in span {
        hasher.update(&word.to_le_bytes());
    }
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("a digest has 32 bytes"))
}

/// Returns whether two lists of distinct words, both in order, are near-duplicates.
fn is_near(one: &[u32], other: &[u32]) -> bool {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        shared += usize::from(a == b);
        i += usize::from(a <= b);
        j += usize::from(b <= a);
    }
    shared as f64 >= NEAR_DUPLICATE * (one.len() + other.len() - shared) as f64
}

/// Splits the pairs of a universe.
pub fn split(universe: &Universe, config: &SplitConfig) -> Split {
    let seed = config.seed.to_string();
    let arm_count = universe.arms.len();
    let all_arms = (1_u32 << arm_count) - 1;
    let mut clusters: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for pair in 0..universe.pairs.len() as u32 {
        clusters.entry(universe.cluster(pair)).or_default().push(pair);
    }
    let texts = Texts::new(universe);
    let mut chooser = Chooser {
        universe,
        texts,
        clusters: &clusters,
        origins: origins(universe),
        considered: HashSet::new(),
        held_out: Vec::new(),
        held_out_clusters: BTreeSet::new(),
        overlapping: BTreeMap::new(),
        left_out: LeftOut::default(),
    };
    let mut order: Vec<(u64, &str)> =
        clusters.keys().map(|cluster| (hash(["held-out", &seed, cluster]), *cluster)).collect();
    order.sort_unstable();
    let count = if universe.has_evaluation_set {
        config.most
    } else {
        ((clusters.len() as f64 * config.fraction).ceil() as usize).min(config.most)
    };
    let allowed = |pair: u32| universe.pairs[pair as usize].may_be_held_out;
    chooser.hold_out(order.iter().map(|(_, cluster)| *cluster), count, true, allowed);
    // If all held-out pairs come from some of the arms, pairs of the other arms are held out
    // additionally: those in the held-out clusters and, if these are few, some of further clusters.
    if !universe.has_evaluation_set {
        let seen = chooser.held_out.iter().fold(0, |seen, held: &HeldOut| seen | held.origin);
        for arm in (0..arm_count).filter(|arm| seen != 0 && seen >> arm & 1 == 0) {
            let own = |pair: u32| universe.pairs[pair as usize].is_in(arm);
            let clusters: Vec<&str> = order.iter().map(|(_, cluster)| *cluster).collect();
            let (held, free): (Vec<&str>, Vec<&str>) =
                clusters.into_iter().partition(|cluster| chooser.held_out_clusters.contains(cluster));
            chooser.hold_out(held.into_iter(), count, false, own);
            // Pairs that were held out for another such arm may be of this arm too.
            let found = chooser.held_out.iter().filter(|held| held.origin >> arm & 1 == 1).count();
            chooser.hold_out(free.into_iter(), (2 * FEWEST_OF_AN_ORIGIN).saturating_sub(found).min(count), false, own);
        }
    }

    let Chooser { held_out, held_out_clusters, overlapping, mut left_out, .. } = chooser;
    let zeros = || vec![0; arm_count];
    (left_out.pairs_of_arms, left_out.in_held_out_clusters) = (zeros(), zeros());
    (left_out.same_text, left_out.similar_text, left_out.beyond_most) = (zeros(), zeros(), zeros());
    let mut arms: Vec<Vec<(u64, u32)>> = vec![Vec::new(); arm_count];
    for (number, pair) in (0_u32..).zip(&universe.pairs).filter(|(_, pair)| pair.arms & all_arms != 0) {
        let in_held_out = held_out_clusters.contains(universe.cluster(number));
        for (arm, members) in arms.iter_mut().enumerate().filter(|(arm, _)| pair.is_in(*arm)) {
            left_out.pairs_of_arms[arm] += 1;
            match (in_held_out, overlapping.get(&number)) {
                (true, _) => left_out.in_held_out_clusters[arm] += 1,
                (_, Some(true)) => left_out.same_text[arm] += 1,
                (_, Some(false)) => left_out.similar_text[arm] += 1,
                _ => members.push((hash(["arm", &seed, &pair.uid]), number)),
            }
        }
    }
    let cut = |(arm, mut members): (usize, Vec<(u64, u32)>)| {
        members.sort_unstable();
        left_out.beyond_most[arm] = members.len().saturating_sub(config.most_pairs);
        members.truncate(config.most_pairs);
        members.into_iter().map(|(_, pair)| pair).collect()
    };
    let arms = arms.into_iter().enumerate().map(cut).collect();
    let are_conversations = !universe.pairs.iter().any(Pair::is_caption);
    Split { arms, held_out, is_given: universe.has_evaluation_set, are_conversations, left_out }
}

/// The cluster of the image of a pair, and its text. Pairs with equal ones are copies.
type Content<'a> = (&'a str, &'a [Turn]);

fn content(universe: &Universe, pair: u32) -> Content<'_> {
    (universe.cluster(pair), &universe.pairs[pair as usize].turns)
}

/// Returns the arms that have each image with each text, as one bit per arm. An arm that repeats a
/// pair trains on all copies, which are separate pairs of the universe; what is measured is the
/// same, whichever copy is held out. Pairs given by the user are of no arm, even if an arm has a
/// copy.
fn origins(universe: &Universe) -> HashMap<Content<'_>, u32> {
    let mut origins: HashMap<Content, u32> = HashMap::new();
    for (number, pair) in (0_u32..).zip(&universe.pairs) {
        let arms = if universe.has_evaluation_set { 0 } else { pair.arms };
        *origins.entry(content(universe, number)).or_default() |= arms;
    }
    origins
}

struct Chooser<'a> {
    universe: &'a Universe,
    texts: Texts,
    clusters: &'a BTreeMap<&'a str, Vec<u32>>,
    origins: HashMap<Content<'a>, u32>,
    /// Contents that were held out or skipped; a copy of them is neither.
    considered: HashSet<Content<'a>>,
    held_out: Vec<HeldOut>,
    held_out_clusters: BTreeSet<&'a str>,
    /// Pairs that share the text of a held-out one, and whether they have all of it.
    overlapping: BTreeMap<u32, bool>,
    left_out: LeftOut,
}

impl<'a> Chooser<'a> {
    /// Holds out clusters in the given order until there are `count` of them: one pair of each
    /// cluster for every set of arms that has one, and no copy of a held-out pair.
    fn hold_out(
        &mut self,
        order: impl Iterator<Item = &'a str>,
        count: usize,
        counts: bool,
        allowed: impl Fn(u32) -> bool,
    ) {
        let mut taken = 0;
        for cluster in order {
            if taken == count {
                return;
            }
            if counts && self.held_out_clusters.contains(cluster) {
                continue;
            }
            let mut chosen: BTreeMap<u32, (u32, Vec<(u32, bool)>)> = BTreeMap::new();
            for pair in self.clusters[cluster].iter().copied().filter(|pair| allowed(*pair)) {
                let content = content(self.universe, pair);
                let origin = self.origins[&content];
                if chosen.contains_key(&origin) || !self.considered.insert(content) {
                    continue;
                }
                if self.universe.pairs[pair as usize].answer_words().is_empty() {
                    self.left_out.wordless_candidates += 1;
                    continue;
                }
                let sharing = self.texts.sharing(pair);
                let other_clusters: BTreeSet<&str> = sharing
                    .iter()
                    .map(|(other, _)| self.universe.cluster(*other))
                    .filter(|other| *other != cluster)
                    .collect();
                if other_clusters.len() > SHARED_BY_MOST {
                    self.left_out.shared_candidates += 1;
                } else {
                    chosen.insert(origin, (pair, sharing));
                }
            }
            if chosen.is_empty() {
                continue;
            }
            taken += 1;
            self.held_out_clusters.insert(cluster);
            for (origin, (pair, sharing)) in chosen {
                for (other, same) in sharing {
                    *self.overlapping.entry(other).or_default() |= same;
                }
                let uid = self.universe.pairs[pair as usize].uid.clone();
                self.held_out.push(HeldOut { pair, uid, cluster: cluster.to_owned(), origin, counts });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Matrix;
    use crate::text::words;
    use crate::universe::Turn;

    fn universe(pairs: &[(&str, &str, u32)]) -> Universe {
        let made = pairs.iter().enumerate().map(|(number, (_, caption, arms))| Pair {
            uid: format!("{number:03}"),
            picture: number as u32,
            turns: vec![Turn::caption(*caption)],
            arms: *arms,
            may_be_held_out: true,
        });
        Universe {
            arms: vec!["a".to_owned(), "b".to_owned()],
            features: Matrix::zeros(pairs.len(), 1),
            clusters: pairs.iter().map(|(cluster, ..)| (*cluster).to_owned()).collect(),
            pairs: made.collect(),
            has_evaluation_set: false,
        }
    }

    const CONFIG: SplitConfig = SplitConfig { seed: 0, fraction: 0.3, most: 100, most_pairs: 1000 };

    fn shares(one: &str, other: &str) -> bool {
        let (one, other) = (words(one), words(other));
        let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<_>>();
        let (a, b) = (set(&one), set(&other));
        let near =
            a.len() >= 5 && b.len() >= 5 && a.intersection(&b).count() as f64 >= 0.8 * a.union(&b).count() as f64;
        one == other || near || one.windows(8).any(|span| other.windows(8).any(|also| span == also))
    }

    #[test]
    fn nothing_that_is_measured_on_is_trained_on() {
        let nouns = ["dog", "cat", "house", "tree", "boat", "car", "hat", "cup"];
        let captions: Vec<(String, String)> = (0..400)
            .map(|i| {
                let caption = match i % 4 {
                    0 => format!("a {} and a {}", nouns[i % 8], nouns[i / 8 % 8]),
                    1 => format!(
                        "picture {} of a {} beside two small red balls on {} grass today",
                        i,
                        nouns[i % 8],
                        i / 3
                    ),
                    2 => format!("A {} and a {}!", nouns[(i + 2) % 8], nouns[i / 8 % 8]),
                    _ => format!("unique caption number {i} with its own words w{i} x{i} y{}", i / 2),
                };
                (format!("c{}", i / 3), caption)
            })
            .collect();
        let pairs: Vec<(&str, &str, u32)> =
            captions.iter().enumerate().map(|(i, (c, t))| (c.as_str(), t.as_str(), 1 + (i % 3) as u32)).collect();
        let universe = universe(&pairs);
        let parted = split(&universe, &CONFIG);
        assert!(parted.held_out.len() >= 20, "{}", parted.held_out.len());
        for held in &parted.held_out {
            for pair in parted.arms.iter().flatten() {
                assert_ne!(universe.cluster(*pair), held.cluster);
                let (one, other) = (pairs[held.pair as usize].1, pairs[*pair as usize].1);
                assert!(!shares(one, other), "{one:?} and {other:?}");
            }
        }
        let told = &parted.left_out;
        for arm in 0..2 {
            let sum = told.in_held_out_clusters[arm]
                + told.same_text[arm]
                + told.similar_text[arm]
                + told.beyond_most[arm]
                + parted.arms[arm].len();
            assert_eq!(sum, told.pairs_of_arms[arm], "every pair is accounted for");
        }
        assert_eq!(parted, split(&universe, &CONFIG));
    }

    #[test]
    fn boilerplate_is_not_measured_on_and_stays_in_the_arms() {
        let captions: Vec<(String, String)> = (0..100)
            .map(|i| (format!("c{i}"), if i < 50 { "image".to_owned() } else { format!("caption {i} of its own") }))
            .collect();
        let pairs: Vec<(&str, &str, u32)> = captions.iter().map(|(c, t)| (c.as_str(), t.as_str(), 3)).collect();
        let parted = split(&universe(&pairs), &CONFIG);
        assert_eq!(parted.held_out.len(), 30);
        assert!(parted.held_out.iter().all(|held| held.pair >= 50));
        assert_eq!(parted.arms[0].iter().filter(|pair| **pair < 50).count(), 50);
        assert!(parted.left_out.shared_candidates > 0);
    }

    /// Returns a pair for every entry of `arms`; each has the image and the text of the pair
    /// `different` places before it.
    fn repeated(arms: &[u32], different: usize) -> Universe {
        let texts: Vec<(String, String)> = (0..arms.len())
            .map(|i| (format!("c{}", i % different), format!("own words w{} here", i % different)))
            .collect();
        let pairs: Vec<(&str, &str, u32)> =
            texts.iter().zip(arms).map(|((cluster, text), arms)| (cluster.as_str(), text.as_str(), *arms)).collect();
        let mut universe = universe(&pairs);
        for (number, pair) in universe.pairs.iter_mut().enumerate() {
            pair.picture = (number % different) as u32;
        }
        universe
    }

    #[test]
    fn copies_in_an_arm_are_held_out_once_and_are_of_all_arms_that_have_the_content() {
        // Both arms have the same 200 pairs, the second arm twice.
        let arms: Vec<u32> = [[3; 200], [2; 200]].concat();
        let universe = repeated(&arms, 200);
        let parted = split(&universe, &SplitConfig { fraction: 0.2, ..CONFIG });
        assert_eq!(parted.held_out.len(), 40, "not 80");
        let pictures: BTreeSet<u32> =
            parted.held_out.iter().map(|held| universe.pairs[held.pair as usize].picture).collect();
        assert_eq!(pictures.len(), 40);
        assert!(parted.held_out.iter().all(|held| held.origin == 3), "no pair is of the second arm alone");
        assert_eq!([parted.arms[0].len(), parted.arms[1].len()], [160, 320], "copies are trained on");
    }

    #[test]
    fn a_pair_of_two_arms_that_no_counted_pair_comes_from_is_held_out_once() {
        // Only pairs of the first arm may be held out; the two others have the same pairs.
        let arms: Vec<u32> = [[1; 100], [6; 100]].concat();
        let mut universe = repeated(&arms, 200);
        universe.arms.push("c".to_owned());
        for pair in &mut universe.pairs {
            pair.may_be_held_out = pair.is_in(0);
        }
        let parted = split(&universe, &CONFIG);
        let pairs: BTreeSet<u32> = parted.held_out.iter().map(|held| held.pair).collect();
        assert_eq!(pairs.len(), parted.held_out.len());
        assert_eq!(parted.held_out.iter().filter(|held| held.origin == 6).count(), 60);
    }

    #[test]
    fn given_pairs_are_of_no_arm_and_are_measured_on_once() {
        let arms: Vec<u32> = [[0; 100], [0; 100], [3; 100]].concat();
        let mut universe = repeated(&arms, 100);
        universe.has_evaluation_set = true;
        for pair in &mut universe.pairs {
            pair.may_be_held_out = pair.arms == 0;
        }
        let parted = split(&universe, &CONFIG);
        assert_eq!(parted.held_out.len(), 100);
        assert!(parted.held_out.iter().all(|held| held.origin == 0 && held.counts));
    }

    #[test]
    fn short_answers_are_no_copies_of_each_other_and_long_ones_are() {
        let captions: Vec<(String, String)> = (0..200).map(|i| (format!("c{i}"), String::new())).collect();
        let pairs: Vec<(&str, &str, u32)> = captions.iter().map(|(c, t)| (c.as_str(), t.as_str(), 3)).collect();
        let mut universe = universe(&pairs);
        for (number, pair) in universe.pairs.iter_mut().enumerate() {
            let answer = match number % 4 {
                0 | 1 => "yes".to_owned(),
                2 => format!("a long answer of picture number {} alone", number / 8),
                _ => format!("own answer w{number} x{number} y{number} z{number}"),
            };
            pair.turns = vec![Turn { question: "Is there a dog in the picture?".to_owned(), answer }];
        }
        let parted = split(&universe, &CONFIG);
        assert_eq!(parted.held_out.len(), 60);
        assert!(parted.held_out.iter().any(|held| held.pair % 4 < 2), "short answers are measured on");
        assert!(parted.left_out.same_text[0] > 0, "two pictures have one long answer");
        for held in parted.held_out.iter().filter(|held| held.pair % 4 == 2) {
            let text = &universe.pairs[held.pair as usize].turns;
            assert!(parted.arms[0].iter().all(|pair| universe.pairs[*pair as usize].turns != *text));
        }
    }

    #[test]
    fn an_arm_that_the_held_out_pairs_leave_out_has_some_beside() {
        let captions: Vec<(String, String, u32)> =
            (0..200).map(|i| (format!("c{i}"), format!("own words {i} here"), 1 + u32::from(i >= 100))).collect();
        let pairs: Vec<(&str, &str, u32)> = captions.iter().map(|(c, t, a)| (c.as_str(), t.as_str(), *a)).collect();
        let mut universe = universe(&pairs);
        for pair in &mut universe.pairs {
            pair.may_be_held_out = pair.is_in(0);
        }
        let parted = split(&universe, &CONFIG);
        assert!(parted.held_out.iter().all(|held| held.counts == (held.origin == 1)));
        assert!(parted.held_out.iter().filter(|held| held.origin == 2).count() >= 30);
    }
}
