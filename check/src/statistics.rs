//! Statistics of a difference between two arms over replicates that redraw the data.
//!
//! Each replicate redraws the pairs of both arms and of the held-out set (and the seed of the
//! training, if there is one), with the same draw for both arms. The standard deviation over
//! replicates is then the standard error of the difference itself: a bootstrap's deviation is
//! **not** divided by √n. More replicates make that estimate more precise; only more data makes it
//! smaller.

use serde::{Deserialize, Serialize};

/// Probability of finding a difference of the size [`Difference::minimum_detectable_effect`].
pub const POWER: f64 = 0.8;

/// The distribution of the differences first − second over replicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Number of replicates.
    pub replicates: usize,
    /// Mean difference, in the unit of the metric.
    pub mean: f64,
    /// Standard error of the mean difference: SD · √(1 + 1/n), since the mean over n replicates has
    /// their noise in addition to that of the data. Absent below two replicates.
    pub standard_error: Option<f64>,
    /// Probability that the interval does not contain the truth.
    pub alpha: f64,
    /// Interval of confidence 1 − `alpha`, by Student's t with n − 1 degrees of freedom.
    pub interval: Option<[f64; 2]>,
    /// Two-sided p-value of "no difference".
    pub p: Option<f64>,
    /// The minimum true difference that a check like this finds four times in five.
    pub minimum_detectable_effect: Option<f64>,
}

/// Compares two arms; the i-th values of both belong to one replicate.
///
/// # Panics
///
/// If the lists differ in length.
pub fn difference(first: &[f64], second: &[f64], alpha: f64) -> Difference {
    assert_eq!(first.len(), second.len(), "paired lists have one entry per replicate");
    let values: Vec<f64> = first.iter().zip(second).map(|(first, second)| first - second).collect();
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let standard_error = (n >= 2).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (squares / (n - 1) as f64 * (1.0 + 1.0 / n as f64)).sqrt()
    });
    let p = standard_error.map(|error| two_sided(mean, error, n.saturating_sub(1) as f64));
    let at_no_level =
        Difference { replicates: n, mean, standard_error, alpha, interval: None, p, minimum_detectable_effect: None };
    at_no_level.at(alpha)
}

impl Difference {
    /// Returns the same difference with the interval and the detectable effect for another
    /// probability of error.
    #[must_use]
    pub fn at(&self, alpha: f64) -> Difference {
        let freedom = self.replicates.saturating_sub(1) as f64;
        Difference {
            alpha,
            interval: self.interval_at(alpha),
            minimum_detectable_effect: self.standard_error.map(|error| detectable_errors(freedom, alpha) * error),
            ..self.clone()
        }
    }

    /// Returns the interval of confidence 1 − `alpha`.
    pub fn interval_at(&self, alpha: f64) -> Option<[f64; 2]> {
        let freedom = self.replicates.saturating_sub(1) as f64;
        let half = student_t_quantile(1.0 - alpha / 2.0, freedom) * self.standard_error?;
        Some([self.mean - half, self.mean + half])
    }

    /// Returns whether "no difference" is rejected.
    pub fn is_significant(&self) -> bool {
        self.p.is_some_and(|p| p < self.alpha)
    }

    /// Returns whether the difference is smaller than `margin`, by two one-sided tests (Schuirmann,
    /// 1987), each at `alpha`.
    pub fn is_equivalent(&self, margin: f64) -> bool {
        self.standard_error.is_some_and(|error| {
            let freedom = self.replicates.saturating_sub(1) as f64;
            let half = student_t_quantile(1.0 - self.alpha, freedom) * error;
            self.mean.abs() + half < margin
        })
    }

    /// Returns the factor by which the pairs in the arms and in the held-out set would have to grow
    /// to find a true difference of the observed size four times in five: the standard error falls
    /// with the square root of the number of pairs.
    pub fn pairs_needed(&self) -> Option<f64> {
        let detectable = self.minimum_detectable_effect?;
        (self.mean != 0.0).then(|| (detectable / self.mean).powi(2))
    }
}

fn two_sided(mean: f64, error: f64, freedom: f64) -> f64 {
    if error == 0.0 {
        return if mean == 0.0 { 1.0 } else { 0.0 };
    }
    (2.0 * student_t_cdf(-(mean / error).abs(), freedom)).min(1.0)
}

/// Returns, in standard errors, the true difference that is found with probability [`POWER`]:
/// t₁₋α⸝₂ + t_power.
fn detectable_errors(freedom: f64, alpha: f64) -> f64 {
    student_t_quantile(1.0 - alpha / 2.0, freedom) + student_t_quantile(POWER, freedom)
}

