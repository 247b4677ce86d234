//! Digests that a source gives for its images.
//!
//! An expired domain can be bought by someone who then serves other images under the old URLs.
//! Digests in the list protect against this (Carlini et al., arXiv 2302.10149).
//!
//! Lists write digests in many ways: in hexadecimal, in base64 as object stores and Open Images do,
//! or with the name of the algorithm in front as container registries and web pages do. A cell in
//! none of these forms is ignored: its image is not compared, and the cell is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

use crate::address;

/// Returns the SHA-256 digest as 64 hexadecimal digits, as in the column `sha256` of the pool.
pub fn sha256(bytes: &[u8]) -> String {
    in_hexadecimal(&Sha256::digest(bytes))
}

/// Returns bytes as lower-case hexadecimal digits.
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
    const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512];

    /// Returns the algorithm of a name. Case, hyphens and underscores are ignored, as in `SHA-256`.
    fn of(name: &str) -> Option<Algorithm> {
        let name = name.to_ascii_lowercase().replace(['-', '_'], "");
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Returns the length of its digests, bytes.
    fn length(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// Returns whether a column of a source holds digests, by its name.
pub(crate) fn is_digest_column(name: &str) -> bool {
    Algorithm::of(name.trim_start_matches("source_")).is_some()
}

/// A column of a source with one digest per row, as text or as bytes.
#[derive(Debug)]
pub(crate) struct DigestColumn<'a> {
    name: &'a str,
    algorithm: Algorithm,
    digests: &'a dyn Array,
}

/// Returns the columns that hold digests by their names.
pub(crate) fn columns(rows: &RecordBatch) -> Vec<DigestColumn<'_>> {
    let schema = rows.schema_ref();
    let columns = schema.fields().iter().zip(rows.columns()).filter_map(|(field, digests)| {
        // The pool has its own column `sha256`, so the source's column gets a prefix; see
        // `source::plan`.
        let name = field.name().trim_start_matches("source_");
        let algorithm = Algorithm::of(name)?;
        Some(DigestColumn { name, algorithm, digests })
    });
    columns.collect()
}

impl DigestColumn<'_> {
    /// Returns the digest that a row gives; `None` if its cell is empty or holds no digest. Cells
    /// that are not empty are counted in `seen`.
    pub(crate) fn expected(&self, row: usize, seen: &SeenDigests) -> Option<ExpectedDigest> {
        if self.digests.is_null(row) {
            return None;
        }
        let (digest, cell) = match self.digests.data_type() {
            DataType::Utf8 => {
                let text = self.digests.as_string::<i32>().value(row);
                if text.trim().is_empty() {
                    return None;
                }
                (parse(text, self.algorithm), address::shorten(text, LONGEST_EXAMPLE))
            }
            DataType::Binary | DataType::FixedSizeBinary(_) => {
                let bytes = match self.digests.as_binary_opt::<i32>() {
                    Some(column) => column.value(row),
                    None => self.digests.as_fixed_size_binary().value(row),
                };
                if bytes.is_empty() {
                    return None;
                }
                let own = |bytes: &[u8]| ExpectedDigest { algorithm: self.algorithm, digest: bytes.to_vec() };
                let is_raw = bytes.len() == self.algorithm.length();
                // Some writers store the text of a digest as bytes.
                let of_text = || std::str::from_utf8(bytes).ok().and_then(|text| parse(text, self.algorithm));
                (is_raw.then(|| own(bytes)).or_else(of_text), format!("{} bytes", bytes.len()))
            }
            DataType::Null => return None,
            other => (None, other.to_string()),
        };
        seen.count(self, digest.is_some(), &cell);
        digest
    }
}

/// Maximum number of characters of a cell that a warning shows.
const LONGEST_EXAMPLE: usize = 40;

/// Parses a digest of `algorithm`, or of the algorithm that the text names as a prefix.
fn parse(text: &str, algorithm: Algorithm) -> Option<ExpectedDigest> {
    let is_around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let text = text.trim_matches(is_around);
    let text = text.strip_prefix("b'").unwrap_or(text); // Python's notation of bytes
    // As in `sha256:…` (OCI), `sha256-…` (subresource integrity), `SHA-256=…` (RFC 3230).
    let named = Algorithm::ALL.into_iter().find_map(|algorithm| {
        let rest = strip_name(text, algorithm.name())?;
        Some((algorithm, rest.trim_matches(is_around)))
    });
    let (algorithm, text) = named.unwrap_or((algorithm, text));
    let length = algorithm.length();
    let digest = from_hexadecimal(text, length).or_else(|| from_base64(text, length))?;
    Some(ExpectedDigest { algorithm, digest })
}

/// Returns the text after a name and one of `:`, `-` and `=`. The name may have a hyphen, as in
/// `sha-256`.
fn strip_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text.chars();
    for letter in name.chars() {
        let mut next = rest.next()?;
        if next == '-' && letter.is_ascii_digit() {
            next = rest.next()?;
        }
        if !next.eq_ignore_ascii_case(&letter) {
            return None;
        }
    }
    let rest = rest.as_str().trim_start();
    rest.strip_prefix([':', '-', '='])
}

