//! Reads the headers of tar archives: which regular files they hold, and where. Nothing is
//! extracted, and no link is followed.
//!
//! Supports headers of POSIX.1-2001 (`ustar`, `pax`) and GNU tar. Archives are untrusted, so names
//! and lengths are checked before anything is kept. What is not read is reported, never skipped
//! silently.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use tar::Header;

const BLOCK: u64 = 512;

/// Maximum length of the name of a member, in bytes: Linux's `PATH_MAX`, which no real path
/// exceeds.
const MAX_NAME_BYTES: u64 = 4096;

/// Maximum length of a pax header that is read, in bytes. Real pax headers hold a name, times and
/// perhaps attributes.
const MAX_PAX_BYTES: u64 = 1 << 20;

/// An entry of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A regular file.
    File(Member),
    /// A member that is not read, with the reason.
    Refused(String),
    /// The archive is damaged or cut off here, with a description. This is the last entry.
    Broken(String),
}

/// A regular file of an archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// A relative path without `..`.
    pub(super) name: String,
    /// Offset of its content in the archive, bytes.
    pub(super) offset: u64,
    /// Length, bytes.
    pub(super) length: u64,
}

/// An archive that is read sequentially.
pub(super) struct Archive {
    file: BufReader<File>,
    /// Offset of the next byte that is read.
    position: u64,
    /// Offset of the next header.
    next: u64,
    length: u64,
    is_done: bool,
}

/// The content of a block where a header is expected.
enum Block {
    Header(Box<Header>),
    End,
    Broken(String),
}

