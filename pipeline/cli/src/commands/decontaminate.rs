//! `lynxdata decontaminate`: what of a benchmark is in the data.

use std::path::PathBuf;

use clap::Args;
use lynxdata_budgets::{Comparison, Contamination, WORDS, contamination};

use super::{grouped, print, print_json};
use crate::exit::{BROKEN_RECORDS, DONE, Failure};
use crate::paths::path_parser;

/// Hits that are shown without `--json`.
const SHOWN: usize = 20;

/// Find conversations that show a model what benchmarks ask, with the evidence of every hit
///
/// Pictures are compared by their names in COCO, Visual Genome, Flickr and Open Images, and with
/// --hash-distance by their looks; questions by runs of words, together with words of an answer.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata decontaminate data.jsonl --against Open_VQA_images.jsonl pope.jsonl
  lynxdata decontaminate run/instruct --against bench.jsonl --images train/ \\
      --against-images bench/ --hash-distance 4 --json

Exit code 3: there are hits. What counts as one: docs/audit.md")]
pub(crate) struct Arguments {
    /// A file of conversations, or a folder of them
    #[arg(value_parser = path_parser())]
    path: PathBuf,

    /// Benchmarks: conversations, or rows with `question`, `answers` and `image`
    #[arg(long, value_name = "FILE", num_args = 1.., required = true, value_parser = path_parser())]
    against: Vec<PathBuf>,

    /// Words of a question that have to be the same, one behind the other
    #[arg(long, value_name = "N", default_value_t = WORDS as u16, value_parser = clap::value_parser!(u16).range(3..))]
    words: u16,

    /// Compares pictures by their pHash too, and takes those for alike that differ in at most N of
    /// its 64 bits; decodes every picture
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=16))]
    hash_distance: Option<u32>,

    /// The folder that paths of the data's pictures start from [default: that of the conversations]
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    images: Option<PathBuf>,

    /// The folder that paths of the benchmarks' pictures start from [default: that of each file]
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    against_images: Option<PathBuf>,

    /// Prints all hits as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let comparison = Comparison {
        words: usize::from(arguments.words),
        hash_distance: arguments.hash_distance,
        images: arguments.images.clone(),
        against_images: arguments.against_images.clone(),
    };
    let found = contamination(&arguments.path, &arguments.against, &comparison).map_err(anyhow::Error::from)?;
    if arguments.json {
        print_json(&found)?;
    } else {
        print(&text(&found))?;
    }
    Ok(if found.hits.is_empty() { DONE } else { BROKEN_RECORDS })
}

fn text(found: &Contamination) -> String {
    let mut text = format!(
        "{} of {} records are like one of {} references\n",
        grouped(found.contaminated),
        grouped(found.records),
        grouped(found.references)
    );
    for hit in found.hits.iter().take(SHOWN) {
        let id = |id: &Option<String>| id.as_ref().map(|id| format!(", id {id}")).unwrap_or_default();
        text.push_str(&format!(
            "  {}, row {}{} ~ {}, row {}{}: {}\n",
            hit.file,
            hit.row,
            id(&hit.id),
            hit.against_file,
            hit.against_row,
            id(&hit.against_id),
            hit.evidence
        ));
    }
    if found.hits.len() > SHOWN {
        text.push_str(&format!("  … {} hits in all (--json lists them)\n", grouped(found.hits.len() as u64)));
    }
    let notes = [
        (found.unreadable, "records or references cannot be read and were compared with nothing"),
        (found.without_hash, "pictures could not be decoded and have no hash"),
        (found.instructions, "runs of words are in more than ten questions and were not compared"),
    ];
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("- {} {what}\n", grouped(count)));
    }
    text
}
