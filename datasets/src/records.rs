//! Native rows to typed records: joins, predicates, fields, and the count of everything that is
//! dropped.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use lynxdata_prompts::{AnswerShape, keyed_hash};
use minijinja::Value;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::expression::value_of;
use crate::record::{
    Answers, Media, Record, SlotValue, VideoReference, answer, key_text, options, path, picture, pictures, seconds,
    slot, texts_of, truth, turns, votes,
};
use crate::rows::table::Matches;
use crate::rows::{NativeRow, Rows, Shape, read_all};
use crate::shape::misfit;
use crate::task::{Join, Mapped, MediaSource, Task};
use crate::{Error, Result};

/// The share of answers that may not fit the shape that a task says they have. Above it the task
/// says the wrong shape, and its wordings ask for something else than what is answered.
const MOST_MISFITS: f64 = 0.2;

/// Fewer misfits than this are no share of anything: a fixture has five rows.
const FEWEST_MISFITS: u64 = 3;

/// The share of dropped records is looked at from this number of records on.
const FEWEST_RECORDS: u64 = 10;

/// The reason of records that were not among those that were drawn.
pub const NOT_DRAWN: &str = "not_drawn";

/// What became of the rows of a task. `records_seen = kept + the sum of dropped`, always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Native rows of the first table.
    pub rows_seen: u64,
    /// Records in them: equal to the rows unless the task explodes them. A row that cannot be
    /// exploded counts as one record.
    pub records_seen: u64,
    /// Records that became conversations.
    pub kept: u64,
    /// Records that did not, by reason: `unreadable`, `unmatched:TABLE`, `explode` (no element),
    /// `where:NAME` (the predicate is false), `field:NAME` (a value of the wrong kind),
    /// `error:NAME` (an expression fails), `few_votes`, `answer_shape` (no answer has the shape
    /// that it is said to have), `no_wording` (no wording suits what the record has),
    /// `not_drawn` (fewer were asked for), `duplicate_id`, and `image_token`, `video_token`, `audio_token`, `turn_token` (a text holds
    /// what trainers take for media or the end of a turn). Whoever looks at the pictures adds what
    /// is wrong with them.
    pub dropped: BTreeMap<String, u64>,
    /// What was left out without a record, by reason: rows of other tables, `unreadable:TABLE`,
    /// `no_key:TABLE` and `duplicate_key:TABLE` (the first row of a key counts); elements of lists,
    /// `no_text:FIELD` and captions with tokens as above, such as `video_token:captions`; answers
    /// of records that have others, `answer_shape:SHAPE`.
    pub left_out: BTreeMap<String, u64>,
    /// Answers by the shape that they are said to have, and how many of them do not have it.
    pub answers: BTreeMap<String, ShapeCount>,
    /// Kept records that lack an optional slot or answer, by its name.
    pub lacking: BTreeMap<String, u64>,
    /// Conversations that are kept and told, by reason, such as `contaminated:question`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, u64>,
    /// Questions with options of which one says that no other is right, by whether and why it is:
    /// `none_of_the_above`, `unanswerable`, `none_of_the_above_is_wrong`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub negatives: BTreeMap<String, u64>,
    /// Conversations with U+FFFD in a text: bytes that were no characters, here or before.
    pub with_replaced_characters: u64,
    /// The first case of every reason of both in full: task, file, row, field, expression.
    pub examples: BTreeMap<String, String>,
    /// Keys of joined tables that no row asked for, by table; tables without any are left out.
    /// Known at the end.
    pub unmatched_keys: BTreeMap<String, u64>,
    /// Whether these are the counts of a part of a split that another part follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// How many answers of one shape there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeCount {
    /// All of them.
    pub given: u64,
    /// Those that do not have the shape.
    pub misfits: u64,
}

impl TaskCounts {
    /// Whether every record is accounted for.
    pub fn adds_up(&self) -> bool {
        self.records_seen == self.kept + self.dropped.values().sum::<u64>()
    }

