//! Maps native rows to typed records: joins, predicates and fields. Everything that is dropped is
//! counted. Rows are mapped on all cores, but counted in the order of the files.

mod rows_by_key;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use lynxdata_prompts::{AnswerShape, keyed_hash};
use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use rayon::prelude::*;
use serde_json::Value as Json;

use crate::boxes::{BOXES_OF_RECORD, BoxesOfRecord, NativeBox};
use crate::counts::TaskCounts;
use crate::record::{
    Answers, Media, Record, SlotValue, VideoReference, answer, key_text, options, path, picture, pictures, seconds,
    slot, take_tokens, text, texts_of, truth, turns, votes,
};
use crate::rows::row::{Row, projected, text_of, value, whole};
use crate::rows::table::{Fields, Matches};
use crate::rows::{NativeRow, Rows, Shape};
use crate::shape::misfit;
use crate::task::{Join, Mapped, MediaSource, Predicate, Task, VideoSource};
use crate::{Error, Result};
use rows_by_key::RowsByKey;

/// Records that are mapped together: enough to keep all cores busy, little in memory.
const CHUNK: usize = 2048;

/// Bytes of rows after which a chunk ends early: a row may contain an image.
const CHUNK_BYTES: usize = 4 << 20;

/// The fewest records that are mapped on one core as a unit, before work is split further.
const FEWEST_TOGETHER: usize = 32;

/// A joined table in memory. Rows are kept as JSON text, which takes less memory than parsed
/// values; expressions parse the fields that they use again.
#[derive(Debug)]
struct Index<'a> {
    join: &'a Join,
    rows: RowsByKey,
}

/// The values that expressions can use besides tables.
#[derive(Debug)]
struct Common {
    /// The split, and lookups.
    values: Vec<(String, Value)>,
    /// Names of the tables that are read row by row.
    tables: Vec<String>,
    /// Name of the exploded element.
    element: Option<String>,
}

/// The values that expressions can use for one record.
#[derive(Debug, Clone)]
struct Scope {
    common: Arc<Common>,
    file: Arc<str>,
    row: u64,
    /// Rows of the tables, in the order of their names.
    tables: Vec<Value>,
    element: Option<Value>,
    index: usize,
    /// The boxes of the record; `None` in expressions that are evaluated before there is a record
    /// (joins, `explode`).
    boxes: Option<Arc<BoxesOfRecord>>,
}

impl Object for Scope {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if let Some(place) = self.common.tables.iter().position(|name| name == key) {
            return self.tables.get(place).cloned();
        }
        match key {
            "file" => Some(Value::from(&*self.file)),
            "row" => Some(Value::from(self.row)),
            "index" => Some(Value::from(self.index)),
            BOXES_OF_RECORD => self.boxes.clone().map(Value::from_dyn_object),
            key if self.common.element.as_deref() == Some(key) => self.element.clone(),
            key => self.common.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()),
        }
    }
}

/// One record before it is mapped, or the reason why a row has none.
struct Candidate {
    file: Arc<str>,
    row: u64,
    /// Whether it is the first record of its row.
    begins_row: bool,
    scope: std::result::Result<Value, Drop>,
}

/// The result of one candidate, for the counts.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    file: Arc<str>,
    row: u64,
    begins_row: bool,
    tally: Tally<'a>,
    /// The id of the record, if there is one, as a 128-bit hash to find duplicates. That takes 16
    /// bytes per record, and a collision among a billion records is less likely than a disk error.
    id: std::result::Result<(u64, u64), Drop>,
}

/// What one record adds to [`TaskCounts`].
#[derive(Debug, Default)]
struct Tally<'a> {
    given: Vec<(AnswerShape, u64)>,
    misfits: Vec<AnswerShape>,
    left_out: Vec<(String, String)>,
    examples: Vec<(String, String)>,
    lacking: Vec<&'a str>,
}

/// Maps rows to records.
#[derive(Debug)]
struct Mapper<'a> {
    task: &'a Task,
    split: String,
    indexes: Vec<Index<'a>>,
    common: Arc<Common>,
}

/// The records of one split of a task, in the order of the native files.
pub struct Records<'a> {
    reading: Reading<'a>,
    queue: VecDeque<(Outcome<'a>, Option<Record>)>,
}

