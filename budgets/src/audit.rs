//! Counts the tokens of records and finds their faults.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::error::Result;
use crate::fault::{Fault, Reason};
use crate::picture::{Measured, Pictures, Place, ReadPicture, Sizes};
use crate::read::{Conversation, IMAGE, Record, Role, SUFFIXES, Turn, files, listed, name_below, records};
use crate::render::{Renderer, Template};
use crate::tokenizer::Tokenizer;
use crate::visual::Model;

/// The number of records in a batch, which is processed on all cores.
const BATCH: usize = 2048;
/// The size of a batch in bytes. It limits how many images from Parquet are in memory.
const BATCH_BYTES: usize = 64 << 20;
/// The number of records that a report shows per fault.
const EXAMPLES: usize = 5;

/// Settings of an audit.
pub struct Settings<'a> {
    /// The model to be trained.
    pub model: &'a Model,
    /// Its tokenizer; without it, texts are not counted.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Its chat template; without it, the tokens that a template adds to every turn are not
    /// counted.
    pub template: Option<Template>,
    /// The folder that paths of images are relative to; `None` for the folder of each file of
    /// conversations.
    pub images: Option<PathBuf>,
    /// Another source of images, which is asked first: the image folders of a run.
    pub of_run: Option<&'a ReadPicture<'a>>,
    /// The source of image sizes.
    pub sizes: Sizes,
    /// The maximum number of tokens of a record that the trainer accepts.
    pub max_length: Option<u64>,
}

/// A record that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The file, relative to the given path.
    pub file: Arc<str>,
    /// The line, element or row, from 0.
    pub row: u64,
    /// Its id.
    pub id: Option<String>,
    /// The tokens of its texts; `None` without a tokenizer.
    pub text_tokens: Option<u64>,
    /// The number of words in its texts, split at white space.
    pub words: u64,
    /// The tokens of its images.
    pub visual_tokens: u64,
    /// The number of its images.
    pub pictures: usize,
    /// The number of images whose tokens are unknown because they have no usable size.
    pub uncounted_pictures: usize,
    /// The number of its videos, whose tokens are not counted.
    pub videos: usize,
    /// Its faults.
    pub faults: Vec<Fault>,
}

impl Checked {
    /// Returns the sum of all counted tokens.
    pub fn length(&self) -> u64 {
        self.text_tokens.unwrap_or(0) + self.visual_tokens
    }

    /// Returns whether it would end a training run or make it train on something else.
    pub fn breaks_training(&self) -> bool {
        self.faults.iter().any(|fault| fault.reason.breaks_training())
    }

    /// Returns whether its tokens are known: it could be read, and all its images have a size.
    pub fn is_counted(&self) -> bool {
        self.uncounted_pictures == 0 && self.faults.iter().all(|fault| fault.reason != Reason::Unreadable)
    }
}

/// Checks all records of a file or folder in order and passes them to `take`.
///
/// # Errors
/// If a file cannot be read, tokens of the template are missing in the tokenizer, or `take` returns
/// an error.
pub fn checked(path: &Path, settings: &Settings, take: &mut dyn FnMut(Checked) -> Result<()>) -> Result<()> {
    let renderer = match (settings.template, settings.tokenizer) {
        (Some(template), Some(tokenizer)) => Some(Renderer::new(template, tokenizer)?),
        _ => None,
    };
    let check = Check { settings, renderer };
    let mut ids = HashSet::new();
    for file in files(path)? {
        let name = name_below(path, &file);
        let folder = settings.images.clone().unwrap_or_else(|| file.parent().unwrap_or(Path::new("")).to_owned());
        let place = Place { file: &file, folder, first: settings.of_run };
        let mut pictures = Pictures::new(place, settings.sizes);
        let mut batch = Batch::default();
        records(&file, &name, &mut |record| {
            batch.push(record);
            if batch.is_full() { check.run(batch.take(), &mut pictures, &mut ids, take) } else { Ok(()) }
        })?;
        check.run(batch.take(), &mut pictures, &mut ids, take)?;
    }
    Ok(())
}

#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, record: Record) {
        self.bytes += record.content.bytes();
        self.records.push(record);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> Vec<Record> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

struct Check<'a> {
    settings: &'a Settings<'a>,
    renderer: Option<Renderer<'a>>,
}

/// A record with its position.
struct Placed {
    file: Arc<str>,
    row: u64,
    of_file: Option<Fault>,
    conversation: std::result::Result<Box<Conversation>, Fault>,
}

