//! The filters of expressions in addition to minijinja's own. A filter is one function here and one
//! line in [`FILTERS`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use regex::Regex;

use crate::boxes::{self, BOXES_OF_RECORD, BoxesOfRecord, NativeBox};
use crate::sentence::is_ended;
use crate::value::value_of;
use lynxdata_prompts::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};

type Outcome<T> = Result<T, Error>;

/// Adds a filter to an environment.
type Add = fn(&mut Environment<'static>);

/// Every filter by name. `README.md` describes them.
pub(crate) const FILTERS: &[(&str, Add)] = &[
    ("as_list", |own| own.add_filter("as_list", as_list)),
    ("as_sentence", |own| own.add_filter("as_sentence", as_sentence)),
    ("before_last", |own| own.add_filter("before_last", before_last)),
    ("box", |own| own.add_filter("box", box_text)),
    ("content_media", |own| own.add_filter("content_media", content_media)),
    ("content_text", |own| own.add_filter("content_text", content_text)),
    ("contents_media", |own| own.add_filter("contents_media", contents_media)),
    ("descend", |own| own.add_filter("descend", descend)),
    ("detokenise", |own| own.add_filter("detokenise", detokenise)),
    ("file_name", |own| own.add_filter("file_name", file_name)),
    ("findall", |own| own.add_filter("findall", findall)),
    ("flatten", |own| own.add_filter("flatten", flatten)),
    ("from_json", |own| own.add_filter("from_json", from_json)),
    ("from_python", |own| own.add_filter("from_python", from_python)),
    ("join_sentences", |own| own.add_filter("join_sentences", join_sentences)),
    ("majority", |own| own.add_filter("majority", majority)),
    ("normalise_answer", |own| own.add_filter("normalise_answer", normalise_answer)),
    ("numbered", |own| own.add_filter("numbered", numbered)),
    ("parent", |own| own.add_filter("parent", parent)),
    ("pick", |own| own.add_filter("pick", pick)),
    ("position", |own| own.add_filter("position", position)),
    ("question_mark", |own| own.add_filter("question_mark", or_as_it_is)),
    ("references", |own| own.add_filter("references", references)),
    ("seconds", |own| own.add_filter("seconds", seconds)),
    ("sort_by_number", |own| own.add_filter("sort_by_number", sort_by_number)),
    ("stem", |own| own.add_filter("stem", stem)),
    ("sub", |own| own.add_filter("sub", sub)),
    ("values_of", |own| own.add_filter("values_of", values_of)),
];

fn fault(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

fn elements(list: &Value) -> Outcome<Vec<Value>> {
    list.try_iter()?.checked().collect()
}

/// Returns a text or number as text. A missing value or any other type is an error.
fn text(value: &Value) -> Outcome<String> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => Ok(value.to_string()),
        ValueKind::Undefined => Err(Error::new(ErrorKind::UndefinedError, "a text is missing or null")),
        _ => Err(fault(format!("{value} is not a text"))),
    }
}

/// `object | as_list`: a list unchanged, a missing value as an empty list, and any other value as a
/// list of one. In XML, a list of one element looks like a single element.
fn as_list(value: Value) -> Value {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Value::from(Vec::<Value>::new()),
        ValueKind::Seq => value,
        _ => Value::from(vec![value]),
    }
}

/// `'a red bus' | as_sentence` is `A red bus.`: a capital letter at the start and a mark at the
/// end. A single first letter other than `a` or `i`, such as the name of a function, stays
/// unchanged.
fn as_sentence(text: &str) -> String {
    let text = text.trim();
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().collect();
    let rest = characters.as_str();
    let is_symbol = first != "a" && first != "i" && rest.starts_with([' ', '(', '=']);
    let first = if is_symbol { first } else { first.to_uppercase() };
    let stop = if text.is_empty() || is_ended(text) { "" } else { "." };
    format!("{first}{rest}{stop}")
}

/// `'american_bulldog_100' | before_last('_')` is `american_bulldog`: the text before the last
/// separator, or an error if there is none.
fn before_last(text: &str, separator: &str) -> Outcome<String> {
    let before = text.rsplit_once(separator).map(|(before, _)| before.to_owned());
    before.ok_or_else(|| fault(format!("there is no {separator:?} in {text:?}")))
}

