//! Errors of requests to a language model.

use std::io;
use std::path::PathBuf;

use crate::dollars::Dollars;

/// An error of a request to a language model. No message contains the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("{why}; give a URL such as http://localhost:8000/v1")]
    Address {
        /// The reason.
        why: String,
    },
    /// The environment variable for the key has no key that can be sent.
    #[error("the environment variable {variable} {why}; put the key of the server there")]
    Key {
        /// The name of the variable.
        variable: String,
        /// The reason.
        why: &'static str,
    },
    /// A setting of the client is invalid.
    #[error("the setting {setting} is {value}; {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        wanted: &'static str,
    },
    /// The HTTP client cannot be created.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The server rejects the key.
    #[error(
        "{url} refuses {} ({status}): {said}; {}",
        if *.has_key { "the key" } else { "a request without a key" },
        if *.has_key { "check the variable that has it" } else { "name the variable that has one" }
    )]
    KeyRefused {
        /// Whether a key was sent.
        has_key: bool,
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer.
        said: String,
    },
    /// The server has no model of this name.
    #[error("{url} has no model {model} ({status}): {said}")]
    UnknownModel {
        /// The URL of the server.
        url: String,
        /// The requested model.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer.
        said: String,
    },
    /// The account at the server has no credit left.
    #[error("{url} reports that the account has no credit left ({status}): {said}")]
    UsedUp {
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer.
        said: String,
    },
    /// The answer is not from a server with chat completions.
    #[error("{url} answers {status}: {said}; check that this is the URL of chat completions")]
    NotChat {
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer.
        said: String,
    },
    /// The server redirects. The redirect is not followed, because the key must not be sent to
    /// another server without consent.
    #[error("{url} redirects to {to}; give that URL if it is right")]
    Redirect {
        /// The URL of the server.
        url: String,
        /// Target of the redirect.
        to: String,
    },
    /// The server cannot be reached.
    #[error("cannot reach {url}, tried {attempts} times")]
    Unreachable {
        /// The URL of the server.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// The network error.
        source: reqwest::Error,
    },
    /// The server asks for a longer pause than the client waits.
    #[error("{url} asks to wait {seconds} s; run the same command again after that time")]
    Wait {
        /// The URL of the server.
        url: String,
        /// The requested pause.
        seconds: u64,
    },
    /// The server failed so many requests in a row that the others are not sent.
    #[error("the last {count} requests failed, so the others are not sent")]
    AllFail {
        /// Number of requests.
        count: u32,
        /// The last of these errors.
        source: Box<Error>,
    },
    /// The next request could cost more than is left of the budget.
    #[error(
        "{spent} of {max} are spent and the next request may cost {needed}; raise the limit to continue; all replies so far are stored"
    )]
    Budget {
        /// Money spent.
        spent: Dollars,
        /// The limit.
        max: Dollars,
        /// The maximum cost of the next request.
        needed: Dollars,
    },
    /// A cost limit without a price.
    #[error(
        "no price of {model} is known, so its cost cannot be limited; add to the price table:\n[\"{model}\"]\ninput = 0.0 # dollars per million tokens\noutput = 0.0"
    )]
    NoPrice {
        /// The model.
        model: String,
    },
    /// A cost limit and a request with images, but the tokens of an image are unknown.
    #[error(
        "the price table does not say how many tokens an image has for {model}, so the cost cannot be limited; add tokens_per_picture to [\"{model}\"]"
    )]
    NoPictureTokens {
        /// The model.
        model: String,
    },
    /// The price table is invalid.
    #[error("{}: {why}", path.display())]
    Prices {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file of stored replies cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    CacheFile {
        /// The action, as a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error from the operating system.
        source: io::Error,
    },
    /// Another process uses the folder of replies.
    #[error("another process uses the replies in {}; wait for it or name another folder", path.display())]
    CacheInUse {
        /// The folder.
        path: PathBuf,
    },
    /// A line in the file of replies is not a stored reply.
    #[error("{}, line {line}: not a stored reply ({why}); move the file away", path.display())]
    CacheLine {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// The reason.
        why: String,
    },
    /// A reply is not stored, and nothing may be sent.
    #[error("no reply is stored for the request {digest} in {}; run without replay to send it", path.display())]
    NotKept {
        /// The digest of the request.
        digest: String,
        /// The file of replies.
        path: PathBuf,
    },
    /// The server rejects one request.
    #[error("{url} answers {status}: {said}")]
    Refused {
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the server's answer.
        said: String,
    },
    /// The server is busy or broken, even after several attempts.
    #[error("{url} answers {status}, tried {attempts} times: {said}")]
    Busy {
        /// The URL of the server.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Number of attempts.
        attempts: u32,
        /// The beginning of the server's answer.
        said: String,
    },
    /// No answer came in time, even after several attempts.
    #[error("{url} has not answered after {seconds} s, tried {attempts} times")]
    TimedOut {
        /// The URL of the server.
        url: String,
        /// The time limit of one attempt.
        seconds: f64,
        /// Number of attempts.
        attempts: u32,
    },
    /// The connection broke in the middle of the answer, even after several attempts.
    #[error("the answer of {url} is incomplete, tried {attempts} times")]
    CutOff {
        /// The URL of the server.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// The network error.
        source: reqwest::Error,
    },
    /// The answer is longer than the limit.
    #[error("the answer of {url} is longer than {bytes} bytes")]
    TooLong {
        /// The URL of the server.
        url: String,
        /// The limit in bytes.
        bytes: usize,
    },
    /// The answer is not a chat completion.
    #[error("the answer of {url} is not a chat completion: {said}")]
    Strange {
        /// The URL of the server.
        url: String,
        /// The beginning of the answer.
        said: String,
    },
    /// The request cannot be built from the given data.
    #[error("{why}")]
    Input {
        /// The reason, with the file or row.
        why: String,
    },
}

impl Error {
    /// Returns whether all other requests would fail too, as with a wrong key.
    pub fn is_for_all(&self) -> bool {
        !matches!(
            self,
            Error::NotKept { .. }
                | Error::Refused { .. }
                | Error::Busy { .. }
                | Error::TimedOut { .. }
                | Error::CutOff { .. }
                | Error::TooLong { .. }
                | Error::Strange { .. }
                | Error::Input { .. }
        )
    }

    /// Returns whether the server failed, rather than the request or its reply.
    pub(crate) fn is_of_server(&self) -> bool {
        matches!(self, Error::Busy { .. } | Error::TimedOut { .. } | Error::CutOff { .. })
    }
}
