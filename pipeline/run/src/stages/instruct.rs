//! Stage `instruct`: turns annotated datasets, in the files of their authors, into conversations.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, anyhow, ensure};
use lynxdata_datasets::export::{Format, Pictures, Writer};
use lynxdata_datasets::{
    Build, BuildSettings, Catalogue, Conversation, Dialogs, Diversity, DiversityMeter, Exchange, FormatsLeftOut, Lines,
    NOT_DRAWN, Task, TaskCounts, count_difference, exchanges, ffmpeg_version,
};
use lynxdata_engine::Session;
use lynxdata_prompts::{Banks, Media, PromptMode};
use lynxdata_records::{NewPart, PartEntry, file_digest, fingerprint, nearest};
use lynxdata_report::count as grouped;
use tracing::{info, warn};

use super::benchmarks::{self, Benchmarks, Likenesses};
use super::folder_digest;
use super::task_pictures::{LISTED, LeftOut, Limits, Rules, TaskPictures, committed, kept_folder};
use super::thumbnail::thumbnail;
use crate::recipe::{InstructConfig, InstructSettings, LoadedRecipe, Recipe, TaskSource};
use crate::stage::{Context, Parts, Planned, Stage, StageOutcome, settings_text};
use crate::table;
use lynxdata_report::data::{
    ConversationSample, DiversitySummary, InstructSummary, Message, PositionSummary, TaskSummary, TemplateUse,
    Thumbnail, data_uri,
};

/// Version of the conversations. Raise it when the same files give other conversations.
const FORMAT_VERSION: &str = "12";

/// Number of conversations whose images are in memory at the same time.
pub(super) const BATCH: usize = 64;

/// Number of conversations whose images are checked together, on all cores.
const LOOKED_AT: usize = 2048;

/// Maximum number of bytes of images embedded in rows that are in memory with them.
const EMBEDDED_BYTES: usize = 64 << 20;

/// Number of conversations of each task that the report shows.
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
        // A mixture does not change the conversations that it draws from.
        let instruct = recipe.instruct.clone().map(|instruct| {
            let (tasks, _) = instruct.settings().tasks;
            InstructConfig { mixture: None, tasks, ..instruct }
        });
        Ok(settings_text(&(recipe.seed, instruct, Limits::of(&recipe.download))))
    }

    fn check(&self, loaded: &LoadedRecipe, _session: &Session) -> Result<()> {
        check_tasks(loaded)
    }

    fn format_version(&self) -> String {
        FORMAT_VERSION.to_owned()
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
            0 => "the annotated datasets gave no conversations".to_owned(),
            conversations => format!("{} conversations", grouped(conversations)),
        });
        let config = config_of(context)?;
        let (catalogue, _) = context.loaded.tasks()?;
        let (mut of_formats, mut without_image) = (TasksLeftOut::new(), 0);
        let parts: Vec<PartEntry> = manifest.parts(Instruct.name()).cloned().collect();
        let mut lost = Vec::new();
        for source in taken(config, catalogue)? {
            let mut total = TaskCounts::default();
            for part in parts_of(source, &parts) {
                let Some(file) = part.files.iter().find(|file| file.path.starts_with(COUNTS)) else { continue };
                let counts = read_counts(&context.run.root().join(&file.path))?;
                total.add(&counts);
                without_image += counts.without_image;
                of_formats.insert(part.part.clone(), counts.formats);
            }
            lost.extend(loss(context, catalogue.get(&source.name)?, source, &total));
        }
        outcome.is_lossy = !lost.is_empty();
        let held = held(&config.formats, conversations, &of_formats);
        outcome.is_bad |= !held.is_empty() && held.values().all(|held| *held == 0);
        outcome.sentences.extend(told_of_formats(conversations, &held));
        if without_image > 0 {
            outcome.sentences.push(format!(
                "{} records are kept although their images or videos are missing",
                grouped(without_image)
            ));
        }
        let without = config.tasks.len() - taken(config, catalogue)?.len();
        if without > 0 {
            outcome.sentences.push(format!(
                "{without} of {} tasks are left out because their licences do not allow commercial use",
                config.tasks.len()
            ));
        }
        let paths = manifest.parts(Instruct.name()).flat_map(PartEntry::paths);
        let lists: Vec<&str> = paths.filter(|path| path.starts_with(LISTED)).collect();
        let listed = match lists[..] {
            [] => None,
            [list] => Some(list),
            _ => Some(LISTED),
        };
        if let Some(listed) = listed {
            let place = context.run.root().join(listed);
            outcome.sentences.push(format!("missing and broken images are listed in {}", place.display()));
        }
        outcome.sentences.extend(lost);
        Ok(outcome)
    }

    fn parts<'a>(&'a self, context: &'a Context) -> Result<Parts<'a>> {
        let config = config_of(context)?;
        let (catalogue, banks) = context.loaded.tasks()?;
        for source in &config.tasks {
            let task = catalogue.get(&source.name)?;
            if !config.licence.takes(task) {
                warn!(
                    task = source.name,
                    licence = task.licence,
                    commercial_use = task.commercial_use.name(),
                    "left out, because instruct.licence asks for commercial use"
                );
            }
        }
        let benchmarks = Arc::new(Benchmarks::of(&context.loaded, catalogue)?);
        let parts = taken(config, catalogue)?.into_iter().flat_map(move |source| {
            let split = Split::new(context, config, source, (catalogue, banks), &benchmarks);
            let (split, fault) = split.map_or_else(|fault| (None, Some(Err(fault))), |split| (Some(split), None));
            fault.into_iter().chain(split.into_iter().flatten())
        });
        Ok(Box::new(parts))
    }
}

