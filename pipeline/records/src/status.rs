//! The outcomes that a row of a source can have.

use std::fmt;
use std::str::FromStr;

/// Defines the statuses by the list below, in the order in which reports list them: variant, name,
/// chance of another attempt, description.
macro_rules! statuses {
    ($($variant:ident, $name:literal, $retry_class:ident, $description:literal;)+) => {
        /// The outcome of one row of a source. Every row ends with exactly one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Status {
            $(#[doc = $description] $variant,)+
        }

        impl Status {
            /// Every status, in the order in which reports list them.
            pub const ALL: &[Status] = &[$(Status::$variant),+];

            /// Returns the name that tables, logs and JSON use.
            pub fn name(self) -> &'static str {
                match self {
                    $(Status::$variant => $name,)+
                }
            }

            /// Returns a short description for reports.
            pub fn description(self) -> &'static str {
                match self {
                    $(Status::$variant => $description,)+
                }
            }

            /// Returns whether and when another attempt may succeed.
            pub fn retry_class(self) -> RetryClass {
                match self {
                    $(Status::$variant => RetryClass::$retry_class,)+
                }
            }
        }
    };
}

statuses! {
    Ok, "ok", Done, "downloaded, decoded and stored";
    MissingUrl, "missing_url", Final, "the row has no URL";
    MalformedRow, "malformed_row", Final, "the source row could not be read";
    UnreadableFile, "unreadable_file", Final, "the local file that holds the image could not be read";
    InvalidUrl, "invalid_url", Final, "the URL does not parse, or is not http or https";
    ForbiddenAddress, "forbidden_address", Final, "the host is a private, loopback or otherwise forbidden address";
    DnsError, "dns_error", Network, "the host name could not be resolved";
    ConnectError, "connect_error", Network, "no connection could be made";
    TlsError, "tls_error", Final, "the TLS handshake or the certificate failed";
    Timeout, "timeout", Network, "the total deadline of the URL passed";
    TooManyRedirects, "too_many_redirects", Final, "more redirects than allowed";
    NotFound, "not_found", Final, "HTTP 404 or 410";
    Forbidden, "forbidden", Final, "HTTP 401, 403 or 451";
    RateLimited, "rate_limited", Server, "HTTP 429";
    HttpClientError, "http_client_error", Final, "another HTTP answer below 500";
    HttpServerError, "http_server_error", Server, "HTTP 500 or above";
    OptedOut, "opted_out", Final, "the server's headers or its robots.txt say that the image must not be used";
    TruncatedBody, "truncated_body", Network, "the body was cut off before its end";
    TooLarge, "too_large", Final, "the body is larger than the size cap";
    EmptyBody, "empty_body", Network, "the answer or the local file was empty";
    HashMismatch, "hash_mismatch", Final, "the digest of the body differs from the one in the source";
    NotAnImage, "not_an_image", Final, "the body is not an image, often an HTML page";
    UnsupportedImage, "unsupported_image", Final, "an image format that cannot be decoded";
    BrokenImage, "broken_image", Final, "the image does not decode";
    TooManyPixels, "too_many_pixels", Final, "the image header announces more pixels than the cap";
    UnwantedSize, "unwanted_size", Final, "the size of the image is outside the limits of the recipe";
    ProtocolError, "protocol_error", Network, "the server broke the HTTP protocol";
}

impl Status {
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
    }
}
