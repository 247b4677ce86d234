//! `lynxdata instruct`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use lynxdata_datasets::Task;
use lynxdata_datasets::export::{FORMATS, Format};
use lynxdata_run::home::expanded;
use lynxdata_run::recipe::{self, LoadedRecipe};
use lynxdata_run::stages::instruct::Instruct;
use lynxdata_run::{Wanted, check_wanted};
use tracing::info;

use super::run::run_loaded;
use super::tasks::{Own, check_split, find, load};
use super::text_of;
use crate::exit::Failure;
use crate::paths::path_parser;

/// The split that is used if a task has files of several splits.
const TRAINING_SPLIT: &str = "train";

/// Turn annotated datasets into conversations
///
/// Takes a recipe or flags; flags are also written as a recipe into the run folder. `instruct/` has
/// the conversations of each dataset, `mixture/` one shuffled set of all of them.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata instruct recipe.toml
  lynxdata instruct --task vqav2=~/vqa --to llava --out set
  lynxdata instruct --task vqav2=~/vqa:train#20000 --task gqa=~/gqa --to swift,parquet --out set
  lynxdata instruct --task vqav2=~/vqa --images vqav2=~/coco --task okvqa=~/okvqa \\
      --images okvqa=~/coco --mixture lynx-finetune --total 50000 --to llava --out set
  lynxdata tasks list                           list the datasets that can be read")]
pub(crate) struct Arguments {
    /// The recipe, a TOML file
    #[arg(value_parser = path_parser())]
    recipe: Option<PathBuf>,

    /// Override a value of the recipe, as in --set instruct.prompts=one; repeatable, the last one
    /// wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print what would be done and what would be skipped, and do nothing else
    #[arg(long)]
    dry_run: bool,

    /// A dataset and the folder of its files, as its authors publish them, instead of a recipe.
    /// SPLIT is by default `train`, or the only split that is present; if the task names its file
    /// by the split, such as `llava_json`, any name of a file is one. N is the maximum number of
    /// records, which are drawn with the seed. Repeatable
    #[arg(
        long = "task",
        value_name = "NAME=DIR[:SPLIT][#N]",
        required_unless_present = "recipe",
        conflicts_with = "recipe",
        requires = "out"
    )]
    tasks: Vec<String>,

    /// The folder of a dataset's images, if it is not DIR of its --task; repeatable
    #[arg(long, value_name = "NAME=DIR", requires = "tasks")]
    images: Vec<String>,

    /// Formats to write, separated by commas
    #[arg(
        long,
        value_name = "FORMAT,…",
        value_parser = formats(),
        value_delimiter = ',',
        default_value = "parquet",
        requires = "tasks"
    )]
    to: Vec<String>,

    /// The run folder, or a URL in an object store, such as s3://bucket/run
    #[arg(long, value_name = "DIR", requires = "tasks", value_parser = path_parser())]
    out: Option<PathBuf>,

    /// Seed of wordings, orders of options and draws
    #[arg(long, value_name = "N", default_value_t = 0, requires = "tasks")]
    seed: i64,

    /// Leave out datasets whose annotation licence does not clearly allow this use
    #[arg(long, value_name = "USE", value_parser = ["any", "commercial"], requires = "tasks")]
    licence: Option<String>,

    /// A published mixture that sets the shares of the datasets in `mixture/`; by default, every
    /// conversation is in it once
    #[arg(long, value_name = "PRESET", requires = "tasks")]
    mixture: Option<String>,

    /// Number of conversations in `mixture/`
    #[arg(long, value_name = "N", requires = "tasks")]
    total: Option<i64>,

    #[command(flatten)]
    own: Own,
}

