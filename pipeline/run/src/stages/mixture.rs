//! Stage `mixture`: mixes the conversations of all tasks in the shares of a mixture into one
//! shuffled set.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use lynxdata_budgets::Tokenizer;
use lynxdata_datasets::mixture::{Group, Inside, assign, mixed, quotas, select, select_tokens};
use lynxdata_datasets::{Conversation, Message, Pictures};
use lynxdata_engine::Session;
use lynxdata_prompts::keyed_hash;
use lynxdata_records::{FileEntry, Manifest, NewPart, PartEntry, RunFolder, file_digest, fingerprint, nearest};
use lynxdata_report::count as grouped;
use rayon::prelude::*;
use serde::Deserialize;
use tracing::warn;

use super::instruct::{
    BATCH, CONVERSATIONS, Instruct, Outputs, TasksLeftOut, conversations_file, held, left_out_by_licence, parts_of,
    pictures_of, taken, told_of_formats,
};
use super::task_pictures::{KEPT, kept_folder};
use crate::recipe::{InstructConfig, InstructSettings, LoadedRecipe, MixtureConfig, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};

/// Version of the set. Raise it when the same conversations and shares give another set.
const FORMAT_VERSION: &str = "4";

/// Number of conversations whose tokens are counted together, on all cores.
const COUNTED: usize = 4096;

/// The folder of the set.
pub(crate) const FOLDER: &str = "mixture";

/// The file of the number of conversations that formats leave out, by task, format and reason.
const LEFT_OUT: &str = "mixture/left_out.json";

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
        let instruct = recipe.instruct.as_ref().map(|instruct| {
            // What the parts hold is an input.
            let InstructSettings { mixture, formats, tasks: _, parts: _ } = instruct.settings();
            (mixture, formats)
        });
        Ok(settings_text(&(recipe.seed, instruct)))
    }

    fn check(&self, loaded: &LoadedRecipe, _session: &Session) -> Result<()> {
        check_groups(loaded)
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Instruct]
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let manifest = context.run.manifest();
        let drawn: u64 = manifest.parts(self.name()).map(|part| part.rows_out).sum();
        let mut sentences = vec![format!("{} conversations are in the mixture", grouped(drawn))];
        let (instruct, _) = config_of(context)?;
        let held = held(&instruct.formats, drawn, &left_out_of_formats(&context.run)?);
        sentences.extend(told_of_formats(drawn, &held));
        Ok(StageOutcome {
            sentences,
            is_bad: drawn == 0 || (!held.is_empty() && held.values().all(|held| *held == 0)),
            ..StageOutcome::default()
        })
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let (instruct, mixture) = config_of(context)?;
        let mut inputs: Vec<String> = context.upstream(&Instruct)?.iter().map(PartEntry::digest).collect();
        if let Some(tokenizer) = &mixture.tokenizer {
            inputs.push(file_digest(&context.loaded.folder.join(tokenizer))?);
        }
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

/// The conversations of one task.
#[derive(Debug, Default)]
pub struct TaskLines {
    /// The group of the catalogue that the task is in.
    group: String,
    /// The hash of each conversation.
    hashes: Vec<u64>,
    /// The place of the line of each conversation: number of the file and offset in it.
    places: Vec<(u32, u64)>,
    /// The number of tokens of each conversation, if they were counted.
    tokens: Vec<u64>,
}

/// The fields of a line that are read for the choice.
#[derive(Deserialize)]
struct Head {
    id: String,
    task: String,
    group: String,
    #[serde(default)]
    messages: Vec<Message>,
}

