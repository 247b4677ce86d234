//! Content codings (RFC 9110, section 8.4.1): bodies that a server has compressed for the transfer.
//!
//! Some servers name codings that they have not used, and send an unpacked image with
//! `Content-Encoding: gzip`. So the bytes decide. A body that begins like an image, or does not
//! begin like its coding, is used as it is. Bytes after the end of the packed data are ignored, as
//! browsers and `gzip -d` do.

use std::fmt;
use std::io;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use hyper::HeaderMap;
use hyper::header;
use lynxdata_picture::begins_as_picture;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

/// The codings in the `Accept-Encoding` header. `deflate` is understood but not requested, because
/// servers use the name for two formats.
pub(crate) const ACCEPTED: &str = "gzip, br, zstd";

/// Bytes that are unpacked at a time. Small, so that a decompression bomb is detected early.
const PIECE: usize = 16 << 10;
/// Number of first bytes that decide whether a body is packed at all: the length of the longest
/// image signature, that of BMP.
const FIRST_BYTES: usize = 18;
/// Maximum number of codings of one body: curl's `MAX_ENCODE_STACK` (`lib/content_encoding.c`).
const MOST_CODINGS: usize = 5;
/// Maximum window of zstd, as a power of two: 8 MiB, as RFC 9659 allows.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Maximum length of a header of a gzip member that is accepted, in bytes. It holds two texts and a
/// field of at most 64 KiB.
const LONGEST_GZIP_HEADER: usize = 256 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Returns the coding of a name; `None` for unknown names. Names such as `identity`, `none` or
    /// `utf-8` change no bytes.
    fn of(name: &str) -> Option<Coding> {
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            "br" => Some(Coding::Brotli),
            "zstd" => Some(Coding::Zstd),
            _ => None,
        }
    }
}

/// Unpacks a body as it arrives.
#[derive(Debug)]
pub(crate) struct Unpacking {
    /// The codings in the order in which they are undone.
    stages: Vec<Stage>,
    has_ended: bool,
    /// Buffer for the unpacked bytes.
    output: Box<[u8]>,
}

impl Unpacking {
    /// Prepares to undo the codings that the headers of an answer name; `None` if they name no
    /// coding.
    ///
    /// # Errors
    /// If they name more than [`MOST_CODINGS`] codings.
    pub(crate) fn of(headers: &HeaderMap) -> io::Result<Option<Unpacking>> {
        let values = headers.get_all(header::CONTENT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
        let mut codings: Vec<Coding> = values.flat_map(|value| value.split(',')).filter_map(Coding::of).collect();
        if codings.len() > MOST_CODINGS {
            return Err(invalid(&format!("the answer names {} content codings, which is too many", codings.len())));
        }
        codings.reverse();
        let stages: Vec<Stage> = codings.into_iter().map(Stage::new).collect();
        let unpacking = |stages| Unpacking { stages, has_ended: false, output: vec![0; PIECE].into() };
        Ok((!stages.is_empty()).then(|| unpacking(stages)))
    }

    /// Adds the next bytes of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if let Some(first) = self.stages.first_mut() {
            first.input.add(bytes);
        }
    }

    /// Marks the end of the body.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Returns whether the end of the body has been marked.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the next unpacked bytes; `None` if more of the body is needed, or at the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the packed data end too early, others if they are
    /// damaged.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let length = pull(&mut self.stages, self.has_ended, &mut self.output)?;
        Ok((length > 0).then(|| &self.output[..length]))
    }
}

/// Undoes codings until the last one has unpacked some bytes. Returns their number; 0 if it needs
/// more input.
fn pull(stages: &mut [Stage], has_ended: bool, output: &mut [u8]) -> io::Result<usize> {
    let Some((last, before)) = stages.split_last_mut() else { return Ok(0) };
    loop {
        let input_ended = before.last().map_or(has_ended, |stage| stage.is_over);
        let written = last.step(input_ended, output)?;
        if written > 0 || input_ended || before.is_empty() {
            return Ok(written);
        }
        let mut bytes = [0; PIECE];
        let length = pull(before, has_ended, &mut bytes)?;
        last.input.add(&bytes[..length]);
        if length == 0 && before.last().is_some_and(|stage| !stage.is_over) {
            return Ok(0);
        }
    }
}

/// One coding of a body.
#[derive(Debug)]
struct Stage {
    coding: Coding,
    /// `None` until the first bytes have shown which format they have.
    decoder: Option<Decoder>,
    input: Input,
    /// Whether it can return no more bytes.
    is_over: bool,
}

/// Packed bytes; the first `used` of them have been consumed.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }
}

impl Stage {
    fn new(coding: Coding) -> Stage {
        Stage { coding, decoder: None, input: Input::default(), is_over: false }
    }

