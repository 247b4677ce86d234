use std::net::Ipv4Addr;

use futures::future::join_all;
use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::rdata::{CNAME, SOA};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

/// The answer of a test's name server; the default is an empty answer without error.
#[derive(Debug, Default)]
struct Reply {
    code: Option<ResponseCode>,
    addresses: Vec<IpAddr>,
    alias: Option<&'static str>,
    /// Of the addresses, seconds.
    ttl: u32,
    /// Time that a negative answer is valid, seconds.
    negative_ttl: Option<u32>,
    is_cut_off: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Question {
    name: String,
    family: RecordType,
    transport: Transport,
}

/// No reply at all, if it is `None`.
type Behaviour = dyn Fn(&Question) -> Option<Reply> + Send + Sync;

/// A name server on the loopback interface, by UDP and TCP, until it is dropped.
struct NameServer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<Question>>>,
    _tasks: JoinSet<()>,
}

impl NameServer {
    async fn start(behaviour: impl Fn(&Question) -> Option<Reply> + Send + Sync + 'static) -> NameServer {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let questions = Arc::<Mutex<Vec<Question>>>::default();
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let answer = {
            let questions = questions.clone();
            move |packet: &[u8], transport| answer(packet, transport, &questions, &*behaviour)
        };
        let mut tasks = JoinSet::new();
        let answer_udp = answer.clone();
        tasks.spawn(async move {
            let mut packet = [0; 1500];
            loop {
                let (length, from) = udp.recv_from(&mut packet).await.unwrap();
                if let Some(reply) = answer_udp(&packet[..length], Transport::Udp) {
                    udp.send_to(&reply, from).await.unwrap();
                }
            }
        });
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                while let Ok(length) = stream.read_u16().await {
                    let mut packet = vec![0; length.into()];
                    stream.read_exact(&mut packet).await.unwrap();
                    if let Some(reply) = answer(&packet, Transport::Tcp) {
                        stream.write_u16(reply.len() as u16).await.unwrap();
                        stream.write_all(&reply).await.unwrap();
                    }
                }
            }
        });
        NameServer { address, questions, _tasks: tasks }
    }

    /// One that has these addresses for every name.
    async fn with(addresses: &[&str]) -> NameServer {
        let all = addresses_of(addresses);
        NameServer::start(move |question| {
            let is_asked_for = |address: &&IpAddr| address.is_ipv4() == (question.family == RecordType::A);
            let addresses = all.iter().filter(is_asked_for).copied().collect();
            Some(Reply { addresses, ttl: 300, ..Reply::default() })
        })
        .await
    }

    async fn silent() -> NameServer {
        NameServer::start(|_| None).await
    }

    async fn saying(code: ResponseCode) -> NameServer {
        NameServer::start(move |_| Some(Reply { code: Some(code), ..Reply::default() })).await
    }

    fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap().clone()
    }
}

fn answer(packet: &[u8], transport: Transport, asked: &Mutex<Vec<Question>>, behaviour: &Behaviour) -> Option<Vec<u8>> {
    let request = Message::from_vec(packet).unwrap();
    let query: &Query = &request.queries[0];
    let name = query.name().clone();
    let question = Question { name: name.to_ascii(), family: query.query_type(), transport };
    asked.lock().unwrap().push(question.clone());
    let reply = behaviour(&question)?;
    let mut message = request.clone().into_response();
    message.additionals.clear();
    message.edns = None;
    message.metadata.response_code = reply.code.unwrap_or(ResponseCode::NoError);
    message.metadata.truncation = reply.is_cut_off;
    message.metadata.recursion_available = true;
    if let Some(alias) = reply.alias {
        let alias = CNAME(Name::from_ascii(alias).unwrap());
        message.add_answer(Record::from_rdata(name.clone(), reply.ttl, RData::CNAME(alias)));
    }
    for address in reply.addresses {
        message.add_answer(Record::from_rdata(name.clone(), reply.ttl, RData::from(address)));
    }
    if let Some(seconds) = reply.negative_ttl {
        let soa = SOA::new(Name::root(), Name::root(), 1, 2, 3, 4, seconds);
        message.add_authority(Record::from_rdata(Name::root(), seconds, RData::SOA(soa)));
    }
    Some(message.to_vec().unwrap())
}

