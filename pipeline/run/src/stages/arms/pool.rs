//! Pairs of pools: the selections of this run, and the pools of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use arrow::array::Array;
use lynxdata_check::Turn;
use lynxdata_engine::select::{Rule, evaluate};
use lynxdata_records::schema;

use super::table::{Membership, RawPair, Writer};
use super::{Context, sample};
use crate::recipe::CheckConfig;
use crate::stages::{select, shards, table};

/// A pair of a pool: its part and its row.
type Place = (usize, u32);

/// How many times as many pairs as may be held out are loaded, since some are passed over because
/// others share their text.
const SPARE: usize = 3;

/// A text of a pool: a place, and the column if it is not the caption.
type Text<'a> = (Place, Option<&'a str>);

/// Writes the pairs of all arms that are selections of this run, and those of its pool that may be
/// measured on.
pub(super) fn write_selections(context: &Context, config: &CheckConfig, writer: &mut Writer) -> Result<()> {
    let seed = context.recipe().seed;
    let downloads = context.upstream("download")?;
    let signals = context.upstream("signals")?;
    let rules: Vec<Rule> = config.held_out_rule().into_iter().collect();
    let columns: BTreeSet<Option<&str>> = config.selections().map(|(_, _, column)| column).chain([None]).collect();
    let mut files = Vec::new();
    let mut uids: BTreeMap<Text, String> = BTreeMap::new();
    let mut allowed: BTreeSet<Place> = BTreeSet::new();
    for (part, (download, measured)) in downloads.iter().zip(&signals).enumerate() {
        let path = table::file_for_columns(&context.run, download, schema::pool().name)?;
        let names: Vec<&str> = columns.iter().map(|column| column.unwrap_or("caption")).chain(["uid"]).collect();
        let batch = table::read(&path, Some(&names))?;
        let keys = table::texts(&batch, "uid", &path)?;
        for column in &columns {
            let texts = table::texts(&batch, column.unwrap_or("caption"), &path)?;
            let there =
                (0..batch.num_rows()).filter(|row| texts.is_valid(*row) && !texts.value(*row).trim().is_empty());
            uids.extend(there.map(|row| (((part, row as u32), *column), keys.value(row).to_owned())));
        }
        if config.evaluate_on.is_none() {
            let answers = evaluate(&context.session, &select::pairs(context, download, measured)?, &rules, &path)?;
            let passes = |row: &u32| answers.iter().all(|answers| answers.passed.value(*row as usize));
            allowed.extend((0..batch.num_rows() as u32).filter(passes).map(|row| (part, row)));
        }
        files.push(table::file(&context.run, download, schema::pool().name)?);
    }
    let mut wanted: BTreeMap<Text, Membership> = BTreeMap::new();
    let none = Membership { arms: 0, may_be_held_out: false };
    for (arm, selection, column) in config.selections() {
        let kept = shards::kept_rows(context, selection, &downloads)?;
        let keys = kept.into_iter().filter_map(|place| Some((uids.get(&(place, column))?.clone(), place)));
        // The spare ones make up for those that are held out.
        let most = config.most_pairs.saturating_add(config.held_out_most);
        for place in sample(keys, most, seed, "arm") {
            wanted.entry((place, column)).or_insert(none).arms |= 1 << arm;
        }
    }
    let keys = allowed.iter().filter_map(|place| Some((uids.get(&(*place, None))?.clone(), *place)));
    for place in sample(keys, config.held_out_most.saturating_mul(SPARE), seed, "may be held out") {
        wanted.entry((place, None)).or_insert(none).may_be_held_out = true;
    }
    // What may be held out does not depend on how many candidates that no arm has are loaded.
    for ((place, column), membership) in &mut wanted {
        membership.may_be_held_out |= column.is_none() && allowed.contains(place);
    }
    write(&files, &wanted, writer)
}

/// Writes the pairs of another pool; `kept` are those of a selection over it.
pub(super) fn write_pool(
    files: &[PathBuf],
    kept: Option<&[Place]>,
    membership: Membership,
    most: usize,
    seed: u64,
    writer: &mut Writer,
) -> Result<()> {
    let kept: Option<BTreeSet<Place>> = kept.map(|kept| kept.iter().copied().collect());
    let mut keys: Vec<(String, Place)> = Vec::new();
    for (part, path) in files.iter().enumerate() {
        let batch = table::read(path, Some(&["uid", "caption"]))?;
        let (uids, captions) = (table::texts(&batch, "uid", path)?, table::texts(&batch, "caption", path)?);
        let places = (0..batch.num_rows()).map(|row| (uids.value(row).to_owned(), (part, row as u32)));
        let places = places.filter(|(_, place)| kept.as_ref().is_none_or(|kept| kept.contains(place)));
        let has_text = |row: usize| captions.is_valid(row) && !captions.value(row).trim().is_empty();
        let (with_text, without): (Vec<_>, Vec<_>) = places.partition(|(_, (_, row))| has_text(*row as usize));
        writer.leave_out("pairs_without_text", without.len() as u64);
        keys.extend(with_text);
    }
    let chosen = sample(keys, most, seed, "arm");
    write(files, &chosen.into_iter().map(|place| ((place, None), membership)).collect(), writer)
}

fn write(files: &[PathBuf], wanted: &BTreeMap<Text, Membership>, writer: &mut Writer) -> Result<()> {
    for (part, path) in files.iter().enumerate() {
        if of_rows(wanted, part, 0, u32::MAX).next().is_none() {
            continue;
        }
        write_part(part, path, wanted, writer)
            .with_context(|| format!("cannot read the pairs of {}", path.display()))?;
    }
    Ok(())
}

/// The texts of rows of a part, from `first` to before `end`.
fn of_rows<'a, 'b>(
    wanted: &'a BTreeMap<Text<'b>, Membership>,
    part: usize,
    first: u32,
    end: u32,
) -> impl Iterator<Item = (&'a Text<'b>, &'a Membership)> {
    wanted.range(((part, first), None)..((part, end), None))
}

fn write_part(part: usize, path: &Path, wanted: &BTreeMap<Text, Membership>, writer: &mut Writer) -> Result<()> {
    let columns: BTreeSet<&str> = wanted.keys().map(|(_, column)| column.unwrap_or("caption")).collect();
    let names: Vec<&str> = columns.iter().copied().chain(["uid", "image"]).collect();
    let mut first = 0;
    for batch in table::batches(path, Some(&names))? {
        let batch = batch?;
        let uids = table::texts(&batch, "uid", path)?;
        let pictures = table::pictures(&batch, path)?;
        let end = first + batch.num_rows() as u32;
        for (((_, row), column), membership) in of_rows(wanted, part, first, end) {
            let row = (*row - first) as usize;
            let texts = table::texts(&batch, column.unwrap_or("caption"), path)?;
            let uid = uids.value(row);
            writer.add(RawPair {
                uid: Some(column.map_or_else(|| uid.to_owned(), |column| format!("{uid} {column}"))),
                membership: *membership,
                turns: vec![Turn::caption(texts.value(row))],
                picture: pictures.value(row).to_vec(),
            })?;
        }
        first = end;
    }
    Ok(())
}
