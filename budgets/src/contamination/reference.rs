//! Reads the references of a comparison: conversations, rows of questions and images, and the files
//! of benchmarks in the layouts of their authors.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lynxdata_records::python_json::Lenient;
use lynxdata_records::text;
use rayon::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Comparison, Item, each_of_file, image_id, letter, visual_genome_id};
use crate::error::{Error, Result};
use crate::read::{Content, Conversation, Picture, SUFFIXES, TURNS, listed, name_below, parse_json, values};

/// The fields of a question, in this order: POPE and LLaVA-Bench call it `text`.
const QUESTION: &[&str] = &["question", "text"];
/// The fields of its answers.
const ANSWERS: &[&str] = &["answers", "answer", "label"];
/// The fields of the options of a question: a list, or an object by letter.
const OPTIONS: &[&str] = &["options", "choices"];
/// The fields of images, with paths or objects with a path.
const IMAGES: &[&str] = &["image", "images", "image_path"];
/// The fields of a document with a list of rows: questions of VQA, the images of COCO, the rows of
/// TextVQA, and the answers of VQA, which also name images.
const LISTS: &[&str] = &["questions", "images", "data", "annotations"];
/// The suffixes of tables without a header, with image, question and answer in each line, as in
/// MME.
const TABLES: &[&str] = &["txt", "tsv"];

/// The content of a row of a benchmark.
pub(super) enum Asked {
    Conversation(Box<Conversation>),
    Question(Question),
}

/// The dataset whose image ids are the numbers in `image_id`.
#[derive(Debug)]
pub(super) enum Numbers {
    /// Unknown.
    OfAny,
    /// COCO, with the part of it (`val2014`) if it is known.
    OfCoco(Option<String>),
}

/// A row of a benchmark: a question with its answers, or only an image.
#[derive(Default)]
pub(super) struct Question {
    pub(super) id: Option<String>,
    pub(super) text: Option<String>,
    pub(super) answers: Vec<String>,
    pub(super) pictures: Vec<Picture>,
    /// The dataset and the id of its image, where the row has no path.
    pub(super) image_id: Option<(&'static str, String)>,
}

/// Returns the files of references below a folder, or the file itself.
///
/// # Errors
/// If there is no such file, or the folder cannot be read.
pub fn reference_files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(listed(path, &[SUFFIXES, TABLES].concat())?.files)
}

/// Passes the references of a file or folder to `take` in order; `None` means an unreadable one.
pub(super) fn each(path: &Path, comparison: &Comparison, take: &mut dyn FnMut(Option<Item>)) -> Result<()> {
    for file in reference_files(path)? {
        let name = name_below(path, &file);
        let folder = comparison.against_images.as_deref().or(file.parent()).unwrap_or(Path::new(""));
        if is_table(&file) {
            let failed = |source| Error::Io { action: "read", path: file.clone(), source };
            let input = BufReader::new(text::utf8(File::open(&file).map_err(failed)?).map_err(failed)?);
            for (row, line) in input.split(b'\n').enumerate() {
                let line = line.map_err(failed)?;
                if !line.trim_ascii().is_empty() {
                    let asked = Question::of_line(&String::from_utf8_lossy(&line)).map(Asked::Question);
                    take(asked.map(|asked| Item::of(&name, row as u64, asked, folder, comparison)));
                }
            }
            continue;
        }
        if let Some(document) = pretty_document(&file)? {
            let rows: Vec<(u64, Option<Asked>)> = Document::new(document).rows(0).collect();
            let read = |(row, asked): (u64, Option<Asked>)| Some(Item::of(&name, row, asked?, folder, comparison));
            rows.into_par_iter().map(read).collect::<Vec<_>>().into_iter().for_each(&mut *take);
            continue;
        }
        each_of_file(&file, &name, &|row, content| items(&name, row, content, folder, comparison), take)?;
    }
    Ok(())
}

