//! Parquet for reinforcement learning as verl reads it (its `RLHFDataset` and its page "Prepare
//! data for post-training"): `prompt`, `images`, and the right answer in `reward_model`.
//!
//! `extra_info.checker` names the rule by which a reply is compared with the right answer.

use std::borrow::Cow;

use lynxdata_prompts::{AnswerShape, keyed_hash};
use serde_json::json;

use super::Format;
use super::columns::{
    BOXES, Column, ID, IMAGE_PATHS, LICENCE, SOURCE_FILE, SOURCE_ROW, TASK, Value, Values, begin_with_first_row,
};
use super::json::{media_tokens, with_tokens};
use crate::build::{Conversation, Role};

pub(super) const FORMAT: Format = Format {
    name: "verl",
    description: "Parquet for reinforcement learning with verl and TRL: `prompt`, `images`, the right answer and how to check it.",
    names_pictures: false,
    is_default: false,
    leaves_out: |own| checker(own).err().or_else(|| part_of_video(own)),
    features: |_| Ok(Vec::new()),
    begin: |_| Ok(begin_with_first_row(COLUMNS)),
    describe: None,
};

const COLUMNS: &[Column] = &[
    ("data_source", Values::One(Value::Text(|own| Cow::from(&own.task)))),
    ("prompt", Values::Structs(&["role", "content"], prompt)),
    ("images", Values::Pictures),
    ("videos", Values::Structs(&["video"], |own| own.video.iter().map(|video| vec![Cow::from(&video.path)]).collect())),
    ("ability", Values::One(Value::Text(|own| Cow::from(&own.group)))),
    (
        "reward_model",
        Values::Struct(&[("style", Value::Text(|_| Cow::from("rule"))), ("ground_truth", Value::Text(ground_truth))]),
    ),
    (
        "extra_info",
        Values::Struct(&[
            ("index", Value::Number(index)),
            ("checker", Value::Text(|own| Cow::from(checker(own).unwrap_or_default()))),
            ("answer", Value::Text(|own| Cow::from(answer(own)))),
        ]),
    ),
    ID,
    TASK,
    LICENCE,
    SOURCE_FILE,
    SOURCE_ROW,
    IMAGE_PATHS,
    BOXES,
];

/// Returns the name of the rule that compares a reply with the right answer, or why there is none:
///
/// * `exact_match`: compares the text;
/// * `vqa_accuracy`: counts the annotators who gave the reply; the ground truth lists their answers
///   as JSON;
/// * `option_accuracy`: compares the letter of the right option;
/// * `iou`: compares the box, `[left, top, right, bottom]` in fractions of the image size;
/// * `number`: compares the number in any notation.
///
/// All but the last are metrics of `lynxdata eval`.
fn checker(conversation: &Conversation) -> std::result::Result<&'static str, &'static str> {
    // The prompt would end with the last question, while the shape and the votes are those of the
    // first one.
    if conversation.messages.iter().filter(|message| message.role == Role::Assistant).count() > 1 {
        return Err("no rule checks a dialog");
    }
    match conversation.answer_shape {
        AnswerShape::Word | AnswerShape::Phrase if !conversation.votes.is_empty() => Ok("vqa_accuracy"),
        AnswerShape::Word
        | AnswerShape::Phrase
        | AnswerShape::Class
        | AnswerShape::Option
        | AnswerShape::YesNo
        | AnswerShape::TrueFalse => Ok("exact_match"),
        AnswerShape::Letter => Ok("option_accuracy"),
        AnswerShape::Boxes if answer(conversation).contains(';') => Err("no rule checks several boxes"),
        AnswerShape::Boxes => Ok("iou"),
        AnswerShape::Number => Ok("number"),
        AnswerShape::Sentence => Err("no rule checks a sentence"),
        AnswerShape::Paragraph => Err("no rule checks a paragraph"),
        AnswerShape::Turns => Err("no rule checks a dialog"),
    }
}

/// Returns why a part of a video is left out: `videos` has only paths, so that the model would see
/// the whole video.
fn part_of_video(conversation: &Conversation) -> Option<&'static str> {
    let video = conversation.video.as_ref()?;
    (video.start.is_some() || video.end.is_some()).then_some("it has no place for a part of a video")
}

/// Returns the last turn.
fn answer(conversation: &Conversation) -> &str {
    conversation.messages.last().map_or("", |message| &message.content)
}

fn ground_truth(conversation: &Conversation) -> Cow<'_, str> {
    match checker(conversation) {
        Ok("vqa_accuracy") => {}
        // `lower_case` changes the answer, but the checker compares capital letters.
        Ok("option_accuracy") => return Cow::from(answer(conversation).to_uppercase()),
        _ => return Cow::from(answer(conversation)),
    }
    let votes = conversation.votes.iter();
    let votes: Vec<&str> = votes.flat_map(|(text, count)| std::iter::repeat_n(text.as_str(), *count)).collect();
    Cow::from(json!(votes).to_string())
}