fn make(context: &Context, instruct: &InstructConfig, mixture: &MixtureConfig, new: &mut NewPart) -> Result<()> {
    let seed = context.recipe().seed;
    let parts = context.upstream(&Instruct)?;
    let (catalogue, _) = context.loaded.tasks()?;
    let sources = taken(instruct, catalogue)?;
    let (mut files, mut names, mut pictures) = (Vec::new(), Vec::new(), HashMap::<String, Pictures>::new());
    for source in &sources {
        for part in parts_of(source, &parts) {
            files.push(conversations_file(context, part)?);
            // Kept images are in a folder of the part, others in one of the split.
            let is_kept = part.paths().any(|path| path == kept_folder(&part.part));
            let name = if is_kept { part.part.clone() } else { source.set_name() };
            pictures.insert(name.clone(), pictures_of(context, source, part));
            names.push(name);
        }
    }
    for entry in parts.iter().flat_map(|part| &part.files).filter(|file| file.path.starts_with(KEPT)) {
        context.run.intact(entry)?;
    }
    let tokenizer = tokenizer(&context.loaded, mixture)?;
    let tasks = read_tasks(&files, seed, tokenizer.as_ref())?;
    let picks = picks(mixture, &tasks, new)?;
    let mut readers = files.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
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
                // No id of another record has this form: the names of tasks have no `#`, but native
                // ids may end in `#2`.
                let (task, rest) = conversation.id.split_once('/').unwrap_or((&conversation.id, ""));
                conversation.id = format!("{task}#{}/{rest}", pick.round + 1);
            }
            conversations.push(conversation);
        }
        outputs.write(&conversations, &mut |path| {
            let (name, path) = path.split_once('/').unwrap_or_default();
            pictures.get(name).map_or(Ok(None), |pictures| pictures.read(path))
        })?;
    }
    let (_, left_out) = outputs.finish(FOLDER)?;
    let path = context.run.stage_file(new, LEFT_OUT)?;
    let text = serde_json::to_string_pretty(&left_out).context("cannot write counts as JSON")?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    new.rows_out = picks.len() as u64;
    Ok(())
}

/// Returns how many conversations of the set formats leave out.
///
/// # Errors
/// If the file of these counts cannot be read.
pub(super) fn left_out_of_formats(run: &RunFolder) -> Result<TasksLeftOut> {
    let path = run.root().join(LEFT_OUT);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a file of counts that this program wrote", path.display()))
}

/// One conversation of the set.
struct Pick {
    /// Sort key of the set: a shuffle that does not depend on the input order or on other tasks.
    order: u64,
    file: u32,
    offset: u64,
    /// The number of times that it was taken before, for repeated conversations.
    round: u64,
}

/// Number of records and, if they were counted, of their text tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Tokens.
    pub tokens: Option<u64>,
}

/// The conversations of one task that a mixture draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The group of the mixture.
    pub group: String,
    /// Available records and tokens.
    pub there: Amount,
    /// Drawn records and tokens; repeated records are counted each time.
    pub drawn: Amount,
    /// Chosen records as (place, number of times that it was taken before).
    chosen: Vec<(usize, u64)>,
}

/// The conversations of all tasks that a mixture draws.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draw {
    /// The draw of each task.
    pub tasks: BTreeMap<String, Drawn>,
    /// Tasks that are in no group of it.
    pub in_no_group: Vec<String>,
    /// The requested amount: tokens if the mixture has a total of tokens, else records.
    pub wanted: u64,
    /// The part of it that the groups allow.
    pub allowed: u64,
}

impl Draw {
    /// Returns the sum over all tasks.
    pub fn drawn(&self) -> Amount {
        let tokens = self.tasks.values().map(|task| task.drawn.tokens).sum();
        Amount { records: self.tasks.values().map(|task| task.drawn.records).sum(), tokens }
    }

    /// Returns how much less than requested the groups allow, if it is less.
    pub fn shortage(&self, mixture: &MixtureConfig) -> Option<String> {
        let unit = if mixture.tokens.is_some() { "tokens" } else { "conversations" };
        let told = || {
            format!("{} of {} {unit}, because most_epochs allows no more", grouped(self.allowed), grouped(self.wanted))
        };
        (self.allowed < self.wanted).then(told)
    }
}

/// Checks before any work that a group of the mixture has a task that the licences allow.
///
/// # Errors
/// If none has one, or the groups are impossible.
fn check_groups(loaded: &LoadedRecipe) -> Result<()> {
    let Some(instruct) = &loaded.recipe.instruct else { return Ok(()) };
    let Some(mixture) = &instruct.mixture else { return Ok(()) };
    let (catalogue, _) = loaded.tasks()?;
    for group in &mixture.groups {
        let weights = match &group.inside {
            Inside::Weights(weights) => Some(weights),
            Inside::Size | Inside::SquareRoot | Inside::Temperature(_) => None,
        };
        for name in group.tasks.iter().chain(weights.into_iter().flat_map(BTreeMap::keys)) {
            if catalogue.get(name).is_err() {
                let of_recipe = instruct.tasks.iter().map(|source| source.name.as_str());
                let known = of_recipe.chain(catalogue.tasks().map(|task| task.name.as_str()));
                let hint = nearest(name, known).map(|right| format!("; did you mean {right:?}?")).unwrap_or_default();
                bail!("in instruct.mixture: group {}: there is no task {name:?}{hint}", group.name);
            }
        }
    }
    let mut of_catalogue = BTreeMap::new();
    for source in taken(instruct, catalogue)? {
        of_catalogue.insert(source.name.clone(), catalogue.get(&source.name)?.group.clone());
    }
    let left_out = left_out_by_licence(instruct, catalogue)?;
    filled_groups(mixture, &of_catalogue).map(drop).map_err(|fault| match left_out.as_slice() {
        [] => fault,
        tasks => fault.context(format!("instruct.licence = \"commercial\" leaves out {}", tasks.join(", "))),
    })
}

