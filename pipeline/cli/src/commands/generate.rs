//! `lynxdata generate`: writes captions and conversations from captions and boxes with a language
//! model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use lynxdata_generation::Language;
use lynxdata_generation::texts::{Context, Kind, Outcome, RULES, Wanted, estimate, write_all};
use serde_json::{Value, json};

use super::language_model::{ModelArguments, block_on, tell_spending, told_estimate, write_whole};
use super::print;
use crate::exit::{DONE, Failure};
use crate::paths::{check_output, input_parser, path_parser};
use lynxdata_run::Host as _;

use crate::host::Terminal;

/// Write captions or conversations from captions and boxes with a language model
///
/// The model does not see the image, only its captions and boxes. A text that breaks a rule goes to
/// FILE.refused.jsonl with the rule and the reason. Every row of the output names the model and the
/// request. A second run asks only for what is missing.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata generate captions rows.jsonl --out captions.jsonl \\
      --endpoint http://localhost:8000/v1 --model Qwen3-8B
  lynxdata generate conversations rows.jsonl --out talk.jsonl --dry-run --prices prices.toml \\
      --endpoint https://api.openai.com/v1 --model gpt-4o-mini
  lynxdata generate conversations rows.jsonl --out talk.jsonl --max-cost 2 --prices prices.toml \\
      --endpoint https://api.openai.com/v1 --model gpt-4o-mini --api-key-env OPENAI_API_KEY

A row: {\"id\": 1, \"image\": \"a.jpg\", \"captions\": [\"A dog runs.\"],
        \"boxes\": [{\"name\": \"dog\", \"box\": [0.1, 0.2, 0.5, 0.9]}]}
The rules, prices and costs: docs/generation.md")]
pub(crate) struct Arguments {
    /// The kind of text to write
    #[arg(value_enum)]
    kind: What,

    /// Rows with id, captions and boxes, one JSON object per line
    #[arg(value_name = "FILE", value_parser = input_parser())]
    rows: PathBuf,

    /// File of the texts, one JSON object per line, in the order of the rows
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    out: PathBuf,

    /// Language of the texts, as an ISO 639-1 code
    #[arg(long, value_name = "CODE", default_value = "en", value_parser = language)]
    language: Language,

    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// One caption from the given ones
    Captions,
    /// Questions and answers
    Conversations,
    /// Long descriptions
    Descriptions,
    /// Questions that need reasoning, with reasons
    Reasoning,
}

impl What {
    fn kind(self) -> Kind {
        match self {
            What::Captions => Kind::Caption,
            What::Conversations => Kind::Conversation,
            What::Descriptions => Kind::Description,
            What::Reasoning => Kind::Reasoning,
        }
    }
}

/// Reads a language of the command line.
pub(super) fn language(code: &str) -> Result<Language, String> {
    let known = || Language::codes().collect::<Vec<_>>().join(", ");
    Language::new(code).ok_or_else(|| format!("{code} is not one of {}", known()))
}

/// The rows of a file: those that can be asked about, and the report rows of those that cannot.
struct Rows {
    contexts: Vec<Context>,
    unreadable: Vec<Value>,
}

/// The outcomes of the rows, in their order.
#[derive(Default)]
struct Outcomes {
    written: BTreeMap<usize, Value>,
    refused: BTreeMap<usize, Value>,
    /// Refused and failed rows by rule; failed ones are under `failed`.
    counts: BTreeMap<&'static str, usize>,
    stopped: Option<lynxdata_generation::Error>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    check_output(&arguments.out, [&*arguments.rows])?;
    let rows = read(&arguments.rows)?;
    let vocabulary: BTreeSet<String> =
        rows.contexts.iter().flat_map(|row| &row.objects).map(|object| object.name.to_lowercase()).collect();
    let wanted = Wanted { kind: arguments.kind.kind(), language: arguments.language, vocabulary };
    let client = arguments.model.client()?;
    if arguments.model.dry_run {
        print(&told_estimate(&estimate(&client, &rows.contexts, &wanted)))?;
        return Ok(DONE);
    }
    let outcomes = write(arguments, &client, &rows.contexts, &wanted)?;
    // A run that ended early must not replace the texts of an earlier run by fewer.
    let earlier = std::fs::read(&arguments.out).map_or(0, |text| text.split(|byte| *byte == b'\n').count() - 1);
    let is_less = outcomes.stopped.is_some() || outcomes.written.is_empty();
    if is_less && outcomes.written.len() < earlier {
        tracing::warn!("{} keeps the {earlier} texts of an earlier run", arguments.out.display());
    } else {
        write_whole(&arguments.out, &lines(outcomes.written.values()))?;
    }
    let refused = refused_path(&arguments.out);
    write_whole(&refused, &lines(outcomes.refused.values().chain(&rows.unreadable)))?;
    tell_spending(&client);
    tell(&rows, &outcomes, &refused);
    match outcomes.stopped {
        Some(error) => {
            let left = rows.contexts.len() - outcomes.written.len() - outcomes.refused.len();
            let told = format!("{left} rows got no reply; run the same command again to continue");
            Err(Failure::Failed(anyhow!(error).context(told)))
        }
        None if outcomes.written.is_empty() => {
            Err(Failure::Failed(anyhow!("no text was written; {} has the reasons", refused.display())))
        }
        None => Ok(DONE),
    }
}

/// Returns values as JSON, one per line.
fn lines<'a>(rows: impl Iterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&format!("{row}\n"));
    }
    text
}

