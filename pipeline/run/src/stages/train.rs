//! Stages `train` and `controls` of a check by the compact Lynx: one fit per version of the arms,
//! replicate and learning rate, each a separate part.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow};
use lynxdata_burn_model::DeviceName;
use lynxdata_check::outcome::{arm_fits, arms_to_fit, different_pairs, follow_up_fits};
use lynxdata_check::{Fit, FitResult, Gear, Split, Universe, Version, split};
use lynxdata_records::{NewPart, PartEntry, fingerprint};

use super::arms::{self, check_of};
use crate::lynx::{Lynx, stamps};
use crate::recipe::{CheckConfig, CheckSettings, Recipe};
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::stages::arms::Arms;
use crate::stages::dedup::compared;

/// Version of the fits. Raise it when the same arms and settings give other measurements, also
/// because other pairs are held out.
const FORMAT_VERSION: &str = "5";

/// The folder of checkpoints; it is removed when the check is done.
pub const CHECKPOINTS: &str = "checkpoints";

/// The fits of the arms.
pub struct Train;

/// The fits that follow: the controls, made from the arm that did best, and the arms at the second
/// learning rate, if they seem to differ.
pub struct Controls;

fn trains(recipe: &Recipe) -> bool {
    recipe.check.as_ref().is_some_and(|check| check.gear == Gear::Lynx)
}

impl Stage for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        trains(recipe)
    }

    fn command(&self) -> &'static str {
        "check"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(arms::check_settings(recipe))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Arms]
    }

    fn workers(&self, context: &Context) -> usize {
        workers(context)
    }

    fn counts_rows(&self, part: &str, _first: &str, _main_selection: Option<&str>) -> bool {
        part.ends_with("/00") // every replicate trains on the whole arm
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let arms: Vec<usize> = (0..config.arms.len()).collect();
        fits(context, config, "train", arm_fits(&arms, config.replicates))
    }
}

impl Stage for Controls {
    fn name(&self) -> &'static str {
        "controls"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        trains(recipe)
    }

    fn command(&self) -> &'static str {
        "check"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(arms::check_settings(recipe))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Arms, &Train]
    }

    fn workers(&self, context: &Context) -> usize {
        workers(context)
    }

    fn counts_rows(&self, part: &str, _first: &str, _main_selection: Option<&str>) -> bool {
        part.ends_with("/00") // every replicate trains on the whole arm
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = check_of(context)?;
        let results = results(context, &Train)?;
        let protocol = config.protocol(context.recipe().seed);
        fits(context, config, "controls", follow_up_fits(&protocol, &results))
    }
}

fn workers(context: &Context) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    match &context.recipe().check {
        // One fit at a time uses a whole GPU, and two would share its memory.
        Some(check) if check.device.resolve().is_ok_and(|device| device != DeviceName::Cpu) => 1,
        Some(check) if check.threads > 0 => check.threads,
        _ => cores,
    }
}

