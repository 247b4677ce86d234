//! 95 % intervals by the bootstrap over clusters.
//!
//! Questions about the same image are not independent, so whole images are redrawn (Cameron,
//! Gelbach and Miller, "Bootstrap-based improvements for inference with clustered errors", 2008).
//! Each of [`REPLICATES`] replicates draws as many clusters as there are, with replacement, and
//! computes every figure from the sums of their counts; the interval is from the 2.5th to the
//! 97.5th percentile. If a metric has categories of fixed sizes, each is redrawn on its own. The
//! interval shows how the figure varies with the choice of questions, not with the training run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Number of replicates. With 2,000, the ends of an interval differ by about 3 % of its width from
/// those of infinitely many.
pub const REPLICATES: usize = 2000;

/// The default seed.
pub const SEED: u64 = 0;

/// Probability outside the interval on each side.
const TAIL: f64 = 0.025;

/// Figures of a set of rows, computed from the sum of their counts; NaN if a figure is undefined.
pub(crate) type Figures = fn(&[f64]) -> Vec<f64>;

/// Returns the sums of counts of each cluster; `cluster` numbers the cluster of each row.
pub(crate) fn sums<'a>(rows: impl Iterator<Item = (&'a [f64], usize)>) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = Vec::new();
    let mut numbers: std::collections::BTreeMap<usize, usize> = std::collections::BTreeMap::new();
    for (counts, cluster) in rows {
        let next = numbers.len();
        let number = *numbers.entry(cluster).or_insert(next);
        if number == sums.len() {
            sums.push(vec![0.0; counts.len()]);
        }
        add(&mut sums[number], counts);
    }
    sums
}

pub(crate) fn add(total: &mut [f64], counts: &[f64]) {
    for (total, count) in total.iter_mut().zip(counts) {
        *total += count;
    }
}

