//! Finds strings that are plain text in the data but special tokens to a trainer.
//!
//! A tokenizer finds its special tokens anywhere in a text, and a trainer places images at them. A
//! `<video>` in an answer asks for a video that does not exist, and an `<|im_end|>` ends the turn
//! in the middle of a sentence.
//!
//! Every name between `<|` and `|>` counts as a special token: ChatML and Qwen (`<|im_start|>`,
//! `<|endoftext|>`, `<|image_pad|>`), Llama 3 and 4 (`<|eot_id|>`, `<|begin_of_text|>`), Phi
//! (`<|image_1|>`, `<|user|>`), GLM, mPLUG-Owl, Command R, and DeepSeek with full-width bars. The
//! others are listed here. Not listed are `<unk>`, `<pad>` and `<mask>`, which replace words in
//! published captions and neither end a turn nor ask for media; boxes and points such as `<box>`,
//! which are the subject of some tasks; and `USER:` and `###`, which are ordinary text.

/// The marker for the place of an image in a text of LLaVA's format.
pub const IMAGE_TOKEN: &str = "<image>";

/// The marker for the place of a video in it.
pub const VIDEO_TOKEN: &str = "<video>";

/// The reasons under which texts with a token are left out: the kind of media that it asks for, or
/// the end of a turn.
const IMAGE: &str = "image_token";
const VIDEO: &str = "video_token";
const AUDIO: &str = "audio_token";
const TURN: &str = "turn_token";

/// The tokens, their reasons, and the models or trainers that use them. Case matters, as it does to
/// tokenizers.
const TOKENS: &[(&str, &str, &str)] = &[
    (IMAGE_TOKEN, IMAGE, "LLaVA, LLaMA-Factory, ms-swift, Idefics, PaliGemma"),
    ("</image>", IMAGE, "MiniCPM-V"),
    ("<image_id>", IMAGE, "MiniCPM-V"),
    ("<slice>", IMAGE, "MiniCPM-V"),
    ("<image_placeholder>", IMAGE, "DeepSeek-VL"),
    ("<image-placeholder>", IMAGE, "LLaVA"),
    ("<im_start>", IMAGE, "LLaVA, Molmo"),
    ("<im_end>", IMAGE, "LLaVA, Molmo"),
    ("<im_patch>", IMAGE, "LLaVA, Molmo"),
    ("<img>", IMAGE, "Qwen-VL, InternVL; HTML has attributes in this tag"),
    ("</img>", IMAGE, "Qwen-VL, InternVL"),
    ("<IMG_CONTEXT>", IMAGE, "InternVL"),
    ("<ImageHere>", IMAGE, "InternLM-XComposer"),
    ("<start_of_image>", IMAGE, "Gemma 3"),
    ("<end_of_image>", IMAGE, "Gemma 3"),
    ("<image_soft_token>", IMAGE, "Gemma 3"),
    ("<fake_token_around_image>", IMAGE, "Idefics, SmolVLM"),
    ("<global-img>", IMAGE, "SmolVLM"),
    ("[IMG]", IMAGE, "Pixtral"),
    ("[IMG_BREAK]", IMAGE, "Pixtral"),
    ("[IMG_END]", IMAGE, "Pixtral"),
    (VIDEO_TOKEN, VIDEO, "LLaVA-NeXT-Video, LLaMA-Factory, ms-swift"),
    ("</video>", VIDEO, "MiniCPM-V"),
    ("<vila/video>", VIDEO, "VILA"),
    ("<audio>", AUDIO, "LLaMA-Factory, ms-swift"),
    ("</audio>", AUDIO, "MiniCPM-o"),
    ("<audio_soft_token>", AUDIO, "Gemma 3n"),
    ("[AUDIO]", AUDIO, "Voxtral"),
    ("<s>", TURN, "Llama 2, Mistral, Vicuna"),
    ("</s>", TURN, "Llama 2, Mistral, Vicuna"),
    ("[INST]", TURN, "Llama 2, Mistral"),
    ("[/INST]", TURN, "Llama 2, Mistral"),
    ("<<SYS>>", TURN, "Llama 2"),
    ("<</SYS>>", TURN, "Llama 2"),
    ("[SYSTEM_PROMPT]", TURN, "Mistral"),
    ("[/SYSTEM_PROMPT]", TURN, "Mistral"),
    ("<bos>", TURN, "Gemma"),
    ("<eos>", TURN, "Gemma"),
    ("<start_of_turn>", TURN, "Gemma"),
    ("<end_of_turn>", TURN, "Gemma"),
    ("<end_of_utterance>", TURN, "Idefics 2, SmolVLM"),
    ("[gMASK]", TURN, "GLM"),
    ("<sop>", TURN, "GLM"),
    ("<eop>", TURN, "GLM"),
];

