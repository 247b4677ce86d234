//! Resolves host names by asking several name servers, without flooding them and without asking
//! twice.
//!
//! The DNS protocol is implemented by hickory: queries and answers, TCP for truncated answers,
//! chains of CNAMEs, the hosts file, special names such as `localhost` and `.invalid` (RFC 6761).
//! The following is done here, because hickory 0.26 lacks it or does it differently:
//!
//! * **Servers.** Hickory ends a look-up with the first SERVFAIL or REFUSED, even if another server
//!   would answer, and does not learn to avoid the failing server. With one failing and one good
//!   server, none of 50 names was resolved. Its timeout of one server is that of the whole round,
//!   and `try_tcp_on_error` is never read. Here every look-up asks one server, in turn, and the
//!   next one as soon as that fails or is slow. A server that others repeatedly had to replace is
//!   asked last for a while.
//! * **Packets.** Hickory sends a UDP query three times within 0.7 s. Here an attempt is one
//!   packet, so that an overloaded server does not get more load.
//! * **Address families.** Hickory hides a failure for one address family behind "no records" for
//!   the other. Here this is a failure, and the next server is asked.
//! * **Cache.** Hickory's cache keeps no failures and does not report hits and misses. It is
//!   switched off. Whole answers are cached here for the TTL of their records, within the limits
//!   below.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::StreamExt as _;
use futures::future::{BoxFuture, Either, Shared, WeakShared, select};
use futures::stream::FuturesUnordered;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::DnsExchange;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{ConnectionProvider, PoolContext, system_conf};
use tokio::sync::Semaphore;

/// Limits of the number of concurrent look-ups. Between them, the number is that of the URLs in
/// flight, so that no URL waits for a look-up to end. Each look-up is two queries if this machine
/// has IPv6. By default BIND serves 1,000 recursive clients at once (`recursive-clients`) and
/// Unbound 1,024 queries per thread (`num-queries-per-thread`).
const LOOK_UPS_IN_FLIGHT: (usize, usize) = (128, 512);
/// Maximum wait for a server before another one is asked as well. A healthy resolver takes some
/// hundred milliseconds for a name that it has not cached.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum wait for the answer for one address family after that for the other. RFC 8305, section
/// 3, recommends 50 ms for interactive clients.
const FAMILY_DELAY: Duration = Duration::from_millis(500);
/// Number of consecutive look-ups that another server had to answer instead, after which a server
/// is asked last.
const STAND_INS: u32 = 3;
/// Time for which such a server is asked last.
const AILING: Duration = Duration::from_secs(10);

/// Minimum and maximum time that addresses are cached. Many hosts of a large list are on networks
/// whose records have a TTL of 20 to 60 s for load balancing. Without a lower limit, each of their
/// rows would need a query.
const POSITIVE_TTL: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));
/// Minimum and maximum time that "no such name" and "no address" are cached. The minimum is also
/// used if the answer has no TTL.
const NEGATIVE_TTL: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));
/// Time that a server failure is cached: less than the shortest wait before a row's next attempt
/// (half of 500 ms), so that the attempt asks again.
const FAILURE_TTL: Duration = Duration::from_millis(200);

/// A source of addresses of host names.
pub(crate) trait Names: Send + Sync {
    /// Returns the addresses of a host, in the order in which to try them. They are not checked by
    /// the guard.
    fn look_up(&self, host: String) -> BoxFuture<'static, std::result::Result<Vec<IpAddr>, NoAddress>>;
}

/// The reason why a host has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAddress {
    /// The text is not a host name.
    #[error("not a host name: {reason}")]
    Invalid { reason: String },
    /// NXDOMAIN.
    #[error("no such name")]
    NoSuchName,
    /// The name exists, but has no address of the requested families.
    #[error("the name has no {}", if *.ipv6 { "address" } else { "IPv4 address, and this machine has no route to IPv6" })]
    Empty { ipv6: bool },
    /// Every server failed or did not answer in time; at least one gave an error.
    #[error("the name servers failed: {reason}")]
    ServersFailed { reason: String },
    /// No server answered in time.
    #[error("no name server answered within {} s", .after.as_secs_f64())]
    TimedOut { after: Duration },
    /// There is no name server to ask.
    #[error("the system names no name servers: {reason}")]
    NoServers { reason: String },
}

