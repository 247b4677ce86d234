//! Defines a stage and its environment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use lynxdata_engine::Session;
use lynxdata_fetch::{Measure, Metrics};
use lynxdata_filters::{MeasureError, Value};
use lynxdata_records::temporary::Memory;
use lynxdata_records::{Manifest, NewPart, PartEntry, RunFolder, fingerprint};
use serde::Serialize;
use tracing::info;

use crate::host::{Host, Silent, StageProgress};
use crate::mirror::Mirror;
use crate::recipe::{LoadedRecipe, RECIPE, RESOLVED_RECIPE, Recipe};

/// The environment of every stage.
pub struct Context {
    /// The recipe.
    pub loaded: LoadedRecipe,
    /// Its run folder.
    pub run: Arc<RunFolder>,
    /// The runtime of downloads and copies.
    pub runtime: tokio::runtime::Runtime,
    /// The database session of rules and signals.
    pub session: Session,
    /// The program that runs the recipe.
    pub host: Arc<dyn Host>,
    /// The progress of the stage that runs now.
    current: Mutex<Arc<dyn StageProgress>>,
    /// Whether pairs of the pool may be removed if the list does not have them any more.
    pub replaces: bool,
    /// Whether the list was already compared with the existing pool.
    pub is_compared: AtomicBool,
    /// The counters of the download.
    pub metrics: Arc<Metrics>,
    /// The mirror of the run folder, if its output is an object store.
    mirror: Option<Mirror>,
    /// Whether the run folder still has the recipe of an earlier run.
    has_earlier_recipe: AtomicBool,
}

impl Context {
    /// Opens the run folder of a recipe, and creates it if needed.
    pub fn new(loaded: LoadedRecipe, session: Session, host: Arc<dyn Host>) -> Result<Context> {
        let runtime = runtime()?;
        let (folder, mirror) = (loaded.run_folder(), Mirror::of(&loaded.recipe.output));
        let run = Arc::new(RunFolder::open(&folder)?);
        host.opened(&run);
        if let Some(mirror) = &mirror {
            runtime.block_on(mirror.meet(&run, &mut mirror.turn())).context("cannot mirror the run")?;
        }
        Ok(Context { mirror, ..Context::of(loaded, session, runtime, run, host) })
    }

    /// Opens the run folder of a recipe without changing anything.
    pub fn inspecting(loaded: LoadedRecipe, session: Session, host: Arc<dyn Host>) -> Result<Context> {
        let run = Arc::new(RunFolder::inspect(&loaded.run_folder())?);
        Ok(Context::of(loaded, session, runtime()?, run, host))
    }

    fn of(
        loaded: LoadedRecipe,
        session: Session,
        runtime: tokio::runtime::Runtime,
        run: Arc<RunFolder>,
        host: Arc<dyn Host>,
    ) -> Context {
        Context {
            loaded,
            run,
            runtime,
            session,
            host,
            current: Mutex::new(Arc::new(Silent)),
            replaces: false,
            is_compared: AtomicBool::new(false),
            metrics: Arc::default(),
            mirror: None,
            has_earlier_recipe: AtomicBool::new(false),
        }
    }

    /// Begins to show the progress of a stage; `parts` is the number of its parts, if that is
    /// known.
    pub(crate) fn begin(&self, stage: &'static str, parts: Option<u64>) -> Arc<dyn StageProgress> {
        let progress = self.host.stage(stage, parts);
        *self.current.lock().expect("nobody panics with the progress") = Arc::clone(&progress);
        progress
    }

    /// Returns the progress of the stage that runs now.
    pub(crate) fn progress(&self) -> Arc<dyn StageProgress> {
        Arc::clone(&self.current.lock().expect("nobody panics with the progress"))
    }

    /// Commits a part, locally and in the mirror.
    pub fn commit(&self, part: NewPart) -> Result<PartEntry> {
        self.replace_earlier_recipe()?;
        let Some(mirror) = &self.mirror else { return Ok(self.run.commit(part)?) };
        let mut turn = mirror.turn();
        let old = self.run.part(part.stage(), part.name());
        let entry = self.run.commit(part)?;
        let removed: Vec<String> = old.iter().flat_map(|old| old.paths_not_in(&entry)).map(str::to_owned).collect();
        let published = mirror.publish(&self.run, &entry, &removed, &mut turn);
        self.runtime.block_on(published).context("cannot mirror the run")?;
        Ok(entry)
    }

    /// Records that a stage is complete, locally and in the mirror.
    pub fn complete(&self, stage: &dyn Stage, parts: Vec<String>) -> Result<()> {
        self.replace_earlier_recipe()?;
        let reads = names(&stage.reads(self.recipe()));
        let settings = settings_digest(stage, self.recipe())?;
        let stage = stage.name();
        let removed = self.run.complete(stage, parts, &reads, &settings)?;
        if !removed.is_empty() {
            info!(stage, files = removed.len(), "removed files of parts that the stage no longer has");
        }
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let mut turn = mirror.turn();
        let published = mirror.publish_manifest(&self.run, &removed, &mut turn);
        self.runtime.block_on(published).context("cannot mirror the run")
    }

