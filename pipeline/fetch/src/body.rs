//! Stores bodies as they arrive: in memory as far as there is room, otherwise in nameless temporary
//! files, which the system removes when they are closed.
//!
//! Only room for the first part of the announced length is reserved in advance. The header may be
//! wrong, and long bodies of a slow host would take the room of others. A growing body does not
//! wait for more room either, because bodies that hold room and wait for more could deadlock. It
//! continues in a file and is read back when it is complete and there is room for all of it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::budget::{Budget, Share};
use crate::spill::nameless_file;
use crate::{Error, Result};

/// Bytes reserved for a body before it arrives; enough for nearly all images on the web. For a body
/// in a file, this is also the size of the buffer in memory.
const FIRST_BYTES: u64 = 256 << 10;

/// Bytes reserved for a body whose length is not announced.
const FIRST_BYTES_UNANNOUNCED: u64 = 64 << 10;

/// The memory and files for all bodies that are held at once.
#[derive(Debug)]
pub(crate) struct BodyRoom {
    budget: Budget,
    folder: PathBuf,
}

impl BodyRoom {
    /// Returns room for `bytes` bytes in memory. What does not fit goes into files in `folder`,
    /// which is created when it is needed.
    pub(crate) fn new(bytes: u64, folder: &Path) -> BodyRoom {
        BodyRoom { budget: Budget::new(bytes), folder: folder.to_owned() }
    }

    /// Returns the memory budget.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Waits until there is room for the beginning of a body. `announced` is its announced length
    /// in bytes, 0 if unknown.
    pub(crate) async fn begin(&self, announced: u64) -> Body<'_> {
        let first = if announced == 0 { FIRST_BYTES_UNANNOUNCED } else { announced.min(FIRST_BYTES) };
        let share = self.budget.take(first).await;
        Body { room: self, share, announced, memory: Vec::with_capacity(first as usize), file: None, in_file: 0 }
    }

    fn cannot_keep(&self, source: io::Error) -> Error {
        Error::keep(&self.folder, source)
    }
}

/// A body that is arriving.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    room: &'a BodyRoom,
    share: Share,
    announced: u64,
    /// Bytes that have arrived and are not in the file yet.
    memory: Vec<u8>,
    file: Option<File>,
    in_file: u64,
}

impl Body<'_> {
    /// Returns how many bytes have arrived.
    pub(crate) fn len(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    /// [`Error::Keep`] if a file cannot be used.
    pub(crate) async fn push(&mut self, chunk: &[u8]) -> Result<()> {
        let needed = self.memory.len() + chunk.len();
        if needed > self.memory.capacity() && !self.grow(needed) {
            self.write_out().await.map_err(|source| self.room.cannot_keep(source))?;
        }
        self.memory.extend_from_slice(chunk);
        Ok(())
    }

    /// Grows the buffer in memory to at least `needed` bytes, if the budget allows it.
    fn grow(&mut self, needed: usize) -> bool {
        // Doubles the capacity, but not beyond the announced length.
        let most = usize::try_from(self.announced).ok().filter(|announced| *announced >= needed);
        let wanted = (2 * self.memory.capacity()).min(most.unwrap_or(usize::MAX)).max(needed);
        let grown = self.file.is_none() && self.room.budget.try_grow(&mut self.share, wanted as u64);
        if grown {
            self.memory.reserve_exact(wanted - self.memory.len());
        }
        grown
    }

    /// Empties the memory into the file.
    async fn write_out(&mut self) -> io::Result<()> {
        let (file, folder, memory) = (self.file.take(), self.room.folder.clone(), std::mem::take(&mut self.memory));
        let written = tokio::task::spawn_blocking(move || {
            let mut file = file.map_or_else(|| nameless_file(&folder), Ok)?;
            file.write_all(&memory)?;
            io::Result::Ok((file, memory))
        });
        let (file, memory) = written.await.map_err(io::Error::other)??;
        (self.file, self.memory) = (Some(file), memory);
        self.in_file += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// Returns the whole body in memory, with its share of the budget. Waits for room if it is in a
    /// file.
    ///
    /// # Errors
    /// [`Error::Keep`] if a file cannot be used.
    pub(crate) async fn finish(mut self) -> Result<(Vec<u8>, Share)> {
        if self.file.is_none() {
            return Ok((self.memory, self.share));
        }
        self.write_out().await.map_err(|source| self.room.cannot_keep(source))?;
        let Body { room, share, file, in_file, memory, .. } = self;
        drop((share, memory)); // a body must not hold a share while it waits for another
        let share = room.budget.take(in_file).await;
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(in_file as usize);
            if let Some(mut file) = file {
                file.rewind()?;
                file.read_to_end(&mut bytes)?;
            }
            io::Result::Ok(bytes)
        });
        let bytes = read.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        Ok((bytes.map_err(|source| room.cannot_keep(source))?, share))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// No two bytes at the same place of two chunks are alike for long.
    fn chunks(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|chunk| (0..30_000).map(|byte| ((chunk * 31 + byte) % 251) as u8).collect()).collect()
    }

    #[tokio::test]
    async fn bodies_that_find_no_room_go_on_in_files_and_come_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let room = BodyRoom::new(1 << 20, &folder.path().join("made"));
        let chunks = chunks(40);
        let all = chunks.concat();
        for announced in [0, all.len() as u64, 10, 1 << 40] {
            let mut bodies = Vec::new();
            for _ in 0..4 {
                bodies.push(room.begin(announced).now_or_never().expect("there is room for four beginnings"));
            }
            for chunk in &chunks {
                for body in &mut bodies {
                    body.push(chunk).await.unwrap();
                }
            }
            assert!(bodies.iter().any(|body| body.file.is_some()) && bodies.iter().all(|body| body.len() == 1_200_000));
            let finished = bodies.into_iter().map(async |body| {
                let (bytes, _share) = body.finish().await.unwrap();
                assert!(bytes == all, "announced {announced}");
            });
            futures::future::join_all(finished).await;
            assert!(room.budget.try_grow(&mut Share::default(), 1 << 20), "all room was given back");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("made")).unwrap().count(), 0, "the files have no names");
    }

    #[tokio::test]
    async fn a_body_with_room_stays_in_memory_and_takes_no_more_than_it_needs() {
        let folder = tempfile::tempdir().unwrap();
        let room = BodyRoom::new(10 << 20, &folder.path().join("never"));
        for announced in [0, 300_000, 600_000] {
            let mut body = room.begin(announced).await;
            for chunk in chunks(20) {
                body.push(&chunk).await.unwrap();
            }
            let (bytes, _share) = body.finish().await.unwrap();
            assert!(bytes == chunks(20).concat());
            assert!(announced == 0 || bytes.capacity() == 600_000, "{announced}: {}", bytes.capacity());
        }
        assert!(!folder.path().join("never").exists());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let room = BodyRoom::new(1 << 20, &file);
        let mut body = room.begin(2 << 20).await;
        let mut failed = None;
        for chunk in chunks(60) {
            if let Err(error) = body.push(&chunk).await {
                failed = Some(error);
                break;
            }
        }
        let told = failed.expect("two megabytes have no room").to_string();
        assert!(told.contains(file.to_str().unwrap()), "{told}");
    }
}
