//! Counts the tokens of texts word by word.
//!
//! The tokenizer takes most of the time of an audit, and most words of a text have occurred before.
//! If no token contains a space after another character, the tokens of a text are the sum of the
//! tokens of its words, each with the space before it. So each word must be tokenised only once.
//!
//! This is true for three kinds of tokenizers. The first kind splits a text by a regular expression
//! whose matches never continue from another character into a single space (GPT-2, Llama 3, Qwen;
//! the known expressions are listed below). The second is BERT's, which splits at white space. The
//! third is SentencePiece, which merges pieces of the whole text: no merge crosses a border between
//! words if its result is not in the vocabulary.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// The character that SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

/// The maximum number of cached words in all shards: about 20 MB.
const REMEMBERED: usize = 1 << 18;

/// The number of shards of the cache. Each has its own lock, so that cores rarely wait for each
/// other.
const SHARDS: usize = 64;

/// Regular expressions that never match from another character into a single space: each
/// alternative begins with at most one character that may be a space, or matches only white space.
/// They are copied from the `tokenizer.json` of Llama 3, and of Qwen2, Qwen2.5 and Qwen3, and from
/// GPT-2's code.
const EXPRESSIONS: &[&str] = &[
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
];

/// The form in which a word is passed to the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// With the space before it.
    WithSpace,
    /// Without the space, because the tokenizer puts one before every text.
    WithoutSpace,
}

/// An added token, which is found in texts before they are split.
#[derive(Debug)]
struct Added {
    content: String,
    /// Whether it is matched exactly as written, at any position. Others are matched in the
    /// normalised text, or include spaces around them.
    is_plain: bool,
}

/// A cache of the numbers of tokens of words.
#[derive(Debug)]
pub(super) struct Words {
    asked: Asked,
    added: Vec<Added>,
    /// Whether an added token may begin with a byte.
    may_begin: Box<[bool; 256]>,
    known: Vec<Mutex<HashMap<Box<str>, u32>>>,
}

impl Words {
    /// Creates a cache if the settings of a tokenizer allow counting word by word.
    pub(super) fn of(settings: &Value) -> Option<Words> {
        let asked = asked(settings)?;
        let mut may_begin = Box::new([false; 256]);
        let mut added = Vec::new();
        for token in settings.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let content = token.get("content")?.as_str()?;
            let first = *content.as_bytes().first()?;
            // An added token that looks like a word or contains a space could be anywhere in a
            // text.
            if first.is_ascii_alphanumeric() || first.is_ascii_whitespace() || content.contains(' ') {
                return None;
            }
            may_begin[usize::from(first)] = true;
            let is_set = |name: &str| token.get(name).and_then(Value::as_bool).unwrap_or(false);
            let is_plain = !["normalized", "lstrip", "rstrip", "single_word"].into_iter().any(is_set);
            if !is_plain && !content.is_ascii() {
                return None;
            }
            added.push(Added { content: content.to_owned(), is_plain });
        }
        added.sort_by_key(|token| std::cmp::Reverse(token.content.len()));
        let known = (0..SHARDS).map(|_| Mutex::default()).collect();
        Some(Words { asked, added, may_begin, known })
    }

    /// Counts the tokens of a text as the sum of its words; `whole` counts a word. Returns `None`
    /// if the text must be counted as a whole.
    pub(super) fn count(&self, text: &str, whole: &dyn Fn(&str) -> Result<u64, String>) -> Option<Result<u64, String>> {
        let (bytes, mut count, mut from) = (text.as_bytes(), 0, 0);
        for (place, byte) in bytes.iter().enumerate() {
            if place < from || !self.may_begin[usize::from(*byte)] {
                continue;
            }
            let begins = |token: &&Added| {
                let here = bytes[place..].get(..token.content.len());
                here.is_some_and(|here| {
                    let own = token.content.as_bytes();
                    if token.is_plain { here == own } else { here.eq_ignore_ascii_case(own) }
                })
            };
            let Some(token) = self.added.iter().find(begins) else { continue };
            if !token.is_plain {
                return None;
            }
            match self.section(&text[from..place], whole) {
                Ok(tokens) => count += tokens + 1,
                Err(reason) => return Some(Err(reason)),
            }
            from = place + token.content.len();
        }
        Some(self.section(&text[from..], whole).map(|tokens| count + tokens))
    }

    /// Counts the tokens of a text that contains no added tokens.
    fn section(&self, text: &str, whole: &dyn Fn(&str) -> Result<u64, String>) -> Result<u64, String> {
        let (bytes, mut count, mut from) = (text.as_bytes(), 0, 0);
        for place in spaces(bytes) {
            // A border is a single space between two words, with no other white space next to it.
            let is_border = place > from
                && text[..place].chars().next_back().is_some_and(is_of_word)
                && text[place + 1..].chars().next().is_some_and(is_of_word);
            if is_border {
                count += self.word(&text[from..place], from > 0, whole)?;
                from = place;
            }
        }
        Ok(count + self.word(&text[from..], from > 0, whole)?)
    }

    fn word(
        &self,
        word: &str,
        is_behind_space: bool,
        whole: &dyn Fn(&str) -> Result<u64, String>,
    ) -> Result<u64, String> {
        let asked = match self.asked {
            Asked::WithoutSpace if is_behind_space => &word[1..],
            _ => word,
        };
        if asked.is_empty() {
            return Ok(0);
        }
        let mut hasher = DefaultHasher::new();
        asked.hash(&mut hasher);
        let shard = &self.known[hasher.finish() as usize % SHARDS];
        let found = shard.lock().unwrap_or_else(PoisonError::into_inner).get(asked).copied();
        if let Some(tokens) = found {
            return Ok(u64::from(tokens));
        }
        let tokens = whole(asked)?;
        let mut known = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED / SHARDS {
            known.insert(asked.into(), u32::try_from(tokens).unwrap_or(u32::MAX));
        }
        Ok(tokens)
    }
}