fn addresses_of(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Longer than a test takes, even on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// A short timeout, so that tests are fast.
const SHORT: Duration = Duration::from_millis(30);

fn settings(servers: &[&NameServer]) -> NamesSettings {
    let servers = servers.iter().map(|server| server.address).collect();
    NamesSettings { servers, timeout: LONG, ..NamesSettings::default() }
}

/// Asks the servers in turn, for IPv4 alone, and waits long for each.
fn resolver(servers: &[&NameServer]) -> Resolver {
    Resolver::with(&settings(servers), Arc::default(), false, LONG)
}

async fn look_up(resolver: &Resolver, host: &str) -> Result<Vec<IpAddr>, NoAddress> {
    resolver.look_up(host.to_owned()).await
}

/// Returns the time for which the answer for a host is kept from now on, seconds.
fn kept_for(resolver: &Resolver, key: &str) -> u64 {
    let until = lock(&resolver.shared.known).cache.answers[key].until;
    until.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_silent_server_is_replaced_by_one_that_answers() {
    let (silent, good) = (NameServer::silent().await, NameServer::with(&["192.0.2.1"]).await);
    let resolver = Resolver::with(&settings(&[&silent, &good]), Arc::default(), false, SHORT);
    for host in ["one.example", "two.example"] {
        assert_eq!(look_up(&resolver, host).await.unwrap(), addresses_of(&["192.0.2.1"]), "{host}");
    }
    assert!(!silent.questions().is_empty() && good.questions().len() >= 2);
}

#[tokio::test]
async fn a_server_that_fails_is_replaced_at_once_and_comes_last_after_three_names() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr, ResponseCode::NotImp] {
        let (bad, good) = (NameServer::saying(code).await, NameServer::with(&["192.0.2.1"]).await);
        let resolver = resolver(&[&bad, &good]); // so patient that only a failure makes it go on
        for number in 0..12 {
            let found = look_up(&resolver, &format!("host{number}.example")).await;
            assert_eq!(found.unwrap(), addresses_of(&["192.0.2.1"]), "{code:?}");
        }
        assert_eq!(bad.questions().len(), STAND_INS as usize, "{code:?}");
        assert_eq!(good.questions().len(), 12, "{code:?}");
        assert_eq!(count(&resolver.shared.counts.failures), 0);
    }
}

#[tokio::test]
async fn servers_take_turns() {
    let servers = [NameServer::with(&["192.0.2.1"]).await, NameServer::with(&["192.0.2.1"]).await];
    let resolver = resolver(&[&servers[0], &servers[1]]);
    for number in 0..10 {
        look_up(&resolver, &format!("host{number}.example")).await.unwrap();
    }
    assert_eq!(servers.each_ref().map(|server| server.questions().len()), [5, 5]);
}

#[tokio::test]
async fn no_such_name_is_final_and_remembered() {
    let servers = [NameServer::saying(ResponseCode::NXDomain).await, NameServer::saying(ResponseCode::NXDomain).await];
    let resolver = resolver(&[&servers[0], &servers[1]]);
    for _ in 0..3 {
        let error = look_up(&resolver, "none.example").await.unwrap_err();
        assert_eq!(error, NoAddress::NoSuchName);
        assert!(!error.may_pass());
    }
    assert_eq!(servers[0].questions().len() + servers[1].questions().len(), 1);
    let counts = &resolver.shared.counts;
    assert_eq!([&counts.look_ups, &counts.shared, &counts.failures].map(count), [3, 2, 1]);
}

#[tokio::test]
async fn two_hundred_at_once_are_one_question() {
    let server = NameServer::with(&["192.0.2.1"]).await;
    let resolver = resolver(&[&server]);
    let found = join_all((0..200).map(|_| look_up(&resolver, "one.example"))).await;
    assert!(found.into_iter().all(|found| found.unwrap() == addresses_of(&["192.0.2.1"])));
    assert_eq!(server.questions().len(), 1);
    let counts = &resolver.shared.counts;
    assert_eq!([&counts.look_ups, &counts.shared, &counts.failures].map(count), [200, 199, 0]);
    assert!(lock(&resolver.shared.known).coming.is_empty());
    look_up(&resolver.clone(), "one.example").await.unwrap();
    assert_eq!(server.questions().len(), 1, "then the cache answers, for clones as well");
}

#[tokio::test]
async fn those_who_still_wait_get_their_answer_when_another_one_leaves() {
    let server = NameServer::with(&["192.0.2.1"]).await;
    let resolver = resolver(&[&server]);
    let mut first = Box::pin(look_up(&resolver, "one.example"));
    let mut second = Box::pin(look_up(&resolver, "one.example"));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(server.questions().len(), 1);
}

