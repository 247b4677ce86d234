//! BLEU: n-grams of a caption that occur in its references.

use std::collections::BTreeMap;

use super::captions::{LONGEST, n_grams, tokenised};
use super::{Counted, Figure, Metric, Variant};
use crate::error::Result;
use crate::input::Item;

/// BLEU over a corpus (Papineni et al. 2002) as in coco-caption: BLEU-4, and BLEU-1 to 3.
///
/// Counts of all captions are summed before the division. The brevity penalty uses the length of
/// the nearest reference, or the shorter of two equally near ones. Without any four equal words in
/// a row, BLEU-4 of a corpus is not 0 but nearly so, since 1e-15 is added to every count and 1e-9
/// to every total. Tokens are those of the PTB tokenizer.
pub(super) const BLEU: Metric = Metric {
    name: "bleu",
    about: "N-grams of a caption that occur in its references, over the corpus (COCO Captions)",
    source: "github.com/salaniz/pycocoevalcap 1.2 bleu/bleu_scorer.py, option closest (tylin/coco-caption in Python 3)",
    figures: &[
        Figure { name: "bleu_4", range: None },
        Figure { name: "bleu_1", range: None },
        Figure { name: "bleu_2", range: None },
        Figure { name: "bleu_3", range: None },
    ],
    groups: &[],
    strict: None,
    count,
    compute,
};

/// Added to counts, so that their logarithm exists.
const TINY: f64 = 1e-15;
/// Added to totals, so that no division is by 0.
const SMALL: f64 = 1e-9;

/// Makes these counts: matching n-grams of four lengths, all n-grams of four lengths, tokens of the
/// prediction, tokens of the nearest reference.
fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let mut counted = Counted::default();
    for caption in tokenised(items, BLEU.name)? {
        let mut most: BTreeMap<&[String], usize> = BTreeMap::new();
        for reference in &caption.references {
            for (n_gram, count) in n_grams(reference) {
                let most = most.entry(n_gram).or_default();
                *most = count.max(*most);
            }
        }
        let mut row = vec![0.0; 2 * LONGEST];
        for (n_gram, count) in n_grams(&caption.prediction) {
            row[n_gram.len() - 1] += count.min(most.get(n_gram).copied().unwrap_or_default()) as f64;
            row[LONGEST + n_gram.len() - 1] += count as f64;
        }
        let length = caption.prediction.len();
        let nearest = caption.references.iter().map(Vec::len).min_by_key(|other| (other.abs_diff(length), *other));
        row.extend([length as f64, nearest.unwrap_or_default() as f64]);
        counted.rows.push(row);
    }
    Ok(counted)
}

fn compute(sums: &[f64]) -> Vec<f64> {
    let (length, of_reference) = (sums[2 * LONGEST], sums[2 * LONGEST + 1]);
    let ratio = (length + TINY) / (of_reference + SMALL);
    let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
    let mut product = 1.0;
    let mut bleu = Vec::with_capacity(LONGEST);
    for order in 1..=LONGEST {
        product *= (sums[order - 1] + TINY) / (sums[LONGEST + order - 1] + SMALL);
        bleu.push(100.0 * penalty * product.powf(1.0 / order as f64));
    }
    bleu.rotate_right(1);
    bleu
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn scores_of_each_caption_and_of_the_corpus_are_those_of_coco_caption() {
        let golden = golden("captions.jsonl");
        golden.assert_each(&BLEU, |row| 100.0 * row["bleu"][3].as_f64().unwrap());
        let expected = &golden.all.as_ref().unwrap()["bleu"];
        for (found, order) in golden.figures(&BLEU).iter().zip([3, 0, 1, 2]) {
            assert!((found - 100.0 * expected[order].as_f64().unwrap()).abs() < 1e-7, "{order}: {found}");
        }
    }

    #[test]
    fn tokens_of_predictions_are_those_of_the_golden_file() {
        let golden = golden("captions.jsonl");
        let captions = tokenised(&golden.items(), "bleu").unwrap();
        for (row, caption) in golden.rows.iter().zip(captions) {
            assert_eq!(caption.prediction.join(" "), row["tokens"].as_str().unwrap(), "{row}");
        }
    }
}
