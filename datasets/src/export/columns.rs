//! Writes Parquet formats: columns of conversations that Hugging Face `datasets` can open.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Array, Int64Array, ListArray, NullBufferBuilder, RecordBatch, StringArray,
    StringBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use lynxdata_records::parquet;
use lynxdata_records::schema::{image_type, with_hugging_face_features};

use super::{Files, Pictures, Writer};
use crate::boxes::NativeBox;
use crate::build::{Conversation, PackedRecord};
use crate::{Error, Result};

/// A column: its name and its values.
pub(super) type Column = (&'static str, Values);

/// The values of a column.
#[derive(Debug)]
pub(super) enum Values {
    /// One value per conversation.
    One(Value),
    /// A list of texts per conversation.
    Texts(fn(&Conversation) -> Vec<Cow<'_, str>>),
    /// A struct of named values per conversation.
    Struct(&'static [(&'static str, Value)]),
    /// A list of structs of texts per conversation: the names of the fields, and their values in
    /// that order.
    Structs(&'static [&'static str], fn(&Conversation) -> Vec<Vec<Cow<'_, str>>>),
    /// The images, each as `struct{bytes, path}`. An image without bytes is null: with only a path,
    /// `datasets` would look for that file on the reader's machine and fail.
    Pictures,
    /// The video as `struct{path, start, end}`; times are in seconds.
    Video,
    /// The native indexes of the options in the order shown; null without options.
    ChoiceOrder,
    /// The boxes as the source has them; null without boxes.
    Boxes,
    /// The records that are packed into one conversation; null for a conversation of one record.
    Packed,
}

/// One value of a conversation.
#[derive(Debug)]
pub(super) enum Value {
    /// A text.
    Text(fn(&Conversation) -> Cow<'_, str>),
    /// A number.
    Number(fn(&Conversation) -> u64),
    /// A number or null.
    MaybeNumber(fn(&Conversation) -> Option<u64>),
}

pub(super) const ID: Column = ("id", Values::One(Value::Text(|own| Cow::from(&own.id))));
pub(super) const TASK: Column = ("task", Values::One(Value::Text(|own| Cow::from(&own.task))));
pub(super) const LICENCE: Column = ("licence", Values::One(Value::Text(|own| Cow::from(&own.licence))));
pub(super) const SOURCE_FILE: Column = ("source_file", Values::One(Value::Text(|own| Cow::from(&own.source_file))));
pub(super) const SOURCE_ROW: Column = ("source_row", Values::One(Value::Number(|own| own.source_row)));
/// The paths of the images, including those whose bytes are missing.
pub(super) const IMAGE_PATHS: Column =
    ("image_paths", Values::Texts(|own| own.images.iter().map(|image| Cow::from(&image.path)).collect()));

/// The boxes as the source has them.
pub(super) const BOXES: Column = ("boxes", Values::Boxes);

/// The number of conversations whose images are in memory at a time.
const BATCH: usize = 64;

/// Writes the columns of conversations.
struct ColumnsWriter {
    columns: &'static [Column],
    schema: SchemaRef,
    file: parquet::Writer,
}

/// Creates a file. An image that is in several nearby rows is stored once.
pub(super) fn begin(files: &mut Files, columns: &'static [Column]) -> Result<Box<dyn Writer>> {
    let schema = schema(columns);
    let file = parquet::Writer::create_with_repeated_pictures(&files(".parquet")?, &schema)?;
    Ok(Box::new(ColumnsWriter { columns, schema, file }))
}

/// Creates the file with the first row. A format that leaves out conversations may have none of a
/// set, and Hugging Face `datasets` fails on a file without rows.
pub(super) fn begin_with_first_row(columns: &'static [Column]) -> Box<dyn Writer> {
    Box::new(FromFirstRow { columns, inner: None })
}

/// Writes columns, see [`begin_with_first_row`].
struct FromFirstRow {
    columns: &'static [Column],
    inner: Option<Box<dyn Writer>>,
}

impl Writer for FromFirstRow {
    fn write(&mut self, conversations: &[Conversation], files: &mut Files, pictures: &mut Pictures) -> Result<()> {
        if conversations.is_empty() {
            return Ok(());
        }
        let mut inner = match self.inner.take() {
            Some(inner) => inner,
            None => begin(files, self.columns)?,
        };
        inner.write(conversations, files, pictures)?;
        self.inner = Some(inner);
        Ok(())
    }

    fn finish(self: Box<Self>, files: &mut Files) -> Result<()> {
        self.inner.map_or(Ok(()), |inner| inner.finish(files))
    }
}

impl Writer for ColumnsWriter {
    fn write(&mut self, conversations: &[Conversation], _: &mut Files, pictures: &mut Pictures) -> Result<()> {
        for batch in conversations.chunks(BATCH) {
            self.file.write(&record_batch(self.columns, &self.schema, batch, pictures)?)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Files) -> Result<()> {
        self.file.finish()?;
        Ok(())
    }
}

impl Value {
    fn data_type(&self) -> DataType {
        match self {
            Value::Text(_) => DataType::Utf8,
            Value::Number(_) | Value::MaybeNumber(_) => DataType::Int64,
        }
    }

