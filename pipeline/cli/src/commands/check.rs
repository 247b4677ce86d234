//! `lynxdata check`: decides which of two or more data choices is better to train on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use lynxdata_burn_model::DeviceName;
use lynxdata_check::metrics::METRICS;
use lynxdata_check::{Gear, Metric};

use super::calibrate;
use super::run::run_loaded;
use super::{print, print_json, text_of};
use crate::exit::{Failure, INTERRUPTED};
use crate::paths::path_parser;
use lynxdata_run::Wanted;
use lynxdata_run::calibrate::refuse_training;
use lynxdata_run::recipe::{self, LoadedRecipe};
use lynxdata_run::stages::{check, report};

/// Decide which of two data choices is better to train on, with error bars, controls and an honest
/// "cannot tell"
///
/// The arms are compared on held-out pairs that share no image and no text with either arm: whole
/// clusters of near-duplicate images are held out, and pairs of an arm that have the text of a
/// held-out pair are left out. Each replicate draws the pairs of both arms and the held-out pairs
/// again, with replacement; the interval of the difference comes from these draws. The verdict is
/// A, B, equivalent (the difference is smaller than the effect of check.margin_percent wrong
/// texts), inconclusive (with the number of pairs that would be enough), learning-rate dependent,
/// or invalid (with the gate that failed).
#[derive(Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  lynxdata check recipe.toml                             run the [check] of a recipe
  lynxdata check recipe.toml --set check.replicates=12   add to the replicates that are done
  lynxdata check --a clean/ --b raw/ --quick             compare two folders, in seconds
  lynxdata check --a run1 --b run2/selection/clean --eval trusted/ --out my-check --json
  lynxdata check calibrate --quick                       test the check on known answers

A folder is a run, its pool (RUN/pool), one of its selections (RUN/selection/NAME), its
conversations (RUN/instruct), images with texts in any layout that a source may have, or
conversations in JSON or Parquet."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,

    /// The recipe, a TOML file with [check]
    #[arg(value_parser = path_parser(), conflicts_with_all = ["a", "b"])]
    recipe: Option<PathBuf>,

    /// The folder of the first arm
    #[arg(long, value_name = "DIR", value_parser = path_parser(), requires = "b")]
    a: Option<PathBuf>,

    /// The folder of the second arm
    #[arg(long, value_name = "DIR", value_parser = path_parser(), requires = "a")]
    b: Option<PathBuf>,

    /// A folder of pairs to measure on; by default, some pairs of the arms are held out
    #[arg(long = "eval", value_name = "DIR", value_parser = path_parser(), requires = "a")]
    evaluate_on: Option<PathBuf>,

    /// Fit a probe in closed form instead of training models: seconds instead of minutes, but words
    /// only
    #[arg(long)]
    quick: bool,

    /// The question that decides
    #[arg(long, value_parser = questions(), requires = "a")]
    question: Option<String>,

    /// Folder for the report and all measurements
    #[arg(long, value_name = "DIR", value_parser = path_parser(), requires = "a", default_value = "lynxdata-check")]
    out: PathBuf,

    /// The device to train on: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N; `lynxdata version`
    /// lists the devices of this machine
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// Override a value of the recipe, as in --set check.replicates=12; repeatable, the last one
    /// wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print what would be done and what would be skipped, and do nothing else
    #[arg(long)]
    dry_run: bool,

    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    Calibrate(calibrate::Arguments),
}

