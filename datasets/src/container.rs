//! Whether the file of a video is whole, as far as its container shows. No frame is decoded, and no
//! program is needed.
//!
//! * MP4 and `QuickTime` (ISO/IEC 14496-12, 4.2): boxes one after another up to the end of the
//!   file, one of them `moov`;
//! * WebM and Matroska (RFC 9559): an EBML header and a segment that is not longer than the file;
//! * AVI (Microsoft, "AVI RIFF File Reference"): RIFF chunks that are not longer than the file.
//!
//! The first bytes tell the container, because names of files may be wrong. A file of another kind
//! is broken if its name promises one of these, and otherwise not examined.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use crate::picture::{Place, VIDEOS};
use crate::video::VideoFault;

/// The identifiers of an EBML header and of a segment.
const EBML: [u8; 4] = [0x1A, 0x45, 0xDF, 0xA3];
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];

/// The first boxes that MP4 and `QuickTime` files have.
const FIRST_BOXES: [&[u8; 4]; 7] = [b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"];

impl Place {
    /// Returns what is wrong with the container of a video; `None` if nothing is. `path` is the
    /// path of the video, whose extension says what it should be.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn fault_of_container(&self, path: &str) -> io::Result<Option<VideoFault>> {
        let fault = match (self, self.span()) {
            (Place::File(file), _) => Container::of(File::open(file)?, 0, self.size()?).fault(path)?,
            (Place::Member(own), Some((start, end))) => {
                Container::of(File::open(own.archive())?, start, end - start).fault(path)?
            }
            (Place::Member(_) | Place::Row(_), _) => {
                let bytes = self.read()?;
                let length = bytes.len() as u64;
                Container::of(Cursor::new(bytes), 0, length).fault(path)?
            }
        };
        Ok(fault.map(VideoFault::Broken))
    }
}

/// The bytes of a video within a file.
struct Container<R> {
    input: R,
    start: u64,
    length: u64,
}

impl<R: Read + Seek> Container<R> {
    fn of(input: R, start: u64, length: u64) -> Self {
        Self { input, start, length }
    }

    fn fault(mut self, path: &str) -> io::Result<Option<String>> {
        let head = self.bytes::<12>(0)?.unwrap_or_default();
        if FIRST_BOXES.iter().any(|name| head[4..8] == name[..]) {
            return self.boxes();
        }
        if head[..4] == EBML {
            return self.segment();
        }
        if &head[..4] == b"RIFF" && &head[8..] == b"AVI " {
            return self.chunks();
        }
        let extension = Path::new(path).extension().and_then(OsStr::to_str).unwrap_or_default();
        let promises = VIDEOS.iter().any(|known| extension.eq_ignore_ascii_case(known));
        Ok(promises.then(|| format!("it does not begin like a video, although its name ends with .{extension}")))
    }

