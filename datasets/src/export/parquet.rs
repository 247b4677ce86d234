//! Columns for Parquet that Hugging Face `datasets` opens with a list of pictures and a list of
//! messages.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Array, Int64Array, ListArray, NullBufferBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use lynxdata_records::schema::{image_type, with_hugging_face_features};

use crate::build::{Conversation, PackedRecord};
use crate::record::VideoReference;
use crate::{Error, Result};

fn message_fields() -> Fields {
    Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)])
}

fn video_fields() -> Fields {
    let seconds = |name: &str| Field::new(name, DataType::Float64, true);
    Fields::from(vec![Field::new("path", DataType::Utf8, true), seconds("start"), seconds("end")])
}

/// The fields of a record that is packed into a conversation.
fn packed_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let places = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    Fields::from(vec![
        text("id"),
        text("template"),
        text("answer_shape"),
        text("source_file"),
        Field::new("source_row", DataType::Int64, true),
        Field::new("choice_order", places, true),
        Field::new("right_choice", DataType::Int64, true),
    ])
}

/// The columns: those of [`Conversation`], with a picture as `struct{bytes, path}`, its path
/// besides in `image_paths`, a video as `struct{path, start, end}` and a message as `struct{role,
/// content}`. The metadata holds the `datasets` features.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let list =
        |name: &str, item: DataType| Field::new(name, DataType::List(Arc::new(Field::new("item", item, true))), true);
    let fields = vec![
        text("id"),
        text("task"),
        text("group"),
        text("answer_shape"),
        text("licence"),
        list("images", image_type()),
        list("image_paths", DataType::Utf8),
        Field::new("video", DataType::Struct(video_fields()), true),
        list("messages", DataType::Struct(message_fields())),
        text("template"),
        text("source_file"),
        Field::new("source_row", DataType::Int64, true),
        list("choice_order", DataType::Int64),
        Field::new("right_choice", DataType::Int64, true),
        list("packed", DataType::Struct(packed_fields())),
    ];
    Arc::new(with_hugging_face_features(Schema::new(fields)))
}

/// The columns of some conversations. `picture` gives the bytes of a path. A picture without bytes
/// is null: with a path alone, `datasets` would look for that file on the reader's machine and
/// fail.
///
/// # Errors
/// What `picture` says, and if all pictures together exceed 2 GiB.
pub fn record_batch(
    conversations: &[Conversation],
    picture: &mut dyn FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<RecordBatch> {
    let schema = schema();
    let column = |value: fn(&Conversation) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(conversations.iter().map(value)))
    };
    let messages = || conversations.iter().flat_map(|conversation| &conversation.messages);
    let roles = StringArray::from(messages().map(|message| message.role.name()).collect::<Vec<&str>>());
    let contents = StringArray::from(messages().map(|message| message.content.as_str()).collect::<Vec<&str>>());
    let messages: ArrayRef =
        Arc::new(StructArray::new(message_fields(), vec![Arc::new(roles), Arc::new(contents)], None));
    let images = conversations.iter().flat_map(|conversation| &conversation.images);
    let paths: ArrayRef = Arc::new(StringArray::from(images.map(|image| image.path.as_str()).collect::<Vec<&str>>()));
    let orders = conversations.iter().flat_map(|conversation| &conversation.choice_order);
    let orders: ArrayRef = Arc::new(orders.map(|&place| i64::from(place)).collect::<Int64Array>());
    let mut has_order = NullBufferBuilder::new(conversations.len());
    for conversation in conversations {
        has_order.append(!conversation.choice_order.is_empty());
    }
    let is_packed = Some(conversations.iter().map(|conversation| !conversation.packed.is_empty()).collect());
    let rows = conversations.iter().map(|conversation| row_number(conversation.source_row));
    let list = |name: &str, lengths: Vec<usize>, values: ArrayRef, nulls| -> Result<ArrayRef> {
        let DataType::List(item) = schema.field_with_name(name)?.data_type().clone() else {
            unreachable!("the columns that come here are lists in the schema above")
        };
        Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, nulls)?))
    };
    let lengths = |length: fn(&Conversation) -> usize| conversations.iter().map(length).collect::<Vec<usize>>();
    let columns = vec![
        column(|conversation| &conversation.id),
        column(|conversation| &conversation.task),
        column(|conversation| &conversation.group),
        column(|conversation| conversation.answer_shape.name()),
        column(|conversation| &conversation.licence),
        list("images", lengths(|conversation| conversation.images.len()), pictures(conversations, picture)?, None)?,
        list("image_paths", lengths(|conversation| conversation.images.len()), paths, None)?,
        videos(conversations)?,
        list("messages", lengths(|conversation| conversation.messages.len()), messages, None)?,
        column(|conversation| &conversation.template),
        column(|conversation| &conversation.source_file),
        Arc::new(Int64Array::from_iter_values(rows)),
        list("choice_order", lengths(|conversation| conversation.choice_order.len()), orders, has_order.finish())?,
        Arc::new(Int64Array::from_iter(conversations.iter().map(|own| own.right_choice.map(i64::from)))),
        list("packed", lengths(|conversation| conversation.packed.len()), packed(conversations)?, is_packed)?,
    ];
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn videos(conversations: &[Conversation]) -> Result<ArrayRef> {
    let of = |conversation: &Conversation| conversation.video.clone();
    let videos: Vec<Option<VideoReference>> = conversations.iter().map(of).collect();
    let column = |value: fn(&VideoReference) -> Option<f64>| -> ArrayRef {
        Arc::new(videos.iter().map(|video| video.as_ref().and_then(value)).collect::<Float64Array>())
    };
    let paths = videos.iter().map(|video| video.as_ref().map(|video| video.path.as_str()));
    let paths: ArrayRef = Arc::new(paths.collect::<StringArray>());
    let mut is_there = NullBufferBuilder::new(videos.len());
    for video in &videos {
        is_there.append(video.is_some());
    }
    let columns = vec![paths, column(|video| video.start), column(|video| video.end)];
    Ok(Arc::new(StructArray::try_new(video_fields(), columns, is_there.finish())?))
}

