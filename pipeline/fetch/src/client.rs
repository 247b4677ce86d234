//! One HTTP request: the head of its answer, and a body of limited length.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use lynxdata_records::Status;
use rustls::CertificateError;
use url::{Host, Url};

use crate::body::BodyRoom;
use crate::budget::Share;
use crate::coding::Unpacking;
use crate::connect::{self, Proxy};
use crate::deadline::{Deadline, Passed};
use crate::exchange::Exchange;
use crate::guard::{self, Policy, Refused};
use crate::names::{NameCounts, Names, NamesSettings, NoAddress, Resolver};
use crate::opt_out::OptOut;
use crate::{DownloadConfig, Error, Result, address, coding, retry};

/// The answer to a request.
pub(crate) type Response = hyper::Response<Incoming>;

/// Maximum length of a failure detail that is kept, in characters.
const MAX_DETAIL: usize = 200;

/// Time window over which the speed of a body is measured. Like curl's `--speed-time`, it spans
/// several seconds.
const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of bytes of a `robots.txt` that are read: RFC 9309, section 2.5, asks for at
/// least 500 KiB.
const MAX_ROBOTS_BYTES: u64 = 500 << 10;

/// A complete body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// `None` if it did not come by HTTP.
    pub(crate) http_status: Option<u16>,
    /// Its share of the byte budget.
    pub(crate) share: Share,
}

/// The reason why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) http_status: Option<u16>,
    pub(crate) detail: Option<String>,
    /// Whether the failure is temporary, so that another attempt may succeed.
    pub(crate) may_pass: bool,
    /// Whether no connection to the host could be made, for a temporary reason.
    pub(crate) is_unreached: bool,
    /// The wait before the next attempt that the server asked for.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// Returns a failure without detail.
    pub(crate) fn plain(status: Status) -> Failure {
        Failure {
            status,
            http_status: None,
            detail: None,
            may_pass: status.is_retryable(),
            is_unreached: false,
            retry_after: None,
        }
    }

    pub(crate) fn new(status: Status, detail: impl AsRef<str>) -> Failure {
        Failure { detail: Some(address::shorten(detail.as_ref(), MAX_DETAIL)), ..Failure::plain(status) }
    }

    pub(crate) fn with_http_status(self, http_status: StatusCode) -> Failure {
        Failure { http_status: Some(http_status.as_u16()), ..self }
    }
}

/// The reason why a row has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The row failed, and ends with a status.
    Row(Failure),
    /// This machine failed, for example because its disk is full. No row is to blame, so the
    /// download stops.
    Machine(Error),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Fault::Row(failure)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Machine(error)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(Status::ForbiddenAddress, refused.to_string())
    }
}

/// A pooled HTTP client that connects only to checked addresses.
#[derive(Debug)]
pub(crate) struct Client {
    http: Exchange,
    policy: Policy,
    user_agent: HeaderValue,
    /// The header that authorises requests for `http` URLs at the proxy.
    proxy_authorization: Option<HeaderValue>,
    opt_out: OptOut,
    max_bytes: u64,
    room: BodyRoom,
    /// Bytes that must arrive in every time window.
    least_in_window: u64,
    window: Duration,
}

impl Client {
    /// Returns a client that asks the configured or the system's name servers. Bodies that have no
    /// room in memory go into files in `folder`.
    pub(crate) fn new(config: &DownloadConfig, counts: Arc<NameCounts>, folder: &Path) -> Result<Client> {
        let policy = if config.allow_private_addresses { guard::refuse_nothing } else { guard::refusal };
        let names = NamesSettings {
            servers: config.name_servers()?,
            timeout: Duration::from_secs_f64(config.dns_timeout_seconds),
            concurrency: config.concurrency,
            ..NamesSettings::default()
        };
        Client::with(config, Arc::new(Resolver::new(&names, counts)), policy, folder)
    }

    /// Returns a client that asks `names` for addresses and `policy` whether to connect to them.
    pub(crate) fn with(
        config: &DownloadConfig,
        names: Arc<dyn Names>,
        policy: Policy,
        folder: &Path,
    ) -> Result<Client> {
        let user_agent = HeaderValue::try_from(&config.user_agent)
            .map_err(|_| Error::setting("user_agent", "has characters that a header cannot have".to_owned()))?;
        let proxy = config.proxy.as_deref().map(Proxy::parse).transpose();
        let proxy = proxy.map_err(|reason| Error::setting("proxy", reason))?;
        let patience = Duration::from_secs_f64(config.timeout_seconds / 2.0);
        let connector = connect::connector(names, policy, proxy.as_ref(), config.ca_file.as_deref(), patience)?;
        Ok(Client {
            http: Exchange::new(connector),
            policy,
            user_agent,
            proxy_authorization: proxy.and_then(|proxy| proxy.authorization()),
            opt_out: OptOut::new(&config.opt_out_directives, &config.user_agent),
            max_bytes: config.max_bytes,
            room: BodyRoom::new(config.max_bytes_in_flight, folder),
            least_in_window: config.min_bytes_per_second * SPEED_WINDOW.as_secs(),
            window: SPEED_WINDOW,
        })
    }

