//! Decompresses strips and tiles.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use flate2::read::ZlibDecoder;

use super::super::{PictureError, jpeg};
use super::directory::{COMPRESSION, Directory, JPEG_TABLES, T4_OPTIONS};
use super::fax;
use crate::broken;

/// The compression of the strips or tiles of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Fax(fax::Coding),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    pub(super) fn of(directory: &Directory) -> Result<Self, PictureError> {
        // TIFF 6.0, sections 3, 9 to 11 and 13; Technical Note 2; Adobe Photoshop TIFF Technical
        // Notes for deflate, and its older number.
        let name = match directory.number(COMPRESSION).unwrap_or(1) {
            1 => return Ok(Compression::None),
            2 => return Ok(Compression::Fax(fax::Coding::Rows)),
            3 if directory.number(T4_OPTIONS).unwrap_or(0) & 1 == 0 => {
                return Ok(Compression::Fax(fax::Coding::Group3));
            }
            3 => return Ok(Compression::Fax(fax::Coding::Group3TwoDimensional)),
            4 => return Ok(Compression::Fax(fax::Coding::Group4)),
            5 => return Ok(Compression::Lzw),
            7 => return Ok(Compression::Jpeg),
            8 | 32946 => return Ok(Compression::Deflate),
            32773 => return Ok(Compression::PackBits),
            6 => "JPEG of the kind before Technical Note 2".into(),
            34925 => "LZMA".into(),
            50000 => "Zstandard".into(),
            50001 => "WebP".into(),
            other => format!("kind {other}"),
        };
        Err(PictureError::Unsupported(format!("a TIFF with compression by {name}")))
    }
}

/// A strip or tile, with what is needed to read it.
pub(super) struct Compressed<'a> {
    pub directory: &'a Directory<'a>,
    pub compression: Compression,
    pub bytes: &'a [u8],
    /// Pixels in a row, and rows that belong to the image.
    pub size: (u32, u32),
    /// Samples per pixel.
    pub samples: usize,
    /// Whether the bits of its bytes are in the reverse order.
    pub is_reversed: bool,
    /// Maximum number of rows; the last strip may have fewer.
    pub most_rows: u32,
    /// Whether a JPEG is converted from YCbCr to RGB.
    pub is_ycc: bool,
}

impl<'a> Compressed<'a> {
    /// Returns a reader of the decompressed rows, one after the other.
    pub(super) fn rows(self) -> Result<Box<dyn Read + 'a>, PictureError> {
        if self.compression == Compression::Jpeg {
            return Ok(Box::new(Cursor::new(self.jpeg()?)));
        }
        let bytes: Box<dyn Read + 'a> = match self.compression {
            Compression::Fax(coding) => {
                let bytes: Cow<[u8]> = if self.is_reversed {
                    self.bytes.iter().map(|byte| byte.reverse_bits()).collect()
                } else {
                    self.bytes.into()
                };
                let (width, height) = (self.size.0 as usize, self.size.1 as usize);
                let rows =
                    fax::decode(&bytes, coding, width, height).ok_or_else(|| broken("damaged: its fax codes"))?;
                return Ok(Box::new(Cursor::new(rows)));
            }
            _ if self.is_reversed => Box::new(Reversed(self.bytes)),
            _ => Box::new(self.bytes),
        };
        Ok(match self.compression {
            Compression::Lzw => Box::new(Lzw::new(bytes)),
            Compression::Deflate => Box::new(ZlibDecoder::new(bytes)),
            Compression::PackBits => Box::new(PackBits { source: bytes, run: Run::Copied(0) }),
            _ => bytes,
        })
    }

    /// Returns the samples of a strip or tile that is a JPEG. Its tables may be in the directory.
    fn jpeg(&self) -> Result<Vec<u8>, PictureError> {
        let tables = self.directory.bytes(JPEG_TABLES).unwrap_or_default();
        // Both begin with a start-of-image marker. The end-of-image marker of the tables is
        // removed, because it would end the file.
        let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(tables);
        let picture = if tables.is_empty() { self.bytes } else { self.bytes.get(2..).unwrap_or_default() };
        let (components, samples) =
            jpeg::decode_samples(&[tables, picture].concat(), (self.size.0, self.most_rows), self.is_ycc)?;
        if components != self.samples {
            return Err(broken(format!("a JPEG of {components} components for {} samples", self.samples)));
        }
        Ok(samples)
    }
}

/// Bytes with their bits in the reverse order (TIFF 6.0, section 8: `FillOrder` of 2).
struct Reversed<'a>(&'a [u8]);

impl Read for Reversed<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(target)?;
        target[..count].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
        Ok(count)
    }
}

/// A reader of LZW (TIFF 6.0, section 13).
struct Lzw<R> {
    decoder: weezl::decode::Decoder,
    source: io::BufReader<R>,
}

impl<R: Read> Lzw<R> {
    fn new(source: R) -> Self {
        Lzw {
            decoder: weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8),
            source: io::BufReader::new(source),
        }
    }
}

impl<R: Read> Read for Lzw<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        use io::BufRead;
        loop {
            let source = self.source.fill_buf()?;
            let is_over = source.is_empty();
            let result = self.decoder.decode_bytes(source, target);
            self.source.consume(result.consumed_in);
            result.status.map_err(io::Error::other)?;
            if result.consumed_out > 0 || result.consumed_in == 0 || is_over {
                return Ok(result.consumed_out);
            }
        }
    }
}

/// A reader of PackBits (TIFF 6.0, section 9).
struct PackBits<R> {
    source: R,
    run: Run,
}

/// The rest of the run that the last header announced.
enum Run {
    Copied(usize),
    Repeated(u8, usize),
}

impl<R: Read> PackBits<R> {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.source.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

impl<R: Read> Read for PackBits<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            let (Run::Copied(left) | Run::Repeated(_, left)) = self.run;
            let count = left.min(target.len());
            match &mut self.run {
                _ if target.is_empty() => return Ok(0),
                Run::Copied(left) if *left > 0 => {
                    self.source.read_exact(&mut target[..count])?;
                    *left -= count;
                    return Ok(count);
                }
                Run::Repeated(byte, left) if *left > 0 => {
                    target[..count].fill(*byte);
                    *left -= count;
                    return Ok(count);
                }
                _ => {}
            }
            self.run = match self.byte()?.cast_signed() {
                -128 => continue,
                header @ 0.. => Run::Copied(usize::from(header.unsigned_abs()) + 1),
                header => Run::Repeated(self.byte()?, usize::from(header.unsigned_abs()) + 1),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of TIFF 6.0, section 9 (Apple's, of the Macintosh's `PackBits`).
    #[test]
    fn packed_bits_are_those_of_the_example() {
        let packed = [0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7, 0xaa];
        let mut unpacked = vec![0; 24];
        let mut reader = PackBits { source: &packed[..], run: Run::Copied(0) };
        reader.read_exact(&mut unpacked).unwrap();
        let mut expected = vec![0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22];
        expected.extend([0xaa; 10]);
        assert_eq!(unpacked, expected);
        assert!(reader.read_exact(&mut [0]).is_err());
    }
}
