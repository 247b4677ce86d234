//! LLaVA's JSON: `[{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}]`, the
//! format of its `docs/Finetune_Custom_Data.md`.

use serde_json::{Map, Value, json};

use super::Format;
use super::json::{Layout, begin, with_provenance};
use crate::build::{Conversation, Role};
use crate::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};

pub(super) const FORMAT: Format = Format {
    name: "llava",
    description: "A JSON list that LLaVA and many trainers read.",
    names_pictures: true,
    is_default: true,
    begin: |files| begin(files, Layout::List, sample),
    describe: None,
};

/// The maximum number of keys of an element.
const KEYS: usize = 11;

/// Returns one element of the list. `image` is a path, or a list of paths for several images, and
/// absent without images. The first human turn starts with one `<image>` token per image, each on
/// its own line. A video has the key `video` and the token `<video>`. A system message has the key
/// `system`, which LLaMA-Factory reads.
fn sample(conversation: &Conversation) -> Value {
    let mut tokens = format!("{IMAGE_TOKEN}\n").repeat(conversation.images.len());
    if conversation.video.is_some() {
        tokens = format!("{VIDEO_TOKEN}\n");
    }
    let mut turns = Vec::new();
    for message in &conversation.messages {
        let turn = match message.role {
            Role::User => json!({"from": "human", "value": format!("{tokens}{}", message.content)}),
            Role::System => continue,
            Role::Assistant => json!({"from": "gpt", "value": message.content}),
        };
        if message.role == Role::User {
            tokens.clear();
        }
        turns.push(turn);
    }
    // This format may have millions of values, so the map is created with its final capacity.
    let mut sample = Value::Object(Map::with_capacity(KEYS));
    sample["id"] = json!(conversation.id);
    match conversation.images.as_slice() {
        [] => {}
        [image] => sample["image"] = json!(image.path),
        images => sample["image"] = images.iter().map(|image| json!(image.path)).collect(),
    }
    if let Some(video) = &conversation.video {
        sample["video"] = json!(video.path);
        for (name, seconds) in [("video_start", video.start), ("video_end", video.end)] {
            if let Some(seconds) = seconds {
                sample[name] = json!(seconds);
            }
        }
    }
    if let Some(system) = conversation.messages.iter().find(|message| message.role == Role::System) {
        sample["system"] = json!(system.content);
    }
    sample["conversations"] = Value::Array(turns);
    with_provenance(sample, conversation)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(video["conversations"][0]["value"], "<video>\nWhat is it?");
        assert_eq!((&video["system"], video["conversations"].as_array().unwrap().len()), (&json!("Be kind."), 4));
    }
}