    /// Writes the recipe into the run folder: at once if the folder has no parts, otherwise before
    /// the first change of its parts. Until then, the recipe there is the one that they were made
    /// with. This run may still be refused, for example because its list lacks pairs of the pool.
    pub(crate) fn keep_recipe(&self) -> Result<()> {
        self.has_earlier_recipe.store(true, Ordering::Relaxed);
        match self.run.manifest().all_parts().next() {
            Some(_) => Ok(()),
            None => self.replace_earlier_recipe(),
        }
    }

    fn replace_earlier_recipe(&self) -> Result<()> {
        if !self.has_earlier_recipe.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let copy = self.run.root().join(RECIPE);
        let is_the_recipe = !self.loaded.is_of_flags
            && match (copy.canonicalize(), self.loaded.path.canonicalize()) {
                (Ok(copy), Ok(recipe)) => copy == recipe,
                _ => false,
            };
        if !is_the_recipe {
            self.keep(RECIPE, &self.loaded.text)?;
        }
        let resolved = toml::to_string(self.recipe()).context("cannot write the resolved recipe as TOML")?;
        self.keep(RESOLVED_RECIPE, &resolved)
    }

    /// Writes a text file beside the parts, locally and in the mirror.
    pub fn keep(&self, name: &str, text: &str) -> Result<()> {
        self.run.keep(name, text)?;
        let Some(mirror) = &self.mirror else { return Ok(()) };
        self.runtime.block_on(mirror.keep(&self.run, name)).context("cannot mirror the run")
    }

    /// Returns the recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }

    /// Returns the memory for what stages hold about pairs that may be duplicates. What exceeds it
    /// goes to the folder of temporary files.
    pub(crate) fn memory(&self) -> Memory {
        let bytes = self.recipe().resources.memory_mb.saturating_mul(1_000_000);
        Memory::limited(bytes, self.run.temporary_folder())
    }

    /// Returns whether a stage is complete and was made from the present parts of its input stages
    /// and the present settings.
    pub(crate) fn is_current(&self, stage: &dyn Stage) -> Result<bool> {
        is_current(&self.run.manifest(), stage, self.recipe())
    }

    /// Returns the committed parts of a stage that another stage reads.
    ///
    /// # Errors
    /// If the stage is not complete or is out of date; the message has the command that completes
    /// it.
    pub(crate) fn upstream(&self, stage: &dyn Stage) -> Result<Vec<PartEntry>> {
        let manifest = self.run.manifest();
        if !self.is_current(stage)? {
            let (name, command) = (stage.name(), stage.command());
            let fault = if manifest.is_complete(name) {
                "out of date: its inputs, its settings in the recipe or the version of its output have changed"
            } else {
                "not complete"
            };
            bail!(
                "stage {name} of {} is {fault}\nhint: run `lynxdata {command} {}` first, or `lynxdata run` for all stages",
                self.run.root().display(),
                self.loaded.arguments()
            );
        }
        Ok(manifest.parts(stage.name()).cloned().collect())
    }
}

/// Starts an async runtime on all cores.
///
/// # Errors
/// If the system cannot start threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the async runtime")
}

/// A stage of the run.
pub trait Stage: Sync {
    /// Returns its name in the command line, the manifest and the report.
    fn name(&self) -> &'static str;

    /// Returns whether the recipe asks for it.
    fn is_in(&self, recipe: &Recipe) -> bool;

    /// Returns the command that runs it. A command may run several stages.
    fn command(&self) -> &'static str {
        self.name()
    }

    /// Returns the version of its output. It is raised when the same inputs and settings give other
    /// bytes, so that older parts are made again.
    fn format_version(&self) -> String;

    /// Returns the stages whose parts it reads.
    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage>;

    /// Returns its settings in a recipe, as text. The fingerprints of its parts cover more than
    /// these, but computing them means reading the inputs: for the download, the whole list.
    ///
    /// # Errors
    /// If the recipe names something that does not exist, such as a preset.
    fn settings(&self, recipe: &Recipe) -> Result<String>;

    /// Checks, before any work, what the recipe says about it: that files exist, that rules can be
    /// compiled.
    ///
    /// # Errors
    /// If the recipe cannot be run.
    fn check(&self, _loaded: &LoadedRecipe, _session: &Session) -> Result<()> {
        Ok(())
    }

    /// Returns an object that makes its parts along with a part that is being downloaded, if they
    /// can be made like that.
    ///
    /// # Errors
    /// If a measurer cannot be made.
    fn along_download(&self) -> Result<Option<Box<dyn AlongDownload>>> {
        Ok(None)
    }

    /// Returns the number of parts that are made at the same time.
    fn workers(&self, _context: &Context) -> usize {
        1
    }

    /// Returns whether the rows of a part are counted, given that those of the first part are.
    /// Parts that hold the same rows in another form, such as formats of shards, are counted once.
    fn counts_rows(&self, _part: &str, _first: &str, _main_selection: Option<&str>) -> bool {
        true
    }

    /// Returns its outcome, for the last line of a run.
    ///
    /// # Errors
    /// If its output cannot be read.
    fn outcome(&self, _context: &Context) -> Result<StageOutcome> {
        Ok(StageOutcome::default())
    }

    /// Returns its parts in order, planned one by one as the loop asks for them.
    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>>;
}

