//! Questions with their answers: simple rows, and official formats.

use std::collections::BTreeMap;

use serde_json::Value;

use super::formats::{OPEN, OPTIONS, QUESTION_TYPE, as_own, of_test};
use super::rows::{self, Document, ID, Ids, Key, Row, bad, column, entries, is_keyed, keyed, plain, read};
use super::{Place, Source};
use crate::error::{Error, Result};

/// Names of the field of the answers, in this order.
const ANSWERS: &[&str] = &["answers", "answer", "label", "captions", "caption", "target", "box", "bbox"];
/// The name of a box that COCO has for another form of it.
const BBOX: &str = "bbox";
/// Names of the field of the question.
const QUESTION: &[&str] = &["question", "query", "text", "sents"];
/// Names of the field of the category: `class` in Open-VQA, `answer_type` in VQA.
const CATEGORY: &[&str] = &["category", "class", "answer_type"];
/// Names of the field of the image or video.
const IMAGE: &[&str] = &["image", "image_id", "video", "imgname", "image_source"];
/// Captions of COCO belong to an image, not to a question.
const COCO_ID: &[&str] = &["image_id"];

/// A question with its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The id that its prediction has, too.
    pub id: String,
    /// The question; captions have none.
    pub question: Option<String>,
    /// All answers or captions; empty if only people can judge.
    pub answers: Vec<String>,
    /// The category, which is a row of the table of scores.
    pub category: Option<String>,
    /// The image or video; questions about the same one are resampled together.
    pub image: Option<String>,
    /// Options of a multiple choice, in the order of their letters.
    pub options: Vec<String>,
    /// Whether it is an open question of a set with multiple choices, as MMMU has.
    pub is_open: bool,
    /// Place in its file.
    pub place: Place,
}

/// The references of all files.
#[derive(Debug)]
pub struct References {
    /// The references in the order of the files.
    pub rows: Vec<Reference>,
    /// The fields that hold ids. Predictions and labels are joined with the references by them.
    pub key: Key,
    /// Remarks about unusual input.
    pub notes: Vec<String>,
}

/// Reads references: simple rows, which include POPE, Open-VQA and OwlEval; annotations and
/// questions of VQA; captions of COCO; DocVQA; objects with questions by their ids, as GQA and
/// ScienceQA have; MMMU; VizWiz, whose ids are the names of images.
///
/// # Errors
///
/// If a text is not JSON, a row has no id, no field has another id in every row, the format is not
/// one of these, a row is not as its format has it, or there are no rows.
pub fn read_references(sources: &[Source]) -> Result<References> {
    let mut found = Found::default();
    let mut questions: Vec<Row> = Vec::new();
    let mut notes = Vec::new();
    for source in sources {
        match read(*source, "references")? {
            Document::Rows(rows) => found.add(rows)?,
            Document::Object(mut fields) => {
                if let Some(list) = fields.remove("questions") {
                    questions.extend(entries(*source, list)?);
                } else if let Some(list) = fields.remove("annotations") {
                    let rows = entries(*source, list)?;
                    if rows.iter().any(|row| row.fields.contains_key("caption")) {
                        found.add_captions(&rows)?;
                    } else {
                        found.add(rows)?;
                    }
                } else if let Some(list) = fields.remove("data") {
                    found.add(entries(*source, list)?)?;
                } else if is_keyed(&fields, QUESTION) {
                    found.add(of_test(keyed(*source, fields, QUESTION)?, &mut notes)?)?;
                } else {
                    let keys: Vec<&str> = fields.keys().take(5).map(String::as_str).collect();
                    let what = format!("is an object with the keys {}", keys.join(", "));
                    return Err(Error::NoRows { file: source.name.to_owned(), what, rows: "references" });
                }
            }
        }
    }
    let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
    let Found { mut references, ids, has_bbox } = found;
    if references.is_empty() {
        return Err(Error::Empty { file: names.join(" and "), rows: "references" });
    }
    let (key, ids) = Key::choose(&ids, |index| references[index].place.clone())?;
    for (reference, id) in references.iter_mut().zip(ids) {
        reference.id = id;
    }
    add_questions(&mut references, &questions, &key, &mut notes)?;
    if has_bbox {
        notes.push("bbox is read as the corners [x1, y1, x2, y2]; that of COCO is [x, y, width, height]".to_owned());
    }
    Ok(References { rows: references, key, notes })
}

