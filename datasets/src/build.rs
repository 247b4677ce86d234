//! Turns records and prompt banks into conversations.

mod dialogs;
mod negatives;
mod texts;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lynxdata_prompts::{AnswerShape, Banks, Media, PromptMode, Slot, Wording, choose, keyed_hash, tokens};
use serde::{Deserialize, Serialize};

use crate::boxes::NativeBox;
use crate::counts::{NOT_DRAWN, TaskCounts};
use crate::picture::Embedded;
use crate::record::{Answers, Options, Record, VideoReference, said_twice};
use crate::records::{Outcome, Reading, place};
use crate::task::{Take, Task};
use crate::{Error, Result};

pub use dialogs::Dialogs;
pub use negatives::Negatives;
pub use texts::Lines;
pub(crate) use texts::Texts;

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The system message before the conversation.
    System,
    /// The one who asks.
    User,
    /// The model, which is trained to answer.
    Assistant,
}

impl Role {
    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The speaker.
    pub role: Role,
    /// The text. Images belong before the first message; no token marks their position.
    pub content: String,
}

/// An image of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReference {
    /// The path from the image folder, with `/` as separator.
    pub path: String,
}

/// One instruction sample with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// `task/split/native id`.
    pub id: String,
    /// Name of the task.
    pub task: String,
    /// The group under which mixtures select the task.
    pub group: String,
    /// The shape of the answer that the wording asks for.
    pub answer_shape: AnswerShape,
    /// Licence of the annotations.
    pub licence: String,
    /// The images, in order.
    pub images: Vec<ImageReference>,
    /// The images that are embedded in the native row.
    #[serde(skip)]
    pub embedded: Embedded,
    /// The video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoReference>,
    /// The turns: an optional system message, then user and assistant in alternation.
    pub messages: Vec<Message>,
    /// `bank/template`, the wording of the first message.
    pub template: String,
    /// The native file, as a path from the root folder.
    pub source_file: String,
    /// The index in that file, from 0: of the line in line formats, otherwise of the row.
    pub source_row: u64,
    /// The native index, from 0, of every option in the order shown; empty without options. Options
    /// that are missing in the native row are not shown.
    pub choice_order: Vec<u32>,
    /// The number of times that each answer was given, the most frequent first, if several
    /// annotators answered and the answer is a word or phrase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<(String, usize)>,
    /// The index of the right option in the order shown, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_choice: Option<u32>,
    /// The boxes in its questions and answers as the source has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<NativeBox>,
    /// The source of each question, if several records were packed into this conversation. The
    /// fields above describe the first record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<PackedRecord>,
}

impl Conversation {
    /// Returns the index of the right option, from 0, and the number of options of the first
    /// question.
    pub fn right_option(&self) -> Option<(u32, u32)> {
        self.right_choice.map(|right| (right, self.choice_order.len() as u32))
    }
}

/// The source of one question of several in a conversation. The fields are those of
/// [`Conversation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedRecord {
    /// `task/split/native id`.
    pub id: String,
    /// `bank/template`.
    pub template: String,
    /// The shape of the answer.
    pub answer_shape: AnswerShape,
    /// The native file.
    pub source_file: String,
    /// Place in that file, from 0.
    pub source_row: u64,
    /// The native index of every option in the order shown.
    pub choice_order: Vec<u32>,
    /// The index of the right option in that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_choice: Option<u32>,
}

impl PackedRecord {
    pub(crate) fn of(conversation: &Conversation) -> Self {
        Self {
            id: conversation.id.clone(),
            template: conversation.template.clone(),
            answer_shape: conversation.answer_shape,
            source_file: conversation.source_file.clone(),
            source_row: conversation.source_row,
            choice_order: conversation.choice_order.clone(),
            right_choice: conversation.right_choice,
        }
    }

    /// Does the same as [`Conversation::right_option`].
    pub fn right_option(&self) -> Option<(u32, u32)> {
        self.right_choice.map(|right| (right, self.choice_order.len() as u32))
    }
}

