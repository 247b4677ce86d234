//! Scores of a set of predictions: figures with intervals for all questions and for each category.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::input::Item;
use crate::interval::{REPLICATES, add, intervals, sums};
use crate::metrics::{METRICS, Metric, Variant};

/// Order of the categories of Open-VQA in the tables of the Lynx paper (arXiv 2307.02469, tables 3
/// and 4). Other categories follow in the order of their first questions.
const FIRST: &[&str] =
    &["OCR", "Counting", "Reasoning", "Place", "Color", "Spatial", "Action", "Action(Y/N)", "Others"];

/// The name of the group of all questions.
pub const ALL: &str = "all";
/// The name of the group of questions without a category, if others have one.
const NO_CATEGORY: &str = "(no category)";

/// Scores of a set of predictions.
#[derive(Debug, Serialize)]
pub struct Scores {
    /// The metric.
    pub metric: &'static str,
    /// Its definition.
    pub source: &'static str,
    /// Whether quirks of the official script were left out.
    pub strict: bool,
    /// The scores of each category, then of groups of categories, then of all questions.
    pub groups: Vec<Group>,
    /// The method of the intervals.
    pub interval: String,
    /// Remarks about unusual input.
    pub notes: Vec<String>,
    /// The score of each question, in the order of the references; `None` if it is left out.
    #[serde(skip)]
    pub questions: Vec<Option<f64>>,
    /// The part of each answer that is scored, such as `yes` or `B`; empty if the whole answer is
    /// scored.
    #[serde(skip)]
    pub parsed: Vec<Option<String>>,
}

/// Figures of some of the questions.
#[derive(Debug, Serialize)]
pub struct Group {
    /// The category, a group of categories, or `all`. A category that is called like another row,
    /// such as `all`, is written as `category "all"`.
    pub name: String,
    /// Number of its questions.
    pub questions: usize,
    /// Number of clusters of the questions: images, or questions if there is no image.
    pub clusters: usize,
    /// The figures of the metric.
    pub figures: Vec<Value>,
}

/// A figure with its interval.
#[derive(Debug, Serialize)]
pub struct Value {
    /// Its name.
    pub name: &'static str,
    /// The value; `None` if it is undefined, such as the precision without a yes.
    pub value: Option<f64>,
    /// The ends of its 95 % interval; `None` if redrawing clusters gives none, as with fewer than
    /// two clusters.
    pub interval: Option<[f64; 2]>,
}

/// Scores predictions. A missing prediction is wrong.
///
/// # Errors
///
/// If references do not fit the metric, or the metric has no strict variant.
pub fn score(metric: &Metric, items: &[Item], variant: Variant, seed: u64) -> Result<Scores> {
    if variant == Variant::Strict && metric.strict.is_none() {
        let with = METRICS.iter().filter(|metric| metric.strict.is_some()).map(|metric| metric.name);
        let with = with.collect::<Vec<_>>().join(", ");
        return Err(Error::NoStrictVariant { metric: metric.name, with });
    }
    let counted = (metric.count)(items, variant)?;
    let clusters = clusters(items);
    let groups = groups(metric, items).into_iter().map(|(name, members)| {
        let mut by_stratum: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut total = vec![0.0; counted.rows[0].len()];
        for index in &members {
            let stratum = counted.strata.get(*index).copied().unwrap_or_default();
            by_stratum.entry(stratum).or_default().push(*index);
            add(&mut total, &counted.rows[*index]);
        }
        let row = |index: &usize| (counted.rows[*index].as_slice(), clusters[*index]);
        let strata: Vec<Vec<Vec<f64>>> = by_stratum.values().map(|members| sums(members.iter().map(row))).collect();
        let ranges: Vec<_> = metric.figures.iter().map(|figure| figure.range).collect();
        let found = intervals(&strata, counted.redrawn.unwrap_or(metric.compute), &ranges, seed);
        let values = (metric.compute)(&total);
        let figures = metric.figures.iter().zip(values).zip(found).map(|((figure, value), interval)| Value {
            name: figure.name,
            value: Some(value).filter(|value| value.is_finite()),
            interval: interval.filter(|_| value.is_finite()),
        });
        Group {
            name,
            questions: members.len(),
            clusters: strata.iter().map(Vec::len).sum(),
            figures: figures.collect(),
        }
    });
    let questions =
        counted.rows.iter().map(|counts| Some((metric.compute)(counts)[0]).filter(|value| value.is_finite()));
    let within = if counted.strata.is_empty() { "" } else { " within each category" };
    Ok(Scores {
        metric: metric.name,
        source: metric.source,
        strict: variant == Variant::Strict,
        groups: groups.collect(),
        interval: format!(
            "95 %, bootstrap over images (questions where there are none){within}, {REPLICATES} replicates, \
             seed {seed}"
        ),
        notes: counted.notes,
        questions: questions.collect(),
        parsed: counted.parsed,
    })
}

