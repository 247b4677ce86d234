//! Files that are hashed while they are written, so that they need not be read again for their
//! digest.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Bytes that are written and hashed at a time. BLAKE3 reaches its full speed at 128 KiB.
const BUFFER_BYTES: usize = 256 << 10;

/// A buffered file that is being written.
pub struct MeasuredFile {
    path: PathBuf,
    output: BufWriter<Hashing>,
}

/// Size and digest of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    pub(crate) bytes: u64,
    pub(crate) blake3: blake3::Hash,
}

struct Hashing {
    file: File,
    hasher: blake3::Hasher,
}

impl MeasuredFile {
    /// Creates the file.
    pub fn create(path: &Path) -> Result<MeasuredFile> {
        let file = File::create(path).map_err(|source| Error::io("create", path, source))?;
        let output = BufWriter::with_capacity(BUFFER_BYTES, Hashing { file, hasher: blake3::Hasher::new() });
        Ok(MeasuredFile { path: path.to_owned(), output })
    }

    /// Flushes the file to disk and returns its size and digest.
    pub fn finish(self) -> Result<Measured> {
        let failed = |source| Error::io("write", &self.path, source);
        let Hashing { file, hasher } = self.output.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(Measured { bytes: hasher.count(), blake3: hasher.finalize() })
    }
}

impl Write for MeasuredFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = MeasuredFile::create(&path).unwrap();
        let long: Vec<u8> = (0..3 * BUFFER_BYTES).map(|index| (index % 251) as u8).collect();
        for bytes in [&b"a few"[..], &long, b"", b"and some more"] {
            file.write_all(bytes).unwrap();
        }
        let measured = file.finish().unwrap();
        let content = std::fs::read(&path).unwrap();
        assert_eq!(content.len(), 3 * BUFFER_BYTES + 18);
        assert_eq!(measured, Measured { bytes: content.len() as u64, blake3: blake3::hash(&content) });
    }
}
