//! Typed records, and the functions that read and check their values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lynxdata_prompts::{AnswerShape, Media as Kind, Slot};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::from_base64;
use crate::boxes::NativeBox;
use crate::expression::{question_mark, trimmed};
use crate::picture::{Embedded, PictureFolder, VIDEOS, base64_of, embed};
use crate::rows::row::string;
use crate::shape::misfit;
use crate::task::Task;

/// One typed row of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `task/split/native id`.
    pub id: String,
    /// The images or the video that it is about.
    #[serde(flatten)]
    pub media: Media,
    /// The system message that the native row has, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The values for the slots of a wording, by name. Slots that an answer fills are not included.
    pub slots: BTreeMap<String, SlotValue>,
    /// Its answers.
    pub answers: Answers,
    /// The boxes that the task converts for its slots and answers, as the source has them, in the
    /// order of the conversions. Some may be in no text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<NativeBox>,
    /// The native file, as a path from the root folder.
    pub source_file: String,
    /// The index in that file, from 0: of the line in line formats, otherwise of the row.
    pub source_row: u64,
}

/// The images or the video of a record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// The paths of its images from the image folder.
    pub images: Vec<String>,
    /// The images that are embedded in the row.
    #[serde(skip)]
    pub embedded: Embedded,
    /// Its video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoReference>,
}

/// A video or a part of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoReference {
    /// The path from the image folder, with `/` as separator.
    pub path: String,
    /// The start of the part, in seconds from the beginning of the video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<f64>,
    /// The end of the part, in seconds from the beginning of the video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
}

impl Media {
    /// Returns the kind of media, by which wordings are selected.
    pub fn kind(&self) -> Kind {
        match (&self.video, self.images.len()) {
            (Some(_), _) => Kind::Video,
            (None, 0) => Kind::None,
            (None, 1) => Kind::Image,
            (None, _) => Kind::Images,
        }
    }
}

/// The value of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SlotValue {
    /// One text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

impl SlotValue {
    /// Returns the value in the form that prompt banks take.
    pub fn slot(&self) -> Slot<'_> {
        match self {
            SlotValue::Text(text) => Slot::Text(text),
            SlotValue::List(texts) => Slot::List(texts),
        }
    }
}

/// The answers of a record. Texts are not empty, unless noted otherwise, and trimmed, except those
/// of turns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Answers by their shape.
    #[serde(flatten)]
    pub texts: BTreeMap<AnswerShape, String>,
    /// Answer options, of which one is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Whether the statement of the record is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<bool>,
    /// The number of times that each text was given, the most frequent first. The first one is the
    /// phrase, unless `texts` has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<(String, usize)>,
    /// The captions in native order. Captions that are not texts or do not fit their shape are left
    /// out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captions: Vec<String>,
    /// Pairs of question and reply, in order, with their white space: the indentation of code is a
    /// part of it. They end before the first native turn without a text, because later turns may
    /// refer to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<(String, String)>,
}

impl Answers {
    /// Returns whether the record can be answered in any shape.
    pub(crate) fn is_any(&self) -> bool {
        let has_text = !self.texts.is_empty() || !self.captions.is_empty() || !self.turns.is_empty();
        has_text || self.options.is_some() || self.truth.is_some()
    }

    /// Returns the shapes in which the record can be answered. A phrase of at most three words is
    /// also a word.
    pub(crate) fn shapes(&self, task: &Task) -> Vec<AnswerShape> {
        let mut shapes: Vec<AnswerShape> = self.texts.keys().copied().collect();
        if self.texts.get(&AnswerShape::Phrase).is_some_and(|text| misfit(AnswerShape::Word, text).is_none()) {
            shapes.push(AnswerShape::Word);
        }
        if self.options.is_some() {
            shapes.extend([AnswerShape::Letter, AnswerShape::Option]);
        }
        if self.truth.is_some() {
            shapes.extend([AnswerShape::YesNo, AnswerShape::TrueFalse]);
        }
        if !self.captions.is_empty() {
            shapes.extend(task.answers.captions.as_ref().map(|(_, shape, _)| *shape));
        }
        if !self.turns.is_empty() {
            shapes.push(AnswerShape::Turns);
        }
        shapes
    }
}

/// Answer options, of which one is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The texts in native order, at most 26. Options that are missing in the native row are empty.
    /// At least 2 are not empty, including the right one.
    pub texts: Vec<String>,
    /// The index of the right one, from 0.
    pub right: usize,
}

