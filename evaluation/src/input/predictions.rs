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
const ANSWER: &[&str] =
    &["prediction", "pred", "response", "output", "filtered_resps", "resps", "caption", "answer", "text"];
/// The name of a caption, which may be a prediction or a reference.
const CAPTION: &str = "caption";

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
pub fn read_predictions(source: Source, key: Key) -> Result<Vec<Prediction>> {
    let predictions = match read(source, "predictions")? {
        Document::Rows(rows) => of_rows(&rows, key)?,
        // This is one row without an id, not answers by id.
        Document::Object(fields) if ANSWER.iter().any(|name| fields.contains_key(*name)) => {
            let place = Place { file: source.name.into(), position: Position::Line(1) };
            of_rows(&[Row { place, fields }], key)?
        }
        Document::Object(fields) => {
            let file: Arc<str> = source.name.into();
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

fn of_rows(rows: &[Row], key: Key) -> Result<Vec<Prediction>> {
    let ids = key.names(rows)?;
    // Without any column, the first row is reported.
    let used = column(rows, ANSWER);
    // The caption may be the prediction and the answer a reference. Or the answer is the prediction
    // and the caption describes the image.
    let two = [CAPTION, "answer"];
    if used == Some(CAPTION)
        && let Some(row) = rows.iter().find(|row| two.iter().all(|name| row.fields.contains_key(*name)))
    {
        return Err(Error::TwoAnswers { place: row.place.clone(), first: two[0], second: two[1] });
    }
    let names = ANSWER.iter().position(|name| Some(*name) == used).map_or(ANSWER, |place| &ANSWER[place..=place]);
    let hint = "; other rows call it so, and if there is no answer it is null";
    let hint = if used.is_some() { hint } else { "" };
    let prediction = |row: &Row| {
        let id = row.id(ids)?;
        let place = row.place.clone();
        let Some((name, value)) = names.iter().find_map(|name| row.fields.get_key_value(*name)) else {
            return Err(Error::NoField { place, what: "answer", names, hint });
        };
        Ok(Prediction { id, answer: answer(&place, name, value)?, place })
    };
    rows.iter().map(prediction).collect()
}

/// Returns the answer, which may be inside lists of one element, as in the logs of lmms-eval.
fn answer(place: &Place, name: &str, value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.len() == 1 => answer(place, name, &values[0]),
        other => plain(other).map(Some).ok_or_else(|| bad(place, name, value, "one text")),
    }
}