/// Returns the turns before the answer, with the tokens for images and the video before the first
/// question.
fn prompt<'a>(conversation: &'a Conversation) -> Vec<Vec<Cow<'a, str>>> {
    let mut tokens = media_tokens(conversation);
    let before = conversation.messages.len().saturating_sub(1);
    let message = |message: &'a crate::build::Message| {
        let content = match message.role {
            Role::User => with_tokens(&std::mem::take(&mut tokens), &message.content),
            _ => Cow::from(message.content.as_str()),
        };
        vec![Cow::from(message.role.name()), content]
    };
    conversation.messages[..before].iter().map(message).collect()
}

/// Returns a number below 2^63 for the conversation that is the same in every set.
fn index(conversation: &Conversation) -> u64 {
    keyed_hash(0, &[&conversation.id]) >> 1
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;
    use crate::export::columns::tests::rows;
    use crate::export::tests::conversation;
    use crate::record::VideoReference;

    fn of_shape(shape: AnswerShape, answer: &str) -> Conversation {
        Conversation { answer_shape: shape, ..conversation("vqa/a", &["What?", answer]) }
    }

    #[test]
    fn every_shape_has_a_checker_or_a_reason() {
        let mut voted = of_shape(AnswerShape::Word, "net");
        voted.votes = vec![("net".to_owned(), 2), ("a \"net\"".to_owned(), 1)];
        let cases = [
            (voted, "vqa_accuracy", r#"["net","net","a \"net\""]"#),
            (of_shape(AnswerShape::Phrase, "a net"), "exact_match", "a net"),
            (of_shape(AnswerShape::YesNo, "Yes"), "exact_match", "Yes"),
            (of_shape(AnswerShape::Letter, "B"), "option_accuracy", "B"),
            (of_shape(AnswerShape::Letter, "b"), "option_accuracy", "B"),
            (of_shape(AnswerShape::Number, "1,200"), "number", "1,200"),
            (of_shape(AnswerShape::Boxes, "[0.100, 0.250, 0.500, 1.000]"), "iou", "[0.100, 0.250, 0.500, 1.000]"),
        ];
        let conversations: Vec<Conversation> = cases.iter().map(|(own, ..)| own.clone()).collect();
        let batch = rows(COLUMNS, &conversations);
        let of = |column: &str, field: &str| -> Vec<String> {
            let texts = batch.column_by_name(column).unwrap().as_struct().column_by_name(field).unwrap();
            texts.as_string::<i32>().iter().flatten().map(str::to_owned).collect()
        };
        assert_eq!(of("extra_info", "checker"), cases.each_ref().map(|(_, checker, _)| (*checker).to_owned()));
        assert_eq!(of("reward_model", "ground_truth"), cases.each_ref().map(|(.., truth)| (*truth).to_owned()));
        assert!(of("reward_model", "style").iter().all(|style| style == "rule"));
    }

    #[test]
    fn a_prompt_has_no_answer_and_a_token_a_picture() {
        let batch = rows(COLUMNS, &[conversation("vqa/a", &["What?", "this"])]);
        let prompt = batch.column_by_name("prompt").unwrap().as_list::<i32>().value(0);
        let content = prompt.as_struct().column_by_name("content").unwrap().clone();
        assert_eq!(content.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["<image>What?"]);
    }

    #[test]
    fn what_no_rule_checks_is_left_out() {
        let film = |start| {
            let video = Some(VideoReference { path: "v.mp4".to_owned(), start, end: None });
            Conversation { video, ..of_shape(AnswerShape::Word, "dog") }
        };
        let packed = Conversation { answer_shape: AnswerShape::Word, ..conversation("vqa/a", &["1?", "1", "2?", "2"]) };
        let cases = [
            (of_shape(AnswerShape::Sentence, "A dog."), Some("no rule checks a sentence")),
            (of_shape(AnswerShape::Word, "dog"), None),
            (of_shape(AnswerShape::Turns, "Yes."), Some("no rule checks a dialog")),
            (packed, Some("no rule checks a dialog")),
            (film(None), None),
            (film(Some(2.0)), Some("it has no place for a part of a video")),
            (
                of_shape(AnswerShape::Boxes, "[0.100, 0.250, 0.500, 1.000]; [0.000, 0.000, 0.500, 1.000]"),
                Some("no rule checks several boxes"),
            ),
        ];
        for (own, reason) in cases {
            assert_eq!(FORMAT.leaves_out(&own), reason, "{own:?}");
        }
    }
}
