//! Stage `dedup`: assigns every pair of the pool to a cluster of duplicates.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{Array, ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use lynxdata_engine::dedup::{Candidate, Clusters, DedupConfig, Key, Match, Matches, Membership, TakeKey, cluster};
use lynxdata_filters::parse_hash_hex;
use lynxdata_records::schema::{CAPTION, ORIGINAL_HEIGHT, ORIGINAL_WIDTH, SHA256, UID, URL};
use lynxdata_records::temporary::{Sortable, SortedRecords, Sorter, text_bytes};
use lynxdata_records::{NewPart, fingerprint, parquet, schema};
use serde::{Deserialize, Serialize};

use crate::pool::{ENTROPY, PHASH, Pool, PoolPart};
use crate::recipe::Recipe;
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::stages::download::Download;
use crate::stages::signals::Signals;

/// Version of the clusters. Raise it when the same pool gives other clusters.
const FORMAT_VERSION: &str = "2";

/// Finds the clusters of duplicate pairs.
pub struct Dedup;

impl Stage for Dedup {
    fn name(&self) -> &'static str {
        "dedup"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some() && recipe.has_pool_table()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(compared(&recipe.dedup))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Download, &Signals]
    }

    /// Returns one part, because a duplicate may be in any other part of the pool. It has one file
    /// for each part of the pool.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = &context.recipe().dedup;
        let pool = pool_of(context)?;
        let settings = compared(config);
        let print = fingerprint(["dedup", FORMAT_VERSION, &settings, &pool.digest()]);
        let make = Box::new(move |new: &mut NewPart| {
            let pairs: u64 = pool.parts.iter().map(|part| part.pairs.rows_out).sum();
            if pairs > u64::from(u32::MAX) {
                bail!("the pool has {pairs} pairs, more than the {} that can be compared with each other", u32::MAX);
            }
            let clusters = cluster(config, &context.memory(), &mut |by, each| scan(context, &pool, config, by, each))?;
            write(context, &pool, named(context, &pool, clusters)?, new)
        });
        Ok(Box::new(std::iter::once(Ok(Planned::new("all", print, make)))))
    }
}

/// Returns the settings that decide which pairs are duplicates.
pub(crate) fn compared(config: &DedupConfig) -> String {
    // A new setting must be named here. Selections decide which of two duplicates is kept.
    let DedupConfig { exact, url, phash_distance, phash_min_entropy, keep: _ } = config;
    settings_text(&(exact, url, phash_distance, phash_min_entropy))
}

/// Reads the narrow columns that a comparison needs, part by part.
fn scan(context: &Context, pool: &Pool, config: &DedupConfig, by: Match, each: &mut TakeKey<'_>) -> Result<()> {
    let mut first = 0;
    for part in &pool.parts {
        let path = part.path(&context.run)?;
        match by {
            Match::Url | Match::Exact => {
                let column = if by == Match::Url { URL } else { SHA256 };
                let rows = part.columns(&context.run, &[column.name])?;
                let texts = column.of(&rows, &path)?;
                for (index, text) in (first..).zip(texts) {
                    if let Some(key) = text.and_then(key) {
                        each(index, key)?;
                    }
                }
            }
            Match::Phash => {
                let rows = part.signals(&context.run, Some(&[PHASH.name, ENTROPY.name]))?;
                let hashes = PHASH.of(&rows, &path)?;
                let entropies = ENTROPY.of(&rows, &path)?;
                for (index, (hash, entropy)) in (first..).zip(hashes.iter().zip(entropies)) {
                    if let Some(hash) = hash.and_then(parse_hash_hex).filter(|_| config.compares(entropy)) {
                        each(index, Key::of_phash(hash))?;
                    }
                }
            }
        }
        first += part.pairs.rows_out as u32;
    }
    Ok(())
}

/// Returns the key of a text that two pairs may share. An empty text matches nothing.
fn key(text: &str) -> Option<Key> {
    (!text.is_empty()).then(|| Key::of_text(text))
}

/// A pair that has duplicates. They are in the order of the pool.
#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Member {
    index: u32,
    /// Index and key of the first pair of its cluster, after which the cluster is named.
    first: (u32, Box<str>),
    /// Number of pairs in the cluster.
    size: u32,
    matched_by: Matches,
}

impl Sortable for Member {
    fn heap_bytes(&self) -> usize {
        text_bytes(&self.first.1)
    }
}

