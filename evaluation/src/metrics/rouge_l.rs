//! ROUGE-L: the longest common subsequence of words of a caption and a reference.

use super::captions::tokenised;
use super::{Counted, Figure, Metric, PERCENT, Variant, mean_percent};
use crate::error::Result;
use crate::input::Item;

/// ROUGE-L (Lin 2004) as in coco-caption: the F measure with β = 1.2 of the best precision and the
/// best recall over references, which may come from different references.
///
/// Quirk of the official script, kept: an empty caption is one empty word, so it equals a reference
/// of punctuation only. A missing prediction scores 0.
pub(super) const ROUGE_L: Metric = Metric {
    name: "rouge_l",
    about: "Longest common subsequence of words of a caption and its references (COCO Captions)",
    source: "github.com/salaniz/pycocoevalcap 1.2 rouge/rouge.py (tylin/coco-caption in Python 3)",
    figures: &[Figure { name: "rouge_l", range: PERCENT }],
    groups: &[],
    strict: None,
    count,
    compute: mean_percent,
};

/// Weight of recall.
const BETA: f64 = 1.2;

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let mut counted = Counted::default();
    for (item, caption) in items.iter().zip(tokenised(items, ROUGE_L.name)?) {
        let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
        let prediction = at_least_one(caption.prediction);
        for reference in caption.references {
            let reference = at_least_one(reference);
            let common = longest_common(&prediction, &reference) as f64;
            precision = precision.max(common / prediction.len() as f64);
            recall = recall.max(common / reference.len() as f64);
        }
        let is_none = item.prediction.is_none() || precision == 0.0 || recall == 0.0;
        let squared = BETA * BETA;
        let score = if is_none { 0.0 } else { (1.0 + squared) * precision * recall / (recall + squared * precision) };
        counted.rows.push(vec![score, 1.0]);
    }
    Ok(counted)
}

/// Turns an empty text into one empty word, as Python's `"".split(" ")` does.
fn at_least_one(tokens: Vec<String>) -> Vec<String> {
    if tokens.is_empty() { vec![String::new()] } else { tokens }
}

/// Returns the length of the longest common subsequence.
fn longest_common(left: &[String], right: &[String]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for left in left {
        let mut diagonal = 0;
        for (index, right) in right.iter().enumerate() {
            let above = row[index + 1];
            row[index + 1] = if left == right { diagonal + 1 } else { above.max(row[index]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn scores_are_those_of_coco_caption() {
        let golden = golden("captions.jsonl");
        golden.assert_each(&ROUGE_L, |row| 100.0 * row["rouge_l"].as_f64().unwrap());
        let all = golden.all.as_ref().unwrap()["rouge_l"].as_f64().unwrap();
        assert!((golden.figures(&ROUGE_L)[0] - 100.0 * all).abs() < 1e-7);
    }
}
