//! Stage `select`: decides for every pair of the pool and every selection of the recipe whether it
//! is kept, and names all rules that reject it.

mod duplicates;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, FieldRef, Fields, Schema};
use lynxdata_engine::Session;
use lynxdata_engine::dedup::Duplicate;
use lynxdata_engine::select::{DUPLICATE, Rule, check, evaluate, texts_read_as_floats};
use lynxdata_fetch::Source;
use lynxdata_filters::GROUPS;
use lynxdata_records::schema::{DUPLICATE_BY, DUPLICATE_DISTANCE, DUPLICATE_OF, IMAGE, KEPT, REJECTED_BY, UID};
use lynxdata_records::temporary::TemporaryWriter;
use lynxdata_records::{FileEntry, NewPart, PartEntry, fingerprint, parquet, schema};
use lynxdata_report::count as grouped;

use self::duplicates::Duplicates;
pub(crate) use self::duplicates::{DuplicateCounts, Star};
use super::dedup::pool_of;
use crate::pool::{Place, Pool, PoolPart};
use crate::recipe::{LoadedRecipe, Recipe, SelectionConfig};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::stages::dedup::Dedup;
use crate::stages::download::Download;
use crate::stages::signals::Signals;
use crate::table;

/// Version of the selections. Raise it when the same signals and rules give another selection.
const FORMAT_VERSION: &str = "3";

/// Decides for every pair and selection whether it is kept, and if not, why.
pub struct Select;

impl Stage for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        !recipe.select.is_empty()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        let mut texts = Vec::new();
        for (name, selection) in &recipe.select {
            let (rules, deduplicate) = selection.settings()?;
            let rules: Vec<_> = rules.into_iter().map(|rule| (rule.name, rule.predicate)).collect();
            texts.push((name, rules, deduplicate));
        }
        Ok(settings_text(&(texts, &recipe.dedup)))
    }

    fn check(&self, loaded: &LoadedRecipe, session: &Session) -> Result<()> {
        check_rules(loaded, session)
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Download, &Signals, &Dedup]
    }

    fn counts_rows(&self, part: &str, first: &str, main_selection: Option<&str>) -> bool {
        part == main_selection.unwrap_or(first) // every selection judges the whole pool
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let mut outcome = StageOutcome::default();
        for part in context.run.manifest().parts(Select.name()) {
            let (name, pairs) = (&part.part, grouped(part.rows_in));
            let sentence = match part.rows_out {
                0 => format!("selection {name} keeps none of {pairs} pairs"),
                kept => format!("selection {name} keeps {} of {pairs} pairs", grouped(kept)),
            };
            outcome.is_bad |= part.rows_out == 0;
            outcome.sentences.push(sentence);
        }
        Ok(outcome)
    }

    /// Returns one part per selection, because which of two duplicates is kept depends on all parts
    /// of the pool. It has one file for each part of the pool.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let recipe = context.recipe();
        let pool = Arc::new(pool_of(context)?);
        let clusters = context.upstream(&Dedup)?.into_iter().next().context("stage dedup has no part")?;
        let inputs = fingerprint([pool.digest().as_str(), clusters.digest().as_str()]);
        Ok(Box::new(recipe.select.iter().map(move |(name, selection)| {
            let (rules, deduplicate) = selection.settings()?;
            let rule_texts: Vec<_> = rules.iter().map(|rule| (&rule.name, &rule.predicate)).collect();
            let settings = settings_text(&(rule_texts, deduplicate, &recipe.dedup));
            let print = fingerprint(["select", FORMAT_VERSION, &settings, &inputs]);
            let (pool, clusters) = (Arc::clone(&pool), clusters.clone());
            let make = Box::new(move |new: &mut NewPart| make(context, name, selection, &rules, &pool, &clusters, new));
            Ok(Planned::new(name.clone(), print, make))
        })))
    }
}