/// Settings for turning records into conversations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildSettings {
    /// The seed. It, the task and the record determine all choices.
    pub seed: u64,
    /// The wordings of a bank among which the wording of a record is chosen.
    pub prompts: PromptMode,
    /// The language of the wordings; by default that of the task.
    pub language: Option<String>,
    /// Whether all texts are converted to lower case.
    pub lower_case: bool,
    /// The shares of questions that are asked without a right option.
    pub negatives: Negatives,
    /// The share of records, 0 to 1, that may be lost, instead of that of the task. It changes no
    /// conversation.
    #[serde(skip)]
    pub may_drop: Option<f64>,
}

/// Iterates over the conversations of one split of a task, in the order of the native files. They
/// are made on all cores, a few thousand at a time.
#[derive(Debug)]
pub struct Build<'a> {
    reading: Reading<'a>,
    choice: Choice<'a>,
    /// The options of the previous record in this part, which may be shown for the next one.
    options_before: Option<Options>,
    /// Records that are worded but not counted yet, the next one last.
    queue: Vec<(Outcome<'a>, Option<Worded>)>,
    /// The samples of the record that was counted last.
    ready: VecDeque<Sample>,
    /// The folder of the native files, for a second pass over them.
    root: PathBuf,
    /// The image folder, likewise.
    images: PathBuf,
    split: String,
    /// The number of drawn records that are not returned yet, if a number was drawn.
    left: Option<u64>,
}

/// The samples of one record: one conversation, or one for each of its captions.
#[derive(Debug)]
struct Worded {
    first: Sample,
    more: Vec<Sample>,
    /// Captions that were left out: reason and full message.
    left_out: Vec<(String, String)>,
}

/// A conversation, or a placeholder for one.
#[derive(Debug)]
enum Sample {
    /// A conversation, and how its options were changed, if they were.
    Made(Box<Conversation>, Option<&'static str>),
    /// A record that is not worded yet.
    Record(Box<Record>),
    /// The reason as counted, and the full message.
    Dropped(&'static str, String),
    Failed(Error),
}

fn reading<'a>(task: &'a Task, root: &Path, split: &str, settings: &BuildSettings) -> Result<Reading<'a>> {
    let mut reading = Reading::start(task, root, split)?;
    if let Some(share) = settings.may_drop {
        reading.allow_loss(share);
    }
    Ok(reading)
}

impl<'a> Build<'a> {
    /// Reads joined tables and starts to stream the first one. `root` is the folder of native files
    /// as their authors ship them.
    ///
    /// # Errors
    /// If a prompt bank of the task is missing, or no wording suits the task or is in the requested
    /// language. Also the errors of [`Records::start`](crate::Records::start).
    pub fn start(task: &'a Task, banks: &'a Banks, root: &Path, split: &str, settings: &BuildSettings) -> Result<Self> {
        task.check_wordings(banks, settings.language.as_deref())?;
        let wordings = task.wordings(banks, settings.language.as_deref())?;
        let fitting = std::array::from_fn(|_| OnceLock::new());
        let choice = Choice { task, wordings, settings: settings.clone(), last_drawn: None, fitting };
        Ok(Self {
            reading: reading(task, root, split, settings)?,
            choice,
            options_before: None,
            queue: Vec::new(),
            ready: VecDeque::new(),
            root: root.to_owned(),
            images: root.to_owned(),
            split: split.to_owned(),
            left: None,
        })
    }

    /// Does the same as [`Records::with_images`](crate::Records::with_images). Call it before
    /// [`Build::draw`].
    #[must_use]
    pub fn with_images(mut self, folder: &Path) -> Self {
        self.reading.set_images(folder);
        folder.clone_into(&mut self.images);
        self
    }

