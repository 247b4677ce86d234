//! Statistics of paired differences between few replicates.
//!
//! The unit is the replicate, never the held-out item: two runs on the *same* data with other seeds differ by more than
//! item-wise error bars allow (four of six such pairs in this project's pilot had |z| > 1.96).

use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use crate::random::{Purpose, stream};

/// Probability of calling a difference where there is none that tests and intervals keep to.
pub(super) const ALPHA: f64 = 0.05;

/// Probability of finding a difference of the size that [`PairedDifference::detectable`] and `replicates_needed` mean.
pub(super) const POWER: f64 = 0.8;

/// The fewest replicates with which the two-sided sign-flip test can reach p < 0.05: 2 / 2⁵ is 0.0625, 2 / 2⁶ is 0.031.
pub(super) const FEWEST_REPLICATES: usize = 6;

/// Up to this many replicates the sign-flip test looks at all 2ⁿ sign patterns.
const ENUMERATED: usize = 16;

/// Beyond that, at this many random patterns.
const DRAWN_PATTERNS: usize = 100_000;

/// Above this many replicates the number needed is not told; the difference is too small for a check.
const MOST_NEEDED: usize = 1000;

/// What the differences first − second of paired replicates say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedDifference {
    /// Replicates.
    pub n: usize,
    /// Mean difference, in the metric's unit.
    pub mean: f64,
    /// Standard deviation of the differences (n − 1 in the denominator); absent below two replicates.
    pub deviation: Option<f64>,
    /// 95 % confidence interval of the mean by Student's t with n − 1 degrees of freedom; absent below two replicates.
    pub confidence: Option<[f64; 2]>,
    /// Two-sided p-value of the sign-flip test: the share of sign patterns whose mean is as far from 0 as the observed one.
    /// All patterns up to n = 16, random ones beyond.
    pub sign_flip_p: f64,
    /// Replicates in which the first is smaller.
    pub first_smaller: usize,
    /// Replicates in which the second is smaller.
    pub second_smaller: usize,
    /// The smallest true difference that this many replicates with this deviation find with probability 0.8.
    pub detectable: Option<f64>,
    /// Replicates with which a true difference of the observed size would be found with probability 0.8; absent below two
    /// replicates and above a thousand.
    pub replicates_needed: Option<usize>,
}

/// Compares two lists of which the i-th entries belong to one replicate.
///
/// # Panics
///
/// If the lists differ in length.
pub fn paired_difference(first: &[f64], second: &[f64]) -> PairedDifference {
    assert_eq!(first.len(), second.len(), "paired lists have one entry per replicate");
    let differences: Vec<f64> = first.iter().zip(second).map(|(first, second)| first - second).collect();
    let n = differences.len();
    let mean = if n == 0 { 0.0 } else { differences.iter().sum::<f64>() / n as f64 };
    let deviation = (n >= 2).then(|| {
        let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
        (squares / (n - 1) as f64).sqrt()
    });
    let confidence = deviation.map(|deviation| {
        let half = student_t_quantile(1.0 - ALPHA / 2.0, (n - 1) as f64) * deviation / (n as f64).sqrt();
        [mean - half, mean + half]
    });
    PairedDifference {
        n,
        mean,
        deviation,
        confidence,
        sign_flip_p: sign_flip_p(&differences),
        first_smaller: differences.iter().filter(|difference| **difference < 0.0).count(),
        second_smaller: differences.iter().filter(|difference| **difference > 0.0).count(),
        detectable: deviation.map(|deviation| detectable_deviations(n) * deviation),
        replicates_needed: deviation.and_then(|deviation| replicates_needed(mean, deviation)),
    }
}

/// The smallest true mean that n differences of deviation 1 find with probability [`POWER`], by the usual approximation
/// (t₁₋α⸝₂ + t_power) / √n with n − 1 degrees of freedom.
fn detectable_deviations(n: usize) -> f64 {
    let freedom = (n - 1) as f64;
    (student_t_quantile(1.0 - ALPHA / 2.0, freedom) + student_t_quantile(POWER, freedom)) / (n as f64).sqrt()
}

