//! Stage `arms`: collects the pairs of a check from all their sources into small tables of one
//! format, so that fits do not read pools, folders and conversations.
//!
//! It has one part for the selections of the pool of this run, one for each folder, and one for the
//! folder to evaluate on. Each row has its text, the square of 64 pixels that features are computed
//! from, and the data for detecting duplicates.

mod conversations;
mod examples;
mod folder;
mod kind;
mod pool;
mod sample;
mod table;
mod universe;

use std::path::Path;

use anyhow::{Context as _, Result};
use lynxdata_records::{Manifest, NewPart, PartEntry, fingerprint};
use serde::Serialize;

pub use self::examples::Examples;
pub use self::examples::{CHECKPOINT, data_has_changed};
pub(crate) use self::examples::{for_each_example, training_of};
use self::kind::Kind;
use self::table::Squares;
pub use self::universe::base_pairs;
pub(crate) use self::universe::{load, split_config};
use crate::recipe::{ArmConfig, CheckConfig, CheckSettings, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::stages::dedup::{compared, pool_of};
use crate::stages::download::Download;
use crate::stages::select::Select;
use crate::stages::signals::Signals;

/// Version of the tables. Raise it when the same inputs give other rows.
const FORMAT_VERSION: &str = "2";

/// The count of the pairs that are read.
pub(crate) const READ: &str = "read";

/// The folder of the tables in the run folder.
const FOLDER: &str = "check/arms";

/// The part of the selections of this run.
const POOL: &str = "pool";

/// The part of the folder to evaluate on.
const EVALUATION: &str = "evaluation";

/// Returns the settings of the stages after the arms; the number of threads and the interval of
/// checkpoints are not among them.
pub(super) fn check_settings(recipe: &Recipe) -> String {
    let check = recipe.check.clone();
    let check = check.map(|check| CheckConfig { threads: 0, train: check.train.deciding(), ..check });
    settings_text(&(recipe.seed, check, compared(&recipe.dedup)))
}

/// Converts the arms of a check to one format.
pub struct Arms;

impl Stage for Arms {
    fn name(&self) -> &'static str {
        "arms"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.check.is_some()
    }

    fn command(&self) -> &'static str {
        "check"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(&(recipe.seed, recipe.check.as_ref().map(settings))))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, recipe: &Recipe) -> Vec<&'static dyn Stage> {
        let has_selection = recipe.check.as_ref().is_some_and(|check| check.selections().next().is_some());
        if has_selection { vec![&Download, &Signals, &Select] } else { Vec::new() }
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let mut planned: Vec<Result<Planned<'a>>> = Vec::new();
        if config.selections().next().is_some() {
            let inputs = pool_inputs(context, config)?;
            let make = Box::new(move |new: &mut NewPart| {
                let mut writer = table::Writer::create(context, new, (FOLDER, POOL), Squares::OF_CHECK)?;
                pool::write_selections(context, config, &mut writer)?;
                writer.finish(new)
            });
            planned.push(Ok(Planned::new(POOL.to_owned(), inputs, make)));
        }
        for (arm, name, path) in folders(config) {
            let path = context.loaded.folder.join(path);
            let kind = kind::of(&path).with_context(|| format!("arm {name}"))?;
            let print = print_of_folder(context.recipe(), config, arm, name, &kind)?;
            let make = Box::new(move |new: &mut NewPart| {
                let mut writer = table::Writer::create(context, new, (FOLDER, name), Squares::OF_CHECK)?;
                // The spare pairs replace those that are held out.
                let most = config.most_pairs.saturating_mul(2);
                write_folder(context, most, &kind, arm, &mut writer).with_context(|| format!("arm {name}"))?;
                writer.finish(new)
            });
            planned.push(Ok(Planned::new(name.to_owned(), print, make)));
        }
        Ok(Box::new(planned.into_iter()))
    }
}

