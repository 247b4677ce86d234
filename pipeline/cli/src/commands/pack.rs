//! `lynxdata pack`: plans the training sequence of every record.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use lynxdata_budgets::Plan;
use serde::Serialize;

use super::audit::Counting;
use super::{grouped, print, print_json};
use crate::exit::{BROKEN_RECORDS, DONE, Failure};
use crate::paths::{check_output, input_parser, path_parser};

/// Maximum number of records that are shown without `--json`.
const SHOWN: usize = 5;

/// Plan how to pack whole conversations into sequences of one length
///
/// Uses first-fit decreasing, so the same data gives the same plan. Records that are longer than a
/// sequence, and those that `lynxdata audit` calls broken, are left out and listed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata pack data.jsonl --model qwen2.5-vl --tokenizer tokenizer.json --template qwen \\
      --length 8192 --out plan.parquet
  lynxdata pack run/instruct --model llava-1.5 --tokenizer tokenizer.json --length 2048 \\
      --out plan.parquet --json

The plan has the columns pack, position, id, file, row and tokens.
Exit code 3: records were left out because they are too long or would break a training run; 1 if all
were.")]
pub(crate) struct Arguments {
    /// A file of conversations, or a folder of them
    #[arg(value_parser = input_parser())]
    path: PathBuf,

    #[command(flatten)]
    counting: Counting,

    /// Length of a sequence in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    length: u64,

    /// File of the plan, in Parquet
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    out: PathBuf,

    /// Print the outcome as JSON, with all records that are in no pack
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    length: u64,
    packs: u32,
    records: usize,
    tokens: u64,
    fill_rate: Option<f64>,
    too_long: Records<'a>,
    left_out: Records<'a>,
}

#[derive(Serialize)]
struct Records<'a> {
    count: usize,
    records: Vec<Unpacked<'a>>,
}

#[derive(Serialize)]
struct Unpacked<'a> {
    file: &'a str,
    row: u64,
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl<'a> Records<'a> {
    fn new(records: impl Iterator<Item = Unpacked<'a>>) -> Records<'a> {
        let records: Vec<Unpacked> = records.collect();
        Records { count: records.len(), records }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if arguments.counting.tokenizer.is_none() {
        return Err(Failure::Usage(anyhow!("counting lengths needs a tokenizer: --tokenizer FILE")));
    }
    check_output(&arguments.out, [&*arguments.path])?;
    let counted = arguments.counting.open(&arguments.path)?;
    let plan = Plan::make(&arguments.path, &counted.settings(None), arguments.length).map_err(anyhow::Error::from)?;
    let is_empty = plan.packing().placed.is_empty();
    if !is_empty {
        plan.write(&arguments.out).map_err(anyhow::Error::from)?;
    }
    let outcome = outcome(&plan, arguments.length);
    if arguments.json {
        print_json(&outcome)?;
    } else {
        print(&text(&outcome, arguments))?;
    }
    if is_empty {
        let out = arguments.out.display();
        return Err(anyhow!("no record is in a pack of {} tokens, so {out} was not written", arguments.length).into());
    }
    let is_complete = outcome.left_out.count + outcome.too_long.count == 0;
    Ok(if is_complete { DONE } else { BROKEN_RECORDS })
}

fn outcome(plan: &Plan, length: u64) -> Outcome<'_> {
    let too_long = plan.too_long();
    let too_long =
        too_long.map(|(file, row, id, tokens)| Unpacked { file, row, id, tokens: Some(tokens), reason: None });
    let left_out = plan.left_out().iter().map(|record| {
        let breaks = record.faults.iter().find(|fault| fault.reason.breaks_training()).or(record.faults.first());
        let reason = breaks.map(|fault| format!("{}: {}", fault.reason.name(), fault.detail));
        Unpacked { file: &record.file, row: record.row, id: record.id.as_deref(), tokens: None, reason }
    });
    Outcome {
        length,
        packs: plan.packing().packs,
        records: plan.packing().placed.len(),
        tokens: plan.packing().tokens,
        fill_rate: plan.fill_rate(),
        too_long: Records::new(too_long),
        left_out: Records::new(left_out),
    }
}

fn text(outcome: &Outcome, arguments: &Arguments) -> String {
    let mut text = format!(
        "{} records with {} tokens in {} packs of {} tokens, {} filled: {}\n",
        grouped(outcome.records as u64),
        grouped(outcome.tokens),
        grouped(u64::from(outcome.packs)),
        grouped(outcome.length),
        outcome.fill_rate.map_or("none".to_owned(), |fill| format!("{:.2} %", 100.0 * fill)),
        arguments.out.display()
    );
    let lists = [("longer than a pack", &outcome.too_long), ("left out as broken or not counted", &outcome.left_out)];
    for (what, list) in lists.into_iter().filter(|(_, list)| list.count > 0) {
        text.push_str(&format!("{} records are {what}:\n", grouped(list.count as u64)));
        for record in list.records.iter().take(SHOWN) {
            let id = record.id.map(|id| format!(", id {id}")).unwrap_or_default();
            let why = record.tokens.map(|tokens| format!("{tokens} tokens")).or_else(|| record.reason.clone());
            text.push_str(&format!("  {}, row {}{id}: {}\n", record.file, record.row, why.unwrap_or_default()));
        }
        if list.count > SHOWN {
            text.push_str("  … (--json lists all)\n");
        }
    }
    text
}