impl NoAddress {
    /// Returns whether another look-up may succeed soon.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, NoAddress::ServersFailed { .. } | NoAddress::TimedOut { .. })
    }
}

/// The name servers to ask, and the limits of look-ups.
#[derive(Debug, Clone)]
pub(crate) struct NamesSettings {
    /// Name servers, for UDP and TCP. If empty, the hosts file and the system's name servers are
    /// used.
    pub(crate) servers: Vec<SocketAddr>,
    /// Time for a whole look-up, over all servers, without the wait until it may begin.
    pub(crate) timeout: Duration,
    /// Attempts per server that does not answer. A server that reports a failure is not asked
    /// again.
    pub(crate) attempts: usize,
    /// Maximum number of cached names.
    pub(crate) cache_size: usize,
    /// Number of rows that may need a name at once.
    pub(crate) concurrency: usize,
}

impl Default for NamesSettings {
    fn default() -> Self {
        // A cached name takes a few hundred bytes.
        let (servers, concurrency) = (Vec::new(), LOOK_UPS_IN_FLIGHT.0);
        NamesSettings { servers, timeout: Duration::from_secs(10), attempts: 2, cache_size: 65_536, concurrency }
    }
}

impl NamesSettings {
    fn look_ups_in_flight(&self) -> usize {
        self.concurrency.clamp(LOOK_UPS_IN_FLIGHT.0, LOOK_UPS_IN_FLIGHT.1)
    }
}

/// Counters of a resolver.
#[derive(Debug, Default)]
pub(crate) struct NameCounts {
    /// Look-ups requested.
    pub(crate) look_ups: AtomicU64,
    /// Look-ups without a query: answered from the cache, or shared with a look-up in flight.
    pub(crate) shared: AtomicU64,
    /// Look-ups that asked servers and returned no address.
    pub(crate) failures: AtomicU64,
    /// Total time of the look-ups that asked servers, milliseconds, without the wait until they may
    /// begin.
    pub(crate) milliseconds: AtomicU64,
}

type Answer = Result<Arc<[IpAddr]>, NoAddress>;

/// Asks name servers for addresses. Clones share all state.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    servers: Result<Servers, NoAddress>,
    in_flight: Semaphore,
    known: Mutex<Known>,
    counts: Arc<NameCounts>,
}

/// Cached answers and look-ups in flight. Both are under one lock, so that no look-up asks for an
/// answer that has just arrived.
#[derive(Debug)]
struct Known {
    cache: Cache,
    coming: HashMap<String, Coming>,
    look_ups_begun: u64,
}

/// A look-up in flight. It is owned by those who wait for it: when all of them are dropped, it is
/// cancelled.
#[derive(Debug)]
struct Coming {
    number: u64,
    answer: WeakShared<BoxFuture<'static, Answer>>,
}

impl Resolver {
    /// Returns a resolver. Sends nothing yet and needs no tokio runtime; look-ups need one. If no
    /// system name servers can be used, a warning is logged and every look-up fails.
    pub(crate) fn new(settings: &NamesSettings, counts: Arc<NameCounts>) -> Resolver {
        Resolver::with(settings, counts, has_ipv6_route(), PATIENCE)
    }

    /// Returns a resolver that asks for IPv6 addresses only if `ipv6` is set, and waits at most
    /// `patience` for a server before it asks another one as well.
    fn with(settings: &NamesSettings, counts: Arc<NameCounts>, ipv6: bool, patience: Duration) -> Resolver {
        let servers =
            Servers::new(settings, ipv6, patience).map_err(|error| NoAddress::NoServers { reason: error.to_string() });
        if let Err(error) = &servers {
            tracing::warn!(%error, "only URLs with IP addresses as hosts can be fetched; set download.dns_servers");
        }
        let cache = Cache { capacity: settings.cache_size, answers: HashMap::new() };
        let inner = Inner {
            servers,
            in_flight: Semaphore::new(settings.look_ups_in_flight()),
            known: Mutex::new(Known { cache, coming: HashMap::new(), look_ups_begun: 0 }),
            counts,
        };
        Resolver { shared: Arc::new(inner) }
    }

