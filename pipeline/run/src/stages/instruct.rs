//! Stage `instruct`: annotated datasets, as their authors ship them, become conversations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use lynxdata_datasets::export::{json, parquet as columns};
use lynxdata_datasets::{Build, Catalogue, Conversation, DiversityMeter, Pictures, Task, TaskCounts, ffmpeg_version};
use lynxdata_picture::{Check, Encode, PictureSettings, Resize, prepare};
use lynxdata_prompts::{Banks, Media, PromptMode};
use lynxdata_records::{NewPart, PartEntry, file_digest, fingerprint, nearest, parquet};
use lynxdata_report::count as grouped;
use tracing::warn;

use super::folder_digest;
use super::task_pictures::{LISTED, Rules, TaskPictures, committed};
use crate::recipe::{InstructConfig, InstructFormat, LoadedRecipe, Recipe, TaskSource};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::table;
use lynxdata_report::data::{
    ConversationSample, InstructSummary, Message, TaskSummary, TemplateUse, Thumbnail, data_uri,
};

/// Raise it when the same native files give other conversations.
const FORMAT_VERSION: &str = "5";

/// Conversations whose pictures are in memory at a time.
pub(super) const BATCH: usize = 64;

/// Conversations that wait until their pictures are looked at together, on all cores.
const LOOKED_AT: usize = 4096;

/// Bytes of pictures from rows that wait with them.
const EMBEDDED_BYTES: usize = 64 << 20;

/// Conversations of each task that the report shows.
const SHOWN_PER_TASK: usize = 2;

/// Turns annotated datasets into conversations.
pub struct Instruct;

impl Stage for Instruct {
    fn name(&self) -> &'static str {
        "instruct"
    }

    fn is_in(&self, recipe: &Recipe) -> bool {
        recipe.instruct.is_some()
    }

    fn settings(&self, recipe: &Recipe) -> Result<String> {
        // What a mixture takes of the conversations changes none of them.
        let instruct = recipe.instruct.clone().map(|instruct| InstructConfig { mixture: None, ..instruct });
        Ok(settings_text(&(recipe.seed, instruct)))
    }

    fn format_version(&self) -> &'static str {
        FORMAT_VERSION
    }

    fn reads(&self, _recipe: &Recipe) -> Vec<&'static dyn Stage> {
        Vec::new()
    }

    fn outcome(&self, context: &Context) -> Result<StageOutcome> {
        let mut outcome = StageOutcome::default();
        let manifest = context.run.manifest();
        let conversations: u64 = manifest.parts(Instruct.name()).map(|part| part.rows_out).sum();
        outcome.is_bad |= conversations == 0;
        outcome.sentences.push(match conversations {
            0 => "no conversation came of the annotated datasets".to_owned(),
            conversations => format!("{} conversations", grouped(conversations)),
        });
        if conversations > 0 {
            let empty =
                manifest.parts(Instruct.name()).filter(|part| part.rows_out == 0).map(|part| part.part.as_str());
            let empty: Vec<&str> = empty.collect();
            if !empty.is_empty() {
                outcome.sentences.push(format!("none of {}", empty.join(", ")));
            }
        }
        let lists = manifest.parts(Instruct.name()).flat_map(PartEntry::paths).filter(|path| path.starts_with(LISTED));
        let lists: Vec<String> = lists.map(|path| context.run.root().join(path).display().to_string()).collect();
        if !lists.is_empty() {
            outcome.sentences.push(format!("pictures that are missing or broken are listed in {}", lists.join(", ")));
        }
        Ok(outcome)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = config_of(context)?;
        let (catalogue, banks) = load(&context.loaded)?;
        let (catalogue, banks) = (Arc::new(catalogue), Arc::new(banks));
        let seed = context.recipe().seed;
        Ok(Box::new(config.tasks.iter().map(move |source| {
            let task = catalogue.get(&source.name)?;
            let root = context.loaded.folder.join(&source.root);
            let settings = settings_text(&(
                seed,
                config.prompts,
                &config.formats,
                config.require_images,
                config.frames,
                &source.images,
                &source.split,
                // What a picture may be is the same as for downloads.
                context.recipe().download.max_bytes,
                context.recipe().download.max_pixels,
                context.recipe().download.check,
            ));
            // The definitions of task and bank are inputs as much as the native files.
            let wordings = task.wordings(&banks)?;
            let wordings: Vec<_> = wordings.iter().map(|own| (&own.bank.name, own.template)).collect();
            let wordings = settings_text(&wordings);
            let mut inputs =
                vec!["instruct".to_owned(), FORMAT_VERSION.to_owned(), settings, task.definition.clone(), wordings];
            for file in task.native_files(&root, &source.split)? {
                inputs.push(file.strip_prefix(&root).unwrap_or(&file).display().to_string());
                if file.is_dir() {
                    folder_digest::add(&file, &mut inputs)?;
                } else {
                    inputs.push(file_digest(&file)?);
                }
            }
            if config.frames.is_some() && task.modality() == Media::Video {
                // Other versions of it may give other pixels. Where it is not there, folders of
                // frames may be.
                inputs.push(ffmpeg_version().unwrap_or_default());
            }
            let pictures = source.images.as_ref().map_or(root, |images| context.loaded.folder.join(images));
            folder_digest::add(&pictures, &mut inputs)?;
            let (catalogue, banks) = (Arc::clone(&catalogue), Arc::clone(&banks));
            let make = Box::new(move |new: &mut NewPart| {
                let task = catalogue.get(&source.name)?;
                make(context, config, source, task, &banks, new)
            });
            let name = part_name(source);
            Ok(Planned::new(name, fingerprint(inputs.iter().map(String::as_str)), make))
        })))
    }
}

