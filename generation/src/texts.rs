//! Writes captions, conversations, descriptions and reasoning from the captions and boxes of an
//! image.
//!
//! The model does not see the image. LLaVA's instruction data was made like this (arXiv 2304.08485,
//! section 3): captions and boxes represent the image, and the model writes as if it saw it. A text
//! must pass all of [`RULES`]; otherwise it is returned separately with the name of the rule that
//! refused it. Output is marked as machine-written.

use std::collections::BTreeSet;

use lynxdata_prompts::{near_duplicate, normalise, tokens};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::{Client, Completion, Error, Estimate, Language, Message, Reply, Request, Result, Role, Schema, list};

/// The question for a detailed description: the prompt of the Lynx paper for such data (arXiv
/// 2307.02469, table 10).
const DESCRIBE: &str = "Describe the image in detail.";
/// The sampling temperature: some variety between images, little invention. Our choice.
const TEMPERATURE: f64 = 0.7;

/// Words that refer to the text that the model saw instead of an image.
const SOURCES: &[&str] = &[
    "caption",
    "captions",
    "bounding box",
    "bounding boxes",
    "coordinates",
    "annotation",
    "annotations",
    "described in",
    "provided text",
    "given text",
    "based on the description",
    "based on the information",
];
/// Words that a model says about itself, or instead of an answer.
const ASSISTANT: &[&str] = &[
    "as an ai",
    "language model",
    "i'm sorry",
    "i am sorry",
    "i cannot see",
    "i can't see",
    "i cannot help",
    "i can't help",
    "i cannot assist",
    "i can't assist",
    "sure here",
];
/// Words of four letters or more that say nothing about an image.
const COMMON: &[&str] = &[
    "that", "this", "here", "with", "from", "into", "over", "under", "there", "their", "they", "them", "then", "while",
    "which", "where", "some", "other", "very", "have", "been", "being", "front", "next", "near", "behind", "beside",
    "image", "picture", "photo",
];
/// Two words count as forms of one word if this many first letters are equal, as in "riding" and
/// "rides".
const STEM: usize = 3;
/// The minimum share of the words of a caption that must be in the given captions and boxes. Our
/// choice: a better caption with the same content keeps most words.
const KNOWN: f64 = 0.5;
/// Words for people in texts; datasets call them `person`.
const PEOPLE: &[&str] = &[
    "person", "persons", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children",
    "kid", "kids", "baby", "guy", "lady", "player", "players", "rider", "skier", "surfer", "someone", "group", "crowd",
];

/// The bytes that some editors write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// From this number on, an id does not fit into 128 bits.
const LONGEST_ID: f64 = i128::MAX as f64;

/// The kind of text to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One caption with the content of the given ones, but better worded.
    Caption,
    /// Questions and answers.
    Conversation,
    /// One long description.
    Description,
    /// One question that needs reasoning, and an answer with reasons.
    Reasoning,
}

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Left, top, right and bottom, in the unit of the data; in LLaVA's data, fractions of width
    /// and height.
    pub edges: [f64; 4],
}

/// The known facts about an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The id of the row: a text or a number.
    pub id: Value,
    /// Captions by people.
    pub captions: Vec<String>,
    /// Objects with their boxes.
    pub objects: Vec<Object>,
    /// The image of the row, which is copied to the output: a path, an object with a `path`, or a
    /// list of these. `None` if it has none.
    pub image: Option<Value>,
    /// The same for the key `images`.
    pub images: Option<Value>,
}

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The one who asks.
    Human,
    /// The model, which answers.
    Model,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The speaker.
    pub speaker: Speaker,
    /// The text of the turn.
    pub text: String,
}

/// A text that passed all rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The turns; for a caption, only the caption.
    pub turns: Vec<Turn>,
    /// The model, as the server calls it.
    pub model: String,
    /// The digest of the request.
    pub request: String,
}

