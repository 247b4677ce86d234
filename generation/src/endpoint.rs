//! A model on a server with OpenAI's chat completions API, which llama.cpp, vLLM, SGLang, Ollama
//! and others also offer.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;

use crate::price::{Budget, Reservation};
use crate::request::{Dialect, Digest};
use crate::{Error, Finish, Reply, Request, Result, Usage};

/// The maximum number of characters of an answer that a message quotes.
const REPEATED: usize = 200;
/// The text that replaces the key in everything that the server sends.
const HIDDEN: &str = "[key]";
/// The time limit to connect.
const CONNECT: Duration = Duration::from_secs(30);

/// The model, its server, and the limits for retries.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointConfig {
    /// The URL, such as `http://localhost:8000/v1`; `/chat/completions` may follow.
    pub url: String,
    /// The model, as the server calls it.
    pub model: String,
    /// The environment variable with the key; without it no key is sent.
    pub api_key_env: Option<String>,
    /// The number of attempts for a request if the server is busy or the connection breaks; 4 by
    /// default.
    pub attempts: u32,
    /// The pause before the second attempt; 1 s by default. It doubles with each attempt, and up to
    /// half of it is added at random.
    pub pause: Duration,
    /// The maximum pause that a server may ask for; 2 minutes by default. A longer one ends the
    /// run.
    pub longest_pause: Duration,
    /// The time limit of one answer; 10 minutes by default, for a large model with a long queue.
    pub timeout: Duration,
    /// The maximum size of an answer in bytes; 8 MiB by default.
    pub max_bytes: usize,
}

impl EndpointConfig {
    /// Returns the settings for a model with the default limits and without a key.
    pub fn new(url: &str, model: &str) -> EndpointConfig {
        EndpointConfig {
            url: url.to_owned(),
            model: model.to_owned(),
            api_key_env: None,
            attempts: 4,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_mins(2),
            timeout: Duration::from_mins(10),
            max_bytes: 8 << 20,
        }
    }
}

/// A key. Neither `Debug` nor any message shows it.
struct Key(String);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

/// A model on a server.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    client: Client,
    url: Url,
    /// The URL for messages, without its query.
    shown: String,
    /// The key, or the reason why the key in the variable cannot be used.
    key: std::result::Result<Option<Key>, &'static str>,
    is_plain: AtomicBool,
    has_completion_tokens: AtomicBool,
    /// Whether it was reported that the server is busy or unreachable.
    told: AtomicBool,
}

/// The reason why an attempt failed.
struct Failed {
    error: Error,
    /// The time of the next attempt; `None` if that would fail too.
    again: Option<Again>,
}

enum Again {
    /// At once, because the next request will be different.
    AtOnce,
    /// After the back-off, or after the pause that the server asked for if that is longer.
    After(Option<Duration>),
}

impl Endpoint {
    /// Returns a model on a server. Nothing is sent yet. A missing key is an error only for the
    /// first request, because stored replies need no key.
    ///
    /// # Errors
    /// If the URL or a setting is invalid.
    pub fn new(config: EndpointConfig) -> Result<Endpoint> {
        let key = config.api_key_env.as_ref().map(|variable| key_of(std::env::var(variable).ok()));
        Endpoint::with_key(config, key.transpose())
    }

