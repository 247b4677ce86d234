//! VQA accuracy: how many of ten people gave the answer; three are enough.

use std::sync::LazyLock;

use regex::Regex;

use super::{Counted, Figure, Metric, PERCENT, Variant, answers, mean_percent, scores};
use crate::error::Result;
use crate::input::Item;
use crate::python::{is_digit, strip, words};

/// The accuracy of VQA and VQA v2 (Antol et al. 2015; Goyal et al. 2017), also used by TextVQA,
/// OK-VQA and VizWiz.
///
/// Each of the n answers is left out once; the accuracy is the mean over those n sets of min(1,
/// equal answers / 3). With fewer than four answers no prediction reaches 100, and with one answer
/// all score 0; a note says so.
///
/// Quirks of the official script, all kept: texts are normalised only if the answers of the
/// question differ, so `Yes` is wrong if all ten are `yes`; a punctuation mark beside a space
/// anywhere is deleted, and otherwise becomes a space; with a comma between digits anywhere, all
/// punctuation is deleted; at most 32 full stops are deleted, since the flag `re.UNICODE` is passed
/// in the place of the count; and full stops before a digit stay. Contractions whose key has a
/// capital (`Im`, `Ive`, `Id've`) are never found, since the text is in lower case by then.
///
/// `--strict` always normalises, in one order: lower case; commas between digits are deleted, other
/// punctuation between two letters or digits becomes a space and elsewhere is deleted; all full
/// stops that no digit follows are deleted; number words, articles and contractions as in the
/// official script, including those that it never finds.
pub(super) const VQA_ACCURACY: Metric = Metric {
    name: "vqa_accuracy",
    about: "How many of ten people gave the answer, three being enough (VQA v2, TextVQA, OK-VQA, VizWiz)",
    source: "github.com/GT-Vision-Lab/VQA@a013f00 PythonEvaluationTools/vqaEvaluation/vqaEval.py",
    figures: &[Figure { name: "accuracy", range: PERCENT }],
    groups: &[],
    strict: Some("all answers are normalised, without the bugs of the script"),
    count,
    compute: mean_percent,
};

/// Number of answers that a prediction must equal for the full score.
const ENOUGH: f64 = 3.0;
/// Maximum number of full stops that are deleted: the value of `re.UNICODE`, passed in the place of
/// the count.
const FULL_STOPS: usize = 32;
/// Marks that are deleted or become spaces.
const PUNCTUATION: &[char] =
    &[';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!'];
