//! Tests of known pitfalls in native files of datasets that are not in the paper.

use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use super::tests::{build_all, fixtures, shipped};
use super::traps::{bytes, fault, read, text};
use super::*;
use crate::record::Record;
use crate::records::Records;

fn questions(records: &[Record]) -> Vec<Value> {
    records.iter().map(|own| serde_json::to_value(&own.slots["question"]).unwrap()).collect()
}

#[test]
fn tables_with_tabs_under_the_name_of_commas_keep_quotation_marks_and_commas() {
    let header = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n";
    let row = "tumblr_a\twhat does \"no, thanks\" stand for ?\ta \"no\"\t0\tFRAMEQA1\t1\tx .\n";
    let file = format!("{header}{row}");
    let files: [(&str, &[u8]); 1] = [("dataset/Test_frameqa_question.csv", file.as_bytes())];
    let (found, _) = read("tgif_qa_frame", "Test", &files).unwrap();
    assert_eq!(questions(&found), [json!("what does \"no, thanks\" stand for?")]);
    assert_eq!(text(&found[0], AnswerShape::Phrase), "a \"no\"");
}

#[test]
fn json_lines_under_the_name_of_a_document_are_the_same_records_as_a_list() {
    let rows = [
        json!({"question_id": 1, "image": "a.jpg", "text": "Is there a cup?", "label": "yes"}),
        json!({"question_id": 2, "image": "a.jpg", "text": "Is there a dog?", "label": "no"}),
    ];
    let (lines, list) = (format!("{}\n{}\n", rows[0], rows[1]), bytes(&json!(rows)));
    let of = |file: &[u8]| read("pope", "random", &[("coco_pope_random.json", file)]).unwrap().0;
    assert_eq!(of(lines.as_bytes()), of(&list));
    assert_eq!(of(&list)[1].answers.truth, Some(false));
}

#[test]
fn keys_of_documents_are_ids_whatever_the_order() {
    let file = br#"{"12": {"filename": "b.jpg", "caption": "A", "negative_caption": "B"}, "3": {"filename": "a.jpg", "caption": "C", "negative_caption": "D"}}"#;
    let (found, _) = read("sugarcrepe", "swap_obj", &[("swap_obj.json", file.as_slice())]).unwrap();
    let ids: Vec<&str> = found.iter().map(|own| own.id.as_str()).collect();
    let expected = ["12/0", "12/1", "3/0", "3/1"].map(|id| format!("sugarcrepe/swap_obj/{id}"));
    assert_eq!(ids, expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((found[1].answers.truth, found[3].media.images[0].as_str()), (Some(false), "val2017/a.jpg"));
}

#[test]
fn gzip_of_lines_is_read_under_the_name_that_the_authors_give_it() {
    let plain = fs::read(fixtures().join("guesswhat/guesswhat.valid.jsonl")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let packed = packed.finish().unwrap();
    let of = |name: &str, file: &[u8]| {
        let (mut records, counts) = read("guesswhat", "valid", &[(name, file)]).unwrap();
        for own in &mut records {
            own.source_file.clear();
        }
        (records, counts.kept)
    };
    assert_eq!(of("guesswhat.valid.jsonl.gz", &packed), of("guesswhat.valid.jsonl", &plain));
}

#[test]
fn the_names_of_refcoco_lead_to_the_pictures_of_coco() {
    let task = shipped().get("refcoco").unwrap();
    let (conversations, _) = build_all(task, &fixtures().join("refcoco"), "val", PromptMode::All, 7);
    let pickled = fs::read(fixtures().join("refcoco/refcoco/refs(unc).p")).unwrap();
    let native = b"COCO_train2014_000000000009_11.jpg";
    assert!(pickled.windows(native.len()).any(|part| part == native), "the name ends with the number of the object");
    assert_eq!(conversations[0].images[0].path, "train2014/COCO_train2014_000000000009.jpg");
}

#[test]
fn boxes_over_the_edge_are_cut_and_those_beyond_it_are_counted() {
    let regions = bytes(&json!([{"id": 1, "regions": [
        {"region_id": 1, "image_id": 1, "phrase": "sky", "x": -5, "y": 0, "width": 900, "height": 300},
        {"region_id": 2, "image_id": 1, "phrase": "gone", "x": 900, "y": 0, "width": 5, "height": 5},
        {"region_id": 3, "image_id": 1, "phrase": "flat", "x": 9, "y": 0, "width": 5, "height": 0}]}]));
    let images = bytes(&json!([{"image_id": 1, "url": "https://x/VG_100K_2/1.jpg", "width": 800, "height": 600}]));
    let files: [(&str, &[u8]); 2] = [("region_descriptions.json", &regions), ("image_data.json", &images)];
    let (found, counts) = read("vg_region_grounding", "all", &files).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Boxes), "[0.000, 0.000, 1.000, 0.500]");
    assert_eq!((found.len(), counts.dropped["error:boxes"]), (1, 2));
    assert_eq!(counts.left_out["outside_image:box"], 1);
    assert_eq!(json!(found[0].boxes[0].numbers), json!([-5.0, 0.0, 900.0, 300.0]), "nothing of the numbers is lost");
}

