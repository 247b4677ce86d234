//! `lynxdata tasks`: the catalogue of annotated datasets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use lynxdata_datasets::{
    Build, BuildSettings, Catalogue, Checked, Conversation, MediaCount, Records, Task, TaskCounts, check, example,
};
use lynxdata_prompts::Banks;
use lynxdata_records::nearest;
use lynxdata_run::stages::instruct::report_drops;
use serde_json::{Value, json};
use tracing::warn;

use super::prompts::own_banks;
use super::{columns, grouped, print, print_json};
use crate::exit::{DONE, FAILED, Failure, TOO_MANY_LOST_RECORDS};
use crate::paths::input_parser;

/// Number of conversations that a preview shows.
const PREVIEWED: usize = 5;

/// Show the annotated datasets that `instruct` reads
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata tasks list
  lynxdata tasks list --json | jq -r '.[] | [.name, .licence] | @tsv'
  lynxdata tasks show vqav2
  lynxdata tasks check vqav2 ~/vqa
  lynxdata tasks read vqav2 ~/vqa --split val --limit 3
  lynxdata tasks preview my_task ~/data --catalogue my_tasks --banks my_banks")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
pub(super) struct Own {
    /// A folder of your own task files, in addition to the shipped ones
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    pub(super) catalogue: Option<PathBuf>,
    /// A folder of your own prompt banks, in addition to the shipped ones
    #[arg(long, value_name = "DIR", value_parser = input_parser())]
    pub(super) banks: Option<PathBuf>,
}

#[derive(Args)]
struct Native {
    /// Name of the task
    name: String,
    /// The folder of its files, as its authors publish them
    #[arg(value_parser = input_parser())]
    folder: PathBuf,
    #[command(flatten)]
    own: Own,
}