/// Checks that every task exists and that its native files are there, before anything is done.
pub fn check_tasks(loaded: &LoadedRecipe) -> Result<()> {
    let Some(config) = &loaded.recipe.instruct else { return Ok(()) };
    let (catalogue, _) = load(loaded)?;
    for faulty in catalogue.faulty() {
        warn!(task = faulty.name, "cannot be used: {}", faulty.error());
    }
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

/// Loads the shipped tasks and banks, and those of the folders that the recipe names.
///
/// # Errors
/// If a folder cannot be read or a bank is faulty.
pub fn load(loaded: &LoadedRecipe) -> Result<(Catalogue, Banks)> {
    let config = loaded.recipe.instruct.as_ref();
    let mut banks = Banks::shipped()?;
    if let Some(folder) = config.and_then(|config| config.banks.as_ref()) {
        banks = banks.with_folder(&loaded.folder.join(folder)).context("in instruct.banks")?;
    }
    let mut catalogue = Catalogue::shipped(&banks)?;
    if let Some(folder) = config.and_then(|config| config.catalogue.as_ref()) {
        let folder = loaded.folder.join(folder);
        catalogue = catalogue.with_folder(&folder, &banks).context("in instruct.catalogue")?;
    }
    Ok((catalogue, banks))
}

fn config_of(context: &Context) -> Result<&InstructConfig> {
    context.recipe().instruct.as_ref().context("the recipe has no [instruct]")
}

/// Returns the name of the part with the conversations of a task's split.
pub fn part_name(source: &TaskSource) -> String {
    format!("{}-{}", source.name, source.split)
}

/// The folder of a task's pictures, or an archive of them.
fn image_folder(context: &Context, source: &TaskSource) -> PathBuf {
    context.loaded.folder.join(source.images.as_ref().unwrap_or(&source.root))
}

/// The pictures of a task of which the conversations are made.
pub(super) fn pictures_of(context: &Context, source: &TaskSource) -> Pictures {
    committed(context.run.root(), &part_name(source), image_folder(context, source))
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
    let name = part_name(source);
    let rules = Rules::of(config, &context.recipe().download, task);
    let mut pictures = TaskPictures::new(&context.run, &name, image_folder(context, source), rules);
    let of_task = |kind: &str, suffix: &str| format!("instruct/{kind}/{name}.{suffix}");
    let mut outputs = Outputs::create(context, &config.formats, &of_task, new)?;
    loop {
        let mut conversations = next_conversations(&mut build)?;
        if conversations.is_empty() {
            break;
        }
        pictures.look_at(&mut conversations, &mut || Ok(context.run.stage_file(new, &listed_file(&name))?))?;
        outputs.write(&conversations, &mut |path| pictures.read(path))?;
    }
    let conversations = outputs.finish()?;
    if pictures.is_scattered() {
        for_each_line(&conversations, &mut |conversation| {
            conversation.images.iter().try_for_each(|image| pictures.gather(&image.path))
        })?;
    }
    let mut counts = build.counts().clone();
    for (fault, (count, example)) in pictures.finish(&context.run, &name, new)? {
        for _ in 0..count {
            counts.drop_kept(fault, || example.clone());
        }
    }
    report_drops(&name, &counts);
    let nothing = counts.nothing_kept(&name).map(anyhow::Error::from).or_else(|| {
        let is_empty = counts.records_seen == 0;
        is_empty.then(|| anyhow!("task {name}: its native files below {} hold no record", root.display()))
    });
    match nothing {
        // Other tasks may well have conversations.
        Some(error) if config.tasks.len() > 1 => warn!("{error}"),
        Some(error) => return Err(error),
        None => {}
    }
    new.rows_in = counts.records_seen;
    new.rows_out = counts.kept;
    new.counts = counts.dropped.clone();
    new.counts.insert("kept".to_owned(), counts.kept);
    let path = context.run.stage_file(new, &counts_file(source))?;
    let text = serde_json::to_string_pretty(&counts).context("cannot write counts as JSON")?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// The files of one set of conversations, written as they come.
pub(super) struct Outputs {
    lines: (PathBuf, BufWriter<File>),
    json: Vec<(PathBuf, json::Writer<BufWriter<File>>)>,
    parquet: Option<parquet::Writer>,
}

impl Outputs {
    /// Begins the files; `name` gives the name of one from its kind and suffix.
    pub(super) fn create(
        context: &Context,
        formats: &BTreeSet<InstructFormat>,
        name: &dyn Fn(&str, &str) -> String,
        new: &mut NewPart,
    ) -> Result<Self> {
        let mut create = |name: String| -> Result<(PathBuf, BufWriter<File>)> {
            let path = context.run.stage_file(new, &name)?;
            let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((path, BufWriter::new(file)))
        };
        let lines = create(name("conversations", "jsonl"))?;
        let mut json = Vec::new();
        for export in formats.iter().filter_map(|format| format.json()) {
            let (path, file) = create(name(export.name, export.suffix()))?;
            json.push((path, json::Writer::new(export, file)));
        }
        let parquet = if formats.contains(&InstructFormat::Parquet) {
            let path = context.run.stage_file(new, &name("parquet", "parquet"))?;
            Some(parquet::Writer::create_with_repeated_pictures(&path, &columns::schema())?)
        } else {
            None
        };
        Ok(Self { lines, json, parquet })
    }

    /// Appends conversations; `picture` gives the bytes of a path.
    pub(super) fn write(
        &mut self,
        conversations: &[Conversation],
        picture: &mut dyn FnMut(&str) -> lynxdata_datasets::Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let (path, file) = &mut self.lines;
        for conversation in conversations {
            conversation.write_line(file).with_context(|| format!("cannot write {}", path.display()))?;
        }
        for (path, writer) in &mut self.json {
            for conversation in conversations {
                writer.write(conversation).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        if let Some(writer) = &mut self.parquet {
            for batch in conversations.chunks(BATCH) {
                writer.write(&columns::record_batch(batch, picture)?)?;
            }
        }
        Ok(())
    }

    /// Ends the files. Returns the one of conversations with their provenance.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let (path, mut file) = self.lines;
        file.flush().with_context(|| format!("cannot write {}", path.display()))?;
        for (path, writer) in self.json {
            writer.finish().with_context(|| format!("cannot write {}", path.display()))?;
        }
        if let Some(writer) = self.parquet {
            writer.finish()?;
        }
        Ok(path)
    }
}

/// Takes conversations whose pictures are looked at together.
fn next_conversations(build: &mut Build) -> Result<Vec<Conversation>> {
    let (mut conversations, mut bytes) = (Vec::new(), 0);
    while conversations.len() < LOOKED_AT && bytes < EMBEDDED_BYTES {
        let Some(conversation) = build.next() else { break };
        let conversation = conversation?;
        bytes += conversation.embedded.values().map(|picture| picture.len()).sum::<usize>();
        conversations.push(conversation);
    }
    Ok(conversations)
}

fn report_drops(name: &str, counts: &TaskCounts) {
    let example = |reason: &String| counts.examples.get(reason).map_or("", String::as_str);
    for (reason, rows) in &counts.dropped {
        warn!(task = name, rows, "left out for {reason}, such as {}", example(reason));
    }
    for (reason, elements) in &counts.left_out {
        warn!(task = name, elements, "left out of records for {reason}, such as {}", example(reason));
    }
    if counts.with_replaced_characters > 0 {
        let conversations = counts.with_replaced_characters;
        warn!(task = name, conversations, "kept with U+FFFD in place of bytes or escapes that are no characters");
    }
}

/// The folder of what became of the rows of every task, with an example of every reason.
pub const COUNTS: &str = "instruct/counts";

/// The list of what is missing or broken of a part: the ids of conversations, the paths and why.
fn listed_file(name: &str) -> String {
    format!("{LISTED}/{name}.jsonl")
}

fn counts_file(source: &TaskSource) -> String {
    format!("{COUNTS}/{}.json", part_name(source))
}

/// Returns what was left out, by reason: records, and rows and elements without a record.
pub fn left_out(counts: TaskCounts) -> BTreeMap<String, u64> {
    counts.dropped.into_iter().chain(counts.left_out).collect()
}

/// Reads the counts of a task.
///
/// # Errors
/// If the file cannot be read or is no such table.
pub fn read_counts(path: &Path) -> Result<TaskCounts> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not what was written", path.display()))
}

/// The folder of conversations with all of their provenance.
const CONVERSATIONS: &str = "instruct/conversations";

/// Every conversation with all of its provenance, one JSON object a line.
pub(super) fn conversations_file(source: &TaskSource) -> String {
    format!("{CONVERSATIONS}/{}.jsonl", part_name(source))
}

/// Takes one conversation.
type Take<'a> = dyn FnMut(Conversation) -> Result<()> + 'a;

fn for_each_line(path: &Path, take: &mut Take) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        take(serde_json::from_str(&line).with_context(|| format!("{}:{}", path.display(), number + 1))?)?;
    }
    Ok(())
}

