//! Tests that the rows are in the order of the source, whatever the order of answers.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn the_next_part_does_not_wait_for_the_last_rows_of_this_one() {
    let gate = Arc::new(Semaphore::new(0));
    let jpeg = fixture("plain.jpg");
    let slow = Server::start([("slow", Reply::Held(gate.clone(), answer("200 OK", &[], &jpeg)))]).await;
    let quick = Server::start([("ok.jpg", ok(&jpeg))]).await;
    let downloader = downloader_with(&DownloadConfig { timeout_seconds: 600.0, ..config() });
    let (slow, quick) = (slow.url("slow"), quick.url("ok.jpg"));
    let rows = [Some(slow.as_str()), Some(quick.as_str())];
    let (first, second) = (part(&rows), part(&rows[1..]));
    let opened = async {
        let log = download(&downloader, &second, &|_| {}).await.log;
        gate.add_permits(1); // the slow row ends only after the next part has ended
        log
    };
    let (first, second) = tokio::join!(download(&downloader, &first, &|_| {}), opened);
    assert_eq!(
        (texts(&first.log, "status"), texts(&second, "status")),
        (vec!["ok".to_owned(); 2], vec!["ok".to_owned()])
    );
}

#[tokio::test]
async fn an_error_of_the_writer_ends_the_part() {
    let server = Server::start([("ok.jpg", ok(&fixture("plain.jpg")))]).await;
    let url = server.url("ok.jpg");
    let downloader = downloader_with(&config());
    let part = part(&[Some(url.as_str())]);
    let refused = || Error::setting("encode", "is refused by the writer");
    let mut on_pairs = |_, _: Vec<Option<()>>| Err(refused());
    let ended = downloader.download_part(&part, None, &|_| {}, &mut on_pairs).await;
    assert_eq!(ended.unwrap_err().to_string(), refused().to_string());
}

/// What a row of the property below asks for, and the status that it must end with.
const KINDS: [(&str, &str); 15] = [
    ("jpeg", "ok"),
    ("webp", "ok"),
    ("gzip", "ok"),
    ("moved", "ok"),
    ("404", "not_found"),
    ("429", "rate_limited"),
    ("500", "http_server_error"),
    ("short", "truncated_body"),
    ("endless", "too_large"),
    ("bomb", "too_large"),
    ("empty", "empty_body"),
    ("html", "not_an_image"),
    ("cut", "broken_image"),
    ("loop", "too_many_redirects"),
    ("hang-up", "protocol_error"),
];

fn replies(jpeg: &[u8], webp: &[u8]) -> Vec<(&'static str, Reply)> {
    let mut short = answer("200 OK", &[], jpeg);
    short.truncate(short.len() - 100);
    let zipped = |body: &[u8]| Reply::Bytes(answer("200 OK", &["Content-Encoding: gzip"], &gzip(body)));
    vec![
        ("jpeg", ok(jpeg)),
        ("webp", ok(webp)),
        ("gzip", zipped(jpeg)),
        ("moved", redirect("/webp")),
        ("429", failing("429 Too Many Requests")),
        ("500", failing("500 Internal Server Error")),
        ("short", Reply::Bytes(short)),
        ("endless", Reply::Endless),
        ("bomb", zipped(&vec![0; 1_000_000])),
        ("empty", ok(b"")),
        ("html", ok(b"<html>")),
        ("cut", ok(&jpeg[..jpeg.len() / 2])),
        ("loop", redirect("/loop")),
        ("hang-up", Reply::HangUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_faults_each_row_has_one_status_and_good_pictures_are_what_was_served(
        rows in prop::collection::vec(0..KINDS.len(), 0..40),
        concurrency in 1..40_usize,
        requests_per_host in 0..9_usize,
    ) {
        let (jpeg, webp) = (fixture("plain.jpg"), fixture("alpha.webp"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (told, found) = runtime.block_on(async {
            let server = Server::start(replies(&jpeg, &webp)).await;
            let limits = DownloadConfig { concurrency, requests_per_host, host_failure_limit: 0, timeout_seconds: 600.0, ..config() };
            let urls: Vec<String> = rows.iter().map(|kind| server.url(KINDS[*kind].0)).collect();
            let urls: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
            let told = AtomicUsize::new(0);
            let on_row = |_| { told.fetch_add(1, Ordering::SeqCst); };
            let found = download(&downloader_with(&limits), &part(&urls), &on_row).await;
            (told.into_inner(), found)
        });
        prop_assert_eq!(told, rows.len());
        let expected: Vec<&str> = rows.iter().map(|kind| KINDS[*kind].1).collect();
        prop_assert_eq!(texts(&found.log, "status"), expected);
        let good: Vec<usize> = (0..rows.len()).filter(|row| KINDS[rows[*row]].1 == "ok").collect();
        prop_assert_eq!(integers(&found.pool, "extra"), good.iter().map(|row| Some(*row as i64)).collect::<Vec<_>>());
        let image = found.pool.column_by_name("image").unwrap().as_struct();
        let bytes = image.column(0).as_binary::<i32>();
        for (pair, row) in good.iter().enumerate() {
            let served = if ["jpeg", "gzip"].contains(&KINDS[rows[*row]].0) { &jpeg } else { &webp };
            prop_assert!(bytes.value(pair) == served.as_slice(), "row {row}");
        }
    }
}
