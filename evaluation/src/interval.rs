//! 95 % intervals by the bootstrap over clusters.
//!
//! Questions about the same image are not independent, so whole images are redrawn (Cameron,
//! Gelbach and Miller, "Bootstrap-based improvements for inference with clustered errors", 2008).
//! Each of [`REPLICATES`] replicates draws as many clusters as there are, with replacement, and
//! computes every figure from the sums of their counts; the interval is from the 2.5th to the
//! 97.5th percentile. The interval shows how the figure varies with the choice of questions, not
//! with the training run.

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

/// Returns the interval of each figure. It is `None` if there are fewer than two clusters, if the
/// figure is undefined in more than [`TAIL`] of the replicates, or if all replicates of a figure
/// without a range agree.
///
/// If all replicates of a figure are at the end of its range, as with 30 of 30 right answers,
/// redrawing shows no variation. The interval then ends where this many clusters without an
/// exception would have a probability of 2.5 % (Clopper and Pearson, 1934).
pub(crate) fn intervals(
    clusters: &[Vec<f64>],
    figures: Figures,
    ranges: &[Option<(f64, f64)>],
    seed: u64,
) -> Vec<Option<[f64; 2]>> {
    if clusters.len() < 2 {
        return vec![None; ranges.len()];
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(REPLICATES); ranges.len()];
    for _ in 0..REPLICATES {
        let mut total = vec![0.0; clusters[0].len()];
        for _ in 0..clusters.len() {
            // Multiply-and-shift instead of a remainder; its bias is below 2^-40 for a million
            // clusters.
            let index = (u128::from(random.next_u64()) * clusters.len() as u128) >> 64;
            add(&mut total, &clusters[index as usize]);
        }
        for (figure, value) in figures(&total).into_iter().enumerate() {
            if value.is_finite() {
                drawn[figure].push(value);
            }
        }
    }
    let interval = |(mut values, range): (Vec<f64>, &Option<(f64, f64)>)| {
        if (values.len() as f64) < (1.0 - TAIL) * REPLICATES as f64 {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (low, high) = (percentile(&values, TAIL), percentile(&values, 1.0 - TAIL));
        let surest = TAIL.powf(1.0 / clusters.len() as f64);
        match range {
            Some((least, most)) if (high - least).abs() < 1e-9 => Some([*least, most - (most - least) * surest]),
            Some((least, most)) if (low - most).abs() < 1e-9 => Some([least + (most - least) * surest, *most]),
            None if high - low < 1e-9 => None,
            _ => Some([low, high]),
        }
    };
    drawn.into_iter().zip(ranges).map(interval).collect()
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
        intervals(&clusters, mean, &[Some((0.0, 100.0))], SEED)[0]
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
}