/// `[10, 20, 30, 40] | box('xywh', 100, 200)` is `[0.100, 0.100, 0.400, 0.300]`: the left, upper,
/// right and lower edge as fractions of width and height, with three decimals. The conventions are
/// `xywh` (a corner and the size, as in COCO), `xyxy` (two corners, as in VOC), `yxyx` (as in
/// TensorFlow) and `cxcywh` (the centre and the size, as in YOLO). Without width and height, the
/// numbers must already be fractions. Instead of a list, the input may be an object with the
/// numbers under their usual names. The numbers are added to the record, see [`BoxesOfRecord`].
#[expect(clippy::needless_pass_by_value, reason = "minijinja passes the rest of the arguments by value")]
fn box_text(state: &State, native: &Value, convention: &str, size: Rest<Value>) -> Outcome<String> {
    let numbers = boxes::numbers(native, convention).map_err(fault)?;
    let size = match &size[..] {
        [] => None,
        [width, height] => Some((boxes::number(width).map_err(fault)?, boxes::number(height).map_err(fault)?)),
        _ => return Err(fault("a box needs both width and height, or neither")),
    };
    let native = NativeBox::of(numbers, convention, size).map_err(fault)?;
    let text = native.text.clone();
    let of_record = state.lookup(BOXES_OF_RECORD);
    if let Some(of_record) = of_record.as_ref().and_then(|own| own.downcast_object_ref::<BoxesOfRecord>()) {
        of_record.add(native);
    }
    Ok(text)
}

/// The kinds of media that are parts of messages, and their tokens.
const KINDS_OF_PARTS: [(&str, &str); 2] = [("image", IMAGE_TOKEN), ("video", VIDEO_TOKEN)];

/// Returns the value under the first of several names; undefined if there is none.
fn named(part: &Value, names: &[&str]) -> Outcome<Value> {
    for name in names {
        let value = part.get_attr(name)?;
        if !value.is_undefined() && !value.is_none() {
            return Ok(value);
        }
    }
    Ok(Value::UNDEFINED)
}

/// Returns the kind of media of a part of a message; `None` for a text. The types are those of
/// OpenAI's chat completions and responses (`image_url`, `input_image`) and of the chat templates
/// of `transformers` (`image`, `video`). LLaMA-Factory writes both with their content in `value`.
fn kind_of_part(part: &Value) -> Outcome<Option<(&'static str, &'static str)>> {
    let of_type = part.get_attr("type")?;
    match of_type.as_str().unwrap_or_default() {
        "text" | "input_text" | "output_text" => Ok(None),
        own => match KINDS_OF_PARTS.iter().find(|(kind, _)| own.trim_start_matches("input_").starts_with(kind)) {
            Some(kind) => Ok(Some(*kind)),
            None => Err(fault(format!("a part of a message has the type {own:?}, not text, image or video"))),
        },
    }
}

/// `message.content | content_text`: the text of a message whose content may be a list of parts.
/// `<image>` and `<video>` replace the other parts, and any other value is unchanged. A line break
/// separates them from white space of a text beside them, which is a part of the text.
fn content_text(content: Value) -> Outcome<Value> {
    if content.kind() != ValueKind::Seq {
        return Ok(content);
    }
    let (mut joined, mut is_after_token) = (String::new(), false);
    for part in elements(&content)? {
        let token = if part.kind() == ValueKind::String { None } else { kind_of_part(&part)? };
        if let Some((_, token)) = token {
            if !is_after_token && joined.ends_with(char::is_whitespace) {
                joined.push('\n');
            }
            joined.push_str(token);
            is_after_token = true;
            continue;
        }
        let written = if part.kind() == ValueKind::String { part } else { named(&part, &["text", "value"])? };
        let written = text(&written)?;
        if is_after_token && written.starts_with(char::is_whitespace) {
            joined.push('\n');
        }
        is_after_token &= written.is_empty();
        joined.push_str(&written);
    }
    Ok(Value::from(joined))
}