#[tokio::test]
async fn a_look_up_that_nobody_waits_for_ends() {
    let server = NameServer::silent().await;
    let resolver = resolver(&[&server]);
    let mut waiters = [Box::pin(look_up(&resolver, "one.example")), Box::pin(look_up(&resolver, "one.example"))];
    for waiter in &mut waiters {
        assert!(waiter.now_or_never().is_none());
    }
    assert_eq!(resolver.shared.in_flight.available_permits(), LOOK_UPS_IN_FLIGHT.0 - 1);
    drop(waiters);
    assert_eq!(resolver.shared.in_flight.available_permits(), LOOK_UPS_IN_FLIGHT.0);
    assert!(lock(&resolver.shared.known).coming.is_empty());
}

#[tokio::test]
async fn silence_everywhere_ends_in_time_and_each_try_is_one_packet() {
    let servers = [NameServer::silent().await, NameServer::silent().await];
    let settings = NamesSettings { timeout: Duration::from_millis(900), ..settings(&[&servers[0], &servers[1]]) };
    let resolver = Resolver::with(&settings, Arc::default(), false, SHORT);
    let error = tokio::time::timeout(LONG, look_up(&resolver, "one.example")).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no name server answered within 0.9 s");
    assert!(error.may_pass());
    for server in &servers {
        let asked = server.questions().len();
        assert!((1..=settings.attempts).contains(&asked), "asked {asked} times");
    }
    assert_eq!(count(&resolver.shared.counts.failures), 1);
    assert!(count(&resolver.shared.counts.milliseconds) >= 900);
}

#[tokio::test]
async fn failures_say_which_server_did_what() {
    let (failing, silent) = (NameServer::saying(ResponseCode::ServFail).await, NameServer::silent().await);
    let error = look_up(&resolver(&[&failing]), "one.example").await.unwrap_err();
    assert_eq!(error.to_string(), format!("the name servers failed: {} answered SERVFAIL", failing.address));
    assert!(error.may_pass());
    assert_eq!(failing.questions().len(), 1, "who says that it fails is not asked again");
    let settings = NamesSettings { timeout: Duration::from_millis(300), ..settings(&[&failing, &silent]) };
    let error = look_up(&Resolver::with(&settings, Arc::default(), false, SHORT), "one.example").await.unwrap_err();
    let (first, second) = (failing.address, silent.address);
    let message = format!("the name servers failed: {first} answered SERVFAIL; {second} did not answer");
    assert_eq!(error.to_string(), message);
}

