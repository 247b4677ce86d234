//! `lynxdata eval`: scores by category, messages about bad files, a judge and a model on a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::machine::shared;
use crate::support::{files, lynxdata, repository};

/// A server with chat completions on the loopback interface; it ends with the process.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    /// `answer` returns status and text for the number of a request, from 0, and its question.
    pub(crate) fn start(answer: fn(usize, &str) -> (u16, String)) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that disconnects early is ignored.
                serve(stream, &seen, answer).unwrap_or_default();
            }
        });
        Server { address, requests }
    }

    /// Returns the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Value> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Value>>, answer: fn(usize, &str) -> (u16, String)) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut length, mut authorization) = (0, String::new());
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or_default(),
            "authorization" => value.clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut request: Value = serde_json::from_slice(&body)?;
    let content = request["messages"].as_array().and_then(|messages| Some(messages.last()?["content"].clone()));
    let content = content.unwrap_or_default();
    let asked =
        content.as_str().or_else(|| content.as_array()?.last()?["text"].as_str()).unwrap_or_default().to_owned();
    request["path"] = json!(first.split(' ').nth(1));
    request["authorization"] = json!(authorization);
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request);
        seen.len() - 1
    };
    let (status, text) = answer(number, &asked);
    let body = match status {
        // A whole body, for replies that are not texts.
        200 if text.starts_with("{\"choices\"") => text,
        200 => json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).to_string(),
        _ => text,
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(crate) fn write_lines(path: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path, lines.concat()).unwrap();
}

/// Writes four questions of three categories about three images.
fn references(folder: &Path) {
    write_lines(
        &folder.join("r.jsonl"),
        &[
            json!({"id": 1, "question": "How many dogs?", "answers": ["2"], "category": "Counting", "image": "a.jpg"}),
            json!({"id": 2, "question": "What is written?", "answers": ["STOP"], "category": "OCR", "image": "a.jpg"}),
            json!({"id": 3, "question": "What colour?", "answers": ["red"], "category": "Color", "image": "b.jpg"}),
            json!({"id": 4, "question": "How many cats?", "answers": ["1"], "category": "Counting", "image": "c.jpg"}),
        ],
    );
}

#[test]
fn scores_are_told_by_category_with_intervals_and_missing_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    references(folder);
    let answers =
        [json!({"id": 1, "answer": "2."}), json!({"id": "2", "answer": "stop"}), json!({"id": 3, "answer": null})];
    write_lines(&folder.join("p.jsonl"), &answers);
    let arguments = ["eval", "--metric", "exact_match", "--predictions", "p.jsonl", "--references", "r.jsonl"];
    let table = lynxdata(folder, &[&arguments[..], &["--out", "scores"]].concat()).ended_with(0).stdout;
    let rows: Vec<&str> = table.lines().take(5).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(rows, ["category", "OCR", "Counting", "Color", "all"], "the order of the Lynx paper: {table}");
    assert!(table.contains("2 of 4 questions have no prediction and count as wrong: 3, 4\n"), "{table}");

    let told = lynxdata(folder, &[&arguments[..], &["--json"]].concat()).ended_with(0).json();
    let all = &told["groups"][3];
    assert_eq!(
        (&all["questions"], &all["clusters"], &all["figures"][0]["value"]),
        (&json!(4), &json!(3), &json!(50.0))
    );
    assert_eq!(told["missing"], json!(["3", "4"]));
    let written: Value = serde_json::from_slice(&std::fs::read(folder.join("scores/results.json")).unwrap()).unwrap();
    assert_eq!(written, told, "the same seed gives the same intervals");
    let samples = std::fs::read_to_string(folder.join("scores/samples_exact_match.jsonl")).unwrap();
    let first: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    let expected =
        json!({"doc_id": 1, "target": "2", "resps": [["2."]], "filtered_resps": ["2."], "exact_match": 100.0});
    assert_eq!(first, expected);
    assert_eq!(samples.lines().count(), 4);

    let strict = lynxdata(folder, &[&arguments[..], &["--strict", "--json"]].concat()).ended_with(0).json();
    assert_eq!(strict["groups"][3]["figures"][0]["value"], json!(0.0));
}