    /// Adds the counts of the part that follows.
    fn add(&mut self, next: &TaskCounts) {
        let add = |own: &mut BTreeMap<String, u64>, next: &BTreeMap<String, u64>| {
            next.iter().for_each(|(key, count)| *own.entry(key.clone()).or_default() += count);
        };
        self.rows_seen += next.rows_seen;
        self.records_seen += next.records_seen;
        self.kept += next.kept;
        self.with_replaced_characters += next.with_replaced_characters;
        add(&mut self.dropped, &next.dropped);
        add(&mut self.left_out, &next.left_out);
        add(&mut self.lacking, &next.lacking);
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

    /// Counts a record as dropped that was kept before.
    pub fn drop_kept(&mut self, reason: &str, example: impl FnOnce() -> String) {
        self.kept -= 1;
        self.count_drop(reason, example);
    }

    /// Returns the error of a task of whose records none is kept, if there are any.
    pub fn nothing_kept(&self, task: &str) -> Option<Error> {
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

    /// Returns the error of a task of which nothing is kept, of which too much is dropped, or of
    /// which too many answers do not have the shape that they are said to have.
    fn verdict(&self, task: &Task) -> Option<Error> {
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
        // What a predicate leaves out or a draw passes over is meant to go, and a row that holds no
        // record has none.
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

    pub(crate) fn count_drop(&mut self, reason: &str, example: impl FnOnce() -> String) {
        *self.dropped.entry(reason.to_owned()).or_default() += 1;
        self.keep_first(reason, example);
    }

    pub(crate) fn count_left_out(&mut self, reason: &str, example: impl FnOnce() -> String) {
        *self.left_out.entry(reason.to_owned()).or_default() += 1;
        self.keep_first(reason, example);
    }

    fn keep_first(&mut self, reason: &str, example: impl FnOnce() -> String) {
        if !self.examples.contains_key(reason) {
            self.examples.insert(reason.to_owned(), example());
        }
    }
}

/// A joined table in memory.
#[derive(Debug)]
struct Index<'a> {
    join: &'a Join,
    rows: HashMap<String, Entry>,
    keys_used: usize,
}

#[derive(Debug)]
struct Entry {
    value: Value,
    used: bool,
}

/// What expressions see of one record, and where it comes from.
#[derive(Debug)]
struct Candidate {
    variables: BTreeMap<Arc<str>, Value>,
    file: Arc<str>,
    row: u64,
}

/// The records of one split of a task, in the order of the native files.
#[derive(Debug)]
pub struct Records<'a> {
    task: &'a Task,
    split: String,
    rows: Rows,
    indexes: Vec<Index<'a>>,
    common: BTreeMap<Arc<str>, Value>,
    waiting: VecDeque<Candidate>,
    ids: HashSet<(u64, u64)>,
    ended: bool,
    /// Rows after which the iterator pauses, until [`Records::next_part`].
    rows_of_part: u64,
    /// The row after a pause.
    ahead: Option<Result<NativeRow>>,
    /// Counts of the parts before this one.
    earlier: TaskCounts,
    pub(crate) counts: TaskCounts,
}

impl<'a> Records<'a> {
    /// Reads joined tables and lookups into memory and starts on the first table, which is
    /// streamed.
    ///
    /// # Errors
    /// If a file is missing or, as a whole, cannot be understood.
    pub fn start(task: &'a Task, root: &Path, split: &str) -> Result<Self> {
        let mut counts = TaskCounts::default();
        let mut common = BTreeMap::from([(Arc::from("split"), Value::from(split))]);
        for (name, table) in &task.lookups {
            let files = task.table_files(root, name, table, split)?;
            let shape = table.shape.unwrap_or(Shape::Whole);
            let mut values = Vec::new();
            read_all(&task.name, name, &files, table, shape, &mut |row| {
                // An unreadable row keeps its place, so that the others keep theirs.
                values.push(row.content.map_or_else(
                    |detail| {
                        counts.count_left_out(&format!("unreadable:{name}"), || {
                            format!("{}: {detail}", place(&task.name, &row.file, row.number))
                        });
                        Json::Null
                    },
                    unwrapped,
                ));
            })?;
            let is_one_value = shape == Shape::Whole && values.len() == 1 && files.len() == 1;
            let value = if is_one_value { values.swap_remove(0) } else { Json::Array(values) };
            common.insert(Arc::from(name.as_str()), value_of(value));
        }
        let indexes =
            task.joins.iter().map(|join| index(task, root, join, split, &mut counts)).collect::<Result<_>>()?;
        let (name, table) = &task.primary;
        let files = task.table_files(root, name, table, split)?;
        let rows = Rows::start(&task.name, name, files, table, table.shape.unwrap_or(Shape::List))?;
        Ok(Self {
            task,
            split: split.to_owned(),
            rows,
            indexes,
            common,
            waiting: VecDeque::new(),
            ids: HashSet::new(),
            ended: false,
            rows_of_part: u64::MAX,
            ahead: None,
            earlier: TaskCounts::default(),
            counts,
        })
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> &TaskCounts {
        &self.counts
    }

    /// Makes the iterator end after so many native rows, with whatever records they hold;
    /// [`Records::next_part`] goes on with the next ones.
    pub fn pause_after(&mut self, rows: u64) {
        self.rows_of_part = rows;
    }

    /// Ends a part: returns its counts, and goes on with the rows after it if there are any, which
    /// `goes_on` of the counts says.
    pub fn next_part(&mut self) -> TaskCounts {
        let mut counts = std::mem::take(&mut self.counts);
        counts.goes_on = self.ahead.is_some();
        self.earlier.add(&counts);
        counts
    }

    /// What became of the rows of all parts up to the last [`Records::next_part`].
    pub fn total(&self) -> &TaskCounts {
        &self.earlier
    }

    fn reject(&mut self, file: &str, row: u64, reason: &str, detail: &str) {
        self.counts.count_drop(reason, || format!("{}: {detail}", place(&self.task.name, file, row)));
    }

    /// Turns one native row into the candidates that it holds; a row that holds none is dropped as
    /// one record.
    fn take(&mut self, native: NativeRow) {
        let (file, row) = (native.file.clone(), native.number);
        self.counts.rows_seen += 1;
        match self.candidates(native) {
            Ok(candidates) => {
                self.counts.records_seen += candidates.len() as u64;
                self.waiting.extend(candidates);
            }
            Err((reason, detail)) => {
                self.counts.records_seen += 1;
                self.reject(&file, row, &reason, &detail);
            }
        }
    }

    fn candidates(&mut self, native: NativeRow) -> std::result::Result<Vec<Candidate>, (String, String)> {
        let content = native.content.map_err(|detail| ("unreadable".to_owned(), detail))?;
        let mut variables = self.common.clone();
        variables.insert(Arc::from("file"), Value::from(&*native.file));
        variables.insert(Arc::from("row"), Value::from(native.number));
        variables.insert(Arc::from("index"), Value::from(0));
        variables.insert(Arc::from(self.task.primary.0.as_str()), value_of(content));
        for index in &mut self.indexes {
            let name = &index.join.name;
            let key = index.join.on.evaluate_json(&context(&variables));
            let key = key.map_err(|detail| (format!("error:{name}"), format!("tables.{name}.on: {detail}")))?;
            let entry = key_text(&key).and_then(|key| index.rows.get_mut(&key));
            let value = match (entry, index.join.table.matches) {
                (Some(entry), _) => {
                    index.keys_used += usize::from(!entry.used);
                    entry.used = true;
                    entry.value.clone()
                }
                (None, Matches::Optional) => Value::from(()),
                (None, Matches::Any) => Value::from(Vec::<Value>::new()),
                (None, Matches::One | Matches::Many) => {
                    return Err((format!("unmatched:{name}"), format!("table {name} has no row with the key {key}")));
                }
            };
            variables.insert(Arc::from(name.as_str()), value);
        }
        let (file, row) = (native.file, native.number);
        let Some((name, over)) = &self.task.explode else { return Ok(vec![Candidate { variables, file, row }]) };
        let elements = over.evaluate(&context(&variables)).and_then(|list| {
            let elements = list.try_iter().map_err(|fault| fault.to_string())?;
            elements.checked().collect::<std::result::Result<Vec<Value>, _>>().map_err(|fault| fault.to_string())
        });
        let elements = elements.map_err(|detail| ("error:explode".to_owned(), format!("explode.over: {detail}")))?;
        if elements.is_empty() {
            return Err(("explode".to_owned(), "the row holds no record".to_owned()));
        }
        let candidate = |(place, element): (usize, Value)| {
            let mut variables = variables.clone();
            variables.insert(Arc::from("index"), Value::from(place));
            variables.insert(Arc::from(name.as_str()), element);
            Candidate { variables, file: file.clone(), row }
        };
        Ok(elements.into_iter().enumerate().map(candidate).collect())
    }

    /// Maps one candidate, or says under which reason it is dropped.
    fn record(&mut self, candidate: &Candidate) -> std::result::Result<Record, (String, String)> {
        let context = context(&candidate.variables);
        for (name, predicate) in &self.task.predicates {
            let holds = predicate.evaluate(&context);
            let holds = holds.map_err(|detail| (format!("error:{name}"), format!("where.{name}: {detail}")))?;
            if !holds.is_true() {
                return Err((format!("where:{name}"), format!("where.{name} does not hold")));
            }
        }
        let native_id = mapped(&self.task.id, &context, |value| {
            key_text(value).ok_or_else(|| format!("must be a text or a number, but is {value}"))
        })?;
        let media = media(&self.task.media, &context)?.unwrap_or_default();
        let mut slots = BTreeMap::new();
        let mut lacking = Vec::new();
        for own in &self.task.slots {
            match optional(own, &context, |value| slot(&own.name, value))? {
                Some(value) => drop(slots.insert(own.name.clone(), value)),
                None => lacking.push(own.name.as_str()),
            }
        }
        let answers = self.answers(candidate, &context, &slots, &mut lacking)?;
        let id = format!("{}/{}/{native_id}", self.task.name, self.split);
        // 128 bits of the id are kept instead of the id: 16 bytes a record, and a collision among a
        // billion is less likely than a disk fault.
        if !self.ids.insert((keyed_hash(0, &[&id]), keyed_hash(1, &[&id]))) {
            return Err(("duplicate_id".to_owned(), format!("the id {id} was seen before")));
        }
        for name in lacking {
            *self.counts.lacking.entry(name.to_owned()).or_default() += 1;
        }
        Ok(Record { id, media, slots, answers, source_file: candidate.file.to_string(), source_row: candidate.row })
    }

    /// Maps the answers of a candidate. Those that do not have their shape are left out; a record
    /// without any other is dropped.
    fn answers<'t>(
        &mut self,
        candidate: &Candidate,
        context: &Value,
        slots: &BTreeMap<String, SlotValue>,
        lacking: &mut Vec<&'t str>,
    ) -> std::result::Result<Answers, Drop>
    where
        'a: 't,
    {
        let task = self.task;
        let sources = &task.answers;
        let mut found = Answers::default();
        let mut left_out: Vec<(&str, String)> = Vec::new();
        let mut misfits: Vec<(AnswerShape, String)> = Vec::new();
        for (shape, own) in &sources.texts {
            let Some(text) = optional(own, context, |value| answer(*shape, value))? else {
                lacking.push(&own.name);
                continue;
            };
            self.counts.answers.entry(shape.name().to_owned()).or_default().given += 1;
            match misfit(*shape, &text) {
                None => drop(found.texts.insert(*shape, text)),
                Some(reason) => misfits.push((*shape, format!("{text:?} {reason}"))),
            }
        }
        let mut without_text = Vec::new();
        if let Some((texts, right)) = &sources.options {
            let right = mapped(right, context, |value| Ok(value.clone()))?;
            let read = |value: &Json| options(value, &right, &mut without_text);
            found.options = Some(mapped(texts, context, read).map_err(named("options"))?);
            left_out.extend(without_text.drain(..).map(|reason| ("options", reason)));
        }
        if let Some(own) = &sources.truth {
            found.truth = Some(mapped(own, context, truth)?);
        }
        if let Some((own, least)) = &sources.votes {
            let is_few = |reason: &str| reason.starts_with("agree ");
            found.votes =
                mapped(own, context, |value| votes(value, *least, &mut without_text)).map_err(|(reason, detail)| {
                    let is_few =
                        reason == "field:votes" && detail.rsplit_once(": ").is_some_and(|(_, why)| is_few(why));
                    (if is_few { "few_votes".to_owned() } else { reason }, detail)
                })?;
            left_out.extend(without_text.drain(..).map(|reason| ("votes", reason)));
        }
        // What the authors take for the majority goes before the first of equal counts.
        if let Some((text, _)) = found.votes.first().filter(|_| !found.texts.contains_key(&AnswerShape::Phrase)) {
            let text = text.clone();
            self.counts.answers.entry("phrase".to_owned()).or_default().given += 1;
            match misfit(AnswerShape::Phrase, &text) {
                None => drop(found.texts.insert(AnswerShape::Phrase, text)),
                Some(reason) => misfits.push((AnswerShape::Phrase, format!("{text:?} {reason}"))),
            }
        }
        if let Some((own, shape, _)) = &sources.captions {
            let captions = mapped(own, context, |value| texts_of(value, &mut without_text))?;
            left_out.extend(without_text.drain(..).map(|reason| ("captions", reason)));
            self.counts.answers.entry(shape.name().to_owned()).or_default().given += captions.len() as u64;
            for caption in captions {
                match misfit(*shape, &caption) {
                    None => found.captions.push(caption),
                    Some(reason) => misfits.push((*shape, format!("{caption:?} {reason}"))),
                }
            }
        }
        if let Some(own) = &sources.turns {
            found.turns = mapped(own, context, |value| turns(value, &mut without_text))?;
            left_out.extend(without_text.drain(..).map(|reason| ("turns", reason)));
        }
        let place = || place(&task.name, &candidate.file, candidate.row);
        for (name, reason) in left_out {
            self.counts
                .count_left_out(&format!("no_text:{name}"), || format!("{}: an element of {name} {reason}", place()));
        }
        let has_any = !found.shapes(task).is_empty();
        for (shape, detail) in &misfits {
            self.counts.answers.entry(shape.name().to_owned()).or_default().misfits += 1;
            let (reason, shape) = (format!("answer_shape:{}", shape.name()), shape.name());
            let asked = slots.get("question").or_else(|| slots.values().next());
            let asked = asked.map_or(String::new(), |asked| format!(", asked {asked:?},"));
            let example = || format!("{}: the {shape}{asked} {detail}", place());
            if has_any {
                self.counts.count_left_out(&reason, example);
            } else {
                self.counts.keep_first(&reason, example);
            }
        }
        match misfits.into_iter().next() {
            _ if has_any => Ok(found),
            Some((shape, detail)) => Err(("answer_shape".to_owned(), format!("the {} {detail}", shape.name()))),
            None => Err(("field:answers".to_owned(), "there is no answer".to_owned())),
        }
    }

