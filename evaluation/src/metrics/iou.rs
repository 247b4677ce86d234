//! Boxes: whether a box in an answer overlaps the right one by half.

use std::sync::LazyLock;

use regex::Regex;

use super::{Counted, Figure, Metric, PERCENT, Variant, unfit};
use crate::error::Result;
use crate::input::Item;

/// Accuracy at an intersection over union of 0.5, as for RefCOCO (Kazemzadeh et al. 2014; Yu et al.
/// 2016), and the mean intersection over union.
///
/// The box of a prediction is the first `[x1, y1, x2, y2]` in it, with numbers without exponent;
/// otherwise `(x1,y1),(x2,y2)` as Qwen-VL writes it, which the official parser does not know. Its
/// unit must be that of the reference; if it seems to be another, a note says so. The box of a
/// reference is a list of numbers, which may have exponents; the official script does not parse it.
///
/// An answer without a box counts as `[0, 0, 0, 0]`, and a note says so. So does a box with a
/// number above the range of 64-bit floats. A box with exchanged corners is used unchanged, as in
/// the official script.
pub(super) const IOU: Metric = Metric {
    name: "iou",
    about: "Boxes that overlap the right one by half: accuracy at 0.5 and mean overlap (RefCOCO)",
    source: "github.com/EvolvingLMMs-Lab/lmms-eval@75571cf lmms_eval/tasks/refcoco/utils_rec.py",
    figures: &[Figure { name: "accuracy_at_0.5", range: PERCENT }, Figure { name: "mean_iou", range: PERCENT }],
    groups: &[],
    strict: None,
    count,
    compute,
};

/// Minimum overlap of a right box.
const THRESHOLD: f64 = 0.5;

static IN_BRACKETS: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(-?\d+(?:\.\d+)?)";
    let pattern = format!(r"\[\s*{number},\s*{number},\s*{number},\s*{number}\s*\]");
    Regex::new(&pattern).expect("a constant pattern")
});
static CORNERS: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"\s*(-?\d+(?:\.\d+)?)\s*";
    Regex::new(&format!(r"\({number},{number}\)\s*,\s*\({number},{number}\)")).expect("a constant pattern")
});

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let mut counted = Counted::default();
    let (mut without_box, mut other_unit) = (0, 0);
    for item in items {
        let right = match item.reference.answers.as_slice() {
            [answer] => listed(answer).or_else(|| parse(answer)),
            // The numbers of a list, which looks like four answers.
            answers => listed(&format!("[{}]", answers.join(","))),
        };
        let Some(right) = right else {
            return Err(unfit(item, IOU.name, "one answer, the box [x1, y1, x2, y2]".to_owned()));
        };
        let found = item.prediction.and_then(parse);
        without_box += usize::from(found.is_none() && item.prediction.is_some());
        let is_share = |numbers: &[f64; 4]| numbers.iter().all(|number| *number <= 1.0);
        other_unit += usize::from(found.is_some_and(|found| is_share(&found) != is_share(&right)));
        let overlap = overlap(&right, &found.unwrap_or_default());
        counted.rows.push(vec![f64::from(u8::from(overlap >= THRESHOLD)), overlap, 1.0]);
        counted.parsed.push(found.map(|numbers| format!("[{}]", numbers.map(decimal).join(", "))));
    }
    if without_box > 0 {
        counted.notes.push(format!("{without_box} answers have no box; they count as wrong"));
    }
    if other_unit > 0 {
        counted.notes.push(format!(
            "{other_unit} boxes seem to be in another unit than the reference (pixels or thousandths against fractions of \
             the image); convert both to the same unit"
        ));
    }
    Ok(counted)
}

/// Returns the box of a reference that is a list in JSON, where small numbers have exponents.
fn listed(answer: &str) -> Option<[f64; 4]> {
    serde_json::from_str(answer).ok()
}

/// Returns a number without exponent, so that the same box is found in what was written.
fn decimal(number: f64) -> String {
    Some(format!("{number:?}")).filter(|text| !text.contains('e')).unwrap_or_else(|| number.to_string())
}

