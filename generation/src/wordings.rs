//! Writes more prompt wordings with the method of the Lynx paper, checked by named rules.
//!
//! The paper (arXiv 2307.02469, section 2.4) gives GPT-4 three prompts that people wrote and asks
//! for 15 more with the same meaning. It does not mention checks. Here each candidate must pass all
//! of [`RULES`]; otherwise it is returned separately with the name of the rule that refused it.

mod rules;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;

pub use rules::{RULES, Rule};

use lynxdata_prompts::{AnswerShape, Media};

use crate::{Client, Error, Estimate, Language, Message, Request, Result, Role, Schema, list};

/// The number of wordings that one request asks for, and of examples that it shows, as in the
/// paper.
const ASKED: usize = 15;
const EXAMPLES: usize = 3;
/// The sampling temperature of Self-Instruct (arXiv 2212.10560, its code), which also needs
/// variety.
const TEMPERATURE: f64 = 1.0;
/// The maximum length of a reply in tokens: enough for 15 wordings of more than 100 tokens.
const MAX_TOKENS: u32 = 2048;
/// The maximum number of requests, as a multiple of those needed if every candidate were accepted.
const PATIENCE: usize = 4;

/// Returns a description of an answer shape, for requests and messages.
pub fn about(shape: AnswerShape) -> &'static str {
    match shape {
        AnswerShape::Word => "a word",
        AnswerShape::Phrase => "a word or a short phrase",
        AnswerShape::Class => "the name of a class",
        AnswerShape::Letter => "the letter of an option",
        AnswerShape::Option => "the text of an option",
        AnswerShape::YesNo => "Yes or No",
        AnswerShape::TrueFalse => "True or False",
        AnswerShape::Sentence => "one sentence",
        AnswerShape::Paragraph => "several sentences",
        AnswerShape::Boxes => "one or more boxes",
        AnswerShape::Number => "a number",
        AnswerShape::Turns => "a reply in a conversation",
    }
}

/// A wording that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// Its id in the bank.
    pub id: String,
    /// The wording with its slots.
    pub text: String,
}

/// The task for which wordings are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Description of the wordings, as the bank has it.
    pub description: String,
    /// The slots. Every wording must have each of them once.
    pub slots: Vec<String>,
    /// The media that the model sees with the wording.
    pub media: Media,
    /// The shape of the answer.
    pub answer: AnswerShape,
    /// The language of the handwritten wordings.
    pub language: Language,
    /// At least three wordings that people wrote.
    pub wordings: Vec<ByHand>,
    /// Examples of answers. A wording must not contain any of them.
    pub answers: Vec<String>,
}

/// A way in which new wordings differ from the handwritten ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Only in their words, as the paper asks.
    SameMeaning,
    /// They are shorter.
    Shorter,
    /// They are polite.
    Politer,
    /// They are questions.
    Question,
    /// They avoid the words of the handwritten ones.
    OtherWords,
    /// They are in another language.
    Language(Language),
}

impl Variant {
    /// The variants in the language of the task, in the order in which they are requested.
    pub const ALL: [Variant; 5] =
        [Variant::SameMeaning, Variant::OtherWords, Variant::Shorter, Variant::Question, Variant::Politer];

    fn language(self) -> Option<Language> {
        if let Variant::Language(language) = self { Some(language) } else { None }
    }

    /// Returns what the request adds to "with the same meaning".
    fn wish(self) -> String {
        match self {
            Variant::SameMeaning => String::new(),
            Variant::Shorter => " that are shorter".to_owned(),
            Variant::Politer => " that are more polite".to_owned(),
            Variant::Question => " that are phrased as questions".to_owned(),
            Variant::OtherWords => " that share as few words with them as possible".to_owned(),
            Variant::Language(language) => format!(" in {}", language.name()),
        }
    }
}

/// The number and the variants of the wanted wordings.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The number of new wordings; there may be fewer if the model repeats itself.
    pub count: usize,
    /// The variants, which take turns.
    pub variants: Vec<Variant>,
    /// The date for the provenance, such as `2026-11-29`; this crate does not read the clock.
    pub date: String,
}

/// A new wording in the format of a bank.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Wording {
    /// Its id, made of its first words and a digest of its text.
    pub id: String,
    /// The wording with its slots.
    pub text: String,
    /// The shape of the answer that it asks for.
    pub answer: AnswerShape,
    /// `short`, if short wordings were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<&'static str>,
    /// `polite`, if polite wordings were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tone: Option<&'static str>,
    /// Its language as an ISO 639-1 code.
    pub language: &'static str,
    /// Its origin.
    pub origin: Origin,
}