/// The parts of one split of a task. All have the same number of dataset rows, except the last one.
/// Whether there is another part is only known after the part before it is made.
struct Split<'a> {
    context: &'a Context,
    config: &'a InstructConfig,
    source: &'a TaskSource,
    task: &'a Task,
    banks: &'a Banks,
    benchmarks: Arc<Option<Benchmarks<'a>>>,
    /// The inputs that the fingerprints of all parts cover.
    inputs: Vec<String>,
    /// The previous part: its number and its fingerprint.
    before: Option<(usize, String)>,
    /// The conversations after the part that was made last, with the number of the next part.
    going: Arc<Mutex<Option<(usize, Build<'a>)>>>,
}

impl<'a> Split<'a> {
    fn new(
        context: &'a Context,
        config: &'a InstructConfig,
        source: &'a TaskSource,
        (catalogue, banks): (&'a Catalogue, &'a Banks),
        benchmarks: &Arc<Option<Benchmarks<'a>>>,
    ) -> Result<Self> {
        let task = catalogue.get(&source.name)?;
        let root = context.loaded.folder.join(&source.root);
        let settings = settings(context.recipe(), config, source);
        // The definitions of the task and the bank are inputs too.
        let wordings = task.wordings(banks, config.language.as_deref())?;
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
        if let Some(benchmarks) = benchmarks.as_ref() {
            benchmarks.add_inputs(&mut inputs)?;
        }
        if config.frames.is_some() && task.modalities().contains(&Media::Video) {
            // Another version of ffmpeg may give other pixels. Without ffmpeg, folders of frames
            // may still be used.
            inputs.push(ffmpeg_version().unwrap_or_default());
        }
        let pictures = source.images.as_ref().map_or(root, |images| context.loaded.folder.join(images));
        folder_digest::add(&pictures, &mut inputs)?;
        let (benchmarks, going) = (Arc::clone(benchmarks), Arc::default());
        Ok(Self { context, config, source, task, banks, benchmarks, inputs, before: None, going })
    }

    /// Returns the number of the next part, if one is known to exist.
    fn next_number(&self) -> Result<Option<usize>> {
        let Some((before, fingerprint)) = &self.before else { return Ok(Some(0)) };
        let run = &self.context.run;
        let Some(part) = run.committed(Instruct.name(), &self.source.part_name(*before), fingerprint) else {
            return Ok(None);
        };
        let counts = read_counts(&table::file(run, &part, COUNTS)?)?;
        Ok(counts.goes_on.then_some(before + 1))
    }

