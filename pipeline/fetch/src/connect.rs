//! Connections with TLS: only to addresses that passed the guard, or to a proxy.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;
use url::Url;

use crate::guard::{self, Policy};
use crate::names::{Names, NoAddress};
use crate::{Error, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Number of answers that came over a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(pub(crate) Arc<AtomicU32>);

/// Opens the connections of a client: TLS over [`Route`].
pub(crate) type Connector = HttpsConnector<Route>;

/// Returns a connector. It asks `names` for addresses and connects to those that `policy` does not
/// refuse, or to the proxy, whatever its address. It trusts the system's certificate authorities
/// and those of `ca_file`. `patience` is the connect timeout of a name, which its addresses share
/// equally.
///
/// # Errors
/// If `ca_file` is unreadable or unusable, or if there is no certificate authority at all.
pub(crate) fn connector(
    names: Arc<dyn Names>,
    policy: Policy,
    proxy: Option<&Proxy>,
    ca_file: Option<&Path>,
    patience: Duration,
) -> Result<Connector> {
    // The address of the proxy comes from the user, not from a list of URLs, so it is trusted.
    let policy = if proxy.is_some() { guard::refuse_nothing } else { policy };
    let mut tcp = HttpConnector::new_with_resolver(GuardedNames { names, policy });
    tcp.set_connect_timeout(Some(patience));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Client { reason: error.to_string() })?
        .with_root_certificates(authorities(ca_file)?)
        .with_no_client_auth();
    let route = match proxy {
        None => Route::Direct(tcp),
        Some(proxy) => {
            let to_proxy = HttpsConnector::from((tcp, tls.clone()));
            proxy.route(to_proxy)
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(HttpsConnector::from((route, tls)))
}

/// Returns the trusted certificate authorities: those of the system and those of a PEM file.
fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (_usable, _others) = store.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|source| Error::read(path, source))?;
        let unusable = |reason: &str| Error::setting("ca_file", format!("{} {reason}", path.display()));
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| unusable(&format!("is not a PEM file: {error}")))?;
            store.add(certificate).map_err(|error| {
                unusable(&format!("holds a certificate that cannot be used as an authority: {error}"))
            })?;
        }
        if store.len() == before {
            return Err(unusable("holds no PEM certificate"));
        }
    }
    if store.is_empty() {
        let unreadable = system.errors.first().map(|error| format!(" ({error})"));
        let reason = format!("there is no trusted certificate authority{}", unreadable.unwrap_or_default());
        return Err(Error::Client { reason });
    }
    Ok(store)
}

/// A proxy that resolves names and connects for us. It must not be printed, because it holds the
/// password.
pub(crate) struct Proxy {
    /// Without user and password.
    uri: Uri,
    is_socks: bool,
    user: Option<(String, String)>,
}

impl Proxy {
    /// Parses `http://`, `https://`, `socks5://` or `socks5h://`, a host, and optionally a user
    /// with a password and a port.
    ///
    /// # Errors
    /// Describes what is wrong, without the password.
    pub(crate) fn parse(text: &str) -> std::result::Result<Proxy, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a proxy URL: {error}"))?;
        let (is_socks, port) = match url.scheme() {
            "http" | "https" => (false, url.port_or_known_default()),
            "socks5" | "socks5h" => (true, url.port().or(Some(1080))), // RFC 1928, section 3
            other => {
                return Err(format!(
                    "is not a proxy URL: the scheme {other} is none of http, https, socks5 and socks5h"
                ));
            }
        };
        let (Some(host), Some(port)) = (url.host_str().filter(|host| !host.is_empty()), port) else {
            return Err("is not a proxy URL: it names no host".to_owned());
        };
        let scheme = if url.scheme() == "https" { "https" } else { "http" };
        let uri =
            format!("{scheme}://{host}:{port}").parse().map_err(|error| format!("is not a proxy URL: {error}"))?;
        Ok(Proxy { uri, is_socks, user: user_of(&url) })
    }

    /// Returns the `Proxy-Authorization` value of requests for `http` URLs.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        if self.is_socks {
            return None;
        }
        self.user.as_ref().map(|(user, password)| basic_authorization(user, password))
    }

    fn route(&self, to_proxy: ToProxy) -> Route {
        let uri = self.uri.clone();
        if self.is_socks {
            let socks = SocksV5::new(uri, to_proxy);
            return Route::Socks(match &self.user {
                Some((user, password)) => socks.with_auth(user.clone(), password.clone()),
                None => socks,
            });
        }
        let tunnel = Tunnel::new(uri.clone(), to_proxy.clone());
        let tunnel = match self.authorization() {
            Some(authorization) => tunnel.with_auth(authorization),
            None => tunnel,
        };
        Route::Proxy { uri, to_proxy, tunnel }
    }
}

/// Returns the header value that sends a user and a password (Basic authentication, RFC 7617).
pub(crate) fn basic_authorization(user: &str, password: &str) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