fn is_table(file: &Path) -> bool {
    let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
    TABLES.contains(&suffix.as_str())
}

/// Returns the references of a record: of a line, all rows of the document in it.
fn items(name: &Arc<str>, row: u64, content: Content, folder: &Path, comparison: &Comparison) -> Vec<Option<Item>> {
    let bytes = match content {
        Content::Json(bytes) => bytes,
        read @ Content::Read(_) => return vec![Item::read(name, row, read, folder, comparison)],
    };
    let Ok((value, _)) = parse_json(&bytes) else { return vec![None] };
    let rows = Document::new(value).rows(row);
    rows.map(|(row, asked)| Some(Item::of(name, row, asked?, folder, comparison))).collect()
}

/// Returns the content of a file with one JSON object over several lines; `None` for others.
fn pretty_document(file: &Path) -> Result<Option<Value>> {
    let failed = |source| Error::Io { action: "read", path: file.to_owned(), source };
    let Some(mut values) = values(file)? else { return Ok(None) };
    let Some((_, first)) = values.next().map_err(failed)? else { return Ok(None) };
    if values.is_list() || serde_json::from_slice::<IgnoredAny>(&first).is_ok() || parse_json(&first).is_ok() {
        return Ok(None);
    }
    let input = text::utf8(File::open(file).map_err(failed)?).map_err(failed)?;
    Ok(serde_json::from_reader(BufReader::new(Lenient::new(input))).ok())
}

/// A JSON object: one row, or a file of rows.
struct Document {
    rows: Vec<(Option<String>, Value)>,
    numbers: Numbers,
    is_file: bool,
}

impl Document {
    fn new(value: Value) -> Document {
        let one = |value: Value| Document { rows: vec![(None, value)], numbers: Numbers::OfAny, is_file: false };
        let Value::Object(mut fields) = value else { return one(value) };
        let has = |names: &[&str]| names.iter().any(|name| fields.get(*name).is_some_and(|value| !value.is_null()));
        let holds_rows = |name: &&&str| {
            let list = fields.get(**name).and_then(Value::as_array);
            list.is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object))
        };
        let is_row = has(TURNS) || QUESTION.iter().any(|name| fields.get(*name).is_some_and(Value::is_string));
        if is_row {
            return one(Value::Object(fields));
        }
        if let Some(list) = LISTS.iter().find(holds_rows) {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            // Questions in the layout of VQA are about COCO unless they say otherwise.
            let is_coco = text("data_type").map_or(*list == "questions", |data| data == "mscoco");
            let numbers = if is_coco { Numbers::OfCoco(text("data_subtype")) } else { Numbers::OfAny };
            let Some(Value::Array(list)) = fields.remove(*list) else { unreachable!("it was just found") };
            return Document { rows: list.into_iter().map(|row| (None, row)).collect(), numbers, is_file: true };
        }
        let is_by_id = !fields.is_empty() && fields.values().all(Value::is_object);
        if is_by_id && !has(IMAGES) {
            let rows = fields.into_iter().map(|(id, row)| (Some(id), row)).collect();
            return Document { rows, numbers: Numbers::OfAny, is_file: true };
        }
        one(Value::Object(fields))
    }

    /// Returns its rows with their numbers: `row` for a single one, otherwise from 0.
    fn rows(self, row: u64) -> impl Iterator<Item = (u64, Option<Asked>)> {
        let Document { rows, numbers, is_file } = self;
        rows.into_iter().zip(if is_file { 0.. } else { row.. }).map(move |((id, value), row)| {
            let mut asked = Asked::of(value, &numbers);
            if let Some(Asked::Question(question)) = &mut asked {
                question.id = question.id.take().or(id);
            }
            (row, asked)
        })
    }
}

