//! `lynxdata run` and the commands of single stages.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::{columns, grouped, outcome, print};
use crate::exit::{DONE, Failure};
use crate::home::path_parser;
use crate::recipe::{self, LoadedRecipe, RESOLVED_RECIPE};
use crate::stages::{self, Context, Stage};

/// Run every stage of a recipe
///
/// Parts that are there under the same inputs and settings are skipped, so running it again after an interruption or a change of the recipe does only
/// what is left to do. Signals are measured while pictures are downloaded, so that one decode serves both.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata run recipe.toml
  lynxdata run recipe.toml --dry-run
  lynxdata run recipe.toml --set download.size=384 --set output=run-384")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: StageArguments,

    /// Go on even if the run folder holds the pool of another list and pairs of it would be removed
    #[arg(long)]
    replace: bool,
}

/// What all commands that work on a recipe take.
#[derive(Args)]
pub(crate) struct StageArguments {
    /// The recipe, a TOML file
    #[arg(value_parser = path_parser())]
    recipe: PathBuf,

    /// Overrides a value of the recipe, as in --set download.size=384; may be given several times, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Prints what would be done and what would be skipped, and does nothing but copy the source if it lies in an object store
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let names: Vec<&str> = stages::STAGES.iter().map(|stage| stage.name()).collect();
    let common = &arguments.common;
    let loaded = recipe::load(&common.recipe, &common.sets).map_err(Failure::Usage)?;
    run_loaded(loaded, &names, common.dry_run, arguments.replace)
}

/// Runs some stages of a recipe.
///
/// # Errors
/// [`Failure::Usage`] if the recipe does not ask for one of them.
pub(crate) fn run_stages(arguments: &StageArguments, names: &[&str]) -> Result<u8, Failure> {
    let loaded = recipe::load(&arguments.recipe, &arguments.sets).map_err(Failure::Usage)?;
    for stage in stages::STAGES.iter().filter(|stage| names.contains(&stage.name())) {
        let name = stage.name();
        // The stages of a check that its gear does not need are left out.
        if !stage.is_in(&loaded.recipe) && stages::command_of(name) == name {
            let error = anyhow!("recipe {} does not ask for {name}", loaded.path.display());
            return Err(Failure::Usage(error.context("nothing to do")));
        }
    }
    run_loaded(loaded, names, arguments.dry_run, false)
}

/// Runs or plans the named stages; `replaces` lets the pool of another list go.
pub(crate) fn run_loaded(loaded: LoadedRecipe, names: &[&str], dry_run: bool, replaces: bool) -> Result<u8, Failure> {
    loaded.check_surroundings().map_err(Failure::Usage)?;
    if dry_run {
        return plan(loaded, names, replaces);
    }
    let session = lynxdata_engine::session::local();
    if names.contains(&"select") {
        stages::select::check_rules(&loaded, &session).map_err(Failure::Usage)?;
    }
    if names.contains(&"instruct") {
        stages::instruct::check_tasks(&loaded).map_err(Failure::Usage)?;
    }
    let mut context = Context::new(loaded, session)?;
    context.replaces = replaces;
    if names.contains(&"download") {
        stages::download::check_list(&context)?;
    }
    keep_recipe(&context)?;
    let wanted: Vec<&dyn Stage> =
        stages::stages_of(context.recipe()).filter(|stage| names.contains(&stage.name())).collect();
    context.measures_downloads = wanted.iter().any(|stage| stage.name() == stages::signals::Signals.name());
    for stage in &wanted {
        stages::run(*stage, &context)?;
    }
    outcome::tell(&context, &wanted.iter().map(|stage| stage.name()).collect::<Vec<_>>())
}

/// The run folder keeps the recipe that made it, unless the recipe lies there anyway.
pub(super) fn keep_recipe(context: &Context) -> Result<(), Failure> {
    let copy = context.run.root().join("recipe.toml");
    let is_the_recipe = !context.loaded.is_of_flags
        && match (copy.canonicalize(), context.loaded.path.canonicalize()) {
            (Ok(copy), Ok(recipe)) => copy == recipe,
            _ => false,
        };
    if !is_the_recipe {
        context.keep("recipe.toml", &context.loaded.text)?;
    }
    let resolved = toml::to_string(context.recipe()).context("cannot write the resolved recipe as TOML")?;
    context.keep(RESOLVED_RECIPE, &resolved)?;
    Ok(())
}

fn plan(loaded: LoadedRecipe, names: &[&str], replaces: bool) -> Result<u8, Failure> {
    let session = lynxdata_engine::session::local();
    stages::select::check_rules(&loaded, &session).map_err(Failure::Usage)?;
    stages::instruct::check_tasks(&loaded).map_err(Failure::Usage)?;
    let folder = loaded.run_folder();
    let mut context = Context::inspecting(loaded, session)?;
    context.replaces = replaces;
    if names.contains(&"download") {
        stages::download::check_list(&context)?;
    }
    let wanted: Vec<&'static dyn Stage> =
        stages::stages_of(context.recipe()).filter(|stage| names.contains(&stage.name())).collect();
    let plans = stages::plan(&context, &wanted)?;
    let count = |parts: Option<u64>| parts.map_or_else(|| "?".to_owned(), grouped);
    let rows: Vec<Vec<String>> = plans
        .iter()
        .map(|plan| vec![plan.stage.to_owned(), count(plan.make), count(plan.skip), plan.reason.clone()])
        .collect();
    print(&format!("run folder {}\n\n", folder.display()))?;
    print(&columns(&["stage", "make", "skip", "why"], &rows, &[1, 2]))?;
    Ok(DONE)
}
