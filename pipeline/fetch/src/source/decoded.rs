//! Reads list files as plain UTF-8. Recognises their content by the first bytes, decompresses it,
//! decodes UTF-16 and removes byte order marks.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

/// A reader of plain text.
pub(super) type Reader = Box<dyn BufRead + Send>;

const BUFFER_BYTES: usize = 128 << 10;

/// Number of first bytes by which the content of a file is recognised. The longest mark of
/// [`FOREIGN`] is shorter.
const HEAD_BYTES: usize = 64;

/// First bytes of files that are not lists, and the error message for each. Marks of compressed
/// formats are from the specifications of the formats.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"version https://git-lfs.github.com/spec/", "it is a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"\xfd7zXZ\0", "xz is not read; decompress it"),
    (b"\x04\x22\x4d\x18", "lz4 is not read; decompress it"),
    (b"\x02\x21\x4c\x18", "lz4 is not read; decompress it"),
    (b"LZIP\x01", "lzip is not read; decompress it"),
    (b"\x1f\x9d", "compress (.Z) is not read; decompress it"),
    (b"\xff\x06\0\0sNaPpY", "snappy is not read; decompress it"),
    (b"7z\xbc\xaf\x27\x1c", "7z archives are not read; unpack it"),
    (b"Rar!\x1a\x07", "rar archives are not read; unpack it"),
    (b"PK\x03\x04", "zip archives and Excel workbooks are not read; unpack it, or save the sheet as CSV"),
    (b"PK\x05\x06", "it is an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel workbooks are not read; save the sheet as CSV"),
    (b"ARROW1\0\0", "Arrow files are not read; write the table as Parquet"),
    (b"\xff\xfe\0\0", "UTF-32 is not read; save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 is not read; save it as UTF-8"),
];

/// Bytes after `BZh` and a digit in bzip2 files: the mark of a block or of the end.
const BZIP2_MARKS: [&[u8]; 2] = [b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"];

/// The kind of a file by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Gzip,
    Zstd,
    Parquet,
    Utf16(Order),
    /// Not a list, with the error message.
    Foreign(&'static str),
    /// Text, as far as the first bytes show.
    Plain,
}

/// The byte order of UTF-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Content {
    fn of(head: &[u8]) -> Content {
        if let Some((_, reason)) = FOREIGN.iter().find(|(mark, _)| head.starts_with(mark)) {
            return Content::Foreign(reason);
        }
        let is_html = |mark: &str| {
            let start = head.trim_ascii_start();
            start.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark.as_bytes()))
        };
        match head {
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if BZIP2_MARKS.iter().any(|mark| rest.starts_with(mark)) => {
                Content::Foreign("bzip2 is not read; decompress it")
            }
            [0x1f, 0x8b, ..] => Content::Gzip,
            // A Zstandard frame or a skippable frame, RFC 8878.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Content::Zstd,
            [b'P', b'A', b'R', b'1', ..] => Content::Parquet,
            // With a byte order mark, or ASCII without one. No other text has zeros at these
            // positions.
            [0xff, 0xfe, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..] => Content::Utf16(Order::Little),
            [0xfe, 0xff, ..] | [0, 1..=0x7f, 0, 1..=0x7f, ..] => Content::Utf16(Order::Big),
            _ if is_html("<!doctype html") || is_html("<html") => {
                Content::Foreign("it is an HTML page, perhaps one that asks for a login; download the file itself")
            }
            _ => Content::Plain,
        }
    }
}

fn refused(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// Returns the first bytes of a reader, and a reader that starts with them again.
fn peek(mut reader: Reader) -> io::Result<(Vec<u8>, Reader)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}

/// Refuses a file whose first bytes show that it is not a list, such as a Git LFS pointer.
pub(super) fn refuse_foreign(path: &Path) -> io::Result<()> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    match Content::of(&head) {
        Content::Foreign(reason) => Err(refused(reason)),
        _ => Ok(()),
    }
}

/// Opens a text file. gzip and Zstandard files, also of several members, are decompressed whatever
/// their names are.
pub(super) fn open(path: &Path) -> io::Result<Reader> {
    let (head, file) = peek(Box::new(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?)))?;
    let decompressed: Reader = match Content::of(&head) {
        Content::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, Members::new(file))),
        Content::Zstd => {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::stream::read::Decoder::with_buffer(file)?))
        }
        _ => {
            let suffix = path.extension().and_then(|suffix| suffix.to_str()).map(str::to_ascii_lowercase);
            if let Some(suffix) = suffix.filter(|suffix| matches!(suffix.as_str(), "gz" | "zst")) {
                return Err(refused(format!(
                    "its name ends in .{suffix}, but it is not compressed in this format; remove the ending if it is plain text"
                )));
            }
            return decode(&head, file);
        }
    };
    let (head, text) = peek(decompressed)?;
    decode(&head, text)
}

/// Returns a reader of the text of `reader`, whose first bytes are `head`.
fn decode(head: &[u8], mut reader: Reader) -> io::Result<Reader> {
    match Content::of(head) {
        Content::Foreign(reason) => Err(refused(reason)),
        Content::Gzip | Content::Zstd => Err(refused("it is compressed twice; decompress it once")),
        Content::Parquet => Err(refused("it is a Parquet file; set `format` (--input-format) to parquet")),
        Content::Utf16(order) => {
            if matches!(head, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
                reader.read_exact(&mut [0; 2])?;
            }
            let text = lynxdata_records::text::utf16(reader, order == Order::Big);
            Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, text)))
        }
        Content::Plain => {
            const MARK: &[u8] = b"\xef\xbb\xbf"; // that some editors write
            if head.starts_with(MARK) {
                reader.read_exact(&mut [0; MARK.len()])?;
            }
            Ok(reader)
        }
    }
}

