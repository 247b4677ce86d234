//! Tests of known pitfalls in native files of the datasets in the paper, and of files of other
//! datasets that a task must not accept.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::tests::{build_all, fixtures, shipped};
use super::*;
use crate::machine::shared;
use crate::record::Record;
use crate::records::Records;

/// Returns the records of a task over some files, and the counts of the rest.
pub(super) fn read(task: &str, split: &str, files: &[(&str, &[u8])]) -> Result<(Vec<Record>, TaskCounts)> {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let mut records = Records::start(shipped().get(task).unwrap(), folder.path(), split)?;
    let found = records.by_ref().collect::<Result<Vec<_>>>()?;
    assert!(records.counts().adds_up());
    Ok((found, records.counts().clone()))
}

pub(super) fn fault(task: &str, split: &str, files: &[(&str, &[u8])]) -> String {
    read(task, split, files).unwrap_err().to_string()
}

pub(super) fn bytes(rows: &Value) -> Vec<u8> {
    rows.to_string().into_bytes()
}

pub(super) fn text(record: &Record, shape: AnswerShape) -> &str {
    &record.answers.texts[&shape]
}

#[test]
fn options_that_differ_in_capital_letters_are_asked_about_only_where_they_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let row = |choices: Value| json!({"question": "Which greeting is right?", "choices": choices, "answer": 1, "hint": "", "split": "train"});
    let rows = json!({"1": row(json!(["Dear grandpa,", "Dear Grandpa,"])), "2": row(json!(["Hi", "Hello"]))});
    fs::write(folder.path().join("problems.json"), bytes(&rows)).unwrap();
    let banks = Banks::shipped().unwrap();
    let kept = |lower_case| {
        let settings = BuildSettings { lower_case, ..BuildSettings::default() };
        let task = shipped().get("scienceqa").unwrap();
        let mut build = Build::start(task, &banks, folder.path(), "train", &settings).unwrap();
        let found = build.by_ref().map(Result::unwrap).count();
        (found, build.counts().dropped.get("field:options").copied())
    };
    assert_eq!((kept(false), kept(true)), ((2, None), (1, Some(1))));
}

#[test]
fn lists_of_addresses_are_not_taken_for_each_other() {
    let caption_first = b"a dog runs .\thttp://example.org/1.jpg\na cat\thttp://example.org/2.jpg\n".as_slice();
    let address_first = b"http://example.org/1.jpg\ta dog runs .\n".as_slice();
    assert!(fault("cc12m", "cc12m", &[("cc12m.tsv", caption_first)]).contains("must:is_address 2"));
    assert!(fault("cc3m", "a", &[("a.tsv", address_first)]).contains("must:is_address 1"));
    assert_eq!(read("cc3m", "a", &[("a.tsv", caption_first)]).unwrap().0.len(), 2);
}

#[test]
fn a_header_before_a_list_moves_no_picture() {
    let list = "http://example.org/1.jpg\ta dog\nhttp://example.org/2.jpg\ta cat\n";
    let with_header = format!("url\tcaption\n{list}");
    let (plain, _) = read("cc12m", "cc12m", &[("cc12m.tsv", list.as_bytes())]).unwrap();
    assert_eq!(plain, read("cc12m", "cc12m", &[("cc12m.tsv", with_header.as_bytes())]).unwrap().0);
    assert_eq!(plain[1].media.images, ["00000/000000001.jpg"]);
}

#[test]
fn parallel_lists_of_other_lengths_pair_nothing_wrongly() {
    let sbu = bytes(&json!({"image_urls": ["u", "v"], "user_ids": ["1", "2"], "captions": ["a"]}));
    let fault = fault("sbu", "all", &[("sbu-captions-all.json", &sbu)]);
    assert!(fault.contains("captions"), "{fault}");
    let book = |answers: Value| json!({"imageURL": "http://x/1.gif", "questions": ["Who?", "What?"], "answers": answers, "split": 1});
    let books = bytes(&json!({"a": book(json!(["A"])), "b": book(json!(["A", "B"]))}));
    let (found, counts) = read("ocrvqa", "train", &[("dataset.json", &books)]).unwrap();
    assert_eq!((found.len(), counts.dropped["must:in_pairs"]), (2, 1));
    assert_eq!(found[0].media.images, ["images/b.gif"], "some covers are GIF");
}

#[test]
fn answers_of_vqa_are_not_taken_for_those_of_its_kin() {
    let questions = bytes(&json!({"questions": [{"question_id": 1, "image_id": 2, "question": "What?"}]}));
    let ten: Vec<Value> =
        (1..=10).map(|id| json!({"answer": "net", "answer_confidence": "yes", "answer_id": id})).collect();
    let answers = bytes(&json!({"annotations": [{"question_id": 1, "image_id": 2, "answers": ten}]}));
    let files: [(&str, &[u8]); 2] =
        [("OpenEnded_mscoco_val2014_questions.json", &questions), ("mscoco_val2014_annotations.json", &answers)];
    let found = fault("okvqa", "val", &files);
    assert!(found.contains("none of 1 records"), "OK-VQA has `raw_answer`: {found}");
    let names = ["Questions/OpenEnded_mscoco_val2014_questions.json", "Annotations/mscoco_val2014_annotations.json"];
    let found = fault("tdiuc", "val", &[(names[0], &questions), (names[1], &answers)]);
    assert!(found.contains("where:one_answer 1"), "TDIUC has one answer: {found}");
}

