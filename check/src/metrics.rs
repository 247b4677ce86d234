//! The metrics: one file each, and one line in [`METRICS`].
//!
//! A metric is a number that a fit gives for the held-out pairs, and the question that it answers.
//! Recipes, protocols and the command line name a metric by its question. The keys of the JSON
//! files, the sentences, the gates and the report take everything from its definition.

mod held_out_loss;
mod visual_gain;

pub use held_out_loss::HELD_OUT_LOSS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use visual_gain::VISUAL_GAIN;

use crate::gear::{Gear, Seen};

/// The metrics. Their gates and their columns in the report are in the opposite order: what every
/// gear has comes last.
pub const METRICS: &[&Metric] = &[&VISUAL_GAIN, &HELD_OUT_LOSS];

/// The questions of the metrics.
const QUESTIONS: [&str; METRICS.len()] = {
    let mut questions = [""; METRICS.len()];
    let mut place = 0;
    while place < METRICS.len() {
        questions[place] = METRICS[place].question;
        place += 1;
    }
    questions
};

/// A metric, with the question that it answers.
#[derive(Clone, Debug)]
pub struct Metric {
    /// The number itself; its name is that of the metric in verdicts.
    pub measure: Measure,
    /// A number of the same unit that every model should surpass.
    pub baseline: Option<Measure>,
    /// Its name in sentences and reports.
    pub words: &'static str,
    /// The name of its question in recipes, protocols and on the command line.
    pub question: &'static str,
    /// The meaning of the question in the schema of recipes.
    pub description: &'static str,
    /// The meaning of the question on the command line.
    pub help: &'static str,
    /// Whether more of it is better.
    pub higher_is_better: bool,
    /// Whether only a gear with a language model has it.
    pub needs_language_model: bool,
    /// Returns its unit.
    pub unit: fn(Gear) -> &'static str,
    /// The gate that it adds to those of every comparison.
    pub gate: Option<MetricGate>,
    /// Returns a sentence about an arm that limits the outcome.
    pub note: fn(OfArm) -> Option<String>,
    /// The finding about the better arm; the name of the other arm follows.
    pub finding: &'static str,
    /// Whether an arm with more pairs may be better for that reason alone, which its sentence then
    /// says instead of the finding.
    pub grows_with_quantity: bool,
    /// The limits of a verdict of the compact Lynx.
    pub limits: &'static str,
    /// Its column in the tables of the report.
    pub column: Column,
}

/// A number that a gear measures on every held-out pair.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Its key in verdicts and in the results of fits.
    pub name: &'static str,
    /// Its key among the measurements on a pair.
    pub pair_key: &'static str,
    /// Returns it for a held-out pair, times the size of the pair; `None` if the gear does not have
    /// it.
    pub of_pair: fn(&Seen) -> Option<f64>,
}

/// A gate of a metric, whichever metric decides.
#[derive(Clone, Debug)]
pub struct MetricGate {
    /// Name of the condition.
    pub name: &'static str,
    /// Judges two arms at a level α; `None` if there is nothing to judge.
    pub judge: fn([OfArm; 2], Gear, f64) -> Option<Finding>,
}

/// Whether a condition holds, and the finding as a sentence.
pub type Finding = (bool, String);

/// A metric of an arm.
#[derive(Clone, Copy, Debug)]
pub struct OfArm<'a> {
    /// Name of the arm.
    pub arm: &'a str,
    /// Values of the metric, one per replicate; empty if the gear does not have it.
    pub values: &'a [f64],
    /// Values of the baseline, likewise.
    pub baseline: &'a [f64],
    /// Mean number of times that a drawn pair was trained on; absent without training.
    pub epochs: Option<f64>,
}

/// The column of a metric in the tables of the report.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The key of its values in `report.json`.
    pub key: &'static str,
    /// The heading.
    pub title: &'static str,
    /// Returns the unit in the heading.
    pub unit: fn(Gear) -> &'static str,
    /// The meaning of its values, as a sentence.
    pub meaning: &'static str,
}

impl Metric {
    /// Returns what is measured for it: the metric itself and its baseline.
    pub fn measures(&self) -> impl Iterator<Item = &Measure> {
        std::iter::once(&self.measure).chain(&self.baseline)
    }
}

/// Returns what is measured for the metrics of a list.
pub fn measures(metrics: &[&'static Metric]) -> impl Iterator<Item = &'static Measure> {
    metrics.iter().flat_map(|metric| metric.measures())
}

impl PartialEq for Measure {
    fn eq(&self, other: &Measure) -> bool {
        self.name == other.name
    }
}

impl Eq for Measure {}

impl PartialEq for Metric {
    fn eq(&self, other: &Metric) -> bool {
        self.measure == other.measure
    }
}

impl Eq for Metric {}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.question)
    }
}

impl<'de> Deserialize<'de> for &'static Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let question = String::deserialize(deserializer)?;
        let found = METRICS.iter().find(|metric| metric.question == question).copied();
        found.ok_or_else(|| serde::de::Error::unknown_variant(&question, &QUESTIONS))
    }
}

impl JsonSchema for Metric {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Question".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let of = |metric: &&Metric| json_schema!({"description": metric.description, "type": "string", "const": metric.question});
        json_schema!({
            "description": "The question that is asked of the arms; it chooses the metric that decides.",
            "oneOf": METRICS.iter().map(of).collect::<Vec<_>>()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_the_list() {
        let folder = std::fs::read_dir(format!("{}/src/metrics", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let mut files: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut names: Vec<String> = METRICS.iter().map(|metric| format!("{}.rs", metric.measure.name)).collect();
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn a_question_names_its_metric() {
        for metric in METRICS {
            let written = serde_json::to_string(metric).unwrap();
            assert_eq!(written, format!("{:?}", metric.question));
            assert_eq!(serde_json::from_str::<&Metric>(&written).unwrap(), *metric);
        }
        let error = serde_json::from_str::<&Metric>("\"los\"").unwrap_err().to_string();
        assert_eq!(error, "unknown variant `los`, expected `fit` or `loss`");
    }
}
