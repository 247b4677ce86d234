use super::*;
use crate::server::{Answer, Server};
use crate::{Budget, Endpoint, EndpointConfig, Finish};

fn context() -> Context {
    Context::from_json(&json!({
        "id": 7,
        "image": "a.jpg",
        "captions": ["A dog runs after a ball.", " "],
        "boxes": [{"name": "dog", "box": [0.125, 0.25, 0.5, 0.75]}, {"name": "ball", "box": [0.6, 0.7, 0.7, 0.8]}],
    }))
    .unwrap()
}

fn wanted(kind: Kind) -> Wanted {
    let vocabulary = ["dog", "ball", "frisbee", "person"].map(str::to_owned).into();
    Wanted { kind, language: Language::ENGLISH, vocabulary }
}

fn judge(kind: Kind, text: &str) -> Outcome {
    let reply = Reply { text: text.to_owned(), finish: Finish::Stop, refusal: None, model: None };
    let digest = request(&context(), &wanted(kind)).digest("m");
    let completion = Completion { digest, reply, usage: crate::Usage::default(), is_kept: false };
    judged("m", &context(), &wanted(kind), &completion)
}

fn refuses(kind: Kind, text: &str) -> Option<&'static str> {
    match judge(kind, text) {
        Outcome::Written(_) => None,
        Outcome::Refused(refused) => Some(refused.rule),
        Outcome::Failed(error) => panic!("{error}"),
    }
}

const TALK: &str =
    "Question: What runs?\nAnswer: A dog.\n===\nQuestion: What does it run after?\nAnswer: It runs after a ball.";

