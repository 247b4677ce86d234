//! `lynxdata download`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use lynxdata_fetch::objects;
use lynxdata_records::{RetryClass, Status, nearest};

use super::img2dataset::ForeignOptions;
use super::run::run_loaded;
use super::{grouped, print, text_of};
use crate::exit::{self, Failure};
use crate::host::Terminal;
use crate::metrics;
use crate::paths::path_parser;
use lynxdata_run::mirror;
use lynxdata_run::recipe::{self, LoadedRecipe};
use lynxdata_run::stages::download::Download;
use lynxdata_run::{Context, Wanted, check, keep_recipe, outcome, run_stage, stages};
use std::sync::Arc;

/// Download the images of the source into the pool
///
/// Takes a recipe, or the flags of img2dataset for a list without a recipe. The flags are also
/// written as a recipe into the run folder. Flags of img2dataset that are not listed here are
/// either ignored, with a log line, or refused with a hint what to do instead.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata download recipe.toml
  lynxdata download recipe.toml --retry-failed                    retry timeouts and the like
  lynxdata download recipe.toml --retry-failed=server,not_found   retry a class and a status
  lynxdata download --url-list pairs.parquet --url-col URL --caption-col TEXT \\
      --output-folder run --output-format webdataset")]
pub(crate) struct Arguments {
    /// The recipe, a TOML file
    #[arg(value_parser = path_parser())]
    recipe: Option<PathBuf>,

    /// Override a value of the recipe, as in --set download.size=384; repeatable, the last one wins
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Print what would be done and what would be skipped, and do nothing else, except that a
    /// source in an object store is copied
    #[arg(long)]
    dry_run: bool,

    /// Also retry rows that failed: those that may succeed now, or those with the given statuses or
    /// retry classes. Class network: dns_error, connect_error, timeout, truncated_body, empty_body
    /// and protocol_error. Class server: rate_limited and http_server_error. Class final: all
    /// others. Rows that succeeded are not downloaded again
    #[arg(long, value_name = "STATUS|CLASS,…", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "dry_run")]
    retry_failed: Option<String>,

    /// Continue even if pairs of the pool would be lost because it was made from another list or
    /// its images cannot be downloaded any more
    #[arg(long)]
    replace: bool,

    /// Serve counters for Prometheus at http://127.0.0.1:PORT/metrics during the download; 0 takes
    /// any free port and logs it
    #[arg(long, value_name = "PORT", conflicts_with = "dry_run")]
    metrics_port: Option<u16>,

    #[command(flatten)]
    list: ListArguments,

    #[command(flatten)]
    foreign: ForeignOptions,
}