    fn array(&self, conversations: &[Conversation]) -> ArrayRef {
        match self {
            Value::Text(value) => Arc::new(StringArray::from_iter_values(conversations.iter().map(value))),
            Value::Number(value) => {
                Arc::new(Int64Array::from_iter_values(conversations.iter().map(|own| signed(value(own)))))
            }
            Value::MaybeNumber(value) => {
                Arc::new(conversations.iter().map(|own| value(own).map(signed)).collect::<Int64Array>())
            }
        }
    }
}

impl Values {
    fn data_type(&self) -> DataType {
        match self {
            Values::One(value) => value.data_type(),
            Values::Texts(_) => list_of(DataType::Utf8),
            Values::Struct(values) => DataType::Struct(
                values.iter().map(|(name, value)| Field::new(*name, value.data_type(), true)).collect(),
            ),
            Values::Structs(names, _) => list_of(DataType::Struct(texts(names))),
            Values::Pictures => list_of(image_type()),
            Values::Video => DataType::Struct(video_fields()),
            Values::ChoiceOrder => list_of(DataType::Int64),
            Values::Boxes => boxes_type(),
            Values::Packed => list_of(DataType::Struct(packed_fields())),
        }
    }

    fn array(&self, conversations: &[Conversation], pictures: &mut Pictures) -> Result<ArrayRef> {
        match self {
            Values::One(value) => Ok(value.array(conversations)),
            Values::Texts(values) => {
                let values: Vec<Vec<Cow<str>>> = conversations.iter().map(values).collect();
                let lengths = values.iter().map(Vec::len).collect();
                list(lengths, Arc::new(values.iter().flatten().map(Some).collect::<StringArray>()), None)
            }
            Values::Struct(values) => {
                let DataType::Struct(fields) = self.data_type() else { unreachable!("it is a struct above") };
                let columns = values.iter().map(|(_, value)| value.array(conversations)).collect();
                Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
            }
            Values::Structs(names, values) => {
                let values: Vec<Vec<Vec<Cow<str>>>> = conversations.iter().map(values).collect();
                let column = |place: usize| -> ArrayRef {
                    Arc::new(values.iter().flatten().map(|texts| Some(&texts[place])).collect::<StringArray>())
                };
                let columns = (0..names.len()).map(column).collect();
                let structs = StructArray::try_new(texts(names), columns, None)?;
                list(values.iter().map(Vec::len).collect(), Arc::new(structs), None)
            }
            Values::Pictures => {
                let lengths = conversations.iter().map(|own| own.images.len()).collect();
                list(lengths, pictures_of(conversations, pictures)?, None)
            }
            Values::Video => videos_of(conversations),
            Values::ChoiceOrder => {
                let orders = conversations.iter().flat_map(|own| &own.choice_order);
                let orders = orders.map(|&place| i64::from(place)).collect::<Int64Array>();
                let mut has_order = NullBufferBuilder::new(conversations.len());
                for own in conversations {
                    has_order.append(!own.choice_order.is_empty());
                }
                let lengths = conversations.iter().map(|own| own.choice_order.len()).collect();
                list(lengths, Arc::new(orders), has_order.finish())
            }
            Values::Boxes => boxes_of(conversations),
            Values::Packed => {
                let lengths = conversations.iter().map(|own| own.packed.len()).collect();
                let is_packed = conversations.iter().map(|own| !own.packed.is_empty()).collect();
                list(lengths, packed_of(conversations)?, Some(is_packed))
            }
        }
    }
}

fn texts(names: &[&str]) -> Fields {
    names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect()
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn list(lengths: Vec<usize>, values: ArrayRef, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, nulls)?))
}

fn video_fields() -> Fields {
    let seconds = |name: &str| Field::new(name, DataType::Float64, true);
    Fields::from(vec![Field::new("path", DataType::Utf8, true), seconds("start"), seconds("end")])
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn packed_fields() -> Fields {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Fields::from(vec![
        text("id"),
        text("template"),
        text("answer_shape"),
        text("source_file"),
        Field::new("source_row", DataType::Int64, true),
        Field::new("choice_order", list_of(DataType::Int64), true),
        Field::new("right_choice", DataType::Int64, true),
    ])
}

fn box_fields() -> Fields {
    let own = |name: &str, of: DataType| Field::new(name, of, true);
    Fields::from(vec![
        own("text", DataType::Utf8),
        own("numbers", list_of(DataType::Float64)),
        own("convention", DataType::Utf8),
        own("width", DataType::Float64),
        own("height", DataType::Float64),
    ])
}

fn boxes_type() -> DataType {
    list_of(DataType::Struct(box_fields()))
}

/// Returns the column of boxes.
fn boxes_of(conversations: &[Conversation]) -> Result<ArrayRef> {
    let mut has_any = NullBufferBuilder::new(conversations.len());
    for own in conversations {
        has_any.append(!own.boxes.is_empty());
    }
    let all: Vec<&NativeBox> = conversations.iter().flat_map(|own| &own.boxes).collect();
    let numbers: Float64Array = all.iter().flat_map(|own| own.numbers).map(Some).collect();
    let size = |of: fn(&NativeBox) -> Option<f64>| all.iter().map(|own| of(own)).collect::<Float64Array>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|own| &own.text))),
        list(vec![4; all.len()], Arc::new(numbers), None)?,
        Arc::new(StringArray::from_iter_values(all.iter().map(|own| &own.convention))),
        Arc::new(size(|own| own.width)),
        Arc::new(size(|own| own.height)),
    ];
    let lengths = conversations.iter().map(|own| own.boxes.len()).collect();
    list(lengths, Arc::new(StructArray::try_new(box_fields(), columns, None)?), has_any.finish())
}

