//! A common form for records of all formats: turns and images.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lynxdata_records::python_json::{Refused, parse_and_tell};
use serde_json::{Map, Value};

use crate::fault::{Fault, Reason};

/// The placeholder of an image in texts of LLaVA, LLaMA-Factory and ms-swift.
pub(crate) const IMAGE: &str = "<image>";
/// The placeholder of a video.
const VIDEO: &str = "<video>";

/// The fields of turns. A record has at least one of them.
pub(crate) const TURNS: &[&str] = &["messages", "conversations", "texts", "instruction"];

/// The role of a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the conversation.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// An unknown name.
    Unknown(String),
}

/// The names of roles in LLaVA, ShareGPT, OpenAI's messages and ms-swift. Calls and outputs of
/// tools are unknown on purpose: templates write them in ways of their own.
const ROLES: &[(&str, Role)] = &[
    ("human", Role::User),
    ("user", Role::User),
    ("gpt", Role::Assistant),
    ("assistant", Role::Assistant),
    ("system", Role::System),
    ("bing", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bard", Role::Assistant),
    ("model", Role::Assistant),
];

impl Role {
    /// Returns the role for its name in any of the formats.
    pub fn named(name: &str) -> Role {
        let found = ROLES.iter().find(|(known, _)| *known == name);
        found.map_or_else(|| Role::Unknown(name.to_owned()), |(_, role)| role.clone())
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The speaker.
    pub role: Role,
    /// The text, with placeholders.
    pub text: String,
}

/// An image of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The path or URL.
    pub path: Option<String>,
    /// The bytes of the file, if the record contains them.
    pub bytes: Option<Vec<u8>>,
    /// Width and height in pixels, if the record gives them.
    pub declared: Option<(u32, u32)>,
}

impl Picture {
    /// Returns the image at a path or URL. A data URL (RFC 2397) is the image itself; if its base64
    /// is damaged, it is an image of no bytes.
    fn of(path: Option<String>) -> Picture {
        let data = path.as_deref().and_then(|path| path.strip_prefix("data:")?.split_once(";base64,"));
        match data {
            Some((_, base64)) => {
                let bytes = STANDARD.decode(base64.trim()).unwrap_or_default();
                Picture { bytes: Some(bytes), ..Picture::default() }
            }
            None => Picture { path, ..Picture::default() },
        }
    }
}

/// The metadata of one question of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its wording: `bank/template` in our exports, the instruction in M3IT.
    pub wording: Option<String>,
    /// The index of the right option in the order shown, from 0, and the number of options.
    pub right_option: Option<(u32, u32)>,
}

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: Option<String>,
    /// Its task or dataset.
    pub task: Option<String>,
    /// The metadata of its first questions, at most one per question.
    pub asked: Vec<Asked>,
    /// The turns.
    pub turns: Vec<Turn>,
    /// The images, in order.
    pub pictures: Vec<Picture>,
    /// The number of its videos; they are not checked.
    pub videos: usize,
    /// Whether the format places images before the first text, without placeholders.
    pub is_placed_by_format: bool,
    /// The reason why Python or a tokenizer refuses its JSON, although it was read here.
    pub refused: Option<Fault>,
}

impl Conversation {
    /// Parses the JSON of a record, including the JSON that Python writes; see [`Self::from_json`].
    ///
    /// # Errors
    /// If it is not JSON or not a record.
    pub fn parse(json: &[u8]) -> Result<Conversation, Fault> {
        let (record, refused) = parse_json(json)?;
        Ok(Conversation { refused, ..Conversation::from_json(record)? })
    }