    fn boxes(&mut self) -> io::Result<Option<String>> {
        let cut_off =
            |name: &[u8]| Some(format!("its box `{}` is longer than the file", String::from_utf8_lossy(name)));
        let (mut place, mut has_index) = (0, false);
        while place < self.length {
            let Some([a, b, c, d, name @ ..]) = self.bytes::<8>(place)? else {
                return Ok(Some("it ends within the head of a box".to_owned()));
            };
            if has_index && !name.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
                // Players pass over what follows the boxes.
                return Ok(None);
            }
            let size = match u32::from_be_bytes([a, b, c, d]) {
                0 => self.length - place,
                1 => match self.bytes::<8>(place + 8)? {
                    Some(size) => u64::from_be_bytes(size),
                    None => return Ok(cut_off(&name)),
                },
                size => u64::from(size),
            };
            if size < 8 || size > self.length - place {
                return Ok(cut_off(&name));
            }
            has_index |= name == *b"moov";
            place += size;
        }
        Ok((!has_index).then(|| "it has no `moov` box, without which nothing can be decoded".to_owned()))
    }

    fn segment(&mut self) -> io::Result<Option<String>> {
        let cut_off = Some("its segment is longer than the file".to_owned());
        let Some(header) = self.element(4)? else { return Ok(cut_off) };
        let begin = header.begin.saturating_add(header.size.unwrap_or(0));
        match self.bytes::<4>(begin)? {
            Some(SEGMENT) => {}
            Some(_) => return Ok(Some("it has no segment after its EBML header".to_owned())),
            None => return Ok(cut_off),
        }
        let Some(segment) = self.element(begin + 4)? else { return Ok(cut_off) };
        // Of a recording, the size is unknown.
        let is_whole = segment.size.is_none_or(|size| size <= self.length - segment.begin);
        Ok(if is_whole { None } else { cut_off })
    }

    /// Reads the size of an EBML element (RFC 8794, 4); `None` if the file ends before.
    fn element(&mut self, place: u64) -> io::Result<Option<Element>> {
        let Some([first]) = self.bytes::<1>(place)? else { return Ok(None) };
        let more = first.leading_zeros().min(7);
        let mask = 0x7F >> more;
        let (mut size, mut is_unknown) = (u64::from(first & mask), first & mask == mask);
        let begin = place + 1 + u64::from(more);
        for place in place + 1..begin {
            let Some([byte]) = self.bytes::<1>(place)? else { return Ok(None) };
            size = size << 8 | u64::from(byte);
            is_unknown &= byte == 0xFF;
        }
        Ok(Some(Element { size: (!is_unknown).then_some(size), begin }))
    }

    fn chunks(&mut self) -> io::Result<Option<String>> {
        let mut place = 0;
        while let Some([b'R', b'I', b'F', b'F', size @ ..]) = self.bytes::<8>(place)? {
            let size = u64::from(u32::from_le_bytes(size));
            if size > self.length - place - 8 {
                return Ok(Some("its RIFF chunk is longer than the file".to_owned()));
            }
            // Chunks begin at even places.
            place += 8 + size + size % 2;
        }
        Ok(None)
    }

    /// Reads bytes at a place; `None` if the file ends before.
    fn bytes<const COUNT: usize>(&mut self, place: u64) -> io::Result<Option<[u8; COUNT]>> {
        if place.saturating_add(COUNT as u64) > self.length {
            return Ok(None);
        }
        let mut bytes = [0; COUNT];
        self.input.seek(SeekFrom::Start(self.start + place))?;
        self.input.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// The content of an EBML element.
struct Element {
    /// Its size in bytes; `None` if it is unknown.
    size: Option<u64>,
    /// The place of its first byte.
    begin: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::tests::{write_tar, write_zip};
    use crate::picture::Pictures;

    fn fault(file: &[u8], path: &str) -> Option<String> {
        Container::of(Cursor::new(file), 0, file.len() as u64).fault(path).unwrap()
    }

    fn a_box(name: &[u8], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes(), name, content].concat()
    }

    #[test]
    fn a_file_that_is_cut_off_is_broken_in_every_container() {
        let large = [&1_u32.to_be_bytes()[..], b"mdat", &20_u64.to_be_bytes(), b"data"].concat();
        let mp4 = [a_box(b"ftyp", b"isom"), a_box(b"moov", b"index"), large].concat();
        let webm = [&EBML[..], &[0x82, 1, 2], &SEGMENT, &[0x40, 5], b"12345"].concat();
        let avi = [&b"RIFF"[..], &8_u32.to_le_bytes(), b"AVI data", b"RIFF", &4_u32.to_le_bytes(), b"AVIX"].concat();
        for (file, name) in [(mp4, "a.mp4"), (webm, "a.webm"), (avi, "a.avi")] {
            assert_eq!(fault(&file, name), None, "{name}");
            // The container is told by the content.
            assert_eq!(fault(&file, "a.mov"), None, "{name}");
            let whole = file.len();
            let cuts: Vec<usize> = (1..whole).filter(|cut| fault(&file[..*cut], name).is_none()).collect();
            // After a whole box or chunk nothing shows that another one is missing.
            let ends: Vec<usize> = match name {
                "a.mp4" => vec![25],
                "a.avi" => (16..24).collect(),
                _ => Vec::new(),
            };
            assert_eq!(cuts, ends, "{name}");
        }
    }

    #[test]
    fn what_is_no_video_is_broken_only_if_its_name_says_so() {
        assert!(fault(b"abc", "txt.mp4").unwrap().contains("does not begin like a video"));
        assert_eq!((fault(b"GIF89a", "a.gif"), fault(b"FLV\x01", "a.flv")), (None, None));
        let no_index = [a_box(b"ftyp", b"isom"), a_box(b"mdat", b"data")].concat();
        assert!(fault(&no_index, "a.mp4").unwrap().contains("no `moov` box"));
        let to_the_end = [a_box(b"moov", b"index"), [&0_u32.to_be_bytes()[..], b"mdat", b"data"].concat()].concat();
        assert_eq!(fault(&to_the_end, "a.mp4"), None);
        assert_eq!(fault(&[a_box(b"moov", b"index"), vec![0xFF; 20]].concat(), "a.mp4"), None);
        // A segment of unknown size, as a recording has.
        let live = [&EBML[..], &[0x81, 1], &SEGMENT, &[0x01], &[0xFF; 7], b"data"].concat();
        assert_eq!(fault(&live, "a.mkv"), None);
    }

    #[test]
    fn members_of_archives_are_examined_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let whole = a_box(b"moov", b"index");
        write_tar(&folder.path().join("a.tar"), &[("a/1.mp4", &whole), ("a/2.mp4", &whole[..9])]);
        write_zip(&folder.path().join("b.zip"), &[("b/1.mp4", &whole), ("b/2.mp4", &whole[..9])]);
        let pictures = Pictures::of([folder.path().to_owned()]);
        for (path, is_whole) in [("a/1.mp4", true), ("a/2.mp4", false), ("b/1.mp4", true), ("b/2.mp4", false)] {
            let place = pictures.find(path).unwrap().unwrap();
            assert_eq!(place.fault_of_container(path).unwrap().is_none(), is_whole, "{path}");
        }
    }

    #[test]
    fn videos_of_ffmpeg_are_whole_until_they_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.mov", "a.mkv", "a.avi"] {
            let path = folder.path().join(name);
            if !crate::machine::video("testsrc=s=64x48:r=10:d=1", &path) {
                return;
            }
            let file = std::fs::read(&path).unwrap();
            assert_eq!(fault(&file, name), None, "{name}");
            assert!(fault(&file[..file.len() / 2], name).is_some(), "{name}");
        }
    }
}
