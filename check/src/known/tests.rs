//! Tests of the arms of every case, and of the verdicts on a few.

use std::collections::HashMap;
use std::convert::Infallible;

use super::*;
use crate::fit::{Fit, Version};
use crate::gear::Gear;
use crate::metrics::VISUAL_GAIN;
use crate::outcome::{Protocol, check};
use crate::probe::Probe;
use crate::text::words;

fn named(name: &str) -> &'static Case {
    cases().iter().find(|case| case.name == name).expect("a case of this name")
}

/// Returns drawings; each two in a row are one cluster. The features are made up, since no arm
/// depends on them.
fn plain(count: usize) -> Base {
    let pairs = drawings(count, 5).into_iter().enumerate().map(|(number, drawing)| BasePair {
        uid: format!("{number:04}"),
        pixels: drawing.pixels,
        caption: drawing.caption,
        cluster: format!("cluster {}", number / 2),
        translation: (number % 3 > 0).then_some(drawing.translation),
        one_wording: Some(drawing.one_wording),
    });
    let features = Matrix::zeros(count, FEATURES);
    let blurred = OnceLock::from(Matrix::from_rows(FEATURES, vec![1.0; count * FEATURES]));
    Base { pairs: pairs.collect(), features, blurred }
}

/// Makes all draws of the cases with the quick gear and the question whose texts fit their images
/// better.
fn run_quick(base: &Base, cases: &[Case], draws: &Draws, replicates: usize) -> Vec<Tally> {
    let quick = |universe: &Universe, parted: &Split, seed: u64| {
        let protocol = Protocol {
            gear: Gear::Quick,
            metric: &VISUAL_GAIN,
            seed,
            replicates,
            looks: vec![replicates],
            alpha: ALPHA,
            margin_percent: MARGIN_PERCENT,
            fewest_pairs: outcome::FEWEST_PAIRS,
            fewest_held_out: outcome::FEWEST_HELD_OUT,
        };
        let probe = Probe::new(universe, parted, seed);
        check::<Infallible>(&protocol, universe, parted, true, &|fit| Ok(probe.fit(fit)))
    };
    match run(base, cases, draws, &quick) {
        Ok(tallies) => tallies,
        Err(never) => match never {},
    }
}

/// Image and text of every pair of an arm.
fn content<'a>(universe: &'a Universe, arm: &[u32]) -> Vec<(u32, &'a str)> {
    let pair = |pair: &u32| &universe.pairs[*pair as usize];
    arm.iter().map(pair).map(|pair| (pair.picture, pair.turns[0].answer.as_str())).collect()
}

/// Pairs of the second arm whose text is not the one of the image in the first arm.
fn changed_texts(universe: &Universe, parted: &Split) -> usize {
    let clean: HashMap<u32, &str> = content(universe, &parted.arms[0]).into_iter().collect();
    content(universe, &parted.arms[1]).iter().filter(|(picture, text)| clean[picture] != *text).count()
}

#[test]
fn the_list_of_cases_is_sound() {
    let names: BTreeSet<&str> = cases().iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases().len());
    for case in cases() {
        assert_eq!(case.changed_first, case.expected == Expected::SecondBetter, "{}", case.name);
    }
}

#[test]
fn held_out_pairs_are_clean_and_share_nothing_with_any_arm() {
    let base = plain(700);
    for case in cases() {
        let (universe, parted) = build(case, &base, 3).expect("the base has all that is needed");
        let held_out: BTreeSet<&str> = parted.held_out.iter().map(|held| held.cluster.as_str()).collect();
        assert!(held_out.len() >= 60 && parted.held_out.iter().all(|held| held.counts), "{}", case.name);
        for held in &parted.held_out {
            let pair = &universe.pairs[held.pair as usize];
            assert_eq!(pair.turns[0].answer, base.pairs[pair.picture as usize].caption, "{}", case.name);
        }
        let texts: BTreeSet<Vec<String>> =
            parted.held_out.iter().map(|held| universe.pairs[held.pair as usize].answer_words()).collect();
        for pair in parted.arms.iter().flatten() {
            assert!(!held_out.contains(universe.cluster(*pair)), "{}", case.name);
            assert!(!texts.contains(&universe.pairs[*pair as usize].answer_words()), "{}", case.name);
        }
        let told = &parted.left_out;
        let lost = told.in_held_out_clusters.iter().chain(&told.same_text).chain(&told.similar_text);
        assert_eq!(lost.sum::<usize>(), 0, "{}: what overlaps has left both arms before", case.name);
        assert_eq!(told.pairs_of_arms, parted.arms.iter().map(Vec::len).collect::<Vec<_>>(), "{}", case.name);
    }
}

