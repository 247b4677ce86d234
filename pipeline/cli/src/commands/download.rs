//! `lynxdata download`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use clap::{Args, ValueEnum};
use lynxdata_records::{Status, nearest};

use super::run::{keep_recipe, run_loaded, too_many_failed_rows};
use super::{grouped, print};
use crate::exit::Failure;
use crate::recipe::{self, LoadedRecipe};
use crate::stages::{self, Context};

/// Fetch the pictures of the source into the pool
///
/// With a recipe, or with the flags of img2dataset for a list that needs none; those write a recipe too, into the run folder.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata download recipe.toml
  lynxdata download recipe.toml --retry-failed                     rows whose status may pass, such as timeout
  lynxdata download recipe.toml --retry-failed=not_found,forbidden
  lynxdata download --url-list pairs.parquet --url-col URL --caption-col TEXT --output-folder run --output-format webdataset")]
pub(crate) struct Arguments {
    /// The recipe, a TOML file
    recipe: Option<PathBuf>,

    /// Overrides a value of the recipe, as in --set download.size=384; may be given several times, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Prints what would be done and what would be skipped, and does nothing
    #[arg(long)]
    dry_run: bool,

    /// Also tries the rows again that failed: those whose status may pass (dns_error, connect_error, timeout, rate_limited, http_server_error,
    /// truncated_body, empty_body, protocol_error), or those with the statuses named. Rows that succeeded are left alone
    #[arg(long, value_name = "STATUS,…", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "dry_run")]
    retry_failed: Option<String>,

    #[command(flatten)]
    list: ListArguments,
}

/// The flags of img2dataset, for lists that need no recipe.
#[derive(Args)]
struct ListArguments {
    /// Without a recipe: a file or folder of URLs
    #[arg(
        long,
        value_name = "FILE|FOLDER",
        required_unless_present = "recipe",
        conflicts_with = "recipe",
        requires = "output_folder"
    )]
    url_list: Option<PathBuf>,

    /// Format of the list; without it, the suffix says
    #[arg(long, value_enum, requires = "url_list")]
    input_format: Option<InputFormat>,

    /// Column of URLs
    #[arg(long, value_name = "COLUMN", default_value = "url", requires = "url_list")]
    url_col: String,

    /// Column of captions
    #[arg(long, value_name = "COLUMN", requires = "url_list")]
    caption_col: Option<String>,

    /// The run folder
    #[arg(long, value_name = "DIR", requires = "url_list")]
    output_folder: Option<PathBuf>,

    /// Parquet alone (the pool), or WebDataset shards too
    #[arg(long, value_enum, default_value_t = OutputFormat::Parquet, requires = "url_list")]
    output_format: OutputFormat,

    /// How pictures are resized; `no` keeps the bytes as served
    #[arg(long, value_enum, default_value_t = ResizeMode::KeepRatio, requires = "url_list")]
    resize_mode: ResizeMode,

    /// Pixels of the side that the resize mode sets
    #[arg(long, value_name = "N", default_value_t = 256, requires = "url_list")]
    image_size: u32,

    /// Format of pictures that were changed
    #[arg(long, value_enum, default_value_t = EncodeFormat::Jpg, requires = "url_list")]
    encode_format: EncodeFormat,

    /// Quality of JPEG encoding
    #[arg(long, value_name = "1-100", default_value_t = 95, requires = "url_list")]
    encode_quality: u8,

    /// Pairs in a part and in a shard
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "url_list")]
    number_sample_per_shard: usize,

    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 64, requires = "url_list")]
    thread_count: usize,

    /// Seconds for a URL in all, not per read
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, requires = "url_list")]
    timeout: f64,

    /// Further attempts where one may help
    #[arg(long, value_name = "N", default_value_t = 2, requires = "url_list")]
    retries: u32,

    /// Keep the bytes as served, whatever the resize mode
    #[arg(long, requires = "url_list")]
    disable_all_reencoding: bool,

    /// Further root certificates
    #[arg(long, value_name = "PEM", requires = "url_list")]
    ca_file: Option<PathBuf>,

    /// Connect to private and loopback addresses too
    #[arg(long, requires = "url_list")]
    allow_private_addresses: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum InputFormat {
    Parquet,
    Csv,
    Tsv,
    Jsonl,
    Txt,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    Parquet,
    Webdataset,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ResizeMode {
    No,
    KeepRatio,
    KeepRatioLargest,
    CenterCrop,
    Border,
}

#[derive(Clone, Copy, ValueEnum)]
enum EncodeFormat {
    Jpg,
    Png,
    Webp,
}

/// What a run of the list does after downloading, to write WebDataset shards.
const SHARD_STAGES: [&str; 5] = ["download", "signals", "dedup", "select", "shards"];

/// The selection of everything, for lists.
const ALL: &str = "all";

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let statuses = arguments.retry_failed.as_deref().map(statuses).transpose().map_err(Failure::Usage)?;
    let (loaded, names) = load(arguments).map_err(Failure::Usage)?;
    if arguments.dry_run {
        return run_loaded(loaded, &names, true);
    }
    let context = Context::new(loaded, lynxdata_engine::session::local())?;
    keep_recipe(&context)?;
    stages::run(&stages::download::Download, &context)?;
    if let Some(statuses) = statuses {
        let retried = stages::download::retry_failed(&context, &statuses)?;
        let (rows, recovered) = (grouped(retried.rows), grouped(retried.recovered));
        print(&format!("{rows} rows were tried again, {recovered} of them are in the pool now\n"))?;
    }
    for stage in stages::STAGES.iter().filter(|stage| names.contains(&stage.name()) && stage.name() != "download") {
        stages::run(*stage, &context)?;
    }
    Ok(too_many_failed_rows(&context))
}