/// The flags of img2dataset, for lists without a recipe. Its spelling with underscores is accepted
/// too, see `main::spelled_our_way`.
#[derive(Args)]
struct ListArguments {
    /// A file or folder of URLs, instead of a recipe
    #[arg(
        long,
        value_name = "FILE|FOLDER",
        required_unless_present = "recipe",
        conflicts_with = "recipe",
        requires = "output_folder",
        value_parser = path_parser()
    )]
    url_list: Option<PathBuf>,

    /// Format of the list; by default, its suffix decides
    #[arg(long, value_enum, requires = "url_list")]
    input_format: Option<InputFormat>,

    /// Name of the column of URLs
    #[arg(long, value_name = "COLUMN", default_value = "url", requires = "url_list")]
    url_col: String,

    /// Name of the column of captions
    #[arg(long, value_name = "COLUMN", requires = "url_list")]
    caption_col: Option<String>,

    /// The run folder, or a URL in an object store, such as s3://bucket/run
    #[arg(long, value_name = "DIR", requires = "url_list", value_parser = path_parser())]
    output_folder: Option<PathBuf>,

    /// Parquet (with an Image column), one tar file per part, or one folder per part
    #[arg(long, value_enum, default_value_t = OutputFormat::Parquet, requires = "url_list")]
    output_format: OutputFormat,

    /// Mode of resizing; `no` keeps the bytes as served, if they decode
    #[arg(long, value_enum, default_value_t = ResizeMode::KeepRatio, requires = "url_list")]
    resize_mode: ResizeMode,

    /// Pixels of the side that the resize mode sets
    #[arg(long, value_name = "N", default_value_t = 256, requires = "url_list")]
    image_size: u32,

    /// Format of images that were changed
    #[arg(long, value_enum, default_value_t = EncodeFormat::Jpg, requires = "url_list")]
    encode_format: EncodeFormat,

    /// Quality of JPEG encoding
    #[arg(long, value_name = "1-100", default_value_t = 95, requires = "url_list")]
    encode_quality: u8,

    /// Number of pairs in a part and in a shard
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "url_list")]
    number_sample_per_shard: usize,

    /// Maximum number of requests in flight at the same time
    #[arg(long, value_name = "N", default_value_t = 64, requires = "url_list")]
    thread_count: usize,

    /// Time limit of a URL in total, not per read
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, requires = "url_list")]
    timeout: f64,

    /// Number of further attempts after a temporary error
    #[arg(long, value_name = "N", default_value_t = 2, requires = "url_list")]
    retries: u32,

    /// Minimum length of the shorter side as served; smaller images are not stored
    #[arg(long, value_name = "PIXELS", default_value_t = 0, requires = "url_list")]
    min_image_size: u32,

    /// Maximum number of pixels as served; larger images are not stored
    #[arg(long, value_name = "PIXELS", default_value = "inf", value_parser = limit, requires = "url_list")]
    max_image_area: f64,

    /// Maximum ratio of the longer to the shorter side as served; images above it are not stored
    #[arg(long, value_name = "RATIO", default_value = "inf", value_parser = limit, requires = "url_list")]
    max_aspect_ratio: f64,

    /// Do not resize images that are not larger than the image size
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value = "true", default_missing_value = "true", value_parser = yes_or_no, requires = "url_list")]
    resize_only_if_bigger: bool,

    /// Keep the bytes as served, whatever the resize mode, without decoding them: the structure of
    /// the file is checked instead
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = yes_or_no, requires = "url_list")]
    disable_all_reencoding: bool,

    /// Name of the column of boxes to blur, such as faces
    #[arg(long, value_name = "COLUMN", requires = "url_list")]
    bbox_col: Option<String>,

    /// User agent that is sent to servers, such as "mybot/1.0 (+https://example.org/bot)";
    /// robots.txt and X-Robots-Tag may name its first word
    #[arg(long, value_name = "TEXT", requires = "url_list")]
    user_agent_token: Option<String>,

    /// Directives of X-Robots-Tag that exclude an image, separated by commas; [] for none
    #[arg(long, value_name = "WORD,…", requires = "url_list")]
    disallowed_header_directives: Option<String>,

    /// Additional root certificates
    #[arg(long, value_name = "PEM", requires = "url_list", value_parser = path_parser())]
    ca_file: Option<PathBuf>,

    /// Also connect to private and loopback addresses
    #[arg(long, requires = "url_list")]
    allow_private_addresses: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum InputFormat {
    Parquet,
    #[value(alias = "csv.gz")]
    Csv,
    #[value(alias = "tsv.gz")]
    Tsv,
    #[value(aliases = ["jsonl.gz", "json", "json.gz"])]
    Jsonl,
    #[value(alias = "txt.gz")]
    Txt,
    /// Images that you already have, in a folder
    Folder,
    /// Images that you already have, in tar files
    Webdataset,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputFormat {
    Parquet,
    Webdataset,
    Files,
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

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let statuses = arguments.retry_failed.as_deref().map(statuses).transpose().map_err(Failure::Usage)?;
    let loaded = load(arguments).map_err(Failure::Usage)?;
    if arguments.dry_run {
        return run_loaded(loaded, &Wanted { replaces: arguments.replace, ..Wanted::only(&[&Download]) }, true);
    }
    let session = lynxdata_engine::session::local();
    check(&loaded, &session, &Wanted::only(&[&Download])).map_err(Failure::Usage)?;
    let mut context = Context::new(loaded, session, Arc::new(Terminal))?;
    context.replaces = arguments.replace;
    stages::download::check_list(&context)?;
    keep_recipe(&context)?;
    if let Some(port) = arguments.metrics_port {
        metrics::serve(&context, port)?;
    }
    run_stage(&Download, &context)?;
    if let Some(statuses) = statuses {
        let retried = stages::download::retry_failed(&context, &statuses)?;
        let (rows, recovered) = (grouped(retried.rows), grouped(retried.recovered));
        print(&format!("{rows} rows were retried, {recovered} of them are in the pool now\n"))?;
    }
    Ok(exit::code(outcome(&context, &[&Download])?))
}

/// Returns the recipe, or the recipe that is made from the flags.
fn load(arguments: &Arguments) -> anyhow::Result<LoadedRecipe> {
    if let Some(path) = &arguments.recipe {
        let loaded = recipe::load(path, &arguments.sets)?;
        ensure!(loaded.recipe.source.is_some(), "recipe {} has no [source] to download", path.display());
        return Ok(loaded);
    }
    arguments.foreign.answer()?;
    let list = &arguments.list;
    let (output, folder) = output_of_flags(list.output_folder.as_ref().context("--output-folder is needed")?)?;
    recipe::of_flags(list.recipe(&output)?, folder, &arguments.sets)
}

/// Returns the location of the run as the recipe of the flags names it, and the folder in which
/// that recipe is written.
pub(super) fn output_of_flags(output: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let output = absolute(output)?;
    let folder = match mirror::local_folder(&output) {
        None => output.clone(),
        Some(_) => std::env::current_dir()?, // the local folder of the run is in it
    };
    Ok((output, folder))
}

/// Returns the absolute form of a local path, which is valid wherever the recipe is read. Returns a
/// URL of an object store unchanged.
fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    if objects::is_url(path) { Ok(path.to_owned()) } else { std::path::absolute(path) }
}

/// Returns the value of a boolean flag, as Python or Rust writes it.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Returns a number of at least 1, or 0 for "inf".
fn limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(f64::INFINITY) => Ok(0.0),
        Ok(number) if number >= 1.0 => Ok(number),
        _ => Err("expected a number of at least 1, or inf".to_owned()),
    }
}

