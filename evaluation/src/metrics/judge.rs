//! Judge: the share of answers that another model judges correct.

use super::{Counted, Figure, Metric, PERCENT, Variant};
use crate::error::Result;
use crate::input::Item;
use crate::judge::parse_verdict;

/// The share of answers that, by a language model, imply the right one, as for Open-VQA in the Lynx
/// paper (Zeng et al. 2023, arXiv 2307.02469, section 3.1).
///
/// The predictions of the items are the replies of the judge, not the answers of the model. A
/// question with a reply that is neither yes nor no is left out, and a note says so; a missing
/// reply counts as no.
pub(super) const JUDGE: Metric = Metric {
    name: "judge",
    about: "Answers that a language model judges correct (Open-VQA)",
    source: "arXiv 2307.02469 (Lynx), the prompt of its evaluation of Open-VQA",
    figures: &[Figure { name: "accuracy", range: PERCENT }],
    groups: &[],
    strict: None,
    count,
    compute: super::mean_percent,
};

#[expect(clippy::unnecessary_wraps, reason = "all metrics count with one type of function")]
fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut unclear = Vec::new();
    for item in items {
        let verdict = item.prediction.map(parse_verdict);
        counted.rows.push(match verdict {
            Some(Some(yes)) => vec![f64::from(u8::from(yes)), 1.0],
            Some(None) => vec![0.0, 0.0],
            None => vec![0.0, 1.0],
        });
        if verdict == Some(None) {
            unclear.push(item.reference.id.as_str());
        }
        counted.parsed.push(verdict.flatten().map(|yes| if yes { "yes" } else { "no" }.to_owned()));
    }
    if let Some(first) = unclear.first() {
        let number = unclear.len();
        counted.notes.push(format!(
            "{number} replies of the judge are neither yes nor no, such as that for id {first}; those questions are left out"
        ));
    }
    Ok(counted)
}
