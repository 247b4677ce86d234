//! Parquet in the layout of the Cauldron (`HuggingFaceM4/the_cauldron`) and FineVision: `images`,
//! and `texts` of `user`, `assistant` and `source`.

use std::borrow::Cow;

use super::Format;
use super::columns::{
    BOXES, Column, ID, IMAGE_PATHS, LICENCE, SOURCE_FILE, SOURCE_ROW, TASK, Values, begin_with_first_row,
};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "cauldron",
    description: "Parquet with `images` and `texts`, as the Cauldron and FineVision have them, for nanoVLM and others.",
    names_pictures: false,
    is_default: false,
    leaves_out: |own| own.video.as_ref().map(|_| "it has no place for a video"),
    features: |_| Ok(Vec::new()),
    begin: |_| Ok(begin_with_first_row(COLUMNS)),
    describe: None,
};

/// The two columns of the Cauldron, and the provenance.
const COLUMNS: &[Column] = &[
    ("images", Values::Pictures),
    ("texts", Values::Structs(&["user", "assistant", "source"], rounds)),
    ID,
    TASK,
    LICENCE,
    SOURCE_FILE,
    SOURCE_ROW,
    IMAGE_PATHS,
    BOXES,
    ("packed", Values::Packed),
];

/// Returns the rounds of question, answer and task. No token marks an image, because all images
/// belong before the first text. A system message is put in front of the first question, because
/// the layout has no field for it.
fn rounds(conversation: &Conversation) -> Vec<Vec<Cow<'_, str>>> {
    let mut rounds = Vec::new();
    let mut asked: Cow<str> = Cow::default();
    for message in &conversation.messages {
        match message.role {
            Role::System => asked = Cow::from(format!("{}\n\n", message.content)),
            Role::User if asked.is_empty() => asked = Cow::from(&message.content),
            Role::User => asked.to_mut().push_str(&message.content),
            Role::Assistant => rounds.push(vec![
                std::mem::take(&mut asked),
                Cow::from(&message.content),
                Cow::from(&conversation.task),
            ]),
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::build::Message;
    use crate::export::columns::tests::rows;
    use crate::export::tests::conversation;
    use crate::record::VideoReference;

    #[test]
    fn a_video_has_no_place() {
        let mut own = conversation("vqa/a", &["What?", "this"]);
        assert_eq!(FORMAT.leaves_out(&own), None);
        own.video = Some(VideoReference { path: "v.mp4".to_owned(), start: None, end: None });
        assert_eq!(FORMAT.leaves_out(&own), Some("it has no place for a video"));
    }

    #[test]
    fn a_round_is_a_question_with_its_answer() {
        let mut second = conversation("vqa/b", &["Which?", "B", "Sure?", "yes"]);
        second.messages.insert(0, Message { role: Role::System, content: "Be kind.".to_owned() });
        let batch = rows(COLUMNS, &[conversation("vqa/a", &["What?", "this"]), second]);
        let texts = batch.column_by_name("texts").unwrap().as_list::<i32>();
        assert_eq!((texts.value_length(0), texts.value_length(1)), (1, 2));
        let texts = texts.values().as_struct();
        let column = |name: &str| -> Vec<&str> {
            texts.column_by_name(name).unwrap().as_string::<i32>().iter().flatten().collect()
        };
        assert_eq!(column("user"), ["What?", "Be kind.\n\nWhich?", "Sure?"]);
        assert_eq!(column("assistant"), ["this", "B", "yes"]);
        assert_eq!(column("source"), ["own", "own", "own"]);
    }
}