    /// Draws at most `most` records: those with the smallest hashes of seed, task and id, so that a
    /// larger draw contains every smaller one. The others are counted as `not_drawn`.
    ///
    /// # Errors
    /// The errors of [`Build::start`] and of the iterator: all records are read an extra time to
    /// hash their ids.
    pub fn draw(mut self, most: u64) -> Result<Self> {
        let mut pass = reading(self.choice.task, &self.root, &self.split, &self.choice.settings)?;
        pass.set_images(&self.images);
        let (mut hashes, mut more) = (Vec::new(), Vec::new());
        loop {
            let hashes_of = |record| -> Vec<u64> {
                let (first, more, _) = self.choice.spread(record);
                std::iter::once(&first).chain(&more).map(|record| self.choice.draw_hash(record)).collect()
            };
            pass.map_more(hashes_of, &mut more)?;
            if more.is_empty() {
                break;
            }
            while let Some((outcome, own)) = more.pop() {
                if pass.settle(outcome) {
                    hashes.extend(own.unwrap_or_default());
                }
            }
        }
        if let Some(error) = pass.end() {
            return Err(error);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(hashes.len());
        let last = most.checked_sub(1).map_or(0, |place| *hashes.select_nth_unstable(place).1);
        self.choice.last_drawn = Some(last);
        self.left = Some(most as u64);
        Ok(self)
    }

    /// Returns the counts of this part, up to the conversation that was returned last.
    pub fn counts(&self) -> &TaskCounts {
        &self.reading.counts
    }

    /// Does the same as [`Records::pause_after`](crate::Records::pause_after).
    pub fn pause_after(&mut self, rows: u64) {
        self.reading.pause_after(rows);
    }

    /// Does the same as [`Records::next_part`](crate::Records::next_part).
    pub fn next_part(&mut self) -> TaskCounts {
        // A part must not depend on whether the parts before it were worded or skipped.
        self.options_before = None;
        self.reading.next_part(!self.queue.is_empty())
    }

    /// Returns the counts of all parts up to the last [`Build::next_part`].
    pub fn total(&self) -> &TaskCounts {
        self.reading.total()
    }

    /// Skips a part without wording its records.
    ///
    /// # Errors
    /// The errors of the iterator.
    pub fn skip_part(&mut self) -> Result<()> {
        while let Some(sample) = self.sample(false) {
            self.drawn(sample?);
        }
        self.next_part();
        Ok(())
    }

    /// Returns the next sample of this part. If `is_made`, records that are read ahead are also
    /// worded.
    fn sample(&mut self, is_made: bool) -> Option<Result<Sample>> {
        loop {
            if let Some(sample) = self.ready.pop_front() {
                return Some(Ok(sample));
            }
            if let Some((outcome, _)) = self.queue.last() {
                if self.reading.pauses_before(outcome) {
                    return None;
                }
                if let Some((outcome, worded)) = self.queue.pop() {
                    self.take(outcome, worded);
                }
                continue;
            }
            if let Err(fault) = self.reading.map_more(|record| self.choice.word(record, is_made), &mut self.queue) {
                return Some(Err(fault));
            }
            if self.queue.is_empty() {
                return self.reading.end().map(Err);
            }
        }
    }

    /// Words a record that was not worded when it was read: it was read ahead while a part was
    /// skipped, or it may take the options of the previous record.
    fn word(&mut self, record: Record) -> Sample {
        let options = record.answers.options.clone();
        let sample = self.choice.converse(record, self.options_before.as_ref());
        if !matches!(sample, Sample::Dropped(NO_WORDING, _)) {
            self.options_before = options;
        }
        sample
    }

    /// Counts the next record and queues its samples.
    fn take(&mut self, outcome: Outcome<'a>, worded: Option<Worded>) {
        let is_new = self.reading.settle(outcome);
        let Some(worded) = worded.filter(|_| is_new) else { return };
        let counts = &mut self.reading.counts;
        for (reason, example) in worded.left_out {
            counts.count_left_out(&reason, || example);
        }
        counts.records_seen += worded.more.len() as u64;
        counts.kept += worded.more.len() as u64;
        self.ready.push_back(worded.first);
        self.ready.extend(worded.more);
    }

    /// Returns the sample if it was drawn. Otherwise counts it as not drawn; that includes surplus
    /// samples that share the last hash.
    fn drawn(&mut self, sample: Sample) -> Option<Sample> {
        let sample = match (sample, &mut self.left) {
            (Sample::Dropped(NOT_DRAWN, place), _) => Sample::Dropped(NOT_DRAWN, place),
            (sample, Some(left @ 1..)) => {
                *left -= 1;
                return Some(sample);
            }
            (sample, None) => return Some(sample),
            (sample, Some(0)) => Sample::Dropped(NOT_DRAWN, not_drawn(&self.choice.place_of(&sample))),
        };
        if let Sample::Dropped(reason, example) = sample {
            self.reading.counts.drop_kept(reason, || example);
        }
        None
    }
}

impl Iterator for Build<'_> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let sample = match self.sample(true)? {
                Ok(sample) => sample,
                Err(fault) => return Some(Err(fault)),
            };
            let sample = match self.drawn(sample) {
                Some(Sample::Record(record)) => self.word(*record),
                Some(sample) => sample,
                None => continue,
            };
            match sample {
                Sample::Made(conversation, of_options) => {
                    let counts = &mut self.reading.counts;
                    if let Some(kind) = of_options {
                        *counts.negatives.entry(kind.to_owned()).or_default() += 1;
                    }
                    // Its first byte begins few other characters.
                    let is_replaced = |message: &Message| {
                        memchr::memchr(0xEF, message.content.as_bytes()).is_some()
                            && message.content.contains('\u{FFFD}')
                    };
                    counts.with_replaced_characters += u64::from(conversation.messages.iter().any(is_replaced));
                    return Some(Ok(*conversation));
                }
                Sample::Dropped(reason, example) => self.reading.counts.drop_kept(reason, || example),
                Sample::Failed(error) => return Some(Err(error)),
                Sample::Record(_) => {}
            }
        }
    }
}

