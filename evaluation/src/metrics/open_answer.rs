//! Answers to the open questions of MMMU: `parse_open_response` and `eval_open` of
//! github.com/MMMU-Benchmark/MMMU@bb0b95a `mmmu/utils/eval_utils.py`.

use std::sync::LazyLock;

use regex::Regex;

use crate::python::{float, is_digit, strip};

/// Words that an answer often follows.
const INDICATORS: &[&str] = &["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];
/// An indicator in the last line only.
const EQUALS: &str = "=";
/// Texts after an indicator that are no answer.
const TRIVIAL: &[&str] = &[":", ",", ".", "!", "?", ";", "'"];

static WITH_COMMAS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?\b\d{1,3}(?:,\d{3})+\b").expect("a constant pattern"));
static SCIENTIFIC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"-?\d+(?:\.\d+)?[eE][+-]?\d+").expect("a constant pattern"));
/// Forms of numbers without commas; [`simple_numbers`] also has conditions for what follows.
static SIMPLE: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    [r"^-?\d+\.\d+", r"^-?\.\d+", r"^-?\d+\b"].map(|pattern| Regex::new(pattern).expect("a constant pattern"))
});
static EXPONENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[eE][+-]?\d+").expect("a constant pattern"));

/// A part of an answer, as the script compares it.
#[derive(Debug, PartialEq)]
enum Part {
    /// A number, rounded to two decimals.
    Number(f64),
    /// A text in lower case.
    Text(String),
}

/// Returns whether an answer is right: it has an equal number, or a text of it contains that of the
/// reference.
pub(super) fn is_right(answer: &str, references: &[String]) -> bool {
    let references: Vec<Part> = references.iter().flat_map(|reference| parts(reference)).collect();
    let said = key_texts(answer);
    let numbers = said.iter().flat_map(|text| numbers(text));
    said.iter().map(String::as_str).chain(numbers).flat_map(parts).any(|part| match part {
        Part::Number(_) => references.contains(&part),
        Part::Text(text) => references.iter().any(|one| matches!(one, Part::Text(one) if text.contains(one))),
    })
}

/// Returns a number, or a text in lower case; a single letter must begin or end a word.
fn parts(text: &str) -> Vec<Part> {
    let text = strip(text);
    if let Some(number) = float(&text.replace(',', "")) {
        // Both round the exact value, and half to even.
        return vec![Part::Number(format!("{number:.2}").parse().unwrap_or(number))];
    }
    let lower = text.to_lowercase();
    if lower.chars().count() == 1 {
        return vec![Part::Text(format!(" {lower}")), Part::Text(format!("{lower} "))];
    }
    vec![Part::Text(lower)]
}

/// Returns what follows the last indicator in each line, or the whole answer if there is none.
fn key_texts(answer: &str) -> Vec<String> {
    let answer = strip(answer).trim_matches('.').to_lowercase();
    // The script also splits before capital letters, but after lower().
    let lines: Vec<&str> = answer.split('\n').collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let last = (index + 1 == lines.len()).then_some(&EQUALS);
        let mut shortest = "";
        for indicator in INDICATORS.iter().chain(last) {
            if let Some(place) = line.rfind(indicator) {
                let text = strip(&line[place + indicator.len()..]);
                if shortest.is_empty() || text.chars().count() < shortest.chars().count() {
                    shortest = text;
                }
            }
        }
        if !shortest.is_empty() && !TRIVIAL.contains(&shortest) {
            found.push(shortest.to_owned());
        }
    }
    if found.is_empty() { vec![answer] } else { found }
}

/// Returns all numbers in a text, some of them in several forms.
fn numbers(text: &str) -> Vec<&str> {
    let found = WITH_COMMAS.find_iter(text).chain(SCIENTIFIC.find_iter(text));
    found.map(|number| number.as_str()).chain(simple_numbers(text)).collect()
}

/// Returns numbers without commas that no exponent, comma or digit follows. Their last digits
/// always go on as far as possible, because a digit must not follow.
fn simple_numbers(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(first) = text[start..].chars().next() {
        let is_whole = |end: &usize| {
            let after = &text[*end..];
            !EXPONENT.is_match(after) && !after.starts_with(|next| next == ',' || is_digit(next))
        };
        let mut ends = SIMPLE.iter().filter_map(|form| Some(start + form.find(&text[start..])?.end()));
        match ends.find(is_whole) {
            Some(end) => {
                found.push(&text[start..end]);
                start = end;
            }
            None => start += first.len_utf8(),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn answers_are_right_as_in_the_official_script() {
        let text = std::fs::read_to_string(format!("{}/fixtures/open_answer.jsonl", env!("CARGO_MANIFEST_DIR")));
        for line in text.unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let references: Vec<String> = serde_json::from_value(row["answers"].clone()).unwrap();
            assert_eq!(is_right(row["prediction"].as_str().unwrap(), &references), row["right"], "{row}");
        }
    }
}