/// What the report says about the instruction set.
pub(crate) fn summary(context: &Context) -> Result<InstructSummary> {
    let config = config_of(context)?;
    let (catalogue, banks) = load(&context.loaded)?;
    let mut meter = DiversityMeter::default();
    let mut named = BTreeSet::new();
    let mut summary = InstructSummary::default();
    let parts = context.upstream(&Instruct)?;
    for source in &config.tasks {
        let task = catalogue.get(&source.name)?;
        let part = parts.iter().find(|part| part.part == part_name(source));
        let part = part.context("a task of the recipe has no part; this is a bug")?;
        let counts = read_counts(&table::file(&context.run, part, COUNTS)?)?;
        let pictures = pictures_of(context, source);
        let (mut used, mut conversations) = (BTreeSet::new(), 0);
        for_each_line(&table::file(&context.run, part, CONVERSATIONS)?, &mut |conversation| {
            if conversations < SHOWN_PER_TASK {
                summary.samples.push(sample(&conversation, &pictures)?);
            }
            conversations += 1;
            meter.add(&conversation);
            used.insert(conversation.template);
            Ok(())
        })?;
        let wordings = task.wordings(&banks)?.len() as u64;
        named.extend(task.prompts.iter().cloned());
        summary.tasks.push(TaskSummary {
            name: part_name(source),
            group: task.group.clone(),
            licence: task.licence.clone(),
            conversations: conversations as u64,
            templates_used: used.len() as u64,
            templates_total: if config.prompts == PromptMode::Single { used.len() as u64 } else { wordings },
            left_out: left_out(counts),
        });
    }
    let measured = meter.finish();
    (summary.distinct_1, summary.distinct_2) = (measured.distinct_1, measured.distinct_2);
    for bank in banks.iter().filter(|bank| named.contains(&bank.name)) {
        for template in &bank.templates {
            let uses = measured.templates.get(&format!("{}/{}", bank.name, template.id)).copied().unwrap_or(0);
            summary.templates.push(TemplateUse {
                bank: bank.name.clone(),
                id: template.id.clone(),
                text: template.text.clone(),
                uses,
            });
        }
    }
    Ok(summary)
}

fn sample(conversation: &Conversation, pictures: &Pictures) -> Result<ConversationSample> {
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
        let picture = pictures.read(&image.path)?.and_then(|bytes| prepare(bytes, &settings, &[]).ok());
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