/// The reason for records that no wording suits.
const NO_WORDING: &str = "no_wording";

/// The reason for records whose options are the same in lower case, as for options that are the
/// same in the native row.
const SAME_OPTIONS: &str = "field:options";

fn not_drawn(place: &str) -> String {
    format!("{place}: was not drawn")
}

/// Chooses wordings for the records of a task.
#[derive(Debug)]
struct Choice<'a> {
    task: &'a Task,
    wordings: Vec<Wording<'a>>,
    settings: BuildSettings,
    /// The maximum hash of a drawn record, if a number was drawn.
    last_drawn: Option<u64>,
    /// The wordings that suit records of the first kinds that were seen.
    fitting: [OnceLock<Fitting<'a>>; KINDS],
}

/// The wordings that suit records of a kind.
type Fitting<'a> = (Kind, Box<[Wording<'a>]>);

/// The number of kinds of records whose wordings are remembered. For other kinds they are found
/// again for every record.
const KINDS: usize = 32;

/// The properties of a record that decide which wordings suit it: its media, the slots that it has
/// (as bits), whether it has options and turns, and the shapes of its answers (as bits).
type Kind = (Media, u128, bool, bool, u64);

impl<'a> Choice<'a> {
    /// Makes the samples of one record. If `is_made` is false, only decides which of them are
    /// drawn.
    fn word(&self, record: Record, is_made: bool) -> Worded {
        let (first, more, left_out) = self.spread(record);
        // With negatives, a record may need the options of the previous record, so it is worded
        // later.
        let is_made = is_made && self.settings.negatives == Negatives::default();
        let sample = |record: Record| {
            if self.last_drawn.is_some_and(|last| self.draw_hash(&record) > last) {
                let place = place(&self.task.name, &record.source_file, record.source_row);
                return Sample::Dropped(NOT_DRAWN, not_drawn(&place));
            }
            if is_made { self.converse(record, None) } else { Sample::Record(Box::new(record)) }
        };
        Worded { first: sample(first), more: more.into_iter().map(sample).collect(), left_out }
    }

    fn draw_hash(&self, record: &Record) -> u64 {
        keyed_hash(self.settings.seed, &["draw", &self.task.name, &record.id])
    }

