//! What every stage of a run works with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use arrow::array::RecordBatch;
use lynxdata_engine::Session;
use lynxdata_fetch::Metrics;
use lynxdata_records::{NewPart, PartEntry, RunFolder};
use tracing::info;

use crate::host::{Host, Silent, StageProgress};
use crate::mirror::Mirror;
use crate::recipe::{LoadedRecipe, Recipe};
use crate::stages::{command_of, is_current, settings_of};

/// What every stage works with.
pub struct Context {
    /// The recipe.
    pub loaded: LoadedRecipe,
    /// Its run folder.
    pub run: Arc<RunFolder>,
    /// Where downloads and copies run.
    pub runtime: tokio::runtime::Runtime,
    /// The database session of rules and signals.
    pub session: Session,
    /// The program that runs the recipe.
    pub host: Arc<dyn Host>,
    /// The progress of the stage that runs now.
    current: Mutex<Arc<dyn StageProgress>>,
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

    /// Looks at the run folder of a recipe without changing anything.
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
            measures_downloads: false,
            measured: Mutex::default(),
            along: Mutex::default(),
            mirror: None,
        }
    }

    /// Begins to show the progress of a stage; `parts` is how many it has, if that is known.
    pub(crate) fn begin(&self, stage: &'static str, parts: Option<u64>) -> Arc<dyn StageProgress> {
        let progress = self.host.stage(stage, parts);
        *self.current.lock().expect("nobody panics with the progress") = Arc::clone(&progress);
        progress
    }

    /// Returns the progress of the stage that runs now.
    pub(crate) fn progress(&self) -> Arc<dyn StageProgress> {
        Arc::clone(&self.current.lock().expect("nobody panics with the progress"))
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
    pub(crate) fn came_along(&self, stage: &str, part: &str) -> bool {
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
    pub fn keep(&self, name: &str, text: &str) -> Result<()> {
        self.run.keep(name, text)?;
        let Some(mirror) = &self.mirror else { return Ok(()) };
        self.runtime.block_on(mirror.keep(&self.run, name)).context("cannot mirror the run")
    }

    /// Returns the recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.loaded.recipe
    }

    /// Whether a stage is complete, made from what the stages before it hold now, and by what the recipe says now.
    pub(crate) fn is_current(&self, name: &str) -> Result<bool> {
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

/// Starts a runtime on all cores.
///
/// # Errors
/// If the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the async runtime")
}
