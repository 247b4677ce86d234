//! Writes conversations as texts, which are made on all cores.

use std::io::{self, Write};

use rayon::prelude::*;

use super::Conversation;
use crate::json_text;

/// Conversations whose texts one core makes at a time.
const TOGETHER: usize = 64;

/// The number of bytes of one text for which there is room at first.
const TEXT_BYTES: usize = 640;

/// Appends the text of one conversation.
pub(crate) type AppendText<'a> = dyn Fn(&Conversation, &mut Vec<u8>) -> serde_json::Result<()> + Sync + 'a;

/// Writes the texts of conversations in order.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// They are kept, because new memory costs more than the texts.
    buffers: Vec<Vec<u8>>,
}

impl Texts {
    /// Writes conversations.
    ///
    /// # Errors
    /// The errors of the writer.
    pub(crate) fn write(&mut self, all: &[Conversation], append: &AppendText, out: &mut dyn Write) -> io::Result<()> {
        let parts = all.len().div_ceil(TOGETHER);
        if self.buffers.len() < parts {
            self.buffers.resize_with(parts, || Vec::with_capacity(TOGETHER * TEXT_BYTES));
        }
        all.par_chunks(TOGETHER).zip(&mut self.buffers).try_for_each(|(conversations, buffer)| {
            buffer.clear();
            conversations.iter().try_for_each(|own| append(own, buffer))
        })?;
        self.buffers[..parts].iter().try_for_each(|buffer| out.write_all(buffer))
    }
}

/// Writes conversations as one line of JSON each, with their whole provenance.
#[derive(Debug, Default)]
pub struct Lines {
    texts: Texts,
}

impl Lines {
    /// Writes conversations.
    ///
    /// # Errors
    /// The errors of the writer.
    pub fn write(&mut self, all: &[Conversation], out: &mut dyn Write) -> io::Result<()> {
        let line = |own: &Conversation, text: &mut Vec<u8>| {
            append(own, text)?;
            text.push(b'\n');
            Ok(())
        };
        self.texts.write(all, &line, out)
    }
}

/// Appends a conversation as `serde_json` writes it.
pub(super) fn append(own: &Conversation, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let Conversation { id, task, group, answer_shape, licence, images, embedded: _, video, messages, .. } = own;
    let Conversation { template, source_file, source_row, choice_order, votes, right_choice, boxes, packed, .. } = own;
    for (name, value) in [
        ("{\"id\":", id.as_str()),
        (",\"task\":", task),
        (",\"group\":", group),
        (",\"answer_shape\":", answer_shape.name()),
        (",\"licence\":", licence),
    ] {
        out.extend_from_slice(name.as_bytes());
        json_text::text(out, value);
    }
    out.extend_from_slice(b",\"images\":");
    json_text::list(out, images, |out, image| {
        out.extend_from_slice(b"{\"path\":");
        json_text::text(out, &image.path);
        out.push(b'}');
        Ok(())
    })?;
    if let Some(video) = video {
        out.extend_from_slice(b",\"video\":");
        serde_json::to_writer(&mut *out, video)?;
    }
    out.extend_from_slice(b",\"messages\":");
    json_text::list(out, messages, |out, message| {
        out.extend_from_slice(b"{\"role\":");
        json_text::text(out, message.role.name());
        out.extend_from_slice(b",\"content\":");
        json_text::text(out, &message.content);
        out.push(b'}');
        Ok(())
    })?;
    out.extend_from_slice(b",\"template\":");
    json_text::text(out, template);
    out.extend_from_slice(b",\"source_file\":");
    json_text::text(out, source_file);
    out.extend_from_slice(b",\"source_row\":");
    json_text::number(out, *source_row);
    out.extend_from_slice(b",\"choice_order\":");
    serde_json::to_writer(&mut *out, choice_order)?;
    if !votes.is_empty() {
        out.extend_from_slice(b",\"votes\":");
        json_text::list(out, votes, |out, (text, count)| {
            out.push(b'[');
            json_text::text(out, text);
            out.push(b',');
            json_text::number(out, *count as u64);
            out.push(b']');
            Ok(())
        })?;
    }
    if let Some(right_choice) = right_choice {
        out.extend_from_slice(b",\"right_choice\":");
        json_text::number(out, u64::from(*right_choice));
    }
    if !boxes.is_empty() {
        out.extend_from_slice(b",\"boxes\":");
        serde_json::to_writer(&mut *out, boxes)?;
    }
    if !packed.is_empty() {
        out.extend_from_slice(b",\"packed\":");
        serde_json::to_writer(&mut *out, packed)?;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::NativeBox;
    use crate::build::{Message, PackedRecord, Role};
    use crate::export::tests::conversation;
    use crate::record::VideoReference;

    #[test]
    fn lines_are_as_serde_json_writes_them() {
        let plain = conversation("vqa/a", &["a \"b\"\n", "c"]);
        let mut full = conversation("vqa/a", &["a", "b", "c\u{1}", "d"]);
        full.messages.insert(0, Message { role: Role::System, content: "é".to_owned() });
        full.video = Some(VideoReference { path: "v.mp4".to_owned(), start: Some(1.5), end: None });
        full.choice_order = vec![2, 0, 1];
        full.right_choice = Some(1);
        full.votes = vec![("a".to_owned(), 7), ("\\".to_owned(), 3)];
        full.boxes = vec![NativeBox::of([0.1, 0.2, 0.3, 0.4], "xywh", None).unwrap()];
        full.packed = vec![PackedRecord::of(&full), PackedRecord::of(&plain)];
        let mut empty = conversation("t", &[""]);
        (empty.images, empty.messages) = (Vec::new(), Vec::new());
        for own in [plain, full, empty] {
            let mut text = Vec::new();
            append(&own, &mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&own).unwrap());
        }
    }
}
