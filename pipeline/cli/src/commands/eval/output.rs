//! Scores as a table for people, as JSON, and as the files of `--out`.

use std::path::Path;

use anyhow::{Context as _, Result};
use lynxdata_evaluation::Scores;
use lynxdata_evaluation::input::{Key, Prediction, Reference};
use lynxdata_evaluation::score::Value;
use serde::Serialize;
use serde_json::json;

use super::judge::Told;
use crate::commands::columns;
use crate::commands::language_model::write_whole;

/// Maximum number of missing predictions that the table lists.
const NAMED: usize = 3;

/// Everything that a run of `eval` found.
#[derive(Serialize)]
pub(super) struct Results {
    pub(super) references: Vec<String>,
    pub(super) predictions: String,
    /// Questions of the references.
    pub(super) questions: usize,
    /// Ids of questions without a prediction, which count as wrong.
    pub(super) missing: Vec<String>,
    #[serde(flatten)]
    pub(super) scores: Scores,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) judge: Option<Told>,
}

impl Results {
    /// Returns one row for each category, and the notes below.
    pub(super) fn table(&self) -> String {
        let figures: Vec<&str> = self.scores.groups[0].figures.iter().map(|figure| figure.name).collect();
        let header: Vec<&str> = ["category", "questions"].into_iter().chain(figures).collect();
        let row = |group: &lynxdata_evaluation::score::Group| {
            let cells = [escaped(&group.name), group.questions.to_string()];
            cells.into_iter().chain(group.figures.iter().map(cell)).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<String>> = self.scores.groups.iter().map(row).collect();
        let mut text = columns(&header, &rows, &[1]);
        for note in self.notes() {
            text.push_str(&format!("- {}\n", escaped(&note)));
        }
        text
    }

    fn notes(&self) -> Vec<String> {
        let strict = if self.scores.strict { ", strict: without the quirks of the script" } else { "" };
        let mut notes = vec![
            format!("{}: {}{strict}", self.scores.metric, self.scores.source),
            format!("intervals: {}", self.scores.interval),
        ];
        if !self.missing.is_empty() {
            let named = self.missing.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if self.missing.len() > NAMED { ", …" } else { "" };
            notes.push(format!(
                "{} of {} questions have no prediction and count as wrong: {named}{more}",
                self.missing.len(),
                self.questions
            ));
        }
        if self.scores.groups.iter().flat_map(|group| &group.figures).any(|figure| figure.value.is_none()) {
            notes.push("–: the figure is undefined there, such as the precision when no answer is yes".to_owned());
        } else if self.scores.groups.iter().flat_map(|group| &group.figures).any(|figure| figure.interval.is_none()) {
            notes.push("no interval: there are fewer than two images or questions (for mme, in one of the categories), or the figure is undefined in too many of the draws or the same in all of them".to_owned());
        }
        notes.extend(self.scores.notes.iter().cloned());
        notes.extend(self.judge.iter().flat_map(Told::notes));
        notes
    }

    /// Writes `results.json` and `samples_METRIC.jsonl`. `key` is that of the references.
    pub(super) fn write(
        &self,
        folder: &Path,
        references: &[Reference],
        key: &Key,
        predictions: &[Prediction],
    ) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let mut text = serde_json::to_string_pretty(self).context("cannot write JSON")?;
        text.push('\n');
        write_whole(&folder.join("results.json"), &text)?;
        let answers: std::collections::BTreeMap<&str, Option<&str>> =
            predictions.iter().map(|prediction| (prediction.id.as_str(), prediction.answer.as_deref())).collect();
        let mut lines = String::new();
        for (index, reference) in references.iter().enumerate() {
            let answer = answers.get(reference.id.as_str()).copied().flatten();
            let parsed = self.scores.parsed.get(index).map_or(answer, Option::as_deref);
            let target = match reference.answers.as_slice() {
                [answer] => json!(answer),
                answers => json!(answers),
            };
            let mut line = json!({
                "doc_id": doc_id(&reference.id),
                "target": target,
                "resps": [[answer]],
                "filtered_resps": [parsed],
                self.scores.metric: self.scores.questions[index],
            });
            // So that the file can be scored again.
            if let Some(name) = key.only_name() {
                line[name] = doc_id(&reference.id);
            }
            lines.push_str(&format!("{line}\n"));
        }
        write_whole(&folder.join(format!("samples_{}.jsonl", self.scores.metric)), &lines)
    }
}

/// Returns an id as a number if it is written as one, and otherwise as a text: `7` is a number, but
/// `07` and `+7` are texts, because they are ids of other questions than `7`.
fn doc_id(id: &str) -> serde_json::Value {
    let number = serde_json::from_str::<serde_json::Number>(id).ok();
    let whole = number.filter(|number| (number.is_u64() || number.is_i64()) && number.to_string() == id);
    whole.map_or_else(|| json!(id), |number| json!(number))
}

/// Returns a text with escapes such as `\n` for control characters and for marks that change the
/// direction of writing, so that it stays in its line and cannot change the terminal.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        let is_mark = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || is_mark {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Returns a figure with its interval, with two decimals as on leader boards.
fn cell(figure: &Value) -> String {
    match (figure.value, figure.interval) {
        (Some(value), Some([low, high])) => format!("{value:.2} [{low:.2}, {high:.2}]"),
        (Some(value), None) => format!("{value:.2}"),
        (None, _) => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_that_are_written_as_whole_numbers_become_numbers() {
        for (id, expected) in [
            ("7", json!(7)),
            ("-7", json!(-7)),
            ("0", json!(0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("18446744073709551616", json!("18446744073709551616")),
            ("07", json!("07")),
            ("+7", json!("+7")),
            ("-0", json!("-0")),
            (" 7", json!(" 7")),
            ("7.0", json!("7.0")),
            ("1e3", json!("1e3")),
            ("a.jpg", json!("a.jpg")),
            ("", json!("")),
        ] {
            assert_eq!(doc_id(id), expected, "{id:?}");
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escaped("a\nb\u{1b}[31m \u{202e}é 日本"), "a\\nb\\u{1b}[31m \\u{202e}é 日本");
    }
}
