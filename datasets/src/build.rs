//! Records and prompt banks to conversations.

mod dialogs;
mod negatives;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use lynxdata_prompts::{AnswerShape, Banks, PromptMode, Slot, Wording, choose, keyed_hash};
use serde::{Deserialize, Serialize};

use crate::picture::Embedded;
use crate::record::{Answers, Options, Record, VideoReference};
use crate::records::{NOT_DRAWN, Records, TaskCounts, place};
use crate::task::{Take, Task};
use crate::{Result, tokens};

pub use dialogs::Dialogs;
pub use negatives::Negatives;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What stands before the conversation.
    System,
    /// Who asks.
    User,
    /// Who is trained to answer.
    Assistant,
}

impl Role {
    /// The name in tables.
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
    /// Who speaks.
    pub role: Role,
    /// What is said. Pictures belong before the first message; no marker stands for them.
    pub content: String,
}

/// A picture of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReference {
    /// Path from the folder of pictures on, with `/`.
    pub path: String,
}

/// One instruction sample with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// `task/split/native id`.
    pub id: String,
    /// Name of the task.
    pub task: String,
    /// The group by which mixtures take the task.
    pub group: String,
    /// The shape of the answer that the wording asks for.
    pub answer_shape: AnswerShape,
    /// Licence of the annotations.
    pub licence: String,
    /// The pictures, in order.
    pub images: Vec<ImageReference>,
    /// Those of its pictures that stand in the native row.
    #[serde(skip)]
    pub embedded: Embedded,
    /// The video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoReference>,
    /// The turns, user and assistant in alternation, behind the text of the system if the wording
    /// has one.
    pub messages: Vec<Message>,
    /// `bank/template`, the wording of the first message.
    pub template: String,
    /// The native file, from the root folder on.
    pub source_file: String,
    /// Place in that file, from 0: of the line in line formats, else of the row.
    pub source_row: u64,
    /// The native place, from 0, of every option in the order shown; empty without options. One
    /// that is missing in the native row is not shown.
    pub choice_order: Vec<u32>,
    /// How often each answer was given, the most frequent first, where several annotators gave them
    /// and one of theirs is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<(String, usize)>,
    /// The place of the right option in the order shown, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_choice: Option<u32>,
    /// Where each question comes from, if several records were packed into it; the first of them
    /// gives the fields above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<PackedRecord>,
}

impl Conversation {
    /// Returns the place of the right option, from 0, and the number of options, of the first
    /// question.
    pub fn right_option(&self) -> Option<(u32, u32)> {
        self.right_choice.map(|right| (right, self.choice_order.len() as u32))
    }
}

/// Where one question of several in a conversation comes from; the fields are those of
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
    /// The native place of every option in the order shown.
    pub choice_order: Vec<u32>,
    /// The place of the right one in that order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_choice: Option<u32>,
}

impl PackedRecord {
    fn of(conversation: &Conversation) -> Self {
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

    /// As [`Conversation::right_option`].
    pub fn right_option(&self) -> Option<(u32, u32)> {
        self.right_choice.map(|right| (right, self.choice_order.len() as u32))
    }
}

/// How records become conversations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildSettings {
    /// From it, the task and the record follow all choices.
    pub seed: u64,
    /// Which wordings are used.
    pub prompts: PromptMode,
    /// The language of the wordings; that of the task without it.
    pub language: Option<String>,
    /// Whether all texts are in lower case.
    pub lower_case: bool,
    /// How many questions with options have no right one.
    pub negatives: Negatives,
}

/// The conversations of one split of a task, in the order of the native files.
#[derive(Debug)]
pub struct Build<'a> {
    records: Records<'a>,
    task: &'a Task,
    wordings: Vec<Wording<'a>>,
    settings: BuildSettings,
    /// The options of the record before in this part, which may become those of the next one.
    options_before: Option<Options>,
    /// Records that are made of one that was read: one for each of its captions.
    waiting: VecDeque<Record>,
    /// Where the records are read from, for another pass over them.
    root: PathBuf,
    split: String,
    drawn: Option<Drawn>,
}

/// A number of records that were drawn: those with the smallest hashes.
#[derive(Debug)]
struct Drawn {
    /// The largest hash of a drawn record.
    last: u64,
    /// How many are still to come.
    left: u64,
}