/// One of several comparisons, adjusted for their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adjusted {
    /// The p-value, which may be compared with α as if it were the only one.
    pub p: f64,
    /// The error probability at which this comparison was tested. An interval of confidence
    /// 1 − `alpha` excludes 0 exactly if `p` is below α.
    pub alpha: f64,
}

/// Adjusts several comparisons by Holm's step-down method ("A simple sequentially rejective
/// multiple test procedure", 1979).
///
/// The k-th smallest of n p-values, counted from 0, is tested at α/(n − k). The first one that is
/// not significant ends the method, and the larger ones are not significant either. They get the
/// level of the step at which the method ended: their p-values are above it, so their intervals
/// contain 0. Each interval belongs to the test of its comparison; together they are not
/// simultaneous.
pub fn holm(p: &[f64], alpha: f64) -> Vec<Adjusted> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![Adjusted { p: 1.0, alpha }; p.len()];
    let (mut largest, mut level): (f64, f64) = (0.0, alpha);
    for (rank, place) in order.into_iter().enumerate() {
        let left = (p.len() - rank) as f64;
        if largest < alpha {
            level = alpha / left;
        }
        largest = largest.max(p[place] * left).min(1.0);
        adjusted[place] = Adjusted { p: largest, alpha: level };
    }
    adjusted
}

/// Returns the probability of error that may be spent at a look with `replicates` when looks are
/// planned at the numbers `looks`: the increase since the previous look of Lan and DeMets' spending
/// function of Pocock's type (1983), α · ln(1 + (e − 1) · t), where t is the fraction of the last
/// look. The tests of all looks then err with probability `alpha` at most, whatever their
/// correlation. `None` if no look is planned there.
pub fn alpha_at(looks: &[usize], replicates: usize, alpha: f64) -> Option<f64> {
    let last = *looks.last()? as f64;
    let place = looks.iter().position(|look| *look == replicates)?;
    let spent = |look: usize| alpha * (1.0 + (std::f64::consts::E - 1.0) * look as f64 / last).ln();
    Some(spent(replicates) - place.checked_sub(1).map_or(0.0, |before| spent(looks[before])))
}

