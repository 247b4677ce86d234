//! Rows of Parquet files.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lynxdata_records::parquet;
use serde_json::{Map, Number, Value, json};

use super::{Emit, Source};

/// Reads rows batch by batch. Bytes, which are pictures and sounds, are left out: a task names its
/// pictures by their paths.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let schema = parquet::schema(source.path).map_err(chain)?;
    let columns: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| !is_bytes(field.data_type()))
        .map(|field| field.name().as_str())
        .collect();
    let mut number = 0;
    for batch in parquet::read(source.path, Some(&columns)).map_err(chain)? {
        let batch = batch.map_err(chain)?;
        for row in 0..batch.num_rows() {
            if emit(number, row_of(&batch, row)).is_break() {
                return Ok(());
            }
            number += 1;
        }
    }
    Ok(())
}

fn chain(error: impl std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn is_bytes(of: &DataType) -> bool {
    matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn row_of(batch: &RecordBatch, row: usize) -> Result<Value, String> {
    let mut fields = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = value(column, row).map_err(|reason| format!("column `{}` {reason}", field.name()))?;
        fields.insert(field.name().clone(), value);
    }
    Ok(Value::Object(fields))
}

/// Converts one cell. A number that JSON lacks, as NaN, is null; a time or date is its text.
fn value(column: &ArrayRef, row: usize) -> Result<Value, String> {
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
                object.insert(field.name().clone(), value(part, row)?);
            }
            Value::Object(object)
        }
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let mut object = Map::new();
            for place in 0..entries.len() {
                let key = super::python::key(&value(entries.column(0), place)?);
                object.insert(key, value(entries.column(1), place)?);
            }
            Value::Object(object)
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            value(dictionary.values(), dictionary.normalized_keys()[row])?
        }
        of if is_bytes(of) => Value::Null,
        _ => json!(text(column, row).map_err(|fault| fault.to_string())?),
    })
}

fn list(elements: &ArrayRef) -> Result<Value, String> {
    (0..elements.len()).map(|place| value(elements, place)).collect()
}

fn text(column: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    formatter.value(row).try_to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, DictionaryArray, Float64Array, Int64Array, ListArray, StringArray, StructArray,
    };
    use arrow::datatypes::{Field, Int32Type};

    use super::super::Shape;
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn cells_of_every_kind_are_values_and_bytes_are_left_out() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a.jpg", "b.jpg"]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..], b"y"]));
        let image = StructArray::from(vec![
            (Arc::new(Field::new("bytes", DataType::Binary, true)), Arc::clone(&bytes)),
            (Arc::new(Field::new("path", DataType::Utf8, true)), Arc::clone(&texts)),
        ]);
        let names: DictionaryArray<Int32Type> = vec!["dog", "cat"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("share", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            ("list", Arc::new(list)),
            ("image", Arc::new(image)),
            ("raw", bytes),
            ("name", Arc::new(names)),
            ("day", Arc::new(Date32Array::from(vec![0, 1]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let folder = tempfile::tempdir().unwrap();
        parquet::write(&folder.path().join("a.parquet"), &batch.schema(), [&batch]).unwrap();
        let found = rows(folder.path(), "file = \"a.parquet\"", Shape::List).unwrap();
        let first = json!({"id": 1, "share": 0.5, "list": [1, null], "image": {"path": "a.jpg"}, "name": "dog", "day": "1970-01-01"});
        let second = json!({"id": 2, "share": null, "list": null, "image": {"path": "b.jpg"}, "name": "cat", "day": "1970-01-02"});
        assert_eq!(found[0].2, first);
        assert_eq!((found[1].1, &found[1].2), (1, &second));
        std::fs::write(folder.path().join("b.parquet"), "no parquet").unwrap();
        let fault = rows(folder.path(), "file = \"b.parquet\"", Shape::List).unwrap_err().to_string();
        assert!(fault.contains("file b.parquet"), "{fault}");
    }
}
