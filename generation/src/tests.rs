//! Tests of the client against a server that misbehaves in many ways.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{Answer, Server};
use crate::{
    Budget, Cache, Client, Dollars, Endpoint, EndpointConfig, Error, Finish, Message, Prices, Request, Result, Role,
    Schema, Usage,
};

const KEY: &str = "sk-s3cret-0123";

fn request(text: &str) -> Request {
    let messages = vec![Message::text(Role::User, text)];
    Request { messages, max_tokens: 100, temperature: 0.0, seed: None, schema: None }
}

fn config(server: &Server) -> EndpointConfig {
    EndpointConfig { pause: Duration::from_millis(1), ..EndpointConfig::new(&server.address, "m") }
}

fn client_of(config: EndpointConfig, cache: Option<Cache>, budget: Budget) -> Client {
    Client::new(Endpoint::with_key_for_tests(config, KEY), cache, budget)
}

fn client(server: &Server) -> Client {
    client_of(config(server), None, Budget::unlimited("m"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn ask(client: &Client, text: &str) -> Result<String> {
    block_on(client.complete(&request(text))).map(|completion| completion.reply.text)
}

/// Returns the error of one request to a server that always gives this answer, and the number of
/// requests that the server received.
fn fails(answer: impl Fn() -> Answer + Send + Sync + 'static) -> (Error, usize) {
    let server = Server::start(move |_, _| answer());
    let error = ask(&client(&server), "a").unwrap_err();
    let chain = format!("{error} {error:?}");
    assert!(!chain.contains(KEY), "{chain}");
    (error, server.requests().len())
}

#[test]
fn a_reply_comes_with_its_tokens() {
    let server = Server::start(|_, _| Answer::says("two words"));
    let completion = block_on(client(&server).complete(&request("hello"))).unwrap();
    assert_eq!((completion.reply.text.as_str(), completion.reply.finish), ("two words", Finish::Stop));
    assert_eq!((completion.usage, completion.is_kept), (Usage { input: 10, output: 2 }, false));
    assert_eq!(completion.reply.model.unwrap(), "m-2026");
    let asked = &server.requests()[0];
    assert_eq!(asked["path"], "/v1/chat/completions");
    assert_eq!(asked["authorization"], format!("Bearer {KEY}"));
    assert_eq!((&asked["model"], &asked["max_tokens"]), (&json!("m"), &json!(100)));
}

#[test]
fn a_busy_server_is_asked_again() {
    let server = Server::start(|number, _| match number {
        0 => Answer::of(429, "retry-after: 0.2\r\n", "slow down"),
        1 => Answer::of(500, "", "oops"),
        2 => Answer::of(503, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""),
        _ => Answer::says("at last"),
    });
    let start = Instant::now();
    assert_eq!(ask(&client(&server), "a").unwrap(), "at last");
    assert!(start.elapsed() >= Duration::from_millis(200), "what the server asks for is waited");
    let (error, requests) = fails(|| Answer::of(502, "", "bad gateway"));
    assert_eq!((error.to_string().contains("502, tried 4 times: bad gateway"), requests), (true, 4));
    assert!(!error.is_for_all());
}

#[test]
fn a_pause_that_is_too_long_ends_the_run() {
    let (error, requests) = fails(|| Answer::of(429, "retry-after: 3600\r\n", ""));
    assert!(error.to_string().ends_with("asks to wait 3600 s; run the same command again after that time"), "{error}");
    assert_eq!((error.is_for_all(), requests), (true, 1));
}

#[test]
fn what_is_wrong_for_all_is_not_tried_again() {
    let cases: [(u16, &str, &str, &str); 8] = [
        (
            401,
            "",
            "Incorrect API key provided: sk-s3cret-0123",
            "refuses the key (401): Incorrect API key provided: [key]",
        ),
        (403, "", "no", "refuses the key (403)"),
        (402, "", "pay", "has no credit left (402): pay"),
        (429, "", "{\"error\": {\"code\": \"insufficient_quota\"}}", "has no credit left (429)"),
        (404, "", "The model `m` does not exist", "has no model m (404)"),
        (400, "", "{\"code\": \"model_not_found\"}", "has no model m (400)"),
        (404, "", "<h1>Nothing here</h1>", "check that this is the URL of chat completions"),
        (
            307,
            "location: https://elsewhere.example/?k=sk-s3cret-0123\r\n",
            "",
            "redirects to https://elsewhere.example/?k=[key]; give",
        ),
    ];
    for (status, head, body, told) in cases {
        let (error, requests) = fails(move || Answer::of(status, head, body));
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!((error.is_for_all(), requests), (true, 1), "{told}");
    }
    let (error, _) = fails(|| Answer::of(200, "content-type: text/html\r\n", "<html>Welcome</html>"));
    assert!(error.is_for_all() && error.to_string().contains("text/html: <html>Welcome"), "{error}");
}

#[test]
fn nobody_at_the_address_is_for_all() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = EndpointConfig { pause: Duration::from_millis(1), ..EndpointConfig::new(&address, "m") };
    let client = client_of(config, None, Budget::unlimited("m"));
    let error = ask(&client, "a").unwrap_err();
    assert!(error.is_for_all() && error.to_string().ends_with("/v1/chat/completions, tried 4 times"), "{error}");
    assert_eq!(client.spending().requests, 0, "nothing was sent");
}

#[test]
fn what_is_wrong_with_one_request_leaves_the_others() {
    let json = "content-type: application/json\r\n";
    let cases: [(u16, &str, &str); 6] = [
        (413, "too large", "413: too large"),
        (400, "context too long", "400: context too long"),
        (200, "{\"choices\": [", "not a chat completion"),
        (200, "{\"choices\": []}", "not a chat completion"),
        (
            200,
            "{\"choices\": [{\"message\": {\"content\": null}, \"finish_reason\": \"stop\"}]}",
            "not a chat completion",
        ),
        (200, "[1]", "not a chat completion"),
    ];
    for (status, body, told) in cases {
        let (error, requests) = fails(move || Answer::of(status, json, body));
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!((error.is_for_all(), requests), (false, 1), "{told}");
    }
}

#[test]
fn answers_that_break_off_are_tried_again_and_counted() {
    let whole = |text: &str| Answer::of(200, "content-type: application/json\r\n", text);
    let half = move || {
        let Answer::Bytes(bytes) = whole("{\"choices\": [{\"message\": {\"content\": \"half\"}}]}") else {
            unreachable!()
        };
        Answer::Bytes(bytes[..bytes.len() - 10].to_vec())
    };
    let (error, requests) = fails(half);
    assert!(matches!(error, Error::CutOff { attempts: 4, .. }), "{error}");
    assert_eq!((error.is_for_all(), requests), (false, 4));
    let server = Server::start(move |number, _| if number == 0 { half() } else { Answer::says("whole") });
    let client = client(&server);
    assert_eq!(ask(&client, "a").unwrap(), "whole");
    let spending = client.spending();
    assert_eq!((spending.requests, spending.unreported), (2, 1), "half an answer may have to be paid");
    assert_eq!(spending.tokens, Usage { input: 10 + 1 + 32, output: 1 + 100 });
}

#[test]
fn a_slow_server_runs_out_of_time() {
    let server = Server::start(|number, _| if number < 2 { Answer::Silence } else { Answer::says("late") });
    let config = EndpointConfig { timeout: Duration::from_millis(150), attempts: 2, ..config(&server) };
    let client = client_of(config, None, Budget::unlimited("m"));
    let error = ask(&client, "a").unwrap_err();
    assert!(error.to_string().contains("has not answered after 0.15 s, tried 2 times"), "{error}");
    assert!(!error.is_for_all());
    assert_eq!(client.spending().unreported, 2);
    assert_eq!(ask(&client, "a").unwrap(), "late");
}

#[test]
fn a_huge_answer_is_not_read() {
    let server = Server::start(|number, _| {
        let text = "x".repeat(3000);
        match number {
            0 => Answer::says(&text),
            // Without a length header, the bytes are counted.
            _ => Answer::Bytes(format!("HTTP/1.1 200 x\r\nconnection: close\r\n\r\n\"{text}\"").into_bytes()),
        }
    });
    let client = client_of(EndpointConfig { max_bytes: 2000, ..config(&server) }, None, Budget::unlimited("m"));
    for _ in 0..2 {
        let error = ask(&client, "a").unwrap_err();
        assert!(error.to_string().ends_with("is longer than 2000 bytes") && !error.is_for_all(), "{error}");
    }
    assert_eq!((server.requests().len(), client.spending().unreported), (2, 2));
}

#[test]
fn the_end_of_a_reply_is_told() {
    let server = Server::start(|number, _| match number {
        0 => Answer::finishes("cut in the", "length"),
        1 => Answer::finishes("", "content_filter"),
        2 => Answer::json(200, &json!({"choices": [{"message": {"content": null, "refusal": "I will not."}}]})),
        3 => Answer::json(200, &json!({"choices": [{"message": {"content": null}, "finish_reason": "length"}]})),
        _ => {
            let parts = json!([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]);
            // JSON with another content type is still JSON.
            let body = json!({"choices": [{"message": {"content": parts}}]}).to_string();
            Answer::of(200, "content-type: text/plain\r\n", &body)
        }
    });
    let client = client(&server);
    let mut replies = (0..5).map(|_| block_on(client.complete(&request("a"))).unwrap().reply);
    let mut next = || replies.next().unwrap();
    assert!(next().is_cut());
    assert_eq!(next().finish, Finish::Other("content_filter".to_owned()));
    assert_eq!(next().refusal.unwrap(), "I will not.");
    assert!(next().is_cut(), "a model that only thought until the limit");
    assert_eq!(next().text, "in parts");
}

#[test]
fn what_a_server_does_not_offer_is_left_out_from_then_on() {
    let server = Server::start(|_, request| {
        if request.get("response_format").is_some() {
            return Answer::json(400, &json!({"error": {"message": "'response_format' is not supported"}}));
        }
        if request.get("max_tokens").is_some() {
            return Answer::json(400, &json!({"error": {"message": "Use 'max_completion_tokens' instead."}}));
        }
        Answer::says("[\"a\"]")
    });
    let client = client(&server);
    let schema = Some(Schema { name: "list", schema: json!({"type": "array"}) });
    for text in ["a", "b"] {
        let request = Request { schema: schema.clone(), ..request(text) };
        assert_eq!(block_on(client.complete(&request)).unwrap().reply.text, "[\"a\"]");
    }
    let fields: Vec<(bool, bool)> = server
        .requests()
        .iter()
        .map(|request| (request.get("response_format").is_some(), request.get("max_tokens").is_some()))
        .collect();
    assert_eq!(fields, [(true, true), (false, true), (false, false), (false, false)]);
    assert_eq!(client.spending().requests, 2, "refusals cost nothing");
    // A 400 with the same message for a request without a schema has another reason.
    let (error, requests) = fails(|| Answer::of(400, "", "response_format is wrong"));
    assert_eq!((error.is_for_all(), requests), (false, 1));
}

#[test]
fn a_rerun_sends_nothing_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|number, _| Answer::says(&format!("reply {number} {KEY}")));
    let run = |client: &Client| -> Vec<String> {
        let texts = ["a", "b", "a", "c", "a"];
        let mut said = Vec::new();
        let keep = |text: &str, outcome: Result<crate::Completion>| {
            said.push(format!("{text}: {}", outcome.unwrap().reply.text));
            Ok::<(), Error>(())
        };
        block_on(client.complete_all(texts, 3, |text| Ok(request(text)), keep)).unwrap();
        said.sort();
        said
    };
    let client = client_of(config(&server), Some(Cache::open(folder.path()).unwrap()), Budget::unlimited("m"));
    let first = run(&client);
    assert_eq!((server.requests().len(), client.spending().requests), (3, 3), "equal requests wait for one reply");
    drop(client);

    let client = client_of(config(&server), Some(Cache::open(folder.path()).unwrap()), Budget::unlimited("m"));
    let requests = [request("a"), request("d")];
    assert_eq!(client.estimate(&requests).requests, 1, "what is kept costs nothing");
    assert_eq!(run(&client), first);
    drop(client);
    let replay = Client::replay("m", Cache::open(folder.path()).unwrap());
    assert_eq!(run(&replay), first);
    assert_eq!(server.requests().len(), 0);
    let error = ask(&replay, "d").unwrap_err();
    let digest = request("d").digest("m").to_string();
    assert!(error.to_string().contains(&digest) && !error.is_for_all(), "{error}");
    let kept = std::fs::read_to_string(folder.path().join("replies.jsonl")).unwrap();
    assert!(!kept.contains(KEY) && kept.contains("[key]"), "{kept}");
    let line: Value = serde_json::from_str(kept.lines().next().unwrap()).unwrap();
    assert_eq!((&line["request"]["model"], &line["usage"]["input"]), (&json!("m"), &json!(10)));
}