/// Returns the groups that have tasks, and the tasks without a group, as [`assign`] does.
///
/// # Errors
/// As [`assign`], if no group has a task, and if the weights or settings of a group are impossible.
fn filled_groups(
    mixture: &MixtureConfig,
    of_catalogue: &BTreeMap<String, String>,
) -> Result<(Vec<Group>, Vec<String>)> {
    let (groups, in_no_group) = assign(&mixture.groups()?, of_catalogue).context("in instruct.mixture")?;
    if groups.is_empty() {
        bail!("none of these tasks is in a group of the mixture: {}", in_no_group.join(", "));
    }
    for group in &groups {
        if let Some(fault) = group.fault() {
            bail!("in instruct.mixture: group {}: {fault}", group.name);
        }
    }
    Ok((groups, in_no_group))
}

/// Chooses the conversations of each task for a mixture.
///
/// # Errors
/// If the mixture is impossible, or none of its groups has a task.
pub fn draw(mixture: &MixtureConfig, tasks: &BTreeMap<String, TaskLines>) -> Result<Draw> {
    if tasks.is_empty() {
        // The tasks themselves say why they have no conversations.
        return Ok(Draw::default());
    }
    let of_catalogue = tasks.iter().map(|(task, lines)| (task.clone(), lines.group.clone())).collect();
    let (groups, in_no_group) = filled_groups(mixture, &of_catalogue)?;
    let size = |lines: &TaskLines| match mixture.tokens {
        Some(_) => lines.tokens.iter().sum(),
        None => lines.hashes.len() as u64,
    };
    let sizes: BTreeMap<String, u64> = tasks.iter().map(|(task, lines)| (task.clone(), size(lines))).collect();
    let of_groups: u64 = groups.iter().flat_map(|group| &group.tasks).map(|task| sizes[task]).sum();
    let wanted = mixture.tokens.map(|tokens| tokens.0).or(mixture.total).unwrap_or(of_groups);
    let quotas = quotas(&groups, &sizes, wanted).context("in instruct.mixture")?;
    let allowed = quotas.values().map(|quota| quota.amount).sum();
    let mut draw = Draw { tasks: BTreeMap::new(), in_no_group, wanted, allowed };
    for (task, quota) in quotas {
        let lines = &tasks[&task];
        let chosen = match mixture.tokens {
            Some(_) => select_tokens(&lines.hashes, &lines.tokens, quota.amount),
            None => select(&lines.hashes, quota.amount),
        };
        let tokens = |sum: &dyn Fn() -> u64| (!lines.tokens.is_empty()).then(sum);
        let there = Amount { records: lines.hashes.len() as u64, tokens: tokens(&|| lines.tokens.iter().sum()) };
        let of_chosen = || chosen.iter().map(|(place, _)| lines.tokens[*place]).sum();
        let drawn = Amount { records: chosen.len() as u64, tokens: tokens(&of_chosen) };
        draw.tasks.insert(task, Drawn { group: quota.group, there, drawn, chosen });
    }
    Ok(draw)
}

/// Returns what a mixture would draw from the conversations in the run folder of a recipe.
///
/// # Errors
/// If a task of the recipe has no conversations yet, a file cannot be read, or as [`draw`].
pub fn planned(loaded: &LoadedRecipe, instruct: &InstructConfig, mixture: &MixtureConfig) -> Result<Draw> {
    let folder = loaded.run_folder();
    let manifest = if RunFolder::is_at(&folder) { Manifest::read(&folder)? } else { Manifest::default() };
    let parts: Vec<PartEntry> = manifest.parts(Instruct.name()).cloned().collect();
    let (catalogue, _) = loaded.tasks()?;
    let mut files = Vec::new();
    for source in taken(instruct, catalogue)? {
        let of_source = parts_of(source, &parts);
        if of_source.is_empty() {
            let (folder, path) = (folder.display(), loaded.path.display());
            let name = &source.name;
            bail!("{folder} has no conversations of {name} yet\nhint: run `lynxdata instruct {path}` first");
        }
        let is_lines = |file: &&FileEntry| file.path.starts_with(CONVERSATIONS);
        let of_source = of_source.into_iter().filter_map(|part| part.files.iter().find(is_lines));
        files.extend(of_source.map(|file| folder.join(&file.path)));
    }
    draw(mixture, &read_tasks(&files, loaded.recipe.seed, tokenizer(loaded, mixture)?.as_ref())?)
}

