//! A language model as judge: its prompt, its reply, and its agreement with people.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::input::Reference;
use crate::interval::{SEED, intervals, sums};

/// Returns the prompt of the Lynx paper for Open-VQA (arXiv 2307.02469), word for word.
pub fn prompt(question: &str, prediction: &str, answer: &str) -> String {
    format!(
        "Given the question \"{question}\", does the answer \"{prediction}\" imply the answer \"{answer}\"? \
         Answer with Yes or No."
    )
}

/// Returns the answer that a judge compares with: the most frequent one, or the first of several
/// equally frequent ones.
pub fn most_frequent_answer(reference: &Reference) -> Option<&str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for answer in &reference.answers {
        *counts.entry(answer).or_default() += 1;
    }
    let most = counts.values().max()?;
    reference.answers.iter().map(String::as_str).find(|answer| counts.get(answer) == Some(most))
}

/// Returns whether a reply says yes or no, by its first word in any case and without the marks
/// around it; `None` if that is another word.
pub fn parse_verdict(reply: &str) -> Option<bool> {
    let first = reply.split(|character: char| !character.is_alphanumeric()).find(|word| !word.is_empty())?;
    match first.to_lowercase().as_str() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The agreement of a judge with people.
#[derive(Debug, Serialize)]
pub struct Agreement {
    /// Questions that both have judged.
    pub questions: usize,
    /// Percent of questions on which they agree; `None` if there are no questions.
    pub accuracy: Option<f64>,
    /// Its 95 % interval over questions.
    pub accuracy_interval: Option<[f64; 2]>,
    /// Cohen's kappa; `None` if both always say the same word, because it is undefined then.
    pub kappa: Option<f64>,
    /// Its 95 % interval over questions.
    pub kappa_interval: Option<[f64; 2]>,
    /// Numbers of questions by the answers of judge and people: yes and yes, yes and no, no and
    /// yes, no and no.
    pub counts: [usize; 4],
}

/// Compares verdicts of a judge, the first of each pair, with those of people.
///
/// Cohen's kappa is (agreement - chance) / (1 - chance), where chance is the agreement of two
/// raters that say yes equally often at random (Cohen, "A coefficient of agreement for nominal
/// scales", 1960).
pub fn agreement(verdicts: &[(bool, bool)]) -> Agreement {
    let mut counts = [0; 4];
    let mut rows = Vec::with_capacity(verdicts.len());
    for (judge, people) in verdicts {
        let cell = usize::from(!judge) * 2 + usize::from(!people);
        counts[cell] += 1;
        let mut row = vec![0.0; 4];
        row[cell] = 1.0;
        rows.push(row);
    }
    let clusters = sums(rows.iter().enumerate().map(|(index, row)| (row.as_slice(), index)));
    let ranges = [Some((0.0, 100.0)), None];
    let found = intervals(&[clusters], accuracy_and_kappa, &ranges, SEED);
    let figures = accuracy_and_kappa(&counts.map(|count| count as f64));
    Agreement {
        questions: verdicts.len(),
        accuracy: Some(figures[0]).filter(|accuracy| accuracy.is_finite()),
        accuracy_interval: found[0],
        kappa: Some(figures[1]).filter(|kappa| kappa.is_finite()),
        kappa_interval: found[1],
        counts,
    }
}

fn accuracy_and_kappa(counts: &[f64]) -> Vec<f64> {
    let [both, judge_only, people_only, neither] = [counts[0], counts[1], counts[2], counts[3]];
    let all = both + judge_only + people_only + neither;
    let agreed = (both + neither) / all;
    let yes = (both + judge_only) * (both + people_only);
    let no = (people_only + neither) * (judge_only + neither);
    let chance = (yes + no) / (all * all);
    let kappa = if chance < 1.0 { (agreed - chance) / (1.0 - chance) } else { f64::NAN };
    vec![100.0 * agreed, kappa]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_by_their_first_word() {
        for (reply, verdict) in [
            ("Yes", Some(true)),
            (" **No**, it does not.", Some(false)),
            ("YES.", Some(true)),
            ("The answer is yes", None),
            ("Not really", None),
            ("", None),
            ("<think>yes</think> No", None),
        ] {
            assert_eq!(parse_verdict(reply), verdict, "{reply:?}");
        }
    }

    // Counts of the example of Cohen's kappa in Wikipedia: kappa 0.4.
    #[test]
    fn kappa_is_that_of_a_known_example() {
        let pairs = [(true, true, 20), (true, false, 5), (false, true, 10), (false, false, 15)];
        let verdicts: Vec<(bool, bool)> =
            pairs.iter().flat_map(|(judge, people, number)| vec![(*judge, *people); *number]).collect();
        let agreement = agreement(&verdicts);
        assert!(
            (agreement.kappa.unwrap() - 0.4).abs() < 1e-12 && (agreement.accuracy.unwrap() - 70.0).abs() < 1e-9,
            "{agreement:?}"
        );
        let [low, high] = agreement.kappa_interval.unwrap();
        // The usual standard error is 0.127.
        assert!((low - 0.15).abs() < 0.06 && (high - 0.65).abs() < 0.06, "{low} {high}");
    }

    #[test]
    fn one_word_from_both_has_no_kappa() {
        let agreement = agreement(&[(true, true); 10]);
        assert_eq!((agreement.kappa, agreement.accuracy), (None, Some(100.0)));
    }

    #[test]
    fn no_questions_have_no_agreement() {
        let agreement = agreement(&[]);
        assert_eq!((agreement.questions, agreement.accuracy, agreement.kappa), (0, None, None));
        assert_eq!((agreement.accuracy_interval, agreement.kappa_interval), (None, None));
    }
}
