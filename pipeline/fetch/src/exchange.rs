//! A request and the head of its answer, with what any browser puts up with: connections that were closed while nobody used them, and headers that are not
//! quite as they should be.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::Extensions;
use hyper::{Request, Response};
use hyper_util::client::legacy::{Client, Error};
use tower_service::Service;

use crate::connect::Connector;

/// Stale connections that are tried before a request fails. Any number may lie about, but not all of them break at the same moment.
const STALE_CONNECTIONS: usize = 3;

/// How many answers a connection has brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(Arc<AtomicU32>);

/// Sends requests over pooled connections.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(pub(crate) Client<Connector, Empty<Bytes>>);

impl Service<Request<Empty<Bytes>>> for Exchange {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Empty<Bytes>>) -> Self::Future {
        let http = self.0.clone();
        Box::pin(async move {
            for _stale in 0..STALE_CONNECTIONS {
                match http.request(request.clone()).await {
                    Err(error) if is_stale(&error) => {}
                    answer => return answer.map(read_generously),
                }
            }
            http.request(request).await.map(read_generously)
        })
    }
}

/// Whether a connection that had worked before was closed instead of bringing an answer: most likely the server had closed it before it saw the request. A
/// client may then ask again at once (RFC 9112, section 9.3.1), as ours are all of a kind that changes nothing.
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

/// Counts the answer, and writes its content coding as the decompressor knows it: their names are case-insensitive, and `x-gzip` is an old one (RFC
/// 9110, section 8.4.1).
fn read_generously(mut answer: Response<Incoming>) -> Response<Incoming> {
    if let Some(answers) = answer.extensions().get::<Answers>() {
        answers.0.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(coding) = answer.headers_mut().get_mut(header::CONTENT_ENCODING) {
        let name = coding.as_bytes().trim_ascii().to_ascii_lowercase();
        let name = if name == b"x-gzip" { b"gzip".to_vec() } else { name };
        if let Ok(name) = HeaderValue::from_bytes(&name) {
            *coding = name;
        }
    }
    answer
}
