//! Stage `shards`: the pairs of one selection as final Parquet and WebDataset files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lynxdata_records::{NewPart, card, fingerprint, parquet, schema, webdataset};
use lynxdata_report::count as grouped;

use super::samples::{self, Naming};
use super::select;
use crate::pool::{Place, Pool};
use crate::recipe::{Recipe, ShardFormat, ShardsConfig};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::stages::download::Download;
use crate::stages::select::Select;

/// Version of the shards. Raise it when the same selection gives other bytes.
const FORMAT_VERSION: &str = "3";

/// Version of the archives. Raise it when the same selection gives other archives.
const TAR_VERSION: &str = "2";

/// Writes the pairs of a selection as Parquet and WebDataset files.
pub struct Shards;

impl Stage for Shards {
    fn name(&self) -> &'static str {
        "shards"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.shards.is_some()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        Ok(settings_text(&(&recipe.name, &recipe.shards, recipe.download.encode)))
    }

    fn format_version(&self) -> String {
        format!("{FORMAT_VERSION}, tar {TAR_VERSION}")
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        vec![&Download, &Select]
    }

    fn workers(&self, _context: &Context) -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    fn counts_rows(&self, part: &str, first: &str, _main_selection: Option<&str>) -> bool {
        part.split('/').next() == first.split('/').next() // every format holds the whole selection
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let mut outcome = StageOutcome::default();
        let Some(config) = &context.recipe().shards else { return Ok(outcome) };
        let manifest = context.run.manifest();
        // Every format holds the whole selection.
        let format = config.formats.first().map(|format| folder(*format));
        let written =
            manifest.parts(Shards.name()).filter(|part| format.is_some_and(|format| part.part.starts_with(format)));
        let pairs: u64 = written.map(|part| part.rows_out).sum();
        outcome.is_bad |= pairs == 0;
        outcome.sentences.push(match pairs {
            0 => format!("no pair is in the shards, because selection {} is empty", config.selection),
            pairs => format!("{} pairs are in the shards", grouped(pairs)),
        });
        Ok(outcome)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = context.recipe().shards.as_ref().context("the recipe has no [shards]")?;
        // A new setting must be named here. The rows and the format of a shard are its inputs.
        let ShardsConfig { selection, formats, rows_per_shard } = config;
        let pool = Arc::new(Pool::of_pairs(context.upstream(&Download)?));
        let kept = kept_places(context, selection, &pool)?;
        let mut shards: Vec<Vec<Place>> = kept.chunks(*rows_per_shard).map(<[Place]>::to_vec).collect();
        if shards.is_empty() {
            // One shard without rows, because readers cannot open a folder without any shard.
            shards.push(Vec::new());
        }
        let shards = Arc::new(shards);
        let count = shards.len();

        let mut planned: Vec<Result<Planned<'a>>> = Vec::new();
        let mut content = vec![FORMAT_VERSION.to_owned()];
        for format in formats {
            for (index, shard) in shards.iter().enumerate() {
                let file = file_name(*format, index, count);
                let mut inputs = vec!["shards".to_owned(), FORMAT_VERSION.to_owned(), file.clone()];
                if *format == ShardFormat::Webdataset {
                    inputs.extend([TAR_VERSION, context.recipe().download.encode.extension()].map(str::to_owned));
                }
                for of_part in shard.chunk_by(|a, b| a.part == b.part) {
                    let rows: Vec<String> = of_part.iter().map(|place| place.row.to_string()).collect();
                    inputs.push(pool.parts[of_part[0].part as usize].pairs.digest());
                    inputs.push(format!("[{}]", rows.join(", ")));
                }
                let (shards, pool) = (Arc::clone(&shards), Arc::clone(&pool));
                let name = format!("{}/{index:05}", folder(*format));
                let make = Box::new(move |new: &mut NewPart| {
                    let path = context.run.stage_file(new, &file)?;
                    let places = &shards[index];
                    let rows = |write: &mut OnBatch<'_>| {
                        pool.for_each_at(&context.run, places, None, &mut |_, batch| write(batch))
                    };
                    match format {
                        ShardFormat::Parquet => {
                            let part = places.first().map_or(0, |place| place.part);
                            let columns = match pool.parts.get(part as usize) {
                                Some(part) => part.schema(&context.run)?,
                                None => schema::pool().schema(),
                            };
                            let columns = schema::with_hugging_face_features(columns.as_ref().clone());
                            write_parquet(&path, &Arc::new(columns), rows)
                        }
                        ShardFormat::Webdataset => {
                            write_tar(&path, Naming::OneForAll(context.recipe().download.encode), rows)
                        }
                    }?;
                    (new.rows_in, new.rows_out) = (places.len() as u64, places.len() as u64);
                    Ok(())
                });
                let fingerprint = fingerprint(inputs.iter().map(String::as_str));
                content.push(fingerprint.clone());
                planned.push(Ok(Planned::new(name, fingerprint, make)));
            }
        }
        if formats.contains(&ShardFormat::Parquet) {
            let content = fingerprint(content.iter().map(String::as_str));
            planned.push(Ok(plan_card(context, selection, kept.len() as u64, &content)));
        }
        Ok(Box::new(planned.into_iter()))
    }
}