/// Reads the rows of a split and maps them to records: the rows that are not read yet, and the
/// counts so far.
pub(crate) struct Reading<'a> {
    mapper: Mapper<'a>,
    rows: Rows,
    waiting: VecDeque<Candidate>,
    ids: HashTable<(u64, u64)>,
    /// The error that ended reading too early, until it is returned.
    fault: Option<Error>,
    ended: bool,
    /// Whether the final check of the task, or an error, was returned.
    is_told: bool,
    /// The number of rows after which a part ends.
    rows_of_part: u64,
    /// The share of records that may be lost.
    may_drop: f64,
    /// The counts of the parts before this one.
    earlier: TaskCounts,
    pub(crate) counts: TaskCounts,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("Reading").field("task", &self.mapper.task.name).field("counts", &self.counts).finish()
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        self.reading.fmt(out)
    }
}

impl<'a> Records<'a> {
    /// Reads joined tables and lookups into memory and starts to stream the first table.
    ///
    /// # Errors
    /// If a file is missing or, as a whole, cannot be parsed.
    pub fn start(task: &'a Task, root: &Path, split: &str) -> Result<Self> {
        Ok(Self { reading: Reading::start(task, root, split)?, queue: VecDeque::new() })
    }

    /// Returns the counts of this part, up to the record that was returned last.
    pub fn counts(&self) -> &TaskCounts {
        &self.reading.counts
    }

    /// Makes the iterator end after this many native rows, with all records in them.
    /// [`Records::next_part`] continues with the next rows.
    pub fn pause_after(&mut self, rows: u64) {
        self.reading.pause_after(rows);
    }

    /// Ends a part and returns its counts. The iterator then continues with the rows after it, if
    /// there are any; `goes_on` in the counts says so.
    pub fn next_part(&mut self) -> TaskCounts {
        self.reading.next_part(!self.queue.is_empty())
    }

    /// Returns the counts of all parts up to the last [`Records::next_part`].
    pub fn total(&self) -> &TaskCounts {
        self.reading.total()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((outcome, _)) = self.queue.front() {
                if self.reading.pauses_before(outcome) {
                    return None;
                }
                if let Some((outcome, record)) = self.queue.pop_front()
                    && self.reading.settle(outcome)
                    && let Some(record) = record
                {
                    return Some(Ok(record));
                }
                continue;
            }
            match self.reading.map_more(|record| record) {
                Ok(more) if more.is_empty() => return self.reading.end().map(Err),
                Ok(more) => self.queue.extend(more),
                Err(fault) => return Some(Err(fault)),
            }
        }
    }
}

impl<'a> Reading<'a> {
    pub(crate) fn start(task: &'a Task, root: &Path, split: &str) -> Result<Self> {
        let mut counts = TaskCounts::default();
        let mut values = vec![("split".to_owned(), Value::from(split))];
        for (name, table) in &task.lookups {
            let files = task.table_files(root, name, table, split)?;
            let shape = table.shape.unwrap_or(Shape::Whole);
            let is_one_file = files.len() == 1;
            let mut rows = Vec::new();
            for batch in Rows::start(&task.name, name, files, table, shape)? {
                for row in batch? {
                    // An unreadable row keeps its index, so that the indexes of the other rows stay
                    // valid.
                    let value = row.content.and_then(|content| whole(&content)).unwrap_or_else(|detail| {
                        counts.count_left_out(&format!("unreadable:{name}"), || {
                            format!("{}: {detail}", place(&task.name, &row.file, row.number))
                        });
                        Value::UNDEFINED
                    });
                    rows.push(value);
                }
            }
            let is_one_value = shape == Shape::Whole && rows.len() == 1 && is_one_file;
            values.push((name.clone(), if is_one_value { rows.swap_remove(0) } else { Value::from(rows) }));
        }
        let indexes =
            task.joins.iter().map(|join| index(task, root, join, split, &mut counts)).collect::<Result<_>>()?;
        let (name, table) = &task.primary;
        let files = task.table_files(root, name, table, split)?;
        let rows = Rows::start(&task.name, name, files, table, table.shape.unwrap_or(Shape::List))?;
        let tables = std::iter::once(name).chain(task.joins.iter().map(|join| &join.name)).cloned().collect();
        let element = task.explode.as_ref().map(|(name, _)| name.clone());
        let common = Arc::new(Common { values, tables, element });
        Ok(Self {
            mapper: Mapper { task, split: split.to_owned(), indexes, common },
            rows,
            waiting: VecDeque::new(),
            ids: HashTable::new(),
            fault: None,
            ended: false,
            is_told: false,
            rows_of_part: u64::MAX,
            may_drop: task.may_drop,
            earlier: TaskCounts::default(),
            counts,
        })
    }