#[tokio::test]
async fn answers_that_are_cut_off_come_by_tcp() {
    let server = NameServer::start(|question| {
        let addresses = (1..=100).map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let is_cut_off = question.transport == Transport::Udp;
        let addresses = if is_cut_off { Vec::new() } else { addresses.collect() };
        Some(Reply { is_cut_off, addresses, ttl: 300, ..Reply::default() })
    })
    .await;
    assert_eq!(look_up(&resolver(&[&server]), "big.example").await.unwrap().len(), 100);
    let transports: Vec<Transport> = server.questions().iter().map(|question| question.transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
}

#[tokio::test]
async fn addresses_come_unchecked_and_ipv4_first() {
    let server = NameServer::with(&["::1", "10.0.0.1", "fd00::1", "169.254.169.254"]).await;
    let resolver = Resolver::with(&settings(&[&server]), Arc::default(), true, LONG);
    let found = look_up(&resolver, "inside.example").await.unwrap();
    assert_eq!(found, addresses_of(&["10.0.0.1", "169.254.169.254", "::1", "fd00::1"]));
    assert_eq!(server.questions().len(), 2, "one for each family");
}

#[tokio::test]
async fn aliases_are_followed() {
    let server = NameServer::start(|question| {
        Some(match &*question.name {
            "www.example." => Reply { alias: Some("cdn.example."), ttl: 300, ..Reply::default() },
            _ => Reply { addresses: addresses_of(&["192.0.2.1"]), ttl: 300, ..Reply::default() },
        })
    })
    .await;
    assert_eq!(look_up(&resolver(&[&server]), "www.example").await.unwrap(), addresses_of(&["192.0.2.1"]));
}

#[tokio::test]
async fn a_failure_for_one_family_is_not_taken_for_no_address() {
    // The first server has no A record and fails for AAAA.
    let bad = NameServer::start(|question| {
        let code = (question.family == RecordType::AAAA).then_some(ResponseCode::ServFail);
        Some(Reply { code, ..Reply::default() })
    })
    .await;
    let good = NameServer::with(&["2001:db8::1"]).await;
    let resolver = Resolver::with(&settings(&[&bad, &good]), Arc::default(), true, LONG);
    assert_eq!(look_up(&resolver, "six.example").await.unwrap(), addresses_of(&["2001:db8::1"]));
}

#[tokio::test]
async fn a_family_that_stays_silent_does_not_hold_the_other_back() {
    let server = NameServer::start(|question| {
        let addresses = addresses_of(&["192.0.2.1"]);
        (question.family == RecordType::A).then_some(Reply { addresses, ttl: 5000, ..Reply::default() })
    })
    .await;
    let resolver = Resolver::with(&settings(&[&server]), Arc::default(), true, LONG);
    assert_eq!(look_up(&resolver, "half.example").await.unwrap(), addresses_of(&["192.0.2.1"]));
    assert_eq!(kept_for(&resolver, "half.example"), POSITIVE_TTL.0.as_secs());
}

#[tokio::test]
async fn without_a_route_to_ipv6_only_ipv4_is_asked_for() {
    let server = NameServer::with(&["2001:db8::1"]).await;
    let error = look_up(&resolver(&[&server]), "six.example").await.unwrap_err();
    assert_eq!(error.to_string(), "the name has no IPv4 address, and this machine has no route to IPv6");
    assert!(!error.may_pass());
    assert_eq!(server.questions().len(), 1);
    let server = NameServer::with(&[]).await;
    let resolver = Resolver::with(&settings(&[&server]), Arc::default(), true, LONG);
    let error = look_up(&resolver, "bare.example").await.unwrap_err();
    assert_eq!(error.to_string(), "the name has no address");
}

#[tokio::test]
async fn answers_are_kept_within_bounds() {
    for (ttl, kept) in [(0, 60), (59, 60), (3600, 3600), (10 * 86_400, 86_400)] {
        let server = NameServer::start(move |_| {
            Some(Reply { addresses: addresses_of(&["192.0.2.1"]), ttl, ..Reply::default() })
        })
        .await;
        let resolver = resolver(&[&server]);
        look_up(&resolver, "one.example").await.unwrap();
        assert_eq!(kept_for(&resolver, "one.example"), kept, "{ttl}");
    }
    for (negative_ttl, kept) in [(None, 60), (Some(5), 60), (Some(300), 300), (Some(86_400), 600)] {
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let server =
                NameServer::start(move |_| Some(Reply { code: Some(code), negative_ttl, ..Reply::default() })).await;
            let resolver = resolver(&[&server]);
            assert!(!look_up(&resolver, "none.example").await.unwrap_err().may_pass());
            assert_eq!(kept_for(&resolver, "none.example"), kept, "{negative_ttl:?} {code:?}");
        }
    }
    let server = NameServer::saying(ResponseCode::ServFail).await;
    let resolver = resolver(&[&server]);
    look_up(&resolver, "bad.example").await.unwrap_err();
    assert!(kept_for(&resolver, "bad.example") <= 1);
}

#[tokio::test]
async fn spellings_of_a_name_are_one_and_search_domains_are_not_tried() {
    let server = NameServer::with(&["192.0.2.1"]).await;
    let resolver = resolver(&[&server]);
    for host in ["Host.Example", "host.example.", "HOST.EXAMPLE"] {
        look_up(&resolver, host).await.unwrap();
    }
    for host in ["a_b.example", "_dmarc.example", "xn--bcher-kva.example", "-x-.example", "single"] {
        look_up(&resolver, host).await.unwrap();
    }
    let names: Vec<String> = server.questions().into_iter().map(|question| question.name).collect();
    let expected =
        ["host.example.", "a_b.example.", "_dmarc.example.", "xn--bcher-kva.example.", "\\-x-.example.", "single."];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn what_is_no_name_is_not_asked_for() {
    let server = NameServer::with(&["192.0.2.1"]).await;
    let resolver = resolver(&[&server]);
    let label = format!("{}.example", "x".repeat(64));
    let whole = format!("{}example", "abcdefg.".repeat(32));
    for host in ["", ".", "..", ".example", "a..example", "example..", "b\u{fc}cher.example", &label, &whole] {
        let error = look_up(&resolver, host).await.expect_err(host);
        assert!(matches!(error, NoAddress::Invalid { .. }) && !error.may_pass(), "{host}: {error}");
    }
    // Names that must not be sent to servers (RFC 6761).
    assert_eq!(look_up(&resolver, "localhost").await.unwrap(), addresses_of(&["127.0.0.1"]));
    assert_eq!(look_up(&resolver, "x.invalid").await.unwrap_err(), NoAddress::NoSuchName);
    assert_eq!(server.questions(), []);
    assert!(look_up(&resolver, &format!("{}.example", "x".repeat(63))).await.is_ok());
}

#[tokio::test]
async fn no_more_look_ups_are_in_flight_than_the_bound() {
    let server = NameServer::silent().await;
    let resolver = resolver(&[&server]);
    let mut look_ups = JoinSet::new();
    for number in 0..2 * LOOK_UPS_IN_FLIGHT.0 {
        look_ups.spawn(resolver.look_up(format!("host{number}.example")));
    }
    while server.questions().len() < LOOK_UPS_IN_FLIGHT.0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.questions().len(), LOOK_UPS_IN_FLIGHT.0);
    assert_eq!(lock(&resolver.shared.known).coming.len(), 2 * LOOK_UPS_IN_FLIGHT.0);
}

