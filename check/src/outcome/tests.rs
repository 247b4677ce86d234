//! Verdicts on made-up measurements.

use super::*;
use crate::fit::Training;
use crate::gear::{Losses, Seen};
use crate::metrics::{HELD_OUT_LOSS, MetricGate};

const REPLICATES: usize = 12;
const HELD_OUT: usize = 200;

fn protocol() -> Protocol {
    Protocol {
        gear: Gear::Lynx,
        metric: &VISUAL_GAIN,
        seed: 1,
        replicates: REPLICATES,
        looks: vec![REPLICATES],
        alpha: 0.05,
        margin_percent: 10.0,
        fewest_pairs: FEWEST_PAIRS,
        fewest_held_out: FEWEST_HELD_OUT,
    }
}

/// Arms of 400 pairs each, and held-out pairs, the first half of which comes from the first arm
/// only and the rest from the second.
fn split_of(arms: usize) -> Split {
    let held_out = (0..HELD_OUT as u32).map(|item| HeldOut {
        pair: 10_000 + item,
        uid: format!("held {item}"),
        cluster: format!("held {item}"),
        origin: if item < HELD_OUT as u32 / 2 { 1 } else { 2 },
        counts: true,
    });
    let zeros = vec![0; arms];
    Split {
        arms: (0..arms as u32).map(|arm| (arm * 1000..arm * 1000 + 400).collect()).collect(),
        held_out: held_out.collect(),
        is_given: false,
        are_conversations: false,
        left_out: LeftOut {
            pairs_of_arms: vec![400; arms],
            in_held_out_clusters: zeros.clone(),
            same_text: zeros.clone(),
            similar_text: zeros.clone(),
            beyond_most: zeros,
            ..LeftOut::default()
        },
    }
}

/// Returns a pseudo-random number from -1 to 1.
fn noise(key: &[usize]) -> f64 {
    let texts: Vec<String> = key.iter().map(ToString::to_string).collect();
    crate::random::open_interval(crate::random::hash(texts.iter().map(String::as_str))) * 2.0 - 1.0
}

/// The result of a fit: the gain of a held-out pair by its number.
type Gain<'a> = &'a dyn Fn(Fit, usize) -> f64;

fn result(split: &Split, fit: Fit, gain: Gain) -> FitResult {
    let measured = (0..split.held_out.len()).map(|item| {
        let gain = gain(fit, item);
        let values = measures(METRICS).zip([30.0 * gain, 30.0 * (2.5 - 0.1 * gain), 30.0 * 3.0]);
        Measured { values: values.collect(), size: 30.0 }
    });
    let training = Training {
        seeds: vec![fit.replicate as u64],
        learning_rate: if fit.setting == 0 { 1e-3 } else { 2.5e-4 },
        steps: 100,
        loss_tokens: 10_000,
        epochs: 2.0,
        weights: 1000,
        losses: vec![(100, 3.0)],
        uniform_bits_per_byte: 4.0,
    };
    FitResult::new(fit, split, 1, METRICS, measured.collect(), &[], Some(training))
}

/// The gain of an arm in a replicate: a level for each version, and noise of the replicate.
fn level(fit: Fit, arms: &[f64]) -> f64 {
    let (arm, fall) = match fit.version {
        Version::Arm { arm } => (arm, 0.0),
        Version::WrongTexts { arm, percent } => (arm, 0.004 * f64::from(percent)),
        Version::Half { arm, .. } => (arm, 0.02),
    };
    arms[arm] - fall
        + 0.004
            * noise(&[fit.replicate, arm, fit.setting, usize::from(fit.version == Version::Half { arm, second: true })])
}

fn judged(protocol: &Protocol, split: &Split, gain: Gain) -> CheckOutcome {
    judged_by(protocol, METRICS, split, &|fit| result(split, fit, gain)).0
}