/// A text that was refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Refused {
    /// The id of the row.
    pub id: Value,
    /// The name of the rule.
    pub rule: &'static str,
    /// The reason.
    pub reason: String,
    /// The model's text.
    pub text: String,
    /// The digest of the request.
    pub request: String,
}

/// The outcome of one row.
#[derive(Debug)]
pub enum Outcome {
    /// A text that passed all rules.
    Written(Written),
    /// A text that a rule refused.
    Refused(Refused),
    /// No text.
    Failed(Error),
}

/// Settings of the texts to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The kind of text.
    pub kind: Kind,
    /// Its language.
    pub language: Language,
    /// Names of the objects of all rows. A text that names one of them invents it if the captions
    /// and boxes of its row do not have it.
    pub vocabulary: BTreeSet<String>,
}

impl Context {
    /// Reads a row such as `{"id": 1, "captions": ["…"], "boxes": [{"name": "dog", "box": [0.1,
    /// 0.2, 0.5, 0.9]}]}`.
    ///
    /// # Errors
    /// Returns what is missing or wrong.
    pub fn from_json(row: &Value) -> std::result::Result<Context, String> {
        let id = match &row["id"] {
            id @ (Value::String(_) | Value::Number(_)) => id.clone(),
            _ => return Err("no id, a text or a number".to_owned()),
        };
        let [image, images] = ["image", "images"].map(|name| match &row[name] {
            Value::Null => Ok(None),
            image if image.as_str().is_some_and(|path| path.trim().is_empty()) => Ok(None),
            image if image.as_array().is_some_and(Vec::is_empty) => Ok(None),
            image if elements(image).iter().all(is_image) => Ok(Some(image.clone())),
            _ => Err(format!("{name} is not a path, {{\"path\": …}} or a list of these")),
        });
        let (image, images) = (image?, images?);
        let captions = match &row["captions"] {
            Value::Null => Vec::new(),
            captions => serde_json::from_value::<Vec<String>>(captions.clone())
                .map_err(|_| "captions is not a list of texts".to_owned())?,
        };
        let captions: Vec<String> =
            captions.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect();
        let boxes = match &row["boxes"] {
            Value::Null => &Vec::new(),
            Value::Array(boxes) => boxes,
            _ => return Err("boxes is not a list".to_owned()),
        };
        let objects = boxes.iter().map(object).collect::<std::result::Result<Vec<_>, _>>()?;
        if captions.is_empty() && objects.is_empty() {
            return Err("neither captions nor boxes".to_owned());
        }
        Ok(Context { id, captions, objects, image, images })
    }

    /// Reads a line of a file of rows, which may begin with a byte order mark. An integer of more
    /// than 64 bits as id becomes a text with its digits, because JSON values cannot hold it.
    ///
    /// # Errors
    /// Those of [`Context::from_json`], or why the line is not JSON.
    pub fn from_line(line: &[u8]) -> std::result::Result<Context, String> {
        #[derive(Deserialize)]
        struct LongId {
            id: i128,
        }
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let row: Value = serde_json::from_slice(line).map_err(|error| format!("invalid JSON: {error}"))?;
        let mut context = Context::from_json(&row)?;
        if context.id.is_f64() {
            if let Ok(LongId { id }) = serde_json::from_slice(line) {
                context.id = Value::String(id.to_string());
            } else if context.id.as_f64().is_some_and(|id| id.abs() >= LONGEST_ID) {
                return Err("the number in id has too many digits; write it as a text".to_owned());
            }
        }
        Ok(context)
    }

    /// Returns how many images the row has.
    fn number_of_images(&self) -> usize {
        [&self.image, &self.images].into_iter().flatten().map(|own| elements(own).len()).sum()
    }

    /// Returns the text that represents the image in a request.
    fn text(&self) -> String {
        let mut text = String::new();
        for caption in &self.captions {
            text.push_str(&format!("{caption}\n"));
        }
        for Object { name, edges: [left, top, right, bottom] } in &self.objects {
            text.push_str(&format!("\n{name}: [{left}, {top}, {right}, {bottom}]"));
        }
        text
    }
}

