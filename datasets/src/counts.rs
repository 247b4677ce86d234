//! Counts of what happened to the rows of a task.

use std::collections::BTreeMap;
use std::path::Path;

use lynxdata_prompts::AnswerShape;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The share of answers that may not fit the shape that a task declares. Above it, the declared
/// shape is wrong, and wordings ask for something other than the answer.
const MOST_MISFITS: f64 = 0.2;

/// Fewer misfits than this are never an error: a fixture has only five rows.
const FEWEST_MISFITS: u64 = 3;

/// The share of dropped records is checked only from this number of records.
const FEWEST_RECORDS: u64 = 10;

/// The reason for records that were not drawn.
pub const NOT_DRAWN: &str = "not_drawn";

/// The number of conversations that formats cannot represent, by format and reason.
pub type FormatsLeftOut = BTreeMap<String, BTreeMap<String, u64>>;

/// Counts of what happened to the rows of a task. `records_seen` is always `kept` plus the sum of
/// `dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Native rows of the first table.
    pub rows_seen: u64,
    /// Records in these rows: as many as rows, unless the task explodes rows. A row that cannot be
    /// exploded counts as one record.
    pub records_seen: u64,
    /// Records that became conversations.
    pub kept: u64,
    /// Records that did not, by reason: `unreadable`, `unmatched:TABLE`, `explode` (no element),
    /// `where:NAME` and `must:NAME` (the predicate is false), `field:NAME` (a value of the wrong
    /// type), `error:NAME` (an expression fails), `few_votes`, `answer_shape` (no answer has its
    /// declared shape), `missing_image` (its questions have `<image>` for more images than it
    /// names), `image_place` and `video_place` (an image or the video would move to another place),
    /// `no_wording` (no wording suits what the record has), `not_drawn` (fewer were asked for),
    /// `duplicate_id`, and `image_token`, `video_token`, `audio_token`, `turn_token` (a text
    /// contains a token that trainers treat as media or the end of a turn). Stages that check the
    /// images add their own reasons.
    pub dropped: BTreeMap<String, u64>,
    /// Records among `dropped` that could be read, but were lost later: no wording suits them, a
    /// text has a token of a trainer, or their images or videos are missing or broken. Records that
    /// are left out on purpose do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_later: u64,
    /// Parts that were left out although their record was kept, by reason. Rows of other tables:
    /// `unreadable:TABLE`, `no_key:TABLE` and `duplicate_key:TABLE` (the first row with a key is
    /// used). Elements of lists: `no_text:FIELD`, and captions with tokens as above, such as
    /// `video_token:captions`. Answers of records that have other answers: `answer_shape:SHAPE`.
    /// Parts of boxes outside the image: `outside_image:box`.
    pub left_out: BTreeMap<String, u64>,
    /// For each declared shape, the number of answers and the number of those without it.
    pub answers: BTreeMap<String, ShapeCount>,
    /// Kept records without an optional slot or answer, by its name.
    pub lacking: BTreeMap<String, u64>,
    /// Conversations that are kept but reported, by reason, such as `contaminated:question`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, u64>,
    /// Kept records with a missing image or video.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub without_image: u64,
    /// Kept conversations that a format cannot represent, by format and reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: FormatsLeftOut,
    /// Questions that show the option "None of these", by kind: `none_of_the_above` and
    /// `unanswerable`, where it is right, and `none_of_the_above_is_wrong`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub negatives: BTreeMap<String, u64>,
    /// Conversations with U+FFFD in a text. It replaces invalid bytes, here or in earlier
    /// processing.
    pub with_replaced_characters: u64,
    /// The full message of the first case of every reason in `dropped` and `left_out`: task, file,
    /// row, field, expression.
    pub examples: BTreeMap<String, String>,
    /// Keys of joined tables that no row used, by table; tables without such keys are omitted.
    /// Known only at the end.
    pub unmatched_keys: BTreeMap<String, u64>,
    /// Whether these are the counts of a part of a split, and another part follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// The number of answers of one declared shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCount {
    /// All answers.
    pub given: u64,
    /// Answers that do not have the shape.
    pub misfits: u64,
}

/// The start of the reasons for conversations that are left out because they match a benchmark.
const CONTAMINATED: &str = "contaminated:";

