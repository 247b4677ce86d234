//! Rows of TFRecord files, TensorFlow's shard format: one `tf.train.Example` per record.
//!
//! A record consists of its length, the checksum of the length, its bytes, and the checksum of the
//! bytes (tensorflow/core/lib/io/record_writer.cc). An example is a protocol buffer that maps names
//! to lists of bytes, floats or integers (tensorflow/core/example/{example,feature}.proto). No
//! other message is read here, so a decoder of a few wire types is enough.

use std::io::{self, Read};

use serde_json::{Map, Number, Value};

use super::{Emit, Source};

/// The maximum size of a record in bytes. A larger length means damage that the checksum did not
/// detect.
const LONGEST: u64 = 1 << 31;

/// Reads records as rows with one field per feature. A list of one element becomes that element.
/// Bytes become texts; bytes that are not UTF-8, such as images and sounds, are left out.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let mut input = source.bytes()?;
    let mut number = 0;
    let at = |number: u64, reason: &str| format!("record {number} {reason}");
    while let Some(head) = filled::<12>(&mut input).map_err(|fault| at(number, &fault))? {
        let (length, sum) = head.split_at(8);
        if masked(crc32c(length)).to_le_bytes() != *sum {
            return Err(at(number, "has a length whose checksum is wrong: it is damaged or not a TFRecord file"));
        }
        let length = u64::from_le_bytes(length.try_into().expect("it was split at 8"));
        if length > LONGEST {
            return Err(at(number, &format!("claims a length of {length} bytes")));
        }
        let mut bytes = Vec::new();
        input.by_ref().take(length).read_to_end(&mut bytes).map_err(|fault| at(number, &fault.to_string()))?;
        let sum = filled::<4>(&mut input).map_err(|fault| at(number, &fault))?;
        let Some(sum) = sum.filter(|_| bytes.len() as u64 == length) else {
            return Err(at(number, "is cut off by the end of the file"));
        };
        let row = if masked(crc32c(&bytes)).to_le_bytes() == sum {
            example(&bytes).map_err(|Broken| "is not a tf.train.Example".to_owned())
        } else {
            Err("has a wrong checksum: it is damaged".to_owned())
        };
        if emit(number, row.map(|fields| Value::Object(fields).into())).is_break() {
            return Ok(());
        }
        number += 1;
    }
    Ok(())
}

/// Reads `LENGTH` bytes; `None` at the end of the file.
fn filled<const LENGTH: usize>(input: &mut impl Read) -> Result<Option<[u8; LENGTH]>, String> {
    let mut bytes = [0; LENGTH];
    let mut length = 0;
    while length < LENGTH {
        match input.read(&mut bytes[length..]) {
            Ok(0) if length == 0 => return Ok(None),
            Ok(0) => return Err("is cut off by the end of the file".to_owned()),
            Ok(read) => length += read,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault.to_string()),
        }
    }
    Ok(Some(bytes))
}

/// Returns the CRC-32C (Castagnoli), bit-reflected, a byte at a time: RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| sum >> 8 ^ CRC32C[usize::from(sum as u8 ^ byte)])
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82F6_3B78 } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// Returns a checksum masked as in tensorflow/core/lib/hash/crc32c.h.
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The error for bytes that are not a valid protocol buffer.
#[derive(Debug)]
struct Broken;

/// A field of a protocol buffer.
enum Field<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message with their numbers (protobuf.dev, "Encoding").
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// Returns the next field, or `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Broken> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.0)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.0)?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Broken)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Broken)?)),
            _ => return Err(Broken),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Calls `take` with the bytes of every field with a number.
    fn each(mut self, number: u64, take: &mut dyn FnMut(&'a [u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        while let Some((own, field)) = self.next()? {
            if let Field::Bytes(bytes) = field
                && own == number
            {
                take(bytes)?;
            }
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Broken> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first().ok_or(Broken)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Broken)
}

/// Decodes `Example { Features features = 1 }`, `Features { map<string, Feature> feature = 1 }`. An
/// entry of the map is `{ string key = 1, Feature value = 2 }`.
fn example(bytes: &[u8]) -> Result<Map<String, Value>, Broken> {
    let mut fields = Map::new();
    Message(bytes).each(1, &mut |features| {
        Message(features).each(1, &mut |entry| {
            let (mut key, mut value) = ("", None);
            Message(entry).each(1, &mut |bytes| {
                key = std::str::from_utf8(bytes).map_err(|_| Broken)?;
                Ok(())
            })?;
            Message(entry).each(2, &mut |bytes| {
                value = feature(bytes)?;
                Ok(())
            })?;
            if let Some(value) = value {
                fields.insert(key.to_owned(), value);
            }
            Ok(())
        })
    })?;
    Ok(fields)
}

