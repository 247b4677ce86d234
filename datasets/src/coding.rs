//! Compressed files, which are recognised by their extensions.

use std::io::{self, BufRead, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Bzip2,
    Zstandard,
}

/// The extensions of compressed files, and how they are compressed.
pub(crate) const ENDINGS: [(&str, Coding); 3] =
    [(".gz", Coding::Gzip), (".bz2", Coding::Bzip2), (".zst", Coding::Zstandard)];

impl Coding {
    /// Splits the extension off the name of a compressed file.
    pub(crate) fn split(name: &str) -> (&str, Option<Coding>) {
        let found = ENDINGS.iter().find_map(|(ending, coding)| Some((name.strip_suffix(ending)?, *coding)));
        found.map_or((name, None), |(plain, coding)| (plain, Some(coding)))
    }

    /// Decompresses the input, including files of several concatenated streams.
    pub(crate) fn decode<'a>(self, input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Coding::Gzip => Box::new(MultiGzDecoder::new(input)),
            Coding::Bzip2 => Box::new(MultiBzDecoder::new(input)),
            Coding::Zstandard => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    #[test]
    fn several_streams_of_every_coding_are_one_file() {
        type Encode = fn(&[u8]) -> Vec<u8>;
        for ((ending, coding), encode) in ENDINGS.into_iter().zip([gzip as Encode, bzip2, zstandard]) {
            let name = format!("a.json{ending}");
            assert_eq!(Coding::split(&name), ("a.json", Some(coding)));
            let bytes = [encode(b"one "), encode(b"two")].concat();
            let mut text = String::new();
            coding.decode(bytes.as_slice()).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "one two", "{ending}");
            let cut = &bytes[..bytes.len() - 3];
            assert!(coding.decode(cut).and_then(|mut own| own.read_to_end(&mut Vec::new())).is_err(), "{ending}");
        }
        assert_eq!(Coding::split("a.json"), ("a.json", None));
    }
}
