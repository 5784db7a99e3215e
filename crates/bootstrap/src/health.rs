//! `/healthz`, `/readyz` and `/metrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::telemetry::metrics::{self, KeyValue};

/// How long a probe may take before it counts as failed.
const PROBE_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });

/// How long the one who asks waits for a connection and for each part of the answer: longer than any probe takes.
const ASK_LIMIT: Duration = Duration::from_secs(10);

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What keeps this service from being ready. Clones are one.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Every component that was ever heard of.
    known: BTreeSet<String>,
    reasons: BTreeMap<String, String>,
    probes: Vec<(String, Probe)>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Health").field(&self.state().reasons).finish()
    }
}

impl Health {
    /// A service that nothing keeps from being ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says why a component keeps the service from being ready. The reason is shown to whoever asks: no secret.
    pub fn set_not_ready(&self, component: &str, reason: impl Into<String>) {
        let mut state = self.state();
        state.known.insert(component.to_owned());
        state.reasons.insert(component.to_owned(), reason.into());
    }

    /// Takes back what [`Health::set_not_ready`] said of a component.
    pub fn set_ready(&self, component: &str) {
        let mut state = self.state();
        state.known.insert(component.to_owned());
        state.reasons.remove(component);
    }

    /// Has a component asked whenever somebody asks whether the service is ready, so that nothing is polled
    /// while nobody does. An answer that takes five seconds is none.
    pub fn add_probe<F, A>(&self, component: &str, probe: F)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), String>> + Send + 'static,
    {
        let probe: Probe = Arc::new(move || probe().boxed());
        let mut state = self.state();
        state.known.insert(component.to_owned());
        state.probes.push((component.to_owned(), probe));
    }

    /// Why the service is not ready, by component; empty when it is.
    pub async fn reasons(&self) -> BTreeMap<String, String> {
        let probes = self.state().probes.clone();
        let answers = join_all(probes.into_iter().map(|(component, probe)| async move {
            let answer = match tokio::time::timeout(PROBE_LIMIT, probe()).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {PROBE_LIMIT:?}")),
            };
            answer.err().map(|reason| (component, reason))
        }))
        .await;
        let mut reasons = self.state().reasons.clone();
        reasons.extend(answers.into_iter().flatten());
        reasons
    }

    /// What `/readyz` says, as a metric.
    pub(crate) fn measure(&self) {
        let (health, runtime) = (self.clone(), tokio::runtime::Handle::current());
        metrics::gauge(
            "gatewayzen.ready",
            "",
            "1 while the component keeps the service from nothing, 0 while it does: what /readyz says, asked anew.",
            move || {
                let reasons = runtime.block_on(health.reasons());
                let known = health.state().known.clone();
                known.into_iter().map(move |component| {
                    let ready = !reasons.contains_key(&component);
                    (
                        f64::from(u8::from(ready)),
                        vec![KeyValue::new("component", component)],
                    )
                })
            },
        );
    }

    /// Serves the pages on a listener until the returned task is dropped or aborted.
    pub(crate) fn serve(&self, listener: TcpListener) -> tokio::task::JoinHandle<()> {
        let health = self.clone();
        tokio::spawn(async move {
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of file descriptors, say: without a pause this would be a hot loop.
                        tracing::warn!("the health endpoint cannot accept a connection: {error}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        continue;
                    }
                };
                let health = health.clone();
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let health = health.clone();
                    async move { Ok::<_, Infallible>(health.answer(request.method(), request.uri().path()).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(30))
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        })
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".into());
        }
        match path {
            "/healthz" => page(StatusCode::OK, "text/plain", "alive\n".into()),
            "/readyz" => {
                let reasons = self.reasons().await;
                let status = if reasons.is_empty() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                let body = serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons });
                page(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => match metrics::text().await {
                Ok(text) => page(StatusCode::OK, metrics::CONTENT_TYPE, text),
                Err(error) => page(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "text/plain",
                    format!("{error}\n"),
                ),
            },
            _ => page(
                StatusCode::NOT_FOUND,
                "text/plain",
                "there are /healthz, /readyz and /metrics\n".into(),
            ),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// Listens where `health.listen` says, and names the address in the log, since port 0 is a free one.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let busy =
        |error| format!("health.listen: cannot listen on {address}: {error}; choose another address or port");
    let listener = TcpListener::bind(address).await.map_err(busy)?;
    let address = listener.local_addr().map_err(busy)?;
    tracing::info!(
        "health on http://{address}/healthz and http://{address}/readyz, metrics on http://{address}/metrics"
    );
    Ok(listener)
}

/// Asks the service that listens on an address whether it is ready.
///
/// # Errors
/// It is not, or does not answer: what it says, or why it says nothing.
pub(crate) fn ask(mut address: SocketAddr) -> Result<(), String> {
    // A service that listens on every address is asked on its own machine.
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let silent = |error: io::Error| format!("http://{address}/readyz does not answer: {error}");
    let mut stream = TcpStream::connect_timeout(&address, ASK_LIMIT).map_err(silent)?;
    stream.set_read_timeout(Some(ASK_LIMIT)).map_err(silent)?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(silent)?;
    let mut answer = String::new();
    // Whoever answers here by mistake may never stop.
    stream.take(1 << 16).read_to_string(&mut answer).map_err(silent)?;
    if answer.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    let body = answer
        .split_once("\r\n\r\n")
        .map_or(answer.as_str(), |(_, body)| body);
    Err(body.trim().to_owned())
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