#[test]
fn rows_are_read_and_faults_are_named() {
    let context = context();
    assert_eq!((&context.id, context.captions.len(), context.objects.len()), (&json!(7), 1, 2));
    assert!(context.text().contains("A dog runs after a ball.\n\ndog: [0.125, 0.25, 0.5, 0.75]"), "{}", context.text());
    for (row, told) in [
        (json!({"captions": ["a"]}), "no id"),
        (json!({"id": 1}), "neither captions nor boxes"),
        (json!({"id": 1, "captions": "a"}), "not a list of texts"),
        (json!({"id": 1, "boxes": [{"name": "dog", "box": [1, 2, 3]}]}), "is not a box"),
        (
            json!({"id": 1, "boxes": [{"name": "dog", "box": [3, 2, 1, 4]}]}),
            "the box of dog has its right or bottom edge before its left or top edge",
        ),
        (json!([1]), "no id"),
        (json!({"id": 1, "captions": ["a"], "image": 3}), "image is not a path"),
        (json!({"id": 1, "captions": ["a"], "image": ["a.jpg", null]}), "image is not a path"),
        (json!({"id": 1, "captions": ["a"], "image": {"url": "a.jpg"}}), "image is not a path"),
        (json!({"id": 1, "captions": ["a"], "images": [3]}), "images is not a path"),
    ] {
        let error = Context::from_json(&row).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn lines_keep_the_digits_of_ids_and_may_begin_with_a_byte_order_mark() {
    let id = |id: &str| {
        let line = format!("\u{feff}{{\"id\": {id}, \"captions\": [\"a\"]}}");
        Context::from_line(line.as_bytes()).map(|context| context.id)
    };
    assert_eq!(id("\"7\"").unwrap(), json!("7"));
    assert_eq!(id("18446744073709551615").unwrap(), json!(u64::MAX));
    assert_eq!(id("1.5").unwrap(), json!(1.5));
    assert_eq!(id("12345678901234567890123").unwrap(), json!("12345678901234567890123"));
    assert!(id(&"9".repeat(50)).unwrap_err().contains("write it as a text"));
    assert!(id("").unwrap_err().starts_with("invalid JSON"));
}

#[test]
fn every_image_of_a_row_has_its_token() {
    let written =
        Written { turns: turns(Kind::Conversation, TALK), model: "m".to_owned(), request: "digest".to_owned() };
    for (image, tokens) in [
        (json!("a.jpg"), 1),
        (json!(["a.jpg"]), 1),
        (json!(["a.jpg", {"path": "b.jpg"}]), 2),
        (json!({"path": "a.jpg"}), 1),
        (json!(null), 0),
        (json!([]), 0),
        (json!(""), 0),
    ] {
        for (key, other) in [("image", "images"), ("images", "image")] {
            let row = json!({"id": 1, "captions": ["a"], key: image});
            let row = written.row(&Context::from_json(&row).unwrap(), Kind::Conversation);
            let carried = if tokens == 0 { json!(null) } else { image.clone() };
            assert_eq!((&row[key], &row[other]), (&carried, &json!(null)));
            let question = row["conversations"][0]["value"].as_str().unwrap();
            assert_eq!(question, "<image>\n".repeat(tokens) + "What runs?", "{image}");
        }
    }
    let row = json!({"id": 1, "captions": ["a"], "image": "a.jpg", "images": ["b.jpg", "c.jpg"]});
    assert_eq!(Context::from_json(&row).unwrap().number_of_images(), 3);
}

#[test]
fn a_reply_that_a_content_filter_ended_is_refused() {
    let finish = Finish::Other("content_filter".to_owned());
    let reply = Reply { text: "A dog chases a ball.".to_owned(), finish, refusal: None, model: None };
    let wanted = wanted(Kind::Caption);
    let digest = request(&context(), &wanted).digest("m");
    let completion = Completion { digest, reply, usage: crate::Usage::default(), is_kept: false };
    let Outcome::Refused(refused) = judged("m", &context(), &wanted, &completion) else { panic!("it is refused") };
    assert_eq!((refused.id, refused.rule), (json!(7), "filtered"));
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    use Kind::{Caption, Conversation, Description, Reasoning};
    let long = "A dog is in the middle of the picture and runs over the grass. ".repeat(3);
    for (kind, text, rule) in [
        (Caption, "A dog chases a ball.", None),
        (Caption, "\"A dog chases a ball.\"", None),
        (Caption, "As an AI language model I cannot see the dog.", Some("assistant_text")),
        (Caption, "A dog chases a ball.</s>", Some("control_token")),
        (Caption, "<image> A dog chases a ball.", Some("control_token")),
        (Conversation, "Question: What runs?\nAnswer: A dog.<|im_end|>", Some("control_token")),
        (Conversation, "Question: What is in the <image>?\nAnswer: A dog.", Some("control_token")),
        (Caption, " ", Some("empty")),
        (Caption, "The captions say that a dog runs.", Some("source_mentioned")),
        (Caption, "A dog at 0.125 runs after a ball.", Some("source_mentioned")),
        (Caption, "A dog", Some("length")),
        (Caption, "Собака бежит за мячом по зелёной траве.", Some("language")),
        (Caption, "An animal runs.", Some("objects")),
        (Caption, "A dog runs. It wants a ball.", Some("one_sentence")),
        (Caption, "What is the dog doing with the ball?", Some("one_sentence")),
        (Caption, "A dog stands tall and proud, its eyes shining with fierce determination.", Some("drift")),
        (Caption, "A dog is running after some balls.", None),
        (Caption, "A man throws a ball to a dog.", Some("invented_object")),
        (Caption, "A dog runs after a frisbee.", Some("invented_object")),
        (Description, &long, None),
        (Description, "A dog runs.", Some("length")),
        (Conversation, TALK, None),
        (Conversation, "1. **Question:** What runs?\n**Answer:** A dog.\nQ2: And?\nA2: A ball\nrolls.", None),
        (
            Conversation,
            "{\"turns\": [{\"question\": \"What runs?\", \"answer\": \"A dog.\"}, {\"question\": \"After what?\", \"answer\": \"A ball.\"}]}",
            None,
        ),
        (Conversation, "[{\"question\": \"What runs?\", \"answer\": \"\"}]", Some("empty")),
        (Conversation, "There is a dog.", Some("empty")),
        (Conversation, "Question: What runs?\nQuestion: A dog?\nAnswer: A dog.", Some("turns_alternate")),
        (Conversation, "Question: What runs?\nAnswer: A dog.\nQuestion: Why?", Some("turns_alternate")),
        (Conversation, "Question: What runs?\nAnswer: A dog.", Some("length")),
        (
            Conversation,
            "Question: What runs?\nAnswer: A dog.\nQuestion: what runs\nAnswer: A dog.",
            Some("repeated_question"),
        ),
        (
            Reasoning,
            "Question: Why does the dog run?\nAnswer: It wants the ball, since it looks at it, runs towards it and has its mouth open.",
            None,
        ),
        (Reasoning, TALK, Some("length")),
    ] {
        assert_eq!(refuses(kind, text), rule, "{text}");
    }
}

#[test]
fn every_rule_is_tried_and_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    let source = include_str!("tests.rs");
    assert!(names.iter().all(|name| source.contains(&format!("\"{name}\")"))), "{names:?}");
    assert!(RULES.iter().all(|rule| !rule.about.is_empty()));
}

#[test]
fn rows_of_the_output_are_those_of_llava() {
    let Outcome::Written(written) = judge(Kind::Conversation, TALK) else { panic!("it is good") };
    let row = written.row(&context(), Kind::Conversation);
    assert_eq!(row["conversations"][0], json!({"from": "human", "value": "<image>\nWhat runs?"}));
    assert_eq!(row["conversations"][3], json!({"from": "gpt", "value": "It runs after a ball."}));
    assert_eq!((&row["id"], &row["image"], &row["kind"]), (&json!(7), &json!("a.jpg"), &json!("conversation")));
    assert_eq!(
        (&row["generated_by"]["model"], row["generated_by"]["request"].as_str().unwrap().len()),
        (&json!("m"), 64)
    );
    let Outcome::Written(written) = judge(Kind::Caption, "\"A dog chases a ball.\"") else { panic!("it is good") };
    assert_eq!(written.row(&context(), Kind::Caption)["caption"], "A dog chases a ball.");
}

#[test]
fn every_row_has_an_outcome_until_the_work_is_stopped() {
    let server = Server::start(|_, request| {
        let facts = request["messages"][1]["content"].as_str().unwrap();
        match &facts[..facts.find('\n').unwrap()] {
            "one" => Answer::says("One is here."),
            "two" => Answer::finishes("Two things are", "length"),
            "three" => Answer::of(400, "", "too odd"),
            _ => Answer::of(401, "", "the key has expired"),
        }
    });
    let client =
        Client::new(Endpoint::new(EndpointConfig::new(&server.address, "m")).unwrap(), None, Budget::unlimited("m"));
    let contexts: Vec<Context> = ["one", "two", "three", "four", "five"]
        .map(|caption| Context::from_json(&json!({"id": caption, "captions": [caption]})).unwrap())
        .into();
    assert_eq!(estimate(&client, &contexts, &wanted(Kind::Caption)).requests, 5);
    let mut told = Vec::new();
    let keep = |place: usize, outcome| {
        let outcome = match outcome {
            Outcome::Written(written) => written.turns[0].text.clone(),
            Outcome::Refused(refused) => {
                assert_eq!(refused.rule, "cut");
                format!("cut: {}", refused.text)
            }
            Outcome::Failed(error) => format!("for all: {}", error.is_for_all()),
        };
        told.push(format!("{}: {outcome}", contexts[place].id.as_str().unwrap()));
        Ok::<(), Error>(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(write_all(&client, &contexts, &wanted(Kind::Caption), 1, keep)).unwrap();
    let expected = ["one: One is here.", "two: cut: Two things are", "three: for all: false", "four: for all: true"];
    assert_eq!(told, expected);
    let system = server.requests()[0]["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(system.contains("a single plain sentence") && system.contains("do not mention captions"), "{system}");
}
