//! Turns the values of a signal into bars with round edges.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::data::{Bin, Category, Scale, SignalHistogram};

/// Maximum number of bars of a linear histogram, without open bars and one for rounding; rounding
/// the edges gives up to 2.5 times fewer.
const MOST_LINEAR_BINS: f64 = 32.0;
/// Maximum number of bars of a logarithmic histogram with five bars per decade; wider ranges get
/// one bar per decade.
const MOST_LOG_BINS: i32 = 35;
/// Share of the values at either end that may be treated as outliers.
const OUTLIER_SHARE: f64 = 0.01;
/// Outliers are separated only if showing them would widen the axis by more than this share of the
/// rest.
const WIDENING_ALLOWED: f64 = 0.25;
/// Minimum ratio of the range of a logarithmic axis: three decades.
const LOG_FROM_RATIO: f64 = 1000.0;
/// The lowest part of a linear axis, as a share. A logarithmic axis is used if the median would be
/// in this part.
const LOG_MEDIAN_PLACE: f64 = 0.15;
/// Maximum number of bars of a text signal; rarer values share one more bar.
const MOST_CATEGORIES: usize = 12;
/// Limits of the sizes of values. Values beyond `LARGEST` are not measurements and count as
/// missing, because rounding edges around them would overflow. Values up to `SMALLEST` do not start
/// a logarithmic axis.
const SMALLEST: f64 = 1e-300;
const LARGEST: f64 = 1e300;
/// Five steps per decade, nearly equal in ratio: the R5 series of preferred numbers (ISO 3).
const R5: [f64; 5] = [10.0, 16.0, 25.0, 40.0, 63.0];

/// Binary digits after the leading one that distinguish values before the axis is known: values
/// within 0.4 % of each other may be counted together when outliers are separated.
const DIGITS: u32 = 8;

/// The values of a numeric signal, as far as its axis depends on them.
///
/// Values are counted one by one. Memory grows with how different the values are, not with their
/// number. A second pass fills the resulting axis: [`Bars`].
#[derive(Debug, Default)]
pub struct Values {
    count: u64,
    /// Values that begin with the same digits, by those digits in rising order.
    alike: BTreeMap<u64, Alike>,
    least_positive: Option<f64>,
    has_fractions: bool,
}

/// Values that begin with the same digits.
#[derive(Debug)]
struct Alike {
    count: u64,
    least: f64,
    greatest: f64,
}

impl Values {
    /// Counts the value of a pair.
    pub fn add(&mut self, value: Option<f64>) {
        let Some(value) = measured(value) else { return };
        self.count += 1;
        self.has_fractions |= value.fract() != 0.0;
        if value > SMALLEST {
            self.least_positive = Some(self.least_positive.map_or(value, |least| least.min(value)));
        }
        let alike =
            self.alike.entry(leading_digits(value)).or_insert(Alike { count: 0, least: value, greatest: value });
        alike.count += 1;
        alike.least = alike.least.min(value);
        alike.greatest = alike.greatest.max(value);
    }

    /// Chooses the axis of a histogram of these values.
    ///
    /// Edges are round numbers. Far outliers go into one open bin at either end. The axis is
    /// logarithmic if the values span more than three decades and a linear axis would crush them.
    /// `thresholds` of the histogram widen the axis if they are among outliers, so that they can be
    /// drawn.
    pub fn bars(&self, histogram: SignalHistogram) -> Bars {
        let thresholds: Vec<f64> = histogram.thresholds.iter().map(|threshold| threshold.value).collect();
        let (scale, edges) = edges(self, &thresholds);
        let bar = |from, to| Bin { from, to, all: 0, kept: 0 };
        let bins = edges.windows(2).map(|pair| bar(Some(pair[0]), Some(pair[1]))).collect();
        let (below, above) = (bar(None, edges.first().copied()), bar(edges.last().copied(), None));
        let histogram = SignalHistogram { scale, bins, missing: 0, categories: Vec::new(), ..histogram };
        Bars { histogram, edges, below, above }
    }

    /// Returns the least and the greatest value; `None` if there is no value.
    fn range(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.alike.values().next()?, self.alike.values().next_back()?);
        Some((first.least, last.greatest))
    }

    /// Returns the group of the value with `rank` values before it in ascending order.
    fn at(&self, rank: u64) -> &Alike {
        let mut before = 0;
        let found = self.alike.values().find(|alike| {
            before += alike.count;
            before > rank
        });
        found.expect("a rank is less than the count")
    }
}

