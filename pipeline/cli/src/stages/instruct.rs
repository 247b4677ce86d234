//! Stage `instruct`: annotated datasets, as their authors ship them, become conversations.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lynxdata_datasets::export::{llava, parquet as columns};
use lynxdata_datasets::{Build, Catalogue, Conversation, Task, TaskCounts, diversity, read_picture};
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, prepare};
use lynxdata_prompts::{Banks, PromptMode};
use lynxdata_records::{NewPart, file_digest, fingerprint, nearest, parquet};
use tracing::{info, warn};

use super::{Context, Parts, Planned, Stage, settings_text, table};
use crate::recipe::{InstructConfig, InstructFormat, LoadedRecipe, Recipe, TaskSource};
use crate::report::data::{
    ConversationSample, InstructSummary, Message, TaskSummary, TemplateUse, Thumbnail, data_uri,
};

/// Raise it when the same native files give other conversations.
const FORMAT_VERSION: &str = "2";

/// The class of conversations that are left out because a picture is not there.
const MISSING_IMAGE: &str = "missing_image";

/// Conversations whose pictures are in memory at a time.
const BATCH: usize = 64;

/// Conversations of each task that the report shows.
const SHOWN_PER_TASK: usize = 2;

pub(crate) struct Instruct;

impl Stage for Instruct {
    fn name(&self) -> &'static str {
        "instruct"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.instruct.is_some()
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static str> {
        Vec::new()
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = config_of(context)?;
        let catalogue = Arc::new(Catalogue::shipped()?);
        let banks = Arc::new(Banks::shipped()?);
        let seed = context.recipe().seed;
        Ok(Box::new(config.tasks.iter().map(move |source| {
            let task = catalogue.get(&source.name)?;
            let root = context.loaded.folder.join(&source.root);
            let settings = settings_text(&(
                seed,
                config.prompts,
                &config.formats,
                config.require_images,
                &source.images,
                &source.split,
            ));
            // The definitions of task and bank are inputs as much as the native files.
            let wordings = settings_text(&banks.get(&task.prompts)?.templates);
            let mut inputs =
                vec!["instruct".to_owned(), FORMAT_VERSION.to_owned(), settings, task.definition.clone(), wordings];
            for file in task.native_files(&root, &source.split)? {
                inputs.push(file.strip_prefix(&root).unwrap_or(&file).display().to_string());
                inputs.push(file_digest(&file)?);
            }
            let (catalogue, banks) = (Arc::clone(&catalogue), Arc::clone(&banks));
            let make = Box::new(move |new: &mut NewPart| {
                let task = catalogue.get(&source.name)?;
                make(context, config, source, task, &banks, new)
            });
            let name = part_name(source);
            Ok(Planned { name, fingerprint: fingerprint(inputs.iter().map(String::as_str)), make })
        })))
    }
}

/// Checks that every task exists and that its native files are there, before anything is done.
pub(crate) fn check_tasks(loaded: &LoadedRecipe) -> Result<()> {
    let Some(config) = &loaded.recipe.instruct else { return Ok(()) };
    let catalogue = Catalogue::shipped()?;
    for source in &config.tasks {
        let name = source.name.as_str();
        let task = catalogue.get(name).with_context(|| {
            let known = catalogue.tasks().map(|task| task.name.as_str());
            let hint = nearest(name, known).map(|right| format!("\nhint: did you mean {right:?}?"));
            format!("in instruct.tasks{}", hint.unwrap_or_default())
        })?;
        task.native_files(&loaded.folder.join(&source.root), &source.split).context("in instruct.tasks")?;
    }
    Ok(())
}

fn config_of(context: &Context) -> Result<&InstructConfig> {
    context.recipe().instruct.as_ref().context("the recipe has no [instruct]")
}

fn part_name(source: &TaskSource) -> String {
    format!("{}-{}", source.name, source.split)
}

/// The folder of a task's pictures.
fn image_folder(context: &Context, source: &TaskSource) -> PathBuf {
    context.loaded.folder.join(source.images.as_ref().unwrap_or(&source.root))
}

fn make(
    context: &Context,
    config: &InstructConfig,
    source: &TaskSource,
    task: &Task,
    banks: &Banks,
    new: &mut NewPart,
) -> Result<()> {
    let root = context.loaded.folder.join(&source.root);
    let mut build = Build::start(task, banks, &root, &source.split, config.prompts, context.recipe().seed)?;
    let mut conversations: Vec<Conversation> = build.by_ref().collect::<lynxdata_datasets::Result<_>>()?;
    let folder = image_folder(context, source);
    let without_picture =
        conversations.iter().filter(|conversation| !has_pictures(conversation, &folder)).count() as u64;
    if config.require_images {
        conversations.retain(|conversation| has_pictures(conversation, &folder));
    }
    let counts = build.counts();
    report_drops(&part_name(source), counts);
    report_missing(&part_name(source), without_picture, config.require_images, &folder);
    new.rows_in = counts.records_seen;
    new.rows_out = conversations.len() as u64;
    new.counts = counts.dropped.clone();
    new.counts.insert("kept".to_owned(), new.rows_out);
    if new.rows_out < counts.kept {
        new.counts.insert(MISSING_IMAGE.to_owned(), counts.kept - new.rows_out);
    }

    let name = part_name(source);
    write_lines(&context.run.stage_file(new, &conversations_file(source))?, &conversations)?;
    if config.formats.contains(&InstructFormat::Llava) {
        let path = context.run.stage_file(new, &format!("instruct/llava/{name}.json"))?;
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(failed)?);
        llava::write(&conversations, &mut file).and_then(|_| file.flush()).with_context(failed)?;
    }
    if config.formats.contains(&InstructFormat::Parquet) {
        let path = context.run.stage_file(new, &format!("instruct/parquet/{name}.parquet"))?;
        let mut writer = parquet::Writer::create(&path, &columns::schema())?;
        for batch in conversations.chunks(BATCH) {
            writer.write(&columns::record_batch(batch, &mut |path| read_picture(&folder, path))?)?;
        }
        writer.finish()?;
    }
    Ok(())
}

