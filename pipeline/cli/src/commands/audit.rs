//! `lynxdata audit`: counts the tokens of conversations, and finds records that would break a
//! training.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use lynxdata_budgets::{
    Broken, Example, Model, ReadPicture, Reason, Report, Settings, Sizes, Template, Tokenizer, audit, models,
};
use lynxdata_run::RunPictures;
use tracing::warn;

use super::{columns, grouped, print, print_json};
use crate::exit::{BROKEN_RECORDS, DONE, Failure};
use crate::paths::{input_parser, path_parser};

/// Count the tokens of conversations for a model, and find records that would break its training
///
/// Reads conversations as JSON, JSON Lines or Parquet: LLaVA, ShareGPT, messages (OpenAI, TRL,
/// ms-swift), The Cauldron, and the output of `lynxdata instruct`. Image tokens are computed from
/// image sizes by the rules of the model's own processor; no image is decoded.
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata audit llava_v1_5_mix665k.json --model llava-1.5 --images data/ --tokenizer tokenizer.json
  lynxdata audit run/instruct --model Qwen/Qwen2.5-VL-7B-Instruct --template qwen \\
      --tokenizer tokenizer.json --max-length 4096 --json
  lynxdata audit data.jsonl --model qwen2-vl,max_pixels=1003520 --sizes records

Exit code 3: some records would stop a training run, or make it train on the wrong content.
What is checked and how tokens are counted: docs/audit.md")]
pub(crate) struct Arguments {
    /// A file of conversations, or a folder of them
    #[arg(value_parser = input_parser())]
    path: PathBuf,

    #[command(flatten)]
    counting: Counting,

    /// Maximum number of tokens of a record that the trainer accepts
    #[arg(long, value_name = "N")]
    max_length: Option<u64>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Settings of the count of tokens.
#[derive(Args)]
pub(super) struct Counting {
    /// The model to train, by its name here or on Hugging Face, followed by settings after commas;
    /// for any other model: fixed,tokens=N
    #[arg(long, value_name = "NAME", long_help = model_help())]
    model: String,

    /// The tokenizer.json of its language model; without it, texts are not counted
    #[arg(long, value_name = "FILE", value_parser = input_parser())]
    pub(super) tokenizer: Option<PathBuf>,

    #[arg(
        long,
        value_name = "NAME",
        requires = "tokenizer",
        help = format!("Also count the tokens of this chat template: {}", Template::names())
    )]
    template: Option<String>,

    /// The folder that relative image paths start from [default: the image folders of the run that
    /// contains the conversations, and the folder of the conversations]
    #[arg(long, value_name = "DIR", value_parser = path_parser())]
    images: Option<PathBuf>,

    /// Source of image sizes
    #[arg(long, value_enum, default_value_t = SizesFrom::Files)]
    sizes: SizesFrom,
}

#[derive(Clone, Copy, ValueEnum)]
enum SizesFrom {
    /// The image files, each of which is read and checked
    Files,
    /// `width` and `height` of the records; only images without them are read
    Records,
}

fn model_help() -> String {
    let lines: Vec<String> = models().map(|(name, about)| format!("  {name}: {about}")).collect();
    format!(
        "The model to train, by its name here or on Hugging Face, followed by settings after commas \
         (qwen2-vl,max_pixels=1003520):\n{}",
        lines.join("\n")
    )
}

/// The opened model, tokenizer and template of a count.
pub(super) struct Counted {
    model: Model,
    tokenizer: Option<Tokenizer>,
    template: Option<Template>,
    images: Option<PathBuf>,
    of_run: Option<Box<ReadPicture<'static>>>,
    sizes: Sizes,
}