impl Asked {
    /// Reads a conversation, or else a row with a question or an image.
    pub(super) fn of(row: Value, numbers: &Numbers) -> Option<Asked> {
        let has_turns = TURNS.iter().any(|name| row.get(*name).is_some_and(|turns| !turns.is_null()));
        if has_turns {
            return Conversation::from_json(row).ok().map(|own| Asked::Conversation(Box::new(own)));
        }
        Question::of(row.as_object()?, numbers).map(Asked::Question)
    }
}

impl Question {
    /// Reads a row, as `lynxdata eval` reads references; `None` if it has neither a question nor an
    /// image.
    fn of(row: &Map<String, Value>, numbers: &Numbers) -> Option<Question> {
        let plain = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(fields) => fields.get("answer")?.as_str().map(str::to_owned),
            _ => None,
        };
        let texts = |value: &Value| match value {
            Value::Array(list) => list.iter().filter_map(plain).collect(),
            other => plain(other).into_iter().collect::<Vec<String>>(),
        };
        let field = |names: &[&str]| names.iter().find_map(|name| row.get(*name).filter(|value| !value.is_null()));
        let mut own = Question {
            id: field(&["id", "question_id", "questionId", "index"]).and_then(plain),
            text: QUESTION.iter().find_map(|name| row.get(*name)?.as_str()).map(str::to_owned),
            answers: field(ANSWERS).map(texts).unwrap_or_default(),
            ..Question::default()
        };
        own.answers.extend(own.answers.iter().find_map(|answer| option(row, answer)));
        // A row of COCO's list of images is an image itself.
        let image = field(IMAGES).cloned().or_else(|| row.contains_key("file_name").then(|| row.clone().into()));
        if let Some(image) = image {
            let mut conversation = Conversation::default();
            conversation.take_pictures(&image);
            own.pictures = conversation.pictures;
        }
        if own.pictures.is_empty() {
            own.take_image_id(row, numbers);
        }
        let has_image = own.image_id.is_some() || !own.pictures.is_empty();
        (own.text.is_some() || has_image).then_some(own)
    }

    /// Reads `imageId` as GQA has it, and `image_id` as VQA and TextVQA have it.
    fn take_image_id(&mut self, row: &Map<String, Value>, numbers: &Numbers) {
        let named = |path: String| vec![Picture { path: Some(path), ..Picture::default() }];
        match (row.get("imageId"), row.get("image_id")) {
            (Some(Value::String(name)), _) => {
                self.image_id = visual_genome_id(name);
                self.pictures = named(format!("{name}.jpg"));
            }
            (None, Some(Value::String(name))) => {
                self.image_id = image_id(name, false);
                self.pictures = named(format!("{name}.jpg"));
            }
            (None, Some(Value::Number(number))) => {
                let Some(number) = number.as_u64() else { return };
                // Numbers count as ids of COCO only if something says so, because Visual Genome has
                // other images under the same ones. A question of VQA has the number of its image
                // with three more digits.
                let of_question = row.get("question_id").and_then(Value::as_u64);
                let is_vqa = of_question.is_some_and(|own| own / 1000 == number);
                if is_vqa || matches!(numbers, Numbers::OfCoco(_)) {
                    self.image_id = Some(("coco", number.to_string()));
                }
                if let Numbers::OfCoco(Some(part)) = numbers {
                    self.pictures = named(format!("COCO_{part}_{number:012}.jpg"));
                }
            }
            _ => {}
        }
    }

    /// Reads a line of a table with image, question and answer.
    fn of_line(line: &str) -> Option<Question> {
        let cells: Vec<&str> = line.trim_end_matches(['\r', '\n']).split('\t').collect();
        let [image, question, answer] = cells.as_slice() else { return None };
        let picture = Picture { path: Some((*image).to_owned()), ..Picture::default() };
        Some(Question {
            text: Some((*question).to_owned()),
            answers: vec![(*answer).to_owned()],
            pictures: vec![picture],
            ..Question::default()
        })
    }
}