    /// Makes one record per caption if the task takes all captions, and returns the first one and
    /// the others. Also returns the captions that are left out because they contain a special
    /// token; they are kept if there are no others.
    fn spread(&self, mut record: Record) -> (Record, Vec<Record>, Vec<(String, String)>) {
        let mut left_out = Vec::new();
        let captions = &mut record.answers.captions;
        if captions.iter().any(|caption| tokens::find(caption).is_none()) {
            captions.retain(|caption| {
                let Some((token, reason)) = tokens::find(caption) else { return true };
                let place = place(&self.task.name, &record.source_file, record.source_row);
                let example = format!("{place}: an element of captions contains {token}");
                left_out.push((format!("{reason}:captions"), example));
                false
            });
        }
        let takes_all = self.task.answers.captions.as_ref().is_some_and(|(.., take)| *take == Take::All);
        if !takes_all || captions.len() < 2 {
            return (record, Vec::new(), left_out);
        }
        let mut captions = std::mem::take(captions).into_iter();
        let of_caption = |place: usize, caption: String| Record {
            id: format!("{}#{place}", record.id),
            answers: Answers { captions: vec![caption], ..record.answers.clone() },
            ..record.clone()
        };
        let first = of_caption(0, captions.next().expect("there are two or more"));
        (first, (1..).zip(captions).map(|(place, caption)| of_caption(place, caption)).collect(), left_out)
    }

    fn place_of(&self, sample: &Sample) -> String {
        match sample {
            Sample::Made(own, _) => place(&self.task.name, &own.source_file, own.source_row),
            Sample::Record(own) => place(&self.task.name, &own.source_file, own.source_row),
            Sample::Dropped(_, example) => example.clone(),
            Sample::Failed(error) => error.to_string(),
        }
    }

    fn converse(&self, mut record: Record, options_before: Option<&Options>) -> Sample {
        let place = |file: &str, row| place(&self.task.name, file, row);
        let shapes = record.answers.shapes(self.task);
        let Some((wording, shape)) = self.of(&record, &shapes) else {
            let slots: Vec<&str> = record.slots.keys().map(String::as_str).collect();
            let reason = format!(
                "{}: no wording of {} suits {} with the slots [{}] and the answers [{}]",
                place(&record.source_file, record.source_row),
                self.task.prompts.join(", "),
                record.media.kind().name(),
                slots.join(", "),
                shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", ")
            );
            return Sample::Dropped(NO_WORDING, reason);
        };
        let BuildSettings { seed, negatives, lower_case, .. } = &self.settings;
        let own =
            record.answers.options.as_ref().filter(|_| matches!(shape, AnswerShape::Letter | AnswerShape::Option));
        let key = (*seed, self.task.name.as_str(), record.id.as_str());
        let changed = own.and_then(|own| negatives.change(own, options_before, &self.task.language, key));
        let as_shown = changed.as_ref().map(|changed| &changed.options).or(own);
        if let Some(options) = as_shown.filter(|_| *lower_case)
            && let Some(again) = options.right_again(true)
        {
            let place = place(&record.source_file, record.source_row);
            return Sample::Dropped(SAME_OPTIONS, format!("{place}: the options {}", said_twice(options, again)));
        }
        if let Some(changed) = &changed {
            record.answers.options = Some(changed.options.clone());
        }
        let mut conversation = match converse(self.task, wording, shape, *seed, record) {
            Ok(conversation) => conversation,
            Err(error) => return Sample::Failed(error),
        };
        if *lower_case {
            let lower = |message: &mut Message| message.content = message.content.to_lowercase();
            conversation.messages.iter_mut().for_each(lower);
        }
        let mut texts = conversation.messages.iter().map(|message| message.content.as_str());
        if let Some((token, reason)) = texts.find_map(tokens::find) {
            let place = place(&conversation.source_file, conversation.source_row);
            return Sample::Dropped(reason, format!("{place}: its text contains {token}"));
        }
        if let Some(changed) = changed.as_ref().filter(|changed| changed.is_negative) {
            conversation.id = format!("{}#{}", conversation.id, changed.kind);
        }
        Sample::Made(Box::new(conversation), changed.map(|changed| changed.kind))
    }

    /// Returns the wording for a record and the shape of its answer. If the wording asks for
    /// several shapes that the record has, the seed chooses one.
    fn of(&self, record: &Record, shapes: &[AnswerShape]) -> Option<(Wording<'a>, AnswerShape)> {
        let fitting = self.fitting(record, shapes);
        let wording =
            choose(fitting.iter().copied(), self.settings.prompts, self.settings.seed, &self.task.name, &record.id)?;
        let asked = || wording.template.answer.iter().copied().filter(|own| shapes.contains(own));
        let place = match asked().count() {
            1 => 0,
            several => keyed_hash(self.settings.seed, &["shape", &self.task.name, &record.id]) as usize % several,
        };
        Some((wording, asked().nth(place)?))
    }

    /// Returns the wordings that suit a record.
    fn fitting(&self, record: &Record, shapes: &[AnswerShape]) -> Cow<'_, [Wording<'a>]> {
        let answers = &record.answers;
        let own = self.task.slots.iter().enumerate().filter(|(_, slot)| record.slots.contains_key(&slot.name));
        let slots = own.fold(0_u128, |bits, (place, _)| bits | 1 << place);
        let of_shapes = shapes.iter().fold(0_u64, |bits, shape| bits | 1 << *shape as u64);
        let (has_options, has_turns) = (answers.options.is_some(), !answers.turns.is_empty());
        let kind = (record.media.kind(), slots, has_options, has_turns, of_shapes);
        let has_slot = |name: &str| {
            record.slots.contains_key(name)
                || has_options && matches!(name, "options" | "choices")
                || has_turns && name == "question"
        };
        let has_answer = |shape| shapes.contains(&shape);
        let suits = |own: &&Wording| self.task.suits(own.template, kind.0, &has_slot, &has_answer);
        let find = || self.wordings.iter().filter(suits).copied().collect();
        // The first free place becomes that of this kind, unless another thread takes it first.
        let mut places = self.fitting.iter().map(|place| place.get_or_init(|| (kind, find())));
        match places.find(|(known, _)| *known == kind) {
            Some((_, fitting)) => Cow::Borrowed(fitting),
            None => Cow::Owned(find().into_vec()),
        }
    }
}