#[test]
fn bad_files_and_contradictions_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    references(folder);
    let eval = |answers: &[Value], more: &[&str]| {
        write_lines(&folder.join("p.jsonl"), answers);
        let arguments = ["eval", "--predictions", "p.jsonl", "--references", "r.jsonl"];
        lynxdata(folder, &[&arguments[..], more].concat())
    };
    let one = json!({"id": 1, "answer": "2"});
    let metric = ["--metric", "exact_match"];
    eval(&[one.clone(), json!({"id": 7, "answer": "x"})], &metric)
        .ended_with(1)
        .says(&["p.jsonl, line 2: id 7 is not among the references"]);
    eval(&[one.clone(), one.clone()], &metric).ended_with(1).says(&["p.jsonl, line 2: id 1 occurs twice"]);
    eval(&[json!({"answer": "x"})], &metric)
        .ended_with(1)
        .says(&["p.jsonl, line 1: no id; its field can be called question_id"]);
    eval(std::slice::from_ref(&one), &["--metric", "pope"])
        .ended_with(1)
        .says(&["r.jsonl, line 1: id 1: pope needs one answer, yes or no"]);
    eval(std::slice::from_ref(&one), &["--metric", "cider", "--strict"])
        .ended_with(2)
        .says(&["cider has no strict variant"]);
    eval(std::slice::from_ref(&one), &["--metric", "judge"]).ended_with(2).says(&["--endpoint URL --judge-model NAME"]);
    eval(std::slice::from_ref(&one), &["--metric", "vqa_accuracy"]).ended_with(0);
    let note = eval(&[one], &["--metric", "vqa_accuracy"]).stdout;
    assert!(note.contains("4 questions have fewer than 4 answers"), "{note}");
}

#[test]
fn a_judge_that_never_says_yes_or_no_gives_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    references(folder);
    write_lines(&folder.join("p.jsonl"), &[json!({"id": 1, "answer": "two"})]);
    let server = Server::start(|_, _| (200, "Hard to say.".to_owned()));
    let eval = ["eval", "--metric", "judge", "--predictions", "p.jsonl", "--references", "r.jsonl"];
    let judge = ["--endpoint", &server.address, "--judge-model", "m"];
    lynxdata(folder, &[&eval[..], &judge].concat()).ended_with(1).says(&["no reply of the judge is yes or no"]);

    write_lines(&folder.join("labels.jsonl"), &[json!({"id": 1, "label": "yes"})]);
    let labels = ["--labels", "labels.jsonl"];
    let table = lynxdata(folder, &[&eval[..], &judge, &labels].concat()).ended_with(1).stdout;
    assert!(table.contains("- agreement with people: no question could be compared\n"), "{table}");
}