/// The recipe, or the one that the flags stand for, and the stages to run.
fn load(arguments: &Arguments) -> anyhow::Result<(LoadedRecipe, Vec<&'static str>)> {
    if let Some(path) = &arguments.recipe {
        let loaded = recipe::load(path, &arguments.sets)?;
        ensure!(loaded.recipe.source.is_some(), "recipe {} has no [source] to download", path.display());
        return Ok((loaded, vec!["download"]));
    }
    let list = &arguments.list;
    let output = std::path::absolute(list.output_folder.as_ref().context("--output-folder is needed")?)?;
    let text = list.recipe(&output)?;
    let names = match list.output_format {
        OutputFormat::Parquet => vec!["download"],
        OutputFormat::Webdataset => SHARD_STAGES.to_vec(),
    };
    Ok((recipe::from_text(text, output.join("recipe.toml"), &arguments.sets)?, names))
}

impl ListArguments {
    /// The flags as the text of a recipe. Its paths are absolute, so that the copy in the run folder can be run from anywhere.
    fn recipe(&self, output: &Path) -> anyhow::Result<String> {
        let list = std::path::absolute(self.url_list.as_ref().context("--url-list is needed")?)?;
        let mut source = toml::Table::new();
        source.insert("path".to_owned(), text_of(&list)?.into());
        source.insert("url".to_owned(), self.url_col.clone().into());
        if let Some(caption) = &self.caption_col {
            source.insert("caption".to_owned(), caption.clone().into());
        }
        if let Some(format) = self.input_format {
            source.insert("format".to_owned(), name_of(&format).into());
        }
        let resize = if self.disable_all_reencoding { ResizeMode::No } else { self.resize_mode };
        let mut download = toml::Table::new();
        download.insert("resize".to_owned(), name_of(&resize).into());
        download.insert("size".to_owned(), i64::from(self.image_size).into());
        download.insert("encode".to_owned(), name_of(&self.encode_format).into());
        download.insert("quality".to_owned(), i64::from(self.encode_quality).into());
        download.insert("rows_per_part".to_owned(), i64::try_from(self.number_sample_per_shard)?.into());
        download.insert("concurrency".to_owned(), i64::try_from(self.thread_count)?.into());
        download.insert("timeout_seconds".to_owned(), self.timeout.into());
        download.insert("retries".to_owned(), i64::from(self.retries).into());
        download.insert("allow_private_addresses".to_owned(), self.allow_private_addresses.into());
        if let Some(file) = &self.ca_file {
            download.insert("ca_file".to_owned(), text_of(&std::path::absolute(file)?)?.into());
        }
        let mut recipe = toml::Table::new();
        recipe.insert("output".to_owned(), text_of(output)?.into());
        recipe.insert("source".to_owned(), source.into());
        recipe.insert("download".to_owned(), download.into());
        if matches!(self.output_format, OutputFormat::Webdataset) {
            let all = toml::Table::from_iter([("deduplicate".to_owned(), false.into())]);
            recipe.insert("select".to_owned(), toml::Table::from_iter([(ALL.to_owned(), all.into())]).into());
            let mut shards = toml::Table::new();
            shards.insert("selection".to_owned(), ALL.into());
            shards.insert("formats".to_owned(), vec!["webdataset"].into());
            shards.insert("rows_per_shard".to_owned(), i64::try_from(self.number_sample_per_shard)?.into());
            recipe.insert("shards".to_owned(), shards.into());
        }
        Ok(toml::to_string(&recipe)?)
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is not valid UTF-8", path.display()))?.to_owned())
}

/// The name of a flag's value, which recipes take as well.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// The statuses that a comma-separated list names; without one, those that may pass.
fn statuses(names: &str) -> anyhow::Result<BTreeSet<Status>> {
    if names.is_empty() {
        return Ok(Status::ALL.iter().copied().filter(|status| status.is_retryable()).collect());
    }
    names
        .split(',')
        .map(|name| match name.trim().parse() {
            Ok(Status::Ok) => Err(anyhow!("--retry-failed: rows with status ok did not fail")),
            Ok(status) => Ok(status),
            Err(_) => {
                let known = Status::ALL.iter().map(|status| status.name());
                let hint = nearest(name, known.clone()).map(|right| format!("\nhint: did you mean {right}?"));
                let known = known.collect::<Vec<_>>().join(", ");
                Err(anyhow!("--retry-failed: {name:?} is no status; there are: {known}{}", hint.unwrap_or_default()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_named_or_those_that_may_pass() {
        assert!(statuses("").unwrap().contains(&Status::Timeout) && !statuses("").unwrap().contains(&Status::NotFound));
        assert_eq!(statuses("not_found, timeout").unwrap(), BTreeSet::from([Status::NotFound, Status::Timeout]));
        assert!(statuses("not_fuond").unwrap_err().to_string().contains("did you mean not_found?"));
        assert!(statuses("ok").is_err());
    }
}
