//! Runs recipes: has the stages of a run, the run folder that they fill, and the interface to the
//! program that shows progress.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use lynxdata_run::{Silent, Wanted, recipe, run};
//!
//! let recipe = recipe::load(Path::new("recipe.toml"), &[])?;
//! run(recipe, &Wanted::all(), Arc::new(Silent))?;
//! # anyhow::Ok(())
//! ```
//!
//! For readers, in this order: [`recipe`] says what to do, [`mod@stage`] defines what a stage is,
//! [`stages`] has one file for each, `runner` is the loop that runs any of them, and [`Host`] is
//! the program that shows progress. [`status`] and [`verify`] read a run folder, and [`hydrate`],
//! [`calibrate`] and [`finding`] are work beside runs. Command lines, exit codes and log formats
//! are not here.

pub mod calibrate;
pub mod finding;
pub mod home;
pub mod host;
pub mod hydrate;
pub mod lynx;
pub mod mirror;
mod outcome;
pub mod pool;
pub mod recipe;
mod run_pictures;
mod runner;
pub mod stage;
pub mod stages;
pub mod status;
pub mod table;
pub mod verify;
pub mod video;

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use lynxdata_engine::Session;

pub use host::{Host, Silent, StageProgress};
pub use outcome::{Ending, outcome};
use recipe::{LoadedRecipe, RECIPE};
pub use run_pictures::RunPictures;
pub use runner::{StagePlan, run_stage, run_stages};
pub use stage::{Context, Stage, runtime};
use stages::STAGES;
use stages::download::Download;

/// The reason why a run was not done.
#[derive(Debug)]
pub enum Failure {
    /// The recipe or the command line is wrong; nothing was done.
    Usage(anyhow::Error),
    /// The work failed.
    Failed(anyhow::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Failure::Usage(error) | Failure::Failed(error)) = self;
        write!(formatter, "{error:#}")
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

impl From<lynxdata_records::Error> for Failure {
    fn from(error: lynxdata_records::Error) -> Self {
        Failure::Failed(error.into())
    }
}

/// The stages of a recipe to run.
#[derive(Clone)]
pub struct Wanted {
    /// The stages to run; those that the recipe does not ask for are skipped.
    pub stages: Vec<&'static dyn Stage>,
    /// Whether the pool of another list in the run folder may be replaced.
    pub replaces: bool,
}

impl Wanted {
    /// Returns all stages.
    pub fn all() -> Wanted {
        Wanted::only(STAGES)
    }

    /// Returns some stages.
    pub fn only(stages: &[&'static dyn Stage]) -> Wanted {
        Wanted { stages: stages.to_vec(), replaces: false }
    }

    /// Returns all stages of the command that runs `stage`.
    pub fn command_of(stage: &dyn Stage) -> Wanted {
        let stages = STAGES.iter().copied().filter(|other| other.command() == stage.command());
        Wanted { stages: stages.collect(), replaces: false }
    }

    fn has(&self, stage: &dyn Stage) -> bool {
        self.stages.iter().any(|wanted| wanted.name() == stage.name())
    }

    fn of(&self, context: &Context) -> Vec<&'static dyn Stage> {
        stages::stages_of(context.recipe()).filter(|stage| self.has(*stage)).collect()
    }
}

/// Checks that a recipe asks for the named stages.
///
/// # Errors
/// [`Failure::Usage`] if it does not ask for one of them.
pub fn check_wanted(loaded: &LoadedRecipe, wanted: &Wanted) -> Result<(), Failure> {
    for stage in &wanted.stages {
        let name = stage.name();
        // Stages of a check that its gear does not need are skipped.
        if !stage.is_in(&loaded.recipe) && stage.command() == name {
            let error = anyhow!("recipe {} does not ask for {name}", loaded.path.display());
            return Err(Failure::Usage(error.context("nothing to do")));
        }
    }
    Ok(())
}

/// Checks, before any work, that a recipe can be run: its folders and models, and what the wanted
/// stages check.
///
/// # Errors
/// If it cannot be run.
pub fn check(loaded: &LoadedRecipe, session: &Session, wanted: &Wanted) -> Result<()> {
    let check = || {
        loaded.check_surroundings()?;
        lynx::check_pretrained(loaded)?;
        if wanted.has(&Download) && stages::download::can_be_read_twice(loaded) {
            stages::download::check_source(loaded)?;
        }
        wanted.stages.iter().try_for_each(|stage| stage.check(loaded, session))
    };
    // The recipe of flags is not a file of the user.
    let checked = check();
    if loaded.is_of_flags { checked } else { checked.with_context(|| format!("recipe {}", loaded.path.display())) }
}

/// Runs stages of a recipe: makes the parts that are missing, and logs the outcome.
///
/// # Errors
/// [`Failure::Usage`] if the recipe cannot be run, [`Failure::Failed`] if the work fails; the same
/// call then continues from the parts that exist.
pub fn run(loaded: LoadedRecipe, wanted: &Wanted, host: Arc<dyn Host>) -> Result<Ending, Failure> {
    let session = host.session();
    check(&loaded, &session, wanted).map_err(Failure::Usage)?;
    let mut context = Context::new(loaded, session, host)?;
    context.replaces = wanted.replaces;
    if wanted.has(&Download) {
        stages::download::check_list(&context)?;
    }
    let stages = wanted.of(&context);
    for stage in &stages {
        let reads = stage.reads(context.recipe()).into_iter().filter(|input| !wanted.has(*input));
        reads.map(|input| context.upstream(input)).collect::<Result<Vec<_>>>()?;
    }
    keep_recipe(&context)?;
    run_stages(&stages, &context)?;
    Ok(outcome(&context, &stages)?)
}

/// Returns what [`run`] would do, without doing it.
///
/// # Errors
/// As [`run`].
pub fn plan(loaded: LoadedRecipe, wanted: &Wanted) -> Result<Vec<StagePlan>, Failure> {
    let session = Silent.session();
    check(&loaded, &session, wanted).map_err(Failure::Usage)?;
    let mut context = Context::inspecting(loaded, session, Arc::new(Silent))?;
    context.replaces = wanted.replaces;
    if wanted.has(&Download) {
        stages::download::check_list(&context)?;
    }
    let stages = wanted.of(&context);
    Ok(runner::plan(&context, &stages)?)
}

/// Writes the recipe into its run folder before the first change of its parts, unless the recipe
/// is there already.
///
/// # Errors
/// [`Failure::Usage`] if flags would replace a recipe that they did not write or that was edited,
/// [`Failure::Failed`] if the folder cannot be written to.
pub fn keep_recipe(context: &Context) -> Result<(), Failure> {
    let copy = context.run.root().join(RECIPE);
    if context.loaded.is_of_flags
        && let Ok(there) = std::fs::read_to_string(&copy)
        && !recipe::is_as_written(&there)
        // Earlier versions wrote the same lines without a digest.
        && !context.loaded.text.ends_with(&there)
    {
        return Err(Failure::Usage(anyhow!(
            "{0} was edited or was not written from flags, and the flags of this command would replace it\nhint: `lynxdata run {0}` runs it; remove it to use the flags",
            copy.display()
        )));
    }
    Ok(context.keep_recipe()?)
}

#[cfg(test)]
mod tests;
