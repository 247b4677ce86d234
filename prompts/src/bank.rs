//! Prompt banks: TOML files of wordings, which are checked when they are loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::{Deserialize, Deserializer, Serialize};

use crate::hash::keyed_hash;
use crate::{Error, Result};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/banks");

/// The maximum number of steps of one rendering. Shipped templates take fewer than a hundred, so
/// this only stops long loops, which templates should not contain.
const FUEL: u64 = 100_000;

/// The shape of the answer that a wording asks for. The answer that follows must have that shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerShape {
    /// A word, or a name of two or three.
    Word,
    /// A few words.
    Phrase,
    /// One sentence.
    Sentence,
    /// Several sentences.
    Paragraph,
    /// The letter of an option, such as `B`.
    Letter,
    /// The text of an option.
    Option,
    /// `Yes` or `No`.
    YesNo,
    /// `True` or `False`.
    TrueFalse,
    /// The name of a class.
    Class,
    /// One or more boxes, `[x1, y1, x2, y2]` in fractions of width and height.
    Boxes,
    /// A number.
    Number,
    /// A conversation whose first turn is the wording.
    Turns,
}

impl AnswerShape {
    /// Every shape.
    pub const ALL: &[AnswerShape] = &[
        AnswerShape::Word,
        AnswerShape::Phrase,
        AnswerShape::Sentence,
        AnswerShape::Paragraph,
        AnswerShape::Letter,
        AnswerShape::Option,
        AnswerShape::YesNo,
        AnswerShape::TrueFalse,
        AnswerShape::Class,
        AnswerShape::Boxes,
        AnswerShape::Number,
        AnswerShape::Turns,
    ];

    /// Returns the name in banks, task files and tables.
    pub fn name(self) -> &'static str {
        match self {
            AnswerShape::Word => "word",
            AnswerShape::Phrase => "phrase",
            AnswerShape::Sentence => "sentence",
            AnswerShape::Paragraph => "paragraph",
            AnswerShape::Letter => "letter",
            AnswerShape::Option => "option",
            AnswerShape::YesNo => "yes_no",
            AnswerShape::TrueFalse => "true_false",
            AnswerShape::Class => "class",
            AnswerShape::Boxes => "boxes",
            AnswerShape::Number => "number",
            AnswerShape::Turns => "turns",
        }
    }
}

/// The media that a conversation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Media {
    /// No media: only text.
    None,
    /// One image.
    Image,
    /// Several images.
    Images,
    /// A video.
    Video,
}

impl Media {
    /// Every kind.
    pub const ALL: &[Media] = &[Media::None, Media::Image, Media::Images, Media::Video];

    /// Returns the name in banks and tables.
    pub fn name(self) -> &'static str {
        match self {
            Media::None => "none",
            Media::Image => "image",
            Media::Images => "images",
            Media::Video => "video",
        }
    }
}

/// The length of the answer that a wording asks for in its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// Brief.
    Short,
    /// Neither brief nor detailed.
    Medium,
    /// In detail.
    Long,
}

impl Length {
    /// Every length.
    pub const ALL: &[Length] = &[Length::Short, Length::Medium, Length::Long];

    /// Returns the name in banks and tables.
    pub fn name(self) -> &'static str {
        match self {
            Length::Short => "short",
            Length::Medium => "medium",
            Length::Long => "long",
        }
    }
}

/// The tone of a wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// A statement or a request with none of the properties below.
    Neutral,
    /// A wording with polite words, such as "please".
    Polite,
    /// A wording of at most four words besides the slots, such as a label before the answer.
    Terse,
    /// An order that begins with its verb.
    Imperative,
    /// A question.
    Question,
    /// An informal wording, as to a friend.
    Friendly,
    /// A formal wording, as in an official letter.
    Formal,
}

impl Tone {
    /// Every tone.
    pub const ALL: &[Tone] =
        &[Tone::Neutral, Tone::Polite, Tone::Terse, Tone::Imperative, Tone::Question, Tone::Friendly, Tone::Formal];

