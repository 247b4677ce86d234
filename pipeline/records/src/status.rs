//! The outcomes that a row of a source can have.

use std::fmt;
use std::str::FromStr;

/// The outcome of one row of a source. Every row ends with exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Downloaded, decoded and stored.
    Ok,
    /// The URL cell was empty.
    MissingUrl,
    /// The row of the source could not be read.
    MalformedRow,
    /// The local file that holds the image could not be read.
    UnreadableFile,
    /// The URL does not parse, or is not http or https.
    InvalidUrl,
    /// The address is private, loopback or otherwise forbidden.
    ForbiddenAddress,
    /// The host name could not be resolved.
    DnsError,
    /// No connection could be made.
    ConnectError,
    /// The TLS handshake or certificate failed.
    TlsError,
    /// The total deadline of the URL passed.
    Timeout,
    /// More redirects than allowed.
    TooManyRedirects,
    /// HTTP 404 or 410.
    NotFound,
    /// HTTP 401, 403 or 451.
    Forbidden,
    /// HTTP 429.
    RateLimited,
    /// Any other HTTP answer below 500 that is not a success.
    HttpClientError,
    /// HTTP 500 and above.
    HttpServerError,
    /// The server's headers or its `robots.txt` say that the image must not be used.
    OptedOut,
    /// The body was cut off before its end.
    TruncatedBody,
    /// The body is larger than the size cap.
    TooLarge,
    /// An HTTP success without a body, or an empty local file.
    EmptyBody,
    /// The digest of the body differs from the one in the source.
    HashMismatch,
    /// The body is not an image, often an HTML page.
    NotAnImage,
    /// An image in a format that cannot be decoded here.
    UnsupportedImage,
    /// The image does not decode.
    BrokenImage,
    /// The image header announces more pixels than the cap.
    TooManyPixels,
    /// The size of the image is outside the limits of the recipe.
    UnwantedSize,
    /// The server broke the HTTP protocol.
    ProtocolError,
}

impl Status {
    /// Every status, in the order in which reports list them.
    pub const ALL: &[Status] = &[
        Status::Ok,
        Status::MissingUrl,
        Status::MalformedRow,
        Status::UnreadableFile,
        Status::InvalidUrl,
        Status::ForbiddenAddress,
        Status::DnsError,
        Status::ConnectError,
        Status::TlsError,
        Status::Timeout,
        Status::TooManyRedirects,
        Status::NotFound,
        Status::Forbidden,
        Status::RateLimited,
        Status::HttpClientError,
        Status::HttpServerError,
        Status::OptedOut,
        Status::TruncatedBody,
        Status::TooLarge,
        Status::EmptyBody,
        Status::HashMismatch,
        Status::NotAnImage,
        Status::UnsupportedImage,
        Status::BrokenImage,
        Status::TooManyPixels,
        Status::UnwantedSize,
        Status::ProtocolError,
    ];

