//! `lynxdata prompts`: shows the prompt banks, measures how varied instructions are, and generates
//! more wordings.

mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use lynxdata_datasets::Catalogue;
use lynxdata_generation::wordings::{ByHand, Generated, RULES, Task, Variant, Wanted, bank_toml, estimate, generate};
use lynxdata_generation::{Client, Language};
use lynxdata_prompts::{AnswerShape, Bank, Banks, Media, Template, near_duplicates};
use serde_json::json;

use super::generate::{language, refused_path};
use super::language_model::{ModelArguments, block_on, tell_spending, told_estimate, write_whole};
use super::{columns, print, print_json};
use crate::exit::{DONE, FAILED, Failure};
use crate::paths::{input_parser, path_parser};

/// Show and check prompt banks, and generate more wordings with a language model
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata prompts list
  lynxdata prompts check --banks my-banks/ --json
  lynxdata prompts stats run/instruct
  lynxdata prompts generate --task vqa --n 30 --endpoint http://localhost:8000/v1 --model Qwen3-8B
  lynxdata prompts generate --task vqav2 --n 30 --out new.toml --prices prices.toml --max-cost 0.5 \\
      --endpoint https://api.openai.com/v1 --model gpt-4o-mini --api-key-env OPENAI_API_KEY

Rules for wordings, prices and costs: docs/generation.md")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the banks
    #[command(after_help = "\
