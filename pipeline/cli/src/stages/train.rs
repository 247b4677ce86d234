//! Stage `train`: one run per arm and replicate of a check, each a part of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow};
use arrow::array::Array;
use lynxdata_burn_model::{Pair, RunSpec, Tokenizer, planned_runs, train_tokenizer};
use lynxdata_engine::select::{Rule, evaluate};
use lynxdata_picture::resize_to_square;
use lynxdata_records::{NewPart, PartEntry, fingerprint, schema};
use rayon::prelude::*;

use super::dedup::PoolParts;
use super::{Context, Parts, Planned, Stage, select, settings_text, shards, table};
use crate::recipe::{CheckConfig, Recipe};

/// Raise it when the same arms and settings give other losses.
const FORMAT_VERSION: &str = "2";

/// The folder of checkpoints; it goes when the check is done.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

pub(crate) struct Train;

impl Stage for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.check.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["download", "signals", "dedup", "select"]
    }

    fn workers(&self, context: &Context) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        match context.recipe().check.as_ref().map(|check| check.threads) {
            Some(0) | None => cores,
            Some(threads) => threads,
        }
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let inputs = inputs(context)?;
        let settings = settings(context, config);
        // Pictures are decoded once, when the first run needs them; if that fails, every run says why.
        let data: Arc<OnceLock<std::result::Result<Option<CheckData>, String>>> = Arc::new(OnceLock::new());
        let runs = planned_runs(&config.plan(context.recipe().seed));
        Ok(Box::new(runs.into_iter().map(move |run| {
            let arm = &config.arms[run.arm];
            let name = format!("{arm}/{:02}", run.replicate);
            let print = fingerprint(["train", FORMAT_VERSION, &settings, &inputs, arm, &run.seed.to_string()]);
            let data = Arc::clone(&data);
            let make = {
                let (name, print) = (name.clone(), print.clone());
                Box::new(move |new: &mut NewPart| {
                    let data =
                        data.get_or_init(|| CheckData::load(context, config).map_err(|error| format!("{error:#}")));
                    let Some(data) = data.as_ref().map_err(|error| anyhow!("{error}"))? else {
                        return Ok(()); // a part without a run; the verdict says why
                    };
                    let folder = context.run.root().join(CHECKPOINTS);
                    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
                    // The fingerprint is in the name, so that a changed recipe never finds the state of another run.
                    let checkpoint = folder.join(format!("{}-{}.bin", name.replace('/', "-"), &print[..16]));
                    let spec = RunSpec {
                        model: &config.model,
                        train: &config.train,
                        tokenizer: &data.tokenizer,
                        arm: &data.arms[run.arm],
                        held_out: &data.held_out,
                        seed: run.seed,
                        checkpoint: Some(&checkpoint),
                    };
                    let bar = context.progress.current();
                    let mut progress = |step, loss| bar.note(&format!("{name}: step {step}, loss {loss:.3}"));
                    let result = lynxdata_burn_model::run(&spec, &mut progress)?;
                    (new.rows_in, new.rows_out) = (data.arms[run.arm].len() as u64, data.arms[run.arm].len() as u64);
                    let path = context.run.stage_file(new, &format!("check/runs/{name}.json"))?;
                    let text = serde_json::to_string_pretty(&result).context("a run is not JSON")?;
                    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
                })
            };
            Ok(Planned { name, fingerprint: print, make })
        })))
    }
}

/// The check of the recipe.
pub(crate) fn check_of(context: &Context) -> Result<&CheckConfig> {
    context.recipe().check.as_ref().context("the recipe has no [check]")
}

/// A digest of everything that the runs read.
fn inputs(context: &Context) -> Result<String> {
    let pool = PoolParts::of(context)?;
    let clusters = context.upstream("dedup")?;
    let selections = context.upstream("select")?;
    let arms = &check_of(context)?.arms;
    let arms = selections.iter().filter(|part| arms.contains(&part.part));
    let mut digests = vec![pool.digest()];
    digests.extend(clusters.iter().chain(arms).map(PartEntry::digest));
    Ok(fingerprint(digests.iter().map(String::as_str)))
}