/// Returns the name of a format in parts and folders.
pub(crate) fn folder(format: ShardFormat) -> &'static str {
    match format {
        ShardFormat::Parquet => "parquet",
        ShardFormat::Webdataset => "webdataset",
    }
}

/// Returns a file name as readers of the format expect it: `split-00000-of-00012` for Hugging Face,
/// six digits for WebDataset.
fn file_name(format: ShardFormat, index: usize, count: usize) -> String {
    match format {
        ShardFormat::Parquet => format!("shards/parquet/data/train-{index:05}-of-{count:05}.parquet"),
        ShardFormat::Webdataset => format!("shards/webdataset/{index:06}.tar"),
    }
}

/// Returns the places of every kept pair in the order of the pool.
pub(crate) fn kept_places(context: &Context, selection: &str, pool: &Pool) -> Result<Vec<Place>> {
    let selections = context.upstream(&Select)?;
    let files = select::files(&selections, selection, pool)?;
    select::kept(files.iter().map(|file| Ok(context.run.intact(file)?)))
}

/// A function that takes each batch of rows.
type OnBatch<'a> = dyn FnMut(&RecordBatch) -> Result<()> + 'a;

fn write_parquet(path: &Path, schema: &SchemaRef, rows: impl Fn(&mut OnBatch<'_>) -> Result<()>) -> Result<()> {
    let mut writer = parquet::Writer::create(path, schema)?;
    rows(&mut |batch| Ok(writer.write(batch)?))?;
    writer.finish()?;
    Ok(())
}

fn write_tar(path: &Path, naming: Naming, rows: impl Fn(&mut OnBatch<'_>) -> Result<()>) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut writer = webdataset::Writer::new(BufWriter::new(File::create(path).with_context(failed)?));
    rows(&mut |batch| samples::for_each(batch, naming, path, |uid, members| Ok(writer.append(uid, members)?)))?;
    writer.finish()?.flush().with_context(failed)
}

fn plan_card<'a>(context: &'a Context, selection: &'a str, rows: u64, content: &str) -> Planned<'a> {
    let recipe = context.recipe();
    let name = if recipe.name.is_empty() { selection } else { &recipe.name };
    let text = format!(
        "Selection `{selection}`: {rows} image-text pairs. Written by lynxdata {}; the recipe, the reasons for every rejected pair and the report \
         are in the run folder.",
        env!("CARGO_PKG_VERSION")
    );
    let configs = [("default".to_owned(), vec!["data/*.parquet".to_owned()])];
    let card =
        card::render(&card::Card { name, rows, licences: &[], configs: &configs, features: "", content, text: &text });
    Planned::new("parquet/card", fingerprint(["card", &card]), move |new: &mut NewPart| {
        let path = context.run.stage_file(new, "shards/parquet/README.md")?;
        std::fs::write(&path, &card).with_context(|| format!("cannot write {}", path.display()))
    })
}