/// Decodes `Feature { BytesList = 1, FloatList = 2, Int64List = 3 }`, each with a repeated `value =
/// 1`, packed or not. Returns `None` for bytes that are not text.
fn feature(bytes: &[u8]) -> Result<Option<Value>, Broken> {
    let (mut values, mut is_text) = (Vec::new(), true);
    let mut message = Message(bytes);
    while let Some((kind, list)) = message.next()? {
        let Field::Bytes(list) = list else { continue };
        let mut list = Message(list);
        while let Some((number, value)) = list.next()? {
            match (kind, number, value) {
                (1, 1, Field::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                    Ok(text) => values.push(Value::from(text)),
                    Err(_) => is_text = false,
                },
                (2, 1, Field::Fixed32(bits)) => values.push(float(bits)),
                (2, 1, Field::Bytes(packed)) => {
                    let (all, rest) = packed.as_chunks::<4>();
                    values.extend(all.iter().map(|bits| float(u32::from_le_bytes(*bits))));
                    if !rest.is_empty() {
                        return Err(Broken);
                    }
                }
                (3, 1, Field::Varint(number)) => values.push(Value::from(number as i64)),
                (3, 1, Field::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        values.push(Value::from(varint(&mut packed)? as i64));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(is_text.then(|| if values.len() == 1 { values.swap_remove(0) } else { Value::Array(values) }))
}

/// Returns a float as the shortest decimal that identifies it; as a double, 0.1 would be
/// 0.10000000149011612. NaN and infinities become null.
fn float(bits: u32) -> Value {
    let float = f32::from_bits(bits);
    let number = float.to_string().parse().ok().and_then(Number::from_f64);
    number.filter(|_| float.is_finite()).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;

    /// Two records as the package tfrecord 1.14.6 writes them, with protobuf 7.36.2 and crc32c
    /// 2.9, in hexadecimal.
    const WRITTEN: &str = "7a00000000000000138986780a780a170a03626f781210120e0a0ccdcccc3d000020c00000c07f0a170a05776f726473 \
        120e0a0c0a05636166c3a90a036e65740a100a05696d61676512070a050a03ffd8ff0a0f0a02696412091a070a058080 \
        e0da010a210a04736f6d6512191a170a15ffffffffffffffffff01ac028080808080808080408ce6aca32b0000000000 \
        0000861bc34b0a290a110a06616e7377657212070a050a036e65740a140a026964120e1a0c0a0af9ffffffffffffffff \
        01f814640a";

    fn written() -> Vec<u8> {
        let digits: Vec<u32> = WRITTEN.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn read(bytes: &[u8]) -> crate::Result<Vec<Value>> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.tfrecord"), bytes).unwrap();
        let found = rows(folder.path(), "file = \"a.tfrecord\"", Shape::List)?;
        Ok(found.into_iter().map(|(.., row)| row).collect())
    }

    #[test]
    fn features_are_fields() {
        let expected = [
            json!({"id": 458_752_000, "box": [0.1, -2.5, null], "words": ["café", "net"],
                "some": [-1, 300, 4_611_686_018_427_387_904_i64]}),
            json!({"id": -7, "answer": "net"}),
        ];
        assert_eq!(read(&written()).unwrap(), expected);
        assert_eq!(read(b"").unwrap(), [json!(null); 0]);
    }

    #[test]
    fn lists_that_are_not_packed_are_read_too() {
        // Features { feature { key: "f", value: FloatList { 0.5, 1.5 } as two fields } },
        // { key: "i", value: Int64List { 3, 4 } as two varints }, { key: "e", value: {} }.
        let of = |key: &[u8], value: &[u8]| {
            let entry = [&[10, 1], key, &[18, value.len() as u8], value].concat();
            [&[10, entry.len() as u8], entry.as_slice()].concat()
        };
        let floats = [&[18, 10, 13], 0.5_f32.to_le_bytes().as_slice(), &[13], &1.5_f32.to_le_bytes()].concat();
        let features = [of(b"f", &floats), of(b"i", &[26, 4, 8, 3, 8, 4]), of(b"e", &[])].concat();
        let fields = example(&[&[10, features.len() as u8], features.as_slice()].concat()).unwrap();
        assert_eq!(Value::Object(fields), json!({"f": [0.5, 1.5], "i": [3, 4], "e": []}));
    }

    #[test]
    fn damage_is_told() {
        let whole = written();
        let mut damaged = whole.clone();
        damaged[20] ^= 1;
        let found = read(&damaged).unwrap();
        assert!(found[0]["unreadable"].as_str().unwrap().contains("wrong checksum"), "{found:?}");
        assert_eq!(found[1]["id"], -7, "a damaged record costs only itself");
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        for (bytes, expected) in [
            (damaged.as_slice(), "record 0 has a length whose checksum is wrong"),
            (&whole[..whole.len() - 1], "record 1 is cut off"),
            (&whole[..whole.len() - 10], "record 1 is cut off"),
            (&whole[..5], "record 0 is cut off"),
        ] {
            let fault = read(bytes).unwrap_err().to_string();
            assert!(fault.contains(expected), "{expected}: {fault}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_castagnoli() {
        // RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and ascending.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283, "the check value of the catalogue of CRCs");
    }
}
