//! Stage `select`: for every pair of the pool and every selection of the recipe, kept or not, and the names of all rules that rejected it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{ArrayRef, BooleanArray, ListArray, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{FieldRef, Schema};
use lynxdata_engine::Session;
use lynxdata_engine::dedup::{Candidate, is_preferred};
use lynxdata_engine::select::{Rule, check, evaluate};
use lynxdata_fetch::Source;
use lynxdata_records::{FileEntry, NewPart, PartEntry, fingerprint, parquet, schema};

use super::dedup::PoolParts;
use super::{Context, Parts, Planned, Stage, settings_text, signals, table};
use crate::recipe::{LoadedRecipe, Recipe, SelectionConfig};

/// Raise it when the same signals and rules give another selection.
const FORMAT_VERSION: &str = "1";

/// The name in `rejected_by` of a pair that gave way to another of its cluster.
pub(crate) const DUPLICATE: &str = "duplicate";

pub(crate) struct Select;

impl Stage for Select {
    fn name(&self) -> &'static str {
        "select"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        !recipe.select.is_empty()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["download", "signals", "dedup"]
    }

    /// One part per selection, because which pair of a cluster is kept depends on all parts; it has one file for each part of the pool.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let recipe = context.recipe();
        let pool = Arc::new(PoolParts::of(context)?);
        let clusters = context.upstream("dedup")?.into_iter().next().context("stage dedup has no part")?;
        let inputs = fingerprint([pool.digest().as_str(), clusters.digest().as_str()]);
        Ok(Box::new(recipe.select.iter().map(move |(name, selection)| {
            let rules = selection.rules()?;
            let rule_texts: Vec<_> = rules.iter().map(|rule| (&rule.name, &rule.predicate)).collect();
            let settings = settings_text(&(rule_texts, selection.deduplicate, recipe.dedup.keep));
            let print = fingerprint(["select", FORMAT_VERSION, &settings, &inputs]);
            let (pool, clusters) = (Arc::clone(&pool), clusters.clone());
            let make = Box::new(move |new: &mut NewPart| make(context, name, selection, &rules, &pool, &clusters, new));
            Ok(Planned { name: name.clone(), fingerprint: print, make })
        })))
    }
}

fn make(
    context: &Context,
    name: &str,
    selection: &SelectionConfig,
    rules: &[Rule],
    pool: &PoolParts,
    clusters: &PartEntry,
    new: &mut NewPart,
) -> Result<()> {
    // For each pair, the rules that reject it.
    let mut rejections: Vec<Vec<&str>> = Vec::new();
    for (download, measured) in pool.downloads.iter().zip(&pool.signals) {
        let rows = pairs(context, download, measured)?;
        let path = table::file_for_columns(&context.run, download, schema::pool().name)?;
        let count = rows.num_rows();
        let passed = context.runtime.block_on(evaluate(&context.session, rows, rules, &path))?;
        rejections.extend((0..count).map(|row| {
            let failed = rules.iter().zip(&passed).filter(|(_, passed)| !passed.value(row));
            failed.map(|(rule, _)| rule.name.as_str()).collect::<Vec<_>>()
        }));
    }
    if selection.deduplicate {
        let candidates = pool.candidates(context)?;
        reject_duplicates(context, clusters, &candidates, &mut rejections)?;
    }

    new.rows_in = rejections.len() as u64;
    new.rows_out = rejections.iter().filter(|rules| rules.is_empty()).count() as u64;
    new.counts.insert("kept".to_owned(), new.rows_out);
    new.counts.insert("rejected".to_owned(), new.rows_in - new.rows_out);
    let mut first = 0;
    for download in &pool.downloads {
        let pool_file = table::file_for_columns(&context.run, download, schema::pool().name)?;
        let uids = table::read(&pool_file, Some(&["uid"]))?;
        let rows = &rejections[first..first + uids.num_rows()];
        first += uids.num_rows();
        let batch = to_batch(table::texts(&uids, "uid", &pool_file)?, rows)?;
        let path = context.run.stage_file(new, &file_name(name, &download.part))?;
        parquet::write(&path, &batch.schema(), [&batch])?;
    }
    Ok(())
}

/// Among the pairs of a cluster that pass all rules, the preferred one stays; the others are rejected as duplicates.
fn reject_duplicates(
    context: &Context,
    clusters: &PartEntry,
    candidates: &[Candidate],
    rejections: &mut [Vec<&str>],
) -> Result<()> {
    let mut cluster_of = Vec::with_capacity(candidates.len());
    for entry in &clusters.files {
        let path = context.run.intact(entry)?;
        let rows = table::read(&path, Some(&["cluster"]))?;
        cluster_of.extend(table::texts(&rows, "cluster", &path)?.iter().flatten().map(str::to_owned));
    }
    let keep = context.recipe().dedup.keep;
    let mut kept: HashMap<&str, usize> = HashMap::new();
    for index in 0..candidates.len() {
        if rejections[index].is_empty() {
            let best = kept.entry(&cluster_of[index]).or_insert(index);
            if is_preferred(keep, candidates, index, *best) {
                *best = index;
            }
        }
    }
    for index in 0..candidates.len() {
        if rejections[index].is_empty() && kept[cluster_of[index].as_str()] != index {
            rejections[index].push(DUPLICATE);
        }
    }
    Ok(())
}