    /// Returns the answer for a host if it is known, otherwise a future.
    fn answer(&self, host: &str) -> Either<Answer, Shared<BoxFuture<'static, Answer>>> {
        let inner = &self.shared;
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        count(&inner.counts.look_ups);
        let key = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let name = match absolute_name(&key) {
            Ok(name) => name,
            Err(invalid) => return Either::Left(Err(invalid)),
        };
        let mut known = lock(&inner.known);
        if let Some(answer) = known.cache.get(&key, Instant::now()) {
            count(&inner.counts.shared);
            return Either::Left(answer);
        }
        if let Some(answer) = known.coming.get(&key).and_then(|coming| coming.answer.upgrade()) {
            count(&inner.counts.shared);
            return Either::Right(answer);
        }
        known.look_ups_begun += 1;
        let number = known.look_ups_begun;
        let ticket = Ticket { inner: inner.clone(), key: key.clone(), number };
        let answer = ticket.look_up(name).boxed().shared();
        let weak = answer.downgrade().expect("a future that was never polled is not done");
        known.coming.insert(key, Coming { number, answer: weak });
        Either::Right(answer)
    }
}

impl Names for Resolver {
    fn look_up(&self, host: String) -> BoxFuture<'static, std::result::Result<Vec<IpAddr>, NoAddress>> {
        let resolver = self.clone();
        Box::pin(async move {
            let answer = match resolver.answer(&host) {
                Either::Left(answer) => answer,
                Either::Right(coming) => coming.await,
            };
            answer.map(|addresses| addresses.to_vec())
        })
    }
}

/// Returns the fully qualified name, so that search domains are not used: hosts of URLs are
/// complete names.
///
/// Labels may be any ASCII. Names with underscores or with hyphens at the ends are not valid host
/// names (RFC 952), but such hosts exist.
fn absolute_name(host: &str) -> Result<Name, NoAddress> {
    if !host.is_ascii() {
        return Err(NoAddress::Invalid { reason: "it must be in Punycode".to_owned() });
    }
    // The messages of these errors are for programmers.
    let reason = "labels must have 1 to 63 characters, and the name at most 253";
    let invalid = |_: ProtoError| NoAddress::Invalid { reason: reason.to_owned() };
    let mut name = Name::from_labels(host.split('.').map(str::as_bytes)).map_err(invalid)?;
    name.set_fqdn(true);
    Ok(name)
}

/// A look-up in flight, which is removed from the table when it is done or dropped.
struct Ticket {
    inner: Arc<Inner>,
    key: String,
    number: u64,
}

impl Ticket {
    async fn look_up(self, name: Name) -> Answer {
        let inner = &self.inner;
        let servers = inner.servers.as_ref().map_err(Clone::clone)?;
        let _place = inner.in_flight.acquire().await.expect("the semaphore is never closed");
        let begin = Instant::now();
        let (answer, ttl) = servers.look_up(&name).await;
        let now = Instant::now();
        inner.counts.milliseconds.fetch_add((now - begin).as_millis() as u64, Ordering::Relaxed);
        inner.counts.failures.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
        // Cached before the look-up is removed from the table, so that the answer is always in one
        // of both.
        lock(&inner.known).cache.insert(self.key.clone(), answer.clone(), ttl, now);
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut known = lock(&self.inner.known);
        // If all who waited were dropped, another look-up of the name may have begun meanwhile.
        if known.coming.get(&self.key).is_some_and(|coming| coming.number == self.number) {
            known.coming.remove(&self.key);
        }
    }
}

/// Cached answers.
#[derive(Debug)]
struct Cache {
    capacity: usize,
    answers: HashMap<String, Cached>,
}

#[derive(Debug)]
struct Cached {
    answer: Answer,
    until: Instant,
}

impl Cache {
    fn get(&self, key: &str, now: Instant) -> Option<Answer> {
        self.answers.get(key).filter(|cached| now < cached.until).map(|cached| cached.answer.clone())
    }