    /// Returns the conversations of a part and of all later parts.
    fn open(&self, number: usize) -> Result<Build<'a>> {
        let source = self.source;
        let settings = self.config.build_settings(self.context.recipe().seed);
        let settings = BuildSettings { may_drop: source.may_drop, ..settings };
        let root = self.context.loaded.folder.join(&source.root);
        let mut build = Build::start(self.task, self.banks, &root, &source.split, &settings)?;
        if let Some(images) = &source.images {
            build = build.with_images(&self.context.loaded.folder.join(images));
        }
        if let Some(most) = source.most {
            build = build.draw(most)?;
        }
        build.pause_after(self.config.rows_per_part.get());
        for _ in 0..number {
            build.skip_part()?;
        }
        Ok(build)
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<Planned<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = match self.next_number() {
            Ok(number) => number?,
            Err(fault) => return Some(Err(fault)),
        };
        let number_text = number.to_string();
        let print = fingerprint(self.inputs.iter().map(String::as_str).chain([number_text.as_str()]));
        self.before = Some((number, print.clone()));
        let (benchmarks, going) = (Arc::clone(&self.benchmarks), Arc::clone(&self.going));
        let own = Split { inputs: Vec::new(), before: None, benchmarks, going, ..*self };
        let make = move |new: &mut NewPart| {
            let going = own.going.lock().expect("no part panics while it is made").take();
            // A thread of the pool does its share of the parallel work. Another thread would only
            // wait for it, once for every few thousand rows. This one waits for the thread that
            // reads rows, which therefore must not need the pool.
            let behind = rayon::scope(|_| {
                let build = match going {
                    Some((at, build)) if at == number => build,
                    _ => own.open(number)?,
                };
                make(&own, number, build, new)
            })?;
            *own.going.lock().expect("no part panics while it is made") = behind.map(|build| (number + 1, build));
            Ok(())
        };
        Some(Ok(Planned::new(self.source.part_name(number), print, make)))
    }
}

/// Returns the settings that the conversations of a split depend on, without their inputs.
fn settings(recipe: &Recipe, config: &InstructConfig, source: &TaskSource) -> String {
    // A mixture draws from the conversations, and does not change them.
    let InstructSettings { tasks: _, parts, formats, mixture: _ } = config.settings();
    let (pack_dialogs, require_images, frames, rows_per_part) = parts;
    // The files of a task are inputs. How many records may be lost only decides how a run ends.
    let TaskSource { name: _, root: _, split, images, most, may_drop: _ } = source;
    let Limits { max_bytes, max_pixels, check } = Limits::of(&recipe.download);
    settings_text(&(
        config.build_settings(recipe.seed),
        pack_dialogs,
        formats,
        require_images,
        frames,
        images,
        split,
        most,
        rows_per_part,
        max_bytes,
        max_pixels,
        check,
    ))
}

/// Checks before any work that every task exists and its files are present.
fn check_tasks(loaded: &LoadedRecipe) -> Result<()> {
    let Some(config) = &loaded.recipe.instruct else { return Ok(()) };
    let (catalogue, banks) = loaded.tasks()?;
    for faulty in catalogue.faulty() {
        warn!(task = faulty.name, "cannot be used: {}", faulty.error());
    }
    for source in &config.tasks {
        let name = source.name.as_str();
        let task = catalogue.get(name).map_err(|error| {
            let known = catalogue.tasks().map(|task| task.name.as_str());
            let hint = nearest(name, known).map(|right| format!("\nhint: did you mean {right:?}?"));
            anyhow!("{error}{}", hint.unwrap_or_default()).context("in instruct.tasks")
        })?;
        task.native_files(&loaded.folder.join(&source.root), &source.split).context("in instruct.tasks")?;
        if let Some(language) = &config.language {
            task.check_wordings(banks, Some(language)).context("in instruct.language")?;
        }
    }
    ensure!(
        config.tasks.is_empty() || !taken(config, catalogue)?.is_empty(),
        "no task is left: instruct.licence = \"commercial\" leaves out {}",
        left_out_by_licence(config, catalogue)?.join(", ")
    );
    Ok(())
}

/// Returns the splits of tasks that the licences of their annotations allow.
///
/// # Errors
/// If a task does not exist.
pub fn taken<'a>(config: &'a InstructConfig, catalogue: &Catalogue) -> Result<Vec<&'a TaskSource>> {
    let mut taken = Vec::new();
    for source in &config.tasks {
        if config.licence.takes(catalogue.get(&source.name)?) {
            taken.push(source);
        }
    }
    Ok(taken)
}

