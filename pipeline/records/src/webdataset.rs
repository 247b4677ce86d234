//! WebDataset shards: one POSIX tar file in which the members of a sample stand beside each other.
//!
//! The rules are those of the `webdataset` Python package: the key of a member ends at the first
//! dot of its base name, extensions are lower-case, a repeated extension is an error, names that
//! start with a dot or an underscore are skipped. Modification time, owner and mode are constant,
//! so the same samples give the same bytes.

use std::io::Write;

use tar::{EntryType, Header};

use crate::{Error, Result};

/// Members begin at multiples of this, and an archive ends with two blocks of zeros (POSIX.1-1988,
/// ustar); bytes.
const BLOCK: usize = 512;

/// Writes samples to one shard. Headers and pictures are written as they come, so `output` should
/// be buffered.
pub struct Writer<W: Write> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// Begins a shard on `output`.
    pub fn new(output: W) -> Self {
        Writer { output }
    }

    /// Appends the members of one sample, as (extension, bytes) in the order given.
    ///
    /// # Errors
    /// [`Error::MemberName`] for a key or extension that readers would split or skip, [`Error::Io`]
    /// if writing fails.
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
            // Not by the builder of `tar`, which copies everything once more, eight kilobytes at a
            // time.
            let written = header.set_path(&name).and_then(|()| {
                header.set_cksum();
                self.output.write_all(header.as_bytes())?;
                self.output.write_all(bytes)?;
                self.output.write_all(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])
            });
            written.map_err(|source| Error::io("append to a tar shard the member", name, source))?;
        }
        Ok(())
    }

    /// Writes the end of the archive and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        self.output.write_all(&[0; 2 * BLOCK]).map_err(|source| Error::io("finish", "a tar shard", source))?;
        Ok(self.output)
    }
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
    if !extension.is_empty()
        && extension.len() <= 9
        && extension.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    {
        return Ok(());
    }
    Err(Error::MemberName {
        kind: "extension",
        name: extension.to_owned(),
        reason: "one to nine lower-case letters or digits are needed",
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
            writer.append("00ac", &[("jpg", b"\xff\xd9"), ("json", b"{}"), ("txt", b"")]).unwrap();
            writer.finish().unwrap()
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
        assert_eq!(names, ["00ab.jpg", "00ab.json", "00ab.txt", "00ac.jpg", "00ac.json", "00ac.txt"]);
    }

    #[test]
    fn names_that_readers_would_split_are_refused() {
        let mut writer = Writer::new(Vec::new());
        for key in ["", "a.b", "../a", "a/b", "_a", "ä", &"k".repeat(91)] {
            assert!(writer.append(key, &[("txt", b"x")]).is_err(), "{key:?}");
        }
        assert!(writer.append("a", &[("JPG", b"x")]).is_err());
        assert!(writer.append("a", &[("txt", b"x"), ("txt", b"y")]).is_err());
    }
}
