//! The benchmarks that conversations of stage `instruct` must not contain, including held-out
//! splits of the tasks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use lynxdata_budgets::{
    Comparison, Hit, Likeness, Picture, Reference, References, Turn, picture_hash, reference_files,
};
use lynxdata_datasets::{
    Catalogue, Collections, Conversation, Pictures, Record, Records, Role, SlotValue, VISUAL_GENOME,
};
use lynxdata_records::file_digest;
use rayon::prelude::*;
use tracing::warn;

use super::folder_digest;
use crate::recipe::{DecontaminateConfig, InstructConfig, LoadedRecipe};
use crate::stage::settings_text;

/// Substrings in the names of held-out splits.
const HELD_OUT: &[&str] = &["val", "dev", "test"];

/// The benchmarks of a recipe, read on first use.
pub(super) struct Benchmarks<'a> {
    config: &'a DecontaminateConfig,
    folder: &'a Path,
    catalogue: &'a Catalogue,
    splits: Vec<HeldOut>,
    references: OnceLock<References>,
}

/// A split of a task that the recipe does not use.
struct HeldOut {
    task: String,
    root: PathBuf,
    images: PathBuf,
    split: String,
    files: Vec<PathBuf>,
}

/// The matches of a conversation with benchmarks.
pub(super) struct Likenesses {
    /// The first hit of each kind.
    pub(super) hits: Vec<Hit>,
    /// The match for which it is left out.
    pub(super) dropped_for: Option<Hit>,
}

/// Returns the reason of a hit in counts.
pub(super) fn reason(hit: &Hit) -> &'static str {
    match hit.by {
        Likeness::ImageId => "contaminated:image_id",
        Likeness::ImageHash => "contaminated:image_hash",
        Likeness::Question => "contaminated:question",
    }
}

/// Returns a hit as readable text.
pub(super) fn told(hit: &Hit, conversation: &Conversation) -> String {
    let against = hit.against_id.as_ref().map_or_else(|| format!("row {}", hit.against_row), Clone::clone);
    format!("{} is like {against} of {}: {}", conversation.id, hit.against_file, hit.evidence)
}

/// Returns the bytes of the image at a path, if it exists.
type ReadPicture<'a> = dyn Fn(&str) -> lynxdata_datasets::Result<Option<Vec<u8>>> + Sync + 'a;

impl<'a> Benchmarks<'a> {
    /// Returns the benchmarks that a recipe names, if any.
    pub(super) fn of(loaded: &'a LoadedRecipe, catalogue: &'a Catalogue) -> Result<Option<Self>> {
        let instruct = loaded.recipe.instruct.as_ref();
        let Some((instruct, config)) = instruct.and_then(|own| Some((own, own.decontaminate.as_ref()?))) else {
            return Ok(None);
        };
        let splits = if config.held_out_splits { held_out(loaded, instruct, catalogue)? } else { Vec::new() };
        Ok(Some(Self { config, folder: &loaded.folder, catalogue, splits, references: OnceLock::new() }))
    }

    fn against(&self) -> Vec<PathBuf> {
        self.config.against.iter().map(|path| self.folder.join(path)).collect()
    }

    /// Adds the inputs of a part that is compared with them.
    pub(super) fn add_inputs(&self, inputs: &mut Vec<String>) -> Result<()> {
        inputs.push(settings_text(self.config));
        if let Some(images) = self.config.images.as_ref().filter(|_| self.config.hash_distance.is_some()) {
            folder_digest::add(&self.folder.join(images), inputs)?;
        }
        for path in self.against() {
            for file in reference_files(&path)? {
                inputs.push(file_digest(&file)?);
            }
        }
        for held_out in &self.splits {
            inputs.push(format!("{} {}", held_out.task, held_out.split));
            for file in held_out.files.iter().filter(|file| file.is_file()) {
                inputs.push(file_digest(file)?);
            }
        }
        Ok(())
    }

    /// Returns the matches of each conversation with benchmarks, computed on all cores; `picture`
    /// returns the bytes of an image.
    pub(super) fn likenesses(&self, conversations: &[Conversation], picture: &ReadPicture) -> Result<Vec<Likenesses>> {
        if self.references.get().is_none() {
            // Another thread may have been faster; both read the same.
            drop(self.references.set(self.read()?));
        }
        let references = self.references.get().context("the benchmarks were just read; this is a bug")?;
        let of = |conversation: &Conversation| {
            let source = (conversation.source_file.as_str(), conversation.source_row);
            let mut read = as_read(conversation);
            if self.config.hash_distance.is_some() {
                for (image, own) in conversation.images.iter().zip(&mut read.pictures) {
                    own.bytes = picture(&image.path)?;
                }
            }
            let mut hits = references.hits(source.0, source.1, &read, Path::new(""));
            hits.sort_by_key(|hit| hit.by);
            hits.dedup_by_key(|hit| hit.by);
            let is_dropped = |hit: &&Hit| self.config.drop.contains(&hit.by.into());
            Ok(Likenesses { dropped_for: hits.iter().find(is_dropped).cloned(), hits })
        };
        conversations.par_iter().map(of).collect()
    }