/// Returns the elements of a list, or a value that is not a list as its only element.
fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Returns whether a value is a path, or an object with one.
fn is_image(value: &Value) -> bool {
    let path = if value.is_object() { &value["path"] } else { value };
    path.as_str().is_some_and(|path| !path.trim().is_empty())
}

fn object(row: &Value) -> std::result::Result<Object, String> {
    let wanted = || format!("{row} is not a box such as {{\"name\": \"dog\", \"box\": [left, top, right, bottom]}}");
    let name = row["name"].as_str().map(str::trim).filter(|name| !name.is_empty()).ok_or_else(wanted)?;
    let edges: [f64; 4] = serde_json::from_value(row["box"].clone()).map_err(|_| wanted())?;
    let [left, top, right, bottom] = edges;
    if left > right || top > bottom {
        return Err(format!("the box of {name} has its right or bottom edge before its left or top edge"));
    }
    Ok(Object { name: name.to_owned(), edges })
}

impl Kind {
    /// Returns the instruction for the model.
    fn instruction(self) -> &'static str {
        match self {
            Kind::Caption => {
                "You get what several people said of one picture, and where things are in it. Write one caption for the picture: a single plain sentence that says what is certain, without guesses, names of files, links or tags."
            }
            Kind::Conversation => {
                "You get what several people said of one picture, and where things are in it. Write a conversation between a person who asks about the picture and an assistant who sees it and answers. Ask only what the given facts answer with certainty: what things there are, how many, what they do, where they are to each other. Begin questions with \"Question:\" and answers with \"Answer:\". Three to six questions."
            }
            Kind::Description => {
                "You get what several people said of one picture, and where things are in it. Describe the picture in detail as somebody who sees it, in several sentences: what there is, how many, where things are to each other. Say nothing that the given facts do not say."
            }
            Kind::Reasoning => {
                "You get what several people said of one picture, and where things are in it. Write one question about the picture that takes thought, as why something is done or what could come next, and an answer that gives its reasons step by step, as somebody who sees the picture. Begin the question with \"Question:\" and the answer with \"Answer:\"."
            }
        }
    }

    /// A sentence in the requests of every kind.
    const ALWAYS: &str = "Write as if you saw the picture: do not mention captions, boxes, numbers of positions or the text that you got.";

    /// Returns the maximum length of the reply in tokens.
    fn max_tokens(self) -> u32 {
        match self {
            Kind::Caption => 128,
            Kind::Conversation | Kind::Description | Kind::Reasoning => 1024,
        }
    }

    /// Returns the minimum and maximum number of words of an answer. Our choice: wide enough for
    /// every genuine text of its kind, but too narrow for failed ones.
    fn words(self) -> (usize, usize) {
        match self {
            Kind::Caption => (3, 60),
            Kind::Conversation => (1, 150),
            Kind::Description => (25, 500),
            Kind::Reasoning => (15, 500),
        }
    }

    /// Returns the minimum and maximum number of questions.
    fn questions(self) -> (usize, usize) {
        match self {
            Kind::Caption => (0, 0),
            Kind::Conversation => (2, 10),
            Kind::Description | Kind::Reasoning => (1, 1),
        }
    }
}

/// The facts by which a text is judged.
struct Judged<'a> {
    wanted: &'a Wanted,
    context: &'a Context,
    turns: &'a [Turn],
    reply: &'a Reply,
}

impl Judged<'_> {
    /// Returns all words of the turns in lower case, with a space before and after each.
    fn words(&self) -> String {
        let texts: Vec<&str> = self.turns.iter().map(|turn| turn.text.as_str()).collect();
        format!(" {} ", normalise(&texts.join(" ")))
    }
}