fn make(
    context: &Context,
    name: &str,
    selection: &SelectionConfig,
    rules: &[Rule],
    pool: &Pool,
    clusters: &PartEntry,
    new: &mut NewPart,
) -> Result<()> {
    // A bit of each pair stays in memory; its answers are on disk until the duplicates are known.
    let mut passing: Vec<BooleanArray> = Vec::new();
    let mut all_rejected = TemporaryWriter::create(&context.memory())?;
    let mut failures: BTreeMap<&str, Failures> = BTreeMap::new();
    for part in &pool.parts {
        let rows = pairs(context, part)?;
        let path = part.path(&context.run)?;
        let answers = evaluate(&context.session, &rows, rules, &path)?;
        for (rule, answers) in rules.iter().zip(&answers) {
            if let (Some(first), Some(reason)) = (answers.failed.first(), &answers.reason) {
                let key = UID.of(&rows, &path)?.value(*first);
                let failures = failures.entry(&rule.name).or_insert_with(|| Failures::first(key, reason));
                failures.pairs += answers.failed.len() as u64;
            }
        }
        let mut rejected = Rejected::new(rules);
        for row in 0..rows.num_rows() {
            rejected.push(answers.iter().map(|answers| !answers.passed.value(row)));
        }
        passing.push((0..rows.num_rows()).map(|row| Some(rejected.passes(row))).collect());
        all_rejected.push(&rejected.words)?;
    }
    for (rule, Failures { pairs, first, reason }) in &failures {
        tracing::warn!(
            "selection {name}: rule {rule:?} could not be evaluated on {pairs} pairs, which do not pass; the error of {first}: {reason}"
        );
    }
    let mut duplicates = Duplicates::none();
    if selection.deduplicate {
        duplicates = Duplicates::find(context, pool, clusters, &passing)?;
    }

    let mut counts = DuplicateCounts::new(context.memory().share(2));
    for ((number, part), rejected) in (0..).zip(&pool.parts).zip(all_rejected.finish()?.into_records()?) {
        let uids = part.columns(&context.run, &[UID.name])?;
        let uids = UID.of(&uids, &part.path(&context.run)?)?;
        let duplicates = duplicates.of_next_part(uids.len())?;
        for (row, duplicate) in &duplicates {
            counts.add(&duplicate.of.1, Place { part: number, row: *row as u32 }, duplicate.by)?;
        }
        let batch = to_batch(uids, &Rejected::of_words(rules, rejected?), &duplicates)?;
        let kept = KEPT.of(&batch, Path::new(schema::selection().name))?;
        new.rows_out += kept.true_count() as u64;
        let path = context.run.stage_file(new, &file_name(name, &part.pairs.part))?;
        parquet::write(&path, &batch.schema(), [&batch])?;
        new.rows_in += uids.len() as u64;
    }
    counts.warn_if_improbable(name, passing.iter().map(|passing| passing.true_count() as u64).sum())?;
    new.counts.insert("kept".to_owned(), new.rows_out);
    new.counts.insert("rejected".to_owned(), new.rows_in - new.rows_out);
    Ok(())
}

/// The rules that reject each pair of a part: one bit per rule, so a pair takes 8 bytes for every
/// 64 rules.
struct Rejected<'a> {
    rules: &'a [Rule],
    /// Number of 64-bit words per pair.
    stride: usize,
    words: Vec<u64>,
}

