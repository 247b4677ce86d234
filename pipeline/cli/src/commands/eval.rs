//! `lynxdata eval`: scores a model's answers.

mod ask;
mod judge;
mod lynx;
mod output;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lynxdata_evaluation::input::{Prediction, References, Source, join, read_predictions, read_references};
use lynxdata_evaluation::{METRICS, Metric, Variant, metric, score};

use super::{print, print_json};
use crate::exit::{DONE, Failure};
use crate::paths::{input_parser, path_parser};

/// Score a model's answers by the official metrics, with 95 % intervals and per category
///
/// References are questions with answers, as JSON Lines or a JSON list, or the original files of
/// VQA v2 (annotations and questions), COCO Captions, POPE, Open-VQA, OwlEval or DocVQA.
/// Predictions and references are joined by their ids. A missing prediction counts as wrong and is
/// reported; an unknown or repeated id is an error.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata eval --metric vqa_accuracy --predictions answers.jsonl \\
      --references v2_mscoco_val2014_annotations.json
  lynxdata eval --metric cider --predictions captions.json --references captions_val2014.json --json
  lynxdata eval --metric pope --predictions answers.jsonl --references pope.json --out scores/
  lynxdata eval --metric judge --predictions answers.jsonl --references Open_VQA_images.jsonl \\
      --endpoint http://localhost:8000/v1 --judge-model Qwen3-8B --out scores/
  lynxdata eval --ask http://localhost:8000/v1 --model my-model --images images/ \\
      --references Open_VQA_images.jsonl --out answers/ --metric exact_match
  lynxdata eval --lynx lynx-2/model --by-likelihood --images images/ \\
      --references questions.jsonl --metric vqa_accuracy

A reference: {\"id\": 1, \"question\": \"How many dogs?\", \"answers\": [\"2\"],
    \"category\": \"Counting\", \"image\": \"a.jpg\"}
A prediction: {\"id\": 1, \"answer\": \"two\"}
Definitions, their sources and known differences: docs/evaluation.md")]
pub(crate) struct Arguments {
    /// The metric to compute
    #[arg(long, value_parser = metric_parser(), required_unless_present_any = ["ask", "lynx"])]
    metric: Option<&'static Metric>,

    /// Questions with their answers; repeatable, for example for annotations and questions
    #[arg(long, value_name = "FILE", value_parser = input_parser(), required = true)]
    references: Vec<PathBuf>,

    /// The model's answers, as JSON or JSON Lines
    #[arg(long, value_name = "FILE", value_parser = input_parser(), required_unless_present_any = ["ask", "lynx"], conflicts_with_all = ["ask", "lynx"])]
    predictions: Option<PathBuf>,

    /// Whether the quirks of the official script are left out
    #[arg(long, help = strict_help())]
    strict: bool,

    /// Print the scores as JSON
    #[arg(long)]
    json: bool,

    /// Write results.json and the score of each question in samples_METRIC.jsonl, in the format of
    /// lmms-eval
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    out: Option<PathBuf>,

    /// Seed of the bootstrap
    #[arg(long, default_value_t = lynxdata_evaluation::interval::SEED)]
    seed: u64,

    #[command(flatten)]
    judge: judge::JudgeArguments,

    #[command(flatten)]
    ask: ask::AskArguments,

    #[command(flatten)]
    lynx: lynx::LynxArguments,

    /// Environment variable that holds the API key of the server, for --endpoint and --ask
    #[arg(long, value_name = "VAR", help_heading = "Server")]
    api_key_env: Option<String>,

    /// Maximum number of concurrent requests to the server [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Server")]
    requests: Option<u16>,
}

impl Arguments {
    fn requests(&self) -> u16 {
        self.requests.unwrap_or(4)
    }
}

/// Returns the help of `--strict`, with the metrics that have such a variant.
fn strict_help() -> String {
    let names: Vec<&str> = METRICS.iter().filter(|metric| metric.strict.is_some()).map(|metric| metric.name).collect();
    let names = match names.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} and {last} have", others.join(", ")),
        names => format!("only {} has", names.concat()),
    };
    format!("Leave out the quirks of the official script; {names} a strict variant")
}