    /// Reads a record of LLaVA, ShareGPT, messages, ms-swift, The Cauldron, M3IT, Alpaca or our own
    /// JSON Lines.
    ///
    /// # Errors
    /// If it is not an object or has no turns.
    pub fn from_json(mut record: Value) -> Result<Conversation, Fault> {
        let Value::Object(fields) = &mut record else {
            return Err(Fault::new(
                Reason::Unreadable,
                format!("a record must be an object, not {}", shortened(&record)),
            ));
        };
        let task = ["task", "dataset", "dataset_name", "source"].iter().find_map(|name| fields.get(*name)?.as_str());
        let mut own = Conversation {
            id: fields.get("id").and_then(text_of),
            task: task.map(str::to_owned),
            asked: asked(fields),
            ..Conversation::default()
        };
        if let Some(system) = fields.get("system").and_then(Value::as_str).filter(|text| !text.is_empty()) {
            own.turns.push(Turn { role: Role::System, text: system.to_owned() });
        }
        for name in ["image", "images"] {
            if let Some(pictures) = fields.get(name) {
                own.take_pictures(pictures);
            }
        }
        for name in ["video", "videos"] {
            own.videos += match fields.get(name) {
                None | Some(Value::Null) => 0,
                Some(Value::Array(videos)) => videos.len(),
                Some(_) => 1,
            };
        }
        if let Some(Value::Array(pictures)) = fields.get("image_base64_str") {
            let decoded = |picture: &Value| STANDARD.decode(picture.as_str()?).ok();
            own.pictures
                .extend(pictures.iter().map(|picture| Picture { bytes: decoded(picture), ..Picture::default() }));
            own.is_placed_by_format = true;
        }
        own.take_declared(fields.get("width"), fields.get("height"));
        let mut taken = |name: &&str| fields.remove(*name).filter(|value| !value.is_null());
        let turns = ["messages", "conversations", "texts"].iter().find_map(&mut taken);
        if turns.is_none() && own.take_instruction(fields) {
            return Ok(own);
        }
        let Some(Value::Array(turns)) = turns else {
            let known: Vec<&str> = fields.keys().map(String::as_str).take(12).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            let detail = format!("none of messages, conversations and texts is a list; there is {known}");
            return Err(Fault::new(Reason::NoConversation, detail));
        };
        for turn in turns {
            own.take_turn(turn)?;
        }
        let has_placeholder = own.turns.iter().any(|turn| turn.text.contains(IMAGE));
        own.is_placed_by_format &= !has_placeholder;
        Ok(own)
    }

    /// Returns the numbers of placeholders of images and of videos in the prompts, which are all
    /// turns but those of the assistant.
    pub fn placeholders(&self) -> (usize, usize) {
        self.count_placeholders(|role| *role != Role::Assistant)
    }

    /// Returns the numbers of placeholders of images and of videos in the answers, where a trainer
    /// expects none.
    pub fn placeholders_of_answers(&self) -> (usize, usize) {
        self.count_placeholders(|role| *role == Role::Assistant)
    }

    fn count_placeholders(&self, counts: impl Fn(&Role) -> bool) -> (usize, usize) {
        let turns = || self.turns.iter().filter(|turn| counts(&turn.role));
        let count = |mark: &str| turns().map(|turn| turn.text.matches(mark).count()).sum();
        (count(IMAGE), count(VIDEO))
    }