#[test]
fn the_open_ended_next_qa_is_not_taken_for_the_choice() {
    let open =
        b"video,frame_count,width,height,question,answer,qid,type,additional_ref_answer\n1,2,3,4,why,to rest,5,CW,\n";
    let files: [(&str, &[u8]); 2] = [("val.csv", open), ("map_vid_vidorID.json", b"{\"1\": \"2/1\"}")];
    assert!(fault("nextqa", "val", &files).contains("none of 1 records"));
}

#[test]
fn conversations_that_do_not_go_by_turns_are_refused() {
    let named = |first: &str, second: &str| {
        let turns = json!([{"from": first, "value": "What?\n<image>"}, {"from": second, "value": "A cup."}]);
        bytes(&json!([{"id": "1", "image": "1.jpg", "conversations": turns}]))
    };
    for (task, split) in [
        ("llava_dialog", "conversation_58k"),
        ("llava_instruction", "llava_instruct_150k"),
        ("llava_detail", "detail_23k"),
        ("llava_reasoning", "complex_reasoning_77k"),
    ] {
        let file = format!("{split}.json");
        assert!(fault(task, split, &[(&file, &named("gpt", "human"))]).contains(":by_turns 1"), "{task}");
        assert!(fault(task, split, &[(&file, &named("user", "assistant"))]).contains(":by_turns 1"), "{task}");
        assert_eq!(read(task, split, &[(&file, &named("human", "gpt"))]).unwrap().0.len(), 1, "{task}");
    }
}

#[test]
fn long_answers_never_go_with_wordings_for_short_ones() {
    let banks = Banks::shipped().unwrap();
    for task in shipped().tasks() {
        let short = [AnswerShape::Word, AnswerShape::Phrase, AnswerShape::Class, AnswerShape::Sentence];
        let shapes = task.answer_shapes();
        if !shapes.contains(&AnswerShape::Paragraph) || short.iter().any(|shape| shapes.contains(shape)) {
            continue;
        }
        for wording in task.wordings(&banks, None).unwrap() {
            let promise = ["short", "brief", "few words", "one sentence", "in a word"];
            let text = wording.template.text.to_lowercase();
            assert!(
                !wording.template.answer.contains(&AnswerShape::Paragraph)
                    || !promise.iter().any(|promise| text.contains(promise)),
                "{}: {text}",
                task.name
            );
        }
    }
}

#[test]
fn wordings_name_the_media_that_a_task_has() {
    let banks = Banks::shipped().unwrap();
    let pictures = ["image", "picture", "photo"];
    for task in shipped().tasks() {
        for modality in task.modalities() {
            let foreign: &[&str] = match modality {
                lynxdata_prompts::Media::None => &["image", "picture", "photo", "video", "clip"],
                lynxdata_prompts::Media::Video => &pictures[..1],
                _ => &["video"],
            };
            for wording in task.wordings(&banks, None).unwrap() {
                if !wording.template.media.contains(modality) {
                    continue;
                }
                let text = wording.template.text.to_lowercase();
                assert!(!foreign.iter().any(|word| text.contains(word)), "{}: {text}", task.name);
            }
        }
    }
}

#[test]
fn encodings_escapes_and_marks_of_byte_order_are_undone() {
    let style = "\u{feff}Cubism/josé_still-life-1913.jpg,7\n".as_bytes();
    let files: [(&str, &[u8]); 2] = [("Style/style_val.csv", style), ("Style/style_class.txt", b"7 Cubism\n")];
    assert_eq!(read("wikiart", "val", &files).unwrap().0[0].media.images, ["wikiart/Cubism/josé_still-life-1913.jpg"]);
    let meme = b"{\"id\":42953,\"img\":\"img\\/42953.png\",\"label\":0,\"text\":\"caf\\u00e9\"}";
    let (found, _) = read("hateful_memes", "dev", &[("dev.jsonl", meme)]).unwrap();
    assert_eq!((found[0].media.images[0].as_str(), found[0].id.as_str()), ("img/42953.png", "hateful_memes/dev/42953"));
    let page =
        b"<DOC><DOCNO>1</DOCNO><DESCRIPTION>a caf\xE9 & a bar;</DESCRIPTION><IMAGE>images/00/1.jpg</IMAGE></DOC>";
    let (found, _) = read("iapr_tc12", "all", &[("annotations_complete_eng/00/1.eng", page)]).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Sentence), "A café & a bar.");
}