/// The references of the files so far.
#[derive(Default)]
struct Found {
    references: Vec<Reference>,
    /// All ids of each of them, from which one is chosen at the end.
    ids: Vec<Ids>,
    has_bbox: bool,
}

impl Found {
    fn add(&mut self, mut rows: Vec<Row>) -> Result<()> {
        // Without any column of either, the error names those of ids.
        let is_by_image = column(&rows, ID).is_none() && column(&rows, rows::IMAGE).is_some();
        for row in &mut rows {
            self.ids.push(row.ids(if is_by_image { rows::IMAGE } else { ID })?);
            as_own(row)?;
            self.references.push(reference(row)?);
            self.has_bbox |= row.first(ANSWERS).is_some_and(|(name, _)| name == BBOX);
        }
        Ok(())
    }

    /// Adds one reference per image with all its captions, in the order of the first captions.
    fn add_captions(&mut self, rows: &[Row]) -> Result<()> {
        for reference in captions(rows)? {
            self.ids.push(vec![(COCO_ID[0], reference.id.clone())]);
            self.references.push(reference);
        }
        Ok(())
    }
}

/// Adds the questions and images of another file to references.
fn add_questions(references: &mut [Reference], rows: &[Row], key: &Key, notes: &mut Vec<String>) -> Result<()> {
    let join = key.join(rows)?;
    let mut questions: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
    for row in rows {
        // A question without an annotation is only counted.
        let id = join.id(row).or_else(|_| row.id(ID))?;
        questions.insert(id, (row.text(QUESTION)?.unwrap_or_default(), row.text(IMAGE)?));
    }
    let asked = questions.len();
    for reference in references {
        if let Some((question, image)) = questions.remove(&reference.id) {
            reference.question.get_or_insert(question);
            reference.image = reference.image.take().or(image);
        }
    }
    if let Some(id) = questions.keys().next() {
        let rest = questions.len();
        notes.push(format!("{rest} of {asked} questions have no annotation, such as {id}; they are not scored"));
    }
    Ok(())
}

fn reference(row: &Row) -> Result<Reference> {
    let answers = match row.first(ANSWERS) {
        Some((name, value)) => answers(row, name, value)?,
        None => Vec::new(),
    };
    let options = match row.first(OPTIONS) {
        Some((_, Value::Array(values))) if values.iter().all(|value| plain(value).is_some()) => {
            values.iter().filter_map(plain).collect()
        }
        Some((name, value)) => return Err(bad(&row.place, name, value, "a list of texts")),
        None => Vec::new(),
    };
    refuse_index(row, &options)?;
    Ok(Reference {
        // It is chosen when the ids of all references are known.
        id: String::new(),
        question: row.text(QUESTION)?,
        answers,
        category: row.text(CATEGORY)?,
        image: row.text(IMAGE)?,
        options,
        is_open: row.fields.get(QUESTION_TYPE).is_some_and(|value| value == OPEN),
        place: row.place.clone(),
    })
}

/// Refuses a number as answer if it may be the number of an option: some files count from 0, others
/// from 1. Only a number that is the text of an option and not the number of another is clear.
fn refuse_index(row: &Row, options: &[String]) -> Result<()> {
    let Some((name, value @ Value::Number(number))) = row.first(ANSWERS) else { return Ok(()) };
    let text = number.to_string();
    let index = number.as_u64().and_then(|index| usize::try_from(index).ok());
    let mut counted = [index, index.and_then(|index| index.checked_sub(1))].into_iter().flatten();
    let is_other = |index: usize| options.get(index).is_some_and(|option| *option != text);
    if options.is_empty() || (options.contains(&text) && !counted.any(is_other)) {
        return Ok(());
    }
    let wanted = "the letter of the right option, or its text in quotes: a number may be a text, or count the options \
                  from 0 or from 1";
    Err(bad(&row.place, name, value, wanted))
}