fn row_number(row: u64) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

/// The records that are packed into conversations, one behind the other.
fn packed(conversations: &[Conversation]) -> Result<ArrayRef> {
    let all: Vec<&PackedRecord> = conversations.iter().flat_map(|conversation| &conversation.packed).collect();
    let text = |value: fn(&PackedRecord) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(|own| value(own))))
    };
    let orders = all.iter().map(|own| {
        let places = own.choice_order.iter().map(|&place| Some(i64::from(place)));
        (!own.choice_order.is_empty()).then(|| places.collect::<Vec<_>>())
    });
    let columns: Vec<ArrayRef> = vec![
        text(|own| &own.id),
        text(|own| &own.template),
        text(|own| own.answer_shape.name()),
        text(|own| &own.source_file),
        Arc::new(Int64Array::from_iter_values(all.iter().map(|own| row_number(own.source_row)))),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(orders)),
        Arc::new(Int64Array::from_iter(all.iter().map(|own| own.right_choice.map(i64::from)))),
    ];
    Ok(Arc::new(StructArray::try_new(packed_fields(), columns, None)?))
}

fn pictures(
    conversations: &[Conversation],
    picture: &mut dyn FnMut(&str) -> Result<Option<Vec<u8>>>,
) -> Result<ArrayRef> {
    let (mut bytes, mut paths) = (BinaryBuilder::new(), StringBuilder::new());
    let mut is_there = NullBufferBuilder::new(conversations.len());
    let mut total = 0_u64;
    for image in conversations.iter().flat_map(|conversation| &conversation.images) {
        let content = picture(&image.path)?;
        total += content.as_ref().map_or(0, |content| content.len() as u64);
        if total > i32::MAX as u64 {
            return Err(Error::BatchTooLarge { bytes: total });
        }
        is_there.append(content.is_some());
        paths.append_option(content.is_some().then_some(&image.path));
        bytes.append_option(content);
    }
    let DataType::Struct(fields) = image_type() else { unreachable!("a picture is a struct of bytes and path") };
    Ok(Arc::new(StructArray::try_new(
        fields,
        vec![Arc::new(bytes.finish()), Arc::new(paths.finish())],
        is_there.finish(),
    )?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use serde_json::{Value, json};

    use super::*;
    use crate::build::ImageReference;
    use crate::export::tests::conversation;

    #[test]
    fn pictures_and_messages_are_lists_of_structs() {
        let mut first = conversation("vqa/a", &["What?", "this"]);
        first.images.push(ImageReference { path: "train/b.jpg".to_owned() });
        let mut second = conversation("vqa/b", &["Which?", "B", "Sure?", "yes"]);
        second.video = Some(VideoReference { path: "v.mp4".to_owned(), start: Some(1.5), end: None });
        second.choice_order = vec![1, 0];
        let batch =
            record_batch(&[first, second], &mut |path| Ok((path == "train/a.jpg").then(|| vec![1, 2]))).unwrap();
        let images = batch.column_by_name("images").unwrap().as_list::<i32>();
        assert_eq!((images.value_length(0), images.value_length(1)), (2, 1));
        let pictures = images.values().as_struct();
        let bytes = pictures.column_by_name("bytes").unwrap().as_binary::<i32>();
        assert_eq!((bytes.value(0), bytes.value(2)), (&[1_u8, 2][..], &[1_u8, 2][..]));
        assert!(pictures.is_null(1) && pictures.is_valid(2));
        assert_eq!(pictures.column_by_name("path").unwrap().as_string::<i32>().value(0), "train/a.jpg");
        let paths = batch.column_by_name("image_paths").unwrap().as_list::<i32>();
        assert_eq!(paths.value(0).as_string::<i32>().value(1), "train/b.jpg", "also where bytes are missing");
        let video = batch.column_by_name("video").unwrap().as_struct();
        let start = video.column(1).as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!((video.is_null(0), start.iter().collect::<Vec<_>>()), (true, vec![None, Some(1.5)]));
        assert!(video.column(2).is_null(1));
        let messages = batch.column_by_name("messages").unwrap().as_list::<i32>();
        let turns = messages.value(1);
        let turns = turns.as_struct();
        assert_eq!(turns.column_by_name("role").unwrap().as_string::<i32>().value(3), "assistant");
        assert_eq!(turns.column_by_name("content").unwrap().as_string::<i32>().value(2), "Sure?");
        let orders = batch.column_by_name("choice_order").unwrap().as_list::<i32>();
        assert!(orders.is_null(0) && orders.value_length(1) == 2);
        assert_eq!(record_batch(&[], &mut |_| Ok(None)).unwrap().num_rows(), 0);
    }

    #[test]
    fn the_schema_tells_hugging_face_what_it_holds() {
        let features: Value = serde_json::from_str(&schema().metadata()["huggingface"]).unwrap();
        let features = &features["info"]["features"];
        assert_eq!(features["images"], json!({"feature": {"_type": "Image"}, "_type": "List"}));
        assert_eq!(features.as_object().unwrap().len(), 1, "the others are told by their types");
    }
}
