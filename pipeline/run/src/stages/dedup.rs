//! Stage `dedup`: every pair of the pool gets the cluster of pairs that show the same thing.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use lynxdata_engine::dedup::{Candidate, Digest, Membership, cluster};
use lynxdata_filters::parse_hash_hex;
use lynxdata_records::{NewPart, fingerprint, parquet, schema};

use crate::pool::{Pool, PoolPart};
use crate::recipe::Recipe;
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::stages::download::Download;
use crate::stages::signals::Signals;
use crate::table;

/// Raise it when the same pool gives other clusters.
const FORMAT_VERSION: &str = "2";

/// Finds the clusters of pairs that show the same thing.
pub struct Dedup;

impl Stage for Dedup {
    fn name(&self) -> &'static str {
        "dedup"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.source.is_some() && recipe.has_pool_table()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(&recipe.dedup))
    }

    fn format_version(&self) -> &'static str {
        FORMAT_VERSION
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Download, &Signals]
    }

    /// One part, because a duplicate may lie in any other part; it has one file for each part of the pool.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = &context.recipe().dedup;
        let pool = pool_of(context)?;
        let settings = settings_text(&(config.exact, config.url, config.phash_distance, config.phash_min_entropy));
        let print = fingerprint(["dedup", FORMAT_VERSION, &settings, &pool.digest()]);
        let make = Box::new(move |new: &mut NewPart| {
            let candidates = candidates(context, &pool)?;
            let members = cluster(&candidates.pairs, config);
            new.rows_in = members.len() as u64;
            new.rows_out = members.len() as u64;
            let mut first = 0;
            for PoolPart { pairs: part, .. } in &pool.parts {
                let rows = first..first + part.rows_out as usize;
                first = rows.end;
                let batch = to_batch(&candidates.uids, &members, rows)?;
                let file = format!("{}/part-{}.parquet", schema::clusters().name, part.part);
                parquet::write(&context.run.stage_file(new, &file)?, &batch.schema(), [&batch])?;
            }
            for (index, member) in members.iter().enumerate() {
                let class = match member {
                    Membership { size: 1, .. } => "unique",
                    Membership { cluster, .. } if *cluster == index => "first_of_cluster",
                    _ => "duplicate",
                };
                *new.counts.entry(class.to_owned()).or_default() += 1;
            }
            Ok(())
        });
        Ok(Box::new(std::iter::once(Ok(Planned::new("all".to_owned(), print, make)))))
    }
}

fn to_batch(uids: &[String], members: &[Membership], rows: std::ops::Range<usize>) -> Result<RecordBatch> {
    let mut matched_by = ListBuilder::new(StringBuilder::new());
    for member in &members[rows.clone()] {
        member.matched_by.iter().for_each(|by| matched_by.values().append_value(by.name()));
        matched_by.append(true);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(&uids[rows.clone()])),
        Arc::new(StringArray::from_iter_values(members[rows.clone()].iter().map(|member| &uids[member.cluster]))),
        Arc::new(Int64Array::from_iter_values(members[rows].iter().map(|member| member.size as i64))),
        Arc::new(matched_by.finish()),
    ];
    RecordBatch::try_new(schema::clusters().schema(), columns).context("clusters do not fit their schema")
}

/// The pool of the run with its signals.
///
/// # Errors
/// If it is not complete.
pub(crate) fn pool_of(context: &Context) -> Result<Pool> {
    Pool::with_signals(context.upstream(&Download)?, &context.upstream(&Signals)?)
}

/// What deduplication knows of every pair, in the order of the pool.
pub(crate) fn candidates(context: &Context, pool: &Pool) -> Result<Candidates> {
    let mut candidates = Candidates::default();
    for part in &pool.parts {
        append_candidates(context, part, &mut candidates)?;
    }
    Ok(candidates)
}

/// What deduplication knows of every pair of the pool, side by side with their keys.
#[derive(Default)]
pub(crate) struct Candidates {
    pub uids: Vec<String>,
    pub pairs: Vec<Candidate>,
}

/// The digest of a text that two pairs may have in common. What is not there is in common with nothing.
fn digest(texts: &StringArray, row: usize) -> Option<Digest> {
    let text = texts.is_valid(row).then(|| texts.value(row)).filter(|text| !text.is_empty())?;
    let digest = fingerprint([text]);
    Some(Digest::from_str_radix(&digest[..32], 16).expect("a fingerprint is 64 hexadecimal digits"))
}

fn append_candidates(context: &Context, part: &PoolPart, candidates: &mut Candidates) -> Result<()> {
    let columns = ["uid", "url", "caption", "original_width", "original_height", "sha256"];
    let (pairs, measured) =
        (part.columns(&context.run, &columns)?, part.signals(&context.run, Some(&["phash", "entropy"]))?);
    let pool = &part.path(&context.run)?;
    let uids = table::texts(&pairs, "uid", pool)?;
    let urls = table::texts(&pairs, "url", pool)?;
    let captions = table::texts(&pairs, "caption", pool)?;
    let widths = table::integers(&pairs, "original_width", pool)?;
    let heights = table::integers(&pairs, "original_height", pool)?;
    let digests = table::texts(&pairs, "sha256", pool)?;
    let hashes = table::texts(&measured, "phash", pool)?;
    let entropies: &Float64Array = parquet::typed_column(&measured, "entropy", pool)?;
    candidates.uids.extend(uids.iter().flatten().map(str::to_owned));
    candidates.pairs.extend((0..pairs.num_rows()).map(|row| Candidate {
        url: digest(urls, row),
        bytes: digest(digests, row),
        phash: hashes.is_valid(row).then(|| parse_hash_hex(hashes.value(row))).flatten(),
        entropy: entropies.is_valid(row).then(|| entropies.value(row)),
        original_pixels: widths.value(row) * heights.value(row),
        caption_characters: captions.value(row).chars().count(),
    }));
    Ok(())
}