/// The settings that a run depends on: not the number of replicates, so that more of them add to those that are there.
fn settings(context: &Context, config: &CheckConfig) -> String {
    settings_text(&(
        context.recipe().seed,
        &config.arms,
        (config.held_out_fraction, config.held_out_most, &config.held_out_where, config.most_pairs),
        (&config.tokenizer, &config.model, &config.train),
    ))
}

/// Which pairs a check trains on and which it measures on, as (part, row) of the pool.
pub(crate) struct CheckPairs {
    pub arms: [Vec<(usize, u32)>; 2],
    pub held_out: Vec<(usize, u32)>,
    /// Pairs of each arm before it was cut to `most_pairs`.
    pub arm_sizes: [usize; 2],
    /// Keys of the held-out pairs, in their order.
    pub held_out_uids: Vec<String>,
    /// Why nothing can be learnt from these pairs, if so.
    pub unusable: Option<String>,
}

impl CheckPairs {
    /// Chooses them by hashes of seed and key alone.
    ///
    /// Whole clusters are held out, so that no arm trains on a duplicate of what it is measured on.
    pub(crate) fn choose(context: &Context, config: &CheckConfig) -> Result<CheckPairs> {
        let seed = context.recipe().seed.to_string();
        let pool = PoolParts::of(context)?;
        let rows = pool_rows(context, &pool, config)?;
        let mut clusters: BTreeMap<&str, Vec<&PoolRow>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.has_caption) {
            clusters.entry(&row.cluster).or_default().push(row);
        }
        let mut order: Vec<(String, &str)> = clusters
            .iter()
            .filter(|(_, members)| members.iter().any(|row| row.may_be_held_out))
            .map(|(cluster, _)| (fingerprint(["held-out", &seed, cluster]), *cluster))
            .collect();
        order.sort_unstable();
        let count =
            ((clusters.len() as f64 * config.held_out_fraction) as usize).min(config.held_out_most).min(order.len());
        order.truncate(count);
        let held_out_clusters: BTreeSet<&str> = order.iter().map(|(_, cluster)| *cluster).collect();
        let measured: Vec<&PoolRow> = held_out_clusters
            .iter()
            .filter_map(|cluster| clusters[cluster].iter().find(|row| row.may_be_held_out).copied())
            .collect();

        let mut arms: [Vec<(usize, u32)>; 2] = [Vec::new(), Vec::new()];
        let mut arm_sizes = [0, 0];
        for (arm, selection) in config.arms.iter().enumerate() {
            let kept: BTreeSet<(usize, u32)> =
                shards::kept_rows(context, selection, &pool.downloads)?.into_iter().collect();
            let mut members: Vec<(String, (usize, u32))> = rows
                .iter()
                .filter(|row| {
                    row.has_caption && kept.contains(&row.place) && !held_out_clusters.contains(row.cluster.as_str())
                })
                .map(|row| (fingerprint(["arm", &seed, &row.uid]), row.place))
                .collect();
            arm_sizes[arm] = members.len();
            members.sort_unstable();
            members.truncate(config.most_pairs);
            arms[arm] = members.into_iter().map(|(_, place)| place).collect();
            arms[arm].sort_unstable();
        }
        let empty = config.arms.iter().zip(&arms).find(|(_, pairs)| pairs.is_empty()).map(|(arm, _)| arm);
        let unusable = match (empty, measured.len()) {
            (Some(arm), _) => Some(format!("arm {arm:?} has no pairs to train on once the held-out ones are left out")),
            (None, 0 | 1) => Some(format!(
                "only {} pairs can be held out; a check needs more data, a larger check.held_out_fraction or a wider check.held_out_where",
                measured.len()
            )),
            (None, _) => None,
        };
        Ok(CheckPairs {
            arms,
            held_out: measured.iter().map(|row| row.place).collect(),
            arm_sizes,
            held_out_uids: measured.iter().map(|row| row.uid.clone()).collect(),
            unusable,
        })
    }
}

struct PoolRow {
    place: (usize, u32),
    uid: String,
    cluster: String,
    has_caption: bool,
    may_be_held_out: bool,
}

