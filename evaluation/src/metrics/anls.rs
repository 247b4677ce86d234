//! ANLS: similarity of the spelling of an answer.

use super::{Counted, Figure, Metric, PERCENT, Variant, answers, mean_percent, scores};
use crate::error::Result;
use crate::input::Item;
use crate::python::words;

/// Average normalised Levenshtein similarity of ST-VQA, DocVQA and InfographicVQA (Biten et al.,
/// "Scene text visual question answering", ICCV 2019, arXiv 1905.13648, equation 1).
///
/// 1 - (edits / longer length) for the nearest answer, and 0 where that is below 0.5. Texts are
/// compared in lower case with single spaces.
///
/// Quirk of the official script, kept: lengths are those of the original texts in upper case with
/// all their spaces, so superfluous spaces raise the score of a wrong answer, and `ß` has length 2.
pub(super) const ANLS: Metric = Metric {
    name: "anls",
    about: "Similarity of spelling to the nearest answer, 0 below one half (DocVQA, InfographicVQA, ST-VQA)",
    source: "InfographicVQA script of rrc.cvc.uab.es, as in github.com/QwenLM/Qwen-VL@aa00ed0 eval_mm/infographicsvqa_eval.py",
    figures: &[Figure { name: "anls", range: PERCENT }],
    groups: &[],
    strict: None,
    count,
    compute: mean_percent,
};

/// Similarities below this count as 0.
const THRESHOLD: f64 = 0.5;

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let rows = scores(items, |item, prediction| {
        let distance = |answer: &String| distance(answer, prediction);
        let nearest = answers(item, ANLS.name)?.iter().map(distance).fold(f64::INFINITY, f64::min);
        let similarity = 1.0 - nearest;
        Ok(if similarity < THRESHOLD { 0.0 } else { similarity })
    })?;
    Ok(Counted { rows, ..Counted::default() })
}

/// Returns the edits between two texts, divided by the longer length.
fn distance(answer: &str, prediction: &str) -> f64 {
    let plain = |text: &str| words(&text.to_lowercase()).collect::<Vec<_>>().join(" ");
    let capitals = |text: &str| text.to_uppercase().chars().count();
    let length = capitals(answer).max(capitals(prediction));
    if length == 0 {
        return 0.0;
    }
    strsim::levenshtein(&plain(answer), &plain(prediction)) as f64 / length as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn scores_are_those_of_the_official_script() {
        let golden = golden("anls.jsonl");
        golden.assert_each(&ANLS, |row| 100.0 * row["anls"].as_f64().unwrap());
        let all = golden.all.as_ref().unwrap()["anls"].as_f64().unwrap();
        assert!((golden.figures(&ANLS)[0] - 100.0 * all).abs() < 1e-7);
    }
}
