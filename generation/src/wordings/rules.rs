//! The rules by which wordings from a model are refused.

use std::collections::BTreeSet;

use lynxdata_prompts::near_duplicate;
use unicode_segmentation::UnicodeSegmentation as _;

use lynxdata_prompts::{AnswerShape, Media};

use super::{Task, Variant};
use crate::Language;

/// The minimum and maximum number of words of a wording, as in Self-Instruct (arXiv 2212.10560,
/// appendix A.2 and its code: shorter than 3 or longer than 150 is dropped).
const WORDS: (usize, usize) = (3, 150);
/// A wording may have at most this many times as many words as the longest handwritten one. Longer
/// ones are usually about something else.
const LONGER: usize = 3;
/// A cue does not count if a negation is at most this many words before it, as in "no need for a
/// full sentence".
const NEGATION_REACH: usize = 6;

const NEGATIONS: &[&str] =
    &["no", "not", "without", "never", "don't", "instead", "rather", "avoid", "skip", "omit", "out", "than", "needn't"];

/// Words for the media that a wording is about.
const IMAGE: &[&str] = &["image", "images", "picture", "pictures", "photo", "photos", "photograph", "snapshot"];
const VIDEO: &[&str] = &["video", "videos", "clip", "footage", "film", "movie"];

/// Words that ask for an answer shape.
const ONE_WORD: &[&str] = &["one word", "single word", "word or phrase", "a word", "one word answer"];
const SHORTLY: &[&str] = &[
    "word",
    "words",
    "phrase",
    "short",
    "shortly",
    "brief",
    "briefly",
    "concise",
    "concisely",
    "name",
    "succinct",
    "term",
    "only",
    "just",
];
const SENTENCE: &[&str] = &[
    "a sentence",
    "one sentence",
    "single sentence",
    "full sentence",
    "complete sentence",
    "short sentence",
    "sentences",
    "caption",
];
const ONE_SENTENCE: &[&str] = &["one sentence", "single sentence", "a sentence", "one line", "single line"];
const SENTENCE_LIKE: &[&str] = &["sentence", "caption", "line", "brief", "briefly", "short", "shortly", "few words"];
const LONG: &[&str] = &[
    "detail",
    "details",
    "detailed",
    "paragraph",
    "paragraphs",
    "thorough",
    "thoroughly",
    "at length",
    "elaborate",
    "comprehensive",
    "step by step",
    "explain",
    "essay",
];
const LETTER: &[&str] = &["letter", "letters"];
const YES_NO: &[&str] = &["yes or no", "yes no", "no or yes"];
const TRUE_FALSE: &[&str] = &["true or false", "true false", "false or true"];

/// Beginnings of replies that are not wordings.
const REPLIES: &[&str] = &[
    "sure",
    "certainly",
    "of course",
    "i'm sorry",
    "i am sorry",
    "sorry",
    "i can't help",
    "i can't assist",
    "i can't do",
    "i can't provide",
    "i can't write",
    "i cannot help",
    "i cannot assist",
    "i cannot do",
    "i cannot provide",
    "i cannot write",
    "i'm unable",
    "okay",
    "as requested",
];
/// Words about wordings. Evol-Instruct (arXiv 2304.12244, section 3.2) drops texts that copy such
/// words from its prompt.
const META: &[&str] = &[
    "as an ai",
    "language model",
    "same meaning",
    "instruction",
    "instructions",
    "paraphrase",
    "rephrase",
    "reword",
    "rewritten",
    "placeholder",
    "placeholders",
    "prompt",
    "prompts",
];
/// Polite words.
const POLITE: &[&str] =
    &["please", "could", "would", "kindly", "may", "might", "thank", "thanks", "grateful", "appreciate"];

/// The facts by which a candidate is judged.
pub(super) struct Context<'a> {
    pub(super) task: &'a Task,
    pub(super) variant: Variant,
    /// The wordings of the bank and those that were accepted before.
    pub(super) kept: &'a [String],
}

