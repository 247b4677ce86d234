//! The stages of a run, in the order in which data flows, and the one loop that runs any of them.
//!
//! A stage says which parts it consists of and how to make each; the loop skips the parts that the manifest has under the same fingerprint, commits
//! the others, and records the stage as complete.

pub(crate) mod arms;
pub(crate) mod check;
pub(crate) mod dedup;
pub(crate) mod download;
mod folder_digest;
pub(crate) mod instruct;
pub(crate) mod model;
pub(crate) mod report;
pub(crate) mod samples;
pub(crate) mod select;
pub(crate) mod shards;
pub(crate) mod signals;
pub(crate) mod table;
pub(crate) mod train;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use lynxdata_engine::Session;
use lynxdata_fetch::Metrics;
use lynxdata_records::{Manifest, NewPart, PartEntry, RunFolder, fingerprint};
use serde::Serialize;
use tracing::info;

use crate::mirror::Mirror;
use crate::progress::Progress;
use crate::recipe::{CheckConfig, LoadedRecipe, Recipe, SelectionConfig};

/// What every stage works with.
pub(crate) struct Context {
    pub loaded: LoadedRecipe,
    pub run: Arc<RunFolder>,
    pub runtime: tokio::runtime::Runtime,
    pub session: Session,
    pub progress: Progress,
    /// Whether pairs of the pool may be removed because the list no longer has them.
    pub replaces: bool,
    /// Whether the list was compared with the pool that is there.
    pub is_compared: AtomicBool,
    /// What downloading counts.
    pub metrics: Arc<Metrics>,
    /// Whether the signals are wanted of what is downloaded, so that they are measured while its pixels are at hand.
    pub measures_downloads: bool,
    /// Signals of parts of the pool that are not committed yet, by the name of the part.
    pub measured: Mutex<BTreeMap<String, RecordBatch>>,
    /// Parts of a later stage that were committed along with those of an earlier one.
    along: Mutex<BTreeSet<(String, String)>>,
    /// Where the run folder is mirrored, if its output is an object store.
    mirror: Option<Mirror>,
}

impl Context {
    /// Opens the run folder of a recipe, creating it if need be.
    pub(crate) fn new(loaded: LoadedRecipe, session: Session) -> Result<Context> {
        let runtime = runtime()?;
        let (folder, mirror) = (loaded.run_folder(), Mirror::of(&loaded.recipe.output));
        let run = Arc::new(RunFolder::open(&folder)?);
        crate::interrupt::clean_up_in(&run);
        if let Some(mirror) = &mirror {
            runtime.block_on(mirror.meet(&run, &mut mirror.turn())).context("cannot mirror the run")?;
        }
        Ok(Context { mirror, ..Context::of(loaded, session, runtime, run) })
    }

    /// Looks at the run folder of a recipe without changing anything.
    pub(crate) fn inspecting(loaded: LoadedRecipe, session: Session) -> Result<Context> {
        let run = Arc::new(RunFolder::inspect(&loaded.run_folder())?);
        Ok(Context::of(loaded, session, runtime()?, run))
    }

    fn of(loaded: LoadedRecipe, session: Session, runtime: tokio::runtime::Runtime, run: Arc<RunFolder>) -> Context {
        Context {
            loaded,
            run,
            runtime,
            session,
            progress: Progress::new(),
            replaces: false,
            is_compared: AtomicBool::new(false),
            metrics: Arc::default(),
            measures_downloads: false,
            measured: Mutex::default(),
            along: Mutex::default(),
            mirror: None,
        }
    }

    /// Commits a part, here and in the mirror.
    pub(crate) fn commit(&self, part: NewPart) -> Result<PartEntry> {
        let Some(mirror) = &self.mirror else { return Ok(self.run.commit(part)?) };
        let mut turn = mirror.turn();
        let old = self.run.part(part.stage(), part.name());
        let entry = self.run.commit(part)?;
        let removed: Vec<String> = old.iter().flat_map(|old| old.paths_not_in(&entry)).map(str::to_owned).collect();
        let mirrored = async {
            mirror.publish(&self.run, &entry, &mut turn).await?;
            mirror.remove(&removed).await
        };
        self.runtime.block_on(mirrored).context("cannot mirror the run")?;
        Ok(entry)
    }

