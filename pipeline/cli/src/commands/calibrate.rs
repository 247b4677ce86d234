//! `lynxdata check calibrate`: runs checks whose right outcome is known, and counts their outcomes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use lynxdata_burn_model::DeviceName;
use lynxdata_check::known::{self, Base, Case, Draws, Tally};
use lynxdata_check::outcome::{CheckOutcome, arms_to_fit, check, different_pairs};
use lynxdata_check::{Gear, Split, Universe};
use lynxdata_records::nearest;
use serde::Serialize;

use super::{columns, print, print_json, text_of};
use crate::exit::{DONE, FAILED, Failure};
use crate::host::Terminal;
use crate::paths::path_parser;
use lynxdata_run::lynx::Lynx;
use lynxdata_run::recipe::{self, CheckConfig};
use lynxdata_run::stages::{arms, check as check_stage};
use lynxdata_run::{Context, run_stage};
use std::sync::Arc;

/// Test the check where the answer is known: halves of one set, wrong captions, duplicates,
/// boilerplate and more
///
/// Each case makes a second arm from clean pairs and runs the check. It is known which of the arms
/// is better, or that neither is. Each draw has its own held-out pairs, halves and wrong captions.
/// The exit code is 1 if a wrong winner was named in more than 2 × check.alpha of the draws of a
/// case.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata check calibrate --quick                     the probe on rendered shapes
  lynxdata check calibrate --quick --pairs my-pairs/   the probe on your own pairs
  lynxdata check calibrate --cases halves,wrong_captions_30 --draws 4 --halves 10
  lynxdata check calibrate --quick --json")]
pub(crate) struct Arguments {
    /// Test the probe; by default, the compact Lynx, which takes minutes per draw
    #[arg(long)]
    quick: bool,

    /// A folder of pairs whose texts fit their images; by default, a rendered world of shapes
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    pairs: Option<PathBuf>,

    /// Number of drawings of the rendered world
    #[arg(long, value_name = "N", default_value_t = 2000, conflicts_with = "pairs")]
    drawings: usize,

    /// Number of draws of two halves of one set, which show how often a winner is named where there
    /// is none
    #[arg(long, value_name = "N", default_value_t = 40)]
    halves: usize,

    /// Number of draws of every other case [default: 10 with --quick, else 3]
    #[arg(long, value_name = "N")]
    draws: Option<usize>,

    /// Names of the cases, separated by commas [default: all]
    #[arg(long, value_name = "CASE,…", value_delimiter = ',')]
    cases: Vec<String>,

    /// Seed of the first draw; each further draw has the next seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Leave out the controls, which saves time: winners are still named, but nothing is called
    /// equivalent
    #[arg(long)]
    without_controls: bool,

    /// Folder in which the pairs of --pairs are prepared
    #[arg(long, value_name = "DIR", value_parser = path_parser(), default_value = "lynxdata-calibration")]
    out: PathBuf,

    /// The device to train on: auto, cpu, cuda:N, vulkan:KIND:N or wgpu:KIND:N; `lynxdata version`
    /// lists the devices of this machine
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,

    /// Override a value of the recipe, as in --set check.train.steps=400; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print the tallies as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed<'a> {
    gear: Gear,
    replicates: usize,
    alpha: f64,
    margin_percent: f64,
    pairs: usize,
    base: String,
    tallies: &'a [Tally],
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let cases = cases(&arguments.cases).map_err(Failure::Usage)?;
    let loaded = load(arguments).map_err(Failure::Usage)?;
    let (base, name) = match &arguments.pairs {
        Some(path) => {
            loaded.check_surroundings().map_err(Failure::Usage)?;
            let context = Context::new(loaded.clone(), lynxdata_engine::session::local(), Arc::new(Terminal))?;
            run_stage(&arms::Arms, &context)?;
            (Base::new(arms::base_pairs(&context)?), path.display().to_string())
        }
        None => (Base::rendered(arguments.drawings, arguments.seed), "rendered shapes".to_owned()),
    };
    let config = loaded.recipe.check.as_ref().context("the recipe of a calibration has a check")?;
    let draws = Draws {
        seed: arguments.seed,
        of_halves: arguments.halves,
        of_others: arguments.draws.unwrap_or(if arguments.quick { 10 } else { 3 }),
    };
    let mut tallies = Vec::new();
    // One case at a time, so that a long calibration logs what it has.
    for case in &cases {
        let of_case = known::run(&base, std::slice::from_ref(case), &draws, &|universe, split, seed| {
            one_check(arguments, config, universe, split, seed)
        })?;
        for tally in &of_case {
            tracing::info!(
                "{}: {} draws, {} for the first arm, {} for the second, {} equivalent, {} inconclusive",
                tally.case,
                tally.draws,
                tally.a,
                tally.b,
                tally.equivalent,
                tally.inconclusive
            );
        }
        tallies.extend(of_case);
    }
    if arguments.json {
        print_json(&Printed {
            gear: config.gear,
            replicates: config.replicates,
            alpha: config.alpha,
            margin_percent: config.margin_percent,
            pairs: base.pairs().len(),
            base: name,
            tallies: &tallies,
        })?;
    } else {
        print(&table(&tallies))?;
    }
    // A case without an answer tells nothing.
    let unanswered: Vec<&str> =
        tallies.iter().filter(|tally| tally.draws == tally.invalid).map(|tally| tally.case.as_str()).collect();
    if !unanswered.is_empty() {
        tracing::error!("no check gave an answer in {}", unanswered.join(", "));
        return Ok(FAILED);
    }
    // Two halves may be called different by chance in one of twenty draws (alpha), so twice alpha
    // is allowed for every case.
    let is_wrong = |tally: &Tally| tally.wrong_direction as f64 > 2.0 * config.alpha * tally.draws as f64;
    Ok(if tallies.iter().any(is_wrong) { FAILED } else { DONE })
}