    /// Maps the next candidates on all cores and applies `then` to their records. Returns an empty
    /// list at the end of the files.
    pub(crate) fn map_more<T: Send>(
        &mut self,
        then: impl Fn(Record) -> T + Sync,
    ) -> Result<Vec<(Outcome<'a>, Option<T>)>> {
        let mapper = &self.mapper;
        let made = |candidate| {
            let (outcome, record) = mapper.outcome(candidate);
            (outcome, record.map(&then))
        };
        while self.waiting.is_empty() && !self.ended {
            let rows = read_more(&mut self.rows, &mut self.fault);
            if rows.is_empty() {
                self.ended = true;
                self.is_told |= self.fault.is_some();
                return self.fault.take().map_or(Ok(Vec::new()), Err);
            }
            let rows = rows.into_par_iter().with_min_len(FEWEST_TOGETHER);
            if mapper.task.explode.is_none() {
                // Every row is one record, so the core that parses the row also maps it.
                return Ok(rows.flat_map_iter(|row| mapper.candidates(row).into_iter().map(made)).collect());
            }
            let candidates: Vec<Vec<Candidate>> = rows.map(|row| mapper.candidates(row)).collect();
            self.waiting.extend(candidates.into_iter().flatten());
        }
        let length = self.waiting.len().min(CHUNK);
        let candidates: Vec<Candidate> = self.waiting.drain(..length).collect();
        Ok(candidates.into_par_iter().with_min_len(FEWEST_TOGETHER).map(made).collect())
    }

    pub(crate) fn pause_after(&mut self, rows: u64) {
        self.rows_of_part = rows;
    }

    /// Sets another share of records that may be lost than that of the task file.
    pub(crate) fn allow_loss(&mut self, share: f64) {
        self.may_drop = share;
    }

    /// Returns whether an outcome is the first of the next part.
    pub(crate) fn pauses_before(&self, outcome: &Outcome<'_>) -> bool {
        outcome.begins_row && self.counts.rows_seen >= self.rows_of_part
    }

    pub(crate) fn next_part(&mut self, goes_on: bool) -> TaskCounts {
        let mut counts = std::mem::take(&mut self.counts);
        counts.goes_on = goes_on;
        self.earlier.add(&counts);
        counts
    }

    pub(crate) fn total(&self) -> &TaskCounts {
        &self.earlier
    }

    /// Counts an outcome. Returns whether it has a record whose id was not seen before.
    pub(crate) fn settle(&mut self, outcome: Outcome<'_>) -> bool {
        let Outcome { file, row, begins_row, tally, id } = outcome;
        let counts = &mut self.counts;
        counts.rows_seen += u64::from(begins_row);
        counts.records_seen += 1;
        for (shape, given) in tally.given {
            counts.count_answers(shape).given += given;
        }
        for shape in tally.misfits {
            counts.count_answers(shape).misfits += 1;
        }
        for (reason, example) in tally.left_out {
            counts.count_left_out(&reason, || example);
        }
        for (reason, example) in tally.examples {
            counts.keep_first(&reason, || example);
        }
        let place = || place(&self.mapper.task.name, &file, row);
        let key = match id {
            Ok(key) => key,
            Err((reason, detail)) => {
                counts.count_drop(&reason, || format!("{}: {detail}", place()));
                return false;
            }
        };
        // The ids are hashes themselves.
        let known = self.ids.entry(key.0, |known| *known == key, |known| known.0);
        if let TableEntry::Vacant(free) = known {
            free.insert(key);
        } else {
            counts.count_drop("duplicate_id", || format!("{}: an earlier record has the same id", place()));
            return false;
        }
        for name in tally.lacking {
            *counts.lacking.entry(name.to_owned()).or_default() += 1;
        }
        counts.kept += 1;
        true
    }

