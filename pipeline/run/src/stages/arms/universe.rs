//! All pairs of a check in memory, with features and clusters.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use lynxdata_check::features::{FEATURES, features};
use lynxdata_check::known::BasePair;
use lynxdata_check::{Matrix, Pair, SplitConfig, Turn, Universe};
use lynxdata_engine::dedup::{Candidate, cluster_all};
use rayon::prelude::*;

use super::{EVALUATION, FOLDER, check_of, table};
use crate::recipe::CheckConfig;
use crate::stage::Context;
use crate::stages::arms::Arms;

/// Loads the tables of stage `arms`.
///
/// A pair that occurs in two folders with the same image and the same text is one pair of both
/// arms. An arm trains on all its copies of a pair: its k-th copy is one pair with the k-th copy of
/// another arm, or a pair of its own if the other arm has fewer copies. Held-out pairs are chosen
/// by image and text, so copies do not count there (`check/src/split.rs`). Images are clustered
/// over all arms by `[dedup]` of the recipe, because an image may be in several arms.
pub(crate) fn load(context: &Context) -> Result<Universe> {
    let config = check_of(context)?;
    let mut values: Vec<f32> = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut pictures: BTreeMap<String, u32> = BTreeMap::new();
    // The copies of each image with each text, to find them again in other parts.
    let mut by_content: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for part in context.upstream(&Arms)? {
        let before = pairs.len();
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        let is_evaluation = part.part == EVALUATION;
        table::read(context, FOLDER, &part, |rows| {
            let fresh: Vec<Vec<f32>> = rows.par_iter().map(|row| features(&row.pixels)).collect();
            for (row, features) in rows.into_iter().zip(fresh) {
                let next = pictures.len() as u32;
                let picture = *pictures.entry(row.digest.clone()).or_insert_with(|| {
                    values.extend(features);
                    candidates.push(row.candidate());
                    next
                });
                let content = format!("{} {}", row.digest, serde_json::to_string(&row.turns)?);
                let seen = taken.entry(content.clone()).or_default();
                let same =
                    by_content.get(&content).and_then(|same| same.get(*seen)).copied().filter(|_| !is_evaluation);
                *seen += 1;
                if let Some(same) = same.filter(|same| *same < before) {
                    pairs[same].arms |= row.membership.arms;
                    continue;
                }
                if !is_evaluation {
                    by_content.entry(content).or_default().push(pairs.len());
                }
                let may_be_measured_on = is_evaluation || config.evaluate_on.is_none();
                pairs.push(Pair {
                    uid: row.uid,
                    picture,
                    turns: row.turns,
                    arms: row.membership.arms,
                    may_be_held_out: row.membership.may_be_held_out && may_be_measured_on,
                });
            }
            Ok(())
        })?;
    }
    if pictures.is_empty() {
        bail!("no arm of the check has a pair with an image and a text");
    }
    unique_keys(&mut pairs);
    let memberships = cluster_all(&candidates, &context.recipe().dedup)?;
    let mut names = vec![String::new(); candidates.len()];
    for (digest, picture) in &pictures {
        // The cluster is named after its first digest, so that the order of the arms does not
        // matter.
        let name = &mut names[memberships[*picture as usize].cluster as usize];
        if name.is_empty() {
            name.clone_from(digest);
        }
    }
    let clusters = memberships.iter().map(|membership| names[membership.cluster as usize].clone()).collect();
    Ok(Universe {
        arms: config.arms.iter().map(|arm| arm.name().to_owned()).collect(),
        features: Matrix::from_rows(FEATURES, values),
        clusters,
        pairs,
        has_evaluation_set: config.evaluate_on.is_some(),
    })
}

/// Returns the captioned pairs of the first arm, for cases with a known answer.
pub fn base_pairs(context: &Context) -> Result<Vec<BasePair>> {
    let mut pairs: Vec<BasePair> = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    if let Some(part) = context.upstream(&Arms)?.first() {
        table::read(context, FOLDER, part, |rows| {
            for row in rows {
                let [Turn { question, answer }] = row.turns.as_slice() else { continue };
                if !question.is_empty() {
                    continue;
                }
                candidates.push(row.candidate());
                pairs.push(BasePair {
                    uid: row.uid,
                    caption: answer.clone(),
                    pixels: row.pixels,
                    cluster: String::new(),
                    translation: None,
                    one_wording: None,
                });
            }
            Ok(())
        })?;
    }
    if pairs.is_empty() {
        bail!("there is no pair with an image and a caption");
    }
    let memberships = cluster_all(&candidates, &context.recipe().dedup)?;
    for (place, membership) in memberships.iter().enumerate() {
        let cluster = pairs[membership.cluster as usize].uid.clone();
        pairs[place].cluster = cluster;
    }
    Ok(pairs)
}

/// Makes the keys of repeated pairs different, because random choices are hashes of keys.
fn unique_keys(pairs: &mut [Pair]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for pair in pairs {
        let count = seen.entry(pair.uid.clone()).or_default();
        *count += 1;
        if *count > 1 {
            pair.uid = format!("{}-{count}", pair.uid);
        }
    }
}

/// Returns the settings for choosing held-out pairs.
pub(crate) fn split_config(config: &CheckConfig, seed: u64) -> SplitConfig {
    SplitConfig { seed, fraction: config.held_out_fraction, most: config.held_out_most, most_pairs: config.most_pairs }
}