/// `contents | contents_media('image', listed)`: the images or videos of messages in the order of
/// their places. A part names its own. A part without a name and a token in a text stand for the
/// next one of `listed`. Listed ones without a place come last.
fn contents_media(contents: &Value, kind: &str, listed: &Value) -> Outcome<Value> {
    let mut listed = elements(listed)?.into_iter();
    let Some((kind, token)) = KINDS_OF_PARTS.into_iter().find(|(own, _)| *own == kind) else {
        return Err(fault(format!("{kind:?} is neither image nor video")));
    };
    let mut found = Vec::new();
    for content in elements(contents)? {
        let parts = if content.kind() == ValueKind::Seq { elements(&content)? } else { vec![content] };
        for part in parts {
            let is_part = part.kind() == ValueKind::Map;
            let places = match is_part.then(|| kind_of_part(&part)).transpose()?.flatten() {
                Some((own, _)) if own == kind => match media_of_part(&part, kind)? {
                    Some(media) => {
                        found.push(media);
                        0
                    }
                    None => 1,
                },
                Some(_) => 0,
                None => {
                    let written = if is_part { named(&part, &["text", "value"])? } else { part };
                    written.as_str().map_or(0, |text| text.matches(token).count())
                }
            };
            found.extend(listed.by_ref().take(places));
        }
    }
    found.extend(listed);
    Ok(Value::from(found))
}

/// Returns the image or video that a part of a message names.
fn media_of_part(part: &Value, kind: &str) -> Outcome<Option<Value>> {
    let media = named(part, &[&format!("{kind}_url"), kind, "path", "url", "value"])?;
    let media = if media.kind() == ValueKind::Map { named(&media, &["url"])? } else { media };
    Ok((!media.is_undefined()).then_some(media))
}

/// `message.content | content_media('image')`: the images or videos that parts of a message name.
/// A part without a name refers to a list of the row.
fn content_media(content: &Value, kind: &str) -> Outcome<Value> {
    let mut found = Vec::new();
    if content.kind() != ValueKind::Seq {
        return Ok(Value::from(found));
    }
    for part in elements(content)?.into_iter().filter(|part| part.kind() == ValueKind::Map) {
        if kind_of_part(&part)?.is_none_or(|(own, _)| own != kind) {
            continue;
        }
        found.extend(media_of_part(&part, kind)?);
    }
    Ok(Value::from(found))
}

/// `tree | descend('children', [1, 0])` is `tree.children[1].children[0]`: the node of a tree at a
/// path of indexes, from 0, through the lists of one key. An index may be a number as text.
fn descend(tree: &Value, key: &str, path: &Value) -> Outcome<Value> {
    let mut node = tree.clone();
    for place in elements(path)? {
        let number = text(&place)?.trim().parse::<usize>().ok();
        let below = node.get_attr(key)?;
        let next = number.filter(|number| *number < below.len().unwrap_or(0));
        node = match next {
            Some(number) => below.get_item_by_index(number)?,
            None => return Err(fault(format!("there is no element {place} in `{key}` on the path {path}"))),
        };
    }
    Ok(node)
}

/// `"a dog 's bowl , isn 't it ?" | detokenise` is `a dog's bowl, isn't it?`: the spaces that the
/// Penn Treebank tokenizer puts before punctuation and endings are removed. CC3M and Flickr30k are
/// tokenised like this.
fn detokenise(text: &str) -> String {
    const ENDINGS: [&str; 8] = ["n't", "'t", "'s", "'m", "'d", "'re", "'ve", "'ll"];
    let is_attached = |word: &str| {
        let is_mark = word.chars().all(|character| ".,;:!?%)".contains(character));
        is_mark || ENDINGS.contains(&word.to_ascii_lowercase().as_str())
    };
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !joined.is_empty() && !is_attached(word) && !joined.ends_with('(') {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// `'a/b.tar.gz' | file_name` is `b.tar.gz`.
fn file_name(path: &str) -> String {
    path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned()
}

/// `'a/b.jpg' | stem` is `b`: the file name without its last extension.
fn stem(path: &str) -> String {
    let name = file_name(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name,
    }
}

/// `'a/b/c.jpg' | parent` is `a/b`; a path without a folder is an error.
fn parent(path: &str) -> Outcome<String> {
    path.rsplit_once('/')
        .map(|(folder, _)| folder.to_owned())
        .ok_or_else(|| fault(format!("there is no folder in {path:?}")))
}

/// Runs `take` with a compiled regular expression, which is cached for the next row.
fn with_regex<T>(pattern: &str, take: impl FnOnce(&Regex) -> T) -> Outcome<T> {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if !compiled.contains_key(pattern) {
            let regex = Regex::new(pattern).map_err(|reason| fault(reason.to_string()))?;
            compiled.insert(pattern.to_owned(), regex);
        }
        Ok(take(&compiled[pattern]))
    })
}

