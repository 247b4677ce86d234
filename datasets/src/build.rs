//! Records and prompt banks to conversations.

use std::path::Path;

use lynxdata_prompts::{AnswerShape, Bank, Banks, PromptMode, Slot, Template, choose, keyed_hash};
use serde::{Deserialize, Serialize};

use crate::record::{Answer, Record};
use crate::records::{Records, TaskCounts, place};
use crate::task::{Family, Task};
use crate::{Error, Result, tokens};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Who asks.
    User,
    /// Who is trained to answer.
    Assistant,
}

impl Role {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// `task/split/native id`.
    pub id: String,
    /// Name of the task.
    pub task: String,
    /// Shape of the task.
    pub family: Family,
    /// Licence of the annotations.
    pub licence: String,
    /// The pictures, in order.
    pub images: Vec<ImageReference>,
    /// The turns, user and assistant in alternation.
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

/// The conversations of one split of a task, in the order of the native files.
#[derive(Debug)]
pub struct Build<'a> {
    records: Records<'a>,
    task: &'a Task,
    bank: &'a Bank,
    mode: PromptMode,
    seed: u64,
}

impl<'a> Build<'a> {
    /// Reads joined tables and starts on the first; `root` is the folder of native files as their authors ship them.
    ///
    /// # Errors
    /// If the task's prompt bank is missing or does not suit its family, or as [`Records::start`].
    pub fn start(
        task: &'a Task,
        banks: &'a Banks,
        root: &Path,
        split: &str,
        mode: PromptMode,
        seed: u64,
    ) -> Result<Self> {
        let bank = banks.get(&task.prompts)?;
        check_bank(task, bank)?;
        Ok(Self { records: Records::start(task, root, split)?, task, bank, mode, seed })
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> &TaskCounts {
        self.records.counts()
    }

    /// Takes captions with a token out of the choice if there are others.
    fn leave_out_captions(&mut self, record: &mut Record) {
        let Answer::Caption { captions } = &mut record.answer else { return };
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
}

impl Iterator for Build<'_> {
    type Item = Result<Conversation>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut record = match self.records.next()? {
                Ok(record) => record,
                Err(fault) => return Some(Err(fault)),
            };
            self.leave_out_captions(&mut record);
            let conversation = match converse(self.task, self.bank, self.mode, self.seed, record) {
                Ok(conversation) => conversation,
                Err(fault) => return Some(Err(fault)),
            };
            let counts = &mut self.records.counts;
            let place = || place(&self.task.name, &conversation.source_file, conversation.source_row);
            let texts = || conversation.messages.iter().map(|message| message.content.as_str());
            if let Some((token, reason)) = texts().find_map(tokens::find) {
                counts.drop_kept(reason, || format!("{}: its text holds {token}", place()));
                continue;
            }
            counts.with_replaced_characters += u64::from(texts().any(|text| text.contains('\u{FFFD}')));
            return Some(Ok(conversation));
        }
    }
}

/// Whether a bank declares the slots that a family fills, and asks for answers that it has.
pub(crate) fn check_bank(task: &Task, bank: &Bank) -> Result<()> {
    let unfit = |reason| Err(Error::UnfitBank { task: task.name.clone(), bank: bank.name.clone(), reason });
    if bank.slots != task.family.slots() {
        let (own, other) = (task.family.slots(), &bank.slots);
        return unfit(format!("family {} fills the slots {own:?}, the bank declares {other:?}", task.family.name()));
    }
    let shapes = task.family.answer_shapes();
    match bank.templates.iter().find(|template| !shapes.contains(&template.answer)) {
        Some(Template { id, answer, .. }) => {
            unfit(format!("template `{id}` asks for {answer:?}, family {} has {shapes:?}", task.family.name()))
        }
        None => Ok(()),
    }
}

/// Words one record.
fn converse(task: &Task, bank: &Bank, mode: PromptMode, seed: u64, record: Record) -> Result<Conversation> {
    let template = choose(bank, mode, seed, &task.name, &record.id);
    let shape = template.answer;
    let mut choice_order = Vec::new();
    let turns = match record.answer {
        Answer::Vqa { question, answer } => {
            vec![(bank.render(template, &[("question", Slot::Text(&question))])?, answer)]
        }
        Answer::KnowledgeVqa { question, choices, answer } => {
            let mut order = shuffled(seed, "choices", &task.name, &record.id, choices.len());
            order.retain(|&place| !choices[place].is_empty());
            let options: Vec<String> =
                order.iter().zip('A'..='Z').map(|(&place, letter)| format!("({letter}) {}", choices[place])).collect();
            let slots = [("question", Slot::Text(&question)), ("options", Slot::List(&options))];
            let letter = order.iter().zip('A'..='Z').find(|(place, _)| **place == answer).map(|(_, letter)| letter);
            let letter = letter.expect("records have at most 26 choices and an answer among them");
            let answer = if shape == AnswerShape::Letter { letter.to_string() } else { choices[answer].clone() };
            choice_order = order.iter().map(|&place| place as u32).collect();
            vec![(bank.render(template, &slots)?, answer)]
        }
        Answer::Caption { captions } => {
            // One caption a picture, as the 82.7K rows of COCO Caption in table 9 of arXiv 2307.02469: one for each picture of train2014.
            let place = shuffled(seed, "caption", &task.name, &record.id, captions.len())[0];
            vec![(bank.render(template, &[])?, captions[place].clone())]
        }
        Answer::Classification { category, label } => {
            vec![(bank.render(template, &[("category", Slot::Text(&category))])?, label)]
        }
        Answer::Entailment { statement, label } => {
            let answer = match (shape == AnswerShape::TrueFalse, label) {
                (true, true) => "True",
                (true, false) => "False",
                (false, true) => "Yes",
                (false, false) => "No",
            };
            vec![(bank.render(template, &[("statement", Slot::Text(&statement))])?, answer.to_owned())]
        }
        Answer::Dialog { mut turns } => {
            turns[0].0 = bank.render(template, &[("question", Slot::Text(&turns[0].0))])?;
            turns
        }
    };
    let message = |role, content| Message { role, content };
    Ok(Conversation {
        id: record.id,
        task: task.name.clone(),
        family: task.family,
        licence: task.licence.clone(),
        images: record.images.into_iter().map(|path| ImageReference { path }).collect(),
        messages: turns
            .into_iter()
            .flat_map(|(user, assistant)| [message(Role::User, user), message(Role::Assistant, assistant)])
            .collect(),
        template: format!("{}/{}", bank.name, template.id),
        source_file: record.source_file,
        source_row: record.source_row,
        choice_order,
    })
}

/// The places 0 to `length - 1` in an order that depends on seed, purpose, task and record alone; every order is equally likely, so the right option stands
/// at every place equally often.
fn shuffled(seed: u64, purpose: &str, task: &str, record_id: &str, length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..length).collect();
    places.sort_by_key(|place| (keyed_hash(seed, &[purpose, task, record_id, &place.to_string()]), *place));
    places
}

#[cfg(test)]
mod tests;