    /// Fills in the counts that are known only at the end, and returns the error if too little of
    /// the task is left. Returns `None` if it was called before.
    pub(crate) fn end(&mut self) -> Option<Error> {
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        for index in &self.mapper.indexes {
            let unused = index.rows.unused();
            if unused > 0 {
                self.counts.unmatched_keys.insert(index.join.name.clone(), unused as u64);
            }
        }
        let mut all = self.earlier.clone();
        all.add(&self.counts);
        all.verdict(&self.mapper.task.name, self.may_drop)
    }
}

/// Takes rows from the reader. Returns an empty list at the end of the files or after an error.
fn read_more(rows: &mut Rows, fault: &mut Option<Error>) -> Vec<NativeRow> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < CHUNK && bytes < CHUNK_BYTES && fault.is_none() {
        match rows.next() {
            Some(Ok(batch)) => {
                bytes += batch.iter().map(|row| row.content.as_ref().map_or(0, Row::length)).sum::<usize>();
                taken.extend(batch);
            }
            Some(Err(reason)) => *fault = Some(reason),
            None => break,
        }
    }
    taken
}

impl<'a> Mapper<'a> {
    /// Turns one native row into its candidates. A row without any gives one candidate with the
    /// reason.
    fn candidates(&self, native: NativeRow) -> Vec<Candidate> {
        let (file, row) = (native.file, native.number);
        let scopes = native.content.map_err(|detail| ("unreadable".to_owned(), detail));
        let scopes = scopes.and_then(|content| self.scopes(&file, row, content));
        let candidate = |(place, scope)| Candidate { file: file.clone(), row, begins_row: place == 0, scope };
        match scopes {
            Ok(scopes) => scopes.into_iter().map(Ok).enumerate().map(candidate).collect(),
            Err(reason) => vec![candidate((0, Err(reason)))],
        }
    }

    fn scopes(&self, file: &Arc<str>, row: u64, content: Row) -> std::result::Result<Vec<Value>, Drop> {
        let content = content.value().map_err(|detail| ("unreadable".to_owned(), detail))?;
        let (common, file) = (self.common.clone(), file.clone());
        let mut scope = Scope { common, file, row, tables: vec![content], element: None, index: 0, boxes: None };
        for index in &self.indexes {
            let joined = index.of(&Value::from_object(scope.clone()))?;
            scope.tables.push(joined);
        }
        let of_record = |scope| Value::from_object(Scope { boxes: Some(Arc::default()), ..scope });
        let Some((_, over)) = &self.task.explode else { return Ok(vec![of_record(scope)]) };
        let elements = over.evaluate(&Value::from_object(scope.clone())).and_then(|list| {
            let elements = list.try_iter().map_err(|fault| fault.to_string())?;
            elements.checked().collect::<std::result::Result<Vec<Value>, _>>().map_err(|fault| fault.to_string())
        });
        let elements = elements.map_err(|detail| ("error:explode".to_owned(), format!("explode.over: {detail}")))?;
        if elements.is_empty() {
            return Err(("explode".to_owned(), "the row holds no record".to_owned()));
        }
        let of_element = |(index, element)| of_record(Scope { element: Some(element), index, ..scope.clone() });
        Ok(elements.into_iter().enumerate().map(of_element).collect())
    }

    fn outcome(&self, candidate: Candidate) -> (Outcome<'a>, Option<Record>) {
        let Candidate { file, row, begins_row, scope } = candidate;
        let mut tally = Tally::default();
        let record = scope.and_then(|scope| self.record(&file, row, &scope, &mut tally));
        if let Ok(record) = &record {
            let told = |native: &NativeBox| {
                let (place, numbers) = (place(&self.task.name, &file, row), native.numbers);
                let example = format!("{place}: a part of the box {numbers:?} is outside the image and was cut off");
                (CUT_BOX.to_owned(), example)
            };
            tally.left_out.extend(record.boxes.iter().filter(|own| own.is_cut()).map(told));
        }
        let (id, record) = match record {
            Ok(record) => (Ok((keyed_hash(0, &[&record.id]), keyed_hash(1, &[&record.id]))), Some(record)),
            Err(reason) => (Err(reason), None),
        };
        (Outcome { file, row, begins_row, tally, id }, record)
    }