/// Returns the outcome and the fits that it comes from.
fn judged_by(
    protocol: &Protocol,
    metrics: &[&'static Metric],
    split: &Split,
    made: &dyn Fn(Fit) -> FitResult,
) -> (CheckOutcome, Vec<FitResult>) {
    let arms = split.arms.len();
    let names: Vec<String> = ["clean", "noisy", "third"].iter().take(arms).map(|name| (*name).to_owned()).collect();
    let different: Vec<usize> = split.arms.iter().map(Vec::len).collect();
    let fitted = arms_to_fit(protocol, split, &different);
    let mut results: Vec<FitResult> = arm_fits(&fitted, protocol.replicates).into_iter().map(made).collect();
    let more = follow_up_fits(protocol, &results);
    results.extend(more.into_iter().map(made));
    (judge(protocol, metrics, &names, split, &different, &results), results)
}

fn verdict(gain: Gain) -> Verdict {
    judged(&protocol(), &split_of(2), gain).first().verdict.clone()
}

fn failed(outcome: &CheckOutcome) -> String {
    match &outcome.first().verdict {
        Verdict::Invalid { gate, reason } => format!("{gate}: {reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clear_difference_names_the_better_arm_on_either_side() {
    let outcome = judged(&protocol(), &split_of(2), &|fit, _| level(fit, &[0.30, 0.25]));
    let first = outcome.first();
    assert_eq!(first.verdict, Verdict::A { arm: "clean".to_owned() }, "{}", first.sentence);
    for part in [
        "clean is better: its texts fit",
        "400 pairs of clean",
        "12 replicates",
        "% wrong texts cause",
        "200 held-out pairs",
    ] {
        assert!(first.sentence.contains(part), "{part}: {}", first.sentence);
    }
    // 0.004 of gain a percent of wrong texts.
    let noise = first.caption_noise_equivalent.unwrap();
    assert!((noise.percent - 12.5).abs() < 1.0 && !noise.or_more, "{noise:?}");
    assert_eq!(verdict(&|fit, _| level(fit, &[0.25, 0.30])), Verdict::B { arm: "noisy".to_owned() });
}

#[test]
fn arms_that_differ_by_less_than_the_margin_are_equivalent_and_noisy_ones_inconclusive() {
    assert_eq!(verdict(&|fit, _| level(fit, &[0.30, 0.299])), Verdict::Equivalent);
    let wide = |fit: Fit, _: usize| match fit.version {
        Version::Arm { arm: 1 } => 0.29 + 0.1 * noise(&[fit.replicate, 77]),
        _ => level(fit, &[0.30, 0.29]),
    };
    match verdict(&wide) {
        Verdict::Inconclusive { reason } => assert!(reason.contains("times as many pairs"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_learning_rate_that_says_the_opposite_takes_the_verdict_back() {
    let turned = |fit: Fit, _: usize| level(fit, if fit.setting == 0 { &[0.30, 0.25] } else { &[0.25, 0.30] });
    assert_eq!(verdict(&turned), Verdict::LearningRateDependent);
}

#[test]
fn a_winner_on_some_pairs_and_a_loser_on_others_is_no_winner() {
    let by_origin = |fit: Fit, item: usize| {
        let own = matches!(fit.version, Version::Arm { arm } if (item < HELD_OUT / 2) == (arm == 0));
        level(fit, &[0.30, 0.25]) + if own { 0.1 } else { 0.0 }
    };
    let outcome = judged(&protocol(), &split_of(2), &by_origin);
    match &outcome.first().verdict {
        Verdict::Inconclusive { reason } => {
            assert!(reason.contains("depends on the pairs") && reason.contains("noisy alone"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome.first().origins.len(), 2);
}

#[test]
fn groups_that_contradict_each_other_are_not_equivalent() {
    let cancelling = |fit: Fit, item: usize| {
        let own = matches!(fit.version, Version::Arm { arm } if (item < HELD_OUT / 2) == (arm == 0));
        level(fit, &[0.30, 0.30]) + if own { 0.1 } else { 0.0 }
    };
    match verdict(&cancelling) {
        Verdict::Inconclusive { reason } => assert!(reason.contains("it depends on the pairs"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_larger_arm_that_wins_may_have_won_by_quantity() {
    let mut small = split_of(2);
    small.arms[1].truncate(150);
    let sentence = |first: f64, second: f64| {
        judged(&protocol(), &small, &|fit, _| level(fit, &[first, second])).first().sentence.clone()
    };
    assert!(
        sentence(0.30, 0.25).contains("2.7 times as many different pairs as noisy: this may be quantity"),
        "{}",
        sentence(0.30, 0.25)
    );
    assert!(sentence(0.25, 0.30).contains("noisy is better: its texts fit"), "{}", sentence(0.25, 0.30));
}

#[test]
fn gates_name_what_is_missing() {
    let usual: Gain = &|fit, _| level(fit, &[0.30, 0.25]);
    let mut few = split_of(2);
    few.arms[1].truncate(13);
    assert!(failed(&judged(&protocol(), &few, usual)).contains("noisy has 13 pairs"));
    few.arms[1].clear();
    few.left_out.pairs_of_arms[1] = 0;
    assert!(failed(&judged(&protocol(), &few, usual)).contains("arm noisy is empty"));
    let mut same = split_of(2);
    same.arms[1] = same.arms[0].clone();
    assert!(failed(&judged(&protocol(), &same, usual)).starts_with("different arms"));
    assert!(arms_to_fit(&protocol(), &same, &[400, 400]).is_empty(), "nothing is learned for no answer");
    let mut overlapping = split_of(2);
    overlapping.left_out.same_text[1] = 300;
    assert!(failed(&judged(&protocol(), &overlapping, usual)).starts_with("no overlap"));
    let mut unmeasured = split_of(2);
    unmeasured.held_out.truncate(10);
    assert!(failed(&judged(&protocol(), &unmeasured, usual)).starts_with("enough held-out pairs"));

    let blind: Gain = &|fit, item| 0.01 * noise(&[fit.replicate, item, 5]);
    assert!(failed(&judged(&protocol(), &split_of(2), blind)).starts_with("looks at pictures"));
    let broken: Gain = &|fit, _| if fit.replicate == 3 { f64::NAN } else { level(fit, &[0.30, 0.25]) };
    assert!(failed(&judged(&protocol(), &split_of(2), broken)).starts_with("training worked"));
    // Bits are 2.5 less a tenth of the gain, token frequencies lose 3.
    let unlearnt: Gain = &|fit, _| level(fit, &[0.30, 0.25]) - 6.0;
    assert!(failed(&judged(&protocol(), &split_of(2), unlearnt)).starts_with("better than token frequencies"));
    let insensitive: Gain = &|fit, _| match fit.version {
        Version::Arm { .. } => 0.30 + 0.05 * noise(&[fit.replicate, 9]),
        _ => 0.30,
    };
    assert!(failed(&judged(&protocol(), &split_of(2), insensitive)).starts_with("wrong texts are found"));
    let halves_differ: Gain = &|fit, _| match fit.version {
        Version::Half { second: true, .. } => 0.1 + 0.001 * noise(&[fit.replicate, 4]),
        _ => level(fit, &[0.30, 0.25]),
    };
    assert!(failed(&judged(&protocol(), &split_of(2), halves_differ)).starts_with("halves do not differ"));
}

#[test]
fn three_arms_are_compared_pair_by_pair_with_a_correction() {
    let outcome = judged(&protocol(), &split_of(3), &|fit, _| level(fit, &[0.30, 0.25, 0.299]));
    assert_eq!(outcome.comparisons.len(), 3);
    assert_eq!(outcome.comparisons[0].verdict.winner(), Some("clean"));
    assert_eq!(outcome.comparisons[1].verdict, Verdict::Equivalent);
    let [first, .., last] = outcome.comparisons.as_slice() else { unreachable!("there are three") };
    for comparison in [first, last] {
        assert!(comparison.adjusted_p.unwrap() >= comparison.difference.as_ref().unwrap().p.unwrap());
    }
}

/// The gain of three equal arms, except that the second has more noise and is worse by `worse`.
fn with_a_noisy_arm(fit: Fit, worse: f64) -> f64 {
    let own = if fit.version == (Version::Arm { arm: 1 }) { 0.05 * noise(&[fit.replicate, 78]) - worse } else { 0.0 };
    level(fit, &[0.30, 0.30, 0.30]) + own
}

#[test]
fn interval_p_and_pairs_needed_of_several_comparisons_are_at_one_level() {
    let mut lost = 0;
    for worse in (0..20).map(|step| 0.01 * f64::from(step)) {
        let outcome = judged(&protocol(), &split_of(3), &|fit, _| with_a_noisy_arm(fit, worse));
        for comparison in &outcome.comparisons {
            let difference = comparison.difference.as_ref().unwrap();
            let [low, high] = difference.interval.unwrap();
            let (raw, adjusted) = (difference.p.unwrap(), comparison.adjusted_p.unwrap());
            let sentence = &comparison.sentence;
            assert_eq!(adjusted < 0.05, low > 0.0 || high < 0.0, "{sentence}");
            assert_eq!(comparison.adjusted_for, 3);
            assert!(
                sentence.contains(" (both adjusted for 3 comparisons by Holm's method), 12 replicates"),
                "{sentence}"
            );
            let confidence = format!(", {:.1} % interval {low:+.4} to {high:+.4}, p", 100.0 - 100.0 * difference.alpha);
            assert!(sentence.contains(&confidence), "{sentence}");
            if let (true, Verdict::Inconclusive { reason }) = (raw < 0.05, &comparison.verdict) {
                lost += 1;
                let unadjusted = difference.at(0.05).pairs_needed().unwrap();
                let factor = difference.pairs_needed().unwrap();
                assert!(factor > 1.1 * unadjusted && reason.contains(&words::times(factor)), "{unadjusted} {reason}");
                assert!(difference.alpha > 0.0166 && difference.alpha < 0.05, "{}", difference.alpha);
            }
        }
        assert!(
            outcome.notes.iter().any(|note| note.contains("the 3 comparisons are adjusted")),
            "{:?}",
            outcome.notes
        );
    }
    assert!(lost > 0, "no comparison of the list is significant only without the adjustment");
    let two = judged(&protocol(), &split_of(2), &|fit, _| level(fit, &[0.30, 0.25]));
    let first = two.first();
    assert!(first.sentence.contains(", 95 % interval") && first.adjusted_for == 1, "{}", first.sentence);
    assert!(!first.sentence.contains("adjusted") && two.notes.iter().all(|note| !note.contains("adjusted")));
}

#[test]
fn several_equivalences_are_tested_at_a_divided_level() {
    // The margin is 0.04. At 0.05 the two one-sided tests allow 1.80 standard errors, at a third
    // of it 2.45.
    let noisy = |fit: Fit, _: usize| match fit.version {
        Version::Arm { arm: 1 } => 0.29 + 0.02 * noise(&[fit.replicate, 80]),
        _ => level(fit, &[0.30, 0.29, 0.10]),
    };
    let [two, three] = [2, 3].map(|arms| judged(&protocol(), &split_of(arms), &noisy));
    let (margin, difference) = (two.first().margin.unwrap(), two.first().difference.as_ref().unwrap());
    assert!(difference.is_equivalent(margin) && !difference.at(0.05 / 3.0).is_equivalent(margin), "{difference:?}");
    assert_eq!(two.first().verdict, Verdict::Equivalent);
    assert!(matches!(three.first().verdict, Verdict::Inconclusive { .. }), "{}", three.first().sentence);
}

/// Held-out pairs of the first arm alone, of the second alone, and of both.
fn held_out_of([first, second, both]: [usize; 3]) -> Split {
    let mut split = split_of(2);
    split.held_out.truncate(first + second + both);
    let origins = [vec![1; first], vec![2; second], vec![3; both]].concat();
    for (held, origin) in split.held_out.iter_mut().zip(origins) {
        held.origin = origin;
    }
    split
}

#[test]
fn a_verdict_on_pairs_of_mostly_one_arm_says_so() {
    let remark = |origins: [usize; 3], gains: [f64; 2]| {
        let outcome = judged(&protocol(), &held_out_of(origins), &|fit, _| level(fit, &gains));
        let sentence = outcome.first().sentence.clone();
        let (_, remark) = sentence.split_once("The verdict may depend on the choice of these pairs: ")?;
        Some(remark.split_once(". ").unwrap().0.to_owned())
    };
    let [first_better, second_better, equal] = [[0.30, 0.25], [0.25, 0.30], [0.30, 0.299]];
    let small = "87 of 113 are of clean alone, and the 26 of noisy alone are too few to be measured separately";
    for (origins, gains, expected) in [
        ([87, 26, 0], first_better, Some(small)),
        ([87, 26, 0], equal, Some(small)),
        // The pairs of the better arm are the few.
        ([87, 26, 0], second_better, None),
        // Nearly as many of both, or nearly all of both arms.
        ([38, 28, 0], first_better, None),
        ([25, 5, 130], first_better, None),
        // The pairs of the other arm are measured and agree.
        ([120, 40, 0], first_better, None),
        ([120, 0, 40], first_better, None),
        (
            [150, 0, 16],
            first_better,
            Some("150 of 166 are of clean alone, and the 16 of both arms are too few to be measured separately"),
        ),
        ([150, 0, 0], first_better, Some("150 of 150 are of clean alone, and none is of noisy")),
    ] {
        assert_eq!(remark(origins, gains).as_deref(), expected, "{origins:?} {gains:?}");
    }

    let unsure = |fit: Fit, item: usize| match fit.version {
        Version::Arm { arm: 1 } if item >= 100 => 0.305 + 0.05 * noise(&[fit.replicate, 88]),
        _ => level(fit, &[0.30, 0.25]),
    };
    let outcome = judged(&protocol(), &held_out_of([100, 35, 0]), &unsure);
    assert_eq!(outcome.first().verdict.winner(), Some("clean"), "{}", outcome.first().sentence);
    let expected = "and on the 35 of noisy alone the difference has the opposite sign, but is not significant.";
    assert!(outcome.first().sentence.contains(expected), "{}", outcome.first().sentence);
}

#[test]
fn only_a_group_below_the_limit_is_called_too_few() {
    let usual: Gain = &|fit, _| level(fit, &[0.30, 0.25]);
    let too_few = |outcome: &CheckOutcome| -> Vec<String> {
        outcome.notes.iter().filter(|note| note.contains("too few")).cloned().collect()
    };
    let split = held_out_of([150, 0, 16]);
    let expected = "the 16 held-out pairs of both arms are too few to be measured separately";
    assert_eq!(too_few(&judged(&protocol(), &split, usual)), [expected]);
    let mut not_fitted = split;
    not_fitted.arms[1].truncate(74);
    let outcome = judged(&protocol(), &not_fitted, usual);
    assert!(failed(&outcome).starts_with("enough pairs") && too_few(&outcome).is_empty(), "{:?}", outcome.notes);
    let once = Protocol { replicates: 1, looks: vec![1], ..protocol() };
    let outcome = judged(&once, &split_of(2), usual);
    assert!(outcome.first().origins.iter().all(|origin| origin.difference.is_some()));
    assert!(too_few(&outcome).is_empty(), "{:?}", outcome.notes);
}

#[test]
fn an_arm_that_is_too_small_leaves_the_others_to_be_compared() {
    let mut small = split_of(3);
    small.arms[2].truncate(20);
    let outcome = judged(&protocol(), &small, &|fit, _| level(fit, &[0.30, 0.25, 0.30]));
    assert_eq!(outcome.comparisons[0].verdict.winner(), Some("clean"), "{}", outcome.comparisons[0].sentence);
    for comparison in &outcome.comparisons[1..] {
        assert!(comparison.sentence.contains("third has 20 pairs"), "{}", comparison.sentence);
    }
}

#[test]
fn comparisons_of_equal_arms_are_not_adjusted_for() {
    let mut equal = split_of(3);
    equal.arms[2] = equal.arms[0].clone();
    let outcome = judged(&protocol(), &equal, &|fit, _| level(fit, &[0.30, 0.25, 0.30]));
    let [first, same, last] = outcome.comparisons.as_slice() else { unreachable!("there are three") };
    assert_eq!((first.adjusted_for, last.adjusted_for, same.adjusted_p), (2, 2, None));
}

#[test]
fn comparisons_that_were_not_measured_are_not_adjusted_for() {
    let mut small = split_of(3);
    small.arms[2].truncate(20);
    for levels in [[0.30, 0.25, 0.30], [0.30, 0.29, 0.30]] {
        let gain: Gain = &|fit, _| level(fit, &levels);
        let (outcome, two) = (judged(&protocol(), &small, gain), judged(&protocol(), &split_of(2), gain));
        let [first, not_measured @ ..] = outcome.comparisons.as_slice() else { unreachable!("there are three") };
        let alone = two.first();
        assert_eq!((&first.difference, first.adjusted_p), (&alone.difference, alone.adjusted_p));
        assert_eq!((&first.verdict, &first.sentence, first.adjusted_for), (&alone.verdict, &alone.sentence, 1));
        assert_eq!(first.adjusted_p, first.difference.as_ref().unwrap().p);
        assert!(not_measured.iter().all(|other| other.adjusted_p.is_none() && other.difference.is_none()));
        assert!(outcome.notes.iter().all(|note| !note.contains("adjusted")), "{:?}", outcome.notes);
    }
}

#[test]
fn fits_that_were_measured_on_another_split_are_refused() {
    let gain: Gain = &|fit, _| level(fit, &[0.30, 0.25]);
    let (earlier, mut split) = (split_of(2), split_of(2));
    split.held_out.remove(0);
    let names = ["clean", "noisy"].map(str::to_owned);
    let of_arms = |split: &Split| -> Vec<FitResult> {
        arm_fits(&[0, 1], REPLICATES).into_iter().map(|fit| result(split, fit, gain)).collect()
    };
    let with_controls = |mut results: Vec<FitResult>, controls_on: &Split| {
        let more = follow_up_fits(&protocol(), &results);
        results.extend(more.into_iter().map(|fit| {
            let is_arm = matches!(fit.version, Version::Arm { .. });
            result(if is_arm { &split } else { controls_on }, fit, gain)
        }));
        judge(&protocol(), METRICS, &names, &split, &[400, 400], &results)
    };
    let found = failed(&with_controls(of_arms(&earlier), &earlier));
    assert!(found.starts_with("same held-out pairs: a fit of clean was measured on 200 pairs, but 199"), "{found}");
    let found = failed(&with_controls(of_arms(&split), &earlier));
    assert!(found.starts_with("same held-out pairs: a control of clean was measured on 200 pairs"), "{found}");
    assert_eq!(with_controls(of_arms(&split), &split).first().verdict.winner(), Some("clean"));
}

#[test]
fn a_training_that_breaks_down_is_told_after_it_was_written_and_read() {
    let split = split_of(2);
    let fit = Fit { version: Version::Arm { arm: 0 }, replicate: 0, setting: 0 };
    let broken = result(&split, fit, &|_, _| f64::NAN);
    let read: FitResult = serde_json::from_str(&serde_json::to_string(&broken).unwrap()).unwrap();
    assert!(read.values.iter().all(|value| value.is_nan()));
    let gains = read.measured.iter().map(|measured| measured.values.get(&VISUAL_GAIN.measure).unwrap());
    assert!(gains.into_iter().all(|gain| gain.is_nan()));
    let outcome = judged(&protocol(), &split, &|fit, _| if fit.replicate == 3 { f64::NAN } else { 0.3 });
    let read: CheckOutcome = serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap();
    assert!(failed(&read).starts_with("training worked"));
}

#[test]
fn a_loss_is_better_where_it_is_lower() {
    let asked = Protocol { metric: &HELD_OUT_LOSS, ..protocol() };
    // The gain of the first arm is larger, and so its loss is lower.
    let outcome = judged(&asked, &split_of(2), &|fit, _| level(fit, &[0.40, 0.20]));
    assert_eq!(outcome.first().verdict.winner(), Some("clean"), "{}", outcome.first().sentence);
    assert!(outcome.first().difference.as_ref().unwrap().mean < 0.0);
}

#[test]
fn looks_are_told_and_spend_less() {
    let look = Protocol { looks: vec![REPLICATES, 2 * REPLICATES], ..protocol() };
    let outcome = judged(&look, &split_of(2), &|fit, _| level(fit, &[0.30, 0.25]));
    assert!(outcome.first().difference.as_ref().unwrap().alpha < 0.05);
    assert!(outcome.notes.iter().any(|note| note.contains("looks are planned")), "{:?}", outcome.notes);
}

#[test]
fn outcomes_survive_json() {
    let outcome = judged(&protocol(), &split_of(2), &|fit, _| level(fit, &[0.30, 0.25]));
    let json = serde_json::to_string(&outcome).unwrap();
    assert_eq!(serde_json::from_str::<CheckOutcome>(&json).unwrap().comparisons.len(), 1);
}

/// The files of users have this form: verdicts and fits, of both gears and of fits that failed.
/// The crate of the report reads the same file.
#[test]
fn fits_and_outcomes_are_written_as_before() {
    let few = Protocol { replicates: 3, looks: vec![3], fewest_pairs: 5, fewest_held_out: 2, ..protocol() };
    let mut cases: Vec<(&str, (CheckOutcome, Vec<FitResult>))> = Vec::new();
    let mut add = |name: &'static str, protocol: &Protocol, arms: usize, change: &dyn Fn(FitResult) -> FitResult| {
        let mut split = split_of(arms);
        split.held_out.retain(|held| held.uid.ends_with("50"));
        let made = |fit: Fit| {
            let gain = |fit: Fit, item: usize| level(fit, &[0.30, 0.25, 0.28]) + 0.01 * noise(&[item, fit.replicate]);
            change(result(&split, fit, &gain))
        };
        let (outcome, mut fits) = judged_by(protocol, METRICS, &split, &made);
        fits.retain(|result| arms == 2 && matches!(result.fit.version, Version::Arm { .. }) && result.fit.setting == 0);
        cases.push((name, (outcome, fits)));
    };
    add("fit", &few, 2, &|result| result);
    add("loss", &Protocol { metric: &HELD_OUT_LOSS, ..few.clone() }, 3, &|result| result);
    add("quick", &Protocol { gear: Gear::Quick, ..few.clone() }, 2, &|result| without_language(&result));
    add("too few", &Protocol { fewest_pairs: 1000, ..few.clone() }, 2, &|result| result);
    add("diverged", &few, 2, &|result| if result.fit.replicate == 1 { diverged(&result) } else { result });
    let told: serde_json::Map<String, serde_json::Value> = cases
        .iter()
        .map(|(name, (outcome, fits))| ((*name).to_owned(), serde_json::json!({"outcome": outcome, "fits": fits})))
        .collect();
    let text = serde_json::to_string_pretty(&told).unwrap() + "\n";
    let path = format!("{}/golden/outcomes.json", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("LYNXDATA_REWRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(rounded(&golden), rounded(&text), "look at {path} with LYNXDATA_REWRITE=1 and git diff");
    let read: BTreeMap<String, serde_json::Value> = serde_json::from_str(&golden).unwrap();
    for case in read.values() {
        let outcome: CheckOutcome = serde_json::from_value(case["outcome"].clone()).unwrap();
        let fits: Vec<FitResult> = serde_json::from_value(case["fits"].clone()).unwrap();
        assert_eq!(serde_json::json!({"outcome": outcome, "fits": fits}), *case);
    }
}

/// Returns a text with the numbers in it to nine digits: the last ones of logarithms differ between
/// machines.
fn rounded(text: &str) -> String {
    let pieces = text.split_inclusive([' ', ',', '\n']).map(|piece| {
        let number = piece.trim_end_matches([' ', ',', '\n']);
        let is_fraction = number.contains('.');
        let value = number.parse::<f64>().ok().filter(|_| is_fraction);
        value.map_or_else(|| piece.to_owned(), |value| format!("{value:.9e}{}", &piece[number.len()..]))
    });
    pieces.collect()
}

/// Returns a result with other measurements.
fn remeasured(result: &FitResult, change: impl Fn(usize, &Measured) -> Measured) -> FitResult {
    let measured = result.measured.iter().enumerate().map(|(item, measured)| change(item, measured)).collect();
    FitResult { measured, ..result.clone() }
}

fn without_language(result: &FitResult) -> FitResult {
    let gain = |values: &Values<Measure, f64>| (&VISUAL_GAIN.measure, *values.get(&VISUAL_GAIN.measure).unwrap());
    let values = [(&VISUAL_GAIN, *result.values.get(&VISUAL_GAIN).unwrap())].into_iter().collect();
    let result = remeasured(result, |_, measured| Measured {
        values: [gain(&measured.values)].into_iter().collect(),
        size: 1.0,
    });
    FitResult { values, training: None, ..result }
}

fn diverged(result: &FitResult) -> FitResult {
    let broken = |item: usize, measured: &Measured| {
        let values = measures(METRICS).map(|measure| {
            let is_broken = item == 0 && measure.name != "unigram_loss";
            (measure, if is_broken { f64::NAN } else { *measured.values.get(measure).unwrap() })
        });
        Measured { values: values.collect(), size: measured.size }
    };
    let values = METRICS.iter().map(|metric| (*metric, f64::NAN)).collect();
    FitResult { values, ..remeasured(result, broken) }
}

/// A made-up metric.
const SURPRISE: Metric = Metric {
    measure: Measure {
        name: "surprise",
        pair_key: "surprise_bits",
        of_pair: |seen| seen.mean_bits(|losses| losses.nats_unigram - losses.nats),
    },
    baseline: None,
    words: "surprise",
    question: "surprise",
    higher_is_better: true,
    gate: Some(MetricGate {
        name: "surprises",
        judge: |arms, _, _| Some((true, format!("{} of {}", arms[0].values.len(), arms[0].arm))),
    }),
    note: |of| Some(format!("{} surprises", of.arm)),
    finding: "it surprises more than",
    ..HELD_OUT_LOSS
};

#[test]
fn a_metric_that_is_added_to_the_list_is_in_fits_and_verdicts() {
    const ALL: &[&Metric] = &[&VISUAL_GAIN, &HELD_OUT_LOSS, &SURPRISE];
    let split = split_of(2);
    let made = |fit: Fit| {
        let nats = |item: usize| 2.0 - level(fit, &[0.30, 0.25]) + 0.01 * noise(&[item, fit.replicate]);
        let losses = |item| [Losses { nats: nats(item), nats_wrong_picture: 2.0, nats_unigram: 3.0 }];
        let measured = (0..HELD_OUT).map(|item| Measured::new(ALL, &Seen::Losses(&losses(item)), 1.0));
        FitResult::new(fit, &split, 1, ALL, measured.collect(), &[], None)
    };
    let (outcome, fits) = judged_by(&Protocol { metric: &SURPRISE, ..protocol() }, ALL, &split, &made);
    let first = outcome.first();
    assert_eq!(first.verdict.winner(), Some("clean"), "{}", first.sentence);
    for words in ["it surprises more than noisy", "surprise of clean minus noisy is +0.0"] {
        assert!(first.sentence.contains(words), "{words}: {}", first.sentence);
    }
    assert!(first.gates.iter().any(|gate| gate.name == "surprises" && gate.finding == "12 of clean"));
    assert!(outcome.notes.iter().any(|note| note == "noisy surprises"), "{:?}", outcome.notes);
    let (told, fit) = (serde_json::to_value(&outcome).unwrap(), serde_json::to_value(&fits[0]).unwrap());
    assert_eq!((&told["metric"], told["arms"][1]["surprise"].as_array().unwrap().len()), (&"surprise".into(), 12));
    assert!(fit["surprise"].is_f64() && fit["measured"][0]["surprise_bits"].is_f64(), "{fit}");
    // The others are compared beside it, and it beside the others.
    let (by_gain, _) = judged_by(&protocol(), ALL, &split, &made);
    for outcome in [&outcome, &by_gain] {
        let beside: Vec<_> = outcome.beside(outcome.first()).collect();
        let expected = ALL.iter().filter(|metric| **metric != outcome.protocol.metric);
        assert!(beside.iter().map(|(metric, _)| metric).eq(expected));
        assert!(beside.iter().all(|(_, difference)| difference.is_some()));
    }
}

#[test]
fn a_file_with_a_metric_that_is_not_in_the_list_is_refused() {
    let fit = Fit { version: Version::Arm { arm: 0 }, replicate: 0, setting: 0 };
    let mut written = serde_json::to_value(result(&split_of(2), fit, &|_, _| 0.3)).unwrap();
    written["surprise"] = 1.0.into();
    let error = serde_json::from_value::<FitResult>(written).unwrap_err().to_string();
    assert_eq!(error, "unknown field `surprise`");
}
