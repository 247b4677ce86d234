//! Finds a type that holds all values of a column: in one file whose format has no types, and over
//! several files.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde_json::Value;

use super::lists::item_type;
use super::numbers::{self, Number};

/// The kinds of values that were seen in a column.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of kinds")]
pub(super) struct Seen {
    boolean: bool,
    integer: bool,
    /// An integer that a 64-bit float may not hold exactly.
    wide_integer: bool,
    float: bool,
    /// A text, a list, an object, or an integer beyond signed 64 bits.
    text: bool,
}

/// 2 to the 53rd: every integer up to this magnitude is exact as a 64-bit float.
pub(super) const EXACT_IN_FLOAT: u64 = 1 << 53;

impl Seen {
    /// Returns the kinds of a column that is always text, even if its values look like numbers.
    pub(super) fn text() -> Seen {
        Seen { text: true, ..Seen::default() }
    }

    pub(super) fn add(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.boolean = true,
            Value::Number(number) => match number.as_i64() {
                Some(integer) => self.add_integer(integer),
                None if number.is_u64() => self.text = true,
                None => self.float = true,
            },
            Value::String(_) | Value::Array(_) | Value::Object(_) => self.text = true,
        }
    }

    /// Adds a field of a format that only has texts.
    pub(super) fn add_text(&mut self, field: &str) {
        // Once there is a text, the column is text.
        if self.text {
            return;
        }
        match numbers::parse(field) {
            Some(Number::Missing) => {}
            Some(Number::Integer(integer)) => self.add_integer(integer),
            Some(Number::Float(_)) => self.float = true,
            None => self.text = true,
        }
    }

    fn add_integer(&mut self, integer: i64) {
        self.integer = true;
        self.wide_integer |= integer.unsigned_abs() > EXACT_IN_FLOAT;
    }

    /// Adds the kinds of values of another file.
    pub(super) fn add_all(&mut self, other: Seen) {
        self.boolean |= other.boolean;
        self.integer |= other.integer;
        self.wide_integer |= other.wide_integer;
        self.float |= other.float;
        self.text |= other.text;
    }

    pub(super) fn has_wide_integers(self) -> bool {
        self.wide_integer
    }

    /// Returns the narrowest type that holds all values without loss; text if there is no other,
    /// and `Null` if there was no value.
    pub(super) fn data_type(self) -> DataType {
        let number = self.integer || self.float;
        if self.text || (self.boolean && number) || (self.float && self.wide_integer) {
            DataType::Utf8
        } else if self.float {
            DataType::Float64
        } else if self.integer {
            DataType::Int64
        } else if self.boolean {
            DataType::Boolean
        } else {
            DataType::Null
        }
    }
}

