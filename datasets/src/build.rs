//! Records and prompt banks to conversations.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, RwLock};

use lynxdata_prompts::{AnswerShape, Banks, Media, PromptMode, Slot, Wording, choose, keyed_hash};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::counts::TaskCounts;
use crate::picture::Embedded;
use crate::record::{Answers, Options, Record, VideoReference};
use crate::records::{Outcome, Records, place};
use crate::task::{Take, Task};
use crate::{Error, Result, tokens};

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
}

impl Conversation {
    /// Writes it as one line of JSON.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_line(&self, out: &mut dyn Write) -> io::Result<()> {
        // Not generic over the writer, so that it is compiled here, where it is optimised.
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        out.write_all(&line)
    }
}

/// The conversations of one split of a task, in the order of the native files. They are made on all
/// cores, some thousands at a time.
#[derive(Debug)]
pub struct Build<'a> {
    records: Records<'a>,
    choice: Choice<'a>,
    /// Records that are worded and not yet counted.
    waiting: VecDeque<(Outcome<'a>, Worded)>,
    /// Conversations of the record that was counted last.
    ready: VecDeque<std::result::Result<Conversation, Unworded>>,
}

/// What came of one record: a conversation, or one for each of its captions.
#[derive(Debug, Default)]
struct Worded {
    conversations: VecDeque<std::result::Result<Conversation, Unworded>>,
    /// Captions that were left out, by reason, each with its full message.
    left_out: Vec<(String, String)>,
}

/// Why there is no conversation.
#[derive(Debug)]
enum Unworded {
    /// The reason for the counts, and the full message.
    Dropped(&'static str, String),
    Failed(Error),
}

impl<'a> Build<'a> {
    /// Reads joined tables and starts on the first; `root` is the folder of native files as their authors ship them.
    ///
    /// # Errors
    /// If a prompt bank of the task is missing or no wording suits it, or as [`Records::start`].
    pub fn start(
        task: &'a Task,
        banks: &'a Banks,
        root: &Path,
        split: &str,
        mode: PromptMode,
        seed: u64,
    ) -> Result<Self> {
        task.check_wordings(banks)?;
        let (records, wordings) = (Records::start(task, root, split)?, task.wordings(banks)?);
        let choice = Choice { task, wordings, mode, seed, fitting: RwLock::default() };
        Ok(Self { records, choice, waiting: VecDeque::new(), ready: VecDeque::new() })
    }

    /// What became of the rows up to the conversation that was returned last.
    pub fn counts(&self) -> &TaskCounts {
        self.records.counts()
    }

    /// Counts the next record and makes its conversations ready.
    fn take(&mut self, outcome: Outcome<'a>, worded: Worded) {
        if self.records.settle(outcome).is_none() {
            return;
        }
        let counts = &mut self.records.counts;
        for (reason, example) in worded.left_out {
            counts.count_left_out(&reason, || example);
        }
        let more = worded.conversations.len().saturating_sub(1) as u64;
        counts.records_seen += more;
        counts.kept += more;
        self.ready = worded.conversations;
    }
}

impl<'a> Iterator for Build<'a> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.ready.pop_front() {
                Some(Ok(conversation)) => {
                    let is_replaced = |message: &Message| message.content.contains('\u{FFFD}');
                    let is_any = conversation.messages.iter().any(is_replaced);
                    self.records.counts.with_replaced_characters += u64::from(is_any);
                    return Some(Ok(conversation));
                }
                Some(Err(Unworded::Dropped(reason, example))) => {
                    self.records.counts.drop_kept(reason, || example);
                    continue;
                }
                Some(Err(Unworded::Failed(error))) => return Some(Err(error)),
                None => {}
            }
            if let Some((outcome, worded)) = self.waiting.pop_front() {
                self.take(outcome, worded);
                continue;
            }
            match self.records.map_more() {
                Ok(outcomes) if outcomes.is_empty() => return self.records.end().map(Err),
                Ok(outcomes) => {
                    let choice = &self.choice;
                    let word = |outcome: Outcome<'a>| {
                        let worded = outcome.record().map(|record| choice.word(record)).unwrap_or_default();
                        (outcome, worded)
                    };
                    self.waiting = outcomes.into_par_iter().map(word).collect::<Vec<_>>().into();
                }
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

/// What a wording is chosen from and by.
#[derive(Debug)]
struct Choice<'a> {
    task: &'a Task,
    wordings: Vec<Wording<'a>>,
    mode: PromptMode,
    seed: u64,
    /// The wordings that suit records of one kind, which are found once.
    fitting: RwLock<HashMap<Kind, Arc<[Wording<'a>]>>>,
}

/// What a wording must suit: the media of a record, its slots and the shapes of its answers.
type Kind = (Media, Vec<String>, Vec<AnswerShape>);

impl<'a> Choice<'a> {
    /// Words one record: a conversation, or one for each of its captions if the task takes all.
    fn word(&self, record: &Record) -> Worded {
        let mut worded = Worded::default();
        let captions = &record.answers.captions;
        let with_captions = |id: String, captions: Vec<String>| Record {
            id,
            answers: Answers { captions, ..record.answers.clone() },
            ..record.clone()
        };
        // Captions with a token are left out of the choice if there are others.
        let mut chosen: Vec<&String> = captions.iter().filter(|caption| tokens::find(caption).is_none()).collect();
        if chosen.is_empty() {
            chosen = captions.iter().collect();
        }
        if chosen.len() < captions.len() {
            for (token, reason) in captions.iter().filter_map(|caption| tokens::find(caption)) {
                let example = format!("{}: an element of captions holds {token}", self.place(record));
                worded.left_out.push((format!("{reason}:captions"), example));
            }
        }
        if self.takes_all() && chosen.len() > 1 {
            for (place, caption) in chosen.into_iter().enumerate() {
                let of_caption = with_captions(format!("{}#{place}", record.id), vec![caption.clone()]);
                worded.conversations.push_back(self.converse(&of_caption));
            }
        } else if chosen.len() < captions.len() {
            let of_chosen = with_captions(record.id.clone(), chosen.into_iter().cloned().collect());
            worded.conversations.push_back(self.converse(&of_chosen));
        } else {
            worded.conversations.push_back(self.converse(record));
        }
        worded
    }

