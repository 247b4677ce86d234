//! The web server of the quickstart, on the loopback interface: it serves the bundled images, and
//! also some typical failures of the web.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use include_dir::Dir;
use tokio::net::TcpListener;

use crate::metrics::ACCEPT_AGAIN;

/// The port is part of the URLs and so of every key. A fixed port makes runs repeat byte for byte;
/// if another program uses it, any other port is taken.
const PORT: u16 = 8731;

/// A running server; it ends with the process.
pub(super) struct Server {
    address: SocketAddr,
    pictures: usize,
}

impl Server {
    /// Returns the host and port.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the number of images that it serves.
    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }
}

/// Starts a thread that serves the `images` folder of the example.
pub(super) fn start(example: &'static Dir<'static>) -> Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(listen()).context("cannot listen on the loopback interface")?;
    let address = listener.local_addr()?;
    let images = example.get_dir("images").context("no images are bundled")?;
    std::thread::spawn(move || runtime.block_on(serve(&listener, images)));
    Ok(Server { address, pictures: count(images) })
}

fn count(folder: &Dir<'_>) -> usize {
    folder.files().count() + folder.dirs().map(count).sum::<usize>()
}

async fn listen() -> std::io::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await {
        Ok(listener) => Ok(listener),
        Err(error) => {
            tracing::warn!(
                "port {PORT} is not available ({error}); another port is used, so the keys of pairs differ from other quickstarts"
            );
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
        }
    }
}

async fn serve(listener: &TcpListener, images: &'static Dir<'static>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await; // probably there are no file descriptors left
            continue;
        };
        tokio::spawn(async move {
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(&request, images)) });
            // A client that disconnects in the middle of an answer is ignored.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
        });
    }
}

fn answer(request: &Request<Incoming>, images: &Dir<'static>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches('/');
    let respond = |status: StatusCode, content_type: &str, body: &'static [u8]| {
        let response = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
        response.body(Full::new(Bytes::from_static(body))).expect("status and header are valid")
    };
    if let Some(picture) = path.strip_prefix("moved/") {
        let response = Response::builder().status(StatusCode::FOUND).header(header::LOCATION, format!("/{picture}"));
        return response.body(Full::default()).unwrap_or_default();
    }
    if let Some(picture) = path.strip_prefix("cut/") {
        let whole = find(images, picture).unwrap_or_default();
        return respond(StatusCode::OK, "image/png", &whole[..whole.len() / 2]);
    }
    match find(images, path) {
        Some(picture) => respond(StatusCode::OK, "image/*", picture),
        None if path.starts_with("page/") => respond(
            StatusCode::OK,
            "text/html",
            b"<!doctype html><title>Gone</title><p>This picture has moved to our new site.",
        ),
        None => respond(StatusCode::NOT_FOUND, "text/plain", b"no such picture\n"),
    }
}

fn find(images: &Dir<'static>, path: &str) -> Option<&'static [u8]> {
    // Paths in the example are relative to its root.
    images.get_file(format!("images/{path}")).map(include_dir::File::contents)
}
