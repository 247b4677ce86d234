//! Runs whose output is in an object store: they work in a local folder, which is mirrored to the
//! store part by part.
//!
//! Each part is committed and uploaded before the next one, and its files before the manifest that
//! lists it, so everything that the manifest in the store lists is in the store. A manifest only
//! grows. If two of them differ, either one is ahead or both have diverged. A process starts by
//! comparing them: it uploads what was committed here but not uploaded, downloads what only the
//! store has, and refuses to run if both have diverged. While it runs, it replaces the manifest
//! only if that is still the version that it wrote last. So if two processes write, one of them
//! notices and stops.
//!
//! Files that the run no longer has are removed after the manifest without them is in the store.
//! The list of these files is in the store meanwhile. If a process is stopped in between, the next
//! one removes the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use lynxdata_fetch::objects::{self, Location, Object, Settings};
use lynxdata_records::{FileEntry, Manifest, PartEntry, RunFolder};

/// The name of the manifest, see [`RunFolder`].
const MANIFEST: &str = "manifest.jsonl";

/// The name of the list of files that are being removed: a JSON list of paths.
const BEING_REMOVED: &str = "being-removed.json";

/// A location in an object store that mirrors the run folder.
pub struct Mirror {
    url: String,
    /// The URL for messages, without a password.
    shown: String,
    settings: Settings,
    /// The manifest in the store, as this process last read or wrote it. Locked from the commit of
    /// a part until its upload, so that no manifest in the store lists a part that is still being
    /// uploaded.
    manifest: Mutex<Option<Object>>,
}

/// The lock for committing and uploading.
pub type Turn<'a> = MutexGuard<'a, Option<Object>>;

/// Returns the local folder of a run whose output is a URL: the last component of the URL and a
/// digest of the whole URL.
pub fn local_folder(output: &Path) -> Option<PathBuf> {
    let url = output.to_str().filter(|_| objects::is_url(output))?.trim_end_matches('/');
    let shown = objects::shown(url);
    let name = shown.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("run");
    Some(PathBuf::from(format!("{name}-{}", &lynxdata_records::fingerprint([url])[..8])))
}

impl Mirror {
    /// Returns the mirror of a run with this output; `None` if the output is a local folder.
    pub fn of(output: &Path) -> Option<Mirror> {
        let url = output.to_str().filter(|_| objects::is_url(output))?.trim_end_matches('/').to_owned();
        let shown = objects::shown(&url);
        Some(Mirror { url, shown, settings: Settings::from_environment(), manifest: Mutex::default() })
    }