/// Returns the tasks that are left out because of the licences of their annotations, with these
/// licences.
///
/// # Errors
/// If a task does not exist.
pub(super) fn left_out_by_licence(config: &InstructConfig, catalogue: &Catalogue) -> Result<Vec<String>> {
    let mut left_out = BTreeSet::new();
    for source in &config.tasks {
        let task = catalogue.get(&source.name)?;
        if !config.licence.takes(task) {
            left_out.insert(format!("{} ({})", task.name, task.licence));
        }
    }
    Ok(left_out.into_iter().collect())
}

pub(super) fn config_of(context: &Context) -> Result<&InstructConfig> {
    context.recipe().instruct.as_ref().context("the recipe has no [instruct]")
}

/// Returns the parts of a task's split among all parts of the stage, in their order.
pub fn parts_of<'a>(source: &TaskSource, parts: &'a [PartEntry]) -> Vec<&'a PartEntry> {
    let of_number = |number| parts.iter().find(|part| part.part == source.part_name(number));
    (0..).map_while(of_number).collect()
}

/// The folder of a task's images, or an archive of them.
fn image_folder(context: &Context, source: &TaskSource) -> PathBuf {
    context.loaded.folder.join(source.images.as_ref().unwrap_or(&source.root))
}

/// Returns the images of a committed part.
pub(super) fn pictures_of(context: &Context, source: &TaskSource, part: &PartEntry) -> lynxdata_datasets::Pictures {
    committed(context.run.root(), &part.part, image_folder(context, source))
}

/// Makes a part, and returns the conversations after it if there are any.
fn make<'a>(split: &Split<'a>, number: usize, mut build: Build<'a>, new: &mut NewPart) -> Result<Option<Build<'a>>> {
    let Split { context, config, source, task, banks, .. } = *split;
    let mut dialogs = Dialogs::new(config.pack_dialogs, &task.wordings(banks, config.language.as_deref())?);
    let (mut written, mut without_image) = (0, 0);
    let name = source.part_name(number);
    let root = context.run.root();
    // A part that keeps no image has no folder, and would only be looked through for every image.
    let before = (0..number).map(|before| root.join(kept_folder(&source.part_name(before))));
    let before = before.filter(|folder| folder.is_dir()).collect();
    let rules = Rules::of(config, Limits::of(&context.recipe().download), split.task);
    let mut pictures = TaskPictures::new(&context.run, &name, before, image_folder(context, source), rules);
    let of_task = |kind: &str, suffix: &str| format!("instruct/{kind}/{name}{suffix}");
    let mut outputs = Outputs::create(context, &config.formats, &of_task, new)?;
    let mut left_out = LeftOut::new();
    let mut reported = LeftOut::new();
    let mut conversations = Vec::new();
    loop {
        next_conversations(&mut build, &mut conversations)?;
        if conversations.is_empty() {
            break;
        }
        pictures.look_at(&mut conversations)?;
        if let Some(benchmarks) = split.benchmarks.as_ref() {
            let mut likenesses = benchmarks.likenesses(&conversations, &|path| pictures.read(path))?.into_iter();
            conversations.retain(|conversation| {
                let Some(Likenesses { hits, dropped_for }) = likenesses.next() else { return true };
                let (cases, hits) = match &dropped_for {
                    Some(hit) => (&mut left_out, std::slice::from_ref(hit)),
                    None => (&mut reported, &hits[..]),
                };
                for hit in hits {
                    let told = || (0, benchmarks::told(hit, conversation));
                    cases.entry(benchmarks::reason(hit)).or_insert_with(told).0 += 1;
                }
                dropped_for.is_none()
            });
        }
        without_image += conversations.iter().filter(|own| pictures.is_incomplete(own)).count() as u64;
        conversations = dialogs.pack(conversations);
        written += conversations.len() as u64;
        outputs.write(&conversations, &mut |path| pictures.read(path))?;
        conversations.clear();
    }
    for conversations in dialogs.finish().chunks(LOOKED_AT) {
        written += conversations.len() as u64;
        outputs.write(conversations, &mut |path| pictures.read(path))?;
    }
    let (conversations, mut of_formats) = outputs.finish(&name)?;
    if pictures.is_scattered() {
        for_each_line(&conversations, &mut |conversation| {
            conversation.images.iter().try_for_each(|image| pictures.gather(&image.path))
        })?;
    }
    let mut counts = build.next_part();
    counts.without_image = without_image;
    counts.formats = of_formats.remove(&source.name).unwrap_or_default();
    for (fault, (count, example)) in pictures.finish(&context.run, &name, new)?.into_iter().chain(left_out) {
        for _ in 0..count {
            counts.drop_kept(fault, || example.clone());
        }
    }
    for (reason, (count, example)) in reported {
        warn!(task = name, conversations = count, "kept, but reported for {reason}, such as {example}");
        counts.examples.entry(reason.to_owned()).or_insert(example);
        counts.reported.insert(reason.to_owned(), count);
    }
    report_drops(&name, &counts);
    if !counts.goes_on {
        if let Some(difference) = count_difference(split.task, &source.split, build.total()) {
            warn!(task = name, "{difference}");
        }
        tell_what_is_lacking(split, number, &counts);
    }
    new.rows_in = counts.records_seen;
    new.rows_out = written;
    new.counts = counts.dropped.clone();
    new.counts.insert("kept".to_owned(), counts.kept);
    let path = context.run.stage_file(new, &format!("{COUNTS}/{name}.json"))?;
    let text = serde_json::to_string_pretty(&counts).context("cannot write counts as JSON")?;
    std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(counts.goes_on.then_some(build))
}