impl<'a> Build<'a> {
    /// Reads joined tables and starts on the first; `root` is the folder of native files as their authors ship them.
    ///
    /// # Errors
    /// If a prompt bank of the task is missing, no wording suits it or is in the language that is
    /// asked for, or as [`Records::start`].
    pub fn start(task: &'a Task, banks: &'a Banks, root: &Path, split: &str, settings: &BuildSettings) -> Result<Self> {
        task.check_wordings(banks, settings.language.as_deref())?;
        let wordings = task.wordings(banks, settings.language.as_deref())?;
        Ok(Self {
            records: Records::start(task, root, split)?,
            task,
            wordings,
            settings: settings.clone(),
            options_before: None,
            waiting: VecDeque::new(),
            root: root.to_owned(),
            split: split.to_owned(),
            drawn: None,
        })
    }

    /// Draws at most `most` of the records: those with the smallest hashes of seed, task and id, so
    /// that a larger draw holds a smaller one. The others are counted as `not_drawn`.
    ///
    /// # Errors
    /// As [`Records::start`] and as the iterator: all records are read once more, to hash their ids.
    pub fn draw(mut self, most: u64) -> Result<Self> {
        let (task, seed) = (self.task, self.settings.seed);
        let (root, split) = (self.root.clone(), self.split.clone());
        let records = Records::start(task, &root, &split)?;
        let mut pass = Self {
            records,
            task,
            wordings: Vec::new(),
            settings: self.settings.clone(),
            options_before: None,
            waiting: VecDeque::new(),
            root,
            split,
            drawn: None,
        };
        let mut hashes = Vec::new();
        while let Some(record) = pass.read() {
            hashes.push(draw_hash(seed, task, &record?.id));
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(hashes.len());
        let last = most.checked_sub(1).map_or(0, |place| *hashes.select_nth_unstable(place).1);
        self.drawn = Some(Drawn { last, left: most as u64 });
        Ok(self)
    }

    /// Reads the next record, with one caption if it makes a record of every one.
    fn read(&mut self) -> Option<Result<Record>> {
        if let Some(record) = self.waiting.pop_front() {
            return Some(Ok(record));
        }
        let record = self.records.next()?.map(|mut record| {
            self.leave_out_captions(&mut record);
            self.spread(record)
        });
        Some(record)
    }

    /// Whether a record is among the drawn ones; counts it if it is not.
    fn is_drawn(&mut self, record: &Record) -> bool {
        let Some(drawn) = &mut self.drawn else { return true };
        if drawn.left > 0 && draw_hash(self.settings.seed, self.task, &record.id) <= drawn.last {
            drawn.left -= 1;
            return true;
        }
        self.records.counts.drop_kept(NOT_DRAWN, || {
            format!(
                "{}: not among those that were drawn",
                place(&self.task.name, &record.source_file, record.source_row)
            )
        });
        false
    }

    /// What became of the rows of this part so far.
    pub fn counts(&self) -> &TaskCounts {
        self.records.counts()
    }

    /// As [`Records::pause_after`].
    pub fn pause_after(&mut self, rows: u64) {
        self.records.pause_after(rows);
    }

    /// As [`Records::next_part`].
    pub fn next_part(&mut self) -> TaskCounts {
        // A part is the same whether those before it were worded or passed over.
        self.options_before = None;
        self.records.next_part()
    }

    /// What became of the rows of all parts up to the last [`Build::next_part`].
    pub fn total(&self) -> &TaskCounts {
        self.records.total()
    }

    /// Passes over a part, without wording its records.
    ///
    /// # Errors
    /// As the iterator.
    pub fn skip_part(&mut self) -> Result<()> {
        while let Some(record) = self.read() {
            self.is_drawn(&record?);
        }
        self.next_part();
        Ok(())
    }

    /// Takes captions with a token out of the choice if there are others.
    fn leave_out_captions(&mut self, record: &mut Record) {
        let captions = &mut record.answers.captions;
        if captions.iter().all(|caption| tokens::find(caption).is_some()) {
            return;
        }
        captions.retain(|caption| {
            let Some((token, reason)) = tokens::find(caption) else { return true };
            self.records.counts.count_left_out(&format!("{reason}:captions"), || {
                let place = place(&self.task.name, &record.source_file, record.source_row);
                format!("{place}: an element of captions holds {token}")
            });
            false
        });
    }

    /// Makes a record of every caption if the task takes all.
    fn spread(&mut self, record: Record) -> Record {
        let takes_all = self.task.answers.captions.as_ref().is_some_and(|(.., take)| *take == Take::All);
        let captions = record.answers.captions.len();
        if !takes_all || captions < 2 {
            return record;
        }
        let more = captions as u64 - 1;
        self.records.counts.records_seen += more;
        self.records.counts.kept += more;
        let of_caption = |(place, caption): (usize, &String)| Record {
            id: format!("{}#{place}", record.id),
            answers: Answers { captions: vec![caption.clone()], ..record.answers.clone() },
            ..record.clone()
        };
        let mut all: VecDeque<Record> = record.answers.captions.iter().enumerate().map(of_caption).collect();
        let first = all.pop_front().expect("there are at least two");
        self.waiting = all;
        first
    }

    /// Words one record, or counts why not.
    fn word(&mut self, record: &Record) -> Result<Option<Conversation>> {
        let counts = &mut self.records.counts;
        let shapes = record.answers.shapes(self.task);
        let BuildSettings { seed, prompts: mode, .. } = self.settings;
        let choice = Choice { task: self.task, wordings: &self.wordings, mode, seed };
        let place = || place(&self.task.name, &record.source_file, record.source_row);
        let Some((wording, shape)) = choice.of(record, &shapes) else {
            counts.drop_kept("no_wording", || {
                let slots: Vec<&str> = record.slots.keys().map(String::as_str).collect();
                format!(
                    "{}: no wording of {} suits {} with the slots [{}] and the answers [{}]",
                    place(),
                    self.task.prompts.join(", "),
                    record.media.kind().name(),
                    slots.join(", "),
                    shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", ")
                )
            });
            return Ok(None);
        };
        let before = std::mem::replace(&mut self.options_before, record.answers.options.clone());
        let own =
            record.answers.options.as_ref().filter(|_| matches!(shape, AnswerShape::Letter | AnswerShape::Option));
        let key = (seed, self.task.name.as_str(), record.id.as_str());
        let changed =
            own.and_then(|own| self.settings.negatives.change(own, before.as_ref(), &self.task.language, key));
        let mut conversation = match &changed {
            Some(changed) => {
                let answers = Answers { options: Some(changed.options.clone()), ..record.answers.clone() };
                converse(self.task, wording, shape, seed, &Record { answers, ..record.clone() })?
            }
            None => converse(self.task, wording, shape, seed, record)?,
        };
        if self.settings.lower_case {
            let lower = |message: &mut Message| message.content = message.content.to_lowercase();
            conversation.messages.iter_mut().for_each(lower);
        }
        let texts = || conversation.messages.iter().map(|message| message.content.as_str());
        if let Some((token, reason)) = texts().find_map(tokens::find) {
            counts.drop_kept(reason, || format!("{}: its text holds {token}", place()));
            return Ok(None);
        }
        if let Some(changed) = &changed {
            *counts.negatives.entry(changed.kind.to_owned()).or_default() += 1;
            if changed.is_negative {
                conversation.id = format!("{}#{}", conversation.id, changed.kind);
            }
        }
        counts.with_replaced_characters += u64::from(texts().any(|text| text.contains('\u{FFFD}')));
        Ok(Some(conversation))
    }
}

