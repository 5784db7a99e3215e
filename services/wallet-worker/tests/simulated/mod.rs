//! A simulated gatewayd: its HTTPS API as far as cold wallets go, with its quirks, and faults on demand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::{Fingerprint, PinnedClient, Timeouts};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use integration_tests::simulated_fleet::Certificate;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wallet_worker::api::Api;

pub const KEY: &str = "0f-the-key-of-the-simulated-gatewayd";
const GATEWAYZEN_WITH_KEY: &str = "Basic Z2F0ZXdheXplbjowZi10aGUta2V5LW9mLXRoZS1zaW11bGF0ZWQtZ2F0ZXdheWQ=";

/// What goes wrong with one call, named by method and path.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It has its effect and then answers an HTML page with this status.
    Html(u16),
    /// It has its effect and then the connection is closed.
    Close,
    /// It answers what a gatewayd would, and has no effect.
    NoEffect,
    /// It has no effect and answers this text as JSON.
    Says(&'static str),
    /// Somebody else sets another wallet just before it.
    Meanwhile(&'static str),
}

#[derive(Default)]
pub struct State {
    /// The cold wallet in memory and in the configuration's file.
    pub wallet: Option<String>,
    pub saved: Option<String>,
    pub domain: Value,
    /// Every call that had the right key, as `POST /v1/config/domain {"domain":"example.com"}`.
    pub calls: Vec<String>,
    faults: Vec<(&'static str, Fault)>,
}

impl State {
    /// Forgets what was not saved, as a restart does.
    pub fn restart(&mut self) {
        self.wallet = self.saved.clone();
    }
}

pub struct SimulatedGatewayd {
    pub state: Arc<Mutex<State>>,
    pub fingerprint: Fingerprint,
    pub port: u16,
}

impl SimulatedGatewayd {
    /// Starts one; it serves until the test's runtime ends.
    pub async fn start() -> Self {
        let certificate = Certificate::make("gatewayd").unwrap();
        let fingerprint: Fingerprint = certificate.fingerprint.parse().unwrap();
        let tls = TlsAcceptor::from(certificate.tls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            domain: json!("example.com"),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, state) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // A client that refuses the certificate ends the handshake with an error.
                    let Ok(stream) = tls.accept(tcp).await else { return };
                    let service = service_fn(|request| answer(Arc::clone(&state), request));
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self {
            state,
            fingerprint,
            port,
        }
    }

    /// Has a fault wait for the next call of this method and path.
    pub fn fault(&self, call: &'static str, fault: Fault) {
        self.state.lock().unwrap().faults.push((call, fault));
    }

    pub fn api(&self) -> Api {
        self.api_with(KEY, self.fingerprint)
    }

    pub fn api_with(&self, key: &str, pin: Fingerprint) -> Api {
        let patient = Duration::from_secs(20);
        let timeouts = Timeouts {
            connect: patient,
            answer: patient,
        };
        let client = PinnedClient::new("127.0.0.1", self.port, pin, timeouts).unwrap();
        Api::new(client, "gatewayzen", SecretBytes::from(key))
    }
}

/// An error ends the connection without an answer.
async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    if request
        .headers()
        .get("authorization")
        .is_none_or(|value| value != GATEWAYZEN_WITH_KEY)
    {
        return Ok(respond(
            StatusCode::UNAUTHORIZED,
            "text/html",
            "Unauthorized".into(),
        ));
    }
    let call = format!("{} {}", request.method(), request.uri().path());
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    state.calls.push(
        format!("{call} {}", String::from_utf8_lossy(&body))
            .trim_end()
            .to_owned(),
    );
    let position = state.faults.iter().position(|(faulty, _)| *faulty == call);
    let fault = position.map(|position| state.faults.remove(position).1);
    if let Some(Fault::Meanwhile(other)) = fault {
        state.wallet = Some(other.to_owned());
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let effect = !matches!(fault, Some(Fault::NoEffect | Fault::Says(_)));
    let (status, said) = match (&method, call.as_str()) {
        (&Method::GET, "GET /v1/config/wallets/cold") => {
            let address = state.wallet.clone().map_or(json!({}), Value::String);
            (StatusCode::OK, json!({ "COLD_WALLET": { "address": address } }))
        }
        // It means 304 and fails to say so.
        (&Method::POST, "POST /v1/config/wallets/cold") if state.wallet.is_some() => {
            (StatusCode::INTERNAL_SERVER_ERROR, Value::Null)
        }
        (&Method::POST, "POST /v1/config/wallets/cold") => {
            if effect {
                state.wallet = body["address"].as_str().map(str::to_owned);
            }
            (StatusCode::CREATED, json!({ "COLD_WALLET": body["address"] }))
        }
        (&Method::GET, "GET /v1/config/domain") => (StatusCode::OK, json!({ "DOMAIN": state.domain })),
        (&Method::POST, "POST /v1/config/domain") => {
            if effect {
                state.domain = body["domain"].clone();
                state.saved = state.wallet.clone();
            }
            (StatusCode::OK, json!({ "DOMAIN": body["domain"] }))
        }
        _ => (StatusCode::NOT_FOUND, Value::Null),
    };
    match fault {
        Some(Fault::Close) => Err("closed on demand"),
        Some(Fault::Says(text)) => Ok(respond(StatusCode::OK, "application/json", text.into())),
        Some(Fault::Html(status)) => Ok(html(StatusCode::from_u16(status).unwrap())),
        _ if status.is_success() => Ok(respond(
            status,
            "application/json; charset=utf-8",
            said.to_string(),
        )),
        _ => Ok(html(status)),
    }
}

fn html(status: StatusCode) -> Response<Full<Bytes>> {
    respond(
        status,
        "text/html",
        "<pre>TypeError: first argument must be a string</pre>".into(),
    )
}

fn respond(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder()
        .status(status)
        .header("content-type", content_type);
    response.body(Full::from(body)).unwrap()
}
