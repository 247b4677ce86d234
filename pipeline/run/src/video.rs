//! Videos as folders of frames.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Suffixes of files that count as frames.
const SUFFIXES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"];

/// Returns the files of the frames of a video in order: those of the folder `path` below `root` or,
/// if `path` names a file such as `v.mp4`, of the folder `v` beside it. Returns `None` if there is
/// no such folder, or no frame in it.
///
/// Frames are ordered by name, and numbers at the end of names by their value.
///
/// # Errors
/// If a folder cannot be read.
pub fn frames(root: &Path, path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let whole = root.join(path);
    let Some(folder) = [whole.clone(), whole.with_extension("")].into_iter().find(|folder| folder.is_dir()) else {
        return Ok(None);
    };
    let failed = || format!("cannot read {}", folder.display());
    let entries = std::fs::read_dir(&folder).with_context(failed)?.collect::<std::io::Result<Vec<_>>>();
    let is_frame = |path: &PathBuf| {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_lowercase();
        SUFFIXES.contains(&suffix.as_str())
    };
    let mut files: Vec<PathBuf> =
        entries.with_context(failed)?.into_iter().map(|entry| entry.path()).filter(is_frame).collect();
    files.sort_by_cached_key(|path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let before = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number: Option<u128> = name[before.len()..].parse().ok();
        (before.to_owned(), number, name)
    });
    Ok(Some(files).filter(|files| !files.is_empty()))
}

/// Returns which of `of` frames represent a video in `frames` ones: the first frame of each of
/// `frames` parts of equal length, as Lynx does for evaluation. If there are fewer frames, some are
/// repeated.
pub fn spread(of: usize, frames: usize) -> impl Iterator<Item = usize> {
    (0..frames).map(move |place| place * of / frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_spread_evenly() {
        let all = |of, frames| spread(of, frames).collect::<Vec<_>>();
        assert_eq!(all(10, 5), [0, 2, 4, 6, 8]);
        assert_eq!(all(12, 5), [0, 2, 4, 7, 9]);
        assert_eq!(all(2, 5), [0, 0, 0, 1, 1]);
    }

    #[test]
    fn frames_are_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("v")).unwrap();
        for name in ["frame10.png", "frame9.PNG", "frame1.png", "notes.txt"] {
            std::fs::write(root.join("v").join(name), "").unwrap();
        }
        let names = |path: &str| {
            let found = frames(root, Path::new(path)).unwrap()?;
            Some(found.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>())
        };
        let expected = Some(["frame1.png", "frame9.PNG", "frame10.png"].map(str::to_owned).to_vec());
        assert_eq!((names("v"), names("v.mp4")), (expected.clone(), expected));
        assert_eq!(names("w.mp4"), None);
    }
}
