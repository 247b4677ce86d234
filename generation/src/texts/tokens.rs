//! Finds strings that trainers take for media or for the end of a turn.
//!
//! These are the strings of `datasets/src/tokens.rs`, for which `instruct` leaves out a text. This
//! crate does not import that one, so a test compares the lists.

/// The tokens, except those between `<|` and `|>`.
const TOKENS: &[&str] = &[
    "<image>",
    "</image>",
    "<image_id>",
    "<slice>",
    "<image_placeholder>",
    "<image-placeholder>",
    "<im_start>",
    "<im_end>",
    "<im_patch>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<ImageHere>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
    "<fake_token_around_image>",
    "<global-img>",
    "[IMG]",
    "[IMG_BREAK]",
    "[IMG_END]",
    "<video>",
    "</video>",
    "<vila/video>",
    "<audio>",
    "</audio>",
    "<audio_soft_token>",
    "[AUDIO]",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "[gMASK]",
    "<sop>",
    "<eop>",
];

/// The maximum length of a name between `<|` and `|>`, in bytes.
const LONGEST_NAME: usize = 40;

/// Returns the first token in a text.
pub(super) fn find(text: &str) -> Option<&str> {
    text.match_indices(['<', '[']).find_map(|(place, _)| {
        let rest = &text[place..];
        TOKENS.iter().copied().find(|token| rest.starts_with(token)).or_else(|| between_bars(rest))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_are_those_for_which_instruct_leaves_out_a_text() {
        let source = include_str!("../../../datasets/src/tokens.rs");
        let list = &source[source.find("const TOKENS").unwrap()..];
        let lines = list[..list.find("];").unwrap()].lines().filter_map(|line| line.trim().strip_prefix('('));
        let names: Vec<&str> = lines.map(|line| line.split(',').next().unwrap().trim_matches('"')).collect();
        let named = |name| match name {
            "IMAGE_TOKEN" => "<image>",
            "VIDEO_TOKEN" => "<video>",
            own => own,
        };
        assert_eq!(names.into_iter().map(named).collect::<Vec<_>>(), TOKENS);
        assert!(source.contains(&format!("LONGEST_NAME: usize = {LONGEST_NAME};")));
    }

    #[test]
    fn tokens_are_found_within_a_text_and_ordinary_writing_is_none() {
        for token in TOKENS.iter().copied().chain(["<|im_end|>", "<|image_1|>", "<｜end▁of▁sentence｜>"]) {
            assert_eq!(find(&format!("é <b>a</b> [1] {token}x")), Some(token));
        }
        for text in ["", "a <b> c", "<Image>", "image>", "<|a b|>", "x <| y |> z", "<｜a|>", "[INSTALL]", "<unk>"] {
            assert_eq!(find(text), None, "{text}");
        }
    }
}