/// The origin of a new wording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Origin {
    /// The model, as the server calls it.
    pub model: String,
    /// The date of the request.
    pub date: String,
    /// The digest of the request.
    pub request: String,
    /// The ids of the handwritten wordings that the request showed.
    pub parents: Vec<String>,
    /// `pending` until a person accepts it.
    pub review: &'static str,
}

/// A candidate that was refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refused {
    /// The candidate.
    pub text: String,
    /// The name of the rule.
    pub rule: &'static str,
    /// The reason.
    pub reason: String,
    /// The digest of the request.
    pub request: String,
}

/// The outcome of the requests.
#[derive(Debug, Default)]
pub struct Generated {
    /// New wordings.
    pub accepted: Vec<Wording>,
    /// Candidates that were refused.
    pub refused: Vec<Refused>,
    /// The number of requests with a reply, new or stored.
    pub replies: usize,
    /// Errors of single requests.
    pub failed: Vec<Error>,
    /// The error that ended the requests, if one did.
    pub stopped: Option<Error>,
}

impl Generated {
    /// Returns how many candidates each rule refused.
    pub fn refusals(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for refused in &self.refused {
            *counts.entry(refused.rule).or_default() += 1;
        }
        counts
    }
}

/// A request, its variant and the wordings that it shows.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    variant: Variant,
    parents: Vec<String>,
    request: Request,
}

impl Task {
    /// Checks that there are enough wordings, and that they have the slots of the task.
    ///
    /// # Errors
    /// Returns what is missing.
    pub fn check(&self) -> Result<()> {
        if self.wordings.len() < EXAMPLES {
            let why =
                format!("there are {} handwritten wordings, but {EXAMPLES} or more are needed", self.wordings.len());
            return Err(Error::Input { why });
        }
        for wording in &self.wordings {
            let mut used: Vec<String> =
                split_slots(&wording.text).1.iter().map(|slot| slot_name(slot).to_owned()).collect();
            used.sort();
            let mut slots = self.slots.clone();
            slots.sort();
            if used != slots {
                let why = format!("the wording {} has the slots {used:?}, but the task has {slots:?}", wording.id);
                return Err(Error::Input { why });
            }
        }
        Ok(())
    }

    /// Returns the requests in the order in which they are sent. They do not depend on replies, so
    /// another run sends the same ones.
    fn plan(&self, wanted: &Wanted) -> Vec<Planned> {
        let requests = (wanted.count.div_ceil(ASKED) * PATIENCE).max(wanted.variants.len());
        let planned = |round: usize| {
            let variant = wanted.variants[round % wanted.variants.len()];
            let shown: Vec<&ByHand> =
                (0..EXAMPLES).map(|index| &self.wordings[(round * EXAMPLES + index) % self.wordings.len()]).collect();
            let parents = shown.iter().map(|wording| wording.id.clone()).collect();
            Planned { variant, parents, request: self.request(variant, &shown, round as u64) }
        };
        (0..requests).map(planned).collect()
    }

    /// Returns a request with the meta prompt of the paper and additions that the paper does not
    /// specify: slots, the answer and the form of the reply.
    fn request(&self, variant: Variant, shown: &[&ByHand], round: u64) -> Request {
        let kind = match self.media {
            Media::Image | Media::Images => "visual-language",
            Media::Video => "video-language",
            Media::None => "language",
        };
        let examples: Vec<String> =
            shown.iter().enumerate().map(|(index, wording)| format!("{}) {};", index + 1, wording.text)).collect();
        let mut text = format!(
            "Here are some instructions that define a {kind} task. Continue to write {ASKED} instructions with the same meaning{}: {}\n\n",
            variant.wish(),
            examples.join(" ")
        );
        if !self.slots.is_empty() {
            let slots: Vec<String> = self.slots.iter().map(|slot| format!("{{{{ {slot} }}}}")).collect();
            text.push_str(&format!(
                "Every instruction has {} exactly once, braces included; it is filled in later. Write no other gaps.\n",
                slots.join(" and ")
            ));
        }
        text.push_str(&format!(
            "The answer to every instruction is {}; where the instructions above say so, say so too. Do not give an answer.\nWrite the {ASKED} instructions as a list, and nothing else.",
            about(self.answer)
        ));
        let list = json!({"type": "array", "items": {"type": "string"}});
        let schema = json!({
            "type": "object",
            "properties": {"instructions": list},
            "required": ["instructions"],
            "additionalProperties": false,
        });
        Request {
            messages: vec![Message::text(Role::User, text)],
            max_tokens: MAX_TOKENS,
            temperature: TEMPERATURE,
            seed: Some(round),
            schema: Some(Schema { name: "instructions", schema }),
        }
    }