    /// Unpacks some bytes and returns their number; 0 if more input is needed.
    fn step(&mut self, input_ended: bool, output: &mut [u8]) -> io::Result<usize> {
        if self.decoder.is_none() {
            let first = self.input.rest();
            if first.len() < FIRST_BYTES && !input_ended {
                return Ok(0);
            }
            self.decoder = Some(Decoder::of(self.coding, first)?);
        }
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        loop {
            let (read, written) = decoder.step(self.input.rest(), output)?;
            self.input.used += read;
            if written > 0 {
                return Ok(written);
            }
            let is_empty = self.input.rest().is_empty();
            if is_empty && !input_ended {
                return Ok(0);
            }
            if read == 0 {
                // No more input will come, or the decoder accepts none.
                if !is_empty {
                    return Err(invalid("the packed body cannot be unpacked"));
                }
                if !decoder.may_end() {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the packed body ends too early"));
                }
                self.is_over = true;
                return Ok(0);
            }
        }
    }
}

enum Decoder {
    /// Bytes that are not packed.
    Plain,
    Gzip(Gzip),
    /// Deflate, and whether it has ended.
    Deflate(Decompress, bool),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>, bool),
    Zstd(Zstd),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Decoder::Plain => "Plain",
            Decoder::Gzip(_) => "Gzip",
            Decoder::Deflate(..) => "Deflate",
            Decoder::Brotli(..) => "Brotli",
            Decoder::Zstd(_) => "Zstd",
        };
        formatter.write_str(name)
    }
}

impl Decoder {
    fn of(coding: Coding, first: &[u8]) -> io::Result<Decoder> {
        if begins_as_picture(first) {
            return Ok(Decoder::Plain);
        }
        Ok(match coding {
            Coding::Gzip if is_gzip(first) => Decoder::Gzip(Gzip::Header(Vec::new())),
            Coding::Zstd if is_zstd(first) => Decoder::Zstd(Zstd::new()?),
            Coding::Gzip | Coding::Zstd => Decoder::Plain,
            // Some servers omit the zlib format (RFC 1950) around the deflated data.
            Coding::Deflate => Decoder::Deflate(Decompress::new(is_zlib(first)), false),
            Coding::Brotli if first.is_empty() => Decoder::Plain,
            Coding::Brotli => {
                let allocator = StandardAlloc::default;
                Decoder::Brotli(Box::new(BrotliState::new_strict(allocator(), allocator(), allocator())), false)
            }
        })
    }

    /// Returns whether the data may end here.
    fn may_end(&self) -> bool {
        match self {
            Decoder::Plain => true,
            Decoder::Gzip(gzip) => matches!(gzip, Gzip::Between | Gzip::Ended),
            Decoder::Deflate(_, has_ended) | Decoder::Brotli(_, has_ended) => *has_ended,
            Decoder::Zstd(zstd) => zstd.is_between || zstd.has_ended,
        }
    }

    /// Unpacks some bytes. Returns the numbers of bytes read and written.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        match self {
            Decoder::Plain => {
                let length = input.len().min(output.len());
                output[..length].copy_from_slice(&input[..length]);
                Ok((length, length))
            }
            Decoder::Gzip(gzip) => gzip.step(input, output),
            Decoder::Deflate(_, true) | Decoder::Brotli(_, true) => Ok((input.len(), 0)),
            Decoder::Deflate(inflate, has_ended) => {
                let (read, written, ended) = inflate_some(inflate, input, output)?;
                *has_ended = ended;
                Ok((read, written))
            }
            Decoder::Brotli(state, has_ended) => {
                let (mut read, mut written) = (0, 0);
                let (mut left, mut room, mut total) = (input.len(), output.len(), 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    input,
                    &mut room,
                    &mut written,
                    output,
                    &mut total,
                    state,
                );
                match result {
                    BrotliResult::ResultFailure => return Err(invalid("the brotli data are damaged")),
                    BrotliResult::ResultSuccess => *has_ended = true,
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                }
                Ok((read, written))
            }
            Decoder::Zstd(zstd) => zstd.step(input, output),
        }
    }
}

/// Inflates some bytes. Returns the numbers of bytes read and written, and whether the data have
/// ended.
fn inflate_some(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate
        .decompress(input, output, FlushDecompress::None)
        .map_err(|error| invalid(&format!("the deflated data are damaged: {error}")))?;
    let (read, written) = (inflate.total_in() - read, inflate.total_out() - written);
    Ok((read as usize, written as usize, status == Status::StreamEnd))
}

