//! Finds the pairs that a changed or different list would remove from the existing pool.

use crate::stage::Stage as _;
use crate::stages::download::Download;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, RecordBatch, StringArray};
use lynxdata_fetch::{Source, SourceConfig, without_userinfo};
use lynxdata_records::schema::{CAPTION, Column, URL};
use lynxdata_records::{parquet, schema};
use tracing::warn;

use super::{is_kept, settings};
use crate::recipe::{self, RESOLVED_RECIPE, Recipe};
use crate::stage::Context;
use crate::stage::part_name;
use crate::table;
use lynxdata_report::count as grouped;

/// The column that identifies the image of a pair instead of its URL, if the source has the images
/// themselves.
const FILE: Column<StringArray> = Column::named("file");

/// Counts of the pairs that the download is about to remove from the pool.
struct Replaced {
    /// Committed parts that are made again or removed, and their pairs.
    parts: u64,
    pairs: u64,
    /// Pairs that the list does not have.
    gone: u64,
    /// Pairs of the whole pool.
    all: u64,
}

/// Refuses a list that differs from the one that the pool was made from, if that would remove
/// pairs. Call it before the recipe in the run folder is replaced, because that names the earlier
/// list.
///
/// # Errors
/// If pairs would be removed and the user has not agreed to it.
pub fn check_list(context: &Context) -> Result<()> {
    let manifest = context.run.manifest();
    let Some(source) = &context.recipe().source else { return Ok(()) };
    if manifest.parts(Download.name()).next().is_none() {
        return Ok(());
    }
    // Flags name the absolute path of a file, and recipes often one relative to their folder.
    let paths = |source: &SourceConfig| -> Vec<_> {
        let paths = source.path.as_slice().iter().map(|path| context.loaded.folder.join(path));
        paths.map(|path| std::path::absolute(&path).unwrap_or(path)).collect()
    };
    match earlier_recipe(context) {
        Some(earlier) if earlier.source.as_ref().is_some_and(|earlier| paths(earlier) != paths(source)) => {
            let source = Source::open_cached(source, &context.loaded.folder, &context.loaded.cache())?;
            compare(context, &source, Some(&earlier))
        }
        _ => Ok(()),
    }
}

/// Returns the recipe that the pool was made with. A recipe that cannot be read, such as one of
/// another version, is ignored.
fn earlier_recipe(context: &Context) -> Option<Recipe> {
    let resolved = context.run.root().join(RESOLVED_RECIPE);
    recipe::load(&resolved, &[]).ok().map(|loaded| loaded.recipe)
}

/// Returns whether two recipes read the same source with other settings.
fn has_other_settings(one: &Recipe, other: &Recipe) -> bool {
    let (Some(one), Some(other)) = (&one.source, &other.source) else { return false };
    SourceConfig { path: other.path.clone(), ..one.clone() } != *other
}

