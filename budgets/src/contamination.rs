//! Finds records that show a model what a benchmark asks later: by the dataset ids of images, by
//! the appearance of images, and by the words of questions.
//!
//! Many matches are easy to find, and most of them are not contamination. So a question alone is
//! not a hit: it also needs the words of an answer. Every hit has its evidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icu_normalizer::ComposingNormalizerBorrowed;
use lynxdata_filters::{ImageData, hamming, hash, hash_hex};
use rayon::prelude::*;
use reference::{Asked, Numbers};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::read::{Content, Conversation, IMAGE, Picture, files, name_below, parse_json, records};

mod reference;

pub use reference::reference_files;

/// The number of consecutive words of a question that must be equal. GPT-3 compared 13 words (arXiv
/// 2005.14165, appendix C) of texts that are much longer than questions.
pub const WORDS: usize = 8;
/// If more reference questions than this contain a run of words, it is treated as a common
/// instruction.
const SHARED_BY: usize = 10;
/// The number of records in a batch, which is processed on all cores.
const BATCH: usize = 2048;

/// Settings of a comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The number of consecutive words of a question that must be equal; see [`WORDS`].
    pub words: usize,
    /// The maximum number of bits in which the pHash of images may differ. `None` compares no
    /// hashes; otherwise every image is decoded.
    pub hash_distance: Option<u32>,
    /// The folder that image paths of the data are relative to; `None` for the folder of each file.
    pub images: Option<PathBuf>,
    /// The same for the references.
    pub against_images: Option<PathBuf>,
    /// The tasks whose images are those of Visual Genome: the number of an image is its id there,
    /// whatever its folder is called. The id of a conversation begins with its task.
    pub visual_genome_tasks: BTreeSet<String>,
}

/// A kind of similarity between a record and a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Likeness {
    /// Their images have the same name in the same dataset.
    ImageId,
    /// Their images look alike.
    ImageHash,
    /// They ask the same question and share the words of an answer.
    Question,
}

/// A record that is similar to a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// File of the record.
    pub file: String,
    /// Its line, element or row, from 0.
    pub row: u64,
    /// Its id.
    pub id: Option<String>,
    /// File of the reference.
    pub against_file: String,
    /// Its line, element or row, from 0.
    pub against_row: u64,
    /// Its id.
    pub against_id: Option<String>,
    /// The kind of similarity.
    pub by: Likeness,
    /// The evidence.
    pub evidence: String,
}

impl Likeness {
    /// All kinds.
    pub const ALL: &[Likeness] = &[Likeness::ImageId, Likeness::ImageHash, Likeness::Question];

    /// The kinds for which records are dropped by default. A question and the words of an answer
    /// are often equal by chance ("What colour is the cat?", "black"), so such records are only
    /// reported.
    pub const DROPPED: &[Likeness] = &[Likeness::ImageId, Likeness::ImageHash];

    /// Returns the name in reports and settings.
    pub fn name(self) -> &'static str {
        match self {
            Likeness::ImageId => "image_id",
            Likeness::ImageHash => "image_hash",
            Likeness::Question => "question",
        }
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contamination {
    /// The number of records that were compared.
    pub records: u64,
    /// The number of references that they were compared with.
    pub references: u64,
    /// The number of records with an image or question that is similar to one of a reference.
    pub contaminated: u64,
    /// The number of hits of each kind.
    pub by: BTreeMap<Likeness, u64>,
    /// The number of records that could not be read and were not compared.
    pub unreadable: u64,
    /// The number of references that could not be read.
    pub unreadable_references: u64,
    /// The number of references that no record can match: their images have no name of a known
    /// dataset and no hash, and their questions are too short or have no answer.
    pub incomparable_references: u64,
    /// The number of images without a hash that could be compared: they could not be decoded, or
    /// are flat drawings.
    pub without_hash: u64,
    /// The number of runs of words that are ignored because they are in too many questions.
    pub instructions: u64,
    /// All hits, in the order of the records.
    pub hits: Vec<Hit>,
}

/// A question of a benchmark, or all questions about the same images.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    /// The file that is shown in reports.
    pub file: String,
    /// Its line, element or row, from 0.
    pub row: u64,
    /// Its task, if it is of one.
    pub task: Option<String>,
    /// Its id.
    pub id: Option<String>,
    /// Questions, each with its answers.
    pub questions: Vec<(String, Vec<String>)>,
    /// The paths of its images.
    pub images: Vec<String>,
    /// The pHash of each image, `None` if it is missing or broken; empty if hashes are not
    /// compared.
    pub hashes: Vec<Option<u64>>,
}

