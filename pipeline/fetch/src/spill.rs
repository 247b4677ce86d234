//! Images that wait for the rows before them, so that a part is written in the order of its source,
//! whatever the order of answers.
//!
//! They wait in memory up to a limit over all parts, and beyond it in nameless temporary files. The
//! system removes such a file when it is closed, even if the process is killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Bytes of images that may wait in memory, over all parts.
const IN_MEMORY: u64 = 8 << 20;

/// The room that all parts of a downloader share.
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    folder: PathBuf,
    in_memory: AtomicU64,
}

impl WaitingRoom {
    /// Returns an empty waiting room. Images that have no room in memory go into files in `folder`.
    pub(crate) fn new(folder: &Path) -> WaitingRoom {
        WaitingRoom { folder: folder.to_owned(), in_memory: AtomicU64::new(0) }
    }

    /// Returns the folder of the files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The waiting images of one part.
#[derive(Debug)]
pub(crate) struct Waiting {
    room: Arc<WaitingRoom>,
    file: Option<File>,
    /// Bytes in the file.
    length: u64,
    limit: u64,
}

/// The place where an image waits.
#[derive(Debug)]
pub(crate) enum Place {
    /// In memory, counted against the limit.
    Memory(Held),
    /// In the file.
    File {
        /// Offset of the first byte.
        offset: u64,
        /// Bytes.
        length: usize,
    },
}

/// Bytes in memory, counted against the limit until they are dropped.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    room: Arc<WaitingRoom>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.in_memory.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Waiting {
    pub(crate) fn new(room: Arc<WaitingRoom>) -> Waiting {
        Waiting { room, file: None, length: 0, limit: IN_MEMORY }
    }

    /// Stores an image until it is taken.
    ///
    /// # Errors
    /// [`Error::Keep`] if the file cannot be used.
    pub(crate) fn put(&mut self, bytes: Vec<u8>) -> Result<Place> {
        let count = bytes.len() as u64;
        if self.room.in_memory.fetch_add(count, Ordering::Relaxed) + count <= self.limit {
            return Ok(Place::Memory(Held { bytes, room: self.room.clone() }));
        }
        self.room.in_memory.fetch_sub(count, Ordering::Relaxed);
        self.write(&bytes).map_err(|source| Error::keep(&self.room.folder, source))?;
        let offset = self.length;
        self.length += count;
        Ok(Place::File { offset, length: bytes.len() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless_file(&self.room.folder)?),
        };
        write_at(file, bytes, self.length)
    }

    /// Returns the image at a place.
    ///
    /// # Errors
    /// [`Error::Keep`] if the file cannot be used.
    pub(crate) fn take(&self, place: Place) -> Result<Vec<u8>> {
        match place {
            Place::Memory(mut held) => {
                held.room.in_memory.fetch_sub(held.bytes.len() as u64, Ordering::Relaxed);
                Ok(std::mem::take(&mut held.bytes))
            }
            Place::File { offset, length } => {
                let mut bytes = vec![0; length];
                let file = self.file.as_ref().expect("a place in the file was given out by the file");
                read_at(file, &mut bytes, offset).map_err(|source| Error::keep(&self.room.folder, source))?;
                Ok(bytes)
            }
        }
    }
}

/// Creates a file that the system removes when it is closed, in a folder that is created if needed.
pub(crate) fn nameless_file(folder: &Path) -> io::Result<File> {
    std::fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Fills `bytes` from a file, starting at `offset`.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(not(unix))]
pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_in_memory_waits_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let room = Arc::new(WaitingRoom::new(folder.path()));
        let mut waiting = Waiting { limit: 10, ..Waiting::new(room.clone()) };
        let places: Vec<Place> =
            [b"abcdef".to_vec(), b"ghijkl".to_vec(), b"mnop".to_vec(), b"qrs".to_vec(), Vec::new()]
                .into_iter()
                .map(|bytes| waiting.put(bytes).unwrap())
                .collect();
        let in_file: Vec<bool> = places.iter().map(|place| matches!(place, Place::File { .. })).collect();
        assert_eq!(in_file, [false, true, false, true, false]);
        assert_eq!(room.in_memory.load(Ordering::Relaxed), 10);
        let back: Vec<Vec<u8>> = places.into_iter().rev().map(|place| waiting.take(place).unwrap()).collect();
        assert_eq!(back, [&b""[..], b"qrs", b"mnop", b"ghijkl", b"abcdef"]);
        assert_eq!(room.in_memory.load(Ordering::Relaxed), 0);
        drop(waiting.put(b"dropped".to_vec()).unwrap());
        assert_eq!(room.in_memory.load(Ordering::Relaxed), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }
}
