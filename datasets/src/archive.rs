//! Archives of images and native files. The index of an archive says where its members are, so that
//! single members can be read without unpacking anything.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::coding::Coding;
use crate::{Error, Result};

/// The size in bytes of the local header of a zip member before its name, and the offsets in it of
/// the lengths of the name and of the extra field (APPNOTE.TXT 6.3.10, section 4.3.7).
const ZIP_HEADER: usize = 30;
const ZIP_NAME_LENGTH: usize = 26;
const ZIP_EXTRA_LENGTH: usize = 28;

/// The extension of JSON objects of base64 strings. MIMIC-IT ships its images in this form.
const OBJECT: &str = "json";

const WRONG_SUM: &str = "its checksum is wrong: the archive is damaged";

/// The form in which a member is stored in its archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    /// Uncompressed.
    Plain,
    /// Uncompressed, after a zip header.
    Stored,
    /// Deflated, after a zip header.
    Deflated,
    /// As base64.
    Base64,
    /// Encrypted, or compressed by a zip method that is not supported.
    Unknown,
}

/// A member of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// The offset of its first byte or, in a zip archive, of its header.
    start: u64,
    /// Its size in the archive, in bytes.
    packed: u64,
    /// Its size when read, in bytes; for base64, an upper bound.
    pub(crate) size: u64,
    packing: Packing,
    /// The CRC-32 of its bytes, if the archive stores it.
    sum: Option<u32>,
}

/// The index of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    members: HashMap<Box<str>, Member>,
    /// The folder that contains all of its members, with a trailing `/`.
    top: Option<String>,
    /// The compression of the archive as a whole. Offsets of members are in the decompressed
    /// archive.
    coding: Option<Coding>,
}

/// Indexes of archives, with the modification time and size of the file at that time.
type Known = HashMap<PathBuf, (Option<SystemTime>, u64, Arc<Archive>)>;
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Returns whether the name of a file is that of an archive whose members may be used as files next
/// to it.
pub(crate) fn is_archive(path: &Path) -> bool {
    has_extension(path, &["zip", "tar"])
}

/// Returns whether a path may lead into a file: archives as in [`is_archive`], and JSON objects of
/// base64 strings.
pub(crate) fn has_members(path: &Path) -> bool {
    is_archive(path) || has_extension(path, &[OBJECT])
}

/// Returns whether the name of a file is that of an archive from which single members cannot be
/// read.
pub(crate) fn is_packed_whole(path: &Path) -> bool {
    has_extension(path, &["tgz", "tbz", "txz", "7z", "rar", "z01", "001"])
        || has_extension(path, &["gz", "bz2", "xz", "zst"])
            && path.file_stem().is_some_and(|stem| has_extension(Path::new(stem), &["tar"]))
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let own = path.extension().and_then(|own| own.to_str());
    own.is_some_and(|own| extensions.iter().any(|extension| own.eq_ignore_ascii_case(extension)))
}

/// Returns how a tar file is compressed as a whole, judged by its name.
fn coding_of_tar(path: &Path) -> Option<Coding> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "gz" | "tgz" => Some(Coding::Gzip),
        "bz2" | "tbz" => Some(Coding::Bzip2),
        "zst" => Some(Coding::Zstandard),
        _ => None,
    }
}

