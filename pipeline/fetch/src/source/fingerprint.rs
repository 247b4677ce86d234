//! A digest of a table's content that does not depend on its Arrow memory layout.

use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type};
use arrow::downcast_primitive_array;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lynxdata_hash::{Hasher, add};

use super::column;

/// Hashes names, types and values of all columns.
pub(super) fn of(rows: &RecordBatch, hasher: &mut Hasher) {
    number(rows.num_rows(), hasher);
    number(rows.num_columns(), hasher);
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        add(hasher, field.name().as_bytes());
        add(hasher, field.data_type().to_string().as_bytes());
        array(column.as_ref(), hasher);
    }
}

/// Hashes, for every row with a local image, the position of the image in its file and the size and
/// modification time of the file. File names are not hashed, because they change when the source is
/// moved; names relative to the source are in a column. `image` is the column of images in Parquet
/// files.
pub(super) fn of_files(rows: &RecordBatch, image: Option<&str>, hasher: &mut Hasher) {
    let files = rows.column(column::FILE).as_string::<i32>();
    let integers = |position: usize| rows.column(position).as_primitive::<Int64Type>();
    let (offsets, lengths) = (integers(column::OFFSET), integers(column::LENGTH));
    let mut state = (String::new(), String::new());
    for row in (0..rows.num_rows()).filter(|row| files.is_valid(*row)) {
        let file = files.value(row);
        if state.0 != file {
            state = (file.to_owned(), state_of(Path::new(file)));
        }
        number(row, hasher);
        hasher.update(&offsets.value(row).to_le_bytes());
        if lengths.is_valid(row) {
            hasher.update(&lengths.value(row).to_le_bytes());
        } else {
            add(hasher, image.unwrap_or_default().as_bytes());
        }
        add(hasher, state.1.as_bytes());
    }
}

/// Returns the size and the modification time of a file as text.
fn state_of(file: &Path) -> String {
    let Ok(metadata) = std::fs::metadata(file) else { return "missing".to_owned() };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    format!("{} bytes, {} ns", metadata.len(), modified.unwrap_or_default().as_nanos())
}

fn number(value: usize, hasher: &mut Hasher) {
    hasher.update(&(value as u64).to_le_bytes());
}

/// Hashes the validity of every row as one byte. Values of null rows are arbitrary and are not
/// hashed.
fn nulls(length: usize, nulls: Option<&NullBuffer>, hasher: &mut Hasher) {
    let valid: Vec<u8> = (0..length).map(|row| u8::from(nulls.is_none_or(|nulls| nulls.is_valid(row)))).collect();
    hasher.update(&valid);
}

fn array(values: &dyn Array, hasher: &mut Hasher) {
    number(values.len(), hasher);
    nulls(values.len(), values.nulls(), hasher);
    let valid = (0..values.len()).filter(|row| values.is_valid(*row));
    downcast_primitive_array!(
        values => {
            for row in valid {
                hasher.update(arrow::datatypes::ToByteSlice::to_byte_slice(&values.value(row)));
            }
        }
        DataType::Boolean => {
            let values = values.as_boolean();
            valid.for_each(|row| { hasher.update(&[u8::from(values.value(row))]); });
        }
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            valid.for_each(|row| add(hasher, values.value(row).as_bytes()));
        }
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            valid.for_each(|row| add(hasher, values.value(row)));
        }
        DataType::List(_) => {
            let values = values.as_list::<i32>();
            valid.for_each(|row| array(values.value(row).as_ref(), hasher));
        }
        DataType::LargeList(_) => {
            let values = values.as_list::<i64>();
            valid.for_each(|row| array(values.value(row).as_ref(), hasher));
        }
        DataType::FixedSizeList(_, _) => {
            let values = values.as_fixed_size_list();
            valid.for_each(|row| array(values.value(row).as_ref(), hasher));
        }
        DataType::Struct(_) => {
            let values = values.as_struct();
            for row in valid {
                values.columns().iter().for_each(|column| array(column.slice(row, 1).as_ref(), hasher));
            }
        }
        // Rare types such as maps and unions are hashed as their printed text.
        _ => match ArrayFormatter::try_new(values, &FormatOptions::default()) {
            Ok(formatter) => valid.for_each(|row| add(hasher, formatter.value(row).to_string().as_bytes())),
            Err(error) => add(hasher, error.to_string().as_bytes()),
        }
    );
}
