//! Tests of hosts that cannot be reached for a while or for ever.

use super::*;

/// A server on all addresses of this machine that answers 127.0.0.1 as 127.0.0.9. It is away in
/// the beginning or after some answers, and may come back.
struct Unsteady {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Unsteady {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Unsteady {
    /// Is away after `answers` answers, for so long or for ever.
    async fn start(answers: usize, away: Option<Duration>) -> Unsteady {
        let bind = async |port| TcpListener::bind(("0.0.0.0", port)).await.unwrap();
        let listener = bind(0).await;
        let port = listener.local_addr().unwrap().port();
        let jpeg = answer("200 OK", &[], &fixture("plain.jpg"));
        let robots = answer("404 Not Found", &[], b"no");
        let answer_one = async move |listener: &TcpListener| {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let reply = if request.starts_with(b"GET /robots.txt ") { &robots } else { &jpeg };
            let _ = stream.write_all(reply).await;
            let _ = stream.shutdown().await;
        };
        let task = tokio::spawn(async move {
            for _ in 0..answers {
                answer_one(&listener).await;
            }
            drop(listener);
            let Some(away) = away else { return };
            sleep(away).await;
            let listener = bind(port).await;
            loop {
                answer_one(&listener).await;
            }
        });
        Unsteady { port, task }
    }

    /// URLs of so many rows, spread over hosts.
    fn urls(&self, rows: usize, hosts: usize) -> Vec<String> {
        (0..rows).map(|row| format!("http://127.0.0.{}:{}/{row}.jpg", 1 + row % hosts, self.port)).collect()
    }
}

fn patience() -> Patience {
    Patience { outage: Duration::from_secs(5), start: Duration::from_secs(5), probe_every: Duration::from_millis(20) }
}

/// A downloader that gives hosts up soon.
fn patient(config: &DownloadConfig, patience: Patience) -> Downloader {
    let mut downloader = downloader_with(config);
    downloader.set_patience(config, patience);
    downloader
}

fn hasty() -> DownloadConfig {
    DownloadConfig { host_failure_limit: 3, requests_per_host: 2, ..config() }
}

#[tokio::test]
async fn an_outage_of_a_moment_fails_no_row() {
    for (rows, answers, robots_txt) in
        [(200, 60, false), (200, 60, true), (200, 0, false), (200, 0, true), (8, 4, false)]
    {
        let server = Unsteady::start(answers, Some(Duration::from_millis(200))).await;
        // One more attempt is for the rows whose connections break off when the server goes.
        let config = DownloadConfig { robots_txt, retries: 1, ..hasty() };
        let urls = server.urls(rows, 4);
        let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
        let told = AtomicUsize::new(0);
        let on_row = |status| {
            assert_eq!(status, Status::Ok);
            told.fetch_add(1, Ordering::SeqCst);
        };
        let Downloaded { pool, log } = download(&patient(&config, patience()), &part(&rows), &on_row).await;
        assert_eq!(texts(&log, "status"), vec!["ok"; rows.len()], "after {answers} answers");
        assert_eq!(told.into_inner(), rows.len());
        assert_eq!(integers(&pool, "extra"), (0..rows.len() as i64).map(Some).collect::<Vec<_>>(), "in their order");
    }
}

#[tokio::test]
async fn rows_of_hosts_that_do_not_come_back_fail_after_their_time() {
    let jpeg = fixture("plain.jpg");
    for (answers, gone) in [(20, "was there"), (0, "was never there")] {
        let dying = Unsteady::start(answers, None).await;
        let alive = Server::start([("ok.jpg", ok(&jpeg))]).await;
        let mut urls = dying.urls(200, 2);
        urls.extend(vec![alive.url("ok.jpg"); 50]);
        let rows: Vec<Option<&str>> = urls.iter().map(|url| Some(url.as_str())).collect();
        let patience = Patience { outage: Duration::from_millis(300), start: Duration::from_millis(300), ..patience() };
        let begin = Instant::now();
        let log = download(&patient(&hasty(), patience), &part(&rows), &|_| {}).await.log;
        assert!(begin.elapsed() < Duration::from_secs(4), "a host that {gone}: {:?}", begin.elapsed());
        let statuses = texts(&log, "status");
        assert_eq!(statuses[..200].iter().filter(|status| *status == "ok").count(), answers);
        assert_eq!(statuses[..200].iter().filter(|status| *status == "connect_error").count(), 200 - answers);
        assert_eq!(statuses[200..], ["ok"; 50]);
    }
}

#[tokio::test]
async fn a_list_of_dead_hosts_only_ends_soon() {
    let server = Unsteady::start(0, None).await;
    let patience = Patience { start: Duration::from_millis(200), ..patience() };
    let downloader = patient(&hasty(), patience);
    let begin = Instant::now();
    for _part in 0..3 {
        assert_eq!(statuses(&downloader, &server.urls(50, 5)).await, ["connect_error"; 50]);
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_redirect_to_a_host_that_is_away_waits_for_it() {
    let server = Unsteady::start(0, Some(Duration::from_millis(300))).await;
    let target: String = server.urls(1, 1).remove(0);
    let open = Server::start([("away", redirect(&target))]).await;
    let mut downloader = downloader_with(&hasty());
    // The open host answers, so that the other one is expected only since it has answered once.
    downloader.set_patience(&hasty(), patience());
    let other = url::Url::parse(&target).unwrap();
    downloader.shared.hosts.of(&other).remember(Instant::now(), true, None);
    assert_eq!(statuses(&downloader, &vec![open.url("away"); 20]).await, ["ok"; 20]);
}