/// A reason to refuse a text.
pub struct Rule {
    /// Its name, under which refusals are counted.
    pub name: &'static str,
    /// A description of the texts that it refuses.
    pub about: &'static str,
    fault: fn(&Judged) -> Option<String>,
}

/// All rules in the order in which they are applied. The first one that refuses a text is reported.
pub const RULES: &[Rule] = &[
    Rule { name: "cut", about: "ends at the limit of tokens", fault: cut },
    Rule { name: "filtered", about: "was ended by a content filter of the server", fault: filtered },
    Rule { name: "assistant_text", about: "mentions the model, or is its refusal", fault: assistant_text },
    Rule {
        name: "control_token",
        about: "has a string that trainers take for an image or for the end of a turn, such as <image> or </s>",
        fault: control_token,
    },
    Rule { name: "empty", about: "is empty, or has a turn without text", fault: empty },
    Rule {
        name: "turns_alternate",
        about: "has two questions or two answers in a row, or no answer to the last",
        fault: turns_alternate,
    },
    Rule {
        name: "source_mentioned",
        about: "mentions captions, boxes or positions in numbers",
        fault: source_mentioned,
    },
    Rule { name: "length", about: "has too few or too many words or questions", fault: length },
    Rule { name: "one_sentence", about: "is a caption of several sentences, or a question", fault: one_sentence },
    Rule { name: "language", about: "is clearly in another language", fault: language },
    Rule { name: "repeated_question", about: "asks nearly the same twice", fault: repeated_question },
    Rule { name: "objects", about: "names none of the objects that have boxes (English only)", fault: objects },
    Rule {
        name: "drift",
        about: "is a caption of which the captions and boxes lack most words (English only)",
        fault: drift,
    },
    Rule {
        name: "invented_object",
        about: "is a caption or description that names an object of other rows, which neither captions nor boxes name (English only)",
        fault: invented_object,
    },
];

/// Returns the request for one row.
pub fn request(context: &Context, wanted: &Wanted) -> Request {
    let kind = wanted.kind;
    let language = if wanted.language == Language::ENGLISH {
        String::new()
    } else {
        format!(" Write in {}; \"Question:\" and \"Answer:\" stay as they are.", wanted.language.name())
    };
    let turn = json!({
        "type": "object",
        "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
        "required": ["question", "answer"],
        "additionalProperties": false,
    });
    let turns = json!({
        "type": "object",
        "properties": {"turns": {"type": "array", "items": turn}},
        "required": ["turns"],
        "additionalProperties": false,
    });
    let has_turns = matches!(kind, Kind::Conversation | Kind::Reasoning);
    Request {
        messages: vec![
            Message::text(Role::System, format!("{} {}{language}", kind.instruction(), Kind::ALWAYS)),
            Message::text(Role::User, context.text()),
        ],
        max_tokens: kind.max_tokens(),
        temperature: TEMPERATURE,
        seed: Some(0),
        schema: has_turns.then_some(Schema { name: "conversation", schema: turns }),
    }
}

/// Returns the estimated cost of [`write_all`], without replies that are already stored.
pub fn estimate(client: &Client, contexts: &[Context], wanted: &Wanted) -> Estimate {
    client.estimate(contexts.iter().map(|context| request(context, wanted)))
}

/// Writes a text for every row, at most `at_once` concurrently. Passes each outcome with the index
/// of its row to `keep` as it arrives, so that finished texts are not lost if the run ends early.
///
/// After an error that affects all requests, such as an exhausted budget, the remaining rows are
/// not passed to `keep`.
///
/// # Errors
/// The first error of `keep`.
pub async fn write_all<E>(
    client: &Client,
    contexts: &[Context],
    wanted: &Wanted,
    at_once: usize,
    mut keep: impl FnMut(usize, Outcome) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let make = |(_, context): &(usize, &Context)| Ok(request(context, wanted));
    let judge = |(place, context): (usize, &Context), outcome: Result<Completion>| {
        let outcome = match outcome {
            Ok(completion) => judged(client.model(), context, wanted, &completion),
            Err(error) => Outcome::Failed(error),
        };
        keep(place, outcome)
    };
    client.complete_all(contexts.iter().enumerate(), at_once, make, judge).await
}

