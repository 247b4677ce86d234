//! `lynxdata quickstart`: runs the whole pipeline on bundled images.

mod server;

use lynxdata_run::stage::Stage as _;
use lynxdata_run::stages::instruct::Instruct;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use include_dir::{Dir, include_dir};
use lynxdata_records::Manifest;
use lynxdata_report::data::ReportData;

use super::run::run_loaded;
use super::{columns, grouped, print};
use crate::exit::{Failure, INTERRUPTED};
use crate::paths::path_parser;
use lynxdata_run::Wanted;
use lynxdata_run::recipe;
use lynxdata_run::stages::report;

/// The recipe, the list of pairs and the images.
static EXAMPLE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/quickstart");

/// A few rows of every task, in the files of its authors.
static TASKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../datasets/fixtures");

/// Run the whole pipeline on bundled images: download, measure, deduplicate, select, shard,
/// instruct, check, report
///
/// A web server on this machine serves the images, so the real downloader runs without network
/// access. The result is an ordinary run folder and an ordinary recipe. Edit the recipe and run
/// this command again to see what changes, or copy it for your own data.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata quickstart
  lynxdata quickstart --out /tmp/first-look")]
pub(crate) struct Arguments {
    /// Folder for the recipe, its inputs and the run folder
    #[arg(long, value_name = "DIR", default_value = "lynxdata-quickstart", value_parser = path_parser())]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let folder = &arguments.out;
    let server = server::start(&EXAMPLE)?;
    let recipe_path = unpack(folder, &server.address())?;
    let loaded = recipe::load(&recipe_path, &[]).map_err(Failure::Usage)?;
    let run_folder = loaded.run_folder();
    print(&format!(
        "serving {} bundled images on http://{}/; the recipe is {}\n",
        grouped(server.pictures() as u64),
        server.address(),
        recipe_path.display()
    ))?;
    // The list is written by this command, and its URLs change with the port.
    let code = run_loaded(loaded, &Wanted { replaces: true, ..Wanted::all() }, false)?;
    if code != INTERRUPTED {
        print(&summary(&run_folder, &recipe_path)?)?;
    }
    Ok(code)
}

/// Writes the recipe and its inputs. Keeps a recipe that exists already, because the user may have
/// edited it.
fn unpack(folder: &Path, address: &str) -> Result<PathBuf> {
    let write = |path: &Path, bytes: &[u8]| -> Result<()> {
        let parent = path.parent().expect("a file below a folder has a parent");
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    let recipe = folder.join("recipe.toml");
    if !recipe.exists() {
        write(&recipe, bundled("recipe.toml")?)?;
    }
    let pairs = std::str::from_utf8(bundled("pairs.tsv")?).context("the bundled list is not UTF-8")?;
    write(&folder.join("pairs.tsv"), with_host(pairs, address).as_bytes())?;
    write(&folder.join("SOURCES.tsv"), bundled("SOURCES.tsv")?)?;
    unpack_folder(&TASKS, &folder.join("tasks"), &write)?;
    Ok(recipe)
}

fn unpack_folder(from: &Dir<'_>, to: &Path, write: &impl Fn(&Path, &[u8]) -> Result<()>) -> Result<()> {
    for file in from.files() {
        let name = file.path().file_name().context("a bundled file has no name")?;
        write(&to.join(name), file.contents())?;
    }
    for folder in from.dirs() {
        let name = folder.path().file_name().context("a bundled folder has no name")?;
        unpack_folder(folder, &to.join(name), write)?;
    }
    Ok(())
}

fn bundled(name: &str) -> Result<&'static [u8]> {
    Ok(EXAMPLE.get_file(name).with_context(|| format!("{name} is not bundled"))?.contents())
}

/// Puts the server's address before every URL that begins with a slash.
fn with_host(pairs: &str, address: &str) -> String {
    pairs
        .lines()
        .map(|line| if line.starts_with('/') { format!("http://{address}{line}\n") } else { format!("{line}\n") })
        .collect()
}

/// Returns the funnel, the verdict and the next commands to try.
fn summary(run: &Path, recipe: &Path) -> Result<String> {
    let page = run.join(report::PAGE);
    let path = run.join(report::DATA);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let data: ReportData =
        serde_json::from_str(&text).with_context(|| format!("{} is not the data of a report", path.display()))?;
    let rows: Vec<Vec<String>> = data
        .funnel
        .iter()
        .map(|step| {
            let lost: Vec<String> =
                step.losses.iter().map(|loss| format!("{} {}", grouped(loss.rows), loss.reason)).collect();
            let lost = if lost.is_empty() { String::new() } else { format!("- {}", lost.join(", ")) };
            vec![step.name.clone(), grouped(step.rows), lost]
        })
        .collect();
    let manifest = Manifest::read(run)?;
    let conversations: u64 = manifest.parts(Instruct.name()).map(|part| part.rows_out).sum();
    ensure!(!rows.is_empty(), "{} has no funnel", path.display());
    let verdict = data.check.map_or_else(String::new, |check| format!("Verdict: {}\n\n", check.verdict_sentence));
    let (page, recipe, run) = (page.display(), recipe.display(), run.display());
    Ok(format!(
        "\n{}\n{} conversations from annotated datasets\n\n{verdict}Report: {page}\n\nNext:\n  \
         edit {recipe} and run this command again: only what changed is done again\n  \
         lynxdata status {run}\n  lynxdata run {recipe} --dry-run\n  \
         lynxdata recipe new my-recipe.toml      for your own data\n",
        columns(&["", "pairs", "left out"], &rows, &[1]),
        grouped(conversations),
    ))
}
