use std::cmp::Reverse;
use std::collections::BTreeMap;

use lynxdata_filters::hamming;
use lynxdata_records::Error;
use lynxdata_records::temporary::Memory;

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

/// Returns the clusters of all pairs, after checking that they are the same without memory: then
/// keys, links and hashes that share a slice are on disk.
fn cluster(pairs: &[Candidate], config: &DedupConfig) -> Vec<Membership> {
    let at_once = cluster_all(pairs, config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let none = Memory::limited(0, folder.path().to_owned());
    let clusters = super::cluster(config, &none, &mut |by, each| {
        for (index, pair) in (0..).zip(pairs) {
            if let Some(key) = pair.key(by, config) {
                each(index, key)?;
            }
        }
        Ok::<_, Error>(())
    });
    let members: Vec<(u32, Membership)> = clusters.unwrap().map(Result::unwrap).collect();
    assert!(members.is_sorted_by_key(|(index, member)| (member.cluster, *index)));
    let expected = (0..).zip(&at_once).filter(|(_, member)| member.size > 1);
    assert_eq!(BTreeMap::from_iter(members), expected.map(|(index, member)| (index, *member)).collect());
    at_once
}

/// Returns the first pair of the component of each pair, found by brute force.
fn components(pairs: usize, edges: &[(usize, usize)]) -> Vec<u32> {
    let mut first: Vec<u32> = (0..pairs as u32).collect();
    let mut before = Vec::new();
    while before != first {
        before.clone_from(&first);
        for (a, b) in edges {
            let least = first[*a].min(first[*b]);
            (first[*a], first[*b]) = (least, least);
        }
    }
    first
}

#[test]
fn links_on_disk_are_joined_into_the_same_clusters() {
    let mut next = numbers();
    for round in 0..60_u64 {
        // From many small clusters to one; a third are one long chain in a random order.
        let (pairs, edges) = (2 + next() % 600, next() % 900);
        let mut order: Vec<usize> = (0..pairs as usize).collect();
        order.sort_by_key(|pair| spread(*pair as u64 ^ (round << 32)));
        let edges: Vec<(usize, usize)> = if round % 3 == 0 {
            order.windows(2).map(|two| (two[0], two[1])).collect()
        } else {
            let ends = (0..edges).map(|_| ((next() % pairs) as usize, (next() % pairs) as usize));
            ends.filter(|(a, b)| a != b).collect()
        };
        let first = components(pairs as usize, &edges);
        let mut expected: BTreeMap<u32, Membership> = BTreeMap::new();
        for (number, (a, b)) in edges.iter().enumerate() {
            for pair in [*a, *b] {
                let size = first.iter().filter(|other| **other == first[pair]).count() as u32;
                let new = Membership { cluster: first[pair], size, matched_by: Matches::default() };
                expected.entry(pair as u32).or_insert(new).matched_by.extend(Match::ALL[number % 3].into());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        for memory in [Memory::unlimited(), Memory::limited(0, folder.path().to_owned())] {
            let mut links = clusters::Links::new(&memory);
            for (number, (a, b)) in edges.iter().enumerate() {
                links.join(*a as u32, *b as u32, Match::ALL[number % 3]).unwrap();
            }
            let is_small = memory.room(1) == 0;
            assert!(!is_small || expected.len() < 70 || links.written > 0, "the links are on disk");
            let found: Vec<(u32, Membership)> = links.finish(&memory).unwrap().map(Result::unwrap).collect();
            assert!(found.is_sorted_by_key(|(pair, member)| (member.cluster, *pair)), "round {round}");
            assert_eq!(BTreeMap::from_iter(found), expected, "round {round}");
        }
    }
}

/// The kept pair in whose place a pair is removed, the comparison, and the bits that differ.
type Removed = (usize, Match, Option<u32>);

/// Returns for each of the chosen pairs why it is removed, after checking that it is the same
/// without memory: then the pairs are sorted on disk, and most of a cluster waits there.
fn stars(pairs: &[Candidate], chosen: &[usize], config: &DedupConfig) -> Vec<Option<Removed>> {
    let folder = tempfile::tempdir().unwrap();
    let decide = |memory: &Memory| {
        let mut stars = Stars::new(config, memory);
        for index in chosen {
            stars.push(Key::of_text("one"), *index as u64, &index.to_string(), &pairs[*index]).unwrap();
        }
        let duplicates: Vec<Duplicate> = stars.duplicates().unwrap().map(Result::unwrap).collect();
        assert!(duplicates.is_sorted_by_key(|duplicate| duplicate.index));
        assert!(duplicates.iter().all(|duplicate| duplicate.of.0.to_string() == *duplicate.of.1));
        duplicates
    };
    let removed = decide(&Memory::unlimited());
    assert_eq!(decide(&Memory::limited(0, folder.path().to_owned())), removed);
    let mut removed = removed.into_iter().peekable();
    let decisions: Vec<Option<Removed>> = chosen
        .iter()
        .map(|index| {
            let duplicate = removed.next_if(|duplicate| duplicate.index == *index as u64)?;
            Some((duplicate.of.0 as usize, duplicate.by, duplicate.phash_distance))
        })
        .collect();
    assert!(removed.next().is_none(), "only chosen pairs are removed");
    decisions
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
    let matched_by = |pair: usize| clusters[pair].matched_by.iter().collect::<Vec<_>>();
    assert_eq!(matched_by(1), [Match::Url, Match::Exact]);
    assert_eq!(matched_by(3), [Match::Phash]);
    assert_eq!(matched_by(4), []);

    // Of the same pairs, the third resembles none that stays.
    assert_eq!(
        stars(&pairs, &all(&pairs), &DedupConfig::default()),
        [None, Some((0, Match::Exact, None)), None, Some((2, Match::Phash, Some(1))), None]
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
            let alike =
                |a: usize, b: usize| pairs[a].url == pairs[b].url || pairs[a].bytes == pairs[b].bytes || is_near(a, b);
            // Every third pair was rejected by a rule.
            let chosen: Vec<usize> = (0..pairs.len()).filter(|index| index % 3 != 0).collect();
            let decisions = stars(&pairs, &chosen, &config);
            let stays: Vec<usize> =
                chosen.iter().zip(&decisions).filter(|(_, why)| why.is_none()).map(|(index, _)| *index).collect();
            for (position, a) in stays.iter().enumerate() {
                assert!(stays[position + 1..].iter().all(|b| !alike(*a, *b)), "two duplicates of {a} stay");
            }
            for (index, why) in chosen.iter().zip(&decisions) {
                let Some((of, by, bits)) = *why else { continue };
                assert!(stays.contains(&of), "{index} gives way to a pair that stays");
                let rank = |index: usize| (stars::rank(keep, &pairs[index]), Reverse(index));
                assert!(rank(of) > rank(*index));
                match by {
                    Match::Exact => assert_eq!(pairs[*index].bytes, pairs[of].bytes),
                    Match::Url => assert_eq!(pairs[*index].url, pairs[of].url),
                    Match::Phash => assert_eq!(bits, Some(apart(*index, of))),
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
        let flip = |bits: u32, seed: u64| (0..bits).fold(hash, |value, bit| value ^ (1 << ((seed >> (bit * 6)) % 64)));
        for value in [hash, flip(4, next()), flip(9, next())] {
            pairs.push(pair(pairs.len() as u32, pairs.len() as u32, value));
        }
    }
    for distance in [0, 1, 4, 8] {
        let config = DedupConfig { phash_distance: distance, ..DedupConfig::default() };
        let found = cluster(&pairs, &config);
        let is_close = |a: usize, b: usize| {
            let apart = hamming(pairs[a].phash.unwrap(), pairs[b].phash.unwrap());
            i64::from(apart) <= i64::from(distance)
        };
        let all = (0..pairs.len()).flat_map(|a| (a + 1..pairs.len()).map(move |b| (a, b)));
        let close: Vec<(usize, usize)> = all.filter(|(a, b)| is_close(*a, *b)).collect();
        let expected = components(pairs.len(), &close);
        for (index, member) in found.iter().enumerate() {
            assert_eq!(member.cluster, expected[index], "pair {index} at distance {distance}");
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
    assert_eq!(clusters.iter().map(|member| member.size).collect::<Vec<_>>(), [1, 2, 2], "the same bytes still match");
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

#[test]
fn pairs_in_different_clusters_are_not_compared() {
    let config = DedupConfig::default();
    let mut stars = Stars::new(&config, &Memory::unlimited());
    for (index, cluster) in [(0, "a"), (1, "b"), (2, "a")] {
        stars.push(Key::of_text(cluster), index, &index.to_string(), &pair(1, 1, 0)).unwrap();
    }
    let found: Vec<(u64, u64)> =
        stars.duplicates().unwrap().map(Result::unwrap).map(|found| (found.index, found.of.0)).collect();
    assert_eq!(found, [(2, 0)]);
}

#[test]
fn of_two_kept_pairs_that_are_equally_near_the_earlier_one_is_named_even_if_it_was_kept_later() {
    // Pair 0 has the lowest rank but one, so more pairs are kept before it than fit into memory.
    let mut pairs: Vec<Candidate> = (0..40).map(|n| pair(n, n, spread(n.into()))).collect();
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.original_pixels = 1000 + index as i64;
    }
    (pairs[0].original_pixels, pairs[0].phash) = (2, Some(0b0011));
    pairs[39].phash = Some(0b1100);
    pairs.push(Candidate { original_pixels: 1, ..pair(40, 40, 0b1111) });
    let config = DedupConfig { phash_distance: 2, ..DedupConfig::default() };
    let decisions = stars(&pairs, &all(&pairs), &config);
    assert_eq!(decisions[40], Some((0, Match::Phash, Some(2))));
    assert!(decisions[..40].iter().all(Option::is_none), "{decisions:?}");
}
