//! One annotated dataset, described as data: where its rows are and how they map to records.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lynxdata_prompts::{AnswerShape, Bank, Banks, Media, Template, Wording};
use lynxdata_records::nearest;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::rows::table::{Table, UsedFields};
use crate::rows::{NativeFile, files, part_names, reader};
use crate::{Error, Result};

/// Whether a licence allows commercial use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommercialUse {
    /// Its licence allows it.
    Yes,
    /// Its licence forbids it.
    No,
    /// There is no licence, or it does not mention commercial use.
    Unclear,
}

impl CommercialUse {
    /// Returns the name in task files and tables.
    pub fn name(self) -> &'static str {
        match self {
            CommercialUse::Yes => "yes",
            CommercialUse::No => "no",
            CommercialUse::Unclear => "unclear",
        }
    }
}

/// The data on which a task file was tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verified {
    /// Files as their authors ship them, at least one of them complete.
    Genuine,
    /// Genuine rows: a part of a file, or a copy that somebody else published.
    Excerpt,
    /// Rows made up in the layout that the authors' own loader reads.
    Fixture,
    /// The documentation alone.
    Documentation,
}

impl Verified {
    /// Returns the name in task files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Verified::Genuine => "genuine",
            Verified::Excerpt => "excerpt",
            Verified::Fixture => "fixture",
            Verified::Documentation => "documentation",
        }
    }
}

/// The licence terms of the images or videos of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The licence, an SPDX id where there is one.
    pub licence: String,
    /// Whether it allows commercial use.
    pub commercial_use: CommercialUse,
    /// The collections that they belong to, from `collections.toml` or from a file of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<String>,
}

/// A file of a task and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obtain {
    /// The path below the root folder of the file or folder, or of the archive that holds it.
    pub file: String,
    /// The URL, or instructions to get it.
    pub from: String,
}

/// A fact in a task file that can have a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The licence of the annotations.
    Licence,
    /// The licence terms of the images or videos.
    Pictures,
    /// The numbers of records.
    Splits,
    /// The source of the files of annotations.
    Obtain,
}

impl Fact {
    /// Returns the name in task files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Fact::Licence => "licence",
            Fact::Pictures => "pictures",
            Fact::Splits => "splits",
            Fact::Obtain => "obtain",
        }
    }
}

/// The division of one native row into several records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplodeFile {
    name: String,
    over: String,
}

