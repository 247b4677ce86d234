//! Runs a recipe from another program: `cargo run -p lynxdata-run --example run_recipe --
//! recipe.toml`.

#![allow(clippy::print_stdout, reason = "this program prints")]

use std::path::Path;
use std::sync::Arc;

use lynxdata_run::{Ending, Host, StageProgress, Wanted, recipe, run};

/// A program that prints a line for every stage.
struct Lines;

impl Host for Lines {
    fn stage(&self, name: &'static str, parts: Option<u64>) -> Arc<dyn StageProgress> {
        println!("{name}: {} parts", parts.map_or_else(|| "some".to_owned(), |parts| parts.to_string()));
        Arc::new(lynxdata_run::Silent)
    }
}

/// Runs all stages of a recipe.
pub(crate) fn run_all(recipe: &Path) -> anyhow::Result<Ending> {
    Ok(run(recipe::load(recipe, &[])?, &Wanted::all(), Arc::new(Lines))?)
}

#[allow(dead_code, reason = "a test runs only the function above")]
fn main() -> anyhow::Result<()> {
    let recipe = std::env::args().nth(1).unwrap_or_else(|| "recipe.toml".to_owned());
    println!("{:?}", run_all(Path::new(&recipe))?);
    Ok(())
}