/// The bars of a numeric signal, filled value by value.
#[derive(Debug)]
pub struct Bars {
    histogram: SignalHistogram,
    edges: Vec<f64>,
    below: Bin,
    above: Bin,
}

impl Bars {
    /// Counts the value of a pair, and whether the pair was kept. A value that is not finite, or
    /// beyond 1e300, counts as missing.
    pub fn add(&mut self, value: Option<f64>, kept: bool) {
        let ends = (self.edges.first(), self.edges.last());
        let (Some(value), (Some(first), Some(last))) = (measured(value), ends) else {
            self.histogram.missing += 1;
            return;
        };
        let bins = &mut self.histogram.bins;
        let bin = if value < *first {
            &mut self.below
        } else if value > *last {
            &mut self.above
        } else {
            let n_edges_reached = self.edges.partition_point(|edge| *edge <= value);
            let last = bins.len();
            &mut bins[n_edges_reached.min(last) - 1]
        };
        bin.all += 1;
        bin.kept += u64::from(kept);
    }

    /// Returns the histogram, with the open bars that hold outliers.
    pub fn finish(mut self) -> SignalHistogram {
        if self.below.all > 0 {
            self.histogram.bins.insert(0, self.below);
        }
        if self.above.all > 0 {
            self.histogram.bins.push(self.above);
        }
        self.histogram
    }
}

/// The values of a text signal, counted one by one.
#[derive(Debug, Default)]
pub struct Texts {
    /// Pairs with the text, and those of them that were kept.
    counts: BTreeMap<String, (u64, u64)>,
    missing: u64,
}

impl Texts {
    /// Counts the value of a pair, and whether the pair was kept.
    pub fn add(&mut self, value: Option<&str>, kept: bool) {
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        if !self.counts.contains_key(value) {
            self.counts.insert(value.to_owned(), (0, 0));
        }
        let count = self.counts.get_mut(value).expect("it was just inserted");
        count.0 += 1;
        count.1 += u64::from(kept);
    }

    /// Fills in the bars of a histogram: its `categories` and `missing`.
    ///
    /// The most frequent values come first, equally frequent ones by name. Beyond a dozen, the rest
    /// share a last bar whose name has the number of values.
    pub fn finish(self, histogram: SignalHistogram) -> SignalHistogram {
        let counts = self.counts.into_iter();
        let mut categories: Vec<Category> = counts.map(|(name, (all, kept))| Category { name, all, kept }).collect();
        categories.sort_by_key(|category| Reverse(category.all)); // stable: equal counts stay in order of name
        if categories.len() > MOST_CATEGORIES + 1 {
            let rare = categories.split_off(MOST_CATEGORIES);
            categories.push(Category {
                name: format!("{} other values", rare.len()),
                all: rare.iter().map(|category| category.all).sum(),
                kept: rare.iter().map(|category| category.kept).sum(),
            });
        }
        SignalHistogram { bins: Vec::new(), scale: Scale::Linear, categories, missing: self.missing, ..histogram }
    }
}

/// Returns a value that is counted in a histogram.
fn measured(value: Option<f64>) -> Option<f64> {
    // Adding 0 turns -0.0 into 0.0, which are one value.
    value.filter(|value| value.abs() <= LARGEST).map(|value| value + 0.0)
}

/// Returns sign, exponent and first digits of a value as a number in the order of the values.
fn leading_digits(value: f64) -> u64 {
    let bits = value.to_bits();
    // For negative numbers, larger bits mean a smaller value.
    let ordered = if value.is_sign_negative() { !bits } else { bits | (1 << 63) };
    ordered >> (f64::MANTISSA_DIGITS - 1 - DIGITS)
}

/// Returns the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `size`, as mantissa
/// (in tenths) and exponent.
fn round_up(size: f64, only_whole: bool) -> (f64, i32) {
    let mut exponent = size.log10().floor() as i32;
    loop {
        for tenths in [10, 20, 25, 50] {
            let whole = exponent > 0 || (exponent == 0 && tenths != 25);
            let mantissa = f64::from(tenths);
            if scaled(mantissa, exponent) >= size * (1.0 - 1e-9) && (whole || !only_whole) {
                return (mantissa, exponent);
            }
        }
        exponent += 1;
    }
}

