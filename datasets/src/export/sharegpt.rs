//! ShareGPT JSON as LLaMA-Factory reads it (its `data/README.md`, formatting `sharegpt`):
//! `conversations` of `from` and `value`. They contain one `<image>` or `<video>` per entry of
//! `images` and `videos`.

use serde::Serialize;
use serde_json::{Value, json};

use super::json::{
    Layout, Provenance, begin, column, features_of_provenance, image_paths, lists, media_tokens, video_paths,
};
use super::llava::{Turn, features_of_turns, turns};
use super::{Files, Format, SetFile};
use crate::build::Conversation;
use crate::{Error, Result};

pub(super) const FORMAT: Format = Format {
    name: "sharegpt",
    description: "A JSON list that LLaMA-Factory reads as `sharegpt`.",
    names_pictures: true,
    is_default: false,
    leaves_out: |_| None,
    features: |_| Ok(features()),
    begin: |files| begin(files, Layout::List, |own, out| serde_json::to_writer(out, &Sample::of(own))),
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
    std::fs::write(&path, format!("{:#}\n", Value::Object(datasets))).map_err(|source| Error::Io {
        action: "write",
        path,
        source,
    })
}

/// Returns the columns of [`Sample`].
pub(super) fn features() -> Vec<Value> {
    let mut columns = vec![
        column("id", "string"),
        features_of_turns(),
        column("system", "string"),
        lists("images", "string"),
        lists("videos", "string"),
    ];
    columns.extend(features_of_provenance());
    columns
}

/// One element of the list. Every one has `images`, `videos` and `system`, be they empty:
/// LLaMA-Factory looks into all columns that `dataset_info.json` names.
#[derive(Debug, Serialize)]
pub(super) struct Sample<'a> {
    id: &'a str,
    conversations: Vec<Turn<'a>>,
    system: &'a str,
    images: Vec<&'a str>,
    videos: Vec<&'a str>,
    #[serde(flatten)]
    provenance: Provenance<'a>,
}

impl<'a> Sample<'a> {
    pub(super) fn of(conversation: &'a Conversation) -> Self {
        let (system, conversations) = turns(conversation, &media_tokens(conversation));
        Self {
            id: &conversation.id,
            conversations,
            system: system.unwrap_or_default(),
            images: image_paths(conversation),
            videos: video_paths(conversation),
            provenance: Provenance::of(conversation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn tokens_are_as_many_as_pictures_and_open_the_first_turn() {
        let own = conversation("vqa/a", &["What is it?", "a dog", "Where?", "here"]);
        let own = json!(Sample::of(&own));
        assert_eq!((&own["images"], &own["videos"]), (&json!(["train/a.jpg"]), &json!([])));
        assert_eq!(own["conversations"][0], json!({"from": "human", "value": "<image>What is it?"}));
        assert_eq!(own["conversations"][2], json!({"from": "human", "value": "Where?"}));
        assert_eq!(own.to_string().matches("<image>").count(), 1);
    }
}