#[test]
fn a_draw_follows_its_seed() {
    let base = plain(400);
    for case in [named("halves"), named("wrong_captions_20"), named("boilerplate_30")] {
        let [one, same, other] = [1, 1, 2].map(|seed| build(case, &base, seed).unwrap());
        assert_eq!((&one.0.pairs, &one.1), (&same.0.pairs, &same.1));
        assert_ne!(one.1.held_out, other.1.held_out);
        assert_ne!(content(&one.0, &one.1.arms[1]), content(&other.0, &other.1.arms[1]));
    }
}

#[test]
fn halves_share_no_cluster_and_have_equal_sizes() {
    let (universe, parted) = build(named("halves"), &plain(400), 1).unwrap();
    let clusters =
        |arm: usize| -> BTreeSet<&str> { parted.arms[arm].iter().map(|pair| universe.cluster(*pair)).collect() };
    assert!(clusters(0).is_disjoint(&clusters(1)));
    assert!(parted.arms[0].len().abs_diff(parted.arms[1].len()) <= 2);
}

#[test]
fn exactly_the_promised_share_of_captions_is_changed() {
    let base = plain(500);
    for case in cases().iter().filter(|case| !case.changed_first) {
        let (Change::WrongCaptions { percent } | Change::OtherLanguage { percent } | Change::Boilerplate { percent }) =
            case.change
        else {
            continue;
        };
        let (universe, parted) = build(case, &base, 2).unwrap();
        let pairs = parted.arms[0].len();
        assert_eq!(parted.arms[1].len(), pairs, "{}", case.name);
        assert_eq!(changed_texts(&universe, &parted), (pairs * percent).div_ceil(100), "{}", case.name);
    }
}

#[test]
fn wrong_captions_are_those_of_other_clusters() {
    let base = plain(400);
    let (universe, parted) = build(named("wrong_captions_100"), &base, 1).unwrap();
    let owners: HashMap<&str, &str> =
        base.pairs.iter().map(|pair| (pair.caption.as_str(), pair.cluster.as_str())).collect();
    for (picture, text) in content(&universe, &parted.arms[1]) {
        assert_ne!(owners[text], universe.clusters[picture as usize]);
    }
    let sorted = |arm: usize| {
        let mut texts: Vec<&str> = content(&universe, &parted.arms[arm]).into_iter().map(|(_, text)| text).collect();
        texts.sort_unstable();
        texts
    };
    assert_eq!(sorted(0), sorted(1), "captions are exchanged, none is lost");
}

#[test]
fn repeats_add_nothing_new() {
    let base = plain(400);
    for (name, different_percent, sizes) in
        [("repeated_2", 100, 2), ("repeated_4", 100, 4), ("duplicates_50", 50, 1), ("duplicates_90", 10, 1)]
    {
        let (universe, parted) = build(named(name), &base, 1).unwrap();
        let [clean, changed] = [0, 1].map(|arm| content(&universe, &parted.arms[arm]));
        let different: BTreeSet<&(u32, &str)> = changed.iter().collect();
        assert!(different.iter().all(|pair| clean.contains(pair)), "{name}");
        assert!(different.len().abs_diff(clean.len() * different_percent / 100) <= 1, "{name}");
        assert_eq!(changed.len(), sizes * clean.len(), "{name}");
        let uids: BTreeSet<&str> = universe.pairs.iter().map(|pair| pair.uid.as_str()).collect();
        assert_eq!(uids.len(), universe.pairs.len(), "{name}");
    }
}