const NUMBERS: &[(&str, &str)] = &[
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];
const ARTICLES: &[&str] = &["a", "an", "the"];
/// The unchanged table of the official script; some entries look like mistakes there.
#[rustfmt::skip]
const CONTRACTIONS: &[(&str, &str)] = &[
    ("'ow'sat", "'ow's'at"), ("'ows'at", "'ow's'at"), ("I'dve", "I'd've"), ("Id've", "I'd've"),
    ("Im", "I'm"), ("Ive", "I've"), ("aint", "ain't"), ("arent", "aren't"), ("cant", "can't"),
    ("couldn'tve", "couldn't've"), ("couldnt", "couldn't"), ("couldnt've", "couldn't've"),
    ("couldve", "could've"), ("didnt", "didn't"), ("doesnt", "doesn't"), ("dont", "don't"),
    ("hadn'tve", "hadn't've"), ("hadnt", "hadn't"), ("hadnt've", "hadn't've"), ("hasnt", "hasn't"),
    ("havent", "haven't"), ("he'dve", "he'd've"), ("hed", "he'd"), ("hed've", "he'd've"),
    ("hes", "he's"), ("howd", "how'd"), ("howll", "how'll"), ("hows", "how's"), ("isnt", "isn't"),
    ("it'dve", "it'd've"), ("itd", "it'd"), ("itd've", "it'd've"), ("itll", "it'll"),
    ("let's", "let's"), ("maam", "ma'am"), ("mightn'tve", "mightn't've"), ("mightnt", "mightn't"),
    ("mightnt've", "mightn't've"), ("mightve", "might've"), ("mustnt", "mustn't"),
    ("mustve", "must've"), ("neednt", "needn't"), ("notve", "not've"), ("oclock", "o'clock"),
    ("oughtnt", "oughtn't"), ("ow's'at", "'ow's'at"), ("shant", "shan't"), ("she'dve", "she'd've"),
    ("she's", "she's"), ("shed've", "she'd've"), ("shouldn'tve", "shouldn't've"),
    ("shouldnt", "shouldn't"), ("shouldnt've", "shouldn't've"), ("shouldve", "should've"),
    ("somebody'd", "somebodyd"), ("somebody'dve", "somebody'd've"),
    ("somebodyd've", "somebody'd've"), ("somebodyll", "somebody'll"), ("somebodys", "somebody's"),
    ("someone'dve", "someone'd've"), ("someoned", "someone'd"), ("someoned've", "someone'd've"),
    ("someonell", "someone'll"), ("someones", "someone's"), ("something'dve", "something'd've"),
    ("somethingd", "something'd"), ("somethingd've", "something'd've"),
    ("somethingll", "something'll"), ("thats", "that's"), ("there'dve", "there'd've"),
    ("thered", "there'd"), ("thered've", "there'd've"), ("therere", "there're"),
    ("theres", "there's"), ("they'dve", "they'd've"), ("theyd", "they'd"),
    ("theyd've", "they'd've"), ("theyll", "they'll"), ("theyre", "they're"), ("theyve", "they've"),
    ("twas", "'twas"), ("wasnt", "wasn't"), ("we'dve", "we'd've"), ("wed've", "we'd've"),
    ("werent", "weren't"), ("weve", "we've"), ("whatll", "what'll"), ("whatre", "what're"),
    ("whats", "what's"), ("whatve", "what've"), ("whens", "when's"), ("whered", "where'd"),
    ("wheres", "where's"), ("whereve", "where've"), ("who'dve", "who'd've"), ("whod", "who'd"),
    ("whod've", "who'd've"), ("wholl", "who'll"), ("whos", "who's"), ("whove", "who've"),
    ("whyll", "why'll"), ("whyre", "why're"), ("whys", "why's"), ("wont", "won't"),
    ("wouldn'tve", "wouldn't've"), ("wouldnt", "wouldn't"), ("wouldnt've", "wouldn't've"),
    ("wouldve", "would've"), ("y'all'dve", "y'all'd've"), ("y'alld've", "y'all'd've"),
    ("y'allll", "y'all'll"), ("yall", "y'all"), ("yall'd've", "y'all'd've"),
    ("yall'll", "y'all'll"), ("you'dve", "you'd've"), ("youd", "you'd"), ("youd've", "you'd've"),
    ("youll", "you'll"), ("youre", "you're"), ("youve", "you've"),
];

static COMMA_IN_NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d,\d").expect("a constant pattern"));

fn count(items: &[Item], variant: Variant) -> Result<Counted> {
    let rows = scores(items, |item, prediction| Ok(accuracy(answers(item, VQA_ACCURACY.name)?, prediction, variant)))?;
    let mut notes = Vec::new();
    let few = items.iter().filter(|item| item.reference.answers.len() < 4).count();
    if few > 0 {
        notes.push(format!(
            "{few} questions have fewer than 4 answers, so no prediction can reach 100 for them, and none can be above 0 \
             if there is only one answer; use exact_match or judge for them"
        ));
    }
    Ok(Counted { rows, notes, ..Counted::default() })
}