#[test]
fn a_judge_is_asked_once_and_compared_with_people() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    references(folder);
    let answers = ["two", "go", "crimson", "one"].into_iter().enumerate();
    let answers: Vec<Value> = answers.map(|(index, answer)| json!({"id": index + 1, "answer": answer})).collect();
    write_lines(&folder.join("p.jsonl"), &answers);
    let labels = [("yes", 1), ("no", 2), ("yes", 3), ("no", 4)].map(|(label, id)| json!({"id": id, "label": label}));
    write_lines(&folder.join("labels.jsonl"), &labels);
    let server = Server::start(|_, asked| {
        let reply = ["\"two\"", "\"one\""].iter().any(|answer| asked.contains(answer));
        let reply = if asked.contains("crimson") { "Hard to say." } else { ["No.", "Yes."][usize::from(reply)] };
        (200, reply.to_owned())
    });
    let arguments = [
        "eval",
        "--metric",
        "judge",
        "--predictions",
        "p.jsonl",
        "--references",
        "r.jsonl",
        "--endpoint",
        &server.address,
        "--judge-model",
        "m",
        "--labels",
        "labels.jsonl",
        "--out",
        "scores",
        "--json",
    ];
    let told = lynxdata(folder, &arguments).ended_with(0).json();
    // Of three clear replies two are yes.
    let accuracy = told["groups"][3]["figures"][0]["value"].as_f64().unwrap();
    assert!((accuracy - 200.0 / 3.0).abs() < 1e-9, "{told:#}");
    assert!(
        told["notes"][0]
            .as_str()
            .unwrap()
            .contains("1 replies of the judge are neither yes nor no, such as that for id 3")
    );
    let agreement = &told["judge"]["agreement"];
    assert_eq!(agreement["counts"], json!([1, 1, 0, 1]), "{told:#}");
    // Agreement 2/3, by chance (2·1 + 1·2)/9: (6/9 - 4/9) / (5/9).
    assert!((agreement["kappa"].as_f64().unwrap() - 0.4).abs() < 1e-9);

    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    let prompt =
        "Given the question \"How many dogs?\", does the answer \"two\" imply the answer \"2\"? Answer with Yes or No.";
    let first = requests.iter().find(|request| request["messages"][0]["content"] == prompt).unwrap();
    assert_eq!(
        (&first["temperature"], &first["model"], &first["path"]),
        (&json!(0.0), &json!("m"), &json!("/v1/chat/completions"))
    );

    let again = lynxdata(folder, &arguments).ended_with(0).json();
    assert_eq!((server.requests().len(), &again["groups"]), (0, &told["groups"]), "replies are kept");
}

#[test]
fn a_model_is_asked_with_pictures_and_goes_on_after_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    references(folder);
    let pictures = repository().join("examples/quickstart/images");
    let picture = pictures.join(
        files(&pictures)
            .into_iter()
            .find(|name| Path::new(name).extension().is_some_and(|suffix| suffix == "jpg"))
            .unwrap(),
    );
    std::fs::create_dir(folder.join("images")).unwrap();
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        std::fs::copy(&picture, folder.join("images").join(name)).unwrap();
    }
    // The server is busy at the first request; the question about colours is refused in the first
    // run.
    let server = Server::start(|number, asked| match number {
        0 => (503, "busy".to_owned()),
        number if asked.starts_with("What colour?") && number < 5 => (400, "{\"error\": \"no colours\"}".to_owned()),
        _ => (200, if asked.starts_with("How many dogs?") { "2" } else { "red" }.to_owned()),
    });
    let arguments = [
        "eval",
        "--ask",
        &server.address,
        "--model",
        "m",
        "--images",
        "images",
        "--references",
        "r.jsonl",
        "--out",
        "out",
        "--metric",
        "exact_match",
        "--instruction",
        "One word.",
        "--requests",
        "1",
        "--json",
    ];
    lynxdata(folder, &arguments)
        .ended_with(1)
        .says(&["1 of 4 questions got no reply, the first for id 3", "no colours"]);
    let answers = || std::fs::read_to_string(folder.join("out/predictions.jsonl")).unwrap();
    assert_eq!(answers().lines().count(), 3);
    let requests = server.requests.lock().unwrap().clone();
    let url = requests[1]["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap();
    assert!(url.starts_with("data:image/") && url.len() > 100, "{}", &url[..40]);
    assert_eq!(requests[1]["messages"][0]["content"][1]["text"], "How many dogs?\nOne word.");

    // As after a kill in the middle of a line.
    std::fs::write(folder.join("out/predictions.jsonl"), answers() + "{\"id\": \"3\", \"ans").unwrap();
    let told = lynxdata(folder, &arguments).ended_with(0).json();
    assert_eq!(server.requests().len(), 6, "one question was left to ask");
    assert_eq!(told["groups"][3]["figures"][0]["value"], json!(50.0), "{told:#}");

    // Other paths of the same folder.
    let absolute = folder.join("images").display().to_string();
    for path in ["./images/", &absolute] {
        let same = arguments.map(|argument| if argument == "images" { path } else { argument });
        lynxdata(folder, &same).ended_with(0);
    }
    assert_eq!(server.requests().len(), 0, "nothing is left to ask");

    let other = arguments.map(|argument| if argument == "m" { "n" } else { argument });
    lynxdata(folder, &other).ended_with(1).says(&["model = \"m\", but now model is \"n\"; name another --out"]);
    write_lines(&folder.join("r.jsonl"), &[json!({"id": 1, "question": "q", "answers": ["2"], "image": "../p.jsonl"})]);
    let elsewhere = arguments.map(|argument| if argument == "out" { "elsewhere" } else { argument });
    lynxdata(folder, &elsewhere).ended_with(1).says(&["../p.jsonl is not below images; files outside it are not sent"]);
}