/// Returns every format with its description; `conversations` is another name of `parquet`.
fn formats() -> PossibleValuesParser {
    let value = |format: &&'static Format| {
        let value = PossibleValue::new(format.name).help(format.description);
        if format.name == "parquet" { value.alias("conversations") } else { value }
    };
    PossibleValuesParser::new(FORMATS.iter().map(value).collect::<Vec<_>>())
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let loaded = match &arguments.recipe {
        Some(path) => {
            if arguments.own.catalogue.is_some() || arguments.own.banks.is_some() {
                let fault = anyhow!("--catalogue and --banks belong to --task; in a recipe, set them under [instruct]");
                return Err(Failure::Usage(fault));
            }
            recipe::load(path, &arguments.sets).map_err(Failure::Usage)?
        }
        None => of_flags(arguments)?,
    };
    let wanted = Wanted::command_of(&Instruct);
    check_wanted(&loaded, &wanted)?;
    run_loaded(loaded, &wanted, arguments.dry_run)
}

/// Returns the recipe that is made from the flags.
fn of_flags(arguments: &Arguments) -> Result<LoadedRecipe, Failure> {
    let (catalogue, _) = load(&arguments.own)?;
    let mut tasks = Vec::new();
    for text in &arguments.tasks {
        let given = Given::parse(text).with_context(|| format!("--task {text}")).map_err(Failure::Usage)?;
        let task = find(&catalogue, &given.name)?;
        tasks.push((task, given));
    }
    recipe_of(arguments, &tasks).map_err(Failure::Usage)
}

fn recipe_of(arguments: &Arguments, tasks: &[(&Task, Given)]) -> anyhow::Result<LoadedRecipe> {
    let out = arguments.out.as_ref().context("--out is needed")?;
    let (out, folder) = super::download::output_of_flags(out)?;
    let mut sources = Vec::new();
    for (task, given) in tasks {
        let mut source = toml::Table::new();
        source.insert("name".to_owned(), task.name.clone().into());
        source.insert("root".to_owned(), text_of(&given.folder)?.into());
        source.insert("split".to_owned(), split_of(task, given)?.into());
        if let Some(most) = given.most {
            source.insert("most".to_owned(), most.into());
        }
        sources.push(source);
    }
    let mut with_images = BTreeSet::new();
    for text in &arguments.images {
        let (name, pictures) = folder_of(text).with_context(|| format!("--images {text}"))?;
        ensure!(with_images.insert(name), "--images {text}: another --images already names a folder for {name}");
        let mut of_task = sources.iter_mut().filter(|source| source["name"].as_str() == Some(name)).peekable();
        ensure!(of_task.peek().is_some(), "--images {text}: no --task is named {name}");
        for source in of_task {
            source.insert("images".to_owned(), text_of(&pictures)?.into());
        }
    }
    let mut mixture = toml::Table::new();
    mixture.extend(arguments.mixture.clone().map(|preset| ("preset".to_owned(), preset.into())));
    mixture.extend(arguments.total.map(|total| ("total".to_owned(), total.into())));
    let mut instruct = toml::Table::new();
    let formats = arguments.to.iter().map(|name| if name == "conversations" { "parquet" } else { name });
    instruct.insert("formats".to_owned(), formats.collect::<Vec<_>>().into());
    instruct.insert("tasks".to_owned(), sources.into());
    for (key, folder) in [("catalogue", &arguments.own.catalogue), ("banks", &arguments.own.banks)] {
        if let Some(folder) = folder {
            instruct.insert(key.to_owned(), text_of(&std::path::absolute(folder)?)?.into());
        }
    }
    instruct.extend(arguments.licence.clone().map(|licence| ("licence".to_owned(), licence.into())));
    instruct.insert("mixture".to_owned(), mixture.into());
    let mut recipe = toml::Table::new();
    recipe.insert("output".to_owned(), text_of(&out)?.into());
    recipe.insert("seed".to_owned(), arguments.seed.into());
    recipe.insert("instruct".to_owned(), instruct.into());
    recipe::of_flags(recipe, folder, &arguments.sets)
}