fn accuracy(answers: &[String], prediction: &str, variant: Variant) -> f64 {
    let plain = |text: &str| strip(&text.replace(['\n', '\t'], " ")).to_owned();
    let mut answers: Vec<String> = answers.iter().map(|answer| plain(answer)).collect();
    let mut prediction = plain(prediction);
    if variant == Variant::Strict {
        answers = answers.iter().map(|answer| words_as_official(&clean(answer), true)).collect();
        prediction = words_as_official(&clean(&prediction), true);
    } else if answers.iter().any(|answer| *answer != answers[0]) {
        answers = answers.iter().map(|answer| words_as_official(&without_punctuation(answer), false)).collect();
        prediction = words_as_official(&without_punctuation(&prediction), false);
    }
    let equal: Vec<bool> = answers.iter().map(|answer| *answer == prediction).collect();
    let all = equal.iter().filter(|equal| **equal).count();
    let left_out = equal.iter().map(|this| ((all - usize::from(*this)) as f64 / ENOUGH).min(1.0));
    left_out.sum::<f64>() / answers.len() as f64
}

/// Does what `processPunctuation` of the official script does.
fn without_punctuation(text: &str) -> String {
    let comma_in_number = COMMA_IN_NUMBER.is_match(text);
    let mut cleaned = text.to_owned();
    for mark in PUNCTUATION {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        cleaned = cleaned.replace(*mark, if beside_space || comma_in_number { "" } else { " " });
    }
    without_full_stops(&cleaned, FULL_STOPS)
}

/// Deletes at most `most` full stops that no digit follows.
fn without_full_stops(text: &str, most: usize) -> String {
    let mut deleted = 0;
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '.' && deleted < most && !characters.peek().copied().is_some_and(is_digit) {
            deleted += 1;
        } else {
            kept.push(character);
        }
    }
    kept
}

/// Does what `processPunctuation` seems to be meant to do.
fn clean(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: Option<usize>| index.and_then(|index| characters.get(index).copied());
    let mut cleaned = String::with_capacity(text.len());
    for (index, character) in characters.iter().enumerate() {
        let (before, after) = (at(index.checked_sub(1)), at(Some(index + 1)));
        let between = |is: fn(char) -> bool| before.is_some_and(is) && after.is_some_and(is);
        if !PUNCTUATION.contains(character) {
            cleaned.push(*character);
        } else if between(char::is_alphanumeric) && !(*character == ',' && between(is_digit)) {
            cleaned.push(' ');
        }
    }
    without_full_stops(&cleaned, usize::MAX)
}

/// Does what `processDigitArticle` of the official script does: lower case, number words as digits,
/// no articles, contractions with their apostrophes. If `any_case` is set, keys of the table match
/// in any case.
fn words_as_official(text: &str, any_case: bool) -> String {
    let lower = text.to_lowercase();
    let found = |word: &str, (key, _): &&(&str, &str)| *key == word || (any_case && key.to_lowercase() == word);
    let words =
        words(&lower).map(|word| NUMBERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, digits)| digits));
    let words = words.filter(|word| !ARTICLES.contains(word)).map(|word| {
        let contraction = CONTRACTIONS.iter().find(|entry| found(word, entry)).map(|(_, written)| *written);
        match contraction {
            Some(written) if any_case => written.to_lowercase(),
            Some(written) => written.to_owned(),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::{assert_close, golden};

    #[test]
    fn accuracies_are_those_of_the_official_script() {
        let golden = golden("vqa_accuracy.jsonl");
        golden.assert_each(&VQA_ACCURACY, |row| row["accuracy"].as_f64().unwrap());
        assert_close(golden.figures(&VQA_ACCURACY)[0], &golden.all.as_ref().unwrap()["accuracy"]);
    }

    fn is_right(answers: &[&str], prediction: &str) -> bool {
        let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        accuracy(&answers, prediction, Variant::Strict) > 0.5
    }

    #[test]
    fn strict_has_none_of_the_quirks() {
        assert!(is_right(&["yes"; 10], "Yes."));
        assert!(is_right(&["1,000 m"; 10], "1000 m"));
        assert!(is_right(&["I'm here"; 10], "Im here"));
        assert!(is_right(&["x"; 10], &format!("x{}", ".".repeat(40))));
        assert!(is_right(&["black-and-white"; 10], "black and white"));
        assert!(!is_right(&["1.5"; 10], "15"));
        assert!(!is_right(&["no"; 10], ""));
    }
}