/// An expression, alone or with its options.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an expression in quotes, or { value = \"…\", optional = true, may_be_unused = true }")]
enum ValueFile {
    Plain(String),
    Full(FullValueFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullValueFile {
    value: String,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    may_be_unused: bool,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an expression in quotes, or { path = \"…\", start = \"…\", end = \"…\", frame_rate = 3, optional = true }"
)]
enum VideoFile {
    Plain(String),
    Full(FullVideoFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullVideoFile {
    path: String,
    start: Option<ValueFile>,
    end: Option<ValueFile>,
    frame_rate: Option<f64>,
    #[serde(default)]
    optional: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaFile {
    image: Option<ValueFile>,
    images: Option<ValueFile>,
    video: Option<VideoFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsFile {
    texts: String,
    right: String,
    #[serde(default)]
    case_matters: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VotesFile {
    texts: String,
    #[serde(default = "one_vote")]
    least: usize,
}

fn one_vote() -> usize {
    1
}

/// The captions, of several, that become conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Take {
    /// One, chosen by the seed.
    #[default]
    One,
    /// Every one.
    All,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an expression in quotes, or { texts = \"…\", shape = \"sentence\", take = \"one\" }")]
enum CaptionsFile {
    Plain(String),
    Full(FullCaptionsFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullCaptionsFile {
    texts: String,
    #[serde(default = "sentence")]
    shape: AnswerShape,
    #[serde(default)]
    take: Take,
}

fn sentence() -> AnswerShape {
    AnswerShape::Sentence
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "an expression in quotes, or { pairs = \"…\", media_token = \"<image>\" }")]
enum TurnsFile {
    Plain(String),
    Full(FullTurnsFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FullTurnsFile {
    pairs: String,
    media_token: String,
    video_token: Option<TokensFile>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a token in quotes, or a list of them")]
enum TokensFile {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct AnswersFile {
    options: Option<OptionsFile>,
    truth: Option<String>,
    votes: Option<VotesFile>,
    captions: Option<CaptionsFile>,
    turns: Option<TurnsFile>,
    /// All other keys: answers by the name of their shape.
    #[serde(flatten)]
    by_shape: BTreeMap<String, ValueFile>,
}

/// A task file, after its base is merged in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFile {
    name: String,
    paper_row: Option<u8>,
    group: String,
    licence: String,
    commercial_use: CommercialUse,
    homepage: String,
    cite: String,
    verified: Verified,
    splits: BTreeMap<String, u64>,
    prompts: Vec<String>,
    #[serde(default = "english")]
    language: String,
    #[serde(default = "half")]
    may_drop: f64,
    id: String,
    #[serde(default)]
    obtain: Vec<Obtain>,
    pictures: Option<Terms>,
    #[serde(default)]
    facts_from: BTreeMap<Fact, String>,
    tables: toml::Table,
    explode: Option<ExplodeFile>,
    #[serde(default, rename = "where")]
    selected: toml::Table,
    #[serde(default)]
    must: toml::Table,
    #[serde(default)]
    media: MediaFile,
    system: Option<ValueFile>,
    #[serde(default)]
    slots: BTreeMap<String, ValueFile>,
    answers: AnswersFile,
}

fn english() -> String {
    "en".to_owned()
}

/// Returns the default of `may_drop`: half of the records. A task that loses more than half of its
/// records is probably read wrongly. A task that drops more on purpose must set `may_drop`.
fn half() -> f64 {
    0.5
}

/// A table that is joined to the ones before it.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) name: String,
    pub(crate) table: Table,
    pub(crate) key: String,
    pub(crate) on: Expression,
    pub(crate) keep: Vec<(String, Expression)>,
}

/// A slot or an answer, and the expression for its value.
#[derive(Debug)]
pub(crate) struct Mapped {
    /// Its place in the task file, such as `slots.question`.
    pub(crate) place: String,
    /// Its key there.
    pub(crate) name: String,
    pub(crate) value: Expression,
    /// Whether it may be missing from a record.
    pub(crate) optional: bool,
    /// Whether a wording may leave the slot out.
    pub(crate) may_be_unused: bool,
}

/// A condition for records.
#[derive(Debug)]
pub(crate) struct Predicate {
    /// The table of the task file: `where` for records that are wanted, `must` for records that can
    /// be converted at all.
    pub(crate) section: &'static str,
    pub(crate) name: String,
    pub(crate) holds: Expression,
}

/// The source of the media of a record.
#[derive(Debug)]
pub(crate) enum MediaSource {
    None,
    Image(Mapped),
    Images(Mapped),
    Video(Box<VideoSource>),
    /// Images or a video, if it has any.
    Either(Mapped, Box<VideoSource>),
}

/// The source of a video and of the times of its part.
#[derive(Debug)]
pub(crate) struct VideoSource {
    pub(crate) path: Mapped,
    pub(crate) start: Option<Mapped>,
    pub(crate) end: Option<Mapped>,
    /// Frames per second, for videos that are shipped as folders of frames.
    pub(crate) frame_rate: Option<f64>,
}

/// The source of the options of a question.
#[derive(Debug)]
pub(crate) struct OptionSources {
    pub(crate) texts: Mapped,
    /// The index of the right one.
    pub(crate) right: Mapped,
    /// Whether options may differ only in capital letters, as in questions about spelling.
    pub(crate) case_matters: bool,
}

/// The source of the answers of a record.
#[derive(Debug)]
pub(crate) struct AnswerSources {
    pub(crate) texts: Vec<(AnswerShape, Mapped)>,
    pub(crate) options: Option<OptionSources>,
    pub(crate) truth: Option<Mapped>,
    /// The votes, and the minimum number of equal votes that count as an answer.
    pub(crate) votes: Option<(Mapped, usize)>,
    pub(crate) captions: Option<(Mapped, AnswerShape, Take)>,
    pub(crate) turns: Option<Mapped>,
    /// The texts by which questions of `turns` mark the places of media, such as `<image>`, and
    /// those that mark the place of a video.
    pub(crate) media_tokens: Option<(Vec<String>, Vec<String>)>,
}

/// A compiled entry of the catalogue.
#[derive(Debug)]
pub struct Task {
    /// Its name, which is also the name of its file.
    pub name: String,
    /// Its row in table 9 of arXiv 2307.02469, if it has one.
    pub paper_row: Option<u8>,
    /// The group under which mixtures select it, such as `captioning` or `ocr`.
    pub group: String,
    /// The licence of the annotations, as an SPDX id where there is one.
    pub licence: String,
    /// Whether that licence allows commercial use.
    pub commercial_use: CommercialUse,
    /// The licence terms of its images or videos, if it has any.
    pub pictures: Option<Terms>,
    /// The page on which its authors publish it.
    pub homepage: String,
    /// The paper, as an arXiv number, a DOI or a URL.
    pub cite: String,
    /// The data on which the task file was tested.
    pub verified: Verified,
    /// The URLs at which facts were looked up. A fact that is missing here was written from memory.
    pub facts_from: BTreeMap<Fact, String>,
    /// Its files and where they come from.
    pub obtain: Vec<Obtain>,
    /// The prompt banks with the wordings of its conversations.
    pub prompts: Vec<String>,
    /// The language of its texts, as an ISO 639 code. Its wordings are in the same language by
    /// default.
    pub language: String,
    /// The splits that its authors publish, with the published number of records of each; 0 if no
    /// number is published.
    pub splits: BTreeMap<String, u64>,
    /// The share of records, 0 to 1, that may be dropped; a task that drops more fails.
    pub may_drop: f64,
    /// The complete task file as TOML, with the file that it extends merged in. Fingerprints of
    /// builds cover this text.
    pub definition: String,
    /// The path of the task file.
    pub file: String,
    pub(crate) primary: (String, Table),
    pub(crate) joins: Vec<Join>,
    pub(crate) lookups: Vec<(String, Table)>,
    pub(crate) explode: Option<(String, Expression)>,
    pub(crate) predicates: Vec<Predicate>,
    pub(crate) id: Mapped,
    pub(crate) media: MediaSource,
    pub(crate) system: Option<Mapped>,
    pub(crate) slots: Vec<Mapped>,
    pub(crate) answers: AnswerSources,
}

/// Names that expressions can use besides tables: the split, the native file, the row in it (from
/// 0), and the index in an exploded list (from 0).
pub(crate) const VARIABLES: [&str; 4] = ["split", "file", "row", "index"];

/// Slots that `answers.options` fills. (`answers.turns` fills the slot `question`.)
const GIVEN_SLOTS: [&str; 2] = ["options", "choices"];

/// The maximum number of slots of a task: the slots that a record has are stored as bits of a
/// `u128`.
const MOST_SLOTS: usize = 128;

/// The first table, the tables that are joined to it, and the lookups.
type Tables = ((String, Table), Vec<Join>, Vec<(String, Table)>);

/// Compiles the expressions of one task file. It knows the names that they may use so far.
struct Compiler<'a> {
    file: &'a str,
    known: Vec<String>,
    /// The paths that expressions use, such as `q.image_id`.
    paths: RefCell<BTreeSet<String>>,
    /// The names and texts in expressions, among which are the fields that they use.
    names: RefCell<BTreeSet<String>>,
}

impl<'a> Compiler<'a> {
    fn new<'n>(file: &'a str, known: impl IntoIterator<Item = &'n str>) -> Self {
        let known = known.into_iter().map(str::to_owned).collect();
        Self { file, known, paths: RefCell::default(), names: RefCell::default() }
    }

    fn fault(&self, reason: String) -> Error {
        Error::TaskFile { file: self.file.to_owned(), reason }
    }

    fn expression(&self, place: &str, source: &str) -> Result<Expression> {
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        let compiled = Expression::compile(source, &known);
        let compiled = compiled.map_err(|reason| self.fault(format!("{place}: {reason}")))?;
        self.paths.borrow_mut().extend(compiled.paths());
        self.names.borrow_mut().extend(compiled.names());
        Ok(compiled)
    }

    /// Compiles an expression that is neither a slot nor an answer. It cannot convert boxes, which
    /// are texts for a model.
    fn expression_without_boxes(&self, place: &str, source: &str) -> Result<Expression> {
        let compiled = self.expression(place, source)?;
        if compiled.uses_filter("box") {
            let reason =
                "the filter `box` works only in [slots] and [answers]; pass on the numbers and convert them there";
            return Err(self.fault(format!("{place}: {reason}")));
        }
        Ok(compiled)
    }

    fn mapped(&self, section: &str, name: &str, source: &str) -> Result<Mapped> {
        let place = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        let value = match section {
            "slots" | "answers" => self.expression(&place, source)?,
            _ => self.expression_without_boxes(&place, source)?,
        };
        Ok(Mapped { place, name: name.to_owned(), value, optional: false, may_be_unused: false })
    }

    fn value(&self, section: &str, name: &str, value: &ValueFile) -> Result<Mapped> {
        match value {
            ValueFile::Plain(source) => self.mapped(section, name, source),
            ValueFile::Full(full) => Ok(Mapped {
                optional: full.optional,
                may_be_unused: full.may_be_unused,
                ..self.mapped(section, name, &full.value)?
            }),
        }
    }

    /// Compiles the tables: the first one, the joined ones and the lookups.
    fn tables(&mut self, tables: toml::Table) -> Result<Tables> {
        let mut read = Vec::new();
        for (name, value) in tables {
            let table: Table =
                value.try_into().map_err(|reason: toml::de::Error| self.fault(format!("tables.{name}: {reason}")))?;
            if !is_identifier(&name) || VARIABLES.contains(&name.as_str()) {
                let reason = format!("tables.{name}: choose a name of a-z, 0-9 and _ other than {VARIABLES:?}");
                return Err(self.fault(reason));
            }
            if table.format != "auto" {
                reader(&table.format).map_err(|reason| self.fault(format!("tables.{name}.format: {reason}")))?;
            }
            part_names(&table.file).map_err(|reason| self.fault(format!("tables.{name}.file: {reason}")))?;
            read.push((name, table));
        }
        let mut read = read.into_iter();
        let Some(primary) = read.next() else {
            return Err(self.fault("tables: there is none; add at least one [tables.NAME]".to_owned()));
        };
        if primary.1.join.is_some() {
            let reason = format!("tables.{}: the first table cannot be joined; remove `join`", primary.0);
            return Err(self.fault(reason));
        }
        self.known.push(primary.0.clone());
        let (joined, lookups): (Vec<_>, Vec<_>) = read.partition(|(_, table)| table.join.is_some());
        self.known.extend(lookups.iter().map(|(name, _)| name.clone()));
        let mut joins: Vec<Join> = Vec::new();
        for (name, mut table) in joined {
            let key = table.join.clone().expect("partitioned by it");
            let on = table.on.clone().unwrap_or_else(|| format!("{}.{key}", primary.0));
            let on = self.expression_without_boxes(&format!("tables.{name}.on"), &on)?;
            let of_row = Compiler::new(self.file, [name.as_str(), "split"]);
            let mut keep = Vec::new();
            for (field, source) in &table.keep {
                keep.push((
                    field.clone(),
                    of_row.expression_without_boxes(&format!("tables.{name}.keep.{field}"), source)?,
                ));
            }
            if !keep.is_empty() {
                table.fields = with_key(UsedFields::of(&name, of_row.paths.borrow().iter()), &key);
            }
            self.known.push(name.clone());
            joins.push(Join { name, table, key, on, keep });
        }
        Ok((primary, joins, lookups))
    }

    fn explode(&mut self, explode: Option<ExplodeFile>) -> Result<Option<(String, Expression)>> {
        let Some(explode) = explode else { return Ok(None) };
        if !is_identifier(&explode.name) || self.known.contains(&explode.name) {
            return Err(self.fault(format!("explode.name: `{}` is already used or is not an identifier", explode.name)));
        }
        let over = self.expression_without_boxes("explode.over", &explode.over)?;
        self.known.push(explode.name.clone());
        Ok(Some((explode.name, over)))
    }

    fn predicates(&self, section: &'static str, predicates: &toml::Table) -> Result<Vec<Predicate>> {
        let mut compiled = Vec::new();
        for (name, source) in predicates {
            let Some(source) = source.as_str() else {
                return Err(self.fault(format!("{section}.{name}: must be an expression in quotes")));
            };
            let holds = self.expression_without_boxes(&format!("{section}.{name}"), source)?;
            compiled.push(Predicate { section, name: name.clone(), holds });
        }
        Ok(compiled)
    }

    fn media(&self, media: MediaFile) -> Result<MediaSource> {
        match (media.image, media.images, media.video) {
            (None, None, None) => Ok(MediaSource::None),
            (Some(image), None, None) => Ok(MediaSource::Image(self.value("media", "image", &image)?)),
            (None, Some(images), None) => Ok(MediaSource::Images(self.value("media", "images", &images)?)),
            (None, None, Some(video)) => Ok(MediaSource::Video(Box::new(self.video(video)?))),
            (None, Some(images), Some(video)) => {
                let (images, video) = (self.value("media", "images", &images)?, self.video(video)?);
                if !(images.optional && video.path.optional) {
                    let reason = "media: a record has images or a video; set `optional = true` for both";
                    return Err(self.fault(reason.to_owned()));
                }
                Ok(MediaSource::Either(images, Box::new(video)))
            }
            _ => Err(self.fault("media: give only one of image, images and video, or images and video".to_owned())),
        }
    }

    fn video(&self, video: VideoFile) -> Result<VideoSource> {
        let video = match video {
            VideoFile::Plain(path) => {
                let path = self.mapped("media", "video", &path)?;
                return Ok(VideoSource { path, start: None, end: None, frame_rate: None });
            }
            VideoFile::Full(video) => video,
        };
        let time = |name: &str, source: Option<ValueFile>| {
            source.map(|source| self.value("media.video", name, &source)).transpose()
        };
        let path = Mapped { optional: video.optional, ..self.mapped("media.video", "path", &video.path)? };
        let (start, end) = (time("start", video.start)?, time("end", video.end)?);
        if video.frame_rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err(self.fault("media.video.frame_rate: must be above 0".to_owned()));
        }
        Ok(VideoSource { path, start, end, frame_rate: video.frame_rate })
    }

    fn slots(&self, slots: &BTreeMap<String, ValueFile>, answers: &AnswersFile) -> Result<Vec<Mapped>> {
        if slots.len() > MOST_SLOTS {
            return Err(
                self.fault(format!("slots: there are {}, but a task may have at most {MOST_SLOTS}", slots.len()))
            );
        }
        let mut compiled = Vec::new();
        for (name, value) in slots {
            if !is_identifier(name) {
                return Err(self.fault(format!("slots.{name}: choose a name of a-z, 0-9 and _")));
            }
            let is_given = answers.options.is_some() && GIVEN_SLOTS.contains(&name.as_str())
                || answers.turns.is_some() && name == "question";
            if is_given {
                let reason = format!("slots.{name}: is filled by answers.options or answers.turns; remove it here");
                return Err(self.fault(reason));
            }
            compiled.push(self.value("slots", name, value)?);
        }
        Ok(compiled)
    }

    fn answers(&self, answers: AnswersFile) -> Result<AnswerSources> {
        let mut texts = Vec::new();
        for (name, value) in &answers.by_shape {
            let shape = AnswerShape::ALL.iter().find(|shape| shape.name() == name);
            let Some(shape) = shape else {
                let known: Vec<&str> = AnswerShape::ALL.iter().map(|shape| shape.name()).collect();
                let known = known.join(", ");
                return Err(
                    self.fault(format!("answers.{name}: is not one of {known}, options, truth, votes, captions"))
                );
            };
            texts.push((*shape, self.value("answers", name, value)?));
        }
        let options = match answers.options {
            Some(own) => Some(OptionSources {
                texts: self.mapped("answers.options", "texts", &own.texts)?,
                right: self.mapped("answers.options", "right", &own.right)?,
                case_matters: own.case_matters,
            }),
            None => None,
        };
        let truth = answers.truth.map(|own| self.mapped("answers", "truth", &own)).transpose()?;
        let votes = match answers.votes {
            Some(own) => Some((self.mapped("answers", "votes", &own.texts)?, own.least)),
            None => None,
        };
        let captions = match answers.captions {
            Some(CaptionsFile::Plain(texts)) => {
                Some((self.mapped("answers", "captions", &texts)?, AnswerShape::Sentence, Take::One))
            }
            Some(CaptionsFile::Full(own)) => {
                Some((self.mapped("answers", "captions", &own.texts)?, own.shape, own.take))
            }
            None => None,
        };
        let (turns, media_tokens) = match answers.turns {
            Some(TurnsFile::Plain(pairs)) => (Some(self.mapped("answers", "turns", &pairs)?), None),
            Some(TurnsFile::Full(own)) => {
                let of_images = vec![own.media_token];
                let of_video = match own.video_token {
                    None => of_images.clone(),
                    Some(TokensFile::One(token)) => vec![token],
                    Some(TokensFile::Several(tokens)) => tokens,
                };
                if of_video.is_empty() || of_images.iter().chain(&of_video).any(|token| token.trim().is_empty()) {
                    return Err(self.fault("answers.turns: a token must not be empty".to_owned()));
                }
                (Some(self.mapped("answers", "turns", &own.pairs)?), Some((of_images, of_video)))
            }
            None => (None, None),
        };
        let sources = AnswerSources { texts, options, truth, votes, captions, turns, media_tokens };
        let mut shapes = sources.shapes();
        if shapes.is_empty() {
            return Err(self.fault("answers: there are none".to_owned()));
        }
        shapes.sort_unstable();
        match shapes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(self.fault(format!("answers: {} is given twice", pair[0].name()))),
            None => Ok(sources),
        }
    }
}

impl AnswerSources {
    /// Returns the declared shapes. `Word` is not added for short phrases, although they also count
    /// as words.
    pub(crate) fn shapes(&self) -> Vec<AnswerShape> {
        let mut shapes: Vec<AnswerShape> = self.texts.iter().map(|(shape, _)| *shape).collect();
        if self.options.is_some() {
            shapes.extend([AnswerShape::Letter, AnswerShape::Option]);
        }
        if self.truth.is_some() {
            shapes.extend([AnswerShape::YesNo, AnswerShape::TrueFalse]);
        }
        if self.votes.is_some() && !shapes.contains(&AnswerShape::Phrase) {
            shapes.push(AnswerShape::Phrase);
        }
        shapes.extend(self.captions.as_ref().map(|(_, shape, _)| *shape));
        if self.turns.is_some() {
            shapes.push(AnswerShape::Turns);
        }
        shapes
    }
}

impl Task {
    /// Compiles a task file. The file that it extends must already be merged in.
    pub(crate) fn compile(file: &str, contents: toml::Table) -> Result<Self> {
        let mut compiler = Compiler::new(file, VARIABLES);
        let definition = contents.to_string();
        let contents: TaskFile = contents.try_into().map_err(|reason| compiler.fault(reason.to_string()))?;
        check_head(&contents).map_err(|reason| compiler.fault(reason))?;
        let (mut primary, mut joins, mut lookups) = compiler.tables(contents.tables)?;
        let explode = compiler.explode(contents.explode)?;
        // A record that is not wanted need not be one that can be converted.
        let mut predicates = compiler.predicates("where", &contents.selected)?;
        predicates.extend(compiler.predicates("must", &contents.must)?);
        let media = compiler.media(contents.media)?;
        if !matches!(media, MediaSource::None) && contents.pictures.is_none() {
            let reason = "pictures: give `licence` and `commercial_use` of what [media] names";
            return Err(compiler.fault(reason.to_owned()));
        }
        let system = contents.system.map(|own| compiler.value("", "system", &own)).transpose()?;
        let slots = compiler.slots(&contents.slots, &contents.answers)?;
        let answers = compiler.answers(contents.answers)?;
        let id = compiler.mapped("", "id", &contents.id)?;
        check_parts(&compiler, &primary, &joins, &lookups)?;
        let paths = compiler.paths.into_inner();
        primary.1.fields = UsedFields::of(&primary.0, paths.iter());
        for join in joins.iter_mut().filter(|join| join.keep.is_empty()) {
            join.table.fields = with_key(UsedFields::of(&join.name, paths.iter()), &join.key);
        }
        let names = names_of_pictures(&media, explode.as_ref(), &joins);
        let joined = joins.iter_mut().map(|join| &mut join.table);
        for table in joined.chain(lookups.iter_mut().map(|(_, table)| table)).chain([&mut primary.1]) {
            table.pictures.clone_from(&names);
        }
        Ok(Self {
            slots,
            answers,
            id,
            name: contents.name,
            paper_row: contents.paper_row,
            group: contents.group,
            licence: contents.licence,
            commercial_use: contents.commercial_use,
            pictures: contents.pictures,
            homepage: contents.homepage,
            cite: contents.cite,
            verified: contents.verified,
            facts_from: contents.facts_from,
            obtain: contents.obtain,
            prompts: contents.prompts,
            language: contents.language,
            splits: contents.splits,
            may_drop: contents.may_drop,
            definition,
            file: file.to_owned(),
            primary,
            joins,
            lookups,
            explode,
            predicates,
            media,
            system,
        })
    }

    /// Returns the kinds of media that its records are about, at least one. A record of an `images`
    /// task may have a single image.
    pub fn modalities(&self) -> &'static [Media] {
        match &self.media {
            MediaSource::None => &[Media::None],
            MediaSource::Image(_) => &[Media::Image],
            MediaSource::Images(_) => &[Media::Images],
            MediaSource::Video(_) => &[Media::Video],
            MediaSource::Either(..) => &[Media::Images, Media::Video],
        }
    }

    /// Returns the frames per second of videos that are shipped as folders of frames, if the task
    /// gives the rate.
    pub fn frame_rate(&self) -> Option<f64> {
        match &self.media {
            MediaSource::Video(video) | MediaSource::Either(_, video) => video.frame_rate,
            _ => None,
        }
    }

    /// Returns the names of its slots, including those that an answer fills.
    pub fn slot_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.slots.iter().map(|slot| slot.name.as_str()).collect();
        names.extend(self.answers.options.iter().flat_map(|_| GIVEN_SLOTS));
        names.extend(self.answers.turns.iter().map(|_| "question"));
        names
    }

    /// Returns the shapes of answer that it declares.
    pub fn answer_shapes(&self) -> Vec<AnswerShape> {
        self.answers.shapes()
    }

    /// Returns the wordings of its banks in a language, in the order of the banks and files. `None`
    /// means the language of the task.
    ///
    /// # Errors
    /// If a bank does not exist.
    pub fn wordings<'b>(&self, banks: &'b Banks, language: Option<&str>) -> Result<Vec<Wording<'b>>> {
        let banks: Vec<&Bank> =
            self.prompts.iter().map(|name| banks.get(name)).collect::<std::result::Result<_, _>>()?;
        let language = language.unwrap_or(&self.language);
        Ok(banks.into_iter().flat_map(Bank::wordings).filter(|own| own.template.language == language).collect())
    }

    /// Returns whether a wording suits a record with the given media, slots and answers. It must
    /// use only slots that the record has. It must use all of them, except slots that the task
    /// marks as `may_be_unused` and options that its answer does not need.
    pub(crate) fn suits(
        &self,
        template: &Template,
        media: Media,
        has_slot: &dyn Fn(&str) -> bool,
        has_answer: &dyn Fn(AnswerShape) -> bool,
    ) -> bool {
        let uses = |name: &str| template.slots.iter().any(|slot| slot == name);
        let is_shown = |slot: &Mapped| slot.may_be_unused || !has_slot(&slot.name) || uses(&slot.name);
        template.media.contains(&media)
            && template.slots.iter().all(|slot| has_slot(slot))
            && self.slots.iter().all(is_shown)
            && (self.answers.turns.is_none() || uses("question"))
            && template.answer.iter().any(|shape| {
                has_answer(*shape)
                    && match shape {
                        AnswerShape::Letter => self.answers.options.is_none() || uses("options"),
                        AnswerShape::Option => self.answers.options.is_none() || GIVEN_SLOTS.into_iter().any(uses),
                        _ => true,
                    }
            })
    }

    /// Checks that there is a wording for records with all slots, and one for records with the
    /// required slots only. Also checks that some wording asks for every answer that is declared by
    /// its shape. This last check is skipped if a language is given, because other languages have
    /// few wordings.
    ///
    /// # Errors
    /// If a wording is missing. If there is none in the language, the message lists the languages
    /// that exist.
    pub fn check_wordings(&self, banks: &Banks, language: Option<&str>) -> Result<()> {
        let fault = |reason: String| match language {
            Some(language) => Error::Language { task: self.name.clone(), language: language.to_owned(), reason },
            None => Error::TaskFile { file: self.file.clone(), reason },
        };
        let wordings = self.wordings(banks, language).map_err(|reason| fault(format!("prompts: {reason}")))?;
        if let (true, Some(_)) = (wordings.is_empty(), language) {
            let of_banks = self.prompts.iter().filter_map(|name| banks.get(name).ok()).flat_map(Bank::wordings);
            let known: BTreeSet<&str> = of_banks.map(|own| own.template.language.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(fault(format!("its banks {} have wordings in {known}", self.prompts.join(", "))));
        }
        if wordings.is_empty() {
            let (names, language) = (self.prompts.join(", "), &self.language);
            return Err(fault(format!("language: no wording of {names} is in the language `{language}`")));
        }
        let declared = self.answer_shapes();
        let has = |shape: AnswerShape| {
            declared.contains(&shape) || shape == AnswerShape::Word && declared.contains(&AnswerShape::Phrase)
        };
        let all: Vec<&str> = self.slot_names();
        let is_optional = |name: &&str| self.slots.iter().any(|slot| slot.name == **name && slot.optional);
        let needed: Vec<&str> = all.iter().filter(|name| !is_optional(name)).copied().collect();
        let mut media = self.modalities().to_vec();
        let may_lack_media = match &self.media {
            MediaSource::None => false,
            MediaSource::Image(path) | MediaSource::Images(path) => path.optional,
            MediaSource::Video(video) | MediaSource::Either(_, video) => video.path.optional,
        };
        media.extend(may_lack_media.then_some(Media::None));
        for media in media {
            for slots in [&all, &needed] {
                let fits = |own: &Wording| self.suits(own.template, media, &|slot| slots.contains(&slot), &has);
                if !wordings.iter().any(fits) {
                    return Err(fault(format!(
                        "prompts: no wording of {} suits records about {} with the slots [{}] and the answers [{}]",
                        self.prompts.join(", "),
                        if media == Media::None { "nothing but text" } else { media.name() },
                        slots.join(", "),
                        declared.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", ")
                    )));
                }
            }
        }
        for (shape, _) in self.answers.texts.iter().filter(|_| language.is_none()) {
            let asks = |own: &Wording| {
                let shapes = &own.template.answer;
                shapes.contains(shape) || *shape == AnswerShape::Phrase && shapes.contains(&AnswerShape::Word)
            };
            if !wordings.iter().any(asks) {
                let (banks, shape) = (self.prompts.join(", "), shape.name());
                return Err(fault(format!("answers.{shape}: no wording of {banks} asks for it")));
            }
        }
        Ok(())
    }

    /// Returns the native files of a split below the root folder, in the order of the tables. These
    /// are the inputs that a fingerprint of a build covers. A folder of classes counts as one file.
    ///
    /// # Errors
    /// If a table has no file below the root folder.
    pub fn native_files(&self, root: &Path, split: &str) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for (name, table) in self.tables() {
            paths.extend(self.table_files(root, name, table, split)?.into_iter().map(|file| file.path));
        }
        let mut seen = std::collections::BTreeSet::new();
        paths.retain(|path: &PathBuf| seen.insert(path.clone()));
        Ok(paths)
    }