    /// Returns the name in banks and tables.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Neutral => "neutral",
            Tone::Polite => "polite",
            Tone::Terse => "terse",
            Tone::Imperative => "imperative",
            Tone::Question => "question",
            Tone::Friendly => "friendly",
            Tone::Formal => "formal",
        }
    }
}

/// The state of the review of a wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// Good: it is used.
    Accepted,
    /// Not reviewed yet: it is kept but not used.
    Pending,
    /// Bad: it is not used, but kept so that it is not generated again.
    Rejected,
    /// Read only by a model, not by a person who speaks the language. It is used if that language
    /// is requested.
    Machine,
}

/// The origin of a wording that a model wrote on demand. A wording without an origin was in its
/// bank from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The model, with its version.
    pub model: String,
    /// The day on which it was asked, as `2026-01-31`.
    pub date: String,
    /// The digest of the request. The stored request and reply can be found by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The ids of the wordings that the model was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// The state of its review.
    pub review: Review,
}

/// One wording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its id, unique within its bank. It is readable and must stay stable, because records keep it
    /// as provenance.
    pub id: String,
    /// The wording as a minijinja template over slots.
    pub text: String,
    /// The shapes of answer that it asks for: one, or several if it suits any of them.
    #[serde(deserialize_with = "one_or_many")]
    pub answer: Vec<AnswerShape>,
    /// The kinds of media that it suits; by default those of the bank.
    #[serde(default, deserialize_with = "media")]
    pub media: Vec<Media>,
    /// The length of the answer that its words ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<Length>,
    /// Its tone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tone: Option<Tone>,
    /// Its language as an ISO 639 code; by default that of its file.
    #[serde(default)]
    pub language: String,
    /// The system message before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The state of its review, if its file gives one. The state in `origin` takes precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// Its origin, if a model wrote it on demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The slots that `text` uses, sorted: a record must have them all.
    #[serde(skip)]
    pub slots: Vec<String>,
    /// The hash of bank and id, which is mixed with the hash of the record to choose a wording.
    #[serde(skip)]
    pub(crate) key: u64,
    /// Its parts, if it only inserts texts.
    #[serde(skip)]
    pub(crate) parts: Option<Vec<Part>>,
}

impl Template {
    /// Returns whether conversations may use it: not if its review is pending or it was rejected.
    fn is_used(&self) -> bool {
        let review = self.origin.as_ref().map(|origin| origin.review).or(self.review);
        !matches!(review, Some(Review::Pending | Review::Rejected))
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Vec<AnswerShape>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a shape of answer or a list of them")]
    enum OneOrMany {
        One(AnswerShape),
        Many(Vec<AnswerShape>),
    }
    match OneOrMany::deserialize(value) {
        Ok(OneOrMany::One(shape)) => Ok(vec![shape]),
        Ok(OneOrMany::Many(shapes)) if !shapes.is_empty() => Ok(shapes),
        _ => {
            let names: Vec<&str> = AnswerShape::ALL.iter().map(|shape| shape.name()).collect();
            Err(serde::de::Error::custom(format!("`answer` must be one or several of {}", names.join(", "))))
        }
    }
}

/// Reads `"any"`, one kind of media or a list of them.
fn media<'de, D: Deserializer<'de>>(value: D) -> std::result::Result<Vec<Media>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let fault = || serde::de::Error::custom("`media` must be any, none, image, images or video, or a list of them");
    let names = match OneOrMany::deserialize(value).map_err(|_| fault())? {
        OneOrMany::One(name) if name == "any" => return Ok(Media::ALL.to_vec()),
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    };
    let kind = |name: &String| Media::ALL.iter().find(|media| media.name() == name).copied().ok_or_else(fault);
    let kinds: Vec<Media> = names.iter().map(kind).collect::<std::result::Result<_, _>>()?;
    if kinds.is_empty() { Err(fault()) } else { Ok(kinds) }
}

