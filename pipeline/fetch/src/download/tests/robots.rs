//! Tests that robots.txt is fetched and obeyed.

use super::*;

fn robots(text: &str) -> Reply {
    Reply::Bytes(answer("200 OK", &["Content-Type: text/plain"], text.as_bytes()))
}

fn obedient() -> DownloadConfig {
    DownloadConfig { robots_txt: true, ..config() }
}

#[tokio::test]
async fn what_robots_txt_disallows_is_not_requested() {
    let jpeg = fixture("plain.jpg");
    let text = "User-agent: *\nDisallow: /\n\nUser-agent: lynxdata\nDisallow: /private/\nAllow: /private/but.jpg\n";
    let server =
        Server::start([("robots.txt", robots(text)), ("ok.jpg", ok(&jpeg)), ("private/but.jpg", ok(&jpeg))]).await;
    let urls =
        ["ok.jpg", "private/a.jpg", "private/but.jpg", "private/b.jpg?x", "robots.txt"].map(|path| server.url(path));
    let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
    let polite = downloader_with(&DownloadConfig { retries: 2, ..obedient() });
    let log = download(&polite, &part(&rows), &|_| {}).await.log;
    assert_eq!(texts(&log, "status"), ["ok", "opted_out", "ok", "opted_out", "not_an_image"]);
    assert_eq!(texts(&log, "detail")[1], "robots.txt disallows the path");
    assert_eq!(integers(&log, "attempts"), [1, 0, 1, 0, 1].map(Some));
    assert_eq!(server.requests(), 4, "three rows and robots.txt, which is asked for once");

    let other = DownloadConfig { user_agent: "otherbot/2.0".to_owned(), ..obedient() };
    assert_eq!(statuses(&downloader_with(&other), &urls[..3]).await, ["opted_out"; 3]);
    let heedless = downloader_with(&config());
    assert_eq!(statuses(&heedless, &urls[..3]).await, ["ok", "not_found", "ok"]);
}

#[tokio::test]
async fn a_host_without_robots_txt_allows_everything_and_one_that_fails_nothing() {
    let jpeg = fixture("plain.jpg");
    for (answer, status) in [
        (failing("404 Not Found"), "ok"),
        (failing("403 Forbidden"), "ok"),
        (ok(&jpeg), "ok"),
        (redirect("/elsewhere.txt"), "opted_out"),
        (redirect("/robots.txt"), "ok"),
        (failing("503 Service Unavailable"), "http_server_error"),
        (Reply::HangUp, "protocol_error"),
    ] {
        let disallowing = robots("user-agent: *\ndisallow: /");
        let server =
            Server::start([("robots.txt", answer), ("elsewhere.txt", disallowing), ("ok.jpg", ok(&jpeg))]).await;
        let urls = [server.url("ok.jpg"), server.url("ok.jpg")];
        let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
        let log = download(&downloader_with(&obedient()), &part(&rows), &|_| {}).await.log;
        assert_eq!(texts(&log, "status"), [status; 2]);
        if status != "ok" {
            assert_eq!(integers(&log, "attempts"), [0, 0].map(Some), "{status}");
            assert!(texts(&log, "detail")[0].starts_with("robots.txt"), "{}", texts(&log, "detail")[0]);
        }
    }
}

#[tokio::test]
async fn a_redirect_does_not_lead_past_another_hosts_robots_txt() {
    let jpeg = fixture("plain.jpg");
    let closed = Server::start([("robots.txt", robots("user-agent: *\ndisallow: /")), ("ok.jpg", ok(&jpeg))]).await;
    let open = Server::start([("away", redirect(&closed.url("ok.jpg")))]).await;
    assert_eq!(statuses(&downloader_with(&obedient()), &[open.url("away")]).await, ["opted_out"]);
    assert_eq!(closed.requests(), 1, "of robots.txt");
}

#[tokio::test]
async fn rows_that_are_redirected_do_not_wait_for_each_other() {
    let jpeg = fixture("plain.jpg");
    let mut servers = Vec::new();
    for _ in 0..8 {
        let target = Server::start([("ok.jpg", ok(&jpeg))]).await;
        servers.push((Server::start([("away", redirect(&target.url("ok.jpg")))]).await, target));
    }
    let urls: Vec<String> = servers.iter().map(|(open, _)| open.url("away")).collect();
    for concurrency in [1, 2, 8] {
        let downloader = downloader_with(&DownloadConfig { concurrency, ..obedient() });
        let done = tokio::time::timeout(Duration::from_mins(1), statuses(&downloader, &urls)).await;
        assert_eq!(done.expect("rows hold permits while they wait for permits"), ["ok"; 8]);
    }
}

#[tokio::test]
async fn a_robots_txt_that_fails_once_is_asked_for_again() {
    let jpeg = fixture("plain.jpg");
    let turns = vec![Reply::HangUp, failing("503 Service Unavailable"), robots("user-agent: *\ndisallow: /no")];
    let server = Server::start([("robots.txt", Reply::InTurn(turns)), ("ok.jpg", ok(&jpeg))]).await;
    let urls = [server.url("ok.jpg"), server.url("no.jpg")];
    assert_eq!(statuses(&downloader_with(&obedient()), &urls).await, ["ok", "opted_out"]);
    assert_eq!(server.requests(), 4);
}
