//! ShareGPT JSON as LLaMA-Factory reads it (its `data/README.md`, formatting `sharegpt`):
//! `conversations` of `from` and `value`. They contain one `<image>` or `<video>` per entry of
//! `images` and `videos`.

use serde_json::{Value, json};

use super::json::{Layout, begin, media_tokens, with_media, with_provenance};
use super::{Files, Format, SetFile};
use crate::build::{Conversation, Role};
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "sharegpt",
    description: "A JSON list that LLaMA-Factory reads as `sharegpt`.",
    names_pictures: true,
    is_default: false,
    begin: |files| begin(files, Layout::List, sample),
    describe: Some(describe),
};

/// Writes `dataset_info.json`, which describes the columns. If its folder is the `dataset_dir` of
/// LLaMA-Factory, every file is a dataset whose name is the file name without its extension.
fn describe(set: &[SetFile], files: &mut Files) -> Result<()> {
    let datasets: serde_json::Map<String, Value> = set
        .iter()
        .map(|file| {
            let description = json!({
                "file_name": file.name,
                "formatting": "sharegpt",
                "columns": {"messages": "conversations", "system": "system", "images": "images", "videos": "videos"},
                "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
            });
            (file.name.trim_end_matches(".json").to_owned(), description)
        })
        .collect();
    let path = files("dataset_info.json")?;
    std::fs::write(&path, format!("{:#}\n", Value::Object(datasets))).map_err(|source| Error::Io { path, source })
}

/// Returns one element of the list. Every element has `images`, `videos` and `system`, even if
/// empty, because LLaMA-Factory reads all columns that `dataset_info.json` lists.
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
    let none = json!({"id": conversation.id, "conversations": turns, "system": system, "images": [], "videos": []});
    with_provenance(with_media(none, conversation), conversation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn tokens_are_as_many_as_pictures_and_open_the_first_turn() {
        let own = sample(&conversation("vqa/a", &["What is it?", "a dog", "Where?", "here"]));
        assert_eq!((&own["images"], &own["videos"]), (&json!(["train/a.jpg"]), &json!([])));
        assert_eq!(own["conversations"][0], json!({"from": "human", "value": "<image>What is it?"}));
        assert_eq!(own["conversations"][2], json!({"from": "human", "value": "Where?"}));
        assert_eq!(own.to_string().matches("<image>").count(), 1);
    }
}