fn to_batch(uids: &StringArray, rejections: &[Vec<&str>]) -> Result<RecordBatch> {
    let mut rejected_by = ListBuilder::new(StringBuilder::new());
    for rules in rejections {
        for rule in rules {
            rejected_by.values().append_value(rule);
        }
        rejected_by.append(true);
    }
    let kept: BooleanArray = rejections.iter().map(|rules| Some(rules.is_empty())).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(uids.clone()), Arc::new(kept), Arc::new(rejected_by.finish())];
    RecordBatch::try_new(schema::selection().schema(), columns).context("a selection does not fit its schema")
}

/// The files of a selection, one for each part of the pool.
pub(crate) fn files<'a>(selections: &'a [PartEntry], name: &str, downloads: &[PartEntry]) -> Result<&'a [FileEntry]> {
    let selection = selections.iter().find(|part| part.part == name);
    let files = selection.map(|part| part.files.as_slice()).filter(|files| files.len() == downloads.len());
    files.with_context(|| format!("selection {name} has not a file for every part of the pool; this is a bug"))
}

/// The file of a selection for one part of the pool.
fn file_name(selection: &str, part: &str) -> String {
    format!("{}/{selection}/part-{part}.parquet", schema::selection().name)
}

/// Checks every rule of the recipe against the columns that its pairs will have, before anything is downloaded.
pub(crate) fn check_rules(loaded: &LoadedRecipe, session: &Session) -> Result<()> {
    let Some(source) = &loaded.recipe.source else { return Ok(()) };
    if loaded.recipe.select.is_empty() && loaded.recipe.check.is_none() {
        return Ok(());
    }
    let source = Source::open_cached(source, &loaded.folder, &loaded.cache())?;
    let extra = source.schema_of_extra_columns();
    let pool = schema::pool().schema_with(extra.fields().iter().map(AsRef::as_ref));
    let signals = lynxdata_engine::signals::schema();
    let columns = Arc::new(Schema::new(joined_fields(&pool, &signals)));
    for (name, selection) in &loaded.recipe.select {
        check(session, &columns, &selection.rules()?).with_context(|| format!("in [select.{name}]"))?;
    }
    if let Some(config) = &loaded.recipe.check {
        check(session, &columns, config.held_out_rule().as_slice()).context("in [check]")?;
    }
    Ok(())
}

/// The pool's columns without the picture, then the signals, which stand for pool columns of the same name such as `width`.
fn joined_fields(pool: &Schema, signals: &Schema) -> Vec<FieldRef> {
    let own = pool
        .fields()
        .iter()
        .filter(|field| field.name() != "image" && signals.column_with_name(field.name()).is_none());
    own.chain(signals.fields()).cloned().collect()
}

/// The rows of one part as rules see them.
pub(crate) fn pairs(context: &Context, download: &PartEntry, measured: &PartEntry) -> Result<RecordBatch> {
    let pool_file = table::file_for_columns(&context.run, download, schema::pool().name)?;
    let signal_file = table::file(&context.run, measured, signals::FOLDER)?;
    let measured = table::read(&signal_file, None)?;
    let pool_schema = parquet::schema(&pool_file)?;
    let fields = joined_fields(&pool_schema, &measured.schema());
    let names: Vec<&str> =
        pool_schema.fields().iter().map(|field| field.name().as_str()).filter(|name| *name != "image").collect();
    let rows = table::read(&pool_file, Some(&names))?;
    let uids = table::texts(&rows, "uid", &pool_file)?;
    table::same_pairs(uids, table::texts(&measured, "uid", &signal_file)?, &signal_file)?;
    let columns = fields
        .iter()
        .map(|field| {
            let name = field.name();
            measured
                .column_by_name(name)
                .or_else(|| rows.column_by_name(name))
                .cloned()
                .context("a column went missing")
        })
        .collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Schema::new(fields).into(), columns).context("a part and its signals do not fit together")
}

/// What rejected how many rows.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    pub rows: u64,
    pub kept: u64,
    /// Rows that a rule rejected, alone or with others.
    pub by_rule: BTreeMap<String, u64>,
    /// Rows that no other rule rejected.
    pub by_rule_alone: BTreeMap<String, u64>,
}

/// Counts the rows of the files of a selection.
pub(crate) fn count_rejections(files: impl Iterator<Item = PathBuf>) -> Result<Rejections> {
    let mut total = Rejections::default();
    for path in files {
        let rows = table::read(&path, Some(&["kept", "rejected_by"]))?;
        let rejected_by: &ListArray = parquet::typed_column(&rows, "rejected_by", &path)?;
        for row in 0..rows.num_rows() {
            let rules = table::text_list(rejected_by, row);
            total.rows += 1;
            total.kept += u64::from(rules.is_empty());
            if let [only] = rules.as_slice() {
                *total.by_rule_alone.entry(only.clone()).or_default() += 1;
            }
            for rule in rules {
                *total.by_rule.entry(rule).or_default() += 1;
            }
        }
    }
    Ok(total)
}
