//! Writes formats in which every conversation is one JSON value, in a list or on its own line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Files, Pictures, Writer};
use crate::build::{Conversation, PackedRecord, Texts};
use crate::json_text;
use crate::{Error, Result};
use lynxdata_prompts::tokens::{IMAGE_TOKEN, VIDEO_TOKEN};

/// The arrangement of the values in a file.
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

/// Returns the paths of the images.
pub(super) fn image_paths(conversation: &Conversation) -> Vec<&str> {
    conversation.images.iter().map(|image| image.path.as_str()).collect()
}

/// Returns the path of the video, if there is one.
pub(super) fn video_paths(conversation: &Conversation) -> Vec<&str> {
    conversation.video.iter().map(|video| video.path.as_str()).collect()
}

/// Puts tokens before a text. A line break separates them from a text that begins with white space,
/// so that its indentation is not taken for the separator.
pub(super) fn with_tokens<'a>(tokens: &str, text: &'a str) -> Cow<'a, str> {
    if tokens.is_empty() {
        return Cow::Borrowed(text);
    }
    let is_apart = tokens.ends_with('\n') || !text.starts_with(char::is_whitespace);
    Cow::Owned([tokens, if is_apart { "" } else { "\n" }, text].concat())
}

/// The source and the licence of a conversation and of its packed questions. Readers of these
/// formats ignore keys that they do not know.
#[derive(Debug, Serialize)]
pub(super) struct Provenance<'a> {
    task: &'a str,
    licence: &'a str,
    source_file: &'a str,
    source_row: u64,
    /// The start and the end of the part of the video that it is about, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    video_start: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_end: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    packed: &'a [PackedRecord],
}

impl<'a> Provenance<'a> {
    pub(super) fn of(conversation: &'a Conversation) -> Self {
        let video = conversation.video.as_ref();
        Self {
            task: &conversation.task,
            licence: &conversation.licence,
            source_file: &conversation.source_file,
            source_row: conversation.source_row,
            video_start: video.and_then(|video| video.start),
            video_end: video.and_then(|video| video.end),
            packed: &conversation.packed,
        }
    }

    /// Appends its fields to an object that has others.
    pub(super) fn append(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let Self { task, licence, source_file, source_row, video_start, video_end, packed } = self;
        for (name, value) in [(",\"task\":", task), (",\"licence\":", licence), (",\"source_file\":", source_file)] {
            out.extend_from_slice(name.as_bytes());
            json_text::text(out, value);
        }
        out.extend_from_slice(b",\"source_row\":");
        json_text::number(out, *source_row);
        for (name, value) in [(",\"video_start\":", video_start), (",\"video_end\":", video_end)] {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                serde_json::to_writer(&mut *out, value)?;
            }
        }
        if !packed.is_empty() {
            out.extend_from_slice(b",\"packed\":");
            serde_json::to_writer(&mut *out, packed)?;
        }
        Ok(())
    }
}

/// Returns a column of one value for the features of `datasets`, such as `string` or `int64`.
pub(super) fn column(name: &str, kind: &str) -> Value {
    json!({"name": name, "dtype": kind})
}

/// Returns a column of lists; the items are values of a kind, or structs of columns.
pub(super) fn lists(name: &str, of: impl Into<Value>) -> Value {
    json!({"name": name, "list": of.into()})
}

/// Returns a column of structs.
pub(super) fn structs(name: &str, columns: impl Into<Value>) -> Value {
    json!({"name": name, "struct": columns.into()})
}

/// Returns the columns of [`Provenance`].
pub(super) fn features_of_provenance() -> Vec<Value> {
    vec![
        column("task", "string"),
        column("licence", "string"),
        column("source_file", "string"),
        column("source_row", "int64"),
        column("video_start", "float64"),
        column("video_end", "float64"),
        features_of_packed(),
    ]
}

fn features_of_packed() -> Value {
    let texts = ["id", "template", "answer_shape", "source_file"].map(|name| column(name, "string"));
    let numbers = [column("source_row", "int64"), lists("choice_order", "int64"), column("right_choice", "int64")];
    lists("packed", texts.into_iter().chain(numbers).collect::<Vec<_>>())
}

/// Returns the columns of `conversations/*.jsonl`, in the form of
/// [`Format::features`](super::Format::features).
pub fn features_of_lines() -> Vec<Value> {
    let text = |name| column(name, "string");
    vec![
        text("id"),
        text("task"),
        text("group"),
        text("answer_shape"),
        text("licence"),
        lists("images", vec![text("path")]),
        structs("video", vec![text("path"), column("start", "float64"), column("end", "float64")]),
        lists("messages", vec![text("role"), text("content")]),
        text("template"),
        text("source_file"),
        column("source_row", "int64"),
        lists("choice_order", "int64"),
        // Pairs of a text and a number.
        column("votes", "json"),
        column("right_choice", "int64"),
        lists(
            "boxes",
            vec![
                text("text"),
                lists("numbers", "float64"),
                text("convention"),
                column("width", "float64"),
                column("height", "float64"),
            ],
        ),
        features_of_packed(),
    ]
}

