//! numpy arrays and scalars inside a pickle.

use std::rc::Rc;

use serde_json::{Number, Value, json};

use super::{Converter, Object};

/// A plain numpy type: booleans, whole numbers, floats, bytes, texts and objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Dtype {
    /// `b`, `i`, `u`, `f`, `S`, `U` or `O`.
    kind: char,
    /// The size of an element in bytes.
    size: usize,
    is_big_endian: bool,
}

impl Dtype {
    /// Parses a name such as `f8`, `<i4`, `S10` or `U3`.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let refused = || format!("arrays of the type {name:?} are not plain values");
        let is_big_endian = name.starts_with('>');
        let rest = name.trim_start_matches(['<', '>', '|', '=']);
        let mut characters = rest.chars();
        let kind = characters.next().ok_or_else(refused)?;
        let size: usize = match (kind, characters.as_str()) {
            ('O', _) => 0,
            (_, size) => size.parse().map_err(|_| refused())?,
        };
        let (kind, size) = match (kind, size) {
            ('b', 1) => ('b', 1),
            ('i' | 'u', 1 | 2 | 4 | 8) | ('f', 2 | 4 | 8) | ('S' | 'O', _) => (kind, size),
            ('U', size) => ('U', size * 4),
            _ => return Err(refused()),
        };
        Ok(Self { kind, size, is_big_endian })
    }

    /// Sets the byte order from the state of a type.
    pub(super) fn set_order(&mut self, order: &str) -> Result<(), String> {
        match order {
            ">" => self.is_big_endian = true,
            "<" | "=" => self.is_big_endian = false,
            "|" => {}
            other => return Err(format!("{other:?} is not a byte order")),
        }
        Ok(())
    }

    fn element(&self, bytes: &[u8]) -> Value {
        let mut little = [0; 8];
        if matches!(self.kind, 'b' | 'i' | 'u' | 'f') {
            little[..self.size].copy_from_slice(bytes);
            if self.is_big_endian {
                little[..self.size].reverse();
            }
        }
        let number = u64::from_le_bytes(little);
        match (self.kind, self.size) {
            ('b', _) => json!(number != 0),
            ('u', _) => json!(number),
            ('i', size) => {
                let unused = 64 - size as u32 * 8;
                json!((number << unused).cast_signed() >> unused)
            }
            ('f', size) => {
                let number = match size {
                    2 => half(number as u16),
                    4 => f64::from(f32::from_bits(number as u32)),
                    _ => f64::from_bits(number),
                };
                Number::from_f64(number).map_or(Value::Null, Value::Number)
            }
            ('U', _) => {
                let code = |four: &[u8]| {
                    let four = four.try_into().expect("chunks of four");
                    if self.is_big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
                };
                let text: String =
                    bytes.chunks_exact(4).map(|four| char::from_u32(code(four)).unwrap_or('\u{FFFD}')).collect();
                json!(text.trim_end_matches('\0'))
            }
            _ => {
                let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                json!(super::text_of(&bytes[..length]))
            }
        }
    }
}

/// Returns the value of a half-precision float (IEEE 754 binary16).
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// An array: its bytes, or its objects.
#[derive(Debug, Default)]
pub(super) struct Array {
    dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Whether elements are stored in Fortran order: neighbours along the first axis are adjacent.
    is_fortran: bool,
    bytes: Rc<[u8]>,
    objects: Vec<Object>,
}

impl Array {
    pub(super) fn new(dtype: Dtype, shape: Vec<usize>, is_fortran: bool, data: &Object) -> Result<Self, String> {
        // The maximum number of axes in numpy.
        if shape.len() > 64 {
            return Err(format!("an array of {} axes is not valid in numpy", shape.len()));
        }
        let length = shape.iter().try_fold(1_usize, |length, side| length.checked_mul(*side));
        let length = length.ok_or("an array is too large")?;
        let (bytes, objects) =
            if dtype.kind == 'O' { (Rc::from([]), data.elements()?) } else { (data.bytes()?, Vec::new()) };
        let found = if dtype.kind == 'O' { objects.len() } else { bytes.len() };
        let expected = if dtype.kind == 'O' { Some(length) } else { length.checked_mul(dtype.size) };
        if expected != Some(found) {
            return Err(format!("an array of {shape:?} has {found} bytes or objects"));
        }
        Ok(Self { dtype, shape, is_fortran, bytes, objects })
    }

    /// Returns the number of elements.
    pub(super) fn length(&self) -> usize {
        self.shape.iter().product()
    }

    /// Converts the whole array to nested lists.
    pub(super) fn value(&self, json: &mut Converter, depth: usize) -> Result<Value, String> {
        self.nested(&mut Vec::new(), json, depth)
    }

    /// Converts the part at one index of the first axis.
    pub(super) fn row(&self, place: usize, json: &mut Converter) -> Result<Value, String> {
        self.nested(&mut vec![place], json, 0)
    }

    fn nested(&self, place: &mut Vec<usize>, json: &mut Converter, depth: usize) -> Result<Value, String> {
        let Some(&side) = self.shape.get(place.len()) else { return self.element(place, json, depth) };
        let mut list = Vec::new();
        for own in 0..side {
            place.push(own);
            list.push(self.nested(place, json, depth)?);
            place.pop();
        }
        Ok(Value::Array(list))
    }

    fn element(&self, place: &[usize], json: &mut Converter, depth: usize) -> Result<Value, String> {
        let step = |offset: usize, (own, side): (&usize, &usize)| offset * side + own;
        let axes = place.iter().zip(&self.shape);
        let offset = if self.is_fortran { axes.rev().fold(0, step) } else { axes.fold(0, step) };
        if self.dtype.kind == 'O' {
            return json.value(&self.objects[offset], depth + 1);
        }
        let size = self.dtype.size;
        Ok(self.dtype.element(&self.bytes[offset * size..(offset + 1) * size]))
    }
}

/// Returns a numpy scalar.
pub(super) fn scalar(dtype: &Dtype, bytes: &Object) -> Result<Object, String> {
    let array = Array::new(dtype.clone(), Vec::new(), false, bytes)?;
    Ok(Object::Array(Rc::new(std::cell::RefCell::new(array))))
}
