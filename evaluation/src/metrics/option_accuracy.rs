//! Option accuracy: the letter of a multiple choice that an answer names.

use super::{Counted, Figure, Metric, PERCENT, Variant, answers, mean_percent, open_answer, unfit};
use crate::error::Result;
use crate::input::Item;

/// Accuracy over multiple-choice questions, with the parser of MMMU (Yue et al. 2024, arXiv
/// 2311.16502).
///
/// The parser looks, in this order, for a letter in parentheses, a letter between spaces and, in
/// answers of more than five words, the text of an option; it takes the last of several. Marks at
/// the ends of an answer are stripped. Lower-case letters and `B:` or `**B**` are not found.
///
/// If nothing is found, the official script draws a letter at random; here the answer is wrong, and
/// a note says so. The expected score of the official script is higher by the share of such answers
/// divided by the number of options.
///
/// The answer of a reference is a letter or the text of an option. Without `options`, the letters
/// go up to the last one that is an answer, and at least to D. Open questions, of which MMMU has a
/// few, are right as in its script.
pub(super) const OPTION_ACCURACY: Metric = Metric {
    name: "option_accuracy",
    about: "The letter of a multiple choice that an answer names (MMMU, ScienceQA, A-OKVQA)",
    source: "github.com/MMMU-Benchmark/MMMU@bb0b95a mmmu/utils/eval_utils.py parse_multi_choice_response, eval_open",
    figures: &[Figure { name: "accuracy", range: PERCENT }],
    groups: &[],
    strict: None,
    count,
    compute: mean_percent,
};

/// Marks that are stripped from the ends of an answer, one kind after the other.
const STRIPPED: &[char] = &[',', '.', '!', '?', ';', ':', '\''];
/// Maximum number of words of an answer that is not searched for texts of options.
const SHORT: usize = 5;

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let choices = items.iter().filter(|item| !item.reference.is_open);
    let letters = choices.flat_map(|item| &item.reference.answers).filter_map(|answer| letter(answer));
    let last = letters.max().unwrap_or('D').max('D');
    let mut counted = Counted::default();
    let mut unparsed = 0;
    for item in items {
        if item.reference.is_open {
            let answers = answers(item, OPTION_ACCURACY.name)?;
            let is_right = item.prediction.is_some_and(|prediction| open_answer::is_right(prediction, answers));
            counted.rows.push(vec![f64::from(u8::from(is_right)), 1.0]);
            counted.parsed.push(item.prediction.map(str::to_owned));
            continue;
        }
        let options = &item.reference.options;
        let letters: Vec<char> =
            if options.is_empty() { ('A'..=last).collect() } else { ('A'..='Z').take(options.len()).collect() };
        let target = target(item, &letters)?;
        let said = item.prediction.and_then(|prediction| parse(prediction, &letters, options));
        unparsed += usize::from(said.is_none() && item.prediction.is_some());
        counted.rows.push(vec![f64::from(u8::from(said == Some(target))), 1.0]);
        counted.parsed.push(said.map(String::from));
    }
    if unparsed > 0 {
        counted.notes.push(format!(
            "{unparsed} answers name no option; they count as wrong, whereas the official script draws an option at random"
        ));
    }
    Ok(counted)
}

/// Returns the letter of a reference.
fn target(item: &Item, letters: &[char]) -> Result<char> {
    let [answer] = item.reference.answers.as_slice() else {
        return Err(unfit(item, OPTION_ACCURACY.name, "one answer, the letter of an option".to_owned()));
    };
    let by_letter = letter(answer).filter(|letter| letters.contains(letter));
    let place = item.reference.options.iter().position(|option| option == answer);
    if let Some(place) = place.filter(|place| by_letter.is_none() && *place >= letters.len()) {
        let needs = format!("a letter for the right option, but it is number {} and letters end at Z", place + 1);
        return Err(unfit(item, OPTION_ACCURACY.name, needs));
    }
    let by_text = place.map(|place| letters[place]);
    by_letter.or(by_text).ok_or_else(|| {
        let needs = format!("the letter or the text of an option as answer; {answer:?} is neither");
        unfit(item, OPTION_ACCURACY.name, needs)
    })
}

fn letter(answer: &str) -> Option<char> {
    let mut characters = answer.trim().chars();
    let first = characters.next().filter(char::is_ascii_uppercase)?;
    characters.next().is_none().then_some(first)
}

fn parse(answer: &str, letters: &[char], options: &[String]) -> Option<char> {
    let stripped = STRIPPED.iter().fold(answer, |text, mark| text.trim_matches(*mark));
    let text = format!(" {stripped} ");
    let last = |form: &dyn Fn(char) -> String| {
        let found = letters.iter().filter_map(|letter| Some((text.rfind(&form(*letter))?, *letter)));
        found.max_by_key(|(place, _)| *place).map(|(_, letter)| letter)
    };
    if let Some(letter) = last(&|letter| format!("({letter})")).or_else(|| last(&|letter| format!(" {letter} "))) {
        return Some(letter);
    }
    if crate::python::words(&text).count() <= SHORT {
        return None;
    }
    let lower = text.to_lowercase();
    let mut found: Option<(usize, char)> = None;
    for (letter, option) in letters.iter().zip(options) {
        if let Some(place) = lower.rfind(&option.to_lowercase())
            && found.is_none_or(|(before, _)| before < place)
        {
            found = Some((place, *letter));
        }
    }
    found.map(|(_, letter)| letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;

    #[test]
    fn letters_are_those_of_the_official_script() {
        let golden = golden("option_accuracy.jsonl");
        let counted = golden.count(&OPTION_ACCURACY);
        for (row, parsed) in golden.rows.iter().zip(&counted.parsed) {
            assert_eq!(parsed.as_deref(), row["parsed"].as_str(), "{row}");
        }
        let unparsed = golden.rows.iter().filter(|row| row["parsed"].is_null()).count();
        assert!(counted.notes[0].starts_with(&format!("{unparsed} answers name no option")), "{:?}", counted.notes);
    }
    #[test]
    fn an_option_after_z_has_no_letter() {
        let options: Vec<String> = (0..30).map(|number| format!("option {number}")).collect();
        for (number, is_right) in [(25, true), (27, false)] {
            let row = serde_json::json!({"id": 1, "options": options, "answer": options[number]}).to_string();
            let references =
                crate::input::read_references(&[crate::input::Source { name: "r", text: &row }]).unwrap().rows;
            let items = [Item { reference: &references[0], prediction: Some("(Z)") }];
            match count(&items, Variant::Official) {
                Ok(counted) => assert!(is_right && counted.parsed[0].as_deref() == Some("Z")),
                Err(error) => assert!(!is_right && error.to_string().contains("number 28"), "{error}"),
            }
        }
    }
}
