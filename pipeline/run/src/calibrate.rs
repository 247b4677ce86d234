//! Calibrates the check: runs checks whose right outcome is known, and counts their outcomes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use lynxdata_burn_model::DeviceName;
use lynxdata_check::known::{self, Base, Case, Draws, Tally};
use lynxdata_check::outcome::{CheckOutcome, arms_to_fit, check, different_pairs};
use lynxdata_check::{Gear, Split, Universe};
use lynxdata_records::nearest;
use serde::Serialize;

use crate::lynx::Lynx;
use crate::recipe::{self, CheckConfig, text_of};
use crate::stages::{arms, check as check_stage};
use crate::{Context, Failure, Host, run_stage};

/// A calibration of the check.
pub struct Calibration {
    /// Whether the probe is tested; otherwise the compact Lynx, which takes minutes per draw.
    pub quick: bool,
    /// A folder of pairs whose texts fit their images; without it, a rendered world of shapes.
    pub pairs: Option<PathBuf>,
    /// Number of drawings of the rendered world.
    pub drawings: usize,
    /// Number of draws of two halves of one set.
    pub halves: usize,
    /// Number of draws of every other case; without it, 10 of the probe and 3 of the compact Lynx.
    pub draws: Option<usize>,
    /// Names of the cases; none for all.
    pub cases: Vec<String>,
    /// Seed of the first draw; each further draw has the next seed.
    pub seed: u64,
    /// Whether the controls are left out: winners are still named, but nothing is called
    /// equivalent.
    pub without_controls: bool,
    /// Folder in which the pairs of `pairs` are prepared.
    pub out: PathBuf,
    /// The device to train on.
    pub device: Option<DeviceName>,
    /// Overrides of values of the recipe, such as `check.train.steps=400`.
    pub sets: Vec<String>,
}

/// The result of a calibration.
#[derive(Debug, Serialize)]
pub struct Calibrated {
    /// How the checks learned from the arms.
    pub gear: Gear,
    /// Number of replicates of each check.
    pub replicates: usize,
    /// Probability of a wrong winner that each check allows.
    pub alpha: f64,
    /// Margin of equivalence.
    pub margin_percent: f64,
    /// Number of clean pairs.
    pub pairs: usize,
    /// Where they come from.
    pub base: String,
    /// The outcomes of each case.
    pub tallies: Vec<Tally>,
}

impl Calibrated {
    /// Returns the cases in which no check gave an answer, which tell nothing.
    pub fn unanswered(&self) -> Vec<&str> {
        let is_unanswered = |tally: &&Tally| tally.draws == tally.invalid;
        self.tallies.iter().filter(is_unanswered).map(|tally| tally.case.as_str()).collect()
    }

    /// Returns whether a wrong winner was named in too many draws of a case. Two halves may be
    /// called different by chance in one of twenty draws (alpha), so twice alpha is allowed for
    /// every case.
    pub fn is_wrong(&self) -> bool {
        let is_wrong = |tally: &Tally| tally.wrong_direction as f64 > 2.0 * self.alpha * tally.draws as f64;
        self.tallies.iter().any(is_wrong)
    }
}

/// Makes a second arm from clean pairs for each case, runs checks, and counts their outcomes.
///
/// # Errors
/// [`Failure::Usage`] if a case is not known or a setting is wrong, [`Failure::Failed`] if a check
/// fails.
pub fn calibrate(calibration: &Calibration, host: &Arc<dyn Host>) -> Result<Calibrated, Failure> {
    let cases = cases(&calibration.cases).map_err(Failure::Usage)?;
    let loaded = load(calibration).map_err(Failure::Usage)?;
    let (base, name) = match &calibration.pairs {
        Some(path) => {
            loaded.check_surroundings().map_err(Failure::Usage)?;
            let context = Context::new(loaded.clone(), host.session(), Arc::clone(host))?;
            run_stage(&arms::Arms, &context)?;
            (Base::new(arms::base_pairs(&context)?), path.display().to_string())
        }
        None => (Base::rendered(calibration.drawings, calibration.seed), "rendered shapes".to_owned()),
    };
    let config = loaded.recipe.check.as_ref().context("the recipe of a calibration has a check")?;
    let draws = Draws {
        seed: calibration.seed,
        of_halves: calibration.halves,
        of_others: calibration.draws.unwrap_or(if calibration.quick { 10 } else { 3 }),
    };
    let mut tallies = Vec::new();
    // One case at a time, so that a long calibration logs what it has.
    for case in &cases {
        let of_case = known::run(&base, std::slice::from_ref(case), &draws, &|universe, split, seed| {
            one_check(calibration, config, universe, split, seed, &**host)
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
    Ok(Calibrated {
        gear: config.gear,
        replicates: config.replicates,
        alpha: config.alpha,
        margin_percent: config.margin_percent,
        pairs: base.pairs().len(),
        base: name,
        tallies,
    })
}

fn one_check(
    calibration: &Calibration,
    config: &CheckConfig,
    universe: &Universe,
    split: &Split,
    seed: u64,
    host: &dyn Host,
) -> anyhow::Result<CheckOutcome> {
    let protocol = config.protocol(seed);
    let follows_up = !calibration.without_controls;
    if protocol.gear == Gear::Quick {
        let probe = lynxdata_check::Probe::new(universe, split, seed);
        return check(&protocol, universe, split, follows_up, &|fit| Ok(probe.fit(fit)));
    }
    let arms = arms_to_fit(&protocol, split, &different_pairs(universe, split));
    let lynx = Lynx::new(config, Path::new("."), universe.clone(), split.clone(), arms, seed, host)?;
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
///
/// # Errors
/// If there is one.
pub fn refuse_training(device: Option<&DeviceName>, sets: &[String]) -> anyhow::Result<()> {
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

/// Returns the recipe of a calibration: a check of the folder against itself, of which
/// only the pairs are read.
fn load(calibration: &Calibration) -> anyhow::Result<recipe::LoadedRecipe> {
    if calibration.quick {
        refuse_training(calibration.device.as_ref(), &calibration.sets)?;
    }
    let path = match &calibration.pairs {
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
    let gear = if calibration.quick { Gear::Quick } else { Gear::Lynx };
    check.insert("gear".to_owned(), toml::Value::try_from(gear)?);
    if calibration.quick {
        check.insert("replicates".to_owned(), i64::try_from(check_stage::QUICK_REPLICATES)?.into());
    }
    if let Some(device) = &calibration.device {
        check.insert("device".to_owned(), device.to_string().into());
    }
    let out = std::path::absolute(&calibration.out)?;
    let mut table = toml::Table::new();
    table.insert("output".to_owned(), text_of(&out)?.into());
    table.insert("check".to_owned(), check.into());
    recipe::of_flags(table, out, &calibration.sets)
}
