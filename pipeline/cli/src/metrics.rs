//! Serves counters of a running download in the text format of Prometheus, on the loopback
//! interface.

use std::convert::Infallible;
use std::fmt::Display;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use lynxdata_fetch::{Histogram, Metrics};
use tokio::net::TcpListener;

use lynxdata_run::Context;

/// The content type of
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Pause after a connection could not be accepted.
pub(crate) const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Serves the counters until the process ends.
///
/// # Errors
/// If the port cannot be opened.
pub(crate) fn serve(context: &Context, port: u16) -> Result<()> {
    let listener = context.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let listener =
        listener.with_context(|| format!("cannot serve metrics on port {port} of the loopback interface"))?;
    tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
    let metrics = context.metrics.clone();
    context.runtime.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_AGAIN).await; // probably there are no file descriptors left
                continue;
            };
            let metrics = metrics.clone();
            let answer = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &metrics))));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(())
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, text(metrics)),
        _ => (StatusCode::NOT_FOUND, "not found; the metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
    response
}

fn text(metrics: &Metrics) -> String {
    let mut text = Text::default();
    text.family("lynxdata_download_rows_total", "counter", "Finished rows, by status.");
    for (status, rows) in metrics.rows() {
        text.sample("lynxdata_download_rows_total", &format!("{{status=\"{status}\"}}"), rows);
    }
    text.family("lynxdata_download_attempts_total", "counter", "Requests that were started, without redirects.");
    text.sample("lynxdata_download_attempts_total", "", metrics.attempts());
    text.family("lynxdata_download_in_flight", "gauge", "URLs that are being requested now.");
    text.sample("lynxdata_download_in_flight", "", metrics.in_flight());
    let help = "Time from the first request of a row to its end, without waiting for a free slot.";
    text.histogram("lynxdata_download_seconds", help, &metrics.seconds);
    text.histogram("lynxdata_download_body_bytes", "Sizes of complete bodies.", &metrics.bytes);
    let names = metrics.names();
    for (name, help, value) in [
        ("lynxdata_dns_look_ups_total", "DNS look-ups.", names.look_ups as f64),
        ("lynxdata_dns_shared_total", "Look-ups that were answered by an earlier or running one.", names.shared as f64),
        ("lynxdata_dns_failures_total", "Look-ups that found no address.", names.failures as f64),
        ("lynxdata_dns_seconds_total", "Total time of look-ups.", names.seconds),
    ] {
        text.family(name, "counter", help);
        text.sample(name, "", value);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        self.0.push_str(&format!("{name}{labels} {value}\n"));
    }

    fn histogram<const N: usize>(&mut self, name: &str, help: &str, histogram: &Histogram<N>) {
        self.family(name, "histogram", help);
        for (bound, count) in histogram.cumulative() {
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count);
        }
        self.sample(&format!("{name}_bucket"), "{le=\"+Inf\"}", histogram.count());
        self.sample(&format!("{name}_sum"), "", histogram.sum());
        self.sample(&format!("{name}_count"), "", histogram.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_its_samples() {
        let text = text(&Metrics::default());
        for line in [
            "# TYPE lynxdata_download_rows_total counter",
            "lynxdata_download_rows_total{status=\"hash_mismatch\"} 0",
            "lynxdata_download_seconds_bucket{le=\"0.05\"} 0",
            "lynxdata_download_body_bytes_bucket{le=\"+Inf\"} 0",
            "lynxdata_download_body_bytes_sum 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
        }
        let is_sample = |line: &str| line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(text.lines().all(|line| line.starts_with("# ") || is_sample(line)), "{text}");
    }
}