#[test]
fn a_null_prediction_counts_as_missing_and_rows_of_the_table_have_different_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ids = [json!("7"), json!("07"), json!("+7")];
    let categories = ["all", "a\nb\u{1b}[2J", "c"];
    let rows = ids.iter().zip(categories);
    let rows = rows.map(|(id, category)| json!({"id": id, "answers": ["two"], "category": category}));
    write_lines(&folder.join("r.jsonl"), &rows.collect::<Vec<_>>());
    let answers = ids.iter().map(|id| json!({"id": id, "prediction": null, "answer": "two"}));
    write_lines(&folder.join("p.jsonl"), &answers.collect::<Vec<_>>());
    let arguments = ["eval", "--metric", "exact_match", "--predictions", "p.jsonl", "--references", "r.jsonl"];
    let table = lynxdata(folder, &[&arguments[..], &["--out", "scores"]].concat()).ended_with(0).stdout;
    assert!(table.contains("3 of 3 questions have no prediction and count as wrong: 7, 07, +7\n"), "{table}");
    let names: Vec<&str> = table.lines().skip(1).take(4).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(names, ["category \"all\"", "a\\nb\\u{1b}[2J", "c", "all"], "{table}");
    let samples = std::fs::read_to_string(folder.join("scores/samples_exact_match.jsonl")).unwrap();
    let lines = samples.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["doc_id"].clone());
    assert_eq!(lines.collect::<Vec<_>>(), [json!(7), json!("07"), json!("+7")]);
}

#[test]
fn answers_are_only_kept_for_the_same_questions_and_cut_ones_are_reported_by_every_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let ask = |questions: [&str; 3]| {
        let rows = questions.iter().enumerate();
        let rows = rows.map(|(id, question)| json!({"id": id, "question": question, "answers": ["a"]}));
        write_lines(&folder.join("r.jsonl"), &rows.collect::<Vec<_>>());
    };
    let server = Server::start(|number, asked| match asked {
        "long" => (200, json!({"choices": [{"message": {"content": "a a"}, "finish_reason": "length"}]}).to_string()),
        "refused" if number < 3 => (400, "{\"error\": \"not now\"}".to_owned()),
        "nothing" => (200, String::new()),
        _ => (200, "a".to_owned()),
    });
    let arguments = ["eval", "--ask", &server.address, "--model", "m", "--references", "r.jsonl", "--out", "out"];
    let arguments = [&arguments[..], &["--metric", "exact_match", "--requests", "1"]].concat();
    ask(["long", "nothing", "refused"]);
    lynxdata(folder, &arguments).ended_with(1).says(&["1 of 3 questions got no reply, the first for id 2"]);
    for requests in [4, 0] {
        lynxdata(folder, &arguments).ended_with(0).says(&["1 answers were cut at 256 tokens", "1 answers are empty"]);
        assert_eq!(server.requests().len(), requests, "the rest was asked once");
    }

    // Another file with the same questions is fine, the same file with others is not.
    std::fs::copy(folder.join("r.jsonl"), folder.join("copy.jsonl")).unwrap();
    let copied: Vec<&str> =
        arguments.iter().map(|text| if *text == "r.jsonl" { "copy.jsonl" } else { *text }).collect();
    lynxdata(folder, &copied).ended_with(0);
    std::fs::create_dir(folder.join("images")).unwrap();
    lynxdata(folder, &[&arguments[..], &["--images", "images"]].concat())
        .ended_with(1)
        .says(&["out holds answers with images = null, but now images is \"images\"; name another --out"]);
    ask(["long", "nothing", "another one"]);
    lynxdata(folder, &arguments).ended_with(1).says(&["out holds answers to other questions", "name another --out"]);
    // An older version did not save what was asked. Its answers can still be scored.
    let asked = folder.join("out/asked.json");
    let mut older: Value = serde_json::from_slice(&std::fs::read(&asked).unwrap()).unwrap();
    older.as_object_mut().unwrap().remove("questions");
    std::fs::write(&asked, older.to_string()).unwrap();
    let predictions = Path::new("out").join("predictions.jsonl").display().to_string();
    lynxdata(folder, &arguments)
        .ended_with(1)
        .says(&["answers of an older version", &format!("--predictions {predictions} scores them")]);
    let scored =
        ["eval", "--predictions", &predictions, "--references", "r.jsonl", "--metric", "exact_match", "--json"];
    let told = lynxdata(folder, &scored).ended_with(0).json();
    assert_eq!(told["groups"][0]["questions"], json!(3));
    assert_eq!(server.requests().len(), 0, "nothing is asked for a folder that is refused");
}