    /// Commits a part of a later stage than the one that runs.
    pub(crate) fn commit_along(&self, part: NewPart) -> Result<()> {
        let entry = self.commit(part)?;
        self.along.lock().expect("nobody panics with the parts").insert((entry.stage, entry.part));
        Ok(())
    }

    /// Whether a part was committed along with one of an earlier stage.
    fn came_along(&self, stage: &str, part: &str) -> bool {
        self.along.lock().expect("nobody panics with the parts").contains(&(stage.to_owned(), part.to_owned()))
    }

    /// Records that a stage is complete, here and in the mirror.
    pub(crate) fn complete(&self, stage: &str, parts: Vec<String>, reads: &[&str]) -> Result<()> {
        let removed = self.run.complete(stage, parts, reads, &settings_of(stage, self.recipe())?)?;
        if !removed.is_empty() {
            info!(stage, files = removed.len(), "files of parts that the stage no longer has are removed");
        }
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let published = self.runtime.block_on(mirror.publish_manifest(&self.run, &mut mirror.turn()));
        published.and_then(|()| self.runtime.block_on(mirror.remove(&removed))).context("cannot mirror the run")
    }

    /// Writes a text file beside the parts, here and in the mirror.
    pub(crate) fn keep(&self, name: &str, text: &str) -> Result<()> {
        self.run.keep(name, text)?;
        let Some(mirror) = &self.mirror else { return Ok(()) };
        self.runtime.block_on(mirror.keep(&self.run, name)).context("cannot mirror the run")
    }

    pub(crate) fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }

    /// Whether a stage is complete, made from what the stages before it hold now, and by what the recipe says now.
    fn is_current(&self, name: &str) -> Result<bool> {
        is_current(&self.run.manifest(), name, self.recipe())
    }

    /// The committed parts of a stage that another one reads.
    ///
    /// # Errors
    /// If the stage is not complete or out of date, with the command that completes it.
    pub(crate) fn upstream(&self, stage: &str) -> Result<Vec<PartEntry>> {
        let manifest = self.run.manifest();
        if !self.is_current(stage)? {
            let fault = if manifest.is_complete(stage) {
                "out of date: what it was made from, or what the recipe says of it, has changed"
            } else {
                "not complete"
            };
            let command = command_of(stage);
            bail!(
                "stage {stage} of {} is {fault}\nhint: run `lynxdata {command} {}` first, or `lynxdata run` for all stages",
                self.run.root().display(),
                self.loaded.path.display()
            );
        }
        Ok(manifest.parts(stage).cloned().collect())
    }
}

/// Whether a stage of a run is complete, made from what the stages before it hold now, and by what a recipe says now. Of those stages themselves it says
/// nothing.
pub(crate) fn is_current(manifest: &Manifest, name: &str, recipe: &Recipe) -> Result<bool> {
    let Some(stage) = STAGES.iter().find(|stage| stage.name() == name) else { return Ok(false) };
    Ok(manifest.is_current(name, &stage.reads(recipe), &settings_of(name, recipe)?))
}

/// A digest of what a recipe says of a stage. The fingerprints of its parts say the same and more, but to know these takes reading what it reads: for the
/// download, the whole list.
fn settings_of(stage: &str, recipe: &Recipe) -> Result<String> {
    let settings = match stage {
        "download" => settings_text(&(&recipe.source, download::settings(recipe)?)),
        "dedup" => settings_text(&recipe.dedup),
        "select" => {
            let selections = recipe.select.iter();
            let rules =
                |(name, selection): (_, &SelectionConfig)| Ok((name, selection.rules()?, selection.deduplicate));
            let selections = selections.map(rules).collect::<Result<Vec<_>>>()?;
            let texts = selections.iter().map(|(name, rules, deduplicate)| {
                let rules: Vec<_> = rules.iter().map(|rule| (&rule.name, &rule.predicate)).collect();
                (name, rules, deduplicate)
            });
            settings_text(&(texts.collect::<Vec<_>>(), &recipe.dedup))
        }
        "shards" => settings_text(&(&recipe.name, &recipe.shards, recipe.download.encode)),
        "instruct" => settings_text(&(recipe.seed, &recipe.instruct)),
        "arms" => settings_text(&(recipe.seed, recipe.check.as_ref().map(arms::settings))),
        // How many threads there are changes nothing.
        "train" | "controls" | "check" => {
            let check = recipe.check.clone().map(|check| CheckConfig { threads: 0, ..check });
            settings_text(&(recipe.seed, check, &recipe.dedup))
        }
        "examples" | "model" => settings_text(&(recipe.seed, &recipe.training)),
        "report" => settings_text(recipe),
        _ => String::new(),
    };
    Ok(fingerprint([stage, settings.as_str()]))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the async runtime")
}

