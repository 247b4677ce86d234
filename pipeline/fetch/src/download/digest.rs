//! Digests that a source promises for its pictures.
//!
//! A domain that has expired can be bought and serve other pictures under the old URLs; a digest in the list is the known defence (Carlini et al.,
//! arXiv 2302.10149).

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

/// SHA-256 as 64 hexadecimal digits, as the column `sha256` of the pool has it.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal::<Sha256>(bytes)
}

fn hexadecimal<D: Digest>(bytes: &[u8]) -> String {
    in_hexadecimal(&D::digest(bytes))
}

fn in_hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
    Sha512,
}

impl Algorithm {
    /// By the name of its column.
    fn of(column: &str) -> Option<Algorithm> {
        match column.to_ascii_lowercase().as_str() {
            "md5" => Some(Algorithm::Md5),
            "sha256" => Some(Algorithm::Sha256),
            "sha512" => Some(Algorithm::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// Whether a column of a source holds digests, by its name.
pub(crate) fn is_digest_column(name: &str) -> bool {
    Algorithm::of(name.trim_start_matches("source_")).is_some()
}

/// A column of a source with one digest a row, as hexadecimal text or as bytes.
#[derive(Debug)]
pub(super) struct DigestColumn<'a> {
    algorithm: Algorithm,
    digests: &'a dyn Array,
}

/// The columns of digests that a part has.
pub(super) fn columns(rows: &RecordBatch) -> Vec<DigestColumn<'_>> {
    let schema = rows.schema_ref();
    let columns = schema.fields().iter().zip(rows.columns()).filter_map(|(field, column)| {
        // The pool has a `sha256` of its own, so the source's bears a prefix there, see `source::plan`.
        let algorithm = Algorithm::of(field.name().trim_start_matches("source_"))?;
        let is_digest = matches!(field.data_type(), DataType::Utf8 | DataType::Binary | DataType::FixedSizeBinary(_));
        is_digest.then(|| DigestColumn { algorithm, digests: column.as_ref() })
    });
    columns.collect()
}

impl DigestColumn<'_> {
    /// What the row says; `None` if its cell is empty.
    pub(super) fn expected(&self, row: usize) -> Option<ExpectedDigest> {
        if self.digests.is_null(row) {
            return None;
        }
        let digest = if let Some(texts) = self.digests.as_string_opt::<i32>() {
            texts.value(row).trim().to_ascii_lowercase()
        } else if let Some(bytes) = self.digests.as_binary_opt::<i32>() {
            in_hexadecimal(bytes.value(row))
        } else {
            in_hexadecimal(self.digests.as_fixed_size_binary_opt()?.value(row))
        };
        (!digest.is_empty()).then_some(ExpectedDigest { algorithm: self.algorithm, digest })
    }
}

/// A digest that a body must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExpectedDigest {
    algorithm: Algorithm,
    /// Hexadecimal, lower case.
    digest: String,
}

impl ExpectedDigest {
    /// Compares a body, whose SHA-256 is known already.
    ///
    /// # Errors
    /// Says what the body has instead.
    pub(super) fn check(&self, body: &[u8], sha256: &str) -> Result<(), String> {
        let found = match self.algorithm {
            Algorithm::Md5 => hexadecimal::<Md5>(body),
            Algorithm::Sha256 => sha256.to_owned(),
            Algorithm::Sha512 => hexadecimal::<Sha512>(body),
        };
        if found == self.digest {
            return Ok(());
        }
        Err(format!("{} is {found}, not {}", self.algorithm.name(), self.digest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, StringArray};

    use super::*;

    #[test]
    fn digests_are_found_by_the_names_of_their_columns() {
        let texts = |texts: [&str; 3]| Arc::new(StringArray::from(texts.to_vec()));
        let rows = RecordBatch::try_from_iter([
            ("url", texts(["a", "b", "c"]) as arrow::array::ArrayRef),
            ("source_sha256", texts(["AB", " ", "cd "])),
            ("MD5", texts(["12", "", "34"])),
            ("sha1", texts(["5", "6", "7"])),
            ("sha512", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ])
        .unwrap();
        let columns = columns(&rows);
        let expected = |row: usize| -> Vec<(Algorithm, String)> {
            let all = columns.iter().filter_map(|column| column.expected(row));
            all.map(|one| (one.algorithm, one.digest)).collect()
        };
        assert_eq!(expected(0), [(Algorithm::Sha256, "ab".to_owned()), (Algorithm::Md5, "12".to_owned())]);
        let bytes: arrow::array::ArrayRef =
            Arc::new(BinaryArray::from(vec![Some(&[0xab_u8, 0x0f][..]), None, Some(&[])]));
        let raw = RecordBatch::try_from_iter([("md5", bytes)]).unwrap();
        let raw = super::columns(&raw);
        let found: Vec<_> = (0..3).map(|row| raw[0].expected(row).map(|one| one.digest)).collect();
        assert_eq!(found, [Some("ab0f".to_owned()), None, None]);
        assert_eq!(expected(1), []);
        assert_eq!(expected(2), [(Algorithm::Sha256, "cd".to_owned()), (Algorithm::Md5, "34".to_owned())]);
    }

    #[test]
    fn a_body_has_the_digest_or_not() {
        // Of "abc": RFC 1321, appendix A.5, and FIPS 180-4's examples.
        for (algorithm, digest) in [
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let expected = ExpectedDigest { algorithm, digest: digest.to_owned() };
            assert_eq!(expected.check(b"abc", &sha256(b"abc")), Ok(()), "{algorithm:?}");
            let reason = expected.check(b"abd", &sha256(b"abd")).unwrap_err();
            assert!(reason.starts_with(algorithm.name()) && reason.ends_with(digest), "{reason}");
        }
    }
}
