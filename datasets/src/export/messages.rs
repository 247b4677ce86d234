//! Messages with parts, as OpenAI's chat completions and the chat templates of `transformers` take
//! them: `{"messages": [{"role", "content": [{"type": "image_url", …}, {"type": "text", …}]}]}`.

use serde::Serialize;
use serde_json::Value;

use super::Format;
use super::json::{
    Layout, Provenance, begin, column, features_of_provenance, image_paths, lists, structs, video_paths,
};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "messages",
    description: "JSON lines of messages with parts, as OpenAI and chat templates of `transformers` take them.",
    names_pictures: true,
    is_default: false,
    leaves_out: |_| None,
    features: |_| Ok(features()),
    begin: |files| begin(files, Layout::Lines, |own, out| serde_json::to_writer(out, &Sample::of(own))),
    describe: None,
};

fn features() -> Vec<Value> {
    let address = |name| structs(name, vec![column("url", "string")]);
    let part = vec![column("type", "string"), address("image_url"), address("video_url"), column("text", "string")];
    let turn = vec![column("role", "string"), lists("content", part)];
    let mut columns = vec![column("id", "string"), lists("messages", turn)];
    columns.extend(features_of_provenance());
    columns
}

/// A line of the file. Images and the video come before the text of the first turn, as paths.
#[derive(Debug, Serialize)]
struct Sample<'a> {
    id: &'a str,
    messages: Vec<Turn<'a>>,
    #[serde(flatten)]
    provenance: Provenance<'a>,
}

#[derive(Debug, Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    ImageUrl { image_url: Address<'a> },
    VideoUrl { video_url: Address<'a> },
    Text { text: &'a str },
}

#[derive(Debug, Serialize)]
struct Address<'a> {
    url: &'a str,
}

impl<'a> Sample<'a> {
    fn of(conversation: &'a Conversation) -> Self {
        let images = image_paths(conversation).into_iter().map(|url| Part::ImageUrl { image_url: Address { url } });
        let videos = video_paths(conversation).into_iter().map(|url| Part::VideoUrl { video_url: Address { url } });
        let mut media: Vec<Part> = images.chain(videos).collect();
        let mut messages = Vec::new();
        for message in &conversation.messages {
            let mut content = if message.role == Role::User { std::mem::take(&mut media) } else { Vec::new() };
            content.push(Part::Text { text: &message.content });
            messages.push(Turn { role: message.role.name(), content });
        }
        Self { id: &conversation.id, messages, provenance: Provenance::of(conversation) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn pictures_are_parts_of_the_first_turn() {
        let own = conversation("vqa/a", &["What is it?", "a dog"]);
        let own = json!(Sample::of(&own));
        let parts = own["messages"][0]["content"].as_array().unwrap();
        assert_eq!(parts[0]["image_url"]["url"], "train/a.jpg");
        assert_eq!(parts[1], json!({"type": "text", "text": "What is it?"}));
        assert_eq!(own["messages"][1], json!({"role": "assistant", "content": [{"type": "text", "text": "a dog"}]}));
    }
}