fn print_of_folder(
    recipe: &Recipe,
    config: &CheckConfig,
    arm: Option<usize>,
    name: &str,
    kind: &Kind,
) -> Result<String> {
    let inputs = kind.inputs()?;
    // What the folder holds is an input.
    let CheckSettings { pairs: _, division, fewest: _, fits: _, model: _, outside: _ } = config.settings();
    let (_, _, most_pairs) = division;
    let settings = settings_text(&(recipe.seed, most_pairs, arm, name));
    let inputs = ["arms", FORMAT_VERSION, &settings].into_iter().chain(inputs.iter().map(String::as_str));
    Ok(fingerprint(inputs))
}

/// Returns whether a folder of an arm, or the folder to evaluate on, has changed since it was read.
/// For recipes in files, folders are relative to the file and are not checked.
pub(crate) fn folders_have_changed(recipe: &Recipe, manifest: &Manifest) -> bool {
    let Some(config) = &recipe.check else { return false };
    folders(config).filter(|(_, _, path)| path.is_absolute()).any(|(arm, name, path)| {
        let print = kind::of(path).and_then(|kind| print_of_folder(recipe, config, arm, name, &kind)).ok();
        manifest.part(Arms.name(), name).is_some_and(|part| Some(&part.fingerprint) != print.as_ref())
    })
}

/// Returns the check of the recipe.
pub(crate) fn check_of(context: &Context) -> Result<&CheckConfig> {
    context.recipe().check.as_ref().context("the recipe has no [check]")
}

/// Returns the arms that are folders, and the folder to evaluate on: its place among the arms if it
/// is one, its name and its path.
fn folders(config: &CheckConfig) -> impl Iterator<Item = (Option<usize>, &str, &Path)> {
    let arms = config.arms.iter().enumerate().filter_map(|(place, arm)| match arm {
        ArmConfig::Selection(_) | ArmConfig::Captions(_) => None,
        ArmConfig::Folder(folder) => Some((Some(place), folder.name.as_str(), folder.path.as_path())),
    });
    arms.chain(config.evaluate_on.iter().map(|path| (None, EVALUATION, path.as_path())))
}

/// Returns the settings that the tables of a check depend on, without their inputs.
fn settings(config: &CheckConfig) -> impl Serialize + '_ {
    // The pairs are divided and fitted later.
    let CheckSettings { pairs, division, fewest: _, fits: _, model: _, outside: _ } = config.settings();
    let (arms, evaluate_on, held_out_where) = pairs;
    let (_, held_out_most, most_pairs) = division;
    (arms, evaluate_on, held_out_where, (most_pairs, held_out_most))
}

fn pool_inputs(context: &Context, config: &CheckConfig) -> Result<String> {
    let names: Vec<&str> = config.selections().map(|(_, name, _)| name).collect();
    let settings = settings_text(&(context.recipe().seed, settings(config)));
    let pool = pool_of(context)?.digest();
    let selections = context.upstream(&Select)?;
    let selections = selections.iter().filter(|part| names.contains(&part.part.as_str()));
    let digests: Vec<String> = selections.map(PartEntry::digest).collect();
    Ok(fingerprint(["arms", FORMAT_VERSION, &settings, &pool].into_iter().chain(digests.iter().map(String::as_str))))
}

fn write_folder(
    context: &Context,
    most: usize,
    kind: &Kind,
    arm: Option<usize>,
    writer: &mut table::Writer,
) -> Result<()> {
    let seed = context.recipe().seed;
    let membership = table::Membership { arms: arm.map_or(0, |arm| 1 << arm), may_be_held_out: true };
    match kind {
        Kind::Pool { files, kept } => pool::write_pool(files, kept.as_deref(), membership, most, seed, writer),
        Kind::Pictures { path } => folder::write(context, path, membership, most, writer),
        Kind::Conversations { files, pictures } => {
            conversations::write(files, pictures, membership, most, seed, writer)
        }
    }
}