/// The options of a record as they are shown, in an order that the seed determines.
#[derive(Default)]
struct Shown {
    order: Vec<usize>,
    lettered: Vec<String>,
    plain: Vec<String>,
    right: String,
}

fn shown(options: &Options, seed: u64, task: &str, record_id: &str) -> Shown {
    let mut order = shuffled(seed, "choices", task, record_id, options.texts.len());
    order.retain(|&place| !options.texts[place].is_empty());
    let lettered = order.iter().zip('A'..='Z').map(|(&place, letter)| format!("({letter}) {}", options.texts[place]));
    let right = order.iter().zip('A'..='Z').find(|(place, _)| **place == options.right).map(|(_, letter)| letter);
    Shown {
        lettered: lettered.collect(),
        plain: order.iter().map(|&place| options.texts[place].clone()).collect(),
        right: right.expect("records have at most 26 options and the right one among them").to_string(),
        order,
    }
}

/// Renders one record with a wording that suits it.
fn converse(
    task: &Task,
    Wording { bank, template }: Wording,
    shape: AnswerShape,
    seed: u64,
    mut record: Record,
) -> Result<Conversation> {
    let answers = &mut record.answers;
    let shown = answers.options.as_ref().map(|own| shown(own, seed, &task.name, &record.id)).unwrap_or_default();
    let mut slots: Vec<(&str, Slot)> = record.slots.iter().map(|(name, value)| (name.as_str(), value.slot())).collect();
    if !shown.order.is_empty() {
        slots.extend([("options", Slot::List(&shown.lettered)), ("choices", Slot::List(&shown.plain))]);
    }
    if let Some((first, _)) = answers.turns.first() {
        slots.push(("question", Slot::Text(first)));
    }
    let instruction = bank.render(template, &slots)?;
    let message = |role, content: String| Message { role, content };
    let system = record.system.take().or_else(|| template.system.clone());
    let mut messages = Vec::with_capacity(3);
    messages.extend(system.map(|system| message(Role::System, system)));
    messages.push(message(Role::User, instruction));
    if shape == AnswerShape::Turns {
        for (place, (user, assistant)) in std::mem::take(&mut answers.turns).into_iter().enumerate() {
            if place > 0 {
                messages.push(message(Role::User, user));
            }
            messages.push(message(Role::Assistant, assistant));
        }
    } else {
        messages.push(message(Role::Assistant, reply(task, answers, shape, seed, &record.id, &shown)));
    }
    let is_shown = |slot: &String| slot == "options" || slot == "choices";
    let choice_order = if template.slots.iter().any(is_shown) { shown.order } else { Vec::new() };
    let right = answers.options.as_ref().map(|options| options.right);
    let right_choice = right.and_then(|right| choice_order.iter().position(|place| *place == right));
    let boxes = boxes_in(&messages, &record.boxes);
    Ok(Conversation {
        id: record.id,
        task: task.name.clone(),
        group: task.group.clone(),
        answer_shape: shape,
        licence: task.licence.clone(),
        images: record.media.images.into_iter().map(|path| ImageReference { path }).collect(),
        embedded: record.media.embedded,
        video: record.media.video,
        messages,
        template: [&bank.name, "/", &template.id].concat(),
        source_file: record.source_file,
        source_row: record.source_row,
        choice_order: choice_order.iter().map(|&place| place as u32).collect(),
        votes: if matches!(shape, AnswerShape::Word | AnswerShape::Phrase) {
            std::mem::take(&mut answers.votes)
        } else {
            Vec::new()
        },
        right_choice: right_choice.map(|place| place as u32),
        boxes,
        packed: Vec::new(),
    })
}