fn spaces(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(place, _)| place)
}

/// Returns whether a character is not white space, also for SentencePiece.
fn is_of_word(character: char) -> bool {
    !character.is_whitespace() && character != SPACE
}

/// Returns how words are passed to the tokenizer, or `None` if texts must not be counted word by
/// word.
fn asked(settings: &Value) -> Option<Asked> {
    let kind = |value: &Value| value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let parts = |name: &str, list: &str| -> Vec<Value> {
        match settings.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(all) => all.get(list).and_then(Value::as_array).cloned().unwrap_or_else(|| vec![all.clone()]),
        }
    };
    let normalizers = parts("normalizer", "normalizers");
    let cutters = parts("pre_tokenizer", "pretokenizers");
    let model = settings.get("model")?;
    // Dropout chooses tokens at random, and a unigram model scores whole texts.
    if model.get("dropout").is_some_and(|dropout| !dropout.is_null()) || kind(model) == "Unigram" {
        return None;
    }
    let known_normalizers = ["NFC", "Lowercase", "BertNormalizer"];
    if !cutters.is_empty() && normalizers.iter().all(|own| known_normalizers.contains(&kind(own).as_str())) {
        let cuts = |cutter: &Value| match kind(cutter).as_str() {
            "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" => Some(true),
            "ByteLevel" => Some(cutter.get("use_regex").and_then(Value::as_bool).unwrap_or(true)),
            "Split" => {
                let expression = cutter.get("pattern")?.get("Regex")?.as_str()?;
                Some(EXPRESSIONS.contains(&expression))
            }
            "Digits" => Some(false),
            _ => None,
        };
        let cut: Option<Vec<bool>> = cutters.iter().map(cuts).collect();
        return cut?.contains(&true).then_some(Asked::WithSpace);
    }
    let replaces_spaces = |own: &Value| {
        kind(own) == "Replace"
            && own.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str) == Some(" ")
            && own.get("content").and_then(Value::as_str) == Some("\u{2581}")
    };
    let prepends =
        |own: &Value| kind(own) == "Prepend" && own.get("prepend").and_then(Value::as_str) == Some("\u{2581}");
    let is_border = |vocabulary: &serde_json::Map<String, Value>| {
        let mut tokens = vocabulary.keys();
        tokens.all(|token| !token.trim_start_matches(SPACE).contains(SPACE))
    };
    let vocabulary = model.get("vocab").and_then(Value::as_object)?;
    if kind(model) != "BPE" && model.get("type").is_some() || !cutters.is_empty() || !is_border(vocabulary) {
        return None;
    }
    match normalizers.as_slice() {
        [first, second] if prepends(first) && replaces_spaces(second) => Some(Asked::WithoutSpace),
        [only] if replaces_spaces(only) => Some(Asked::WithSpace),
        _ => None,
    }
}
