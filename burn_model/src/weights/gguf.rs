//! Headers of GGUF files, versions 2 and 3 (ggml's docs/gguf.md): metadata, tensors, tokenizer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::tensors::{Encoding, Stored, Tensors, refused};
use crate::error::{Error, Result};

/// Maximum bytes of a header: three times that of a model with 250,000 tokens.
const MAX_HEADER: u64 = 50_000_000;

/// The first byte of a tensor is a multiple of this, unless the file says otherwise.
const ALIGNMENT: u64 = 32;

/// Reads the metadata and finds all tensors.
pub(super) fn file(path: &Path) -> Result<(Metadata, Tensors)> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let file_bytes = file.metadata().map_err(failed)?.len();
    let mut header = Header { path, file: BufReader::new(file), left: MAX_HEADER.min(file_bytes) };
    if header.bytes::<4>()? != *b"GGUF" {
        return Err(header.damaged("it does not begin with GGUF"));
    }
    let version = header.u32()?;
    if !(2..=3).contains(&version) {
        return Err(header.damaged(&format!("version {version} of GGUF is not supported")));
    }
    let (n_tensors, n_entries) = (header.u64()?, header.u64()?);
    // Counts are not trusted: every entry takes bytes, and the remaining bytes of the file limit
    // them.
    let mut entries = BTreeMap::new();
    for _ in 0..n_entries {
        let key = header.string()?;
        let kind = header.u32()?;
        entries.insert(key, header.entry(kind)?);
    }
    let metadata = Metadata { entries };
    let mut found = Vec::new();
    for _ in 0..n_tensors {
        found.push(header.tensor()?);
    }
    let end = header.file.stream_position().map_err(failed)?;
    let alignment = metadata.number("general.alignment").map_or(ALIGNMENT, |number| number as u64);
    let Some(data) = end.checked_next_multiple_of(alignment) else {
        return Err(header.damaged("its alignment is 0"));
    };
    let shared: Arc<Path> = path.into();
    let mut tensors = Tensors::default();
    for Found { name, shape, encoding, offset } in found {
        let Some(offset) = data.checked_add(offset) else {
            return Err(refused(path, &name, format!("it begins at {offset}")));
        };
        tensors.add(name, Stored { file: Arc::clone(&shared), encoding, shape, offset }, file_bytes)?;
    }
    Ok((metadata, tensors))
}