impl Options {
    /// Returns an option that equals the right one, except for the case of letters if that is
    /// ignored.
    pub(crate) fn right_again(&self, ignores_case: bool) -> Option<&str> {
        let own = &self.texts[self.right];
        let is_same = |other: &String| other == own || ignores_case && other.to_lowercase() == own.to_lowercase();
        let mut others = self.texts.iter().enumerate().filter(|(place, _)| *place != self.right);
        others.find(|(_, other)| is_same(other)).map(|(_, other)| other.as_str())
    }
}

/// The maximum number of options: they have the letters A to Z.
const MOST_OPTIONS: usize = 26;

/// Reads the path of an image or video in its folder.
pub(crate) fn path(value: Value, folder: &PictureFolder) -> Result<String, String> {
    folder.relative(text(value)?)
}

/// Reads one image.
pub(crate) fn picture(value: Value, folder: &PictureFolder) -> Result<Media, String> {
    let mut media = Media::default();
    let path = picture_path(value, folder, &mut media.embedded)?;
    media.images.push(path);
    Ok(media)
}

/// Reads one image or a list of at least one.
pub(crate) fn pictures(value: Value, folder: &PictureFolder) -> Result<Media, String> {
    let Value::Array(_) = value else { return picture(value, folder) };
    let mut media = Media::default();
    for value in list(value, "an image or a list of images")? {
        media.images.push(picture_path(value, folder, &mut media.embedded)?);
    }
    Ok(media)
}

/// Reads an image: its path, its bytes as base64, or an object of `bytes` and `path` as in Hugging
/// Face `datasets`, whose bytes take precedence. A video is an error: wordings would call it an
/// image, and exports would put its bytes into a column of images.
fn picture_path(value: Value, folder: &PictureFolder, embedded: &mut Embedded) -> Result<String, String> {
    let base64 = match &value {
        Value::Object(fields) => match (fields.get("bytes"), fields.get("path")) {
            (Some(Value::String(base64)), _) => Some(base64.as_str()),
            (_, Some(path @ Value::String(_))) => return picture_path(path.clone(), folder, embedded),
            (bytes, path) if bytes.or(path).is_some() => return Err("has neither bytes nor a path".to_owned()),
            _ => None,
        },
        Value::String(text) => base64_of(text.trim()),
        _ => None,
    };
    if let Some(base64) = base64 {
        return Ok(embed(from_base64(base64)?, embedded));
    }
    let path = path(value, folder)?;
    let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    if ending.is_some_and(|ending| VIDEOS.contains(&ending.as_str())) {
        return Err(format!("{path:?} is a video; use media.video for it"));
    }
    Ok(path)
}

/// Reads seconds.
pub(crate) fn seconds(value: &Value) -> Result<f64, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|seconds| seconds.is_finite() && *seconds >= 0.0).ok_or_else(|| expected("seconds", value))
}

/// Reads a slot. A `?` is added to a `question` without one.
pub(crate) fn slot(name: &str, value: Value) -> Result<SlotValue, String> {
    match value {
        Value::Array(_) if name != "question" => {
            Ok(SlotValue::List(list(value, "a list of texts")?.into_iter().map(text).collect::<Result<_, _>>()?))
        }
        value if name == "question" => Ok(SlotValue::Text(question_mark(text(value)?.into()).into_owned())),
        value => Ok(SlotValue::Text(text(value)?)),
    }
}

/// Reads an answer that is given by its shape.
pub(crate) fn answer(shape: AnswerShape, value: Value) -> Result<String, String> {
    let by_truth = |value, yes: &str, no: &str| Ok((if truth(value)? { yes } else { no }).to_owned());
    match (shape, value) {
        (AnswerShape::YesNo, value) => by_truth(&value, "Yes", "No"),
        (AnswerShape::TrueFalse, value) => by_truth(&value, "True", "False"),
        (AnswerShape::Boxes, value @ Value::Array(_)) => {
            Ok(list(value, "a list of boxes")?.into_iter().map(text).collect::<Result<Vec<_>, _>>()?.join("; "))
        }
        (_, value) => text(value),
    }
}

/// Reads a truth value: true, false, or the texts yes, no, true and false in any case.
pub(crate) fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => return Ok(*value),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" => return Ok(true),
            "no" | "false" => return Ok(false),
            _ => {}
        },
        _ => {}
    }
    Err(expected("true or false", value))
}