impl<'a> Rejected<'a> {
    fn new(rules: &'a [Rule]) -> Rejected<'a> {
        Rejected { rules, stride: rules.len().div_ceil(64), words: Vec::new() }
    }

    fn of_words(rules: &'a [Rule], words: Vec<u64>) -> Rejected<'a> {
        Rejected { words, ..Rejected::new(rules) }
    }

    /// Appends a pair: for each rule, whether the rule rejects it.
    fn push(&mut self, rejects: impl Iterator<Item = bool>) {
        let first = self.words.len();
        self.words.resize(first + self.stride, 0);
        for (rule, rejects) in rejects.enumerate() {
            self.words[first + rule / 64] |= u64::from(rejects) << (rule % 64);
        }
    }

    fn of(&self, row: usize) -> &[u64] {
        &self.words[row * self.stride..(row + 1) * self.stride]
    }

    fn passes(&self, row: usize) -> bool {
        self.of(row).iter().all(|word| *word == 0)
    }

    /// Returns the names of the rules that reject a pair, in their order.
    fn names(&self, row: usize) -> impl Iterator<Item = &'a str> + '_ {
        let words = self.of(row);
        let rejects = move |(place, _): &(usize, &Rule)| words[place / 64] >> (place % 64) & 1 == 1;
        self.rules.iter().enumerate().filter(rejects).map(|(_, rule)| rule.name.as_str())
    }
}

/// Pairs on which a rule could not be evaluated.
struct Failures {
    pairs: u64,
    /// Key of the first such pair, and the error.
    first: String,
    reason: String,
}

impl Failures {
    fn first(key: &str, reason: &str) -> Failures {
        Failures { pairs: 0, first: key.to_owned(), reason: reason.to_owned() }
    }
}

/// Returns whether this many duplicates of one pair are more likely a mistake than a widespread
/// image: at least 5, and 5 % of the pairs. This bound is our own: among the 790 images of the
/// quickstart, which were chosen for their duplicates, no pair has more than 1 % as its duplicates.
pub(crate) fn is_improbable(duplicates: u64, passed: u64) -> bool {
    duplicates >= 5 && duplicates * 20 >= passed
}

fn to_batch(
    uids: &StringArray,
    rejected: &Rejected<'_>,
    duplicates: &BTreeMap<usize, Duplicate>,
) -> Result<RecordBatch> {
    let rows = 0..uids.len();
    let mut rejected_by = ListBuilder::new(StringBuilder::new());
    for row in rows.clone() {
        rejected.names(row).for_each(|rule| rejected_by.values().append_value(rule));
        if duplicates.contains_key(&row) {
            rejected_by.values().append_value(DUPLICATE);
        }
        rejected_by.append(true);
    }
    let kept: BooleanArray =
        rows.clone().map(|row| Some(rejected.passes(row) && !duplicates.contains_key(&row))).collect();
    let duplicates = || rows.clone().map(|row| duplicates.get(&row));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(uids.clone()),
        Arc::new(kept),
        Arc::new(rejected_by.finish()),
        Arc::new(duplicates().map(|duplicate| Some(&*duplicate?.of.1)).collect::<StringArray>()),
        Arc::new(duplicates().map(|duplicate| Some(duplicate?.by.name())).collect::<StringArray>()),
        Arc::new(duplicates().map(|duplicate| duplicate?.phash_distance.map(i64::from)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema::selection().schema(), columns).context("a selection does not fit its schema")
}

/// Returns the files of a selection, one for each part of the pool.
pub(crate) fn files<'a>(selections: &'a [PartEntry], name: &str, pool: &Pool) -> Result<&'a [FileEntry]> {
    let selection = selections.iter().find(|part| part.part == name);
    let files = selection.map(|part| part.files.as_slice()).filter(|files| files.len() == pool.parts.len());
    files.with_context(|| format!("selection {name} does not have a file for every part of the pool; this is a bug"))
}

/// Returns the places of the pairs that a selection keeps, read from its files, in the order of the
/// pool.
pub(crate) fn kept(files: impl Iterator<Item = Result<PathBuf>>) -> Result<Vec<Place>> {
    let mut kept = Vec::new();
    for (part, path) in (0..).zip(files) {
        let path = path?;
        let rows = table::read(&path, Some(&[KEPT.name]))?;
        let flags = KEPT.of(&rows, &path)?;
        kept.extend((0..).zip(flags).filter(|(_, kept)| *kept == Some(true)).map(|(row, _)| Place { part, row }));
    }
    Ok(kept)
}

/// Returns the file of a selection for one part of the pool.
fn file_name(selection: &str, part: &str) -> String {
    format!("{}/{selection}/part-{part}.parquet", schema::selection().name)
}

/// Checks every rule of the recipe against the columns that the pairs will have, before anything is
/// downloaded.
fn check_rules(loaded: &LoadedRecipe, session: &Session) -> Result<()> {
    let Some(source) = &loaded.recipe.source else { return Ok(()) };
    if loaded.recipe.select.is_empty() && loaded.recipe.check.is_none() {
        return Ok(());
    }
    let source = Source::open_cached(source, &loaded.folder, &loaded.cache())?;
    let extra = source.schema_of_extra_columns();
    let pool = schema::pool().schema_with(extra.fields().iter().map(AsRef::as_ref));
    let signals = signal_columns();
    let columns = rule_columns(&pool, &signals);
    for column in &columns {
        if let Some(own) = column.own_name.as_ref().filter(|own| *own != column.field.name()) {
            tracing::warn!(
                "column {own:?} of the source is named {} in rules, because {own} is a signal",
                column.field.name()
            );
        }
    }
    let columns: Fields = columns.into_iter().map(|column| column.field).collect();
    let columns = Arc::new(Schema::new(columns));
    for (name, selection) in &loaded.recipe.select {
        let rules = selection.rules()?;
        check(session, &columns, &rules).with_context(|| format!("in [select.{name}]"))?;
        for rule in &rules {
            for column in texts_read_as_floats(session, &columns, rule)? {
                tracing::info!(
                    "selection {name}: rule {:?} reads the texts of column {column:?} as 64-bit floats, which round whole numbers above 2^53",
                    rule.name
                );
            }
        }
    }
    if let Some(config) = &loaded.recipe.check {
        check(session, &columns, config.held_out_rule().as_slice()).context("in [check]")?;
        for column in config.selections().filter_map(|(_, _, column)| column) {
            let field = pool.fields().iter().find(|field| field.name() == column);
            if field.is_none_or(|field| *field.data_type() != DataType::Utf8) {
                let texts = pool.fields().iter().filter(|field| *field.data_type() == DataType::Utf8);
                let names: Vec<&str> = texts.map(|field| field.name().as_str()).collect();
                bail!(
                    "check.arms takes captions from {column:?}, which is not a column of texts; the columns of texts are: {}",
                    names.join(", ")
                );
            }
        }
    }
    Ok(())
}

/// A column under its name in rules.
struct RuleColumn {
    field: FieldRef,
    /// Its name in the pool; `None` for a signal.
    own_name: Option<String>,
}

/// Returns the columns of the pool without the image, then the signals. A signal replaces a column
/// of the pool with the same name and content, such as `width`. An extra column of the source with
/// the name of a signal is renamed `source_…`, like one with the name of a column of the pool.
fn rule_columns(pool: &Schema, signals: &Schema) -> Vec<RuleColumn> {
    let own: Vec<String> = schema::pool().columns.iter().map(|column| column.name().clone()).collect();
    let signals: Vec<&FieldRef> = signals.fields().iter().filter(|field| field.name() != UID.name).collect();
    let is_signal = |name: &str| signals.iter().any(|signal| signal.name() == name);
    let is_taken = |name: &str| pool.column_with_name(name).is_some() || is_signal(name);
    let mut columns = Vec::new();
    for field in pool.fields() {
        let name = field.name();
        if name == IMAGE.name || is_signal(name) && own.contains(name) {
            continue;
        }
        let mut rule_name = name.clone();
        while is_signal(name) && is_taken(&rule_name) {
            rule_name.insert_str(0, "source_");
        }
        let field = Arc::new(field.as_ref().clone().with_name(rule_name));
        columns.push(RuleColumn { field, own_name: Some(name.clone()) });
    }
    columns.extend(signals.into_iter().map(|field| RuleColumn { field: Arc::clone(field), own_name: None }));
    columns
}

/// Returns the columns of all signals.
fn signal_columns() -> Schema {
    let of_group = |group| lynxdata_engine::signals::schema(group).fields().iter().skip(1).cloned().collect::<Vec<_>>();
    Schema::new(GROUPS.iter().flat_map(of_group).collect::<Vec<_>>())
}

/// Returns the rows of one part with the columns of rules.
pub(crate) fn pairs(context: &Context, part: &PoolPart) -> Result<RecordBatch> {
    let columns = rule_columns(part.schema(&context.run)?.as_ref(), &signal_columns());
    let names: Vec<&str> = columns.iter().filter_map(|column| column.own_name.as_deref()).collect();
    let rows = part.columns(&context.run, &names)?;
    let measured = part.signals(&context.run, None)?;
    let values = columns.iter().map(|column| {
        let values = match &column.own_name {
            Some(name) => rows.column_by_name(name),
            None => measured.column_by_name(column.field.name()),
        };
        values.cloned().context("a column is missing; this is a bug")
    });
    let values = values.collect::<Result<Vec<_>>>()?;
    let fields: Fields = columns.iter().map(|column| Arc::clone(&column.field)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values).context("a part and its signals do not fit together")
}

/// The decisions of a selection on the pairs of one part of the pool, in their order.
pub(crate) struct Decisions {
    /// Their keys.
    pub(crate) uids: StringArray,
    /// The reasons to reject them.
    pub(crate) reasons: Reasons,
    duplicate_of: StringArray,
    duplicate_by: StringArray,
    distances: Int64Array,
}

/// The kept pair of which another pair is a duplicate.
pub(crate) struct DuplicateOf<'a> {
    /// Its key.
    pub(crate) uid: &'a str,
    /// The name of the comparison.
    pub(crate) by: &'a str,
    /// Number of differing bits of the pHashes, if they were compared.
    pub(crate) distance: Option<i64>,
}

