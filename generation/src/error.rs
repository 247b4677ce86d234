//! What can go wrong between us and a language model.

use std::io;
use std::path::PathBuf;

use crate::dollars::Dollars;

/// An error between us and a language model. No message holds a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("{why}; an address as http://localhost:8000/v1 is needed")]
    Address {
        /// The reason.
        why: String,
    },
    /// The environment variable that should hold the key has none that can be sent.
    #[error("the environment variable {variable} {why}; put the key of the server there")]
    Key {
        /// The name of the variable.
        variable: String,
        /// The reason.
        why: &'static str,
    },
    /// A setting of the client cannot work.
    #[error("the setting {setting} is {value}; {wanted}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        wanted: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The server does not accept the key.
    #[error("{url} refuses the key ({status}): {said}; look at the variable that holds it")]
    KeyRefused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said.
        said: String,
    },
    /// The server has no model of this name.
    #[error("{url} has no model {model} ({status}): {said}")]
    UnknownModel {
        /// The address.
        url: String,
        /// The model that was asked for.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said.
        said: String,
    },
    /// The account at the server is used up.
    #[error("{url} says that the account is used up ({status}): {said}")]
    UsedUp {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said.
        said: String,
    },
    /// Whatever answers is no server with chat completions.
    #[error("{url} answers {status}: {said}; is it the address of chat completions?")]
    NotChat {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said.
        said: String,
    },
    /// The server points elsewhere, where a key must not be taken unasked.
    #[error("{url} redirects to {to}; give that address if it is right")]
    Redirect {
        /// The address.
        url: String,
        /// Target of the redirect.
        to: String,
    },
    /// There is no connection to the server.
    #[error("cannot reach {url}, tried {attempts} times")]
    Unreachable {
        /// The address.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Error of the network.
        source: reqwest::Error,
    },
    /// The server asks for a longer pause than is waited.
    #[error("{url} asks to wait {seconds} s; run the same command again then")]
    Wait {
        /// The address.
        url: String,
        /// The pause that it asks for.
        seconds: u64,
    },
    /// The server failed so many requests one after another that the rest is not tried.
    #[error("the last {count} requests failed, so the others are not sent")]
    AllFail {
        /// Number of requests.
        count: u32,
        /// The last of them.
        source: Box<Error>,
    },
    /// The next request could cost more than is left.
    #[error(
        "{spent} of {max} are spent and the next request may cost {needed}; give a higher limit to go on, what is paid for is kept"
    )]
    Budget {
        /// Money spent.
        spent: Dollars,
        /// The limit.
        max: Dollars,
        /// The most that the next request may cost.
        needed: Dollars,
    },
    /// A limit of costs without a price.
    #[error(
        "no price of {model} is known, so its cost cannot be limited; add to the price table:\n[\"{model}\"]\ninput = 0.0 # dollars per million tokens\noutput = 0.0"
    )]
    NoPrice {
        /// The model.
        model: String,
    },
    /// A limit of costs and pictures, and nothing is known of the tokens of a picture.
    #[error(
        "the price table does not say how many tokens a picture is for {model}, so the cost cannot be limited; add tokens_per_picture to [\"{model}\"]"
    )]
    NoPictureTokens {
        /// The model.
        model: String,
    },
    /// The price table is not one.
    #[error("{}: {why}", path.display())]
    Prices {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The file of replies cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    CacheFile {
        /// The action, as a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// Another process uses the replies.
    #[error("another process uses the replies in {}; wait for it or name another folder", path.display())]
    CacheInUse {
        /// The folder.
        path: PathBuf,
    },
    /// A line of the file of replies is not one of them.
    #[error("{}, line {line}: not a kept reply ({why}); move the file away", path.display())]
    CacheLine {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: u64,
        /// The reason.
        why: String,
    },
    /// A reply is not kept, and nothing may be sent.
    #[error("no reply is kept for the request {digest} in {}; run without replay to ask for it", path.display())]
    NotKept {
        /// The digest of the request.
        digest: String,
        /// The file of replies.
        path: PathBuf,
    },
    /// The server refuses one request.
    #[error("{url} answers {status}: {said}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what the server said.
        said: String,
    },
    /// The server is busy or broken, also after several attempts.
    #[error("{url} answers {status}, tried {attempts} times: {said}")]
    Busy {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Number of attempts.
        attempts: u32,
        /// The beginning of what the server said.
        said: String,
    },
    /// No answer came in time, also after several attempts.
    #[error("{url} has not answered after {seconds} s, tried {attempts} times")]
    TimedOut {
        /// The address.
        url: String,
        /// The time that one attempt had.
        seconds: f64,
        /// Number of attempts.
        attempts: u32,
    },
    /// The connection broke in the middle of the answer, also after several attempts.
    #[error("the answer of {url} breaks off, tried {attempts} times")]
    CutOff {
        /// The address.
        url: String,
        /// Number of attempts.
        attempts: u32,
        /// Error of the network.
        source: reqwest::Error,
    },
    /// The answer is longer than is read.
    #[error("the answer of {url} is longer than {bytes} bytes")]
    TooLong {
        /// The address.
        url: String,
        /// The most that is read.
        bytes: usize,
    },
    /// The answer is no chat completion.
    #[error("the answer of {url} is no chat completion: {said}")]
    Strange {
        /// The address.
        url: String,
        /// The beginning of the answer.
        said: String,
    },
    /// The request cannot be made from the given data.
    #[error("{why}")]
    Input {
        /// The reason, with the file or row.
        why: String,
    },
}

impl Error {
    /// Returns whether other requests will fare no better, as with a wrong key.
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