/// Logs which pairs the list removes from the pool, and refuses to remove so many that it must be
/// another list.
pub(super) fn compare(context: &Context, source: &Source, earlier: Option<&Recipe>) -> Result<()> {
    if context.is_compared.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let Replaced { parts, pairs, gone, all } = measure(context, source, earlier.is_some())?;
    if parts == 0 {
        return Ok(());
    }
    let lists = |recipe: &Recipe| {
        let paths = recipe.source.iter().flat_map(|source| source.path.as_slice());
        paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let list = lists(context.recipe());
    // An edited list keeps most of its rows; a list of the same name that does not is another list.
    let is_refused = gone > 0 && (earlier.is_some() || gone > all / 2) && !context.replaces;
    if is_refused {
        let made_from = match earlier {
            Some(earlier) => format!("another list, {},", lists(earlier)),
            None if earlier_recipe(context).is_some_and(|earlier| has_other_settings(&earlier, context.recipe())) => {
                "this list with other settings of [source]".to_owned()
            }
            None => "an earlier version of this list".to_owned(),
        };
        bail!(
            "the pool of {run} was made from {made_from} and holds {all} pairs, of which {gone} are not in {list}; they would be removed\n\
             hint: choose another output folder for this list, or add --replace to remove those pairs",
            run = context.run.root().display(),
            all = grouped(all),
            gone = grouped(gone),
        );
    }
    let (parts, pairs) = (grouped(parts), grouped(pairs));
    let why = "the list or settings of [download] changed";
    if gone > 0 {
        let (gone, all) = (grouped(gone), grouped(all));
        warn!(
            "{gone} of {all} pairs of the pool are not in {list} and are removed; {parts} parts with {pairs} pairs are removed or made again: {why}"
        );
    } else {
        warn!("{parts} parts with {pairs} pairs are made again: {why}");
    }
    Ok(())
}

fn measure(context: &Context, source: &Source, is_other: bool) -> Result<Replaced> {
    let settings = settings(context.recipe())?;
    // File names are relative to the source, so they mean nothing in another source.
    let file_column = source.schema_of_extra_columns().index_of(FILE.name).ok().filter(|_| !is_other);
    let extras = source.schema_of_extra_columns().fields().len();
    // A list may have a pair twice.
    let (mut listed, mut kept) = (HashMap::<u64, u64>::new(), BTreeSet::new());
    for part in source.parts(context.recipe().download.rows_per_part) {
        let part = part?;
        let name = part_name(part.index);
        if is_kept(context, &part, &settings) == Some(true) {
            // Its pairs stay, and replace no others.
            kept.insert(name);
            continue;
        }
        let first_extra = part.rows.num_columns() - extras;
        let files = file_column.map(|index| part.rows.column(first_extra + index));
        let captions = texts(part.rows.column(1));
        add_keys(texts(part.rows.column(0)), files.and_then(texts), captions, &mut |key| {
            *listed.entry(key).or_default() += 1;
        });
    }
    let mut replaced = Replaced { parts: 0, pairs: 0, gone: 0, all: 0 };
    for part in context.run.manifest().parts(Download.name()) {
        replaced.all += part.rows_out;
        if kept.contains(&part.part) {
            continue;
        }
        replaced.parts += 1;
        replaced.pairs += part.rows_out;
        // A part with missing files has nothing to lose.
        if context.run.committed(Download.name(), &part.part, &part.fingerprint).is_some() {
            let path = table::file_for_columns(&context.run, part, schema::pool().name)?;
            for pairs in pictures_of(&path)? {
                let (urls, files, captions) = (URL.find(&pairs), FILE.find(&pairs), CAPTION.find(&pairs));
                add_keys(urls, files, captions, &mut |key| match listed.get_mut(&key).filter(|left| **left > 0) {
                    Some(left) => *left -= 1,
                    None => replaced.gone += 1,
                });
            }
        }
    }
    Ok(replaced)
}

/// Returns the columns of a part of the pool that identify its pairs.
fn pictures_of(path: &Path) -> Result<Vec<RecordBatch>> {
    let schema = parquet::schema(path)?;
    let mut columns = vec![URL.name, FILE.name, CAPTION.name];
    columns.retain(|name| schema.column_with_name(name).is_some());
    let batches = table::batches(path, Some(&columns))?;
    batches.collect::<Result<_>>().with_context(|| format!("cannot read {}", path.display()))
}

fn texts(column: &arrow::array::ArrayRef) -> Option<&StringArray> {
    column.as_any().downcast_ref()
}

/// Passes a digest of image and caption to `each` for every row that names its image.
fn add_keys(
    urls: Option<&StringArray>,
    files: Option<&StringArray>,
    captions: Option<&StringArray>,
    each: &mut dyn FnMut(u64),
) {
    let text = |column: Option<&StringArray>, row: usize| {
        column
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row).to_owned())
            .filter(|text| !text.is_empty())
    };
    let rows = urls.or(files).map_or(0, Array::len);
    for row in 0..rows {
        let url = text(urls, row).map(|url| without_userinfo(&url).into_owned());
        if let Some(name) = url.or_else(|| text(files, row)) {
            let mut hasher = DefaultHasher::new();
            (name, text(captions, row)).hash(&mut hasher);
            each(hasher.finish());
        }
    }
}