/// Reports, at the last part, a split without conversations or with fewer than were requested.
fn tell_what_is_lacking(split: &Split, number: usize, counts: &TaskCounts) {
    let Split { context, source, .. } = *split;
    let run = &context.run;
    let before = (0..number).filter_map(|number| run.part(Instruct.name(), &source.part_name(number)));
    let kept = counts.kept + before.filter_map(|part| part.counts.get("kept").copied()).sum::<u64>();
    let name = source.set_name();
    if let Some(most) = source.most.filter(|most| kept < *most) {
        warn!(task = name, "has {} conversations, fewer than the {} requested", grouped(kept), grouped(most));
    }
    if kept == 0 {
        warn!("{}", counts.nothing_made(&name, &context.loaded.folder.join(&source.root)));
    }
}

/// The files of one set of conversations, written as the conversations are made.
pub(super) struct Outputs<'a> {
    files: SetFiles<'a>,
    /// One line per conversation with its whole provenance; later stages read this file.
    lines: (PathBuf, BufWriter<File>, Lines),
    writers: Vec<(&'static Format, Box<dyn Writer>)>,
    left_out: TasksLeftOut,
}

/// The number of conversations that formats cannot represent, by task, format and reason.
pub(super) type TasksLeftOut = BTreeMap<String, FormatsLeftOut>;

/// Creates the files of a set.
struct SetFiles<'a> {
    context: &'a Context,
    new: &'a mut NewPart,
    /// Returns the name of a file from its kind and its suffix.
    name: &'a dyn Fn(&str, &str) -> String,
}

impl SetFiles<'_> {
    fn create(&mut self, kind: &str, suffix: &str) -> lynxdata_datasets::Result<PathBuf> {
        Ok(self.context.run.stage_file(self.new, &(self.name)(kind, suffix))?)
    }
}

impl<'a> Outputs<'a> {
    /// Creates the files; `name` returns the name of one from its kind and its suffix.
    pub(super) fn create(
        context: &'a Context,
        formats: &BTreeSet<&'static Format>,
        name: &'a dyn Fn(&str, &str) -> String,
        new: &'a mut NewPart,
    ) -> Result<Self> {
        let mut files = SetFiles { context, new, name };
        let path = files.create("conversations", ".jsonl")?;
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writers = Vec::new();
        for &format in formats {
            writers.push((format, format.begin(&mut |suffix| files.create(format.name, suffix))?));
        }
        Ok(Self {
            files,
            lines: (path, BufWriter::new(file), Lines::default()),
            writers,
            left_out: TasksLeftOut::new(),
        })
    }

    /// Appends conversations, to each format those that it can represent; `pictures` returns the
    /// bytes of an image by its path.
    pub(super) fn write(&mut self, conversations: &[Conversation], pictures: &mut Pictures) -> Result<()> {
        let (path, file, lines) = &mut self.lines;
        lines.write(conversations, file).with_context(|| format!("cannot write {}", path.display()))?;
        for (format, writer) in &mut self.writers {
            let mut fit = Cow::Borrowed(conversations);
            if conversations.iter().any(|own| format.leaves_out(own).is_some()) {
                fit.to_mut().retain(|own| {
                    let Some(reason) = format.leaves_out(own) else { return true };
                    let of_format = self.left_out.entry(own.task.clone()).or_default();
                    let reasons = of_format.entry(format.name.to_owned()).or_default();
                    *reasons.entry(reason.to_owned()).or_default() += 1;
                    false
                });
            }
            writer.write(&fit, &mut |suffix| self.files.create(format.name, suffix), pictures)?;
        }
        Ok(())
    }

