//! Checks whether an answer has a shape.

use std::sync::LazyLock;

use lynxdata_prompts::AnswerShape;
use regex::Regex;

/// The maximum number of words of a `word`: one, or a name of two or three, such as `New York
/// City`.
pub(crate) const WORDS_OF_A_WORD: usize = 3;

/// The maximum number of words of a `phrase` and of a `class`. Most book titles, which OCR-VQA asks
/// for, and the longest class names of `ImageNet` are shorter.
pub(crate) const WORDS_OF_A_PHRASE: usize = 12;

/// The maximum number of words of a `sentence`. The longest captions of COCO have about 50.
pub(crate) const WORDS_OF_A_SENTENCE: usize = 80;

/// One or more boxes as the filter `box` writes them.
static BOXES: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:0\.[0-9]{3}|1\.000)";
    let one = format!(r"\[{number}, {number}, {number}, {number}\]");
    Regex::new(&format!("^{one}(?:; {one})*$")).expect("the tests compile it")
});

/// Returns why a text is not an answer of the shape, or `None` if it is one.
pub(crate) fn misfit(shape: AnswerShape, text: &str) -> Option<String> {
    let words = text.split_whitespace().count();
    let at_most = |most: usize| {
        if text.contains(['\n', '\r']) {
            return Some("has more than one line".to_owned());
        }
        (words > most).then(|| format!("has {words} words, more than {most}"))
    };
    match shape {
        AnswerShape::Word => at_most(WORDS_OF_A_WORD),
        AnswerShape::Phrase | AnswerShape::Class => at_most(WORDS_OF_A_PHRASE),
        AnswerShape::Sentence => at_most(WORDS_OF_A_SENTENCE),
        AnswerShape::Letter => {
            let is_letter = text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_uppercase());
            (!is_letter).then(|| "is not a letter from A to Z".to_owned())
        }
        AnswerShape::Boxes => {
            (!BOXES.is_match(text)).then(|| "is not a box such as [0.100, 0.250, 0.500, 0.750]".to_owned())
        }
        AnswerShape::Number => {
            let is_number = text.replace(',', "").parse::<f64>().is_ok_and(f64::is_finite);
            (!is_number).then(|| "is not a number".to_owned())
        }
        AnswerShape::Paragraph
        | AnswerShape::Option
        | AnswerShape::YesNo
        | AnswerShape::TrueFalse
        | AnswerShape::Turns => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_beyond_the_bounds_of_their_shape_are_told() {
        let fits = [
            (AnswerShape::Word, "New York City"),
            (AnswerShape::Phrase, "Mom's Family Wall Calendar 2016"),
            (AnswerShape::Sentence, "A dog runs. It is wet."),
            (AnswerShape::Paragraph, "One.\n\nTwo."),
            (AnswerShape::Letter, "B"),
            (AnswerShape::Boxes, "[0.100, 0.250, 0.500, 1.000]; [0.000, 0.000, 0.001, 0.002]"),
            (AnswerShape::Number, "1,234.5"),
        ];
        for (shape, text) in fits {
            assert_eq!(misfit(shape, text), None, "{text}");
        }
        let words = |count: usize| vec!["word"; count].join(" ");
        let misfits = [
            (AnswerShape::Word, words(4), "has 4 words, more than 3"),
            (AnswerShape::Phrase, words(13), "has 13 words"),
            (AnswerShape::Phrase, "a\nb".to_owned(), "more than one line"),
            (AnswerShape::Class, words(13), "has 13 words"),
            (AnswerShape::Sentence, words(81), "has 81 words"),
            (AnswerShape::Sentence, "One.\n\nTwo.".to_owned(), "more than one line"),
            (AnswerShape::Letter, "b".to_owned(), "not a letter"),
            (AnswerShape::Letter, "AB".to_owned(), "not a letter"),
            (AnswerShape::Boxes, "[1, 2, 3, 4]".to_owned(), "not a box"),
            (AnswerShape::Number, "many".to_owned(), "not a number"),
            (AnswerShape::Number, "nan".to_owned(), "not a number"),
        ];
        for (shape, text, expected) in misfits {
            assert!(misfit(shape, &text).is_some_and(|reason| reason.contains(expected)), "{text}");
        }
    }
}