impl Check<'_> {
    fn run(
        &self,
        batch: Vec<Record>,
        pictures: &mut Pictures,
        ids: &mut HashSet<[u8; 16]>,
        take: &mut dyn FnMut(Checked) -> Result<()>,
    ) -> Result<()> {
        let read = |record: Record| {
            let Record { file, row, content, of_file } = record;
            Placed { file, row, of_file, conversation: content.conversation() }
        };
        let placed: Vec<Placed> = batch.into_par_iter().map(read).collect();
        pictures.look_at(placed.iter().filter_map(|placed| placed.conversation.as_deref().ok()));
        let pictures = &*pictures;
        let looked_at: Vec<Checked> = placed.into_par_iter().map(|placed| self.check(placed, pictures)).collect();
        for mut own in looked_at {
            // A 128-bit hash represents an id: a collision among a billion is less likely than a
            // disk error.
            let is_repeated = own.id.as_ref().is_some_and(|id| {
                let digest = blake3::hash(id.as_bytes());
                !ids.insert(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
            });
            if is_repeated {
                own.faults.push(Fault::new(Reason::DuplicateId, "an earlier record has the same id"));
            }
            take(own)?;
        }
        Ok(())
    }

    fn check(&self, placed: Placed, pictures: &Pictures) -> Checked {
        let mut own = Checked {
            file: placed.file,
            row: placed.row,
            id: None,
            text_tokens: self.settings.tokenizer.map(|_| 0),
            words: 0,
            visual_tokens: 0,
            pictures: 0,
            uncounted_pictures: 0,
            videos: 0,
            faults: placed.of_file.into_iter().collect(),
        };
        let conversation = match placed.conversation {
            Ok(conversation) => *conversation,
            Err(fault) => {
                own.faults.push(fault);
                return own;
            }
        };
        own.faults.extend(conversation.refused.clone());
        check_turns(&conversation.turns, &mut own.faults);
        check_placeholders(&conversation, &mut own.faults);
        self.count_pictures(&conversation, pictures, &mut own);
        self.count_texts(&conversation.turns, &mut own);
        (own.id, own.videos) = (conversation.id, conversation.videos);
        own
    }

    fn count_pictures(&self, conversation: &Conversation, pictures: &Pictures, own: &mut Checked) {
        own.pictures = conversation.pictures.len();
        for picture in &conversation.pictures {
            let Measured { size, fault } = pictures.measured(picture);
            let is_known = fault.as_ref().is_none_or(|fault| fault.reason == Reason::RemotePicture);
            own.faults.extend(fault);
            let counted = if let Some((width, height)) = size {
                self.settings.model.visual_tokens(width, height, own.pictures)
            } else if let Some(tokens) = self.settings.model.fixed_tokens().filter(|_| is_known) {
                // For these models, every valid image has the same number of tokens.
                Ok(tokens)
            } else {
                own.uncounted_pictures += 1;
                continue;
            };
            match counted {
                Ok(tokens) => own.visual_tokens += tokens.all(),
                Err(unfit) => {
                    let (width, height) = size.unwrap_or_default();
                    let called = picture.path.as_deref().unwrap_or("an image");
                    let detail = format!("{called} of {width} x {height} pixels: {unfit}");
                    own.faults.push(Fault::new(Reason::UnfitPicture, detail));
                    own.uncounted_pictures += 1;
                }
            }
        }
    }

    fn count_texts(&self, turns: &[Turn], own: &mut Checked) {
        let words = |text: &str| text.replace(IMAGE, " ").split_whitespace().count() as u64;
        own.words = turns.iter().map(|turn| words(&turn.text)).sum();
        let Some(tokenizer) = self.settings.tokenizer else { return };
        let counted = match &self.renderer {
            // A turn that the template does not support may already be a fault of the order.
            Some(renderer) => match renderer.text(turns) {
                Ok(rendered) => count(tokenizer, &rendered.text),
                Err(refused) => {
                    if !own.breaks_training() {
                        own.faults.push(Fault::new(Reason::TemplateRefuses, refused.to_string()));
                    }
                    turns.iter().map(|turn| count(tokenizer, &turn.text)).sum()
                }
            },
            None => turns.iter().map(|turn| count(tokenizer, &turn.text)).sum(),
        };
        match counted {
            Ok(tokens) => own.text_tokens = Some(tokens),
            Err(reason) => own.faults.push(Fault::new(Reason::Unreadable, format!("the tokenizer fails: {reason}"))),
        }
    }
}

/// Counts the tokens of a text without the placeholders of images, which the processor replaces by
/// other tokens.
fn count(tokenizer: &Tokenizer, text: &str) -> std::result::Result<u64, String> {
    text.split(IMAGE).filter(|piece| !piece.is_empty()).map(|piece| tokenizer.count(piece)).sum()
}