impl Archive {
    /// Opens an archive, or returns its cached index if the file has not changed.
    ///
    /// # Errors
    /// The errors of [`Archive::open`].
    pub(crate) fn known(path: &Path) -> Result<Arc<Self>> {
        let fault = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let found = path.metadata().map_err(fault)?;
        let (time, size) = (found.modified().ok(), found.len());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, archive)) = known().get(path).filter(|own| (own.0, own.1) == (time, size)) {
            return Ok(Arc::clone(archive));
        }
        let archive = Arc::new(Self::open(path)?);
        known().insert(path.to_owned(), (time, size, Arc::clone(&archive)));
        Ok(archive)
    }

    /// Reads the index of an archive: the directory of a zip archive, the headers of a tar archive,
    /// or the keys of an object of base64 strings. Of several members with the same name the last
    /// one is used, as when unpacking.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let members = if has_extension(path, &["zip"]) {
            zip_members(path)
        } else if has_extension(path, &[OBJECT]) {
            base64_members(path)
        } else {
            tar_members(path)
        };
        let fault = |fault: io::Error| Error::Archive { path: path.to_owned(), reason: fault.to_string() };
        let members = members.map_err(fault)?;
        let mut tops = members.keys().map(|name| name.split_once('/').map(|(top, _)| top));
        let first = tops.next().flatten();
        let top = first.filter(|first| tops.all(|top| top == Some(first))).map(|top| format!("{top}/"));
        let coding = coding_of_tar(path).filter(|_| is_packed_whole(path));
        Ok(Self { path: path.to_owned(), members, top, coding })
    }

    /// Returns the member that would be at a path if the archive were unpacked in the folder that
    /// the path is relative to: directly, into a folder with the name of the archive, or without
    /// the top folder that contains everything.
    pub(crate) fn find(&self, path: &str) -> Option<Member> {
        let of_own_folder = || self.members.get(path.strip_prefix(self.stem()?)?.strip_prefix('/')?);
        let of_top = || self.members.get(format!("{}{path}", self.top.as_ref()?).as_str());
        self.members.get(path).or_else(of_own_folder).or_else(of_top).copied()
    }

    /// Returns its name without the extension.
    fn stem(&self) -> Option<&str> {
        let stem = self.path.file_stem()?.to_str()?;
        Some(stem.strip_suffix(".tar").unwrap_or(stem))
    }

    /// Returns its members in the order of their names.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, Member)> {
        let mut members: Vec<_> = self.members.iter().map(|(name, member)| (&**name, *member)).collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        members.into_iter()
    }

    /// Returns the paths that a member has by the rules of [`Archive::find`].
    pub(crate) fn unpacked(&self, name: &str) -> impl Iterator<Item = String> {
        let of_own_folder = self.stem().map(|stem| format!("{stem}/{name}"));
        let of_top = self.top.as_ref().and_then(|top| name.strip_prefix(top.as_str())).map(str::to_owned);
        [Some(name.to_owned()), of_own_folder, of_top].into_iter().flatten()
    }

    /// Opens a member as a stream. At its end, its size and checksum are verified.
    ///
    /// # Errors
    /// If the archive cannot be read, or not this member of it.
    pub(crate) fn stream(&self, member: &Member) -> io::Result<Box<dyn Read>> {
        let whole: Box<dyn Read> = match self.coding {
            None => Box::new(self.at(member)?),
            Some(coding) => {
                let mut whole = coding.decode(BufReader::new(File::open(&self.path)?))?;
                io::copy(&mut whole.by_ref().take(member.start), &mut io::sink())?;
                whole
            }
        };
        let packed = whole.take(member.packed);
        let bytes: Box<dyn Read> = match member.packing {
            Packing::Plain | Packing::Stored => Box::new(packed),
            Packing::Deflated => Box::new(DeflateDecoder::new(packed)),
            Packing::Base64 | Packing::Unknown => {
                return Err(invalid("it is encrypted or compressed by a method other than deflate"));
            }
        };
        Ok(Box::new(Checked { bytes, member: *member, crc: flate2::Crc::new(), read: 0 }))
    }

    /// Returns the byte range of an uncompressed member in the archive; `None` for a compressed
    /// one.
    pub(crate) fn span(&self, member: &Member) -> Option<(u64, u64)> {
        if !matches!(member.packing, Packing::Plain | Packing::Stored) {
            return None;
        }
        let start = self.at(member).and_then(|mut file| file.stream_position()).ok()?;
        Some((start, start + member.packed))
    }

    /// Opens the archive at the first byte of a member.
    fn at(&self, member: &Member) -> io::Result<File> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(member.start))?;
        if matches!(member.packing, Packing::Stored | Packing::Deflated) {
            let mut header = [0; ZIP_HEADER];
            file.read_exact(&mut header)?;
            let length = |at: usize| i64::from(u16::from_le_bytes([header[at], header[at + 1]]));
            file.seek_relative(length(ZIP_NAME_LENGTH) + length(ZIP_EXTRA_LENGTH))?;
        }
        Ok(file)
    }

    /// Reads a member.
    ///
    /// # Errors
    /// If the archive cannot be read, or not this member of it.
    pub(crate) fn read(&self, member: &Member) -> io::Result<Vec<u8>> {
        let mut packed = self.at(member)?.take(member.packed);
        let mut bytes = Vec::new();
        match member.packing {
            Packing::Plain | Packing::Stored => packed.read_to_end(&mut bytes)?,
            // One byte more than expected is enough to detect a wrong size in the directory.
            Packing::Deflated => DeflateDecoder::new(packed).take(member.size + 1).read_to_end(&mut bytes)?,
            Packing::Base64 => {
                let mut text = String::new();
                packed.read_to_string(&mut text)?;
                bytes = from_base64(&text).map_err(invalid)?;
                bytes.len()
            }
            Packing::Unknown => return Err(invalid("it is encrypted or compressed by a method other than deflate")),
        };
        if member.packing != Packing::Base64 && bytes.len() as u64 != member.size {
            return Err(invalid(format!("only {} of its {} bytes could be read", bytes.len(), member.size)));
        }
        if let Some(sum) = member.sum {
            let mut crc = flate2::Crc::new();
            crc.update(&bytes);
            if crc.sum() != sum {
                return Err(invalid(WRONG_SUM));
            }
        }
        Ok(bytes)
    }
}

