//! HTTP/2, proxies, slow bodies, many bodies at once.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that speaks HTTP/2 over TLS and nothing else, with long heads. Returns its port and how
/// many connections it has had.
async fn start_http2_server(body: Vec<u8>) -> (u16, Arc<AtomicUsize>) {
    let mut config = tls_server_config();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let body = Bytes::from(body.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let body = body.clone();
                async move {
                    assert_eq!(request.version(), Version::HTTP_2);
                    let answer = Response::builder().header("x-long", "x".repeat(60 << 10));
                    Ok::<_, Infallible>(answer.body(Full::new(body)).unwrap())
                }
            });
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { serve.serve_connection(TokioIo::new(stream), answer).await });
        }
    });
    (port, connections)
}

#[tokio::test]
async fn rows_of_a_host_share_one_http2_connection() {
    let (port, connections) = start_http2_server(fixture("plain.jpg")).await;
    let ca_file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/ca.pem"));
    let downloader = downloader_with(&DownloadConfig { ca_file, requests_per_host: 1, ..config() });
    let urls: Vec<String> = (0..20).map(|row| format!("https://127.0.0.1:{port}/{row}.jpg")).collect();
    assert_eq!(statuses(&downloader, &urls).await, ["ok"; 20]);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_proxy_is_asked_for_whole_urls_and_resolves_them() {
    let proxy = Server::start([("http://pictures.invalid/a.jpg", ok(&fixture("plain.jpg")))]).await;
    let config = DownloadConfig { proxy: Some(format!("http://{}", proxy.address)), ..config() };
    let urls = ["http://pictures.invalid/a.jpg".to_owned(), "http://pictures.invalid/b.jpg".to_owned()];
    assert_eq!(statuses(&downloader_with(&config), &urls).await, ["ok", "not_found"]);

    let guarded = DownloadConfig { allow_private_addresses: false, ..config.clone() };
    let urls = [urls[0].clone(), "http://10.0.0.1/a.jpg".to_owned()];
    assert_eq!(statuses(&downloader_with(&guarded), &urls).await, ["ok", "forbidden_address"]);

    let broken = DownloadConfig { proxy: Some("not a proxy".to_owned()), ..config };
    let error = Downloader::new(&broken, &std::env::temp_dir(), Arc::default()).unwrap_err();
    assert!(error.to_string().starts_with("`proxy` "), "{error}");
}

#[tokio::test]
async fn a_proxy_may_be_called_by_a_name_and_have_a_private_address() {
    let proxy = Server::start([("http://pictures.invalid/a.jpg", ok(&fixture("plain.jpg")))]).await;
    let port = proxy.address.rsplit(':').next().unwrap();
    let config = DownloadConfig {
        proxy: Some(format!("http://proxy.example:{port}")),
        allow_private_addresses: false,
        ..config()
    };
    let names = FixedNames(BTreeMap::from([("proxy.example".to_owned(), vec!["127.0.0.1".parse().unwrap()])]));
    let client = Client::with(&config, Arc::new(names), guard::refusal, &std::env::temp_dir()).unwrap();
    let downloader = Downloader::with_client(&config, client, &std::env::temp_dir(), Arc::default());
    let urls = ["http://pictures.invalid/a.jpg".to_owned(), format!("http://127.0.0.1:{port}/")];
    assert_eq!(statuses(&downloader, &urls).await, ["ok", "forbidden_address"]);
}

/// A server that keeps connections open, and closes each when it has seen another request on it
/// after an answer. Returns its port, and how many requests there were.
async fn start_forgetful_server(answer: Vec<u8>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (answer, counter) = (answer.clone(), counter.clone());
            tokio::spawn(async move {
                for may_answer in [true, false] {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    if may_answer {
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    (port, requests)
}

#[tokio::test]
async fn a_connection_that_was_closed_unused_costs_no_attempt() {
    let jpeg = fixture("plain.jpg");
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    let (port, requests) = start_forgetful_server([head.as_bytes(), &jpeg].concat()).await;
    let downloader = downloader_with(&DownloadConfig { requests_per_host: 1, retries: 0, ..config() });
    let urls: Vec<String> = (0..10).map(|row| format!("http://127.0.0.1:{port}/{row}.jpg")).collect();
    assert_eq!(statuses(&downloader, &urls).await, ["ok"; 10]);
    assert!(requests.load(Ordering::SeqCst) > 10, "no connection was used twice");
}

#[tokio::test]
async fn headers_need_not_be_perfect() {
    let (jpeg, zipped) = (fixture("plain.jpg"), gzip(&fixture("plain.jpg")));
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Spaced : a\r\nX-Folded: a\r\n b\r\nno colon\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    let server = Server::start([
        ("odd", Reply::Bytes([head.as_bytes(), &jpeg].concat())),
        ("upper", Reply::Bytes(answer("200 OK", &["Content-Encoding: GZIP"], &zipped))),
        ("old", Reply::Bytes(answer("200 OK", &["Content-Encoding:  x-gzip "], &zipped))),
    ])
    .await;
    let urls = ["odd", "upper", "old"].map(|path| server.url(path));
    assert_eq!(statuses(&downloader_with(&config()), &urls).await, ["ok"; 3]);
}

/// A proxy that makes tunnels to ports of this machine, whatever the host: by `CONNECT` for a user,
/// or by SOCKS 5 (RFC 1928) without one. Returns its address and the targets that it was asked for.
async fn start_tunnel_proxy(is_socks: bool) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let targets = Arc::new(Mutex::new(Vec::new()));
    let asked = targets.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let asked = asked.clone();
            tokio::spawn(async move {
                let (target, answer) = if is_socks {
                    let mut greeting = [0; 3];
                    client.read_exact(&mut greeting).await.unwrap();
                    assert_eq!(greeting, [5, 1, 0], "version 5, one method: none");
                    client.write_all(&[5, 0]).await.unwrap();
                    let mut request = [0; 5];
                    client.read_exact(&mut request).await.unwrap();
                    assert_eq!(request[..4], [5, 1, 0, 3], "connect to a name");
                    let mut name = vec![0; usize::from(request[4]) + 2];
                    client.read_exact(&mut name).await.unwrap();
                    let port = u16::from_be_bytes(name.split_off(name.len() - 2).try_into().unwrap());
                    let answer = vec![5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                    (format!("{}:{port}", String::from_utf8(name).unwrap()), answer)
                } else {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let with_password = "Basic bWU6c2VjcmV0"; // me:secret
                    assert!(head.lines().any(|line| line.ends_with(with_password)), "{head}");
                    let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
                    (target, b"HTTP/1.1 200 OK\r\n\r\n".to_vec())
                };
                let port: u16 = target.rsplit(':').next().unwrap().parse().unwrap();
                asked.lock().unwrap().push(target);
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.write_all(&answer).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, targets)
}

#[tokio::test]
async fn what_a_proxy_cannot_read_goes_through_a_tunnel() {
    let (port, _) = start_http2_server(fixture("plain.jpg")).await;
    let (address, targets) = start_tunnel_proxy(false).await;
    let ca_file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls/ca.pem"));
    let config =
        DownloadConfig { proxy: Some(format!("http://me:secret@{address}")), ca_file, robots_txt: false, ..config() };
    let urls = [format!("https://127.0.0.1:{port}/a.jpg")];
    assert_eq!(statuses(&downloader_with(&config), &urls).await, ["ok"]);
    assert_eq!(*targets.lock().unwrap(), [format!("127.0.0.1:{port}")]);

    let server = Server::start([("a.jpg", ok(&fixture("plain.jpg")))]).await;
    let (address, targets) = start_tunnel_proxy(true).await;
    let config = DownloadConfig { proxy: Some(format!("socks5://{address}")), ..config };
    let target = server.address.replace("127.0.0.1", "pictures.invalid");
    assert_eq!(statuses(&downloader_with(&config), &[format!("http://{target}/a.jpg")]).await, ["ok"]);
    assert_eq!(*targets.lock().unwrap(), [target]);
}

#[tokio::test]
async fn a_body_that_drips_ends_before_the_deadline() {
    let drip = Reply::Drip(answer("200 OK", &[], &fixture("plain.jpg")));
    let server = Server::start([("drip", drip)]).await;
    let config = DownloadConfig { timeout_seconds: 3600.0, min_bytes_per_second: 10_000, retries: 2, ..config() };
    let mut client = Client::new(&config, Arc::default(), &std::env::temp_dir()).unwrap();
    client.set_speed_window(Duration::from_millis(100));
    let downloader = Downloader::with_client(&config, client, &std::env::temp_dir(), Arc::default());
    let url = server.url("drip");
    let log = download(&downloader, &part(&[Some(&url)]), &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["timeout"]);
    assert_eq!(integers(&log, "attempts"), [Some(1)], "another attempt would take as long");
    assert!(texts(&log, "detail")[0].contains("less than the 1000 that are wanted"), "{}", texts(&log, "detail")[0]);
}

/// A JPEG of more than half a megabyte, most of it comments.
fn long_jpeg() -> Vec<u8> {
    let jpeg = fixture("plain.jpg");
    let comment = [&[0xff, 0xfe, 0xff, 0xff][..], &vec![b' '; 0xffff - 2]].concat();
    [&jpeg[..2], &comment.repeat(9), &jpeg[2..]].concat()
}

#[tokio::test]
async fn bodies_beyond_the_budget_wait_or_go_through_files_and_arrive() {
    let (short, long) = (fixture("plain.jpg"), long_jpeg());
    let unannounced = |body: &[u8]| Reply::Bytes([b"HTTP/1.1 200 OK\r\n\r\n", body].concat());
    let server =
        Server::start([("0", ok(&short)), ("1", unannounced(&short)), ("2", ok(&long)), ("3", unannounced(&long))])
            .await;
    let config = DownloadConfig { requests_per_host: 0, max_bytes: 1_000_000, resize: Resize::Keep, ..config() };
    for room in [short.len() * 3 / 2, long.len() * 3 / 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut client = Client::new(&config, Arc::default(), folder.path()).unwrap();
        client.set_room(room as u64, folder.path());
        let mut downloader = Downloader::with_client(&config, client, folder.path(), Arc::default());
        Arc::get_mut(&mut downloader.shared).unwrap().handover = Budget::new(1); // one at a time
        let urls: Vec<String> = (0..40).map(|row| server.url(&(row % 4).to_string())).collect();
        let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
        let Downloaded { pool, log } = download(&downloader, &part(&rows), &|_| {}).await;
        assert_eq!(texts(&log, "status"), ["ok"; 40]);
        let right: Vec<String> = (0..40).map(|row| sha256(if row % 4 < 2 { &short } else { &long })).collect();
        assert_eq!(texts(&pool, "sha256"), right);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }
}

#[tokio::test]
async fn a_folder_for_bodies_that_cannot_be_used_ends_the_download_and_is_no_status_of_a_row() {
    let server = Server::start([("a.jpg", ok(&long_jpeg()))]).await;
    let config = DownloadConfig { max_bytes: 1_000_000, ..config() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut client = Client::new(&config, Arc::default(), &file).unwrap();
    client.set_room(1_000, &file);
    let downloader = Downloader::with_client(&config, client, folder.path(), Arc::default());
    let mut on_pairs = |_: RecordBatch, _: Vec<Option<()>>| Result::Ok(());
    let url = server.url("a.jpg");
    let on_row = |status| panic!("a row ended with {status:?}");
    let error = downloader.download_part(&part(&[Some(&url)]), None, &on_row, &mut on_pairs).await.unwrap_err();
    assert!(matches!(&error, Error::Keep { folder, .. } if *folder == file), "{error:?}");
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn long_bodies_that_do_not_come_keep_no_room_from_others() {
    let jpeg = fixture("plain.jpg");
    let stalled = Reply::Stalled(b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\nbeginning".to_vec());
    let server = Server::start([("stalled", stalled), ("a.jpg", ok(&jpeg))]).await;
    let config = DownloadConfig { timeout_seconds: 3.0, retries: 0, concurrency: 3, max_bytes: 50_000_000, ..config() };
    let mut client = Client::new(&config, Arc::default(), &std::env::temp_dir()).unwrap();
    client.set_room(1 << 20, &std::env::temp_dir());
    let downloader = Downloader::with_client(&config, client, &std::env::temp_dir(), Arc::default());
    let urls: Vec<String> = ["stalled"; 2].into_iter().chain(["a.jpg"; 20]).map(|path| server.url(path)).collect();
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let ended = Mutex::new(Vec::new());
    download(&downloader, &part(&rows), &|status| ended.lock().unwrap().push(status)).await;
    let ended = ended.into_inner().unwrap();
    assert_eq!(ended[..20], [Status::Ok; 20], "while they were waited for");
    assert_eq!(ended[20..], [Status::Timeout; 2]);
}

#[tokio::test]
async fn a_body_with_another_digest_than_the_source_says_is_refused() {
    let jpeg = fixture("plain.jpg");
    let server = Server::start([("a.jpg", ok(&jpeg)), ("short", ok(b"GIF89a"))]).await;
    let rows = ["a.jpg", "a.jpg", "a.jpg", "short"].map(|path| server.url(path));
    let rows: Vec<Option<&str>> = rows.iter().map(|url| Some(url.as_str())).collect();
    let (right, wrong) = (sha256(&jpeg), sha256(b"another"));
    let digests = StringArray::from(vec![Some(right.as_str()), Some(wrong.as_str()), None, Some(right.as_str())]);
    let part = with_column(&part(&rows), "source_sha256", Arc::new(digests));
    let log = download(&downloader_with(&config()), &part, &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["ok", "hash_mismatch", "ok", "hash_mismatch"]);
    assert_eq!(texts(&log, "detail")[1], format!("sha256 is {right}, not {wrong}"));
    let trusting = downloader_with(&DownloadConfig { verify_hash: false, ..config() });
    let log = download(&trusting, &part, &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["ok", "ok", "ok", "broken_image"]);
}

#[tokio::test]
async fn the_log_tells_what_a_row_took() {
    let jpeg = fixture("plain.jpg");
    let server = Server::start([("a.jpg", ok(&jpeg)), ("cut.jpg", ok(&jpeg[..100]))]).await;
    let urls = [server.url("a.jpg"), server.url("cut.jpg"), server.url("404"), "http://[".to_owned()];
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let metrics = Arc::new(Metrics::default());
    let downloader = Downloader::new(&config(), &std::env::temp_dir(), metrics.clone()).unwrap();
    let log = download(&downloader, &part(&rows), &|_| {}).await.log;
    assert_eq!(texts(&log, "host"), ["127.0.0.1", "127.0.0.1", "127.0.0.1", "-"]);
    assert_eq!(integers(&log, "body_bytes"), [Some(jpeg.len() as i64), Some(100), None, None]);
    let elapsed = integers(&log, "elapsed_ms");
    assert_eq!(elapsed.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false]);
    let counted: Vec<(Status, u64)> = metrics.rows().filter(|(_, rows)| *rows > 0).collect();
    let expected = [Status::Ok, Status::InvalidUrl, Status::NotFound, Status::BrokenImage].map(|status| (status, 1));
    assert_eq!(counted, expected);
    assert_eq!((metrics.attempts(), metrics.in_flight()), (3, 0));
    assert_eq!((metrics.seconds.count(), metrics.bytes.count()), (3, 2));
}

#[tokio::test]
async fn boxes_of_a_column_are_blurred_whatever_the_mode() {
    let jpeg = fixture("plain.jpg");
    let server = Server::start([("a.jpg", ok(&jpeg))]).await;
    let rows = [server.url("a.jpg"), server.url("a.jpg"), server.url("a.jpg")];
    let rows: Vec<Option<&str>> = rows.iter().map(|url| Some(url.as_str())).collect();
    let boxes = StringArray::from(vec![Some("[[0.1, 0.1, 0.9, 0.9]]"), None, Some("[[0.1, 0.1]]")]);
    let part = with_column(&part(&rows), "faces", Arc::new(boxes));
    let blurring = downloader_with(&DownloadConfig { blur_boxes: Some("faces".to_owned()), ..config() });
    let Downloaded { pool, log } = download(&blurring, &part, &|_| {}).await;
    assert_eq!(texts(&log, "status"), ["ok", "ok", "malformed_row"]);
    let image = pool.column_by_name("image").unwrap().as_struct();
    let bytes = image.column(0).as_binary::<i32>();
    assert!(bytes.value(0) != jpeg.as_slice() && bytes.value(1) == jpeg.as_slice());
    assert_eq!(integers(&pool, "width")[0], integers(&pool, "width")[1]);
}

#[tokio::test]
async fn what_is_not_decoded_must_still_be_a_whole_picture() {
    let jpeg = fixture("plain.jpg");
    let mut noise = jpeg.clone();
    let middle = noise.len() / 2;
    noise[middle..middle + 20].fill(0x55);
    let server = Server::start([
        ("a.jpg", ok(&jpeg)),
        ("cut.jpg", ok(&jpeg[..jpeg.len() - 2])),
        ("html", ok(b"<html></html>")),
        ("noise.jpg", ok(&noise)),
    ])
    .await;
    let config = DownloadConfig { check: Check::Structure, ..config() };
    let urls = ["a.jpg", "cut.jpg", "html", "noise.jpg"].map(|path| server.url(path));
    assert_eq!(statuses(&downloader_with(&config), &urls).await, ["ok", "broken_image", "not_an_image", "ok"]);
}

#[tokio::test]
async fn pictures_on_this_machine_are_read_without_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let jpeg = fixture("plain.jpg");
    let file = folder.path().join("archive");
    std::fs::write(&file, [b"before", &jpeg[..], b"behind"].concat()).unwrap();
    let path = file.to_str().unwrap();
    let length = jpeg.len() as i64;
    let mut part = part(&[None, Some("http://pictures.invalid/a.jpg"), None, None]);
    let mut columns = part.rows.columns().to_vec();
    columns[column::FILE] = Arc::new(StringArray::from(vec![Some(path), Some(path), Some(path), Some("/nowhere")]));
    columns[column::OFFSET] = Arc::new(Int64Array::from(vec![6, 6, 100, 0]));
    columns[column::LENGTH] = Arc::new(Int64Array::from(vec![length, length, length, 7]));
    part.rows = RecordBatch::try_new(part.rows.schema(), columns).unwrap();
    let Downloaded { pool, log } = download(&downloader_with(&config()), &part, &|_| {}).await;
    assert_eq!(texts(&log, "status"), ["ok", "ok", "unreadable_file", "unreadable_file"]);
    assert_eq!(integers(&log, "attempts"), [0; 4].map(Some));
    assert_eq!(texts(&pool, "sha256"), [sha256(&jpeg), sha256(&jpeg)]);
    assert_eq!(integers(&log, "body_bytes"), [Some(length), Some(length), None, None]);
    let small = DownloadConfig { max_bytes: 100, ..config() };
    assert_eq!(texts(&download(&downloader_with(&small), &part, &|_| {}).await.log, "status")[0], "too_large");
}
