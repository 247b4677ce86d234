//! Typed records: what a mapped row must look like.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::expression::question_mark;
use crate::picture::stays_inside;
use crate::task::Family;

/// One typed row of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// `task/split/native id`.
    pub id: String,
    /// Paths of its pictures from the folder of pictures on, at least one.
    pub images: Vec<String>,
    /// What its family adds.
    pub answer: Answer,
    /// The native file, from the root folder on.
    pub source_file: String,
    /// Place in that file, from 0: of the line in line formats, else of the row.
    pub source_row: u64,
}

/// The fields of a family. Texts are trimmed and not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// See [`Family::Vqa`].
    Vqa {
        /// With its `?`.
        question: String,
        /// A word or a phrase.
        answer: String,
    },
    /// See [`Family::KnowledgeVqa`].
    KnowledgeVqa {
        /// With its `?`.
        question: String,
        /// In native order, 2 to 26.
        choices: Vec<String>,
        /// Place of the right one, from 0.
        answer: usize,
    },
    /// See [`Family::Caption`].
    Caption {
        /// In native order.
        captions: Vec<String>,
    },
    /// See [`Family::Classification`].
    Classification {
        /// What the label is one of, such as `pet breed`.
        category: String,
        /// The name of the class.
        label: String,
    },
    /// See [`Family::Entailment`].
    Entailment {
        /// A sentence about the picture.
        statement: String,
        /// Whether it holds.
        label: bool,
    },
    /// See [`Family::Dialog`].
    Dialog {
        /// What is asked and what is replied, in order.
        turns: Vec<(String, String)>,
    },
}

/// Letters that options can have: A to Z.
const MOST_CHOICES: usize = 26;

/// The field that is at fault and why.
pub(crate) type FieldFault = (&'static str, String);

/// Reads the native id and the images of a mapped row.
pub(crate) fn common(fields: &Map<String, Value>) -> Result<(String, Vec<String>), FieldFault> {
    let id = field(fields, "id", text)?;
    let images = field(fields, "images", |value| match value {
        Value::String(_) => Ok(vec![text(value)?]),
        list => texts(list),
    })?;
    if let Some(path) = images.iter().find(|path| !stays_inside(path)) {
        return Err(("images", format!("{path:?} leaves the folder of pictures")));
    }
    Ok((id, images))
}

/// Reads what the family adds to a mapped row.
pub(crate) fn answer(family: Family, fields: &Map<String, Value>) -> Result<Answer, FieldFault> {
    let question = |value: &Value| text(value).map(|text| question_mark(&text));
    Ok(match family {
        Family::Vqa => {
            Answer::Vqa { question: field(fields, "question", question)?, answer: field(fields, "answer", text)? }
        }
        Family::KnowledgeVqa => {
            let choices = field(fields, "choices", texts)?;
            if !(2..=MOST_CHOICES).contains(&choices.len()) {
                return Err(("choices", format!("must be 2 to {MOST_CHOICES}, not {}", choices.len())));
            }
            let answer = field(fields, "answer", |value| place(value, choices.len()))?;
            if choices.iter().filter(|choice| **choice == choices[answer]).count() > 1 {
                return Err((
                    "choices",
                    format!("hold the right one, {:?}, twice, so two letters are right", choices[answer]),
                ));
            }
            Answer::KnowledgeVqa { question: field(fields, "question", question)?, choices, answer }
        }
        Family::Caption => Answer::Caption { captions: field(fields, "captions", texts)? },
        Family::Classification => {
            Answer::Classification { category: field(fields, "category", text)?, label: field(fields, "label", text)? }
        }
        Family::Entailment => Answer::Entailment {
            statement: field(fields, "statement", text)?,
            label: field(fields, "label", |value| value.as_bool().ok_or_else(|| expected("true or false", value)))?,
        },
        Family::Dialog => Answer::Dialog { turns: field(fields, "turns", turns)? },
    })
}

fn field<T>(
    fields: &Map<String, Value>,
    name: &'static str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<T, FieldFault> {
    read(fields.get(name).unwrap_or(&Value::Null)).map_err(|reason| (name, reason))
}

fn expected(what: &str, value: &Value) -> String {
    let mut found = value.to_string();
    if let Some((place, _)) = found.char_indices().nth(80) {
        found.truncate(place);
        found.push('…');
    }
    format!("must be {what}, but is {found}")
}

fn text(value: &Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return Err(expected("a text or a number", value)),
    };
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let Value::Array(values) = value else { return Err(expected("a list of texts", value)) };
    if values.is_empty() {
        return Err("is an empty list".to_owned());
    }
    values.iter().map(text).collect()
}

