//! Stage `shards`: the pairs of one selection as final Parquet and WebDataset files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use lynxdata_records::{NewPart, PartEntry, card, fingerprint, parquet, schema, webdataset};

use super::{Context, Parts, Planned, Stage, samples, select, table};
use crate::recipe::{Recipe, ShardFormat};

/// Raise it when the same selection gives other bytes.
const FORMAT_VERSION: &str = "1";

pub(crate) struct Shards;

impl Stage for Shards {
    fn name(&self) -> &'static str {
        "shards"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.shards.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        vec!["download", "select"]
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = context.recipe().shards.as_ref().context("the recipe has no [shards]")?;
        let downloads = Arc::new(context.upstream("download")?);
        let kept = kept_rows(context, &config.selection, &downloads)?;
        let shards: Arc<Vec<Vec<Slice>>> = Arc::new(kept.chunks(config.rows_per_shard).map(slices).collect());
        let count = shards.len();

        let mut planned: Vec<Result<Planned<'a>>> = Vec::new();
        for format in &config.formats {
            for (index, shard) in shards.iter().enumerate() {
                let file = file_name(*format, index, count);
                let mut inputs = vec!["shards".to_owned(), FORMAT_VERSION.to_owned(), file.clone()];
                for slice in shard {
                    inputs.push(downloads[slice.part].digest());
                    inputs.push(format!("{:?}", slice.rows));
                }
                let (shards, downloads) = (Arc::clone(&shards), Arc::clone(&downloads));
                let name = format!("{}/{index:05}", folder(*format));
                let make = Box::new(move |new: &mut NewPart| {
                    let rows = read_rows(context, &downloads, &shards[index])?;
                    (new.rows_in, new.rows_out) = (rows.num_rows() as u64, rows.num_rows() as u64);
                    let path = context.run.stage_file(new, &file)?;
                    match format {
                        ShardFormat::Parquet => Ok(parquet::write(&path, &rows.schema(), [&rows])?),
                        ShardFormat::Webdataset => write_tar(&path, &rows),
                    }
                });
                planned.push(Ok(Planned { name, fingerprint: fingerprint(inputs.iter().map(String::as_str)), make }));
            }
        }
        if config.formats.contains(&ShardFormat::Parquet) {
            planned.push(Ok(plan_card(context, &config.selection, kept.len() as u64)));
        }
        Ok(Box::new(planned.into_iter()))
    }
}

/// The name of a format in parts and folders.
pub(crate) fn folder(format: ShardFormat) -> &'static str {
    match format {
        ShardFormat::Parquet => "parquet",
        ShardFormat::Webdataset => "webdataset",
    }
}

/// Names as readers of the two formats expect them: Hugging Face's `split-00000-of-00012`, WebDataset's six digits.
fn file_name(format: ShardFormat, index: usize, count: usize) -> String {
    match format {
        ShardFormat::Parquet => format!("shards/parquet/data/train-{index:05}-of-{count:05}.parquet"),
        ShardFormat::Webdataset => format!("shards/webdataset/{index:06}.tar"),
    }
}

/// Rows of one pool part that go into a shard.
struct Slice {
    part: usize,
    rows: Vec<u32>,
}

/// (part, row) of every kept pair in the order of the pool.
pub(crate) fn kept_rows(context: &Context, selection: &str, downloads: &[PartEntry]) -> Result<Vec<(usize, u32)>> {
    context.upstream("select")?;
    let mut kept = Vec::new();
    for (part, download) in downloads.iter().enumerate() {
        let path = context.run.root().join(select::file_name(selection, &download.part));
        let rows = table::read(&path, Some(&["kept"]))?;
        let flags: &BooleanArray = parquet::typed_column(&rows, "kept", &path)?;
        kept.extend((0..flags.len()).filter(|row| flags.value(*row)).map(|row| (part, row as u32)));
    }
    Ok(kept)
}

fn slices(rows: &[(usize, u32)]) -> Vec<Slice> {
    rows.chunk_by(|a, b| a.0 == b.0)
        .map(|run| Slice { part: run[0].0, rows: run.iter().map(|(_, row)| *row).collect() })
        .collect()
}

fn read_rows(context: &Context, downloads: &[PartEntry], shard: &[Slice]) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    for slice in shard {
        let path = table::file(&context.run, &downloads[slice.part], schema::pool().name)?;
        let rows = table::read(&path, None)?;
        batches.push(take_record_batch(&rows, &UInt32Array::from(slice.rows.clone()))?);
    }
    let Some(first) = batches.first() else { bail!("a shard without rows was planned") };
    let shared = first.schema();
    Ok(concat_batches(&shared, &batches)?)
}

fn write_tar(path: &std::path::Path, rows: &RecordBatch) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let file = File::create(path).with_context(failed)?;
    let mut writer = webdataset::Writer::new(BufWriter::new(file));
    samples::for_each(rows, path, |uid, members| Ok(writer.append(uid, members)?))?;
    writer.finish()?.flush().with_context(failed)
}

fn plan_card<'a>(context: &'a Context, selection: &'a str, rows: u64) -> Planned<'a> {
    let recipe = context.recipe();
    let name = if recipe.name.is_empty() { selection } else { &recipe.name };
    let text = format!(
        "Selection `{selection}`: {rows} image-text pairs. Written by lynxdata {}; the recipe, the reasons for every rejected pair and the report \
         lie in the run folder.",
        env!("CARGO_PKG_VERSION")
    );
    let card = card::render(&card::Card { name, rows, data_files: "data/*.parquet", text: &text });
    Planned {
        name: "parquet/card".to_owned(),
        fingerprint: fingerprint(["card", &card]),
        make: Box::new(move |new| {
            let path = context.run.stage_file(new, "shards/parquet/README.md")?;
            std::fs::write(&path, &card).with_context(|| format!("cannot write {}", path.display()))
        }),
    }
}