/// Returns a round distance between marks, at least `size`.
pub(super) fn round_step(size: f64) -> f64 {
    let (mantissa, exponent) = round_up(size, false);
    scaled(mantissa, exponent)
}

/// Computes `tenths / 10 × 10^exponent`, dividing by powers of ten rather than multiplying by
/// fractions, so that the result is the float that the decimal is read as.
fn scaled(tenths: f64, exponent: i32) -> f64 {
    if exponent >= 1 { tenths * 10_f64.powi(exponent - 1) } else { tenths / 10_f64.powi(1 - exponent) }
}

/// Returns the edges of the bars between the outliers; none if there are no values.
fn edges(values: &Values, thresholds: &[f64]) -> (Scale, Vec<f64>) {
    let Some((least, greatest)) = values.range() else { return (Scale::Linear, Vec::new()) };
    let (low, high) = core_range(values, least, greatest);
    if let Some(least_positive) = values.least_positive {
        let median = values.at(values.count / 2).least;
        let crushed = median - low < LOG_MEDIAN_PLACE * (high - low);
        if greatest / least_positive > LOG_FROM_RATIO && crushed && median > 0.0 {
            return (Scale::Log, log_edges(least_positive, greatest));
        }
    }
    let (mut wide_low, mut wide_high) = (low, high);
    for &threshold in thresholds {
        if least <= threshold && threshold <= greatest {
            if threshold < low && low - threshold <= high - low {
                wide_low = wide_low.min(threshold);
            }
            if threshold > high && threshold - high <= high - low {
                wide_high = wide_high.max(threshold);
            }
        }
    }
    (Scale::Linear, linear_edges(wide_low, wide_high, !values.has_fractions))
}

/// Returns the range without far outliers.
fn core_range(values: &Values, least: f64, greatest: f64) -> (f64, f64) {
    let n_aside = (values.count as f64 * OUTLIER_SHARE) as u64;
    let (low, high) = (values.at(n_aside).least, values.at(values.count - 1 - n_aside).greatest);
    let spread = high - low;
    if spread <= 0.0 {
        return (least, greatest);
    }
    let low = if low - least <= WIDENING_ALLOWED * spread { least } else { low };
    let high = if greatest - high <= WIDENING_ALLOWED * spread { greatest } else { high };
    (low, high)
}

fn linear_edges(low: f64, high: f64, whole_numbers: bool) -> Vec<f64> {
    let spread = if high > low { high - low } else { low.abs().max(1.0) };
    // Not finer than floats can tell apart.
    let spread = spread.max(low.abs() * 1e-12).max(SMALLEST);
    let (mantissa, exponent) = round_up(spread / MOST_LINEAR_BINS, whole_numbers);
    let step = scaled(mantissa, exponent);
    let mut first = (low / step).floor();
    if scaled((first + 1.0) * mantissa, exponent) <= low {
        first += 1.0; // low / step was rounded down past a whole number
    }
    let mut last = (high / step).ceil();
    if scaled((last - 1.0) * mantissa, exponent) >= high {
        last -= 1.0;
    }
    // The last bar holds its upper edge, which would join two whole numbers in one bar.
    if last <= first || (whole_numbers && scaled(last * mantissa, exponent) <= high) {
        last += 1.0;
    }
    (0..=(last - first) as u32).map(|n| scaled((first + f64::from(n)) * mantissa, exponent)).collect()
}

fn log_edges(least: f64, greatest: f64) -> Vec<f64> {
    let fine = |n: i32| scaled(R5[n.rem_euclid(5) as usize], n.div_euclid(5));
    let decade = |n: i32| scaled(10.0, n);
    let span = |edge: &dyn Fn(i32) -> f64, per_decade: f64| {
        let mut first = (least.log10() * per_decade).floor() as i32;
        while edge(first) > least {
            first -= 1;
        }
        while edge(first + 1) <= least {
            first += 1;
        }
        let mut last = first + 1;
        while edge(last) < greatest {
            last += 1;
        }
        (first, last)
    };
    let (first, last) = span(&fine, 5.0);
    if last - first <= MOST_LOG_BINS {
        return (first..=last).map(fine).collect();
    }
    let (first, last) = span(&decade, 1.0);
    (first..=last).map(decade).collect()
}

