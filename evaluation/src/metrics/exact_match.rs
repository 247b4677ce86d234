//! Exact match: the answer equals one of the reference answers, except for case and punctuation.

use super::{Counted, Figure, Metric, PERCENT, Variant, answers, mean_percent, scores};
use crate::error::Result;
use crate::input::Item;

/// `exact_match` of Hugging Face evaluate and lmms-eval with `ignore_case` and
/// `ignore_punctuation`, against any of the answers.
///
/// The 32 ASCII punctuation marks are deleted; spaces count. `--strict` compares the unchanged
/// texts, which is the default of both.
pub(super) const EXACT_MATCH: Metric = Metric {
    name: "exact_match",
    about: "The answer equals a reference answer, except for case and punctuation",
    source: "github.com/EvolvingLMMs-Lab/lmms-eval@75571cf lmms_eval/api/metrics.py exact_match_hf_evaluate",
    figures: &[Figure { name: "exact_match", range: PERCENT }],
    groups: &[],
    strict: Some("texts are compared unchanged"),
    count,
    compute: mean_percent,
};

fn count(items: &[Item], variant: Variant) -> Result<Counted> {
    let plain = |text: &str| match variant {
        Variant::Official => text.to_lowercase().replace(|mark: char| mark.is_ascii_punctuation(), ""),
        Variant::Strict => text.to_owned(),
    };
    let rows = scores(items, |item, prediction| {
        let prediction = plain(prediction);
        let is_equal = answers(item, EXACT_MATCH.name)?.iter().any(|answer| plain(answer) == prediction);
        Ok(f64::from(u8::from(is_equal)))
    })?;
    Ok(Counted { rows, ..Counted::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn matches_are_those_of_lmms_eval() {
        let golden = golden("exact_match.jsonl");
        golden.assert_each(&EXACT_MATCH, |row| 100.0 * row["match"].as_f64().unwrap());
        let strict = (EXACT_MATCH.count)(&golden.items(), Variant::Strict).unwrap();
        for (row, counts) in golden.rows.iter().zip(&strict.rows) {
            assert!((counts[0] - row["raw"].as_f64().unwrap()).abs() < 1e-9, "{row}");
        }
    }
}