/// Returns the boxes that are in the texts, as often as they are there.
fn boxes_in(messages: &[Message], boxes: &[NativeBox]) -> Vec<NativeBox> {
    if boxes.is_empty() {
        return Vec::new();
    }
    let mut shown: HashMap<&str, usize> = HashMap::new();
    for native in boxes {
        let times = || messages.iter().map(|message| message.content.matches(&native.text).count()).sum();
        shown.entry(&native.text).or_insert_with(times);
    }
    let mut is_shown = |native: &&NativeBox| {
        shown.get_mut(native.text.as_str()).is_some_and(|left| match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                true
            }
            None => false,
        })
    };
    boxes.iter().filter(|native| is_shown(native)).cloned().collect()
}

/// Returns the answer of a record in a shape that the record has.
fn reply(task: &Task, answers: &mut Answers, shape: AnswerShape, seed: u64, record_id: &str, shown: &Shown) -> String {
    let truth = answers.truth;
    let of_truth = |yes: &str, no: &str| (if truth == Some(true) { yes } else { no }).to_owned();
    let mut text = |shape| answers.texts.remove(&shape);
    let own = text(shape).or_else(|| match shape {
        AnswerShape::Word => text(AnswerShape::Phrase),
        AnswerShape::Letter => Some(shown.right.clone()),
        AnswerShape::Option => answers.options.as_ref().map(|options| options.texts[options.right].clone()),
        AnswerShape::YesNo => Some(of_truth("Yes", "No")),
        AnswerShape::TrueFalse => Some(of_truth("True", "False")),
        // One caption per image, as in table 9 of arXiv 2307.02469: its 82.7K rows of COCO Caption
        // are one per image of train2014.
        _ => shuffled(seed, "caption", &task.name, record_id, answers.captions.len())
            .first()
            .map(|&place| answers.captions[place].clone()),
    });
    own.expect("the shape is one that the record has")
}

/// Returns the indexes 0 to `length - 1` in an order that depends only on seed, purpose, task and
/// record. Every order is equally likely, so the right option is equally often at every position.
fn shuffled(seed: u64, purpose: &str, task: &str, record_id: &str, length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..length).collect();
    places.sort_by_key(|place| (keyed_hash(seed, &[purpose, task, record_id, &place.to_string()]), *place));
    places
}

#[cfg(test)]
mod genuine;
#[cfg(test)]
mod other_traps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