    /// Returns the pattern of the file of its first table if it contains the split: then every name
    /// for which there are files is a split, in addition to those that its authors publish.
    pub fn file_of_split(&self) -> Option<&str> {
        Some(self.primary.1.file.as_str()).filter(|file| file.contains("{split}"))
    }

    /// Returns an error for every table that has no file below the root folder, or the one of a
    /// wrong split.
    pub(crate) fn missing_files(&self, root: &Path, split: &str) -> Vec<Error> {
        if let Err(fault) = self.check_split(split) {
            return vec![fault];
        }
        self.tables().filter_map(|(name, table)| self.table_files(root, name, table, split).err()).collect()
    }

    /// Returns the path patterns of its tables, as written in the task file.
    pub(crate) fn table_patterns(&self) -> impl Iterator<Item = &str> {
        self.tables().map(|(_, table)| table.file.as_str())
    }

    fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        let joined = self.joins.iter().map(|join| (join.name.as_str(), &join.table));
        let lookups = self.lookups.iter().map(|(name, table)| (name.as_str(), table));
        std::iter::once((self.primary.0.as_str(), &self.primary.1)).chain(joined).chain(lookups)
    }

    /// Checks the name of a split. If the split is a part of the names of files, any name may be
    /// one.
    ///
    /// # Errors
    /// If the name leads to another folder or is a pattern, or if there is no such split.
    fn check_split(&self, split: &str) -> Result<()> {
        let (task, split) = (self.name.clone(), split.to_owned());
        let is_name = !split.is_empty() && split != ".." && !split.contains(['/', '\\', '*', '{', '}']);
        if !is_name {
            return Err(Error::SplitName { task, split });
        }
        if self.splits.contains_key(&split) || self.table_patterns().any(|file| file.contains("{split}")) {
            return Ok(());
        }
        Err(Error::UnknownSplit { task, split, splits: self.splits.keys().cloned().collect() })
    }

    /// Returns the files of one table, at least one.
    pub(crate) fn table_files(&self, root: &Path, name: &str, table: &Table, split: &str) -> Result<Vec<NativeFile>> {
        self.check_split(split)?;
        let found = files(root, table, split)?;
        if found.files.is_empty() {
            let unread = found.unread.iter().fold(String::new(), |told, fault| format!("{told}; {fault}"));
            return Err(Error::MissingFile {
                task: self.name.clone(),
                table: name.to_owned(),
                path: root.join(table.file.replace("{split}", split)),
                splits: self.splits.keys().cloned().collect(),
                unread,
            });
        }
        Ok(found.files)
    }
}

