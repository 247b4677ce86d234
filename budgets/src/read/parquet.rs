//! Reads rows of Parquet files as records. Columns become JSON, except for the bytes of images.

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::DataType;
use lynxdata_records::cell::as_json;
use serde_json::{Map, Value, json};

use super::conversation::{Conversation, Picture, TURNS};
use crate::error::{Error, Result};
use crate::fault::{Fault, Reason};

/// The columns that are read for a record.
const COLUMNS: &[&str] = &[
    "id",
    "task",
    "dataset",
    "source",
    "template",
    "choice_order",
    "right_choice",
    "packed",
    "image",
    "images",
    "video",
    "videos",
    "system",
    "width",
    "height",
    "messages",
    "conversations",
    "texts",
    "instruction",
    "inputs",
    "input",
    "outputs",
    "output",
];

/// Passes the rows of a file to `take`, until it wants no more.
pub(super) fn read(
    path: &Path,
    take: &mut dyn FnMut(u64, std::result::Result<Conversation, Fault>) -> Result<()>,
) -> Result<()> {
    let schema = lynxdata_records::parquet::schema(path)?;
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if !TURNS.iter().any(|name| names.contains(name)) {
        return Err(Error::NoTurns { path: path.to_owned(), columns: names.join(", ") });
    }
    let wanted: Vec<&str> = COLUMNS.iter().copied().filter(|name| names.contains(name)).collect();
    let mut number = 0;
    for batch in lynxdata_records::parquet::read(path, Some(&wanted))? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            take(number, record(&batch, row))?;
            number += 1;
        }
    }
    Ok(())
}

fn record(batch: &RecordBatch, row: usize) -> std::result::Result<Conversation, Fault> {
    let mut fields = Map::new();
    let mut pictures = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name().as_str();
        if matches!(name, "image" | "images") && holds_pictures(column.data_type()) {
            take_pictures(column, row, &mut pictures);
        } else {
            fields.insert(
                name.to_owned(),
                as_json(column, row).map_err(|detail| Fault::new(Reason::Unreadable, detail))?,
            );
        }
    }
    if !pictures.is_empty() {
        // Without their bytes, so that sizes in other columns and the rules of the format apply.
        fields.insert("images".to_owned(), pictures.iter().map(|picture| json!({"path": picture.path})).collect());
    }
    let mut conversation = Conversation::from_json(Value::Object(fields))?;
    for (own, picture) in conversation.pictures.iter_mut().zip(pictures) {
        own.bytes = picture.bytes;
    }
    Ok(conversation)
}

/// Returns whether a column contains images as Hugging Face `datasets` stores them, with their
/// bytes.
fn holds_pictures(kind: &DataType) -> bool {
    match kind {
        DataType::Struct(fields) => fields.iter().any(|field| field.name() == "bytes"),
        DataType::List(item) | DataType::LargeList(item) => holds_pictures(item.data_type()),
        DataType::Binary | DataType::LargeBinary => true,
        _ => false,
    }
}

fn take_pictures(column: &ArrayRef, row: usize, pictures: &mut Vec<Picture>) {
    if column.is_null(row) {
        return;
    }
    match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>().value(row);
            (0..list.len()).for_each(|place| take_picture(&list, place, pictures));
        }
        DataType::LargeList(_) => {
            let list = column.as_list::<i64>().value(row);
            (0..list.len()).for_each(|place| take_picture(&list, place, pictures));
        }
        _ => take_picture(column, row, pictures),
    }
}