#[test]
fn text_and_dialogs_are_split_at_their_marks_alone() {
    let dialog = json!([{"topic": "t", "input": "x\n[|Human|] List [1|2]:\n- a\n[|AI|] a | b\n\nc\n[|Human|] "}]);
    let (found, counts) = read("baize", "quora", &[("quora_chat_data.json", &bytes(&dialog))]).unwrap();
    assert_eq!(found[0].answers.turns, [("List [1|2]:\n- a".to_owned(), "a | b\n\nc".to_owned())]);
    assert!(counts.left_out.is_empty(), "the empty mark at the end is no turn");
    let rows =
        b"{\"text\": \"<human>: 1 < 2?\\n<bot>: Yes, 1 < 2 and <b> is bold.\"}\n{\"text\": \"<bot>: no question\"}\n";
    let (found, counts) = read("oig_small_chip2", "a", &[("a.jsonl", rows)]).unwrap();
    assert_eq!((found.len(), text(&found[0], AnswerShape::Paragraph)), (1, "Yes, 1 < 2 and <b> is bold."));
    assert_eq!(counts.dropped["error:instruction"], 1);
}

#[test]
fn a_header_of_other_names_and_a_wrong_split_stop_a_task() {
    let renamed = b"image_path,label\nImage_1.jpg,sitting\n";
    let found = fault("har", "Training", &[("Training_set.csv", renamed)]);
    assert!(found.contains("`p` has no `filename`") && found.contains("image_path, label"), "{found}");
    let clocks = fs::read(fixtures().join("time_clocks/clocks.csv")).unwrap();
    let found = fault("time_clocks", "validation", &[("clocks.csv", &clocks)]);
    assert!(found.contains("has no split \"validation\"; it has test, train, valid"), "{found}");
    let other = b"[{\"id\": 1, \"conversation\": \"###Ask: x ###Answer: y\"}]";
    assert!(fault("minigpt4_ift", "filter_cap", &[("filter_cap.json", other)]).contains("annotations"));
}

#[test]
fn every_row_of_table_9_has_a_task() {
    let rows: BTreeSet<u8> = shipped().tasks().filter_map(|task| task.paper_row).collect();
    assert_eq!(rows, (1..=50).collect());
}

#[test]
fn every_category_of_places_has_a_name() {
    let Some(shared) = shared("data/tasks") else { return };
    let categories = fs::read(shared.join("places365/categories_places365.txt")).unwrap();
    let list = (0..365).map(|label| format!("{label}.jpg {label}\n")).collect::<Vec<_>>().concat();
    let files: [(&str, &[u8]); 2] = [("places365_val.txt", list.as_bytes()), ("categories_places365.txt", &categories)];
    let (found, _) = read("places365", "val", &files).unwrap();
    let names: Vec<&str> = found.iter().map(|record| text(record, AnswerShape::Class)).collect();
    assert_eq!((names[0], names[8], names[15]), ("airfield", "outdoor apartment building", "hockey arena"));
    assert!(names.len() == 365 && names.iter().all(|name| !name.contains(['_', '/'])));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 365, "no two are the same");
}

#[test]
fn the_first_synonym_of_a_class_of_imagenet_is_its_name() {
    let Some(shared) = shared("data/tasks") else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(shared.join("imagenet1k/LOC_synset_mapping.txt"), folder.path().join("LOC_synset_mapping.txt")).unwrap();
    for synset in ["n01440764", "n02012849", "n03126707"] {
        let class = folder.path().join("ILSVRC/Data/CLS-LOC/train").join(synset);
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join(format!("{synset}_1.JPEG")), "x").unwrap();
    }
    let task = shipped().get("imagenet1k").unwrap();
    let (found, _) = build_all(task, folder.path(), "train", PromptMode::All, 7);
    let names: Vec<&str> = found.iter().map(|own| own.messages.last().unwrap().content.as_str()).collect();
    assert_eq!(names, ["tench", "crane", "crane"], "a bird and a machine share a name");
}

#[test]
fn a_description_of_iapr_tc12_is_one_sentence() {
    let Some(shared) = shared("data/tasks") else { return };
    let name = "annotations_complete_eng/00/25.eng";
    let page = fs::read(shared.join("iapr_tc12").join(name)).unwrap();
    let (found, _) = read("iapr_tc12", "all", &[(name, &page)]).unwrap();
    let expected = "A yellow building with white columns in the background; two palm trees in front of the house; \
        cars are parking in front of the house; a woman and a child are walking over the square.";
    assert_eq!(
        (text(&found[0], AnswerShape::Sentence), found[0].media.images[0].as_str()),
        (expected, "images/00/25.jpg")
    );
}