    fn read(&self) -> Result<References> {
        let comparison = Comparison {
            words: self.config.words,
            hash_distance: self.config.hash_distance,
            images: None,
            against_images: self.config.images.as_ref().map(|images| self.folder.join(images)),
            visual_genome_tasks: Collections::shipped()?.tasks_with_ids(self.catalogue, VISUAL_GENOME),
        };
        let mut references = Vec::new();
        for held_out in &self.splits {
            let task = self.catalogue.get(&held_out.task)?;
            let name = format!("{}-{}", held_out.task, held_out.split);
            let records = Records::start(task, &held_out.root, &held_out.split)
                .map(|records| records.with_images(&held_out.images));
            let records = records.and_then(Iterator::collect::<lynxdata_datasets::Result<Vec<Record>>>);
            match records {
                Ok(records) => {
                    let mut hashes = Hashes::new(&held_out.images);
                    for record in &records {
                        let hashes = comparison.hash_distance.map(|_| hashes.of(record));
                        references.push(reference(&name, &held_out.task, record, hashes.unwrap_or_default()));
                    }
                }
                // A split that cannot be read should not stop the stage.
                Err(error) => warn!("conversations are not compared with {name}: {error}"),
            }
        }
        let references = References::gather(&comparison, &self.against(), &mut references.into_iter())
            .context("in instruct.decontaminate")?;
        let (unreadable, incomparable) = (references.unreadable(), references.incomparable());
        if unreadable + incomparable > 0 {
            warn!(
                references = references.len(),
                unreadable,
                incomparable,
                "some references of benchmarks are compared with nothing: they cannot be read, or have neither an \
                 image that is known by name or pHash nor a question of enough words with an answer"
            );
        }
        let without_hash = references.without_hash();
        if without_hash > 0 {
            warn!(
                pictures = without_hash,
                "images of benchmarks are missing, broken or flat drawings, so nothing is compared with them by pHash"
            );
        }
        Ok(references)
    }
}

/// The hashes of the images of a held-out split. Each is computed once, because several questions
/// may be about one image.
struct Hashes {
    pictures: Pictures,
    known: HashMap<String, Option<u64>>,
}

impl Hashes {
    fn new(images: &Path) -> Self {
        Self { pictures: Pictures::of([images.to_owned()]), known: HashMap::new() }
    }

    /// Returns the hash of each image of a record; `None` if it is missing or cannot be read.
    fn of(&mut self, record: &Record) -> Vec<Option<u64>> {
        let mut hash = |path: &String| {
            let of_picture = || match record.media.embedded.get(path) {
                Some(bytes) => picture_hash(bytes),
                None => picture_hash(&self.pictures.read(path).ok()??),
            };
            *self.known.entry(path.clone()).or_insert_with(of_picture)
        };
        record.media.images.iter().map(&mut hash).collect()
    }
}

/// Returns the held-out splits of the tasks of the recipe whose files are present.
fn held_out(loaded: &LoadedRecipe, instruct: &InstructConfig, catalogue: &Catalogue) -> Result<Vec<HeldOut>> {
    let mut found: Vec<HeldOut> = Vec::new();
    for source in &instruct.tasks {
        let task = catalogue.get(&source.name)?;
        let root = loaded.folder.join(&source.root);
        for split in task.splits.keys() {
            let is_used = instruct.tasks.iter().any(|own| own.name == source.name && own.split == *split);
            let is_found = found.iter().any(|own| own.task == source.name && own.split == *split && own.root == root);
            if is_used || is_found || !HELD_OUT.iter().any(|mark| split.to_lowercase().contains(mark)) {
                continue;
            }
            let Ok(files) = task.native_files(&root, split) else { continue };
            found.push(HeldOut {
                task: source.name.clone(),
                images: source.images.as_ref().map_or(root.clone(), |images| loaded.folder.join(images)),
                root: root.clone(),
                split: split.clone(),
                files,
            });
        }
    }
    Ok(found)
}

/// Returns a record for the comparison: its texts as one question, and all of its answers.
fn reference(file: &str, task: &str, record: &Record, hashes: Vec<Option<u64>>) -> Reference {
    let texts = record.slots.values().map(|slot| match slot {
        SlotValue::Text(text) => text.clone(),
        SlotValue::List(texts) => texts.join(" "),
    });
    let question = texts.collect::<Vec<_>>().join(" ");
    let own = &record.answers;
    let mut answers: Vec<String> = own.texts.values().chain(&own.captions).cloned().collect();
    answers.extend(own.votes.iter().map(|(text, _)| text.clone()));
    answers.extend(own.options.iter().map(|options| options.texts[options.right].clone()));
    let mut questions: Vec<(String, Vec<String>)> =
        own.turns.iter().map(|(question, answer)| (question.clone(), vec![answer.clone()])).collect();
    questions.push((question, answers));
    Reference {
        file: file.to_owned(),
        row: record.source_row,
        task: Some(task.to_owned()),
        id: Some(record.id.clone()),
        questions,
        images: record.media.images.clone(),
        hashes,
    }
}

/// Returns a conversation in the form that the comparison reads.
fn as_read(conversation: &Conversation) -> lynxdata_budgets::Conversation {
    let role = |role: Role| match role {
        Role::System => lynxdata_budgets::Role::System,
        Role::User => lynxdata_budgets::Role::User,
        Role::Assistant => lynxdata_budgets::Role::Assistant,
    };
    let turns = conversation.messages.iter().map(|own| Turn { role: role(own.role), text: own.content.clone() });
    let pictures =
        conversation.images.iter().map(|image| Picture { path: Some(image.path.clone()), ..Picture::default() });
    lynxdata_budgets::Conversation {
        id: Some(conversation.id.clone()),
        turns: turns.collect(),
        pictures: pictures.collect(),
        ..lynxdata_budgets::Conversation::default()
    }
}