impl Iterator for Build<'_> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.read()? {
                Ok(record) => record,
                Err(fault) => return Some(Err(fault)),
            };
            if !self.is_drawn(&record) {
                continue;
            }
            match self.word(&record) {
                Ok(None) => {}
                Ok(Some(conversation)) => return Some(Ok(conversation)),
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

fn draw_hash(seed: u64, task: &Task, record_id: &str) -> u64 {
    keyed_hash(seed, &["draw", &task.name, record_id])
}

/// What a wording is chosen from and by.
struct Choice<'a, 'b> {
    task: &'b Task,
    wordings: &'b [Wording<'a>],
    mode: PromptMode,
    seed: u64,
}

impl<'a> Choice<'a, '_> {
    /// Returns the wording for a record, and the shape of its answer: if the wording asks for
    /// several that there are, one by the seed.
    fn of(&self, record: &Record, shapes: &[AnswerShape]) -> Option<(Wording<'a>, AnswerShape)> {
        let answers = &record.answers;
        let has_slot = |name: &str| {
            record.slots.contains_key(name)
                || answers.options.is_some() && matches!(name, "options" | "choices")
                || !answers.turns.is_empty() && name == "question"
        };
        let has_answer = |shape| shapes.contains(&shape);
        let media = record.media.kind();
        let fitting = |own: &Wording| self.task.suits(own.template, media, &has_slot, &has_answer);
        let fitting = self.wordings.iter().copied().filter(fitting);
        let wording = choose(fitting, self.mode, self.seed, &self.task.name, &record.id)?;
        let asked: Vec<AnswerShape> = wording.template.answer.iter().copied().filter(|own| has_answer(*own)).collect();
        let place = match asked.len() {
            1 => 0,
            several => keyed_hash(self.seed, &["shape", &self.task.name, &record.id]) as usize % several,
        };
        Some((wording, asked[place]))
    }
}