/// Concatenated gzip members (RFC 1952).
enum Gzip {
    /// The bytes of a member's header so far.
    Header(Vec<u8>),
    Data(Decompress, Crc),
    /// The computed checksum and length, and the bytes of the trailer so far.
    Trailer(Crc, Vec<u8>),
    /// After a member, where another one may begin.
    Between,
    /// After the last member. What follows is not gzip.
    Ended,
}

impl Gzip {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        match self {
            Gzip::Header(header) => {
                let before = header.len();
                header.extend_from_slice(input);
                let Some(length) = gzip_header_length(header)? else {
                    if header.len() > LONGEST_GZIP_HEADER {
                        return Err(invalid("the gzip header is too long"));
                    }
                    return Ok((input.len(), 0));
                };
                *self = Gzip::Data(Decompress::new(false), Crc::new());
                Ok((length - before, 0))
            }
            Gzip::Data(inflate, found) => {
                let (read, written, ended) = inflate_some(inflate, input, output)?;
                found.update(&output[..written]);
                if ended {
                    *self = Gzip::Trailer(std::mem::take(found), Vec::new());
                }
                Ok((read, written))
            }
            Gzip::Trailer(found, written) => {
                let read = input.len().min(8 - written.len());
                written.extend_from_slice(&input[..read]);
                if let Some(&[c0, c1, c2, c3, l0, l1, l2, l3]) = written.first_chunk() {
                    let is_right = u32::from_le_bytes([c0, c1, c2, c3]) == found.sum()
                        && u32::from_le_bytes([l0, l1, l2, l3]) == found.amount();
                    if !is_right {
                        return Err(invalid("the checksum of the gzip data is wrong"));
                    }
                    *self = Gzip::Between;
                }
                Ok((read, 0))
            }
            Gzip::Between if input.first() == Some(&GZIP[0]) => {
                *self = Gzip::Header(Vec::new());
                self.step(input, output)
            }
            Gzip::Between | Gzip::Ended => {
                if !input.is_empty() {
                    *self = Gzip::Ended;
                }
                Ok((input.len(), 0))
            }
        }
    }
}

/// The magic bytes of a gzip member.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn is_gzip(first: &[u8]) -> bool {
    first.starts_with(&GZIP)
}