#[test]
fn genuine_files_without_answers_or_with_repeated_rows_stop_a_task() {
    let Some(shared) = shared("data/tasks") else { return };
    let vizwiz = |name: &str| fs::read(shared.join("vizwiz_vqa").join(name)).unwrap();
    let found = fault("vizwiz_vqa", "test", &[("Annotations/test.json", &vizwiz("test.json"))]);
    assert!(found.contains("none of 800 records") && found.contains("`q` has no `answers`"), "{found}");
    let (found, _) = read("vizwiz_vqa", "val", &[("Annotations/val.json", &vizwiz("val.json"))]).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Phrase), "night time");
    let repeated = fs::read(shared.join("minigpt4_ift/filter_cap.json")).unwrap();
    let found = fault("minigpt4_ift", "filter_cap", &[("filter_cap.json", &repeated)]);
    assert!(found.contains("duplicate_id 1890"), "{found}");
}

fn ten(answers: &[(&str, usize)]) -> Vec<Value> {
    let each = answers.iter().flat_map(|(answer, times)| std::iter::repeat_n(*answer, *times));
    each.map(|answer| json!({"answer": answer, "answer_confidence": "yes"})).collect()
}

fn vote(text: &str, count: usize) -> (String, usize) {
    (text.to_owned(), count)
}

#[test]
fn ten_answers_of_vqa_are_kept_and_the_authors_break_ties() {
    let questions = bytes(&json!({"questions": [
        {"question_id": 1, "image_id": 2, "question": "What color"},
        {"question_id": 3, "image_id": 4, "question": "How many?"}]}));
    let answers = bytes(&json!({"annotations": [
        {"question_id": 1, "image_id": 2, "multiple_choice_answer": "red", "answers": ten(&[("crimson", 5), ("red", 5)])},
        {"question_id": 3, "image_id": 4, "multiple_choice_answer": "2", "answers": ten(&[("1", 2), (" 2 ", 7), ("", 1)])}]}));
    let names = ["v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"];
    let (found, counts) = read("vqav2", "val", &[(names[0], &questions), (names[1], &answers)]).unwrap();
    assert_eq!(found[0].answers.votes, [vote("crimson", 5), vote("red", 5)]);
    assert_eq!(found[1].answers.votes, [vote("2", 7), vote("1", 2)]);
    let phrases: Vec<&str> = found.iter().map(|record| text(record, AnswerShape::Phrase)).collect();
    assert_eq!((phrases, counts.left_out["no_text:votes"]), (vec!["red", "2"], 1));
}

#[test]
fn five_people_of_ok_vqa_count_twice_in_their_own_words() {
    let questions = bytes(&json!({"questions": [{"question_id": 1, "image_id": 2, "question": "What sport?"}]}));
    let raw = ["surfing", "surfing", "wave", "wave", "surfing", "surfing", "sea", "sea", "surf", "surf"];
    let given: Vec<Value> = raw.iter().map(|raw| json!({"raw_answer": raw, "answer": "surf"})).collect();
    let answers = bytes(&json!({"annotations": [{"question_id": 1, "image_id": 2, "answers": given}]}));
    let files: [(&str, &[u8]); 2] =
        [("OpenEnded_mscoco_val2014_questions.json", &questions), ("mscoco_val2014_annotations.json", &answers)];
    let (found, _) = read("okvqa", "val", &files).unwrap();
    assert_eq!(text(&found[0], AnswerShape::Phrase), "surfing", "and not the stem");
    assert_eq!(found[0].answers.votes, [vote("surfing", 4), vote("wave", 2), vote("sea", 2), vote("surf", 2)]);
}

#[test]
fn unanswerable_is_an_answer_of_vizwiz_and_few_votes_are_none() {
    let row = |image: &str, answers: &[(&str, usize)]| json!({"image": image, "question": "What is this", "answers": ten(answers), "answer_type": "other", "answerable": 1});
    let rows = bytes(&json!([
        row("a.jpg", &[("unanswerable", 6), ("soup", 4)]),
        row("b.jpg", &[("a", 2), ("b", 2), ("c", 2), ("d", 2), ("e", 2)]),
        row("c.jpg", &[("unanswerable", 3), ("can", 7)])
    ]));
    let (found, counts) = read("vizwiz_vqa", "val", &[("Annotations/val.json", &rows)]).unwrap();
    let phrases: Vec<&str> = found.iter().map(|record| text(record, AnswerShape::Phrase)).collect();
    assert_eq!((phrases, counts.dropped["few_votes"]), (vec!["unanswerable", "can"], 1));
    assert_eq!(found[0].answers.votes, [vote("unanswerable", 6), vote("soup", 4)]);
}