    fn insert(&mut self, key: String, answer: Answer, ttl: Duration, now: Instant) {
        if self.capacity == 0 {
            return;
        }
        if self.answers.len() >= self.capacity && !self.answers.contains_key(&key) {
            self.make_room(now);
        }
        self.answers.insert(key, Cached { answer, until: now + ttl });
    }

    /// Removes expired answers, and those that expire first until about half of all are removed. So
    /// a full table is scanned only once per half a table of new names.
    fn make_room(&mut self, now: Instant) {
        let mut ends: Vec<Instant> = self.answers.values().map(|cached| cached.until).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let end = now.max(*median);
        self.answers.retain(|_, cached| cached.until > end);
    }
}

/// All name servers.
#[derive(Debug)]
struct Servers {
    all: Vec<Server>,
    ipv6: bool,
    timeout: Duration,
    attempts: usize,
    patience: Duration,
    /// Number of look-ups begun, for the round robin.
    turn: AtomicUsize,
    begin: Instant,
}

/// One name server with its own hickory resolver.
#[derive(Debug)]
struct Server {
    /// The address, for messages.
    address: SocketAddr,
    dns: hickory_resolver::Resolver<Wire>,
    /// Number of consecutive look-ups that another server had to answer instead.
    stand_ins: AtomicU32,
    /// Time until which it is asked last, milliseconds since [`Servers::begin`].
    ailing_until: AtomicU64,
}

impl Servers {
    fn new(settings: &NamesSettings, ipv6: bool, patience: Duration) -> Result<Servers, NetError> {
        let (configs, mut options) = if settings.servers.is_empty() {
            let (system, options) = system_conf::read_system_conf()?;
            (system.name_servers, options)
        } else {
            let mut options = ResolverOpts::default();
            options.use_hosts_file = ResolveHosts::Never;
            (settings.servers.iter().map(|address| udp_and_tcp(*address)).collect(), options)
        };
        options.attempts = 0;
        options.cache_size = 0;
        options.max_active_requests = 2 * settings.look_ups_in_flight(); // per TCP connection
        // Longer than a whole look-up may take, so that the time limit of this module applies.
        options.timeout = settings.timeout + Duration::from_secs(1);
        let server = |config: NameServerConfig| {
            let port = config.connections.first().map_or(0, |connection| connection.port);
            let address = SocketAddr::new(config.ip, port);
            let config = ResolverConfig::from_name_servers(vec![config]);
            let builder = hickory_resolver::Resolver::builder_with_config(config, Wire::default());
            let dns = builder.with_options(options.clone()).build()?;
            Ok(Server { address, dns, stand_ins: AtomicU32::new(0), ailing_until: AtomicU64::new(0) })
        };
        let all = configs.into_iter().map(server).collect::<Result<Vec<_>, NetError>>()?;
        let attempts = settings.attempts.max(1);
        let tries = u32::try_from(attempts.saturating_mul(all.len().max(1))).unwrap_or(u32::MAX);
        Ok(Servers {
            all,
            ipv6,
            timeout: settings.timeout,
            attempts,
            patience: patience.min(settings.timeout / tries),
            turn: AtomicUsize::new(0),
            begin: Instant::now(),
        })
    }

    /// Asks one server after the other until one gives an answer. Returns it with the time for
    /// which it may be cached.
    async fn look_up(&self, name: &Name) -> (Answer, Duration) {
        let order = self.order();
        let mut tries: VecDeque<usize> = order.iter().copied().cycle().take(self.attempts * order.len()).collect();
        let mut asked: Vec<usize> = Vec::new();
        let mut failures: Vec<(usize, String)> = Vec::new();
        let mut answers = FuturesUnordered::new();
        let mut deadline = pin!(tokio::time::sleep(self.timeout));
        loop {
            // Every iteration asks one more server: at the beginning, after a failure, and when a
            // server is slow.
            if let Some(index) = tries.pop_front() {
                asked.push(index);
                answers.push(self.all[index].ask(name, self.ipv6).map(move |answer| (index, answer)));
            }
            let patience = tokio::time::sleep(self.patience);
            tokio::select! {
                answer = answers.next() => match answer {
                    Some((index, Ok((answer, ttl)))) => {
                        self.remember_stand_ins(&asked, index);
                        return (answer, ttl);
                    }
                    Some((index, Err(reason))) => {
                        failures.push((index, reason));
                        tries.retain(|other| *other != index);
                    }
                    None => return (Err(self.failure(&asked, &failures)), FAILURE_TTL),
                },
                () = patience, if !tries.is_empty() => {}
                () = &mut deadline => return (Err(self.failure(&asked, &failures)), FAILURE_TTL),
            }
        }
    }