#[test]
fn is_made_without_a_runtime_and_shows_itself() {
    let settings = NamesSettings { servers: vec!["127.0.0.1:9".parse().unwrap()], ..NamesSettings::default() };
    let resolver = Resolver::new(&settings, Arc::default());
    assert!(format!("{resolver:?}").contains("127.0.0.1:9"));
}

#[test]
fn the_cache_forgets_what_has_expired_and_never_outgrows_its_size() {
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);
    let answer: Answer = Ok(Arc::from(addresses_of(&["192.0.2.1"])));
    let mut cache = Cache { capacity: 10, answers: HashMap::new() };
    cache.insert("one".to_owned(), answer.clone(), Duration::from_mins(1), begin);
    assert_eq!(cache.get("one", at(59)), Some(answer.clone()));
    assert_eq!(cache.get("one", at(60)), None);
    assert_eq!(cache.get("two", begin), None);
    for number in 0..1000 {
        cache.insert(number.to_string(), answer.clone(), Duration::from_secs(100 + number), begin);
        assert!(cache.answers.len() <= 10);
        assert!(cache.get(&number.to_string(), begin).is_some());
    }
    assert!(cache.get("998", begin).is_some(), "what expires first goes first");
    cache.insert("999".to_owned(), Err(NoAddress::NoSuchName), Duration::from_secs(9), begin);
    assert_eq!(cache.get("999", begin), Some(Err(NoAddress::NoSuchName)), "the newer answer counts");
    let mut none = Cache { capacity: 0, answers: HashMap::new() };
    none.insert("one".to_owned(), answer, Duration::from_mins(1), begin);
    assert_eq!(none.get("one", begin), None);
}

#[test]
fn two_families_make_one_answer() {
    let seconds = Duration::from_secs;
    let addresses = |text: &str, ttl| Family::Addresses(addresses_of(&[text]), seconds(ttl));
    let failed = || Family::Failed("answered SERVFAIL".to_owned());
    let found = |texts: &[&str], ttl| Ok((Ok(Arc::from(addresses_of(texts))), seconds(ttl)));
    let none = |error, ttl| Ok((Err(error), seconds(ttl)));
    let cases = [
        (addresses("192.0.2.1", 90), addresses("::2", 80), found(&["192.0.2.1", "::2"], 80)),
        (addresses("192.0.2.1", 90), Family::Empty(seconds(70)), found(&["192.0.2.1"], 70)),
        (addresses("192.0.2.1", 90), failed(), found(&["192.0.2.1"], 60)),
        (failed(), addresses("::2", 90), found(&["::2"], 60)),
        (addresses("192.0.2.1", 90), Family::NoSuchName(seconds(70)), found(&["192.0.2.1"], 90)),
        (Family::NoSuchName(seconds(70)), failed(), none(NoAddress::NoSuchName, 70)),
        (Family::Empty(seconds(80)), Family::Empty(seconds(70)), none(NoAddress::Empty { ipv6: true }, 70)),
        (Family::Empty(seconds(80)), failed(), Err("answered SERVFAIL".to_owned())),
        (failed(), failed(), Err("answered SERVFAIL".to_owned())),
    ];
    for (v4, v6, expected) in cases {
        assert_eq!(merge(v4.clone(), Some(v6.clone())), expected, "{v4:?} {v6:?}");
    }
}