/// Returns the narrowest type that holds the values of both types; `None` if there is none. For
/// integers and floats, the caller must check that the integers are exact as floats.
pub(super) fn common(left: &DataType, right: &DataType) -> Option<DataType> {
    let item = |left: &DataType, right: &DataType| {
        let item = common(item_type(left)?, item_type(right)?)?;
        Some(Arc::new(Field::new_list_field(item, true)))
    };
    match (left, right) {
        _ if left == right => Some(left.clone()),
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (DataType::FixedSizeBinary(_) | DataType::Binary, DataType::FixedSizeBinary(_) | DataType::Binary) => {
            Some(DataType::Binary)
        }
        (DataType::FixedSizeList(_, length), DataType::FixedSizeList(_, other)) if length == other => {
            Some(DataType::FixedSizeList(item(left, right)?, *length))
        }
        (DataType::LargeList(_), _) | (_, DataType::LargeList(_)) => Some(DataType::LargeList(item(left, right)?)),
        (DataType::List(_) | DataType::FixedSizeList(..), _) => Some(DataType::List(item(left, right)?)),
        (DataType::Struct(left), DataType::Struct(right)) if left.len() == right.len() => {
            let fields = left.iter().zip(right).map(|(left, right)| {
                let data_type = common(left.data_type(), right.data_type()).filter(|_| left.name() == right.name())?;
                Some(Arc::new(Field::new(left.name(), data_type, true)))
            });
            Some(DataType::Struct(fields.collect::<Option<Fields>>()?))
        }
        _ if is_number(left) && is_number(right) => Some(common_number(left, right)),
        _ if is_printable(left) && is_printable(right) => Some(DataType::Utf8),
        _ => None,
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

fn common_number(left: &DataType, right: &DataType) -> DataType {
    if left.is_floating() && right.is_floating() {
        let is_single = |data_type: &DataType| matches!(data_type, DataType::Float16 | DataType::Float32);
        return if is_single(left) && is_single(right) { DataType::Float32 } else { DataType::Float64 };
    }
    if left.is_floating() || right.is_floating() {
        return DataType::Float64;
    }
    let bits = |data_type: &DataType| data_type.primitive_width().unwrap_or(8) * 8;
    let (is_signed, widest) = (left.is_signed_integer() && right.is_signed_integer(), bits(left).max(bits(right)));
    if !left.is_signed_integer() && !right.is_signed_integer() {
        return match widest {
            16 => DataType::UInt16,
            32 => DataType::UInt32,
            _ => DataType::UInt64,
        };
    }
    // An unsigned type needs one bit more for the sign, so it takes the next wider signed type.
    let unsigned = [left, right].into_iter().filter(|data_type| !data_type.is_signed_integer()).map(bits).max();
    let widest = if is_signed { widest } else { widest.max(unsigned.unwrap_or(0) * 2) };
    match widest {
        16 => DataType::Int16,
        32 => DataType::Int32,
        64 => DataType::Int64,
        _ => DataType::Utf8,
    }
}

/// Returns whether different values of the type always have different texts.
pub(super) fn is_printable(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Boolean
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::Timestamp(..)
    ) || is_number(data_type)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_narrowest_type_without_loss_is_chosen() {
        for (values, expected) in [
            (json!([null]), DataType::Null),
            (json!([true, null]), DataType::Boolean),
            (json!([1, -2]), DataType::Int64),
            (json!([1, 2.5]), DataType::Float64),
            (json!([9_007_199_254_740_993_i64]), DataType::Int64),
            (json!([9_007_199_254_740_993_i64, 0.5]), DataType::Utf8),
            (json!([18_446_744_073_709_551_615_u64]), DataType::Utf8),
            (json!([true, 1]), DataType::Utf8),
            (json!([1, "one"]), DataType::Utf8),
            (json!([[1, 2]]), DataType::Utf8),
            (json!([{"a": 1}, null]), DataType::Utf8),
        ] {
            let mut seen = Seen::default();
            values.as_array().unwrap().iter().for_each(|value| seen.add(value));
            assert_eq!(seen.data_type(), expected, "{values}");
        }
        for (fields, expected) in [
            (&["", "NaN"][..], DataType::Null),
            (&["1", "", "-2"], DataType::Int64),
            (&["1", "0.5", "N/A"], DataType::Float64),
            (&["9007199254740993", "0.5"], DataType::Utf8),
            (&["1", "007"], DataType::Utf8),
            (&["1", "one"], DataType::Utf8),
        ] {
            let mut seen = Seen::default();
            for field in fields {
                seen.add_text(field);
            }
            assert_eq!(seen.data_type(), expected, "{fields:?}");
        }
    }

    #[test]
    fn types_of_several_files_have_a_common_one() {
        use DataType::{
            Binary, Boolean, Date32, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16, Int32, Int64, UInt8,
            UInt16, UInt64, Utf8,
        };
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let large = |item| DataType::LargeList(Arc::new(Field::new_list_field(item, true)));
        let fixed = |item, length| DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), length);
        let structure = |name: &str, item| DataType::Struct(vec![Field::new(name, item, true)].into());
        for (left, right, expected) in [
            (Int64, Float64, Some(Float64)),
            (Int32, Int64, Some(Int64)),
            (Int8, UInt8, Some(Int16)),
            (Int64, UInt16, Some(Int64)),
            (Int16, UInt16, Some(Int32)),
            (UInt8, UInt64, Some(UInt64)),
            (Int64, UInt64, Some(Utf8)),
            (Float16, Float32, Some(Float32)),
            (Float32, Int8, Some(Float64)),
            (Utf8, Int64, Some(Utf8)),
            (Boolean, Int64, Some(Utf8)),
            (Date32, DataType::Timestamp(TimeUnit::Second, None), Some(Utf8)),
            (DataType::Null, list(Int8), Some(list(Int8))),
            (FixedSizeBinary(4), Binary, Some(Binary)),
            (list(Int32), large(Float64), Some(large(Float64))),
            (list(Int32), fixed(Int64, 2), Some(list(Int64))),
            (fixed(Int32, 2), fixed(Int64, 2), Some(fixed(Int64, 2))),
            (structure("a", Int32), structure("a", Int64), Some(structure("a", Int64))),
            (structure("a", Int32), structure("b", Int32), None),
            (Utf8, Binary, None),
            (Utf8, list(Utf8), None),
            (list(Utf8), structure("a", Utf8), None),
        ] {
            assert_eq!(common(&left, &right), expected, "{left} and {right}");
            assert_eq!(common(&right, &left), expected, "{right} and {left}");
        }
    }
}
