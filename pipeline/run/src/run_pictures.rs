//! Finds the images of the conversations that a run wrote, which stay in the folders of their
//! tasks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lynxdata_datasets::Pictures;
use lynxdata_records::{Manifest, PartEntry, RunFolder};

use crate::recipe::{self, RESOLVED_RECIPE};
use crate::stage::Stage as _;
use crate::stages::instruct::{Instruct, parts_of};
use crate::stages::mixture;
use crate::stages::task_pictures::committed;

/// The images of all conversations of a run.
#[derive(Debug)]
pub struct RunPictures {
    /// The real path of the run folder.
    root: PathBuf,
    /// The images of each part of stage `instruct`.
    parts: HashMap<String, Pictures>,
    /// The reason why images of some tasks cannot be found.
    note: Option<String>,
}

impl RunPictures {
    /// Returns the images of the run that contains a path; `None` outside of runs.
    ///
    /// # Errors
    /// If the manifest or the recipe in the run folder cannot be read.
    pub fn around(path: &Path) -> Result<Option<RunPictures>> {
        let Ok(path) = path.canonicalize() else { return Ok(None) };
        let Some(root) = path.ancestors().find(|folder| RunFolder::is_at(folder)) else { return Ok(None) };
        let resolved = root.join(RESOLVED_RECIPE);
        if !resolved.is_file() {
            return Ok(None);
        }
        let manifest = Manifest::read(root)?;
        let failed = || format!("cannot find the images of the run {}; --images names their folder", root.display());
        let recipe = recipe::load(&resolved, &[]).with_context(failed)?.recipe;
        let Some(instruct) = recipe.instruct else { return Ok(None) };
        let of_recipe = folder_of_recipe(root, &recipe.output);
        let entries: Vec<PartEntry> = manifest.parts(Instruct.name()).cloned().collect();
        let (mut parts, mut unknown) = (HashMap::new(), Vec::new());
        for source in &instruct.tasks {
            let folder = source.images.as_ref().unwrap_or(&source.root);
            let folder = if folder.is_absolute() {
                Some(folder.clone())
            } else {
                of_recipe.as_ref().map(|of_recipe| of_recipe.join(folder))
            };
            unknown.extend(folder.is_none().then(|| source.set_name()));
            for part in parts_of(source, &entries) {
                let folder = folder.clone().unwrap_or_else(|| root.to_owned());
                parts.insert(part.part.clone(), committed(root, &part.part, folder));
            }
        }
        let note = (!unknown.is_empty()).then(|| {
            let tasks = unknown.join(", ");
            format!("the image folders of {tasks} are relative to the recipe, whose folder the run does not know; use --images")
        });
        Ok(Some(RunPictures { root: root.to_owned(), parts, note }))
    }

    /// Returns why images of some tasks cannot be found, if that is so.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Returns the bytes of the image that a file of conversations of the run names; `None` if it
    /// does not exist, cannot be read, or the file is not one of the run.
    pub fn read(&self, file: &Path, image: &str) -> Option<Vec<u8>> {
        let file = file.canonicalize().ok()?;
        let below = file.strip_prefix(&self.root).ok()?;
        let (name, image) = if below.starts_with(mixture::FOLDER) {
            image.split_once('/')?
        } else {
            (file.file_stem()?.to_str()?, image)
        };
        self.parts.get(name)?.read(image).ok()?
    }
}

/// Returns the folder of the recipe of a run, from where its relative `output` leads to the run.
fn folder_of_recipe(root: &Path, output: &Path) -> Option<PathBuf> {
    let output = output.strip_prefix(".").unwrap_or(output);
    if output.is_absolute() || !root.ends_with(output) {
        return None;
    }
    root.ancestors().nth(output.components().count()).map(Path::to_owned)
}