/// Decodes `length` pairs of hexadecimal digits, which may have `0x` in front and `:`, `-` or
/// spaces between them.
fn from_hexadecimal(text: &str, length: usize) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let digits = text.chars().filter(|c| !matches!(c, ':' | '-' | ' '));
    let digits: Vec<u8> = digits.map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    (digits.len() == 2 * length).then(|| digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Decodes `length` bytes from base64 in the standard or the URL-safe alphabet, with or without
/// padding (RFC 4648).
fn from_base64(text: &str, length: usize) -> Option<Vec<u8>> {
    const GENEROUS: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engines = [GeneralPurpose::new(&STANDARD, GENEROUS), GeneralPurpose::new(&URL_SAFE, GENEROUS)];
    let decoded = engines.iter().find_map(|engine| engine.decode(text).ok());
    decoded.filter(|bytes| bytes.len() == length)
}

/// A digest that a body must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedDigest {
    algorithm: Algorithm,
    digest: Vec<u8>,
}

impl ExpectedDigest {
    /// Checks a body, whose SHA-256 is known already.
    ///
    /// # Errors
    /// Names the digest that the body has instead.
    pub(crate) fn check(&self, body: &[u8], sha256: &str) -> Result<(), String> {
        let found = match self.algorithm {
            Algorithm::Md5 => in_hexadecimal(&Md5::digest(body)),
            Algorithm::Sha256 => sha256.to_owned(),
            Algorithm::Sha512 => in_hexadecimal(&Sha512::digest(body)),
        };
        let expected = in_hexadecimal(&self.digest);
        if found == expected {
            return Ok(());
        }
        Err(format!("{} is {found}, not {expected}", self.algorithm.name()))
    }
}

/// Counts of cells that were digests and that were not, by column. A warning is logged at the first
/// cell of a column that is not a digest, and another with the totals at the end.
#[derive(Debug, Default)]
pub(crate) struct SeenDigests(Mutex<BTreeMap<String, Seen>>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    digests: u64,
    others: u64,
}

impl SeenDigests {
    fn count(&self, column: &DigestColumn, is_digest: bool, cell: &str) {
        let mut columns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !columns.contains_key(column.name) {
            columns.insert(column.name.to_owned(), Seen::default());
        }
        let Some(seen) = columns.get_mut(column.name) else { return };
        if is_digest {
            seen.digests += 1;
            return;
        }
        seen.others += 1;
        if seen.others == 1 {
            tracing::warn!(
                column = column.name,
                cell,
                "a cell is not a {} digest in hexadecimal or base64; images of such rows are not compared",
                column.algorithm.name()
            );
        }
    }

    /// Returns a message for each column with cells that are not digests.
    fn told(&self) -> Vec<String> {
        let columns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_column = |(name, seen): (&String, &Seen)| match seen {
            Seen { others: 0, .. } => None,
            Seen { digests: 0, others } => Some(format!(
                "column {name} holds no digest in any of its {others} cells, so no image was compared; \
                 if it is not a column of digests, rename it or set verify_hash to false"
            )),
            Seen { digests, others } => Some(format!(
                "{others} of {} cells of column {name} are not digests, so their images were not compared",
                digests + others
            )),
        };
        columns.iter().filter_map(of_column).collect()
    }
}

