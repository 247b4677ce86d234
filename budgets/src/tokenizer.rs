//! Hugging Face tokenizers, read from a `tokenizer.json`.

mod words;

use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as Inner;

use crate::error::{Error, Result};
use words::Words;

/// A tokenizer without truncation, padding and added special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    /// The cache of word counts, if texts may be counted word by word.
    words: Option<Words>,
}

/// A token and its byte range in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read or is not a tokenizer.
    pub fn read(path: &Path) -> Result<Tokenizer> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
        Tokenizer::from_json(&text).map_err(|reason| Error::Tokenizer { path: path.to_owned(), reason })
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// Returns why it is not a tokenizer.
    pub fn from_json(text: &str) -> std::result::Result<Tokenizer, String> {
        let mut settings: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        // With trimmed offsets, a token would not show that it begins with the space before a word.
        keep_spaces(&mut settings);
        let words = Words::of(&settings);
        let mut inner: Inner = serde_json::from_value(settings).map_err(|error| error.to_string())?;
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        Ok(Tokenizer { inner, words })
    }

    /// Counts the tokens of a text. It counts word by word if that gives the same result, so that
    /// each word is tokenised once.
    ///
    /// # Errors
    /// Returns why the tokenizer fails on the text.
    pub fn count(&self, text: &str) -> std::result::Result<u64, String> {
        let counted = self.words.as_ref().and_then(|words| words.count(text, &|word| self.count_whole(word)));
        counted.unwrap_or_else(|| self.count_whole(text))
    }

    fn count_whole(&self, text: &str) -> std::result::Result<u64, String> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok(encoding.len() as u64)
    }

    pub(crate) fn tokens(&self, text: &str) -> std::result::Result<Vec<Token>, String> {
        let encoding = self.inner.encode(text, false).map_err(|error| error.to_string())?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(&id, &(start, end))| Token { id, start, end }).collect())
    }

    pub(crate) fn has(&self, token: &str) -> bool {
        self.inner.token_to_id(token).is_some()
    }
}

/// Sets `trim_offsets` to false everywhere in the settings; the tokens stay the same.
fn keep_spaces(settings: &mut Value) {
    match settings {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut().filter(|(name, _)| *name != "model") {
                if name == "trim_offsets" {
                    *value = Value::Bool(false);
                } else {
                    keep_spaces(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(keep_spaces),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