/// The value of one `--task`.
#[derive(Debug, PartialEq)]
struct Given {
    name: String,
    folder: PathBuf,
    split: Option<String>,
    most: Option<i64>,
}

impl Given {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (rest, most) = match text.rsplit_once('#') {
            Some((rest, number)) if number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') => {
                let most = number.replace('_', "").parse();
                let most: i64 = most.with_context(|| format!("{number:?} after # is not a number of records"))?;
                ensure!(most > 0, "#0 takes no record; leave it out to take all");
                (rest, Some(most))
            }
            _ => (text, None),
        };
        // A colon that is followed by a separator belongs to the path, as in C:\data.
        let (rest, split) = match rest.rsplit_once(':') {
            Some((rest, split)) if !split.is_empty() && !split.contains(['/', '\\', '=']) => (rest, Some(split)),
            _ => (rest, None),
        };
        let (name, folder) = folder_of(rest)?;
        Ok(Self { name: name.to_owned(), folder, split: split.map(str::to_owned), most })
    }
}

/// Returns the name and the absolute folder of `NAME=DIR`. The folder is absolute so that the
/// recipe is valid wherever it is read.
fn folder_of(text: &str) -> anyhow::Result<(&str, PathBuf)> {
    let parts = text.split_once('=').filter(|(name, folder)| !name.is_empty() && !folder.is_empty());
    let (name, folder) = parts.context("expected NAME=DIR, as in vqav2=~/vqa")?;
    let folder = std::path::absolute(expanded(Path::new(folder))?)?;
    ensure!(folder.exists(), "{} does not exist", folder.display());
    ensure!(folder.is_dir(), "{} is a file; name its folder", folder.display());
    Ok((name, folder))
}

/// Returns the named split, or the training split, or the only split whose files are present.
fn split_of(task: &Task, given: &Given) -> anyhow::Result<String> {
    let (name, folder) = (&task.name, given.folder.display());
    if let Some(split) = &given.split {
        check_split(task, &given.folder, split)?;
        return Ok(split.clone());
    }
    let is_there = |split: &&String| task.native_files(&given.folder, split).is_ok();
    let there: Vec<&str> = task.splits.keys().filter(is_there).map(String::as_str).collect();
    let split = match there[..] {
        [] => bail!(
            "{folder} does not have all files of any split of task {name}\nhint: `lynxdata tasks check {name} {folder}` lists what is missing"
        ),
        [only] => only,
        _ if there.contains(&TRAINING_SPLIT) => TRAINING_SPLIT,
        _ => bail!("{folder} has several splits of task {name}; name one, for example {name}={folder}:{}", there[0]),
    };
    info!(task = name, split, "using this split");
    Ok(split.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_has_a_folder_and_maybe_a_split_and_a_number() {
        let here = std::env::current_dir().unwrap();
        let parse = |text: &str| Given::parse(text).map_err(|error| format!("{error:#}"));
        let given = |split: Option<&str>, most| {
            Ok(Given { name: "vqav2".to_owned(), folder: here.join("src"), split: split.map(str::to_owned), most })
        };
        assert_eq!(parse("vqav2=src"), given(None, None));
        assert_eq!(parse("vqav2=src#20_000"), given(None, Some(20_000)));
        assert_eq!(parse("vqav2=src:val"), given(Some("val"), None));
        assert_eq!(parse("vqav2=src:val#5"), given(Some("val"), Some(5)));
        assert!(parse("vqav2").unwrap_err().contains("expected NAME=DIR"));
        assert!(parse("vqav2=src#0").unwrap_err().contains("takes no record"));
        assert!(parse("vqav2=src#99999999999999999999").unwrap_err().contains("not a number of records"));
        assert!(parse("vqav2=nowhere").unwrap_err().contains("nowhere does not exist"));
        assert!(parse("vqav2=Cargo.toml").unwrap_err().contains("is a file"));
    }
}