impl ListArguments {
    /// Returns the flags as a recipe. Its paths are absolute, so that the copy in the run folder
    /// can be run from anywhere.
    fn recipe(&self, output: &Path) -> anyhow::Result<toml::Table> {
        let list = absolute(self.url_list.as_ref().context("--url-list is needed")?)?;
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
        download.insert("format".to_owned(), name_of(&self.output_format).into());
        download.insert("only_if_larger".to_owned(), self.resize_only_if_bigger.into());
        download.insert("resize".to_owned(), name_of(&resize).into());
        if self.disable_all_reencoding {
            download.insert("check".to_owned(), "structure".into());
        }
        download.insert("size".to_owned(), i64::from(self.image_size).into());
        download.insert("encode".to_owned(), name_of(&self.encode_format).into());
        download.insert("quality".to_owned(), i64::from(self.encode_quality).into());
        download.insert("min_side".to_owned(), i64::from(self.min_image_size).into());
        download.insert("max_area".to_owned(), (self.max_image_area as i64).into());
        download.insert("max_aspect_ratio".to_owned(), self.max_aspect_ratio.into());
        download.insert("rows_per_part".to_owned(), i64::try_from(self.number_sample_per_shard)?.into());
        download.insert("concurrency".to_owned(), i64::try_from(self.thread_count)?.into());
        download.insert("timeout_seconds".to_owned(), self.timeout.into());
        download.insert("retries".to_owned(), i64::from(self.retries).into());
        download.insert("allow_private_addresses".to_owned(), self.allow_private_addresses.into());
        if let Some(file) = &self.ca_file {
            download.insert("ca_file".to_owned(), text_of(&std::path::absolute(file)?)?.into());
        }
        if let Some(column) = &self.bbox_col {
            download.insert("blur_boxes".to_owned(), column.clone().into());
        }
        if let Some(user_agent) = &self.user_agent_token {
            download.insert("user_agent".to_owned(), user_agent.clone().into());
        }
        if let Some(directives) = &self.disallowed_header_directives {
            let words = directives.trim_matches(['[', ']']).split(',').map(|word| word.trim_matches([' ', '"', '\'']));
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            download.insert("opt_out_directives".to_owned(), words.into());
        }
        let mut recipe = toml::Table::new();
        recipe.insert("output".to_owned(), text_of(output)?.into());
        recipe.insert("source".to_owned(), source.into());
        recipe.insert("download".to_owned(), download.into());
        Ok(recipe)
    }
}

/// Returns the name of a flag's value, which is the same in recipes.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is hidden").get_name().to_owned()
}

/// Returns the statuses that a comma-separated list of statuses and classes names; for an empty
/// list, those that may succeed now.
fn statuses(names: &str) -> anyhow::Result<BTreeSet<Status>> {
    if names.is_empty() {
        return Ok(Status::ALL.iter().copied().filter(|status| status.is_retryable()).collect());
    }
    let mut wanted = BTreeSet::new();
    for name in names.split(',').map(str::trim) {
        match (name.parse(), RetryClass::ALL.iter().find(|class| class.name() == name)) {
            (Ok(Status::Ok), _) | (_, Some(RetryClass::Done)) => {
                bail!("--retry-failed: rows with status ok did not fail")
            }
            (Ok(status), _) => drop(wanted.insert(status)),
            (_, Some(class)) => wanted.extend(Status::ALL.iter().filter(|status| status.retry_class() == *class)),
            (Err(_), None) => {
                let statuses = || Status::ALL.iter().map(|status| status.name());
                let classes = || RetryClass::ALL.iter().map(|class| class.name());
                let hint = nearest(name, statuses().chain(classes()));
                let hint = hint.map_or_else(String::new, |right| format!("\nhint: did you mean {right}?"));
                let statuses = statuses().collect::<Vec<_>>().join(", ");
                bail!(
                    "--retry-failed: {name:?} is neither a status nor a class; the classes are network, server and final, the statuses are \
                     {statuses}{hint}"
                )
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_below_one_are_not_taken_for_none() {
        assert_eq!((limit("inf"), limit("1"), limit("2.5")), (Ok(0.0), Ok(1.0), Ok(2.5)));
        for bad in ["0", "0.5", "-1", "-inf", "nan", "many"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn statuses_are_named_or_those_that_may_pass() {
        assert!(statuses("").unwrap().contains(&Status::Timeout) && !statuses("").unwrap().contains(&Status::NotFound));
        assert_eq!(statuses("not_found, timeout").unwrap(), BTreeSet::from([Status::NotFound, Status::Timeout]));
        assert!(statuses("not_fuond").unwrap_err().to_string().contains("did you mean not_found?"));
        assert!(statuses("ok").is_err() && statuses("done").is_err());
        assert_eq!(
            statuses("server,not_found").unwrap(),
            BTreeSet::from([Status::RateLimited, Status::HttpServerError, Status::NotFound])
        );
        assert!(statuses("netwrok").unwrap_err().to_string().contains("did you mean network?"));
    }
}
