//! Stage `mixture`: the conversations of all tasks in the shares of a mixture, shuffled, as one
//! set.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use lynxdata_datasets::mixture::{assign, mixed, quotas, select};
use lynxdata_datasets::{Conversation, read_picture};
use lynxdata_prompts::keyed_hash;
use lynxdata_records::{NewPart, PartEntry, fingerprint};
use lynxdata_report::count as grouped;
use serde::Deserialize;
use tracing::warn;

use super::instruct::{BATCH, Instruct, Outputs, conversations_file, image_folder, parts_of, split_name, taken};
use crate::recipe::{InstructConfig, MixtureConfig, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};

/// Raise it when the same conversations and shares give another set.
const FORMAT_VERSION: &str = "1";

/// The folder of the set.
const FOLDER: &str = "mixture";

/// Mixes the conversations of all tasks.
pub struct Mixture;

impl Stage for Mixture {
    fn name(&self) -> &'static str {
        "mixture"
    }

    fn command(&self) -> &'static str {
        "instruct"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.instruct.as_ref().is_some_and(|instruct| instruct.mixture.is_some())
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        let instruct = recipe.instruct.as_ref();
        Ok(settings_text(&(recipe.seed, instruct.map(|instruct| (&instruct.mixture, &instruct.formats)))))
    }

    fn format_version(&self) -> &'static str {
        FORMAT_VERSION
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Instruct]
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let manifest = context.run.manifest();
        let drawn: u64 = manifest.parts(self.name()).map(|part| part.rows_out).sum();
        let sentence = format!("{} conversations are in the mixture", grouped(drawn));
        Ok(StageOutcome { sentences: vec![sentence], is_bad: drawn == 0 })
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (instruct, mixture) = config_of(context)?;
        let inputs: Vec<String> = context.upstream(&Instruct)?.iter().map(PartEntry::digest).collect();
        let settings = self.settings(context.recipe())?;
        let print =
            fingerprint([self.name(), FORMAT_VERSION, &settings].into_iter().chain(inputs.iter().map(String::as_str)));
        let make = move |new: &mut NewPart| make(context, instruct, mixture, new);
        Ok(Box::new(std::iter::once(Ok(Planned::new("all", print, make)))))
    }
}

fn config_of(context: &Context) -> Result<(&InstructConfig, &MixtureConfig)> {
    let instruct = context.recipe().instruct.as_ref().context("the recipe has no [instruct]")?;
    Ok((instruct, instruct.mixture.as_ref().context("the recipe has no [instruct.mixture]")?))
}

/// The conversations of one task: the hash of each, and where its line is.
#[derive(Default)]
struct TaskLines {
    /// The group of the catalogue that the task is in.
    group: String,
    hashes: Vec<u64>,
    /// Number of the file and offset in it.
    places: Vec<(u32, u64)>,
}

/// What of a line is read to choose.
#[derive(Deserialize)]
struct Head {
    id: String,
    task: String,
    group: String,
}

fn make(context: &Context, instruct: &InstructConfig, mixture: &MixtureConfig, new: &mut NewPart) -> Result<()> {
    let seed = context.recipe().seed;
    let parts = context.upstream(&Instruct)?;
    let (mut files, mut names) = (Vec::new(), Vec::new());
    let (catalogue, _) = context.loaded.tasks()?;
    let sources = taken(instruct, catalogue)?;
    for source in &sources {
        for part in parts_of(source, &parts) {
            files.push(conversations_file(context, part)?);
            names.push(split_name(source));
        }
    }
    let tasks = read_tasks(&files, seed)?;
    let picks = picks(mixture, &tasks, new)?;
    let mut readers = files.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let folders: HashMap<String, PathBuf> =
        sources.iter().map(|source| (split_name(source), image_folder(context, source))).collect();
    let of_set = |kind: &str, suffix: &str| format!("{FOLDER}/{kind}{suffix}");
    let mut outputs = Outputs::create(context, &instruct.formats, &of_set, new)?;
    for batch in picks.chunks(BATCH) {
        let mut conversations = Vec::with_capacity(batch.len());
        for pick in batch {
            let file = pick.file as usize;
            let mut conversation = read_line(&mut readers[file], pick.offset)
                .with_context(|| format!("cannot read {}", files[file].display()))?;
            conversation.images.iter_mut().for_each(|image| image.path = format!("{}/{}", names[file], image.path));
            if let Some(video) = &mut conversation.video {
                video.path = format!("{}/{}", names[file], video.path);
            }
            if pick.round > 0 {
                conversation.id = format!("{}#{}", conversation.id, pick.round + 1);
            }
            conversations.push(conversation);
        }
        outputs.write(&conversations, &mut |path| {
            let (name, path) = path.split_once('/').unwrap_or_default();
            folders.get(name).map_or(Ok(None), |folder| read_picture(folder, path))
        })?;
    }
    outputs.finish(FOLDER)?;
    new.rows_out = picks.len() as u64;
    Ok(())
}

