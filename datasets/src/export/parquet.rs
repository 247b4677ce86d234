//! Parquet for Hugging Face `datasets`, with a list of images and a list of messages.

use std::borrow::Cow;

use super::Format;
use super::columns::{BOXES, Column, ID, IMAGE_PATHS, LICENCE, SOURCE_FILE, SOURCE_ROW, TASK, Value, Values, begin};

pub(super) const FORMAT: Format = Format {
    name: "parquet",
    description: "Parquet with `images`, `messages` and provenance that Hugging Face `datasets` and TRL read.",
    names_pictures: false,
    is_default: true,
    leaves_out: |_| None,
    features: |_| Ok(Vec::new()),
    begin: |files| begin(files, COLUMNS),
    describe: None,
};

/// The columns: the fields of [`Conversation`](crate::Conversation) and, in addition, the paths of
/// images.
const COLUMNS: &[Column] = &[
    ID,
    TASK,
    ("group", Values::One(Value::Text(|own| Cow::from(&own.group)))),
    ("answer_shape", Values::One(Value::Text(|own| Cow::from(own.answer_shape.name())))),
    LICENCE,
    ("images", Values::Pictures),
    IMAGE_PATHS,
    ("video", Values::Video),
    (
        "messages",
        Values::Structs(&["role", "content"], |own| {
            own.messages.iter().map(|own| vec![Cow::from(own.role.name()), Cow::from(&own.content)]).collect()
        }),
    ),
    ("template", Values::One(Value::Text(|own| Cow::from(&own.template)))),
    SOURCE_FILE,
    SOURCE_ROW,
    ("choice_order", Values::ChoiceOrder),
    ("right_choice", Values::One(Value::MaybeNumber(|own| own.right_choice.map(u64::from)))),
    BOXES,
    ("packed", Values::Packed),
];

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float64Type;
    use serde_json::json;

    use super::*;
    use crate::boxes::NativeBox;
    use crate::build::ImageReference;
    use crate::export::columns::tests::rows;
    use crate::export::tests::conversation;
    use crate::record::VideoReference;

    #[test]
    fn pictures_and_messages_are_lists_of_structs() {
        let mut first = conversation("vqa/a", &["What?", "this"]);
        first.images.push(ImageReference { path: "train/b.jpg".to_owned() });
        let mut second = conversation("vqa/b", &["Which?", "B", "Sure?", "yes"]);
        second.video = Some(VideoReference { path: "v.mp4".to_owned(), start: Some(1.5), end: None });
        second.choice_order = vec![1, 0];
        second.boxes = vec![NativeBox::of([1.5, 2.0, 3.0, 4.0], "xywh", Some((10.0, 20.0))).unwrap()];
        let batch = rows(COLUMNS, &[first, second]);
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
        let start = video.column(1).as_primitive::<Float64Type>();
        assert_eq!((video.is_null(0), start.iter().collect::<Vec<_>>()), (true, vec![None, Some(1.5)]));
        assert!(video.column(2).is_null(1));
        let messages = batch.column_by_name("messages").unwrap().as_list::<i32>();
        let turns = messages.value(1);
        let turns = turns.as_struct();
        assert_eq!(turns.column_by_name("role").unwrap().as_string::<i32>().value(3), "assistant");
        assert_eq!(turns.column_by_name("content").unwrap().as_string::<i32>().value(2), "Sure?");
        let orders = batch.column_by_name("choice_order").unwrap().as_list::<i32>();
        assert!(orders.is_null(0) && orders.value_length(1) == 2);
        let boxes = batch.column_by_name("boxes").unwrap().as_list::<i32>();
        assert!(boxes.is_null(0) && boxes.value_length(1) == 1);
        let own = boxes.values().as_struct();
        let numbers = own.column_by_name("numbers").unwrap().as_list::<i32>().value(0);
        let numbers: Vec<f64> = numbers.as_primitive::<Float64Type>().iter().flatten().collect();
        assert_eq!(json!(numbers), json!([1.5, 2.0, 3.0, 4.0]));
        assert_eq!(own.column_by_name("text").unwrap().as_string::<i32>().value(0), "[0.150, 0.100, 0.450, 0.300]");
    }

    #[test]
    fn the_schema_tells_hugging_face_what_it_holds() {
        let schema = rows(COLUMNS, &[]).schema();
        let features: serde_json::Value = serde_json::from_str(&schema.metadata()["huggingface"]).unwrap();
        let features = &features["info"]["features"];
        assert_eq!(features["images"], json!({"feature": {"_type": "Image"}, "_type": "List"}));
        assert_eq!(features.as_object().unwrap().len(), 1, "the others are told by their types");
    }
}
