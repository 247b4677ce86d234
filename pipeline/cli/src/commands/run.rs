//! `lynxdata run` and the commands of single stages.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lynxdata_run::recipe::{self, LoadedRecipe};
use lynxdata_run::{Stage, Wanted};

use super::{columns, grouped, print};
use crate::exit::{self, DONE, Failure};
use crate::host::Terminal;
use crate::paths::path_parser;

/// Run every stage of a recipe
///
/// Skips parts that were already made from the same inputs and settings. After an interruption or a
/// change of the recipe, the same command does only what is left to do. Signals are measured during
/// the download, so that each image is decoded once.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata run recipe.toml
  lynxdata run recipe.toml --dry-run
  lynxdata run recipe.toml --set download.size=384 --set output=run-384")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: StageArguments,

    /// Continue even if pairs of the pool would be lost because it was made from another list or
    /// its images cannot be downloaded any more
    #[arg(long)]
    replace: bool,
}

/// Arguments of all commands that work on a recipe.
#[derive(Args)]
pub(crate) struct StageArguments {
    /// The recipe, a TOML file
    #[arg(value_parser = path_parser())]
    recipe: PathBuf,

    /// Override a value of the recipe, as in --set download.size=384; repeatable, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print what would be done and what would be skipped, and do nothing else, except that a
    /// source in an object store is copied
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let common = &arguments.common;
    let loaded = recipe::load(&common.recipe, &common.sets).map_err(Failure::Usage)?;
    run_loaded(loaded, &Wanted { replaces: arguments.replace, ..Wanted::all() }, common.dry_run)
}

/// Runs the stages of the command that runs `stage`.
///
/// # Errors
/// [`Failure::Usage`] if the recipe does not ask for it.
pub(crate) fn run_stage(arguments: &StageArguments, stage: &dyn Stage) -> Result<u8, Failure> {
    let loaded = recipe::load(&arguments.recipe, &arguments.sets).map_err(Failure::Usage)?;
    let wanted = Wanted::command_of(stage);
    lynxdata_run::check_wanted(&loaded, &wanted)?;
    run_loaded(loaded, &wanted, arguments.dry_run)
}

/// Runs or plans stages of a recipe.
pub(crate) fn run_loaded(loaded: LoadedRecipe, wanted: &Wanted, dry_run: bool) -> Result<u8, Failure> {
    if !dry_run {
        return Ok(exit::code(lynxdata_run::run(loaded, wanted, Arc::new(Terminal))?));
    }
    let folder = loaded.run_folder();
    let plans = lynxdata_run::plan(loaded, wanted)?;
    let count = |parts: Option<u64>| parts.map_or_else(|| "?".to_owned(), grouped);
    let rows: Vec<Vec<String>> = plans
        .iter()
        .map(|plan| vec![plan.stage.to_owned(), count(plan.make), count(plan.skip), plan.reason.clone()])
        .collect();
    print(&format!("run folder {}\n\n", folder.display()))?;
    print(&columns(&["stage", "make", "skip", "why"], &rows, &[1, 2]))?;
    Ok(DONE)
}