    fn with_key(config: EndpointConfig, key: std::result::Result<Option<Key>, &'static str>) -> Result<Endpoint> {
        if config.attempts == 0 {
            let (value, wanted) = (config.attempts.to_string(), "1 or more is needed");
            return Err(Error::Setting { setting: "attempts", value, wanted });
        }
        let url = completions(&config.url)?;
        let mut shown = url.clone();
        shown.set_query(None);
        let is_loopback = is_loopback(&url);
        if matches!(key, Ok(Some(_))) && url.scheme() == "http" && !is_loopback {
            tracing::warn!("the key goes to {} without encryption", url.host_str().unwrap_or_default());
        }
        // A redirect could take the key to another host.
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT.min(config.timeout))
            .timeout(config.timeout);
        if is_loopback {
            client = client.no_proxy();
        }
        Ok(Endpoint {
            client: client.build().map_err(Error::Client)?,
            shown: shown.to_string(),
            url,
            key,
            config,
            is_plain: AtomicBool::new(false),
            has_completion_tokens: AtomicBool::new(false),
            told: AtomicBool::new(false),
        })
    }

    /// Returns a model on a server with a key that does not come from a variable.
    #[cfg(test)]
    pub(crate) fn with_key_for_tests(config: EndpointConfig, key: &str) -> Endpoint {
        Endpoint::with_key(config, Ok(Some(Key(key.to_owned())))).unwrap()
    }

    /// Returns the model, as the server calls it.
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// Returns the URL of the chat completions for messages.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Returns whether the server rejected structured replies, so that requests do not ask for
    /// them.
    pub fn is_plain(&self) -> bool {
        self.is_plain.load(Ordering::Relaxed)
    }

    /// Sends a request. Tries again if the server is busy, the connection breaks, or the server
    /// rejected a feature that can be left out.
    pub(crate) async fn ask(&self, request: &Request, digest: Digest, budget: &Budget) -> Result<(Reply, Usage)> {
        if let Err(why) = self.key {
            let variable = self.config.api_key_env.clone().unwrap_or_default();
            return Err(Error::Key { variable, why });
        }
        let mut attempt = 1;
        loop {
            let mut reservation = budget.reserve(request).await?;
            let failed = match self.attempt(request, &mut reservation, attempt).await {
                Ok((reply, usage)) => return Ok((reply, reservation.settle(usage))),
                Err(failed) => failed,
            };
            drop(reservation);
            let asked = match failed.again {
                None => return Err(failed.error),
                Some(Again::AtOnce) => continue,
                Some(Again::After(asked)) => asked.unwrap_or_default(),
            };
            if asked > self.config.longest_pause {
                return Err(Error::Wait { url: self.shown.clone(), seconds: asked.as_secs() });
            }
            if attempt >= self.config.attempts {
                return Err(failed.error);
            }
            if !self.told.swap(true, Ordering::Relaxed) {
                tracing::warn!("{}; every request is tried {} times", failed.error, self.config.attempts);
            }
            tokio::time::sleep(self.back_off(digest, attempt).max(asked)).await;
            attempt += 1;
        }
    }

    /// Returns the pause after an attempt, counted from 1. It doubles with each attempt and is
    /// longer by up to a half, which depends on the digest of the request.
    fn back_off(&self, digest: Digest, attempt: u32) -> Duration {
        let doubled = self.config.pause.saturating_mul(1 << (attempt - 1).min(16)).min(self.config.longest_pause);
        let hash = blake3::Hasher::new().update(&digest.0).update(&attempt.to_le_bytes()).finalize();
        let draw = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("a digest has 32 bytes"));
        doubled.mul_f64(1.0 + 0.5 * f64::from(draw) / f64::from(u32::MAX))
    }

    /// Sends a request once. Until it returns, the server may charge for the attempt.
    async fn attempt(
        &self,
        request: &Request,
        reservation: &mut Reservation<'_>,
        attempt: u32,
    ) -> std::result::Result<(Reply, Option<Usage>), Failed> {
        let dialect =
            Dialect { plain: self.is_plain(), completion_tokens: self.has_completion_tokens.load(Ordering::Relaxed) };
        let body = request.body(&self.config.model, dialect).to_string();
        let mut post = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Ok(Some(Key(key))) = &self.key {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {key}")).expect("keys are checked when they are read");
            value.set_sensitive(true);
            post = post.header(AUTHORIZATION, value);
        }
        reservation.sent(true);
        let response = match post.send().await {
            Ok(response) => response,
            Err(source) => {
                reservation.sent(!source.is_connect());
                return Err(self.broken(source, attempt));
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            let text = self.read(response, attempt).await?;
            return self.completion(status, &headers, &text).map_err(|error| Failed { error, again: None });
        }
        reservation.sent(false);
        // The text of an error is only used in the message.
        let text = self.read(response, attempt).await.unwrap_or_default();
        Err(self.refused(request, dialect, status, &headers, &text, attempt))
    }

    /// Returns the whole body as text, with the key replaced.
    async fn read(&self, mut response: Response, attempt: u32) -> std::result::Result<String, Failed> {
        let most = self.config.max_bytes;
        let too_long = || Failed { error: Error::TooLong { url: self.shown.clone(), bytes: most }, again: None };
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|source| self.broken(source, attempt))? {
            if body.len() + piece.len() > most {
                return Err(too_long());
            }
            body.extend_from_slice(&piece);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(self.without_key(text))
    }

    fn without_key(&self, text: String) -> String {
        match &self.key {
            Ok(Some(Key(key))) if text.contains(key.as_str()) => text.replace(key.as_str(), HIDDEN),
            _ => text,
        }
    }

    /// Returns the error for a network failure.
    fn broken(&self, source: reqwest::Error, attempts: u32) -> Failed {
        // The message of reqwest contains the URL with its query, which may be secret.
        let (source, url) = (source.without_url(), self.shown.clone());
        let error = if source.is_connect() {
            Error::Unreachable { url, attempts, source }
        } else if source.is_timeout() {
            Error::TimedOut { url, seconds: self.config.timeout.as_secs_f64(), attempts }
        } else {
            Error::CutOff { url, attempts, source }
        };
        Failed { error, again: Some(Again::After(None)) }
    }

    /// Returns the error for an answer with an error status, and whether the request can be sent
    /// again.
    fn refused(
        &self,
        request: &Request,
        dialect: Dialect,
        status: StatusCode,
        headers: &HeaderMap,
        text: &str,
        attempts: u32,
    ) -> Failed {
        let (url, said, code) = (self.shown.clone(), beginning(text), status.as_u16());
        let end = |error| Failed { error, again: None };
        if status.is_redirection() {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("an unknown address");
            return end(Error::Redirect { url, to: beginning(&self.without_key(to.to_owned())) });
        }
        let lower = text.to_lowercase();
        let names_model = lower.contains("model_not_found") || (lower.contains("model") && lower.contains("not exist"));
        match code {
            401 | 403 => end(Error::KeyRefused { has_key: matches!(self.key, Ok(Some(_))), url, status: code, said }),
            402 => end(Error::UsedUp { url, status: code, said }),
            429 if lower.contains("insufficient_quota") => end(Error::UsedUp { url, status: code, said }),
            400 | 404 if names_model || (code == 404 && lower.contains("model")) => {
                end(Error::UnknownModel { url, model: self.config.model.clone(), status: code, said })
            }
            400 | 422 => {
                let again = self.learn(request, dialect, &lower).then_some(Again::AtOnce);
                Failed { error: Error::Refused { url, status: code, said }, again }
            }
            413 => end(Error::Refused { url, status: code, said }),
            408 | 409 | 425 | 429 | 500 | 502..=599 => {
                let again = Some(Again::After(retry_after(headers, SystemTime::now())));
                Failed { error: Error::Busy { url, status: code, attempts, said }, again }
            }
            _ => end(Error::NotChat { url, status: code, said }),
        }
    }

    /// Detects from the error message which feature the server does not offer. Returns whether the
    /// next request will be different without it.
    fn learn(&self, request: &Request, dialect: Dialect, lower: &str) -> bool {
        let has_schema = request.schema.is_some() && !dialect.plain;
        if has_schema && ["response_format", "json_schema", "structured output"].iter().any(|name| lower.contains(name))
        {
            if !self.is_plain.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "{} does not offer structured replies; requests ask for plain text from now on",
                    self.shown
                );
            }
            return true;
        }
        if !dialect.completion_tokens && lower.contains("max_completion_tokens") {
            self.has_completion_tokens.store(true, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Returns the reply in an answer, and its tokens if they are reported.
    fn completion(&self, status: StatusCode, headers: &HeaderMap, text: &str) -> Result<(Reply, Option<Usage>)> {
        let url = self.shown.clone();
        let Ok(body) = serde_json::from_str::<Value>(text) else {
            let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("application/json");
            return Err(if kind.contains("json") {
                Error::Strange { url, said: beginning(text) }
            } else {
                Error::NotChat { url, status: status.as_u16(), said: format!("{kind}: {}", beginning(text)) }
            });
        };
        let choice = &body["choices"][0];
        let message = &choice["message"];
        let finish = match choice["finish_reason"].as_str() {
            Some("stop") | None => Finish::Stop,
            Some("length") => Finish::Length,
            Some(other) => Finish::Other(other.to_owned()),
        };
        let refusal = message["refusal"].as_str().filter(|refusal| !refusal.is_empty()).map(|text| self.hide(text));
        let said = content(message).map(|text| self.hide(&text));
        if said.is_none() && refusal.is_none() && finish == Finish::Stop {
            return Err(Error::Strange { url, said: beginning(text) });
        }
        let tokens = |name: &str| body["usage"][name].as_u64();
        let usage =
            tokens("prompt_tokens").zip(tokens("completion_tokens")).map(|(input, output)| Usage { input, output });
        let model = body["model"].as_str().map(|model| self.hide(model));
        Ok((Reply { text: said.unwrap_or_default(), finish, refusal, model }, usage))
    }

    /// Replaces the key in a decoded JSON string, where the body may have had it with escapes.
    fn hide(&self, text: &str) -> String {
        self.without_key(text.to_owned())
    }
}

/// Returns the text of a message, which some servers send in parts.
fn content(message: &Value) -> Option<String> {
    match &message["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| part["text"].as_str()).collect()),
        _ => None,
    }
}

/// Checks the value of a variable and returns it as a key, or what is wrong with it.
fn key_of(value: Option<String>) -> std::result::Result<Key, &'static str> {
    let value = value.ok_or("is not set")?;
    let key = value.trim();
    if key.is_empty() {
        return Err("is empty");
    }
    if HeaderValue::from_str(key).is_err() || !key.is_ascii() {
        return Err("has characters that are not allowed in a key");
    }
    Ok(Key(key.to_owned()))
}