/// Returns every question with its meaning.
fn questions() -> PossibleValuesParser {
    let value = |metric: &&'static Metric| PossibleValue::new(metric.question).help(metric.help);
    PossibleValuesParser::new(METRICS.iter().map(value).collect::<Vec<_>>())
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if let Some(Action::Calibrate(arguments)) = &arguments.action {
        return calibrate::run(arguments);
    }
    let loaded = load(arguments).map_err(Failure::Usage)?;
    if loaded.recipe.check.is_none() {
        let error = anyhow!("recipe {} has no [check]", loaded.path.display());
        return Err(Failure::Usage(error.context("nothing to do")));
    }
    let root = loaded.run_folder();
    let mut wanted = Wanted::command_of(&check::Check);
    if arguments.a.is_some() {
        wanted.stages.push(&report::Report);
    }
    let code = run_loaded(loaded, &wanted, arguments.dry_run)?;
    if arguments.dry_run || code == INTERRUPTED {
        return Ok(code);
    }
    let path = root.join(check::VERDICT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut verdict: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    if arguments.json {
        if let Some(verdict) = verdict.as_object_mut() {
            verdict.remove("outcome"); // all details, which are in the file
        }
        print_json(&verdict)?;
    } else {
        for comparison in verdict["comparisons"].as_array().into_iter().flatten() {
            print(&format!("{}\n", comparison["sentence"].as_str().unwrap_or_default()))?;
        }
        for note in verdict["notes"].as_array().into_iter().flatten().filter_map(|note| note.as_str()) {
            print(&format!("- {note}\n"))?;
        }
    }
    Ok(code)
}

fn load(arguments: &Arguments) -> anyhow::Result<LoadedRecipe> {
    if arguments.quick {
        refuse_training(arguments.device.as_ref(), &arguments.sets)?;
    }
    if let Some(path) = &arguments.recipe {
        // The last one wins, so that --set can change the settings of the other flags.
        let mut sets = Vec::new();
        if arguments.quick {
            sets.push("check.gear=\"quick\"".to_owned());
            sets.push(format!("check.replicates={}", check::QUICK_REPLICATES));
        }
        if let Some(device) = &arguments.device {
            sets.push(format!("check.device=\"{device}\""));
        }
        sets.extend(arguments.sets.iter().cloned());
        return recipe::load(path, &sets);
    }
    let (Some(a), Some(b)) = (&arguments.a, &arguments.b) else {
        bail!("there is nothing to compare; name a recipe with [check], or two folders by --a and --b")
    };
    let (a, b) = (std::path::absolute(a)?, std::path::absolute(b)?);
    let names = names(&a, &b);
    let mut check = toml::Table::new();
    let arms = [(&names[0], &a), (&names[1], &b)].into_iter().map(|(name, path)| -> anyhow::Result<toml::Value> {
        let mut arm = toml::Table::new();
        arm.insert("name".to_owned(), name.clone().into());
        arm.insert("path".to_owned(), text_of(path)?.into());
        Ok(arm.into())
    });
    check.insert("arms".to_owned(), toml::Value::Array(arms.collect::<anyhow::Result<_>>()?));
    if let Some(path) = &arguments.evaluate_on {
        check.insert("evaluate_on".to_owned(), text_of(&std::path::absolute(path)?)?.into());
    }
    let gear = if arguments.quick { Gear::Quick } else { Gear::Lynx };
    check.insert("gear".to_owned(), toml::Value::try_from(gear)?);
    if arguments.quick {
        check.insert("replicates".to_owned(), i64::try_from(check::QUICK_REPLICATES)?.into());
    }
    if let Some(question) = &arguments.question {
        check.insert("question".to_owned(), question.as_str().into());
    }
    if let Some(device) = &arguments.device {
        check.insert("device".to_owned(), device.to_string().into());
    }
    let out = std::path::absolute(&arguments.out)?;
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), format!("{} or {}", names[0], names[1]).into());
    table.insert("output".to_owned(), text_of(&out)?.into());
    table.insert("check".to_owned(), check.into());
    recipe::of_flags(table, out, &arguments.sets)
}

/// Returns the names of the two folders. If these are equal, the names of their parent folders are
/// put before them; if the results are equal too, the names are `a` and `b`.
fn names(a: &Path, b: &Path) -> [String; 2] {
    let word = |name: Option<&std::ffi::OsStr>| {
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        name.chars().map(|letter| if allowed(letter) { letter } else { '-' }).collect::<String>()
    };
    let name = |path: &Path| word(path.file_name());
    let above = |path: &Path| format!("{}-{}", word(path.parent().and_then(Path::file_name)), name(path));
    let all = [[name(a), name(b)], [above(a), above(b)]];
    let tells = |[a, b]: &[String; 2]| a != b && !a.is_empty() && !b.is_empty();
    all.into_iter().find(tells).unwrap_or_else(|| ["a".to_owned(), "b".to_owned()])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        own: Arguments,
    }

    #[test]
    fn a_set_wins_over_what_another_flag_stands_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(
            &path,
            "output = \"run\"\n[check]\narms = [{ name = \"a\", path = \"a\" }, { name = \"b\", path = \"b\" }]\n",
        )
        .unwrap();
        let replicates = |more: &[&str]| {
            let line = [&["check", path.to_str().unwrap(), "--quick"], more].concat();
            let check = load(&Line::parse_from(line).own).unwrap().recipe.check.unwrap();
            (check.gear, check.replicates)
        };
        assert_eq!(replicates(&[]), (Gear::Quick, check::QUICK_REPLICATES));
        assert_eq!(replicates(&["--set", "check.replicates=5"]), (Gear::Quick, 5));
    }
}