/// Returns the names of the metrics, with their help texts.
fn metric_parser() -> impl TypedValueParser<Value = &'static Metric> {
    let values = METRICS.iter().map(|metric| PossibleValue::new(metric.name).help(metric.about));
    PossibleValuesParser::new(values).map(|name| metric(&name).expect("clap takes no other names"))
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    refuse_contradictions(arguments).map_err(Failure::Usage)?;
    let references = load_references(&arguments.references)?;
    let predictions = match &arguments.predictions {
        Some(path) => {
            let text = read(path)?;
            let source = Source { name: &path.to_string_lossy(), text: &text };
            read_predictions(source, &references.key).map_err(anyhow::Error::from)?
        }
        None if arguments.lynx.lynx.is_some() => lynx::run(arguments, &references)?,
        None => ask::run(arguments, &references)?,
    };
    let Some(metric) = arguments.metric else { return Ok(DONE) };
    let mut results = scored(arguments, metric, &references, &predictions)?;
    results.scores.notes.splice(0..0, references.notes);
    if let Some(folder) = &arguments.out {
        results.write(folder, &references.rows, &references.key, &predictions)?;
    }
    if arguments.json {
        print_json(&results)?;
    } else {
        print(&results.table())?;
    }
    if metric.name == "judge" && results.scores.parsed.iter().all(Option::is_none) {
        return Err(Failure::Failed(anyhow!("no reply of the judge is yes or no, so no score can be computed")));
    }
    Ok(DONE)
}

fn refuse_contradictions(arguments: &Arguments) -> anyhow::Result<()> {
    let is_judged = arguments.metric.is_some_and(|metric| metric.name == "judge");
    if is_judged != arguments.judge.endpoint.is_some() {
        let error = if is_judged {
            anyhow!("--metric judge needs a server: --endpoint URL --judge-model NAME")
        } else {
            anyhow!("--endpoint, --judge-model, --judge-cache and --labels belong to --metric judge")
        };
        return Err(error);
    }
    arguments.lynx.settings()?;
    let asks = arguments.ask.ask.is_some() || arguments.lynx.lynx.is_some();
    let ask = &arguments.ask;
    for (is_given, flags, owners, is_used) in [
        (ask.images.is_some() || ask.instruction.is_some(), "--images and --instruction", "--ask or --lynx", asks),
        (ask.max_tokens.is_some(), "--max-tokens", "--ask or --lynx", asks),
        (ask.model.is_some(), "--model", "--ask", ask.ask.is_some()),
        (arguments.requests.is_some(), "--requests", "--ask or --endpoint", ask.ask.is_some() || is_judged),
        (arguments.api_key_env.is_some(), "--api-key-env", "--ask or --endpoint", ask.ask.is_some() || is_judged),
    ] {
        if is_given && !is_used {
            let verb = if flags.contains(" and ") { "belong" } else { "belongs" };
            return Err(anyhow!("{flags} {verb} to {owners}"));
        }
    }
    if arguments.ask.ask.is_some() && arguments.lynx.lynx.is_some() {
        return Err(anyhow!("--ask and --lynx each name a model; give only one of them"));
    }
    if arguments.ask.ask.is_some() && arguments.out.is_none() {
        return Err(anyhow!("--ask needs --out DIR, where each answer is saved as it arrives"));
    }
    if arguments.strict
        && let Some(metric) = arguments.metric.filter(|metric| metric.strict.is_none())
    {
        let with = METRICS.iter().filter(|metric| metric.strict.is_some()).map(|metric| metric.name);
        let with = with.collect::<Vec<_>>().join(", ");
        return Err(anyhow!("{} has no strict variant; leave out --strict ({with} have one)", metric.name));
    }
    Ok(())
}

/// Returns the scores of the answers, or of the verdicts of a judge on them.
fn scored(
    arguments: &Arguments,
    metric: &Metric,
    references: &References,
    predictions: &[Prediction],
) -> anyhow::Result<output::Results> {
    let joined = join(&references.rows, predictions)?;
    let variant = if arguments.strict { Variant::Strict } else { Variant::Official };
    let missing: Vec<String> = joined.missing.iter().map(|id| (*id).to_owned()).collect();
    let (scores, judged) = if metric.name == "judge" {
        let judged = judge::run(arguments, &joined.items, &references.key)?;
        let scores = score(metric, &judged.items(&joined.items), variant, arguments.seed)?;
        (scores, Some(judged.told))
    } else {
        (score(metric, &joined.items, variant, arguments.seed)?, None)
    };
    let name = |path: &PathBuf| path.display().to_string();
    let from_server = || arguments.out.as_ref().map(|folder| folder.join(ask::PREDICTIONS).display().to_string());
    Ok(output::Results {
        references: arguments.references.iter().map(name).collect(),
        predictions: arguments.predictions.as_ref().map(name).or_else(from_server).unwrap_or_default(),
        questions: references.rows.len(),
        missing,
        scores,
        judge: judged,
    })
}

fn load_references(paths: &[PathBuf]) -> anyhow::Result<References> {
    let texts: Vec<(String, String)> =
        paths.iter().map(|path| Ok((path.display().to_string(), read(path)?))).collect::<anyhow::Result<_>>()?;
    let sources: Vec<Source> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    Ok(read_references(&sources)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let not_text = || format!("{} is not UTF-8 text; save it as UTF-8", path.display());
    String::from_utf8(bytes).with_context(not_text)
}