    /// Returns the location of a file or folder of the run; of the run itself if `path` is empty.
    fn at(&self, path: &str) -> Result<Location> {
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Location::open(&format!("{}{slash}{path}", self.url), &self.settings)?)
    }

    /// Waits until no other part is being committed and uploaded.
    pub fn turn(&self) -> Turn<'_> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the local folder and the store equal by copying to each the parts that only the other
    /// one has.
    pub async fn meet(&self, run: &RunFolder, turn: &mut Turn<'_>) -> Result<()> {
        let place = self.at(MANIFEST)?;
        **turn = place.head().await?;
        let there = match &**turn {
            Some(object) => place.read(object).await?,
            None => Vec::new(),
        };
        let manifest = Manifest::of_lines(&there, Path::new(place.url()))?;
        self.finish_removing(&manifest).await?;
        let here = run.manifest_lines()?;
        if here == there {
            return Ok(());
        }
        if here.starts_with(&there) {
            let kept = run.manifest();
            for part in missing(&kept, &manifest) {
                self.upload(run, part).await?;
            }
            self.publish_manifest(run, &paths_not_in(manifest.all_parts().flat_map(PartEntry::paths), &kept), turn)
                .await
        } else if there.starts_with(&here) {
            tracing::info!("copying the parts that {} has and this machine does not have", self.shown);
            let folder = run.temporary_folder().join("mirrored");
            let mut files = Vec::new();
            for file in missing(&manifest, &run.manifest()).flat_map(|part| &part.files) {
                let copy = folder.join(&file.path);
                if self.get(file, &copy).await? {
                    files.push((copy, file.path.clone()));
                } else {
                    tracing::warn!(
                        "{}: {} does not match the manifest there, so its part is made again",
                        self.shown,
                        file.path
                    );
                    run.forget_file(&file.path)?;
                }
            }
            Ok(run.take_over(&there, &files)?)
        } else {
            bail!(
                "{folder} and {url} both have parts that the other does not have\nhint: remove {folder} to continue from the store; to keep the local \
                 parts instead, choose another output",
                folder = run.root().display(),
                url = self.shown
            )
        }
    }

    /// Copies into a folder the manifest, the existing files named in `beside`, and the files of
    /// parts whose paths are `wanted`.
    pub async fn copy(&self, folder: &Path, beside: &[&str], wanted: impl Fn(&str) -> bool) -> Result<()> {
        let place = self.at(MANIFEST)?;
        let Some(object) = place.head().await? else { return Err(place.missing().await.into()) };
        place.get(&object, &folder.join(MANIFEST)).await?;
        for name in beside {
            let place = self.at(name)?;
            if let Some(object) = place.head().await? {
                place.get(&object, &folder.join(name)).await?;
            }
        }
        for file in Manifest::read(folder)?.all_parts().flat_map(|part| &part.files).filter(|file| wanted(&file.path)) {
            if !self.get(file, &folder.join(&file.path)).await? {
                bail!(
                    "{} in {} does not match the manifest there\nhint: a process was stopped while it uploaded a part that it had made again; run the \
                     same command there to continue",
                    file.path,
                    self.shown
                );
            }
        }
        Ok(())
    }

    /// Gets a file, or a folder of files. Returns false if its content does not match the manifest:
    /// a process that makes a part again uploads its files before the manifest, and may have been
    /// stopped between the two.
    async fn get(&self, file: &FileEntry, target: &Path) -> Result<bool> {
        let location = self.at(&file.path)?;
        let parent = target.parent().context("a file of a run is in a folder")?;
        if let Some(object) = location.head().await? {
            create_folder(parent)?;
            location.get(&object, target).await?;
        } else {
            create_folder(target)?;
            for (name, object) in location.list_below().await? {
                let file = target.join(name);
                create_folder(file.parent().context("a file of a folder is in it")?)?;
                location.get(&object, &file).await?;
            }
        }
        Ok(file.describes(target)?)
    }

    /// Uploads a committed part, then the manifest that lists it, and then removes the files that
    /// the run no longer has.
    pub async fn publish(
        &self,
        run: &RunFolder,
        part: &PartEntry,
        removed: &[String],
        turn: &mut Turn<'_>,
    ) -> Result<()> {
        self.upload(run, part).await?;
        self.publish_manifest(run, removed, turn).await
    }

    async fn upload(&self, run: &RunFolder, part: &PartEntry) -> Result<()> {
        let store = self.at("")?;
        for file in &part.files {
            let path = run.root().join(&file.path);
            if !path.is_dir() {
                store.put(&path, &file.path).await?;
                continue;
            }
            let mut names = BTreeSet::new();
            add_names(&path, "", &mut names)?;
            for name in &names {
                store.put(&path.join(name), &format!("{}/{name}", file.path)).await?;
            }
            // An earlier part of the same name may have had other files.
            for (name, _) in self.at(&file.path)?.list_below().await? {
                if !names.contains(&name) {
                    self.at(&format!("{}/{name}", file.path))?.delete().await?;
                }
            }
        }
        Ok(())
    }

    /// Uploads the present manifest, and then removes the files that the run no longer has.
    pub async fn publish_manifest(&self, run: &RunFolder, removed: &[String], turn: &mut Turn<'_>) -> Result<()> {
        let list = self.at(BEING_REMOVED)?;
        let begun = match removed {
            [] => true,
            _ => list.replace(&serde_json::to_vec(removed)?, None).await?.is_some(),
        };
        let manifest =
            if begun { self.at(MANIFEST)?.replace(&run.manifest_lines()?, turn.as_ref()).await? } else { None };
        let Some(manifest) = manifest else {
            bail!(
                "another process is writing to {url}, but only one may write at a time; the parts of the other process are there, and the later parts of this process are in {folder}",
                url = self.shown,
                folder = run.root().display()
            )
        };
        **turn = Some(manifest);
        if removed.is_empty() {
            return Ok(());
        }
        self.remove(removed).await?;
        Ok(list.delete().await?)
    }

    /// Removes the files that an earlier process was removing when it was stopped. Files that the
    /// manifest in the store lists stay.
    async fn finish_removing(&self, manifest: &Manifest) -> Result<()> {
        let list = self.at(BEING_REMOVED)?;
        let Some(object) = list.head().await? else { return Ok(()) };
        let paths: Vec<String> = serde_json::from_slice(&list.read(&object).await?)
            .with_context(|| format!("{} is not a list of paths", objects::shown(list.url())))?;
        let paths = paths_not_in(paths.iter().map(String::as_str), manifest);
        tracing::info!(files = paths.len(), "removing files from {} that an earlier process was removing", self.shown);
        self.remove(&paths).await?;
        Ok(list.delete().await?)
    }

    /// Uploads a file that does not belong to a part, such as the recipe.
    pub async fn keep(&self, run: &RunFolder, name: &str) -> Result<()> {
        self.at("")?.put(&run.root().join(name), name).await?;
        Ok(())
    }

    async fn remove(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            let location = self.at(path)?;
            match location.head().await? {
                Some(_) => location.delete().await?,
                None => {
                    for (name, _) in location.list_below().await? {
                        self.at(&format!("{path}/{name}"))?.delete().await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Returns the parts of one manifest that another lacks or has in another version.
fn missing<'a>(manifest: &'a Manifest, other: &Manifest) -> impl Iterator<Item = &'a PartEntry> {
    manifest.all_parts().filter(move |part| other.part(&part.stage, &part.part) != Some(part))
}

/// Returns the paths that no part of a manifest has.
fn paths_not_in<'a>(paths: impl Iterator<Item = &'a str>, manifest: &Manifest) -> Vec<String> {
    let kept: BTreeSet<&str> = manifest.all_parts().flat_map(PartEntry::paths).collect();
    paths.filter(|path| !kept.contains(path)).map(str::to_owned).collect()
}

/// Adds the paths of all files below a folder, relative to it, with `/` between folders.
fn add_names(folder: &Path, before: &str, names: &mut BTreeSet<String>) -> Result<()> {
    let cannot_list = || format!("cannot list {}", folder.display());
    for entry in std::fs::read_dir(folder).with_context(cannot_list)? {
        let entry = entry.with_context(cannot_list)?;
        let name = entry.file_name();
        let name = format!("{before}{}", name.to_str().context("the files of a part have plain names")?);
        if entry.path().is_dir() {
            add_names(&entry.path(), &format!("{name}/"), names)?;
        } else {
            names.insert(name);
        }
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_in_a_store_have_a_local_folder_of_their_own() {
        let [one, same, other] = ["s3://bucket/runs/cats", "s3://bucket/runs/cats/", "s3://other/runs/cats"]
            .map(|url| local_folder(Path::new(url)).unwrap().to_str().unwrap().to_owned());
        assert!(one.starts_with("cats-") && one.len() == "cats-".len() + 8, "{one}");
        assert!(one == same && one != other);
        assert_eq!(local_folder(Path::new("runs/cats")), None);
        assert!(Mirror::of(Path::new("runs/cats")).is_none());
    }
}