Examples:
  lynxdata prompts list
  lynxdata prompts list --json | jq '.[].name'")]
    List {
        #[command(flatten)]
        which: Which,

        /// Print one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Find wordings that are nearly equal; malformed banks are an error
    #[command(after_help = "\
Examples:
  lynxdata prompts check
  lynxdata prompts check --banks my-banks/ --json")]
    Check {
        #[command(flatten)]
        which: Which,

        /// Print one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Measure how varied instructions and answers are, per task and overall
    ///
    /// Reads conversations: LLaVA, ShareGPT, messages, M3IT, Alpaca, The Cauldron, and the output
    /// of `lynxdata instruct`. Without DATA, measures the wordings of the banks. docs/prompts.md
    /// explains the figures.
    #[command(after_help = "\
Examples:
  lynxdata prompts stats
  lynxdata prompts stats run/instruct
  lynxdata prompts stats llava_v1_5_mix665k.json --json | jq .overall.self_bleu")]
    Stats {
        /// A file of conversations, or a folder of them
        #[arg(value_parser = input_parser())]
        data: Option<PathBuf>,

        #[command(flatten)]
        which: Which,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Generate more wordings with a language model, by the method of the Lynx paper
    ///
    /// Shows the model three wordings that people wrote and asks for 15 more, repeatedly until
    /// there are enough. Wordings that pass all rules are printed or written as a bank, marked with
    /// model, date and request. Refused ones go to FILE.refused.jsonl with the rule and the reason.
    #[command(after_help = "\
Examples:
  lynxdata prompts generate --task vqa --n 30 --endpoint http://localhost:8000/v1 --model Qwen3-8B
  lynxdata prompts generate --task vqav2 --language de --out new.toml --dry-run \\
      --prices prices.toml --endpoint https://api.openai.com/v1 --model gpt-4o-mini")]
    Generate(Box<GenerateArguments>),
}

#[derive(Args)]
struct Which {
    /// A folder of banks that are added to the shipped ones; a bank of the same name replaces the
    /// shipped one
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    banks: Option<PathBuf>,
}

#[derive(Args)]
struct GenerateArguments {
    /// A bank, or a dataset that uses it; see `lynxdata prompts list` and `lynxdata tasks list`
    #[arg(long, value_name = "NAME")]
    task: String,

    /// Number of new wordings
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    n: u16,

    /// Shape of the answer [default: the most frequent one of the bank]
    #[arg(long, value_name = "SHAPE", value_parser = shape)]
    answer: Option<AnswerShape>,

    /// Media beside the wording: none, image, images or video [default: as in the bank]
    #[arg(long, value_name = "MEDIA", value_parser = media)]
    media: Option<Media>,

    /// Kinds of new wordings, by their difference from the given ones [default: all kinds in turn]
    #[arg(long, value_enum, value_delimiter = ',')]
    variants: Vec<Kind>,

    /// Write wordings in this language (ISO 639-1 code) instead of English; repeatable
    #[arg(long, value_name = "CODE", value_parser = language, conflicts_with = "variants")]
    language: Vec<Language>,

    /// Date to record as provenance [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    date: Option<String>,

    /// File of the new bank; by default, it is printed
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    out: Option<PathBuf>,

    #[command(flatten)]
    which: Which,

    #[command(flatten)]
    model: ModelArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    SameMeaning,
    OtherWords,
    Shorter,
    Question,
    Politer,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::List { which, json } => list(&which.banks()?, *json),
        Action::Check { which, json } => check(&which.banks()?, *json),
        Action::Stats { data: Some(data), json, .. } => stats::of_data(data, *json),
        Action::Stats { data: None, which, json } => stats::of_banks(&which.banks()?, *json),
        Action::Generate(arguments) => run_generate(arguments),
    }
}

impl Which {
    /// Returns the shipped banks with those of the user.
    ///
    /// # Errors
    /// Those of [`own_banks`].
    fn banks(&self) -> Result<Banks, Failure> {
        let shipped = Banks::shipped().map_err(anyhow::Error::from)?;
        match &self.banks {
            Some(folder) => own_banks(shipped, folder),
            None => Ok(shipped),
        }
    }
}

/// Adds the banks in a folder of the user.
///
/// # Errors
/// [`Failure::Usage`] if the folder cannot be read, or a file in it is no bank.
pub(super) fn own_banks(shipped: Banks, folder: &Path) -> Result<Banks, Failure> {
    let banks = shipped.with_folder(folder);
    banks.with_context(|| format!("in --banks {}", folder.display())).map_err(Failure::Usage)
}

/// Parses the name of an answer shape; hyphens are accepted too.
fn shape(name: &str) -> Result<AnswerShape, String> {
    let name = name.replace('-', "_");
    let known = AnswerShape::ALL.iter().find(|shape| shape.name() == name).copied();
    known.ok_or_else(|| {
        format!("expected one of {}", AnswerShape::ALL.iter().map(|shape| shape.name()).collect::<Vec<_>>().join(", "))
    })
}

/// Parses the name of a kind of media.
fn media(name: &str) -> Result<Media, String> {
    let known = Media::ALL.iter().find(|media| media.name() == name).copied();
    known.ok_or_else(|| "expected none, image, images or video".to_owned())
}

/// Returns the shapes that the wordings of a bank ask for, without repetition.
fn shapes(bank: &Bank) -> Vec<AnswerShape> {
    let shapes: BTreeSet<AnswerShape> = bank.templates.iter().flat_map(|wording| wording.answer.clone()).collect();
    shapes.into_iter().collect()
}

/// Returns the slots that the wordings of a bank have.
fn slots(bank: &Bank) -> Vec<String> {
    let slots: BTreeSet<String> = bank.templates.iter().flat_map(|wording| wording.slots.clone()).collect();
    slots.into_iter().collect()
}

fn list(banks: &Banks, as_json: bool) -> Result<u8, Failure> {
    let answers = |bank: &Bank| shapes(bank).into_iter().map(AnswerShape::name).collect::<Vec<_>>();
    if as_json {
        let banks = banks.iter().map(|bank| {
            json!({
                "name": bank.name,
                "description": bank.description,
                "slots": slots(bank),
                "answers": answers(bank),
                "wordings": bank.templates.len(),
            })
        });
        print_json(&banks.collect::<Vec<_>>())?;
        return Ok(DONE);
    }
    let rows: Vec<Vec<String>> = banks
        .iter()
        .map(|bank| {
            let wordings = bank.templates.len().to_string();
            vec![
                bank.name.clone(),
                wordings,
                slots(bank).join(", "),
                answers(bank).join(", "),
                bank.description.clone(),
            ]
        })
        .collect();
    print(&columns(&["bank", "wordings", "slots", "answers", "description"], &rows, &[1]))?;
    Ok(DONE)
}

fn check(banks: &Banks, as_json: bool) -> Result<u8, Failure> {
    let mut found = Vec::new();
    for bank in banks.iter() {
        found.extend(near_duplicates(bank).into_iter().map(|pair| (bank.name.clone(), pair)));
    }
    if as_json {
        let pairs = found.iter().map(
            |(bank, pair)| json!({"bank": bank, "first": pair.first, "second": pair.second, "jaccard": pair.jaccard}),
        );
        print_json(&pairs.collect::<Vec<_>>())?;
    } else {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(bank, pair)| {
                vec![bank.clone(), pair.first.clone(), pair.second.clone(), format!("{:.2}", pair.jaccard)]
            })
            .collect();
        let told = if rows.is_empty() {
            "no wordings are nearly equal\n".to_owned()
        } else {
            columns(&["bank", "wording", "nearly equal to", "Jaccard"], &rows, &[3])
        };
        print(&told)?;
    }
    Ok(if found.is_empty() { DONE } else { FAILED })
}