    /// Maps one candidate, or returns the reason why it is dropped.
    fn record(&self, file: &str, row: u64, scope: &Value, tally: &mut Tally<'a>) -> std::result::Result<Record, Drop> {
        let task = self.task;
        for Predicate { section, name, holds } in &task.predicates {
            let holds = holds.evaluate(scope);
            let holds = holds.map_err(|detail| (format!("error:{name}"), format!("{section}.{name}: {detail}")))?;
            if !holds.is_true() {
                return Err((format!("{section}:{name}"), format!("{section}.{name} does not hold")));
            }
        }
        let native_id = mapped(&task.id, scope, |value| {
            key_text(value).ok_or_else(|| format!("must be a text or a number, but is {value}"))
        })?;
        let mut media = media(&task.media, scope)?.unwrap_or_default();
        let system = task.system.as_ref().map(|own| optional(own, scope, text)).transpose()?.flatten();
        let mut slots = BTreeMap::new();
        for own in &task.slots {
            match optional(own, scope, |value| slot(&own.name, value))? {
                Some(value) => drop(slots.insert(own.name.clone(), value)),
                None => tally.lacking.push(own.name.as_str()),
            }
        }
        let answers = self.answers(&|| place(&task.name, file, row), scope, &slots, &mut media, tally)?;
        let id = format!("{}/{}/{native_id}", task.name, self.split);
        let boxes = boxes_of(scope).map(BoxesOfRecord::take).unwrap_or_default();
        Ok(Record { id, media, system, slots, answers, boxes, source_file: file.to_owned(), source_row: row })
    }

    /// Maps the answers of a candidate. Answers that do not have their shape are left out; a record
    /// without any other answer is dropped. The questions of a dialog may say where its media
    /// belong.
    fn answers(
        &self,
        place: &dyn Fn() -> String,
        scope: &Value,
        slots: &BTreeMap<String, SlotValue>,
        media: &mut Media,
        tally: &mut Tally<'a>,
    ) -> std::result::Result<Answers, Drop> {
        let task = self.task;
        let sources = &task.answers;
        let mut found = Answers::default();
        let mut left_out: Vec<(&str, String)> = Vec::new();
        let mut misfits: Vec<(AnswerShape, String)> = Vec::new();
        for (shape, own) in &sources.texts {
            let Some(text) = optional(own, scope, |value| answer(*shape, value))? else {
                tally.lacking.push(&own.name);
                continue;
            };
            tally.given.push((*shape, 1));
            match misfit(*shape, &text) {
                None => drop(found.texts.insert(*shape, text)),
                Some(reason) => misfits.push((*shape, format!("{text:?} {reason}"))),
            }
        }
        let mut without_text = Vec::new();
        if let Some(own) = &sources.options {
            let right = mapped(&own.right, scope, |value| Ok(value.clone()))?;
            let read = |value: &Json| options(value, &right, own.case_matters, &mut without_text);
            found.options = Some(mapped(&own.texts, scope, read).map_err(named("options"))?);
            left_out.extend(without_text.drain(..).map(|reason| ("options", reason)));
        }
        if let Some(own) = &sources.truth {
            found.truth = Some(mapped(own, scope, truth)?);
        }
        if let Some((own, least)) = &sources.votes {
            let is_few = |reason: &str| reason.starts_with("agree ");
            found.votes =
                mapped(own, scope, |value| votes(value, *least, &mut without_text)).map_err(|(reason, detail)| {
                    let is_few =
                        reason == "field:votes" && detail.rsplit_once(": ").is_some_and(|(_, why)| is_few(why));
                    (if is_few { "few_votes".to_owned() } else { reason }, detail)
                })?;
            left_out.extend(without_text.drain(..).map(|reason| ("votes", reason)));
        }
        // The majority answer given by the authors takes precedence over the first of several equal
        // counts.
        if let Some((text, _)) = found.votes.first().filter(|_| !found.texts.contains_key(&AnswerShape::Phrase)) {
            let text = text.clone();
            tally.given.push((AnswerShape::Phrase, 1));
            match misfit(AnswerShape::Phrase, &text) {
                None => drop(found.texts.insert(AnswerShape::Phrase, text)),
                Some(reason) => misfits.push((AnswerShape::Phrase, format!("{text:?} {reason}"))),
            }
        }
        if let Some((own, shape, _)) = &sources.captions {
            let captions = mapped(own, scope, |value| texts_of(value, &mut without_text))?;
            left_out.extend(without_text.drain(..).map(|reason| ("captions", reason)));
            tally.given.push((*shape, captions.len() as u64));
            for caption in captions {
                match misfit(*shape, &caption) {
                    None => found.captions.push(caption),
                    Some(reason) => misfits.push((*shape, format!("{caption:?} {reason}"))),
                }
            }
        }
        if let Some(own) = &sources.turns {
            found.turns = mapped(own, scope, |value| turns(value, &mut without_text))?;
            if let Some((of_images, of_video)) = &sources.media_tokens {
                let token = if media.video.is_some() { of_video } else { of_images };
                let taken = take_tokens(token, media, &mut found.turns, &mut without_text);
                taken.map_err(|(reason, detail)| (reason.to_owned(), format!("{}: {detail}", own.place)))?;
            }
            left_out.extend(without_text.drain(..).map(|reason| ("turns", reason)));
        }
        for (name, reason) in left_out {
            let example = format!("{}: an element of {name} {reason}", place());
            tally.left_out.push((format!("no_text:{name}"), example));
        }
        let has_any = !found.shapes(task).is_empty();
        for (shape, detail) in &misfits {
            tally.misfits.push(*shape);
            let (reason, shape) = (format!("answer_shape:{}", shape.name()), shape.name());
            let asked = slots.get("question").or_else(|| slots.values().next());
            let asked = asked.map_or(String::new(), |asked| match asked {
                SlotValue::Text(text) => format!(", asked {text:?},"),
                SlotValue::List(texts) => format!(", asked {texts:?},"),
            });
            let example = format!("{}: the {shape}{asked} {detail}", place());
            let told = if has_any { &mut tally.left_out } else { &mut tally.examples };
            told.push((reason, example));
        }
        match misfits.into_iter().next() {
            _ if has_any => Ok(found),
            Some((shape, detail)) => Err(("answer_shape".to_owned(), format!("the {} {detail}", shape.name()))),
            None => Err(("field:answers".to_owned(), "there is no answer".to_owned())),
        }
    }
}