    /// Fills in what is known at the end, and finds tasks that nothing is left of.
    fn end(&mut self) -> Option<Error> {
        self.ended = true;
        for index in &self.indexes {
            let unused = index.rows.len() - index.keys_used;
            if unused > 0 {
                self.counts.unmatched_keys.insert(index.join.name.clone(), unused as u64);
            }
        }
        let mut all = self.earlier.clone();
        all.add(&self.counts);
        all.verdict(self.task)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(candidate) = self.waiting.pop_front() {
                match self.record(&candidate) {
                    Ok(record) => {
                        self.counts.kept += 1;
                        return Some(Ok(record));
                    }
                    Err((reason, detail)) => self.reject(&candidate.file, candidate.row, &reason, &detail),
                }
                continue;
            }
            if self.ended {
                return None;
            }
            let next = self.ahead.take().or_else(|| self.rows.next());
            if self.counts.rows_seen >= self.rows_of_part && next.is_some() {
                self.ahead = next;
                return None;
            }
            match next {
                Some(Ok(row)) => self.take(row),
                Some(Err(fault)) => {
                    self.ended = true;
                    return Some(Err(fault));
                }
                None => return self.end().map(Err),
            }
        }
    }
}

/// The reason for which a record is dropped, and the case.
type Drop = (String, String);