/// Returns whether records are dropped for a reason on purpose: a predicate, a draw or a comparison
/// with benchmarks excludes them. A row without records has none to lose.
fn is_meant(reason: &str) -> bool {
    reason.starts_with("where:") || reason.starts_with(CONTAMINATED) || [NOT_DRAWN, "explode"].contains(&reason)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl TaskCounts {
    /// Returns whether every record is accounted for.
    pub fn adds_up(&self) -> bool {
        self.records_seen == self.kept + self.dropped.values().sum::<u64>()
    }

    /// Adds the counts of the next part.
    pub fn add(&mut self, next: &TaskCounts) {
        let add = |own: &mut BTreeMap<String, u64>, next: &BTreeMap<String, u64>| {
            for (key, count) in next {
                *own.entry(key.clone()).or_default() += count;
            }
        };
        self.rows_seen += next.rows_seen;
        self.records_seen += next.records_seen;
        self.kept += next.kept;
        self.lost_later += next.lost_later;
        self.with_replaced_characters += next.with_replaced_characters;
        add(&mut self.dropped, &next.dropped);
        add(&mut self.left_out, &next.left_out);
        add(&mut self.lacking, &next.lacking);
        add(&mut self.negatives, &next.negatives);
        add(&mut self.reported, &next.reported);
        add(&mut self.unmatched_keys, &next.unmatched_keys);
        for (shape, count) in &next.answers {
            let own = self.answers.entry(shape.clone()).or_default();
            own.given += count.given;
            own.misfits += count.misfits;
        }
        for (reason, example) in &next.examples {
            self.keep_first(reason, || example.clone());
        }
        self.goes_on = next.goes_on;
    }

    /// Counts a record as dropped that was counted as kept before.
    pub fn drop_kept(&mut self, reason: &str, example: impl FnOnce() -> String) {
        self.kept -= 1;
        self.lost_later += u64::from(!is_meant(reason));
        self.count_drop(reason, example);
    }

    /// Returns the error of a task without conversations.
    pub fn nothing_made(&self, task: &str, root: &Path) -> Error {
        let no_records = || Error::NoRecords { task: task.to_owned(), root: root.to_owned() };
        self.nothing_kept(task).unwrap_or_else(no_records)
    }

    /// Returns an error if a task has records but none is kept.
    fn nothing_kept(&self, task: &str) -> Option<Error> {
        if self.kept > 0 {
            return None;
        }
        // What is left out on purpose explains nothing, unless there is nothing else.
        let of_count = |(reason, count): &(&String, &u64)| (!is_meant(reason), **count);
        let (most, _) = self.dropped.iter().rev().max_by_key(of_count)?;
        Some(Error::NothingKept {
            task: task.to_owned(),
            records: self.records_seen,
            reasons: self.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect(),
            example: self.examples[most].clone(),
        })
    }

    /// Returns an error if no record of a task is kept, if more than the share `may_drop` is lost,
    /// or if too many answers do not have their declared shape.
    pub fn verdict(&self, task: &str, may_drop: f64) -> Option<Error> {
        if let Some(error) = self.nothing_kept(task) {
            return Some(error);
        }
        for (shape, ShapeCount { given, misfits }) in &self.answers {
            let share = *misfits as f64 / (*given).max(1) as f64;
            if *misfits >= FEWEST_MISFITS && share > MOST_MISFITS {
                return Some(Error::AnswerShape {
                    task: task.to_owned(),
                    shape: shape.clone(),
                    percent: share * 100.0,
                    most: MOST_MISFITS * 100.0,
                    example: self.examples.get(&format!("answer_shape:{shape}")).cloned().unwrap_or_default(),
                });
            }
        }
        self.loss(task, may_drop)
    }

    /// Returns an error if more than the share `may_drop`, 0 to 1, of the records of a task is
    /// lost. It is checked from [`FEWEST_RECORDS`] records on.
    ///
    /// Of a draw, only the drawn records can be lost after they are read, so the share has two
    /// factors: the share of records that is read, and the share of those that is then kept.
    pub fn loss(&self, task: &str, may_drop: f64) -> Option<Error> {
        let faulty: BTreeMap<&String, &u64> = self.dropped.iter().filter(|(reason, _)| !is_meant(reason)).collect();
        let lost: u64 = faulty.values().copied().sum();
        let of = |reason: &str| self.dropped.get(reason).copied().unwrap_or_default();
        let contaminated: u64 =
            self.dropped.keys().filter(|own| own.starts_with(CONTAMINATED)).map(|own| of(own)).sum();
        let unread = lost.saturating_sub(self.lost_later);
        let drawn = self.kept + self.lost_later + contaminated;
        let share_of = |count: u64, all: u64| count as f64 / all.max(1) as f64;
        let is_read = 1.0 - share_of(unread, unread + drawn + of(NOT_DRAWN));
        let share = 1.0 - is_read * (1.0 - share_of(self.lost_later, drawn));
        // The two factors may differ from the quotient in the last digit.
        if lost + self.kept < FEWEST_RECORDS || share <= may_drop + 1e-9 {
            return None;
        }
        let most = faulty.iter().rev().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason)?;
        Some(Error::TooMuchDropped {
            task: task.to_owned(),
            percent: share * 100.0,
            most: may_drop * 100.0,
            reasons: faulty.iter().map(|(reason, count)| format!("{reason} {count}")).collect(),
            example: self.examples.get(most).cloned().unwrap_or_default(),
        })
    }

    pub(crate) fn count_answers(&mut self, shape: AnswerShape) -> &mut ShapeCount {
        if !self.answers.contains_key(shape.name()) {
            self.answers.insert(shape.name().to_owned(), ShapeCount::default());
        }
        self.answers.get_mut(shape.name()).expect("it was inserted if it was missing")
    }

    pub(crate) fn count_drop(&mut self, reason: &str, example: impl FnOnce() -> String) {
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
        self.keep_first(reason, example);
    }

    pub(crate) fn count_left_out(&mut self, reason: &str, example: impl FnOnce() -> String) {
        *self.left_out.entry(reason.to_owned()).or_default() += 1;
        self.keep_first(reason, example);
    }

    pub(crate) fn keep_first(&mut self, reason: &str, example: impl FnOnce() -> String) {
        if !self.examples.contains_key(reason) {
            self.examples.insert(reason.to_owned(), example());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the percentage that is lost, if it is more than half.
    fn lost(kept: u64, dropped: &[(&str, u64)], lost_later: u64) -> Option<u64> {
        let dropped: BTreeMap<String, u64> =
            dropped.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let counts = TaskCounts { kept, dropped, lost_later, ..TaskCounts::default() };
        match counts.loss("own", 0.5) {
            Some(Error::TooMuchDropped { percent, .. }) => Some(percent.round() as u64),
            None => None,
            Some(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_lost_counts_and_what_is_left_out_on_purpose_does_not() {
        assert_eq!(lost(4, &[("missing_image", 36)], 36), Some(90));
        assert_eq!(lost(20, &[("missing_image", 20)], 20), None, "the share may be reached");
        assert_eq!(lost(1, &[("must:takes_turns", 39)], 0), Some(98));
        assert_eq!(lost(1, &[("where:in_split", 39), ("explode", 2), ("contaminated:question", 9)], 0), None);
        assert_eq!(lost(8, &[("unreadable", 8), ("missing_image", 4)], 4), Some(60));
        assert_eq!(lost(1, &[("missing_image", 8)], 8), None, "there are too few records");
    }

    #[test]
    fn a_draw_does_not_change_the_share_that_is_lost() {
        // One of ten rows is faulty, and of 20 of the others, 5 have no image.
        assert_eq!(lost(15, &[("unreadable", 1000), ("missing_image", 5), (NOT_DRAWN, 8980)], 5), None);
        assert_eq!(lost(2, &[("unreadable", 1000), ("missing_image", 18), (NOT_DRAWN, 8980)], 18), Some(91));
    }

    #[test]
    fn records_that_are_dropped_later_are_counted_as_such() {
        let mut counts = TaskCounts { kept: 3, records_seen: 3, ..TaskCounts::default() };
        for reason in ["missing_image", NOT_DRAWN, "contaminated:question"] {
            counts.drop_kept(reason, String::new);
        }
        let mut sum = TaskCounts { lost_later: 2, ..TaskCounts::default() };
        sum.add(&counts);
        assert_eq!((counts.kept, counts.lost_later, sum.lost_later), (0, 1, 3));
    }

    #[test]
    fn what_was_left_out_on_purpose_is_not_why_nothing_is_kept() {
        let dropped = BTreeMap::from([("missing_image".to_owned(), 20), (NOT_DRAWN.to_owned(), 100)]);
        let examples = BTreeMap::from([("missing_image".to_owned(), "no a.jpg".to_owned())]);
        let left_out = BTreeMap::from([("outside_image:box".to_owned(), 1)]);
        let counts = TaskCounts { records_seen: 120, dropped, examples, left_out, ..TaskCounts::default() };
        let told = counts.nothing_made("own", Path::new("x")).to_string();
        assert!(told.contains("missing_image 20, not_drawn 100") && told.contains("no a.jpg"), "{told}");
        assert!(!told.contains("outside_image"), "{told}");
    }
}