/// `text | sub('\\s+', ' ')`: every match replaced; `$1` in the replacement is the first group.
fn sub(text: &str, pattern: &str, replacement: &str) -> Outcome<String> {
    with_regex(pattern, |regex| regex.replace_all(text, replacement).into_owned())
}

/// `text | findall('[0-9]+')`: a list of all matches. With one group in the pattern, a list of what
/// the group matched; with several, a list of lists of that, as Python's `re.findall` returns.
fn findall(text: &str, pattern: &str) -> Outcome<Value> {
    with_regex(pattern, |regex| {
        let of_match = |found: regex::Captures| {
            let group = |place: usize| Value::from(found.get(place).map_or("", |found| found.as_str()));
            match found.len() {
                1 => group(0),
                2 => group(1),
                groups => (1..groups).map(group).collect(),
            }
        };
        regex.captures_iter(text).map(of_match).collect()
    })
}

/// `[[1, 2], [3]] | flatten` is `[1, 2, 3]`; elements that are not lists stay.
fn flatten(list: &Value) -> Outcome<Value> {
    let mut flat = Vec::new();
    for element in elements(list)? {
        if element.kind() == ValueKind::Seq { flat.extend(elements(&element)?) } else { flat.push(element) }
    }
    Ok(Value::from(flat))
}

/// `messages | values_of('loss', 'weight')`: the values that objects of a list have under several
/// names. Missing values are left out.
#[expect(clippy::needless_pass_by_value, reason = "minijinja passes the rest of the arguments by value")]
fn values_of(list: &Value, names: Rest<String>) -> Outcome<Value> {
    let mut found = Vec::new();
    for object in elements(list)?.into_iter().filter(|object| object.kind() == ValueKind::Map) {
        for name in names.iter() {
            found.push(object.get_attr(name)?);
        }
    }
    found.retain(|value| !value.is_undefined() && !value.is_none());
    Ok(Value::from(found))
}

/// `'{"a": 1}' | from_json`: the value that a text holds as JSON.
fn from_json(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).map(value_of).map_err(|reason| fault(format!("{text:?} is not JSON: {reason}")))
}

/// `"['a', None]" | from_python`: the value that a text holds as a Python literal.
fn from_python(text: &str) -> Outcome<Value> {
    crate::rows::python::parse(text)
        .map(value_of)
        .map_err(|reason| fault(format!("{text:?} is not a Python literal: {reason}")))
}

/// `['One', 'Two.'] | join_sentences` is `One. Two.`: one text, in which every element ends with a
/// punctuation mark.
fn join_sentences(list: &Value) -> Outcome<String> {
    let mut joined = String::new();
    for element in elements(list)? {
        let element = text(&element)?;
        let sentence = element.trim();
        if sentence.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(sentence);
        if !is_ended(sentence) {
            joined.push('.');
        }
    }
    Ok(joined)
}

/// `answers | map(attribute='answer') | majority`: the most frequent text; on a tie, the first one.
/// VQA's `multiple_choice_answer` is the most frequent of the ten answers. Missing or blank values
/// and values other than texts and numbers do not count.
fn majority(texts: &Value) -> Outcome<String> {
    let mut votes = Vec::new();
    for text in elements(texts)? {
        if matches!(text.kind(), ValueKind::String | ValueKind::Number) {
            votes.push(text.to_string());
        }
    }
    votes.retain(|text| !text.trim().is_empty());
    let count = |text: &String| votes.iter().filter(|other| *other == text).count();
    // Of equal maxima `max_by_key` takes the last, hence the reversal.
    let most = votes.iter().rev().max_by_key(|text| count(text)).cloned();
    most.ok_or_else(|| fault("a list without a text has no majority"))
}

/// `' A Dog. ' | normalise_answer` is `a dog`: lower case, one space between words, no punctuation
/// at the end.
fn normalise_answer(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lower = words.join(" ").to_lowercase();
    lower.trim_end_matches(['.', ',', ';', ':', '!', '?']).trim_end().to_owned()
}

/// `['a', 'b'] | numbered` is `['1. a', '2. b']`.
fn numbered(list: &Value) -> Outcome<Vec<String>> {
    elements(list)?.iter().enumerate().map(|(place, own)| Ok(format!("{}. {}", place + 1, text(own)?))).collect()
}