fn parse(answer: &str) -> Option<[f64; 4]> {
    let groups = IN_BRACKETS.captures(answer).or_else(|| CORNERS.captures(answer))?;
    let number = |group| crate::python::float(groups.get(group)?.as_str());
    let numbers = [number(1)?, number(2)?, number(3)?, number(4)?];
    numbers.iter().all(|number| number.is_finite()).then_some(numbers)
}

/// Returns the intersection over union; 0 for two boxes without area, for which the official script
/// fails, and for areas above the range of floats.
fn overlap(left: &[f64; 4], right: &[f64; 4]) -> f64 {
    let width = left[2].min(right[2]) - left[0].max(right[0]);
    let height = left[3].min(right[3]) - left[1].max(right[1]);
    let both = width.max(0.0) * height.max(0.0);
    let area = |corners: &[f64; 4]| (corners[2] - corners[0]) * (corners[3] - corners[1]);
    let either = area(left) + area(right) - both;
    Some(both / either).filter(|overlap| overlap.is_finite()).unwrap_or(0.0)
}

fn compute(sums: &[f64]) -> Vec<f64> {
    vec![100.0 * sums[0] / sums[2], 100.0 * sums[1] / sums[2]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn overlaps_are_those_of_lmms_eval() {
        let golden = golden("iou.jsonl");
        golden.assert_each(&IOU, |row| f64::from(u8::from(row["hit"].as_bool().unwrap())) * 100.0);
        for (row, counts) in golden.rows.iter().zip(&golden.count(&IOU).rows) {
            assert!((counts[1] - row["iou"].as_f64().unwrap()).abs() < 1e-9, "{row}: {}", counts[1]);
        }
    }

    fn counted(reference: &str, prediction: &str) -> Counted {
        let text = format!("{{\"id\": 1, {reference}}}");
        let source = crate::input::Source { name: "r", text: &text };
        let references = crate::input::read_references(&[source]).unwrap().rows;
        count(&[Item { reference: &references[0], prediction: Some(prediction) }], Variant::Official).unwrap()
    }

    #[test]
    fn boxes_of_references_may_have_exponents() {
        for (prediction, hit) in [("[0, 0.2, 0.5, 0.9]", 1.0), ("[1e-7, 0.2, 0.5, 0.9]", 0.0)] {
            let found = counted("\"box\": [1e-7, 0.2, 5E-1, 0.9]", prediction);
            // The official parser finds no box in a prediction with an exponent.
            assert!((found.rows[0][0] - hit).abs() < 1e-9, "{prediction}: {:?}", found.rows);
        }
    }

    #[test]
    fn a_box_that_was_written_is_found_again() {
        let first = counted("\"box\": [0.00001, 0, 0.00005, 0.5]", "[0.00001, 0, 0.00005, 0.5]");
        let written = first.parsed[0].as_deref().unwrap();
        assert_eq!(written, "[0.00001, 0.0, 0.00005, 0.5]");
        assert_eq!(counted("\"box\": [0.00001, 0, 0.00005, 0.5]", written).rows, first.rows);
    }

    #[test]
    fn a_box_of_a_reference_may_be_a_list_of_answers() {
        for reference in ["\"answer\": [0, 0, 20, 20]", "\"answer\": \"[0, 0, 20, 20]\"", "\"bbox\": [0, 0, 20, 20]"] {
            assert!((counted(reference, "[0, 0, 20, 20]").rows[0][1] - 1.0).abs() < 1e-9, "{reference}");
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_no_box() {
        let huge = "9".repeat(400);
        let found = counted("\"box\": [0, 0, 20, 20]", &format!("[{huge}, 0, {huge}, 1]"));
        assert!(found.rows[0][1].abs() < 1e-9 && found.notes[0].contains("1 answers have no box"), "{found:?}");
        let large = format!("[0, 0, {0}, {0}]", "9".repeat(300));
        assert!(counted(&format!("\"box\": {large}"), &large).rows[0][1].abs() < 1e-9);
    }

    #[test]
    fn boxes_of_qwen_vl_are_read() {
        assert_eq!(parse("<box>(1,2),(3,4)</box>"), Some([1.0, 2.0, 3.0, 4.0]));
        assert!(overlap(&[0.0; 4], &[0.0; 4]).abs() < 1e-9);
    }
}