fn judged(model: &str, context: &Context, wanted: &Wanted, completion: &Completion) -> Outcome {
    let reply = &completion.reply;
    let said = reply.refusal.as_ref().unwrap_or(&reply.text);
    let turns = turns(wanted.kind, said);
    let judged = Judged { wanted, context, turns: &turns, reply };
    let request = completion.digest.to_string();
    match RULES.iter().find_map(|rule| Some((rule.name, (rule.fault)(&judged)?))) {
        None => Outcome::Written(Written { turns, model: model.to_owned(), request }),
        Some((rule, reason)) => {
            Outcome::Refused(Refused { id: context.id.clone(), rule, reason, text: said.clone(), request })
        }
    }
}

/// Parses the turns of a reply: JSON, or lines that begin with a speaker.
fn turns(kind: Kind, text: &str) -> Vec<Turn> {
    let text = list::without_thoughts(text);
    let turn = |speaker, text: &str| Turn { speaker, text: text.trim().to_owned() };
    match kind {
        Kind::Caption => return vec![turn(Speaker::Model, text.trim().trim_matches('"'))],
        Kind::Description => return vec![turn(Speaker::Human, DESCRIBE), turn(Speaker::Model, text)],
        Kind::Conversation | Kind::Reasoning => {}
    }
    if let Some(value) = list::json_in(text) {
        let pairs = value.as_array().or_else(|| value.as_object()?.values().find_map(Value::as_array));
        // One question and its answer may come without a list.
        let pairs = pairs.cloned().unwrap_or_else(|| vec![value.clone()]);
        let said = |pair: &Value, name: &str| pair[name].as_str().unwrap_or_default().to_owned();
        let both =
            |pair: &Value| [turn(Speaker::Human, &said(pair, "question")), turn(Speaker::Model, &said(pair, "answer"))];
        return pairs.iter().flat_map(both).collect();
    }
    let mut found: Vec<Turn> = Vec::new();
    for line in text.lines() {
        if let Some((speaker, rest)) = speaker(line) {
            found.push(turn(speaker, rest));
        } else if let Some(last) = found.last_mut().filter(|_| !line.trim().is_empty() && !line.contains("===")) {
            if !last.text.is_empty() {
                last.text.push('\n');
            }
            last.text.push_str(line.trim());
        }
    }
    found
}

/// Returns the speaker at the start of a line, and the rest of the line.
fn speaker(line: &str) -> Option<(Speaker, &str)> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || " .)*#".contains(c));
    let (name, rest) = line.split_once(':')?;
    let rest = rest.trim_start_matches('*');
    match name.trim_end_matches(|c: char| c.is_ascii_digit() || c == ' ' || c == '*').to_lowercase().as_str() {
        "question" | "q" | "user" | "human" => Some((Speaker::Human, rest)),
        "answer" | "a" | "assistant" | "gpt" => Some((Speaker::Model, rest)),
        _ => None,
    }
}

fn cut(judged: &Judged) -> Option<String> {
    judged.reply.is_cut().then(|| format!("ends after {} tokens", judged.wanted.kind.max_tokens()))
}

fn filtered(judged: &Judged) -> Option<String> {
    judged.reply.is_filtered().then(|| "a content filter of the server ended or changed it".to_owned())
}

fn assistant_text(judged: &Judged) -> Option<String> {
    if let Some(refusal) = &judged.reply.refusal {
        return Some(format!("the model refuses: {refusal}"));
    }
    // Text without a speaker is not in the turns, so the whole reply is checked.
    let words = format!(" {} {}", normalise(&judged.reply.text), judged.words());
    ASSISTANT.iter().find(|cue| words.contains(&format!(" {cue} "))).map(|cue| format!("says \"{cue}\""))
}