fn has_pictures(conversation: &Conversation, folder: &Path) -> bool {
    conversation.images.iter().all(|image| folder.join(&image.path).is_file())
}

fn report_missing(name: &str, conversations: u64, left_out: bool, folder: &Path) {
    match (conversations, left_out) {
        (0, _) => {}
        (_, true) => warn!(
            task = name,
            conversations,
            "left out because their pictures are not in {}; instruct.tasks[].images names another folder, instruct.require_images = false keeps them",
            folder.display()
        ),
        (_, false) => {
            info!(task = name, conversations, "kept without their pictures, which are not in {}", folder.display());
        }
    }
}

fn report_drops(name: &str, counts: &TaskCounts) {
    for (reason, rows) in &counts.dropped {
        let example = counts.examples.get(reason).map_or("", String::as_str);
        warn!(task = name, rows, "left out for {reason}, such as {example}");
    }
}

/// The folder of conversations with all of their provenance.
const CONVERSATIONS: &str = "instruct/conversations";

/// Every conversation with all of its provenance, one JSON object a line.
fn conversations_file(source: &TaskSource) -> String {
    format!("{CONVERSATIONS}/{}.jsonl", part_name(source))
}

fn write_lines(path: &Path, conversations: &[Conversation]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(failed)?);
    for conversation in conversations {
        serde_json::to_writer(&mut file, conversation).with_context(failed)?;
        file.write_all(b"\n").with_context(failed)?;
    }
    file.flush().with_context(failed)
}

fn read_lines(path: &Path) -> Result<Vec<Conversation>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    BufReader::new(file)
        .lines()
        .enumerate()
        .map(|(number, line)| {
            let line = line.with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&line).with_context(|| format!("{}:{}", path.display(), number + 1))
        })
        .collect()
}

/// What the report says about the instruction set.
pub(crate) fn summary(context: &Context) -> Result<InstructSummary> {
    let config = config_of(context)?;
    let (catalogue, banks) = (Catalogue::shipped()?, Banks::shipped()?);
    let mut all: Vec<Conversation> = Vec::new();
    let mut summary = InstructSummary::default();
    let parts = context.upstream("instruct")?;
    for source in &config.tasks {
        let task = catalogue.get(&source.name)?;
        let part = parts.iter().find(|part| part.part == part_name(source));
        let part = part.context("a task of the recipe has no part; this is a bug")?;
        let conversations = read_lines(&table::file(&context.run, part, CONVERSATIONS)?)?;
        let bank = banks.get(&task.prompts)?;
        let used: BTreeMap<&str, u64> = conversations.iter().fold(BTreeMap::new(), |mut used, conversation| {
            *used.entry(conversation.template.as_str()).or_default() += 1;
            used
        });
        summary.tasks.push(TaskSummary {
            name: part_name(source),
            family: task.family.name().to_owned(),
            licence: task.licence.clone(),
            conversations: conversations.len() as u64,
            templates_used: used.len() as u64,
            templates_total: if config.prompts == PromptMode::Single { 1 } else { bank.templates.len() as u64 },
        });
        let folder = image_folder(context, source);
        for conversation in conversations.iter().take(SHOWN_PER_TASK) {
            summary.samples.push(sample(conversation, &folder)?);
        }
        all.extend(conversations);
    }
    let measured = diversity(&all);
    (summary.distinct_1, summary.distinct_2) = (measured.distinct_1, measured.distinct_2);
    for bank in banks.iter() {
        for template in &bank.templates {
            let uses = measured.templates.get(&format!("{}/{}", bank.name, template.id)).copied().unwrap_or(0);
            summary.templates.push(TemplateUse {
                family: bank.name.clone(),
                id: template.id.clone(),
                text: template.text.clone(),
                uses,
            });
        }
    }
    Ok(summary)
}

fn sample(conversation: &Conversation, folder: &Path) -> Result<ConversationSample> {
    let settings = PictureSettings {
        resize: Resize::Shorter,
        size: 160,
        only_if_larger: true,
        encode: Encode::Jpeg,
        quality: 78,
        max_pixels: 100_000_000,
        check: Check::Pixels,
    };
    let mut images = Vec::new();
    for image in &conversation.images {
        let picture = read_picture(folder, &image.path)?.and_then(|bytes| prepare(bytes, &settings, &[]).ok());
        images.push(Thumbnail {
            caption: image.path.clone(),
            image_data_uri: picture.as_ref().map_or_else(String::new, |picture| data_uri("image/jpeg", &picture.bytes)),
            width: picture.as_ref().map_or(0, |picture| picture.original_width),
            height: picture.as_ref().map_or(0, |picture| picture.original_height),
            kept: true,
            ..Thumbnail::default()
        });
    }
    let messages = conversation
        .messages
        .iter()
        .map(|message| Message { role: message.role.name().to_owned(), content: message.content.clone() })
        .collect();
    Ok(ConversationSample { task: conversation.task.clone(), images, messages })
}