fn fits<'a>(context: &'a Context, config: &'a CheckConfig, stage: &'static str, fits: Vec<Fit>) -> Result<Parts<'a>> {
    let inputs: Vec<String> = context.upstream(&Arms)?.iter().map(PartEntry::digest).collect();
    let inputs = fingerprint(inputs.iter().map(String::as_str));
    let settings = settings(context, config)?;
    // The pairs are loaded once, when the first fit needs them; if that fails, every fit reports
    // the error.
    let lynx: Arc<OnceLock<std::result::Result<Option<Lynx<'a>>, String>>> = Arc::new(OnceLock::new());
    Ok(Box::new(fits.into_iter().map(move |fit| {
        let name = part_name(config, &fit);
        let print = fingerprint([stage, FORMAT_VERSION, &settings, &inputs, &settings_text(&fit)]);
        let lynx = Arc::clone(&lynx);
        let make = {
            let (name, print) = (name.clone(), print.clone());
            Box::new(move |new: &mut NewPart| {
                let lynx = lynx.get_or_init(|| prepare(context, config).map_err(|error| format!("{error:#}")));
                let lynx = lynx.as_ref().map_err(|error| anyhow!("{error}"))?.as_ref();
                let Some(lynx) = lynx.filter(|lynx| lynx.fits(fit.version)) else {
                    return Ok(()); // a part without a fit; the verdict says why
                };
                let folder = context.run.root().join(CHECKPOINTS);
                std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
                // The name contains the fingerprint, so that a changed recipe never loads the state
                // of another fit.
                let checkpoint = folder.join(format!("{}-{}.bin", name.replace('/', "-"), &print[..16]));
                let bar = context.progress();
                let mut progress = |step, loss| bar.note(&format!("{name}: step {step}, loss {loss:.3}"));
                let result = lynx.fit(fit, Some(&checkpoint), &mut progress)?;
                (new.rows_in, new.rows_out) = (result.pairs as u64, result.pairs as u64);
                let path = context.run.stage_file(new, &format!("check/fits/{name}.json"))?;
                let text = serde_json::to_string(&result).context("a fit is not JSON")?;
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
            })
        };
        Ok(Planned::new(name, print, make))
    })))
}

/// Returns the settings that a fit depends on. The number of replicates is not one of them, so that
/// more replicates are added to the existing ones.
fn settings(context: &Context, config: &CheckConfig) -> Result<String> {
    // The tables of the arms are inputs.
    let CheckSettings { pairs: _, division, fewest, fits, model, outside } = config.settings();
    let (device, pretrained) = outside;
    Ok(settings_text(&(
        (context.recipe().seed, compared(&context.recipe().dedup)),
        division,
        fewest,
        fits,
        model,
        (device.resolve()?, stamps(pretrained, &context.loaded.folder)?),
    )))
}

fn part_name(config: &CheckConfig, fit: &Fit) -> String {
    let version = match fit.version {
        Version::Arm { arm } => config.arms[arm].name().to_owned(),
        Version::WrongTexts { percent, .. } => format!("wrong-texts-{percent}"),
        Version::Half { second, .. } => format!("half-{}", if second { 2 } else { 1 }),
    };
    let setting = if fit.setting == 0 { "" } else { "-second-rate" };
    format!("{version}/{:02}{setting}", fit.replicate)
}

/// The pairs of a check, divided into training and held-out pairs.
pub(crate) struct CheckData {
    pub(crate) universe: Universe,
    pub(crate) split: Split,
    pub(crate) different_pairs: Vec<usize>,
}

/// Returns the data that the fits share; `None` if there is too little data to fit anything.
fn prepare<'a>(context: &Context, config: &'a CheckConfig) -> Result<Option<Lynx<'a>>> {
    let CheckData { universe, split, different_pairs } = CheckData::load(context)?;
    let arms = arms_to_fit(&config.protocol(context.recipe().seed), &split, &different_pairs);
    if arms.is_empty() {
        return Ok(None);
    }
    let seed = context.recipe().seed;
    Lynx::new(config, &context.loaded.folder, universe, split, arms, seed, context.host.as_ref()).map(Some)
}

impl CheckData {
    /// Loads the arms and divides their pairs.
    pub(crate) fn load(context: &Context) -> Result<CheckData> {
        let universe = arms::load(context)?;
        let split = split(&universe, &arms::split_config(check_of(context)?, context.recipe().seed));
        let different_pairs = different_pairs(&universe, &split);
        Ok(CheckData { universe, split, different_pairs })
    }
}

/// Returns the results of a stage of fits.
pub(crate) fn results(context: &Context, stage: &dyn Stage) -> Result<Vec<FitResult>> {
    context
        .upstream(stage)?
        .iter()
        .flat_map(|part| &part.files)
        .map(|file| {
            let path: PathBuf = context.run.intact(file)?;
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("{} is not the result of a fit", path.display()))
        })
        .collect()
}
