//! Writes formats in which every conversation is one JSON value, in a list or on its own line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Files, LeftOut, Pictures, Writer};
use crate::build::Conversation;
use crate::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};
use crate::{Error, Result};

/// How the values are arranged in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As elements of one list.
    List,
    /// One per line.
    Lines,
}

/// Returns the tokens for the images and the video of a conversation, which go before its first
/// turn.
pub(super) fn media_tokens(conversation: &Conversation) -> String {
    let video = if conversation.video.is_some() { VIDEO_TOKEN } else { "" };
    IMAGE_TOKEN.repeat(conversation.images.len()) + video
}

/// Adds the lists of images and videos that are not empty.
pub(super) fn with_media(mut sample: Value, conversation: &Conversation) -> Value {
    if !conversation.images.is_empty() {
        sample["images"] = conversation.images.iter().map(|image| json!(image.path)).collect();
    }
    if let Some(video) = &conversation.video {
        sample["videos"] = json!([video.path]);
    }
    sample
}

/// Adds the provenance and the licence of a conversation and its packed questions. Readers of these
/// formats ignore unknown keys.
pub(super) fn with_provenance(mut sample: Value, conversation: &Conversation) -> Value {
    sample["task"] = json!(conversation.task);
    sample["licence"] = json!(conversation.licence);
    sample["source_file"] = json!(conversation.source_file);
    sample["source_row"] = json!(conversation.source_row);
    if !conversation.packed.is_empty() {
        sample["packed"] = json!(conversation.packed);
    }
    sample
}

/// Writes one value per conversation.
#[derive(Debug)]
struct JsonWriter {
    layout: Layout,
    sample: fn(&Conversation) -> Value,
    path: PathBuf,
    out: BufWriter<File>,
    is_empty: bool,
}

/// Creates a file of values.
pub(super) fn begin(files: &mut Files, layout: Layout, sample: fn(&Conversation) -> Value) -> Result<Box<dyn Writer>> {
    let path = files(if layout == Layout::List { ".json" } else { ".jsonl" })?;
    let file = File::create(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    Ok(Box::new(JsonWriter { layout, sample, path, out: BufWriter::new(file), is_empty: true }))
}

impl JsonWriter {
    fn append(&mut self, conversation: &Conversation) -> io::Result<()> {
        if self.layout == Layout::List {
            self.out.write_all(if self.is_empty { b"[\n" } else { b",\n" })?;
        }
        serde_json::to_writer(&mut self.out, &(self.sample)(conversation))?;
        if self.layout == Layout::Lines {
            self.out.write_all(b"\n")?;
        }
        self.is_empty = false;
        Ok(())
    }
}

impl Writer for JsonWriter {
    fn write(&mut self, conversations: &[Conversation], _: &mut Files, _: &mut Pictures) -> Result<()> {
        for conversation in conversations {
            self.append(conversation).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: &mut Files) -> Result<LeftOut> {
        let end: &[u8] = match (self.layout, self.is_empty) {
            (Layout::Lines, _) => b"",
            (Layout::List, true) => b"[]\n",
            (Layout::List, false) => b"\n]\n",
        };
        let ended = self.out.write_all(end).and_then(|()| self.out.flush());
        ended.map_err(|source| Error::Io { path: self.path, source })?;
        Ok(LeftOut::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Format;
    use crate::export::tests::{conversation, written};

    #[test]
    fn files_are_json_and_every_value_says_where_it_comes_from() {
        let conversations = [conversation("vqa/a", &["x", "y"]), conversation("vqa/a", &["z\n\"", "y"])];
        for name in ["llava", "sharegpt", "messages", "swift"] {
            for count in 0..=2 {
                let (_, folder) = written(Format::named(name).unwrap(), &conversations[..count]);
                let read = |suffix: &str| std::fs::read_to_string(folder.path().join(format!("set{suffix}")));
                let values: Vec<Value> = match read(".json") {
                    Ok(text) => serde_json::from_str(&text).unwrap(),
                    Err(_) => read(".jsonl").unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                };
                assert_eq!(values.len(), count, "{name}");
                for (value, own) in values.iter().zip(&conversations) {
                    assert_eq!(value["id"], json!(own.id));
                    assert_eq!((&value["licence"], &value["source_row"]), (&json!("CC0-1.0"), &json!(7)));
                }
            }
        }
    }
}