/// Returns the URL of the chat completions. Error messages do not show a URL that may contain a
/// password.
fn completions(given: &str) -> Result<Url> {
    let fault = |why: String| Error::Address { why };
    let mut url = Url::parse(given).map_err(|error| {
        let shown = if given.contains('@') { "the given text" } else { given };
        fault(format!("{shown} is not a URL ({error})"))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault(
            "the URL contains a password; put a key into an environment variable and name the variable instead"
                .to_owned(),
        ));
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(fault(format!("{given} is not the URL of a server")));
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    if path.is_empty() {
        url.set_path("/v1/chat/completions");
    } else if !path.ends_with("/chat/completions") {
        url.set_path(&format!("{path}/chat/completions"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns the pause that an answer asks for, in seconds or until a date; `None` without either.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        // A number that does not fit into a duration is treated as the longest one.
        return (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    // A date in the past means no pause.
    Some(date.duration_since(now).unwrap_or_default())
}

/// Returns the beginning of an answer for a message.
fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REPEATED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.is_empty() => "(nothing)".to_owned(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed() {
        for (given, url) in [
            ("http://localhost:8000", "http://localhost:8000/v1/chat/completions"),
            ("https://api.example.org/v1/", "https://api.example.org/v1/chat/completions"),
            ("https://x.org/openai/v1/chat/completions", "https://x.org/openai/v1/chat/completions"),
            ("https://x.org/v1?api-version=2", "https://x.org/v1/chat/completions?api-version=2"),
        ] {
            assert_eq!(completions(given).unwrap().as_str(), url);
        }
        for wrong in ["localhost:8000", "ftp://x.org", "", "/v1"] {
            let error = completions(wrong).unwrap_err().to_string();
            assert!(error.contains("http://localhost:8000/v1"), "{wrong}: {error}");
        }
        for secret in ["http://me:s3cret@x.org/v1", "http:/\u{0}/me:s3cret@[x"] {
            let error = completions(secret).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn loopback_is_told_from_the_network() {
        let is = |address: &str| is_loopback(&address.parse().unwrap());
        assert!(is("http://localhost/") && is("http://127.0.0.1:80/") && is("http://[::1]/"));
        assert!(!is("http://10.0.0.1/") && !is("http://localhost.example.org/"));
    }

    #[test]
    fn pauses_are_read_in_seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
        for (text, seconds) in [
            ("7", Some(7.0)),
            ("0.5", Some(0.5)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30.0)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0.0)),
            ("soon", None),
            ("-1", None),
            ("nan", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs_f64), "{text}");
        }
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("1e300"))]);
        assert_eq!(retry_after(&headers, now), Some(Duration::MAX));
    }

    #[test]
    fn pauses_double_and_are_drawn_by_the_request() {
        let endpoint = Endpoint::new(EndpointConfig::new("http://localhost", "m")).unwrap();
        let pause = |digest: u8, attempt| endpoint.back_off(Digest([digest; 32]), attempt).as_secs_f64();
        for attempt in 1..=4 {
            let doubled = f64::from(1 << (attempt - 1));
            assert!((doubled..=1.5 * doubled).contains(&pause(1, attempt)), "{attempt}");
            assert!((pause(1, attempt) - pause(2, attempt)).abs() > 1e-9);
            assert!((pause(1, attempt) - pause(1, attempt)).abs() < 1e-12);
        }
        assert!(pause(1, 60) <= 180.0);
    }

    #[test]
    fn keys_are_checked_and_never_shown() {
        for value in [None, Some(" "), Some("s3cret\nx"), Some("schlüssel")] {
            let why = key_of(value.map(str::to_owned)).unwrap_err();
            let config = EndpointConfig {
                api_key_env: Some("MY_KEY".to_owned()),
                ..EndpointConfig::new("http://localhost", "m")
            };
            let endpoint = Endpoint::with_key(config, Err(why)).unwrap();
            let messages = Vec::new();
            let request = Request { messages, max_tokens: 1, temperature: 0.0, seed: None, schema: None };
            let budget = Budget::unlimited("m");
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let asked = runtime.block_on(endpoint.ask(&request, request.digest("m"), &budget));
            let error = asked.unwrap_err().to_string();
            assert!(error.contains("MY_KEY") && !error.contains("s3cret") && !error.contains("schl"), "{error}");
        }
        assert_eq!(key_of(Some("s3cret\n".to_owned())).unwrap().0, "s3cret");
        let endpoint = Endpoint::with_key_for_tests(EndpointConfig::new("http://localhost", "m"), "s3cret");
        assert!(!format!("{endpoint:?}").contains("s3cret"));
    }
}