    /// Returns every user text without placeholders, with the answer after it.
    pub fn exchanges(&self) -> impl Iterator<Item = (String, Option<&str>)> {
        let plain = |text: &str| text.replace(IMAGE, " ").replace(VIDEO, " ").trim().to_owned();
        let asked = self.turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::User);
        asked.map(move |(place, turn)| {
            let next = self.turns.get(place + 1).filter(|next| next.role == Role::Assistant);
            (plain(&turn.text), next.map(|answer| answer.text.as_str()))
        })
    }

    /// Adds images: a path, an object with one, or a list of them.
    pub(crate) fn take_pictures(&mut self, pictures: &Value) {
        match pictures {
            Value::Null => {}
            Value::Array(list) => list.iter().for_each(|picture| self.take_pictures(picture)),
            Value::Object(fields) => {
                let path = ["path", "image", "url", "file_name"].iter().find_map(|name| fields.get(*name)?.as_str());
                let side =
                    |name: &str| fields.get(name).and_then(Value::as_u64).and_then(|side| u32::try_from(side).ok());
                let declared = side("width").zip(side("height"));
                self.pictures.push(Picture { declared, ..Picture::of(path.map(str::to_owned)) });
                self.is_placed_by_format = true;
            }
            other => self.pictures.push(Picture::of(text_of(other))),
        }
    }

    /// Reads sizes in separate fields, one number or one per image, as in InternVL's format.
    fn take_declared(&mut self, width: Option<&Value>, height: Option<&Value>) {
        let sides = |value: Option<&Value>| -> Vec<Option<u32>> {
            let side = |value: &Value| value.as_u64().and_then(|side| u32::try_from(side).ok());
            match value {
                Some(Value::Array(list)) => list.iter().map(side).collect(),
                Some(value) => vec![side(value)],
                None => Vec::new(),
            }
        };
        let (widths, heights) = (sides(width), sides(height));
        if widths.len() == self.pictures.len() && heights.len() == self.pictures.len() {
            for (picture, (width, height)) in self.pictures.iter_mut().zip(widths.into_iter().zip(heights)) {
                picture.declared = picture.declared.or(width.zip(height));
            }
        }
    }

    /// Reads the fields of M3IT and Alpaca: an instruction, its input, and the answer. Returns
    /// whether it is such a record.
    fn take_instruction(&mut self, fields: &Map<String, Value>) -> bool {
        let text = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)?.as_str());
        let (Some(instruction), Some(answer)) = (text(&["instruction"]), text(&["outputs", "output"])) else {
            return false;
        };
        let about = text(&["inputs", "input"]).filter(|text| !text.is_empty());
        let asked = about.map_or_else(|| instruction.to_owned(), |about| format!("{instruction}\n{about}"));
        self.turns.push(Turn { role: Role::User, text: asked });
        self.turns.push(Turn { role: Role::Assistant, text: answer.to_owned() });
        self.is_placed_by_format = true;
        if about.is_some() {
            self.asked = vec![Asked { wording: Some(instruction.to_owned()), right_option: None }];
        }
        true
    }

    fn take_turn(&mut self, turn: Value) -> Result<(), Fault> {
        let Value::Object(mut fields) = turn else {
            return Err(Fault::new(Reason::Unreadable, format!("a turn must be an object, not {}", shortened(&turn))));
        };
        // The Cauldron and FineVision: one turn has a question and its answer.
        if fields.contains_key("user") && fields.contains_key("assistant") {
            for (name, role) in [("user", Role::User), ("assistant", Role::Assistant)] {
                let text = fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                self.turns.push(Turn { role, text });
            }
            return Ok(());
        }
        let role = ["role", "from"].iter().find_map(|name| fields.get(*name)?.as_str());
        let role = role.map_or_else(|| Role::Unknown(String::new()), Role::named);
        let content = ["content", "value"].iter().find_map(|name| fields.remove(*name)).unwrap_or_default();
        let text = match content {
            Value::String(text) => text,
            Value::Null => String::new(),
            Value::Array(items) => {
                let mut text = String::new();
                for item in items {
                    self.take_item(&item, &mut text)?;
                }
                text
            }
            other => {
                let detail = format!("the content of a turn must be a text or a list, not {}", shortened(&other));
                return Err(Fault::new(Reason::Unreadable, detail));
            }
        };
        self.turns.push(Turn { role, text });
        Ok(())
    }

    /// Reads a part of a message: a text, an image with or without its path, or a video.
    fn take_item(&mut self, item: &Value, text: &mut String) -> Result<(), Fault> {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or(if item.is_string() { "text" } else { "" });
        match kind {
            "text" => text.push_str(item.as_str().or_else(|| item.get("text")?.as_str()).unwrap_or_default()),
            "image" | "image_url" => {
                text.push_str(IMAGE);
                let url = item.get("image_url");
                let named = ["image", "path", "url"].iter().find_map(|name| item.get(*name)?.as_str());
                let path = named.or_else(|| url?.get("url")?.as_str()).or_else(|| url?.as_str());
                if let Some(path) = path {
                    self.pictures.push(Picture::of(Some(path.to_owned())));
                }
            }
            "video" | "video_url" => {
                text.push_str(VIDEO);
                let is_named = ["video", "path", "url", "video_url"].iter().any(|name| item.get(*name).is_some());
                self.videos += usize::from(is_named);
            }
            other => {
                let detail = format!("a part of a message must be a text, an image or a video, not {other:?}");
                return Err(Fault::new(Reason::Unreadable, detail));
            }
        }
        Ok(())
    }
}

/// Parses JSON, including the JSON that Python writes. Also returns what Python or a tokenizer
/// refuses in it, if there is something.
///
/// # Errors
/// If it is not JSON.
pub(crate) fn parse_json(json: &[u8]) -> Result<(Value, Option<Fault>), Fault> {
    if json.trim_ascii().is_empty() {
        return Err(Fault::new(Reason::Unreadable, "it is not JSON: a comma of the list has no value beside it"));
    }
    let parsed = parse_and_tell(json);
    let (value, refused) = parsed.map_err(|error| {
        // Such as a line of an indented object.
        let hint = if error.is_eof() { "; a line of JSON Lines is a whole object" } else { "" };
        Fault::new(Reason::Unreadable, format!("it is not JSON: {error}{hint}"))
    })?;
    Ok((value, refused.map(told)))
}