/// Returns the file beside the output for what was refused.
pub(super) fn refused_path(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".refused.jsonl");
    out.with_file_name(name)
}

fn write(
    arguments: &Arguments,
    client: &lynxdata_generation::Client,
    contexts: &[Context],
    wanted: &Wanted,
) -> anyhow::Result<Outcomes> {
    let progress = Terminal.stage("generate", Some(contexts.len() as u64));
    let mut outcomes = Outcomes::default();
    let keep = |row: usize, outcome| {
        progress.part_done();
        let context = &contexts[row];
        match outcome {
            Outcome::Written(written) => {
                outcomes.written.insert(row, written.row(context, wanted.kind));
            }
            Outcome::Refused(refused) => {
                *outcomes.counts.entry(refused.rule).or_default() += 1;
                outcomes.refused.insert(row, json!(refused));
            }
            Outcome::Failed(error) if error.is_for_all() => {
                outcomes.stopped.get_or_insert(error);
            }
            Outcome::Failed(error) => {
                *outcomes.counts.entry("failed").or_default() += 1;
                outcomes.refused.insert(row, json!({"id": context.id, "rule": "failed", "reason": error.to_string()}));
            }
        }
        Ok::<(), anyhow::Error>(())
    };
    block_on(write_all(client, contexts, wanted, usize::from(arguments.model.requests), keep))??;
    Ok(outcomes)
}

fn tell(rows: &Rows, outcomes: &Outcomes, refused: &Path) {
    tracing::info!(
        "{} rows: {} written, {} refused or failed, {} unreadable",
        rows.contexts.len() + rows.unreadable.len(),
        outcomes.written.len(),
        outcomes.refused.len(),
        rows.unreadable.len()
    );
    for (rule, count) in &outcomes.counts {
        let about = RULES.iter().find(|known| known.name == *rule).map_or("got no usable reply", |known| known.about);
        tracing::info!("{count} {rule}: {about}");
    }
    if !outcomes.refused.is_empty() || !rows.unreadable.is_empty() {
        tracing::info!("refused, failed and unreadable rows with their reasons: {}", refused.display());
    }
}

fn read(path: &Path) -> anyhow::Result<Rows> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut rows = Rows { contexts: Vec::new(), unreadable: Vec::new() };
    if bytes.trim_ascii().is_empty() || bytes.trim_ascii_start().starts_with(b"[") {
        let what = if bytes.trim_ascii().is_empty() { "is empty" } else { "is a JSON list" };
        anyhow::bail!("{} {what}; it must have one JSON object per line", path.display());
    }
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match Context::from_line(line) {
            Ok(context) => rows.contexts.push(context),
            Err(why) => rows.unreadable.push(json!({"line": index + 1, "rule": "unreadable", "reason": why})),
        }
    }
    Ok(rows)
}