    /// Returns the room for bodies.
    pub(crate) fn room(&self) -> &BodyRoom {
        &self.room
    }

    /// Returns the largest body that is accepted, bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Sends one request and reads the head of its answer. The caller follows redirects, with
    /// [`redirect_target`].
    pub(crate) async fn send(&self, url: &Url, deadline: &mut Deadline) -> std::result::Result<Response, Failure> {
        self.check_literal(url)?;
        let request = self.request(url)?;
        let sent = deadline.run(self.http.send(request)).await.map_err(|Passed| passed(*deadline))?;
        sent.map_err(|error| failure(&error, error.is_connect(), Phase::Request))
    }

    fn request(&self, url: &Url) -> std::result::Result<Request<Empty<Bytes>>, Failure> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri_of(url)?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding::ACCEPTED));
        if let Some((user, password)) = connect::user_of(url) {
            headers.insert(header::AUTHORIZATION, connect::basic_authorization(&user, &password));
        }
        if let Some(authorization) = self.proxy_authorization.as_ref().filter(|_| url.scheme() == "http") {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        Ok(request)
    }

    /// Checks a host that is written as an IP address. Such hosts never reach the resolver, where
    /// names are checked.
    fn check_literal(&self, url: &Url) -> std::result::Result<(), Refused> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        guard::check(address, self.policy).map(|_| ())
    }

    /// Reads the body of an answer, unless its status code or headers rule out an image.
    pub(crate) async fn picture(
        &self,
        response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<Answer, Fault> {
        let http_status = response.status();
        if let Some(status) = status_of(http_status) {
            return Err(Failure { retry_after: retry_after(&response), ..Failure::plain(status) }.into());
        }
        if let Some(reason) = self.opt_out.reason(response.headers()) {
            return Err(Failure::new(Status::OptedOut, reason).into());
        }
        let (body, share) = self.body(response, deadline).await?;
        if body.is_empty() {
            return Err(Failure::plain(Status::EmptyBody).into());
        }
        Ok(Answer { body, http_status: Some(http_status.as_u16()), share })
    }

    async fn body(
        &self,
        mut response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<(Vec<u8>, Share), Fault> {
        let mut unpacking = unpacking_of(&response)?;
        // The unpacked length of a packed body is unknown.
        let announced = if unpacking.is_none() { announced_length(&response).unwrap_or(0) } else { 0 };
        if announced > self.max_bytes {
            return Err(self.too_large("the header announces").into());
        }
        let mut body = self.room.begin(announced).await;
        let mut speed = Speed::new(self.least_in_window, self.window);
        loop {
            let mut within = Deadline::new(deadline.left().min(speed.left()));
            let chunk = within.run(next_piece(&mut response, &mut unpacking)).await;
            deadline.spend(within.spent());
            let Ok(chunk) = chunk else {
                // Either the deadline or the speed window is over.
                if deadline.left().is_zero() {
                    return Err(passed(*deadline).into());
                }
                speed.check(within.spent(), 0)?;
                continue;
            };
            let Some(chunk) = chunk? else {
                return Ok(body.finish().await?);
            };
            if body.len() + chunk.len() as u64 > self.max_bytes {
                return Err(self.too_large("the body is").into());
            }
            body.push(&chunk).await?;
            speed.check(within.spent(), chunk.len() as u64)?;
        }
    }

    fn too_large(&self, what: &str) -> Failure {
        Failure::new(Status::TooLarge, format!("{what} more than the {} bytes allowed", self.max_bytes))
    }

    /// Reads a `robots.txt` up to the size limit; returns nothing if the server has none (RFC 9309,
    /// section 2.3.1.3).
    ///
    /// # Errors
    /// If the server fails. Nothing is allowed then (section 2.3.1.4).
    pub(crate) async fn robots(
        &self,
        mut response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        match status_of(response.status()) {
            None => {}
            Some(status @ (Status::HttpServerError | Status::RateLimited)) => {
                let failure = Failure { retry_after: retry_after(&response), ..Failure::plain(status) };
                return Err(failure.with_http_status(response.status()));
            }
            Some(_) => return Ok(body),
        }
        let mut unpacking = unpacking_of(&response)?;
        // One byte more than the limit shows that the last line is cut.
        while body.len() as u64 <= MAX_ROBOTS_BYTES {
            let piece = deadline.run(next_piece(&mut response, &mut unpacking)).await;
            let Some(chunk) = piece.map_err(|Passed| passed(*deadline))?? else { break };
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Returns the URL that is sent: without user and fragment.
fn uri_of(url: &Url) -> std::result::Result<Uri, Failure> {
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let uri = Uri::builder().scheme(url.scheme()).authority(authority).path_and_query(path).build();
    uri.map_err(|error| Failure::new(Status::InvalidUrl, error.to_string()))
}

/// Returns the value of the `Content-Length` header.
fn announced_length(response: &Response) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn unpacking_of(response: &Response) -> std::result::Result<Option<Unpacking>, Failure> {
    Unpacking::of(response.headers()).map_err(|error| failure(&error, false, Phase::Body))
}

/// Returns the next unpacked bytes of a body; `None` at its end. The future may be dropped and the
/// function called again.
async fn next_piece(
    response: &mut Response,
    unpacking: &mut Option<Unpacking>,
) -> std::result::Result<Option<Bytes>, Failure> {
    loop {
        if let Some(unpacking) = unpacking {
            let has_ended = unpacking.has_ended();
            let piece = unpacking.next().map_err(|error| failure(&error, false, Phase::Body))?;
            if piece.is_some() || has_ended {
                return Ok(piece.map(Bytes::copy_from_slice));
            }
        }
        let chunk = next_chunk(response).await.map_err(|error| failure(&error, false, Phase::Body))?;
        match (unpacking.as_mut(), chunk) {
            (None, chunk) => return Ok(chunk),
            (Some(unpacking), Some(chunk)) => unpacking.feed(&chunk),
            (Some(unpacking), None) => unpacking.end(),
        }
    }
}

/// Returns the next bytes of a body as sent; `None` at its end.
async fn next_chunk(response: &mut Response) -> std::result::Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Returns the failure of a row whose deadline has passed.
fn passed(deadline: Deadline) -> Failure {
    Failure::new(Status::Timeout, format!("not done after {} s", deadline.total().as_secs_f64()))
}

/// Checks that a body arrives fast enough.
#[derive(Debug)]
struct Speed {
    /// Bytes that must arrive in a time window; 0 for no limit.
    least: u64,
    window: Duration,
    /// Time since the window began.
    time: Duration,
    bytes: u64,
}

impl Speed {
    fn new(least: u64, window: Duration) -> Speed {
        Speed { least, window, time: Duration::ZERO, bytes: 0 }
    }

    /// Returns the time until the speed is checked.
    fn left(&self) -> Duration {
        if self.least == 0 { Duration::MAX } else { self.window.saturating_sub(self.time) }
    }

    fn check(&mut self, time: Duration, bytes: u64) -> std::result::Result<(), Failure> {
        self.time += time;
        self.bytes += bytes;
        if self.least == 0 || self.time < self.window {
            return Ok(());
        }
        if self.bytes < self.least {
            let (seconds, least) = (self.window.as_secs_f64(), self.least);
            let reason = format!("{} bytes in {seconds} s, less than the {least} that are wanted", self.bytes);
            // Another attempt would most likely be as slow.
            return Err(Failure { may_pass: false, ..Failure::new(Status::Timeout, reason) });
        }
        (self.time, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

/// Returns the status of a row whose server answered with this HTTP code; `None` for a success.
fn status_of(code: StatusCode) -> Option<Status> {
    match code.as_u16() {
        200..=299 => None,
        404 | 410 => Some(Status::NotFound),
        401 | 403 | 451 => Some(Status::Forbidden),
        429 => Some(Status::RateLimited),
        500.. => Some(Status::HttpServerError),
        _ => Some(Status::HttpClientError),
    }
}

/// Returns the wait that a server asks for in an answer with code 429 or 503.
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    retry::retry_after(response.headers().get(header::RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// Returns the target of a redirect; `None` for any other answer.
pub(crate) fn redirect_target(url: &Url, response: &Response) -> std::result::Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let failed = |status, detail: String| Failure::new(status, detail).with_http_status(response.status());
    let Some(location) = response.headers().get(header::LOCATION) else {
        return Err(failed(Status::ProtocolError, "a redirect without a Location header".to_owned()));
    };
    if location.as_bytes().trim_ascii().is_empty() {
        // An empty location would mean the same URL again.
        return Err(failed(Status::ProtocolError, "a redirect with an empty Location header".to_owned()));
    }
    match address::parse_redirect(url, location.as_bytes()) {
        Ok(target) => Ok(Some(target)),
        Err(reason) => Err(failed(Status::InvalidUrl, format!("redirected to an invalid URL: {reason}"))),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Request,
    Body,
}

/// Maps an error of the HTTP client to a failure. The detail is the message of the innermost cause.
fn failure(error: &(dyn StdError + 'static), is_connect: bool, phase: Phase) -> Failure {
    let mut io_kind = None;
    let mut is_tls = false;
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<Refused>() {
            return (*refused).into();
        }
        if let Some(none) = current.downcast_ref::<NoAddress>() {
            let may_pass = none.may_pass();
            let failure = Failure::new(Status::DnsError, none.to_string());
            return Failure { may_pass, is_unreached: may_pass, ..failure };
        }
        is_tls |= current.is::<rustls::Error>();
        let wrapped = current.downcast_ref::<io::Error>();
        io_kind = wrapped.map(io::Error::kind).or(io_kind);
        // An I/O error returns the error that it wraps from `get_ref`, not from `source`.
        cause = wrapped
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static))
            .or_else(|| current.source());
    }
    let is_cut_off = matches!(
        io_kind,
        Some(
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        )
    );
    let status = if is_tls {
        Status::TlsError
    } else if io_kind == Some(io::ErrorKind::TimedOut) {
        Status::Timeout
    } else if phase == Phase::Body && is_cut_off {
        Status::TruncatedBody
    } else if is_connect || is_cut_off {
        Status::ConnectError
    } else {
        Status::ProtocolError
    };
    let is_unreached = is_connect && status == Status::ConnectError;
    Failure { is_unreached, ..Failure::new(status, last_cause(error)) }
}

/// Returns the message of the innermost cause of an error, which is the most specific.
fn last_cause(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    if is_of_authority(innermost) {
        return "the server's certificate calls itself an authority, but a server's own certificate must not be one"
            .to_owned();
    }
    innermost.to_string()
}

/// Returns whether TLS failed because the server's certificate is that of a certificate authority.
fn is_of_authority(error: &(dyn StdError + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = inner.map_or_else(|| error.downcast_ref(), |inner| inner.downcast_ref());
    let Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))) = tls else { return false };
    cause.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

#[cfg(test)]
impl Client {
    /// Sets the window of the speed limit, so that a test need not wait for ten seconds.
    pub(crate) fn set_speed_window(&mut self, window: Duration) {
        self.least_in_window = self.least_in_window * window.as_millis() as u64 / self.window.as_millis() as u64;
        self.window = window;
    }

    /// Sets a smaller room than the settings allow.
    pub(crate) fn set_room(&mut self, bytes: u64, folder: &Path) {
        self.room = BodyRoom::new(bytes, folder);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use futures::future::BoxFuture;
    use rustls::OtherError;

    use super::*;

    /// A fixed table of host names and addresses.
    pub(crate) struct FixedNames(pub(crate) BTreeMap<String, Vec<IpAddr>>);

    impl Names for FixedNames {
        fn look_up(&self, host: String) -> BoxFuture<'static, std::result::Result<Vec<IpAddr>, NoAddress>> {
            let failed = || {
                let is_unknown = host.starts_with("unknown");
                if is_unknown { NoAddress::NoSuchName } else { NoAddress::TimedOut { after: Duration::ZERO } }
            };
            let answer = self.0.get(&host).cloned().ok_or_else(failed);
            Box::pin(std::future::ready(answer))
        }
    }

    #[test]
    fn codes_have_their_statuses() {
        for (code, status) in [
            (200, None),
            (204, None),
            (300, Some(Status::HttpClientError)),
            (304, Some(Status::HttpClientError)),
            (400, Some(Status::HttpClientError)),
            (401, Some(Status::Forbidden)),
            (403, Some(Status::Forbidden)),
            (404, Some(Status::NotFound)),
            (410, Some(Status::NotFound)),
            (418, Some(Status::HttpClientError)),
            (429, Some(Status::RateLimited)),
            (451, Some(Status::Forbidden)),
            (500, Some(Status::HttpServerError)),
            (503, Some(Status::HttpServerError)),
            (999, Some(Status::HttpServerError)),
        ] {
            assert_eq!(status_of(StatusCode::from_u16(code).unwrap()), status, "{code}");
        }
    }

    #[test]
    fn a_certificate_of_an_authority_is_told_in_words() {
        let refused = |cause: webpki::Error| {
            let cause = CertificateError::Other(OtherError(Arc::new(cause)));
            last_cause(&io::Error::other(rustls::Error::InvalidCertificate(cause)))
        };
        assert!(refused(webpki::Error::CaUsedAsEndEntity).contains("calls itself an authority"));
        assert!(refused(webpki::Error::BadDer).contains("BadDer"));
    }
}
