//! The stages of a run, in the order in which data flows.
//!
//! A stage says which parts it consists of and how to make each; `runner.rs` runs any of them.

pub mod arms;
pub mod check;
pub mod dedup;
pub mod download;
mod folder_digest;
pub mod instruct;
pub mod model;
pub mod report;
pub mod samples;
pub mod select;
pub mod shards;
pub mod signals;
pub mod table;
pub mod train;

use anyhow::Result;
use lynxdata_records::{Manifest, NewPart, PartEntry, fingerprint};
use serde::Serialize;

use crate::context::Context;
use crate::recipe::{CheckConfig, Recipe, SelectionConfig};

/// A stage of the run.
pub trait Stage: Sync {
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
pub type Parts<'a> = Box<dyn Iterator<Item = Result<Planned<'a>>> + Send + 'a>;

/// Writes the files of a part and fills in its rows and counts.
pub type Make<'a> = Box<dyn FnOnce(&mut NewPart) -> Result<()> + Send + 'a>;

/// A part that a stage is to have, and how to make it.
pub struct Planned<'a> {
    /// The name of the part, ordered as text.
    pub name: String,
    /// Over format version, settings and inputs.
    pub fingerprint: String,
    /// Makes the part: writes its files and fills in its rows and counts.
    pub make: Make<'a>,
}

/// Every stage, in the order in which they run.
pub const STAGES: &[&dyn Stage] = &[
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
pub fn stages_of(recipe: &Recipe) -> impl Iterator<Item = &'static dyn Stage> {
    STAGES.iter().copied().filter(|stage| stage.is_in(recipe))
}

/// The command that runs a stage: those of a check belong to one command.
pub fn command_of(stage: &str) -> &str {
    match stage {
        _ if CHECK_STAGES.contains(&stage) => "check",
        _ if TRAINING_STAGES.contains(&stage) => "train",
        stage => stage,
    }
}

/// The stages of `lynxdata check`.
pub const CHECK_STAGES: &[&str] = &["arms", "train", "controls", "check"];

/// The stages of `lynxdata train`.
pub const TRAINING_STAGES: &[&str] = &["examples", "model"];

/// Whether a stage of a run is complete, made from what the stages before it hold now, and by what a recipe says now. Of those stages themselves it says
/// nothing.
pub fn is_current(manifest: &Manifest, name: &str, recipe: &Recipe) -> Result<bool> {
    let Some(stage) = STAGES.iter().find(|stage| stage.name() == name) else { return Ok(false) };
    Ok(manifest.is_current(name, &stage.reads(recipe), &settings_of(name, recipe)?))
}

/// A digest of what a recipe says of a stage. The fingerprints of its parts say the same and more, but to know these takes reading what it reads: for the
/// download, the whole list.
pub(crate) fn settings_of(stage: &str, recipe: &Recipe) -> Result<String> {
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

/// The name of part number `index`.
pub(crate) fn part_name(index: u32) -> String {
    format!("{index:05}")
}

/// A settings struct as the text that goes into fingerprints.
pub(crate) fn settings_text(settings: &impl Serialize) -> String {
    serde_json::to_string(settings).expect("settings hold only texts, numbers and lists")
}