/// The metadata of a file; entries that are not used here are left out.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Number(f64),
    Text(String),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Metadata {
    /// Returns a text.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.entries.get(key) {
            Some(Entry::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns a number; a flag is 0 or 1.
    pub(super) fn number(&self, key: &str) -> Option<f64> {
        match self.entries.get(key) {
            Some(Entry::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn texts(&self, key: &str) -> Option<&[String]> {
        match self.entries.get(key) {
            Some(Entry::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// Returns the entry as JSON, whole numbers as such.
    pub(super) fn json(&self, key: &str) -> Option<Value> {
        match self.entries.get(key)? {
            Entry::Number(number) if number.fract() == 0.0 && *number >= 0.0 => Some(json!(*number as u64)),
            Entry::Number(number) => Some(json!(number)),
            Entry::Text(text) => Some(json!(text)),
            Entry::Numbers(_) | Entry::Texts(_) => None,
        }
    }

    /// Returns the file's tokenizer in the form of Hugging Face's `tokenizer.json`, `None` if there
    /// is none; an error if it is not byte-level BPE, or splits texts in a way that is not known
    /// here.
    pub(super) fn tokenizer(&self) -> std::result::Result<Option<String>, String> {
        let Some(model) = self.text("tokenizer.ggml.model") else { return Ok(None) };
        if model != "gpt2" {
            return Err(format!("its tokenizer {model:?} is not byte-level BPE"));
        }
        let missing = |key: &str| format!("{key} is missing");
        let tokens = self.texts("tokenizer.ggml.tokens").ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let merges = self.texts("tokenizer.ggml.merges").ok_or_else(|| missing("tokenizer.ggml.merges"))?;
        let pre = self.text("tokenizer.ggml.pre").unwrap_or("gpt-2");
        let Some((_, split)) = SPLITS.iter().find(|(name, _)| *name == pre) else {
            return Err(format!("its pre-tokenizer {pre:?} is not known"));
        };
        let vocabulary: Map<String, Value> =
            tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let kinds: &[f64] = match self.entries.get("tokenizer.ggml.token_type") {
            Some(Entry::Numbers(kinds)) => kinds,
            _ => &[],
        };
        let added = kinds.iter().zip(tokens).enumerate().filter(|(_, (kind, _))| [CONTROL, USER].contains(*kind));
        let added = added.map(|(id, (kind, token))| {
            json!({"id": id, "content": token, "special": *kind == CONTROL, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false})
        });
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<Value>>(),
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": split.pre_tokenizers()},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": split.whole_words,
                "vocab": vocabulary, "merges": merges},
        });
        Ok(Some(tokenizer.to_string()))
    }
}

/// Kinds of tokens: special ones, and ones that the model's authors added as text.
const CONTROL: f64 = 3.0;
const USER: f64 = 4.0;

/// The split of a text into words, between which nothing is merged.
struct Split {
    /// Whether every digit is a separate word, before other words are found.
    digits: bool,
    /// The words, as a regular expression; `None` for that of GPT-2.
    words: Option<&'static str>,
    /// Whether a word that is itself a token is used without merging its parts.
    whole_words: bool,
}

impl Split {
    fn pre_tokenizers(&self) -> Vec<Value> {
        let mut steps = Vec::new();
        if self.digits {
            steps.push(json!({"type": "Digits", "individual_digits": true}));
        }
        if let Some(words) = self.words {
            steps.push(json!({"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false}));
        }
        let use_regex = self.words.is_none();
        steps.push(
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex}),
        );
        steps
    }
}

/// The splits by the name in `tokenizer.ggml.pre`; the expressions are those of the models'
/// `tokenizer.json`.
const SPLITS: &[(&str, Split)] = &[
    ("gpt-2", Split { digits: false, words: None, whole_words: false }),
    ("smollm", Split { digits: true, words: None, whole_words: false }),
    ("qwen2", Split { digits: false, words: Some(QWEN2), whole_words: false }),
    ("llama-bpe", Split { digits: false, words: Some(LLAMA3), whole_words: true }),
];

const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tensor as the header describes it.
struct Found {
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    /// From the beginning of the data.
    offset: u64,
}

/// The part of a file before its data, read from the front.
struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
    /// Bytes that may still be read.
    left: u64,
}

impl Header<'_> {
    fn damaged(&self, reason: &str) -> Error {
        Error::Pretrained { path: self.path.to_owned(), reason: reason.to_owned() }
    }

    fn take(&mut self, bytes: u64) -> Result<()> {
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => return Err(self.damaged("its header is cut or too long")),
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)?;
        let mut bytes = [0; N];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|source| Error::File { path: self.path.to_owned(), source })?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u64()?;
        self.take(length)?;
        let mut bytes = vec![0; length as usize]; // no more than is left of the file
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|source| Error::File { path: self.path.to_owned(), source })?;
        String::from_utf8(bytes).map_err(|_| self.damaged("a text in its header is not UTF-8"))
    }

    /// Returns a number of one of the kinds that GGUF numbers.
    fn number(&mut self, kind: u32) -> Result<f64> {
        Ok(match kind {
            0 | 7 => f64::from(self.bytes::<1>()?[0]),
            1 => f64::from(self.bytes().map(i8::from_le_bytes)?),
            2 => f64::from(self.bytes().map(u16::from_le_bytes)?),
            3 => f64::from(self.bytes().map(i16::from_le_bytes)?),
            4 => f64::from(self.u32()?),
            5 => f64::from(self.bytes().map(i32::from_le_bytes)?),
            6 => shortest(self.bytes().map(f32::from_le_bytes)?),
            10 => self.u64()? as f64,
            11 => self.bytes().map(i64::from_le_bytes)? as f64,
            12 => self.bytes().map(f64::from_le_bytes)?,
            other => return Err(self.damaged(&format!("its metadata has an entry of the unknown type {other}"))),
        })
    }

    fn entry(&mut self, kind: u32) -> Result<Entry> {
        const TEXT: u32 = 8;
        const ARRAY: u32 = 9;
        match kind {
            TEXT => self.string().map(Entry::Text),
            ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if kind == TEXT {
                    (0..count).map(|_| self.string()).collect::<Result<_>>().map(Entry::Texts)
                } else {
                    (0..count).map(|_| self.number(kind)).collect::<Result<_>>().map(Entry::Numbers)
                }
            }
            _ => self.number(kind).map(Entry::Number),
        }
    }

    fn tensor(&mut self) -> Result<Found> {
        const MAX_AXES: u32 = 4;
        let name = self.string()?;
        let axes = self.u32()?;
        if axes > MAX_AXES {
            return Err(refused(self.path, &name, format!("it has {axes} axes")));
        }
        // ggml lists the contiguous axis first.
        let mut shape = (0..axes).map(|_| self.u64().map(|axis| axis as usize)).collect::<Result<Vec<usize>>>()?;
        shape.reverse();
        let encoding = match self.u32()? {
            0 => Encoding::F32,
            1 => Encoding::F16,
            2 => Encoding::Q4_0,
            3 => Encoding::Q4_1,
            8 => Encoding::Q8_0,
            30 => Encoding::Bf16,
            other => Encoding::Other(format!("ggml type {other}")),
        };
        Ok(Found { name, shape, encoding, offset: self.u64()? })
    }
}

/// Returns the shortest decimal number that is read as this float: 0.00001 and not
/// 0.000009999999747378752.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;
    use crate::tokenizer::Tokenizer;

    /// A tokenizer of bytes and a few merges, with a way to split texts.
    fn tokenizer(pre: &str) -> std::result::Result<Tokenizer, String> {
        let mut tokens: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        tokens.sort();
        let merges = ["1 2", "12 3", "123 4", "' S"].map(str::to_owned).to_vec();
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let vocabulary = tokens.len();
        let text = |text: &str| Entry::Text(text.to_owned());
        let entries = [
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text(pre)),
            ("tokenizer.ggml.tokens", Entry::Texts(tokens)),
            ("tokenizer.ggml.merges", Entry::Texts(merges)),
        ];
        let entries = entries.map(|(key, entry)| (key.to_owned(), entry)).into();
        let json = Metadata { entries }.tokenizer()?.ok_or("none")?;
        Tokenizer::pretrained(&json, 0, 0, vocabulary).map_err(|error| error.to_string())
    }

    #[test]
    fn texts_are_split_as_the_model_was_trained() {
        for (pre, digits, contraction) in [("gpt-2", 1, 2), ("smollm", 4, 2), ("qwen2", 4, 1), ("llama-bpe", 2, 1)] {
            let tokenizer = tokenizer(pre).unwrap();
            assert_eq!(tokenizer.encode("1234").unwrap().len(), digits, "{pre}");
            assert_eq!(tokenizer.encode("'S").unwrap().len(), contraction, "{pre}");
            for text in ["naïve 猫 🐈\r\n\r\n  two  spaces ", "don't 1999 'S"] {
                assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text, "{pre}");
            }
        }
        assert_eq!(tokenizer("deepseek-llm").unwrap_err(), "its pre-tokenizer \"deepseek-llm\" is not known");
    }
}