fn place(value: &Value, length: usize) -> Result<usize, String> {
    let place = value.as_u64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place < length);
    place.ok_or_else(|| expected(&format!("a place from 0 to {}", length - 1), value))
}

fn turns(value: &Value) -> Result<Vec<(String, String)>, String> {
    let Value::Array(values) = value else { return Err(expected("a list of pairs of texts", value)) };
    if values.is_empty() {
        return Err("is an empty list".to_owned());
    }
    let turn = |value: &Value| match value.as_array().map(Vec::as_slice) {
        Some([user, assistant]) => Ok((text(user)?, text(assistant)?)),
        _ => Err(expected("a pair of texts", value)),
    };
    values.iter().map(turn).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(family: Family, fields: Value) -> Result<Answer, FieldFault> {
        let Value::Object(fields) = fields else { panic!("an object") };
        answer(family, &fields)
    }

    #[test]
    fn texts_are_trimmed_and_numbers_become_text() {
        let record = read(Family::Vqa, json!({"question": " how many cups ", "answer": 2})).unwrap();
        assert_eq!(record, Answer::Vqa { question: "how many cups?".into(), answer: "2".into() });
        let record = read(Family::Caption, json!({"captions": ["A plate.\n"]})).unwrap();
        assert_eq!(record, Answer::Caption { captions: vec!["A plate.".into()] });
    }

    #[test]
    fn faults_name_the_field_and_what_was_found() {
        let faults = [
            (Family::Vqa, json!({"question": "x", "answer": " "}), ("answer", "is empty")),
            (
                Family::Vqa,
                json!({"question": ["x"], "answer": "y"}),
                ("question", "must be a text or a number, but is [\"x\"]"),
            ),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a", "b"], "answer": 2}),
                ("answer", "a place from 0 to 1, but is 2"),
            ),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a"], "answer": 0}),
                ("choices", "2 to 26, not 1"),
            ),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a", "b", "a "], "answer": 2}),
                ("choices", "the right one, \"a\", twice"),
            ),
            (Family::Caption, json!({"captions": []}), ("captions", "empty list")),
            (Family::Entailment, json!({"statement": "x", "label": 1}), ("label", "true or false, but is 1")),
            (Family::Dialog, json!({"turns": [["a", "b"], ["c"]]}), ("turns", "a pair of texts, but is [\"c\"]")),
        ];
        for (family, fields, (name, reason)) in faults {
            let fault = read(family, fields).unwrap_err();
            assert!(fault.0 == name && fault.1.contains(reason), "{fault:?}");
        }
    }

    #[test]
    fn one_image_may_be_a_text_and_none_may_leave_the_folder() {
        let read = |images: Value| common(json!({"id": 7, "images": images}).as_object().unwrap());
        assert_eq!(read(json!("a.jpg")).unwrap(), ("7".to_owned(), vec!["a.jpg".to_owned()]));
        assert_eq!(read(json!(["a.jpg", "b.jpg"])).unwrap().1.len(), 2);
        assert!(read(json!("../a.jpg")).unwrap_err().1.contains("leaves the folder"));
        assert_eq!(read(json!([])).unwrap_err().0, "images");
    }
}
