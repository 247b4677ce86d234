use super::*;

fn references(texts: &[(&str, &str)]) -> Result<References> {
    let sources: Vec<Source> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    read_references(&sources)
}

fn read(text: &str, key: &Key) -> Result<Vec<Prediction>> {
    read_predictions(Source { name: "p", text }, key)
}

fn predictions(text: &str) -> Result<Vec<Prediction>> {
    read_predictions(Source { name: "p.jsonl", text }, &Key::default())
}

fn told<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn our_own_rows_are_read_whatever_their_fields_are_called() {
    let text = "\u{feff}{\"id\": 1, \"question\": \"q\", \"answers\": [\"a\", 2], \"category\": \"c\", \"image\": \"i.jpg\"}\r\n\n\
                {\"question_id\": \"x\", \"answer\": true, \"class\": \"d\"}\n";
    let rows = references(&[("r.jsonl", text)]).unwrap().rows;
    assert_eq!((rows[0].id.as_str(), rows[0].answers.as_slice()), ("1", ["a".to_owned(), "2".to_owned()].as_slice()));
    assert_eq!((rows[0].category.as_deref(), rows[0].image.as_deref()), (Some("c"), Some("i.jpg")));
    assert_eq!((rows[1].id.as_str(), rows[1].answers[0].as_str()), ("x", "true"));
    assert_eq!(rows[1].place.to_string(), "r.jsonl, line 3");
}

#[test]
fn official_formats_are_read() {
    let annotations = r#"{"annotations": [{"question_id": 7, "image_id": 3, "answer_type": "number", "answers": [
        {"answer": "2", "answer_id": 1}, {"answer": "two", "answer_id": 2}]}]}"#;
    let questions = r#"{"questions": [{"question_id": 7, "question": "How many?", "image_id": 3},
        {"question_id": 8, "question": "Why?", "image_id": 3}]}"#;
    for order in [[("a", annotations), ("q", questions)], [("q", questions), ("a", annotations)]] {
        let found = references(&order).unwrap();
        let row = &found.rows[0];
        assert_eq!(
            (row.question.as_deref(), row.answers.len(), row.image.as_deref()),
            (Some("How many?"), 2, Some("3"))
        );
        assert!(found.notes[0].contains("1 of 2 questions have no annotation, such as 8"), "{:?}", found.notes);
    }
    let coco = r#"{"images": [], "annotations": [{"image_id": 5, "id": 1, "caption": "a dog"},
        {"image_id": 6, "id": 2, "caption": "a cat"}, {"image_id": 5, "id": 3, "caption": "one dog"}]}"#;
    let rows = references(&[("c", coco)]).unwrap().rows;
    assert_eq!((rows.len(), rows[0].id.as_str(), rows[0].answers.len()), (2, "5", 2));
    let pope = r#"{"question_id": 1, "image": "x.jpg", "text": "Is there a dog?", "label": "no"}"#;
    let row = &references(&[("p", pope)]).unwrap().rows[0];
    assert_eq!((row.question.as_deref(), row.answers[0].as_str()), (Some("Is there a dog?"), "no"));
    let open_vqa = r#"{"question": "q", "answer": ["yes"], "index": 96, "video": "v.mp4", "class": "Action(Y/N)"}"#;
    let row = &references(&[("o", open_vqa)]).unwrap().rows[0];
    assert_eq!(
        (row.id.as_str(), row.image.as_deref(), row.category.as_deref()),
        ("96", Some("v.mp4"), Some("Action(Y/N)"))
    );
    let doc = r#"{"dataset_name": "docvqa", "data": [{"questionId": 4, "question": "q", "answers": ["1"], "image": "d.png"}]}"#;
    assert_eq!(references(&[("d", doc)]).unwrap().rows[0].id, "4");
}