/// Returns the boxes that expressions converted so far.
fn boxes_of(scope: &Value) -> Option<&BoxesOfRecord> {
    scope.downcast_object_ref::<Scope>()?.boxes.as_deref()
}

/// The reason for parts of boxes that are left out because they are outside the image.
const CUT_BOX: &str = "outside_image:box";

/// The reason why a record is dropped, and the details.
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
    scope: &Value,
    read: impl FnOnce(&Json) -> std::result::Result<T, String>,
) -> std::result::Result<T, Drop> {
    let value = own.value.evaluate_json(scope);
    let value = value.map_err(|detail| (format!("error:{}", own.name), format!("{}: {detail}", own.place)))?;
    read(&value).map_err(|reason| (format!("field:{}", own.name), format!("{}: {reason}", own.place)))
}

/// Like [`mapped`], for values that may be missing: returns `None` for a missing, null, blank or
/// empty one.
fn optional<T>(
    own: &Mapped,
    scope: &Value,
    read: impl FnOnce(&Json) -> std::result::Result<T, String>,
) -> std::result::Result<Option<T>, Drop> {
    if !own.optional {
        return mapped(own, scope, read).map(Some);
    }
    let value = own.value.evaluate_optional(scope);
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

/// Maps the images or the video of a record, if it has any.
fn media(source: &MediaSource, scope: &Value) -> std::result::Result<Option<Media>, Drop> {
    match source {
        MediaSource::None => Ok(None),
        MediaSource::Image(own) => optional(own, scope, picture),
        MediaSource::Images(own) => optional(own, scope, pictures),
        MediaSource::Video(own) => video(own, scope),
        MediaSource::Either(images, own) => match (optional(images, scope, pictures)?, video(own, scope)?) {
            (Some(_), Some(_)) => {
                let reason = "media: it has images and a video, of which a conversation has only one";
                Err((IMAGES_AND_VIDEO.to_owned(), reason.to_owned()))
            }
            (images, video) => Ok(images.or(video)),
        },
    }
}

/// The reason for records with images and a video.
const IMAGES_AND_VIDEO: &str = "images_and_video";

/// Maps the video of a record, if it has one.
fn video(source: &VideoSource, scope: &Value) -> std::result::Result<Option<Media>, Drop> {
    let Some(path) = optional(&source.path, scope, path)? else { return Ok(None) };
    let time = |own: &Option<Mapped>| match own {
        Some(own) => optional(own, scope, seconds),
        None => Ok(None),
    };
    let (start, end) = (time(&source.start)?, time(&source.end)?);
    if start.zip(end).is_some_and(|(start, end)| end <= start) {
        return Err(("field:video".to_owned(), "media.video: ends before it starts".to_owned()));
    }
    Ok(Some(Media { video: Some(VideoReference { path, start, end }), ..Media::default() }))
}

impl Index<'_> {
    /// Returns the row or rows of the table that match a record.
    fn of(&self, scope: &Value) -> std::result::Result<Value, Drop> {
        let Join { name, on, table, .. } = self.join;
        let error = |detail: String| (format!("error:{name}"), format!("tables.{name}.on: {detail}"));
        let key = on.evaluate_json(scope).map_err(error)?;
        let is_list = is_list(table.matches);
        if let Some(text) = key_text(&key).and_then(|key| self.rows.get(&key, is_list)) {
            return value(Arc::new(text)).map_err(error);
        }
        match table.matches {
            Matches::Optional => Ok(Value::from(())),
            Matches::Any => Ok(Value::from(Vec::<Value>::new())),
            Matches::One | Matches::Many => {
                Err((format!("unmatched:{name}"), format!("table {name} has no row with the key {key}")))
            }
        }
    }
}