/// The options of a record as they are shown, in an order that the seed draws.
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

/// Words one record in a wording that suits it.
fn converse(
    task: &Task,
    Wording { bank, template }: Wording,
    shape: AnswerShape,
    seed: u64,
    record: &Record,
) -> Result<Conversation> {
    let answers = &record.answers;
    let shown = answers.options.as_ref().map(|own| shown(own, seed, &task.name, &record.id)).unwrap_or_default();
    let mut slots: Vec<(&str, Slot)> = record.slots.iter().map(|(name, value)| (name.as_str(), value.slot())).collect();
    if !shown.order.is_empty() {
        slots.extend([("options", Slot::List(&shown.lettered)), ("choices", Slot::List(&shown.plain))]);
    }
    if let Some((first, _)) = answers.turns.first() {
        slots.push(("question", Slot::Text(first)));
    }
    let instruction = bank.render(template, &slots)?;
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let mut messages: Vec<Message> = template.system.iter().map(|system| message(Role::System, system)).collect();
    messages.push(message(Role::User, &instruction));
    if shape == AnswerShape::Turns {
        for (place, (user, assistant)) in answers.turns.iter().enumerate() {
            if place > 0 {
                messages.push(message(Role::User, user));
            }
            messages.push(message(Role::Assistant, assistant));
        }
    } else {
        messages.push(message(Role::Assistant, &reply(task, answers, shape, seed, &record.id, &shown)));
    }
    let is_shown = |slot: &String| slot == "options" || slot == "choices";
    let choice_order = if template.slots.iter().any(is_shown) { shown.order } else { Vec::new() };
    let right = answers.options.as_ref().map(|options| options.right);
    let right_choice = right.and_then(|right| choice_order.iter().position(|place| *place == right));
    Ok(Conversation {
        id: record.id.clone(),
        task: task.name.clone(),
        group: task.group.clone(),
        answer_shape: shape,
        licence: task.licence.clone(),
        images: record.media.images.iter().map(|path| ImageReference { path: path.clone() }).collect(),
        embedded: record.media.embedded.clone(),
        video: record.media.video.clone(),
        messages,
        template: format!("{}/{}", bank.name, template.id),
        source_file: record.source_file.clone(),
        source_row: record.source_row,
        choice_order: choice_order.iter().map(|&place| place as u32).collect(),
        votes: if matches!(shape, AnswerShape::Word | AnswerShape::Phrase) {
            answers.votes.clone()
        } else {
            Vec::new()
        },
        right_choice: right_choice.map(|place| place as u32),
        packed: Vec::new(),
    })
}

/// Returns the answer of a shape that a record has.
fn reply(task: &Task, answers: &Answers, shape: AnswerShape, seed: u64, record_id: &str, shown: &Shown) -> String {
    let of_truth = |yes: &str, no: &str| (if answers.truth == Some(true) { yes } else { no }).to_owned();
    let text = |shape| answers.texts.get(&shape).cloned();
    let own = text(shape).or_else(|| match shape {
        AnswerShape::Word => text(AnswerShape::Phrase),
        AnswerShape::Letter => Some(shown.right.clone()),
        AnswerShape::Option => answers.options.as_ref().map(|options| options.texts[options.right].clone()),
        AnswerShape::YesNo => Some(of_truth("Yes", "No")),
        AnswerShape::TrueFalse => Some(of_truth("True", "False")),
        // One caption a picture, as the 82.7K rows of COCO Caption in table 9 of arXiv 2307.02469:
        // one for each picture of train2014.
        _ => shuffled(seed, "caption", &task.name, record_id, answers.captions.len())
            .first()
            .map(|&place| answers.captions[place].clone()),
    });
    own.expect("the shape is one that the record has")
}

/// The places 0 to `length - 1` in an order that depends on seed, purpose, task and record alone; every order is equally likely, so the right option stands
/// at every place equally often.
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