#[test]
fn what_was_received_before_a_kill_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|number, _| if number == 2 { Answer::Silence } else { Answer::says("paid") });
    let client = client_of(config(&server), Some(Cache::open(folder.path()).unwrap()), Budget::unlimited("m"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let work = runtime.spawn(async move {
        for text in ["a", "b", "c", "d"] {
            client.complete(&request(text)).await.unwrap();
        }
    });
    while server.requests.lock().unwrap().len() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // The third request is in flight.
    runtime.shutdown_background();
    assert!(block_on(work).unwrap_err().is_cancelled());
    server.requests();
    let cache = loop {
        // The folder is unlocked once the future is dropped.
        match Cache::open(folder.path()) {
            Err(Error::CacheInUse { .. }) => std::thread::sleep(Duration::from_millis(1)),
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(cache.len(), 2);
    let client = client_of(config(&server), Some(cache), Budget::unlimited("m"));
    for text in ["a", "b"] {
        assert!(block_on(client.complete(&request(text))).unwrap().is_kept);
    }
    assert_eq!((server.requests().len(), client.spending().requests), (0, 0));
}

#[test]
fn the_limit_of_costs_is_never_passed() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("prices.toml");
    std::fs::write(&table, "[m]\ninput = 100.0\noutput = 100.0\n").unwrap();
    let prices = Prices::read(&table).unwrap();
    let server = Server::start(|_, _| Answer::says("one two three four five six seven eight nine ten"));
    // A reply has 20 tokens and costs 0.2 cents; it may have 133 tokens and cost 1.33 cents. Of 3
    // cents, 1.8 are spent when no further request may begin.
    let budget = Budget::new("m", &prices, Dollars::new(0.03)).unwrap();
    let client = client_of(config(&server), None, budget);
    let (mut done, mut over) = (0, Vec::new());
    let keep = |_, outcome: Result<crate::Completion>| {
        match outcome {
            Ok(_) => done += 1,
            Err(error) => over.push(error),
        }
        Ok::<(), Error>(())
    };
    block_on(client.complete_all(0..100, 4, |_| Ok(request("a")), keep)).unwrap();
    let spending = client.spending();
    assert_eq!((done, server.requests().len(), spending.cost), (9, 9, Dollars::new(0.018).unwrap()));
    assert!(!over.is_empty() && over.iter().all(|error| matches!(error, Error::Budget { .. })), "{over:?}");
}

#[test]
fn a_server_that_fails_everything_ends_the_run() {
    let server = Server::start(|_, _| Answer::of(500, "", "oops"));
    let client = client_of(EndpointConfig { attempts: 1, ..config(&server) }, None, Budget::unlimited("m"));
    let mut errors = Vec::new();
    let keep = |_, outcome: Result<crate::Completion>| {
        errors.push(outcome.unwrap_err());
        Ok::<(), Error>(())
    };
    block_on(client.complete_all(0..1000, 1, |_| Ok(request("a")), keep)).unwrap();
    assert_eq!((errors.len(), server.requests().len()), (8, 8));
    assert!(errors[7].to_string().starts_with("the last 8 requests failed"), "{}", errors[7]);
}
