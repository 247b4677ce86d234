//! MME: two questions for each image, one with the answer yes and one with no.

use std::collections::BTreeMap;

use super::{Counted, Figure, Metric, PERCENT, Variant, label, unfit};
use crate::error::Result;
use crate::input::Item;

/// MME (Fu et al. 2023, arXiv 2306.13394): 14 categories, ten of perception and four of cognition.
///
/// The score of a category, from 0 to 200, is its accuracy over questions plus its accuracy+ over
/// images, for which both answers must be right. Perception, cognition and `all` are sums of the
/// scores of their categories (at most 2000, 800 and 2800); their accuracies are over all
/// questions.
///
/// Quirk of the official script, kept: an answer says yes if `yes` is within its first four
/// characters, in lower case and not stripped, and otherwise no if `no` is; so `know` says no, and
/// `y` says neither. lmms-eval strips answers, deletes full stops and accepts `y`. An answer that
/// says neither is wrong.
///
/// Each category is a stratum of the intervals: the benchmark fixes how many images it has, and a
/// score is a sum over categories. If images were drawn from all categories together, a small
/// category would be absent from some draws, and up to 200 points of the sum with it. Images of
/// different categories are different even if their files have the same name, as `0001.png`.
/// Figures over several categories have no interval if one of them has a single image.
pub(super) const MME: Metric = Metric {
    name: "mme",
    about: "Two questions per image, in 14 categories: score, accuracy and accuracy+ (MME)",
    source: "eval_tool/calculation.py of MME, as in github.com/zjunlp/Deco@fee8d75",
    figures: &[
        Figure { name: "accuracy", range: PERCENT },
        Figure { name: "accuracy_plus", range: PERCENT },
        Figure { name: "score", range: None },
    ],
    groups: &[("Perception", PERCEPTION), ("Cognition", COGNITION)],
    strict: None,
    count,
    compute,
};

const PERCEPTION: &[&str] =
    &["existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"];
const COGNITION: &[&str] = &["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"];

/// Number of counts of a category: questions, right answers, images, images with both answers
/// right.
const COUNTS: usize = 4;

fn count(items: &[Item], _: Variant) -> Result<Counted> {
    let mut pairs: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    let mut right = Vec::with_capacity(items.len());
    let mut counted = Counted::default();
    let mut neither = 0;
    for (index, item) in items.iter().enumerate() {
        let category = item.reference.category.as_deref().unwrap_or_default();
        let number = PERCEPTION.iter().chain(COGNITION).position(|name| *name == category);
        let (Some(number), Some(image)) = (number, item.reference.image.as_deref()) else {
            let names = [PERCEPTION, COGNITION].concat().join(", ");
            return Err(unfit(item, MME.name, format!("an image and a category that is one of {names}")));
        };
        let said = item.prediction.and_then(says);
        neither += usize::from(said.is_none() && item.prediction.is_some());
        right.push(said == Some(label(item, MME.name)?));
        counted.strata.push(number);
        counted.parsed.push(said.map(|yes| if yes { "yes" } else { "no" }.to_owned()));
        pairs.entry((number, image)).or_default().push(index);
    }
    counted.rows = vec![vec![0.0; COUNTS * (PERCEPTION.len() + COGNITION.len())]; items.len()];
    for ((number, image), questions) in &pairs {
        let [first, second] = questions.as_slice() else {
            let item = &items[questions[0]];
            let needs = format!("two questions for each image of a category; {image} has {}", questions.len());
            return Err(unfit(item, MME.name, needs));
        };
        let both = right[*first] && right[*second];
        for question in [*first, *second] {
            // Each question counts half of its image.
            let counts = [1.0, f64::from(u8::from(right[question])), 0.5, if both { 0.5 } else { 0.0 }];
            counted.rows[question][COUNTS * number..][..COUNTS].copy_from_slice(&counts);
        }
    }
    if neither > 0 {
        counted.notes.push(format!("{neither} answers say neither yes nor no; they count as wrong"));
    }
    Ok(counted)
}

fn says(answer: &str) -> Option<bool> {
    let beginning: String = answer.to_lowercase().chars().take(4).collect();
    if beginning.contains("yes") {
        Some(true)
    } else if beginning.contains("no") {
        Some(false)
    } else {
        None
    }
}

fn compute(sums: &[f64]) -> Vec<f64> {
    let mut total = [0.0; COUNTS];
    let mut score = 0.0;
    for category in sums.chunks(COUNTS) {
        // A category without questions is not in the set; as it is a stratum, no draw lacks one
        // that is.
        if category[0] > 0.0 {
            score += 100.0 * (category[1] / category[0] + category[3] / category[2]);
        }
        super::super::interval::add(&mut total, category);
    }
    vec![100.0 * total[1] / total[0], 100.0 * total[3] / total[2], score]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::golden::golden;
    use crate::score::score;

    #[test]
    fn scores_of_categories_and_their_sums_are_those_of_the_official_script() {
        let golden = golden("mme.jsonl");
        let scores = score(&MME, &golden.items(), Variant::Official, 0).unwrap();
        let all = golden.all.as_ref().unwrap();
        let of = |name: &str| {
            let group = scores.groups.iter().find(|group| group.name == name).unwrap();
            group.figures.iter().find(|figure| figure.name == "score").unwrap().value.unwrap()
        };
        for (category, expected) in all["categories"].as_object().unwrap() {
            assert!((of(category) - expected.as_f64().unwrap()).abs() < 1e-7, "{category}: {}", of(category));
        }
        for sum in ["Perception", "Cognition"] {
            assert!((of(sum) - all[sum].as_f64().unwrap()).abs() < 1e-7, "{sum}: {}", of(sum));
        }
        assert!((of("all") - of("Perception") - of("Cognition")).abs() < 1e-7);
    }

    #[test]
    fn a_picture_with_one_question_is_told() {
        let golden = golden("mme.jsonl");
        let error = count(&golden.items()[1..], Variant::Official).unwrap_err().to_string();
        assert!(error.contains("two questions for each image of a category; 0000.jpg has 1"), "{error}");
    }

    #[test]
    fn draws_have_images_of_every_category() {
        let mut rows = Vec::new();
        let mut answers = Vec::new();
        // All of three images are right in one category, and 20 of 30 in the other, whose files
        // have the same names.
        for (category, images, right) in [("existence", 3, 3), ("count", 30, 20)] {
            for image in 0..images {
                for label in ["Yes", "No"] {
                    let row = serde_json::json!({
                        "id": rows.len(),
                        "category": category,
                        "image": format!("{image}.jpg"),
                        "answer": label,
                    });
                    rows.push(row.to_string());
                    answers.push(if image < right { label } else { "Yes" });
                }
            }
        }
        let source = crate::input::Source { name: "r", text: &rows.join("\n") };
        let references = crate::input::read_references(&[source]).unwrap().rows;
        let items = references.iter().zip(&answers);
        let items: Vec<Item> = items.map(|(reference, answer)| Item { reference, prediction: Some(*answer) }).collect();
        let scores = score(&MME, &items, Variant::Official, 0).unwrap();
        let all = scores.groups.last().unwrap();
        assert_eq!(all.clusters, 33);
        let score = &all.figures[2];
        // 200 + 100 · (50/60 + 20/30)
        assert!((score.value.unwrap() - 350.0).abs() < 1e-9, "{score:?}");
        let [low, high] = score.interval.unwrap();
        // Each image of `count` gives 200 or 50 points: 1.96 · 150 · √(2/9 / 29) = 25.7
        assert!((low - 324.3).abs() < 3.0 && (high - 375.7).abs() < 3.0, "{low} {high}");
    }
}
