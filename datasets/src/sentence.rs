//! Finds the end of a sentence, in any script.

use std::sync::LazyLock;

use regex::Regex;

/// A mark that ends a sentence, and what may follow it: quotation marks, brackets, emoji. The marks
/// are those that Unicode lists as Sentence_Terminal, the colon, the ellipsis, the Greek question
/// mark, which is typed as a semicolon, and emoji question marks. The Armenian question mark is
/// above a vowel within the sentence.
static ENDED: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = "\u{55E}|[\\p{Sentence_Terminal}:\u{FF1A}\u{2026}\u{22EF};\u{37E}\u{2753}-\u{2755}\u{2757}]\
        (?:[\"')\\]} ]|[^[:ascii:]\\p{Alphabetic}])*$";
    Regex::new(pattern).expect("the tests compile it")
});

/// Returns whether a text ends a sentence, in any script.
pub(crate) fn is_ended(text: &str) -> bool {
    // Most texts end like this, and the pattern takes a hundred times as long.
    text.ends_with(['.', '?', '!']) || ENDED.is_match(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_all_scripts_end() {
        for text in [
            "Is it?",
            "Name it.",
            "Look!",
            "Choose:",
            "Well…",
            "这是什么？",
            "这是什么。",
            "它在哪里？」",
            "「何ですか？」と",
            "これは何ですか｡",
            "ما هذا؟",
            "یہ کیا ہے۔",
            "Τι είναι αυτό;",
            "Τι είναι αυτό\u{37E}",
            "Ի՞նչ է սա",
            "Սա տուն է։",
            "ይህ ምንድን ነው፧",
            "यह क्या है।",
            "這是什麼︖",
            "What‽",
            "Really⁇",
            "Really❓",
            "Is it \"real?\"",
            "Qu'est-ce que c'est ? »",
            "Is it sunny? 😊",
            "Is it (a dog?) ",
            "Is it?\u{200F}",
        ] {
            if text.ends_with('と') {
                assert!(!is_ended(text), "{text}: goes on behind the quotation");
            } else {
                assert!(is_ended(text), "{text}");
            }
        }
        for text in [
            "is it sunny",
            "这是什么",
            "ما هذا",
            "is it 50%",
            "what is \"net\"",
            "a, b",
            "什么，",
            "😊",
            "sunny 😊",
            "",
        ] {
            assert!(!is_ended(text), "{text}");
        }
    }
}