    fn takes_all(&self) -> bool {
        self.task.answers.captions.as_ref().is_some_and(|(.., take)| *take == Take::All)
    }

    fn place(&self, record: &Record) -> String {
        place(&self.task.name, &record.source_file, record.source_row)
    }

    fn converse(&self, record: &Record) -> std::result::Result<Conversation, Unworded> {
        let shapes = record.answers.shapes(self.task);
        let Some((wording, shape)) = self.of(record, &shapes) else {
            let slots: Vec<&str> = record.slots.keys().map(String::as_str).collect();
            let reason = format!(
                "{}: no wording of {} suits {} with the slots [{}] and the answers [{}]",
                self.place(record),
                self.task.prompts.join(", "),
                record.media.kind().name(),
                slots.join(", "),
                shapes.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", ")
            );
            return Err(Unworded::Dropped("no_wording", reason));
        };
        let conversation = converse(self.task, wording, shape, self.seed, record).map_err(Unworded::Failed)?;
        let mut texts = conversation.messages.iter().map(|message| message.content.as_str());
        if let Some((token, reason)) = texts.find_map(tokens::find) {
            return Err(Unworded::Dropped(reason, format!("{}: its text holds {token}", self.place(record))));
        }
        Ok(conversation)
    }

    /// Returns the wording for a record, and the shape of its answer: if the wording asks for
    /// several that there are, one by the seed.
    fn of(&self, record: &Record, shapes: &[AnswerShape]) -> Option<(Wording<'a>, AnswerShape)> {
        let fitting = self.fitting(record, shapes);
        let wording = choose(fitting.iter().copied(), self.mode, self.seed, &self.task.name, &record.id)?;
        let asked = wording.template.answer.iter().copied().filter(|own| shapes.contains(own));
        let asked: Vec<AnswerShape> = asked.collect();
        let place = match asked.len() {
            1 => 0,
            several => keyed_hash(self.seed, &["shape", &self.task.name, &record.id]) as usize % several,
        };
        Some((wording, asked[place]))
    }

    /// Returns the wordings that suit a record.
    fn fitting(&self, record: &Record, shapes: &[AnswerShape]) -> Arc<[Wording<'a>]> {
        let answers = &record.answers;
        let mut slots: Vec<String> = record.slots.keys().cloned().collect();
        if answers.options.is_some() {
            slots.extend(["options".to_owned(), "choices".to_owned()]);
        }
        if !answers.turns.is_empty() {
            slots.push("question".to_owned());
        }
        let kind = (record.media.kind(), slots, shapes.to_vec());
        if let Some(known) = self.fitting.read().ok().and_then(|fitting| fitting.get(&kind).cloned()) {
            return known;
        }
        let (media, slots, shapes) = &kind;
        let has_slot = |name: &str| slots.iter().any(|slot| slot == name);
        let has_answer = |shape| shapes.contains(&shape);
        let suits = |own: &&Wording| self.task.suits(own.template, *media, &has_slot, &has_answer);
        let found: Arc<[Wording]> = self.wordings.iter().filter(suits).copied().collect();
        if let Ok(mut fitting) = self.fitting.write() {
            fitting.insert(kind, found.clone());
        }
        found
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
mod other_traps;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod traps;
