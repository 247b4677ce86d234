//! Pairs that the report shows: samples of kept and rejected pairs, and duplicates.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use arrow::array::Array;
use lynxdata_engine::dedup::{Match, Matches};
use lynxdata_records::schema::{CAPTION, HEIGHT, IMAGE, UID, URL, WIDTH};
use lynxdata_records::{fingerprint, schema};
use lynxdata_report::data::{DuplicateCluster, Sample, Thumbnail, data_uri};

use crate::pool::{Place, Pool};
use crate::stage::Context;
use crate::stages::select::{self, Decisions, DuplicateCounts, DuplicateOf, Star};
use crate::stages::thumbnail::thumbnail;
use crate::table;

/// Shorter side of the images in the page, in pixels.
const THUMBNAIL_SIDE: u32 = 112;

/// Maximum number of members of a cluster that are shown.
const MEMBERS_SHOWN: usize = 6;

/// The pairs of a selection that the page shows.
pub(super) struct Shown {
    /// Kept pairs.
    pub(super) kept: Vec<Sample>,
    /// Rejected pairs with the reasons.
    pub(super) rejected: Vec<Sample>,
    /// Number of kept pairs that have duplicates, shown or not.
    pub(super) stars: u64,
    /// Some of them, with their duplicates.
    pub(super) duplicates: Vec<DuplicateCluster>,
}

/// Chooses the pairs of a selection to show; `passed` is the number of pairs that passed the rules.
pub(super) fn shown(context: &Context, pool: &Pool, selection: &str, passed: u64) -> Result<Shown> {
    let config = &context.recipe().report;
    let mut samples = Samples::new(context.recipe().seed, config.samples);
    let mut counts = DuplicateCounts::new(context.memory());
    for (part, decisions) in (0..).zip(select::decisions(context, selection, pool)?) {
        let decisions = decisions?;
        samples.add(part, &decisions);
        add_duplicates(&mut counts, part, &decisions)?;
    }
    let mut stars = Stars::new(config.clusters);
    counts.for_each(&mut |star| stars.add(star))?;
    let (kept, rejected) = samples.chosen();
    let show = |pairs: Vec<Drawn>| -> Result<Vec<Sample>> {
        let places: Vec<Place> = pairs.iter().map(|pair| pair.place).collect();
        let shown = thumbnails(context, pool, &places)?.into_iter().zip(pairs);
        let sample = |(thumbnail, pair): (Thumbnail, Drawn)| Sample {
            thumbnail: Thumbnail { kept: pair.reasons.is_empty(), ..thumbnail },
            reasons: pair.reasons,
        };
        Ok(shown.map(sample).collect())
    };
    Ok(Shown {
        kept: show(kept)?,
        rejected: show(rejected)?,
        stars: stars.count,
        duplicates: duplicates(context, pool, selection, &stars.largest(), passed)?,
    })
}

/// A pair that was drawn as a sample.
#[derive(Debug, Clone, PartialEq)]
struct Drawn {
    place: Place,
    /// Names of the rules that rejected it.
    reasons: Vec<String>,
}

/// Draws samples: the pairs with the smallest hashes of seed and key.
struct Samples {
    seed: String,
    most: usize,
    kept: BTreeMap<String, Drawn>,
    /// Rejected pairs, by the first reason.
    rejected: BTreeMap<String, BTreeMap<String, Drawn>>,
}

impl Samples {
    fn new(seed: u64, most: usize) -> Samples {
        Samples { seed: seed.to_string(), most, kept: BTreeMap::new(), rejected: BTreeMap::new() }
    }

    fn add(&mut self, part: u32, decisions: &Decisions) {
        for (row, uid) in decisions.uids.iter().enumerate() {
            let hash = fingerprint(["sample", &self.seed, uid.unwrap_or_default()]);
            let drawn = match decisions.reasons.of_pair(row).next() {
                None => &mut self.kept,
                Some(reason) if self.rejected.contains_key(reason) => {
                    self.rejected.get_mut(reason).expect("it is there")
                }
                Some(reason) => self.rejected.entry(reason.to_owned()).or_default(),
            };
            let is_among_least =
                drawn.len() < self.most || drawn.last_key_value().is_some_and(|(last, _)| hash < *last);
            if is_among_least {
                let reasons = decisions.reasons.of_pair(row).map(str::to_owned).collect();
                drawn.insert(hash, Drawn { place: Place { part, row: row as u32 }, reasons });
                if drawn.len() > self.most {
                    drawn.pop_last();
                }
            }
        }
    }

    /// Returns the samples of kept and rejected pairs. Every reason is shown once before any is
    /// shown twice.
    fn chosen(self) -> (Vec<Drawn>, Vec<Drawn>) {
        let in_turns = self.rejected.into_values().flat_map(|drawn| drawn.into_iter().enumerate());
        let mut in_turns: Vec<_> = in_turns.map(|(turn, (hash, pair))| ((turn, hash), pair)).collect();
        in_turns.sort_by(|(a, _), (b, _)| a.cmp(b));
        (self.kept.into_values().collect(), in_turns.into_iter().take(self.most).map(|(_, pair)| pair).collect())
    }
}