#[test]
fn a_key_of_an_object_that_occurs_twice_is_told() {
    let found = told(predictions("{\"1\": \"yes\", \"2\": \"no\", \"1\": \"no\"}"));
    assert!(found.contains("id 1 occurs twice"), "{found}");
    assert!(told(references(&[("r", "{\"data\": [], \"data\": []}")])).contains("data occurs twice"));
}

#[test]
fn predictions_are_read_in_all_forms() {
    for text in [
        r#"{"id": 1, "answer": "a"}"#,
        r#"[{"question_id": "1", "text": "a"}]"#,
        r#"{"1": "a"}"#,
        r#"{"doc_id": 1, "target": "b", "resps": [["a"]], "filtered_resps": ["a"]}"#,
        r#"{"index": 1, "answer": "the right one", "prediction": "a"}"#,
        "\n{\"image_id\": 1, \"caption\": \"a\"}\n\n",
    ] {
        let found = predictions(text).unwrap();
        assert_eq!((found[0].id.as_str(), found[0].answer.as_deref()), ("1", Some("a")), "{text}");
    }
    assert_eq!(predictions(r#"{"id": 1, "answer": null}"#).unwrap()[0].answer, None);
    assert_eq!(predictions(r#"{"id": 1, "answer": ""}"#).unwrap()[0].answer.as_deref(), Some(""));
}

#[test]
fn a_null_prediction_is_not_replaced_by_the_reference_beside_it() {
    for name in ["prediction", "pred", "response", "output", "filtered_resps", "resps"] {
        let text = format!("{{\"id\": 1, \"{name}\": null, \"answer\": \"two\"}}");
        assert_eq!(predictions(&text).unwrap()[0].answer, None, "{name}");
        let text = format!("[{{\"id\": 1, \"{name}\": \"a\"}}, {{\"id\": 2, \"{name}\": null, \"answer\": \"b\"}}]");
        let found = predictions(&text).unwrap();
        assert_eq!((found[0].answer.as_deref(), found[1].answer.as_deref()), (Some("a"), None), "{name}");
    }
    assert_eq!(predictions(r#"{"id": 1, "resps": [[null]], "answer": "b"}"#).unwrap()[0].answer, None);
}

#[test]
fn all_rows_of_a_file_have_their_answer_in_the_same_field() {
    let mixed = told(predictions("{\"id\": 1, \"prediction\": \"a\"}\n{\"id\": 2, \"answer\": \"the right one\"}"));
    assert!(mixed.starts_with("p.jsonl, line 2: no answer; its field can be called prediction; other rows"), "{mixed}");
    let both = told(predictions("{\"id\": 1, \"caption\": \"a dog\", \"answer\": \"two\"}"));
    assert!(both.starts_with("p.jsonl, line 1: both caption and answer may hold the answer"), "{both}");
    let three = predictions(r#"{"id": 1, "caption": "a dog", "answer": "two", "prediction": "p"}"#).unwrap();
    assert_eq!(three[0].answer.as_deref(), Some("p"));
}

#[test]
fn a_reference_is_never_taken_for_the_answer_of_the_model() {
    for (row, fields) in [
        // As LLaVA writes its answers, with the reference beside them.
        (r#"{"id": 1, "text": "yes", "answer": "no"}"#, "answer and text"),
        (r#"{"id": 1, "text": "yes", "answer": null}"#, "answer and text"),
        (r#"{"id": 1, "text": "yes", "caption": "a dog"}"#, "caption and text"),
        (r#"{"id": 1, "answer": "yes", "caption": "a dog"}"#, "caption and answer"),
    ] {
        let error = told(predictions(row));
        let wanted = format!("p.jsonl, line 1: both {fields} may hold the answer of the model; rename");
        assert!(error.starts_with(&wanted) && error.ends_with("to prediction"), "{error}");
        let renamed = row.replace("\"text\"", "\"prediction\"");
        assert!(renamed == row || predictions(&renamed).unwrap()[0].answer.as_deref() == Some("yes"), "{renamed}");
    }
    let two_rows = told(predictions("{\"id\": 1, \"answer\": \"a\"}\n{\"id\": 2, \"text\": \"b\"}"));
    assert!(two_rows.starts_with("p.jsonl, line 2: both answer and text may hold"), "{two_rows}");
    for name in ["predicted_answer", "model_answer", "model_response", "generated_text"] {
        let found = predictions(&format!(r#"{{"id": 1, "answer": "right", "{name}": "wrong", "text": "q"}}"#)).unwrap();
        assert_eq!(found[0].answer.as_deref(), Some("wrong"), "{name}");
    }
}

#[test]
fn rows_are_joined_by_the_id_that_both_files_have() {
    let rows = "{\"question_id\": 1, \"id\": 2, \"answer\": \"a\"}\n{\"question_id\": 2, \"id\": 1, \"answer\": \"b\"}";
    let found = references(&[("r", rows)]).unwrap();
    let read = |text| read_predictions(Source { name: "p", text }, &found.key);
    let ids = |text| read(text).unwrap().into_iter().map(|prediction| prediction.id).collect::<Vec<_>>();
    assert_eq!((found.rows[0].id.as_str(), found.key.name()), ("1", "question_id"));
    assert_eq!(ids(r#"[{"id": 1, "answer": "b"}, {"id": 2, "answer": "a"}]"#), ["2", "1"]);
    assert_eq!(ids(r#"[{"question_id": 1, "id": 1, "answer": "a"}]"#), ["1"]);
    let unknown = told(read(r#"{"id": 3, "answer": "a"}"#));
    assert!(unknown.starts_with("p, line 1: id 3 is not among the references"), "{unknown}");
    let other = told(read(r#"{"doc_id": 1, "answer": "a"}"#));
    assert!(
        other.starts_with(
            "p, line 1: its id is doc_id, but rows are joined by question_id, because the references also have id;"
        ),
        "{other}"
    );
    let nameless = told(read(r#"{"1": "a", "2": "b"}"#));
    assert!(nameless.starts_with("p, key 1: its id is the key of an object, but"), "{nameless}");
    let labels = Source { name: "l", text: r#"{"id": 1, "label": "yes"}"# };
    assert_eq!(read_labels(labels, &found.key).unwrap()[0].0, "2");
    // A single name may differ.
    let one = references(&[("r", "{\"question_id\": 1, \"image_id\": 5, \"answer\": \"a\"}")]).unwrap().key;
    for text in [r#"{"doc_id": 1, "answer": "a"}"#, r#"{"1": "a"}"#, r#"{"image_id": 5, "answer": "a"}"#] {
        assert_eq!(read_predictions(Source { name: "p", text }, &one).unwrap()[0].id, "1", "{text}");
    }
}

#[test]
fn references_are_known_by_an_id_that_does_not_repeat() {
    // As POPE of lmms-lab: the numbers of the questions begin anew in each category.
    let row = |id: usize| format!("{{\"id\": \"{id}\", \"question_id\": \"{}\", \"answer\": \"no\"}}", id % 2);
    let text = [row(0), row(1), row(2)].join("\n");
    let found = references(&[("r", &text)]).unwrap();
    assert_eq!(found.rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    let read = |text| read_predictions(Source { name: "p", text }, &found.key);
    assert_eq!(read(r#"{"id": 2, "question_id": 0, "answer": "no"}"#).unwrap()[0].id, "2");
    let other = told(read(r#"{"question_id": 1, "answer": "no"}"#));
    assert!(other.contains("its id is question_id, but rows are joined by id"), "{other}");
    let none = told(references(&[("r", &text.replace("\"id\"", "\"number\""))]));
    assert!(
        none.starts_with("r, line 3: question_id 0 occurs twice, first in r, line 1; give every reference an id"),
        "{none}"
    );
}

#[test]
fn ids_that_json_rounds_are_refused() {
    let large = "12345678901234567890123";
    let error = told(predictions(&format!("{{\"id\": {large}, \"answer\": \"a\"}}")));
    assert!(error.contains("must be a text in quotes"), "{error}");
    assert!(told(references(&[("r", &format!("{{\"id\": {large}, \"answer\": \"a\"}}"))])).contains("in quotes"));
    let quoted = predictions(&format!("{{\"id\": \"{large}\", \"answer\": \"a\"}}")).unwrap();
    let exact = predictions("{\"id\": 18446744073709551615, \"answer\": \"a\"}").unwrap();
    assert_eq!((quoted[0].id.as_str(), exact[0].id.as_str()), (large, "18446744073709551615"));
}

#[test]
fn a_number_that_may_be_an_option_or_its_text_is_refused() {
    let of = |answer: &str, options: &str| {
        references(&[("r", &format!("{{\"id\": 1, \"choices\": {options}, \"answer\": {answer}}}"))])
    };
    let numbers = r#"["1", "2", "3"]"#;
    let error = told(of("1", numbers));
    assert!(error.starts_with("r, line 1: answer is 1, but must be the letter of the right option"), "{error}");
    for (answer, options) in [("\"1\"", numbers), ("3", numbers), ("0", r#"["0", "1"]"#), ("1", "[]")] {
        assert!(of(answer, options).is_ok(), "{answer} of {options}");
    }
    // The number of an option, counted from 0 or from 1, unless it is a row of ScienceQA.
    let more = r#", "subject": "s", "topic": "t", "skill": "s""#;
    for (answer, options) in [("1", r#"["x", "y"]"#), ("0", r#"["x", "y"]"#), ("2", r#"["2", "1"]"#), ("1.0", numbers)]
    {
        assert!(told(of(answer, options)).contains("count the options from 0 or from 1"), "{answer} of {options}");
        assert!(
            told(of(answer, &format!("{options}{more}"))).contains("count the options"),
            "{answer} of {options}: not all fields"
        );
    }
}

#[test]
fn questions_by_their_ids_are_read() {
    let gqa = r#"{"07": {"question": "q", "imageId": "n1", "isBalanced": true, "answer": "no",
        "types": {"structural": "verify", "semantic": "attr", "detailed": "d"}},
        "7": {"question": "p", "imageId": 5, "isBalanced": true}}"#;
    let found = references(&[("g", gqa)]).unwrap();
    let rows = &found.rows;
    assert_eq!((rows[0].id.as_str(), rows[0].image.as_deref()), ("07", Some("n1.jpg")));
    assert_eq!(
        (rows[0].category.as_deref(), rows[0].answers.as_slice()),
        (Some("verify"), ["no".to_owned()].as_slice())
    );
    assert_eq!((rows[1].id.as_str(), rows[1].image.as_deref(), rows[1].answers.len()), ("7", Some("5.jpg"), 0));
    assert_eq!(rows[0].place.to_string(), "g, key 07");
    let predictions = read(r#"[{"questionId": "07", "prediction": "no"}]"#, &found.key).unwrap();
    assert_eq!(join(rows, &predictions).unwrap().items[0].prediction, Some("no"));
    // Rows of lmms-lab have an id, and no key.
    let line = r#"{"id": "07", "question": "q", "imageId": "n1", "isBalanced": true, "answer": "no", "types": {"structural": "verify"}}"#;
    let row = &references(&[("g", line)]).unwrap().rows[0];
    assert_eq!((row.id.as_str(), row.category.as_deref()), ("07", Some("verify")));

    for (text, wanted) in [
        (
            gqa.replace("\"isBalanced\": true}", "\"isBalanced\": false}"),
            "g, key 7: isBalanced is false, but must be true",
        ),
        (gqa.replace("\"isBalanced\": true}", "\"isBalanced\": 1}"), "g, key 7: isBalanced is 1"),
        (gqa.replace("\"structural\"", "\"structure\""), "g, key 07: types is {\"structure\""),
        (
            gqa.replace("\"question\": \"p\"", "\"text\": null"),
            "g, key 7: no question; its field can be called question",
        ),
        (
            gqa.replace("{\"question\": \"p\"", "{\"id\": 8, \"question\": \"p\""),
            "g, key 7: id is 8, but must be the key",
        ),
        (gqa.replace("\"07\"", "\"7\""), "g, key 7: id 7 occurs twice"),
        (gqa.replace("{\"07\"", "{\"info\": [], \"07\""), "g, key info: the row is []"),
        ("{\"1\": {\"ground_truth\": \"A\"}}".to_owned(), "g: is an object with the keys 1"),
    ] {
        let error = told(references(&[("g", &text)]));
        assert!(error.starts_with(wanted), "{error}");
    }
    let own = gqa.replace("{\"question\": \"p\"", "{\"id\": 7, \"question\": \"p\"");
    assert_eq!(references(&[("g", &own)]).unwrap().rows[1].id, "7");
}

#[test]
fn references_without_ids_are_known_by_their_images() {
    let vizwiz = r#"[{"image": "b.jpg", "question": "q", "answers": [{"answer": "a", "answer_confidence": "yes"}],
        "answer_type": "other", "answerable": 1}, {"image": "a.jpg", "question": "q", "answers": [{"answer": "b"}]}]"#;
    let found = references(&[("v", vizwiz)]).unwrap();
    assert_eq!((found.rows[0].id.as_str(), found.rows[0].category.as_deref()), ("b.jpg", Some("other")));
    assert_eq!((found.rows[0].image.as_deref(), found.key.name()), (Some("b.jpg"), "id"));
    for text in [
        r#"[{"image": "a.jpg", "answer": "x"}]"#,
        r#"{"image": "a.jpg", "answer": "x"}"#,
        r#"{"image": "a.jpg", "id": 1, "answer": "x"}"#,
        r#"{"id": "a.jpg", "answer": "x"}"#,
        r#"{"a.jpg": "x"}"#,
    ] {
        assert_eq!(read(text, &found.key).unwrap()[0].id, "a.jpg", "{text}");
    }
    let twice = told(references(&[("v", &vizwiz.replace("a.jpg", "b.jpg"))]));
    assert!(twice.starts_with("v, entry 2 of the list: image b.jpg occurs twice"), "{twice}");
    let without = told(references(&[("v", &vizwiz.replace("\"image\": \"a.jpg\"", "\"image\": null"))]));
    assert!(without.starts_with("v, entry 2 of the list: no id; its field can be called image;"), "{without}");
    // If any row has an id, all need one, and predictions need it too.
    let mixed = told(references(&[("v", &vizwiz.replace("\"image\": \"b.jpg\"", "\"image\": \"b.jpg\", \"id\": 1"))]));
    assert!(mixed.starts_with("v, entry 2 of the list: no id; its field can be called question_id"), "{mixed}");
    let by_id = references(&[("r", r#"{"id": 1, "image": "1", "answer": "a"}"#)]).unwrap().key;
    assert!(told(read(r#"{"image": "1", "answer": "a"}"#, &by_id)).contains("line 1: no id"));
}

#[test]
fn options_of_mmmu_are_a_list_in_a_text() {
    let row = |options: &str, more: &str| {
        let options = serde_json::Value::from(options);
        references(&[("m", &format!("{{\"id\": \"validation_Art_Theory_1\", \"options\": {options}, {more}}}"))])
    };
    let choice = r#""question_type": "multiple-choice", "answer": "B""#;
    let found = row(r#"['3x', "it's", 'a\\b', 'é\x41', '<image 1>',]"#, choice).unwrap().rows;
    assert_eq!(found[0].options, ["3x", "it's", "a\\b", "éA", "<image 1>"]);
    assert_eq!((found[0].category.as_deref(), found[0].answers[0].as_str()), (Some("Art_Theory"), "B"));
    // MMMU-Pro has no types.
    assert_eq!(row("['a', 'b']", r#""answer": "A""#).unwrap().rows[0].options.len(), 2);
    for (answer, answers, is_open) in [
        (r#""['24/7', '3.429']""#, vec!["24/7", "3.429"], true),
        (r#""3.4""#, vec!["3.4"], true),
        (r#""[0, 1]""#, vec!["[0, 1]"], true),
        (r#""?""#, vec![], true),
        (r#""['a']""#, vec!["['a']"], false),
    ] {
        let kind = if is_open { "open" } else { "multiple-choice" };
        let found = row("[]", &format!("\"question_type\": \"{kind}\", \"answer\": {answer}")).unwrap().rows;
        assert_eq!(
            (found[0].answers.clone(), found[0].is_open),
            (answers.iter().map(|one| (*one).to_owned()).collect(), is_open)
        );
    }
    for options in
        ["3x, 4x", "['3x' '4x']", "[3, 4]", "['3x'", "[['3x']]", "['3x', None]", "['3x',, '4x']", "", r"['\101']"]
    {
        let error = told(row(options, choice));
        assert!(
            error.starts_with("m, line 1: options is \"") && error.contains("a list of texts as in Python"),
            "{error}"
        );
    }
    let kind = told(row("['a']", r#""question_type": "yes/no", "answer": "A""#));
    assert!(kind.starts_with("m, line 1: question_type is \"yes/no\", but must be multiple-choice or open"), "{kind}");
    let list = told(row("[]", r#""question_type": "open", "answer": "['a', 3]""#));
    assert!(list.starts_with("m, line 1: answer is \"['a', 3]\", but must be a list"), "{list}");
    // Other ids have no subject.
    let other = r#"{"id": "a_b_1", "options": "['a', 'b']", "answer": "A"}"#;
    assert_eq!(references(&[("m", other)]).unwrap().rows[0].category, None);
}

#[test]
fn the_answer_of_science_qa_is_the_number_of_a_choice() {
    let row = |id: &str, answer: &str, split: &str| {
        format!(
            r#""{id}": {{"question": "q", "choices": ["2", "1", "0"], "answer": {answer}, "image": "image.png",
            "subject": "s", "topic": "t", "category": "c", "skill": "k", "split": "{split}"}}"#
        )
    };
    let of = |rows: &[String]| references(&[("p", &format!("{{{}}}", rows.join(", ")))]);
    let found = of(&[row("12", "1", "val"), row("3", "0", "val")]).unwrap();
    assert_eq!((found.rows[0].id.as_str(), found.rows[0].answers[0].as_str()), ("12", "B"));
    assert_eq!(
        (found.rows[0].image.as_deref(), found.rows[0].category.as_deref()),
        (Some("val/12/image.png"), Some("s"))
    );
    assert!(found.notes.is_empty());
    let found = of(&[row("12", "1", "val"), row("3", "0", "test"), row("4", "5", "train")]).unwrap();
    assert_eq!((found.rows.len(), found.rows[0].id.as_str()), (1, "3"));
    assert!(found.notes[0].starts_with("1 of 3 questions are of the split test; only these"), "{:?}", found.notes);
    let splits = told(of(&[row("12", "1", "val"), row("3", "0", "train")]));
    assert!(splits.starts_with("p, key 3: split is \"train\", but must be that of all other questions"), "{splits}");
    for answer in ["3", "-1", "1.0", "\"1\"", "true", "[0]"] {
        let error = told(of(&[row("12", answer, "test")]));
        assert!(error.starts_with("p, key 12: answer is ") && error.contains("counted from 0"), "{error}");
    }
    assert!(of(&[row("12", "null", "test")]).unwrap().rows[0].answers.is_empty());
}

#[test]
fn rows_that_name_the_key_of_the_references_are_joined_whatever_other_ids_they_have() {
    let rows = "{\"question_id\": 5, \"id\": 2, \"answer\": \"a\"}\n{\"question_id\": 6, \"id\": 1, \"answer\": \"b\"}";
    let key = references(&[("r", rows)]).unwrap().key;
    assert_eq!(key.only_name(), Some("question_id"));
    // As `samples_METRIC.jsonl` of such references.
    let samples = r#"{"doc_id": 5, "target": "a", "resps": [["a"]], "filtered_resps": ["a"], "question_id": 5}"#;
    assert_eq!(read(samples, &key).unwrap()[0].id, "5");
    assert_eq!(references(&[("r", r#"{"index": 1, "image_id": 2, "answer": "a"}"#)]).unwrap().key.only_name(), None);
}

#[test]
fn boxes_may_be_lists() {
    let found =
        predictions("{\"id\": 1, \"answer\": [10, 1.5e-7, 50, 50]}\n{\"id\": 2, \"answer\": [[1, 2, 3, 4]]}").unwrap();
    assert_eq!(
        (found[0].answer.as_deref(), found[1].answer.as_deref()),
        (Some("[10, 0.00000015, 50, 50]"), Some("[1, 2, 3, 4]"))
    );
    let found = references(&[("r", "{\"id\": 1, \"bbox\": [10, 10, 50, 50]}")]).unwrap();
    assert_eq!(found.rows[0].answers, ["[10,10,50,50]"]);
    assert!(found.notes[0].contains("that of COCO is [x, y, width, height]"), "{:?}", found.notes);
    let coco = told(references(&[("r", "{\"id\": 1, \"bbox\": [300, 10, 50, 50]}")]));
    assert!(coco.contains("[x1, y1, x2, y2]"), "{coco}");
}

#[test]
fn predictions_are_joined_by_the_id_that_the_references_have() {
    // Results of captions as pycocotools' loadRes completes them, with a running id.
    let coco = r#"{"annotations": [{"image_id": 2, "id": 11, "caption": "a dog"},
        {"image_id": 1, "id": 12, "caption": "a cat"}]}"#;
    let found = references(&[("c", coco)]).unwrap();
    let results = r#"[{"image_id": 2, "id": 1, "caption": "dog"}, {"image_id": 1, "id": 2, "caption": "cat"}]"#;
    let results = read(results, &found.key).unwrap();
    let joined = join(&found.rows, &results).unwrap();
    assert_eq!(joined.items.iter().map(|item| item.prediction.unwrap()).collect::<Vec<_>>(), ["dog", "cat"]);
    let null =
        told(read(r#"[{"image_id": 2, "caption": "a"}, {"image_id": null, "id": 1, "caption": "a"}]"#, &found.key));
    assert!(null.contains("entry 2 of the list: no id; its field can be called image_id"), "{null}");
    // Another name is accepted if the rows do not have that of the references.
    assert_eq!(read(r#"{"id": 2, "caption": "dog"}"#, &found.key).unwrap()[0].id, "2");

    // Two questions about one image.
    let rows = concat!(
        r#"{"index": 7, "id": 1, "answer": "a", "image_id": 3}"#,
        "\n",
        r#"{"index": 8, "id": 2, "answer": "a", "image_id": 3}"#
    );
    let of = |name: &str| {
        let rows =
            if name.is_empty() { rows.replace("\"id\": 1, ", "").replace("\"id\": 2, ", "") } else { rows.to_owned() };
        references(&[("r", &rows)]).unwrap().key
    };
    let both = r#"{"id": 9, "index": 7, "prediction": "a"}"#;
    assert_eq!((of("").name(), of("id").name()), ("id", "id"));
    assert_eq!(read(both, &of("")).unwrap()[0].id, "7");
    assert_eq!(read(both, &of("id")).unwrap()[0].id, "9");
    let by_image = told(read(r#"{"image_id": 7, "prediction": "a"}"#, &of("")));
    assert!(
        by_image.starts_with(
            "p, line 1: its id is image_id, but rows are joined by index, because the references also have image_id"
        ),
        "{by_image}"
    );
    let labels = read_labels(Source { name: "l", text: r#"{"id": 9, "index": 7, "label": "yes"}"# }, &of("")).unwrap();
    assert_eq!(labels[0].0, "7");
    // References of two files may have different names.
    let mixed = references(&[("a", r#"{"id": 1, "answer": "a"}"#), ("b", r#"{"index": 2, "answer": "a"}"#)]).unwrap();
    assert_eq!(read(both, &mixed.key).unwrap()[0].id, "9");
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_id() {
    let twice = told(predictions("{\"id\": 1, \"answer\": \"a\"}\n{\"id\": \"1\", \"answer\": \"a\"}"));
    assert!(twice.starts_with("p.jsonl, line 2: id 1 occurs twice, first in p.jsonl, line 1"), "{twice}");
    let twice = told(references(&[("r", "[{\"id\": 1}, {\"id\": 1}]")]));
    assert!(twice.starts_with("r, entry 2 of the list: id 1 occurs twice"), "{twice}");
    let broken = told(predictions("{\"id\": 1, \"answer\": \"a\"}\n{\"id\": 2, \"answer\""));
    assert!(broken.starts_with("p.jsonl, line 2: not JSON"), "{broken}");
    let without = told(predictions("{\"answer\": \"a\"}\n{\"answer\": \"b\"}"));
    assert!(without.contains("line 1: no id") && without.contains("never joined by their order"), "{without}");
    assert!(told(predictions("{\"answer\": \"a\"}")).contains("line 1: no id"));
    let without = told(predictions("{\"id\": 1}"));
    assert!(without.contains("line 1: no answer; its field can be called prediction, pred"), "{without}");
    let list = told(predictions("{\"id\": 1, \"answer\": [\"a\", \"b\"]}"));
    assert!(list.contains("answer is [\"a\",\"b\"], but must be one text"), "{list}");
    assert!(told(predictions("")).contains("p.jsonl has no predictions"));
    assert!(told(predictions("[]")).contains("p.jsonl has no predictions"));
    assert!(told(predictions("3")).contains("p.jsonl: is 3"));
    assert!(told(references(&[("r", "{\"info\": 1}")])).contains("an object with the keys info"));
    let flat = told(references(&[("r", "{\"id\": 1, \"box\": [1, 2]}")]));
    assert!(flat.contains("[x1, y1, x2, y2]"), "{flat}");
}

#[test]
fn unknown_ids_are_errors_and_missing_ones_are_listed() {
    let rows = references(&[("r", "{\"id\": 1, \"answer\": \"a\"}\n{\"id\": 2, \"answer\": \"b\"}")]).unwrap().rows;
    let unknown =
        predictions("{\"id\": 1, \"answer\": \"a\"}\n{\"id\": 9, \"answer\": \"a\"}\n{\"id\": 8, \"answer\": \"a\"}");
    let error = told(join(&rows, &unknown.unwrap()));
    assert!(error.contains("p.jsonl, line 2: id 9 is not among the references, nor is one other"), "{error}");
    let some = predictions("{\"id\": 2, \"answer\": null}\n{\"id\": 1, \"answer\": \"a\"}").unwrap();
    let joined = join(&rows, &some).unwrap();
    assert_eq!((joined.missing, joined.items[0].prediction), (vec!["2"], Some("a")));
}

#[test]
fn labels_are_yes_or_no() {
    let read = |text| read_labels(Source { name: "l", text }, &Key::default());
    let found = read("{\"id\": 1, \"label\": \"Yes\"}\n{\"id\": 2, \"label\": 0}").unwrap();
    assert_eq!(found.iter().map(|(_, yes, _)| *yes).collect::<Vec<_>>(), [true, false]);
    assert!(told(read("{\"id\": 1, \"label\": \"maybe\"}")).contains("must be yes or no"));
}