#[test]
fn images_encoded_again_and_texts_in_capitals_add_nothing_to_the_probe() {
    let (mut universe, mut parted) = build(named("halves"), &Base::rendered(200, 3), 1).unwrap();
    let rows = universe.features.rows() as u32;
    universe.features = Matrix::from_rows(FEATURES, universe.features.values().repeat(2));
    universe.clusters.extend(universe.clusters.clone());
    let clean = parted.arms[0].clone();
    let mut copied = clean.clone();
    for pair in &clean {
        let Pair { uid, picture, turns, .. } = &universe.pairs[*pair as usize];
        let turns = vec![Turn::caption(turns[0].answer.to_uppercase() + "!")];
        let copy =
            Pair { uid: format!("{uid} again"), picture: picture + rows, turns, arms: 2, may_be_held_out: false };
        copied.push(universe.pairs.len() as u32);
        universe.pairs.push(copy);
    }
    parted.arms[1] = copied;
    let probe = Probe::new(&universe, &parted, 1);
    let gains = |arm: usize| -> Vec<f64> {
        let fit = probe.fit(Fit { version: Version::Arm { arm }, replicate: 0, setting: 0 });
        fit.measured.iter().map(|measured| *measured.values.get(&VISUAL_GAIN.measure).unwrap()).collect()
    };
    let largest = gains(0).into_iter().map(f64::abs).fold(0.0, f64::max);
    let difference = gains(0).iter().zip(gains(1)).map(|(one, other)| (one - other).abs()).fold(0.0, f64::max);
    assert!(largest > 0.01 && difference < 1e-4 * largest, "{difference} of {largest}");
}

#[test]
fn a_changed_arm_may_stand_first() {
    let base = plain(400);
    let (universe, parted) = build(named("half_first"), &base, 1).unwrap();
    assert_eq!(universe.arms, ["changed", "clean"]);
    assert_eq!(parted.arms[0].len(), parted.arms[1].len().div_ceil(2));
    let (_, quarter) = build(named("quarter"), &base, 1).unwrap();
    assert_eq!(quarter.arms[1].len(), quarter.arms[0].len().div_ceil(4));
}

#[test]
fn blurred_pictures_are_in_the_changed_arm_alone() {
    let base = plain(300);
    let (universe, parted) = build(named("blurred"), &base, 1).unwrap();
    let is_blurred = |pair: &u32| universe.features.row(universe.pairs[*pair as usize].picture as usize)[0] > 0.5;
    assert!(!parted.arms[0].iter().any(is_blurred) && parted.arms[1].iter().all(is_blurred));
    assert!(!parted.held_out.iter().any(|held| is_blurred(&held.pair)));
    let mut pixels = vec![0; 3 * SIDE * SIDE];
    pixels[3 * (20 * SIDE + 20)] = 255;
    let grey = blur(&vec![90; 3 * SIDE * SIDE]);
    assert!(grey.iter().all(|value| *value == 90));
    // 17 pixels of a row share the 255, 15 for each; 17 of a column share each 15, less than 1.
    assert!(blur(&pixels).iter().all(|value| *value == 0));
}

#[test]
fn a_base_without_translations_has_no_case_of_languages() {
    let mut base = plain(300);
    for pair in &mut base.pairs {
        (pair.translation, pair.one_wording) = (None, None);
    }
    for name in ["other_language_30", "other_language_100", "one_wording"] {
        assert!(build(named(name), &base, 1).is_none());
    }
    let draws = Draws { seed: 1, of_halves: 1, of_others: 2 };
    let tallies = run_quick(&base, &[*named("one_wording")], &draws, 2);
    assert_eq!((tallies[0].draws, tallies[0].mean_difference_in_errors), (0, None));
}

#[test]
fn most_drawings_can_be_trained_and_measured_on() {
    let (held_out, training) = clean(&plain(2000), 1);
    assert!(held_out.len() >= 190 && training.len() >= 1200, "{} {}", held_out.len(), training.len());
    let unique: BTreeSet<Vec<String>> = drawings(2000, 1).iter().map(|drawing| words(&drawing.caption)).collect();
    assert!(unique.len() >= 1980, "{}", unique.len());
}