impl Decisions {
    /// Reads the table of a selection for one part of the pool.
    pub(crate) fn read(path: &Path) -> Result<Decisions> {
        let rows = table::read(path, None)?;
        Ok(Decisions {
            uids: UID.of(&rows, path)?.clone(),
            reasons: Reasons::of(&rows, path)?,
            duplicate_of: DUPLICATE_OF.of(&rows, path)?.clone(),
            duplicate_by: DUPLICATE_BY.of(&rows, path)?.clone(),
            distances: DUPLICATE_DISTANCE.of(&rows, path)?.clone(),
        })
    }

    /// Makes decisions for tests: for each pair its key, the rules that reject it, the pair that it
    /// duplicates, and the comparison.
    #[cfg(test)]
    pub(crate) fn of(
        uids: StringArray,
        rejected_by: Vec<Vec<&str>>,
        duplicate_of: StringArray,
        duplicate_by: StringArray,
    ) -> Decisions {
        let mut rows = ListBuilder::new(StringBuilder::new());
        for rules in rejected_by {
            for rule in &rules {
                rows.values().append_value(rule);
            }
            rows.append(true);
        }
        let rows = rows.finish();
        let names = rows.values().as_string().clone();
        let distances = Int64Array::new_null(uids.len());
        Decisions { uids, reasons: Reasons { rows, names }, duplicate_of, duplicate_by, distances }
    }