fn one_check(
    arguments: &Arguments,
    config: &CheckConfig,
    universe: &Universe,
    split: &Split,
    seed: u64,
) -> anyhow::Result<CheckOutcome> {
    let protocol = config.protocol(seed);
    let follows_up = !arguments.without_controls;
    if protocol.gear == Gear::Quick {
        let probe = lynxdata_check::Probe::new(universe, split, seed);
        return check(&protocol, universe, split, follows_up, &|fit| Ok(probe.fit(fit)));
    }
    let arms = arms_to_fit(&protocol, split, &different_pairs(universe, split));
    let lynx = Lynx::new(config, Path::new("."), universe.clone(), split.clone(), arms, seed, &Terminal)?;
    // On its own thread: a thread of rayon's pool would start further fits while it waits for one.
    let fit = |fit| {
        std::thread::scope(|scope| {
            let fitted = scope.spawn(|| lynx.fit(fit, None, &mut |_, _| ())).join();
            fitted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    };
    check(&protocol, universe, split, follows_up, &fit)
}

fn cases(names: &[String]) -> anyhow::Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(known::cases().to_vec());
    }
    let all = || known::cases().iter();
    let find = |name: &String| {
        let known = all().find(|case| case.name == name).copied();
        known.ok_or_else(|| {
            let names = all().map(|case| case.name);
            match nearest(name, names.clone()) {
                Some(right) => anyhow!("there is no case {name:?}\nhint: did you mean {right:?}?"),
                None => anyhow!("there is no case {name:?}; the cases are: {}", names.collect::<Vec<_>>().join(", ")),
            }
        })
    };
    names.iter().map(find).collect()
}

/// Refuses settings of the training, which `--quick` would ignore because it trains nothing.
pub(super) fn refuse_training(device: Option<&DeviceName>, sets: &[String]) -> anyhow::Result<()> {
    const KEYS: [&str; 6] =
        ["check.device", "check.pretrained", "check.tokenizer", "check.model", "check.train", "check.members"];
    let is_one = |set: &&String| KEYS.iter().any(|key| set.trim_start().starts_with(key));
    let given = device
        .map(|device| format!("--device {device}"))
        .or(sets.iter().find(is_one).map(|set| format!("--set {set}")));
    match given {
        Some(given) => bail!("{given} is a setting of the training, but --quick trains nothing; leave out one of them"),
        None => Ok(()),
    }
}

/// Returns the recipe that is made from the flags: a check of the folder against itself, of which
/// only the pairs are read.
fn load(arguments: &Arguments) -> anyhow::Result<recipe::LoadedRecipe> {
    if arguments.quick {
        refuse_training(arguments.device.as_ref(), &arguments.sets)?;
    }
    let path = match &arguments.pairs {
        Some(path) => text_of(&std::path::absolute(path)?)?,
        None => String::new(),
    };
    let arm = |name: &str| {
        let mut arm = toml::Table::new();
        arm.insert("name".to_owned(), name.into());
        arm.insert("path".to_owned(), path.clone().into());
        toml::Value::from(arm)
    };
    let mut check = toml::Table::new();
    check.insert("arms".to_owned(), vec![arm("first"), arm("second")].into());
    let gear = if arguments.quick { Gear::Quick } else { Gear::Lynx };
    check.insert("gear".to_owned(), toml::Value::try_from(gear)?);
    if arguments.quick {
        check.insert("replicates".to_owned(), i64::try_from(check_stage::QUICK_REPLICATES)?.into());
    }
    if let Some(device) = &arguments.device {
        check.insert("device".to_owned(), device.to_string().into());
    }
    let out = std::path::absolute(&arguments.out)?;
    let mut table = toml::Table::new();
    table.insert("output".to_owned(), text_of(&out)?.into());
    table.insert("check".to_owned(), check.into());
    recipe::of_flags(table, out, &arguments.sets)
}

fn table(tallies: &[Tally]) -> String {
    let header = [
        "case",
        "truth",
        "draws",
        "first better",
        "second better",
        "equivalent",
        "inconclusive",
        "rate dependent",
        "invalid",
        "against the truth",
        "mean z",
    ];
    let rows: Vec<Vec<String>> = tallies
        .iter()
        .map(|tally| {
            let truth = serde_json::to_value(tally.expected).ok().and_then(|value| value.as_str().map(str::to_owned));
            let counts = [
                tally.draws,
                tally.a,
                tally.b,
                tally.equivalent,
                tally.inconclusive,
                tally.learning_rate_dependent,
                tally.invalid,
                tally.wrong_direction,
            ];
            let mut row = vec![tally.case.clone(), truth.unwrap_or_default().replace('_', " ")];
            row.extend(counts.map(|count| count.to_string()));
            row.push(tally.mean_difference_in_errors.map_or_else(|| "-".to_owned(), |z| format!("{z:+.1}")));
            row
        })
        .collect();
    columns(&header, &rows, &[2, 3, 4, 5, 6, 7, 8, 9, 10])
}