/// Writes the value of one conversation.
pub(super) type WriteValue = fn(&Conversation, &mut Vec<u8>) -> serde_json::Result<()>;

/// Writes the value of one conversation after the other.
#[derive(Debug)]
struct JsonWriter {
    layout: Layout,
    value: WriteValue,
    texts: Texts,
    path: PathBuf,
    out: BufWriter<File>,
    is_empty: bool,
}

/// Begins a file of values.
pub(super) fn begin(files: &mut Files, layout: Layout, value: WriteValue) -> Result<Box<dyn Writer>> {
    let path = files(if layout == Layout::List { ".json" } else { ".jsonl" })?;
    let file = File::create(&path).map_err(|source| Error::Io { action: "write", path: path.clone(), source })?;
    let texts = Texts::default();
    Ok(Box::new(JsonWriter { layout, value, texts, path, out: BufWriter::new(file), is_empty: true }))
}

impl Writer for JsonWriter {
    fn write(&mut self, conversations: &[Conversation], _: &mut Files, _: &mut Pictures) -> Result<()> {
        let Self { layout, value, texts, path, out, is_empty } = self;
        let failed = |source| Error::Io { action: "write", path: path.clone(), source };
        let mut rest = conversations;
        if *layout == Layout::List
            && *is_empty
            && let [first, others @ ..] = conversations
        {
            let mut text = b"[\n".to_vec();
            value(first, &mut text).map_err(io::Error::from).and_then(|()| out.write_all(&text)).map_err(failed)?;
            rest = others;
        }
        *is_empty &= conversations.is_empty();
        let (before, behind): (&[u8], &[u8]) = if *layout == Layout::List { (b",\n", b"") } else { (b"", b"\n") };
        let one = |conversation: &Conversation, text: &mut Vec<u8>| {
            text.extend_from_slice(before);
            value(conversation, text)?;
            text.extend_from_slice(behind);
            Ok(())
        };
        texts.write(rest, &one, out).map_err(failed)
    }

    fn finish(mut self: Box<Self>, _: &mut Files) -> Result<()> {
        let end: &[u8] = match (self.layout, self.is_empty) {
            (Layout::Lines, _) => b"",
            (Layout::List, true) => b"[]\n",
            (Layout::List, false) => b"\n]\n",
        };
        let ended = self.out.write_all(end).and_then(|()| self.out.flush());
        ended.map_err(|source| Error::Io { action: "write", path: self.path, source })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::export::Format;
    use crate::export::tests::{conversation, written};
    use crate::record::VideoReference;

    #[test]
    fn a_line_break_keeps_tokens_apart_from_an_indentation() {
        for (tokens, text, expected) in [
            ("", " a", " a"),
            ("<image>", "a", "<image>a"),
            ("<image>", "\ta", "<image>\n\ta"),
            ("<image>\n", "  a", "<image>\n  a"),
        ] {
            assert_eq!(super::with_tokens(tokens, text), expected);
        }
    }

    #[test]
    fn provenance_is_appended_as_serde_json_writes_it() {
        let mut own = conversation("vqa/a", &["x", "y"]);
        for start in [None, Some(0.1)] {
            own.video = start.map(|start| VideoReference { path: String::new(), start: Some(start), end: Some(2.0) });
            own.packed = start.map(|_| crate::build::PackedRecord::of(&own)).into_iter().collect();
            let mut text = Vec::new();
            super::Provenance::of(&own).append(&mut text).unwrap();
            text[0] = b'{';
            text.push(b'}');
            assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&super::Provenance::of(&own)).unwrap());
        }
    }

    #[test]
    fn files_are_json_and_every_value_says_where_it_comes_from() {
        let mut conversations = [conversation("vqa/a", &["x", "y"]), conversation("vqa/a", &["z\n\"", "y"])];
        conversations[1].video = Some(VideoReference { path: "v.mp4".to_owned(), start: Some(2.0), end: None });
        for name in ["llava", "sharegpt", "messages", "swift"] {
            for count in 0..=2 {
                let folder = written(Format::named(name).unwrap(), &conversations[..count]);
                let read = |suffix: &str| std::fs::read_to_string(folder.path().join(format!("set{suffix}")));
                let values: Vec<Value> = match read(".json") {
                    Ok(text) => serde_json::from_str(&text).unwrap(),
                    Err(_) => read(".jsonl").unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
                };
                assert_eq!(values.len(), count, "{name}");
                for (value, own) in values.iter().zip(&conversations) {
                    assert_eq!(value["id"], json!(own.id));
                    assert_eq!((&value["licence"], &value["source_row"]), (&json!("CC0-1.0"), &json!(7)));
                    let start = own.video.as_ref().and_then(|video| video.start);
                    assert_eq!((value["video_start"].as_f64(), value.get("video_end")), (start, None), "{name}");
                }
            }
        }
    }
}
