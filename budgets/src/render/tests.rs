use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::machine::shared;

/// Returns the tokenizer that was trained for the golden values.
fn own() -> Tokenizer {
    Tokenizer::from_json(include_str!("../../golden/tokenizer.json")).unwrap()
}

fn turn(role: &str, text: &str) -> Turn {
    Turn { role: Role::named(role), text: text.to_owned() }
}

fn turns(messages: &Value) -> Vec<Turn> {
    let own = |message: &Value| turn(message["role"].as_str().unwrap(), message["content"].as_str().unwrap());
    messages.as_array().unwrap().iter().map(own).collect()
}

/// Returns the file of a tokenizer that is not in the repository; `None` if the machine does not
/// have it.
fn tokenizer_file(name: &str) -> Option<String> {
    let path = shared("data/models/tokenizers")?.join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Returns a tokenizer with GPT-2's vocabulary and the tokens of chat templates.
fn gpt2(marks: &[&str]) -> Option<Tokenizer> {
    let vocabulary: Value = serde_json::from_str(&tokenizer_file("gpt2_encoder.json")?).unwrap();
    let merges: Vec<&str> =
        vocabulary_lines(&tokenizer_file("gpt2_vocab.bpe")?).map(|line| -> &str { line.leak() }).collect();
    let first = vocabulary.as_object().unwrap().len();
    let added: Vec<Value> = marks
        .iter()
        .enumerate()
        .map(|(place, mark)| {
            json!({"id": first + place, "content": mark, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let settings = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}});
    Some(Tokenizer::from_json(&settings.to_string()).unwrap())
}

fn vocabulary_lines(text: &str) -> impl Iterator<Item = String> {
    let lines: Vec<String> = text.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    lines.into_iter()
}

const MARKS: &[&str] = &[
    "<s>",
    "</s>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
];

#[test]
fn tokens_and_masks_are_those_of_transformers() {
    let golden: Value = serde_json::from_str(include_str!("../../golden/render.json")).unwrap();
    let (mut compared, mut borders) = (0, 0);
    for (name, templates) in golden["tokens"].as_object().unwrap() {
        let tokenizer = match name.as_str() {
            "tokenizer.json" => Some(own()),
            "llama" => {
                tokenizer_file("llama_tokenizer_dolma_test.json").map(|text| Tokenizer::from_json(&text).unwrap())
            }
            _ => gpt2(MARKS),
        };
        let Some(tokenizer) = tokenizer else { continue };
        for (template, rows) in templates.as_object().unwrap() {
            let renderer = Renderer::new(Template::parse(template).unwrap(), &tokenizer).unwrap();
            for (messages, expected) in golden["conversations"].as_array().unwrap().iter().zip(rows.as_array().unwrap())
            {
                let outcome = renderer.tokens(&turns(messages));
                let place = format!("{name}, {template}: {messages}");
                if expected.is_null() {
                    assert!(matches!(outcome, Err(Refused::Turn { .. })), "{place}");
                } else if let Some(text) = expected["border"].as_str() {
                    let Err(Refused::Border { text: own, .. }) = &outcome else { panic!("{place}: {outcome:?}") };
                    assert_eq!(own, text, "{place}");
                    borders += 1;
                } else {
                    let own = outcome.unwrap();
                    let mask: Vec<u8> = own.loss_mask.iter().map(|learned| u8::from(*learned)).collect();
                    if expected["ids"].is_array() {
                        assert_eq!(
                            (json!(own.ids), json!(mask)),
                            (expected["ids"].clone(), expected["mask"].clone()),
                            "{place}"
                        );
                    } else {
                        assert_eq!(json!(own.ids.len()), expected["tokens"], "{place}");
                        let digest = Sha256::digest(json!([own.ids, mask]).to_string());
                        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
                        assert_eq!(json!(digest), expected["sha256"], "{place}");
                    }
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 70 && borders > 0, "{compared} equal, {borders} at borders");
}

#[test]
fn what_is_learned_is_what_the_assistant_says_and_the_end_of_its_turn() {
    let tokenizer = own();
    let talk =
        [turn("user", "Is it red?"), turn("assistant", "No, brown."), turn("user", "Sure?"), turn("assistant", "Yes.")];
    let expected = [
        (Template::Vicuna, " No, brown.</s>| Yes.</s>"),
        (Template::Llama2, " No, brown. </s>| Yes. </s>"),
        (Template::Llama3, "No, brown.<|eot_id|>|Yes.<|eot_id|>"),
        (Template::ChatMl, "No, brown.<|im_end|>|Yes.<|im_end|>"),
        (Template::Qwen, "No, brown.<|im_end|>|Yes.<|im_end|>"),
        (Template::Lynx, " No, brown.</s>| Yes.</s>"),
    ];
    for (template, learned) in expected {
        let rendered = Renderer::new(template, &tokenizer).unwrap().text(&talk).unwrap();
        let own: Vec<&str> = rendered.learned.iter().map(|span| &rendered.text[span.clone()]).collect();
        assert_eq!(own.join("|"), learned, "{template:?}");
    }
    let lynx = Renderer::new(Template::Lynx, &tokenizer).unwrap().text(&talk[..2]).unwrap();
    assert_eq!(lynx.text, "<s>User: Is it red?\nBot: No, brown.</s>");
}

#[test]
fn what_has_no_right_mask_is_refused() {
    let tokenizer = own();
    let refused = |template: Template, talk: &[Turn]| {
        Renderer::new(template, &tokenizer).unwrap().tokens(talk).unwrap_err().to_string()
    };
    let held = [turn("user", "Say <|im_end|>"), turn("assistant", "No.")];
    assert!(refused(Template::ChatMl, &held).contains("contains <|im_end|>"));
    assert!(Renderer::new(Template::Llama3, &tokenizer).unwrap().tokens(&held).is_ok(), "it is plain text there");
    let open = [turn("user", "Why?")];
    assert!(refused(Template::Vicuna, &open).contains("last turn"));
    let twice = [turn("user", "Why?"), turn("user", "Why?"), turn("assistant", "So.")];
    assert!(refused(Template::Llama2, &twice).contains("turn 1"));
    assert!(refused(Template::Llama2, &[]).contains("last turn"));
    let led = [turn("system", "Be kind."), turn("user", "Why?"), turn("assistant", "So.")];
    assert!(refused(Template::Lynx, &led).contains("no system message"));
}

#[test]
fn a_tokenizer_of_another_model_is_told() {
    let bare = r#"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "<bos>": 1, "<eos>": 2}, "unk_token": "a"}}"#;
    let tokenizer = Tokenizer::from_json(bare).unwrap();
    let told = Renderer::new(Template::ChatMl, &tokenizer).unwrap_err().to_string();
    assert!(told.contains("<|im_start|>") && told.contains("chatml"), "{told}");
    let lynx = Renderer::new(Template::Lynx, &tokenizer).unwrap();
    let talk = [turn("user", "a"), turn("assistant", "a")];
    assert!(lynx.text(&talk).unwrap().text.starts_with("<bos>"), "as tokenizers that lynxdata trains");
    assert!(Tokenizer::from_json("{}").is_err());
    assert!(Template::parse("alpaca").unwrap_err().to_string().contains("vicuna, llama2"));
}
