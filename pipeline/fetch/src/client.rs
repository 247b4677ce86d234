//! One request: resolve, check the address, connect, read a bounded body.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lynxdata_records::Status;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::{Certificate, Response, StatusCode, redirect};
use url::{Host, Url};

use crate::budget::{Budget, Share};
use crate::deadline::{Deadline, Passed};
use crate::guard::{self, Policy, Refused};
use crate::names::{NameCounts, Names, NamesSettings, NoAddress, Resolver};
use crate::opt_out::OptOut;
use crate::{DownloadConfig, Error, Result, address, retry};

/// How long an unused connection is kept. Long enough for the next row of a popular host, short enough that the connections to thousands of hosts do not
/// use up the file descriptors.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
/// Space that is reserved for a body because its header announces it; more only as bytes arrive, since the header may lie.
const MAX_RESERVED_BYTES: u64 = 1 << 20;
/// Longest explanation that is kept, characters.
const MAX_DETAIL: usize = 200;

/// Time over which the least speed of a body is measured; seconds are what curl's `--speed-time` counts in, too.
const SPEED_WINDOW: Duration = Duration::from_secs(10);
/// Most bytes of a `robots.txt` that are read: RFC 9309, section 2.5, asks for at least 500 KiB.
const MAX_ROBOTS_BYTES: u64 = 500 << 10;

/// A body that arrived whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    /// `None` if it did not come by HTTP.
    pub(crate) http_status: Option<u16>,
    /// What it takes of the byte budget.
    pub(crate) share: Share,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) http_status: Option<u16>,
    pub(crate) detail: Option<String>,
    /// Whether another attempt may succeed.
    pub(crate) may_pass: bool,
    /// How long the server asks to wait before the next attempt.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of which the status says all.
    pub(crate) fn plain(status: Status) -> Failure {
        Failure { status, http_status: None, detail: None, may_pass: status.is_retryable(), retry_after: None }
    }

    pub(crate) fn new(status: Status, detail: impl AsRef<str>) -> Failure {
        Failure { detail: Some(address::shorten(detail.as_ref(), MAX_DETAIL)), ..Failure::plain(status) }
    }

    pub(crate) fn with_http_status(self, http_status: StatusCode) -> Failure {
        Failure { http_status: Some(http_status.as_u16()), ..self }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::new(Status::ForbiddenAddress, refused.to_string())
    }
}

/// A pooled HTTP client that connects to checked addresses only.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    policy: Policy,
    opt_out: OptOut,
    max_bytes: u64,
    budget: Budget,
    /// Bytes that must arrive in every window.
    least_in_window: u64,
    window: Duration,
}

impl Client {
    pub(crate) fn new(config: &DownloadConfig, counts: Arc<NameCounts>) -> Result<Client> {
        let policy = if config.allow_private_addresses { guard::refuse_nothing } else { guard::refusal };
        let names = NamesSettings {
            servers: config.name_servers()?,
            timeout: Duration::from_secs_f64(config.dns_timeout_seconds),
            ..NamesSettings::default()
        };
        Client::with(config, Arc::new(Resolver::new(&names, counts)), policy)
    }