/// A record or reference in the form in which it is compared.
#[derive(Debug, Default)]
struct Item {
    file: Arc<str>,
    row: u64,
    id: Option<String>,
    /// Questions with their answers, as words.
    asked: Vec<(Vec<String>, Vec<Vec<String>>)>,
    image_ids: Vec<(&'static str, String)>,
    hashes: Vec<u64>,
    without_hash: u64,
}

/// Compares all records of `data` with those of the files `against`.
///
/// # Errors
/// If a file cannot be read, or one of `against` has no reference that can be compared.
pub fn contamination(data: &Path, against: &[PathBuf], comparison: &Comparison) -> Result<Contamination> {
    let references = References::gather(comparison, against, &mut std::iter::empty())?;
    let mut found = Contamination {
        references: references.len(),
        unreadable_references: references.unreadable(),
        incomparable_references: references.incomparable(),
        without_hash: references.without_hash(),
        instructions: references.instructions,
        ..Contamination::default()
    };
    each_item(data, comparison, &mut |item| {
        found.records += 1;
        let Some(item) = item else {
            found.unreadable += 1;
            return;
        };
        found.without_hash += item.without_hash;
        let hits = references.like(&item);
        found.contaminated += u64::from(!hits.is_empty());
        for hit in &hits {
            *found.by.entry(hit.by).or_default() += 1;
        }
        found.hits.extend(hits);
    })?;
    Ok(found)
}

/// Passes the records of a file or folder to `take` in order; `None` means an unreadable record.
fn each_item(path: &Path, comparison: &Comparison, take: &mut dyn FnMut(Option<Item>)) -> Result<()> {
    for file in files(path)? {
        let name = name_below(path, &file);
        let folder = comparison.images.as_deref().or(file.parent()).unwrap_or(Path::new(""));
        let read = |row, content| vec![Item::read(&name, row, content, folder, comparison)];
        each_of_file(&file, &name, &read, take)?;
    }
    Ok(())
}

/// Makes the items of a record from its row and content.
type ReadItems<'a> = dyn Fn(u64, Content) -> Vec<Option<Item>> + Sync + 'a;

/// Passes the items of the records of a file to `take` in order. They are read on all cores.
fn each_of_file(file: &Path, name: &Arc<str>, read: &ReadItems, take: &mut dyn FnMut(Option<Item>)) -> Result<()> {
    let mut batch = Vec::new();
    let mut run = |batch: Vec<(u64, Content)>| {
        let items: Vec<Vec<Option<Item>>> = batch.into_par_iter().map(|(row, content)| read(row, content)).collect();
        items.into_iter().flatten().for_each(&mut *take);
    };
    records(file, name, &mut |record| {
        batch.push((record.row, record.content));
        if batch.len() == BATCH {
            run(std::mem::take(&mut batch));
        }
        Ok(())
    })?;
    run(batch);
    Ok(())
}

impl Item {
    /// Reads a conversation, or a row with a question or an image.
    fn read(file: &Arc<str>, row: u64, content: Content, folder: &Path, comparison: &Comparison) -> Option<Item> {
        let asked = match content {
            Content::Json(bytes) => Asked::of(parse_json(&bytes).ok()?.0, &Numbers::OfAny)?,
            read @ Content::Read(_) => Asked::Conversation(read.conversation().ok()?),
        };
        Some(Item::of(file, row, asked, folder, comparison))
    }

    fn of(file: &Arc<str>, row: u64, asked: Asked, folder: &Path, comparison: &Comparison) -> Item {
        let mut own = Item { file: file.clone(), row, ..Item::default() };
        match asked {
            Asked::Conversation(conversation) => {
                own.asked = exchanges(&conversation);
                own.id = conversation.id;
                own.take_pictures(&conversation.pictures, folder, comparison);
            }
            Asked::Question(question) => {
                let answers = || question.answers.iter().map(|text| words(text)).collect();
                own.asked = question.text.iter().map(|text| (words(text), answers())).collect();
                own.take_pictures(&question.pictures, folder, comparison);
                if let Some(id) = question.image_id.filter(|id| !own.image_ids.contains(id)) {
                    own.image_ids.push(id);
                }
                own.id = question.id;
            }
        }
        own
    }

