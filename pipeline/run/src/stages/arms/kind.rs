//! Detects what the folder of an arm contains.

use crate::stage::Stage;
use crate::stages::download::Download;
use crate::stages::instruct::Instruct;
use crate::stages::mixture::Mixture;
use crate::stages::select::Select;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use lynxdata_records::{Manifest, PartEntry, RunFolder, parquet, schema};

use super::conversations;
use crate::pool::{Place, Pool};
use crate::stages::{folder_digest, select};
use crate::table;

/// The kind of a folder's content.
pub(super) enum Kind {
    /// The pool of a run, or the pairs that a selection keeps.
    Pool { files: Vec<PathBuf>, kept: Option<Vec<Place>> },
    /// Anything that a source may be: images with captions beside them, tar files, Parquet with
    /// images.
    Pictures { path: PathBuf },
    /// Conversations, in Parquet files or in JSON files with a folder of images.
    Conversations { files: Vec<PathBuf>, pictures: PathBuf },
}

/// Detects what a folder is: a run, its pool, a selection or the conversations of a run, other
/// conversations, or images.
pub(super) fn of(path: &Path) -> Result<Kind> {
    if !path.exists() {
        bail!("{} does not exist", path.display());
    }
    let parent = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    let path = &path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if RunFolder::is_at(path) {
        let manifest = Manifest::read(path)?;
        return match (manifest.parts(Download.name()).next(), manifest.parts(Instruct.name()).next()) {
            (Some(_), _) => pool(path, &manifest, None),
            (None, Some(_)) => instructions(path, &manifest, &Instruct),
            (None, None) => bail!("run {} has neither a pool nor conversations yet", path.display()),
        };
    }
    let (run, above) = (parent(path), parent(&parent(path)));
    if RunFolder::is_at(&run) && name == schema::pool().name {
        return pool(&run, &Manifest::read(&run)?, None);
    }
    let of_conversations: [&dyn Stage; 2] = [&Instruct, &Mixture];
    if let Some(stage) = of_conversations.into_iter().find(|stage| stage.name() == name)
        && RunFolder::is_at(&run)
    {
        return instructions(&run, &Manifest::read(&run)?, stage);
    }
    if RunFolder::is_at(&above) && run.ends_with(schema::selection().name) {
        return pool(&above, &Manifest::read(&above)?, Some(name));
    }
    let (files, others) = conversation_files(path)?;
    if files.is_empty() {
        let is_json = |file: &PathBuf| file.extension().is_some_and(|suffix| suffix == "json" || suffix == "jsonl");
        if others.iter().all(is_json) {
            // There is nothing else to read, so an error in these files is the error to report.
            others.iter().try_for_each(|file| conversations::values(file).map(drop))?;
        }
        return Ok(Kind::Pictures { path: path.clone() });
    }
    let pictures = if path.is_dir() { path.clone() } else { run };
    Ok(Kind::Conversations { files, pictures })
}

fn pool(run: &Path, manifest: &Manifest, selection: Option<&str>) -> Result<Kind> {
    let downloads: Vec<PartEntry> = manifest.parts(Download.name()).cloned().collect();
    let files = downloads.iter().map(|part| table::file_below(run, part, schema::pool().name));
    let files = files.collect::<Result<Vec<_>>>().with_context(|| {
        format!(
            "the pool of {} is not a table; a check reads only pools with download.format = \"parquet\"",
            run.display()
        )
    })?;
    let Some(selection) = selection else { return Ok(Kind::Pool { files, kept: None }) };
    let selections: Vec<PartEntry> = manifest.parts(Select.name()).cloned().collect();
    let selected = select::files(&selections, selection, &Pool::of_pairs(downloads))?;
    let kept = select::kept(selected.iter().map(|file| Ok(run.join(&file.path))))?;
    Ok(Kind::Pool { files, kept: Some(kept) })
}

/// Returns the conversations of a stage of a run with their images, from the format `parquet`;
/// every format has all conversations.
fn instructions(run: &Path, manifest: &Manifest, stage: &dyn Stage) -> Result<Kind> {
    let format = format!("{}/parquet", stage.name());
    let files = manifest.parts(stage.name()).flat_map(|part| &part.files);
    let files: Vec<PathBuf> =
        files.filter(|file| file.path.starts_with(&format)).map(|file| run.join(&file.path)).collect();
    if files.is_empty() {
        bail!("run {} has no conversations in Parquet; add \"parquet\" to instruct.formats", run.display());
    }
    Ok(Kind::Conversations { files, pictures: run.to_owned() })
}

/// Returns the files of conversations at a path (Parquet with messages, or JSON in the format of
/// LLaVA), and the other files.
fn conversation_files(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut files = if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let entries = entries.collect::<std::io::Result<Vec<_>>>();
        let entries = entries.with_context(|| format!("cannot read {}", path.display()))?;
        entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
    } else {
        vec![path.to_owned()]
    };
    files.sort();
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for file in files {
        let suffix = file.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let is_one = match suffix {
            "parquet" => parquet::schema(&file)?.column_with_name(conversations::MESSAGES.name).is_some(),
            "json" | "jsonl" => conversations::begins_as_conversations(&file)?,
            _ => false,
        };
        if is_one {
            found.push(file);
        } else {
            others.push(file);
        }
    }
    Ok((found, others))
}

impl Kind {
    /// Returns everything that the pairs read from it depend on.
    pub(super) fn inputs(&self) -> Result<Vec<String>> {
        let mut inputs = Vec::new();
        match self {
            Kind::Pool { files, kept } => {
                add_files(files, &mut inputs)?;
                inputs.push(format!("{kept:?}"));
            }
            Kind::Pictures { path } if path.is_file() => add_files(std::slice::from_ref(path), &mut inputs)?,
            Kind::Pictures { path } => folder_digest::add(path, &mut inputs)?,
            Kind::Conversations { files, pictures } => {
                add_files(files, &mut inputs)?;
                if files.iter().any(|file| file.extension().is_some_and(|suffix| suffix != "parquet")) {
                    folder_digest::add(pictures, &mut inputs)?;
                }
            }
        }
        Ok(inputs)
    }
}

/// Adds names, sizes and modification times.
fn add_files(files: &[PathBuf], inputs: &mut Vec<String>) -> Result<()> {
    for file in files {
        let failed = || format!("cannot read {}", file.display());
        let metadata = std::fs::metadata(file).with_context(failed)?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |time| time.as_nanos());
        inputs.push(format!("{} {} {modified}", file.display(), metadata.len()));
    }
    Ok(())
}
