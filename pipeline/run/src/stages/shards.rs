//! Stage `shards`: the pairs of one selection as final Parquet and WebDataset files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use lynxdata_records::{NewPart, PartEntry, card, fingerprint, parquet, schema, webdataset};

use super::samples::{self, Naming};
use super::{Context, Parts, Planned, Stage, select, table};
use crate::recipe::{Recipe, ShardFormat};

/// Raise it when the same selection gives other bytes.
const FORMAT_VERSION: &str = "3";

/// Raise it when the same selection gives other archives.
const TAR_VERSION: &str = "2";

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
        let mut shards: Vec<Vec<Slice>> = kept.chunks(config.rows_per_shard).map(slices).collect();
        if shards.is_empty() {
            // A shard without rows: a folder without any shard is one that no reader opens.
            shards.push(Vec::new());
        }
        let shards = Arc::new(shards);
        let count = shards.len();

        let mut planned: Vec<Result<Planned<'a>>> = Vec::new();
        let mut content = vec![FORMAT_VERSION.to_owned()];
        for format in &config.formats {
            for (index, shard) in shards.iter().enumerate() {
                let file = file_name(*format, index, count);
                let mut inputs = vec!["shards".to_owned(), FORMAT_VERSION.to_owned(), file.clone()];
                if *format == ShardFormat::Webdataset {
                    inputs.extend([TAR_VERSION, context.recipe().download.encode.extension()].map(str::to_owned));
                }
                for slice in shard {
                    inputs.push(downloads[slice.part].digest());
                    inputs.push(format!("{:?}", slice.rows));
                }
                let (shards, downloads) = (Arc::clone(&shards), Arc::clone(&downloads));
                let name = format!("{}/{index:05}", folder(*format));
                let make = Box::new(move |new: &mut NewPart| {
                    let path = context.run.stage_file(new, &file)?;
                    let rows = |write: &mut OnBatch<'_>| for_each_batch(context, &downloads, &shards[index], write);
                    let count = match format {
                        ShardFormat::Parquet => {
                            let part = shards[index].first().map_or(0, |slice| slice.part);
                            let columns = match downloads.get(part) {
                                Some(part) => {
                                    table::schema(&table::file(&context.run, part, schema::pool().name)?, None)?
                                }
                                None => schema::pool().schema(),
                            };
                            let columns = schema::with_hugging_face_features(columns.as_ref().clone());
                            write_parquet(&path, &Arc::new(columns), rows)
                        }
                        ShardFormat::Webdataset => {
                            write_tar(&path, Naming::OneForAll(context.recipe().download.encode), rows)
                        }
                    }?;
                    (new.rows_in, new.rows_out) = (count, count);
                    Ok(())
                });
                let fingerprint = fingerprint(inputs.iter().map(String::as_str));
                content.push(fingerprint.clone());
                planned.push(Ok(Planned { name, fingerprint, make }));
            }
        }
        if config.formats.contains(&ShardFormat::Parquet) {
            let content = fingerprint(content.iter().map(String::as_str));
            planned.push(Ok(plan_card(context, &config.selection, kept.len() as u64, &content)));
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
    let selections = context.upstream("select")?;
    let files = select::files(&selections, selection, downloads)?;
    let mut kept = Vec::new();
    for (part, file) in files.iter().enumerate() {
        let path = context.run.intact(file)?;
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

/// Hands over the rows of a shard in batches, so that it takes little memory whatever its pictures are. Returns how many there are.
fn for_each_batch(
    context: &Context,
    downloads: &[PartEntry],
    shard: &[Slice],
    mut write: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<u64> {
    let mut count = 0;
    for Slice { part, rows } in shard {
        let path = table::file(&context.run, &downloads[*part], schema::pool().name)?;
        let mut first = 0;
        for batch in table::batches(&path, None)? {
            let batch = batch?;
            let end = first + batch.num_rows() as u32;
            let here = &rows[rows.partition_point(|row| *row < first)..rows.partition_point(|row| *row < end)];
            if !here.is_empty() {
                let here: UInt32Array = here.iter().map(|row| row - first).collect();
                write(&take_record_batch(&batch, &here)?)?;
            }
            (first, count) = (end, count + here.len() as u64);
        }
    }
    Ok(count)
}

/// What a writer does with each batch of rows.
type OnBatch<'a> = dyn FnMut(&RecordBatch) -> Result<()> + 'a;

fn write_parquet(path: &Path, schema: &SchemaRef, rows: impl Fn(&mut OnBatch<'_>) -> Result<u64>) -> Result<u64> {
    let mut writer = parquet::Writer::create(path, schema)?;
    let count = rows(&mut |batch| Ok(writer.write(batch)?))?;
    writer.finish()?;
    Ok(count)
}

fn write_tar(path: &Path, naming: Naming, rows: impl Fn(&mut OnBatch<'_>) -> Result<u64>) -> Result<u64> {
    let failed = || format!("cannot write {}", path.display());
    let mut writer = webdataset::Writer::new(BufWriter::new(File::create(path).with_context(failed)?));
    let count =
        rows(&mut |batch| samples::for_each(batch, naming, path, |uid, members| Ok(writer.append(uid, members)?)))?;
    writer.finish()?.flush().with_context(failed)?;
    Ok(count)
}

fn plan_card<'a>(context: &'a Context, selection: &'a str, rows: u64, content: &str) -> Planned<'a> {
    let recipe = context.recipe();
    let name = if recipe.name.is_empty() { selection } else { &recipe.name };
    let text = format!(
        "Selection `{selection}`: {rows} image-text pairs. Written by lynxdata {}; the recipe, the reasons for every rejected pair and the report \
         lie in the run folder.",
        env!("CARGO_PKG_VERSION")
    );
    let card = card::render(&card::Card { name, rows, data_files: "data/*.parquet", content, text: &text });
    Planned {
        name: "parquet/card".to_owned(),
        fingerprint: fingerprint(["card", &card]),
        make: Box::new(move |new| {
            let path = context.run.stage_file(new, "shards/parquet/README.md")?;
            std::fs::write(&path, &card).with_context(|| format!("cannot write {}", path.display()))
        }),
    }
}