/// Returns the probability that Student's t with `freedom` degrees of freedom is at most `t`
/// (Abramowitz and Stegun 26.7.1 by the incomplete beta function).
pub fn student_t_cdf(t: f64, freedom: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// Returns the quantile of Student's t with `freedom` degrees of freedom at `probability`, between
/// 0 and 1.
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

/// Returns the regularised incomplete beta function at `x`, by its continued fraction (NIST DLMF
/// 8.17.22) in Lentz's form.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x); // the fraction converges quickly on this side only
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

/// Returns the logarithm of the gamma function of a positive number, by Stirling's series (NIST
/// DLMF 5.11.1) after shifting the argument above 10, where five terms give 14 digits.
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
    use crate::random::{Purpose, normal, stream};

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
        let outcome = difference(&[1.0, 2.0, 3.0, 4.0], &[0.0; 4], 0.05);
        // SD = √(5/3), standard error = SD · √(5/4), t(3, 0.975) = 3.1824.
        let error = (5.0_f64 / 3.0 * 1.25).sqrt();
        assert!((outcome.mean - 2.5).abs() < 1e-12 && (outcome.standard_error.unwrap() - error).abs() < 1e-12);
        let [low, high] = outcome.interval.unwrap();
        assert!((low - (2.5 - 3.1824 * error)).abs() < 1e-3 && (high - (2.5 + 3.1824 * error)).abs() < 1e-3);
        assert!(!outcome.is_significant() && !outcome.is_equivalent(1.0) && outcome.is_equivalent(100.0));
    }

    #[test]
    fn equal_values_differ_by_nothing_and_one_replicate_says_nothing() {
        let equal = difference(&[0.3; 6], &[0.3; 6], 0.05);
        assert_eq!((equal.mean, equal.interval, equal.p), (0.0, Some([0.0, 0.0]), Some(1.0)));
        assert!(equal.is_equivalent(1e-9) && equal.pairs_needed().is_none());
        let one = difference(&[1.0], &[2.0], 0.05);
        assert_eq!(
            (one.standard_error, one.p, one.is_significant(), one.is_equivalent(9.0)),
            (None, None, false, false)
        );
    }

    /// Number of simulated checks per statement about probabilities.
    const CASES: usize = 4000;

    /// Replicates of a check whose data err by a normal draw: each replicate errs by as much again
    /// around what the data say.
    fn simulated(draws: &mut rand_chacha::ChaCha8Rng, n: usize, truth: f64) -> Difference {
        let data = truth + normal(draws);
        let values: Vec<f64> = (0..n).map(|_| data + normal(draws)).collect();
        difference(&values, &vec![0.0; n], 0.05)
    }

    #[test]
    fn equal_arms_are_called_different_in_one_case_of_twenty() {
        let mut draws = stream(11, Purpose::World);
        for n in [4, 6, 12] {
            let outcomes: Vec<_> = (0..CASES).map(|_| simulated(&mut draws, n, 0.0)).collect();
            let share = outcomes.iter().filter(|outcome| outcome.is_significant()).count() as f64 / CASES as f64;
            // Four standard errors of a share of 0.05 in 4,000 cases are 0.0138.
            assert!((share - 0.05).abs() < 0.014, "{n}: {share}");
        }
    }

    #[test]
    fn the_detectable_difference_is_found_and_arms_as_far_apart_as_the_margin_are_not_called_equivalent() {
        let mut draws = stream(12, Purpose::World);
        let truth = detectable_errors(11.0, 0.05) * (1.0 + 1.0 / 12.0_f64).sqrt();
        let found =
            (0..CASES).filter(|_| simulated(&mut draws, 12, truth).is_significant()).count() as f64 / CASES as f64;
        assert!((found - POWER).abs() < 0.06, "{found}");
        let margin = 4.0;
        let equivalent = (0..CASES).filter(|_| simulated(&mut draws, 12, margin).is_equivalent(margin)).count();
        assert!(equivalent as f64 / (CASES as f64) < 0.065, "{equivalent}");
        let equal = (0..CASES).filter(|_| simulated(&mut draws, 12, 0.0).is_equivalent(margin)).count();
        assert!(equal as f64 / CASES as f64 > 0.8, "{equal}");
    }

    #[test]
    fn holm_equals_the_textbook() {
        // The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005], 0.05);
        for (value, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((value.p - expected).abs() < 1e-12, "{adjusted:?}");
        }
        // 0.03 is not below 0.05 / 2, which ends the method.
        for (value, left) in adjusted.iter().zip([3.0, 2.0, 2.0, 4.0]) {
            assert!((value.alpha - 0.05 / left).abs() < 1e-12, "{adjusted:?}");
        }
        assert_eq!(holm(&[0.02], 0.05), [Adjusted { p: 0.02, alpha: 0.05 }]);
        assert!(holm(&[], 0.05).is_empty());
    }

    #[test]
    fn looks_spend_what_there_is_and_no_more() {
        let looks = [4, 6, 8, 12];
        let spent: Vec<f64> = looks.iter().map(|look| alpha_at(&looks, *look, 0.05).unwrap()).collect();
        assert!((spent.iter().sum::<f64>() - 0.05).abs() < 1e-12 && spent.iter().all(|alpha| *alpha > 0.0));
        assert_eq!(alpha_at(&looks, 5, 0.05), None);
        assert!((alpha_at(&[12], 12, 0.05).unwrap() - 0.05).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn exchanging_the_arms_mirrors_everything(pairs in prop::collection::vec((-5.0..5.0, -5.0..5.0), 2..9)) {
            let (first, second): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let (one, other) = (difference(&first, &second, 0.05), difference(&second, &first, 0.05));
            prop_assert!((one.mean + other.mean).abs() < 1e-12);
            prop_assert!((one.p.unwrap() - other.p.unwrap()).abs() < 1e-9);
            let ([low, high], [other_low, other_high]) = (one.interval.unwrap(), other.interval.unwrap());
            prop_assert!((low + other_high).abs() < 1e-9 && (high + other_low).abs() < 1e-9);
            prop_assert_eq!(one.is_significant(), low > 0.0 || high < 0.0);
        }

        #[test]
        fn an_interval_at_its_step_of_holm_excludes_0_where_the_adjusted_p_is_below_alpha(
            means in prop::collection::vec(-4.0..4.0, 1..7)
        ) {
            let replicates = [-1.0, -0.5, 0.0, 0.5, 1.0];
            let of_mean = |mean: &f64| difference(&replicates.map(|value| mean + value), &[0.0; 5], 0.05);
            let differences: Vec<Difference> = means.iter().map(of_mean).collect();
            let p: Vec<f64> = differences.iter().map(|difference| difference.p.unwrap()).collect();
            for (difference, adjusted) in differences.iter().zip(holm(&p, 0.05)) {
                let at_step = difference.at(adjusted.alpha);
                let [low, high] = at_step.interval.unwrap();
                prop_assert_eq!(adjusted.p < 0.05, low > 0.0 || high < 0.0);
                prop_assert_eq!(adjusted.p < 0.05, at_step.is_significant());
                prop_assert!(at_step.minimum_detectable_effect >= difference.minimum_detectable_effect);
            }
        }

        #[test]
        fn quantile_and_probability_are_inverse(probability in 0.001..0.999, freedom in 1.0..60.0) {
            let quantile = student_t_quantile(probability, freedom);
            prop_assert!((student_t_cdf(quantile, freedom) - probability).abs() < 1e-10);
        }
    }
}
