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
    /// What the writer says.
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
    /// What the writer says.
    pub fn write(&mut self, all: &[Conversation], out: &mut dyn Write) -> io::Result<()> {
        let line = |own: &Conversation, text: &mut Vec<u8>| {
            json_text::append(text, own)?;
            text.push(b'\n');
            Ok(())
        };
        self.texts.write(all, &line, out)
    }
}