    fn of_reference(reference: Reference, comparison: &Comparison) -> Item {
        let is_numbered = reference.task.is_some_and(|task| comparison.visual_genome_tasks.contains(&task));
        let asked = reference.questions.iter();
        let asked = asked.map(|(text, answers)| (words(text), answers.iter().map(|answer| words(answer)).collect()));
        let mut item = Item {
            file: Arc::from(reference.file),
            row: reference.row,
            id: reference.id,
            asked: asked.collect(),
            image_ids: reference.images.iter().filter_map(|path| image_id(path, is_numbered)).collect(),
            ..Item::default()
        };
        item.take_hashes(reference.hashes);
        item
    }

    /// Returns whether it can be compared: it has an image that is known by name or appearance, or
    /// a question of at least `words` words and an answer.
    fn is_comparable(&self, words: usize) -> bool {
        let has_answer = |answers: &Vec<Vec<String>>| answers.iter().any(|answer| !answer.is_empty());
        !self.image_ids.is_empty()
            || !self.hashes.is_empty()
            || self.asked.iter().any(|(question, answers)| question.len() >= words && has_answer(answers))
    }

    fn take_pictures(&mut self, pictures: &[Picture], folder: &Path, comparison: &Comparison) {
        let task = self.id.as_deref().and_then(|id| id.split('/').next());
        let is_numbered = task.is_some_and(|task| comparison.visual_genome_tasks.contains(task));
        let paths = pictures.iter().filter_map(|picture| picture.path.as_deref());
        self.image_ids = paths.filter_map(|path| image_id(path, is_numbered)).collect();
        if comparison.hash_distance.is_some() {
            self.take_hashes(pictures.iter().map(|picture| hash_of(picture, folder)).collect());
        }
    }

    fn take_hashes(&mut self, hashes: Vec<Option<u64>>) {
        self.without_hash = hashes.iter().filter(|hash| hash.is_none()).count() as u64;
        self.hashes = hashes.into_iter().flatten().collect();
    }
}

/// Returns each question with the answer after it. If the answer is the letter of an option, the
/// text of the option is a second answer.
fn exchanges(conversation: &Conversation) -> Vec<(Vec<String>, Vec<Vec<String>>)> {
    let answered = conversation.exchanges().filter_map(|(question, answer)| Some((question, answer?)));
    let answers = |question: &str, answer: &str| {
        let option = letter(answer).and_then(|letter| option_of(question, letter));
        std::iter::once(answer).chain(option).map(words).collect()
    };
    answered.map(|(question, answer)| (words(&question), answers(&question, answer))).collect()
}

/// Returns the letter that makes up the whole answer, such as `B`, `(b)` or `B.`.
fn letter(answer: &str) -> Option<char> {
    let mut letters = answer.chars().filter(|letter| !letter.is_whitespace() && !"().:".contains(*letter));
    let letter = letters.next().filter(char::is_ascii_alphabetic)?;
    letters.next().is_none().then(|| letter.to_ascii_uppercase())
}

/// Returns the text of an option in a question, which has a line such as `B. a red cup`, `(B) …` or
/// `B: …` for each.
fn option_of(question: &str, letter: char) -> Option<&str> {
    question.lines().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix('(').unwrap_or(line);
        let behind = line.strip_prefix([letter, letter.to_ascii_lowercase()])?;
        behind.strip_prefix(['.', ')', ':']).map(str::trim)
    })
}

