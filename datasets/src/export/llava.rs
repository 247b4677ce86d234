//! LLaVA's JSON: `[{"id", "image", "conversations": [{"from": "human" | "gpt", "value"}]}]`, the
//! format of its `docs/Finetune_Custom_Data.md`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::Format;
use super::json::{Layout, Provenance, begin, column, features_of_provenance, image_paths, lists, with_tokens};
use crate::build::{Conversation, Role};
use crate::json_text;
use lynxdata_prompts::tokens::VIDEO_TOKEN;

pub(super) const FORMAT: Format = Format {
    name: "llava",
    description: "A JSON list that LLaVA and many trainers read.",
    names_pictures: true,
    is_default: true,
    leaves_out: |_| None,
    features: |_| Ok(features()),
    begin: |files| begin(files, Layout::List, append),
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

/// Appends one element of the list. The first human turn starts with as many `<image>` tokens as
/// there are images, a line each, or with `<video>`. A system message follows them, before the
/// question: LLaVA's trainer reads only `image` and `conversations` and has no role for it
/// (`preprocess_v1` in its `llava/train/train.py`), so that it would be lost anywhere else.
fn append(own: &Conversation, out: &mut Vec<u8>) -> serde_json::Result<()> {
    out.extend_from_slice(b"{\"id\":");
    json_text::text(out, &own.id);
    match own.images.as_slice() {
        [] => {}
        // A path, or a list of them for several images.
        [image] => {
            out.extend_from_slice(b",\"image\":");
            json_text::text(out, &image.path);
        }
        _ => {
            out.extend_from_slice(b",\"image\":");
            serde_json::to_writer(&mut *out, &image_paths(own))?;
        }
    }
    let tokens = match &own.video {
        Some(video) => {
            out.extend_from_slice(b",\"video\":");
            json_text::text(out, &video.path);
            Cow::Owned(format!("{VIDEO_TOKEN}\n"))
        }
        None if own.images.len() == 1 => Cow::Borrowed(ONE_IMAGE),
        None => Cow::Owned(ONE_IMAGE.repeat(own.images.len())),
    };
    let (system, mut conversations) = turns(own, &tokens);
    if let (Some(system), Some(first)) = (system, conversations.first_mut()) {
        first.value.to_mut().insert_str(tokens.len(), &format!("{system}\n\n"));
    }
    out.extend_from_slice(b",\"conversations\":");
    json_text::list(out, conversations, |out, turn| {
        out.extend_from_slice(b"{\"from\":");
        json_text::text(out, turn.from);
        out.extend_from_slice(b",\"value\":");
        json_text::text(out, &turn.value);
        out.push(b'}');
        Ok(())
    })?;
    Provenance::of(own).append(out)?;
    out.push(b'}');
    Ok(())
}

/// The token of one image.
const ONE_IMAGE: &str = "<image>\n";

/// One turn, as ShareGPT has it too.
#[derive(Debug, Serialize)]
pub(super) struct Turn<'a> {
    pub(super) from: &'static str,
    pub(super) value: Cow<'a, str>,
}

/// Returns the text of the system, and the turns; tokens are put before the first human turn.
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
        let sample = |own: &Conversation| {
            let mut text = Vec::new();
            append(own, &mut text).unwrap();
            serde_json::from_slice::<Value>(&text).unwrap()
        };
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
