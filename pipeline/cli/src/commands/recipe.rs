//! `lynxdata recipe`: writes, checks and describes recipes.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
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

/// Writes a file that must not exist yet.
///
/// # Errors
/// [`Failure::Usage`] if it exists or its folder does not, [`Failure::Failed`] if it cannot be
/// written.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) else { return Ok(()) };
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Err(Failure::Usage(anyhow!("{shown} exists already\nhint: give another name, or remove it first")))
        }
        io::ErrorKind::NotFound => {
            Err(Failure::Usage(anyhow!("{shown} cannot be written, because its folder does not exist\nhint: make it")))
        }
        _ => Err(Failure::Failed(anyhow!(error).context(format!("cannot write {shown}")))),
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::New { path, instruct } => {
            let template = if *instruct { recipe::INSTRUCT_TEMPLATE } else { recipe::TEMPLATE };
            write_new(path, template)?;
            print(&format!("wrote {0}; edit it, then: lynxdata recipe check {0}\n", path.display()))?;
        }
        Action::Check { path, sets } => {
            let loaded = recipe::load(path, sets).map_err(Failure::Usage)?;
            let session = lynxdata_engine::session::local();
            lynxdata_run::check(&loaded, &session, &Wanted::all()).map_err(Failure::Usage)?;
            // A run reads such a source only once, so the check before a run leaves it out.
            if !stages::download::can_be_read_twice(&loaded) {
                let checked = stages::download::check_source(&loaded);
                checked.with_context(|| format!("recipe {}", path.display())).map_err(Failure::Usage)?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_stays_and_only_wrong_paths_are_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| write_new(&folder.path().join(name), "text");
        let usage = |result| match result {
            Err(Failure::Usage(error)) => error.to_string(),
            other => panic!("not a usage error: {other:?}"),
        };
        write("new.toml").unwrap();
        assert!(usage(write("new.toml")).contains("give another name"));
        assert!(usage(write("nowhere/new.toml")).contains("its folder does not exist"));
        // A file cannot be used as a folder.
        assert!(matches!(write("new.toml/below.toml"), Err(Failure::Failed(_))));
        assert_eq!(std::fs::read_to_string(folder.path().join("new.toml")).unwrap(), "text");
    }
}