    /// A client that asks `names` for addresses and `policy` whether to connect to them.
    pub(crate) fn with(config: &DownloadConfig, names: Arc<dyn Names>, policy: Policy) -> Result<Client> {
        // Fails if a provider is installed already, which serves as well.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .user_agent(&config.user_agent)
            .redirect(redirect::Policy::none()) // followed hop by hop, each of which is checked
            .no_proxy() // not one of the environment: it would connect for us, past the guard
            .referer(false)
            .pool_idle_timeout(IDLE_CONNECTION)
            .dns_resolver(GuardedNames { names, policy });
        if let Some(proxy) = &config.proxy {
            let proxy = reqwest::Proxy::all(proxy)
                .map_err(|error| Error::setting("proxy", format!("is not a proxy URL: {}", last_cause(&error))))?;
            builder = builder.proxy(proxy);
        }
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path).map_err(|source| Error::read(path, source))?;
            let unusable = |reason: String| Error::setting("ca_file", format!("{} {reason}", path.display()));
            let certificates = Certificate::from_pem_bundle(&pem)
                .map_err(|error| unusable(format!("is not a PEM file: {}", last_cause(&error))))?;
            if certificates.is_empty() {
                return Err(unusable("holds no PEM certificate".to_owned()));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| Error::Client { reason: last_cause(&error) })?;
        Ok(Client {
            http,
            policy,
            opt_out: OptOut::new(&config.opt_out_directives, &config.user_agent),
            max_bytes: config.max_bytes,
            budget: Budget::new(config.max_bytes_in_flight),
            least_in_window: config.min_bytes_per_second * SPEED_WINDOW.as_secs(),
            window: SPEED_WINDOW,
        })
    }

    /// The budget of all bodies.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Largest body that is accepted, bytes.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Sends one request and reads the head of its answer. Redirects are the caller's, by [`redirect_target`].
    pub(crate) async fn send(&self, url: &Url, deadline: &mut Deadline) -> std::result::Result<Response, Failure> {
        self.check_literal(url)?;
        let sent = deadline.run(self.http.get(url.clone()).send()).await.map_err(|Passed| passed(*deadline))?;
        sent.map_err(|error| failure(&error, Phase::Request))
    }

    /// Hosts that are written as addresses never reach the resolver, so they are checked here.
    fn check_literal(&self, url: &Url) -> std::result::Result<(), Refused> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        guard::check(address, self.policy).map(|_| ())
    }

    /// Reads the body of an answer, unless its head says that there is no picture for us.
    pub(crate) async fn picture(
        &self,
        response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<Answer, Failure> {
        let http_status = response.status();
        if let Some(status) = status_of(http_status) {
            return Err(Failure { retry_after: retry_after(&response), ..Failure::plain(status) });
        }
        if let Some(reason) = self.opt_out.reason(response.headers()) {
            return Err(Failure::new(Status::OptedOut, reason));
        }
        let (body, share) = self.body(response, deadline).await?;
        if body.is_empty() {
            return Err(Failure::plain(Status::EmptyBody));
        }
        Ok(Answer { body, http_status: Some(http_status.as_u16()), share })
    }

    async fn body(
        &self,
        mut response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<(Vec<u8>, Share), Failure> {
        let too_large = |what: &str| {
            Failure::new(Status::TooLarge, format!("{what} more than the {} bytes allowed", self.max_bytes))
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_bytes {
            return Err(too_large("the header announces"));
        }
        let mut share = self.budget.take(announced).await;
        let mut body = Vec::with_capacity(announced.min(MAX_RESERVED_BYTES) as usize);
        let mut speed = Speed::new(self.least_in_window, self.window);
        loop {
            let mut within = Deadline::new(deadline.left().min(speed.left()));
            let chunk = within.run(response.chunk()).await;
            deadline.spend(within.spent());
            let Ok(chunk) = chunk else {
                // One of the two is over.
                if deadline.left().is_zero() {
                    return Err(passed(*deadline));
                }
                speed.check(within.spent(), 0)?;
                continue;
            };
            let Some(chunk) = chunk.map_err(|error| failure(&error, Phase::Body))? else { return Ok((body, share)) };
            if (body.len() + chunk.len()) as u64 > self.max_bytes {
                return Err(too_large("the body is"));
            }
            self.budget.grow(&mut share, (body.len() + chunk.len()) as u64).await;
            body.extend_from_slice(&chunk);
            speed.check(within.spent(), chunk.len() as u64)?;
        }
    }

    /// Reads a `robots.txt` as far as it is read at all; nothing if the server has none (RFC 9309, section 2.3.1.3).
    ///
    /// # Errors
    /// If the server fails, so that nobody knows what it would say (section 2.3.1.4: then nothing is allowed).
    pub(crate) async fn robots(
        &self,
        mut response: Response,
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        match status_of(response.status()) {
            None => {}
            Some(status @ (Status::HttpServerError | Status::RateLimited)) => {
                return Err(Failure { retry_after: retry_after(&response), ..Failure::plain(status) });
            }
            Some(_) => return Ok(body),
        }
        while (body.len() as u64) < MAX_ROBOTS_BYTES {
            let chunk = deadline.run(response.chunk()).await.map_err(|Passed| passed(*deadline))?;
            let Some(chunk) = chunk.map_err(|error| failure(&error, Phase::Body))? else { break };
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The failure of a row whose time is over.
fn passed(deadline: Deadline) -> Failure {
    Failure::new(Status::Timeout, format!("not done after {} s", deadline.total().as_secs_f64()))
}

/// Watches that a body does not merely drip.
#[derive(Debug)]
struct Speed {
    /// Bytes that must arrive in a window; 0 for no limit.
    least: u64,
    window: Duration,
    /// Since the window began.
    time: Duration,
    bytes: u64,
}

impl Speed {
    fn new(least: u64, window: Duration) -> Speed {
        Speed { least, window, time: Duration::ZERO, bytes: 0 }
    }

    /// Time until the speed is judged.
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
            return Err(Failure::new(Status::Timeout, reason));
        }
        (self.time, self.bytes) = (Duration::ZERO, 0);
        Ok(())
    }
}

/// The status of a row whose server answered with this code; `None` for a success.
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

/// How long a server that is overloaded or angry asks to be left alone.
fn retry_after(response: &Response) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    retry::retry_after(response.headers().get(RETRY_AFTER)?.to_str().ok()?, SystemTime::now())
}

/// Where a redirect leads; `None` for any other answer.
pub(crate) fn redirect_target(url: &Url, response: &Response) -> std::result::Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let failed = |status, detail: String| Failure::new(status, detail).with_http_status(response.status());
    let Some(location) = response.headers().get(LOCATION) else {
        return Err(failed(Status::ProtocolError, "a redirect without a Location header".to_owned()));
    };
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

/// Sorts an error of the HTTP client. Its own text is not used, since that repeats the URL.
fn failure(error: &reqwest::Error, phase: Phase) -> Failure {
    let mut io_kind = None;
    let mut is_tls = false;
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<Refused>() {
            return (*refused).into();
        }
        if let Some(none) = current.downcast_ref::<NoAddress>() {
            return Failure { may_pass: none.may_pass(), ..Failure::new(Status::DnsError, none.to_string()) };
        }
        is_tls |= current.is::<rustls::Error>();
        let wrapped = current.downcast_ref::<io::Error>();
        io_kind = wrapped.map(io::Error::kind).or(io_kind);
        // An I/O error names what it wraps not as its source, but only so.
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
    let status = if error.is_builder() {
        Status::InvalidUrl
    } else if error.is_dns() {
        Status::DnsError
    } else if is_tls {
        Status::TlsError
    } else if error.is_timeout() {
        Status::Timeout
    } else if phase == Phase::Body && is_cut_off {
        Status::TruncatedBody
    } else if error.is_connect() || is_cut_off {
        Status::ConnectError
    } else {
        Status::ProtocolError
    };
    Failure::new(status, last_cause(error))
}

/// The innermost message of an error, which says most.
fn last_cause(error: &reqwest::Error) -> String {
    let mut message = String::from("unknown error");
    let mut cause = error.source();
    while let Some(current) = cause {
        message = current.to_string();
        cause = current.source();
    }
    message
}

/// Hands the HTTP client only addresses that pass the guard. What is checked is what is connected to: there is no second look-up in between that could answer
/// differently.
struct GuardedNames {
    names: Arc<dyn Names>,
    policy: Policy,
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = self.names.look_up(name.as_str().to_owned());
        let policy = self.policy;
        Box::pin(async move {
            let addresses = answer.await?;
            let (mut allowed, mut refused) = (Vec::new(), None);
            for address in addresses {
                match guard::check(address, policy) {
                    Ok(address) => allowed.push(SocketAddr::new(address, 0)), // the client puts the port in
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ if allowed.is_empty() => Err(NoAddress::Empty { ipv6: true }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
impl Client {
    /// So that a test need not wait for ten seconds.
    pub(crate) fn set_speed_window(&mut self, window: Duration) {
        self.least_in_window = self.least_in_window * window.as_millis() as u64 / self.window.as_millis() as u64;
        self.window = window;
    }

    /// Less than the settings allow.
    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.budget = Budget::new(bytes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use futures::future::BoxFuture;

    use super::*;

    /// Names of a test's own.
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

    #[tokio::test]
    async fn only_checked_addresses_leave_the_resolver() {
        let names = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            FixedNames(BTreeMap::from([("host.example".to_owned(), addresses)]))
        };
        let resolve = async |addresses: &[&str], policy: Policy| {
            let guarded = GuardedNames { names: Arc::new(names(addresses)), policy };
            let result = guarded.resolve("host.example".parse().unwrap()).await;
            result.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(resolve(&["10.0.0.1", "8.8.8.8"], guard::refusal).await.unwrap(), ["8.8.8.8"]);
        assert_eq!(resolve(&["10.0.0.1", "8.8.8.8"], guard::refuse_nothing).await.unwrap(), ["10.0.0.1", "8.8.8.8"]);
        let error = resolve(&["169.254.169.254", "::1"], guard::refusal).await.unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
        let error = resolve(&[], guard::refusal).await.unwrap_err();
        assert!(error.is::<NoAddress>(), "{error}");
    }
}
