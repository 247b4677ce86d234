//! Addresses of host names, asked from several name servers in this process, without flooding them
//! and without asking twice.
//!
//! The wire is hickory's: questions and answers, TCP for answers that UDP cuts off, chains of
//! CNAMEs, the hosts file, special names such as `localhost` and `.invalid` (RFC 6761). What is
//! done here, since hickory 0.26 lacks it or does it otherwise:
//!
//! * **Servers.** Hickory ends a look-up with the first SERVFAIL or REFUSED, even while another
//!   server would answer, and never learns to avoid the server that said so. With one failing and
//!   one good server, none of 50 names was resolved. Its time limit of one server is that of the
//!   whole round, and `try_tcp_on_error` is read nowhere. Here every look-up asks one server, in
//!   turn, and the next one as soon as that fails or is slow. Servers that others had to stand in
//!   for come last for a while.
//! * **Packets.** Hickory sends a question by UDP three times within 0.7 s. Here one try is one
//!   packet: a server that is slow because it is overloaded is not asked more for it.
//! * **Families.** Hickory hides a failure for one address family behind "no records" for the
//!   other. Here that is a failure, and the next server is asked.
//! * **Cache.** Hickory's keeps no failures and does not tell hits from misses; it is switched off,
//!   and whole answers are kept here for the time that hickory reads from the records, within the
//!   bounds below.

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

/// Least and most look-ups that are sent to the servers at once; between them, as many as there are
/// URLs in flight, none of which then waits for a place. Each is two questions where this machine
/// has IPv6. BIND serves 1,000 recursive clients at once by default (`recursive-clients`), Unbound
/// 1,024 questions per thread (`num-queries-per-thread`).
const LOOK_UPS_IN_FLIGHT: (usize, usize) = (128, 512);
/// Longest wait for a server before another one is asked as well. A cold name takes a healthy
/// resolver some hundred milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// Wait of the answer for one address family for the other. RFC 8305, section 3, proposes 50 ms for
/// clients that a person waits for.
const FAMILY_DELAY: Duration = Duration::from_millis(500);
/// Look-ups in a row in which another server had to stand in, after which a server comes last.
const STAND_INS: u32 = 3;
/// Time for which such a server comes last before it is tried again.
const AILING: Duration = Duration::from_secs(10);

/// Shortest and longest time that addresses are kept. Many hosts of a large list are on networks
/// whose records live for 20 to 60 s so that they can move load; without a lower bound each of
/// their rows would be a question.
const POSITIVE_TTL: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));
/// Shortest and longest time that "no such name" and "no address" are kept; the shortest also if
/// the answer does not say how long.
const NEGATIVE_TTL: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));
/// Life of a failure of the servers: less than the shortest wait before a row's next attempt (half
/// of 500 ms), so that this asks anew.
const FAILURE_TTL: Duration = Duration::from_millis(200);

/// A source of addresses of host names.
pub(crate) trait Names: Send + Sync {
    /// Returns the addresses of a host, in the order in which they are to be tried. They are not
    /// checked.
    fn look_up(&self, host: String) -> BoxFuture<'static, std::result::Result<Vec<IpAddr>, NoAddress>>;
}

/// A host without address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAddress {
    /// Text that cannot be asked for.
    #[error("not a host name: {reason}")]
    Invalid { reason: String },
    /// NXDOMAIN.
    #[error("no such name")]
    NoSuchName,
    /// The name exists, but without addresses of the families that are asked for.
    #[error("the name has no {}", if *.ipv6 { "address" } else { "IPv4 address, and this machine has no route to IPv6" })]
    Empty { ipv6: bool },
    /// Every server failed or had not answered in time; at least one said something.
    #[error("the name servers failed: {reason}")]
    ServersFailed { reason: String },
    /// No server said anything.
    #[error("no name server answered within {} s", .after.as_secs_f64())]
    TimedOut { after: Duration },
    /// There is nobody to ask.
    #[error("no system name servers: {reason}")]
    NoServers { reason: String },
}

impl NoAddress {
    /// Returns whether the same question may have another answer soon.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, NoAddress::ServersFailed { .. } | NoAddress::TimedOut { .. })
    }
}

