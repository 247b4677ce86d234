//! Symbolic links in the folder of a source.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Decides which symbolic links are followed.
pub(super) struct Links {
    /// Whether links may lead anywhere.
    pub(super) all: bool,
    /// The folder, with all links resolved.
    pub(super) root: PathBuf,
    /// Folders that link targets may be in.
    allowed: Vec<PathBuf>,
}

impl Links {
    /// Returns the rules for the links of a source folder. Links may lead into the folder itself,
    /// and into a folder `blobs` beside it or beside a parent folder `snapshots`, as in the cache
    /// of `huggingface_hub`. If `all` is set, they may lead anywhere.
    pub(super) fn of(root: &Path, all: bool) -> io::Result<Links> {
        let root = root.canonicalize()?;
        let snapshots = root.ancestors().filter(|folder| folder.file_name() == Some(OsStr::new("snapshots")));
        let blobs = [root.as_path()].into_iter().chain(snapshots).map(|folder| folder.with_file_name("blobs"));
        let blobs = blobs.filter_map(|blobs| blobs.canonicalize().ok());
        Ok(Links { all, allowed: [root.clone()].into_iter().chain(blobs).collect(), root })
    }

    /// Returns the target of a link and its metadata, or the reason why the link is not followed.
    pub(super) fn follow(&self, path: &Path) -> std::result::Result<(PathBuf, Metadata), &'static str> {
        let nowhere = "is a symbolic link that leads nowhere";
        let target = path.canonicalize().map_err(|_| nowhere)?;
        if !self.all && !self.allowed.iter().any(|folder| target.starts_with(folder)) {
            return Err("is a symbolic link out of the folder, which is not followed; `follow_links` in [source] \
                        (--set source.follow_links=true) follows it");
        }
        let metadata = fs::metadata(&target).map_err(|_| nowhere)?;
        Ok((target, metadata))
    }
}
