//! A server on the loopback interface whose behaviour a test defines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// A server's answer to a request.
pub(crate) enum Answer {
    /// Sends these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Sends nothing until the client disconnects.
    Silence,
}

/// A server; it ends with the process.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) requests: Arc<Mutex<Vec<Value>>>,
}

impl Answer {
    /// Returns a reply that reports 10 tokens for the request and one token per word for itself.
    pub(crate) fn says(text: &str) -> Answer {
        Answer::finishes(text, "stop")
    }

    pub(crate) fn finishes(text: &str, finish: &str) -> Answer {
        let choice = json!({"message": {"role": "assistant", "content": text}, "finish_reason": finish});
        let usage = json!({"prompt_tokens": 10, "completion_tokens": text.split_whitespace().count()});
        Answer::json(200, &json!({"model": "m-2026", "choices": [choice], "usage": usage}))
    }

    pub(crate) fn json(status: u16, body: &Value) -> Answer {
        Answer::of(status, "content-type: application/json\r\n", &body.to_string())
    }

    /// Any status, lines of the head and body.
    pub(crate) fn of(status: u16, head: &str, body: &str) -> Answer {
        let length = body.len();
        let text = format!("HTTP/1.1 {status} x\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
        Answer::Bytes(text.into_bytes())
    }
}

impl Server {
    /// `answer` gets the number of the request, from 0, and its body.
    pub(crate) fn start(answer: impl Fn(usize, &Value) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || serve(&stream, &seen, &*answer).unwrap_or_default());
            }
        });
        Server { address, requests }
    }

    /// Returns the requests since the last call, with `path` and `authorization` from the head.
    pub(crate) fn requests(&self) -> Vec<Value> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn serve(
    mut stream: &TcpStream,
    seen: &Mutex<Vec<Value>>,
    answer: &(impl Fn(usize, &Value) -> Answer + ?Sized),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut authorization, mut first) = (0, String::new(), String::new());
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
    request["path"] = json!(first.split(' ').nth(1));
    request["authorization"] = json!(authorization);
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    match answer(number, &request) {
        Answer::Bytes(bytes) => stream.write_all(&bytes),
        Answer::Silence => reader.read_to_end(&mut Vec::new()).map(|_| ()),
    }
}
