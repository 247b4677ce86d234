//! A web server on the loopback interface that serves files correctly, and everything else as badly
//! as the real web does. Tests of crates include this file too.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pause between two bytes of a slow answer.
const DRIP: Duration = Duration::from_millis(200);

/// A server that runs until the process ends.
pub(crate) struct Web {
    address: SocketAddr,
    site: Arc<Site>,
}

struct Site {
    /// Prefix of the path, folder.
    folders: Vec<(&'static str, PathBuf)>,
    /// Paths that were requested before.
    seen: Mutex<BTreeSet<String>>,
    /// Requested paths, in order.
    requests: Mutex<Vec<String>>,
}

impl Web {
    /// Serves each folder under its prefix, such as `pairs/`. If no prefix matches, the first word
    /// of the path selects a kind of misbehaviour, see `answer`.
    pub(crate) fn start(folders: &[(&'static str, &Path)]) -> Web {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let folders = folders.iter().map(|(prefix, folder)| (*prefix, (*folder).to_owned())).collect();
        let site = Arc::new(Site { folders, seen: Mutex::default(), requests: Mutex::default() });
        let serving = Arc::clone(&site);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let site = Arc::clone(&serving);
                // A client that disconnects early is ignored.
                std::thread::spawn(move || site.serve(stream).unwrap_or_default());
            }
        });
        Web { address, site }
    }

    /// Returns the paths requested since the last call, without robots.txt.
    pub(crate) fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.site.requests.lock().unwrap());
        requests.retain(|path| path != "robots.txt");
        requests.sort();
        requests
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Site {
    fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
        self.requests.lock().unwrap().push(path.clone());
        self.answer(&path, &mut stream)
    }

    fn answer(&self, path: &str, stream: &mut TcpStream) -> Result<()> {
        let (kind, rest) = path.split_once('/').unwrap_or((path, ""));
        match kind {
            "missing" => respond(stream, "404 Not Found", "text/plain", b"no such picture\n"),
            "gone" => respond(stream, "410 Gone", "text/plain", b""),
            "forbidden" => respond(stream, "403 Forbidden", "text/plain", b"not for you\n"),
            "teapot" => respond(stream, "418 I'm a teapot", "text/plain", b""),
            "error" => respond(stream, "500 Internal Server Error", "text/html", b"<h1>Oops</h1>"),
            "busy" => respond(stream, "429 Too Many Requests", "text/plain", b""),
            "busy-once" if self.seen.lock().unwrap().insert(path.to_owned()) => {
                respond(stream, "429 Too Many Requests", "text/plain", b"")
            }
            "busy-once" => self.answer(rest, stream),
            "html" => respond(
                stream,
                "200 OK",
                "image/jpeg",
                b"<!doctype html><title>Gone</title><p>Our pictures have moved.",
            ),
            "svg" => respond(stream, "200 OK", "image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
            "empty" => respond(stream, "200 OK", "image/png", b""),
            "moved" => redirect(stream, &format!("/{rest}")),
            "loop" => redirect(stream, &format!("/{path}")),
            "away" => redirect(stream, "ftp://example.org/picture.png"),
            "slow" => drip(stream),
            "endless" => endless(stream),
            "oversized" => stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000000\r\nConnection: close\r\n\r\n\xff\xd8\xff"),
            "truncated" => {
                let whole = self.file(rest).unwrap_or_default();
                head(stream, "200 OK", "image/png", whole.len())?;
                stream.write_all(&whole[..whole.len() / 2])
            }
            "cut" => {
                let whole = self.file(rest).unwrap_or_default();
                respond(stream, "200 OK", "image/png", &whole[..whole.len() / 2])
            }
            "babble" => stream.write_all(b"I never learned HTTP.\r\n\r\n"),
            "silent" => Ok(()), // the connection is closed without an answer
            _ => match self.file(path) {
                Some(bytes) => respond(stream, "200 OK", "application/octet-stream", &bytes),
                None => respond(stream, "404 Not Found", "text/plain", b""),
            },
        }
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let path = path.split('?').next()?;
        let (prefix, folder) = self.folders.iter().find(|(prefix, _)| path.starts_with(prefix))?;
        std::fs::read(folder.join(&path[prefix.len()..])).ok()
    }
}

fn head(stream: &mut TcpStream, status: &str, content_type: &str, length: usize) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

fn respond(stream: &mut TcpStream, status: &str, content_type: &str, body: &[u8]) -> Result<()> {
    head(stream, status, content_type, body.len())?;
    stream.write_all(body)
}

fn redirect(stream: &mut TcpStream, target: &str) -> Result<()> {
    stream.write_all(
        format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    )
}

/// Sends a byte now and then, until the client disconnects.
fn drip(stream: &mut TcpStream) -> Result<()> {
    head(stream, "200 OK", "image/jpeg", 1_000_000)?;
    stream.set_read_timeout(Some(DRIP))?;
    loop {
        stream.write_all(&[0xff])?;
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => return Ok(()),
        }
    }
}

/// Sends a body without length and without end.
fn endless(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n\xff\xd8\xff")?;
    let more = vec![0; 1 << 16];
    loop {
        stream.write_all(&more)?;
    }
}