    /// Returns the name that tables, logs and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::MissingUrl => "missing_url",
            Status::MalformedRow => "malformed_row",
            Status::UnreadableFile => "unreadable_file",
            Status::InvalidUrl => "invalid_url",
            Status::ForbiddenAddress => "forbidden_address",
            Status::DnsError => "dns_error",
            Status::ConnectError => "connect_error",
            Status::TlsError => "tls_error",
            Status::Timeout => "timeout",
            Status::TooManyRedirects => "too_many_redirects",
            Status::NotFound => "not_found",
            Status::Forbidden => "forbidden",
            Status::RateLimited => "rate_limited",
            Status::HttpClientError => "http_client_error",
            Status::HttpServerError => "http_server_error",
            Status::OptedOut => "opted_out",
            Status::TruncatedBody => "truncated_body",
            Status::TooLarge => "too_large",
            Status::EmptyBody => "empty_body",
            Status::HashMismatch => "hash_mismatch",
            Status::NotAnImage => "not_an_image",
            Status::UnsupportedImage => "unsupported_image",
            Status::BrokenImage => "broken_image",
            Status::TooManyPixels => "too_many_pixels",
            Status::UnwantedSize => "unwanted_size",
            Status::ProtocolError => "protocol_error",
        }
    }

    /// Returns a short description for reports.
    pub fn description(self) -> &'static str {
        match self {
            Status::Ok => "downloaded, decoded and stored",
            Status::MissingUrl => "the row has no URL",
            Status::MalformedRow => "the source row could not be read",
            Status::UnreadableFile => "the local file that holds the image could not be read",
            Status::InvalidUrl => "the URL does not parse, or is not http or https",
            Status::ForbiddenAddress => "the host is a private, loopback or otherwise forbidden address",
            Status::DnsError => "the host name could not be resolved",
            Status::ConnectError => "no connection could be made",
            Status::TlsError => "the TLS handshake or the certificate failed",
            Status::Timeout => "the total deadline of the URL passed",
            Status::TooManyRedirects => "more redirects than allowed",
            Status::NotFound => "HTTP 404 or 410",
            Status::Forbidden => "HTTP 401, 403 or 451",
            Status::RateLimited => "HTTP 429",
            Status::HttpClientError => "another HTTP answer below 500",
            Status::HttpServerError => "HTTP 500 or above",
            Status::OptedOut => "the server's headers or its robots.txt say that the image must not be used",
            Status::TruncatedBody => "the body was cut off before its end",
            Status::TooLarge => "the body is larger than the size cap",
            Status::EmptyBody => "the answer or the local file was empty",
            Status::HashMismatch => "the digest of the body differs from the one in the source",
            Status::NotAnImage => "the body is not an image, often an HTML page",
            Status::UnsupportedImage => "an image format that cannot be decoded",
            Status::BrokenImage => "the image does not decode",
            Status::TooManyPixels => "the image header announces more pixels than the cap",
            Status::UnwantedSize => "the size of the image is outside the limits of the recipe",
            Status::ProtocolError => "the server broke the HTTP protocol",
        }
    }

    /// Returns whether and when another attempt may succeed.
    pub fn retry_class(self) -> RetryClass {
        match self {
            Status::Ok => RetryClass::Done,
            Status::DnsError
            | Status::ConnectError
            | Status::Timeout
            | Status::TruncatedBody
            | Status::EmptyBody
            | Status::ProtocolError => RetryClass::Network,
            Status::RateLimited | Status::HttpServerError => RetryClass::Server,
            Status::MissingUrl
            | Status::MalformedRow
            | Status::UnreadableFile
            | Status::InvalidUrl
            | Status::ForbiddenAddress
            | Status::TlsError
            | Status::TooManyRedirects
            | Status::NotFound
            | Status::Forbidden
            | Status::HttpClientError
            | Status::OptedOut
            | Status::TooLarge
            | Status::HashMismatch
            | Status::NotAnImage
            | Status::UnsupportedImage
            | Status::BrokenImage
            | Status::TooManyPixels
            | Status::UnwantedSize => RetryClass::Final,
        }
    }

    /// Returns whether another attempt may succeed, because the network, the server's load or an
    /// interrupted transfer was the cause.
    pub fn is_retryable(self) -> bool {
        matches!(self.retry_class(), RetryClass::Network | RetryClass::Server)
    }
}

/// The chance that another attempt at a row succeeds, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryClass {
    /// The row succeeded and needs no other attempt.
    Done,
    /// The network failed, so another attempt may succeed soon.
    Network,
    /// The server was overloaded or limited the rate, so another attempt may succeed later.
    Server,
    /// Another attempt fails again, until the row, the image or the settings change.
    Final,
}

impl RetryClass {
    /// Every class.
    pub const ALL: &[RetryClass] = &[RetryClass::Done, RetryClass::Network, RetryClass::Server, RetryClass::Final];

    /// Returns the name that the command line and tables use.
    pub fn name(self) -> &'static str {
        match self {
            RetryClass::Done => "done",
            RetryClass::Network => "network",
            RetryClass::Server => "server",
            RetryClass::Final => "final",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Status::ALL.iter().copied().find(|status| status.name() == name).ok_or_else(|| UnknownStatus(name.to_owned()))
    }
}

/// A name that is not a status.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a download status")]
pub struct UnknownStatus(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_parse_back() {
        for status in Status::ALL {
            assert_eq!(status.name().parse::<Status>().unwrap(), *status);
        }
        let mut names: Vec<_> = Status::ALL.iter().map(|status| status.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Status::ALL.len());
        for class in RetryClass::ALL {
            assert!(class.name().parse::<Status>().is_err(), "a class and a status have one name: {class:?}");
            assert!(Status::ALL.iter().any(|status| status.retry_class() == *class), "{class:?} has a status");
        }
        assert_eq!(Status::ALL.last(), Some(&Status::ProtocolError), "the list ends with the last variant");
        assert_eq!(Status::ALL.len(), Status::ProtocolError as usize + 1, "the list names every variant");
    }
}
