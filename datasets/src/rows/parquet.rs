//! Rows of Parquet files.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lynxdata_records::cell::{as_json, is_bytes};
use lynxdata_records::parquet;
use serde_json::{Map, Value};

use super::row::Row;
use super::{Emit, Source};

/// Reads rows batch by batch. Columns of bytes, which are images or sounds, are left out, except
/// those with the images of the task. Their bytes become base64, so that a row is JSON.
pub(super) fn read(source: &Source, emit: &mut Emit) -> Result<(), String> {
    let path = source.on_disk()?;
    let schema = parquet::schema(path).map_err(chain)?;
    let readable = schema
        .fields()
        .iter()
        .filter(|field| !is_bytes(field.data_type()) || source.table.pictures.contains(field.name()));
    let readable: Vec<String> = readable.map(|field| field.name().clone()).collect();
    let wanted = source.table.fields.columns(&readable);
    let columns: Vec<&str> = wanted.iter().map(|place| readable[*place].as_str()).collect();
    let mut number = 0;
    for batch in parquet::read(path, Some(&columns)).map_err(chain)? {
        let batch = batch.map_err(chain)?;
        for row in 0..batch.num_rows() {
            if emit(number, row_of(&batch, row, &source.table.pictures).map(Row::from)).is_break() {
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

fn row_of(batch: &RecordBatch, row: usize, pictures: &BTreeSet<String>) -> Result<Value, String> {
    let mut fields = Map::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = if pictures.contains(field.name()) { with_bytes(column, row) } else { as_json(column, row) };
        let value = value.map_err(|reason| format!("column `{}` {reason}", field.name()))?;
        fields.insert(field.name().clone(), value);
    }
    Ok(Value::Object(fields))
}

/// Returns a cell as JSON. Bytes in it, also in structs and lists, become base64.
fn with_bytes(column: &ArrayRef, row: usize) -> Result<Value, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let base64 = |bytes: &[u8]| Value::String(STANDARD.encode(bytes));
    let all = |cells: &ArrayRef| (0..cells.len()).map(|place| with_bytes(cells, place)).collect();
    match column.data_type() {
        DataType::Binary => Ok(base64(column.as_binary::<i32>().value(row))),
        DataType::LargeBinary => Ok(base64(column.as_binary::<i64>().value(row))),
        DataType::BinaryView => Ok(base64(column.as_binary_view().value(row))),
        DataType::FixedSizeBinary(_) => Ok(base64(column.as_fixed_size_binary().value(row))),
        DataType::Struct(fields) => {
            let parts = fields.iter().zip(column.as_struct().columns());
            parts.map(|(field, part)| Ok((field.name().clone(), with_bytes(part, row)?))).collect()
        }
        DataType::List(_) => all(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => all(&column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => all(&column.as_fixed_size_list().value(row)),
        _ => as_json(column, row),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, DictionaryArray, Float64Array, Int64Array, ListArray, StringArray,
        StructArray,
    };
    use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
    use serde_json::json;

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