#[test]
fn python_lists_hold_a_label_more_in_test_files() {
    let train = b"['1', 'what a lovely day', 0]\n[\"2\", \"it 's fine\", 1]\n".as_slice();
    let (found, _) = read("mm_sarcasm", "train", &[("text/train.txt", train)]).unwrap();
    let test = b"['1', 'what a lovely day', 1, 0]\n[\"2\", \"it 's fine\", 0, 1]\n".as_slice();
    let (other, _) = read("mm_sarcasm", "test2", &[("text/test2.txt", test)]).unwrap();
    let labels = |own: &[Record]| own.iter().map(|own| own.answers.truth).collect::<Vec<_>>();
    assert_eq!((labels(&found), labels(&other)), (vec![Some(false), Some(true)], vec![Some(false), Some(true)]));
}

#[test]
fn lists_in_texts_and_keys_with_blanks_are_options() {
    let folder = fixtures().join("mmmu");
    let mut records = Records::start(shipped().get("mmmu").unwrap(), &folder, "validation").unwrap();
    let first = records.next().unwrap().unwrap().answers.options.unwrap();
    assert_eq!((first.texts, first.right), (vec!["Ann".into(), "Ben".into(), "It's unknown".into()], 1));
    let egoschema = fixtures().join("egoschema");
    let mut records = Records::start(shipped().get("egoschema").unwrap(), &egoschema, "subset").unwrap();
    let first = records.next().unwrap().unwrap().answers.options.unwrap();
    assert_eq!((first.texts[2].as_str(), first.right), ("to repair a lamp", 2));
}

#[test]
fn labels_of_charts_in_brackets_lose_the_brackets_alone() {
    let row = |label: &str| json!({"imgname": "1.png", "query": "Which?", "label": label});
    let labels = ["[4, 9]", "0.57", "44538", "a [b] c"];
    let rows = bytes(&json!(labels.map(row)));
    let (found, _) = read("chartqa", "val", &[("val/val_human.json", &rows)]).unwrap();
    let phrases: Vec<&str> = found.iter().map(|own| text(own, AnswerShape::Phrase)).collect();
    assert_eq!(phrases, ["4, 9", "0.57", "44538", "a [b] c"]);
}

#[test]
fn turns_that_do_not_take_turns_are_paired_with_nothing() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let dialogs = bytes(&json!([
        {"id": "1", "conversations": [said("human", "a"), said("human", "b"), said("gpt", "c"), said("gpt", "d")]},
        {"id": "2", "conversations": [said("human", "<image>\na"), said("gpt", "b")], "image": "x.jpg"},
        {"id": "3", "conversations": []},
        {"id": "4", "conversations": [said("human", "a\n<image>"), said("gpt", "b")], "image": "x.jpg"}]));
    let (found, counts) = read("llava_json", "own", &[("own.json", &dialogs)]).unwrap();
    let turns: Vec<_> = found.iter().map(|own| own.answers.turns.clone()).collect();
    assert_eq!(turns, vec![vec![("a".to_owned(), "b".to_owned())]; 2], "a marker of an image is no text");
    assert_eq!((counts.dropped["must:takes_turns"], counts.dropped["field:turns"]), (1, 1));
}

