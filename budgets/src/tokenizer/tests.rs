use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::machine::shared;

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/tokenizer.json")).unwrap()
}

fn read(settings: &Value) -> Tokenizer {
    let own = Tokenizer::from_json(&settings.to_string()).unwrap();
    assert!(own.words.is_some(), "this kind is counted by words");
    own
}

/// Returns tokenizers of all kinds that are counted word by word.
fn all() -> Vec<(&'static str, Tokenizer)> {
    let mut own = vec![("GPT-2", read(&golden()))];
    let mut cut = |name, pre_tokenizer: Value, normalizer: Value| {
        let mut settings = golden();
        settings["pre_tokenizer"] = pre_tokenizer;
        settings["normalizer"] = normalizer;
        own.push((name, read(&settings)));
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let split = |expression: &str| {
        let pattern = json!({"Regex": expression});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    let sequence = |first: Value, second: &Value| json!({"type": "Sequence", "pretokenizers": [first, second]});
    let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    cut("Llama 3", sequence(split(llama3), &bytes), Value::Null);
    cut("Qwen2", sequence(split(&llama3.replace("{1,3}", "")), &bytes), json!({"type": "NFC"}));
    let digits = json!({"type": "Digits", "individual_digits": true});
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    cut("SmolLM2", sequence(digits, &level), Value::Null);
    if let Some(folder) = shared("data/models/tokenizers") {
        for name in ["llama_tokenizer_dolma_test.json", "bert_uncased_minilm_tokenizer.json"] {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            own.push((name, read(&serde_json::from_str(&text).unwrap())));
        }
    }
    own
}

static TOKENIZERS: LazyLock<Vec<(&'static str, Tokenizer)>> = LazyLock::new(all);

#[test]
fn texts_have_as_many_tokens_as_their_words() {
    let documents = ["README.md", "ARCHITECTURE.md", "docs/audit.md", "docs/prompts.md", "prompts/banks/zh/vqa.toml"];
    let mut texts: Vec<String> = Vec::new();
    for name in documents {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let text = fs::read_to_string(path).unwrap();
        texts.extend(text.lines().map(str::to_owned));
        texts.extend(text.split("\n\n").map(str::to_owned));
    }
    for (name, tokenizer) in TOKENIZERS.iter() {
        for text in &texts {
            assert_eq!(tokenizer.count(text), tokenizer.count_whole(text), "{name}: {text:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_has_as_many_tokens_as_its_words(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "the", "don't", "I'LL", " ", "  ", "\n", "\r\n", "\t", "\u{a0}", "\u{3000}", "12345", "3.14", "…", "?!",
            "é", "e\u{301}", "\u{301}", "猫", "ねこ", "🐈", "\u{200b}", "-", "'", "\u{2581}", "</s>", "<s>", "<", "<image>",
            "<|im_start|>", "_", "(A)", "\u{1F3FD}", "ﬁ",
        ]), 0..14),
    ) {
        let text = pieces.concat();
        for (name, tokenizer) in TOKENIZERS.iter() {
            prop_assert_eq!(tokenizer.count(&text), tokenizer.count_whole(&text), "{}: {:?}", name, &text);
        }
    }
}

#[test]
fn what_could_cross_a_space_is_counted_as_a_whole() {
    let without = |change: &dyn Fn(&mut Value)| {
        let mut settings = golden();
        change(&mut settings);
        Words::of(&settings).is_none()
    };
    assert!(without(&|own| own["pre_tokenizer"] = json!({"type": "ByteLevel", "use_regex": false})));
    assert!(without(&|own| own["pre_tokenizer"] = Value::Null));
    assert!(without(&|own| own["model"]["dropout"] = json!(0.1)));
    assert!(without(&|own| own["added_tokens"][0]["content"] = json!("New York")));
    let pieces = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]});
    let sentences = |own: &mut Value, token: &str| {
        own["pre_tokenizer"] = Value::Null;
        own["normalizer"] = pieces.clone();
        own["model"]["vocab"] = json!({"a": 0, token: 1});
    };
    assert!(!without(&|own| sentences(own, "\u{2581}\u{2581}a")));
    assert!(without(&|own| sentences(own, "a\u{2581}b")));
}