/// Finds turns without text, unknown roles, and roles that do not alternate.
fn check_turns(turns: &[Turn], faults: &mut Vec<Fault>) {
    if turns.is_empty() {
        return faults.push(Fault::new(Reason::NoConversation, "it has no turns"));
    }
    if let Some(place) = turns.iter().position(|turn| turn.text.trim().is_empty()) {
        faults.push(Fault::new(Reason::EmptyTurn, format!("turn {place} has no text")));
    }
    let unknown = turns.iter().enumerate().find_map(|(place, turn)| match &turn.role {
        Role::Unknown(name) => Some((place, name)),
        _ => None,
    });
    if let Some((place, name)) = unknown {
        return faults.push(Fault::new(Reason::UnknownRole, format!("turn {place} is by {name:?}")));
    }
    let is_led = turns[0].role == Role::System;
    let talk = &turns[usize::from(is_led)..];
    let place = |place: usize| place + usize::from(is_led);
    let out_of_order = talk.iter().enumerate().find(|(number, turn)| {
        let expected = if number % 2 == 0 { Role::User } else { Role::Assistant };
        turn.role != expected
    });
    if let Some((number, turn)) = out_of_order {
        let detail = format!("turn {} is by {}", place(number), format!("{:?}", turn.role).to_lowercase());
        faults.push(Fault::new(Reason::RoleOrder, detail + ", which is out of order"));
    } else if talk.last().is_none_or(|turn| turn.role != Role::Assistant) {
        faults.push(Fault::new(
            Reason::RoleOrder,
            "the last turn is not by the assistant, so nothing is learned from it",
        ));
    }
}

fn check_placeholders(conversation: &Conversation, faults: &mut Vec<Fault>) {
    let (of_prompts, of_answers) = (conversation.placeholders(), conversation.placeholders_of_answers());
    // A trainer puts an image at every placeholder of a prompt; one in an answer would be learned.
    let mut compare = |reason, mark: &str, prompts: usize, answers: usize, files: usize, what: &str| {
        if prompts != files || answers > 0 {
            let also = if answers > 0 { format!(" and {answers} in answers") } else { String::new() };
            faults.push(Fault::new(reason, format!("{prompts} {mark} in prompts{also} for {files} {what}")));
        }
    };
    let is_placed = conversation.is_placed_by_format;
    let pictures = conversation.pictures.len();
    if !is_placed {
        compare(Reason::ImagePlaceholders, "<image>", of_prompts.0, of_answers.0, pictures, "pictures");
    }
    if !is_placed || of_prompts.1 + of_answers.1 > 0 {
        compare(Reason::VideoPlaceholders, "<video>", of_prompts.1, of_answers.1, conversation.videos, "videos");
    }
}

/// An example record with a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The file.
    pub file: String,
    /// The line, element or row, from 0.
    pub row: u64,
    /// Its id.
    pub id: Option<String>,
    /// The details of the fault.
    pub detail: String,
}

/// A kind of fault in all records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The number of records that have it.
    pub count: u64,
    /// Whether it would end a training run or make it train on something else.
    pub breaks_training: bool,
    /// The first of these records.
    pub examples: Vec<Example>,
}

/// The number of records in a range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The minimum number of tokens.
    pub from: u64,
    /// The maximum number of tokens.
    pub to: u64,
    /// The number of records.
    pub records: u64,
}

/// Percentiles of the lengths of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: u64,
    /// The 90th percentile.
    pub p90: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The maximum.
    pub max: u64,
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The model, with its settings.
    pub model: String,
    /// The chat template whose tokens are included in the texts.
    pub template: Option<&'static str>,
    /// The number of records.
    pub records: u64,
    /// The tokens of all texts; `None` without a tokenizer.
    pub text_tokens: Option<u64>,
    /// The number of words of all texts.
    pub words: u64,
    /// The tokens of all images.
    pub visual_tokens: u64,
    /// The number of images.
    pub pictures: u64,
    /// The number of images whose tokens are not included because they have no usable size.
    pub uncounted_pictures: u64,
    /// The number of videos, whose tokens are not counted.
    pub videos: u64,
    /// The given limit of tokens per record.
    pub max_length: Option<u64>,
    /// The number of records above the limit.
    pub over_length: u64,
    /// The first of these records.
    pub over_length_examples: Vec<Example>,
    /// The faults by their reason.
    pub broken: BTreeMap<Reason, Broken>,
    /// The percentiles of the lengths.
    pub lengths: Percentiles,
    /// The histogram of the lengths, without unreadable records.
    pub histogram: Vec<Bin>,
    /// Notes about what the figures do not include.
    pub notes: Vec<String>,
    /// The number of records of each length.
    #[serde(skip)]
    by_length: BTreeMap<u64, u64>,
}