#[test]
fn a_okvqa_is_asked_with_options_and_without() {
    let Some(shared) = shared("data/tasks") else { return };
    let file = fs::read(shared.join("aokvqa/aokvqa_v1p0_val.json")).unwrap();
    let of = |task: &str| read(task, "val", &[("aokvqa_v1p0_val.json", &file)]).unwrap();
    let ((choice, choices), (direct, directs)) = (of("aokvqa"), of("aokvqa_direct"));
    assert_eq!((choice.len(), choices.dropped["field:options"]), (1142, 3), "two letters would be right");
    assert_eq!((direct.len(), directs.dropped["few_votes"]), (993, 152));
    let native = |own: &Record| own.id.rsplit('/').next().unwrap().to_owned();
    let both = direct.iter().find(|own| native(own) == native(&choice[0])).unwrap();
    assert_eq!((&both.slots, &both.media), (&choice[0].slots, &choice[0].media));
    let votes = |own: &Record| own.answers.votes.iter().map(|(_, count)| count).sum::<usize>();
    let of_nine: Vec<&str> = direct.iter().filter(|own| votes(own) != 10).map(|own| own.id.as_str()).collect();
    assert_eq!(of_nine, ["aokvqa_direct/val/Rpy3Dcuk4GLi5NsNq5Xzgt"], "one answer is blank");
    assert_eq!(directs.left_out["no_text:votes"], 1);
}

/// Genuine answers of ten people. A third party published them in the layout of VQA; here they are
/// in the layout of their authors.
fn in_native_layout(shared: &std::path::Path, task: &str) -> Vec<Value> {
    let of = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(shared.join(task).join(format!("val_{name}_vqa_format.json"))).unwrap())
            .unwrap()
    };
    let (questions, annotations) = (of("questions"), of("annotations"));
    let rows = questions["questions"].as_array().unwrap().iter().zip(annotations["annotations"].as_array().unwrap());
    rows.map(|(question, annotation)| {
        assert_eq!(question["question_id"], annotation["question_id"]);
        let answers = annotation["answers"].as_array().unwrap();
        let texts: Vec<&Value> = answers.iter().map(|answer| &answer["answer"]).collect();
        let mut row = question.clone();
        let image = question["image_id"].clone();
        row["image"] = image;
        row["answers"] = if task == "textvqa" { json!(texts) } else { json!(answers) };
        row
    })
    .collect()
}

#[test]
fn five_hundred_genuine_questions_have_the_majorities_that_were_counted_apart() {
    let Some(shared) = shared("data/tasks") else { return };
    // Counted by collections.Counter of Python 3.11 over the same files: rows whose most frequent
    // answer was given twice at most, and rows whose answer is `unanswerable`.
    let rows = bytes(&json!({"data": in_native_layout(&shared, "textvqa")}));
    let (found, counts) = read("textvqa", "val", &[("TextVQA_0.5.1_val.json", &rows)]).unwrap();
    let unanswerable =
        |found: &[Record]| found.iter().filter(|own| text(own, AnswerShape::Phrase) == "unanswerable").count();
    assert_eq!((found.len(), counts.dropped["few_votes"], counts.dropped["where:needs_reading"]), (479, 14, 7));
    assert_eq!(unanswerable(&found), 15);
    let rows = bytes(&Value::from(in_native_layout(&shared, "vizwiz_vqa")));
    let (found, counts) = read("vizwiz_vqa", "val", &[("Annotations/val.json", &rows)]).unwrap();
    assert_eq!((found.len(), counts.dropped["few_votes"], unanswerable(&found)), (443, 56, 303));
    assert_eq!(counts.dropped["answer_shape"], 1, "three people copied a coupon of 14 words");
}

#[test]
fn labels_on_which_nobody_agreed_and_other_words_for_them_are_no_classes() {
    let row = |label: &str| json!({"Flickr30K_ID": "9", "pairID": format!("9.jpg#0{label}"), "gold_label": label, "sentence2": "A"});
    let rows: String = ["neutral", "-", "entailment"].map(|label| row(label).to_string() + "\n").concat();
    let (found, counts) = read("snli_ve", "dev", &[("snli_ve_dev.jsonl", rows.as_bytes())]).unwrap();
    assert_eq!((found.len(), counts.dropped["where:agreed"]), (2, 1));
    let other = row("contradictory").to_string();
    assert!(fault("snli_ve", "dev", &[("snli_ve_dev.jsonl", other.as_bytes())]).contains("must:known_label 1"));
}

#[test]
fn places_outside_a_table_of_texts_are_no_turns() {
    let dialog = |answer: i64| {
        let turns = json!([{"question": 0, "answer": 0}, {"question": 0, "answer": answer}]);
        let data = json!({"questions": ["is it sunny"], "answers": ["yes"], "dialogs": [{"image_id": 9, "caption": "a dog", "dialog": turns}]});
        bytes(&json!({"version": "1.0", "split": "val2018", "data": data}))
    };
    for answer in [-1, 1] {
        let found = fault("visdial", "val", &[("visdial_1.0_val.json", &dialog(answer))]);
        assert!(found.contains(&format!("there is no element {answer} in a list of 1")), "{found}");
    }
    assert_eq!(read("visdial", "val", &[("visdial_1.0_val.json", &dialog(0))]).unwrap().0.len(), 1);
}

