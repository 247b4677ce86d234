//! Pictures of a task, as bytes.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};

use crate::{Error, Result};

/// The bytes of a picture below `folder`, or `None` if there is no such file.
///
/// # Errors
/// If the file is there but cannot be read.
pub fn read_picture(folder: &Path, path: &str) -> Result<Option<Vec<u8>>> {
    let file = folder.join(path);
    match fs::read(&file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(Error::Io { path: file, source }),
    }
}

/// Whether a path from native data stays inside the folder that it is joined to.
pub(crate) fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\\')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_picture_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.jpg"), "x").unwrap();
        assert_eq!(read_picture(folder.path(), "a.jpg").unwrap().as_deref(), Some(b"x".as_slice()));
        assert_eq!(read_picture(folder.path(), "b.jpg").unwrap(), None);
        assert_eq!(read_picture(folder.path(), "a.jpg/b.jpg").unwrap(), None);
    }

    #[test]
    fn paths_that_leave_the_folder_are_recognised() {
        assert!(stays_inside("train2014/a.jpg") && stays_inside("./x.png"));
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a\\..\\x"] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