#[test]
fn files_of_kindred_datasets_are_not_taken_for_each_other() {
    let snli_ve = json!({"Flickr30K_ID": "9", "pairID": "9.jpg#0r1e", "gold_label": "neutral", "sentence2": "A"});
    let found = fault("xvnli", "train_20", &[("train_20.jsonl", &bytes(&snli_ve))]);
    assert!(found.contains("none of 1 records") && found.contains("did you mean `Flickr30K_ID`?"), "{found}");
    let native = json!([{"ref_id": 0, "ann_id": 11, "image_id": 9, "sentences": [{"sent": "cup"}]}]);
    let found = fault("refcoco_flat", "refcoco_testA", &[("refcoco_testA.json", &bytes(&native))]);
    assert!(found.contains("`r` has no `img_id`"), "{found}");
}

#[test]
fn parts_of_videos_that_end_before_they_begin_are_no_records() {
    let rows =
        bytes(&json!({"v_a": {"duration": 9, "timestamps": [[5, 5], [6, 2], [0, 3]], "sentences": ["a", "b", "c"]}}));
    let (found, counts) = read("activitynet_captions", "val_1", &[("val_1.json", &rows)]).unwrap();
    assert_eq!((found.len(), counts.dropped["field:video"]), (1, 2));
    assert_eq!(found[0].media.video.as_ref().unwrap().end, Some(3.0));
}

#[test]
fn a_spread_answer_is_looked_for_from_its_first_part_to_its_last() {
    let folder = fixtures().join("nextgqa");
    let records = Records::start(shipped().get("nextgqa").unwrap(), &folder, "val").unwrap();
    let second = records.map(Result::unwrap).nth(1).unwrap();
    let video = second.media.video.unwrap();
    assert_eq!((video.start, video.end), (Some(12.1), Some(23.5)), "the parts are not in order");
}

#[test]
fn copies_with_semicolons_stop_a_task_with_the_columns_that_they_have() {
    let copy = b"key;vid_key;video_id;sentence\nret0;msr9770;video9770;a person is here, again\n".as_slice();
    let found = fault("msrvtt_1ka", "JSFUSION_test", &[("MSRVTT_JSFUSION_test.csv", copy)]);
    assert!(found.contains("none of 1 records") && found.contains("has 2 columns, not 1"), "{found}");
}

#[test]
fn a_mark_of_byte_order_and_quotation_marks_do_not_touch_the_words_of_icdar() {
    let list = "\u{feff}word_1.png, \"PROPER\"\r\nword_2.png, \"5\\\" pipe, new\"\r\n";
    let (found, _) = read("icdar_words", "train", &[("train/gt.txt", list.as_bytes())]).unwrap();
    let words: Vec<&str> = found.iter().map(|own| text(own, AnswerShape::Phrase)).collect();
    assert_eq!((words, found[0].media.images[0].as_str()), (vec!["PROPER", "5\" pipe, new"], "train/word_1.png"));
}

#[test]
fn questions_that_lack_their_mark_get_it_and_are_joined_to_their_answers() {
    let asked = |id: &str, question: &str| json!({"video_name": "a", "question": question, "question_id": id});
    let native = bytes(&json!([asked("v_a_1", "is it indoor"), asked("v_a_2", "who runs")]));
    let answers = bytes(&json!([{"question_id": "v_a_1", "answer": "yes", "type": 3}]));
    let (found, counts) = read("activitynet_qa", "val", &[("val_q.json", &native), ("val_a.json", &answers)]).unwrap();
    assert_eq!((questions(&found), counts.dropped["unmatched:a"]), (vec![json!("is it indoor?")], 1));
}