fn run_generate(arguments: &GenerateArguments) -> Result<u8, Failure> {
    let banks = arguments.which.banks()?;
    let task = task(arguments, &banks).map_err(Failure::Usage)?;
    let wanted = wanted(arguments);
    let client = arguments.model.client()?;
    if arguments.model.dry_run {
        let estimate = estimate(&client, &task, &wanted).map_err(anyhow::Error::from)?;
        print(&told_estimate(&estimate))?;
        return Ok(DONE);
    }
    if let Some(out) = &arguments.out {
        let reviewed = reviewed(out);
        if reviewed > 0 {
            let out = out.display();
            let fault = anyhow!("{out} has {reviewed} wordings that a person reviewed; give another --out");
            return Err(Failure::Usage(fault));
        }
    }
    let generated = block_on(generate(&client, &task, &wanted))?.map_err(anyhow::Error::from)?;
    tell_spending(&client);
    tell(arguments, &client, &generated);
    match &arguments.out {
        Some(out) if generated.accepted.is_empty() && out.exists() => {
            tracing::warn!("there is no wording to write; {} stays as it is", out.display());
        }
        _ => write(arguments, &task, &generated)?,
    }
    if let Some(error) = generated.stopped {
        let told = format!("{} of {} wordings were generated", generated.accepted.len(), wanted.count);
        return Err(Failure::Failed(anyhow!(error).context(told)));
    }
    if generated.accepted.is_empty() {
        let failed = generated.failed.into_iter().next().map_or_else(
            || anyhow!("no wording passed the rules"),
            |error| anyhow!(error).context("no wording was generated"),
        );
        return Err(Failure::Failed(failed));
    }
    Ok(DONE)
}

/// Returns the task to generate wordings for: the wordings of a bank with one shape of answer.
fn task(arguments: &GenerateArguments, banks: &Banks) -> anyhow::Result<Task> {
    let name = &arguments.task;
    let bank = if banks.iter().any(|bank| bank.name == *name) {
        banks.get(name)?
    } else {
        let catalogue = Catalogue::shipped(banks)?;
        let Ok(task) = catalogue.get(name) else {
            let known = banks.iter().map(|bank| bank.name.as_str()).collect::<Vec<_>>().join(", ");
            bail!("{name} is neither a bank ({known}) nor a task of `lynxdata tasks list`");
        };
        let of_task = task.prompts.iter().map(|name| banks.get(name)).collect::<Result<Vec<_>, _>>()?;
        let suits = |bank: &&&Bank| arguments.answer.is_none_or(|shape| shapes(bank).contains(&shape));
        of_task.iter().find(suits).copied().with_context(|| format!("no bank of {name} asks for that shape"))?
    };
    let count = |shape: AnswerShape| bank.templates.iter().filter(|wording| wording.answer.contains(&shape)).count();
    let answer = arguments.answer.or_else(|| shapes(bank).into_iter().rev().max_by_key(|shape| count(*shape)));
    let answer = answer.with_context(|| format!("bank {} has no wordings", bank.name))?;
    if arguments.answer.is_none() && shapes(bank).len() > 1 {
        tracing::info!("generating wordings for answers of shape {}; --answer selects another shape", answer.name());
    }
    let fits = |wording: &&Template| {
        wording.answer.contains(&answer)
            && wording.language == "en"
            && arguments.media.is_none_or(|media| wording.media.contains(&media))
    };
    // All wordings of one request have the same slots, those that most wordings of the bank have.
    let mut by_slots: BTreeMap<&[String], Vec<&Template>> = BTreeMap::new();
    for wording in bank.templates.iter().filter(fits) {
        by_slots.entry(&wording.slots).or_default().push(wording);
    }
    let (slots, wordings) = by_slots
        .into_iter()
        .max_by_key(|(_, wordings)| wordings.len())
        .with_context(|| format!("no English wording of {} has answers of shape {}", bank.name, answer.name()))?;
    Ok(Task {
        description: bank.description.clone(),
        slots: slots.to_vec(),
        media: arguments.media.unwrap_or(wordings[0].media[0]),
        answer,
        language: Language::ENGLISH,
        wordings: wordings
            .iter()
            .map(|wording| ByHand { id: wording.id.clone(), text: wording.text.clone() })
            .collect(),
        answers: Vec::new(),
    })
}

