//! Rows of level 5 MATLAB files, which MATLAB 5 to 7.2 and `scipy.io.savemat` write.
//!
//! The format is specified in "MAT-File Format", `MathWorks`, R2023b, chapter 1.

use std::io::Read;

use flate2::read::ZlibDecoder;
use serde_json::{Map, Number, Value, json};

use super::{Emit, Shape, Source};

/// The maximum nesting depth of arrays, so that no input exhausts the stack.
const DEEPEST: usize = 64;

/// The maximum decompressed size of a variable in bytes, so that no input exhausts the memory.
const LARGEST: u64 = 1 << 30;

/// The size in bytes of the header: text, version and byte order.
const HEADER: usize = 128;

/// Types of elements: numbers by size, compressed elements, arrays and texts.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const INT64: u32 = 12;
const UINT64: u32 = 13;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
const UTF16: u32 = 17;

/// Classes of arrays. Those between `SPARSE` and `LAST_NUMERIC` are plain numbers.
const CELL: u8 = 1;
const STRUCT: u8 = 2;
const OBJECT: u8 = 3;
const CHAR: u8 = 4;
const SPARSE: u8 = 5;
const LAST_NUMERIC: u8 = 15;

/// Reads the variables of a file, one at a time in memory. Emits the rows of the variable that is
/// the first name in the table's `at`, or with `shape = "whole"` and no `at`, all variables as one
/// row.
///
/// Vectors become lists, matrices lists of their rows, and arrays of structures lists of objects.
/// An array of one element becomes that element, except for cells. Several rows of characters
/// become a list of texts.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let mut bytes = Vec::new();
    source.bytes()?.read_to_end(&mut bytes).map_err(|fault| fault.to_string())?;
    let (variable, path) = match source.table.at.split_once('.') {
        Some((variable, path)) => (variable, path),
        None => (source.table.at.as_str(), ""),
    };
    let mut input = Input::of_file(&bytes)?;
    let mut document = Map::new();
    while !input.rest.is_empty() {
        let Some((name, value)) = input.variable()? else { continue };
        if variable.is_empty() {
            document.insert(name, value);
        } else if name == variable {
            let value = path.split('.').filter(|step| !step.is_empty()).try_fold(value, |mut value, step| {
                let found = value.get_mut(step).map(Value::take);
                found.ok_or_else(|| format!("there is no `{step}` in `{variable}`"))
            });
            return rows(value?, source.shape, emit);
        } else {
            document.insert(name, Value::Null);
        }
    }
    if !variable.is_empty() {
        let names = document.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(format!("there is no variable `{variable}`, only {names}"));
    }
    if source.shape != Shape::Whole {
        return Err("set `at` to the name of the variable that holds the rows, or `shape` to \"whole\"".to_owned());
    }
    rows(Value::Object(document), Shape::Whole, emit)
}

/// Emits the rows of a variable.
fn rows(value: Value, shape: Shape, emit: &mut Emit) -> Result<(), String> {
    let named = |value: Value| if value.is_object() { value } else { json!({ "_value": value }) };
    let list = match (shape, value) {
        (Shape::List, Value::Array(elements)) => elements,
        // A value that is not a list is a vector of one element.
        (Shape::Whole | Shape::List, value) => vec![value],
        (Shape::Map | Shape::Columns, _) => return Err("the `shape` of a MATLAB file must be list or whole".to_owned()),
    };
    for (number, row) in (0..).zip(list) {
        if emit(number, Ok(named(row).into())).is_break() {
            break;
        }
    }
    Ok(())
}

/// The remaining bytes of the elements of a file or array.
struct Input<'a> {
    rest: &'a [u8],
    is_big_endian: bool,
}