/// The bytes of a member. At their end, their size and checksum are compared with the index.
struct Checked {
    bytes: Box<dyn Read>,
    member: Member,
    crc: flate2::Crc,
    read: u64,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.bytes.read(buffer)?;
        self.read += length as u64;
        self.crc.update(&buffer[..length]);
        let Member { size, sum, .. } = self.member;
        if length == 0 && !buffer.is_empty() {
            if self.read != size {
                return Err(invalid(format!("only {} of its {size} bytes could be read", self.read)));
            }
            if sum.is_some_and(|sum| sum != self.crc.sum()) {
                return Err(invalid(WRONG_SUM));
            }
        }
        Ok(length)
    }
}

/// Decodes base64 as found in JSON, where `/` may be written `\/`, and in MIME, which has line
/// ends.
pub(crate) fn from_base64(text: &str) -> std::result::Result<Vec<u8>, String> {
    let is_plain = !text.contains(['\\', '\n', '\r']);
    let decoded = if is_plain {
        STANDARD.decode(text)
    } else {
        STANDARD.decode(text.replace("\\/", "/").replace("\\n", "").replace(['\n', '\r'], ""))
    };
    decoded.map_err(|fault| format!("is not base64: {fault}"))
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Returns the name of a member as a path: with `/` as separator and without a leading `./`.
fn plain(name: &str) -> Box<str> {
    let name = name.replace('\\', "/");
    name.strip_prefix("./").unwrap_or(&name).into()
}

fn zip_members(path: &Path) -> io::Result<HashMap<Box<str>, Member>> {
    let archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
    let mut members = HashMap::with_capacity(archive.len());
    for place in 0..archive.len() {
        let entry = archive.by_index_data(place)?;
        if entry.is_dir() || entry.is_symlink() {
            continue;
        }
        let packing = match entry.compression() {
            _ if entry.encrypted() => Packing::Unknown,
            CompressionMethod::STORE => Packing::Stored,
            CompressionMethod::DEFLATE => Packing::Deflated,
            _ => Packing::Unknown,
        };
        let (start, packed, size) = (entry.header_start(), entry.compressed_size(), entry.size());
        members.insert(plain(&entry.name()?), Member { start, packed, size, packing, sum: Some(entry.crc32()) });
    }
    Ok(members)
}

fn tar_members(path: &Path) -> io::Result<HashMap<Box<str>, Member>> {
    let file = BufReader::new(File::open(path)?);
    match coding_of_tar(path) {
        None => members_of(tar::Archive::new(file).entries_with_seek()?),
        Some(coding) => members_of(tar::Archive::new(coding.decode(file)?).entries()?),
    }
}

fn members_of<R: Read>(entries: tar::Entries<'_, R>) -> io::Result<HashMap<Box<str>, Member>> {
    let mut members = HashMap::new();
    for entry in entries {
        let entry = entry?;
        if !matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Continuous) {
            continue;
        }
        let (start, size) = (entry.raw_file_position(), entry.size());
        let name = plain(&String::from_utf8_lossy(&entry.path_bytes()));
        members.insert(name, Member { start, packed: size, size, packing: Packing::Plain, sum: None });
    }
    Ok(members)
}

