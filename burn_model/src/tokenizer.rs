//! Byte-level BPE, trained here or pretrained: every text has an encoding, and every token a known
//! number of bytes.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::Lowercase;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Inner, TokenizerImpl};

use crate::error::{Error, Result};

/// Settings for training a tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Maximum number of tokens, at least 259: three special tokens and the 256 bytes. Short texts
    /// give fewer. Default 1024.
    pub vocabulary: usize,
    /// Whether texts are lower-cased, as in Lynx. Default true.
    pub lowercase: bool,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { vocabulary: 1024, lowercase: true }
    }
}

impl TokenizerConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// If the vocabulary is too small.
    pub fn validate(&self) -> Result<()> {
        let smallest = Tokenizer::SPECIAL.len() + 256;
        if self.vocabulary < smallest {
            return Err(Error::Setting {
                setting: "vocabulary",
                value: self.vocabulary.to_string(),
                reason: format!("it must be at least {smallest}: the special tokens and the 256 bytes"),
            });
        }
        Ok(())
    }
}

/// Converts texts to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    /// Bytes of text that each token represents; 0 for special tokens.
    bytes: Vec<usize>,
    /// The maximum of `bytes`.
    longest: usize,
    begin: u32,
    end: u32,
}

/// Characters of a text that a tokenizer is trained on; what follows them is left out. A pass over
/// the merges looks at every character of a word, and a text without spaces is one word: ten texts
/// of a megabyte took minutes. Captions that people write are shorter.
const TRAINED_CHARACTERS: usize = 8192;

/// Returns the first characters of a text.
fn beginning(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

/// Trains a byte-level BPE on `texts`: the same texts in any order and on any number of threads
/// give the same tokens. Only the first 8192 characters of a text are used.
///
/// For a check, train it once on all arms together with the held-out captions, never on one arm.
pub fn train_tokenizer(texts: &[&str], config: &TokenizerConfig) -> Result<Tokenizer> {
    config.validate()?;
    // min_frequency 2: a pair seen once says nothing about other texts.
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(config.vocabulary)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect::<HashSet<char>>())
        .special_tokens(Tokenizer::SPECIAL.map(|token| AddedToken::from(token, true)).to_vec())
        .build();
    let byte_level = ByteLevel::new(false, false, true);
    let mut tokenizer: TokenizerImpl<BPE, Lowercase, ByteLevel, ByteLevel, ByteLevel> =
        TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    if config.lowercase {
        tokenizer.with_normalizer(Some(Lowercase)).map_err(failed)?;
    }
    tokenizer.train(&mut trainer, texts.iter().map(|text| beginning(text, TRAINED_CHARACTERS))).map_err(failed)?;
    Tokenizer::from_json(&tokenizer.to_string(false).map_err(failed)?)
}