impl Drop for SeenDigests {
    /// Logs the totals when the last part is done.
    fn drop(&mut self) {
        for sentence in self.told() {
            tracing::warn!("{sentence}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, FixedSizeBinaryArray, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    // Of "abc": RFC 1321, appendix A.5, and FIPS 180-4's examples.
    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const SHA512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    /// Returns which rows of a column give a digest, after checking that each is the digest of
    /// "abc".
    fn promised(name: &str, column: ArrayRef, seen: &SeenDigests) -> Vec<bool> {
        let rows = RecordBatch::try_from_iter_with_nullable([(name, column, true)]).unwrap();
        let columns = columns(&rows);
        let one = |row| {
            let expected = columns[0].expected(row, seen);
            if let Some(expected) = &expected {
                assert_eq!(expected.check(b"abc", &sha256(b"abc")), Ok(()), "row {row}");
            }
            expected.is_some()
        };
        (0..rows.num_rows()).map(one).collect()
    }

    #[test]
    fn digests_are_read_however_they_are_written() {
        // Computed with `openssl dgst -binary | base64`.
        let md5_base64 = "kAFQmDzST7DWlj99KOF/cg==";
        let sha256_base64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
        let sha512_base64 = "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        for (name, hexadecimal, base64) in
            [("md5", MD5, md5_base64), ("sha256", SHA256, sha256_base64), ("sha512", SHA512, sha512_base64)]
        {
            let pairs: Vec<&str> = (0..hexadecimal.len()).step_by(2).map(|at| &hexadecimal[at..at + 2]).collect();
            let url_safe = base64.replace('+', "-").replace('/', "_");
            let (capitals, with_hyphen) = (name.to_uppercase(), name.replace("sha", "sha-"));
            let texts = [
                hexadecimal.to_owned(),
                hexadecimal.to_uppercase(),
                format!(" {hexadecimal}\n"),
                format!("\"{hexadecimal}\""),
                format!("'{hexadecimal}'"),
                format!("0x{hexadecimal}"),
                pairs.join(":"),
                pairs.join(" "),
                base64.to_owned(),
                base64.trim_end_matches('=').to_owned(),
                url_safe.clone(),
                url_safe.trim_end_matches('=').to_owned(),
                format!("b'{base64}'"),
                format!("{name}:{hexadecimal}"),
                format!("{capitals}: {hexadecimal}"),
                format!("{name}-{base64}"),
                format!("{with_hyphen}={base64}"),
                format!("{name}=\"{base64}\""),
            ];
            let column = StringArray::from_iter_values(&texts);
            for column_name in [name, &capitals, &format!("source_{name}")] {
                let found = promised(column_name, Arc::new(column.clone()), &SeenDigests::default());
                assert!(found.iter().all(|found| *found), "{name}: {found:?} of {texts:?}");
            }
            // The algorithm in a cell takes precedence over the name of its column.
            let column = Arc::new(StringArray::from_iter_values([format!("{name}:{hexadecimal}")]));
            assert_eq!(promised("sha512", column, &SeenDigests::default()), [true]);
            let raw = in_bytes(hexadecimal);
            let bytes = BinaryArray::from(vec![Some(&raw[..]), None, Some(&[]), Some(hexadecimal.as_bytes())]);
            assert_eq!(promised(name, Arc::new(bytes), &SeenDigests::default()), [true, false, false, true]);
            let fixed = FixedSizeBinaryArray::try_from_iter([&raw].into_iter()).unwrap();
            assert_eq!(promised(name, Arc::new(fixed), &SeenDigests::default()), [true]);
        }
    }

    fn in_bytes(hexadecimal: &str) -> Vec<u8> {
        from_hexadecimal(hexadecimal, hexadecimal.len() / 2).unwrap()
    }

    #[test]
    fn a_cell_that_holds_no_digest_promises_nothing_and_is_counted() {
        let cells = [
            "nan",
            "None",
            "null",
            "0",
            "-",
            "n/a",
            "00ff",
            "d41d8cd98f00b204e9800998ecf8427e-3",
            "W/\"1a2b\"",
            &MD5[1..],
            SHA256,
            "900150983cd24fb0d6963f7d28e17f7g",
            "md5:",
            "md5:nan",
            "https://example.org/a.jpg",
            "ä",
        ];
        let seen = SeenDigests::default();
        let column = StringArray::from(cells.to_vec());
        assert_eq!(promised("md5", Arc::new(column), &seen), [false; 16]);
        assert_eq!(promised("md5", Arc::new(StringArray::from(vec![None, Some(""), Some(" ")])), &seen), [false; 3]);
        let told = seen.told();
        assert!(
            told.len() == 1 && told[0].starts_with("column md5 holds no digest in any of its 16 cells"),
            "{told:?}"
        );
        assert_eq!(promised("md5", Arc::new(StringArray::from(vec![MD5])), &seen), [true]);
        assert_eq!(promised("sha256", Arc::new(StringArray::from(vec![SHA256])), &seen), [true]);
        let told = seen.told();
        assert!(told.len() == 1 && told[0].starts_with("16 of 17 cells of column md5 are not digests"), "{told:?}");
        assert_eq!(promised("sha512", Arc::new(Int64Array::from(vec![1, 2])), &seen), [false; 2]);
        assert_eq!(seen.told().len(), 2, "a column of numbers holds none either");
    }

    #[test]
    fn other_columns_hold_no_digests() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let names = ["url", "sha1", "md5sum", "hash", "MD5", "source_sha256", "sha-512"];
        let rows = RecordBatch::try_from_iter(names.map(|name| (name, column.clone()))).unwrap();
        let found: Vec<Algorithm> = columns(&rows).iter().map(|column| column.algorithm).collect();
        assert_eq!(found, Algorithm::ALL);
    }

    #[test]
    fn a_body_has_the_digest_or_not() {
        for (algorithm, digest) in [(Algorithm::Md5, MD5), (Algorithm::Sha256, SHA256), (Algorithm::Sha512, SHA512)] {
            let expected = ExpectedDigest { algorithm, digest: in_bytes(digest) };
            assert_eq!(expected.check(b"abc", &sha256(b"abc")), Ok(()), "{algorithm:?}");
            let reason = expected.check(b"abd", &sha256(b"abd")).unwrap_err();
            assert!(reason.starts_with(algorithm.name()) && reason.ends_with(digest), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn no_cell_makes_it_panic_and_what_is_read_has_its_length(
            text in "(?:md5|sha-?256|sha512|[:=\\-\"' ]|[0-9a-fA-F]{16}|[A-Za-z0-9+/_-]{11}|=|ä){0,9}",
        ) {
            for algorithm in Algorithm::ALL {
                if let Some(expected) = parse(&text, algorithm) {
                    assert_eq!(expected.digest.len(), expected.algorithm.length());
                }
            }
        }
    }
}