/// Reads an image. A null counts as a missing image.
fn take_picture(column: &ArrayRef, row: usize, pictures: &mut Vec<Picture>) {
    let fields: Option<&StructArray> = column.as_struct_opt();
    let bytes = fields.map_or(Some(column), |fields| fields.column_by_name("bytes"));
    let path = fields.and_then(|fields| fields.column_by_name("path"));
    let is_there = column.is_valid(row);
    let bytes = bytes.filter(|bytes| is_there && bytes.is_valid(row)).and_then(|bytes| match bytes.data_type() {
        DataType::Binary => Some(bytes.as_binary::<i32>().value(row).to_vec()),
        DataType::LargeBinary => Some(bytes.as_binary::<i64>().value(row).to_vec()),
        _ => None,
    });
    let path = path.filter(|_| is_there).and_then(|path| as_json(path, row).ok()?.as_str().map(str::to_owned));
    pictures.push(Picture { path, bytes, declared: None });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Int64Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray, StructArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Fields};
    use lynxdata_records::schema::image_type;

    use super::*;
    use crate::read::{Role, Turn};

    fn list(lengths: &[usize], values: ArrayRef) -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths.iter().copied()), values, None))
    }

    fn pairs(names: [&str; 2], first: Vec<&str>, second: Vec<&str>) -> ArrayRef {
        let fields = Fields::from(names.map(|name| Field::new(name, DataType::Utf8, true)).to_vec());
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(first)), Arc::new(StringViewArray::from(second))];
        let fields = fields
            .iter()
            .zip(&columns)
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        Arc::new(StructArray::new(fields.collect(), columns, None))
    }

    fn pictures() -> ArrayRef {
        let DataType::Struct(fields) = image_type() else { unreachable!("a picture is a struct") };
        let bytes = BinaryArray::from(vec![Some(&b"one"[..]), None, Some(b"three")]);
        let paths = StringArray::from(vec![Some("a.jpg"), None, None]);
        let is_there = NullBuffer::from(vec![true, false, true]);
        list(&[2, 1], Arc::new(StructArray::new(fields, vec![Arc::new(bytes), Arc::new(paths)], Some(is_there))))
    }

    fn rows(columns: Vec<(&str, ArrayRef)>) -> Vec<Conversation> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.parquet");
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        lynxdata_records::parquet::write(&path, &batch.schema(), [&batch]).unwrap();
        let mut found = Vec::new();
        read(&path, &mut |row, conversation| {
            assert_eq!(row, found.len() as u64);
            found.push(conversation.unwrap());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn our_own_export_is_read_with_its_pictures() {
        let messages = pairs(["role", "content"], vec!["user", "assistant", "user"], vec!["What?", "This.", "And?"]);
        let own = rows(vec![
            ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("images", pictures()),
            ("messages", list(&[2, 1], messages)),
            ("source_row", Arc::new(Int64Array::from(vec![1, 2]))),
        ]);
        let turn = |role: Role, text: &str| Turn { role, text: text.to_owned() };
        assert_eq!(own[0].turns, [turn(Role::User, "What?"), turn(Role::Assistant, "This.")]);
        assert_eq!(own[0].pictures[0].bytes.as_deref(), Some(&b"one"[..]));
        assert_eq!(own[0].pictures[0].path.as_deref(), Some("a.jpg"));
        assert_eq!((own[0].pictures.len(), &own[0].pictures[1]), (2, &Picture::default()), "null is a missing picture");
        assert_eq!(own[1].pictures[0].bytes.as_deref(), Some(&b"three"[..]));
        assert!(own[0].is_placed_by_format && own[1].id.as_deref() == Some("b"));
    }

    #[test]
    fn the_cauldron_is_read_and_a_table_without_turns_is_told() {
        let texts = pairs(["user", "assistant"], vec!["What?", "Why?"], vec!["This.", "So."]);
        let own = rows(vec![("images", pictures()), ("texts", list(&[1, 1], texts))]);
        assert_eq!(own[1].turns[1].text, "So.");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.parquet");
        let column: ArrayRef = Arc::new(NullArray::new(1));
        let batch = RecordBatch::try_from_iter([("url", column)]).unwrap();
        lynxdata_records::parquet::write(&path, &batch.schema(), [&batch]).unwrap();
        let told = read(&path, &mut |_, _| Ok(())).unwrap_err().to_string();
        assert!(told.contains("none of the columns") && told.contains("url"), "{told}");
    }
}
