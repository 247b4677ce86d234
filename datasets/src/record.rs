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

/// The fields of a family. Texts are trimmed and, where nothing else is said, not empty.
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
        /// In native order, at most 26. One that is missing in the native row is empty; at least 2
        /// and the right one are not.
        choices: Vec<String>,
        /// Place of the right one, from 0.
        answer: usize,
    },
    /// See [`Family::Caption`].
    Caption {
        /// Those of the native row that are texts, in native order, at least one.
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
        /// What is asked and what is replied, in order, at least one. It ends before the first turn
        /// of the native row that lacks a text, since later ones may refer to it.
        turns: Vec<(String, String)>,
    },
}

/// Letters that options can have: A to Z.
const MOST_CHOICES: usize = 26;

/// The field that is at fault and why.
pub(crate) type FieldFault = (&'static str, String);

/// Reads the native id and the images of a mapped row.
pub(crate) fn common(fields: &Map<String, Value>) -> Result<(String, Vec<String>), FieldFault> {
    let id = field(fields, "id", |value| key_text(value).ok_or_else(|| expected("a text or a number", value)))?;
    let images = field(fields, "images", |value| match value {
        Value::String(_) => Ok(vec![text(value)?]),
        images => list(images, "a path or a list of paths")?.iter().map(text).collect(),
    })?;
    if let Some(path) = images.iter().find(|path| !stays_inside(path)) {
        return Err(("images", format!("{path:?} leaves the folder of pictures")));
    }
    Ok((id, images))
}

/// Reads what the family adds to a mapped row. Elements of its lists that hold no text, and so are
/// left out without the record, are added to `left_out`.
pub(crate) fn answer(
    family: Family,
    fields: &Map<String, Value>,
    left_out: &mut Vec<FieldFault>,
) -> Result<Answer, FieldFault> {
    let question = |value: &Value| text(value).map(|text| question_mark(&text));
    Ok(match family {
        Family::Vqa => {
            Answer::Vqa { question: field(fields, "question", question)?, answer: field(fields, "answer", text)? }
        }
        Family::KnowledgeVqa => {
            let choices: Vec<String> = field(fields, "choices", |value| {
                let or_none = |choice| {
                    text(choice).unwrap_or_else(|reason| {
                        left_out.push(("choices", reason));
                        String::new()
                    })
                };
                Ok(list(value, "a list of texts")?.iter().map(or_none).collect())
            })?;
            let shown = choices.iter().filter(|choice| !choice.is_empty()).count();
            if choices.len() > MOST_CHOICES || shown < 2 {
                return Err((
                    "choices",
                    format!("must be 2 to {MOST_CHOICES} texts, not {shown} in {}", choices.len()),
                ));
            }
            let answer = field(fields, "answer", |value| place(value, choices.len()))?;
            if choices[answer].is_empty() {
                return Err(("choices", "lack the right one".to_owned()));
            }
            if choices.iter().filter(|choice| **choice == choices[answer]).count() > 1 {
                return Err((
                    "choices",
                    format!("hold the right one, {:?}, twice, so two letters are right", choices[answer]),
                ));
            }
            Answer::KnowledgeVqa { question: field(fields, "question", question)?, choices, answer }
        }
        Family::Caption => {
            let captions = field(fields, "captions", |value| {
                let mut captions = Vec::new();
                for caption in list(value, "a list of texts")? {
                    match text(caption) {
                        Ok(caption) => captions.push(caption),
                        Err(reason) => left_out.push(("captions", reason)),
                    }
                }
                if captions.is_empty() { Err("hold no text".to_owned()) } else { Ok(captions) }
            })?;
            Answer::Caption { captions }
        }
        Family::Classification => {
            Answer::Classification { category: field(fields, "category", text)?, label: field(fields, "label", text)? }
        }
        Family::Entailment => Answer::Entailment {
            statement: field(fields, "statement", text)?,
            label: field(fields, "label", |value| value.as_bool().ok_or_else(|| expected("true or false", value)))?,
        },
        Family::Dialog => {
            let turns = field(fields, "turns", |value| {
                let mut turns = Vec::new();
                let all = list(value, "a list of pairs of texts")?;
                for found in all {
                    match turn(found) {
                        Ok(turn) => turns.push(turn),
                        Err(reason) if turns.is_empty() => return Err(format!("the first turn {reason}")),
                        Err(reason) => {
                            let reason = format!("turn {} of {} {reason}", turns.len() + 1, all.len());
                            left_out.push(("turns", reason));
                            break;
                        }
                    }
                }
                Ok(turns)
            })?;
            Answer::Dialog { turns }
        }
    })
}

fn field<T>(
    fields: &Map<String, Value>,
    name: &'static str,
    read: impl FnOnce(&Value) -> Result<T, String>,
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
        Value::Null => return Err("is missing or null".to_owned()),
        _ => return Err(expected("a text or a number", value)),
    };
    // Joiners and marks of direction stand for nothing where there is no letter.
    let is_nothing = |character: char| {
        character.is_whitespace() || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    if text.chars().all(is_nothing) { Err("is empty".to_owned()) } else { Ok(text) }
}

/// Returns the text of a key, so that the number 9 in one file meets the text "9" in another, and
/// the 9.0 that pandas makes of it in a column with gaps. What is missing or blank is no key.
pub(crate) fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::Number(number) => Some(match number.as_f64() {
            // Whole numbers up to here have one double each.
            Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                format!("{value:.0}")
            }
            _ => number.to_string(),
        }),
        other => text(other).ok(),
    }
}

