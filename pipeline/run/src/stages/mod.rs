//! The stages of a run, in the order in which data flows.
//!
//! A stage defines its parts and how to make each; `crate::runner` runs any of them.

pub mod arms;
mod benchmarks;
pub mod card;
pub mod check;
pub mod dedup;
pub mod download;
mod folder_digest;
pub mod instruct;
pub mod mixture;
pub mod model;
pub mod report;
pub mod samples;
pub mod select;
pub mod shards;
pub mod signals;
pub(crate) mod task_pictures;
mod thumbnail;
pub mod train;

use crate::recipe::Recipe;
use crate::stage::Stage;

/// Every stage, in the order in which they run.
pub const STAGES: &[&dyn Stage] = &[
    &download::Download,
    &signals::Signals,
    &dedup::Dedup,
    &select::Select,
    &shards::Shards,
    &instruct::Instruct,
    &mixture::Mixture,
    &card::Card,
    &arms::Arms,
    &train::Train,
    &train::Controls,
    &check::Check,
    &arms::Examples,
    &model::Model,
    &report::Report,
];

/// Returns the stages that a recipe asks for.
pub fn stages_of(recipe: &Recipe) -> impl Iterator<Item = &'static dyn Stage> {
    STAGES.iter().copied().filter(|stage| stage.is_in(recipe))
}