/// Returns what other readers refuse as a fault.
fn told(refused: Refused) -> Fault {
    let (reason, detail) = match refused {
        Refused::NotUtf8 => (Reason::Encoding, "a text is not UTF-8, so Python cannot read the file"),
        Refused::Surrogate => (
            Reason::UnpairedSurrogate,
            "a text has an unpaired surrogate (\\ud800 to \\udfff), which no tokenizer takes",
        ),
        Refused::Control => (Reason::Unreadable, "json.load fails on a control character in a text; escape it"),
        Refused::Escape => (Reason::Unreadable, "json.load fails on a backslash that begins no escape; double it"),
        Refused::Number => (Reason::Unreadable, "json.load fails on a number such as nan or inf; write NaN or null"),
    };
    Fault::new(reason, detail)
}

/// Reads the metadata of questions in our own exports: of all packed questions of a dialog, or of
/// the only question.
fn asked(fields: &Map<String, Value>) -> Vec<Asked> {
    let of_record = |fields: &Map<String, Value>| {
        let wording = fields.get("template")?.as_str()?.to_owned();
        let options = fields.get("choice_order").and_then(Value::as_array).map_or(0, Vec::len);
        let right = fields.get("right_choice").and_then(Value::as_u64);
        let right_option = right.and_then(|right| Some((u32::try_from(right).ok()?, u32::try_from(options).ok()?)));
        Some(Asked { wording: Some(wording), right_option })
    };
    match fields.get("packed") {
        Some(Value::Array(packed)) if !packed.is_empty() => {
            packed.iter().map(|record| record.as_object().and_then(of_record).unwrap_or_default()).collect()
        }
        _ => of_record(fields).into_iter().collect(),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns a value in a short form for messages.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(60).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(record: Value) -> Conversation {
        Conversation::from_json(record).unwrap()
    }

    fn turns(conversation: &Conversation) -> Vec<(Role, &str)> {
        conversation.turns.iter().map(|turn| (turn.role.clone(), turn.text.as_str())).collect()
    }

    #[test]
    fn json_that_ends_too_early_is_told_from_other_faults() {
        let fault = |json: &[u8]| parse_json(json).unwrap_err().detail;
        assert!(fault(b"{\"id\": 1,").ends_with("a line of JSON Lines is a whole object"));
        let other = fault(b"{\"id\": one}");
        assert!(other.starts_with("it is not JSON: expected") && !other.contains("JSON Lines"), "{other}");
    }

    #[test]
    fn all_formats_say_the_same() {
        let talk = vec![(Role::User, "<image>What?"), (Role::Assistant, "A dog.")];
        let llava = json!({"id": 7, "image": "a.jpg", "conversations": [
            {"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A dog."}]});
        let swift = json!({"id": "7", "images": ["a.jpg"], "messages": [
            {"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A dog."}]});
        let parts = json!({"id": "7", "messages": [
            {"role": "user", "content": [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}]});
        let openai = json!({"id": "7", "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.jpg"}}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A dog."}]});
        for record in [llava, swift, parts, openai] {
            let own = read(record);
            assert_eq!(turns(&own), talk);
            assert_eq!((own.id.as_deref(), own.placeholders()), (Some("7"), (1, 0)));
            assert_eq!(own.pictures, [Picture { path: Some("a.jpg".to_owned()), ..Picture::default() }]);
            assert!(!own.is_placed_by_format);
        }
    }

    #[test]
    fn instructions_with_their_answers_are_conversations_of_one_question() {
        let own = read(json!({"instruction": "Name it.", "inputs": "The red one.", "image_base64_str": ["Qk0=", "?"],
            "outputs": "A cup."}));
        assert_eq!(turns(&own), [(Role::User, "Name it.\nThe red one."), (Role::Assistant, "A cup.")]);
        assert_eq!((own.pictures[0].bytes.as_deref(), &own.pictures[1].bytes), (Some(&b"BM"[..]), &None));
        assert_eq!(own.asked[0].wording.as_deref(), Some("Name it."));
        let alpaca = read(json!({"instruction": "Name three cups.", "input": "", "output": "Red, blue, green."}));
        assert_eq!(turns(&alpaca)[0].1, "Name three cups.");
        assert!(alpaca.asked.is_empty() && alpaca.is_placed_by_format, "what it asks is no wording");
    }

    #[test]
    fn data_urls_are_the_images_themselves() {
        let url = "data:image/bmp;base64,Qk0=";
        let turns = json!([{"from": "human", "value": "<image>Why?"}, {"from": "gpt", "value": "So."}]);
        let parts = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]);
        for row in [
            json!({"image": url, "conversations": turns}),
            json!({"images": [{"url": url}], "conversations": turns}),
            json!({"messages": parts}),
        ] {
            let pictures = read(row).pictures;
            assert_eq!(pictures, [Picture { bytes: Some(b"BM".to_vec()), ..Picture::default() }]);
        }
        let damaged = read(json!({"image": "data:image/bmp;base64,?", "conversations": turns}));
        assert_eq!(damaged.pictures[0].bytes.as_deref(), Some(&[][..]));
    }

    #[test]
    fn our_own_records_say_what_they_ask() {
        let right_option = Some((1, 3));
        let own = read(json!({"task": "t", "template": "vqa/a", "choice_order": [2, 0, 1], "right_choice": 1,
            "messages": []}));
        assert_eq!(own.task.as_deref(), Some("t"));
        assert_eq!(own.asked, [Asked { wording: Some("vqa/a".to_owned()), right_option }]);
        let packed =
            json!([{"template": "vqa/b"}, {"template": "vqa/c", "choice_order": [0, 1, 2], "right_choice": 1}]);
        let own = read(json!({"template": "vqa/b", "packed": packed, "messages": []}));
        assert_eq!(own.asked.iter().map(|own| own.right_option).collect::<Vec<_>>(), [None, right_option]);
    }

    #[test]
    fn formats_without_placeholders_place_pictures_themselves() {
        let own = read(json!({"images": [{"path": "a.jpg"}], "messages": [{"role": "user", "content": "What?"}]}));
        assert!(own.is_placed_by_format && own.pictures.len() == 1);
        let cauldron =
            read(json!({"images": [{"path": "a.jpg"}], "texts": [{"user": "What?", "assistant": "A dog."}]}));
        assert_eq!(turns(&cauldron), [(Role::User, "What?"), (Role::Assistant, "A dog.")]);
        let placed = json!({"images": [{"path": "a.jpg"}], "messages": [{"role": "user", "content": "<image>?"}]});
        assert!(!read(placed).is_placed_by_format);
    }

    #[test]
    fn sizes_stand_beside_pictures_or_in_them() {
        let one = read(json!({"image": "a", "width": 3, "height": 4, "conversations": []}));
        assert_eq!(one.pictures[0].declared, Some((3, 4)));
        let two = read(json!({"image": ["a", "b"], "width": [3, 5], "height": [4, 6], "conversations": []}));
        assert_eq!(two.pictures[1].declared, Some((5, 6)));
        let inside = read(json!({"images": [{"path": "a", "width": 1, "height": 2}], "messages": []}));
        assert_eq!(inside.pictures[0].declared, Some((1, 2)));
        let fewer = read(json!({"image": ["a", "b"], "width": 3, "height": 4, "conversations": []}));
        assert_eq!(fewer.pictures[0].declared, None, "one size does not say which picture has it");
    }

    #[test]
    fn systems_videos_and_what_is_no_record() {
        let own = read(json!({"system": "Be brief.", "videos": ["a.mp4"], "conversations": [
            {"from": "human", "value": "<video>?"}, {"from": "someone", "value": ""}]}));
        assert_eq!(own.turns[0].role, Role::System);
        assert_eq!((own.videos, own.placeholders()), (1, (0, 1)));
        assert_eq!(own.turns[2].role, Role::Unknown("someone".to_owned()));
        let reason = |record: Value| Conversation::from_json(record).unwrap_err().reason;
        assert_eq!(reason(json!([1])), Reason::Unreadable);
        assert_eq!(reason(json!({"text": "x"})), Reason::NoConversation);
        assert_eq!(reason(json!({"messages": ["x"]})), Reason::Unreadable);
        assert_eq!(reason(json!({"messages": [{"role": "user", "content": 7}]})), Reason::Unreadable);
    }
}
