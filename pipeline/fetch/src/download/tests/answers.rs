//! Tests answers of real web servers: what curl and urllib accept is accepted, and no answer
//! affects other hosts.

use super::*;

/// Heads and bodies as they are written, and the status that a row must end with. `JPEG` stands for
/// the body, whose length is `LENGTH`.
const ANSWERS: &[(&str, &str)] = &[
    // The status line.
    ("HTTP/1.1 200\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 \r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 Sehr sch\u{f6}n\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.0 200 OK\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 206 Partial Content\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("\r\nHTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    // Line ends and headers.
    ("HTTP/1.1 200 OK\nContent-Length: LENGTH\n\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\ncontent-length: LENGTH\r\nx-empty:\r\n:no name\r\nno colon\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length : LENGTH\r\nX-Folded: a\r\n\tb\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nX-Name: Stra\u{df}e \u{20ac}\r\nContent-Length:LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nX Spaced Name: a\r\nContent-Length:   LENGTH  \r\n\r\nJPEG", "ok"),
    // Lengths.
    ("HTTP/1.1 200 OK\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: LENGTH, LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG behind the end", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nJPEG", "empty_body"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nJPEG", "truncated_body"),
    // Chunks.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nJPEG\r\n0\r\n\r\n", "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n000HEX ;a=b\r\nJPEG\r\n0\r\nX-Trailer: a\r\n\r\n", "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\nHEX\r\nJPEG\r\n0\r\n\r\n", "ok"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nJPEG\r\n", "truncated_body"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nJPEG", "protocol_error"),
    // Interim answers.
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 103 Early Hints\r\nLink: <a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    // Content codings that are none.
    ("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: LENGTH\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Encoding: br, zstd\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Encoding: utf-8\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Encoding:\r\n\r\nJPEG", "ok"),
    ("HTTP/1.1 200 OK\r\nContent-Encoding: image/jpeg\r\n\r\nJPEG", "ok"),
    // Types that are wrong.
    ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nJPEG", "ok"),
    // Redirects.
    ("HTTP/1.1 302 Found\r\nLocation: \r\nContent-Length: 0\r\n\r\n", "protocol_error"),
    ("HTTP/1.1 302 Found\r\nLocation:\r\n\r\nJPEG", "protocol_error"),
    ("HTTP/1.1 301 Moved\r\nLocation: /ok .jpg\r\n\r\n", "not_found"),
    ("HTTP/1.1 302 Found\r\nlocation: ok.jpg\r\n\r\n", "ok"),
    // What our client refuses although urllib accepts it.
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nJPEG\r\n0\r\n\r\n", "protocol_error"),
    ("HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\nContent-Length: 7\r\n\r\nJPEG", "protocol_error"),
    ("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nJPEG", "protocol_error"),
    ("HTTP/1.2 200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG", "protocol_error"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHEX\nJPEG\n0\n\n", "protocol_error"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nHEX\r\nJPEG\r\n0\r\n", "truncated_body"),
    ("http/1.1 200 ok\r\nContent-Length: LENGTH\r\n\r\nJPEG", "protocol_error"),
    ("HTTP/1.1  200 OK\r\nContent-Length: LENGTH\r\n\r\nJPEG", "protocol_error"),
    // What no client accepts.
    ("HTTP/1.1 2000 OK\r\n\r\nJPEG", "protocol_error"),
    ("<html>", "protocol_error"),
    ("HTTP/1.1 200 OK\r\nContent-Length: LEN", "protocol_error"),
];

/// The bytes of an answer.
fn raw(text: &str, jpeg: &[u8]) -> Vec<u8> {
    let length = jpeg.len();
    let text = text.replace("LENGTH", &length.to_string()).replace("HEX", &format!("{length:x}"));
    let (before, behind) = text.split_once("JPEG").map_or((&text[..], None), |(before, behind)| (before, Some(behind)));
    let mut bytes = before.as_bytes().to_vec();
    if let Some(behind) = behind {
        bytes.extend_from_slice(jpeg);
        bytes.extend_from_slice(behind.as_bytes());
    }
    bytes
}

#[tokio::test]
async fn what_curl_and_urllib_take_is_taken_and_changes_no_other_row() {
    let jpeg = fixture("plain.jpg");
    let paths: Vec<&'static str> = (0..ANSWERS.len()).map(|answer| &*format!("{answer}").leak()).collect();
    let replies = paths.iter().zip(ANSWERS).map(|(path, (text, _))| (*path, Reply::Bytes(raw(text, &jpeg))));
    let odd = Server::start(replies.chain([("ok.jpg", ok(&jpeg))])).await;
    let good = Server::start([("ok.jpg", ok(&jpeg))]).await;
    let urls: Vec<String> = paths.iter().flat_map(|path| [odd.url(path), good.url("ok.jpg")]).collect();
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let Downloaded { pool, log } = download(&downloader_with(&config()), &part(&rows), &|_| {}).await;
    let (statuses, details) = (texts(&log, "status"), texts(&log, "detail"));
    let wrong: Vec<String> = ANSWERS
        .iter()
        .enumerate()
        .filter(|(answer, (_, status))| statuses[2 * answer] != *status)
        .map(|(answer, (text, status))| {
            format!("{text:?} is {}, not {status}: {}", statuses[2 * answer], details[2 * answer])
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(statuses.iter().skip(1).step_by(2).all(|status| status == "ok"), "rows of the other host");
    assert!(texts(&pool, "sha256").iter().all(|digest| *digest == sha256(&jpeg)));
}

#[tokio::test]
async fn heads_may_be_as_long_as_curl_takes_them() {
    let jpeg = fixture("plain.jpg");
    let with_headers = |headers: &[String]| {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        Reply::Bytes(answer("200 OK", &headers, &jpeg))
    };
    let many = |count: usize| -> Vec<String> { (0..count).map(|number| format!("X-{number}: a")).collect() };
    let server = Server::start([
        ("60k", with_headers(&[format!("X-Long: {}", "x".repeat(60 << 10))])),
        ("290k", with_headers(&[format!("X-Long: {}", "x".repeat(290 << 10))])),
        ("900k", with_headers(&[format!("X-Long: {}", "x".repeat(900 << 10))])),
        ("150", with_headers(&many(150))),
        ("4900", with_headers(&many(4900))),
    ])
    .await;
    let urls = ["60k", "290k", "900k", "150", "4900"].map(|path| server.url(path));
    assert_eq!(statuses(&downloader_with(&config()), &urls).await, ["ok", "ok", "protocol_error", "ok", "ok"]);
}