/// Returns the user name and the password of a URL, percent-decoded.
pub(crate) fn user_of(url: &Url) -> Option<(String, String)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let is_there = !url.username().is_empty() || url.password().is_some();
    is_there.then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())))
}

type ToProxy = HttpsConnector<HttpConnector<GuardedNames>>;

/// The first destination of connections: the target itself, or a proxy.
#[derive(Clone)]
pub(crate) enum Route {
    Direct(HttpConnector<GuardedNames>),
    /// An HTTP proxy. Requests without TLS go to the proxy with their full URL; others go through a
    /// tunnel.
    Proxy {
        uri: Uri,
        to_proxy: ToProxy,
        tunnel: Tunnel<ToProxy>,
    },
    Socks(SocksV5<ToProxy>),
}

impl Service<Uri> for Route {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<'static, std::result::Result<Stream, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(())) // all of these are always ready
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let tunnelled = |io| Stream { io, asks_proxy: false, answers: Answers::default() };
        match self {
            Route::Direct(tcp) => {
                let connecting = tcp.call(target);
                Box::pin(async move { Ok(tunnelled(MaybeHttpsStream::Http(connecting.await?))) })
            }
            Route::Proxy { uri, to_proxy, .. } if target.scheme_str() == Some("http") => {
                let connecting = to_proxy.call(uri.clone());
                Box::pin(
                    async move { Ok(Stream { io: connecting.await?, asks_proxy: true, answers: Answers::default() }) },
                )
            }
            Route::Proxy { tunnel, .. } => {
                let connecting = tunnel.call(target);
                Box::pin(async move { Ok(tunnelled(connecting.await?)) })
            }
            Route::Socks(socks) => {
                let connecting = socks.call(target);
                Box::pin(async move { Ok(tunnelled(connecting.await?)) })
            }
        }
    }
}

/// A connection, below the TLS layer of the target.
pub(crate) struct Stream {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether the other end is a proxy that needs full URLs in requests.
    asks_proxy: bool,
    answers: Answers,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.asks_proxy).extra(self.answers.clone())
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }
}

/// Returns only addresses that pass the guard. The checked addresses are the ones that are
/// connected to: there is no second look-up in between that could answer differently.
#[derive(Clone)]
pub(crate) struct GuardedNames {
    names: Arc<dyn Names>,
    policy: Policy,
}

impl Service<Name> for GuardedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let answer = self.names.look_up(name.as_str().to_owned());
        let policy = self.policy;
        Box::pin(async move {
            let addresses = answer.await?;
            let (mut allowed, mut refused) = (Vec::new(), None);
            for address in addresses {
                match guard::check(address, policy) {
                    Ok(address) => allowed.push(SocketAddr::new(address, 0)), // the connector sets the port
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ if allowed.is_empty() => Err(NoAddress::Empty { ipv6: true }.into()),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::client::tests::FixedNames;
    use crate::guard::Refused;

    #[tokio::test]
    async fn only_checked_addresses_leave_the_resolver() {
        let names = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            FixedNames(BTreeMap::from([("host.example".to_owned(), addresses)]))
        };
        let resolve = async |addresses: &[&str], policy: Policy| {
            let mut guarded = GuardedNames { names: Arc::new(names(addresses)), policy };
            let result = guarded.call("host.example".parse().unwrap()).await;
            result.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(resolve(&["10.0.0.1", "8.8.8.8"], guard::refusal).await.unwrap(), ["8.8.8.8"]);
        assert_eq!(resolve(&["10.0.0.1", "8.8.8.8"], guard::refuse_nothing).await.unwrap(), ["10.0.0.1", "8.8.8.8"]);
        let error = resolve(&["169.254.169.254", "::1"], guard::refusal).await.unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
        let error = resolve(&[], guard::refusal).await.unwrap_err();
        assert!(error.is::<NoAddress>(), "{error}");
    }

    #[test]
    fn proxies_are_read_with_their_users() {
        let user = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (text, uri, is_socks, expected_user) in [
            ("http://proxy.example", "http://proxy.example:80", false, None),
            ("https://proxy.example:8443/", "https://proxy.example:8443", false, None),
            ("http://me:p%40ss@proxy.example:3128", "http://proxy.example:3128", false, user("me", "p@ss")),
            ("socks5://proxy.example", "http://proxy.example:1080", true, None),
            ("socks5h://me@[::1]:9050", "http://[::1]:9050", true, user("me", "")),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!((proxy.uri.to_string().trim_end_matches('/'), proxy.is_socks), (uri, is_socks), "{text}");
            assert_eq!(proxy.user, expected_user, "{text}");
        }
        for text in ["not a proxy", "ftp://proxy.example", "proxy.example:3128", "socks5://", "socks4://proxy.example"]
        {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
        // The example of RFC 7617, section 2.
        assert_eq!(basic_authorization("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