    /// Finishes the files, and logs what formats leave out. Returns the file of conversations with
    /// their whole provenance, and the number of conversations that formats leave out.
    pub(super) fn finish(mut self, set: &str) -> Result<(PathBuf, TasksLeftOut)> {
        let (path, mut file, _) = self.lines;
        file.flush().with_context(|| format!("cannot write {}", path.display()))?;
        for (format, writer) in self.writers {
            writer.finish(&mut |suffix| self.files.create(format.name, suffix))?;
        }
        for (task, formats) in &self.left_out {
            for (format, reasons) in formats {
                for (reason, conversations) in reasons {
                    warn!(set, task, format, conversations, "left out of the format: {reason}");
                }
            }
        }
        Ok((path, self.left_out))
    }
}

/// Returns how many of the conversations of a set each format holds.
pub(super) fn held(
    formats: &BTreeSet<&'static Format>,
    conversations: u64,
    left_out: &TasksLeftOut,
) -> BTreeMap<&'static str, u64> {
    let of_format = |format: &str| {
        let reasons = left_out.values().filter_map(|formats| formats.get(format));
        reasons.flat_map(BTreeMap::values).sum::<u64>()
    };
    formats.iter().map(|format| (format.name, conversations - of_format(format.name))).collect()
}

/// Returns a sentence for every format that does not hold all conversations.
pub(super) fn told_of_formats(conversations: u64, held: &BTreeMap<&'static str, u64>) -> Vec<String> {
    let partial = held.iter().filter(|(_, held)| **held < conversations);
    let told = |(format, held): (&&str, &u64)| match held {
        0 => format!("the format {format} can represent none of them, so it has no files"),
        held => format!("the format {format} holds {} of them", grouped(*held)),
    };
    partial.map(told).collect()
}

/// Returns a sentence about a split that keeps no conversation or has lost a larger share of its
/// records than it may.
fn loss(context: &Context, task: &Task, source: &TaskSource, total: &TaskCounts) -> Option<String> {
    let name = source.set_name();
    let fault = match total.kept {
        0 => Some(total.nothing_made(&name, &context.loaded.folder.join(&source.root))),
        _ => total.loss(&name, source.may_drop.unwrap_or(task.may_drop)),
    };
    fault.map(|fault| fault.to_string())
}

/// Appends the next conversations, whose images are checked together.
fn next_conversations(build: &mut Build, conversations: &mut Vec<Conversation>) -> Result<()> {
    let mut bytes = 0;
    while conversations.len() < LOOKED_AT && bytes < EMBEDDED_BYTES {
        let Some(conversation) = build.next() else { break };
        let conversation = conversation?;
        bytes += conversation.embedded.values().map(|picture| picture.len()).sum::<usize>();
        conversations.push(conversation);
    }
    Ok(())
}

/// Logs what was dropped and left out, by reason, with an example of each.
pub fn report_drops(name: &str, counts: &TaskCounts) {
    let example = |reason: &String| counts.examples.get(reason).map_or("", String::as_str);
    for (reason, rows) in &counts.dropped {
        if reason == NOT_DRAWN {
            info!(task = name, rows, "not drawn");
            continue;
        }
        warn!(task = name, rows, of = counts.records_seen, "left out for {reason}, such as {}", example(reason));
    }
    for (reason, elements) in &counts.left_out {
        warn!(task = name, elements, "left out of records for {reason}, such as {}", example(reason));
    }
    if counts.with_replaced_characters > 0 {
        let conversations = counts.with_replaced_characters;
        warn!(
            task = name,
            conversations, "kept, with U+FFFD instead of bytes or escapes that are not valid characters"
        );
    }
}

/// The folder of the counts of every task, with an example of every reason.
pub(crate) const COUNTS: &str = "instruct/counts";

/// Returns the counts of left-out records, and of rows and elements without a record, by reason.
pub(crate) fn left_out(counts: TaskCounts) -> BTreeMap<String, u64> {
    counts.dropped.into_iter().chain(counts.left_out).collect()
}