/// Reads options and the index of the right one. Options without a text are not shown, and are
/// reported in `left_out`. Unless case matters, options that differ only in it are the same.
pub(crate) fn options(
    texts: Value,
    right: &Value,
    case_matters: bool,
    left_out: &mut Vec<String>,
) -> Result<Options, String> {
    let mut or_none = |option| {
        text(option).unwrap_or_else(|reason| {
            left_out.push(reason);
            String::new()
        })
    };
    let texts: Vec<String> = list(texts, "a list of texts")?.into_iter().map(&mut or_none).collect();
    let shown = texts.iter().filter(|option| !option.is_empty()).count();
    if texts.len() > MOST_OPTIONS || shown < 2 {
        return Err(format!("must be 2 to {MOST_OPTIONS} texts, not {shown} in {}", texts.len()));
    }
    let right = place(right, texts.len()).map_err(|reason| format!("`right` {reason}"))?;
    if texts[right].is_empty() {
        return Err("do not contain the right one".to_owned());
    }
    let options = Options { texts, right };
    match options.right_again(!case_matters) {
        Some(again) => Err(said_twice(&options, again)),
        None => Ok(options),
    }
}

/// Returns what is wrong with options of which another one equals the right one.
pub(crate) fn said_twice(options: &Options, again: &str) -> String {
    format!("hold the right one, {:?}, again as {again:?}, so two letters are right", options.texts[options.right])
}

/// Counts votes, of which there is at least one.
pub(crate) fn votes(texts: Vec<String>, least: usize) -> Result<Vec<(String, usize)>, String> {
    enough(counted(texts.into_iter().map(|text| (text, 1))), least)
}

/// Counts votes that are JSON texts with quotes. Returns nothing if one of them has no text.
pub(crate) fn votes_of_tokens(tokens: &[&[u8]], least: usize) -> Option<Result<Vec<(String, usize)>, String>> {
    // Most votes are the same, so that only a few of them are decoded.
    let different = counted(tokens.iter().map(|token| (*token, 1)));
    let text = |(token, count)| Some((trimmed(string(token).ok()?).into_owned(), count));
    let texts: Vec<(String, usize)> = different.into_iter().map(text).collect::<Option<_>>()?;
    let has_texts = texts.iter().all(|(text, _)| is_text(text));
    has_texts.then(|| enough(counted(texts.into_iter()), least))
}

/// Adds up the counts of the same votes, in the order of their first occurrences.
fn counted<T: PartialEq>(votes: impl Iterator<Item = (T, usize)>) -> Vec<(T, usize)> {
    let mut all: Vec<(T, usize)> = Vec::new();
    for (vote, count) in votes {
        match all.iter_mut().find(|(known, _)| *known == vote) {
            Some((_, known)) => *known += count,
            None => all.push((vote, count)),
        }
    }
    all
}

/// Sorts votes by their counts, and checks that the most frequent one is frequent enough.
fn enough(mut votes: Vec<(String, usize)>, least: usize) -> Result<Vec<(String, usize)>, String> {
    // The sort is stable, so of equal counts the first vote comes first.
    votes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match votes[0].1 {
        most if most < least => Err(format!("agree {most} times at most, which is fewer than {least}")),
        _ => Ok(votes),
    }
}

/// Reads the texts of a list, at least one. Elements without a text are reported in `left_out`.
pub(crate) fn texts_of(value: Value, left_out: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for element in list(value, "a list of texts")? {
        match text(element) {
            Ok(text) => texts.push(text),
            Err(reason) => left_out.push(reason),
        }
    }
    if texts.is_empty() { Err("contain no text".to_owned()) } else { Ok(texts) }
}

/// Reads turns up to the first one without a text, which is reported in `left_out`. Adds the
/// questions of it and of later ones to `cut`.
pub(crate) fn turns(
    value: Value,
    left_out: &mut Vec<String>,
    cut: &mut Vec<String>,
) -> Result<Vec<(String, String)>, String> {
    let mut turns = Vec::new();
    let mut all = list(value, "a list of pairs of texts")?.into_iter();
    let length = all.len();
    while let Some(found) = all.next() {
        match turn(found) {
            Ok(turn) => turns.push(turn),
            Err((reason, _)) if turns.is_empty() => return Err(format!("the first turn {reason}")),
            Err((reason, question)) => {
                left_out.push(format!("turn {} of {length} {reason}", turns.len() + 1));
                cut.extend(question);
                cut.extend(all.by_ref().filter_map(|found| match turn(found) {
                    Ok((question, _)) => Some(question),
                    Err((_, question)) => question,
                }));
            }
        }
    }
    Ok(turns)
}