    /// Returns the order in which to ask the servers: round robin, but recently failing ones last.
    fn order(&self) -> Vec<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = self.milliseconds();
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        let first = turn % order.len().max(1);
        order.rotate_left(first);
        order.sort_by_key(|index| now < self.all[*index].ailing_until.load(Ordering::Relaxed));
        order
    }

    fn milliseconds(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    /// Counts a stand-in for every server that was asked before the one that answered. If no server
    /// answers, nothing is counted.
    fn remember_stand_ins(&self, asked: &[usize], answered: usize) {
        self.all[answered].stand_ins.store(0, Ordering::Relaxed);
        for index in asked.iter().take_while(|index| **index != answered) {
            let server = &self.all[*index];
            if server.stand_ins.fetch_add(1, Ordering::Relaxed) + 1 >= STAND_INS {
                let until = self.milliseconds() + AILING.as_millis() as u64;
                let before = server.ailing_until.swap(until, Ordering::Relaxed);
                if before == 0 {
                    tracing::warn!(server = %server.address, "a name server fails or is slow; others are asked first for a while");
                }
            }
        }
    }

    /// Returns the error if none of the servers that were asked has answered.
    fn failure(&self, asked: &[usize], failures: &[(usize, String)]) -> NoAddress {
        if failures.is_empty() {
            return NoAddress::TimedOut { after: self.timeout };
        }
        let each_once = asked.iter().enumerate().filter(|(at, index)| !asked[..*at].contains(index));
        let reasons = each_once.map(|(_, index)| {
            let reason = failures.iter().find(|(failed, _)| failed == index).map(|(_, reason)| reason.as_str());
            format!("{} {}", self.all[*index].address, reason.unwrap_or("did not answer"))
        });
        NoAddress::ServersFailed { reason: reasons.collect::<Vec<_>>().join("; ") }
    }
}

/// A server's answer for one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Family {
    Addresses(Vec<IpAddr>, Duration),
    /// NXDOMAIN.
    NoSuchName(Duration),
    /// The name exists without addresses.
    Empty(Duration),
    Failed(String),
}

impl Server {
    /// Returns the addresses of a name, IPv4 first, with the time for which they may be cached. The
    /// inner error is an answer, such as "no such name". The outer error is a failure of this
    /// server.
    async fn ask(&self, name: &Name, ipv6: bool) -> Result<(Answer, Duration), String> {
        if !ipv6 {
            return merge(self.ask_family(name, RecordType::A).await, None);
        }
        let v4 = pin!(self.ask_family(name, RecordType::A));
        let v6 = pin!(self.ask_family(name, RecordType::AAAA));
        match select(v4, v6).await {
            Either::Left((v4, rest)) => {
                let v6 = second(&v4, rest).await;
                merge(v4, Some(v6))
            }
            Either::Right((v6, rest)) => {
                let v4 = second(&v6, rest).await;
                merge(v4, Some(v6))
            }
        }
    }