/// Finds the members of an object of base64 strings, `{"id": "base64", …}`, which may be larger
/// than memory.
fn base64_members(path: &Path) -> io::Result<HashMap<Box<str>, Member>> {
    let mut input = Texts { input: BufReader::with_capacity(1 << 20, File::open(path)?), position: 0 };
    let mut members = HashMap::new();
    if input.mark()? != b'{' {
        return Err(invalid("it is not a JSON object of base64 strings"));
    }
    loop {
        match input.mark()? {
            b'}' if members.is_empty() => return Ok(members),
            b'"' => {}
            _ => return Err(invalid(format!("a key is missing at byte {}", input.position))),
        }
        let mut key = Vec::new();
        input.text(&mut |bytes| key.extend_from_slice(bytes))?;
        if input.mark()? != b':' || input.mark()? != b'"' {
            return Err(invalid(format!("a string is missing at byte {}", input.position)));
        }
        let start = input.position;
        input.text(&mut |_| ())?;
        let packed = input.position - 1 - start;
        let name = String::from_utf8(key).map_err(invalid)?;
        let (size, packing) = (packed / 4 * 3, Packing::Base64);
        members.insert(name.into(), Member { start, packed, size, packing, sum: None });
        match input.mark()? {
            b',' => {}
            b'}' => return Ok(members),
            _ => return Err(invalid(format!("a comma is missing at byte {}", input.position))),
        }
    }
}

/// Scans the punctuation and strings of a JSON object and keeps the position in the file.
struct Texts<R> {
    input: R,
    position: u64,
}

impl<R: BufRead> Texts<R> {
    /// Returns the next byte that is not white space.
    fn mark(&mut self) -> io::Result<u8> {
        loop {
            let bytes = self.input.fill_buf()?;
            let Some(byte) = bytes.first().copied() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            self.input.consume(1);
            self.position += 1;
            if !byte.is_ascii_whitespace() {
                return Ok(byte);
            }
        }
    }

    /// Passes the bytes before the closing quotation mark of a string to `take`, and moves past the
    /// mark.
    fn text(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut is_escaped = false;
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut end = None;
            for (place, byte) in bytes.iter().enumerate() {
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' => is_escaped = true,
                    b'"' => {
                        end = Some(place);
                        break;
                    }
                    _ => {}
                }
            }
            take(&bytes[..end.unwrap_or(bytes.len())]);
            let used = end.map_or(bytes.len(), |end| end + 1);
            self.input.consume(used);
            self.position += used as u64;
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    /// Writes a zip archive with deflated members.
    pub(crate) fn write_zip(path: &Path, members: &[(&str, &[u8])]) {
        // The crate compresses with features that reading does not need, so this is by hand: the
        // headers of APPNOTE.TXT 4.3.7, 4.3.12 and 4.3.16.
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (place, (name, bytes)) in members.iter().enumerate() {
            let is_deflated = place % 2 == 1;
            let packed = if is_deflated {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            } else {
                bytes.to_vec()
            };
            let mut crc = flate2::Crc::new();
            crc.update(bytes);
            let method = if is_deflated { 8_u16 } else { 0 };
            let mut common = Vec::new();
            for word in [20, 0, method, 0, 0x21] {
                common.extend(u16::to_le_bytes(word));
            }
            for number in [crc.sum(), packed.len() as u32, bytes.len() as u32] {
                common.extend(u32::to_le_bytes(number));
            }
            common.extend(u16::to_le_bytes(name.len() as u16));
            let start = out.len() as u32;
            out.extend([b"PK\x03\x04", common.as_slice(), &[0, 0], name.as_bytes(), &packed].concat());
            directory.extend([b"PK\x01\x02\x14\x00", common.as_slice(), &[0; 12]].concat());
            directory.extend([&u32::to_le_bytes(start), name.as_bytes()].concat());
        }
        let start = out.len() as u32;
        out.extend(&directory);
        out.extend(b"PK\x05\x06\0\0\0\0");
        for _ in 0..2 {
            out.extend(u16::to_le_bytes(members.len() as u16));
        }
        out.extend([u32::to_le_bytes(directory.len() as u32), u32::to_le_bytes(start)].concat());
        out.extend([0, 0]);
        std::fs::write(path, out).unwrap();
    }

