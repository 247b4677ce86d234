use super::*;
use crate::server::{Answer as Served, Server};
use crate::{Budget, Cache, Endpoint, EndpointConfig};

fn task() -> Task {
    let by_hand = |id: &str, text: &str| ByHand { id: id.to_owned(), text: text.to_owned() };
    Task {
        description: "a question about a picture".to_owned(),
        slots: vec!["question".to_owned()],
        media: Media::Image,
        answer: AnswerShape::Phrase,
        language: Language::ENGLISH,
        wordings: vec![
            by_hand("a", "{{ question }} Keep the answer short."),
            by_hand("b", "Look at the image and reply in a word or two: {{ question }}"),
            by_hand("c", "Question: {{ question }}\nShort answer:"),
            by_hand("d", "{{ question }} There is no need for a full sentence; be brief."),
        ],
        answers: vec!["two dogs".to_owned(), "no".to_owned()],
    }
}

fn refuse(task: &Task, variant: Variant, text: &str) -> Option<&'static str> {
    let kept: Vec<String> = task.wordings.iter().map(|wording| wording.text.clone()).collect();
    rules::refuse(&rules::Context { task, variant, kept: &kept }, text).map(|(rule, _)| rule)
}

#[test]
fn each_rule_refuses_what_it_is_for() {
    let task = task();
    for (text, rule) in [
        ("Here are 15 instructions, all brief: {{ question }}", Some("meta_text")),
        ("I'm sorry, but I cannot help with that.", Some("meta_text")),
        ("Follow the instruction briefly: {{ question }}", Some("meta_text")),
        ("Briefly answer {{ question }} about {{ object }}.", Some("new_placeholder")),
        ("Briefly answer [question] for this image.", Some("new_placeholder")),
        ("Briefly answer {question} for this image.", Some("new_placeholder")),
        ("{% if x %}Briefly{% endif %} answer {{ question }}", Some("new_placeholder")),
        ("<image> Briefly answer this: {{ question }}", Some("new_placeholder")),
        ("Briefly say what is asked about the photo.", Some("slots")),
        ("{{ question }} Be brief. {{ question }}", Some("slots")),
        ("{{ question }} Reply briefly, as in two dogs.", Some("leaked_answer")),
        ("Question: {{ question }} Short answer: a red bus", Some("leaked_answer")),
        ("Briefly: {{ question }}", Some("length")),
        ("Пожалуйста, ответьте коротко на вопрос об изображении: {{ question }}", Some("language")),
        ("Answer in a complete sentence, only about the photo: {{ question }}", Some("answer_shape")),
        ("Answer with Yes or No only, please: {{ question }}", Some("answer_shape")),
        ("Explain with few words what is asked here: {{ question }}", Some("answer_shape")),
        ("Tell me what the photo says of this: {{ question }}", Some("answer_shape")),
        ("After watching the clip, reply briefly: {{ question }}", Some("media")),
        ("look at the IMAGE, and reply in a word or two: {{ question }}", Some("near_duplicate")),
        ("Going by the photo, give a concise response: {{ question }}", None),
        ("{{ question }} Answer without a sentence, in as few words as you can.", None),
    ] {
        assert_eq!(refuse(&task, Variant::SameMeaning, text), rule, "{text}");
    }
    let text = "Going by the photo, give a concise response: {{ question }}";
    assert_eq!(refuse(&task, Variant::Politer, text), Some("variant"));
    assert_eq!(refuse(&task, Variant::Question, text), Some("variant"));
    assert_eq!(refuse(&task, Variant::Shorter, text), None);
    let german = Variant::Language(Language::new("de").unwrap());
    assert_eq!(refuse(&task, german, text), Some("language"));
    assert_eq!(refuse(&task, german, "Beantworte die Frage zum Bild kurz: {{ question }}"), None);
}

#[test]
fn every_rule_is_tried_above_and_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
    assert!(RULES.iter().all(|rule| !rule.about.is_empty()));
    let source = include_str!("tests.rs");
    assert!(names.iter().all(|name| source.contains(&format!("Some(\"{name}\")"))), "{names:?}");
}

#[test]
fn media_words_follow_the_task() {
    let refuse = |media, text| refuse(&Task { media, ..task() }, Variant::SameMeaning, text);
    let (image, video) =
        ("Briefly, going by this photo: {{ question }}", "Briefly, going by this clip: {{ question }}");
    assert_eq!((refuse(Media::Image, image), refuse(Media::Image, video)), (None, Some("media")));
    assert_eq!((refuse(Media::Video, image), refuse(Media::Video, video)), (Some("media"), None));
    assert_eq!((refuse(Media::None, image), refuse(Media::None, video)), (Some("media"), Some("media")));
}