impl Counting {
    /// Opens the model, the tokenizer and the template, and finds the images of the conversations
    /// at a path.
    pub(super) fn open(&self, path: &Path) -> Result<Counted, Failure> {
        let usage = |error: lynxdata_budgets::Error| Failure::Usage(anyhow!(error));
        let model = Model::parse(&self.model).map_err(usage)?;
        let template = self.template.as_deref().map(Template::parse).transpose().map_err(usage)?;
        let tokenizer = self.tokenizer.as_deref().map(Tokenizer::read).transpose().map_err(anyhow::Error::from)?;
        if let Some(folder) = self.images.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(Failure::Usage(anyhow!("--images {} is not a folder", folder.display())));
        }
        let sizes = match self.sizes {
            SizesFrom::Files => Sizes::FromFiles,
            SizesFrom::Records => Sizes::FromRecords,
        };
        let of_run = if self.images.is_none() { RunPictures::around(path)? } else { None };
        if let Some(note) = of_run.as_ref().and_then(RunPictures::note) {
            warn!("{note}");
        }
        let of_run = of_run.map(|own| -> Box<ReadPicture> { Box::new(move |file, image| own.read(file, image)) });
        Ok(Counted { model, tokenizer, template, images: self.images.clone(), of_run, sizes })
    }
}

impl Counted {
    pub(super) fn settings(&self, max_length: Option<u64>) -> Settings<'_> {
        Settings {
            model: &self.model,
            tokenizer: self.tokenizer.as_ref(),
            template: self.template,
            images: self.images.clone(),
            of_run: self.of_run.as_deref(),
            sizes: self.sizes,
            max_length,
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let counted = arguments.counting.open(&arguments.path)?;
    let report = audit(&arguments.path, &counted.settings(arguments.max_length)).map_err(anyhow::Error::from)?;
    if report.records == 0 {
        return Err(anyhow!("{} has no records", arguments.path.display()).into());
    }
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&table(&report))?;
    }
    Ok(if report.breaks_training() { BROKEN_RECORDS } else { DONE })
}

fn table(report: &Report) -> String {
    let mut rows = vec![
        vec!["records".to_owned(), grouped(report.records)],
        vec!["text tokens".to_owned(), report.text_tokens.map_or("not counted".to_owned(), grouped)],
        vec!["words".to_owned(), grouped(report.words)],
        vec!["visual tokens".to_owned(), grouped(report.visual_tokens)],
        vec!["images".to_owned(), grouped(report.pictures)],
    ];
    if let Some(most) = report.max_length {
        rows.push(vec![format!("records over {most} tokens"), grouped(report.over_length)]);
    }
    let mut text = columns(&["", &report.model], &rows, &[1]);
    let lengths = report.lengths;
    text.push_str(&format!(
        "tokens per record: half have at most {}, 90 % at most {}, 99 % at most {}, the longest has {}\n",
        grouped(lengths.p50),
        grouped(lengths.p90),
        grouped(lengths.p99),
        grouped(lengths.max)
    ));
    let most = report.histogram.iter().map(|bin| bin.records).max().unwrap_or(0).max(1);
    let bars: Vec<Vec<String>> = report
        .histogram
        .iter()
        .map(|bin| {
            let bar = "#".repeat((bin.records * 40).div_ceil(most) as usize);
            vec![format!("{}–{}", bin.from, bin.to), grouped(bin.records), bar]
        })
        .collect();
    text.push_str(&columns(&["tokens", "records", ""], &bars, &[0, 1]));
    for example in &report.over_length_examples {
        text.push_str(&format!("over length: {}\n", place(example)));
    }
    for (reason, broken) in &report.broken {
        text.push_str(&faults(*reason, broken));
    }
    for note in &report.notes {
        text.push_str(&format!("- {note}\n"));
    }
    text
}

fn faults(reason: Reason, broken: &Broken) -> String {
    let effect = if broken.breaks_training { "breaks training" } else { "does not break training" };
    let mut text = format!("{}: {} records, {effect}\n", reason.name(), grouped(broken.count));
    for example in &broken.examples {
        text.push_str(&format!("  {}\n", place(example)));
    }
    text
}

fn place(example: &Example) -> String {
    let id = example.id.as_ref().map(|id| format!(", id {id}")).unwrap_or_default();
    format!("{}, row {}{id}: {}", example.file, example.row, example.detail)
}