/// The reasons for dialogs whose images or video cannot be put before the first question.
pub(crate) const MISSING_IMAGE: &str = "missing_image";
const IMAGE_PLACE: &str = "image_place";
const VIDEO_PLACE: &str = "video_place";

/// Removes the tokens that mark the places of images or of the video from questions, with the line
/// break or the space that separates them from the text. A conversation has its media before the
/// first question. So tokens may only be at the beginning or the end of a question, and one in a
/// later question must mark an image that the first one has; such an image is used once. A dialog
/// ends before a question of tokens alone, which is reported in `left_out`, like the turns that
/// were left out before. If only the questions of those, `cut`, have tokens, the media is left out.
/// Returns the reason and the details if a token is elsewhere, or if there are more or fewer tokens
/// than images.
pub(crate) fn take_tokens(
    tokens: &[String],
    media: &mut Media,
    turns: &mut Vec<(String, String)>,
    cut: &[String],
    left_out: &mut Vec<String>,
) -> Result<(), (&'static str, String)> {
    let token = tokens.join(" or ");
    let place = if media.video.is_some() { VIDEO_PLACE } else { IMAGE_PLACE };
    let mut marks = Vec::with_capacity(turns.len());
    for (number, (question, _)) in turns.iter_mut().enumerate() {
        let (mut rest, mut count) = (question.as_str(), 0);
        while let Some(behind) = behind_token(rest, tokens) {
            (rest, count) = (behind, count + 1);
        }
        if count > 0 {
            rest = without_separator_before(rest);
        } else {
            while let Some(before) = before_token(rest, tokens) {
                (rest, count) = (before, count + 1);
            }
            if count > 0 {
                rest = without_separator_behind(rest);
            }
        }
        if tokens.iter().any(|token| rest.contains(token.as_str())) {
            return Err((place, format!("{token} is within the text of question {}", number + 1)));
        }
        marks.push(count);
        *question = rest.to_owned();
    }
    let is_cut = !left_out.is_empty();
    match turns.iter().position(|(question, _)| question.trim().is_empty()) {
        Some(0) => return Err(("field:turns", format!("the first question is {token} alone"))),
        Some(place) => {
            left_out.push(format!("turn {} of {} asks nothing", place + 1, turns.len()));
            turns.truncate(place);
        }
        None => {}
    }
    let (first, all): (usize, usize) = (marks.first().copied().unwrap_or_default(), marks.iter().sum());
    let later = || marks.iter().skip(1).position(|count| *count > 0).map_or(0, |place| place + 2);
    let of_later =
        || format!("question {} has media, which a conversation has only before its first question", later());
    let is_of_cut = || cut.iter().any(|question| tokens.iter().any(|token| question.contains(token.as_str())));
    if all == 0 && is_of_cut() {
        *media = Media::default();
        return Ok(());
    }
    if media.video.is_some() {
        return if first == 0 && all > 0 { Err((place, of_later())) } else { Ok(()) };
    }
    let known = media.images.len();
    if all > known {
        return Err((MISSING_IMAGE, format!("its questions place {all} images by {token}, but it names {known}")));
    }
    if all == 0 {
        return Ok(());
    }
    if all < known && !is_cut {
        return Err((place, format!("its questions place {all} images by {token}, but it names {known}")));
    }
    let (shown, others) = media.images.split_at(first);
    if others[..all - first].iter().any(|image| !shown.contains(image)) {
        return Err((place, of_later()));
    }
    media.images.truncate(first);
    media.embedded.retain(|path, _| media.images.contains(path));
    Ok(())
}

/// Returns the text behind a token at the beginning.
fn behind_token<'a>(text: &'a str, tokens: &[String]) -> Option<&'a str> {
    let text = text.trim_start();
    tokens.iter().find_map(|token| text.strip_prefix(token.as_str()))
}

/// Returns the text before a token at the end.
fn before_token<'a>(text: &'a str, tokens: &[String]) -> Option<&'a str> {
    let text = text.trim_end();
    tokens.iter().find_map(|token| text.strip_suffix(token.as_str()))
}

/// Removes what separates a token from the text after it: the rest of a line without text, or one
/// space. All other white space is a part of the text, such as its indentation.
fn without_separator_before(text: &str) -> &str {
    let line = text.trim_start_matches([' ', '\t', '\r']);
    let line = line.strip_prefix('\n');
    line.or_else(|| text.strip_prefix(' ').filter(|line| !line.starts_with(char::is_whitespace))).unwrap_or(text)
}