#[derive(Subcommand)]
enum Action {
    /// List the tasks
    #[command(after_help = "\
Examples:
  lynxdata tasks list
  lynxdata tasks list --json | jq -r '.[] | [.name, .licence] | @tsv'")]
    List {
        #[command(flatten)]
        own: Own,
        /// Print one JSON list
        #[arg(long)]
        json: bool,
    },
    /// Show one task: its files and their sources, splits, slots, answers, banks and an example
    #[command(after_help = "\
Examples:
  lynxdata tasks show vqav2
  lynxdata tasks show my_task --catalogue my_tasks --json")]
    Show {
        /// Name of the task
        name: String,
        #[command(flatten)]
        own: Own,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print records as the files have them, before a prompt is chosen
    ///
    /// Standard error has the number of rows that were left out, by reason. If all rows were read,
    /// the exit code is that of `tasks check --without-images`.
    #[command(after_help = "\
Examples:
  lynxdata tasks read vqav2 ~/vqa --split val --limit 3
  lynxdata tasks read vqav2 ~/vqa --split val --json | jq .answers")]
    Read {
        #[command(flatten)]
        native: Native,
        /// The split [default: the first one whose files are present]
        #[arg(long)]
        split: Option<String>,
        /// Maximum number of records to print
        #[arg(long, default_value_t = 10)]
        limit: usize,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show five conversations
    #[command(after_help = "\
Examples:
  lynxdata tasks preview vqav2 ~/vqa
  lynxdata tasks preview vqav2 ~/vqa --json | jq .messages
  lynxdata tasks preview my_task ~/data --catalogue my_tasks --banks my_banks --seed 1")]
    Preview {
        #[command(flatten)]
        native: Native,
        /// The split [default: the first one whose files are present]
        #[arg(long)]
        split: Option<String>,
        /// Seed that draws the wordings
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Read all files of a task and list what is missing or malformed
    ///
    /// Records are counted as `lynxdata instruct` counts them, and it ends like it: with 1 if there
    /// would be no conversation, and with 3 if a larger share of records is lost than the task may
    /// lose. Images are only looked for; `lynxdata hydrate` also finds broken ones and says where
    /// to get them.
    #[command(after_help = "\
Examples:
  lynxdata tasks check vqav2 ~/vqa
  lynxdata tasks check gqa ~/gqa --images ~/gqa/images.zip
  lynxdata tasks check vqav2 ~/vqa --split val --json")]
    Check {
        #[command(flatten)]
        native: Native,
        /// The split [default: all splits whose files are present]
        #[arg(long)]
        split: Option<String>,
        /// The folder or archive of its images, if they are not in FOLDER
        #[arg(long, value_name = "DIR", value_parser = input_parser())]
        images: Option<PathBuf>,
        /// Do not count records as lost because their images are missing, as with
        /// instruct.require_images = false
        #[arg(long)]
        without_images: bool,
        /// Print one JSON list of splits
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    match &arguments.action {
        Action::List { own, json } => list(own, *json),
        Action::Show { name, own, json } => show(name, own, *json),
        Action::Read { native, split, limit, json } => read(native, split.as_deref(), *limit, *json),
        Action::Preview { native, split, seed, json } => preview(native, split.as_deref(), *seed, *json),
        Action::Check { native, split, images, without_images, json } => {
            check_files(native, split.as_deref(), images.as_deref(), !without_images, *json)
        }
    }
}

/// Loads the catalogue and warns about faulty task files.
///
/// # Errors
/// [`Failure::Usage`] if a folder of the user's own cannot be read, or a file of wordings is no
/// bank.
pub(super) fn load(own: &Own) -> Result<(Catalogue, Banks), Failure> {
    let mut banks = Banks::shipped().map_err(anyhow::Error::from)?;
    if let Some(folder) = &own.banks {
        banks = own_banks(banks, folder)?;
    }
    let mut catalogue = Catalogue::shipped(&banks).map_err(anyhow::Error::from)?;
    if let Some(folder) = &own.catalogue {
        let found = catalogue.with_folder(folder, &banks);
        let found = found.with_context(|| format!("in --catalogue {}", folder.display()));
        catalogue = found.map_err(Failure::Usage)?;
    }
    for faulty in catalogue.faulty() {
        warn!(task = faulty.name, "the task cannot be used: {}", faulty.error());
    }
    Ok((catalogue, banks))
}

pub(super) fn find<'a>(catalogue: &'a Catalogue, name: &str) -> Result<&'a Task, Failure> {
    catalogue.get(name).map_err(|error| {
        let known = catalogue.tasks().map(|task| task.name.as_str());
        let hint = nearest(name, known).filter(|near| *near != name);
        let hint = hint.map(|near| format!("\nhint: did you mean {near:?}?")).unwrap_or_default();
        Failure::Usage(anyhow::anyhow!("{error}{hint}"))
    })
}

/// Checks that a task has a split that the user named: its authors publish it, or the folder has
/// files of this name.
pub(super) fn check_split(task: &Task, folder: &Path, split: &str) -> anyhow::Result<()> {
    if !task.splits.contains_key(split) {
        let known: Vec<&str> = task.splits.keys().map(String::as_str).collect();
        let fault = || format!("task {} has no split {split}; it has {}", task.name, known.join(", "));
        ensure!(task.file_of_split().is_some(), fault());
        task.native_files(folder, split).with_context(fault)?;
    }
    Ok(())
}

fn facts(task: &Task) -> Value {
    json!({
        "name": task.name,
        "paper_row": task.paper_row,
        "group": task.group,
        "modality": modality(task),
        "licence": task.licence,
        "commercial_use": task.commercial_use,
        "pictures": task.pictures,
        "verified": task.verified,
        "facts_from": task.facts_from,
        "splits": task.splits,
        "homepage": task.homepage,
        "cite": task.cite,
        "obtain": task.obtain,
        "prompts": task.prompts,
        "slots": task.slot_names(),
        "answers": task.answer_shapes(),
    })
}

/// Returns the modality of the records: image, images, video, text, or `images or video`.
fn modality(task: &Task) -> String {
    let names = task.modalities().iter().map(|media| match media.name() {
        "none" => "text",
        media => media,
    });
    names.collect::<Vec<_>>().join(" or ")
}

fn list(own: &Own, json: bool) -> Result<u8, Failure> {
    let (catalogue, _) = load(own)?;
    if json {
        print_json(&catalogue.tasks().map(facts).collect::<Vec<_>>())?;
        return Ok(DONE);
    }
    let row = |task: &Task| {
        vec![
            task.name.clone(),
            task.paper_row.map_or_else(String::new, |row| row.to_string()),
            task.group.clone(),
            modality(task),
            task.licence.clone(),
            task.commercial_use.name().to_owned(),
            task.verified.name().to_owned(),
            task.splits.keys().cloned().collect::<Vec<_>>().join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = catalogue.tasks().map(row).collect();
    let header = ["task", "row", "group", "media", "licence", "commercial use", "verified", "splits"];
    print(&columns(&header, &rows, &[1]))?;
    Ok(DONE)
}

fn show(name: &str, own: &Own, json: bool) -> Result<u8, Failure> {
    let (catalogue, banks) = load(own)?;
    let task = find(&catalogue, name)?;
    let mut facts = facts(task);
    let wordings = task.wordings(&banks, None).map_err(anyhow::Error::from)?;
    facts["wordings"] = json!(wordings.len());
    facts["definition"] = json!(task.definition);
    let example = example(&task.name);
    facts["example"] = json!(example);
    if json {
        print_json(&facts)?;
        return Ok(DONE);
    }
    let pictures = task.pictures.as_ref();
    let shapes: Vec<&str> = task.answer_shapes().iter().map(|shape| shape.name()).collect();
    let mut lines = vec![
        ("task", task.name.clone()),
        ("row of table 9", task.paper_row.map_or_else(|| "none".to_owned(), |row| row.to_string())),
        ("group", task.group.clone()),
        ("media", modality(task)),
        ("annotations", format!("{}, commercial use: {}", task.licence, task.commercial_use.name())),
        (
            "images",
            pictures.map_or_else(
                || "none".to_owned(),
                |own| format!("{}, commercial use: {}", own.licence, own.commercial_use.name()),
            ),
        ),
        ("verified", task.verified.name().to_owned()),
        ("homepage", task.homepage.clone()),
        ("cite", task.cite.clone()),
        ("slots", task.slot_names().join(", ")),
        ("answers", shapes.join(", ")),
        ("banks", format!("{} ({} wordings)", task.prompts.join(", "), wordings.len())),
    ];
    lines.extend(task.splits.iter().map(|(split, records)| match records {
        0 => ("split", split.clone()),
        _ => ("split", format!("{split}, {} records", grouped(*records))),
    }));
    // If the split is the whole name of the file, any file of this form is one.
    let file = task.file_of_split().filter(|file| file.starts_with("{split}."));
    lines.extend(file.map(|file| ("split", format!("or any other name: the split is the name of the file {file}"))));
    lines.extend(task.obtain.iter().map(|own| ("obtain", format!("{} from {}", own.file, own.from))));
    lines.extend(task.facts_from.iter().map(|(fact, from)| ("looked up", format!("{} at {from}", fact.name()))));
    let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key:<15} {value}")).collect();
    let mut text = lines.join("\n") + "\n";
    if let Some(example) = example {
        text.push_str(&format!("\nfor example\n{}", spoken(&example).trim_end()));
        text.push('\n');
    }
    print(&text)?;
    Ok(DONE)
}

/// Returns the named split, or the first split of the task whose files are present.
fn split_of(task: &Task, folder: &Path, split: Option<&str>) -> Result<String, Failure> {
    if let Some(split) = split {
        check_split(task, folder, split).map_err(Failure::Usage)?;
        return Ok(split.to_owned());
    }
    let is_there = |name: &&String| task.native_files(folder, name).is_ok();
    let first = task.splits.keys().find(is_there).or_else(|| task.splits.keys().next());
    Ok(first.cloned().unwrap_or_default())
}

fn read(native: &Native, split: Option<&str>, limit: usize, json: bool) -> Result<u8, Failure> {
    let (catalogue, _) = load(&native.own)?;
    let task = find(&catalogue, &native.name)?;
    let split = split_of(task, &native.folder, split)?;
    let mut records = Records::start(task, &native.folder, &split).map_err(anyhow::Error::from)?;
    let mut fault = None;
    for record in records.by_ref().take(limit) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                fault = Some(error);
                break;
            }
        };
        if json {
            print_json(&record)?;
        } else {
            let text = serde_json::to_string_pretty(&record).context("cannot write JSON")?;
            print(&format!("{text}\n"))?;
        }
    }
    if fault.is_none() && limit > 0 {
        // If these are all records, the task is judged as `check` judges it.
        fault = match records.next() {
            Some(Err(error)) => Some(error),
            None if records.counts().kept == 0 => Some(records.counts().nothing_made(&task.name, &native.folder)),
            Some(Ok(_)) | None => None,
        };
    }
    report_drops(&task.name, records.counts());
    fault.map_or(Ok(DONE), |fault| Err(anyhow::Error::from(fault).into()))
}