/// The maximum length of a name between `<|` and `|>`, in bytes.
const LONGEST_NAME: usize = 40;

/// Returns the first special token in a text, and the reason under which a record with it is left
/// out.
pub fn find(text: &str) -> Option<(&str, &'static str)> {
    memchr::memchr2_iter(b'<', b'[', text.as_bytes()).find_map(|place| {
        let rest = &text[place..];
        let listed = TOKENS.iter().find(|(token, ..)| rest.starts_with(token));
        listed.map(|(token, reason, _)| (*token, *reason)).or_else(|| {
            let token = between_bars(rest)?;
            Some((token, reason_of_name(&token.to_ascii_lowercase())))
        })
    })
}

/// Returns a token such as `<|im_end|>` at the start of the text.
fn between_bars(text: &str) -> Option<&str> {
    let (bar, after) =
        ['|', '｜'].into_iter().find_map(|bar| Some((bar, text.strip_prefix('<')?.strip_prefix(bar)?)))?;
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '▁');
    let length = after.find(|character| !is_of_name(character)).filter(|length| (1..=LONGEST_NAME).contains(length))?;
    let behind = after[length..].strip_prefix(bar)?.strip_prefix('>')?;
    Some(&text[..text.len() - behind.len()])
}

fn reason_of_name(name: &str) -> &'static str {
    let is_of = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match () {
        () if is_of(&["video"]) => VIDEO,
        () if is_of(&["audio"]) => AUDIO,
        () if is_of(&["image", "img", "vision"]) => IMAGE,
        () => TURN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_found_within_a_text() {
        for (token, reason, _) in TOKENS {
            assert_eq!(find(&format!("é <b>a</b> {token}x")), Some((*token, *reason)));
        }
        let between = [
            ("<|im_start|>", TURN),
            ("<|im_end|>", TURN),
            ("<|endoftext|>", TURN),
            ("<|eot_id|>", TURN),
            ("<|start_header_id|>", TURN),
            ("<|END_OF_TURN_TOKEN|>", TURN),
            ("<|vision_start|>", IMAGE),
            ("<|image_pad|>", IMAGE),
            ("<|image_1|>", IMAGE),
            ("<|IMAGE|>", IMAGE),
            ("<|video_pad|>", VIDEO),
            ("<|AUDIO|>", AUDIO),
            ("<｜end▁of▁sentence｜>", TURN),
        ];
        for (token, reason) in between {
            assert_eq!(find(&format!("a <|b {token}")), Some((token, reason)));
        }
        assert_eq!(find("first </s>, then <image>"), Some(("</s>", TURN)), "the first one is told");
    }

    #[test]
    fn ordinary_writing_is_no_token() {
        for text in [
            "",
            "a <b> c",
            "<Image>",
            "<VIDEO>",
            "a video",
            "image>",
            "<image",
            "1 <2> [3]",
            "<img src='a.jpg'>",
            "<|",
            "<||>",
            "<|a b|>",
            "<|a|",
            "|a|>",
            "<｜a|>",
            "x <| y |> z",
            "<unk> <pad>",
            "[INSTALL]",
            "<strong>",
            "<s",
        ] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
