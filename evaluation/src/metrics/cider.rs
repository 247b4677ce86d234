//! CIDEr-D: n-grams that a caption shares with its references; rare ones count more.

use std::collections::{BTreeMap, BTreeSet};

use super::captions::{LONGEST, Tokenised, n_grams, tokenised};
use super::{Counted, Figure, Metric, Variant, mean_percent};
use crate::error::Result;
use crate::input::Item;

/// CIDEr-D (Vedantam, Zitnick and Parikh 2015, arXiv 1411.5726) as in coco-caption, times 100 as in
/// papers.
///
/// The weight of an n-gram is its count, multiplied by the logarithm of the number of images over
/// the number of images whose references have it. So a score depends on all references that are
/// scored together; figures of a category, and replicates of the bootstrap, keep the weights of the
/// whole set. A single image always has the score 0, and a note says so.
///
/// Quirk of the official script, kept: the length in the length penalty is the number of bigrams.
pub(super) const CIDER: Metric = Metric {
    name: "cider",
    about: "N-grams of a caption and its references, rare ones counting more (COCO Captions, NoCaps)",
    source: "github.com/salaniz/pycocoevalcap 1.2 cider/cider_scorer.py (tylin/coco-caption in Python 3)",
    // The score of a caption that equals its reference is 1,000, but scores of models are far from
    // that.
    figures: &[Figure { name: "cider", range: None }],
    groups: &[],
    strict: None,
    count,
    compute: mean_percent,
};

/// Standard deviation of the Gaussian penalty for a different length.
const SIGMA: f64 = 6.0;
/// Score of a perfect caption, before it is multiplied by 100.
const MOST: f64 = 10.0;

/// The weights of the n-grams of a caption.
struct Weighted<'a> {
    /// Weights by length of n-gram.
    weights: [BTreeMap<&'a [String], f64>; LONGEST],
    norms: [f64; LONGEST],
    bigrams: f64,
}

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let captions = tokenised(items, CIDER.name)?;
    let mut pictures: BTreeMap<&[String], f64> = BTreeMap::new();
    for caption in &captions {
        let seen: BTreeSet<&[String]> =
            caption.references.iter().flat_map(|tokens| n_grams(tokens).into_keys()).collect();
        for n_gram in seen {
            *pictures.entry(n_gram).or_default() += 1.0;
        }
    }
    let rarest = (captions.len() as f64).ln();
    let rarity = |n_gram: &[String]| rarest - pictures.get(n_gram).copied().unwrap_or(1.0).ln();
    let rows = captions.iter().map(|caption| vec![score(caption, &rarity), 1.0]).collect();
    let mut notes = Vec::new();
    if captions.len() == 1 {
        notes.push(
            "CIDEr of a single image is always 0: its references are the whole corpus, so no n-gram is rare".to_owned(),
        );
    }
    Ok(Counted { rows, notes, ..Counted::default() })
}

fn score(caption: &Tokenised, rarity: &impl Fn(&[String]) -> f64) -> f64 {
    let prediction = weighted(&caption.prediction, rarity);
    let mut total = 0.0;
    for reference in &caption.references {
        let reference = weighted(reference, rarity);
        let penalty = (-(prediction.bigrams - reference.bigrams).powi(2) / (2.0 * SIGMA * SIGMA)).exp();
        for length in 0..LONGEST {
            let common = prediction.weights[length].iter().map(|(n_gram, weight)| {
                let other = reference.weights[length].get(n_gram).copied().unwrap_or_default();
                weight.min(other) * other
            });
            let norm = prediction.norms[length] * reference.norms[length];
            let cosine = common.sum::<f64>() / if norm == 0.0 { 1.0 } else { norm };
            total += cosine * penalty;
        }
    }
    MOST * total / (LONGEST * caption.references.len()) as f64
}

fn weighted<'a>(tokens: &'a [String], rarity: &impl Fn(&[String]) -> f64) -> Weighted<'a> {
    let mut weighted = Weighted { weights: Default::default(), norms: [0.0; LONGEST], bigrams: 0.0 };
    for (n_gram, count) in n_grams(tokens) {
        let weight = count as f64 * rarity(n_gram);
        weighted.weights[n_gram.len() - 1].insert(n_gram, weight);
        weighted.norms[n_gram.len() - 1] += weight * weight;
        if n_gram.len() == 2 {
            weighted.bigrams += count as f64;
        }
    }
    weighted.norms = weighted.norms.map(f64::sqrt);
    weighted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn scores_are_those_of_coco_caption() {
        let golden = golden("captions.jsonl");
        golden.assert_each(&CIDER, |row| 100.0 * row["cider"].as_f64().unwrap());
        let all = golden.all.as_ref().unwrap()["cider"].as_f64().unwrap();
        assert!((golden.figures(&CIDER)[0] - 100.0 * all).abs() < 1e-7);
    }
}