fn named(name: &'static str) -> impl Fn(Drop) -> Drop {
    move |(reason, detail)| match reason.split_once(':') {
        Some((kind, _)) => (format!("{kind}:{name}"), detail),
        None => (reason, detail),
    }
}

/// Evaluates an expression of the task and reads its value.
fn mapped<T>(
    own: &Mapped,
    context: &Value,
    read: impl FnOnce(&Json) -> std::result::Result<T, String>,
) -> std::result::Result<T, Drop> {
    let value = own.value.evaluate_json(context);
    let value = value.map_err(|detail| (format!("error:{}", own.name), format!("{}: {detail}", own.place)))?;
    read(&value).map_err(|reason| (format!("field:{}", own.name), format!("{}: {reason}", own.place)))
}

/// As [`mapped`], for what a record may lack: a missing, null or blank value is none.
fn optional<T>(
    own: &Mapped,
    context: &Value,
    read: impl FnOnce(&Json) -> std::result::Result<T, String>,
) -> std::result::Result<Option<T>, Drop> {
    if !own.optional {
        return mapped(own, context, read).map(Some);
    }
    let value = own.value.evaluate_optional(context);
    let value = value.map_err(|detail| (format!("error:{}", own.name), format!("{}: {detail}", own.place)))?;
    let value = value.filter(|value| match value {
        Json::Null => false,
        Json::String(text) => !text.trim().is_empty(),
        Json::Array(elements) => !elements.is_empty(),
        _ => true,
    });
    let Some(value) = value else { return Ok(None) };
    read(&value).map(Some).map_err(|reason| (format!("field:{}", own.name), format!("{}: {reason}", own.place)))
}

