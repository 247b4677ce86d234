//! Tensors in files: their place, the encoding of their numbers, and their decoding.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{bf16, f16};

use crate::error::{Error, Result};

/// The form in which the numbers of a tensor are stored, in little-endian bytes.
///
/// The quantised encodings are those of ggml (ggml-common.h): blocks of 32 numbers with a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Scale as f16, then 32 numbers of 4 bits, from -8 to 7 scales.
    Q4_0,
    /// Scale and smallest number as f16, then 32 numbers of 4 bits.
    Q4_1,
    /// Scale as f16, then 32 signed bytes.
    Q8_0,
    /// Any other one, by its name; such a tensor cannot be read.
    Other(String),
}

/// Numbers in a quantised block.
const BLOCK: usize = 32;

impl Encoding {
    /// Returns how many numbers a block has, and how many bytes; `None` where that is not known.
    fn block(&self) -> Option<(u64, u64)> {
        match self {
            Self::F32 => Some((1, 4)),
            Self::F16 | Self::Bf16 => Some((1, 2)),
            Self::Q4_0 => Some((32, 2 + 16)),
            Self::Q4_1 => Some((32, 4 + 16)),
            Self::Q8_0 => Some((32, 2 + 32)),
            Self::Other(_) => None,
        }
    }

    /// Decodes whole blocks.
    fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
            Self::F16 => bytes.as_chunks::<2>().0.iter().map(|two| half(*two)).collect(),
            Self::Bf16 => bytes.as_chunks::<2>().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32()).collect(),
            Self::Q4_0 => blocks::<18>(bytes, |block, numbers| {
                let scale = half([block[0], block[1]]);
                numbers.extend(nibbles(&block[2..]).map(|number| (f32::from(number) - 8.0) * scale));
            }),
            Self::Q4_1 => blocks::<20>(bytes, |block, numbers| {
                let (scale, least) = (half([block[0], block[1]]), half([block[2], block[3]]));
                numbers.extend(nibbles(&block[4..]).map(|number| f32::from(number) * scale + least));
            }),
            Self::Q8_0 => blocks::<34>(bytes, |block, numbers| {
                let scale = half([block[0], block[1]]);
                numbers.extend(block[2..].iter().map(|byte| f32::from(byte.cast_signed()) * scale));
            }),
            Self::Other(_) => Vec::new(),
        }
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

fn blocks<const BYTES: usize>(bytes: &[u8], decode: impl Fn(&[u8; BYTES], &mut Vec<f32>)) -> Vec<f32> {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let mut numbers = Vec::with_capacity(blocks.len() * BLOCK);
    for block in blocks {
        decode(block, &mut numbers);
    }
    numbers
}

/// Returns the low 4 bits of all bytes, then the high 4 bits.
fn nibbles(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4))
}

/// The place of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) file: Arc<Path>,
    pub(super) encoding: Encoding,
    /// The last axis is the contiguous one.
    pub(super) shape: Vec<usize>,
    /// Place of its first byte from the beginning of the file.
    pub(super) offset: u64,
}

impl Stored {
    /// Returns the length in bytes; `None` if the encoding is not known or the shape does not fit
    /// it.
    pub(super) fn bytes(&self) -> Option<u64> {
        let (numbers, bytes) = self.encoding.block()?;
        let row = self.shape.last().map_or(1, |row| *row as u64);
        let count = self.shape.iter().try_fold(1_u64, |count, axis| count.checked_mul(*axis as u64))?;
        if row.is_multiple_of(numbers) { (count / numbers).checked_mul(bytes) } else { None }
    }
}

/// A decoded tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// All tensors of a model, by name; nothing is decoded before it is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensors {
    all: BTreeMap<String, Stored>,
}