    /// Returns the pair that is kept instead of the pair of a row.
    pub(crate) fn duplicate(&self, row: usize) -> Option<DuplicateOf<'_>> {
        self.duplicate_of.is_valid(row).then(|| DuplicateOf {
            uid: self.duplicate_of.value(row),
            by: self.duplicate_by.value(row),
            distance: self.distances.is_valid(row).then(|| self.distances.value(row)),
        })
    }
}

/// Reads the decisions of a selection, one part of the pool after another.
pub(crate) fn decisions(context: &Context, name: &str, pool: &Pool) -> Result<impl Iterator<Item = Result<Decisions>>> {
    let selections = context.upstream(&Select)?;
    let files = files(&selections, name, pool)?.to_vec();
    Ok(files.into_iter().map(|file| Decisions::read(&context.run.intact(&file)?)))
}

/// The names of the rules that reject pairs.
pub(crate) struct Reasons {
    rows: ListArray,
    names: StringArray,
}

impl Reasons {
    fn of(rows: &RecordBatch, path: &Path) -> Result<Reasons> {
        let rows = REJECTED_BY.of(rows, path)?;
        let names = rows.values().as_string_opt().context("the rules of a selection are not texts")?;
        Ok(Reasons { rows: rows.clone(), names: names.clone() })
    }

    /// Returns the number of pairs.
    pub(crate) fn pairs(&self) -> usize {
        self.rows.len()
    }

    /// Returns the rules that reject a pair, in the order of the rules; none if it is kept.
    pub(crate) fn of_pair(&self, row: usize) -> impl ExactSizeIterator<Item = &str> {
        let offsets = self.rows.value_offsets();
        (offsets[row] as usize..offsets[row + 1] as usize).map(|place| self.names.value(place))
    }
}

/// Counts of rejected rows.
#[derive(Debug, Default)]
pub struct Rejections {
    /// Rows of the pool.
    pub rows: u64,
    /// Rows that are kept.
    pub kept: u64,
    /// Rows that a rule rejected, alone or with others.
    pub by_rule: BTreeMap<String, u64>,
    /// Rows that only this rule rejected.
    pub by_rule_alone: BTreeMap<String, u64>,
    /// Rows that no earlier rule rejected.
    pub by_first_rule: BTreeMap<String, u64>,
}

impl Rejections {
    /// Returns the rows that pass every rule, including duplicates.
    pub fn passed(&self) -> u64 {
        self.kept + self.by_first_rule.get(DUPLICATE).copied().unwrap_or(0)
    }
}

/// Counts the rows of the files of a selection.
pub fn count_rejections(files: impl Iterator<Item = PathBuf>) -> Result<Rejections> {
    let mut total = Rejections::default();
    for path in files {
        let reasons = Reasons::of(&table::read(&path, Some(&[REJECTED_BY.name]))?, &path)?;
        total.rows += reasons.pairs() as u64;
        for pair in 0..reasons.pairs() {
            let rules = reasons.of_pair(pair);
            let is_alone = rules.len() == 1;
            total.kept += u64::from(rules.len() == 0);
            for (place, rule) in rules.enumerate() {
                count(&mut total.by_rule, rule);
                if is_alone {
                    count(&mut total.by_rule_alone, rule);
                }
                if place == 0 {
                    count(&mut total.by_first_rule, rule);
                }
            }
        }
    }
    Ok(total)
}

/// Counts a row under a name.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

#[cfg(test)]
mod tests {
    use lynxdata_engine::session;

    use super::*;

    #[test]
    fn every_preset_can_be_planned_over_the_columns_of_a_pool() {
        let columns = rule_columns(schema::pool().schema().as_ref(), &signal_columns());
        let columns: Fields = columns.into_iter().map(|column| column.field).collect();
        let columns = Arc::new(Schema::new(columns));
        for preset in lynxdata_filters::presets() {
            let selection = SelectionConfig { preset: Some(preset.name.clone()), ..SelectionConfig::default() };
            let rules = selection.rules().unwrap();
            assert_eq!(rules.len(), preset.rules.len(), "{}", preset.name);
            check(&session::local(), &columns, &rules).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        }
    }
}