impl<'a> Input<'a> {
    fn of_file(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(b"MATLAB 7.3") || bytes.starts_with(b"\x89HDF") {
            return Err("is a MATLAB file of version 7.3; save it with the option -v7".to_owned());
        }
        let (header, rest) = bytes.split_at_checked(HEADER).ok_or("is too short for a MATLAB file")?;
        let is_big_endian = match &header[HEADER - 2..] {
            b"IM" => false,
            b"MI" => true,
            _ => return Err("is not a level 5 MATLAB file".to_owned()),
        };
        Ok(Self { rest, is_big_endian })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("ends inside an element")?;
        self.rest = rest;
        Ok(taken)
    }

    fn word(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes.try_into().unwrap_or_default();
        if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Reads the type and the bytes of the next element. Up to four bytes are stored in the tag,
    /// whose upper half is then their number. Others are padded to a multiple of eight bytes unless
    /// compressed.
    fn element(&mut self) -> Result<(u32, &'a [u8]), String> {
        let tag = self.take(8)?;
        let (first, second) = (self.word(&tag[..4]), self.word(&tag[4..]));
        if let count @ 1..=4 = first >> 16 {
            return Ok((first & 0xFFFF, &tag[4..4 + count as usize]));
        }
        let bytes = self.take(second as usize)?;
        let filling = if first == COMPRESSED { 0 } else { bytes.len().wrapping_neg() % 8 };
        // The padding may be missing after the last element of a file.
        self.take(filling.min(self.rest.len()))?;
        Ok((first, bytes))
    }

    /// Reads a variable and its name. Returns `None` for other elements.
    fn variable(&mut self) -> Result<Option<(String, Value)>, String> {
        let (kind, bytes) = self.element()?;
        match kind {
            COMPRESSED => {
                let mut unpacked = Vec::new();
                let mut input = ZlibDecoder::new(bytes).take(LARGEST + 1);
                input.read_to_end(&mut unpacked).map_err(|fault| format!("a compressed variable: {fault}"))?;
                if unpacked.len() as u64 > LARGEST {
                    return Err(format!("a variable has more than {LARGEST} bytes"));
                }
                Input { rest: &unpacked, is_big_endian: self.is_big_endian }.variable()
            }
            MATRIX => Input { rest: bytes, is_big_endian: self.is_big_endian }.array(0).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads an array and its name.
    fn array(&mut self, depth: usize) -> Result<(String, Value), String> {
        if depth > DEEPEST {
            return Err(format!("contains arrays nested deeper than {DEEPEST}"));
        }
        if self.rest.is_empty() {
            return Ok((String::new(), json!([])));
        }
        let (_, flags) = self.element()?;
        let class = self.word(flags.get(..4).ok_or("an array has no class")?) as u8;
        let (_, dimensions) = self.element()?;
        let dimensions: Vec<usize> = dimensions.chunks_exact(4).map(|own| self.word(own) as usize).collect();
        let count = dimensions.iter().try_fold(1_usize, |count, own| count.checked_mul(*own));
        let count = count.ok_or("an array has too many elements")?;
        let (_, name) = self.element()?;
        let name = String::from_utf8_lossy(name).into_owned();
        let value = match class {
            CELL => shaped(self.nested(count, depth)?, &dimensions, true),
            STRUCT => self.structures(count, &dimensions, depth)?,
            CHAR => self.texts(count, &dimensions)?,
            SPARSE | OBJECT => return Err(format!("`{name}` is a sparse array or an object, which is not supported")),
            class if class <= LAST_NUMERIC && class > SPARSE => {
                let (kind, bytes) = self.element()?;
                let numbers = self.numbers(kind, bytes)?;
                if numbers.len() != count {
                    return Err(format!("`{name}` has {} numbers, not {count}", numbers.len()));
                }
                shaped(numbers, &dimensions, false)
            }
            class => return Err(format!("`{name}` has the class {class}, which is not supported")),
        };
        Ok((name, value))
    }

    /// Reads the arrays inside another array.
    fn nested(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, String> {
        // Every array has a tag, so the number of arrays cannot exceed the number of remaining
        // bytes.
        if count > self.rest.len() / 8 {
            return Err("ends inside an array".to_owned());
        }
        let one = |_| {
            let (_, bytes) = self.element()?;
            let mut input = Input { rest: bytes, is_big_endian: self.is_big_endian };
            input.array(depth + 1).map(|(_, value)| value)
        };
        (0..count).map(one).collect()
    }

    fn structures(&mut self, count: usize, dimensions: &[usize], depth: usize) -> Result<Value, String> {
        let (_, length) = self.element()?;
        let length = self.word(length.get(..4).ok_or("a structure has no length of names")?) as usize;
        let (_, names) = self.element()?;
        let name =
            |own: &[u8]| String::from_utf8_lossy(own.split(|byte| *byte == 0).next().unwrap_or(own)).into_owned();
        let names: Vec<String> = names.chunks(length.max(1)).map(name).collect();
        let all = count.checked_mul(names.len()).ok_or("a structure has too many fields")?;
        if names.is_empty() && count > 1 {
            return Err("an array of structures has no fields".to_owned());
        }
        let mut values = self.nested(all, depth)?.into_iter();
        let structure = |_| Value::Object(names.iter().cloned().zip(values.by_ref()).collect());
        let structures = (0..count).map(structure).collect();
        Ok(shaped(structures, dimensions, false))
    }

    /// Reads an array of characters, one text per row.
    fn texts(&mut self, count: usize, dimensions: &[usize]) -> Result<Value, String> {
        let (kind, bytes) = self.element()?;
        let characters: Vec<char> = match kind {
            UTF16 | UINT16 => {
                let units = bytes.chunks_exact(2).map(|own| {
                    let own = [own[0], own[1]];
                    if self.is_big_endian { u16::from_be_bytes(own) } else { u16::from_le_bytes(own) }
                });
                char::decode_utf16(units).map(|own| own.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            UTF8 | INT8 | UINT8 => String::from_utf8_lossy(bytes).chars().collect(),
            kind => return Err(format!("a text is of the type {kind}, which is not supported")),
        };
        // Characters are stored column by column; a text of one row is stored in reading order.
        match dimensions.first() {
            Some(2..) if characters.len() != count => {
                Err(format!("a text has {} characters, not {count}", characters.len()))
            }
            None | Some(0 | 1) => Ok(Value::String(characters.into_iter().collect())),
            // Rows without characters take no space, so a file could claim any number of them.
            Some(_) if count == 0 => Ok(json!([])),
            Some(&rows) => {
                let row = |row: usize| characters.iter().skip(row).step_by(rows).collect::<String>();
                Ok((0..rows).map(|own| json!(row(own).trim_end())).collect())
            }
        }
    }

    fn numbers(&self, kind: u32, bytes: &[u8]) -> Result<Vec<Value>, String> {
        let size = match kind {
            INT8 | UINT8 => 1,
            INT16 | UINT16 => 2,
            INT32 | UINT32 | SINGLE => 4,
            DOUBLE | INT64 | UINT64 => 8,
            kind => return Err(format!("numbers are of the type {kind}, which is not supported")),
        };
        let float = |number: f64| {
            // A whole number stored as a double is usually an index or a label.
            let is_whole = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
            if is_whole { json!(number as i64) } else { Number::from_f64(number).map_or(Value::Null, Value::Number) }
        };
        let one = |own: &[u8]| {
            let mut word = [0; 8];
            // In little-endian order, whatever the order of the file.
            for (place, byte) in own.iter().enumerate() {
                word[if self.is_big_endian { size - 1 - place } else { place }] = *byte;
            }
            let low = u64::from_le_bytes(word);
            match kind {
                INT8 => json!(low as u8 as i8),
                INT16 => json!(low as u16 as i16),
                INT32 => json!(low as u32 as i32),
                INT64 => json!(low as i64),
                SINGLE => float(f64::from(f32::from_bits(low as u32))),
                DOUBLE => float(f64::from_bits(low)),
                _ => json!(low),
            }
        };
        Ok(bytes.chunks_exact(size).map(one).collect())
    }
}

/// Arranges elements, which are stored column by column, in the shape of their array.
fn shaped(mut elements: Vec<Value>, dimensions: &[usize], keeps_one: bool) -> Value {
    match dimensions {
        _ if elements.len() == 1 && !keeps_one => elements.swap_remove(0),
        [rows, columns] if *rows > 1 && *columns > 1 => {
            let row = |row: usize| -> Value { elements.iter().skip(row).step_by(*rows).cloned().collect() };
            (0..*rows).map(row).collect()
        }
        _ => Value::Array(elements),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;

    /// Files that `make.py` wrote with scipy 1.17.1.
    const FILES: [&str; 2] = ["plain.mat", "packed.mat"];

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rows/matlab")
    }

    fn of(name: &str, toml: &str, shape: Shape) -> Result<Vec<Value>, String> {
        let found = rows(&folder(), &format!("file = \"{name}\"\n{toml}"), shape);
        found.map(|rows| rows.into_iter().map(|(.., row)| row).collect()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn arrays_of_every_kind_are_values() {
        let expected = json!({
            "labels": [3, 1, 2], "one": 7, "share": 0.5, "matrix": [[1, 2, 3], [4, 5, 6]], "small": [-1, 2],
            "text": "a flower é", "names": ["AM General", "Audi"], "cell_of_one": ["x"], "lines": ["ab", "cde"],
            "cars": [{"fname": "1.jpg", "class": 14, "box": [1, 2, 3, 4]}, {"fname": "2.jpg", "class": 3, "box": [5, 6, 7, 8]}],
            "nested": {"inner": {"deep": [1.5, null]}}, "empty": [], "unsigned": [200, 255]
        });
        for file in FILES {
            assert_eq!(of(file, "", Shape::Whole).unwrap(), std::slice::from_ref(&expected), "{file}");
        }
    }

    #[test]
    fn a_variable_or_what_lies_in_it_are_rows() {
        for file in FILES {
            let labels = [3, 1, 2].map(|label| json!({ "_value": label }));
            assert_eq!(of(file, "at = \"labels\"", Shape::List).unwrap(), labels);
            assert_eq!(of(file, "at = \"cars\"", Shape::List).unwrap()[1]["fname"], json!("2.jpg"));
            assert_eq!(of(file, "at = \"one\"", Shape::List).unwrap(), [json!({"_value": 7})]);
            assert_eq!(of(file, "at = \"nested.inner.deep\"", Shape::List).unwrap().len(), 2);
            assert!(
                of(file, "at = \"label\"", Shape::List).unwrap_err().contains("no variable `label`, only labels, ")
            );
            assert!(of(file, "at = \"nested.x\"", Shape::List).unwrap_err().contains("no `x` in `nested`"));
            assert!(of(file, "", Shape::List).unwrap_err().contains("set `at`"));
            assert!(of(file, "at = \"cars\"", Shape::Map).unwrap_err().contains("must be list or whole"));
        }
    }

    #[test]
    fn files_of_other_formats_and_broken_ones_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| {
            fs::write(folder.path().join("a.mat"), bytes).unwrap();
            rows(folder.path(), "file = \"a.mat\"", Shape::Whole).map_err(|fault| fault.to_string())
        };
        assert!(of(b"MATLAB 7.3 MAT-file").unwrap_err().contains("-v7"));
        assert!(of(b"x").unwrap_err().contains("too short"));
        assert!(of(&[0; 200]).unwrap_err().contains("not a level 5 MATLAB file"));
        for file in FILES {
            let sound = fs::read(super::tests::folder().join(file)).unwrap();
            let mut faults = 0;
            for end in HEADER..sound.len() {
                faults += u32::from(of(&sound[..end]).is_err());
            }
            assert!(faults > 100, "{file}: {faults}");
            for place in HEADER..sound.len() {
                let mut bad = sound.clone();
                bad[place] ^= 0xFF;
                // The result may differ, but reading must neither panic nor exhaust the memory.
                let _ = of(&bad);
            }
        }
    }
}