fn control_token(judged: &Judged) -> Option<String> {
    let (token, _) = judged.turns.iter().find_map(|turn| tokens::find(&turn.text))?;
    Some(format!("has the token {token}"))
}

fn empty(judged: &Judged) -> Option<String> {
    let is_empty = judged.turns.is_empty() || judged.turns.iter().any(|turn| turn.text.is_empty());
    is_empty.then(|| "is empty, or has a turn without text".to_owned())
}

fn turns_alternate(judged: &Judged) -> Option<String> {
    if judged.wanted.kind == Kind::Caption {
        return None;
    }
    let expected = [Speaker::Human, Speaker::Model].into_iter().cycle();
    let wrong = judged.turns.iter().zip(expected).position(|(turn, speaker)| turn.speaker != speaker);
    let last = judged.turns.last().filter(|turn| turn.speaker == Speaker::Human).map(|_| judged.turns.len() - 1);
    wrong.or(last).map(|at| format!("turn {} is out of order", at + 1))
}

fn source_mentioned(judged: &Judged) -> Option<String> {
    let words = judged.words();
    let said_by_captions = format!(" {} ", normalise(&judged.context.captions.join(" ")));
    let is_new = |cue: &str| {
        let cue = format!(" {cue} ");
        words.contains(&cue) && !said_by_captions.contains(&cue)
    };
    if let Some(cue) = SOURCES.iter().find(|cue| is_new(cue)) {
        return Some(format!("says \"{cue}\""));
    }
    let texts = judged.turns.iter().map(|turn| turn.text.as_str()).collect::<Vec<_>>().join(" ");
    let edges = judged.context.objects.iter().flat_map(|object| object.edges).filter(|edge| edge.fract() != 0.0);
    edges.map(|edge| edge.to_string()).find(|edge| texts.contains(edge.as_str())).map(|edge| format!("says {edge}"))
}

fn length(judged: &Judged) -> Option<String> {
    let kind = judged.wanted.kind;
    let questions = judged.turns.iter().filter(|turn| turn.speaker == Speaker::Human).count();
    let (fewest, most) = kind.questions();
    if !(fewest..=most).contains(&questions) {
        return Some(format!("has {questions} questions, {fewest} to {most} are wanted"));
    }
    let (fewest, most) = kind.words();
    let counts = judged.turns.iter().filter(|turn| turn.speaker == Speaker::Model);
    counts
        .map(|turn| turn.text.unicode_words().count())
        .find(|count| !(fewest..=most).contains(count))
        .map(|count| format!("has an answer of {count} words, {fewest} to {most} are wanted"))
}

fn one_sentence(judged: &Judged) -> Option<String> {
    let [Turn { text, .. }] = judged.turns else { return None };
    let sentences = text.unicode_sentences().filter(|sentence| !sentence.trim().is_empty()).count();
    (sentences > 1 || text.contains('?')).then(|| format!("has {sentences} sentences, or asks"))
}

fn language(judged: &Judged) -> Option<String> {
    let wanted = judged.wanted.language;
    let said = judged.turns.iter().map(|turn| turn.text.as_str()).filter(|text| *text != DESCRIBE);
    let instead = wanted.instead(&said.collect::<Vec<_>>().join(" "))?;
    Some(format!("is in {instead}, not in {}", wanted.name()))
}

fn repeated_question(judged: &Judged) -> Option<String> {
    let questions: Vec<&str> =
        judged.turns.iter().filter(|turn| turn.speaker == Speaker::Human).map(|turn| turn.text.as_str()).collect();
    questions.iter().enumerate().find_map(|(index, later)| {
        // "How many dogs are there?" and "How many cats are there?" are similar but different
        // questions, so only questions with the same words count as repeated.
        let earlier = questions[..index].iter().find(|earlier| near_duplicate(earlier, later) == Some(1.0))?;
        Some(format!("asks \"{later}\" after \"{earlier}\""))
    })
}

