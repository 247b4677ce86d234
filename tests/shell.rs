//! Shell command lines of cases and documents, and a web server for them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::support::{Output, Running};

/// Runs a line in a folder, which is also its HOME. Downloads go through the proxy, so that URLs
/// may name any host.
pub(crate) fn run(folder: &Path, proxy: &str, line: &str) -> Output {
    let python = std::env::var_os("LYNXDATA_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new("bash");
    command.current_dir(folder).args(["-c", &format!("{FUNCTIONS}\n{line}")]);
    command.env("LYNXDATA", env!("CARGO_BIN_EXE_lynxdata")).env("PROXY", proxy).env("HOME", folder);
    command.env("PYTHON", python).env("HF_HUB_OFFLINE", "1").env_remove("LYNXDATA_LOG");
    Running::start(command).finish()
}

/// The commands that lines use, as functions of the shell.
const FUNCTIONS: &str = r#"
lynxdata() {
    case $1 in
        download|run) "$LYNXDATA" "$@" --set "download.proxy=$PROXY" ;;
        *) "$LYNXDATA" "$@" ;;
    esac
}
python3() { "$PYTHON" "$@"; }
export -f lynxdata python3
"#;

/// Starts a proxy that answers for every host from a folder: with `answer.http` if it exists,
/// otherwise with the file of that name in `pictures`. Returns its URL.
pub(crate) fn serve(folder: &Path) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // A client that disconnects early is ignored.
            std::thread::spawn(move || answer(stream, &folder).unwrap_or_default());
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let url = request.split(' ').nth(1).unwrap_or_default();
    let path = url.splitn(4, '/').nth(3).unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    if path != "robots.txt" {
        if let Ok(answer) = std::fs::read(folder.join("answer.http")) {
            return stream.write_all(&answer);
        }
        if let Ok(bytes) = std::fs::read(folder.join("pictures").join(decoded(path))) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            stream.write_all(head.as_bytes())?;
            return stream.write_all(&bytes);
        }
    }
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Decodes the percent codes of a path.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
