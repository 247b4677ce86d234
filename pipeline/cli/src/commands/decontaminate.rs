//! `lynxdata decontaminate`: finds benchmark items in the data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use lynxdata_budgets::{Comparison, Contamination, Hit, Likeness, WORDS, contamination, write_clean};
use lynxdata_datasets::{Catalogue, Collections, VISUAL_GENOME};
use lynxdata_prompts::Banks;
use serde::Serialize;

use super::{grouped, print, print_json};
use crate::exit::{BROKEN_RECORDS, DONE, FAILED, Failure};
use crate::paths::{check_output, input_parser, path_parser};

/// Maximum number of hits that are shown without `--json`.
const SHOWN: usize = 20;

/// Find conversations that contain benchmark questions or images, with the evidence of every hit
///
/// Images are compared by their names in COCO, Visual Genome, Flickr and Open Images, and with
/// --hash-distance by their pHash. Questions are compared by runs of words, together with words of
/// an answer. With --out, the data is written without the records that have a benchmark's image;
/// records that only have a similar question are reported and kept.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata decontaminate data.jsonl --against Open_VQA_images.jsonl pope.jsonl
  lynxdata decontaminate data.jsonl --against pope.jsonl --out clean.jsonl
  lynxdata decontaminate run/instruct --against bench.jsonl --images train/ \\
      --against-images bench/ --hash-distance 4 --json

Exit code 3: some hits remain in the data; 1: no record is left. What counts as a hit: docs/audit.md")]
pub(crate) struct Arguments {
    /// A file of conversations, or a folder of them
    #[arg(value_parser = input_parser())]
    path: PathBuf,

    /// Benchmarks: conversations, rows with `question`, `answers` and `image`, or the files of
    /// POPE, VQA, GQA, MME, Open-VQA and others as their authors publish them
    #[arg(long, value_name = "FILE", num_args = 1.., required = true, value_parser = input_parser())]
    against: Vec<PathBuf>,

    /// Number of consecutive words of a question that must match
    #[arg(long, value_name = "N", default_value_t = WORDS as u16, value_parser = clap::value_parser!(u16).range(3..))]
    words: u16,

    /// Also compare images by pHash: two images match if at most N of its 64 bits differ; decodes
    /// every image
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=16))]
    hash_distance: Option<u32>,

    /// The folder that image paths of the data start from [default: the folder of the
    /// conversations]
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    images: Option<PathBuf>,

    /// The folder that image paths of the benchmarks start from [default: the folder of each file]
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    against_images: Option<PathBuf>,

    /// Write the data here without the records that --drop selects: a file, or a folder if the data
    /// is a folder
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    out: Option<PathBuf>,

    /// Kinds of hits whose records are left out of --out: image_id, image_hash, question
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = likeness, requires = "out",
        default_values = ["image_id", "image_hash"])]
    drop: Vec<Likeness>,

    /// Print all hits as JSON
    #[arg(long)]
    json: bool,
}

fn likeness(name: &str) -> Result<Likeness, String> {
    let known = Likeness::ALL.iter().find(|likeness| likeness.name() == name).copied();
    known.ok_or_else(|| "expected image_id, image_hash or question".to_owned())
}

/// Counts of the hits that were found and of the records that were written.
#[derive(Serialize)]
struct Outcome {
    #[serde(flatten)]
    found: Contamination,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    if let Some(out) = &arguments.out {
        check_output(out, arguments.against.iter().chain([&arguments.path]).map(PathBuf::as_path))?;
    }
    let collections = Collections::shipped().map_err(anyhow::Error::from)?;
    let banks = Banks::shipped().map_err(anyhow::Error::from)?;
    let catalogue = Catalogue::shipped(&banks).map_err(anyhow::Error::from)?;
    let comparison = Comparison {
        words: usize::from(arguments.words),
        hash_distance: arguments.hash_distance,
        images: arguments.images.clone(),
        against_images: arguments.against_images.clone(),
        visual_genome_tasks: collections.tasks_with_ids(&catalogue, VISUAL_GENOME),
    };
    let found = contamination(&arguments.path, &arguments.against, &comparison).map_err(anyhow::Error::from)?;
    let is_dropped = |hit: &&Hit| arguments.out.is_some() && arguments.drop.contains(&hit.by);
    let mut dropped: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for hit in found.hits.iter().filter(is_dropped) {
        dropped.entry(hit.file.clone()).or_default().insert(hit.row);
    }
    let stays = |hit: &Hit| !dropped.get(&hit.file).is_some_and(|rows| rows.contains(&hit.row));
    let code = if found.hits.iter().any(stays) { BROKEN_RECORDS } else { DONE };
    let written = arguments.out.as_ref().map(|out| write_clean(&arguments.path, out, &dropped));
    let written = written.transpose().map_err(anyhow::Error::from)?;
    let code = if written.is_some_and(|own| own.kept == 0) { FAILED } else { code };
    if arguments.json {
        let (dropped, kept) = (written.map(|own| own.dropped), written.map(|own| own.kept));
        print_json(&Outcome { found, dropped, kept })?;
    } else {
        let mut text = text(&found);
        if let (Some(own), Some(out)) = (written, &arguments.out) {
            let (dropped, kept) = (grouped(own.dropped), grouped(own.kept));
            text.push_str(&format!("{dropped} records were left out, {kept} were written to {}\n", out.display()));
        }
        print(&text)?;
    }
    Ok(code)
}

fn text(found: &Contamination) -> String {
    let mut text = format!(
        "{} of {} records match one of {} references\n",
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
        (found.unreadable, "records cannot be read and were not compared"),
        (found.unreadable_references, "references cannot be read and were not compared"),
        (
            found.incomparable_references,
            "references cannot match any record: they have no image that is known by name or pHash, and no question of enough words with an \
             answer",
        ),
        (found.without_hash, "images are missing, broken or flat drawings, and are not compared by pHash"),
        (found.instructions, "runs of words occur in more than ten questions and were not compared"),
    ];
    for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!("- {} {what}\n", grouped(count)));
    }
    text
}