/// A stage of the run.
pub(crate) trait Stage: Sync {
    /// The name in the command line, the manifest and the report.
    fn name(&self) -> &'static str;

    /// Whether the recipe asks for it.
    fn is_in(&self, recipe: &Recipe) -> bool;

    /// The stages whose parts it reads.
    fn reads(&self, recipe: &Recipe) -> Vec<&'static str>;

    /// Parts that are made at the same time.
    fn workers(&self, _context: &Context) -> usize {
        1
    }

    /// Its parts in order, planned one by one as the loop asks for them.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>>;

    /// Commits what came along with a part that has been committed: a part of a later stage.
    fn commit_along(&self, _context: &Context, _part: &PartEntry) -> Result<()> {
        Ok(())
    }
}

/// The parts of a stage, planned lazily.
pub(crate) type Parts<'a> = Box<dyn Iterator<Item = Result<Planned<'a>>> + Send + 'a>;

/// Writes the files of a part and fills in its rows and counts.
pub(crate) type Make<'a> = Box<dyn FnOnce(&mut NewPart) -> Result<()> + Send + 'a>;

/// A part that a stage is to have, and how to make it.
pub(crate) struct Planned<'a> {
    /// The name of the part, ordered as text.
    pub name: String,
    /// Over format version, settings and inputs.
    pub fingerprint: String,
    /// Makes the part: writes its files and fills in its rows and counts.
    pub make: Make<'a>,
}

/// Every stage, in the order in which they run.
pub(crate) const STAGES: &[&dyn Stage] = &[
    &download::Download,
    &signals::Signals,
    &dedup::Dedup,
    &select::Select,
    &shards::Shards,
    &instruct::Instruct,
    &arms::Arms,
    &train::Train,
    &train::Controls,
    &check::Check,
    &arms::Examples,
    &model::Model,
    &report::Report,
];

/// The stages that a recipe asks for.
pub(crate) fn stages_of(recipe: &Recipe) -> impl Iterator<Item = &'static dyn Stage> {
    STAGES.iter().copied().filter(|stage| stage.is_in(recipe))
}

/// The command that runs a stage: those of a check belong to one command.
pub(crate) fn command_of(stage: &str) -> &str {
    match stage {
        _ if CHECK_STAGES.contains(&stage) => "check",
        _ if TRAINING_STAGES.contains(&stage) => "train",
        stage => stage,
    }
}

/// The stages of `lynxdata check`.
pub(crate) const CHECK_STAGES: &[&str] = &["arms", "train", "controls", "check"];

/// The stages of `lynxdata train`.
pub(crate) const TRAINING_STAGES: &[&str] = &["examples", "model"];

