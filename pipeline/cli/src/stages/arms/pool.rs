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

/// How many times as many pairs as may be held out are loaded, since some are passed over because others share their text.
const SPARE: usize = 3;

/// Writes the pairs of all arms that are selections of this run, and those of its pool that may be measured on.
pub(super) fn write_selections(context: &Context, config: &CheckConfig, writer: &mut Writer) -> Result<()> {
    let seed = context.recipe().seed;
    let downloads = context.upstream("download")?;
    let signals = context.upstream("signals")?;
    let rules: Vec<Rule> = config.held_out_rule().into_iter().collect();
    let mut files = Vec::new();
    let mut uids: BTreeMap<Place, String> = BTreeMap::new();
    let mut allowed: BTreeSet<Place> = BTreeSet::new();
    for (part, (download, measured)) in downloads.iter().zip(&signals).enumerate() {
        let path = table::file_for_columns(&context.run, download, schema::pool().name)?;
        let batch = table::read(&path, Some(&["uid", "caption"]))?;
        let (keys, captions) = (table::texts(&batch, "uid", &path)?, table::texts(&batch, "caption", &path)?);
        let with_caption =
            (0..batch.num_rows()).filter(|row| captions.is_valid(*row) && !captions.value(*row).trim().is_empty());
        uids.extend(with_caption.map(|row| ((part, row as u32), keys.value(row).to_owned())));
        if config.evaluate_on.is_none() {
            let answers = evaluate(&context.session, &select::pairs(context, download, measured)?, &rules, &path)?;
            let passes = |row: &u32| answers.iter().all(|answers| answers.passed.value(*row as usize));
            allowed.extend((0..batch.num_rows() as u32).filter(passes).map(|row| (part, row)));
        }
        files.push(table::file(&context.run, download, schema::pool().name)?);
    }
    let mut wanted: BTreeMap<Place, Membership> = BTreeMap::new();
    let none = Membership { arms: 0, may_be_held_out: false };
    let with_keys = |places: &mut dyn Iterator<Item = Place>| -> Vec<(String, Place)> {
        places.filter_map(|place| Some((uids.get(&place)?.clone(), place))).collect()
    };
    for (arm, selection) in config.selections() {
        let mut kept = shards::kept_rows(context, selection, &downloads)?.into_iter();
        // The spare ones make up for those that are held out.
        let most = config.most_pairs.saturating_add(config.held_out_most);
        for place in sample(with_keys(&mut kept), most, seed, "arm") {
            wanted.entry(place).or_insert(none).arms |= 1 << arm;
        }
    }
    let mut candidates = allowed.iter().copied();
    for place in sample(with_keys(&mut candidates), config.held_out_most.saturating_mul(SPARE), seed, "may be held out")
    {
        wanted.entry(place).or_insert(none).may_be_held_out = true;
    }
    // What may be held out does not depend on how many candidates that no arm has are loaded.
    for (place, membership) in &mut wanted {
        membership.may_be_held_out |= allowed.contains(place);
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
        let places =
            (0..batch.num_rows()).filter(|row| captions.is_valid(*row) && !captions.value(*row).trim().is_empty());
        let places = places.map(|row| (uids.value(row).to_owned(), (part, row as u32)));
        keys.extend(places.filter(|(_, place)| kept.as_ref().is_none_or(|kept| kept.contains(place))));
    }
    let chosen = sample(keys, most.saturating_mul(2), seed, "arm");
    write(files, &chosen.into_iter().map(|place| (place, membership)).collect(), writer)
}

fn write(files: &[PathBuf], wanted: &BTreeMap<Place, Membership>, writer: &mut Writer) -> Result<()> {
    for (part, path) in files.iter().enumerate() {
        if wanted.range((part, 0)..=(part, u32::MAX)).next().is_none() {
            continue;
        }
        write_part(part, path, wanted, writer)
            .with_context(|| format!("cannot read the pairs of {}", path.display()))?;
    }
    Ok(())
}

fn write_part(part: usize, path: &Path, wanted: &BTreeMap<Place, Membership>, writer: &mut Writer) -> Result<()> {
    let mut first = 0;
    for batch in table::batches(path, Some(&["uid", "caption", "image"]))? {
        let batch = batch?;
        let (uids, captions) = (table::texts(&batch, "uid", path)?, table::texts(&batch, "caption", path)?);
        let pictures = table::pictures(&batch, path)?;
        let end = first + batch.num_rows() as u32;
        for ((_, row), membership) in wanted.range((part, first)..(part, end)) {
            let row = (*row - first) as usize;
            writer.add(RawPair {
                uid: Some(uids.value(row).to_owned()),
                membership: *membership,
                turns: vec![Turn::caption(captions.value(row))],
                picture: pictures.value(row).to_vec(),
            })?;
        }
        first = end;
    }
    Ok(())
}
