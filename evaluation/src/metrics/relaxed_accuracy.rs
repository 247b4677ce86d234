//! Relaxed accuracy: numbers may be off by 5 %.

use super::{Counted, Figure, Metric, PERCENT, Variant, answers, mean_percent, scores};
use crate::error::Result;
use crate::input::Item;
use crate::python::float;

/// The relaxed accuracy of ChartQA (Masry et al. 2022, arXiv 2203.10244, section 5.1).
///
/// Numbers are right within 5 % of the answer, other texts if they are equal except for case. The
/// repository of ChartQA has no script; papers use that of pix2struct.
///
/// Quirks of this script, kept: `5%` is 0.05, so it differs from `5`; a number with commas or a
/// unit is a text; an answer of 0 is compared as text; texts are not stripped; and `inf` and `nan`
/// are numbers that equal none, not even themselves.
///
/// `--strict` reads `1,000`, `$5` and `5%` as 1000, 5 and 5, compares an answer of 0 as a number,
/// strips white space and full stops at the end of texts, and compares `inf` and `nan` as texts.
pub(super) const RELAXED_ACCURACY: Metric = Metric {
    name: "relaxed_accuracy",
    about: "Numbers within 5 % of the answer, other texts equal except for case (ChartQA, PlotQA)",
    source: "github.com/google-research/pix2struct@945f27e pix2struct/metrics.py relaxed_correctness",
    figures: &[Figure { name: "accuracy", range: PERCENT }],
    groups: &[],
    strict: Some("1,000, $5 and 5% are the numbers 1000, 5 and 5, and 0 is a number"),
    count,
    compute: mean_percent,
};

/// The maximum relative error of a correct number.
const TOLERANCE: f64 = 0.05;

fn count(items: &[Item], variant: Variant) -> Result<Counted> {
    let rows = scores(items, |item, prediction| {
        let correct = |answer: &String| match variant {
            Variant::Official => is_correct(answer, prediction),
            Variant::Strict => is_correct_strictly(answer, prediction),
        };
        Ok(f64::from(u8::from(answers(item, RELAXED_ACCURACY.name)?.iter().any(correct))))
    })?;
    Ok(Counted { rows, ..Counted::default() })
}

fn is_correct(answer: &str, prediction: &str) -> bool {
    let number = |text: &str| match text.strip_suffix('%') {
        Some(_) => float(text.trim_end_matches('%')).map(|percent| percent / 100.0),
        None => float(text),
    };
    match (number(prediction), number(answer)) {
        (Some(predicted), Some(target)) if target != 0.0 => (predicted - target).abs() / target.abs() <= TOLERANCE,
        _ => prediction.to_lowercase() == answer.to_lowercase(),
    }
}

fn is_correct_strictly(answer: &str, prediction: &str) -> bool {
    let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
    // Any number is within 5 % of an infinite one, and NaN equals nothing, so both stay texts.
    let number = |text: &str| {
        float(&plain(text).trim_start_matches('$').trim_end_matches('%').replace(',', "")).filter(|it| it.is_finite())
    };
    match (number(prediction), number(answer)) {
        (Some(predicted), Some(target)) => (predicted - target).abs() <= TOLERANCE * target.abs(),
        _ => plain(prediction) == plain(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::{assert_close, golden};

    #[test]
    fn answers_are_right_where_the_official_script_says_so() {
        let golden = golden("relaxed_accuracy.jsonl");
        golden.assert_each(&RELAXED_ACCURACY, |row| f64::from(u8::from(row["correct"].as_bool().unwrap())) * 100.0);
        assert_close(golden.figures(&RELAXED_ACCURACY)[0], &golden.all.as_ref().unwrap()["accuracy"]);
    }

    // By pix2struct's function under Python 3.11.
    #[test]
    fn infinity_and_separators_are_read_as_by_the_official_script() {
        for (answer, prediction, correct) in [
            ("inf", "inf", false),
            ("inf", "5", false),
            ("5", "inf", false),
            ("nan", "nan", false),
            ("nan", "5", false),
            ("1e400", "inf", false),
            ("5", "5\u{1f}", false),
            ("5\u{1f}", "5", false),
            ("5\u{1f}", "5\u{1f}", true),
        ] {
            assert_eq!(is_correct(answer, prediction), correct, "{answer:?} {prediction:?}");
        }
    }

    #[test]
    fn strict_knows_more_numbers() {
        for (answer, prediction) in [("1,000", "1000"), ("5", "5%"), ("0", "0.0"), ("$5", "5.1"), ("Blue", "blue. ")] {
            assert!(
                is_correct_strictly(answer, prediction) && !is_correct(answer, prediction),
                "{answer} {prediction}"
            );
        }
        assert!(!is_correct_strictly("inf", "5") && !is_correct_strictly("5", "inf"));
        assert!(is_correct_strictly("Infinity", "infinity") && is_correct_strictly("NaN", "nan"));
        assert!(!is_correct_strictly("0", "0.1") && !is_correct_strictly("5", "0.05") && !is_correct_strictly("", "5"));
    }
}