/// Whom to ask, and how patiently.
#[derive(Debug, Clone)]
pub(crate) struct NamesSettings {
    /// Name servers, by UDP and TCP. If there are none, those of the system are asked, after its
    /// hosts file.
    pub(crate) servers: Vec<SocketAddr>,
    /// Time for a whole look-up, over all servers. Waiting for a place among the look-ups in flight
    /// does not count.
    pub(crate) timeout: Duration,
    /// Attempts at a server that stays silent. One that says that it failed is not asked again.
    pub(crate) attempts: usize,
    /// Names whose answers are kept.
    pub(crate) cache_size: usize,
    /// Rows that may want a name at once.
    pub(crate) concurrency: usize,
}

impl Default for NamesSettings {
    fn default() -> Self {
        // A name takes some hundred bytes.
        let (servers, concurrency) = (Vec::new(), LOOK_UPS_IN_FLIGHT.0);
        NamesSettings { servers, timeout: Duration::from_secs(10), attempts: 2, cache_size: 65_536, concurrency }
    }
}

impl NamesSettings {
    fn look_ups_in_flight(&self) -> usize {
        self.concurrency.clamp(LOOK_UPS_IN_FLIGHT.0, LOOK_UPS_IN_FLIGHT.1)
    }
}

/// Counts of the work of a resolver.
#[derive(Debug, Default)]
pub(crate) struct NameCounts {
    /// Addresses asked for, by whoever.
    pub(crate) look_ups: AtomicU64,
    /// Look-ups that no server was asked for: answered from the cache, or shared with a look-up in
    /// flight.
    pub(crate) shared: AtomicU64,
    /// Look-ups by the servers that ended without an address.
    pub(crate) failures: AtomicU64,
    /// Total time of the look-ups by the servers, milliseconds, without waiting for a place among
    /// those in flight.
    pub(crate) milliseconds: AtomicU64,
}

type Answer = Result<Arc<[IpAddr]>, NoAddress>;

/// Asks name servers for addresses. Clones share everything.
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

/// Answers that are there, and those that are on their way. One lock for both, so that nobody asks
/// for what has just arrived.
#[derive(Debug)]
struct Known {
    cache: Cache,
    coming: HashMap<String, Coming>,
    look_ups_begun: u64,
}

/// A look-up in flight. It belongs to those who wait for it: when all of them have gone, it ends.
#[derive(Debug)]
struct Coming {
    number: u64,
    answer: WeakShared<BoxFuture<'static, Answer>>,
}

impl Resolver {
    /// Sends nothing yet and needs no runtime; looking up does. Without usable system name servers
    /// every look-up fails, and a warning says so.
    pub(crate) fn new(settings: &NamesSettings, counts: Arc<NameCounts>) -> Resolver {
        Resolver::with(settings, counts, has_ipv6_route(), PATIENCE)
    }

    /// Asks for IPv6 addresses only if `ipv6` says so, and waits for a server `patience` at most
    /// before another one is asked as well.
    fn with(settings: &NamesSettings, counts: Arc<NameCounts>, ipv6: bool, patience: Duration) -> Resolver {
        let servers =
            Servers::new(settings, ipv6, patience).map_err(|error| NoAddress::NoServers { reason: error.to_string() });
        if let Err(error) = &servers {
            tracing::warn!(%error, "only URLs with numeric hosts can be fetched");
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

    /// Returns the answer for a host, at once or when it comes.
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

/// Returns the name as it is asked for, complete, so that search domains have no part in it: hosts
/// of URLs are complete names.
///
/// Labels may be any ASCII. Names with underscores or with hyphens at the ends are no host names by
/// the book (RFC 952), but there are such hosts.
fn absolute_name(host: &str) -> Result<Name, NoAddress> {
    if !host.is_ascii() {
        return Err(NoAddress::Invalid { reason: "it has to be in Punycode".to_owned() });
    }
    // The texts of these errors are for programmers.
    let reason = "between its dots there must be 1 to 63 characters, and 253 in all";
    let invalid = |_: ProtoError| NoAddress::Invalid { reason: reason.to_owned() };
    let mut name = Name::from_labels(host.split('.').map(str::as_bytes)).map_err(invalid)?;
    name.set_fqdn(true);
    Ok(name)
}

/// One look-up in flight, which leaves the table when it is done or dropped.
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
        // Before the look-up leaves the table, so that there is no moment in which the answer is in
        // neither place.
        lock(&inner.known).cache.insert(self.key.clone(), answer.clone(), ttl, now);
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut known = lock(&self.inner.known);
        // If everybody who waited has gone, somebody new may have begun another look-up of the name
        // by now.
        if known.coming.get(&self.key).is_some_and(|coming| coming.number == self.number) {
            known.coming.remove(&self.key);
        }
    }
}

/// Answers that may be used again.
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