/// Returns the interval of each figure. It is `None` if there are fewer than two clusters in a
/// stratum, if the figure is undefined in more than [`TAIL`] of the replicates, or if all
/// replicates of a figure without a range agree.
///
/// Strata are sets of clusters whose sizes are fixed, such as the categories of MME; clusters are
/// redrawn within each of them. With n clusters in a stratum, the variance of the sum of n draws is
/// (n - 1) / n of the right one, which matters in small strata. So if there are several strata,
/// n - 1 clusters are drawn and their counts are multiplied by n / (n - 1) (Rao and Wu, "Resampling
/// inference with complex survey data", 1988). A single stratum is redrawn as usual.
///
/// If all answers are right, redrawing shows no variation, and if nearly all are, too little. So
/// the lower end of a figure with a range is never above the one for a result without exception,
/// which is where this many clusters would all be right with a probability of 2.5 % (Clopper and
/// Pearson, 1934). The same holds for the upper end and all wrong. For a share of all questions,
/// this bound depends only on the number of clusters, so a better result never has a lower bound
/// than a worse one. For other figures, such as a precision, the answers determine which clusters
/// are counted, and a better result may have a lower bound.
pub(crate) fn intervals(
    strata: &[Vec<Vec<f64>>],
    figures: Figures,
    ranges: &[Option<(f64, f64)>],
    seed: u64,
) -> Vec<Option<[f64; 2]>> {
    let Some(counts) = strata.first().and_then(|clusters| clusters.first()).map(Vec::len) else {
        return vec![None; ranges.len()];
    };
    if strata.iter().any(|clusters| clusters.len() < 2) {
        return vec![None; ranges.len()];
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(REPLICATES); ranges.len()];
    for _ in 0..REPLICATES {
        let mut total = vec![0.0; counts];
        for clusters in strata {
            let draws = if strata.len() > 1 { clusters.len() - 1 } else { clusters.len() };
            let scale = clusters.len() as f64 / draws as f64;
            for _ in 0..draws {
                // Multiply-and-shift instead of a remainder; its bias is below 2^-40 for a million
                // clusters.
                let index = (u128::from(random.next_u64()) * clusters.len() as u128) >> 64;
                for (total, count) in total.iter_mut().zip(&clusters[index as usize]) {
                    *total += scale * count;
                }
            }
        }
        for (figure, value) in figures(&total).into_iter().enumerate() {
            if value.is_finite() {
                drawn[figure].push(value);
            }
        }
    }
    let observed = observed(strata, figures, ranges.len());
    let interval = |mut values: Vec<f64>, range: Option<(f64, f64)>, observed: usize| {
        if (values.len() as f64) < (1.0 - TAIL) * REPLICATES as f64 {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (low, high) = (percentile(&values, TAIL), percentile(&values, 1.0 - TAIL));
        match range {
            Some((least, most)) => {
                let surest = (most - least) * TAIL.powf(1.0 / observed as f64);
                Some([low.min(least + surest), high.max(most - surest)])
            }
            None if high - low < 1e-9 => None,
            None => Some([low, high]),
        }
    };
    let figures = drawn.into_iter().zip(ranges).zip(observed);
    figures.map(|((values, range), observed)| interval(values, *range, observed)).collect()
}

/// Returns for each figure the number of clusters that it depends on. A cluster without any part in
/// the denominator of a figure has no value of it: a precision is 0 / 0 for an image without a yes.
fn observed(strata: &[Vec<Vec<f64>>], figures: Figures, number: usize) -> Vec<usize> {
    let mut observed = vec![0; number];
    for cluster in strata.iter().flatten() {
        for (observed, value) in observed.iter_mut().zip(figures(cluster)) {
            *observed += usize::from(value.is_finite());
        }
    }
    observed
}

/// Returns a percentile of sorted values, with linear interpolation (type 7 of Hyndman and Fan,
/// 1996, which is NumPy's).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, part) = (position.floor() as usize, position.fract());
    let above = sorted.get(below + 1).unwrap_or(&sorted[below]);
    sorted[below] + part * (above - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(sums: &[f64]) -> Vec<f64> {
        vec![100.0 * sums[0] / sums[1]]
    }

    fn of(rows: &[(f64, usize)]) -> Option<[f64; 2]> {
        let rows: Vec<(Vec<f64>, usize)> = rows.iter().map(|(score, cluster)| (vec![*score, 1.0], *cluster)).collect();
        let clusters = sums(rows.iter().map(|(counts, cluster)| (counts.as_slice(), *cluster)));
        intervals(&[clusters], mean, &[Some((0.0, 100.0))], SEED)[0]
    }

    #[test]
    fn half_of_400_has_the_interval_of_the_normal_approximation() {
        let rows: Vec<(f64, usize)> = (0..400).map(|row| (f64::from(row % 2), row as usize)).collect();
        let [low, high] = of(&rows).unwrap();
        // 50 ± 1.96 · 100 · √(0.25 / 400)
        assert!((low - 45.1).abs() < 0.5 && (high - 54.9).abs() < 0.5, "{low} {high}");
        assert_eq!(of(&rows), of(&rows), "the seed decides");
    }

    #[test]
    fn questions_about_one_picture_are_one_observation() {
        let alone: Vec<(f64, usize)> = (0..400).map(|row| (f64::from(row / 4 % 2), row as usize)).collect();
        let together: Vec<(f64, usize)> = alone.iter().map(|(score, row)| (*score, row / 4)).collect();
        let width = |rows: &[(f64, usize)]| of(rows).map(|[low, high]| high - low).unwrap();
        let ratio = width(&together) / width(&alone);
        assert!((ratio - 2.0).abs() < 0.2, "four copies are twice as wide: {ratio}");
    }

    #[test]
    fn all_right_is_not_certain_and_one_picture_has_no_interval() {
        let right: Vec<(f64, usize)> = (0..30).map(|row| (1.0, row)).collect();
        // 0.025^(1/30) = 0.8843, as of R's binom.test(30, 30).
        let [low, high] = of(&right).unwrap();
        assert!((low - 88.43).abs() < 0.01 && (high - 100.0).abs() < 1e-9, "{low} {high}");
        let wrong: Vec<(f64, usize)> = (0..30).map(|row| (0.0, row)).collect();
        let [low, high] = of(&wrong).unwrap();
        assert!(low.abs() < 1e-9 && (high - 11.57).abs() < 0.01, "{low} {high}");
        assert_eq!(of(&[(1.0, 0), (0.0, 0)]), None);
    }

    #[test]
    fn clusters_without_a_part_in_the_figure_are_not_counted() {
        // 5 right rows, and 995 that are left out of the sum.
        let left_out = (5..1000).map(|_| vec![0.0, 0.0]);
        let clusters: Vec<Vec<f64>> = (0..5).map(|_| vec![1.0, 1.0]).chain(left_out).collect();
        let [low, high] = intervals(&[clusters], mean, &[Some((0.0, 100.0))], SEED)[0].unwrap();
        // 0.025^(1/5) = 0.4782, as of R's binom.test(5, 5).
        assert!((low - 47.82).abs() < 0.01 && (high - 100.0).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn a_better_result_has_no_lower_bound_that_is_lower() {
        for rows in [2, 5, 10, 30, 100, 1000] {
            let of_right = |right: u32| {
                let rows: Vec<(f64, usize)> =
                    (0..rows).map(|row| (f64::from(u8::from(row < right)), row as usize)).collect();
                of(&rows).unwrap()
            };
            let mut before = of_right(rows - rows.min(20));
            for right in rows - rows.min(20) + 1..=rows {
                let [low, high] = of_right(right);
                assert!(before[0] <= low && before[1] <= high, "{right} of {rows}: {low} {high} after {before:?}");
                before = [low, high];
            }
            let exact = 100.0 * 0.025_f64.powf(1.0 / f64::from(rows));
            assert!((before[0] - exact).abs() < 1e-9, "{rows}: {before:?}");
            // The same for wrong answers.
            let [low, high] = of_right(1);
            let [mirrored_low, mirrored_high] = of_right(0);
            assert!(mirrored_low <= low && mirrored_high <= high, "{rows}: {high} {mirrored_high}");
        }
    }

    /// Sums the means of two strata, whose counts are beside each other.
    fn sum_of_means(sums: &[f64]) -> Vec<f64> {
        vec![sums[0] / sums[1] + sums[2] / sums[3]]
    }

    #[test]
    fn strata_are_drawn_apart_with_their_whole_variance() {
        let large: Vec<Vec<f64>> = (0..40).map(|row| vec![f64::from(row % 2), 1.0, 0.0, 0.0]).collect();
        let small: Vec<Vec<f64>> = (0..4).map(|row| vec![0.0, 0.0, f64::from(row % 2), 1.0]).collect();
        let [low, high] = intervals(&[large.clone(), small], sum_of_means, &[None], SEED)[0].unwrap();
        // The variances of the two means are 0.25 / 39 and 0.25 / 3.
        let deviation = (0.25_f64 / 39.0 + 0.25 / 3.0).sqrt();
        assert!(((high - low) / (2.0 * 1.96 * deviation) - 1.0).abs() < 0.1, "{low} {high}");
        assert_eq!(intervals(&[large, vec![vec![0.0, 0.0, 1.0, 1.0]]], sum_of_means, &[None], SEED), [None]);
    }
}