#[test]
fn wrong_captions_are_found_and_halves_have_no_winner() {
    let base = Base::rendered(800, 1);
    let cases = [*named("halves"), *named("wrong_captions_30")];
    let tallies = run_quick(&base, &cases, &Draws { seed: 1, of_halves: 1, of_others: 1 }, 6);
    assert_eq!((tallies[0].a, tallies[0].b), (0, 0), "{tallies:?}");
    assert_eq!((tallies[1].a, tallies[1].as_expected), (1, 1), "{tallies:?}");
    assert!(tallies[1].mean_difference_in_errors.is_some_and(|errors| errors > 2.0), "{tallies:?}");
    assert_eq!(tallies[1].deviation_in_errors, None, "one draw does not spread");
}

#[test]
fn captions_are_cut_to_half_or_followed_by_filler() {
    let base = plain(300);
    let count = |text: &str| text.split_whitespace().count();
    let (universe, parted) = build(named("shortened"), &base, 1).unwrap();
    let arms = [0, 1].map(|arm| content(&universe, &parted.arms[arm]));
    assert_eq!(arms[0].len(), arms[1].len());
    let full: HashMap<u32, &str> = arms[0].iter().copied().collect();
    for (picture, text) in &arms[1] {
        assert!(full[picture].starts_with(text) && count(text) == count(full[picture]).div_ceil(2), "{text}");
    }
    let (universe, parted) = build(named("filler"), &base, 1).unwrap();
    let full: HashMap<u32, &str> = content(&universe, &parted.arms[0]).into_iter().collect();
    for (picture, text) in content(&universe, &parted.arms[1]) {
        assert_eq!(text, format!("{} {FILLER}", full[&picture]));
    }
    let filler: BTreeSet<String> = words(FILLER).into_iter().collect();
    assert_eq!(filler.len(), 13);
    let of_the_world = drawings(500, 1).into_iter().flat_map(|drawing| words(&drawing.caption));
    assert!(of_the_world.into_iter().all(|word| !filler.contains(&word)));
}

#[test]
fn the_length_of_captions_is_no_merit_and_no_fault() {
    let base = Base::rendered(800, 1);
    let cases = [*named("filler"), *named("shortened"), *named("one_wording")];
    let tallies = run_quick(&base, &cases, &Draws { seed: 1, of_halves: 0, of_others: 1 }, 6);
    assert_eq!(tallies[0].equivalent, 1, "{tallies:?}");
    assert_eq!(tallies[1].a, 1, "{tallies:?}");
    assert_eq!(tallies[2].b, 0, "{tallies:?}");
}

#[test]
fn fewer_wrong_captions_than_the_margin_may_be_called_equivalent() {
    let base = Base::rendered(400, 1);
    let (universe, parted) = build(named("filler"), &base, 1).unwrap();
    let protocol = Protocol {
        gear: Gear::Quick,
        metric: &VISUAL_GAIN,
        seed: 1,
        replicates: 2,
        looks: vec![2],
        alpha: ALPHA,
        margin_percent: 10.0,
        fewest_pairs: crate::outcome::FEWEST_PAIRS,
        fewest_held_out: crate::outcome::FEWEST_HELD_OUT,
    };
    let probe = Probe::new(&universe, &parted, 1);
    let Ok(mut outcome) = check::<Infallible>(&protocol, &universe, &parted, false, &|fit| Ok(probe.fit(fit)));
    outcome.comparisons[0].verdict = Verdict::Equivalent;
    let as_expected =
        |name: &str, outcome: &CheckOutcome| tally(named(name), std::slice::from_ref(outcome)).as_expected;
    assert_eq!(["wrong_captions_5", "wrong_captions_10", "half"].map(|name| as_expected(name, &outcome)), [1, 0, 0]);
    outcome.protocol.margin_percent = 5.0;
    assert_eq!(as_expected("wrong_captions_5", &outcome), 0);
}
