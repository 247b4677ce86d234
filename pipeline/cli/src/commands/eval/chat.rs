//! Questions to a server with the chat completions of OpenAI, which vLLM, llama.cpp, SGLang, Ollama
//! and others have too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use lynxdata_run::Host as _;

use crate::host::Terminal;

/// The longest that one answer may take: a large model with a long queue.
const PATIENCE: Duration = Duration::from_mins(10);
/// The largest answer that is read.
const MOST_BYTES: usize = 8 << 20;
/// How often a request is sent if the server is busy or the connection breaks.
const ATTEMPTS: u32 = 4;
/// Pause before the second attempt; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);

/// A model on a server.
pub(super) struct Chat {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    model: String,
    authorization: Option<header::HeaderValue>,
    /// Whether it was told that the server is busy or away.
    told: AtomicBool,
}

/// What a model replied.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Whether it ended because of the limit of tokens.
    pub(super) is_cut: bool,
}

/// Why there is no reply.
pub(super) struct Refusal {
    error: anyhow::Error,
    /// Whether other questions will fare no better, as with a wrong key.
    is_for_all: bool,
}

impl Chat {
    /// A model at an address such as `http://localhost:8000/v1`; the key comes from an environment
    /// variable.
    pub(super) fn new(endpoint: &str, model: &str, api_key_env: Option<&str>) -> Result<Chat> {
        let uri = completions(endpoint)?;
        let authorization = match api_key_env {
            None => None,
            Some(name) => {
                let key = std::env::var(name).with_context(|| format!("the environment variable {name} has no key"))?;
                let value = header::HeaderValue::try_from(format!("Bearer {}", key.trim()));
                let mut value = value.ok().with_context(|| format!("the key in {name} has odd characters"))?;
                value.set_sensitive(true);
                if uri.scheme_str() == Some("http") && !is_loopback(&uri) {
                    tracing::warn!("the key goes to {} without encryption", uri.host().unwrap_or_default());
                }
                Some(value)
            }
        };
        let mut roots = rustls::RootCertStore::empty();
        let (_usable, _others) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Chat { client, uri, model: model.to_owned(), authorization, told: AtomicBool::new(false) })
    }

    /// Asks once, and again if the server is busy.
    pub(super) async fn ask(&self, content: &Value, max_tokens: u32) -> std::result::Result<Reply, Refusal> {
        let body = json!({
            "model": self.model,
            "temperature": 0,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": content}],
        });
        let body = Bytes::from(body.to_string());
        let mut pause = PAUSE;
        for attempt in 1.. {
            let failed = match self.send(body.clone()).await {
                Ok((StatusCode::OK, text)) => {
                    return reply(&text).map_err(|error| Refusal { error, is_for_all: false });
                }
                Ok((status, text)) => {
                    let error = anyhow!("{} answers {status}: {}", self.uri, beginning(&text));
                    let is_busy = status.is_server_error()
                        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT]
                            .contains(&status);
                    if !is_busy {
                        // 400, 413 and 422 are about one request, such as a picture that is too
                        // large.
                        let is_for_one = [400, 413, 422].contains(&status.as_u16());
                        return Err(Refusal { error, is_for_all: !is_for_one });
                    }
                    Refusal { error, is_for_all: false }
                }
                Err(error) => Refusal { error, is_for_all: true },
            };
            if attempt == ATTEMPTS {
                return Err(failed);
            }
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!("{:#}; every question is tried {ATTEMPTS} times", failed.error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn send(&self, body: Bytes) -> Result<(StatusCode, String)> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .context("the request cannot be made")?;
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        let exchange = async {
            let response = self.client.request(request).await.with_context(|| format!("cannot reach {}", self.uri))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| anyhow!("the answer of {} breaks off: {error}", self.uri))?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        let late = || anyhow!("{} has not answered after {} s", self.uri, PATIENCE.as_secs());
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| late())?
    }
}