/// The rules are made for texts of models. They must refuse few texts of people; this share shows
/// how often a good wording is lost.
#[test]
fn few_wordings_of_the_shipped_banks_are_refused() {
    let (mut refused, mut judged): (Vec<String>, usize) = (Vec::new(), 0);
    for bank in lynxdata_prompts::Banks::shipped().unwrap().iter() {
        // A wording with a system message may have the words that the rules look for in that
        // message.
        let stands_alone = |template: &&lynxdata_prompts::Template| {
            template.language == "en" && template.system.is_none() && template.text.split_whitespace().count() > 5
        };
        for template in bank.templates.iter().filter(stands_alone) {
            let (shape, media) = (template.answer[0], template.media[0]);
            let others = bank.templates.iter().filter(|other| other.id != template.id && other.answer.contains(&shape));
            let wordings: Vec<ByHand> =
                others.map(|other| ByHand { id: other.id.clone(), text: other.text.clone() }).collect();
            let kept: Vec<String> = wordings.iter().map(|wording| wording.text.clone()).collect();
            let task = Task { slots: template.slots.clone(), answer: shape, media, wordings, ..task() };
            let context = rules::Context { task: &task, variant: Variant::SameMeaning, kept: &kept };
            // A slot filter that only one wording has is new compared with the others.
            let told = rules::refuse(&context, &template.text).filter(|(rule, _)| *rule != "new_placeholder");
            refused.extend(told.map(|(rule, why)| format!("{} {rule}, {why}: {}", bank.name, template.text)));
            judged += 1;
        }
    }
    assert!(judged > 1000, "{judged}");
    assert!(refused.len() * 50 <= judged, "{} of {judged} are refused:\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn the_request_has_the_meta_prompt_of_the_paper() {
    let planned = task().plan(&Wanted { count: 20, variants: vec![Variant::SameMeaning], date: String::new() });
    assert_eq!(planned.len(), 8);
    assert_eq!((planned[0].parents.join(""), planned[1].parents.join("")), ("abc".to_owned(), "dab".to_owned()));
    let crate::Part::Text(text) = &planned[0].request.messages[0].parts[0] else { unreachable!() };
    let start = "Here are some instructions that define a visual-language task. Continue to write 15 instructions with the same meaning: 1) {{ question }} Keep the answer short.; 2) Look at";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("has {{ question }} exactly once") && text.contains("a word or a short phrase"), "{text}");
}

#[test]
fn too_few_wordings_and_wrong_slots_are_told() {
    let mut few = task();
    few.wordings.truncate(2);
    assert_eq!(few.check().unwrap_err().to_string(), "there are 2 handwritten wordings, but 3 or more are needed");
    let wrong = Task { slots: vec!["caption".to_owned()], ..task() };
    assert!(wrong.check().unwrap_err().to_string().starts_with("the wording a has the slots"));
}

fn run(client: &Client, count: usize) -> Generated {
    let wanted = Wanted { count, variants: Variant::ALL.to_vec(), date: "2026-11-29".to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(generate(client, &task(), &wanted)).unwrap()
}

#[test]
fn wordings_are_generated_checked_and_written_as_a_bank() {
    let server = Server::start(|number, _| match number {
        // The first reply has broken slots and repeats itself.
        0 => Served::says(
            "Sure!\n4) Going by the photo, give a concise response: {{question}}\n5) Going by the photo, give a concise response: {{question}}\n6) Answer briefly.\n7) In a full sentence: {{ question }}",
        ),
        1 => Served::json(
            200,
            &serde_json::json!({"choices": [{"message": {"content": null, "refusal": "I can't do that."}}]}),
        ),
        2 => Served::finishes("{\"instructions\": [\"{{ question }} Brie", "length"),
        3 => Served::says("{\"instructions\": [\"What can be said in a few words on this? {{ question }}\"]}"),
        4 => Served::of(400, "", "too long"),
        _ => Served::finishes("1) Please be so kind and tell me shortly: {{ question }}\n2) Kindly tell", "length"),
    });
    let folder = tempfile::tempdir().unwrap();
    let config = EndpointConfig::new(&server.address, "m");
    let client = |cache| Client::new(Endpoint::new(config.clone()).unwrap(), Some(cache), Budget::unlimited("m"));
    let cached = || Cache::open(folder.path()).unwrap();
    let generated = run(&client(cached()), 3);
    assert!(generated.stopped.is_none(), "{:?}", generated.stopped);
    let texts: Vec<&str> = generated.accepted.iter().map(|wording| wording.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "Going by the photo, give a concise response: {{ question }}",
            "What can be said in a few words on this? {{ question }}",
        ],
        "the fifth request was for polite ones and refused; 3 were wanted: {:?}",
        generated.refused
    );
    assert_eq!((generated.replies, generated.failed.len()), (4, 1));
    let refusals: Vec<(&str, usize)> = generated.refusals().into_iter().collect();
    assert_eq!(refusals, [("answer_shape", 1), ("meta_text", 1), ("near_duplicate", 1), ("slots", 1)]);
    assert_eq!(
        generated.accepted[0].id,
        format!("going_by_the_photo_{}", &blake3::hash(texts[0].as_bytes()).to_hex()[..6])
    );

    let toml = bank_toml(&task(), &generated.accepted);
    let bank: toml::Table = toml::from_str(&toml).unwrap();
    let first = &bank["templates"][0];
    assert_eq!((first["answer"].as_str(), first["language"].as_str()), (Some("phrase"), Some("en")));
    let origin = &first["origin"];
    assert_eq!((origin["model"].as_str(), origin["date"].as_str()), (Some("m"), Some("2026-11-29")));
    assert_eq!((origin["request"].as_str().unwrap().len(), origin["parents"][2].as_str()), (64, Some("c")));

    let sent = server.requests().len();
    let replayed = run(&Client::replay("m", cached()), 3);
    assert_eq!((replayed.accepted, replayed.failed.len()), (generated.accepted, 1));
    assert_eq!((sent, server.requests().len()), (5, 0));
}

#[test]
fn what_stops_the_run_is_told_beside_what_came_before() {
    let server = Server::start(|number, _| match number {
        0 => Served::says("1) Going by the photo, give a concise response: {{ question }}"),
        _ => Served::of(401, "", "no such key"),
    });
    let endpoint = Endpoint::new(EndpointConfig::new(&server.address, "m")).unwrap();
    let generated = run(&Client::new(endpoint, None, Budget::unlimited("m")), 30);
    assert_eq!((generated.accepted.len(), server.requests().len()), (1, 2));
    assert!(matches!(generated.stopped, Some(Error::KeyRefused { .. })));
}
