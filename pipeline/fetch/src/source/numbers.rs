//! Parses numbers in text fields, as in CSV and TSV.

/// The value of a field that is a number or a missing one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Float(f64),
    /// An empty field, or a word for a missing number, NaN or infinity.
    Missing,
}

/// Words for a missing value: those of pandas (`STR_NA_VALUES` in `pandas/_libs/parsers.pyx`), and
/// `\N` of MySQL, Hive and PostgreSQL.
const MISSING: [&str; 19] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null", "\\N",
];

/// Maximum number of digits before the point of a decimal number: all such integers are exact in a
/// 64-bit float.
const MAX_WHOLE_DIGITS: usize = 15;

/// Parses a field as a number. Returns `None` if it is a text, or if a number would lose
/// information: leading zeros or a plus sign, as in telephone numbers and digests, and integers
/// beyond 64 bits. A number with an exponent must have one digit before the point, as programs
/// write it.
pub(super) fn parse(field: &str) -> Option<Number> {
    let text = field.trim();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if text.is_empty() || MISSING.contains(&text) || is_infinite(text) {
        return Some(Number::Missing);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !fraction.is_none_or(is_digits) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    match (fraction, exponent) {
        (None, None) if text == "-0" => Some(Number::Float(-0.0)),
        (None, None) => text.parse().ok().map(Number::Integer),
        (fraction, exponent) => {
            let has_digits = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
            let is_exponent = |text: &str| {
                let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
                whole.len() == 1 && !digits.is_empty() && is_digits(digits)
            };
            if !has_digits || whole.len() > MAX_WHOLE_DIGITS || !exponent.is_none_or(is_exponent) {
                return None;
            }
            text.parse().ok().filter(|number: &f64| number.is_finite()).map(Number::Float)
        }
    }
}

fn is_infinite(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_told_from_what_only_looks_like_one() {
        for (text, expected) in [
            ("0", Some(Number::Integer(0))),
            ("-17", Some(Number::Integer(-17))),
            (" 17 ", Some(Number::Integer(17))),
            ("9223372036854775807", Some(Number::Integer(i64::MAX))),
            ("0.5", Some(Number::Float(0.5))),
            ("-.5", Some(Number::Float(-0.5))),
            ("5.", Some(Number::Float(5.0))),
            ("1e-05", Some(Number::Float(1e-5))),
            ("1.5E+20", Some(Number::Float(1.5e20))),
            ("", Some(Number::Missing)),
            ("  ", Some(Number::Missing)),
            ("NaN", Some(Number::Missing)),
            ("N/A", Some(Number::Missing)),
            ("\\N", Some(Number::Missing)),
            ("-inf", Some(Number::Missing)),
            ("Infinity", Some(Number::Missing)),
            ("007", None),
            ("-007.5", None),
            ("+49301234", None),
            ("9223372036854775808", None),
            ("12345678901234567.5", None),
            ("12e45678", None),
            ("1e999", None),
            ("0x1f", None),
            ("1,5", None),
            ("1_000", None),
            ("-", None),
            (".", None),
            ("e5", None),
            ("1e", None),
            ("1.2.3", None),
            ("½", None),
            ("unknown", None),
            ("true", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_as_programs_write_them_are_read_back(integer: i64, float in proptest::num::f64::NORMAL) {
            prop_assert_eq!(parse(&integer.to_string()), Some(Number::Integer(integer)));
            prop_assert_eq!(parse(&format!("{float:e}")), Some(Number::Float(float)));
        }

        #[test]
        fn an_integer_is_kept_to_the_letter(text in "-?[0-9]{1,25}") {
            if let Some(Number::Integer(integer)) = parse(&text) {
                prop_assert_eq!(integer.to_string(), text);
            }
        }
    }
}
