//! Cells of tables as JSON.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Number, Value, json};

/// Returns whether cells of a type are bytes, such as images and sounds.
pub fn is_bytes(of: &DataType) -> bool {
    matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

/// Returns a cell as JSON. Bytes become null and are left out of structs. A number that JSON cannot
/// express, such as NaN, becomes null. A time or date becomes its text.
///
/// # Errors
/// Arrow's message, if it cannot format the cell as text.
pub fn as_json(column: &ArrayRef, row: usize) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int8 => json!(column.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => json!(column.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => json!(column.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => json!(column.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => json!(column.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => json!(column.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => json!(column.as_primitive::<UInt64Type>().value(row)),
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(column.as_string::<i64>().value(row)),
        DataType::Utf8View => json!(column.as_string_view().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let parts = column.as_struct();
            let mut object = Map::new();
            for (field, part) in fields.iter().zip(parts.columns()).filter(|(field, _)| !is_bytes(field.data_type())) {
                object.insert(field.name().clone(), as_json(part, row)?);
            }
            Value::Object(object)
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let mut object = Map::new();
            for place in 0..entries.len() {
                let key = key(&as_json(entries.column(0), place)?);
                object.insert(key, as_json(entries.column(1), place)?);
            }
            Value::Object(object)
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            as_json(dictionary.values(), dictionary.normalized_keys()[row])?
        }
        of if is_bytes(of) => Value::Null,
        _ => json!(text(column, row).map_err(|fault| fault.to_string())?),
    })
}

fn list(elements: &ArrayRef) -> Result<Value, String> {
    (0..elements.len()).map(|place| as_json(elements, place)).collect()
}

fn text(column: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    formatter.value(row).try_to_string()
}

/// Returns a key of a map as text, because keys of JSON objects are texts.
fn key(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