impl Tokenizer {
    /// Pads sequences to their common length; id 0. No other token attends to it, so in a
    /// pretrained tokenizer it may represent anything.
    pub const PAD: u32 = 0;
    /// The begin token of a tokenizer that [`train_tokenizer`] made; id 1.
    pub const BOS: u32 = 1;
    /// The end token of a tokenizer that [`train_tokenizer`] made; id 2.
    pub const EOS: u32 = 2;
    /// The special tokens in the order of their ids.
    const SPECIAL: [&'static str; 3] = ["<pad>", "<bos>", "<eos>"];

    /// Reads a tokenizer that [`Self::to_json`] wrote (the `tokenizer.json` of Hugging Face).
    pub fn from_json(json: &str) -> Result<Self> {
        let mut inner: Inner = json.parse().map_err(failed)?;
        // Special tokens in a caption are ordinary text.
        inner.set_encode_special_tokens(true);
        for (id, token) in (0..).zip(Self::SPECIAL) {
            if inner.token_to_id(token) != Some(id) {
                return Err(Error::Tokenizer { reason: format!("{token} is not token {id}; train it again") });
            }
        }
        let size = inner.get_vocab_size(true) as u32;
        let bytes = (0..size).map(|id| {
            // Byte-level BPE writes every byte as one character.
            let characters = inner.id_to_token(id).map(|token| token.chars().count());
            if id < Self::SPECIAL.len() as u32 { Some(0) } else { characters }
        });
        let bytes: Option<Vec<usize>> = bytes.collect();
        let bytes = bytes.ok_or_else(|| Error::Tokenizer { reason: "its token ids have gaps".to_owned() })?;
        Ok(Self::with_bytes(inner, bytes, Self::BOS, Self::EOS))
    }

    /// Reads the `tokenizer.json` of a pretrained model with `vocabulary` tokens. The token `begin`
    /// is put before every text, and `end` after it. Texts are not lower-cased unless the file says
    /// so.
    ///
    /// Byte-level BPE (GPT-2, SmolLM2, Qwen2, Llama 3) and BPE with bytes as a fallback (LLaMA,
    /// Vicuna) are read; another kind, whose tokens have no known bytes, is an error. LLaMA's puts
    /// a space before a text, which counts as a byte. Ids without a token, with which some models
    /// round up their vocabulary, represent 0 bytes.
    pub fn pretrained(json: &str, begin: u32, end: u32, vocabulary: usize) -> Result<Self> {
        let refused = |reason: String| Error::Tokenizer { reason };
        let mut inner: Inner = json.parse().map_err(failed)?;
        inner.set_encode_special_tokens(true);
        inner.with_truncation(None).map_err(failed)?;
        inner.with_padding(None);
        let spelling = serde_json::to_value(inner.get_decoder()).map_err(failed)?.to_string();
        let byte_level = spelling.contains(r#""ByteLevel""#);
        if !byte_level && !spelling.contains(r#""ByteFallback""#) {
            return Err(refused("it is neither byte-level BPE nor BPE with bytes as a fallback".to_owned()));
        }
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0).max(begin).max(end);
        if largest as usize >= vocabulary {
            return Err(refused(format!("it has token id {largest}, but the model has only {vocabulary} tokens")));
        }
        let added = inner.get_added_tokens_decoder();
        let bytes = (0..vocabulary as u32).map(|id| match (added.get(&id), inner.id_to_token(id)) {
            (Some(token), _) if token.special => 0,
            (Some(token), _) => token.content.len(),
            (None, None) => 0,
            (None, Some(token)) if byte_level => token.chars().count(),
            (None, Some(token)) => fallback_bytes(&token),
        });
        let bytes = bytes.collect();
        Ok(Self::with_bytes(inner, bytes, begin, end))
    }

    fn with_bytes(inner: Inner, bytes: Vec<usize>, begin: u32, end: u32) -> Self {
        let longest = bytes.iter().copied().max().unwrap_or(0);
        Self { inner, bytes, longest, begin, end }
    }

    /// Returns the token that comes before every text.
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// Returns the token that comes after every text that is not cut.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Returns the `tokenizer.json` of Hugging Face.
    pub fn to_json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(failed)
    }

    /// Returns the number of tokens; ids go from 0 to this minus 1.
    pub fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the tokens of a text, without special tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.encode_fast(text, false).map_err(failed)?.get_ids().to_vec())
    }

    /// Encodes enough of a text to determine its first `tokens` tokens; the tokens after them may
    /// differ from those of the whole text.
    ///
    /// A cut changes the word that it goes through. Each merge of the tokenizer can move the change
    /// one token further to the left, so it reaches at most (number of tokens) · (longest token) to
    /// the left. A character is at least one byte, and the alternatives by which texts are split
    /// into words look at most three characters ahead.
    pub(crate) fn encode_beginning(&self, text: &str, tokens: usize) -> Result<Vec<u32>> {
        let characters = (tokens + self.vocabulary()) * self.longest + 4;
        self.encode(beginning(text, characters))
    }

    /// Encodes enough of a text to determine its last `tokens` tokens, as
    /// [`Self::encode_beginning`] does for its first ones.
    ///
    /// They may differ from those of the whole text if that is one word; the result is the same in
    /// every run.
    pub(crate) fn encode_end(&self, text: &str, tokens: usize) -> Result<Vec<u32>> {
        let characters = (tokens + self.vocabulary()) * self.longest + 4;
        let start = text.char_indices().nth_back(characters).map_or(0, |(place, _)| place);
        self.encode(&text[start..])
    }

    /// Returns the text of tokens, without special tokens; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(failed)
    }

    /// Returns the bytes of text that a token represents: 0 for special and unknown tokens.
    pub fn bytes(&self, id: u32) -> usize {
        self.bytes.get(id as usize).copied().unwrap_or(0)
    }
}