/// Reads the counts of a task.
///
/// # Errors
/// If the file cannot be read or has another format.
pub(crate) fn read_counts(path: &Path) -> Result<TaskCounts> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a file of counts that this program wrote", path.display()))
}

/// The folder of conversations with their whole provenance.
pub(super) const CONVERSATIONS: &str = "instruct/conversations";

/// Returns the file of the conversations of a part with their whole provenance, one JSON object per
/// line.
///
/// # Errors
/// As [`table::file`].
pub(super) fn conversations_file(context: &Context, part: &PartEntry) -> Result<PathBuf> {
    table::file(&context.run, part, CONVERSATIONS)
}

/// A function that takes one conversation.
type Take<'a> = dyn FnMut(Conversation) -> Result<()> + 'a;

fn for_each_line(path: &Path, take: &mut Take) -> Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        take(serde_json::from_str(&line).with_context(|| format!("{}:{}", path.display(), number + 1))?)?;
    }
    Ok(())
}

/// Returns the summary of the instruction set for the report.
pub(crate) fn summary(context: &Context) -> Result<InstructSummary> {
    let config = config_of(context)?;
    let (catalogue, banks) = context.loaded.tasks()?;
    let mut meter = DiversityMeter::default();
    let mut named = BTreeSet::new();
    let mut summary = InstructSummary::default();
    let parts = context.upstream(&Instruct)?;
    for source in taken(config, catalogue)? {
        let task = catalogue.get(&source.name)?;
        let mut conversations = 0;
        let name = source.set_name();
        let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
        for part in parts_of(source, &parts) {
            for (reason, count) in left_out(read_counts(&table::file(&context.run, part, COUNTS)?)?) {
                *reasons.entry(reason).or_default() += count;
            }
            let pictures = pictures_of(context, source, part);
            for_each_line(&conversations_file(context, part)?, &mut |conversation| {
                if conversations < SHOWN_PER_TASK {
                    summary.samples.push(sample(&conversation, &pictures)?);
                }
                conversations += 1;
                exchanges(&conversation).for_each(|own| meter.add(&Exchange { task: &name, ..own }));
                Ok(())
            })?;
        }
        let wordings = task.wordings(banks, config.language.as_deref())?.len() as u64;
        named.extend(task.prompts.iter().cloned());
        summary.tasks.push(TaskSummary {
            name,
            group: task.group.clone(),
            licence: task.licence.clone(),
            conversations: conversations as u64,
            templates_total: wordings,
            left_out: reasons,
            ..TaskSummary::default()
        });
    }
    let measured = meter.finish();
    for task in &mut summary.tasks {
        let Some(own) = measured.tasks.get(&task.name) else { continue };
        task.templates_used = own.wordings.as_ref().map_or(0, |wordings| wordings.used);
        if config.prompts != PromptMode::All {
            task.templates_total = task.templates_used;
        }
        task.diversity = told(own);
    }
    summary.diversity = told(&measured.overall);
    summary.right_options = measured.overall.right_options.map(|own| PositionSummary {
        counts: own.counts,
        chi_square: own.chi_square,
        freedom: own.freedom,
        p: own.p,
    });
    let uses = measured.overall.wordings.map(|wordings| wordings.uses).unwrap_or_default();
    for bank in banks.iter().filter(|bank| named.contains(&bank.name)) {
        for template in &bank.templates {
            let uses = uses.get(&format!("{}/{}", bank.name, template.id)).copied().unwrap_or(0);
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

fn told(own: &Diversity) -> DiversitySummary {
    DiversitySummary {
        entropy_bits: own.wordings.as_ref().map_or(0.0, |wordings| wordings.entropy_bits),
        distinct_1: own.distinct_1,
        distinct_2: own.distinct_2,
        self_bleu: own.self_bleu,
        repeated: own.repeated_instructions,
        answer_p50: own.answer_words.p50,
        answer_p90: own.answer_words.p90,
        answer_max: own.answer_words.max,
    }
}

/// Shorter side of the images of a conversation in the page, in pixels.
const THUMBNAIL_SIDE: u32 = 160;

fn sample(conversation: &Conversation, pictures: &lynxdata_datasets::Pictures) -> Result<ConversationSample> {
    let mut images = Vec::new();
    for image in &conversation.images {
        let picture = pictures.read(&image.path)?.and_then(|bytes| thumbnail(bytes, THUMBNAIL_SIDE));
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