#[test]
fn moments_are_those_of_most_people_and_begin_no_earlier_than_their_video() {
    let row = json!({"annotation_id": 1, "description": "a man waves", "video": "a.avi", "times": [[5, 5], [0, 1], [0, 1], [2, 2]]});
    let (found, _) = read("didemo", "val", &[("val_data.json", &bytes(&json!([row])))]).unwrap();
    let video = found[0].media.video.as_ref().unwrap();
    assert_eq!((video.start, video.end), (Some(0.0), Some(10.0)), "the last place belongs to its moment");
    let questions = b"video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n\
        7,9,1,1,why runs he,play,3,CW,eat,play,sit,cry,nap\n"
        .as_slice();
    let parts = bytes(&json!({"7": {"duration": 9, "location": {"3": [[-0.1, 4.5]]}}}));
    let (found, _) = read("nextgqa", "val", &[("val.csv", questions), ("gsub_val.json", &parts)]).unwrap();
    let video = found[0].media.video.as_ref().unwrap();
    assert_eq!((video.start, video.end), (Some(0.0), Some(4.5)));
}

#[test]
fn options_within_a_question_are_found_in_both_layouts_of_mathverse() {
    let row = |question: &str, answer: &str| {
        json!({"sample_index": answer, "question_type": "multi-choice", "image": "a.png",
        "question": question, "answer": answer})
    };
    let rows = bytes(&json!([
        row("How far?\nChoices:\nA:3 m\nB:4 m", "B"),
        row("f is odd.\nChoice:\nA. True\nB. False", "False")
    ]));
    let (found, _) = read("mathverse", "testmini", &[("testmini.json", &rows)]).unwrap();
    let options: Vec<_> = found.iter().map(|own| own.answers.options.as_ref().unwrap()).collect();
    assert_eq!((options[0].texts.join("|"), options[0].right), ("3 m|4 m".to_owned(), 1));
    assert_eq!((options[1].texts.join("|"), options[1].right), ("True|False".to_owned(), 1));
    assert_eq!(questions(&found), [json!("How far?"), json!("f is odd.")]);
}

#[test]
fn one_box_is_the_same_in_the_convention_of_every_dataset() {
    // A box from (160, 120) to (480, 360) of an image of 640 x 480.
    let native = |own: &Record| own.boxes.iter().map(|own| json!(own)).collect::<Vec<_>>();
    let expected = "[0.250, 0.250, 0.750, 0.750]";
    let pair = json!({"url": "https://x/VG_100K/1.jpg", "image_id": 1, "width": 640, "height": 480});
    let region =
        json!({"region_id": 1, "image_id": 1, "phrase": "sky", "x": 160, "y": 120, "width": 320, "height": 240});
    let (regions, images) = (bytes(&json!([{"id": 1, "regions": [region]}])), bytes(&json!([pair])));
    let files: [(&str, &[u8]); 2] = [("region_descriptions.json", &regions), ("image_data.json", &images)];
    let (found, _) = read("vg_region_grounding", "all", &files).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Boxes), expected, "names and sizes in pixels");
    let in_pixels = json!({"text": expected, "numbers": [160.0, 120.0, 320.0, 240.0], "convention": "xywh",
        "width": 640.0, "height": 480.0});
    assert_eq!(native(&found[0]), std::slice::from_ref(&in_pixels));
    let coco = bytes(&json!({"images": [{"id": 9, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [160.0, 120.0, 320.0, 240.0], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "sky"}]}));
    let (found, _) = read("coco_detection", "val2017", &[("annotations/instances_val2017.json", &coco)]).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Boxes), expected, "x, y, width, height in pixels");
    assert_eq!(native(&found[0]), [in_pixels]);
    let images = b"ImageID,Subset\na,validation\n".as_slice();
    let boxes = b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\na,xclick,/m/0,1,0.25,0.75,0.25,0.75,0,0,0,0,0\n".as_slice();
    let files = [
        ("validation-images-with-rotation.csv", images),
        ("validation-annotations-bbox.csv", boxes),
        ("class-descriptions-boxable.csv", b"/m/0,Sky\n".as_slice()),
    ];
    let (found, _) = read("open_images", "validation", &files).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Boxes), expected, "shares, both x before both y");
    let in_shares = json!({"text": expected, "numbers": [0.25, 0.25, 0.75, 0.75], "convention": "xyxy"});
    assert_eq!(native(&found[0]), [in_shares]);
}