/// Returns the text of the option that an answer names by its letter, or by its place from 0 if
/// options are a list, as in ScienceQA. An answer that is the text of an option names no other one:
/// among the options 1, 2 and 3, the answer 2 is not the third.
fn option(row: &Map<String, Value>, answer: &str) -> Option<String> {
    let own = letter(answer).map(|letter| letter.to_string());
    let text = |option: &Value| match option {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    // MMBench has a column for each option.
    if let Some(found) = own.as_deref().and_then(|letter| row.get(letter)) {
        return text(found);
    }
    let is_answer = |option: &Value| text(option).as_deref() == Some(answer);
    match OPTIONS.iter().find_map(|name| row.get(*name))? {
        Value::Object(options) => text(options.get(own.as_deref()?)?),
        Value::Array(options) if !options.iter().any(is_answer) => {
            let place = match own.and_then(|letter| letter.bytes().next()) {
                Some(letter) => usize::from(letter - b'A'),
                None => answer.parse().ok()?,
            };
            text(options.get(place)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::contamination::tests::plain;
    use crate::contamination::{Likeness, contamination};

    /// Writes a file and reads its references; each is shown as id, images, question and answers.
    fn shown(name: &str, content: &str) -> Vec<Option<String>> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), content).unwrap();
        let mut found = Vec::new();
        each(&folder.path().join(name), &plain(), &mut |item| {
            found.push(item.map(|item| {
                let ids: Vec<String> = item.image_ids.iter().map(|(set, id)| format!("{set} {id}")).collect();
                let asked = item.asked.first().map_or(String::new(), |(question, answers)| {
                    let answers: Vec<String> = answers.iter().map(|answer| answer.join(" ")).collect();
                    format!("{}? {}", question.join(" "), answers.join(", "))
                });
                format!("{} {}: {} | {asked}", item.row, item.id.unwrap_or_default(), ids.join(", "))
            }));
        })
        .unwrap();
        found
    }

    #[test]
    fn benchmarks_are_read_in_the_layouts_of_their_authors() {
        let vqa = json!({"info": {}, "data_type": "mscoco", "data_subtype": "val2014", "questions": [
            {"image_id": 9, "question": "How many dogs?", "question_id": 9000},
            {"image_id": 10, "question": "Who?", "question_id": 10000}]});
        let gqa = json!({
            "07": {"question": "What is red?", "imageId": "n578564", "answer": "cup", "groups": {"global": null}},
            "12": {"question": "Who is it?", "imageId": "2405722", "answer": "man"}});
        let answers = json!({"data_type": "mscoco", "annotations": [
            {"question_id": 9000, "image_id": 9, "answers": [{"answer": "2", "answer_id": 1}]}]});
        let coco = json!({"images": [{"file_name": "000000000009.jpg", "id": 9}], "annotations": []});
        let of_vqa = ["0 9000: coco 9 | how many dogs? ", "1 10000: coco 10 | who? "];
        let of_gqa = ["0 07: visual_genome n578564 | what is red? cup", "1 12: visual_genome 2405722 | who is it? man"];
        let cases: [(&str, String, &[&str]); 11] = [
            ("vqa.json", vqa.to_string(), &of_vqa),
            ("vqa.json", serde_json::to_string_pretty(&vqa).unwrap(), &of_vqa),
            ("gqa.json", gqa.to_string(), &of_gqa),
            ("gqa.json", serde_json::to_string_pretty(&gqa).unwrap(), &of_gqa),
            ("answers.json", answers.to_string(), &["0 9000: coco 9 | "]),
            ("coco.json", coco.to_string(), &["0 9: coco 9 | "]),
            (
                "pope.json",
                json!({"question_id": 1, "image": "COCO_val2014_000000310196.jpg", "text": "Is it red?", "label": "yes"})
                    .to_string(),
                &["0 1: coco 310196 | is it red? yes"],
            ),
            ("image.jsonl", "\n{\"image\": \"COCO_val2014_000000000007.jpg\"}".into(), &["1 : coco 7 | "]),
            (
                "mme.txt",
                "000000006040.jpg\tIs it red?\tYes\r\n\n".into(),
                &["0 : coco 6040 | is it red? yes"],
            ),
            (
                "owleval.jsonl",
                json!({"image": "1.jpg", "question_id": 1, "question": "Why?", "category": ["x"]}).to_string(),
                &["0 1:  | why? "],
            ),
            (
                "list.json",
                json!([{"question": "Who?", "image_id": 7, "question_id": 7001},
                    {"question": "Who?", "image_id": 7, "qa_id": 8}, {"image_id": "0054c91397f2fe05"}])
                .to_string(),
                &["0 7001: coco 7 | who? ", "1 :  | who? ", "2 : open_images 0054c91397f2fe05 | "],
            ),
        ];
        for (name, content, expected) in cases {
            let found = shown(name, &content);
            assert_eq!(
                found.iter().map(Option::as_deref).collect::<Vec<_>>(),
                expected.iter().map(|row| Some(*row)).collect::<Vec<_>>(),
                "{name}: {content}"
            );
        }
        assert_eq!(shown("none.jsonl", "{\"foo\": 1}\n5\n{broken\n"), [None, None, None]);
        assert_eq!(shown("none.tsv", "a\tb\n"), [None]);
    }

    #[test]
    fn numbers_of_images_are_those_of_coco_only_where_that_is_known() {
        let row = json!({"image_id": 9, "question": "Who?", "question_id": 5});
        let document = |data: &str| json!({"data_type": data, "questions": [row]}).to_string();
        let is_coco = |content: &str| shown("own.json", content)[0].as_deref().unwrap().contains("coco 9");
        assert!(is_coco(&document("mscoco")) && is_coco(&json!({"questions": [row]}).to_string()));
        assert!(!is_coco(&document("abstract_v002")) && !is_coco(&json!([row]).to_string()));
        assert!(!is_coco(&json!({"annotations": [row]}).to_string()));
    }

    #[test]
    fn a_benchmark_without_a_reference_is_an_error_and_some_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, content: &str| fs::write(path(name), content).unwrap();
        let talk = json!({"image": "coco/train2017/000000000007.jpg", "conversations": [
            {"from": "human", "value": "<image>Why?"}, {"from": "gpt", "value": "So."}]});
        write("own.jsonl", &talk.to_string());
        write("empty.jsonl", "");
        write("other.jsonl", "{\"foo\": 1}\n5");
        write("pope.jsonl", "{\"foo\": 1}\n{\"image\": \"COCO_val2014_000000000007.jpg\"}\n{\"text\": \"Why?\"}");
        let compare = |against: &str, hash_distance: Option<u32>| {
            contamination(&path("own.jsonl"), &[path(against)], &Comparison { hash_distance, ..plain() })
        };
        let told = |against: &str, hash_distance| compare(against, hash_distance).unwrap_err().to_string();
        assert!(
            told("empty.jsonl", None)
                .ends_with("empty.jsonl has no reference that data can be compared with: it has no rows")
        );
        let other = told("other.jsonl", None);
        assert!(other.contains("2 of 2 rows have none of the fields") && other.contains("text, image"), "{other}");
        write("owleval.jsonl", "{\"image\": \"1.jpg\", \"question\": \"Why?\"}");
        assert!(told("owleval.jsonl", None).ends_with("--hash-distance compares images by their appearance"));
        assert!(told("owleval.jsonl", Some(2)).contains("--against-images"));
        let found = compare("pope.jsonl", None).unwrap();
        let counts = (found.references, found.unreadable_references, found.incomparable_references, found.unreadable);
        assert_eq!((counts, found.hits.len(), found.hits[0].by), ((2, 1, 1, 0), 1, Likeness::ImageId));
    }
}