/// `3 | pick(answers)`: the element of a list at an index, from 0. A missing index gives a missing
/// element. With `map('pick', answers)`, a list of indexes becomes a list of texts.
fn pick(place: &Value, list: &Value) -> Outcome<Value> {
    if place.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    let length = list.len().unwrap_or(0);
    let found = place.as_usize().filter(|place| *place < length);
    let found = found.and_then(|place| list.get_item_by_index(place).ok());
    found.ok_or_else(|| fault(format!("there is no element {place} in a list of {length}")))
}

/// `'b' | position(['a', 'b'])` is 1: the index of a value in a list, from 0; an error if it is not
/// in the list.
fn position(value: &Value, list: &Value) -> Outcome<usize> {
    let elements = elements(list)?;
    let place = elements.iter().position(|element| element == value);
    place.ok_or_else(|| fault(format!("{value:?} is not in {list}")))
}

fn or_as_it_is(value: Value) -> Value {
    value.as_str().map(|text| question_mark(text.into()).into_owned().into()).unwrap_or(value)
}

/// Removes white space at both ends.
pub(crate) fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) if text.trim().len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

/// Adds the missing `?` of a question, as the Lynx paper does (arXiv 2307.02469, notes to table
/// 10). Text that ends a sentence, in any script, stays unchanged; so does a text with a line that
/// ends with `?`, such as a question followed by its options.
pub(crate) fn question_mark(text: Cow<'_, str>) -> Cow<'_, str> {
    let text = trimmed(text);
    let asks = || text.lines().any(|line| line.trim_end().ends_with('?'));
    if text.is_empty() || is_ended(&text) || asks() { text } else { Cow::Owned(text.into_owned() + "?") }
}

/// `['Is', [2], 'glad', '?'] | references(['car', 'dog', 'person'])` is `Is [person 3] glad?`: the
/// token lists of VCR, in which lists of numbers, from 0, refer to detected objects. Numbers are
/// shown from 1, as on the web pages of VCR.
fn references(tokens: &Value, objects: &Value) -> Outcome<String> {
    let objects = elements(objects)?;
    let name = |place: &Value| -> Outcome<String> {
        let found = place.as_usize().and_then(|place| Some((place, objects.get(place)?)));
        let (place, object) =
            found.ok_or_else(|| fault(format!("there is no object {place} in a list of {}", objects.len())))?;
        Ok(format!("[{} {}]", text(object)?, place + 1))
    };
    let mut joined = String::new();
    for token in elements(tokens)? {
        let word = if token.kind() == ValueKind::Seq {
            elements(&token)?.iter().map(name).collect::<Outcome<Vec<_>>>()?.join(" and ")
        } else {
            text(&token)?
        };
        let is_attached = word.starts_with(['.', ',', '?', '!', ';', ':', '\'', '’']) || word == "n't";
        if !joined.is_empty() && !is_attached {
            joined.push(' ');
        }
        joined.push_str(&word);
    }
    Ok(joined)
}

/// `'1:02.5' | seconds` is 62.5: a time as hours, minutes and seconds, separated by colons.
fn seconds(time: &str) -> Outcome<f64> {
    let mut total = 0.0;
    for part in time.trim().split(':') {
        let part: f64 = part.parse().map_err(|_| fault(format!("{time:?} is not a time such as 1:02.5")))?;
        total = total * 60.0 + part;
    }
    Ok(total)
}

/// `['b10', 'b9'] | sort_by_number` is `['b9', 'b10']`: texts in the order of the numbers in them.
fn sort_by_number(list: &Value) -> Outcome<Value> {
    let key = |value: &Value| -> Outcome<Vec<(String, u64)>> {
        let text = text(value)?;
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (words, from) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
            let (digits, after) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
            parts.push((words.to_owned(), digits.parse().unwrap_or(u64::MAX)));
            rest = after;
        }
        Ok(parts)
    };
    let keyed = elements(list)?.into_iter().map(|own| Ok((key(&own)?, own))).collect::<Outcome<Vec<_>>>();
    let mut keyed = keyed?;
    keyed.sort_by(|(first, _), (second, _)| first.cmp(second));
    Ok(keyed.into_iter().map(|(_, own)| own).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::Expression;

    fn run(source: &str) -> Result<serde_json::Value, String> {
        Expression::compile(source, &[])?.evaluate_json(&Value::from(()))
    }

    #[test]
    fn every_filter_does_what_it_says() {
        let cases = [
            ("'x' | as_list", json!(["x"])),
            ("['x'] | as_list", json!(["x"])),
            ("{}.x | as_list", json!([])),
            ("'a red bus' | as_sentence", json!("A red bus.")),
            ("'Is it?' | as_sentence", json!("Is it?")),
            ("'g(x) is even' | as_sentence", json!("g(x) is even.")),
            ("'i see m' | as_sentence", json!("I see m.")),
            ("'a_b_1' | before_last('_')", json!("a_b")),
            ("[10, 20, 30, 40] | box('xywh', 100, 200)", json!("[0.100, 0.100, 0.400, 0.300]")),
            ("[10, 20, 30, 40] | box('xyxy', 100, 200)", json!("[0.100, 0.100, 0.300, 0.200]")),
            ("['0.1', '0.2', '0.3', '0.4'] | box('yxyx')", json!("[0.200, 0.100, 0.400, 0.300]")),
            ("[0.5, 0.5, 1, 1.2] | box('cxcywh')", json!("[0.000, 0.000, 1.000, 1.000]")),
            ("[-0.0, -0.0, 10, 10] | box('xywh', '100', 100)", json!("[0.000, 0.000, 0.100, 0.100]")),
            ("{'x': 10, 'y': 20, 'width': 30, 'h': 40} | box('xywh', 100, 200)", json!("[0.100, 0.100, 0.400, 0.300]")),
            (
                "[{'xmin': '0.1', 'ymin': 0, 'xmax': 0.2, 'ymax': 1}] | map('box', 'xyxy') | first",
                json!("[0.100, 0.000, 0.200, 1.000]"),
            ),
            ("'<image>a' | content_text", json!("<image>a")),
            (
                "[{'type': 'image_url', 'image_url': {'url': 'a.jpg'}}, {'type': 'text', 'text': 'What?'}] | content_text",
                json!("<image>What?"),
            ),
            (
                "[{'type': 'image_url', 'image_url': {'url': 'a.jpg'}}, {'type': 'input_image', 'image_url': 'b.jpg'}, \
                 {'type': 'image', 'image': 'c.jpg'}, {'type': 'image'}, {'type': 'image_url', 'value': 'e.jpg'}, {'type': 'video', 'video': 'd.mp4'}, \
                 {'type': 'text', 'text': 'x'}] | content_media('image')",
                json!(["a.jpg", "b.jpg", "c.jpg", "e.jpg"]),
            ),
            ("'a' | content_media('video')", json!([])),
            (
                "[{'type': 'text', 'text': ' a '}, {'type': 'image'}, {'type': 'text', 'text': '\t b'}] | content_text",
                json!(" a \n<image>\n\t b"),
            ),
            (
                "['<image>a', [{'type': 'image', 'image': 'n'}, {'type': 'image'}, {'type': 'text', 'text': '<image>'}, \
                 {'type': 'video'}], none] | contents_media('image', ['x', 'y', 'z', 'rest'])",
                json!(["x", "n", "y", "z", "rest"]),
            ),
            ("{'at': [{'at': [1, 2]}, 3]} | descend('at', [0, '1'])", json!(2)),
            ("3 | descend('at', [])", json!(3)),
            ("'a/b.tar.gz' | file_name", json!("b.tar.gz")),
            ("'a/b.jpg' | stem", json!("b")),
            ("'.hidden' | stem", json!(".hidden")),
            ("'a/b/c.jpg' | parent", json!("a/b")),
            ("'a  b' | sub('\\\\s+', ' ')", json!("a b")),
            ("'[/EN#1/people A girl]' | sub('\\\\[/EN#[^ ]* ([^]]*)\\\\]', '$1')", json!("A girl")),
            ("'a1b22' | findall('[0-9]+')", json!(["1", "22"])),
            ("'a1b2' | findall('([a-z])([0-9])')", json!([["a", "1"], ["b", "2"]])),
            ("'a1b2' | findall('[a-z]([0-9])')", json!(["1", "2"])),
            ("[[1, 2], 3] | flatten", json!([1, 2, 3])),
            ("'[1, {\"a\": null}]' | from_json", json!([1, {"a": null}])),
            ("\"['a', None, (1, 2.5)]\" | from_python", json!(["a", null, [1, 2.5]])),
            ("['One', ' Two. ', ''] | join_sentences", json!("One. Two.")),
            ("['net', 'netting', 'net'] | majority", json!("net")),
            ("' A  Dog. ' | normalise_answer", json!("a dog")),
            (
                "\"a dog 's bowl ( red ) , isn 't it ? 5 % of .net !\" | detokenise",
                json!("a dog's bowl (red), isn't it? 5% of .net!"),
            ),
            ("['a', 'b'] | numbered", json!(["1. a", "2. b"])),
            ("1 | pick(['a', 'b'])", json!("b")),
            ("'b' | position(['a', 'b'])", json!(1)),
            ("'is it' | question_mark", json!("is it?")),
            (
                "['Is', [2, 0], 'glad', ',', 'or', [1], \"'s\", '?'] | references(['car', 'dog', 'person'])",
                json!("Is [person 3] and [car 1] glad, or [dog 2]'s?"),
            ),
            ("'1:02.5' | seconds", json!(62.5)),
            ("['b10', 'b9', 'a'] | sort_by_number", json!(["a", "b9", "b10"])),
            ("[{'a': 1, 'b': none}, {'b': 2}, 'a'] | values_of('a', 'b')", json!([1, 2])),
        ];
        for (source, expected) in &cases {
            assert_eq!(run(source).as_ref(), Ok(expected), "{source}");
        }
        for (name, _) in FILTERS {
            assert!(cases.iter().any(|(source, _)| source.contains(&format!("| {name}"))), "{name} has no case");
        }
    }

    #[test]
    fn faults_say_what_was_wrong() {
        let cases = [
            ("[1, 2, 3] | box('xywh')", "a box has 4 numbers, not 3"),
            ("'1234' | box('xywh')", "'1234' is not a list of the 4 numbers of a box"),
            ("[1, 2, 3, 4] | box('xywh', {}.width, {}.height)", "a number of the box is missing or null"),
            ("[1, 2, 'x', 4] | box('xywh')", "'x' is not a number of a box"),
            ("[1, 2, 3, 4] | box('xyz')", "not one of xywh"),
            ("{'x': 1, 'y': 2, 'w': 3} | box('xywh')", "has no h or height"),
            ("{'x': 1} | box('yxyx')", "an object cannot be a box in the convention"),
            ("[{'type': 'input_audio'}] | content_text", "has the type \"input_audio\", not text, image or video"),
            ("{'at': [1]} | descend('at', [1])", "there is no element 1 in `at` on the path [1]"),
            ("{'at': [1]} | descend('to', [0])", "there is no element 0 in `to`"),
            ("[1, 2, 0, 4] | box('xywh', 10, 10)", "it has no area"),
            ("[13, 2, 1, 4] | box('xywh', 10, 10)", "more than 25 % of a side beyond the image of 10 x 10"),
            ("[10.5, 2, 0.1, 4] | box('xywh', 10, 10)", "it has no area"),
            ("[0, 45, 0.5, 60] | box('xyxy')", "its numbers may be in other units"),
            ("[-0.5, 0, 1, 1] | box('xyxy')", "more than 25 % of a side beyond the image of 1 x 1"),
            ("[0.1, 0.2, 0.1002, 0.9] | box('xyxy')", "vanishes at three decimals"),
            ("[0.1, 0.2, 0.3, 0.4] | box('xywh', 640, 480)", "a side below half a pixel"),
            ("[1, 2, 3, 4] | box('xywh', 10)", "both width and height"),
            ("'c' | position(['a', 'b'])", "'c' is not in ['a', 'b']"),
            ("[[3]] | references(['a'])", "there is no object 3 in a list of 1"),
            ("'a.jpg' | parent", "there is no folder"),
            ("'x' | seconds", "is not a time"),
            ("[] | contents_media('sound', [])", "\"sound\" is neither image nor video"),
            ("'[' | from_python", "not a Python literal"),
            ("'ab' | before_last('_')", "there is no \"_\""),
        ];
        for (source, expected) in cases {
            let found = run(source).unwrap_err();
            assert!(found.contains(expected), "{source}: {found}");
        }
    }

    #[test]
    fn only_missing_question_marks_are_added() {
        assert_eq!(question_mark(" is it sunny ".into()), "is it sunny?");
        for text in ["Is it?", "Name it.", "Is it \"real?\"", "", "Which is older? \n- oak - acorn"] {
            assert_eq!(question_mark(text.into()), text);
        }
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(FILTERS.is_sorted_by_key(|(name, _)| name));
    }
}