    /// Checks the candidates of one reply and adds them to the result.
    fn judge(&self, planned: &Planned, candidates: Vec<String>, origin: &Origin, wanted: usize, into: &mut Generated) {
        for text in candidates.into_iter().map(|text| spaced_slots(&text)) {
            let kept: Vec<String> = self
                .wordings
                .iter()
                .map(|wording| wording.text.clone())
                .chain(into.accepted.iter().map(|wording| wording.text.clone()))
                .collect();
            let context = rules::Context { task: self, variant: planned.variant, kept: &kept };
            if let Some((rule, reason)) = rules::refuse(&context, &text) {
                into.refused.push(Refused { text, rule, reason, request: origin.request.clone() });
            } else if into.accepted.len() < wanted {
                into.accepted.push(Wording {
                    id: id_of(&text),
                    answer: self.answer,
                    length: (planned.variant == Variant::Shorter).then_some("short"),
                    tone: (planned.variant == Variant::Politer).then_some("polite"),
                    language: planned.variant.language().unwrap_or(self.language).code(),
                    origin: origin.clone(),
                    text,
                });
            }
        }
    }
}

/// Returns the estimated cost of [`generate`] if all requests are sent, without replies that are
/// already stored.
///
/// # Errors
/// If the task is invalid; see [`Task::check`].
pub fn estimate(client: &Client, task: &Task, wanted: &Wanted) -> Result<Estimate> {
    task.check()?;
    let planned = task.plan(wanted);
    Ok(client.estimate(planned.iter().map(|planned| &planned.request)))
}

/// Requests new wordings until there are enough, or until four times as many requests were sent as
/// could have been enough.
///
/// # Errors
/// If the task is invalid; see [`Task::check`]. Errors of requests are in the result, together with
/// the wordings so far.
pub async fn generate(client: &Client, task: &Task, wanted: &Wanted) -> Result<Generated> {
    task.check()?;
    let mut generated = Generated::default();
    for planned in task.plan(wanted) {
        if generated.accepted.len() >= wanted.count {
            break;
        }
        let completion = match client.complete(&planned.request).await {
            Ok(completion) => completion,
            Err(error) if error.is_for_all() => {
                generated.stopped = Some(error);
                break;
            }
            Err(error) => {
                generated.failed.push(error);
                continue;
            }
        };
        generated.replies += 1;
        let origin = Origin {
            model: client.model().to_owned(),
            date: wanted.date.clone(),
            request: completion.digest.to_string(),
            parents: planned.parents.clone(),
            review: "pending",
        };
        let said = completion.reply.refusal.as_ref().unwrap_or(&completion.reply.text);
        // Either way the last item may be incomplete.
        let is_cut = completion.reply.is_cut() || completion.reply.is_filtered();
        let candidates = list::items(said, is_cut);
        task.judge(&planned, candidates, &origin, wanted.count, &mut generated);
    }
    Ok(generated)
}

/// Returns new wordings as the text of a bank in TOML.
pub fn bank_toml(task: &Task, wordings: &[Wording]) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        description: &'a str,
        media: &'static str,
        templates: &'a [Wording],
    }
    let file = File { description: &task.description, media: task.media.name(), templates: wordings };
    toml::to_string(&file).expect("texts and lists of texts are TOML")
}

/// Returns a text without its slots, and the contents of the slots with single spaces.
fn split_slots(text: &str) -> (String, Vec<String>) {
    let (mut rest, mut slots) = (String::new(), Vec::new());
    let mut left = text;
    while let Some((before, after)) = left.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else { break };
        rest.push_str(before);
        rest.push(' ');
        slots.push(inside.split_whitespace().collect::<Vec<_>>().join(" "));
        left = after;
    }
    rest.push_str(left);
    (rest, slots)
}

/// Returns the name of a slot without its filters.
fn slot_name(slot: &str) -> &str {
    slot.split('|').next().unwrap_or_default().trim()
}

/// Returns a text with its slots written as `{{ name }}`.
fn spaced_slots(text: &str) -> String {
    let mut spaced = String::new();
    let mut left = text;
    while let Some((before, after)) = left.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else { break };
        let inside = inside.split_whitespace().collect::<Vec<_>>().join(" ");
        spaced.push_str(&format!("{before}{{{{ {inside} }}}}"));
        left = after;
    }
    spaced + left
}

/// Returns an id made of the first four words and a digest. It is readable and the same for the
/// same text.
fn id_of(text: &str) -> String {
    let plain: String =
        split_slots(text).0.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<&str> = plain.split_whitespace().take(4).collect();
    let digest = blake3::hash(text.as_bytes()).to_hex();
    let digest = &digest[..6];
    if words.is_empty() { format!("wording_{digest}") } else { format!("{}_{digest}", words.join("_")) }
}

#[cfg(test)]
mod tests;