/// Returns the answers from one answer, a list of answers, a list of objects as in VQA, or the four
/// numbers of a box.
fn answers(row: &Row, name: &str, value: &Value) -> Result<Vec<String>> {
    let wanted = "a text, a list of texts or a list of objects with an answer";
    let one = |value: &Value| match value {
        Value::Object(fields) => fields.get("answer").and_then(plain),
        other => plain(other),
    };
    match value {
        Value::Array(values) if name == "box" || name == BBOX => {
            let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
            let is_box = values.len() == 4 && numbers.len() == 4;
            // A width is often smaller than x, but x2 never is.
            if !is_box || (name == BBOX && (numbers[2] < numbers[0] || numbers[3] < numbers[1])) {
                return Err(bad(&row.place, name, value, "the list of numbers [x1, y1, x2, y2]"));
            }
            Ok(vec![value.to_string()])
        }
        Value::Array(values) => {
            let answers: Option<Vec<String>> = values.iter().map(one).collect();
            answers.ok_or_else(|| bad(&row.place, name, value, wanted))
        }
        other => Ok(vec![plain(other).ok_or_else(|| bad(&row.place, name, value, wanted))?]),
    }
}

/// Returns one reference per image with all its captions, in the order of the first captions.
fn captions(rows: &[Row]) -> Result<Vec<Reference>> {
    let mut references: Vec<Reference> = Vec::new();
    let mut by_image: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let id = row.id(COCO_ID)?;
        let Some(caption) = row.text(&["caption"])? else {
            let names: &[&str] = &["caption"];
            return Err(Error::NoField { place: row.place.clone(), what: "caption", names, hint: "" });
        };
        if let Some(index) = by_image.get(&id) {
            references[*index].answers.push(caption);
            continue;
        }
        by_image.insert(id.clone(), references.len());
        references.push(Reference {
            image: Some(id.clone()),
            id,
            question: None,
            answers: vec![caption],
            category: None,
            options: Vec::new(),
            is_open: false,
            place: row.place.clone(),
        });
    }
    Ok(references)
}

/// Reads human labels: rows with an id and a `label` of yes or no. `key` is that of the references.
///
/// # Errors
///
/// As for predictions, and if a label is neither yes nor no.
pub fn read_labels(source: Source, key: &Key) -> Result<Vec<(String, bool, Place)>> {
    let Document::Rows(rows) = read(source, "labels")? else {
        let what = "is one object".to_owned();
        return Err(Error::NoRows { file: source.name.to_owned(), what, rows: "labels" });
    };
    let join = key.join(&rows)?;
    let mut labels: BTreeMap<String, Place> = BTreeMap::new();
    let label = |row: &Row| {
        let id = join.id(row)?;
        let names: &[&str] = &["label", "human"];
        let Some((name, value)) = row.first(names) else {
            return Err(Error::NoField { place: row.place.clone(), what: "label", names, hint: "" });
        };
        let yes = match plain(value).unwrap_or_default().trim().to_lowercase().as_str() {
            "yes" | "true" | "1" => true,
            "no" | "false" | "0" => false,
            _ => return Err(bad(&row.place, name, value, "yes or no")),
        };
        if let Some(first) = labels.insert(id.clone(), row.place.clone()) {
            return Err(Error::DuplicateId { place: row.place.clone(), first, id });
        }
        Ok((id, yes, row.place.clone()))
    };
    let labels: Vec<_> = rows.iter().map(label).collect::<Result<_>>()?;
    if labels.is_empty() {
        return Err(Error::Empty { file: source.name.to_owned(), rows: "labels" });
    }
    Ok(labels)
}