/// Runs one stage: makes the parts that are not there yet.
pub(crate) fn run(stage: &dyn Stage, context: &Context) -> Result<()> {
    let started = Instant::now();
    let name = stage.name();
    let parts = stage.parts(context)?;
    // The number of parts is known before they are planned, except where a source is read as it goes.
    let total = match parts.size_hint() {
        (least, Some(most)) if least == most => Some(most as u64),
        _ => None,
    };
    let bar = context.progress.stage(name, total);
    let planned = Mutex::new((parts, Vec::new()));
    let (made, skipped) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);

    let work = || -> Result<()> {
        while !failed.load(Ordering::Relaxed) {
            let next = {
                let mut planned = planned.lock().expect("no worker panics while it plans");
                let Some(next) = planned.0.next() else { break };
                let next = next?;
                planned.1.push(next.name.clone());
                next
            };
            if context.run.committed(name, &next.name, &next.fingerprint).is_some() {
                let counter = if context.came_along(name, &next.name) { &made } else { &skipped };
                counter.fetch_add(1, Ordering::Relaxed);
            } else {
                let started = Instant::now();
                let mut part = NewPart::new(name, &next.name, next.fingerprint);
                (next.make)(&mut part).with_context(|| format!("stage {name}, part {}", next.name))?;
                part.seconds = started.elapsed().as_secs_f64();
                let entry = context.commit(part)?;
                stage.commit_along(context, &entry)?;
                made.fetch_add(1, Ordering::Relaxed);
            }
            bar.part_done();
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..stage.workers(context).max(1))
            .map(|_| {
                scope.spawn(|| {
                    let result = catch_unwind(AssertUnwindSafe(work));
                    failed.fetch_or(!matches!(result, Ok(Ok(()))), Ordering::Relaxed);
                    result.unwrap_or_else(|panic| resume_unwind(panic))
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        Ok(())
    })?;

    let (_, names) = planned.into_inner().expect("no worker panicked");
    let reads = stage.reads(context.recipe());
    // A source that has lost all its rows is more likely a failed export than a wish.
    if names.is_empty() && reads.is_empty() && context.run.manifest().parts(name).next().is_some() {
        bail!(
            "stage {name} has nothing to read any more, so all that it made would be removed\nhint: if that is what you want, remove {}",
            context.run.root().display()
        );
    }
    context.complete(name, names, &reads)?;
    bar.finish(made.into_inner(), skipped.into_inner(), started.elapsed());
    Ok(())
}

/// One line of `--dry-run`.
#[derive(Debug, Serialize)]
pub(crate) struct StagePlan {
    pub stage: &'static str,
    /// Parts that the manifest has already.
    pub skip: Option<u64>,
    /// Parts to make.
    pub make: Option<u64>,
    pub reason: String,
}

/// What a run would do, without doing it.
pub(crate) fn plan(context: &Context, stages: &[&'static dyn Stage]) -> Result<Vec<StagePlan>> {
    let mut plans: Vec<StagePlan> = Vec::new();
    for stage in stages {
        let mut waits_for = None;
        for input in stage.reads(context.recipe()) {
            if plans.iter().any(|plan| plan.stage == input && plan.make != Some(0)) || !context.is_current(input)? {
                waits_for = Some(input);
                break;
            }
        }
        let plan = match waits_for {
            Some(input) => StagePlan {
                stage: stage.name(),
                skip: None,
                make: None,
                reason: format!("decided when {input} is done"),
            },
            None => count_parts(*stage, context)?,
        };
        plans.push(plan);
    }
    Ok(plans)
}

fn count_parts(stage: &'static dyn Stage, context: &Context) -> Result<StagePlan> {
    let manifest: Manifest = context.run.manifest();
    let (mut skip, mut new, mut changed) = (0, 0, 0);
    for planned in stage.parts(context)? {
        let planned = planned?;
        if context.run.committed(stage.name(), &planned.name, &planned.fingerprint).is_some() {
            skip += 1;
        } else if manifest.part(stage.name(), &planned.name).is_some() {
            changed += 1;
        } else {
            new += 1;
        }
    }
    let reason = match (skip, new, changed) {
        (0, 0, 0) => "no input rows".to_owned(),
        (_, 0, 0) => "same inputs and settings: every part is there".to_owned(),
        (0, _, 0) => "nothing is there yet".to_owned(),
        (_, _, 0) => "some parts are there already".to_owned(),
        _ => format!("inputs, settings or files of {changed} parts changed"),
    };
    Ok(StagePlan { stage: stage.name(), skip: Some(skip), make: Some(new + changed), reason })
}

/// The name of part number `index`.
pub(crate) fn part_name(index: u32) -> String {
    format!("{index:05}")
}

/// A settings struct as the text that goes into fingerprints.
pub(crate) fn settings_text(settings: &impl Serialize) -> String {
    serde_json::to_string(settings).expect("settings hold only texts, numbers and lists")
}
