//! Stores replies that were paid for in a folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::Digest;
use crate::{Error, Reply, Result, Usage};

/// The file in the folder.
const FILE: &str = "replies.jsonl";

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    digest: String,
    /// The request, with images replaced by their digests.
    request: Value,
    reply: Reply,
    usage: Usage,
    /// The URL that the reply came from.
    endpoint: String,
}

/// The positions of the lines of replies: offset and length in bytes.
type Places = BTreeMap<Digest, (u64, usize)>;

/// Replies by the digest of their request, in a file of JSON lines that is only appended to.
///
/// A reply is on disk before it is used, so a process that is killed loses no reply that it
/// received. Only one process at a time can use a folder.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    places: Places,
    /// The offset of the next line.
    end: u64,
}

impl Cache {
    /// Opens the replies in a folder, which is created if it does not exist. An incomplete last
    /// line, as after a kill, is removed with a warning.
    ///
    /// # Errors
    /// If another process has the folder open, the file cannot be read or written, or a line is not
    /// a reply.
    pub fn open(folder: &Path) -> Result<Cache> {
        let path = folder.join(FILE);
        let fault = |what: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| Error::CacheFile { what, path, source }
        };
        std::fs::create_dir_all(folder).map_err(fault("create the folder", folder))?;
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(fault("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::CacheInUse { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(fault("lock", &path)(source)),
        }
        let (places, end) = index(&file, &path)?;
        Ok(Cache { path, state: Mutex::new(State { file, places, end }) })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of replies.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).places.len()
    }

    /// Returns whether there is no reply.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there is a reply to a request.
    pub fn contains(&self, digest: Digest) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).places.contains_key(&digest)
    }

    /// Returns the reply to a request, if it is stored.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub fn get(&self, digest: Digest) -> Result<Option<(Reply, Usage)>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(start, length)) = state.places.get(&digest) else { return Ok(None) };
        let mut text = vec![0; length];
        let read = state.file.seek(SeekFrom::Start(start)).and_then(|_| state.file.read_exact(&mut text));
        read.map_err(|source| Error::CacheFile { what: "read", path: self.path.clone(), source })?;
        let line: Line = serde_json::from_slice(&text).map_err(|error| Error::CacheFile {
            what: "read what was written to",
            path: self.path.clone(),
            source: error.into(),
        })?;
        Ok(Some((line.reply, line.usage)))
    }

    /// Stores a reply. It is on disk when this returns.
    pub(crate) fn keep(
        &self,
        digest: Digest,
        request: Value,
        reply: &Reply,
        usage: Usage,
        endpoint: &str,
    ) -> Result<()> {
        let line =
            Line { digest: digest.to_string(), request, reply: reply.clone(), usage, endpoint: endpoint.to_owned() };
        let mut text = serde_json::to_string(&line).expect("JSON of texts and numbers is text");
        text.push('\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = state.file.write_all(text.as_bytes()).and_then(|()| state.file.sync_data());
        if let Err(source) = written {
            // An incomplete line in the middle of the file would make the following lines
            // unreadable.
            let end = state.end;
            state.file.set_len(end).unwrap_or_default();
            return Err(Error::CacheFile { what: "write", path: self.path.clone(), source });
        }
        let start = state.end;
        state.end += text.len() as u64;
        state.places.insert(digest, (start, text.len()));
        Ok(())
    }
}

