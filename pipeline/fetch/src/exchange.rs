//! Sends a request and receives the head of its answer. Tolerates what browsers tolerate:
//! connections that were closed while idle, and headers that are malformed, long or many.

use std::error::Error as StdError;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::http::Extensions;
use hyper::{Request, Response};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::connect::{Answers, Connector};

/// Number of stale connections after which a request is sent a last time. The pool may hold any
/// number of stale connections, but they rarely break all at the same moment.
const STALE_CONNECTIONS: usize = 3;

/// Time after which an idle connection is closed. Long enough for the next row of a popular host,
/// short enough that connections to thousands of hosts do not use up the file descriptors.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// Maximum size of the read buffer of a connection, bytes. A connection keeps its buffer once it
/// has grown. With Hyper's default limit of 400 kB, 256 connections took fifty megabytes.
const READ_BUFFER: usize = 32 << 10;
/// Maximum length of the head of an answer, in bytes: curl's `MAX_HTTP_RESP_HEADER_SIZE`
/// (`lib/http.h`). If a head does not fit into [`READ_BUFFER`], the request is sent again over a
/// connection with a buffer of this size.
const LONGEST_HEAD: usize = 300 << 10;
/// Maximum number of headers of an answer: curl's `MAX_HTTP_RESP_HEADER_COUNT` (`lib/http.h`).
const MOST_HEADERS: usize = 5000;
/// HTTP/2 flow control windows of one body and of a connection: bytes that a server may send ahead.
/// They are not part of the memory budget of bodies, so they are below hyper's defaults of 2 and 5
/// MiB. With a round trip of 100 ms, a body still arrives at 2.6 MB/s.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Interval at which an HTTP/2 connection with open requests is pinged, and the maximum wait for
/// the answer. Without pings, all rows of a broken connection would wait in vain.
const HTTP2_PING: Duration = Duration::from_secs(10);

/// Sends requests over pooled connections.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    http: Client<Connector, Empty<Bytes>>,
    /// The client for the few servers whose heads do not fit into the read buffers of `http`.
    with_long_heads: Client<Connector, Empty<Bytes>>,
}

impl Exchange {
    pub(crate) fn new(connector: Connector) -> Exchange {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .http1_max_buf_size(READ_BUFFER)
            // urllib and curl accept such headers too, and servers that send them serve good
            // images.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(LONGEST_HEAD as u32)
            .http2_keep_alive_interval(HTTP2_PING)
            .http2_keep_alive_timeout(HTTP2_PING);
        let http = builder.build(connector.clone());
        builder.http1_max_buf_size(LONGEST_HEAD).http1_max_headers(MOST_HEADERS);
        Exchange { http, with_long_heads: builder.build(connector) }
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn send(&self, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Error> {
        let answer = match send_past_stale(&self.http, &request).await {
            Err(error) if has_long_head(&error) => send_past_stale(&self.with_long_heads, &request).await,
            answer => answer,
        }?;
        if let Some(answers) = answer.extensions().get::<Answers>() {
            answers.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

async fn send_past_stale(
    http: &Client<Connector, Empty<Bytes>>,
    request: &Request<Empty<Bytes>>,
) -> Result<Response<Incoming>, Error> {
    for _stale in 0..STALE_CONNECTIONS {
        match http.request(request.clone()).await {
            Err(error) if is_stale(&error) => {}
            answer => return answer,
        }
    }
    http.request(request.clone()).await
}

/// Returns whether the head of an answer did not fit, so that it is worth asking again with more
/// room.
fn has_long_head(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(current) = cause {
        if current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return true;
        }
        cause = current.source();
    }
    false
}

/// Returns whether a connection that had worked before was closed without an answer. Most likely
/// the server had closed it before it saw the request. A client may then repeat the request at once
/// (RFC 9112, section 9.3.1), because all our requests are GETs, which change nothing.
fn is_stale(error: &Error) -> bool {
    let mut extras = Extensions::new();
    let Some(connection) = error.connect_info() else { return false };
    connection.get_extras(&mut extras);
    if extras.get::<Answers>().is_none_or(|answers| answers.0.load(Ordering::Relaxed) == 0) {
        return false;
    }
    let mut cause = error.source();
    while let Some(current) = cause {
        let is_closed = current.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message);
        let kind = current.downcast_ref::<io::Error>().map(io::Error::kind);
        if is_closed || matches!(kind, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)) {
            return true;
        }
        cause = current.source();
    }
    false
}
