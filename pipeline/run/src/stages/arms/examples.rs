//! Stage `examples`: the training data of `lynxdata train`, as one table in the format of the arms
//! of a check.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use lynxdata_burn_model::ModelConfig;
use lynxdata_check::Turn;
use lynxdata_check::features::SIDE;
use lynxdata_records::{Manifest, NewPart, fingerprint};

use super::kind::{self, Kind};
use super::table::Squares;
use super::{FORMAT_VERSION, table, write_folder};
use crate::recipe::{Recipe, TrainingConfig};
use crate::stage::{Context, Parts, Planned, Stage, settings_text};
use crate::table as parts;

/// The folder of the table in the run folder.
const FOLDER: &str = "examples";

/// The checkpoint of an unfinished training, in the run folder.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// The one part.
const PART: &str = "examples";

/// The stage.
pub struct Examples;

impl Stage for Examples {
    fn name(&self) -> &'static str {
        "examples"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.training.is_some()
    }

    fn command(&self) -> &'static str {
        "train"
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        let training = recipe.training.as_ref();
        Ok(settings_text(&(recipe.seed, training.map(|config| (&config.data, table_settings(config))))))
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        Vec::new()
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = training_of(context)?;
        let kind = kind::of(&context.loaded.folder.join(&config.data)).context("training.data")?;
        let squares = squares(&config.model);
        let print = print_of(context.recipe().seed, config, &kind)?;
        let make = Box::new(move |new: &mut NewPart| {
            let mut writer = table::Writer::create(context, new, (FOLDER, PART), squares)?;
            write_folder(context, config.most_examples, &kind, None, &mut writer)?;
            let path = writer.path.clone();
            writer.finish(new)?;
            refuse_other_examples(context, config, &path)
        });
        Ok(Box::new(std::iter::once(Ok(Planned::new(PART.to_owned(), print, make)))))
    }
}

/// Refuses a table that differs from the one on which an interrupted training started. The new
/// table is then not committed, and the old one stays.
fn refuse_other_examples(context: &Context, config: &TrainingConfig, path: &Path) -> Result<()> {
    let (root, manifest) = (context.run.root(), context.run.manifest());
    let Some(old) = manifest.part(Examples.name(), PART).filter(|_| root.join(CHECKPOINT).exists()) else {
        return Ok(());
    };
    let digest = |path: &Path| -> Result<blake3::Hash> {
        let mut digest = blake3::Hasher::new();
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        digest.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(digest.finalize())
    };
    if digest(path)? != digest(&parts::file(&context.run, old, FOLDER)?)? {
        bail!(
            "{} holds an interrupted training, but its data has changed since: {}, the seed or most_examples\n\
             hint: restore the data, or name another --out",
            root.display(),
            config.data.display()
        );
    }
    Ok(())
}

/// Returns the training settings of the recipe.
pub(crate) fn training_of(context: &Context) -> Result<&TrainingConfig> {
    context.recipe().training.as_ref().context("the recipe has no [training]")
}

/// Returns the form in which images are kept: not smaller than those of a check, so that a smaller
/// model is trained on the same table.
fn squares(model: &ModelConfig) -> Squares {
    Squares { side: model.image_size.max(SIDE), frames: model.frames }
}

fn print_of(seed: u64, config: &TrainingConfig, kind: &Kind) -> Result<String> {
    let (most, side, frames) = table_settings(config);
    let settings = settings_text(&(seed, most, side, frames));
    let inputs = kind.inputs()?;
    let inputs = ["examples", FORMAT_VERSION, &settings].into_iter().chain(inputs.iter().map(String::as_str));
    Ok(fingerprint(inputs))
}

/// Returns whether the training data have changed since they were read. For recipes in files, paths
/// are relative to the file and are not checked.
pub fn data_has_changed(recipe: &Recipe, manifest: &Manifest) -> bool {
    let Some(config) = recipe.training.as_ref().filter(|config| config.data.is_absolute()) else { return false };
    let print = kind::of(&config.data).and_then(|kind| print_of(recipe.seed, config, &kind)).ok();
    manifest.part(Examples.name(), PART).is_some_and(|part| Some(&part.fingerprint) != print.as_ref())
}

/// Returns the settings that the table depends on, without its inputs.
fn table_settings(config: &TrainingConfig) -> (usize, usize, usize) {
    // A new setting must be named here. The data is an input.
    let TrainingConfig {
        most_examples,
        model,
        data: _,
        start: _,
        held_out: _,
        pretrained: _,
        device: _,
        tokenizer: _,
        train: _,
    } = config;
    let Squares { side, frames } = squares(model);
    (*most_examples, side, frames)
}

/// Passes every example in order: the digest of its image file, the image as a square in RGB or the
/// squares of the frames of a video one after another, the side of the squares, and its turns.
pub(crate) fn for_each_example(
    context: &Context,
    mut take: impl FnMut(&str, Vec<u8>, usize, Vec<Turn>) -> Result<()>,
) -> Result<()> {
    let side = squares(&training_of(context)?.model).side;
    for part in context.upstream(&Examples)? {
        table::read(context, FOLDER, &part, |rows| {
            rows.into_iter().try_for_each(|row| take(&row.digest, row.pixels, side, row.turns))
        })?;
    }
    Ok(())
}