/// Checks all records of a file or folder and sums up the results.
///
/// # Errors
/// The errors of [`checked`].
pub fn audit(path: &Path, settings: &Settings) -> Result<Report> {
    let mut report = Report::new(settings);
    checked(path, settings, &mut |record| {
        report.add(&record);
        Ok(())
    })?;
    report.finish();
    if let Some(chosen) = listed(path, SUFFIXES)?.chosen {
        report.notes.push(format!("only {chosen} was read: the other formats have the same conversations"));
    }
    Ok(report)
}

impl Report {
    fn new(settings: &Settings) -> Report {
        Report {
            model: settings.model.name().to_owned(),
            template: settings.template.filter(|_| settings.tokenizer.is_some()).map(Template::name),
            records: 0,
            text_tokens: settings.tokenizer.map(|_| 0),
            words: 0,
            visual_tokens: 0,
            pictures: 0,
            uncounted_pictures: 0,
            videos: 0,
            max_length: settings.max_length,
            over_length: 0,
            over_length_examples: Vec::new(),
            broken: BTreeMap::new(),
            lengths: Percentiles::default(),
            histogram: Vec::new(),
            notes: Vec::new(),
            by_length: BTreeMap::new(),
        }
    }

    /// Returns whether anything that was found would end a training run or make it train on
    /// something else.
    pub fn breaks_training(&self) -> bool {
        self.over_length > 0 || self.broken.values().any(|broken| broken.breaks_training)
    }

    fn add(&mut self, record: &Checked) {
        self.records += 1;
        self.words += record.words;
        self.visual_tokens += record.visual_tokens;
        self.pictures += record.pictures as u64;
        self.uncounted_pictures += record.uncounted_pictures as u64;
        self.videos += record.videos as u64;
        if let (Some(all), Some(own)) = (&mut self.text_tokens, record.text_tokens) {
            *all += own;
        }
        let example = |detail: &str| Example {
            file: record.file.to_string(),
            row: record.row,
            id: record.id.clone(),
            detail: detail.to_owned(),
        };
        let mut seen: Vec<Reason> = Vec::new();
        for fault in &record.faults {
            // A record is counted once per reason, even if several of its images are missing.
            if seen.contains(&fault.reason) {
                continue;
            }
            seen.push(fault.reason);
            let broken = self.broken.entry(fault.reason).or_default();
            broken.count += 1;
            broken.breaks_training = fault.reason.breaks_training();
            if broken.examples.len() < EXAMPLES {
                broken.examples.push(example(&fault.detail));
            }
        }
        let has_length = !seen.iter().any(|reason| matches!(reason, Reason::Unreadable | Reason::NoConversation));
        let length = record.length();
        if has_length {
            *self.by_length.entry(length).or_default() += 1;
        }
        if self.max_length.is_some_and(|most| length > most) {
            self.over_length += 1;
            if self.over_length_examples.len() < EXAMPLES {
                self.over_length_examples.push(example(&format!("{length} tokens")));
            }
        }
    }

    fn finish(&mut self) {
        let counted: u64 = self.by_length.values().sum();
        let percentile = |share: f64| {
            let rank = (counted as f64 * share).ceil().max(1.0) as u64;
            let mut below = 0;
            let found = self.by_length.iter().find(|(_, records)| {
                below += *records;
                below >= rank
            });
            found.map_or(0, |(length, _)| *length)
        };
        self.lengths =
            Percentiles { p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99), max: percentile(1.0) };
        self.histogram = histogram(&self.by_length);
        let mut note = |text: String| self.notes.push(text);
        if self.text_tokens.is_none() {
            note("texts are not counted: there is no tokenizer; lengths include only images".to_owned());
        } else if self.template.is_none() {
            note("what a chat template adds to every turn is not counted; use --template NAME to count it".to_owned());
        }
        if self.uncounted_pictures > 0 {
            note(format!("{} images without a usable size are not counted", self.uncounted_pictures));
        }
        if self.videos > 0 {
            note(format!("{} videos are not counted", self.videos));
        }
    }
}

/// Returns the histogram of lengths. Bins are 64 tokens wide up to 512 tokens; above that, there
/// are four bins per doubling. Empty bins before the first record are left out.
fn histogram(by_length: &BTreeMap<u64, u64>) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    let (mut from, mut step) = (0, 64);
    let Some(longest) = by_length.keys().next_back() else { return bins };
    while from <= *longest {
        let to = from + step - 1;
        let records = by_length.range(from..=to).map(|(_, records)| records).sum();
        if records > 0 || !bins.is_empty() {
            bins.push(Bin { from, to, records });
        }
        from = to + 1;
        if from.is_power_of_two() && from >= 512 {
            step = from / 4;
        }
    }
    bins
}

#[cfg(test)]
mod tests;