/// Maps the pictures or the video, if the record has any.
fn media(source: &MediaSource, context: &Value) -> std::result::Result<Option<Media>, Drop> {
    match source {
        MediaSource::None => Ok(None),
        MediaSource::Image(own) => optional(own, context, picture),
        MediaSource::Images(own) => optional(own, context, pictures),
        MediaSource::Video(video) => {
            let Some(path) = optional(&video.path, context, path)? else { return Ok(None) };
            let time = |own: &Option<Mapped>| own.as_ref().map(|own| mapped(own, context, seconds)).transpose();
            let (start, end) = (time(&video.start)?, time(&video.end)?);
            if start.zip(end).is_some_and(|(start, end)| end <= start) {
                return Err(("field:video".to_owned(), "media.video: ends before it starts".to_owned()));
            }
            Ok(Some(Media { video: Some(VideoReference { path, start, end }), ..Media::default() }))
        }
    }
}

/// Reads a joined table. What cannot be joined is counted.
fn index<'a>(task: &Task, root: &Path, join: &'a Join, split: &str, counts: &mut TaskCounts) -> Result<Index<'a>> {
    let files = task.table_files(root, &join.name, &join.table, split)?;
    let is_list = matches!(join.table.matches, Matches::Many | Matches::Any);
    let mut groups: HashMap<String, Vec<Value>> = HashMap::new();
    let shape = join.table.shape.unwrap_or(Shape::List);
    read_all(&task.name, &join.name, &files, &join.table, shape, &mut |row| {
        let mut leave_out = |reason: &str, detail: &str| {
            counts.count_left_out(&format!("{reason}:{}", join.name), || {
                format!("{}: {detail}", place(&task.name, &row.file, row.number))
            });
        };
        let content = match row.content {
            Ok(content) => content,
            Err(detail) => return leave_out("unreadable", &detail),
        };
        let Some(key) = content.get(&join.key).and_then(key_text) else {
            return leave_out("no_key", &format!("has no text or number `{}` to join by", join.key));
        };
        let group = groups.entry(key).or_default();
        if !is_list && !group.is_empty() {
            let detail = format!("has the {} of an earlier row, which counts", join.key);
            return leave_out("duplicate_key", &detail);
        }
        group.push(kept_of(join, split, content));
    })?;
    let entry = |mut group: Vec<Value>| {
        let value = if is_list { Value::from(group) } else { group.swap_remove(0) };
        Entry { value, used: false }
    };
    let rows = groups.into_iter().map(|(key, group)| (key, entry(group))).collect();
    Ok(Index { join, rows, keys_used: 0 })
}

/// What of a joined row stays in memory. A field whose expression fails on this row is left out, so
/// the record that needs it is dropped and counted.
fn kept_of(join: &Join, split: &str, content: Json) -> Value {
    let row = value_of(content);
    if join.keep.is_empty() {
        return row;
    }
    let context = Value::from_pairs([(join.name.as_str(), row), ("split", Value::from(split))]);
    let kept = join.keep.iter().filter_map(|(field, expression)| {
        let value = expression.evaluate_json(&context).ok()?;
        Some((field.as_str(), value_of(value)))
    });
    Value::from_pairs(kept)
}

/// The row of a lookup as it stands in the file: a list element that was wrapped to have named
/// fields is unwrapped again.
fn unwrapped(content: Json) -> Json {
    match content {
        Json::Object(mut fields) if fields.len() == 1 && fields.contains_key("_value") => fields["_value"].take(),
        other => other,
    }
}

pub(crate) fn place(task: &str, file: &str, row: u64) -> String {
    format!("task {task}, file {file}, row {row}")
}

fn context(variables: &BTreeMap<Arc<str>, Value>) -> Value {
    Value::from_pairs(variables.iter().map(|(name, value)| (name.clone(), value.clone())))
}

#[cfg(test)]
mod tests;