/// Adds the field that is the join key of a table.
fn with_key(mut fields: UsedFields, key: &str) -> UsedFields {
    if let UsedFields::Named(names) = &mut fields
        && let Err(place) = names.binary_search_by(|name| name.as_str().cmp(key))
    {
        names.insert(place, key.to_owned());
    }
    fields
}

/// Checks that expressions use every name in braces of the file patterns. Otherwise it is misspelt,
/// or the rows of several files, such as those of two splits, are mixed unnoticed.
fn check_parts(
    compiler: &Compiler,
    primary: &(String, Table),
    joins: &[Join],
    lookups: &[(String, Table)],
) -> Result<()> {
    let (names, paths) = (compiler.names.borrow(), compiler.paths.borrow());
    let check = |name: &String, table: &Table, is_kept: &dyn Fn(&str) -> bool| {
        for part in part_names(&table.file).map_err(|reason| compiler.fault(reason))? {
            let field = format!("_{part}");
            // An expression may also use the whole row.
            if names.contains(&field) || paths.contains(name) || is_kept(&field) {
                continue;
            }
            let hint = match nearest(&part, ["split"]) {
                Some(_) => "did you mean {split}?",
                None => "use `*` for a part without a field",
            };
            let reason = format!("tables.{name}.file: no expression uses `{field}`, the field of {{{part}}}; {hint}");
            return Err(compiler.fault(reason));
        }
        Ok(())
    };
    for (name, table) in std::iter::once(primary).chain(lookups) {
        check(name, table, &|_| false)?;
    }
    for Join { name, table, key, keep, .. } in joins {
        let is_kept = |field: &str| key == field || keep.iter().any(|(_, own)| own.names().any(|name| name == field));
        check(name, table, &is_kept)?;
    }
    Ok(())
}