#[test]
fn captions_lose_the_line_ends_and_blanks_around_them() {
    let coco = bytes(&json!({"images": [{"id": 9, "file_name": "COCO_val2014_000000000009.jpg"}], "annotations": [
        {"id": 1, "image_id": 9, "caption": "A plate of food.\n"}, {"id": 2, "image_id": 9, "caption": " Food "},
        {"id": 3, "image_id": 9, "caption": " \n"}]}));
    let (found, counts) = read("coco_caption", "val2014", &[("annotations/captions_val2014.json", &coco)]).unwrap();
    assert_eq!(found[0].answers.captions, ["A plate of food.", "Food"], "and one without text costs no other");
    assert_eq!(counts.left_out["no_text:captions"], 1);
}

#[test]
fn escapes_of_line_ends_within_fields_of_flan_are_line_ends() {
    let row = b"Is it true?\\nOptions:\\n- yes\\n- no\tno\tIt rains.\\nSo no.\n".as_slice();
    let (found, _) = read("flan_v2_cot", "creak_train", &[("creak_train.tsv", row)]).unwrap();
    let said = serde_json::to_value(&found[0].slots["instruction"]).unwrap();
    assert_eq!(said, json!("Is it true?\nOptions:\n- yes\n- no"));
    assert_eq!(text(&found[0], AnswerShape::Paragraph), "It rains.\nSo no. So the answer is no.");
}

#[test]
fn parts_of_flan_are_read_one_after_the_other() {
    let row = |text: &str| json!({"inputs": text, "targets": "It is so."}).to_string();
    let (first, second) = (row("Is it?"), row("Is it so?"));
    let files =
        [("flan_fs_opt_train_part2.jsonl", second.as_bytes()), ("flan_fs_opt_train_part1.jsonl", first.as_bytes())];
    let (found, _) = read("flan_v2", "flan_fs_opt", &files).unwrap();
    let asked: Vec<_> = found.iter().map(|own| serde_json::to_value(&own.slots["instruction"]).unwrap()).collect();
    assert_eq!(asked, [json!("Is it?"), json!("Is it so?")]);
}