impl Context<'_> {
    fn language(&self) -> Language {
        self.variant.language().unwrap_or(self.task.language)
    }

    fn is_english(&self) -> bool {
        self.language() == Language::ENGLISH
    }

    /// Returns whether a handwritten wording also contains a cue, so that it cannot be wrong.
    fn is_said(&self, cue: &str) -> bool {
        self.task.wordings.iter().any(|wording| is_meant(&words(&wording.text), cue))
    }

    /// Returns the first cue that a candidate contains without a negation and that no handwritten
    /// wording has.
    fn new_cue(&self, words: &str, cues: &[&[&'static str]]) -> Option<&'static str> {
        cues.iter().copied().flatten().copied().find(|cue| is_meant(words, cue) && !self.is_said(cue))
    }
}

/// A reason to refuse a candidate.
pub struct Rule {
    /// Its name, under which refusals are counted.
    pub name: &'static str,
    /// A description of the candidates that it refuses.
    pub about: &'static str,
    /// Returns what is wrong with a candidate, if anything.
    pub(super) fault: fn(&Context, &str) -> Option<String>,
}

/// All rules in the order in which they are applied. The first one that refuses a candidate is
/// reported.
pub const RULES: &[Rule] = &[
    Rule { name: "meta_text", about: "mentions wordings, or is a reply or a refusal of the model", fault: meta_text },
    Rule {
        name: "new_placeholder",
        about: "has a slot, tag or gap that no handwritten wording has",
        fault: new_placeholder,
    },
    Rule { name: "slots", about: "lacks a slot, or has one twice", fault: slots },
    Rule { name: "leaked_answer", about: "gives an answer", fault: leaked_answer },
    Rule { name: "length", about: "has too few or too many words", fault: length },
    Rule { name: "language", about: "is clearly in another language", fault: language },
    Rule { name: "answer_shape", about: "asks for another shape of answer (English only)", fault: answer_shape },
    Rule {
        name: "media",
        about: "mentions an image where there is a video or nothing, or the reverse (English only)",
        fault: media,
    },
    Rule {
        name: "variant",
        about: "is not what was asked for: shorter, polite, a question (English only)",
        fault: variant,
    },
    Rule {
        name: "near_duplicate",
        about: "is nearly a wording of the bank or one that was accepted before",
        fault: duplicate,
    },
];

/// Returns the name of the first rule that refuses a candidate, and why.
pub(super) fn refuse(context: &Context, text: &str) -> Option<(&'static str, String)> {
    RULES.iter().find_map(|rule| Some((rule.name, (rule.fault)(context, text)?)))
}

/// Returns the words of a text without its slots, in lower case, with a space before and after
/// each.
pub(super) fn words(text: &str) -> String {
    let without_slots = super::split_slots(text).0.to_lowercase();
    let is_inside = |c: char| c.is_alphanumeric() || c == '\'';
    let words: Vec<&str> = without_slots.split(|c| !is_inside(c)).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}

/// Returns whether words contain a cue that is not negated.
fn is_meant(words: &str, cue: &str) -> bool {
    words.match_indices(&format!(" {cue} ")).any(|(at, _)| {
        let before = words[..at].split(' ').rev().take(NEGATION_REACH);
        !before.into_iter().any(|word| NEGATIONS.contains(&word))
    })
}

fn meta_text(context: &Context, text: &str) -> Option<String> {
    let words = words(text);
    let start = REPLIES.iter().find(|start| words.starts_with(&format!(" {start} ")));
    let about = META.iter().find(|cue| words.contains(&format!(" {cue} ")) && !context.is_said(cue));
    start.map(|start| format!("begins with \"{start}\"")).or_else(|| about.map(|cue| format!("says \"{cue}\"")))
}

fn new_placeholder(context: &Context, text: &str) -> Option<String> {
    let known: BTreeSet<String> =
        context.task.wordings.iter().flat_map(|wording| super::split_slots(&wording.text).1).collect();
    let (rest, found) = super::split_slots(text);
    if let Some(new) = found.iter().find(|slot| !known.contains(*slot)) {
        return Some(format!("has {{{{ {new} }}}}, which no handwritten wording has"));
    }
    let lower = rest.to_lowercase();
    let slot = |slot: &str| [format!("[{slot}]"), format!("<{slot}>"), format!("({slot})"), format!("${slot}")];
    let named = context.task.slots.iter().flat_map(|name| slot(name)).find(|form| lower.contains(form.as_str()));
    let tag = ["{", "}", "<image>", "<video>", "[insert", "___"].iter().find(|tag| lower.contains(**tag));
    named.or(tag.map(|tag| (*tag).to_owned())).map(|form| format!("has {form}"))
}

fn slots(context: &Context, text: &str) -> Option<String> {
    let found = super::split_slots(text).1;
    context.task.slots.iter().find_map(|slot| {
        let count = found.iter().filter(|used| super::slot_name(used) == slot).count();
        (count != 1).then(|| format!("has {{{{ {slot} }}}} {count} times"))
    })
}

fn leaked_answer(context: &Context, text: &str) -> Option<String> {
    let own = words(text);
    let answers = context.task.answers.iter().map(|answer| words(answer));
    let known =
        answers.filter(|answer| answer.trim().chars().count() >= 3).find(|answer| own.contains(answer.as_str()));
    if let Some(known) = known.filter(|answer| !context.is_said(answer.trim())) {
        return Some(format!("holds the answer \"{}\"", known.trim()));
    }
    let lower = text.to_lowercase();
    let after = lower.rsplit_once("answer:").map(|(_, after)| after.trim()).unwrap_or_default();
    let is_hint = context.task.wordings.iter().any(|wording| wording.text.to_lowercase().contains(after));
    (!is_hint && !after.starts_with("{{")).then(|| format!("answers itself: \"{after}\""))
}

fn length(context: &Context, text: &str) -> Option<String> {
    let count = |text: &str| {
        let (rest, slots) = super::split_slots(text);
        rest.unicode_words().count() + slots.len()
    };
    let by_hand = context.task.wordings.iter().map(|wording| count(&wording.text));
    let least = WORDS.0.min(by_hand.clone().min().unwrap_or(WORDS.0));
    let most = WORDS.1.min(by_hand.max().unwrap_or(WORDS.1) * LONGER);
    let own = count(text);
    (!(least..=most).contains(&own)).then(|| format!("has {own} words, {least} to {most} are wanted"))
}

fn language(context: &Context, text: &str) -> Option<String> {
    let language = context.language();
    let instead = language.instead(&super::split_slots(text).0)?;
    Some(format!("is in {instead}, not in {}", language.name()))
}

fn answer_shape(context: &Context, text: &str) -> Option<String> {
    if !context.is_english() {
        return None;
    }
    let (cues, others): (&[&[&str]], &[&[&str]]) = match context.task.answer {
        AnswerShape::Word | AnswerShape::Phrase | AnswerShape::Class => {
            (&[SHORTLY], &[SENTENCE, LONG, LETTER, YES_NO, TRUE_FALSE])
        }
        AnswerShape::Letter => (&[LETTER], &[ONE_WORD, SENTENCE, LONG, YES_NO, TRUE_FALSE]),
        AnswerShape::YesNo => (&[&["yes"]], &[ONE_WORD, SENTENCE, LONG, LETTER, TRUE_FALSE]),
        AnswerShape::TrueFalse => (&[&["true"]], &[ONE_WORD, SENTENCE, LONG, LETTER, YES_NO]),
        AnswerShape::Sentence => (&[SENTENCE_LIKE], &[ONE_WORD, LONG, LETTER, YES_NO, TRUE_FALSE]),
        AnswerShape::Paragraph => (&[LONG], &[ONE_WORD, ONE_SENTENCE, LETTER, YES_NO, TRUE_FALSE]),
        // These shapes have no typical words that every wording must have.
        AnswerShape::Option | AnswerShape::Boxes | AnswerShape::Number | AnswerShape::Turns => {
            (&[], &[LONG, LETTER, YES_NO, TRUE_FALSE])
        }
    };
    let own = words(text);
    if let Some(other) = context.new_cue(&own, others) {
        return Some(format!("asks for \"{other}\", where the answer is {}", super::about(context.task.answer)));
    }
    let has = |words: &str| cues.iter().copied().flatten().any(|cue| words.contains(&format!(" {cue} ")));
    let always = context.task.wordings.iter().all(|wording| has(&words(&wording.text)));
    (always && !has(&own)).then(|| format!("does not say that the answer is {}", super::about(context.task.answer)))
}

fn media(context: &Context, text: &str) -> Option<String> {
    if !context.is_english() {
        return None;
    }
    let (wrong, about): (&[&[&str]], _) = match context.task.media {
        Media::Image | Media::Images => (&[VIDEO], "an image"),
        Media::Video => (&[IMAGE], "a video"),
        Media::None => (&[IMAGE, VIDEO], "text alone"),
    };
    context.new_cue(&words(text), wrong).map(|cue| format!("mentions \"{cue}\", but the wording is for {about}"))
}

fn variant(context: &Context, text: &str) -> Option<String> {
    let own = words(text);
    let count = |text: &str| words(text).split_whitespace().count();
    let longest = context.task.wordings.iter().map(|wording| count(&wording.text)).max().unwrap_or(0);
    let (is_as_asked, asked) = match context.variant {
        Variant::SameMeaning | Variant::OtherWords | Variant::Language(_) => return None,
        Variant::Shorter => (count(text) < longest, "shorter"),
        Variant::Politer => (POLITE.iter().any(|word| own.contains(&format!(" {word} "))), "polite"),
        Variant::Question => (super::split_slots(text).0.contains('?'), "a question"),
    };
    (!is_as_asked && context.is_english()).then(|| format!("is not {asked}"))
}

fn duplicate(context: &Context, text: &str) -> Option<String> {
    let like = context.kept.iter().find(|kept| near_duplicate(kept, text).is_some())?;
    Some(format!("is like \"{like}\""))
}
