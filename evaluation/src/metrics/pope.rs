//! POPE: whether a model sees objects that are not in the image.

use super::{Counted, Figure, Metric, PERCENT, Variant, label};
use crate::error::Result;
use crate::input::Item;

/// Polling-based object probing (Li et al. 2023, arXiv 2305.10355): yes-or-no questions.
///
/// Quirks of the official script, kept: only the text before the first full stop counts; it says no
/// if one of its words, split at single spaces, is `No`, `no` or `not`, and yes in all other cases.
/// So `NO`, `Nope`, `cannot`, `no\n` and an empty answer are yes. The ratio of yes is that of the
/// predictions; lmms-eval reports that of the labels.
///
/// A missing prediction, which the official script does not handle, is wrong. Precision is
/// undefined, not 0, if no prediction is yes, and F1 if no yes is right; the script fails.
///
/// `--strict` takes the first of the words yes, no and not, in any case; an answer without any of
/// them is wrong.
pub(super) const POPE: Metric = Metric {
    name: "pope",
    about: "Whether objects are in the image: accuracy, precision, recall, F1 and ratio of yes (POPE)",
    source: "github.com/AoiDragon/POPE@08d957b evaluate.py",
    figures: &[
        Figure { name: "accuracy", range: PERCENT },
        Figure { name: "precision", range: PERCENT },
        Figure { name: "recall", range: PERCENT },
        Figure { name: "f1", range: PERCENT },
        Figure { name: "yes_ratio", range: PERCENT },
    ],
    groups: &[],
    strict: Some("the first yes, no or not in any case counts; an answer without any is wrong"),
    count,
    compute,
};

/// Place of F1 among the figures.
const F1: usize = 3;

/// Makes these counts: true and false positives, true and false negatives.
fn count(items: &[Item], variant: Variant) -> Result<Counted> {
    let mut counted = Counted { redrawn: Some(redrawn), ..Counted::default() };
    let mut neither = 0;
    for item in items {
        let label = label(item, POPE.name)?;
        let said = item.prediction.and_then(|prediction| match variant {
            Variant::Official => Some(says_yes(prediction)),
            Variant::Strict => first_word(prediction),
        });
        neither += usize::from(said.is_none() && item.prediction.is_some());
        counted.rows.push(match (said.unwrap_or(!label), label) {
            (true, true) => vec![1.0, 0.0, 0.0, 0.0],
            (true, false) => vec![0.0, 1.0, 0.0, 0.0],
            (false, false) => vec![0.0, 0.0, 1.0, 0.0],
            (false, true) => vec![0.0, 0.0, 0.0, 1.0],
        });
        counted.parsed.push(said.map(|yes| if yes { "yes" } else { "no" }.to_owned()));
    }
    if neither > 0 {
        counted.notes.push(format!("{neither} answers say neither yes nor no; they count as wrong"));
    }
    Ok(counted)
}

fn says_yes(answer: &str) -> bool {
    let sentence = answer.split('.').next().unwrap_or_default().replace(',', "");
    !sentence.split(' ').any(|word| ["No", "not", "no"].contains(&word))
}

fn first_word(answer: &str) -> Option<bool> {
    let lower = answer.to_lowercase();
    lower.split(|character: char| !character.is_alphanumeric()).find_map(|word| match word {
        "yes" => Some(true),
        "no" | "not" => Some(false),
        _ => None,
    })
}

fn compute(sums: &[f64]) -> Vec<f64> {
    let mut figures = redrawn(sums);
    // As in the script: 2 · precision · recall / (precision + recall) is 0 / 0.
    if sums[0] == 0.0 {
        figures[F1] = f64::NAN;
    }
    figures
}

/// Computes the figures of a replicate or an image. F1 is 0, not undefined, if a yes is said or
/// expected but none is right, so that an image with only wrong answers counts.
fn redrawn(sums: &[f64]) -> Vec<f64> {
    let [true_yes, false_yes, true_no, false_no] = [sums[0], sums[1], sums[2], sums[3]];
    let all = true_yes + false_yes + true_no + false_no;
    let (precision, recall) = (true_yes / (true_yes + false_yes), true_yes / (true_yes + false_no));
    let f1 = 2.0 * true_yes / (2.0 * true_yes + false_yes + false_no);
    let shares = [(true_yes + true_no) / all, precision, recall, f1, (true_yes + false_yes) / all];
    shares.map(|share| 100.0 * share).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn answers_and_figures_are_those_of_the_official_script() {
        let golden = golden("pope.jsonl");
        let counted = golden.count(&POPE);
        for (row, parsed) in golden.rows.iter().zip(&counted.parsed) {
            assert_eq!(parsed.as_deref(), row["parsed"].as_str(), "{row}");
        }
        let all = golden.all.as_ref().unwrap();
        for (figure, found) in POPE.figures.iter().zip(golden.figures(&POPE)) {
            assert!((found - 100.0 * all[figure.name].as_f64().unwrap()).abs() < 1e-7, "{}: {found}", figure.name);
        }
    }

    #[test]
    fn a_missing_prediction_is_wrong_and_strict_knows_capitals() {
        let golden = golden("pope.jsonl");
        let mut items = golden.items();
        for item in &mut items {
            item.prediction = None;
        }
        let counted = count(&items, Variant::Official).unwrap();
        assert!(counted.rows.iter().all(|row| row[0] + row[2] == 0.0));
        assert_eq!(["NO.", "Nope", "Oh, yes"].map(first_word), [Some(false), None, Some(true)]);
        assert_eq!(["NO.", "Nope", "Oh, yes"].map(says_yes), [true; 3]);
    }
}
