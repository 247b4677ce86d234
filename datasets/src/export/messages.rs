//! Messages with parts, as OpenAI's chat completions and the chat templates of `transformers` take
//! them: `{"messages": [{"role", "content": [{"type": "image_url", …}, {"type": "text", …}]}]}`.

use serde_json::{Value, json};

use super::Format;
use super::json::{Layout, begin, with_provenance};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "messages",
    description: "JSON lines of messages with parts, as OpenAI and chat templates of `transformers` take them.",
    names_pictures: true,
    is_default: false,
    begin: |files| begin(files, Layout::Lines, sample),
    describe: None,
};

/// Returns the value of a line. The paths of images and the video come before the text of the first
/// turn.
fn sample(conversation: &Conversation) -> Value {
    let mut media: Vec<Value> = conversation
        .images
        .iter()
        .map(|image| json!({"type": "image_url", "image_url": {"url": image.path}}))
        .chain(conversation.video.iter().map(|video| json!({"type": "video_url", "video_url": {"url": video.path}})))
        .collect();
    let mut messages = Vec::new();
    for message in &conversation.messages {
        let mut parts = if message.role == Role::User { std::mem::take(&mut media) } else { Vec::new() };
        parts.push(json!({"type": "text", "text": message.content}));
        messages.push(json!({"role": message.role.name(), "content": parts}));
    }
    with_provenance(json!({"id": conversation.id, "messages": messages}), conversation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn pictures_are_parts_of_the_first_turn() {
        let own = sample(&conversation("vqa/a", &["What is it?", "a dog"]));
        let parts = own["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts[0]["image_url"]["url"], "train/a.jpg");
        assert_eq!(parts[1], json!({"type": "text", "text": "What is it?"}));
        assert_eq!(own["messages"][1], json!({"role": "assistant", "content": [{"type": "text", "text": "a dog"}]}));
    }
}
