//! JSON lines for ms-swift (its documentation, "Custom dataset"): `messages` of `role` and
//! `content`, with one `<image>` or `<video>` per entry of `images` and `videos`.

use serde_json::{Value, json};

use super::Format;
use super::json::{Layout, begin, media_tokens, with_media, with_provenance};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "swift",
    description: "JSON lines that ms-swift reads.",
    names_pictures: true,
    is_default: false,
    begin: |files| begin(files, Layout::Lines, sample),
    describe: None,
};

/// Returns the value of a line. Boxes stay texts in fractions of the image size, because wordings
/// say so.
fn sample(conversation: &Conversation) -> Value {
    let mut tokens = media_tokens(conversation);
    let mut messages = Vec::new();
    for message in &conversation.messages {
        let tokens = if message.role == Role::User { std::mem::take(&mut tokens) } else { String::new() };
        messages.push(json!({"role": message.role.name(), "content": format!("{tokens}{}", message.content)}));
    }
    with_provenance(with_media(json!({"id": conversation.id, "messages": messages}), conversation), conversation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn roles_are_those_of_chat_templates() {
        let own = sample(&conversation("vqa/a", &["What is it?", "a dog"]));
        let user = json!({"role": "user", "content": "<image>What is it?"});
        assert_eq!(own["messages"], json!([user, {"role": "assistant", "content": "a dog"}]));
        assert_eq!(own["images"], json!(["train/a.jpg"]));
    }
}