/// The value of one slot of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot<'a> {
    /// One text.
    Text(&'a str),
    /// Several texts; the template says how they are joined.
    List(&'a [String]),
}

impl Slot<'_> {
    fn value(self) -> Value {
        match self {
            Slot::Text(text) => Value::from(text),
            Slot::List(texts) => Value::from(texts.to_vec()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BankFile {
    /// Required in the first file of a bank; files of other languages omit it.
    description: Option<String>,
    #[serde(default, deserialize_with = "media")]
    media: Vec<Media>,
    #[serde(default = "english")]
    language: String,
    review: Option<Review>,
    #[serde(default)]
    templates: Vec<Template>,
}

impl BankFile {
    fn parse(name: &str, toml: &str) -> Result<Self> {
        toml::from_str(toml).map_err(|source| Error::Syntax { bank: name.to_owned(), source: Box::new(source) })
    }
}

fn english() -> String {
    "en".to_owned()
}

/// A wording and the bank that renders it.
#[derive(Debug, Clone, Copy)]
pub struct Wording<'a> {
    /// The bank.
    pub bank: &'a Bank,
    /// One of its templates.
    pub template: &'a Template,
}

impl Wording<'_> {
    /// Returns `bank/template`, as conversations name it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.bank.name, self.template.id)
    }
}

/// A set of wordings that ask for the same kind of answer.
#[derive(Debug)]
pub struct Bank {
    /// Its name, which is the name of its file without `.toml`.
    pub name: String,
    /// A description of what its wordings ask for.
    pub description: String,
    /// The wordings in use, in the order of the files.
    pub templates: Vec<Template>,
    /// The wordings that are pending or rejected. They are not used.
    pub waiting: Vec<Template>,
    environment: Environment<'static>,
}

impl Bank {
    /// Reads a bank from TOML and checks it: ids are unique and well formed, and every template
    /// renders.
    ///
    /// # Errors
    /// If any of this is violated; the message names the template.
    pub fn parse(name: &str, toml: &str) -> Result<Self> {
        Self::of_file(name, BankFile::parse(name, toml)?)
    }

    fn of_file(name: &str, file: BankFile) -> Result<Self> {
        let Some(description) = file.description.clone() else {
            let source = serde::de::Error::custom("missing field `description`");
            return Err(Error::Syntax { bank: name.to_owned(), source: Box::new(source) });
        };
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        let mut bank =
            Self { name: name.to_owned(), description, templates: Vec::new(), waiting: Vec::new(), environment };
        bank.replace(file)?;
        Ok(bank)
    }

    /// Replaces the wordings of a language by those of a file.
    fn replace(&mut self, file: BankFile) -> Result<()> {
        for wordings in [&mut self.templates, &mut self.waiting] {
            wordings.retain(|template| template.language != file.language);
        }
        let of_file = if file.media.is_empty() { vec![Media::Image] } else { file.media };
        let mut ids: BTreeSet<String> =
            self.templates.iter().chain(&self.waiting).map(|template| template.id.clone()).collect();
        let functions: BTreeSet<String> = self.environment.globals().map(|(name, _)| name.to_owned()).collect();
        let (before, templates) = (self.templates.len(), file.templates.len());
        for mut template in file.templates {
            if !ids.insert(template.id.clone()) {
                return Err(Error::DuplicateId { bank: self.name.clone(), template: template.id });
            }
            if template.media.is_empty() {
                template.media.clone_from(&of_file);
            }
            if template.language.is_empty() {
                template.language.clone_from(&file.language);
            }
            template.review = template.review.or(file.review);
            template.key = keyed_hash(0, &["wording", &self.name, &template.id]);
            self.compile(&mut template, &functions)?;
            self.try_out(&template)?;
            if template.is_used() { self.templates.push(template) } else { self.waiting.push(template) }
        }
        match (self.templates.len() - before, templates) {
            (0, 0) => Err(Error::Empty { bank: self.name.clone() }),
            (0, templates) => Err(Error::NoneAccepted { bank: self.name.clone(), templates }),
            _ => Ok(()),
        }
    }

    /// Compiles a template and notes its slots. minijinja reports its own functions, such as
    /// `range`, as undeclared variables.
    fn compile(&mut self, template: &mut Template, functions: &BTreeSet<String>) -> Result<()> {
        let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if template.id.is_empty() || !template.id.chars().all(well_formed) {
            return Err(Error::BadId { bank: self.name.clone(), template: template.id.clone() });
        }
        if let Some((parts, slots)) = parts(&template.text, functions) {
            (template.parts, template.slots) = (Some(parts), slots);
            return Ok(());
        }
        let fault = |source| Error::Template { bank: self.name.clone(), template: template.id.clone(), source };
        self.environment.add_template_owned(template.id.clone(), template.text.clone()).map_err(fault)?;
        let compiled = self.environment.get_template(&template.id).map_err(fault)?;
        let used = compiled.undeclared_variables(false);
        let used: BTreeSet<String> = used.into_iter().filter(|name| !functions.contains(name)).collect();
        template.slots = used.into_iter().collect();
        Ok(())
    }

    /// Renders a template once with texts or, if that fails, with lists.
    fn try_out(&self, template: &Template) -> Result<()> {
        let options = ["first".to_owned(), "second".to_owned()];
        let all = |slot| -> Vec<(&str, Slot)> { template.slots.iter().map(|name| (name.as_str(), slot)).collect() };
        self.render(template, &all(Slot::Text("word")))
            .or_else(|_| self.render(template, &all(Slot::List(&options))))?;
        Ok(())
    }

    /// Returns the wordings in use, together with this bank.
    pub fn wordings(&self) -> impl Iterator<Item = Wording<'_>> {
        self.templates.iter().map(|template| Wording { bank: self, template })
    }

    /// Renders a template of this bank. Values are data: template syntax in them stays unchanged.
    /// Values for slots that the template does not use are ignored.
    ///
    /// # Errors
    /// If a slot is missing, or the template fails or renders to an empty text.
    pub fn render(&self, template: &Template, slots: &[(&str, Slot<'_>)]) -> Result<String> {
        if let Some(slot) = template.slots.iter().find(|slot| !slots.iter().any(|(name, _)| name == slot)) {
            return Err(Error::MissingSlot {
                bank: self.name.clone(),
                template: template.id.clone(),
                slot: slot.clone(),
                given: slots.iter().map(|(name, _)| (*name).to_owned()).collect(),
            });
        }
        let text = match filled(template, slots) {
            Some(text) => text,
            None => self.rendered(template, slots)?,
        };
        if text.trim().is_empty() {
            return Err(Error::EmptyText { bank: self.name.clone(), template: template.id.clone() });
        }
        Ok(text)
    }
}

impl Bank {
    /// Renders a template with minijinja.
    fn rendered(&self, template: &Template, slots: &[(&str, Slot<'_>)]) -> Result<String> {
        let context = Value::from_pairs(slots.iter().map(|(name, slot)| (*name, slot.value())));
        let compiled = match template.parts {
            // It is not in the environment, as its slots are texts nearly always.
            Some(_) => self.environment.render_named_str(&template.id, &template.text, context),
            None => self.environment.get_template(&template.id).and_then(|compiled| compiled.render(context)),
        };
        compiled.map_err(|source| Error::Template { bank: self.name.clone(), template: template.id.clone(), source })
    }
}

/// A part of a template that only inserts texts, as most do. minijinja takes several times as long
/// to render them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text that is inserted as it is.
    Text(String),
    /// The value of the slot with this index.
    Slot(usize),
}

/// Returns the parts of a template that only inserts texts, and its slots in alphabetical order.
/// Returns `None` for any other template, and for one that may use `functions` of minijinja.
fn parts(template: &str, functions: &BTreeSet<String>) -> Option<(Vec<Part>, Vec<String>)> {
    // minijinja removes a line break at the end of a template.
    if template.ends_with('\n') {
        return None;
    }
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some(place) = rest.find('{') {
        let (name, behind) = rest[place..].strip_prefix("{{")?.split_once("}}")?;
        let name = name.trim();
        let is_name = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_name || KEYWORDS.contains(&name) || functions.contains(name) {
            return None;
        }
        pieces.push((&rest[..place], name));
        rest = behind;
    }
    let slots: BTreeSet<&str> = pieces.iter().map(|(_, name)| *name).collect();
    let slots: Vec<String> = slots.into_iter().map(str::to_owned).collect();
    let mut parts = Vec::with_capacity(2 * pieces.len() + 1);
    for (text, name) in pieces {
        let slot = slots.iter().position(|slot| slot == name)?;
        parts.extend([Part::Text(text.to_owned()), Part::Slot(slot)]);
    }
    parts.push(Part::Text(rest.to_owned()));
    Some((parts, slots))
}

/// Words of minijinja that are not names of variables.
const KEYWORDS: &[&str] = &["and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "self", "true"];

/// Renders a template that only inserts texts. Returns `None` for any other template or value.
fn filled(template: &Template, slots: &[(&str, Slot<'_>)]) -> Option<String> {
    let parts = template.parts.as_ref()?;
    let mut text = String::with_capacity(2 * template.text.len());
    for part in parts {
        match part {
            Part::Text(own) => text.push_str(own),
            Part::Slot(slot) => match slots.iter().rfind(|(own, _)| *own == template.slots[*slot]) {
                Some((_, Slot::Text(own))) => text.push_str(own),
                _ => return None,
            },
        }
    }
    Some(text)
}

/// All banks by name.
#[derive(Debug)]
pub struct Banks {
    banks: BTreeMap<String, Bank>,
}

impl Banks {
    /// Returns the banks of this crate.
    ///
    /// # Errors
    /// Never with the shipped files, which a test loads.
    pub fn shipped() -> Result<Self> {
        let mut banks = Self { banks: BTreeMap::new() };
        let folders = SHIPPED.dirs().map(|folder| (folder.path().to_str(), folder));
        for (language, folder) in std::iter::once((None, &SHIPPED)).chain(folders) {
            for file in folder.files() {
                let (Some(name), Some(toml)) =
                    (file.path().file_stem().and_then(|stem| stem.to_str()), file.contents_utf8())
                else {
                    return Err(Error::NotText { path: file.path().to_owned() });
                };
                banks.insert(name, language, toml)?;
            }
        }
        Ok(banks)
    }

    /// Adds the `*.toml` files of a folder, and those of subfolders that are named after a
    /// language, such as `de`. The wordings of a file replace the wordings in its language of the
    /// bank with its name.
    ///
    /// # Errors
    /// If the folder or a bank cannot be read, a bank fails its checks, or the language of a file
    /// differs from that of its folder.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self> {
        let is_language =
            |name: &str| matches!(name.len(), 2 | 3) && name.bytes().all(|byte| byte.is_ascii_lowercase());
        let (mut languages, mut files) = (Vec::new(), Vec::new());
        for path in entries(folder)? {
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if is_language(name) && path.is_dir() => languages.push((name.to_owned(), path)),
                _ => files.push((None, path)),
            }
        }
        for (language, folder) in languages {
            files.extend(entries(&folder)?.into_iter().map(|path| (Some(language.clone()), path)));
        }
        for (language, path) in files {
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let bytes = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let (Some(name), Ok(toml)) = (path.file_stem().and_then(|stem| stem.to_str()), String::from_utf8(bytes))
            else {
                return Err(Error::NotText { path });
            };
            self.insert(name, language.as_deref(), &toml)?;
        }
        Ok(self)
    }

    /// Creates a bank from a file, or replaces the wordings in the language of the file if the bank
    /// exists. The language must match that of the folder, if the folder has one.
    fn insert(&mut self, name: &str, folder: Option<&str>, toml: &str) -> Result<()> {
        let file = BankFile::parse(name, toml)?;
        if let Some(folder) = folder.filter(|folder| *folder != file.language) {
            let (bank, folder, language) = (name.to_owned(), folder.to_owned(), file.language);
            return Err(Error::WrongLanguage { bank, folder, language });
        }
        if let Some(bank) = self.banks.get_mut(name) {
            if let Some(description) = &file.description {
                bank.description.clone_from(description);
            }
            bank.replace(file)
        } else {
            self.banks.insert(name.to_owned(), Bank::of_file(name, file)?);
            Ok(())
        }
    }

    /// Returns the bank with this name.
    ///
    /// # Errors
    /// If there is no such bank; the message lists the names.
    pub fn get(&self, name: &str) -> Result<&Bank> {
        self.banks
            .get(name)
            .ok_or_else(|| Error::UnknownBank { bank: name.to_owned(), known: self.banks.keys().cloned().collect() })
    }

    /// Returns all banks in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Bank> {
        self.banks.values()
    }

    /// Returns all wordings in use, in the order of the banks.
    pub fn wordings(&self) -> impl Iterator<Item = Wording<'_>> {
        self.iter().flat_map(Bank::wordings)
    }
}

/// Returns the paths of the entries of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |source| Error::Read { path: folder.to_owned(), source };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(unreadable)?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bank(templates: &str) -> Result<Bank> {
        Bank::parse("test", &format!("description = \"questions\"\n{templates}"))
    }

    fn entry(id: &str, text: &str) -> String {
        format!("[[templates]]\nid = \"{id}\"\ntext = '{text}'\nanswer = \"phrase\"\n")
    }

    #[test]
    fn the_folder_is_what_is_shipped() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("banks");
        let read = Banks { banks: BTreeMap::new() }.with_folder(&folder).unwrap();
        let names = |banks: &Banks| -> Vec<String> {
            let of_bank = |bank: &Bank| bank.templates.iter().map(|own| format!("{}/{}", bank.name, own.id)).collect();
            banks.iter().flat_map(|bank| -> Vec<String> { of_bank(bank) }).collect()
        };
        assert_eq!(names(&read), names(&Banks::shipped().unwrap()));
        let files = entries(&folder).unwrap().into_iter().filter(|path| path.is_file()).count();
        assert_eq!(read.banks.len(), files);
    }

    #[test]
    fn every_shipped_bank_has_at_least_ten_wordings_in_each_of_its_languages() {
        for bank in Banks::shipped().unwrap().iter() {
            let mut by_language: BTreeMap<&str, usize> = BTreeMap::new();
            for template in &bank.templates {
                *by_language.entry(&template.language).or_default() += 1;
            }
            assert!(by_language.contains_key("en"), "{}", bank.name);
            // A conversation that stays as it was written has one form.
            let fewest = if bank.name == "as_written" { 1 } else { 10 };
            for (language, wordings) in by_language {
                assert!(wordings >= fewest, "{} has {wordings} in {language}", bank.name);
            }
        }
    }

    #[test]
    fn texts_are_inserted_as_by_minijinja() {
        let options = ["a".to_owned(), "b".to_owned()];
        let mut inserted = 0;
        let mut compare = |bank: &Bank, template: &Template| {
            let texts = ["{{ question }} {", "é\n", "{% x %}"];
            let slots = template.slots.iter().zip(texts.into_iter().cycle());
            let slots: Vec<(&str, Slot)> = slots.map(|(name, text)| (name.as_str(), Slot::Text(text))).collect();
            if let Some(text) = filled(template, &slots) {
                assert_eq!(text, bank.rendered(template, &slots).unwrap(), "{}/{}", bank.name, template.id);
                inserted += 1;
            }
            let lists: Vec<(&str, Slot)> = slots.iter().map(|(name, _)| (*name, Slot::List(&options))).collect();
            assert!(template.slots.is_empty() || filled(template, &lists).is_none());
        };
        let banks = Banks::shipped().unwrap();
        banks.iter().for_each(|bank| bank.templates.iter().for_each(|template| compare(bank, template)));
        let texts =
            ["{{question}}.", "a } b {{ question }}", "{{ question -}} x", "{{ question | upper }}", "{# x #}a{"];
        let own = texts.iter().enumerate().map(|(place, text)| entry(&format!("own_{place}"), text));
        let own = bank(&own.collect::<String>()).unwrap();
        own.templates.iter().for_each(|template| compare(&own, template));
        assert!(inserted > 1000, "{inserted} of them only insert texts");
    }

    #[test]
    fn shipped_wordings_are_clean_text() {
        for bank in Banks::shipped().unwrap().iter() {
            for template in &bank.templates {
                let place = format!("{}/{}", bank.name, template.id);
                assert_eq!(template.text.trim(), template.text, "{place}");
                assert!(!template.text.contains("  "), "{place}");
                assert!(template.length.is_some() && template.tone.is_some(), "{place} lacks a tag");
                let first = template.text.chars().next().unwrap();
                if template.language == "en" {
                    assert!(template.text.is_ascii(), "{place}");
                    assert!(first.is_ascii_uppercase() || ['{', '"'].contains(&first), "{place}");
                    assert_eq!(template.review, None, "{place}");
                } else {
                    assert!(!first.is_lowercase(), "{place}");
                    assert_eq!(template.review, Some(Review::Machine), "{place}: say who has read it");
                    assert!(template.id.starts_with(&format!("{}_", template.language)), "{place}");
                }
            }
        }
    }

    #[test]
    fn data_is_not_read_as_a_template() {
        let bank = bank(&entry("plain", "{{ question }} Be brief.")).unwrap();
        let hostile = "What does {{ question }} {% raw %} <b>mean</b> & why?";
        let text = bank.render(&bank.templates[0], &[("question", Slot::Text(hostile))]).unwrap();
        assert_eq!(text, format!("{hostile} Be brief."));
    }

    #[test]
    fn lists_are_joined_as_the_template_says() {
        let toml = "description = \"d\"\n[[templates]]\nid = \"a\"\nanswer = \"letter\"\ntext = '{{ options | join(\"\\n\") }}'\n";
        let bank = Bank::parse("test", toml).unwrap();
        let options = ["(A) one".to_owned(), "(B) two".to_owned()];
        let text = bank.render(&bank.templates[0], &[("options", Slot::List(&options))]).unwrap();
        assert_eq!(text, "(A) one\n(B) two");
    }

    #[test]
    fn the_slots_of_a_template_are_those_that_it_uses() {
        let bank = bank(&(entry("a", "Be brief.") + &entry("b", "{{ question }} {{ hint }} {{ question }}"))).unwrap();
        assert_eq!(bank.templates[0].slots, [""; 0]);
        assert_eq!(bank.templates[1].slots, ["hint", "question"]);
    }

    #[test]
    fn media_and_language_come_from_the_bank_unless_the_wording_says_otherwise() {
        let of = |head: &str, line: &str| {
            let toml = format!("description = \"d\"\n{head}\n{}{line}\n", entry("a", "Say it."));
            Bank::parse("test", &toml).map(|bank| (bank.templates[0].media.clone(), bank.templates[0].language.clone()))
        };
        assert_eq!(of("", "").unwrap(), (vec![Media::Image], "en".to_owned()));
        assert_eq!(of("media = \"video\"\nlanguage = \"de\"", "").unwrap(), (vec![Media::Video], "de".to_owned()));
        let both = of("media = \"video\"", "media = [\"none\", \"image\"]").unwrap().0;
        assert_eq!(both, [Media::None, Media::Image]);
        assert_eq!(of("media = \"any\"", "").unwrap().0, Media::ALL);
        assert!(of("media = \"sound\"", "").is_err() && of("media = []", "").is_err());
    }

    #[test]
    fn wordings_of_a_model_wait_until_they_are_accepted() {
        let origin = |review: &str| {
            format!("origin = {{ model = \"m-1\", date = \"2026-01-31\", parents = [\"a\"], review = \"{review}\" }}\n")
        };
        let toml = entry("a", "Say it.")
            + &entry("b", "Tell it.")
            + &origin("pending")
            + &entry("c", "Name it.")
            + &origin("accepted")
            + &entry("d", "It, please.")
            + &origin("rejected");
        let bank = bank(&toml).unwrap();
        let ids = |templates: &[Template]| templates.iter().map(|own| own.id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (ids(&bank.templates), ids(&bank.waiting)),
            (vec!["a".into(), "c".into()], vec!["b".into(), "d".into()])
        );
    }

    #[test]
    fn faulty_banks_are_refused_with_the_place() {
        assert!(matches!(bank(""), Err(Error::Empty { .. })));
        let twice = format!("{}{}", entry("a", "{{ question }} x"), entry("a", "{{ question }} y"));
        assert!(matches!(bank(&twice), Err(Error::DuplicateId { .. })));
        assert!(matches!(bank(&entry("A b", "{{ question }}")), Err(Error::BadId { .. })));
        assert!(matches!(bank(&entry("a", "{{ question ")), Err(Error::Template { .. })));
        assert!(matches!(bank(&entry("a", "{{ question.part }} x")), Err(Error::Template { .. })));
        assert!(matches!(bank(&entry("a", "{% if question is none %}x{% endif %}")), Err(Error::EmptyText { .. })));
        assert!(matches!(bank("[[templates]]\nid = \"a\"\ntext = \"{{ question }}\"\n"), Err(Error::Syntax { .. })));
    }

    #[test]
    fn an_endless_template_runs_out_of_fuel() {
        let text = "{% for i in range(1000) %}{% for j in range(1000) %}{{ question }}{% endfor %}{% endfor %}";
        let error = bank(&entry("a", text)).map(|bank| bank.templates.len()).unwrap_err();
        let Error::Template { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), minijinja::ErrorKind::OutOfFuel);
    }

    #[test]
    fn a_slot_that_is_not_given_is_named() {
        let bank = bank(&entry("a", "{{ question }}")).unwrap();
        let error = bank.render(&bank.templates[0], &[("statement", Slot::Text("x"))]).unwrap_err().to_string();
        assert!(error.contains("`question`") && error.contains("statement"), "{error}");
        let slots = [("statement", Slot::Text("x")), ("question", Slot::Text("y"))];
        assert_eq!(bank.render(&bank.templates[0], &slots).unwrap(), "y");
    }

    #[test]
    fn a_folder_replaces_and_adds_banks() {
        let folder = tempfile::tempdir().unwrap();
        let toml = format!("description = \"own\"\n{}", entry("own", "{{ question }} Now."));
        fs::write(folder.path().join("vqa.toml"), &toml).unwrap();
        fs::write(folder.path().join("ocr.toml"), &toml).unwrap();
        fs::write(folder.path().join("notes.md"), "not a bank").unwrap();
        fs::create_dir(folder.path().join("drafts")).unwrap();
        fs::write(folder.path().join("drafts/caption.toml"), "not read").unwrap();
        let banks = Banks::shipped().unwrap().with_folder(folder.path()).unwrap();
        let ids = |banks: &Banks, bank: &str, language: &str| -> Vec<String> {
            let of_language = banks.get(bank).unwrap().templates.iter().filter(|own| own.language == language);
            of_language.map(|own| own.id.clone()).collect()
        };
        assert_eq!(ids(&banks, "vqa", "en"), ["own"]);
        assert!(ids(&banks, "vqa", "de").len() >= 10, "wordings of other languages stay");
        fs::create_dir(folder.path().join("de")).unwrap();
        let german = |head: &str| format!("{head}{}", entry("de_own", "{{ question }} Jetzt."));
        fs::write(folder.path().join("de/vqa.toml"), german("language = \"de\"\n")).unwrap();
        let both = Banks::shipped().unwrap().with_folder(folder.path()).unwrap();
        assert_eq!((ids(&both, "vqa", "en"), ids(&both, "vqa", "de")), (vec!["own".into()], vec!["de_own".into()]));
        fs::write(folder.path().join("de/vqa.toml"), german("")).unwrap();
        let error = Banks::shipped().unwrap().with_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("`de`") && error.contains("`en`"), "{error}");
        fs::write(folder.path().join("de/vqa.toml"), german("language = \"de\"\n")).unwrap();
        fs::write(folder.path().join("de/new.toml"), german("language = \"de\"\n")).unwrap();
        let error = Banks::shipped().unwrap().with_folder(folder.path()).unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }), "a new bank needs a description");
        assert_eq!(banks.get("ocr").unwrap().description, "own");
        assert!(banks.get("caption").unwrap().templates.len() >= 8);
        let error = banks.get("video").unwrap_err().to_string();
        assert!(error.contains("caption, caption_detailed"), "{error}");
    }
}