/// Returns the bytes of a token in the spelling of SentencePiece: `<0x0A>` is a byte, `▁` a space.
fn fallback_bytes(token: &str) -> usize {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    if byte.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok()) {
        return 1;
    }
    token.chars().map(|character| if character == '\u{2581}' { 1 } else { character.len_utf8() }).sum()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = [
        "a red circle at the top",
        "A red square at the left",
        "a blue circle at the left",
        "the top of a blue square",
    ];

    fn trained(lowercase: bool) -> Tokenizer {
        train_tokenizer(&TEXTS, &TokenizerConfig { vocabulary: 300, lowercase }).unwrap()
    }

    #[test]
    fn decodes_what_it_encodes() {
        let tokenizer = trained(false);
        for text in ["A red CIRCLE", "naïve 猫 🐈", "", "  two  spaces ", "<eos> in a caption"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(ids.iter().map(|id| tokenizer.bytes(*id)).sum::<usize>(), text.len());
            assert!(ids.iter().all(|id| *id > Tokenizer::EOS));
        }
    }

    #[test]
    fn merges_frequent_words_and_lowercases() {
        let tokenizer = trained(true);
        assert_eq!(tokenizer.encode("RED").unwrap(), tokenizer.encode("red").unwrap());
        assert_eq!(tokenizer.encode(" circle").unwrap().len(), 1);
    }

    #[test]
    fn training_does_not_depend_on_order_or_process() {
        let mut texts = TEXTS;
        texts.reverse();
        let config = TokenizerConfig { vocabulary: 300, lowercase: true };
        let reversed = train_tokenizer(&texts, &config).unwrap();
        assert_eq!(reversed.to_json().unwrap(), trained(true).to_json().unwrap());
        // A fixed value, so that every process, whatever its hash seeds, must find the same merges.
        assert_eq!(reversed.encode("a blue square at the top").unwrap(), [67, 284, 286, 265, 264, 281]);
    }

    #[test]
    fn the_beginning_of_a_text_has_the_tokens_of_the_whole() {
        let long = |unit: &str| unit.repeat(60_000 / unit.len());
        for lowercase in [false, true] {
            let tokenizer = trained(lowercase);
            // Words of all lengths, one word, a run that merges with itself, spaces, characters
            // that become shorter in lower case, contractions.
            for text in [
                "a red circle at the left ",
                "abcquaret",
                "e",
                "ee ",
                "   ",
                "\u{212a}",
                "İẞ",
                "we're'll ",
                "猫",
                "\t red",
            ] {
                let text = long(text);
                let whole = tokenizer.encode(&text).unwrap();
                for tokens in [1, 24, 100] {
                    let cut = tokenizer.encode_beginning(&text, tokens).unwrap();
                    assert_eq!(cut[..tokens], whole[..tokens], "{tokens} of {:?}", &text[..12]);
                    assert!(cut.len() < whole.len() / 2, "{} of {}", cut.len(), whole.len());
                }
            }
            let short = "a caption as people write it, of ordinary length";
            assert_eq!(tokenizer.encode_beginning(short, 1).unwrap(), tokenizer.encode(short).unwrap());
        }
    }

    #[test]
    fn long_texts_are_trained_on_as_far_as_their_beginning() {
        let config = TokenizerConfig { vocabulary: 300, lowercase: true };
        let long = "quadrangle".repeat(100_000);
        let [whole, cut] = [&long[..], &long[..TRAINED_CHARACTERS]]
            .map(|text| train_tokenizer(&[text, "a red circle"], &config).unwrap().to_json().unwrap());
        assert_eq!(whole, cut);
    }

    #[test]
    fn survives_json() {
        let tokenizer = trained(true);
        let json = tokenizer.to_json().unwrap();
        let again = Tokenizer::from_json(&json).unwrap();
        assert_eq!(again.encode("a red <bos>").unwrap(), tokenizer.encode("a red <bos>").unwrap());
        assert_eq!(again.to_json().unwrap(), json);
    }

    #[test]
    fn refuses_a_vocabulary_smaller_than_the_bytes() {
        let config = TokenizerConfig { vocabulary: 200, lowercase: true };
        assert!(train_tokenizer(&TEXTS, &config).unwrap_err().to_string().contains("259"));
    }
}
