//! WebDataset shards: POSIX tar files in which the members of a sample are adjacent.
//!
//! The rules are those of the `webdataset` Python package. The key of a member ends at the first
//! dot of its base name. Extensions are lower-case. A repeated extension is an error. Names that
//! start with a dot or an underscore are skipped. Modification time, owner and mode are constant,
//! so the same samples give the same bytes.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use tar::{EntryType, Header};

use crate::{Error, Result};

/// Block size of a tar archive in bytes (POSIX.1-1988, ustar). Members begin at multiples of it,
/// and an archive ends with two blocks of zeros.
const BLOCK: usize = 512;

/// Writes samples to one shard. Headers and contents are written directly, so `output` should be
/// buffered.
pub struct Writer<W: Write> {
    output: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a shard on `output`.
    pub fn new(output: W) -> Self {
        Writer { output, bytes: 0 }
    }

    /// Returns the number of bytes written so far, which is the offset of the next sample.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the members of one sample, as (extension, bytes) in the order given.
    ///
    /// # Errors
    /// [`Error::MemberName`] for a key or extension that readers would split or skip or that occurs
    /// twice, [`Error::Io`] if writing fails.
    pub fn append(&mut self, key: &str, members: &[(&str, &[u8])]) -> Result<()> {
        check_key(key)?;
        for (index, (extension, _)) in members.iter().enumerate() {
            check_extension(extension)?;
            if members[..index].iter().any(|(earlier, _)| earlier == extension) {
                return Err(Error::MemberName {
                    kind: "extension",
                    name: (*extension).to_owned(),
                    reason: "it occurs twice in one sample",
                });
            }
        }
        for (extension, bytes) in members {
            let name = format!("{key}.{extension}");
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(bytes.len() as u64);
            // The builder of `tar` is not used because it copies everything once more, 8 KiB at a
            // time.
            let written = header.set_path(&name).and_then(|()| {
                header.set_cksum();
                self.output.write_all(header.as_bytes())?;
                self.output.write_all(bytes)?;
                self.output.write_all(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])
            });
            self.bytes += (BLOCK + bytes.len().next_multiple_of(BLOCK)) as u64;
            written.map_err(|source| Error::io("append to a tar shard the member", name, source))?;
        }
        Ok(())
    }

    /// Writes the end of the archive and returns the output.
    pub fn finish(mut self) -> Result<W> {
        self.output.write_all(&[0; 2 * BLOCK]).map_err(|source| Error::io("finish", "a tar shard", source))?;
        Ok(self.output)
    }
}

/// A member of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its full name.
    pub name: String,
    /// Offset of its header in the archive, bytes.
    pub offset: u64,
    /// Offset of its content in the archive, bytes.
    pub content: u64,
    /// Length of its content, bytes.
    pub bytes: u64,
}

impl Member {
    /// Returns the key of the sample that it belongs to.
    pub fn key(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(key, _)| key)
    }

    /// Returns its name within the sample, such as `jpg` or `0.jpg`.
    pub fn extension(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, extension)| extension)
    }

    /// Returns the offset of the next member, bytes.
    pub fn end(&self) -> u64 {
        self.content + self.bytes.next_multiple_of(BLOCK as u64)
    }
}

/// Returns the members of a shard that a [`Writer`] wrote. Contents are skipped, not read.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read or is not a tar archive.
pub fn members(path: &Path) -> Result<Vec<Member>> {
    let failed = |source| Error::io("read", path, source);
    let mut archive = tar::Archive::new(BufReader::new(File::open(path).map_err(failed)?));
    let entries = archive.entries_with_seek().map_err(failed)?;
    let member = |entry: std::io::Result<tar::Entry<_>>| {
        let entry = entry?;
        Ok(Member {
            name: String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            offset: entry.raw_header_position(),
            content: entry.raw_file_position(),
            bytes: entry.size(),
        })
    };
    entries.map(member).collect::<std::io::Result<_>>().map_err(failed)
}

fn check_key(key: &str) -> Result<()> {
    let reason = if key.is_empty() {
        "it is empty"
    } else if key.len() > 90 {
        "it does not fit a tar name of 100 bytes with its extension"
    } else if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        "only letters, digits, hyphen and underscore are read back the same everywhere"
    } else if key.starts_with('_') {
        "readers skip names that start with an underscore"
    } else {
        return Ok(());
    };
    Err(Error::MemberName { kind: "key", name: key.to_owned(), reason })
}

fn check_extension(extension: &str) -> Result<()> {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if extension.len() <= 9 && extension.split('.').all(is_part) {
        return Ok(());
    }
    Err(Error::MemberName {
        kind: "extension",
        name: extension.to_owned(),
        reason: "one to nine lower-case letters, digits or dots between them are needed",
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn members_of_a_sample_stand_together_and_bytes_repeat() {
        let write = || {
            let mut writer = Writer::new(Vec::new());
            writer.append("00ab", &[("jpg", b"\xff\xd8"), ("json", b"{}"), ("txt", b"a cat")]).unwrap();
            let second = writer.bytes();
            writer.append("00ac", &[("0.jpg", b"\xff\xd9"), ("json", b"{}"), ("txt", b"")]).unwrap();
            let end = writer.bytes();
            let bytes = writer.finish().unwrap();
            assert!(bytes[second as usize..].starts_with(b"00ac.0.jpg\0"));
            assert_eq!(end + 1024, bytes.len() as u64);
            bytes
        };
        let bytes = write();
        assert_eq!(bytes, write());
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                entry.path().unwrap().display().to_string()
            })
            .collect();
        assert_eq!(names, ["00ab.jpg", "00ab.json", "00ab.txt", "00ac.0.jpg", "00ac.json", "00ac.txt"]);
    }

    #[test]
    fn names_that_readers_would_split_are_refused() {
        let mut writer = Writer::new(Vec::new());
        for key in ["", "a.b", "../a", "a/b", "_a", "ä", &"k".repeat(91)] {
            assert!(writer.append(key, &[("txt", b"x")]).is_err(), "{key:?}");
        }
        for extension in ["", "JPG", ".jpg", "0..jpg", "0.", "a/b", "0123456.jpg"] {
            assert!(writer.append("a", &[(extension, b"x")]).is_err(), "{extension:?}");
        }
        assert!(writer.append("a", &[("txt", b"x"), ("txt", b"y")]).is_err());
    }
}
