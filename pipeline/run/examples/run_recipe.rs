//! Runs a recipe from another program: `cargo run -p lynxdata-run --example run_recipe --
//! recipe.toml`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lynxdata_run::{Ending, Host, StageProgress, Wanted, recipe, run};

/// A program that prints a line for every stage.
struct Lines;

struct Line(&'static str);

impl Host for Lines {
    fn stage(&self, name: &'static str, _parts: Option<u64>) -> Arc<dyn StageProgress> {
        Arc::new(Line(name))
    }
}

impl StageProgress for Line {
    #[expect(clippy::print_stdout, reason = "this program prints")]
    fn finish(&self, made: u64, skipped: u64, elapsed: Duration) {
        println!("{}: {made} parts made, {skipped} there already, {:.1} s", self.0, elapsed.as_secs_f64());
    }
}

fn main() -> anyhow::Result<()> {
    let path = PathBuf::from(std::env::args().nth(1).context("usage: run_recipe RECIPE")?);
    let ending = run(recipe::load(&path, &[])?, &Wanted::all(), Arc::new(Lines))?;
    anyhow::ensure!(ending == Ending::Done, "the run ended with {ending:?}");
    Ok(())
}