impl Tensors {
    /// Adds a tensor of a file with `file_bytes` bytes. A tensor that exceeds its file, or whose
    /// name occurs twice, is an error.
    pub(super) fn add(&mut self, name: String, stored: Stored, file_bytes: u64) -> Result<()> {
        let fits = match (&stored.encoding, stored.bytes()) {
            (Encoding::Other(_), _) => true,
            (_, Some(bytes)) => stored.offset.checked_add(bytes).is_some_and(|end| end <= file_bytes),
            (_, None) => false,
        };
        if !fits {
            let reason = format!("shape {:?} does not fit the file of {file_bytes} bytes", stored.shape);
            return Err(refused(&stored.file, &name, reason));
        }
        if self.all.contains_key(&name) {
            return Err(refused(&stored.file, &name, "it occurs twice".to_owned()));
        }
        self.all.insert(name, stored);
        Ok(())
    }

    /// Returns the names in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.all.keys()
    }

    /// Returns the place of a tensor.
    pub(super) fn get(&self, name: &str) -> Option<&Stored> {
        self.all.get(name)
    }

    /// Reads and decodes a tensor.
    pub(super) fn read(&self, name: &str) -> Result<Option<Numbers>> {
        let Some(stored) = self.all.get(name) else { return Ok(None) };
        let Some(bytes) = stored.bytes() else {
            return Err(refused(&stored.file, name, format!("its encoding {:?} is not supported", stored.encoding)));
        };
        let failed = |source| Error::File { path: stored.file.to_path_buf(), source };
        let mut file = File::open(&stored.file).map_err(failed)?;
        file.seek(SeekFrom::Start(stored.offset)).map_err(failed)?;
        let mut content = vec![0; bytes as usize]; // within the file, see `add`
        file.read_exact(&mut content).map_err(failed)?;
        Ok(Some(Numbers { shape: stored.shape.clone(), values: stored.encoding.decode(&content) }))
    }
}

/// Returns an error about one tensor.
pub(super) fn refused(path: &Path, tensor: &str, reason: String) -> Error {
    Error::Tensor { path: PathBuf::from(path), tensor: tensor.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_decoded_as_ggml_lays_them_out() {
        let two = f16::from_f32(2.0).to_le_bytes();
        let one = f16::from_f32(1.0).to_le_bytes();
        // The first byte holds the numbers 0 (low half) and 16 (high half).
        let four: Vec<u8> = std::iter::once(0xF1).chain([0x88; 15]).collect();
        let q4_0 = Encoding::Q4_0.decode(&[&two[..], &four].concat());
        assert_eq!((q4_0[0], q4_0[16], q4_0[1], q4_0.len()), (-14.0, 14.0, 0.0, 32));
        let q4_1 = Encoding::Q4_1.decode(&[&two[..], &one, &four].concat());
        assert_eq!((q4_1[0], q4_1[16], q4_1[1]), (3.0, 31.0, 17.0));
        let bytes: Vec<u8> = std::iter::once(0xFF).chain([3; 31]).collect();
        let q8_0 = Encoding::Q8_0.decode(&[&two[..], &bytes].concat());
        assert_eq!((q8_0[0], q8_0[31]), (-2.0, 6.0));
        assert_eq!(Encoding::Bf16.decode(&[0x80, 0x3F]), [1.0]);
    }

    #[test]
    fn refuses_a_tensor_that_is_not_whole() {
        let stored = |shape: &[usize], encoding, offset| Stored {
            file: Path::new("x").into(),
            encoding,
            shape: shape.to_vec(),
            offset,
        };
        let add = |stored| Tensors::default().add("w".into(), stored, 100);
        add(stored(&[5, 5], Encoding::F32, 0)).unwrap();
        for wrong in [
            stored(&[5, 5], Encoding::F32, 1),
            stored(&[usize::MAX, 2], Encoding::F16, 0),
            stored(&[1], Encoding::F32, u64::MAX),
            stored(&[2, 16], Encoding::Q8_0, 0),
        ] {
            assert!(add(wrong).unwrap_err().to_string().contains("w: shape"));
        }
    }
}
