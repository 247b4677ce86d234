//! Exports of which every conversation is one JSON value: a list, or a line each.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{llava, messages, sharegpt, swift};
use crate::build::Conversation;
use crate::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};

/// A format of JSON.
#[derive(Debug)]
pub struct JsonExport {
    /// Its name in recipes and folders.
    pub name: &'static str,
    /// Whether a file is one list; otherwise it has a value a line.
    pub is_list: bool,
    /// The value of a conversation.
    sample: fn(&Conversation) -> Value,
}

/// The formats of JSON.
pub const JSON_EXPORTS: &[JsonExport] = &[
    JsonExport { name: "llava", is_list: true, sample: llava::sample },
    JsonExport { name: "sharegpt", is_list: true, sample: sharegpt::sample },
    JsonExport { name: "messages", is_list: false, sample: messages::sample },
    JsonExport { name: "swift", is_list: false, sample: swift::sample },
];

impl JsonExport {
    /// Returns the suffix of its files.
    pub fn suffix(&self) -> &'static str {
        if self.is_list { "json" } else { "jsonl" }
    }

    /// Returns the value of a conversation.
    pub fn sample(&self, conversation: &Conversation) -> Value {
        (self.sample)(conversation)
    }
}

/// Returns the tokens that stand for the pictures and the video of a conversation, before its first
/// turn.
pub(super) fn media_tokens(conversation: &Conversation) -> String {
    let video = if conversation.video.is_some() { VIDEO_TOKEN } else { "" };
    IMAGE_TOKEN.repeat(conversation.images.len()) + video
}

/// Adds the lists of pictures and videos that there are.
pub(super) fn with_media(mut sample: Value, conversation: &Conversation) -> Value {
    if !conversation.images.is_empty() {
        sample["images"] = conversation.images.iter().map(|image| json!(image.path)).collect();
    }
    if let Some(video) = &conversation.video {
        sample["videos"] = json!([video.path]);
    }
    sample
}

/// Adds where a conversation and its packed questions come from and under which licence: readers of these formats pass over
/// keys that they do not know.
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

/// Writes one conversation after the other.
#[derive(Debug)]
pub struct Writer<W> {
    export: &'static JsonExport,
    out: W,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(export: &'static JsonExport, out: W) -> Self {
        Self { export, out, written: 0 }
    }

    /// Appends a conversation.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&mut self, conversation: &Conversation) -> io::Result<()> {
        if self.export.is_list {
            self.out.write_all(if self.written == 0 { b"[\n" } else { b",\n" })?;
        }
        serde_json::to_writer(&mut self.out, &self.export.sample(conversation))?;
        if !self.export.is_list {
            self.out.write_all(b"\n")?;
        }
        self.written += 1;
        Ok(())
    }

    /// Ends the file and returns how many conversations it holds.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<u64> {
        if self.export.is_list {
            self.out.write_all(if self.written == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.out.flush()?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::conversation;

    #[test]
    fn files_are_json_and_every_value_says_where_it_comes_from() {
        let conversations = [conversation("vqa/a", &["x", "y"]), conversation("vqa/a", &["z\n\"", "y"])];
        for export in JSON_EXPORTS {
            for count in 0..=2 {
                let mut out = Vec::new();
                let mut writer = Writer::new(export, &mut out);
                conversations[..count].iter().for_each(|own| writer.write(own).unwrap());
                assert_eq!(writer.finish().unwrap(), count as u64);
                let text = String::from_utf8(out).unwrap();
                let values: Vec<Value> = if export.is_list {
                    serde_json::from_str(&text).unwrap()
                } else {
                    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
                };
                assert_eq!(values.len(), count, "{}", export.name);
                for (value, own) in values.iter().zip(&conversations) {
                    assert_eq!(*value, export.sample(own));
                    assert_eq!((&value["licence"], &value["source_row"]), (&json!("CC0-1.0"), &json!(7)));
                }
            }
        }
    }
}