/// Fills in the bars of a numeric signal from a list of values.
#[cfg(test)]
pub(crate) fn with_numbers(
    histogram: SignalHistogram,
    pairs: impl IntoIterator<Item = (Option<f64>, bool)>,
) -> SignalHistogram {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let mut values = Values::default();
    for (value, _) in &pairs {
        values.add(*value);
    }
    let mut bars = values.bars(histogram);
    for (value, kept) in &pairs {
        bars.add(*value, *kept);
    }
    bars.finish()
}

/// Fills in the bars of a text signal from a list of values.
#[cfg(test)]
pub(crate) fn with_texts<'a>(
    histogram: SignalHistogram,
    pairs: impl IntoIterator<Item = (Option<&'a str>, bool)>,
) -> SignalHistogram {
    let mut texts = Texts::default();
    pairs.into_iter().for_each(|(value, kept)| texts.add(value, kept));
    texts.finish(histogram)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Threshold;

    fn histogram_of(values: &[f64], thresholds: &[f64]) -> SignalHistogram {
        let thresholds = thresholds
            .iter()
            .map(|value| Threshold { value: *value, rule: "rule".to_owned(), predicate: String::new() })
            .collect();
        let histogram = SignalHistogram { thresholds, ..SignalHistogram::default() };
        let histogram = with_numbers(histogram, values.iter().map(|value| (Some(*value), *value > 10.0)));
        assert_eq!(histogram.bins.iter().map(|bin| bin.all).sum::<u64>(), values.len() as u64);
        histogram
    }

    fn edges_of(histogram: &SignalHistogram) -> Vec<f64> {
        histogram.bins.iter().filter_map(|bin| bin.from).collect()
    }

    #[test]
    fn gives_every_small_whole_number_its_own_bar() {
        let histogram = histogram_of(&[1.0, 2.0, 2.0, 3.0, 8.0], &[]);
        assert_eq!(edges_of(&histogram), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let counts: Vec<u64> = histogram.bins.iter().map(|bin| bin.all).collect();
        assert_eq!(counts, [1, 2, 1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn keeps_the_top_of_a_share_inside_the_last_bar() {
        let values: Vec<f64> = (0..=100).map(|n| f64::from(n) / 100.0).collect();
        let histogram = histogram_of(&values, &[]);
        assert_eq!(edges_of(&histogram).first(), Some(&0.0));
        let last = histogram.bins.last().unwrap();
        assert_eq!((last.from, last.to, last.all), (Some(0.95), Some(1.0), 6));
        assert_eq!(histogram.bins[3].from, Some(0.15)); // and not 0.15000000000000002
    }

    #[test]
    fn sets_far_outliers_aside_in_open_bars() {
        let mut values: Vec<f64> = (0..1000).map(|n| 1.0 + f64::from(n) / 500.0).collect();
        values.extend([-7.5, 40.5, 90.25]);
        let histogram = histogram_of(&values, &[]);
        let (first, last) = (histogram.bins[0], *histogram.bins.last().unwrap());
        assert_eq!((first.from, first.all), (None, 1));
        assert_eq!((last.to, last.all, last.kept), (None, 2, 2));
        assert!(last.from.unwrap() <= 3.5, "{last:?}");
    }

    #[test]
    fn widens_the_axis_to_a_threshold_among_the_outliers() {
        let mut values: Vec<f64> = (0..1000).map(|n| 1.0 + f64::from(n) / 500.0).collect();
        values.push(90.25);
        assert!(histogram_of(&values, &[]).bins.last().unwrap().from.unwrap() < 4.0);
        assert!(histogram_of(&values, &[4.6]).bins.last().unwrap().from.unwrap() >= 4.6);
        // One that is too far off would crush the rest.
        assert!(histogram_of(&values, &[80.0]).bins.last().unwrap().from.unwrap() < 4.0);
    }

    #[test]
    fn takes_a_logarithmic_axis_for_more_than_three_decades() {
        let values: Vec<f64> = (0..400).map(|n| 2.0 * 10_f64.powf(f64::from(n) / 100.0)).collect();
        let histogram = histogram_of(&values, &[]);
        assert_eq!(histogram.scale, Scale::Log);
        assert_eq!(&edges_of(&histogram)[..5], [1.6, 2.5, 4.0, 6.3, 10.0]);
        // Zeros have no place on it, so they share an open bar.
        let with_zeros: Vec<f64> = [0.0, 0.0].into_iter().chain(values).collect();
        let histogram = histogram_of(&with_zeros, &[]);
        assert_eq!((histogram.bins[0].from, histogram.bins[0].to, histogram.bins[0].all), (None, Some(1.6), 2));
        // Shares near one span decades too, but sit well on a linear axis.
        let shares: Vec<f64> = std::iter::once(0.0001).chain((0..99).map(|n| 1.0 - f64::from(n) / 200.0)).collect();
        assert_eq!(histogram_of(&shares, &[]).scale, Scale::Linear);
    }

    #[test]
    fn takes_one_bar_a_decade_for_a_very_wide_range() {
        let values: Vec<f64> = (0..400).map(|n| 10_f64.powf(f64::from(n) / 25.0 - 4.5)).collect();
        let histogram = histogram_of(&values, &[]);
        assert_eq!(histogram.scale, Scale::Log);
        assert_eq!(&edges_of(&histogram)[..3], [1e-5, 1e-4, 1e-3]);
    }

    #[test]
    fn copes_with_constant_no_and_missing_values() {
        let constant = histogram_of(&[0.0; 5], &[]);
        assert_eq!(constant.bins.len(), 1);
        assert_eq!(histogram_of(&[0.37; 5], &[]).bins.iter().filter(|bin| bin.all > 0).count(), 1);
        assert_eq!(histogram_of(&[1e300, -1e300], &[]).bins.iter().filter(|bin| bin.all > 0).count(), 2);
        let extremes = histogram_of(&[5e-324, 1e-310, 1e-290, 1.0, 1e16, 1e16 + 2.0, 1e300], &[1e290]);
        assert!(
            extremes.bins.iter().all(|bin| bin.from.is_none_or(f64::is_finite) && bin.to.is_none_or(f64::is_finite))
        );
        assert!(histogram_of(&[1e16, 1e16 + 2.0], &[]).bins.len() < 40);
        let odd = [(None, true), (Some(f64::NAN), true), (Some(f64::INFINITY), false)];
        let histogram = with_numbers(SignalHistogram::default(), odd);
        assert_eq!((histogram.bins.len(), histogram.missing), (0, 3));
    }

    #[test]
    fn values_that_hardly_differ_take_no_more_room_however_many_they_are() {
        let mut values = Values::default();
        (0..100_000).for_each(|n| values.add(Some(1.0 + f64::from(n) / 100_000.0)));
        assert_eq!((values.count, values.alike.len()), (100_000, 1 << DIGITS));
        // A rank is found to within 0.4 %.
        for (rank, value) in [(0, 1.0), (1_000, 1.01), (50_000, 1.5), (99_999, 1.99999)] {
            let alike = values.at(rank);
            assert!(alike.least <= value && value <= alike.greatest, "{rank}: {alike:?}");
            assert!(alike.greatest - alike.least < 0.004 * value);
        }
    }

    #[test]
    fn leading_digits_are_in_the_order_of_values() {
        let rising = [-1e300, -3.0, -2.0, -1e-310, 0.0, 5e-324, 1e-9, 0.999, 1.0, 2.0, 1e300];
        assert!(rising.windows(2).all(|pair| leading_digits(pair[0]) <= leading_digits(pair[1])));
        assert!(leading_digits(-2.0) < leading_digits(-1.0) && leading_digits(511.0) < leading_digits(512.0));
    }

    #[test]
    fn counts_texts_and_joins_the_rare_ones() {
        let names: Vec<String> = (0..20).map(|n| format!("x{n:02}")).collect();
        let pairs = names.iter().map(|name| (Some(name.as_str()), true)).chain([
            (Some("en"), true),
            (Some("en"), false),
            (None, false),
        ]);
        let histogram = with_texts(SignalHistogram::default(), pairs);
        assert_eq!(histogram.missing, 1);
        assert_eq!(histogram.categories.len(), 13);
        assert_eq!(histogram.categories[0], Category { name: "en".to_owned(), all: 2, kept: 1 });
        assert_eq!(histogram.categories[1].name, "x00");
        assert_eq!(histogram.categories[12], Category { name: "9 other values".to_owned(), all: 9, kept: 9 });
    }
}
