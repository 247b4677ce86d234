//! The metrics: one file each, with the source of its definition.
//!
//! A metric makes a row of counts for each question, and computes every figure, such as precision,
//! from the sum of rows. So the same function computes a figure for all questions, for a category
//! and for a replicate of the bootstrap.

mod anls;
mod bleu;
mod captions;
mod cider;
mod exact_match;
mod iou;
mod judge;
mod mme;
mod open_answer;
mod option_accuracy;
mod pope;
mod relaxed_accuracy;
mod rouge_l;
mod vqa_accuracy;

use crate::error::{Error, Result};
use crate::input::Item;
use crate::interval::Figures;

/// A metric with the source of its definition.
#[derive(Debug)]
pub struct Metric {
    /// Its name on the command line and in files.
    pub name: &'static str,
    /// Its meaning, in one sentence.
    pub about: &'static str,
    /// The official script and its version.
    pub source: &'static str,
    /// The figures that it computes; the first is also the score of each question.
    pub figures: &'static [Figure],
    /// Groups of categories with their own scores, such as MME's perception.
    pub groups: &'static [(&'static str, &'static [&'static str])],
    /// The difference that `--strict` makes; `None` if there is no such variant.
    pub strict: Option<&'static str>,
    pub(crate) count: fn(&[Item], Variant) -> Result<Counted>,
    pub(crate) compute: fn(&[f64]) -> Vec<f64>,
}

/// A number that a metric computes.
#[derive(Debug)]
pub struct Figure {
    /// Its name in tables and files.
    pub name: &'static str,
    /// Its smallest and largest possible value; `None` if it has no upper bound.
    pub range: Option<(f64, f64)>,
}

/// The definition that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The official script, with its quirks.
    Official,
    /// The official script without its quirks.
    Strict,
}

/// The counts of all questions.
#[derive(Debug, Default)]
pub struct Counted {
    /// One row of counts for each question.
    pub(crate) rows: Vec<Vec<f64>>,
    /// The part of each answer that is scored, such as `yes` or `B`; empty if the whole answer is
    /// scored.
    pub(crate) parsed: Vec<Option<String>>,
    /// The stratum of each question, see `intervals`; empty if there is only one.
    pub(crate) strata: Vec<usize>,
    /// Computes the figures of replicates and of single clusters, if they differ from those of all
    /// questions.
    pub(crate) redrawn: Option<Figures>,
    /// Remarks about unusual input.
    pub(crate) notes: Vec<String>,
}

/// All metrics.
pub const METRICS: &[&Metric] = &[
    &vqa_accuracy::VQA_ACCURACY,
    &anls::ANLS,
    &relaxed_accuracy::RELAXED_ACCURACY,
    &exact_match::EXACT_MATCH,
    &option_accuracy::OPTION_ACCURACY,
    &pope::POPE,
    &mme::MME,
    &cider::CIDER,
    &bleu::BLEU,
    &rouge_l::ROUGE_L,
    &iou::IOU,
    &judge::JUDGE,
];

/// Returns the metric of this name.
pub fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().copied().find(|metric| metric.name == name)
}

/// The range of a percentage.
const PERCENT: Option<(f64, f64)> = Some((0.0, 100.0));

/// Computes the figure of metrics that are the mean of one score per question.
fn mean_percent(sums: &[f64]) -> Vec<f64> {
    vec![100.0 * sums[0] / sums[1]]
}

/// Counts one score from 0 to 1 for each question; a missing prediction scores 0.
fn scores(items: &[Item], score: impl Fn(&Item, &str) -> Result<f64>) -> Result<Vec<Vec<f64>>> {
    items
        .iter()
        .map(|item| Ok(vec![item.prediction.map_or(Ok(0.0), |prediction| score(item, prediction))?, 1.0]))
        .collect()
}

/// Returns the answers of a reference, or an error if it has none.
fn answers<'a>(item: &Item<'a>, metric: &'static str) -> Result<&'a [String]> {
    if item.reference.answers.is_empty() {
        return Err(unfit(item, metric, "at least one answer".to_owned()));
    }
    Ok(&item.reference.answers)
}

/// Returns the label of a yes-or-no question.
fn label(item: &Item, metric: &'static str) -> Result<bool> {
    match item.reference.answers.as_slice() {
        [answer] if answer.trim().eq_ignore_ascii_case("yes") => Ok(true),
        [answer] if answer.trim().eq_ignore_ascii_case("no") => Ok(false),
        other => Err(unfit(item, metric, format!("one answer, yes or no, but the reference has {other:?}"))),
    }
}

fn unfit(item: &Item, metric: &'static str, needs: String) -> Error {
    Error::Unfit { place: item.reference.place.clone(), id: item.reference.id.clone(), metric, needs }
}

#[cfg(test)]
pub(crate) mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_the_list_and_names_are_unique() {
        let folder = std::fs::read_dir(format!("{}/src/metrics", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut files: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.retain(|file| !["captions.rs", "golden.rs", "open_answer.rs"].contains(&file.as_str()));
        files.sort();
        let mut names: Vec<String> = METRICS.iter().map(|metric| format!("{}.rs", metric.name)).collect();
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn every_metric_and_every_fixture_is_documented() {
        let read = |path: &str| std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let page = read("../docs/evaluation.md");
        for metric in METRICS {
            let in_table =
                page.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{}`", metric.name)));
            assert!(in_table, "{} is not in the table of docs/evaluation.md", metric.name);
        }
        let sources = read("fixtures/SOURCES.tsv");
        let mut listed: Vec<&str> = sources.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
        listed.push("SOURCES.tsv");
        listed.sort_unstable();
        let folder = std::fs::read_dir(format!("{}/fixtures", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut files: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, listed);
    }

    #[test]
    fn every_metric_says_where_it_comes_from() {
        for metric in METRICS {
            assert!(metric.source.contains("github.com") || metric.source.contains("arXiv"), "{}", metric.name);
            assert!(!metric.figures.is_empty() && metric.about.len() > 20, "{}", metric.name);
        }
    }
}
