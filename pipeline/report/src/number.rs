//! Numbers in a readable form: `1,234`, `0.031`, `44%`.

/// Returns a count with thousands separators.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a measured value with two to three significant digits, and a true minus sign.
pub(crate) fn measure(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !size.is_finite() {
        return "–".to_owned();
    }
    if size >= 1000.0 || (size >= 1.0 && size.fract() == 0.0) {
        return with_sign(value, &count(size.round() as u64));
    }
    if size < 1e-4 {
        return with_sign(value, &format!("{size:.1e}"));
    }
    // Three digits from 0.1 on, two below, where a third would be noise.
    let order = size.log10().floor() as i32;
    let decimals = if order >= -1 { 2 - order.max(0) + i32::from(order < 0) } else { 1 - order };
    with_sign(value, &format!("{size:.*}", decimals as usize))
}

/// Returns a measured value that always carries its sign, for differences.
pub(crate) fn difference(value: f64) -> String {
    if value > 0.0 { format!("+{}", measure(value)) } else { measure(value) }
}

/// Returns a label of an axis whose marks are `step` apart: no more decimals than the marks need,
/// large values as `12k`.
pub(crate) fn tick(value: f64, step: f64) -> String {
    let size = value.abs();
    for (from, unit, suffix) in [(1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")] {
        if size >= from {
            return with_sign(value, &format!("{}{suffix}", tick(size / unit, step / unit)));
        }
    }
    if step >= 1.0 && size.fract() == 0.0 {
        return with_sign(value, &count(size as u64));
    }
    let wanted = (0..=8).find(|&n| {
        let scaled = step * 10_f64.powi(n);
        (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
    });
    let text = format!("{size:.*}", wanted.unwrap_or(2) as usize);
    // 0.0 is written 0, so that the middle of an axis is easy to see.
    if size == 0.0 { "0".to_owned() } else { with_sign(value, &text) }
}

/// Returns one edge of a bin, with all the digits that it needs and no more.
pub(crate) fn edge(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 && size.fract() == 0.0 {
        return with_sign(value, &count(size as u64));
    }
    // Edges are short decimals with floating-point noise at the end: twelve digits hide it.
    let rounded: f64 = format!("{size:.12e}").parse().expect("a formatted float parses");
    with_sign(value, &rounded.to_string())
}

/// Returns a share of a whole in percent; a small share keeps one digit, so that it does not read
/// as 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let share = 100.0 * part as f64 / whole as f64;
    if part == 0 || part == whole {
        format!("{share:.0}%")
    } else if share < 0.1 {
        "<0.1%".to_owned()
    } else if share > 99.9 {
        ">99.9%".to_owned()
    } else if !(10.0..99.5).contains(&share) {
        format!("{share:.1}%")
    } else {
        format!("{share:.0}%")
    }
}

/// Returns a probability, never rounded down to zero.
pub(crate) fn probability(value: f64) -> String {
    if value < 0.001 { "<0.001".to_owned() } else { format!("{value:.3}") }
}

fn with_sign(value: f64, size: &str) -> String {
    if value < 0.0 { format!("−{size}") } else { size.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separates_thousands() {
        let written: Vec<String> = [0, 7, 999, 1_000, 12_345, 1_234_567].map(count).into();
        assert_eq!(written, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn keeps_the_digits_that_matter() {
        for (value, written) in [
            (0.0, "0"),
            (0.031_24, "0.031"),
            (0.312_4, "0.312"),
            (3.124, "3.12"),
            (31.24, "31.2"),
            (312.4, "312"),
            (31_240.4, "31,240"),
            (-0.002_5, "−0.0025"),
            (0.000_031_2, "3.1e-5"),
            (12.0, "12"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(measure(value), written);
        }
        assert_eq!(difference(0.031), "+0.031");
        assert_eq!(difference(-0.031), "−0.031");
    }

    #[test]
    fn labels_an_axis_with_as_few_digits_as_it_needs() {
        for (value, step, written) in [
            (0.0, 0.2, "0"),
            (0.4, 0.2, "0.4"),
            (0.25, 0.25, "0.25"),
            (1500.0, 500.0, "1,500"),
            (20_000.0, 5_000.0, "20k"),
            (12_500.0, 2_500.0, "12.5k"),
            (2_000_000.0, 500_000.0, "2.0M"),
            (-0.02, 0.01, "−0.02"),
        ] {
            assert_eq!(tick(value, step), written);
        }
    }

    #[test]
    fn writes_an_edge_without_floating_point_noise() {
        assert_eq!(edge(0.1 + 0.2), "0.3");
        assert_eq!(edge(12_000.0), "12,000");
        assert_eq!(edge(-2.5), "−2.5");
    }

    #[test]
    fn never_calls_something_nothing() {
        for (part, whole, written) in [
            (0, 10, "0%"),
            (10, 10, "100%"),
            (1, 3195, "<0.1%"),
            (3194, 3195, ">99.9%"),
            (45, 3195, "1.4%"),
            (1400, 3195, "44%"),
            (1, 0, "–"),
        ] {
            assert_eq!(percent(part, whole), written);
        }
        assert_eq!(probability(0.000_1), "<0.001");
        assert_eq!(probability(0.031_25), "0.031");
    }
}