#[test]
fn a_picture_that_is_a_video_and_numbers_of_objects_are_no_texts() {
    let clip = bytes(&json!([{"id": "1", "image": "video9770.mp4", "conversations": [
        {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A man."}]}]));
    let found = fault("llava_json", "own", &[("own.json", &clip)]);
    assert!(found.contains("is a video; use media.video for it"), "{found}");
    let row = json!({"img_fn": "m/a.jpg", "img_id": "val-0", "annot_id": "val-0", "objects": ["person", "dog"],
        "question": ["Does", [0, 1], "feel", "comfortable", "?"], "answer_choices": [[[0], "does", "."], ["No", "."], ["x"], ["y"]],
        "answer_label": 0, "rationale_choices": [["a"], ["b"], ["c"], ["d"]], "rationale_label": 0});
    let (found, _) = read("vcr", "val", &[("val.jsonl", row.to_string().as_bytes())]).unwrap();
    let asked = serde_json::to_value(&found[0].slots["question"]).unwrap();
    assert_eq!(asked, json!("Does [person 1] and [dog 2] feel comfortable?"));
    assert_eq!(found[0].answers.options.as_ref().unwrap().texts[0], "[person 1] does.");
}

/// Returns a shard with one sample per row.
fn tar_of(rows: &[Value]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.tar");
    let members: Vec<(String, String)> =
        rows.iter().enumerate().map(|(number, row)| (format!("{number}.json"), row.to_string())).collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, row)| (name.as_str(), row.as_bytes())).collect();
    crate::archive::tests::write_tar(&path, &members);
    fs::read(path).unwrap()
}

#[test]
fn rows_of_parquet_have_one_image_or_several_and_the_rules_of_other_dialogs() {
    let lines = [
        json!({"image": "a.jpg", "system": "Be brief."}),
        json!({"images": ["a.jpg", "b.jpg"], "train": true, "tools": "[]", "label": true}),
        json!({"label": false}),
        json!({"kto_tag": false}),
        json!({"functions": "[{}]"}),
        json!({"train": false}),
        json!({"loss_scale": 0.0}),
        json!({"refusal": "No."}),
    ];
    let said = |role: &str, row: &Value| {
        let content = if role == "user" { "Why?" } else { "So." };
        let of_reply = |key: &str| if role == "user" { Value::Null } else { row[key].clone() };
        json!({"role": role, "content": content, "train": of_reply("train"), "loss_scale": of_reply("loss_scale"),
            "refusal": of_reply("refusal")})
    };
    let columns = ["image", "images", "system", "tools", "label", "kto_tag", "functions"];
    let row = |own: &Value| {
        let mut row = json!({"messages": [said("user", own), said("assistant", own)]});
        for name in columns {
            row[name] = own[name].clone();
        }
        row.to_string()
    };
    let text = lines.iter().map(row).collect::<Vec<_>>().join("\n");
    let (kept, counts) = read("messages_parquet", "t", &[("t.parquet", &parquet_of(&text))]).unwrap();
    let media: Vec<_> = kept.iter().map(|own| (own.media.images.len(), own.system.as_deref())).collect();
    assert_eq!(media, [(1, Some("Be brief.")), (2, None)]);
    for (name, count) in
        [("has_no_rejected_reply", 2), ("has_no_tools", 1), ("learns_every_reply", 2), ("has_no_refusal", 1)]
    {
        assert_eq!(counts.dropped.get(&format!("must:{name}")), Some(&count), "{counts:?}");
    }
}

/// Returns a Parquet file of rows that are given as JSON lines.
fn parquet_of(lines: &str) -> Vec<u8> {
    let (schema, _) = arrow::json::reader::infer_json_schema(lines.as_bytes(), None).unwrap();
    let mut reader = arrow::json::ReaderBuilder::new(std::sync::Arc::new(schema)).build(lines.as_bytes()).unwrap();
    let batch = reader.next().unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    lynxdata_records::parquet::write(&path, &batch.schema(), [&batch]).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn a_last_question_without_a_reply_takes_its_image_with_it() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let rows = bytes(&json!([
        {"conversations": [said("human", "Who?"), said("gpt", "I."), said("human", "<image>What?")], "images": ["a.jpg"]},
        {"conversations": [said("human", "<image>Who?"), said("gpt", "I."), said("human", "<image>What?")],
            "images": ["a.jpg", "b.jpg"]},
        {"conversations": [said("human", "Who?"), said("gpt", "I."), said("human", "What?")], "images": ["a.jpg"]}]));
    let (found, counts) = read("sharegpt_json", "t", &[("t.json", &rows)]).unwrap();
    let images: Vec<_> = found.iter().map(|own| own.media.images.concat()).collect();
    assert_eq!((images, counts.left_out["no_text:turns"]), (vec![String::new(), "a.jpg".into(), "a.jpg".into()], 3));
    assert!(found.iter().all(|own| own.answers.turns == [("Who?".to_owned(), "I.".to_owned())]));
}

#[test]
fn a_history_that_is_not_of_pairs_is_left_out() {
    let row = |history: Value| json!({"query": "Why?", "response": "So.", "history": history}).to_string();
    let good = [json!([["q", "a"]]), json!([]), json!(null)];
    let bad = [json!([["q"]]), json!([["q", "x", "a"]]), json!(["qa"]), json!([["q", null]]), json!([["q", ["a"]]])];
    let rows: Vec<String> = good.iter().chain(&bad).map(|history| row(history.clone())).collect();
    let (found, counts) = read("swift_jsonl", "t", &[("t.jsonl", rows.join("\n").as_bytes())]).unwrap();
    let lengths: Vec<usize> = found.iter().map(|own| own.answers.turns.len()).collect();
    assert_eq!((lengths, counts.dropped["must:has_pairs_in_history"]), (vec![2, 1, 1], 5));
}

#[test]
fn a_token_of_an_image_may_stand_for_the_video_of_llava() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let row = |value: &str| json!({"conversations": [said("human", value), said("gpt", "So.")], "video": "v.mp4"});
    let rows = bytes(&json!([row("<image>\nWhy?"), row("<video>\nWhy?"), row("It is <image> here.")]));
    let (found, counts) = read("llava_json", "t", &[("t.json", &rows)]).unwrap();
    assert_eq!((found.len(), counts.dropped["video_place"]), (2, 1));
    assert!(found.iter().all(|own| own.answers.turns[0].0 == "Why?" && own.media.video.is_some()));
}

#[test]
fn images_of_parts_are_in_the_order_of_their_places() {
    let named = json!({"type": "image", "image": "a.jpg"});
    let row = |content: Value, images: Value| {
        let said = [json!({"role": "user", "content": content}), json!({"role": "assistant", "content": "So."})];
        json!({"messages": said, "images": images}).to_string()
    };
    let text = json!({"type": "text", "text": "    Why?"});
    let rows = [
        row(json!([named, {"type": "image"}, text]), json!(["b.jpg"])),
        row(json!([{"type": "image"}, named, text]), json!(["b.jpg"])),
        row(json!("<image><image>\n    Why?"), json!(["a.jpg", "b.jpg"])),
        row(json!([named, {"type": "image"}, text]), json!([])),
    ];
    let (found, counts) = read("messages_json", "t", &[("t.jsonl", rows.join("\n").as_bytes())]).unwrap();
    let images: Vec<_> = found.iter().map(|own| own.media.images.join(" ")).collect();
    assert_eq!(
        (images, counts.dropped["missing_image"]),
        (vec!["a.jpg b.jpg".into(), "b.jpg a.jpg".into(), "a.jpg b.jpg".to_owned()], 1)
    );
    assert!(found.iter().all(|own| own.answers.turns[0].0 == "    Why?"));
}

#[test]
fn rows_with_parts_that_change_what_is_learned_are_left_out() {
    let marked = |key: &str, value: Value| json!([key, value]);
    let of_row = [
        ("has_no_objects", marked("objects", json!({"ref": ["cat"], "bbox": [[10, 10, 40, 40]]}))),
        ("has_no_rejected_reply", marked("rejected_response", json!("bad"))),
        ("has_no_rejected_reply", marked("rejected", json!({"from": "gpt", "value": "bad"}))),
        ("has_no_tools", marked("tools", json!("[{\"name\": \"weather\"}]"))),
        ("has_no_tools", marked("tools", json!([{"name": "weather"}]))),
        ("has_no_tools", marked("functions", json!([{"name": "weather"}]))),
        ("has_no_rejected_reply", marked("label", json!(false))),
        ("has_no_rejected_reply", marked("kto_tag", json!(false))),
    ];
    let of_reply = [
        ("learns_every_reply", marked("loss", json!(false))),
        ("learns_every_reply", marked("weight", json!(0))),
        ("learns_every_reply", marked("loss_scale", json!(0))),
        ("learns_every_reply", marked("loss_scale", json!(0.5))),
        ("learns_every_reply", marked("train", json!(false))),
        ("learns_every_reply", marked("training", json!(false))),
        ("learns_every_reply", marked("train_detail", json!([{"begin_offset": 0, "end_offset": 1, "train": false}]))),
        ("has_no_refusal", marked("refusal", json!("I will not."))),
        ("has_no_reasoning", marked("reasoning_content", json!("because"))),
        ("has_no_tools", marked("tool_calls", json!([{"function": {"name": "f"}}]))),
    ];
    let harmless_of_row = [
        marked("objects", json!({"ref": [], "bbox": []})),
        marked("objects", json!({})),
        marked("tools", json!("[]")),
        marked("tools", json!("")),
        marked("tools", json!({})),
        marked("functions", json!([])),
        marked("kto_tag", json!(true)),
        marked("kto_tag", json!(null)),
        marked("rejected_response", json!(null)),
        marked("label", json!(true)),
    ];
    let harmless_of_reply = [
        marked("loss", json!(true)),
        marked("weight", json!(1)),
        marked("loss_scale", json!(1.0)),
        marked("train", json!(true)),
        marked("training", json!(null)),
        marked("train_detail", json!([])),
        marked("refusal", json!(null)),
        marked("refusal", json!("")),
        marked("reasoning_content", json!("")),
        marked("tool_calls", json!(null)),
    ];
    for (task, list, names, ending) in [
        ("messages_json", "messages", ["role", "user", "assistant", "content"], "jsonl"),
        ("swift_jsonl", "messages", ["role", "user", "assistant", "content"], "jsonl"),
        ("llava_json", "conversations", ["from", "human", "gpt", "value"], "json"),
        ("sharegpt_json", "conversations", ["from", "human", "gpt", "value"], "json"),
        ("webdataset_tar", "conversations", ["from", "human", "gpt", "value"], "tar"),
    ] {
        let [side, asks, replies, text] = names;
        let row = |id: usize, part: &Value, is_of_reply: bool| {
            let mut question = json!({side: asks, text: "Why?"});
            let mut reply = json!({side: replies, text: "So."});
            let mut row = json!({ "id": id.to_string() });
            let key = part[0].as_str().unwrap();
            let owner = if is_of_reply { &mut reply } else { &mut row };
            owner[key] = part[1].clone();
            // A question is not learned anyway.
            question["loss"] = json!(false);
            row[list] = json!([question, reply]);
            row
        };
        let harmless = harmless_of_row.iter().map(|part| (part, false));
        let harmless: Vec<_> = harmless.chain(harmless_of_reply.iter().map(|part| (part, true))).collect();
        let told = of_row.iter().map(|(name, part)| (*name, part, false));
        let told: Vec<_> = told.chain(of_reply.iter().map(|(name, part)| (*name, part, true))).collect();
        let all = harmless.iter().copied().chain(told.iter().map(|(_, part, of_reply)| (*part, *of_reply)));
        let rows: Vec<Value> = all.enumerate().map(|(id, (part, of_reply))| row(id, part, of_reply)).collect();
        let (name, contents) = match ending {
            "json" => ("t.json", Value::from(rows).to_string().into_bytes()),
            "tar" => ("t/0.tar", tar_of(&rows)),
            _ => ("t.jsonl", rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n").into_bytes()),
        };
        let (kept, counts) = read(task, "t", &[(name, &contents)]).unwrap();
        assert_eq!(kept.len(), harmless.len(), "{task}: {counts:?}");
        for name in told.iter().map(|(name, _, _)| *name) {
            let count = told.iter().filter(|(other, _, _)| *other == name).count() as u64;
            assert_eq!(counts.dropped.get(&format!("must:{name}")), Some(&count), "{task}: {counts:?}");
        }
    }
}
