//! Counts of what happened to the rows of a task.

use std::collections::BTreeMap;
use std::path::Path;

use lynxdata_prompts::AnswerShape;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::task::Task;

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
    /// `where:NAME` (the predicate is false), `field:NAME` (a value of the wrong type),
    /// `error:NAME` (an expression fails), `few_votes`, `answer_shape` (no answer has its declared
    /// shape), `missing_image` (its questions have `<image>` for more images than it names),
    /// `image_place` and `video_place` (an image or the video would move to another place),
    /// `no_wording` (no wording suits what the record has), `not_drawn` (fewer were asked for),
    /// `duplicate_id`, and `image_token`, `video_token`, `audio_token`, `turn_token` (a text
    /// contains a token that trainers treat as media or the end of a turn). Stages that check the
    /// images add their own reasons.
    pub dropped: BTreeMap<String, u64>,
    /// Parts that were left out although their record was kept, by reason. Rows of other tables:
    /// `unreadable:TABLE`, `no_key:TABLE` and `duplicate_key:TABLE` (the first row with a key is
    /// used). Elements of lists: `no_text:FIELD`, and captions with tokens as above, such as
    /// `video_token:captions`. Answers of records that have other answers: `answer_shape:SHAPE`.
    pub left_out: BTreeMap<String, u64>,
    /// Answers by their declared shape, and how many of them do not have it.
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
    pub(crate) fn add(&mut self, next: &TaskCounts) {
        let add = |own: &mut BTreeMap<String, u64>, next: &BTreeMap<String, u64>| {
            for (key, count) in next {
                *own.entry(key.clone()).or_default() += count;
            }
        };
        self.rows_seen += next.rows_seen;
        self.records_seen += next.records_seen;
        self.kept += next.kept;
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
        let of_count = |reason: &&String| self.dropped[*reason];
        let most = self.dropped.keys().rev().max_by_key(of_count)?;
        Some(Error::NothingKept {
            task: task.to_owned(),
            records: self.records_seen,
            reasons: [&self.dropped, &self.left_out]
                .into_iter()
                .flatten()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect(),
            example: self.examples[most].clone(),
        })
    }

    /// Returns an error if no record of a task is kept, if too many are dropped, or if too many
    /// answers do not have their declared shape.
    pub(crate) fn verdict(&self, task: &Task) -> Option<Error> {
        if let Some(error) = self.nothing_kept(&task.name) {
            return Some(error);
        }
        for (shape, ShapeCount { given, misfits }) in &self.answers {
            let share = *misfits as f64 / (*given).max(1) as f64;
            if *misfits >= FEWEST_MISFITS && share > MOST_MISFITS {
                return Some(Error::AnswerShape {
                    task: task.name.clone(),
                    shape: shape.clone(),
                    percent: share * 100.0,
                    most: MOST_MISFITS * 100.0,
                    example: self.examples.get(&format!("answer_shape:{shape}")).cloned().unwrap_or_default(),
                });
            }
        }
        // Records that a predicate or a draw excludes are dropped on purpose, and a row without
        // records has none to lose.
        let is_meant = |reason: &str| reason.starts_with("where:") || [NOT_DRAWN, "explode"].contains(&reason);
        let faulty: BTreeMap<&String, &u64> = self.dropped.iter().filter(|(reason, _)| !is_meant(reason)).collect();
        let dropped: u64 = faulty.values().copied().sum();
        let share = dropped as f64 / (dropped + self.kept).max(1) as f64;
        if dropped + self.kept < FEWEST_RECORDS || share <= task.may_drop {
            return None;
        }
        let most = faulty.iter().rev().max_by_key(|(_, count)| **count).map(|(reason, _)| *reason)?;
        Some(Error::TooMuchDropped {
            task: task.name.clone(),
            percent: share * 100.0,
            most: task.may_drop * 100.0,
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