/// Chooses the conversations of the mixture, and counts them.
fn picks(mixture: &MixtureConfig, tasks: &BTreeMap<String, TaskLines>, new: &mut NewPart) -> Result<Vec<Pick>> {
    let draw = draw(mixture, tasks)?;
    for task in &draw.in_no_group {
        warn!("task {task} is in no group of the mixture, so it is left out");
    }
    if let Some(shortage) = draw.shortage(mixture) {
        warn!("the mixture has {shortage}");
    }
    let mut picks = Vec::new();
    let mut used = 0;
    for (task, Drawn { group, there, drawn, chosen }) in &draw.tasks {
        let lines = &tasks[task];
        used += drawn.records.min(there.records);
        for &(place, round) in chosen {
            let (file, offset) = lines.places[place];
            // Mixed differently than for the choice, which took the smallest hashes.
            let order = mixed(lines.hashes[place], u64::MAX - round);
            picks.push(Pick { order, file, offset, round });
        }
        tracing::info!(
            "{task}, in {group}: {} of {} conversations, {:.2} times{}",
            grouped(drawn.records),
            grouped(there.records),
            drawn.records as f64 / there.records.max(1) as f64,
            drawn.tokens.map_or_else(String::new, |tokens| format!(", {} tokens", grouped(tokens)))
        );
    }
    picks.sort_unstable_by_key(|pick| (pick.order, pick.file, pick.offset, pick.round));
    new.rows_in = tasks.values().map(|lines| lines.hashes.len() as u64).sum();
    new.counts.insert("drawn".to_owned(), used);
    new.counts.insert("left_out".to_owned(), new.rows_in - used);
    Ok(picks)
}

/// Reads the tokenizer of a mixture, if it has one.
///
/// # Errors
/// If the file cannot be read or is not a tokenizer.
pub fn tokenizer(loaded: &LoadedRecipe, mixture: &MixtureConfig) -> Result<Option<Tokenizer>> {
    let read = |path: &PathBuf| Tokenizer::read(&loaded.folder.join(path)).context("in instruct.mixture.tokenizer");
    mixture.tokenizer.as_ref().map(read).transpose()
}

/// Lists the conversations of each task without keeping their texts, and counts text tokens if
/// there is a tokenizer.
///
/// # Errors
/// If a file cannot be read, or the tokenizer fails on a text.
pub fn read_tasks(files: &[PathBuf], seed: u64, tokenizer: Option<&Tokenizer>) -> Result<BTreeMap<String, TaskLines>> {
    let mut tasks: BTreeMap<String, TaskLines> = BTreeMap::new();
    let count = |line: &Vec<u8>| -> Result<(Head, Option<u64>)> {
        let head: Head = serde_json::from_slice(line)?;
        let of_text = |tokenizer: &Tokenizer, message: &Message| tokenizer.count(&message.content);
        let of_line = |tokenizer| head.messages.iter().map(|message| of_text(tokenizer, message)).sum();
        let tokens = tokenizer.map(of_line).transpose();
        let tokens = tokens.map_err(|reason: String| anyhow!("the tokenizer fails on {}: {reason}", head.id))?;
        Ok((head, tokens))
    };
    for (number, path) in (0..).zip(files) {
        let failed = || format!("cannot read {}", path.display());
        let mut reader = open(path)?;
        let mut offset = 0;
        loop {
            let mut lines = Vec::new();
            while lines.len() < COUNTED {
                let mut line = Vec::new();
                if reader.read_until(b'\n', &mut line).with_context(failed)? == 0 {
                    break;
                }
                lines.push(line);
            }
            if lines.is_empty() {
                break;
            }
            let counted: Result<Vec<_>> = lines.par_iter().map(count).collect();
            for (line, (head, tokens)) in lines.iter().zip(counted.with_context(failed)?) {
                let of_task = tasks.entry(head.task.clone()).or_default();
                of_task.group = head.group;
                of_task.hashes.push(keyed_hash(seed, &["mixture", &head.task, &head.id]));
                of_task.places.push((number, offset));
                of_task.tokens.extend(tokens);
                offset += line.len() as u64;
            }
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