fn wanted(arguments: &GenerateArguments) -> Wanted {
    let variant = |kind: &Kind| match kind {
        Kind::SameMeaning => Variant::SameMeaning,
        Kind::OtherWords => Variant::OtherWords,
        Kind::Shorter => Variant::Shorter,
        Kind::Question => Variant::Question,
        Kind::Politer => Variant::Politer,
    };
    let mut variants: Vec<Variant> = arguments.variants.iter().map(variant).collect();
    variants.extend(arguments.language.iter().copied().map(Variant::Language));
    if variants.is_empty() {
        variants = Variant::ALL.to_vec();
    }
    let date = arguments.date.clone().unwrap_or_else(|| date_of(SystemTime::now()));
    Wanted { count: usize::from(arguments.n), variants, date }
}

/// Returns the number of wordings in a file of an earlier run that do not wait for a review: a
/// person accepted, rejected or wrote them.
fn reviewed(file: &Path) -> usize {
    let bank = std::fs::read_to_string(file).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let wordings = bank.as_ref().and_then(|bank| bank.get("templates")?.as_array());
    let is_pending = |wording: &&toml::Value| {
        let review = wording.get("origin").and_then(|origin| origin.get("review"));
        review.and_then(toml::Value::as_str) == Some("pending")
    };
    wordings.map_or(0, |all| all.iter().filter(|wording| !is_pending(wording)).count())
}

/// Prints or writes the new bank, and writes what was refused beside it.
fn write(arguments: &GenerateArguments, task: &Task, generated: &Generated) -> Result<(), Failure> {
    let bank = bank_toml(task, &generated.accepted);
    let Some(out) = &arguments.out else {
        return print(&bank);
    };
    let mut lines = String::new();
    for refused in &generated.refused {
        lines.push_str(&serde_json::to_string(refused).context("cannot write JSON")?);
        lines.push('\n');
    }
    let refused = refused_path(out);
    write_whole(out, &bank)?;
    write_whole(&refused, &lines)?;
    tracing::info!("accepted wordings are in {}, refused ones in {}", out.display(), refused.display());
    Ok(())
}

fn tell(arguments: &GenerateArguments, client: &Client, generated: &Generated) {
    tracing::info!(
        "{} wordings accepted, {} refused, from {} replies of {}; read the accepted ones before you use them",
        generated.accepted.len(),
        generated.refused.len(),
        generated.replies,
        client.model()
    );
    for (rule, count) in generated.refusals() {
        let about = RULES.iter().find(|known| known.name == rule).map_or("", |known| known.about);
        tracing::info!("{count} {rule}: {about}");
    }
    if let Some(error) = generated.failed.first() {
        tracing::warn!("{} requests got no usable reply, the first: {error}", generated.failed.len());
    }
    if generated.accepted.len() < usize::from(arguments.n) && generated.stopped.is_none() {
        tracing::warn!(
            "only {} of {} wordings passed the rules; the model produced no more",
            generated.accepted.len(),
            arguments.n
        );
    }
}

/// Checks the form of a date.
fn date(text: &str) -> Result<String, String> {
    let is_digit_or_dash = |(at, c): (usize, char)| if at == 4 || at == 7 { c == '-' } else { c.is_ascii_digit() };
    let is_date = text.len() == 10 && text.chars().enumerate().all(is_digit_or_dash);
    is_date
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{text} is not a date; expected YYYY-MM-DD, as in 2026-11-29"))
}

/// Returns the date of a time in UTC, computed in the Gregorian calendar with years that begin in
/// March:
fn date_of(time: SystemTime) -> String {
    const DAY: u64 = 24 * 60 * 60;
    // From 1 March of year 0.
    const DAYS_BEFORE_1970: u64 = 719_468;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let days = since.as_secs() / DAY + DAYS_BEFORE_1970;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{date:02}", year + 400 * era + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_910_400, "2026-11-29"),
            (4_107_542_399, "2100-02-28"),
        ] {
            assert_eq!(date_of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
        assert!(date("2026-11-29").is_ok() && date("29.11.2026").is_err() && date("2026-11-2x").is_err());
    }
}
