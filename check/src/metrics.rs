//! The metrics: one file each, and one line in [`METRICS`].
//!
//! A metric is a number that a fit gives for the held-out pairs, and the question that it answers.
//! Recipes, protocols and the command line name a metric by its question.

mod held_out_loss;
mod visual_gain;

pub use held_out_loss::HELD_OUT_LOSS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use visual_gain::VISUAL_GAIN;

use crate::fit::{FitResult, Gear, Measured};

/// The metrics.
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
#[derive(Debug)]
pub struct Metric {
    /// Its name in verdicts.
    pub name: &'static str,
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
    /// Returns its value on a held-out pair, times the size of the pair; `None` if the gear does
    /// not have it.
    pub(crate) of_pair: fn(&Measured) -> Option<f64>,
    /// Returns its value over the held-out pairs that count; `None` if the gear does not have it.
    pub(crate) of_fit: fn(&FitResult) -> Option<f64>,
    /// The finding about the better arm; the name of the other arm follows.
    pub(crate) finding: &'static str,
    /// Whether an arm with more pairs may be better for that reason alone, which its sentence then
    /// says instead of the finding.
    pub(crate) grows_with_quantity: bool,
    /// The limits of a verdict of the compact Lynx.
    pub(crate) limits: &'static str,
}

impl Metric {
    /// Returns the metric that is reported beside this one: the first metric of the list, or the
    /// second if this is the first.
    pub fn other(&self) -> &'static Metric {
        METRICS[usize::from(self == METRICS[0])]
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Metric) -> bool {
        self.name == other.name
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
        let mut names: Vec<String> = METRICS.iter().map(|metric| format!("{}.rs", metric.name)).collect();
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn a_question_names_its_metric() {
        for metric in METRICS {
            let written = serde_json::to_string(metric).unwrap();
            assert_eq!(written, format!("{:?}", metric.question));
            assert_eq!(serde_json::from_str::<&Metric>(&written).unwrap(), *metric);
            assert_ne!(metric.other(), *metric);
        }
        let error = serde_json::from_str::<&Metric>("\"los\"").unwrap_err().to_string();
        assert_eq!(error, "unknown variant `los`, expected `fit` or `loss`");
    }
}