/// One conversation of the set.
struct Pick {
    /// The set is in the order of these: a shuffle that neither order nor other tasks change.
    order: u64,
    file: u32,
    offset: u64,
    /// How often it was taken before.
    round: u64,
}

/// Chooses what the mixture takes, and counts it.
fn picks(mixture: &MixtureConfig, tasks: &BTreeMap<String, TaskLines>, new: &mut NewPart) -> Result<Vec<Pick>> {
    let of_catalogue = tasks.iter().map(|(task, lines)| (task.clone(), lines.group.clone())).collect();
    let (groups, left) = assign(&mixture.groups()?, &of_catalogue).context("in instruct.mixture")?;
    if groups.is_empty() {
        bail!("no group of the mixture has a task of the recipe");
    }
    for task in &left {
        warn!("task {task} is in no group of the mixture and left out of it");
    }
    let sizes = tasks.iter().map(|(task, lines)| (task.clone(), lines.hashes.len() as u64));
    let sizes: BTreeMap<String, u64> = sizes.collect();
    let of_groups: u64 = groups.iter().flat_map(|group| &group.tasks).map(|task| sizes[task]).sum();
    let total = mixture.total.unwrap_or(of_groups);
    let quotas = quotas(&groups, &sizes, total).context("in instruct.mixture")?;
    let records: u64 = quotas.values().map(|quota| quota.records).sum();
    if records < total {
        warn!("the mixture has {} of {} conversations: most_epochs allows no more", grouped(records), grouped(total));
    }
    let mut picks = Vec::new();
    let mut drawn = 0;
    for (task, quota) in &quotas {
        let lines = &tasks[task];
        drawn += quota.records.min(sizes[task]);
        for (place, round) in select(&lines.hashes, quota.records) {
            let (file, offset) = lines.places[place];
            // Another mix than that of the choice, as the smallest hashes were chosen.
            let order = mixed(lines.hashes[place], u64::MAX - round);
            picks.push(Pick { order, file, offset, round });
        }
        tracing::info!(
            "{task}, in {}: {} of {} conversations, {:.2} times",
            quota.group,
            grouped(quota.records),
            grouped(sizes[task]),
            quota.records as f64 / sizes[task].max(1) as f64
        );
    }
    picks.sort_unstable_by_key(|pick| (pick.order, pick.file, pick.offset, pick.round));
    new.rows_in = sizes.values().sum();
    new.counts.insert("drawn".to_owned(), drawn);
    new.counts.insert("left_out".to_owned(), new.rows_in - drawn);
    Ok(picks)
}

/// Reads who is there, without keeping texts.
fn read_tasks(files: &[PathBuf], seed: u64) -> Result<BTreeMap<String, TaskLines>> {
    let mut tasks: BTreeMap<String, TaskLines> = BTreeMap::new();
    for (number, path) in (0..).zip(files) {
        let mut reader = open(path)?;
        let (mut offset, mut line) = (0, Vec::new());
        loop {
            line.clear();
            let failed = || format!("cannot read {}", path.display());
            let length = reader.read_until(b'\n', &mut line).with_context(failed)?;
            if length == 0 {
                break;
            }
            let head: Head = serde_json::from_slice(&line).with_context(failed)?;
            let lines = tasks.entry(head.task.clone()).or_default();
            lines.group = head.group;
            lines.hashes.push(keyed_hash(seed, &["mixture", &head.task, &head.id]));
            lines.places.push((number, offset));
            offset += length as u64;
        }
    }
    Ok(tasks)
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?))
}

fn read_line(reader: &mut BufReader<File>, offset: u64) -> Result<Conversation> {
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    reader.by_ref().read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}