fn preview(native: &Native, split: Option<&str>, seed: u64, json: bool) -> Result<u8, Failure> {
    let (catalogue, banks) = load(&native.own)?;
    let task = find(&catalogue, &native.name)?;
    let split = split_of(task, &native.folder, split)?;
    let settings = BuildSettings { seed, ..BuildSettings::default() };
    let mut build = Build::start(task, &banks, &native.folder, &split, &settings).map_err(anyhow::Error::from)?;
    for conversation in build.by_ref().take(PREVIEWED) {
        let conversation = conversation.map_err(anyhow::Error::from)?;
        if json {
            print_json(&conversation)?;
        } else {
            print(&spoken(&conversation))?;
        }
    }
    report_drops(&task.name, build.counts());
    fail_if_nothing(build.counts(), task, &native.folder)?;
    Ok(DONE)
}

/// Returns an error if no record was kept.
fn fail_if_nothing(counts: &TaskCounts, task: &Task, folder: &Path) -> Result<(), Failure> {
    match counts.kept {
        0 => Err(anyhow::Error::from(counts.nothing_made(&task.name, folder)).into()),
        _ => Ok(()),
    }
}

/// Returns a conversation as readable text.
fn spoken(conversation: &Conversation) -> String {
    let mut text = format!("{} ({}, {})\n", conversation.id, conversation.template, conversation.answer_shape.name());
    for image in &conversation.images {
        text.push_str(&format!("  image      {}\n", image.path));
    }
    if let Some(video) = &conversation.video {
        let seconds = |time: Option<f64>| time.map_or_else(|| "…".to_owned(), |time| format!("{time} s"));
        text.push_str(&format!("  video      {} {} to {}\n", video.path, seconds(video.start), seconds(video.end)));
    }
    for message in &conversation.messages {
        let content = message.content.replace('\n', "\n             ");
        text.push_str(&format!("  {:<10} {content}\n", message.role.name()));
    }
    text.push('\n');
    text
}

