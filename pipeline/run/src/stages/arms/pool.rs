//! Pairs of pools: the selections of this run, and pools of other runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, StringArray};
use lynxdata_check::Turn;
use lynxdata_engine::select::{Rule, evaluate};
use lynxdata_records::schema;
use lynxdata_records::schema::{CAPTION, Column, IMAGE, UID};

use super::sample::Sample;
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

/// An arm that is a selection of this run.
struct Arm<'a> {
    number: usize,
    /// Of its texts, if they are not the captions.
    column: Option<&'a str>,
    /// The places of its pairs, in order.
    kept: Vec<Place>,
    /// Places, and whether the pair may be held out.
    sample: Sample<'a, (Place, bool)>,
}

/// Writes the pairs of all arms that are selections of this run, and the pairs of its pool that may
/// be held out.
pub(super) fn write_selections(context: &Context, config: &CheckConfig, writer: &mut Writer) -> Result<()> {
    let seed = context.recipe().seed;
    let pool = pool_of(context)?;
    let rules: Vec<Rule> = config.held_out_rule().into_iter().collect();
    let columns: BTreeSet<Option<&str>> = config.selections().map(|(_, _, column)| column).chain([None]).collect();
    // The spare pairs replace those that are held out.
    let most = config.most_pairs.saturating_add(config.held_out_most);
    let mut arms = Vec::new();
    for (arm, selection, column) in config.selections() {
        let kept = shards::kept_places(context, selection, &pool)?;
        arms.push(Arm { number: arm, column, kept, sample: Sample::new("arm", seed, most) });
    }
    let spare = config.held_out_most.saturating_mul(SPARE);
    let mut may_be_held_out = Sample::new("may be held out", seed, spare);
    for (number, part) in (0..).zip(&pool.parts) {
        let path = part.path(&context.run)?;
        let names: Vec<&str> = columns.iter().map(|column| texts(*column).name).chain([UID.name]).collect();
        let batch = part.columns(&context.run, &names)?;
        let place = |row: usize| Place { part: number, row: row as u32 };
        let uids = UID.of(&batch, &path)?;
        let mut is_allowed = vec![config.evaluate_on.is_none(); batch.num_rows()];
        if config.evaluate_on.is_none() {
            for rule in evaluate(&context.session, &select::pairs(context, part)?, &rules, &path)? {
                is_allowed.iter_mut().enumerate().for_each(|(row, allowed)| *allowed &= rule.passed.value(row));
            }
        }
        for arm in &mut arms {
            let texts = texts(arm.column).of(&batch, &path)?;
            for place in of_part(&arm.kept, number, batch.num_rows(), &path)? {
                let row = place.row as usize;
                if has_text(texts, row) {
                    arm.sample.offer(uids.value(row), (*place, is_allowed[row]));
                }
            }
        }
        let captions = CAPTION.of(&batch, &path)?;
        for row in (0..batch.num_rows()).filter(|row| is_allowed[*row] && has_text(captions, *row)) {
            may_be_held_out.offer(uids.value(row), place(row));
        }
    }
    let mut wanted: BTreeMap<Text, Membership> = BTreeMap::new();
    let none = Membership { arms: 0, may_be_held_out: false };
    for arm in arms {
        for (place, is_allowed) in arm.sample.into_keys() {
            let membership = wanted.entry((place, arm.column)).or_insert(none);
            membership.arms |= 1 << arm.number;
            // Does not depend on how many candidates outside the arms are loaded.
            membership.may_be_held_out |= arm.column.is_none() && is_allowed;
        }
    }
    for place in may_be_held_out.into_keys() {
        wanted.entry((place, None)).or_insert(none).may_be_held_out = true;
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
    let mut sample = Sample::new("arm", seed, most);
    for (part, path) in (0..).zip(files) {
        let batch = table::read(path, Some(&[UID.name, CAPTION.name]))?;
        let (uids, captions) = (UID.of(&batch, path)?, CAPTION.of(&batch, path)?);
        let mut without_text = 0;
        let mut offer = |place: Place| match place.row as usize {
            row if has_text(captions, row) => sample.offer(uids.value(row), place),
            _ => without_text += 1,
        };
        match kept {
            Some(kept) => of_part(kept, part, batch.num_rows(), path)?.iter().copied().for_each(offer),
            None => (0..batch.num_rows()).for_each(|row| offer(Place { part, row: row as u32 })),
        }
        writer.leave_out("pairs_without_text", without_text);
    }
    let chosen = sample.into_keys();
    let wanted = chosen.into_iter().map(|place| ((place, None), membership)).collect();
    write(&|part| Ok(files[part as usize].clone()), &wanted, writer)
}

/// Returns the places in one part, which has `rows` rows; `places` are in order.
fn of_part<'a>(places: &'a [Place], part: u32, rows: usize, path: &Path) -> Result<&'a [Place]> {
    let first = places.partition_point(|place| place.part < part);
    let end = places.partition_point(|place| place.part <= part);
    let places = &places[first..end];
    if places.last().is_some_and(|last| last.row as usize >= rows) {
        bail!("{} has fewer rows than its selection", path.display());
    }
    Ok(places)
}

/// Returns the column of the texts of an arm, by its name if they are not the captions.
fn texts(column: Option<&str>) -> Column<'_, StringArray> {
    column.map_or(CAPTION, Column::named)
}

fn has_text(texts: &StringArray, row: usize) -> bool {
    texts.is_valid(row) && !texts.value(row).trim().is_empty()
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
        places.iter().flat_map(|place| texts_of(*place)).map(|((_, column), _)| texts(*column).name).collect();
    let names: Vec<&str> = columns.iter().copied().chain([UID.name, IMAGE.name]).collect();
    for_each_at(&|_| Ok(path.to_owned()), places, Some(&names), &mut |here, batch| {
        let uids = UID.of(batch, path)?;
        let pictures = table::pictures(batch, path)?;
        for (row, place) in here.iter().enumerate() {
            let uid = uids.value(row);
            // Two columns may have the same text: then it is one pair of the arms of both.
            let mut pairs: Vec<(Turn, Option<&str>, Membership)> = Vec::new();
            for ((_, column), membership) in texts_of(*place) {
                let text = Turn::caption(texts(*column).of(batch, path)?.value(row));
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