/// Returns the number of the cluster of each question: its image, or the question if it has none.
fn clusters(items: &[Item]) -> Vec<usize> {
    let mut numbers: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    items
        .iter()
        .map(|item| {
            let next = numbers.len();
            let image = item.reference.image.as_deref();
            // An image and a question with the same name are different clusters.
            *numbers.entry((image.is_some(), image.unwrap_or(&item.reference.id))).or_insert(next)
        })
        .collect()
}

/// Returns the questions of every category, of every group of the metric that has any, and all.
fn groups(metric: &Metric, items: &[Item]) -> Vec<(String, Vec<usize>)> {
    let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, item) in items.iter().enumerate() {
        let Some(category) = item.reference.category.as_deref() else { continue };
        let place = *places.entry(category).or_insert(groups.len());
        if place == groups.len() {
            groups.push((name_of(category), Vec::new()));
        }
        groups[place].1.push(index);
    }
    groups.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    let without = items.iter().filter(|item| item.reference.category.is_none()).count();
    if !groups.is_empty() && without > 0 {
        let members = (0..items.len()).filter(|index| items[*index].reference.category.is_none());
        groups.push((NO_CATEGORY.to_owned(), members.collect()));
    }
    for (name, categories) in metric.groups {
        let is_member = |index: &usize| {
            items[*index].reference.category.as_deref().is_some_and(|category| categories.contains(&category))
        };
        let members: Vec<usize> = (0..items.len()).filter(is_member).collect();
        if !members.is_empty() {
            groups.push(((*name).to_owned(), members));
        }
    }
    groups.push((ALL.to_owned(), (0..items.len()).collect()));
    groups
}

