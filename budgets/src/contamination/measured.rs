//! Measures the precision of the comparison on planted hits and on hard near-misses. The results
//! must equal the table in `docs/audit.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Comparison, Likeness, WORDS, contamination};
use crate::machine::shared;

/// A record that is similar to a reference, or only seems to be.
struct Case {
    record: Value,
    is_planted: bool,
}

fn case(is_planted: bool, image: &str, question: &str, answer: &str) -> Case {
    let turns = json!([{"from": "human", "value": format!("<image>\n{question}")}, {"from": "gpt", "value": answer}]);
    Case { record: json!({"image": image, "conversations": turns}), is_planted }
}

/// Compares and returns a row of the table: planted, found, near-misses, near-misses counted as
/// hits, precision.
fn row(what: &str, cases: &[Case], against: &[Value], by: Likeness, distance: Option<u32>, images: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: &mut dyn Iterator<Item = &Value>| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, rows.map(Value::to_string).collect::<Vec<_>>().join("\n")).unwrap();
        path
    };
    let own = write("own.jsonl", &mut cases.iter().map(|case| &case.record));
    let other = write("other.jsonl", &mut against.iter());
    let images = Some(images.to_owned());
    let comparison = Comparison {
        words: WORDS,
        hash_distance: distance,
        images: images.clone(),
        against_images: images,
        visual_genome_tasks: BTreeSet::new(),
    };
    let found = contamination(&own, &[other], &comparison).unwrap();
    // One of the images that are compared by hash is too flat for it.
    let flat = u64::from(distance.is_some());
    assert_eq!((found.unreadable, found.unreadable_references, found.without_hash), (0, 0, flat));
    let is_hit = |row: usize| found.hits.iter().any(|hit| hit.row == row as u64 && hit.by == by);
    let count = |is_planted: bool, wanted: &dyn Fn(usize) -> bool| {
        let of_kind = cases.iter().enumerate().filter(|(_, case)| case.is_planted == is_planted);
        of_kind.filter(|(row, _)| wanted(*row)).count()
    };
    let (planted, hits) = (count(true, &|_| true), count(true, &is_hit));
    let (misses, wrong) = (count(false, &|_| true), count(false, &is_hit));
    let precision = hits as f64 / (hits + wrong).max(1) as f64;
    format!("| {what} | {planted} | {hits} | {misses} | {wrong} | {precision:.2} |")
}

fn check(rows: &[String]) {
    let docs = include_str!("../../../docs/audit.md");
    let missing: Vec<&String> = rows.iter().filter(|row| !docs.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "docs/audit.md lacks {missing:#?}");
}

/// Returns the rows of Open-VQA that are about images.
fn open_vqa() -> Option<Vec<Value>> {
    lines("data/text/vqa/open_vqa/Open_VQA_images.jsonl")
}

fn lines(path: &str) -> Option<Vec<Value>> {
    let path = shared(path)?;
    let text = fs::read_to_string(path).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn names_of_pictures_are_told_apart() {
    let Some(references) = open_vqa() else { return };
    let mut cases = Vec::new();
    for reference in &references {
        let path = reference["image"].as_str().unwrap();
        let name = path.rsplit('/').next().unwrap();
        let stem = name.split('.').next().unwrap();
        let digits: String = stem.rsplit('_').next().unwrap().chars().filter(char::is_ascii_digit).collect();
        let mut add = |is_planted: bool, image: String| cases.push(case(is_planted, &image, "Why?", "So."));
        if let Some(number) = stem.strip_prefix("COCO_val2014_") {
            add(true, format!("coco/val2017/{number}.jpg"));
            add(true, format!("refcoco/COCO_train2014_{number}.jpg"));
            // The same number in other datasets, and the next number.
            add(false, format!("vg/VG_100K/{}.jpg", number.trim_start_matches('0')));
            add(false, format!("flickr30k/{}.jpg", number.trim_start_matches('0')));
            let next: u64 = number.parse::<u64>().unwrap() + 1;
            add(false, format!("coco/val2017/{next:012}.jpg"));
        } else if stem.len() == 16 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            add(true, format!("textvqa/train_images/{stem}.jpg"));
            let other = if stem.ends_with('0') { "1" } else { "0" };
            add(false, format!("textvqa/train_images/{}{other}.jpg", &stem[..15]));
        } else if !digits.is_empty() {
            add(false, format!("coco/train2017/{digits:0>12}.jpg"));
        }
    }
    check(&[row("`image_id`, Open-VQA", &cases, &references, Likeness::ImageId, None, Path::new(""))]);
}

