//! Finds wordings whose words contradict the shape of their answer.

use crate::duplicates::{whole, words};
use crate::{AnswerShape, Bank};

/// The English terms that a wording must not contain, by the shape of its answer.
const CONTRADICTIONS: &[(AnswerShape, &[&str])] = &[
    (AnswerShape::Word, &["sentence", "sentences", "paragraph", "in detail", "letter", "yes or no", "explain"]),
    (
        AnswerShape::Phrase,
        &[
            "sentence",
            "sentences",
            "paragraph",
            "in detail",
            "letter",
            "yes or no",
            "explain",
            "one word",
            "single word",
            "word or two",
        ],
    ),
    (
        AnswerShape::Sentence,
        &[
            "sentences",
            "paragraph",
            "in detail",
            "letter",
            "yes or no",
            "one word",
            "single word",
            "word or two",
            "a phrase",
            "short phrase",
        ],
    ),
    (
        AnswerShape::Paragraph,
        &[
            "a sentence",
            "one sentence",
            "single sentence",
            "letter",
            "yes or no",
            "one word",
            "word or two",
            "a phrase",
            "short answer",
        ],
    ),
    (AnswerShape::Letter, &["sentence", "paragraph", "in detail", "yes or no", "explain", "one word", "word for word"]),
    (AnswerShape::Option, &["a sentence", "one sentence", "paragraph", "in detail", "letter", "yes or no", "explain"]),
    (
        AnswerShape::YesNo,
        &["a sentence", "one sentence", "paragraph", "in detail", "letter", "true or false", "explain"],
    ),
    (
        AnswerShape::TrueFalse,
        &["a sentence", "one sentence", "paragraph", "in detail", "letter", "yes or no", "explain"],
    ),
    (AnswerShape::Class, &["a sentence", "one sentence", "paragraph", "in detail", "letter", "yes or no", "explain"]),
    (AnswerShape::Boxes, &["sentence", "sentences", "paragraph", "in detail", "letter", "yes or no", "explain"]),
    (
        AnswerShape::Number,
        &["sentence", "sentences", "paragraph", "in detail", "letter", "yes or no", "explain", "phrase"],
    ),
    (AnswerShape::Turns, &["one sentence", "paragraph", "letter", "yes or no"]),
];

/// Words that negate a demand after them: "no full sentence is needed", "if one word is enough".
const NEGATIONS: &[&str] = &["no", "not", "without", "rather", "instead", "nor", "if"];

/// The number of words that a negation covers.
const REACH: usize = 6;

/// A wording that contradicts the shape of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// Id of the wording.
    pub template: String,
    /// The shape that its file gives.
    pub shape: AnswerShape,
    /// The term in it that contradicts the shape.
    pub asks_for: &'static str,
}

/// Returns the English wordings of a bank whose words contradict one of their shapes, such as "in
/// one sentence" if the answer is a word. The values of slots are not checked.
pub fn disagreements(bank: &Bank) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for template in bank.templates.iter().filter(|template| template.language == "en") {
        let said = words(&without_slots(&whole(template)));
        let of_shape = CONTRADICTIONS.iter().filter(|(shape, _)| template.answer.contains(shape));
        for (shape, asks_for) in of_shape.flat_map(|(shape, terms)| terms.iter().map(move |term| (*shape, *term))) {
            if demands(&said, asks_for) {
                found.push(Disagreement { template: template.id.clone(), shape, asks_for });
            }
        }
    }
    found
}

/// Returns whether the words contain a term without a negation shortly before it.
fn demands(said: &[String], term: &str) -> bool {
    let term: Vec<&str> = term.split(' ').collect();
    said.windows(term.len()).enumerate().any(|(place, window)| {
        let before = &said[place.saturating_sub(REACH)..place];
        window.iter().eq(&term) && !before.iter().any(|word| NEGATIONS.contains(&word.as_str()))
    })
}

/// Returns a template with every slot replaced by a full stop.
fn without_slots(text: &str) -> String {
    let mut parts = text.split("{{");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| said + ". " + part.split_once("}}").map_or("", |(_, after)| after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Banks;

    #[test]
    fn shipped_wordings_ask_for_the_shape_of_their_answer() {
        for bank in Banks::shipped().unwrap().iter() {
            assert_eq!(disagreements(bank), [], "{}", bank.name);
        }
    }

    #[test]
    fn every_shape_has_its_line() {
        let shapes: Vec<AnswerShape> = CONTRADICTIONS.iter().map(|(shape, _)| *shape).collect();
        assert_eq!(shapes, AnswerShape::ALL);
    }

    #[test]
    fn demands_are_told_from_negations_and_slots() {
        let found = |answer: &str, text: &str| -> Vec<&str> {
            let toml =
                format!("description = \"d\"\n[[templates]]\nid = \"a\"\nanswer = {answer}\ntext = \"{text}\"\n");
            disagreements(&Bank::parse("test", &toml).unwrap()).iter().map(|own| own.asks_for).collect()
        };
        assert_eq!(found("\"phrase\"", "{{ question }} Answer in a sentence."), ["sentence"]);
        assert_eq!(found("\"phrase\"", "{{ question }} No full sentence is needed."), [""; 0]);
        assert_eq!(found("\"sentence\"", "{{ question }} Answer in a sentence."), [""; 0]);
        assert_eq!(found("[\"sentence\", \"paragraph\"]", "Say in one sentence what you see."), ["one sentence"]);
        assert_eq!(found("\"yes_no\"", "{{ letter }} True or False?"), ["true or false"]);
        assert_eq!(found("\"word\"", "{{ sentence }} In detail, please."), ["in detail"]);
    }
}