fn check_files(
    native: &Native,
    split: Option<&str>,
    images: Option<&Path>,
    needs_images: bool,
    json: bool,
) -> Result<u8, Failure> {
    let (catalogue, banks) = load(&native.own)?;
    let task = find(&catalogue, &native.name)?;
    let images = images.unwrap_or(&native.folder);
    let is_there = |name: &&String| task.native_files(&native.folder, name).is_ok();
    let mut splits: Vec<String> = match split {
        Some(_) => vec![split_of(task, &native.folder, split)?],
        None => task.splits.keys().filter(is_there).cloned().collect(),
    };
    if splits.is_empty() {
        // If no split is complete, all of them report what they lack.
        splits = task.splits.keys().cloned().collect();
    }
    let checked = splits.iter().map(|split| check(task, &banks, &native.folder, split, images, needs_images));
    let checked: Vec<Checked> = checked.collect();
    let (is_faulty, is_lossy) =
        (checked.iter().any(|own| !own.faults.is_empty()), checked.iter().any(|own| own.loss.is_some()));
    if json {
        print_json(&checked)?;
    } else {
        print(&checked.iter().map(|own| said(own, images)).collect::<String>())?;
    }
    Ok(match (is_faulty, is_lossy) {
        (true, _) => FAILED,
        (false, true) => TOO_MANY_LOST_RECORDS,
        (false, false) => DONE,
    })
}

/// Returns the findings of a split: faults, the counts of dropped records with a first example of
/// each, the number of records compared with the published number, and the images that are missing.
fn said(checked: &Checked, images: &Path) -> String {
    let Checked { split, published, faults, loss, counts, media } = checked;
    let mut text =
        format!("split {split}: {} of {} records can be used", grouped(counts.kept), grouped(counts.records_seen));
    match published {
        Some(published) if *published == counts.kept => text.push_str(", as many as are published\n"),
        Some(published) => text.push_str(&format!("; {} are published\n", grouped(*published))),
        None => text.push_str("; the published number of this split is unknown\n"),
    }
    for fault in faults.iter().chain(loss) {
        text.push_str(&format!("  fault: {fault}\n"));
    }
    for (reason, count) in counts.dropped.iter().chain(&counts.left_out) {
        let example = counts.examples.get(reason).map_or("", String::as_str);
        text.push_str(&format!("  left out for {reason}: {}, for example {example}\n", grouped(*count)));
    }
    for (name, count) in &counts.lacking {
        text.push_str(&format!("  without {name}: {}\n", grouped(*count)));
    }
    if counts.with_replaced_characters > 0 {
        let count = grouped(counts.with_replaced_characters);
        text.push_str(&format!("  with U+FFFD instead of invalid bytes or escapes: {count}\n"));
    }
    if let MediaCount { wanted, missing, example: Some(example) } = media {
        text.push_str(&format!(
            "  images or videos that are missing: {} of {} in {}, for example {example}\n",
            grouped(*missing),
            grouped(*wanted),
            images.display()
        ));
    }
    text
}