/// Reads all members of a gzip file. Like gzip, ignores zeros after a member, which tapes and block
/// devices leave.
struct Members {
    /// The current member; `None` at the end of the file.
    member: Option<GzDecoder<Reader>>,
}

impl Members {
    fn new(file: Reader) -> Members {
        Members { member: Some(GzDecoder::new(file)) }
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let Some(mut file) = self.member.take().map(GzDecoder::into_inner) else { break };
            let next = loop {
                let bytes = file.fill_buf()?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                let next = bytes.get(zeros).copied();
                let is_end = bytes.is_empty();
                file.consume(zeros);
                if next.is_some() || is_end {
                    break next;
                }
            };
            match next {
                None => {}
                Some(0x1f) => self.member = Some(GzDecoder::new(file)),
                Some(_) => {
                    return Err(refused(
                        "something other than gzip follows its compressed content; is the file damaged?",
                    ));
                }
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut text = Vec::new();
        open(&path).and_then(|mut reader| reader.read_to_end(&mut text)).map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_content_decides_on_compression_and_not_the_name() {
        for name in ["a.csv", "A.CSV.GZ", "a.gz", "a"] {
            assert_eq!(read(name, &gz(b"url\n")).unwrap(), b"url\n", "{name}");
            assert_eq!(read(name, &zstd::encode_all(&b"url\n"[..], 1).unwrap()).unwrap(), b"url\n", "{name}");
        }
        for name in ["a.gz", "a.csv.GZ", "a.zst"] {
            assert!(read(name, b"url\n").unwrap_err().contains("not compressed"), "{name}");
        }
    }

    #[test]
    fn zeros_behind_gzip_are_passed_over_and_nothing_else() {
        let zeros = vec![0; 3 * BUFFER_BYTES];
        let two = [&gz(b"a\n")[..], &gz(b""), &gz(b"b\n")].concat();
        assert_eq!(read("a.gz", &two).unwrap(), b"a\nb\n");
        assert_eq!(read("a.gz", &[&two[..], &zeros].concat()).unwrap(), b"a\nb\n");
        assert_eq!(read("a.gz", &[&gz(b"a\n")[..], &zeros, &gz(b"b\n")].concat()).unwrap(), b"a\nb\n");
        for other in [&b"x"[..], b"\0\0x", b"url,caption\n"] {
            assert!(read("a.gz", &[&two[..], other].concat()).unwrap_err().contains("follows"), "{other:?}");
        }
        let cut = &two[..two.len() - 3];
        assert!(read("a.gz", cut).is_err(), "what is cut off is no end");
    }

    #[test]
    fn what_is_no_list_is_named() {
        let mut members: Vec<(Vec<u8>, &str)> =
            FOREIGN.iter().map(|(mark, reason)| ([mark, &b" and more"[..]].concat(), *reason)).collect();
        members.push((b"BZh91AY&SY\x01".to_vec(), "bzip2"));
        members.push((b"\n <!DOCTYPE HTML><html>".to_vec(), "HTML"));
        members.push((b"PAR1....PAR1".to_vec(), "Parquet"));
        for (bytes, expected) in members {
            for (name, bytes) in [("a.csv", bytes.clone()), ("a.gz", gz(&bytes))] {
                assert!(read(name, &bytes).unwrap_err().contains(expected), "{expected} in {name}");
            }
        }
        for text in ["BZh9,url\n", "PK,url\n", "version,url\n", "Part\n", ""] {
            assert_eq!(read("a.csv", text.as_bytes()).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn utf_16_is_decoded_and_what_is_no_character_is_replaced() {
        let text = "url,alt\r\nä€😀,x\n";
        let bytes = |units: &[u16], big: bool| -> Vec<u8> {
            units.iter().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
        };
        for big in [false, true] {
            let plain: Vec<u16> = text.encode_utf16().collect();
            let marked: Vec<u16> = [0xfeff].into_iter().chain(plain.iter().copied()).collect();
            assert_eq!(read("a.csv", &bytes(&plain, big)).unwrap(), text.as_bytes());
            assert_eq!(read("a.csv", &bytes(&marked, big)).unwrap(), text.as_bytes());
            assert_eq!(read("a.csv.gz", &gz(&bytes(&marked, big))).unwrap(), text.as_bytes());
            let lone = [0xfeff, 0xd83d, 0x61, 0xdc00, 0x62, 0xd83d, 0xd83d, 0xde00, 0xd800];
            let text_of = |bytes: &[u8]| String::from_utf8(read("a.csv", bytes).unwrap()).unwrap();
            assert_eq!(text_of(&bytes(&lone, big)), "\u{fffd}a\u{fffd}b\u{fffd}😀\u{fffd}");
            assert_eq!(text_of(&[&bytes(&marked, big)[..], b"\0"].concat()), format!("{text}\u{fffd}"));
        }
        assert_eq!(read("a.csv", b"\xef\xbb\xbfurl").unwrap(), b"url");
    }
}