    /// Forgets what has expired, and if that is less than half of all, what expires first. So a
    /// full table is gone through only once for as many new names as it forgets.
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
    /// Look-ups begun, for taking turns.
    turn: AtomicUsize,
    begin: Instant,
}

/// One name server, with a hickory resolver of its own.
#[derive(Debug)]
struct Server {
    /// The address, for messages.
    address: SocketAddr,
    dns: hickory_resolver::Resolver<Wire>,
    /// Look-ups in a row in which another server had to stand in for this one.
    stand_ins: AtomicU32,
    /// Until when it comes last, milliseconds since [`Servers::begin`].
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
        options.max_active_requests = 2 * settings.look_ups_in_flight(); // of a TCP connection
        // Longer than the whole look-up takes at most, so that it is here that time ends.
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

    /// Asks one server after the other until one of them knows, and says for how long the answer
    /// holds.
    async fn look_up(&self, name: &Name) -> (Answer, Duration) {
        let order = self.order();
        let mut tries: VecDeque<usize> = order.iter().copied().cycle().take(self.attempts * order.len()).collect();
        let mut asked: Vec<usize> = Vec::new();
        let mut failures: Vec<(usize, String)> = Vec::new();
        let mut answers = FuturesUnordered::new();
        let mut deadline = pin!(tokio::time::sleep(self.timeout));
        loop {
            // Every turn of the loop asks one server more: at the beginning, after a failure, and
            // when patience has run out.
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

    /// Returns the servers in the order in which they are to be asked: in turn, but those that fail
    /// of late last.
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

    /// Holds it against the servers that were asked before the one that answered. A name that none
    /// can look up is held against none.
    fn remember_stand_ins(&self, asked: &[usize], answered: usize) {
        self.all[answered].stand_ins.store(0, Ordering::Relaxed);
        for index in asked.iter().take_while(|index| **index != answered) {
            let server = &self.all[*index];
            if server.stand_ins.fetch_add(1, Ordering::Relaxed) + 1 >= STAND_INS {
                let until = self.milliseconds() + AILING.as_millis() as u64;
                let before = server.ailing_until.swap(until, Ordering::Relaxed);
                if before == 0 {
                    tracing::warn!(server = %server.address, "name server fails or is slow; others are asked first");
                }
            }
        }
    }

    /// Returns what there is to say if no server of those that were asked had an answer.
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
    /// The name is there, addresses are not.
    Empty(Duration),
    Failed(String),
}

impl Server {
    /// Returns the addresses of a name with the time for which they hold, IPv4 first; the inner
    /// error is an answer as well. The outer one is a failure of this server.
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

/// Returns a code as name servers' logs write it, such as SERVFAIL.
fn answered(code: ResponseCode) -> String {
    format!("answered {}", format!("{code:?}").to_uppercase())
}

/// Waits for the second family, but not long if the first one has addresses already.
async fn second(first: &Family, rest: impl Future<Output = Family>) -> Family {
    if !matches!(first, Family::Addresses(..)) {
        return rest.await;
    }
    let late = |_| Family::Failed("did not answer".to_owned());
    tokio::time::timeout(FAMILY_DELAY, rest).await.unwrap_or_else(late)
}

/// Makes one answer of the answers for IPv4 and, where it was asked for, IPv6.
///
/// Addresses count, whatever the other family says. NXDOMAIN holds for all types (RFC 8020). "No
/// address" is believed only for both.
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
            // One family alone is not kept for long, if the other one may come back.
            let ttl = if failed.is_some() { POSITIVE_TTL.0 } else { ttl };
            Ok((Ok(addresses.into()), ttl))
        }
        (Some(ttl), _) => Ok((Err(NoAddress::NoSuchName), ttl)),
        (None, Some(reason)) => Err(reason),
        (None, None) => Ok((Err(NoAddress::Empty { ipv6 }), ttl)),
    }
}

/// Hickory's way to reach a server, except that a question by UDP is one packet.
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
            .with_max_retries(1); // packets, not retries
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

/// Returns whether this machine could reach the IPv6 internet. Connecting a UDP socket sends
/// nothing, but fails without a route.
///
/// Without one, questions for IPv6 addresses would only double the load on the servers.
fn has_ipv6_route() -> bool {
    /// Any address of 2000::/3, which is all of global unicast.
    const ANYWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let connected = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((ANYWHERE, 53)));
    connected.is_ok()
}

/// Takes the lock, also after a panic: nothing under it can break off half done.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