/// Returns whether words name an object, in the singular or the plural.
fn names(words: &str, object: &str) -> bool {
    let object = normalise(object);
    let forms = [object.clone(), format!("{object}s"), format!("{object}es")];
    let has = |form: &str| words.contains(&format!(" {form} "));
    forms.iter().any(|form| has(form)) || (object == "person" && PEOPLE.iter().any(|form| has(form)))
}

fn objects(judged: &Judged) -> Option<String> {
    if judged.context.objects.is_empty() || judged.wanted.language != Language::ENGLISH {
        return None;
    }
    let words = judged.words();
    let is_named = judged.context.objects.iter().any(|object| names(&words, &object.name));
    (!is_named).then(|| "names no object that has a box".to_owned())
}

fn drift(judged: &Judged) -> Option<String> {
    if judged.wanted.kind != Kind::Caption || judged.wanted.language != Language::ENGLISH {
        return None;
    }
    let stem = |word: &str| word.chars().take(STEM).collect::<String>();
    let known = judged.context.captions.iter().map(String::as_str);
    let known = known.chain(judged.context.objects.iter().map(|object| object.name.as_str()));
    let known = normalise(&known.collect::<Vec<_>>().join(" "));
    let known: BTreeSet<String> = known.split(' ').map(stem).collect();
    let words = judged.words();
    let told: Vec<&str> =
        words.split(' ').filter(|word| word.chars().count() > STEM && !COMMON.contains(word)).collect();
    let new: Vec<&str> = told.iter().copied().filter(|word| !known.contains(&stem(word))).collect();
    let share = 1.0 - new.len() as f64 / told.len().max(1) as f64;
    (share < KNOWN).then(|| format!("neither captions nor boxes have {}", new.join(", ")))
}

fn invented_object(judged: &Judged) -> Option<String> {
    let is_told = matches!(judged.wanted.kind, Kind::Caption | Kind::Description);
    // Without boxes it is not known which objects are absent.
    if !is_told || judged.context.objects.is_empty() || judged.wanted.language != Language::ENGLISH {
        return None;
    }
    let known = judged.context.captions.iter().map(String::as_str);
    let known = known.chain(judged.context.objects.iter().map(|object| object.name.as_str()));
    let known = format!(" {} ", normalise(&known.collect::<Vec<_>>().join(" ")));
    let words = judged.words();
    let invented = judged.wanted.vocabulary.iter().find(|name| names(&words, name) && !names(&known, name))?;
    Some(format!("names \"{invented}\", which neither captions nor boxes name"))
}

impl Written {
    /// Returns the row of the output: a caption, or conversations in LLaVA's format with one
    /// `<image>` for each image before the first question. `generated_by` marks it as
    /// machine-written.
    pub fn row(&self, context: &Context, kind: Kind) -> Value {
        let mut row = json!({"id": context.id});
        for (name, own) in [("image", &context.image), ("images", &context.images)] {
            if let Some(own) = own {
                row[name] = own.clone();
            }
        }
        if kind == Kind::Caption {
            row["caption"] = json!(self.turns[0].text);
        } else {
            let value = |index: usize, turn: &Turn| match index {
                0 => "<image>\n".repeat(context.number_of_images()) + &turn.text,
                _ => turn.text.clone(),
            };
            let from = |speaker| if speaker == Speaker::Human { "human" } else { "gpt" };
            let turns = self.turns.iter().enumerate();
            row["conversations"] =
                turns.map(|(index, turn)| json!({"from": from(turn.speaker), "value": value(index, turn)})).collect();
        }
        row["kind"] = json!(kind);
        row["generated_by"] = json!({"model": self.model, "request": self.request});
        row
    }
}

#[cfg(test)]
mod tests;
