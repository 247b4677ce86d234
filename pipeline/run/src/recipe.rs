//! Recipes: the TOML file of a whole run. There is one file here per section, `whole` joins them,
//! and `load` reads them.

mod check;
mod decontaminate;
mod instruct;
mod load;
mod mixture;
mod names;
mod select;
mod shards;
mod training;
mod whole;

pub use check::{ArmCaptions, ArmConfig, ArmFolder, CheckConfig, CheckSettings};
pub use decontaminate::{DecontaminateConfig, LikenessConfig};
pub use instruct::{InstructConfig, InstructSettings, LicenceChoice, TaskSource};
pub use load::{LoadedRecipe, is_as_written, load, of_flags, text_of};
pub use mixture::MixtureConfig;
pub use select::SelectionConfig;
pub use shards::{ShardFormat, ShardsConfig};
pub use training::TrainingConfig;
pub use whole::{Recipe, ReportConfig, ResourcesConfig};

/// File in the run folder: the recipe as the user wrote it.
pub const RECIPE: &str = "recipe.toml";

/// File in the run folder: the recipe with every setting, defaults included.
pub const RESOLVED_RECIPE: &str = "recipe.resolved.toml";

/// The recipe that `lynxdata recipe new` writes: complete, commented, ready to edit.
pub const TEMPLATE: &str = include_str!("../assets/recipe.toml");

/// The recipe that `lynxdata recipe new --instruct` writes: conversations from annotated datasets.
pub const INSTRUCT_TEMPLATE: &str = include_str!("../assets/instruct.toml");

/// Settings of the first stage of Lynx: from random weights, on pairs.
pub const PRETRAIN: &str = include_str!("../assets/training/pretrain.toml");

/// Settings of the second stage of Lynx: from a pretrained model, on conversations.
pub const FINETUNE: &str = include_str!("../assets/training/finetune.toml");

/// Returns the JSON schema of a recipe, for editors.
pub fn schema() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft07();
    settings.into_generator().into_root_schema_for::<Recipe>().to_value()
}
