//! Rows of GQA, ScienceQA and MMMU as rows with the fields of our own.

use serde_json::{Value, json};

use super::rows::{Row, bad, plain};
use crate::error::Result;
use crate::python::texts;

/// Names of the field of the options of a multiple choice.
pub(super) const OPTIONS: &[&str] = &["options", "choices"];
/// The field that tells an open question from a multiple choice.
pub(super) const QUESTION_TYPE: &str = "question_type";
/// Its value for an open question.
pub(super) const OPEN: &str = "open";
/// Fields by which a question of GQA is known. Questions of its test set have no others.
const GQA: &[&str] = &["question", "imageId", "isBalanced"];
/// Fields by which a question of ScienceQA is known.
const SCIENCE_QA: &[&str] = &["question", "choices", "subject", "topic", "skill"];
/// Prefixes of the ids of MMMU, such as `validation_Art_Theory_1`.
const MMMU_SPLITS: &[&str] = &["dev", "validation", "test"];
/// The values of [`QUESTION_TYPE`] in MMMU.
const MMMU_TYPES: &[&str] = &["multiple-choice", OPEN];
/// The answer of the questions of MMMU whose answers are not published.
const HIDDEN: &str = "?";
/// The split that the official script of ScienceQA scores.
const TEST: &str = "test";

/// Changes a row of one of these formats into one with the fields of our own; others stay.
///
/// # Errors
///
/// If a field of such a row has a value that its format does not have.
pub(super) fn as_own(row: &mut Row) -> Result<()> {
    let is_text = |names: &[&'static str]| row.first(names).is_some_and(|(_, value)| value.is_string());
    let is_typed = MMMU_TYPES.iter().any(|name| row.fields.get(QUESTION_TYPE).is_some_and(|value| value == name));
    if has(row, GQA) {
        gqa(row)
    } else if has(row, SCIENCE_QA) {
        science_qa(row)
    } else if is_text(OPTIONS) || (is_typed && row.first(OPTIONS).is_some()) {
        mmmu(row)
    } else {
        Ok(())
    }
}

fn has(row: &Row, names: &[&str]) -> bool {
    names.iter().all(|name| row.fields.contains_key(*name))
}

/// Sets the category of GQA, the structural type, and the file of the image.
fn gqa(row: &mut Row) -> Result<()> {
    let is_balanced = &row.fields["isBalanced"];
    if *is_balanced != true {
        let wanted =
            "true: accuracies of GQA are those of its balanced questions, so take the file *_balanced_questions";
        return Err(bad(&row.place, "isBalanced", is_balanced, wanted));
    }
    let image_id = &row.fields["imageId"];
    let image = plain(image_id).ok_or_else(|| bad(&row.place, "imageId", image_id, "a text"))?;
    if let Some(types) = row.fields.get("types") {
        let structural = types.get("structural").filter(|structural| structural.is_string());
        let wanted = "an object with the text structural";
        let category = structural.ok_or_else(|| bad(&row.place, "types", types, wanted))?.clone();
        row.fields.insert("category".to_owned(), category);
    }
    row.fields.insert("image".to_owned(), json!(format!("{image}.jpg")));
    Ok(())
}

/// Sets the category of ScienceQA, the subject, the letter of the answer, which is the number of
/// its option, counted from 0, and the path of the image, whose name is the same for all questions.
fn science_qa(row: &mut Row) -> Result<()> {
    let answer = row.fields.get("answer").filter(|answer| !answer.is_null());
    if let Some(answer) = answer {
        let options = row.fields["choices"].as_array().map_or(0, Vec::len);
        let letter = answer.as_u64().and_then(|index| ('A'..='Z').take(options).nth(usize::try_from(index).ok()?));
        let wanted = "the number of one of the choices, counted from 0, as ScienceQA has it";
        let letter = letter.ok_or_else(|| bad(&row.place, "answer", answer, wanted))?;
        row.fields.insert("answer".to_owned(), json!(letter.to_string()));
    }
    let text = |name: &str| row.fields.get(name).and_then(Value::as_str);
    if let (Some(image), Some(split), Some(id)) = (text("image"), text("split"), text("id")) {
        let path = format!("{split}/{id}/{image}");
        row.fields.insert("image".to_owned(), json!(path));
    }
    let subject = row.fields["subject"].clone();
    row.fields.insert("category".to_owned(), subject);
    Ok(())
}

/// Sets the options of MMMU, a list of Python in a text; the answers of an open question, which may
/// be such a list too; and the category, which is the subject in the id.
fn mmmu(row: &mut Row) -> Result<()> {
    let question_type = row.fields.get(QUESTION_TYPE).filter(|value| !value.is_null());
    if let Some(other) = question_type.filter(|value| !MMMU_TYPES.iter().any(|name| *value == name)) {
        return Err(bad(&row.place, QUESTION_TYPE, other, "multiple-choice or open, because its options are a text"));
    }
    let is_open = question_type.is_some_and(|value| value == OPEN);
    let list = "a list, or a text with a list of texts as in Python, such as \"['3x', '4x']\"";
    if let Some((name, value @ Value::String(text))) = row.first(OPTIONS) {
        let options = texts(text).ok_or_else(|| bad(&row.place, name, value, list))?;
        row.fields.insert(name.to_owned(), json!(options));
    }
    match row.fields.get("answer") {
        Some(value) if value == HIDDEN => {
            row.fields.remove("answer");
        }
        Some(value @ Value::String(text)) if is_open && (text.starts_with("['") || text.starts_with("[\"")) => {
            let answers = texts(text).ok_or_else(|| bad(&row.place, "answer", value, list))?;
            row.fields.insert("answer".to_owned(), json!(answers));
        }
        _ => {}
    }
    let subject = row.fields.get("id").and_then(Value::as_str).and_then(|id| {
        let (split, rest) = id.split_once('_')?;
        let (subject, number) = rest.rsplit_once('_')?;
        let is_id = MMMU_SPLITS.contains(&split) && number.bytes().all(|byte| byte.is_ascii_digit());
        is_id.then(|| subject.to_owned())
    });
    if let Some(subject) = subject {
        row.fields.insert("category".to_owned(), json!(subject));
    }
    Ok(())
}

/// Keeps the questions of the split `test` of ScienceQA, as its official script, if a file has
/// several splits, and adds a note. Other questions stay.
///
/// # Errors
///
/// If there is no such split among several.
pub(super) fn of_test(mut rows: Vec<Row>, notes: &mut Vec<String>) -> Result<Vec<Row>> {
    let split = |row: &Row| row.fields.get("split").and_then(Value::as_str).unwrap_or_default().to_owned();
    let other = rows.iter().find(|row| split(row) != split(&rows[0]));
    let Some(other) = other.filter(|_| rows.iter().all(|row| has(row, SCIENCE_QA))) else { return Ok(rows) };
    if !rows.iter().any(|row| split(row) == TEST) {
        let value = other.fields.get("split").unwrap_or(&Value::Null);
        let wanted = "that of all other questions, or some must be of test; keep the questions of one split";
        return Err(bad(&other.place, "split", value, wanted));
    }
    let all = rows.len();
    rows.retain(|row| split(row) == TEST);
    notes.push(format!(
        "{} of {all} questions are of the split test; only these are scored, as by the script of ScienceQA",
        rows.len()
    ));
    Ok(rows)
}
