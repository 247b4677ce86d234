//! ShareGPT's JSON as LLaMA-Factory reads it (its `data/README.md`, formatting `sharegpt`):
//! `conversations` of `from` and `value`, with as many `<image>` and `<video>` in them as `images`
//! and `videos` name.

use serde_json::{Value, json};

use super::json::{media_tokens, with_media, with_provenance};
use crate::build::{Conversation, Role};

/// Returns one element of the list. A conversation without pictures has no `images`, one without a
/// text of the system an empty `system`.
pub(super) fn sample(conversation: &Conversation) -> Value {
    let mut turns = Vec::new();
    let mut system = "";
    let mut tokens = media_tokens(conversation);
    for message in &conversation.messages {
        match message.role {
            Role::System => system = &message.content,
            Role::User => {
                let tokens = std::mem::take(&mut tokens);
                turns.push(json!({"from": "human", "value": format!("{tokens}{}", message.content)}));
            }
            Role::Assistant => turns.push(json!({"from": "gpt", "value": message.content})),
        }
    }
    with_provenance(
        with_media(json!({"id": conversation.id, "conversations": turns, "system": system}), conversation),
        conversation,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn tokens_are_as_many_as_pictures_and_open_the_first_turn() {
        let own = sample(&conversation("vqa/a", &["What is it?", "a dog", "Where?", "here"]));
        assert_eq!(own["images"], json!(["train/a.jpg"]));
        assert_eq!(own["conversations"][0], json!({"from": "human", "value": "<image>What is it?"}));
        assert_eq!(own["conversations"][2], json!({"from": "human", "value": "Where?"}));
        assert_eq!(own.to_string().matches("<image>").count(), 1);
    }
}