/// Adds the duplicates in a part of the pool.
fn add_duplicates(counts: &mut DuplicateCounts, part: u32, decisions: &Decisions) -> Result<()> {
    for row in 0..decisions.uids.len() {
        if let Some(duplicate) = decisions.duplicate(row) {
            counts.add(duplicate.uid, Place { part, row: row as u32 }, kind(&duplicate)?)?;
        }
    }
    Ok(())
}

/// The kept pairs with the most duplicates.
struct Stars {
    most: usize,
    /// Number of all kept pairs with duplicates.
    count: u64,
    /// The largest of them by the comparisons that found their duplicates, in their order.
    of_kinds: BTreeMap<Matches, BTreeMap<(Reverse<u64>, Place), Star>>,
}

impl Stars {
    fn new(most: usize) -> Stars {
        Stars { most, count: 0, of_kinds: BTreeMap::new() }
    }

    fn add(&mut self, star: Star) {
        self.count += 1;
        let of_kind = self.of_kinds.entry(star.kinds).or_default();
        of_kind.insert((Reverse(star.count), star.first), star);
        if of_kind.len() > self.most {
            of_kind.pop_last();
        }
    }

    /// Returns those with the most duplicates, but first one of each kind of match, because the
    /// largest ones are often all of one kind.
    fn largest(self) -> Vec<Star> {
        let ranked = self.of_kinds.into_values().flat_map(|of_kind| of_kind.into_iter().enumerate());
        let mut ranked: Vec<_> = ranked.map(|(turn, (rank, star))| ((turn > 0, rank), star)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().take(self.most).map(|(_, star)| star).collect()
    }
}

fn kind(duplicate: &DuplicateOf<'_>) -> Result<Match> {
    let found = Match::ALL.into_iter().find(|by| by.name() == duplicate.by);
    found.with_context(|| format!("a selection has the comparison {}, which there is not", duplicate.by))
}

/// A kept pair and the first of its duplicates, with a note on each.
#[derive(Default)]
struct Members {
    kept: Option<Place>,
    duplicates: Vec<(Place, String)>,
}

/// Reads some kept pairs with their duplicates.
fn duplicates(
    context: &Context,
    pool: &Pool,
    selection: &str,
    stars: &[Star],
    passed: u64,
) -> Result<Vec<DuplicateCluster>> {
    let mut members: BTreeMap<&str, Members> = stars.iter().map(|star| (&*star.uid, Members::default())).collect();
    for (part, decisions) in (0..).zip(select::decisions(context, selection, pool)?) {
        let decisions = decisions?;
        for (row, uid) in decisions.uids.iter().enumerate() {
            let place = Place { part, row: row as u32 };
            if let Some(duplicate) = decisions.duplicate(row) {
                if let Some(members) = members.get_mut(duplicate.uid)
                    && members.duplicates.len() + 1 < MEMBERS_SHOWN
                {
                    let note = match duplicate.distance {
                        Some(bits) => format!("pHash differs in {bits} bits"),
                        None => in_words(kind(&duplicate)?, context),
                    };
                    members.duplicates.push((place, note));
                }
            } else if let Some(members) = members.get_mut(uid.unwrap_or_default()) {
                members.kept = Some(place);
            }
        }
    }
    let mut shown = Vec::new();
    for star in stars {
        let Members { kept, duplicates } = &members[&*star.uid];
        let kept = kept.context("a selection names a kept pair that it does not contain; this is a bug")?;
        let places: Vec<Place> = std::iter::once(kept).chain(duplicates.iter().map(|(place, _)| *place)).collect();
        let mut thumbnails = thumbnails(context, pool, &places)?;
        for (thumbnail, (_, note)) in thumbnails[1..].iter_mut().zip(duplicates) {
            (thumbnail.kept, thumbnail.note) = (false, note.clone());
        }
        let count = star.count;
        let warning = if select::is_improbable(count, passed) {
            format!("{count} of {passed} pairs that pass the rules: more than are likely to show the same image")
        } else {
            String::new()
        };
        shown.push(DuplicateCluster {
            kind: star.kinds.iter().map(|by| in_words(by, context)).collect::<Vec<_>>().join(", "),
            size: count + 1,
            members: thumbnails,
            warning,
        });
    }
    Ok(shown)
}

fn in_words(by: Match, context: &Context) -> String {
    match by {
        Match::Exact => "the same bytes".to_owned(),
        Match::Url => "the same URL".to_owned(),
        Match::Phash => format!("pHash within {} bits", context.recipe().dedup.phash_distance),
    }
}

/// Reads the pairs at these places, in the order of the places.
fn thumbnails(context: &Context, pool: &Pool, places: &[Place]) -> Result<Vec<Thumbnail>> {
    let mut found: BTreeMap<Place, Thumbnail> = BTreeMap::new();
    let in_order: BTreeSet<Place> = places.iter().copied().collect();
    let in_order: Vec<Place> = in_order.into_iter().collect();
    let columns = [UID.name, URL.name, CAPTION.name, IMAGE.name, WIDTH.name, HEIGHT.name];
    let path = Path::new(schema::pool().name);
    pool.for_each_at(&context.run, &in_order, Some(&columns), &mut |here, rows| {
        let (uids, urls) = (UID.of(rows, path)?, URL.of(rows, path)?);
        let captions = CAPTION.of(rows, path)?;
        let widths = WIDTH.of(rows, path)?;
        let heights = HEIGHT.of(rows, path)?;
        let pictures = table::pictures(rows, path)?;
        for (row, place) in here.iter().enumerate() {
            let thumbnail = Thumbnail {
                uid: uids.value(row).to_owned(),
                caption: captions.value(row).to_owned(),
                url: urls.value(row).to_owned(),
                image_data_uri: small_picture(pictures.value(row)),
                width: widths.value(row) as u32,
                height: heights.value(row) as u32,
                kept: true,
                note: String::new(),
            };
            found.insert(*place, thumbnail);
        }
        Ok(())
    })?;
    Ok(places.iter().map(|place| found[place].clone()).collect())
}

/// Returns an image small enough for the page. An image that cannot be decoded is left out, and the
/// pair is shown without it.
fn small_picture(bytes: &[u8]) -> String {
    thumbnail(bytes.to_vec(), THUMBNAIL_SIDE).map_or_else(String::new, |picture| data_uri("image/jpeg", &picture.bytes))
}

#[cfg(test)]
mod tests {
    use lynxdata_records::temporary::Memory;

