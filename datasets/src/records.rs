//! Native rows to typed records: joins, predicates, fields, and the count of everything that is dropped.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use lynxdata_prompts::keyed_hash;
use minijinja::Value;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::expression::value_of;
use crate::record::{Record, answer, common, key_text};
use crate::rows::{NativeRow, Rows, Shape, read_all};
use crate::task::{Join, Matches, Task};
use crate::{Error, Result};

/// What became of the rows of a task. `records_seen = kept + the sum of dropped`, always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Native rows of the first table.
    pub rows_seen: u64,
    /// Records in them: equal to the rows unless the task explodes them. A row that cannot be exploded counts as one record.
    pub records_seen: u64,
    /// Records that became conversations.
    pub kept: u64,
    /// Records that did not, by reason: `unreadable`, `unmatched:TABLE`, `explode`, `where:NAME`
    /// (the predicate is false), `field:NAME`, `error:NAME` (an expression fails), `duplicate_id`,
    /// and `image_token`, `video_token`, `audio_token`, `turn_token` (a text holds what trainers
    /// take for media or the end of a turn). Whoever looks at the pictures adds what is wrong with
    /// them.
    pub dropped: BTreeMap<String, u64>,
    /// What was left out without a record, by reason: rows of other tables, `unreadable:TABLE`,
    /// `no_key:TABLE` and `duplicate_key:TABLE` (the first row of a key counts); elements of lists,
    /// `no_text:FIELD` and captions with tokens as above, such as `video_token:captions`.
    pub left_out: BTreeMap<String, u64>,
    /// Conversations with U+FFFD in a text: bytes that were no characters, here or before.
    pub with_replaced_characters: u64,
    /// The first case of every reason of both in full: task, file, row, field, expression.
    pub examples: BTreeMap<String, String>,
    /// Keys of joined tables that no row asked for, by table; tables without any are left out. Known at the end.
    pub unmatched_keys: BTreeMap<String, u64>,
}

impl TaskCounts {
    /// Whether every record is accounted for.
    pub fn adds_up(&self) -> bool {
        self.records_seen == self.kept + self.dropped.values().sum::<u64>()
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
    pub(crate) counts: TaskCounts,
}

impl<'a> Records<'a> {
    /// Reads joined tables and lookups into memory and starts on the first table, which is streamed.
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
            counts,
        })
    }

    /// What became of the rows so far.
    pub fn counts(&self) -> &TaskCounts {
        &self.counts
    }

    fn reject(&mut self, file: &str, row: u64, reason: &str, detail: &str) {
        self.counts.count_drop(reason, || format!("{}: {detail}", place(&self.task.name, file, row)));
    }

    /// Turns one native row into the candidates that it holds; a row that holds none is dropped as one record.
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
        let mut fields = Map::new();
        for (name, expression) in &self.task.fields {
            let value = expression.evaluate_json(&context);
            let value = value.map_err(|detail| (format!("error:{name}"), format!("field {name}: {detail}")))?;
            fields.insert(name.clone(), value);
        }
        let fault = |(name, reason): (&str, String)| (format!("field:{name}"), format!("field {name}: {reason}"));
        let (native_id, images) = common(&fields).map_err(fault)?;
        let mut left_out = Vec::new();
        let answer = answer(self.task.family, &fields, &mut left_out).map_err(fault)?;
        for (name, reason) in left_out {
            self.counts.count_left_out(&format!("no_text:{name}"), || {
                format!("{}: an element of {name} {reason}", place(&self.task.name, &candidate.file, candidate.row))
            });
        }
        let id = format!("{}/{}/{native_id}", self.task.name, self.split);
        // 128 bits of the id are kept instead of the id: 16 bytes a record, and a collision among a billion is less likely than a disk fault.
        if !self.ids.insert((keyed_hash(0, &[&id]), keyed_hash(1, &[&id]))) {
            return Err(("duplicate_id".to_owned(), format!("the id {id} was seen before")));
        }
        Ok(Record { id, images, answer, source_file: candidate.file.to_string(), source_row: candidate.row })
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
        self.counts.nothing_kept(&self.task.name)
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
            match self.rows.next() {
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

/// What of a joined row stays in memory. A field whose expression fails on this row is left out, so the record that needs it is dropped and counted.
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

/// The row of a lookup as it stands in the file: a list element that was wrapped to have named fields is unwrapped again.
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