/// A question to a model: its id, and the content of the message.
pub(super) struct Question {
    pub(super) id: String,
    pub(super) content: Box<dyn Fn() -> Result<Value> + Send + Sync>,
}

/// Asks all questions, so many at once, and hands over each reply as it comes.
///
/// # Errors
/// If replies are missing in the end: those that came were handed over, and running again asks for
/// the rest.
pub(super) fn ask_all(
    chat: &Chat,
    questions: &[Question],
    requests: u16,
    max_tokens: u32,
    mut keep: impl FnMut(&Question, Reply) -> Result<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let progress = Terminal.stage("ask", Some(questions.len() as u64));
    let ask = |question| async move {
        let question: &Question = question;
        let content = (question.content)().map_err(|error| Refusal { error, is_for_all: false });
        let reply = match content {
            Ok(content) => chat.ask(&content, max_tokens).await,
            Err(refusal) => Err(refusal),
        };
        (question, reply)
    };
    let mut refused: Vec<(&str, anyhow::Error)> = Vec::new();
    let mut done = 0;
    runtime.block_on(async {
        let mut replies = futures::stream::iter(questions).map(ask).buffer_unordered(usize::from(requests));
        while let Some((question, reply)) = replies.next().await {
            match reply {
                Ok(reply) => {
                    keep(question, reply)?;
                    done += 1;
                }
                Err(refusal) => {
                    refused.push((&question.id, refusal.error));
                    if refusal.is_for_all {
                        break;
                    }
                }
            }
            progress.part_done();
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let missing = questions.len() - done;
    match refused.into_iter().next() {
        None => Ok(()),
        Some((id, error)) => {
            let told = format!(
                "{missing} of {} questions got no reply, the first for id {id}; run the same command to ask for the rest",
                questions.len()
            );
            Err(error.context(told))
        }
    }
}

/// The address of the chat completions.
fn completions(endpoint: &str) -> Result<Uri> {
    let wanted = "an address as http://localhost:8000/v1 is needed";
    let uri: Uri = endpoint.parse().map_err(|error| anyhow!("{endpoint} is no address ({error}); {wanted}"))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        bail!("{endpoint} is no address of a server; {wanted}");
    };
    let path = uri.path().trim_end_matches('/');
    let path = match path {
        "" => "/v1/chat/completions".to_owned(),
        path if path.ends_with("/chat/completions") => path.to_owned(),
        path => format!("{path}/chat/completions"),
    };
    let whole = format!("{}://{authority}{path}", uri.scheme_str().unwrap_or_default());
    whole.parse().with_context(|| format!("{whole} is no address"))
}

fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The text of a reply.
fn reply(text: &str) -> Result<Reply> {
    let strange = || format!("the server's answer is no chat completion: {}", beginning(text));
    let body: Value = serde_json::from_str(text).with_context(strange)?;
    let choice = &body["choices"][0];
    let is_cut = choice["finish_reason"] == "length";
    match choice["message"]["content"].as_str() {
        Some(text) => Ok(Reply { text: text.to_owned(), is_cut }),
        None => Err(anyhow!(strange())),
    }
}

/// The beginning of an answer, for a message.
fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 200 { line.chars().take(200).chain("…".chars()).collect() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (given, uri) in [
            ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
            ("https://api.example.org/v1/", "https://api.example.org/v1/chat/completions"),
            ("https://x.org/openai/v1/chat/completions", "https://x.org/openai/v1/chat/completions"),
        ] {
            assert_eq!(completions(given).unwrap().to_string(), uri);
        }
        for wrong in ["localhost:8000", "ftp://x.org", "", "/v1"] {
            assert!(completions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        let is = |address: &str| is_loopback(&address.parse().unwrap());
        assert!(is("http://localhost/") && is("http://127.0.0.1:80/") && is("http://[::1]/"));
        assert!(!is("http://10.0.0.1/") && !is("http://localhost.example.org/"));
    }
}