/// Removes what separates a text from a token after it: one line break or one space.
fn without_separator_behind(text: &str) -> &str {
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let line = line.or_else(|| text.strip_suffix(' ').filter(|line| !line.ends_with(char::is_whitespace)));
    line.unwrap_or(text)
}

fn expected(what: &str, value: &Value) -> String {
    let mut found = value.to_string();
    if let Some((place, _)) = found.char_indices().nth(80) {
        found.truncate(place);
        found.push('…');
    }
    format!("must be {what}, but is {found}")
}

/// Reads a text or a number, without white space at its ends.
pub(crate) fn text(value: Value) -> Result<String, String> {
    verbatim(value).map(|text| trimmed(Cow::Owned(text)).into_owned())
}

/// Reads a text or a number, with all white space. A text of white space alone is empty.
pub(crate) fn verbatim(value: Value) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null => return Err("is missing or null".to_owned()),
        _ => return Err(expected("a text or a number", &value)),
    };
    if is_text(&text) { Ok(text) } else { Err("is empty".to_owned()) }
}

/// Returns whether a text has any visible character. Joiners and direction marks without any letter
/// make an empty text.
pub(crate) fn is_text(text: &str) -> bool {
    let is_nothing = |character: char| {
        character.is_whitespace() || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    !text.chars().all(is_nothing)
}

/// Returns a key as text, so that the number 9 in one file matches the text "9" in another, and
/// 9.0, which pandas writes for it in a column with missing values. A missing or blank value is not
/// a key.
pub(crate) fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::Number(number) => Some(match number.as_f64() {
            // Whole numbers up to this limit are exact as doubles.
            Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 => {
                format!("{value:.0}")
            }
            _ => number.to_string(),
        }),
        other => text(other.clone()).ok(),
    }
}

/// Returns the elements of a list that is not empty.
fn list(value: Value, what: &str) -> Result<Vec<Value>, String> {
    let Value::Array(values) = value else { return Err(expected(what, &value)) };
    if values.is_empty() { Err("is an empty list".to_owned()) } else { Ok(values) }
}

fn place(value: &Value, length: usize) -> Result<usize, String> {
    let place = value.as_u64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place < length);
    place.ok_or_else(|| expected(&format!("an index from 0 to {}", length - 1), value))
}