#[test]
fn answers_of_a_model_are_joined_by_the_id_that_they_were_saved_with() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = [(1, 2, "a"), (2, 1, "b")];
    let rows = rows.map(
        |(question_id, id, text)| json!({"question_id": question_id, "id": id, "question": text, "answers": [text]}),
    );
    write_lines(&folder.join("r.jsonl"), &rows);
    let server = Server::start(|_, asked| (200, asked.to_owned()));
    let eval = ["eval", "--references", "r.jsonl", "--metric", "exact_match", "--json"];
    let score = |more: &[&str]| {
        let told = lynxdata(folder, &[&eval[..], more].concat()).ended_with(0).json();
        told["groups"][0]["figures"][0]["value"].clone()
    };
    assert_eq!(score(&["--ask", &server.address, "--model", "m", "--out", "out"]), json!(100.0));
    assert_eq!(score(&["--predictions", "out/predictions.jsonl"]), json!(100.0));
    write_lines(&folder.join("p.jsonl"), &[json!({"id": 2, "answer": "a"}), json!({"id": 1, "answer": "b"})]);
    assert_eq!(score(&["--predictions", "p.jsonl"]), json!(100.0));
}

#[test]
fn official_files_are_scored_as_they_are() {
    let Some(tasks) = shared("data/tasks") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (metric, file, id, answer, questions) in [
        ("exact_match", "open_vqa/Open_VQA_images.jsonl", "index", "answer", 302),
        ("exact_match", "open_vqa/Open_VQA_videos.jsonl", "index", "answer", 148),
        ("pope", "pope/coco_pope_adversarial.json", "question_id", "label", 600),
    ] {
        let text = std::fs::read_to_string(tasks.join(file)).unwrap();
        let right = text.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            json!({"id": row[id], "answer": row[answer]})
        });
        write_lines(&folder.join("p.jsonl"), &right.collect::<Vec<_>>());
        let references = tasks.join(file);
        let arguments = ["eval", "--metric", metric, "--predictions", "p.jsonl", "--json", "--references"];
        let told = lynxdata(folder, &[&arguments[..], &[references.to_str().unwrap()]].concat()).ended_with(0).json();
        let all = told["groups"].as_array().unwrap().last().unwrap();
        assert_eq!((&all["questions"], &all["figures"][0]["value"]), (&json!(questions), &json!(100.0)), "{file}");
        // Even if all answers are right, the interval is not empty: see the exact interval in
        // `interval.rs`.
        assert!(all["figures"][0]["interval"][0].as_f64().unwrap() < 100.0, "{file}");
    }
}
