//! Maps native rows to typed records: joins, predicates and fields. Everything that is dropped is
//! counted. Rows are mapped on all cores, but counted in the order of the files.

mod rows_by_key;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;
use lynxdata_prompts::AnswerShape;
use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};
use rayon::prelude::*;
use serde_json::Value as Json;

use crate::boxes::{BOXES_OF_RECORD, BoxesOfRecord, NativeBox};
use crate::counts::TaskCounts;
use crate::expression::{Context, Named};
use crate::picture::PictureFolder;
use crate::record::{
    Answers, Media, Record, SlotValue, VideoReference, answer, key_text, options, path, picture, pictures, seconds,
    slot, take_tokens, texts_of, truth, turns, verbatim, votes, votes_of_tokens,
};
use crate::rows::row::{Fields, natural, scalar_json, whole, write_fields};
use crate::rows::table::{Matches, UsedFields};
use crate::rows::{Batch, NativeRow, Rows, Shape};
use crate::shape::misfit;
use crate::task::{Join, Mapped, MediaSource, Predicate, Task, VideoSource};
use crate::{Error, Result};
use rows_by_key::RowsByKey;

/// Records that are mapped together: enough to keep all cores busy, little in memory.
const CHUNK: usize = 2048;

/// Bytes of rows after which a chunk ends early: a row may contain an image.
const CHUNK_BYTES: usize = 4 << 20;

/// The minimum number of records that are mapped on one core as a unit. Work is not split into
/// smaller units.
const FEWEST_TOGETHER: usize = 32;

/// A joined table in memory. Rows are kept as JSON text, which takes less memory than parsed
/// values; expressions find the fields that they use in it again.
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

/// The values of one record that expressions can use. Most of them need only texts of its rows, so
/// that values for minijinja are made only when another one is evaluated.
struct Scope<'a> {
    common: &'a Arc<Common>,
    file: &'a Arc<str>,
    row: u64,
    /// Rows of the tables, in the order of their names.
    tables: Vec<TableRow<'a>>,
    element: Option<&'a Value>,
    index: usize,
    /// Whether there is a record, which may have boxes: not in expressions that are evaluated
    /// before there is one (joins, `explode`).
    has_record: bool,
    /// [`Values`], once they were needed.
    value: OnceCell<Value>,
}

/// The row or rows of a table that belong to a record.
enum TableRow<'a> {
    Row(Fields<'a>),
    /// A row that several records share, or no row.
    Value(Value),
}

impl TableRow<'_> {
    fn value(&self) -> Value {
        match self {
            Self::Row(row) => row.clone().value(),
            Self::Value(value) => value.clone(),
        }
    }
}

impl Context for Scope<'_> {
    fn get(&self, name: &str) -> Option<Named<'_>> {
        if let Some(place) = self.common.tables.iter().position(|own| own == name) {
            return self.tables.get(place).map(|table| match table {
                TableRow::Row(row) => Named::Row(row),
                TableRow::Value(value) => Named::Value(value),
            });
        }
        match name {
            "row" => Some(Named::Number(self.row)),
            "index" => Some(Named::Number(self.index as u64)),
            name if self.common.element.as_deref() == Some(name) => self.element.map(Named::Value),
            name => self.common.value(name).map(Named::Value),
        }
    }

    fn value(&self) -> Value {
        let values = || {
            Value::from_object(Values {
                common: self.common.clone(),
                file: self.file.clone(),
                row: self.row,
                tables: self.tables.iter().map(TableRow::value).collect(),
                element: self.element.cloned(),
                index: self.index,
                boxes: self.has_record.then(Arc::default),
            })
        };
        self.value.get_or_init(values).clone()
    }
}

impl<'a> Scope<'a> {
    fn add(&mut self, table: TableRow<'a>) {
        self.tables.push(table);
        self.value = OnceCell::new();
    }

    /// Returns the boxes that expressions converted so far, and forgets them.
    fn take_boxes(&self) -> Vec<NativeBox> {
        let values = self.value.get().and_then(|value| value.downcast_object_ref::<Values>());
        values.and_then(|values| values.boxes.as_deref()).map(BoxesOfRecord::take).unwrap_or_default()
    }
}