/// The fewest replicates, from [`FEWEST_REPLICATES`] to [`MOST_NEEDED`], that find a true difference of this size.
fn replicates_needed(mean: f64, deviation: f64) -> Option<usize> {
    let finds = |n: usize| detectable_deviations(n) * deviation <= mean.abs() && mean != 0.0;
    let (mut low, mut high) = (FEWEST_REPLICATES, MOST_NEEDED);
    if !finds(high) {
        return None;
    }
    // More replicates find smaller differences, so halving the interval finds the first that suffice.
    while low < high {
        let middle = usize::midpoint(low, high);
        if finds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// Two-sided sign-flip test that the differences are symmetric around 0 (Fisher's randomisation test for pairs).
fn sign_flip_p(differences: &[f64]) -> f64 {
    let n = differences.len();
    if n == 0 {
        return 1.0;
    }
    let observed = differences.iter().sum::<f64>().abs();
    // Sums of one set in other orders differ in their last bits; they count as equal.
    let threshold = observed - 1e-12 * differences.iter().map(|difference| difference.abs()).sum::<f64>();
    let as_far = |pattern: u64| {
        let signed = (0..).zip(differences).map(|(i, d)| if pattern >> (i % 64) & 1 == 1 { -d } else { *d });
        signed.sum::<f64>().abs() >= threshold
    };
    if n <= ENUMERATED {
        let patterns = 1_u64 << n;
        return (0..patterns).filter(|pattern| as_far(*pattern)).count() as f64 / patterns as f64;
    }
    let mut draws = stream(0, Purpose::Replicates);
    let hits = (0..DRAWN_PATTERNS).filter(|_| {
        let signed = differences.iter().map(|d| if draws.next_u32() & 1 == 1 { -d } else { *d });
        signed.sum::<f64>().abs() >= threshold
    });
    // The observed pattern counts as one of the patterns, so p is never 0.
    (hits.count() + 1) as f64 / (DRAWN_PATTERNS + 1) as f64
}

/// Probability that Student's t with `freedom` degrees of freedom is at most `t` (Abramowitz and Stegun 26.7.1 by the
/// incomplete beta function).
pub fn student_t_cdf(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The t that Student's t with `freedom` degrees of freedom does not exceed with `probability`, between 0 and 1.
pub fn student_t_quantile(probability: f64, freedom: f64) -> f64 {
    if probability < 0.5 {
        return -student_t_quantile(1.0 - probability, freedom);
    }
    let (mut low, mut high) = (0.0, 1.0);
    while student_t_cdf(high, freedom) < probability {
        low = high;
        high *= 2.0;
    }
    // Halving 60 times leaves 18 digits.
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if student_t_cdf(middle, freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function at `x`, by its continued fraction (NIST DLMF 8.17.22) in Lentz's form.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x); // the fraction converges fast on this side only
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp() / a;
    let away_from_0 = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut ratio_above = 1.0;
    let mut ratio_below = away_from_0(1.0 - (a + b) * x / (a + 1.0)).recip();
    let mut fraction = ratio_below;
    for step in 1..500 {
        let step = f64::from(step);
        let even = step * (b - step) * x / ((a + 2.0 * step - 1.0) * (a + 2.0 * step));
        let odd = -(a + step) * (a + b + step) * x / ((a + 2.0 * step) * (a + 2.0 * step + 1.0));
        let before = fraction;
        for term in [even, odd] {
            ratio_below = away_from_0(1.0 + term * ratio_below).recip();
            ratio_above = away_from_0(1.0 + term / ratio_above);
            fraction *= ratio_below * ratio_above;
        }
        if (fraction / before - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// Logarithm of the gamma function of a positive number, by Stirling's series (NIST DLMF 5.11.1) after shifting the
/// argument above 10, where five terms give 14 digits.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let square = (x * x).recip();
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    let series = series.iter().rev().fold(0.0, |sum, term| sum * square + term) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::unit;

    #[test]
    fn quantiles_equal_the_published_table() {
        // t table of the NIST/SEMATECH handbook, section 1.3.6.7.2.
        let table =
            [(0.975, 1.0, 12.706), (0.975, 5.0, 2.571), (0.95, 7.0, 1.895), (0.975, 15.0, 2.131), (0.9, 30.0, 1.310)];
        for (probability, freedom, published) in table {
            let quantile = student_t_quantile(probability, freedom);
            assert!((quantile - published).abs() < 5.1e-4, "{probability} {freedom}: {quantile}");
        }
        assert!((student_t_cdf(0.0, 3.0) - 0.5).abs() < 1e-15);
        // Closed forms: freedom 1 is Cauchy's distribution, freedom 2 has an algebraic one.
        for t in [-3.0, -0.4, 0.1, 2.0_f64] {
            assert!((student_t_cdf(t, 1.0) - (0.5 + t.atan() / std::f64::consts::PI)).abs() < 1e-13);
            assert!((student_t_cdf(t, 2.0) - (0.5 + t / (2.0 * (2.0 + t * t).sqrt()))).abs() < 1e-13);
        }
    }

    #[test]
    fn a_worked_example() {
        let outcome = paired_difference(&[1.0, 2.0, 3.0, 4.0], &[0.0, 0.0, 0.0, 0.0]);
        assert_eq!((outcome.n, outcome.mean, outcome.first_smaller, outcome.second_smaller), (4, 2.5, 0, 4));
        assert!((outcome.deviation.unwrap() - (5.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        // 2.5 ± 3.1824 · 1.2910 / 2
        let [low, high] = outcome.confidence.unwrap();
        assert!((low - 0.4457).abs() < 1e-4 && (high - 4.5543).abs() < 1e-4, "{low} {high}");
        assert!((outcome.sign_flip_p - 2.0 / 16.0).abs() < 1e-12);
        assert_eq!(outcome.replicates_needed, Some(FEWEST_REPLICATES));
    }

    #[test]
    fn equal_arms_differ_by_nothing() {
        let outcome = paired_difference(&[0.3; 6], &[0.3; 6]);
        assert_eq!((outcome.mean, outcome.confidence, outcome.sign_flip_p), (0.0, Some([0.0, 0.0]), 1.0));
        assert_eq!(outcome.replicates_needed, None);
    }

    #[test]
    fn one_replicate_has_no_error_bar() {
        let outcome = paired_difference(&[1.0], &[2.0]);
        assert_eq!((outcome.deviation, outcome.confidence, outcome.detectable), (None, None, None));
        assert!((outcome.sign_flip_p - 1.0).abs() < 1e-12);
    }

    #[test]
    fn six_replicates_are_the_fewest_that_can_reach_the_level() {
        let smallest = |n: usize| paired_difference(&vec![1.0; n], &vec![0.0; n]).sign_flip_p;
        assert!(smallest(FEWEST_REPLICATES - 1) >= ALPHA && smallest(FEWEST_REPLICATES) < ALPHA);
    }

    #[test]
    fn random_patterns_agree_with_all_patterns() {
        let differences: Vec<f64> = (0..ENUMERATED).map(|i| (i as f64 * 0.7).sin() + 0.3).collect();
        let exact = sign_flip_p(&differences);
        // A 17th difference of 0 changes no sum, but is beyond enumeration.
        let drawn = sign_flip_p(&[differences, vec![0.0]].concat());
        assert!((exact - drawn).abs() < 0.01, "{exact} {drawn}");
    }

    /// Simulated checks per statement about probabilities.
    const CASES: usize = 2000;

    /// Replicates of two arms with the same mean, with noise that the pair shares and noise of each run.
    fn simulated(draws: &mut rand_chacha::ChaCha8Rng, n: usize, difference: f64) -> PairedDifference {
        let mut normal = || {
            let radius = (-2.0 * unit(draws).ln()).sqrt();
            radius * (std::f64::consts::TAU * unit(draws)).cos()
        };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let shared = normal();
            first.push(shared + normal());
            second.push(shared + normal() - difference);
        }
        paired_difference(&first, &second)
    }

    #[test]
    fn equal_arms_are_called_different_in_one_case_of_twenty_at_most() {
        let mut draws = stream(11, Purpose::Weights);
        for n in [6, 8, 10] {
            let outcomes: Vec<_> = (0..CASES).map(|_| simulated(&mut draws, n, 0.0)).collect();
            let share = |called: &dyn Fn(&PairedDifference) -> bool| {
                outcomes.iter().filter(|outcome| called(outcome)).count() as f64 / CASES as f64
            };
            // Three standard errors of a share of 0.05 in 2,000 cases are 0.0146.
            let by_sign_flip = share(&|outcome| outcome.sign_flip_p < ALPHA);
            let by_interval = share(&|outcome| {
                let [low, high] = outcome.confidence.unwrap();
                low > 0.0 || high < 0.0
            });
            assert!(by_sign_flip < ALPHA + 0.015, "{n}: {by_sign_flip}");
            assert!((by_interval - ALPHA).abs() < 0.015, "{n}: {by_interval}");
        }
    }

    #[test]
    fn intervals_cover_the_true_difference_and_the_detectable_one_is_found() {
        let mut draws = stream(12, Purpose::Weights);
        let n = 6;
        // Differences have deviation √2; this is the difference that should be found in four of five cases.
        let difference = detectable_deviations(n) * 2.0_f64.sqrt();
        let (mut covered, mut found) = (0, 0);
        for _ in 0..CASES {
            let [low, high] = simulated(&mut draws, n, difference).confidence.unwrap();
            covered += usize::from(low <= difference && difference <= high);
            found += usize::from(low > 0.0);
        }
        let (covered, found) = (covered as f64 / CASES as f64, found as f64 / CASES as f64);
        assert!((covered - 0.95).abs() < 0.015, "{covered}");
        // The formula is an approximation that errs by a few points for few replicates.
        assert!((found - POWER).abs() < 0.06, "{found}");
    }

    proptest! {
        #[test]
        fn exchanging_the_arms_mirrors_everything(pairs in prop::collection::vec((-5.0..5.0, -5.0..5.0), 2..9)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let one = paired_difference(&first, &second);
            let other = paired_difference(&second, &first);
            prop_assert!((one.mean + other.mean).abs() < 1e-12);
            prop_assert!((one.sign_flip_p - other.sign_flip_p).abs() < 1e-12);
            prop_assert_eq!((one.first_smaller, one.second_smaller), (other.second_smaller, other.first_smaller));
            let ([low, high], [other_low, other_high]) = (one.confidence.unwrap(), other.confidence.unwrap());
            prop_assert!((low + other_high).abs() < 1e-9 && (high + other_low).abs() < 1e-9);
            prop_assert!(low <= one.mean && one.mean <= high);
            prop_assert!(one.sign_flip_p >= 2.0 / 2.0_f64.powi(one.n as i32) - 1e-12 && one.sign_flip_p <= 1.0);
        }

        #[test]
        fn quantile_and_probability_are_inverse(probability in 0.001..0.999, freedom in 1.0..60.0) {
            let quantile = student_t_quantile(probability, freedom);
            prop_assert!((student_t_cdf(quantile, freedom) - probability).abs() < 1e-10);
        }
    }
}