    async fn ask_family(&self, name: &Name, family: RecordType) -> Family {
        match self.dns.lookup(name.clone(), family).await {
            Ok(lookup) => {
                let addresses: Vec<IpAddr> =
                    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                let ttl = lookup.valid_until().saturating_duration_since(Instant::now());
                if addresses.is_empty() {
                    Family::Empty(ttl.clamp(NEGATIVE_TTL.0, NEGATIVE_TTL.1))
                } else {
                    Family::Addresses(addresses, ttl.clamp(POSITIVE_TTL.0, POSITIVE_TTL.1))
                }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let ttl = Duration::from_secs(none.negative_ttl.unwrap_or(0).into());
                let ttl = ttl.clamp(NEGATIVE_TTL.0, NEGATIVE_TTL.1);
                match none.response_code {
                    ResponseCode::NXDomain => Family::NoSuchName(ttl),
                    ResponseCode::NoError => Family::Empty(ttl),
                    code => Family::Failed(answered(code)),
                }
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Family::Failed(answered(code)),
            Err(NetError::Timeout) => Family::Failed("did not answer".to_owned()),
            Err(error) => Family::Failed(format!("failed: {error}")),
        }
    }
}

/// Returns the name of a response code as in server logs, such as SERVFAIL.
fn answered(code: ResponseCode) -> String {
    format!("answered {}", format!("{code:?}").to_uppercase())
}

/// Waits for the second address family, but only briefly if the first one has addresses.
async fn second(first: &Family, rest: impl Future<Output = Family>) -> Family {
    if !matches!(first, Family::Addresses(..)) {
        return rest.await;
    }
    let late = |_| Family::Failed("did not answer".to_owned());
    tokio::time::timeout(FAMILY_DELAY, rest).await.unwrap_or_else(late)
}

/// Merges the answers for IPv4 and, if it was asked for, IPv6.
///
/// Addresses are used whatever the other answer is. NXDOMAIN applies to all record types (RFC
/// 8020). "No address" is accepted only if both families have none.
fn merge(v4: Family, v6: Option<Family>) -> Result<(Answer, Duration), String> {
    let ipv6 = v6.is_some();
    let families = [Some(v4), v6].into_iter().flatten();
    let (mut addresses, mut ttl) = (Vec::new(), POSITIVE_TTL.1);
    let (mut no_such_name, mut failed) = (None, None);
    for family in families {
        match family {
            Family::Addresses(more, its_ttl) => {
                addresses.extend(more);
                ttl = ttl.min(its_ttl);
            }
            Family::NoSuchName(its_ttl) => no_such_name = Some(its_ttl),
            Family::Empty(its_ttl) => ttl = ttl.min(its_ttl),
            Family::Failed(reason) => failed = Some(reason),
        }
    }
    match (no_such_name, failed) {
        (_, failed) if !addresses.is_empty() => {
            // The addresses of one family are cached only briefly if the other family failed.
            let ttl = if failed.is_some() { POSITIVE_TTL.0 } else { ttl };
            Ok((Ok(addresses.into()), ttl))
        }
        (Some(ttl), _) => Ok((Err(NoAddress::NoSuchName), ttl)),
        (None, Some(reason)) => Err(reason),
        (None, None) => Ok((Err(NoAddress::Empty { ipv6 }), ttl)),
    }
}

/// Connects to servers as hickory does, except that a UDP query is sent only once.
#[derive(Clone, Default)]
struct Wire {
    runtime: TokioRuntimeProvider,
}

impl ConnectionProvider for Wire {
    type Conn = DnsExchange<TokioRuntimeProvider>;
    type FutureConn = BoxFuture<'static, Result<Self::Conn, NetError>>;
    type RuntimeProvider = TokioRuntimeProvider;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        if !matches!(config.protocol, ProtocolConfig::Udp) {
            return self.runtime.new_connection(ip, config, context);
        }
        let stream = UdpClientStream::builder(SocketAddr::new(ip, config.port), self.runtime.clone())
            .with_timeout(Some(context.options.timeout))
            .with_max_retries(1); // the number of packets, not of retries
        Ok(async move { Ok(stream.exchange()) }.boxed())
    }

    fn runtime_provider(&self) -> &Self::RuntimeProvider {
        &self.runtime
    }
}

fn udp_and_tcp(address: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut config.connections {
        connection.port = address.port();
    }
    config
}

/// Returns whether this machine has a route to the IPv6 internet. Connecting a UDP socket sends
/// nothing, but fails without a route.
///
/// Without a route, queries for IPv6 addresses would only double the load on the servers.
fn has_ipv6_route() -> bool {
    /// Any address of 2000::/3, which is all of global unicast.
    const ANYWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let connected = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((ANYWHERE, 53)));
    connected.is_ok()
}

/// Takes the lock, even if it is poisoned: no code under it can leave the state half changed.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
