//! `lynxdata recipe`: writes, checks and describes recipes.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::print;
use crate::exit::{DONE, Failure};
use crate::paths::path_parser;
use lynxdata_run::{Wanted, recipe, stages};

/// Write, check or describe recipes
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata recipe new recipe.toml
  lynxdata recipe new recipe.toml --instruct
  lynxdata recipe check recipe.toml
  lynxdata recipe check recipe.toml --set source.path=more.parquet
  lynxdata recipe schema > recipe.schema.json")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write a commented recipe to edit
    #[command(after_help = "\
Examples:
  lynxdata recipe new recipe.toml
  lynxdata recipe new recipe.toml --instruct")]
    New {
        /// The file to write; it must not exist yet
        #[arg(value_parser = path_parser())]
        path: PathBuf,
        /// Write a recipe for conversations from annotated datasets instead of a list of images
        #[arg(long)]
        instruct: bool,
    },
    /// Check a recipe, its paths, columns and rules, and print it with all defaults filled in
    #[command(after_help = "\
Examples:
  lynxdata recipe check recipe.toml
  lynxdata recipe check recipe.toml --set source.path=more.parquet > resolved.toml")]
    Check {
        /// The recipe
        #[arg(value_parser = path_parser())]
        path: PathBuf,
        /// Override a value, as for `lynxdata run`
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
    },
    /// Print the JSON schema of recipes, for editors that complete and check TOML
    #[command(after_help = "\
Examples:
  lynxdata recipe schema > recipe.schema.json")]
    Schema,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::New { path, instruct } => {
            let template = if *instruct { recipe::INSTRUCT_TEMPLATE } else { recipe::TEMPLATE };
            let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
            file.and_then(|mut file| file.write_all(template.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()))
                .map_err(Failure::Usage)?;
            print(&format!("wrote {0}; edit it, then: lynxdata recipe check {0}\n", path.display()))?;
        }
        Action::Check { path, sets } => {
            let loaded = recipe::load(path, sets).map_err(Failure::Usage)?;
            stages::download::check_source(&loaded).map_err(Failure::Usage)?;
            let session = lynxdata_engine::session::local();
            lynxdata_run::check(&loaded, &session, &Wanted::all()).map_err(Failure::Usage)?;
            let text = toml::to_string(&loaded.recipe).context("cannot write the recipe as TOML")?;
            print(&text)?;
        }
        Action::Schema => {
            let text = serde_json::to_string_pretty(&recipe::schema()).context("cannot write the schema as JSON")?;
            print(&format!("{text}\n"))?;
        }
    }
    Ok(DONE)
}