/// Returns the elements of a list that is not empty.
fn list<'a>(value: &'a Value, what: &str) -> Result<&'a [Value], String> {
    let Value::Array(values) = value else { return Err(expected(what, value)) };
    if values.is_empty() { Err("is an empty list".to_owned()) } else { Ok(values) }
}

fn place(value: &Value, length: usize) -> Result<usize, String> {
    let place = value.as_u64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place < length);
    place.ok_or_else(|| expected(&format!("a place from 0 to {}", length - 1), value))
}

fn turn(value: &Value) -> Result<(String, String), String> {
    match value.as_array().map(Vec::as_slice) {
        Some([user, assistant]) => Ok((text(user)?, text(assistant)?)),
        _ => Err(expected("a pair of texts", value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(family: Family, fields: Value) -> Result<Answer, FieldFault> {
        let Value::Object(fields) = fields else { panic!("an object") };
        answer(family, &fields, &mut Vec::new())
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
            (Family::Vqa, json!({"question": " \u{200b}\u{feff}", "answer": "x"}), ("question", "is empty")),
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
                ("choices", "2 to 26 texts, not 1 in 1"),
            ),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a", "b", "a "], "answer": 2}),
                ("choices", "the right one, \"a\", twice"),
            ),
            (Family::Caption, json!({"captions": []}), ("captions", "empty list")),
            (Family::Entailment, json!({"statement": "x", "label": 1}), ("label", "true or false, but is 1")),
            (Family::Caption, json!({"captions": [null, "", " ", ["x"]]}), ("captions", "hold no text")),
            (Family::Dialog, json!({"turns": [["c"], ["a", "b"]]}), ("turns", "a pair of texts, but is [\"c\"]")),
            (Family::Dialog, json!({"turns": [["a", null]]}), ("turns", "the first turn is missing or null")),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a", "b", ""], "answer": 2}),
                ("choices", "lack the right one"),
            ),
            (
                Family::KnowledgeVqa,
                json!({"question": "x", "choices": ["a", null, ""], "answer": 0}),
                ("choices", "2 to 26 texts, not 1 in 3"),
            ),
        ];
        for (family, fields, (name, reason)) in faults {
            let fault = read(family, fields).unwrap_err();
            assert!(fault.0 == name && fault.1.contains(reason), "{fault:?}");
        }
    }

    #[test]
    fn elements_without_a_text_are_left_out_and_told() {
        let cells = [json!(null), json!(""), json!(" \n"), json!(["x"]), json!({"x": 1}), json!(true)];
        for cell in cells {
            let read = |family, fields: Value| {
                let mut left_out = Vec::new();
                (answer(family, fields.as_object().unwrap(), &mut left_out).unwrap(), left_out)
            };
            let (captions, left_out) = read(Family::Caption, json!({"captions": ["a", cell, "b"]}));
            assert_eq!(captions, Answer::Caption { captions: vec!["a".into(), "b".into()] });
            assert_eq!((left_out.len(), left_out[0].0), (1, "captions"), "{cell}");
            let fields = json!({"question": "x?", "choices": ["a", cell, "b"], "answer": 2});
            let (options, left_out) = read(Family::KnowledgeVqa, fields);
            let choices = vec!["a".into(), String::new(), "b".into()];
            assert_eq!(options, Answer::KnowledgeVqa { question: "x?".into(), choices, answer: 2 });
            assert_eq!((left_out.len(), left_out[0].0), (1, "choices"), "{cell}");
            let turns = json!({"turns": [["a", "b"], ["c", cell], ["d", "e"]]});
            let (turns, left_out) = read(Family::Dialog, turns);
            assert_eq!(turns, Answer::Dialog { turns: vec![("a".into(), "b".into())] });
            assert_eq!((left_out.len(), left_out[0].0), (1, "turns"), "{cell}");
        }
    }

    #[test]
    fn keys_meet_however_they_are_written() {
        for key in [json!(9), json!("9"), json!(9.0), json!(" 9 ")] {
            assert_eq!(key_text(&key).as_deref(), Some("9"), "{key}");
        }
        assert_eq!(key_text(&json!(9.5)).as_deref(), Some("9.5"));
        assert_eq!(key_text(&json!(u64::MAX)), Some(u64::MAX.to_string()));
        for none in [json!(null), json!(""), json!(" "), json!([9]), json!(true), json!({})] {
            assert_eq!(key_text(&none), None, "{none}");
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