/// Returns the name of the row of a category. A name that another row has is quoted, and so is one
/// that looks like a quoted one, so that no two rows have the same name.
fn name_of(category: &str) -> String {
    if [ALL, NO_CATEGORY].contains(&category) || category.starts_with("category \"") {
        format!("category {category:?}")
    } else {
        category.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Reference, Source, join, read_predictions, read_references};
    use crate::metric;
    use crate::metrics::golden::assert_close;

    fn references(lines: &[String]) -> Vec<Reference> {
        read_references(&[Source { name: "r.jsonl", text: &lines.join("\n") }]).unwrap().rows
    }

    fn scored(name: &str, references: &[Reference], predictions: &[&str]) -> Scores {
        let items = references.iter().zip(predictions);
        let items: Vec<Item> = items.map(|(reference, answer)| Item { reference, prediction: Some(*answer) }).collect();
        score(metric(name).unwrap(), &items, Variant::Official, 0).unwrap()
    }

    #[test]
    fn a_category_with_the_name_of_another_row_is_quoted() {
        let categories = ["\"all\"", "\"(no category)\"", "\"category \\\"all\\\"\"", "null", "\"a\""];
        let lines = categories.iter().enumerate();
        let lines: Vec<String> =
            lines.map(|(id, name)| format!("{{\"id\": {id}, \"answer\": \"x\", \"category\": {name}}}")).collect();
        let scores = scored("exact_match", &references(&lines), &["x"; 5]);
        let names: Vec<&str> = scores.groups.iter().map(|group| group.name.as_str()).collect();
        let quoted = "category \"category \\\"all\\\"\"";
        assert_eq!(names, ["category \"all\"", "category \"(no category)\"", quoted, "a", "(no category)", "all"]);
    }

    #[test]
    fn the_interval_of_a_precision_is_that_of_the_answers_that_are_yes() {
        let lines: Vec<String> = (0..100)
            .map(|id| format!("{{\"id\": {id}, \"answer\": \"{}\"}}", if id < 50 { "yes" } else { "no" }))
            .collect();
        let predictions: Vec<&str> = (0..100).map(|id| if id < 5 { "yes" } else { "no" }).collect();
        let scores = scored("pope", &references(&lines), &predictions);
        let precision = &scores.groups[0].figures[1];
        let [low, high] = precision.interval.unwrap();
        // As of R's binom.test(5, 5).
        assert!((low - 47.82).abs() < 0.01 && (high - 100.0).abs() < 1e-9, "{precision:?}");
        // 2 · 5 / (2 · 5 + 45). The 45 answers that are wrongly no count too.
        let f1 = &scores.groups[0].figures[3];
        let [low, high] = f1.interval.unwrap();
        assert!((f1.value.unwrap() - 18.18).abs() < 0.01 && low < 8.0 && high > 25.0 && high < 40.0, "{f1:?}");
    }

    #[test]
    fn f1_is_undefined_without_a_right_yes_but_not_in_a_replicate() {
        let lines: Vec<String> = (0..100)
            .map(|id| format!("{{\"id\": {id}, \"answer\": \"{}\"}}", if id < 50 { "yes" } else { "no" }))
            .collect();
        let f1 = |yes: std::ops::Range<usize>| {
            let predictions: Vec<&str> = (0..100).map(|id| if yes.contains(&id) { "yes" } else { "no" }).collect();
            let figure = &scored("pope", &references(&lines), &predictions).groups[0].figures[3];
            (figure.value, figure.interval)
        };
        assert_eq!((f1(0..0), f1(60..70)), ((None, None), (None, None)));
        // 13 % of the replicates have no right yes.
        let (value, interval) = f1(48..50);
        let [low, high] = interval.unwrap();
        assert!((value.unwrap() - 100.0 * 4.0 / 52.0).abs() < 1e-9 && low.abs() < 1e-9 && high < 25.0, "{low} {high}");
    }

    #[test]
    fn the_interval_of_a_judge_is_that_of_the_usable_replies() {
        let lines: Vec<String> = (0..100).map(|id| format!("{{\"id\": {id}, \"answer\": \"x\"}}")).collect();
        let replies: Vec<&str> = (0..100).map(|id| if id < 10 { "Yes" } else { "Hard to say" }).collect();
        let scores = scored("judge", &references(&lines), &replies);
        let [low, high] = scores.groups[0].figures[0].interval.unwrap();
        // As of R's binom.test(10, 10).
        assert!((low - 69.15).abs() < 0.01 && (high - 100.0).abs() < 1e-9, "{low} {high}");
    }

    /// Files as the authors of a benchmark have them, with the scores of their script.
    #[test]
    fn files_of_authors_get_the_scores_of_their_scripts() {
        for file in ["gqa", "vizwiz", "mmmu", "scienceqa"] {
            let path = format!("{}/fixtures/{file}.json", env!("CARGO_MANIFEST_DIR"));
            let fixture: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            let (references, predictions) = (fixture["references"].to_string(), fixture["predictions"].to_string());
            let references = read_references(&[Source { name: file, text: &references }]).unwrap();
            let predictions = read_predictions(Source { name: file, text: &predictions }, &references.key).unwrap();
            let joined = join(&references.rows, &predictions).unwrap();
            assert!(joined.missing.is_empty(), "{file}: {:?}", joined.missing);
            let variant = if fixture["strict"] == true { Variant::Strict } else { Variant::Official };
            let found = metric(fixture["metric"].as_str().unwrap()).unwrap();
            let scores = score(found, &joined.items, variant, 0).unwrap();
            for (name, expected) in fixture["scores"].as_object().unwrap() {
                let group = scores.groups.iter().find(|group| group.name == *name);
                let group = group.unwrap_or_else(|| panic!("{file} has no row {name}"));
                assert_close(group.figures[0].value.unwrap(), expected);
            }
        }
    }
}