/// Reads a turn. Returns the reason if it lacks a text, and its question if it has one.
fn turn(value: Value) -> Result<(String, String), (String, Option<String>)> {
    let pair = match value {
        Value::Array(pair) => <[Value; 2]>::try_from(pair).map_err(Value::Array),
        other => Err(other),
    };
    let [user, assistant] = pair.map_err(|other| (expected("a pair of texts", &other), None))?;
    let user = verbatim(user).map_err(|reason| (reason, None))?;
    match verbatim(assistant) {
        Ok(assistant) => Ok((user, assistant)),
        Err(reason) => Err((reason, Some(user))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_trimmed_and_numbers_become_text() {
        assert_eq!(slot("question", json!(" how many cups ")).unwrap(), SlotValue::Text("how many cups?".into()));
        assert_eq!(slot("context", json!(" a cup ")).unwrap(), SlotValue::Text("a cup".into()));
        assert_eq!(slot("classes", json!(["a", 2])).unwrap(), SlotValue::List(vec!["a".into(), "2".into()]));
        assert_eq!(answer(AnswerShape::Phrase, json!(2)).unwrap(), "2");
        assert_eq!(answer(AnswerShape::Boxes, json!(["a", "b"])).unwrap(), "a; b");
        for yes in [json!(true), json!("yes"), json!("True ")] {
            assert_eq!(answer(AnswerShape::YesNo, yes.clone()).unwrap(), "Yes");
            assert_eq!(answer(AnswerShape::TrueFalse, yes.clone()).unwrap(), "True");
        }
    }

    fn turns_of(value: Value) -> Result<Vec<(String, String)>, String> {
        turns(value, &mut Vec::new(), &mut Vec::new())
    }

    #[test]
    fn turns_keep_their_white_space() {
        let code = "    if a:\n        return 1\n";
        assert_eq!(turns_of(json!([["\tf?", code]])).unwrap(), [("\tf?".to_owned(), code.to_owned())]);
        let (mut left_out, mut cut) = (Vec::new(), Vec::new());
        let all = json!([["a", "b"], ["c", " \n"], [null, "d"], ["e", "f"], "g"]);
        assert_eq!(turns(all, &mut left_out, &mut cut).unwrap().len(), 1);
        assert_eq!((left_out, cut), (vec!["turn 2 of 5 is empty".to_owned()], vec!["c".to_owned(), "e".to_owned()]));
    }

    #[test]
    fn faults_say_what_was_found() {
        let none = &mut Vec::new();
        let faults = [
            (answer(AnswerShape::Phrase, json!(" ")).unwrap_err(), "is empty"),
            (slot("question", json!(" \u{200b}\u{feff}")).unwrap_err(), "is empty"),
            (slot("question", json!({"x": 1})).unwrap_err(), "must be a text or a number, but is {\"x\":1}"),
            (slot("classes", json!([])).unwrap_err(), "is an empty list"),
            (slot("question", json!(["x"])).unwrap_err(), "must be a text or a number, but is [\"x\"]"),
            (
                options(json!(["a", "b"]), &json!(2), false, none).unwrap_err(),
                "`right` must be an index from 0 to 1, but is 2",
            ),
            (options(json!(["a"]), &json!(0), false, none).unwrap_err(), "2 to 26 texts, not 1 in 1"),
            (options(json!(["a", "b", "a "]), &json!(2), false, none).unwrap_err(), "the right one, \"a\", again"),
            (
                options(json!(["Rain", "snow", " rain "]), &json!(0), false, none).unwrap_err(),
                "the right one, \"Rain\", again as \"rain\"",
            ),
            (options(json!(["Rain", "Rain"]), &json!(0), true, none).unwrap_err(), "again as \"Rain\""),
            (options(json!(["a", "b", ""]), &json!(2), false, none).unwrap_err(), "do not contain the right one"),
            (options(json!(["a", null, ""]), &json!(0), false, none).unwrap_err(), "2 to 26 texts, not 1 in 3"),
            (texts_of(json!([]), none).unwrap_err(), "empty list"),
            (texts_of(json!([null, "", " ", ["x"]]), none).unwrap_err(), "contain no text"),
            (truth(&json!(1)).unwrap_err(), "true or false, but is 1"),
            (turns_of(json!([["c"], ["a", "b"]])).unwrap_err(), "a pair of texts, but is [\"c\"]"),
            (turns_of(json!([["a", null]])).unwrap_err(), "the first turn is missing or null"),
            (votes(vec!["a".into(), "b".into()], 2).unwrap_err(), "agree 1 times at most, which is fewer than 2"),
            (seconds(&json!(-1)).unwrap_err(), "must be seconds"),
        ];
        for (found, expected) in faults {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn tokens_of_images_are_taken_only_if_no_image_moves() {
        let take = |images: &[&str], questions: &[&str], left_out: &mut Vec<String>| {
            let mut media =
                Media { images: images.iter().map(|path| (*path).to_owned()).collect(), ..Media::default() };
            let mut turns: Vec<_> = questions.iter().map(|text| ((*text).to_owned(), "reply".to_owned())).collect();
            let tokens = ["<image>".to_owned()];
            take_tokens(&tokens, &mut media, &mut turns, &[], left_out).map_err(|(reason, _)| reason)?;
            Ok::<_, &str>((media.images, turns.into_iter().map(|(question, _)| question).collect::<Vec<_>>()))
        };
        let images = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        for (paths, asked, left, questions) in [
            (&["a"][..], &["<image>\nWhat?"][..], &["a"][..], &["What?"][..]),
            (&["a"], &["What? <image>"], &["a"], &["What?"]),
            (&["a", "b"], &["<image> <image>Which?"], &["a", "b"], &["Which?"]),
            (&["a", "a"], &["<image><image>Which?"], &["a", "a"], &["Which?"]),
            (&["a", "a"], &["Who?<image>", "Where?<image>"], &["a"], &["Who?", "Where?"]),
            (&["a", "b"], &["Which?", "Why?"], &["a", "b"], &["Which?", "Why?"]),
            (&[], &["Hello"], &[], &["Hello"]),
            (&["a"], &["<image>\n    x = 1\n"], &["a"], &["    x = 1\n"]),
            (&["a", "b"], &[" <image> \n <image> \r\n\n  What?"], &["a", "b"], &["\n  What?"]),
            (&["a"], &["<image>    x = 1"], &["a"], &["    x = 1"]),
            (&["a"], &["<image>\tx = 1"], &["a"], &["\tx = 1"]),
            (&["a"], &["<image> x = 1"], &["a"], &["x = 1"]),
            (&["a"], &["  x = 1\n<image>\n"], &["a"], &["  x = 1"]),
            (&["a"], &["x = 1\n\r\n<image>"], &["a"], &["x = 1\n"]),
            (&["a"], &["x = 1  <image>"], &["a"], &["x = 1  "]),
            (&["a"], &["  x = 1 "], &["a"], &["  x = 1 "]),
        ] {
            assert_eq!(take(paths, asked, &mut Vec::new()).unwrap(), (images(left), images(questions)), "{asked:?}");
        }
        for (paths, asked, reason) in [
            (&[][..], &["<image>What?"][..], "missing_image"),
            (&["a"], &["<image>What?", "<image>Who?"], "missing_image"),
            (&["a", "b"], &["<image>What?"], "image_place"),
            (&["a", "b"], &["<image>What?", "<image>And this?"], "image_place"),
            (&["a"], &["Hello", "<image>What?"], "image_place"),
            (&["a"], &["Read it. <image> Be brief."], "image_place"),
            (&["a", "b"], &["<image>a <image>b?"], "image_place"),
            (&["a", "b"], &["<image>Which?<image>"], "image_place"),
        ] {
            assert_eq!(take(paths, asked, &mut Vec::new()), Err(reason), "{asked:?}");
        }
        let mut left_out = vec!["turn 2 of 2 is empty".to_owned()];
        assert_eq!(take(&["a", "b"], &["<image>What?"], &mut left_out).unwrap().0, ["a"]);
        let mut left_out = Vec::new();
        assert_eq!(take(&["a", "a"], &["<image>What?", "<image>"], &mut left_out).unwrap().1, ["What?"]);
        assert_eq!(left_out, ["turn 2 of 2 asks nothing"]);
        assert_eq!(take(&["a"], &["<image>"], &mut Vec::new()), Err("field:turns"));
        let mut video =
            Media { video: Some(VideoReference { path: "v".into(), start: None, end: None }), ..Media::default() };
        let mut turns = |first: &str, second: &str| {
            let mut turns = vec![(first.to_owned(), "x".to_owned()), (second.to_owned(), "x".to_owned())];
            let tokens = ["<video>", "<image>"].map(str::to_owned);
            take_tokens(&tokens, &mut video, &mut turns, &[], &mut Vec::new()).map_err(|(reason, _)| reason)?;
            Ok::<_, &str>(turns[0].0.clone())
        };
        for first in ["<video>a", "<image>\na"] {
            assert_eq!(turns(first, "<video>b").as_deref(), Ok("a"));
        }
        assert_eq!((turns("a", "<video>b"), turns("a<image>b", "c")), (Err("video_place"), Err("video_place")));
    }

    #[test]
    fn media_of_a_question_that_is_left_out_do_not_move_to_another_one() {
        let video = || Some(VideoReference { path: "v".into(), start: None, end: None });
        for (media, token) in [
            (Media { images: vec!["a".into()], ..Media::default() }, "<image>"),
            (Media { video: video(), ..Media::default() }, "<video>"),
        ] {
            for (cut, is_kept) in [("Which?", true), ("Which?<image><video>", false)] {
                let (mut own, mut turns) = (media.clone(), vec![("Who?".to_owned(), "x".to_owned())]);
                let mut left_out = vec!["turn 2 of 2 is missing or null".to_owned()];
                take_tokens(&[token.to_owned()], &mut own, &mut turns, &[cut.to_owned()], &mut left_out).unwrap();
                assert_eq!(own, if is_kept { media.clone() } else { Media::default() });
            }
        }
    }

    #[test]
    fn options_may_differ_in_case_only_where_that_is_the_question() {
        let texts = json!(["Dear grandpa,", "Dear Grandpa,", "x", "X"]);
        let found = options(texts, &json!(1), true, &mut Vec::new()).unwrap();
        assert_eq!((found.right_again(false), found.right_again(true)), (None, Some("Dear grandpa,")));
        // Wrong options that are equal leave one letter right.
        assert!(options(json!(["x", "X", "y"]), &json!(2), false, &mut Vec::new()).is_ok());
    }

    #[test]
    fn votes_are_counted_and_of_equal_counts_the_first_leads() {
        let count = |list: Value| votes(texts_of(list, &mut Vec::new()).unwrap(), 1).unwrap();
        assert_eq!(count(json!(["b", "a", "a", "b", "c"])), [("b".into(), 2), ("a".into(), 2), ("c".into(), 1)]);
        assert_eq!(count(json!(["x", null, 2, "2"])), [("2".into(), 2), ("x".into(), 1)]);
        let tokens: [&[u8]; 5] = [b"\"b\"", b"\" a\"", b"\"a\"", b"\"\\u0062\"", b"\"c\""];
        let of_tokens = votes_of_tokens(&tokens, 2).unwrap().unwrap();
        assert_eq!(of_tokens, [("b".into(), 2), ("a".into(), 2), ("c".into(), 1)]);
        assert_eq!(votes_of_tokens(&tokens, 3).unwrap(), votes(vec!["a".into(), "b".into(), "a".into()], 3));
        assert_eq!(votes_of_tokens(&[b"\"a\"", b"\" \""], 1), None);
    }

    #[test]
    fn elements_without_a_text_are_left_out_and_told() {
        let cells = [json!(null), json!(""), json!(" \n"), json!(["x"]), json!({"x": 1}), json!(true)];
        for cell in cells {
            let mut left_out = Vec::new();
            assert_eq!(texts_of(json!(["a", cell, "b"]), &mut left_out).unwrap(), ["a", "b"]);
            assert_eq!(left_out.len(), 1, "{cell}");
            let options = options(json!(["a", cell, "b"]), &json!(2), false, &mut left_out).unwrap();
            assert_eq!(options, Options { texts: vec!["a".into(), String::new(), "b".into()], right: 2 });
            assert_eq!(left_out.len(), 2, "{cell}");
            let turns = json!([["a", "b"], ["c", cell], ["d", "e"]]);
            let turns = super::turns(turns, &mut left_out, &mut Vec::new()).unwrap();
            assert_eq!(turns, [("a".to_owned(), "b".to_owned())]);
            assert_eq!(left_out.len(), 3, "{cell}");
        }
    }

    #[test]
    fn keys_meet_however_they_are_written() {
        for key in [json!(9), json!("9"), json!(9.0), json!(" 9 ")] {
            assert_eq!(key_text(&key).as_deref(), Some("9"), "{key}");
        }
        assert_eq!(key_text(&json!(9.5)).as_deref(), Some("9.5"));
        assert_eq!(key_text(&json!(u64::MAX)), Some(u64::MAX.to_string()));
        for none in [json!(null), json!(""), json!(" "), json!([9]), json!(true), json!({})] {
            assert_eq!(key_text(&none), None, "{none}");
        }
    }

    fn picture(value: Value) -> Result<Media, String> {
        super::picture(value, &PictureFolder::default())
    }

    fn pictures(value: Value) -> Result<Media, String> {
        super::pictures(value, &PictureFolder::default())
    }

    #[test]
    fn one_path_may_be_a_text_and_none_may_leave_the_folder() {
        assert_eq!(pictures(json!("a.jpg")).unwrap().images, ["a.jpg"]);
        assert_eq!(pictures(json!(["a.jpg", "b.jpg"])).unwrap().images.len(), 2);
        assert!(pictures(json!("../a.jpg")).unwrap_err().contains("leads out of the image folder"));
        assert!(pictures(json!([])).unwrap_err().contains("empty list"));
        assert!(pictures(json!(["a.jpg", "b.MP4"])).unwrap_err().contains("use media.video for it"));
        assert_eq!(path(json!("b.MP4"), &PictureFolder::default()).unwrap(), "b.MP4");
    }

    #[test]
    fn pictures_may_be_bytes_in_base64() {
        let gif = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
        let own = pictures(json!([gif, {"bytes": gif, "path": "a.gif"}, {"bytes": null, "path": "b.gif"}])).unwrap();
        assert_eq!((&own.images[0], own.images[2].as_str(), own.embedded.len()), (&own.images[1], "b.gif", 1));
        assert_eq!(own.embedded[&own.images[0]].len(), 42);
        let of_url = picture(json!(format!("data:image/gif;base64,{gif}"))).unwrap();
        assert_eq!(of_url.images, own.images[..1]);
        assert!(picture(json!({"bytes": "*"})).unwrap_err().contains("is not base64"));
        assert!(picture(json!({"bytes": null, "path": null})).unwrap_err().contains("neither bytes nor a path"));
        assert!(picture(json!({"url": "x"})).unwrap_err().contains("must be a text"));
    }
}