    /// Writes a tar archive.
    pub(crate) fn write_tar(path: &Path, members: &[(&str, &[u8])]) {
        let mut out = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            out.append_data(&mut header, name, *bytes).unwrap();
        }
        out.finish().unwrap();
    }

    #[test]
    fn members_of_every_kind_are_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("images/{}.jpg", "n".repeat(150));
        let body = vec![7; 5000];
        let members: [(&str, &[u8]); 4] =
            [("images/a.jpg", b"first"), ("images/b.jpg", &body), (&long, b"long"), ("images/empty.jpg", b"")];
        let zip = folder.path().join("train.zip");
        write_zip(&zip, &members);
        let tar = folder.path().join("train.tar");
        write_tar(&tar, &members);
        for path in [zip, tar] {
            let archive = Archive::open(&path).unwrap();
            for (name, bytes) in members {
                let member = archive.find(name).unwrap();
                assert_eq!(archive.read(&member).unwrap(), bytes, "{name} in {}", path.display());
                assert_eq!(member.size, bytes.len() as u64);
            }
            // As it is unpacked, into a folder of its name, and without the folder of everything.
            for name in ["images/a.jpg", "train/images/a.jpg", "a.jpg"] {
                assert_eq!(archive.find(name), archive.find("images/a.jpg"), "{name}");
            }
            assert!(archive.find("images/c.jpg").is_none() && archive.find("b").is_none());
        }
    }

    #[test]
    fn base64_texts_of_an_object_are_members() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LA.json");
        std::fs::write(&path, "{\n \"LA_1\" : \"aGVsbG8=\", \"LA\\\"2\": \"\\/\\/\\/\\/\",\"LA_3\":\"*\"}").unwrap();
        let archive = Archive::open(&path).unwrap();
        let read = |name: &str| archive.read(&archive.find(name).unwrap());
        assert_eq!(read("LA_1").unwrap(), b"hello");
        assert_eq!(read("LA\\\"2").unwrap(), [255; 3]);
        assert!(read("LA_3").unwrap_err().to_string().contains("is not base64"));
        for text in ["[]", "{\"a\": 1}", "{\"a\": \"b", "{\"a\": \"b\" \"c\"", "{\"a\": \"b\",}", ""] {
            std::fs::write(&path, text).unwrap();
            let fault = Archive::open(&path).map(|_| text).unwrap_err().to_string();
            assert!(fault.contains("LA.json"), "{fault}");
        }
        std::fs::write(&path, " {} ").unwrap();
        assert!(Archive::open(&path).unwrap().members.is_empty());
    }

    #[test]
    fn damaged_archives_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let (zip, tar) = (folder.path().join("a.zip"), folder.path().join("a.tar"));
        write_zip(&zip, &[("a.jpg", b"abc"), ("b.jpg", &[1; 900])]);
        write_tar(&tar, &[("a.jpg", b"abc"), ("b.jpg", &[1; 900])]);
        let whole = Archive::open(&zip).unwrap();
        let mut bytes = std::fs::read(&zip).unwrap();
        let place = bytes.windows(5).position(|name| name == b"b.jpg").unwrap() + 5;
        bytes[place] ^= 0x07;
        std::fs::write(&zip, &bytes).unwrap();
        assert!(whole.read(&whole.find("b.jpg").unwrap()).is_err());
        assert_eq!(whole.read(&whole.find("a.jpg").unwrap()).unwrap(), b"abc");
        let place = bytes.windows(5).position(|name| name == b"a.jpg").unwrap() + 5;
        bytes[place] = b'x';
        std::fs::write(&zip, &bytes).unwrap();
        let fault = whole.read(&whole.find("a.jpg").unwrap()).unwrap_err().to_string();
        assert_eq!(fault, WRONG_SUM);
        for path in [zip, tar] {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len().min(1200) - 40]).unwrap();
            let fault = Archive::open(&path).map(|_| ()).unwrap_err().to_string();
            assert!(fault.starts_with("archive ") && fault.contains("/a."), "{fault}");
        }
        assert!(is_packed_whole(Path::new("a.tar.gz")) && is_packed_whole(Path::new("a.TGZ")));
        assert!(!is_packed_whole(Path::new("a.json.gz")) && !is_packed_whole(Path::new("a.zip")));
    }
}
