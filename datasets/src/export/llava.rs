//! LLaVA's JSON: `[{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}]`, the
//! format of its `docs/Finetune_Custom_Data.md`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::Format;
use super::json::{Layout, Provenance, begin, column, features_of_provenance, image_paths, lists, with_tokens};
use crate::build::{Conversation, Role};
use crate::json_text;
use crate::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};

pub(super) const FORMAT: Format = Format {
    name: "llava",
    description: "A JSON list that LLaVA and many trainers read.",
    names_pictures: true,
    is_default: true,
    leaves_out: |_| None,
    features: |_| Ok(features()),
    begin: |files| begin(files, Layout::List, |own, out| json_text::append(out, &Sample::of(own))),
    describe: None,
};

fn features() -> Vec<Value> {
    let mut columns = vec![
        column("id", "string"),
        // A path, or a list of paths.
        column("image", "json"),
        column("video", "string"),
        features_of_turns(),
    ];
    columns.extend(features_of_provenance());
    columns
}

/// Returns the column of [`Turn`]s.
pub(super) fn features_of_turns() -> Value {
    lists("conversations", vec![column("from", "string"), column("value", "string")])
}

/// One element of the list. The first human turn starts with as many `<image>` tokens as there are
/// pictures, a line each, or with `<video>`. A system message follows them, before the question:
/// LLaVA's trainer reads only `image` and `conversations` and has no role for it (`preprocess_v1`
/// in its `llava/train/train.py`), so that it would be lost anywhere else.
#[derive(Debug, Serialize)]
struct Sample<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Images<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<&'a str>,
    conversations: Vec<Turn<'a>>,
    #[serde(flatten)]
    provenance: Provenance<'a>,
}

/// A path, or a list of them for several pictures.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Images<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

/// One turn, as ShareGPT has it too.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub(super) from: &'static str,
    pub(super) value: Cow<'a, str>,
}

impl<'a> Sample<'a> {
    fn of(conversation: &'a Conversation) -> Self {
        let video = conversation.video.as_ref().map(|video| video.path.as_str());
        let tokens = match video {
            Some(_) => format!("{VIDEO_TOKEN}\n"),
            None => format!("{IMAGE_TOKEN}\n").repeat(conversation.images.len()),
        };
        let (system, mut conversations) = turns(conversation, &tokens);
        if let (Some(system), Some(first)) = (system, conversations.first_mut()) {
            first.value.to_mut().insert_str(tokens.len(), &format!("{system}\n\n"));
        }
        let image = match image_paths(conversation)[..] {
            [] => None,
            [image] => Some(Images::One(image)),
            ref images => Some(Images::Several(images.to_vec())),
        };
        Self { id: &conversation.id, image, video, conversations, provenance: Provenance::of(conversation) }
    }
}

/// Returns the text of the system, and the turns; tokens stand before the first human one.
pub(super) fn turns<'a>(conversation: &'a Conversation, tokens: &str) -> (Option<&'a str>, Vec<Turn<'a>>) {
    let (mut system, mut turns, mut tokens) = (None, Vec::with_capacity(conversation.messages.len()), tokens);
    for message in &conversation.messages {
        match message.role {
            Role::System => system = Some(message.content.as_str()),
            Role::User => {
                let value = with_tokens(std::mem::take(&mut tokens), &message.content);
                turns.push(Turn { from: "human", value });
            }
            Role::Assistant => turns.push(Turn { from: "gpt", value: Cow::Borrowed(&message.content) }),
        }
    }
    (system, turns)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::build::{ImageReference, Message};
    use crate::export::tests::conversation;
    use crate::record::VideoReference;

    #[test]
    fn there_are_as_many_tokens_as_pictures_and_they_open_the_first_turn() {
        let mut own = conversation("vqa/a", &["What is it?", "a dog", "Where?", "here"]);
        let expected = json!({"id": "own/train/What is it?", "image": "train/a.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a dog"},
            {"from": "human", "value": "Where?"}, {"from": "gpt", "value": "here"}],
            "task": "own", "licence": "CC0-1.0", "source_file": "train.json", "source_row": 7});
        let sample = |own: &Conversation| json!(Sample::of(own));
        assert_eq!(sample(&own), expected);
        own.images.push(ImageReference { path: "train/b.jpg".to_owned() });
        let two = sample(&own);
        assert_eq!(two["image"], json!(["train/a.jpg", "train/b.jpg"]));
        assert_eq!(two["conversations"][0]["value"], "<image>\n<image>\nWhat is it?");
        own.images.clear();
        let none = sample(&own);
        assert!(none.get("image").is_none() && !none.to_string().contains("<image>"));
        own.video = Some(VideoReference { path: "v.mp4".to_owned(), start: Some(2.0), end: None });
        own.messages.insert(0, Message { role: Role::System, content: "Be kind.".to_owned() });
        let video = sample(&own);
        assert_eq!((&video["video"], &video["video_start"]), (&json!("v.mp4"), &json!(2.0)));
        assert_eq!(video["conversations"][0]["value"], "<video>\nBe kind.\n\nWhat is it?");
        assert_eq!((video.get("system"), video["conversations"].as_array().unwrap().len()), (None, 4));
    }
}