fn pool_rows(context: &Context, pool: &PoolParts, config: &CheckConfig) -> Result<Vec<PoolRow>> {
    let clusters = context.upstream("dedup")?.into_iter().next().context("stage dedup has no part")?;
    let rules: Vec<Rule> = config.held_out_rule().into_iter().collect();
    let mut rows = Vec::new();
    for (part, (download, measured)) in pool.downloads.iter().zip(&pool.signals).enumerate() {
        let path = table::file_for_columns(&context.run, download, schema::pool().name)?;
        let batch = table::read(&path, Some(&["uid", "caption"]))?;
        let (uids, captions) = (table::texts(&batch, "uid", &path)?, table::texts(&batch, "caption", &path)?);
        let cluster_path = context.run.intact(&clusters.files[part])?;
        let cluster_rows = table::read(&cluster_path, Some(&["uid", "cluster"]))?;
        table::same_pairs(uids, table::texts(&cluster_rows, "uid", &cluster_path)?, &cluster_path)?;
        let cluster_of = table::texts(&cluster_rows, "cluster", &cluster_path)?;
        let pairs = select::pairs(context, download, measured)?;
        let allowed = evaluate(&context.session, &pairs, &rules, &path)?;
        rows.extend((0..batch.num_rows()).map(|row| PoolRow {
            place: (part, row as u32),
            uid: uids.value(row).to_owned(),
            cluster: cluster_of.value(row).to_owned(),
            has_caption: captions.is_valid(row) && !captions.value(row).trim().is_empty(),
            may_be_held_out: allowed.iter().all(|answers| answers.passed.value(row)),
        }));
    }
    Ok(rows)
}

/// The arms, the held-out pairs and the tokenizer of a check, decoded.
struct CheckData {
    arms: [Vec<Pair>; 2],
    held_out: Vec<Pair>,
    tokenizer: Tokenizer,
}

impl CheckData {
    /// Loads them; `None` if nothing can be learnt from them.
    fn load(context: &Context, config: &CheckConfig) -> Result<Option<CheckData>> {
        let chosen = CheckPairs::choose(context, config)?;
        if chosen.unusable.is_some() {
            return Ok(None);
        }
        let downloads = context.upstream("download")?;
        let needed: BTreeSet<(usize, u32)> = chosen.arms.iter().flatten().chain(&chosen.held_out).copied().collect();
        let side = config.model.image_size as u32;
        let mut pairs: BTreeMap<(usize, u32), Pair> = BTreeMap::new();
        for (part, download) in downloads.iter().enumerate() {
            let places: Vec<u32> = needed.range((part, 0)..=(part, u32::MAX)).map(|(_, row)| *row).collect();
            if places.is_empty() {
                continue;
            }
            let path = table::file(&context.run, download, schema::pool().name)?;
            let mut first = 0;
            for batch in table::batches(&path, Some(&["uid", "caption", "image"]))? {
                let batch = batch?;
                let (uids, captions) = (table::texts(&batch, "uid", &path)?, table::texts(&batch, "caption", &path)?);
                let pictures = table::pictures(&batch, &path)?;
                let end = first + batch.num_rows() as u32;
                let here = places.partition_point(|row| *row < first)..places.partition_point(|row| *row < end);
                let decoded = places[here]
                    .par_iter()
                    .map(|row| {
                        let index = (*row - first) as usize;
                        let pixels = resize_to_square(pictures.value(index), side)
                            .with_context(|| format!("{}: picture of pair {}", path.display(), uids.value(index)))?;
                        Ok(((part, *row), Pair { pixels, caption: captions.value(index).to_owned() }))
                    })
                    .collect::<Result<Vec<_>>>()?;
                pairs.extend(decoded);
                first = end;
            }
        }
        let take = |places: &[(usize, u32)]| places.iter().map(|place| pairs[place].clone()).collect::<Vec<_>>();
        let texts: Vec<&str> = pairs.values().map(|pair| pair.caption.as_str()).collect();
        let tokenizer = train_tokenizer(&texts, &config.tokenizer)?;
        let [first, second] = &chosen.arms;
        Ok(Some(CheckData { arms: [take(first), take(second)], held_out: take(&chosen.held_out), tokenizer }))
    }
}