/// Returns the names in expressions that lead from rows to images. Only the bytes of columns with
/// these names are read.
fn names_of_pictures(media: &MediaSource, explode: Option<&(String, Expression)>, joins: &[Join]) -> BTreeSet<String> {
    let (MediaSource::Image(own) | MediaSource::Images(own) | MediaSource::Either(own, _)) = media else {
        return BTreeSet::new();
    };
    let kept = joins.iter().flat_map(|join| &join.keep).map(|(_, expression)| expression);
    let expressions = kept.chain(explode.map(|(_, over)| over)).chain([&own.value]);
    expressions.flat_map(Expression::names).collect()
}

/// Checks the keys that can be checked without the rest of the file.
fn check_head(contents: &TaskFile) -> std::result::Result<(), String> {
    if contents.splits.is_empty() {
        return Err("splits: name at least one split and its number of records".to_owned());
    }
    if contents.prompts.is_empty() {
        return Err("prompts: name at least one bank".to_owned());
    }
    if contents.paper_row.is_some_and(|row| !(1..=50).contains(&row)) {
        return Err("paper_row: table 9 of arXiv 2307.02469 has the rows 1 to 50".to_owned());
    }
    if !is_identifier(&contents.group) {
        return Err("group: must be made of a-z, 0-9 and _".to_owned());
    }
    let is_address = |from: &String| from.starts_with("https://") || from.starts_with("http://");
    if let Some((fact, from)) = contents.facts_from.iter().find(|(_, from)| !is_address(from)) {
        return Err(format!("facts_from.{}: {from:?} is not an http:// or https:// address", fact.name()));
    }
    if !(0.0..=1.0).contains(&contents.may_drop) {
        return Err("may_drop: must be a share from 0 to 1".to_owned());
    }
    Ok(())
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = r#"
name = "own"
group = "vqa"
licence = "CC0-1.0"
commercial_use = "yes"
homepage = "here"
cite = "none"
verified = "fixture"
splits = { val = 1 }
prompts = ["vqa"]
id = "q.id"
[pictures]
licence = "CC0-1.0"
commercial_use = "yes"
[tables.q]
file = "{split}.json"
[media]
image = "q.image"
[slots]
question = "q.question"
[answers]
phrase = "q.answer"
"#;

    fn compile(toml: &str) -> Result<Task> {
        let task = Task::compile("own.toml", toml::from_str(toml).unwrap())?;
        task.check_wordings(&Banks::shipped().unwrap(), None)?;
        Ok(task)
    }

    #[test]
    fn faults_name_the_file_and_the_key() {
        compile(TASK).unwrap();
        compile(&TASK.replace("{split}", "{set}").replace("\"q.id\"", "\"q._set\"")).unwrap();
        let faults = [
            (("phrase = \"q.answer\"", ""), "answers: there are none"),
            (("phrase =", "frase ="), "answers.frase: is not one of word, phrase"),
            (("q.answer", "a.answer"), "answers.phrase: expression `a.answer` uses a,"),
            (("q.answer", "q.answer |"), "answers.phrase: expression"),
            (("q.answer", "q.answer | lowercase"), "there is no filter `lowercase`"),
            (("tables.q", "tables.split"), "tables.split"),
            (("{split}", "{splt}"), "no expression uses `_splt`, the field of {splt}; did you mean {split}?"),
            (("{split}", "{set}_{split}"), "no expression uses `_set`, the field of {set}; use `*` for a part"),
            (("[media]", "at_ = \"x\"\n[media]"), "tables.q: unknown field `at_`"),
            (("[media]", "format = \"jason\"\n[media]"), "tables.q.format: there is no format `jason`"),
            (("[media]", "[explode]\nname = \"q\"\nover = \"q.list\"\n[media]"), "explode.name: `q` is already used"),
            (
                ("[media]", "[explode]\nname = \"b\"\nover = \"q.list | map('box', 'xywh') | list\"\n[media]"),
                "explode.over: the filter `box` works only in [slots] and [answers]",
            ),
            (
                ("[media]", "[where]\nlarge = \"q.box | box('xywh')\"\n[media]"),
                "where.large: the filter `box` works only in [slots] and [answers]",
            ),
            (("image = \"", "image = \"q.box | box('xywh') ~ "), "media.image: the filter `box` works only"),
            (("[media]", "[where]\nanswered = true\n[media]"), "where.answered: must be an expression"),
            (("{ val = 1 }", "{}"), "splits: name at least one"),
            (("[\"vqa\"]", "[]"), "prompts: name at least one"),
            (("[\"vqa\"]", "[\"vqaa\"]"), "there is no bank `vqaa`"),
            (("[\"vqa\"]", "[\"caption\"]"), "no wording of caption suits records about image"),
            (("phrase =", "sentence ="), "no wording of vqa suits"),
            (("phrase =", "sentence = \"q.long\"\nphrase ="), "answers.sentence: no wording of vqa asks for it"),
            (("image =", "images ="), "suits records about images with the slots [question]"),
            (("image = ", "video = \"q.x\"\nimage = "), "media: give only one of"),
            (("image = ", "video = \"q.x\"\nimages = "), "media: a record has images or a video; set `optional"),
            (("question =", "hint = \"q.hint\"\nquestion ="), "with the slots [hint, question]"),
            (("question =", "hint = { value = \"q.hint\", optional = true }\nquestion ="), "[hint, question]"),
            (("[pictures]\nlicence = \"CC0-1.0\"\ncommercial_use = \"yes\"\n", ""), "pictures: give `licence`"),
            (("group = \"vqa\"", "group = \"vqa\"\npaper_row = 51"), "paper_row"),
            (
                ("group = \"vqa\"", "group = \"vqa\"\nfacts_from = { licence = \"me\" }"),
                "facts_from.licence: \"me\" is not an http:// or https:// address",
            ),
            (
                ("group = \"vqa\"", "group = \"vqa\"\nfacts_from = { weather = \"https://x\" }"),
                "unknown variant `weather`",
            ),
            (("commercial_use = \"yes\"\nhome", "commercial_use = \"maybe\"\nhome"), "unknown variant `maybe`"),
        ];
        for ((from, to), expected) in faults {
            assert!(TASK.contains(from), "{from}");
            let message = compile(&TASK.replacen(from, to, 1)).map(|_| from).unwrap_err().to_string();
            assert!(message.starts_with("task file own.toml: ") && message.contains(expected), "{expected}: {message}");
        }
        let slots: Vec<String> = (0..=MOST_SLOTS).map(|slot| format!("s{slot} = \"q.s\"\n")).collect();
        let message =
            compile(&TASK.replace("[slots]\n", &format!("[slots]\n{}", slots.concat()))).unwrap_err().to_string();
        assert!(message.contains("slots: there are 130, but a task may have at most 128"), "{message}");
    }

    #[test]
    fn a_slot_may_be_left_out_where_the_task_allows_it() {
        let slot = "hint = { value = \"q.hint\", may_be_unused = true }\nquestion =";
        compile(&TASK.replace("question =", slot)).unwrap();
    }
}