impl Common {
    fn value(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }
}

/// The values of one record for minijinja.
#[derive(Debug)]
struct Values {
    common: Arc<Common>,
    file: Arc<str>,
    row: u64,
    tables: Vec<Value>,
    element: Option<Value>,
    index: usize,
    boxes: Option<Arc<BoxesOfRecord>>,
}

impl Object for Values {
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
            key => self.common.value(key).cloned(),
        }
    }
}

/// One record of an exploded row before it is mapped, or the reason why a row has none.
struct Candidate {
    file: Arc<str>,
    row: u64,
    /// Whether it is the first record of its row.
    begins_row: bool,
    element: std::result::Result<Element, Drop>,
}

/// An element of an exploded row.
struct Element {
    /// The rows of the tables, which all elements share.
    tables: Arc<[Value]>,
    value: Value,
    index: usize,
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

/// The counts of one record, which are added to [`TaskCounts`].
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
    pictures: PictureFolder,
}

/// The records of one split of a task, in the order of the native files.
pub struct Records<'a> {
    reading: Reading<'a>,
    /// Records that are mapped but not counted yet, the next one last.
    queue: Vec<(Outcome<'a>, Option<Record>)>,
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
        Ok(Self { reading: Reading::start(task, root, split)?, queue: Vec::new() })
    }

    /// Sets the folder or archive of the images, if it is not the root folder. An absolute path of
    /// a row that leads into it becomes relative to it.
    #[must_use]
    pub fn with_images(mut self, folder: &Path) -> Self {
        self.reading.set_images(folder);
        self
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

    /// Ends a part and returns its counts. If `goes_on` is set in them, there are more rows, with
    /// which the iterator continues.
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
            if let Some((outcome, _)) = self.queue.last() {
                if self.reading.pauses_before(outcome) {
                    return None;
                }
                if let Some((outcome, record)) = self.queue.pop()
                    && self.reading.settle(outcome)
                    && let Some(record) = record
                {
                    return Some(Ok(record));
                }
                continue;
            }
            if let Err(fault) = self.reading.map_more(|record| record, &mut self.queue) {
                return Some(Err(fault));
            }
            if self.queue.is_empty() {
                return self.reading.end().map(Err);
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
                let batch = batch?;
                for row in batch.rows() {
                    // An unreadable row keeps its index, so that the indexes of the other rows stay
                    // valid.
                    let value = batch.content(row).and_then(whole).unwrap_or_else(|detail| {
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
            mapper: Mapper { task, split: split.to_owned(), indexes, common, pictures: PictureFolder::of(root) },
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

    /// Maps the next candidates on all cores and applies `then` to their records. Fills `out` with
    /// them, the first one last; at the end of the files it is empty.
    pub(crate) fn map_more<T: Send>(
        &mut self,
        then: impl Fn(Record) -> T + Sync,
        out: &mut Vec<(Outcome<'a>, Option<T>)>,
    ) -> Result<()> {
        out.clear();
        let mapper = &self.mapper;
        let made = |(outcome, record): (Outcome<'a>, Option<Record>)| (outcome, record.map(&then));
        while self.waiting.is_empty() && !self.ended {
            let batches = read_more(&mut self.rows, &mut self.fault);
            if batches.is_empty() {
                self.ended = true;
                self.is_told |= self.fault.is_some();
                return self.fault.take().map_or(Ok(()), Err);
            }
            let rows: Vec<(&Batch, &NativeRow)> =
                batches.iter().flat_map(|batch| batch.rows().iter().map(move |row| (batch, row))).collect();
            let rows = rows.into_par_iter().with_min_len(FEWEST_TOGETHER);
            if mapper.task.explode.is_none() {
                // Every row is one record, so the core that parses the row also maps it.
                rows.rev().map(|(batch, row)| made(mapper.of_row(batch, row))).collect_into_vec(out);
                self.rows.reuse(batches);
                return Ok(());
            }
            let candidates: Vec<Vec<Candidate>> = rows.map(|(batch, row)| mapper.candidates(batch, row)).collect();
            self.waiting.extend(candidates.into_iter().flatten());
            self.rows.reuse(batches);
        }
        let length = self.waiting.len().min(CHUNK);
        let candidates: Vec<Candidate> = self.waiting.drain(..length).collect();
        let candidates = candidates.into_par_iter().with_min_len(FEWEST_TOGETHER);
        candidates.rev().map(|candidate| made(mapper.of_candidate(candidate))).collect_into_vec(out);
        Ok(())
    }

    pub(crate) fn pause_after(&mut self, rows: u64) {
        self.rows_of_part = rows;
    }

    /// Sets another image folder than that of the native files.
    pub(crate) fn set_images(&mut self, folder: &Path) {
        self.mapper.pictures = PictureFolder::of(folder);
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
fn read_more(rows: &mut Rows, fault: &mut Option<Error>) -> Vec<Batch> {
    let (mut taken, mut length, mut bytes) = (Vec::new(), 0, 0);
    while length < CHUNK && bytes < CHUNK_BYTES && fault.is_none() {
        match rows.next() {
            Some(Ok(batch)) => {
                length += batch.rows().len();
                bytes += batch.bytes();
                taken.push(batch);
            }
            Some(Err(reason)) => *fault = Some(reason),
            None => break,
        }
    }
    taken.retain(|batch| !batch.rows().is_empty());
    taken
}

impl<'a> Mapper<'a> {
    /// Maps a row that is one record.
    fn of_row(&self, batch: &Batch, native: &NativeRow) -> (Outcome<'a>, Option<Record>) {
        let scope = self.scope(batch, native).map(|scope| Scope { has_record: true, value: OnceCell::new(), ..scope });
        self.outcome((&native.file, native.number, true), scope)
    }

    /// Maps one element of a row.
    fn of_candidate(&self, candidate: Candidate) -> (Outcome<'a>, Option<Record>) {
        let Candidate { file, row, begins_row, element } = candidate;
        let place = (&file, row, begins_row);
        let Element { tables, value, index } = match element {
            Ok(element) => element,
            Err(fault) => return self.outcome(place, Err(fault)),
        };
        let scope = Scope {
            common: &self.common,
            file: &file,
            row,
            tables: tables.iter().cloned().map(TableRow::Value).collect(),
            element: Some(&value),
            index,
            has_record: true,
            value: OnceCell::new(),
        };
        self.outcome(place, Ok(scope))
    }

    /// Returns the elements of a row. A row without any gives one candidate with the reason.
    fn candidates(&self, batch: &Batch, native: &NativeRow) -> Vec<Candidate> {
        let candidate = |(place, element)| Candidate {
            file: native.file.clone(),
            row: native.number,
            begins_row: place == 0,
            element,
        };
        match self.scope(batch, native).and_then(|scope| self.elements(&scope)) {
            Ok(elements) => elements.into_iter().map(Ok).enumerate().map(candidate).collect(),
            Err(reason) => vec![candidate((0, Err(reason)))],
        }
    }

    /// Splits a row and joins the other tables.
    fn scope<'s>(&'s self, batch: &'s Batch, native: &'s NativeRow) -> std::result::Result<Scope<'s>, Drop> {
        let content = batch.content(native).and_then(Fields::of);
        let content = content.map_err(|detail| ("unreadable".to_owned(), detail))?;
        let mut scope = Scope {
            common: &self.common,
            file: &native.file,
            row: native.number,
            tables: Vec::with_capacity(1 + self.indexes.len()),
            element: None,
            index: 0,
            has_record: false,
            value: OnceCell::new(),
        };
        scope.add(TableRow::Row(content));
        for index in &self.indexes {
            let joined = index.of(&scope)?;
            scope.add(joined);
        }
        Ok(scope)
    }

    fn elements(&self, scope: &Scope) -> std::result::Result<Vec<Element>, Drop> {
        let (_, over) = self.task.explode.as_ref().expect("only exploded rows have elements");
        let elements = over.evaluate(scope).and_then(|list| {
            let elements = list.try_iter().map_err(|fault| fault.to_string())?;
            elements.checked().collect::<std::result::Result<Vec<Value>, _>>().map_err(|fault| fault.to_string())
        });
        let elements = elements.map_err(|detail| ("error:explode".to_owned(), format!("explode.over: {detail}")))?;
        if elements.is_empty() {
            return Err(("explode".to_owned(), "the row holds no record".to_owned()));
        }
        let tables: Arc<[Value]> = scope.tables.iter().map(TableRow::value).collect();
        let element = |(index, value)| Element { tables: tables.clone(), value, index };
        Ok(elements.into_iter().enumerate().map(element).collect())
    }

    fn outcome(
        &self,
        (file, row, begins_row): (&Arc<str>, u64, bool),
        scope: std::result::Result<Scope, Drop>,
    ) -> (Outcome<'a>, Option<Record>) {
        let mut tally = Tally::default();
        let record = scope.and_then(|scope| self.record(&scope, &mut tally));
        if let Ok(record) = &record {
            let told = |native: &NativeBox| {
                let (place, numbers) = (place(&self.task.name, file, row), native.numbers);
                let example = format!("{place}: a part of the box {numbers:?} is outside the image and was cut off");
                (CUT_BOX.to_owned(), example)
            };
            tally.left_out.extend(record.boxes.iter().filter(|own| own.is_cut()).map(told));
        }
        let (id, record) = match record {
            Ok(record) => (Ok(id_hash(&record.id)), Some(record)),
            Err(reason) => (Err(reason), None),
        };
        (Outcome { file: file.clone(), row, begins_row, tally, id }, record)
    }

    /// Maps one candidate, or returns the reason why it is dropped.
    fn record(&self, scope: &Scope, tally: &mut Tally<'a>) -> std::result::Result<Record, Drop> {
        let (task, file, row) = (self.task, scope.file, scope.row);
        for Predicate { section, name, holds } in &task.predicates {
            let holds = holds.evaluate(scope);
            let holds = holds.map_err(|detail| (format!("error:{name}"), format!("{section}.{name}: {detail}")))?;
            if !holds.is_true() {
                return Err((format!("{section}:{name}"), format!("{section}.{name} does not hold")));
            }
        }
        let native_id = match task.id.value.key(scope) {
            Some(key) => Cow::Borrowed(key),
            None => Cow::Owned(mapped(&task.id, scope, |value| {
                key_text(&value).ok_or_else(|| format!("must be a text or a number, but is {value}"))
            })?),
        };
        let mut media = media(&task.media, scope, &self.pictures)?.unwrap_or_default();
        let system = task.system.as_ref().map(|own| optional(own, scope, verbatim)).transpose()?.flatten();
        let mut slots = BTreeMap::new();
        for own in &task.slots {
            match optional(own, scope, |value| slot(&own.name, value))? {
                Some(value) => drop(slots.insert(own.name.clone(), value)),
                None => tally.lacking.push(own.name.as_str()),
            }
        }
        let answers = self.answers(&|| place(&task.name, file, row), scope, &slots, &mut media, tally)?;
        let id = [&task.name, "/", &self.split, "/", &*native_id].concat();
        let boxes = scope.take_boxes();
        Ok(Record { id, media, system, slots, answers, boxes, source_file: file.to_string(), source_row: row })
    }

    /// Maps the answers of a candidate. Answers that do not have their shape are left out; a record
    /// without any other answer is dropped. The questions of a dialog may say where its media
    /// belong.
    fn answers(
        &self,
        place: &dyn Fn() -> String,
        scope: &Scope,
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
            let right = mapped(&own.right, scope, Ok)?;
            let read = |value: Json| options(value, &right, own.case_matters, &mut without_text);
            found.options = Some(mapped(&own.texts, scope, read).map_err(named("options"))?);
            left_out.extend(without_text.drain(..).map(|reason| ("options", reason)));
        }
        if let Some(own) = &sources.truth {
            found.truth = Some(mapped(own, scope, |value| truth(&value))?);
        }
        if let Some((own, least)) = &sources.votes {
            let is_few = |reason: &str| reason.starts_with("agree ");
            let counted = match own.value.texts(scope).and_then(|tokens| votes_of_tokens(&tokens, *least)) {
                Some(counted) => counted.map_err(|reason| field_fault(own, &reason)),
                None => mapped(own, scope, |value| {
                    texts_of(value, &mut without_text).and_then(|texts| votes(texts, *least))
                }),
            };
            found.votes = counted.map_err(|(reason, detail)| {
                let is_few = reason == "field:votes" && detail.rsplit_once(": ").is_some_and(|(_, why)| is_few(why));
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
            let mut cut = Vec::new();
            found.turns = mapped(own, scope, |value| turns(value, &mut without_text, &mut cut))?;
            if let Some((of_images, of_video)) = &sources.media_tokens {
                let tokens = if media.video.is_some() { of_video } else { of_images };
                let taken = take_tokens(tokens, media, &mut found.turns, &cut, &mut without_text);
                taken.map_err(|(reason, detail)| (reason.to_owned(), format!("{}: {detail}", own.place)))?;
            }
            left_out.extend(without_text.drain(..).map(|reason| ("turns", reason)));
        }
        for (name, reason) in left_out {
            let example = format!("{}: an element of {name} {reason}", place());
            tally.left_out.push((format!("no_text:{name}"), example));
        }
        let has_any = found.is_any();
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

/// Returns the first 16 bytes of the hash of an id.
fn id_hash(id: &str) -> (u64, u64) {
    let hash = blake3::hash(id.as_bytes());
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number(&hash.as_bytes()[..8]), number(&hash.as_bytes()[8..16]))
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
    scope: &Scope,
    read: impl FnOnce(Json) -> std::result::Result<T, String>,
) -> std::result::Result<T, Drop> {
    let value = own.value.evaluate_json(scope);
    let value = value.map_err(|detail| (format!("error:{}", own.name), format!("{}: {detail}", own.place)))?;
    read(value).map_err(|reason| field_fault(own, &reason))
}

fn field_fault(own: &Mapped, reason: &str) -> Drop {
    (format!("field:{}", own.name), format!("{}: {reason}", own.place))
}

/// Like [`mapped`], for values that may be missing: returns `None` for a missing, null, blank or
/// empty one.
fn optional<T>(
    own: &Mapped,
    scope: &Scope,
    read: impl FnOnce(Json) -> std::result::Result<T, String>,
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
    read(value).map(Some).map_err(|reason| field_fault(own, &reason))
}

/// Maps the images or the video of a record, if it has any.
fn media(source: &MediaSource, scope: &Scope, folder: &PictureFolder) -> std::result::Result<Option<Media>, Drop> {
    let pictures = |value| pictures(value, folder);
    match source {
        MediaSource::None => Ok(None),
        MediaSource::Image(own) => optional(own, scope, |value| picture(value, folder)),
        MediaSource::Images(own) => optional(own, scope, pictures),
        MediaSource::Video(own) => video(own, scope, folder),
        MediaSource::Either(images, own) => match (optional(images, scope, pictures)?, video(own, scope, folder)?) {
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
fn video(source: &VideoSource, scope: &Scope, folder: &PictureFolder) -> std::result::Result<Option<Media>, Drop> {
    let Some(path) = optional(&source.path, scope, |value| path(value, folder))? else { return Ok(None) };
    let time = |own: &Option<Mapped>| match own {
        Some(own) => optional(own, scope, |value| seconds(&value)),
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
    fn of(&self, scope: &Scope) -> std::result::Result<TableRow<'_>, Drop> {
        let Join { name, on, table, .. } = self.join;
        let error = |detail: String| (format!("error:{name}"), format!("tables.{name}.on: {detail}"));
        let is_list = is_list(table.matches);
        let found = match on.key(scope) {
            Some(key) => self.rows.get(key, is_list),
            None => key_text(&on.evaluate_json(scope).map_err(error)?).and_then(|key| self.rows.get(&key, is_list)),
        };
        if let Some(text) = found {
            return Fields::of(text).map(TableRow::Row).map_err(error);
        }
        match table.matches {
            Matches::Optional => Ok(TableRow::Value(Value::from(()))),
            Matches::Any => Ok(TableRow::Value(Value::from(Vec::<Value>::new()))),
            Matches::One | Matches::Many => {
                let key = on.evaluate_json(scope).map_err(error)?;
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
    let split = &Value::from(split);
    let shape = join.table.shape.unwrap_or(Shape::List);
    let mut index = Index { join, rows: RowsByKey::default() };
    let mut rows = Rows::start(&task.name, &join.name, files, &join.table, shape)?;
    let mut fault = None;
    loop {
        let batches = read_more(&mut rows, &mut fault);
        if batches.is_empty() {
            break;
        }
        let mut chunks: Vec<(&Batch, &[NativeRow])> = Vec::new();
        for batch in &batches {
            chunks.extend(batch.rows().chunks(FEWEST_TOGETHER).map(|rows| (batch, rows)));
        }
        let together = chunks.into_par_iter().map(|(batch, rows)| {
            let mut texts = Vec::with_capacity(rows.len() * KEPT_OF_ROW);
            let lengths: Vec<_> = rows.iter().map(|row| keyed(join, split, batch.content(row), &mut texts)).collect();
            (rows, texts, lengths)
        });
        let together: Vec<_> = together.collect();
        for (rows, texts, lengths) in together {
            let mut rest = texts.as_slice();
            for (row, lengths) in rows.iter().zip(lengths) {
                let mut leave_out = |reason: &str, detail: &str| {
                    counts.count_left_out(&format!("{reason}:{}", join.name), || {
                        format!("{}: {detail}", place(&task.name, &row.file, row.number))
                    });
                };
                let (key, text) = match lengths {
                    Ok((key, text)) => (rest.split_off(..key), rest.split_off(..text)),
                    Err((reason, detail)) => {
                        leave_out(reason, &detail);
                        continue;
                    }
                };
                let (key, text) = (key.unwrap_or_default(), text.unwrap_or_default());
                if !index.rows.add(key, text, is_list(join.table.matches)) {
                    leave_out("duplicate_key", &format!("has the {} of an earlier row, which counts", join.key));
                }
            }
        }
        rows.reuse(batches);
    }
    fault.map_or(Ok(index), Err)
}

/// The number of bytes of a joined row for which there is room at first.
const KEPT_OF_ROW: usize = 256;

/// The reason why a row cannot be joined, and the details.
type Unkeyed = (&'static str, String);

/// The values of one row that the expressions of a joined table can use.
struct JoinedRow<'a> {
    name: &'a str,
    row: &'a Fields<'a>,
    split: &'a Value,
}

impl Context for JoinedRow<'_> {
    fn get(&self, name: &str) -> Option<Named<'_>> {
        match name {
            "split" => Some(Named::Value(self.split)),
            name => (name == self.name).then_some(Named::Row(self.row)),
        }
    }

    fn value(&self) -> Value {
        Value::from_pairs([(self.name, self.row.clone().value()), ("split", self.split.clone())])
    }
}

/// Appends the key of a joined row and the part of the row that stays in memory, and returns their
/// lengths. A field whose expression fails on this row is left out. A record that needs the field
/// is then dropped and counted.
fn keyed(
    join: &Join,
    split: &Value,
    content: std::result::Result<&[u8], String>,
    out: &mut Vec<u8>,
) -> std::result::Result<(usize, usize), Unkeyed> {
    let row = content.and_then(Fields::of).map_err(|detail| ("unreadable", detail))?;
    let start = out.len();
    match row.token(&join.key) {
        Some(token) if natural(token).is_some() => out.extend_from_slice(token),
        token => match token.and_then(scalar_json).as_ref().and_then(key_text) {
            Some(key) => out.extend_from_slice(key.as_bytes()),
            None => return Err(("no_key", format!("has no text or number `{}` to join by", join.key))),
        },
    }
    let key = out.len() - start;
    if join.keep.is_empty() {
        match &join.table.fields {
            UsedFields::All => out.extend_from_slice(row.text()),
            UsedFields::Named(names) => write_fields(&row, names, out),
        }
    } else {
        let context = JoinedRow { name: &join.name, row: &row, split };
        out.push(b'{');
        for (name, own) in &join.keep {
            let before = out.len();
            if out[before - 1] != b'{' {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, name).expect("a text is JSON");
            out.push(b':');
            if own.write_json(&context, out).is_err() {
                out.truncate(before);
            }
        }
        out.push(b'}');
    }
    Ok((key, out.len() - start - key))
}

pub(crate) fn place(task: &str, file: &str, row: u64) -> String {
    format!("task {task}, file {file}, row {row}")
}

#[cfg(test)]
mod tests;