/// Finds the lines of the file, and repairs its end so that the last line is complete.
fn index(file: &File, path: &Path) -> Result<(Places, u64)> {
    let fault = |what: &'static str| move |source| Error::CacheFile { what, path: path.to_owned(), source };
    let mut reader = BufReader::new(file);
    let mut places = Places::new();
    let (mut end, mut number) = (0_u64, 0_u64);
    let mut text = Vec::new();
    loop {
        text.clear();
        let length = reader.read_until(b'\n', &mut text).map_err(fault("read"))?;
        if length == 0 {
            return Ok((places, end));
        }
        number += 1;
        let is_whole = text.ends_with(b"\n");
        match digest_of(&text) {
            Ok(digest) => {
                places.entry(digest).or_insert((end, length));
                end += length as u64;
                if !is_whole {
                    // Only the line ending is missing.
                    let mut file = file;
                    file.write_all(b"\n").map_err(fault("write"))?;
                    return Ok((places, end + 1));
                }
            }
            Err(_) if !is_whole => {
                tracing::warn!("{}: the last line is incomplete and was removed", path.display());
                file.set_len(end).map_err(fault("shorten"))?;
                return Ok((places, end));
            }
            Err(why) => return Err(Error::CacheLine { path: path.to_owned(), line: number, why }),
        }
    }
}

fn digest_of(line: &[u8]) -> std::result::Result<Digest, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let hash = blake3::Hash::from_hex(&line.digest).map_err(|error| error.to_string())?;
    Ok(Digest(*hash.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Finish;

    fn reply(text: &str) -> Reply {
        Reply { text: text.to_owned(), finish: Finish::Stop, refusal: None, model: None }
    }

    fn keep(cache: &Cache, digest: u8, text: &str) {
        let usage = Usage { input: 1, output: 2 };
        cache.keep(Digest([digest; 32]), json!({"of": digest}), &reply(text), usage, "http://x").unwrap();
    }

    fn text(cache: &Cache, digest: u8) -> Option<String> {
        cache.get(Digest([digest; 32])).unwrap().map(|(reply, _)| reply.text)
    }

    #[test]
    fn replies_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/the/way");
        let cache = Cache::open(&path).unwrap();
        assert!(cache.is_empty());
        keep(&cache, 1, "one\nline\u{2028}or more");
        keep(&cache, 2, "two");
        assert_eq!(text(&cache, 1).unwrap(), "one\nline\u{2028}or more");
        drop(cache);
        let cache = Cache::open(&path).unwrap();
        keep(&cache, 3, "three");
        let texts = [1, 2, 3, 4].map(|digest| text(&cache, digest));
        assert_eq!(texts.map(|text| text.map(|text| text.len())), [Some(18), Some(3), Some(5), None]);
        assert_eq!(cache.get(Digest([2; 32])).unwrap().unwrap().1, Usage { input: 1, output: 2 });
    }

    #[test]
    fn a_line_that_was_cut_off_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        let cache = Cache::open(folder.path()).unwrap();
        keep(&cache, 1, "one");
        keep(&cache, 2, "two");
        drop(cache);
        let whole = std::fs::read(&file).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in [first, first + 1, whole.len() - 2, whole.len() - 1, whole.len()] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let cache = Cache::open(folder.path()).unwrap();
            assert_eq!(text(&cache, 1).unwrap(), "one");
            // Without its last byte, the end of the line, the reply is whole.
            assert_eq!(text(&cache, 2).is_some(), cut >= whole.len() - 1, "{cut} of {}", whole.len());
            keep(&cache, 3, "three");
            drop(cache);
            let cache = Cache::open(folder.path()).unwrap();
            assert_eq!(text(&cache, 3).unwrap(), "three");
            assert!(std::fs::read(&file).unwrap().ends_with(b"\n"));
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        // Locks belong to the open file, so opening it again acts like another process.
        let error = Cache::open(folder.path()).unwrap_err();
        assert!(matches!(error, Error::CacheInUse { .. }), "{error}");
        drop(cache);
        Cache::open(folder.path()).unwrap();
    }

    #[test]
    fn foreign_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{\"key\": 1}\nx\n").unwrap();
        let error = Cache::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("replies.jsonl, line 1: not a stored reply"), "{error}");
        std::fs::write(folder.path().join(FILE), b"\xff\xfe\n").unwrap();
        assert!(matches!(Cache::open(folder.path()), Err(Error::CacheLine { line: 1, .. })));
    }
}