/// Names the clusters, and returns their pairs in the order of the pool.
fn named(context: &Context, pool: &Pool, clusters: Clusters) -> Result<SortedRecords<Member>> {
    let mut members = Sorter::new(context.memory().share(2));
    let mut parts = pool.parts.iter();
    let (mut uids, mut first) = (StringArray::new_null(0), 0);
    for member in clusters {
        // The clusters come in the order of their first pairs, so each part is read once.
        let (index, Membership { cluster, size, matched_by }) = member?;
        while cluster - first >= uids.len() as u32 {
            first += uids.len() as u32;
            let part = parts.next().context("a cluster begins after the end of the pool; this is a bug")?;
            let rows = part.columns(&context.run, &[UID.name])?;
            uids = UID.of(&rows, &part.path(&context.run)?)?.clone();
        }
        let name = uids.value((cluster - first) as usize);
        members.push(Member { index, first: (cluster, name.into()), size, matched_by })?;
    }
    Ok(members.sorted()?)
}

/// Writes the cluster of every pair, one file for each part of the pool.
fn write(context: &Context, pool: &Pool, mut members: SortedRecords<Member>, new: &mut NewPart) -> Result<()> {
    let mut first = 0;
    for part in &pool.parts {
        let rows = part.columns(&context.run, &[UID.name])?;
        let uids = UID.of(&rows, &part.path(&context.run)?)?.clone();
        let of_pair = |index| members.next_if(|next| next.index == index).transpose();
        let of_part = (first..).take(uids.len()).map(of_pair).collect::<Result<Vec<Option<Member>>, _>>()?;
        for member in &of_part {
            let class = match member {
                None => "unique",
                Some(member) if member.index == member.first.0 => "first_of_cluster",
                Some(_) => "duplicate",
            };
            *new.counts.entry(class.to_owned()).or_default() += 1;
        }
        let batch = to_batch(&uids, &of_part)?;
        let file = format!("{}/part-{}.parquet", schema::clusters().name, part.pairs.part);
        parquet::write(&context.run.stage_file(new, &file)?, &batch.schema(), [&batch])?;
        new.rows_in += uids.len() as u64;
        first += uids.len() as u32;
    }
    if members.next().is_some() {
        bail!("a pair with duplicates was not written; this is a bug");
    }
    new.rows_out = new.rows_in;
    Ok(())
}

fn to_batch(uids: &StringArray, members: &[Option<Member>]) -> Result<RecordBatch> {
    let mut matched_by = ListBuilder::new(StringBuilder::new());
    for member in members {
        let matches = member.iter().flat_map(|member| member.matched_by.iter());
        matches.for_each(|by| matched_by.values().append_value(by.name()));
        matched_by.append(true);
    }
    let names = uids.iter().zip(members).map(|(uid, member)| member.as_ref().map(|member| &*member.first.1).or(uid));
    let sizes = members.iter().map(|member| member.as_ref().map_or(1, |member| i64::from(member.size)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(uids.clone()),
        Arc::new(names.collect::<StringArray>()),
        Arc::new(Int64Array::from_iter_values(sizes)),
        Arc::new(matched_by.finish()),
    ];
    RecordBatch::try_new(schema::clusters().schema(), columns).context("clusters do not fit their schema")
}

/// Returns the pool of the run with its signals.
///
/// # Errors
/// If it is not complete.
pub(crate) fn pool_of(context: &Context) -> Result<Pool> {
    Pool::with_signals(context.upstream(&Download)?, &context.upstream(&Signals)?)
}

/// Returns the data that deduplication needs of some pairs of a part, by their rows.
pub(crate) fn candidates(context: &Context, part: &PoolPart, rows: &[u32]) -> Result<Vec<Candidate>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let columns = [URL.name, CAPTION.name, ORIGINAL_WIDTH.name, ORIGINAL_HEIGHT.name, SHA256.name];
    let pairs = part.columns(&context.run, &columns)?;
    let measured = part.signals(&context.run, Some(&[PHASH.name, ENTROPY.name]))?;
    let path = &part.path(&context.run)?;
    let (urls, captions, digests) = (URL.of(&pairs, path)?, CAPTION.of(&pairs, path)?, SHA256.of(&pairs, path)?);
    let (widths, heights) = (ORIGINAL_WIDTH.of(&pairs, path)?, ORIGINAL_HEIGHT.of(&pairs, path)?);
    let (hashes, entropies) = (PHASH.of(&measured, path)?, ENTROPY.of(&measured, path)?);
    let text = |texts: &StringArray, row: usize| texts.is_valid(row).then(|| key(texts.value(row))).flatten();
    let candidate = |row: &u32| {
        let row = *row as usize;
        Candidate {
            url: text(urls, row),
            bytes: text(digests, row),
            phash: hashes.is_valid(row).then(|| parse_hash_hex(hashes.value(row))).flatten(),
            entropy: entropies.is_valid(row).then(|| entropies.value(row)),
            original_pixels: widths.value(row) * heights.value(row),
            caption_characters: captions.value(row).chars().count(),
        }
    };
    Ok(rows.iter().map(candidate).collect())
}