/// The content of extra headers, which is about the member that follows them.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// The reason why the member must be refused.
    problem: Option<String>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> io::Result<Archive> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Archive { file: BufReader::new(file), position: 0, next: 0, length, is_done: false })
    }

    /// Returns whether the file begins like gzip, zstd, bzip2 or xz.
    pub(super) fn is_compressed(&mut self) -> io::Result<bool> {
        let magics: [&[u8]; 4] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"];
        let begin = self.read(0, self.length.min(8))?;
        Ok(magics.iter().any(|magic| begin.starts_with(magic)))
    }

    /// Returns the content of a member, or any other bytes. The caller must limit the length.
    pub(super) fn read(&mut self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        self.seek(offset)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        self.position += length;
        Ok(bytes)
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        match position.checked_signed_diff(self.position) {
            Some(distance) => self.file.seek_relative(distance)?,
            None => _ = self.file.seek(SeekFrom::Start(position))?,
        }
        self.position = position;
        Ok(())
    }

    /// Returns the next entry; `None` at the end.
    pub(super) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        if self.is_done {
            return Ok(None);
        }
        let entry = self.find_entry()?;
        self.is_done = matches!(entry, None | Some(Entry::Broken(_)));
        Ok(entry)
    }

    fn find_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extended = Extended::default();
        loop {
            let start = self.next;
            let header = match self.block(start)? {
                Block::End => return Ok(None),
                Block::Broken(problem) => return Ok(Some(Entry::Broken(problem))),
                Block::Header(header) => header,
            };
            let broken = |problem: &str| {
                let problem = format!("the archive is damaged at byte {start}: {problem}; the rest is not read");
                Ok(Some(Entry::Broken(problem)))
            };
            let kind = header.as_old().linkflag[0];
            let size = if matches!(kind, b'1'..=b'6') {
                0 // links, devices, folders and pipes have no content, whatever their headers say
            } else {
                // A size in a pax header is that of the member, not of another extra header before
                // it.
                let told = extended.size.filter(|_| !matches!(kind, b'L' | b'K' | b'x' | b'X' | b'g'));
                let Ok(size) = told.map_or_else(|| header.entry_size(), Ok) else {
                    return broken("a size is not a number");
                };
                size
            };
            let offset = self.content_offset(start, &header)?;
            let end = offset.checked_add(size).and_then(|end| Some((end, end.checked_next_multiple_of(BLOCK)?)));
            let Some((end, next)) = end else { return broken("a size is too large") };
            if end > self.length {
                let member = name_of(&extended, &header).unwrap_or_else(|_| "a member".to_owned());
                let problem = format!("the archive is cut off at byte {} inside {member:?}", self.length);
                return Ok(Some(Entry::Broken(problem)));
            }
            self.next = next;
            match kind {
                b'L' => self.read_long_name(offset, size, &mut extended)?,
                b'x' | b'X' => self.read_pax(offset, size, &mut extended)?,
                // Ignored: the target of a link, which is refused anyway; settings for all members,
                // none of which changes their positions; the label of the archive.
                b'K' | b'g' | b'V' => {}
                _ => match entry(kind, &header, &extended, offset, size) {
                    Some(entry) => return Ok(Some(entry)),
                    None => extended = Extended::default(),
                },
            }
        }
    }

    /// Reads the block at `start`.
    fn block(&mut self, start: u64) -> io::Result<Block> {
        if start.saturating_add(BLOCK) > self.length {
            let problem = format!("the archive is cut off at byte {}, without an end mark", self.length);
            return Ok(Block::Broken(problem));
        }
        let bytes = self.read(start, BLOCK)?;
        if bytes.iter().all(|byte| *byte == 0) {
            let rest = self.is_blank_to_the_end()?;
            let problem = || format!("the archive has data after its end mark at byte {start}, which are not read");
            return Ok(if rest { Block::End } else { Block::Broken(problem()) });
        }
        let header = Header::from_byte_slice(&bytes).clone();
        let sum = bytes.iter().enumerate().map(|(index, byte)| {
            // The checksum field itself counts as spaces.
            if (148..156).contains(&index) { u32::from(b' ') } else { u32::from(*byte) }
        });
        if header.cksum().ok() == Some(sum.sum()) {
            return Ok(Block::Header(Box::new(header)));
        }
        let problem =
            format!("the archive is damaged at byte {start}, where a header is missing; the rest is not read");
        Ok(Block::Broken(problem))
    }

    fn is_blank_to_the_end(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            let length = self.file.read(&mut chunk)?;
            self.position += length as u64;
            if length == 0 {
                return Ok(true);
            }
            if chunk[..length].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
    }

    /// Returns the offset of the content of a member: after its header and, for sparse files in the
    /// old GNU format, after their map.
    fn content_offset(&mut self, start: u64, header: &Header) -> io::Result<u64> {
        let mut offset = start + BLOCK;
        let mut goes_on =
            header.entry_type().is_gnu_sparse() && header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while goes_on && offset + BLOCK <= self.length {
            goes_on = self.read(offset, BLOCK)?[504] != 0; // `isextended` of GNU's extension blocks
            offset += BLOCK;
        }
        Ok(offset)
    }

    fn read_long_name(&mut self, offset: u64, size: u64, extended: &mut Extended) -> io::Result<()> {
        if size > MAX_NAME_BYTES + 1 {
            extended.problem = Some(too_long(size));
            return Ok(());
        }
        let mut name = self.read(offset, size)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        extended.name = Some(name);
        Ok(())
    }

    fn read_pax(&mut self, offset: u64, size: u64, extended: &mut Extended) -> io::Result<()> {
        if size > MAX_PAX_BYTES {
            extended.problem =
                Some(format!("its pax header has {size} bytes, more than the {MAX_PAX_BYTES} that are read"));
            return Ok(());
        }
        let bytes = self.read(offset, size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Some((key, value, behind)) = pax_record(rest) else {
                extended.problem = Some("its pax header is malformed".to_owned());
                return Ok(());
            };
            rest = behind;
            match key {
                b"path" => extended.name = Some(value.to_vec()),
                b"size" => match std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                    Some(size) => extended.size = Some(size),
                    None => extended.problem = Some("the size in its pax header is not a number".to_owned()),
                },
                key if key.starts_with(b"GNU.sparse.") => extended.problem = Some(SPARSE.to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

const SPARSE: &str = "is a sparse file, which is not read";

fn too_long(bytes: u64) -> String {
    format!("has a name of {bytes} bytes, more than the {MAX_NAME_BYTES} that are read")
}

/// Parses the next record, `LENGTH KEY=VALUE\n`. Returns its key, its value and the bytes after it.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// Returns the entry of a header; `None` for a folder.
fn entry(kind: u8, header: &Header, extended: &Extended, offset: u64, length: u64) -> Option<Entry> {
    let name = name_of(extended, header);
    let is_regular = matches!(kind, b'0' | b'7' | 0);
    // Before POSIX, a folder was a file whose name ends with a slash.
    if kind == b'5' || (is_regular && length == 0 && name.as_ref().is_ok_and(|name| name.ends_with('/'))) {
        return None;
    }
    let why = match kind {
        _ if extended.problem.is_some() => extended.problem.clone(),
        b'1' => Some("is a hard link, which is not followed".to_owned()),
        b'2' => Some("is a symbolic link, which is not followed".to_owned()),
        b'3' | b'4' => Some("is a device".to_owned()),
        b'6' => Some("is a named pipe".to_owned()),
        b'S' => Some(SPARSE.to_owned()),
        _ if !is_regular => Some(format!("is of the unknown type {:?}", char::from(kind))),
        _ => None,
    };
    Some(match (name, why) {
        (Ok(name), None) => Entry::File(Member { name, offset, length }),
        (Ok(name), Some(why)) => Entry::Refused(format!("the member {name:?} of the archive {why}")),
        (Err(problem), _) => Entry::Refused(problem),
    })
}

/// Returns the name of a member, or the reason why it must not be used.
fn name_of(extended: &Extended, header: &Header) -> Result<String, String> {
    let bytes = extended.name.as_deref().map_or_else(|| header.path_bytes(), Into::into);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned();
    let refused = |why: &str| Err(format!("the member {shown:?} of the archive {why}"));
    if bytes.len() as u64 > MAX_NAME_BYTES {
        return refused(&too_long(bytes.len() as u64));
    }
    let Ok(name) = std::str::from_utf8(&bytes) else { return refused("has a name that is not UTF-8") };
    let is_drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    if name.starts_with(['/', '\\']) || is_drive {
        return refused("has an absolute name");
    }
    if name.split(['/', '\\']).any(|component| component == "..") {
        return refused("has a name with `..`");
    }
    if name.is_empty() || name.contains('\0') {
        return refused("has no name that a file can have");
    }
    Ok(name.to_owned())
}
