//! The answers of a model, by the id of the question.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Source;
use super::rows::{Document, Key, Row, bad, column, plain, read};
use crate::error::{Error, Result};
use crate::place::{Place, Position};

/// Names of the field of the answer. The first one that any row of the file has is used for all
/// rows, also where it is null: in files with `prediction` and `answer`, the latter is the
/// reference.
const ANSWER: &[&str] = &[
    "prediction",
    "pred",
    "predicted_answer",
    "model_answer",
    "model_response",
    "generated_text",
    "response",
    "output",
    "filtered_resps",
    "resps",
    "caption",
    "answer",
    "text",
];
/// Names that are as usual for a reference or a question as for an answer of a model. So a file has
/// only one of them, unless its answers have another name.
const AMBIGUOUS: &[&str] = &["caption", "answer", "text"];

/// An answer of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The id of the question.
    pub id: String,
    /// The answer; `None` if it is null, which counts as a missing prediction.
    pub answer: Option<String>,
    /// Place in its file.
    pub place: Place,
}

/// Reads predictions: objects with an id and an answer, in a list or one per line, or one object
/// with an answer for each id. `key` is that of the references.
///
/// # Errors
/// If the text is not JSON, a row has no id or no answer, two fields may be its answer, an id
/// occurs twice, or there are no rows.
pub fn read_predictions(source: Source, key: &Key) -> Result<Vec<Prediction>> {
    let predictions = match read(source, "predictions")? {
        Document::Rows(rows) => of_rows(&rows, key)?,
        // This is one row without an id, not answers by id.
        Document::Object(fields) if ANSWER.iter().any(|name| fields.contains_key(*name)) => {
            let place = Place { file: source.name.into(), position: Position::Line(1) };
            of_rows(&[Row { place, fields }], key)?
        }
        Document::Object(fields) => {
            let file: Arc<str> = source.name.into();
            if let Some(id) = fields.keys().next() {
                let place = Place { file: Arc::clone(&file), position: Position::Key(id.clone()) };
                key.check_nameless(&place, &fields.keys().map(String::as_str).collect::<Vec<_>>())?;
            }
            let of = |(id, value): (String, Value)| {
                let place = Place { file: Arc::clone(&file), position: Position::Key(id.clone()) };
                let answer = answer(&place, "the answer", &value)?;
                Ok(Prediction { id, answer, place })
            };
            fields.into_iter().map(of).collect::<Result<Vec<_>>>()?
        }
    };
    if predictions.is_empty() {
        return Err(Error::Empty { file: source.name.to_owned(), rows: "predictions" });
    }
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for prediction in &predictions {
        if let Some(first) = seen.insert(&prediction.id, &prediction.place) {
            let (place, id) = (prediction.place.clone(), prediction.id.clone());
            return Err(Error::DuplicateId { place, first: first.clone(), id });
        }
    }
    Ok(predictions)
}

fn of_rows(rows: &[Row], key: &Key) -> Result<Vec<Prediction>> {
    let join = key.join(rows)?;
    // Without any column, the first row is reported.
    let used = column(rows, ANSWER);
    if let Some(first) = used.filter(|used| AMBIGUOUS.contains(used))
        && let Some(second) = AMBIGUOUS.iter().copied().find(|name| *name != first && column(rows, &[*name]).is_some())
    {
        let has = |row: &&Row, name: &str| row.fields.contains_key(name);
        let both = rows.iter().find(|row| has(row, first) && has(row, second));
        let row = both.or_else(|| rows.iter().find(|row| has(row, second)));
        let place = row.unwrap_or(&rows[0]).place.clone();
        return Err(Error::TwoAnswers { place, first, second });
    }
    let names = ANSWER.iter().position(|name| Some(*name) == used).map_or(ANSWER, |place| &ANSWER[place..=place]);
    let hint = "; other rows call it so, and if there is no answer it is null";
    let hint = if used.is_some() { hint } else { "" };
    let prediction = |row: &Row| {
        let id = join.id(row)?;
        let place = row.place.clone();
        let Some((name, value)) = names.iter().find_map(|name| row.fields.get_key_value(*name)) else {
            return Err(Error::NoField { place, what: "answer", names, hint });
        };
        Ok(Prediction { id, answer: answer(&place, name, value)?, place })
    };
    rows.iter().map(prediction).collect()
}

/// Returns the answer, which may be inside lists of one element, as in the logs of lmms-eval. A
/// list of four numbers is a box.
fn answer(place: &Place, name: &str, value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.len() == 1 => answer(place, name, &values[0]),
        Value::Array(values) if values.len() == 4 && values.iter().all(Value::is_number) => {
            Ok(Some(format!("[{}]", values.iter().map(decimal).collect::<Vec<_>>().join(", "))))
        }
        other => plain(other).map(Some).ok_or_else(|| bad(place, name, value, "one text")),
    }
}

/// Returns a number without exponent, which the parser of boxes does not know.
fn decimal(number: &Value) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}