    use super::*;

    /// Decisions on so many pairs, whose fate depends on their numbers: most are kept, some are
    /// rejected by one of two rules, and some are duplicates of pair 0 or 1.
    fn decisions(first: u64, pairs: u64) -> Decisions {
        let fate = |pair: u64| match pair % 10 {
            1 => vec!["small"],
            2 | 3 => vec!["dark", "small"],
            4 if pair > 10 => vec!["duplicate"],
            _ => vec![],
        };
        let duplicate = |pair: u64| (fate(pair) == ["duplicate"]).then(|| (pair % 20 / 14).to_string());
        let by = |pair: u64| duplicate(pair).map(|of| if of == "0" { "url" } else { "phash" });
        let rows = first..first + pairs;
        Decisions::of(
            rows.clone().map(|pair| Some(pair.to_string())).collect(),
            rows.clone().map(fate).collect(),
            rows.clone().map(duplicate).collect(),
            rows.map(by).collect(),
        )
    }

    #[test]
    fn samples_are_those_of_all_pairs_in_the_order_of_their_hashes() {
        let mut samples = Samples::new(7, 5);
        let mut all = Vec::new();
        for part in 0..4 {
            let decisions = decisions(u64::from(part) * 100, 100);
            samples.add(part, &decisions);
            for (row, uid) in (0..).zip(decisions.uids.iter()) {
                let reasons: Vec<String> = decisions.reasons.of_pair(row as usize).map(str::to_owned).collect();
                let hash = fingerprint(["sample", "7", uid.unwrap()]);
                all.push((hash, Drawn { place: Place { part, row }, reasons }));
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        let (kept, rejected) = samples.chosen();
        let expected = all.iter().filter(|(_, pair)| pair.reasons.is_empty()).map(|(_, pair)| pair.clone());
        assert_eq!(kept, expected.take(5).collect::<Vec<_>>());
        // Three reasons, of which each has its first pair before any has its second one.
        let first: BTreeSet<&str> = rejected[..3].iter().map(|pair| pair.reasons[0].as_str()).collect();
        assert_eq!(first, BTreeSet::from(["dark", "duplicate", "small"]));
        assert_eq!(rejected.len(), 5);
    }

    #[test]
    fn the_largest_stars_are_shown_and_one_of_each_kind_first() {
        let shown = |most| {
            let mut stars = Stars::new(most);
            for (uid, count, by, row) in
                [("a", 9, Match::Url, 3), ("b", 8, Match::Url, 2), ("c", 8, Match::Url, 1), ("d", 2, Match::Phash, 0)]
            {
                let first = Place { part: 0, row };
                stars.add(Star { uid: uid.into(), count, kinds: by.into(), first, first_by: by });
            }
            assert_eq!(stars.count, 4);
            stars.largest().into_iter().map(|star| String::from(star.uid)).collect::<Vec<_>>()
        };
        assert_eq!(shown(4), ["a", "d", "c", "b"]);
        assert_eq!(shown(1), ["a"]);
    }

    #[test]
    fn duplicates_are_counted_under_the_pair_that_is_kept() {
        let mut counts = DuplicateCounts::new(Memory::unlimited());
        for part in 0..2 {
            add_duplicates(&mut counts, part, &decisions(u64::from(part) * 100, 100)).unwrap();
        }
        let mut counted = Vec::new();
        counts.for_each(&mut |star| counted.push(star)).unwrap();
        let star = |uid: &str, count, by: Match, row| Star {
            uid: uid.into(),
            count,
            kinds: by.into(),
            first: Place { part: 0, row },
            first_by: by,
        };
        assert_eq!(counted, [star("0", 9, Match::Url, 24), star("1", 10, Match::Phash, 14)]);
    }
}
