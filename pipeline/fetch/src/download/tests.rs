//! Tests against a loopback server that writes whatever bytes a test wants.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Int64Type, Schema};
use lynxdata_picture::{DynamicImage, Encode, Resize};
use lynxdata_records::{schema, uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::time::Instant;

mod answers;
mod local;
mod network;
mod order;
mod outage;
mod robots;

use super::*;
use crate::client::tests::FixedNames;
use crate::guard;

/// The action of the server after it has read a request.
#[derive(Clone)]
enum Reply {
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// The first request gets the first, and so on; the last is repeated.
    InTurn(Vec<Reply>),
    /// Writes these bytes and then nothing.
    Stalled(Vec<u8>),
    /// Writes the bytes one by one, 20 ms apart.
    Drip(Vec<u8>),
    /// Writes a header without length, then zeros for ever.
    Endless,
    /// Never answers.
    Silent,
    /// Closes without an answer.
    HangUp,
    /// Waits until the test gives a permit, which the next one can use too.
    Held(Arc<Semaphore>, Vec<u8>),
    /// Waits until as many requests as the barrier counts are there.
    Together(Arc<Barrier>, Vec<u8>),
}

/// The counts of a server.
#[derive(Default)]
struct Load {
    requests: AtomicUsize,
    in_flight: AtomicUsize,
    /// Maximum number of requests in flight at once.
    peak: AtomicUsize,
}

struct Server {
    address: String,
    load: Arc<Load>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(replies: impl IntoIterator<Item = (&'static str, Reply)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let replies: Arc<BTreeMap<String, Reply>> =
            Arc::new(replies.into_iter().map(|(path, reply)| (requested(path), reply)).collect());
        let seen: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let load = Arc::new(Load::default());
        let counter = load.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, replies.clone(), seen.clone(), counter.clone()));
            }
        });
        Server { address, load, task }
    }

    fn requests(&self) -> usize {
        self.load.requests.load(Ordering::SeqCst)
    }

    fn peak(&self) -> usize {
        self.load.peak.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

/// Returns the name of a path in a request, or a URL in a request to a proxy.
fn requested(path: &str) -> String {
    if path.contains("://") { path.to_owned() } else { format!("/{path}") }
}

async fn serve(
    mut stream: TcpStream,
    replies: Arc<BTreeMap<String, Reply>>,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    load: Arc<Load>,
) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        if request[0] == 0x16 {
            // A TLS handshake; answered as any server without TLS does.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
    }
    load.requests.fetch_add(1, Ordering::SeqCst);
    load.peak.fetch_max(load.in_flight.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or("").to_owned();
    let turn = {
        let mut seen = seen.lock().unwrap();
        let count = seen.entry(path.clone()).or_insert(0);
        *count += 1;
        *count - 1
    };
    let mut reply = replies.get(&path).cloned().unwrap_or(Reply::Bytes(answer("404 Not Found", &[], b"no")));
    if let Reply::InTurn(turns) = reply {
        reply = turns[turn.min(turns.len() - 1)].clone();
    }
    if let Reply::Held(gate, _) = &reply {
        drop(gate.acquire().await);
    }
    if let Reply::Together(barrier, _) = &reply {
        barrier.wait().await;
    }
    // Before the answer, after which the client may send the next request at once.
    load.in_flight.fetch_sub(1, Ordering::SeqCst);
    // The client may hang up at any moment, so that failing writes are no failure of the test.
    match reply {
        Reply::Bytes(bytes) | Reply::Held(_, bytes) | Reply::Together(_, bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Stalled(bytes) => {
            if stream.write_all(&bytes).await.is_ok() {
                sleep(Duration::from_mins(1)).await;
            }
        }
        Reply::Drip(bytes) => {
            for byte in bytes {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while stream.write_all(&[0; 8192]).await.is_ok() {}
        }
        Reply::Silent => sleep(Duration::from_mins(1)).await,
        Reply::HangUp | Reply::InTurn(_) => {}
    }
}

fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn ok(body: &[u8]) -> Reply {
    Reply::Bytes(answer("200 OK", &["Content-Type: image/jpeg"], body))
}

fn failing(status: &str) -> Reply {
    Reply::Bytes(answer(status, &[], b"sorry"))
}

fn redirect(location: &str) -> Reply {
    Reply::Bytes(answer("302 Found", &[&format!("Location: {location}")], b""))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../picture/fixtures").join(name)).unwrap()
}

/// Settings that keep bytes, allow loopback, and give up quickly.
fn config() -> DownloadConfig {
    DownloadConfig {
        allow_private_addresses: true,
        resize: Resize::Keep,
        timeout_seconds: 5.0,
        retries: 0,
        max_bytes: 100_000,
        robots_txt: false,
        ..DownloadConfig::default()
    }
}

/// A part whose rows have the given URLs, no captions, and a column `extra` that counts.
fn part(urls: &[Option<&str>]) -> SourcePart {
    let empty: ArrayRef = Arc::new(StringArray::new_null(urls.len()));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("url", Arc::new(StringArray::from(urls.to_vec()))),
        ("caption", empty.clone()),
        ("problem", empty.clone()),
        ("file", empty),
        ("offset", Arc::new(Int64Array::new_null(urls.len()))),
        ("length", Arc::new(Int64Array::new_null(urls.len()))),
        ("extra", Arc::new(Int64Array::from_iter_values(0..urls.len() as i64))),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    SourcePart { index: 0, first_row: 100, rows, image: None, chosen: None }
}

/// The part with one more extra column.
fn with_column(part: &SourcePart, name: &str, column: ArrayRef) -> SourcePart {
    let schema = part.rows.schema();
    let field = Arc::new(Field::new(name, column.data_type().clone(), true));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([field]).collect();
    let columns = [part.rows.columns(), &[column]].concat();
    SourcePart { rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap(), ..part.clone() }
}

fn texts(table: &RecordBatch, column: &str) -> Vec<String> {
    let column = table.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or("-").to_owned()).collect()
}

fn integers(table: &RecordBatch, column: &str) -> Vec<Option<i64>> {
    table.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

async fn statuses(downloader: &Downloader, urls: &[String]) -> Vec<String> {
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    texts(&download(downloader, &part(&urls), &|_| {}).await.log, "status")
}

/// The results of a part.
struct Downloaded {
    pool: RecordBatch,
    log: RecordBatch,
}

async fn download(downloader: &Downloader, part: &SourcePart, on_row: &(dyn Fn(Status) + Sync)) -> Downloaded {
    let mut pairs = Vec::new();
    let mut on_pairs = |batch: RecordBatch, measured: Vec<Option<()>>| {
        assert_eq!(measured, vec![None; batch.num_rows()]);
        pairs.push(batch);
        Result::Ok(())
    };
    let log = downloader.download_part(part, None, on_row, &mut on_pairs).await.unwrap();
    Downloaded { pool: concat_batches(&pairs[0].schema(), &pairs).unwrap(), log }
}

/// A downloader that does not wait for hosts that fail before any has answered.
fn impatient(config: &DownloadConfig) -> Downloader {
    let mut downloader = downloader_with(config);
    let patience = Patience { start: Duration::ZERO, probe_every: Duration::ZERO, ..Patience::default() };
    downloader.set_patience(config, patience);
    downloader
}

/// A downloader that spills into the system's folder for temporary files.
fn downloader_with(config: &DownloadConfig) -> Downloader {
    Downloader::new(config, &std::env::temp_dir(), Arc::default()).unwrap()
}

impl Downloader {
    /// So that a test need not wait for half a minute.
    fn set_patience(&mut self, config: &DownloadConfig, patience: Patience) {
        let limits = HostLimits {
            requests: config.requests_per_host,
            per_second: config.requests_per_second_per_host,
            failures: config.host_failure_limit,
            patience,
        };
        Arc::get_mut(&mut self.shared).expect("nothing is under way").hosts = Hosts::new(limits);
    }
}

/// Measures the caption, the length of the file and the sum of its pixels; panics at one caption.
#[derive(Debug)]
struct Sums;

type Sum = (String, i64, Option<u64>);

fn sum_of(caption: &str, stored_bytes: usize, pixels: Option<DynamicImage>) -> Sum {
    let sum = pixels.map(|pixels| pixels.as_bytes().iter().map(|byte| u64::from(*byte)).sum());
    (caption.to_owned(), stored_bytes as i64, sum)
}

impl Measure<Sum> for Sums {
    fn measure(&self, caption: Option<&str>, stored_bytes: usize, pixels: Option<DynamicImage>) -> Sum {
        assert_ne!(caption, Some("bad"), "this message in the test log is expected");
        sum_of(caption.unwrap(), stored_bytes, pixels)
    }
}

#[tokio::test]
async fn pairs_are_measured_on_the_way_and_fail_by_nothing_but_their_picture() {
    let mut damaged = fixture("plain.jpg");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20].as_chunks_mut().0.fill([0xff, 0]); // ones, with which no code begins
    let server = Server::start([
        ("a.jpg", ok(&fixture("plain.jpg"))),
        ("b.png", ok(&fixture("alpha.png"))),
        ("page.jpg", ok(b"<html>")),
        ("damaged.jpg", ok(&damaged)),
    ])
    .await;
    let names = ["a.jpg", "page.jpg", "b.png", "damaged.jpg", "a.jpg", "none.jpg"];
    let urls: Vec<String> = names.iter().map(|name| server.url(name)).collect();
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    for (resize, check) in
        [(Resize::Shorter, Check::Pixels), (Resize::Keep, Check::Pixels), (Resize::Keep, Check::Structure)]
    {
        let downloader = downloader_with(&DownloadConfig { resize, check, size: 20, retries: 0, ..config() });
        for captions in [["one", "", "two", "three", "four", ""], ["one", "", "two", "three", "bad", ""]] {
            let mut part = part(&urls);
            let mut columns = part.rows.columns().to_vec();
            columns[column::CAPTION] = Arc::new(StringArray::from(captions.to_vec()));
            part.rows = RecordBatch::try_new(part.rows.schema(), columns).unwrap();
            let (mut pairs, mut measured) = (Vec::new(), Vec::new());
            let mut on_pairs = |batch: RecordBatch, of_batch: Vec<Option<Sum>>| {
                assert_eq!(of_batch.len(), batch.num_rows());
                pairs.push(batch);
                measured.extend(of_batch);
                Result::Ok(())
            };
            let log = downloader.download_part(&part, Some(Arc::new(Sums)), &|_| {}, &mut on_pairs).await.unwrap();
            let pool = concat_batches(&pairs[0].schema(), &pairs).unwrap();
            let wanted = download(&downloader, &part, &|_| {}).await;
            assert!(pool == wanted.pool && texts(&log, "status") == texts(&wanted.log, "status"));
            let files = pool.column_by_name("image").unwrap().as_struct().column(0).as_binary::<i32>();
            let sums: Vec<Sum> = texts(&pool, "caption")
                .iter()
                .zip(files.iter().map(Option::unwrap))
                .map(|(caption, file)| sum_of(caption, file.len(), lynxdata_picture::decode_file(file, u64::MAX).ok()))
                .collect();
            let is_kept_unseen = check == Check::Structure && resize == Resize::Keep;
            assert_eq!(sums.iter().filter(|(.., sum)| sum.is_none()).count(), usize::from(is_kept_unseen));
            let expected: Vec<Option<Sum>> = sums.into_iter().map(|sum| (sum.0 != "bad").then_some(sum)).collect();
            assert_eq!(measured, expected);
        }
    }
}

#[tokio::test]
async fn every_fault_has_its_status_and_good_pictures_arrive_byte_for_byte() {
    let jpeg = fixture("plain.jpg");
    let webp = fixture("alpha.webp");
    let mut short = answer("200 OK", &[], &jpeg);
    short.truncate(short.len() - 100);
    let chunked_short = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc".to_vec();
    let zipped = gzip(&jpeg);
    let bomb = gzip(&vec![0; 10_000_000]);
    let cases: Vec<(&'static str, Reply, &str)> = vec![
        ("ok.jpg", ok(&jpeg), "ok"),
        ("webp named.jpg", ok(&webp), "ok"),
        ("without-length", Reply::Bytes([b"HTTP/1.1 200 OK\r\n\r\n", &jpeg[..]].concat()), "ok"),
        ("gzip", Reply::Bytes(answer("200 OK", &["Content-Encoding: gzip"], &zipped)), "ok"),
        ("redirected", redirect("/ok.jpg"), "ok"),
        ("404", failing("404 Not Found"), "not_found"),
        ("410", failing("410 Gone"), "not_found"),
        ("403", failing("403 Forbidden"), "forbidden"),
        ("451", failing("451 Unavailable For Legal Reasons"), "forbidden"),
        ("429", failing("429 Too Many Requests"), "rate_limited"),
        ("418", failing("418 I'm a teapot"), "http_client_error"),
        ("500", failing("500 Internal Server Error"), "http_server_error"),
        ("short", Reply::Bytes(short), "truncated_body"),
        ("chunked-short", Reply::Bytes(chunked_short), "truncated_body"),
        (
            "gzip-short",
            Reply::Bytes(answer("200 OK", &["Content-Encoding: gzip"], &zipped[..zipped.len() / 2])),
            "truncated_body",
        ),
        ("gzip-not", Reply::Bytes(answer("200 OK", &["Content-Encoding: gzip"], b"<html>")), "not_an_image"),
        ("gzip-bomb", Reply::Bytes(answer("200 OK", &["Content-Encoding: gzip"], &bomb)), "too_large"),
        ("endless", Reply::Endless, "too_large"),
        ("announced", Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n".to_vec()), "too_large"),
        ("empty", ok(b""), "empty_body"),
        ("204", Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "empty_body"),
        ("html", ok(b"<!DOCTYPE html><title>Not here</title>"), "not_an_image"),
        ("svg", ok(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "unsupported_image"),
        ("cut.jpg", ok(&jpeg[..jpeg.len() / 2]), "broken_image"),
        ("loop", redirect("/loop"), "too_many_redirects"),
        ("to-file", redirect("file:///etc/passwd"), "invalid_url"),
        ("no-location", Reply::Bytes(answer("302 Found", &[], b"")), "protocol_error"),
        ("304", Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()), "http_client_error"),
        ("not-http", Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "protocol_error"),
        ("hang-up", Reply::HangUp, "protocol_error"),
    ];
    let server =
        Server::start(cases.iter().map(|(path, reply, _)| (path.replace(' ', "%20").leak() as &str, reply.clone())))
            .await;
    let downloader = impatient(&config());
    let urls: Vec<String> = cases.iter().map(|(path, _, _)| server.url(path)).collect();
    let mut urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let mut expected: Vec<&str> = cases.iter().map(|(_, _, status)| *status).collect();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let not_tls = server.url("ok.jpg").replace("http", "https");
    for (url, status) in [
        (Some(closed.as_str()), "connect_error"),
        (Some(not_tls.as_str()), "tls_error"),
        (None, "missing_url"),
        (Some("not a url"), "invalid_url"),
        (Some("file:///etc/passwd"), "invalid_url"),
    ] {
        urls.push(url);
        expected.push(status);
    }

    let part = part(&urls);
    let told = Mutex::new(BTreeMap::new());
    let result = download(&downloader, &part, &|status| *told.lock().unwrap().entry(status).or_insert(0) += 1).await;
    let found = texts(&result.log, "status");
    let details = texts(&result.log, "detail");
    for (row, expected) in expected.iter().enumerate() {
        assert_eq!(found[row], *expected, "{:?}: {}", urls[row], details[row]);
    }
    let mut counts = BTreeMap::new();
    for status in &found {
        *counts.entry(status.parse::<Status>().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(told.into_inner().unwrap(), counts, "every row was told once");
    assert_eq!(integers(&result.log, "row"), (100..100 + urls.len() as i64).map(Some).collect::<Vec<_>>());
    assert_eq!(result.log.schema(), schema::download_log().schema());

    let good = [&jpeg, &webp, &jpeg, &jpeg, &jpeg];
    assert_eq!(result.pool.num_rows(), good.len());
    assert_eq!(texts(&result.pool, "uid")[..], texts(&result.log, "uid")[..good.len()]);
    assert_eq!(texts(&result.pool, "format"), ["jpeg", "webp", "jpeg", "jpeg", "jpeg"]);
    assert_eq!(integers(&result.pool, "extra"), [0, 1, 2, 3, 4].map(Some));
    let image = result.pool.column_by_name("image").unwrap().as_struct();
    let (bytes, paths) = (image.column(0).as_binary::<i32>(), image.column(1).as_string::<i32>());
    for (row, body) in good.iter().enumerate() {
        assert!(bytes.value(row) == body.as_slice(), "row {row}");
        assert_eq!(texts(&result.pool, "sha256")[row], sha256(body));
        assert_eq!(integers(&result.pool, "bytes")[row], Some(body.len() as i64));
    }
    assert_eq!(paths.value(1), format!("{}.webp", texts(&result.pool, "uid")[1]));

    let again = download(&downloader, &part, &|_| {}).await;
    assert_eq!(again.pool, result.pool, "the same answers make the same part");
    let [again, result] = [again, result].map(|mut downloaded| {
        let elapsed = downloaded.log.schema().index_of("elapsed_ms").unwrap();
        downloaded.log.remove_column(elapsed);
        downloaded.log
    });
    assert_eq!(again, result);
}

#[tokio::test]
async fn only_failures_that_may_pass_are_tried_again() {
    let jpeg = fixture("plain.jpg");
    let server = Server::start([
        ("500-ok", Reply::InTurn(vec![failing("500 Internal Server Error"), ok(&jpeg)])),
        ("429-hang-up-ok", Reply::InTurn(vec![failing("429 Too Many Requests"), Reply::HangUp, ok(&jpeg)])),
        ("404-ok", Reply::InTurn(vec![failing("404 Not Found"), ok(&jpeg)])),
        ("html-ok", Reply::InTurn(vec![ok(b"<html>"), ok(&jpeg)])),
        ("503", failing("503 Service Unavailable")),
    ])
    .await;
    let downloader = downloader_with(&DownloadConfig { retries: 2, ..config() });
    let urls = ["500-ok", "429-hang-up-ok", "404-ok", "html-ok", "503"].map(|path| server.url(path));
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let log = download(&downloader, &part(&urls), &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["ok", "ok", "not_found", "not_an_image", "http_server_error"]);
    assert_eq!(integers(&log, "attempts"), [2, 3, 1, 1, 3].map(Some));
    assert_eq!(integers(&log, "http_status"), [200, 200, 404, 200, 503].map(Some));
    assert_eq!(server.requests(), 10);
}

#[tokio::test]
async fn the_deadline_is_for_the_whole_url() {
    let jpeg = fixture("plain.jpg");
    let server = Server::start([
        ("drip", Reply::Drip(answer("200 OK", &[], &jpeg))),
        ("silent", Reply::Silent),
        ("500", failing("500 Internal Server Error")),
    ])
    .await;
    let downloader = downloader_with(&DownloadConfig { retries: 20, timeout_seconds: 0.4, ..config() });
    let begin = Instant::now();
    let urls = ["drip", "silent", "500"].map(|path| server.url(path));
    assert_eq!(statuses(&downloader, &urls).await, ["timeout", "timeout", "http_server_error"]);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let server = Server::start([("ok.jpg", ok(&fixture("plain.jpg")))]).await;
    let port = server.address.rsplit(':').next().unwrap();
    let urls = [
        server.url("ok.jpg"),
        format!("http://localhost:{port}/ok.jpg"),
        format!("http://2130706433:{port}/ok.jpg"),
        format!("http://[::ffff:127.0.0.1]:{port}/ok.jpg"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ];
    let downloader = downloader_with(&DownloadConfig { allow_private_addresses: false, ..config() });
    let found = statuses(&downloader, &urls).await;
    assert_eq!(found[0], "forbidden_address");
    assert!(["forbidden_address", "dns_error"].contains(&found[1].as_str()), "{}", found[1]);
    assert_eq!(found[2..], ["forbidden_address"; 3]);
    assert_eq!(server.requests(), 0, "nothing was connected to");
}

/// The real guard, except that the test's own server may be reached.
fn refuse_all_but_loopback(address: IpAddr) -> Option<&'static str> {
    if address.is_loopback() { None } else { guard::refusal(address) }
}

#[tokio::test]
async fn every_hop_and_every_answer_of_the_resolver_is_checked() {
    let server = Server::start([
        ("ok.jpg", ok(&fixture("plain.jpg"))),
        ("to-private", redirect("http://10.0.0.1/secret")),
        ("to-metadata", redirect("http://metadata.example/")),
        ("to-name", redirect("/to-private")),
    ])
    .await;
    let names = FixedNames(BTreeMap::from([
        ("good.example".to_owned(), vec!["127.0.0.1".parse().unwrap()]),
        ("metadata.example".to_owned(), vec!["169.254.169.254".parse().unwrap(), "fd00:ec2::254".parse().unwrap()]),
    ]));
    let config = DownloadConfig { retries: 1, ..config() };
    let client = Client::with(&config, Arc::new(names), refuse_all_but_loopback, &std::env::temp_dir()).unwrap();
    let downloader = Downloader::with_client(&config, client, &std::env::temp_dir(), Arc::default());
    let port = server.address.rsplit(':').next().unwrap();
    let urls = [
        format!("http://good.example:{port}/ok.jpg"),
        format!("http://good.example:{port}/to-private"),
        format!("http://good.example:{port}/to-metadata"),
        format!("http://good.example:{port}/to-name"),
        "http://metadata.example/".to_owned(),
        "http://unknown.example/".to_owned(),
        "http://flaky.example/".to_owned(),
    ];
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let log = download(&downloader, &part(&urls), &|_| {}).await.log;
    assert_eq!(
        texts(&log, "status"),
        [
            "ok",
            "forbidden_address",
            "forbidden_address",
            "forbidden_address",
            "forbidden_address",
            "dns_error",
            "dns_error"
        ]
    );
    assert_eq!(
        integers(&log, "attempts"),
        [1, 1, 1, 1, 1, 1, 2].map(Some),
        "a name that does not exist is not asked for again"
    );
    assert_eq!(texts(&log, "detail")[1], "10.0.0.1 is private");
}

#[tokio::test]
async fn passwords_in_urls_are_sent_but_not_written_down() {
    let server = Server::start([("ok.jpg", ok(&fixture("plain.jpg"))), ("404", failing("404 Not Found"))]).await;
    let with_password = |path: &str| server.url(path).replace("http://", "http://me:secret@");
    let urls = [with_password("ok.jpg"), with_password("404"), "http://me:secret@[bad/".to_owned()];
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let result = download(&downloader_with(&config()), &part(&urls), &|_| {}).await;
    assert_eq!(texts(&result.log, "status"), ["ok", "not_found", "invalid_url"]);
    assert_eq!(texts(&result.pool, "url"), [server.url("ok.jpg")]);
    let written = format!("{:?}{:?}", result.log, result.pool);
    assert!(!written.contains("secret"), "{written}");
    assert_eq!(texts(&result.log, "uid")[0], uid(100, urls[0].unwrap(), ""), "the key is that of the row as it was");
}

#[tokio::test]
async fn malformed_rows_are_logged_with_their_problem() {
    let mut part = part(&[None, None]);
    let mut columns = part.rows.columns().to_vec();
    columns[2] = Arc::new(StringArray::from(vec![Some("line 7 has 3 fields instead of 2"), None]));
    part.rows = RecordBatch::try_new(part.rows.schema(), columns).unwrap();
    let result = download(&downloader_with(&config()), &part, &|_| {}).await;
    assert_eq!(texts(&result.log, "status"), ["malformed_row", "missing_url"]);
    assert_eq!(texts(&result.log, "detail"), ["line 7 has 3 fields instead of 2", "-"]);
    assert_eq!(integers(&result.log, "attempts"), [0, 0].map(Some));
    assert_eq!(result.pool.num_rows(), 0);
}

#[tokio::test]
async fn dropping_the_future_frees_everything_soon() {
    let server = Server::start([("silent", Reply::Silent)]).await;
    let downloader = downloader_with(&DownloadConfig { concurrency: 4, ..config() });
    let urls = vec![server.url("silent"); 20];
    let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let cut = tokio::time::timeout(Duration::from_millis(200), download(&downloader, &part(&urls), &|_| {})).await;
    assert!(cut.is_err());
    assert_eq!(server.requests(), 4, "no more than `concurrency` at once");
    let begin = Instant::now();
    while downloader.shared.network.available_permits() < 4 {
        assert!(begin.elapsed() < Duration::from_secs(2), "requests go on after the future was dropped");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn pictures_are_scaled_on_the_way() {
    let server = Server::start([("turned.jpg", ok(&fixture("orientation_6.jpg")))]).await;
    let config = DownloadConfig { resize: Resize::Shorter, size: 16, encode: Encode::Png, ..config() };
    let url = server.url("turned.jpg");
    let pool = download(&downloader_with(&config), &part(&[Some(&url)]), &|_| {}).await.pool;
    let numbers =
        ["width", "height", "original_width", "original_height"].map(|name| integers(&pool, name)[0].unwrap());
    assert_eq!(numbers, [16, 24, 48, 32]);
    assert_eq!(texts(&pool, "format"), ["png"]);
    assert_eq!(texts(&pool, "sha256")[0], sha256(&fixture("orientation_6.jpg")), "of what was served");
}

/// With the certificate of the fixtures, for 127.0.0.1.
fn tls_server_config() -> rustls::ServerConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls");
    let certificates = CertificateDer::pem_file_iter(tls.join("server.pem")).unwrap().map(|der| der.unwrap()).collect();
    let key = PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    config.with_no_client_auth().with_single_cert(certificates, key).unwrap()
}

/// Answers one image to every request on every connection, over TLS, until the process ends.
/// Returns the port.
fn start_tls_server(body: Vec<u8>) -> u16 {
    let config = Arc::new(tls_server_config());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let body = answer("200 OK", &[], &body);
            std::thread::spawn(move || {
                // The handshake fails where the client distrusts the certificate.
                if std::io::Read::read(&mut stream, &mut [0; 4096]).is_ok() {
                    let _ = stream.write_all(&body);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn tls_trusts_the_systems_authorities_and_those_of_the_ca_file() {
    let url = format!("https://127.0.0.1:{}/ok.jpg", start_tls_server(fixture("plain.jpg")));
    let urls = [url];
    let distrusting = downloader_with(&config());
    assert_eq!(statuses(&distrusting, &urls).await, ["tls_error"]);
    let ca_file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/ca.pem"));
    let trusting = downloader_with(&DownloadConfig { ca_file, ..config() });
    assert_eq!(statuses(&trusting, &urls).await, ["ok"]);
}

#[tokio::test]
async fn an_unusable_ca_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let with = |path: &Path| {
        let config = DownloadConfig { ca_file: Some(path.to_owned()), ..config() };
        Downloader::new(&config, folder.path(), Arc::default())
    };
    assert!(with(&file).unwrap_err().to_string().contains("ca.pem"));
    std::fs::write(&file, "not PEM").unwrap();
    assert!(with(&file).unwrap_err().to_string().starts_with("`ca_file` "));
}

#[tokio::test]
async fn opted_out_pictures_are_not_even_read() {
    let jpeg = fixture("plain.jpg");
    // Announces more than is allowed, so that the status shows whether the body was examined.
    let huge = |header: &str| {
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 100001\r\n\r\n").into_bytes())
    };
    let server = Server::start([
        ("noai", huge("X-Robots-Tag: noai")),
        ("ours", huge("x-robots-tag: nofollow\r\nx-robots-tag: lynxdata: nofollow, noimageindex")),
        ("reserved", huge("TDM-Reservation: 1")),
        ("theirs", Reply::Bytes(answer("200 OK", &["X-Robots-Tag: otherbot: noai"], &jpeg))),
        ("404", Reply::Bytes(answer("404 Not Found", &["X-Robots-Tag: noindex"], b"no"))),
        ("redirected", redirect("/noai")),
    ])
    .await;
    let urls = ["noai", "ours", "reserved", "theirs", "404", "redirected"].map(|path| server.url(path));
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let downloader = downloader_with(&DownloadConfig { retries: 2, ..config() });
    let result = download(&downloader, &part(&rows), &|_| {}).await;
    assert_eq!(texts(&result.log, "status"), ["opted_out", "opted_out", "opted_out", "ok", "not_found", "opted_out"]);
    assert_eq!(texts(&result.log, "detail")[1..3], ["X-Robots-Tag: noimageindex", "TDM-Reservation: 1"]);
    assert_eq!(integers(&result.log, "attempts"), [1; 6].map(Some), "asking again would not help");
    assert_eq!(integers(&result.log, "http_status")[0], Some(200));
    assert_eq!(result.pool.num_rows(), 1);

    let heedless = downloader_with(&DownloadConfig { opt_out_directives: Vec::new(), ..config() });
    assert_eq!(
        statuses(&heedless, &urls).await,
        ["too_large", "too_large", "too_large", "ok", "not_found", "too_large"]
    );
}

#[tokio::test]
async fn a_slow_host_delays_nobody_else() {
    let gate = Arc::new(Semaphore::new(0));
    let slow = Server::start([("slow", Reply::Held(gate.clone(), answer("404 Not Found", &[], b"no")))]).await;
    let quick = Server::start([("ok.jpg", ok(&fixture("plain.jpg")))]).await;
    let limits = DownloadConfig { concurrency: 3, requests_per_host: 2, timeout_seconds: 60.0, ..config() };
    let downloader = downloader_with(&limits);
    let urls: Vec<String> =
        std::iter::repeat_n(slow.url("slow"), 6).chain(std::iter::repeat_n(quick.url("ok.jpg"), 6)).collect();
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let told = Mutex::new(Vec::new());
    let on_row = |status| {
        let mut told = told.lock().unwrap();
        told.push(status);
        if told.len() == 6 {
            gate.add_permits(1); // the slow host answers only after six rows have ended
        }
    };
    let log = download(&downloader, &part(&rows), &on_row).await.log;
    assert_eq!(told.into_inner().unwrap(), [[Status::Ok; 6], [Status::NotFound; 6]].concat());
    assert_eq!(texts(&log, "status"), [["not_found"; 6], ["ok"; 6]].concat());
    assert_eq!(slow.peak(), 2);
    assert!(quick.peak() <= 2, "{}", quick.peak());
}

#[tokio::test]
async fn a_host_gets_as_many_requests_at_once_as_it_may() {
    let jpeg = answer("200 OK", &[], &fixture("plain.jpg"));
    for (requests_per_host, together) in [(3, 3), (0, 12)] {
        // Nobody is answered before so many have asked.
        let barrier = Arc::new(Barrier::new(together));
        let server = Server::start([("ok.jpg", Reply::Together(barrier, jpeg.clone()))]).await;
        let downloader = downloader_with(&DownloadConfig { requests_per_host, ..config() });
        assert_eq!(statuses(&downloader, &vec![server.url("ok.jpg"); 12]).await, ["ok"; 12]);
        assert_eq!(server.peak(), together);
    }
}

#[tokio::test]
async fn the_server_says_when_to_try_again() {
    let jpeg = fixture("plain.jpg");
    let wait = |status: &str, header: &str| Reply::Bytes(answer(status, &[&format!("Retry-After: {header}")], b"no"));
    let too_many = "429 Too Many Requests";
    let far_away = "Fri, 31 Dec 9999 23:59:59 GMT";
    let server = Server::start([
        ("soon", Reply::InTurn(vec![wait(too_many, "1"), ok(&jpeg)])),
        ("late", Reply::InTurn(vec![wait(too_many, "3600"), ok(&jpeg)])),
        ("date", Reply::InTurn(vec![wait("503 Service Unavailable", far_away), ok(&jpeg)])),
        ("passed", Reply::InTurn(vec![wait(too_many, "Sun, 06 Nov 1994 08:49:37 GMT"), ok(&jpeg)])),
        ("nonsense", Reply::InTurn(vec![wait(too_many, "soon"), ok(&jpeg)])),
        ("other", Reply::InTurn(vec![wait("500 Internal Server Error", "3600"), ok(&jpeg)])),
    ])
    .await;
    let urls = ["soon", "late", "date", "passed", "nonsense", "other"].map(|path| server.url(path));
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let patient = DownloadConfig { retries: 1, timeout_seconds: 60.0, ..config() };
    let log = download(&downloader_with(&patient), &part(&rows), &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["ok", "rate_limited", "http_server_error", "ok", "ok", "ok"]);
    assert_eq!(integers(&log, "attempts"), [2, 1, 1, 2, 2, 2].map(Some));
}

#[tokio::test]
async fn a_row_that_waits_for_its_next_attempt_leaves_the_network_to_others() {
    let jpeg = fixture("plain.jpg");
    let angry =
        Reply::InTurn(vec![Reply::Bytes(answer("429 Too Many Requests", &["Retry-After: 1"], b"no")), ok(&jpeg)]);
    let angry = Server::start([("angry", angry)]).await;
    let quick = Server::start([("404", failing("404 Not Found"))]).await;
    let config = DownloadConfig { concurrency: 1, retries: 1, timeout_seconds: 60.0, ..config() };
    let urls = [angry.url("angry"), quick.url("404"), quick.url("404")];
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let told = Mutex::new(Vec::new());
    let on_row = |status| told.lock().unwrap().push(status);
    download(&downloader_with(&config), &part(&rows), &on_row).await;
    assert_eq!(told.into_inner().unwrap(), [Status::NotFound, Status::NotFound, Status::Ok]);
}

#[tokio::test]
async fn a_dead_host_is_given_up_and_others_are_not() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let server = Server::start([("ok.jpg", ok(&fixture("plain.jpg")))]).await;
    let mut urls = vec![closed.as_str(); 30];
    let alive = server.url("ok.jpg");
    urls.push(&alive);
    let rows: Vec<Option<&str>> = urls.iter().copied().map(Some).collect();
    for (host_failure_limit, tried) in [(5, 5), (0, 30)] {
        let config = DownloadConfig { requests_per_host: 1, host_failure_limit, ..config() };
        let log = download(&impatient(&config), &part(&rows), &|_| {}).await.log;
        assert_eq!(texts(&log, "status")[..30], ["connect_error"; 30]);
        assert_eq!(texts(&log, "status")[30], "ok");
        let attempts = integers(&log, "attempts");
        let details = texts(&log, "detail");
        for row in 0..30 {
            let was_given_up = details[row] == "host given up after 5 failures in a row";
            assert_eq!(attempts[row], Some(i64::from(!was_given_up)), "{}", details[row]);
        }
        assert_eq!(attempts[..30].iter().flatten().sum::<i64>(), tried);
    }
}

#[tokio::test]
async fn a_host_that_answers_in_between_is_not_given_up() {
    let server = Server::start([("silent", Reply::Silent), ("404", failing("404 Not Found"))]).await;
    let limits = DownloadConfig { requests_per_host: 1, host_failure_limit: 2, timeout_seconds: 0.3, ..config() };
    let downloader = downloader_with(&limits);
    let mut found = Vec::new();
    // The parts run one after the other, so that the order is certain.
    for path in ["silent", "404", "silent", "404", "silent", "silent", "404"] {
        found.extend(statuses(&downloader, &[server.url(path)]).await);
    }
    assert_eq!(found, ["timeout", "not_found", "timeout", "not_found", "timeout", "timeout", "timeout"]);
    assert_eq!(server.requests(), 6, "the last row was not tried");
}
