//! Runs whose output is an object store: they work in a local folder, which is mirrored there part by part.
//!
//! One part after the other is committed and uploaded, its files before the manifest that speaks of it, so that what the manifest in the store says is
//! there is there. What a process committed but did not upload before it ended, the next one uploads first. A machine without the local folder gets it
//! from the store and goes on. One process at a time may write to a place in a store; nothing there keeps a second one
//! out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use lynxdata_fetch::objects::{self, Location, Settings};
use lynxdata_records::{FileEntry, Manifest, PartEntry, RunFolder};

/// The name of the manifest, see [`RunFolder`].
const MANIFEST: &str = "manifest.jsonl";

/// A place in an object store that has what the run folder has.
pub(crate) struct Mirror {
    url: String,
    settings: Settings,
    /// Held from the commit of a part until it is uploaded, so that no manifest in the store speaks of a part that is still on its way.
    turn: Mutex<()>,
}

/// The local folder of a run whose output is a URL: its last component, and a digest of the whole.
pub(crate) fn local_folder(output: &Path) -> Option<PathBuf> {
    let url = output.to_str().filter(|_| objects::is_url(output))?.trim_end_matches('/');
    let name = url.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("run");
    Some(PathBuf::from(format!("{name}-{}", &lynxdata_records::fingerprint([url])[..8])))
}

impl Mirror {
    /// The mirror of a run with this output; `None` if that is a local folder.
    pub(crate) fn of(output: &Path) -> Option<Mirror> {
        let url = output.to_str().filter(|_| objects::is_url(output))?.trim_end_matches('/').to_owned();
        Some(Mirror { url, settings: Settings::from_environment(), turn: Mutex::default() })
    }

    /// The place of a file or folder of the run; of the run itself if `path` is empty.
    fn at(&self, path: &str) -> Result<Location> {
        let slash = if path.is_empty() { "" } else { "/" };
        Ok(Location::open(&format!("{}{slash}{path}", self.url), &self.settings)?)
    }

    /// Waits until no other part is being committed and uploaded.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads the parts that were committed here and of which the store does not know.
    pub(crate) async fn catch_up(&self, run: &RunFolder) -> Result<()> {
        let location = self.at(MANIFEST)?;
        let there = match location.head().await? {
            None => Manifest::default(),
            Some(manifest) => {
                let aside = run.temporary_folder().join("mirrored");
                create_folder(&aside)?;
                location.get(&manifest, &aside.join(MANIFEST)).await?;
                Manifest::read(&aside)?
            }
        };
        for part in run.manifest().all_parts() {
            let known = there.part(&part.stage, &part.part);
            if known.is_none_or(|known| known.fingerprint != part.fingerprint || known.files != part.files) {
                self.upload(run, part).await?;
            }
        }
        if run.manifest().all_parts().next().is_some() { self.publish_manifest(run).await } else { Ok(()) }
    }

    /// Makes the local folder of a run that was begun on another machine.
    pub(crate) async fn restore(&self, folder: &Path) -> Result<()> {
        if folder.join(MANIFEST).exists() {
            return Ok(());
        }
        let location = self.at(MANIFEST)?;
        let Some(manifest) = location.head().await? else { return Ok(()) };
        tracing::info!("getting the run from {}", self.url);
        let aside = folder.with_extension("restoring");
        create_folder(&aside)?;
        location.get(&manifest, &aside.join(MANIFEST)).await?;
        for part in Manifest::read(&aside)?.all_parts() {
            for file in &part.files {
                self.get(file, &aside).await?;
            }
        }
        if folder.exists() {
            std::fs::remove_dir(folder).with_context(|| format!("{} is in the way of the run", folder.display()))?;
        }
        std::fs::rename(&aside, folder).with_context(|| format!("cannot move {} into place", aside.display()))
    }

    async fn get(&self, file: &FileEntry, folder: &Path) -> Result<()> {
        let target = folder.join(&file.path);
        let location = self.at(&file.path)?;
        let parent = target.parent().context("a file of a run lies in a folder")?;
        if let Some(object) = location.head().await? {
            create_folder(parent)?;
            return Ok(location.get(&object, &target).await?);
        }
        // A folder of files.
        create_folder(&target)?;
        for object in location.list().await? {
            location.get(&object, &target.join(&object.name)).await?;
        }
        Ok(())
    }

    /// Uploads a part that was committed, and the manifest that speaks of it.
    pub(crate) async fn publish(&self, run: &RunFolder, part: &PartEntry) -> Result<()> {
        self.upload(run, part).await?;
        self.publish_manifest(run).await
    }

    async fn upload(&self, run: &RunFolder, part: &PartEntry) -> Result<()> {
        let store = self.at("")?;
        for file in &part.files {
            let path = run.root().join(&file.path);
            if !path.is_dir() {
                store.put(&path, &file.path).await?;
                continue;
            }
            let names = names_in(&path)?;
            for name in &names {
                store.put(&path.join(name), &format!("{}/{name}", file.path)).await?;
            }
            // An earlier part of the same name may have had other files.
            for object in self.at(&file.path)?.list().await? {
                if !names.contains(&object.name) {
                    self.at(&format!("{}/{}", file.path, object.name))?.delete().await?;
                }
            }
        }
        Ok(())
    }

    /// Uploads the manifest as it is now.
    pub(crate) async fn publish_manifest(&self, run: &RunFolder) -> Result<()> {
        self.at("")?.put(&run.root().join(MANIFEST), MANIFEST).await?;
        Ok(())
    }

    /// Uploads a file that is no part, such as the recipe.
    pub(crate) async fn keep(&self, run: &RunFolder, name: &str) -> Result<()> {
        self.at("")?.put(&run.root().join(name), name).await?;
        Ok(())
    }

    /// Removes files that the run no longer has, after a manifest that does not speak of them was uploaded.
    pub(crate) async fn remove(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            let location = self.at(path)?;
            match location.head().await? {
                Some(_) => location.delete().await?,
                None => {
                    for object in location.list().await? {
                        self.at(&format!("{path}/{}", object.name))?.delete().await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The names of the files of a folder.
fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let cannot_list = || format!("cannot list {}", folder.display());
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).with_context(cannot_list)? {
        let name = entry.with_context(cannot_list)?.file_name();
        names.insert(name.to_str().context("the files of a part have plain names")?.to_owned());
    }
    Ok(names)
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
