//! JSON lines for ms-swift (its documentation, "Custom dataset"): `messages` of `role` and
//! `content`, with one `<image>` or `<video>` per entry of `images` and `videos`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::Format;
use super::json::{
    Layout, Provenance, begin, column, features_of_provenance, image_paths, lists, media_tokens, video_paths,
    with_tokens,
};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "swift",
    description: "JSON lines that ms-swift reads.",
    names_pictures: true,
    is_default: false,
    leaves_out: |_| None,
    features: |_| Ok(features()),
    begin: |files| begin(files, Layout::Lines, |own, out| serde_json::to_writer(out, &Sample::of(own))),
    describe: None,
};

fn features() -> Vec<Value> {
    let turn = vec![column("role", "string"), column("content", "string")];
    let mut columns =
        vec![column("id", "string"), lists("messages", turn), lists("images", "string"), lists("videos", "string")];
    columns.extend(features_of_provenance());
    columns
}

/// A line. Boxes stay texts in shares of the image, as wordings promise them.
#[derive(Debug, Serialize)]
struct Sample<'a> {
    id: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    videos: Vec<&'a str>,
    #[serde(flatten)]
    provenance: Provenance<'a>,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Cow<'a, str>,
}

impl<'a> Sample<'a> {
    fn of(conversation: &'a Conversation) -> Self {
        let mut tokens = media_tokens(conversation);
        let mut messages = Vec::new();
        for message in &conversation.messages {
            let tokens = if message.role == Role::User { std::mem::take(&mut tokens) } else { String::new() };
            messages.push(Turn { role: message.role.name(), content: with_tokens(&tokens, &message.content) });
        }
        let (images, videos) = (image_paths(conversation), video_paths(conversation));
        Self { id: &conversation.id, messages, images, videos, provenance: Provenance::of(conversation) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn roles_are_those_of_chat_templates() {
        let own = conversation("vqa/a", &["What is it?", "a dog"]);
        let own = json!(Sample::of(&own));
        let user = json!({"role": "user", "content": "<image>What is it?"});
        assert_eq!(own["messages"], json!([user, {"role": "assistant", "content": "a dog"}]));
        assert_eq!(own["images"], json!(["train/a.jpg"]));
    }
}
