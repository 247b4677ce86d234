//! `lynxdata check calibrate`: runs checks whose right outcome is known, and counts their outcomes.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lynxdata_burn_model::DeviceName;
use lynxdata_check::known::Tally;
use lynxdata_run::Host;
use lynxdata_run::calibrate::{Calibration, calibrate};

use super::{columns, print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::host::Terminal;
use crate::paths::path_parser;

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

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let calibration = Calibration {
        quick: arguments.quick,
        pairs: arguments.pairs.clone(),
        drawings: arguments.drawings,
        halves: arguments.halves,
        draws: arguments.draws,
        cases: arguments.cases.clone(),
        seed: arguments.seed,
        without_controls: arguments.without_controls,
        out: arguments.out.clone(),
        device: arguments.device.clone(),
        sets: arguments.sets.clone(),
    };
    let host: Arc<dyn Host> = Arc::new(Terminal);
    let calibrated = calibrate(&calibration, &host)?;
    if arguments.json {
        print_json(&calibrated)?;
    } else {
        print(&table(&calibrated.tallies))?;
    }
    let unanswered = calibrated.unanswered();
    if !unanswered.is_empty() {
        tracing::error!("no check gave an answer in {}", unanswered.join(", "));
        return Ok(FAILED);
    }
    Ok(if calibrated.is_wrong() { FAILED } else { DONE })
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