#[test]
fn images_of_pope_are_told_apart() {
    let Some(references) = lines("data/tasks/pope/coco_pope_random.json") else { return };
    let mut cases = Vec::new();
    // Six consecutive questions are about one image.
    for reference in references.iter().step_by(6) {
        let number = reference["image"].as_str().unwrap().strip_prefix("COCO_val2014_").unwrap();
        let number = number.strip_suffix(".jpg").unwrap();
        let mut add = |is_planted: bool, image: String| {
            let (question, answer) = (reference["text"].as_str().unwrap(), reference["label"].as_str().unwrap());
            cases.push(case(is_planted, &image, question, answer));
        };
        add(true, format!("coco/val2017/{number}.jpg"));
        add(true, format!("refcoco/COCO_train2014_{number}.jpg"));
        // The same question about another image, and the same number in another dataset.
        add(false, format!("coco/train2017/9{}.jpg", &number[1..]));
        add(false, format!("vg/VG_100K/{}.jpg", number.trim_start_matches('0')));
    }
    check(&[row("`image_id`, POPE", &cases, &references, Likeness::ImageId, None, Path::new(""))]);
}

#[test]
fn looks_of_pictures_are_told_apart() {
    let Some(folder) = shared("data/neardup/copydays_style") else { return };
    let mut photos: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    photos.retain(|photo| photo.join("orig.jpg").is_file());
    photos.sort();
    let name = |photo: &Path| photo.file_name().unwrap().to_str().unwrap().to_owned();
    let (mut references, mut cases) = (Vec::new(), Vec::new());
    for (place, photo) in photos.iter().enumerate() {
        let is_reference = place % 2 == 0;
        if is_reference {
            let image = format!("{}/orig.jpg", name(photo));
            references.push(json!({"question": "Why?", "answer": "none", "image": image}));
        }
        // Every version of the others is a near-miss.
        let mut versions: Vec<PathBuf> = fs::read_dir(photo).unwrap().map(|entry| entry.unwrap().path()).collect();
        versions.sort();
        for version in versions {
            let stem = version.file_stem().unwrap().to_str().unwrap();
            let is_copy = ["orig", "jpeg75", "jpeg30", "jpeg10", "resize50", "resize25", "webp60", "gray"];
            if is_reference && !is_copy.contains(&stem) {
                continue;
            }
            let image = format!("{}/{}", name(photo), name(&version));
            cases.push(case(is_reference, &image, "Who?", "Me."));
        }
    }
    let of = |distance: u32| {
        let what = format!("`image_hash`, at most {distance} bits");
        row(&what, &cases, &references, Likeness::ImageHash, Some(distance), &folder)
    };
    check(&[of(0), of(4), of(8), of(12)]);
}

#[test]
fn questions_are_told_apart() {
    let Some(references) = open_vqa() else { return };
    let words = |text: &str| text.split_whitespace().count();
    let (mut same, mut long, mut near) = (Vec::new(), Vec::new(), Vec::new());
    for (place, reference) in references.iter().enumerate() {
        let question = reference["question"].as_str().unwrap();
        let answer = reference["answer"][0].as_str().unwrap();
        let worded = format!("Look at the picture and answer in as few words as you can.\n{question}");
        let planted = || case(true, "a.jpg", &worded.to_lowercase(), &format!("It is {answer}."));
        same.push(planted());
        if words(question) < WORDS {
            continue;
        }
        long.push(planted());
        // The question with another answer, and with another word in the middle.
        let other = references[(place + 7) % references.len()]["answer"][0].as_str().unwrap();
        if !other.to_lowercase().contains(&answer.to_lowercase()) {
            near.push(case(false, "a.jpg", &worded, other));
        }
        let mut changed: Vec<&str> = question.split_whitespace().collect();
        let middle = changed.len() / 2;
        changed[middle] = "zebra";
        near.push(case(false, "a.jpg", &changed.join(" "), answer));
    }
    long.extend(near);
    check(&[
        row("`question`, Open-VQA", &same, &references, Likeness::Question, None, Path::new("")),
        row("`question`, those of 8 words or more", &long, &references, Likeness::Question, None, Path::new("")),
    ]);
}