/// Returns the words of a text in lower case without punctuation. Different encodings of a letter
/// are equal (Unicode's normalization form KC).
fn words(text: &str) -> Vec<String> {
    let text = ComposingNormalizerBorrowed::new_nfkc().normalize(&text.replace(IMAGE, " ")).to_lowercase();
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

fn hash_of(picture: &Picture, folder: &Path) -> Option<u64> {
    match (&picture.bytes, &picture.path) {
        (Some(bytes), _) => picture_hash(bytes),
        (None, Some(path)) => picture_hash(&std::fs::read(folder.join(path)).ok()?),
        (None, None) => None,
    }
}

/// The minimum entropy, in bits, of an image whose pHash is compared, as `dedup.phash_min_entropy`:
/// flags, icons and other flat drawings have few different hashes, and all flat images have the
/// same one.
const LEAST_ENTROPY: f64 = 3.0;

/// Returns the pHash of an image file, or `None` if it cannot be decoded or is too flat to be
/// compared.
pub fn picture_hash(bytes: &[u8]) -> Option<u64> {
    let image = ImageData::decode(bytes).ok()?;
    let is_telling = image.entropy() >= LEAST_ENTROPY;
    is_telling.then(|| hash::phash(image.luma()))
}

/// Returns the dataset of an image and its id there, recognised from a path by the naming rules of
/// COCO, Visual Genome (whose images GQA also uses), Flickr30k and Flickr8k, and Open Images.
/// `is_numbered` says that a number alone is an id of Visual Genome.
fn image_id(path: &str, is_numbered: bool) -> Option<(&'static str, String)> {
    let path = path.to_lowercase().replace('\\', "/");
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let (stem, _suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = |text: &str| text.trim_start_matches('0').to_owned();
    let last = stem.rsplit('_').next().unwrap_or_default();
    // COCO_val2014_000000123456, or 000000123456 since 2017.
    if last.len() == 12 && is_number(last) && (stem.starts_with("coco_") || last == stem) {
        return Some(("coco", plain(last)));
    }
    // Visual7W has the prefix.
    let (stem_of_vg, is_of_visual7w) = stem.strip_prefix("v7w_").map_or((stem, false), |stem| (stem, true));
    let is_of_vg = is_numbered || is_of_visual7w || folders.split('/').any(is_folder_of_visual_genome);
    if is_of_vg && let Some(id) = visual_genome_id(stem_of_vg) {
        return Some(id);
    }
    let (number, secret) = stem.split_once('_').unwrap_or((stem, ""));
    let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // The number of a photo on Flickr; in Flickr8k its ten-digit secret follows.
    if is_number(number)
        && (secret.len() == 10 && is_hexadecimal(secret) || secret.is_empty() && path.contains("flickr"))
    {
        return Some(("flickr", plain(number)));
    }
    (stem.len() == 16 && is_hexadecimal(stem)).then(|| ("open_images", stem.to_owned()))
}

/// Returns whether a folder with this name in lower case holds images of Visual Genome.
fn is_folder_of_visual_genome(name: &str) -> bool {
    // A mixture puts the images of a task into a folder such as `gqa-train_balanced`.
    matches!(name, "vg" | "gqa")
        || name.starts_with("gqa-")
        || ["vg_100k", "visual_genome", "visualgenome"].iter().any(|mark| name.contains(mark))
}

/// Returns the id of an image of Visual Genome, or of one that GQA adds to them (`n578564`).
fn visual_genome_id(name: &str) -> Option<(&'static str, String)> {
    let number = name.strip_prefix('n').unwrap_or(name);
    let is_id = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_id.then(|| ("visual_genome", name.trim_start_matches('0').to_owned()))
}

/// References, indexed for the comparison with records.
#[derive(Debug)]
pub struct References {
    comparison: Comparison,
    unreadable: u64,
    incomparable: u64,
    /// The number of runs of words that are in too many questions.
    instructions: u64,
    items: Vec<Item>,
    by_image_id: HashMap<(&'static str, String), Vec<usize>>,
    hashes: Vec<(u64, usize)>,
    /// The references and questions that contain each run of words.
    by_words: HashMap<Vec<String>, Vec<(usize, usize)>>,
}

impl References {
    /// Reads files of benchmarks and adds the references in `more`.
    ///
    /// # Errors
    /// If a file cannot be read, or one of `against` has no reference that can be compared.
    pub fn gather(
        comparison: &Comparison,
        against: &[PathBuf],
        more: &mut dyn Iterator<Item = Reference>,
    ) -> Result<References> {
        let mut own = References {
            comparison: comparison.clone(),
            unreadable: 0,
            incomparable: 0,
            instructions: 0,
            items: Vec::new(),
            by_image_id: HashMap::new(),
            hashes: Vec::new(),
            by_words: HashMap::new(),
        };
        for path in against {
            let (rows, unreadable, incomparable) = (own.rows(), own.unreadable, own.incomparable);
            reference::each(path, comparison, &mut |item| match item {
                Some(item) => own.add(item),
                None => own.unreadable += 1,
            })?;
            let rows = own.rows() - rows;
            let (unreadable, incomparable) = (own.unreadable - unreadable, own.incomparable - incomparable);
            if unreadable + incomparable == rows {
                let why = without_reference(rows, unreadable, incomparable, comparison);
                return Err(Error::NoReferences { path: path.clone(), why });
            }
        }
        more.for_each(|reference| own.add(Item::of_reference(reference, comparison)));
        own.instructions = own.drop_instructions();
        Ok(own)
    }

    /// Returns the number of references.
    pub fn len(&self) -> u64 {
        self.items.len() as u64
    }

    fn rows(&self) -> u64 {
        self.len() + self.unreadable
    }

    /// Returns how many references could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Returns how many of the references no record can match.
    pub fn incomparable(&self) -> u64 {
        self.incomparable
    }

    /// Returns how many of their images are missing or broken, if hashes are compared.
    pub fn without_hash(&self) -> u64 {
        self.items.iter().map(|item| item.without_hash).sum()
    }

    /// Returns whether there are no references.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the references that a conversation is similar to; `folder` is the folder of its
    /// images.
    pub fn hits(&self, file: &str, row: u64, conversation: &Conversation, folder: &Path) -> Vec<Hit> {
        let mut item = Item { file: Arc::from(file), row, id: conversation.id.clone(), ..Item::default() };
        item.asked = exchanges(conversation);
        item.take_pictures(&conversation.pictures, folder, &self.comparison);
        self.like(&item)
    }

    fn add(&mut self, item: Item) {
        let length = self.comparison.words;
        let place = self.items.len();
        self.incomparable += u64::from(!item.is_comparable(length));
        for id in &item.image_ids {
            self.by_image_id.entry(id.clone()).or_default().push(place);
        }
        self.hashes.extend(item.hashes.iter().map(|hash| (*hash, place)));
        for (number, (question, _)) in item.asked.iter().enumerate() {
            let runs: BTreeSet<&[String]> = question.windows(length).collect();
            for run in runs {
                self.by_words.entry(run.to_vec()).or_default().push((place, number));
            }
        }
        self.items.push(item);
    }

    /// Removes runs of words that are in many different questions, and returns their number.
    fn drop_instructions(&mut self) -> u64 {
        let items = &self.items;
        let before = self.by_words.len();
        self.by_words.retain(|_, places| {
            let questions: BTreeSet<&[String]> =
                places.iter().map(|&(place, number)| items[place].asked[number].0.as_slice()).collect();
            questions.len() <= SHARED_BY
        });
        (before - self.by_words.len()) as u64
    }

    fn like(&self, item: &Item) -> Vec<Hit> {
        let comparison = &self.comparison;
        let mut found: BTreeMap<(usize, Likeness), String> = BTreeMap::new();
        for id in &item.image_ids {
            for &place in self.by_image_id.get(id).into_iter().flatten() {
                found.entry((place, Likeness::ImageId)).or_insert_with(|| format!("{} {}", id.0, id.1));
            }
        }
        if let Some(most) = comparison.hash_distance {
            for own in &item.hashes {
                for (other, place) in &self.hashes {
                    let distance = hamming(*own, *other);
                    if distance <= most {
                        let evidence = || format!("pHash {} and {}: {distance} bits", hash_hex(*own), hash_hex(*other));
                        found.entry((*place, Likeness::ImageHash)).or_insert_with(evidence);
                    }
                }
            }
        }
        for (question, answers) in &item.asked {
            for run in question.windows(comparison.words) {
                for &(place, number) in self.by_words.get(run).into_iter().flatten() {
                    let Some(answer) = common_answer(answers, &self.items[place].asked[number].1) else { continue };
                    let evidence = || format!("question \"{}\", answer \"{answer}\"", run.join(" "));
                    found.entry((place, Likeness::Question)).or_insert_with(evidence);
                }
            }
        }
        let hit = |((place, by), evidence): ((usize, Likeness), String)| {
            let other = &self.items[place];
            Hit {
                file: item.file.to_string(),
                row: item.row,
                id: item.id.clone(),
                against_file: other.file.to_string(),
                against_row: other.row,
                against_id: other.id.clone(),
                by,
                evidence,
            }
        };
        found.into_iter().map(hit).collect()
    }
}

/// Returns what the rows of a benchmark without a reference lack.
fn without_reference(rows: u64, unreadable: u64, incomparable: u64, comparison: &Comparison) -> String {
    let mut why = Vec::new();
    if unreadable > 0 {
        why.push(format!(
            "{unreadable} of {rows} rows have none of the fields messages, conversations, texts, question, text, image, \
             images, image_path, image_id and imageId, and are no lines of image, question and answer"
        ));
    }
    if incomparable > 0 {
        let words = comparison.words;
        let next = match comparison.hash_distance {
            Some(_) => "their images are missing or broken, and --against-images names their folder",
            None => "--hash-distance compares images by their appearance",
        };
        why.push(format!(
            "{incomparable} of {rows} rows have no image with a name of COCO, Visual Genome, Flickr or Open Images, and no \
             question of {words} words with answers, answer or label; {next}"
        ));
    }
    if why.is_empty() { "it has no rows".to_owned() } else { why.join("; ") }
}

/// Returns the first answer of a reference whose words are consecutive in an answer of the record.
fn common_answer(own: &[Vec<String>], reference: &[Vec<String>]) -> Option<String> {
    let holds = |answer: &Vec<String>| own.iter().any(|own| own.windows(answer.len()).any(|words| words == answer));
    reference.iter().find(|answer| !answer.is_empty() && holds(answer)).map(|answer| answer.join(" "))
}

#[cfg(test)]
mod measured;

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn compare(data: &[Value], against: &[Value], comparison: &Comparison) -> Contamination {
        let folder = tempfile::tempdir().unwrap();
        let lines = |rows: &[Value]| rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let (own, other) = (folder.path().join("own.jsonl"), folder.path().join("other.jsonl"));
        fs::write(&own, lines(data)).unwrap();
        fs::write(&other, lines(against)).unwrap();
        contamination(&own, &[other], comparison).unwrap()
    }

    pub(super) fn plain() -> Comparison {
        Comparison {
            words: WORDS,
            hash_distance: None,
            images: None,
            against_images: None,
            visual_genome_tasks: BTreeSet::from(["visual7w".to_owned()]),
        }
    }

    fn record(id: &str, image: &str, question: &str, answer: &str) -> Value {
        json!({"id": id, "image": image, "conversations": [
            {"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]})
    }

    #[test]
    fn pictures_of_one_dataset_are_told_by_their_names() {
        let id = |path: &str| image_id(path, false).map(|(set, name)| format!("{set} {name}"));
        for (path, expected) in [
            ("coco/train2017/000000033471.jpg", "coco 33471"),
            ("val2014/COCO_val2014_000000033471.jpg", "coco 33471"),
            ("vg/VG_100K_2/2405722.jpg", "visual_genome 2405722"),
            ("gqa/images/2405722.jpg", "visual_genome 2405722"),
            ("gqa/images/n578564.jpg", "visual_genome n578564"),
            ("gqa-train_balanced/images/2405722.jpg", "visual_genome 2405722"),
            ("images/v7w_2405722.jpg", "visual_genome 2405722"),
            (r"val2014\COCO_val2014_000000033471.jpg", "coco 33471"),
            ("flickr30k-images/1000092795.jpg", "flickr 1000092795"),
            ("Flicker8k_Dataset/1000268201_693b08cb0e.jpg", "flickr 1000268201"),
            ("textvqa/train_images/0054c91397f2fe05.jpg", "open_images 0054c91397f2fe05"),
        ] {
            assert_eq!(id(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["ocr_vqa/images/0394.jpg", "a/000000123456x.jpg", "12.png", "", "pictures/1234567890"] {
            assert_eq!(id(path), None, "{path}");
        }
        let data = [record("a", "coco/train2017/000000000009.jpg", "Why?", "So."), record("b", "x.jpg", "Why?", "So.")];
        let against =
            [json!({"id": 5, "question": "Other?", "answer": "no", "image": "COCO_val2014_000000000009.jpg"})];
        let found = compare(&data, &against, &plain());
        assert_eq!((found.records, found.references, found.contaminated), (2, 1, 1));
        let hit = &found.hits[0];
        assert_eq!(
            (hit.by, hit.evidence.as_str(), hit.against_id.as_deref()),
            (Likeness::ImageId, "coco 9", Some("5"))
        );
    }

    #[test]
    fn a_question_needs_words_of_an_answer() {
        let question = "What is the man in the red jacket holding above his head?";
        let against = [json!({"question": question, "answers": ["surfboard", "board"], "image": "x.jpg"})];
        let own = [
            record("same", "a.jpg", &format!("Look. {question}"), "He holds a surfboard."),
            record("other answer", "a.jpg", question, "An umbrella."),
            record("other question", "a.jpg", "What is the man in the blue jacket holding?", "A surfboard."),
        ];
        let found = compare(&own, &against, &plain());
        assert_eq!(found.hits.iter().map(|hit| hit.id.as_deref().unwrap()).collect::<Vec<_>>(), ["same"]);
        assert_eq!(found.hits[0].evidence, "question \"what is the man in the red jacket\", answer \"surfboard\"");
    }

    #[test]
    fn a_letter_is_the_text_of_its_option() {
        let question = "What is on top of the cake that the child in the picture is eating?";
        let asked = format!("{question}\nA. icing\n(B) a candle\nC: fruit");
        let own = [
            record("letter", "a.jpg", &asked, "A"),
            record("text", "a.jpg", &asked, "icing"),
            record("other letter", "a.jpg", &asked, "(B)"),
        ];
        let hits = |against: Value| {
            let found = compare(&own, &[against], &plain());
            // A record with several runs of equal words is one hit.
            found.hits.into_iter().map(|hit| hit.id.unwrap()).collect::<Vec<_>>()
        };
        let options = json!(["a candle", "icing"]);
        assert_eq!(hits(json!({"question": question, "answer": "icing"})), ["letter", "text"]);
        assert_eq!(hits(json!({"question": question, "answer": "a candle"})), ["other letter"]);
        let by_letter = json!({"question": question, "options": options, "answer": "B"});
        assert!(hits(by_letter).contains(&"text".to_owned()));
        assert_eq!(hits(json!({"question": question, "choices": options, "answer": 1})), ["letter", "text"]);
        let is_a_text = json!({"question": question, "options": ["2", "icing", "a candle"], "answer": "2"});
        assert!(hits(is_a_text).is_empty());
        let columns = json!({"question": question, "A": "fruit", "D": "icing", "answer": "D"});
        assert_eq!(hits(columns), ["letter", "text"]);
    }

    #[test]
    fn encodings_of_a_letter_are_equal() {
        assert_eq!(words("Ｃafe\u{301} \u{fb01}ne"), words("café fine"));
    }

    #[test]
    fn the_numbers_of_images_of_some_tasks_are_ids_of_visual_genome() {
        let against = [json!({"imageId": "2405722", "question": "Who?", "answer": "man"})];
        let own = [
            record("visual7w/train/1", "images/2405722.jpg", "Why?", "So."),
            record("other/train/1", "images/2405722.jpg", "Why?", "So."),
            record("a", "icons/svg/2405722.png", "Why?", "So."),
        ];
        let found = compare(&own, &against, &plain());
        assert_eq!(found.hits.iter().map(|hit| hit.id.as_deref().unwrap()).collect::<Vec<_>>(), ["visual7w/train/1"]);
    }

    #[test]
    fn instructions_that_all_questions_have_are_no_likeness() {
        let instruction = "Answer the question using a single word or phrase.";
        let row = |number: usize| json!({"question": format!("Thing {number}? {instruction}"), "answer": "yes"});
        let against: Vec<Value> = (0..20).map(row).collect();
        let found = compare(&[record("a", "a.jpg", &format!("Is it? {instruction}"), "Yes")], &against, &plain());
        assert_eq!((found.contaminated, found.hits.len()), (0, 0));
        assert!(found.instructions > 0);
    }

    #[test]
    fn pictures_that_look_alike_are_found_where_they_are_looked_at() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/picture/fixtures");
        let comparison = Comparison {
            hash_distance: Some(2),
            images: Some(fixtures.clone()),
            against_images: Some(fixtures),
            ..plain()
        };
        let own = [record("a", "plain.jpg", "Why?", "So."), record("b", "nowhere.jpg", "Why?", "So.")];
        let against = [json!({"question": "Other?", "answer": "no", "image": "plain.jpg"})];
        let found = compare(&own, &against, &comparison);
        assert_eq!((found.contaminated, found.without_hash, found.hits[0].by), (1, 1, Likeness::ImageHash));
        assert!(found.hits[0].evidence.ends_with("0 bits"));
        let image_name = [json!({"image": "COCO_val2014_000000000009.jpg"})];
        assert_eq!(compare(&own, &image_name, &plain()).contaminated, 0);
    }

    #[test]
    fn flat_pictures_have_no_hash() {
        let flat =
            b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x01D\0;";
        assert!(ImageData::decode(flat).is_ok());
        assert_eq!(picture_hash(flat), None);
        let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/picture/fixtures/plain.jpg");
        assert!(picture_hash(&std::fs::read(photo).unwrap()).is_some());
    }
}