/// The result of a stage.
#[derive(Debug, Default)]
pub struct StageOutcome {
    /// Sentences for the last line of a run.
    pub sentences: Vec<String>,
    /// Whether an output is useless because it is empty.
    pub is_bad: bool,
    /// Whether more was lost than is allowed, although the outputs are useful.
    pub is_lossy: bool,
}

/// The parts of a stage, planned lazily.
pub type Parts<'a> = Box<dyn Iterator<Item = Result<Planned<'a>>> + Send + 'a>;

/// A function that writes the files of a part and fills in its rows and counts. It receives the
/// later stages of the run, and returns those of their parts that are made along with it.
type Make<'a> = Box<dyn FnOnce(&mut NewPart, &[&'a dyn Stage]) -> Result<Vec<Along<'a>>> + Send + 'a>;

/// A function that plans a part which reads a committed part of an earlier stage.
pub type PlanAlong<'a> = Box<dyn FnOnce(PartEntry) -> Planned<'a> + Send + 'a>;

/// A part of a later stage that can be made together with a part of an earlier one, such as the
/// signals of images that are being downloaded. The loop makes it after the earlier part is
/// committed.
pub struct Along<'a> {
    /// The later stage.
    pub stage: &'a dyn Stage,
    /// Plans its part.
    pub plan: PlanAlong<'a>,
}

/// The values that were measured on a pair during its download.
pub type Measured = std::result::Result<Vec<Value>, MeasureError>;

/// Measures the pairs of a part of the pool while they are downloaded, so that parts of a later
/// stage are made along with it.
pub trait AlongDownload: Send {
    /// Returns the measurement of a pair, which runs while its pixels are in memory.
    fn measure(&self) -> Arc<dyn Measure<Measured>>;

    /// Adds the measurement of each of these pairs; `None` if it panicked.
    ///
    /// # Errors
    /// If a measurement failed, or if the pairs are not those of a pool.
    fn add(&mut self, pairs: &RecordBatch, measured: Vec<Option<Measured>>) -> Result<()>;

    /// Returns the parts that are made along with this part of the pool; none after a panic, which
    /// is logged.
    fn finish<'a>(self: Box<Self>, part: &str, context: &'a Context) -> Vec<PlanAlong<'a>>;
}

/// A part that a stage should have, and how to make it.
pub struct Planned<'a> {
    /// The name of the part, ordered as text.
    pub name: String,
    /// Fingerprint of format version, settings and inputs.
    pub fingerprint: String,
    /// Makes the part.
    pub make: Make<'a>,
}

impl<'a> Planned<'a> {
    /// Plans a part that is made alone, without parts of a later stage.
    pub fn new(
        name: impl Into<String>,
        fingerprint: String,
        make: impl FnOnce(&mut NewPart) -> Result<()> + Send + 'a,
    ) -> Planned<'a> {
        Planned { name: name.into(), fingerprint, make: Box::new(move |new, _later| make(new).map(|()| Vec::new())) }
    }
}

/// Returns whether a stage of a run is complete and was made from the present parts of its input
/// stages and the present settings. Does not check whether the input stages themselves are current.
///
/// # Errors
/// If the recipe names something that does not exist.
pub fn is_current(manifest: &Manifest, stage: &dyn Stage, recipe: &Recipe) -> Result<bool> {
    Ok(manifest.is_current(stage.name(), &names(&stage.reads(recipe)), &settings_digest(stage, recipe)?))
}

/// Returns a digest of the settings of a stage and of the version of its output: a stage whose
/// parts an earlier version of this program made is out of date.
fn settings_digest(stage: &dyn Stage, recipe: &Recipe) -> Result<String> {
    Ok(fingerprint([stage.name(), &stage.format_version(), &stage.settings(recipe)?]))
}

fn names(stages: &[&'static dyn Stage]) -> Vec<&'static str> {
    stages.iter().map(|stage| stage.name()).collect()
}

/// Returns the name of part number `index`.
pub(crate) fn part_name(index: u32) -> String {
    format!("{index:05}")
}

/// Returns a settings struct as the text that goes into fingerprints.
pub(crate) fn settings_text(settings: &impl Serialize) -> String {
    serde_json::to_string(settings).expect("settings hold only texts, numbers and lists")
}
