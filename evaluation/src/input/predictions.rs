//! The answers of a model, by the id of the question.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Source;
use super::rows::{Document, ID, Row, bad, plain, read};
use crate::error::{Error, Result};
use crate::place::{Place, Position};

/// Names of the field of the answer, in this order. `prediction` comes before `answer`, which is
/// the reference in files that have both.
const ANSWER: &[&str] =
    &["prediction", "pred", "response", "output", "filtered_resps", "resps", "caption", "answer", "text"];

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
/// with an answer for each id.
///
/// # Errors
/// If the text is not JSON, a row has no id or no answer, an id occurs twice, or there are no rows.
pub fn read_predictions(source: Source) -> Result<Vec<Prediction>> {
    let predictions = match read(source, "predictions")? {
        Document::Rows(rows) => rows.iter().map(prediction).collect::<Result<Vec<_>>>()?,
        // This is one row without an id, not answers by id.
        Document::Object(fields) if ANSWER.iter().any(|name| fields.contains_key(*name)) => {
            let place = Place { file: source.name.into(), position: Position::Line(1) };
            vec![prediction(&Row { place, fields })?]
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

fn prediction(row: &Row) -> Result<Prediction> {
    let id = row.id(ID)?;
    // The first field that exists: a null must not be replaced by the answer of the reference
    // beside it.
    let Some((name, value)) = ANSWER.iter().find_map(|name| Some((*name, row.fields.get(*name)?))) else {
        let place = row.place.clone();
        return Err(Error::NoField { place, what: "answer", names: ANSWER, hint: "" });
    };
    let answer = answer(&row.place, name, value)?;
    Ok(Prediction { id, answer, place: row.place.clone() })
}

/// Returns the answer, which may be inside lists of one element, as in the logs of lmms-eval.
fn answer(place: &Place, name: &str, value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.len() == 1 => answer(place, name, &values[0]),
        other => plain(other).map(Some).ok_or_else(|| bad(place, name, value, "one text")),
    }
}