fn is_list(matches: Matches) -> bool {
    matches!(matches, Matches::Many | Matches::Any)
}

/// Reads a joined table. Rows that cannot be joined are counted.
fn index<'a>(task: &Task, root: &Path, join: &'a Join, split: &str, counts: &mut TaskCounts) -> Result<Index<'a>> {
    let files = task.table_files(root, &join.name, &join.table, split)?;
    let shape = join.table.shape.unwrap_or(Shape::List);
    let mut index = Index { join, rows: RowsByKey::default() };
    for batch in Rows::start(&task.name, &join.name, files, &join.table, shape)? {
        let keyed: Vec<_> =
            batch?.into_par_iter().map(|row| (keyed(join, split, row.content), row.file, row.number)).collect();
        for (keyed, file, number) in keyed {
            let mut leave_out = |reason: &str, detail: &str| {
                counts.count_left_out(&format!("{reason}:{}", join.name), || {
                    format!("{}: {detail}", place(&task.name, &file, number))
                });
            };
            let (key, text) = match keyed {
                Ok(keyed) => keyed,
                Err((reason, detail)) => {
                    leave_out(reason, &detail);
                    continue;
                }
            };
            if !index.rows.add(&key, &text, is_list(join.table.matches)) {
                leave_out("duplicate_key", &format!("has the {} of an earlier row, which counts", join.key));
            }
        }
    }
    Ok(index)
}

/// The key of a joined row, and its JSON text.
type Keyed = (String, Vec<u8>);

/// The reason why a row cannot be joined, and the details.
type Unkeyed = (&'static str, String);

/// Returns the key of a joined row and the part of the row that stays in memory. A field whose
/// expression fails on this row is left out. A record that needs the field is then dropped and
/// counted.
fn keyed(join: &Join, split: &str, content: std::result::Result<Row, String>) -> std::result::Result<Keyed, Unkeyed> {
    let row = content.and_then(Row::value).map_err(|detail| ("unreadable", detail))?;
    let key = row.get_attr(&join.key).ok().and_then(|key| serde_json::to_value(key).ok());
    let Some(key) = key.as_ref().and_then(key_text) else {
        return Err(("no_key", format!("has no text or number `{}` to join by", join.key)));
    };
    let text = if join.keep.is_empty() {
        match &join.table.fields {
            Fields::All => text_of(&row),
            Fields::Named(names) => text_of(&projected(&row, names)),
        }
    } else {
        let context = Value::from_pairs([(join.name.as_str(), row), ("split", Value::from(split))]);
        let mut text = vec![b'{'];
        for (name, own) in &join.keep {
            let before = text.len();
            if before > 1 {
                text.push(b',');
            }
            text.extend(Json::from(name.as_str()).to_string().bytes());
            text.push(b':');
            if own.write_json(&context, &mut text).is_err() {
                text.truncate(before);
            }
        }
        text.push(b'}');
        Ok(text)
    };
    text.map(|text| (key, text)).map_err(|detail| ("unreadable", detail))
}

pub(crate) fn place(task: &str, file: &str, row: u64) -> String {
    format!("task {task}, file {file}, row {row}")
}

#[cfg(test)]
mod tests;