/// Returns the Arrow schema of columns. Its metadata contains the features for `datasets`.
fn schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(|(name, values)| Field::new(*name, values.data_type(), true)).collect();
    Arc::new(with_hugging_face_features(Schema::new(fields)))
}

/// Returns the columns of some conversations.
fn record_batch(
    columns: &[Column],
    schema: &SchemaRef,
    conversations: &[Conversation],
    pictures: &mut Pictures,
) -> Result<RecordBatch> {
    let arrays = columns.iter().map(|(_, values)| values.array(conversations, pictures)).collect::<Result<_>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
}

fn videos_of(conversations: &[Conversation]) -> Result<ArrayRef> {
    let videos = || conversations.iter().map(|own| own.video.as_ref());
    let paths: StringArray = videos().map(|video| video.map(|video| &video.path)).collect();
    let starts: Float64Array = videos().map(|video| video.and_then(|video| video.start)).collect();
    let ends: Float64Array = videos().map(|video| video.and_then(|video| video.end)).collect();
    let mut is_there = NullBufferBuilder::new(conversations.len());
    for video in videos() {
        is_there.append(video.is_some());
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(starts), Arc::new(ends)];
    Ok(Arc::new(StructArray::try_new(video_fields(), columns, is_there.finish())?))
}

/// Returns the column of records that are packed into conversations.
fn packed_of(conversations: &[Conversation]) -> Result<ArrayRef> {
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
        Arc::new(Int64Array::from_iter_values(all.iter().map(|own| signed(own.source_row)))),
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(orders)),
        Arc::new(all.iter().map(|own| own.right_choice.map(i64::from)).collect::<Int64Array>()),
    ];
    Ok(Arc::new(StructArray::try_new(packed_fields(), columns, None)?))
}

/// Returns the column of images of all conversations.
///
/// # Errors
/// The errors of `pictures`, and if all images together exceed 2 GiB.
fn pictures_of(conversations: &[Conversation], pictures: &mut Pictures) -> Result<ArrayRef> {
    let (mut bytes, mut paths) = (BinaryBuilder::new(), StringBuilder::new());
    let mut is_there = NullBufferBuilder::new(conversations.len());
    let mut total = 0_u64;
    for image in conversations.iter().flat_map(|conversation| &conversation.images) {
        let content = pictures(&image.path)?;
        total += content.as_ref().map_or(0, |content| content.len() as u64);
        if total > i32::MAX as u64 {
            return Err(Error::BatchTooLarge { bytes: total });
        }
        is_there.append(content.is_some());
        paths.append_option(content.is_some().then_some(&image.path));
        bytes.append_option(content);
    }
    let DataType::Struct(fields) = image_type() else { unreachable!("an image is a struct of bytes and path") };
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes.finish()), Arc::new(paths.finish())];
    Ok(Arc::new(StructArray::try_new(fields, columns, is_there.finish())?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::export::Format;
    use crate::export::tests::{conversation, written};

    /// Returns the rows of conversations. Only one of their images exists.
    pub(in super::super) fn rows(columns: &[Column], conversations: &[Conversation]) -> RecordBatch {
        let picture = &mut |path: &str| Ok((path == "train/a.jpg").then(|| vec![1, 2]));
        record_batch(columns, &schema(columns), conversations, picture).unwrap()
    }

    #[test]
    fn formats_that_leave_out_conversations_have_no_file_without_rows() {
        for name in ["cauldron", "verl"] {
            let has_file = |conversations: &[Conversation]| {
                let folder = written(Format::named(name).unwrap(), conversations);
                folder.path().join("set.parquet").is_file()
            };
            assert!(!has_file(&[]) && has_file(&[conversation("vqa/a", &["What?", "this"])]), "{name}");
        }
    }

    #[test]
    fn no_conversations_are_no_rows() {
        let columns: &[Column] = &[ID, IMAGE_PATHS, ("images", Values::Pictures), ("video", Values::Video)];
        assert_eq!(rows(columns, &[]).num_rows(), 0);
    }
}