/// Returns whether data begin with a zlib header: method 8, a valid window size, and a correct
/// check value over both bytes (RFC 1950, section 2.2).
fn is_zlib(first: &[u8]) -> bool {
    let &[method, flags, ..] = first else { return false };
    method & 15 == 8 && method >> 4 <= 7 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

/// Returns whether data begin with a Zstandard frame or a skippable frame (RFC 8878, section 3.1).
fn is_zstd(first: &[u8]) -> bool {
    matches!(first, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Returns the length of a member's header (RFC 1952, section 2.3); `None` if it is not complete
/// yet.
fn gzip_header_length(header: &[u8]) -> io::Result<Option<usize>> {
    const DEFLATE: u8 = 8;
    // The bits of the flags.
    const CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let Some(&[first, second, method, flags, ..]) = header.first_chunk::<10>() else { return Ok(None) };
    if [first, second] != GZIP || method != DEFLATE {
        return Err(invalid("a gzip member has no header"));
    }
    let mut length = 10;
    if flags & EXTRA != 0 {
        let Some(&[low, high]) = header.get(length..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        length += 2 + usize::from(u16::from_le_bytes([low, high]));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = header.get(length..).and_then(|rest| rest.iter().position(|byte| *byte == 0));
            let Some(end) = end else { return Ok(None) };
            length += end + 1;
        }
    }
    if flags & CHECKSUM != 0 {
        length += 2;
    }
    Ok((header.len() >= length).then_some(length))
}

/// Concatenated Zstandard frames.
struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// Whether a frame has ended, so that another one may begin.
    is_between: bool,
    has_ended: bool,
}

impl Zstd {
    fn new() -> io::Result<Zstd> {
        let mut decoder = ZstdDecoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Zstd { decoder, is_between: false, has_ended: false })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        if self.is_between
            && let Some(first) = input.first()
        {
            self.has_ended |= !matches!(first, 0x28 | 0x50..=0x5f);
        }
        if self.has_ended || self.is_between && input.is_empty() {
            return Ok((input.len(), 0));
        }
        let status = self.decoder.run_on_buffers(input, output)?;
        self.is_between = status.remaining == 0;
        Ok((status.bytes_read, status.bytes_written))
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    /// Bytes that do not begin like an image.
    fn text() -> Vec<u8> {
        (0..20_000_u32).flat_map(|number| (number * number).to_le_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        brotli::CompressorReader::new(bytes, 4096, 1, 20).read_to_end(&mut packed).unwrap();
        packed
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    /// Returns the unpacked bytes of a body that arrives in chunks.
    fn unpack(coding: &str, body: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, coding.parse().unwrap());
        let Some(mut unpacking) = Unpacking::of(&headers)? else { return Ok(body.to_vec()) };
        let mut unpacked = Vec::new();
        for chunk in body.chunks(chunk) {
            unpacking.feed(chunk);
            while let Some(piece) = unpacking.next()? {
                assert!(!piece.is_empty() && piece.len() <= PIECE);
                unpacked.extend_from_slice(piece);
            }
        }
        unpacking.end();
        while let Some(piece) = unpacking.next()? {
            unpacked.extend_from_slice(piece);
        }
        Ok(unpacked)
    }

    #[test]
    fn what_is_packed_is_unpacked_however_it_arrives() {
        let text = text();
        let half = text.len() / 2;
        let with_all_fields = {
            let builder = flate2::GzBuilder::new().filename("a").comment("b").extra(vec![1, 2, 3]);
            let mut encoder = builder.write(Vec::new(), Compression::fast());
            encoder.write_all(&text).unwrap();
            encoder.finish().unwrap()
        };
        for (coding, body) in [
            ("gzip", gzip(&text)),
            (" GZIP ", gzip(&text)),
            ("x-gzip", with_all_fields),
            ("gzip", [gzip(&text[..half]), gzip(&text[half..])].concat()),
            ("gzip", [&gzip(&text)[..], &[0; 512]].concat()),
            ("gzip", [&gzip(&text)[..], b"<!-- behind -->"].concat()),
            ("deflate", zlib(&text)),
            ("deflate", raw_deflate(&text)),
            ("deflate", [&zlib(&text)[..], b"behind"].concat()),
            ("br", brotli(&text)),
            ("br", [&brotli(&text)[..], b"behind"].concat()),
            ("zstd", zstd(&text)),
            ("zstd", [zstd(&text[..half]), zstd(&text[half..])].concat()),
            ("zstd", [&zstd(&text)[..], &[0; 64]].concat()),
            ("gzip, gzip", gzip(&gzip(&text))),
            ("deflate, br", brotli(&zlib(&text))),
            ("zstd,, identity, gzip", gzip(&zstd(&text))),
            ("utf-8", text.clone()),
            ("none", text.clone()),
            ("", text.clone()),
        ] {
            for chunk in [7, 19, 5_000, 1 << 20] {
                let unpacked = unpack(coding, &body, chunk).unwrap();
                assert!(unpacked == text, "{coding:?} in chunks of {chunk}: {} bytes", unpacked.len());
            }
        }
    }

    #[test]
    fn a_picture_that_is_said_to_be_packed_is_taken_as_it_is() {
        let picture = include_bytes!("../../picture/fixtures/plain.jpg");
        for coding in ["gzip", "deflate", "br", "zstd", "gzip, br", "gzip, gzip"] {
            for chunk in [1, 100, 1 << 20] {
                assert_eq!(unpack(coding, picture, chunk).unwrap(), picture, "{coding}");
            }
        }
        // Packed once, although the header names two codings.
        assert_eq!(unpack("gzip, gzip", &gzip(picture), 64).unwrap(), picture);
        for (coding, body) in [("gzip", &b"<html>not here</html>"[..]), ("zstd", b"no"), ("gzip", b""), ("br", b"")] {
            assert_eq!(unpack(coding, body, 3).unwrap(), body, "{coding}");
        }
    }

    #[test]
    fn what_ends_too_early_or_is_damaged_is_told_apart() {
        let text = text();
        for (coding, body) in [
            ("gzip", gzip(&text)),
            ("deflate", zlib(&text)),
            ("deflate", raw_deflate(&text)),
            ("br", brotli(&text)),
            ("zstd", zstd(&text)),
            ("gzip, gzip", gzip(&gzip(&text))),
        ] {
            for length in [body.len() / 2, body.len() - 1] {
                let error = unpack(coding, &body[..length], 1000).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{coding} after {length}: {error}");
            }
        }
        let mut wrong = gzip(&text);
        let checksum = wrong.len() - 8;
        wrong[checksum] ^= 1;
        assert_eq!(unpack("gzip", &wrong, 1000).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(unpack(&["gzip"; MOST_CODINGS + 1].join(","), b"", 1).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(
            body in prop::collection::vec(any::<u8>(), 0..600),
            damage in 0..600_usize,
            kind in 0..5_usize,
            chunk in 1..700_usize,
        ) {
            let coding = ["gzip", "deflate", "br", "zstd", "gzip, br"][kind];
            let _ = unpack(coding, &body, chunk);
            let packed = [gzip, raw_deflate, brotli, zstd, |body: &[u8]| brotli(&gzip(body))][kind];
            let mut packed = packed(&body);
            let place = damage % packed.len();
            packed[place] ^= 0x55;
            let _ = unpack(coding, &packed, chunk);
        }
    }
}
