//! Pairs of pools: the selections of this run, and pools of other runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use arrow::array::Array;
use lynxdata_check::Turn;
use lynxdata_engine::select::{Rule, evaluate};
use lynxdata_records::schema;
use lynxdata_records::schema::{CAPTION, IMAGE, UID};

use super::sample;
use super::table::{Membership, RawPair, Writer};
use crate::pool::{Place, for_each_at};
use crate::recipe::CheckConfig;
use crate::stage::Context;
use crate::stages::dedup::pool_of;
use crate::stages::{select, shards};
use crate::table;

/// Factor by which more pairs are loaded than may be held out, because some are skipped when others
/// have the same text.
const SPARE: usize = 3;

/// A text of a pool: a place, and the column if it is not the caption.
type Text<'a> = (Place, Option<&'a str>);

/// Writes the pairs of all arms that are selections of this run, and the pairs of its pool that may
/// be held out.
pub(super) fn write_selections(context: &Context, config: &CheckConfig, writer: &mut Writer) -> Result<()> {
    let seed = context.recipe().seed;
    let pool = pool_of(context)?;
    let rules: Vec<Rule> = config.held_out_rule().into_iter().collect();
    let columns: BTreeSet<Option<&str>> = config.selections().map(|(_, _, column)| column).chain([None]).collect();
    let mut uids: BTreeMap<Text, String> = BTreeMap::new();
    let mut allowed: BTreeSet<Place> = BTreeSet::new();
    for (number, part) in (0..).zip(&pool.parts) {
        let path = part.path(&context.run)?;
        let names: Vec<&str> = columns.iter().map(|column| column.unwrap_or(CAPTION)).chain([UID]).collect();
        let batch = part.columns(&context.run, &names)?;
        let place = |row: usize| Place { part: number, row: row as u32 };
        let keys = table::texts(&batch, UID, &path)?;
        for column in &columns {
            let texts = table::texts(&batch, column.unwrap_or(CAPTION), &path)?;
            let there =
                (0..batch.num_rows()).filter(|row| texts.is_valid(*row) && !texts.value(*row).trim().is_empty());
            uids.extend(there.map(|row| ((place(row), *column), keys.value(row).to_owned())));
        }
        if config.evaluate_on.is_none() {
            let answers = evaluate(&context.session, &select::pairs(context, part)?, &rules, &path)?;
            let passes = |row: &usize| answers.iter().all(|answers| answers.passed.value(*row));
            allowed.extend((0..batch.num_rows()).filter(passes).map(place));
        }
    }
    let mut wanted: BTreeMap<Text, Membership> = BTreeMap::new();
    let none = Membership { arms: 0, may_be_held_out: false };
    for (arm, selection, column) in config.selections() {
        let kept = shards::kept_places(context, selection, &pool)?;
        let keys = kept.into_iter().filter_map(|place| Some((uids.get(&(place, column))?.clone(), place)));
        // The spare pairs replace those that are held out.
        let most = config.most_pairs.saturating_add(config.held_out_most);
        for place in sample(keys, most, seed, "arm") {
            wanted.entry((place, column)).or_insert(none).arms |= 1 << arm;
        }
    }
    let keys = allowed.iter().filter_map(|place| Some((uids.get(&(*place, None))?.clone(), *place)));
    for place in sample(keys, config.held_out_most.saturating_mul(SPARE), seed, "may be held out") {
        wanted.entry((place, None)).or_insert(none).may_be_held_out = true;
    }
    // The choice of held-out pairs does not depend on how many candidates outside the arms are
    // loaded.
    for ((place, column), membership) in &mut wanted {
        membership.may_be_held_out |= column.is_none() && allowed.contains(place);
    }
    let file = |part: u32| table::file(&context.run, &pool.parts[part as usize].pairs, schema::pool().name);
    write(&file, &wanted, writer)
}

/// Writes the pairs of the pool of another run; `kept` are the pairs of a selection over it.
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
    for (part, path) in (0..).zip(files) {
        let batch = table::read(path, Some(&[UID, CAPTION]))?;
        let (uids, captions) = (table::texts(&batch, UID, path)?, table::texts(&batch, CAPTION, path)?);
        let places = (0..batch.num_rows()).map(|row| (uids.value(row).to_owned(), Place { part, row: row as u32 }));
        let places = places.filter(|(_, place)| kept.as_ref().is_none_or(|kept| kept.contains(place)));
        let has_text = |row: usize| captions.is_valid(row) && !captions.value(row).trim().is_empty();
        let (with_text, without): (Vec<_>, Vec<_>) = places.partition(|(_, place)| has_text(place.row as usize));
        writer.leave_out("pairs_without_text", without.len() as u64);
        keys.extend(with_text);
    }
    let chosen = sample(keys, most, seed, "arm");
    let wanted = chosen.into_iter().map(|place| ((place, None), membership)).collect();
    write(&|part| Ok(files[part as usize].clone()), &wanted, writer)
}

/// Writes texts of pairs; `file` returns the file of a part of the pool.
fn write(
    file: &dyn Fn(u32) -> Result<PathBuf>,
    wanted: &BTreeMap<Text, Membership>,
    writer: &mut Writer,
) -> Result<()> {
    let mut places: Vec<Place> = wanted.keys().map(|(place, _)| *place).collect();
    places.dedup(); // several texts of one pair follow each other
    for of_part in places.chunk_by(|a, b| a.part == b.part) {
        let path = file(of_part[0].part)?;
        write_part(&path, of_part, wanted, writer)
            .with_context(|| format!("cannot read the pairs of {}", path.display()))?;
    }
    Ok(())
}

fn write_part(path: &Path, places: &[Place], wanted: &BTreeMap<Text, Membership>, writer: &mut Writer) -> Result<()> {
    let texts_of = |place: Place| wanted.range((place, None)..).take_while(move |((at, _), _)| *at == place);
    let columns: BTreeSet<&str> =
        places.iter().flat_map(|place| texts_of(*place)).map(|((_, column), _)| column.unwrap_or(CAPTION)).collect();
    let names: Vec<&str> = columns.iter().copied().chain([UID, IMAGE]).collect();
    for_each_at(&|_| Ok(path.to_owned()), places, Some(&names), &mut |here, batch| {
        let uids = table::texts(batch, UID, path)?;
        let pictures = table::pictures(batch, path)?;
        for (row, place) in here.iter().enumerate() {
            let uid = uids.value(row);
            // Two columns may have the same text: then it is one pair of the arms of both.
            let mut pairs: Vec<(Turn, Option<&str>, Membership)> = Vec::new();
            for ((_, column), membership) in texts_of(*place) {
                let text = Turn::caption(table::texts(batch, column.unwrap_or(CAPTION), path)?.value(row));
                match pairs.iter_mut().find(|(other, ..)| *other == text) {
                    Some((_, _, joined)) => {
                        joined.arms |= membership.arms;
                        joined.may_be_held_out |= membership.may_be_held_out;
                    }
                    None => pairs.push((text, *column, *membership)),
                }
            }
            for (text, column, membership) in pairs {
                writer.add(RawPair {
                    uid: Some(column.map_or_else(|| uid.to_owned(), |column| format!("{uid} {column}"))),
                    membership,
                    turns: vec![text],
                    pictures: vec![pictures.value(row).to_vec()],
                })?;
            }
        }
        Ok(())
    })
}
